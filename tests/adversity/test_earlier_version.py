"""Data directories of the version before: they open here, and what was written here opens there again, after stops and
after kills.

The version is a commit of this repository, taken out of its history; each side reads what the other wrote: records,
where logs begin, committed offsets, which batches are repetitions.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import time
from io import BytesIO
from pathlib import Path

import pytest

from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from odradek.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from odradek.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchResponse
from tests.adversity import topic_requests
from tests.broker import BrokerProcess
from tests.raw_client import RawClient, batch, records_of

ROOT = Path(__file__).resolve().parents[2]
EARLIER = "c2ecf45"
TOPICS = {"disk": {}, "os": {"odradek.flush": "os"}, "rolls": {"segment.bytes": "1048576"}}
ROUND = 12
WAIT_S = 30.0


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the earlier version."""
    folder = tmp_path_factory.mktemp("earlier")
    archive = subprocess.run(
        ["git", "archive", EARLIER, "src"], cwd=ROOT, capture_output=True, check=False, timeout=WAIT_S
    )
    if archive.returncode != 0:
        pytest.skip(f"the history of this repository is not here: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder / "src"


class Life:
    """What was written so far, and by whom: each turn looks at all of it, and adds some."""

    def __init__(self, folder: Path, earlier: Path) -> None:
        self.broker = BrokerProcess(folder, "offsets.topic.num.partitions=1")
        self.earlier = earlier
        self.written: dict[str, list[bytes]] = {name: [] for name in TOPICS}
        self.start = dict.fromkeys(TOPICS, 0)
        self.producer = (-1, -1)
        self.sequence = 0
        self.last: tuple[bytes, int] | None = None

    def turn(self, is_earlier: bool, killed: bool, delete_before: int = 0) -> None:
        source = self.earlier if is_earlier else ROOT / "src"
        self.broker.environment = {"PYTHONPATH": os.pathsep.join([str(source), str(ROOT)])}
        self.broker.start()
        with RawClient(self.broker.port) as client:
            if self.sequence == 0:
                self.begin(client)
            else:
                self.look(client)
            self.write(client)
            if delete_before:
                self.delete(client, delete_before)
        self.broker.kill() if killed else self.broker.stop()

    def begin(self, client: RawClient) -> None:
        for name, configs in TOPICS.items():
            assert topic_requests.create(client, name, configs=configs) == 0
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
        given = client.call(request, InitProducerIdResponse, 4)
        self.producer = (given.producer_id, given.producer_epoch)

    def look(self, client: RawClient) -> None:
        for name, values in self.written.items():
            found: dict[int, bytes | None] = {}
            offset = self.start[name]
            while offset < len(values):
                fetched = client.fetch(name, offset)
                assert fetched.error_code == 0, (name, offset, fetched)
                assert (fetched.log_start_offset, fetched.high_watermark) == (self.start[name], len(values)), name
                records = records_of(fetched.records)
                found |= {record.offset: record.value for record in records}
                offset = records[-1].offset + 1
            assert found == {one: values[one] for one in range(self.start[name], len(values))}
        assert self.committed(client) == len(self.written["disk"])
        assert self.last is not None
        again = client.produce("disk", self.last[0])
        assert (again.error_code, again.base_offset) == (0, self.last[1]), "a repetition"

    def write(self, client: RawClient) -> None:
        for name, values in self.written.items():
            for _ in range(ROUND):
                value = b"%s %d " % (name.encode(), len(values)) + b"." * (100_000 if name == "rolls" else 10)
                answer = client.produce(name, batch(value))
                assert (answer.error_code, answer.base_offset) == (0, len(values))
                values.append(value)
        value = b"idempotent %d" % self.sequence
        producer_id, epoch = self.producer
        data = batch(value, producer_id=producer_id, producer_epoch=epoch, base_sequence=self.sequence)
        answer = client.produce("disk", data)
        assert answer.error_code == 0
        self.last = data, answer.base_offset
        self.written["disk"].append(value)
        self.sequence += 1
        self.commit(client, len(self.written["disk"]))

    def delete(self, client: RawClient, offset: int) -> None:
        for name in ("disk", "rolls"):
            assert topic_requests.delete_records(client, name, offset) == 0
            self.start[name] = offset

    def ready(self, client: RawClient) -> None:
        until = time.monotonic() + WAIT_S
        while (
            client.call(FindCoordinatorRequest(coordinator_keys=["g"]), FindCoordinatorResponse, 4)
            .coordinators[0]
            .error_code
        ):
            assert time.monotonic() < until

    def commit(self, client: RawClient, offset: int) -> None:
        self.ready(client)
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
        request = OffsetCommitRequest(
            group_id="g",
            generation_id_or_member_epoch=-1,
            topics=[OffsetCommitRequestTopic(name="disk", partitions=[partition])],
        )
        until = time.monotonic() + WAIT_S
        while client.call(request, OffsetCommitResponse, 7).topics[0].partitions[0].error_code:
            assert time.monotonic() < until

    def committed(self, client: RawClient) -> int:
        self.ready(client)
        request = OffsetFetchRequest(group_id="g", topics=[OffsetFetchRequestTopic(name="disk", partition_indexes=[0])])
        until = time.monotonic() + WAIT_S
        while (answer := client.call(request, OffsetFetchResponse, 6)).error_code:
            assert time.monotonic() < until
        return answer.topics[0].partitions[0].committed_offset


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_directories_go_back_and_forth(tmp_path: Path, earlier: Path, killed: bool) -> None:
    life = Life(tmp_path, earlier)
    try:
        life.turn(is_earlier=True, killed=killed)
        life.turn(is_earlier=False, killed=killed, delete_before=5)
        life.turn(is_earlier=True, killed=killed, delete_before=20)
        life.turn(is_earlier=False, killed=killed)
        life.turn(is_earlier=False, killed=not killed, delete_before=30)
        life.turn(is_earlier=True, killed=killed)
        life.turn(is_earlier=False, killed=False)
    finally:
        if life.broker.process is not None:
            life.broker.kill()
    assert "Traceback" not in life.broker.logged
