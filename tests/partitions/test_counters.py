"""What partitions count: by topic, and over failures and deletions."""

from __future__ import annotations

import asyncio
from typing import Any

from odradek.errors import ErrorCode
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from tests.network.test_counters import make
from tests.partitions.test_partition import HeldEngine, StillClock, now, run, sequenced
from tests.raw_client import RawClient, batch
from tests.serving import Serving


def test_what_goes_into_a_topic_and_out_of_it() -> None:
    data = batch(b"a", b"b", b"c")
    with Serving(num__partitions="2") as broker, RawClient(broker.port) as client:
        make(client, "t")
        make(client, "u")
        for partition in (0, 1, 1):
            assert client.produce("t", data, partition=partition).error_code == 0
        assert client.produce("t", data[:-1] + b"?").error_code == ErrorCode.CORRUPT_MESSAGE
        client.fetch("t", 0, partition=1)
        client.fetch("t", 6, partition=1)
        traffic = broker.server.partitions.topics["t"].traffic
        assert (traffic.appended_records, traffic.appended_batches, traffic.appended_bytes) == (9, 3, 3 * len(data))
        assert traffic.fetched_bytes == 2 * len(data)
        other = broker.server.partitions.topics["u"].traffic
        assert (other.appended_records, other.fetched_bytes) == (0, 0)
        answer = client.call(DeleteTopicsRequest(topic_names=["t"]), DeleteTopicsResponse, 5)
        assert answer.responses[0].error_code == 0
        gone = broker.server.partitions.counters.deleted_traffic
        assert (gone.appended_records, gone.fetched_bytes) == (9, 2 * len(data))


def test_a_repetition_is_not_counted_twice() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make()
        now(partition.append(sequenced(0, 3)))
        now(partition.append(sequenced(0, 3)))
        assert partition.traffic.appended_records == 3 and partition.traffic.appended_batches == 1
        engine.flush()

    run(work)


def test_a_log_that_fails_is_offline_until_it_is_back() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make()
        counters = partition.counters
        now(partition.append(batch(b"a")))
        assert (counters.log_failures, counters.offline) == (0, {})
        clock.ms += 7000
        changed = asyncio.Event()
        partition.progress.wait(changed.set)
        engine.fail()
        await changed.wait()
        changed.clear()
        assert counters.log_failures == 1 and counters.offline == {partition.identity: clock.monotonic()}
        await changed.wait()
        assert (counters.log_failures, counters.log_reopenings, counters.offline) == (1, 1, {})

    run(work)


def test_a_partition_that_is_closed_while_its_log_is_offline_is_not_opened_again() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make()
        now(partition.append(batch(b"a")))
        attempts = []
        tried = asyncio.Event()

        async def fail(*arguments: object) -> None:
            attempts.append(arguments)
            tried.set()
            raise OSError("no disk")

        engine.open = fail  # type: ignore[method-assign, assignment]
        engine.fail()
        await tried.wait()
        await partition.close()
        assert partition.log is None and not partition._background
        # A failure after the close begins nothing, either.
        before = len(attempts)
        partition.begin_offline(OSError("still no disk"))
        await asyncio.gather(*partition._background)
        assert len(attempts) == before

    run(work)
