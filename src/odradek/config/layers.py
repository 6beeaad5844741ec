"""Which value of a setting is in force.

Role: put the layers over each other (KIP-226): defaults, what was given at the start, what was changed at run time for
all brokers, and for this one; and over these, for a topic's setting, the topic's own. Says also where a value comes
from, for DescribeConfigs. What is changed at run time is checked and kept by `odradek.metadata`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from odradek.config.broker import BROKER_SETTINGS
from odradek.config.setting import InvalidSetting, Setting, Update, parse_value
from odradek.config.topic import TOPIC_SETTINGS


class Source(IntEnum):
    """Where a setting's value comes from, in the numbers of DescribeConfigs."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5


class BrokerConfig:
    """The broker's settings, checked: those given at the start, over them what was changed for all brokers, over them
    what was changed for this one (KIP-226). Unknown names are kept apart."""

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self.given: dict[str, str] = dict(given or {})
        self.unknown = [name for name in self.given if name not in BROKER_SETTINGS]
        self.dynamic_default: dict[str, str] = {}
        self.dynamic: dict[str, str] = {}
        self._values: dict[str, Any] = {}
        self._of_topics: dict[str, tuple[Any, Source]] = {}
        """What topics have where they have nothing of their own, and from where."""
        self._compute()

    def set_dynamic(self, default: Mapping[str, str], broker: Mapping[str, str]) -> list[InvalidSetting]:
        """Puts the settings changed at run time into force: for all brokers, and for this one. Leaves out, and
        returns, those that cannot be (they are checked when they are changed, but another broker may have written
        them)."""
        left_out: list[InvalidSetting] = []
        self.dynamic_default = self._usable(default, left_out)
        self.dynamic = self._usable(broker, left_out)
        self._compute()
        return left_out

    def _usable(self, layer: Mapping[str, str], left_out: list[InvalidSetting]) -> dict[str, str]:
        out: dict[str, str] = {}
        for name, text in layer.items():
            setting = BROKER_SETTINGS.get(name)
            try:
                if setting is not None:
                    if setting.update is Update.READ_ONLY:
                        raise InvalidSetting(name, text, "It cannot change while the broker runs")
                    parse_value(setting, text)
            except InvalidSetting as error:
                left_out.append(error)
            else:
                out[name] = text
        return out

    def _compute(self) -> None:
        values = {name: setting.default for name, setting in BROKER_SETTINGS.items()}
        for layer in (self.given, self.dynamic_default, self.dynamic):
            for name, text in layer.items():
                if name in BROKER_SETTINGS:
                    values[name] = parse_value(BROKER_SETTINGS[name], text)
        self._values = values
        self._of_topics = {name: self._of_topics_without_overrides(setting) for name, setting in TOPIC_SETTINGS.items()}

    def layers(self, name: str) -> list[tuple[Source, str]]:
        """Where a broker setting is set and to what text, the one in force first; empty where it is nowhere."""
        layers = (
            (Source.DYNAMIC_BROKER, self.dynamic),
            (Source.DYNAMIC_DEFAULT_BROKER, self.dynamic_default),
            (Source.STATIC_BROKER, self.given),
        )
        return [(source, layer[name]) for source, layer in layers if name in layer]

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def integer(self, name: str) -> int:
        value = self._values[name]
        assert isinstance(value, int), name
        return value

    def text(self, name: str) -> str:
        value = self._values[name]
        assert isinstance(value, str), name
        return value

    def flag(self, name: str) -> bool:
        value = self._values[name]
        assert isinstance(value, bool), name
        return value

    def names(self, name: str) -> list[str]:
        value = self._values[name]
        assert isinstance(value, list), name
        return value

    def topic_value(self, name: str, overrides: Mapping[str, str]) -> Any:
        """The effective value of a topic's setting: its override, else the broker's, else the default."""
        if name in overrides:
            return parse_value(TOPIC_SETTINGS[name], overrides[name])
        return self._of_topics[name][0]

    def topic_source(self, name: str, overrides: Mapping[str, str]) -> Source:
        """Where a topic's effective value comes from."""
        return Source.TOPIC if name in overrides else self._of_topics[name][1]

    def _of_topics_without_overrides(self, setting: Setting) -> tuple[Any, Source]:
        for name, factor in setting.synonyms:
            layers = self.layers(name)
            if layers:
                value = self._values[name]
                return (value if factor == 1 or value < 0 else value * factor), layers[0][0]
        return setting.default, Source.DEFAULT


def _names_in_all_units() -> dict[str, list[str]]:
    """For each broker setting that others stand in for: the names that say the same, the one that wins first.

    Settings in different units are one setting under several names: any of them is explained with all of them. A
    setting that only stands in for another (`log.flush.scheduler.interval.ms`) has a meaning of its own.
    """
    out: dict[str, list[str]] = {}
    for setting in TOPIC_SETTINGS.values():
        names = [name for name, _ in setting.synonyms]
        for place, (name, factor) in enumerate(setting.synonyms):
            if len(names) > 1 and (place == 0 or factor != 1):
                out[name] = names
    return out


_NAMES_IN_ALL_UNITS = _names_in_all_units()


def broker_synonyms(name: str) -> list[str]:
    """A broker setting's names, the one that wins first."""
    return _NAMES_IN_ALL_UNITS.get(name, [name])
