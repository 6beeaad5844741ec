"""A member of a group with kcat: a program around `kcat -G`, which prints records as JSON and rebalances in words.

kcat commits by itself or not at all (`enable.auto.commit`): the command `commit` is an error here. SIGTERM makes it
leave. Who kills this program must kill its process group.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from typing import IO

from tests.clients.member_program import AUTO_COMMIT_INTERVAL_MS, Program

# "% Group NAME rebalanced (memberid ...): assigned: topic [0], topic [1]", or "revoked:"; with the cooperative assignor
# "% Group NAME rebalanced: incremental assignment of 2 partition(s) (memberid ..., COOPERATIVE ...): topic [0], ...",
# or "revoke".
REBALANCED = re.compile(r"% Group .* rebalanced.*?: (assigned|revoked|incremental assignment|incremental revoke)\b.*")
PARTITION = re.compile(r" \[(\d+)\]")
END_TIMEOUT_S = 10.0


def follow_rebalances(program: Program, lines: IO[str]) -> None:
    for line in lines:
        found = REBALANCED.match(line)
        partitions = {int(one) for one in PARTITION.findall(line)}
        if found is None:
            # Among others "Reached end of topic"; with -q the rebalances would be missing, too.
            if not line.startswith(("% Reached end", "% Waiting for group rebalance")):
                program.error(line.strip())
        elif found[1] == "assigned":
            program.assigned(partitions)
        elif found[1] == "incremental assignment":
            program.assigned(program.owned | partitions)
        else:
            program.revoked(partitions)


def follow_commands(program: Program, running: subprocess.Popen[str]) -> None:
    while program.next_command() != "leave":
        program.error("kcat does not commit on command")
    running.terminate()


def main() -> None:
    program = Program()
    orders = program.orders
    settings = {
        "client.id": orders.client_id,
        "partition.assignment.strategy": orders.assignor,
        "session.timeout.ms": orders.session_timeout_ms,
        "heartbeat.interval.ms": orders.heartbeat_interval_ms,
        "enable.auto.commit": str(orders.auto_commit).lower(),
        "auto.commit.interval.ms": AUTO_COMMIT_INTERVAL_MS,
        "auto.offset.reset": "earliest",
        "reconnect.backoff.max.ms": 500,
        "fetch.wait.max.ms": 100,
    }
    if orders.instance_id is not None:
        settings["group.instance.id"] = orders.instance_id
    kcat = shutil.which("kcat")
    assert kcat is not None
    command = [kcat, "-b", orders.bootstrap, "-J", "-u"]
    command += [argument for name, value in settings.items() for argument in ("-X", f"{name}={value}")]
    # What follows -G are the topics, to the end.
    command += ["-G", orders.group, orders.topic]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None and running.stderr is not None
    rebalances = threading.Thread(target=follow_rebalances, args=(program, running.stderr), daemon=True)
    rebalances.start()
    threading.Thread(target=follow_commands, args=(program, running), daemon=True).start()
    for line in running.stdout:
        one = json.loads(line)
        program.records([(one["partition"], one["offset"], (one["payload"] or "").encode())])
    code = running.wait()
    rebalances.join(END_TIMEOUT_S)
    if code:
        program.error(f"kcat ended with exit code {code}")
        raise SystemExit(1)
    program.left()


if __name__ == "__main__":
    main()
