"""Incremental fetch sessions (KIP-227): a consumer names its partitions once, and later only changes.

Role: keep the sessions, apply a request to its session, and decide which partitions are read and which of them the
response contains. `fetch.py` reads them.

A request with epoch 0 asks for a new session, -1 ends one or uses none, any other continues the session named. If the
cache is full, a new session replaces one idle for `min.incremental.fetch.session.eviction.ms`; if there is none, the
consumer gets no session and sends full requests. This is Kafka's rule, without the preference for followers (there are
none here) and for larger sessions.

Bounds: `max.incremental.fetch.session.cache.slots` sessions, each with at most the partitions of its requests.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import NamedTuple

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.turns import Steps
from odradek.protocol.fields import ZERO_UUID
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, PartitionData

FINAL_EPOCH = -1
INITIAL_EPOCH = 0
INVALID_SESSION_ID = 0
MAX_EPOCH = 2**31 - 1
TOPIC_ID_SINCE = 13
# Partitions of a long request that are gathered in one step.
GATHERED_A_STEP = 200


class SessionKey(NamedTuple):
    """A partition in a session: by topic name (before version 13) or topic id; the other one is empty."""

    topic: str
    topic_id: bytes
    partition: int


class CachedPartition:
    """A partition of a session: its request, and the offsets last returned for it."""

    __slots__ = ("high_watermark", "key", "log_start_offset", "request")

    def __init__(self, key: SessionKey, request: FetchPartition) -> None:
        self.key = key
        self.request = request
        self.high_watermark = -1
        self.log_start_offset = -1

    def must_tell(self, answer: PartitionData) -> bool:
        """Whether an incremental response must contain the partition: for data, an error, or a changed offset."""
        changed = False
        if answer.high_watermark != self.high_watermark:
            self.high_watermark, changed = answer.high_watermark, True
        if answer.log_start_offset != self.log_start_offset:
            self.log_start_offset, changed = answer.log_start_offset, True
        if answer.error_code != ErrorCode.NONE:
            # After an error, the next response contains the partition whatever its offsets.
            self.high_watermark = -1
            return True
        return (
            changed
            or answer.preferred_read_replica >= 0
            or answer.diverging_epoch.epoch >= 0
            or (answer.records is not None and len(answer.records) > 0)
        )


Asked = OrderedDict[SessionKey, CachedPartition]
"""The partitions of a request, in their order."""


class FetchSession:
    """One session. `partitions` is in the order in which they are read: partitions that returned data move to the end,
    so that full responses do not starve the others."""

    __slots__ = ("by_id", "epoch", "last_used", "partitions", "session_id")

    def __init__(self, session_id: int, by_id: bool) -> None:
        self.session_id = session_id
        self.by_id = by_id
        self.epoch = INITIAL_EPOCH
        self.last_used = 0.0
        self.partitions: Asked = OrderedDict()


class FetchContext(NamedTuple):
    """What one request reads: the partitions in order, its session, if any, and whether the response is
    incremental."""

    partitions: list[CachedPartition]
    session: FetchSession | None
    incremental: bool

    @property
    def session_id(self) -> int:
        return self.session.session_id if self.session is not None else INVALID_SESSION_ID


class FetchSessions:
    """The cache of sessions."""

    def __init__(self, slots: int, eviction_s: float, choose: random.Random) -> None:
        self.slots = slots
        self.eviction_s = eviction_s
        self.choose = choose
        # Least recently used first.
        self.sessions: OrderedDict[int, FetchSession] = OrderedDict()

    def begin(self, request: FetchRequest, version: int, now: float, asked: Asked | None = None) -> FetchContext:
        """Applies a request; `asked` is what `gather_in_turns` has made of it. Raises `KafkaError`:
        FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH or FETCH_SESSION_TOPIC_ID_ERROR, upon which the client
        begins anew."""
        by_id = version >= TOPIC_ID_SINCE
        if request.session_epoch in (FINAL_EPOCH, INITIAL_EPOCH):
            if request.session_id != INVALID_SESSION_ID:
                self.sessions.pop(request.session_id, None)
            partitions = _gather(request, by_id) if asked is None else asked
            session = None
            if request.session_epoch == INITIAL_EPOCH and partitions:
                session = self._create(by_id, partitions, now)
            return FetchContext(list(partitions.values()), session, False)
        session = self.sessions.get(request.session_id)
        if session is None:
            raise KafkaError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if request.session_epoch != session.epoch:
            raise KafkaError(ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        if session.by_id != by_id:
            raise KafkaError(ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR)
        for key, wanted in (_gather(request, by_id) if asked is None else asked).items():
            cached = session.partitions.get(key)
            if cached is None:
                session.partitions[key] = wanted
            else:
                cached.request = wanted.request
        for topic in request.forgotten_topics_data:
            for partition in topic.partitions:
                session.partitions.pop(SessionKey(topic.topic, topic.topic_id, partition), None)
        session.epoch = 1 if session.epoch == MAX_EPOCH else session.epoch + 1
        session.last_used = now
        self.sessions.move_to_end(session.session_id)
        return FetchContext(list(session.partitions.values()), session, True)

    def _create(self, by_id: bool, partitions: Asked, now: float) -> FetchSession | None:
        if len(self.sessions) >= self.slots:
            oldest = next(iter(self.sessions.values()), None)
            if oldest is None or now - oldest.last_used < self.eviction_s:
                return None
            del self.sessions[oldest.session_id]
        session_id = INVALID_SESSION_ID
        while session_id == INVALID_SESSION_ID or session_id in self.sessions:
            session_id = self.choose.randrange(1, 2**31)
        session = FetchSession(session_id, by_id)
        session.epoch = 1
        session.last_used = now
        session.partitions = partitions
        self.sessions[session_id] = session
        return session


def gather_in_turns(request: FetchRequest, version: int) -> Steps[Asked]:
    """The partitions that a long request names; of one that it names twice, what it asks last, as Kafka takes it."""
    out: Asked = OrderedDict()
    by_id = version >= TOPIC_ID_SINCE
    for topic in request.topics:
        name, topic_id = ("", topic.topic_id) if by_id else (topic.topic, ZERO_UUID)
        for first in range(0, len(topic.partitions), GATHERED_A_STEP):
            for partition in topic.partitions[first : first + GATHERED_A_STEP]:
                key = SessionKey(name, topic_id, partition.partition)
                out[key] = CachedPartition(key, partition)
            yield
    return out


def _gather(request: FetchRequest, by_id: bool) -> Asked:
    """As `gather_in_turns`, at once."""
    out: Asked = OrderedDict()
    for topic in request.topics:
        name, topic_id = ("", topic.topic_id) if by_id else (topic.topic, ZERO_UUID)
        for partition in topic.partitions:
            key = SessionKey(name, topic_id, partition.partition)
            out[key] = CachedPartition(key, partition)
    return out
