"""`odradek cluster info`: the brokers, how many partitions they lead, their disk space, and the cluster's features."""

from __future__ import annotations

from typing import Any

from odradek.cli.bootstrap import open_client
from odradek.cli.failures import CommandFailed
from odradek.cli.options import TIMEOUT_S, Bootstrap, OutputTables, Timeout
from odradek.cli.output import print_json, print_rows


def info(*, output: OutputTables = "auto", timeout: Timeout = TIMEOUT_S, bootstrap_server: Bootstrap = None) -> None:
    """Describes the cluster: brokers, what they hold, and features."""
    from odradek.client.error_codes import sentence
    from odradek.protocol.messages.describe_log_dirs import DescribeLogDirsRequest, DescribeLogDirsResponse

    with open_client(bootstrap_server, timeout) as client:
        metadata = client.metadata(None)
        features = client.features()
        leading: dict[int, int] = {}
        for topic in metadata.topics:
            for partition in topic.partitions:
                leading[partition.leader_id] = leading.get(partition.leader_id, 0) + 1
        brokers: list[dict[str, Any]] = []
        for broker in sorted(metadata.brokers, key=lambda broker: broker.node_id):
            response: DescribeLogDirsResponse = client.ask(
                broker.node_id, DescribeLogDirsRequest(topics=None), DescribeLogDirsResponse
            )
            directories: list[dict[str, Any]] = []
            for found in response.results:
                if found.error_code:
                    why = sentence(found.error_code)
                    raise CommandFailed(f"broker {broker.node_id} cannot describe {found.log_dir}: {why}.")
                directories.append(
                    {
                        "path": found.log_dir,
                        "log_bytes": sum(p.partition_size for topic in found.topics for p in topic.partitions),
                        "total_bytes": found.total_bytes if found.total_bytes >= 0 else None,
                        "usable_bytes": found.usable_bytes if found.usable_bytes >= 0 else None,
                    }
                )
            brokers.append(
                {
                    "id": broker.node_id,
                    "address": f"{broker.host}:{broker.port}",
                    "controller": broker.node_id == metadata.controller_id,
                    "leader_of": leading.get(broker.node_id, 0),
                    "directories": directories,
                }
            )
    described: dict[str, Any] = {
        "cluster_id": metadata.cluster_id,
        "topics": sum(not topic.is_internal for topic in metadata.topics),
        "partitions": sum(len(topic.partitions) for topic in metadata.topics),
        "partitions_without_leader": leading.get(-1, 0),
        "features": features,
        "brokers": brokers,
    }
    if output == "json":
        print_json(described)
        return
    summary = ("cluster_id", "topics", "partitions", "partitions_without_leader")
    print_rows(summary, [described])
    print()
    rows = [
        {**broker, **directory}
        for broker in brokers
        for directory in broker["directories"] or [dict.fromkeys(("path", "log_bytes", "usable_bytes"))]
    ]
    print_rows(("id", "address", "controller", "leader_of", "path", "log_bytes", "usable_bytes"), rows)
    if features:
        print()
        print_rows(("feature", "level"), [{"feature": name, "level": level} for name, level in features.items()])
