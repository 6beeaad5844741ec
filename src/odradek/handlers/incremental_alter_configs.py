"""IncrementalAlterConfigs (API key 44), versions 0-1.

Card: sets, deletes, or changes by some elements, single settings of topics and brokers (KIP-339). Answered when the
change is durable and in force. Client metrics, groups and broker loggers are refused as unknown resource types.
- An unknown operation is INVALID_REQUEST also for topics (Kafka 4.4: UNKNOWN_SERVER_ERROR).
"""

from __future__ import annotations

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.refusals import sentence
from odradek.metadata.config_changes import Outcome, incremental_alter
from odradek.metadata.image import MetadataImage, MetadataRecord
from odradek.protocol.messages.incremental_alter_configs import (
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)


async def handle(request: IncrementalAlterConfigsRequest, context: RequestContext) -> IncrementalAlterConfigsResponse:
    """Changes the settings of each resource, or says why not."""
    broker = context.broker

    def change(image: MetadataImage) -> tuple[list[MetadataRecord], list[Outcome]]:
        records, outcomes = incremental_alter(image, request.resources, broker.metadata.policy)
        return ([] if request.validate_only else records), outcomes

    try:
        outcomes = await broker.metadata.change(change)
    except KafkaError as error:
        outcomes = [
            Outcome(resource.resource_type, resource.resource_name, error.code, error.message)
            for resource in request.resources
        ]
    return IncrementalAlterConfigsResponse(
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


def refused(request: IncrementalAlterConfigsRequest, code: ErrorCode, version: int) -> IncrementalAlterConfigsResponse:
    """The answer that refuses the whole request."""
    return IncrementalAlterConfigsResponse(
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
