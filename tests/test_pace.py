"""Long work on the loop: a turn of the loop does so much of it, of all tasks that share a pace together."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

from odradek.pace import PACE_S, Pace

STEP_S = PACE_S / 10


class Work:
    """Steps that each take a tenth of what one turn may, by a clock of their own."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pace = Pace(lambda: self.now_s)
        self.done: list[str] = []

    def step(self, name: str) -> None:
        self.now_s += STEP_S
        self.done.append(name)

    async def walk(self, name: str, count: int) -> None:
        for _ in range(count):
            self.step(name)
            await self.pace.give_way()

    async def turns(self, *tasks: asyncio.Future[object]) -> list[int]:
        """How much each turn of the loop did, until all are done."""
        found = []
        while not all(task.done() for task in tasks):
            before = len(self.done)
            await asyncio.sleep(0)
            found.append(len(self.done) - before)
        return found


def test_what_is_short_needs_no_second_turn() -> None:
    async def run() -> None:
        work = Work()
        for _ in range(3):
            turns = await work.turns(asyncio.ensure_future(work.walk("a", 9)))
            assert turns[0] == 9
            work.now_s += 100

    asyncio.run(run())


def test_what_is_long_lets_others_between() -> None:
    async def run() -> None:
        work = Work()
        turns = await work.turns(asyncio.ensure_future(work.walk("a", 100)))
        assert max(turns) <= 12 and sum(turns) == 100

    asyncio.run(run())


def test_tasks_that_share_a_pace_share_its_turns() -> None:
    async def run() -> None:
        work = Work()
        turns = await work.turns(*(asyncio.ensure_future(work.walk(name, 20)) for name in "abcdefgh"))
        # Each has begun in the first, with one step.
        assert turns[0] <= 11 + 8 and max(turns[1:]) <= 12 and sum(turns) == 160
        assert set(work.done) == set("abcdefgh")

    asyncio.run(run())


def test_steps_are_walked_to_their_result() -> None:
    async def run() -> None:
        work = Work()

        def steps() -> Generator[None, None, str]:
            for _ in range(50):
                work.step("a")
                yield
            return "end"

        walking = asyncio.ensure_future(work.pace.walk(steps()))
        assert max(await work.turns(walking)) <= 12
        assert await walking == "end"

    asyncio.run(run())
