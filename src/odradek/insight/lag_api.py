"""The lags of groups as JSON over HTTP: `/api/groups`, `/api/groups/NAME`, `/api/events` (server-sent events); and the
most frequent keys of topics: `/api/topics/NAME/keys`.

Role: turn the results of `watching` into JSON. Times are milliseconds since the epoch, durations seconds; unknown
values are null. `openapi` describes all of it, and is served as `/api/openapi.json`.

Invariants: requests only return what the last look found. A client that reads events too slowly loses the oldest when
`EVENTS_WAITING` are queued, and can tell by the gap in their numbers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from odradek.clock import Scheduler
from odradek.insight.lag import Lag, sentence
from odradek.insight.openapi import openapi
from odradek.insight.top_keys import TopKeys
from odradek.insight.watching import Event, WatchedPartition, Watching, time_to_loss_s, worst

EVENTS_WAITING = 1000
KEYS_SHOWN = 10
# A stream of events has at least one line in this time, so that both sides notice when the other is gone.
KEEP_ALIVE_S = 15.0


def lag_json(lag: Lag) -> dict[str, Any]:
    """The lag of a group on one partition."""
    return {
        "verdict": lag.verdict.value,
        "how": _how(lag),
        "records_behind": lag.records_behind,
        "bytes_behind": lag.bytes_behind,
        "bytes_estimated": lag.bytes_estimated,
        "seconds_behind": lag.seconds_behind,
        "records_in_per_s": lag.minute.appended_records_per_s,
        "bytes_in_per_s": lag.minute.appended_bytes_per_s,
        "records_out_per_s": lag.minute.committed_records_per_s,
        "time_to_catch_up_s": lag.time_to_catch_up_s,
        "time_to_loss_s": lag.time_to_loss_s,
        "loss_by": lag.loss_by or None,
        "lost_records": lag.lost_records,
        "losses": [
            {"from_offset": one.from_offset, "to_offset": one.to_offset, "seen_ms": one.seen_ms} for one in lag.losses
        ],
        "looked_ms": lag.looked_ms,
    }


def group_json(group_id: str, lags: dict[WatchedPartition, Lag]) -> dict[str, Any]:
    """The summary of a group: sums over its partitions, and its worst verdict."""
    gravest = worst(lags)
    return {
        "group": group_id,
        "verdict": gravest.verdict.value,
        "how": _how(gravest),
        "records_behind": sum(lag.records_behind or 0 for lag in lags.values()),
        "bytes_behind": sum(lag.bytes_behind or 0 for lag in lags.values()),
        "seconds_behind": max(lag.seconds_behind or 0.0 for lag in lags.values()),
        "time_to_loss_s": time_to_loss_s(lags),
        "lost_records": sum(lag.lost_records for lag in lags.values()),
    }


def balance_json(watching: Watching, group_id: str) -> dict[str, Any] | None:
    """How a group's partitions are spread over its members; null without members."""
    found = watching.balance(group_id)
    if found is None:
        return None
    members, balance = found
    known = {member.member_id: member for member in members}
    return {
        "members": [
            {
                "member_id": load.member_id,
                "client_id": known[load.member_id].client_id,
                "host": known[load.member_id].client_host,
                "partitions": load.partitions,
                "records_per_s": load.records_per_s,
                "bytes_per_s": load.bytes_per_s,
            }
            for load in balance.members
        ],
        "partitions": balance.partitions,
        "unassigned": [{"topic": topic, "partition": partition} for topic, partition in balance.unassigned],
        "partition_skew": balance.partition_skew,
        "record_skew": balance.record_skew,
        "byte_skew": balance.byte_skew,
        "advice": list(balance.advice),
    }


def keys_json(partition: int, keys: TopKeys) -> dict[str, Any]:
    """The most frequent keys of a partition."""
    return {
        "partition": partition,
        "sampled_records": keys.total,
        "keys": [
            {
                "key": None if one.key is None else one.key.decode("utf-8", "backslashreplace"),
                "share_at_least": one.share_at_least,
                "share_at_most": one.share_at_most,
            }
            for one in keys.top(KEYS_SHOWN)
        ],
    }


def event_json(event: Event) -> dict[str, Any]:
    return {
        "number": event.number,
        "at_ms": event.at_ms,
        "group": event.group_id,
        "topic": event.place.topic,
        "partition": event.place.partition,
        "verdict": event.verdict.value,
        "before": event.before.value,
        "how": event.how,
        "lost_records": event.lost_records,
    }


def _how(lag: Lag) -> str:
    return sentence(lag, datetime.fromtimestamp(lag.looked_ms / 1000, UTC).astimezone())


class LagApi:
    """The HTTP routes. `watching` returns None until the first look."""

    def __init__(self, scheduler: Scheduler, watching: Callable[[], Watching | None]) -> None:
        self._scheduler = scheduler
        self._watching = watching
        self._streams: set[asyncio.Queue[Event | None]] = set()
        self._ended = False
        self.routes = [
            Route("/api/groups", self._groups),
            Route("/api/groups/{group:path}", self._group),
            Route("/api/topics/{topic}/keys", self._keys),
            Route("/api/events", self._events),
            Route("/api/openapi.json", self._openapi),
        ]

    async def _groups(self, request: Request) -> Response:
        watching = self._watching()
        lags = {} if watching is None else watching.lags
        return JSONResponse([group_json(group_id, of) for group_id, of in sorted(lags.items())])

    async def _group(self, request: Request) -> Response:
        watching, group_id = self._watching(), request.path_params["group"]
        lags = None if watching is None else watching.lags.get(group_id)
        if lags is None:
            return JSONResponse({"error": f"no offset of a group {group_id} has been looked at"}, 404)
        partitions = [
            {"topic": place.topic, "partition": place.partition, **lag_json(lag)} for place, lag in sorted(lags.items())
        ]
        balance = balance_json(watching, group_id) if watching is not None else None
        return JSONResponse({**group_json(group_id, lags), "partitions": partitions, "balance": balance})

    async def _keys(self, request: Request) -> Response:
        watching, topic = self._watching(), request.path_params["topic"]
        found = None if watching is None else watching.top_keys(topic)
        if not found:
            return JSONResponse({"error": f"no keys of a topic {topic} are counted (odradek.hot.keys.enable)"}, 404)
        return JSONResponse(
            {"topic": topic, "partitions": [keys_json(partition, keys) for partition, keys in found.items()]}
        )

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(openapi())

    async def _events(self, request: Request) -> Response:
        watching = self._watching()
        if watching is None:
            return JSONResponse({"error": "nothing has been looked at yet"}, 503)
        after = request.headers.get("last-event-id", "0")
        number = int(after) if after.isdecimal() else 0
        return StreamingResponse(self._stream(watching, number), media_type="text/event-stream")

    async def _stream(self, watching: Watching, after: int) -> AsyncIterator[str]:
        waiting: asyncio.Queue[Event | None] = asyncio.Queue(EVENTS_WAITING)

        def tell(event: Event) -> None:
            if waiting.full():
                waiting.get_nowait()
            waiting.put_nowait(event)

        watching.on_event.append(tell)
        self._streams.add(waiting)
        asked = asyncio.ensure_future(waiting.get())
        try:
            for event in [one for one in watching.events if one.number > after]:
                yield _sse(event)
                after = event.number
            while not self._ended:
                if not await self._scheduler.wait(asked, KEEP_ALIVE_S):
                    yield ": still here\n\n"
                    continue
                told = asked.result()
                asked = asyncio.ensure_future(waiting.get())
                if told is not None and told.number > after:
                    yield _sse(told)
        finally:
            asked.cancel()
            watching.on_event.remove(tell)
            self._streams.discard(waiting)

    def end(self) -> None:
        """Ends the event streams, because the port closes."""
        self._ended = True
        for waiting in self._streams:
            if not waiting.full():
                waiting.put_nowait(None)


def _sse(event: Event) -> str:
    return f"id: {event.number}\nevent: lag\ndata: {json.dumps(event_json(event))}\n\n"
