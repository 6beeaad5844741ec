"""DescribeLogDirs (API key 35), versions 1-5.

Card: 3 a top-level error, 4 the disk's total and usable bytes (KIP-827), 5 cordoned (never). One data directory; a
partition's size is that of its batches, its lag always 0 (there are no followers). A topic or partition that is not
here is left out, as in Kafka; no topics (null) means all.
"""

from __future__ import annotations

from odradek.errors import ErrorCode
from odradek.handlers.context import RequestContext
from odradek.partitions.partition import Partition
from odradek.protocol.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)


def handle(request: DescribeLogDirsRequest, context: RequestContext) -> DescribeLogDirsResponse:
    """The data directory, with the sizes of the partitions asked for."""
    broker = context.broker
    path, total_bytes, usable_bytes = broker.engine.usage()
    result = DescribeLogDirsResult(log_dir=path, total_bytes=total_bytes, usable_bytes=usable_bytes)
    if request.topics is None:
        for topic in broker.partitions.topics.values():
            _add(result, topic.name, topic.partitions)
    else:
        for asked in request.topics:
            found = [broker.partitions.get(asked.topic, index) for index in asked.partitions]
            _add(result, asked.topic, [partition for partition in found if partition is not None])
    return DescribeLogDirsResponse(results=[result])


def refused(request: DescribeLogDirsRequest, code: ErrorCode, version: int) -> DescribeLogDirsResponse:
    """The answer that refuses the whole request; before version 3 it has no field for the error."""
    return DescribeLogDirsResponse(error_code=code)


def _add(result: DescribeLogDirsResult, topic: str, partitions: list[Partition]) -> None:
    described = [
        DescribeLogDirsPartition(partition_index=p.identity.partition, partition_size=p.size_bytes())
        for p in partitions
        if p.opening is not None
    ]
    if described:
        result.topics.append(DescribeLogDirsTopic(name=topic, partitions=described))
