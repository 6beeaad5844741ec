"""Exactly once, over kills: consume-transform-produce pipelines in several clients, they and their broker killed.

Role: a campaign (see `torture.py`). One broker at a time; pipelines (`tests/pipelines`) move records in transactions
that they end and abort by chance; at random moments, and at the n-th write, sync, rename of the broker, the broker is
killed, or a pipeline is, or one is stopped, replaced, and wakes up as a zombie. Readers with `read_committed` read
along. Then all is let come to rest, and `tests/pipelines/history.py` says what may not be.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse
from tests.adversity.kills import free_port, kill_broker
from tests.adversity.torture import Report
from tests.broker import BrokerProcess
from tests.pipelines.history import History, Seen, Written, check
from tests.pipelines.lines import PARTITIONS
from tests.pipelines.pipeline import KINDS, NO_ZOMBIES, Pipeline
from tests.raw_client import Closed, RawClient

KILLS_A_BROKER = 10
INPUTS_A_KILL = 60
LINES_MAX = 12
LOSSES_MAX = 20
REST_TIMEOUT_S = 120.0
STEP_TIMEOUT_S = 40.0
LOOK_S = 0.05
SETTINGS = (
    "log.segment.bytes=1048576",
    "offsets.topic.num.partitions=2",
    "transaction.state.log.num.partitions=2",
    "odradek.coordinator.snapshot.min.records=50",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms=500",
)
# What is written passes through a thread on all but the second.
OUT_CONFIGS: tuple[dict[str, str], ...] = (
    {"compression.type": "gzip", "compression.gzip.level": "9"},
    {},
    {"message.timestamp.before.max.ms": "86400000"},
    {"compression.type": "zstd"},
)


def _consumer(bootstrap: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "reconnect.backoff.max.ms": 200,
            "metadata.recovery.strategy": "none",
            "fetch.wait.max.ms": 50,
            "log_level": 0,
        }
    )


def _written(message: Message) -> Written:
    partition, offset, value = message.partition(), message.offset(), message.value()
    assert partition is not None and offset is not None and isinstance(value, bytes)
    return Written(partition, offset, value.decode())


def read_all(bootstrap: str, topic: str, partitions: int = PARTITIONS) -> list[Written]:
    """A whole topic, under read_committed."""
    consumer = _consumer(bootstrap)
    consumer.assign([TopicPartition(topic, index, OFFSET_BEGINNING) for index in range(partitions)])
    found, ends = [], set()
    deadline = time.monotonic() + REST_TIMEOUT_S
    while len(ends) < partitions:
        assert time.monotonic() < deadline, f"{topic}: {len(found)} records"
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error() is None:
            found.append(_written(message))
        else:
            ends.add(message.partition())
    consumer.close()
    return found


class Reader:
    """Reads an output along with `read_committed`, over kills. A context manager."""

    def __init__(self, bootstrap: str, history: History) -> None:
        self.history = history
        self._bootstrap = bootstrap
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reader-{history.name}")

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        consumer = _consumer(self._bootstrap)
        topic = f"out-{self.history.name}"
        consumer.assign([TopicPartition(topic, index, OFFSET_BEGINNING) for index in range(PARTITIONS)])
        while not self._stop.is_set():
            message = consumer.poll(0.1)
            if message is None:
                continue
            error = message.error()
            if error is None:
                self.history.seen.append(Seen(_written(message), time.time_ns()))
            elif error.name() in ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"):
                self.history.anomalies.append(f"a reader was told {error.name()}: {error.str()}")
                break
        consumer.close()


class Feeder:
    """Writes numbered inputs, and knows which."""

    def __init__(self, bootstrap: str) -> None:
        self.inputs: dict[int, list[str]] = {partition: [] for partition in range(PARTITIONS)}
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0})

    def feed(self, count: int) -> None:
        """Returns when all are durable."""
        for _ in range(count):
            number = sum(map(len, self.inputs.values()))
            partition = number % PARTITIONS
            self.inputs[partition].append(str(number))
            self._producer.produce("in", str(number).encode(), partition=partition)
        assert self._producer.flush(STEP_TIMEOUT_S) == 0


def _offsets(port: int, history: History) -> dict[int, int]:
    """The group's stable offsets now, noted in its history; those that nobody can say now are missing."""
    try:
        with RawClient(port) as client:
            finding = FindCoordinatorRequest(coordinator_keys=[history.name])
            if client.call(finding, FindCoordinatorResponse, 4).coordinators[0].error_code:
                return {}
            asked = [OffsetFetchRequestGroup(group_id=history.name, topics=None)]
            (group,) = client.call(OffsetFetchRequest(groups=asked, require_stable=True), OffsetFetchResponse, 8).groups
    except (Closed, OSError):
        return {}
    found = [one for topic in group.topics for one in topic.partitions if one.error_code == 0]
    offsets = {one.partition_index: one.committed_offset for one in found if one.committed_offset >= 0}
    history.committed_offsets += sorted(offsets.items())
    return offsets


def _until(
    condition: Callable[[], bool], pipelines: Sequence[Pipeline], said: threading.Event, timeout_s: float
) -> bool:
    """Tends the pipelines until it holds; whether it did in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        for pipeline in pipelines:
            pipeline.tend()
        said.wait(LOOK_S)
        said.clear()
    return True


Wake = Callable[[], None]


def _disturb(broker: BrokerProcess, chance: random.Random, pipelines: Sequence[Pipeline]) -> tuple[str, list[Wake]]:
    """One kill, after which broker and pipelines run again; what was done, and who wakes later."""
    if chance.random() < 0.5:
        return f"broker: {kill_broker(broker, chance, lambda: None)}", []
    one = chance.choice(pipelines)
    if chance.random() < 0.5 or one.kind in NO_ZOMBIES:
        one.kill()
        return f"{one.kind} killed", []
    return f"{one.kind} replaced", [one.replace()]


def rounds(
    chance: random.Random, kills: int, folder: Path, kinds: Sequence[str], figures: dict[str, Counter[str]]
) -> Iterator[list[str]]:
    """So many kills of one broker and its pipelines: for each the losses known then; the last has those of the whole
    history. What each kind did is added to `figures`."""
    broker = BrokerProcess(folder, *SETTINGS)
    broker.port = free_port()  # known before it is ready, and the same ever after
    said = threading.Event()
    with broker, contextlib.ExitStack() as stack:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        topics = [NewTopic("in", PARTITIONS)]
        outs = zip(kinds, cycle(OUT_CONFIGS), strict=False)
        topics += [NewTopic(f"out-{kind}", PARTITIONS, config=configs) for kind, configs in outs]
        for made in admin.create_topics(topics).values():
            made.result()
        feeder = Feeder(broker.bootstrap)
        feeder.feed(INPUTS_A_KILL)
        histories = {kind: History(kind, tagged=kind != "java") for kind in kinds}
        for history in histories.values():
            history.inputs = {0: feeder.inputs[0]} if history.name == "java" else feeder.inputs
            stack.enter_context(Reader(broker.bootstrap, history))
        pipelines = [
            stack.enter_context(Pipeline(kind, broker.bootstrap, history, chance, said))
            for kind, history in histories.items()
        ]
        hows: list[str] = []
        zombies: list[Wake] = []
        for number in range(kills):
            before, more = sum(one.lines for one in pipelines), chance.randrange(1, LINES_MAX)
            _until(lambda: sum(one.lines for one in pipelines) >= before + more, pipelines, said, STEP_TIMEOUT_S)  # noqa: B023
            how, new_zombies = _disturb(broker, chance, pipelines)
            hows.append(how)
            for wake in zombies:
                wake()
            zombies = new_zombies
            for history in histories.values():
                _offsets(broker.port, history)
            if number < kills - 1:
                feeder.feed(INPUTS_A_KILL)
                yield []
        for wake in zombies:
            wake()

        def at_rest() -> bool:
            return all(
                _offsets(broker.port, history) == {of: len(inputs) for of, inputs in history.inputs.items()}
                for history in histories.values()
            )

        losses = []
        if not _until(at_rest, pipelines, said, REST_TIMEOUT_S):
            for one in pipelines:
                losses.append(f"{one.kind} does not end: {_offsets(broker.port, one.history)}, {one.ended[-3:]}")
        for name, history in histories.items():
            # Read along to the end too: whoever reads stays on what is there.
            final = read_all(broker.bootstrap, f"out-{name}")
            _until(lambda: len(history.seen) >= len(final), (), said, STEP_TIMEOUT_S)  # noqa: B023
            losses += check(history, final)
            if len(history.seen) < len(final):
                losses.append(f"{name}: a reader has {len(history.seen)} records of {len(final)}")
        for one in pipelines:
            figures.setdefault(one.kind, Counter()).update(one.figures())
        yield [*losses, f"all this after: {', '.join(hows)}"] if losses else []


def campaign(seed: int, count: int, kinds: Sequence[str] = tuple(KINDS)) -> Report:
    """`count` kills, `KILLS_A_BROKER` on one data directory."""
    report = Report(0, "kills of brokers and pipelines")
    figures: dict[str, Counter[str]] = {}
    while report.done < count and len(report.losses) < LOSSES_MAX:
        chance = random.Random(seed + report.done)
        with tempfile.TemporaryDirectory(prefix="odradek-transactions-") as folder:
            begun = report.done
            for losses in rounds(chance, min(KILLS_A_BROKER, count - begun), Path(folder), kinds, figures):
                report.done += 1
                report.losses += [f"seed {seed + begun}: {loss}" for loss in losses]
    report.notes += [
        f"{kind}: {', '.join(f'{number} {what}' for what, number in of_kind.items())}"
        for kind, of_kind in figures.items()
    ]
    return report
