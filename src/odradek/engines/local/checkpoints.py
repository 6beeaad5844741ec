"""The small text files of a data directory, in Kafka's formats, and how they are replaced safely.

    recovery-point-offset-checkpoint, log-start-offset-checkpoint, replication-offset-checkpoint:
                             version 0, the number of lines, then `topic partition offset`
    leader-epoch-checkpoint  version 0, the number of lines, then `epoch start_offset`
    cleaner-offset-checkpoint  as the first three; Kafka leaves it empty while nothing was compacted
    partition.metadata       `version: 0` and `topic_id: ` in URL-safe base 64, without a final newline
    meta.properties          Java properties: node.id, directory.id, version, cluster.id
    .kafka_cleanshutdown     JSON

Role: format and parse the files. Invariants: parsers check what they read, and raise `Garbled` for anything
unexpected; callers can do without the file. A file is replaced by writing another, syncing it and renaming it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from itertools import pairwise

from odradek.engines.local.disk import Disk
from odradek.topic_partition import TopicPartition

RECOVERY_POINTS = "recovery-point-offset-checkpoint"
LOG_STARTS = "log-start-offset-checkpoint"
HIGH_WATERMARKS = "replication-offset-checkpoint"
CLEANER_OFFSETS = "cleaner-offset-checkpoint"
LEADER_EPOCHS = "leader-epoch-checkpoint"
PARTITION_METADATA = "partition.metadata"
META_PROPERTIES = "meta.properties"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"
LOCK = ".lock"
TEMPORARY = ".tmp"

_CLEAN_SHUTDOWN_TEXT = b'{"version":0,"brokerEpoch":-1}'


class Garbled(Exception):
    """A file is not in its format."""


def clean_shutdown_text() -> bytes:
    """The contents of the clean-shutdown file. Kafka stores the broker epoch for its controllers there; -1 is none."""
    return _CLEAN_SHUTDOWN_TEXT


def format_offsets(offsets: Mapping[TopicPartition, int]) -> bytes:
    lines = [f"{topic} {partition} {offset}\n" for (topic, partition), offset in offsets.items()]
    return f"0\n{len(lines)}\n{''.join(lines)}".encode()


def parse_offsets(data: bytes | bytearray) -> dict[TopicPartition, int]:
    """The offset of each partition; empty for an empty file."""
    found: dict[TopicPartition, int] = {}
    for fields in _lines(data, 3):
        offset = _number(fields[2])
        if offset < 0:
            raise Garbled(f"offset {offset}")
        found[fields[0], _number(fields[1])] = offset
    return found


def format_epochs(epochs: Iterable[tuple[int, int]]) -> bytes:
    lines = [f"{epoch} {start_offset}\n" for epoch, start_offset in epochs]
    return f"0\n{len(lines)}\n{''.join(lines)}".encode()


def parse_epochs(data: bytes | bytearray) -> list[tuple[int, int]]:
    """(epoch, start offset), ascending in both."""
    if not data:
        raise Garbled("empty")
    found = [(_number(epoch), _number(start)) for epoch, start in _lines(data, 2)]
    for (epoch, start), (later_epoch, later_start) in pairwise(found):
        if epoch >= later_epoch or start > later_start:
            raise Garbled("epochs out of order")
    return found


def _lines(data: bytes | bytearray, fields: int) -> list[list[str]]:
    if not data:
        return []
    try:
        version, count, *lines = bytes(data).decode().splitlines()
    except (ValueError, UnicodeDecodeError):
        raise Garbled("no version and count") from None
    if _number(version) != 0:
        raise Garbled(f"version {version}")
    found = [line.split() for line in lines if line]
    if _number(count) != len(found) or any(len(line) != fields for line in found):
        raise Garbled(f"{count} lines of {fields} fields are not there")
    return found


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Garbled(f"{text!r} is not a number") from None


def format_uuid(value: bytes) -> str:
    """16 bytes as Kafka writes them: URL-safe base 64 without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def parse_uuid(text: str) -> bytes:
    try:
        value = base64.b64decode(text + "==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != 16:
        raise Garbled(f"{text!r} is not an id")
    return value


def format_partition_metadata(topic_id: bytes) -> bytes:
    return f"version: 0\ntopic_id: {format_uuid(topic_id)}".encode()


def parse_partition_metadata(data: bytes | bytearray) -> bytes:
    """The topic id."""
    try:
        fields = dict(line.split(": ", 1) for line in bytes(data).decode().splitlines())
        version, topic_id = fields["version"], fields["topic_id"]
    except (ValueError, KeyError, UnicodeDecodeError):
        raise Garbled("no version and topic_id") from None
    if version != "0":
        raise Garbled(f"version {version}")
    return parse_uuid(topic_id)


def format_properties(properties: Mapping[str, str], date: str) -> bytes:
    """A Java properties file with its two comment lines. The values need no escapes."""
    lines = "".join(f"{name}={value}\n" for name, value in properties.items())
    return f"#\n#{date}\n{lines}".encode()


def parse_properties(data: bytes | bytearray) -> dict[str, str]:
    """Parses a Java properties file as Kafka writes it here: without escapes and continued lines."""
    try:
        text = bytes(data).decode()
    except UnicodeDecodeError:
        raise Garbled("not UTF-8") from None
    found: dict[str, str] = {}
    for line in text.splitlines():
        line = line.strip()
        if line and line[0] not in "#!":
            name, equals, value = line.partition("=")
            if not equals:
                raise Garbled(f"{line!r} is no property")
            found[name.strip()] = value.strip()
    return found


def read_file(disk: Disk, path: str) -> bytearray:
    """Reads a whole small file. Raises `OSError`. Blocks."""
    fd = disk.open(path, writable=False)
    try:
        return disk.read_at(fd, disk.size(path), 0)
    finally:
        disk.close(fd)


def write_new(disk: Disk, path: str, data: bytes, sync: bool) -> None:
    """Writes a new file, and replaces a file of this name that an earlier attempt left. Blocks."""
    try:
        fd = disk.open(path, create=True)
    except FileExistsError:
        disk.remove(path)
        fd = disk.open(path, create=True)
    try:
        write_all(disk, fd, data, 0)
        if sync:
            disk.sync_data(fd)
    finally:
        disk.close(fd)


def write_all(disk: Disk, fd: int, data: bytes | memoryview, position: int) -> None:
    """Writes all of `data`, in as many writes as needed. Raises `OSError`."""
    view = memoryview(data)
    while view:
        count = disk.write_at(fd, [view], position)
        if count <= 0:
            raise OSError("the disk took nothing")
        view = view[count:]
        position += count


def replace_file(disk: Disk, path: str, data: bytes) -> None:
    """Replaces a file's contents by `data` atomically; durable when the caller has synced the folder. Blocks."""
    write_new(disk, path + TEMPORARY, data, sync=True)
    disk.rename(path + TEMPORARY, path)


def remove_if_there(disk: Disk, path: str) -> None:
    """Removes a file, if it exists."""
    try:
        disk.remove(path)
    except FileNotFoundError:
        return
