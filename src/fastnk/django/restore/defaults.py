"""What columns of new rows hold of which the records of the backup say nothing."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from fastnk.django.refusals import refusal
from fastnk.django.restore.batches import Table
from fastnk.django.restore.plan import Plan
from fastnk.errors import RestoreError


def default_of(field: Any) -> Any:
    """What a column of a new row holds that the record does not have."""
    if _is_time_of_writing(field):
        return field.to_python(timezone.now())
    return field.get_default()


def defaults_of(plan: Plan, name: str, count: int) -> list[Any]:
    """What a column of so many new rows holds of which the records say nothing.

    Raises `RestoreError` where the project's own default fails.
    """
    field = plan.columns[name].field
    try:
        return [default_of(field) for _ in range(count)]
    except Exception as error:
        raise RestoreError(
            f"records do not say {plan.label}.{name}, and its default fails: {refusal(error)};"
            " everything was rolled back",
            remedy="put values into the records, or see to what the default needs",
        ) from error


def with_defaults(table: Table) -> Table:
    """A table of new rows with the columns that it lacks, as far as all rows will hold the same."""
    fields = {name: table.plan.columns[name].field for name in table.unsaid}
    unsaid = {
        name: [default_of(field)] * len(table.numbers)
        for name, field in fields.items()
        if is_constant(field)
    }
    return table._replace(columns=table.columns | unsaid)


def is_made_up(field: Any) -> bool:
    """Whether a new row of which the record says nothing holds something all the same, or lacks
    what the project asks for."""
    if not is_constant(field):
        return True
    default = default_of(field)
    return default is not None and not (default == "" and field.blank)


def is_constant(field: Any) -> bool:
    """Whether all new rows of which the records say nothing hold the same."""
    is_called = field.has_default() and callable(field.default)
    is_made = is_called or getattr(field, "has_db_default", bool)()
    return not (is_made or _is_time_of_writing(field))


def _is_time_of_writing(field: Any) -> bool:
    return getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)
