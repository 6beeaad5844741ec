"""`odradek profile list|set|use|delete`: names for clusters.

Role: change the file of profiles, which `bootstrap` reads. The file is replaced atomically, so it is never half
written.
"""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

from cyclopts import Parameter

from odradek.cli import completers
from odradek.cli.bootstrap import PROFILE_NAME, profiles_file, read_profiles
from odradek.cli.failures import CommandFailed, WrongUse
from odradek.cli.options import OutputRows
from odradek.cli.output import print_json, print_rows

_Name = Annotated[str, Parameter(completer=completers.profiles)]


def _write(kept: dict[str, Any]) -> None:
    path = profiles_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(kept, indent=2) + "\n")
        new.replace(path)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {(error.strerror or str(error)).lower()}.") from None


def list_profiles(*, output: OutputRows = "auto") -> None:
    """Lists profiles."""
    kept = read_profiles()
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

    if PROFILE_NAME.fullmatch(name) is None:
        raise WrongUse(f"{name!r} cannot be a profile's name: letters, digits, '-' and '_', and not localhost.")
    for part in bootstrap_server.split(","):
        split_address(part)
    kept = read_profiles()
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
    kept = read_profiles()
    if name not in kept["profiles"]:
        known = ", ".join(sorted(kept["profiles"])) or "none"
        raise CommandFailed(f"there is no profile {name!r}; there are: {known}.")
    return kept
