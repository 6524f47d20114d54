"""Turns `results.json` into `results.md` and `results.svg`: `python -m benchmarks.report`.

Every figure comes from the file; none is written here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

Results = dict[str, Any]
Case = dict[str, Any]
Competitor = dict[str, Any]

CAVEATS = """\
What these figures do not say:

- How long *your* backup takes. The backups here are generated, in the shapes and roughly the
  proportions of a real system's: mostly audit trail, and little of it to be rewritten. More
  relations per megabyte cost more.
- How fast a disk is. The backup is in the cache before each run starts. Rivals and `cp` return
  when the system has taken their output over; fastnk returns when it is on the disk. `cp_fsync`,
  a copy that waits for the disk as well, is therefore the fairer floor, and the more erratic one.
- How fast conversion is once Python runs. Every time is that of a whole process, so interpreter
  start and imports are in it, which weighs more the smaller the backup is.
- That all do the same work. fastnk checks every byte, looks for duplicate and null keys and
  leaves nothing behind when it stops; the rivals stop at an id without a row and check nothing
  else. fastnk keeps the spelling of everything it does not rewrite; `orjson` and `msgspec` write
  without blanks, and none of the rivals keeps indentation, so they have less to write.
- That scripts in use are as fast as the rivals. These prepare all they can and switch Python's
  garbage collector off, which few scripts do; `orjson_gc` leaves it on.
- What more cores do. Everything here runs on one thread.
- How long a restore takes. Conversion is the smaller part of it.
"""

COLUMNS = {
    "name": "",
    "times_fastest_rival": "speed, of the fastest rival's",
    "time_against_cp": "time, of `cp`'s",
    "mb_per_second": "MB/s",
    "median_seconds": "seconds",
    "spread": "fastest to slowest run",
    "peak": "peak memory, MB",
    "above_idle": "of which above idle, MB",
}

ROW_HEIGHT = 22
GROUP_GAP = 42
LABEL_WIDTH = 110
BAR_WIDTH = 470
WIDTH = 720
COLOURS = {"fastnk": "#0b7a75", "cp": "#c9ced6", "cp_fsync": "#c9ced6"}
RIVAL_COLOUR = "#7d8799"


def write(results_path: Path) -> None:
    """Write the page and the chart beside `results_path`."""
    results = json.loads(results_path.read_text())
    results_path.with_suffix(".md").write_text(page(results))
    results_path.with_suffix(".svg").write_text(chart(results))


def page(results: Results) -> str:
    """The results as a Markdown page that opens with its caveats."""
    sections = (
        "# What conversion costs",
        CAVEATS.rstrip(),
        "![Megabytes per second](results.svg)",
        tables(results).rstrip(),
        _setting(results),
    )
    return "\n\n".join(sections) + "\n"


def tables(results: Results) -> str:
    """One Markdown table per case, the ratios first."""
    return "\n\n".join(_table(case, results["idle_peak_bytes"]) for case in results["cases"]) + "\n"


def chart(results: Results) -> str:
    """The speeds of the cases in which rivals took part, as an SVG picture."""
    cases = [case for case in results["cases"] if len(case["outputs_equal"]) > 1]
    fastest = max((_speed(row) for case in cases for row in case["competitors"]), default=1.0)
    body: list[str] = []
    y = 0
    for case in cases:
        y += GROUP_GAP
        body.append(_text(0, y - 10, f"{_title(case)}, MB/s", weight="bold"))
        for row in sorted(case["competitors"], key=_speed, reverse=True):
            body.extend(_bar(row, y, fastest))
            y += ROW_HEIGHT
    height = y + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="13">\n'
        f'<rect x="-10" width="{WIDTH}" height="{height}" fill="#ffffff"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _table(case: Case, idle: int) -> str:
    rows = [_cells(row, idle) for row in sorted(case["competitors"], key=_speed, reverse=True)]
    shown = [column for column in COLUMNS if any(row[column] for row in rows)]
    lines = [
        "| " + " | ".join(COLUMNS[column] for column in shown) + " |",
        "| " + " | ".join("---" if column == "name" else "---:" for column in shown) + " |",
        *("| " + " | ".join(row[column] for column in shown) + " |" for row in rows),
    ]
    return f"**{_title(case)}**\n\n" + "\n".join(lines)


def _cells(row: Competitor, idle: int) -> dict[str, str]:
    peak = row["peak_bytes"]
    return {
        "name": f"`{row['name']}`",
        "times_fastest_rival": _times(row["times_fastest_rival"]),
        "time_against_cp": _times(row["time_against_cp"]),
        "mb_per_second": f"{row['mb_per_second']:,.0f}",
        "median_seconds": f"{row['median_seconds']:.3f}",
        "spread": f"{min(row['seconds']):.3f} to {max(row['seconds']):.3f}",
        "peak": "" if peak is None else f"{peak / 1e6:,.0f}",
        "above_idle": "" if peak is None else f"{(peak - idle) / 1e6:,.0f}",
    }


def _setting(results: Results) -> str:
    facts = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    equal = sorted({name for case in results["cases"] for name in case["outputs_equal"]})
    sentences = (
        f"Measured {results['date']} on {facts['cpu']}, {facts['cores']} cores, "
        f"{facts['memory_gb']} GB, {facts['system']}, load {facts['load_before']} before it began.",
        f"Versions: {versions}.",
        f"`{results['command']}` took {results['total_seconds'] / 60:.1f} minutes.",
        f"Seconds are the median of {results['runs']} runs, the competitors taking turns; peak "
        f"memory is the largest of them.",
        f"Idle is an interpreter that has imported fastnk: {results['idle_peak_bytes'] / 1e6:.0f} "
        f"MB.",
        f"What {', '.join(equal)} wrote was read back and held the same records." if equal else "",
    )
    return " ".join(sentences).rstrip()


def _title(case: Case) -> str:
    return f"{case['layout']}, {case['bytes'] / 1e6:,.0f} MB"


def _bar(row: Competitor, y: int, fastest: float) -> Iterator[str]:
    name = row["name"]
    length = max(1, round(BAR_WIDTH * _speed(row) / fastest))
    colour = COLOURS.get(name, RIVAL_COLOUR)
    yield _text(LABEL_WIDTH - 8, y + 15, name, anchor="end")
    yield (
        f'<rect x="{LABEL_WIDTH}" y="{y + 2}" width="{length}" height="{ROW_HEIGHT - 5}" '
        f'fill="{colour}"/>'
    )
    yield _text(LABEL_WIDTH + length + 6, y + 15, f"{_speed(row):,.0f}")


def _text(x: int, y: int, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="#222222">{escape(text)}</text>'
    )


def _speed(row: Competitor) -> float:
    return float(row["mb_per_second"])


def _times(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.1f} times" if ratio >= 10 else f"{ratio:.2f} times"


if __name__ == "__main__":
    default = Path(__file__).with_name("results.json")
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
