"""Threads, where the system has room for them."""

from __future__ import annotations

import threading
from collections.abc import Callable


def started(run: Callable[[], None], *, daemon: bool = True) -> threading.Thread | None:
    """A thread that runs that, or `None` where the system gives no more of them."""
    thread = threading.Thread(target=run, daemon=daemon)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
