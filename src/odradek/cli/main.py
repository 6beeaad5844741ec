"""The `odradek` command: its tree of subcommands and their exit codes.

Role: the tree of commands (cyclopts reads options from the functions' signatures and help from their docstrings) and
the mapping of outcomes to exit codes. Only the module of the requested subcommand is imported, and it imports rich,
sockets and the broker only where it needs them, so that commands start quickly.

Invariants: exit code 0 is success, 1 a failure at run time, 2 wrong use. A failure is one sentence on stderr, never a
traceback. It is no failure if the reader of stdout closes the pipe early (`| head`).
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from cyclopts import App, CycloptsError
from cyclopts.exceptions import UnknownCommandError

from odradek import __version__
from odradek.cli.failures import FAILED, WRONG_USE, exit_code, told
from odradek.cli.help_text import HelpText

app = App(
    name="odradek",
    help="An event streaming broker that speaks Apache Kafka's protocol, and a client to it.",
    version=__version__,
    help_format="plaintext",
    help_formatter=HelpText(),
    version_format="plaintext",
    result_action="return_value",
)
# The text of each command in the list is given here, so that listing the commands imports none of their modules.
app.command(
    "odradek.cli.serve:serve",
    help="""Run a broker.

    Without any option it listens on 127.0.0.1:9092 and keeps its data in ./odradek-data. SIGTERM stops it gracefully.
    """,
)
topic = App(name="topic", help="List, create, describe and delete topics.", result_action="return_value")
topic.command("odradek.cli.topics:list_topics", name="list", help="List topics.")
topic.command("odradek.cli.topics:create", help="Create a topic.")
topic.command(
    "odradek.cli.topics:describe", help="Describe topics: partitions with their offsets, and settings of their own."
)
topic.command("odradek.cli.topics:delete", help="Delete topics, with all their records.")
app.command(topic)
group = App(name="group", help="List, describe, reset and delete consumer groups.", result_action="return_value")
group.command("odradek.cli.groups:list_groups", name="list", help="List groups.")
group.command("odradek.cli.groups:describe", help="Describe a group: state, members, assignment, offsets and lag.")
group.command(
    "odradek.cli.group_reset:reset",
    help="""Set a group's offsets, by --execute.

    Without it the command shows the old and new offsets and changes nothing. The group must have no members.
    """,
)
group.command("odradek.cli.group_delete:delete", help="Delete groups without members, with all their offsets.")
group.command(
    "odradek.cli.group_delete:delete_offsets", help="Delete a group's offsets of topics that it does not read."
)
app.command(group)
transaction = App(name="transaction", help="List, describe and abort transactions.", result_action="return_value")
transaction.command("odradek.cli.transactions:list_transactions", name="list", help="List transactional ids.")
transaction.command(
    "odradek.cli.transactions:describe",
    help="Describe a transactional id: its producer, and the partitions of its open transaction.",
)
transaction.command(
    "odradek.cli.transactions:find_hanging",
    help="Find transactions that nobody will end: partitions have them open, no coordinator knows of them.",
)
transaction.command(
    "odradek.cli.transactions:abort", help="Abort a transaction in one partition: one that hangs (see find-hanging)."
)
app.command(transaction)
config = App(name="config", help="List, describe and change settings.", result_action="return_value")
config.command("odradek.cli.configs:list_configs", name="list", help="List what has settings.")
config.command("odradek.cli.configs:describe", help="Describe the settings of a topic, a broker or a group.")
config.command("odradek.cli.configs:alter", help="Change settings of a topic or a broker, and leave the others.")
app.command(config)
cluster = App(name="cluster", help="Describe the cluster.", result_action="return_value")
cluster.command("odradek.cli.cluster:info", help="Describe the cluster: brokers, what they hold, and features.")
app.command(cluster)
log = App(name="log", help="Look into a broker's files.", result_action="return_value")
log.command(
    "odradek.cli.log_dump.dump:dump",
    help="""Show what is in a broker's files, and check them.

    Segments, indexes, snapshots and checkpoints, of Odradek and of Apache Kafka, in plain words. The broker need not
    run, and need not stop. Exit code 1 says that something is damaged; each damage is told with file and position.
    """,
)
app.command(log)
app.command(
    "odradek.cli.completion:completion",
    help="""Print the script that completes this command's words in a shell.

    For bash: put `source <(odradek completion bash)` into ~/.bashrc; for zsh the same with zsh, behind compinit, into
    ~/.zshrc; for fish: `odradek completion fish > ~/.config/fish/completions/odradek.fish`. Names of topics, groups and
    profiles are completed, too, where the cluster answers within a second.
    """,
)
profile = App(
    name="profile",
    help="""Name clusters.

    Every command takes a profile's name as --bootstrap-server. Without that option it talks to the address in
    ODRADEK_BOOTSTRAP_SERVER of the environment, else to the profile in use, else to 127.0.0.1:9092.
    """,
    result_action="return_value",
)
profile.command("odradek.cli.profiles:list_profiles", name="list", help="List profiles.")
profile.command("odradek.cli.profiles:set_profile", name="set", help="Name a cluster, or change its address.")
profile.command("odradek.cli.profiles:use", help="Put a profile into use.")
profile.command("odradek.cli.profiles:delete", help="Forget a profile.")
app.command(profile)
app.command(
    "odradek.cli.produce:produce",
    help="""Write lines, or JSON lines, to a topic.

    A line ends with a newline, and what stands before it is kept as it is. Exit code 0 says that every line is
    acknowledged.
    """,
)
app.command(
    "odradek.cli.consume:consume",
    help="""Read a topic's records.

    They come from the beginning, if --from says nothing else, to the end that there is at the start, or with --follow
    until Ctrl-C; with --group shared with the group's other members, from where the group is. As JSON, bytes that are
    not UTF-8 stand as base64 under value_base64 and key_base64.
    """,
)


def run(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(_first_sentence(error), WRONG_USE)
    except FAILED as error:
        return _fail(told(error), exit_code(error))
    except BrokenPipeError:
        # The reader has closed the pipe. The interpreter must not try to write what is buffered when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _first_sentence(error: CycloptsError) -> str:
    if isinstance(error, UnknownCommandError):  # cyclopts' own text imports every command to suggest similar ones
        return f"there is no command {(error.unused_tokens or ['?'])[0]!r}; see `odradek --help`."
    return " ".join(str(error).split())


def _fail(sentence: str, code: int) -> int:
    print(f"odradek: {sentence}", file=sys.stderr)
    return code


def main() -> NoReturn:
    """The entry point of the installed command."""
    sys.exit(run())


if __name__ == "__main__":
    main()
