"""Long requests in turns: short ones end at once, long ones let others between, one of them a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest

from odradek.handlers.turns import LATER, TURN_S, InTurns, Turns

STEP_S = TURN_S / 10


class Work:
    """Steps that each take a tenth of a turn by a clock of their own."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.turns = Turns(lambda: self.now_s)
        self.done: list[str] = []

    def steps(self, name: str, count: int) -> Generator[None, None, str]:
        for _ in range(count):
            self.now_s += STEP_S
            self.done.append(name)
            yield
        return name


def test_what_is_short_ends_at_once() -> None:
    work = Work()
    assert work.turns.begin(work.steps("a", 9)) == "a"


def test_what_is_long_lets_others_between() -> None:
    async def run() -> None:
        work = Work()
        begun = work.turns.begin(work.steps("a", 35))
        assert isinstance(begun, InTurns)
        loops = 0
        while not begun.done():
            before = len(work.done)
            await asyncio.sleep(0)
            loops += 1
            assert len(work.done) - before <= 11
        assert begun.result() == "a"
        assert loops >= 3

    asyncio.run(run())


def test_of_several_one_has_its_turn_at_a_time() -> None:
    async def run() -> None:
        work = Work()
        begun = [work.turns.begin(work.steps(name, 30)) for name in "abc"]
        # The others' first turns are short while one is in turns already.
        assert work.done.count("a") >= 10 and work.done.count("b") <= 2 and work.done.count("c") <= 2
        while not all(isinstance(one, InTurns) and one.done() for one in begun):
            before = len(work.done)
            await asyncio.sleep(0)
            assert len(set(work.done[before:])) <= 1
            assert len(work.done) - before <= 11
        assert [one.result() for one in begun if isinstance(one, InTurns)] == ["a", "b", "c"]

    asyncio.run(run())


def test_a_failure_is_told_and_keeps_no_other() -> None:
    async def run() -> None:
        work = Work()

        def failing() -> Generator[None, None, str]:
            yield from work.steps("x", 15)
            raise RuntimeError("broken")

        failed, whole = work.turns.begin(failing()), work.turns.begin(work.steps("a", 30))
        assert isinstance(failed, InTurns) and isinstance(whole, InTurns)
        with pytest.raises(RuntimeError, match="broken"):
            await failed
        assert await whole == "a"

    asyncio.run(run())


def test_what_is_cancelled_ends_at_its_last_step() -> None:
    async def run() -> None:
        work = Work()
        ended: list[str] = []

        def noting() -> Generator[None, None, str]:
            try:
                yield from work.steps("x", 100)
            finally:
                ended.append("x")
            return "x"

        gone, whole = work.turns.begin(noting()), work.turns.begin(work.steps("a", 30))
        assert isinstance(gone, InTurns) and isinstance(whole, InTurns)
        done = len([one for one in work.done if one == "x"])
        gone.cancel()
        assert await whole == "a"
        assert ended == ["x"] and work.done.count("x") == done

    asyncio.run(run())


def test_whose_answer_will_be_long_goes_on_later_however_quick_it_was() -> None:
    async def run() -> None:
        work = Work()

        def quick() -> Generator[str | None, None, str]:
            yield
            yield LATER
            return "q"

        begun = work.turns.begin(quick())
        assert isinstance(begun, InTurns) and not begun.done()
        assert await begun == "q"


def test_what_waits_for_a_future_takes_no_turns_until_it_is_done() -> None:
    async def run() -> None:
        work = Work()
        wanted: list[asyncio.Future[None]] = [asyncio.get_running_loop().create_future() for _ in range(2)]

        def waiting() -> Generator[asyncio.Future[None] | None, None, str]:
            for future in wanted:
                yield from work.steps("x", 15)
                yield future
            return "x"

        late, other = work.turns.begin(waiting()), work.turns.begin(work.steps("a", 50))
        assert isinstance(late, InTurns) and isinstance(other, InTurns)
        assert await other == "a"
        assert work.done.count("x") == 15 and not late.done()
        wanted[0].set_result(None)
        begun = work.turns.begin(work.steps("b", 50))
        assert isinstance(begun, InTurns)
        assert await begun == "b"
        assert work.done.count("x") == 30 and not late.done()
        wanted[1].set_result(None)
        assert await late == "x"

    asyncio.run(run())


def test_a_task_waits_for_its_steps() -> None:
    async def run() -> None:
        work = Work()
        assert await work.turns.run(work.steps("a", 3)) == "a"
        others = asyncio.ensure_future(work.turns.run(work.steps("b", 35)))
        assert await work.turns.run(work.steps("c", 5)) == "c"
        assert await others == "b"


def test_what_is_cancelled_while_it_waits_ends_when_that_is_done() -> None:
    async def run() -> None:
        work = Work()
        wanted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended: list[str] = []

        def waiting() -> Generator[asyncio.Future[None], None, str]:
            try:
                yield wanted
                ended.append("whole")
            finally:
                ended.append("closed")
            return "x"

        late = work.turns.begin(waiting())
        assert isinstance(late, InTurns)
        late.cancel()
        wanted.set_result(None)
        for _ in range(3):
            await asyncio.sleep(0)
        assert ended == ["closed"]

    asyncio.run(run())
