"""IncrementalAlterConfigs (API key 44), versions 0-1.

Card: sets or deletes single settings of topics and brokers, or adds and removes elements of lists (KIP-339). Answered
when the change is durable and in force. Client metrics, groups and broker loggers are refused as unknown types.
- An unknown operation is refused with INVALID_REQUEST also for topics (Kafka 4.4: UNKNOWN_SERVER_ERROR).
"""

from __future__ import annotations

from odradek.errors import ErrorCode
from odradek.handlers.altering_configs import change_settings, refuse_all
from odradek.handlers.context import RequestContext
from odradek.metadata.config_changes import incremental_alter
from odradek.protocol.messages.incremental_alter_configs import (
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)


async def handle(request: IncrementalAlterConfigsRequest, context: RequestContext) -> IncrementalAlterConfigsResponse:
    """Changes the settings of each resource, or says why not."""
    return IncrementalAlterConfigsResponse(
        responses=await change_settings(request, context, incremental_alter, AlterConfigsResourceResponse)
    )


def refused(request: IncrementalAlterConfigsRequest, code: ErrorCode, version: int) -> IncrementalAlterConfigsResponse:
    """The answer that refuses the whole request."""
    return IncrementalAlterConfigsResponse(responses=refuse_all(request.resources, code, AlterConfigsResourceResponse))
