"""Long campaigns of adversity, by number and seed.

    make torture SEED=7
    make torture COUNT=4                                a short form: so many of each
    python -m tests.adversity.torture states --count 20000 --seed 7
    python -m tests.adversity.torture                   every campaign, each with its own number

Role: the table of campaigns, and their command line. A campaign is `campaign(seed, count) -> Report`; the same seed and
count do the same again, as far as the machine allows. It lives in a module of its own and is named here by
`"module:function"`, so that one campaign does not import what another needs. One line a campaign is printed: how many,
seconds, losses; after a loss how to repeat it, and the command ends with 1.
"""

# ruff: noqa: T201 - a command: its lines are its result

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

SEED = 1
LOSSES_SHOWN = 10


@dataclass
class Report:
    """What a campaign found. `done` counts what it tried (`unit` says of what); `losses` are sentences with the
    evidence and what is needed to see each again, empty where all is well; `notes` are figures worth a line."""

    done: int
    unit: str
    losses: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


Campaign = Callable[[int, int], Report]


@dataclass(frozen=True)
class Entry:
    """A campaign's place (`module:function`) and the number of a full run (`make torture`)."""

    place: str
    count: int
    what: str
    by_default: bool = True
    """Whether it is run where none is named."""

    def load(self) -> Campaign:
        module, _, name = self.place.partition(":")
        campaign: Campaign = getattr(importlib.import_module(module), name)
        return campaign


# Add a line to register a campaign.
CAMPAIGNS: dict[str, Entry] = {
    "states": Entry("tests.adversity.recorded_cuts:campaign", 20_000, "states of a disk that a power cut could leave"),
    "kills": Entry("tests.adversity.kills:campaign", 300, "kill -9 of a broker under load and administration"),
    "restarts": Entry("tests.adversity.restarts:campaign", 100, "stops and starts under clients that go on"),
    "cuts": Entry("tests.adversity.cuts:campaign", 50, "file systems shut down under a broker, as by a power cut"),
    "transactions": Entry("tests.adversity.transactions:campaign", 300, "kills of transactional pipelines and broker"),
    "failing-writes": Entry(
        "tests.adversity.failing_writes:campaign", 3_000, "histories of writes, rolls and flushes that fail"
    ),
    "descriptors": Entry("tests.adversity.descriptors:campaign", 8, "brokers with too few descriptors"),
    "races": Entry("tests.adversity.races:campaign", 550, "ends of transactions that race a batch"),
    "rot": Entry("tests.adversity.rot:campaign", 180, "bits that flip in values, of brokers stopped and killed"),
    "cuts-kafka": Entry(
        "tests.adversity.cuts:kafka", 4, "the same under Apache Kafka, for comparison", by_default=False
    ),
}


def run(name: str, entry: Entry, seed: int, count: int) -> bool:
    """Runs one campaign and prints its line; whether nothing was lost."""
    begun = time.monotonic()
    report = entry.load()(seed, count)
    seconds = time.monotonic() - begun
    print(f"{name}: {report.done} {report.unit}, seed {seed}, {seconds:.0f} s, {len(report.losses)} losses", flush=True)
    for note in report.notes:
        print(f"  {note}")
    for loss in report.losses[:LOSSES_SHOWN]:
        print(f"  LOSS: {loss}")
    if report.losses:
        print(f"  again: python -m tests.adversity.torture {name} --count {count} --seed {seed}", flush=True)
    return not report.losses


def main(arguments: list[str], campaigns: Mapping[str, Entry] = CAMPAIGNS) -> int:
    parser = argparse.ArgumentParser(prog="torture", description="Campaigns of adversity, by number and seed.")
    parser.add_argument("campaign", nargs="*", help=f"of {', '.join(campaigns)}; all if none is named")
    parser.add_argument("--count", type=int, help="how many; each campaign has a number of its own")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args(arguments)
    for name in given.campaign:
        if name not in campaigns:
            parser.error(f"there is no campaign {name}: {', '.join(campaigns)}")
    whole = True
    for name in given.campaign or [name for name, entry in campaigns.items() if entry.by_default]:
        entry = campaigns[name]
        whole &= run(name, entry, given.seed, given.count if given.count is not None else entry.count)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
