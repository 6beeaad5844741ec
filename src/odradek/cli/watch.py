"""`--watch`: repeats a command's output until Ctrl-C.

Role: the interval, and clearing the screen. The command decides what is shown.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable

_TO_THE_TOP_AND_CLEAR = "\x1b[H\x1b[2J"


def repeat(show: Callable[[], None], every_s: float | None) -> None:
    """Calls `show` every `every_s` seconds until Ctrl-C, or once if that is None. A terminal is cleared before each
    call; in other output an empty line separates them."""
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
