"""Many services on one topic: one of them is killed, the others go on, and a new one joins.

    python story.py                              with a broker of its own
    python story.py --kill delay_board           kills another one
    python story.py --count 50000                fewer flights

Three services read the topic `flights`, each as a group of its own with another client library and for a purpose
of its own. In the middle one gets SIGKILL. When the producer is done it is started again, and goes on where it was. At
the end everything that the services have is compared with the source; then a fourth, which nobody had thought of,
reads all from the start.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "flights"))
from flights import FLIGHTS, PARTITIONS, Broker, create_topic, source

PATIENCE_S = 240
FILES = {"delay_board": "board.json", "daily_total": "days.json", "archive": "archive.db"}


class Service:
    """One of the services, in a process of its own."""

    def __init__(self, name: str, bootstrap: str, folder: Path) -> None:
        self.name = name
        self.file = folder / FILES[name]
        self.command = [sys.executable, str(HERE / f"{name}.py"), bootstrap, str(self.file)]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(60) == 0, f"{self.name} ended with {self.process.returncode}"

    def flights(self) -> int:
        """How many flights it has dealt with, as its file says."""
        if not self.file.exists():
            return 0
        if self.name == "archive":
            database = sqlite3.connect(self.file)
            try:
                return int(database.execute("select count(*) from flights").fetchone()[0])
            except sqlite3.OperationalError:  # no table yet
                return 0
            finally:
                database.close()
        kept = json.loads(self.file.read_text())
        return sum(int(counts[0]) for counts in (kept.get("airports") or kept.get("days") or {}).values())


def wait(until: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        time.sleep(0.05)


def truth(count: int) -> tuple[dict[str, list[int]], dict[str, list[int]], set[int], Counter[str]]:
    """What the services must have found, from the source itself."""
    airports: dict[str, list[int]] = {}
    days: dict[str, list[int]] = {}
    ids: set[int] = set()
    routes: Counter[str] = Counter()
    for flight in itertools.islice(source(), count):
        delay, miles = flight["dep_delay"] or 0, flight["distance"] or 0
        assert isinstance(delay, int) and isinstance(miles, int) and isinstance(flight["id"], int)
        for totals, key, more in (
            (airports, str(flight["origin"]), delay),
            (days, f"{flight['year']}-{flight['month']:02}-{flight['day']:02}", miles),
        ):
            counts = totals.setdefault(key, [0, 0])
            counts[0] += 1
            counts[1] += more
        ids.add(flight["id"])
        routes[f"{flight['origin']}-{flight['dest']}"] += 1
    return airports, days, ids, routes


def tell(bootstrap: str, folder: Path, count: int, killed: str) -> None:
    print(f"A topic of {PARTITIONS} partitions, three services, and a producer of {count:,} flights.")
    create_topic(bootstrap)
    services = {name: Service(name, bootstrap, folder) for name in FILES}
    victim = services[killed]
    others = [service for service in services.values() if service is not victim]
    producer = subprocess.Popen([sys.executable, str(HERE / "produce.py"), bootstrap, "--count", str(count)])
    try:
        wait(lambda: victim.flights() > count // 10, f"{killed} has begun")
        victim.kill()
        had = victim.flights()
        print(f"{killed} was killed when it had {had:,} flights.")
        assert had < count, "it was done already: nothing was tried"
        wait(lambda: all(other.flights() == count for other in others), "the others are done")
        assert producer.wait(PATIENCE_S) == 0
        assert victim.flights() == had
        print(f"{' and '.join(other.name for other in others)} have all {count:,}; {killed} is started again.")
        victim.start()
        wait(lambda: victim.flights() >= count, f"{killed} is done")
        for service in services.values():
            service.stop()
    finally:
        for process in (producer, *(service.process for service in services.values())):
            process.kill()
            process.wait()
    airports, days, ids, routes = truth(count)
    assert json.loads(services["delay_board"].file.read_text())["airports"] == airports
    assert json.loads(services["daily_total"].file.read_text())["days"] == days
    database = sqlite3.connect(services["archive"].file)
    rows = [row[0] for row in database.execute("select id from flights")]
    database.close()
    assert len(rows) == count and set(rows) == ids
    print("All three have every flight, each once.")
    command = [sys.executable, str(HERE / "route_map.py"), bootstrap]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=True)
    found = json.loads(done.stdout)
    assert found == routes, "the route map differs"
    print(f"A fourth service, new, has read them from the start: {len(found)} routes.")
    print("\nairport  flights  minutes late on average")
    for airport, (flights, minutes) in sorted(airports.items()):
        print(f"{airport:7}  {flights:7,}  {minutes / flights:23.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=FLIGHTS, help="how many flights")
    parser.add_argument("--kill", choices=list(FILES), default="archive", help="the service that is killed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        try:
            tell(f"127.0.0.1:{broker.port}", Path(folder), arguments.count, arguments.kill)
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
