"""Peak memory of a command together with all processes that it starts, on Linux.

Each page counts once, however many of them share it: their proportional set sizes are added up.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PERIOD = 0.02
"""Seconds between two looks."""


def peak_of(command: list[str], **options: Any) -> int:
    """Peak memory in bytes. Raises `subprocess.CalledProcessError` when the command fails."""
    peak = 0
    with subprocess.Popen(command, **options) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_memory, _family(process.pid))))
            time.sleep(PERIOD)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak


def _family(process: int) -> Iterator[int]:
    yield process
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))


def _memory(process: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
