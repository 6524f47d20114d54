"""Unique columns that clash although the natural keys do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from django.db.models import CharField, EmailField, Field, SlugField, UUIDField

from fastnk.django import findings as codes
from fastnk.django.batches import Table
from fastnk.django.directory import Directory
from fastnk.django.findings import Findings
from fastnk.django.plan import Plan
from fastnk.django.repeats import Repeats
from fastnk.django.rows import Missing, chunks, rows_per_statement
from fastnk.django.values import REFUSALS, comparable, converted


class UniqueColumns:
    """Looks at all rows that may change the database, and then again where values repeat."""

    def __init__(self, directory: Directory, findings: Findings, database: str) -> None:
        self._directory = directory
        self._findings = findings
        self._database = database
        self._repeats = Repeats()

    def look(self, table: Table) -> None:
        """Note the rows whose values other rows of the database have."""
        for name, field in _unique_columns(table.plan):
            if name in table.columns:
                values = _values(field, table.columns[name])
                self._repeats.add((table.plan.label, name), values)
                if not self._directory.existing(table.plan).is_empty:
                    self._compare(table, name, values)

    def find_repeated(self) -> bool:
        """Whether values may stand twice in the backup; `look_again` then tells which."""
        return self._repeats.settle()

    def look_again(self, table: Table) -> None:
        """Note the records that have a value in common."""
        for name, field in _unique_columns(table.plan):
            if name not in table.columns:
                continue
            values = _values(field, table.columns[name])
            for number, value in zip(table.numbers, values, strict=True):
                record = table.rows.record_numbers[number]
                first = self._repeats.earlier((table.plan.label, name), value, record)
                if first is not None:
                    what = f"record {first} has the same value, and the column is unique"
                    self._note(table, number, name, what, value)

    def _compare(self, table: Table, name: str, values: Sequence[Any]) -> None:
        plan = table.plan
        query = self._directory.existing(plan).query
        owners = {}
        wanted = [value for value in values if value is not None]
        for chunk in chunks(wanted, rows_per_statement(plan, self._database)):
            rows = query.filter(**{f"{name}__in": chunk}).values_list(name, "pk")
            owners.update({comparable(value): comparable(pk) for value, pk in rows})
        for number, value in zip(table.numbers, values, strict=True):
            owner = owners.get(value)
            if owner is not None and owner != comparable(table.rows.pks[number]):
                what = "a row with another natural key has this value, and the column is unique"
                self._note(table, number, name, what, value)

    def _note(self, table: Table, number: int, name: str, what: str, value: Any) -> None:
        self._findings.add(
            codes.UNIQUE,
            what,
            record=table.rows.record_numbers[number],
            model=table.plan.label,
            field=name,
            value=value,
        )


def _unique_columns(plan: Plan) -> Iterator[tuple[str, Field[Any, Any]]]:
    """The columns that are unique and not already told by the key: plain ones beside the pk."""
    paths = [part.path for part in plan.key.parts] if plan.key else []
    for name, column in plan.columns.items():
        field = column.field
        is_key = paths == [(name,)]
        if field.unique and not (field.primary_key or is_key or column.reference):
            yield name, field


def _values(field: Field[Any, Any], values: Sequence[Any]) -> Sequence[Any]:
    """Comparable values; `None` for what is none, or not known yet."""
    if set(map(type, values)) <= _COMPARABLE.get(type(field), set()):
        return values
    return [_comparable(field, value) for value in values]


def _comparable(field: Field[Any, Any], value: Any) -> Any:
    try:
        return None if isinstance(value, Missing) else comparable(converted(field, value))
    except REFUSALS:
        return None  # noted already


_COMPARABLE: dict[Any, set[type]] = {
    CharField: {str, type(None)},
    EmailField: {str, type(None)},
    SlugField: {str, type(None)},
    UUIDField: {UUID, type(None)},
}
"""The types of values that are comparable as they are."""
