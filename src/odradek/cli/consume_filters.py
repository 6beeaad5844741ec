"""Which records `odradek consume` prints: --grep, --grep-key, --grep-value and --header.

Role: turn the options into one predicate of a record. A record must match all options that are given. Expressions are
Python's, searched in a key or value decoded as UTF-8; invalid bytes become surrogate characters (`surrogateescape`), so
that every key and value can be searched. A null key or value matches nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from odradek.cli.failures import WrongUse
from odradek.records.iteration import Record

RecordFilter = Callable[[Record], bool]
_Search = Callable[[bytes | None], bool]


def read_filters(
    grep: str | None, grep_key: str | None, grep_value: str | None, header: Sequence[str] = ()
) -> RecordFilter | None:
    """The predicate of the records to print; None if no option is given. Raises `WrongUse`."""
    conditions: list[RecordFilter] = []
    if grep is not None:
        anywhere = _search("--grep", grep)
        conditions.append(lambda record: anywhere(record.key) or anywhere(record.value))
    if grep_key is not None:
        in_key = _search("--grep-key", grep_key)
        conditions.append(lambda record: in_key(record.key))
    if grep_value is not None:
        in_value = _search("--grep-value", grep_value)
        conditions.append(lambda record: in_value(record.value))
    conditions += map(_header, header)
    if not conditions:
        return None
    return lambda record: all(holds(record) for holds in conditions)


def _search(option: str, expression: str) -> _Search:
    try:
        search = re.compile(expression).search
    except (re.error, OverflowError, RecursionError) as error:
        raise WrongUse(f"{option} {expression!r} is not a regular expression: {error}.") from None
    return lambda content: content is not None and search(content.decode("utf-8", "surrogateescape")) is not None


def _header(text: str) -> RecordFilter:
    name, equals, value = text.partition("=")
    if not name:
        raise WrongUse(f"--header {text!r} is neither NAME nor NAME=VALUE.")
    if not equals:
        return lambda record: any(found == name for found, _ in record.headers)
    wanted = (name, os.fsencode(value))
    return lambda record: wanted in record.headers
