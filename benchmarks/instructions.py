"""Counts the instructions of the two passes: `python -m benchmarks.instructions`.

Per byte of a generated backup. Seconds differ from run to run, instructions hardly do: what a
change to the core costs or saves shows here first. Needs `valgrind`. With `--keep FOLDER` the
profiles stay there, for `callgrind_annotate` or KCachegrind.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import generate
from benchmarks.backups import Store
from benchmarks.passes import PASSES
from benchmarks.running import ROOT, Input, say

ROUNDS = (1, 3)
"""The start of Python and what only the first round does are in both, and not in the difference."""


def instructions_per_byte(what: Input, name: str, profiles: Path) -> float:
    """How many instructions a pass takes, on average, for a byte of the backup."""
    few, many = (_counted(what, name, rounds, profiles) for rounds in ROUNDS)
    return (many - few) / (ROUNDS[1] - ROUNDS[0]) / what.size


def _counted(what: Input, name: str, rounds: int, profiles: Path) -> int:
    profile = profiles / f"callgrind.{name}-{what.backup.stem}-{rounds}"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}"]
    command += [sys.executable, "-m", "benchmarks.passes", name]
    command += [str(what.backup), str(what.schema), str(rounds)]
    # With a seed of its own in each process, Python's dictionaries would differ.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        sys.exit(done.stderr)
    return int(found[1])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--size", type=float, default=1, help="megabytes (default: 1)")
    parser.add_argument(
        "--layouts", nargs="+", choices=generate.LAYOUTS, default=[*generate.LAYOUTS]
    )
    parser.add_argument("--data", type=Path, default=ROOT / "benchmarks" / "data")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="leave the profiles there")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed; most systems have it as the package valgrind")
    store = Store(arguments.data.resolve(), seed=1)
    with tempfile.TemporaryDirectory() as temporary:
        profiles = (arguments.keep or Path(temporary)).resolve()
        profiles.mkdir(parents=True, exist_ok=True)
        print("| instructions per byte | " + " | ".join(PASSES) + " |")
        print("| --- |" + " ---: |" * len(PASSES))
        for layout in arguments.layouts:
            what = store.edms(layout, arguments.size)
            say(f"{what.title}: counting")
            counts = [instructions_per_byte(what, name, profiles) for name in PASSES]
            print(f"| {layout} | " + " | ".join(f"{count:.2f}" for count in counts) + " |")


if __name__ == "__main__":
    main()
