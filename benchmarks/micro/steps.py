"""The steps that are measured: each is a function that does one of them n times, and need not leave the event loop.

Role: the table `STEPS`, by name. What a step needs (an engine in a folder, a server without a socket) `place` makes.
Everything that lasts longer than the step itself (flushes, say) is kept out by `odradek.flush=os`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from odradek.clock import SystemClock
from odradek.config import BrokerConfig, LogConfig
from odradek.engines.interface import Engine, LogIdentity
from odradek.engines.local import LocalEngine
from odradek.engines.memory import MemoryEngine
from odradek.network.connection import Connection
from odradek.protocol.compiler import decode, encode, encoder
from odradek.protocol.fields import Message
from odradek.protocol.framing import encode_request
from odradek.protocol.messages import fetch, metadata, produce
from odradek.records.batch import RecordBatch, check_batch
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from odradek.server import Server

Step = Callable[[int], None]
SMALL_BYTES, LARGE_BYTES = 100, 1000
LARGE_RECORDS = 128
TOPIC = "steps"
# After what is done once: creating a topic, filling it.
SETTLED_S = 0.2
TOPIC_ID = bytes(range(16))
# A log of small batches would grow for as long as it is measured.
SEGMENT_BYTES = 1 << 26
CONFIG = LogConfig(flush="os", segment_bytes=SEGMENT_BYTES)


def batch_of(records: int, value_bytes: int) -> RecordBatch:
    made = build_batch(NewRecord(None, b"v" * value_bytes, 1_000) for _ in range(records))
    return check_batch(batch_bytes(made))


SMALL, LARGE = batch_of(1, SMALL_BYTES), batch_of(LARGE_RECORDS, LARGE_BYTES)


class Transport(asyncio.Transport):
    """Where a connection writes to when there is no socket."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = 0

    def write(self, data: Any) -> None:
        self.written += len(data)

    def writelines(self, list_of_data: Any) -> None:
        self.written += sum(map(len, list_of_data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Place:
    """What the steps work on."""

    def __init__(self, folder: Path, server: Server, engines: dict[str, Engine]) -> None:
        self.folder = folder
        self.server = server
        self.engines = engines
        self._names = itertools.count()

    async def log(self, engine: str) -> Any:
        identity = LogIdentity(f"log-{next(self._names)}", TOPIC_ID, 0)
        return await self.engines[engine].open(identity, CONFIG)

    def connection(self) -> tuple[Connection, Transport]:
        assert self.server.listeners is not None
        connection, transport = Connection(self.server.listeners.shared, "PLAINTEXT"), Transport()
        connection.connection_made(transport)
        return connection, transport


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    settings = {"listeners": "PLAINTEXT://127.0.0.1:0", "log.dirs": str(folder / "server"), "odradek.flush": "os"}
    server = Server(BrokerConfig(settings))
    engines: dict[str, Engine] = {
        "memory": MemoryEngine(),
        "local": LocalEngine(folder / "local", BrokerConfig(), SystemClock()),
    }
    await server.start()
    for engine in engines.values():
        await engine.start()
    try:
        yield Place(folder, server, engines)
    finally:
        for connection in list(server.listeners.shared.connections) if server.listeners else ():
            connection.connection_lost(None)
        for engine in engines.values():
            await engine.stop()
        await server.stop()


# --- codecs ----------------------------------------------------------------------------------------------------------


def _decoding(message: Message, version: int) -> Step:
    data, cls = encode(message, version), type(message)

    def step(count: int) -> None:
        for _ in range(count):
            decode(cls, version, data)

    return step


def _encoding(message: Message, version: int) -> Step:
    write = encoder(type(message), version)

    def step(count: int) -> None:
        for _ in range(count):
            pieces: list[Any] = []
            write(message, pieces.append)

    return step


def produce_request(version: int, batch: RecordBatch, topic_id: bytes = TOPIC_ID) -> produce.ProduceRequest:
    data = produce.PartitionProduceData(index=0, records=batch_bytes(batch))
    named = version < 13
    topic = produce.TopicProduceData(
        name=TOPIC if named else "", topic_id=bytes(16) if named else topic_id, partition_data=[data]
    )
    return produce.ProduceRequest(acks=1, timeout_ms=30_000, topic_data=[topic])


def fetch_request(offset: int, max_bytes: int) -> fetch.FetchRequest:
    wanted = fetch.FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=max_bytes)
    return fetch.FetchRequest(max_wait_ms=0, min_bytes=1, topics=[fetch.FetchTopic(topic=TOPIC, partitions=[wanted])])


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

    def step(count: int) -> None:
        for _ in range(count):
            log.append(batches, epoch)

    return step


async def _reading(at: Place, batches: int, batch: RecordBatch, max_bytes: int) -> Step:
    log = await at.log("local")
    for _ in range(batches):
        await log.append([batch], log.epoch).durable
    records = batch.header.last_offset_delta + 1
    end = log.durable_end

    def step(count: int) -> None:
        for number in range(count):
            found = log.read(number * records % end, max_bytes, end)
            assert isinstance(found, list)

    return step


# --- a request, from bytes to bytes ----------------------------------------------------------------------------------


async def _asked(at: Place, request: Message, version: int) -> Step:
    """Bytes in, bytes out, through connection, dispatch, handler, partition and engine."""
    connection, transport = at.connection()
    made, _ = at.connection()
    creating = encode_request(metadata.MetadataRequest(topics=[metadata.MetadataRequestTopic(name=TOPIC)]), 9, 1, "s")
    _receive(made, creating)
    await asyncio.sleep(SETTLED_S)
    filled, _ = at.connection()
    if isinstance(request, fetch.FetchRequest):
        _receive(filled, encode_request(produce_request(9, LARGE), 9, 1, "s"))
        await asyncio.sleep(SETTLED_S)
    frame = encode_request(request, version, 1, "steps")
    before = transport.written
    _receive(connection, frame)
    await asyncio.sleep(SETTLED_S)
    assert transport.written > before, "a request has no answer"

    def step(count: int) -> None:
        before = transport.written
        for _ in range(count):
            _receive(connection, frame)
        assert transport.written > before

    return step


def _receive(connection: Connection, frame: bytes) -> None:
    done = 0
    while done < len(frame):
        view = connection.get_buffer(-1)
        count = min(len(view), len(frame) - done)
        view[:count] = frame[done : done + count]
        connection.buffer_updated(count)
        done += count


async def _plain(step: Step) -> Step:
    return step


Made = Callable[[Place], Any]

STEPS: dict[str, Made] = {
    "decode Produce 9": lambda at: _plain(_decoding(produce_request(9, SMALL), 9)),
    "decode Produce 13": lambda at: _plain(_decoding(produce_request(13, SMALL), 13)),
    "encode Produce 9 answered": lambda at: _plain(
        _encoding(
            produce.ProduceResponse(
                responses=[
                    produce.TopicProduceResponse(
                        name=TOPIC, partition_responses=[produce.PartitionProduceResponse(base_offset=7)]
                    )
                ]
            ),
            9,
        )
    ),
    "decode Fetch 12": lambda at: _plain(_decoding(fetch_request(7, 1 << 20), 12)),
    "encode Metadata 12 answered, 100 partitions": lambda at: _plain(_encoding(_metadata_response(), 12)),
    "check a batch of 1 record": lambda at: _plain(_checking(SMALL)),
    "check a batch of 128 KB": lambda at: _plain(_checking(LARGE)),
    "append 1 record, memory": lambda at: _appending(at, "memory", SMALL),
    "append 1 record, local": lambda at: _appending(at, "local", SMALL),
    "append 128 KB, local": lambda at: _appending(at, "local", LARGE),
    "read 1 KB, local": lambda at: _reading(at, 1000, SMALL, 1024),
    "read 1 MB, local": lambda at: _reading(at, 64, LARGE, 1 << 20),
    "Produce 9, bytes to bytes": lambda at: _asked(at, produce_request(9, SMALL), 9),
    "Produce 9 of 128 KB, bytes to bytes": lambda at: _asked(at, produce_request(9, LARGE), 9),
    "Fetch 12 of 128 KB, bytes to bytes": lambda at: _asked(at, fetch_request(0, 1 << 17), 12),
}


def _checking(batch: RecordBatch) -> Step:
    data = batch_bytes(batch)

    def step(count: int) -> None:
        for _ in range(count):
            check_batch(data)

    return step
