"""The client's exceptions. Their texts say what could not be done, and why.

Role: the classes by which a caller distinguishes failures, to go on or to suggest a remedy. The texts name no command
or option of the caller. A failure caused by another one has it as its `__cause__`.
"""

from __future__ import annotations


class ClientFailed(Exception):
    """A request to the cluster could not be fulfilled."""


class InvalidArgument(ClientFailed):
    """An argument of the caller is invalid, such as a malformed address or a partition that the topic does not have."""


class NoAddress(InvalidArgument):
    """The caller gave no bootstrap address."""


class ConnectionLost(ClientFailed):
    """A broker cannot be reached, closed the connection, did not answer in time, or sent an invalid response."""


class NoBrokerAnswers(ConnectionLost):
    """No bootstrap address and no broker in the metadata can be reached."""


class AdvertisedAddressUnreachable(ConnectionLost):
    """A broker cannot be reached at its advertised address, the one in the cluster's metadata."""


class UnknownTopic(ClientFailed):
    """The topic does not exist."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"topic {topic!r} does not exist.")
        self.topic = topic


class UnknownGroup(ClientFailed):
    """The group does not exist."""


class InstanceFenced(ClientFailed):
    """Another member has joined the group under the same instance id."""


class NoProducerId(ClientFailed):
    """The broker gave no producer id, which an idempotent producer needs."""
