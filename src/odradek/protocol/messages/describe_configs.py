"""DescribeConfigs (API key 32)."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, boolean, field, int8, int16, int32, string


class DescribeConfigsResource(Struct):
    resource_type: int8 = field("0+")
    resource_name: string = field("0+")
    configuration_keys: list[string] | None = field("0+", nullable="0+")


class DescribeConfigsRequest(Message, api_key=32, versions="1-4", flexible="4+"):
    resources: list[DescribeConfigsResource] = field("0+")
    include_synonyms: boolean = field("1+", default=False)
    include_documentation: boolean = field("3+", default=False)


class DescribeConfigsSynonym(Struct):
    name: string = field("1+")
    value: string | None = field("1+", nullable="0+")
    source: int8 = field("1+")


class DescribeConfigsResourceResult(Struct):
    name: string = field("0+")
    value: string | None = field("0+", nullable="0+")
    read_only: boolean = field("0+")
    config_source: int8 = field("1+", default=-1)
    is_sensitive: boolean = field("0+")
    synonyms: list[DescribeConfigsSynonym] = field("1+")
    config_type: int8 = field("3+", default=0)
    documentation: string | None = field("3+", nullable="0+")


class DescribeConfigsResult(Struct):
    error_code: int16 = field("0+")
    error_message: string | None = field("0+", nullable="0+")
    resource_type: int8 = field("0+")
    resource_name: string = field("0+")
    configs: list[DescribeConfigsResourceResult] = field("0+", shared=True)


class DescribeConfigsResponse(Message, api_key=32, versions="1-4", flexible="4+"):
    throttle_time_ms: int32 = field("0+")
    results: list[DescribeConfigsResult] = field("0+")
