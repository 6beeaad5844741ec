"""fdatasync by io_uring: every file's own result, in order; and an engine that does without."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from odradek.config import BrokerConfig
from odradek.engines.local import Disk, LocalEngine
from odradek.engines.local.kernel_syncs import KernelSyncs, shared_word
from odradek.loop_scheduler import LoopScheduler
from tests.batches import make_batch
from tests.engines.test_local_recovery import CONFIG, LOG, fill, read_all


def made(limit: int) -> KernelSyncs:
    try:
        return KernelSyncs(limit)
    except OSError as error:
        pytest.skip(f"no io_uring here: {error}")


async def run(syncs: KernelSyncs, fds: list[int]) -> list[OSError | None]:
    done: asyncio.Future[list[OSError | None]] = asyncio.get_running_loop().create_future()
    syncs.start(fds, done.set_result)
    return await asyncio.wait_for(done, 30)


async def test_every_file_has_its_result(tmp_path: Path) -> None:
    syncs = made(8)
    fds = [os.open(tmp_path / f"{index}", os.O_CREAT | os.O_RDWR) for index in range(8)]
    reader, writer = os.pipe()
    closed = os.dup(fds[0])
    os.close(closed)
    for turn in range(60):  # more than the rings hold
        for fd in fds:
            os.write(fd, b"x" * 100)
        some = fds[: 1 + turn % 7]
        assert await run(syncs, some) == [None] * len(some)
    results = await run(syncs, [fds[0], closed, fds[1], writer, fds[2]])
    codes = [None if error is None else error.errno for error in results]
    assert codes == [None, errno.EBADF, None, errno.EINVAL, None]
    assert await run(syncs, fds) == [None] * 8
    syncs.close()
    for fd in (*fds, reader, writer):
        os.close(fd)


WATCHER = """
import ctypes, mmap, sys
with open(sys.argv[1], "r+b") as file:
    memory = mmap.mmap(file.fileno(), 4096)
word, stop = ctypes.c_uint32.from_buffer(memory, 0), ctypes.c_uint32.from_buffer(memory, 64)
print("watching", flush=True)
seen = set()
while not stop.value:
    seen.add(word.value)
print(*sorted(seen))
"""


def test_a_word_is_stored_whole(tmp_path: Path) -> None:
    """Whoever reads it at the same time, as the kernel does, sees the old or the new, and nothing in between."""
    old, new = 0x00FFFFFF, 0x01000000
    path = tmp_path / "memory"
    path.write_bytes(bytes(4096))
    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 4096)
    word, stop = shared_word(memory, 0), shared_word(memory, 64)
    word.value = old
    watcher = subprocess.Popen([sys.executable, "-c", WATCHER, str(path)], stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "watching\n"
    for _ in range(500_000):
        word.value = new
        word.value = old
    stop.value = 1
    seen = {int(value) for value in watcher.communicate(timeout=60)[0].split()}
    assert old in seen and seen <= {old, new}


async def test_descriptors_and_memory_are_given_back() -> None:
    made(4).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        made(4).close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_the_kernel_is_asked_for_plain_rounds(tmp_path: Path) -> None:
    made(4).close()

    class Counted(Disk):
        syncs = 0

        def sync_data(self, fd: int) -> None:
            self.syncs += 1
            super().sync_data(fd)

    disk = Counted()
    engine = LocalEngine(tmp_path, BrokerConfig(), LoopScheduler(), disk)
    await engine.start()
    log = await engine.open(LOG, CONFIG)
    kept = await fill(log, 1)
    before = disk.syncs
    kept += await fill(log, 20)
    assert disk.syncs == before, "no thread was needed"
    assert await read_all(log) == kept
    await engine.stop()


async def test_a_file_that_the_kernel_cannot_sync_fails_its_log(tmp_path: Path) -> None:
    made(4).close()
    engine = LocalEngine(tmp_path, BrokerConfig(), LoopScheduler())
    await engine.start()
    log = await engine.open(LOG, CONFIG)
    kept = await fill(log, 2)
    file = log._segments.all[-1].file
    reader, writer = os.pipe()
    good = os.dup(file.fd)
    durable = log.append([make_batch(10)], 0).durable
    os.dup2(writer, file.fd)  # what cannot be synced stands in the file's place when the round begins
    await asyncio.wait([durable])
    os.dup2(good, file.fd)
    assert durable.exception() is not None
    assert log.failed is durable.exception()
    again = await engine.open(LOG, CONFIG)
    assert await read_all(again) == kept
    kept += await fill(again, 2)
    await engine.stop()
    for fd in (reader, writer, good):
        os.close(fd)
    engine = LocalEngine(tmp_path, BrokerConfig(), LoopScheduler())
    await engine.start()
    assert await read_all(await engine.open(LOG, CONFIG)) == kept
    await engine.stop()


async def test_an_engine_without_io_uring(tmp_path: Path) -> None:
    class Without(Disk):
        asked = 0

        def kernel_syncs(self, limit: int) -> None:
            self.asked += 1

    disk = Without()
    engine = LocalEngine(tmp_path, BrokerConfig(), LoopScheduler(), disk)
    await engine.start()
    log = await engine.open(LOG, CONFIG)
    kept = await fill(log, 10)
    assert await read_all(log) == kept
    assert disk.asked == 1
    await engine.stop()


async def test_a_thread_is_not_starved_by_a_busy_loop(tmp_path: Path) -> None:
    """A loop that is never idle gives up the interpreter lock only for moments; see `Workers`."""
    engine = LocalEngine(tmp_path, BrokerConfig(), LoopScheduler())
    await engine.start()
    loop = asyncio.get_running_loop()
    stop = False

    async def be_busy() -> None:
        while not stop:
            sum(range(5_000))
            await asyncio.sleep(0)

    busy = asyncio.ensure_future(be_busy())
    begun = loop.time()
    for _ in range(20):
        await engine._shared.background.run(os.getpid)
    stop = True
    await busy
    assert loop.time() - begun < 5, "20 times two waits for the lock, each for a few milliseconds"
    await engine.stop()
