"""File descriptors: the limit of the process, and its division among the parts of the broker.

Role: raise the limit (`raise_limit`, for a process that only runs a broker) and divide the free descriptors (`divide`)
among segment files, connections and other uses. Each part enforces its share: the engine closes files, the listeners
refuse connections. So even when connections have used up theirs, files, threads and checkpoints still get descriptors.

Inside another program the limit stays as it is, and half of the free descriptors are left to that program.
"""

from __future__ import annotations

import contextlib
import os
import resource
from typing import NamedTuple

from odradek.config.layers import BrokerConfig
from odradek.logs import get_logger

log = get_logger("odradek.descriptors")

# The limit that is assumed if the system sets none.
DESCRIPTORS_MAX = 1 << 20
# For the event loop, listeners, locks, checkpoints, io_uring and connections not accepted yet; threads come on top.
OTHER = 96
# The share (one in `SPANS_PART`) for file bytes that are being sent to a socket (`FileSpan`); without a descriptor the
# bytes are copied.
SPANS_PART, SPANS_MAX = 16, 1024
# The share (one in `HTTP_PART`) for connections to the HTTP port.
HTTP_PART = 16
# The broker needs at least these, whatever the limit is.
SEGMENT_FILES_MIN, CONNECTIONS_MIN = 18, 8
# If at least so many connections are possible, the bound is not logged.
CONNECTIONS_PLENTY = 10_000


class Descriptors(NamedTuple):
    """How many descriptors each part of one broker may use."""

    limit: int
    """Of the whole process."""
    segment_files: int
    """Open segment files, including those that are in use and cannot be closed (`OpenFiles`)."""
    connections: int
    spans: int
    """File bytes that are being sent to a socket."""
    http: int
    """Connections to the HTTP port."""
    other: int


def raise_limit() -> None:
    """Raises the soft limit to the hard one. Soft limits are low for programs that use `select`; a broker does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some systems have a lower limit that they do not report.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def divide(config: BrokerConfig, *, files: bool, alone: bool) -> Descriptors:
    """Divides the descriptors that are free now, and logs the parts if a setting's value exceeds its part. `files`: the
    engine has segment files; `alone`: the process only runs this broker."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        limit = DESCRIPTORS_MAX
    ours = max(0, limit - _used())
    if not alone:
        ours //= 2
    spans = min(SPANS_MAX, ours // SPANS_PART) if files else 0
    http = 0
    if config.text("odradek.http.listen"):
        http = min(config.integer("odradek.http.max.connections"), max(1, ours // HTTP_PART))
    other = OTHER
    if files:
        other += config.integer("odradek.read.threads") + config.integer("num.recovery.threads.per.data.dir")
    other = min(other, ours // 3)
    left = max(0, ours - spans - http - other)
    most_connections = config.integer("max.connections")
    segment_files = 0
    if files:
        wanted = with_surplus(config.integer("odradek.open.files.max"))
        segment_files = max(SEGMENT_FILES_MIN, min(wanted, max(left // 2, left - most_connections)))
    divided = Descriptors(limit, segment_files, max(CONNECTIONS_MIN, left - segment_files), spans, http, other)
    if divided.connections < min(most_connections, CONNECTIONS_PLENTY) or (files and segment_files < wanted):
        (log.warning if alone else log.info)(
            "the limit of open files (RLIMIT_NOFILE) is low, and divided",
            limit=limit,
            segment_files=segment_files,
            connections=divided.connections,
            other=spans + http + other,
        )
    return divided


def with_surplus(open_files: int) -> int:
    """The descriptors that `odradek.open.files.max` files need: more may be open for a moment, because files in use
    cannot be closed."""
    return open_files + open_files // 8


def without_surplus(segment_files: int) -> int:
    """The inverse of `with_surplus`, rounded down."""
    return segment_files * 8 // 9


def _used() -> int:
    """The number of descriptors that the process has open."""
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return 0
