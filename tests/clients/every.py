"""The clients: the one list of them, and the mark that runs a test with each that has what the test needs."""

from __future__ import annotations

import pytest

from tests.clients.driver import Driver, Feature
from tests.clients.driver_aiokafka import AiokafkaDriver
from tests.clients.driver_confluent import ConfluentDriver
from tests.clients.driver_franz_go import FranzGoDriver
from tests.clients.driver_go import GO
from tests.clients.driver_java import JavaDriver
from tests.clients.driver_kafka_python import KafkaPythonDriver
from tests.clients.driver_kafkajs import NODE, KafkaJSDriver
from tests.clients.driver_kcat import KCAT, KcatDriver
from tests.clients.driver_sarama import SaramaDriver
from tests.reference import needs_java

CLIENTS: tuple[type[Driver], ...] = (
    ConfluentDriver,
    AiokafkaDriver,
    KafkaPythonDriver,
    JavaDriver,
    FranzGoDriver,
    SaramaDriver,
    KafkaJSDriver,
    KcatDriver,
)

NEEDS_GO = pytest.mark.skipif(GO is None, reason="go not installed")
MARKS = {
    FranzGoDriver.name: [NEEDS_GO],
    SaramaDriver.name: [NEEDS_GO],
    JavaDriver.name: [needs_java],
    KafkaJSDriver.name: [pytest.mark.skipif(NODE is None, reason="node or npm not installed")],
    KcatDriver.name: [pytest.mark.skipif(KCAT is None, reason="kcat not installed")],
}


def case(name: str) -> pytest.MarkDecorator:
    """The row of the table of results (table.py) a test belongs to."""
    return pytest.mark.case(name)


def every_client(*features: Feature, argument: str = "driver") -> pytest.MarkDecorator:
    """Runs the test once with each client that has these features."""
    chosen = [
        pytest.param(client.name, id=client.name, marks=MARKS.get(client.name, ()))
        for client in CLIENTS
        if client.features >= set(features)
    ]
    return pytest.mark.parametrize(argument, chosen, indirect=True)


def every_member(argument: str = "driver") -> pytest.MarkDecorator:
    """Runs the test once with each client that has groups, with the first of its assignors."""
    chosen = [
        pytest.param(client.name, id=client.name, marks=MARKS.get(client.name, ()))
        for client in CLIENTS
        if client.assignors
    ]
    return pytest.mark.parametrize(argument, chosen, indirect=True)


def every_assignor() -> pytest.MarkDecorator:
    """Runs the test once with each client and each assignor of its group consumer."""
    chosen = [
        pytest.param(client.name, assignor, id=f"{client.name}-{assignor}", marks=MARKS.get(client.name, ()))
        for client in CLIENTS
        for assignor in client.assignors
    ]
    return pytest.mark.parametrize(("driver", "assignor"), chosen, indirect=["driver"])


# sarama's "sticky" cannot read the user data of aiokafka's ("insufficient data to decode packet"), which goes from
# member to member and is nothing to the broker: every second run failed by it.
CANNOT_SHARE = {("sticky", "sarama", "aiokafka")}


def every_pair() -> pytest.MarkDecorator:
    """Runs the test with pairs of clients that share an assignor.

    The clients that have it stand in a ring, and each forms a pair with the next: each is once the first, which
    assigns, and once the second. All pairs would take a quarter of an hour.
    """
    chosen = []
    for assignor in sorted({assignor for client in CLIENTS for assignor in client.assignors}):
        ring = [client for client in CLIENTS if assignor in client.assignors]
        pairs = list(zip(ring, ring[1:] + ring[:1], strict=True)) if len(ring) > 1 else []
        for first, second in pairs:
            if (assignor, first.name, second.name) in CANNOT_SHARE:
                continue
            marks = [*MARKS.get(first.name, ()), *MARKS.get(second.name, ())]
            names = (first.name, second.name)
            chosen.append(pytest.param(names, assignor, id=f"{assignor}-{first.name}-{second.name}", marks=marks))
    return pytest.mark.parametrize(("pair", "assignor"), chosen)
