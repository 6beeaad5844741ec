"""Cuts the bytes that one connection receives into frames: a length of 4 bytes, then the request. Sans-IO.

Role: receive into one buffer that all connections of the event loop share, which works because each read is parsed
before the next begins. The bytes of an unfinished frame move into a buffer of that frame.

Invariants: a frame's buffer grows with the bytes received, never with the length announced. A returned frame is not
shared or reused: requests are decoded from it, and views of records point into it. After an impossible length no
further frame is cut.
"""

from __future__ import annotations

import struct

RECEIVE_BYTES = 262_144
# A frame's own buffer begins with at most this much, and grows as bytes arrive: what is announced costs nothing. It
# doubles, up to a step that takes the event loop some milliseconds.
FRAME_FIRST_BYTES = 65_536
FRAME_STEP_BYTES = 4_194_304
# When so much of a frame is missing, it is received into the frame's buffer without a copy.
DIRECT_BYTES = 32_768
LENGTH_BYTES = 4
_LENGTH = struct.Struct(">i")


class Frames:
    """The frames of one connection."""

    __slots__ = (
        "_direct",
        "_head",
        "_limit_bytes",
        "_receive",
        "_size",
        "held_bytes",
        "impossible_length",
        "unfinished",
    )

    def __init__(self, receive: memoryview, limit_bytes: int) -> None:
        """`receive` is the shared buffer; no request may be longer than `limit_bytes`."""
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._head = b""
        self.unfinished: bytearray | None = None
        """The frame that has begun and is incomplete."""
        self._size = 0
        self._direct = False
        self.held_bytes = 0
        """Bytes of the unfinished frame that have been received."""
        self.impossible_length: int | None = None
        """The announced length that was negative or above the limit."""

    def abandon(self) -> int:
        """Drops the unfinished frame because the connection has ended; returns how many of its bytes were held."""
        held, self.held_bytes = self.held_bytes, 0
        self.unfinished = None
        return held

    def buffer(self) -> memoryview:
        """The buffer to receive the next bytes into."""
        frame = self.unfinished
        if frame is not None and self._size - self.held_bytes >= DIRECT_BYTES:
            self._direct = True
            if self.held_bytes == len(frame):
                frame.extend(bytes(min(len(frame), FRAME_STEP_BYTES, self._size - len(frame))))
            return memoryview(frame)[self.held_bytes :]
        self._direct = False
        return self._receive

    def received(self, count: int) -> list[bytes | bytearray]:
        """The frames that are complete, now that `count` bytes have been received into `buffer()`."""
        frames: list[bytes | bytearray] = []
        if self._direct:
            self.held_bytes += count
            if self.held_bytes == self._size:
                frames.append(self._finish())
            return frames
        view, limit_bytes = self._receive, self._limit_bytes
        position = 0
        if self.unfinished is not None:
            position = self._fill(view[:count])
            if self.held_bytes < self._size:
                return frames
            frames.append(self._finish())
        elif self._head:
            missing = LENGTH_BYTES - len(self._head)
            head = self._head = self._head + bytes(view[: min(missing, count)])
            if count < missing:
                return frames
            (size,) = _LENGTH.unpack(head)
            if size < 0 or size > limit_bytes:
                self.impossible_length = size
                return frames
            self._head = b""
            self._begin(size, head)
            position = missing + self._fill(view[missing:count])
            if self.held_bytes < self._size:
                return frames
            frames.append(self._finish())
        while count - position >= LENGTH_BYTES:
            (size,) = _LENGTH.unpack_from(view, position)
            if size < 0 or size > limit_bytes:
                self.impossible_length = size
                return frames
            end = position + LENGTH_BYTES + size
            if end > count:
                self._begin(size, view[position:count])
                return frames
            frames.append(bytes(view[position:end]))
            position = end
        if position < count:
            self._head = bytes(view[position:count])
        return frames

    def _begin(self, size: int, here: bytes | memoryview) -> None:
        """Begins the buffer of a frame whose request has `size` bytes, with the bytes received so far."""
        self._size = LENGTH_BYTES + size
        self.held_bytes = len(here)
        self.unfinished = bytearray(max(len(here), min(self._size, FRAME_FIRST_BYTES)))
        self.unfinished[: len(here)] = here

    def _fill(self, view: memoryview) -> int:
        """Copies from `view` the bytes that belong to the unfinished frame; returns how many."""
        frame = self.unfinished
        assert frame is not None
        count = min(len(view), self._size - self.held_bytes)
        end = self.held_bytes + count
        if end > len(frame):
            frame.extend(bytes(min(max(len(frame), end - len(frame)), self._size - len(frame))))
        frame[self.held_bytes : end] = view[:count]
        self.held_bytes = end
        return count

    def _finish(self) -> bytearray:
        frame = self.unfinished
        assert frame is not None and len(frame) == self._size
        self.unfinished = None
        self.held_bytes = 0
        return frame
