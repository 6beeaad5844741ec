"""Prepares some batches before they are appended: reads their records, or recompresses them.

Sans-IO, and runs in a thread. This is the only part of the produce path that parses records. It is used for topics
whose settings need it (`cleanup.policy=compact` needs keys, `message.timestamp.before.max.ms` every record's timestamp,
a `compression.type` other than `producer` its codec). On any topic it is used for batches whose header's timestamps
cannot be right or would have the batch refused: the records' own timestamps decide. `admission` checks what is found
here; `appending` keeps the order of batches.
"""

from __future__ import annotations

from odradek.config.bounds import LONG_MAX
from odradek.config.topic import LogConfig
from odradek.errors import ErrorCode
from odradek.partitions.admission import RecordsRefused, check_keys, check_log_time, check_times
from odradek.records.batch import NO_TIMESTAMP, BatchHeader, RecordBatch
from odradek.records.compression import Codec
from odradek.records.iteration import DECOMPRESSED_MAX_BYTES, MalformedRecords, iterate, recompress

CODECS = {
    "uncompressed": Codec.NONE,
    "gzip": Codec.GZIP,
    "snappy": Codec.SNAPPY,
    "lz4": Codec.LZ4,
    "zstd": Codec.ZSTD,
}


class Preparation:
    """The preparation that one topic's settings need."""

    def __init__(
        self,
        codec: Codec | None = None,
        level: int | None = None,
        *,
        keys: bool = False,
        create_time: bool = True,
        before_max_ms: int = LONG_MAX,
        after_max_ms: int = LONG_MAX,
        max_bytes: int = DECOMPRESSED_MAX_BYTES,
    ) -> None:
        self.codec = codec
        self.level = level
        self.keys = keys
        self.create_time = create_time
        """Whether the topic uses the records' own timestamps (CreateTime)."""
        self.before_max_ms = before_max_ms
        self.after_max_ms = after_max_ms
        self.max_bytes = max_bytes
        """The most decompressed bytes of a batch whose records are read."""
        self.is_plain = codec is None and not keys and before_max_ms == LONG_MAX
        """Whether only batches whose headers are in doubt need preparation."""

    @classmethod
    def of(cls, config: LogConfig) -> Preparation:
        codec = CODECS.get(config.compression_type)
        level = {
            Codec.GZIP: config.compression_gzip_level,
            Codec.LZ4: config.compression_lz4_level,
            Codec.ZSTD: config.compression_zstd_level,
        }.get(codec if codec is not None else Codec.NONE)
        create_time = config.timestamp_type == "CreateTime"
        return cls(
            codec,
            level,
            keys="compact" in config.cleanup_policy,
            create_time=create_time,
            before_max_ms=config.timestamp_before_max_ms if create_time else LONG_MAX,
            after_max_ms=config.timestamp_after_max_ms if create_time else LONG_MAX,
            max_bytes=config.decompressed_max_bytes,
        )

    def wanted(self, batch: RecordBatch) -> bool:
        """Whether the topic's settings need this batch prepared. A batch in the topic's codec is not recompressed."""
        return (
            self.keys or self.before_max_ms != LONG_MAX or (self.codec is not None and self.codec != batch.header.codec)
        )

    def in_doubt(self, header: BatchHeader, now_ms: int) -> bool:
        """Whether the records' timestamps must be read, because the header's are unset, contradict each other, or would
        have the batch refused. `Admission.admit` has the same condition."""
        return self.create_time and not (
            0 <= header.base_timestamp <= header.max_timestamp <= now_ms + self.after_max_ms
        )

    def prepare(self, batch: RecordBatch, now_ms: int) -> RecordBatch:
        """Returns the batch to append. Raises `RecordsRefused`. Slow for large batches: run it in a thread."""
        try:
            if self.keys or self.before_max_ms != LONG_MAX or self.in_doubt(batch.header, now_ms):
                batch = self._look_inside(batch, now_ms)
            if self.codec is not None and self.codec != batch.header.codec:
                return recompress(batch, self.codec, self.level, self.max_bytes)
        except MalformedRecords as error:
            raise RecordsRefused(ErrorCode.CORRUPT_MESSAGE, str(error)) from None
        return batch

    def _look_inside(self, batch: RecordBatch, now_ms: int) -> RecordBatch:
        """Checks the records' keys and timestamps; returns the batch with their max timestamp in its header."""
        header = batch.header
        data = batch.buffers[0] if len(batch.buffers) == 1 else b"".join(batch.buffers)
        earliest, latest = now_ms - self.before_max_ms, now_ms + self.after_max_ms
        keyless: list[int] = []
        untimely: list[tuple[int, int]] = []
        max_timestamp = NO_TIMESTAMP
        for index, record in enumerate(iterate(header, data, self.max_bytes)):
            timestamp = record.timestamp
            if timestamp > max_timestamp:
                max_timestamp = timestamp
            if record.key is None and self.keys:
                keyless.append(index)
            if timestamp != NO_TIMESTAMP and not earliest <= timestamp <= latest:
                untimely.append((index, timestamp))
        check_keys(keyless)
        if not self.create_time:
            return batch
        check_times(untimely, earliest, latest)
        check_log_time(header, max_timestamp)
        if max_timestamp == header.max_timestamp:
            return batch
        return batch.with_header(header._replace(max_timestamp=max_timestamp))
