"""What a topic lets in, by a batch's header alone: each refusal, and which comes first of two."""

from __future__ import annotations

from typing import Any

import pytest

from odradek.config import LogConfig
from odradek.errors import ErrorCode, KafkaError
from odradek.partitions.admission import Admission, TimesInDoubt, check_may_ask, check_transaction
from odradek.partitions.guard import Held
from odradek.partitions.partition import AppendResult, Partition
from odradek.partitions.producer_state import KeptBatch, ProducerState
from odradek.records.batch import CONTROL_BIT, TIMESTAMP_TYPE_BIT, TRANSACTIONAL_BIT, RecordBatch, check_batch
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from tests.partitions.test_partition import NOW_MS, HeldEngine, StillClock, run
from tests.raw_client import batch as small_batch

HOUR = 3_600_000


def of(size: int = 10, time_ms: int = NOW_MS, **changes: Any) -> RecordBatch:
    """A producer's batch, of which the header was changed so."""
    batch = check_batch(batch_bytes(build_batch([NewRecord(None, b"v" * size, time_ms)])))
    return batch.with_header(batch.header._replace(**changes))


def refusal(batch: RecordBatch, word: ErrorCode | None = None, **settings: Any) -> ErrorCode:
    with pytest.raises(KafkaError) as refused:
        Admission(LogConfig(**settings)).admit(batch, NOW_MS, ProducerState(), word)
    return refused.value.code


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"max_message_bytes": 100}, ErrorCode.MESSAGE_TOO_LARGE),
        ({"segment_bytes": 100}, ErrorCode.RECORD_LIST_TOO_LARGE),
        ({"max_message_bytes": 90, "segment_bytes": 100}, ErrorCode.MESSAGE_TOO_LARGE),
        ({"max_message_bytes": 100, "segment_bytes": 90}, ErrorCode.MESSAGE_TOO_LARGE),
    ],
)
def test_size_comes_first(settings: dict[str, int], code: ErrorCode) -> None:
    everything = of(100, HOUR + NOW_MS, attributes=TRANSACTIONAL_BIT, base_offset=1, producer_id=1)
    assert refusal(everything, **settings) == code


@pytest.mark.parametrize("setting", ["max_message_bytes", "segment_bytes"])
def test_a_batch_of_just_the_size_is_taken(setting: str) -> None:
    batch = of(100)
    limit: dict[str, Any] = {setting: batch.size}
    assert Admission(LogConfig(**limit)).admit(batch, NOW_MS, ProducerState()) is batch
    limit = {setting: batch.size - 1}
    refusal(batch, **limit)


def test_then_the_transaction_by_the_coordinator_s_word() -> None:
    batch = of(attributes=TRANSACTIONAL_BIT, base_offset=1, producer_id=1)
    assert refusal(batch) == ErrorCode.INVALID_TXN_STATE
    assert refusal(batch, ErrorCode.INVALID_PRODUCER_EPOCH) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert refusal(of(attributes=CONTROL_BIT | TRANSACTIONAL_BIT), ErrorCode.NONE) == ErrorCode.INVALID_RECORD
    assert refusal(of(attributes=CONTROL_BIT)) == ErrorCode.INVALID_RECORD
    welcome = of(attributes=TRANSACTIONAL_BIT, producer_id=1, producer_epoch=0, base_sequence=0)
    assert Admission(LogConfig()).admit(welcome, NOW_MS, ProducerState(), ErrorCode.NONE) is welcome
    check_transaction(batch.header, ErrorCode.NONE)
    check_may_ask(batch.header, True)
    with pytest.raises(KafkaError) as refused:
        check_may_ask(batch.header, False)
    assert refused.value.code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED


def test_then_the_offset_and_the_times() -> None:
    ahead = NOW_MS + 2 * HOUR
    assert refusal(of(time_ms=ahead, base_offset=1)) == ErrorCode.INVALID_RECORD
    admission = Admission(LogConfig(timestamp_after_max_ms=HOUR))
    doubtful = [of(time_ms=ahead, producer_id=1), of(max_timestamp=-1), of(max_timestamp=NOW_MS - 1)]
    for batch in doubtful:
        with pytest.raises(TimesInDoubt):
            admission.admit(batch, NOW_MS, ProducerState())
    assert admission.admit(doubtful[1], NOW_MS, ProducerState(), looked_into=True) is doubtful[1]
    own = Admission(LogConfig(timestamp_type="LogAppendTime")).admit(of(time_ms=ahead), NOW_MS, ProducerState())
    assert isinstance(own, RecordBatch)
    assert (own.header.max_timestamp, own.header.has_log_append_time) == (NOW_MS, True)
    theirs = Admission(LogConfig()).admit(of(attributes=TIMESTAMP_TYPE_BIT), NOW_MS, ProducerState())
    assert isinstance(theirs, RecordBatch) and not theirs.header.has_log_append_time


def test_the_sequence_is_last_and_a_repetition_is_known() -> None:
    assert refusal(of(producer_id=1)) == ErrorCode.INVALID_RECORD
    producers, admission = ProducerState(), Admission(LogConfig())
    batch = of(producer_id=1, producer_epoch=0, base_sequence=0)
    assert admission.admit(batch, NOW_MS, producers) is batch
    producers.record(batch.header, 5, NOW_MS)
    kept = admission.admit(batch, NOW_MS, producers)
    assert isinstance(kept, KeptBatch) and kept.base_offset == 5
    with pytest.raises(KafkaError) as refused:
        admission.admit(of(producer_id=1, producer_epoch=0, base_sequence=2), NOW_MS, producers)
    assert refused.value.code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


@pytest.mark.parametrize("together", [False, True])
def test_what_the_guard_refuses_is_counted_once_and_whatever_its_size(together: bool) -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition: Partition = await make(max_message_bytes=100)
        partition.log_start.hold(Held(0, 1, "groups are behind"))
        datas = [small_batch(b"a"), small_batch(b"v" * 200), small_batch(b"b", producer_id=7)]
        results = partition.append_all(datas) if together else [partition.append(data) for data in datas]
        for result in results:
            assert isinstance(result, AppendResult)
            assert (result.error, result.message) == (ErrorCode.NOT_ENOUGH_REPLICAS, "groups are behind")
        assert partition.counters.guard_refusals == len(datas)
        partition.log_start.hold(Held(0, 0, ""))
        (large,) = partition.append_all(datas[1:2])
        assert isinstance(large, AppendResult) and large.error == ErrorCode.MESSAGE_TOO_LARGE
        assert partition.counters.guard_refusals == len(datas)

    run(work)
