"""Changes of topics: what may be asked, whatever is asked in a row, and what the settings allow.

The single errors are compared with Apache Kafka's in tests/handlers/test_topics_like_kafka.py.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odradek.config import BrokerConfig
from odradek.errors import ErrorCode, KafkaError
from odradek.metadata import changes
from odradek.metadata.changes import (
    MAX_PARTITIONS_PER_REQUEST,
    Policy,
    TopicOutcome,
    check_name,
    create_partitions,
    create_topics,
    delete_topics,
)
from odradek.metadata.image import Delta, MetadataImage, MetadataRecord, decode_record, encode_record
from odradek.protocol.fields import Message
from odradek.protocol.messages.create_partitions import CreatePartitionsTopic
from odradek.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
)
from odradek.protocol.messages.delete_topics import DeleteTopicState
from tests.metadata.working import most_between, worked_out


def policy(replicated: bool = False, seed: int = 1, **given: str) -> Policy:
    config = BrokerConfig({name.replace("__", "."): value for name, value in given.items()})
    return Policy(config, 1, replicated, random.Random(seed))


def topic(name: str = "t", partitions: int = 1, factor: int = 1, **settings: str) -> CreatableTopic:
    configs = [CreatableTopicConfig(name=key.replace("__", "."), value=value) for key, value in settings.items()]
    return CreatableTopic(name=name, num_partitions=partitions, replication_factor=factor, configs=configs)


def apply(image: MetadataImage, records: list[MetadataRecord]) -> None:
    for record in records:
        image.replay(decode_record(encode_record(record)), Delta())


def made(image: MetadataImage, asked: CreatableTopic, rules: Policy | None = None) -> TopicOutcome:
    records, (outcome,) = worked_out(create_topics(image, [asked], rules or policy()))
    assert bool(records) == (outcome.error == 0)
    apply(image, records)
    return outcome


def test_defaults_are_the_broker_s() -> None:
    image = MetadataImage()
    outcome = made(image, topic(partitions=-1, factor=-1), policy(num__partitions="7"))
    assert (outcome.partitions, outcome.replication_factor) == (7, 1)
    assert image.topics["t"].partition_count == 7


def test_a_replication_factor_above_one_is_refused_or_taken_as_one() -> None:
    outcome = made(MetadataImage(), topic(factor=3))
    assert outcome.error == ErrorCode.INVALID_REPLICATION_FACTOR
    assert outcome.message is not None and "odradek.replication.factor.accept" in outcome.message
    accepting = policy(odradek__replication__factor__accept="true")
    image = MetadataImage()
    outcome = made(image, topic(factor=3), accepting)
    assert (outcome.error, outcome.replication_factor) == (0, 1)
    assert image.topics["t"].partition_records[0].replicas == [1]
    by_default = policy(default__replication__factor="3")
    assert made(MetadataImage(), topic(factor=-1), by_default).error == ErrorCode.INVALID_REPLICATION_FACTOR
    assert made(MetadataImage(), topic(factor=3), policy(replicated=True)).error == 0


def test_partitions_land_where_they_were_assigned_in_any_order() -> None:
    asked = CreatableTopic(
        name="t",
        num_partitions=-1,
        replication_factor=-1,
        assignments=[CreatableReplicaAssignment(partition_index=index, broker_ids=[1]) for index in (2, 0, 1)],
    )
    image = MetadataImage()
    assert made(image, asked).partitions == 3
    assert list(image.topics["t"].partition_records) == [0, 1, 2]


def test_settings_are_kept_as_text_and_checked_together() -> None:
    image = MetadataImage()
    made(image, topic(retention__ms=" 60000 ", cleanup__policy="compact,delete"))
    assert image.topic_config("t") == {"retention.ms": " 60000 ", "cleanup.policy": "compact,delete"}
    wrong = topic("u", min__compaction__lag__ms="10", max__compaction__lag__ms="5")
    assert made(image, wrong).error == ErrorCode.INVALID_CONFIG


def test_ids_are_random_uuids_and_unique() -> None:
    image = MetadataImage()
    first = made(image, topic("a"), policy(seed=3)).topic_id
    # The same random numbers again: the id that is taken is passed over.
    second = made(image, topic("b"), policy(seed=3)).topic_id
    assert first != second
    for topic_id in (first, second):
        assert topic_id[6] >> 4 == 4 and topic_id[8] >> 6 == 2


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "..a", "n" * 249, "-", "_"])
def test_good_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "n" * 250, "a b", "a/b", "../x", "ä", "a\n", "a\x00", "٣"])
def test_bad_names(name: str) -> None:
    with pytest.raises(KafkaError) as caught:
        check_name(name)
    assert caught.value.code == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_a_request_has_a_bound_of_partitions() -> None:
    half = MAX_PARTITIONS_PER_REQUEST // 2 + 1
    records, outcomes = worked_out(create_topics(MetadataImage(), [topic("a", half), topic("b", half)], policy()))
    assert not records and {outcome.error for outcome in outcomes} == {ErrorCode.POLICY_VIOLATION}
    image = MetadataImage()
    made(image, topic("a", 2))
    more = [CreatePartitionsTopic(name="a", count=MAX_PARTITIONS_PER_REQUEST + 3, assignments=None)]
    records, (outcome,) = worked_out(create_partitions(image, more, policy()))
    assert not records and outcome.error == ErrorCode.POLICY_VIOLATION


def test_a_topic_named_by_name_and_id_is_answered_once_and_stays() -> None:
    image = MetadataImage()
    topic_id = made(image, topic("t")).topic_id
    made(image, topic("u"))
    asked = [
        DeleteTopicState(name="t"),
        DeleteTopicState(name=None, topic_id=topic_id),
        DeleteTopicState(name="u"),
    ]
    records, outcomes = worked_out(delete_topics(image, asked, policy(), False))
    assert [(o.name, o.error) for o in outcomes] == [("t", ErrorCode.INVALID_REQUEST), ("u", ErrorCode.NONE)]
    apply(image, records)
    assert set(image.topics) == {"t"}


@pytest.mark.parametrize(("old_client", "code"), [(False, 73), (True, 42)])
def test_deletion_disabled(old_client: bool, code: int) -> None:
    image = MetadataImage()
    made(image, topic("t"))
    rules = policy(delete__topic__enable="false")
    records, (outcome,) = worked_out(delete_topics(image, [DeleteTopicState(name="t")], rules, old_client))
    assert not records and outcome.error == code


# --- in turns --------------------------------------------------------------------------------------------------------


def test_others_have_their_turn_after_each_topic_and_each_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    image, done = MetadataImage(), []
    make = changes.record_of

    def noting(message: Message, version: int | None = None) -> MetadataRecord:
        record = make(message) if version is None else make(message, version)
        done.append(record)
        return record

    monkeypatch.setattr(changes, "record_of", noting)
    many = [topic(f"t{number}", partitions=2) for number in range(300)]
    assert most_between(create_topics(image, [*many, topic("big", partitions=300)], policy()), done) == 1
    apply(image, list(done))
    assert len(done) == 301 + 900 and len(image.topics) == 301
    enlarged = [CreatePartitionsTopic(name=f"t{number}", count=3, assignments=None) for number in range(300)]
    enlarged.append(CreatePartitionsTopic(name="big", count=600, assignments=None))
    assert most_between(create_partitions(image, enlarged, policy()), done) == 1
    gone = [DeleteTopicState(name=name) for name in image.topics]
    assert most_between(delete_topics(image, gone, policy(), False), done) == 1


def test_what_is_refused_many_times_is_a_step_each() -> None:
    image = MetadataImage()
    refused = [topic("a b")] * 200 + [topic("t", retention__ms="x")]
    assert len(list(create_topics(image, refused, policy()))) >= 2 * 201
    unknown = [DeleteTopicState(name=None, topic_id=number.to_bytes(16, "big")) for number in range(200)]
    assert len(list(delete_topics(image, unknown, policy(), False))) >= 400


# --- anything in a row -----------------------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "a.b", "a_b", "c", "", "x y"])
creations = st.lists(
    st.builds(topic, names, st.integers(-2, 4), st.sampled_from([-1, 0, 1, 2])), min_size=0, max_size=4
)
deletions = st.lists(st.builds(lambda name: DeleteTopicState(name=name), names), min_size=0, max_size=3)
enlargements = st.lists(
    st.builds(
        lambda name, count: CreatePartitionsTopic(name=name, count=count, assignments=None), names, st.integers(-1, 6)
    ),
    min_size=0,
    max_size=3,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("create"), creations),
        st.tuples(st.just("delete"), deletions),
        st.tuples(st.just("enlarge"), enlargements),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_whatever_is_asked_the_image_stays_whole_and_does_what_was_answered(
    asked_steps: list[tuple[str, list[object]]],
) -> None:
    image, rules = MetadataImage(), policy()
    for kind, asked in asked_steps:
        before = {name: found.partition_count for name, found in image.topics.items()}
        operation = {
            "create": lambda items: create_topics(image, items, rules),
            "delete": lambda items: delete_topics(image, items, rules, False),
            "enlarge": lambda items: create_partitions(image, items, rules),
        }[kind]
        records, outcomes = worked_out(operation(asked))
        assert {name: found.partition_count for name, found in image.topics.items()} == before
        apply(image, records)
        after = {name: found.partition_count for name, found in image.topics.items()}
        assert [outcome.name for outcome in outcomes] == list(dict.fromkeys(item.name for item in asked))  # type: ignore[attr-defined]
        good = {outcome.name for outcome in outcomes if outcome.error == 0}
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert changed == good
        for found in image.topics.values():
            assert list(found.partition_records) == list(range(found.partition_count)) and found.partition_count
            assert image.topics_by_id[found.id] is found
        assert len(image.topics) == len(image.topics_by_id)
