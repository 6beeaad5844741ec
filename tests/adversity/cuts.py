"""The power is cut under load: a file system of its own is shut down under the broker, without flushing its log.

Role: campaigns (see `torture.py`). The data directory is on a loop-mounted image, ext4 or XFS; `EXT4_IOC_SHUTDOWN` and
`XFS_IOC_GOINGDOWN` make it fail at once and for ever: what was not synced is gone, as after a power cut, and flushes
fail. Then the broker is killed, the image mounted anew (which replays the file system's journal), and it is started on
what is left. What was acknowledged with `acks=all`, and what anybody has read, must be there.

`kafka` does the same to Apache Kafka with its defaults and counts what is missing: a figure, not a failure.

Needs root, loop devices, and the file system's tools; `why_not` says what is missing.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import AdminClient

from tests.adversity.kills import History, Reader, check
from tests.adversity.steady_producer import SteadyProducer
from tests.adversity.test_full_disk import make_small_segments, read_from
from tests.adversity.torture import Report
from tests.broker import BrokerProcess
from tests.raw_client import RawClient

# _IOR('X', 125, __u32), the same for both; 2 is "do not flush the log".
SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
IMAGE_BYTES = {"ext4": 256 << 20, "xfs": 320 << 20}
CUTS_A_BROKER = 5
UNMOUNT_TIMEOUT_S = NOTICE_TIMEOUT_S = 20.0
FAILED = "log failed, opening it again"
LOSSES_MAX = 20


def why_not(kind: str) -> str | None:
    """Why no such file system can be mounted here; None where it can."""
    if os.geteuid() != 0:
        return "only root mounts file systems"
    if shutil.which(f"mkfs.{kind}") is None:
        return f"mkfs.{kind} is not installed"
    try:
        with FileSystem(kind):
            return None
    except (subprocess.CalledProcessError, OSError) as error:
        return f"{kind} cannot be mounted here: {error}"


class FileSystem:
    """A file system in an image. A context manager: it is mounted meanwhile, and gone afterwards."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.place = Path(tempfile.mkdtemp(prefix=f"odradek-{kind}-"))
        self.image = self.place / "image"
        self.path = self.place / "mounted"

    def __enter__(self) -> FileSystem:
        try:
            self.path.mkdir()
            with open(self.image, "wb") as file:
                file.truncate(IMAGE_BYTES[self.kind])
            quiet = ["-q"] if self.kind == "xfs" else ["-q", "-F"]
            subprocess.run([f"mkfs.{self.kind}", *quiet, str(self.image)], check=True, capture_output=True)
            self.mount()
        except BaseException:
            shutil.rmtree(self.place)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.unmount()
        shutil.rmtree(self.place)

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.path)], check=True, capture_output=True)

    def unmount(self) -> None:
        """Tries again where it is busy: the kernel gives up the files of a killed process' flushes a little later."""
        deadline = time.monotonic() + UNMOUNT_TIMEOUT_S
        while (done := subprocess.run(["umount", str(self.path)], capture_output=True, text=True)).returncode:
            assert time.monotonic() < deadline, done.stderr

    def cut(self) -> None:
        """The power is gone."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)


def _until_noticed(broker: BrokerProcess, failed: int) -> None:
    """Until the broker has met a write or a flush that failed: what it acknowledges then it must not lose either."""
    deadline = time.monotonic() + NOTICE_TIMEOUT_S
    while broker.logged.count(FAILED) == failed:
        assert time.monotonic() < deadline, "nothing fails"


@contextmanager
def _held(pid: int) -> Iterator[None]:
    """No flush of the process runs meanwhile. ext4 tells one that has begun before the shutdown, and whose transaction
    the shutdown aborts, that it has succeeded: no power cut does that, because nobody would hear of it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + NOTICE_TIMEOUT_S
        while any(_state(task) in "RD" for task in Path(f"/proc/{pid}/task").iterdir()):
            assert time.monotonic() < deadline, "a flush does not end"
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _state(task: Path) -> str:
    """One letter: R runs, D waits for a disk, T is stopped, S sleeps (the kernel's own threads)."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _lives(kind: str, chance: random.Random, cuts: int) -> list[str]:
    """A broker that loses its power so many times; what was lost in the end."""
    history = History("t", idempotent=True)
    with FileSystem(kind) as disk, tempfile.TemporaryDirectory(prefix="odradek-cuts-") as folder:
        broker = BrokerProcess(Path(folder))
        broker.data = disk.path / "data"
        with broker:
            make_small_segments(AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0}), "t")
            window, size = chance.choice((1, 5, 20)), chance.choice((200, 5_000))
            with (
                SteadyProducer(broker.bootstrap, "t", idempotent=True, size=size, window=window) as producer,
                Reader(lambda: broker.port, history),
            ):
                for _ in range(cuts):
                    producer.wait_for_more(chance.randrange(1, 400))
                    failed = broker.logged.count(FAILED)
                    with _held(broker.pid):
                        disk.cut()
                    _until_noticed(broker, failed)
                    broker.kill()
                    disk.unmount()
                    disk.mount()
                    broker.start()
                producer.wait_for_more(1)
            history.acknowledged.update(producer.acknowledged)
            with RawClient(broker.port) as client:
                return check(history, read_from(client, "t", 0))


def campaign(seed: int, count: int) -> Report:
    """`count` cuts, half of them of ext4, half of XFS, as far as there are such here."""
    report = Report(0, "cuts")
    missing = {kind: why_not(kind) for kind in IMAGE_BYTES}
    kinds = [kind for kind, why in missing.items() if why is None]
    report.notes += [f"not tried: {why}" for why in missing.values() if why is not None]
    while kinds and report.done < count and len(report.losses) < LOSSES_MAX:
        kind = kinds[report.done // CUTS_A_BROKER % len(kinds)]
        cuts = min(CUTS_A_BROKER, count - report.done)
        losses = _lives(kind, random.Random(seed + report.done), cuts)
        report.losses += [f"seed {seed + report.done}, {kind}: {loss}" for loss in losses]
        report.done += cuts
    return report


# --- Apache Kafka, for comparison -------------------------------------------------------------------------------------


@contextmanager
def _kafka(disk: FileSystem, port: int | None) -> Iterator[int]:
    from tests.reference import format_kafka, run_kafka

    folder = disk.path / "kafka"
    if port is None:
        folder.mkdir()
        port = format_kafka(folder)
    with run_kafka(folder, port, "512m"):
        yield port


def kafka(seed: int, count: int) -> Report:
    """What a single Apache Kafka with its defaults keeps of what it acknowledged with `acks=all`."""
    report = Report(0, "cuts of Apache Kafka")
    for number in range(count):
        kind = ("ext4", "xfs")[number % 2] if why_not("xfs") is None else "ext4"
        with FileSystem(kind) as disk:
            with _kafka(disk, None) as port:
                bootstrap = f"127.0.0.1:{port}"
                make_small_segments(AdminClient({"bootstrap.servers": bootstrap}), "t", segment__bytes="1073741824")
                # Its settings, and the topic, are to be there: it is about records.
                subprocess.run(["sync", "-f", str(disk.path)], check=True)
                producer = SteadyProducer(bootstrap, "t", idempotent=True, size=200, window=20)
                producer._thread.start()
                try:
                    producer.wait_for_more(random.Random(seed + number).randrange(2_000, 6_000))
                    acknowledged = dict(producer.acknowledged)
                    disk.cut()
                finally:
                    # Not by leaving its context: that waits for what is not acknowledged.
                    producer._stop = True
                    producer._thread.join()
            disk.unmount()
            disk.mount()
            with _kafka(disk, port), RawClient(port) as client:
                kept = read_from(client, "t", 0)
        lost = sum(1 for offset, value in acknowledged.items() if kept.get(offset) != value)
        report.notes.append(f"{kind}: {lost} of {len(acknowledged)} acknowledged records were lost")
        report.done += 1
    return report
