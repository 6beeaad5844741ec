"""The engine that keeps logs in Kafka's own files on a local disk."""

from odradek.engines.local.disk import Disk
from odradek.engines.local.engine import LocalEngine

__all__ = ["Disk", "LocalEngine"]
