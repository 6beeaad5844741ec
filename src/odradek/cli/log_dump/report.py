"""The output of `odradek log dump`: each item found is a line of plain words, or a JSON object.

Role: word and print what the other modules of this folder find, at once (a log may be larger than memory), and count
the damage. An item has a kind and fields: JSON contains both, the words are made from them.

Invariants: every item is reported here once. Damage is always printed, whatever options leave out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from odradek.cli.failures import CommandFailed
from odradek.cli.record_format import moment

Fields = dict[str, Any]


class Report:
    """Prints the items. Without `details` only files, notes, damage and totals are printed."""

    def __init__(self, as_json: bool, details: bool) -> None:
        self.details = details
        self.damages = 0
        self.first_damage = ""
        self._file = ""
        self._as_json = as_json
        import msgspec

        self._encode = msgspec.json.Encoder().encode

    def file(self, path: str, name: str, what: str, size: int) -> None:
        """Begins a file; the next calls are about it."""
        self._file = path
        if self._as_json:
            self._write_json("file", {"what": what, "bytes": size})
        else:
            self._write(f"{name}: {what}, {size} bytes")

    def folder(self, path: str, what: str) -> None:
        """Begins a folder."""
        if self._as_json:
            self._file = path
            self._write_json("folder", {"what": what})
        else:
            self._write(f"{path}: {what}")

    def item(self, kind: str, fields: Fields) -> None:
        """Prints one item of a file: a batch, a record, an entry."""
        if self.details:
            self._say(kind, fields)

    def total(self, kind: str, fields: Fields) -> None:
        """Prints the totals of a file."""
        self._say(kind, fields)

    def note(self, text: str) -> None:
        """Prints a remark that is about no damage."""
        self._say("note", {"text": text})

    def damage(self, position: int | None, text: str) -> None:
        """Prints and counts damage in the current file, at a byte position if that is known."""
        self.damages += 1
        if not self.first_damage:
            where = self._file if position is None else f"{self._file} at byte {position}"
            self.first_damage = f"{where}: {text}"
        self._say("damage", {"position": position, "text": text})

    def _say(self, kind: str, fields: Fields) -> None:
        if self._as_json:
            self._write_json(kind, fields)
        else:
            self._write(_WORDS[kind](fields))

    def _write_json(self, kind: str, fields: Fields) -> None:
        fields = {name: value for name, value in fields.items() if name != "words"}
        self._out(self._encode({"kind": kind, "path": self._file, **fields}))

    def _write(self, text: str) -> None:
        if not text.isprintable():  # a record may contain control sequences of terminals
            text = "".join(
                one if one.isprintable() or "\udc80" <= one <= "\udcff" else f"\\x{ord(one):02x}" for one in text
            )
        self._out(text.encode("utf-8", "surrogateescape"))

    def _out(self, line: bytes) -> None:
        try:
            sys.stdout.buffer.write(line + b"\n")
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CommandFailed(f"cannot write the output: {(error.strerror or '').lower()}.") from None

    def flush(self) -> None:
        """Flushes the output."""
        try:
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CommandFailed(f"cannot write the output: {(error.strerror or '').lower()}.") from None


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun, `one` in the singular."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _times(fields: Fields) -> str:
    first, last = moment(fields["base_timestamp"]), moment(fields["max_timestamp"])
    if fields["delete_horizon"] is not None:
        first = last
    if fields["timestamp_type"] == "LogAppendTime":
        return f"appended {last}"
    if not last:
        return "without times"
    return f"created {last}" if first == last else f"created {first or 'without a time'} to {last}"


def _batch(fields: Fields) -> str:
    parts = [f"offset{'s' * (fields['count'] != 1)} {span(fields['base_offset'], fields['last_offset'])}"]
    parts.append(counted(fields["count"], "record"))
    parts.append(f"{fields['bytes']} bytes")
    if fields["compression"] != "none":
        parts[-1] += f" in {fields['compression']}"
    parts.append(_times(fields))
    parts.append(f"leader epoch {fields['leader_epoch']}")
    if fields["producer_id"] is not None:
        parts.append(f"producer {fields['producer_id']} epoch {fields['producer_epoch']}")
        if fields["base_sequence"] is not None:
            parts[-1] += f" sequence {span(fields['base_sequence'], fields['last_sequence'])}"
    if fields["control"]:
        parts.append("control")
    if fields["transactional"]:
        parts.append("in a transaction")
    if fields["delete_horizon"] is not None:
        parts.append(f"its tombstones may go from {moment(fields['delete_horizon']) or 'now'} on")
    state = {True: "good", False: "WRONG"}[fields["crc_good"]]
    parts.append(f"magic {fields['magic']}, CRC {fields['crc']:08x} {state}")
    return f"  at {fields['position']}: {', '.join(parts)}"


def quoted(content: bytes | str | None) -> str:
    """A key or value as text in quotes, or in hexadecimal if it is no printable text."""
    import msgspec

    if content is None:
        return "null"
    data = content.encode() if isinstance(content, str) else content
    try:
        content = data.decode()
    except UnicodeDecodeError:
        return f"0x{data.hex()}"
    if any(0x7F <= ord(character) < 0xA0 for character in content):  # control characters of terminals
        return f"0x{data.hex()}"
    return msgspec.json.encode(content).decode()


def _record(fields: Fields) -> str:
    head = f"    offset {fields['offset']}, {moment(fields['timestamp']) or 'without a time'}: "
    if fields.get("decoded") is not None:
        return f"{head}{fields['words']}"
    text = f"key {quoted(_content(fields, 'key'))}, value {quoted(_content(fields, 'value'))}"
    if fields["headers"]:
        headers = (f"{quoted(_content(one, 'key'))}: {quoted(_content(one, 'value'))}" for one in fields["headers"])
        text += f", headers {', '.join(headers)}"
    if fields.get("problem"):
        text += f" ({fields['problem']})"
    return head + text


def _content(fields: Fields, name: str) -> bytes | str | None:
    """The content that `record_lines.put_text` has put into the fields."""
    import base64

    encoded = fields.get(f"{name}_base64")
    if encoded is not None:
        return base64.b64decode(encoded)
    content: str | None = fields.get(name)
    return content


def _segment(fields: Fields) -> str:
    if not fields["batches"]:
        return "  in all: nothing"
    parts = [
        f"offsets {span(fields['first_offset'], fields['last_offset'])}",
        f"{counted(fields['records'], 'record')} in {counted(fields['batches'], 'batch', 'batches')}",
        f"{fields['bytes']} bytes",
    ]
    first, last = fields["first_timestamp"], fields["max_timestamp"]
    if last >= 0:
        is_span = first is not None and first < last
        parts.append(f"times {moment(first)} to {moment(last)}" if is_span else f"latest time {moment(last)}")
    parts.append(f"compression {', '.join(fields['compression'])}")
    epochs = fields["leader_epochs"]
    parts.append(f"leader epoch{'s' * (epochs[0] != epochs[1])} {span(*epochs)}")
    return f"  in all: {'; '.join(parts)}"


def _producer(fields: Fields) -> str:
    parts = [f"producer {fields['producer_id']} epoch {fields['producer_epoch']}"]
    if fields["batches"]:
        kept = ", ".join(
            f"{span(one['first_sequence'], one['last_sequence'])} at offset {one['last_offset']}"
            for one in fields["batches"]
        )
        parts.append(f"last sequences {kept}")
    parts.append(f"last heard {moment(fields['last_timestamp']) or 'never'}")
    if fields["transaction_first_offset"] is not None:
        parts.append(f"a transaction open since offset {fields['transaction_first_offset']}")
    return "  " + ", ".join(parts)


_WORDS: dict[str, Callable[[Fields], str]] = {
    "batch": _batch,
    "record": _record,
    "segment": _segment,
    "note": lambda fields: f"  {fields['text']}",
    "damage": lambda fields: (
        f"  DAMAGED{'' if fields['position'] is None else ' at byte ' + str(fields['position'])}: {fields['text']}"
    ),
    "offset_entry": lambda fields: f"  offset {fields['offset']} is in the batch at byte {fields['log_position']}",
    "time_entry": lambda fields: (
        f"  up to offset {fields['offset']} nothing is later than {moment(fields['timestamp']) or fields['timestamp']}"
    ),
    "transaction": lambda fields: (
        f"  producer {fields['producer_id']} aborted its transaction of offsets "
        f"{span(fields['first_offset'], fields['last_offset'])}; the last stable offset was "
        f"{fields['last_stable_offset']}"
    ),
    "entries": lambda fields: f"  in all: {counted(fields['entries'], 'entry', 'entries')}",
    "producer": _producer,
    "producers": lambda fields: (
        f"  in all: {counted(fields['producers'], 'producer')} before offset {fields['offset']}"
    ),
    "epoch": lambda fields: f"  leader epoch {fields['epoch']} began at offset {fields['start_offset']}",
    "checkpoint": lambda fields: f"  {fields['topic']}-{fields['partition']}: offset {fields['offset']}",
    "flushed": lambda fields: (
        f"  {fields['topic_id']}-{fields['partition']}: from offset {fields['start_offset']}, flushed up to "
        f"{fields['flushed_end']}"
    ),
    "property": lambda fields: f"  {fields['name']}: {fields['value']}",
}
