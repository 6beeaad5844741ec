"""`odradek transaction list|describe|abort|find-hanging`.

Role: show what coordinators know of transactional ids and what partitions know of their producers, and abort a hanging
transaction in a partition (KIP-664).

A transaction hangs if it is open in a partition but unknown to its coordinator, which therefore never ends it:
`read_committed` consumers cannot read past it. `find-hanging` compares the two, `abort` writes the missing marker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from odradek.cli import completers
from odradek.cli.bootstrap import connect
from odradek.cli.failures import CommandFailed, WrongUse
from odradek.cli.options import TIMEOUT_S, Bootstrap, Numbers, OutputRow, OutputRows, Texts, Timeout, TopicArgument
from odradek.cli.output import print_json, print_rows
from odradek.client.error_codes import sentence
from odradek.clock import SystemClock
from odradek.errors import ErrorCode
from odradek.protocol.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    TopicRequest,
)
from odradek.protocol.messages.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
)
from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse
from odradek.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)

if TYPE_CHECKING:
    from odradek.client.cluster import Client

_LIST_COLUMNS = ("transactional_id", "producer_id", "state", "coordinator")
_DESCRIBE_COLUMNS = (
    "transactional_id",
    "state",
    "producer_id",
    "producer_epoch",
    "timeout_ms",
    "started_ms",
    "coordinator",
    "partitions",
)
_HANGING_COLUMNS = (
    "topic",
    "partition",
    "producer_id",
    "producer_epoch",
    "coordinator_epoch",
    "start_offset",
    "last_timestamp",
)
TRANSACTION = 1
# The longest timeout of a transaction: a producer that has written within it may still end its transaction.
LONGEST_TIMEOUT_MS = 900_000


def list_transactions(
    *,
    state: Texts = None,
    producer_id: Numbers = None,
    running_ms: int | None = None,
    pattern: str | None = None,
    output: OutputRows = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Lists transactional ids.

    Parameters
    ----------
    state
        Only those in this state, such as Ongoing or Empty; may be repeated.
    producer_id
        Only those of this producer id; may be repeated.
    running_ms
        Only those whose transaction has run for longer than so many milliseconds.
    pattern
        Only those whose id is matched by this regular expression as a whole.
    """
    request = ListTransactionsRequest(
        state_filters=state or [],
        producer_id_filters=producer_id or [],
        duration_filter=-1 if running_ms is None else running_ms,
        transactional_id_pattern=pattern,
    )
    with connect(bootstrap_server, timeout) as client:
        rows = []
        for node_id in sorted(client.brokers):
            answer = client.ask(node_id, request, ListTransactionsResponse)
            if answer.error_code:
                raise CommandFailed(f"broker {node_id} does not list its transactions: {sentence(answer.error_code)}.")
            if answer.unknown_state_filters:
                raise WrongUse(f"--state {answer.unknown_state_filters[0]!r} is no state of transactions.")
            rows += [
                {
                    "transactional_id": one.transactional_id,
                    "producer_id": one.producer_id,
                    "state": one.transaction_state,
                    "coordinator": node_id,
                }
                for one in answer.transaction_states
            ]
    rows.sort(key=lambda row: str(row["transactional_id"]))
    if output == "json":
        print_json(rows)
    else:
        print_rows(_LIST_COLUMNS, rows)


def _coordinator(client: Client, transactional_id: str) -> int:
    request = FindCoordinatorRequest(key=transactional_id, key_type=TRANSACTION, coordinator_keys=[transactional_id])
    answer = client.ask_any(request, FindCoordinatorResponse)
    found = answer.coordinators[0] if answer.coordinators else answer
    if found.error_code:
        raise CommandFailed(
            f"{transactional_id!r} has no coordinator: {sentence(found.error_code, found.error_message)}."
        )
    client.know_broker(found.node_id, found.host, found.port)
    return int(found.node_id)


def describe(
    transactional_id: str,
    /,
    *,
    output: OutputRow = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Describes a transactional id: its producer, and the partitions of its open transaction.

    Parameters
    ----------
    transactional_id
        The id.
    """
    with connect(bootstrap_server, timeout) as client:
        node_id = _coordinator(client, transactional_id)
        request = DescribeTransactionsRequest(transactional_ids=[transactional_id])
        (found,) = client.ask(node_id, request, DescribeTransactionsResponse).transaction_states
    if found.error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND:
        raise CommandFailed(f"there is no transactional id {transactional_id!r}: see `odradek transaction list`.")
    if found.error_code:
        raise CommandFailed(f"{transactional_id!r} is not described: {sentence(found.error_code)}.")
    partitions = [f"{topic.topic}-{index}" for topic in found.topics for index in topic.partitions]
    row = {
        "transactional_id": transactional_id,
        "state": found.transaction_state,
        "producer_id": found.producer_id,
        "producer_epoch": found.producer_epoch,
        "timeout_ms": found.transaction_timeout_ms,
        "started_ms": found.transaction_start_time_ms if found.transaction_start_time_ms >= 0 else None,
        "coordinator": node_id,
        "partitions": partitions,
    }
    if output == "json":
        print_json(row)
    else:
        print_rows(_DESCRIBE_COLUMNS, [row | {"partitions": " ".join(partitions)}])


def _open_ones(client: Client, topic: str | None, partition: int | None) -> Iterator[dict[str, Any]]:
    """Every transaction that is open in a partition."""
    metadata = client.metadata(None if topic is None else [topic])
    for one in metadata.topics:
        if one.error_code:
            raise CommandFailed(f"topic {one.name!r}: {sentence(one.error_code)}.")
        for place in one.partitions:
            if partition is not None and place.partition_index != partition:
                continue
            asked = [TopicRequest(name=one.name or "", partition_indexes=[place.partition_index])]
            answer = client.ask(place.leader_id, DescribeProducersRequest(topics=asked), DescribeProducersResponse)
            (found,) = answer.topics[0].partitions
            if found.error_code:
                raise CommandFailed(f"{one.name}-{place.partition_index}: {sentence(found.error_code)}.")
            for producer in found.active_producers:
                if producer.current_txn_start_offset >= 0:
                    yield {
                        "topic": one.name,
                        "partition": place.partition_index,
                        "producer_id": producer.producer_id,
                        "producer_epoch": producer.producer_epoch,
                        "coordinator_epoch": producer.coordinator_epoch,
                        "start_offset": producer.current_txn_start_offset,
                        "last_timestamp": producer.last_timestamp,
                    }


def _known(client: Client) -> set[tuple[int, str, int]]:
    """Producer id, topic and partition of all transactions that the coordinators have open or are ending."""
    known = set()
    for node_id in sorted(client.brokers):
        listed = client.ask(node_id, ListTransactionsRequest(), ListTransactionsResponse)
        if listed.error_code:
            raise CommandFailed(f"broker {node_id} does not list its transactions: {sentence(listed.error_code)}.")
        names = [one.transactional_id for one in listed.transaction_states]
        if not names:
            continue
        request = DescribeTransactionsRequest(transactional_ids=names)
        for found in client.ask(node_id, request, DescribeTransactionsResponse).transaction_states:
            for topic in found.topics:
                known |= {(found.producer_id, topic.topic, index) for index in topic.partitions}
    return known


def find_hanging(
    *,
    topic: Annotated[str | None, Parameter(completer=completers.topics)] = None,
    partition: int | None = None,
    silent_ms: int = LONGEST_TIMEOUT_MS,
    output: OutputRows = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Finds transactions that nobody will end: partitions have them open, no coordinator knows of them.

    Parameters
    ----------
    topic
        Only in this topic; else in all.
    partition
        Only in this partition of the topic.
    silent_ms
        Only of producers that have written nothing for so long; by default the longest time a transaction may take.
    """
    if partition is not None and topic is None:
        raise WrongUse("--partition needs --topic.")
    with connect(bootstrap_server, timeout) as client:
        now_ms = SystemClock().now_ms()
        # Partitions are asked before coordinators: a transaction that begins in between is not taken for a hanging one.
        silent = [one for one in _open_ones(client, topic, partition) if now_ms - one["last_timestamp"] >= silent_ms]
        known = _known(client) if silent else set()
    rows = [one for one in silent if (one["producer_id"], one["topic"], one["partition"]) not in known]
    if output == "json":
        print_json(rows)
    else:
        print_rows(_HANGING_COLUMNS, rows)


def abort(
    topic: TopicArgument,
    partition: int,
    start_offset: int,
    /,
    *,
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Aborts a transaction in one partition. For one that hangs: see `odradek transaction find-hanging`.

    Parameters
    ----------
    topic
        The topic.
    partition
        The partition.
    start_offset
        The offset where the transaction begins.
    """
    with connect(bootstrap_server, timeout) as client:
        found = [one for one in _open_ones(client, topic, partition) if one["start_offset"] == start_offset]
        if not found:
            raise CommandFailed(f"no transaction that is open in {topic}-{partition} begins at offset {start_offset}.")
        (one,) = found
        marker = WritableTxnMarker(
            producer_id=one["producer_id"],
            producer_epoch=one["producer_epoch"],
            # -1 if no transaction of the producer has ended in this partition yet.
            coordinator_epoch=max(0, one["coordinator_epoch"]),
            transaction_result=False,
            topics=[WritableTxnMarkerTopic(name=topic, partition_indexes=[partition])],
        )
        leader = client.leader(topic, partition)
        answer = client.ask(leader, WriteTxnMarkersRequest(markers=[marker]), WriteTxnMarkersResponse)
        code = answer.markers[0].topics[0].partitions[0].error_code
    if code:
        raise CommandFailed(f"the transaction in {topic}-{partition} is not aborted: {sentence(code)}.")
    print(f"Transaction of producer {one['producer_id']} in {topic}-{partition} aborted.")
