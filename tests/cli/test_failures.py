"""What a command says when its client fails: the client's sentence, and what helps, as one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from odradek.cli.failures import CommandFailed, WrongUse, exit_code, told
from odradek.cli.main import run
from odradek.client.failures import (
    AdvertisedAddressUnreachable,
    ClientFailed,
    ConnectionLost,
    InstanceFenced,
    InvalidArgument,
    NoAddress,
    NoBrokerAnswers,
    NoProducerId,
    UnknownGroup,
    UnknownTopic,
)
from tests.client.scripted_broker import TOPIC, Answer, scripted


def never(request: Any, version: int) -> Answer:
    raise AssertionError("not to be asked")


def test_an_advertised_address_that_leads_nowhere_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(never) as broker:
        broker.advertised = ("127.0.0.1", 1)
        assert run(["consume", TOPIC, "--bootstrap-server", broker.address, "--timeout", "0.3"]) == 1
    printed = capsys.readouterr()
    assert "127.0.0.1:1" in printed.err and "advertised.listeners" in printed.err and printed.out == ""


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(never) as broker:
        address = broker.address
    assert run(["topic", "list", "--bootstrap-server", f"127.0.0.1:1,{address}"]) == 1
    assert "odradek serve" in capsys.readouterr().err


def caused(failure: ClientFailed, cause: ClientFailed) -> ClientFailed:
    failure.__cause__ = cause
    return failure


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (CommandFailed("It is so."), "It is so."),
        (ConnectionLost("lost the connection to b:1 (reset)"), "lost the connection to b:1 (reset)"),
        (
            NoAddress("no broker is named."),
            "no broker is named; --bootstrap-server takes HOST:PORT, or several with commas between.",
        ),
        (UnknownGroup("there is no such group."), "there is no such group; `odradek group list` shows them."),
        (InstanceFenced("this one is out."), "this one is out: give each its own --instance-id."),
        (NoProducerId("no id: X."), "no id: X; --no-idempotence does without."),
        (UnknownTopic("t"), "topic 't' does not exist; create it with `odradek topic create t`."),
        (
            caused(ClientFailed("gave up after 1 s: cannot reach b:1 (refused)."), NoBrokerAnswers("cannot reach b:1")),
            "gave up after 1 s: cannot reach b:1 (refused): is a broker running there? Start one with `odradek serve`, "
            "or name another with --bootstrap-server HOST:PORT.",
        ),
        (
            caused(
                ClientFailed("gave up (0 records were acknowledged before)."),
                caused(ClientFailed("not yet"), AdvertisedAddressUnreachable("it is not there.")),
            ),
            "gave up (0 records were acknowledged before); check the broker's advertised.listeners "
            "(`odradek serve --advertise`).",
        ),
    ],
)
def test_what_helps_is_added_to_what_failed(failure: Exception, sentence: str) -> None:
    assert told(failure) == sentence


def test_wrong_use_has_its_exit_code() -> None:
    assert [exit_code(WrongUse("x")), exit_code(InvalidArgument("x"))] == [2, 2]
    assert [exit_code(CommandFailed("x")), exit_code(ClientFailed("x"))] == [1, 1]


@pytest.mark.parametrize("addresses", [",", "nowhere:0"])
def test_an_address_that_is_none_is_wrong_use(addresses: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topic", "list", "--bootstrap-server", addresses]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("odradek: ") and ("--bootstrap-server" in line or "localhost:9092" in line)
