"""Parses the address of a broker as a user writes it."""

from __future__ import annotations

from odradek.client.failures import InvalidArgument


def split_address(text: str, default_port: int = 9092) -> tuple[str, int]:
    """(host, port) of HOST, HOST:PORT or [IPV6]:PORT. Raises `InvalidArgument`."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text.strip(), str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidArgument(f"{text!r} is not an address such as localhost:9092.")
    return host, int(port)
