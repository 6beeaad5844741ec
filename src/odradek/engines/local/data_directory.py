"""A data directory: its lock, its node and cluster id, its contents at the start, and the clean-shutdown marker.

Role: the files of the directory as a whole. `log_states` keeps the state of each log in it. Everything here blocks and
runs in a thread, except `deleted_name` and `release`.

Invariants:
- One engine at a time uses the directory: `.lock` is held from `take` to `release`.
- A directory of another node or cluster, or one with logs but without `meta.properties`, is not changed.
- The clean-shutdown marker is durably removed before anything is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from odradek.clock import Clock
from odradek.engines.interface import LogIdentity, StorageError
from odradek.engines.local import checkpoints
from odradek.engines.local.disk import Disk
from odradek.engines.local.flushed_offsets import Flushed, FlushedOffsets, Key
from odradek.topic_partition import TopicPartition

UNKNOWN_TOPIC_ID = bytes(16)
_FOLDER = re.compile(r"([a-zA-Z0-9._-]{1,249})-(\d{1,10})")
_DELETED_FOLDER = re.compile(r".*\.[0-9a-f]{32}-delete")
_NAME_BYTES_MAX = 255


@dataclass(slots=True)
class Found:
    """The contents of the directory at a start."""

    properties: dict[str, str] | None
    clean: bool
    topics: dict[TopicPartition, bytes]
    recovery_points: dict[TopicPartition, int]
    start_offsets: dict[TopicPartition, int]
    high_watermarks: dict[TopicPartition, int]
    flushed: dict[Key, Flushed]
    deleted_folders: list[str]
    notes: list[str]


class DataDirectory:
    """See the module. `cluster_id` is compared with the directory's; a new directory gets it (a random one if empty).
    `entropy` returns random bytes for ids."""

    def __init__(
        self, path: str, disk: Disk, clock: Clock, cluster_id: str, node_id: int, entropy: Callable[[int], bytes]
    ) -> None:
        self.path = path
        self.cluster_id = cluster_id
        self.directory_id = ""
        self.lock_fd = -1
        self._disk = disk
        self._clock = clock
        self._node_id = node_id
        self._entropy = entropy

    def take(self, flushed: FlushedOffsets) -> Found:
        """Locks the directory and reads its contents, those of `flushed` included. Raises `OSError`, `StorageError`."""
        disk = self._disk
        disk.make_folder(self.path)
        self.lock_fd = disk.lock(f"{self.path}/{checkpoints.LOCK}")
        names = disk.list_folder(self.path)
        found = Found(None, False, {}, {}, {}, {}, {}, [], [])
        if checkpoints.META_PROPERTIES in names:
            try:
                found.properties = checkpoints.parse_properties(
                    checkpoints.read_file(disk, f"{self.path}/{checkpoints.META_PROPERTIES}")
                )
            except checkpoints.Garbled as error:
                raise StorageError(f"{self.path}/{checkpoints.META_PROPERTIES} cannot be read: {error}") from error
        self._check_identity(found.properties)
        for name in names:
            if _DELETED_FOLDER.fullmatch(name):
                found.deleted_folders.append(f"{self.path}/{name}")
            elif (match := _FOLDER.fullmatch(name)) and disk.is_folder(f"{self.path}/{name}"):
                found.topics[match[1], int(match[2])] = self._read_topic_id(f"{self.path}/{name}", found.notes)
        for file_name, table in (
            (checkpoints.RECOVERY_POINTS, found.recovery_points),
            (checkpoints.LOG_STARTS, found.start_offsets),
            (checkpoints.HIGH_WATERMARKS, found.high_watermarks),
        ):
            if file_name in names:
                try:
                    table.update(checkpoints.parse_offsets(checkpoints.read_file(disk, f"{self.path}/{file_name}")))
                except checkpoints.Garbled as error:
                    found.notes.append(f"{file_name} is not used: {error}")
        found.notes += flushed.read()
        found.flushed = flushed.found
        if found.properties is None:
            if found.topics:
                raise StorageError(f"{self.path} has logs, but no {checkpoints.META_PROPERTIES}: bring that file back")
            self._sync_names_above()
            self._write_identity()
        if checkpoints.CLEAN_SHUTDOWN not in names:
            disk.sync_folder(self.path)  # the names of folders made before a crash may be in the page cache only
        else:
            # Durably removed before anything is written, so that a later crash is recognised as one.
            found.clean = True
            disk.remove(f"{self.path}/{checkpoints.CLEAN_SHUTDOWN}")
            disk.sync_folder(self.path)
        return found

    def _check_identity(self, properties: dict[str, str] | None) -> None:
        """Raises `StorageError` where the directory belongs to another node or cluster, or does not name its own."""
        if properties is None:
            properties = {}
        elif not properties.get("cluster.id") or not properties.keys() & {"node.id", "broker.id"}:
            raise StorageError(f"{self.path}/{checkpoints.META_PROPERTIES} cannot be read: no node.id and cluster.id")
        node_id = properties.get("node.id", properties.get("broker.id", str(self._node_id)))
        if node_id != str(self._node_id):
            raise StorageError(f"{self.path} belongs to node {node_id}, this is node {self._node_id} (node.id)")
        cluster_id = properties.get("cluster.id", "")
        if cluster_id and self.cluster_id and cluster_id != self.cluster_id:
            raise StorageError(f"{self.path} belongs to cluster {cluster_id}, not to {self.cluster_id}")
        self.cluster_id = cluster_id or self.cluster_id or self._new_id()
        self.directory_id = properties.get("directory.id", "") or self._new_id()

    def _new_id(self) -> str:
        """A random UUID (version 4) in Kafka's base 64. It never begins with a dash, which would look like an option on
        a command line."""
        while True:
            value = bytearray(self._entropy(16))
            value[6] = value[6] & 0x0F | 0x40
            value[8] = value[8] & 0x3F | 0x80
            text = checkpoints.format_uuid(bytes(value))
            if not text.startswith("-"):
                return text

    def _sync_names_above(self) -> None:
        """Makes a new directory, and the folders created above it, durable: else a power cut could remove it with all
        its synced files."""
        folder = self.path
        while (above := os.path.dirname(folder)) != folder:
            try:
                self._disk.sync_folder(above)
            except PermissionError:
                return  # this folder was not created by this process
            folder = above

    def _write_identity(self) -> None:
        from datetime import UTC, datetime

        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        properties = {
            "node.id": str(self._node_id),
            "directory.id": self.directory_id,
            "version": "1",
            "cluster.id": self.cluster_id,
        }
        data = checkpoints.format_properties(properties, now.strftime("%a %b %d %H:%M:%S UTC %Y"))
        checkpoints.replace_file(self._disk, f"{self.path}/{checkpoints.META_PROPERTIES}", data)
        self._disk.sync_folder(self.path)

    def _read_topic_id(self, folder: str, notes: list[str]) -> bytes:
        try:
            return checkpoints.parse_partition_metadata(
                checkpoints.read_file(self._disk, f"{folder}/{checkpoints.PARTITION_METADATA}")
            )
        except (FileNotFoundError, checkpoints.Garbled) as error:
            notes.append(f"{folder} has no topic id: {error}")
            return UNKNOWN_TOPIC_ID

    def deleted_name(self, identity: LogIdentity) -> str:
        """The name of a deleted log's folder, as in Kafka: `topic-N.<32 hex digits>-delete`, with the topic's name
        shortened where that is too long."""
        suffix = f"-{identity.partition}.{self._entropy(16).hex()}-delete"
        return identity.topic[: _NAME_BYTES_MAX - len(suffix)] + suffix

    def mark_clean(self) -> None:
        checkpoints.replace_file(
            self._disk, f"{self.path}/{checkpoints.CLEAN_SHUTDOWN}", checkpoints.clean_shutdown_text()
        )
        self._disk.sync_folder(self.path)

    def release(self) -> None:
        if self.lock_fd >= 0:
            self._disk.close(self.lock_fd)
            self.lock_fd = -1
