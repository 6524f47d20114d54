"""The one place that draws progress: a bar on a terminal, whole lines elsewhere."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TextIO

QUIET_SECONDS = 1.0
"""Work that is over so soon shows nothing, however long its project took to load."""
BAR_SECONDS = 0.1
LINE_SECONDS = 30.0
BAR_WIDTH = 24

INSERT = "insert"
"""The phase of a restore in which another process makes new rows ready."""


class Progress:
    """Call it with a phase, what is done and, where it is known, what there is in all.

    On a terminal it redraws one line. Elsewhere (a log, a mail) it writes a whole line with the
    time when a phase begins and every 30 seconds, because a log must not fill with bars.
    """

    def __init__(self, stream: TextIO | None = None, unit: str = "MB") -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._unit = unit
        self._phase = ""
        self._phase_started = 0.0
        self._loud = 0.0
        """When there has been work for long enough."""
        self._next = 0.0
        self._drawn = False
        self._rows = 0

    def count_rows(self, count: int) -> None:
        """So many rows more are done with in this phase; they are shown beside the amount."""
        self._rows += count

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if not self._phase:
            self._loud = self._next = now + QUIET_SECONDS
        if phase != self._phase:
            self._phase, self._phase_started, self._rows = phase, now, 0
            if not self._is_terminal:
                self._next = min(self._next, max(now, self._loud))
        if now < self._next:
            return
        self._next = now + (BAR_SECONDS if self._is_terminal else LINE_SECONDS)
        seconds = now - self._phase_started
        line = describe(phase, done, total, seconds, self._unit, self._rows)
        if self._is_terminal:
            self._stream.write(f"\r\x1b[K{fitted(line, self._columns())}")
        else:
            self._stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        self._stream.flush()
        self._drawn = True

    def _columns(self) -> int:
        """Of the terminal, as wide as it is now; 0 if it does not say."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns
        except OSError:
            return 0

    def close(self) -> None:
        """Take the bar away; lines stay."""
        if self._drawn and self._is_terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


class Teller:
    """Tells a caller's progress how far a restore is, from whatever process."""

    def __init__(self, progress: Callable[[str, int, int | None], None] | None) -> None:
        """If `progress` has `count_rows`, that is told of rows."""
        self._tell: Callable[..., None] = progress or (lambda *_: None)
        self._count: Callable[[int], None] = getattr(progress, "count_rows", lambda count: None)

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        self._tell(phase, done, total)

    def begin(self, phase: str) -> None:
        """A phase of which nobody knows how long it is."""
        self._tell(phase, 0, None)

    def count_rows(self, count: int) -> None:
        self._count(count)

    def pass_on(self, order: Callable[..., None]) -> None:
        """In a process that works for another one: let that one tell its caller."""
        self._tell, self._count = partial(order, "tell"), partial(order, "count_rows")

    @property
    def orders(self) -> dict[str, Callable[..., Any]]:
        """What the process is to do that others pass things on to, by the first word of them."""
        return {"tell": self, "count_rows": self.count_rows}


def describe(
    phase: str, done: int, total: int | None, seconds: float, unit: str, rows: int = 0
) -> str:
    """One line: phase, bar, share, amount; from one unit a second on, speed and time left; where
    rows are counted, so many in a second."""
    scale = 1e6 if unit == "MB" else 1
    speed = done / scale / seconds if seconds else 0.0
    pace = f"  {speed:,.0f} {unit}/s" if speed >= 1 else ""
    row_pace = f"  {rows / seconds:,.0f} rows/s" if rows and seconds else ""
    if not total:
        return f"{phase:<8} {done / scale:,.0f} {unit}{pace}{row_pace}" if done else phase
    # Never 100 %: as long as this is drawn, there is work left.
    share = min(done / total, 0.99)
    full = int(share * BAR_WIDTH)
    bar = "#" * full + "." * (BAR_WIDTH - full)
    digits = 1 if total < scale else 0
    amount = f"{done / scale:,.{digits}f} of {total / scale:,.{digits}f} {unit}"
    is_told = pace or row_pace
    left = f"  {_clock((total - done) / scale / speed)} left" if is_told and done < total else ""
    return f"{phase:<8} [{bar}] {share:4.0%}  {amount}{pace}{row_pace}{left}"


def fitted(line: str, columns: int) -> str:
    """A line for one row of a terminal: what ran over into another would stay there. The bar goes
    first, which the share says, too."""
    if not columns or len(line) < columns:
        return line
    return re.sub(r"\[[#.]*\] +", "", line)[: columns - 1]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
