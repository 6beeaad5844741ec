"""The documentation's site: built strictly, and every link, anchor and image of what came out leads somewhere."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parent.parent.parent
# What a page loads by itself, as (tag, attribute); a link that a reader follows may lead anywhere.
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}


class Html(HTMLParser):
    """The links and anchors of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[tuple[str, str, str]] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if name in ("href", "src") and value is not None:
                self.links.append((tag, name, value))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],  # not --quiet: it forgets warnings
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def html(site: Path) -> dict[Path, Html]:
    return {path: Html(path) for path in sorted(site.rglob("*.html"))}


def test_every_link_leads_somewhere(site: Path, html: dict[Path, Html]) -> None:
    checked = 0
    for page, parsed in html.items():
        if page.name == "404.html":  # its links begin at the root of whatever serves it
            continue
        for tag, _, link in parsed.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if target.is_dir():
                target = target / "index.html"
            told = f"{page.relative_to(site)}: <{tag}> {link}"
            assert target.is_file(), told
            # `#` alone, and `#__...` of the theme's own drawers and buttons, need no anchor.
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in html[target].anchors, told
            checked += 1
    assert checked > 1000


def test_nothing_comes_from_elsewhere(html: dict[Path, Html]) -> None:
    """A page loads no script, style, font or image from another host."""
    for page, parsed in html.items():
        loaded = [link for tag, name, link in parsed.links if (tag, name) in LOADED]
        assert loaded
        for link in loaded:
            assert not urlsplit(link).netloc, f"{page.name} loads {link}"


def test_every_page_can_be_reached(site: Path, html: dict[Path, Html]) -> None:
    """By the navigation or by links, from the first page on."""
    reached, new = set(), {site / "index.html"}
    while new:
        page = new.pop()
        reached.add(page)
        for _, _, link in html[page].links:
            parts = urlsplit(link)
            target = (page.parent / unquote(parts.path)).resolve()
            if not parts.netloc and target in html and target not in reached:
                new.add(target)
    assert reached == set(html) - {site / "404.html"}
