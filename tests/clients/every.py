"""The clients: the one list of them, and the mark that runs a test with each that has what the test needs."""

from __future__ import annotations

import pytest

from tests.clients.driver import Driver, Feature
from tests.clients.driver_aiokafka import AiokafkaDriver
from tests.clients.driver_confluent import ConfluentDriver
from tests.clients.driver_java import JavaDriver
from tests.clients.driver_kafka_python import KafkaPythonDriver
from tests.clients.driver_kcat import KCAT, KcatDriver
from tests.reference import needs_java

CLIENTS: tuple[type[Driver], ...] = (ConfluentDriver, AiokafkaDriver, KafkaPythonDriver, JavaDriver, KcatDriver)

MARKS = {
    JavaDriver.name: [needs_java],
    KcatDriver.name: [pytest.mark.skipif(KCAT is None, reason="kcat not installed")],
}


def every_client(*features: Feature, argument: str = "driver") -> pytest.MarkDecorator:
    """Runs the test once with each client that has these features."""
    chosen = [
        pytest.param(client.name, id=client.name, marks=MARKS.get(client.name, ()))
        for client in CLIENTS
        if client.features >= set(features)
    ]
    return pytest.mark.parametrize(argument, chosen, indirect=True)
