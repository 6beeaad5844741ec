"""Java's .properties, case by case as `java.util.Properties` documents them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odradek.cli.properties import MalformedProperties, parse_properties


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", {}),
        (b"a=b", {"a": "b"}),
        (b"a = b\r\nc:d\re f\n", {"a": "b", "c": "d", "e": "f"}),
        (b"  a\t=\t b  ", {"a": "b  "}),
        (b"# a=b\n! c=d\n   # e\nf=g # h", {"f": "g # h"}),
        (b"a", {"a": ""}),
        (b"a=", {"a": ""}),
        (b"a==b", {"a": "=b"}),
        (b"a = : b", {"a": ": b"}),
        (b"a   b=c", {"a": "b=c"}),
        (b"= x", {"": "x"}),
        (b"a\\=b=c", {"a=b": "c"}),
        (b"a\\ b=c", {"a b": "c"}),
        (b"a\\\\=b", {"a\\": "b"}),
        (b"a=b,\\\n   c,\\\r\n\td", {"a": "b,c,d"}),
        (b"a=b\\\\\nc=d", {"a": "b\\", "c": "d"}),
        (b"# comment \\\na=b", {"a": "b"}),
        (b"a=b\\\n#c", {"a": "b#c"}),
        (b"a=b\\", {"a": "b"}),
        (b"a=1\na=2", {"a": "2"}),
        (b'a=\\u0041\\t\\n\\r\\f\\q\\"', {"a": 'A\t\n\r\fq"'}),
        (b"a=\\ud83d\\ude00", {"a": "\U0001f600"}),
        ("a=ä".encode("latin-1"), {"a": "ä"}),
        (b"path=C:\\\\data\\\\kafka", {"path": "C:\\data\\kafka"}),
        (b"\n\n \t\n", {}),
    ],
)
def test_format(text: bytes, expected: dict[str, str]) -> None:
    assert parse_properties(text) == expected


@pytest.mark.parametrize("text", [b"a=\\u12", b"\nb=\\uzzzz"])
def test_a_broken_escape_names_its_line(text: bytes) -> None:
    with pytest.raises(MalformedProperties, match=r"line \d"):
        parse_properties(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        out = parse_properties(data)
    except MalformedProperties:
        return
    assert all(isinstance(value, str) for value in out.values())


@given(st.dictionaries(st.text("abc.", min_size=1), st.text("xyz=:, #\\!\t\n"), max_size=5))
def test_what_is_escaped_is_read_back(values: dict[str, str]) -> None:
    def escape(text: str) -> str:
        return "".join(f"\\u{ord(character):04x}" for character in text)

    text = "\n".join(f"{escape(name)}={escape(value)}" for name, value in values.items())
    assert parse_properties(text.encode()) == values
