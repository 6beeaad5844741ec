"""How descriptors are divided, whatever the limit is."""

from __future__ import annotations

import logging
import resource
import subprocess
import sys

import pytest

from odradek import descriptors
from odradek.config import BrokerConfig
from odradek.descriptors import CONNECTIONS_MIN, SEGMENT_FILES_MIN, divide, with_surplus, without_surplus

HTTP = {"odradek.http.listen": "127.0.0.1:0"}


def at(monkeypatch: pytest.MonkeyPatch, limit: int, used: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr(descriptors, "_used", lambda: used)


@pytest.mark.parametrize("files", [True, False])
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("settings", [{}, HTTP, {"max.connections": "20"}, {"odradek.read.threads": "1000"}])
def test_the_parts_are_never_more_than_there_is(
    monkeypatch: pytest.MonkeyPatch, files: bool, alone: bool, settings: dict[str, str]
) -> None:
    for limit in [*range(120, 2_000, 7), 4_096, 20_000, 1 << 20]:
        at(monkeypatch, limit, 20)
        parts = divide(BrokerConfig(settings), files=files, alone=alone)
        assert parts.connections >= CONNECTIONS_MIN
        assert (parts.segment_files >= SEGMENT_FILES_MIN) == files
        assert parts.other >= (limit - 20) // 6 or parts.other >= descriptors.OTHER
        given = parts.segment_files + parts.connections + parts.spans + parts.http + parts.other
        assert given <= (limit - 20) // (1 if alone else 2)


@pytest.mark.parametrize(
    ("limit", "settings", "expected"),
    [
        (100_020, {}, (4_608, 94_262)),  # as many files as the settings let be open
        (1_044, {}, (427, 427)),
        (1_044, {"max.connections": "100"}, (754, 100)),
        (1_044, {"odradek.open.files.max": "16"}, (18, 836)),
    ],
)
def test_files_and_connections_share_what_is_left(
    monkeypatch: pytest.MonkeyPatch, limit: int, settings: dict[str, str], expected: tuple[int, int]
) -> None:
    at(monkeypatch, limit, 20)
    parts = divide(BrokerConfig(settings), files=True, alone=True)
    assert (parts.segment_files, parts.connections) == expected


@pytest.mark.parametrize(("alone", "level"), [(True, "WARNING"), (False, "INFO")])
def test_a_low_limit_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, alone: bool, level: str
) -> None:
    caplog.set_level(logging.INFO, "odradek")
    at(monkeypatch, 100_000, 20)
    divide(BrokerConfig(), files=True, alone=alone)
    assert caplog.records == []
    at(monkeypatch, 1_024, 20)
    divide(BrokerConfig(), files=True, alone=alone)
    (record,) = caplog.records
    assert record.levelname == level
    assert "limit=1024" in record.getMessage()


def test_no_limit_is_a_high_one(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, resource.RLIM_INFINITY, 20)
    assert divide(BrokerConfig(), files=True, alone=True).segment_files == with_surplus(4096)


def test_a_surplus_is_taken_back() -> None:
    for limit in range(16, 5_000):
        assert with_surplus(without_surplus(limit)) <= limit
        assert limit - 1 <= without_surplus(with_surplus(limit)) <= limit


@pytest.mark.parametrize(("soft", "hard", "after"), [(100, 600, 600), (600, 600, 600)])
def test_the_soft_limit_is_raised_to_the_hard_one(soft: int, hard: int, after: int) -> None:
    script = f"""
import resource
from odradek.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"({after}, {hard})\n"
