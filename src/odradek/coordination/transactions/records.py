"""The records of `__transaction_state`, in Kafka's formats. Each holds the latest transaction of a transactional id.

A key begins with the record's type (int16, 0), a value with its version. A null value is a tombstone: the id was
removed. Sans-IO.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

from odradek.protocol.decoding import decode
from odradek.protocol.encoding import encode
from odradek.protocol.errors import DecodeError
from odradek.protocol.records.transaction import PartitionsSchema, TransactionLogKey, TransactionLogValue
from odradek.records.builder import NewRecord
from odradek.topic_partition import TopicPartition

_SHORT = struct.Struct(">h")
KEY_TYPE = 0
VALUE_VERSION = 1
NO_PRODUCER_ID = -1
NO_EPOCH = -1
NO_TIME = -1


class State(IntEnum):
    """The states of a transaction; the values are those of the log."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7

    @cached_property
    def shown(self) -> str:
        """The state's name in Kafka's tools."""
        return "".join(word.capitalize() for word in self.name.split("_"))

    @property
    def is_prepared(self) -> bool:
        return self in (State.PREPARE_COMMIT, State.PREPARE_ABORT)

    @property
    def rests(self) -> bool:
        """Whether no transaction is open or being completed."""
        return self in (State.EMPTY, State.COMPLETE_COMMIT, State.COMPLETE_ABORT)


class Transaction(NamedTuple):
    """A transactional id's producer and latest transaction. Times in ms."""

    producer_id: int
    epoch: int
    timeout_ms: int
    state: State = State.EMPTY
    partitions: frozenset[TopicPartition] = frozenset()
    updated_ms: int = NO_TIME
    started_ms: int = NO_TIME
    version: int = 0
    """The client's `transaction.version` (KIP-890): 2, or 0 for older clients."""
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    """The new producer id, already returned to the client, when the epochs of the present one are used up."""


def record(transactional_id: str, transaction: Transaction | None, now_ms: int) -> NewRecord:
    """The record of a transaction; the id's tombstone if `transaction` is None."""
    key = _SHORT.pack(KEY_TYPE) + encode(TransactionLogKey(transactional_id=transactional_id), 0)
    return NewRecord(key, None if transaction is None else encode_transaction(transaction), now_ms)


def encode_transaction(transaction: Transaction) -> bytes:
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(transaction.partitions):
        topics.setdefault(topic, []).append(partition)
    partitions = [PartitionsSchema(topic=topic, partition_ids=ids) for topic, ids in topics.items()]
    value = TransactionLogValue(
        producer_id=transaction.producer_id,
        previous_producer_id=transaction.previous_producer_id,
        next_producer_id=transaction.next_producer_id,
        producer_epoch=transaction.epoch,
        transaction_timeout_ms=transaction.timeout_ms,
        transaction_status=transaction.state,
        # As in Kafka: null in state Empty, otherwise a list.
        transaction_partitions=None if transaction.state is State.EMPTY else partitions,
        transaction_last_update_timestamp_ms=transaction.updated_ms,
        transaction_start_timestamp_ms=transaction.started_ms,
        client_transaction_version=transaction.version,
    )
    return _SHORT.pack(VALUE_VERSION) + encode(value, VALUE_VERSION)


def _version(data: bytes) -> int:
    if len(data) < _SHORT.size:
        raise DecodeError("a record of a transaction without its version")
    version: int = _SHORT.unpack_from(data)[0]
    return version


def read_key(key: bytes) -> str | None:
    """The transactional id; None for a record of another type. Raises `DecodeError`."""
    if _version(key) != KEY_TYPE:
        return None
    read: TransactionLogKey = decode(TransactionLogKey, 0, key, _SHORT.size)[0]
    return read.transactional_id


def read_transaction(value: bytes) -> Transaction:
    """The transaction in a record's value. Raises `DecodeError`."""
    version = _version(value)
    if version not in TransactionLogValue.valid_versions:
        raise DecodeError(f"TransactionLogValue has no version {version}")
    read, _ = decode(TransactionLogValue, version, value, _SHORT.size)
    try:
        state = State(read.transaction_status)
    except ValueError as error:
        raise DecodeError(f"no transaction is in state {read.transaction_status}") from error
    return Transaction(
        producer_id=read.producer_id,
        epoch=read.producer_epoch,
        timeout_ms=read.transaction_timeout_ms,
        state=state,
        partitions=frozenset(
            (topic.topic, partition) for topic in read.transaction_partitions or () for partition in topic.partition_ids
        ),
        updated_ms=read.transaction_last_update_timestamp_ms,
        started_ms=read.transaction_start_timestamp_ms,
        version=read.client_transaction_version,
        previous_producer_id=read.previous_producer_id,
        next_producer_id=read.next_producer_id,
    )
