"""Java's .properties format, as `java.util.Properties.load` reads a server.properties.

Bytes are Latin-1. A logical line ends at the first line end that no backslash continues; `#` or `!` as the first
visible character make a comment, which no backslash continues. Key and value are separated by the first unescaped `=`,
`:` or blank. Blanks around the separator are dropped; blanks at the end of a value are kept, as in Java (Kafka trims
values when it parses them, and so does `odradek.config`).
"""

from __future__ import annotations

import re

_BLANKS = " \t\f"
_LINE_END = re.compile(r"\r\n|\r|\n")
_NAMED = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


class MalformedProperties(ValueError):
    """Raised for a file that Java does not load either."""


def parse_properties(data: bytes) -> dict[str, str]:
    """The file's properties; of equal names the last one counts. Raises `MalformedProperties`."""
    out: dict[str, str] = {}
    for number, line in _logical_lines(data.decode("latin-1")):
        end = _end_of_key(line)
        rest = line[end:].lstrip(_BLANKS)
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip(_BLANKS)
        try:
            out[_unescape(line[:end])] = _unescape(rest)
        except MalformedProperties as error:
            raise MalformedProperties(f"line {number}: {error}") from None
    return out


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """The logical lines with their line numbers: without comments and empty lines, and with continued lines joined."""
    out: list[tuple[int, str]] = []
    continued: tuple[int, str] | None = None
    for number, line in enumerate(_LINE_END.split(text), 1):
        line = line.lstrip(_BLANKS)
        if continued is None:
            if not line or line[0] in "#!":
                continue
            start, whole = number, line
        else:
            start, whole = continued[0], continued[1] + line
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            continued = start, whole[:-1]
        else:
            continued = None
            out.append((start, whole))
    if continued is not None and continued[1]:
        out.append(continued)
    return out


def _end_of_key(line: str) -> int:
    position = 0
    while position < len(line):
        if line[position] == "\\":
            position += 1
        elif line[position] in _BLANKS or line[position] in "=:":
            return position
        position += 1
    return len(line)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    out: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\":
            out.append(character)
            continue
        escaped = text[position : position + 1]
        position += 1
        if escaped != "u":
            out.append(_NAMED.get(escaped, escaped))
            continue
        digits = text[position : position + 4]
        if not re.fullmatch(r"[0-9a-fA-F]{4}", digits):
            raise MalformedProperties(f"\\u{digits} is not \\u and four hexadecimal digits")
        out.append(chr(int(digits, 16)))
        position += 4
    joined = "".join(out)
    # Characters beyond 16 bits are written as two surrogates.
    return joined.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
