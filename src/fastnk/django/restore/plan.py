"""What the loader must know of each model: Django's fields and the schema's natural key."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import Enum, auto
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import AutoField, DateTimeField, IntegerField, TimeField, UUIDField
from msgspec import UNSET

from fastnk import schema as schemas
from fastnk.django.restore.distinct import Unique, declared, target_of, tell_rows_apart, unique_sets
from fastnk.django.restore.natural_keys import CalledKey, KeyForm, KeyShapeError, Path, walk
from fastnk.django.restore.values import REFUSALS, Inside, comparable, converted
from fastnk.django.schema.describe import is_composite, plain_of

RIGHTS = {"auth.group", "auth.permission"}
"""The models membership in which lets somebody do something."""


class UnknownModelError(Exception):
    """A label that the project or the database does not have; the text says why."""


class ExcludedError(UnknownModelError):
    """A label whose records are to be left out; the text is that of their own model."""


class PkKind(Enum):
    AUTO = auto()
    """Made by the database; says nothing of the row."""
    OWN = auto()
    """Given by the application: a code, a UUID. It identifies its row."""
    RELATION = auto()
    """The pk of another row."""
    COMPOSITE = auto()
    """The values of several columns, some of which may be pks of other rows."""


class Reference(NamedTuple):
    """What the values of a column refer to."""

    target: str
    """The label of a concrete model."""
    to_field: str | None
    """The target's field whose value the column holds; `None` for its pk."""
    proxy_key: bool = False
    """Whether Django, unlike fastnk, writes another natural key here than the target's own."""
    former: str | None = None
    """The label of another model, if ids in the backup are its own by the schema."""


class Column(NamedTuple):
    """A field in a model's own table."""

    field: Any
    reference: Reference | None
    default: Any = UNSET
    """What is declared for rows of which records say nothing, as a backup would say it."""


class ManyColumn(NamedTuple):
    """A many-to-many field that records may say: its table is one that Django made by itself, or of
    a model that has none."""

    field: Any
    reference: Reference

    @property
    def through(self) -> Any:
        return self.field.remote_field.through

    @property
    def maker(self) -> str | None:
        """The model whose field Django made the table for; another field may use it (`through`)."""
        maker = self.through._meta.auto_created
        return str(maker._meta.label_lower) if maker else None

    @property
    def ends(self) -> tuple[str, str]:
        """The relations of the through table: to the row that has the field, to what it holds."""
        return self.field.m2m_field_name(), self.field.m2m_reverse_field_name()

    @property
    def source_name(self) -> str:
        """The column of the through table with the pk of the row that has the field."""
        return str(self.through._meta.get_field(self.ends[0]).attname)

    @property
    def target_name(self) -> str:
        return str(self.through._meta.get_field(self.ends[1]).attname)

    @property
    def rest(self) -> list[Any]:
        """The columns of the through table that records with the field do not tell."""
        return [
            one
            for one in self.through._meta.local_concrete_fields
            if one.name not in self.ends and not isinstance(one, AutoField)
        ]

    @property
    def rank(self) -> Any:
        """The one among them whose numbers say the order of what a row holds, as the backup's list
        does; `None` where there is no order."""
        ordering = self.through._meta.ordering
        ranks = (one for one in self.rest if isinstance(one, IntegerField))
        return next((one for one in ranks if [*ordering] == [one.name]), None)


class Plan:
    """One concrete model: its columns, what they refer to, and what tells its rows apart."""

    def __init__(
        self,
        model: Any,
        columns: dict[str, Column],
        *,
        generated: dict[str, Column],
        made_of_others: set[str],
        many: dict[str, ManyColumn],
        many_of_others: dict[str, str],
        generics: dict[str, schemas.GenericRelation],
        inside: dict[str, Inside],
        spelled_key: KeyForm | None,
        weak: str | None,
        database: str | None,
        plan_of: Callable[[str], Plan],
    ) -> None:
        self.model = model
        self.database = database
        """The alias of the database with its rows where they are not restored: others may refer to
        them, and no record is one of them."""
        self.weak = weak
        """Why the declared natural key does not tell the rows apart and counts as none."""
        self.label: str = model._meta.label_lower
        self.pk: Any = model._meta.pk
        self.pk_kind = _pk_kind(self.pk)
        self.odd_type = odd_type(self.pk)
        is_composite = self.pk_kind is PkKind.COMPOSITE
        self.pk_fields: list[Any] = list(self.pk.fields) if is_composite else [self.pk]
        self.columns = columns
        self.generated = generated
        """Columns that the database fills; others may refer to rows by them."""
        self.made_of_others = made_of_others
        """Relations by several columns, of which backups hold a text for people."""
        self.many = many
        self.many_of_others = many_of_others
        """Many-to-many fields that records of other models say as well, and which those are: of
        parents, which repeated them before Django 3.0, of the model whose field made the table, or
        of a model of the field's own table."""
        self.generics = generics
        """By the name of the column that holds the ids."""
        self.inside = inside
        """The columns whose values have ids of other rows inside."""
        self.special = generics.keys() | inside.keys()
        """The columns whose values only the whole record can tell."""
        self.spelled_key = spelled_key
        """What natural keys in the backup are made of."""
        self.key = None if weak else spelled_key
        """The same where they tell rows apart, in the target as well."""
        plain, self._one_to_one = self._uniques()
        self.unique = plain[0] if plain else None
        """The column that identifies rows that have nothing else but a pk of the database."""
        self._plan_of = plan_of

    def told(self, name: str) -> Column:
        """A column that a record may tell, be it one that is never written."""
        return self.columns.get(name) or self.generated[name]

    def unsaid(self, names: Collection[str]) -> list[str]:
        """The columns beside the pk of which a record with these fields says nothing."""
        said = {*names, *(field.name for field in self.pk_fields)}
        return [name for name in self.columns if name not in said]

    def stated(self, unsaid: Collection[str]) -> list[str]:
        """Those among columns of which the fields say nothing that natural keys tell."""
        positions = self.spelled_key.positions if self.spelled_key else {}
        return [
            name for name in unsaid if (name,) in positions and self.columns[name].reference is None
        ]

    @property
    def identifying(self) -> set[str]:
        """The columns that may tell which row a record is."""
        key = self.spelled_key.parts if self.spelled_key else ()
        return {*(part.path[0] for part in key), *self.together, *filter(None, [self.unique])}

    @cached_property
    def own_pk_part(self) -> int | None:
        """Where the model's own automatic pk stands in its natural key, if it does."""
        parts = self.key.parts if self.key else []
        return next((number for number, part in enumerate(parts) if part.is_own_pk), None)

    def told_pk(self, pk: Any, natural_key: Any) -> Any:
        """The pk that a record says beside its fields, or in a natural key that holds it."""
        part = self.own_pk_part
        if part is None or pk is not None or self.key is None:
            return pk
        try:
            return self.key.read(natural_key)[part]
        except (*REFUSALS, KeyShapeError):
            return None  # which the survey has told of

    def told_pks(self, records: Sequence[Any]) -> list[Any]:
        """The same of structs."""
        told = [record.pk for record in records]
        if self.own_pk_part is None or self.key is None:
            return told
        spelled = [record.natural_key for record in records]
        try:
            keys = self.key.read_all(spelled)
        except (*REFUSALS, KeyShapeError):
            return list(map(self.told_pk, told, spelled))
        part = self.own_pk_part
        return [key[part] if pk is None else pk for pk, key in zip(told, keys, strict=True)]

    @property
    def pk_position(self) -> int | None:
        """Where the pk stands in the natural key, if it does, whatever it is made by."""
        return self.key.positions.get((self.pk.name,)) if self.key else None

    @property
    def key_is_enforced(self) -> bool:
        """Whether the database sees to it that no two rows have the same natural key."""
        return tell_rows_apart(
            self.model, [part.path for part in self.key.parts] if self.key else ()
        )

    @cached_property
    def key_lacks_model(self) -> bool:
        """Whether its natural key holds an id that may be one of any model, and not of which."""
        names = {part.path[0] for part in self.key.parts} if self.key else set()
        return not self.key_is_enforced and any(
            name in names and generic.kind not in names for name, generic in self.generics.items()
        )

    @property
    def gives_rights(self) -> bool:
        """Whether its rows say what somebody may do; what changes in them is told by name."""
        targets = {column.reference.target for column in self.many.values()}
        return issubclass(self.model, AbstractBaseUser) or bool(targets & RIGHTS)

    @property
    def can_be_lean(self) -> bool:
        """Whether each row can be decided by its record alone, where nothing refers to it."""
        if self.gives_rights:
            return False
        if self.pk_kind is not PkKind.AUTO:
            return self.pk_kind is PkKind.OWN and self.key is None
        return not self.has_foreign_pk and not isinstance(self.key, CalledKey)

    @property
    def has_foreign_pk(self) -> bool:
        """Whether its natural key holds pks of other rows."""
        return self.key is not None and self.key.has_foreign_pk

    @cached_property
    def together(self) -> tuple[str, ...]:
        """What identifies rows where no plain column does: a one-to-one relation beside the pk, or
        columns that are unique together."""
        if self.key or self.unique or self.pk_kind is not PkKind.AUTO:
            return ()
        if self._one_to_one:
            return (self._one_to_one[0],)
        are_firm = all(map(self._is_firm, itertools.chain.from_iterable(self.sets)))
        return self.sets[0] if self.sets and are_firm else ()

    @cached_property
    def uniques(self) -> list[Unique]:
        """What must be unique beside the pk, alone or together, but for expressions."""
        uniques = dict.fromkeys(declared(self.model))
        return [unique for unique in uniques if self.pk.name not in unique.names]

    @cached_property
    def sets(self) -> list[tuple[str, ...]]:
        """The columns that are unique together, where none of them is null."""
        return [names for names in map(tuple, unique_sets(self.model)) if len(names) > 1]

    def _is_firm(self, name: str) -> bool:
        """Whether a column says all, and leads to no row that only its content may tell."""
        column = self.columns.get(name)
        if column is None or name in {self.pk.name, *self.special}:
            return False
        if column.reference is None:
            return not _is_cut(column.field)
        try:
            return self._plan_of(column.reference.target).is_told_at_once
        except UnknownModelError:
            return False

    @property
    def is_told_at_once(self) -> bool:
        """Whether each row is told by what its record says, whatever becomes of others."""
        if self.key is not None:
            return not self.has_foreign_pk
        return self.unique is not None or self.pk_kind is PkKind.OWN

    @property
    def pk_path(self) -> Path:
        """The path to the plain field whose value the pk is."""
        return walk(self.model, ("pk",))[0]

    def end_of(self, path: Path) -> Any:
        """The plain field at the end of a path."""
        return plain_of(walk(self.model, path)[1])

    def pk_value(self, value: Any) -> Any:
        """A pk in a backup as the comparable form of the pk's type. Raises a refusal."""
        if self.odd_type is int and type(value) is int:
            value = str(value)  # of a number Django makes a UUID, which would be that of any backup
        if self.pk_kind is not PkKind.COMPOSITE:
            return comparable(converted(self.pk, value))
        if not isinstance(value, list):
            raise ValueError(f"a list of {len(self.pk_fields)} was expected")
        return tuple(
            comparable(converted(field, item))
            for field, item in zip(self.pk_fields, value, strict=True)
        )

    def _uniques(self) -> tuple[list[str], list[str]]:
        """Columns that are unique and never null: plain ones, UUIDs first, and relations."""
        if self.key or self.odd_type is None:
            return [], []
        columns = [
            (name, column)
            for name, column in self.columns.items()
            if column.field.unique
            and not (column.field.null or column.field.primary_key or _is_cut(column.field))
            and name not in self.special
        ]
        columns.sort(key=lambda item: not isinstance(item[1].field, UUIDField))
        plain = [name for name, column in columns if column.reference is None]
        return plain, [name for name, _ in columns if name not in plain]


def is_time_of_writing(field: Any) -> bool:
    """Whether a column holds when its row was written."""
    return getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)


def _is_cut(field: Any) -> bool:
    """Whether backups say less than the column holds: they cut times to milliseconds."""
    return isinstance(field, DateTimeField | TimeField)


def referred_to(plans: Iterable[Plan]) -> set[str]:
    """The labels of the models that others refer to, but for generic relations."""
    labels: set[str] = set()
    for plan in plans:
        references = (column.reference for column in plan.columns.values())
        labels.update(reference.target for reference in references if reference)
        labels.update(column.reference.target for column in plan.many.values())
        labels.update(place.to for inside in plan.inside.values() for place in inside.all())
    return labels


def looked_through(plans: Iterable[Plan]) -> Iterator[tuple[str, str]]:
    """Label and field of every value that a record gives to the key or column of another."""
    for plan in plans:
        for part in plan.spelled_key.parts if plan.spelled_key else ():
            yield from _stations(plan.model, part.path)
        for column in plan.columns.values():
            if column.reference and column.reference.to_field:
                yield column.reference.target, column.reference.to_field
        for place in (place for inside in plan.inside.values() for place in inside.all()):
            if place.to_field:
                yield place.to, place.to_field
        for many in plan.many.values():
            for end in many.ends:
                yield many.through._meta.label_lower, end


def _stations(model: Any, path: Path) -> Iterator[tuple[str, str]]:
    for hop, name in pairwise(path):
        model = target_of(model, hop)
        if name != model._meta.pk.name or model._meta.pk.remote_field:
            yield model._meta.label_lower, name


def odd_type(pk: Any) -> type | None:
    """Of which type pks in a backup may be that can be none today and only tell rows there: texts
    where the database numbers the rows, numbers where the field makes UUIDs; `None` where neither
    makes pks."""
    if isinstance(pk, AutoField):
        return str
    return int if isinstance(pk, UUIDField) and pk.has_default() else None


def _pk_kind(pk: Any) -> PkKind:
    if is_composite(pk):
        return PkKind.COMPOSITE
    if pk.remote_field:
        return PkKind.RELATION
    return PkKind.AUTO if isinstance(pk, AutoField) else PkKind.OWN
