"""Whether a topic takes a producer's batch: its size, its transaction, its times, its sequence number, in this order.

Role: the one place where a batch is refused for what its header or its records say. Most batches are asked by their
header alone (`Admission`). Where that cannot be right about times, or the topic's settings ask more, `preparation`
reads the records first and asks here of what it has found (`check_keys`, `check_times`). That the whole partition takes
nothing at present (its log is offline, the retention guard blocks, the disk is full) is the partition's to say.

Pure: the topic's settings, the time, the coordinator's word on a transaction and what is known of producers come in as
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

# Refused records that a response names; a batch may hold many more.
RECORD_ERRORS_NAMED = 100
_SPECIAL_BITS = TRANSACTIONAL_BIT | CONTROL_BIT


class TimesInDoubt(Exception):
    """A batch whose records must be asked for their times before anything is said of it."""


class RecordsRefused(KafkaError):
    """Records that a topic's settings do not allow: the code, and which (index in the batch, why)."""

    def __init__(self, code: ErrorCode, message: str, record_errors: tuple[tuple[int, str], ...] = ()) -> None:
        super().__init__(code, message)
        self.record_errors = record_errors


def unsound(error: InvalidBatch) -> KafkaError:
    """The answer to a batch that `check_batch` has refused."""
    corrupt = isinstance(error, CorruptBatch)
    return KafkaError(ErrorCode.CORRUPT_MESSAGE if corrupt else ErrorCode.INVALID_RECORD, str(error))


def check_may_ask(header: BatchHeader, has_transactional_id: bool) -> None:
    """Whether the coordinator is to be asked for its word on a transactional batch. Raises `KafkaError`."""
    _check_no_control(header)
    if not has_transactional_id:
        raise KafkaError(
            ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "a transactional batch in a request without a transactional id",
        )


def check_transaction(header: BatchHeader, word: ErrorCode | None) -> None:
    """Whether a transactional batch may be written, by the coordinator's word on it; None where nobody has asked.
    Raises `KafkaError`."""
    _check_no_control(header)
    if word is None:
        raise KafkaError(ErrorCode.INVALID_TXN_STATE, "the record was not part of an ongoing transaction")
    if word is not ErrorCode.NONE:
        raise KafkaError(word)


def _check_no_control(header: BatchHeader) -> None:
    if header.is_control:
        raise KafkaError(ErrorCode.INVALID_RECORD, "clients may not write control batches")


class Admission:
    """What one topic's settings let in."""

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
        """The batch as it is to be written; or the kept one that it repeats. `word` is the coordinator's on whether the
        batch belongs to an open transaction (None: nobody asked), `looked_into` says that the records have been asked
        for their times. Raises `KafkaError`; and `TimesInDoubt` where they have not, and are to be."""
        header = batch.header
        if header.batch_length > self._max_bytes - LENGTH_OVERHEAD:
            raise self._too_large(batch.size)
        if header.attributes & _SPECIAL_BITS:
            check_transaction(header, word)
        if header.base_offset != 0:
            # Kafka's answer; a producer that numbers its batches itself expects something that will not be.
            raise KafkaError(
                ErrorCode.INVALID_RECORD, f"a producer's batch begins at offset 0, not {header.base_offset}"
            )
        if self.has_log_append_time:
            batch = batch.with_log_append_time(now_ms)
        # As `Preparation.in_doubt`, without a call.
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
    """Of a compacted topic: `keyless` are its batch's records without a key, by index. Raises `RecordsRefused`."""
    if not keyless:
        return
    named = tuple((index, "a record of a compacted topic needs a key") for index in keyless[:RECORD_ERRORS_NAMED])
    raise RecordsRefused(ErrorCode.INVALID_RECORD, f"{len(keyless)} records have no key", named)


def check_times(untimely: Sequence[tuple[int, int]], earliest: int, latest: int) -> None:
    """`untimely` are the records outside the topic's bounds: index and timestamp. Raises `RecordsRefused`."""
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
    """Of a batch that says it has the log's time, whose records have at most `max_timestamp`. Raises
    `RecordsRefused`."""
    if header.has_log_append_time and max_timestamp < 0:
        why = "the batch says that its time is the log's, but has none"
        named = tuple((index, why) for index in range(min(header.record_count, RECORD_ERRORS_NAMED)))
        raise RecordsRefused(ErrorCode.INVALID_TIMESTAMP, why, named)
