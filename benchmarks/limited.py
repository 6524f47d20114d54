"""A backup whose key map is large: each of its rows may be referred to.

What a limit of memory costs is measured on it: the key map then moves to temporary files.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.running import Input, measure, say

RECORDS_PER_WRITE = 1000
ROWS_PER_REFERENCE = 4
BYTES_PER_ROW = 13
"""Of the limit: a third of what the key map needs."""


def generate(output: Path, rows: int, seed: int) -> None:
    """Write so many rows, a quarter as many records that refer to them at random, and a schema."""
    bits = Random(f"limited/{seed}").getrandbits
    with output.open("w") as stream:
        separator = "["
        for number in range(1, rows + 1, RECORDS_PER_WRITE):
            stream.write(separator + ", ".join(map(_row, _some(number, rows))))
            separator = ", "
        references = rows // ROWS_PER_REFERENCE
        for number in range(1, references + 1, RECORDS_PER_WRITE):
            some = _some(number, references)
            stream.write(", " + ", ".join(_reference(pk, bits(48) % rows + 1) for pk in some))
        stream.write("]")
    models = {
        "limited.document": {"natural_key": ["number"]},
        "limited.access": {"relations": {"document": {"to": "limited.document"}}},
    }
    schema_path(output).write_text(json.dumps({"version": 1, "models": models}) + "\n")


def schema_path(backup: Path) -> Path:
    return backup.with_name(f"{backup.name}.schema")


def _some(number: int, count: int) -> range:
    return range(number, min(number + RECORDS_PER_WRITE, count + 1))


def _row(pk: int) -> str:
    return (
        f'{{"model": "limited.document", "pk": {pk}, "fields": '
        f'{{"number": "DOC-{pk:08}", "title": "Procedure"}}}}'
    )


def _reference(pk: int, document: int) -> str:
    return (
        f'{{"model": "limited.access", "pk": {pk}, "fields": '
        f'{{"document": {document}, "what": "read"}}}}'
    )


def measure_limited(what: Input, rows: int, fastnk: list[str]) -> dict[str, Any]:
    """One run without a limit and one with, by the command `fastnk`."""
    limit = rows * BYTES_PER_ROW
    runs = []
    for name, options in (("no limit", []), (f"{limit / 1e6:,.0f} MB", [str(limit)])):
        output = what.backup.with_suffix(".out")
        output.unlink(missing_ok=True)
        words = ["--memory-limit", *options] if options else []
        files = [str(what.backup), str(output), "--schema", str(what.schema)]
        run = measure([*fastnk, "convert", *files, *words, "--json"])
        report = json.loads(run.printed)
        say(f"{what.title}, {name}: {run.seconds:.1f} s, {run.peak_bytes / 1e6:,.0f} MB")
        runs.append(
            {
                "name": name,
                "seconds": round(run.seconds, 2),
                "peak_bytes": run.peak_bytes,
                "key_map_bytes": report["key_map_bytes"],
                "spilled_bytes": report["key_map_spilled_bytes"],
                "spilled_seconds": round(report["key_map_spilled_seconds"], 2),
            }
        )
        output.unlink()
    return {"rows": rows, "bytes": what.size, "limit_bytes": limit, "runs": runs}
