"""Turns `restore.json` into `restore.md`: `python -m benchmarks.restore_report`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CAVEATS = """\
What these figures do not say:

- How fast a restore of *your* backup is. Rows here are those of a document management system,
  mostly audit trail; wider rows, more indexes and more many-to-many links cost every competitor
  more.
- That all do the same. `raw` writes finished rows, of which it only inserts those that are new: it
  reads no backup, checks nothing, and on SQLite looks at no foreign key. Its seconds are those from
  the first row to the end of COMMIT; fastnk's are those of the whole process, start-up included.
- What conversion costs where nobody waits for it: the share of it is what the restore has to wait
  for; into SQLite most rows are made ready by a second process, which converts them as well.
- `loaddata` gets a part of the backup, and its speed is taken to be the same for all of it.
"""


def write(path: Path) -> None:
    """Write the page beside the results."""
    path.with_suffix(".md").write_text(page(json.loads(path.read_text())))


def page(results: dict[str, Any]) -> str:
    return "\n".join(
        [
            "# What a restore costs",
            "",
            CAVEATS,
            *_table(results["engines"]),
            "",
            "Peak memory, where what grows is the audit trail, to which nothing refers:",
            "",
            *_sizes(results["engines"]),
            "",
            *_more(results),
            "",
        ]
    )


def _table(engines: list[dict[str, Any]]) -> list[str]:
    lines = ["| | " + " | ".join(one["engine"] for one in engines) + " |"]
    lines.append("| --- |" + " ---: |" * len(engines))
    figures = {
        "fastnk, rows/s": lambda one: f"{one['rows_per_second']['fastnk']:,}",
        "slowest to fastest": _spread,
        "`loaddata`, rows/s": lambda one: f"{one['rows_per_second']['loaddata']:,}",
        "raw `COPY` or `executemany`, rows/s": lambda one: f"{one['rows_per_second']['raw']:,}",
        "fastnk, times `loaddata`": lambda one: f"{one['times_loaddata']}",
        "fastnk, of raw": lambda one: f"{one['of_raw']:.2f}",
        "the same backup again, rows/s": _again,
        "conversion, share of a legacy restore": lambda one: f"{one['conversion_share']:.1%}",
        "peak memory, MB": lambda one: f"{one['peak_bytes'] / 1e6:,.0f}",
    }
    for name, figure in figures.items():
        lines.append(f"| {name} | " + " | ".join(map(figure, engines)) + " |")
    return lines


def _sizes(engines: list[dict[str, Any]]) -> list[str]:
    """Peak memory of backups of which only the audit trail grows."""
    lines = ["| into | backup, MB | rows | peak memory, MB |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {one['engine']} | {run['bytes'] / 1e6:,.0f} | {run['records']:,}"
        f" | {run['peak_bytes'] / 1e6:,.0f} |"
        for one in engines
        for run in one["sizes"]
    ]
    return lines


def _spread(one: dict[str, Any]) -> str:
    slowest, fastest = (one["records"] / bound(one["fastnk"]) for bound in (max, min))
    return f"{slowest:,.0f} to {fastest:,.0f}"


def _again(one: dict[str, Any]) -> str:
    return f"{one['second']['records'] / one['second']['seconds']:,.0f}"


def _more(results: dict[str, Any]) -> list[str]:
    facts, first = results["machine"], results["engines"][0]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return [
        f"{first['records']:,} records, {first['bytes'] / 1e6:,.0f} MB, into a database with system"
        f" rows; the median of {results['runs']} runs in turns, `loaddata` on"
        f" {first['loaddata']['records']:,} of the records.",
        f"Measured {results['date']} on {facts['cpu']}, {facts['cores']} cores, "
        f"{facts['memory_gb']} GB, {facts['system']}, load {facts['load_before']} before it began.",
        f"Versions: {versions}.",
    ]


if __name__ == "__main__":
    default = Path(__file__).with_name("restore.json")
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
