"""The declarations made from every definition of Kafka 4.4, those this broker does not serve yet included: the language
can say them all, and the compiler's codecs agree with Kafka's own classes, byte for byte, in every version."""

from __future__ import annotations

import base64
import random
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from tools.message_classes import render

from odradek.protocol.decoding import decode
from odradek.protocol.encoding import encode
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import Message
from tests.protocol.definitions import definitions, java_classes
from tests.protocol.random_messages import random_message, with_views_as_bytes
from tests.reference import broker_classpath, java_source, needs_java, run_java

pytestmark = needs_java
SAMPLES = 2
CUTS = 25


@pytest.fixture(scope="module")
def classes() -> Iterator[dict[str, type[Message]]]:
    """A class made from each definition that Kafka still has versions of."""
    modules = {}
    for name, definition in definitions().items():
        if definition["validVersions"] == "none":
            continue
        modules[name] = types.ModuleType(f"generated_{name}")
        # Where the compiler looks for the types of a class.
        sys.modules[modules[name].__name__] = modules[name]
        exec(compile(render([definition], f"{name}."), name, "exec"), vars(modules[name]))
    yield {name: vars(module)[name] for name, module in modules.items()}
    for module in modules.values():
        del sys.modules[module.__name__]


def every_sample(classes: dict[str, type[Message]]) -> Iterator[tuple[str, int, Any]]:
    for name, cls in classes.items():
        for version in range(cls.valid_versions.first, cls.valid_versions.last + 1):
            for seed in range(SAMPLES):
                yield name, version, random_message(cls, version, random.Random(f"{name} {version} {seed}"))


def test_every_definition_becomes_a_class_that_kafkas_own_agrees_with(classes: dict[str, type[Message]]) -> None:
    assert set(classes) == set(java_classes())
    lines, expected = [], []
    for name, version, message in every_sample(classes):
        data = encode(message, version)
        again, end = decode(classes[name], version, data)
        assert end == len(data) and with_views_as_bytes(again) == message, (name, version)
        lines.append(f"{java_classes()[name]} {version} {base64.b64encode(data).decode()}")
        expected.append((name, version, data))
    done = run_java(broker_classpath(), java_source("RoundTrip.java"), stdin="\n".join(lines) + "\n", timeout_s=300)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == len(expected)
    for answer, (name, version, data) in zip(answers, expected, strict=True):
        assert not answer.startswith("error"), (name, version, answer)
        assert base64.b64decode(answer.partition(" ")[0]) == data, (name, version)


def test_a_cut_of_any_of_them_is_an_error(classes: dict[str, type[Message]]) -> None:
    for name, version, message in every_sample(classes):
        data = encode(message, version)
        for cut in range(0, len(data), max(1, len(data) // CUTS)):
            with pytest.raises(DecodeError):
                decode(classes[name], version, data[:cut])
