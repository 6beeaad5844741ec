"""AlterConfigs (API key 33), versions 0-2.

Card: replaces all of a resource's own settings; deprecated in favour of IncrementalAlterConfigs, still used by older
tools. Topics and brokers only. Answered when the change is durable and in force.
- A resource named twice is refused with INVALID_REQUEST (Kafka 4.4 does not answer such a request).
"""

from __future__ import annotations

from odradek.errors import ErrorCode
from odradek.handlers.altering_configs import change_settings, refuse_all
from odradek.handlers.context import RequestContext
from odradek.metadata.config_changes import alter
from odradek.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)


async def handle(request: AlterConfigsRequest, context: RequestContext) -> AlterConfigsResponse:
    """Replaces the settings of each resource, or says why not."""
    return AlterConfigsResponse(responses=await change_settings(request, context, alter, AlterConfigsResourceResponse))


def refused(request: AlterConfigsRequest, code: ErrorCode, version: int) -> AlterConfigsResponse:
    """The answer that refuses the whole request."""
    return AlterConfigsResponse(responses=refuse_all(request.resources, code, AlterConfigsResourceResponse))
