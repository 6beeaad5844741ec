"""How help looks: cyclopts' panels, with the lines of a docstring's paragraph joined again.

Role: what Markdown would do to the texts, without the 34 ms that rich's Markdown takes to import.
"""

from __future__ import annotations

from typing import Any


class HelpText:
    """A formatter of help; what it needs of rich is imported when help is shown."""

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        from cyclopts.help import DefaultFormatter

        for text in (panel.description, *(entry.description for entry in panel.entries)):
            _join_lines(text)
        DefaultFormatter()(console, options, panel)

    def render_usage(self, console: Any, options: Any, usage: Any) -> None:
        """The first line."""
        from cyclopts.help import DefaultFormatter

        DefaultFormatter().render_usage(console, options, usage)

    def render_description(self, console: Any, options: Any, description: Any) -> None:
        """What stands above the panels."""
        from cyclopts.help import DefaultFormatter

        _join_lines(description)
        DefaultFormatter().render_description(console, options, description)


def _join_lines(text: Any) -> None:
    """Joins the lines of each paragraph of a text of cyclopts."""
    from rich.text import Text

    plain = getattr(getattr(text, "primary_renderable", None), "plain", None)
    if plain is not None:
        paragraphs = (" ".join(paragraph.split()) for paragraph in plain.split("\n\n"))
        text.primary_renderable = Text("\n\n".join(paragraphs))
