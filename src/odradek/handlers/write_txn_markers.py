"""WriteTxnMarkers (API key 27), versions 1 and 2: ends a producer's transaction in the given partitions.

Card: 2 the transaction version. Administrators use it to abort a hanging transaction (KIP-664); the coordinator of this
broker writes its markers directly. Answered when every marker is durable. A partition that one marker names several
times gets one marker, and is answered as often as it is named (Kafka does not answer such a request at all).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext, Steps
from odradek.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)


def handle(request: WriteTxnMarkersRequest, context: RequestContext) -> Steps:
    """Writes the markers."""
    response = WriteTxnMarkersResponse()
    durables: list[tuple[WritableTxnMarkerPartitionResult, asyncio.Future[None]]] = []
    for marker in request.markers:
        topics = []
        written: dict[tuple[str, int], WritableTxnMarkerPartitionResult] = {}
        for topic in marker.topics:
            results = []
            for index in topic.partition_indexes:
                again = written.get((topic.name, index))
                if again is not None:
                    results.append(again)
                    yield
                    continue
                result = written[topic.name, index] = WritableTxnMarkerPartitionResult(partition_index=index)
                results.append(result)
                durable = _write(marker, topic.name, index, result, context)
                if durable is not None:
                    durables.append((result, durable))
                yield
            topics.append(WritableTxnMarkerTopicResult(name=topic.name, partitions=results))
        response.markers.append(WritableTxnMarkerResult(producer_id=marker.producer_id, topics=topics))
    return _written(response, durables)


async def _written(
    response: WriteTxnMarkersResponse, durables: Sequence[tuple[WritableTxnMarkerPartitionResult, asyncio.Future[None]]]
) -> WriteTxnMarkersResponse:
    waiting = {durable for _, durable in durables if not durable.done()}
    if waiting:
        await asyncio.wait(waiting)
    for result, durable in durables:
        error = asyncio.CancelledError() if durable.cancelled() else durable.exception()
        if error is not None:
            result.error_code = error.code if isinstance(error, KafkaError) else ErrorCode.KAFKA_STORAGE_ERROR
    return response


def refused(request: WriteTxnMarkersRequest, code: ErrorCode, version: int) -> WriteTxnMarkersResponse:
    """The answer that refuses the whole request."""
    return WriteTxnMarkersResponse(
        markers=[
            WritableTxnMarkerResult(
                producer_id=marker.producer_id,
                topics=[
                    WritableTxnMarkerTopicResult(
                        name=topic.name,
                        partitions=[
                            WritableTxnMarkerPartitionResult(partition_index=index, error_code=code)
                            for index in topic.partition_indexes
                        ],
                    )
                    for topic in marker.topics
                ],
            )
            for marker in request.markers
        ]
    )


def _write(
    marker: WritableTxnMarker, name: str, index: int, result: WritableTxnMarkerPartitionResult, context: RequestContext
) -> asyncio.Future[None] | None:
    partition = context.broker.partitions.get(name, index)
    if partition is None:
        result.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return None
    return partition.end_transaction(
        marker.producer_id, marker.producer_epoch, marker.coordinator_epoch, marker.transaction_result
    )
