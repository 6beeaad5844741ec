"""Where a broker's time goes while a case runs: py-spy looks at it from outside, 250 times a second.

Role: stacks become two short lists: functions by the share of samples in which they were at work themselves, and by
that in which they were anywhere on the stack. Figures of a run with this are not for the table: looking costs time.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RATE = 250
# It says nothing when it has begun.
BEGIN_S = 1.0
SHOWN = 8
# What every request passes through is not told.
LEFT_OUT = ("odradek/cli/", "odradek/network/")


@contextmanager
def profiled(pid: int, name: str) -> Iterator[None]:
    """Prints what the process did in the meantime."""
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder) / "stacks"
        command = [str(Path(sys.executable).parent / "py-spy"), "record", "--pid", str(pid), "--rate", str(RATE)]
        command += ["--nonblocking", "--format", "raw", "--duration", "unlimited", "--output", str(stacks)]
        watching = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(BEGIN_S)
        try:
            yield
        finally:
            watching.send_signal(signal.SIGINT)
            watching.wait(60)
        print(_told(name, stacks.read_text() if stacks.exists() else ""), file=sys.stderr, flush=True)


def _told(name: str, stacks: str) -> str:
    own, all_of = Counter[str](), Counter[str]()
    for line in stacks.splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = [frame for frame in stack.split(";") if not frame.startswith("process ")]
        own[frames[-1]] += int(samples)
        for function in {frame.rpartition(":")[0] for frame in frames if "odradek/" in frame}:
            if not any(room in function for room in LEFT_OUT):
                all_of[function + ")"] += int(samples)
    total = own.total()
    lines = [f"  {name}: {total / RATE:.2f} s at work"]
    for what, found in (("itself", own), ("on the stack", all_of)):
        lines += [f"    {what} {100 * count / total:3.0f} %  {frame}" for frame, count in found.most_common(SHOWN)]
    return "\n".join(lines)
