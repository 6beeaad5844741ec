"""`odradek topic list|create|describe|delete`.

Role: each command sends one request (describe: a few) and prints the response. All values come from the broker; a value
that it did not return is empty, never guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from odradek.cli.bootstrap import open_client
from odradek.cli.failures import CommandFailed, WrongUse
from odradek.cli.options import (
    TIMEOUT_S,
    Bootstrap,
    Flag,
    OutputLine,
    OutputLines,
    OutputRows,
    Texts,
    Timeout,
    TopicArgument,
)
from odradek.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from odradek.client.cluster import Client
    from odradek.protocol.messages.metadata import MetadataResponseTopic

_TOPIC_RESOURCE = 2
_CHANGED_HERE = 1  # the config source, in DescribeConfigs, of a value set for the topic
_PARTITION_COLUMNS = ("topic", "partition", "leader", "replicas", "isr", "first_offset", "end_offset")


def _id(topic_id: bytes) -> str | None:
    """A topic id in Kafka's form, URL-safe base64 without padding; None if the broker returned none."""
    if not any(topic_id):
        return None
    import base64

    return base64.urlsafe_b64encode(UUID(bytes=topic_id).bytes).decode().rstrip("=")


def list_topics(
    *,
    internal: Flag = False,
    output: OutputRows = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Lists topics.

    Parameters
    ----------
    internal
        Also the broker's own.
    """
    with open_client(bootstrap_server, timeout) as client:
        topics = sorted(client.metadata(None).topics, key=lambda topic: topic.name or "")
    rows = [
        {
            "name": topic.name,
            "partitions": len(topic.partitions),
            "replication_factor": max((len(p.replica_nodes) for p in topic.partitions), default=0),
            "id": _id(topic.topic_id),
            "internal": topic.is_internal,
        }
        for topic in topics
        if internal or not topic.is_internal
    ]
    if output == "json":
        print_json(rows)
    else:
        print_rows(("name", "partitions", "replication_factor", "id", *(("internal",) if internal else ())), rows)


def create(
    topic: TopicArgument,
    /,
    *,
    partitions: int | None = None,
    replication_factor: int | None = None,
    config: Texts = None,
    if_not_exists: Flag = False,
    output: OutputLine = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Creates a topic.

    Parameters
    ----------
    topic
        Its name.
    partitions
        How many; without it the broker's num.partitions.
    replication_factor
        How many copies; without it the broker's default.replication.factor.
    config
        NAME=VALUE of a topic's setting, such as retention.ms=3600000; may be repeated.
    if_not_exists
        Succeed if the topic is there.
    """
    for name, value in (("--partitions", partitions), ("--replication-factor", replication_factor)):
        if value is not None and not 0 < value < 32768:
            raise WrongUse(f"{name} must be at least 1, and less than 32768, not {value}.")
    from odradek.client.error_codes import sentence
    from odradek.errors import ErrorCode
    from odradek.protocol.messages.create_topics import (
        CreatableTopic,
        CreatableTopicConfig,
        CreateTopicsRequest,
        CreateTopicsResponse,
    )

    configs = []
    for option in config or ():
        name, equals, text = option.partition("=")
        if not equals or not name:
            raise WrongUse(f"--config {option!r} is not NAME=VALUE.")
        configs.append(CreatableTopicConfig(name=name, value=text))
    request = CreateTopicsRequest(
        topics=[
            CreatableTopic(
                name=topic,
                num_partitions=-1 if partitions is None else partitions,
                replication_factor=-1 if replication_factor is None else replication_factor,
                configs=configs,
            )
        ],
        timeout_ms=int(timeout * 1000),
    )
    with open_client(bootstrap_server, timeout) as client:
        response: CreateTopicsResponse = client.ask_controller(request, CreateTopicsResponse)
        [result] = response.topics
        exists = result.error_code == ErrorCode.TOPIC_ALREADY_EXISTS
        if result.error_code and not (exists and if_not_exists):
            hint = "; --if-not-exists accepts that" if exists else ""
            raise CommandFailed(
                f"cannot create topic {topic!r}: {sentence(result.error_code, result.error_message)}{hint}."
            )
        if output == "json":
            print_json({"name": topic, "id": _id(result.topic_id), "created": not exists})
        else:
            print(f"Topic {topic} {'exists' if exists else 'created'}.")


def describe(
    *topics: TopicArgument,
    output: OutputRows = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Describes topics: partitions with their offsets, and the settings that differ from the broker's.

    Parameters
    ----------
    topics
        Their names; without any, all but the broker's own.
    """
    with open_client(bootstrap_server, timeout) as client:
        if topics:
            found = [client.topic(name) for name in dict.fromkeys(topics)]
        else:
            found = sorted(
                (t for t in client.metadata(None).topics if not t.is_internal), key=lambda topic: topic.name or ""
            )
        settings = _settings(client, [topic.name or "" for topic in found])
        described = [_describe(client, topic, settings[topic.name or ""]) for topic in found]
    if output == "json":
        print_json(described)
        return
    rows = [{"topic": topic["name"], **partition} for topic in described for partition in topic["partitions"]]
    print_rows(_PARTITION_COLUMNS, rows)
    changed = [
        {"topic": topic["name"], "config": name, "value": value}
        for topic in described
        for name, value in topic["configs"].items()
    ]
    if changed:
        print()
        print_rows(("topic", "config", "value"), changed)


def _describe(client: Client, topic: MetadataResponseTopic, settings: dict[str, str | None]) -> dict[str, Any]:
    from odradek.client.cluster import EARLIEST, LATEST

    name = topic.name or ""
    indexes = [p.partition_index for p in topic.partitions]
    firsts = client.offsets(name, dict.fromkeys(indexes, EARLIEST))
    ends = client.offsets(name, dict.fromkeys(indexes, LATEST))
    return {
        "name": name,
        "id": _id(topic.topic_id),
        "internal": topic.is_internal,
        "configs": settings,
        "partitions": [
            {
                "partition": p.partition_index,
                "leader": p.leader_id,
                "leader_epoch": p.leader_epoch,
                "replicas": p.replica_nodes,
                "isr": p.isr_nodes,
                "first_offset": firsts[p.partition_index],
                "end_offset": ends[p.partition_index],
            }
            for p in sorted(topic.partitions, key=lambda p: p.partition_index)
        ],
    }


def _settings(client: Client, names: list[str]) -> dict[str, dict[str, str | None]]:
    """The settings that each topic has set itself."""
    from odradek.client.error_codes import sentence
    from odradek.protocol.messages.describe_configs import (
        DescribeConfigsRequest,
        DescribeConfigsResource,
        DescribeConfigsResponse,
    )

    out: dict[str, dict[str, str | None]] = {}
    if not names:
        return out
    resources = [
        DescribeConfigsResource(resource_type=_TOPIC_RESOURCE, resource_name=name, configuration_keys=None)
        for name in names
    ]
    response: DescribeConfigsResponse = client.ask_any(
        DescribeConfigsRequest(resources=resources), DescribeConfigsResponse
    )
    for result in response.results:
        if result.error_code:
            raise CommandFailed(
                f"cannot describe topic {result.resource_name!r}: {sentence(result.error_code, result.error_message)}."
            )
        out[result.resource_name] = {
            config.name: config.value for config in result.configs if config.config_source == _CHANGED_HERE
        }
    return out


def delete(
    *topics: TopicArgument,
    if_exists: Flag = False,
    output: OutputLines = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Deletes topics, with all their records.

    Parameters
    ----------
    topics
        Their names.
    if_exists
        Succeed if a topic is not there.
    """
    if not topics:
        raise WrongUse("`odradek topic delete` needs a topic's name.")
    from odradek.client.error_codes import sentence
    from odradek.errors import ErrorCode
    from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState

    names = list(dict.fromkeys(topics))
    request = DeleteTopicsRequest(
        topics=[DeleteTopicState(name=name) for name in names], topic_names=names, timeout_ms=int(timeout * 1000)
    )
    failures = []
    rows = []
    with open_client(bootstrap_server, timeout) as client:
        response: DeleteTopicsResponse = client.ask_controller(request, DeleteTopicsResponse)
    for result in response.responses:
        missing = result.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if result.error_code and not (missing and if_exists):
            why = "it does not exist; --if-exists accepts that"
            if not missing:
                why = sentence(result.error_code, result.error_message)
            failures.append(f"cannot delete topic {result.name!r}: {why}.")
        else:
            rows.append({"name": result.name, "deleted": not missing})
    if output == "json":
        print_json(rows)
    else:
        for row in rows:
            print(f"Topic {row['name']} {'deleted' if row['deleted'] else 'does not exist'}.")
    if failures:
        raise CommandFailed(" ".join(failures))
