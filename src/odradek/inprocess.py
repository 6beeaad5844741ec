"""A broker inside a Python process, with its own thread and event loop: `odradek.Broker`.

    with odradek.Broker() as broker:
        Producer({"bootstrap.servers": broker.bootstrap_servers})

Role: run the same server as `odradek serve` for tests and small programs, in memory unless a data directory is given.
Settings are keywords with Kafka's names, dots as underscores (`num_partitions=3`).

Invariants: inside the `with` block clients can connect; after it no thread, socket or file descriptor is left. Methods
may be called from any thread; each blocks only while its work runs on the broker's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from odradek.clock import Clock
from odradek.config.broker import BROKER_SETTINGS
from odradek.config.layers import BrokerConfig
from odradek.config.setting import InvalidSetting, format_value
from odradek.errors import KafkaError
from odradek.faults import Faults
from odradek.internal_topics import INTERNAL_TOPICS
from odradek.metadata.changes import Change, TopicOutcome, create_topics
from odradek.metadata.image import MetadataImage
from odradek.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig
from odradek.server import Server, compose

R = TypeVar("R")
LISTENER = "PLAINTEXT"


class BrokerFailed(RuntimeError):
    """The broker could not carry out a call; the message says why."""


def settings_of(keywords: dict[str, Any]) -> dict[str, str]:
    """The settings by Kafka's names, from keywords. Raises `InvalidSetting` for an unknown name."""
    settings = {}
    for keyword, value in keywords.items():
        name = keyword if "." in keyword else keyword.replace("_", ".")
        if name not in BROKER_SETTINGS:
            raise InvalidSetting(name, value, f"there is no such setting (from the keyword {keyword})")
        settings[name] = format_value(value)
    return settings


class Broker:
    """A broker in this process.

    With `data_dir` the broker keeps its data in that directory; otherwise the data is in memory and is lost when it
    stops. It listens on `host` and `port`; port 0 takes a free port, which stays the same if the same object is started
    again. `clock` is the broker's clock, such as an `odradek.clock.FastClock`. Other keywords are settings, such as
    `num_partitions=3` or `auto_create_topics_enable=False`; pass settings whose names cannot be keywords as
    `**{"name": value}`. Raises `InvalidSetting` for an unknown setting or an invalid value.
    """

    def __init__(
        self,
        *,
        data_dir: str | Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self._settings = settings_of(settings)
        if data_dir is not None:
            self._settings["log.dirs"] = str(data_dir)
        self._memory = data_dir is None
        self._host = host
        self._port = port
        self._clock = clock
        # Raises `InvalidSetting` here rather than in `start`.
        BrokerConfig(self._all_settings())
        self.faults = Faults()
        """Rules for faults that the broker injects; see `Faults`."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: Server | None = None
        self._stopping: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._async_end = asyncio.Event()

    def _all_settings(self) -> dict[str, str]:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return {**self._settings, "listeners": f"{LISTENER}://{host}:{self._port}"}

    # --- start and stop ------------------------------------------------------------------------------------------

    def start(self) -> Broker:
        """Starts the broker; returns when clients can connect. Raises the exception that the start failed with."""
        ready = threading.Event()
        self._begin(ready.set, ready.set)
        ready.wait()
        if self._failure is not None:
            self._end()
        return self

    def stop(self) -> None:
        """Stops the broker; returns when all its resources are freed. Idempotent."""
        if self._thread is not None:
            self._ask_to_stop()
            self._end()

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Broker:
        loop = asyncio.get_running_loop()
        ready, ended = asyncio.Event(), asyncio.Event()
        self._async_end = ended

        def tell_ready() -> None:
            loop.call_soon_threadsafe(ready.set)

        def tell_ended() -> None:
            loop.call_soon_threadsafe(ready.set)
            loop.call_soon_threadsafe(ended.set)

        self._begin(tell_ready, tell_ended)
        await ready.wait()
        if self._failure is not None:
            self._end()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._ask_to_stop()
            await self._async_end.wait()
            self._end()

    def _begin(self, tell_ready: Callable[[], None], tell_ended: Callable[[], None]) -> None:
        if self._thread is not None:
            raise RuntimeError("the broker is running already")
        self._failure = None
        self._thread = threading.Thread(
            target=self._run, args=(tell_ready, tell_ended), name="odradek-broker", daemon=True
        )
        self._thread.start()

    def _run(self, tell_ready: Callable[[], None], tell_ended: Callable[[], None]) -> None:
        """Runs the broker; the target of its thread."""
        try:
            with asyncio.Runner(loop_factory=_new_event_loop) as runner:
                runner.run(self._serve(tell_ready))
        except BaseException as failure:  # noqa: BLE001 - it is raised where the broker is started, or stopped
            self._failure = failure
        finally:
            tell_ended()

    async def _serve(self, tell_ready: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        config = BrokerConfig(self._all_settings())
        server = compose(config, memory=self._memory, faults=self.faults, clock=self._clock)
        await server.start()
        self._server = server
        self._port = server.bound[LISTENER][1]
        try:
            tell_ready()
            await self._stopping.wait()
        finally:
            await server.stop()

    def _ask_to_stop(self) -> None:
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None:
            # The loop is closed already if the broker has failed.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stopping.set)

    def _end(self) -> None:
        """Joins the thread, which is ending, and raises the exception that it failed with, if any."""
        assert self._thread is not None
        self._thread.join()
        self._thread = self._loop = self._server = self._stopping = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    # --- addresses -----------------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        return self._server is not None

    @property
    def port(self) -> int:
        """The port that the broker listens on; with `port=0`, 0 until the first start."""
        return self._port

    @property
    def bootstrap_servers(self) -> str:
        """The address that clients connect to: `host:port`."""
        if not self.is_running:
            raise RuntimeError("the broker is not running: use `with odradek.Broker() as broker:`")
        return f"{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    @property
    def http_url(self) -> str | None:
        """The URL of the HTTP port with `/metrics`, `/live` and `/ready`; None unless the broker runs with a setting
        such as `odradek_http_listen="127.0.0.1:0"`."""
        if self._server is None or self._server.http_bound is None:
            return None
        host, port = self._server.http_bound
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    # --- from another thread -------------------------------------------------------------------------------------

    def _run_on_loop(self, work: Coroutine[Any, Any, R]) -> R:
        loop = self._loop
        if loop is None or self._server is None:
            work.close()
            raise RuntimeError("the broker is not running: use `with odradek.Broker() as broker:`")
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    # --- conveniences for tests ----------------------------------------------------------------------------------

    def create_topic(self, name: str, partitions: int | None = None, **configs: Any) -> str:
        """Creates a topic without a client; returns its name. `configs` are topic settings, dots as underscores
        (`retention_ms=1000`). Raises `BrokerFailed`."""
        entries = [
            CreatableTopicConfig(name=key if "." in key else key.replace("_", "."), value=format_value(value))
            for key, value in configs.items()
        ]
        count = -1 if partitions is None else partitions
        topic = CreatableTopic(name=name, num_partitions=count, replication_factor=-1, configs=entries)

        async def create() -> TopicOutcome:
            server = self._server
            assert server is not None
            policy = server.metadata.policy

            def change(image: MetadataImage) -> Change:
                return create_topics(image, [topic], policy)

            (outcome,) = await server.metadata.change(change)
            return outcome

        try:
            outcome = self._run_on_loop(create())
        except KafkaError as error:
            raise BrokerFailed(f"topic {name!r} could not be made: {error}") from None
        if outcome.error:
            raise BrokerFailed(f"topic {name!r} could not be made: {outcome.message or outcome.error.name}")
        return name

    def topics(self) -> list[str]:
        """The names of all topics but the internal ones, sorted."""

        async def find() -> list[str]:
            assert self._server is not None
            return sorted(name for name in self._server.partitions.topics if name not in INTERNAL_TOPICS)

        return self._run_on_loop(find())

    def rebalance(self, group_id: str) -> None:
        """Makes the members of a consumer group join again, now. Raises `BrokerFailed` if the group has none."""

        async def rebalance() -> bool:
            assert self._server is not None
            return await self._server.groups.rebalance(group_id)

        try:
            done = self._run_on_loop(rebalance())
        except KafkaError as error:
            raise BrokerFailed(f"group {group_id!r} cannot rebalance: {error}") from None
        if not done:
            raise BrokerFailed(f"group {group_id!r} has no members")


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # uvloop does not support every platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
