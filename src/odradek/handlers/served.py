"""An entry of the handlers' table: how one API is served, and what `network/` must know of it to do so."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from odradek.handlers.context import Handler, Refusal
from odradek.handlers.shortcut import MakeShortcut
from odradek.protocol.fields import Message


class Served(NamedTuple):
    """One API."""

    handle: Handler
    refused: Refusal
    """The response where the whole request is refused, in any version."""
    shortcut: MakeShortcut | None = None
    """For requests that are like an earlier one."""
    starts_early: bool = False
    """A request starts while earlier ones of this API are not answered; any other starts when all of them are."""
    appends: bool = False
    """A request starts only while the engine has room for what it brings."""
    waits_for_others: bool = False
    """An answer may wait long for something that others do. A stop does not wait for it: it has nothing to lose."""
    unknown_version: Callable[[], Message] | None = None
    """What a version that is not served is answered with, in version 0 (KIP-511). Without it, it closes the
    connection."""
