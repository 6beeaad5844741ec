"""Odradek: an event streaming broker that speaks Apache Kafka's wire protocol.

`odradek.Broker` runs one inside a Python process; the command `odradek serve` runs one by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Broker", "BrokerFailed", "__version__"]

if TYPE_CHECKING:
    from odradek.inprocess import Broker, BrokerFailed


def __getattr__(name: str) -> Any:
    # Imported on first use, so that commands that need no broker start quickly.
    if name in ("Broker", "BrokerFailed"):
        from odradek import inprocess

        return getattr(inprocess, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
