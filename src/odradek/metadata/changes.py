"""Creates and deletes topics and adds partitions: checks a request against the image and turns it into records.

Sans-IO and pure: nothing here changes the image. Each function returns an outcome for each requested item, in order,
and the records of the valid items; the caller writes them as one change. Checks, error codes and their order are
Kafka's.

Requests may have many items: the functions are generators that yield after each item, so that other requests are served
meanwhile. The image must not change until a function has returned.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, TypeVar

from odradek.config.layers import BrokerConfig
from odradek.config.setting import InvalidSetting, parse_value
from odradek.config.topic import TOPIC_SETTINGS, check_topic_settings
from odradek.errors import ErrorCode, KafkaError
from odradek.internal_topics import INTERNAL_TOPICS, check_create, made_with
from odradek.metadata.image import (
    PARTITION_VERSION,
    TOPIC_RESOURCE,
    MetadataImage,
    MetadataRecord,
    TopicImage,
    record_of,
)
from odradek.protocol.fields import ZERO_UUID
from odradek.protocol.messages.create_partitions import CreatePartitionsAssignment, CreatePartitionsTopic
from odradek.protocol.messages.create_topics import CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig
from odradek.protocol.messages.delete_topics import DeleteTopicState
from odradek.protocol.records.metadata import ConfigRecord, PartitionRecord, RemoveTopicRecord, TopicRecord

T = TypeVar("T")
NAME = re.compile(r"[a-zA-Z0-9._-]+")
NAME_MAX_LENGTH = 249
MAX_PARTITIONS_PER_REQUEST = 10_000
# In KRaft's records this id means that the broker chooses the replica's directory.
UNASSIGNED_DIRECTORY = ZERO_UUID


class Policy(NamedTuple):
    """What changes depend on besides the image."""

    config: BrokerConfig
    node_id: int
    replicated: bool
    """Whether the engine supports replication factors above 1."""
    choose: random.Random


class TopicOutcome(NamedTuple):
    """The result for one item: an error with its message, or the topic after the change."""

    name: str | None
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    topic_id: bytes = ZERO_UUID
    partitions: int = -1
    replication_factor: int = -1
    overrides: dict[str, str] = {}


Change = Generator[None, None, tuple[list[MetadataRecord], list[TopicOutcome]]]
"""What a change returns, when it has been worked out."""


def check_name(name: str) -> None:
    """Raises `KafkaError` with INVALID_TOPIC_EXCEPTION for a name that no topic can have."""
    why = None
    if not name:
        why = "the empty string is not allowed"
    elif name in (".", ".."):
        why = f"'{name}' is not allowed"
    elif len(name) > NAME_MAX_LENGTH:
        why = f"the length of '{name}' is longer than the max allowed length {NAME_MAX_LENGTH}"
    elif NAME.fullmatch(name) is None:
        why = f"'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    if why is not None:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {why}")


# --- create ----------------------------------------------------------------------------------------------------------


def create_topics(image: MetadataImage, asked: Sequence[CreatableTopic], policy: Policy) -> Change:
    """The records of new topics. An invalid item does not affect the others, except that too many partitions in total
    refuse all items."""
    default = policy.config.integer("num.partitions")
    wanted = 0
    for topic in asked:
        yield
        wanted += len(topic.assignments) or (topic.num_partitions if topic.num_partitions != -1 else default)
    topics, counts = yield from _once(asked, lambda topic: topic.name)
    records: list[MetadataRecord] = []
    outcomes: list[TopicOutcome] = []
    # Names that differ only in "." and "_" collide, since Kafka's metrics do not distinguish the two. As in Kafka, only
    # existing topics are compared, not the other topics of the request.
    folded = {}
    if any(_has_dots(topic.name) for topic in topics):
        folded = {name.replace(".", "_"): name for name in image.topics if _has_dots(name)}
    for topic in topics:
        yield
        try:
            if wanted > MAX_PARTITIONS_PER_REQUEST:
                raise KafkaError(ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")
            if counts[topic.name] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            made, outcome = yield from _create(image, topic, policy, folded)
        except KafkaError as error:
            outcomes.append(TopicOutcome(topic.name, error.code, error.message))
            continue
        records += made
        outcomes.append(outcome)
    return records, outcomes


def default_topic(name: str, policy: Policy) -> CreatableTopic:
    """The CreateTopics item of a topic that is created on first use or by the broker itself."""
    partitions, configs = made_with(name, policy.config)
    # An internal topic has as many replicas as the engine keeps, whatever `default.replication.factor` is.
    replicas = 1 if name in INTERNAL_TOPICS and not policy.replicated else -1
    entries = [CreatableTopicConfig(name=key, value=value) for key, value in configs.items()]
    return CreatableTopic(name=name, num_partitions=partitions, replication_factor=replicas, configs=entries)


def _once(items: Sequence[T], key: Callable[[T], object]) -> Generator[None, None, tuple[list[T], dict[object, int]]]:
    """The items without repetitions, the first one of each key, and how often each key occurs."""
    first: dict[object, T] = {}
    counts: dict[object, int] = {}
    for item in items:
        yield
        of = key(item)
        first.setdefault(of, item)
        counts[of] = counts.get(of, 0) + 1
    return list(first.values()), counts


def _has_dots(name: str) -> bool:
    return "." in name or "_" in name


def _create(
    image: MetadataImage, topic: CreatableTopic, policy: Policy, folded: dict[str, str]
) -> Generator[None, None, tuple[list[MetadataRecord], TopicOutcome]]:
    name = topic.name
    check_name(name)
    if refusal := check_create(name):
        raise KafkaError(refusal, f"Creation of internal topic {name} is prohibited.")
    if name in image.topics:
        raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
    collision = folded.get(name.replace(".", "_"))
    if collision is not None:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {collision}")
    overrides = yield from _check_configs(topic)
    if topic.assignments:
        replicas = yield from _check_assignments(topic, policy)
    else:
        replicas = _place(topic, policy)
    topic_id = _new_id(image, policy)
    records = [record_of(TopicRecord(name=name, topic_id=topic_id))]
    for index, brokers in enumerate(replicas):
        yield
        records.append(_partition(topic_id, index, brokers))
    records += [
        record_of(ConfigRecord(resource_type=TOPIC_RESOURCE, resource_name=name, name=key, value=value))
        for key, value in overrides.items()
    ]
    return records, TopicOutcome(
        name,
        topic_id=topic_id,
        partitions=len(replicas),
        replication_factor=len(replicas[0]),
        overrides=overrides,
    )


def _check_configs(topic: CreatableTopic) -> Generator[None, None, dict[str, str]]:
    overrides: dict[str, str] = {}
    for entry in topic.configs:
        yield
        setting = TOPIC_SETTINGS.get(entry.name)
        if entry.value is None:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {entry.name}")
        if setting is None:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown topic config name: {entry.name}")
        try:
            parse_value(setting, entry.value)
        except InvalidSetting as error:
            raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from None
        overrides[entry.name] = entry.value
    try:
        check_topic_settings(overrides)
    except InvalidSetting as error:
        raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from None
    return overrides


def _place(topic: CreatableTopic, policy: Policy) -> list[list[int]]:
    count, factor = topic.num_partitions, topic.replication_factor
    if count == -1:
        count = policy.config.integer("num.partitions")
    if factor == 0 or factor < -1:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    if count <= 0:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.")
    if factor == -1:
        factor = policy.config.integer("default.replication.factor")
    if factor > 1 and not policy.replicated and not policy.config.flag("odradek.replication.factor.accept"):
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {factor} time(s): only 1 broker(s) are registered. "
            "Set odradek.replication.factor.accept=true to take any replication factor as 1.",
        )
    return [[policy.node_id] for _ in range(count)]


def _check_assignments(topic: CreatableTopic, policy: Policy) -> Generator[None, None, list[list[int]]]:
    if topic.num_partitions != -1:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        )
    if topic.replication_factor != -1:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        )
    by_index: dict[int, CreatableReplicaAssignment] = {}
    for assignment in topic.assignments:
        yield
        if assignment.partition_index in by_index:
            raise KafkaError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Found multiple manual partition assignments for partition {assignment.partition_index}",
            )
        by_index[assignment.partition_index] = assignment
        _check_brokers(assignment.broker_ids, policy)
    if sorted(by_index) != list(range(len(by_index))):
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "partitions should be a consecutive 0-based integer sequence"
        )
    return [by_index[index].broker_ids for index in range(len(by_index))]


def _check_brokers(broker_ids: list[int], policy: Policy) -> None:
    why = None
    if not broker_ids:
        why = "an empty replica list."
    elif len(set(broker_ids)) < len(broker_ids):
        twice = next(broker for broker, count in Counter(broker_ids).items() if count > 1)
        why = f"the broker {twice} more than once."
    else:
        unknown = [broker for broker in broker_ids if broker != policy.node_id]
        if unknown:
            why = f"broker {unknown[0]}, but no such broker is registered."
    if why is not None:
        raise KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"The manual partition assignment includes {why}")


def _new_id(image: MetadataImage, policy: Policy) -> bytes:
    while True:
        # A random (version 4) UUID, as in Kafka. The lowest UUIDs are reserved; none of them is of version 4.
        number = policy.choose.getrandbits(128) & ~(0xF << 76) & ~(0x3 << 62) | (4 << 76) | (2 << 62)
        topic_id = number.to_bytes(16, "big")
        if topic_id not in image.topics_by_id:
            return topic_id


def _partition(topic_id: bytes, index: int, brokers: list[int]) -> MetadataRecord:
    record = PartitionRecord(
        partition_id=index,
        topic_id=topic_id,
        replicas=brokers,
        isr=brokers,
        leader=brokers[0],
        leader_epoch=0,
        partition_epoch=0,
        directories=[UNASSIGNED_DIRECTORY for _ in brokers],
    )
    return record_of(record, PARTITION_VERSION)


# --- delete ----------------------------------------------------------------------------------------------------------


def delete_topics(image: MetadataImage, asked: Sequence[DeleteTopicState], policy: Policy, old_client: bool) -> Change:
    """The records that remove topics, given by name or by id. `old_client`: the request has a version below 3, whose
    clients do not know TOPIC_DELETION_DISABLED and get INVALID_REQUEST."""
    records: list[MetadataRecord] = []
    outcomes: list[TopicOutcome] = []
    states, _ = yield from _once(asked, lambda state: (state.name, state.topic_id))
    names: Counter[str] = Counter()
    ids: Counter[bytes] = Counter()
    for state in asked:
        yield
        if state.name is None:
            ids[state.topic_id] += 1
        else:
            names[state.name] += 1
    # A topic that is given both by name and by id gets one error and is not deleted.
    twice = {topic_id for topic_id in ids if (found := image.topics_by_id.get(topic_id)) and found.name in names}
    for state in states:
        yield
        if state.name is None and state.topic_id in twice:
            continue
        try:
            if not policy.config.flag("delete.topic.enable"):
                code = ErrorCode.INVALID_REQUEST if old_client else ErrorCode.TOPIC_DELETION_DISABLED
                raise KafkaError(code, "Topic deletion is disabled by delete.topic.enable.")
            topic = _find(image, state, names, ids)
        except KafkaError as error:
            outcomes.append(TopicOutcome(state.name, error.code, error.message, topic_id=state.topic_id))
            continue
        if topic.id in twice:
            why = "The topic was given both by its name and by its id."
            outcomes.append(TopicOutcome(topic.name, ErrorCode.INVALID_REQUEST, why, topic_id=topic.id))
            continue
        records.append(record_of(RemoveTopicRecord(topic_id=topic.id)))
        outcomes.append(TopicOutcome(topic.name, topic_id=topic.id))
    return records, outcomes


def _find(image: MetadataImage, state: DeleteTopicState, names: Counter[str], ids: Counter[bytes]) -> TopicImage:
    if state.name is None:
        if state.topic_id == ZERO_UUID:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Neither topic name nor id were specified.")
        if ids[state.topic_id] > 1:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic id.")
        found = image.topics_by_id.get(state.topic_id)
        if found is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID, "This server does not host this topic ID.")
    else:
        if state.topic_id != ZERO_UUID:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "You may not specify both topic name and topic id.")
        if names[state.name] > 1:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
        found = image.topics.get(state.name)
        if found is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
    return found


# --- add partitions --------------------------------------------------------------------------------------------------


def create_partitions(image: MetadataImage, asked: Sequence[CreatePartitionsTopic], policy: Policy) -> Change:
    """The records that add partitions to existing topics."""
    added = 0
    for topic in asked:
        yield
        if topic.name in image.topics:
            added += max(0, topic.count - image.topics[topic.name].partition_count)
    topics, counts = yield from _once(asked, lambda topic: topic.name)
    records: list[MetadataRecord] = []
    outcomes: list[TopicOutcome] = []
    for topic in topics:
        yield
        try:
            if added > MAX_PARTITIONS_PER_REQUEST:
                raise KafkaError(
                    ErrorCode.POLICY_VIOLATION, "Excessively large number of additional partitions per request."
                )
            if counts[topic.name] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            records += yield from _enlarge(image, topic, policy)
        except KafkaError as error:
            outcomes.append(TopicOutcome(topic.name, error.code, error.message or None))
            continue
        outcomes.append(TopicOutcome(topic.name))
    return records, outcomes


def _enlarge(
    image: MetadataImage, topic: CreatePartitionsTopic, policy: Policy
) -> Generator[None, None, list[MetadataRecord]]:
    found = image.topics.get(topic.name)
    if found is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    have = found.partition_count
    if topic.count == have:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {have} partition(s).")
    if topic.count < have:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {topic.name} currently has {have} partition(s); {topic.count} would not be an increase.",
        )
    replicas = yield from _check_added(topic.assignments, topic.count - have, policy)
    records = []
    for index, brokers in enumerate(replicas, have):
        yield
        records.append(_partition(found.id, index, brokers))
    return records


def _check_added(
    assignments: list[CreatePartitionsAssignment] | None, added: int, policy: Policy
) -> Generator[None, None, list[list[int]]]:
    if assignments is None:
        return [[policy.node_id] for _ in range(added)]
    if len(assignments) != added:
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Attempted to add {added} additional partition(s), but only {len(assignments)} assignment(s) were "
            "specified.",
        )
    for assignment in assignments:
        yield
        _check_brokers(assignment.broker_ids, policy)
    return [assignment.broker_ids for assignment in assignments]
