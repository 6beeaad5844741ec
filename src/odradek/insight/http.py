"""The HTTP port, on request (`odradek.http.listen`): `/metrics`, `/live`, `/ready`, and the JSON of `lag_api`.

Role: serve them with starlette and uvicorn on the broker's own event loop; a scrape is read on the loop
(`gathering`) and written in a thread. It listens before the storage is opened and until it is closed, so that whoever
watches sees a start that takes long, and the end.

Invariants: whoever asks here disturbs no client of the broker: connections are bounded
(`odradek.http.max.connections`; a few more are told so, and others closed at once), a slow reader is waited for
without a thread, one scrape is written at a time. The server takes no signals and writes no log of its own but what
goes wrong.
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
# Connections beyond the bound whose requests are answered: with 503.
TOLD_MAX = 8
# How long answers under way may take when the broker stops.
STOP_GRACE_S = 1


class _Server(uvicorn.Server):
    """Leaves signals to the broker."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Connection(HttpToolsProtocol):
    """Counts from the beginning; uvicorn's bound looks at requests, and leaves those open that send none."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency + TOLD_MAX:
            transport.close()


class HttpPort:
    """The port of one broker. `start` once, `stop` once."""

    def __init__(
        self,
        scheduler: Scheduler,
        gathering: Gathering,
        watching: Callable[[], Watching | None],
        not_ready: Callable[[], str | None],
        max_connections: int,
    ) -> None:
        """`watching` gives the lags of groups, once they are looked at. `not_ready` says in a sentence what the broker
        waits for, None when it serves."""
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
        """Begins to listen; returns the address bound (a port of 0 chooses a free one). Raises `OSError`."""
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
        """Returns when everything is given back."""
        self._lag_api.end()
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        self._writer.shutdown()

    # --- what is asked -------------------------------------------------------------------------------------------

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
