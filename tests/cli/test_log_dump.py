"""`odradek log dump`: our own files, Apache Kafka's, and damaged ones."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from odradek.partitions.producer_state import ProducerState
from odradek.records.batch import HEADER_BYTES, PREFIX_BYTES
from odradek.records.builder import BatchBuilder, batch_bytes
from tests.broker import BrokerProcess
from tests.cli.command import Run, runner
from tests.engines.test_local_kafka_tools import write_log
from tests.reference import dump_log_segments, needs_java

Json = dict[str, Any]
TIME = 1_700_000_000_000
FIRST = "00000000000000000000"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The command; there is no broker, and none is asked."""
    return runner("127.0.0.1:1", tmp_path)


def dumped(run: Run, *arguments: str | Path, expect: int = 0) -> list[Json]:
    done = run("log", "dump", *map(str, arguments), "--output", "json", expect=expect)
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_kind(found: list[Json], *kinds: str) -> list[Json]:
    return [one for one in found if one["kind"] in kinds]


# --- folders of our own ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", ["clean", "recovered"])
def test_a_log_that_is_whole(run: Run, tmp_path: Path, stop: str) -> None:
    folder, batches, records = asyncio.run(write_log(tmp_path, stop))
    found = dumped(run, folder, "--records")
    assert not of_kind(found, "damage")
    assert len(of_kind(found, "batch")) == batches and len(of_kind(found, "record")) == records
    assert [one["offset"] for one in of_kind(found, "record")] == list(range(records))
    assert sum(one["records"] for one in of_kind(found, "segment")) == records
    assert len(of_kind(found, "offset_entry")) > 10 and len(of_kind(found, "time_entry")) > 10
    assert len(of_kind(found, "epoch")) >= 2


def test_what_a_broker_leaves(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path) as broker:
        run = runner(broker.bootstrap, tmp_path)
        run("topic", "create", "letters", "--config", "retention.ms=7200000")
        run("produce", "letters", "--header", "from=Prague", input=b"dear F.\n\x1b[31mred\n")
        run("consume", "letters", "--group", "readers", "--max", "2")
        assert run("log", "dump", str(broker.data)).stderr == b"", "a broker that runs is in nobody's way"
        broker.stop()
        out = run("log", "dump", str(broker.data), "--records").stdout.decode()
    assert "producer 0 epoch 0 sequence 0-1" in out
    assert 'key null, value "dear F.", headers "from": "Prague"' in out
    assert "\x1b" not in out and "[31mred" in out
    assert "group readers committed offset 2 of letters-0" in out
    assert re.search(r"group readers: generation 1, consumer by range, 1 member; .* has letters-0", out)
    assert "TopicRecord: name letters, topic_id " in out
    assert "ConfigRecord: resource_type 2, resource_name letters, name retention.ms, value 7200000" in out
    assert "producer 0 epoch 0, last sequences 0-1 at offset 1, last heard 20" in out
    assert "SNAPSHOT_FOOTER" in out
    assert "meta.properties: whose data directory this is" in out and "  letters-0: offset 2\n" in out
    assert ".kafka_cleanshutdown: the last stop was clean" in out
    assert "no file of a broker that is known here" not in out


def test_a_data_directory_in_totals_and_one_file_in_detail(run: Run, tmp_path: Path) -> None:
    folder = written(tmp_path / "data" / "orders-0")
    (tmp_path / "data" / "meta.properties").write_text("#\nversion=1\ncluster.id=x\nnode.id=1\n")
    found = dumped(run, tmp_path / "data")
    assert not of_kind(found, "batch", "offset_entry", "epoch", "property")
    [total] = of_kind(found, "segment")
    assert total["records"] == 12 and total["leader_epochs"] == [3, 4] and total["compression"] == ["none", "gzip"]
    assert of_kind(dumped(run, tmp_path / "data", "--details"), "batch")
    log = folder / f"{FIRST}.log"
    assert len(of_kind(dumped(run, log), "batch")) == 4
    assert len(of_kind(dumped(run, log, "--no-details"), "batch", "segment")) == 1
    found = dumped(run, log, "--records", "--from", "4", "--to", "7")
    assert [one["offset"] for one in of_kind(found, "record")] == [4, 5, 6]
    assert [one["base_offset"] for one in of_kind(found, "batch")] == [3, 6]


def test_all_fields_of_a_batch(run: Run, tmp_path: Path) -> None:
    found = of_kind(dumped(run, written(tmp_path / "orders-0") / f"{FIRST}.log"), "batch")[1]
    crc = found.pop("crc")
    assert isinstance(crc, int)
    assert {name: value for name, value in found.items() if name not in ("kind", "path", "bytes", "position")} == {
        "base_offset": 3,
        "last_offset": 5,
        "count": 3,
        "leader_epoch": 3,
        "magic": 2,
        "crc_good": True,
        "attributes": 1 | 16,
        "compression": "gzip",
        "timestamp_type": "CreateTime",
        "base_timestamp": TIME + 100,
        "max_timestamp": TIME + 100,
        "producer_id": 7,
        "producer_epoch": 1,
        "base_sequence": 40,
        "last_sequence": 42,
        "transactional": True,
        "control": False,
        "delete_horizon": None,
    }


def test_an_index_is_compared_with_the_log_beside_it(run: Run, tmp_path: Path) -> None:
    folder = written(tmp_path / "orders-0")
    index = folder / f"{FIRST}.index"
    entries = of_kind(dumped(run, index), "offset_entry")
    assert [one["offset"] for one in entries] == [5, 8, 11]
    (folder / f"{FIRST}.log").unlink()
    assert "in themselves only" in run("log", "dump", str(index)).stdout.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nowhere"],
        ["orders-0", "--from", "-1"],
        ["orders-0", "--from", "5", "--to", "5"],
        ["orders-0", "--to", "x"],
    ],
)
def test_wrong_use(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    written(tmp_path / "orders-0")
    failed = run("log", "dump", *arguments, expect=2)
    assert failed.stdout == b"" and len(failed.stderr.splitlines()) == 1


def test_a_folder_of_something_else(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"\xff\xd8")
    assert "no file of a broker that is known here" in run("log", "dump", "photos").stdout.decode()


# --- damage ----------------------------------------------------------------------------------------------------------


def batch(base_offset: int, count: int, epoch: int, **more: Any) -> bytes:
    builder = BatchBuilder()
    for _ in range(count):
        builder.append(b"k", b"some value", TIME + 100 * (base_offset // 3))
    return batch_bytes(builder.build(base_offset=base_offset, leader_epoch=epoch, **more))


def written(folder: Path) -> Path:
    """A partition of four batches with three records each, the last under another leader epoch, and all that is beside
    them."""
    folder.mkdir(parents=True)
    batches = [
        batch(0, 3, 3),
        batch(3, 3, 3, codec=1, producer_id=7, producer_epoch=1, base_sequence=40, transactional=True),
        batch(6, 3, 3),
        batch(9, 3, 4),
    ]
    positions = [sum(map(len, batches[:index])) for index in range(4)]
    (folder / f"{FIRST}.log").write_bytes(b"".join(batches))
    (folder / f"{FIRST}.index").write_bytes(b"".join(struct.pack(">ii", 3 * i + 2, positions[i]) for i in (1, 2, 3)))
    times = b"".join(struct.pack(">qi", TIME + 100 * i, 3 * i + 2) for i in (1, 2, 3))
    (folder / f"{FIRST}.timeindex").write_bytes(times)
    (folder / f"{FIRST}.txnindex").write_bytes(struct.pack(">hqqqq", 0, 7, 3, 8, 3))
    (folder / "leader-epoch-checkpoint").write_text("0\n2\n3 0\n4 9\n")
    (folder / "partition.metadata").write_text("version: 0\ntopic_id: 1nXoF3n3R16qyQhuhWCS_w")
    (folder / "00000000000000000012.snapshot").write_bytes(ProducerState().to_snapshot())
    return folder


def changed(name: str, position: int, data: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        if position < 0:
            position_there = len(content) + position
        else:
            position_there = position
        content[position_there : position_there + len(data)] = data
        (folder / name).write_bytes(content)

    return change


def appended(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + data) and None


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-size]) and None


def replaced(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


LOG, INDEX, TIMES, ABORTED = (f"{FIRST}{suffix}" for suffix in (".log", ".index", ".timeindex", ".txnindex"))
SNAPSHOT, EPOCHS = "00000000000000000012.snapshot", "leader-epoch-checkpoint"
SIZE = len(batch(0, 3, 3))

DAMAGES: dict[str, tuple[Callable[[Path], None], str, int | None, str]] = {
    "a flipped bit": (changed(LOG, HEADER_BYTES + 9, b"\xff"), LOG, 0, "checksum"),
    "a torn end": (cut(LOG, 5), LOG, None, f"cut short: {SIZE - 5} of its {SIZE} bytes"),
    "a torn header": (cut(LOG, SIZE - 30), LOG, None, "30 bytes of its header"),
    "zeros": (appended(LOG, bytes(5000)), LOG, None, "5000 bytes of zeros"),
    "garbage": (appended(LOG, b"garbage" * 20), LOG, None, "no batch begins here"),
    "a length that cannot be": (changed(LOG, 8, struct.pack(">i", 10)), LOG, 0, "no batch has a length of 22 bytes"),
    "a negative length": (changed(LOG, 8, struct.pack(">i", -10)), LOG, 0, "no batch has a length"),
    "a magic that is unknown": (changed(LOG, PREFIX_BYTES, b"\x07"), LOG, 0, "magic 7"),
    "a batch twice": (appended(LOG, batch(9, 3, 4)), LOG, None, "begins at offset 9, but what is before it ends at 11"),
    "offsets that are missing": (appended(LOG, batch(20, 1, 4)), LOG, None, "offsets 12-19 are missing before this"),
    "a segment that is missing": (
        replaced(f"{40:020d}.log", batch(40, 1, 4)),
        f"{40:020d}.log",
        0,
        "offsets 12-39 are missing between this segment and the one before",
    ),
    "an epoch that falls": (appended(LOG, batch(12, 1, 2)), LOG, None, "leader epoch 2 comes after leader epoch 4"),
    "records that lie": (
        lambda folder: appended(LOG, batch_lying())(folder),
        LOG,
        None,
        "the batch's inside: record 0",
    ),
    "an index that points between": (
        changed(INDEX, 4, struct.pack(">i", SIZE + 1)),
        INDEX,
        0,
        f"entry 0 points to byte {SIZE + 1}, where no batch begins",
    ),
    "an index with a wrong offset": (
        changed(INDEX, 8, struct.pack(">i", 7)),
        INDEX,
        8,
        "entry 1 names offset 7, but the batch at byte",
    ),
    "an index out of order": (changed(INDEX, 8, struct.pack(">i", 1)), INDEX, 8, "entry 1 is out of order"),
    "an index behind the log": (
        appended(INDEX, struct.pack(">ii", 20, 9000)),
        INDEX,
        24,
        "entry 3 points to byte 9000, but the log ends",
    ),
    "half an entry": (cut(INDEX, 3), INDEX, 16, "the last entry is cut short: 5 bytes"),
    "a time that is too early": (
        changed(TIMES, 0, struct.pack(">q", TIME + 50)),
        TIMES,
        0,
        "entry 0 says that nothing up to offset 5 is later",
    ),
    "times out of order": (changed(TIMES, 12, struct.pack(">q", TIME)), TIMES, 12, "entry 1 is out of order"),
    "a time behind the log": (
        appended(TIMES, struct.pack(">qi", TIME + 900, 50)),
        TIMES,
        36,
        "entry 3 names offset 50, but the log ends at 12",
    ),
    "a transaction that ends elsewhere": (
        changed(ABORTED, 18, struct.pack(">q", 70)),
        ABORTED,
        0,
        "ends at offset 70",
    ),
    "a producer snapshot": (changed(SNAPSHOT, -1, b"\x01"), SNAPSHOT, None, "checksum"),
    "an empty producer snapshot": (replaced(SNAPSHOT, b""), SNAPSHOT, None, "cut short"),
    "leader epochs of another log": (
        replaced(EPOCHS, b"0\n2\n3 0\n4 6\n"),
        EPOCHS,
        None,
        "offset 6 would have leader epoch 4, but its batch says 3",
    ),
    "leader epochs out of order": (replaced(EPOCHS, b"0\n2\n3 9\n2 10\n"), EPOCHS, None, "leader epoch 2 at 10 comes"),
    "a count that lies": (replaced(EPOCHS, b"0\n5\n3 0\n"), EPOCHS, None, "5 lines, but has 1"),
    "no partition.metadata": (replaced("partition.metadata", b"\xff\xfe"), "partition.metadata", None, "not text"),
    "a segment inside another": (
        lambda folder: (folder / "00000000000000000010.log").write_bytes(batch(10, 1, 4)) and None,
        "00000000000000000010.log",
        0,
        "begins at 10, but the one before ends at 11",
    ),
    "a snapshot without its end": (
        lambda folder: (folder / f"{FIRST}-0000000000.checkpoint").write_bytes(batch(0, 1, 1)) and None,
        f"{FIRST}-0000000000.checkpoint",
        None,
        "no footer",
    ),
}


def batch_lying() -> bytes:
    """A batch with a good checksum, whose only record says that it is longer than the batch."""
    from odradek.records.batch import RecordBatch, read_header

    data = batch(12, 1, 4)
    lying = b"\x7e" + data[HEADER_BYTES + 1 :]
    header = read_header(data)
    return batch_bytes(RecordBatch(header, (bytes(HEADER_BYTES), lying)).with_header(header))


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_told_with_file_and_position(run: Run, tmp_path: Path, case: str) -> None:
    change, name, position, words = DAMAGES[case]
    folder = written(tmp_path / "orders-0")
    assert not of_kind(dumped(run, folder, "--records"), "damage")
    change(folder)
    found = of_kind(dumped(run, folder, "--records", expect=1), "damage")
    matching = [one for one in found if words in one["text"]]
    assert matching, found
    assert matching[0]["path"].endswith(f"orders-0/{name}")
    assert position is None or matching[0]["position"] == position
    failed = run("log", "dump", str(folder), "--records", "--no-details", expect=1)
    assert failed.stdout.count(b"DAMAGED") == len(found)
    assert len(failed.stderr.splitlines()) == 1 and found[0]["text"].encode() in failed.stderr


def test_offsets_may_be_missing_where_a_log_is_compacted(run: Run, tmp_path: Path) -> None:
    folder = written(tmp_path / "data" / "orders-0")
    appended(LOG, batch(20, 1, 4))(folder)
    replaced(f"{40:020d}.log", batch(40, 1, 4))(folder)
    (tmp_path / "data" / "cleaner-offset-checkpoint").write_text("0\n1\norders 0 12\n")
    assert not of_kind(dumped(run, folder), "damage")
    (tmp_path / "data" / "cleaner-offset-checkpoint").write_text("0\n1\norders 1 12\n")
    assert len(of_kind(dumped(run, folder, expect=1), "damage")) == 2


def test_how_far_logs_are_flushed(run: Run, tmp_path: Path) -> None:
    asyncio.run(write_log(tmp_path, "clean"))
    path = next(tmp_path.rglob("odradek-flushed-offsets"))
    (entry,) = of_kind(dumped(run, path), "flushed")
    assert entry["flushed_end"] > 0 and (entry["partition"], entry["start_offset"]) == (0, 0)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    (damage,) = of_kind(dumped(run, path, expect=1), "damage")
    assert damage["position"] == 16 and "checksum" in damage["text"]


def test_what_stands_behind_a_wrong_checksum_is_read(run: Run, tmp_path: Path) -> None:
    folder = written(tmp_path / "orders-0")
    changed(LOG, HEADER_BYTES + 9, b"\xff")(folder)
    found = dumped(run, folder, "--records", expect=1)
    assert [one["crc_good"] for one in of_kind(found, "batch")] == [False, True, True, True]
    assert [one["offset"] for one in of_kind(found, "record")] == list(range(3, 12))
    assert len(of_kind(found, "damage")) == 1


@pytest.mark.parametrize("position", range(0, 2 * SIZE, 5))
def test_any_flipped_byte_ends_well(tmp_path: Path, position: int) -> None:
    from odradek.cli.log_dump.report import Report
    from odradek.cli.log_dump.segments import RecordPosition, SegmentWalk, WantedPart

    data = bytearray(batch(0, 3, 3) + batch(3, 3, 3))
    data[position] ^= 0xA5
    (tmp_path / LOG).write_bytes(data)
    report = Report(as_json=False, details=False)
    SegmentWalk(tmp_path / LOG, 0, "a segment", report, wanted=WantedPart(records=True)).walk(RecordPosition())
    covered_elsewhere = position % SIZE in range(8) or position % SIZE in range(12, 16)  # what the CRC leaves out
    assert report.damages or covered_elsewhere


# --- Apache Kafka's folders ------------------------------------------------------------------------------------------


@needs_java
def test_folders_of_apache_kafka(
    run: Run, kafka_bootstrap: str, topic: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    runner(kafka_bootstrap, tmp_path)("topic", "create", topic)
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        plain = Producer(
            {
                "bootstrap.servers": kafka_bootstrap,
                "compression.type": codec,
                "enable.idempotence": True,
                "linger.ms": 50,
            }
        )
        for number in range(20):
            plain.produce(topic, key=str(number), value=b"x" * 100, partition=0, headers={"codec": codec})
        plain.flush()
    for ending in ("commit", "abort"):
        producer = Producer({"bootstrap.servers": kafka_bootstrap, "transactional.id": f"{topic}-{ending}"})
        producer.init_transactions()
        producer.begin_transaction()
        producer.produce(topic, value=ending, partition=0)
        producer.flush()
        producer.commit_transaction() if ending == "commit" else producer.abort_transaction()
        # The next one of the name waits until the last one's marker is written.
        Producer({"bootstrap.servers": kafka_bootstrap, "transactional.id": f"{topic}-{ending}"}).init_transactions()
    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": f"{topic}-group"})
    consumer.commit(offsets=[TopicPartition(topic, 0, 42, metadata="half way")], asynchronous=False)
    consumer.close()

    [logs] = [
        path for path in tmp_path_factory.getbasetemp().glob("kafka[0-9]*/logs") if (path / f"{topic}-0").exists()
    ]
    # Kafka goes on with its own; what it had at one moment is compared.
    shutil.copytree(logs / f"{topic}-0", tmp_path / "copy" / f"{topic}-0")
    found = dumped(run, tmp_path / "copy" / f"{topic}-0", "--records")
    log = tmp_path / "copy" / f"{topic}-0" / f"{FIRST}.log"
    theirs = dump_log_segments("--deep-iteration", "--print-data-log", "--files", str(log))
    pattern = re.compile(
        r"baseOffset: (\d+) lastOffset: (\d+) count: (\d+) baseSequence: (-?\d+) lastSequence: (-?\d+) "
        r"producerId: (-?\d+) producerEpoch: (-?\d+) partitionLeaderEpoch: (\d+) .*? position: (\d+) .*? size: (\d+) "
        r".*? compresscodec: (\w+) crc: (\d+) isvalid: true"
    )
    expected = [(*map(int, one[:10]), one[10], int(one[11])) for one in pattern.findall(theirs)]
    names = ("base_offset", "last_offset", "count", "base_sequence", "last_sequence", "producer_id", "producer_epoch")
    names += ("leader_epoch", "position", "bytes", "compression", "crc")
    batches = of_kind(found, "batch")
    assert [tuple(-1 if one[name] is None else one[name] for name in names) for one in batches] == expected
    assert {one["compression"] for one in batches} == {"none", "gzip", "snappy", "lz4", "zstd"}
    records = of_kind(found, "record")
    assert len(records) == len(re.findall(r"^\| offset:", theirs, re.MULTILINE)) == 104
    markers = [one["decoded"]["type"] for one in records if "decoded" in one]
    assert markers == ["COMMIT", "ABORT"]
    [aborted] = of_kind(found, "transaction")
    assert aborted["first_offset"] == 102 and aborted["last_offset"] == 103

    out = run("log", "dump", str(logs), "--records").stdout.decode()
    assert f'group {topic}-group committed offset 42 of {topic}-0, metadata "half way' in out
    assert f"TopicRecord: name {topic}, topic_id " in out and "LEADER_CHANGE" in out
    assert "no file of a broker that is known here" not in out
