"""A member of a classic group: who it is, what it brought when it joined, whether it waits for an answer. Sans-IO."""

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
        """Name to metadata, in the order of the member's preference."""
        self.assignment = assignment
        self.is_new = False
        """It has joined and not yet got an answer: it may not know its id, and cannot heartbeat."""
        self.join_reply: Reply | None = None
        self.sync_reply: Reply | None = None

    def has_protocols(self, protocols: dict[str, bytes]) -> bool:
        """Whether these are what it has, in the same order."""
        return list(self.protocols.items()) == list(protocols.items())


def protocols_of(asked: Iterable[JoinGroupRequestProtocol]) -> dict[str, bytes]:
    """A JoinGroup's protocols by name, the first of equal names."""
    protocols: dict[str, bytes] = {}
    for protocol in asked:
        protocols.setdefault(protocol.name, bytes(protocol.metadata))
    return protocols
