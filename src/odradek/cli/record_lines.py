"""Formats records as lines of output: as JSON with all metadata, or as plain text.

Role: the functions that format a record, and writing the lines of one round of fetches. Bytes that are not UTF-8 are
written in base64 under another name (`value_base64`); with --hex, all are in hexadecimal (`value_hex`). Templates are
in `record_format`.

Invariants: lines are written whole and in order, in pieces of about `PRINT_BYTES`. If a record cannot be read, those
before it have been printed.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterable
from typing import Any

from odradek.cli.failures import FAILED, CommandFailed
from odradek.cli.record_format import Line, sequence_of, timestamp_type
from odradek.records.batch import BatchHeader
from odradek.records.iteration import Record

PRINT_BYTES = 262_144

Put = Callable[[dict[str, Any], str, "bytes | None"], None]


def print_round(
    found: Iterable[tuple[int, BatchHeader, Record]],
    line: Line,
    left: int,
    written: Callable[[], bool] = lambda: True,
) -> int:
    """Prints records, at most `left` (-1: all); returns `left` less those printed. Calls `written` after each piece,
    and stops if it returns False. Raises what `found` raises, `CommandFailed`, `BrokenPipeError`."""
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
    except FAILED:
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


def put_text(fields: dict[str, Any], name: str, content: bytes | None) -> None:
    """Adds the content as text, or in base64 under `<name>_base64`."""
    if content is None:
        fields[name] = None
        return
    try:
        fields[name] = content.decode()
    except UnicodeDecodeError:
        fields[f"{name}_base64"] = base64.b64encode(content).decode()


def _put_hex(fields: dict[str, Any], name: str, content: bytes | None) -> None:
    """Adds the content in hexadecimal under `<name>_hex`; null under its own name."""
    if content is None:
        fields[name] = None
    else:
        fields[f"{name}_hex"] = content.hex()


def record_fields(put: Put, record: Record) -> dict[str, Any]:
    """A record's key, value and headers as fields, which `put` adds."""
    fields: dict[str, Any] = {}
    put(fields, "key", record.key)
    put(fields, "value", record.value)
    headers = []
    for name, content in record.headers:
        entry: dict[str, Any] = {}
        put_text(entry, "key", name.encode("utf-8", "surrogateescape"))
        put(entry, "value", content)
        headers.append(entry)
    fields["headers"] = headers
    return fields


def json_line(topic: str, use_hex: bool = False) -> Line:
    """The function that formats a record as JSON with all its metadata."""
    import msgspec

    put = _put_hex if use_hex else put_text
    encode = msgspec.json.Encoder().encode

    def line(partition: int, header: BatchHeader, record: Record) -> bytes:
        has_producer = header.producer_id >= 0
        fields = {
            "topic": topic,
            "partition": partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "timestamp_type": timestamp_type(header),
            "leader_epoch": header.leader_epoch,
            "producer_id": header.producer_id if has_producer else None,
            "producer_epoch": header.producer_epoch if has_producer else None,
            "sequence": sequence_of(header, record),
            **record_fields(put, record),
        }
        return encode(fields) + b"\n"

    return line


def text_line(key_separator: str | None, use_hex: bool = False) -> Line:
    """The function that formats a record as its value; with `key_separator`, as key, separator and value."""

    def shown(content: bytes | None) -> bytes:
        return (content or b"").hex().encode() if use_hex else content or b""

    if key_separator is None:
        return lambda partition, header, record: shown(record.value) + b"\n"
    separator = key_separator.replace("\\t", "\t").encode("utf-8", "surrogateescape")
    return lambda partition, header, record: shown(record.key) + separator + shown(record.value) + b"\n"
