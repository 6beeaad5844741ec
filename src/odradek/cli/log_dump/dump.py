"""`odradek log dump`: shows the content of a broker's files, and checks them for damage.

Role: find the files in the given paths (a file, a partition's folder, a data directory) and dump them in order; the
indexes beside a segment are compared with it in one walk. The parts: `segments` (batches and records), `records`
(records of internal topics), `indexes`, `state` (snapshots and checkpoints), `report` (output as text and JSON).

Invariants: files are only read, and a broker that uses them may go on running: files that it deletes and batches that
it appends meanwhile are not reported as damage. Folders of Apache Kafka and of Odradek are treated alike, without the
engine's code. Exit code 1 says that something is damaged.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from odradek.cli.failures import CommandFailed, WrongUse
from odradek.cli.output import Output

if TYPE_CHECKING:
    from odradek.cli.log_dump.indexes import Check
    from odradek.cli.log_dump.report import Report
    from odradek.cli.log_dump.segments import RecordPosition, WantedPart

_FILE = re.compile(r"(\d{20})(?:-\d{10})?(\.[a-z-]+)(\.(?:deleted|cleaned|swap))?")
_PARTITION = re.compile(r"(.{1,249}?)-\d{1,10}(?:\.[0-9a-f]+(-delete|-future|-stray))?", re.DOTALL)
_INDEXES = (".index", ".timeindex", ".txnindex")
_EPOCHS = "leader-epoch-checkpoint"
_BOOTSTRAP = "bootstrap.checkpoint"
_STATES = {
    ".deleted": "deleted, to go soon",
    ".cleaned": "a compaction that has not ended",
    ".swap": "compacted, to take its place",
    "-delete": "deleted, to go soon",
    "-future": "a partition that moves here",
    "-stray": "a partition that is not this broker's",
}
_SNAPSHOTS = {".checkpoint": "__cluster_metadata", ".coordinator-snapshot": "__consumer_offsets"}


class _Named(NamedTuple):
    """A file whose name begins with an offset: 00000000000000000042.log.deleted is (42, ".log", ".deleted")."""

    path: Path
    offset: int
    suffix: str
    state: str


def dump(
    *paths: Path,
    records: Annotated[bool, Parameter(negative="")] = False,
    from_: Annotated[int, Parameter(name="--from")] = 0,
    to: int | None = None,
    details: bool | None = None,
    output: Output = "auto",
) -> None:
    """Shows what is in a broker's files, and checks them.

    Parameters
    ----------
    paths
        A file, a partition's folder, or a data directory; several are taken one after another.
    records
        Also the records, and check the inside of every batch. Those of __consumer_offsets and __cluster_metadata are
        shown in plain words.
    from_
        Show batches and records from this offset on. Everything is checked all the same.
    to
        Show batches and records before this offset.
    details
        Batches and index entries, or only totals and damage; of a data directory only these, unless told.
    output
        auto: lines. json: one object a line.
    """
    if not paths:
        raise WrongUse("`odradek log dump` needs a file or a folder of a broker's.")
    if from_ < 0 or (to is not None and to <= from_):
        raise WrongUse(
            f"--from {from_}{'' if to is None else f' --to {to}'} are no offsets, the first before the other."
        )
    from odradek.cli.log_dump.report import Report, counted
    from odradek.cli.log_dump.segments import WantedPart

    report = Report(output == "json", details=True)
    wanted = WantedPart(records, from_, 2**63 - 1 if to is None else to)
    for path in paths:
        is_data_directory = _is_data_directory(path)
        report.details = not is_data_directory or records if details is None else details
        if is_data_directory:
            _Dump(report, wanted).data_directory(path)
        elif path.is_dir():
            _Dump(report, wanted).partition(path)
        else:
            _Dump(report, wanted).file(path)
    report.flush()
    if report.damages > 1:
        raise CommandFailed(f"{counted(report.damages, 'damage')} found; the first: {report.first_damage}.")
    if report.damages:
        raise CommandFailed(f"damage found: {report.first_damage}.")


def _is_data_directory(path: Path) -> bool:
    """Whether a folder contains folders or a file of a data directory. Raises `WrongUse` if it cannot be read."""
    try:
        if not path.is_dir():
            path.open("rb").close()
            return False
        return any(one.is_dir() or one.name == "meta.properties" for one in path.iterdir())
    except OSError as error:
        raise WrongUse(f"cannot read {path}: {(error.strerror or str(error)).lower()}.") from None


def _partition(folder: Path) -> tuple[str, str] | None:
    """The topic and state of a partition's folder, from its name; None if it is no partition's."""
    found = _PARTITION.fullmatch(folder.resolve().name)
    return None if found is None else (found[1], found[2] or "")


def _is_compacted(folder: Path) -> bool:
    """Whether a partition's log was ever compacted, according to the data directory that its folder is in."""
    from odradek.cli.log_dump.state import CLEANER_OFFSETS

    try:
        lines = (folder.resolve().parent / CLEANER_OFFSETS).read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any("-".join(line.split()[:2]) == folder.resolve().name for line in lines)


def _named(path: Path) -> _Named | None:
    found = _FILE.fullmatch(path.name)
    return None if found is None else _Named(path, int(found[1]), found[2], found[3] or "")


def _said(what: str, state: str) -> str:
    return f"{what} ({_STATES[state]})" if state else what


class _Dump:
    """One run of the command: dumps paths in order."""

    def __init__(self, report: Report, wanted: WantedPart) -> None:
        self.report = report
        self.wanted = wanted
        self._is_compacted = False

    def data_directory(self, folder: Path) -> None:
        entries = sorted(folder.iterdir())
        self.report.folder(str(folder), "a data directory")
        for path in entries:
            if path.is_file():
                self._small(path)
        for path in entries:
            if path.is_dir():
                self.partition(path)

    def partition(self, folder: Path) -> None:
        """Dumps all files of a partition's folder, each segment together with its indexes."""
        from odradek.cli.log_dump.segments import RecordPosition

        topic, state = _partition(folder) or (folder.name, "")
        self._is_compacted = _is_compacted(folder)
        self.report.folder(str(folder), _said("a partition", state))
        try:
            paths = sorted(path for path in folder.iterdir() if path.is_file())
        except FileNotFoundError:
            self.report.note("it has gone meanwhile")
            return
        place = RecordPosition()
        with self._gone(folder / _EPOCHS):
            from odradek.cli.log_dump.state import EpochCheck

            epochs = EpochCheck(folder / _EPOCHS) if folder / _EPOCHS in paths else None
        segments: dict[tuple[str, int], list[_Named]] = {}
        others = []
        for path in paths:
            named = _named(path)
            if named is not None and named.suffix in (".log", *_INDEXES):
                segments.setdefault((named.state, named.offset), []).append(named)
            elif path.name != _EPOCHS:
                others.append(path)
        for (found_state, _), files in sorted(segments.items(), key=lambda one: one[0]):
            end = self._segment(
                files, files, topic, RecordPosition() if found_state else place, None if found_state else epochs
            )
            place = place if found_state else end
        for path in others:
            self._small(path)
        if epochs is not None:
            with self._gone(epochs.path):
                epochs.show(self.report)

    def file(self, path: Path) -> None:
        """Dumps one file; an index is compared with the segment beside it."""
        from odradek.cli.log_dump.segments import RecordPosition

        named = _named(path)
        if named is not None and named.suffix in (".log", *_INDEXES):
            partition = _partition(path.resolve().parent)
            self._is_compacted = _is_compacted(path.resolve().parent)
            files = [named]
            log = path.with_name(f"{named.offset:020d}.log{named.state}")
            if named.suffix != ".log" and log.exists():
                files.append(_Named(log, named.offset, ".log", named.state))
            self._segment(files, [named], partition[0] if partition else "", RecordPosition(named.offset), None)
        elif path.name == _EPOCHS:
            from odradek.cli.log_dump.state import EpochCheck

            EpochCheck(path).show(self.report)
        else:
            self._small(path)

    def _segment(
        self, files: list[_Named], shown: list[_Named], topic: str, place: RecordPosition, epochs: Check | None
    ) -> RecordPosition:
        """Checks a segment and its indexes (`files`), and shows those in `shown`; returns where the next segment must
        begin."""
        from odradek.cli.log_dump.indexes import CHECKS
        from odradek.cli.log_dump.records import decoder_of
        from odradek.cli.log_dump.segments import SegmentWalk

        indexes: list[Check] = []
        for one in files:
            if one.suffix in CHECKS:
                with self._gone(one.path):
                    indexes.append(CHECKS[one.suffix](one.path, one.offset))
        for one in files:
            if one.suffix == ".log":
                checks = indexes if epochs is None else [*indexes, epochs]
                walk = SegmentWalk(
                    one.path,
                    one.offset,
                    _said("a segment of the log", one.state),
                    self.report if one in shown else None,
                    decode=decoder_of(topic),
                    checks=checks,
                    wanted=self.wanted,
                    is_compacted=self._is_compacted,
                )
                with self._gone(one.path):
                    place = walk.walk(place)
        for check in indexes:
            check.show(self.report)
        return place

    def _small(self, path: Path) -> None:
        from odradek.cli.log_dump.state import show_state

        named = _named(path)
        with self._gone(path):
            if path.name == _BOOTSTRAP or (named is not None and named.suffix in _SNAPSHOTS):
                self._snapshot(path, named)
            elif not show_state(self.report, path, named.offset if named and named.suffix == ".snapshot" else None):
                self.report.file(str(path), path.name, "no file of a broker that is known here", path.stat().st_size)

    def _snapshot(self, path: Path, named: _Named | None) -> None:
        from odradek.cli.log_dump.records import METADATA, decoder_of
        from odradek.cli.log_dump.segments import RecordPosition, SegmentWalk

        topic = METADATA if named is None else _SNAPSHOTS[named.suffix]
        what = "metadata" if topic == METADATA else "groups and their offsets"
        before = "the first start" if named is None else f"offset {named.offset}"
        state = "" if named is None else named.state
        walk = SegmentWalk(
            path,
            0,
            _said(f"a snapshot: {what}, from all before {before}", state),
            self.report,
            decode=decoder_of(topic),
            wanted=self.wanted,
            is_snapshot=True,
        )
        walk.walk(RecordPosition())

    def _gone(self, path: Path) -> _Gone:
        return _Gone(self.report, path)


class _Gone:
    """Handles errors of reading a file: one that the broker has deleted meanwhile is noted, any other error is reported
    as damage."""

    def __init__(self, report: Report, path: Path) -> None:
        self._report = report
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> bool:
        if isinstance(error, FileNotFoundError):
            self._report.note(f"{self._path.name} has gone meanwhile")
            return True
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            self._report.damage(None, f"{self._path.name} cannot be read: {(error.strerror or str(error)).lower()}")
            return True
        return False
