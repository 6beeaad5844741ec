"""`odradek group delete|delete-offsets`.

Role: ask the coordinators to delete each group or offset, and print each result. The coordinators decide what may be
deleted (only groups without members, for example).

Invariant: if one item fails, the others are deleted all the same; the command then names the failed ones and ends with
exit code 1.
"""

from __future__ import annotations

from typing import Annotated

from odradek.cli.bootstrap import connect
from odradek.cli.failures import FAILED, CommandFailed, WrongUse, told
from odradek.cli.groups import existing, joined
from odradek.cli.options import (
    TIMEOUT_S,
    TOPIC_PARTITIONS,
    Bootstrap,
    Flag,
    GroupArgument,
    OutputLines,
    OutputRows,
    Timeout,
    read_topics,
)
from odradek.cli.output import print_json, print_rows


def delete(
    *groups: GroupArgument,
    if_exists: Flag = False,
    output: OutputLines = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Deletes groups without members, with all their offsets.

    Parameters
    ----------
    groups
        Their names.
    if_exists
        Succeed if a group is not there.
    """
    if not groups:
        raise WrongUse("`odradek group delete` needs a group's name.")
    from odradek.client.group_coordinator import GroupClient
    from odradek.errors import ErrorCode

    failures = []
    rows = []
    with connect(bootstrap_server, timeout) as client:
        for name in dict.fromkeys(groups):
            group_client = GroupClient(client, name)
            try:
                code = group_client.delete()
                missing = code == ErrorCode.GROUP_ID_NOT_FOUND and if_exists
                if not missing:
                    group_client.refuse(code, "delete")
                rows.append({"group": name, "deleted": not missing})
            except FAILED as error:
                failures.append(told(error))
    if output == "json":
        print_json(rows)
    else:
        for row in rows:
            print(f"Group {row['group']} {'deleted' if row['deleted'] else 'does not exist'}.")
    if failures:
        raise CommandFailed(" ".join(failures))


def delete_offsets(
    group: GroupArgument,
    /,
    *,
    topic: Annotated[list[str], TOPIC_PARTITIONS],
    output: OutputRows = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Deletes a group's offsets of topics that it does not read at the moment.

    Parameters
    ----------
    group
        Its name.
    """
    wanted = read_topics(topic)
    from odradek.client.error_codes import sentence
    from odradek.client.group_coordinator import GroupClient
    from odradek.errors import ErrorCode

    with connect(bootstrap_server, timeout) as client:
        group_client = GroupClient(client, group)
        existing(group_client, "delete offsets of")
        committed = group_client.committed()
        chosen = {one for one in committed if one[0] in wanted and one[1] in (wanted[one[0]] or (one[1],))}
        failures = [
            f"group {group!r} has no offset of {name}{'' if indexes is None else ':' + joined(indexes)}."
            for name, indexes in wanted.items()
            if not any(one[0] == name for one in chosen)
        ]
        codes = group_client.delete_offsets(sorted(chosen)) if chosen else {}
    rows = [
        {"topic": name, "partition": partition, "deleted_offset": committed[name, partition].offset}
        for (name, partition), code in sorted(codes.items())
        if not code
    ]
    if output == "json":
        print_json(rows)
    else:
        print_rows(("topic", "partition", "deleted_offset"), rows)
    for name, code in sorted({(one[0], code) for one, code in codes.items() if code}):
        why = sentence(code)
        if code == ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC:
            why = "members of the group read it; stop its consumers first"
        failures.append(f"cannot delete offsets of {name} in group {group!r}: {why}.")
    if failures:
        raise CommandFailed(" ".join(failures))
