"""The rows of one model: those that the backup holds, and those that are in the database."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from enum import Enum, IntEnum, auto
from functools import cached_property, partial
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import connections, models
from django.db.models import QuerySet

from fastnk.django.offline import reading_from
from fastnk.django.restore.engines.base import Engine
from fastnk.django.restore.natural_keys import CalledKey, Key
from fastnk.django.restore.plan import ManyColumn, PkKind, Plan
from fastnk.django.restore.sought import Sought
from fastnk.django.restore.statements import chunks
from fastnk.django.restore.values import REFUSALS, as_restored, comparable, converted, refuse_unfit
from fastnk.errors import RestoreError, shorten

BATCH = 1000
"""Rows that are held and sent at once, where the database takes as many parameters."""
COMPOSITE_BATCH = 500
"""The same of rows that a statement names by composite pks: to a database without row values that
is `a = 1 AND b = 2 OR …`, and SQLite takes 1000 of these."""

MOST_READ = 50_000
"""Rows of a table whose keys are all read, be there records with them or not."""

_FOUND_BY: dict[Any, set[type]] = {
    models.AutoField: {int},
    models.BigAutoField: {int},
    models.CharField: {str},
    models.EmailField: {str},
    models.IntegerField: {int},
    models.SlugField: {str},
    models.UUIDField: {str},
}
"""Types of fields by whose values rows can be found, and of the values."""


class Fate(IntEnum):
    """What becomes of a record's row."""

    CREATED = auto()
    CHECKED = auto()
    """It is created, and nothing is wrong with the record."""
    RENUMBERED = auto()
    """Created under another pk than in the backup."""
    MATCHED = auto()
    """It is an existing row."""
    UNCHANGED = auto()
    """It is an existing row, and nothing in it differs."""


CREATED, CHECKED, UNCHANGED = (
    bytes([fate]) for fate in (Fate.CREATED, Fate.CHECKED, Fate.UNCHANGED)
)
EXISTING = bytes([Fate.MATCHED, Fate.UNCHANGED])
"""The fates of rows that exist."""
NEW = bytes([Fate.CREATED, Fate.CHECKED, Fate.RENUMBERED])
"""The fates of rows that do not."""
ALL = EXISTING + NEW


class Missing(Enum):
    PK = auto()
    """The row is new and its pk will be reserved before anything is written."""
    MATCH = auto()
    """Which row it is depends on which rows others are."""
    OWN = auto()
    """The row is new, and its pk will be the one that its record says."""
    VALUE = auto()
    """The record does not have the field."""
    UNIQUE = auto()
    """More than one row has the key."""


class RecordNumbers:
    """The number of each row's record; those that follow each other take no room."""

    def __init__(self) -> None:
        self._rows, self._records = array("Q"), array("Q")
        """Where the numbers do not go on by one, and with what."""
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> int:
        at = bisect_right(self._rows, row) - 1
        return self._records[at] + row - self._rows[at]

    def extend(self, number: int, count: int) -> None:
        """Add rows for so many records that follow each other, the first with this number."""
        if not self._rows or self._records[-1] + self._length - self._rows[-1] != number:
            self._rows.append(self._length)
            self._records.append(number)
        self._length += count


class FewPks:
    """Pks of rows of which most have none that is known: it takes a byte to say why."""

    _WHY = (Missing.MATCH, Missing.PK, Missing.OWN)
    _KNOWN = len(_WHY)

    def __init__(self) -> None:
        self._why = bytearray()
        self._known: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._why)

    def __getitem__(self, number: int) -> Any:
        why = self._why[number]
        return self._known[number] if why == self._KNOWN else self._WHY[why]

    def __setitem__(self, number: int, pk: Any) -> None:
        if pk in self._WHY:
            self._why[number] = self._WHY.index(pk)
        else:
            self._why[number] = self._KNOWN
            self._known[number] = pk

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))

    def count(self, why: Missing) -> int:
        return self._why.count(self._WHY.index(why))

    def of(self, numbers: Sequence[int]) -> list[Any]:
        """Those of some rows."""
        whys = list(map(self._why.__getitem__, numbers))
        if self._KNOWN in whys:
            return list(map(self.__getitem__, numbers))
        return list(map(self._WHY.__getitem__, whys))

    def extend(self, why: Sequence[Missing]) -> None:
        self._why.extend(map(self._WHY.index, why))

    def fill(self, first: int, why: Missing) -> None:
        """Say the same of all rows from this one on."""
        self._why[first:] = bytes([self._WHY.index(why)]) * (len(self) - first)


class BackupRows:
    """What must be known of a model's records while others are read: one entry per record."""

    def __init__(
        self,
        plan: Plan,
        kept_fields: Sequence[str] = (),
        *,
        is_lean: bool = False,
        are_first: bool = False,
    ) -> None:
        self.plan = plan
        self.are_first = are_first
        """Whether the table is empty: then hardly more is kept of lean rows than how many there
        are."""
        self.is_lean = is_lean
        """Whether nothing refers to these rows. They are decided as they are read, and `keys`,
        `uniques`, `by_key`, `by_old_pk` and, where no pk is kept, `old_pks` stay empty."""
        self.says_pks = False
        """Of lean rows: whether the backup says the pk of any."""
        self.late_keys: dict[int, Key] = {}
        """Of lean rows: the natural keys that could only be made when all records were known."""
        self.new_pks: Iterator[Any] = iter(())
        """Of lean rows: the reserved pks, drawn when rows are written."""
        self.record_numbers = RecordNumbers()
        self.keys: list[Key | None] = []
        """The natural key as the backup spells it; `None` where it has none or cannot be made."""
        self.old_pks: list[Any] = []
        """The pk in the backup, comparable; `None` where the record has none."""
        self.uniques: list[Any] = []
        """The value of the column that identifies rows without natural key."""
        self.pks: list[Any] | FewPks = FewPks() if is_lean and are_first else []
        """The pk in the target, or one of `Missing`."""
        self.highest_own = 0
        """The highest of the pks for which `Missing.OWN` stands."""
        self.fates = bytearray()
        """A `Fate` for each."""
        self.by_key: dict[Key, int] = {}
        self.names: dict[Key, int | None] = {}
        """Where natural keys count as none: which row has which, as references may say it; `None`
        where several have it."""
        self.by_old_pk: dict[Any, int] = {}
        self.values: dict[str, list[Any]] = {name: [] for name in kept_fields}
        """The fields that other records look through, as they stand in the backup."""
        self._by_value: dict[str, dict[Any, int]] = {}
        self._with_keys: dict[str, bool] = {}

    def __len__(self) -> int:
        return len(self.record_numbers)

    def by_value(self, name: str) -> dict[Any, int]:
        """The rows by the comparable value of a field that others refer to."""
        rows = self._by_value.get(name)
        if rows is None:
            rows = self._by_value[name] = {}
            field = self.plan.model._meta.get_field(name)
            for number, value in enumerate(self.values[name]):
                if value is not Missing.VALUE and value is not None:
                    try:
                        rows[comparable(converted(field, value))] = number
                    except REFUSALS:
                        continue  # the check of the record itself reports it
        return rows

    def holds_keys(self, name: str) -> bool:
        """Whether a field that others refer to holds natural keys in the place of ids."""
        if name not in self._with_keys:
            self._with_keys[name] = any(isinstance(value, list) for value in self.values[name])
        return self._with_keys[name]

    @property
    def keeps_pks(self) -> bool:
        """Whether a new row may have the pk that the backup says."""
        plan = self.plan
        return plan.pk_kind is not PkKind.AUTO or plan.key is None or plan.own_pk_part is not None

    def enter_many(self, number: int, count: int) -> None:
        """Add rows for so many records that follow each other, the first with this number."""
        self.record_numbers.extend(number, count)
        self.pks.extend([Missing.MATCH] * count)
        self.fates.extend(bytes([Fate.CREATED]) * count)
        if not self.is_lean:
            self.old_pks.extend([None] * count)

    def keep_old_pks(self, first: int, pks: Sequence[Any]) -> None:
        """Of lean rows that cannot be decided all at once."""
        self.old_pks.extend([None] * (first - len(self.old_pks)))
        self.old_pks[first:] = pks

    def create(self, first: int, why: Missing) -> None:
        """Let the rows from this one on be new, without a pk that is known."""
        if isinstance(self.pks, FewPks):
            self.pks.fill(first, why)
        else:
            self.pks[first:] = [why] * (len(self.pks) - first)

    def pks_of(self, numbers: Sequence[int]) -> list[Any]:
        """The pks of some rows in the target, or what is missing of them."""
        if isinstance(self.pks, FewPks):
            return self.pks.of(numbers)
        return list(map(self.pks.__getitem__, numbers))

    def are_decided(self, first: int) -> bool:
        """Whether it is known of the rows from this one on which they are."""
        return Missing.MATCH not in self.pks_of(range(first, len(self)))

    def exists(self, number: int) -> bool:
        """Whether a row is one that exists."""
        return self.fates[number] in EXISTING

    def all_are(self, first: int, count: int, fates: bytes) -> bool:
        """Whether so many rows from the first one have one of these fates."""
        return not self.fates[first : first + count].translate(None, fates)

    def key_of(self, number: int) -> Key | None:
        """The natural key of a row that is not decided yet."""
        return self.late_keys.get(number) if self.is_lean else self.keys[number]

    def old_pk_of(self, number: int) -> Any:
        """The pk that the backup says, comparable, as far as it is kept."""
        return self.old_pks[number] if number < len(self.old_pks) else None

    def unique_of(self, number: int) -> Any:
        """What the column holds that identifies a row that is not decided yet."""
        return Missing.VALUE if self.is_lean else self.uniques[number]

    def number_of_old_pk(self, pk: Any) -> int | None:
        """Which row had this pk in the backup."""
        if self.is_lean and not self.by_old_pk:
            self.by_old_pk = {old: number for number, old in enumerate(self.old_pks)}
        return self.by_old_pk.get(pk)

    @property
    def lost_pks(self) -> bool:
        """Whether the backup names rows of this model without their pks."""
        return len(self.by_old_pk) < len(self)


class InBackup(NamedTuple):
    """A row that the backup holds."""

    rows: BackupRows
    number: int

    @property
    def pk(self) -> Any:
        return self.rows.pks[self.number]


class InDatabase(NamedTuple):
    """A row that only the database holds."""

    plan: Plan
    pk: Any


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

    def expect(self, rows: BackupRows) -> None:
        """These may be among them."""
        self.pks.expect(rows.old_pks)
        self.by_key.expect(rows.keys)
        if self.plan.unique is not None:
            self.by_value(self.plan.columns[self.plan.unique].field.attname).expect(
                value for value in rows.uniques if value is not Missing.VALUE
            )

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

    def with_keys(self, keys: Iterable[Key | None]) -> Sought | dict[Key, Any]:
        """The same for these keys; those of a large table are not kept."""
        found = self._some_keys([key for key in keys if key is not None])
        return self.by_key if found is None else found

    def by_value(self, lookup: str) -> Sought:
        """Comparable value of a field to pk, or to `Missing.UNIQUE`."""
        if lookup not in self._by_value:
            self._by_value[lookup] = Sought(
                lambda: self._values_in(lookup, self.all([lookup])),
                partial(self._some_values, lookup),
            )
        return self._by_value[lookup]

    def with_uniques(self, values: Iterable[Any]) -> Sought | dict[Any, Any]:
        """The same of the plan's unique field for these values; those of a large table are not
        kept."""
        if self.plan.unique is None:
            return {}
        lookup = self.plan.columns[self.plan.unique].field.attname
        found = self._some_values(lookup, [one for one in values if one is not Missing.VALUE])
        return self.by_value(lookup) if found is None else found

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
        fit = (value for value in values if self._fits(field, value))
        for chunk in chunks(fit, rows_per_statement(self.plan, self._database)):
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
