"""What the pipelines in Python have in common: their numbers, and the lines they say."""

# ruff: noqa: T201 - a program: its lines are its result

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence

PARTITIONS = 2
BATCH_MAX = 20
TIMEOUT_S = 20.0
TRANSACTION_TIMEOUT_MS = 3_000
ABORTS = 0.2


def is_to_abort(chance: random.Random) -> bool:
    return chance.random() < ABORTS


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def tell(event: str, tag: str, records: Sequence[tuple[int, str]]) -> None:
    """Says what is about to be done with a transaction."""
    say(event=event, tag=tag, records=records, at_ns=time.time_ns())
