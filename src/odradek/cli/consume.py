"""`odradek consume`: a topic's records as JSON lines, as plain text, or by a template.

Role: the options, and the steps: resolve where to begin and stop (`consume_range`), read with `consumer` (with --group,
`group_consume`), filter (`consume_filters`) and print (`record_lines`, `record_format`). `odradek produce --input json`
reads the printed JSON back without loss.

Invariants: without --follow, the command ends at the end offsets that the topic had at the start. Memory is bounded by
one fetch per broker and one decompressed batch, whatever the topic holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from odradek.cli import completers
from odradek.cli.bootstrap import open_client
from odradek.cli.failures import CommandFailed, WrongUse
from odradek.cli.options import TIMEOUT_S, Bootstrap, Flag, Numbers, Texts, TopicArgument
from odradek.cli.output import note

if TYPE_CHECKING:
    from odradek.cli.record_format import Line


def consume(
    topic: TopicArgument,
    /,
    *,
    from_: Annotated[str, Parameter(name="--from", allow_leading_hyphen=True)] = "earliest",
    to: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative="")] = False,
    partition: Numbers = None,
    max_records: Annotated[int | None, Parameter(name=("--max", "--count"))] = None,
    grep: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    grep_key: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    grep_value: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    header: Texts = None,
    output: Literal["json", "text"] | None = None,
    format_: Annotated[str | None, Parameter(name="--format", allow_leading_hyphen=True)] = None,
    key_separator: str | None = None,
    hex_: Annotated[bool, Parameter(name="--hex", negative="")] = False,
    group: Annotated[str | None, Parameter(completer=completers.groups)] = None,
    instance_id: str | None = None,
    from_beginning: Flag = False,
    exit_at_end: Flag = False,
    timeout: float = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Reads a topic's records.

    Parameters
    ----------
    topic
        The topic.
    from_
        Where to begin: earliest, latest, an offset (-10: ten before the end of each partition), or a time: @-1h (ms, s,
        m, h, d, w), @2026-01-31T12:00 (local; with Z or an offset not), @1760000000000 (ms). With --group it is for
        partitions of which the group has no offset.
    to
        Where to stop, in the same words: what stands there is not printed any more.
    follow
        Go on at the end, and print what comes, until Ctrl-C.
    partition
        Read this partition only; may be repeated.
    max_records
        Stop after so many records were printed.
    grep
        Print only records with this regular expression (Python's) in key or value; may stand beside the next three.
    grep_key
        The same for the key.
    grep_value
        The same for the value.
    header
        Only records with this header: NAME=VALUE, or NAME with any value; may be repeated, and all must be there.
    output
        json (unless told): one object a line, with all metadata. text: values only.
    format_
        A template for each record, as '{time} {partition}:{offset} {key} {value}'. There are: topic, partition, offset,
        timestamp, time, timestamp_type, key, value, headers, header.NAME, key_size, value_size, leader_epoch,
        producer_id, producer_epoch, sequence, transactional, compression. {value:hex}, {value:base64}, {value:json}
        write contents in another way; \\n, \\t, \\0, \\xHH are what they are in C.
    key_separator
        Text: key, this, and value.
    hex_
        Contents in hexadecimal; as JSON under key_hex and value_hex.
    group
        Read as a member of this consumer group, which shares the partitions out, and commit what was printed: at the
        end, every few seconds, and before partitions go to others.
    instance_id
        With --group: a name by which the group knows this member again (group.instance.id). It keeps its partitions
        while it is away, until the session ends.
    from_beginning
        The same as --from earliest.
    exit_at_end
        Stop at the end that the topic had at the start: what happens without --follow.
    timeout
        Seconds without an answer after which to give up.
    """
    if max_records is not None and max_records < 0:
        raise WrongUse(f"--max must not be negative, but is {max_records}.")
    if from_beginning and from_ not in ("beginning", "earliest"):
        raise WrongUse(f"--from-beginning and --from {from_} contradict each other.")
    if follow and (exit_at_end or to is not None):
        raise WrongUse(f"--follow goes on for ever, and {'--exit-at-end' if exit_at_end else '--to'} does not.")
    if group is not None and (partition or not group):
        raise WrongUse(
            "--partition is not for --group, which shares the partitions out." if group else "--group is empty."
        )
    if instance_id is not None and not (group and instance_id):
        raise WrongUse("--instance-id is a name, for a member of a --group.")
    from odradek.cli.consume_filters import read_filters
    from odradek.cli.consume_range import check_order, read_begin, read_end
    from odradek.clock import SystemClock

    now_ms = SystemClock().now_ms()
    begin = read_begin(from_, now_ms)
    end = read_end(to, now_ms) if to is not None else None
    if to is not None:
        check_order(from_, to)
    wanted = read_filters(grep, grep_key, grep_value, header or ())
    line = _line(topic, output, format_, key_separator, hex_)
    from odradek.cli.record_lines import print_round
    from odradek.client.cluster import LATEST
    from odradek.client.consumer import Consumer

    left = -1 if max_records is None else max_records
    with open_client(bootstrap_server, timeout) as client:
        known = [p.partition_index for p in client.topic(topic).partitions]
        for number in partition or ():
            if number not in known:
                raise CommandFailed(f"topic {topic!r} has partitions 0 to {len(known) - 1}, not {number}.")
        chosen = sorted(set(partition)) if partition else known
        ends = client.offsets(topic, dict.fromkeys(chosen, LATEST))
        stops = ends if end is None else end(client, topic, ends)
        if group is not None:
            from odradek.cli.group_consume import GroupConsumption
            from odradek.client.group_member import GroupMember

            with_group = GroupConsumption(client, topic, begin, line, left, None if follow else stops, note, wanted)
            with_group.run(GroupMember(client, group, topic, instance_id, note, with_group.is_stopping))
            return
        positions = begin(client, topic, ends)
        consumer = Consumer(client, topic, positions, None if follow else stops, note=note)
        while left and not consumer.is_done:
            found = consumer.poll()
            left = print_round(found if wanted is None else (one for one in found if wanted(one[2])), line, left)


def _line(topic: str, output: str | None, template: str | None, key_separator: str | None, use_hex: bool) -> Line:
    """The function that formats a record. Raises `WrongUse`."""
    from odradek.cli.record_format import format_line
    from odradek.cli.record_lines import json_line, text_line

    if template is not None:
        if output is not None or key_separator is not None:
            other = "--key-separator" if output is None else "--output"
            raise WrongUse(f"--format says all of how a record is printed; leave {other} out.")
        return format_line(topic, template, use_hex)
    if key_separator is not None:
        if output == "json":
            raise WrongUse("--key-separator is for --output text.")
        output = "text"
    return text_line(key_separator, use_hex) if output == "text" else json_line(topic, use_hex)
