"""How a command ends when it cannot do what was asked: one sentence on stderr, and an exit code.

0 is success, 1 a failure at run time (no broker, a refusal, a lost connection), 2 wrong use (an option, a file or a
setting that cannot be meant). The sentence says what to do where that is known.
"""

from __future__ import annotations

RUN_TIME = 1
WRONG_USE = 2


class CommandFailed(Exception):
    """Ends the command with exit code 1; its text is the whole sentence."""

    exit_code = RUN_TIME


class WrongUse(CommandFailed):
    """Ends the command with exit code 2."""

    exit_code = WRONG_USE
