"""AddPartitionsToTxn (API key 24)."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, boolean, field, int16, int32, int64, string


class AddPartitionsToTxnTopic(Struct):
    name: string = field("0+", entity_type="topicName")
    partitions: list[int32] = field("0+")


class AddPartitionsToTxnTransaction(Struct):
    transactional_id: string = field("4+")
    producer_id: int64 = field("4+")
    producer_epoch: int16 = field("4+")
    verify_only: boolean = field("4+", default=False)
    topics: list[AddPartitionsToTxnTopic] = field("4+")


class AddPartitionsToTxnRequest(Message, api_key=24, versions="0-5", flexible="3+"):
    transactions: list[AddPartitionsToTxnTransaction] = field("4+")
    v3_and_below_transactional_id: string = field("0-3")
    v3_and_below_producer_id: int64 = field("0-3")
    v3_and_below_producer_epoch: int16 = field("0-3")
    v3_and_below_topics: list[AddPartitionsToTxnTopic] = field("0-3")


class AddPartitionsToTxnTopicResult(Struct):
    name: string = field("0+")
    results_by_partition: list[AddPartitionsToTxnPartitionResult] = field("0+")


class AddPartitionsToTxnPartitionResult(Struct):
    partition_index: int32 = field("0+")
    partition_error_code: int16 = field("0+")


class AddPartitionsToTxnResult(Struct):
    transactional_id: string = field("4+")
    topic_results: list[AddPartitionsToTxnTopicResult] = field("4+")


class AddPartitionsToTxnResponse(Message, api_key=24, versions="0-5", flexible="3+"):
    throttle_time_ms: int32 = field("0+")
    error_code: int16 = field("4+")
    results_by_transaction: list[AddPartitionsToTxnResult] = field("4+")
    results_by_topic_v3_and_below: list[AddPartitionsToTxnTopicResult] = field("0-3")
