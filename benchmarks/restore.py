"""Measures restores beside `loaddata` and raw rows: `python -m benchmarks.restore`.

Every run is a process of its own and starts from a fresh copy of a migrated database that holds
system rows. `loaddata` gets a part of the backup, because all of it would take it a quarter of an
hour; its rows per second do not depend on how many they are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import msgspec

from benchmarks import edms, generate, restore_report
from benchmarks.machine import machine, versions
from benchmarks.targets import TARGETS, environment
from benchmarks.together import peak_of

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "launch.py")]
FASTNK = [sys.executable, "-m", "fastnk", "restore", "--no-input", "--json"]
RAW = [sys.executable, "-m", "benchmarks.rivals.raw_rows"]
COPIED = 1000
"""Records of the audit trail at the end of a backup that are copied to make it longer."""


class Bench:
    """One engine and the backups that are restored into it."""

    def __init__(self, folder: Path, engine: str, arguments: argparse.Namespace) -> None:
        self._folder = folder
        self._arguments = arguments
        self._target = TARGETS[engine](folder)

    def run(self) -> dict[str, Any]:
        try:
            return self._run()
        finally:
            self._target.stop()

    def _run(self) -> dict[str, Any]:
        documents, part = self._arguments.documents, self._arguments.part
        legacy, natural = backups(self._folder, documents)
        _, small = backups(self._folder, part)
        rows = self._folder / f"{self._target.name}.rows"
        ours, raw, loaddata = [], [], []
        for number in range(self._arguments.runs):
            ours.append(self._fastnk(natural))
            if number == 0:
                settings = json.dumps(self._target.template())
                self._call([*RAW, "take", settings, str(rows)], self._settings)
            raw.append(self._raw(rows))
            loaddata.append(self._loaddata(small))
        result = {
            "engine": self._target.name,
            "records": ours[0]["records"],
            "bytes": natural.stat().st_size,
            "fastnk": [run["seconds"] for run in ours],
            "raw": raw,
            "loaddata": {"records": _count(small), "seconds": loaddata},
            "second": self._fastnk(natural, renew=True, again=True),
            "legacy": self._fastnk(legacy),
            "peak_bytes": self._peak(natural),
        }
        result["sizes"] = [self._size(small, megabytes) for megabytes in self._arguments.sizes]
        return {**result, **ratios(result)}

    def _size(self, small: Path, megabytes: int) -> dict[str, Any]:
        """A restore of `small` with so much more of the audit trail, to which nothing refers."""
        big = self._folder / "big.json"
        lengthen(small, big, megabytes * 1_000_000)
        peak = self._peak(big)
        return {**self._fastnk(big), "bytes": big.stat().st_size, "peak_bytes": peak}

    def _peak(self, backup: Path) -> int:
        """Peak memory of a restore in bytes, in a run of its own, since to watch it takes time."""
        settings = environment(self._target.renew())
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        peak = peak_of([*FASTNK, str(backup)], cwd=ROOT, env=settings, **silent)
        say(f"{self._target.name}: fastnk {backup.stem}: {peak / 1e6:.0f} MB at the peak")
        return peak

    def _fastnk(self, backup: Path, *, renew: bool = True, again: bool = False) -> dict[str, Any]:
        """One restore: seconds of the whole process, and what it did."""
        if renew:
            self._settings = self._target.renew()
        if again:
            self._call([*FASTNK, str(backup)], self._settings)
        report = self._folder / "report.json"
        command = [*LAUNCH, *FASTNK, str(backup), "--report", str(report)]
        # The launcher's own line comes last on stdout.
        seconds = self._call(command, self._settings).split()[-2]
        told = json.loads(report.read_text())
        run = {
            "seconds": round(float(seconds), 3),
            "conversion_seconds": round(sum(told["conversion"]["seconds"].values()), 3),
            **{name: told[name] for name in ("records", "created", "updated", "unchanged")},
        }
        say(f"{self._target.name}: fastnk {backup.stem}: {run['records'] / run['seconds']:,.0f}/s")
        return run

    def _raw(self, rows: Path) -> float:
        out = self._call([*RAW, "put", str(rows)], self._target.renew())
        seconds = float(json.loads(out)["seconds"])
        say(f"{self._target.name}: raw {seconds:.2f} s")
        return round(seconds, 3)

    def _loaddata(self, backup: Path) -> float:
        command = [*LAUNCH, sys.executable, "-m", "django", "loaddata", str(backup), "-v", "0"]
        seconds = float(self._call(command, self._target.renew()).split()[-2])
        say(f"{self._target.name}: loaddata {_count(backup) / seconds:,.0f}/s")
        return round(seconds, 3)

    def _call(self, command: list[str], settings: dict[str, Any]) -> str:
        # What earlier runs left to be written back is not this one's to wait for.
        os.sync()
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        return done.stdout


def backups(folder: Path, documents: int) -> tuple[Path, Path]:
    """A legacy backup of so many documents, and what it is in natural keys; made once."""
    legacy, natural = folder / f"legacy-{documents}.json", folder / f"natural-{documents}.json"
    if not natural.exists():
        say(f"generating {documents:,} documents")
        with legacy.open("wb") as stream:
            generate.write(stream, edms.rows(documents, 1), generate.LAYOUTS["compact"])
        schema = folder / "schema.json"
        schema.write_text(json.dumps(edms.SCHEMA))
        command = [sys.executable, "-m", "fastnk", "convert", str(legacy), str(natural)]
        command += ["--schema", str(schema)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return legacy, natural


def _count(backup: Path) -> int:
    return len(json.loads(backup.read_bytes()))


def lengthen(natural: Path, to: Path, size: int) -> None:
    """Write a backup with copies of its last records, of the audit trail, up to so many bytes."""
    content = natural.read_bytes()
    records = [msgspec.json.encode(one) for one in json.loads(content)[-COPIED:]]
    uuids = [json.loads(one)["fields"]["uuid"].encode() for one in records]
    with to.open("wb") as stream:
        stream.write(content.rstrip()[:-1])
        for number, (record, uuid) in enumerate(cycle(zip(records, uuids, strict=True)), start=1):
            stream.write(b", " + record.replace(uuid, str(UUID(int=number)).encode()))
            if stream.tell() >= size:
                break
        stream.write(b"]")


def ratios(result: dict[str, Any]) -> dict[str, Any]:
    """What follows from the seconds of one engine."""
    ours = result["records"] / median(result["fastnk"])
    loaddata = result["loaddata"]["records"] / median(result["loaddata"]["seconds"])
    raw = result["records"] / median(result["raw"])
    legacy = result["legacy"]
    return {
        "rows_per_second": {"fastnk": round(ours), "loaddata": round(loaddata), "raw": round(raw)},
        "times_loaddata": round(ours / loaddata, 1),
        "of_raw": round(ours / raw, 2),
        "conversion_share": round(legacy["conversion_seconds"] / legacy["seconds"], 3),
    }


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restore", description=__doc__)
    parser.add_argument("--documents", type=int, default=4000, help="51 rows each")
    parser.add_argument("--part", type=int, default=80, help="documents for loaddata")
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[250, 500, 1000], help="in MB, for peak memory"
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--engines", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "restore.json")
    arguments = parser.parse_args(argv)
    results: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "runs": arguments.runs,
    }
    with TemporaryDirectory() as folder:
        results["engines"] = [
            Bench(Path(folder), engine, arguments).run() for engine in arguments.engines
        ]
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")
    restore_report.write(arguments.results)


if __name__ == "__main__":
    main()
