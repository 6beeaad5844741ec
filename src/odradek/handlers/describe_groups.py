"""DescribeGroups (API key 15), versions 0-6.

Card: 3 authorized operations (KIP-430; there is no authorizer, so all), 4 static members (KIP-345), 6 an error and a
sentence for a group that does not exist or is of another type than classic, which earlier versions tell by its state,
Dead.
"""

from __future__ import annotations

import asyncio

from odradek.coordination.groups.classic.group import GroupState
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.protocol.messages.describe_groups import (
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)

NOT_FOUND_SINCE = 6
# Kafka's bits of the operations read, delete, describe, describe configs and alter configs.
GROUP_OPERATIONS = 3400


async def handle(request: DescribeGroupsRequest, context: RequestContext) -> DescribeGroupsResponse:
    """The groups with their members."""
    groups = await asyncio.gather(*(_describe(group_id, request, context) for group_id in request.groups))
    return DescribeGroupsResponse(groups=list(groups))


def refused(request: DescribeGroupsRequest, code: ErrorCode, version: int) -> DescribeGroupsResponse:
    """The answer that refuses the whole request."""
    return DescribeGroupsResponse(
        groups=[DescribedGroup(error_code=code, group_id=group_id) for group_id in request.groups]
    )


async def _describe(group_id: str, request: DescribeGroupsRequest, context: RequestContext) -> DescribedGroup:
    def describe(shard: GroupShard, outcome: Outcome) -> tuple[DescribedGroup | None, bool]:
        return shard.describe(group_id), shard.find(group_id) is not None

    try:
        found, is_known = await context.broker.groups.call(group_id, describe)
    except KafkaError as error:
        return DescribedGroup(error_code=error.code, group_id=group_id)
    if found is None:
        found = DescribedGroup(group_id=group_id, group_state=GroupState.DEAD.value)
        if context.api_version >= NOT_FOUND_SINCE:
            found.error_code = ErrorCode.GROUP_ID_NOT_FOUND
            why = "is not a classic group" if is_known else "not found"
            found.error_message = f"Group {group_id} {why}."
    if request.include_authorized_operations and not found.error_code:
        found.authorized_operations = GROUP_OPERATIONS
    return found
