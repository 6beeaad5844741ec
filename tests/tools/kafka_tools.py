"""Kafka's command-line tools, all in one Java process: a tool's start costs a second and a half, its work little."""

from __future__ import annotations

import base64
import subprocess
from typing import NamedTuple

from tests.reference import java_source, tools_classpath

CLASSES = {
    "topics": "org.apache.kafka.tools.TopicCommand",
    "configs": "kafka.admin.ConfigCommand",
    "console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "groups": "org.apache.kafka.tools.GroupsCommand",
    "get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
    "consumer-perf-test": "org.apache.kafka.tools.ConsumerPerformance",
    "log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "cluster": "org.apache.kafka.tools.ClusterTool",
    "transactions": "org.apache.kafka.tools.TransactionsCommand",
    "dump-log": "org.apache.kafka.tools.DumpLogSegments",
}


class Printed(NamedTuple):
    """What a tool left."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.out.splitlines() if line.strip()]


class KafkaTools:
    """The Java process. Use as a context manager."""

    def __enter__(self) -> KafkaTools:
        command = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", tools_classpath()]
        self.process = subprocess.Popen(
            [*command, java_source("Tools.java")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def run(self, tool: str, *arguments: str, stdin: str = "") -> Printed:
        """Runs a tool by the name of its script, without the "kafka-"."""
        assert self.process.stdin is not None and self.process.stdout is not None
        words = [CLASSES[tool], stdin, *arguments]
        self.process.stdin.write(" ".join(base64.b64encode(word.encode()).decode() for word in words) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline().rstrip("\n")
        assert line, f"the tools' process ended with {self.process.poll()}"
        code, out, err = line.split(" ")
        return Printed(int(code), base64.b64decode(out).decode(), base64.b64decode(err).decode())
