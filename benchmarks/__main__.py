"""Measures conversion beside its rivals: `python -m benchmarks`, or `make bench`.

Every run is a process of its own, the backup is in the cache, and the rivals take turns, so that
what else the machine does falls on all of them. Progress goes to stderr, the table to stdout.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks import edms, generate, report, templates
from benchmarks.machine import machine, versions
from benchmarks.rivals.files import is_array

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "launch.py")]
PYTHON_RIVALS = ("json", "orjson", "orjson_gc", "msgspec", "ijson")
# Some file systems can make a copy that shares its blocks, which costs nothing and says nothing.
COPY = "cp --reflink=never" if sys.platform == "linux" else "cp"
FLOORS = {
    "cp": COPY.split(),
    # fastnk's output is on the disk when it returns; what `cp` wrote is not.
    "cp_fsync": ["sh", "-c", f'{COPY} "$0" "$1" && sync "$1"'],
}
EVERYONE = ("fastnk", *PYTHON_RIVALS, *FLOORS)
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in one unit of `ru_maxrss`."""


class Run(NamedTuple):
    seconds: float
    peak_bytes: int


class Case(NamedTuple):
    """One backup and who converts it."""

    layout: str
    megabytes: float
    names: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.layout} {self.megabytes:g} MB"


def measure(command: list[str]) -> Run:
    """Run a command to its end. Raises `subprocess.CalledProcessError` when it fails."""
    done = subprocess.run(
        [*LAUNCH, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, peak = done.stdout.split()
    return Run(float(seconds), int(peak) * RSS_UNIT)


def command_of(name: str, backup: Path, output: Path) -> list[str]:
    """The command line that makes a competitor convert (or copy) a generated backup."""
    if name in FLOORS:
        return [*FLOORS[name], str(backup), str(output)]
    schema = generate.schema_path(backup)
    rival = [sys.executable, "-m", f"benchmarks.rivals.{name}"]
    return [*rival, str(backup), str(output), str(schema)]


def prepare(folder: Path, case: Case, seed: int) -> Path:
    """The backup of a case, generated unless this very generator has done so before."""
    sources = [Path(str(module.__file__)) for module in (edms, templates, generate)]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    backup = folder / f"{digest[:12]}-{seed}" / f"{case.layout}-{case.megabytes:g}.json"
    if not backup.exists():
        _say(f"{case.title}: generating")
        backup.parent.mkdir(parents=True, exist_ok=True)
        unfinished = backup.with_suffix(".unfinished")
        generate.generate(unfinished, case.megabytes, case.layout, seed)
        unfinished.replace(backup)
    return backup


def run_case(case: Case, backup: Path, times: int) -> dict[str, Any]:
    """All runs of a case. Raises `SystemExit` when two competitors do not agree."""
    runs: dict[str, list[Run]] = {name: [] for name in case.names}
    digests: dict[str, str] = {}
    converters = set(case.names) - set(FLOORS)
    output = backup.with_suffix(".out")
    for number in range(times):
        for name in _rotated(case.names, number):
            output.unlink(missing_ok=True)
            # What earlier outputs left to be written back is not this run's to wait for.
            os.sync()
            _read(backup)
            run = measure(command_of(name, backup, output))
            _say(f"{case.title}: run {number + 1} of {times}: {name} {run.seconds:.2f} s")
            if number == 0 and name in converters and len(converters) > 1:
                digests[name] = records_digest(output)
            runs[name].append(run)
    output.unlink()
    if len(set(digests.values())) > 1:
        sys.exit(f"{case.title}: the outputs differ: {digests}")
    return {
        "layout": case.layout,
        "megabytes": case.megabytes,
        "bytes": backup.stat().st_size,
        "outputs_equal": sorted(digests),
        "competitors": summarize(runs, backup.stat().st_size),
    }


def summarize(runs: dict[str, list[Run]], size: int) -> list[dict[str, Any]]:
    """Per competitor the seconds of its runs and what follows from them."""
    middle = {name: median(run.seconds for run in of_one) for name, of_one in runs.items()}
    rivals = [middle[name] for name in PYTHON_RIVALS if name in middle]
    return [
        {
            "name": name,
            "seconds": [round(run.seconds, 4) for run in of_one],
            "median_seconds": round(middle[name], 4),
            "mb_per_second": round(size / 1e6 / middle[name], 1),
            "times_fastest_rival": round(min(rivals) / middle[name], 2) if rivals else None,
            "time_against_cp": round(middle[name] / middle["cp"], 2) if "cp" in middle else None,
            "peak_bytes": None if name in FLOORS else max(run.peak_bytes for run in of_one),
        }
        for name, of_one in runs.items()
    ]


def records_digest(path: Path) -> str:
    """The same for two files that hold the same records, however they are spelled."""
    digest = hashlib.sha256()
    for record in _records(path):
        digest.update(json.dumps(record, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _records(path: Path) -> Iterator[dict[str, Any]]:
    if is_array(path):
        yield from json.loads(path.read_bytes())
    else:
        with path.open("rb") as stream:
            yield from map(json.loads, stream)


def _read(path: Path) -> None:
    with path.open("rb") as stream:
        while stream.read(1 << 20):
            pass


def _rotated(names: tuple[str, ...], by: int) -> tuple[str, ...]:
    by %= len(names)
    return names[by:] + names[:by]


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def _cases(arguments: argparse.Namespace) -> list[Case]:
    everyone = tuple(arguments.competitors)
    alone = tuple(name for name in everyone if name not in PYTHON_RIVALS)
    cases = [Case(layout, arguments.size, everyone) for layout in arguments.layouts]
    if arguments.big:
        cases += [Case(layout, arguments.big, alone) for layout in arguments.layouts]
    return cases


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", type=float, default=64, help="megabytes for all (default: 64)")
    parser.add_argument(
        "--big", type=float, default=256, help="megabytes for fastnk and cp alone; 0: leave out"
    )
    parser.add_argument(
        "--layouts", nargs="+", choices=generate.LAYOUTS, default=list(generate.LAYOUTS)
    )
    parser.add_argument("--competitors", nargs="+", choices=EVERYONE, default=list(EVERYONE))
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default: 5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, default=ROOT / "benchmarks" / "data")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks", help="folder for results.*"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    arguments = _arguments(argv)
    # As in the rivals: it would take longer to compare outputs than to make them.
    gc.disable()
    start = time.perf_counter()
    results: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "benchmarks", *argv]),
        "machine": machine(),
        "versions": versions(),
        "runs": arguments.runs,
        "seed": arguments.seed,
        "idle_peak_bytes": measure([sys.executable, "-c", "import fastnk"]).peak_bytes,
        "cases": [],
    }
    for case in _cases(arguments):
        backup = prepare(arguments.data.resolve(), case, arguments.seed)
        results["cases"].append(run_case(case, backup, arguments.runs))
    results["total_seconds"] = round(time.perf_counter() - start, 1)
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / "results.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    report.write(path)
    print(report.tables(results))


if __name__ == "__main__":
    main()
