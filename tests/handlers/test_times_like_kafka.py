"""Batches whose header and records tell different times, to Apache Kafka and to Odradek.

The same code, the same records named, the same header afterwards, and the same records found by time.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from odradek.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from odradek.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from odradek.records.batch import TIMESTAMP_TYPE_BIT, read_header
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from odradek.records.compression import Codec
from tests.batches import with_header
from tests.raw_client import RawClient
from tests.serving import Serving

S, HOUR = 1_000, 3_600_000
NOW_MS = int(time.time() * 1000)
SPREAD = (NOW_MS - 60 * S, NOW_MS - 59 * S, NOW_MS - 58 * S)
SOUGHT = (0, SPREAD[0] + 1, SPREAD[1], SPREAD[2], SPREAD[2] + 1, NOW_MS, -3)
NEVER_MS = 2**63 - 1


def at(*times: int, codec: Codec = Codec.NONE, key: bytes | None = None, **header: int) -> bytes:
    return with_header(batch_bytes(build_batch([NewRecord(key, b"v", t) for t in times], codec=codec)), **header)


BATCHES: dict[str, tuple[bytes, dict[str, Any]]] = {
    **{
        f"{name}, codec {codec}": (at(*SPREAD, codec=codec, max_timestamp=max_timestamp), {})
        for codec in (Codec.NONE, Codec.GZIP, Codec.ZSTD)
        for name, max_timestamp in {"unset": -1, "1970": 0, "low": SPREAD[0] - 1, "ahead": NOW_MS + 2 * HOUR}.items()
    },
    "sane": (at(*SPREAD), {}),
    "no times": (at(-1, -1), {}),
    "no times under a header of now": (at(-1, -1, max_timestamp=NOW_MS), {}),
    "one of two without a time": (at(-1, NOW_MS, max_timestamp=-1), {}),
    "below zero": (at(-5, -5), {}),
    "falling": (at(*SPREAD[::-1]), {}),
    "falling from ahead": (at(NOW_MS + 5 * HOUR, NOW_MS, max_timestamp=NOW_MS), {}),
    "ahead": (at(NOW_MS, NOW_MS + 5 * HOUR, NOW_MS + 5 * HOUR), {}),
    "ahead, unset": (at(NOW_MS, NOW_MS + 5 * HOUR, NOW_MS + 5 * HOUR, codec=Codec.LZ4, max_timestamp=-1), {}),
    "log append time": (at(*SPREAD, attributes=TIMESTAMP_TYPE_BIT), {}),
    "log append time, unset": (at(*SPREAD, attributes=TIMESTAMP_TYPE_BIT, max_timestamp=-1), {}),
    "log append time, ahead": (at(*SPREAD, attributes=TIMESTAMP_TYPE_BIT, max_timestamp=NOW_MS + 2 * HOUR), {}),
    "bounded: old": (at(NOW_MS, SPREAD[0], NOW_MS), {"message_timestamp_before_max_ms": 30 * S}),
    "bounded: 1970": (at(NOW_MS, NOW_MS, max_timestamp=0), {"message_timestamp_before_max_ms": 30 * S}),
    "bounded: no times": (at(-1, -1), {"message_timestamp_before_max_ms": 30 * S}),
    "bounded: below zero": (at(-5, -5), {"message_timestamp_before_max_ms": 30 * S}),
    "unbounded": (at(NOW_MS * 1000, max_timestamp=-1), {"message_timestamp_after_max_ms": NEVER_MS}),
    "compacted: low": (at(*SPREAD, key=b"k", max_timestamp=SPREAD[0]), {"cleanup_policy": "compact"}),
    "compacted: ahead": (at(NOW_MS, NOW_MS * 1000, key=b"k", max_timestamp=NOW_MS), {"cleanup_policy": "compact"}),
    "compacted: no keys": (at(NOW_MS, NOW_MS * 1000), {"cleanup_policy": "compact"}),
    "gzip: unset": (at(*SPREAD, max_timestamp=-1), {"compression_type": "gzip"}),
}


class Looked:
    """One of the brokers."""

    def __init__(self, client: RawClient) -> None:
        self.client = client

    def create(self, **configs: Any) -> str:
        name = "times-" + uuid.uuid4().hex[:8]
        entries = [CreatableTopicConfig(name=key.replace("_", "."), value=str(value)) for key, value in configs.items()]
        topic = CreatableTopic(name=name, num_partitions=1, replication_factor=1, configs=entries)
        made = self.client.call(CreateTopicsRequest(topics=[topic]), CreateTopicsResponse, 5)
        assert made.topics[0].error_code == 0
        return name

    def offset(self, topic: str, sought: int) -> tuple[int, int]:
        wanted = ListOffsetsTopic(name=topic, partitions=[ListOffsetsPartition(partition_index=0, timestamp=sought)])
        request = ListOffsetsRequest(replica_id=-1, topics=[wanted])
        answer = self.client.call(request, ListOffsetsResponse, 7).topics[0].partitions[0]
        assert answer.error_code == 0
        return answer.offset, answer.timestamp

    def become(self, name: str) -> Any:
        """What becomes of a batch of the table."""
        data, configs = BATCHES[name]
        topic = self.create(**configs)
        # Kafka's leader is there a moment after the topic is.
        for _ in range(2000):
            answer = self.client.produce(topic, data)
            if answer.error_code not in (3, 6):
                break
        named = [error.batch_index for error in answer.record_errors]
        if answer.error_code:
            return answer.error_code, named
        header = read_header(self.client.fetch(topic, 0).records)
        found = [self.offset(topic, sought) for sought in SOUGHT]
        return header.base_timestamp, header.max_timestamp, header.has_log_append_time, found


@pytest.fixture(scope="module")
def both(kafka_port: int) -> Iterator[Callable[[str], tuple[Any, Any]]]:
    with Serving() as own, RawClient(kafka_port) as theirs, RawClient(own.port) as ours:
        yield lambda name: (Looked(theirs).become(name), Looked(ours).become(name))


@pytest.mark.parametrize("name", BATCHES)
def test_what_becomes_of_a_batch(both: Callable[[str], tuple[Any, Any]], name: str) -> None:
    theirs, ours = both(name)
    assert theirs == ours
