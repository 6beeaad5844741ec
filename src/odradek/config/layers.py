"""Computes the effective value of each setting from its layers.

Role: apply the layers in order (KIP-226): the default, the value given at the start, the value changed at run time for
all brokers, the one changed for this broker; for a topic's setting, the topic's own value comes last. Also tells, for
DescribeConfigs, which layer a value comes from. `odradek.metadata` checks and stores changes at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from odradek.config.broker import BROKER_SETTINGS
from odradek.config.setting import InvalidSetting, Setting, Update, parse_value
from odradek.config.topic import TOPIC_SETTINGS


class Source(IntEnum):
    """The layer that a setting's value comes from; the values are those of DescribeConfigs."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5


class BrokerConfig:
    """The broker's effective settings, checked. Values changed for this broker override those changed for all brokers,
    which override those given at the start (KIP-226). `unknown` lists the given names that are no settings."""

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
        """Replaces the settings changed at run time: those for all brokers, and those for this one. Skips invalid ones
        and returns their errors (changes are checked before they are stored, but another broker may have stored
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
        """The layers that set a broker setting, each with its text, the effective one first; empty if none does."""
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
        """The effective value of a topic's setting: the topic's override, else the broker's, else the default."""
        if name in overrides:
            return parse_value(TOPIC_SETTINGS[name], overrides[name])
        return self._of_topics[name][0]

    def topic_source(self, name: str, overrides: Mapping[str, str]) -> Source:
        """The layer that the effective value of a topic's setting comes from."""
        return Source.TOPIC if name in overrides else self._of_topics[name][1]

    def _of_topics_without_overrides(self, setting: Setting) -> tuple[Any, Source]:
        for name, factor in setting.synonyms:
            layers = self.layers(name)
            if layers:
                value = self._values[name]
                return (value if factor == 1 or value < 0 else value * factor), layers[0][0]
        return setting.default, Source.DEFAULT


def _names_in_all_units() -> dict[str, list[str]]:
    """For each broker setting that exists in several units: all its names, in order of precedence.

    Such settings (`log.retention.ms`, `.minutes`, `.hours`) are one setting under several names, and DescribeConfigs
    lists all of them as synonyms of each. A setting that is only a fallback for another
    (`log.flush.scheduler.interval.ms`) has a meaning of its own and no such synonyms.
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
    """The names of a broker setting in all its units, in order of precedence."""
    return _NAMES_IN_ALL_UNITS.get(name, [name])
