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
# Containers allocated and not freed before Python searches for reference cycles: at most some MB of garbage wait. What
# stays is looked at twice, in portions for which nobody waits long: of 10,000 (2 ms), then of 60,000 (10 ms). A million
# at once, when 10,000 topics were made, took 200 ms. All of them are looked at after ten million.
COLLECTOR_THRESHOLDS = 10_000, 5, 200
