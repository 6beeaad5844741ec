"""Kafka's own message definitions, read out of the published jars: the truth that declarations are compared with."""

from __future__ import annotations

import json
import re
import zipfile
from functools import cache
from typing import Any

from tests.reference import broker_jars, jar

# Messages and control records; metadata records; the records of groups, transactions, share groups and storage.
JARS = (
    "kafka-clients",
    "kafka-metadata",
    "kafka-group-coordinator",
    "kafka-transaction-coordinator",
    "kafka-share-coordinator",
    "kafka-storage",
    "kafka-raft",
)


@cache
def definitions() -> dict[str, dict[str, Any]]:
    """Every definition in Kafka's jars, by name."""
    found: dict[str, dict[str, Any]] = {}
    for stem in JARS:
        with zipfile.ZipFile(jar(broker_jars(), stem)) as archive:
            for name in archive.namelist():
                if re.search(r"(^|/)(message|metadata)/\w+\.json$", name):
                    definition = _load(archive.read(name).decode())
                    assert definition["name"] not in found
                    found[definition["name"]] = definition
    return found


@cache
def java_classes() -> dict[str, str]:
    """The full name of the Java class that Kafka generates from a definition, by the definition's name."""
    found: dict[str, str] = {}
    for stem in JARS:
        with zipfile.ZipFile(jar(broker_jars(), stem)) as archive:
            for name in archive.namelist():
                if match := re.fullmatch(r"(.*/)(\w+)JsonConverter\.class", name):
                    folder, cls = match.groups()
                    message = cls if cls in definitions() else cls.removesuffix("Data")
                    found[message] = (folder + cls).replace("/", ".")
    return found


def _load(text: str) -> dict[str, Any]:
    text = re.sub(r"^\s*//.*$", "", text, flags=re.M)
    return json.loads(re.sub(r"\s//[^\"\n]*$", "", text, flags=re.M))  # type: ignore[no-any-return]


def snake(name: str) -> str:
    """A field's name as we write it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
