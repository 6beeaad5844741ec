"""DeleteGroups (API key 42), versions 0-3.

Card: deletes groups without members, with their offsets (KIP-229): NON_EMPTY_GROUP if there are members,
GROUP_ID_NOT_FOUND if there is no such group. 3 has an error message, which stays empty, as in Kafka. A group named
twice is answered once.
"""

from __future__ import annotations

from collections.abc import Sequence

from odradek.coordination.replies import Untold, settled
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.turns import Steps as StepsTo
from odradek.protocol.messages.delete_groups import DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse


async def handle(request: DeleteGroupsRequest, context: RequestContext) -> DeleteGroupsResponse:
    """Deletes one group after the other, also if the connection is lost meanwhile: no group is left half deleted. The
    answer waits until all deletions are durable."""
    return await _told(await context.broker.turns.run(_delete(request, context)))


def _delete(request: DeleteGroupsRequest, context: RequestContext) -> StepsTo[list[Untold[DeletableGroupResult]]]:
    deleted: list[Untold[DeletableGroupResult]] = []
    for group_id in dict.fromkeys(request.groups_names):
        result, durable = DeletableGroupResult(group_id=group_id), None
        try:
            code, durable = yield from context.broker.groups.delete(group_id)
        except KafkaError as error:
            code = error.code
        result.error_code = code
        deleted.append(Untold(result, durable))
        yield
    return deleted


async def _told(deleted: Sequence[Untold[DeletableGroupResult]]) -> DeleteGroupsResponse:
    await settled(deleted)
    for one in deleted:
        if one.is_lost:
            one.result.error_code = ErrorCode.NOT_COORDINATOR
    return DeleteGroupsResponse(results=[one.result for one in deleted])


def refused(request: DeleteGroupsRequest, code: ErrorCode, version: int) -> DeleteGroupsResponse:
    """The answer that refuses the whole request."""
    return DeleteGroupsResponse(
        results=[DeletableGroupResult(group_id=group_id, error_code=code) for group_id in request.groups_names]
    )
