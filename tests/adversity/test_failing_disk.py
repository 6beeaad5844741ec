"""A disk that fails under a broker with clients: what was acknowledged stays, what fails comes back, others notice
nothing.

By the disk interface, for every kind of file and operation; and by `strace`, which makes the system calls of a whole
process fail.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from odradek.engines.local import Disk
from odradek.engines.local.kernel_syncs import Done, KernelSyncs
from odradek.errors import ErrorCode
from tests.adversity.serving_on_disk import ServingOnDisk
from tests.adversity.steady_producer import WAIT_S, SteadyProducer
from tests.adversity.test_full_disk import SEGMENT_BYTES, check_kept, make_small_segments, read_from
from tests.broker import BrokerProcess
from tests.engines.disks import WatchedDisk
from tests.raw_client import RawClient, batch

SEGMENT_RECORDS = 11  # of 100,000 bytes: each segment of a megabyte is full then
SENT_MAX = 5_000


class KernelDisk(WatchedDisk):
    """Whose flushes are the kernel's, with errors where `refuse` says so."""

    def kernel_syncs(self, limit: int) -> KernelSyncs | None:  # type: ignore[override]
        try:
            return FailingSyncs(limit, self)
        except OSError:
            pytest.skip("no io_uring here")


class FailingSyncs(KernelSyncs):
    def __init__(self, limit: int, disk: KernelDisk) -> None:
        super().__init__(limit)
        self.disk = disk

    def start(self, fds: Sequence[int], done: Done) -> None:
        paths = [self.disk.paths[fd] for fd in fds]

        def told(errors: list[OSError | None]) -> None:
            done([error or self._refused(path) for error, path in zip(errors, paths, strict=True)])

        super().start(fds, told)

    def _refused(self, path: str) -> OSError | None:
        try:
            self.disk._see("kernel sync", path)
        except OSError as error:
            return error
        return None


def failures(serving: ServingOnDisk) -> int:
    return serving.look(lambda: serving.server.partitions.counters.log_failures)


def restarted(folder: Path, work: Callable[[RawClient], None]) -> None:
    """What a new broker finds."""
    with ServingOnDisk(folder, Disk()) as serving, RawClient(serving.port) as client:
        work(client)


# --- a topic's log ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "plain"])
@pytest.mark.parametrize(
    ("operation", "where"),
    [
        ("write", "/t-0/"),
        ("sync", "/t-0/"),
        ("kernel sync", "/t-0/"),
        ("create", "/t-0/"),
        ("sync_folder", "/t-0"),
    ],
)
def test_a_log_fails_and_comes_back(tmp_path: Path, operation: str, where: str, idempotent: bool) -> None:
    disk = KernelDisk() if operation == "kernel sync" else WatchedDisk()
    with ServingOnDisk(tmp_path, disk) as serving, RawClient(serving.port) as client:
        # The kernel flushes rounds that are nothing but bytes; where segments end, others do.
        large = {"segment__bytes": str(SEGMENT_BYTES * 1000)} if operation == "kernel sync" else {}
        make_small_segments(AdminClient({"bootstrap.servers": serving.bootstrap, "log_level": 0}), "t", **large)
        assert client.produce("other", batch(b"made by its first use")).error_code in (0, 3)
        admin = AdminClient({"bootstrap.servers": serving.bootstrap, "log_level": 0})
        with contextlib.suppress(KafkaException):
            admin.create_topics([NewTopic("other", 1, 1)])["other"].result(WAIT_S)
        with SteadyProducer(serving.bootstrap, "t", idempotent=idempotent, size=100_000, window=20) as producer:
            producer.wait_for_more(3 * SEGMENT_RECORDS)
            for round_ in (1, 2):
                seen = failures(serving)
                disk.fail(operation, errno.EIO, where)
                # The second time the log that was opened again fails, too, or fails to open.
                while failures(serving) == seen or disk.refused < round_:
                    # Others are served, readers of what was acknowledged included where the log is open.
                    assert client.produce("other", batch(b"x")).error_code == 0
                    assert producer.sent < SENT_MAX, "the failure was never met"
                disk.heal()
                producer.wait_for_more(2 * SEGMENT_RECORDS)
        if idempotent:
            check_kept(client, "t", producer, 0)
        found = read_from(client, "t", 0)
        assert found.items() >= producer.acknowledged.items()
        others = read_from(client, "other", 0)
        assert serving.look(lambda: serving.server.partitions.counters.offline) == {}

    def kept(client: RawClient) -> None:
        assert read_from(client, "t", 0) == found
        assert read_from(client, "other", 0) == others

    restarted(tmp_path, kept)


# --- the broker's own logs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["write", "sync", "create"])
def test_the_metadata_log_fails(tmp_path: Path, operation: str) -> None:
    """Changes are refused with an error that clients try again after; what is there is served."""
    disk = WatchedDisk()
    with ServingOnDisk(tmp_path, disk) as serving, RawClient(serving.port) as client:
        admin = AdminClient({"bootstrap.servers": serving.bootstrap, "log_level": 0})
        make_small_segments(admin, "t")
        assert client.produce("t", batch(b"before")).error_code == 0
        where = "__cluster_metadata"
        if operation == "create":  # of the next segment, after a failure
            disk.fail("write", errno.EIO, where)
            with pytest.raises(KafkaException):
                make_small_segments(admin, "lost")
        disk.fail(operation, errno.EIO, where)
        for _ in range(3):
            with pytest.raises(KafkaException) as refused:
                make_small_segments(admin, "lost")
            assert refused.value.args[0].code() == ErrorCode.KAFKA_STORAGE_ERROR
            assert client.produce("t", batch(b"meanwhile")).error_code == 0
        assert "lost" not in admin.list_topics(timeout=WAIT_S).topics
        disk.heal()
        make_small_segments(admin, "found")
        assert client.produce("found", batch(b"x")).error_code == 0

    def kept(client: RawClient) -> None:
        assert list(read_from(client, "t", 0).values()) == [b"before"] + [b"meanwhile"] * 3
        assert list(read_from(client, "found", 0).values()) == [b"x"]

    restarted(tmp_path, kept)


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_the_log_of_a_group_fails(tmp_path: Path, operation: str) -> None:
    """Its commits are refused, never forgotten; its member stays one."""
    disk = WatchedDisk()
    with ServingOnDisk(tmp_path, disk) as serving, RawClient(serving.port) as client:
        make_small_segments(AdminClient({"bootstrap.servers": serving.bootstrap, "log_level": 0}), "t")
        lost: list[object] = []
        consumer = Consumer(
            {
                "bootstrap.servers": serving.bootstrap,
                "group.id": "g",
                "session.timeout.ms": 30000,
                "heartbeat.interval.ms": 200,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        consumer.subscribe(["t"], on_revoke=lambda _, partitions: lost.append(partitions))
        committed = 0
        for round_ in range(1, 4):
            assert client.produce("t", batch(b"%d" % round_)).error_code == 0
            message = consumer.poll(WAIT_S)
            assert message is not None and message.error() is None
            consumer.commit(offsets=[TopicPartition("t", 0, round_)], asynchronous=False)
            committed = round_
            disk.fail(operation, errno.EIO, "__consumer_offsets")
            seen = failures(serving)
            consumer.commit(offsets=[TopicPartition("t", 0, 1000)], asynchronous=True)
            while failures(serving) == seen:
                assert client.produce("t", batch(b"")).error_code == 0
            disk.heal()
            # What was refused may be sent again by the client: it is kept as a whole or not at all.
            found = consumer.committed([TopicPartition("t", 0)], WAIT_S)[0].offset
            assert found in (committed, 1000)
            while message.offset() + 1 < client.fetch("t", 0).high_watermark:
                message = consumer.poll(WAIT_S)
                assert message is not None and message.error() is None
        consumer.commit(offsets=[TopicPartition("t", 0, 7)], asynchronous=False)
        assert lost == []
        consumer.close()

    with ServingOnDisk(tmp_path, Disk()) as serving:
        again = Consumer({"bootstrap.servers": serving.bootstrap, "group.id": "g", "log_level": 0})
        # The one that was refused may have been sent again after it.
        assert again.committed([TopicPartition("t", 0)], WAIT_S)[0].offset in (7, 1000)
        again.close()


@pytest.mark.parametrize("operation", ["create", "write", "rename", "sync"])
@pytest.mark.parametrize("where", [".snapshot", "-checkpoint"])
def test_snapshots_and_checkpoints_fail(tmp_path: Path, operation: str, where: str) -> None:
    """They are there to save work: what they say can be learned anew."""
    disk = WatchedDisk()
    settings = {"log__flush__offset__checkpoint__interval__ms": "20"}
    with ServingOnDisk(tmp_path, disk, **settings) as serving, RawClient(serving.port) as client:
        make_small_segments(AdminClient({"bootstrap.servers": serving.bootstrap, "log_level": 0}), "t")
        with SteadyProducer(serving.bootstrap, "t", size=100_000, window=20) as producer:
            producer.wait_for_more(SEGMENT_RECORDS)

            def refuse(seen: str, path: str) -> None:
                # Not the leader epochs', without which nothing is acknowledged.
                if seen == operation and where in path and "leader-epoch" not in path:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))

            disk.refuse = refuse
            producer.wait_for_more(5 * SEGMENT_RECORDS)
        check_kept(client, "t", producer, 0)
        assert failures(serving) == 0
    restarted(tmp_path, lambda client: check_kept(client, "t", producer, 0))


# --- a whole process -------------------------------------------------------------------------------------------------

STRACE = shutil.which("strace")
if STRACE is None and os.environ.get("CI") == "true":
    raise RuntimeError("with CI=true strace must be installed")


def injecting(*what: str, only: Path | None = None) -> tuple[str, ...]:
    """A command that runs another, whose system calls fail: `fdatasync:error=EIO:when=5`."""
    if STRACE is None:
        pytest.skip("strace is not installed")
    names = ",".join(dict.fromkeys(one.partition(":")[0] for one in what))
    paths = ("-P", str(only)) if only is not None else ()
    # -D: the broker is the test's own child, and strace its servant.
    command = (STRACE, "-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", *paths, "-e", f"trace={names}")
    return (*command, *(word for one in what for word in ("-e", f"inject={one}")))


@pytest.mark.parametrize(
    ("what", "only"),
    [
        (("io_uring_setup:error=ENOSYS", "fdatasync:error=EIO:when=20..23"), None),
        (("pwritev,pwritev2:error=EIO:when=20..23",), "t-0/00000000000000000000.log"),
        (("pwritev,pwritev2:error=ENOSPC:when=20..23",), "t-0/00000000000000000000.log"),
    ],
    ids=["flushes", "writes", "no room"],
)
def test_system_calls_fail(tmp_path: Path, what: tuple[str, ...], only: str | None) -> None:
    prefix = injecting(*what, only=tmp_path / "data" / only if only else None)
    with BrokerProcess(tmp_path, prefix=prefix) as broker, RawClient(broker.port) as client:
        make_small_segments(AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0}), "t")
        with SteadyProducer(broker.bootstrap, "t", window=5) as producer:
            producer.wait_for_more(200)
        check_kept(client, "t", producer, 0)
        assert "[Errno 5]" in broker.logged or "No space left" in broker.logged, broker.logged
    with BrokerProcess(tmp_path) as broker, RawClient(broker.port) as client:
        check_kept(client, "t", producer, 0)
