"""The page of all settings, from `odradek.config`.

Role: every setting of the broker and of topics with its type, default, bounds, when it may change, and what it does
here; those that are only taken for Kafka's sake stand apart. Each row can be linked to: `#broker-num.partitions`,
`#topic-retention.ms`.
"""

from __future__ import annotations

from collections.abc import Iterable

from odradek.config import BROKER_SETTINGS, TOPIC_SETTINGS, Setting
from odradek.config.bounds import INT_MAX, LONG_MAX
from odradek.config.setting import Update, format_value
from odradek.config.without_effect import CONTROLLER_AND_REPLICA_SETTINGS

_CHANGES = {
    Update.READ_ONLY: "at a start",
    Update.PER_BROKER: "while it runs",
    Update.CLUSTER_WIDE: "while it runs",
}
_INTRODUCTION = """\
# Configuration

Made from the code: every setting there is, with its type, its default and what it does here. Names, defaults and
meanings are Apache Kafka's (4.4) where nothing else is said; settings that only Odradek has begin with `odradek.`.

## Where settings come from

The later ones win:

1. the defaults below;
2. a file: `odradek serve --config server.properties`, as Kafka reads it;
3. `--set NAME=VALUE` on the command line, as often as you like;
4. options of their own: `--listen`, `--advertise`, `--data-dir`;
5. those changed while the broker runs (marked so below), for all brokers or this one, by any Kafka client or by
   [`odradek config alter`](commands/odradek-config-alter.md); they are kept in the metadata.

A topic's setting is the topic's own if it has one, else the broker's that the table names, else the default.
A value that cannot be is refused at the start in one sentence that names the setting; a name that there is not is
ignored, with a warning.
"""


def _number(value: float) -> str:
    if value == INT_MAX:
        return "2³¹ - 1"
    if value == LONG_MAX:
        return "2⁶³ - 1"
    return format_value(int(value) if float(value).is_integer() else value)


def _default(setting: Setting) -> str:
    if setting.default is None:
        return "none"
    if isinstance(setting.default, int) and setting.default in (INT_MAX, LONG_MAX):
        return _number(setting.default)
    text = format_value(setting.default)
    return f"`{text}`" if text else "empty"


def _type(setting: Setting) -> str:
    kind = setting.kind.name.lower()
    if setting.choices is not None:
        return f"{kind}: {', '.join(f'`{choice}`' for choice in setting.choices)}"
    if setting.minimum is not None and setting.maximum is not None:
        return f"{kind}, {_number(setting.minimum)} to {_number(setting.maximum)}"
    if setting.minimum is not None:
        return f"{kind}, at least {_number(setting.minimum)}"
    return kind


def _name(setting: Setting, scope: str) -> str:
    return f'<code id="{scope}-{setting.name}">{setting.name}</code>'


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _broker_table(settings: Iterable[Setting]) -> str:
    lines = ["| setting | type | default | changes | meaning |", "|---|---|---|---|---|"]
    for setting in settings:
        cells = (
            _name(setting, "broker"),
            _type(setting),
            _default(setting),
            _CHANGES[setting.update],
            setting.doc,
        )
        lines.append("| " + " | ".join(map(_escaped, cells)) + " |")
    return "\n".join(lines)


def _topic_table(settings: Iterable[Setting]) -> str:
    lines = ["| setting | type | default | broker's setting | meaning |", "|---|---|---|---|---|"]
    for setting in settings:
        broker = ", ".join(f"[`{name}`](#broker-{name})" for name, _ in setting.synonyms) or "—"
        cells = (_name(setting, "topic"), _type(setting), _default(setting), broker, setting.doc)
        lines.append("| " + " | ".join(map(_escaped, cells)) + " |")
    return "\n".join(lines)


def page() -> str:
    """The page's text."""
    broker, topic = BROKER_SETTINGS.values(), TOPIC_SETTINGS.values()
    own = [setting for setting in broker if setting.effect and setting.name.startswith("odradek.")]
    kafkas = [setting for setting in broker if setting.effect and not setting.name.startswith("odradek.")]
    others = [
        setting for setting in broker if not setting.effect and setting.name not in CONTROLLER_AND_REPLICA_SETTINGS
    ]
    parts = [
        _INTRODUCTION,
        "## Settings of the broker",
        _broker_table(kafkas),
        "## Settings of the broker that only Odradek has",
        _broker_table(own),
        "## Settings of topics",
        _topic_table(setting for setting in topic if setting.effect),
        "## Without effect",
        "So that files and tools work as they are, these are accepted, checked and described, and **do nothing here**. "
        "The last column says what they do in Kafka. At the start the broker names those that it was given.",
        "### Of topics",
        _topic_table(setting for setting in topic if not setting.effect),
        "### Of controllers and replicas",
        "There are none here.",
        _broker_table(CONTROLLER_AND_REPLICA_SETTINGS.values()),
        "### Others",
        _broker_table(others),
    ]
    return "\n\n".join(parts) + "\n"
