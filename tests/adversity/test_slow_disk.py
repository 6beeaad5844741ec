"""A disk that takes seconds: its own producers wait, everybody else goes on.

A flush that hangs is held on an event, so that the order of what happens is certain and no time is measured. Writes go
into the page cache from the event loop, so it is flushes, and what else threads do, that may hang.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from odradek.protocol.messages.produce import ProduceResponse
from tests.adversity.serving_on_disk import ServingOnDisk
from tests.adversity.test_full_disk import make_small_segments, read_from
from tests.engines.disks import WatchedDisk
from tests.raw_client import RawClient, batch, produce_request

VERSION = 9


class HangingDisk(WatchedDisk):
    """Holds operations on some paths until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = threading.Event()
        """Set while an operation is being held."""
        self._go_on = threading.Event()

    @contextmanager
    def hanging(self, operation: str, where: str) -> Iterator[None]:
        self.hangs.clear()
        self._go_on.clear()

        def hold(seen: str, path: str) -> None:
            if seen == operation and where in path and not self._go_on.is_set():
                self.hangs.set()
                assert self._go_on.wait(60)

        self.refuse = hold
        try:
            yield
        finally:
            self._go_on.set()
            self.refuse = lambda seen, path: None


@pytest.mark.parametrize(("operation", "where"), [("sync", "/slow-0/"), ("sync_folder", "/slow-0")])
def test_others_go_on_while_a_flush_hangs(tmp_path: Path, operation: str, where: str) -> None:
    disk = HangingDisk()
    with ServingOnDisk(tmp_path, disk) as serving, RawClient(serving.port) as slow, RawClient(serving.port) as other:
        admin = AdminClient({"bootstrap.servers": serving.bootstrap, "log_level": 0})
        make_small_segments(admin, "slow")
        make_small_segments(admin, "fast")
        assert slow.produce("fast", batch(b"before")).error_code == 0
        finding = FindCoordinatorRequest(coordinator_keys=["g"])
        assert other.call(finding, FindCoordinatorResponse, 4).coordinators[0].error_code == 0
        with disk.hanging(operation, where):
            slow.send(produce_request("slow", batch(b"held")), VERSION)
            assert disk.hangs.wait(30)
            # What is cached is read, what is asked is answered, and nobody sees what is not on the disk.
            assert list(read_from(other, "fast", 0).values()) == [b"before"]
            assert read_from(other, "slow", 0) == {}
            asked = MetadataRequest(topics=[MetadataRequestTopic(name="slow")])
            assert other.call(asked, MetadataResponse, 9).topics[0].error_code == 0
            beat = HeartbeatRequest(group_id="g", generation_id=1, member_id="nobody")
            assert other.call(beat, HeartbeatResponse, 4).error_code == 25
        answer = slow.receive(ProduceResponse, VERSION)
        assert answer.responses[0].partition_responses[0].error_code == 0
        assert b"held" in read_from(other, "slow", 0).values()
