"""What `odradek serve` makes of options and a server.properties, and how it refuses in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from odradek.cli.failures import WrongUse
from odradek.cli.settings import ServeSettings, serve_settings

# The file that comes with Apache Kafka, in what it sets.
STOCK = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
log.dirs=/tmp/kraft-combined-logs
num.partitions=3
offsets.topic.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=100
"""


def from_file(tmp_path: Path, text: str, **options: object) -> ServeSettings:
    file = tmp_path / "server.properties"
    file.write_text(text)
    return serve_settings(file=file, **options)  # type: ignore[arg-type]


def refusal(tmp_path: Path, text: str, **options: object) -> str:
    with pytest.raises(WrongUse) as caught:
        from_file(tmp_path, text, **options)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence


def test_nothing_is_needed() -> None:
    settings = serve_settings()
    assert settings.config.names("listeners") == ["PLAINTEXT://127.0.0.1:9092"]
    assert settings.config.names("log.dirs") == ["odradek-data"]
    assert settings.notes == settings.warnings == []


def test_kafka_s_own_file_needs_only_leave_to_listen_openly(tmp_path: Path) -> None:
    assert "--allow-unauthenticated" in refusal(tmp_path, STOCK)
    settings = from_file(tmp_path, STOCK, allow_unauthenticated=True)
    config = settings.config
    assert config.names("listeners") == ["PLAINTEXT://:9092"]
    assert config.names("advertised.listeners") == ["PLAINTEXT://localhost:9092"]
    assert config.names("log.dirs") == ["/tmp/kraft-combined-logs"]
    assert config.integer("num.partitions") == 3
    assert config.integer("log.retention.hours") == 100
    assert settings.warnings == [] and config.unknown == []
    notes = "\n".join(settings.notes)
    assert "CONTROLLER://:9093" in notes
    for name in ("controller.quorum.bootstrap.servers", "inter.broker.listener.name", "num.io.threads"):
        assert name in notes


def test_layers_lie_over_each_other(tmp_path: Path) -> None:
    settings = from_file(
        tmp_path,
        STOCK,
        assignments=["num.partitions=5", "log.retention.hours=7", "log.dirs=/b"],
        listen="127.0.0.1:1234",
        data_dir="/c",
    )
    assert settings.config.integer("num.partitions") == 5
    assert settings.config.integer("log.retention.hours") == 7
    assert settings.config.names("log.dirs") == ["/c"]
    assert settings.config.names("listeners") == ["PLAINTEXT://127.0.0.1:1234"]
    assert settings.config.names("advertised.listeners") == []


def test_older_names(tmp_path: Path) -> None:
    settings = from_file(tmp_path, "broker.id=7\nlog.dir=/one")
    assert settings.config.integer("node.id") == 7 and settings.config.names("log.dirs") == ["/one"]
    settings = from_file(tmp_path, "broker.id=7\nnode.id=8\nlog.dir=/one\nlog.dirs=/two")
    assert settings.config.integer("node.id") == 8 and settings.config.names("log.dirs") == ["/two"]
    settings = from_file(tmp_path, "broker.id=-1\nlog.dirs=/two", assignments=["log.dir=/three"])
    assert settings.config.integer("node.id") == 1 and settings.config.names("log.dirs") == ["/three"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("log.dirs=/a,/b", ["log.dirs", "/a", "/b"]),
        ("log.dirs=", ["log.dirs"]),
        ("listeners=SSL://127.0.0.1:9093", ["SSL://127.0.0.1:9093", "SSL"]),
        (
            "listeners=IN://127.0.0.1:1\nlistener.security.protocol.map=IN:SASL_SSL",
            ["IN://127.0.0.1:1", "SASL_SSL"],
        ),
        ("listeners=IN://127.0.0.1:1", ["listener.security.protocol.map"]),
        ("listeners=IN://127.0.0.1:1\nlistener.security.protocol.map=IN:TLS", ["IN:TLS"]),
        ("listeners=PLAINTEXT://127.0.0.1", ["listeners", "NAME://HOST:PORT"]),
        ("listeners=PLAINTEXT://127.0.0.1:99999", ["listeners"]),
        ("listeners=PLAINTEXT://127.0.0.1:1,PLAINTEXT://127.0.0.1:2", ["more than once"]),
        ("listeners=C://127.0.0.1:1\ncontroller.listener.names=C", ["listeners"]),
        ("listeners=PLAINTEXT://0.0.0.0:9092", ["PLAINTEXT://0.0.0.0:9092", "--allow-unauthenticated"]),
        ("listeners=PLAINTEXT://[::]:9092", ["--allow-unauthenticated"]),
        ("listeners=PLAINTEXT://192.0.2.1:9092", ["--allow-unauthenticated"]),
        ("advertised.listeners=OTHER://a:1", ["OTHER"]),
        ("advertised.listeners=PLAINTEXT://0.0.0.0:1", ["--advertise"]),
        ("process.roles=controller", ["controller"]),
        ("process.roles=brokr", ["brokr"]),
        ("num.partitions=many", ["num.partitions", "many"]),
        ("num.partitions=0", ["num.partitions", "0", "at least 1"]),
        ("compression.type=zip", ["compression.type", "zip"]),
        ("compression.gzip.level=0", ["compression.gzip.level"]),
        ("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", ["authorizer.class.name"]),
        ("config.providers=file", ["config.providers"]),
        ("a=\\u1", ["line 1"]),
    ],
)
def test_refusals_name_what_they_mean(tmp_path: Path, text: str, names: list[str]) -> None:
    sentence = refusal(tmp_path, text)
    for name in names:
        assert name in sentence


def test_refused_options(tmp_path: Path) -> None:
    for options in (
        {"listen": "9092"},
        {"listen": "::1:9092"},
        {"listen": "localhost:x"},
        {"listen": "0.0.0.0:9092"},
        {"http": "9464"},
        {"http": "0.0.0.0:9464"},
        {"assignments": ["odradek.http.listen=:9464"]},
        {"advertise": "nowhere"},
        {"assignments": ["x"]},
        {"assignments": ["=x"]},
        {"memory": True, "data_dir": "/x"},
        {"file": tmp_path / "missing"},
        {"file": tmp_path},
    ):
        with pytest.raises(WrongUse):
            serve_settings(**options)  # type: ignore[arg-type]
    assert "one listener" in refusal(
        tmp_path,
        "listeners=A://127.0.0.1:1,B://127.0.0.1:2\nlistener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT",
        advertise="x:1",
    )


def test_what_is_known_to_be_local_is_not_refused(tmp_path: Path) -> None:
    for address in ("127.0.0.1:0", "[::1]:9092", "localhost:9092", "127.3.2.1:9"):
        assert serve_settings(listen=address).config.names("listeners") == [f"PLAINTEXT://{address}"]


def test_listening_openly(tmp_path: Path) -> None:
    settings = serve_settings(listen="0.0.0.0:9092", advertise="kafka.example:19092", allow_unauthenticated=True)
    assert settings.config.names("listeners") == ["PLAINTEXT://0.0.0.0:9092"]
    assert settings.config.names("advertised.listeners") == ["PLAINTEXT://kafka.example:19092"]
    with pytest.raises(WrongUse, match="--advertise"):
        serve_settings(listen="0.0.0.0:9092", allow_unauthenticated=True)
    settings = serve_settings(listen=":9092", allow_unauthenticated=True)
    [told] = settings.config.names("advertised.listeners")
    assert told.startswith("PLAINTEXT://") and told.endswith(":9092") and not told.startswith("PLAINTEXT://:")
    assert any("advertised" in note for note in settings.notes)


def test_the_http_port() -> None:
    assert serve_settings().config.text("odradek.http.listen") == ""
    assert serve_settings(http="[::1]:0").config.text("odradek.http.listen") == "[::1]:0"
    given = ["odradek.http.listen=127.0.0.1:1"]
    assert serve_settings(assignments=given).config.text("odradek.http.listen") == "127.0.0.1:1"
    assert serve_settings(assignments=given, http="").config.text("odradek.http.listen") == ""
    open_to_all = serve_settings(http="0.0.0.0:9464", allow_unauthenticated=True)
    assert open_to_all.config.text("odradek.http.listen") == "0.0.0.0:9464"


def test_unknown_names_are_warned_of_one_by_one(tmp_path: Path) -> None:
    settings = from_file(tmp_path, "num.partitons=3\nlog.rentention.hours=1\nlistener.name.x.ssl.keystore.type=PEM")
    assert [warning.split()[2] for warning in settings.warnings] == ["num.partitons", "log.rentention.hours"]
    assert settings.config.unknown == []
    assert "listener.name.x" in settings.notes[0]


def test_an_authorizer_that_is_not_served_is_never_dropped_silently(tmp_path: Path) -> None:
    settings = from_file(tmp_path, "authorizer.class.name=x.Y", allow_unauthenticated=True)
    assert "authorizer.class.name" in settings.warnings[0]


def test_several_plain_listeners(tmp_path: Path) -> None:
    text = "listeners=IN://127.0.0.1:1,OUT://127.0.0.1:2\nlistener.security.protocol.map=in:plaintext,OUT:PLAINTEXT"
    config = from_file(tmp_path, text + "\nadvertised.listeners=OUT://public.example:9").config
    assert config.names("listeners") == ["IN://127.0.0.1:1", "OUT://127.0.0.1:2"]
    assert config.names("advertised.listeners") == ["OUT://public.example:9"]
