"""Records as lines of output: JSON with everything that is known of a record, or plain text.

Role: the functions that make a record's line, and writing the lines of what one round of fetches brought. Bytes that
are not UTF-8 text come as base64 under a name of their own (`value_base64`).

Invariants: lines are written whole and in order, in pieces of about `PRINT_BYTES`; a record that cannot be read takes
nothing from those before it.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterable
from typing import Any

from odradek.cli.failures import CommandFailed
from odradek.records.batch import BatchHeader
from odradek.records.iteration import Record

PRINT_BYTES = 262_144

Line = Callable[[int, BatchHeader, Record], bytes]


def print_round(
    found: Iterable[tuple[int, BatchHeader, Record]],
    line: Line,
    left: int,
    written: Callable[[], bool] = lambda: True,
) -> int:
    """Prints records, at most `left` (-1: all); returns how many are left then. After each piece `written` says whether
    to go on. Raises `CommandFailed`, `BrokenPipeError`."""
    lines: list[bytes] = []
    size = 0
    try:
        for partition, header, record in found:
            text = line(partition, header, record)
            lines.append(text)
            size += len(text)
            left -= 1
            if not left:
                break
            if size >= PRINT_BYTES:
                _write(lines)
                lines.clear()
                size = 0
                if not written():
                    return left
    except CommandFailed:
        _write(lines)
        written()
        raise
    _write(lines)
    written()
    return left


def _write(lines: list[bytes]) -> None:
    try:
        sys.stdout.buffer.write(b"".join(lines))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandFailed(f"cannot write the output: {(error.strerror or '').lower()}.") from None


def _put(fields: dict[str, Any], name: str, content: bytes | None) -> None:
    """A field with text, or with base64 under `<name>_base64`."""
    if content is None:
        fields[name] = None
        return
    try:
        fields[name] = content.decode()
    except UnicodeDecodeError:
        fields[f"{name}_base64"] = base64.b64encode(content).decode()


def json_line(topic: str) -> Line:
    """All of a record's metadata."""
    import msgspec

    encode = msgspec.json.Encoder().encode

    def line(partition: int, header: BatchHeader, record: Record) -> bytes:
        fields: dict[str, Any] = {
            "topic": topic,
            "partition": partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "timestamp_type": "LogAppendTime" if header.has_log_append_time else "CreateTime",
            "leader_epoch": header.leader_epoch,
        }
        _put(fields, "key", record.key)
        _put(fields, "value", record.value)
        headers = []
        for name, content in record.headers:
            entry: dict[str, Any] = {}
            _put(entry, "key", name.encode("utf-8", "surrogateescape"))
            _put(entry, "value", content)
            headers.append(entry)
        fields["headers"] = headers
        return encode(fields) + b"\n"

    return line


def text_line(key_separator: str | None) -> Line:
    """A record's value, after its key where they have a separator."""
    if key_separator is None:
        return lambda partition, header, record: (record.value or b"") + b"\n"
    separator = key_separator.replace("\\t", "\t").encode("utf-8", "surrogateescape")
    return lambda partition, header, record: (record.key or b"") + separator + (record.value or b"") + b"\n"
