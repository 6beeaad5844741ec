"""`odradek produce` and `odradek consume`, each against the other, and both against a broker and librdkafka."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.cli.command import COMMAND, Run, read_line

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
Json = dict[str, Any]


def consumed(run: Run, topic: str, *options: str) -> list[Json]:
    out = run("consume", topic, *options).stdout
    return [json.loads(line) for line in out.splitlines()]


def values(run: Run, topic: str, *options: str) -> list[str]:
    return [record["value"] for record in consumed(run, topic, *options)]


def test_lines_come_back_with_all_that_is_known_of_them(run: Run, topic: str) -> None:
    before = time.time() * 1000
    done = run("produce", topic, "--header", "trace=a=b", "--header", "empty=", input=b"one\n\ntwo words \r\nlast")
    assert done.stdout == b"" and done.stderr == f"4 records written to {topic}.\n".encode()
    records = consumed(run, topic)
    assert [record["value"] for record in records] == ["one", "", "two words \r", "last"]
    for offset, record in enumerate(records):
        timestamp = record.pop("timestamp")
        assert before - 1000 <= timestamp <= time.time() * 1000 + 1000
        del record["value"], record["leader_epoch"]
        assert record.pop("producer_id") >= 0
        assert record == {
            "topic": topic,
            "partition": 0,
            "offset": offset,
            "timestamp_type": "CreateTime",
            "producer_epoch": 0,
            "sequence": offset,
            "key": None,
            "headers": [{"key": "trace", "value": "a=b"}, {"key": "empty", "value": ""}],
        }


def test_text_that_is_not_utf8_loses_nothing(run: Run, topic: str) -> None:
    run("produce", topic, "--key-separator", ":", input=b"\xff\xfek:\x00\xe4v\nplain:text\n")
    first, second = consumed(run, topic)
    assert base64.b64decode(first["key_base64"]) == b"\xff\xfek" and "key" not in first
    assert base64.b64decode(first["value_base64"]) == b"\x00\xe4v" and "value" not in first
    assert (second["key"], second["value"]) == ("plain", "text")
    assert run("consume", topic, "--output", "text").stdout == b"\x00\xe4v\ntext\n"
    keyed = run("consume", topic, "--output", "text", "--key-separator", "\\t").stdout
    assert keyed == b"\xff\xfek\t\x00\xe4v\nplain\ttext\n"


def test_json_lines_go_in_as_they_come_out(run: Run, topic: str) -> None:
    lines = [
        {
            "key": "k",
            "value": "v",
            "headers": [{"key": "a", "value": "1"}, {"key": "a", "value": None}],
            "timestamp": 5,
        },
        {"key": None, "value": {"n": [1, 2]}, "headers": {"x": "y"}},
        {"key": "gone", "value": None},
        {"key_base64": "/w==", "value_base64": "AP8=", "headers": [{"key_base64": "/g==", "value_base64": "/w=="}]},
        {"value": 'quote " and ünïcode'},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    run("produce", topic, "--input", "json", "--header", "all=yes", input=text)
    first, second, third, fourth, fifth = consumed(run, topic)
    assert first["timestamp"] == 5
    assert first["headers"] == [
        {"key": "all", "value": "yes"},
        {"key": "a", "value": "1"},
        {"key": "a", "value": None},
    ]
    assert json.loads(second["value"]) == {"n": [1, 2]} and second["headers"][1] == {"key": "x", "value": "y"}
    assert (third["key"], third["value"]) == ("gone", None)
    assert (fourth["key_base64"], fourth["value_base64"]) == ("/w==", "AP8=")
    assert fourth["headers"][1] == {"key_base64": "/g==", "value_base64": "/w=="}
    assert fifth["value"] == 'quote " and ünïcode'
    copy = run("consume", topic).stdout
    run("produce", f"{topic}-copy", "--input", "json", input=copy)
    again = run("consume", f"{topic}-copy").stdout

    def contents(lines: bytes) -> list[Json]:
        writer = ("topic", "producer_id")
        return [
            {name: found for name, found in json.loads(one).items() if name not in writer} for one in lines.splitlines()
        ]

    assert len(contents(copy)) == 5 and contents(again) == contents(copy)


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[1]",
        b'{"key": "x"}',
        b'{"value": "x", "timestamp": "now"}',
        b'{"value": "x", "timestamp": -2}',
        b'{"value": "x", "timestamp": 9223372036854775808}',
        b'{"value_base64": "%"}',
        b'{"value": "x", "headers": [{"value": "y"}]}',
    ],
)
def test_a_bad_line_is_named_and_what_came_before_is_written(run: Run, topic: str, line: bytes) -> None:
    run("topic", "create", topic)
    failed = run("produce", topic, "--input", "json", input=b'{"value": "good"}\n' + line + b"\n", expect=1)
    assert b"line 2" in failed.stderr and len(failed.stderr.splitlines()) == 1
    failed = run("produce", topic, "--key-separator", ":", input=b"a:good\nnothing\n", expect=1)
    assert b"line 2" in failed.stderr and b"1 record before it written" in failed.stderr
    assert values(run, topic) == ["good", "good"]


def test_partitions(run: Run, topic: str) -> None:
    run("topic", "create", topic, "--partitions", "4")
    keyed = b"".join(b"%d:%d\n" % (i % 50, i) for i in range(500))
    run("produce", topic, "--key-separator", ":", input=keyed)
    run("produce", topic, "--partition", "3", input=b"mine\n")
    records = consumed(run, topic)
    homes: dict[str, set[int]] = {}
    for record in records[:]:
        if record["key"] is not None:
            homes.setdefault(record["key"], set()).add(record["partition"])
    assert len(homes) == 50 and all(len(home) == 1 for home in homes.values())
    assert {p for home in homes.values() for p in home} == {0, 1, 2, 3}
    for key in ("0", "7"):
        in_order = [int(record["value"]) for record in records if record["key"] == key]
        assert in_order == sorted(in_order) and len(in_order) == 10
    assert values(run, topic, "--partition", "3", "--from=-1") == ["mine"]
    some = consumed(run, topic, "--partition", "0", "--partition", "2")
    assert {record["partition"] for record in some} == {0, 2}
    assert b"0 to 3, not 4" in run("consume", topic, "--partition", "4", expect=1).stderr
    assert b"0 to 3, not 9" in run("produce", topic, "--partition", "9", input=b"x\n", expect=2).stderr


def test_where_to_begin_and_to_stop(run: Run, topic: str) -> None:
    lines = [{"value": str(i), "timestamp": 1_700_000_000_000 + i * 60_000} for i in range(10)]
    run("topic", "create", topic, "--config", "retention.ms=-1")  # they are old
    run("produce", topic, "--input", "json", input="\n".join(map(json.dumps, lines)).encode())
    everything = [str(i) for i in range(10)]
    assert values(run, topic) == values(run, topic, "--from", "beginning") == everything
    assert values(run, topic, "--from", "7") == ["7", "8", "9"]
    assert values(run, topic, "--from", "-2") == values(run, topic, "--from=-2") == ["8", "9"]
    assert values(run, topic, "--from", "-200") == everything
    assert values(run, topic, "--from", "10") == values(run, topic, "--from", "end") == []
    assert values(run, topic, "--from", "@1700000480000") == ["8", "9"]
    assert values(run, topic, "--from", "@2023-11-14T22:20:20Z") == everything[7:]
    assert values(run, topic, "--from", "@2023-11-14T23:20:20.001+01:00") == everything[8:]
    assert values(run, topic, "--from", "@-1h") == []
    assert values(run, topic, "--from", "@-200000w") == everything
    assert values(run, topic, "--max", "3") == everything[:3]
    assert values(run, topic, "--max", "0") == []
    assert b"offsets from 0 to 10" in run("consume", topic, "--from", "11", expect=1).stderr
    for nonsense in ("middle", "@yesterday", "@-5", "1.5", "@"):
        assert run("consume", topic, "--from", nonsense, expect=2).stdout == b""


def test_a_topic_that_does_not_exist_is_not_made_by_reading(run: Run, topic: str) -> None:
    failed = run("consume", topic, expect=1)
    assert f"odradek topic create {topic}".encode() in failed.stderr
    assert topic.encode() not in run("topic", "list").stdout


def test_a_hundred_thousand_lines_are_quick(run: Run, topic: str, tmp_path: Path) -> None:
    text = b"".join(
        b"line %d of some text that is about as long as the lines of a log are\n" % i for i in range(100_000)
    )
    (tmp_path / "lines").write_bytes(text)
    start = time.monotonic()
    run("produce", topic, "--file", str(tmp_path / "lines"), "--compression", "lz4")
    assert time.monotonic() - start < 15
    assert run("consume", topic, "--output", "text").stdout == text


def test_a_record_larger_than_the_rest(run: Run, topic: str) -> None:
    big = os.urandom(350_000).hex().encode()
    run("produce", topic, input=b"small\n" + big + b"\nsmall again\n")
    assert run("consume", topic, "--output", "text").stdout == b"small\n" + big + b"\nsmall again\n"


def test_batches_that_a_topic_finds_too_large_are_halved(run: Run, topic: str) -> None:
    run("topic", "create", topic, "--config", "max.message.bytes=2000")
    lines = b"".join(b"a line of about fifty bytes, with its number %d\n" % i for i in range(1000))
    run("produce", topic, input=lines)
    assert run("consume", topic, "--output", "text").stdout == lines
    failed = run("produce", topic, input=b"x" * 5000 + b"\n", expect=1)
    assert b"max.message.bytes" in failed.stderr


@pytest.mark.parametrize("acks", ["all", "1", "0"])
def test_acks(run: Run, topic: str, acks: str) -> None:
    run("topic", "create", topic)
    run("produce", topic, "--acks", acks, "--no-idempotence", "--quiet", input=b"a\nb\n")
    # With acks=0 the command ends before the records are there: wait for them as a reader does.
    assert run("consume", topic, "--follow", "--max", "2", "--output", "text").stdout == b"a\nb\n"


def test_what_contradicts_itself(run: Run, topic: str) -> None:
    for options in (
        ["--acks", "1", "--idempotence"],
        ["--input", "json", "--key-separator", ":"],
        ["--key-separator", ""],
        ["--header", "nothing"],
        ["--batch-bytes", "1"],
        ["--compression", "zip"],
        ["--file", "/does/not/exist"],
    ):
        assert run("produce", topic, *options, expect=2).stderr.startswith(b"odradek: ")
    for options in (["--output", "json", "--key-separator", ":"], ["--max", "-1"], ["--partition", "x"]):
        assert run("consume", topic, *options, expect=2).stderr.startswith(b"odradek: ")


@pytest.mark.parametrize("codec", CODECS)
def test_librdkafka_reads_what_we_write_and_we_read_what_it_writes(
    run: Run, bootstrap: str, topic: str, codec: str
) -> None:
    lines = [b"line %d that repeats itself, line %d" % (i, i) for i in range(300)]
    run("produce", topic, "--compression", codec, "--partition", "0", input=b"\n".join(lines))
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False, "check.crcs": True}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[bytes] = []
    while len(found) < len(lines):
        messages = consumer.consume(len(lines) - len(found), timeout=20)
        assert messages, "librdkafka got nothing more"
        for message in messages:
            assert message.error() is None
            found.append(message.value())
    consumer.close()
    assert found == lines

    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 100})
    for line in lines:
        producer.produce(topic, line, key=b"k", partition=0, headers=[("h", b"\x00"), ("n", None)], timestamp=1234)
    assert producer.flush(20) == 0
    records = consumed(run, topic, "--from", "300")
    assert [record["value"].encode() for record in records] == lines
    assert records[0]["headers"] == [{"key": "h", "value": "\x00"}, {"key": "n", "value": None}]
    assert {record["timestamp"] for record in records} == {1234}


@pytest.mark.parametrize("codec", CODECS)
def test_a_topic_s_own_codec(run: Run, topic: str, codec: str) -> None:
    """The broker compresses anew: with Apache Kafka, Java reads our streams and we read Java's."""
    own = "uncompressed" if codec == "none" else codec
    run("topic", "create", topic, "--config", f"compression.type={own}")
    lines = b"".join(b"line %d, and again line %d\n" % (i, i) for i in range(3000))
    for ours in CODECS:
        run("produce", topic, "--compression", ours, input=lines)
    assert run("consume", topic, "--output", "text").stdout == lines * len(CODECS)


def test_log_append_time(run: Run, topic: str) -> None:
    run("topic", "create", topic, "--config", "message.timestamp.type=LogAppendTime")
    run("produce", topic, "--input", "json", input=b'{"value": "x", "timestamp": 5}\n')
    [record] = consumed(run, topic)
    assert record["timestamp_type"] == "LogAppendTime" and record["timestamp"] > 1_600_000_000_000


def start(bootstrap: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *arguments, "--bootstrap-server", bootstrap],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_lines_are_followed_as_they_are_written(run: Run, bootstrap: str, topic: str) -> None:
    run("topic", "create", topic)
    reader = start(bootstrap, "consume", topic, "--follow", "--output", "text")
    writer = start(bootstrap, "produce", topic)
    try:
        assert writer.stdin is not None
        for text in (b"first\n", b"second\n"):
            writer.stdin.write(text)
            writer.stdin.flush()
            assert read_line(reader).encode() == text
        # Ctrl-C ends both at once; what was given before it is written.
        writer.stdin.write(b"third\n")
        writer.stdin.flush()
        assert read_line(reader) == "third\n"
        for process in (writer, reader):
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
            assert process.returncode == 130
            assert b"Traceback" not in errors
    finally:
        for process in (writer, reader):
            process.kill()
            process.communicate()


def test_a_reader_that_goes_away_is_no_failure(run: Run, bootstrap: str, topic: str) -> None:
    run("produce", topic, input=b"some line\n" * 50_000)
    process = start(bootstrap, "consume", topic)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith(b'{"topic"')
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def on_a_terminal(*arguments: str) -> bytes:
    """Everything that the command shows where stdout and stderr are a terminal, and stdin a pipe."""
    main, terminal = os.openpty()
    process = subprocess.Popen([*COMMAND, *arguments], stdin=subprocess.PIPE, stdout=terminal, stderr=terminal)
    os.close(terminal)
    assert process.stdin is not None
    process.stdin.close()
    seen = b""
    ready = select.poll()
    ready.register(main, select.POLLIN)
    while ready.poll(20_000):
        try:
            seen += os.read(main, 65_536)
        except OSError:  # the other side is closed
            break
    os.close(main)
    assert process.wait(20) == 0
    return seen


def test_a_terminal_sees_progress(run: Run, bootstrap: str, topic: str, tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"some line\n" * 200_000)
    file = str(tmp_path / "lines")
    seen = on_a_terminal("produce", topic, "--file", file, "--bootstrap-server", bootstrap)
    assert "━".encode() in seen and b"200000 records written" in seen
    quiet = on_a_terminal("produce", topic, "--file", file, "--bootstrap-server", bootstrap, "--quiet")
    assert quiet == b""


def test_a_terminal_gets_a_table(run: Run, bootstrap: str, topic: str) -> None:
    run("topic", "create", topic)
    # Not the list: topics of other tests may be too wide for a table.
    seen = on_a_terminal("topic", "describe", topic, "--bootstrap-server", bootstrap)
    assert topic.encode() in seen and "─".encode() in seen and b"partition" in seen
