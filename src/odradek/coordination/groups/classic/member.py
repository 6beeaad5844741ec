"""A member of a classic group: its ids, the values of its JoinGroup, and its requests that wait. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable

from odradek.coordination.operation import Reply
from odradek.protocol.messages.join_group import JoinGroupRequestProtocol


class Member:
    """One member of a group."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "instance_id",
        "is_new",
        "join_reply",
        "member_id",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "sync_reply",
    )

    def __init__(
        self,
        member_id: str,
        instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: dict[str, bytes],
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.instance_id = instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        """The metadata of each protocol by name, in the member's order of preference."""
        self.assignment = assignment
        self.is_new = False
        """Whether its first JoinGroup is not answered yet: it may not know its member id and cannot heartbeat."""
        self.join_reply: Reply | None = None
        self.sync_reply: Reply | None = None

    def has_protocols(self, protocols: dict[str, bytes]) -> bool:
        """Whether the member has exactly these protocols, in the same order."""
        return list(self.protocols.items()) == list(protocols.items())


def protocols_of(asked: Iterable[JoinGroupRequestProtocol]) -> dict[str, bytes]:
    """The protocols of a JoinGroup request by name; of several with the same name, the first."""
    protocols: dict[str, bytes] = {}
    for protocol in asked:
        protocols.setdefault(protocol.name, bytes(protocol.metadata))
    return protocols
