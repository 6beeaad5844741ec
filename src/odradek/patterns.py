"""Regular expressions that clients send: matched in time that grows with the text alone, or refused.

Role: compile what a request asks for. Apache Kafka matches with RE2/J, which never goes back over a text. RE2 does not
either, where `google-re2` is installed (the extra `patterns`). Python's own `re` does: without RE2 it gets only
patterns that leave it one choice (`_choices`), and every other is refused.

Invariants: a pattern has at most `PATTERN_MAX_CHARS` characters, and its compiled form `PROGRAM_MAX_BYTES`. Whatever
the pattern is, `KafkaError` is the only exception.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

from odradek.errors import ErrorCode, KafkaError

PATTERN_MAX_CHARS = 4096
PROGRAM_MAX_BYTES = 1 << 20
# Of one character, in a pattern for `re`: as RE2 has it.
REPEATS_MAX = 1000

# A repetition that RE2 takes for plain characters, since it cannot be a number, and RE2/J refuses.
_COUNTS_BEYOND = re.compile(r"\{(?:\d+,)?\d{9}")

Matches = Callable[[str], bool]
"""Whether a text matches, from its beginning to its end."""

_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
_CHARACTERS = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN)


def has_re2() -> bool:
    """Whether every pattern can be served that Kafka serves."""
    return find_spec("re2") is not None


def compile_pattern(text: str) -> Matches:
    """What tells whether a text matches. Raises `KafkaError` with INVALID_REGULAR_EXPRESSION, and why."""
    if len(text) > PATTERN_MAX_CHARS:
        raise _invalid(f"a pattern of {len(text)} characters; {PATTERN_MAX_CHARS} is the most")
    return _compile_re2(text) if has_re2() else _compile_plain(text)


def _invalid(why: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REGULAR_EXPRESSION, why)


def _compile_re2(text: str) -> Matches:
    # Imported late: it takes longer than most starts, and few ask for it.
    module = importlib.import_module("re2")
    if _COUNTS_BEYOND.search(text):
        raise _invalid("a repetition of too many")
    options = module.Options()
    options.max_mem = PROGRAM_MAX_BYTES
    options.log_errors = False
    try:
        pattern = module.compile(text, options)
    except module.error as error:
        (why,) = error.args
        raise _invalid(why.decode(errors="replace") if isinstance(why, bytes) else str(why)) from error
    return lambda subject: pattern.fullmatch(subject) is not None


def _compile_plain(text: str) -> Matches:
    """By `re`, where the pattern leaves it one choice."""
    try:
        items = _parser.parse(text)
        if _choices(items) > 1:
            raise _invalid("without google-re2 a pattern has at most one repetition, or alternatives with one each")
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise _invalid(str(error) or "a pattern that is nested too deeply") from error
    return lambda subject: pattern.fullmatch(subject) is not None


def _choices(items: Iterable[Any]) -> int:
    """How many choices a matcher that goes back has to combine, at most: with one, the time grows with the length of
    the text. Two stand for any number, and for what only `re` knows."""
    found = 0
    for kind, argument in items:
        if kind in _REPEATS:
            least, most, (one, *others) = argument
            if others or one[0] not in _CHARACTERS or (most > REPEATS_MAX and most is not _constants.MAXREPEAT):
                return 2
            found += least != most
        elif kind is _constants.BRANCH:
            found += max(1, *(_choices(branch) for branch in argument[1]))
        elif kind is _constants.SUBPATTERN:
            found += _choices(argument[3])
        elif kind not in _CHARACTERS and kind is not _constants.AT:
            return 2
    return found
