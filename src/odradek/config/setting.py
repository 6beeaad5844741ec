"""The type of a setting's declaration, and the parsing and formatting of its values.

Role: declare a setting, check one value by itself, and turn a value back into text. `topic.py`, `broker.py` and
`without_effect.py` declare the settings; `layers.py` computes which value is effective.

Invariant: `parse_value` reads the text that `format_value` writes of a value as the same value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, NamedTuple

from odradek.config.bounds import DOUBLE_MAX


class Kind(IntEnum):
    """The types of settings; the values are those of DescribeConfigs."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class Update(IntEnum):
    """Whether a broker setting may change at run time, and for which brokers (KIP-226)."""

    READ_ONLY = 0
    PER_BROKER = 1
    CLUSTER_WIDE = 2


class Setting(NamedTuple):
    """A setting of the broker, or (with `synonyms`) of a topic."""

    name: str
    kind: Kind
    default: Any
    doc: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None
    update: Update = Update.READ_ONLY
    effect: bool = True
    """False if the setting is accepted for compatibility with Kafka and does nothing here."""
    synonyms: tuple[tuple[str, int], ...] = ()
    """For a topic's setting, the broker settings that give its default, in order of precedence. Each has the factor
    that converts its unit."""

    @property
    def sensitive(self) -> bool:
        return self.kind is Kind.PASSWORD

    def at_the_broker(self, name: str) -> Setting:
        """The broker setting `name` that gives this topic setting its default: the same declaration under another
        name, which may change at run time for all brokers."""
        return self._replace(name=name, update=Update.CLUSTER_WIDE, synonyms=())


class InvalidSetting(ValueError):
    """A setting has an invalid value or an unknown name; the message names both and the reason."""

    def __init__(self, name: str, value: object, why: str) -> None:
        super().__init__(f"Invalid value {value} for configuration {name}: {why}")
        self.name = name


# The bits of each integer type, without the sign.
_BITS = {Kind.INT: 31, Kind.SHORT: 15, Kind.LONG: 63}


def parse_value(setting: Setting, text: str) -> Any:
    """Parses and checks a value's text. Raises `InvalidSetting`."""
    text = text.strip()
    value: Any = text
    bits = _BITS.get(setting.kind)
    if bits is not None:
        value = _parse_number(setting, text, int)
        if not -(2**bits) <= value < 2**bits:
            raise InvalidSetting(setting.name, text, f"Not a number of type {setting.kind.name}")
    elif setting.kind is Kind.DOUBLE:
        value = _parse_number(setting, text, float)
        if not -DOUBLE_MAX <= value <= DOUBLE_MAX:  # NaN would pass every bound, infinity most.
            raise InvalidSetting(setting.name, text, f"Not a number of type {setting.kind.name}")
    elif setting.kind is Kind.BOOLEAN:
        if text.lower() not in ("true", "false"):
            raise InvalidSetting(setting.name, text, "Expected value to be either true or false")
        value = text.lower() == "true"
    elif setting.kind is Kind.LIST:
        value = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        if setting.choices is not None and text and not all(part.strip() for part in text.split(",")):
            raise InvalidSetting(setting.name, text, "Values must not be empty")
    if setting.minimum is not None and value < setting.minimum:
        raise InvalidSetting(setting.name, text, f"Value must be at least {setting.minimum}")
    if setting.maximum is not None and value > setting.maximum:
        raise InvalidSetting(setting.name, text, f"Value must be no more than {setting.maximum}")
    if setting.choices is not None:
        for part in value if isinstance(value, list) else [value]:
            if str(part) not in setting.choices:
                raise InvalidSetting(setting.name, text, f"String must be one of: {', '.join(setting.choices)}")
    return value


def _parse_number(setting: Setting, text: str, kind: Callable[[str], int | float]) -> Any:
    try:
        if "_" in text:  # Python would accept underscores between digits.
            raise ValueError
        return kind(text)
    except ValueError:
        raise InvalidSetting(setting.name, text, f"Not a number of type {setting.kind.name}") from None


def format_value(value: Any) -> str:
    """The text of a parsed value or default, as Kafka writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(value)
    if isinstance(value, float):
        return repr(value).replace("e+", "E").replace("e", "E")
    return str(value)


def table(settings: Iterable[Setting]) -> dict[str, Setting]:
    """The settings by name."""
    return {setting.name: setting for setting in settings}
