"""The processes of one transactional pipeline: started, killed, stopped for a while as zombies, and started again.

A pipeline may end by itself (its client gives up, or is fenced); `tend` starts it again then, and kills one that has
said nothing for `SILENCE_S`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.clients.driver_go import built
from tests.pipelines.history import History
from tests.reference import tools_classpath

SILENCE_S = 25.0
COPIER = "org.apache.kafka.tools.TransactionalMessageCopier"


def _python(module: str) -> Callable[[str, History, int, int], list[str]]:
    def command(bootstrap: str, history: History, incarnation: int, seed: int) -> list[str]:
        return [sys.executable, "-m", f"tests.pipelines.{module}", bootstrap, history.name, str(incarnation), str(seed)]

    return command


def _go(bootstrap: str, history: History, incarnation: int, seed: int) -> list[str]:
    return [str(built()), "pipeline", bootstrap, history.name, str(incarnation), str(seed)]


def _java(bootstrap: str, history: History, incarnation: int, seed: int) -> list[str]:
    """Kafka's own tool: it copies what partition 0 has when it is started, and ends. Its values have no tags."""
    java = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", tools_classpath(), COPIER]
    name = history.name
    how = ["--input-topic", "in", "--input-partition", "0", "--output-topic", f"out-{name}", "--broker-list", bootstrap]
    how += ["--consumer-group", name, "--transactional-id", name, "--transaction-size", "10"]
    how += ["--transaction-timeout", "10000", "--enable-random-aborts"]
    return java + how + (["--use-group-metadata"] if seed % 2 else [])


KINDS = {"confluent": _python("confluent"), "aiokafka": _python("aiokafka"), "franz-go": _go, "java": _java}
# It asks for its group's position before it fences its predecessor: one that sleeps in between goes on from an old one.
NO_ZOMBIES = ("java",)


class Pipeline:
    """One kind of pipeline on one broker. Use as a context manager; at its end no process is left."""

    def __init__(self, kind: str, bootstrap: str, history: History, chance: random.Random, said: threading.Event):
        """`said` is set whenever it has said something, or ended."""
        self.kind = kind
        self.history = history
        self.bootstrap = bootstrap
        self.ended: list[str] = []
        """Why it ended by itself."""
        self.silences = 0
        self.lines = 0
        self._chance = chance
        self._said = said
        self._incarnation = 0
        self._said_at = 0.0
        self._processes: list[subprocess.Popen[str]] = []
        self._threads: list[threading.Thread] = []
        self._told = threading.Lock()

    def __enter__(self) -> Pipeline:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for thread in self._threads:
            thread.join()

    def start(self) -> None:
        self._incarnation += 1
        self._said_at = time.monotonic()
        command = KINDS[self.kind](self.bootstrap, self.history, self._incarnation, self._chance.randrange(1 << 30))
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._processes.append(process)
        thread = threading.Thread(target=self._listen, args=(process,), name=f"{self.kind}-{self._incarnation}")
        self._threads.append(thread)
        thread.start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for text in process.stdout:
                try:
                    line = json.loads(text)
                except ValueError:
                    continue  # the last one of a process that was killed, or a client's own
                with self._told:
                    self.history.told(line)
                    self.lines += 1
                    self._said_at = time.monotonic()
                    if line.get("event") == "ended":
                        self.ended.append(line["error"])
                self._said.set()
        process.wait()
        self._said.set()

    def kill(self) -> None:
        """Ends it as a crash would, and starts it again."""
        self._processes[-1].kill()
        self.start()

    def replace(self) -> Callable[[], None]:
        """Stops it where it is, and starts another in its place; what is given lets the first one go on as a zombie."""
        stopped = self._processes[-1]
        if stopped.poll() is None:
            stopped.send_signal(signal.SIGSTOP)
        self.start()

        def wake() -> None:
            if stopped.poll() is None:
                os.kill(stopped.pid, signal.SIGCONT)

        return wake

    def figures(self) -> Counter[str]:
        """What it did, as far as it told."""
        ends = {f"transactions {end}": self.history.count(end) for end in ("committed", "aborted", "unknown")}
        told = ends if self.history.tagged else {}
        by_itself = {"ended by itself": len(self.ended), "silent": self.silences}
        return Counter({"records": len(self.history.seen), **told, **by_itself})

    def tend(self) -> None:
        """Starts it again where it has ended, or says nothing any more."""
        process = self._processes[-1]
        if process.poll() is not None:
            self.start()
        elif time.monotonic() - self._said_at > SILENCE_S:
            self.silences += 1
            self.kill()
