"""What the shell is told when the user presses TAB at a topic, a group, a profile or a name of a setting.

Role: names from the cluster that the command line so far means, and from the file of profiles. cyclopts calls these
functions in a process of its own, which the script of `odradek completion` starts.

Invariants: nobody waits for a suggestion longer than `LIMIT_S`, whatever the cluster does; what goes wrong is no
suggestion, never a message in the middle of somebody's typing. Nothing is changed or created by asking.
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
    """The time for suggestions is over; nothing that waits may take it for its own."""


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
    """What `find` finds in the cluster that is meant, or nothing."""
    server = context.get("--bootstrap-server")
    try:
        with _limited(), open_client(server.raw if server is not None else None, LIMIT_S) as client:
            return sorted(find(client))
    except (*FAILED, OSError, _TooSlow):
        return []


def topics(context: CompletionContext) -> list[str]:
    """Names of topics; the broker's own only where their two underscores are typed."""

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
    """What may stand behind `topic`, `group` or `broker` of the commands for settings."""
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
