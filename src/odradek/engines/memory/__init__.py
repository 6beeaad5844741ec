"""The engine that keeps logs in memory: for tests, for `odradek.Broker()`, and as the reference for other engines."""

from odradek.engines.memory.engine import MemoryEngine

__all__ = ["MemoryEngine"]
