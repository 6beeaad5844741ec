"""A produce load that costs far less than any broker: prepared requests out, response bytes counted, nothing decoded.

    python -m benchmarks.raw_produce PORT TOPIC [--connections 16] [--in-flight 5] [--acks 1] [--requests 100000]
                                     [--records 1] [--value-bytes 100] [--partitions 1]

Every connection keeps `in-flight` requests open. All responses of a run have the same length, which is learned from
the first; one with an error ends the run. Prints requests/s and MB/s of record batches, as JSON.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import struct
import time

from odradek.protocol.compiler import decode
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from odradek.records.builder import NewRecord, batch_bytes, build_batch

VERSION = 9


def prepared(topic: str, partition: int, records: int, value_bytes: int, acks: int) -> tuple[bytes, int]:
    """One request frame, and the bytes of its batch."""
    now_ms = time.time_ns() // 1_000_000
    batch = batch_bytes(build_batch([NewRecord(None, b"x" * value_bytes, now_ms) for _ in range(records)]))
    data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=partition, records=batch)])
    request = ProduceRequest(acks=acks, timeout_ms=30_000, topic_data=[data])
    return encode_request(request, VERSION, 1, "load"), len(batch)


class Connection:
    """One connection with a window of open requests."""

    def __init__(self, port: int, frame: bytes, in_flight: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.frame = frame
        self.in_flight = in_flight
        self.pending = b""
        self.received = 0
        self.open = 0

    def learn(self) -> int:
        """Sends one request and reads its response; returns the response's length."""
        self.socket.sendall(self.frame)
        head = self._exactly(4)
        body = self._exactly(struct.unpack(">i", head)[0])
        answer, _ = decode(ProduceResponse, VERSION, body, 5)
        (partition,) = answer.responses[0].partition_responses
        if partition.error_code:
            raise SystemExit(f"produce failed: {partition}")
        return 4 + len(body)

    def _exactly(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            piece = self.socket.recv(count - len(out))
            if not piece:
                raise SystemExit("the broker closed the connection")
            out += piece
        return out


def run(
    port: int,
    topic: str,
    connections: int,
    in_flight: int,
    acks: int,
    requests: int,
    records: int,
    value_bytes: int,
    partitions: int,
) -> dict[str, float]:
    """Runs the load; returns its figures."""
    made = []
    batch_size = 0
    for index in range(connections):
        frame, batch_size = prepared(topic, index % partitions, records, value_bytes, acks)
        made.append(Connection(port, frame, in_flight))
    length = max(connection.learn() for connection in made)
    selector = selectors.DefaultSelector()
    for connection in made:
        connection.socket.setblocking(False)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    started = time.perf_counter()
    sent = done = 0

    def push(connection: Connection) -> None:
        nonlocal sent
        room = min(connection.in_flight - connection.open, requests - sent)
        if room > 0:
            connection.pending += connection.frame * room
            connection.open += room
            sent += room
        if connection.pending:
            try:
                count = connection.socket.send(connection.pending)
            except BlockingIOError:
                count = 0
            connection.pending = connection.pending[count:]
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.pending else 0)
            selector.modify(connection.socket, events, connection)

    for connection in made:
        push(connection)
    while done < requests:
        for key, events in selector.select():
            connection = key.data
            if events & selectors.EVENT_READ:
                piece = connection.socket.recv(262_144)
                if not piece:
                    raise SystemExit("the broker closed the connection")
                connection.received += len(piece)
                count, connection.received = divmod(connection.received, length)
                connection.open -= count
                done += count
            push(connection)
    elapsed = time.perf_counter() - started
    for connection in made:
        connection.socket.close()
    return {
        "requests_per_s": round(requests / elapsed, 1),
        "mb_per_s": round(requests * batch_size / elapsed / 1e6, 2),
        "seconds": round(elapsed, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("topic")
    for name, default in (
        ("connections", 16), ("in-flight", 5), ("acks", 1), ("requests", 100_000), ("records", 1),
        ("value-bytes", 100), ("partitions", 1),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = vars(parser.parse_args())
    print(json.dumps(run(**{key.replace("-", "_"): value for key, value in arguments.items()})))


if __name__ == "__main__":
    main()
