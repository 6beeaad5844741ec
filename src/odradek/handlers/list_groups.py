"""ListGroups (API key 16), versions 0-5.

Card: 4 filter by state (KIP-518), 5 filter by type (KIP-848). Filters ignore case; an unknown name matches nothing.
"""

from __future__ import annotations

from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.protocol.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse


async def handle(request: ListGroupsRequest, context: RequestContext) -> ListGroupsResponse:
    """All groups that fit."""
    states = {name.lower() for name in request.states_filter}
    types = {name.lower() for name in request.types_filter}

    def find(shard: GroupShard, outcome: Outcome) -> list[ListedGroup]:
        return [
            group
            for group in shard.list()
            if (not states or group.group_state.lower() in states) and (not types or group.group_type.lower() in types)
        ]

    try:
        found = await context.broker.groups.on_active_shards(find)
    except KafkaError as error:
        return ListGroupsResponse(error_code=error.code)
    return ListGroupsResponse(groups=[group for groups in found for group in groups])


def refused(request: ListGroupsRequest, code: ErrorCode, version: int) -> ListGroupsResponse:
    """The answer that refuses the whole request."""
    return ListGroupsResponse(error_code=code)
