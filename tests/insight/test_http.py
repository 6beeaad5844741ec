"""The HTTP port: what it answers, when it says no, and that it disturbs nobody."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

import odradek
from odradek.config import BrokerConfig, InvalidSetting
from odradek.server import CannotListen, Server, compose
from tests.raw_client import RawClient, batch

HTTP = {"odradek.http.listen": "127.0.0.1:0"}


@pytest.fixture(scope="module")
def broker() -> Iterator[odradek.Broker]:
    with odradek.Broker(**HTTP, **{"odradek.http.max.connections": 4}) as broker:
        yield broker


def address(broker: odradek.Broker) -> tuple[str, int]:
    assert broker.http_url is not None
    host, _, port = broker.http_url.removeprefix("http://").rpartition(":")
    return host, int(port)


def ask(broker: odradek.Broker, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address(broker), timeout=30)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_it_lives_and_is_ready(broker: odradek.Broker) -> None:
    assert ask(broker, "/live") == (200, "The event loop turns.\n")
    assert ask(broker, "/ready") == (200, "Clients are served.\n")
    assert ask(broker, "/live", "HEAD") == (200, "")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 404),
        ("/nothing", "GET", 404),
        ("/metrics/../metrics", "GET", 404),
        ("/metrics", "POST", 405),
        ("/ready", "DELETE", 405),
        ("/" + "x" * 10_000, "GET", 404),
    ],
)
def test_what_there_is_not(broker: odradek.Broker, path: str, method: str, status: int) -> None:
    assert ask(broker, path, method)[0] == status


@pytest.mark.parametrize(
    "data", [b"garbage\r\n\r\n", bytes(range(256)), b"GET /live HTTP/9.9\r\n\r\n", b"\x16\x03\x01\0"]
)
def test_what_is_not_http_gets_400_or_nothing(broker: odradek.Broker, data: bytes) -> None:
    with socket.create_connection(address(broker), timeout=30) as peer:
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: peer.recv(4096), b""))
    assert answer == b"" or b" 400 " in answer.splitlines()[0]
    assert ask(broker, "/live")[0] == 200


def test_connections_are_bounded(broker: odradek.Broker) -> None:
    """Those that only hold a connection keep others from asking here, and nobody from the broker."""
    peers = []
    try:
        for _ in range(4):
            peer = http.client.HTTPConnection(*address(broker), timeout=30)
            peers.append(peer)
            peer.request("GET", "/live")
            peer.getresponse().read()
        assert ask(broker, "/live")[0] == 503
        with RawClient(broker.port) as client:
            broker.create_topic("while-full")
            assert client.produce("while-full", batch(b"x")).error_code == 0
    finally:
        for peer in peers:
            peer.close()


def test_scrapes_side_by_side_and_one_that_is_never_read(broker: odradek.Broker) -> None:
    with socket.create_connection(address(broker), timeout=30) as never:
        never.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(ask(broker, "/metrics")[0]), daemon=True) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert answers == [200, 200]


def used() -> tuple[int, int]:
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


def test_nothing_is_left_of_it() -> None:
    with odradek.Broker(**HTTP) as broker:
        ask(broker, "/metrics")
    before = used()
    with odradek.Broker(**HTTP) as broker:
        where = address(broker)
        open_still = socket.create_connection(where, timeout=30)
        ask(broker, "/metrics")
    open_still.close()
    assert broker.http_url is None
    assert used() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where, timeout=30)


# --- while it starts and stops ---------------------------------------------------------------------------------------


def test_ready_only_between_start_and_stop() -> None:
    """Answered while the storage is being opened, and while it is being closed."""
    said: dict[str, tuple[int, str]] = {}

    async def get(server: Server, path: str) -> tuple[int, str]:
        assert server.http_bound is not None
        reader, writer = await asyncio.open_connection(*server.http_bound)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        return int(head.split()[1]), body.strip()

    async def scenario() -> None:
        server = compose(BrokerConfig({"listeners": "PLAINTEXT://127.0.0.1:0", **HTTP}), memory=True)
        engine_start, engine_stop = server.engine.start, server.engine.stop

        async def slow_start() -> None:
            said["live before"] = await get(server, "/live")
            said["before"] = await get(server, "/ready")
            said["metrics before"] = await get(server, "/metrics")
            await engine_start()

        async def slow_stop() -> None:
            said["after"] = await get(server, "/ready")
            await engine_stop()

        server.engine.start = slow_start  # type: ignore[method-assign]
        server.engine.stop = slow_stop  # type: ignore[method-assign]
        await server.start()
        said["meanwhile"] = await get(server, "/ready")
        said["metrics meanwhile"] = await get(server, "/metrics")
        await server.stop()

    asyncio.run(scenario())
    assert said["live before"][0] == 200
    assert said["before"] == (503, "The storage is being opened.")
    assert said["metrics before"][0] == 200
    assert "odradek_groups{" not in said["metrics before"][1], "nobody knows yet which groups there are"
    assert "odradek_groups{" in said["metrics meanwhile"][1]
    assert said["meanwhile"] == (200, "Clients are served.")
    assert said["after"] == (503, "The broker stops.")


def test_an_address_that_cannot_be_is_told_in_a_sentence(broker: odradek.Broker) -> None:
    taken = "{}:{}".format(*address(broker))
    with pytest.raises(CannotListen, match=rf"{taken} \(odradek\.http\.listen\): another program listens there"):
        odradek.Broker(**{"odradek.http.listen": taken}).start()
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1:1.*does not have that address"):
        odradek.Broker(**{"odradek.http.listen": "192.0.2.1:1"}).start()
    with pytest.raises(InvalidSetting, match=r"nowhere for configuration odradek\.http\.listen: expected HOST:PORT"):
        odradek.Broker(**{"odradek.http.listen": "nowhere"}).start()


def test_a_broker_without_it_does_not_import_it() -> None:
    program = (
        "import sys, odradek\n"
        "with odradek.Broker() as broker:\n"
        "    assert broker.http_url is None\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'starlette', 'uvicorn', 'prometheus_client', 'anyio'}))\n"
        "print(*sorted(name for name in sys.modules if name.startswith('odradek.insight')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
