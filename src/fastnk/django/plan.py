"""What the loader must know of each model: Django's fields and the schema's natural key."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.apps import apps
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import FieldDoesNotExist
from django.db import router
from django.db.models import (
    AutoField,
    CharField,
    DateTimeField,
    Field,
    Model,
    TextField,
    UUIDField,
)

from fastnk import schema as schemas
from fastnk.django.calling import at_path
from fastnk.django.renaming import Naming, named_models
from fastnk.django.values import Inside, as_in_json, comparable, converted, in_milliseconds
from fastnk.errors import SchemaError
from fastnk.renames import Renames

Path = tuple[str, ...]
"""Names of relations and of the field at the end; no `pk`, no inherited names left out."""

Key = tuple[Any, ...]
"""The comparable values of a natural key's parts in order, nested lists flattened.

Of a key that a method makes it is the JSON text alone."""


RIGHTS = {"auth.group", "auth.permission"}
"""The models membership in which lets somebody do something."""


class UnknownModelError(Exception):
    """A label that the project or the database does not have; the text says why."""


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


class Column(NamedTuple):
    """A field in a model's own table."""

    field: Any
    reference: Reference | None


class ManyColumn(NamedTuple):
    """A many-to-many field whose table Django made by itself."""

    field: Any
    reference: Reference

    @property
    def through(self) -> Any:
        return self.field.remote_field.through

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


class KeyShapeError(Exception):
    """A natural key that does not have the form the schema says."""


class KeyPart:
    """One path of a natural key and the field whose values it gives."""

    def __init__(self, path: Path, field: Any, transform: str | None, is_foreign_pk: bool) -> None:
        self.path = path
        self.lookup = "__".join(path)
        self.field = field
        self.is_own_pk = isinstance(field, AutoField) and len(path) == 1
        self.is_foreign_pk = is_foreign_pk
        """Whether it is a pk of another row, which may be another one in the target."""
        self._is_text = isinstance(field, CharField | TextField)
        self.is_plain_text = type(field) in (CharField, TextField)
        self._transform = transform

    def comparable(self, value: Any) -> Any:
        """The part's value in a backup, whatever its transform made of it, as the field's.

        Raises one of `values.REFUSALS`.
        """
        if value is None or (self.is_plain_text and type(value) is str):
            return value
        if self._transform == "str" and value == "None" and not self._is_text:
            return None
        return comparable(converted(self.field, value))

    def all_comparable(self, values: Sequence[Any]) -> Sequence[Any]:
        """What `comparable` gives for each of the values."""
        if set(map(type, values)) == {str}:
            if self.is_plain_text:
                return values
            if type(self.field) is UUIDField:
                return msgspec.convert(values, list[UUID])
            if type(self.field) is DateTimeField and settings.USE_TZ:
                moments = list(map(datetime.fromisoformat, values))
                if set(map(attrgetter("tzinfo"), moments)) == {UTC}:
                    return list(map(in_milliseconds, moments))
        return list(map(self.comparable, values))


class KeyForm:
    """What a model's natural key is made of."""

    def __init__(
        self, shape: list[Any], parts: list[KeyPart], naming: Naming | None = None
    ) -> None:
        """`naming` says what the models are called today that keys in the backup name."""
        self.parts = parts
        self.positions = {part.path: number for number, part in enumerate(parts)}
        self._naming = naming
        self._named = (
            named_models(self.positions, [part.field for part in parts])
            if naming and naming.renames.changes_models
            else []
        )
        self.has_foreign_pk = any(part.is_foreign_pk for part in parts)
        self._shape = shape
        self._is_flat = all(inner is None for inner in shape)
        self._plain_types = (
            [str] * len(parts) if all(part.is_plain_text for part in parts) else None
        )

    def read(self, value: list[Any]) -> Key:
        """The key that a list in a backup spells. Raises `KeyShapeError` or a refusal."""
        if self._is_flat and type(value) is list and list(map(type, value)) == self._plain_types:
            return self._renamed(tuple(value))
        key = tuple(
            part.comparable(item)
            for part, item in zip(self.parts, _flat(value, self._shape), strict=True)
        )
        return self._renamed(key)

    def read_all(self, values: list[Any]) -> Iterable[Key]:
        """What `read` gives for each of the lists. Raises if any of them has to be refused."""
        is_flat = self._is_flat and not self._named and set(map(type, values)) == {list}
        if not is_flat or set(map(len, values)) != {len(self.parts)}:
            return [self.read(value) for value in values]
        columns = zip(*values, strict=True)
        made = [
            part.all_comparable(column) for part, column in zip(self.parts, columns, strict=True)
        ]
        return zip(*made, strict=True)

    def spell(self, key: Key) -> list[Any]:
        """The list that `read` takes apart."""
        return _nested(iter(key), self._shape)

    def _renamed(self, key: Key) -> Key:
        """The key with the names that models have today."""
        if self._naming is None or not self._named:
            return key
        items = list(key)
        for named in self._named:
            self._naming.rename(items, named)
        return tuple(items)


class CalledKey(KeyForm):
    """A natural key that a method of the project makes."""

    def __init__(self, method: str, model: Any) -> None:
        """`method` is its dotted path, `model` the one of the rows. Raises `SchemaError`."""
        super().__init__([], [])
        self.method = method
        owner, self._call = _found(method, model)
        is_of_rows = issubclass(owner, Model) and concrete(owner) is model
        self.model: Any = owner if is_of_rows else model
        """The model whose instances the method is called on: that of the rows, or a proxy of it."""

    def read(self, value: Any) -> Key:
        if not isinstance(value, list):
            raise KeyShapeError("a list was expected")
        return (json.dumps(value, ensure_ascii=False, sort_keys=True),)

    def spell(self, key: Key) -> list[Any]:
        spelled: list[Any] = json.loads(key[0])
        return spelled

    def made_for(self, row: Any) -> Key:
        """The key of an instance of `model`. Raises what the method raises, and `KeyShapeError`."""
        key = self._call(row)
        if not isinstance(key, list | tuple):
            raise KeyShapeError(f"a list or a tuple was expected, not {type(key).__name__}")
        return self.read(as_in_json(key))


class Plan:
    """One concrete model: its columns, what they refer to, and what tells its rows apart."""

    def __init__(
        self, model: Any, spec: schemas.Model | None, plans: Plans, weak: str | None = None
    ) -> None:
        self.model = model
        self.weak = weak
        """Why the declared natural key does not tell the rows apart and counts as none."""
        self.label: str = model._meta.label_lower
        self.pk: Any = model._meta.pk
        self.pk_kind = _pk_kind(self.pk)
        is_composite = self.pk_kind is PkKind.COMPOSITE
        self.pk_fields: list[Any] = list(self.pk.fields) if is_composite else [self.pk]
        relations = spec.relations if spec else {}
        self.columns: dict[str, Column] = {}
        self.generated: set[str] = set()
        for field in model._meta.local_concrete_fields:
            if getattr(field, "generated", False):
                self.generated.add(field.name)
            else:
                reference = _reference(field, relations.get(field.name), plans)
                self.columns[field.name] = Column(field, reference)
        self.many: dict[str, ManyColumn] = {
            field.name: ManyColumn(field, _reference_of_many(field, relations.get(field.name)))
            for field in model._meta.local_many_to_many
            if field.remote_field.through._meta.auto_created
        }
        self.generics = list(spec.generic_relations.values()) if spec else []
        self.inside: dict[str, Inside] = _inside(model, spec, plans) if spec else {}
        """The columns whose values have ids of other rows inside."""
        self.special = {generic.object_id for generic in self.generics} | self.inside.keys()
        """The columns whose values only the whole record can tell."""
        self.key = None if weak else _key_form(model, spec or schemas.Model(), plans)
        plain, one_to_one = self._uniques()
        self.unique = plain[0] if plain else None
        """The column that identifies rows that have nothing else but a pk of the database."""
        self.unique_relation = None if plain or not one_to_one else one_to_one[0]
        """The same where it is a relation: a one-to-one relation beside the pk."""

    @property
    def own_pk_part(self) -> int | None:
        """Where the model's own automatic pk stands in its natural key, if it does."""
        parts = self.key.parts if self.key else []
        return next((number for number, part in enumerate(parts) if part.is_own_pk), None)

    @property
    def key_is_enforced(self) -> bool:
        """Whether the database sees to it that no two rows have the same natural key."""
        names = {part.path[0] for part in self.key.parts} if self.key else set()
        return any(names.issuperset(one) for one in unique_sets(self.model))

    @property
    def gives_rights(self) -> bool:
        """Whether its rows say what somebody may do; what changes in them is told by name."""
        targets = {column.reference.target for column in self.many.values()}
        return issubclass(self.model, AbstractBaseUser) or bool(targets & RIGHTS)

    @property
    def can_be_lean(self) -> bool:
        """Whether each row can be decided by its record alone, where nothing refers to it."""
        if self.unique_relation is not None or self.gives_rights:
            return False
        if self.pk_kind is not PkKind.AUTO:
            return self.pk_kind is PkKind.OWN and self.key is None
        is_plain = self.key is None or not self.key.has_foreign_pk
        return is_plain and not isinstance(self.key, CalledKey)

    @property
    def pk_path(self) -> Path:
        """The path to the plain field whose value the pk is."""
        return _walk(self.model, ("pk",))[0]

    def end_of(self, path: Path) -> Any:
        """The plain field at the end of a path."""
        return _walk(self.model, path)[1]

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
            and not (column.field.null or column.field.primary_key)
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
    ) -> None:
        """`weak` tells of which models the natural key counts as none, and why."""
        self.naming = Naming(renames or Renames(), schema)
        self._weak = weak or {}
        self._specs = _by_concrete_label(schema)
        self._database = database
        self._plans: dict[str, Plan] = {}
        self._unknown: dict[str, str] = {}

    def __getitem__(self, label: str) -> Plan:
        """The plan of a model or of what it is a proxy of. Raises `UnknownModelError`."""
        plan = self._plans.get(label)
        if plan is None:
            model = self._model(label)
            own = model._meta.label_lower
            plan = self._plans.get(own) or Plan(
                model, self._specs.get(own), self, self._weak.get(own)
            )
            self._plans[own] = self._plans[label] = plan
        return plan

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

    def _model(self, label: str) -> Any:
        if label not in self._unknown:
            try:
                model = apps.get_model(label)
            except (LookupError, ValueError):
                self._unknown[label] = f"no such model in this project{_similar(label)}"
            else:
                if model._meta.swapped:
                    self._unknown[label] = f"it is swapped out for {model._meta.swapped}"
                elif not router.allow_migrate_model(self._database, model):
                    self._unknown[label] = f'it has no table in database "{self._database}"'
                else:
                    return concrete(model)
        raise UnknownModelError(self._unknown[label])


def _similar(label: str) -> str:
    labels = [model._meta.label_lower for model in apps.get_models()]
    close = difflib.get_close_matches(label, labels, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def unique_sets(model: Any) -> Iterator[tuple[str, ...]]:
    """The names of fields of the model's own table that are unique together, where none is null."""
    yield ("pk",)
    for field in model._meta.local_concrete_fields:
        if field.unique:
            yield (field.name,)
    yield from model._meta.unique_together
    for constraint in model._meta.total_unique_constraints:
        yield constraint.fields


def concrete(model: Any) -> Any:
    """The model whose table a model uses: itself, or what it is a proxy of."""
    return model._meta.concrete_model


ANY = "*"
"""Stands for every label."""


def referred_to(plans: Iterable[Plan]) -> set[str]:
    """The labels of the models that others may refer to; `ANY` among them means all."""
    labels: set[str] = set()
    for plan in plans:
        references = (column.reference for column in plan.columns.values())
        labels.update(reference.target for reference in references if reference)
        labels.update(column.reference.target for column in plan.many.values())
        labels.update(place.to for inside in plan.inside.values() for place in inside.all())
        if plan.generics:
            labels.add(ANY)
    return labels


def looked_through(plans: Iterable[Plan]) -> Iterator[tuple[str, str]]:
    """Label and field of every value that a record gives to the key or column of another."""
    for plan in plans:
        for part in plan.key.parts if plan.key else ():
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
        model = concrete(model._meta.get_field(hop).remote_field.model)
        if name != model._meta.pk.name or model._meta.pk.remote_field:
            yield model._meta.label_lower, name


def _pk_kind(pk: Any) -> PkKind:
    if not pk.concrete or pk.column is None:
        return PkKind.COMPOSITE
    if pk.remote_field:
        return PkKind.RELATION
    return PkKind.AUTO if isinstance(pk, AutoField) else PkKind.OWN


def _reference(
    field: Field[Any, Any], relation: schemas.Relation | None, plans: Plans
) -> Reference | None:
    proxy_key = _has_proxy_key(relation)
    if field.remote_field:
        target = field.target_field
        if not target.primary_key:
            return Reference(concrete(target.model)._meta.label_lower, target.name, proxy_key)
        return Reference(concrete(field.remote_field.model)._meta.label_lower, None, proxy_key)
    if relation is None:
        return None
    try:  # a plain column that holds keys all the same
        return Reference(plans.own_label(relation.to), relation.to_field, proxy_key)
    except UnknownModelError:
        return None


def _reference_of_many(field: Any, relation: schemas.Relation | None) -> Reference:
    label = concrete(field.remote_field.model)._meta.label_lower
    return Reference(label, None, _has_proxy_key(relation))


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
            raise _misfit(str(error), place) from None
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


def _misfit(what: str, place: str) -> SchemaError:
    return SchemaError(what, place=place, remedy="make the schema anew from the project")


def _found(method: str, model: Any) -> tuple[type, Callable[[Any], Any]]:
    """The class of a method by its dotted path, and the method. Raises `SchemaError`."""
    path, _, name = method.rpartition(".")
    owner = at_path(path)
    call = getattr(owner, name, None)
    if call is None:
        place = f"models.{model._meta.label_lower}.natural_key_method"
        raise _misfit(f'no method "{method}" in this project', place)
    return owner, call


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
        path, end = _walk(model, (*hops, field))
    except FieldDoesNotExist as error:
        what = f'"{part}" does not lead to a field of this project: {error}'
        raise _misfit(what, f"models.{model._meta.label_lower}.natural_key") from None
    holders = {generic.object_id for generic in spec.generic_relations.values()}
    holders |= {schemas.embedded_steps(path)[0] for path in spec.embedded}
    is_foreign_pk = path[0] in holders if len(path) == 1 else plans.may_change(end)
    return KeyPart(path, end, transform, is_foreign_pk)


def _walk(model: Any, names: tuple[str, ...]) -> tuple[Path, Any]:
    """The path with `pk` and inherited names spelled out, down to a plain field."""
    path: list[str] = []
    remaining = list(names)
    while remaining:
        name = remaining.pop(0)
        field = model._meta.pk if name == "pk" else model._meta.get_field(name)
        owner = concrete(field.model)
        if owner is not concrete(model):
            link = model._meta.get_ancestor_link(owner)
            path.append(link.name)
            model = concrete(link.remote_field.model)
            remaining.insert(0, name)
            continue
        path.append(field.name)
        if not remaining and field.remote_field:
            remaining.append(field.target_field.name)
        if remaining:
            if not field.remote_field:
                raise FieldDoesNotExist(f'"{field.name}" is not a relation')
            model = concrete(field.remote_field.model)
    return tuple(path), field


def _nested(items: Iterator[Any], shape: list[Any]) -> list[Any]:
    return [next(items) if inner is None else _nested(items, inner) for inner in shape]


def _flat(value: Any, shape: list[Any]) -> list[Any]:
    if not isinstance(value, list) or len(value) != len(shape):
        raise KeyShapeError(f"a list of {len(shape)} was expected")
    items: list[Any] = []
    for item, inner in zip(value, shape, strict=True):
        if inner is None:
            items.append(item)
        else:
            items += _flat(item, inner)
    return items
