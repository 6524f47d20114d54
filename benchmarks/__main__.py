"""Measures what conversion costs: `python -m benchmarks`, or `make bench`.

Beside its rivals and a copy, as backups and their relations grow, in small, and at the start.
Progress goes to stderr, the tables to stdout.
"""

from __future__ import annotations

import argparse
import gc
import json
import shlex
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import fields, generate, report
from benchmarks.backups import Store
from benchmarks.comparing import compare, measure_case
from benchmarks.limited import measure_limited
from benchmarks.machine import machine, memory, versions
from benchmarks.running import (
    CACHE_MEMORY,
    COMMAND,
    EVERYONE,
    FASTNK,
    FLOORS,
    GROWING,
    GROWING_RIVALS,
    PYTHON_RIVALS,
    RIVAL_MEMORY,
    ROOT,
    measure,
    say,
)
from benchmarks.small import measure_small, measure_starts


def compared(arguments: argparse.Namespace, store: Store) -> Iterator[dict[str, Any]]:
    """Everyone, on backups of one size in each layout; compressed ones beside compression alone."""
    names = [name for name in EVERYONE if name in arguments.competitors]
    slow = dict.fromkeys(PYTHON_RIVALS, arguments.slow_runs)
    times = {name: slow.get(name, arguments.runs) for name in names}
    for layout in arguments.layouts:
        case = compare(store.edms(layout, arguments.size), times)
        yield {"layout": layout, "megabytes": arguments.size, **case}
    if arguments.gzip_size:
        times = dict.fromkeys((*FASTNK, "regzip"), arguments.slow_runs)
        case = compare(store.gzipped("compact", arguments.gzip_size), times)
        yield {"layout": "compact, gzip", "megabytes": arguments.gzip_size, **case}


def growing_size(arguments: argparse.Namespace, store: Store) -> Iterator[dict[str, Any]]:
    """fastnk, the fastest rivals and copies, on backups each of which is four times as large as the
    one before, as long as the machine can hold one and what is made of it in its cache."""
    megabytes = arguments.smallest
    while megabytes <= arguments.up_to:
        if CACHE_MEMORY * megabytes * 1e6 > memory():
            say(f"{megabytes:g} MB: left out, this machine has too little memory to cache that")
            return
        backup = store.edms("compact", megabytes)
        rivals = GROWING_RIVALS if RIVAL_MEMORY * backup.size <= memory() / 2 else ()
        times = dict.fromkeys((*GROWING, *FLOORS), arguments.runs)
        times |= dict.fromkeys(rivals, arguments.slow_runs)
        yield {"megabytes": megabytes, **measure_case(backup, times)}
        megabytes *= 4


def growing_relations(arguments: argparse.Namespace, store: Store) -> Iterator[dict[str, Any]]:
    """fastnk, on one backup of which more and more fields are relations."""
    times = dict.fromkeys(GROWING, arguments.slow_runs)
    for count in fields.COUNTS:
        case = measure_case(store.fields(count, arguments.relations_size), times)
        yield {"relations": count, "megabytes": arguments.relations_size, **case}


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--size", type=float, default=256, help="megabytes of the backups for everyone")
    add("--layouts", nargs="+", choices=generate.LAYOUTS, default=[*generate.LAYOUTS])
    add("--competitors", nargs="+", choices=EVERYONE, default=[*EVERYONE])
    add("--gzip-size", type=float, default=64, help="megabytes before compression; 0: leave out")
    add("--smallest", type=float, default=16, help="megabytes; then four times as much, and so on")
    add("--up-to", type=float, default=4096, help="megabytes of the largest, memory permitting")
    add("--relations-size", type=float, default=64, help="megabytes where relations are counted")
    add("--memory-rows", type=int, default=2_000_000, help="rows, for the limit of memory")
    add("--runs", type=int, default=5, help="of fastnk and copies")
    add("--slow-runs", type=int, default=2, help="of the rivals, and as relations are counted")
    add("--seed", type=int, default=1)
    add("--data", type=Path, default=ROOT / "benchmarks" / "data", help="folder for backups")
    add("--results", type=Path, default=ROOT / "benchmarks", help="folder for the results")
    arguments = parser.parse_args(argv)
    if not {*FASTNK} & {*arguments.competitors}:
        parser.error(f"one of {', '.join(FASTNK)} must take part")
    if arguments.up_to < arguments.smallest:
        parser.error("--up-to is less than --smallest")
    return arguments


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    arguments = _arguments(argv)
    # As in the rivals: it would take longer to compare outputs than to make them.
    gc.disable()
    start = time.perf_counter()
    store = Store(arguments.data.resolve(), arguments.seed)
    results: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "benchmarks", *argv]),
        "machine": machine(),
        "versions": versions(),
        "seed": arguments.seed,
        "idle_peak_bytes": measure([sys.executable, "-c", "import fastnk"]).peak_bytes,
        "starts": measure_starts(),
        "small": measure_small(arguments.slow_runs),
        "cases": [*compared(arguments, store)],
        "sizes": [*growing_size(arguments, store)],
        "relations": [*growing_relations(arguments, store)],
        "limited": measure_limited(
            store.limited(arguments.memory_rows), arguments.memory_rows, COMMAND
        ),
    }
    results["total_seconds"] = round(time.perf_counter() - start, 1)
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / "results.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    report.write(path)
    print(report.tables(results))


if __name__ == "__main__":
    main()
