"""What columns of new rows hold of which the records of the backup say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from django.utils import timezone
from msgspec import UNSET

from fastnk.django.refusals import refusal
from fastnk.django.restore import findings as codes
from fastnk.django.restore.batches import Table
from fastnk.django.restore.columns import takes_null
from fastnk.django.restore.directory import UNSOLVED, Directory, Row
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.natural_keys import KeyShapeError
from fastnk.django.restore.plan import Column, PkKind, Plan, UnknownModelError, is_time_of_writing
from fastnk.django.restore.plans import Plans
from fastnk.django.restore.rows import NEW, Missing
from fastnk.django.restore.values import REFUSALS, as_text, converted, refuse_unfit
from fastnk.errors import RestoreError, UsageError, did_you_mean


def refuse_unfit_defaults(plans: Plans, connection: Any) -> None:
    """Raise `UsageError` for a default that is declared for what is no field, or that it does not
    take."""
    for path, value in plans.defaults.items():
        label, _, name = path.rpartition(".")
        try:
            plan = plans[label]
            if name not in plan.columns or name == plan.pk.name or plan.label != label:
                hint = "" if name in plan.columns else did_you_mean(name, plan.columns)
                raise UsageError(
                    f"{label} has no field {name} of its own that can have a default{hint}"
                )
            if name in plan.identifying:
                raise UsageError(f"{path} tells which row a record is, so no default can")
            column = plan.columns[name]
            if value is None and not takes_null(column.field, connection):
                raise UsageError(f"{path} takes no null")
            if column.reference is None:
                refuse_unfit(column.field, converted(column.field, value), connection)
            elif isinstance(value, list):
                _refuse_unfit_key(plans[column.reference.target], value)
            elif isinstance(value, bool):  # which Python takes for the ids 1 and 0
                target = column.reference.target
                raise ValueError(f"it refers to {target}: the natural key of a row, or its id")
        except (UnknownModelError, KeyShapeError, *REFUSALS) as error:
            raise _unfit(path, value, error) from None


def _refuse_unfit_key(plan: Plan, value: list[Any]) -> None:
    """Raise a refusal or `KeyShapeError` for what cannot be a natural key of a model."""
    if plan.spelled_key is None:
        raise ValueError(f"{plan.label} has no natural key in the schema")
    plan.spelled_key.read(value)


def refuse_dangling_defaults(directory: Directory) -> None:
    """The same for one that refers to nothing. To be asked once all rows are known."""
    for path, value in directory.plans.defaults.items():
        label, _, name = path.rpartition(".")
        try:
            _declared(directory, directory.plans[label].columns[name])
        except UNSOLVED as error:
            raise _unfit(path, value, error) from None


def note_dangling_defaults(
    directory: Directory, defaulting: Mapping[tuple[str, str], int], findings: Findings
) -> None:
    """Note the project's own defaults that refer to no row, by the first records with new rows that
    have them, as `Accounts` gathers these. To be asked once it is known which rows are new."""
    for (label, name), record in defaulting.items():
        column = directory.plans[label].columns[name]
        reference = column.reference
        is_own = column.default is UNSET and is_constant(column)
        if not (is_own and reference and getattr(column.field, "db_constraint", False)):
            continue
        value = default_of(column.field)
        if reference.to_field is None and not _may_have(directory, reference.target, value):
            findings.add(
                codes.REFUSED_VALUE,
                f"the record does not say it, and its default refers to no row of"
                f" {reference.target}{codes.DECLARABLE}",
                record=record,
                model=label,
                field=name,
                value=value,
            )


def _may_have(directory: Directory, label: str, pk: Any) -> bool:
    """Whether a model has a row with this pk in the target, or a new one may get it."""
    try:
        plan = directory.plans[label]
        rows, wanted = directory.rows_of(plan), plan.pk_value(pk)
    except (UnknownModelError, *REFUSALS):
        return True  # the database will tell
    if wanted in directory.existing(plan).pks:
        return True
    if plan.pk_kind is PkKind.OWN:
        return rows.number_of_old_pk(wanted) is not None
    return any(map(rows.fates.count, NEW))


def defaults_of(directory: Directory, plan: Plan, name: str, count: int) -> list[Any]:
    """A column of so many new rows of which the records say nothing; all pks are known.

    Raises `RestoreError` where the project's own default fails.
    """
    column = plan.columns[name]
    if column.default is not UNSET:
        return [_declared(directory, column)] * count
    try:
        return [default_of(column.field) for _ in range(count)]
    except Exception as error:
        raise RestoreError(
            f"records do not say {plan.label}.{name}, and its default fails: {refusal(error)};"
            " everything was rolled back",
            remedy=f"--default {plan.label}.{name}=VALUE declares one",
        ) from error


def with_defaults(directory: Directory, table: Table) -> Table:
    """A table of new rows with the columns that it lacks, as far as all rows will hold the same.

    A relation to a row that will be new holds that row.
    """
    columns = dict(table.columns)
    for name in table.unsaid:
        column = table.plan.columns[name]
        if is_constant(column):
            with suppress(*UNSOLVED):  # of a row that the survey is still to meet
                columns[name] = [_constant(directory, column)] * len(table.numbers)
    return table._replace(columns=columns)


def is_made_up(column: Column) -> bool:
    """Whether a new row of which the record says nothing holds something all the same, or lacks
    what the project asks for."""
    if not is_constant(column):
        return True
    default = told_default(column)
    return default is not None and not (default == "" and column.field.blank)


def is_constant(column: Column) -> bool:
    """Whether all new rows of which the records say nothing hold the same."""
    field = column.field
    is_called = field.has_default() and callable(field.default)
    is_made = is_called or getattr(field, "has_db_default", bool)()
    return column.default is not UNSET or not (is_made or is_time_of_writing(field))


def told_default(column: Column) -> Any:
    """The default of a constant column as a report tells it."""
    return default_of(column.field) if column.default is UNSET else column.default


def default_of(field: Any) -> Any:
    """What a column of a new row holds by the project's own default."""
    if is_time_of_writing(field):
        return field.to_python(timezone.now())
    return field.get_default()


def _constant(directory: Directory, column: Column) -> Any:
    return default_of(column.field) if column.default is UNSET else _declared(directory, column)


def _declared(directory: Directory, column: Column) -> Any:
    """What a column holds by a default that is declared, a row whose pk is still to be reserved
    itself. Raises one of `UNSOLVED`."""
    if column.reference is None or column.default is None:
        return converted(column.field, column.default)
    held = directory.held(directory.find(column.reference, column.default), column.reference)
    if not isinstance(held, Row):
        return held
    return held if isinstance(held.pk, Missing) else converted(column.field, held.pk)


def _unfit(path: str, value: Any, error: Exception) -> UsageError:
    why = str(error) if isinstance(error, UnknownModelError) else refusal(error)
    return UsageError(
        f"the default {as_text(value)} for {path}: {why}",
        remedy="a value as a backup has it: --default app.model.field=VALUE",
    )
