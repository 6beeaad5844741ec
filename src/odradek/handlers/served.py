"""The type of the entries of the handlers' table: how one API is served, and what `network/` needs to know of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from odradek.handlers.context import Handler, Refusal
from odradek.handlers.shortcut import MakeShortcut
from odradek.protocol.fields import Message


class Served(NamedTuple):
    """How one API is served."""

    handle: Handler
    refused: Refusal
    """Makes the response that refuses the whole request, in any version."""
    shortcut: MakeShortcut | None = None
    """Makes the shortcut for requests that are like an earlier one."""
    starts_early: bool = False
    """Whether a request starts while earlier requests of the same API are open; without it, a request starts when all
    earlier ones of its connection are answered."""
    appends: bool = False
    """Whether a request starts only while the engine has room for more unflushed bytes."""
    waits_for_others: bool = False
    """Whether an answer may wait long for other clients. A stop does not wait for it, as nothing is lost."""
    unknown_version: Callable[[], Message] | None = None
    """Makes the response, in version 0, to a version that is not served (KIP-511). Without it, such a request closes
    the connection."""
