"""What the codecs cost: our compiled ones beside kio's, in one run, on the messages of the hot paths.

    python -m benchmarks.codec [--rounds N]

Prints one line a message: microseconds to decode and to encode, ours and kio's, and how many times faster ours is.
Each figure is the best of several rounds, the two codecs taking turns, so that a busy machine hurts both alike.
Needs kio (requirements-test.txt), whose readers are compiled from Rust and whose writers are Python. Also prints what
importing costs: the messages, and the first codec of one.
"""

from __future__ import annotations

import argparse
import importlib
import io
import subprocess
import sys
from collections.abc import Callable
from timeit import Timer
from typing import Any

from kio.serial import entity_reader, entity_writer

from odradek.protocol.decoding import decoder
from odradek.protocol.encoding import encode, encoder
from odradek.protocol.fields import Message
from odradek.protocol.messages import fetch, metadata, produce
from odradek.protocol.registry import BY_NAME

CALLS = 2_000
TOPIC_ID = bytes(range(16))


def cases() -> list[tuple[str, Message, int]]:
    """(what it is, the message, its version)."""
    records = bytes(200)
    produced = produce.PartitionProduceData(index=3, records=records)
    answered = produce.PartitionProduceResponse(index=3, base_offset=12_345, log_start_offset=0)
    wanted = [fetch.FetchPartition(partition=index, fetch_offset=index) for index in range(10)]
    fetched = [fetch.PartitionData(partition_index=index, high_watermark=9, records=records) for index in range(10)]
    partitions = [
        metadata.MetadataResponsePartition(partition_index=index, leader_id=1, replica_nodes=[1], isr_nodes=[1])
        for index in range(100)
    ]
    return [
        (
            "Produce 9, one partition",
            produce.ProduceRequest(
                acks=-1,
                timeout_ms=30_000,
                topic_data=[produce.TopicProduceData(name="flights", partition_data=[produced])],
            ),
            9,
        ),
        (
            "Produce 9 answered",
            produce.ProduceResponse(
                responses=[produce.TopicProduceResponse(name="flights", partition_responses=[answered])]
            ),
            9,
        ),
        (
            "Produce 12 answered",
            produce.ProduceResponse(
                responses=[produce.TopicProduceResponse(name="flights", partition_responses=[answered])]
            ),
            12,
        ),
        (
            "Fetch 17, ten partitions",
            fetch.FetchRequest(
                max_wait_ms=500, min_bytes=1, topics=[fetch.FetchTopic(topic_id=TOPIC_ID, partitions=wanted)]
            ),
            17,
        ),
        (
            "Fetch 17 answered",
            fetch.FetchResponse(
                responses=[fetch.FetchableTopicResponse(topic_id=TOPIC_ID, partitions=fetched)], session_id=1
            ),
            17,
        ),
        (
            "Metadata 12 answered, 100 partitions",
            metadata.MetadataResponse(
                brokers=[metadata.MetadataResponseBroker(node_id=1, host="127.0.0.1", port=9092)],
                cluster_id="cluster",
                topics=[metadata.MetadataResponseTopic(name="flights", topic_id=TOPIC_ID, partitions=partitions)],
            ),
            12,
        ),
    ]


def best(rounds: int, *actions: Callable[[], Any]) -> list[float]:
    """The best microseconds a call of each action, the actions taking turns."""
    timers = [Timer(action) for action in actions]
    calls = [max(20, min(CALLS, int(CALLS * 1e-5 / max(timer.timeit(1), 1e-9)))) for timer in timers]
    found = [float("inf")] * len(actions)
    for _ in range(rounds):
        for index, timer in enumerate(timers):
            found[index] = min(found[index], timer.timeit(calls[index]) / calls[index] * 1e6)
    return found


def compare(title: str, message: Message, version: int, rounds: int) -> None:
    cls = type(message)
    data = encode(message, version)
    ours_read, ours_write = decoder(cls, version), encoder(cls, version)
    side = "request" if cls.__name__.endswith("Request") else "response"
    api = BY_NAME[cls.__name__.removesuffix("Request").removesuffix("Response")]
    theirs = getattr(importlib.import_module(f"kio.schema.{api.module}.v{version}.{side}"), cls.__name__)
    their_read, their_write = entity_reader(theirs), entity_writer(theirs)
    entity = their_read(data, 0)[0]

    def write() -> None:
        pieces: list[Any] = []
        ours_write(message, pieces.append)

    read_us, their_read_us, write_us, their_write_us = best(
        rounds,
        lambda: ours_read(data),
        lambda: their_read(data, 0),
        write,
        lambda: their_write(io.BytesIO(), entity),
    )
    print(
        f"{title:38} decode {read_us:7.2f} us, kio {their_read_us:8.2f} ({their_read_us / read_us:5.1f}x)   "
        f"encode {write_us:7.2f} us, kio {their_write_us:8.2f} ({their_write_us / write_us:5.1f}x)"
    )


IMPORTS = """
from time import perf_counter as now
import odradek.protocol.decoding, odradek.protocol.registry as r
a = now(); [(api.request, api.response) for api in r.APIS]; b = now()
odradek.protocol.decoding.decoder(r.BY_NAME["Produce"].request, 9); c = now()
print(f"importing the messages of {len(r.APIS)} APIs: {(b - a) * 1e3:.1f} ms")
print(f"compiling a decoder: {(c - b) * 1e3:.1f} ms")
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=15, help="rounds of which the best counts")
    rounds = arguments.parse_args().rounds
    for title, message, version in cases():
        compare(title, message, version, rounds)
    print(subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True).stdout, end="")


if __name__ == "__main__":
    main()
