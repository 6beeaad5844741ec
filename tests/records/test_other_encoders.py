"""Our batches and those of other implementations, each read by the other: aiokafka's and kafka-python's encoders run
in this process, librdkafka's against its own mock broker (see `tests/cli`), Java's against a real broker."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch as AiokafkaBatch
from aiokafka.record.default_records import DefaultRecordBatchBuilder as AiokafkaBuilder
from kafka.record.default_records import DefaultRecordBatch as KafkaPythonBatch
from kafka.record.default_records import DefaultRecordBatchBuilder as KafkaPythonBuilder

from odradek.records.batch import check_batch
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from odradek.records.compression import Codec
from odradek.records.iteration import Record, iterate

RECORDS = [
    NewRecord(b"key", b"value", 1_700_000_000_000),
    NewRecord(None, b"x" * 100_000, 1_700_000_000_500, [("trace", b"1"), ("höhe", b"")]),
    NewRecord(b"", None, 1_699_999_999_000, [("none", None)]),
    *(NewRecord(b"%d" % i, b"line %d " % i * 20, 1_700_000_000_000 + i) for i in range(500)),
]
EXPECTED = [Record(i, r.timestamp, r.key, r.value, tuple(r.headers)) for i, r in enumerate(RECORDS)]
# What the two can do depends on libraries that are installed; kafka-python's snappy and zstd need two more.
AIOKAFKA = (AiokafkaBuilder, AiokafkaBatch, list(Codec))
KAFKA_PYTHON = (KafkaPythonBuilder, KafkaPythonBatch, [Codec.NONE, Codec.GZIP, Codec.LZ4])
CASES = [
    pytest.param(builder, reader, codec, id=f"{builder.__module__.split('.')[0]}-{codec.name.lower()}")
    for builder, reader, codecs in (AIOKAFKA, KAFKA_PYTHON)
    for codec in codecs
]


@pytest.mark.parametrize(("builder", "reader", "codec"), CASES)
def test_we_read_what_they_wrote(builder: Any, reader: Any, codec: Codec) -> None:
    batch = builder(
        magic=2,
        compression_type=int(codec),
        is_transactional=True,
        producer_id=4000,
        producer_epoch=3,
        base_sequence=17,
        batch_size=1_000_000,
    )
    for i, record in enumerate(RECORDS):
        assert batch.append(
            i, timestamp=record.timestamp, key=record.key, value=record.value, headers=list(record.headers)
        )
    data = bytes(batch.build())
    header = check_batch(data).header
    assert header.codec == codec
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (4000, 3, 17)
    assert header.is_transactional and header.max_timestamp == 1_700_000_000_500
    assert list(iterate(header, data)) == EXPECTED


@pytest.mark.parametrize(("builder", "reader", "codec"), CASES)
def test_they_read_what_we_wrote(builder: Any, reader: Any, codec: Codec) -> None:
    data = batch_bytes(
        build_batch(RECORDS, codec=codec, producer_id=4000, producer_epoch=3, base_sequence=17, transactional=True)
    )
    batch = reader(data)
    assert batch.validate_crc()
    assert batch.is_transactional and not batch.is_control_batch
    found = [Record(r.offset, r.timestamp, r.key, r.value, tuple(tuple(h) for h in r.headers)) for r in batch]
    assert found == EXPECTED
