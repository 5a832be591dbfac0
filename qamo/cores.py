"""The processor cores that this process may use, which can be fewer than the machine has."""

from __future__ import annotations

import os


def usable() -> int:
    """At least 1. What a container is given as a share of time does not show."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
