"""Numbers that several settings, or several parts of the broker, are bounded by.

Role: the ends of Kafka's number types, units of time, and limits of this process that no setting changes. The bound of
a queue, buffer or cache is a setting of its own, in `broker.py` or `topic.py`.
"""

from __future__ import annotations

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1
DOUBLE_MAX = 1.7976931348623157e308
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
# Containers allocated and not freed before Python searches for reference cycles: at most some MB of garbage wait.
COLLECTOR_THRESHOLDS = 50_000, 20, 10
