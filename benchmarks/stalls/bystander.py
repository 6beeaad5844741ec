"""Somebody who wants nothing but ApiVersions, every 2 ms, and notes the longest wait.

Role: a process of its own, so that the work of the benchmark's client does not count as the broker's. For each line it
reads on stdin it writes the longest wait since the line before, in seconds: an answer that is still out is waited for.
"""

from __future__ import annotations

import select
import subprocess
import sys
import time
from types import TracebackType

from odradek.protocol.framing import encode_request
from odradek.protocol.messages.api_versions import ApiVersionsRequest
from tests.raw_client import Closed, RawClient

EVERY_S = 0.002
TIMEOUT_S = 300.0


class Bystander:
    """The process, from outside. A context manager."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "benchmarks.stalls.bystander", str(port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Bystander:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()

    def longest_wait_s(self) -> float:
        """Since it was asked last. Raises `Closed` where the broker does not answer it any more."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Closed("the bystander has lost its connection") from None
        line = self.process.stdout.readline()
        if not line:
            raise Closed("the bystander has lost its connection")
        return float(line)


def _ask_for_ever(port: int) -> None:
    request = encode_request(ApiVersionsRequest(client_software_name="b", client_software_version="1"), 3, 1, "b")
    longest = 0.0
    with RawClient(port) as client:
        client.socket.settimeout(TIMEOUT_S)
        while True:
            began = time.perf_counter()
            client.send_bytes(request)
            client.receive_frame()
            longest = max(longest, time.perf_counter() - began)
            if select.select([sys.stdin], [], [], EVERY_S)[0]:
                if not sys.stdin.readline():
                    return
                print(longest, flush=True)
                longest = 0.0


if __name__ == "__main__":
    _ask_for_ever(int(sys.argv[1]))
