"""ListConfigResources (API key 74), versions 0-1.

Card: 0 lists client metrics subscriptions only (KIP-1000), 1 the requested types, or all (KIP-1142).
- All topics and brokers are listed, whether or not they have settings of their own, as in Kafka.
- Client metrics and groups have no settings here yet: their lists are empty. Broker loggers cannot be changed, and are
  not listed (Kafka lists one for each broker).
- An unknown type refuses the whole request with UNSUPPORTED_VERSION.
"""

from __future__ import annotations

from odradek.errors import ErrorCode
from odradek.handlers.context import RequestContext, Steps
from odradek.metadata.config_changes import KNOWN_RESOURCES
from odradek.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE
from odradek.protocol.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

CLIENT_METRICS_ONLY_VERSION = 0


def handle(request: ListConfigResourcesRequest, context: RequestContext) -> Steps:
    """Lists the resources that have settings."""
    if context.api_version == CLIENT_METRICS_ONLY_VERSION:
        return ListConfigResourcesResponse()
    asked = set(request.resource_types) or KNOWN_RESOURCES
    if not asked <= KNOWN_RESOURCES:
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    resources = []
    if BROKER_RESOURCE in asked:
        resources.append(ConfigResource(resource_name=str(context.broker.node_id), resource_type=BROKER_RESOURCE))
    if TOPIC_RESOURCE in asked:
        for name in list(context.broker.metadata.image.topics):
            yield
            resources.append(ConfigResource(resource_name=name, resource_type=TOPIC_RESOURCE))
    return ListConfigResourcesResponse(config_resources=resources)


def refused(request: ListConfigResourcesRequest, code: ErrorCode, version: int) -> ListConfigResourcesResponse:
    """The answer that refuses the whole request."""
    return ListConfigResourcesResponse(error_code=code)
