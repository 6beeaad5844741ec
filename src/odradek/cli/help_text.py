"""The layout of help: cyclopts' panels, with the lines of a docstring's paragraph joined.

Role: format the texts as Markdown would, without the 34 ms that importing rich's Markdown takes.
"""

from __future__ import annotations

from typing import Any


class HelpText:
    """A formatter of help; rich is imported only when help is shown."""

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        from cyclopts.help import DefaultFormatter

        for text in (panel.description, *(entry.description for entry in panel.entries)):
            _join_lines(text)
        DefaultFormatter()(console, options, panel)

    def render_usage(self, console: Any, options: Any, usage: Any) -> None:
        """Prints the usage line."""
        from cyclopts.help import DefaultFormatter

        DefaultFormatter().render_usage(console, options, usage)

    def render_description(self, console: Any, options: Any, description: Any) -> None:
        """Prints the description above the panels."""
        from cyclopts.help import DefaultFormatter

        _join_lines(description)
        DefaultFormatter().render_description(console, options, description)


def _join_lines(text: Any) -> None:
    """Joins the lines of each paragraph of cyclopts' text, in place."""
    from rich.text import Text

    plain = getattr(getattr(text, "primary_renderable", None), "plain", None)
    if plain is not None:
        paragraphs = (" ".join(paragraph.split()) for paragraph in plain.split("\n\n"))
        text.primary_renderable = Text("\n\n".join(paragraphs))
