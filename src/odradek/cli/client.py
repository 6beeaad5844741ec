"""A small synchronous Kafka client for the command line, on the project's own protocol package and plain sockets.

Role: connect, agree on versions (ApiVersions), know the brokers and who leads which partition (Metadata), send
requests to the right broker, and say in one sentence what went wrong. Batching records is `producer`'s, reading
them `consumer`'s.

Invariants: every wait has a deadline, every retry a bound (the deadline, with a growing pause), every response a
largest size. A connection answers in order; whoever starts a request on it takes the answer before starting the next.
Requests that a retry could do twice are retried only where the broker said that it did nothing, or where doing it
twice is the same as once.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from odradek import __version__
from odradek.cli.failures import CommandFailed, WrongUse
from odradek.clock import SystemClock
from odradek.errors import ErrorCode
from odradek.protocol.decoding import decode
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import Message
from odradek.protocol.framing import ResponseHeader, encode_request
from odradek.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
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

CLIENT_ID = "odradek"
DEFAULT_TIMEOUT_S = 30.0
RESPONSE_MAX_BYTES = 268_435_456
CONNECT_TIMEOUT_S = 10.0
# How long a topic that was not there may take to appear where the broker makes topics on first use.
CREATION_WAIT_S = 5.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
EARLIEST = -2
LATEST = -1

_LENGTH = struct.Struct(">i")
_clock = SystemClock()


class ConnectionLost(CommandFailed):
    """A broker that cannot be reached, hung up, or answered nonsense."""


def split_address(text: str, default_port: int = 9092) -> tuple[str, int]:
    """HOST, HOST:PORT or [IPV6]:PORT. Raises `WrongUse`."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text.strip(), str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise WrongUse(f"{text!r} is not an address such as localhost:9092.")
    return host, int(port)


def sentence(code: int, message: str | None = None) -> str:
    """An error code, and the broker's own words where it sent some."""
    try:
        name = ErrorCode(code).name
    except ValueError:
        name = f"error {code}"
    return f"{message.rstrip('.')} ({name})" if message else name


class Deadline:
    """A bounded wait with growing pauses between attempts."""

    def __init__(self, timeout_s: float) -> None:
        self._end = _clock.monotonic() + timeout_s
        self._pause = FIRST_PAUSE_S

    def left_s(self) -> float:
        return self._end - _clock.monotonic()

    def pause(self) -> bool:
        """Waits before the next attempt; False when there is no time for one."""
        if self.left_s() <= self._pause:
            return False
        select.select([], [], [], self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        return True


class Connection:
    """One connection to one broker: requests out, responses in, in order."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.name = f"{host}:{port}"
        self._timeout_s = timeout_s
        self._correlation_id = 0
        self._waiting: list[tuple[int, type[Message], int, type[Message]]] = []
        try:
            self._socket = socket.create_connection((host, port), min(timeout_s, CONNECT_TIMEOUT_S))
        except OSError as error:
            raise ConnectionLost(f"cannot reach {self.name} ({_reason(error)})") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(timeout_s)
        self._ranges: dict[int, tuple[int, int]] = {}
        self.features: dict[str, int] = {}
        try:
            self._agree_on_versions()
        except ConnectionLost:
            self.close()
            raise

    def _agree_on_versions(self) -> None:
        # A broker that does not know our version answers in version 0, with its ranges and the error (KIP-511).
        for version in (3, 0):
            request = ApiVersionsRequest(client_software_name="odradek", client_software_version=__version__)
            self._send(request, version, ApiVersionsResponse)
            frame = self._receive_frame()
            unsupported = int.from_bytes(frame[4:6], "big", signed=True) == ErrorCode.UNSUPPORTED_VERSION
            response = self._decode(ApiVersionsResponse, 0 if unsupported else version, frame, 4)
            self._waiting.clear()
            if not unsupported:
                break
        if response.error_code:
            raise ConnectionLost(f"{self.name} refused ApiVersions: {sentence(response.error_code)}")
        self._ranges = {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
        self.features = {feature.name: feature.max_version_level for feature in response.finalized_features}

    def version_of(self, cls: type[Message], at_most: int | None = None) -> int:
        """The highest version of a request that both sides know. Raises `CommandFailed`."""
        lowest, highest = self._ranges.get(cls.api_key, (0, -1))
        ours = cls.valid_versions
        version = min(highest, ours.last, ours.last if at_most is None else at_most)
        if version < max(lowest, ours.first):
            name = cls.__name__.removesuffix("Request")
            raise CommandFailed(
                f"the broker at {self.name} does not serve {name} in a version that this command knows."
            )
        return version

    def start(self, request: Message, response: type[Message], at_most: int | None = None) -> int:
        """Sends a request whose answer `finish` takes; returns the version used."""
        version = self.version_of(type(request), at_most)
        self._send(request, version, response)
        return version

    def start_unanswered(self, request: Message, at_most: int | None = None) -> None:
        """Sends a request that has no answer: Produce with acks=0."""
        self._send(request, self.version_of(type(request), at_most), None)

    def finish(self) -> Any:
        """The answer to the oldest open request."""
        correlation_id, request, version, response = self._waiting.pop(0)
        flexible = version in request.flexible_versions
        frame = self._receive_frame()
        header, position = self._decode_at(ResponseHeader, 1 if flexible else 0, frame, 0)
        if header.correlation_id != correlation_id:
            raise self._lost("answered a request that was not asked")
        return self._decode(response, version, frame, position)

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def is_answering(self, timeout_s: float) -> bool:
        """Waits for the first bytes of an answer, or the connection's end; False where neither came in time."""
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        return bool(ready.poll(timeout_s * 1000))

    def _send(self, request: Message, version: int, response: type[Message] | None) -> None:
        self._correlation_id += 1
        try:
            self._socket.sendall(encode_request(request, version, self._correlation_id, CLIENT_ID))
        except OSError as error:
            raise self._lost(_reason(error)) from None
        if response is not None:
            self._waiting.append((self._correlation_id, type(request), version, response))

    def _receive_frame(self) -> bytes:
        (length,) = _LENGTH.unpack(self._receive(_LENGTH.size))
        if not 4 <= length <= RESPONSE_MAX_BYTES:
            raise self._lost(f"a response of {length} bytes; is it a Kafka listener without TLS?")
        return self._receive(length)

    def _receive(self, count: int) -> bytes:
        out = bytearray(count)
        view = memoryview(out)
        position = 0
        while position < count:
            try:
                received = self._socket.recv_into(view[position:])
            except OSError as error:
                raise self._lost(_reason(error)) from None
            if not received:
                raise self._lost("it closed the connection")
            position += received
        return bytes(out)

    def _decode_at(self, cls: type[Message], version: int, frame: bytes, position: int) -> tuple[Any, int]:
        try:
            return decode(cls, version, frame, position)
        except DecodeError as error:
            raise self._lost(f"a response that is not Kafka's protocol: {error}") from None

    def _decode(self, cls: type[Message], version: int, frame: bytes, position: int) -> Any:
        return self._decode_at(cls, version, frame, position)[0]

    def _lost(self, why: str) -> ConnectionLost:
        self.close()
        return ConnectionLost(f"lost the connection to {self.name} ({why})")

    def close(self) -> None:
        self._socket.close()


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or str(error)).lower() or type(error).__name__


class Client:
    """The cluster as a client sees it: brokers, leaders, and requests to either."""

    def __init__(self, bootstrap: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._bootstrap = [split_address(part) for part in bootstrap.split(",") if part.strip()]
        if not self._bootstrap:
            raise WrongUse("--bootstrap-server names no broker.")
        self.timeout_s = timeout_s
        self.brokers: dict[int, tuple[str, int]] = {}
        self.controller_id = -1
        self.cluster_id: str | None = None
        self._first: Connection | None = None
        self._connections: dict[int, Connection] = {}
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

    # --- whom to ask -------------------------------------------------------------------------------------------------

    def _any_connection(self) -> Connection:
        if self._first is None:
            failures = []
            for host, port in [*self._bootstrap, *self.brokers.values()]:
                try:
                    self._first = Connection(host, port, self.timeout_s)
                    return self._first
                except ConnectionLost as error:
                    failures.append(str(error))
            raise ConnectionLost(
                f"{failures[0]}: is a broker running there? Start one with `odradek serve`, or name another with "
                "--bootstrap-server HOST:PORT."
            )
        return self._first

    def connection(self, node_id: int) -> Connection:
        """The connection to a broker of the cluster, opened if need be. Raises `ConnectionLost`."""
        found = self._connections.get(node_id)
        if found is None:
            if node_id < 0:
                raise ConnectionLost("the partition has no leader at the moment")
            if node_id not in self.brokers:
                raise ConnectionLost(f"broker {node_id} is not in the cluster's metadata")
            host, port = self.brokers[node_id]
            try:
                found = self._connections[node_id] = Connection(host, port, self.timeout_s)
            except ConnectionLost as error:
                raise ConnectionLost(
                    f"{error}, where the cluster's metadata says that broker {node_id} is; check the broker's "
                    "advertised.listeners (`odradek serve --advertise`)."
                ) from None
        return found

    def drop(self, connection: Connection) -> None:
        """Forgets a connection that failed."""
        connection.close()
        if self._first is connection:
            self._first = None
        for node_id, known in list(self._connections.items()):
            if known is connection:
                del self._connections[node_id]

    def ask_any(self, request: Message, response: type[Message], at_most: int | None = None) -> Any:
        """A request that any broker answers, once more on another connection if the first was stale."""
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
        """A request to one broker, not repeated."""
        connection = self.connection(node_id)
        try:
            connection.start(request, response, at_most)
            return connection.finish()
        except ConnectionLost:
            self.drop(connection)
            raise

    def ask_controller(self, request: Message, response: type[Message], at_most: int | None = None) -> Any:
        """A request for the controller; brokers of a KRaft cluster pass it on, so any will do where it is unknown."""
        if not self.brokers:
            self.metadata([])
        if self.controller_id in self.brokers:
            return self.ask(self.controller_id, request, response, at_most)
        return self.ask_any(request, response, at_most)

    def know_broker(self, node_id: int, host: str, port: int) -> None:
        """Takes a broker's address from an answer that names it, as FindCoordinator's does."""
        if self.brokers.get(node_id) != (host, port):
            if node_id in self._connections:
                self._connections.pop(node_id).close()
            self.brokers[node_id] = (host, port)

    def features(self) -> dict[str, int]:
        """The levels of the cluster's finalized features."""
        return dict(sorted(self._any_connection().features.items()))

    # --- what the cluster looks like ---------------------------------------------------------------------------------

    def metadata(self, topics: Sequence[str] | None, create: bool = False) -> MetadataResponse:
        """Brokers, and these topics (None: all). Remembers addresses and leaders."""
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
        """One topic whose partitions have leaders, waited for if need be. Raises `CommandFailed`."""
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
                raise CommandFailed(f"topic {name!r} does not exist; create it with `odradek topic create {name}`.")
            if code == ErrorCode.INVALID_TOPIC_EXCEPTION:
                raise CommandFailed(
                    f"{name!r} is not a topic's name: at most 249 of the letters a-z, A-Z, 0-9, '.', '_' and '-'."
                )
            if code not in RETRIED or not deadline.pause():
                raise CommandFailed(f"cannot use topic {name!r}: {sentence(code)}.")

    def leader(self, topic: str, partition: int) -> int:
        """The broker id of a partition's leader as last heard, -1 where there is none."""
        return self._leaders.get((topic, partition), -1)

    def offsets(self, topic: str, timestamps: Mapping[int, int]) -> dict[int, int]:
        """For each partition the offset of the first record at or after a timestamp in ms (-1 where there is none),
        or of `EARLIEST` or `LATEST`. Raises `CommandFailed`."""
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
        """Calls `ask(leader, its partitions)` for (partition, error code)s, and again for partitions whose errors
        pass by themselves, until the deadline. Raises `CommandFailed`."""
        deadline = Deadline(self.timeout_s)
        open_partitions = list(partitions)
        while True:
            failure = ""
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
                            raise CommandFailed(f"cannot {doing} {topic}-{partition}: {sentence(code)}.")
                except ConnectionLost as error:
                    failure = str(error)
            if not open_partitions:
                return
            if not deadline.pause():
                raise CommandFailed(f"gave up after {self.timeout_s:g} s to {doing} {topic}: {failure}.")
            self.metadata([topic])


# Errors that pass by themselves, or with newer metadata.
RETRIED = frozenset(code for code in ErrorCode if code.retriable)
