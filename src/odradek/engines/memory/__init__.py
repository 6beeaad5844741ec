"""The engine that keeps logs in memory: for tests, `odradek.Broker()` and as the model of what the others must do."""

from odradek.engines.memory.engine import MemoryEngine

__all__ = ["MemoryEngine"]
