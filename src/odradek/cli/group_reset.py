"""`odradek group reset`: sets the offsets of a group without members, after showing what it would do.

Role: compute the old and new offset of each partition and print them; commit them with --execute. As in Kafka's own
tool, an offset outside the log is replaced by the log's start or end.

Invariants: without --execute nothing is changed, and the last line says so. A group with members is refused before
offsets are computed, and its coordinator checks again at the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from odradek.cli.bootstrap import connect
from odradek.cli.failures import CommandFailed, WrongUse
from odradek.cli.groups import partition_counts
from odradek.cli.options import (
    TIMEOUT_S,
    TOPIC_PARTITIONS,
    Bootstrap,
    Flag,
    GroupArgument,
    OutputRow,
    Timeout,
    read_topics,
)
from odradek.cli.output import note, print_json, print_rows
from odradek.topic_partition import TopicPartition

if TYPE_CHECKING:
    from odradek.client.cluster import Client
    from odradek.client.group_coordinator import GroupClient

_COLUMNS = ("topic", "partition", "old_offset", "new_offset", "first_offset", "end_offset")
_NO_MEMBERS = ("Empty", "Dead")

ResetTo = Literal["earliest", "latest", "offset", "time", "shift"]


def reset(
    group: GroupArgument,
    /,
    *,
    topic: Annotated[list[str] | None, TOPIC_PARTITIONS] = None,
    all_topics: Flag = False,
    to_earliest: Flag = False,
    to_latest: Flag = False,
    to_offset: int | None = None,
    to_time: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    shift_by: Annotated[int | None, Parameter(allow_leading_hyphen=True)] = None,
    execute: Flag = False,
    output: OutputRow = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Shows, and with --execute sets, other offsets for a group without members.

    Parameters
    ----------
    group
        Its name; it need not exist yet.
    all_topics
        All partitions of which the group has an offset.
    to_earliest
        To the first records that are there.
    to_latest
        To the end: the next record to come is the first.
    to_offset
        To this offset.
    to_time
        To the first record at or after a time: @-1h (ms, s, m, h, d, w), 2026-01-31T12:00:00Z (local without Z or an
        offset), @1760000000000 (ms).
    shift_by
        So many records forward, or with a minus backward.
    execute
        Do it. Without it nothing is changed.
    """
    if all_topics == bool(topic):
        raise WrongUse("`odradek group reset` needs either --topic or --all-topics.")
    wanted = read_topics(topic or ())
    kind, value = _target(to_earliest, to_latest, to_offset, to_time, shift_by)
    from odradek.client.group_coordinator import GroupClient

    with connect(bootstrap_server, timeout) as client:
        group_client = GroupClient(client, group)
        _refuse_members(group_client)
        committed = {partition: found.offset for partition, found in group_client.committed().items()}
        chosen = _chosen(client, group, committed, None if all_topics else wanted)
        rows = _plan(client, chosen, committed, kind, value)
        if execute:
            group_client.set_offsets({(row["topic"], row["partition"]): row["new_offset"] for row in rows})
    if output == "json":
        print_json({"group": group, "executed": execute, "offsets": rows})
    else:
        print_rows(_COLUMNS, rows)
    if execute:
        note(f"the offsets of group {group} are set.")
    else:
        note("nothing was changed; the same command with --execute does it.")


def _target(
    to_earliest: bool, to_latest: bool, to_offset: int | None, to_time: str | None, shift_by: int | None
) -> tuple[ResetTo, int]:
    given: list[tuple[ResetTo, int]] = []
    if to_earliest:
        given.append(("earliest", 0))
    if to_latest:
        given.append(("latest", 0))
    if to_offset is not None:
        if not 0 <= to_offset < 2**63:
            raise WrongUse(f"--to-offset must be an offset, from 0 on, not {to_offset}.")
        given.append(("offset", to_offset))
    if to_time is not None:
        from odradek.cli.times import read_time
        from odradek.clock import SystemClock

        given.append(("time", read_time(to_time, SystemClock().now_ms(), "--to-time")))
    if shift_by is not None:
        given.append(("shift", shift_by))
    if len(given) != 1:
        raise WrongUse("say where to, once: --to-earliest, --to-latest, --to-offset, --to-time or --shift-by.")
    return given[0]


def _refuse_members(group_client: GroupClient) -> None:
    described = group_client.described()
    if described is not None:
        found, state, members = "", described.group_state, len(described.members)
    else:
        listed = group_client.listed()
        if listed is None:
            return  # the group does not exist: its first committed offsets create it
        found, state, members = listed.group_type, listed.group_state, 0
    if state and state not in _NO_MEMBERS:
        has = f"{members} member{'s' * (members != 1)}" if not found else "members"
        raise CommandFailed(
            f"cannot set offsets of group {group_client.group!r}: it has {has} ({state}), and they would go on where "
            "they are; stop its consumers first."
        )


def _chosen(
    client: Client, group: str, committed: dict[TopicPartition, int], wanted: dict[str, list[int] | None] | None
) -> list[TopicPartition]:
    """The partitions to set, all of which exist."""
    if wanted is None:
        if not committed:
            raise CommandFailed(f"group {group!r} has no offsets; name topics with --topic.")
        counts = partition_counts(client, {topic for topic, _ in committed})
        gone = [f"{topic}-{partition}" for topic, partition in sorted(committed) if partition >= counts.get(topic, 0)]
        if gone:
            note(f"left alone, because there is no such partition any more: {', '.join(gone)}.")
        return sorted(one for one in committed if one[1] < counts.get(one[0], 0))
    chosen = []
    for topic, indexes in sorted(wanted.items()):
        known = [p.partition_index for p in client.topic(topic).partitions]
        for partition in indexes or ():
            if partition not in known:
                raise CommandFailed(f"topic {topic!r} has partitions 0 to {len(known) - 1}, not {partition}.")
        chosen += [(topic, partition) for partition in (known if indexes is None else indexes)]
    return chosen


def _plan(
    client: Client, chosen: list[TopicPartition], committed: dict[TopicPartition, int], kind: ResetTo, value: int
) -> list[dict[str, Any]]:
    from odradek.client.cluster import EARLIEST, LATEST

    topics: dict[str, list[int]] = {}
    for topic, partition in chosen:
        topics.setdefault(topic, []).append(partition)
    rows = []
    for topic, partitions in topics.items():
        firsts = client.offsets(topic, dict.fromkeys(partitions, EARLIEST))
        ends = client.offsets(topic, dict.fromkeys(partitions, LATEST))
        at_time = client.offsets(topic, dict.fromkeys(partitions, value)) if kind == "time" else {}
        for partition in partitions:
            old = committed.get((topic, partition))
            first, end = firsts[partition], ends[partition]
            if kind == "earliest":
                new = first
            elif kind == "latest":
                new = end
            elif kind == "offset":
                new = value
            elif kind == "time":
                new = at_time[partition]
                if new < 0:
                    note(f"{topic}-{partition} has no record at or after that time: set to the end, {end}.")
                    new = end
            elif old is None:
                raise CommandFailed(f"the group has no offset of {topic}-{partition} to shift.")
            else:
                new = old + value
            if new < first:
                note(f"{topic}-{partition} begins after {new}: set to its first offset, {first}.")
            elif new > end:
                note(f"{topic}-{partition} ends before {new}: set to its end, {end}.")
            rows.append(
                {
                    "topic": topic,
                    "partition": partition,
                    "old_offset": old,
                    "new_offset": min(max(new, first), end),
                    "first_offset": first,
                    "end_offset": end,
                }
            )
    return rows
