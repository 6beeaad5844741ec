"""The producer state of a partition, by which a retried batch is appended only once (KIP-98).

Sans-IO. For each producer id it holds the epoch, and the last five batches with their sequence numbers (the Java client
has at most five in flight). `check` tells whether a batch is the next in order, a repetition, or an error; `record`
notes that it was appended. The state is made from the log: from a snapshot, then by `replay` of every later batch.

Two deviations from Kafka help users. Expiry counts from the time when a batch arrived, not from the records' timestamps
(a producer that writes old events must not expire while it is active). And the snapshot holds all five batches, in a
trailer that Kafka's reader skips, so that a retry after a restart is no sequence error.

A transaction begins with the producer's first transactional batch and ends with a marker, a control batch from the
transaction coordinator; it is noted in `transactions` and in the producer's state. Other modules decide which producers
may write.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

from crc32c import crc32c

from odradek.engines.interface import AbortedTransaction
from odradek.errors import ErrorCode, KafkaError
from odradek.partitions.transactions import Transactions
from odradek.records.batch import BatchHeader, Buffer
from odradek.records.builder import CONTROL_ABORT, CONTROL_COMMIT, read_control_key
from odradek.records.iteration import iterate
from odradek.records.mending import MENDED_MAX_BYTES, flipped_back
from odradek.replay.snapshots import SnapshotDamaged

BATCHES_KEPT = 5
MAX_SEQUENCE = 2**31 - 1
_VERSION = 1
_HEADER = struct.Struct(">hI")  # version, CRC-32C of everything after it
_COUNT = struct.Struct(">i")
_ENTRY = struct.Struct(">qhiqiqiq")
_TRAILER = struct.Struct(">4sIi")  # mark, version, number of batches
_TRAILER_MARK = b"odrk"
_TRAILER_VERSION = 2  # from 2 on the batches are followed by the aborted transactions
_BATCH = struct.Struct(">qiiqq")  # producer id, first and last sequence, last offset, timestamp
_ABORTED = struct.Struct(">qqq")  # producer id, first offset, marker's offset
_MARKER = struct.Struct(">hi")  # an EndTxnMarker: version, coordinator epoch
NO_COORDINATOR_EPOCH = -1


class KeptBatch(NamedTuple):
    """The fields of an appended batch that are needed to recognise a repetition."""

    first_sequence: int
    last_sequence: int
    last_offset: int
    timestamp_ms: int

    @property
    def base_offset(self) -> int:
        return self.last_offset - ((self.last_sequence - self.first_sequence) & MAX_SEQUENCE)


class Producer:
    """One producer's state. `batches` are those of the current epoch, the oldest first."""

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


class ProducerState:
    """The state of all producers of one partition."""

    def __init__(self) -> None:
        self.producers: dict[int, Producer] = {}
        self.transactions = Transactions()
        self.knows_aborted = True
        """Whether all aborted transactions are known: a snapshot written by Apache Kafka does not hold them."""

    def has_open_transaction(self, producer_id: int, epoch: int) -> bool:
        """Whether the producer has written to this partition in its open transaction."""
        producer = self.producers.get(producer_id)
        return producer is not None and producer.current_txn_first_offset >= 0 and producer.epoch == epoch

    def is_fenced(self, producer_id: int, epoch: int) -> bool:
        """Whether a batch or marker of a newer epoch of the producer stands in this partition."""
        producer = self.producers.get(producer_id)
        return producer is not None and producer.epoch > epoch

    def check(self, header: BatchHeader) -> KeptBatch | None:
        """Returns None for a batch to append; for a repetition, the batch that was appended before. Raises `KafkaError`
        with INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER or INVALID_TXN_STATE, as Kafka does.

        Where there is no state of the producer (its records are deleted, or it is new) any sequence is accepted."""
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
            if first != expected:
                raise KafkaError(
                    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                    f"producer {header.producer_id} sent sequence {first}, expected was {expected}",
                )
            if producer.current_txn_first_offset >= 0 and not header.is_transactional:
                raise KafkaError(
                    ErrorCode.INVALID_TXN_STATE, f"producer {header.producer_id} has a transaction open here"
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
        if header.is_transactional and producer.current_txn_first_offset < 0:
            producer.current_txn_first_offset = base_offset
            self.transactions.begin(header.producer_id, base_offset)

    def check_marker(self, producer_id: int, epoch: int, coordinator_epoch: int) -> None:
        """Checks whether a transaction's marker may be written. Raises `KafkaError` with INVALID_PRODUCER_EPOCH or
        TRANSACTION_COORDINATOR_FENCED."""
        producer = self.producers.get(producer_id)
        if producer is None:
            return
        if epoch < producer.epoch:
            raise KafkaError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"a marker of epoch {epoch} for producer {producer_id}, the newest epoch is {producer.epoch}",
            )
        if coordinator_epoch < producer.coordinator_epoch:
            raise KafkaError(
                ErrorCode.TRANSACTION_COORDINATOR_FENCED,
                f"a marker of coordinator epoch {coordinator_epoch}, the newest is {producer.coordinator_epoch}",
            )

    def record_marker(
        self, header: BatchHeader, base_offset: int, coordinator_epoch: int, committed: bool, now_ms: int
    ) -> None:
        """Notes an appended marker, the end of a producer's transaction."""
        producer = self.producers.get(header.producer_id)
        if producer is None:
            producer = self.producers[header.producer_id] = Producer(header.producer_id, header.producer_epoch)
        elif producer.epoch != header.producer_epoch:
            producer.epoch = header.producer_epoch
            producer.batches.clear()
        producer.last_timestamp_ms = now_ms
        producer.coordinator_epoch = coordinator_epoch
        producer.current_txn_first_offset = -1
        self.transactions.end(header.producer_id, base_offset, committed)

    def expire(self, now_ms: int, expiration_ms: int) -> int:
        """Forgets producers whose last batch is `expiration_ms` old or older; returns how many. A last time in the
        future (the clock was set back) becomes `now_ms`, else such a producer would be kept too long."""
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

    def replay(self, header: BatchHeader, batch: Buffer, now_ms: int) -> None:
        """Notes a checked batch of the log. Call it for all batches in order."""
        if header.producer_id < 0:
            return
        if not header.is_control:
            self.record(header, header.base_offset, now_ms)
        elif (end := read_marker(header, batch)) is not None:
            self.record_marker(header, header.base_offset, *end, now_ms)

    def replay_damaged(self, header: BatchHeader, now_ms: int) -> None:
        """Notes a damaged batch, if its header plausibly continues its producer's state. A damaged marker ends the
        transaction as aborted: it has ended for certain, and records that may have been aborted must not be served."""
        producer = self.producers.get(header.producer_id)
        if producer is None:
            return
        if header.is_control:
            # Transactions of version 2 (KIP-890) raise the producer epoch with each marker.
            if producer.current_txn_first_offset >= 0 and 0 <= header.producer_epoch - producer.epoch <= 1:
                self.record_marker(header, header.base_offset, producer.coordinator_epoch, False, now_ms)
        elif header.producer_epoch == producer.epoch and header.base_sequence == (
            (producer.last_sequence + 1) & MAX_SEQUENCE
        ):
            self.record(header, header.base_offset, now_ms)

    def to_snapshot(self) -> bytes:
        """The state in the format of Kafka's `.snapshot` file (version 1), with Odradek's trailer."""
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
        aborted = [_ABORTED.pack(*one) for one in self.transactions.aborted]
        trailer = [_TRAILER.pack(_TRAILER_MARK, _TRAILER_VERSION, len(batches)), *batches]
        body = b"".join([*entries, *trailer, _COUNT.pack(len(aborted)), *aborted])
        return _HEADER.pack(_VERSION, crc32c(body)) + body

    @classmethod
    def from_snapshot(cls, data: bytes) -> ProducerState:
        """Reads a snapshot from `to_snapshot` or from Apache Kafka. Raises `SnapshotDamaged`."""
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
            state.knows_aborted = data[position : position + 4] == _TRAILER_MARK
            if state.knows_aborted:
                _, trailer_version, count = _TRAILER.unpack_from(data, position)
                position += _TRAILER.size
                for producer in state.producers.values():
                    producer.batches.clear()
                for _ in range(count):
                    producer_id, *batch = _BATCH.unpack_from(data, position)
                    position += _BATCH.size
                    state.producers[producer_id].batches.append(KeptBatch(*batch))
                if trailer_version >= _TRAILER_VERSION:
                    (count,) = _COUNT.unpack_from(data, position)
                    position += _COUNT.size
                    state.transactions.restore(
                        [
                            AbortedTransaction(*_ABORTED.unpack_from(data, position + index * _ABORTED.size))
                            for index in range(count)
                        ]
                    )
        except (struct.error, KeyError) as error:
            raise SnapshotDamaged(f"cut short or contradictory: {error}") from None
        for producer in sorted(state.producers.values(), key=lambda one: one.current_txn_first_offset):
            if producer.current_txn_first_offset >= 0:
                state.transactions.begin(producer.producer_id, producer.current_txn_first_offset)
        return state


def mended_snapshot(data: bytes) -> bytes | None:
    """A damaged snapshot with its one flipped bit corrected; None where no single bit explains the damage."""
    if not _HEADER.size < len(data) <= MENDED_MAX_BYTES:
        return None
    version, crc = _HEADER.unpack_from(data, 0)
    body = memoryview(data)[_HEADER.size :]
    if version != _VERSION:
        is_one_bit = (version ^ _VERSION).bit_count() == 1 and crc32c(body) == crc
        return _HEADER.pack(_VERSION, crc) + body if is_one_bit else None
    found = flipped_back(body, crc)
    return _HEADER.pack(_VERSION, found[0]) + found[1] if found is not None else None


def read_marker(header: BatchHeader, batch: Buffer) -> tuple[int, bool] | None:
    """(coordinator epoch, whether it commits) of a transaction marker; None for another control batch."""
    for record in iterate(header, batch):
        kind = read_control_key(record.key)
        if kind is None or kind[1] not in (CONTROL_ABORT, CONTROL_COMMIT):
            return None
        value = record.value or b""
        epoch = _MARKER.unpack_from(value)[1] if len(value) >= _MARKER.size else NO_COORDINATOR_EPOCH
        return epoch, kind[1] == CONTROL_COMMIT
    return None
