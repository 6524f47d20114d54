"""Unique columns, alone or together, that clash although the natural keys do not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from django.db.models import Field, Q

from fastnk.django.restore import findings as codes
from fastnk.django.restore.batches import Table
from fastnk.django.restore.conditions import UnsupportedError, holds, names_in
from fastnk.django.restore.directory import Directory
from fastnk.django.restore.distinct import Unique
from fastnk.django.restore.engines.base import Engine
from fastnk.django.restore.existing import rows_per_statement
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.natural_keys import CalledKey
from fastnk.django.restore.plan import PkKind, Plan
from fastnk.django.restore.repeats import Hashes, Repeats, hashes_of
from fastnk.django.restore.rows import InBackup, Missing
from fastnk.django.restore.statements import chunks
from fastnk.django.restore.values import (
    REFUSALS,
    TEXTS,
    are_comparable,
    as_restored,
    comparable,
    converted,
    of_comparable,
    or_null,
)
from fastnk.django.restore.writing import Change

Merge = Callable[[Sequence[Any]], Sequence[Any]]


class UniqueColumns:
    """Looks at all rows that may change the database, and then again where values repeat."""

    def __init__(self, directory: Directory, findings: Findings, engine: Engine) -> None:
        self._directory = directory
        self._findings = findings
        self._engine = engine
        self._merges: dict[tuple[str, str], Merge | None] = {}
        self._repeats = Repeats()
        self._uniques: dict[str, list[Unique]] = {}

    def look(self, table: Table, changes: Sequence[Change] | None = None) -> None:
        """Note the rows whose values other rows of the database have. Where all of them exist,
        `changes` says in which of them there will be other values than now."""
        for unique in self._uniques_in(table):
            values = self._values(table, unique)
            self._repeats.add((table.plan.label, unique), hashes_of(values))
            if changes is not None:
                names = needed(unique)
                new = {one.row.number for one in changes if names & one.columns.keys()}
                pairs = zip(table.numbers, values, strict=True)
                values = [value if number in new else None for number, value in pairs]
            if any(values) and not self._directory.existing(table.plan).is_empty:
                self._compare(table, unique, values)

    def hashes(self, table: Table) -> dict[Unique, Hashes]:
        """What `add` takes of new rows of an empty table."""
        return {one: hashes_of(self._values(table, one)) for one in self._uniques_in(table)}

    def add(self, label: str, hashes: Mapping[Unique, Hashes]) -> None:
        """Take in what there is to look at in new rows of an empty table."""
        for unique, some in hashes.items():
            self._repeats.add((label, unique), some)

    def find_repeated(self) -> bool:
        """Whether values may stand twice in the backup; `look_again` then tells which."""
        return self._repeats.settle()

    def look_again(self, table: Table) -> None:
        """Note the records that have values in common."""
        for unique in self._uniques_in(table):
            kind = (table.plan.label, unique)
            for number, value in zip(table.numbers, self._values(table, unique), strict=True):
                record = table.rows.record_numbers[number]
                found = self._repeats.earlier(kind, value, record)
                if found is None:
                    continue
                first, spelled = found
                if not unique.is_told or [*map(str, spelled)] != [*map(str, value)]:
                    self._note(table, number, unique, "another record has", value, first)

    def _uniques_in(self, table: Table) -> Iterator[Unique]:
        """What must be unique in a table; where it lacks a column the database decides."""
        pk = (table.plan.pk.name,)
        uniques = self.of(table.plan)
        return (one for one in uniques if one.names == pk or needed(one) <= table.columns.keys())

    def of(self, plan: Plan) -> list[Unique]:
        """What must be unique of a model's rows beyond what tells them apart."""
        if plan.label not in self._uniques:
            self._uniques[plan.label] = list(self._uniques_of(plan))
        return self._uniques[plan.label]

    def _uniques_of(self, plan: Plan) -> Iterator[Unique]:
        """What must be unique and is not already told by the pk or the natural key.

        They tell rows apart letter by letter, which columns whose texts merge do not.
        """
        has_parts = plan.key is not None and not isinstance(plan.key, CalledKey)
        key = {part.path[0] for part in plan.key.parts} if has_parts and plan.key else set()
        if plan.pk_kind is PkKind.OWN and self._merge(plan.pk):
            yield Unique((plan.pk.name,), is_told=True)
        for unique in filter(self._is_kept, plan.uniques):
            if not needed(unique) <= plan.columns.keys():
                continue
            is_told = bool(key) and key.issubset(unique.names)
            if not is_told or any(self._merge(plan.columns[name].field) for name in unique.names):
                yield unique._replace(is_told=is_told)

    def _is_kept(self, unique: Unique) -> bool:
        """Whether the database keeps that unique."""
        features = self._engine.connection.features
        return (unique.condition is None or features.supports_partial_indexes) and (
            not unique.with_nulls or features.supports_nulls_distinct_unique_constraints
        )

    def _merge(self, field: Field[Any, Any]) -> Merge | None:
        """What makes the texts of a column equal that the database holds for the same."""
        column = field.model._meta.db_table, field.column
        if column not in self._merges:
            is_text = field.get_internal_type() in TEXTS
            self._merges[column] = self._engine.merges(field) if is_text else None
        return self._merges[column]

    def _values(self, table: Table, unique: Unique) -> Sequence[Any]:
        """Of each row its values, equal where the database takes them for the same; `None` where
        they need not be unique, or are not known."""
        columns = [self._column(table, name) for name in unique.names]
        rows: list[Any] = list(zip(*columns, strict=True))
        if not {Missing, type(None)}.isdisjoint(map(type, itertools.chain.from_iterable(rows))):
            ignored = {Missing.VALUE} if unique.with_nulls else {Missing.VALUE, None}
            rows = [None if any(value in ignored for value in row) else row for row in rows]
        if unique.condition is None:
            return rows
        is_meant = partial(_is_meant, table, unique.condition)
        return [row if is_meant(at) else None for at, row in enumerate(rows)]

    def _column(self, table: Table, name: str) -> Sequence[Any]:
        merge = self._merge(table.plan.columns[name].field)
        values = _column(table, name)
        return merge(values) if merge else values

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
        owners: dict[Any, Any] = {}
        most = rows_per_statement(plan, self._engine.connection.alias)
        asked = self._engine.askable(fields[at], list(map(of_comparable, spread[at])))
        for chunk in chunks(asked, most):
            rows = query.filter(**{f"{columns[at]}__in": chunk}).values_list("pk", *columns)
            pks, *held = zip(*rows, strict=True) if rows else ((),) * (1 + len(columns))
            merged = [
                merge(values) if (merge := self._merge(field)) else _held(field, values)
                for field, values in zip(fields, held, strict=True)
            ]
            owners.update(zip(zip(*merged, strict=True), map(comparable, pks), strict=True))
        return owners

    def _note(
        self,
        table: Table,
        number: int,
        unique: Unique,
        who: str,
        values: Any,
        other_record: int | None = None,
    ) -> None:
        is_one = len(unique.names) == 1
        what = "this value, and the column is" if is_one else "these values, which are together"
        value: Any = of_comparable(values[0] if is_one else values)
        unsaid = ", ".join(name for name in unique.names if name in table.unsaid)
        why = f": the backup does not say {unsaid}, and the default is the same for all"
        self._findings.add(
            codes.UNIQUE,
            f"{who} {what} unique{why if unsaid else ''}",
            record=table.rows.record_numbers[number],
            model=table.plan.label,
            field=", ".join(unique.names),
            value=... if _has_new(values) else value,
            other_record=other_record,
        )


def unique_values(row: Table, held: Mapping[str, Any]) -> list[tuple[Any, ...] | None]:
    """What the one row of a table holds in columns, alone or together, in which no other one holds
    the same; but for its pk. `None` where not all of it is known, or other rows may."""
    return [
        None
        if None in values or (condition is not None and not _is_meant(row, condition, 0))
        else values
        for names, condition, *_ in row.plan.uniques
        for values in [tuple(map(held.get, names))]
    ]


def needed(unique: Unique) -> set[str]:
    """The columns that tell whether a row has the same as another."""
    return {*unique.names, *names_in(unique.condition)}


def _is_meant(table: Table, condition: Q, at: int) -> bool:
    """Whether a row is one for which the constraint holds; not, if only the database can tell."""
    try:
        return holds(condition, table, at) is True
    except UnsupportedError:
        return False


def _column(table: Table, name: str) -> Sequence[Any]:
    """The comparable values of a column; rows that are new stand for their pks."""
    field = table.plan.columns[name].field
    values = _pks(table) if name == table.plan.pk.name else table.columns[name]
    if are_comparable(field, values):
        return values
    return [_comparable(field, value) for value in values]


def _pks(table: Table) -> Sequence[Any]:
    """The pks that records bring along."""
    pks = table.rows.pks_of(table.numbers)
    if Missing.OWN in pks:
        pairs = zip(pks, table.old_pks, strict=True)
        return [old if pk is Missing.OWN else pk for pk, old in pairs]
    return pks


def _comparable(field: Field[Any, Any], value: Any) -> Any:
    if value is None or isinstance(value, Missing | InBackup):
        return Missing.VALUE if isinstance(value, Missing) else value
    try:
        return comparable(or_null(field, converted(field, value)))
    except REFUSALS:
        return Missing.VALUE  # noted already


def _held(field: Field[Any, Any], values: Iterable[Any]) -> list[Any]:
    """The comparable values of a column of the database."""
    return [comparable(or_null(field, as_restored(field, value))) for value in values]


def _has_new(values: Sequence[Any]) -> bool:
    return any(isinstance(value, InBackup) for value in values)
