"""The cluster that a command talks to: what --bootstrap-server means, and a client of it.

Role: read the file of named clusters, and resolve the option: an address, or a profile's name; without it
ODRADEK_BOOTSTRAP_SERVER of the environment, else the profile in use, else the local broker. The file is changed by
`odradek profile` only (`profiles`).

The file is `odradek/profiles.json` in XDG_CONFIG_HOME (or ~/.config).
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odradek.cli.failures import FAILED, CommandFailed

if TYPE_CHECKING:
    from odradek.client.cluster import Client

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"
# No name is an address: those have a dot, a colon or a bracket, or are localhost.
PROFILE_NAME = re.compile(r"(?!localhost$)[A-Za-z0-9_-]{1,64}")


def profiles_file() -> Path:
    """Where the file of profiles is, or would be."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "odradek" / "profiles.json"


def read_profiles() -> dict[str, Any]:
    """What the file says: `profiles` (name to address) and `current`. Raises `CommandFailed` for one that is broken."""
    path = profiles_file()
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {"profiles": {}, "current": None}
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {(error.strerror or str(error)).lower()}.") from None
    import json  # 1 ms of the start of those who have a file

    with contextlib.suppress(ValueError):
        kept = json.loads(text)
        if (
            isinstance(kept, dict)
            and isinstance(profiles := kept.get("profiles"), dict)
            and all(isinstance(address, str) for address in profiles.values())
        ):
            return {"profiles": profiles, "current": kept.get("current")}
    raise CommandFailed(f"{path} is not a file of profiles; remove it, or bring it back.")


def bootstrap_address(option: str | None) -> str:
    """The address a command connects to. Raises `CommandFailed`."""
    if option is not None and PROFILE_NAME.fullmatch(option):
        address = read_profiles()["profiles"].get(option)
        if address is not None:
            return str(address)
        # A host of this name, perhaps.
        return option
    chosen = option or os.environ.get("ODRADEK_BOOTSTRAP_SERVER")
    if chosen:
        return chosen
    kept = read_profiles()
    return str(kept["profiles"].get(kept["current"], DEFAULT_BOOTSTRAP))


def open_client(bootstrap_server: str | None, timeout: float) -> Client:
    """A client of the cluster that is meant."""
    from odradek.client.cluster import Client

    return Client(bootstrap_address(bootstrap_server), timeout)


def connect(bootstrap_server: str | None, timeout: float) -> Client:
    """A client of a cluster that answers. Raises `CommandFailed` at once where none does."""
    client = open_client(bootstrap_server, timeout)
    try:
        client.metadata([])
    except FAILED:
        client.close()
        raise
    return client
