"""AddPartitionsToTxn (API key 24), versions 0-5.

Card: 0-3 are sent by producers (2: PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH); 4 and 5 by brokers, for several
transactions, or only to verify (KIP-890). A producer of transactions version 2 does not send it: its Produce requests
add partitions implicitly. If one partition does not exist, or a producer names one of an internal topic
(TOPIC_AUTHORIZATION_FAILED), none is added; the others get OPERATION_NOT_ATTEMPTED. A partition that a producer names
twice is answered twice, one that a broker names twice is answered once, as in Kafka.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext, Steps
from odradek.handlers.transactions import code_for
from odradek.handlers.turns import Steps as StepsTo
from odradek.internal_topics import check_add_to_transaction
from odradek.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
)
from odradek.topic_partition import TopicPartition

SEVERAL_SINCE = 4
FENCED_SINCE = 2
# Partitions that are checked, and transactions that are changed, between two yields.
AT_ONCE = 200
TRANSACTIONS_AT_ONCE = 16


def handle(request: AddPartitionsToTxnRequest, context: RequestContext) -> Steps:
    """Adds the partitions to the transactions, or only verifies that they are in them."""
    if context.api_version < SEVERAL_SINCE:
        one = yield from _look_at(
            context,
            AddPartitionsToTxnTransaction(
                transactional_id=request.v3_and_below_transactional_id,
                producer_id=request.v3_and_below_producer_id,
                producer_epoch=request.v3_and_below_producer_epoch,
                topics=request.v3_and_below_topics,
            ),
            of_producer=True,
        )
        return _add_one(context, one)
    wanted: list[_Wanted] = []
    for transaction in request.transactions:
        transaction.topics = _merged(transaction.topics)
        wanted.append((yield from _look_at(context, transaction, of_producer=False)))
        yield
    return _add_all(context, wanted)


def refused(request: AddPartitionsToTxnRequest, code: ErrorCode, version: int) -> AddPartitionsToTxnResponse:
    """The answer that refuses the whole request."""
    if version >= SEVERAL_SINCE:
        return AddPartitionsToTxnResponse(error_code=code)
    return AddPartitionsToTxnResponse(
        results_by_topic_v3_and_below=[
            AddPartitionsToTxnTopicResult(
                name=topic.name,
                results_by_partition=[
                    AddPartitionsToTxnPartitionResult(partition_index=index, partition_error_code=code)
                    for index in topic.partitions
                ],
            )
            for topic in request.v3_and_below_topics
        ]
    )


class _Wanted(NamedTuple):
    """The request for one transaction, and the answers so far."""

    asked: AddPartitionsToTxnTransaction
    places: list[TopicPartition]
    """The partitions to add; empty if they have been answered."""
    answers: list[AddPartitionsToTxnTopicResult]

    def answer(self, code: ErrorCode) -> None:
        """Answers all partitions with the same error code."""
        for topic in self.answers:
            for partition in topic.results_by_partition:
                partition.partition_error_code = code


def _merged(topics: Sequence[AddPartitionsToTxnTopic]) -> list[AddPartitionsToTxnTopic]:
    """The topics of a broker's request, with each partition named once."""
    by_name: dict[str, dict[int, None]] = {}
    for topic in topics:
        by_name.setdefault(topic.name, {}).update(dict.fromkeys(topic.partitions))
    return [AddPartitionsToTxnTopic(name=name, partitions=list(indexes)) for name, indexes in by_name.items()]


def _look_at(context: RequestContext, asked: AddPartitionsToTxnTransaction, of_producer: bool) -> StepsTo[_Wanted]:
    """Checks which partitions are refused, and for a verification whether they are in the transaction."""
    partitions = context.broker.partitions
    places: list[TopicPartition] = []
    answers: list[AddPartitionsToTxnTopicResult] = []
    refused: list[AddPartitionsToTxnPartitionResult] = []
    for topic in asked.topics:
        of_topic = AddPartitionsToTxnTopicResult(name=topic.name)
        answers.append(of_topic)
        topic_code = check_add_to_transaction(topic.name) if of_producer else ErrorCode.NONE
        for number, index in enumerate(topic.partitions, 1):
            answer = AddPartitionsToTxnPartitionResult(partition_index=index, partition_error_code=topic_code)
            of_topic.results_by_partition.append(answer)
            places.append((topic.name, index))
            if topic_code == ErrorCode.NONE and partitions.get(topic.name, index) is None:
                answer.partition_error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            if answer.partition_error_code != ErrorCode.NONE:
                refused.append(answer)
            if number % AT_ONCE == 0:
                yield
        yield
    wanted = _Wanted(asked, places, answers)
    if refused:
        keep = [(answer, answer.partition_error_code) for answer in refused]
        wanted.answer(ErrorCode.OPERATION_NOT_ATTEMPTED)
        for answer, code in keep:
            answer.partition_error_code = code
        places.clear()
    elif not asked.transactional_id:
        wanted.answer(ErrorCode.INVALID_REQUEST)
        places.clear()
    elif asked.verify_only:
        _verify(context, wanted)
        places.clear()
    return wanted


def _verify(context: RequestContext, wanted: _Wanted) -> None:
    asked = wanted.asked
    try:
        found = context.broker.transactions.verify(
            asked.transactional_id, asked.producer_id, asked.producer_epoch, wanted.places
        )
    except KafkaError as error:
        wanted.answer(code_for(error.code, context.api_version, FENCED_SINCE))
        return
    answers = (partition for topic in wanted.answers for partition in topic.results_by_partition)
    for answer, is_there in zip(answers, found, strict=True):
        answer.partition_error_code = ErrorCode.NONE if is_there else ErrorCode.TRANSACTION_ABORTABLE


async def _add(context: RequestContext, wanted: _Wanted) -> None:
    asked = wanted.asked
    if not wanted.places and wanted.answers:
        return
    try:
        await context.broker.transactions.add_partitions(
            asked.transactional_id, asked.producer_id, asked.producer_epoch, frozenset(wanted.places), 0
        )
    except KafkaError as error:
        wanted.answer(code_for(error.code, context.api_version, FENCED_SINCE))


async def _add_one(context: RequestContext, wanted: _Wanted) -> AddPartitionsToTxnResponse:
    await _add(context, wanted)
    return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=wanted.answers)


async def _add_all(context: RequestContext, wanted: Sequence[_Wanted]) -> AddPartitionsToTxnResponse:
    response = AddPartitionsToTxnResponse()
    for number, one in enumerate(wanted, 1):
        await _add(context, one)
        if number % TRANSACTIONS_AT_ONCE == 0:
            await asyncio.sleep(0)
        response.results_by_transaction.append(
            AddPartitionsToTxnResult(transactional_id=one.asked.transactional_id, topic_results=one.answers)
        )
    return response
