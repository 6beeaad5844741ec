"""Metadata (API key 3), versions 0-13.

Card: 0 an empty list means all topics, later null does; 4 auto creation on request, 7 leader epochs, 8 authorized
operations (KIP-430; there is no authorizer, so all), 10 topic ids, 12 topics by id (KIP-516), 13 a top-level error.
- A topic that does not exist is created if the client allows it and `auto.create.topics.enable` is true. The answer
  waits until the topic can be used, so that a client need not retry (Kafka first answers UNKNOWN_TOPIC_OR_PARTITION).
- This broker is the only one, and the controller.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext, Steps
from odradek.handlers.topics import (
    CLUSTER_OPERATIONS,
    OPERATIONS_NOT_ASKED,
    TOPIC_OPERATIONS,
    leader_epoch,
    why_unknown,
)
from odradek.internal_topics import INTERNAL_TOPICS, check_create
from odradek.metadata.changes import Change, create_topics, default_topic
from odradek.metadata.image import MetadataImage, TopicImage
from odradek.protocol.fields import ZERO_UUID
from odradek.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)

PARTITIONS_AT_ONCE = 64
AUTO_CREATION_FIELD_SINCE = 4
OPERATIONS_SINCE = 8
BY_ID_SINCE = 12


def handle(request: MetadataRequest, context: RequestContext) -> Steps:
    """The broker, and the topics asked for."""
    broker = context.broker
    version = context.api_version
    topics = request.topics
    if topics is None or (version == 0 and not topics):
        return _respond(request, context, (yield from _describe_all(request, context)))
    image = broker.metadata.image
    by_wrong_id = False
    missing: dict[str, None] = {}
    for topic in topics:
        yield
        by_wrong_id = by_wrong_id or _by_wrong_id(topic, version)
        if (
            topic.name is not None
            and topic.topic_id == ZERO_UUID
            and topic.name not in image.topics
            and not check_create(topic.name)
        ):
            missing[topic.name] = None
    if by_wrong_id:
        return (yield from _refuse_by_wrong_id(topics, version))
    allowed = request.allow_auto_topic_creation or version < AUTO_CREATION_FIELD_SINCE
    if missing and allowed and broker.config.flag("auto.create.topics.enable"):
        return _create_then_answer(list(missing), request, context)
    return (yield from _answer(request, context, {}))


def refused(request: MetadataRequest, code: ErrorCode, version: int) -> MetadataResponse:
    """The answer that refuses the whole request. Before version 13 the answer for all topics has no field for it."""
    return MetadataResponse(
        error_code=code,
        topics=[
            MetadataResponseTopic(error_code=code, name=topic.name or "", topic_id=topic.topic_id)
            for topic in request.topics or ()
        ],
    )


def _by_wrong_id(topic: MetadataRequestTopic, version: int) -> bool:
    """Whether a topic lacks its identification: before version 12 it must have a name and no id, later one of both."""
    if version < BY_ID_SINCE:
        return topic.name is None or topic.topic_id != ZERO_UUID
    return topic.name is None and topic.topic_id == ZERO_UUID


def _refuse_by_wrong_id(
    topics: Sequence[MetadataRequestTopic], version: int
) -> Generator[None, None, MetadataResponse]:
    response = MetadataResponse(controller_id=-1)
    for topic in topics:
        yield
        response.topics.append(
            MetadataResponseTopic(
                error_code=ErrorCode.INVALID_REQUEST,
                name=topic.name if version >= BY_ID_SINCE else topic.name or "",
                topic_id=topic.topic_id,
            )
        )
    return response


def _describe_all(
    request: MetadataRequest, context: RequestContext
) -> Generator[None, None, list[MetadataResponseTopic]]:
    """Those that there are now; of one that is deleted meanwhile what there was."""
    described = []
    for topic in list(context.broker.metadata.image.topics.values()):
        described.append((yield from _describe(topic, request, context)))
        yield
    return described


async def _create_then_answer(names: list[str], request: MetadataRequest, context: RequestContext) -> MetadataResponse:
    broker = context.broker
    failed: dict[str, ErrorCode] = {}

    def create(image: MetadataImage) -> Change:
        rules = broker.metadata.policy
        asked = []
        for name in names:
            yield
            if name not in image.topics:
                asked.append(default_topic(name, rules))
        records, outcomes = yield from create_topics(image, asked, rules)
        if records:
            broker.partitions.space.check()
        failed.update({outcome.name or "": outcome.error for outcome in outcomes if outcome.error})
        return records, outcomes

    try:
        await broker.metadata.change(create)
    except KafkaError:
        # The error on which clients retry soon.
        failed.update(dict.fromkeys(names, ErrorCode.LEADER_NOT_AVAILABLE))
    return await broker.turns.run(_answer(request, context, failed))


def _answer(
    request: MetadataRequest, context: RequestContext, failed: dict[str, ErrorCode]
) -> Generator[None, None, MetadataResponse]:
    image = context.broker.metadata.image
    operations = _operations(request, context)
    answers: dict[tuple[str | None, bytes], MetadataResponseTopic] = {}
    for topic in request.topics or []:
        yield
        key = (topic.name, topic.topic_id)
        if key in answers:
            continue
        name = topic.name or ""
        by_id = topic.topic_id != ZERO_UUID
        found = image.topics_by_id.get(topic.topic_id) if by_id else image.topics.get(name)
        if found is not None:
            answers[key] = yield from _describe(found, request, context)
        elif by_id:
            answers[key] = MetadataResponseTopic(
                error_code=ErrorCode.UNKNOWN_TOPIC_ID, name=None, topic_id=topic.topic_id
            )
        else:
            answers[key] = MetadataResponseTopic(
                error_code=failed.get(name) or why_unknown(name),
                name=name,
                is_internal=name in INTERNAL_TOPICS,
                topic_authorized_operations=operations,
            )
    return _respond(request, context, list(answers.values()))


def _operations(request: MetadataRequest, context: RequestContext) -> int:
    asked = request.include_topic_authorized_operations and context.api_version >= OPERATIONS_SINCE
    return TOPIC_OPERATIONS if asked else OPERATIONS_NOT_ASKED


def _describe(
    topic: TopicImage, request: MetadataRequest, context: RequestContext
) -> Generator[None, None, MetadataResponseTopic]:
    broker = context.broker
    here = [broker.node_id]
    partitions = []
    for index in sorted(topic.partition_records):
        partitions.append(
            MetadataResponsePartition(
                partition_index=index,
                leader_id=broker.node_id,
                leader_epoch=leader_epoch(broker, topic.name, index),
                replica_nodes=here,
                isr_nodes=here,
            )
        )
        if index % PARTITIONS_AT_ONCE == PARTITIONS_AT_ONCE - 1:
            yield
    return MetadataResponseTopic(
        name=topic.name,
        topic_id=topic.id,
        is_internal=topic.name in INTERNAL_TOPICS,
        partitions=partitions,
        topic_authorized_operations=_operations(request, context),
    )


def _respond(
    request: MetadataRequest, context: RequestContext, topics: list[MetadataResponseTopic]
) -> MetadataResponse:
    broker = context.broker
    host, port = broker.advertised[context.listener]
    asked = request.include_cluster_authorized_operations
    return MetadataResponse(
        brokers=[MetadataResponseBroker(node_id=broker.node_id, host=host, port=port, rack=None)],
        cluster_id=broker.metadata.cluster_id,
        controller_id=broker.node_id,
        topics=topics,
        cluster_authorized_operations=CLUSTER_OPERATIONS if asked else OPERATIONS_NOT_ASKED,
    )
