"""One request about ten thousand partitions of one transaction."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.stalls.cases import Request, Sent, case
from benchmarks.stalls.prepared import Prepared
from odradek.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnTopic
from odradek.protocol.messages.end_txn import EndTxnRequest
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


@case("write-txn-markers", "WriteTxnMarkers to {:,} partitions", 10_000)
def write_txn_markers(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    topics = [
        WritableTxnMarkerTopic(name=name, partition_indexes=[0]) for name in prepared.topics_with_records()[:partitions]
    ]
    producer_id = prepared.peer.init(None)["producer_id"]
    marker = WritableTxnMarker(
        producer_id=producer_id, producer_epoch=0, transaction_result=True, topics=topics, coordinator_epoch=0
    )
    yield Request(prepared.client, WriteTxnMarkersRequest(markers=[marker]), 1)


@case("add-partitions-to-txn", "AddPartitionsToTxn, {:,} partitions", 10_000, once=True)
def add_partitions_to_txn(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    producer_id, epoch = prepared.producer()
    topics = [AddPartitionsToTxnTopic(name=name, partitions=[0]) for name in prepared.topics()[:partitions]]
    request = AddPartitionsToTxnRequest(
        v3_and_below_transactional_id="transaction",
        v3_and_below_producer_id=producer_id,
        v3_and_below_producer_epoch=epoch,
        v3_and_below_topics=topics,
    )
    yield Request(prepared.client, request, 3)


@case("txn-offset-commit", "TxnOffsetCommit of {:,} partitions", 10_000)
def txn_offset_commit(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    producer_id, epoch = prepared.transaction()
    prepared.peer.until_served("in-transaction")
    prepared.peer.add_offsets("transaction", (producer_id, epoch), "in-transaction")
    wanted = [TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=1, committed_metadata="")]
    request = TxnOffsetCommitRequest(
        transactional_id="transaction",
        group_id="in-transaction",
        producer_id=producer_id,
        producer_epoch=epoch,
        topics=[TxnOffsetCommitRequestTopic(name=name, partitions=wanted) for name in prepared.topics()[:partitions]],
    )
    yield Request(prepared.client, request, 3)


@case("end-txn", "EndTxn of {:,} partitions, until all have their marker", 10_000, once=True)
def end_txn(prepared: Prepared, _: int) -> Iterator[Sent]:
    producer_id, epoch = prepared.transaction()
    request = EndTxnRequest(
        transactional_id="transaction", producer_id=producer_id, producer_epoch=epoch, committed=True
    )
    prepared.forget("transaction")
    yield Request(prepared.client, request, 3, lambda: _until_complete(prepared))


def _until_complete(prepared: Prepared) -> None:
    while prepared.peer.described("transaction")["transaction_states"][0]["transaction_state"] != "CompleteCommit":
        time.sleep(0.05)
