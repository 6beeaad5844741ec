"""`odradek consume --format`: compiles a template into a function that formats a record as a line.

    {topic} {partition} {offset} {timestamp} {time} {timestamp_type} {key} {value} {headers} {header.NAME}
    {key_size} {value_size} {leader_epoch} {producer_id} {producer_epoch} {sequence} {transactional} {compression}

Role: turn the template's text into a function that returns bytes. `{timestamp}` is in milliseconds, `{time}` is the
same in ISO 8601 (UTC). Unknown and null values are empty. Keys and values are written as their bytes, or encoded with
`{value:hex}`, `{value:base64}` or `{value:json}`. `{{` and `}}` are braces; \\n, \\t, \\r, \\0, \\\\ and \\xHH mean
what they mean in C.

Invariants: an invalid template is refused before anything is read. A newline follows each record unless the template
ends with \\n or \\0 itself.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime

from odradek.cli.failures import WrongUse
from odradek.records.batch import BatchHeader
from odradek.records.iteration import Record

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
MAX_SEQUENCE = 0x7FFFFFFF

Line = Callable[[int, BatchHeader, Record], bytes]
_Content = Callable[[BatchHeader, Record], bytes | None]

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|\\(?:x([0-9a-fA-F]{2})|(.?))", re.DOTALL)
_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}


def moment(timestamp_ms: int) -> str:
    """A timestamp in ISO 8601, in UTC; "" for no timestamp (-1), the number itself if it is outside the calendar."""
    if timestamp_ms < 0:
        return "" if timestamp_ms == -1 else str(timestamp_ms)
    try:
        found = datetime.fromtimestamp(timestamp_ms // 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(timestamp_ms)
    return f"{found:%Y-%m-%dT%H:%M:%S}.{timestamp_ms % 1000:03d}Z"


def codec_name(codec: int) -> str:
    return CODECS[codec] if codec < len(CODECS) else f"codec {codec}"


def timestamp_type(header: BatchHeader) -> str:
    return "LogAppendTime" if header.has_log_append_time else "CreateTime"


def sequence_of(header: BatchHeader, record: Record) -> int | None:
    """The sequence number of one record, computed from its batch's; it wraps to 0."""
    if header.base_sequence < 0:
        return None
    return (header.base_sequence + record.offset - header.base_offset) & MAX_SEQUENCE


def json_text(content: bytes | None) -> bytes:
    """The content as a JSON string, or null; bytes that are not UTF-8 become the replacement character."""
    import msgspec

    return msgspec.json.encode(None if content is None else content.decode(errors="replace"))


_CONVERSIONS: dict[str, Callable[[bytes | None], bytes]] = {
    "text": lambda content: content or b"",
    "hex": lambda content: (content or b"").hex().encode(),
    "base64": lambda content: base64.b64encode(content or b""),
    "json": json_text,
}
_CONTENTS: dict[str, _Content] = {
    "key": lambda header, record: record.key,
    "value": lambda header, record: record.value,
}
_FIELDS: dict[str, Callable[[BatchHeader, Record], object]] = {
    "offset": lambda header, record: record.offset,
    "timestamp": lambda header, record: record.timestamp,
    "time": lambda header, record: moment(record.timestamp),
    "timestamp_type": lambda header, record: timestamp_type(header),
    "key_size": lambda header, record: None if record.key is None else len(record.key),
    "value_size": lambda header, record: None if record.value is None else len(record.value),
    "leader_epoch": lambda header, record: header.leader_epoch if header.leader_epoch >= 0 else None,
    "producer_id": lambda header, record: header.producer_id if header.producer_id >= 0 else None,
    "producer_epoch": lambda header, record: header.producer_epoch if header.producer_id >= 0 else None,
    "sequence": sequence_of,
    "transactional": lambda header, record: "yes" if header.is_transactional else "no",
    "compression": lambda header, record: codec_name(header.codec),
}
_NAMES = ("topic", "partition", *_FIELDS, *_CONTENTS, "headers", "header.NAME")


def format_line(topic: str, template: str, use_hex: bool = False) -> Line:
    """The function of a template. With `use_hex`, keys and values are written in hexadecimal unless the template says
    otherwise. Raises `WrongUse`."""
    if not template:
        raise WrongUse("--format is empty.")
    pieces: list[Line] = []
    literal = b""
    position = 0

    def flush() -> None:
        nonlocal literal
        if literal:
            text = literal
            pieces.append(lambda partition, header, record: text)
            literal = b""

    for match in _PIECE.finditer(template):
        literal += template[position : match.start()].encode("utf-8", "surrogateescape")
        position = match.end()
        found = match[0]
        if found in ("{{", "}}"):
            literal += found[:1].encode()
        elif match[1] is not None:
            flush()
            pieces.append(_field(topic, match[1], use_hex))
        elif match[2] is not None:
            literal += bytes.fromhex(match[2])
        elif match[3] in _ESCAPES:
            literal += _ESCAPES[match[3]]
        elif found in "{}":
            raise WrongUse(f"--format has a single {found}; a brace is written twice: {found}{found}.")
        else:
            raise WrongUse(f"--format has {found}, which is none of \\n, \\t, \\r, \\0, \\\\ and \\xHH.")
    literal += template[position:].encode("utf-8", "surrogateescape")
    if not literal.endswith((b"\n", b"\0")):
        literal += b"\n"
    flush()
    return lambda partition, header, record: b"".join([piece(partition, header, record) for piece in pieces])


def _field(topic: str, field: str, use_hex: bool) -> Line:
    name, colon, conversion = field.rpartition(":")
    if not colon or conversion not in _CONVERSIONS:
        name, conversion = field, "hex" if use_hex else "text"
    content = _CONTENTS.get(name)
    if name.startswith("header.") and name != "header.":
        content = _header(name.removeprefix("header."))
    if content is not None:
        read, convert = content, _CONVERSIONS[conversion]
        return lambda partition, header, record: convert(read(header, record))
    if name == "headers":
        return _headers(conversion)
    if name != field:
        raise WrongUse(f"--format has {{{field}}}, but only key, value and headers can be written as {conversion}.")
    if name == "topic":
        text = topic.encode()
        return lambda partition, header, record: text
    if name == "partition":
        return lambda partition, header, record: b"%d" % partition
    value = _FIELDS.get(name)
    if value is None:
        raise WrongUse(f"--format has {{{field}}}, but there are: {', '.join(_NAMES)}.")
    get = value
    return lambda partition, header, record: b"" if (known := get(header, record)) is None else str(known).encode()


def _header(name: str) -> _Content:
    """The function that finds a header's value; of several headers with the name the last one."""

    def read(header: BatchHeader, record: Record) -> bytes | None:
        return next((value for found, value in reversed(record.headers) if found == name), None)

    return read


def _headers(conversion: str) -> Line:
    if conversion == "json":
        import msgspec

        def as_json(partition: int, header: BatchHeader, record: Record) -> bytes:
            return msgspec.json.encode(
                [
                    {
                        "key": name.encode("utf-8", "surrogateescape").decode(errors="replace"),
                        "value": None if value is None else value.decode(errors="replace"),
                    }
                    for name, value in record.headers
                ]
            )

        return as_json
    convert = _CONVERSIONS[conversion]
    return lambda partition, header, record: b",".join(
        name.encode("utf-8", "surrogateescape") + b"=" + convert(value) for name, value in record.headers
    )
