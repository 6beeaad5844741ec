"""DeleteGroups (API key 42), versions 0-3.

Card: deletes groups without members, with their offsets (KIP-229): NON_EMPTY_GROUP if there are members,
GROUP_ID_NOT_FOUND if there is no such group. 3 has an error message, which stays empty, as in Kafka. A group named
twice is answered once.
"""

from __future__ import annotations

import asyncio

from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.protocol.messages.delete_groups import DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse


async def handle(request: DeleteGroupsRequest, context: RequestContext) -> DeleteGroupsResponse:
    """Deletes the groups side by side."""
    names = dict.fromkeys(request.groups_names)
    results = await asyncio.gather(*(_delete(group_id, context) for group_id in names))
    return DeleteGroupsResponse(results=list(results))


def refused(request: DeleteGroupsRequest, code: ErrorCode, version: int) -> DeleteGroupsResponse:
    """The answer that refuses the whole request."""
    return DeleteGroupsResponse(
        results=[DeletableGroupResult(group_id=group_id, error_code=code) for group_id in request.groups_names]
    )


async def _delete(group_id: str, context: RequestContext) -> DeletableGroupResult:
    def delete(shard: GroupShard, outcome: Outcome) -> ErrorCode:
        return shard.delete(group_id, outcome)

    try:
        code = await context.broker.groups.call(group_id, delete)
    except KafkaError as error:
        code = error.code
    return DeletableGroupResult(group_id=group_id, error_code=code)
