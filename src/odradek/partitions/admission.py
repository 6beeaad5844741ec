"""Decides whether a topic accepts a producer's batch, by its size, transaction, timestamps and sequence number.

Role: the one place where a batch is refused because of its header or its records. Most batches are checked by their
header alone (`Admission`). Where the header's timestamps cannot be right, or the topic's settings need more checks,
`preparation` reads the records first and calls the checks of this module (`check_keys`, `check_times`). The partition
itself refuses all batches while its log is offline, the retention guard blocks, or the disk is full.

Pure: the topic's settings, the time, the coordinator's answer on a transaction and the producer state come in as
arguments, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Sequence

from odradek.config.topic import LogConfig
from odradek.errors import ErrorCode, KafkaError
from odradek.partitions.producer_state import KeptBatch, ProducerState
from odradek.records.batch import (
    CONTROL_BIT,
    LENGTH_OVERHEAD,
    TIMESTAMP_TYPE_BIT,
    TRANSACTIONAL_BIT,
    BatchHeader,
    CorruptBatch,
    InvalidBatch,
    RecordBatch,
)

# The most refused records that a response names; a batch may hold many more.
RECORD_ERRORS_NAMED = 100
_SPECIAL_BITS = TRANSACTIONAL_BIT | CONTROL_BIT


class TimesInDoubt(Exception):
    """The records of a batch must be read for their timestamps before the batch is accepted or refused."""


class RecordsRefused(KafkaError):
    """A topic's settings do not allow some records of a batch; `record_errors` names them: (index in it, why)."""

    def __init__(self, code: ErrorCode, message: str, record_errors: tuple[tuple[int, str], ...] = ()) -> None:
        super().__init__(code, message)
        self.record_errors = record_errors


def unsound(error: InvalidBatch) -> KafkaError:
    """The error for a batch that `check_batch` has refused."""
    corrupt = isinstance(error, CorruptBatch)
    return KafkaError(ErrorCode.CORRUPT_MESSAGE if corrupt else ErrorCode.INVALID_RECORD, str(error))


def check_may_ask(header: BatchHeader, has_transactional_id: bool) -> None:
    """Checks whether the coordinator may be asked about a transactional batch. Raises `KafkaError` where it may not."""
    _check_no_control(header)
    if not has_transactional_id:
        raise KafkaError(
            ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "a transactional batch in a request without a transactional id",
        )


def check_transaction(header: BatchHeader, word: ErrorCode | None) -> None:
    """Checks whether a transactional batch may be written. `word` is the coordinator's answer, None where it was not
    asked. Raises `KafkaError`."""
    _check_no_control(header)
    if word is None:
        raise KafkaError(ErrorCode.INVALID_TXN_STATE, "the record was not part of an ongoing transaction")
    if word is not ErrorCode.NONE:
        raise KafkaError(word)


def _check_no_control(header: BatchHeader) -> None:
    if header.is_control:
        raise KafkaError(ErrorCode.INVALID_RECORD, "clients may not write control batches")


class Admission:
    """The checks of a batch's header by one topic's settings."""

    __slots__ = ("_max_bytes", "_max_message_bytes", "_segment_bytes", "_timestamp_after_max_ms", "has_log_append_time")

    def __init__(self, config: LogConfig) -> None:
        self._max_message_bytes = config.max_message_bytes
        self._segment_bytes = config.segment_bytes
        self._max_bytes = min(config.max_message_bytes, config.segment_bytes)
        self._timestamp_after_max_ms = config.timestamp_after_max_ms
        self.has_log_append_time = config.timestamp_type == "LogAppendTime"

    def admit(
        self,
        batch: RecordBatch,
        now_ms: int,
        producers: ProducerState,
        word: ErrorCode | None = None,
        looked_into: bool = False,
    ) -> RecordBatch | KeptBatch:
        """Returns the batch as it is to be written, or the appended batch that it repeats. `word` is the coordinator's
        answer whether the batch belongs to an open transaction (None where it was not asked); `looked_into` says that
        the records' timestamps have been checked. Raises `KafkaError`, or `TimesInDoubt` where they must be checked
        first."""
        header = batch.header
        if header.batch_length > self._max_bytes - LENGTH_OVERHEAD:
            raise self._too_large(batch.size)
        if header.attributes & _SPECIAL_BITS:
            check_transaction(header, word)
        if header.base_offset != 0:
            # As in Kafka: the broker assigns the offsets, so a producer must not expect others.
            raise KafkaError(
                ErrorCode.INVALID_RECORD, f"a producer's batch begins at offset 0, not {header.base_offset}"
            )
        if self.has_log_append_time:
            batch = batch.with_log_append_time(now_ms)
        # The condition of `Preparation.in_doubt`, inlined to save a call.
        elif (
            not 0 <= header.base_timestamp <= header.max_timestamp <= now_ms + self._timestamp_after_max_ms
            and not looked_into
        ):
            raise TimesInDoubt
        elif header.attributes & TIMESTAMP_TYPE_BIT:
            batch = batch.with_header(header._replace(attributes=header.attributes & ~TIMESTAMP_TYPE_BIT))
        if header.producer_id >= 0:
            if header.base_sequence < 0 or header.producer_epoch < 0:
                raise KafkaError(
                    ErrorCode.INVALID_RECORD, "a batch with a producer id needs an epoch and a sequence number"
                )
            kept = producers.check(header)
            if kept is not None:
                return kept
        return batch

    def _too_large(self, size: int) -> KafkaError:
        if size > self._max_message_bytes:
            return KafkaError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"the batch has {size} bytes, max.message.bytes is {self._max_message_bytes}",
            )
        return KafkaError(
            ErrorCode.RECORD_LIST_TOO_LARGE, f"the batch has {size} bytes, segment.bytes is {self._segment_bytes}"
        )


# --- what the records say --------------------------------------------------------------------------------------------


def check_keys(keyless: Sequence[int]) -> None:
    """Checks a batch of a compacted topic: `keyless` are the indexes of its records without a key. Raises
    `RecordsRefused` where there are any."""
    if not keyless:
        return
    named = tuple((index, "a record of a compacted topic needs a key") for index in keyless[:RECORD_ERRORS_NAMED])
    raise RecordsRefused(ErrorCode.INVALID_RECORD, f"{len(keyless)} records have no key", named)


def check_times(untimely: Sequence[tuple[int, int]], earliest: int, latest: int) -> None:
    """Checks timestamps: `untimely` are the records outside the topic's bounds, (index, timestamp). Raises
    `RecordsRefused` where there are any."""
    if not untimely:
        return
    raise RecordsRefused(
        ErrorCode.INVALID_TIMESTAMP,
        f"{len(untimely)} records have a timestamp outside the topic's bounds",
        tuple(
            (index, f"timestamp {timestamp} is not between {earliest} and {latest}")
            for index, timestamp in untimely[:RECORD_ERRORS_NAMED]
        ),
    )


def check_log_time(header: BatchHeader, max_timestamp: int) -> None:
    """Checks a batch whose records have at most `max_timestamp`: one with the LogAppendTime bit must have a timestamp.
    Raises `RecordsRefused`."""
    if header.has_log_append_time and max_timestamp < 0:
        why = "the batch says that its time is the log's, but has none"
        named = tuple((index, why) for index in range(min(header.record_count, RECORD_ERRORS_NAMED)))
        raise RecordsRefused(ErrorCode.INVALID_TIMESTAMP, why, named)
