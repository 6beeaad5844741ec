"""`odradek consume`: a topic's records as JSON lines, or as plain text.

Role: find where to begin and where to stop, read with `consumer` (as a member of a group with `group_consume`), and
print with `record_lines`. What it prints as JSON `odradek produce --input json` reads back, with nothing lost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from odradek.cli.failures import CommandFailed, WrongUse
from odradek.cli.profiles import Bootstrap, open_client
from odradek.cli.times import read_time

if TYPE_CHECKING:
    from odradek.cli.client import Client


def consume(
    topic: str,
    /,
    *,
    from_: Annotated[str, Parameter(name="--from", allow_leading_hyphen=True)] = "beginning",
    from_beginning: Annotated[bool, Parameter(negative="")] = False,
    partition: Annotated[list[int] | None, Parameter(negative="")] = None,
    group: str | None = None,
    instance_id: str | None = None,
    max_records: Annotated[int | None, Parameter(name=("--max", "--count"))] = None,
    exit_at_end: Annotated[bool, Parameter(negative="")] = False,
    output: Literal["json", "text"] = "json",
    key_separator: str | None = None,
    timeout: float = 30.0,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Reads a topic's records.

    Parameters
    ----------
    topic
        The topic.
    from_
        Where to begin: beginning, end, an offset (-10: ten before the end), or a time: @-1h (ms, s, m, h, d, w),
        @2026-01-31T12:00:00Z (local without Z or an offset), @1760000000000 (ms). With --group it is for partitions of
        which the group has no offset.
    from_beginning
        The same as --from beginning.
    partition
        Read this partition only; may be repeated.
    group
        Read as a member of this consumer group, which shares the partitions out, and commit what was printed: at the
        end, every few seconds, and before partitions go to others.
    instance_id
        With --group: a name by which the group knows this member again (group.instance.id). It keeps its partitions
        while it is away, until the session ends.
    max_records
        Stop after so many records.
    exit_at_end
        Stop at the end that the topic had at the start.
    output
        json: one object a line, with all metadata. text: values only.
    key_separator
        With text: print key, this, and value.
    timeout
        Seconds without an answer after which to give up.
    bootstrap_server
        HOST:PORT of a broker, or a profile; see `odradek profile --help`.
    """
    if max_records is not None and max_records < 0:
        raise WrongUse(f"--max must not be negative, but is {max_records}.")
    if key_separator is not None and output == "json":
        raise WrongUse("--key-separator is for --output text.")
    if from_beginning and from_ != "beginning":
        raise WrongUse(f"--from-beginning and --from {from_} contradict each other.")
    if group is not None and (partition or not group):
        raise WrongUse(
            "--partition is not for --group, which shares the partitions out." if group else "--group is empty."
        )
    if instance_id is not None and not (group and instance_id):
        raise WrongUse("--instance-id is a name, for a member of a --group.")
    from odradek.clock import SystemClock

    begin = _read_begin(from_, SystemClock().now_ms())
    from odradek.cli.client import LATEST
    from odradek.cli.consumer import Consumer
    from odradek.cli.record_lines import json_line, print_round, text_line

    line = json_line(topic) if output == "json" else text_line(key_separator)
    left = -1 if max_records is None else max_records
    with open_client(bootstrap_server, timeout) as client:
        known = [p.partition_index for p in client.topic(topic).partitions]
        for wanted in partition or ():
            if wanted not in known:
                raise CommandFailed(f"topic {topic!r} has partitions 0 to {len(known) - 1}, not {wanted}.")
        chosen = sorted(set(partition)) if partition else known
        ends = client.offsets(topic, dict.fromkeys(chosen, LATEST))
        if group is not None:
            from odradek.cli.group_consume import GroupConsumption
            from odradek.cli.group_member import Member

            with_group = GroupConsumption(client, topic, begin, line, left, ends if exit_at_end else None, _note)
            with_group.run(Member(client, group, topic, instance_id, _note, with_group.is_stopping))
            return
        positions = begin(client, topic, ends)
        consumer = Consumer(client, topic, positions, ends if exit_at_end else None, note=_note)
        while left and not consumer.is_done:
            left = print_round(consumer.poll(), line, left)


def _note(text: str) -> None:
    print(f"odradek: {text}", file=sys.stderr)


# --- where to begin --------------------------------------------------------------------------------------------------

Begin = Callable[["Client", str, dict[int, int]], dict[int, int]]


def _read_begin(text: str, now_ms: int) -> Begin:
    """What --from means: a function (client, topic, ends) -> first offsets. Raises `WrongUse`."""
    if text == "end":
        return lambda client, topic, ends: dict(ends)
    if text == "beginning":
        from odradek.cli.client import EARLIEST

        return lambda client, topic, ends: client.offsets(topic, dict.fromkeys(ends, EARLIEST))
    if text.startswith("@"):
        return _begin_at_time(read_time(text, now_ms, "--from"))
    if text.removeprefix("-").isdecimal() and text.isascii():
        return _begin_at_offset(int(text))
    raise WrongUse(f"--from {text!r} is none of beginning, end, an offset, or a time such as @-1h.")


def _begin_at_offset(offset: int) -> Begin:
    def begin(client: Client, topic: str, ends: dict[int, int]) -> dict[int, int]:
        from odradek.cli.client import EARLIEST

        firsts = client.offsets(topic, dict.fromkeys(ends, EARLIEST))
        if offset < 0:
            return {p: max(firsts[p], ends[p] + offset) for p in ends}
        for p in ends:
            if not firsts[p] <= offset <= ends[p]:
                raise CommandFailed(f"{topic}-{p} has offsets from {firsts[p]} to {ends[p]} (its end), not {offset}.")
        return dict.fromkeys(ends, offset)

    return begin


def _begin_at_time(timestamp_ms: int) -> Begin:
    def begin(client: Client, topic: str, ends: dict[int, int]) -> dict[int, int]:
        found = client.offsets(topic, dict.fromkeys(ends, timestamp_ms))
        return {p: ends[p] if offset < 0 else offset for p, offset in found.items()}

    return begin
