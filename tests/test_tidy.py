"""Style as a test: what every file of the package must have, and must not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "odradek").rglob("*.py"))
MODULES = [path for path in SOURCES if path.name != "__init__.py"]
# Rooms and files whose time comes in as an argument.
TIMELESS = [
    "engines",
    "replay",
    "partitions",
    "coordination",
    "metadata",
    "handlers",
    "insight",
    "server.py",
    "ages.py",
    "faults.py",
]
# A sleep of nothing gives way to others, and is no matter of time.
LOOPS_TIME = re.compile(
    r"loop(\(\))?\.(time|call_later|call_at)\(|asyncio\.(sleep\((?!0\))|wait_for|timeout)|asyncio\.wait\(.*timeout"
)


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
def test_nobody_reaches_through_a_partition(path: Path) -> None:
    """Its log, and what it knows of producers, are its own: others ask it, and compare its opening."""
    room = path.relative_to(ROOT / "src" / "odradek").parts[0]
    # A fetch that is like an earlier one reads the log itself: a call less for each.
    if room == "partitions" or name(path) == "src/odradek/handlers/fetch_alike.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in ("log", "producers", "_log"):
            of = node.value
            owner = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
            assert owner not in ("partition", "p"), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_exception_vanishes(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            silent = all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
            assert not (broad and silent), f"{path}:{node.lineno}"


@pytest.mark.parametrize("room", TIMELESS)
def test_time_comes_in_as_an_argument(room: str) -> None:
    """Nobody there asks the event loop what time it is, or to be woken: that is the scheduler's business."""
    paths = [path for path in MODULES if room in path.relative_to(ROOT / "src" / "odradek").parts]
    assert paths
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not LOOPS_TIME.search(line), f"{name(path)}:{number}: {line.strip()}"


def test_what_is_served_has_a_handler_and_nothing_else_does() -> None:
    from odradek.handlers.table import HANDLERS
    from odradek.protocol.registry import APIS

    assert set(HANDLERS) == {api.key for api in APIS}
    for api in APIS:
        for function in (HANDLERS[api.key].handle, HANDLERS[api.key].refused):
            module = function.__module__
            assert module.rsplit(".", 1)[-1] == api.module, f"{api.name} is handled in {module}"


def test_every_api_versions_range_is_inside_its_messages() -> None:
    from odradek.protocol.registry import APIS

    for api in APIS:
        for message in (api.request, api.response):
            assert api.served.first in message.valid_versions and api.served.last in message.valid_versions
            assert message.api_key == api.key


def reached(imports: dict[str, set[str]], module: str) -> set[str]:
    """The modules that a module imports, directly or through others."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        new = imports[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def test_a_circle_is_found_through_others() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert [module for module in imports if module in reached(imports, module)] == ["b", "c"]


def test_no_module_imports_itself_through_others() -> None:
    """Late imports, and those for types only, count as any other."""
    graph = grimp.build_graph("odradek", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) >= len(SOURCES)
    assert [module for module in sorted(imports) if module in reached(imports, module)] == []
