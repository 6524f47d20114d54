"""The kinds of models, relations and keys that the zoo has to have, each told by what it is."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import django
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models

from fastnk.django.schema.tracing import TraceError, trace_natural_key
from fastnk.schema import flat_parts, parse_path


class Specimen(NamedTuple):
    """A model, its rows, and the backup of those."""

    model: Any
    rows: list[Any]
    text: str

    @property
    def app(self) -> str:
        return str(self.model._meta.app_label)

    @property
    def pk(self) -> Any:
        return self.model._meta.pk

    @property
    def has_key(self) -> bool:
        return hasattr(self.model, "natural_key")

    @property
    def own_key(self) -> bool:
        return defines_key(self.model)

    @property
    def parents(self) -> list[Any]:
        """The models whose rows those of this one continue, nearest first."""
        return parents_of(self.model)

    @property
    def bases(self) -> list[Any]:
        """The abstract bases that define the key, nearest first."""
        bases = [base for base in self.model.__mro__[1:] if hasattr(base, "_meta")]
        return [base for base in bases if base._meta.abstract and defines_key(base)]

    @property
    def foreign_keys(self) -> list[Any]:
        return foreign_keys_of(self.model)

    @property
    def many(self) -> list[Any]:
        """The many-to-many relations, as they look from the other side."""
        return [field.remote_field for field in self.model._meta.local_many_to_many]

    @property
    def proxied(self) -> Any:
        """The model that a proxy stands for."""
        return self.model._meta.concrete_model if self.model._meta.proxy else None

    @property
    def finds_by_key(self) -> bool:
        return hasattr(self.model._default_manager, "get_by_natural_key")

    def method(self) -> Iterator[ast.AST]:
        """The nodes of the method that makes the key, if the model has its own."""
        if self.own_key:
            source = textwrap.dedent(inspect.getsource(self.model.natural_key))
            yield from ast.walk(ast.parse(source))


Predicate = Callable[[Specimen], bool]


def defines_key(model: Any) -> bool:
    return "natural_key" in vars(model)


def keyed(model: Any) -> bool:
    return hasattr(model, "natural_key")


def parents_of(model: Any) -> list[Any]:
    link = model._meta.pk.remote_field
    return [link.model, *parents_of(link.model)] if link and link.parent_link else []


def foreign_keys_of(model: Any) -> list[Any]:
    """The relations in columns, but for the link to the parent."""
    fields = [field for field in model._meta.local_fields if field.is_relation]
    return [field for field in fields if not (field.primary_key and parents_of(model))]


def pk_as(kind: type[Any], holds: Callable[[Any], bool] = lambda pk: True) -> Predicate:
    return lambda s: isinstance(s.pk, kind) and any(holds(row.pk) for row in s.rows)


def relation_as_pk(key: bool, one_to_one: bool = True) -> Predicate:
    return lambda s: (
        (s.pk.is_relation, s.pk.one_to_one, s.has_key) == (True, one_to_one, key) and not s.parents
    )


def outside_of_the_key(s: Specimen) -> bool:
    if not s.own_key or s.pk.is_relation or not isinstance(s.pk, models.CharField):
        return False
    return s.pk.name not in flat_parts(trace_natural_key(s.model) or [])


def by_pk(s: Specimen) -> bool:
    """Whether the pk is the natural key."""
    return s.has_key and all(row.pk == row.natural_key() for row in s.rows)


def hops(number: int) -> Predicate:
    """A natural key that follows so many relations."""

    def follows(s: Specimen) -> bool:
        try:
            key = trace_natural_key(s.model) or []
        except TraceError:
            return False
        return any(len(parse_path(path).hops) == number for path in flat_parts(key))

    return follows


def refers(holds: Callable[[Any], bool]) -> Predicate:
    return lambda s: any(map(holds, s.foreign_keys))


def tree(key: bool, null: bool) -> Predicate:
    return lambda s: (
        s.has_key is key
        and any(f.remote_field.model is s.model and f.null is null for f in s.foreign_keys)
    )


def cycle(key: bool, null: bool) -> Predicate:
    """Two models that refer to each other, by a column that may be null or none that may."""

    def closes(s: Specimen) -> bool:
        for field in s.foreign_keys:
            other = field.remote_field.model
            back = [f for f in foreign_keys_of(other) if f.remote_field.model is s.model]
            if other is not s.model and back:
                return s.has_key is key and any(f.null for f in (field, *back)) is null
        return False

    return closes


def many(holds: Callable[[Any], bool]) -> Predicate:
    return lambda s: any(map(holds, s.many))


def to_self(holds: Callable[[Any, Specimen], bool]) -> Predicate:
    return lambda s: any(r.model is s.model and holds(r, s) for r in s.many)


def through(holds: Callable[[Any], bool]) -> Predicate:
    """A many-to-many relation with a through model of the project's own."""
    return many(lambda r: not r.through._meta.auto_created and holds(r))


def child(levels: int, key: bool, own: bool) -> Predicate:
    return lambda s: (len(s.parents), s.has_key, s.own_key) == (levels, key, own)


def holds(kind: type[Any]) -> Predicate:
    """A key with a value of the kind in it."""
    return lambda s: any(
        type(leaf) is kind
        for row in (s.rows if s.has_key and trace_or_none(s.model) else [])
        for leaf in leaves(row.natural_key())
    )


def trace_or_none(model: Any) -> Any:
    try:
        return trace_natural_key(model)
    except TraceError:
        return None


def leaves(key: Any) -> Iterator[Any]:
    for part in key:
        if isinstance(part, tuple | list):
            yield from leaves(part)
        else:
            yield part


def made_of(holds: Callable[[Any], bool]) -> Predicate:
    """A key whose method names such a field."""

    def does(s: Specimen) -> bool:
        named = {node.attr for node in s.method() if isinstance(node, ast.Attribute)}
        return any(field.name in named and holds(field) for field in s.model._meta.local_fields)

    return does


def choices(kind: type[Any]) -> Predicate:
    """A key with a field in it that has choices."""
    return made_of(lambda field: bool(field.choices) and isinstance(field, kind))


def written_with(*kinds: type[ast.AST]) -> Predicate:
    return lambda s: any(isinstance(node, kinds) for node in s.method())


def calls(name: str) -> Predicate:
    def does(s: Specimen) -> bool:
        called = [node.func for node in s.method() if isinstance(node, ast.Call)]
        return any(getattr(f, "id", getattr(f, "attr", None)) == name for f in called)

    return does


def operates(kind: type[ast.operator]) -> Predicate:
    return lambda s: any(
        isinstance(node, ast.BinOp) and isinstance(node.op, kind) for node in s.method()
    )


def field_of(kind: type[Any]) -> Predicate:
    return lambda s: any(isinstance(field, kind) for field in s.model._meta.local_fields)


def array(holds: Callable[[Any, Any], bool]) -> Predicate:
    """A field with an array, and a value in it."""
    return lambda s: any(
        holds(field.base_field, getattr(row, field.attname))
        for field in s.model._meta.local_fields
        if is_array(field)
        for row in s.rows
    )


def is_array(field: Any) -> bool:
    """Told without the fields of PostgreSQL, which do not load where its driver is missing."""
    return hasattr(field, "base_field") and not is_range(field)


def is_range(field: Any) -> bool:
    return hasattr(field, "range_type")


def array_of(kind: type[Any]) -> Predicate:
    return array(lambda item, value: isinstance(item, kind) and bool(value))


def generic(kind: type[Any]) -> Predicate:
    def refers_by(s: Specimen) -> bool:
        keys = [f for f in s.model._meta.private_fields if isinstance(f, GenericForeignKey)]
        return any(isinstance(s.model._meta.get_field(key.fk_field), kind) for key in keys)

    return refers_by


def is_model(model: Any) -> Predicate:
    return lambda s: s.model is model and bool(s.rows)


RELATIONS: dict[str, Predicate] = {
    "one-to-one as pk, with a natural key": relation_as_pk(True),
    "one-to-one as pk, without one": relation_as_pk(False),
    "one-to-one beside the pk": refers(lambda f: f.one_to_one and not f.primary_key),
    "foreign key as pk, with a natural key": relation_as_pk(True, one_to_one=False),
    "foreign key as pk, without one": relation_as_pk(False, one_to_one=False),
    "foreign key in a natural key": hops(1),
    "foreign key in a natural key, two levels": hops(2),
    "foreign key in a natural key, three levels": hops(3),
    "to_field": refers(lambda f: not f.target_field.primary_key),
    "to_field that is a relation": refers(
        lambda f: f.target_field.is_relation and not f.target_field.primary_key
    ),
    "tree with a natural key": tree(key=True, null=True),
    "tree with a natural key, NOT NULL": tree(key=True, null=False),
    "tree without one": tree(key=False, null=True),
    "tree without one, NOT NULL": tree(key=False, null=False),
    "cycle of models, nullable": cycle(key=True, null=True),
    "cycle of models, NOT NULL": cycle(key=True, null=False),
    "cycle of models without natural keys, nullable": cycle(key=False, null=True),
    "cycle of models without natural keys, NOT NULL": cycle(key=False, null=False),
    "many-to-many to self": to_self(lambda r, s: not r.symmetrical),
    "many-to-many to self, symmetrical": to_self(lambda r, s: r.symmetrical),
    "many-to-many to self, without a natural key": to_self(lambda r, s: not s.has_key),
    "many-to-many to a model with natural key": many(lambda r: keyed(r.model)),
    "many-to-many to a model without one": many(lambda r: not keyed(r.model)),
    "many-to-many through a model with natural key": through(lambda r: keyed(r.through)),
    "many-to-many through a model without one": through(lambda r: not keyed(r.through)),
    "many-to-many to self through a model": to_self(lambda r, s: not r.through._meta.auto_created),
    "relation by several columns": lambda s: any(
        field.is_relation and not field.concrete for field in s.model._meta.local_fields
    ),
    "relation to a proxy": refers(lambda f: f.remote_field.model._meta.proxy),
    "many-to-many to a proxy": many(lambda r: r.model._meta.proxy),
    "generic relation in a number column": generic(models.IntegerField),
    "generic relation in a text column": generic(models.CharField),
    "generic relation in a UUID column": generic(models.UUIDField),
}

PKS: dict[str, Predicate] = {
    "string pk": pk_as(models.CharField),
    "string pk that is not in the natural key": outside_of_the_key,
    "UUID pk": pk_as(models.UUIDField),
    "integer pk": pk_as(models.IntegerField, lambda pk: 0 <= pk < 1 << 31),
    "big pk": pk_as(models.IntegerField, lambda pk: pk > 1 << 60),
    "negative pk": pk_as(models.IntegerField, lambda pk: pk < 0),
}
if django.VERSION >= (5, 2):
    composite = pk_as(models.CompositePrimaryKey)
    PKS |= {
        "composite pk": lambda s: composite(s) and not s.has_key,
        "composite pk and another natural key": lambda s: (
            composite(s) and s.own_key and not by_pk(s)
        ),
        "composite pk as the natural key": lambda s: composite(s) and by_pk(s),
    }

INHERITANCE: dict[str, Predicate] = {
    "child with its parent's key": child(1, key=True, own=False),
    "child with a key of its own": child(1, key=True, own=True),
    "child without a key": child(1, key=False, own=False),
    "grandchild with its grandparent's key": child(2, key=True, own=False),
    "grandchild with a key of its own": child(2, key=True, own=True),
    "grandchild without a key": child(2, key=False, own=False),
    "child of two parents": lambda s: len(s.model._meta.parents) > 1 and len(s.parents) == 1,
    "parent link that is not the pk": refers(
        lambda f: f.remote_field.parent_link and not f.primary_key
    ),
    "natural_key of an abstract base": lambda s: len(s.bases) == 1 and not s.own_key,
    "natural_key that an abstract base overrides": lambda s: len(s.bases) > 1 and not s.own_key,
    "natural_key that overrides an abstract base's": lambda s: bool(s.bases) and s.own_key,
    "proxy with its model's key": lambda s: bool(s.proxied) and s.has_key and not s.own_key,
    "proxy that overrides the key": lambda s: keyed(s.proxied) and s.own_key,
    "proxy that defines the key": lambda s: bool(s.proxied) and s.own_key and not keyed(s.proxied),
    "proxy of a proxy": lambda s: bool(s.proxied) and s.model._meta.proxy_for_model != s.proxied,
    "natural_key without get_by_natural_key": lambda s: s.has_key and not s.finds_by_key,
    "get_by_natural_key without natural_key": lambda s: s.finds_by_key and not s.has_key,
    "natural_key and get_by_natural_key": lambda s: s.finds_by_key and s.has_key,
}

KEYS: dict[str, Predicate] = {
    "date": holds(date),
    "time": holds(time),
    "moment": holds(datetime),
    "decimal": holds(Decimal),
    "UUID": holds(UUID),
    "float": holds(float),
    "truth value": holds(bool),
    "null": holds(type(None)),
    "enumeration of texts": choices(models.CharField),
    "enumeration of numbers": choices(models.IntegerField),
    "str()": calls("str"),
    "isoformat()": calls("isoformat"),
    "super()": calls("super"),
    "f-string": written_with(ast.JoinedStr),
    "%": operates(ast.Mod),
    "format()": calls("format"),
    "concatenation": operates(ast.Add),
    "slice": written_with(ast.Slice),
    "branch": written_with(ast.IfExp, ast.If),
    "query": calls("first"),
    "all ancestors": lambda s: (
        calls("natural_key")(s) and tree(key=True, null=True)(s) and trace_or_none(s.model) is None
    ),
}

CONTENT: dict[str, Predicate] = {
    "JSON that looks like records": lambda s: (
        field_of(models.JSONField)(s) and '"natural_key": ["x"]' in s.text
    ),
    "non-ASCII text": lambda s: not s.text.isascii(),
    "escapes": lambda s: r"\u0001" in s.text and r"\"" in s.text,
    "non-ASCII field": lambda s: any(not f.name.isascii() for f in s.model._meta.fields),
    "file": field_of(models.FileField),
    "binary": field_of(models.BinaryField),
    "duration": field_of(models.DurationField),
    "field that is not in backups": lambda s: any(
        not (field.serialize or field.primary_key) for field in s.model._meta.local_fields
    ),
    "rows that the default manager hides": lambda s: (
        "hidden" in {field.name for field in s.model._meta.fields} and len(s.rows) > 1
    ),
    "content type": is_model(ContentType),
    "permission": is_model(Permission),
    "group": is_model(Group),
    "user": is_model(User),
}
if django.VERSION >= (5, 0):
    CONTENT |= {
        "generated column": field_of(models.GeneratedField),
        "generated column in the key": lambda s: any(
            getattr(field, "generated", False) and field.name in (trace_or_none(s.model) or ())
            for field in s.model._meta.local_fields
        ),
        "reference by a generated column": refers(
            lambda f: f.concrete and isinstance(f.target_field, models.GeneratedField)
        ),
        "default of the database": lambda s: any(
            f.db_default is not models.NOT_PROVIDED for f in s.model._meta.local_fields
        ),
    }

ARRAYS: dict[str, Predicate] = {
    "array of integers": array_of(models.IntegerField),
    "array of texts": array_of(models.TextField),
    "array of texts like JSON": array(lambda item, value: '{"pk": 1}' in (value or ())),
    "array of arrays": array(lambda item, value: bool(value) and isinstance(value[0], list)),
    "array of dates": array_of(models.DateField),
    "array of moments": array_of(models.DateTimeField),
    "array of decimals": array_of(models.DecimalField),
    "array of UUIDs": array_of(models.UUIDField),
    "array of JSON": array_of(models.JSONField),
    "array with a null": array(lambda item, value: bool(value) and None in leaves(value)),
    "array that is null": array(lambda item, value: value is None),
    "array that is empty": array(lambda item, value: value == []),
    "array in a natural key": made_of(is_array),
    "range": lambda s: any(map(is_range, s.model._meta.local_fields)),
    "range in a natural key": made_of(is_range),
}

KINDS: dict[str, Predicate] = {
    **RELATIONS,
    **PKS,
    **INHERITANCE,
    **{f"{what} in a natural key": predicate for what, predicate in KEYS.items()},
    **CONTENT,
    **ARRAYS,
}
