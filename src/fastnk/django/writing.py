"""Compares records with existing rows and writes rows: whole batches, no signals, no `save()`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import DatabaseError, connections
from django.db.models import Case, QuerySet, Value, When
from django.db.models.functions import Cast
from django.utils import timezone

from fastnk.django.directory import Directory
from fastnk.django.plan import ManyColumn, Plan
from fastnk.django.rows import InBackup, chunks, rows_per_statement
from fastnk.django.values import comparable, stored
from fastnk.errors import RestoreError


class Translated(NamedTuple):
    """A record as a row: what its columns and its many-to-many fields are to hold."""

    row: InBackup
    columns: dict[str, Any]
    """Column name to value."""
    many: dict[str, list[Any]]
    """Field name to the pks of the rows that it is to hold."""


class Change(NamedTuple):
    """What differs between a record and its existing row."""

    row: InBackup
    columns: dict[str, Any]
    added: dict[str, list[Any]]
    """Many-to-many field to the pks that are to be added."""
    removed: dict[str, list[Any]]
    """Many-to-many field to the pks of the links that are to go."""

    def __bool__(self) -> bool:
        return bool(self.columns or self.added or self.removed)


def changes(directory: Directory, plan: Plan, batch: list[Translated]) -> list[Change]:
    """Per record what differs from its row; all of one model and matched."""
    existing = directory.existing(plan)
    names = [name for name in plan.columns if name != plan.pk.name]
    pks = [entry.row.pk for entry in batch]
    rows = existing.some(pks, [plan.columns[name].field.attname for name in names])
    links = {name: existing.links(column, pks) for name, column in plan.many.items()}
    result = []
    for entry in batch:
        pk = comparable(entry.row.pk)
        held = dict(zip(names, rows[pk], strict=True))
        columns = {
            name: value
            for name, value in entry.columns.items()
            if name in held and comparable(value) != comparable(held[name])
        }
        added, removed = {}, {}
        for name, wanted in entry.many.items():
            present = links[name][pk]
            if missing := [value for value in wanted if comparable(value) not in present]:
                added[name] = missing
            keep = set(map(comparable, wanted))
            if surplus := [link for value, link in present.items() if value not in keep]:
                removed[name] = surplus
        result.append(Change(entry.row, columns, added, removed))
    return result


class Writer:
    """Writes batches of rows into one database."""

    def __init__(self, directory: Directory, database: str) -> None:
        self._directory = directory
        self._database = database
        self._connection = connections[database]

    def insert(self, plan: Plan, batch: list[Translated]) -> None:
        """Insert new rows into the model's own table, and what their many fields hold."""
        fields = [column.field for column in plan.columns.values()]
        rows = [self._new_row(plan, entry) for entry in batch]
        self._insert(plan.model, plan.label, fields, rows)
        for name, column in plan.many.items():
            links = [
                (entry.row.pk, target) for entry in batch for target in entry.many.get(name, ())
            ]
            self._link(column, f"{plan.label}.{name}", links)

    def update(self, plan: Plan, batch: list[Change]) -> None:
        """Change what differs in existing rows, and in what their many fields hold."""
        alike: dict[tuple[str, ...], list[Change]] = defaultdict(list)
        for change in batch:
            alike[tuple(change.columns)].append(change)
        for names, group in alike.items():
            if names:
                self._update_columns(plan, names, group)
        for name, column in plan.many.items():
            path = f"{plan.label}.{name}"
            gone = [link for change in batch for link in change.removed.get(name, ())]
            through = QuerySet(column.through, using=self._database)
            with _named(path):
                for chunk in chunks(gone, rows_per_statement(plan, self._database)):
                    through.filter(pk__in=chunk)._raw_delete(self._database)
            links = [
                (change.row.pk, target) for change in batch for target in change.added.get(name, ())
            ]
            self._link(column, path, links)

    def _new_row(self, plan: Plan, entry: Translated) -> SimpleNamespace:
        """The values of a new row by attribute name: no instance, so no `__init__` has a say."""
        values = {}
        for name, column in plan.columns.items():
            field = column.field
            if name == plan.pk.name:
                value = entry.row.pk
            elif name in entry.columns:
                value = entry.columns[name]
            else:
                value = _default(field)
            values[field.attname] = stored(field, value)
        return SimpleNamespace(**values)

    def _insert(self, model: Any, path: str, fields: list[Any], rows: list[Any]) -> None:
        query = QuerySet(model, using=self._database)
        size = max(1, self._connection.ops.bulk_batch_size(fields, rows)) if rows else 1
        with _named(path):
            for chunk in chunks(rows, size):
                # raw: no `pre_save`, which would set the times of now and move files
                query._insert(chunk, fields=fields, using=self._database, raw=True)

    def _link(self, column: ManyColumn, path: str, links: list[tuple[Any, Any]]) -> None:
        fields = [
            field for field in column.through._meta.local_concrete_fields if field.remote_field
        ]
        of_records = self._directory.links(column)
        rows = [
            SimpleNamespace(**{column.source_name: source, column.target_name: target})
            for source, target in links
            if (comparable(source), comparable(target)) not in of_records
        ]
        self._insert(column.through, path, fields, rows)

    def _update_columns(self, plan: Plan, names: tuple[str, ...], group: list[Change]) -> None:
        query = QuerySet(plan.model, using=self._database)
        values_of_cases = len(names) * (len(plan.pk_fields) + 1)
        size = rows_per_statement(plan, self._database, values_of_cases)
        with _named(plan.label):
            for chunk in chunks(group, size):
                values = {name: self._case(plan, name, chunk) for name in names}
                query.filter(pk__in=[change.row.pk for change in chunk]).update(**values)

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


def _default(field: Any) -> Any:
    """What a column of a new row holds that the record does not have."""
    if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
        return field.to_python(timezone.now())
    return field.get_default()


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Say what was being written when the database or its driver refused it."""
    try:
        yield
    except (DatabaseError, ValidationError, ValueError, TypeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise RestoreError(
            f"the database refused {path}: {reason}; everything was rolled back",
            remedy="mend the backup or the row in the way, then restore again",
        ) from error
