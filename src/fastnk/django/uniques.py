"""Unique columns, alone or together, that clash although the natural keys do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import CharField, EmailField, Field, Q, SlugField, UniqueConstraint, UUIDField

from fastnk.django import findings as codes
from fastnk.django.batches import Table
from fastnk.django.conditions import UnsupportedError, holds, names_in
from fastnk.django.directory import Directory
from fastnk.django.findings import Findings
from fastnk.django.plan import CalledKey, Plan
from fastnk.django.repeats import Repeats
from fastnk.django.rows import InBackup, Missing, chunks, rows_per_statement
from fastnk.django.values import REFUSALS, as_restored, comparable, converted
from fastnk.django.writing import Change


class Unique(NamedTuple):
    """Columns of one model whose values no two of its rows may have in common."""

    names: tuple[str, ...]
    condition: Q | None = None
    """Of which rows that holds; of all without one."""
    with_nulls: bool = False
    """Whether two nulls are the same."""

    @property
    def needed(self) -> set[str]:
        return {*self.names, *names_in(self.condition)}


class UniqueColumns:
    """Looks at all rows that may change the database, and then again where values repeat."""

    def __init__(self, directory: Directory, findings: Findings, database: str) -> None:
        self._directory = directory
        self._findings = findings
        self._database = database
        self._repeats = Repeats()
        self._uniques: dict[str, list[Unique]] = {}

    def look(self, table: Table, changes: Sequence[Change] | None = None) -> None:
        """Note the rows whose values other rows of the database have. Where all of them exist,
        `changes` says in which of them there will be other values than now."""
        for unique in self._uniques_in(table):
            values = _values(table, unique)
            self._repeats.add((table.plan.label, unique), values)
            if changes is not None:
                new = {one.row.number for one in changes if unique.needed & one.columns.keys()}
                pairs = zip(table.numbers, values, strict=True)
                values = [value if number in new else None for number, value in pairs]
            if any(values) and not self._directory.existing(table.plan).is_empty:
                self._compare(table, unique, values)

    def find_repeated(self) -> bool:
        """Whether values may stand twice in the backup; `look_again` then tells which."""
        return self._repeats.settle()

    def look_again(self, table: Table) -> None:
        """Note the records that have values in common."""
        for unique in self._uniques_in(table):
            kind = (table.plan.label, unique)
            for number, value in zip(table.numbers, _values(table, unique), strict=True):
                record = table.rows.record_numbers[number]
                first = self._repeats.earlier(kind, value, record)
                if first is not None:
                    self._note(table, number, unique, f"record {first} has", value)

    def _uniques_in(self, table: Table) -> Iterator[Unique]:
        """What must be unique in a table; where a record lacks a column the database decides."""
        label = table.plan.label
        if label not in self._uniques:
            self._uniques[label] = list(uniques_of(table.plan))
        return (one for one in self._uniques[label] if one.needed <= table.columns.keys())

    def _compare(self, table: Table, unique: Unique, values: Sequence[Any]) -> None:
        """Note the rows whose values a row of the database has that is another one."""
        owners = self._owners(table.plan, unique, values)
        for number, value in zip(table.numbers, values, strict=True):
            owner = owners.get(value)
            if owner is not None and owner != comparable(table.rows.pks[number]):
                what = "another row of the database has"
                self._note(table, number, unique, what, value)

    def _owners(self, plan: Plan, unique: Unique, values: Sequence[Any]) -> dict[Any, Any]:
        """By values: the comparable pk of the row of the database that has them."""
        fields = [plan.columns[name].field for name in unique.names]
        columns = [field.attname for field in fields]
        query = self._directory.existing(plan).query.filter(unique.condition or Q())
        known = [value for value in values if value is not None and not _has_new(value)]
        # Of several columns one narrows down which rows are looked at: that with most values.
        spread = [{parts[at] for parts in known} - {None} for at in range(len(columns))]
        at = max(range(len(columns)), key=lambda at: len(spread[at]))
        owners = {}
        for chunk in chunks(spread[at], rows_per_statement(plan, self._database)):
            rows = query.filter(**{f"{columns[at]}__in": chunk}).values_list("pk", *columns)
            for pk, *held in rows:
                owners[tuple(map(comparable, map(as_restored, fields, held)))] = comparable(pk)
        return owners

    def _note(self, table: Table, number: int, unique: Unique, who: str, values: Any) -> None:
        is_one = len(unique.names) == 1
        what = "this value, and the column is" if is_one else "these values, which are together"
        value: Any = values[0] if is_one else list(values)
        self._findings.add(
            codes.UNIQUE,
            f"{who} {what} unique",
            record=table.rows.record_numbers[number],
            model=table.plan.label,
            field=", ".join(unique.names),
            value=... if _has_new(values) else value,
        )


def uniques_of(plan: Plan) -> Iterator[Unique]:
    """What must be unique and is not already told by the pk or the natural key."""
    has_parts = plan.key is not None and not isinstance(plan.key, CalledKey)
    key = {part.path[0] for part in plan.key.parts} if has_parts and plan.key else None
    for unique in dict.fromkeys(_declared(plan.model)):
        is_known = unique.needed <= plan.columns.keys() and plan.pk.name not in unique.names
        if is_known and not (key and key.issubset(unique.names)):
            yield unique


def _declared(model: Any) -> Iterator[Unique]:
    """What the model's own table declares to be unique, but for expressions."""
    for field in model._meta.local_concrete_fields:
        if field.unique and not field.primary_key:
            yield Unique((field.name,))
    for names in model._meta.unique_together:
        yield Unique(tuple(names))
    for constraint in model._meta.constraints:
        if isinstance(constraint, UniqueConstraint) and constraint.fields:
            with_nulls = getattr(constraint, "nulls_distinct", None) is False
            yield Unique(tuple(constraint.fields), constraint.condition, with_nulls)


def _values(table: Table, unique: Unique) -> Sequence[Any]:
    """Of each row its comparable values; `None` where they need not be unique, or are not known."""
    columns = [_column(table, name) for name in unique.names]
    ignored = {Missing.VALUE} if unique.with_nulls else {Missing.VALUE, None}
    rows: list[Any] = [
        None if any(value in ignored for value in row) else row
        for row in zip(*columns, strict=True)
    ]
    if unique.condition is None:
        return rows
    return [row if _is_meant(table, unique.condition, at) else None for at, row in enumerate(rows)]


def _is_meant(table: Table, condition: Q, at: int) -> bool:
    """Whether a row is one for which the constraint holds; not, if only the database can tell."""
    try:
        return holds(condition, table, at) is True
    except UnsupportedError:
        return False


def _column(table: Table, name: str) -> Sequence[Any]:
    """The comparable values of a column; rows that are new stand for their pks."""
    field, values = table.plan.columns[name].field, table.columns[name]
    if set(map(type, values)) <= _COMPARABLE.get(type(field), set()):
        return values
    return [_comparable(field, value) for value in values]


def _comparable(field: Field[Any, Any], value: Any) -> Any:
    if value is None or isinstance(value, Missing | InBackup):
        return Missing.VALUE if isinstance(value, Missing) else value
    try:
        return comparable(converted(field, value))
    except REFUSALS:
        return Missing.VALUE  # noted already


def _has_new(values: Sequence[Any]) -> bool:
    return any(isinstance(value, InBackup) for value in values)


_COMPARABLE: dict[Any, set[type]] = {
    CharField: {str, type(None)},
    EmailField: {str, type(None)},
    SlugField: {str, type(None)},
    UUIDField: {UUID, type(None)},
}
"""The types of values that are comparable as they are."""
