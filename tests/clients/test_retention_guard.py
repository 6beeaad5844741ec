"""A retention guard that blocks refuses batches while its group is behind: every client's producer tries again until
they are taken."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.clients.driver import DELIVERY_TIMEOUT_S, Driver, Record
from tests.clients.every import case, every_client
from tests.handlers.group_peer import GroupPeer
from tests.raw_client import RawClient, records_of
from tests.serving import Serving

RECORDS = [Record(b"k", b"%d" % index) for index in range(50)]
REFUSALS = 2
FAR = 1_000_000
SETTINGS = {
    "log__retention__bytes": "0",
    "odradek__retention__guard__groups": "slow",
    "odradek__retention__guard__max__bytes": "0",
    "odradek__retention__guard__on__limit": "block",
    "odradek__retention__guard__interval__ms": "10",
}


@case("producing while a retention guard blocks")
@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
@every_client()
def test_a_producer_waits_for_the_group(driver: Driver, idempotent: bool) -> None:
    with Serving(**SETTINGS) as serving, ThreadPoolExecutor(1) as thread:
        counters = serving.server.partitions.counters
        bootstrap = f"127.0.0.1:{serving.port}"
        driver.produce(bootstrap, "t", RECORDS[:1], idempotent=idempotent)
        peer = GroupPeer(serving.port, is_kafka=False)
        peer.until_served("slow")
        deadline = time.monotonic() + DELIVERY_TIMEOUT_S
        peer.commit("slow", {"t": {0: 0}}, version=2)
        while not serving.look(lambda: counters.blocked):
            assert time.monotonic() < deadline
        sent = thread.submit(driver.produce, bootstrap, "t", RECORDS[1:], idempotent=idempotent)
        while serving.look(lambda: counters.guard_refusals) < REFUSALS:
            assert time.monotonic() < deadline and not sent.done(), sent.exception()
        peer.commit("slow", {"t": {0: FAR}}, version=2)
        sent.result(DELIVERY_TIMEOUT_S)
        with RawClient(serving.port) as client:
            values = [record.value for record in records_of(client.fetch("t", 0).records)]
        assert values == [record.value for record in RECORDS]
        peer.client.socket.close()
