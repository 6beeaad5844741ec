"""`odradek consume`: a topic's records as JSON lines, or as plain text.

Role: find where to begin and where to stop, read with `consumer`, and print. Every JSON line has all of a record's
metadata; bytes that are not UTF-8 text come as base64 under a name of their own (`value_base64`), so that nothing is
lost and `odradek produce --input json` reads it back.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from odradek.cli.failures import CommandFailed, WrongUse

if TYPE_CHECKING:
    from odradek.cli.client import Client
    from odradek.records.batch import BatchHeader
    from odradek.records.iteration import Record

_SPAN = re.compile(r"-(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PRINT_BYTES = 262_144


def consume(
    topic: str,
    /,
    *,
    from_: Annotated[str, Parameter(name="--from", allow_leading_hyphen=True)] = "beginning",
    partition: Annotated[list[int] | None, Parameter(negative="")] = None,
    max_records: Annotated[int | None, Parameter(name="--max")] = None,
    exit_at_end: Annotated[bool, Parameter(negative="")] = False,
    output: Literal["json", "text"] = "json",
    key_separator: str | None = None,
    timeout: float = 30.0,
    bootstrap_server: str | None = None,
) -> None:
    """Reads a topic's records.

    Parameters
    ----------
    topic
        The topic.
    from_
        Where to begin: beginning, end, an offset (-10: ten before the end), or a time: @-1h (ms, s, m, h, d, w),
        @2026-01-31T12:00:00Z (local without Z or an offset), @1760000000000 (ms).
    partition
        Read this partition only; may be repeated.
    max_records
        Stop after so many records.
    exit_at_end
        Stop at the end that the topic had at the start.
    output
        json: one object a line, with all metadata. text: values only.
    key_separator
        With text: print key, this, and value.
    timeout
        Seconds without an answer after which to give up.
    bootstrap_server
        HOST:PORT of a broker. Without it ODRADEK_BOOTSTRAP_SERVER of the environment, else 127.0.0.1:9092.
    """
    if max_records is not None and max_records < 0:
        raise WrongUse(f"--max must not be negative, but is {max_records}.")
    if key_separator is not None and output == "json":
        raise WrongUse("--key-separator is for --output text.")
    from odradek.clock import SystemClock

    begin = _read_begin(from_, SystemClock().now_ms())
    line = _json_line(topic) if output == "json" else _text_line(key_separator)

    from odradek.cli.client import LATEST, Client, bootstrap_address
    from odradek.cli.consumer import Consumer

    with Client(bootstrap_address(bootstrap_server), timeout) as client:
        known = [p.partition_index for p in client.topic(topic).partitions]
        for wanted in partition or ():
            if wanted not in known:
                raise CommandFailed(f"topic {topic!r} has partitions 0 to {len(known) - 1}, not {wanted}.")
        chosen = sorted(set(partition)) if partition else known
        ends = client.offsets(topic, dict.fromkeys(chosen, LATEST))
        positions = begin(client, topic, ends)
        consumer = Consumer(client, topic, positions, ends if exit_at_end else None, note=_note)
        _print_records(consumer, line, max_records)


def _print_records(consumer: Any, line: Callable[[int, BatchHeader, Record], bytes], count: int | None) -> None:
    left = -1 if count is None else count
    while left and not consumer.is_done:
        lines: list[bytes] = []
        size = 0
        try:
            for partition, header, record in consumer.poll():
                text = line(partition, header, record)
                lines.append(text)
                size += len(text)
                if size >= _PRINT_BYTES:
                    _write(lines)
                    lines.clear()
                    size = 0
                left -= 1
                if not left:
                    break
        except CommandFailed:
            # A record that cannot be read takes nothing from those before it.
            _write(lines)
            raise
        _write(lines)


def _write(lines: list[bytes]) -> None:
    try:
        sys.stdout.buffer.write(b"".join(lines))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandFailed(f"cannot write the output: {(error.strerror or '').lower()}.") from None


def _note(text: str) -> None:
    print(f"odradek: {text}", file=sys.stderr)


# --- where to begin --------------------------------------------------------------------------------------------------

Begin = Callable[["Client", str, dict[int, int]], dict[int, int]]


def _read_begin(text: str, now_ms: int) -> Begin:
    """What --from means: a function (client, topic, ends) -> first offsets. Raises `WrongUse`."""
    if text == "end":
        return lambda client, topic, ends: dict(ends)
    if text == "beginning":
        from odradek.cli.client import EARLIEST

        return lambda client, topic, ends: client.offsets(topic, dict.fromkeys(ends, EARLIEST))
    if text.startswith("@"):
        return _begin_at_time(_read_time(text[1:], now_ms))
    if text.removeprefix("-").isdecimal() and text.isascii():
        return _begin_at_offset(int(text))
    raise WrongUse(f"--from {text!r} is none of beginning, end, an offset, or a time such as @-1h.")


def _begin_at_offset(offset: int) -> Begin:
    def begin(client: Client, topic: str, ends: dict[int, int]) -> dict[int, int]:
        from odradek.cli.client import EARLIEST

        firsts = client.offsets(topic, dict.fromkeys(ends, EARLIEST))
        if offset < 0:
            return {p: max(firsts[p], ends[p] + offset) for p in ends}
        for p in ends:
            if not firsts[p] <= offset <= ends[p]:
                raise CommandFailed(f"{topic}-{p} has offsets from {firsts[p]} to {ends[p]} (its end), not {offset}.")
        return dict.fromkeys(ends, offset)

    return begin


def _begin_at_time(timestamp_ms: int) -> Begin:
    def begin(client: Client, topic: str, ends: dict[int, int]) -> dict[int, int]:
        found = client.offsets(topic, dict.fromkeys(ends, timestamp_ms))
        return {p: ends[p] if offset < 0 else offset for p, offset in found.items()}

    return begin


def _read_time(text: str, now_ms: int) -> int:
    """Milliseconds since the epoch. Raises `WrongUse`."""
    span = _SPAN.fullmatch(text)
    if span:
        return max(0, now_ms - int(float(span[1]) * _UNITS_MS[span[2]]))
    if text.isdecimal() and text.isascii():
        return int(text)
    try:
        return max(0, int(datetime.fromisoformat(text).timestamp() * 1000))
    except (ValueError, OverflowError, OSError):
        raise WrongUse(
            f"--from @{text} is no time such as @-1h, @2026-01-31T12:00:00Z or @1760000000000 (ms)."
        ) from None


# --- how records are printed -----------------------------------------------------------------------------------------


def _put(fields: dict[str, Any], name: str, content: bytes | None) -> None:
    """A field with text, or with base64 under `<name>_base64`."""
    if content is None:
        fields[name] = None
        return
    try:
        fields[name] = content.decode()
    except UnicodeDecodeError:
        fields[f"{name}_base64"] = base64.b64encode(content).decode()


def _json_line(topic: str) -> Callable[[int, BatchHeader, Record], bytes]:
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


def _text_line(key_separator: str | None) -> Callable[[int, BatchHeader, Record], bytes]:
    if key_separator is None:
        return lambda partition, header, record: (record.value or b"") + b"\n"
    separator = key_separator.replace("\\t", "\t").encode("utf-8", "surrogateescape")
    return lambda partition, header, record: (record.key or b"") + separator + (record.value or b"") + b"\n"
