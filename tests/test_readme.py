"""The README tells the truth where a program can check it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_table_of_apis_is_made_from_the_registry() -> None:
    done = subprocess.run([sys.executable, "tools/api_table.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as git hosts make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_what_the_documents_link_to_exists() -> None:
    """Those that are read in the source tree; tests/docs has the pages of the site."""
    folders = ("docs/decisions", "examples", "tests/clients")
    pages = [path for folder in folders for path in (ROOT / folder).rglob("*.md")]
    for document in [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *pages]:
        for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", document.read_text()):
            if "://" not in target:
                path = document.parent / target if target else document
                assert path.exists(), f"{document.name} links to {target}"
                assert not anchor or anchor in anchors(path), f"{document.name} links to {target}#{anchor}"


def test_the_files_that_the_documents_name_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`([a-z_]+/[a-z_/]*[a-z_]+\.py)`", text))
    assert len(named) > 10
    for name in named:
        home = ROOT if name.startswith("tests/") else ROOT / "src" / "odradek"
        assert (home / name).exists(), f"ARCHITECTURE.md names {name}"
