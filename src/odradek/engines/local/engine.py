"""The local engine: the logs of a data directory; see `Engine`.

Role: start and stop, and the opening and deletion of logs. `data_directory` has the files of the directory as a whole,
`log_states` the state of a log between two openings, and `log` an open log.

Invariants:
- The clean-shutdown marker exists only while no engine writes, and only if every log was closed without a failure or
  has not been opened since the last clean stop.
- A deleted topic's partition is removed from the checkpoints before a log of the same name is created.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial

from odradek.clock import Scheduler
from odradek.config.layers import BrokerConfig
from odradek.config.topic import LogConfig
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
from odradek.engines.local.checkpointing import Checkpointing
from odradek.engines.local.cut import SyncFailed
from odradek.engines.local.data_directory import UNKNOWN_TOPIC_ID, DataDirectory
from odradek.engines.local.deletions import Deletions
from odradek.engines.local.disk import Disk
from odradek.engines.local.files import LoadedIndexes, LogFile, OpenFiles
from odradek.engines.local.flushed_offsets import FLUSHED_OFFSETS, FlushedOffsets
from odradek.engines.local.flusher import Flusher
from odradek.engines.local.log import LocalLog, SharedByLogs
from odradek.engines.local.log_states import LogState, LogStates, compare
from odradek.engines.local.recovery import NOTHING, Loaded, load_log
from odradek.logs import get_logger
from odradek.topic_partition import TopicPartition

log = get_logger("odradek.engine")
warn = log.warning

# Seconds without an attempt to open a log after which all of them count as opened: longer than the delay after which a
# partition tries again to open its log.
OPENINGS_OVER_S = 60.0


class LocalEngine(Engine):
    """Logs in a directory; see `Engine`.

    `cluster_id` is compared with the directory's; a new directory gets it (a random one if None). `entropy` returns
    random bytes for ids. `descriptors` is the engine's share of the process's file descriptors; without it, only the
    settings bound the open files."""

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
        self._opening: set[TopicPartition] = set()
        self._opened_at = 0.0
        """The monotonic time in seconds at which `open` was last called."""
        self._directory = DataDirectory(self.path, self._disk, self._clock, self.cluster_id, node_id, entropy)
        self._checkpoints: Checkpointing
        self._shared: SharedByLogs | None = None
        self._flushed = FlushedOffsets(self._disk, f"{self.path}/{FLUSHED_OFFSETS}")
        self._states = LogStates(scheduler, self._flushed)

    # --- start and stop ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        disk, config, directory = self._disk, self._config, self._directory
        assert directory.lock_fd < 0, "started twice"
        self._flushed = FlushedOffsets(disk, f"{self.path}/{FLUSHED_OFFSETS}")
        self._states = states = LogStates(self._scheduler, self._flushed)
        background = disk.workers(
            "odradek-disk", max(2, config.integer("num.recovery.threads.per.data.dir")), self._scheduler
        )
        try:
            found = await background.run(directory.take, self._flushed)
        except BlockingIOError:
            background.close()
            raise StorageError(f"{self.path} is in use by another broker") from None
        except OSError as error:
            self._release()
            background.close()
            at = f" ({error.filename})" if error.filename not in (None, self.path) else ""
            why = "it is a file" if isinstance(error, FileExistsError) else (error.strerror or str(error)).lower()
            raise StorageError(f"the data directory {self.path} cannot be used: {why}{at}") from error
        except StorageError:
            self._release()
            background.close()
            raise
        self.cluster_id, self.directory_id = directory.cluster_id, directory.directory_id
        states.learn(found, self.path)
        self._checkpoints = Checkpointing(
            self._scheduler,
            disk,
            self.path,
            background,
            self._flushed,
            states.checkpoint_offsets,
            (found.recovery_points.keys() | found.start_offsets.keys()) - states.all.keys(),
        )
        writers: dict[LogFile, LocalLog] = {}
        flusher = Flusher(
            disk,
            disk.workers("odradek-flush", 1, self._scheduler),  # one thread: flush rounds run in order
            lambda: directory.lock_fd,
            config.integer("odradek.flush.syncfs.files"),
            config.integer("odradek.unflushed.max.bytes"),
            self._open_files_max // 2,
            writers,
            self._clock.monotonic,
            self.counters,
            states.write_soon,
        )
        # Called for every Produce, so without a method in between.
        self.has_room = flusher.has_room  # type: ignore[method-assign]

        def want_clean(file: LogFile) -> None:
            if (log := writers.get(file)) is not None:
                flusher.request(log)

        def lost(file: LogFile, error: OSError) -> None:
            # In the loop's next iteration: the log may be in the middle of an append.
            if (log := writers.get(file)) is not None:
                asyncio.get_running_loop().call_soon(log.flush_failed, error)

        self._shared = SharedByLogs(
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
            on_made=states.on_made,
            on_failed=states.on_failed,
            on_closed=states.on_closed,
            on_damage=self._say_damage,
            save_start=partial(states.save_start, self._checkpoints.write),
            note_first=states.note_first,
            deletions=Deletions(self._scheduler, disk, background),
            writers=writers,
        )
        for folder in found.deleted_folders:
            self._shared.deletions.remove_folder(folder, 0)
        self._checkpoints.begin(config.integer("log.flush.offset.checkpoint.interval.ms"), self._keep_flushed)

    def _keep_flushed(self) -> None:
        """Frees the flushed offsets of logs that do not exist, once all logs have been opened: when none was opened for
        `OPENINGS_OVER_S`."""
        if not self._opening and self._clock.monotonic() - self._opened_at >= OPENINGS_OVER_S:
            self._states.forget_unknown()

    async def stop(self) -> None:
        shared = self._shared
        if shared is None:
            return
        self._shared = None
        await asyncio.gather(*(log.close() for log in list(self._states.open.values())), return_exceptions=False)
        if self._states.timer is not None:
            self._states.timer.cancel()
        await shared.deletions.stop()
        await self._checkpoints.end()
        try:
            await self._checkpoints.write()
            self._flushed.write()
            await shared.background.run(self._flushed.sync)
            if all(state.clean for state in self._states.all.values()):
                await shared.background.run(self._directory.mark_clean)
        except OSError as error:
            warn("the stop is not marked as clean", path=self.path, why=str(error))
        shared.flusher.close()
        shared.readers.close()
        shared.background.close()
        self._release()

    def _release(self) -> None:
        self._flushed.close()
        self._directory.release()

    # --- logs ----------------------------------------------------------------------------------------------------

    def identities(self) -> list[LogIdentity]:
        return [state.identity for state in self._states.all.values() if state.has_files]

    async def open(self, identity: LogIdentity, config: LogConfig) -> LocalLog:
        shared = self._shared
        if shared is None:
            raise Refused("the engine is stopped")
        key = (identity.topic, identity.partition)
        assert key not in self._opening, f"{identity} is being opened"
        self._opened_at = self._clock.monotonic()
        self._opening.add(key)
        try:
            failed = self._states.open.get(key)
            if failed is not None:
                assert failed.failed is not None, f"{identity} is open"
                await failed.close()
            return await self._open(shared, key, identity, config)
        finally:
            self._opening.discard(key)

    async def _open(
        self, shared: SharedByLogs, key: TopicPartition, identity: LogIdentity, config: LogConfig
    ) -> LocalLog:
        state = await self._state_of(shared, key, identity)
        loaded = await self._load(shared, state, identity, config) if state.has_files else None
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
        self._states.note_flushed(state)  # all that recovery has checked is flushed
        self._states.open[key] = opened
        if "compact" not in config.cleanup_policy:
            opened.look_for_holes()
        return opened

    async def _state_of(self, shared: SharedByLogs, key: TopicPartition, identity: LogIdentity) -> LogState:
        """The state of a log that is about to be opened. Raises `StorageError` where the folder belongs to another
        topic of the same name."""
        state = self._states.all.get(key)
        if state is None:
            state = LogState(identity, f"{self.path}/{identity}", has_files=False, clean=True)
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
            self._states.all[key] = state
        elif state.identity.topic_id not in (identity.topic_id, UNKNOWN_TOPIC_ID):
            if not is_one_id(state.identity.topic_id, identity.topic_id):
                raise StorageError(f"{state.folder} belongs to another topic of the name {identity.topic}")
            warn("the topic's id in its folder is damaged, and written anew", log=str(identity))
            state.named = False
        if state.identity.topic_id != identity.topic_id:
            flushed = self._flushed.found.get((identity.topic_id, identity.partition))
            for note in compare(state, flushed) if flushed is not None else ():
                warn(note, log=str(identity))
        return state

    async def _load(self, shared: SharedByLogs, state: LogState, identity: LogIdentity, config: LogConfig) -> Loaded:
        """Loads a log from its folder. Raises `Unknown`."""
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
        state.start_offset = min(state.start_offset, loaded.start_offset)  # lower where the stored one was not trusted
        state.saved_start = state.start_offset
        state.highest_epoch = max(state.highest_epoch, loaded.highest_epoch)
        return loaded

    def _say_damage(self, identity: LogIdentity, damages: Sequence[str]) -> None:
        for damage in damages:
            log.error("a log is damaged", log=str(identity), what=damage)
            self.counters.damages += 1

    async def delete(self, identity: LogIdentity) -> None:
        key = (identity.topic, identity.partition)
        assert key not in self._opening, f"{identity} is being opened"
        shared = self._shared
        state = self._states.all.get(key)
        if shared is None or state is None or state.identity.topic_id not in (identity.topic_id, UNKNOWN_TOPIC_ID):
            return
        log = self._states.open.get(key)
        if log is not None:
            log.fail(Refused(f"{identity} was deleted"))
            await log.close()
        if state.has_files:
            to = f"{self.path}/{self._directory.deleted_name(identity)}"
            failure: OSError | None = None
            try:
                await shared.background.run(self._disk.rename, state.folder, to)
                await shared.background.run(self._disk.sync_folder, self.path)
            except OSError as error:
                if self._disk.is_folder(state.folder):
                    raise Unknown(f"deleting {identity} failed: {error}") from error
                failure = error  # the folder is renamed, but a crash may undo that
            self._checkpoints.stale.add(key)
            self._flushed.forget((state.identity.topic_id, state.identity.partition))
            delay_ms = (
                state.config.file_delete_delay_ms if state.config else self._config["log.segment.delete.delay.ms"]
            )
            shared.deletions.remove_folder(to, delay_ms)
            if failure is not None:
                self._states.all.pop(key, None)
                raise Unknown(f"deleting {identity} may be undone by a crash: {failure}") from failure
        self._states.all.pop(key, None)

    def free_now(self) -> None:
        if self._shared is not None:
            self._shared.deletions.free_now()

    # --- room ----------------------------------------------------------------------------------------------------

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
