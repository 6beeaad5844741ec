"""Two brokers asked the same, and their answers made comparable: this broker beside Apache Kafka.

`plain` turns a decoded message into dictionaries and lists. What must differ is replaced: ids by the order in which
they were met, hosts, ports, cluster ids; an error's sentence by whether there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from odradek.protocol.fields import ZERO_UUID, Message, Struct
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from tests.raw_client import RawClient

Plain = Any
# A broker of another kind answers some changes before it shows them everywhere.
ATTEMPTS = 2000


class TopicId(bytes):
    """A topic's id in an answer."""


def numbered(value: Plain, ids: dict[bytes, str] | None = None) -> Plain:
    """An answer with each id replaced by when it was first met."""
    ids = {ZERO_UUID: "no id"} if ids is None else ids
    if isinstance(value, dict):
        return {key: numbered(item, ids) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [numbered(item, ids) for item in value]
    return ids.setdefault(bytes(value), f"id {len(ids)}") if isinstance(value, TopicId) else value


def differences(theirs: Plain, ours: Plain, at: str = "") -> list[str]:
    """Where two answers differ, a line for each place."""
    if isinstance(theirs, dict) and isinstance(ours, dict) and theirs.keys() == ours.keys():
        return [line for key in theirs for line in differences(theirs[key], ours[key], f"{at}.{key}")]
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [line for i in range(len(theirs)) for line in differences(theirs[i], ours[i], f"{at}[{i}]")]
    return [] if theirs == ours else [f"{at}: Kafka {theirs!r}, here {ours!r}"]


class Peer:
    """One of the two brokers."""

    def __init__(self, client: RawClient, is_kafka: bool) -> None:
        self.client = client
        self.is_kafka = is_kafka

    def call(self, request: Message, response: type[Message], version: int) -> Plain:
        """The answer, made comparable."""
        return self.plain(self.client.call(request, response, version))

    def plain(self, value: Any, name: str = "") -> Plain:
        if isinstance(value, Struct):
            return {field.name: self.plain(getattr(value, field.name), field.name) for field in value.__declared__}
        if isinstance(value, list):
            return [self.plain(item) for item in value]
        if name in ("host", "port", "cluster_id"):
            return value is not None
        if name == "error_message":
            return bool(value)
        if name == "throttle_time_ms":
            return 0
        if name == "topic_id":
            return TopicId(value)
        return value

    def id_of(self, topic: str) -> bytes:
        request = MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
        return bytes(self.client.call(request, MetadataResponse, 12).topics[0].topic_id)

    def until(self, ready: Callable[[MetadataResponse], bool], *names: str) -> None:
        """Asks for the metadata of these topics until they are as expected."""
        topics = [MetadataRequestTopic(name=name) for name in names]
        for _ in range(ATTEMPTS):
            answer = self.client.call(
                MetadataRequest(topics=topics, allow_auto_topic_creation=False), MetadataResponse, 9
            )
            if ready(answer):
                return
        raise AssertionError(f"{'Kafka' if self.is_kafka else 'this broker'} does not get there: {answer}")

    def until_led(self, *names: str, partitions: int = 1) -> None:
        """Waits for these topics to exist, with leaders for so many partitions."""
        self.until(
            lambda answer: all(
                topic.error_code == 0
                and len(topic.partitions) == partitions
                and all(part.error_code == 0 and part.leader_id >= 0 for part in topic.partitions)
                for topic in answer.topics
            ),
            *names,
        )

    def until_gone(self, *names: str) -> None:
        """Waits for these topics to be unknown."""
        self.until(lambda answer: all(topic.error_code == 3 for topic in answer.topics), *names)
