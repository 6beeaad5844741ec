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


def test_what_the_documents_link_to_exists() -> None:
    for document in [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_files_that_the_documents_name_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`([a-z_]+/[a-z_/]*[a-z_]+\.py)`", text))
    assert len(named) > 10
    for name in named:
        assert (ROOT / "src" / "odradek" / name).exists(), f"ARCHITECTURE.md names {name}"
