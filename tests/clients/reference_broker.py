"""Apache Kafka in the place of the broker under test, so that a test can be tried on the reference first."""

from __future__ import annotations

import signal
import socket
import subprocess
import time

from tests.broker import BrokerProcess
from tests.reference import (
    CLUSTER_ID,
    SERVER_PROPERTIES,
    START_TIMEOUT_S,
    broker_classpath,
    free_port,
    run_java,
)


class KafkaProcess(BrokerProcess):
    """Started, stopped and killed like `BrokerProcess`. Settings are Kafka's, so most of Odradek's are known to it."""

    def start(self) -> None:
        assert self.process is None
        self.data = self.folder / "logs"
        properties = self.folder / "server.properties"
        if not self.port:
            self.port = free_port()
            text = SERVER_PROPERTIES.format(port=self.port, controller=free_port(), folder=self.folder)
            properties.write_text(text + "\n".join(self.settings) + "\n")
            storage = ("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties))
            formatted = run_java(broker_classpath(), *storage)
            assert formatted.returncode == 0, formatted.stdout + formatted.stderr
        command = ["java", "-Xms512m", "-Xmx512m", "-cp", broker_classpath(), "kafka.Kafka", str(properties)]
        log = self.folder / "stderr"
        with open(log, "ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, log.read_text()
                # A process of another project: there is nothing to wait on but its port.
                time.sleep(0.05)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        assert process is not None
        process.send_signal(number)
        return process.wait(START_TIMEOUT_S)
