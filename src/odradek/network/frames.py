"""Bytes to requests: cuts what one connection receives into frames, each with its length in front.

Role: receive into a buffer that all connections of the loop share, because a read is parsed before the next begins;
what is left of an unfinished frame moves into a buffer of its own. Sans-IO.

Invariants: a frame's own buffer grows with what arrives, never with what was announced. What is handed out is nobody
else's: requests are decoded from it, and views of records point into it. Nothing is cut behind an impossible length.
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
        """The frame that has begun and is not all here."""
        self._size = 0
        self._direct = False
        self.held_bytes = 0
        """Of the unfinished frame."""
        self.impossible_length: int | None = None
        """What a peer announced that no request can have."""

    def abandon(self) -> int:
        """Nothing more is to come: drops the unfinished frame; returns its bytes."""
        held, self.held_bytes = self.held_bytes, 0
        self.unfinished = None
        return held

    def buffer(self) -> memoryview:
        """Where the next bytes are to be received."""
        frame = self.unfinished
        if frame is not None and self._size - self.held_bytes >= DIRECT_BYTES:
            self._direct = True
            if self.held_bytes == len(frame):
                frame.extend(bytes(min(len(frame), FRAME_STEP_BYTES, self._size - len(frame))))
            return memoryview(frame)[self.held_bytes :]
        self._direct = False
        return self._receive

    def received(self, count: int) -> list[bytes | bytearray]:
        """The frames that are whole, now that `count` bytes have been received into `buffer()`."""
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
        """A frame of a request of `size` bytes, of which the first are here."""
        self._size = LENGTH_BYTES + size
        self.held_bytes = len(here)
        self.unfinished = bytearray(max(len(here), min(self._size, FRAME_FIRST_BYTES)))
        self.unfinished[: len(here)] = here

    def _fill(self, view: memoryview) -> int:
        """Adds to the unfinished frame what is its own; returns how much that is."""
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
