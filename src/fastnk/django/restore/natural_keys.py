"""Natural keys: what they are made of, and how backups spell them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist
from django.db.models import AutoField, CharField, DateTimeField, Model, TextField

from fastnk.django.calling import at_path
from fastnk.django.restore.renaming import Naming, named_models
from fastnk.django.restore.values import (
    are_comparable,
    as_in_json,
    comparable,
    converted,
    in_milliseconds,
)
from fastnk.django.schema.describe import spelled_out
from fastnk.errors import SchemaError

Path = tuple[str, ...]
"""Names of relations and of the field at the end; no `pk`, no inherited names left out."""

Key = tuple[Any, ...]
"""The comparable values of a natural key's parts in order, nested lists flattened.

Of a key that a method makes it is the JSON text alone."""


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
            if self.is_plain_text or are_comparable(self.field, values):
                return values
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
        key = spelled_out(self._call(row))
        if not isinstance(key, list | tuple):
            raise KeyShapeError(f"a list or a tuple was expected, not {type(key).__name__}")
        return self.read(as_in_json(key))


def concrete(model: Any) -> Any:
    """The model whose table a model uses: itself, or what it is a proxy of."""
    return model._meta.concrete_model


def walk(model: Any, names: tuple[str, ...]) -> tuple[Path, Any]:
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


def misfit(what: str, place: str) -> SchemaError:
    """The error for a schema that is not that of this project."""
    return SchemaError(
        what,
        place=place,
        remedy="make the schema anew from the project; with one of an older state convert first,"
        " and restore what comes out without --schema",
    )


def _found(method: str, model: Any) -> tuple[type, Callable[[Any], Any]]:
    """The class of a method by its dotted path, and the method. Raises `SchemaError`."""
    path, _, name = method.rpartition(".")
    owner = at_path(path)
    call = getattr(owner, name, None)
    if call is None:
        place = f"models.{model._meta.label_lower}.natural_key_method"
        raise misfit(f'no method "{method}" in this project', place)
    return owner, call


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
