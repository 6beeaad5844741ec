"""The metadata service on the memory engine: changes in order, failures, snapshots, starting again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from odradek.clock import SystemClock
from odradek.config import BrokerConfig
from odradek.engines.interface import Appended, StorageError, Unknown
from odradek.engines.memory.engine import MemoryEngine, MemoryLog
from odradek.errors import ErrorCode, KafkaError
from odradek.metadata.changes import Outcome, Policy, create_partitions, create_topics, delete_topics
from odradek.metadata.image import Delta, MetadataImage, MetadataRecord
from odradek.metadata.metadata import PRODUCER_ID_BLOCK, Metadata
from odradek.protocol.messages.create_partitions import CreatePartitionsTopic
from odradek.protocol.messages.create_topics import CreatableTopic
from odradek.protocol.messages.delete_topics import DeleteTopicState

CHOOSE = random.Random(5)


def service(engine: MemoryEngine, **settings: str) -> Metadata:
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return Metadata(engine, BrokerConfig(given), SystemClock(), CHOOSE)


def creating(*names: str, partitions: int = 1) -> Callable[[MetadataImage], tuple[list[MetadataRecord], list[Outcome]]]:
    policy = Policy(BrokerConfig(), 1, False, CHOOSE)
    asked = [CreatableTopic(name=name, num_partitions=partitions, replication_factor=1) for name in names]
    return lambda image: create_topics(image, asked, policy)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await work()

    asyncio.run(main())


async def started() -> MemoryEngine:
    engine = MemoryEngine()
    await engine.start()
    return engine


def test_a_change_is_seen_by_listeners_before_it_is_answered_and_survives_a_start() -> None:
    async def work() -> None:
        engine = await started()
        metadata = service(engine)
        await metadata.open()
        assert metadata.is_new
        seen: list[Delta] = []

        async def listener(delta: Delta) -> None:
            await asyncio.sleep(0)
            seen.append(delta)

        metadata.subscribe(listener)
        (outcome,) = await metadata.change(creating("t", partitions=3))
        assert outcome.error == 0 and set(seen[-1].created) == {"t"}
        await metadata.close()
        again = service(engine)
        await again.open()
        assert not again.is_new
        assert again.image.topics["t"].id == outcome.topic_id and again.image.topics["t"].partition_count == 3
        assert again.image.offset == metadata.image.offset

    run(work)


def test_changes_made_side_by_side_see_each_other() -> None:
    async def work() -> None:
        metadata = service(await started())
        await metadata.open()
        outcomes = await asyncio.gather(*(metadata.change(creating("same")) for _ in range(8)))
        codes = sorted(outcome.error for (outcome,) in outcomes)
        assert codes == [ErrorCode.NONE] + [ErrorCode.TOPIC_ALREADY_EXISTS] * 7

    run(work)


def test_a_failed_append_changes_nothing_and_the_next_change_works(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        metadata = service(await started())
        await metadata.open()
        offset = metadata.image.offset

        def failing(*_: object) -> Appended:
            raise Unknown("the disk is gone")

        with monkeypatch.context() as patch:
            patch.setattr(MemoryLog, "append", failing)
            with pytest.raises(KafkaError) as caught:
                await metadata.change(creating("t"))
        assert caught.value.code == ErrorCode.KAFKA_STORAGE_ERROR
        assert metadata.image.offset == offset and not metadata.image.topics
        (outcome,) = await metadata.change(creating("t"))
        assert outcome.error == ErrorCode.NONE

    run(work)


def test_a_change_whose_outcome_was_unknown_is_replayed_when_it_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        metadata = service(await started())
        await metadata.open()
        deltas: list[Delta] = []

        async def listener(delta: Delta) -> None:
            deltas.append(delta)

        metadata.subscribe(listener)
        append = MemoryLog.append

        def kept_but_not_known(log: MemoryLog, *arguments: object) -> Appended:
            appended = append(log, *arguments)  # type: ignore[arg-type]
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(Unknown("no word from the disk"))
            return appended._replace(durable=failed)

        with monkeypatch.context() as patch:
            patch.setattr(MemoryLog, "append", kept_but_not_known)
            with pytest.raises(KafkaError):
                await metadata.change(creating("t"))
        assert not metadata.image.topics
        (outcome,) = await metadata.change(creating("t"))
        assert outcome.error == ErrorCode.TOPIC_ALREADY_EXISTS
        assert [set(delta.created) for delta in deltas] == [{"t"}]

    run(work)


def test_snapshots_shorten_the_log_and_a_start_uses_them() -> None:
    async def work() -> None:
        engine = await started()
        metadata = service(engine, metadata__log__max__record__bytes__between__snapshots="2000")
        await metadata.open()
        for index in range(60):
            await metadata.change(creating(f"t-{index}"))
        assert metadata._log is not None and metadata._log.start_offset > 0
        await metadata.close()
        again = service(engine)
        await again.open()
        assert set(again.image.topics) == {f"t-{index}" for index in range(60)}

    run(work)


def test_a_log_without_its_snapshot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        engine = await started()
        metadata = service(engine, metadata__log__max__record__bytes__between__snapshots="500")
        await metadata.open()
        for index in range(20):
            await metadata.change(creating(f"t-{index}"))
        await metadata.close()

        async def lost(*_: object) -> None:
            return None

        monkeypatch.setattr(MemoryLog, "load_snapshot", lost)
        with pytest.raises(StorageError, match="snapshots are lost"):
            await service(engine).open()

    run(work)


def test_producer_ids_are_never_given_twice_also_after_a_start() -> None:
    async def work() -> None:
        engine = await started()
        metadata = service(engine)
        await metadata.open()
        first = await asyncio.gather(*(metadata.next_producer_id() for _ in range(PRODUCER_ID_BLOCK + 5)))
        again = service(engine)
        await metadata.close()
        await again.open()
        second = [await again.next_producer_id() for _ in range(5)]
        given = [*first, *second]
        assert len(set(given)) == len(given) and min(given) == 0

    run(work)


def test_delete_and_enlarge() -> None:
    async def work() -> None:
        metadata = service(await started())
        await metadata.open()
        (made,) = await metadata.change(creating("t", partitions=2))
        policy = Policy(BrokerConfig(), 1, False, CHOOSE)
        more = [CreatePartitionsTopic(name="t", count=5, assignments=None)]
        (outcome,) = await metadata.change(lambda image: create_partitions(image, more, policy))
        assert outcome.error == 0 and sorted(metadata.image.topics["t"].partition_records) == [0, 1, 2, 3, 4]
        gone = [DeleteTopicState(name=None, topic_id=made.topic_id)]
        (outcome,) = await metadata.change(lambda image: delete_topics(image, gone, policy, False))
        assert (outcome.error, outcome.name) == (0, "t") and not metadata.image.topics
        disabled = Policy(BrokerConfig({"delete.topic.enable": "false"}), 1, False, CHOOSE)
        (outcome,) = await metadata.change(lambda image: delete_topics(image, gone, disabled, False))
        assert outcome.error == ErrorCode.TOPIC_DELETION_DISABLED

    run(work)


def test_after_the_stop_changes_are_refused() -> None:
    async def work() -> None:
        metadata = service(await started())
        await metadata.open()
        await metadata.close()
        await metadata.close()
        with pytest.raises(KafkaError) as caught:
            await metadata.change(creating("t"))
        assert caught.value.code == ErrorCode.BROKER_NOT_AVAILABLE

    run(work)
