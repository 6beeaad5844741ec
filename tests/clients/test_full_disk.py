"""A broker whose disk is nearly full refuses batches: every client's producer tries again until they are taken."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.clients.driver import DELIVERY_TIMEOUT_S, Driver, Record
from tests.clients.every import case, every_client
from tests.raw_client import RawClient, records_of
from tests.serving import Serving

RECORDS = [Record(b"k", b"%d" % index) for index in range(50)]
REFUSALS = 2
GB = 1 << 30


@case("producing while the disk is full")
@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
@every_client()
def test_a_producer_waits_for_room(driver: Driver, idempotent: bool) -> None:
    with Serving(odradek__disk__check__interval__ms="50") as serving, ThreadPoolExecutor(1) as thread:
        partitions = serving.server.partitions
        bootstrap = f"127.0.0.1:{serving.port}"
        # The topic is there: it would not be made on a full disk.
        driver.produce(bootstrap, "t", RECORDS[:1], idempotent=idempotent)
        usable = 0
        serving.look(lambda: setattr(serving.server.engine, "usage", lambda: ("memory", GB, usable)))
        serving.run(partitions.look_at_space())
        assert partitions.space.read_only
        sent = thread.submit(driver.produce, bootstrap, "t", RECORDS[1:], idempotent=idempotent)
        deadline = time.monotonic() + DELIVERY_TIMEOUT_S
        while serving.look(lambda: partitions.space.refused_batches) < REFUSALS:
            assert time.monotonic() < deadline and not sent.done(), sent.exception()
        usable = GB
        sent.result(DELIVERY_TIMEOUT_S)
        with RawClient(serving.port) as client:
            values = [record.value for record in records_of(client.fetch("t", 0).records)]
        assert values == [record.value for record in RECORDS]
        assert not partitions.space.read_only
