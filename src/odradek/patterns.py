"""Regular expressions that clients send: matched in time linear in the text, or refused.

Role: compile a request's pattern. Apache Kafka matches with RE2/J, which never backtracks. Neither does RE2, which is
used if `google-re2` is installed (the extra `patterns`). Python's `re` backtracks: without RE2 only patterns that leave
it a single choice (`_choices`) are compiled, and all others are refused.

Invariants: a pattern has at most `PATTERN_MAX_CHARS` characters, and its compiled form `PROGRAM_MAX_BYTES`. For any
pattern, `KafkaError` is the only exception.
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
# The highest count in a repetition, such as `a{1000}`, in a pattern for `re`: RE2's limit.
REPEATS_MAX = 1000

# A repetition with a count of too many digits: RE2 reads it as plain characters, RE2/J refuses it.
_COUNTS_BEYOND = re.compile(r"\{(?:\d+,)?\d{9}")

Matches = Callable[[str], bool]
"""Tells whether a pattern matches a whole text."""

_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
_CHARACTERS = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN)


def has_re2() -> bool:
    """Whether RE2 is installed, so that every pattern that Kafka accepts can be matched."""
    return find_spec("re2") is not None


def compile_pattern(text: str) -> Matches:
    """Compiles a pattern; returns its matcher. Raises `KafkaError` with INVALID_REGULAR_EXPRESSION and the reason."""
    if len(text) > PATTERN_MAX_CHARS:
        raise _invalid(f"a pattern of {len(text)} characters; {PATTERN_MAX_CHARS} is the most")
    return _compile_re2(text) if has_re2() else _compile_plain(text)


def _invalid(why: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REGULAR_EXPRESSION, why)


def _compile_re2(text: str) -> Matches:
    # Imported on first use: the import takes longer than most starts, and few clients need it.
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
    """Compiles with `re`, if matching needs a single choice at most."""
    try:
        items = _parser.parse(text)
        if _choices(items) > 1:
            raise _invalid("without google-re2 a pattern has at most one repetition, or alternatives with one each")
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise _invalid(str(error) or "a pattern that is nested too deeply") from error
    return lambda subject: pattern.fullmatch(subject) is not None


def _choices(items: Iterable[Any]) -> int:
    """How many choices a backtracking matcher must combine at most. With one, the time is linear in the text. 2 means
    two or more, or syntax that only `re` has."""
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
