"""Reads back what a restore wrote, and compares it with the backup."""

from __future__ import annotations

from fastnk.django.restore.checking import Look, Phases, Task, look_through
from fastnk.django.restore.report import RestoreReport
from fastnk.django.restore.rows import BackupRows, Missing
from fastnk.django.restore.values import comparable
from fastnk.errors import FindingsError, NotRestoredError, Place


def verify(task: Task, look: Look, report: RestoreReport) -> None:
    """Look through the backup again. Raises `NotRestoredError` where the rows are not those that
    the `report` of the first `look` tells of.

    Rows that came in besides are told: nothing says whether a trigger, a receiver of signals or
    another session made them.
    """
    try:
        back, again = look_through(task, Phases())
    except FindingsError as error:
        first = error.findings[0]
        differs = f"{error.total:,} records clash with what is there"
        raise _not_restored(
            f"{differs}, the first: {first.code} {first.what}", first.place
        ) from None
    _refuse_changes(back, report, again)
    _refuse_other_pks(look, back)
    report.further_rows = _further_rows(report, again)


def _refuse_changes(back: Look, report: RestoreReport, again: RestoreReport) -> None:
    missing = again.created + abs(report.records - again.records)
    differing = again.updated + again.kept - report.kept
    if not missing and not differing:
        return
    counts = again.models.items()
    labels = [label for label, one in counts if one.created or one.updated or one.kept]
    raise _not_restored(
        f"{missing:,} records are not there and {differing:,} differ",
        ", ".join(map(back.accounts.what_changes, labels)),
    )


def _refuse_other_pks(look: Look, back: Look) -> None:
    """What tells a row may be something else than its pk."""
    there = {rows.plan.label: rows for rows in back.directory.in_backup}
    moved = {
        rows.plan.label: count
        for rows in look.directory.in_backup
        if rows.keeps_pks and (count := _moved(rows, there[rows.plan.label]))
    }
    if moved:
        differs = f"{sum(moved.values()):,} rows have other pks"
        raise _not_restored(differs, ", ".join(moved))


def _moved(rows: BackupRows, there: BackupRows) -> int:
    """How many rows that have the pk of the backup have another one, read back."""
    return sum(
        old is not None and (pk is Missing.OWN or comparable(pk) == old) and comparable(now) != old
        for pk, now, old in zip(rows.pks, there.pks, there.old_pks, strict=False)
    )


def _further_rows(report: RestoreReport, again: RestoreReport) -> dict[str, int]:
    """As in `RestoreReport`."""
    counts = {
        label: one.unknown_rows - report.models[label].unknown_rows
        for label, one in again.models.items()
    }
    return {label: count for label, count in counts.items() if count > 0}


def _not_restored(differs: str, place: Place | str) -> NotRestoredError:
    return NotRestoredError(
        f"read back, {differs}; everything was rolled back",
        place=place,
        remedy="triggers of the database, or conversions of fields, may change values; where they"
        " should: --exclude app.model.field, or no --verify",
    )
