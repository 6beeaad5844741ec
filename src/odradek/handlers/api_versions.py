"""ApiVersions (API key 18), versions 0-5.

Card:
- 3 client software name and version (KIP-511), features; 4 features whose range begins at 0; 5 the cluster and node
  that the client meant to reach (REBOOTSTRAP_REQUIRED if this is another one).
- An unknown version of this API is answered in version 0 with UNSUPPORTED_VERSION and the range of this API, so that
  the client can ask again in a served version (`network/dispatch.py` calls `unsupported`).

Only the APIs in `protocol/registry.py` and features that are served are announced.
"""

from __future__ import annotations

import re

from odradek.errors import ErrorCode
from odradek.handlers.context import RequestContext
from odradek.protocol.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)
from odradek.protocol.registry import APIS, BY_NAME

SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def handle(request: ApiVersionsRequest, context: RequestContext) -> ApiVersionsResponse:
    """The APIs and versions served."""
    if context.api_version >= 3 and not (
        SOFTWARE.fullmatch(request.client_software_name) and SOFTWARE.fullmatch(request.client_software_version)
    ):
        return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
    broker = context.broker
    if (request.cluster_id is None) != (request.node_id == -1):
        return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
    meant = (request.cluster_id, request.node_id)
    if request.cluster_id is not None and meant != (broker.metadata.cluster_id, broker.node_id):
        return ApiVersionsResponse(error_code=ErrorCode.REBOOTSTRAP_REQUIRED)
    features = broker.metadata.finalized_features
    return ApiVersionsResponse(
        api_keys=[
            ApiVersion(api_key=api.key, min_version=api.announced.first, max_version=api.announced.last) for api in APIS
        ],
        supported_features=[
            SupportedFeatureKey(name=name, min_version=1, max_version=level) for name, level in features.items()
        ],
        finalized_features=[
            FinalizedFeatureKey(name=name, max_version_level=level, min_version_level=level)
            for name, level in features.items()
        ],
        finalized_features_epoch=broker.metadata.finalized_features_epoch if features else -1,
    )


def refused(request: ApiVersionsRequest, code: ErrorCode, version: int) -> ApiVersionsResponse:
    """The answer that refuses the whole request."""
    return unsupported() if code == ErrorCode.UNSUPPORTED_VERSION else ApiVersionsResponse(error_code=code)


def unsupported() -> ApiVersionsResponse:
    """The answer, in version 0, to a version of this API that is not served (KIP-511)."""
    own = BY_NAME["ApiVersions"]
    return ApiVersionsResponse(
        error_code=ErrorCode.UNSUPPORTED_VERSION,
        api_keys=[ApiVersion(api_key=own.key, min_version=own.announced.first, max_version=own.announced.last)],
    )
