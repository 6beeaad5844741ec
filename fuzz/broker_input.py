"""Requests of every API and version, filled at random and mutated, against a live broker in this process.

    python -m fuzz.broker_input [--seed 1] [--requests 20000]

Invariant: whatever arrives, the broker answers or closes that connection; no handler fails (a line "a request failed"
is our own mistake), memory held for requests returns to nothing, and a bystander's produce and fetch go on,
whatever its headers say of time. A seed that breaks it is run again by number.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import struct
from typing import Any

from odradek.logs import ROOT, JsonFormatter
from odradek.protocol.encoding import encode
from odradek.protocol.fields import Struct, resolve_fields
from odradek.protocol.framing import RequestHeader
from odradek.protocol.registry import APIS
from odradek.records.batch import read_header
from tests.batches import with_header
from tests.protocol.random_messages import random_message
from tests.raw_client import Closed, RawClient, batch, records_of
from tests.serving import Serving

# What a request refers to, so that it gets past the first check now and then.
TOPICS = ("fuzz", "fuzz", "bystander", "other", "__x", "a.b", "a_b")
ANSWER_TIMEOUT_S = 5.0
# Max timestamps that cannot be those of a batch of now: its records are asked.
LIES_ABOUT_TIME = (-(2**63), -2, -1, 0, 1, 2**62, 2**63 - 1)


def plausible(value: Any, choose: random.Random, topic_id: bytes) -> None:
    """Gives names, ids, indexes and times that exist to some fields."""
    if isinstance(value, list):
        for item in value:
            plausible(item, choose, topic_id)
    elif isinstance(value, Struct):
        for field in resolve_fields(type(value)):
            inner = getattr(value, field.name)
            if choose.random() < 0.3:
                pass
            elif field.element == "string" and isinstance(inner, str) and "name" in field.name + "_name":
                setattr(value, field.name, choose.choice(TOPICS))
            elif field.element == "uuid" and not field.is_array:
                setattr(value, field.name, topic_id)
            elif field.name in ("partition", "partition_index", "index"):
                setattr(value, field.name, choose.randrange(3))
            elif field.name in ("max_wait_ms", "timeout_ms"):
                setattr(value, field.name, choose.choice((0, 1, 5)))
            elif field.name in ("num_partitions", "count"):
                setattr(value, field.name, choose.choice((-1, 0, 1, 3)))
            elif field.element == "records":
                setattr(value, field.name, choose.choice((batch(b"x"), batch(b"y" * 100), b"", b"\0" * 70)))
            else:
                plausible(inner, choose, topic_id)


def mutate(data: bytes, choose: random.Random) -> bytes:
    """Now and then: bytes changed, cut out, doubled, or the end cut off."""
    if not data or choose.random() < 0.5:
        return data
    changed = bytearray(data)
    for _ in range(choose.randint(1, 4)):
        position = choose.randrange(len(changed))
        what = choose.random()
        if what < 0.6:
            changed[position] = choose.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, choose.randrange(256)))
        elif what < 0.75:
            del changed[position : position + choose.randint(1, 8)]
        elif what < 0.9:
            changed[position:position] = changed[position : position + choose.randint(1, 8)]
        else:
            del changed[position:]
        if not changed:
            break
    return bytes(changed)


def run(seed: int, requests: int) -> dict[str, int]:
    """Sends the requests; raises AssertionError where the invariant breaks. Returns what happened how often."""
    choose = random.Random(seed)
    failures: list[dict[str, Any]] = []

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR or record.exc_info:
                failures.append(json.loads(JsonFormatter().format(record)))

    watch, logger = Watch(), logging.getLogger(ROOT)
    logger.addHandler(watch)
    propagates, logger.propagate = logger.propagate, False
    counts = {"answered": 0, "closed": 0, "silent": 0}
    try:
        with Serving(socket__request__max__bytes="1000000") as serving:
            with RawClient(serving.port) as bystander:
                _send_all(serving, bystander, choose, requests, counts, failures)
            held = serving.look(lambda: serving.shared.memory.used_bytes)
            assert held == 0, f"seed {seed}: {held} bytes are still held"
    finally:
        logger.removeHandler(watch)
        logger.propagate = propagates
    return counts


def _send_all(
    serving: Serving,
    bystander: RawClient,
    choose: random.Random,
    requests: int,
    counts: dict[str, int],
    failures: list[dict[str, Any]],
) -> None:
    from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse

    topics = [MetadataRequestTopic(name=name) for name in ("fuzz", "bystander")]
    made = bystander.call(MetadataRequest(topics=topics), MetadataResponse, 10)
    topic_id = made.topics[0].topic_id
    client: RawClient | None = None
    for number in range(requests):
        api = choose.choice(APIS)
        version = choose.randint(api.served.first, api.served.last)
        message = random_message(api.request, version, choose)
        plausible(message, choose, topic_id)
        # The bystander's topic is its own.
        flexible = version in api.request.flexible_versions
        header = RequestHeader(
            request_api_key=api.key, request_api_version=version, correlation_id=number, client_id="fuzz"
        )
        body = encode(header, 2 if flexible else 1) + mutate(encode(message, version), choose)
        if client is None:
            client = RawClient(serving.port)
            client.socket.settimeout(ANSWER_TIMEOUT_S)
        try:
            client.send_bytes(struct.pack(">i", len(body)) + body)
            if api.name == "Produce" and getattr(message, "acks", 1) == 0:
                counts["silent"] += 1
                client.socket.settimeout(0.05)
            client.receive_frame()
            counts["answered"] += 1
        except (Closed, ConnectionError):
            counts["closed"] += 1
            client.socket.close()
            client = None
        except TimeoutError:
            # Produce with acks=0, or a Fetch that was mutated into a long wait.
            client.socket.close()
            client = None
        else:
            client.socket.settimeout(ANSWER_TIMEOUT_S)
        assert not failures, f"request {number}, {api.name} version {version}: {failures[0]}\n{message}"
        if number % 50 == 0:
            bystander.call(MetadataRequest(topics=topics), MetadataResponse, 10)
            good = batch(b"%d" % number)
            lie = choose.choice((None, *LIES_ABOUT_TIME))
            written = bystander.produce("bystander", good if lie is None else with_header(good, max_timestamp=lie))
            assert written.error_code == 0, f"request {number}: {written}"
            kept = bystander.fetch("bystander", written.base_offset).records
            (record,) = records_of(kept)
            assert record.value == b"%d" % number
            assert read_header(kept).max_timestamp == record.timestamp, f"request {number}, max timestamp {lie}"
    if client is not None:
        client.socket.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=20_000)
    arguments = parser.parse_args()
    print(run(arguments.seed, arguments.requests))  # noqa: T201


if __name__ == "__main__":
    main()
