"""Deadlines by a scheduler whose time is chosen."""

from __future__ import annotations

import asyncio

from odradek.handlers.deadlines import RESOLUTION_S, Deadlines
from tests.insight.test_loop_delay import Scheduler


def test_what_is_not_done_when_its_time_is_over_expires() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        scheduler = Scheduler()
        deadlines = Deadlines(scheduler)
        expired: list[str] = []
        soon, done, later = loop.create_future(), loop.create_future(), loop.create_future()
        deadlines.add(50, soon, lambda: expired.append("soon"))
        deadlines.add(50, done, lambda: expired.append("done"))
        deadlines.add(1000, later, lambda: expired.append("later"))
        done.set_result(None)
        assert len(scheduler.asked) == 1 and scheduler.asked[0][0] == scheduler.clock.now_s + RESOLUTION_S
        scheduler.come(0.0)
        assert expired == ["soon"]
        # Its time is not over yet, though the timer comes; then the timer comes late.
        scheduler.come(0.0)
        assert expired == ["soon"]
        scheduler.come(1.0)
        assert expired == ["soon", "later"] and scheduler.asked == []
        deadlines.add(1000, later, lambda: None)
        timer = scheduler.asked[0][3]
        deadlines.close()
        assert timer.cancelled

    asyncio.run(work())
