"""Names for clusters: `odradek profile list|set|use|delete`, and the cluster that a command talks to.

Role: keep names and addresses in a file of the user's, and resolve --bootstrap-server: an address, or a profile's
name; without it ODRADEK_BOOTSTRAP_SERVER of the environment, else the profile in use, else the local broker.

The file is `odradek/profiles.json` in XDG_CONFIG_HOME (or ~/.config), replaced as a whole, never left half-written.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from odradek.cli import completers
from odradek.cli.failures import CommandFailed, WrongUse
from odradek.cli.output import Output, print_json, print_rows

if TYPE_CHECKING:
    from odradek.client.cluster import Client

Bootstrap = Annotated[str | None, Parameter(name="--bootstrap-server", completer=completers.profiles)]
_Name = Annotated[str, Parameter(completer=completers.profiles)]
DEFAULT_BOOTSTRAP = "127.0.0.1:9092"
# No name is an address: those have a dot, a colon or a bracket, or are localhost.
_NAME = re.compile(r"(?!localhost$)[A-Za-z0-9_-]{1,64}")


def _file() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "odradek" / "profiles.json"


def _read() -> dict[str, Any]:
    """What the file says: `profiles` (name to address) and `current`. Raises `CommandFailed` for one that is broken."""
    path = _file()
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {"profiles": {}, "current": None}
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {(error.strerror or str(error)).lower()}.") from None
    with contextlib.suppress(ValueError):
        kept = json.loads(text)
        if (
            isinstance(kept, dict)
            and isinstance(profiles := kept.get("profiles"), dict)
            and all(isinstance(address, str) for address in profiles.values())
        ):
            return {"profiles": profiles, "current": kept.get("current")}
    raise CommandFailed(f"{path} is not a file of profiles; remove it, or bring it back.")


def _write(kept: dict[str, Any]) -> None:
    path = _file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(kept, indent=2) + "\n")
        new.replace(path)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {(error.strerror or str(error)).lower()}.") from None


def known_profiles() -> dict[str, str]:
    """Names and addresses. Raises `CommandFailed`."""
    profiles: dict[str, str] = _read()["profiles"]
    return profiles


def bootstrap_address(option: str | None) -> str:
    """The address a command connects to. Raises `CommandFailed`."""
    if option is not None and _NAME.fullmatch(option):
        address = _read()["profiles"].get(option)
        if address is not None:
            return str(address)
        # A host of this name, perhaps.
        return option
    chosen = option or os.environ.get("ODRADEK_BOOTSTRAP_SERVER")
    if chosen:
        return chosen
    kept = _read()
    return str(kept["profiles"].get(kept["current"], DEFAULT_BOOTSTRAP))


def open_client(bootstrap_server: str | None, timeout: float) -> Client:
    """A client of the cluster that is meant."""
    from odradek.client.cluster import Client

    return Client(bootstrap_address(bootstrap_server), timeout)


def list_profiles(*, output: Output = "auto") -> None:
    """Lists profiles.

    Parameters
    ----------
    output
        auto: a table on a terminal, else lines with tabs. json: one array.
    """
    kept = _read()
    rows = [
        {"name": name, "bootstrap_server": address, "in_use": name == kept["current"]}
        for name, address in sorted(kept["profiles"].items())
    ]
    if output == "json":
        print_json(rows)
    else:
        print_rows(("name", "bootstrap_server", "in_use"), rows)


def set_profile(name: _Name, bootstrap_server: str, /) -> None:
    """Names a cluster, or changes its address; the first one named is in use.

    Parameters
    ----------
    name
        Letters, digits, '-' and '_'.
    bootstrap_server
        HOST:PORT of its brokers, separated by commas.
    """
    from odradek.client.address import split_address

    if _NAME.fullmatch(name) is None:
        raise WrongUse(f"{name!r} cannot be a profile's name: letters, digits, '-' and '_', and not localhost.")
    for part in bootstrap_server.split(","):
        split_address(part)
    kept = _read()
    kept["profiles"][name] = bootstrap_server
    if kept["current"] not in kept["profiles"]:
        kept["current"] = name
    _write(kept)
    print(f"Profile {name} is {bootstrap_server}{', and in use' if kept['current'] == name else ''}.")


def use(name: _Name, /) -> None:
    """Puts a profile into use: commands without --bootstrap-server talk to it.

    Parameters
    ----------
    name
        The profile.
    """
    kept = _known(name)
    kept["current"] = name
    _write(kept)
    print(f"Profile {name} is in use: {kept['profiles'][name]}.")


def delete(name: _Name, /) -> None:
    """Forgets a profile.

    Parameters
    ----------
    name
        The profile.
    """
    kept = _known(name)
    del kept["profiles"][name]
    if kept["current"] == name:
        kept["current"] = None
    _write(kept)
    print(f"Profile {name} deleted.")


def _known(name: str) -> dict[str, Any]:
    kept = _read()
    if name not in kept["profiles"]:
        known = ", ".join(sorted(kept["profiles"])) or "none"
        raise CommandFailed(f"there is no profile {name!r}; there are: {known}.")
    return kept
