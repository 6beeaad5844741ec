"""fdatasync without a thread: io_uring, announced by an eventfd.

Role: let the kernel's own workers sync files while the event loop goes on. A Python thread is as fast while the loop
is often idle. Beside a busy loop the thread waits, because it needs the interpreter lock twice a flush (see `Workers`);
the kernel does not need it, and its completion is one more event of the loop. With a loop that always has 0.1 ms of
work to do, and one client after the other, io_uring makes 2,000 flushes/s with p99 0.7 ms, a thread 250 with p99 6 ms.
(`io_submit` would need no thread either, but its workers are bound to the processor of the caller: beside a busy loop
they wait 4 ms for it.)

The kernel reads the rings' shared words while this module writes them, so each is stored by one instruction
(`shared_word`). `struct` stores in two steps, zeros first: the kernel, completing a sync in between, read a head of 0,
took the completion ring for full, and did not publish the completion, so that the flush never ended.

Where io_uring is missing (another system, an old kernel, a container that forbids it), `KernelSyncs` raises `OSError`
when made, and threads do the work. The rings are shared memory without a lock: the control that Python has over the
order of loads and stores suffices on x86-64 alone, so other architectures use threads.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import platform
import struct
import sys
from collections.abc import Callable, Sequence

_IO_URING_SETUP, _IO_URING_ENTER, _IO_URING_REGISTER = 425, 426, 427
_REGISTER_EVENTFD = 4
_OFFSET_SUBMISSIONS = 0x10000000
_OP_FSYNC = 3
_FSYNC_DATASYNC = 1
# struct io_uring_params: 2 sizes, 8 words, the offsets in the submission ring, those in the completion ring
_PARAMETERS = struct.Struct("<10I10I10I")
_SQ_TAIL, _SQ_MASK, _SQ_ARRAY = 11, 12, 16
_CQ_HEAD, _CQ_TAIL, _CQ_MASK, _CQ_ENTRIES = 20, 21, 22, 25
_WORD_MASK = 0xFFFFFFFF
# An entry of the submission ring's array: the index of a submission.
_SLOT = struct.Struct("<I")
# struct io_uring_sqe and io_uring_cqe
_SUBMISSION = struct.Struct("<BBHiQQIIQHHIQQ")
_COMPLETION = struct.Struct("<QiI")

Done = Callable[[list[OSError | None]], None]


def shared_word(memory: mmap.mmap, position: int) -> ctypes.c_uint32:
    """A word of shared memory, whose `value` is read and stored by one instruction. The mapping cannot be closed while
    the word exists."""
    return ctypes.c_uint32.from_buffer(memory, position)


class KernelSyncs:
    """Runs one set of at most `limit` fdatasyncs at a time. Used on the event loop."""

    def __init__(self, limit: int) -> None:
        if sys.platform != "linux" or platform.machine() != "x86_64":
            raise OSError("no io_uring that Python can use")
        self.limit = limit
        self._loop = asyncio.get_running_loop()
        # PyDLL does not release the interpreter lock: these calls do not wait.
        self._syscall = ctypes.PyDLL(None, use_errno=True).syscall
        self._syscall.restype = ctypes.c_long
        parameters = ctypes.create_string_buffer(_PARAMETERS.size)
        self._fd = self._call(_IO_URING_SETUP, limit, parameters)
        self._eventfd = -1
        try:
            places = _PARAMETERS.unpack(parameters.raw)
            entries, completions = places[0], places[1]
            self._sq_array, self._cq_entries = places[_SQ_ARRAY], places[_CQ_ENTRIES]
            size = max(self._sq_array + 4 * entries, self._cq_entries + _COMPLETION.size * completions)
            self._rings = mmap.mmap(self._fd, size)
            self._submissions = mmap.mmap(self._fd, entries * _SUBMISSION.size, offset=_OFFSET_SUBMISSIONS)
            self._sq_tail = shared_word(self._rings, places[_SQ_TAIL])
            self._cq_head = shared_word(self._rings, places[_CQ_HEAD])
            self._cq_tail = shared_word(self._rings, places[_CQ_TAIL])
            self._sq_mask = shared_word(self._rings, places[_SQ_MASK]).value
            self._cq_mask = shared_word(self._rings, places[_CQ_MASK]).value
            self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._call(_IO_URING_REGISTER, self._fd, _REGISTER_EVENTFD, (ctypes.c_int * 1)(self._eventfd), 1)
        except OSError:
            self._close_descriptors()
            raise
        self._tail = 0
        self._head = 0
        self._results: list[OSError | None] = []
        self._open = 0
        self._done: Done | None = None
        self._loop.add_reader(self._eventfd, self._collect)

    def _call(self, number: int, *arguments: object) -> int:
        result: int = self._syscall(ctypes.c_long(number), *arguments)
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    def start(self, fds: Sequence[int], done: Done) -> None:
        """Starts to sync the files' data. When all syncs have ended, calls `done` with an error or None for each file,
        in their order. Raises `OSError` where none was started."""
        assert self._done is None
        assert 0 < len(fds) <= self.limit
        tail = self._tail
        for number, fd in enumerate(fds):
            slot = tail & self._sq_mask
            _SUBMISSION.pack_into(
                self._submissions,
                slot * _SUBMISSION.size,
                *(_OP_FSYNC, 0, 0, fd, 0, 0, 0, _FSYNC_DATASYNC, number, 0, 0, 0, 0, 0),
            )
            _SLOT.pack_into(self._rings, self._sq_array + 4 * slot, slot)
            tail = (tail + 1) & _WORD_MASK
        self._sq_tail.value = tail
        try:
            begun = self._call(_IO_URING_ENTER, self._fd, len(fds), 0, 0, None, 0)
        except OSError:
            self._sq_tail.value = self._tail
            raise
        self._tail = (self._tail + begun) & _WORD_MASK
        self._sq_tail.value = self._tail
        self._results = [None] * begun + [OSError("the kernel did not begin it") for _ in fds[begun:]]
        self._open = begun
        self._done = done

    def _collect(self) -> None:
        """Reads the completions; called when the eventfd is readable."""
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            return
        tail = self._cq_tail.value
        while self._head != tail:
            place = self._cq_entries + (self._head & self._cq_mask) * _COMPLETION.size
            number, result, _ = _COMPLETION.unpack_from(self._rings, place)
            self._head = (self._head + 1) & _WORD_MASK
            self._open -= 1
            if result < 0:
                self._results[number] = OSError(-result, os.strerror(-result))
        self._cq_head.value = self._head
        if self._open == 0 and self._done is not None:
            done, self._done = self._done, None
            done(self._results)

    def close(self) -> None:
        """Closes the rings and descriptors. No sync may be running."""
        assert self._open == 0
        self._loop.remove_reader(self._eventfd)
        del self._sq_tail, self._cq_head, self._cq_tail
        self._submissions.close()
        self._rings.close()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        os.close(self._fd)
        if self._eventfd >= 0:
            os.close(self._eventfd)
