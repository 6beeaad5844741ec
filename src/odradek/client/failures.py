"""How the client fails: with an exception whose text says what could not be done, and why.

Role: the classes by which a caller tells failures apart, to go on or to say what helps. Which command or option helps
is not known here. A failure that another one caused carries it as its `__cause__`.
"""

from __future__ import annotations


class ClientFailed(Exception):
    """What was asked could not be done."""


class InvalidArgument(ClientFailed):
    """The caller asked for what cannot be, whatever a broker says: an address that is none, a partition not there."""


class NoAddress(InvalidArgument):
    """No broker is named to begin with."""


class ConnectionLost(ClientFailed):
    """A broker that cannot be reached, hung up, or answered nonsense."""


class NoBrokerAnswers(ConnectionLost):
    """None of the addresses to begin with, and none of the brokers known since, can be reached."""


class AdvertisedAddressUnreachable(ConnectionLost):
    """A broker cannot be reached where the cluster's metadata says that it is."""


class UnknownTopic(ClientFailed):
    """There is no such topic."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"topic {topic!r} does not exist.")
        self.topic = topic


class UnknownGroup(ClientFailed):
    """There is no such group."""


class InstanceFenced(ClientFailed):
    """Another member has joined the group under the same instance id."""


class NoProducerId(ClientFailed):
    """The broker gives no producer id, without which a producer cannot be idempotent."""
