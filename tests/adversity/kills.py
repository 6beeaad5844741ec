"""kill -9 under load, again and again: at random moments, and at the n-th write, sync, rename of the broker.

Role: a campaign (see `torture.py`). One broker at a time is killed and started again while producers (idempotent and
not, several batches in flight) write, a reader reads along, a group commits and an administrator makes, deletes and
alters topics (`administration.py`); then the whole history is checked, in the manner of `jepsen.tests.kafka`: `check`
says what may not be.

What must hold: every acknowledged record is at its offset; an offset has one value, for whoever read it and whenever;
what was read is there for ever; an idempotent producer's records are there once and in their order; a committed offset
never goes back behind what was acknowledged.
"""

from __future__ import annotations

import contextlib
import random
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from confluent_kafka.admin import AdminClient

from odradek.errors import ErrorCode
from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from odradek.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchResponse,
)
from tests.adversity.administration import Administrator
from tests.adversity.dying_broker import OPERATIONS
from tests.adversity.steady_producer import SteadyProducer
from tests.adversity.test_full_disk import make_small_segments, read_from
from tests.adversity.torture import Report
from tests.broker import BrokerProcess
from tests.raw_client import Closed, RawClient, batch, records_of

IDEMPOTENT, PLAIN = "idempotent", "plain"
GROUP = "g"
KILLS_A_BROKER = 10
FIRST = b"-00000001"  # before the producers' own, which are numbered from 0
# Where the number of an operation is so high that it is not reached, the broker is killed after all.
OPERATION_MAX = {"write": 400, "sync": 30, "sync_folder": 20, "rename": 30, "truncate": 3, "kernel_sync": 300}
DEATH_TIMEOUT_S = 5.0
LOSSES_MAX = 20
SETTINGS = (
    "log.segment.bytes=1048576",
    "offsets.topic.num.partitions=2",
    "odradek.coordinator.snapshot.min.records=50",
)


@dataclass
class History:
    """What happened to one topic. Values by offset."""

    topic: str
    idempotent: bool
    acknowledged: dict[int, bytes] = field(default_factory=dict)
    read: dict[int, bytes] = field(default_factory=dict)
    """By somebody who read along."""
    anomalies: list[str] = field(default_factory=list)
    """Seen while it happened."""


@dataclass
class Commits:
    """What a group committed: the highest offset that was acknowledged, and what came back after each restart."""

    acknowledged: int = -1
    attempted: int = -1
    fetched: list[tuple[int, int]] = field(default_factory=list)
    """(the highest acknowledged before it was asked, what was said)."""


def check(history: History, final: Mapping[int, bytes]) -> list[str]:
    """What of a history may not be, given what is in the log in the end."""
    losses = [f"{history.topic}: {one}" for one in history.anomalies]
    for what, seen in (("acknowledged", history.acknowledged), ("read", history.read)):
        for offset, value in seen.items():
            if offset not in final:
                losses.append(f"{history.topic}: {what} at offset {offset}, and not there")
            elif final[offset] != value:
                losses.append(
                    f"{history.topic}: {what} at offset {offset} was {value[:12]!r}, there is {final[offset][:12]!r}"
                )
    if sorted(final) != list(range(len(final))):
        losses.append(f"{history.topic}: there are holes in {len(final)} offsets")
    if history.idempotent:
        numbers = [int(final[offset][:9]) for offset in sorted(final)]
        for before, after in pairwise(numbers):
            if after <= before:
                losses.append(f"{history.topic}: record {after} stands behind {before}")
    return losses


def check_commits(commits: Commits) -> list[str]:
    return [
        f"group: {offset} was committed, and {found} came back"
        for offset, found in commits.fetched
        if not offset <= found <= commits.attempted
    ]


class Reader:
    """Reads a topic along, over kills. A context manager."""

    def __init__(self, port: Callable[[], int], history: History) -> None:
        self.port = port
        self.history = history
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader")

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        offset = 0
        while not self._stop.is_set():
            try:
                with RawClient(self.port()) as client:
                    while not self._stop.is_set():
                        answer = client.fetch(self.history.topic, offset, max_wait_ms=50)
                        if answer.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
                            self.history.anomalies.append(f"offset {offset}, which was the end, is out of range")
                            return
                        for record in records_of(answer.records) if not answer.error_code else ():
                            if record.offset >= offset:
                                self.history.read[record.offset] = record.value
                                offset = record.offset + 1
            except (Closed, OSError):
                self._stop.wait(0.02)


class Committer:
    """Commits higher and higher offsets, over kills. A context manager."""

    def __init__(self, port: Callable[[], int], commits: Commits) -> None:
        self.port = port
        self.commits = commits
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="committer")

    def __enter__(self) -> Committer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with RawClient(self.port()) as client:
                    self._commit_on(client)
            except (Closed, OSError):
                self._stop.wait(0.02)

    def _commit_on(self, client: RawClient) -> None:
        known = self.commits.acknowledged
        found = committed(client)
        if found is None:
            self._stop.wait(0.02)
            return
        self.commits.fetched.append((known, found))
        while not self._stop.is_set():
            self.commits.attempted += 1
            partition = OffsetCommitRequestPartition(
                partition_index=0, committed_offset=self.commits.attempted, committed_metadata=""
            )
            topics = [OffsetCommitRequestTopic(name=PLAIN, partitions=[partition])]
            answer = client.call(OffsetCommitRequest(group_id=GROUP, topics=topics), OffsetCommitResponse, 8)
            if answer.topics[0].partitions[0].error_code == 0:
                self.commits.acknowledged = self.commits.attempted
            self._stop.wait(0.002)


def committed(client: RawClient) -> int | None:
    """The group's offset, -1 for none; None while nobody can say."""
    finding = FindCoordinatorRequest(coordinator_keys=[GROUP])
    if client.call(finding, FindCoordinatorResponse, 4).coordinators[0].error_code:
        return None
    (group,) = client.call(
        OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=GROUP, topics=None)]), OffsetFetchResponse, 8
    ).groups
    if group.error_code:
        return None
    return next((one.committed_offset for topic in group.topics for one in topic.partitions), -1)


def kill_broker(broker: BrokerProcess, chance: random.Random, wait: Callable[[], None]) -> str:
    """Lets the broker live for a while (`wait`, or until an operation of its disk), and die in one of its ways; what
    was done. It is running before and after."""
    if chance.random() < 0.5:
        wait()
        broker.kill()
        broker.start()
        return "a random moment"
    operation = chance.choice(list(OPERATIONS))
    number, when = chance.randrange(1, OPERATION_MAX[operation]), chance.choice(("before", "after"))
    broker.kill()
    broker.module, broker.environment = "tests.adversity.dying_broker", {"DIE": f"{operation}:{number}:{when}"}
    with contextlib.suppress(AssertionError):  # it died while it started
        broker.start()
        assert broker.process is not None
        with contextlib.suppress(Exception):
            broker.process.wait(DEATH_TIMEOUT_S)
    broker.module, broker.environment = "odradek.cli.main", {}
    if broker.process is not None:
        broker.kill()
    broker.start()
    return f"{when} {operation} {number}"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def rounds(chance: random.Random, kills: int, folder: Path) -> Iterator[tuple[int, list[str]]]:
    """So many kills of one broker: for each the losses known then; the last has those of the whole history."""
    histories = {name: History(name, name == IDEMPOTENT) for name in (IDEMPOTENT, PLAIN)}
    commits = Commits()
    broker = BrokerProcess(folder, *SETTINGS)
    broker.port = free_port()  # known before it is ready, and the same ever after
    with broker:
        with RawClient(broker.port) as client:
            admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
            for name, history in histories.items():
                make_small_segments(admin, name)
                assert client.produce(name, batch(FIRST)).error_code == 0
                history.acknowledged[0] = FIRST
        hows = []
        with contextlib.ExitStack() as stack:
            producers = [
                stack.enter_context(
                    SteadyProducer(
                        broker.bootstrap,
                        name,
                        idempotent=name == IDEMPOTENT,
                        size=200,
                        window=chance.choice((1, 5, 20)),
                    )
                )
                for name in histories
            ]
            for history in histories.values():
                stack.enter_context(Reader(lambda: broker.port, history))
            stack.enter_context(Committer(lambda: broker.port, commits))
            administrator = stack.enter_context(
                Administrator(lambda: broker.port, random.Random(chance.getrandbits(32)))
            )
            for number in range(kills):
                hows.append(
                    kill_broker(
                        broker, chance, lambda: chance.choice(producers).wait_for_more(chance.randrange(1, 300))
                    )
                )
                if number < kills - 1:
                    yield number, []
            for producer in producers:
                producer.wait_for_more(1)
        losses = check_commits(commits)
        with RawClient(broker.port) as client:
            administrator.look(client)
            losses += administrator.anomalies
            for producer in producers:
                history = histories[producer.topic]
                history.acknowledged.update(producer.acknowledged)
                losses += check(history, read_from(client, producer.topic, 0))
        yield kills - 1, [f"{loss} (killed at: {', '.join(hows)})" for loss in losses]


def campaign(seed: int, count: int) -> Report:
    """`count` kills, `KILLS_A_BROKER` on one data directory."""
    report = Report(0, "kills")
    while report.done < count and len(report.losses) < LOSSES_MAX:
        chance = random.Random(seed + report.done)
        with tempfile.TemporaryDirectory(prefix="odradek-kills-") as folder:
            begun = report.done
            for _, losses in rounds(chance, min(KILLS_A_BROKER, count - begun), Path(folder)):
                report.done += 1
                report.losses += [f"seed {seed + begun}: {loss}" for loss in losses]
    return report
