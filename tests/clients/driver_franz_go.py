"""franz-go, with kadm for administration: `go/franz.go`."""

from __future__ import annotations

from tests.clients.driver import Feature
from tests.clients.driver_go import GoDriver


class FranzGoDriver(GoDriver):
    name = "franz-go"
    features = frozenset(Feature)
    assignors = ("range", "roundrobin", "sticky", "cooperative-sticky")
