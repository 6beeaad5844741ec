"""Showing something again and again, until Ctrl-C.

Role: `--watch`: when to show it, and where on the screen. What is shown is the command's.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable

_TO_THE_TOP_AND_CLEAR = "\x1b[H\x1b[2J"


def repeat(show: Callable[[], None], every_s: float | None) -> None:
    """Calls `show` once, or every so many seconds; on a terminal each time on an empty screen, elsewhere with an empty
    line in between. Returns at Ctrl-C."""
    if every_s is None:
        show()
        return
    first = True
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            if sys.stdout.isatty():
                sys.stdout.write(_TO_THE_TOP_AND_CLEAR)
            elif not first:
                print()
            first = False
            show()
            sys.stdout.flush()
            threading.Event().wait(every_s)
