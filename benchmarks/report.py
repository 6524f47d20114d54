"""Turns `results.json` into a page, two charts and a part of the README.

    python -m benchmarks.report [RESULTS]

Every figure comes from the file; none is written here.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import charts

Results = dict[str, Any]
Case = dict[str, Any]
Competitor = dict[str, Any]

CAVEATS = """\
What these figures do not say:

- How long *your* backup takes. The backups here are generated, in the shapes and roughly the
  proportions of a real system's: mostly audit trail, and little of it to be rewritten. More
  relations per megabyte cost more. `fastnk bench` measures your own.
- How fast a disk is. The backup is in the cache before each run starts, as it comes there from the
  disk; a file that was just written may lie there in smaller pieces, which take longer to read.
  Rivals and `cp` return when the system has taken their output over; fastnk returns when it is on
  the disk. `cp_fsync`, a copy that waits for the disk as well, is therefore its fairer floor, and
  the more erratic one.
- How fast memory is. A virtual machine gives what nobody uses back to its host after some seconds,
  and who writes to it then waits for each page, `cp` no less than fastnk. So that all have the
  same, every run begins after a rest where the backup has several gigabytes; the smaller ones are
  written into memory that was in use just before.
- How fast conversion is once Python runs. Every time is that of a whole process, so interpreter
  start and imports are in it, which weighs more the smaller the backup is.
- That all do the same work. fastnk checks every byte, looks for duplicate and null keys and
  leaves nothing behind when it stops; the rivals stop at an id without a row and check nothing
  else. fastnk keeps the spelling of everything it does not rewrite; `orjson` and `msgspec` write
  without blanks, and none of the rivals keeps indentation, so they have less to write.
- That all use the same means. `fastnk` uses every core; the rivals and `cp` use one. `fastnk_1`
  is fastnk with one job, and what ends in `no_sync` does not wait for the disk, as the rivals and
  `cp` do not: `fastnk_1_no_sync` is the one that is like them. `regzip` decompresses and
  compresses with Python's own `gzip` on one core, and does nothing else; fastnk takes ISA-L where
  it is installed.
- That scripts in use are as fast as the rivals. These prepare all they can and switch Python's
  garbage collector off, which few scripts do; `orjson_gc` leaves it on.
- How long a restore takes. Conversion is the smaller part of it.
"""

COLUMNS = {
    "name": "",
    "times_fastest_rival": "speed, of the fastest rival's",
    "times_orjson_gc": "of `orjson_gc`'s",
    "time_against_cp": "time, of `cp`'s",
    "time_against_cp_fsync": "time, of `cp_fsync`'s",
    "time_against_regzip": "time, of `regzip`'s",
    "mb_per_second": "MB/s",
    "median_seconds": "seconds",
    "spread": "fastest to slowest",
    "runs": "runs",
    "peak": "peak memory, MB",
    "above_idle": "of which above idle, MB",
}

README_COLUMNS = {
    "name": "",
    "layout": "layout",
    "times_fastest_rival": "speed, of the fastest rival's",
    "times_orjson_gc": "of `orjson`'s as most scripts use it",
    "time_against_cp": "time, of `cp`'s",
    "time_against_cp_fsync": "time, of `cp`'s with sync",
    "time_against_regzip": "time, of compression alone",
    "mb_per_second": "MB/s",
    "above_idle": "peak memory above idle, MB",
}

README_PART = re.compile(r"(<!-- figures -->\n).*?(<!-- end of the figures -->)", re.DOTALL)
"""What `write` replaces in the README."""


def write(results_path: Path) -> None:
    """Write the page and the charts beside `results_path`, and the figures in the README of the
    folder above, if it has a place for them."""
    results = json.loads(results_path.read_text())
    results_path.with_suffix(".md").write_text(page(results))
    charts.draw(results, results_path.with_suffix(".svg"), results_path.with_name("growth.svg"))
    readme = results_path.parent.parent / "README.md"
    if readme.exists():
        part = readme_part(results)
        text = README_PART.sub(lambda found: found[1] + part + found[2], readme.read_text())
        readme.write_text(text)


def page(results: Results) -> str:
    """The results as a Markdown page that opens with its caveats."""
    sections = (
        "# What conversion costs",
        CAVEATS.rstrip(),
        "## Beside rivals and a copy\n\n![Megabytes per second](results.svg)",
        tables(results).rstrip(),
        "## As backups grow\n\n![Seconds and memory](growth.svg)",
        _sizes(results),
        _relations(results),
        "## With a limit of memory",
        _limited(results),
        "## In small",
        _small(results),
        "## How it was measured",
        _setting(results),
    )
    return "\n\n".join(sections) + "\n"


def tables(results: Results) -> str:
    """One Markdown table per case, the ratios first."""
    return (
        "\n\n".join(_case_table(case, results["idle_peak_bytes"]) for case in results["cases"])
        + "\n"
    )


def readme_part(results: Results) -> str:
    """The table of the README: fastnk as it is, and as like its rivals as it can be, in every
    layout and on the two largest backups; and where the figures come from."""
    largest = [
        {**case, "layout": f"compact, {_megabytes(case)} MB"} for case in results["sizes"][-2:]
    ]
    cases = [
        (case, row)
        for case in (*results["cases"], *largest)
        for row in _fastnk(case)
        if row["name"] in ("fastnk", "fastnk_1_no_sync")
    ]
    rows = [
        {**_cells(row, results["idle_peak_bytes"]), "layout": case["layout"]} for case, row in cases
    ]
    facts = results["machine"]
    text = (
        f"Backups of {_megabytes(results['cases'][0])} MB (compact) but where the layout says how "
        f"many, {facts['cpu']}, {facts['cores']} cores, {results['date'][:10]}. `fastnk` uses all "
        "cores and waits for the disk; `fastnk_1_no_sync` does neither, as its rivals and `cp`."
    )
    return f"\n{_chosen(README_COLUMNS, rows, texts=2)}\n\n{text}\n\n"


def _case_table(case: Case, idle: int) -> str:
    rows = [_cells(row, idle) for row in sorted(case["competitors"], key=_speed, reverse=True)]
    return f"**{case['layout']}, {_megabytes(case)} MB**\n\n{_chosen(COLUMNS, rows)}"


def _cells(row: Competitor, idle: int) -> dict[str, str]:
    peak = row["peak_bytes"]
    return {
        "name": f"`{row['name']}`",
        "times_fastest_rival": _times(row["times_fastest_rival"]),
        "times_orjson_gc": _times(row["times_orjson_gc"]),
        "time_against_cp": _times(row["time_against_cp"]),
        "time_against_cp_fsync": _times(row["time_against_cp_fsync"]),
        "time_against_regzip": _times(row["time_against_regzip"]),
        "mb_per_second": f"{row['mb_per_second']:,.0f}",
        "median_seconds": f"{row['median_seconds']:.3f}",
        "spread": f"{min(row['seconds']):.3f} to {max(row['seconds']):.3f}",
        "runs": f"{len(row['seconds'])}",
        "peak": "" if peak is None else f"{peak / 1e6:,.0f}",
        "above_idle": "" if peak is None else f"{(peak - idle) / 1e6:,.0f}",
    }


def _sizes(results: Results) -> str:
    """A row for each size and way to run fastnk, and for rivals that hold a backup of that size."""
    columns = {
        "name": "",
        "megabytes": "MB",
        "times_fastest_rival": "speed, of the fastest rival's",
        "time_against_cp": "time, of `cp`'s",
        "time_against_cp_fsync": "time, of `cp_fsync`'s",
        "mb_per_second": "MB/s",
        "median_seconds": "seconds",
        "peak": "peak memory, MB",
        "buffers": "of which above idle, key map aside",
        "key_map": "key map, MB",
        "records": "records",
        "rows": "of which referred to",
        "bytes_per_row": "key map bytes for each, key included",
    }
    idle = results["idle_peak_bytes"]
    rows = [
        {
            **dict.fromkeys(columns, ""),
            **_cells(row, idle),
            "megabytes": _megabytes(case),
            "records": f"{case['records']:,}",
            "rows": f"{case['referenced_rows']:,}",
            **(_key_map(case, row, idle) if row in _fastnk(case) else {}),
        }
        for case in results["sizes"]
        for row in case["competitors"]
        if row["peak_bytes"] is not None
    ]
    return _chosen(columns, rows)


def _key_map(case: Case, row: Competitor, idle: int) -> dict[str, str]:
    return {
        "buffers": f"{(row['peak_bytes'] - idle - case['key_map_bytes']) / 1e6:,.0f}",
        "key_map": f"{case['key_map_bytes'] / 1e6:,.1f}",
        "bytes_per_row": f"{case['key_map_bytes'] / case['referenced_rows']:,.0f}",
    }


def _relations(results: Results) -> str:
    """A row for each number of relations and way to run fastnk."""
    head = [
        *("", "relations in a record", "seconds, of those without", "seconds"),
        *("peak memory, MB", "references"),
    ]
    rows = []
    for case in results["relations"]:
        for row, without in zip(_fastnk(case), _fastnk(results["relations"][0]), strict=True):
            rows.append(
                (
                    f"`{row['name']}`",
                    f"{case['relations']}",
                    _times(row["median_seconds"] / without["median_seconds"]),
                    f"{row['median_seconds']:.3f}",
                    f"{row['peak_bytes'] / 1e6:,.0f}",
                    f"{case['references']:,}",
                )
            )
    case = results["relations"][0]
    return (
        f"One backup of {_megabytes(case)} MB, {case['records']:,} records, of whose "
        f"fields more and more are declared to be relations:\n\n{_table(head, rows)}"
    )


def _limited(results: Results) -> str:
    case = results["limited"]
    head = ("limit", "seconds", "peak memory, MB", "key map, MB", "of which in files")
    head += ("seconds of looking up there, all threads together",)
    rows = [
        (
            run["name"],
            f"{run['seconds']:.1f}",
            f"{run['peak_bytes'] / 1e6:,.0f}",
            f"{run['key_map_bytes'] / 1e6:,.0f}",
            f"{run['spilled_bytes'] / 1e6:,.0f}",
            f"{run['spilled_seconds']:.1f}",
        )
        for run in case["runs"]
    ]
    return (
        f"A backup of {_megabytes(case)} MB in which {case['rows']:,} rows may be referred "
        f"to, with `--memory-limit` and without:\n\n{_table(head, rows)}"
    )


def _fastnk(case: Case) -> list[Competitor]:
    return [row for row in case["competitors"] if row["name"].startswith("fastnk")]


def _small(results: Results) -> str:
    small, starts = results["small"], results["starts"]
    rates = small["per_second"]
    nothing = starts[0]["median_seconds"]
    rows = [
        (
            f"`{row['name']}`",
            f"{(row['median_seconds'] - nothing) * 1000:.0f}",
            f"{row['median_seconds'] * 1000:.0f}",
        )
        for row in starts
    ]
    return (
        f"Bytes to bytes, a backup of {small['bytes']:,} bytes with a prepared converter, on one "
        f"core: {rates[len(rates) // 2]:,.0f} conversions a second ({rates[0]:,.0f} to "
        f"{rates[-1]:,.0f}).\n\n"
        + _table(("", "milliseconds above the first", "milliseconds"), rows)
    )


def _setting(results: Results) -> str:
    facts = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    equal = sorted({name for case in results["cases"] for name in case["outputs_equal"]})
    sentences = (
        f"Measured {results['date']} on {facts['cpu']}, {facts['cores']} cores, "
        f"{facts['memory_gb']} GB, {facts['system']}, load {facts['load_before']} before it began.",
        f"Versions: {versions}.",
        f"`{results['command']}` took {results['total_seconds'] / 60:.1f} minutes.",
        "Seconds are the median of the runs, which are in the results file, the competitors "
        "taking turns; peak memory is the largest of them.",
        f"Idle is an interpreter that has imported fastnk: {results['idle_peak_bytes'] / 1e6:.0f} "
        f"MB.",
        f"What {', '.join(equal)} wrote was read back and held the same records." if equal else "",
    )
    return " ".join(sentences).rstrip()


def _chosen(columns: dict[str, str], rows: list[dict[str, str]], texts: int = 1) -> str:
    """A table of those columns in which there is anything."""
    shown = [name for name in columns if any(row[name] for row in rows)]
    cells = [[row[name] for name in shown] for row in rows]
    return _table([columns[name] for name in shown], cells, texts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table whose first columns are texts, and the others numbers."""
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def _megabytes(case: Case) -> str:
    return f"{case['bytes'] / 1e6:,.0f}"


def _speed(row: Competitor) -> float:
    return float(row["mb_per_second"])


def _times(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.1f} times" if ratio >= 10 else f"{ratio:.2f} times"


if __name__ == "__main__":
    default = Path(__file__).with_name("results.json")
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
