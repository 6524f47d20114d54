"""Threads, where the system has room for them, and how many."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

MOST_JOBS = 8
"""At once, unless more are asked for: each takes 3 MB, and one of them writes all of the output,
which is a third of what pass 2 does."""


def default_jobs() -> int:
    """As many as this process may use processors, up to `MOST_JOBS`."""
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    processors = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(processors, MOST_JOBS)


def started(run: Callable[[], None], *, daemon: bool = True) -> threading.Thread | None:
    """A thread that runs that, or `None` where the system gives no more of them."""
    thread = threading.Thread(target=run, daemon=daemon)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
