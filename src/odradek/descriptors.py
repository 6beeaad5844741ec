"""File descriptors: how many the process may have, and what they are for.

Role: raise the limit (`raise_limit`, for a process that is a broker and nothing else) and divide what there is
(`divide`): segment files, connections, the rest. Each part is kept to by whoever uses it: the engine closes files, the
listeners refuse connections. So connections can run out, and files, threads and checkpoints still find descriptors.

Inside another program the limit is left as it is, and half of what is free stays that program's.
"""

from __future__ import annotations

import contextlib
import os
import resource
from typing import NamedTuple

from odradek.config.layers import BrokerConfig
from odradek.logs import get_logger

log = get_logger("odradek.descriptors")

# Where the system sets no limit.
DESCRIPTORS_MAX = 1 << 20
# The event loop, listeners, locks, checkpoints, io_uring, connections not looked at yet; threads come on top.
OTHER = 96
# Of what there is, for bytes of files that are on their way to a socket (`FileSpan`); without one they are copied.
SPANS_PART, SPANS_MAX = 16, 1024
HTTP_PART = 16
# Parts below which there is no going, whatever the limit is.
SEGMENT_FILES_MIN, CONNECTIONS_MIN = 18, 8
# With so many connections nobody needs to hear of a bound.
CONNECTIONS_PLENTY = 10_000


class Descriptors(NamedTuple):
    """The parts of one broker."""

    limit: int
    """How many the process may have."""
    segment_files: int
    """Open at one time, those included that cannot be closed just then (`OpenFiles`)."""
    connections: int
    spans: int
    http: int
    """Connections to the HTTP port."""
    other: int


def raise_limit() -> None:
    """Raises the soft limit to the hard one. Soft limits are low for programs that `select`, which we do not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some systems have a lower limit of their own, and do not tell it.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def divide(config: BrokerConfig, *, files: bool, alone: bool) -> Descriptors:
    """Divides the descriptors that are free now. `files`: there are segment files; `alone`: the process is a broker and
    nothing else. Says so in a line where that bounds anything."""
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
    """So many files may be open where at most `open_files` should: some cannot be closed just then."""
    return open_files + open_files // 8


def without_surplus(segment_files: int) -> int:
    """The inverse of `with_surplus`, rounded down."""
    return segment_files * 8 // 9


def _used() -> int:
    """How many descriptors the process has open."""
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return 0
