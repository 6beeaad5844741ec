"""The broker settings that the rules of classic groups depend on, read once at the start."""

from __future__ import annotations

from typing import NamedTuple

from odradek.config.layers import BrokerConfig


class ClassicSettings(NamedTuple):
    """The values of these settings. `of` names each setting."""

    min_session_timeout_ms: int
    max_session_timeout_ms: int
    initial_rebalance_delay_ms: int
    new_member_join_timeout_ms: int
    max_size: int

    @classmethod
    def of(cls, config: BrokerConfig) -> ClassicSettings:
        return cls(
            min_session_timeout_ms=config.integer("group.min.session.timeout.ms"),
            max_session_timeout_ms=config.integer("group.max.session.timeout.ms"),
            initial_rebalance_delay_ms=config.integer("group.initial.rebalance.delay.ms"),
            new_member_join_timeout_ms=config.integer("odradek.group.new.member.join.timeout.ms"),
            max_size=config.integer("group.max.size"),
        )
