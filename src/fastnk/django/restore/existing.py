"""The rows that are in the database before a restore."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import cached_property, partial
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import connections, models
from django.db.models import QuerySet

from fastnk.django.offline import reading_from
from fastnk.django.restore.engines.base import Engine
from fastnk.django.restore.natural_keys import CalledKey, Key
from fastnk.django.restore.plan import ManyColumn, PkKind, Plan
from fastnk.django.restore.rows import BATCH, Missing
from fastnk.django.restore.sought import Sought
from fastnk.django.restore.statements import chunks
from fastnk.django.restore.values import as_restored, comparable, refuse_unfit
from fastnk.errors import RestoreError, shorten

COMPOSITE_BATCH = 500
"""As `BATCH`, of rows that a statement names by composite pks: to a database without row values
that is `a = 1 AND b = 2 OR …`, and SQLite takes 1000 of these."""

MOST_READ = 50_000
"""Rows of a table whose keys are all read, be there records with them or not."""

_FOUND_BY: dict[Any, set[type]] = {
    models.AutoField: {int},
    models.BigAutoField: {int},
    models.BigIntegerField: {int},
    models.CharField: {str},
    models.EmailField: {str},
    models.IntegerField: {int},
    models.PositiveIntegerField: {int},
    models.SlugField: {str},
    models.TextField: {str},
    models.UUIDField: {str},
}
"""Types of fields by whose values rows can be found, and of the values."""


class ExistingRows:
    """What the database holds of one model before the restore. Read when asked for, in bulk."""

    def __init__(
        self, plan: Plan, engine: Engine, elsewhere: Callable[[Any], ExistingRows | None]
    ) -> None:
        """`elsewhere` gives those of another model if they are in another database than these."""
        self.plan = plan
        self._engine = engine
        self._elsewhere = elsewhere
        self._database = engine.connection.alias
        self._columns: dict[str, Sought] = {}
        self._by_value: dict[str, Sought] = {}

    def expect(
        self, pks: Iterable[Any], keys: Iterable[Key | None], uniques: Iterable[Any]
    ) -> None:
        """Say what records have that may be among these rows."""
        self.pks.expect(pks)
        self.by_key.expect(keys)
        if self.plan.unique is not None:
            self.by_unique.expect(value for value in uniques if value is not Missing.VALUE)

    @property
    def query(self) -> QuerySet[Any]:
        """All rows: no manager of the model has a say."""
        return QuerySet(self.plan.model, using=self._database).order_by()

    @cached_property
    def is_empty(self) -> bool:
        return not self.query.exists()

    @cached_property
    def pks(self) -> Sought:
        """Comparable pk to pk."""
        return Sought(lambda: self._pks_in(self.all([])), self._some_pks)

    @cached_property
    def by_key(self) -> Sought:
        """Natural key to pk, or to `Missing.UNIQUE`."""
        return Sought(self._all_keys, self._some_keys)

    @property
    def by_unique(self) -> Sought:
        """The same of the column that identifies rows, which the model must have."""
        return self.by_value(self.plan.columns[self.plan.unique or ""].field.attname)

    def by_value(self, lookup: str) -> Sought:
        """Comparable value of a field to pk, or to `Missing.UNIQUE`."""
        if lookup not in self._by_value:
            self._by_value[lookup] = Sought(
                lambda: self._values_in(lookup, self.all([lookup])),
                partial(self._some_values, lookup),
            )
        return self._by_value[lookup]

    def _pks_in(self, rows: Iterable[tuple[Any, ...]]) -> dict[Any, Any]:
        if self.plan.pk_kind is PkKind.COMPOSITE:
            return {comparable(pk): pk for (pk,) in rows}
        return {comparable(as_restored(self.plan.pk, pk)): pk for (pk,) in rows}

    def _some_pks(self, pks: list[Any]) -> dict[Any, Any] | None:
        return self._some(self.plan.pk.name, pks, [], self._pks_in)

    def _values_in(self, lookup: str, rows: Iterable[tuple[Any, ...]]) -> dict[Any, Any]:
        field = self.plan.end_of((lookup,))
        return _index((comparable(as_restored(field, value)), pk) for pk, value in rows)

    def _some_values(self, lookup: str, values: list[Any]) -> dict[Any, Any] | None:
        name = self.plan.end_of((lookup,)).name
        return self._some(name, values, [lookup], partial(self._values_in, lookup))

    def _all_keys(self) -> dict[Key, Any]:
        form = self.plan.key
        if isinstance(form, CalledKey):
            return _index((key, pk) for pk, key in self._called_keys(form))
        return self._keys_in(self.all(self._lookups))

    def _some_keys(self, keys: list[Key]) -> dict[Key, Any] | None:
        for position, part in enumerate(self.plan.key.parts if self.plan.key else ()):
            values = [key[position] for key in keys]
            found = self._some(part.lookup, values, self._lookups, self._keys_in)
            if found is not None:
                return found
        return None

    def _some(
        self,
        name: str,
        values: list[Any],
        names: list[str],
        indexed: Callable[[Iterable[tuple[Any, ...]]], dict[Any, Any]],
    ) -> dict[Any, Any] | None:
        """The rows that have one of these values, `indexed` by what they have in the named columns;
        `None` where the table had better be read as a whole."""
        if not self._can_be_found(name, values):
            return None
        return indexed(self._chosen(name, values, names))

    def _can_be_found(self, name: str, values: Sequence[Any]) -> bool:
        """Whether the database quickly finds the rows of a large table by values of a field."""
        column = self.plan.columns.get(name)
        if column is None or not column.field.unique:
            return False
        kinds = _FOUND_BY.get(type(column.field), set())
        return kinds.issuperset(map(type, values)) and self._is_large

    def _chosen(
        self, name: str, values: Iterable[Any], names: list[str]
    ) -> Iterator[tuple[Any, ...]]:
        """The pk and the named columns, or ends of lookup paths, of the rows that have one of these
        values."""
        field = self.plan.columns[name].field
        fit = [value for value in values if self._fits(field, value)]
        for chunk in chunks(
            self._engine.askable(field, fit), rows_per_statement(self.plan, self._database)
        ):
            yield from self._told(self.query.filter(**{f"{name}__in": chunk}), names, iter)

    def _fits(self, field: Any, value: Any) -> bool:
        """Whether a row may have it; drivers refuse to ask for some of the others."""
        try:
            refuse_unfit(field, value, self._engine.connection)
        except ValueError:
            return False
        return True

    @property
    def _lookups(self) -> list[str]:
        return [part.lookup for part in self.plan.key.parts] if self.plan.key else []

    def _keys_in(self, rows: Iterable[tuple[Any, ...]]) -> dict[Key, Any]:
        """Natural key to pk, of rows with their pks and the parts of their keys."""
        fields = [part.field for part in self.plan.key.parts] if self.plan.key else []
        held = ((map(as_restored, fields, key), pk) for pk, *key in rows)
        return _index((tuple(map(comparable, key)), pk) for key, pk in held)

    @cached_property
    def _is_large(self) -> bool:
        return bool(self.query[MOST_READ:].exists())

    def keys_of(self, form: CalledKey, pks: Iterable[Any]) -> Iterator[tuple[Any, Key]]:
        """Pk and natural key, made by the method, of the rows with these pks."""
        for chunk in chunks(pks, rows_per_statement(self.plan, self._database)):
            yield from self._called_keys(form, pk__in=chunk)

    def _called_keys(self, form: CalledKey, **lookups: Any) -> Iterator[tuple[Any, Key]]:
        """Pk and natural key of rows. Raises `RestoreError` where the method fails."""
        relations = [
            field.name
            for field in form.model._meta.concrete_fields
            if field.remote_field
            and not field.remote_field.parent_link
            and self._elsewhere(field.remote_field.model) is None
        ]
        rows = QuerySet(form.model, using=self._database).order_by().filter(**lookups)
        if relations:  # without names it would follow others, and those at any depth
            rows = rows.select_related(*relations)
        for row in self._engine.read(rows, pk=attrgetter("pk")):
            try:
                with reading_from(self._database):
                    key = form.made_for(row)
            except Exception as error:
                raise RestoreError(
                    f"{self.plan.label} {row.pk!r} of the database has no natural key:"
                    f" {form.method} raises {type(error).__name__}: {shorten(str(error))};"
                    " nothing was changed",
                    remedy="mend the row or the method, then restore again",
                ) from error
            yield row.pk, key

    def with_values(
        self, lookups: Sequence[str], wanted: Container[tuple[Any, ...]] | None
    ) -> dict[tuple[Any, ...], Any]:
        """The same of several fields; of the values `wanted` alone, where these are known."""
        fields = [self.plan.end_of((lookup,)) for lookup in lookups]
        held = ((map(as_restored, fields, row), pk) for pk, *row in self.all(lookups))
        told = ((tuple(map(comparable, row)), pk) for row, pk in held)
        return _index(one for one in told if wanted is None or one[0] in wanted)

    def value(self, pk: Any, lookup: str) -> Any:
        """The value at the end of a lookup path from an existing row."""
        if lookup not in self._columns:
            field = self.plan.end_of(tuple(lookup.split("__")))

            def values_in(rows: Iterable[tuple[Any, ...]]) -> dict[Any, Any]:
                return {comparable(pk): as_restored(field, value) for pk, value in rows}

            self._columns[lookup] = Sought(
                lambda: values_in(self.all([lookup])),
                lambda pks: self._some(self.plan.pk.name, pks, [lookup], values_in),
            )
        return self._columns[lookup][comparable(pk)]

    def all(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The pk and the named columns, or ends of lookup paths, of every row."""
        return self._told(self.query, names, self._engine.read)

    def _told(
        self,
        query: QuerySet[Any],
        names: Sequence[str],
        read: Callable[[QuerySet[Any]], Iterator[tuple[Any, ...]]],
    ) -> Iterator[tuple[Any, ...]]:
        """The pk and the named columns of the rows of a query, also where a lookup path leads into
        another database."""
        crossings = [self._crossing(name) for name in names]
        columns = [
            crossing.column if crossing else name
            for name, crossing in zip(names, crossings, strict=True)
        ]
        rows = self._with_pks(read(query.values_list("pk", *columns)))
        if not any(crossings):
            return rows
        return (
            (
                pk,
                *(
                    crossing.end(value) if crossing else value
                    for crossing, value in zip(crossings, values, strict=True)
                ),
            )
            for pk, *values in rows
        )

    def _crossing(self, lookup: str) -> Crossing | None:
        """Where a lookup path leads into another database."""
        model, names = self.plan.model, lookup.split("__")
        for at, name in enumerate(names[:-1], start=1):
            field = model._meta.get_field(name)
            model = field.remote_field.model
            rest = "__".join(names[at:])
            there = None if rest == field.target_field.name else self._elsewhere(model)
            if there is not None:
                column = "__".join([*names[: at - 1], field.attname])
                return Crossing(column, there, field.target_field, rest)
        return None

    def some(self, pks: Sequence[Any], names: Sequence[str]) -> dict[Any, tuple[Any, ...]]:
        """The named columns of the rows with these pks, by comparable pk."""
        return {
            comparable(pk): tuple(values)
            for chunk in chunks(pks, rows_per_statement(self.plan, self._database))
            for pk, *values in self._with_pks(
                self.query.filter(pk__in=chunk).values_list("pk", *names)
            )
        }

    def _with_pks(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Rows that begin with their pks; of composite ones Django leaves the parts as the driver
        gives them."""
        if self.plan.pk_kind is not PkKind.COMPOSITE:
            return iter(rows)
        fields = self.plan.pk_fields
        return (
            (tuple(field.to_python(part) for field, part in zip(fields, pk, strict=True)), *values)
            for pk, *values in rows
        )

    def links(self, column: ManyColumn, pks: Sequence[Any]) -> dict[Any, dict[Any, Any]]:
        """Per comparable pk what a many-to-many field holds, in order where it has one: comparable
        target pk to link's pk."""
        links: dict[Any, dict[Any, Any]] = {comparable(pk): {} for pk in pks}
        order = [column.rank.name] if column.rank else []
        through = QuerySet(column.through, using=self._database).order_by(*order)
        names = (column.source_name, column.target_name, "pk")
        for chunk in chunks(pks, rows_per_statement(self.plan, self._database)):
            rows = through.filter(**{f"{column.source_name}__in": chunk}).values_list(*names)
            for source, target, link in rows:
                links[comparable(source)][comparable(target)] = link
        return links


class Crossing(NamedTuple):
    """A relation on a lookup path that leads into another database."""

    column: str
    """The lookup path of the column that refers there."""
    rows: ExistingRows
    """Those that it refers to."""
    field: Any
    """The one of theirs whose values the column holds."""
    rest: str
    """The lookup path from there on."""

    def end(self, value: Any) -> Any:
        """What is at the end of the path where the column holds `value`; `None` for nothing."""
        is_pk = self.field.primary_key
        rows = self.rows.pks if is_pk else self.rows.by_value(self.field.attname)
        pk = None if value is None else rows.get(comparable(as_restored(self.field, value)))
        return None if pk is None else self.rows.value(pk, self.rest)


def rows_per_statement(plan: Plan, database: str, values: int = 0) -> int:
    """How many rows a statement takes that names them by pk, with so many other values for each."""
    columns = len(plan.pk_fields)
    size = BATCH if columns == 1 else COMPOSITE_BATCH
    limit = connections[database].features.max_query_params
    return size if limit is None else max(1, min(size, limit // (columns + values)))


def _index(pairs: Iterable[tuple[Any, ...]]) -> dict[Any, Any]:
    index: dict[Any, Any] = {}
    for value, pk in pairs:
        index[value] = Missing.UNIQUE if value in index else pk
    return index
