"""sarama: `go/sarama.go`."""

from __future__ import annotations

from tests.clients.driver import Feature
from tests.clients.driver_go import GoDriver


class SaramaDriver(GoDriver):
    name = "sarama"
    # It has no call that describes a partition's producers, and lists offsets in a version that knows no latest time.
    features = frozenset(Feature) - {Feature.DESCRIBE_PRODUCERS, Feature.LIST_LATEST_TIME}
    assignors = ("range", "roundrobin", "sticky", "cooperative-sticky")
