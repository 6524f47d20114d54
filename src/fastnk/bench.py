"""What converting a backup costs on this machine, beside a plain copy of the same file."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from fastnk.convert import ConversionReport, LegacyBackupConverter
from fastnk.detect import BackupFormatDetector
from fastnk.errors import BackupSyntaxError, OutputError, SourceError, UsageError
from fastnk.schema import Schema

RESTORE_RATES = (1_000, 10_000, 30_000)
"""Rows per second that a database may take: row by row through an ORM, many at once, in bulk."""

WHOLE_FILE = ("index", "splice", "write", "commit", "copy", "copy, on disk")
"""What goes through all of the file, so that it has a speed."""

READ_BYTES = 1 << 20


class Timing(msgspec.Struct, frozen=True):
    """A part of the work, or a copy, as the median of the runs."""

    name: str
    seconds: float
    mb_per_second: float | None
    """`None` for a part that does not go through all of the file."""
    share: float
    """Of the seconds of the conversion."""


class RestoreShare(msgspec.Struct, frozen=True):
    """What the conversion adds to a restore into a database that takes this many rows."""

    rows_per_second: float
    seconds: float
    """The whole restore, detection and conversion included."""
    conversion_share: float
    """Of detection and conversion."""


class BenchReport(msgspec.Struct, frozen=True):
    """What a conversion costs, and what that is beside a copy and beside a restore."""

    backup: str
    folder: str
    runs: int
    bytes: int
    records: int
    seconds: float
    """The conversion, which is the phases without the detection."""
    phases: list[Timing]
    copies: list[Timing]
    """To the same folder: until the system has taken the bytes over, and until the disk has."""
    key_map_bytes: int
    restores: list[RestoreShare]


def bench(
    backup: str | os.PathLike[str],
    schema: Schema | str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    runs: int = 3,
    restore_rates: Sequence[float] = RESTORE_RATES,
    **options: Any,
) -> BenchReport:
    """Convert `backup` into a temporary file in `folder`, which is its own folder without it, and
    copy it there, `runs` times in turn. Nothing is left behind.

    The options are those of `LegacyBackupConverter`, and what it raises is raised here.
    """
    if runs < 1:
        raise UsageError(f"{runs} runs measure nothing", remedy="1 or more")
    if not all(rate > 0 for rate in restore_rates):
        raise UsageError("a restore rate is a number of rows per second above 0")
    schema = schema if isinstance(schema, Schema) else Schema.load(schema)
    converter = LegacyBackupConverter(schema, **options)
    backup, folder = Path(backup), Path(backup).parent if folder is None else Path(folder)
    _read(backup)  # so that no run finds the file in the cache and another one does not
    phases: list[dict[str, float]] = []
    copies: list[dict[str, float]] = []
    for _ in range(runs):
        with _Scratch(folder) as scratch:
            copies.append(_copy(backup, scratch / backup.name))
        with _Scratch(folder) as scratch:
            detection = _seconds(lambda: _detect(backup, schema))
            report = converter.convert_to_natural_keys(backup, scratch / backup.name)
            phases.append({"detect": detection, **report.seconds})
    return _report(backup, folder, phases, copies, report, restore_rates)


class _Scratch:
    """A folder inside `folder` that is gone in the end, with what is in it."""

    def __init__(self, folder: Path) -> None:
        try:
            self._folder = tempfile.TemporaryDirectory(prefix=".fastnk-bench-", dir=folder)
        except OSError as error:
            raise OutputError(
                f"cannot write to {folder}: {error.strerror}", remedy="--folder names another one"
            ) from error

    def __enter__(self) -> Path:
        return Path(self._folder.name)

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def _read(backup: Path) -> None:
    if backup.exists() and not backup.is_file():
        raise UsageError(f"{backup} is no file, which can be read again", remedy="save it to one")
    try:
        with backup.open("rb", buffering=0) as stream:
            while stream.read(READ_BYTES):
                pass
    except OSError as error:
        raise SourceError(f"cannot read {backup}: {error.strerror}") from error


def _detect(backup: Path, schema: Schema) -> None:
    with contextlib.suppress(BackupSyntaxError):  # the conversion says whether that matters
        BackupFormatDetector(schema).detect_format(backup)


def _copy(backup: Path, copy: Path) -> dict[str, float]:
    try:
        copied = _seconds(lambda: shutil.copyfile(backup, copy))
        with copy.open("rb+") as stream:
            synced = _seconds(lambda: os.fsync(stream.fileno()))
    except OSError as error:
        raise OutputError(f"cannot copy {backup} to {copy.parent}: {error.strerror}") from error
    return {"copy": copied, "copy, on disk": copied + synced}


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _report(
    backup: Path,
    folder: Path,
    phases: list[dict[str, float]],
    copies: list[dict[str, float]],
    conversion: ConversionReport,
    restore_rates: Sequence[float],
) -> BenchReport:
    records = conversion.records
    seconds = median(sum(run.values()) - run["detect"] for run in phases)
    with_detection = median(sum(run.values()) for run in phases)

    def timings(runs: list[dict[str, float]], size: int) -> list[Timing]:
        middle = {name: median(run[name] for run in runs) for name in runs[0]}
        return [
            Timing(name, taken, size / 1e6 / taken if name in WHOLE_FILE else None, taken / seconds)
            for name, taken in middle.items()
        ]

    def restore(rate: float) -> RestoreShare:
        whole = with_detection + records / rate
        return RestoreShare(rate, whole, with_detection / whole)

    return BenchReport(
        backup=str(backup),
        folder=str(folder),
        runs=len(phases),
        bytes=conversion.bytes_read,
        records=records,
        seconds=seconds,
        phases=timings(phases, conversion.bytes_read),
        copies=timings(copies, backup.stat().st_size),
        key_map_bytes=conversion.key_map_bytes,
        restores=[restore(rate) for rate in restore_rates],
    )
