"""A client's view of the cluster: brokers and partition leaders, and requests to the right broker.

Role: connections to brokers, opened on first use; Metadata and ListOffsets. `producer` batches records, `consumer`
reads them, `group_coordinator` and `group_member` use consumer groups.

Invariants: every retry is bounded by a deadline, with growing pauses. A request is retried only where the broker
answered that it did nothing, or where the request is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from odradek.client.address import split_address
from odradek.client.connection import BrokerConnection
from odradek.client.deadline import Deadline
from odradek.client.error_codes import RETRIED, sentence
from odradek.client.failures import (
    AdvertisedAddressUnreachable,
    ClientFailed,
    ConnectionLost,
    NoAddress,
    NoBrokerAnswers,
    UnknownTopic,
)
from odradek.errors import ErrorCode
from odradek.protocol.fields import Message
from odradek.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from odradek.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseTopic,
)

DEFAULT_TIMEOUT_S = 30.0
# How long a missing topic may take to appear on a broker that creates topics on first use.
CREATION_WAIT_S = 5.0
EARLIEST = -2
LATEST = -1


class Client:
    """A client of one cluster."""

    def __init__(self, bootstrap: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._bootstrap = [split_address(part) for part in bootstrap.split(",") if part.strip()]
        if not self._bootstrap:
            raise NoAddress("no broker is named.")
        self.timeout_s = timeout_s
        self.brokers: dict[int, tuple[str, int]] = {}
        self.controller_id = -1
        self.cluster_id: str | None = None
        self._first: BrokerConnection | None = None
        self._connections: dict[int, BrokerConnection] = {}
        self._leaders: dict[tuple[str, int], int] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        for connection in [*self._connections.values(), *([self._first] if self._first else [])]:
            connection.close()
        self._connections.clear()
        self._first = None

    # --- connections and requests ------------------------------------------------------------------------------------

    def _any_connection(self) -> BrokerConnection:
        if self._first is None:
            failures = []
            for host, port in [*self._bootstrap, *self.brokers.values()]:
                try:
                    self._first = BrokerConnection(host, port, self.timeout_s)
                    return self._first
                except ConnectionLost as error:
                    failures.append(str(error))
            raise NoBrokerAnswers(failures[0])
        return self._first

    def connection(self, node_id: int) -> BrokerConnection:
        """The connection to a broker of the cluster; opens it if there is none. Raises `ConnectionLost`."""
        found = self._connections.get(node_id)
        if found is None:
            if node_id < 0:
                raise ConnectionLost("the partition has no leader at the moment")
            if node_id not in self.brokers:
                raise ConnectionLost(f"broker {node_id} is not in the cluster's metadata")
            host, port = self.brokers[node_id]
            try:
                found = self._connections[node_id] = BrokerConnection(host, port, self.timeout_s)
            except ConnectionLost as error:
                raise AdvertisedAddressUnreachable(
                    f"{error}, where the cluster's metadata says that broker {node_id} is."
                ) from None
        return found

    def drop(self, connection: BrokerConnection) -> None:
        """Closes and forgets a connection that failed."""
        connection.close()
        if self._first is connection:
            self._first = None
        for node_id, known in list(self._connections.items()):
            if known is connection:
                del self._connections[node_id]

    def ask_any(self, request: Message, response: type[Message], at_most: int | None = None) -> Any:
        """Sends a request that any broker can answer; returns the response. Sends it once more on a new connection
        where the first one is lost. Raises `ConnectionLost`."""
        for attempt in (1, 2):
            connection = self._any_connection()
            try:
                connection.start(request, response, at_most)
                return connection.finish()
            except ConnectionLost:
                self.drop(connection)
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def ask(self, node_id: int, request: Message, response: type[Message], at_most: int | None = None) -> Any:
        """Sends a request to one broker, once; returns the response. Raises `ConnectionLost`."""
        connection = self.connection(node_id)
        try:
            connection.start(request, response, at_most)
            return connection.finish()
        except ConnectionLost:
            self.drop(connection)
            raise

    def ask_controller(self, request: Message, response: type[Message], at_most: int | None = None) -> Any:
        """Sends a request for the controller; returns the response. Where the controller is unknown it goes to any
        broker: in a KRaft cluster brokers forward it."""
        if not self.brokers:
            self.metadata([])
        if self.controller_id in self.brokers:
            return self.ask(self.controller_id, request, response, at_most)
        return self.ask_any(request, response, at_most)

    def know_broker(self, node_id: int, host: str, port: int) -> None:
        """Remembers a broker's address from another response than Metadata's, such as FindCoordinator's."""
        if self.brokers.get(node_id) != (host, port):
            if node_id in self._connections:
                self._connections.pop(node_id).close()
            self.brokers[node_id] = (host, port)

    def features(self) -> dict[str, int]:
        """The levels of the cluster's finalized features, by feature name."""
        return dict(sorted(self._any_connection().features.items()))

    # --- metadata and offsets ----------------------------------------------------------------------------------------

    def metadata(self, topics: Sequence[str] | None, create: bool = False) -> MetadataResponse:
        """The cluster's brokers and these topics (None: all topics). Remembers addresses and leaders."""
        wanted = None if topics is None else [MetadataRequestTopic(name=name) for name in topics]
        request = MetadataRequest(topics=wanted, allow_auto_topic_creation=create)
        response: MetadataResponse = self.ask_any(request, MetadataResponse)
        brokers = {broker.node_id: (broker.host, broker.port) for broker in response.brokers}
        for node_id in list(self._connections):
            if brokers.get(node_id) != self.brokers.get(node_id):
                self._connections.pop(node_id).close()
        self.brokers = brokers
        self.controller_id = response.controller_id
        self.cluster_id = response.cluster_id
        for topic in response.topics:
            for partition in topic.partitions:
                self._leaders[topic.name or "", partition.partition_index] = partition.leader_id
        return response

    def topic(self, name: str, create: bool = False) -> MetadataResponseTopic:
        """The metadata of a topic; waits until its partitions have leaders. Raises `ClientFailed`."""
        deadline = Deadline(self.timeout_s)
        creation = Deadline(min(CREATION_WAIT_S, self.timeout_s))
        while True:
            [topic] = self.metadata([name], create).topics
            code = topic.error_code or next(
                (p.error_code for p in topic.partitions if p.error_code == ErrorCode.LEADER_NOT_AVAILABLE), 0
            )
            if code == 0:
                topic.partitions.sort(key=lambda partition: partition.partition_index)
                return topic
            if code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION and not (create and creation.pause()):
                raise UnknownTopic(name)
            if code == ErrorCode.INVALID_TOPIC_EXCEPTION:
                raise ClientFailed(
                    f"{name!r} is not a topic's name: at most 249 of the letters a-z, A-Z, 0-9, '.', '_' and '-'."
                )
            if code not in RETRIED or not deadline.pause():
                raise ClientFailed(f"cannot use topic {name!r}: {sentence(code)}.")

    def leader(self, topic: str, partition: int) -> int:
        """The broker id of a partition's leader in the latest metadata, -1 where there is none."""
        return self._leaders.get((topic, partition), -1)

    def offsets(self, topic: str, timestamps: Mapping[int, int]) -> dict[int, int]:
        """For each partition, the offset of the first record at or after its timestamp in ms (-1 where there is none).
        The timestamps `EARLIEST` and `LATEST` stand for its log start offset and high watermark. Raises
        `ClientFailed`."""
        found: dict[int, int] = {}

        def ask(node_id: int, partitions: Sequence[int]) -> Iterable[tuple[int, int]]:
            wanted = [ListOffsetsPartition(partition_index=p, timestamp=timestamps[p]) for p in partitions]
            request = ListOffsetsRequest(
                replica_id=-1,
                isolation_level=0,
                topics=[ListOffsetsTopic(name=topic, partitions=wanted)],
                timeout_ms=int(self.timeout_s * 1000),
            )
            response: ListOffsetsResponse = self.ask(node_id, request, ListOffsetsResponse)
            for entry in response.topics[0].partitions:
                found[entry.partition_index] = entry.offset
                yield entry.partition_index, entry.error_code

        self.for_leaders(topic, list(timestamps), ask, "find offsets of")
        return found

    def for_leaders(
        self,
        topic: str,
        partitions: Sequence[int],
        ask: Callable[[int, Sequence[int]], Iterable[tuple[int, int]]],
        doing: str,
    ) -> None:
        """Calls `ask(leader, its partitions)` for each leader, which returns (partition, error code) pairs; and again
        for partitions with retriable errors, until the deadline. Raises `ClientFailed`."""
        deadline = Deadline(self.timeout_s)
        open_partitions = list(partitions)
        while True:
            failure = ""
            cause: ConnectionLost | None = None
            by_leader: dict[int, list[int]] = {}
            for partition in open_partitions:
                by_leader.setdefault(self.leader(topic, partition), []).append(partition)
            for node_id, mine in by_leader.items():
                try:
                    for partition, code in list(ask(node_id, mine)):
                        if code == 0:
                            open_partitions.remove(partition)
                        elif code in RETRIED:
                            failure = sentence(code)
                        else:
                            raise ClientFailed(f"cannot {doing} {topic}-{partition}: {sentence(code)}.")
                except ConnectionLost as error:
                    failure, cause = str(error).rstrip("."), error
            if not open_partitions:
                return
            if not deadline.pause():
                raise ClientFailed(f"gave up after {self.timeout_s:g} s to {doing} {topic}: {failure}.") from cause
            self.metadata([topic])
