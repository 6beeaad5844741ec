"""What is done to some batches before they are appended: their records are looked at, or compressed anew.

Sans-IO, run in a thread: it is the only way in on which records are parsed. Here come the batches of topics whose
settings ask for it (`cleanup.policy=compact` needs keys, `message.timestamp.before.max.ms` every record's time, and
`compression.type` other than `producer` its codec), and on any topic those whose headers cannot be right about time,
or would have the batch refused for it: what counts is what the records say. Whether that is taken is said by
`admission`; order among batches is kept by `appending`.
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
    """What one topic's settings ask for."""

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
        """Whether the records' own times count."""
        self.before_max_ms = before_max_ms
        self.after_max_ms = after_max_ms
        self.max_bytes = max_bytes
        """Of a batch that is looked into, decompressed."""
        self.is_plain = codec is None and not keys and before_max_ms == LONG_MAX
        """Whether batches are appended as they come, but for those whose headers are in doubt."""

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
        """Whether this batch must be prepared; one that comes in the topic's codec already need not be compressed."""
        return (
            self.keys or self.before_max_ms != LONG_MAX or (self.codec is not None and self.codec != batch.header.codec)
        )

    def in_doubt(self, header: BatchHeader, now_ms: int) -> bool:
        """Whether the records must be asked for their times: the header's are unset, contradict each other, or would
        have the batch refused. `Admission.admit` asks the same of every batch."""
        return self.create_time and not (
            0 <= header.base_timestamp <= header.max_timestamp <= now_ms + self.after_max_ms
        )

    def prepare(self, batch: RecordBatch, now_ms: int) -> RecordBatch:
        """The batch to append. Raises `RecordsRefused`. Takes as long as it takes."""
        try:
            if self.keys or self.before_max_ms != LONG_MAX or self.in_doubt(batch.header, now_ms):
                batch = self._look_inside(batch, now_ms)
            if self.codec is not None and self.codec != batch.header.codec:
                return recompress(batch, self.codec, self.level, self.max_bytes)
        except MalformedRecords as error:
            raise RecordsRefused(ErrorCode.CORRUPT_MESSAGE, str(error)) from None
        return batch

    def _look_inside(self, batch: RecordBatch, now_ms: int) -> RecordBatch:
        """The batch, its records' keys and times checked, under a header that says their max timestamp."""
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
