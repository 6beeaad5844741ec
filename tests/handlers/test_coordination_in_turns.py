"""Long requests to the coordinators: how little each does before others have their turn, and what holds between turns.

Nothing is timed: a request is carried out step by step, and what lies between two steps is looked at.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from odradek.coordination.groups.classic.groups import ClassicGroups
from odradek.coordination.operation import STEP_RECORDS, Outcome
from odradek.coordination.transactions.coordinator import MARKERS_AT_ONCE
from odradek.durations import Durations
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.table import HANDLERS
from odradek.handlers.turns import TURN_S
from odradek.insight import gathering
from odradek.insight.gathering import LAGS_AT_ONCE, Gathering
from odradek.insight.watching import AT_ONCE as LOOKS_AT_ONCE
from odradek.partitions.partition import Partition
from odradek.partitions.registry import Partitions
from odradek.protocol.encoding import encode
from odradek.protocol.fields import Message
from odradek.protocol.messages import describe_producers, describe_transactions, list_transactions
from odradek.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from odradek.protocol.messages.delete_groups import DeleteGroupsRequest
from odradek.protocol.messages.describe_groups import DescribeGroupsRequest
from odradek.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from odradek.protocol.messages.leave_group import MemberIdentity
from odradek.protocol.messages.list_groups import ListGroupsRequest
from odradek.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from odradek.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from odradek.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from odradek.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from odradek.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from odradek.records.builder import NewRecord, build_batch
from tests.handlers.group_peer import GroupPeer
from tests.network.test_connection import until
from tests.raw_client import RawClient, batch
from tests.serving import Serving

MANY = 2500
# At most so many elements are handled before others may have their turn.
AT_ONCE = 250


def nothing() -> None:
    """Happens between two turns, where a test does not say what."""


class Stepping:
    """In the place of `Turns`: every step is a turn, and `between` happens behind each."""

    def __init__(self, between: Callable[[], object]) -> None:
        self.between = between
        self.turns = 0

    def begin(self, steps: Any) -> Any:
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            self.turns += 1
            self.between()

    async def run(self, steps: Any) -> Any:
        return self.begin(steps)


class Carried(NamedTuple):
    answer: Any
    turns: int


class Place(Serving):
    """A broker with a topic of many partitions, whose requests are carried out step by step."""

    def __enter__(self) -> Place:
        super().__enter__()
        self.client = RawClient(self.port)
        topics = [CreatableTopic(name=name, num_partitions=number, replication_factor=1) for name, number in TOPICS]
        made = self.client.call(CreateTopicsRequest(topics=topics, timeout_ms=60_000), CreateTopicsResponse, 7)
        assert {topic.error_code for topic in made.topics} == {0}
        for kind in (0, 1):
            request = FindCoordinatorRequest(key_type=kind, coordinator_keys=["g"])
            assert self.client.call(request, FindCoordinatorResponse, 4).coordinators[0].error_code == 0
        return self

    def __exit__(self, *arguments: object) -> None:
        self.client.socket.close()
        super().__exit__(*arguments)

    def carry_out(self, request: Message, version: int, between: Callable[[], object] = nothing) -> Carried:
        """On the loop; `between` happens at every turn."""

        async def work() -> Carried:
            parts = self.shared.dispatch.broker
            kept, stepping = parts.turns, Stepping(between)
            parts.turns = stepping  # type: ignore[assignment]
            try:
                context = RequestContext(parts, "PLAINTEXT", "127.0.0.1", "c", version)
                answer: Any = HANDLERS[request.api_key].handle(request, context)
                if inspect.isgenerator(answer):
                    answer = stepping.begin(answer)
                if isinstance(answer, Awaitable):
                    answer = await answer
            finally:
                parts.turns = kept
            return Carried(answer, stepping.turns)

        return self.run(work())

    def commit(self, *groups: str, partitions: int = 1) -> None:
        for group_id in groups:
            self.client.send(commit_request(group_id, partitions), 8)
        for _ in groups:
            self.client.receive(OffsetCommitResponse, 8)

    def producer(self, transactional_id: str) -> tuple[int, int]:
        request = InitProducerIdRequest(transactional_id=transactional_id, transaction_timeout_ms=60_000)
        given = self.client.call(request, InitProducerIdResponse, 4)
        assert given.error_code == 0
        return given.producer_id, given.producer_epoch

    def count_of(self, group_id: str) -> int:
        """How many offsets a group has; on the loop."""
        # A group that is being deleted is there for nobody else.
        return self.server.groups._topic.shard_of(group_id).active().offsets.count_of(group_id)


TOPICS = (("t", MANY), ("one", 1))


def commit_request(group_id: str, partitions: int, **more: Any) -> OffsetCommitRequest:
    offsets = [OffsetCommitRequestPartition(partition_index=index, committed_offset=7) for index in range(partitions)]
    topics = [OffsetCommitRequestTopic(name="t", partitions=offsets)]
    return OffsetCommitRequest(**{"generation_id_or_member_epoch": -1, "group_id": group_id, "topics": topics, **more})


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with Place() as place:
        yield place


# --- how little is done at once --------------------------------------------------------------------------------------


def fetch_named(place: Place) -> tuple[Message, int]:
    place.commit("whole", partitions=MANY)
    topics = [OffsetFetchRequestTopics(name="t", partition_indexes=list(range(MANY)))]
    return OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="whole", topics=topics)]), 8


def fetch_all(place: Place) -> tuple[Message, int]:
    place.commit("whole", partitions=MANY)
    return OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="whole", topics=None)]), 8


def fetch_old(place: Place) -> tuple[Message, int]:
    topics = [OffsetFetchRequestTopic(name="t", partition_indexes=list(range(MANY)))]
    return OffsetFetchRequest(group_id="whole", topics=topics), 7


def fetch_groups(place: Place) -> tuple[Message, int]:
    groups = [OffsetFetchRequestGroup(group_id=f"unknown-{number}", topics=None) for number in range(MANY)]
    return OffsetFetchRequest(groups=groups), 8


def offset_commit(place: Place) -> tuple[Message, int]:
    return commit_request("committed", MANY), 8


def txn_offset_commit(place: Place) -> tuple[Message, int]:
    producer_id, epoch = place.producer("commits-offsets")
    offsets = [TxnOffsetCommitRequestPartition(partition_index=index, committed_offset=7) for index in range(MANY)]
    request = TxnOffsetCommitRequest(
        transactional_id="commits-offsets",
        group_id="txn",
        producer_id=producer_id,
        producer_epoch=epoch,
        generation_id_or_member_epoch=-1,
        topics=[TxnOffsetCommitRequestTopic(name="t", partitions=offsets)],
    )
    return request, 5


def offset_delete(place: Place) -> tuple[Message, int]:
    place.commit("forgets", partitions=MANY)
    partitions = [OffsetDeleteRequestPartition(partition_index=index) for index in range(MANY)]
    return OffsetDeleteRequest(
        group_id="forgets", topics=[OffsetDeleteRequestTopic(name="t", partitions=partitions)]
    ), 0


def find_coordinator(place: Place) -> tuple[Message, int]:
    return FindCoordinatorRequest(key_type=0, coordinator_keys=[f"g-{number}" for number in range(MANY)]), 4


def describe_groups(place: Place) -> tuple[Message, int]:
    return DescribeGroupsRequest(groups=[f"unknown-{number}" for number in range(MANY)]), 5


def delete_groups(place: Place) -> tuple[Message, int]:
    return DeleteGroupsRequest(groups_names=[f"unknown-{number}" for number in range(MANY)]), 2


def delete_one_group(place: Place) -> tuple[Message, int]:
    place.commit("large", partitions=MANY)
    return DeleteGroupsRequest(groups_names=["large"]), 2


def list_groups(place: Place) -> tuple[Message, int]:
    place.commit(*(f"listed-{number}" for number in range(MANY)))
    return ListGroupsRequest(), 4


def add_partitions(place: Place) -> tuple[Message, int]:
    producer_id, epoch = place.producer("adds")
    request = AddPartitionsToTxnRequest(
        v3_and_below_transactional_id="adds",
        v3_and_below_producer_id=producer_id,
        v3_and_below_producer_epoch=epoch,
        v3_and_below_topics=[AddPartitionsToTxnTopic(name="t", partitions=list(range(MANY)))],
    )
    return request, 3


def verify_partitions(place: Place) -> tuple[Message, int]:
    one = AddPartitionsToTxnTransaction(
        transactional_id="nobody", verify_only=True, topics=[AddPartitionsToTxnTopic(name="t", partitions=[0])]
    )
    return AddPartitionsToTxnRequest(transactions=[one] * MANY), 4


def write_markers(place: Place) -> tuple[Message, int]:
    topics = [WritableTxnMarkerTopic(name="t", partition_indexes=list(range(MANY)))]
    return WriteTxnMarkersRequest(markers=[WritableTxnMarker(producer_id=4711, topics=topics)]), 1


def describe_ids(place: Place) -> tuple[Message, int]:
    ids = [f"id-{number}" for number in range(MANY)]
    return describe_transactions.DescribeTransactionsRequest(transactional_ids=ids), 0


def list_ids(place: Place) -> tuple[Message, int]:
    for number in range(MANY):
        place.client.send(InitProducerIdRequest(transactional_id=f"l-{number}", transaction_timeout_ms=60_000), 4)
    for _ in range(MANY):
        assert place.client.receive(InitProducerIdResponse, 4).error_code == 0
    return list_transactions.ListTransactionsRequest(transactional_id_pattern="l-1.*"), 2


def producers_of_partitions(place: Place) -> tuple[Message, int]:
    topics = [describe_producers.TopicRequest(name="t", partition_indexes=list(range(MANY)))]
    return describe_producers.DescribeProducersRequest(topics=topics), 0


def producers_of_one(place: Place) -> tuple[Message, int]:
    for number in range(MANY):
        data = batch(b"v", producer_id=10_000 + number, producer_epoch=0, base_sequence=0)
        place.client.produce("one", data)
    topics = [describe_producers.TopicRequest(name="one", partition_indexes=[0])]
    return describe_producers.DescribeProducersRequest(topics=topics), 0


REQUESTS = (
    fetch_named,
    fetch_all,
    fetch_old,
    fetch_groups,
    offset_commit,
    txn_offset_commit,
    offset_delete,
    find_coordinator,
    describe_groups,
    delete_groups,
    delete_one_group,
    list_groups,
    add_partitions,
    verify_partitions,
    write_markers,
    describe_ids,
    list_ids,
    producers_of_partitions,
    producers_of_one,
)


@pytest.mark.parametrize("make", REQUESTS, ids=lambda make: make.__name__)
def test_a_long_request_gives_way(place: Place, make: Callable[[Place], tuple[Message, int]]) -> None:
    request, version = make(place)
    carried = place.carry_out(request, version)
    assert carried.turns >= MANY // AT_ONCE
    # It can be sent, and no error is in it but those of what does not exist.
    encoded = encode(carried.answer, version)
    assert len(encoded) > 8


def test_no_step_of_a_commit_or_a_deletion_has_more_records_than_that(place: Place) -> None:
    counts = [0]
    note = lambda: counts.append(place.count_of("steps"))  # noqa: E731
    place.carry_out(commit_request("steps", MANY), 8, note)
    assert counts[-1] == MANY
    place.carry_out(DeleteGroupsRequest(groups_names=["steps"]), 2, note)
    assert counts[-1] == 0
    assert max(abs(after - before) for before, after in pairwise(counts)) <= STEP_RECORDS


class Counting:
    """How often something is done between two turns of a loop."""

    def __init__(self, place: Place) -> None:
        self.now, self.most, self.total = 0, 0, 0
        self._loop = place.loop
        self._ends = False

    def __enter__(self) -> Counting:
        self._loop.call_soon_threadsafe(self._turn)
        return self

    def __exit__(self, *_: object) -> None:
        self._ends = True

    def _turn(self) -> None:
        self.now = 0
        if not self._ends:
            self._loop.call_soon(self._turn)

    def of(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same work, counted."""

        def counted(*arguments: Any, **more: Any) -> Any:
            self.total += 1
            self.now += 1
            self.most = max(self.most, self.now)
            return work(*arguments, **more)

        return counted


def test_the_markers_of_a_transaction_give_way(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    request, version = add_partitions(place)
    assert isinstance(request, AddPartitionsToTxnRequest)
    place.carry_out(request, version)
    with Counting(place) as markers:
        monkeypatch.setattr(Partition, "end_transaction", markers.of(Partition.end_transaction))
        end = EndTxnRequest(
            transactional_id="adds",
            producer_id=request.v3_and_below_producer_id,
            producer_epoch=request.v3_and_below_producer_epoch,
            committed=True,
        )
        assert place.client.call(end, EndTxnResponse, 3).error_code == 0
        # Behind it: the next producer waits until all markers are written.
        place.producer("adds")
    assert markers.total == MANY and markers.most <= MARKERS_AT_ONCE


def test_a_look_at_lags_gives_way_however_little_is_to_be_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """These groups are at the end of their partitions: nothing is read for any of them."""
    place.commit("looked-at", partitions=MANY)

    async def look() -> None:
        watching = place.server._watch()
        with Counting(place) as looks:
            monkeypatch.setattr(Partitions, "get", looks.of(Partitions.get))
            await watching.look()
            monkeypatch.undo()
        assert looks.total >= 2 * MANY and looks.most <= 2 * LOOKS_AT_ONCE

    place.run(look())


def test_a_scrape_of_lags_gives_way(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.commit(*(f"scraped-{number}" for number in range(MANY)))

    async def scrape() -> None:
        watching = place.server._watch()
        await watching.look()
        server = place.server
        gathered = Gathering(server.engine, server.partitions, Durations(), 10, MANY, watching=lambda: watching)
        with Counting(place) as lags:
            monkeypatch.setattr(gathering, "worst", lags.of(gathering.worst))
            await gathered.gather()
        assert lags.total == MANY and lags.most <= LAGS_AT_ONCE

    place.run(scrape())


# --- what holds between turns ----------------------------------------------------------------------------------------


def once(after: int, do: Callable[[], object]) -> Callable[[], None]:
    """Does something between two turns, once, when so many have gone by."""
    left = [after]

    def between() -> None:
        left[0] -= 1
        if left[0] == 0:
            do()

    return between


def codes_of(answer: Any) -> list[int]:
    return [partition.error_code for topic in answer.topics for partition in topic.partitions]


def test_a_commit_of_a_member_that_goes_between_two_parts_is_told_which_part_counts(place: Place) -> None:
    with GroupPeer(place.port, is_kafka=False) as peer:
        member = peer.join("leaves", version=3)["member_id"]
        peer.sync("leaves", 1, member, version=4)

    def leave() -> None:
        groups = place.server.groups.active("leaves").of(ClassicGroups)
        groups.leave("leaves", [MemberIdentity(member_id=member)], Outcome())

    request = commit_request("leaves", MANY, member_id=member, generation_id_or_member_epoch=1)
    codes = codes_of(place.carry_out(request, 8, once(3, leave)).answer)
    kept = 3 * STEP_RECORDS
    assert codes[:kept] == [0] * kept
    assert set(codes[kept:]) == {ErrorCode.UNKNOWN_MEMBER_ID} and len(codes) == MANY
    assert place.look(lambda: place.count_of("leaves")) == kept


def test_a_commit_whose_state_is_made_anew_between_two_parts(place: Place) -> None:
    def write() -> None:
        shard = place.server.groups._topic.shard_of("reloads")
        foreign = build_batch([NewRecord(b"key of no type", b"somebody else's", 0)])
        shard.partition.append_own(foreign, shard.partition.opening)

    codes = codes_of(place.carry_out(commit_request("reloads", MANY), 8, once(2, write)).answer)
    kept = 2 * STEP_RECORDS
    assert codes[:kept] == [0] * kept
    assert set(codes[kept:]) == {ErrorCode.COORDINATOR_LOAD_IN_PROGRESS} and len(codes) == MANY
    place.commit("reloads")


def test_a_commit_of_a_topic_that_is_deleted_between_two_parts(place: Place) -> None:
    topics = place.server.partitions.topics
    kept_topic = topics["t"]
    try:
        codes = codes_of(
            place.carry_out(commit_request("topic-goes", MANY), 8, once(2, lambda: topics.pop("t"))).answer
        )
    finally:
        topics["t"] = kept_topic
    kept = 2 * STEP_RECORDS
    assert codes == [0] * kept + [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION] * (MANY - kept)


def test_a_group_that_is_being_deleted_is_there_for_nobody(place: Place) -> None:
    """To its clients the group is deleted at once: nobody sees half of it, and no commit is lost with the rest."""
    place.commit("deleted", partitions=MANY)
    told: list[Any] = []

    def ask() -> None:
        inner = RequestContext(place.shared.dispatch.broker, "PLAINTEXT", "127.0.0.1", "c", 8)
        offsets = [OffsetCommitRequestPartition(partition_index=index, committed_offset=9) for index in (0, MANY - 1)]
        topics = [OffsetCommitRequestTopic(name="t", partitions=offsets)]
        told.append(HANDLERS[8].handle(commit_request("deleted", 0, topics=topics), inner))
        with pytest.raises(KafkaError) as failed:
            place.server.groups.start("deleted", lambda shard, outcome: shard.pending.keys_of("deleted"))
        told.append(failed.value.code)
        told.append(place.server.groups.active("another").offsets.count_of("another"))

    answer = place.carry_out(DeleteGroupsRequest(groups_names=["deleted"]), 2, once(2, ask)).answer
    assert answer.results[0].error_code == 0
    refused = told[0].result()
    assert {one.error_code for one in refused.topics[0].partitions} == {ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}
    assert told[1:] == [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, 0]
    assert place.look(lambda: place.count_of("deleted")) == 0
    # Afterwards the name is as any other.
    place.commit("deleted")
    assert place.look(lambda: place.count_of("deleted")) == 1


def test_a_deletion_ends_without_its_client(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group is not left half deleted because a connection is lost: a turn is one step here."""
    place.commit("left", partitions=MANY)
    numbers = itertools.count()
    known = place.look(lambda: set(place.shared.connections))

    def now() -> float:
        number = next(numbers)
        if number == 8:
            for connection in place.shared.connections - known:
                connection.abort()
        return number * 0.6 * TURN_S

    with monkeypatch.context() as patch, RawClient(place.port) as client:
        patch.setattr(place.shared.dispatch.broker.turns, "_now", now)
        client.send(DeleteGroupsRequest(groups_names=["left"]), 2)
        assert client.is_closed()
        until(lambda: place.look(lambda: "left" not in place.server.groups._deleting), "it has ended")
    assert place.look(lambda: place.count_of("left")) == 0


def test_a_group_that_goes_while_groups_are_listed_is_left_out(place: Place) -> None:
    names = [f"goes-{number}" for number in range(600)]
    place.commit(*names)
    gone: list[str] = []

    def delete() -> None:
        for name in names:
            shard = place.server.groups._topic.shard_of(name)
            for _ in shard.steps(lambda machine, name=name: machine.delete(name)):
                gone.append(name)

    listed = place.carry_out(ListGroupsRequest(), 4, once(1, delete)).answer
    assert listed.error_code == 0 and gone
    found = {group.group_id for group in listed.groups}
    assert len(found & set(names)) < len(names)


def test_a_fetch_is_of_one_moment(place: Place) -> None:
    place.commit("moment", partitions=MANY)

    def commit() -> None:
        offsets = [OffsetCommitRequestPartition(partition_index=MANY - 1, committed_offset=9)]
        topics = [OffsetCommitRequestTopic(name="t", partitions=offsets)]
        inner = RequestContext(place.shared.dispatch.broker, "PLAINTEXT", "127.0.0.1", "c", 8)
        HANDLERS[8].handle(commit_request("moment", 0, topics=topics), inner)

    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="moment", topics=None)])
    answer = place.carry_out(request, 8, once(1, commit)).answer
    partitions = answer.groups[0].topics[0].partitions
    assert [one.partition_index for one in partitions] == list(range(MANY))
    assert {one.committed_offset for one in partitions} == {7}


# --- what is named many times ----------------------------------------------------------------------------------------

BOUND = 1_048_576
TIMES = 600


@pytest.fixture(scope="module")
def bounded() -> Iterator[Place]:
    with Place(odradek__response__max__bytes=str(BOUND)) as place:
        yield place


def check_bound(answer: Any, version: int, codes: list[int]) -> int:
    """That what fits was answered and the rest refused; returns how many fit."""
    whole = codes.count(0)
    assert codes == [0] * whole + [ErrorCode.INVALID_REQUEST] * (TIMES - whole) and whole > 1
    assert 0.8 * BOUND < len(encode(answer, version)) < 1.2 * BOUND
    return whole


def test_all_offsets_of_a_group_are_looked_up_once_and_bounded(bounded: Place) -> None:
    bounded.commit("g", partitions=1000)
    groups = [OffsetFetchRequestGroup(group_id="g", topics=None) for _ in range(TIMES)]
    answer = bounded.carry_out(OffsetFetchRequest(groups=groups), 8).answer
    whole = check_bound(answer, 8, [one.error_code for one in answer.groups])
    assert all(one is answer.groups[0] for one in answer.groups[:whole])
    assert [one.group_id for one in answer.groups] == ["g"] * TIMES


def test_members_of_a_group_are_looked_up_once_and_bounded(bounded: Place) -> None:
    with GroupPeer(bounded.port, is_kafka=False) as peer:
        member = peer.join("members", version=3, protocols=[("range", b"m" * 5000)])["member_id"]
        peer.sync("members", 1, member, version=4)
    answer = bounded.carry_out(DescribeGroupsRequest(groups=["members"] * TIMES), 6).answer
    whole = check_bound(answer, 6, [one.error_code for one in answer.groups])
    assert all(one is answer.groups[0] for one in answer.groups[:whole])
    assert "odradek.response.max.bytes" in answer.groups[-1].error_message


def test_partitions_of_a_transaction_are_looked_up_once_and_bounded(bounded: Place) -> None:
    request, version = add_partitions(bounded)
    bounded.carry_out(request, version)
    describe = describe_transactions.DescribeTransactionsRequest(transactional_ids=["adds"] * TIMES)
    answer = bounded.carry_out(describe, 0).answer
    states = answer.transaction_states
    whole = check_bound(answer, 0, [one.error_code for one in states])
    assert all(one is states[0] for one in states[:whole])
    assert states[0].topics[0].partitions == list(range(MANY))


def test_producers_of_a_partition_are_looked_up_once_and_bounded(bounded: Place) -> None:
    for number in range(500):
        bounded.client.produce("one", batch(b"v", producer_id=10_000 + number, producer_epoch=0, base_sequence=0))
    topics = [describe_producers.TopicRequest(name="one", partition_indexes=[0] * TIMES)]
    answer = bounded.carry_out(describe_producers.DescribeProducersRequest(topics=topics), 0).answer
    partitions = answer.topics[0].partitions
    whole = check_bound(answer, 0, [one.error_code for one in partitions])
    assert all(one.active_producers is partitions[0].active_producers for one in partitions[:whole])
    assert len(partitions[0].active_producers) == 500


def test_filters_are_looked_up(place: Place) -> None:
    producer_id, _ = place.producer("filtered")
    filters = [*range(1 << 40, (1 << 40) + MANY), producer_id]
    request = list_transactions.ListTransactionsRequest(producer_id_filters=filters)
    answer = place.carry_out(request, 1).answer
    assert [one.transactional_id for one in answer.transaction_states] == ["filtered"]


def test_a_marker_is_written_once_for_each_partition(place: Place) -> None:
    topics = [WritableTxnMarkerTopic(name="one", partition_indexes=[0] * 100)]
    marker = WritableTxnMarker(producer_id=4712, topics=topics)
    partition = place.server.partitions.topics["one"].partitions[0]
    before = place.look(lambda: partition.end_offset)
    answer = place.carry_out(WriteTxnMarkersRequest(markers=[marker]), 1).answer
    assert [one.error_code for one in answer.markers[0].topics[0].partitions] == [0] * 100
    assert place.look(lambda: partition.end_offset) == before + 1
