"""Runs competitors: each run a process of its own, the backup in the cache, in turns.

Taking turns makes what else the machine does fall on all of them. Progress goes to stderr.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "launch.py")]
PYTHON_RIVALS = ("json", "orjson", "orjson_gc", "msgspec", "ijson")
FASTNK: dict[str, list[str]] = {
    "fastnk": [],
    "fastnk_1": ["--jobs", "1"],
    "fastnk_no_sync": ["--no-sync"],
    "fastnk_1_no_sync": ["--jobs", "1", "--no-sync"],
}
GROWING = ("fastnk", "fastnk_no_sync", "fastnk_1_no_sync")
"""Those that are measured as backups grow."""
GROWING_RIVALS = ("orjson", "msgspec")
"""The fastest; they grow with the backup, so they take part as long as the memory is there."""
RIVAL_MEMORY = 8
"""Bytes, for each one of a backup, that the hungrier of the two takes, and some to spare."""
CACHE_MEMORY = 3
"""Bytes, for each one of a backup, that it takes together with a copy in the cache, and some to
spare."""
COMMAND = [sys.executable, "-m", "fastnk"]
# Some file systems can make a copy that shares its blocks, which costs nothing and says nothing.
COPY = "cp --reflink=never" if sys.platform == "linux" else "cp"
FLOORS = {
    "cp": COPY.split(),
    # fastnk's output is on the disk when it returns; what `cp` wrote is not.
    "cp_fsync": ["sh", "-c", f'{COPY} "$0" "$1" && sync "$1"'],
}
CONVERTERS = (*FASTNK, *PYTHON_RIVALS)
EVERYONE = (*CONVERTERS, *FLOORS)
# Whatever this shell says: a program that has run before is not compiled again.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}
LEAST_RUNS = 3
"""However long they take, where so many are wanted: of two the median would be a mean."""
PATIENCE = 12.0
"""Seconds; a competitor whose runs have taken longer is not run again, so that there is an end."""
LARGE = 2e9
"""Bytes of a backup of which each run begins after a rest."""
REST = 3.0
"""Seconds, after which a virtual machine has given what an earlier run has freed back to its host.
Until then a copy writes into memory that is there; what takes longer than that would end in memory
that the system has to get first, which takes several times as long."""
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in one unit of `ru_maxrss`."""


class Run(NamedTuple):
    seconds: float
    peak_bytes: int
    printed: str
    """What the command wrote to stdout."""


class Input(NamedTuple):
    """What is converted."""

    title: str
    backup: Path
    schema: Path
    size: int
    """Bytes of the backup, before compression."""


Look = Callable[[str, Path], None]
"""Called with a competitor and its first output."""


def measure(command: list[str]) -> Run:
    """Run a command to its end. Raises `subprocess.CalledProcessError` when it fails."""
    done = subprocess.run(
        [*LAUNCH, *command],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    printed, _, figures = done.stdout.rstrip("\n").rpartition("\n")
    seconds, peak = figures.split()
    return Run(float(seconds), int(peak) * RSS_UNIT, printed)


def command_of(name: str, what: Input, output: Path) -> list[str]:
    """The command line that makes a competitor convert, or copy."""
    files = [str(what.backup), str(output)]
    if name in FLOORS:
        return [*FLOORS[name], *files]
    if name in FASTNK:
        options = ["--schema", str(what.schema), "--json", *FASTNK[name]]
        return [*COMMAND, "convert", *files, *options]
    return [sys.executable, "-m", f"benchmarks.rivals.{name}", *files, str(what.schema)]


def in_turns(
    what: Input, times: Mapping[str, int], look: Look | None = None
) -> dict[str, list[Run]]:
    """As many runs of each competitor as `times` says, or behind the third as `PATIENCE` allows."""
    runs: dict[str, list[Run]] = {name: [] for name in times}
    output = what.backup.with_name(f"converted-{what.backup.name}")
    _leave_cache(what.backup)
    # Whoever is the first to write so much waits until the system has memory for that.
    measure(command_of("cp", what, output))
    for number in range(max(times.values())):
        for name in _rotated([*times], number):
            seconds = [run.seconds for run in runs[name]]
            if number >= times[name] or (number >= LEAST_RUNS and sum(seconds) > PATIENCE):
                continue
            output.unlink(missing_ok=True)
            # What earlier outputs left to be written back is not this run's to wait for.
            os.sync()
            if what.size >= LARGE:
                time.sleep(REST)
            _read(what.backup)
            run = measure(command_of(name, what, output))
            say(f"{what.title}: {name}, run {number + 1} of {times[name]}: {run.seconds:.2f} s")
            runs[name].append(run)
            if number == 0 and look is not None:
                look(name, output)
    output.unlink()
    return runs


def timing(name: str, runs: list[Run]) -> dict[str, Any]:
    """A competitor and the seconds of its runs, in order."""
    return {
        "name": name,
        "seconds": [round(run.seconds, 4) for run in runs],
        "median_seconds": round(median(run.seconds for run in runs), 4),
    }


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def _leave_cache(path: Path) -> None:
    """Let the file come from the disk the next time, where the system knows how. How fast a file is
    read depends on how it came into the cache: one that was just generated is there in the pieces
    in which it was written."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(path: Path) -> None:
    with path.open("rb") as stream:
        while stream.read(1 << 20):
            pass


def _rotated(names: list[str], by: int) -> list[str]:
    """Who was first is last the next time."""
    by %= len(names)
    return names[by:] + names[:by]
