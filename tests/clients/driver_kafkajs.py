"""KafkaJS, with its codecs from zstd-napi, kafkajs-snappy and kafkajs-lz4: `js/clients.js` in Node.

It reads by group only, keeps a record's headers as an object (no order among names), has no static members, and its one
assignor has a name of its own in the protocol, so that it shares groups with no other library.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.clients.driver import Feature
from tests.clients.driver_process import ProcessDriver
from tests.reference import CACHE

FOLDER = Path(__file__).parent / "js"
NODE = shutil.which("node") if shutil.which("npm") else None
if NODE is None and os.environ.get("CI") == "true":
    raise RuntimeError("with CI=true node and npm must be installed")
INSTALL_TIMEOUT_S = 600


@cache
def installed() -> Path:
    """The folder with KafkaJS in it: installed once for each lock file, under a name that says it is whole."""
    wanted = {name: (FOLDER / name).read_bytes() for name in ("package.json", "package-lock.json")}
    folder = CACHE / f"js-{hashlib.sha256(b''.join(wanted.values())).hexdigest()[:16]}"
    if not folder.exists():
        making = folder.with_suffix(f".{os.getpid()}")
        making.mkdir(parents=True)
        for name, data in wanted.items():
            (making / name).write_bytes(data)
        # Two of the codecs are made of C and compiled here.
        done = subprocess.run(
            ["npm", "ci", "--no-fund", "--no-audit"],
            cwd=making,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        making.rename(folder)
    return folder


class KafkaJSDriver(ProcessDriver):
    name = "kafkajs"
    features = frozenset(
        {
            Feature.ADMIN,
            Feature.ALTER_GROUP_OFFSETS,
            Feature.COMMITS_ON_COMMAND,
            Feature.DELETE_GROUPS,
            Feature.DESCRIBE_GROUPS,
            Feature.GROUP_OFFSETS,
            Feature.LIST_GROUPS,
            Feature.OUTLIVES_BROKERS,
            Feature.PROGRESS,
            Feature.TRANSACTIONS,
        }
    )
    assignors = ("RoundRobinAssigner",)

    def command(self) -> list[str]:
        assert NODE is not None
        return [NODE, str(FOLDER / "clients.js")]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "NODE_PATH": str(installed() / "node_modules")}

    def member_command(self) -> list[str]:
        # The member's process inherits the test's environment.
        return ["env", f"NODE_PATH={installed() / 'node_modules'}", *self.command(), "member"]
