"""The cluster that a command talks to: resolves --bootstrap-server, and opens a client.

Role: the option is an address or the name of a profile. Without it the environment variable ODRADEK_BOOTSTRAP_SERVER is
used, else the current profile, else the local broker.

Profiles are in the file `odradek/profiles.json` in XDG_CONFIG_HOME (or ~/.config), which only `odradek profile`
(`profiles`) changes.
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
# A profile's name never looks like an address, which contains a dot, a colon or a bracket, or is localhost.
PROFILE_NAME = re.compile(r"(?!localhost$)[A-Za-z0-9_-]{1,64}")


def profiles_file() -> Path:
    """The path of the profiles' file, which need not exist."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "odradek" / "profiles.json"


def read_profiles() -> dict[str, Any]:
    """The file's content: `profiles` (name to address) and `current`. Raises `CommandFailed` if it is not valid."""
    path = profiles_file()
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {"profiles": {}, "current": None}
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {(error.strerror or str(error)).lower()}.") from None
    import json  # imported only if there is a file: it takes 1 ms

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
        # No profile has this name; it may be a host's.
        return option
    chosen = option or os.environ.get("ODRADEK_BOOTSTRAP_SERVER")
    if chosen:
        return chosen
    kept = read_profiles()
    return str(kept["profiles"].get(kept["current"], DEFAULT_BOOTSTRAP))


def open_client(bootstrap_server: str | None, timeout: float) -> Client:
    """A client of the cluster that the option means."""
    from odradek.client.cluster import Client

    return Client(bootstrap_address(bootstrap_server), timeout)


def connect(bootstrap_server: str | None, timeout: float) -> Client:
    """A client that has connected already. Raises `CommandFailed` or `ClientFailed` if no broker answers."""
    client = open_client(bootstrap_server, timeout)
    try:
        client.metadata([])
    except FAILED:
        client.close()
        raise
    return client
