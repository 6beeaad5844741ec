"""Lag, forecast loss and balance of groups, from a broker's HTTP port.

Role: find the port, ask it, and turn its responses into columns and sentences. If a broker has no such port (Apache
Kafka, or Odradek without `odradek.http.listen`), these columns are not shown.

Invariants: responses are bounded by `ANSWER_MAX_BYTES`; at most `EVENTS_WAITING` events are queued, then the oldest is
dropped. Values that the broker does not know are empty.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import threading
import urllib.parse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from odradek.cli.failures import CommandFailed
from odradek.client.address import split_address

if TYPE_CHECKING:
    from odradek.client.cluster import Client

ANSWER_MAX_BYTES = 64 << 20
EVENTS_WAITING = 1000
EVENT_MAX_BYTES = 1 << 20
FOLLOW_TIMEOUT_S = 60.0
_SETTING = "odradek.http.listen"
_BROKER = 4
_ANYWHERE = ("", "0.0.0.0", "::")

GROUP_COLUMNS = ("records_behind", "behind_for", "time_to_loss", "verdict")
PARTITION_COLUMNS = ("bytes_behind", "behind_for", "time_to_loss", "verdict")
MEMBER_COLUMNS = ("client_id", "partitions", "records_per_s", "bytes_per_s")


class LagClient:
    """A client of the HTTP port. Its methods raise `CommandFailed`."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._address = host, port
        self._timeout_s = timeout_s
        self._events: queue.Queue[dict[str, Any]] = queue.Queue(EVENTS_WAITING)

    def groups(self) -> dict[str, dict[str, Any]]:
        """The summary of each group with committed offsets, by name."""
        _, found = self._get("/api/groups")
        return {group["group"]: group for group in found}

    def group(self, name: str) -> dict[str, Any] | None:
        """One group with its partitions; None if it has no committed offsets, or the broker has not looked at them."""
        status, found = self._get(f"/api/groups/{urllib.parse.quote(name, safe='')}")
        return found if status == http.HTTPStatus.OK else None

    def _get(self, path: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(*self._address, timeout=self._timeout_s)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read(ANSWER_MAX_BYTES + 1)
            if len(body) > ANSWER_MAX_BYTES:
                raise self._failed(f"its answer has more than {ANSWER_MAX_BYTES:,} bytes")
            if response.status not in (http.HTTPStatus.OK, http.HTTPStatus.NOT_FOUND):
                raise self._failed(f"it answers {response.status} {response.reason}")
            return response.status, json.loads(body)
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(str(error) or type(error).__name__) from None
        except ValueError:
            raise self._failed("its answer is no JSON") from None
        finally:
            connection.close()

    def _failed(self, why: str) -> CommandFailed:
        host, port = self._address
        return CommandFailed(f"cannot ask the HTTP port {host}:{port} about groups: {why}.")

    def follow(self) -> None:
        """Starts a thread that receives events until the process ends or the connection breaks."""
        threading.Thread(target=self._follow, name="odradek-events", daemon=True).start()

    def news(self) -> list[dict[str, Any]]:
        """The events since the last call; at first also those that the broker remembers."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._events.get_nowait())
        return found

    def _follow(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=FOLLOW_TIMEOUT_S)
        try:
            connection.request("GET", "/api/events")
            response = connection.getresponse()
            while line := response.readline(EVENT_MAX_BYTES):
                if line.startswith(b"data: "):
                    if self._events.full():
                        self._events.get_nowait()
                    self._events.put_nowait(json.loads(line.removeprefix(b"data: ")))
        except (OSError, http.client.HTTPException, ValueError):
            return  # the next table's request fails too, and its error is shown
        finally:
            connection.close()


def find(client: Client, address: str | None, timeout_s: float) -> LagClient | None:
    """A client of the HTTP port at `address`, or of the one in the broker's settings; None if they have none, or port
    0, for which the system chose a port. Raises `CommandFailed`."""
    if address is not None:
        return LagClient(*split_address(address, 0), timeout_s)
    from odradek.protocol.messages.describe_configs import (
        DescribeConfigsRequest,
        DescribeConfigsResource,
        DescribeConfigsResponse,
    )

    node_id, (broker_host, _) = min(client.brokers.items())
    wanted = DescribeConfigsResource(resource_type=_BROKER, resource_name=str(node_id), configuration_keys=[_SETTING])
    response: DescribeConfigsResponse = client.ask(
        node_id, DescribeConfigsRequest(resources=[wanted]), DescribeConfigsResponse
    )
    for config in response.results[0].configs:
        if config.name == _SETTING and config.value:
            host, port = split_address(config.value, 0)
            if port:
                return LagClient(broker_host if host in _ANYWHERE else host, port, timeout_s)
    return None


def columns(found: dict[str, Any] | None) -> dict[str, Any]:
    """The columns of a group, or of one of its partitions; None values if `found` is None."""
    from odradek.insight.wording import bytes_text, time_text

    if found is None:
        return dict.fromkeys(("records_behind", *PARTITION_COLUMNS))
    behind_s, loss_s, size = found["seconds_behind"], found["time_to_loss_s"], found["bytes_behind"]
    return {
        "records_behind": found["records_behind"],
        "bytes_behind": None if size is None else bytes_text(size),
        "behind_for": None if behind_s is None else time_text(behind_s),
        "time_to_loss": None if loss_s is None else time_text(loss_s),
        "verdict": found["verdict"],
    }


def sentences(found: dict[str, Any]) -> Iterable[str]:
    """A sentence for each partition whose verdict is not ok, then the advice on balance."""
    for partition in found["partitions"]:
        if partition["verdict"] != "ok":
            yield f"{partition['topic']}, partition {partition['partition']}: {partition['how']}."
    for advice in (found["balance"] or {}).get("advice", ()):
        yield f"Advice: {advice}."


def member_rows(balance: dict[str, Any]) -> list[dict[str, Any]]:
    """The members with the append rates of their partitions, as text."""
    from odradek.insight.wording import bytes_text, rate_text

    return [
        member | {"records_per_s": rate_text(member["records_per_s"]), "bytes_per_s": bytes_text(member["bytes_per_s"])}
        for member in balance["members"]
    ]


def event_line(event: dict[str, Any]) -> str:
    """An event as a line of text."""
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(event["at_ms"] / 1000, UTC).astimezone().strftime("%H:%M:%S")
    return f"{at} {event['group']} on {event['topic']}, partition {event['partition']}: {event['how']}."
