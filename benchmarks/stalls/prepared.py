"""The broker of a run, and what is made in it for cases to ask about: made when a case first asks for it, once.

Role: connections to the broker, and thousands of topics, groups and transactional ids, by as few requests as will do.
A case that uses something up says so (`forget`), and the next that asks for it has it made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from benchmarks.brokers import Broker, wait_until_usable
from odradek.protocol.fields import Message
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from odradek.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from odradek.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from odradek.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from odradek.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from tests.handlers.txn_peer import Producer, TxnPeer
from tests.raw_client import RawClient, batch

R = TypeVar("R", bound=Message)
COUNT = 10_000
"""Of topics, groups, transactional ids and partitions in a run of full size."""
MANY_PARTITIONS = 1_000
MEMBER_BYTES = 100_000
"""Of the metadata, and of the assignment, of the large group's member."""
LATEST = -1
"""The timestamp that asks for the end."""
TIMEOUT_S = 60.0
"""What takes longer counts as not answered."""
PATIENCE_S = 60.0
CONNECTIONS = 16
# Kafka makes at most 10,000 metadata records of one request.
AT_A_TIME = 2_000
SESSION_MS = 600_000
TOPIC_ALREADY_EXISTS = 36
# While a coordinator, or a new partition, is not there yet.
NOT_YET = (3, 6, 14, 15, 16, 51)


class Prepared:
    """One broker with what was made in it. Close it in the end."""

    def __init__(self, broker: Broker, count: int, http_port: int = 0) -> None:
        self.broker = broker
        self.count = count
        self.http_port = http_port
        """Where /metrics is; 0 if nowhere."""
        self.client = self.connect()
        self.peer = TxnPeer(broker.port, broker.name == "kafka")
        self.peer.client.socket.settimeout(TIMEOUT_S)
        self._made: dict[str, Any] = {}
        self._changes = 0
        # Their topics are made here: among ten thousand others Kafka takes longer than anybody waits.
        self.peer.until_served("first")
        self.peer.until_found("first")

    def close(self) -> None:
        self.client.socket.close()
        self.peer.stack.close()

    def connect(self) -> RawClient:
        client = RawClient(self.broker.port)
        client.socket.settimeout(TIMEOUT_S)
        return client

    def reconnect(self) -> None:
        """After a request that was not answered."""
        self.client.socket.close()
        self.client = self.connect()

    def scaled(self, size: int) -> int:
        """So many in a run of this size."""
        return max(1, size * self.count // COUNT)

    def another(self) -> int:
        """A number that was not given before, for what must differ from round to round."""
        self._changes += 1
        return self._changes

    def forget(self, what: str) -> None:
        """It was used up."""
        self._made.pop(what, None)

    def has(self, what: str) -> None:
        """A case has made it."""
        self._made[what] = None

    def _once(self, what: str, make: Callable[[], Any]) -> Any:
        if what not in self._made:
            self._made[what] = make()
        return self._made[what]

    # --- topics --------------------------------------------------------------------------------------------------

    @property
    def topic_names(self) -> list[str]:
        return [f"topic-{number:05}" for number in range(self.count)]

    def topics(self) -> list[str]:
        """Ten thousand topics of one partition."""
        self._once("topics", lambda: self.create((name, 1) for name in self.topic_names))
        return self.topic_names

    def topics_with_records(self) -> list[str]:
        """The same, each with a record at least."""
        names = self.topics()
        self._once("records", lambda: self.produce([(name, 0) for name in names]))
        return names

    def topics_of_two(self) -> list[str]:
        """The same, with two partitions each."""
        names = self.topics()

        def widen() -> None:
            for part in _parts(names, AT_A_TIME):
                wanted = [CreatePartitionsTopic(name=name, count=2, assignments=None) for name in part]
                request = CreatePartitionsRequest(topics=wanted, timeout_ms=60_000)
                self.client.call(request, CreatePartitionsResponse, 2)

        self._once("two", widen)
        return names

    def one(self) -> str:
        """A topic of one partition with a record."""

        def make() -> None:
            self.create([("one", 1)])
            self.produce([("one", 0)])

        self._once("one", make)
        return "one"

    def ends(self, names: list[str]) -> dict[str, int]:
        """Where the first partition of each of these topics ends."""
        answer = self.client.call(list_offsets(names, LATEST), ListOffsetsResponse, 7)
        return {topic.name: topic.partitions[0].offset for topic in answer.topics}

    @property
    def many_partitions(self) -> int:
        return self.scaled(MANY_PARTITIONS)

    def many(self) -> str:
        """A topic of a thousand partitions."""
        self._once("many", lambda: self.create([("many", self.many_partitions)]))
        return "many"

    def create(self, topics: Iterable[tuple[str, int]]) -> None:
        """Names and partitions. Returns when the last of them takes records; those that exist are left alone."""
        names = []
        for part in _parts(list(topics), AT_A_TIME):
            wanted = [CreatableTopic(name=name, num_partitions=count, replication_factor=1) for name, count in part]
            answer = self.client.call(CreateTopicsRequest(topics=wanted, timeout_ms=60_000), CreateTopicsResponse, 5)
            wrong = [topic for topic in answer.topics if topic.error_code not in (0, TOPIC_ALREADY_EXISTS)]
            assert not wrong, wrong[0]
            names = part
        name, count = names[-1]
        wait_until_usable(self.client, name, count - 1)

    def delete(self, names: Sequence[str]) -> None:
        for part in _parts(list(names), AT_A_TIME):
            request = DeleteTopicsRequest(topic_names=list(part), timeout_ms=60_000)
            self.client.call(request, DeleteTopicsResponse, 5)

    def produce(self, places: list[tuple[str, int]], record: bytes | None = None) -> None:
        """A record to each of these partitions; tries again where a partition is not there yet."""
        record = record or batch(b"x", timestamp_ms=now_ms())
        for part in _parts(places, 1_000):
            deadline = time.monotonic() + PATIENCE_S
            while part:
                answer = self.client.call(produce_to(part, record), ProduceResponse, 9)
                failed = [
                    ((topic.name, one.index), one.error_code)
                    for topic in answer.responses
                    for one in topic.partition_responses
                    if one.error_code
                ]
                assert all(code in NOT_YET for _, code in failed), failed[0]
                assert time.monotonic() < deadline, failed[0]
                part = [place for place, _ in failed]

    # --- groups --------------------------------------------------------------------------------------------------

    @property
    def group_names(self) -> list[str]:
        return [f"group-{number:05}" for number in range(self.count)]

    def groups(self) -> list[str]:
        """Ten thousand groups with an offset each."""
        topic = self.one()

        def make() -> None:
            self.peer.until_served("groups")
            requests = [commit(name, [(topic, 0)]) for name in self.group_names]
            self.all_done(requests, OffsetCommitResponse, 7, lambda answer: answer.topics[0].partitions[0].error_code)

        self._once("groups", make)
        return self.group_names

    def group_with_offsets(self) -> str:
        """One group with an offset in each of ten thousand topics."""
        places = [(name, 0) for name in self.topics()]

        def make() -> None:
            self.peer.until_served("offsets")
            self.client.call(commit("offsets", places), OffsetCommitResponse, 7)

        self._once("offsets", make)
        return "offsets"

    def large_group(self) -> str:
        """A group of one member, with large metadata and a large assignment."""
        data = bytes(MEMBER_BYTES)

        def make() -> None:
            self.peer.until_served("large")
            # Before version 4 nobody is asked to come again with a member id.
            joined = self.peer.join("large", version=3, protocols=[("range", data)], session_ms=SESSION_MS)
            member, generation = joined["member_id"], joined["generation_id"]
            self.peer.sync("large", generation, member, {member: data}, version=2)

        self._once("large", make)
        return "large"

    # --- transactions --------------------------------------------------------------------------------------------

    def transactional_ids(self) -> list[str]:
        """Ten thousand, each of many letters `a` and a number."""
        names = ["a" * 50 + f"-{number:05}" for number in range(self.count)]

        def make() -> None:
            self.peer.until_found(names[0])
            requests = [InitProducerIdRequest(transactional_id=name, transaction_timeout_ms=60_000) for name in names]
            self.all_done(requests, InitProducerIdResponse, 4, lambda answer: answer.error_code)

        self._once("ids", make)
        return names

    def producer(self) -> Producer:
        """That of the transactional id `transaction`."""

        def make() -> Producer:
            self.peer.until_found("transaction")
            answer = self.peer.init("transaction", timeout_ms=SESSION_MS)
            return answer["producer_id"], answer["producer_epoch"]

        return self._once("producer", make)  # type: ignore[no-any-return]

    def transaction(self) -> Producer:
        """The same producer, in a transaction with ten thousand partitions."""
        producer, partitions = self.producer(), {name: [0] for name in self.topics()}
        self._once("transaction", lambda: self.peer.add("transaction", producer, partitions))
        return producer

    # --- many requests -------------------------------------------------------------------------------------------

    def all_done(self, requests: list[Any], response: type[R], version: int, code: Callable[[R], int]) -> None:
        """Small requests over several connections, until each was answered without an error."""
        clients = [self.connect() for _ in range(CONNECTIONS)]
        deadline = time.monotonic() + PATIENCE_S
        while requests:
            again = []
            for part in _parts(requests, CONNECTIONS * 100):
                shares = [part[index::CONNECTIONS] for index in range(CONNECTIONS)]
                for client, share in zip(clients, shares, strict=True):
                    client.send_bytes(b"".join(encode_request(one, version, 1, "stalls") for one in share))
                for client, share in zip(clients, shares, strict=True):
                    again += [one for one in share if self._failed(client.receive(response, version), code)]
            requests = again
            assert time.monotonic() < deadline, f"{len(requests)} requests cannot be served"
        for client in clients:
            client.socket.close()

    @staticmethod
    def _failed(answer: R, code: Callable[[R], int]) -> bool:
        found = code(answer)
        assert found in (0, *NOT_YET), answer
        return found != 0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def list_offsets(names: list[str], timestamp: int) -> ListOffsetsRequest:
    """Of the first partition of each of these topics."""
    wanted = [ListOffsetsPartition(partition_index=0, timestamp=timestamp)]
    return ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=name, partitions=wanted) for name in names])


def produce_to(places: Iterable[tuple[str, int]], records: bytes, acks: int = -1) -> ProduceRequest:
    """The same records for each of these partitions; those of a topic are together."""
    topics: dict[str, TopicProduceData] = {}
    for name, index in places:
        topic = topics.setdefault(name, TopicProduceData(name=name))
        topic.partition_data.append(PartitionProduceData(index=index, records=records))
    return ProduceRequest(acks=acks, timeout_ms=60_000, topic_data=list(topics.values()))


def commit(group: str, places: Iterable[tuple[str, int]]) -> OffsetCommitRequest:
    """An offset for each of these partitions, by nobody's member."""
    topics: dict[str, OffsetCommitRequestTopic] = {}
    for name, index in places:
        topic = topics.setdefault(name, OffsetCommitRequestTopic(name=name))
        partition = OffsetCommitRequestPartition(partition_index=index, committed_offset=1, committed_metadata="")
        topic.partitions.append(partition)
    return OffsetCommitRequest(
        group_id=group, generation_id_or_member_epoch=-1, member_id="", topics=list(topics.values())
    )


T = TypeVar("T")


def _parts(items: list[T], size: int) -> Iterable[list[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
