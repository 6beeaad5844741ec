"""Regular expressions that a client may send, over ten thousand transactional ids."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.stalls.cases import Request, Sent, case
from benchmarks.stalls.prepared import Prepared
from odradek.protocol.messages.list_transactions import ListTransactionsRequest

# For an engine that tries every way: each takes longer than anyone waits, or more memory than there is.
EXPLOSIVE = (
    "a*" * 20 + "b",
    "a*a*a*a*a*a*b",
    "(a|a)*b",
    "(a|aa)+$b",
    "(.*)*b",
    "(" * 3000,
    "a{99999999999999999999}",
    "[" + "a-z" * 3000 + "]*b",
    "|".join(f"a{number}" for number in range(3000)),
)

FILLS_HEAP = "fills its heap and does not come to an end of it"


@case("pattern", "ListTransactions, a pattern over {:,} ids", 10_000)
def pattern(prepared: Prepared, _: int) -> Iterator[Sent]:
    prepared.transactional_ids()
    yield _list(prepared, "a+-[0-9]*7")


@case("pattern-nested", "ListTransactions, counts within counts, over {:,} ids", 10_000, not_kafka=FILLS_HEAP)
def pattern_nested(prepared: Prepared, _: int) -> Iterator[Sent]:
    prepared.transactional_ids()
    yield _list(prepared, "((a{1,100}){1,100}){1,100}")


@case("patterns", "ListTransactions, patterns made to explode, over {:,} ids", 10_000)
def patterns(prepared: Prepared, _: int) -> Iterator[Sent]:
    prepared.transactional_ids()
    for text in EXPLOSIVE:
        yield _list(prepared, text)


def _list(prepared: Prepared, text: str) -> Request:
    return Request(prepared.client, ListTransactionsRequest(transactional_id_pattern=text, duration_filter=-1), 2)
