"""What some topics do to a batch before it is appended: look at its records, or compress them anew.

Sans-IO, run in a thread: it is the only way in on which records are parsed, and only topics whose settings ask for it
come here (`cleanup.policy=compact` needs keys, `message.timestamp.before.max.ms` every record's time, and
`compression.type` other than `producer` its codec). Order among batches is kept by the partition.
"""

from __future__ import annotations

from odradek.config import LONG_MAX, LogConfig
from odradek.errors import ErrorCode
from odradek.records.batch import RecordBatch
from odradek.records.compression import Codec
from odradek.records.iteration import MalformedRecords, MissingKeys, iterate, recompress, require_keys

CODECS = {
    "uncompressed": Codec.NONE,
    "gzip": Codec.GZIP,
    "snappy": Codec.SNAPPY,
    "lz4": Codec.LZ4,
    "zstd": Codec.ZSTD,
}
# Refused records that a response names; a batch may hold many more.
RECORD_ERRORS_NAMED = 100


class RecordsRefused(Exception):
    """Records that a topic's settings do not allow: the code, and which (index in the batch, why)."""

    def __init__(self, code: ErrorCode, message: str, record_errors: tuple[tuple[int, str], ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.record_errors = record_errors


class Preparation:
    """What one topic's settings ask for."""

    def __init__(
        self, codec: Codec | None, level: int | None, keys: bool, before_max_ms: int, after_max_ms: int
    ) -> None:
        self.codec = codec
        self.level = level
        self.keys = keys
        self.before_max_ms = before_max_ms
        self.after_max_ms = after_max_ms

    @classmethod
    def of(cls, config: LogConfig) -> Preparation | None:
        """None for a plain topic, whose batches are appended as they come."""
        codec = CODECS.get(config.compression_type)
        level = {
            Codec.GZIP: config.compression_gzip_level,
            Codec.LZ4: config.compression_lz4_level,
            Codec.ZSTD: config.compression_zstd_level,
        }.get(codec if codec is not None else Codec.NONE)
        keys = "compact" in config.cleanup_policy
        create_time = config.timestamp_type == "CreateTime"
        before_max_ms = config.timestamp_before_max_ms if create_time else LONG_MAX
        if codec is None and not keys and before_max_ms == LONG_MAX:
            return None
        return cls(codec, level, keys, before_max_ms, config.timestamp_after_max_ms)

    def wanted(self, batch: RecordBatch) -> bool:
        """Whether this batch must be prepared; one that comes in the topic's codec already need not be compressed."""
        return (
            self.keys or self.before_max_ms != LONG_MAX or (self.codec is not None and self.codec != batch.header.codec)
        )

    def prepare(self, batch: RecordBatch, now_ms: int) -> RecordBatch:
        """The batch to append. Raises `RecordsRefused`. Takes as long as it takes."""
        data = batch.buffers[0] if len(batch.buffers) == 1 else b"".join(batch.buffers)
        try:
            if self.keys:
                require_keys(batch.header, data)
            if self.before_max_ms != LONG_MAX:
                self._check_times(batch, bytes(data), now_ms)
            if self.codec is not None and self.codec != batch.header.codec:
                return recompress(batch, self.codec, self.level)
        except MissingKeys as error:
            named = tuple(
                (index, "a record of a compacted topic needs a key") for index in error.indexes[:RECORD_ERRORS_NAMED]
            )
            raise RecordsRefused(ErrorCode.INVALID_RECORD, str(error), named) from None
        except MalformedRecords as error:
            raise RecordsRefused(ErrorCode.CORRUPT_MESSAGE, str(error)) from None
        return batch

    def _check_times(self, batch: RecordBatch, data: bytes, now_ms: int) -> None:
        earliest, latest = now_ms - self.before_max_ms, now_ms + self.after_max_ms
        bad = [
            (index, f"timestamp {record.timestamp} is not between {earliest} and {latest}")
            for index, record in enumerate(iterate(batch.header, data))
            if record.timestamp >= 0 and not earliest <= record.timestamp <= latest
        ]
        if bad:
            raise RecordsRefused(
                ErrorCode.INVALID_TIMESTAMP,
                f"{len(bad)} records have a timestamp outside the topic's bounds",
                tuple(bad[:RECORD_ERRORS_NAMED]),
            )
