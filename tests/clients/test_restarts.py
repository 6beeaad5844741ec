"""The broker is stopped, or killed, while a client produces or consumes: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.broker import BrokerProcess
from tests.clients.driver import Driver, Feature, Record
from tests.clients.every import case, every_client

TOTAL = 2000
WAIT_S = 60.0


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker that these tests stop and kill; its port stays."""
    with BrokerProcess(tmp_path_factory.mktemp("fragile")) as running:
        yield running


@pytest.fixture(params=["stop", "kill"])
def end(request: pytest.FixtureRequest, fragile: BrokerProcess) -> Callable[[], object]:
    """How the broker ends."""
    ways: dict[str, Callable[[], object]] = {"stop": fragile.stop, "kill": fragile.kill}
    return ways[request.param]


def some_records(count: int, first: int = 0) -> list[Record]:
    return [
        Record(b"%d" % (index % 7), b"%06d " % index + bytes(100), (), 1_700_000_000_000 + index)
        for index in range(first, first + count)
    ]


class Milestone:
    """Passed on as `progress`: lets a test wait until a client has come so far."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.now = 0
        self._reached = threading.Event()

    def __call__(self, count: int) -> None:
        self.now = count
        if count >= self.count:
            self._reached.set()

    def wait(self) -> None:
        assert self._reached.wait(WAIT_S), f"only {self.now} of {self.count}"


@case("producing over a restart of the broker")
@every_client(Feature.PROGRESS)
def test_in_the_middle_of_producing(
    fragile: BrokerProcess, admin: Driver, driver: Driver, end: Callable[[], object], topic: str
) -> None:
    bootstrap, records, third = fragile.bootstrap, some_records(TOTAL), Milestone(TOTAL // 3)
    admin.create_topic(bootstrap, topic, 1)
    with ThreadPoolExecutor(1) as threads:
        producing = threads.submit(driver.produce, bootstrap, topic, records, idempotent=True, progress=third)
        third.wait()
        end()
        fragile.start()
        assert not producing.done(), "the broker ended too late to matter"
        told = producing.result(WAIT_S)
    assert [one.offset for one in told] == list(range(TOTAL))
    assert admin.watermarks(bootstrap, topic) == (0, TOTAL)
    assert [one.record for one in admin.read(bootstrap, topic, start=0, count=TOTAL)] == records


@case("consuming over a restart of the broker")
@every_client(Feature.PROGRESS)
def test_in_the_middle_of_consuming(
    fragile: BrokerProcess, admin: Driver, driver: Driver, end: Callable[[], object], topic: str
) -> None:
    bootstrap, half, records = fragile.bootstrap, Milestone(TOTAL // 2), some_records(TOTAL)
    admin.create_topic(bootstrap, topic, 1)
    admin.produce(bootstrap, topic, records[: TOTAL // 2])
    with ThreadPoolExecutor(2) as threads:
        consuming = threads.submit(driver.read, bootstrap, topic, count=TOTAL, progress=half)
        half.wait()
        end()
        fragile.start()
        # Had the consumer lost its place, it would have begun again, or would never see these.
        producing = threads.submit(admin.produce, bootstrap, topic, records[TOTAL // 2 :])
        found = consuming.result(WAIT_S)
        producing.result(WAIT_S)
    assert [one.offset for one in found] == list(range(TOTAL))
    assert [one.record for one in found] == records
