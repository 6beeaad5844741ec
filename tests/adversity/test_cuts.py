"""The file system is shut down under the broker, as by a power cut: what was acknowledged, or read, is there."""

from __future__ import annotations

import random

import pytest

from tests.adversity.cuts import FileSystem, _lives, why_not


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_was_acknowledged_survives(kind: str) -> None:
    if (why := why_not(kind)) is not None:
        pytest.skip(why)
    assert _lives(kind, random.Random(3), 2) == []


def test_a_cut_takes_what_was_not_synced() -> None:
    """Else the tests above would show nothing."""
    if (why := why_not("ext4")) is not None:
        pytest.skip(why)
    with FileSystem("ext4") as disk:
        (disk.path / "unsynced").write_bytes(b"gone")
        disk.cut()
        with pytest.raises(OSError, match=r"Input/output|Errno"):
            (disk.path / "more").write_bytes(b"refused")
        disk.unmount()
        disk.mount()
        assert not (disk.path / "unsynced").exists() or (disk.path / "unsynced").read_bytes() == b""
