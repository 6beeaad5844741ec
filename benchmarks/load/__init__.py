"""The load of the benchmarks: `load.c`, its requests made here, built and run here.

Role: what a broker gets and how its answers are checked. A request is prepared once and sent again and again; where the
error code, the fetch offset and the records stand in the bytes is found by encoding messages with marks in them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from odradek.protocol.framing import encode_request, encode_response
from odradek.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from odradek.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from tests.reference import free_port

SOURCE = Path(__file__).parent / "load.c"
BUILD = Path(__file__).parents[2] / "build" / "benchmarks"
PRODUCE_VERSION = 9
FETCH_VERSION = 11
# Marks that nothing else in these messages looks like.
ERROR_MARK = 0x5A5B
OFFSET_MARK = 0x5A5B5C5D5E5F6061
RECORDS_MARK = b"\x5a\x5b\x5c\x5d\x5e\x5f\x60\x61"


@cache
def program() -> Path:
    """The load, built when its source is newer."""
    built = BUILD / "load"
    if not built.exists() or built.stat().st_mtime < SOURCE.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        assert compiler, "the benchmarks' load needs a C compiler"
        subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", str(built), str(SOURCE)], check=True)
    return built


def _run(*words: object) -> dict[str, float]:
    done = subprocess.run([str(program()), *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    result: dict[str, float] = json.loads(done.stdout)
    return result


@contextmanager
def _files(*contents: bytes) -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, content in enumerate(contents):
            paths.append(Path(folder) / str(number))
            paths[-1].write_bytes(content)
        yield paths


def produce_frame(topic: str, partition: int, records: int, value_bytes: int, acks: int) -> bytes:
    """A request with one batch."""
    now_ms = time.time_ns() // 1_000_000
    data = batch_bytes(build_batch([NewRecord(None, b"x" * value_bytes, now_ms) for _ in range(records)]))
    written = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=partition, records=data)])
    request = ProduceRequest(acks=acks, timeout_ms=30_000, topic_data=[written])
    return encode_request(request, PRODUCE_VERSION, 1, "load")


def _produce_response(topic: str, error: int) -> bytes:
    answer = TopicProduceResponse(name=topic, partition_responses=[PartitionProduceResponse(error_code=error)])
    return b"".join(bytes(piece) for piece in encode_response(ProduceResponse(responses=[answer]), PRODUCE_VERSION, 1))


def _position(encoded: bytes, mark: bytes) -> int:
    assert encoded.count(mark) == 1
    return encoded.index(mark)


def _produce_error_at(topic: str) -> int:
    return _position(_produce_response(topic, ERROR_MARK), ERROR_MARK.to_bytes(2, "big"))


def fetch_frame(topic: str, partition: int, max_bytes: int, max_wait_ms: int, offset: int = OFFSET_MARK) -> bytes:
    """A request for one partition, full, outside a session."""
    wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes)
    request = FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=1,
        max_bytes=1 << 26,
        session_epoch=-1,
        topics=[FetchTopic(topic=topic, partitions=[wanted])],
    )
    return encode_request(request, FETCH_VERSION, 1, "load")


def _fetch_response(topic: str, error: int, records: bytes) -> bytes:
    data = PartitionData(partition_index=0, error_code=error, aborted_transactions=None, records=records)
    response = FetchResponse(responses=[FetchableTopicResponse(topic=topic, partitions=[data])])
    return b"".join(bytes(piece) for piece in encode_response(response, FETCH_VERSION, 1))


def _fetch_positions(topic: str) -> tuple[int, int, int]:
    """Where the request's offset, the response's error code and the length of its records stand."""
    offset_at = _position(fetch_frame(topic, 0, 1, 0), OFFSET_MARK.to_bytes(8, "big"))
    error_at = _position(_fetch_response(topic, ERROR_MARK, b""), ERROR_MARK.to_bytes(2, "big"))
    records_at = _position(_fetch_response(topic, 0, RECORDS_MARK), RECORDS_MARK) - 4
    return offset_at, error_at, records_at


def produce(
    port: int,
    topic: str,
    *,
    connections: int,
    in_flight: int,
    requests: int,
    acks: int,
    records: int = 1,
    value_bytes: int = 100,
    partitions: int = 1,
) -> dict[str, float]:
    """Produces; connections take the partitions in turns. `seconds`, `p50_ms`, `p99_ms` of a request, `bytes` sent."""
    frames = b"".join(produce_frame(topic, index, records, value_bytes, acks) for index in range(partitions))
    with _files(frames) as (path,):
        return _run("produce", port, path, connections, in_flight, requests, _produce_error_at(topic))


def fetch(
    port: int, topic: str, *, connections: int, requests: int, max_bytes: int, end_offset: int
) -> dict[str, float]:
    """Fetches what is there from offset 0 on, again and again; `bytes` of records received."""
    offset_at, error_at, records_at = _fetch_positions(topic)
    with _files(fetch_frame(topic, 0, max_bytes, 0)) as (path,):
        return _run("fetch", port, path, connections, requests, offset_at, error_at, records_at, end_offset)


def through(port: int, topic: str, *, per_second: int, seconds: int, acks: int, offset: int) -> dict[str, float]:
    """Records of 100 bytes at a steady rate, from `offset` on, to one consumer: `p50_ms` and `p99_ms` from sending to
    receipt."""
    offset_at, error_at, records_at = _fetch_positions(topic)
    produces, fetches = produce_frame(topic, 0, 1, 100, acks), fetch_frame(topic, 0, 1 << 20, 500)
    with _files(produces, fetches) as paths:
        positions = (_produce_error_at(topic), offset_at, error_at, records_at)
        return _run("through", port, *paths, per_second, seconds, *positions, offset)


@contextmanager
def floor(topic: str, file: Path, chunk_bytes: int = 0) -> Iterator[tuple[int, int]]:
    """The least that any broker could do: what arrives goes to a file, an answer goes back; or with `chunk_bytes`, so
    much of the file. Its port, and its process."""
    port = free_port()
    answer = _fetch_response(topic, 0, b"") if chunk_bytes else _produce_response(topic, 0)
    with _files(answer) as (path,):
        words: Sequence[Any] = [program(), "floor", port, file, path, _fetch_positions(topic)[2], chunk_bytes]
        process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            yield port, process.pid
        finally:
            process.kill()
            process.wait()
