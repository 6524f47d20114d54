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

from fastnk.django.tracing import TraceError, trace_natural_key
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


def relation_as_pk(key: bool) -> Predicate:
    return lambda s: bool(s.pk.one_to_one) and not s.parents and s.has_key is key


def outside_of_the_key(s: Specimen) -> bool:
    if not s.own_key or s.pk.is_relation or not isinstance(s.pk, models.CharField):
        return False
    return s.pk.name not in flat_parts(trace_natural_key(s.model) or [])


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


def tree(key: bool) -> Predicate:
    return lambda s: (
        s.has_key is key and any(f.remote_field.model is s.model for f in s.foreign_keys)
    )


def cycle(null: bool) -> Predicate:
    """Two models that refer to each other, by a column that may be null or none that may."""

    def closes(s: Specimen) -> bool:
        for field in s.foreign_keys:
            other = field.remote_field.model
            back = [f for f in foreign_keys_of(other) if f.remote_field.model is s.model]
            if other is not s.model and back:
                return any(f.null for f in (field, *back)) is null
        return False

    return closes


def many(holds: Callable[[Any], bool]) -> Predicate:
    return lambda s: any(map(holds, s.many))


def to_self(symmetrical: bool) -> Predicate:
    return lambda s: any(r.model is s.model and r.symmetrical is symmetrical for r in s.many)


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


def choices(kind: type[Any]) -> Predicate:
    """A key with a field in it that has choices."""

    def has(s: Specimen) -> bool:
        named = {node.attr for node in s.method() if isinstance(node, ast.Attribute)}
        fields = [field for field in s.model._meta.local_fields if field.name in named]
        return any(field.choices and isinstance(field, kind) for field in fields)

    return has


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
    "foreign key in a natural key": hops(1),
    "foreign key in a natural key, two levels": hops(2),
    "foreign key in a natural key, three levels": hops(3),
    "to_field": refers(lambda f: not f.target_field.primary_key),
    "to_field that is a relation": refers(
        lambda f: f.target_field.is_relation and not f.target_field.primary_key
    ),
    "tree with a natural key": tree(True),
    "tree without one": tree(False),
    "cycle of models, nullable": cycle(True),
    "cycle of models, NOT NULL": cycle(False),
    "many-to-many to self": to_self(False),
    "many-to-many to self, symmetrical": to_self(True),
    "many-to-many to a model with natural key": many(lambda r: keyed(r.model)),
    "many-to-many to a model without one": many(lambda r: not keyed(r.model)),
    "many-to-many with a through model": many(lambda r: not r.through._meta.auto_created),
    "relation to a proxy": refers(lambda f: f.remote_field.model._meta.proxy),
    "many-to-many to a proxy": many(lambda r: r.model._meta.proxy),
    "generic relation in a number column": generic(models.IntegerField),
    "generic relation in a text column": generic(models.CharField),
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
    PKS |= {
        "composite pk": lambda s: pk_as(models.CompositePrimaryKey)(s) and not s.has_key,
        "composite pk and a natural key": lambda s: (
            pk_as(models.CompositePrimaryKey)(s) and s.has_key
        ),
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
        calls("natural_key")(s) and tree(True)(s) and trace_or_none(s.model) is None
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

KINDS: dict[str, Predicate] = {
    **RELATIONS,
    **PKS,
    **INHERITANCE,
    **{f"{what} in a natural key": predicate for what, predicate in KEYS.items()},
    **CONTENT,
}
