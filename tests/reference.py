"""Apache Kafka as a reference: its jars from Maven Central, its tools, a running broker, and small Java programs.

Nothing of it is kept in the repository: jars go into a cache folder, once. Where Java or Maven are missing, the tests
that need them are skipped and say so; with CI=true they must be there.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

KAFKA_VERSION = "4.4.0"
TOOLS_VERSION = "4.3.1"  # the newest tools published
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "odradek-tests"
JAVA_SOURCES = Path(__file__).parent / "java"
FETCH_TIMEOUT_S = 600
START_TIMEOUT_S = 90

_missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
if _missing and os.environ.get("CI") == "true":
    raise RuntimeError(f"with CI=true these must be installed: {', '.join(_missing)}")
has_java = not _missing
needs_java = pytest.mark.skipif(bool(_missing), reason=f"{' and '.join(_missing)} not installed")

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>odradek</groupId>
<artifactId>tests</artifactId><version>1</version><dependencies>{}</dependencies></project>"""
DEPENDENCY = (
    "<dependency><groupId>org.apache.kafka</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)
SERVER_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/logs
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"


def _jars(name: str, *artifacts: tuple[str, str]) -> Path:
    """A folder with these artifacts and what they need; fetched once, whole or not at all."""
    folder = CACHE / name
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=CACHE))
        try:
            (work / "pom.xml").write_text(POM.format("".join(DEPENDENCY.format(*artifact) for artifact in artifacts)))
            command = ["mvn", "-q", "-B", "-f", str(work / "pom.xml"), "dependency:copy-dependencies"]
            subprocess.run([*command, f"-DoutputDirectory={work}/jars"], check=True, timeout=FETCH_TIMEOUT_S)
            try:
                os.rename(work / "jars", folder)
            except OSError:
                # Another run was quicker.
                assert folder.exists()
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


@cache
def broker_jars() -> Path:
    """The folder of Apache Kafka's jars."""
    return _jars(f"broker-{KAFKA_VERSION}", ("kafka_2.13", KAFKA_VERSION))


@cache
def tools_jars() -> Path:
    """The folder of the jars of Kafka's command-line tools."""
    artifacts = [(name, TOOLS_VERSION) for name in ("kafka-tools", "kafka_2.13", "kafka-shell")]
    return _jars(f"tools-{TOOLS_VERSION}", *artifacts)


@cache
def streams_jars() -> Path:
    """The folder of Kafka Streams' jars."""
    return _jars(f"streams-{TOOLS_VERSION}", ("kafka-streams", TOOLS_VERSION))


def broker_classpath() -> str:
    return f"{broker_jars()}/*"


def tools_classpath() -> str:
    return f"{tools_jars()}/*"


def streams_classpath() -> str:
    return f"{streams_jars()}/*"


def jar(folder: Path, stem: str) -> Path:
    """The jar of that name, whatever its version."""
    (found,) = folder.glob(f"{stem}-[0-9]*.jar")
    return found


def run_java(
    classpath: str, *arguments: str, stdin: str | None = None, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Runs a class (or a single source file) to its end; its exit code is for the caller to judge."""
    command = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-cp", classpath, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s)


def java_source(name: str) -> str:
    """A program kept under tests/java, to be run as a single source file."""
    return str(JAVA_SOURCES / name)


def dump_log_segments(*arguments: str) -> str:
    """What Kafka's DumpLogSegments prints; fails where it fails."""
    done = run_java(tools_classpath(), "org.apache.kafka.tools.DumpLogSegments", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def format_kafka(folder: Path, *settings: str) -> int:
    """Makes the folder of a broker of Apache Kafka; the port it will listen on."""
    port = free_port()
    properties = folder / "server.properties"
    text = SERVER_PROPERTIES.format(port=port, controller=free_port(), folder=folder)
    properties.write_text(text + "\n".join(settings) + "\n")
    formatted = run_java(
        broker_classpath(), "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)
    )
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr
    return port


@contextmanager
def run_kafka(folder: Path, port: int, heap: str = "512m") -> Iterator[subprocess.Popen[bytes]]:
    """Runs the broker of a folder until the block ends, and kills it if it has not ended by then."""
    java = ["java", "-cp", broker_classpath()]
    with open(folder / "kafka.log", "wb") as output:
        process = subprocess.Popen(
            [*java, f"-Xms{heap}", f"-Xmx{heap}", "kafka.Kafka", str(folder / "server.properties")],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "kafka.log").read_text()
                # A process of another project: there is nothing to wait on but its port.
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def apache_kafka(folder: Path, *settings: str, heap: str = "512m") -> Iterator[int]:
    """Runs a broker of Apache Kafka; gives its port."""
    port = format_kafka(folder, *settings)
    with run_kafka(folder, port, heap):
        yield port
