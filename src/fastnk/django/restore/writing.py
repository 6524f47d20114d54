"""Compares records with existing rows and writes rows: whole batches, no signals, no `save()`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Case, QuerySet, Value, When
from django.db.models.functions import Cast

from fastnk.django.restore.batches import Table
from fastnk.django.restore.columns import is_expression, is_written_directly, prepared
from fastnk.django.restore.defaults import defaults_of
from fastnk.django.restore.directory import Directory, Row
from fastnk.django.restore.engines.base import Engine
from fastnk.django.restore.existing import rows_per_statement
from fastnk.django.restore.plan import ManyColumn, PkKind, Plan
from fastnk.django.restore.rows import InBackup, Missing
from fastnk.django.restore.statements import chunks, fitting, length_of
from fastnk.django.restore.streams import Rows, naming
from fastnk.django.restore.values import comparable, converted, in_column, is_of_django, stored
from fastnk.errors import RestoreError

Columns = list[tuple[Any, Sequence[Any]]]
"""Fields with their values in new rows. No dict: fields that another one makes for a model beside
itself may count as equal to others."""


class Change(NamedTuple):
    """What differs between a record and its existing row."""

    row: InBackup
    columns: dict[str, Any]
    before: dict[str, Any]
    """What these columns hold now."""
    added: dict[str, list[Any]]
    """Many-to-many field to the pks that are to be added."""
    removed: dict[str, dict[Any, Any]]
    """Many-to-many field to the links that are to go: their pks, and the pks they lead to."""


def changes(directory: Directory, table: Table) -> list[Change]:
    """What is to change in the rows of a table, which all exist; those that stay have no entry."""
    plan = table.plan
    existing = directory.existing(plan)
    names = [name for name in table.columns if name in plan.columns and name != plan.pk.name]
    pks = table.rows.pks_of(table.numbers)
    found: dict[int, Change] = {}

    def of(at: int) -> Change:
        row = InBackup(table.rows, table.numbers[at])
        return found.setdefault(at, Change(row, {}, {}, {}, {}))

    held = existing.some(pks, [plan.columns[name].field.attname for name in names])
    if gone := sum(comparable(pk) not in held for pk in pks):
        raise RestoreError(
            f"another session has deleted {gone:,} rows of {plan.label} meanwhile; everything was"
            " rolled back",
            remedy="restore again when no other session is in the way",
        )
    columns_held = zip(*(held[comparable(pk)] for pk in pks), strict=True)
    for name, present in zip(names, columns_held, strict=True):
        values = table.columns[name]
        for at in _differing(plan.columns[name].field, values, present):
            of(at).columns[name], of(at).before[name] = values[at], present[at]
    for name, of_rows in table.many.items():
        links = existing.links(plan.many[name], pks)
        is_ordered = plan.many[name].rank is not None
        for at, (pk, wanted) in enumerate(zip(pks, of_rows, strict=True)):
            if wanted is None:
                continue
            missing, surplus = _links_that_differ(links[comparable(pk)], wanted, is_ordered)
            if missing:
                of(at).added[name] = missing
            if surplus:
                of(at).removed[name] = surplus
    if plan.pk_kind is PkKind.RELATION:
        for at, pk in enumerate(pks):
            told = _told_pk(directory, InBackup(table.rows, table.numbers[at]))
            if told is not None and comparable(told) != comparable(pk):
                of(at).columns[plan.pk.name], of(at).before[plan.pk.name] = told, pk
    return [found[at] for at in sorted(found)]


def _told_pk(directory: Directory, row: InBackup) -> Any:
    """The pk that a record says its row has, that of another row; `None` where it says none."""
    told = directory.pk_relation(row)
    return told.pk if isinstance(told, Row) else told


class Writer:
    """Writes batches of rows into one database."""

    def __init__(self, directory: Directory, engine: Engine, rows: Rows) -> None:
        self._directory = directory
        self._connection = engine.connection
        self._database = engine.connection.alias
        self._longest = engine.longest_statement
        self._rows = rows

    def pks(self, table: Table) -> list[Any]:
        """The pks of new rows, those of lean ones drawn now."""
        rows = table.rows
        pks = rows.pks_of(table.numbers)
        if not rows.is_lean:
            return pks
        if pks.count(Missing.PK) == len(pks):
            return list(islice(rows.new_pks, len(pks)))
        for at, pk in enumerate(pks):
            if pk is Missing.PK:
                pks[at] = next(rows.new_pks)
            elif pk is Missing.OWN:
                pks[at] = converted(table.plan.pk, table.old_pks[at])
        return pks

    def insert(self, table: Table, pks: list[Any]) -> None:
        """Insert new rows into the model's own table, and what their many fields hold."""
        plan = table.plan
        columns: Columns = [
            (column.field, self._values(table, name, pks)) for name, column in plan.columns.items()
        ]
        self._insert(plan.model, plan.label, columns, table.is_prepared)
        for name, of_rows in table.many.items():
            links = [
                (pk, target)
                for pk, targets in zip(pks, of_rows, strict=True)
                for target in targets or ()
            ]
            self._link(plan.many[name], f"{plan.label}.{name}", links)

    def update(self, plan: Plan, batch: list[Change]) -> None:
        """Change what differs in existing rows, and in what their many fields hold."""
        alike: dict[tuple[str, ...], list[Change]] = defaultdict(list)
        for change in batch:
            alike[tuple(change.columns)].append(change)
        for names, group in alike.items():
            if names:
                self._update_columns(plan, names, group)
        for name in plan.many:
            self._unlink(plan, name, [key for one in batch for key in one.removed.get(name, ())])
        for name, column in plan.many.items():
            links = [
                (change.row.pk, target) for change in batch for target in change.added.get(name, ())
            ]
            self._link(column, f"{plan.label}.{name}", links)

    def _unlink(self, plan: Plan, name: str, pks: list[Any]) -> None:
        through = QuerySet(plan.many[name].through, using=self._database)
        with naming(f"{plan.label}.{name}"):
            for chunk in chunks(pks, rows_per_statement(plan, self._database)):
                through.filter(pk__in=chunk)._raw_delete(self._database)

    def _values(self, table: Table, name: str, pks: list[Any]) -> Sequence[Any]:
        """A column of new rows; where the records do not say it, its default."""
        field = table.plan.columns[name].field
        if name == table.plan.pk.name:
            values: Sequence[Any] = pks
            if table.plan.pk_kind is PkKind.AUTO and is_of_django(field):
                return values  # numbers
        elif name in table.columns:
            return table.columns[name]
        else:
            values = defaults_of(self._directory, table.plan, name, len(pks))
        if not table.is_prepared:
            return values
        return [prepared(field, value, self._connection) for value in values]

    def _insert(self, model: Any, path: str, columns: Columns, is_prepared: bool) -> None:
        if is_prepared:
            quote = self._connection.ops.quote_name
            names = [quote(field.column) for field, _ in columns]
            table = quote(model._meta.db_table)
            self._rows.write(path, table, names, [values for _, values in columns])
            return
        with naming(path):
            self._insert_by_django(model, columns)

    def _insert_by_django(self, model: Any, columns: Columns) -> None:
        """Insert rows of fields that write SQL of their own around their values."""
        query = QuerySet(model, using=self._database)
        fields = [field for field, _ in columns]
        rows = [
            # No instances, so no `__init__` has a say.
            SimpleNamespace(
                **{
                    field.attname: stored(field, value)
                    for field, value in zip(fields, values, strict=True)
                }
            )
            for values in zip(*(values for _, values in columns), strict=True)
        ]
        for chunk in chunks(rows, max(1, self._connection.ops.bulk_batch_size(fields, rows))):
            # raw: no `pre_save`, which would set the times of now and move files
            query._insert(chunk, fields=fields, using=self._database, raw=True)

    def _link(self, column: ManyColumn, path: str, links: list[tuple[Any, Any]]) -> None:
        of_records = self._directory.links(column)
        if of_records:
            links = [link for link in links if (*map(comparable, link),) not in of_records]
        if not links:
            return
        ends = [column.through._meta.get_field(name) for name in column.ends]
        is_direct = is_written_directly(column.through)
        columns: Columns = list(zip(ends, zip(*links, strict=True), strict=True))
        plan = self._directory.plans[column.through._meta.label_lower]
        for field in column.rest:
            if field is column.rank:
                columns.append((field, _places([source for source, _ in links])))
            else:
                made = defaults_of(self._directory, plan, field.name, len(links))
                columns.append((field, made))
        if is_direct:
            columns = [
                (field, [prepared(field, value, self._connection) for value in values])
                for field, values in columns
            ]
        self._insert(column.through, path, columns, is_direct)

    def _update_columns(self, plan: Plan, names: tuple[str, ...], group: list[Change]) -> None:
        if any(self._writes_sql(plan, name, group) for name in names):
            self._update_singly(plan, names, group)
            return
        query = QuerySet(plan.model, using=self._database)
        values_of_cases = len(names) * (len(plan.pk_fields) + 1)
        size = rows_per_statement(plan, self._database, values_of_cases)
        with naming(plan.label):
            for chunk in fitting(group, size, self._longest, _length):
                values = {name: self._case(plan, name, chunk) for name in names}
                query.filter(pk__in=[change.row.pk for change in chunk]).update(**values)

    def _writes_sql(self, plan: Plan, name: str, changes: list[Change]) -> bool:
        """Whether a column's values are written by SQL of their own, which fits into no other."""
        field = plan.columns[name].field
        return not is_of_django(field) and any(
            is_expression(field.get_db_prep_save(change.columns[name], self._connection))
            for change in changes
        )

    def _update_singly(self, plan: Plan, names: tuple[str, ...], changes: list[Change]) -> None:
        query = QuerySet(plan.model, using=self._database)
        for change in changes:
            values = {name: self._assigned(plan, name, change.columns[name]) for name in names}
            with naming(plan.label):
                query.filter(pk=change.row.pk).update(**values)

    def _assigned(self, plan: Plan, name: str, value: Any) -> Any:
        """A value as `update` must be given it: an expression as its field makes it for a row."""
        field = plan.columns[name].field
        made = field.get_db_prep_save(value, self._connection)
        return made if is_expression(made) else stored(field, value)

    def _case(self, plan: Plan, name: str, changes: list[Change]) -> Any:
        field = plan.columns[name].field
        whens = []
        for change in changes:
            value = stored(field, change.columns[name])
            then = value if hasattr(value, "resolve_expression") else Value(value, field)
            whens.append(When(pk=change.row.pk, then=then))
        case = Case(*whens, output_field=field)
        if self._connection.features.requires_casted_case_in_updates:
            return Cast(case, output_field=field)
        return case


def _links_that_differ(
    linked: dict[Any, Any], wanted: list[Any], is_ordered: bool
) -> tuple[list[Any], dict[Any, Any]]:
    """The pks that are not linked yet, and the links that are to go; all of both where their order
    counts and is another one."""
    keys = [*map(comparable, wanted)]
    if is_ordered and [*linked] != keys:
        return wanted, {link: key for key, link in linked.items()}
    missing = [value for value, key in zip(wanted, keys, strict=True) if key not in linked]
    keep = set(keys)
    return missing, {link: key for key, link in linked.items() if key not in keep}


def _differing(field: Any, values: Sequence[Any], present: Sequence[Any]) -> Iterable[int]:
    """Where a column is to hold something else than it does."""
    kinds = [*map(type, values)]
    if set(kinds) <= _PLAIN and kinds == [*map(type, present)] and [*values] == [*present]:
        return ()
    pairs = enumerate(zip(values, present, strict=True))
    return (at for at, (value, other) in pairs if _differs(field, value, other))


def _differs(field: Any, value: Any, other: Any) -> bool:
    kind = type(value)
    if (
        kind is type(other)
        and value == other
        and (kind in _PLAIN or (kind in _JSON and repr(value) == repr(other)))
    ):
        return False
    return value is not Missing.VALUE and in_column(field, value) != in_column(field, other)


_PLAIN = {bool, date, datetime, Decimal, float, int, str, type(None), UUID}
"""Values of one of these types are the same where they are equal."""
_JSON = {dict, list}
"""These may differ though Python says that they are equal: true is not 1."""


def _places(sources: list[Any]) -> list[int]:
    """Which link of its row each is, given the row of each."""
    counts: Counter[Any] = Counter()
    places = []
    for source in sources:
        counts[source] += 1
        places.append(counts[source])
    return places


def _length(change: Change) -> int:
    return sum(map(length_of, change.columns.values()))
