"""`pytest tests/coordination --rewrite` writes what happens into the stories; a person reads the difference."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the traces of stories anew")
