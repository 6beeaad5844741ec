"""DescribeCluster (API key 60), versions 0-2.

Card: 1 the type of endpoint (KIP-919), 2 fenced brokers too (KIP-1073; there are none here).
- This broker is the whole cluster and its controller; there are no controller endpoints to describe.
- Authorized operations: there is no authorizer, so all (KIP-430).
"""

from __future__ import annotations

from odradek.errors import ErrorCode
from odradek.handlers.context import RequestContext
from odradek.handlers.refusals import sentence
from odradek.handlers.topics import CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED
from odradek.protocol.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

BROKERS = 1
CONTROLLERS = 2


def handle(request: DescribeClusterRequest, context: RequestContext) -> DescribeClusterResponse:
    """Describes this broker, with the advertised address of the listener that got the request."""
    if request.endpoint_type == CONTROLLERS:
        return DescribeClusterResponse(
            error_code=ErrorCode.MISMATCHED_ENDPOINT_TYPE,
            error_message="The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type "
            "CONTROLLER",
        )
    if request.endpoint_type != BROKERS:
        return DescribeClusterResponse(
            error_code=ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
            error_message=f"Unsupported endpoint type {request.endpoint_type}",
        )
    broker = context.broker
    host, port = broker.advertised[context.listener]
    asked = request.include_cluster_authorized_operations
    return DescribeClusterResponse(
        cluster_id=broker.metadata.cluster_id,
        controller_id=broker.node_id,
        brokers=[DescribeClusterBroker(broker_id=broker.node_id, host=host, port=port)],
        cluster_authorized_operations=CLUSTER_OPERATIONS if asked else OPERATIONS_NOT_ASKED,
    )


def refused(request: DescribeClusterRequest, code: ErrorCode, version: int) -> DescribeClusterResponse:
    """The answer that refuses the whole request."""
    return DescribeClusterResponse(error_code=code, error_message=sentence(code))
