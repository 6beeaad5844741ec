"""The settings of a broker, from the options of `odradek serve` and a `server.properties`.

Role: merge three layers (the file, then --set, then other options such as --listen), translate Kafka's other names
(`log.dir`, `broker.id`, controller listeners), and refuse settings that cannot be served here, naming them.
`odradek.config` checks types and bounds of single values.

Invariants: every mistake ends in one `WrongUse` sentence that names the setting. Nothing that concerns security is
ignored silently: listeners with TLS or SASL are refused, and a broker that others on the network could use needs
`--allow-unauthenticated`.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from odradek.cli.failures import WrongUse
from odradek.cli.properties import MalformedProperties, parse_properties
from odradek.config.broker import BROKER_SETTINGS
from odradek.config.layers import BrokerConfig
from odradek.config.setting import InvalidSetting
from odradek.config.without_effect import CONTROLLER_AND_REPLICA_SETTINGS

_LISTENER = re.compile(r"([^:/]+)://(\[[^\]]*\]|[^:/]*):(\d+)")
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
# Settings that are read here and not passed on.
_TRANSLATED = (
    "log.dir",
    "broker.id",
    "process.roles",
    "controller.listener.names",
    "listener.security.protocol.map",
    "authorizer.class.name",
    "config.providers",
)
# Prefixes of settings of one listener or of a plug-in.
_PREFIXES_WITHOUT_EFFECT = ("listener.name.", "rlmm.config.", "rsm.config.", "config.providers.")
_ALL_ADDRESSES = ("", "0.0.0.0", "::")


@dataclass
class ServeSettings:
    """The settings that `odradek serve` runs with, and the log lines about those that do nothing."""

    config: BrokerConfig
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class _Listener(NamedTuple):
    name: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.name}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def serve_settings(
    *,
    file: Path | None = None,
    assignments: Sequence[str] = (),
    listen: str | None = None,
    advertise: str | None = None,
    data_dir: str | None = None,
    memory: bool = False,
    http: str | None = None,
    allow_unauthenticated: bool = False,
) -> ServeSettings:
    """The settings of a broker. Raises `WrongUse`."""
    given: dict[str, str] = {}
    if file is not None:
        given.update(_with_kafka_names(_read_file(file)))
    given.update(_with_kafka_names(_read_assignments(assignments)))
    out = ServeSettings(BrokerConfig())
    if "config.providers" in given:
        raise WrongUse("config.providers is not supported: write the values themselves into the file.")
    _check_roles(given)
    if listen is not None:
        given["listeners"] = str(_Listener("PLAINTEXT", *_address("--listen", listen)))
        given.pop("advertised.listeners", None)
    listeners = _serve_listeners(given, out)
    if http is not None:
        given["odradek.http.listen"] = http
    http_address = _address("--http", given["odradek.http.listen"]) if given.get("odradek.http.listen") else None
    if not allow_unauthenticated:
        _refuse_strangers(given, listeners, http_address)
    elif "authorizer.class.name" in given:
        out.warnings.append("authorizer.class.name has no effect: there are no ACLs yet, everybody may do everything")
    _advertise(given, listeners, advertise, out)
    if data_dir is not None:
        if memory:
            raise WrongUse("--memory keeps nothing on disk, so --data-dir has no meaning with it.")
        given["log.dirs"] = data_dir
    _check_data_directory(given)
    _sort_out_without_effect(given, out)
    try:
        out.config = BrokerConfig(given)
    except InvalidSetting as error:
        raise WrongUse(f"{error}.") from None
    return out


# --- layers ----------------------------------------------------------------------------------------------------------


def _read_file(file: Path) -> dict[str, str]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise WrongUse(f"cannot read --config {file}: {(error.strerror or '').lower()}.") from None
    try:
        return parse_properties(data)
    except MalformedProperties as error:
        raise WrongUse(f"--config {file}, {error}.") from None


def _read_assignments(assignments: Sequence[str]) -> dict[str, str]:
    out: dict[str, str] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise WrongUse(f"--set {text!r} is not NAME=VALUE.")
        out[name.strip()] = value
    return out


def _with_kafka_names(given: dict[str, str]) -> dict[str, str]:
    """One layer with Kafka's older names replaced by the newer ones. If both are given, the newer one counts."""
    out = dict(given)
    directory = out.pop("log.dir", None)
    if directory is not None:
        out.setdefault("log.dirs", directory)
    broker_id = out.pop("broker.id", None)
    if broker_id is not None and broker_id.strip() != "-1":  # -1 asks Kafka to choose one
        out.setdefault("node.id", broker_id)
    return out


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_roles(given: dict[str, str]) -> None:
    roles = _names(given.get("process.roles", "broker"))
    for role in roles:
        if role not in ("broker", "controller"):
            raise WrongUse(f"process.roles {role!r} is neither broker nor controller.")
    if "broker" not in roles:
        raise WrongUse("process.roles names no broker: this file is for a controller, which does not exist here.")


def _check_data_directory(given: dict[str, str]) -> None:
    if "log.dirs" not in given:
        return
    directories = _names(given["log.dirs"])
    if len(directories) > 1:
        raise WrongUse(
            f"log.dirs names {len(directories)} directories ({', '.join(directories)}), but exactly one is supported."
        )
    if not directories:
        raise WrongUse("log.dirs names no directory.")


# --- listeners -------------------------------------------------------------------------------------------------------


def _address(option: str, text: str) -> tuple[str, int]:
    """Parses HOST:PORT; no host means all addresses, port 0 any free port. Raises `WrongUse`."""
    host, colon, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise WrongUse(f"{option} {text!r} is not HOST:PORT, such as 127.0.0.1:9092.")
    return host.strip("[]"), int(port)


def _parse_listeners(setting: str, text: str) -> list[_Listener]:
    out = []
    for part in _names(text):
        match = _LISTENER.fullmatch(part)
        if match is None or int(match[3]) > 65535:
            raise WrongUse(f"Invalid value {part} for configuration {setting}: it is not NAME://HOST:PORT.")
        out.append(_Listener(match[1].upper(), match[2].strip("[]"), int(match[3])))
    names = [listener.name for listener in out]
    for name in names:
        if names.count(name) > 1:
            raise WrongUse(f"Invalid value {text} for configuration {setting}: it names {name} more than once.")
    return out


def _protocols(given: dict[str, str]) -> dict[str, str]:
    out = {name: name for name in _PROTOCOLS}
    for part in _names(given.get("listener.security.protocol.map", "")):
        name, _, protocol = part.rpartition(":")
        if not name or protocol.upper() not in _PROTOCOLS:
            raise WrongUse(
                f"Invalid value {part} for configuration listener.security.protocol.map: it is not NAME:PROTOCOL with "
                f"one of {', '.join(_PROTOCOLS)}."
            )
        out[name.upper()] = protocol.upper()
    return out


def _controllers(given: dict[str, str]) -> set[str]:
    return {name.upper() for name in _names(given.get("controller.listener.names", ""))}


def _serve_listeners(given: dict[str, str], out: ServeSettings) -> list[_Listener]:
    """The listeners that clients use; writes them back to `given`."""
    controllers = _controllers(given)
    protocols = _protocols(given)
    text = given.get("listeners", ",".join(BROKER_SETTINGS["listeners"].default))
    listeners = []
    for listener in _parse_listeners("listeners", text):
        if listener.name in controllers:
            out.notes.append(f"listener {listener} is a controller's and is not opened: there are no controllers here")
            continue
        protocol = protocols.get(listener.name)
        if protocol is None:
            raise WrongUse(f"listener {listener} has no protocol: listener.security.protocol.map does not name it.")
        if protocol != "PLAINTEXT":
            raise WrongUse(f"listener {listener} asks for {protocol}, which is not served yet: only PLAINTEXT is.")
        listeners.append(listener)
    if not listeners:
        raise WrongUse("listeners names none that a client could use.")
    given["listeners"] = ",".join(map(str, listeners))
    return listeners


def _advertise(given: dict[str, str], listeners: list[_Listener], advertise: str | None, out: ServeSettings) -> None:
    """Sets in `given` an advertised address for each listener whose own address clients cannot use."""
    controllers = _controllers(given)
    advertised = {
        listener.name: listener
        for listener in _parse_listeners("advertised.listeners", given.get("advertised.listeners", ""))
        if listener.name not in controllers
    }
    for name in advertised:
        if all(listener.name != name for listener in listeners):
            raise WrongUse(f"advertised.listeners names {name}, which listeners does not.")
    if advertise is not None:
        if len(listeners) != 1:
            raise WrongUse("--advertise is for one listener; name several in advertised.listeners.")
        host, port = _address("--advertise", advertise)
        advertised = {listeners[0].name: _Listener(listeners[0].name, host, port)}
    for listener in listeners:
        if listener.name not in advertised and listener.host == "":
            # As in Kafka, a listener without a host is advertised under the machine's name.
            name = socket.gethostname()
            advertised[listener.name] = listener._replace(host=name)
            out.notes.append(f"listener {listener} is advertised under this machine's name, {name}; see --advertise")
        told = advertised.get(listener.name, listener)
        if told.host in _ALL_ADDRESSES:
            raise WrongUse(
                f"clients cannot be told to connect to {told.host or 'an empty host'}: --advertise HOST:PORT (or "
                "advertised.listeners) says where they reach this broker."
            )
    given["advertised.listeners"] = ",".join(map(str, advertised.values()))


def _is_loopback(host: str) -> bool:
    if host in _ALL_ADDRESSES:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address[4][0]).partition("%")[0]).is_loopback for address in found)


def _refuse_strangers(given: dict[str, str], listeners: list[_Listener], http_address: tuple[str, int] | None) -> None:
    for listener in listeners:
        if not _is_loopback(listener.host):
            raise WrongUse(
                f"listener {listener} can be reached from other machines by anybody, without authentication: add "
                "--allow-unauthenticated if that is meant, or listen on 127.0.0.1."
            )
    if http_address is not None and not _is_loopback(http_address[0]):
        raise WrongUse(
            f"the HTTP port {given['odradek.http.listen']} can be read from other machines by anybody, without "
            "authentication: add --allow-unauthenticated if that is meant, or listen on 127.0.0.1."
        )
    if "authorizer.class.name" in given:
        raise WrongUse(
            "authorizer.class.name asks for ACLs, which are not served yet: add --allow-unauthenticated to do without."
        )


# --- settings without effect -----------------------------------------------------------------------------------------


def _sort_out_without_effect(given: dict[str, str], out: ServeSettings) -> None:
    """Removes settings without effect from `given`, with one log line for each kind and a warning for each unknown
    setting."""
    for name in _TRANSLATED:
        given.pop(name, None)
    replicas, others = [], []
    for name in list(given):
        setting = BROKER_SETTINGS.get(name)
        if setting is not None and setting.effect:
            continue
        if name in CONTROLLER_AND_REPLICA_SETTINGS:
            replicas.append(name)
        elif setting is not None or name.startswith(_PREFIXES_WITHOUT_EFFECT):
            others.append(name)
        else:
            out.warnings.append(f"unknown setting {name} is ignored")
        if setting is None:
            del given[name]
    if replicas:
        out.notes.append(f"settings of controllers and replicas have no effect here: {', '.join(sorted(replicas))}")
    if others:
        out.notes.append(f"settings of Kafka that have no effect here: {', '.join(sorted(others))}")
