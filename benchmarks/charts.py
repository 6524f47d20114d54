"""The pictures of the results: what everyone does in a second, and what happens as backups grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Results = dict[str, Any]
Case = dict[str, Any]

COLOURS = {
    "fastnk": "#0b7a75",
    "fastnk_1": "#5fb0a8",
    "fastnk_no_sync": "#9fd0ca",
    "fastnk_1_no_sync": "#c5e3df",
    "orjson": "#c98b4a",
    "msgspec": "#a8662b",
    "cp": "#b9bfc8",
    "cp_fsync": "#8d95a1",
}
RIVAL_COLOUR = "#c98b4a"

# The same results give the same bytes; text stays text.
matplotlib.rcParams.update({"svg.hashsalt": "fastnk", "svg.fonttype": "none", "font.size": 9})


def draw(results: Results, speeds: Path, growth: Path) -> None:
    """Write both charts as SVG."""
    _save(_speeds(results["cases"]), speeds)
    _save(_growth(results), growth)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _speeds(cases: list[Case]) -> Figure:
    """A panel for each layout, a bar for each competitor."""
    figure = Figure(figsize=(7.2, 0.4 + 2.4 * len(cases)), layout="constrained")
    panels = figure.subplots(len(cases), sharex=True, squeeze=False)[:, 0]
    for case, axes in zip(cases, panels, strict=True):
        rows = sorted(case["competitors"], key=lambda row: float(row["mb_per_second"]))
        names = [row["name"] for row in rows]
        speeds = [row["mb_per_second"] for row in rows]
        bars = axes.barh(names, speeds, color=[COLOURS.get(name, RIVAL_COLOUR) for name in names])
        axes.bar_label(bars, [f"{speed:,.0f}" for speed in speeds], padding=3)
        axes.set_title(
            f"{case['layout']}, {case['bytes'] / 1e6:,.0f} MB", loc="left", weight="bold"
        )
        axes.margins(x=0.1)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("MB/s")
    return figure


def _growth(results: Results) -> Figure:
    """Seconds and memory against the size, seconds against the relations."""
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    by_size, memory, by_relations = figure.subplots(1, 3)
    sizes, relations = results["sizes"], results["relations"]
    megabytes = [case["bytes"] / 1e6 for case in sizes]
    _lines(by_size, megabytes, sizes, _seconds)
    by_size.set(xscale="log", yscale="log", title="seconds", xlabel="MB")
    idle = results["idle_peak_bytes"]

    def above_idle(row: dict[str, Any]) -> float | None:
        if not row["name"].startswith("fastnk"):
            return None
        return float(row["peak_bytes"] - idle) / 1e6

    _lines(memory, megabytes, sizes, above_idle)
    keys = [case["key_map_bytes"] / 1e6 for case in sizes]
    memory.plot(megabytes, keys, "--", color="#555555", label="key map")
    memory.set(xscale="log", title="peak memory above idle, MB", xlabel="MB", ylim=(0, None))
    for axes in (by_size, memory):
        axes.set_xticks(megabytes, [f"{size:,.0f}" for size in megabytes])
        axes.set_xticks([], minor=True)
        axes.legend(frameon=False, fontsize="x-small", handlelength=1.2)
    _lines(by_relations, [case["relations"] for case in relations], relations, _seconds)
    title = f"seconds, {relations[0]['bytes'] / 1e6:,.0f} MB"
    by_relations.set(title=title, xlabel="relations in a record", ylim=(0, None))
    for axes in (by_size, memory, by_relations):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _seconds(row: dict[str, Any]) -> float:
    return float(row["median_seconds"])


def _lines(axes: Axes, across: list[float], cases: list[Case], value: Any) -> None:
    """A line for each competitor that has a value, through the cases in which it took part."""
    points: dict[str, list[tuple[float, float]]] = {}
    for x, case in zip(across, cases, strict=True):
        for row in case["competitors"]:
            if (y := value(row)) is not None:
                points.setdefault(row["name"], []).append((x, y))
    for name, line in points.items():
        colour = COLOURS.get(name, RIVAL_COLOUR)
        axes.plot(*zip(*line, strict=True), marker="o", markersize=3, color=colour, label=name)
