"""What verbs say, and where it goes: stdout is data, stderr is talk."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from fastnk.errors import (
    MAX_SHOWN,
    FastnkError,
    FindingsError,
    OutputError,
    UnexpectedError,
    shorten,
)

MAX_CELL = 1000
"""Characters of a cell in a table."""
LOSS = 3
"""The exit code of what is done, but not complete."""


class Outcome(NamedTuple):
    """What a verb has to say."""

    data: Any
    """For `--json`: anything that msgspec writes."""
    text: str
    """For people."""
    next_command: Sequence[str] = ()
    """The words that stand behind `fastnk` in the command to go on with."""
    exit_code: int = 0
    takes_stdout: bool = False
    """Whether standard output is the product, so that the text goes to standard error."""


def failed(error: FastnkError) -> Outcome:
    """What a verb that raised this error has to say to programs."""
    return Outcome({"error": error.as_dict()}, "", exit_code=error.exit_code)


def expected(error: Exception, option: str) -> FastnkError:
    """The error itself, or for one that nobody meant to raise what is said of it. `option` shows
    its traceback."""
    if isinstance(error, FastnkError):
        return error
    import traceback

    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = " ".join("".join(traceback.format_exception_only(error)).split())
    remedy = (
        f"{option} shows how that came about; please report it if the fault is not your project's"
    )
    if isinstance(error, MemoryError):
        what, remedy = "there is not enough memory", "--memory-limit, where the verb has it"
    place = f"{frame.filename}, line {frame.lineno}"
    unexpected = UnexpectedError(what, place=place, remedy=remedy)
    unexpected.__cause__ = error
    return unexpected


def told(error: FastnkError, options: argparse.Namespace) -> str:
    """What people are told of an error, and of where all of it is."""
    if not isinstance(error, FindingsError) or error.total <= len(error.findings[:MAX_SHOWN]):
        return str(error)
    kept = len(error.findings)
    which = "all of them" if kept == error.total else f"{kept:,} of them"
    report = getattr(options, "report", None)
    where = f"{which} are in {report}" if report else f"--report FILE lists {which}"
    return f"{error}\n  {where}"


def written_report(options: argparse.Namespace, outcome: Outcome) -> Outcome:
    """Write the report where it was asked for; a report that cannot be written is a failure."""
    path = getattr(options, "report", None)
    if path is None:
        return outcome
    try:
        Path(path).write_bytes(document(outcome))
    except OSError as error:
        talk(str(OutputError(f"cannot write the report {path}: {error.strerror}")))
        return outcome._replace(exit_code=outcome.exit_code or OutputError.exit_code)
    return outcome


def document(outcome: Outcome) -> bytes:
    """What `--json` shows. What of a file's name is no text becomes JSON's escapes."""
    import json

    import msgspec

    text = json.dumps(msgspec.to_builtins(outcome.data), ensure_ascii=False, indent=2)
    return text.encode(errors="backslashreplace") + b"\n"


def show(
    outcome: Outcome, as_json: bool, stdout: TextIO | None = None, program: str = "fastnk "
) -> None:
    """The one place that writes reports to standard output. Raises `OutputError`.

    `program` is what stands in front of the verb in a command.
    """
    try:
        _write(outcome, as_json, sys.stderr if outcome.takes_stdout else stdout or sys.stdout)
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"done, but standard output takes no report: {reason}") from error
    if outcome.next_command and not (as_json or outcome.takes_stdout):
        talk(f"next: {program}{shlex.join(outcome.next_command)}")


def _write(outcome: Outcome, as_json: bool, stream: TextIO) -> None:
    if as_json:
        stream.flush()
        if hasattr(stream, "buffer"):
            stream.buffer.write(document(outcome))  # UTF-8, whatever the terminal takes
        else:
            stream.write(document(outcome).decode())
    elif outcome.text:
        stream.write(f"{outcome.text}\n")
    stream.flush()


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a table: text to the left, numbers to the right, nothing cut that fits on a page."""
    cells = [
        [f"{c:,}" if isinstance(c, int) else shorten(str(c), MAX_CELL) for c in row] for row in rows
    ]
    columns = list(zip(head, *cells, strict=True))
    aligned = [
        [cell.rjust(width) if is_number else cell.ljust(width) for cell in column]
        for column in columns
        for width in [max(map(len, column))]
        for is_number in [all(re.fullmatch(r"[\d,.]*%?", cell) for cell in column[1:])]
    ]
    return ["  " + "  ".join(row).rstrip() for row in zip(*aligned, strict=True)]


def talk(text: str) -> None:
    print(text, file=sys.stderr)


def ids_left_lines(left: list[str]) -> list[str]:
    """What is said of fields in which ids would have become keys with `--embedded`."""
    return [f"  the ids in {', '.join(left)} stay as they are without --embedded"] if left else []


def dropped_lines(dropped: int) -> list[str]:
    """What is said of so many records that a conversion leaves out."""
    return [f"  left out: {dropped:,} records"] if dropped else []


def generic_lines(kept: int) -> list[str]:
    """What is said of so many generic references that lead nowhere."""
    return [f"  generic references that keep their ids: {kept:,}"] if kept else []
