"""Suggestions for the shell's completion of names of topics, groups, brokers and profiles.

Role: fetch names from the cluster that the unfinished command line means, and from the profiles' file. cyclopts calls
these functions in a process of its own, which the script of `odradek completion` starts.

Invariants: suggestions take at most `LIMIT_S`, whatever the cluster does. A failure results in no suggestions, never in
a message on the user's command line. Asking for names changes and creates nothing.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from odradek.cli.bootstrap import open_client, read_profiles
from odradek.cli.failures import FAILED, CommandFailed

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

    from odradek.client.cluster import Client

LIMIT_S = 1.0
_INTERNAL = "__"


class _TooSlow(BaseException):
    """Raised when `LIMIT_S` is over. It is no `Exception`, so that no code that waits handles it as its own timeout."""


@contextmanager
def _limited() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise _TooSlow

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _ask(context: CompletionContext, find: Callable[[Client], list[str]]) -> list[str]:
    """The names that `find` returns, sorted; none if the cluster cannot be asked in time."""
    server = context.get("--bootstrap-server")
    try:
        with _limited(), open_client(server.raw if server is not None else None, LIMIT_S) as client:
            return sorted(find(client))
    except (*FAILED, OSError, _TooSlow):
        return []


def topics(context: CompletionContext) -> list[str]:
    """Names of topics; those that begin with two underscores only if these are typed."""

    def find(client: Client) -> list[str]:
        names = [topic.name or "" for topic in client.metadata(None).topics]
        return [name for name in names if context.incomplete.startswith(_INTERNAL) or not name.startswith(_INTERNAL)]

    return _ask(context, find)


def groups(context: CompletionContext) -> list[str]:
    """Names of groups."""

    def find(client: Client) -> list[str]:
        from odradek.client.group_coordinator import list_groups

        client.metadata([])
        return [group.group_id for group in list_groups(client, [])]

    return _ask(context, find)


def resources(context: CompletionContext) -> list[str]:
    """Names that may follow `topic`, `group` or `broker` in the commands for settings."""
    resource = context.get("resource")
    kind = resource.raw if resource is not None else None
    if kind == "topic":
        return topics(context)
    if kind == "group":
        return groups(context)

    def find(client: Client) -> list[str]:
        return [str(broker.node_id) for broker in client.metadata([]).brokers]

    return _ask(context, find) if kind == "broker" else []


def profiles(context: Any) -> list[tuple[str, str]]:
    """Names of profiles with their addresses."""
    try:
        return sorted(read_profiles()["profiles"].items())
    except CommandFailed:
        return []
