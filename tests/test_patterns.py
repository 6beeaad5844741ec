"""Patterns that clients send, with RE2 and without: the same meaning, and nothing that could take for ever."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odradek import patterns
from odradek.errors import ErrorCode, KafkaError
from odradek.patterns import PATTERN_MAX_CHARS, compile_pattern, has_re2

SIMPLE = {
    "orders": (["orders"], ["orders-1", "order", ""]),
    "orders-.*": (["orders-", "orders-1"], ["orders", "my-orders-1"]),
    ".*-[0-9]": (["a-1", "-1"], ["a-x", "a-11"]),
    "[a-z]{3}": (["abc"], ["ab", "abcd", "ABC"]),
    "[^-]+": (["abc"], ["a-c", ""]),
    "a|b.*|c": (["a", "b", "bc", "c"], ["ab", "d"]),
    "(?:x|y)z": (["xz", "yz"], ["z", "xyz"]),
    r"a\.b\d?": (["a.b", "a.b1"], ["axb", "a.b12"]),
    "(?i)abc": (["ABC", "abc"], ["abd"]),
    "^abc$": (["abc"], ["abcd"]),
    "é+": (["éé"], ["e"]),
}
# Quick for RE2; for what goes back over the text they double with each character, or worse.
SLOW = [
    "a*" * 20 + "b",
    "(a*)*b",
    "(a|a)*b",
    "(?:a|aa)" * 40 + "b",
    "(?:a?){40}a{40}",
    "a?" * 40 + "a" * 40,
    "(?:(?:a+)b?)+c",
    ".*a.*b.*c",
    "(?:a*|b)c*d",
]
NONE_AT_ALL = [
    "(",
    ")",
    "[",
    "*",
    "a**b(",
    "(" * 3000,
    "\\",
    "[z-a]",
    "(?P<n>",
    "x" * (PATTERN_MAX_CHARS + 1),
]
# `re` knows them, RE2 does not.
GOING_BACK = ["(?=a)a", "(?<!a)b", r"(a)\1", "a*+b", "(?>a*)b", "a{1001}", "(?:a{1000}){1000}"]

without_re2 = pytest.param(False, id="without RE2")
with_re2 = pytest.param(True, id="with RE2", marks=pytest.mark.skipif(not has_re2(), reason="needs google-re2"))
each_way = pytest.mark.parametrize("re2", [with_re2, without_re2])


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "re2" in request.fixturenames:
        monkeypatch.setattr(patterns, "has_re2", lambda: request.getfixturevalue("re2"))


def refusal(text: str) -> str:
    with pytest.raises(KafkaError) as refused:
        compile_pattern(text)
    assert refused.value.code is ErrorCode.INVALID_REGULAR_EXPRESSION
    return str(refused.value)


@each_way
@pytest.mark.parametrize("text", SIMPLE)
def test_simple_patterns_match_whole_texts(re2: bool, text: str) -> None:
    matches = compile_pattern(text)
    yes, no = SIMPLE[text]
    assert [matches(one) for one in yes] == [True] * len(yes)
    assert [matches(one) for one in no] == [False] * len(no)


@pytest.mark.parametrize("re2", [with_re2])
@pytest.mark.parametrize("text", SLOW)
def test_what_makes_others_slow_is_served(re2: bool, text: str) -> None:
    matches = compile_pattern(text)
    assert not matches("a" * 20_000 + "!")


@pytest.mark.parametrize("re2", [without_re2])
@pytest.mark.parametrize("text", SLOW)
def test_what_makes_others_slow_is_refused(re2: bool, text: str) -> None:
    assert "google-re2" in refusal(text)


@each_way
@pytest.mark.parametrize("text", NONE_AT_ALL + GOING_BACK)
def test_what_is_no_pattern_is_refused(re2: bool, text: str) -> None:
    assert refusal(text)


@each_way
def test_a_program_is_bounded(re2: bool) -> None:
    """RE2 would unroll it to a hundred million states, and `re` would try them."""
    assert refusal("(?:(?:a{100}){100}){100}")
    assert refusal("[^x]{1000}" * 400 + "(a|b)*" * 100)


@each_way
def test_a_count_beyond_every_number_is_refused(re2: bool) -> None:
    assert refusal("a{99999999999999999999}")


_ATOM = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", "-"])
_PIECE = st.tuples(_ATOM, st.sampled_from(["", "", "", "*", "+", "?", "*?", "{2}", "{1,3}"])).map("".join)
_PIECES = st.lists(_PIECE, max_size=4).map("".join)
_PATTERN = st.one_of(_PIECES, st.lists(_PIECES, min_size=2, max_size=3).map(lambda some: "(?:" + "|".join(some) + ")"))


@pytest.mark.skipif(not has_re2(), reason="needs google-re2")
@given(st.lists(_PATTERN, min_size=1, max_size=3).map("".join), st.text("ab-1", max_size=8))
def test_what_is_taken_without_means_the_same(text: str, subject: str) -> None:
    try:
        matches = patterns._compile_plain(text)
    except KafkaError:
        return
    assert matches(subject) == patterns._compile_re2(text)(subject) == bool(re.fullmatch(text, subject))
