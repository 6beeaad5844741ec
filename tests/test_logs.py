"""Log lines: an event and its fields, for programs and for people, and through the process's own logging."""

from __future__ import annotations

import json
import logging

import pytest

from odradek.logs import JsonFormatter, TextFormatter, get_logger

log = get_logger("odradek.tests")


def test_fields_stand_in_the_line_and_in_the_record(caplog: pytest.LogCaptureFixture) -> None:
    log.warning("100% of it", peer="127.0.0.1:1", count=3)
    (record,) = caplog.records
    assert record.name == "odradek.tests" and record.levelno == logging.WARNING
    assert record.getMessage() == "100% of it peer=127.0.0.1:1 count=3"
    assert record.funcName == "test_fields_stand_in_the_line_and_in_the_record"
    assert TextFormatter().format(record).endswith("Z warning 100% of it peer=127.0.0.1:1 count=3")
    told = json.loads(JsonFormatter().format(record))
    assert told.pop("timestamp").endswith("Z")
    assert told == {"peer": "127.0.0.1:1", "count": 3, "event": "100% of it", "level": "warning"}


def test_an_exception_stands_below(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        log.exception("a request failed", api="Fetch")
        log.error("work ended", exc_info=error)
    for record in caplog.records:
        assert "ValueError: broken" in json.loads(JsonFormatter().format(record))["exception"]
        assert TextFormatter().format(record).endswith("ValueError: broken")


def test_what_is_not_asked_for_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "odradek.tests")
    log.info("nobody wants this", number=1)
    assert caplog.records == []
