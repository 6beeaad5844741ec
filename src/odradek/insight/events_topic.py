"""Writes lag events as records to the topic `__odradek_events`, for any consumer.

Role: write each event of `watching` as one record: the group's name is the key, the event's JSON
(`lag_api.event_json`) the value, the event's time the timestamp. The topic is created with the first event. It has one
partition, so that the records are in the events' order, and the default settings of a topic.

Invariants: `tell` never waits. At most `EVENTS_WAITING` events are queued; above that the oldest is dropped, and the
log says how many were. An append is tried `TRIES` times; then its events are dropped, with a log line.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable

from odradek.clock import Scheduler
from odradek.engines.interface import LogFailure
from odradek.errors import ErrorCode, KafkaError
from odradek.insight.lag_api import event_json
from odradek.insight.watching import Event
from odradek.internal_topics import EVENTS_TOPIC
from odradek.logs import get_logger
from odradek.partitions.registry import Partitions
from odradek.records.builder import NewRecord, batch_bytes, build_batch

log = get_logger("odradek.insight")

EVENTS_WAITING = 1000
EVENTS_IN_A_BATCH = 100
TRIES = 5
RETRY_S = 1.0


class EventsTopic:
    """The writer. Call `tell` with each event, and `stop` before the partitions are closed."""

    def __init__(
        self, scheduler: Scheduler, partitions: Partitions, create_topic: Callable[[str], Awaitable[None]]
    ) -> None:
        self._scheduler = scheduler
        self._partitions = partitions
        self._create_topic = create_topic
        self._waiting: deque[Event] = deque()
        self._dropped = 0
        self._writing: asyncio.Task[None] | None = None
        self._stopping = False

    def tell(self, event: Event) -> None:
        """Queues an event to be written."""
        if self._stopping:
            return
        if len(self._waiting) == EVENTS_WAITING:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(event)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.ensure_future(self._write())

    async def stop(self) -> None:
        """Waits until the queued events are written; later ones are ignored."""
        self._stopping = True
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        while self._waiting:
            events = [self._waiting.popleft() for _ in range(min(EVENTS_IN_A_BATCH, len(self._waiting)))]
            if self._dropped:
                log.warning("events were not written: there were too many", events=self._dropped)
                self._dropped = 0
            for left in range(TRIES - 1, -1, -1):
                try:
                    await self._append(events)
                    break
                except (KafkaError, LogFailure, OSError) as error:
                    if left == 0 or self._stopping:
                        log.error("events were not written", events=len(events), why=str(error))
                        break
                    await self._scheduler.sleep(RETRY_S)

    async def _append(self, events: list[Event]) -> None:
        if self._partitions.get(EVENTS_TOPIC, 0) is None:
            await self._create_topic(EVENTS_TOPIC)
        partition = self._partitions.get(EVENTS_TOPIC, 0)
        if partition is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{EVENTS_TOPIC} was deleted meanwhile")
        records = [
            NewRecord(
                event.group_id.encode("utf-8", "surrogatepass"),
                json.dumps(event_json(event)).encode(),
                event.at_ms,
            )
            for event in events
        ]
        result = partition.append(batch_bytes(build_batch(records)))
        if isinstance(result, asyncio.Task):
            result = await result
        if result.error != ErrorCode.NONE:
            raise KafkaError(result.error, result.message or "")
        if result.durable is not None:
            await result.durable
