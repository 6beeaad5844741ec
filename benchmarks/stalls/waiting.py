"""What a producer's writes set off among many: fetches that wait for them, and files that are not open. And what the
broker does among many of everything by itself, from time to time."""

from __future__ import annotations

import select
import time
from collections import Counter
from collections.abc import Iterator

from benchmarks.stalls.cases import Request, Requests, Sent, case
from benchmarks.stalls.prepared import Prepared, now_ms, produce_to
from odradek.protocol.fields import Message
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from tests.raw_client import batch

PARKED = 4
# More than the producer will have written, and less than so many large batches.
MIN_BYTES = 2_000_000
BATCH_BYTES, BATCHES = 1_000_000, 3
WAIT_MS = 300_000
# Nothing tells that a fetch waits: a while after it was sent, it does.
SENT_S = 1.0
IN_FLIGHT = 50
# What is done regularly is done every ten seconds at least.
QUIET_S = 11.0


def _park(prepared: Prepared, names: list[str]) -> Iterator[None]:
    """Fetches that wait at the end of all these topics, each on a connection of its own."""
    request = FetchRequest(
        max_wait_ms=WAIT_MS,
        min_bytes=MIN_BYTES,
        max_bytes=50 << 20,
        topics=[
            FetchTopic(
                topic=name,
                partitions=[FetchPartition(partition=0, fetch_offset=end, partition_max_bytes=1 << 20)],
            )
            for name, end in prepared.ends(names).items()
        ],
    )
    clients = [prepared.connect() for _ in range(PARKED)]
    for client in clients:
        client.send(request, 12)
    time.sleep(SENT_S)
    yield
    answered = select.select([client.socket for client in clients], [], [], 0)[0]
    assert not answered, "a fetch that was to wait was answered"
    # A fetch that nobody waits for any more would go on waiting in Kafka, and cost what comes after.
    prepared.produce([(name, 0) for name in names[:BATCHES]], batch(bytes(BATCH_BYTES), timestamp_ms=now_ms()))
    for client in clients:
        client.receive_frame()
        client.socket.close()


class Quiet:
    """Nothing is sent."""

    def __call__(self) -> int:
        time.sleep(QUIET_S)
        return 0

    def settle(self) -> None:
        pass

    def codes(self) -> Counter[int]:
        return Counter()


@case("quiet", "Nothing for 11 s, among {:,} topics, groups and transactional ids", 10_000)
def quiet(prepared: Prepared, _: int) -> Iterator[Sent]:
    prepared.topics_with_records()
    prepared.groups()
    prepared.group_with_offsets()
    prepared.transactional_ids()
    yield Quiet()


@case("parked-fetches", "Produce to {:,} partitions, 4 parked fetches of all of them", 4_000)
def parked_fetches(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    names = prepared.topics_with_records()[:partitions]
    request = produce_to([(name, 0) for name in names], batch(b"x", timestamp_ms=now_ms()))
    for _ in _park(prepared, names):
        yield Request(prepared.client, request, 9)


@case("parked-fetches-one-by-one", "{:,} Produces one by one, 4 parked fetches of {:,} partitions", 400, 4_000)
def parked_fetches_one_by_one(prepared: Prepared, requests: int, partitions: int) -> Iterator[Sent]:
    names, record = prepared.topics_with_records()[:partitions], batch(b"x", timestamp_ms=now_ms())
    wanted: list[tuple[Message, int]] = [(produce_to([(name, 0)], record), 9) for name in names[:requests]]
    for _ in _park(prepared, names):
        yield Requests(prepared.client, wanted, IN_FLIGHT)


@case("round-robin", "Produce to {:,} partitions one by one, more than files may be open", 10_000)
def round_robin(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    record = batch(b"x", timestamp_ms=now_ms())
    names = prepared.topics_with_records()[:partitions]
    yield Requests(prepared.client, [(produce_to([(name, 0)], record, acks=1), 9) for name in names], IN_FLIGHT)
