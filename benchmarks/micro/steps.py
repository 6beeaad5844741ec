"""The steps that are measured, by name: `STEPS`. Each does one thing n times, and first prepares what is not
measured.

Role: codecs, checks, a log's appends and reads, and requests from bytes to bytes. The last are a peer's (`serving.py`)
and name nothing of the broker's inside, so that they are the same before and after it has changed. What a log's steps
need of an engine is imported in them alone: where that has changed, the others still run.

Everything that lasts longer than a step itself is kept out by `odradek.flush=os`, except where a step says "on disk".
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.micro.serving import Client, Factory
from odradek.protocol.decoding import decode
from odradek.protocol.encoding import encode, encoder
from odradek.protocol.fields import Message
from odradek.protocol.framing import encode_request
from odradek.protocol.messages import (
    create_topics,
    fetch,
    find_coordinator,
    heartbeat,
    init_producer_id,
    join_group,
    metadata,
    offset_commit,
    produce,
    sync_group,
)
from odradek.records.batch import RecordBatch, check_batch
from odradek.records.builder import NewRecord, batch_bytes, build_batch

SMALL_BYTES, LARGE_BYTES = 100, 1000
LARGE_RECORDS = 128
# Requests that a pipelined producer has open (max.in.flight.requests.per.connection), and that come in one read.
TOGETHER = 5
# Partitions of a fetch session, of which one has news.
SESSION_PARTITIONS = 10
TOPIC = "steps"
TOPIC_ID = bytes(range(16))
ACKS_ALL = -1
# A log of small batches would grow for as long as it is measured.
SEGMENT_BYTES = 1 << 26
# The longest that a member may ask for: under valgrind nothing is quick.
SESSION_MS = 1_800_000
SETTINGS = {
    "odradek.flush": "os",
    "log.segment.bytes": str(SEGMENT_BYTES),
    "offsets.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
}


async def _nothing() -> None:
    pass


@dataclass
class Step:
    """What is measured is `run(count)`; `prepare(count)` comes before it, and `check` after it: all must have gone
    well."""

    run: Callable[[int], Awaitable[None]]
    prepare: Callable[[int], None] = lambda count: None
    check: Callable[[], Awaitable[None]] = _nothing


Made = Callable[["Place"], Awaitable[Step]]


def batch_of(records: int, value_bytes: int, **producer: Any) -> RecordBatch:
    made = build_batch((NewRecord(None, b"v" * value_bytes, 1_000) for _ in range(records)), **producer)
    return check_batch(batch_bytes(made))


SMALL, LARGE = batch_of(1, SMALL_BYTES), batch_of(LARGE_RECORDS, LARGE_BYTES)


class Place:
    """What the steps work on."""

    def __init__(self, folder: Path, factory: Factory, ending: AsyncExitStack) -> None:
        self.folder = folder
        self._factory = factory
        self._ending = ending
        self._names = itertools.count()

    def client(self) -> Client:
        client = Client(self._factory)
        self._ending.callback(client.close)
        return client

    def name(self, of: str) -> str:
        """A name that nothing else has."""
        return f"{of}-{next(self._names)}"

    async def topic(self, partitions: int = 1, flush: str = "os") -> str:
        """A new topic, by its name."""
        name = self.name(TOPIC)
        topic = create_topics.CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=1,
            configs=[create_topics.CreatableTopicConfig(name="odradek.flush", value=flush)],
        )
        await self.client().ask(create_topics.CreateTopicsRequest(topics=[topic]), 5)
        return name

    async def log(self, engine: str) -> Any:
        """A log without a broker. Here and nowhere else stands how an engine is made."""
        from odradek.config import BrokerConfig, LogConfig
        from odradek.engines.interface import LogIdentity
        from odradek.engines.local import LocalEngine
        from odradek.engines.memory import MemoryEngine
        from odradek.loop_scheduler import LoopScheduler

        name = self.name("log")
        made: Any = (
            MemoryEngine() if engine == "memory" else LocalEngine(self.folder / name, BrokerConfig(), LoopScheduler())
        )
        await made.start()
        self._ending.push_async_callback(made.stop)
        return await made.open(LogIdentity(name, TOPIC_ID, 0), LogConfig(flush="os", segment_bytes=SEGMENT_BYTES))


@asynccontextmanager
async def place(folder: Path, factory: Factory) -> AsyncIterator[Place]:
    async with AsyncExitStack() as ending:
        yield Place(folder, factory, ending)


# --- codecs ----------------------------------------------------------------------------------------------------------


async def _decoding(message: Message, version: int) -> Step:
    data, cls = encode(message, version), type(message)

    async def run(count: int) -> None:
        for _ in range(count):
            decode(cls, version, data)

    return Step(run)


async def _encoding(message: Message, version: int) -> Step:
    write = encoder(type(message), version)

    async def run(count: int) -> None:
        for _ in range(count):
            pieces: list[Any] = []
            write(message, pieces.append)

    return Step(run)


async def _checking(batch: RecordBatch) -> Step:
    data = batch_bytes(batch)

    async def run(count: int) -> None:
        for _ in range(count):
            check_batch(data)

    return Step(run)


def _produce_response() -> produce.ProduceResponse:
    answer = produce.PartitionProduceResponse(base_offset=7)
    return produce.ProduceResponse(responses=[produce.TopicProduceResponse(name=TOPIC, partition_responses=[answer])])


def _metadata_response() -> metadata.MetadataResponse:
    partitions = [
        metadata.MetadataResponsePartition(partition_index=index, leader_id=1, replica_nodes=[1], isr_nodes=[1])
        for index in range(100)
    ]
    topic = metadata.MetadataResponseTopic(name=TOPIC, topic_id=TOPIC_ID, partitions=partitions)
    return metadata.MetadataResponse(cluster_id="cluster", topics=[topic])


# --- logs ------------------------------------------------------------------------------------------------------------


async def _appending(at: Place, engine: str, batch: RecordBatch) -> Step:
    log = await at.log(engine)
    await log.append([batch], log.epoch).durable
    batches, epoch = (batch,), log.epoch

    async def run(count: int) -> None:
        for _ in range(count):
            log.append(batches, epoch)

    return Step(run)


async def _reading(at: Place, batches: int, batch: RecordBatch, max_bytes: int) -> Step:
    log = await at.log("local")
    for _ in range(batches):
        await log.append([batch], log.epoch).durable
    records = batch.header.last_offset_delta + 1
    end = log.durable_end

    async def run(count: int) -> None:
        for number in range(count):
            found = log.read(number * records % end, max_bytes, end)
            if not isinstance(found, list):
                # The machine has given up what was in memory: rare, and no matter for a median.
                await found

    return Step(run)


# --- requests, from bytes to bytes -----------------------------------------------------------------------------------


async def _asked(client: Client, version: int, request: Callable[[int], Message] | Message, together: int = 1) -> Step:
    """Sends what is asked in one read of `together` requests, and waits for all responses. A request that differs each
    time comes by its number."""
    kind: type[Message] = type(request) if isinstance(request, Message) else type(request(0))
    numbers = itertools.count()
    ready: list[bytes] = []

    def one(position: int) -> bytes:
        message = request if isinstance(request, Message) else request(next(numbers))
        return encode_request(message, version, position + 1, "steps")

    def read() -> bytes:
        return b"".join(map(one, range(together)))

    def prepare(count: int) -> None:
        ready[:] = [read()] * count if isinstance(request, Message) else [read() for _ in range(count)]

    async def check() -> None:
        await client.answers(read(), kind, version, together)

    await check()
    before = client.transport.written
    await check()
    # All answers of a step are as long.
    size = client.transport.written - before

    async def run(count: int) -> None:
        send, transport = client.send, client.transport
        upto = transport.written
        for data in ready[:count]:
            send(data)
            upto += size
            if transport.written < upto:
                await transport.reach(upto)
        assert transport.written == upto, "answers were not as long as the first"

    return Step(run, prepare, check)


def produce_request(
    version: int, batch: RecordBatch, topic: str = TOPIC, topic_id: bytes = TOPIC_ID, acks: int = 1
) -> produce.ProduceRequest:
    data = produce.PartitionProduceData(index=0, records=batch_bytes(batch))
    named = version < 13
    to = produce.TopicProduceData(
        name=topic if named else "", topic_id=bytes(16) if named else topic_id, partition_data=[data]
    )
    return produce.ProduceRequest(acks=acks, timeout_ms=30_000, topic_data=[to])


def fetch_request(offset: int, max_bytes: int, topic: str = TOPIC) -> fetch.FetchRequest:
    wanted = fetch.FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=max_bytes)
    return fetch.FetchRequest(max_wait_ms=0, min_bytes=1, topics=[fetch.FetchTopic(topic=topic, partitions=[wanted])])


async def _producing(at: Place, batch: RecordBatch, acks: int = 1, together: int = 1, flush: str = "os") -> Step:
    topic = await at.topic(flush=flush)
    return await _asked(at.client(), 9, produce_request(9, batch, topic, acks=acks), together)


async def _producing_once(at: Place, together: int = 1) -> Step:
    """An idempotent producer, which asks for acks=all."""
    topic = await at.topic()
    client = at.client()
    producer = await client.ask(init_producer_id.InitProducerIdRequest(transactional_id=None), 4)
    identity = {"producer_id": producer.producer_id, "producer_epoch": producer.producer_epoch}

    def request(number: int) -> produce.ProduceRequest:
        return produce_request(9, batch_of(1, SMALL_BYTES, base_sequence=number, **identity), topic, acks=ACKS_ALL)

    return await _asked(client, 9, request, together)


async def _fetching(at: Place) -> Step:
    topic = await at.topic()
    client = at.client()
    await client.ask(produce_request(9, LARGE, topic, acks=ACKS_ALL), 9)
    return await _asked(client, 12, fetch_request(0, 1 << 17, topic))


async def _fetching_in_session(at: Place) -> Step:
    """A consumer goes on in its session: one partition has the next record, the others have nothing and are not
    named."""
    topic = await at.topic(SESSION_PARTITIONS)
    client = at.client()
    for _ in range(2):
        await client.ask(produce_request(9, SMALL, topic, acks=ACKS_ALL), 9)

    def partition(index: int, offset: int) -> fetch.FetchPartition:
        return fetch.FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=len(batch_bytes(SMALL)))

    def request(session_id: int, epoch: int, partitions: list[fetch.FetchPartition]) -> fetch.FetchRequest:
        return fetch.FetchRequest(
            max_wait_ms=0,
            min_bytes=1,
            session_id=session_id,
            session_epoch=epoch,
            topics=[fetch.FetchTopic(topic=topic, partitions=partitions)],
        )

    everything = [partition(index, 0) for index in range(SESSION_PARTITIONS)]
    session = (await client.ask(request(0, 0, everything), 12)).session_id
    assert session, "no fetch session was given"
    (told,) = (await client.ask(request(session, 1, [partition(0, 1)]), 12)).responses
    (answer,) = told.partitions
    assert len(answer.records) == len(batch_bytes(SMALL)), "a fetch in a session gives no records"
    # The offset moves each time, between two that have a record.
    return await _asked(client, 12, lambda number: request(session, number + 2, [partition(0, number % 2)]))


@dataclass
class _Member:
    client: Client
    group_id: str
    member_id: str
    generation: int


async def _member(at: Place) -> _Member:
    """The only member of a group, which is stable."""
    client, group_id = at.client(), at.name("group")
    await client.ask(find_coordinator.FindCoordinatorRequest(key=group_id), 3)
    protocol = join_group.JoinGroupRequestProtocol(name="range", metadata=b"")
    joined = await client.ask(
        join_group.JoinGroupRequest(
            group_id=group_id,
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=SESSION_MS,
            protocol_type="consumer",
            protocols=[protocol],
        ),
        3,
    )
    assignment = sync_group.SyncGroupRequestAssignment(member_id=joined.member_id, assignment=b"")
    await client.ask(
        sync_group.SyncGroupRequest(
            group_id=group_id, generation_id=joined.generation_id, member_id=joined.member_id, assignments=[assignment]
        ),
        3,
    )
    return _Member(client, group_id, joined.member_id, joined.generation_id)


async def _beating(at: Place) -> Step:
    member = await _member(at)
    request = heartbeat.HeartbeatRequest(
        group_id=member.group_id, generation_id=member.generation, member_id=member.member_id
    )
    return await _asked(member.client, 4, request)


async def _committing(at: Place) -> Step:
    topic = await at.topic()
    member = await _member(at)

    def request(number: int) -> offset_commit.OffsetCommitRequest:
        partition = offset_commit.OffsetCommitRequestPartition(
            partition_index=0, committed_offset=number, committed_metadata=""
        )
        return offset_commit.OffsetCommitRequest(
            group_id=member.group_id,
            generation_id_or_member_epoch=member.generation,
            member_id=member.member_id,
            topics=[offset_commit.OffsetCommitRequestTopic(name=topic, partitions=[partition])],
        )

    return await _asked(member.client, 8, request)


STEPS: dict[str, Made] = {
    "decode Produce 9": lambda at: _decoding(produce_request(9, SMALL), 9),
    "decode Produce 13": lambda at: _decoding(produce_request(13, SMALL), 13),
    "encode Produce 9 answered": lambda at: _encoding(_produce_response(), 9),
    "decode Fetch 12": lambda at: _decoding(fetch_request(7, 1 << 20), 12),
    "encode Metadata 12 answered, 100 partitions": lambda at: _encoding(_metadata_response(), 12),
    "check a batch of 1 record": lambda at: _checking(SMALL),
    "check a batch of 128 KB": lambda at: _checking(LARGE),
    "append 1 record, memory": lambda at: _appending(at, "memory", SMALL),
    "append 1 record, local": lambda at: _appending(at, "local", SMALL),
    "append 128 KB, local": lambda at: _appending(at, "local", LARGE),
    "read 1 KB, local": lambda at: _reading(at, 1000, SMALL, 1024),
    "read 1 MB, local": lambda at: _reading(at, 64, LARGE, 1 << 20),
    "Produce 9, bytes to bytes": lambda at: _producing(at, SMALL),
    "Produce 9 of 128 KB, bytes to bytes": lambda at: _producing(at, LARGE),
    "5 Produce 9 together": lambda at: _producing(at, SMALL, together=TOGETHER),
    "Produce 9, acks=all, page cache": lambda at: _producing(at, SMALL, ACKS_ALL),
    "Produce 9, acks=all, on disk": lambda at: _producing(at, SMALL, ACKS_ALL, flush="disk"),
    "5 Produce 9 together, acks=all, on disk": lambda at: _producing(at, SMALL, ACKS_ALL, TOGETHER, "disk"),
    "Produce 9, idempotent": lambda at: _producing_once(at),
    "5 Produce 9 together, idempotent": lambda at: _producing_once(at, TOGETHER),
    "Fetch 12 of 128 KB, bytes to bytes": lambda at: _fetching(at),
    "Fetch 12 in a session of 10 partitions": lambda at: _fetching_in_session(at),
    "Heartbeat 4": lambda at: _beating(at),
    "OffsetCommit 8": lambda at: _committing(at),
}
