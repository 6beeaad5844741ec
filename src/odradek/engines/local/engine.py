"""The local engine: a data directory, its lock, its checkpoints, and the logs in it.

Role: what concerns all logs of a directory. Which folders there are and whose they are, who may open which, what is
known of a log between two openings, deletion, the checkpoints, and a clean start and stop. One log's affairs are
`log`'s.

Invariants:
- One engine at a time has the directory: `.lock` is held from start to stop.
- The clean-shutdown marker is there only while nothing writes, and only if every log was closed well or was never in
  doubt.
- A checkpoint never says more than is true: recovery points lie at or below what a flush has covered, and a name
  that was deleted leaves the checkpoints before a log of that name is made again.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from odradek.clock import Scheduler, Timer
from odradek.config import BrokerConfig, LogConfig
from odradek.descriptors import Descriptors, without_surplus
from odradek.engines.interface import (
    Capabilities,
    Engine,
    EngineCounters,
    LogIdentity,
    Refused,
    StorageError,
    Unknown,
    is_one_id,
)
from odradek.engines.local import checkpoints
from odradek.engines.local.checkpointing import Checkpointing
from odradek.engines.local.checkpoints import Partition
from odradek.engines.local.cut import Cut, SyncFailed
from odradek.engines.local.deletions import Deletions
from odradek.engines.local.disk import Disk
from odradek.engines.local.files import LoadedIndexes, LogFile, OpenFiles
from odradek.engines.local.flushed_offsets import FLUSHED_OFFSETS, Flushed, FlushedOffsets, Key
from odradek.engines.local.flusher import Flusher
from odradek.engines.local.log import LocalLog, Shared
from odradek.engines.local.recovery import NOTHING, load_log
from odradek.logs import get_logger

log = get_logger("odradek.engine")
warn = log.warning

UNKNOWN_TOPIC_ID = bytes(16)
_FOLDER = re.compile(r"([a-zA-Z0-9._-]{1,249})-(\d{1,10})")
_DELETED_FOLDER = re.compile(r".*\.[0-9a-f]{32}-delete")
_NAME_BYTES_MAX = 255
# The flushed offsets are written at most this often, which is 8 % of the instructions of a flush that is waited for:
# what a kill leaves unknown was flushed less than this before.
FLUSHED_OFFSETS_EVERY_S = 0.02
# Longer than a partition waits before it tries again to open its log.
OPENINGS_OVER_S = 60.0


@dataclass(slots=True)
class _State:
    """What is known of a log that has a name here, open or not."""

    identity: LogIdentity
    folder: str
    has_files: bool
    clean: bool
    named: bool = False
    """Whether the folder has the topic's id."""
    recovery_point: int = 0
    start_offset: int = 0
    is_vouched: bool = False
    """Whether the two are certain, not only what a text file says."""
    saved_start: int = 0
    """The start offset that is durable."""
    first_offset: int = 0
    """Where the first segment begins."""
    epochs_crc: int | None = None
    """Of the leader epochs' file, where it is known."""
    high_watermark: int = 0
    highest_epoch: int = -1
    cut: Cut | None = None
    config: LogConfig | None = None


@dataclass(slots=True)
class _Found:
    """What a start finds in the directory."""

    properties: dict[str, str] | None
    clean: bool
    topics: dict[Partition, bytes]
    recovery_points: dict[Partition, int]
    start_offsets: dict[Partition, int]
    high_watermarks: dict[Partition, int]
    flushed: dict[Key, Flushed]
    deleted_folders: list[str]
    notes: list[str]


class LocalEngine(Engine):
    """Logs in a directory; see `Engine`.

    `cluster_id` is checked against the directory's, or given to a new one (made up if None). `entropy` makes ids.
    `descriptors` are its part of the process's; without, the settings alone bound what is open."""

    capabilities = Capabilities(durable=True, replicated=False, files=True)

    def __init__(
        self,
        path: str | os.PathLike[str],
        config: BrokerConfig,
        scheduler: Scheduler,
        disk: Disk | None = None,
        cluster_id: str | None = None,
        node_id: int = 1,
        entropy: Callable[[int], bytes] = os.urandom,
        descriptors: Descriptors | None = None,
    ) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.cluster_id = cluster_id or ""
        self.directory_id = ""
        self.counters = EngineCounters()
        self.node_id = node_id
        self._config = config
        self._scheduler = scheduler
        self._clock = scheduler.clock
        self._disk = disk if disk is not None else Disk()
        self._open_files_max = config.integer("odradek.open.files.max")
        if descriptors is not None:
            self._open_files_max = min(self._open_files_max, without_surplus(descriptors.segment_files))
            self._disk.spans_max = descriptors.spans
        self._entropy = entropy
        self._states: dict[Partition, _State] = {}
        self._logs: dict[Partition, LocalLog] = {}
        self._opening: set[Partition] = set()
        self._opened_at = 0.0
        """When somebody last began to open a log."""
        self._checkpoints: Checkpointing
        self._lock_fd = -1
        self._shared: Shared | None = None
        self._flushed = FlushedOffsets(self._disk, f"{self.path}/{FLUSHED_OFFSETS}")
        self._flushed_logs: set[LocalLog] = set()
        self._flushed_timer: Timer | None = None
        self._flushed_at = -FLUSHED_OFFSETS_EVERY_S
        self._flushed_is_written = True

    # --- start and stop ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        assert self._lock_fd < 0, "started twice"
        disk, config = self._disk, self._config
        self._flushed = FlushedOffsets(disk, f"{self.path}/{FLUSHED_OFFSETS}")
        self._flushed_timer = None
        background = disk.workers(
            "odradek-disk", max(2, config.integer("num.recovery.threads.per.data.dir")), self._scheduler
        )
        try:
            found = await background.run(self._take_possession)
        except BlockingIOError:
            background.close()
            raise StorageError(f"{self.path} is in use by another broker") from None
        except OSError as error:
            self._release_lock()
            background.close()
            at = f" ({error.filename})" if error.filename not in (None, self.path) else ""
            why = "it is a file" if isinstance(error, FileExistsError) else (error.strerror or str(error)).lower()
            raise StorageError(f"the data directory {self.path} cannot be used: {why}{at}") from error
        except StorageError:
            self._release_lock()
            background.close()
            raise
        self._learn(found)
        writers: dict[LogFile, LocalLog] = {}
        flusher = Flusher(
            disk,
            disk.workers("odradek-flush", 1, self._scheduler),  # one: its rounds are in order
            lambda: self._lock_fd,
            config.integer("odradek.flush.syncfs.files"),
            config.integer("odradek.unflushed.max.bytes"),
            self._open_files_max // 2,
            writers,
            self._clock.monotonic,
            self.counters,
            self._flushed_soon,
        )
        # Asked for every Produce: no call in between.
        self.has_room = flusher.has_room  # type: ignore[method-assign]

        def want_clean(file: LogFile) -> None:
            if (log := writers.get(file)) is not None:
                flusher.request(log)

        def lost(file: LogFile, error: OSError) -> None:
            # In the next turn: the log may be in the middle of an append.
            if (log := writers.get(file)) is not None:
                asyncio.get_running_loop().call_soon(log.flush_failed, error)

        self._shared = Shared(
            disk=disk,
            clock=self._clock,
            scheduler=self._scheduler,
            root=self.path,
            files=OpenFiles(disk, self._open_files_max, want_clean, lost),
            indexes=LoadedIndexes(config.integer("odradek.index.cache.bytes")),
            flusher=flusher,
            readers=disk.workers("odradek-read", config.integer("odradek.read.threads"), self._scheduler),
            background=background,
            random_below=lambda limit: int.from_bytes(self._entropy(8), "big") % limit,
            on_made=self._on_made,
            on_failed=self._on_failed,
            on_closed=self._on_closed,
            on_damage=self._say_damage,
            save_start=self._save_start,
            note_first=self._note_first,
            deletions=Deletions(self._scheduler, disk, background),
            writers=writers,
        )
        for folder in found.deleted_folders:
            self._shared.deletions.remove_folder(folder, 0)
        self._checkpoints = Checkpointing(
            self._scheduler,
            disk,
            self.path,
            background,
            self._flushed,
            self._checkpoint_contents,
            (found.recovery_points.keys() | found.start_offsets.keys()) - self._states.keys(),
        )
        self._checkpoints.begin(config.integer("log.flush.offset.checkpoint.interval.ms"), self._keep_flushed)

    def _take_possession(self) -> _Found:
        """Locks the directory and reads what is in it. In a thread. Raises `OSError` and `StorageError`."""
        disk = self._disk
        disk.make_folder(self.path)
        self._lock_fd = disk.lock(f"{self.path}/{checkpoints.LOCK}")
        names = disk.list_folder(self.path)
        found = _Found(None, False, {}, {}, {}, {}, {}, [], [])
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
        found.notes += self._flushed.read()
        found.flushed = self._flushed.found
        if found.properties is None:
            if found.topics:
                raise StorageError(f"{self.path} has logs, but no {checkpoints.META_PROPERTIES}: bring that file back")
            self._sync_names_above()
            self._write_identity()
        if checkpoints.CLEAN_SHUTDOWN not in names:
            disk.sync_folder(self.path)  # a crash may have left folders whose names only memory has
        else:
            # Gone for certain before anything is written: a crash from here on is one.
            found.clean = True
            disk.remove(f"{self.path}/{checkpoints.CLEAN_SHUTDOWN}")
            disk.sync_folder(self.path)
        return found

    def _check_identity(self, properties: dict[str, str] | None) -> None:
        """Raises `StorageError` where the directory is another node's or another cluster's, or does not say whose."""
        if properties is None:
            properties = {}
        elif not properties.get("cluster.id") or not properties.keys() & {"node.id", "broker.id"}:
            raise StorageError(f"{self.path}/{checkpoints.META_PROPERTIES} cannot be read: no node.id and cluster.id")
        node_id = properties.get("node.id", properties.get("broker.id", str(self.node_id)))
        if node_id != str(self.node_id):
            raise StorageError(f"{self.path} belongs to node {node_id}, this is node {self.node_id} (node.id)")
        cluster_id = properties.get("cluster.id", "")
        if cluster_id and self.cluster_id and cluster_id != self.cluster_id:
            raise StorageError(f"{self.path} belongs to cluster {cluster_id}, not to {self.cluster_id}")
        self.cluster_id = cluster_id or self.cluster_id or self._new_id()
        self.directory_id = properties.get("directory.id", "") or self._new_id()

    def _new_id(self) -> str:
        """A random UUID (version 4) in Kafka's base 64; one that begins with a dash would look like an option."""
        while True:
            value = bytearray(self._entropy(16))
            value[6] = value[6] & 0x0F | 0x40
            value[8] = value[8] & 0x3F | 0x80
            text = checkpoints.format_uuid(bytes(value))
            if not text.startswith("-"):
                return text

    def _sync_names_above(self) -> None:
        """A new directory, and what had to be made above it, must not go with all its synced files."""
        folder = self.path
        while (above := os.path.dirname(folder)) != folder:
            try:
                self._disk.sync_folder(above)
            except PermissionError:
                return  # made by somebody else, before us
            folder = above

    def _write_identity(self) -> None:
        from datetime import UTC, datetime

        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        properties = {
            "node.id": str(self.node_id),
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

    def _learn(self, found: _Found) -> None:
        self._states = {}
        for key, topic_id in found.topics.items():
            state = self._states[key] = _State(
                identity=LogIdentity(key[0], topic_id, key[1]),
                folder=f"{self.path}/{key[0]}-{key[1]}",
                has_files=True,
                clean=found.clean,
                named=topic_id != UNKNOWN_TOPIC_ID,
                recovery_point=found.recovery_points.get(key, 0),
                start_offset=found.start_offsets.get(key, 0),
                high_watermark=found.high_watermarks.get(key, 0),
            )
            flushed = found.flushed.get((topic_id, key[1]))
            if flushed is not None:
                found.notes += self._compare(state, flushed)
        if found.topics and not found.clean:
            found.notes.append("the last stop was not clean: logs are checked as they are opened")
        for note in found.notes:
            warn(note, path=self.path)

    def _compare(self, state: _State, flushed: Flushed) -> list[str]:
        """Takes over the checksummed entry of a log, which the text files may contradict: because a digit of theirs is
        damaged, or because somebody else has written this directory since (then the recovery point has moved on).
        Returns what is odd."""
        notes: list[str] = []
        is_older = state.recovery_point > flushed.end_offset
        if is_older or (state.clean and state.recovery_point != flushed.end_offset):
            notes.append(
                f"{checkpoints.RECOVERY_POINTS} says {state.recovery_point} of {state.identity}, "
                f"{FLUSHED_OFFSETS} {flushed.end_offset}: the first is damaged, or others wrote this directory"
            )
        if state.start_offset != flushed.start_offset:
            believed = state.start_offset if is_older else flushed.start_offset
            notes.append(
                f"{checkpoints.LOG_STARTS} says {state.start_offset} of {state.identity}, {FLUSHED_OFFSETS} "
                f"{flushed.start_offset}: {believed} is believed"
            )
            state.start_offset = believed
        state.recovery_point = flushed.end_offset
        state.is_vouched = not is_older
        state.first_offset = flushed.first_offset
        state.highest_epoch = max(state.highest_epoch, flushed.epoch)
        state.epochs_crc = flushed.epochs_crc
        return notes

    async def stop(self) -> None:
        shared = self._shared
        if shared is None:
            return
        self._shared = None
        await asyncio.gather(*(log.close() for log in list(self._logs.values())), return_exceptions=False)
        if self._flushed_timer is not None:
            self._flushed_timer.cancel()
        await shared.deletions.stop()
        await self._checkpoints.end()
        try:
            await self._checkpoints.write()
            self._flushed.write()
            await shared.background.run(self._flushed.sync)
            if all(state.clean for state in self._states.values()):
                await shared.background.run(self._mark_clean)
        except OSError as error:
            warn("the stop is not marked as clean", path=self.path, why=str(error))
        shared.flusher.close()
        shared.readers.close()
        shared.background.close()
        self._release_lock()

    def _mark_clean(self) -> None:
        checkpoints.replace_file(
            self._disk, f"{self.path}/{checkpoints.CLEAN_SHUTDOWN}", checkpoints.clean_shutdown_text()
        )
        self._disk.sync_folder(self.path)

    def _release_lock(self) -> None:
        self._flushed.close()
        if self._lock_fd >= 0:
            self._disk.close(self._lock_fd)
            self._lock_fd = -1

    # --- logs ----------------------------------------------------------------------------------------------------

    def identities(self) -> list[LogIdentity]:
        return [state.identity for state in self._states.values() if state.has_files]

    async def open(self, identity: LogIdentity, config: LogConfig) -> LocalLog:
        shared = self._shared
        if shared is None:
            raise Refused("the engine is stopped")
        key = (identity.topic, identity.partition)
        assert key not in self._opening, f"{identity} is being opened"
        self._opened_at = self._clock.monotonic()
        self._opening.add(key)
        try:
            failed = self._logs.get(key)
            if failed is not None:
                assert failed.failed is not None, f"{identity} is open"
                await failed.close()
            return await self._open(shared, key, identity, config)
        finally:
            self._opening.discard(key)

    async def _open(self, shared: Shared, key: Partition, identity: LogIdentity, config: LogConfig) -> LocalLog:
        state = self._states.get(key)
        if state is None:
            state = _State(identity, f"{self.path}/{identity}", has_files=False, clean=True)
            if key in self._checkpoints.stale:
                try:
                    await self._checkpoints.write()
                except OSError as error:
                    raise Unknown(f"writing the checkpoints failed: {error}") from error
            flushed = self._flushed.found.get((identity.topic_id, identity.partition))
            if flushed is not None:
                gone = f"{state.folder}, whose log was flushed up to offset {flushed.end_offset}, is gone"
                self._say_damage(identity, [gone])
                try:
                    await shared.background.run(self._disk.make_folder, state.folder)
                except OSError as error:
                    raise Unknown(f"opening {identity} failed: {error}") from error
                state.has_files = True
                state.recovery_point, state.start_offset = flushed.end_offset, flushed.start_offset
                state.first_offset = flushed.end_offset
                state.highest_epoch = flushed.epoch
                state.is_vouched = True
            self._states[key] = state
        elif state.identity.topic_id not in (identity.topic_id, UNKNOWN_TOPIC_ID):
            if not is_one_id(state.identity.topic_id, identity.topic_id):
                raise StorageError(f"{state.folder} belongs to another topic of the name {identity.topic}")
            warn("the topic's id in its folder is damaged, and written anew", log=str(identity))
            state.named = False
        if state.identity.topic_id != identity.topic_id:
            flushed = self._flushed.found.get((identity.topic_id, identity.partition))
            for note in self._compare(state, flushed) if flushed is not None else ():
                warn(note, log=str(identity))
        loaded = None
        if state.has_files:
            try:
                loaded = await shared.background.run(
                    lambda: load_log(
                        self._disk,
                        state.folder,
                        recovery_point=NOTHING if state.clean else state.recovery_point,
                        flushed_end=state.recovery_point,
                        start_offset=state.start_offset,
                        is_vouched=state.is_vouched,
                        epochs_crc=state.epochs_crc,
                        cut=state.cut,
                        interval=config.index_interval_bytes,
                        compacted="compact" in config.cleanup_policy,
                        now_ms=self._clock.now_ms(),
                    )
                )
            except OSError as error:
                if isinstance(error, SyncFailed) and state.cut is not None:
                    state.cut = state.cut.fallback or state.cut
                raise Unknown(f"opening {identity} failed: {error}") from error
            for note in loaded.notes:
                warn(note, log=str(identity))
            first_offset = loaded.segments[0].base_offset
            if state.is_vouched and state.first_offset < first_offset:
                loaded.damages.append(f"offsets {state.first_offset} to {first_offset - 1} are in no segment")
            state.first_offset = first_offset
            self._say_damage(identity, loaded.damages)
            state.start_offset = min(state.start_offset, loaded.start_offset)  # less where it was not believed
            state.saved_start = state.start_offset
            state.highest_epoch = max(state.highest_epoch, loaded.highest_epoch)
        unclean = not state.clean
        state.identity = identity
        state.highest_epoch += 1
        state.clean = False
        state.cut = None
        state.config = config
        adopt = state.has_files and not state.named
        opened = LocalLog(
            shared, identity, config, state.folder, state.highest_epoch, loaded, adopt=adopt, unclean=unclean
        )
        state.recovery_point = opened.flushed_end
        state.is_vouched = True
        state.epochs_crc = opened.epochs.written_crc
        self._note_flushed(state)  # what was checked is flushed: the checkpoints say so, and may not say more
        self._logs[key] = opened
        if "compact" not in config.cleanup_policy:
            opened.look_for_holes()
        return opened

    def _say_damage(self, identity: LogIdentity, damages: Sequence[str]) -> None:
        for damage in damages:
            log.error("a log is damaged", log=str(identity), what=damage)
            self.counters.damages += 1

    def _on_made(self, log: LocalLog) -> None:
        state = self._states[log.identity.topic, log.identity.partition]
        state.has_files = True
        state.first_offset = log.end_offset

    def _on_failed(self, log: LocalLog, cut: Cut | None) -> None:
        key = (log.identity.topic, log.identity.partition)
        if self._logs.get(key) is log:
            self._states[key].cut = cut

    def _on_closed(self, log: LocalLog) -> None:
        key = (log.identity.topic, log.identity.partition)
        if self._logs.get(key) is log:
            del self._logs[key]
        state = self._states.get(key)
        if state is not None:
            # A failed log is not clean before it has been opened again, which cuts it.
            state.clean = log.failed is None or (state.cut is None and not state.has_files)
            state.named = log.named
            state.recovery_point = log.flushed_end
            state.high_watermark = log.durable_end
            state.config = log.config
            state.epochs_crc = log.epochs.written_crc
            self._note_flushed(state)

    # --- flushed offsets -----------------------------------------------------------------------------------------

    def _note_flushed(self, state: _State) -> None:
        if state.has_files:
            key = (state.identity.topic_id, state.identity.partition)
            entry = Flushed(
                state.recovery_point,
                state.start_offset,
                state.first_offset,
                state.highest_epoch,
                state.epochs_crc or 0,
            )
            self._flushed.note(key, entry)

    def _flushed_soon(self, logs: Iterable[LocalLog]) -> None:
        """These logs have been flushed; that is written at once, or with what comes in the next milliseconds."""
        self._flushed_logs.update(logs)
        if self._flushed_timer is None:
            wait_s = self._flushed_at + FLUSHED_OFFSETS_EVERY_S - self._clock.monotonic()
            if wait_s > 0:
                self._flushed_timer = self._scheduler.call_later(wait_s, self._write_flushed)
            else:
                self._write_flushed()

    def _keep_flushed(self) -> None:
        """Forgets what the file says of logs that there are none of, when those of all topics have been opened: when
        nobody has tried to open one for a while."""
        if self._opening or self._clock.monotonic() - self._opened_at < OPENINGS_OVER_S:
            return
        self._flushed.keep({(one.identity.topic_id, one.identity.partition) for one in self._states.values()})

    def _take_flushed(self) -> None:
        """Notes how far logs have been flushed since the last time."""
        logs, self._flushed_logs = self._flushed_logs, set()
        for log in logs:
            key = (log.identity.topic, log.identity.partition)
            if self._logs.get(key) is log:
                state = self._states[key]
                state.recovery_point, state.epochs_crc = log.flushed_end, log.epochs.written_crc
                self._note_flushed(state)

    def _write_flushed(self) -> None:
        if self._flushed_timer is not None:
            self._flushed_timer.cancel()
            self._flushed_timer = None
        self._flushed_at = self._clock.monotonic()
        self._take_flushed()
        try:
            self._flushed.write()
        except OSError as error:
            if self._flushed_is_written:
                warn(f"{FLUSHED_OFFSETS} is not written: after a crash more is checked", why=str(error))
            self._flushed_is_written = False
        else:
            self._flushed_is_written = True

    async def delete(self, identity: LogIdentity) -> None:
        key = (identity.topic, identity.partition)
        assert key not in self._opening, f"{identity} is being opened"
        shared = self._shared
        state = self._states.get(key)
        if shared is None or state is None or state.identity.topic_id not in (identity.topic_id, UNKNOWN_TOPIC_ID):
            return
        log = self._logs.get(key)
        if log is not None:
            log.fail(Refused(f"{identity} was deleted"))
            await log.close()
        if state.has_files:
            to = f"{self.path}/{self._deleted_name(identity)}"
            failure: OSError | None = None
            try:
                await shared.background.run(self._disk.rename, state.folder, to)
                await shared.background.run(self._disk.sync_folder, self.path)
            except OSError as error:
                if self._disk.is_folder(state.folder):
                    raise Unknown(f"deleting {identity} failed: {error}") from error
                failure = error  # it is gone, but a crash may bring it back
            self._checkpoints.stale.add(key)
            self._flushed.forget((state.identity.topic_id, state.identity.partition))
            delay_ms = (
                state.config.file_delete_delay_ms if state.config else self._config["log.segment.delete.delay.ms"]
            )
            shared.deletions.remove_folder(to, delay_ms)
            if failure is not None:
                self._states.pop(key, None)
                raise Unknown(f"deleting {identity} may be undone by a crash: {failure}") from failure
        self._states.pop(key, None)

    def _deleted_name(self, identity: LogIdentity) -> str:
        """`topic-N.<32 hex digits>-delete`, the topic's name cut where that is too long, as Kafka does."""
        suffix = f"-{identity.partition}.{self._entropy(16).hex()}-delete"
        return identity.topic[: _NAME_BYTES_MAX - len(suffix)] + suffix

    def free_now(self) -> None:
        if self._shared is not None:
            self._shared.deletions.free_now()

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def _checkpoint_contents(self) -> dict[str, bytes]:
        self._take_flushed()  # no text says more than this
        recovery_points: dict[Partition, int] = {}
        start_offsets: dict[Partition, int] = {}
        high_watermarks: dict[Partition, int] = {}
        for key, state in self._states.items():
            if not state.has_files:
                continue
            log = self._logs.get(key)
            recovery_points[key] = log.flushed_end if log is not None else state.recovery_point
            high_watermarks[key] = log.durable_end if log is not None else state.high_watermark
            if state.start_offset > 0:
                start_offsets[key] = state.start_offset
        return {
            checkpoints.RECOVERY_POINTS: checkpoints.format_offsets(recovery_points),
            checkpoints.LOG_STARTS: checkpoints.format_offsets(start_offsets),
            checkpoints.HIGH_WATERMARKS: checkpoints.format_offsets(high_watermarks),
            checkpoints.CLEANER_OFFSETS: b"",
        }

    def _note_first(self, log: LocalLog, offset: int) -> Callable[[], None]:
        """The segments below `offset` are about to be deleted; what is returned makes that durable, in a thread."""
        state = self._states[log.identity.topic, log.identity.partition]
        state.first_offset = offset
        self._note_flushed(state)
        self._write_flushed()
        return self._flushed.sync

    async def _save_start(self, log: LocalLog, offset: int) -> None:
        state = self._states[log.identity.topic, log.identity.partition]
        state.start_offset = max(state.start_offset, offset)
        self._note_flushed(state)
        try:
            await self._checkpoints.write()
        except OSError:
            if state.start_offset == offset:  # else another one, which is under way, asks for more
                state.start_offset = state.saved_start
                self._note_flushed(state)
            raise
        state.saved_start = max(state.saved_start, offset)

    # --- the whole -----------------------------------------------------------------------------------------------

    def unflushed_bytes(self) -> int:
        return self._shared.flusher.unflushed_bytes if self._shared is not None else 0

    async def room(self) -> None:
        if self._shared is not None:
            await self._shared.flusher.room()

    def usage(self) -> tuple[str, int, int]:
        try:
            total, usable = self._disk.space(self.path)
        except OSError:
            return self.path, -1, -1
        return self.path, total, usable
