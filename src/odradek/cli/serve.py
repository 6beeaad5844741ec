"""`odradek serve`: runs a broker in this process, from its settings to a graceful stop.

Role: read the settings (`settings`), log to stderr, print one line to stdout when clients can connect, and handle
signals: the first SIGTERM or SIGINT stops the broker gracefully, with exit code 0, a second one at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from odradek.cli.failures import CommandFailed, WrongUse

if TYPE_CHECKING:
    from odradek.cli.settings import ServeSettings


def serve(
    *,
    listen: str | None = None,
    advertise: str | None = None,
    data_dir: str | None = None,
    config: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    memory: Annotated[bool, Parameter(negative="")] = False,
    http: str | None = None,
    allow_unauthenticated: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Runs a broker.

    Parameters
    ----------
    listen
        HOST:PORT to listen on, instead of listeners; port 0 takes a free one.
    advertise
        HOST:PORT where clients are told to connect, if they reach this broker under another address.
    data_dir
        The data directory, instead of log.dirs.
    config
        A Kafka server.properties.
    set_
        NAME=VALUE of a setting, with Kafka's names, over the file's; may be repeated.
    memory
        Keep everything in memory, nothing on disk.
    http
        HOST:PORT for /metrics, /live and /ready, instead of odradek.http.listen; port 0 takes a free one.
    allow_unauthenticated
        Listen beyond this machine without authentication.
    """
    from odradek.cli.settings import serve_settings

    settings = serve_settings(
        file=config,
        assignments=set_ or (),
        listen=listen,
        advertise=advertise,
        data_dir=data_dir,
        memory=memory,
        http=http,
        allow_unauthenticated=allow_unauthenticated,
    )
    _set_up_logs()
    _run(settings, memory)


def _set_up_logs() -> None:
    """Logs to stderr: as text on a terminal, else as JSON."""
    import logging

    from odradek.logs import ROOT, JsonFormatter, TextFormatter

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if sys.stderr.isatty() else JsonFormatter())
    root = logging.getLogger(ROOT)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False


def _run(settings: ServeSettings, memory: bool) -> None:
    import asyncio

    from odradek.logs import get_logger
    from odradek.patterns import has_re2

    log = get_logger("odradek.serve")
    for note in settings.notes:
        log.info(note)
    if not has_re2():
        log.info("google-re2 is not installed: of clients' regular expressions only simple ones are served")
    for warning in settings.warnings:
        log.warning(warning)
    directory = os.path.abspath(settings.config.names("log.dirs")[0])
    place = "data in memory only" if memory else f"data in {directory}"
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):  # uvloop is not available on every platform
        import uvloop

        new_event_loop = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(settings, memory, place))


def _calm_collector() -> None:
    """Makes cyclic garbage collections rare, and excludes the objects that live as long as the process.

    Requests create no reference cycles; a connection or a group may when it ends. With Python's defaults, collections
    ran several times a second and stopped the loop for 5 to 15 ms each: the p99 of a Produce among 2,000 busy clients
    was 10 to 25 ms, with this it is 2 to 5 (shape 10 of the benchmarks). Only the command does this; a program that
    embeds a broker decides for itself.
    """
    import gc

    from odradek.config.bounds import COLLECTOR_THRESHOLDS

    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"{f'[{host}]' if ':' in host else host}:{port}"


async def _serve(settings: ServeSettings, memory: bool, place: str) -> None:
    import asyncio
    import signal

    from odradek import __version__
    from odradek.config.setting import InvalidSetting
    from odradek.descriptors import raise_limit
    from odradek.engines.interface import StorageError
    from odradek.server import CannotListen, compose

    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        stopping.set()
        # A second signal ends the process at once.
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    raise_limit()
    try:
        server = compose(settings.config, memory=memory, alone=True)
        await server.start()
    except InvalidSetting as error:
        raise WrongUse(f"{error}.") from None
    except (StorageError, CannotListen) as error:
        raise CommandFailed(f"{str(error).rstrip('.')}.") from None
    try:
        addresses = ", ".join(_shown(address) for address in server.bound.values())
        http = f", http on {_shown(server.http_bound)}" if server.http_bound is not None else ""
        _calm_collector()
        print(f"Odradek {__version__} is ready on {addresses} ({place}){http}", flush=True)
        await stopping.wait()
    finally:
        await server.stop()
