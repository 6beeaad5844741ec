"""`odradek` that kills itself at its n-th write, sync, rename, or flush by the kernel: before it, or after.

    DIE=write:17:before python -m tests.adversity.dying_broker serve ...
    DIE=write:3:after:ARMED ...

Operations are counted from the start of the process, so that small numbers die while the broker starts, which after a
kill is while it recovers; or, where a file is named, from the moment of a SIGUSR1, after which there is that file. Then
the flushed offsets are not counted, which are written whenever some milliseconds are over.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from odradek.cli.main import main
from odradek.engines.local.disk import Disk
from odradek.engines.local.flushed_offsets import FlushedOffsets
from odradek.engines.local.kernel_syncs import KernelSyncs

OPERATIONS: dict[str, tuple[type, str]] = {
    "write": (Disk, "write_at"),
    "sync": (Disk, "sync_data"),
    "sync_folder": (Disk, "sync_folder"),
    "rename": (Disk, "rename"),
    "truncate": (Disk, "truncate"),
    "kernel_sync": (KernelSyncs, "start"),
}


def arm(operation: str, number: int, when: str, armed: str = "") -> None:
    owner, name = OPERATIONS[operation]
    original: Callable[..., Any] = getattr(owner, name)
    left = number if not armed else 0  # which is never counted down to

    def begin(*_: object) -> None:
        nonlocal left
        left = number
        Path(armed).touch()

    write_flushed = FlushedOffsets.write

    def uncounted(flushed: FlushedOffsets) -> None:
        nonlocal left
        kept, left = left, 0
        write_flushed(flushed)
        left = kept

    if armed:
        signal.signal(signal.SIGUSR1, begin)
        FlushedOffsets.write = uncounted  # type: ignore[method-assign]

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


if __name__ == "__main__":
    chosen, at, moment, *file = os.environ["DIE"].split(":")
    arm(chosen, int(at), moment, *file)
    main()
