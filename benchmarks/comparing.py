"""One backup and all who convert or copy it: seconds, memory, and what follows from them."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from benchmarks.rivals.files import is_array
from benchmarks.running import (
    CONVERTERS,
    FASTNK,
    FLOORS,
    PYTHON_RIVALS,
    Input,
    Look,
    Run,
    in_turns,
    timing,
)


def compare(what: Input, times: Mapping[str, int]) -> dict[str, Any]:
    """All runs of the competitors; those that convert must have written the same records.

    Raises `SystemExit` where they have not.
    """
    digests: dict[str, str] = {}

    def look(name: str, output: Path) -> None:
        if name in CONVERTERS:
            digests[name] = records_digest(output)

    case = measure_case(what, times, look)
    if len(set(digests.values())) > 1:
        raise SystemExit(f"{what.title}: the outputs differ: {digests}")
    return {**case, "outputs_equal": sorted(digests)}


def measure_case(what: Input, times: Mapping[str, int], look: Look | None = None) -> dict[str, Any]:
    """All runs of the competitors, of which fastnk is one."""
    runs = in_turns(what, times, look)
    reports = [json.loads(run.printed) for name in FASTNK for run in runs.get(name, [])]
    return {
        "bytes": what.size,
        "records": reports[0]["records"],
        "referenced_rows": _referenced_rows(what.schema, reports[0]),
        "references": reports[0]["references_written"],
        "key_map_bytes": max(report["key_map_bytes"] for report in reports),
        "competitors": summarize(runs, what.size),
    }


def summarize(runs: dict[str, list[Run]], size: int) -> list[dict[str, Any]]:
    """Per competitor the seconds of its runs and what follows from them."""
    middle = {name: median(run.seconds for run in of_one) for name, of_one in runs.items()}
    rivals = [middle[name] for name in PYTHON_RIVALS if name in middle]

    def ratio(one: str, other: str) -> float | None:
        return round(middle[one] / middle[other], 2) if {one, other} <= middle.keys() else None

    return [
        {
            **timing(name, of_one),
            "mb_per_second": round(size / 1e6 / middle[name], 1),
            "times_fastest_rival": round(min(rivals) / middle[name], 2) if rivals else None,
            "times_orjson_gc": ratio("orjson_gc", name),
            "time_against_cp": ratio(name, "cp"),
            "time_against_cp_fsync": ratio(name, "cp_fsync"),
            "time_against_regzip": ratio(name, "regzip"),
            "peak_bytes": None if name in FLOORS else max(run.peak_bytes for run in of_one),
        }
        for name, of_one in runs.items()
    ]


def records_digest(path: Path) -> str:
    """The same for two files that hold the same records, however they are spelled."""
    digest = hashlib.sha256()
    for record in _records(path):
        digest.update(orjson.dumps(record, option=orjson.OPT_SORT_KEYS) + b"\n")
    return digest.hexdigest()


def _records(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".gz":
        yield from orjson.loads(gzip.decompress(path.read_bytes()))
    elif is_array(path):
        yield from orjson.loads(path.read_bytes())
    else:
        with path.open("rb") as stream:
            yield from map(orjson.loads, stream)


def _referenced_rows(schema: Path, report: dict[str, Any]) -> int:
    """How many records are of models that relations refer to by natural key."""
    models = json.loads(schema.read_bytes())["models"]
    targets = {
        relation["to"]
        for model in models.values()
        for relation in model.get("relations", {}).values()
        if models[relation["to"]].get("natural_key")
    }
    counts = report["models"]
    return sum(counts[label]["records"] for label in targets if label in counts)
