"""What the tests ask of a client: one shape for records, one set of operations, one driver for each client.

A driver does each operation with its client's own means, opens what it needs and closes it again; it never works
around a client. What a client cannot do is not in its `features`, and the tests of it are not run with that client.
Errors come out as `ClientError` with the protocol's name of the error (`TOPIC_ALREADY_EXISTS`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from odradek.errors import ErrorCode

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# How long one operation may take before it counts as failed.
OPERATION_TIMEOUT_S = 30.0
# How long a producer keeps trying over a restart of the broker.
DELIVERY_TIMEOUT_S = 60.0

Progress = Callable[[int], None]


class Feature(Enum):
    """What not every client has."""

    ADMIN = "creates, changes and deletes topics"
    ALTER_CONFIGS_INCREMENTALLY = "alters one config and leaves the others"
    ALTER_GROUP_OFFSETS = "alters the committed offsets of a group"
    COMMITS_ON_COMMAND = "its group consumer commits when told to, not only by itself"
    DELETE_GROUPS = "deletes groups"
    DELETE_GROUP_OFFSETS = "deletes committed offsets of a group"
    DESCRIBE_GROUPS = "describes groups and their members"
    DESCRIBE_LOG_DIRS = "describes log directories"
    DESCRIBE_PRODUCERS = "describes producers"
    FENCED_BY_HEARTBEATS = "its group consumer hears by itself that its instance id was taken, not only as it commits"
    HEADERS_IN_ORDER = "keeps the order of a record's headers"
    GROUP_OFFSETS = "reads the committed offsets of a group as an admin"
    LIST_GROUPS = "lists groups"
    LIST_LATEST_TIME = "lists the offset of the latest timestamp as an admin"
    LIST_OFFSETS = "lists offsets as an admin"
    NEITHER_KEY_NOR_VALUE = "sends records with neither key nor value"
    NULL_HEADER_VALUES = "sends headers whose value is null"
    OUTLIVES_BROKERS = "its group consumer goes on when the only broker was away"
    STATIC_MEMBERS = "its group consumer has a group.instance.id"
    PROGRESS = "produces and consumes in steps, and says how far it is"
    TRANSACTIONS = "transactions"
    WHOLE_RECORDS = "sends and reads any bytes, any headers and chosen timestamps, and tells what was acknowledged"


class Record(NamedTuple):
    """One record, as sent and as read."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int | None = None


class Member(NamedTuple):
    """A member of a group, as an admin describes it."""

    client_id: str
    instance_id: str | None
    partitions: frozenset[tuple[str, int]]


class DescribedGroup(NamedTuple):
    """A group, as an admin describes it; `state` and `assignor` in the protocol's words ("Stable", "range")."""

    state: str
    assignor: str
    members: tuple[Member, ...]


class Stored(NamedTuple):
    """One record and where a client found it."""

    offset: int
    record: Record


class Acknowledged(NamedTuple):
    """What a producer was told about one record; a timestamp only where the client tells."""

    partition: int
    offset: int
    timestamp_ms: int | None = None


class ClientError(Exception):
    """An operation failed; `name` is the protocol's, or the client's own where it has not come from the broker."""

    def __init__(self, name: str, message: str = "") -> None:
        super().__init__(f"{name}: {message}")
        self.name = name

    @classmethod
    def by_code(cls, code: int, message: str = "") -> ClientError:
        return cls(ErrorCode(code).name, message)


class Driver:
    """The operations. Here partitions are assigned by hand; members of groups are programs of their own (member.py)."""

    name = ""
    features: frozenset[Feature] = frozenset()
    assignors: tuple[str, ...] = ()
    """The assignors of its group consumer, by the protocol's names; empty where it has no groups."""

    def member_command(self) -> list[str]:
        """How its member program starts; the test adds the orders (see member.py)."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends what the driver keeps between operations."""

    # --- records -------------------------------------------------------------------------------------------------

    def produce(
        self,
        bootstrap: str,
        topic: str,
        records: Sequence[Record],
        *,
        partition: int = 0,
        codec: str = "none",
        idempotent: bool = False,
        progress: Progress | None = None,
    ) -> list[Acknowledged]:
        """Sends all, in order, as few batches as the client likes; what each record was acknowledged with.

        With `progress`, records are sent in small steps and `progress(count)` is called after each step's
        acknowledgements, so that a test can disturb the broker in the middle.
        """
        raise NotImplementedError

    def read(
        self,
        bootstrap: str,
        topic: str,
        *,
        partition: int = 0,
        start: int | None = None,
        count: int,
        progress: Progress | None = None,
    ) -> list[Stored]:
        """Assigns the partition, seeks to `start` (None: the client's own "earliest"), and reads `count` records."""
        raise NotImplementedError

    def watermarks(self, bootstrap: str, topic: str, partition: int = 0) -> tuple[int, int]:
        """The consumer's beginning and end offsets."""
        raise NotImplementedError

    def offset_for_time(self, bootstrap: str, topic: str, timestamp_ms: int, partition: int = 0) -> int | None:
        """The first offset whose record is not older; None (or the end, see the drivers) when there is none."""
        raise NotImplementedError

    def transact(self, bootstrap: str, transactional_id: str, topic: str, rounds: int) -> None:
        """A transactional producer: `rounds` times a transaction with a record "aborted" that is sent and aborted, and
        one with a record "committed" that is committed; to partition 0."""
        raise NotImplementedError

    # --- administration ------------------------------------------------------------------------------------------

    def create_topic(self, bootstrap: str, topic: str, partitions: int, configs: dict[str, str] | None = None) -> None:
        raise NotImplementedError

    def delete_topic(self, bootstrap: str, topic: str) -> None:
        raise NotImplementedError

    def topics(self, bootstrap: str) -> set[str]:
        raise NotImplementedError

    def describe_topic(self, bootstrap: str, topic: str) -> dict[int, dict[str, Any]]:
        """For each partition: `leader`, `replicas`, `isr`."""
        raise NotImplementedError

    def create_partitions(self, bootstrap: str, topic: str, total: int) -> None:
        raise NotImplementedError

    def describe_configs(self, bootstrap: str, topic: str) -> dict[str, str | None]:
        raise NotImplementedError

    def alter_config(self, bootstrap: str, topic: str, name: str, value: str) -> None:
        """Sets one config, leaving the others (incrementally, where the client can)."""
        raise NotImplementedError

    def describe_cluster(self, bootstrap: str) -> dict[str, Any]:
        """`cluster_id`, `controller`, `nodes` (id -> "host:port")."""
        raise NotImplementedError

    def delete_records(self, bootstrap: str, topic: str, before: int, partition: int = 0) -> int:
        """The new low watermark."""
        raise NotImplementedError

    def log_dir_sizes(self, bootstrap: str, topic: str) -> dict[int, int]:
        """For each partition with a log, its size in bytes."""
        raise NotImplementedError

    def list_offset(self, bootstrap: str, topic: str, spec: str, partition: int = 0) -> tuple[int, int]:
        """Offset and timestamp for `earliest`, `latest` or `max_timestamp`, as the admin client lists it."""
        raise NotImplementedError

    def describe_producers(self, bootstrap: str, topic: str, partition: int = 0) -> list[dict[str, int]]:
        """`producer_id`, `producer_epoch`, `last_sequence` of each active producer."""
        raise NotImplementedError

    # --- groups, as an administrator sees them ---------------------------------------------------------------------

    def list_groups(self, bootstrap: str) -> set[str]:
        raise NotImplementedError

    def describe_group(self, bootstrap: str, group: str) -> DescribedGroup:
        raise NotImplementedError

    def group_offsets(self, bootstrap: str, group: str, topic: str) -> dict[int, int]:
        """The committed offset of each partition that has one."""
        raise NotImplementedError

    def alter_group_offsets(self, bootstrap: str, group: str, topic: str, offsets: dict[int, int]) -> None:
        raise NotImplementedError

    def delete_group_offsets(self, bootstrap: str, group: str, topic: str, partitions: list[int]) -> None:
        raise NotImplementedError

    def delete_group(self, bootstrap: str, group: str) -> None:
        raise NotImplementedError
