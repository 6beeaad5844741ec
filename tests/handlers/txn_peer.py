"""The requests of transactions in a line each. Producer ids become the order in which they were met.

Kafka answers CONCURRENT_TRANSACTIONS while it still completes a transaction, here the request waits: `patient` asks
again until that is over, with both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from odradek.protocol.fields import ZERO_UUID
from odradek.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse
from odradek.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from odradek.protocol.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    TopicRequest,
)
from odradek.protocol.messages.describe_transactions import DescribeTransactionsRequest, DescribeTransactionsResponse
from odradek.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from odradek.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from odradek.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from odradek.protocol.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse
from odradek.protocol.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from odradek.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
)
from odradek.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)
from odradek.records.batch import split_batches
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from tests.handlers.comparison import Plain
from tests.handlers.group_peer import GroupPeer

# NOT_LEADER_OR_FOLLOWER and those of coordinators, while something is made; CONCURRENT_TRANSACTIONS.
BUSY = (6, 14, 15, 16, 51)
PATIENCE_S = 20.0
# A time of its own for each run, so that no segment is full for its age; the same for both brokers.
NOW_MS = int(time.time() * 1000)
Producer = tuple[int, int]


class TxnPeer(GroupPeer):
    """One of the two brokers."""

    def patient(self, ask: Callable[[], Plain]) -> Plain:
        """Asks until nobody is busy with the transaction any more."""
        deadline = time.monotonic() + PATIENCE_S
        while _is_busy(answer := ask()):
            assert time.monotonic() < deadline, answer
        return answer

    def plain(self, value: Any, name: str = "") -> Plain:
        if name == "results_by_partition":
            return sorted(super().plain(value), key=lambda one: int(one["partition_index"]))
        if name in ("results_by_topic_v3_and_below", "topic_results"):
            return sorted(super().plain(value), key=lambda one: str(one["name"]))
        sorted_by_name = not isinstance(value, list) or not value or hasattr(value[0], "name")
        return super().plain(value, name if name != "topics" or sorted_by_name else "")

    # --- producers ---------------------------------------------------------------------------------------------------

    def init(
        self,
        transactional_id: str | None,
        expected: Producer = (-1, -1),
        timeout_ms: int = 60_000,
        version: int = 5,
    ) -> Plain:
        request = InitProducerIdRequest(
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            producer_id=expected[0],
            producer_epoch=expected[1],
        )
        return self.patient(lambda: self.call(request, InitProducerIdResponse, version))

    def begin(self, transactional_id: str) -> Producer:
        self.until_found(transactional_id)
        answer = self.init(transactional_id)
        assert answer["error_code"] == 0, answer
        return answer["producer_id"], answer["producer_epoch"]

    def until_found(self, transactional_id: str) -> None:
        """Asks until the coordinator is there: at first its topic has to be made."""
        deadline = time.monotonic() + PATIENCE_S
        while self.find(transactional_id, kind=1)["coordinators"][0]["error_code"] or self.init(
            f"{transactional_id}-probe"
        )["error_code"] in (14, 15, 16):
            assert time.monotonic() < deadline, transactional_id

    def add(
        self, transactional_id: str, producer: Producer, partitions: Mapping[str, Sequence[int]], version: int = 3
    ) -> Plain:
        topics = [AddPartitionsToTxnTopic(name=name, partitions=list(of)) for name, of in partitions.items()]
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=transactional_id,
            v3_and_below_producer_id=producer[0],
            v3_and_below_producer_epoch=producer[1],
            v3_and_below_topics=topics,
        )
        return self.patient(lambda: self.call(request, AddPartitionsToTxnResponse, version))

    def add_as_broker(
        self,
        transactional_id: str,
        producer: Producer,
        partitions: Mapping[str, Sequence[int]],
        verify_only: bool,
        version: int,
    ) -> Plain:
        one = AddPartitionsToTxnTransaction(
            transactional_id=transactional_id,
            producer_id=producer[0],
            producer_epoch=producer[1],
            verify_only=verify_only,
            topics=[AddPartitionsToTxnTopic(name=name, partitions=list(of)) for name, of in partitions.items()],
        )
        request = AddPartitionsToTxnRequest(transactions=[one])
        return self.patient(lambda: self.call(request, AddPartitionsToTxnResponse, version))

    def add_offsets(self, transactional_id: str, producer: Producer, group: str, version: int = 3) -> Plain:
        request = AddOffsetsToTxnRequest(
            transactional_id=transactional_id, producer_id=producer[0], producer_epoch=producer[1], group_id=group
        )
        return self.patient(lambda: self.call(request, AddOffsetsToTxnResponse, version))

    def end(self, transactional_id: str, producer: Producer, commit: bool, version: int) -> Plain:
        request = EndTxnRequest(
            transactional_id=transactional_id, producer_id=producer[0], producer_epoch=producer[1], committed=commit
        )
        return self.patient(lambda: self.call(request, EndTxnResponse, version))

    def end_twice(
        self,
        transactional_id: str,
        producer: Producer,
        first: tuple[bool, int],
        later: Producer,
        second: tuple[bool, int],
    ) -> list[dict[str, Any]]:
        """Ends, and ends again without waiting for the answer; commit or not and version of each. Both answers: here
        the second has waited until the first was complete."""
        for who, (commit, version) in ((producer, first), (later, second)):
            request = EndTxnRequest(
                transactional_id=transactional_id, producer_id=who[0], producer_epoch=who[1], committed=commit
            )
            self.client.send(request, version)
        answers = [self.plain(self.client.receive(EndTxnResponse, version)) for _, version in (first, second)]
        if self.is_kafka and _is_busy(answers[1]):
            answers[1] = self.end(transactional_id, later, *second)
        return answers

    def write(
        self,
        topic: str,
        producer: Producer,
        sequence: int,
        transactional_id: str | None,
        version: int,
        transactional: bool = True,
        partition: int = 0,
    ) -> Plain:
        """One record; the partition's answer."""
        batch = build_batch(
            [NewRecord(b"k", b"v", NOW_MS)],
            producer_id=producer[0],
            producer_epoch=producer[1],
            base_sequence=sequence,
            transactional=transactional,
        )
        data = [PartitionProduceData(index=partition, records=batch_bytes(batch))]
        ids = self.make_topics(**{topic: 2}) if version >= 13 else {}
        request = ProduceRequest(
            transactional_id=transactional_id,
            acks=-1,
            timeout_ms=20_000,
            topic_data=[
                TopicProduceData(
                    name="" if version >= 13 else topic, topic_id=ids.get(topic, ZERO_UUID), partition_data=data
                )
            ],
        )

        def ask() -> Plain:
            answer = self.call(request, ProduceResponse, version)["responses"][0]["partition_responses"][0]
            # Not of transactions: a sentence, and what Kafka says of a repetition, and beside an error.
            for name in ("error_message", "log_append_time_ms", "log_start_offset", "current_leader"):
                del answer[name]
            return answer

        return self.patient(ask)

    def commit_in(
        self,
        transactional_id: str,
        producer: Producer,
        group: str,
        offsets: Mapping[str | bytes, Mapping[int, int]],
        member: str = "",
        generation: int = -1,
        instance: str | None = None,
        version: int = 5,
    ) -> Plain:
        request = TxnOffsetCommitRequest(
            transactional_id=transactional_id,
            group_id=group,
            producer_id=producer[0],
            producer_epoch=producer[1],
            generation_id_or_member_epoch=generation,
            member_id=member,
            group_instance_id=instance,
            topics=[
                TxnOffsetCommitRequestTopic(
                    name=topic if isinstance(topic, str) else "",
                    topic_id=ZERO_UUID if isinstance(topic, str) else topic,
                    partitions=[
                        TxnOffsetCommitRequestPartition(
                            partition_index=index, committed_offset=offset, committed_metadata="m"
                        )
                        for index, offset in partitions.items()
                    ],
                )
                for topic, partitions in offsets.items()
            ],
        )
        return self.patient(lambda: self.call(request, TxnOffsetCommitResponse, version))

    # --- administrators ----------------------------------------------------------------------------------------------

    def described(self, *transactional_ids: str) -> Plain:
        answer = self.call(
            DescribeTransactionsRequest(transactional_ids=list(transactional_ids)), DescribeTransactionsResponse, 0
        )
        for state in answer["transaction_states"]:
            state["transaction_start_time_ms"] = state["transaction_start_time_ms"] > 0
            state["topics"].sort(key=lambda topic: str(topic["topic"]))
        return answer

    def until_described(self, transactional_id: str, state: str) -> Plain:
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.described(transactional_id)["transaction_states"][0])["transaction_state"] != state:
            assert time.monotonic() < deadline, found
        return found

    def all(self, prefix: str, version: int = 2, **filters: Any) -> Plain:
        answer = self.call(ListTransactionsRequest(**filters), ListTransactionsResponse, version)
        answer["transaction_states"] = sorted(
            (one for one in answer["transaction_states"] if one["transactional_id"].startswith(prefix)),
            key=lambda one: str(one["transactional_id"]),
        )
        return answer

    def mark(
        self, producer: Producer, topic: str, commit: bool, coordinator_epoch: int, version: int, partition: int = 0
    ) -> Plain:
        marker = WritableTxnMarker(
            producer_id=producer[0],
            producer_epoch=producer[1],
            transaction_result=commit,
            topics=[WritableTxnMarkerTopic(name=topic, partition_indexes=[partition])],
            coordinator_epoch=coordinator_epoch,
        )
        return self.call(WriteTxnMarkersRequest(markers=[marker]), WriteTxnMarkersResponse, version)

    def producers(self, topic: str, partition: int = 0) -> Plain:
        asked = [TopicRequest(name=topic, partition_indexes=[partition])]
        answer = self.call(DescribeProducersRequest(topics=asked), DescribeProducersResponse, 0)
        for found in answer["topics"][0]["partitions"]:
            for producer in found["active_producers"]:
                producer["last_timestamp"] = 0
                producer["coordinator_epoch"] = producer["coordinator_epoch"] >= 0
            found["active_producers"].sort(key=lambda one: (one["current_txn_start_offset"], one["producer_epoch"]))
        return answer

    # --- what consumers see ------------------------------------------------------------------------------------------

    def read(self, topic: str, committed: bool, offset: int = 0, version: int = 12, partition: int = 0) -> Plain:
        """Offsets, the aborted transactions, and what batches there are: offset, attributes, sequence, epoch."""
        wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1 << 20)
        request = FetchRequest(
            max_wait_ms=0,
            isolation_level=int(committed),
            topics=[FetchTopic(topic=topic, partitions=[wanted])],
        )
        answer = self.client.call(request, FetchResponse, version).responses[0].partitions[0]
        told = self.plain(answer)
        records = b"".join(bytes(one) for one in answer.records) if isinstance(answer.records, list) else answer.records
        told["records"] = [
            (one.base_offset, one.attributes, one.producer_id, one.producer_epoch, one.base_sequence, bytes(piece[61:]))
            if not one.is_control
            else (one.base_offset, one.attributes, one.producer_id, one.producer_epoch)
            for one, piece in split_batches(bytes(records or b""))
        ]
        return told

    def until_stable(self, topic: str, offset: int, partition: int = 0) -> None:
        """Asks until everything below an offset is of transactions that have ended."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.read(topic, True, partition=partition)["last_stable_offset"]) < offset:
            assert time.monotonic() < deadline, found

    def latest(self, topic: str, committed: bool, timestamp: int = -1, version: int = 7) -> Plain:
        request = ListOffsetsRequest(
            replica_id=-1,
            isolation_level=int(committed),
            topics=[
                ListOffsetsTopic(name=topic, partitions=[ListOffsetsPartition(partition_index=0, timestamp=timestamp)])
            ],
        )
        return self.call(request, ListOffsetsResponse, version)


def _is_busy(answer: Plain) -> bool:
    """Whether an answer says anywhere to ask again."""
    if isinstance(answer, dict):
        return any((key.endswith("error_code") and value in BUSY) or _is_busy(value) for key, value in answer.items())
    return isinstance(answer, list) and any(_is_busy(item) for item in answer)


def without_producer_ids(value: Plain, met: dict[int, str]) -> Plain:
    """A result with every producer id replaced by when it was first met."""
    if isinstance(value, dict):
        return {
            key: met.setdefault(item, f"producer {len(met)}")
            if key == "producer_id" and item >= 0
            else without_producer_ids(item, met)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [without_producer_ids(item, met) for item in value]
    if isinstance(value, tuple):
        return tuple(
            without_producer_ids(item, met) if not isinstance(item, int) else met.get(item, item) for item in value
        )
    return value
