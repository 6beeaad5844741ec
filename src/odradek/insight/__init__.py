"""Monitoring: consumer lag, record loss and balance of groups; metrics; and the HTTP port.

Role: read the counters and states of the other packages. Nothing here is on a hot path, and hot paths do not depend on
it. Metrics and HTTP are imported only with `odradek.http.listen`, the lag code only some seconds after a start, when
lag is first looked at.
"""
