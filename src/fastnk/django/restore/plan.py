"""What the loader must know of each model: Django's fields and the schema's natural key."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from django.apps import apps
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import FieldDoesNotExist
from django.db import DatabaseError, connections, router, transaction
from django.db.models import (
    AutoField,
    DateTimeField,
    Field,
    IntegerField,
    Q,
    QuerySet,
    TimeField,
    UniqueConstraint,
    UUIDField,
)
from msgspec import UNSET

from fastnk import schema as schemas
from fastnk.django.restore.natural_keys import (
    CalledKey,
    KeyForm,
    KeyPart,
    KeyShapeError,
    Path,
    concrete,
    misfit,
    walk,
)
from fastnk.django.restore.renaming import Naming
from fastnk.django.restore.values import (
    REFUSALS,
    Inside,
    comparable,
    converted,
    told_of_json_text,
)
from fastnk.django.schema.describe import has_ids_of, is_composite, plain_of
from fastnk.errors import SchemaError, did_you_mean
from fastnk.renames import Renames

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


class Unique(NamedTuple):
    """Columns of one model whose values no two of its rows may have in common."""

    names: tuple[str, ...]
    condition: Q | None = None
    """Of which rows that holds; of all without one."""
    with_nulls: bool = False
    """Whether two nulls are the same."""
    is_told: bool = False
    """Whether rows with the same values to the letter are told to be the same otherwise."""


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
        spec: schemas.Model | None,
        plans: Plans,
        weak: str | None = None,
        database: str | None = None,
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
        is_composite = self.pk_kind is PkKind.COMPOSITE
        self.pk_fields: list[Any] = list(self.pk.fields) if is_composite else [self.pk]
        relations = spec.relations if spec else {}
        self.columns: dict[str, Column] = {}
        self.generated: dict[str, Column] = {}
        """Columns that the database fills; others may refer to rows by them."""
        self.made_of_others: set[str] = set()
        """Relations by several columns, of which backups hold a text for people."""
        for field in model._meta.local_fields:
            if not field.concrete:
                self.made_of_others.add(field.name)
            elif getattr(field, "generated", False):
                self.generated[field.name] = Column(field, None)
            else:
                reference = _reference(field, relations.get(field.name), plans)
                told = told_of_json_text(field, plans.on_json_text)
                default = plans.defaults.get(f"{self.label}.{field.name}", UNSET)
                self.columns[field.name] = Column(told, reference, default)
        self.many: dict[str, ManyColumn] = {
            field.name: ManyColumn(
                field, _reference_of_many(field, relations.get(field.name), plans)
            )
            for field in model._meta.local_many_to_many
            if plans.makes_links(field)
        }
        self.many_of_others: dict[str, str] = {
            field.name: concrete(field.model)._meta.label_lower
            for field in model._meta.many_to_many
            if field not in model._meta.local_many_to_many
        }
        """Many-to-many fields that records of other models say as well, and which those are: of
        parents, which repeated them before Django 3.0, of the model whose field made the table, or
        of a model of the field's own table."""
        self.many_of_others |= {
            name: many.maker
            for name, many in self.many.items()
            if many.maker and many.maker != self.label
        }
        self.many_of_others |= {
            name: plans.of_tables[many.through._meta.db_table]
            for name, many in self.many.items()
            if many.through._meta.db_table in plans.of_tables
        }
        self.generics: dict[str, schemas.GenericRelation] = {
            generic.object_id: generic
            for generic in (spec.generic_relations.values() if spec else ())
            if {generic.object_id, generic.kind} <= self.columns.keys()
        }
        """By the name of the column that holds the ids."""
        self.inside: dict[str, Inside] = _inside(model, spec, plans) if spec else {}
        """The columns whose values have ids of other rows inside."""
        self.special = self.generics.keys() | self.inside.keys()
        """The columns whose values only the whole record can tell."""
        self.spelled_key = _key_form(model, spec or schemas.Model(), plans)
        """What natural keys in the backup are made of."""
        self.key = None if weak else self.spelled_key
        """The same where they tell rows apart, in the target as well."""
        plain, self._one_to_one = self._uniques()
        self.unique = plain[0] if plain else None
        """The column that identifies rows that have nothing else but a pk of the database."""
        self._plans = plans

    def told(self, name: str) -> Column:
        """A column that a record may tell, be it one that is never written."""
        return self.columns.get(name) or self.generated[name]

    def unsaid(self, names: Collection[str]) -> list[str]:
        """The columns beside the pk of which a record with these fields says nothing."""
        said = {*names, *(field.name for field in self.pk_fields)}
        return [name for name in self.columns if name not in said]

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
        return _tell_rows_apart(
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
        uniques = dict.fromkeys(_declared(self.model))
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
            return self._plans[column.reference.target].is_told_at_once
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
        if self.key or self.pk_kind is not PkKind.AUTO:
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


class Plans:
    """The plans of all models that are asked for, by any of their labels."""

    def __init__(
        self,
        schema: schemas.Schema,
        database: str,
        weak: Mapping[str, str] | None = None,
        renames: Renames | None = None,
        on_json_text: str = "error",
        labels: Collection[str] = (),
        excludes: Callable[[str], bool] = lambda label: False,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """`weak` tells of which models the natural key counts as none, and why; `labels` are those
        of the backup's records, where they are known; `excludes` tells of which no record
        counts, `defaults` what is declared for fields, `app.model.field`."""
        self.defaults = defaults or {}
        self.excludes = excludes
        self.on_json_text = on_json_text
        self.naming = Naming(renames or Renames(), schema)
        self._weak = weak or {}
        self._specs = _by_concrete_label(schema)
        self._proxies = schema.proxies
        self._database = database
        self._plans: dict[str, Plan] = {}
        self._unknown: dict[str, str] = {}
        self._sees: dict[Any, bool] = {}
        self._labels = labels
        self.of_tables: dict[str, str] = {
            model._meta.db_table: model._meta.label_lower
            for model in sorted(apps.get_models(), key=lambda model: bool(model._meta.managed))
            if not model._meta.proxy and router.allow_migrate_model(database, model)
        }
        """The models of which there may be records, by their tables: of several of one table that
        which Django manages."""

    def __getitem__(self, label: str) -> Plan:
        """The plan of a model or of what it is a proxy of. Raises `UnknownModelError`."""
        plan = self._plans.get(label)
        if plan is None:
            model = self._model(label)
            own = model._meta.label_lower
            plan = self._plans.get(own) or Plan(
                model, self._specs.get(own), self, self._weak.get(own), self.elsewhere(model)
            )
            self._plans[own] = self._plans[label] = plan
        return plan

    def of_records(self, label: str) -> Plan:
        """The same of a model whose records can be restored. Raises `UnknownModelError`."""
        plain = schemas.plain_label(label)
        own = self._proxies.get(plain, plain)
        if self.excludes(own):
            raise ExcludedError(own)
        plan = self[label]
        owner = self.of_tables.get(plan.model._meta.db_table)
        if owner != plan.label and owner in self._labels:
            raise UnknownModelError(f"its table is that of {owner}, which has records as well")
        if plan.database is not None:
            if self._is_view(plan.model):
                raise UnknownModelError("its table is a view, which shows rows of others")
            if plan.database == self._database:
                raise UnknownModelError(self._not_ours)
            raise UnknownModelError(self._no_table)
        return plan

    def makes_links(self, field: Any) -> bool:
        """Whether what records say of a many-to-many field is enough to make its links of; where
        its table is a model's, and there are records of that, these say them."""
        through = field.remote_field.through
        label = through._meta.label_lower
        if through._meta.auto_created:
            return True
        if not self._labels or label in self._labels or through._meta.parents:
            return False
        column = ManyColumn(field, _reference_of_many(field, None, self))
        ends = (through._meta.get_field(name).target_field for name in column.ends)
        return all(end.primary_key for end in ends) and all(
            f"{label}.{one.name}" in self.defaults or _may_be_unsaid(one) for one in column.rest
        )

    def all(self, labels: Iterable[str] | None = None) -> Iterator[Plan]:
        """The plans of these models, or of all, as far as the database and the schema fit."""
        if labels is None:
            labels = [model._meta.label_lower for model in apps.get_models()]
        for label in labels:
            try:
                yield self[label]
            except (UnknownModelError, SchemaError):
                continue

    def may_change(self, field: Any) -> bool:
        """Whether `field` is a pk that the same row need not have in the target."""
        if isinstance(field, AutoField):
            return True
        label = concrete(field.model)._meta.label_lower
        spec = self._specs.get(label)
        if not field.primary_key or spec is None or not spec.has_natural_key or label in self._weak:
            return False
        parts = map(schemas.parse_path, schemas.flat_parts(spec.natural_key or ()))
        return all(part.hops or part.field not in ("pk", field.name) for part in parts)

    def own_label(self, label: str) -> str:
        """The label of the concrete model. Raises `UnknownModelError`."""
        return str(self._model(label)._meta.label_lower)

    def elsewhere(self, model: Any) -> str | None:
        """The alias of the database where others may find the rows of a model that is not restored;
        `None` for those restored into, or where it has no table."""
        if router.allow_migrate_model(self._database, model) and not self._is_view(model):
            return None
        alias = str(router.db_for_write(model))
        return alias if alias != self._database or self._sees_table(model) else None

    def _sees_table(self, model: Any) -> bool:
        """Whether a table that is not for this database is there all the same, as those of a schema
        that is shared by others."""
        if model not in self._sees:
            try:
                with transaction.atomic(using=self._database):
                    QuerySet(model, using=self._database).exists()
            except DatabaseError:
                self._sees[model] = False
            else:
                self._sees[model] = True
        return self._sees[model]

    def _is_view(self, model: Any) -> bool:
        return not model._meta.managed and model._meta.db_table in self._views

    @cached_property
    def _views(self) -> set[str]:
        connection = connections[self._database]
        with connection.cursor() as cursor:
            tables = connection.introspection.get_table_list(cursor)
        return {one.name for one in tables if one.type == "v"}

    @property
    def _no_table(self) -> str:
        return f'it has no table in database "{self._database}"'

    @property
    def _not_ours(self) -> str:
        return f'the routers of the project keep its rows out of database "{self._database}"'

    def _model(self, label: str) -> Any:
        if label not in self._unknown:
            try:
                model = apps.get_model(self._proxies.get(schemas.plain_label(label), label))
            except (LookupError, ValueError):
                self._unknown[label] = f"no such model in this project{_similar(label)}"
            else:
                if model._meta.swapped:
                    self._unknown[label] = f"it is swapped out for {model._meta.swapped}"
                elif not (model._meta.pk.concrete or is_composite(model._meta.pk)):
                    self._unknown[label] = (
                        "its pk is no column, and none that Django makes of several"
                    )
                elif not (
                    router.allow_migrate_model(self._database, model) or self.elsewhere(model)
                ):
                    self._unknown[label] = self._no_table
                else:
                    return concrete(model)
        raise UnknownModelError(self._unknown[label])


def is_time_of_writing(field: Any) -> bool:
    """Whether a column holds when its row was written."""
    return getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)


def _may_be_unsaid(field: Any) -> bool:
    """Whether a new row of which nothing is said can hold something in a column."""
    is_made = field.has_default() or getattr(field, "has_db_default", bool)()
    return field.null or is_made or is_time_of_writing(field) or field.get_default() is not None


def _is_cut(field: Any) -> bool:
    """Whether backups say less than the column holds: they cut times to milliseconds."""
    return isinstance(field, DateTimeField | TimeField)


def _similar(label: str) -> str:
    return did_you_mean(label, [model._meta.label_lower for model in apps.get_models()])


def unique_sets(model: Any) -> Iterator[tuple[str, ...]]:
    """The names of fields of the model's own table that are unique together, where none is null."""
    yield ("pk",)
    yield from (unique.names for unique in _declared(model) if unique.condition is None)


def _declared(model: Any) -> Iterator[Unique]:
    """What the model's own table declares to be unique, but for expressions."""
    for field in model._meta.local_concrete_fields:
        if field.unique:
            yield Unique((field.name,))
    for names in model._meta.unique_together:
        yield Unique(tuple(names))
    for constraint in model._meta.constraints:
        if isinstance(constraint, UniqueConstraint) and constraint.fields:
            with_nulls = getattr(constraint, "nulls_distinct", None) is False
            yield Unique(tuple(constraint.fields), constraint.condition, with_nulls)


def _target(model: Any, relation: str) -> Any:
    return concrete(model._meta.get_field(relation).remote_field.model)


def _tell_rows_apart(model: Any, paths: Iterable[Path]) -> bool:
    """Whether the database sees to it that no two rows of `model` have the same values there."""
    behind: dict[str, list[Path]] = {}
    for first, *rest in paths:
        behind.setdefault(first, []).append(tuple(rest))
    told = {
        name
        for name, rests in behind.items()
        if () in rests or _tell_rows_apart(_target(model, name), rests)
    }
    return any(told.issuperset(one) for one in unique_sets(model))


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
        model = _target(model, hop)
        if name != model._meta.pk.name or model._meta.pk.remote_field:
            yield model._meta.label_lower, name


def _pk_kind(pk: Any) -> PkKind:
    if is_composite(pk):
        return PkKind.COMPOSITE
    if pk.remote_field:
        return PkKind.RELATION
    return PkKind.AUTO if isinstance(pk, AutoField) else PkKind.OWN


def _reference(
    field: Field[Any, Any], relation: schemas.Relation | None, plans: Plans
) -> Reference | None:
    proxy_key = _has_proxy_key(relation)
    if field.remote_field:
        target, former = field.target_field, _former(field, relation, plans)
        if not target.primary_key:
            label = concrete(target.model)._meta.label_lower
            return Reference(label, target.name, proxy_key, former)
        label = concrete(field.remote_field.model)._meta.label_lower
        return Reference(label, None, proxy_key, former)
    if relation is None:
        return None
    try:  # a plain column that holds keys all the same
        return Reference(plans.own_label(relation.to), relation.to_field, proxy_key)
    except UnknownModelError:
        return None


def _reference_of_many(field: Any, relation: schemas.Relation | None, plans: Plans) -> Reference:
    label = concrete(field.remote_field.model)._meta.label_lower
    return Reference(label, None, _has_proxy_key(relation), _former(field, relation, plans))


def _former(field: Any, relation: schemas.Relation | None, plans: Plans) -> str | None:
    """To which other model, with ids of its own, a relation of today leads by the schema."""
    if relation is None:
        return None
    label = plans.naming.renames.label(relation.to)
    return None if has_ids_of(label, field.remote_field.model) else label


def _has_proxy_key(relation: schemas.Relation | None) -> bool:
    keys = (relation.natural_key, relation.natural_key_method) if relation else ()
    return any(key is not None for key in keys)


def _inside(model: Any, spec: schemas.Model, plans: Plans) -> dict[str, Inside]:
    inside: dict[str, Inside] = {}
    for path, embedded in spec.embedded.items():
        try:
            end = _own_end(embedded, plans)
        except FieldDoesNotExist as error:
            place = f"models.{model._meta.label_lower}.embedded.{path}.to_field"
            raise misfit(str(error), place) from None
        inside.setdefault(schemas.embedded_steps(path)[0], Inside()).add(path, end)
    return inside


def _own_end(end: schemas.Embedded, plans: Plans) -> schemas.Embedded:
    """`end` by the label of the concrete model, and without a `to_field` that is the pk."""
    try:
        label = plans.own_label(end.to)
    except UnknownModelError:
        return end
    if end.to_field is None:
        return schemas.Embedded(label)
    field = apps.get_model(label)._meta.get_field(end.to_field)
    owner = concrete(field.model)._meta.label_lower
    return schemas.Embedded(owner, None if field.primary_key else field.name)


def _by_concrete_label(schema: schemas.Schema) -> dict[str, schemas.Model]:
    specs = {}
    for label, spec in schema.models.items():
        try:
            own = concrete(apps.get_model(label))._meta.label_lower
        except (LookupError, ValueError):
            continue
        if own == label or own not in specs:
            specs[own] = spec
    return specs


def _key_form(model: Any, spec: schemas.Model, plans: Plans) -> KeyForm | None:
    if spec.natural_key_method is not None:
        return CalledKey(spec.natural_key_method, model)
    natural_key = spec.natural_key or _key_of_links(model)
    if natural_key is None:
        return None
    parts: list[KeyPart] = []

    def shape_of(key: list[schemas.KeyPart]) -> list[Any]:
        """`None` for a part, a list for a list; the parts are gathered on the way."""
        shape: list[Any] = []
        for part in key:
            if isinstance(part, list):
                shape.append(shape_of(part))
            else:
                shape.append(None)
                parts.append(_key_part(model, part, spec, plans))
        return shape

    return KeyForm(shape_of(natural_key), parts, plans.naming)


def _key_of_links(model: Any) -> list[schemas.KeyPart] | None:
    """What tells the rows of a table apart that Django made for a many-to-many field."""
    if not model._meta.auto_created:
        return None
    return [
        f"{field.name}__pk" for field in model._meta.local_concrete_fields if field.remote_field
    ]


def _key_part(model: Any, part: str, spec: schemas.Model, plans: Plans) -> KeyPart:
    hops, field, transform = schemas.parse_path(part)
    try:
        path, end = walk(model, (*hops, field))
    except FieldDoesNotExist as error:
        what = f'"{part}" does not lead to a field of this project: {error}'
        raise misfit(what, f"models.{model._meta.label_lower}.natural_key") from None
    holders = {generic.object_id for generic in spec.generic_relations.values()}
    holders |= {schemas.embedded_steps(path)[0] for path in spec.embedded}
    is_foreign_pk = path[0] in holders if len(path) == 1 else plans.may_change(end)
    return KeyPart(path, plain_of(end), transform, is_foreign_pk)
