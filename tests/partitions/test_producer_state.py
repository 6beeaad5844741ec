"""What a partition remembers of idempotent producers: repetitions, order, fencing, expiry, snapshots."""

from __future__ import annotations

import struct

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from odradek.engines.interface import AbortedTransaction
from odradek.errors import ErrorCode, KafkaError
from odradek.partitions.producer_state import BATCHES_KEPT, ProducerState, mended_snapshot
from odradek.records.batch import TRANSACTIONAL_BIT, BatchHeader, read_header
from odradek.records.builder import CONTROL_COMMIT, NewRecord, batch_bytes, build_batch, build_control_batch
from odradek.replay.snapshots import SnapshotDamaged


def header(producer_id: int = 7, epoch: int = 0, sequence: int = 0, count: int = 1) -> BatchHeader:
    records = [NewRecord(None, b"v", 1000 + index) for index in range(count)]
    batch = build_batch(records, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)
    return batch.header


def append(state: ProducerState, h: BatchHeader, base_offset: int, now_ms: int = 5000) -> None:
    assert state.check(h) is None
    state.record(h, base_offset, now_ms)


def test_a_repeated_batch_is_known_with_its_first_offset() -> None:
    state = ProducerState()
    append(state, header(sequence=0, count=3), 100)
    append(state, header(sequence=3, count=2), 103)
    kept = state.check(header(sequence=0, count=3))
    assert kept is not None and kept.base_offset == 100 and kept.last_offset == 102
    kept = state.check(header(sequence=3, count=2))
    assert kept is not None and kept.base_offset == 103


def test_the_last_five_batches_are_known_and_no_more() -> None:
    state = ProducerState()
    for sequence in range(BATCHES_KEPT + 1):
        append(state, header(sequence=sequence), 10 + sequence)
    for sequence in range(1, BATCHES_KEPT + 1):
        kept = state.check(header(sequence=sequence))
        assert kept is not None and kept.base_offset == 10 + sequence
    with pytest.raises(KafkaError) as caught:
        state.check(header(sequence=0))
    assert caught.value.code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


@pytest.mark.parametrize("sequence", [1, 5, 2**31 - 1])
def test_a_gap_is_refused(sequence: int) -> None:
    state = ProducerState()
    append(state, header(sequence=0, count=3), 0)
    if sequence == 3:
        return
    with pytest.raises(KafkaError) as caught:
        state.check(header(sequence=sequence))
    assert caught.value.code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_sequences_wrap_to_zero() -> None:
    state = ProducerState()
    first = header(sequence=2**31 - 2, count=4)
    assert first.last_sequence == 1
    append(state, first, 50)
    append(state, header(sequence=2), 54)
    kept = state.check(first)
    assert kept is not None and kept.base_offset == 50


def test_an_unknown_producer_may_begin_anywhere() -> None:
    assert ProducerState().check(header(sequence=17)) is None


def test_epochs_fence() -> None:
    state = ProducerState()
    append(state, header(epoch=1, sequence=0), 0)
    with pytest.raises(KafkaError) as caught:
        state.check(header(epoch=0, sequence=1))
    assert caught.value.code == ErrorCode.INVALID_PRODUCER_EPOCH
    with pytest.raises(KafkaError) as caught:
        state.check(header(epoch=2, sequence=1))
    assert caught.value.code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    append(state, header(epoch=2, sequence=0), 1)
    assert len(state.producers[7].batches) == 1


def test_silent_producers_are_forgotten() -> None:
    state = ProducerState()
    append(state, header(producer_id=1), 0, now_ms=1000)
    append(state, header(producer_id=2), 1, now_ms=2000)
    assert state.expire(now_ms=3000, expiration_ms=1500) == 1
    assert set(state.producers) == {2}


def test_a_producer_heard_of_in_the_future_counts_from_now() -> None:
    """The clock was set back by a year: it is forgotten when it was silent for a day, not in a year."""
    state = ProducerState()
    append(state, header(producer_id=1), 0, now_ms=1_000_000)
    assert state.expire(now_ms=5000, expiration_ms=1500) == 0
    assert state.expire(now_ms=6000, expiration_ms=1500) == 0
    assert state.expire(now_ms=6500, expiration_ms=1500) == 1


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), max_size=60))
def test_a_snapshot_gives_back_the_same_state(appends: list[tuple[int, int]]) -> None:
    state = ProducerState()
    offset = 0
    sequences = dict.fromkeys(range(6), 0)
    for producer_id, count in appends:
        append(state, header(producer_id=producer_id, sequence=sequences[producer_id], count=count), offset, offset)
        sequences[producer_id] += count
        offset += count
    again = ProducerState.from_snapshot(state.to_snapshot())
    assert again.to_snapshot() == state.to_snapshot()
    for producer_id, producer in state.producers.items():
        other = again.producers[producer_id]
        assert list(other.batches) == list(producer.batches)
        assert (other.epoch, other.last_timestamp_ms) == (producer.epoch, producer.last_timestamp_ms)


def test_a_snapshot_without_our_trailer_is_kafkas() -> None:
    entry = struct.pack(">qhiqiqiq", 7, 3, 12, 112, 2, 5000, -1, -1)
    body = struct.pack(">i", 1) + entry
    data = struct.pack(">hI", 1, crc32c(body)) + body
    state = ProducerState.from_snapshot(data)
    (batch,) = state.producers[7].batches
    assert (batch.first_sequence, batch.last_sequence, batch.base_offset) == (10, 12, 110)


def test_every_damage_to_a_snapshot_is_noticed() -> None:
    state = ProducerState()
    for sequence in range(3):
        append(state, header(sequence=sequence), sequence)
    data = state.to_snapshot()
    for cut in range(len(data)):
        with pytest.raises(SnapshotDamaged):
            ProducerState.from_snapshot(data[:cut])
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(SnapshotDamaged):
            ProducerState.from_snapshot(bytes(damaged))


def test_one_flipped_bit_of_a_snapshot_is_turned_back() -> None:
    """Where records were deleted, the snapshot alone knows their producers: it is not made anew from the log."""
    state = ProducerState()
    append(state, header(sequence=0, count=3), 100)
    data = state.to_snapshot()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert mended_snapshot(bytes(damaged)) == data
        damaged[-1 - bit // 8] ^= 2 << bit % 7
        assert mended_snapshot(bytes(damaged)) in (None, data)
    assert mended_snapshot(data[:6]) is None


def test_replay_of_headers_makes_the_state() -> None:
    state, replayed = ProducerState(), ProducerState()
    headers = []
    for sequence in range(8):
        h = header(sequence=sequence)._replace(base_offset=sequence)
        headers.append(h)
        append(state, h, sequence, now_ms=9)
    for one in headers:
        replayed.replay(one, b"", now_ms=9)
    assert replayed.to_snapshot() == state.to_snapshot()


def marker(epoch: int, base_offset: int) -> BatchHeader:
    data = batch_bytes(build_control_batch(CONTROL_COMMIT, bytes(6), 0, producer_id=7, producer_epoch=epoch))
    return read_header(data)._replace(base_offset=base_offset)


def in_transaction(sequence: int, base_offset: int) -> BatchHeader:
    return header(sequence=sequence)._replace(base_offset=base_offset, attributes=TRANSACTIONAL_BIT, producer_id=7)


@pytest.mark.parametrize("raised", [0, 1])
def test_a_damaged_end_of_a_transaction_ends_it_as_aborted(raised: int) -> None:
    state = ProducerState()
    state.replay(in_transaction(0, 10), b"", 9)
    state.replay_damaged(marker(raised, 11), 9)
    assert state.transactions.aborted == [AbortedTransaction(7, 10, 11)]
    assert not state.has_open_transaction(7, 0) and not state.has_open_transaction(7, 1)


@pytest.mark.parametrize(
    "strange",
    [
        marker(0, 11)._replace(producer_id=8),
        marker(5, 11),
        header(sequence=1)._replace(producer_id=8),
        header(sequence=2),
        header(sequence=1, epoch=3),
        in_transaction(5, 11),
    ],
)
def test_a_damaged_header_that_does_not_go_on_where_its_producer_was_is_not_believed(strange: BatchHeader) -> None:
    state = ProducerState()
    state.replay(in_transaction(0, 10), b"", 9)
    before = state.to_snapshot()
    state.replay_damaged(strange, 9)
    assert state.to_snapshot() == before


def test_a_damaged_batch_whose_header_goes_on_counts() -> None:
    """What is damaged is its records: the next batch is no gap, and a repetition is known."""
    state = ProducerState()
    state.replay(header(sequence=0), b"", 9)
    state.replay_damaged(header(sequence=1)._replace(base_offset=1), 9)
    assert state.check(header(sequence=2)) is None
    assert state.check(header(sequence=1)) is not None
