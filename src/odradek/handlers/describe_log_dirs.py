"""DescribeLogDirs (API key 35), versions 1-5.

Card: 3 a top-level error, 4 the disk's total and usable bytes (KIP-827), 5 cordoned (never). One data directory; a
partition's size is that of its batches, its lag always 0 (there are no followers). A topic or partition that is not
here is left out, and one that is named several times is answered once, as in Kafka; no topics (null) means all.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

from odradek.errors import ErrorCode
from odradek.handlers.context import RequestContext, Steps
from odradek.partitions.registry import Topic
from odradek.protocol.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)


def handle(request: DescribeLogDirsRequest, context: RequestContext) -> Steps:
    """The data directory, with the sizes of the partitions asked for."""
    broker = context.broker
    path, total_bytes, usable_bytes = broker.engine.usage()
    result = DescribeLogDirsResult(log_dir=path, total_bytes=total_bytes, usable_bytes=usable_bytes)
    topics = broker.partitions.topics
    if request.topics is None:
        for topic in list(topics.values()):
            yield from _add(result, topic, range(len(topic.partitions)))
    else:
        asked: dict[str, dict[int, None]] = {}
        for one in request.topics:
            indexes = asked.setdefault(one.topic, {})
            for index in one.partitions:
                yield
                indexes[index] = None
        for name, indexes in asked.items():
            yield
            found = topics.get(name)
            if found is not None:
                yield from _add(result, found, indexes)
    return DescribeLogDirsResponse(results=[result])


def refused(request: DescribeLogDirsRequest, code: ErrorCode, version: int) -> DescribeLogDirsResponse:
    """The answer that refuses the whole request; before version 3 it has no field for the error."""
    return DescribeLogDirsResponse(error_code=code)


def _add(result: DescribeLogDirsResult, topic: Topic, indexes: Iterable[int]) -> Generator[None, None, None]:
    described = []
    for index in indexes:
        yield
        # Looked up anew: a topic may get more partitions meanwhile, or be deleted.
        if 0 <= index < len(topic.partitions) and (partition := topic.partitions[index]).opening is not None:
            described.append(DescribeLogDirsPartition(partition_index=index, partition_size=partition.size_bytes()))
    if described:
        result.topics.append(DescribeLogDirsTopic(name=topic.name, partitions=described))
