"""What looking at the lag of groups costs the hot paths: two Odradeks, one that looks and one that does not.

    python -m benchmarks.insight [--pairs 20]

Both run at once and take turns, in an order that changes from pair to pair. The one that looks does so every second
(the default is every ten) at 100 offsets of groups that are all behind, so that it also reads 100 headers a time: what
a broker with 1,000 of them does by default. Prints the ratio of CPU a request, on to off: the mean of the pairs and its
95 % interval (Student's t, of the logarithms).
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import load
from benchmarks.brokers import Broker, odradek
from tests.handlers.group_peer import GroupPeer

GROUPS, PARTITIONS = 10, 10
REQUESTS = 200_000
FETCHES = 60_000
FETCH_BYTES = 65_536
# Of Student's distribution, two-sided, for as many pairs less one.
T_95 = {4: 2.776, 9: 2.262, 19: 2.093, 29: 2.045, 39: 2.023}
Load = Callable[[Broker], float]


def produce(broker: Broker) -> float:
    load.produce(broker.port, "t", connections=16, in_flight=5, requests=REQUESTS, acks=1, partitions=PARTITIONS)
    return REQUESTS


def fetch(broker: Broker) -> float:
    run = load.fetch(
        broker.port, "t", connections=4, requests=FETCHES, max_bytes=FETCH_BYTES, end_offset=REQUESTS // PARTITIONS
    )
    return run["requests"]


def fall_behind(broker: Broker) -> None:
    """Groups that have committed the first offset of each partition."""
    broker.make_topic("t", PARTITIONS)
    with GroupPeer(broker.port, is_kafka=False) as peer:
        for number in range(GROUPS):
            peer.until_served(f"g-{number}")
            peer.commit(f"g-{number}", {"t": dict.fromkeys(range(PARTITIONS), 0)}, version=2)


def cpu_us(broker: Broker, work: Load) -> float:
    before = broker.cpu_s()
    done = work(broker)
    return (broker.cpu_s() - before) / done * 1e6


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """The mean ratio, and where its 95 % interval begins and ends."""
    logs = [math.log(ratio) for ratio in ratios]
    mean, spread = statistics.mean(logs), statistics.stdev(logs) / math.sqrt(len(logs))
    t = next((value for degrees, value in sorted(T_95.items()) if degrees >= len(logs) - 1), 1.96)
    return math.exp(mean), math.exp(mean - t * spread), math.exp(mean + t * spread)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    pairs = parser.parse_args().pairs
    load.program()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            odradek(folder / "on", "odradek.insight.interval.ms=1000") as (on, _),
            odradek(folder / "off", f"odradek.insight.interval.ms={24 * 3600 * 1000}") as (off, _),
        ):
            for broker in (on, off):
                fall_behind(broker)
                produce(broker)
                fetch(broker)
            for what, work in (("produce", produce), ("fetch", fetch)):
                ratios, figures = [], []
                for number in range(pairs):
                    order = (on, off) if number % 2 else (off, on)
                    found = {broker.port: cpu_us(broker, work) for broker in order}
                    ratios.append(found[on.port] / found[off.port])
                    figures.append(found[off.port])
                mean, low, high = interval(ratios)
                print(
                    f"{what}: {statistics.median(figures):.1f} us of CPU a request without, "
                    f"with insight {mean:.3f} times that (95 %: {low:.3f} to {high:.3f}), {pairs} pairs"
                )


if __name__ == "__main__":
    main()
