"""Lag on a virtual clock: histories whose answer can be worked out by hand, and is written beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odradek.insight.append_history import POINTS_MAX, AppendHistory, PartitionSample
from odradek.insight.lag import LOSSES_KEPT, STALLED_S, Lag, LagWatch, Verdict, sentence
from odradek.insight.lag_forecast import GUARD_BYTES, GUARD_MS, GuardLimits
from odradek.insight.reading_history import INTERVAL_UNKNOWN_S

START_MS = 1_700_000_000_000
RECORD_BYTES = 100
HOUR_MS = 3_600_000
NOON = datetime(2026, 3, 1, 12, 0)


class World:
    """One partition with one group, and time. Records are of `RECORD_BYTES`, and stamped with when they came."""

    def __init__(self, *, retention_ms: int = -1, retention_bytes: int = -1, compact: bool = False) -> None:
        self.now_s = 5_000.0
        self.leapt_ms = 0
        self.start = 0
        self.end = 0
        self.size = 0
        self.committed: int | None = 0
        self.retention_ms = retention_ms
        self.retention_bytes = retention_bytes
        self.compact = compact
        self.delete = True
        self.stable_end = -1
        self.markers_at_end = 0
        self.oldest_ms: Callable[[], int] = lambda: -1
        self.bytes_known = True
        self.guard: GuardLimits | None = None
        self.appends = AppendHistory()
        self.watch = LagWatch()

    @property
    def wall_ms(self) -> int:
        return START_MS + round((self.now_s - 5_000) * 1000) + self.leapt_ms

    def append(self, records: int) -> None:
        self.end += records
        self.size += records * RECORD_BYTES

    def delete_before(self, offset: int) -> None:
        self.size -= (offset - self.start) * RECORD_BYTES
        self.start = offset

    def restart(self) -> None:
        self.appends, self.watch = AppendHistory(), LagWatch()

    def look(self) -> Lag:
        self.appends.add(
            self.now_s,
            PartitionSample(
                self.start,
                self.end,
                self.size,
                self.retention_ms,
                self.retention_bytes,
                self.compact,
                self.delete,
            ),
        )
        position = max(self.committed or 0, self.start)
        return self.watch.look(
            self.appends,
            self.committed,
            self.wall_ms,
            oldest_unread_ms=self.oldest_ms(),
            bytes_behind=max(0, self.end - position) * RECORD_BYTES if self.bytes_known else -1,
            stable_end=self.stable_end,
            markers_at_end=self.markers_at_end,
            guard=self.guard,
        )

    def run(
        self, seconds: int, come: float, read: float, *, commit_every_s: int = 1, look_every_s: int = 1
    ) -> list[Lag]:
        """Whole seconds with so many records a second; commits are of all that was read by then."""
        lags: list[Lag] = []
        assert self.committed is not None
        done = float(self.committed)
        for second in range(1, seconds + 1):
            self.now_s += 1
            self.append(round(come * second) - round(come * (second - 1)))
            done = min(done + read, self.end)
            if second % commit_every_s == 0 and done >= self.committed:
                self.committed = int(done)
            if second % look_every_s == 0:
                lags.append(self.look())
        return lags


def verdicts(lags: Iterable[Lag]) -> set[Verdict]:
    return {lag.verdict for lag in lags}


OK, FALLING_BEHIND, STALLED, WILL_LOSE, HAS_LOST = Verdict

# --- what one look shows -------------------------------------------------------------------------------------------


def test_an_empty_partition_is_read() -> None:
    lag = World().look()
    assert (lag.verdict, lag.records_behind, lag.bytes_behind, lag.seconds_behind) == (OK, 0, 0, 0)
    assert lag.time_to_catch_up_s == 0 and lag.time_to_loss_s is None
    assert sentence(lag, NOON) == "nothing unread"


@pytest.mark.parametrize("committed", [None, -1])
def test_a_group_without_an_offset_has_no_lag(committed: int | None) -> None:
    world = World(retention_ms=1000)
    world.append(50)
    world.committed = committed
    for _ in range(2000):
        lag = world.look()
        world.now_s += 1
    assert (lag.verdict, lag.records_behind, lag.bytes_behind, lag.seconds_behind) == (OK, None, None, None)
    assert sentence(lag, NOON) == "no committed offset"
    assert lag.minute.appended_records_per_s == 0 and lag.minute.committed_records_per_s is None


def test_a_group_without_an_offset_has_nothing_unread_in_an_empty_log() -> None:
    world = World()
    world.start = world.end = 70
    world.committed = None
    assert world.look().records_behind == 0


def test_one_look_has_no_rates_and_no_forecast() -> None:
    world = World(retention_ms=60_000, retention_bytes=10_000)
    world.append(1000)
    world.oldest_ms = lambda: START_MS - 50_000
    lag = world.look()
    assert (lag.records_behind, lag.bytes_behind, lag.seconds_behind) == (1000, 100_000, 50)
    assert lag.minute.appended_records_per_s is None and lag.minute.committed_records_per_s is None
    assert lag.time_to_catch_up_s is None and lag.time_to_loss_s is None
    # Ten seconds from retention by time and ten times beyond the size, but nothing says that it does not move.
    assert lag.verdict is OK


def test_an_offset_beyond_the_end_is_not_behind() -> None:
    world = World()
    world.append(100)
    world.committed = 130
    lag = world.look()
    assert (lag.verdict, lag.records_behind, lag.records_beyond_end) == (OK, 0, 30)
    assert sentence(lag, NOON) == "committed 30 records beyond the end"


def test_a_time_in_the_future_is_not_old() -> None:
    world = World()
    world.append(10)
    world.oldest_ms = lambda: START_MS + HOUR_MS
    assert world.look().seconds_behind == 0


def test_an_unknown_time_is_unknown() -> None:
    world = World()
    world.append(10)
    assert world.look().seconds_behind is None


def test_bytes_are_estimated_where_they_are_not_known() -> None:
    world = World()
    world.bytes_known = False
    world.append(1000)
    world.committed = 750
    lag = world.look()
    # A quarter of 100,000 bytes.
    assert (lag.bytes_behind, lag.bytes_estimated) == (25_000, True)
    assert sentence(lag, NOON) == "250 records (about 25 kB) behind"
    world.compact = True
    assert world.look().bytes_behind is None
    world.committed = 0
    assert world.look().bytes_behind == 100_000


def test_committed_reading_ends_at_the_stable_offset() -> None:
    world = World()
    world.append(100)
    world.committed, world.stable_end = 60, 60
    lags = world.run(2 * int(STALLED_S), come=1, read=0)
    assert verdicts(lags) == {OK} and lags[-1].records_behind == 0
    world.stable_end = 75
    assert world.look().records_behind == 15
    # Somebody else of the group may read what is not committed.
    world.committed = 90
    assert world.look().records_behind == 0 and world.look().records_beyond_end == 0


def test_a_marker_behind_the_last_record_is_nothing_unread() -> None:
    world = World()
    world.append(100)
    world.committed, world.stable_end, world.markers_at_end = 99, 100, 1
    assert world.look().records_behind == 0
    world.committed = 98
    assert world.look().records_behind == 2


# --- rates, and what follows from them -----------------------------------------------------------------------------


def test_rates_in_and_out_and_the_time_to_catch_up() -> None:
    world = World()
    world.append(100_000)
    lag = world.run(300, come=100, read=150)[-1]
    for rates in (lag.minute, lag.ten_minutes):
        assert rates.appended_records_per_s == 100
        assert rates.appended_bytes_per_s == 100 * RECORD_BYTES
        assert rates.committed_records_per_s == 150
    # 100,000 + 300 * (100 - 150) are left, and become 50 fewer every second.
    assert lag.records_behind == 85_000
    assert lag.time_to_catch_up_s == 1700
    assert lag.verdict is OK
    assert sentence(lag, NOON) == "85,000 records (8.5 MB) behind, caught up in 28 min at these rates"


def test_the_minute_forgets_what_the_ten_minutes_remember() -> None:
    world = World()
    world.run(240, come=100, read=100)
    lag = world.run(60, come=0, read=100)[-1]
    assert lag.minute.appended_records_per_s == 0
    # The oldest look is 299 s old; from then on 239 s with 100 a second came.
    assert lag.ten_minutes.appended_records_per_s == pytest.approx(239 * 100 / 299)


def test_a_slower_reader_falls_behind() -> None:
    world = World()
    lags = world.run(600, come=1000, read=800)
    assert lags[-1].verdict is FALLING_BEHIND
    assert lags[-1].time_to_catch_up_s is None
    assert sentence(lags[-1], NOON) == (
        "falls behind: 120,000 records (12 MB) behind, 1,000 records/s come and 800 are read"
    )
    # Not before two minutes are known.
    assert verdicts(lags[:120]) == {OK}


def test_a_reader_within_noise_does_not() -> None:
    # 2% slower: no difference that ten minutes could tell from noise.
    assert verdicts(World().run(1200, come=1000, read=980)) == {OK}


def test_a_reader_that_keeps_a_constant_distance_is_fine() -> None:
    world = World()
    world.append(50_000)
    lags = world.run(1800, come=200, read=200)
    assert verdicts(lags) == {OK} and lags[-1].records_behind == 50_000
    assert lags[-1].time_to_catch_up_s is None


@pytest.mark.parametrize("interval_s", [10, 45, 60, 200, 300])
@pytest.mark.parametrize("look_every_s", [1, 7, 10])
def test_a_group_that_commits_in_jumps_is_fine(interval_s: int, look_every_s: int) -> None:
    lags = World().run(3600, come=100, read=100, commit_every_s=interval_s, look_every_s=look_every_s)
    assert verdicts(lags) == {OK}
    # One interval is seen to end up to one look late.
    assert lags[-1].ten_minutes.committed_records_per_s == pytest.approx(100, rel=2 * look_every_s / interval_s)


def test_a_group_that_commits_every_twenty_minutes_is_learnt() -> None:
    lags = World().run(4 * 3600, come=100, read=100, commit_every_s=1200, look_every_s=10)
    # The first interval is seen from the first look, at which nothing came yet, and is longer than a group is trusted
    # for that has no habits; from the second on it is known.
    assert verdicts(lags[241:]) == {OK}


def test_a_slower_reader_that_commits_in_jumps_falls_behind() -> None:
    lags = World().run(1800, come=100, read=50, commit_every_s=60)
    assert lags[-1].verdict is FALLING_BEHIND
    assert lags[-1].ten_minutes.committed_records_per_s == 50


def test_bursts_that_are_read_are_no_falling_behind() -> None:
    world = World()
    lags: list[Lag] = []
    for _ in range(20):
        lags += world.run(20, come=1000, read=200)
        lags += world.run(100, come=0, read=200)
    assert verdicts(lags) == {OK}


def test_an_idle_topic_is_fine_for_ever() -> None:
    world = World(retention_ms=HOUR_MS, retention_bytes=1)
    world.run(60, come=10, read=10)
    lags = world.run(100_000, come=0, read=0, look_every_s=10)
    assert verdicts(lags) == {OK}
    assert lags[-1].ten_minutes.committed_records_per_s == 0


# --- stalled -------------------------------------------------------------------------------------------------------


def test_a_reader_that_stops_is_stalled_after_a_while() -> None:
    world = World()
    world.run(120, come=10, read=10, commit_every_s=5)
    lags = world.run(600, come=10, read=0)
    stalled = [lag.verdict is STALLED for lag in lags]
    # Its last look with nothing unread, or its last commit, was at the beginning.
    assert stalled.index(True) == STALLED_S - 1 and all(stalled[int(STALLED_S) :])
    assert lags[-1].waited_s == 600 and lags[-1].records_behind == 6000
    assert lags[-1].ten_minutes.committed_records_per_s == 0
    assert sentence(lags[-1], NOON) == "stalled for 10 min: 6,000 records (600 kB) behind"


def test_after_a_start_a_group_has_longer() -> None:
    world = World()
    world.append(1000)
    lags = world.run(700, come=10, read=0)
    stalled = [lag.verdict is STALLED for lag in lags]
    assert stalled.index(True) == 2 * INTERVAL_UNKNOWN_S


def test_waiting_begins_when_something_is_unread() -> None:
    world = World()
    world.run(60, come=1, read=1)
    assert verdicts(world.run(7200, come=0, read=0)) == {OK}
    world.append(5)
    world.now_s += 1
    lag = world.look()
    assert lag.verdict is OK and lag.waited_s == 1


def test_a_long_stop_does_not_count_for_ever() -> None:
    world = World()
    world.append(1_000_000)
    world.run(100, come=10, read=20)
    assert world.run(1000, come=10, read=0)[-1].verdict is STALLED
    assert world.run(1, come=10, read=20)[-1].verdict is OK
    world.run(20, come=10, read=20)
    assert world.run(310, come=10, read=0)[-1].verdict is STALLED


def test_looks_far_apart_say_less() -> None:
    world = World()
    world.append(100_000)
    world.run(900, come=0, read=10, look_every_s=300)
    # Two looks without progress are needed, and here as long as two of its usual intervals.
    lags = world.run(1200, come=0, read=0, look_every_s=300)
    assert [lag.verdict for lag in lags] == [OK, STALLED, STALLED, STALLED]


# --- losses to come ------------------------------------------------------------------------------------------------


def test_retention_by_time_takes_a_stalled_group() -> None:
    world = World(retention_ms=2 * HOUR_MS)
    world.run(100, come=10, read=10)
    stopped_ms = world.wall_ms
    world.oldest_ms = lambda: stopped_ms
    lag = world.run(600, come=10, read=0)[-1]
    # 600 s old, and ages a second a second: 7200 - 600.
    assert (lag.verdict, lag.time_to_loss_s, lag.loss_by) == (WILL_LOSE, 6600, "retention.ms")
    assert sentence(lag, NOON) == (
        "will lose at 13:50: 6,000 records (600 kB) behind, 10 min old, "
        "retention.ms takes them in 1 h 50 min at these rates"
    )


def test_a_loss_beyond_the_horizon_is_no_alarm() -> None:
    world = World(retention_ms=7 * 24 * HOUR_MS)
    world.run(100, come=10, read=10)
    stopped_ms = world.wall_ms
    world.oldest_ms = lambda: stopped_ms
    lag = world.run(600, come=10, read=0)[-1]
    assert (lag.verdict, lag.time_to_loss_s) == (STALLED, 7 * 86_400 - 600)
    assert sentence(lag, NOON) == (
        "stalled for 10 min: 6,000 records (600 kB) behind, 10 min old, retention.ms takes them in 7 days"
    )


def through_time(world: World, rate: float, age_s: float) -> None:
    """The group's first unread record is `age_s` old now, and goes on by `rate` seconds of record time a second."""
    began_s, began_ms = world.now_s, world.wall_ms
    world.oldest_ms = lambda: began_ms - round(age_s * 1000) + round((world.now_s - began_s) * 1000 * rate)


def test_a_slow_reader_is_reached_by_retention() -> None:
    world = World(retention_ms=20 * 60_000)
    world.append(12_000)
    through_time(world, rate=0.5, age_s=60)
    lag = world.run(300, come=100, read=50)[-1]
    # 60 + 300/2 = 210 s old, and half a second older each second: (1200 - 210) / 0.5.
    assert lag.seconds_behind == 210
    assert lag.time_to_loss_s == pytest.approx(1980)
    assert sentence(lag, NOON) == (
        "will lose at 12:33: 27,000 records (2.7 MB) behind, 4 min old, "
        "retention.ms takes them in 33 min at these rates"
    )


@pytest.mark.parametrize("rate", [1.0, 1.5, 0.97])
def test_a_reader_as_fast_as_time_never_loses(rate: float) -> None:
    world = World(retention_ms=HOUR_MS)
    world.append(1_000_000)
    through_time(world, rate, age_s=3000)
    lags = world.run(600, come=100, read=100)
    assert verdicts(lags) == {OK} and lags[-1].time_to_loss_s is None


def test_a_reader_in_jumps_through_time_never_loses() -> None:
    world = World(retention_ms=HOUR_MS)
    world.append(300_000)
    # 100 records a second for ever: the record at an offset is as old as that says, 3000 s at the committed one.
    world.oldest_ms = lambda: START_MS - 3_000_000 + (world.committed or 0) * 10
    lags = world.run(3600, come=100, read=100, commit_every_s=120)
    assert max(lag.seconds_behind or 0 for lag in lags) == 3119
    assert verdicts(lags) == {OK} and lags[-1].time_to_loss_s is None


def test_times_of_producers_that_make_no_sense_make_no_alarm_of_a_reader_that_keeps_up() -> None:
    world = World(retention_ms=HOUR_MS)
    world.append(20)
    # Records of three years ago, and every other one of next year: read within a second.
    world.oldest_ms = lambda: START_MS + (-3 if int(world.now_s) % 2 else 1) * 365 * 24 * HOUR_MS
    lags = world.run(1200, come=50, read=50)
    assert verdicts(lags) == {OK}
    assert min(lag.seconds_behind or 0 for lag in lags) == 0


def test_what_is_too_old_already_goes_any_moment() -> None:
    world = World(retention_ms=60_000)
    world.append(1_000_000)
    through_time(world, rate=0.5, age_s=3000)
    lag = world.run(300, come=100, read=50)[-1]
    # A million at 50 a second: not through at the next check.
    assert (lag.verdict, lag.time_to_loss_s) == (WILL_LOSE, 0)
    assert sentence(lag, NOON).startswith("may lose any moment: 1,015,000 records")


def test_retention_by_size_takes_a_slow_reader() -> None:
    world = World(retention_bytes=10_000_000)
    world.append(10_000)
    lag = world.run(600, come=100, read=40)[-1]
    # 46,000 records behind are 4.6 MB; 60 records, 6000 bytes more every second: 5.4 MB / 6000.
    assert lag.bytes_behind == 4_600_000
    assert (lag.verdict, lag.loss_by) == (WILL_LOSE, "retention.bytes")
    assert lag.time_to_loss_s == pytest.approx(900)


def test_retention_by_size_takes_a_stalled_group_by_what_comes() -> None:
    world = World(retention_bytes=10_000_000)
    world.append(1000)
    world.run(20, come=100, read=200)
    lag = world.run(600, come=100, read=0)[-1]
    # It was through; now 60,000 records are 6 MB, and 10,000 bytes more every second.
    assert (lag.verdict, lag.bytes_behind) == (WILL_LOSE, 6_000_000)
    assert lag.time_to_loss_s == pytest.approx(400)


def test_the_earlier_of_two_retentions_counts() -> None:
    world = World(retention_ms=3 * HOUR_MS, retention_bytes=10_000_000)
    world.run(100, come=100, read=100)
    stopped_ms = world.wall_ms
    world.oldest_ms = lambda: stopped_ms
    lag = world.run(400, come=100, read=0)[-1]
    # By size (10,000,000 - 4,000,000) / 10,000; by time 10,800 - 400.
    assert (lag.loss_by, lag.time_to_loss_s) == ("retention.bytes", pytest.approx(600))
    world.retention_ms = 800_000
    lag = world.look()
    assert (lag.loss_by, lag.time_to_loss_s) == ("retention.ms", pytest.approx(400))


@pytest.mark.parametrize(
    ("retention_ms", "retention_bytes", "guard", "loss_by", "time_to_loss_s"),
    [
        # Without a guard, what follows is put off from: it is 600 s old, and has 600 kB.
        (HOUR_MS, -1, None, "retention.ms", 3000),
        (-1, 5_000_000, None, "retention.bytes", 4400),
        # Longer than retention, or for ever.
        (HOUR_MS, -1, GuardLimits(2 * HOUR_MS, -1, False), GUARD_MS, 10_200),
        (HOUR_MS, -1, GuardLimits(-1, -1, False), "", None),
        (-1, 5_000_000, GuardLimits(-1, 5_000_000, False), GUARD_BYTES, 9400),
        # So much of what is too old: when there is so much, or when it is too old, if that is later.
        (HOUR_MS, -1, GuardLimits(-1, 10_000_000, False), GUARD_BYTES, 9400),
        (HOUR_MS, -1, GuardLimits(-1, 1_000_000, False), GUARD_BYTES, 3000),
        # So old of what is too much.
        (-1, 5_000_000, GuardLimits(1_000_000, -1, False), GUARD_MS, 4400),
        (-1, 5_000_000, GuardLimits(5_000_000, -1, False), GUARD_MS, 4400),
        (-1, 5_000_000, GuardLimits(6_000_000, -1, False), GUARD_MS, 5400),
        # The earliest of all.
        (HOUR_MS, 5_000_000, GuardLimits(HOUR_MS, 500_000, False), GUARD_BYTES, 3000),
        # Producers wait instead.
        (HOUR_MS, 5_000_000, GuardLimits(0, 0, True), "", None),
    ],
)
def test_a_guard_puts_a_loss_off(
    retention_ms: int, retention_bytes: int, guard: GuardLimits | None, loss_by: str, time_to_loss_s: float | None
) -> None:
    world = World(retention_ms=retention_ms, retention_bytes=retention_bytes)
    world.guard = guard
    world.run(100, come=10, read=10)
    stopped_ms = world.wall_ms
    world.oldest_ms = lambda: stopped_ms
    lag = world.run(600, come=10, read=0)[-1]
    assert (lag.loss_by, lag.time_to_loss_s) == (loss_by, time_to_loss_s)


def test_what_deletes_nothing_loses_nothing() -> None:
    world = World(retention_ms=1000, retention_bytes=1000, compact=True)
    world.delete = False
    world.append(100)
    world.oldest_ms = lambda: START_MS
    lag = world.run(700, come=1, read=0)[-1]
    assert (lag.verdict, lag.time_to_loss_s, lag.loss_by) == (STALLED, None, "")


def test_a_full_log_that_nobody_writes_to_loses_nothing_by_size() -> None:
    world = World(retention_bytes=1000)
    world.append(100)
    assert world.run(700, come=0, read=0)[-1].time_to_loss_s is None


# --- losses that were ----------------------------------------------------------------------------------------------


def test_a_loss_is_counted_once() -> None:
    world = World()
    world.append(1000)
    world.run(10, come=0, read=10)
    world.delete_before(300)
    lag = world.look()
    # 100 was committed.
    assert (lag.verdict, lag.lost_records, lag.records_behind) == (HAS_LOST, 200, 700)
    assert [(loss.from_offset, loss.to_offset, loss.seen_ms) for loss in lag.losses] == [(100, 300, START_MS + 10_000)]
    for _ in range(5):
        world.now_s += 60
        assert world.look().lost_records == 200
    assert sentence(world.look(), NOON) == (
        "has lost 200 records: offsets 100 to 299 were deleted unread, seen at 11:55; 700 records (70 kB) behind"
    )
    # It goes on: still one loss.
    world.delete_before(400)
    lag = world.look()
    assert (lag.lost_records, len(lag.losses), lag.losses[0].to_offset) == (300, 1, 400)


def test_a_loss_is_told_of_for_an_hour() -> None:
    world = World()
    world.append(1000)
    world.look()
    world.delete_before(500)
    world.look()
    world.committed = 500
    assert verdicts(world.run(3599, come=1, read=2)) == {HAS_LOST}
    lag = world.run(1, come=1, read=2)[-1]
    assert (lag.verdict, lag.lost_records) == (OK, 500)


def test_what_was_lost_is_no_progress() -> None:
    world = World()
    world.append(10_000)
    world.run(10, come=0, read=10)
    world.delete_before(5000)
    world.look()
    world.committed = 5000
    lag = world.run(50, come=0, read=10)[-1]
    assert lag.ten_minutes.committed_records_per_s == pytest.approx(10, rel=0.05)


def test_two_losses_are_two() -> None:
    world = World()
    world.append(1000)
    world.look()
    for begin in range(100, 1000, 40):
        world.committed = begin
        world.delete_before(begin + 20)
        world.now_s += 1
        lag = world.look()
    # 23 times 20 records; the newest are remembered.
    assert lag.lost_records == 23 * 20 and len(lag.losses) == LOSSES_KEPT
    assert sentence(lag, NOON).startswith("has lost 460 records: the newest, offsets 980 to 999 were deleted unread")


def test_a_start_finds_what_is_missing() -> None:
    world = World()
    world.append(1000)
    world.delete_before(400)
    world.committed = 100
    lag = world.look()
    assert (lag.verdict, lag.lost_records, lag.records_behind) == (HAS_LOST, 300, 600)


# --- what confuses -------------------------------------------------------------------------------------------------


def test_an_offset_set_back_is_neither_slow_nor_negative() -> None:
    world = World()
    world.append(100_000)
    world.run(200, come=100, read=500)
    world.committed = 0
    lags = world.run(200, come=100, read=500)
    assert verdicts(lags) == {OK}
    assert all((lag.minute.committed_records_per_s or 0) >= 0 for lag in lags)
    assert lags[-1].minute.committed_records_per_s == 500
    # Of 140,000 records 100,000 are read again, and 400 a second more than come. The look that saw it set back saw no
    # progress, though a second's worth was read again by then.
    assert lags[-1].records_behind == 40_000
    assert lags[-1].time_to_catch_up_s == pytest.approx(100, rel=0.005)


def test_an_offset_set_back_before_the_start_has_lost_nothing() -> None:
    world = World()
    world.append(1000)
    world.committed = 600
    world.delete_before(500)
    world.look()
    world.committed = 0
    world.now_s += 1
    lag = world.look()
    assert (lag.verdict, lag.lost_records, lag.records_behind) == (OK, 0, 500)
    # From here on it can lose again.
    world.delete_before(550)
    assert world.look().lost_records == 50


def test_an_offset_set_ahead_is_nothing_lost() -> None:
    world = World()
    world.append(100_000)
    world.run(10, come=0, read=1)
    world.committed = 100_000
    world.now_s += 1
    lag = world.look()
    assert (lag.verdict, lag.records_behind, lag.lost_records) == (OK, 0, 0)


def test_a_truncation_is_no_negative_rate() -> None:
    world = World()
    world.run(100, come=10, read=10)
    world.end, world.size = 900, 90_000
    lags = [world.look(), *world.run(50, come=1, read=0)]
    assert verdicts(lags) == {OK}
    assert {lag.records_behind for lag in lags} == {0}
    assert lags[0].records_beyond_end == 100 and lags[-1].records_beyond_end == 50
    assert all((lag.minute.appended_records_per_s or 0) >= 0 for lag in lags)
    assert all((lag.minute.appended_bytes_per_s or 0) >= 0 for lag in lags)


def test_a_start_forgets_and_gives_no_alarm() -> None:
    world = World(retention_ms=HOUR_MS)
    world.append(100_000)
    through_time(world, rate=1.0, age_s=3500)
    world.run(600, come=100, read=100)
    world.restart()
    # 100 s before retention, and committing rarely.
    assert verdicts(world.run(590, come=100, read=100, commit_every_s=200)) == {OK}


def test_deleted_offsets_begin_afresh() -> None:
    world = World()
    world.run(100, come=10, read=10)
    world.committed = None
    world.now_s += 1
    assert world.look().records_behind is None
    world.committed = 10
    world.now_s += 1
    lag = world.look()
    assert (lag.verdict, lag.records_behind, lag.minute.committed_records_per_s) == (OK, 990, None)


def test_a_monotonic_clock_that_goes_back_begins_afresh() -> None:
    world = World()
    world.append(10_000)
    world.run(100, come=10, read=5)
    world.now_s -= 50
    lag = world.look()
    assert lag.minute.appended_records_per_s is None and lag.verdict is OK
    assert world.run(60, come=10, read=5)[-1].minute.committed_records_per_s == 5


def test_a_long_pause_is_no_stall() -> None:
    world = World()
    world.append(10_000)
    world.run(100, come=10, read=5)
    world.now_s += 20_000
    lag = world.look()
    assert lag.verdict is OK and lag.waited_s == 0 and lag.minute.appended_records_per_s is None


def test_wall_time_that_leaps_changes_ages_but_no_rates() -> None:
    world = World(retention_ms=10 * HOUR_MS)
    world.append(10_000)
    world.oldest_ms = lambda: START_MS - 60_000 + round((world.now_s - 5000) * 1000)
    assert world.run(300, come=10, read=10)[-1].seconds_behind == 60
    world.leapt_ms = HOUR_MS
    lags = world.run(300, come=10, read=10)
    assert lags[-1].seconds_behind == 3660 and verdicts(lags) == {OK}
    world.leapt_ms = -HOUR_MS
    lags = world.run(300, come=10, read=10)
    assert lags[-1].seconds_behind == 0 and verdicts(lags) == {OK}


def test_deletions_do_not_hide_what_comes() -> None:
    world = World()
    world.append(10_000)
    world.committed = 10_000
    for _ in range(120):
        world.run(1, come=100, read=100)
        world.delete_before(world.end - 10_000)
    assert world.look().minute.appended_bytes_per_s == pytest.approx(100 * RECORD_BYTES)


# --- properties ----------------------------------------------------------------------------------------------------


@given(
    come=st.integers(0, 10_000),
    read=st.integers(1, 10_000),
    gaps=st.lists(st.integers(1, 50), min_size=2, max_size=60),
)
def test_a_constant_history_gives_exact_rates(come: int, read: int, gaps: list[int]) -> None:
    world = World()
    world.append(10_000 * sum(gaps))
    behind = world.end
    world.look()
    for gap_s in gaps:
        world.now_s += gap_s
        world.append(come * gap_s)
        assert world.committed is not None
        world.committed += read * gap_s
        behind += (come - read) * gap_s
        lag = world.look()
    assert (lag.records_behind, lag.bytes_behind) == (behind, behind * RECORD_BYTES)
    for rates in (lag.minute, lag.ten_minutes):
        assert rates.appended_records_per_s == pytest.approx(come)
        assert rates.appended_bytes_per_s == pytest.approx(come * RECORD_BYTES)
        assert rates.committed_records_per_s == pytest.approx(read)
    if behind == 0:
        assert lag.time_to_catch_up_s == 0
    elif read > come:
        assert lag.time_to_catch_up_s == pytest.approx(behind / (read - come))
    else:
        assert lag.time_to_catch_up_s is None


@given(age_s=st.integers(0, 3000), percent=st.integers(0, 200))
@settings(max_examples=30)
def test_a_constant_age_growth_gives_the_exact_time_to_loss(age_s: int, percent: int) -> None:
    world = World(retention_ms=HOUR_MS)
    world.append(1_000_000)
    through_time(world, rate=percent / 100, age_s=age_s)
    lag = world.run(180, come=10, read=5, look_every_s=3)[-1]
    growth = 1 - percent / 100
    if growth > 0.1:
        assert lag.seconds_behind is not None
        assert lag.time_to_loss_s == pytest.approx((3600 - lag.seconds_behind) / growth, rel=1e-3)
    elif growth <= 0.03:
        assert lag.time_to_loss_s is None


steps = st.tuples(
    st.floats(-100, 2000, allow_nan=False),
    st.integers(-50, 500),
    st.integers(-1, 5000),
    st.integers(0, 200),
    st.integers(-1, 2 * START_MS),
)


@given(st.lists(steps, max_size=80))
def test_whatever_is_looked_at_memory_is_bounded_and_nothing_is_negative(
    history: list[tuple[float, int, int, int, int]],
) -> None:
    world = World(retention_ms=60_000, retention_bytes=3000)
    for elapsed_s, come, committed, deleted, oldest_ms in history:
        world.now_s += elapsed_s
        world.end = max(world.start, world.end + come)
        world.start = min(world.end, world.start + deleted)
        world.size = (world.end - world.start) * RECORD_BYTES
        world.committed = committed
        world.oldest_ms = lambda oldest_ms=oldest_ms: oldest_ms
        lag = world.look()
        numbers = [
            lag.records_behind,
            lag.bytes_behind,
            lag.seconds_behind,
            lag.records_beyond_end,
            lag.waited_s,
            lag.time_to_catch_up_s,
            lag.time_to_loss_s,
            lag.lost_records,
        ]
        for rates in (lag.minute, lag.ten_minutes):
            numbers += [rates.appended_records_per_s, rates.appended_bytes_per_s, rates.committed_records_per_s]
        assert all(number is None or (number >= 0 and math.isfinite(number)) for number in numbers)
        assert (lag.time_to_loss_s is None) == (lag.loss_by == "")
        assert world.appends.points_kept <= POINTS_MAX and world.watch.points_kept <= POINTS_MAX + 1
        assert len(lag.losses) <= LOSSES_KEPT
        assert "\n" not in sentence(lag, NOON)


def test_memory_is_bounded_over_a_day() -> None:
    world = World()
    world.append(10_000_000)
    world.run(86_400, come=1, read=2)
    assert world.appends.points_kept <= POINTS_MAX and world.watch.points_kept <= POINTS_MAX + 1
