"""`odradek group list|describe`.

Role: print what the coordinators know of groups, together with the end offsets of the logs. `group_reset` sets offsets,
`group_delete` deletes them, `group_consume` reads as a member.

Invariants: nothing is guessed: a value that a broker did not return is empty, and a note says why.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from odradek.cli import group_lag
from odradek.cli.bootstrap import connect
from odradek.cli.failures import FAILED, WrongUse, told
from odradek.cli.options import (
    TIMEOUT_S,
    Bootstrap,
    Every,
    Flag,
    GroupArgument,
    Http,
    OutputRows,
    OutputTables,
    Texts,
    Timeout,
)
from odradek.cli.output import Output, note, print_json, print_rows
from odradek.topic_partition import TopicPartition

if TYPE_CHECKING:
    from odradek.client.cluster import Client
    from odradek.client.group_coordinator import GroupClient

R = TypeVar("R")

# The states of classic groups, and of those of the newer protocol (KIP-848).
_STATES = (
    "PreparingRebalance",
    "CompletingRebalance",
    "Stable",
    "Dead",
    "Empty",
    "Assigning",
    "Reconciling",
    "NotReady",
)

_GROUP_COLUMNS = ("group", "type", "protocol_type", "state", "assignor", "coordinator", "members")
_MEMBER_COLUMNS = ("member_id", "instance_id", "client_id", "host", "assignment")
_OFFSET_COLUMNS = ("topic", "partition", "committed_offset", "end_offset", "lag", "owner", "metadata")
_CLASSIC = "classic"
# How many of the newest events are shown under the table.
_EVENTS_SHOWN = 10


def list_groups(
    *,
    state: Texts = None,
    watch: Flag = False,
    every: Every = 2.0,
    http: Http = None,
    output: OutputRows = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Lists groups; where the broker has an HTTP port, with how far they are behind and what they will lose.

    Parameters
    ----------
    state
        Only groups in this state, such as Stable or Empty; may be repeated.
    watch
        Again and again, with what happens to them, until Ctrl-C.
    """
    known = {name.lower(): name for name in _STATES}
    for name in state or ():
        if name.lower() not in known:
            raise WrongUse(f"--state {name!r} is none of {', '.join(_STATES)}.")
    states = [known[name.lower()] for name in state or ()]
    from odradek.cli.watch import repeat
    from odradek.client.group_coordinator import list_groups as find

    with connect(bootstrap_server, timeout) as client:
        lag_client = group_lag.find(client, http, timeout)
        if watch and lag_client is not None:
            lag_client.follow()
        happened: deque[str] = deque(maxlen=_EVENTS_SHOWN)

        def show() -> None:
            groups = find(client, states)
            lags = _asked(lag_client.groups, http) if lag_client is not None else None
            rows = [
                {
                    "group": group.group_id,
                    # Brokers that only have the classic type do not return it.
                    "type": group.group_type or _CLASSIC,
                    "protocol_type": group.protocol_type,
                    "state": group.group_state,
                }
                for group in groups
            ]
            if output == "json":
                print_json([row | ({} if lags is None else {"lag": lags.get(row["group"])}) for row in rows])
                return
            columns: tuple[str, ...] = ("group", "type", "protocol_type", "state")
            if lags is not None:
                columns += group_lag.GROUP_COLUMNS
                rows = [row | group_lag.columns(lags.get(row["group"])) for row in rows]
            print_rows(columns, rows)
            if lag_client is not None and watch:
                happened.extend(group_lag.event_line(event) for event in lag_client.news())
                for line in happened:
                    print(line)
                if not sys.stdout.isatty():
                    happened.clear()  # only a terminal is cleared each time, so only there they are shown again

        repeat(show, every if watch else None)


def describe(
    group: GroupArgument,
    /,
    *,
    watch: Flag = False,
    every: Every = 2.0,
    http: Http = None,
    output: OutputTables = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Describes a group: its state, members with what they read, and offsets with how far they lag behind.

    Where the broker has an HTTP port: with the age of what is not read, the time until it is lost, and how evenly the
    work lies on the members.

    Parameters
    ----------
    group
        Its name.
    watch
        Again and again, until Ctrl-C.
    """
    from odradek.cli.watch import repeat

    with connect(bootstrap_server, timeout) as client:
        lag_client = group_lag.find(client, http, timeout)

        def show() -> None:
            lag = _asked(lambda: [lag_client.group(group)], http) if lag_client is not None else None
            _show(client, group, output, lag[0] if lag else None, lag is not None)

        repeat(show, every if watch else None)


def _asked(ask: Callable[[], R], http: str | None) -> R | None:
    """What `ask` returns. If it fails and the user named no HTTP port, returns None with a note: the port in the
    broker's settings may not be reachable from this machine. Else raises `CommandFailed`."""
    try:
        return ask()
    except FAILED as error:
        if http is not None:
            raise
        note(told(error))
        return None


def _show(client: Client, group: str, output: Output, lag: dict[str, Any] | None, has_lag: bool) -> None:
    from odradek.client.group_coordinator import GroupClient

    group_client = GroupClient(client, group)
    found = existing(group_client, "describe")
    members = [_member(member) for member in found["members"]]
    owners = {partition: member["member_id"] for member in members for partition in member.pop("partitions")}
    coordinator = group_client.coordinator()
    host, port = client.brokers[coordinator]
    offsets = _offsets(client, group_client, owners)
    whole = {
        "group": group,
        "type": found["type"],
        "protocol_type": found["protocol_type"],
        "state": found["state"],
        "assignor": found["assignor"],
        "coordinator": {"broker": coordinator, "host": host, "port": port},
        "members": members if found["type"] == _CLASSIC else None,
        "offsets": offsets,
    }
    if found["type"] != _CLASSIC:
        note(
            f"{group} is a group of type {found['type']}, whose members and assignment are asked for in a request that "
            "this command does not know: it shows its offsets only."
        )
    if output == "json":
        print_json(whole | ({"lag": lag} if has_lag else {}))
        return
    head = whole | {"coordinator": f"{host}:{port} (broker {coordinator})"}
    head["members"] = len(members) if found["type"] == _CLASSIC else None
    print_rows(_GROUP_COLUMNS, [head])
    if members:
        print()
        rows = [
            m | {"assignment": [f"{a['topic']}:{joined(a['partitions'])}" for a in m["assignment"]]} for m in members
        ]
        print_rows(_MEMBER_COLUMNS, [row | {"assignment": " ".join(row["assignment"])} for row in rows])
    if offsets:
        print()
        columns: tuple[str, ...] = _OFFSET_COLUMNS
        if has_lag:
            columns += group_lag.PARTITION_COLUMNS
            of = {(one["topic"], one["partition"]): one for one in lag["partitions"]} if lag is not None else {}
            offsets = [row | group_lag.columns(of.get((row["topic"], row["partition"]))) for row in offsets]
        print_rows(columns, offsets)
    if lag is None:
        return
    if lag["balance"] is not None:
        print()
        print_rows(group_lag.MEMBER_COLUMNS, group_lag.member_rows(lag["balance"]))
    lines = list(group_lag.sentences(lag))
    if lines:
        print()
        print("\n".join(lines))


def joined(partitions: Iterable[int]) -> str:
    """The numbers of partitions, separated by commas, as in TOPIC:1,2,3."""
    return ",".join(map(str, partitions))


def existing(group_client: GroupClient, doing: str) -> dict[str, Any]:
    """A group of any type: type, protocol_type, state, assignor, members. Raises `ClientFailed` if it does not
    exist; `doing` says in its text what could not be done."""
    from odradek.errors import ErrorCode

    described = group_client.described()
    if described is not None:
        return {
            "type": _CLASSIC,
            "protocol_type": described.protocol_type,
            "state": described.group_state,
            "assignor": described.protocol_data,
            "members": described.members,
        }
    listed = group_client.listed()
    if listed is None:
        group_client.refuse(ErrorCode.GROUP_ID_NOT_FOUND, doing)
        raise AssertionError("unreachable")
    return {
        "type": listed.group_type or _CLASSIC,
        "protocol_type": listed.protocol_type,
        "state": listed.group_state,
        "assignor": None,
        "members": [],
    }


def _member(member: Any) -> dict[str, Any]:
    from odradek.client.assignors import decode_assignment
    from odradek.protocol.errors import DecodeError

    try:
        partitions = sorted(decode_assignment(bytes(member.member_assignment)))
    except DecodeError:
        # Members of other protocol types (Kafka Connect) have assignments in a format of their own.
        partitions = []
    topics: dict[str, list[int]] = {}
    for topic, partition in partitions:
        topics.setdefault(topic, []).append(partition)
    return {
        "member_id": member.member_id,
        "instance_id": member.group_instance_id,
        "client_id": member.client_id,
        "host": member.client_host.removeprefix("/"),
        "assignment": [{"topic": topic, "partitions": indexes} for topic, indexes in topics.items()],
        "partitions": partitions,
    }


def _offsets(client: Client, group_client: GroupClient, owners: dict[TopicPartition, str]) -> list[dict[str, Any]]:
    committed = group_client.committed()
    partitions = sorted({*committed, *owners})
    ends = end_offsets(client, partitions)
    rows = []
    for topic, partition in partitions:
        offset = committed.get((topic, partition))
        end = ends.get((topic, partition))
        rows.append(
            {
                "topic": topic,
                "partition": partition,
                "committed_offset": None if offset is None else offset.offset,
                "end_offset": end,
                # A committed offset can be beyond the end if the topic was created again: the lag is then 0.
                "lag": None if offset is None or end is None else max(0, end - offset.offset),
                "owner": owners.get((topic, partition)),
                "metadata": None if offset is None else offset.metadata,
            }
        )
    return rows


def end_offsets(client: Client, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """The end offsets of the partitions; those that do not exist or cannot be asked are left out, with a note."""
    from odradek.client.cluster import LATEST

    topics: dict[str, list[int]] = {}
    for topic, partition in partitions:
        topics.setdefault(topic, []).append(partition)
    found: dict[TopicPartition, int] = {}
    counts = partition_counts(client, topics)
    for topic, indexes in topics.items():
        there = [partition for partition in indexes if partition < counts.get(topic, 0)]
        gone = [partition for partition in indexes if partition >= counts.get(topic, 0)]
        if gone:
            note(f"{topic}, partition {joined(gone)}: there is no such partition (any more).")
        try:
            ends = client.offsets(topic, dict.fromkeys(there, LATEST)) if there else {}
        except FAILED as error:
            note(told(error))
            continue
        found |= {(topic, partition): end for partition, end in ends.items()}
    return found


def partition_counts(client: Client, topics: Iterable[str]) -> dict[str, int]:
    """The number of partitions of each topic that exists."""
    names = sorted(topics)
    found = client.metadata(names).topics if names else []
    return {topic.name or "": len(topic.partitions) for topic in found if topic.partitions}
