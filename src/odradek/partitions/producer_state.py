"""What a partition remembers of its idempotent producers, so that a retried batch is kept once (KIP-98).

Sans-IO. For each producer id: the epoch, and the last five batches with their sequence numbers (the Java client keeps
at most five in flight). `check` says what a batch is: next in order, a repetition, or an error; `record` notes that it
was appended. State is made from the log: a snapshot, then `record` for every later batch header.

Deviations from Kafka, for the user's good: the time that expiry counts from is when the batch arrived, not the
records' own time (replaying old events must not forget a live producer); and the snapshot keeps all five batches, in
a trailer that Kafka's reader skips, so that a restart does not turn a repetition into a sequence error.

Which producers may write, and transactions, are decided elsewhere.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from crc32c import crc32c

from odradek.errors import ErrorCode, KafkaError
from odradek.records.batch import BatchHeader

BATCHES_KEPT = 5
MAX_SEQUENCE = 2**31 - 1
_VERSION = 1
_HEADER = struct.Struct(">hI")  # version, CRC-32C of everything after it
_COUNT = struct.Struct(">i")
_ENTRY = struct.Struct(">qhiqiqiq")
_TRAILER = struct.Struct(">4sIi")  # mark, version, number of batches
_TRAILER_MARK = b"odrk"
_BATCH = struct.Struct(">qiiqq")  # producer id, first and last sequence, last offset, timestamp


class KeptBatch(NamedTuple):
    """An appended batch, as far as a repetition must be known again."""

    first_sequence: int
    last_sequence: int
    last_offset: int
    timestamp_ms: int

    @property
    def base_offset(self) -> int:
        return self.last_offset - ((self.last_sequence - self.first_sequence) & MAX_SEQUENCE)


class Producer:
    """One producer's state. `batches` is oldest first, all of the current epoch."""

    __slots__ = (
        "batches",
        "coordinator_epoch",
        "current_txn_first_offset",
        "epoch",
        "last_timestamp_ms",
        "producer_id",
    )

    def __init__(self, producer_id: int, epoch: int) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self.batches: deque[KeptBatch] = deque(maxlen=BATCHES_KEPT)
        self.last_timestamp_ms = -1
        self.coordinator_epoch = -1
        self.current_txn_first_offset = -1

    @property
    def last_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else -1


class SnapshotDamaged(ValueError):
    """The bytes are not a snapshot of producer state."""


class ProducerState:
    """The producers of one partition."""

    def __init__(self) -> None:
        self.producers: dict[int, Producer] = {}

    def check(self, header: BatchHeader) -> KeptBatch | None:
        """None for a batch to append, the kept batch for a repetition of it. Raises `KafkaError` with
        INVALID_PRODUCER_EPOCH or OUT_OF_ORDER_SEQUENCE_NUMBER, as Kafka does.

        Without any state of the producer (its records are gone, or it is new) every sequence is taken."""
        producer = self.producers.get(header.producer_id)
        if producer is None:
            return None
        first = header.base_sequence
        if header.producer_epoch == producer.epoch:
            last = header.last_sequence
            for kept in producer.batches:
                if kept.first_sequence == first and kept.last_sequence == last:
                    return kept
            expected = (producer.last_sequence + 1) & MAX_SEQUENCE
            if producer.batches and first != expected:
                raise KafkaError(
                    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                    f"producer {header.producer_id} sent sequence {first}, expected was {expected}",
                )
            return None
        if header.producer_epoch < producer.epoch:
            raise KafkaError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"producer {header.producer_id} uses epoch {header.producer_epoch}, the newest is {producer.epoch}",
            )
        if first != 0:
            raise KafkaError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"producer {header.producer_id} begins epoch {header.producer_epoch} with sequence {first}, not 0",
            )
        return None

    def record(self, header: BatchHeader, base_offset: int, now_ms: int) -> None:
        """Notes an appended batch that carries a producer id."""
        producer = self.producers.get(header.producer_id)
        if producer is None:
            producer = self.producers[header.producer_id] = Producer(header.producer_id, header.producer_epoch)
        elif producer.epoch != header.producer_epoch:
            producer.epoch = header.producer_epoch
            producer.batches.clear()
        producer.last_timestamp_ms = now_ms
        if header.base_sequence >= 0:
            last_offset = base_offset + header.last_offset_delta
            producer.batches.append(KeptBatch(header.base_sequence, header.last_sequence, last_offset, now_ms))

    def expire(self, now_ms: int, expiration_ms: int) -> int:
        """Forgets producers that were silent longer than `expiration_ms`; returns how many. One heard of in the future
        (the clock was set back) counts as heard of now, else it would be kept until then."""
        for producer in self.producers.values():
            producer.last_timestamp_ms = min(producer.last_timestamp_ms, now_ms)
        gone = [
            producer_id
            for producer_id, producer in self.producers.items()
            if now_ms - producer.last_timestamp_ms >= expiration_ms and producer.current_txn_first_offset < 0
        ]
        for producer_id in gone:
            del self.producers[producer_id]
        return len(gone)

    def replay(self, headers: Iterable[BatchHeader], now_ms: int) -> None:
        """Notes the batches of a log, in their order."""
        for header in headers:
            if header.producer_id >= 0:
                self.record(header, header.base_offset, now_ms)

    def to_snapshot(self) -> bytes:
        """The state in the bytes of Kafka's `.snapshot` file (version 1), with our trailer."""
        entries = [_COUNT.pack(len(self.producers))]
        batches = []
        for producer in self.producers.values():
            last = producer.batches[-1] if producer.batches else None
            entries.append(
                _ENTRY.pack(
                    producer.producer_id,
                    producer.epoch,
                    last.last_sequence if last else -1,
                    last.last_offset if last else -1,
                    last.last_offset - last.base_offset if last else 0,
                    producer.last_timestamp_ms,
                    producer.coordinator_epoch,
                    producer.current_txn_first_offset,
                )
            )
            batches += [
                _BATCH.pack(producer.producer_id, b.first_sequence, b.last_sequence, b.last_offset, b.timestamp_ms)
                for b in producer.batches
            ]
        body = b"".join([*entries, _TRAILER.pack(_TRAILER_MARK, 1, len(batches)), *batches])
        return _HEADER.pack(_VERSION, crc32c(body)) + body

    @classmethod
    def from_snapshot(cls, data: bytes) -> ProducerState:
        """Reads `to_snapshot`'s bytes, or a file of Apache Kafka's. Raises `SnapshotDamaged`."""
        state = cls()
        try:
            version, crc = _HEADER.unpack_from(data, 0)
            if version != _VERSION:
                raise SnapshotDamaged(f"version {version} is unknown")
            if crc32c(memoryview(data)[_HEADER.size :]) != crc:
                raise SnapshotDamaged("the checksum does not match")
            position = _HEADER.size
            (count,) = _COUNT.unpack_from(data, position)
            position += _COUNT.size
            for _ in range(count):
                producer_id, epoch, last_sequence, last_offset, delta, timestamp, coordinator, txn = _ENTRY.unpack_from(
                    data, position
                )
                position += _ENTRY.size
                producer = state.producers[producer_id] = Producer(producer_id, epoch)
                producer.last_timestamp_ms = timestamp
                producer.coordinator_epoch = coordinator
                producer.current_txn_first_offset = txn
                if last_sequence >= 0:
                    first_sequence = (last_sequence - delta) & MAX_SEQUENCE
                    producer.batches.append(KeptBatch(first_sequence, last_sequence, last_offset, timestamp))
            if data[position : position + 4] == _TRAILER_MARK:
                _, _, count = _TRAILER.unpack_from(data, position)
                position += _TRAILER.size
                for producer in state.producers.values():
                    producer.batches.clear()
                for _ in range(count):
                    producer_id, *batch = _BATCH.unpack_from(data, position)
                    position += _BATCH.size
                    state.producers[producer_id].batches.append(KeptBatch(*batch))
        except (struct.error, KeyError) as error:
            raise SnapshotDamaged(f"cut short or contradictory: {error}") from None
        return state
