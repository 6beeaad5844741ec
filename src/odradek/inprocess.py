"""A broker inside a Python process, on an event loop and a thread of its own: `odradek.Broker`.

    with odradek.Broker() as broker:
        Producer({"bootstrap.servers": broker.bootstrap_servers})

Role: what tests and small programs use; the same server as `odradek serve`, in memory unless a data directory is given.
Settings are keywords with Kafka's names, dots as underscores (`num_partitions=3`).

Invariants: after `with` clients can connect; after the end of `with` nothing is left: no thread, no socket, no file
descriptor. Methods may be called from any thread; none blocks for longer than what it does on the broker's loop.
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
    """The broker could not do what was asked, in a sentence."""


def settings_of(keywords: dict[str, Any]) -> dict[str, str]:
    """Settings by Kafka's names, from keywords. Raises `InvalidSetting` for a name that there is not."""
    settings = {}
    for keyword, value in keywords.items():
        name = keyword if "." in keyword else keyword.replace("_", ".")
        if name not in BROKER_SETTINGS:
            raise InvalidSetting(name, value, f"there is no such setting (from the keyword {keyword})")
        settings[name] = format_value(value)
    return settings


class Broker:
    """A broker in this process.

    `data_dir` keeps its data there, else they are in memory and go with it. `host` and `port` are where it listens;
    port 0 takes a free one, which stays the same if the same object is started again. `clock` is what time it is for
    the broker, such as an `odradek.clock.FastClock`. Keywords are settings, such as
    `num_partitions=3` or `auto_create_topics_enable=False`; settings whose names do not go as keywords come as
    `**{"name": value}`. Raises `InvalidSetting` for one that cannot be.
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
        # Mistakes are told where they were made.
        BrokerConfig(self._all_settings())
        self.faults = Faults()
        """What the broker does wrong on request; see `Faults`."""
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
        """Returns when clients can connect. Raises what kept it from starting."""
        ready = threading.Event()
        self._begin(ready.set, ready.set)
        ready.wait()
        if self._failure is not None:
            self._end()
        return self

    def stop(self) -> None:
        """Returns when everything is given back. Idempotent."""
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
        """The broker's thread."""
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
            # A broker that has ended by a failure has closed its loop.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stopping.set)

    def _end(self) -> None:
        """The thread has nothing more to do: forgets it, and raises what it failed by."""
        assert self._thread is not None
        self._thread.join()
        self._thread = self._loop = self._server = self._stopping = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    # --- what others need to know --------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        return self._server is not None

    @property
    def port(self) -> int:
        """Where it listens; 0 until it was started first."""
        return self._port

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to: `host:port`."""
        if not self.is_running:
            raise RuntimeError("the broker is not running: use `with odradek.Broker() as broker:`")
        return f"{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    @property
    def http_url(self) -> str | None:
        """Where `/metrics`, `/live` and `/ready` are, if it runs with `odradek_http_listen="127.0.0.1:0"`."""
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
        """Makes a topic, without a client; returns its name. `configs` are topic settings, dots as underscores
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
        """The topics there are, but for the broker's own, sorted."""

        async def find() -> list[str]:
            assert self._server is not None
            return sorted(name for name in self._server.partitions.topics if name not in INTERNAL_TOPICS)

        return self._run_on_loop(find())

    def rebalance(self, group_id: str) -> None:
        """Makes the members of a consumer group join again, now. Raises `BrokerFailed` where there are none."""

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
    except ImportError:  # it is not made for every platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
