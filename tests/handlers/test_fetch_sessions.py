"""Incremental fetch sessions (KIP-227), without a broker."""

from __future__ import annotations

import random

import pytest

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.fetch_sessions import FetchSessions
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic, PartitionData


def sessions(slots: int = 10) -> FetchSessions:
    return FetchSessions(slots, eviction_s=120.0, choose=random.Random(1))


def request(session_id: int, epoch: int, partitions: list[int], offset: int = 0) -> FetchRequest:
    wanted = [FetchPartition(partition=index, fetch_offset=offset) for index in partitions]
    topics = [FetchTopic(topic="t", partitions=wanted)] if wanted else []
    return FetchRequest(session_id=session_id, session_epoch=epoch, topics=topics)


def test_epoch_minus_one_has_no_session() -> None:
    cache = sessions()
    fetch = cache.begin(request(0, -1, [0, 1]), 12, 0.0)
    assert fetch.session_id == 0 and not fetch.incremental and len(fetch.partitions) == 2
    assert not cache.sessions


def test_a_session_remembers_adds_changes_and_forgets() -> None:
    cache = sessions()
    full = cache.begin(request(0, 0, [0, 1]), 12, 0.0)
    assert full.session_id > 0 and not full.incremental
    more = cache.begin(request(full.session_id, 1, [1, 2], offset=9), 12, 1.0)
    assert more.incremental
    assert [(c.key.partition, c.request.fetch_offset) for c in more.partitions] == [(0, 0), (1, 9), (2, 9)]
    forget = request(full.session_id, 2, [])
    forget.forgotten_topics_data = [ForgottenTopic(topic="t", partitions=[0, 2])]
    less = cache.begin(forget, 12, 2.0)
    assert [c.key.partition for c in less.partitions] == [1]


@pytest.mark.parametrize(
    ("session_id", "epoch", "version", "code"),
    [
        (999, 1, 12, ErrorCode.FETCH_SESSION_ID_NOT_FOUND),
        (None, 5, 12, ErrorCode.INVALID_FETCH_SESSION_EPOCH),
        (None, 1, 13, ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR),
    ],
)
def test_a_request_that_does_not_fit_is_refused(
    session_id: int | None, epoch: int, version: int, code: ErrorCode
) -> None:
    cache = sessions()
    real = cache.begin(request(0, 0, [0]), 12, 0.0).session_id
    with pytest.raises(KafkaError) as caught:
        cache.begin(request(real if session_id is None else session_id, epoch, []), version, 0.0)
    assert caught.value.code == code


def test_epoch_zero_with_an_id_replaces_the_session_and_minus_one_ends_it() -> None:
    cache = sessions()
    first = cache.begin(request(0, 0, [0]), 12, 0.0).session_id
    second = cache.begin(request(first, 0, [0]), 12, 0.0).session_id
    assert first != second and set(cache.sessions) == {second}
    cache.begin(request(second, -1, [0]), 12, 0.0)
    assert not cache.sessions


def test_a_full_cache_gives_no_session_until_one_has_been_idle() -> None:
    cache = sessions(slots=2)
    old = cache.begin(request(0, 0, [0]), 12, 0.0).session_id
    other = cache.begin(request(0, 0, [0]), 12, 100.0).session_id
    assert cache.begin(request(0, 0, [0]), 12, 119.0).session_id == 0
    new = cache.begin(request(0, 0, [0]), 12, 121.0).session_id
    assert new > 0 and set(cache.sessions) == {other, new} and old not in cache.sessions


def test_epochs_wrap_to_one() -> None:
    cache = sessions()
    session_id = cache.begin(request(0, 0, [0]), 12, 0.0).session_id
    cache.sessions[session_id].epoch = 2**31 - 1
    cache.begin(request(session_id, 2**31 - 1, []), 12, 0.0)
    assert cache.sessions[session_id].epoch == 1


def test_only_what_changed_is_told() -> None:
    cache = sessions()
    (cached,) = cache.begin(request(0, 0, [0]), 12, 0.0).partitions
    told = PartitionData(partition_index=0, high_watermark=5, log_start_offset=0, records=b"")
    assert cached.must_tell(told)
    assert not cached.must_tell(told)
    assert cached.must_tell(PartitionData(high_watermark=5, log_start_offset=0, records=[b"x"]))
    assert cached.must_tell(PartitionData(high_watermark=6, log_start_offset=0, records=b""))
    assert cached.must_tell(PartitionData(high_watermark=6, log_start_offset=2, records=b""))
    failed = PartitionData(error_code=ErrorCode.KAFKA_STORAGE_ERROR, high_watermark=6, log_start_offset=2, records=b"")
    assert cached.must_tell(failed) and cached.must_tell(failed)
    assert cached.must_tell(PartitionData(high_watermark=6, log_start_offset=2, records=b""))
