"""Every state that a power cut could leave, of histories by seed: does it recover?

Role: record histories (`log_histories`), walk them event by event, make states of each point (`power_cut`), and open an
engine on each (`log_histories.check`); now and then cut the recovery, too. The same seed and count make the same
states.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

from odradek.engines.local import Disk
from tests.adversity.log_histories import AllFacts, check, record
from tests.adversity.memory_disk import MemoryDisk, copy_folder, run
from tests.adversity.power_cut import Model, fingerprint, states
from tests.adversity.recorded_disk import Event, Mark, RecordedDisk
from tests.adversity.torture import Report

STEPS = 25
# States made of one point, and of one history: the rest of the number goes to further seeds.
STATES_A_POINT = 3
STATES_A_HISTORY = 250
# One state in so many has its recovery cut as well.
RECOVERY_CUT = 8
LOSSES_MAX = 20


def _points(events: list[Event], chance: random.Random, count: int) -> set[int]:
    """After which events the power is cut."""
    changes = [number for number, event in enumerate(events) if not isinstance(event, Mark)]
    return set(changes if len(changes) <= count else chance.sample(changes, count))


def cuts(seed: int, count: int, disk_type: type[RecordedDisk] = RecordedDisk) -> Iterator[tuple[str, list[str]]]:
    """Up to `count` states of one history: where each was cut, and what was lost."""
    chance = random.Random(seed)
    recording = run(record(seed, STEPS, disk_type(MemoryDisk())))
    points = _points(recording.events, chance, count // STATES_A_POINT)
    model, facts = Model(recording.base), AllFacts()
    seen: set[tuple[bytes, int]] = set()
    marks = made = 0
    for number, event in enumerate(recording.events):
        if isinstance(event, Mark):
            facts.apply(event.what)
            marks += 1
            continue
        model.apply(event)
        if number not in points:
            continue
        for state in states(model, chance, STATES_A_POINT):
            known = (fingerprint(state), marks)
            if known in seen:
                continue
            seen.add(known)
            where = f"seed {seed}, event {number}, state {made}"
            made += 1
            again = copy_folder(state)
            yield where, _losses(MemoryDisk(copy_folder(state)), facts, chance)
            if made % RECOVERY_CUT == 0:
                yield from _cut_recovery(where, again, facts, chance)
            if made >= count:
                return


def _losses(disk: Disk, facts: AllFacts, chance: random.Random, goes_on: bool = True) -> list[str]:
    try:
        return run(check(disk, copy.deepcopy(facts), chance, goes_on=goes_on))
    except Exception as error:  # noqa: BLE001 - whatever it is, what was promised cannot be read
        return [f"{type(error).__name__}: {error}"]


def _cut_recovery(
    where: str, state: dict[str, Any], facts: AllFacts, chance: random.Random
) -> Iterator[tuple[str, list[str]]]:
    """The power goes again while what it left is recovered."""
    disk = RecordedDisk(MemoryDisk(state))
    losses = _losses(disk, facts, chance, goes_on=False)
    events = [event for event in disk.recording.events if not isinstance(event, Mark)]
    yield f"{where}, recovered", losses
    if not events:
        return
    model = Model(disk.recording.base)
    last = chance.randrange(len(events))
    for event in events[: last + 1]:
        model.apply(event)
    (left,) = list(states(model, chance, 1))[:1]
    yield f"{where}, recovery cut at {last}", _losses(MemoryDisk(copy_folder(left)), facts, chance)


def campaign(seed: int, count: int, disk_type: type[RecordedDisk] = RecordedDisk) -> Report:
    """`count` states; no more once `LOSSES_MAX` losses are found."""
    report = Report(0, "states")
    while report.done < count and len(report.losses) < LOSSES_MAX:
        for where, losses in islice(cuts(seed, STATES_A_HISTORY, disk_type), count - report.done):
            report.done += 1
            report.losses += [f"{where}: {loss}" for loss in losses]
        seed += 1
    return report
