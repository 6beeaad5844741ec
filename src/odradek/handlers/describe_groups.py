"""DescribeGroups (API key 15), versions 0-6.

Card: 3 authorized operations (KIP-430; there is no authorizer, so all), 4 static members (KIP-345), 6 an error code and
message for a group that does not exist or is not classic; earlier versions return it in the state Dead. A group named
twice is answered twice. A group for which the response has no room gets INVALID_REQUEST.
"""

from __future__ import annotations

from odradek.coordination.groups.classic.group import GroupState
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome
from odradek.coordination.replies import Untold, settled
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext, Steps
from odradek.handlers.response_budget import ResponseBudget, estimated_bytes
from odradek.handlers.turns import LATER, LONG_ANSWER_BYTES
from odradek.protocol.messages.describe_groups import (
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)

NOT_FOUND_SINCE = 6
# Kafka's bits of the operations read, delete, describe, describe configs and alter configs.
GROUP_OPERATIONS = 3400


def handle(request: DescribeGroupsRequest, context: RequestContext) -> Steps:
    """The groups with their members."""
    budget = ResponseBudget(context.broker.config)
    described: dict[str, Untold[DescribedGroup]] = {}
    sizes: dict[str, int] = {}
    response = DescribeGroupsResponse()
    for group_id in request.groups:
        if group_id not in described:
            described[group_id] = one = _describe(group_id, request, context)
            sizes[group_id] = estimated_bytes(one.result)
        if budget.take(sizes[group_id]):
            response.groups.append(described[group_id].result)
        else:
            response.groups.append(_too_much(group_id, budget, context.api_version))
        yield
    if budget.used_bytes > LONG_ANSWER_BYTES:
        yield LATER
    return _told(response, described)


async def _told(
    response: DescribeGroupsResponse, described: dict[str, Untold[DescribedGroup]]
) -> DescribeGroupsResponse:
    await settled(described.values())
    lost = {
        group_id: DescribedGroup(error_code=ErrorCode.NOT_COORDINATOR, group_id=group_id)
        for group_id, one in described.items()
        if one.is_lost
    }
    if lost:
        response.groups = [lost.get(one.group_id, one) for one in response.groups]
    return response


def refused(request: DescribeGroupsRequest, code: ErrorCode, version: int) -> DescribeGroupsResponse:
    """The answer that refuses the whole request."""
    return DescribeGroupsResponse(
        groups=[DescribedGroup(error_code=code, group_id=group_id) for group_id in request.groups]
    )


def _describe(group_id: str, request: DescribeGroupsRequest, context: RequestContext) -> Untold[DescribedGroup]:
    def describe(shard: GroupShard, outcome: Outcome) -> tuple[DescribedGroup | None, bool]:
        return shard.describe(group_id), shard.find(group_id) is not None

    try:
        (found, is_known), durable = context.broker.groups.start(group_id, describe)
    except KafkaError as error:
        return Untold(DescribedGroup(error_code=error.code, group_id=group_id), None)
    if found is None:
        found = DescribedGroup(group_id=group_id, group_state=GroupState.DEAD.value)
        if context.api_version >= NOT_FOUND_SINCE:
            found.error_code = ErrorCode.GROUP_ID_NOT_FOUND
            why = "is not a classic group" if is_known else "not found"
            found.error_message = f"Group {group_id} {why}."
    if request.include_authorized_operations and not found.error_code:
        found.authorized_operations = GROUP_OPERATIONS
    return Untold(found, durable)


def _too_much(group_id: str, budget: ResponseBudget, version: int) -> DescribedGroup:
    refusal = DescribedGroup(group_id=group_id, error_code=ErrorCode.INVALID_REQUEST)
    if version >= NOT_FOUND_SINCE:
        refusal.error_message = budget.message
    return refusal
