"""The OpenAPI 3.1 document of the HTTP port.

Role: describe the responses of `lag_api` and the port's other paths, for people and for client generators. Tests check
the responses against it.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from odradek.insight.lag import Verdict
from odradek.insight.lag_forecast import GUARD_BYTES, GUARD_MS

_Schema = dict[str, Any]


def _of(kind: str, description: str, **more: Any) -> _Schema:
    return {"type": kind, "description": description, **more}


def _or_null(kind: str, description: str) -> _Schema:
    """The schema of a value that is null if it is unknown or never occurs."""
    return {"type": [kind, "null"], "description": description}


def _object(**properties: _Schema) -> _Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _list(of: _Schema) -> _Schema:
    return {"type": "array", "items": of}


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_GROUP = {
    "group": _of("string", "The group's name."),
    "verdict": _ref("Verdict"),
    "how": _of("string", "How the group stands where it is worst, in a sentence without a full stop."),
    "records_behind": _of("integer", "Records not read, of all partitions with an offset of the group."),
    "bytes_behind": _of("integer", "Bytes not read."),
    "seconds_behind": _of("number", "Age of the oldest record not read."),
    "time_to_loss_s": _or_null("number", "Until retention takes the first unread record, at the present rates."),
    "lost_records": _of("integer", "Records deleted before the group had read them, since the broker's start."),
}
_PLACE = {"topic": _of("string", "The topic's name."), "partition": _of("integer", "The partition's number.")}

SCHEMAS: dict[str, _Schema] = {
    "Verdict": _of("string", "From nothing to say to the worst.", enum=[verdict.value for verdict in Verdict]),
    "Group": _object(**_GROUP),
    "GroupInFull": _object(
        **_GROUP,
        partitions=_list(_ref("PartitionLag")),
        balance={"anyOf": [_ref("Balance"), {"type": "null"}], "description": "Null without members."},
    ),
    "PartitionLag": _object(
        **_PLACE,
        verdict=_ref("Verdict"),
        how=_of("string", "How the group stands here, in a sentence without a full stop."),
        records_behind=_or_null("integer", "Records not read."),
        bytes_behind=_or_null("integer", "Bytes not read."),
        bytes_estimated=_of("boolean", "The bytes are estimated from the mean record."),
        seconds_behind=_or_null("number", "Age of the oldest record not read; 0 where nothing is unread."),
        records_in_per_s=_or_null("number", "Records appended per second, over the last minute."),
        bytes_in_per_s=_or_null("number", "Bytes appended per second, over the last minute."),
        records_out_per_s=_or_null("number", "Records committed per second, over the last minute."),
        time_to_catch_up_s=_or_null("number", "At the present rates."),
        time_to_loss_s=_or_null("number", "Until retention takes the first unread record, at the present rates."),
        loss_by={
            "enum": ["retention.ms", "retention.bytes", GUARD_MS, GUARD_BYTES, None],
            "description": "The setting that takes it.",
        },
        lost_records=_of("integer", "Records deleted unread, since the broker's start."),
        losses=_list(_ref("Loss")),
        looked_ms=_of("integer", "When this was so, in ms since the epoch."),
    ),
    "Loss": _object(
        from_offset=_of("integer", "The first that was deleted unread."),
        to_offset=_of("integer", "The first that was not."),
        seen_ms=_of("integer", "When it was first seen, in ms since the epoch."),
    ),
    "Balance": _object(
        members=_list(_ref("Member")),
        partitions=_of("integer", "Of all topics that the members read."),
        unassigned=_list(_object(**_PLACE)),
        partition_skew=_or_null("number", "The member with the most partitions over the mean: 1 is even."),
        record_skew=_or_null("number", "The same by records per second."),
        byte_skew=_or_null("number", "The same by bytes per second."),
        advice=_list(_of("string", "What would make it more even, in a sentence without a full stop.")),
    ),
    "Member": _object(
        member_id=_of("string", "The member's id."),
        client_id=_of("string", "What the client calls itself."),
        host=_of("string", "Where it comes from."),
        partitions=_of("integer", "How many it was assigned."),
        records_per_s=_of("number", "Appended to them, over the last ten minutes."),
        bytes_per_s=_of("number", "Appended to them, over the last ten minutes."),
    ),
    "Event": _object(
        number=_of("integer", "Counts from 1, since the broker's start."),
        at_ms=_of("integer", "When, in ms since the epoch."),
        group=_of("string", "The group's name."),
        **_PLACE,
        verdict=_ref("Verdict"),
        before=_ref("Verdict"),
        how=_of("string", "How the group stands, in a sentence without a full stop."),
        lost_records=_of("integer", "Records that were deleted unread since the event before; mostly 0."),
    ),
    "TopicKeys": _object(topic=_of("string", "The topic's name."), partitions=_list(_ref("PartitionKeys"))),
    "PartitionKeys": _object(
        partition=_of("integer", "The partition's number."),
        sampled_records=_of("integer", "Of which the shares are; what was long ago counts less."),
        keys=_list(_ref("Key")),
    ),
    "Key": _object(
        key=_or_null("string", "As UTF-8, other bytes with a backslash; null for records without one."),
        share_at_least=_of("number", "Its share of the records is not less."),
        share_at_most=_of("number", "Its share of the records is not more."),
    ),
    "Error": _object(error=_of("string", "What is wrong.")),
}


def _get(summary: str, answers: dict[str, _Schema], parameters: list[_Schema] | None = None) -> _Schema:
    operation: _Schema = {"summary": summary, "responses": answers}
    if parameters:
        operation["parameters"] = parameters
    return {"get": operation}


def _answer(description: str, schema: _Schema, media_type: str = "application/json") -> _Schema:
    return {"description": description, "content": {media_type: {"schema": schema}}}


_TEXT = _of("string", "Text.")


def openapi() -> _Schema:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Odradek",
            "version": version("odradek"),
            "summary": "What the broker knows of the groups that read from it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/api/groups": _get(
                "All groups with committed offsets, a line each",
                {"200": _answer("By name. Empty before the first look.", _list(_ref("Group")))},
            ),
            "/api/groups/{group}": _get(
                "One group: its partitions, and how its work lies on its members",
                {
                    "200": _answer("The group.", _ref("GroupInFull")),
                    "404": _answer("No offset of such a group has been looked at.", _ref("Error")),
                },
                [{"name": "group", "in": "path", "required": True, "schema": {"type": "string"}}],
            ),
            "/api/events": _get(
                "Changes, as server-sent events: those remembered, then each as it comes",
                {
                    "200": _answer("Events named `lag`; each one's data is an Event.", _TEXT, "text/event-stream"),
                    "503": _answer("Nothing has been looked at yet.", _ref("Error")),
                },
                [
                    {
                        "name": "Last-Event-ID",
                        "in": "header",
                        "description": "Only events with a greater number.",
                        "schema": {"type": "integer"},
                    }
                ],
            ),
            "/api/topics/{topic}/keys": _get(
                "The keys that come most often, of a topic with odradek.hot.keys.enable",
                {
                    "200": _answer("The topic's partitions, each with at most ten keys.", _ref("TopicKeys")),
                    "404": _answer("No keys of such a topic are counted.", _ref("Error")),
                },
                [{"name": "topic", "in": "path", "required": True, "schema": {"type": "string"}}],
            ),
            "/api/openapi.json": _get("This document", {"200": _answer("The document.", {"type": "object"})}),
            "/metrics": _get("Metrics for Prometheus", {"200": _answer("The metrics.", _TEXT, "text/plain")}),
            "/live": _get("Whether the process answers", {"200": _answer("It does.", _TEXT, "text/plain")}),
            "/ready": _get(
                "Whether clients are served",
                {
                    "200": _answer("They are.", _TEXT, "text/plain"),
                    "503": _answer("They are not, and why.", _TEXT, "text/plain"),
                },
            ),
        },
        "components": {"schemas": SCHEMAS},
    }
