"""Progress on a terminal and in a log, with a clock of our own."""

from __future__ import annotations

import io
import re

import pytest

from fastnk import progress
from fastnk.progress import Progress, describe, fitted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)
        monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
@pytest.mark.parametrize("before", [0, 5])
def test_work_under_a_second_shows_nothing(
    clock: Clock, kind: type[io.StringIO], before: float
) -> None:
    """However long it took until it began."""
    stream = kind()
    shown = Progress(stream)
    clock.now += before
    for done in range(9):
        clock.now += 0.1
        shown("index", done, 10)
    shown.close()
    assert stream.getvalue() == ""


def test_terminal_redraws_one_line_and_takes_it_away(clock: Clock) -> None:
    stream = Terminal()
    shown = Progress(stream)
    shown("index", 0, 10_000_000)
    clock.now += 2
    shown("index", 5_000_000, 10_000_000)
    shown.close()
    assert stream.getvalue() == (
        "\r\x1b[Kindex    [############............]  50%  5 of 10 MB  2 MB/s  0:02 left\r\x1b[K"
    )


def test_line_stays_in_one_row() -> None:
    line = describe("check", 4_000_000, 9_000_000, 2.0, "MB", 80_000)
    assert line.startswith("check    [##")
    assert [fitted(line, columns) for columns in (0, 86, 85, 20, 1)] == [
        line,
        line,
        line.replace("[##########..............]  ", ""),
        "check    44%  4 of ",
        "",
    ]


def test_dumb_terminal_gets_lines(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    shown = Progress(stream)
    for _ in range(3):
        clock.now += 2
        shown("index", 1, 10)
    assert "\r" not in stream.getvalue()


def test_log_gets_a_line_per_phase_and_every_thirty_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    shown = Progress(stream)
    for second in range(100):
        clock.now += 1
        shown("index" if second < 65 else "splice", second, 100)
    shown.close()
    lines = stream.getvalue().splitlines()
    assert [re.sub(r"^\S+ \S+ (\w+).*", r"\1", line) for line in lines] == [
        "index",
        "index",
        "index",
        "splice",
        "splice",
    ]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w", line) for line in lines)


@pytest.mark.parametrize("done", [999, 1000, 1001])
def test_never_says_100_percent(done: int) -> None:
    line = describe("commit", done, 1000, 5.0, "rows")
    assert " 99%" in line
    assert "left" in line or done >= 1000


def test_without_a_total() -> None:
    assert describe("keys", 3_000_000, None, 2.0, "MB") == "keys     3 MB  2 MB/s"


def test_small_amounts_and_phases_that_read_nothing() -> None:
    assert "0.2 of 0.4 MB" in describe("index", 200_000, 400_000, 1.0, "MB")
    assert describe("constraints", 0, None, 2.0, "MB") == "constraints"


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_rows_are_told_phase_by_phase(clock: Clock, stream: io.StringIO) -> None:
    shown = Progress(stream)
    for phase in ("check", "write"):
        for second in range(70):
            shown(phase, second * 100_000, 10_000_000)
            shown.count_rows(5000)
            clock.now += 1
    lines = re.split(r"[\n\r]", stream.getvalue())
    last = next(line for line in reversed(lines) if "rows/s" in line)
    assert re.search(r"write .* MB  5,0\d\d rows/s  [\d:]+ left$", last)
    first = next(line for line in lines if "write" in line)
    assert "rows/s" not in first


def test_rows_without_a_total() -> None:
    line = describe("write", 3_000_000, None, 2.0, "MB", 50_000)
    assert line == "write    3 MB  2 MB/s  25,000 rows/s"
