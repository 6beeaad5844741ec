"""What `/metrics` says: its form, that it is true, and that it stays bounded."""

from __future__ import annotations

import asyncio
import platform
import re
import shutil
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Consumer, TopicPartition
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

import odradek
from odradek.clock import SystemClock
from odradek.config import LogConfig
from odradek.durations import BOUNDS_S, Durations
from odradek.engines.memory.engine import MemoryEngine
from odradek.errors import ErrorCode
from odradek.insight.gathering import AT_ONCE, Gathering, error_name
from odradek.insight.metrics import METRICS, REQUEST_SECONDS, MetricType, Series, exposition
from odradek.loop_scheduler import LoopScheduler
from odradek.partitions.registry import Partitions, Topic
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from odradek.protocol.messages.metadata import MetadataRequest, MetadataResponse
from tests.raw_client import RawClient, batch

HTTP = {"odradek.http.listen": "127.0.0.1:0"}


class Sample(NamedTuple):
    name: str
    labels: tuple[tuple[str, str], ...]


def scrape(broker: odradek.Broker) -> dict[Sample, float]:
    with urllib.request.urlopen(f"{broker.http_url}/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        text = response.read().decode()
    return values(text)


def values(text: str) -> dict[Sample, float]:
    return {
        Sample(sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def at(found: dict[Sample, float], name: str, **labels: str) -> float:
    return found[Sample(name, tuple(sorted(labels.items())))]


@pytest.fixture(scope="module")
def broker() -> Iterator[odradek.Broker]:
    with odradek.Broker(**HTTP) as broker:
        yield broker


# --- form ------------------------------------------------------------------------------------------------------------


def test_names_and_helps_follow_the_conventions() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS) > 40
    for metric in METRICS:
        assert re.fullmatch(r"odradek_[a-z]+(_[a-z]+)*", metric.name), metric
        assert metric.help.endswith(".") and metric.help[0].isupper(), metric
        assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket")), metric
        # Units are Prometheus' base units, last.
        assert not re.search(r"_(ms|kb|mb|millis|seconds_|bytes_)", metric.name), metric
        assert metric.kind is not MetricType.HISTOGRAM or metric.name.endswith("_seconds"), metric
        assert all(re.fullmatch("[a-z]+", label) for label in metric.labels), metric


def test_every_metric_is_shown_with_its_type_and_help(broker: odradek.Broker) -> None:
    with urllib.request.urlopen(f"{broker.http_url}/metrics") as response:
        families = {family.name: family for family in parse_text(response.read().decode())}
    for metric in METRICS:
        # This broker has no disk.
        if not metric.name.startswith("odradek_disk_"):
            family = families.pop(metric.name)
            assert (family.type, family.documentation) == (metric.kind.value, metric.help)
    assert families and all(name.startswith("process_") for name in families)


def test_openmetrics_on_request(broker: odradek.Broker) -> None:
    request = urllib.request.Request(
        f"{broker.http_url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    with urllib.request.urlopen(request) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        families = [family.name for family in parse_openmetrics(response.read().decode())]
    assert "odradek_requests" in families


def test_a_histogram_counts_up_to_each_bound() -> None:
    durations = Durations()
    for seconds in (0.0001, 0.0005, 0.0006, 0.3, 70.0):
        durations.add(seconds)
    text, _ = exposition([Series(REQUEST_SECONDS, [(("Fetch",), durations)])], "")
    found = values(text.decode())
    name = "odradek_request_duration_seconds"
    counts = [at(found, f"{name}_bucket", api="Fetch", le=str(bound)) for bound in BOUNDS_S]
    assert counts == [2, 3, 3, 3, 3, 3, 3, 4, 4, 4]
    assert at(found, f"{name}_bucket", api="Fetch", le="+Inf") == at(found, f"{name}_count", api="Fetch") == 5
    assert at(found, f"{name}_sum", api="Fetch") == pytest.approx(70.3012)


def test_a_topics_name_cannot_break_the_form() -> None:
    series = [Series(next(one for one in METRICS if one.labels == ("topic",)), [(('a"b\\c\nd',), 1)])]
    text, _ = exposition(series, "")
    assert next(iter(values(text.decode()))).labels == (("topic", 'a"b\\c\nd'),)


def test_an_error_code_that_has_no_name_is_a_number() -> None:
    assert error_name(3) == "UNKNOWN_TOPIC_OR_PARTITION"
    assert error_name(9999) == "9999"


# --- truth -----------------------------------------------------------------------------------------------------------


def test_what_happened_is_what_it_says(broker: odradek.Broker) -> None:
    topic = broker.create_topic("counted", partitions=3)
    before = scrape(broker)
    one, two = batch(b"hello"), batch(b"a", b"b", b"c")
    with RawClient(broker.port) as client:
        assert client.produce(topic, one, partition=0).error_code == 0
        assert client.produce(topic, two, partition=2).error_code == 0
        assert client.produce("no-such", one).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        fetched = client.fetch(topic, 0, partition=2).records
        client.call(MetadataRequest(topics=[]), MetadataResponse, 9)
        after = scrape(broker)
        assert at(after, "odradek_connections") == at(before, "odradek_connections") + 1

    def gained(name: str, **labels: str) -> float:
        return at(after, name, **labels) - before.get(Sample(name, tuple(sorted(labels.items()))), 0)

    assert fetched is not None
    size = len(one) + len(two)
    assert gained("odradek_topic_appended_records_total", topic=topic) == 4
    assert gained("odradek_topic_appended_batches_total", topic=topic) == 2
    assert gained("odradek_topic_appended_bytes_total", topic=topic) == size
    assert gained("odradek_topic_size_bytes", topic=topic) == size
    assert gained("odradek_topic_fetched_bytes_total", topic=topic) == len(fetched)
    assert at(after, "odradek_topic_partitions", topic=topic) == 3
    assert gained("odradek_appended_records_total") == 4
    assert gained("odradek_log_size_bytes") == size
    assert gained("odradek_requests_total", api="Produce") == 3
    assert gained("odradek_request_duration_seconds_count", api="Produce") == 3
    assert gained("odradek_request_errors_total", api="Produce", error="UNKNOWN_TOPIC_OR_PARTITION") == 1
    assert gained("odradek_connections_opened_total") == 1
    assert gained("odradek_network_received_bytes_total") > size
    assert gained("odradek_network_sent_bytes_total") > len(fetched)
    assert at(after, "odradek_partitions_offline") == 0
    assert at(after, "odradek_event_loop_delay_seconds_count") >= at(before, "odradek_event_loop_delay_seconds_count")
    assert at(after, "process_open_fds") > 3
    assert at(after, "odradek_build_info", version=odradek.__version__, python=platform.python_version()) == 1


def test_a_deleted_topic_stays_in_the_totals(broker: odradek.Broker) -> None:
    topic = broker.create_topic("soon-gone")
    with RawClient(broker.port) as client:
        client.produce(topic, batch(b"x" * 100))
        before = scrape(broker)
        deleted = DeleteTopicsRequest(topic_names=[topic], timeout_ms=30_000)
        assert client.call(deleted, DeleteTopicsResponse, 5).responses[0].error_code == 0
    after = scrape(broker)
    assert Sample("odradek_topic_appended_records_total", (("topic", topic),)) in before
    assert Sample("odradek_topic_appended_records_total", (("topic", topic),)) not in after
    for name in ("odradek_appended_records_total", "odradek_appended_bytes_total", "odradek_appended_batches_total"):
        assert at(after, name) == at(before, name)
    assert at(after, "odradek_topics") == at(before, "odradek_topics") - 1


def test_groups_by_state(broker: odradek.Broker) -> None:
    before = scrape(broker)
    broker.create_topic("of-a-group")
    with RawClient(broker.port) as client:
        client.produce("of-a-group", batch(b"x"))
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": "watched", "auto.offset.reset": "earliest"}
    )
    try:
        consumer.subscribe(["of-a-group"])
        assert consumer.poll(30) is not None
        consumer.commit(offsets=[TopicPartition("of-a-group", 0, 1)], asynchronous=False)
        during = scrape(broker)
    finally:
        consumer.close()
    assert at(during, "odradek_groups", state="Stable") == 1
    assert at(during, "odradek_group_members") == 1
    assert at(during, "odradek_group_offset_commits_total") == 1 + before.get(
        Sample("odradek_group_offset_commits_total", ()), 0
    )
    after = scrape(broker)
    assert at(after, "odradek_groups", state="Stable") == 0 and at(after, "odradek_groups", state="Empty") == 1
    assert at(after, "odradek_group_rebalances_total") >= 2
    assert at(after, "odradek_group_shards_loading") == 0


# --- bounds ----------------------------------------------------------------------------------------------------------


def many(count: int) -> Partitions:
    """Topics of one partition each, all of them the same one: only the counting matters here."""
    engine = MemoryEngine()
    partitions = Partitions(engine, LoopScheduler(SystemClock(), ThreadPoolExecutor(1)))
    asyncio.run(partitions.add("topic-00000", bytes(16), 1, LogConfig()))
    partitions.topics["topic-00000"].traffic.appended_records = 1
    for number in range(1, count):
        add(partitions, f"topic-{number:05}")
    return partitions


def add(partitions: Partitions, name: str) -> None:
    topic = partitions.topics[name] = Topic(name, name.encode().ljust(16), LogConfig())
    topic.partitions = next(iter(partitions.topics.values())).partitions
    topic.traffic.appended_records = 1


def gathered(gathering: Gathering) -> dict[Sample, float]:
    text, _ = exposition(asyncio.run(gathering.gather()), "")
    return values(text.decode())


def test_ten_thousand_partitions_are_a_bounded_scrape() -> None:
    partitions = many(10_000)
    gathering = Gathering(partitions.engine, partitions, Durations(), topics_max=100)
    found = gathered(gathering)
    # Six series a topic, and what there is once.
    assert 600 < len(found) < 600 + 100
    assert at(found, "odradek_topics") == at(found, "odradek_partitions") == 10_000
    assert at(found, "odradek_topics_without_series") == 9_900
    assert at(found, "odradek_appended_records_total") == 10_000


def test_what_opening_a_log_found_missing_is_seen(tmp_path: Path) -> None:
    with odradek.Broker(data_dir=tmp_path, **HTTP) as broker:
        broker.create_topic("holed")
        with RawClient(broker.port) as client:
            assert client.produce("holed", batch(b"v")).error_code == 0
        assert at(scrape(broker), "odradek_log_damages_total") == 0
    shutil.rmtree(tmp_path / "holed-0")
    with odradek.Broker(data_dir=tmp_path, **HTTP) as broker:
        assert at(scrape(broker), "odradek_log_damages_total") > 0


def test_a_full_disk_is_seen() -> None:
    partitions = many(1)
    partitions.engine.usage = lambda: ("/data", 100, 5)  # type: ignore[method-assign]
    gathering = Gathering(partitions.engine, partitions, Durations(), topics_max=1)

    def seen() -> list[float]:
        found = values(exposition(gathering.disk(), "")[0].decode())
        names = ("total_bytes", "free_bytes", "readonly", "refused_batches_total")
        return [at(found, f"odradek_disk_{name}") for name in names]

    assert seen() == [100, 5, 0, 0]
    partitions.space.read_only = True
    partitions.space.refuse(10)
    assert seen() == [100, 5, 1, 1]


def test_others_have_their_turn_while_many_partitions_are_looked_at() -> None:
    partitions = many(10 * AT_ONCE)
    gathering = Gathering(partitions.engine, partitions, Durations(), topics_max=0)

    async def turns() -> int:
        task = asyncio.ensure_future(gathering.gather())
        count = 0
        while not task.done():
            await asyncio.sleep(0)
            count += 1
        return count

    assert asyncio.run(turns()) >= 10


def test_a_topic_keeps_its_series_and_a_place_that_is_free_is_taken() -> None:
    partitions = many(4)
    gathering = Gathering(partitions.engine, partitions, Durations(), topics_max=2)

    def shown() -> list[str]:
        return [dict(one.labels)["topic"] for one in gathered(gathering) if one.name == "odradek_topic_partitions"]

    assert shown() == ["topic-00000", "topic-00001"]
    del partitions.topics["topic-00000"]
    add(partitions, "added")
    assert shown() == ["topic-00001", "topic-00002"]
    del partitions.topics["topic-00002"], partitions.topics["topic-00003"]
    assert shown() == ["topic-00001", "added"]
