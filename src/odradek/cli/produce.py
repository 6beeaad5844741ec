"""`odradek produce`: writes lines, or JSON lines, as records to a topic.

Role: read a file or stdin, turn every line into a record, pass it to `producer`, and print how much was written.

Invariants: input is read in pieces and a line has a maximum size, so that any input fits in memory. When the input
pauses, the records read so far are sent, so that with `tail -f file | odradek produce TOPIC` they are written at once.
When the command ends with exit code 0, every record is acknowledged as `--acks` asks.
"""

from __future__ import annotations

import base64
import binascii
import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from odradek.cli.bootstrap import open_client
from odradek.cli.failures import CommandFailed, WrongUse
from odradek.cli.options import TIMEOUT_S, Bootstrap, Flag, Texts, TopicArgument

if TYPE_CHECKING:
    from odradek.client.producer import Producer
    from odradek.records.builder import Headers

LINE_MAX_BYTES = 67_108_864
_READ_BYTES = 1_048_576
_PAUSE_S = 0.02

# A parsed line: key, value, timestamp in ms (None: now), headers.
Parsed = tuple[bytes | None, bytes | None, int | None, "Headers"]


def produce(
    topic: TopicArgument,
    /,
    *,
    file: Path | None = None,
    input_format: Annotated[Literal["lines", "json"], Parameter(name="--input")] = "lines",
    key_separator: str | None = None,
    header: Texts = None,
    partition: int | None = None,
    acks: Literal["all", "1", "0"] = "all",
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none",
    idempotence: bool | None = None,
    batch_bytes: int = 262_144,
    timeout: float = TIMEOUT_S,
    quiet: Flag = False,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Writes lines, or JSON lines, to a topic.

    Parameters
    ----------
    topic
        The topic; the broker may make it on first use.
    file
        Read this file instead of stdin.
    input_format
        lines: each line is a value. json: each line is an object with value, and if wanted key, headers (a list of
        {"key", "value"}, or an object) and timestamp (ms); value_base64 and key_base64 carry bytes. What `odradek
        consume` prints is read; its topic, partition and offset are not used.
    key_separator
        What stands between key and value in a line (\\t for a tab). Records with a key go to the partition that
        Java's producer chooses.
    header
        NAME=VALUE for every record; may be repeated.
    partition
        Write to this partition only.
    acks
        When a record counts as written: all (durable), 1 (written by the leader), 0 (sent).
    compression
        How batches are compressed.
    idempotence
        Let the broker drop what a retry would write twice; needs acks=all, and is on with it.
    batch_bytes
        Bytes of records collected for one batch.
    timeout
        Seconds without success after which to give up.
    quiet
        Print nothing but failures.
    """
    if idempotence and acks != "all":
        raise WrongUse(f"--idempotence needs --acks all, not {acks}.")
    if input_format == "json" and key_separator is not None:
        raise WrongUse("--key-separator is for lines; with --input json the key stands in the object.")
    if key_separator == "":
        raise WrongUse("--key-separator is empty.")
    if not 1024 <= batch_bytes <= 16_777_216:
        raise WrongUse(f"--batch-bytes must be between 1024 and 16777216, not {batch_bytes}.")
    parse = (
        _json_parser(_headers(header or [])) if input_format == "json" else _line_parser(key_separator, header or [])
    )

    from odradek.client.producer import Producer
    from odradek.records.compression import CODEC_NAMES

    source = _open(file)
    try:
        with open_client(bootstrap_server, timeout) as client:
            progress = _Progress(source, file, topic, quiet)
            with progress:
                producer = Producer(
                    client,
                    topic,
                    acks=-1 if acks == "all" else int(acks),
                    codec=CODEC_NAMES[compression],
                    idempotent=acks == "all" if idempotence is None else idempotence,
                    batch_bytes=batch_bytes,
                    acknowledged=progress.acknowledged,
                )
                try:
                    _write(source, parse, producer, partition, progress)
                except _BadInput as error:
                    producer.flush()
                    raise CommandFailed(f"{error}; {_count(producer.sent_records)} before it written.") from None
                except KeyboardInterrupt:  # the records read before it are still written
                    producer.flush()
                    raise
                producer.flush()
            if not quiet:
                print(f"{_count(producer.sent_records)} written to {topic}.", file=sys.stderr)
    finally:
        if file is not None:
            os.close(source)


class _BadInput(Exception):
    """Raised for invalid input: it ends the command, after the records before it are written."""


def _count(records: int) -> str:
    return f"{records} record{'' if records == 1 else 's'}"


def _open(file: Path | None) -> int:
    if file is None:
        if sys.stdin is None:
            raise WrongUse("stdin is closed; --file names a file to read.")
        return sys.stdin.fileno()
    try:
        return os.open(file, os.O_RDONLY)
    except OSError as error:
        raise WrongUse(f"cannot read {file}: {(error.strerror or '').lower()}.") from None


def _write(
    source: int, parse: Callable[[bytes], Parsed], producer: Producer, partition: int | None, progress: _Progress
) -> None:
    from odradek.clock import SystemClock

    clock = SystemClock()
    number = 0
    add = producer.add
    for lines, size in _lines(source, producer.flush):
        now = clock.now_ms()
        for line in lines:
            number += 1
            try:
                key, value, timestamp, headers = parse(line)
            except ValueError as error:
                raise _BadInput(f"line {number}: {error}") from None
            add(key, value, now if timestamp is None else timestamp, headers, partition)
        progress.read(size)


def _lines(source: int, idle: Callable[[], None]) -> Iterator[tuple[list[bytes], int]]:
    """Yields lists of lines as they are read, each with the number of bytes read; calls `idle` when the input
    pauses."""
    begun: list[bytes] = []
    begun_bytes = 0
    while True:
        if not select.select([source], [], [], _PAUSE_S)[0]:
            idle()
            select.select([source], [], [])
        try:
            data = os.read(source, _READ_BYTES)
        except OSError as error:
            raise _BadInput(f"cannot read the input: {(error.strerror or '').lower()}") from None
        if not data:
            break
        if b"\n" not in data:
            begun.append(data)
            begun_bytes += len(data)
            if begun_bytes > LINE_MAX_BYTES:
                raise _BadInput(f"a line has more than {LINE_MAX_BYTES} bytes")
            continue
        lines = data.split(b"\n")
        lines[0] = b"".join([*begun, lines[0]])
        rest = lines.pop()
        begun, begun_bytes = [rest] if rest else [], len(rest)
        yield lines, len(data)
    if begun:
        yield [b"".join(begun)], begun_bytes


# --- from a line to a record -----------------------------------------------------------------------------------------


def _headers(options: list[str]) -> list[tuple[str, bytes | None]]:
    out: list[tuple[str, bytes | None]] = []
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise WrongUse(f"--header {option!r} is not NAME=VALUE.")
        out.append((name, os.fsencode(value)))
    return out


def _line_parser(key_separator: str | None, header: list[str]) -> Callable[[bytes], Parsed]:
    headers = _headers(header)
    if key_separator is None:
        return lambda line: (None, line, None, headers)
    separator = os.fsencode(key_separator.replace("\\t", "\t"))

    def parse(line: bytes) -> Parsed:
        key, found, value = line.partition(separator)
        if not found:
            raise ValueError(f"there is no {separator.decode(errors='replace')!r} between a key and a value")
        return key, value, None, headers

    return parse


def _json_parser(more_headers: list[tuple[str, bytes | None]]) -> Callable[[bytes], Parsed]:
    import msgspec

    from odradek.config.bounds import LONG_MAX
    from odradek.records.batch import NO_TIMESTAMP

    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    text_of = msgspec.json.Decoder(str).decode
    integer_of = msgspec.json.Decoder(int).decode
    entries_of = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode

    def content(fields: dict[str, msgspec.Raw], name: str) -> bytes | None:
        encoded = fields.get(f"{name}_base64")
        if encoded is not None:
            try:
                return base64.b64decode(text_of(encoded), validate=True)
            except binascii.Error as error:
                raise ValueError(f"{name}_base64 is not base64: {error}") from None
        raw = bytes(fields.get(name, b"null"))
        if raw == b"null":
            return None
        # A JSON string becomes its text; any other JSON value stays as it is written.
        return text_of(raw).encode() if raw[:1] == b'"' else raw

    def parse_headers(raw: msgspec.Raw) -> list[tuple[str, bytes | None]]:
        text = bytes(raw)
        if text[:1] == b"{":
            fields = decode(text)
            return [(name, content(fields, name)) for name in fields]
        out = []
        for entry in entries_of(text):
            name = content(entry, "key")
            if name is None:
                raise ValueError("a header has no key")
            out.append((name.decode("utf-8", "surrogateescape"), content(entry, "value")))
        return out

    def parse(line: bytes) -> Parsed:
        try:
            fields = decode(line)
            if "value" not in fields and "value_base64" not in fields:
                raise ValueError("the object has no value (null deletes a key)")
            headers = list(more_headers)
            if "headers" in fields and bytes(fields["headers"]) != b"null":
                headers += parse_headers(fields["headers"])
            timestamp = integer_of(fields["timestamp"]) if "timestamp" in fields else None
            if timestamp is not None and not NO_TIMESTAMP <= timestamp <= LONG_MAX:
                raise ValueError(f"timestamp {timestamp} is not a number of milliseconds since the epoch")
            return content(fields, "key"), content(fields, "value"), timestamp, headers
        except msgspec.MsgspecError as error:
            raise ValueError(f"not the JSON object of a record: {error}") from None

    return parse


class _Progress:
    """A progress bar on stderr; shown only if stderr is a terminal and the input is not typed at one."""

    def __init__(self, source: int, file: Path | None, topic: str, quiet: bool) -> None:
        self._shown = sys.stderr.isatty() and not os.isatty(source) and not quiet
        if not self._shown:
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

        size = os.fstat(source).st_size if file is not None else 0
        self._bar = Progress(
            TextColumn(topic),
            BarColumn(),
            TextColumn("{task.fields[records]} records"),
            TransferSpeedColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("produce", total=size or None, records=0)
        self._records = 0

    def __enter__(self) -> None:
        if self._shown:
            self._bar.start()

    def __exit__(self, *unused: object) -> None:
        if self._shown:
            self._bar.stop()

    def read(self, size: int) -> None:
        if self._shown:
            self._bar.update(self._task, advance=size)

    def acknowledged(self, count: int) -> None:
        if self._shown:
            self._records += count
            self._bar.update(self._task, records=self._records)
