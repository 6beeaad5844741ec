"""Prints the declarative class file of one API or internal record, from Kafka's message definitions.

    python tools/message_classes.py DEFINITIONS_DIR Fetch                 (FetchRequest.json and FetchResponse.json)
    python tools/message_classes.py DEFINITIONS_DIR --record TopicRecord

DEFINITIONS_DIR holds the JSON definitions unpacked from a Kafka jar. Only facts are taken (names, types, versions,
nullability, tags, defaults); descriptions stay behind. The output is formatted by `ruff format` afterwards. The truth
check (tests/protocol/test_definitions.py) compares what is committed with the definitions in the published jars.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

TYPES = {"bool": "boolean", "bytes": "byte_string", "records": "record_buffers"}
PRIMITIVES = {
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint16",
    "uint32",
    "float64",
    "string",
    "uuid",
    "bytes",
    "records",
}


def load(path: Path) -> dict[str, Any]:
    text = re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.M)
    return json.loads(re.sub(r"\s//[^\"\n]*$", "", text, flags=re.M))


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def default_of(f: dict[str, Any]) -> str | None:
    value = f.get("default")
    if value is None:
        return None
    kind = f["type"]
    if value == "null":
        return "None"
    if kind == "string":
        return repr(value).replace("'", '"')
    if kind == "bool":
        return "True" if str(value).lower() == "true" else "False"
    if kind == "float64":
        return repr(float(value))
    if kind in PRIMITIVES:
        return str(int(str(value), 0))
    raise ValueError(f"default {value!r} of {kind}")


def field_line(f: dict[str, Any], used: set[str]) -> str:
    kind = f["type"]
    array = kind.startswith("[]")
    element = kind.removeprefix("[]")
    name = TYPES.get(element, element)
    if element in PRIMITIVES:
        used.add(name)
    annotation = f"list[{name}]" if array else name
    nullable = f.get("nullableVersions", "none")
    if nullable != "none":
        annotation += " | None"
    # A tagged field may leave out its versions: they are those in which it is tagged.
    versions = f.get("versions") or f["taggedVersions"]
    arguments = [f'"{versions}"']
    default = default_of(f)
    if default is not None:
        arguments.append(f"default={default}")
    if nullable != "none":
        arguments.append(f'nullable="{nullable}"')
    if "tag" in f:
        arguments.append(f"tag={f['tag']}")
        if f["taggedVersions"] != versions:
            arguments.append(f'tagged="{f["taggedVersions"]}"')
    if f.get("flexibleVersions") == "none":
        arguments.append("flexible=False")
    return f"    {snake(f['name'])}: {annotation} = field({', '.join(arguments)})"


def structs(fields: list[dict[str, Any]], common: dict[str, Any], out: dict[str, list[str]], used: set[str]) -> None:
    """Adds the structures below `fields`, innermost first."""
    for f in fields:
        element = f["type"].removeprefix("[]")
        if element in PRIMITIVES:
            continue
        inner = f.get("fields") or common[element]["fields"]
        structs(inner, common, out, used)
        lines = [field_line(g, used) for g in inner]
        if out.setdefault(element, lines) != lines:
            raise ValueError(f"two structures are called {element}")


def render(definitions: list[dict[str, Any]], title: str) -> str:
    used: set[str] = set()
    body: list[str] = []
    seen: dict[str, list[str]] = {}
    for d in definitions:
        out: dict[str, list[str]] = {}
        common = {c["name"]: c for c in d.get("commonStructs", [])}
        structs(d["fields"], common, out, used)
        for name, lines in out.items():
            if name in seen:
                if seen[name] != lines:
                    raise ValueError(f"{title}: two different structures are called {name}")
                continue
            seen[name] = lines
            body += ["", "", f"class {name}(Struct):", *lines]
        key = f", api_key={d['apiKey']}" if "apiKey" in d else ""
        head = f'class {d["name"]}(Message{key}, versions="{d["validVersions"]}", flexible="{d["flexibleVersions"]}"):'
        body += ["", "", head, *([field_line(f, used) for f in d["fields"]] or ["    pass"])]
    bases = ["Message", *(["Struct"] if seen else []), *(["field"] if any("field(" in b for b in body) else []), *used]
    imports = "from odradek.protocol.fields import " + ", ".join(sorted(bases, key=lambda n: (n.islower(), n)))
    return "\n".join([f'"""{title}"""', "", "from __future__ import annotations", "", imports, *body, ""])


def main() -> None:
    folder = Path(sys.argv[1])
    if sys.argv[2] == "--record":
        d = load(folder / f"{sys.argv[3]}.json")
        print(render([d], f"{sys.argv[3]}: an internal record."), end="")
        return
    api = sys.argv[2]
    definitions = [load(folder / f"{api}{side}.json") for side in ("Request", "Response")]
    print(render(definitions, f"{api} (API key {definitions[0]['apiKey']})."), end="")


if __name__ == "__main__":
    main()
