"""`odradek consume`: which records, in which form, and from where to where; against both brokers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from typing import Any

import pytest
from confluent_kafka import Producer

from odradek.cli.consume_filters import read_filters
from odradek.cli.failures import WrongUse
from odradek.cli.record_format import format_line, moment
from odradek.records.batch import BatchHeader
from odradek.records.iteration import Record
from tests.cli.command import COMMAND, Run, read_line

Json = dict[str, Any]
START_MS = 1_700_000_000_000
HEADER = BatchHeader(5, 100, 7, 2, 0, 0x13, 9, START_MS, START_MS, 44, 3, 0x7FFFFFFE, 10)
NOBODY = HEADER._replace(producer_id=-1, producer_epoch=-1, base_sequence=-1, attributes=0x08, leader_epoch=-1)
RECORD = Record(8, START_MS + 7, b"k\xff", b'say "hi"', (("a", b"1"), ("b", None), ("a", b"2")))
EMPTY = Record(8, -1, None, None, ())


def read(run: Run, topic: str, *options: str) -> list[str]:
    return run("consume", topic, "--output", "text", *options).stdout.decode().splitlines()


@pytest.fixture
def ten(run: Run, topic: str) -> str:
    """A topic with values 0 to 9, a minute apart."""
    lines = [
        {
            "key": "even" if i % 2 == 0 else "odd",
            "value": f"value {i}",
            "timestamp": START_MS + i * 60_000,
            "headers": {"n": str(i)} if i < 5 else {"n": str(i), "late": ""},
        }
        for i in range(10)
    ]
    run("topic", "create", topic, "--config", "retention.ms=-1")
    run("produce", topic, "--input", "json", input="\n".join(map(json.dumps, lines)).encode())
    return topic


def test_where_to_stop(run: Run, ten: str) -> None:
    everything = [f"value {i}" for i in range(10)]
    assert read(run, ten) == read(run, ten, "--to", "latest") == read(run, ten, "--to", "10") == everything
    assert read(run, ten, "--to", "11") == read(run, ten, "--to", "99999999999999999999") == everything
    assert read(run, ten, "--to", "0") == read(run, ten, "--to", "earliest") == []
    assert read(run, ten, "--from", "3", "--to", "5") == everything[3:5]
    assert read(run, ten, "--from", "-4", "--to", "-2") == everything[6:8]
    assert read(run, ten, "--from", "earliest", "--to=-9") == everything[:1]
    assert read(run, ten, "--from", "latest") == []
    assert read(run, ten, "--from", f"@{START_MS + 1}", "--to", f"@{START_MS + 180_000}") == everything[1:3]
    assert read(run, ten, "--from", "@2023-11-14T22:14Z", "--to", "@2023-11-14T22:16Z") == everything[1:3]
    assert read(run, ten, "--to", "@-1h") == everything
    assert read(run, ten, "--from", "2", "--to", "9", "--max", "2") == everything[2:4]
    for wrong in (
        ["--from", "5", "--to", "4"],
        ["--to", "soon"],
        ["--to", "@soon"],
        ["--from", "@99999999999999999999"],
        ["--to", "5", "--follow"],
        ["--exit-at-end", "--follow"],
        ["--from", "5", "--from-beginning"],
    ):
        failed = run("consume", ten, *wrong, expect=2)
        assert len(failed.stderr.splitlines()) == 1 and not failed.stdout


def test_a_batch_is_read_up_to_an_offset_in_its_middle(run: Run, topic: str) -> None:
    """Also where one fetch brings far more than is wanted, of each partition on its own."""
    run("topic", "create", topic, "--partitions", "2")
    for partition in ("0", "1"):
        run("produce", topic, "--partition", partition, "--compression", "zstd", input=b"x\n" * 1000)
    places = run("consume", topic, "--from", "10", "--to", "500", "--format", "{partition} {offset}").stdout.split(
        b"\n"
    )
    assert places[-1] == b"" and len(places) == 1 + 2 * 490
    for partition in (0, 1):
        mine = [int(place.split()[1]) for place in places[:-1] if place.startswith(b"%d " % partition)]
        assert mine == list(range(10, 500))


def test_what_comes_after_the_start_is_not_read(run: Run, bootstrap: str, topic: str) -> None:
    run("produce", topic, input=b"before\n" * 60_000)
    reader = subprocess.Popen(
        [*COMMAND, "consume", topic, "--output", "text", "--bootstrap-server", bootstrap],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert read_line(reader) == "before\n"  # it stands with a full pipe now, its end known
        run("produce", topic, input=b"after\n" * 10)
        assert reader.stdout is not None and reader.stderr is not None
        rest, errors = reader.stdout.read(), reader.stderr.read()
        assert reader.wait(20) == 0 and errors == b""
    finally:
        reader.kill()
        reader.communicate()
    assert rest == b"before\n" * 59_999


def test_filters(run: Run, ten: str) -> None:
    def numbers(*options: str) -> list[int]:
        return [int(line.removeprefix("value ")) for line in read(run, ten, *options)]

    assert numbers("--grep-value", "[135]$") == [1, 3, 5]
    assert numbers("--grep-key", "^e") == [0, 2, 4, 6, 8]
    assert numbers("--grep", "even|7") == [0, 2, 4, 6, 7, 8]
    assert numbers("--grep", "VALUE") == [] and len(numbers("--grep", "(?i)VALUE")) == 10
    assert numbers("--grep-key", "odd", "--grep-value", "[0-4]", "--from", "2") == [3]
    assert numbers("--header", "n=4") == [4]
    assert numbers("--header", "late") == numbers("--header", "late=") == [5, 6, 7, 8, 9]
    assert numbers("--header", "late", "--header", "n=6") == [6]
    assert numbers("--header", "late=no") == []
    assert numbers("--grep-key", "odd", "--max", "2") == [1, 3]
    for wrong in (["--grep", "("], ["--grep-key", "*"], ["--grep-value", "[z-a]"], ["--header", "=x"]):
        failed = run("consume", ten, *wrong, expect=2)
        assert len(failed.stderr.splitlines()) == 1 and wrong[0].encode() in failed.stderr


def test_a_template(run: Run, ten: str) -> None:
    out = run(
        "consume", ten, "--from", "3", "--to", "4", "--format",
        r"{topic} {partition} {offset} {timestamp} {time} {timestamp_type}\t{key}={value} {headers} {header.n} {{}}",
    ).stdout  # fmt: skip
    assert out.decode() == (f"{ten} 0 3 1700000180000 2023-11-14T22:16:20.000Z CreateTime\todd=value 3 n=3 3 {{}}\n")
    assert run("consume", ten, "--to", "2", "--format", r"{value}\0").stdout == b"value 0\0value 1\0"
    assert run("consume", ten, "--to", "1", "--hex", "--format", "{key} {value:text}").stdout == b"6576656e value 0\n"
    for wrong in (["{nothing}"], ["{"], [""], ["{value}", "--output", "json"], ["{value}", "--key-separator", ","]):
        assert len(run("consume", ten, "--format", *wrong, expect=2).stderr.splitlines()) == 1


def test_hexadecimal(run: Run, topic: str) -> None:
    run("produce", topic, "--key-separator", ":", "--header", "h=\xe4", input=b"\xff\x00:\x80A\n")
    run("produce", topic, "--input", "json", input=b'{"value": null}\n')
    first, second = map(json.loads, run("consume", topic, "--hex").stdout.splitlines())
    assert (first["key_hex"], first["value_hex"]) == ("ff00", "8041")
    assert first["headers"] == [{"key": "h", "value_hex": "c3a4"}]
    assert second["key"] is None and second["value"] is None
    assert run("consume", topic, "--hex", "--key-separator", "|").stdout == b"ff00|8041\n|\n"


def test_the_producer_of_a_record(run: Run, bootstrap: str, topic: str) -> None:
    run("topic", "create", topic)
    plain = Producer({"bootstrap.servers": bootstrap})
    idempotent = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 200})
    plain.produce(topic, b"plain")
    assert plain.flush(20) == 0
    for number in range(3):
        idempotent.produce(topic, b"counted %d" % number)
    assert idempotent.flush(20) == 0
    first, *counted = [json.loads(line) for line in run("consume", topic).stdout.splitlines()]
    assert (first["producer_id"], first["producer_epoch"], first["sequence"]) == (None, None, None)
    assert {one["producer_id"] for one in counted} != {None} and {one["producer_epoch"] for one in counted} == {0}
    assert [one["sequence"] for one in counted] == [0, 1, 2]
    texts = run("consume", topic, "--format", "{producer_id},{producer_epoch},{sequence},{leader_epoch}").stdout
    assert re.fullmatch(rb",,,0\n(\d+,0,\d,0\n){3}", texts)


def test_following(run: Run, bootstrap: str, ten: str) -> None:
    reader = subprocess.Popen(
        [*COMMAND, "consume", ten, "-f", "--from", "-1", "--grep", "9|new", "--format", "{offset} {value}"],
        env={**os.environ, "ODRADEK_BOOTSTRAP_SERVER": bootstrap},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert read_line(reader) == "9 value 9\n"
        run("produce", ten, input=b"dull\nnew one\n")
        assert read_line(reader) == "11 new one\n"
        reader.send_signal(signal.SIGINT)
        rest, errors = reader.communicate(timeout=20)
        assert (rest, errors, reader.returncode) == (b"", b"", 130)
    finally:
        reader.kill()
        reader.communicate()


def test_head_ends_it_without_a_word(run: Run, bootstrap: str, topic: str) -> None:
    run("produce", topic, input=b"some line\n" * 50_000)
    command = " ".join([*COMMAND, "consume", topic, "--bootstrap-server", bootstrap])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 2; exit ${{PIPESTATUS[0]}}"], capture_output=True, timeout=60
    )
    assert done.returncode == 0 and done.stderr == b"" and len(done.stdout.splitlines()) == 2


def test_a_group_prints_what_is_wanted_and_commits_all_that_was_read(run: Run, ten: str) -> None:
    group = f"{ten}-group"
    first = run("consume", ten, "--group", group, "--grep-key", "odd", "--output", "text")
    assert first.stdout.split(b"\n")[:-1] == [b"value %d" % i for i in (1, 3, 5, 7, 9)]
    run("produce", ten, input=b"later\n")
    assert run("consume", ten, "--group", group, "--output", "text").stdout == b"later\n"
    assert run("consume", ten, "--group", group, "--output", "text").stdout == b""


# --- without a broker -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{key}", b"k\xff\n"),
        ("{key:hex} {key:base64}", b"6bff a/8=\n"),
        ("{value:json}", b'"say \\"hi\\""\n'),
        ("{headers}|{header.a}|{header.b}|{header.c}", b"a=1,b=,a=2|2||\n"),
        (
            "{headers:json}",
            b'[{"key":"a","value":"1"},{"key":"b","value":null},{"key":"a","value":"2"}]\n',
        ),
        ("{sequence} {producer_id}/{producer_epoch} {leader_epoch}", b"1 44/3 7\n"),
        ("{compression} {transactional} {timestamp_type}", b"lz4 yes CreateTime\n"),
        ("{key_size} {value_size}", b"2 8\n"),
        (r"a\tb\x41\\\n", b"a\tbA\\\n"),
        (r"{offset}\0", b"8\0"),
        ("ü{{{offset}}}", "ü{8}\n".encode()),
    ],
)
def test_templates(template: str, expected: bytes) -> None:
    assert format_line("t", template)(0, HEADER, RECORD) == expected


def test_a_template_of_what_is_not_known() -> None:
    line = format_line("t", "{key}|{value:hex}|{value:json}|{headers}|{time}|{key_size}|{sequence}|{producer_epoch}")
    assert line(0, NOBODY, EMPTY) == b"||null|||||\n"
    assert format_line("t", "{timestamp_type} {leader_epoch}")(0, NOBODY, EMPTY) == b"LogAppendTime \n"


@pytest.mark.parametrize(
    "template", ["", "{", "}", "{}", "{x}", "{offset:hex}", "{value:xml}", "{header.}", "\\", "\\q", "\\x4", "{a{b}"]
)
def test_templates_that_cannot_be(template: str) -> None:
    with pytest.raises(WrongUse, match="--format"):
        format_line("t", template)


def test_sequences_wrap_and_moments_have_an_end() -> None:
    line = format_line("t", "{sequence}")
    found = [line(0, HEADER, RECORD._replace(offset=offset)) for offset in range(5, 9)]
    assert found == [b"2147483646\n", b"2147483647\n", b"0\n", b"1\n"]
    assert moment(0) == "1970-01-01T00:00:00.000Z" and moment(-1) == "" and moment(-5) == "-5"
    assert moment(2**63 - 1) == str(2**63 - 1)


def test_filters_read_any_bytes() -> None:
    binary = RECORD._replace(key=None, value=b"\xff\xfe caf\xc3\xa9 \x00")

    def holds(**options: str) -> bool:
        wanted = read_filters(options.get("grep"), options.get("key"), options.get("value"))
        assert wanted is not None
        return wanted(binary)

    assert holds(grep="café") and holds(value=r"\bcafé\b") and holds(grep=r"\x00")
    assert not holds(key="") and not holds(value="^café")
    assert read_filters(None, None, None) is None
