"""What a setting is, and how its text becomes a value.

Role: the type of a declaration, the checks of one value, and the way back from a value to text. Which settings there
are, `topic.py`, `broker.py` and `without_effect.py` say; which of several values is in force, `layers.py`.

Invariant: what `parse_value` takes, `format_value` writes so that it is read again as the same value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, NamedTuple

from odradek.config.bounds import DOUBLE_MAX


class Kind(IntEnum):
    """The types of settings, in the numbers of DescribeConfigs."""

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
    """When a broker setting may change (KIP-226)."""

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
    """False where the setting is accepted for Kafka's sake and does nothing here."""
    synonyms: tuple[tuple[str, int], ...] = ()
    """Topic settings: broker settings that give the default, each with its factor, the one that wins first."""

    @property
    def sensitive(self) -> bool:
        return self.kind is Kind.PASSWORD

    def at_the_broker(self, name: str) -> Setting:
        """The broker's setting of this name that gives a topic's setting its default: it is the same in all but its
        name, and may change for all brokers while they run."""
        return self._replace(name=name, update=Update.CLUSTER_WIDE, synonyms=())


class InvalidSetting(ValueError):
    """A setting's value (or name) that cannot be used; the message names both and says why."""

    def __init__(self, name: str, value: object, why: str) -> None:
        super().__init__(f"Invalid value {value} for configuration {name}: {why}")
        self.name = name


# Of the types that are whole numbers: bits beside the sign.
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
        if "_" in text:  # Python's own way to group digits.
            raise ValueError
        return kind(text)
    except ValueError:
        raise InvalidSetting(setting.name, text, f"Not a number of type {setting.kind.name}") from None


def format_value(value: Any) -> str:
    """A parsed value or default as Kafka writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(value)
    if isinstance(value, float):
        return repr(value).replace("e+", "E").replace("e", "E")
    return str(value)


def table(settings: Iterable[Setting]) -> dict[str, Setting]:
    """Settings by their names."""
    return {setting.name: setting for setting in settings}
