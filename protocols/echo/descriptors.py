"""Descriptors: every connection is one, and a process may have fewer of them than it could, until it asks."""

from __future__ import annotations

import sys

__all__ = ["allow"]

OTHERS = 64
"""Descriptors that a program has beside its connections."""


def allow(connections: int) -> int:
    """Raise this process's limit, as far as it may, so that it can have so many connections; how many it can have now."""
    if sys.platform == "win32":
        return connections
    import resource  # noqa: PLC0415 # not on every system

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == resource.RLIM_INFINITY else min(connections, max(soft - OTHERS, 0))
