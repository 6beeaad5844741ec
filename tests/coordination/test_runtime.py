"""The runtime with a small state machine: what is answered when, on logs that hold, fail and fill up."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest

from odradek.clock import Clock, SystemClock
from odradek.config import LogConfig
from odradek.coordination.loading import SNAPSHOT_KIND
from odradek.coordination.operation import InSteps, Outcome, Reply
from odradek.coordination.replies import ANSWERS_AT_ONCE, Untold, settled
from odradek.coordination.runtime import BATCH_BYTES, Shard, ShardState
from odradek.coordination.snapshots import read_snapshot, write_snapshot
from odradek.coordination.timers import Timers
from odradek.engines.interface import Engine, LogIdentity, StorageFull, Unknown
from odradek.errors import ErrorCode, KafkaError
from odradek.loop_scheduler import LoopScheduler
from odradek.partitions.partition import Partition
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import Message
from odradek.protocol.messages.heartbeat import HeartbeatResponse
from odradek.records.batch import split_batches
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from odradek.replay.snapshots import SnapshotDamaged
from tests.engines.disks import WatchedDisk
from tests.engines.test_local_recovery import engine_at
from tests.partitions.test_partition import HeldEngine, StillClock

IDENTITY = LogIdentity("__ledger", b"l" * 16, 0)
MIN_RECORDS = 10
LOAD_BYTES = 4096


class Ledger:
    """Numbers by name. `replayed` counts what the runtime has given it, `happened` is set by what it does itself."""

    on_prepare: ClassVar[list[Callable[[], object]]] = []
    """What is done by the next of them while it is prepared."""

    def __init__(self, happened: asyncio.Event) -> None:
        self.happened = happened
        self.timers = Timers()
        self.entries: dict[bytes, bytes] = {}
        self.parked: list[Reply] = []
        self.replayed = 0
        self.times_loaded = 0
        self.pending: dict[int, dict[bytes, bytes | None]] = {}

    def replay(self, key: bytes, value: bytes | None) -> None:
        self.replayed += 1
        if key == b"not for reading":
            raise DecodeError("no number")
        if value is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = value

    def replay_transactional(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        self.pending.setdefault(producer_id, {})[key] = value

    def end_transaction(self, producer_id: int, committed: bool) -> None:
        for key, value in self.pending.pop(producer_id, {}).items():
            if committed:
                self.replay(key, value)

    def has_pending(self) -> bool:
        return bool(self.pending)

    def records(self) -> Callable[[], Iterable[tuple[bytes, bytes]]]:
        entries = dict(self.entries)
        return entries.items

    def prepare(self) -> None:
        for work in self.on_prepare[:1]:
            self.on_prepare.remove(work)
            work()

    def loaded(self) -> None:
        self.times_loaded += 1
        self.happened.set()

    def due(self, key: object, outcome: Outcome) -> None:
        assert isinstance(key, bytes)
        self.happened.set()
        outcome.records.append(NewRecord(key, b"due"))
        for reply in self.parked:
            outcome.answer(reply, said(0))
        self.parked.clear()

    def waiting(self) -> list[Reply]:
        return self.parked


def said(number: int) -> Message:
    """Any message will do as an answer; this one has a number in it."""
    return HeartbeatResponse(throttle_time_ms=number)


def refusal(code: ErrorCode) -> Message:
    return HeartbeatResponse(error_code=code)


def number_of(message: Message) -> int:
    assert isinstance(message, HeartbeatResponse) and not message.error_code, message
    return message.throttle_time_ms


def error_of(message: Message) -> ErrorCode:
    assert isinstance(message, HeartbeatResponse)
    return ErrorCode(message.error_code)


class Serving:
    """A shard of the ledger, and what clients ask of it."""

    def __init__(self, partition: Partition, clock: Clock, min_records: int) -> None:
        self.happened = asyncio.Event()
        scheduler = LoopScheduler(clock, partition.executor)
        self.shard = Shard(partition, lambda: Ledger(self.happened), scheduler, min_records, LOAD_BYTES)
        self.shard.load()

    def put(self, *entries: tuple[bytes, bytes | None], alters: bool = True) -> asyncio.Future[Message]:
        def operation(machine: Ledger, reply: Reply, outcome: Outcome) -> None:
            outcome.records += [NewRecord(key, value) for key, value in entries]
            outcome.alters = alters
            outcome.answer(reply, said(len(machine.entries)))

        return asyncio.ensure_future(self.shard.ask(operation, refusal))

    def get(self, key: bytes, waits: bool = True) -> asyncio.Future[Message]:
        def operation(machine: Ledger, reply: Reply, outcome: Outcome) -> None:
            outcome.waits = waits
            outcome.answer(reply, said(int(machine.entries.get(key, b"-1"))))

        return asyncio.ensure_future(self.shard.ask(operation, refusal))

    def park(self) -> asyncio.Future[Message]:
        return asyncio.ensure_future(
            self.shard.ask(lambda machine, reply, outcome: machine.parked.append(reply), refusal)
        )

    async def serving(self) -> None:
        """Until it serves again; told by the partition, and by the end of its load."""
        while self.shard.state is not ShardState.ACTIVE:
            await self.happened.wait()
            self.happened.clear()


class AtOnce(Executor):
    """Does the work where it is submitted, so that a few turns of the loop are enough for anything."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


async def opened_on(engine: Engine, clock: Clock, executor: Executor) -> Partition:
    partition = Partition(engine, IDENTITY, LogConfig(), LoopScheduler(clock, executor))
    await partition.open()
    return partition


def run(work: Callable[[HeldEngine, Partition, Serving], Awaitable[None]]) -> None:
    """On an engine that holds what it is given until the test says that it is durable, or lost."""

    async def main() -> None:
        engine, clock = HeldEngine(), StillClock()
        await engine.start()
        partition = await opened_on(engine, clock, AtOnce())
        serving = Serving(partition, clock, MIN_RECORDS)
        async with asyncio.timeout(30):
            await work(engine, partition, serving)
        serving.shard.close()

    asyncio.run(main())


async def turns(count: int = 5) -> None:
    """Lets the loop do all it has to do: nothing here waits for another thread."""
    for _ in range(count):
        await asyncio.sleep(0)


# --- answers and durability ------------------------------------------------------------------------------------------


def test_an_answer_waits_until_its_records_are_durable() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        answer = serving.put((b"a", b"1"))
        await turns()
        assert not answer.done()
        assert serving.shard.machine.entries == {b"a": b"1"}, "the next operation sees it at once"
        engine.flush()
        assert number_of(await answer) == 0

    run(work)


def test_what_says_something_of_the_state_waits_for_the_append_before_it() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        written, read, beat = serving.put((b"a", b"7")), serving.get(b"a"), serving.get(b"a", waits=False)
        await turns()
        assert (written.done(), read.done(), beat.done()) == (False, False, True)
        engine.flush()
        assert number_of(await read) == 7
        # With all durable, nothing waits.
        again = serving.get(b"a")
        await turns()
        assert again.done()

    run(work)


def test_operations_share_a_flush() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        answers = [serving.put((b"%d" % index, b"1")) for index in range(20)]
        await turns()
        assert len(engine.held) == 1 and not any(answer.done() for answer in answers)
        engine.flush()
        assert [number_of(await answer) for answer in answers] == list(range(20))

    run(work)


def test_a_call_returns_when_all_it_saw_is_durable() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        written = serving.put((b"a", b"3"))
        call = asyncio.ensure_future(serving.shard.call(lambda machine, outcome: dict(machine.entries)))
        await turns()
        assert not call.done()
        engine.flush()
        assert await call == {b"a": b"3"}
        assert number_of(await written) == 0

    run(work)


def test_very_many_answers_are_given_in_turns() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        parked = [serving.park() for _ in range(3 * ANSWERS_AT_ONCE + 1)]
        await turns()
        serving.shard.run(lambda machine, outcome: machine.due(b"a", outcome))
        engine.flush()
        answered = [0]
        while answered[-1] < len(parked):
            await asyncio.sleep(0)
            answered.append(sum(one.done() for one in parked))
        assert max(after - before for before, after in pairwise(answered)) == ANSWERS_AT_ONCE

    run(work)


def test_who_has_gone_away_harms_nobody() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        gone, parked, here = serving.put((b"a", b"1")), serving.park(), serving.put((b"b", b"1"))
        gone.cancel()
        parked.cancel()
        engine.flush()
        assert number_of(await here) == 1
        serving.shard.close()

    run(work)


# --- what others write -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asks_first", ["get", "put", "end of a transaction"])
def test_what_somebody_else_writes_is_part_of_the_state(asks_first: str) -> None:
    """Whoever comes next is refused, for the little time that the state is made again."""

    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        written = serving.put((b"a", b"1"))
        engine.flush()
        await written
        foreign = [NewRecord(b"a", b"5", 0), NewRecord(b"b", b"2", 0)]
        partition.append(batch_bytes(build_batch(foreign)))
        if asks_first == "end of a transaction":
            partition.end_transaction(9, 0, 0, True)
        engine.flush()
        refused = await (serving.put((b"b", b"3")) if asks_first == "put" else serving.get(b"b"))
        assert error_of(refused) == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        await serving.serving()
        assert [number_of(await serving.get(key)) for key in (b"a", b"b")] == [5, 2]

    run(work)


def test_the_ends_of_transactions_alone_are_followed() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        for number in range(3):
            written = serving.put((b"a", b"%d" % number))
            partition.end_transaction(9, 0, 0, True)
            engine.flush()
            await written
        machine = serving.shard.machine
        assert number_of(await serving.get(b"a")) == 2
        assert serving.shard.machine is machine, "it was not made again"

    run(work)


# --- operations in steps ---------------------------------------------------------------------------------------------


def in_steps(count: int) -> Callable[[Ledger], InSteps[int]]:
    """Writes a number in each step, and returns how many entries there are in the end."""

    def operation(machine: Ledger) -> InSteps[int]:
        for number in range(count):
            yield Outcome([NewRecord(b"step %d" % number, b"%d" % number)], alters=False)
        return len(machine.entries)

    return operation


def test_others_come_between_the_steps_of_an_operation() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        steps = serving.shard.steps(in_steps(3))
        next(steps)
        assert serving.shard.machine.entries == {b"step 0": b"0"}
        between = serving.put((b"between", b"1"))
        next(steps)
        next(steps)
        with pytest.raises(StopIteration) as end:
            next(steps)
        made: Untold[int] = end.value.value
        assert made.result == 4 and made.is_open and not between.done()
        engine.flush()
        await settled((made,))
        assert not made.is_lost and number_of(await between) == 1

    run(work)


def test_what_a_failed_flush_takes_back_is_not_told() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        steps = serving.shard.steps(in_steps(1))
        next(steps)
        with pytest.raises(StopIteration) as end:
            next(steps)
        made: Untold[int] = end.value.value
        await turns()
        engine.fail()
        await settled((made,))
        assert made.is_lost

    run(work)


@pytest.mark.parametrize("what", ["the flush fails", "an append fails", "somebody else writes", "it is closed"])
def test_an_operation_whose_state_is_made_anew_between_two_steps_ends(what: str) -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        steps = serving.shard.steps(in_steps(5))
        next(steps)
        if what == "the flush fails":
            await turns()
            engine.fail()
            await turns(20)
            assert serving.shard.machine.entries == {}
        elif what == "an append fails":
            engine.refuse = Unknown("the disk is gone")
        elif what == "somebody else writes":
            partition.append(batch_bytes(build_batch([NewRecord(b"a", b"5", 0)])))
        else:
            serving.shard.close()
        with pytest.raises(KafkaError) as refused:
            next(steps)
        assert refused.value.code in (ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        engine.refuse = None

    run(work)


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_failed_flush_refuses_all_who_wait_and_keeps_what_was_durable() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        first = serving.put((b"a", b"1"))
        engine.flush()
        assert number_of(await first) == 0
        lost, read, parked = serving.put((b"a", b"2")), serving.get(b"a"), serving.park()
        call = asyncio.ensure_future(serving.shard.call(lambda machine, outcome: len(machine.entries)))
        await turns()
        engine.fail()
        assert {error_of(await one) for one in (lost, read, parked)} == {ErrorCode.NOT_COORDINATOR}
        with pytest.raises(KafkaError) as refused:
            await call
        assert refused.value.code is ErrorCode.NOT_COORDINATOR
        assert error_of(await serving.get(b"a")) is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        await serving.serving()
        assert number_of(await serving.get(b"a")) == 1
        engine.hold = False
        assert number_of(await serving.put((b"a", b"5"))) == 1
        assert number_of(await serving.get(b"a")) == 5

    run(work)


def test_an_append_that_fails_ends_the_state_it_was_made_from() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        engine.hold = False
        assert number_of(await serving.put((b"a", b"1"))) == 0
        parked, machine = serving.park(), serving.shard.machine
        engine.refuse = Unknown("the disk is gone")
        assert error_of(await serving.put((b"a", b"2"))) is ErrorCode.NOT_COORDINATOR
        assert error_of(await parked) is ErrorCode.NOT_COORDINATOR
        engine.refuse = None
        await serving.serving()
        assert serving.shard.machine is not machine
        assert number_of(await serving.get(b"a")) == 1

    run(work)


def test_a_full_disk_refuses_what_only_writes_and_leaves_the_state() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        engine.hold = False
        assert number_of(await serving.put((b"a", b"1"))) == 0
        parked, machine = serving.park(), serving.shard.machine
        engine.refuse = StorageFull("no space left")
        assert error_of(await serving.put((b"a", b"2"), alters=False)) is ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert serving.shard.machine is machine and not parked.done()
        assert number_of(await serving.get(b"a")) == 1
        engine.refuse = None
        assert number_of(await serving.put((b"a", b"2"), alters=False)) == 1
        assert number_of(await serving.get(b"a")) == 2

    run(work)


def test_a_full_disk_takes_a_state_that_has_changed_already() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        engine.hold = False
        assert number_of(await serving.put((b"a", b"1"))) == 0
        machine = serving.shard.machine
        engine.refuse = StorageFull("no space left")
        assert error_of(await serving.put((b"a", b"2"))) is ErrorCode.NOT_COORDINATOR
        engine.refuse = None
        await serving.serving()
        assert serving.shard.machine is not machine
        assert number_of(await serving.get(b"a")) == 1

    run(work)


def test_a_deleted_partition_closes_the_shard() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        parked = serving.park()
        await turns()
        await partition.delete()
        assert error_of(await parked) is ErrorCode.NOT_COORDINATOR
        assert error_of(await serving.get(b"a")) is ErrorCode.NOT_COORDINATOR
        assert serving.shard.state is ShardState.CLOSED

    run(work)


# --- timers ----------------------------------------------------------------------------------------------------------


def test_a_timer_is_an_operation() -> None:
    async def main() -> None:
        engine, clock = HeldEngine(), SystemClock()
        await engine.start()
        partition = await opened_on(engine, clock, AtOnce())
        serving = Serving(partition, clock, MIN_RECORDS)
        parked = serving.park()

        def at(machine: Ledger, outcome: Outcome) -> None:
            machine.timers.set(b"later", clock.monotonic() + 3600)
            machine.timers.set(b"soon", clock.monotonic() + 0.01)

        serving.happened.clear()
        await serving.shard.call(at)
        async with asyncio.timeout(30):
            await serving.happened.wait()
        # What it answers waits for what it writes.
        await turns()
        assert serving.shard.machine.entries == {b"soon": b"due"} and not parked.done()
        engine.flush()
        assert number_of(await parked) == 0
        assert serving.shard.machine.timers.deadline(b"later") is not None
        serving.shard.close()
        assert serving.shard._timer is None

    asyncio.run(main())


# --- batches, loads, snapshots ---------------------------------------------------------------------------------------


def test_very_many_records_are_several_batches_and_one_answer() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        entries = [(b"%06d" % index, b"x" * 1000) for index in range(2 * BATCH_BYTES // 1000)]
        answer = serving.put(*entries)
        await turns()
        engine.flush()
        assert number_of(await answer) == 0
        assert serving.shard.machine.entries == dict(entries)
        opened = partition.opened()
        data = b"".join(await buffers_of(opened.read(0, 1 << 24, opened.durable_end)))
        headers = [header for header, _ in split_batches(data)]
        assert len(headers) > 1 and sum(header.record_count for header in headers) == len(entries)
        assert all(header.size < BATCH_BYTES + 2000 for header in headers)

    run(work)


async def buffers_of(reading: Any) -> list[bytes]:
    return reading if isinstance(reading, list) else await reading


async def reloaded(partition: Partition, clock: Clock) -> Serving:
    serving = Serving(partition, clock, MIN_RECORDS)
    await serving.serving()
    return serving


def test_a_load_says_so_and_makes_the_same_state() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        engine.hold = False
        for index in range(MIN_RECORDS - 1):
            await serving.put((b"%d" % index, b"%d" % index), (b"0", None))
        before = serving.shard.machine.entries
        serving.shard.close()
        again = Serving(partition, StillClock(), MIN_RECORDS)
        assert error_of(await again.get(b"1")) is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        await again.serving()
        assert again.shard.machine.entries == before and b"0" not in before
        assert again.shard.machine.times_loaded == 1
        again.shard.close()

    run(work)


def test_what_cannot_be_read_is_passed_over() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        engine.hold = False
        await serving.put((b"a", b"1"))
        records = [NewRecord(b"not for reading", b"?"), NewRecord(None, b"keyless"), NewRecord(b"b", b"2")]
        await partition.append_own(build_batch(records), partition.opening)
        serving.shard.close()
        again = await reloaded(partition, StillClock())
        assert again.shard.machine.entries == {b"a": b"1", b"b": b"2"}
        again.shard.close()

    run(work)


async def snapshot_of(partition: Partition) -> tuple[int, bytes] | None:
    opened = partition.opened()
    return await opened.load_snapshot(SNAPSHOT_KIND, opened.durable_end)


async def saved(serving: Serving) -> None:
    """Until the snapshot on its way is there."""
    if serving.shard.saving.task is not None:
        await asyncio.wait([serving.shard.saving.task])


def test_a_snapshot_is_made_after_so_many_records_and_saves_their_replay() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        engine.hold = False
        for index in range(MIN_RECORDS):
            await serving.put((b"same", b"%d" % index))
        assert await snapshot_of(partition) is None
        await serving.put((b"same", b"99"))
        await saved(serving)
        found = await snapshot_of(partition)
        assert found is not None and found[0] == MIN_RECORDS + 1
        assert list(read_snapshot(found[1])) == [(b"same", b"99")]
        await serving.put((b"more", b"1"))
        serving.shard.close()
        again = await reloaded(partition, StillClock())
        assert again.shard.machine.entries == {b"same": b"99", b"more": b"1"}
        assert again.shard.machine.replayed == 2
        again.shard.close()

    run(work)


def test_a_snapshot_holds_nothing_of_what_comes_behind_its_offset() -> None:
    """A crash may take that back."""

    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        engine.hold = False
        for index in range(MIN_RECORDS):
            await serving.put((b"same", b"%d" % index))
        await asyncio.gather(serving.put((b"same", b"99")), serving.put((b"behind", b"1")))
        await saved(serving)
        found = await snapshot_of(partition)
        assert found is not None and found[0] == MIN_RECORDS + 1
        assert list(read_snapshot(found[1])) == [(b"same", b"99")]

    run(work)


def test_what_is_written_in_a_transaction_counts_when_it_is_committed() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        engine.hold = False

        def put(producer: tuple[int, int], *entries: tuple[bytes, bytes]) -> None:
            def operation(machine: Ledger, outcome: Outcome) -> None:
                outcome.records += [NewRecord(key, value) for key, value in entries]
                outcome.producer = producer

            serving.shard.run(operation)

        async def same_again() -> None:
            again = await reloaded(partition, StillClock())
            assert again.shard.machine.entries == serving.shard.machine.entries
            assert again.shard.machine.pending == serving.shard.machine.pending
            again.shard.close()

        put((5, 0), (b"a", b"1"), (b"b", b"1"))
        put((6, 0), (b"a", b"2"))
        assert serving.shard.machine.entries == {}
        assert partition.offsets().last_stable_offset == 0
        await same_again()
        partition.end_transaction(6, 1, 0, committed=True)
        assert serving.shard.machine.entries == {b"a": b"2"}
        await same_again()
        partition.end_transaction(5, 1, 0, committed=False)
        assert serving.shard.machine.entries == {b"a": b"2"} and not serving.shard.machine.pending
        await same_again()
        put((5, 1), (b"b", b"3"))
        for index in range(MIN_RECORDS + 1):
            await serving.put((b"same", b"%d" % index))
        await turns(20)
        assert await snapshot_of(partition) is None, "what is pending is in no snapshot"
        await same_again()
        partition.end_transaction(5, 2, 0, committed=True)
        await serving.put((b"same", b"99"))
        await saved(serving)
        assert await snapshot_of(partition) is not None
        await same_again()

    run(work)


def test_what_comes_after_the_end_of_its_transaction_is_refused() -> None:
    """The transaction of a request that writes in parts may end between two of them, also by a newer epoch."""

    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        engine.hold = False

        def put(producer: tuple[int, int], key: bytes, continues: bool) -> ErrorCode:
            def operation(machine: Ledger, outcome: Outcome) -> None:
                outcome.records.append(NewRecord(key, b"1"))
                outcome.producer, outcome.continues = producer, continues

            try:
                serving.shard.run(operation)
            except KafkaError as refused:
                return refused.code
            return ErrorCode.NONE

        assert put((5, 0), b"a", continues=False) == ErrorCode.NONE
        assert put((5, 0), b"b", continues=True) == ErrorCode.NONE
        partition.end_transaction(5, 0, 0, committed=True)
        assert put((5, 0), b"c", continues=True) == ErrorCode.INVALID_TXN_STATE
        assert put((5, 0), b"d", continues=False) == ErrorCode.NONE
        partition.end_transaction(5, 1, 0, committed=False)
        for continues in (True, False):
            assert put((5, 0), b"e", continues) == ErrorCode.INVALID_PRODUCER_EPOCH
        assert serving.shard.machine.entries == {b"a": b"1", b"b": b"1"} and not serving.shard.machine.pending
        assert put((5, 1), b"f", continues=False) == ErrorCode.NONE
        partition.end_transaction(5, 1, 0, committed=True)
        assert serving.shard.machine.entries == {b"a": b"1", b"b": b"1", b"f": b"1"}

    run(work)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_is_written_while_a_state_is_prepared_is_not_missed(times: int) -> None:
    """However often that happens, the shard serves in the end."""

    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        engine.hold = False
        await serving.put((b"a", b"1"))
        serving.shard.close()
        for number in range(times):
            foreign = batch_bytes(build_batch([NewRecord(b"foreign %d" % number, b"1", 0)]))
            Ledger.on_prepare.append(lambda foreign=foreign: partition.append(foreign))
        try:
            again = Serving(partition, StillClock(), MIN_RECORDS)
            await again.serving()
        finally:
            Ledger.on_prepare.clear()
        assert again.shard.machine.entries.keys() == {b"a", *(b"foreign %d" % number for number in range(times))}
        assert number_of(await again.get(b"a")) == 1
        again.shard.close()

    run(work)


@pytest.mark.parametrize("passed", range(4))
def test_a_marker_that_comes_while_a_shard_loads_is_not_missed(passed: int) -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        engine.hold = False

        def operation(machine: Ledger, outcome: Outcome) -> None:
            outcome.records.append(NewRecord(b"a", b"1"))
            outcome.producer = 5, 0

        serving.shard.run(operation)
        again = Serving(partition, StillClock(), MIN_RECORDS)
        await turns(passed)
        partition.end_transaction(5, 1, 0, committed=True)
        await again.serving()
        assert again.shard.machine.entries == {b"a": b"1"} and not again.shard.machine.pending
        again.shard.close()

    run(work)


def test_a_snapshot_waits_for_the_flush_and_is_not_kept_when_that_fails() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        lost = [serving.put((b"same", b"%d" % index)) for index in range(MIN_RECORDS + 1)]
        await turns(20)
        assert serving.shard.saving.task is not None
        assert await snapshot_of(partition) is None
        engine.fail()
        assert {error_of(await one) for one in lost} == {ErrorCode.NOT_COORDINATOR}
        await saved(serving)
        await serving.serving()
        assert await snapshot_of(partition) is None
        assert serving.shard.machine.entries == {}

    run(work)


def test_a_stop_leaves_a_snapshot_behind_which_nothing_is_replayed() -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        engine.hold = False
        await serving.put((b"a", b"1"), (b"b", b"2"))
        await serving.put((b"b", None))
        await serving.shard.stop()
        assert error_of(await serving.get(b"a")) is ErrorCode.NOT_COORDINATOR
        again = await reloaded(partition, StillClock())
        assert (again.shard.machine.entries, again.shard.machine.replayed) == ({b"a": b"1"}, 1)
        await again.shard.stop()

    run(work)


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_a_damaged_snapshot_is_passed_over_for_the_one_before_or_the_log(damage: str) -> None:
    async def work(engine: HeldEngine, partition: Partition, serving: Serving) -> None:
        engine.hold = False
        for index in range(3):
            await serving.put((b"%d" % index, b"1"))
        opened = partition.opened()
        whole = write_snapshot([(b"0", b"1"), (b"1", b"1"), (b"2", b"1")], 0)
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        broken = {"cut": whole[:-10], "flipped": bytes(flipped), "foreign": b"no snapshot at all"}[damage]
        with pytest.raises(SnapshotDamaged):
            list(read_snapshot(broken))
        serving.shard.close()

        await opened.save_snapshot(SNAPSHOT_KIND, 3, broken)
        alone = await reloaded(partition, StillClock())
        assert (alone.shard.machine.entries.keys(), alone.shard.machine.replayed) == ({b"0", b"1", b"2"}, 3)
        alone.shard.close()

        await opened.save_snapshot(SNAPSHOT_KIND, 2, write_snapshot([(b"0", b"1"), (b"1", b"5")], 0))
        behind = await reloaded(partition, StillClock())
        # Two from the older snapshot, which says something else than the log, one from the log behind it.
        assert behind.shard.machine.entries == {b"0": b"1", b"1": b"5", b"2": b"1"}
        behind.shard.close()

    run(work)


# --- on files --------------------------------------------------------------------------------------------------------


def test_a_disk_that_fails_fills_up_and_damages_a_snapshot(tmp_path: Path) -> None:
    """What was acknowledged is there, what was refused is not, and a snapshot's damage costs nothing but time."""
    asyncio.run(failing(tmp_path, WatchedDisk(), SystemClock()))
    (snapshot,) = tmp_path.rglob("*.coordinator-snapshot")
    data = bytearray(snapshot.read_bytes())
    data[-1] ^= 255
    snapshot.write_bytes(data)
    asyncio.run(returned(tmp_path, SystemClock()))


async def failing(folder: Path, disk: WatchedDisk, clock: Clock) -> None:
    async with asyncio.timeout(30), engine_at(folder, disk) as engine:
        with ThreadPoolExecutor(2) as executor:
            partition = await opened_on(engine, clock, executor)
            serving = Serving(partition, clock, MIN_RECORDS)
            assert number_of(await serving.put((b"a", b"1"))) == 0
            disk.fail("sync", errno.EIO, IDENTITY.topic)
            assert error_of(await serving.put((b"a", b"2"))) is ErrorCode.NOT_COORDINATOR
            disk.heal()
            await serving.serving()
            assert number_of(await serving.get(b"a")) == 1

            disk.fail("write", errno.ENOSPC, ".log")
            assert error_of(await serving.put((b"a", b"3"), alters=False)) is ErrorCode.COORDINATOR_NOT_AVAILABLE
            assert number_of(await serving.get(b"a")) == 1
            disk.heal()
            assert number_of(await serving.put((b"a", b"4"), alters=False)) == 1
            await serving.shard.stop()
            await partition.close()


async def returned(folder: Path, clock: Clock) -> None:
    async with asyncio.timeout(30), engine_at(folder) as engine:
        with ThreadPoolExecutor(2) as executor:
            partition = await opened_on(engine, clock, executor)
            serving = await reloaded(partition, clock)
            assert serving.shard.machine.entries == {b"a": b"4"}
            assert serving.shard.machine.replayed == 2
            await serving.shard.stop()
            await partition.close()
