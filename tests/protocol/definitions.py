"""Kafka's own message definitions, read out of the published jars: the truth that declarations are compared with."""

from __future__ import annotations

import json
import re
import zipfile
from functools import cache
from typing import Any

from tests.reference import broker_jars, jar


@cache
def definitions() -> dict[str, dict[str, Any]]:
    """Every definition of the clients jar (messages, control records) and of the metadata jar (records), by name."""
    found: dict[str, dict[str, Any]] = {}
    for stem, folder in (("kafka-clients", "common/message/"), ("kafka-metadata", "common/metadata/")):
        with zipfile.ZipFile(jar(broker_jars(), stem)) as archive:
            for name in archive.namelist():
                if name.startswith(folder) and name.endswith(".json"):
                    definition = _load(archive.read(name).decode())
                    found[definition["name"]] = definition
    return found


def _load(text: str) -> dict[str, Any]:
    text = re.sub(r"^\s*//.*$", "", text, flags=re.M)
    return json.loads(re.sub(r"\s//[^\"\n]*$", "", text, flags=re.M))  # type: ignore[no-any-return]


def snake(name: str) -> str:
    """A field's name as we write it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
