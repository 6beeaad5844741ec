"""The types of groups that are served."""

from __future__ import annotations

from odradek.config.layers import BrokerConfig
from odradek.coordination.groups.classic.groups import classic_groups
from odradek.coordination.groups.classic.settings import ClassicSettings
from odradek.coordination.groups.group import GroupType


def group_types(config: BrokerConfig) -> tuple[GroupType, ...]:
    """The types of groups that the coordinator serves. A new type adds one line here."""
    return (classic_groups(ClassicSettings.of(config)),)
