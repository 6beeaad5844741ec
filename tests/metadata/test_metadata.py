"""The metadata service on the memory engine: changes in order, failures, snapshots, starting again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest import mock

import pytest

from odradek.clock import SystemClock
from odradek.config import BrokerConfig
from odradek.engines.interface import Appended, Refused, StorageError, Unknown
from odradek.engines.local import LocalEngine
from odradek.engines.memory.engine import MemoryEngine, MemoryLog
from odradek.errors import ErrorCode, KafkaError
from odradek.loop_scheduler import LoopScheduler
from odradek.metadata.changes import Change, Policy, create_partitions, create_topics, delete_topics
from odradek.metadata.image import Delta, MetadataImage
from odradek.metadata.metadata import PRODUCER_ID_BLOCK, Metadata
from odradek.metadata.snapshots import batch_of
from odradek.pace import PACE_S
from odradek.protocol.messages.create_partitions import CreatePartitionsTopic
from odradek.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig
from odradek.protocol.messages.delete_topics import DeleteTopicState
from odradek.records.batch import Buffer
from tests.metadata.working import worked_out

CHOOSE = random.Random(5)


def service(engine: MemoryEngine, **settings: str) -> Metadata:
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return Metadata(engine, BrokerConfig(given), SystemClock(), CHOOSE)


def creating(*names: str, partitions: int = 1) -> Callable[[MetadataImage], Change]:
    policy = Policy(BrokerConfig(), 1, False, CHOOSE)
    asked = [CreatableTopic(name=name, num_partitions=partitions, replication_factor=1) for name in names]
    return lambda image: create_topics(image, asked, policy)


def deleting(name: str) -> Callable[[MetadataImage], Change]:
    policy = Policy(BrokerConfig(), 1, False, CHOOSE)
    return lambda image: delete_topics(image, [DeleteTopicState(name=name)], policy, False)


def between_snapshots(size_bytes: int) -> dict[str, str]:
    return {"metadata.log.max.record.bytes.between.snapshots": str(size_bytes)}


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


def test_a_change_that_storage_cannot_follow_is_made_nevertheless() -> None:
    async def work() -> None:
        metadata = service(await started())
        await metadata.open()
        followed: list[Delta] = []

        async def broken(delta: Delta) -> None:
            raise OSError("no such device")

        async def sound(delta: Delta) -> None:
            followed.append(delta)

        metadata.subscribe(broken)
        metadata.subscribe(sound)
        (outcome,) = await metadata.change(creating("t"))
        assert outcome.error == 0 and set(followed[0].created) == {"t"}

    run(work)


def test_a_change_is_finished_when_whoever_asked_has_gone() -> None:
    async def work() -> None:
        metadata = service(await started())
        await metadata.open()
        asked = asyncio.ensure_future(metadata.change(creating("t")))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        (outcome,) = await metadata.change(creating("t"))
        assert outcome.error == ErrorCode.TOPIC_ALREADY_EXISTS

    run(work)


def test_a_change_that_others_overtake_is_made_again_but_not_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        metadata = service(await started())
        await metadata.open()
        append, refusals = MemoryLog.append, 3

        def overtaken(log: MemoryLog, *arguments: object) -> Appended:
            nonlocal refusals
            refusals -= 1
            if refusals >= 0:
                raise Refused("the log ends elsewhere")
            return append(log, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(MemoryLog, "append", overtaken)
        (outcome,) = await metadata.change(creating("t"))
        assert outcome.error == 0 and metadata.image.topics["t"].partition_count == 1
        refusals = 1000
        with pytest.raises(KafkaError) as caught:
            await metadata.change(creating("u"))
        assert caught.value.code == ErrorCode.REQUEST_TIMED_OUT

    run(work)


def test_while_the_log_cannot_be_opened_changes_are_refused_and_later_work(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        engine = await started()
        metadata = service(engine)
        await metadata.open()

        def failing(*_: object) -> Appended:
            raise Unknown("the disk is gone")

        async def not_there(*_: object) -> MemoryLog:
            raise OSError("the disk is gone")

        with monkeypatch.context() as patch:
            patch.setattr(MemoryLog, "append", failing)
            patch.setattr(MemoryEngine, "open", not_there)
            for _ in range(3):
                with pytest.raises(KafkaError) as caught:
                    await metadata.change(creating("t"))
                assert caught.value.code == ErrorCode.KAFKA_STORAGE_ERROR
            await metadata.maintain()
        (outcome,) = await metadata.change(creating("t"))
        assert outcome.error == ErrorCode.NONE

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


def test_a_damaged_snapshot_costs_nothing_while_the_one_before_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        engine = await started()
        metadata = service(engine, metadata__log__max__record__bytes__between__snapshots="2000")
        await metadata.open()
        for index in range(60):
            await metadata.change(creating(f"t-{index}"))
        newest = metadata._snapshot_offset
        await metadata.close()
        load = MemoryLog.load_snapshot

        async def damaged(log: MemoryLog, kind: str, upto: int) -> tuple[int, bytes] | None:
            found = await load(log, kind, upto)
            return (found[0], found[1][:-10]) if found is not None and found[0] == newest else found

        monkeypatch.setattr(MemoryLog, "load_snapshot", damaged)
        again = service(engine)
        await again.open()
        assert 0 < again._snapshot_offset < newest
        assert set(again.image.topics) == {f"t-{index}" for index in range(60)}

    run(work)


def test_a_snapshot_is_made_when_it_is_time_and_something_changed() -> None:
    async def work() -> None:
        metadata = service(await started(), metadata__log__max__snapshot__interval__ms="1000")
        now_ms = 5_000
        metadata.clock = mock.Mock(now_ms=lambda: now_ms, monotonic=lambda: now_ms / 1000)
        await metadata.open()
        await metadata.change(creating("t"))
        await metadata.maintain()
        assert metadata._snapshot_offset == 0
        now_ms += 1000
        await metadata.maintain()
        first = metadata._snapshot_offset
        assert first == metadata.image.offset
        now_ms += 1000
        await metadata.maintain()
        assert metadata._snapshot_offset == first
        await metadata.change(creating("u"))
        assert metadata._snapshot_offset == metadata.image.offset > first

    run(work)


def test_what_many_short_lives_write_is_counted_together() -> None:
    async def work() -> None:
        engine = await started()
        for life in range(30):
            metadata = service(engine, metadata__log__max__record__bytes__between__snapshots="2000")
            await metadata.open()
            await metadata.change(creating(f"t-{life}"))
            await metadata.close()
        assert metadata._snapshot_offset > 0

    run(work)


def test_files_of_the_log_go_as_snapshots_come(tmp_path: Path) -> None:
    async def work() -> None:
        engine = LocalEngine(str(tmp_path), BrokerConfig(), LoopScheduler(), node_id=1)
        await engine.start()
        metadata = Metadata(engine, BrokerConfig(between_snapshots(200_000)), SystemClock(), CHOOSE)
        await metadata.open()
        for index in range(25):
            await metadata.change(creating(f"t-{index}", partitions=2000))
            outcome = await metadata.change(deleting(f"t-{index}"))
            assert outcome[0].error == 0
        assert metadata._log is not None and metadata._log.size_bytes() < 2_500_000
        await metadata.close()
        again = Metadata(engine, BrokerConfig(), SystemClock(), CHOOSE)
        await again.open()
        assert not again.image.topics and again.image.offset == metadata.image.offset
        await again.close()
        await engine.stop()

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


def test_a_log_that_is_damaged_while_the_broker_runs_refuses_changes_and_tells_of_what_came_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two changes whose outcome was unknown were kept, the second is damaged until somebody mends it."""

    async def work() -> None:
        metadata = service(await started())
        await metadata.open()
        told: list[set[str]] = []

        async def listener(delta: Delta) -> None:
            told.append(set(delta.created))

        metadata.subscribe(listener)
        first, second = (batch_of(worked_out(creating(name)(metadata.image))[0], 0) for name in ("aa", "bb"))
        append, read = MemoryLog.append, MemoryLog.read

        def kept_but_not_known(log: MemoryLog, *_: object) -> Appended:
            append(log, (first,), log.epoch)
            append(log, (second,), log.epoch)
            raise Unknown("no word from the disk")

        def damaged(log: MemoryLog, *arguments: object) -> list[Buffer]:
            data = bytearray(b"".join(read(log, *arguments)))  # type: ignore[arg-type]
            at = data.find(b"bb")
            data[at] ^= at >= 0
            return [data]

        with monkeypatch.context() as patch:
            patch.setattr(MemoryLog, "read", damaged)
            with monkeypatch.context() as once:
                once.setattr(MemoryLog, "append", kept_but_not_known)
                with pytest.raises(KafkaError):
                    await metadata.change(creating("t"))
            for _ in range(2):
                with pytest.raises(KafkaError) as caught:
                    await metadata.change(creating("t"))
                assert caught.value.code == ErrorCode.KAFKA_STORAGE_ERROR
                assert "checksum" in str(caught.value)
            assert set(metadata.image.topics) == {"aa"} and told == []
        (outcome,) = await metadata.change(creating("t"))
        assert outcome.error == ErrorCode.NONE
        assert told == [{"aa", "bb"}, {"t"}]

    run(work)


class PassingClock(SystemClock):
    """Each look at it takes a tenth of what one turn of the loop may."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        self.now_s += PACE_S / 10
        return self.now_s


def test_a_change_of_many_topics_gives_way_and_shows_each_topic_whole() -> None:
    async def work() -> None:
        metadata = Metadata(await started(), BrokerConfig(), PassingClock(), CHOOSE)
        await metadata.open()
        policy = Policy(BrokerConfig(), 1, False, CHOOSE)
        configs = [
            CreatableTopicConfig(name="retention.ms", value="5"),
            CreatableTopicConfig(name="flush.ms", value="7"),
        ]
        asked = [
            CreatableTopic(name=f"t{number}", num_partitions=3, replication_factor=1, configs=configs)
            for number in range(300)
        ]
        image = metadata.image

        async def most_at_once(change: Callable[[MetadataImage], Change]) -> int:
            changing = asyncio.ensure_future(metadata.change(change))
            most, before = 0, len(image.topics)
            while not changing.done():
                await asyncio.sleep(0)
                most, before = max(most, abs(len(image.topics) - before)), len(image.topics)
                for topic in image.topics.values():
                    assert topic.partition_count == 3
                    assert image.topic_config(topic.name) == {"retention.ms": "5", "flush.ms": "7"}
                assert len(image.configs) == len(image.topics)
            assert not any(outcome.error for outcome in await changing)
            return most

        assert 0 < await most_at_once(lambda image: create_topics(image, asked, policy)) <= 12
        assert len(image.topics) == 300
        gone = [DeleteTopicState(name=f"t{number}") for number in range(300)]
        assert 0 < await most_at_once(lambda image: delete_topics(image, gone, policy, False)) <= 12
        assert not image.topics
        await metadata.close()

    run(work)


def test_a_change_that_fails_at_its_append_has_done_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        metadata = Metadata(await started(), BrokerConfig(), PassingClock(), CHOOSE)
        await metadata.open()

        def broken(*_: object) -> Appended:
            raise Unknown("the disk failed")

        with monkeypatch.context() as patch:
            patch.setattr(MemoryLog, "append", broken)
            with pytest.raises(KafkaError):
                await metadata.change(creating(*(f"t{number}" for number in range(100))))
        assert not metadata.image.topics
        await metadata.close()

    run(work)


def test_close_waits_for_a_change_that_has_begun() -> None:
    async def work() -> None:
        engine = await started()
        metadata = Metadata(engine, BrokerConfig(), PassingClock(), CHOOSE)
        await metadata.open()
        changing = asyncio.ensure_future(metadata.change(creating(*(f"t{number}" for number in range(100)))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not changing.done()
        await metadata.close()
        assert len(await changing) == 100
        again = service(engine)
        await again.open()
        assert len(again.image.topics) == 100
        await again.close()

    run(work)
