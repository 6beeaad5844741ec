"""What names a partition of a topic."""

from __future__ import annotations

from typing import TypeAlias

TopicPartition: TypeAlias = tuple[str, int]
"""The topic's name, and the partition's index."""
