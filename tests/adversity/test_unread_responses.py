"""Peers that ask for much and read nothing: what is held for them is bounded over all, and others read on."""

from __future__ import annotations

import time
from pathlib import Path

from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from tests.adversity.test_bad_input import make_topic, resident_mb
from tests.broker import BrokerProcess
from tests.raw_client import RawClient, batch, records_of

BATCH_BYTES = 900_000
BATCHES = 40
PEERS = 30


def greedy_fetch(topic: str) -> FetchRequest:
    wanted = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 26)
    return FetchRequest(max_wait_ms=0, min_bytes=1, topics=[FetchTopic(topic=topic, partitions=[wanted])])


def test_unread_responses_do_not_fill_the_memory(tmp_path: Path) -> None:
    bound = "odradek.queued.max.response.bytes=100000000"
    with BrokerProcess(tmp_path, bound) as broker, RawClient(broker.port) as client:
        make_topic(client, "large")
        for _ in range(BATCHES):
            assert client.produce("large", batch(b"x" * BATCH_BYTES)).error_code == 0
        before_mb = resident_mb(broker.pid)
        peers = [RawClient(broker.port) for _ in range(PEERS)]
        for peer in peers:
            peer.send(greedy_fetch("large"), 12)
        # Each would get 36 MB, a gigabyte in all. Held are: the bound, a response beyond it, a batch for each, and what
        # the reading client is being sent, with the allocator's leftovers.
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            answer = client.fetch("large", 1)
            assert len(records_of(answer.records)) >= 1
            assert resident_mb(broker.pid) - before_mb < 100 + 40 + PEERS + 130
        # Little is read at a time now, but everything.
        offset = 0
        while offset < BATCHES:
            offset += len(records_of(client.fetch("large", offset).records))
        for peer in peers:
            peer.socket.close()
        # With the peers gone there is room again.
        deadline = time.monotonic() + 20
        while len(records_of(client.fetch("large", 0, max_bytes=1 << 26).records)) < BATCHES:
            assert time.monotonic() < deadline
