"""The broker's log lines: an event and its fields, through the standard library's logging.

Role: loggers that take fields as keywords (`log.warning("connection refused", peer=peer)`), and two formats of a line:
JSON for programs, `event key=value` for people. `odradek serve` writes the lines to stderr; inside another program they
go where its logging configuration sends the logger `odradek`.

Imports nothing else of the project, and JSON only when a line is written.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

ROOT = "odradek"


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger that takes the line's fields as keywords. The message is the event; it is not a format string."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if self.isEnabledFor(level):
            exc_info = kwargs.pop("exc_info", None)
            line = _Line(str(msg), kwargs)
            self.logger.log(level, line, exc_info=exc_info, stacklevel=2, extra={"odradek_fields": kwargs})


class _Line:
    """An event with its fields, which becomes text only when a formatter needs it."""

    __slots__ = ("event", "fields")

    def __init__(self, event: str, fields: dict[str, Any]) -> None:
        self.event = event
        self.fields = fields

    def __str__(self) -> str:
        return " ".join([self.event, *(f"{name}={value}" for name, value in self.fields.items())])


def get_logger(name: str) -> Log:
    """The logger of a part of the broker. `name` begins with "odradek."."""
    return Log(logging.getLogger(name))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """Formats a line as one JSON object: the fields, then `event`, `level`, `timestamp` and, if any, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        fields: dict[str, Any] = dict(getattr(record, "odradek_fields", {}))
        event = record.msg.event if isinstance(record.msg, _Line) else record.getMessage()
        fields.update(event=event, level=record.levelname.lower(), timestamp=_time(record))
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Formats a line as text for people."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)[:23]}Z {record.levelname.lower():7} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
