"""Apache Kafka's own command-line tools against this broker: they print what they print of Apache Kafka.

Ids, addresses, times and the order of lines are not compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from odradek.protocol.encoding import encode
from odradek.protocol.records.consumer_assignment import ConsumerProtocolAssignment, TopicPartition
from tests.broker import BrokerProcess
from tests.handlers.comparison import differences
from tests.handlers.group_peer import UUID, GroupPeer, subscription
from tests.handlers.txn_peer import TxnPeer
from tests.reference import needs_java
from tests.tools.kafka_tools import KafkaTools, Printed

pytestmark = needs_java
TOPIC_ID = re.compile(r"TopicId: [\w-]{22}")
# Formatting a Kafka writes this setting for all brokers, with its default's value.
FORMATTED = re.compile(r"min\.insync\.replicas=1,?")
RECORDS = 2_000
BROKER_CONFIG_TRIES = 50
KEYS = ("--reader-property", "parse.key=true", "--reader-property", "key.separator=:")


class Side:
    """The tools, pointed at one of the two brokers."""

    def __init__(self, tools: KafkaTools, port: int, folder: Path) -> None:
        self.tools = tools
        self.port = port
        self.folder = folder

    def run(self, tool: str, *arguments: str, stdin: str = "") -> Printed:
        return self.tools.run(tool, "--bootstrap-server", f"127.0.0.1:{self.port}", *arguments, stdin=stdin)

    def said(self, tool: str, *arguments: str, stdin: str = "") -> list[str]:
        """What a tool prints, made comparable; its exit code comes first, what it complains of last."""
        code, out, err = self.run(tool, *arguments, stdin=stdin)
        complaints = [line for line in err.splitlines() if line.startswith(("Error", "Consumer group", "Processed"))]
        lines = sorted(self.plain(line) for line in out.splitlines() if line.strip())
        return [f"exit {code}", *lines, *(self.plain(line) for line in complaints)]

    def plain(self, line: str) -> str:
        line = line.replace(f"127.0.0.1:{self.port}", "BROKER")
        line = FORMATTED.sub("", TOPIC_ID.sub("TopicId: ...", UUID.sub("...", line)))
        # Columns are as wide as what is in them.
        return re.sub(r"\s+", " ", line).strip()


Compare = Callable[[Callable[[Side], list[list[str]]]], list[list[str]]]


@pytest.fixture(scope="module")
def sides(kafka_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """Kafka's and this broker's."""
    folder = tmp_path_factory.mktemp("broker")
    with BrokerProcess(folder, "offsets.topic.num.partitions=1") as broker, KafkaTools() as tools:
        yield Side(tools, kafka_port, tmp_path_factory.mktemp("kafka-side")), Side(tools, broker.port, folder)


@pytest.fixture
def compare(sides: tuple[Side, Side]) -> Compare:
    """Runs tools on both brokers; what they say, if it is the same."""

    def run(scenario: Callable[[Side], list[list[str]]]) -> list[list[str]]:
        theirs, ours = (scenario(side) for side in sides)
        assert not (different := differences(theirs, ours)), "\n".join(different)
        return ours

    return run


def test_topics(compare: Compare) -> None:
    def scenario(side: Side) -> list[list[str]]:
        def topics(*arguments: str) -> list[str]:
            return side.said("topics", *arguments)

        return [
            topics("--create", "--topic", "tools-1", "--partitions", "2"),
            topics("--create", "--topic", "tools-1", "--partitions", "2"),
            topics("--create", "--topic", "tools-1", "--if-not-exists"),
            topics("--create", "--topic", "tools-2", "--replication-factor", "1", "--config", "retention.ms=60000"),
            topics("--create", "--topic", "tools bad"),
            topics("--create", "--topic", "tools-3", "--config", "no.such=1"),
            [line for line in topics("--list") if line.startswith("tools")],
            topics("--list", "--topic", "tools-2"),
            topics("--describe", "--topic", "tools-1"),
            topics("--describe", "--topic", "tools-2"),
            topics("--describe", "--topic", "tools-2", "--topics-with-overrides"),
            topics("--describe", "--topic", "no-such"),
            topics("--alter", "--topic", "tools-1", "--partitions", "3"),
            topics("--alter", "--topic", "tools-1", "--partitions", "2"),
            topics("--describe", "--topic", "tools-1"),
            topics("--describe", "--topic", "tools-.*", "--under-replicated-partitions"),
            topics("--describe", "--topic", "tools-.*", "--unavailable-partitions"),
            topics("--delete", "--topic", "tools-2"),
            topics("--delete", "--topic", "tools-2"),
            topics("--delete", "--topic", "tools-2", "--if-exists"),
            [line for line in topics("--list") if line.startswith("tools")],
        ]

    said = compare(scenario)
    assert said[0] == ["exit 0", "Created topic tools-1."]
    assert said[-1] == ["tools-1"]


def test_configs(compare: Compare) -> None:
    def scenario(side: Side) -> list[list[str]]:
        def configs(kind: str, name: str, *arguments: str) -> list[str]:
            return side.said("configs", "--entity-type", kind, "--entity-name", name, *arguments)

        def broker_configs(message_max_bytes: str | None) -> list[str]:
            """The broker's, once they show what was altered: Kafka takes it on after it has answered."""
            for _ in range(BROKER_CONFIG_TRIES):
                said = configs("brokers", "1", "--describe")
                shown = [line.split()[0] for line in said if line.startswith("message.max.bytes=")]
                if shown == ([] if message_max_bytes is None else [f"message.max.bytes={message_max_bytes}"]):
                    break
            return said

        side.run("topics", "--create", "--topic", "tools-configs")
        return [
            configs("topics", "tools-configs", "--describe"),
            configs(
                "topics",
                "tools-configs",
                "--alter",
                "--add-config",
                "retention.ms=1000,cleanup.policy=[compact,delete]",
            ),
            configs("topics", "tools-configs", "--describe"),
            configs("topics", "tools-configs", "--alter", "--delete-config", "retention.ms"),
            configs("topics", "tools-configs", "--alter", "--delete-config", "flush.ms"),
            configs("topics", "tools-configs", "--describe"),
            configs("topics", "tools-configs", "--alter", "--add-config", "retention.ms=soon"),
            configs("topics", "no-such", "--describe"),
            configs("brokers", "1", "--alter", "--add-config", "message.max.bytes=2000000"),
            broker_configs("2000000"),
            configs("brokers", "1", "--alter", "--delete-config", "message.max.bytes"),
            broker_configs(None),
        ]

    said = compare(scenario)
    assert "retention.ms=1000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=1000}" in said[2]


def consume(side: Side, *arguments: str) -> list[str]:
    return side.said("console-consumer", "--timeout-ms", "15000", *arguments)


def test_console_producer_and_consumer(compare: Compare) -> None:
    show = ("--formatter-property", "print.key=true", "--formatter-property", "print.partition=true")

    def scenario(side: Side) -> list[list[str]]:
        side.run("topics", "--create", "--topic", "tools-console", "--partitions", "3")
        group = ("--topic", "tools-console", "--group", "tools-console-group")
        return [
            side.said("console-producer", "--topic", "tools-console", *KEYS, stdin="a:1\nb:2\nc:3\n\u00fc:\u00e4\n"),
            consume(side, "--topic", "tools-console", "--from-beginning", "--max-messages", "4", *show),
            consume(side, *group, "--from-beginning", "--max-messages", "4"),
            side.said(
                "console-producer", "--topic", "tools-console", *KEYS, "--compression-codec", "gzip", stdin="d:5\n"
            ),
            # It goes on where it was.
            consume(side, *group, "--max-messages", "1"),
            consume(
                side, "--topic", "tools-console", "--partition", "1", "--offset", "earliest", "--max-messages", "1"
            ),
            side.said("consumer-groups", "--describe", "--group", "tools-console-group"),
        ]

    said = compare(scenario)
    assert said[2] == ["exit 0", "1", "2", "3", "\u00e4", "Processed a total of 4 messages"]
    assert said[4] == ["exit 0", "5", "Processed a total of 1 messages"]
    assert all(line.split(" ")[5] == "0" for line in said[6] if line.startswith("tools-console-group"))


def test_consumer_groups_at_rest(compare: Compare) -> None:
    group = ("--group", "tools-rest")

    def scenario(side: Side) -> list[list[str]]:
        def groups(*arguments: str) -> list[str]:
            return side.said("consumer-groups", *arguments)

        side.run("topics", "--create", "--topic", "tools-rest-1", "--partitions", "2")
        side.run("topics", "--create", "--topic", "tools-rest-2")
        for topic in ("tools-rest-1", "tools-rest-2"):
            side.run("console-producer", "--topic", topic, *KEYS, stdin="a:one\nb:two\na:three\n")
        whole = ("--include", "tools-rest-.*", "--from-beginning", "--max-messages", "6")
        backup = side.folder / "offsets.csv"
        exported = groups(*group, "--reset-offsets", "--to-earliest", "--all-topics", "--dry-run", "--export")
        seen = [
            exported,
            consume(side, *group, *whole),
            [line for line in groups("--list") if line.startswith("tools-rest")],
            [line for line in groups("--list", "--state") if line.startswith("tools-rest")],
            [line for line in groups("--list", "--type") if line.startswith("tools-rest")],
            [line for line in groups("--list", "--state", "Stable") if line.startswith("tools-rest")],
            [line for line in side.said("groups", "--list") if line.startswith("tools-rest")],
            groups("--describe", *group),
            groups("--describe", *group, "--offsets", "--verbose"),
            groups("--describe", *group, "--members", "--verbose"),
            groups("--describe", *group, "--state"),
            groups("--describe", "--group", "tools-nobody"),
            groups(*group, "--reset-offsets", "--to-earliest", "--all-topics", "--dry-run"),
            groups("--describe", *group),
            groups(*group, "--reset-offsets", "--to-earliest", "--topic", "tools-rest-2", "--execute"),
            groups(*group, "--reset-offsets", "--shift-by", "1", "--topic", "tools-rest-2:0", "--execute"),
            groups("--describe", *group),
            groups(*group, "--reset-offsets", "--to-offset", "2", "--topic", "tools-rest-2", "--execute"),
            groups(*group, "--reset-offsets", "--to-latest", "--all-topics", "--execute"),
            groups(*group, "--reset-offsets", "--to-current", "--all-topics", "--execute"),
            groups(*group, "--reset-offsets", "--to-datetime", "2020-01-01T00:00:00.000", "--all-topics", "--execute"),
            groups(*group, "--reset-offsets", "--by-duration", "PT10S", "--topic", "no-such-topic", "--execute"),
        ]
        printed = side.run("consumer-groups", *group, "--reset-offsets", "--to-current", "--all-topics", "--export")
        backup.write_text(printed.out)
        return [
            *seen,
            sorted(printed.lines),
            groups(*group, "--reset-offsets", "--from-file", str(backup), "--execute"),
            groups(*group, "--delete-offsets", "--topic", "tools-rest-1:0"),
            groups(*group, "--delete-offsets", "--topic", "tools-rest-2", "--topic", "no-such-topic"),
            groups("--describe", *group),
            groups("--delete", *group, "--group", "tools-nobody"),
            groups("--describe", *group),
            # A group can be made by setting its offsets.
            groups("--group", "tools-made", "--reset-offsets", "--to-earliest", "--topic", "tools-rest-1", "--execute"),
            groups("--describe", "--group", "tools-made"),
            groups("--delete", "--group", "tools-made"),
            [line for line in groups("--list") if line.startswith("tools-")],
        ]

    said = compare(scenario)
    assert "tools-rest tools-rest-2 0 3 3 0 - - -" in said[7]
    assert said[2] == ["tools-rest"]


def assignment(topic: str, *partitions: int) -> bytes:
    """What a leader gives a consumer."""
    given = ConsumerProtocolAssignment(assigned_partitions=[TopicPartition(topic=topic, partitions=list(partitions))])
    return b"\0\1" + encode(given, 1)


def test_consumer_groups_at_work(compare: Compare) -> None:
    def scenario(side: Side) -> list[list[str]]:
        def groups(*arguments: str) -> list[str]:
            return side.said("consumer-groups", "--group", "tools-work", *arguments)

        side.run("topics", "--create", "--topic", "tools-work", "--partitions", "3")
        side.run("topics", "--create", "--topic", "tools-work-2")
        side.run("console-producer", "--topic", "tools-work", *KEYS, stdin="key:one\n")
        with GroupPeer(side.port, is_kafka=True) as peer:
            peer.until_served("tools-work")
            topics = [("range", subscription("tools-work"))]
            more = {"protocols": topics, "session_ms": 300_000, "rebalance_ms": 300_000}
            member = str(peer.join("tools-work", version=3, **more)["member_id"])
            static = peer.join_later("tools-work", instance="static", version=9, **more)
            peer.until_state("tools-work", "PreparingRebalance")
            seen = [groups("--describe", "--state")]
            peer.join("tools-work", member, **more)
            other = str(static.answer()["member_id"])
            shares = {member: assignment("tools-work", 0, 2), other: assignment("tools-work", 1)}
            peer.sync("tools-work", 2, member, shares, version=4)
            peer.commit("tools-work", {"tools-work": {0: 0, 1: 0}, "tools-work-2": {0: 0}}, member, 2)
            seen += [
                groups("--describe"),
                groups("--describe", "--members"),
                groups("--describe", "--members", "--verbose"),
                groups("--describe", "--state"),
                groups("--delete"),
                groups("--reset-offsets", "--to-earliest", "--all-topics", "--execute"),
                groups("--delete-offsets", "--topic", "tools-work", "--topic", "tools-work-2"),
            ]
            peer.leave("tools-work", member, ("", "static"))
        return [*seen, groups("--describe"), groups("--delete")]

    said = compare(scenario)
    (line,) = [line for line in said[3] if "static-" in line or " static " in line]
    assert "tools-work(1)" in line.replace("tools-work:1", "tools-work(1)")


def test_offsets_and_deleted_records(compare: Compare) -> None:
    def scenario(side: Side) -> list[list[str]]:
        def offsets(*arguments: str) -> list[str]:
            return side.said("get-offsets", *arguments)

        side.run("topics", "--create", "--topic", "tools-offsets", "--partitions", "2")
        side.run("console-producer", "--topic", "tools-offsets", *KEYS, stdin="a:one\nb:two\na:three\n")
        where = [
            {"topic": "tools-offsets", "partition": partition, "offset": offset}
            for partition, offset in ((0, -1), (1, -1))
        ]
        wanted = side.folder / "records.json"
        wanted.write_text(json.dumps({"version": 1, "partitions": where}))
        before = offsets("--topic", "tools-offsets")
        assert sum(int(line.split(":")[2]) for line in before[1:]) == 3
        # Not max-timestamp: whether two lines are of one ms is chance.
        times = ("-1", "latest", "earliest", "earliest-local", "latest-tiered", "4102444800000")
        seen = [before, *(offsets("--topic", "tools-offsets", "--time", time) for time in times)]
        seen.append(side.said("delete-records", "--offset-json-file", str(wanted)))
        side.run("topics", "--create", "--topic", "tools-truncated")
        side.run("console-producer", "--topic", "tools-truncated", stdin="one\ntwo\nthree\n")
        wanted.write_text(
            json.dumps({"version": 1, "partitions": [{"topic": "tools-truncated", "partition": 0, "offset": 2}]})
        )
        return [
            *seen,
            side.said("delete-records", "--offset-json-file", str(wanted)),
            offsets("--topic", "tools-truncated", "--time", "earliest"),
            offsets("--topic", "tools-truncated"),
            offsets("--topic-partitions", "tools-truncated:0,tools-offsets:1", "--time", "1"),
            offsets("--topic", "no-such-topic"),
        ]

    said = compare(scenario)
    assert "partition: tools-truncated-0 low_watermark: 2" in said[-5]
    assert said[-4] == ["exit 0", "tools-truncated:0:2"]


def test_performance_tools(sides: tuple[Side, Side]) -> None:
    _, here = sides
    here.run("topics", "--create", "--topic", "tools-load", "--partitions", "2")
    for more in ([], ["acks=all", "compression.type=zstd"]):
        load = ["--topic", "tools-load", "--num-records", str(RECORDS), "--record-size", "100", "--throughput", "-1"]
        done = here.run("producer-perf-test", *load, *(["--command-property", *more] if more else []))
        assert done.code == 0 and done.lines[-1].startswith(f"{RECORDS} records sent, "), done
    done = here.run(
        "consumer-perf-test", "--topic", "tools-load", "--num-records", str(2 * RECORDS), "--timeout", "15000"
    )
    assert done.code == 0, done
    heads, values = (line.split(", ") for line in done.lines[-2:])
    assert int(dict(zip(heads, values, strict=True))["data.consumed.in.nMsg"]) == 2 * RECORDS


def test_what_the_broker_says_of_itself(sides: tuple[Side, Side]) -> None:
    _, here = sides
    here.run("topics", "--create", "--topic", "tools-dirs", "--partitions", "2")
    printed = here.run("log-dirs", "--describe", "--topic-list", "tools-dirs")
    found = json.loads(printed.lines[-1])
    (directory,) = found["brokers"][0]["logDirs"]
    assert directory["logDir"] == str(here.folder / "data") and directory["error"] is None
    assert {entry["partition"] for entry in directory["partitions"]} == {"tools-dirs-0", "tools-dirs-1"}
    versions = here.said("broker-api-versions")
    assert versions[0] == "exit 0" and any(line.startswith("JoinGroup(11): 0 to 9 [usable: 9]") for line in versions)
    cluster = here.tools.run("cluster", "cluster-id", "--bootstrap-server", f"127.0.0.1:{here.port}")
    assert cluster.code == 0 and cluster.lines[0].startswith("Cluster ID: ")


def test_the_offsets_decoder_reads_the_log_of_groups(sides: tuple[Side, Side]) -> None:
    """Kafka's dump tool understands every record of a life of groups."""
    _, here = sides
    here.run("topics", "--create", "--topic", "tools-dumped", "--partitions", "2")
    with GroupPeer(here.port, is_kafka=False) as peer:
        peer.until_served("tools-dumped")
        member = str(
            peer.join("tools-dumped", version=3, protocols=[("range", subscription("tools-dumped"))])["member_id"]
        )
        peer.sync("tools-dumped", 1, member, {member: assignment("tools-dumped", 0, 1)}, version=4)
        peer.commit("tools-dumped", {"tools-dumped": {0: (5, 0, "noted"), 1: 6}}, member, 1)
        peer.leave("tools-dumped", member)
        peer.commit("tools-dumped", {"tools-dumped": {0: 7}}, version=2, retention_ms=60_000)
        peer.delete("tools-dumped")
    (log,) = (here.folder / "data" / "__consumer_offsets-0").glob("*.log")
    printed = here.tools.run("dump-log", "--offsets-decoder", "--print-data-log", "--files", str(log))
    assert printed.code == 0 and "isvalid: false" not in printed.out, printed
    records = []
    for line in printed.lines:
        found = re.search(r"key: (\{.*\}) payload: (.*)$", line)
        assert found or not line.startswith("| offset:"), line
        if found and json.loads(found[1])["data"]["group"] == "tools-dumped":
            payload = None if found[2] == "<DELETE>" else json.loads(found[2])
            records.append((json.loads(found[1]), payload))
    joined, first, second, left, again, *tombstones = records
    assert joined[0] == {"type": "2", "data": {"group": "tools-dumped"}}
    assert joined[1]["version"] == "3" and joined[1]["data"]["generation"] == 1
    (described,) = joined[1]["data"]["members"]
    assert described["memberId"] == member and described["assignment"], described
    assert [one[0]["data"]["partition"] for one in (first, second)] == [0, 1]
    assert first[1]["version"] == "4" and (first[1]["data"]["offset"], first[1]["data"]["metadata"]) == (5, "noted")
    assert left[1]["data"]["members"] == [] and left[1]["data"]["generation"] == 2
    assert again[1]["version"] == "1"
    assert again[1]["data"]["expireTimestamp"] == again[1]["data"]["commitTimestamp"] + 60_000
    assert [(one[0]["type"], one[1]) for one in tombstones] == [("1", None), ("1", None), ("2", None)]


# Differ by what the brokers have done before, and by time.
TRANSACTION_COLUMNS = (
    "Coordinator",
    "CoordinatorId",
    "ProducerId",
    "CoordinatorEpoch",
    "LatestCoordinatorEpoch",
    "LastTimestamp",
    "CurrentTransactionStartTimeMs",
    "TransactionDurationMs",
    "Duration(min)",
)


def test_transactions(compare: Compare) -> None:
    def scenario(side: Side) -> list[list[str]]:
        def transactions(*arguments: str) -> list[str]:
            """The lines of a table, as column=value."""
            printed = side.run("transactions", *arguments)
            heads, *rows = [re.split(r"\s*\t\s*", line.strip()) for line in printed.lines] or [[]]
            told = [
                " ".join(
                    f"{head}={cell}" for head, cell in zip(heads, row, strict=False) if head not in TRANSACTION_COLUMNS
                )
                for row in rows
            ]
            return [f"exit {printed.code}", " ".join(heads), *sorted(line for line in told if "probe" not in line)]

        with TxnPeer(side.port, is_kafka=False) as peer:
            peer.make_topics(**{"tools-txn": 2})
            producer = peer.begin("tools-open")
            assert peer.write("tools-txn", producer, 0, "tools-open", 12)["error_code"] == 0
            assert peer.write("tools-txn", producer, 0, "tools-open", 12, partition=1)["error_code"] == 0
            done = peer.begin("tools-done")
            assert peer.write("tools-txn", done, 0, "tools-done", 12)["error_code"] == 0
            assert peer.end("tools-done", done, True, 5)["error_code"] == 0
            peer.until_described("tools-done", "CompleteCommit")
            where = ("--topic", "tools-txn", "--partition", "0")
            seen = [
                [line for line in transactions("list") if "TransactionalId=tools" in line],
                [line for line in transactions("list", "--duration-filter", "10000000") if "=tools" in line],
                transactions("describe", "--transactional-id", "tools-open"),
                transactions("describe", "--transactional-id", "tools-done"),
                transactions("describe", "--transactional-id", "tools-nobody"),
                transactions("describe-producers", *where),
                transactions("find-hanging", *where, "--max-transaction-timeout", "0"),
                transactions("abort", *where, "--start-offset", "7"),
                transactions("abort", *where, "--start-offset", "0"),
                transactions("describe-producers", *where),
                transactions("forceTerminateTransaction", "--transactionalId", "tools-open"),
            ]
            peer.until_described("tools-open", "Empty")
            peer.until_stable("tools-txn", 2, 1)
            return [
                *seen,
                transactions("describe", "--transactional-id", "tools-open"),
                transactions("describe-producers", "--topic", "tools-txn", "--partition", "1"),
                [str(peer.write("tools-txn", producer, 1, "tools-open", 12)["error_code"])],
            ]

    said = compare(scenario)
    assert "TransactionalId=tools-open TransactionState=Ongoing" in said[0][0] + said[0][1]
    assert said[0] != said[1]


def test_the_dump_tool_reads_what_was_aborted(tmp_path: Path, sides: tuple[Side, Side]) -> None:
    with BrokerProcess(tmp_path) as broker, TxnPeer(broker.port, is_kafka=False) as peer:
        peer.make_topics(aborts=1)
        for index in range(6):
            name = f"id-{index}"
            producer = peer.begin(name)
            assert peer.write("aborts", producer, 0, name, 12)["error_code"] == 0
            assert peer.end(name, producer, index % 2 == 0, 5)["error_code"] == 0
            peer.until_described(name, "CompleteAbort" if index % 2 else "CompleteCommit")
    (file,) = (tmp_path / "data" / "aborts-0").glob("*.txnindex")
    printed = sides[1].tools.run("dump-log", "--files", str(file))
    assert printed.code == 0, printed
    found = re.findall(r"firstOffset: (\d+) lastOffset: (\d+)", printed.out)
    assert found == [("2", "3"), ("6", "7"), ("10", "11")]


def test_the_transactions_decoder_reads_the_log_of_transactions(sides: tuple[Side, Side]) -> None:
    """Kafka's dump tool understands every record of a transaction's life."""
    _, here = sides
    with TxnPeer(here.port, is_kafka=False) as peer:
        peer.make_topics(**{"tools-txn-dumped": 1})
        producer = peer.begin("tools-dumped")
        assert peer.write("tools-txn-dumped", producer, 0, "tools-dumped", 12)["error_code"] == 0
        assert peer.end("tools-dumped", producer, False, 5)["error_code"] == 0
        peer.until_described("tools-dumped", "CompleteAbort")
    states = []
    for log in (here.folder / "data").glob("__transaction_state-*/*.log"):
        printed = here.tools.run("dump-log", "--transaction-log-decoder", "--print-data-log", "--files", str(log))
        assert printed.code == 0 and "isvalid: false" not in printed.out, printed
        for line in printed.lines:
            if '"tools-dumped"' in line:
                states += re.findall(r"transactionStatus[^0-9]*(\d)", line)
    # Empty, ongoing, prepared to abort, aborted.
    assert states == ["0", "1", "3", "5"]
