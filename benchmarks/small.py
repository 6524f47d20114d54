"""What does not depend on the size of a backup: small conversions, and the start.

`python -m benchmarks.small` converts a backup of two kilobytes with a prepared converter, again
and again, and prints how often, in how many seconds.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import edms, generate
from benchmarks.running import Run, measure, say, timing
from fastnk.convert import LegacyBackupConverter
from fastnk.schema import Schema

MODELS = (
    "users.user",
    "users.role",
    "users.userrole",
    "documents.documenttype",
    "workflows.documentstate",
    "contenttypes.contenttype",
)
"""Whose first records refer to nothing but one another."""

STARTS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import fastnk": [sys.executable, "-c", "import fastnk"],
    "fastnk --help": [str(Path(sys.executable).with_name("fastnk")), "--help"],
}
START_RUNS = 15
SECONDS = 2.0


def backup() -> bytes:
    """About two kilobytes: the first record of each of `MODELS`."""
    first = {row[0]: row for row in reversed([*edms.rows(0, seed=1)])}
    stream = io.BytesIO()
    generate.write(stream, (first[label] for label in MODELS), generate.LAYOUTS["compact"])
    return stream.getvalue()


def converter() -> LegacyBackupConverter:
    return LegacyBackupConverter(Schema.loads(json.dumps(edms.SCHEMA).encode()))


def measure_small(runs: int) -> dict[str, Any]:
    """How many conversions a second one core does."""
    results = [
        json.loads(measure([sys.executable, "-m", "benchmarks.small"]).printed) for _ in range(runs)
    ]
    rates = sorted(result["conversions"] / result["seconds"] for result in results)
    say(f"{len(backup())} bytes: {rates[len(rates) // 2]:,.0f} conversions a second")
    return {"bytes": len(backup()), "per_second": [round(rate, 1) for rate in rates]}


def measure_starts() -> list[dict[str, Any]]:
    """How long it takes until a process has done nothing, imported fastnk, or shown its help."""
    runs: dict[str, list[Run]] = {name: [] for name in STARTS}
    for _ in range(START_RUNS):
        for name, command in STARTS.items():
            runs[name].append(measure(command))
    return [timing(name, of_one) for name, of_one in runs.items()]


def main() -> None:
    convert, data = converter().convert_bytes, backup()
    count, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SECONDS:
        convert(data)
        count += 1
    print(json.dumps({"conversions": count, "seconds": seconds}))


if __name__ == "__main__":
    main()
