"""The composition root: what a start finds in its directory, and refuses."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from odradek.config import BrokerConfig
from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from odradek.server import compose
from tests.broker import BrokerProcess
from tests.raw_client import RawClient, batch, records_of


def create(broker: BrokerProcess, *names: str) -> None:
    topics = [CreatableTopic(name=name, num_partitions=2, replication_factor=1) for name in names]
    with RawClient(broker.port) as client:
        answer = client.call(CreateTopicsRequest(topics=topics), CreateTopicsResponse, 5)
        assert [topic.error_code for topic in answer.topics] == [0] * len(names)
        for name in names:
            assert client.produce(name, batch(b"kept")).error_code == 0


def values(broker: BrokerProcess, name: str) -> list[bytes | None]:
    with RawClient(broker.port) as client:
        return [record.value for record in records_of(client.fetch(name, 0).records)]


def test_periodic_work_that_fails_once_is_done_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        server = compose(BrokerConfig({"odradek.disk.check.interval.ms": "10"}), memory=True)
        times, again = 0, asyncio.Event()

        async def work() -> None:
            nonlocal times
            times += 1
            if times == 1:
                raise ZeroDivisionError
            again.set()

        server._every("odradek.disk.check.interval.ms", work)
        await asyncio.wait_for(again.wait(), 20)
        await server.stop()

    asyncio.run(scenario())
    assert [record.message.split(" setting=")[0] for record in caplog.records] == ["periodic work failed"]


def test_it_is_built_whole() -> None:
    """Beside what it says of itself, and what is imported late, a start changes no part of it."""
    imported_late = {"watching", "_http", "_events_topic", "_loop_delay"}

    async def scenario() -> None:
        server = compose(BrokerConfig({"listeners": "PLAINTEXT://127.0.0.1:0"}), memory=True)
        built = dict(vars(server))
        assert {name for name, part in built.items() if part is None} == {"http_bound"} | imported_late
        network = server.listeners.shared
        await server.start()
        try:
            assert server.listeners.shared is network
            assert {name for name, part in vars(server).items() if part is not built.get(name)} <= {
                "not_ready",
                "watching",
            }
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_one_that_was_never_started_stops() -> None:
    async def scenario() -> None:
        server = compose(BrokerConfig(), memory=True)
        await server.stop()
        with pytest.raises(RuntimeError, match="shutdown"):
            server.scheduler.executor.submit(int)

    asyncio.run(scenario())


def test_a_log_that_lost_its_topic_id_is_still_its_topics(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path) as broker:
        create(broker, "t")
        broker.stop()
        (broker.data / "t-0" / "partition.metadata").unlink()
        broker.start()
        assert values(broker, "t") == [b"kept"]


def test_what_is_left_of_a_deleted_topic_goes_at_the_start(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path) as broker:
        create(broker, "t", "gone")
        broker.stop()
        shutil.copytree(broker.data / "gone-0", tmp_path / "left")
        broker.start()
        with RawClient(broker.port) as client:
            answer = client.call(DeleteTopicsRequest(topic_names=["gone"]), DeleteTopicsResponse, 5)
            assert answer.responses[0].error_code == 0
        broker.stop()
        # As if the broker had died between the deletion's record and its end.
        shutil.copytree(tmp_path / "left", broker.data / "gone-0")
        broker.start()
        assert not (broker.data / "gone-0").exists() and "log of a deleted topic removed" in broker.logged
        assert values(broker, "t") == [b"kept"]


@pytest.mark.parametrize(
    ("witness", "why"), [(True, "bring that folder back from a backup"), (False, "no metadata that knows it")]
)
def test_logs_without_the_metadata_that_knows_them_are_not_touched(tmp_path: Path, witness: bool, why: str) -> None:
    """The flushed offsets know that there was a metadata log; an earlier version leaves none."""
    with BrokerProcess(tmp_path) as broker:
        create(broker, "t")
        broker.stop()
        metadata = broker.data / "__cluster_metadata-0"
        metadata.rename(tmp_path / "away")
        if not witness:
            (broker.data / "odradek-flushed-offsets").unlink()
        with pytest.raises(AssertionError, match=why):
            broker.start()
        broker.process = None
        assert (broker.data / "t-0" / "00000000000000000000.log").stat().st_size > 0
        if metadata.exists():
            shutil.rmtree(metadata)
        (tmp_path / "away").rename(metadata)
        broker.start()
        assert values(broker, "t") == [b"kept"]


def test_a_directory_has_one_broker(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path) as broker:
        second = BrokerProcess(tmp_path)
        with pytest.raises(AssertionError, match=r"another|in use|locked"):
            second.start()
        create(broker, "t")
