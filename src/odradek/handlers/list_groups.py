"""ListGroups (API key 16), versions 0-5.

Card: 4 filter by state (KIP-518), 5 filter by type (KIP-848). Filters ignore case; an unknown name matches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.replies import Untold, settled
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext, Steps
from odradek.handlers.turns import LATER
from odradek.protocol.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse

# Groups that are listed between two yields, and at most in an answer that is encoded on the event loop.
AT_ONCE = 100
LONG_ANSWER_GROUPS = 2000


def handle(request: ListGroupsRequest, context: RequestContext) -> Steps:
    """Lists all groups that match the filters."""
    states = {name.lower() for name in request.states_filter}
    types = {name.lower() for name in request.types_filter}
    found: list[ListedGroup] = []
    read: list[Untold[GroupShard]] = []
    try:
        for shard in context.broker.groups.shards():
            machine = shard.active()
            for number, group_id in enumerate(machine.names(), 1):
                one = machine.listed(group_id)
                if (
                    one is not None  # it has not been deleted meanwhile
                    and (not states or one.group_state.lower() in states)
                    and (not types or one.group_type.lower() in types)
                ):
                    found.append(one)
                if number % AT_ONCE == 0:
                    yield
            yield
            # The answer may leave when the shard's newest append is durable and its state has not been loaded again.
            last = shard.start(lambda now, outcome: now)
            if last.result is not machine:
                raise KafkaError(ErrorCode.NOT_COORDINATOR)
            read.append(last)
    except KafkaError as error:
        return ListGroupsResponse(error_code=error.code)
    if len(found) > LONG_ANSWER_GROUPS:
        yield LATER
    return _told(found, read)


async def _told(found: list[ListedGroup], read: Sequence[Untold[GroupShard]]) -> ListGroupsResponse:
    await settled(read)
    if any(one.is_lost for one in read):
        return ListGroupsResponse(error_code=ErrorCode.NOT_COORDINATOR)
    return ListGroupsResponse(groups=found)


def refused(request: ListGroupsRequest, code: ErrorCode, version: int) -> ListGroupsResponse:
    """The answer that refuses the whole request."""
    return ListGroupsResponse(error_code=code)
