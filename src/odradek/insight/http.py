"""The optional HTTP port (`odradek.http.listen`): `/metrics`, `/live`, `/ready`, and the JSON of `lag_api`.

Role: serve these with starlette and uvicorn on the broker's own event loop. A scrape is gathered on the loop
(`gathering`) and written in a thread. The port is open from before the storage is opened until after it is closed, so
that a slow start or stop can be observed.

Invariants: HTTP requests do not disturb the broker's clients. Connections are bounded (`odradek.http.max.connections`;
`TOLD_MAX` more are answered with 503, others are closed at once), a slow reader does not occupy a thread, and one
scrape is written at a time. The server handles no signals, and logs only errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from odradek.clock import Scheduler
from odradek.insight.gathering import Gathering
from odradek.insight.lag_api import LagApi
from odradek.insight.metrics import exposition
from odradek.insight.watching import Watching

BACKLOG = 64
KEEP_ALIVE_S = 30
# This many connections above the bound have their requests answered with 503.
TOLD_MAX = 8
# How long started responses may take when the broker stops.
STOP_GRACE_S = 1


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the broker."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Connection(HttpToolsProtocol):
    """Applies the bound when a connection is made. uvicorn applies its own only at a request, so that connections
    without one would not be bounded."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency + TOLD_MAX:
            transport.close()


class HttpPort:
    """The HTTP port of one broker. Call `start` once and `stop` once."""

    def __init__(
        self,
        scheduler: Scheduler,
        gathering: Gathering,
        watching: Callable[[], Watching | None],
        not_ready: Callable[[], str | None],
        max_connections: int,
    ) -> None:
        """`watching` returns the lags of groups, or None before the first look. `not_ready` returns a sentence that
        says what the broker waits for, or None when it serves."""
        self._gathering = gathering
        self._not_ready = not_ready
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="odradek-metrics")
        self._serving: asyncio.Task[None] | None = None
        self._lag_api = LagApi(scheduler, watching)
        app = Starlette(
            routes=[
                Route("/metrics", self._metrics),
                Route("/live", self._live),
                Route("/ready", self._ready),
                *self._lag_api.routes,
            ]
        )
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=max_connections,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=STOP_GRACE_S,
            )
        )

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listens on an address; returns the bound host and port (port 0 chooses a free one). Raises `OSError`."""
        listening = socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=BACKLOG,
            dualstack_ipv6=host == "::",
        )
        bound = listening.getsockname()
        self._serving = asyncio.ensure_future(self._server.serve([listening]))
        return bound[0], bound[1]

    async def stop(self) -> None:
        """Closes the port; returns when its socket and thread are released."""
        self._lag_api.end()
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        self._writer.shutdown()

    # --- routes --------------------------------------------------------------------------------------------------

    async def _metrics(self, request: Request) -> Response:
        series = await self._gathering.gather()
        accept = request.headers.get("accept", "")

        def write() -> tuple[bytes, str]:
            return exposition([*series, *self._gathering.disk()], accept)

        body, content_type = await asyncio.get_running_loop().run_in_executor(self._writer, write)
        return Response(body, headers={"Content-Type": content_type})

    async def _live(self, request: Request) -> Response:
        return PlainTextResponse("The event loop turns.\n")

    async def _ready(self, request: Request) -> Response:
        why = self._not_ready()
        if why is not None:
            return PlainTextResponse(f"{why}\n", 503)
        return PlainTextResponse("Clients are served.\n")
