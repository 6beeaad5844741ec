"""A disk with a size: files take whole blocks, as on a tmpfs; a write that finds none left is cut short or refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from odradek.engines.local import Disk
from odradek.records.batch import Buffer

BLOCK_BYTES = 4096


def _blocks(size: int) -> int:
    return -(-size // BLOCK_BYTES)


class QuotaDisk(Disk):
    """Holds `quota_bytes` under `root`; a test may change them. `refused` counts the writes that found no room."""

    def __init__(self, root: Path, quota_bytes: int) -> None:
        super().__init__()
        self.root = root
        self.quota_bytes = quota_bytes
        self.refused = 0

    def used_bytes(self) -> int:
        used = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                try:
                    used += _blocks(os.stat(f"{folder}/{name}").st_size)
                except FileNotFoundError:
                    continue
        return used * BLOCK_BYTES

    def fill(self) -> None:
        """Somebody else takes all that is left."""
        self.quota_bytes = self.used_bytes()

    def space(self, path: str) -> tuple[int, int]:
        return self.quota_bytes, max(0, self.quota_bytes - self.used_bytes())

    def write_at(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        held = _blocks(os.fstat(fd).st_size)
        data = b"".join(buffers)
        if _blocks(position + len(data)) > held:
            left = max(0, (self.quota_bytes - self.used_bytes()) // BLOCK_BYTES)
            room = (held + left) * BLOCK_BYTES - position
            if room <= 0:
                self.refused += 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[:room]
        return super().write_at(fd, [data], position)
