"""Style as a test: what every file of the package must have, and must not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "odradek").rglob("*.py"))
MODULES = [path for path in SOURCES if path.name != "__init__.py"]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_says_its_role(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_is_a_drawer(path: Path) -> None:
    assert not {"utils", "util", "helpers", "helper", "manager", "common", "misc"} & set(path.stem.split("_"))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_only_the_clock_imports_time(path: Path) -> None:
    imported = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {
        node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
    }
    if path.name != "clock.py":
        assert "time" not in imported


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_exception_vanishes(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            silent = all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
            assert not (broad and silent), f"{path}:{node.lineno}"


def test_what_is_served_has_a_handler_and_nothing_else_does() -> None:
    from odradek.handlers.table import HANDLERS
    from odradek.protocol.registry import APIS

    assert set(HANDLERS) == {api.key for api in APIS}
    for api in APIS:
        module = HANDLERS[api.key].handle.__module__
        assert module.rsplit(".", 1)[-1] == api.module, f"{api.name} is handled in {module}"


def test_every_api_versions_range_is_inside_its_messages() -> None:
    from odradek.protocol.registry import APIS

    for api in APIS:
        for message in (api.request, api.response):
            assert api.served.first in message.valid_versions and api.served.last in message.valid_versions
            assert message.api_key == api.key
