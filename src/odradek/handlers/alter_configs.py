"""AlterConfigs (API key 33), versions 0-2.

Card: replaces all of a resource's own settings; deprecated in favour of IncrementalAlterConfigs, still used by older
tools. Topics and brokers only. Answered when the change is durable and in force.
- A resource named twice is refused with INVALID_REQUEST (Kafka 4.4 does not answer such a request).
"""

from __future__ import annotations

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.refusals import sentence
from odradek.metadata.config_changes import Outcome, alter
from odradek.metadata.image import MetadataImage, MetadataRecord
from odradek.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)


async def handle(request: AlterConfigsRequest, context: RequestContext) -> AlterConfigsResponse:
    """Replaces the settings of each resource, or says why not."""
    broker = context.broker

    def change(image: MetadataImage) -> tuple[list[MetadataRecord], list[Outcome]]:
        records, outcomes = alter(image, request.resources, broker.metadata.policy)
        return ([] if request.validate_only else records), outcomes

    try:
        outcomes = await broker.metadata.change(change)
    except KafkaError as error:
        outcomes = [
            Outcome(resource.resource_type, resource.resource_name, error.code, error.message)
            for resource in request.resources
        ]
    return AlterConfigsResponse(
        responses=[
            AlterConfigsResourceResponse(
                error_code=outcome.error,
                error_message=outcome.message,
                resource_type=outcome.resource_type,
                resource_name=outcome.resource_name,
            )
            for outcome in outcomes
        ]
    )


def refused(request: AlterConfigsRequest, code: ErrorCode, version: int) -> AlterConfigsResponse:
    """The answer that refuses the whole request."""
    return AlterConfigsResponse(
        responses=[
            AlterConfigsResourceResponse(
                error_code=code,
                error_message=sentence(code),
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource in request.resources
        ]
    )
