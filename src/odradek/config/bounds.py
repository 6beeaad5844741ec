"""Bounds and units that several settings, or several parts of the broker, share.

Role: the limits of Kafka's number types, units of time, and limits of this process that no setting changes. The bound
of a queue, buffer or cache is a setting of its own, in `broker.py` or `topic.py`.
"""

from __future__ import annotations

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1
DOUBLE_MAX = 1.7976931348623157e308
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
# Thresholds of Python's garbage collector (`gc.set_threshold`): containers allocated and not freed before it searches
# for reference cycles. Until then some MB of garbage stay at most. What survives is examined twice, in portions that do
# not stop the event loop for long: 10,000 containers (2 ms), then up to 60,000 (10 ms); creating 10,000 topics, a
# portion of a million took 200 ms. A search through all of them follows after ten million.
COLLECTOR_THRESHOLDS = 10_000, 5, 200
