"""`odradek config list|describe|alter`: the settings of topics, brokers and groups.

Role: each command sends one request and prints its response. The broker describes the settings and checks values.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from odradek.cli import completers
from odradek.cli.bootstrap import open_client
from odradek.cli.failures import CommandFailed, WrongUse
from odradek.cli.options import TIMEOUT_S, Bootstrap, Flag, OutputLine, OutputRows, Texts, Timeout
from odradek.cli.output import print_json, print_rows

ConfigResource = Literal["topic", "broker", "group"]
_TYPES = {"topic": 2, "broker": 4, "group": 32}
_NAMES = {number: name for name, number in _TYPES.items()}
# The config sources of DescribeConfigs (KIP-226), as they are shown.
_SOURCES = {
    1: "topic",
    2: "broker, changed",
    3: "all brokers, changed",
    4: "broker's file",
    5: "default",
    6: "broker's log levels",
    7: "client metrics",
    8: "group",
}
_DEFAULT = 5
_SET, _DELETE = 0, 1


def list_configs(
    *, output: OutputRows = "auto", timeout: Timeout = TIMEOUT_S, bootstrap_server: Bootstrap = None
) -> None:
    """Lists what has settings."""
    from odradek.client.error_codes import sentence
    from odradek.protocol.messages.list_config_resources import (
        ListConfigResourcesRequest,
        ListConfigResourcesResponse,
    )

    request = ListConfigResourcesRequest(resource_types=list(_NAMES))
    with open_client(bootstrap_server, timeout) as client:
        response: ListConfigResourcesResponse = client.ask_any(request, ListConfigResourcesResponse)
    if response.error_code:
        raise CommandFailed(f"cannot list settings: {sentence(response.error_code)}.")
    rows = [
        {"type": _NAMES.get(found.resource_type, str(found.resource_type)), "name": found.resource_name}
        for found in response.config_resources
    ]
    rows.sort(key=lambda row: (row["type"], row["name"]))
    if output == "json":
        print_json(rows)
    else:
        print_rows(("type", "name"), rows)


def describe(
    resource: ConfigResource,
    name: Annotated[str | None, Parameter(completer=completers.resources)] = None,
    /,
    *,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    setting: Texts = None,
    output: OutputRows = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Describes the settings of a topic, a broker or a group.

    Parameters
    ----------
    resource
        topic, broker or group.
    name
        The topic, the broker's id or the group. Without it, for a broker: the settings changed for all brokers.
    all_
        Also those that have their default.
    setting
        Only this setting, with its meaning; may be repeated.
    """
    from odradek.client.error_codes import sentence
    from odradek.protocol.messages.describe_configs import (
        DescribeConfigsRequest,
        DescribeConfigsResource,
        DescribeConfigsResponse,
    )

    wanted = DescribeConfigsResource(
        resource_type=_TYPES[resource], resource_name=_name(resource, name), configuration_keys=setting or None
    )
    request = DescribeConfigsRequest(resources=[wanted], include_documentation=True)
    with open_client(bootstrap_server, timeout) as client:
        response: DescribeConfigsResponse = _ask(client, resource, name, request, DescribeConfigsResponse)
    [result] = response.results
    if result.error_code:
        why = sentence(result.error_code, result.error_message)
        raise CommandFailed(f"cannot describe {_called(resource, name)}: {why}.")
    missing = set(setting or ()) - {config.name for config in result.configs}
    if missing:
        raise CommandFailed(f"{_called(resource, name)} has no setting {sorted(missing)[0]!r}.")
    rows: list[dict[str, Any]] = [
        {
            "setting": config.name,
            "value": "(hidden)" if config.is_sensitive else config.value,
            "source": _SOURCES.get(config.config_source, str(config.config_source)),
            "read_only": config.read_only,
            "meaning": config.documentation or "",
        }
        for config in sorted(result.configs, key=lambda config: config.name)
        if all_ or setting or config.config_source != _DEFAULT
    ]
    if output == "json":
        print_json(rows)
    else:
        columns = ("setting", "value", "source", "meaning") if setting else ("setting", "value", "source", "read_only")
        print_rows(columns, rows)


def alter(
    resource: ConfigResource,
    name: Annotated[str | None, Parameter(completer=completers.resources)] = None,
    /,
    *,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    delete: Texts = None,
    dry_run: Flag = False,
    output: OutputLine = "auto",
    timeout: Timeout = TIMEOUT_S,
    bootstrap_server: Bootstrap = None,
) -> None:
    """Changes settings of a topic or a broker, and leaves the others.

    Parameters
    ----------
    resource
        topic, broker or group.
    name
        The topic, the broker's id or the group. Without it, for a broker: settings of all brokers.
    set_
        NAME=VALUE; may be repeated.
    delete
        NAME of a setting that gets its default back; may be repeated.
    dry_run
        Only say whether the change could be made.
    """
    from odradek.client.error_codes import sentence
    from odradek.protocol.messages.incremental_alter_configs import (
        AlterableConfig,
        AlterConfigsResource,
        IncrementalAlterConfigsRequest,
        IncrementalAlterConfigsResponse,
    )

    changes = []
    for option in set_ or ():
        setting, equals, value = option.partition("=")
        if not equals or not setting:
            raise WrongUse(f"--set {option!r} is not NAME=VALUE.")
        changes.append(AlterableConfig(name=setting, config_operation=_SET, value=value))
    changes += [AlterableConfig(name=setting, config_operation=_DELETE, value=None) for setting in delete or ()]
    if not changes:
        raise WrongUse("`odradek config alter` needs --set NAME=VALUE or --delete NAME.")
    wanted = AlterConfigsResource(resource_type=_TYPES[resource], resource_name=_name(resource, name), configs=changes)
    request = IncrementalAlterConfigsRequest(resources=[wanted], validate_only=dry_run)
    with open_client(bootstrap_server, timeout) as client:
        response: IncrementalAlterConfigsResponse = _ask(
            client, resource, name, request, IncrementalAlterConfigsResponse
        )
    [result] = response.responses
    if result.error_code:
        why = sentence(result.error_code, result.error_message)
        raise CommandFailed(f"cannot change {_called(resource, name)}: {why}.")
    if output == "json":
        print_json({"type": resource, "name": name, "changed": not dry_run})
    else:
        print(f"Settings of {_called(resource, name)} {'can be changed so' if dry_run else 'changed'}.")


def _name(resource: ConfigResource, name: str | None) -> str:
    if name is None and resource != "broker":
        raise WrongUse(f"say which {resource}: `odradek config ... {resource} NAME`.")
    if resource == "broker" and name is not None and not name.isdecimal():
        raise WrongUse(f"{name!r} is not a broker's id; see `odradek cluster info`.")
    return name or ""


def _called(resource: ConfigResource, name: str | None) -> str:
    return f"{resource} {name!r}" if name is not None else "all brokers"


def _ask(client: Any, resource: ConfigResource, name: str | None, request: Any, response: Any) -> Any:
    """Sends the request to the broker whose settings it is about, and any other request to any broker."""
    if resource == "broker" and name is not None:
        client.metadata([])
        if int(name) not in client.brokers:
            known = ", ".join(map(str, sorted(client.brokers)))
            raise CommandFailed(f"there is no broker {name}; the cluster has {known}.")
        return client.ask(int(name), request, response)
    return client.ask_any(request, response)
