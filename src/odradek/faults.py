"""Fault injection: a broker fails on request, so that a program's tests can see how the program reacts.

Role: rules by API ("Produce", "Fetch", "*" for all): answer with an error, wait, or close the connection, a number of
times or until the rule is removed. The rules are applied where requests are dispatched. While there are rules, every
request is decoded; without rules, requests are served as usual, at no extra cost.

A refused request is not carried out. `disconnect(after=True)` carries it out and drops the response, which is the case
that idempotent producers exist for.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from types import TracebackType
from typing import Any

from odradek.errors import ErrorCode
from odradek.handlers import table
from odradek.handlers.context import CLOSE_CONNECTION, Answer, Handler, RequestContext, Steps
from odradek.handlers.turns import InTurns
from odradek.metadata.image import TOPIC_RESOURCE
from odradek.partitions.registry import Topic
from odradek.protocol.fields import Struct
from odradek.protocol.registry import BY_NAME

EVERY_API = "*"


class Fault:
    """One rule. Used as a context manager, it is removed at the end of the `with` block."""

    def __init__(
        self,
        faults: Faults,
        api: str,
        action: Callable[[Handler, Any, RequestContext], Answer | Awaitable[Answer]],
        times: int | None,
        topic: str | None,
        client_id: str | None,
    ) -> None:
        self._faults = faults
        self._api = api
        self._action = action
        self._left = times
        self._topic = topic
        self._client_id = client_id
        self.hits = 0
        """How many requests the rule was applied to."""

    def remove(self) -> None:
        """Removes the rule. Idempotent."""
        self._faults._remove(self)

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()

    def _meets(self, api: str, request: Any, context: RequestContext) -> bool:
        if self._left == 0 or self._api not in (EVERY_API, api):
            return False
        if self._client_id is not None and context.client_id != self._client_id:
            return False
        return self._topic is None or self._topic in _topics(request, context.broker.partitions.topics_by_id)

    def _meet(self, handler: Handler, request: Any, context: RequestContext) -> Answer | Awaitable[Answer]:
        self.hits += 1
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.remove()
        return self._action(handler, request, context)


class Faults:
    """The rules of one broker; the first rule that matches a request is applied. Thread-safe."""

    def __init__(self) -> None:
        self.rules: tuple[Fault, ...] = ()
        """The rules in force, oldest first."""
        self._lock = threading.Lock()

    # --- rules ---------------------------------------------------------------------------------------------------

    def refuse(
        self,
        api: str,
        error: str | int,
        *,
        times: int | None = None,
        topic: str | None = None,
        client_id: str | None = None,
    ) -> Fault:
        """Answers requests of `api` with an error, given by Kafka's name ("NOT_LEADER_OR_FOLLOWER") or number; every
        topic and partition of the request gets it. Without `times`, the rule holds until it is removed. `topic` and
        `client_id` limit it to requests that name the topic or come from the client. Raises `ValueError` for an API or
        an error that does not exist."""
        if api not in BY_NAME:
            raise ValueError(f"{api!r} cannot be refused with an error; these can: {', '.join(sorted(BY_NAME))}")
        if isinstance(error, str) and error not in ErrorCode.__members__:
            raise ValueError(f"Kafka has no error {error!r}")
        code = ErrorCode[error] if isinstance(error, str) else ErrorCode(error)
        refused = table.HANDLERS[BY_NAME[api].key].refused

        def act(handler: Handler, request: Any, context: RequestContext) -> Answer:
            return refused(request, code, context.api_version)

        return self._add(api, act, times, topic, client_id)

    def delay(
        self,
        api: str,
        seconds: float,
        *,
        times: int | None = None,
        topic: str | None = None,
        client_id: str | None = None,
    ) -> Fault:
        """Delays requests of `api` before they are carried out. The connection's later requests wait, too."""

        async def act(handler: Handler, request: Any, context: RequestContext) -> Answer:
            await context.broker.scheduler.sleep(seconds)
            answer = _carry_out(handler, request, context)
            return await answer if isinstance(answer, Awaitable) else answer

        return self._add(api, act, times, topic, client_id)

    def disconnect(
        self,
        api: str = EVERY_API,
        *,
        after: bool = False,
        times: int | None = None,
        topic: str | None = None,
        client_id: str | None = None,
    ) -> Fault:
        """Closes the connection instead of answering; with `after`, once the request has been carried out. With the
        default `api`, every request closes its connection, as if the broker were unreachable."""

        def cut(handler: Handler, request: Any, context: RequestContext) -> Answer:
            return CLOSE_CONNECTION

        async def carry_out_and_cut(handler: Handler, request: Any, context: RequestContext) -> Answer:
            answer = _carry_out(handler, request, context)
            if isinstance(answer, Awaitable):
                await answer
            return CLOSE_CONNECTION

        return self._add(api, carry_out_and_cut if after else cut, times, topic, client_id)

    def clear(self) -> None:
        """Removes all rules."""
        with self._lock:
            self.rules = ()

    def _add(self, api: str, action: Any, times: int | None, topic: str | None, client_id: str | None) -> Fault:
        if api != EVERY_API and api not in BY_NAME:
            raise ValueError(f"there is no API {api!r}; these are served: {', '.join(sorted(BY_NAME))}")
        if times is not None and times < 1:
            raise ValueError(f"times must be at least 1, not {times}")
        fault = Fault(self, api, action, times, topic, client_id)
        with self._lock:
            self.rules = (*self.rules, fault)
        return fault

    def _remove(self, fault: Fault) -> None:
        with self._lock:
            self.rules = tuple(rule for rule in self.rules if rule is not fault)

    # --- for the broker ------------------------------------------------------------------------------------------

    def handle(
        self, api: str, handler: Handler, request: Any, context: RequestContext
    ) -> Answer | Awaitable[Answer] | Steps:
        """Called instead of the handler while there are rules."""
        for rule in self.rules:
            if rule._meets(api, request, context):
                return rule._meet(handler, request, context)
        return handler(request, context)


def _carry_out(handler: Handler, request: Any, context: RequestContext) -> Answer | Awaitable[Answer]:
    """Calls a handler, and runs it to its end if it works in turns; returns its answer."""
    answer = handler(request, context)
    if isinstance(answer, Generator):
        steps: Steps = answer
        begun = context.broker.turns.begin(steps)
        return _both(begun) if isinstance(begun, InTurns) else begun
    return answer


async def _both(turns: InTurns[Answer | Awaitable[Answer]]) -> Answer:
    answer = await turns
    return await answer if isinstance(answer, Awaitable) else answer


# --- which topics a request names ------------------------------------------------------------------------------------


def _topics(structure: Struct, by_id: Mapping[bytes, Topic]) -> Iterator[str]:
    """The names of all topics that a request, or a structure in it, names or refers to by topic id."""
    for field in structure.__declared__:
        value = getattr(structure, field.name)
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, Struct):
                yield from _topics(one, by_id)
            elif field.entity_type == "topicName" and one:
                yield one
            elif field.name == "topic_id" and (topic := by_id.get(one)) is not None:
                yield topic.name
            elif field.name == "resource_name" and getattr(structure, "resource_type", None) == TOPIC_RESOURCE:
                # In Kafka's definitions `resource_type` says what `resource_name` is the name of.
                yield one
