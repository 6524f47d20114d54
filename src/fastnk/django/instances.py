"""Instances of models built from the records of a backup, for methods to be called on.

Their relations lead to instances built in the same way, when they are asked for. What else methods
ask a database is answered from the records, too. Imports Django.
"""

from __future__ import annotations

import json
import traceback
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, Self

from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, models
from django.db.models.query_utils import DeferredAttribute

from fastnk.django.answers import Answers, TableRows
from fastnk.django.kept import NATURAL_KEY, PK, KeptRecords, Waiter, id_name, key_name, loads
from fastnk.django.schema.describe import (
    concrete_label,
    is_saved,
    plain_of,
    spelled_out,
    target_of,
)
from fastnk.django.unmade import NoRecordError, RefusalError, UnknownKeyError, UnmadeKeyError
from fastnk.errors import FastnkError, shorten

CACHED = 16 << 20
"""Bytes of the instances that are kept, because the next record may refer to them too."""

INSTANCE = 4 << 10
"""Bytes that an instance takes, about, besides its values."""

MAX_RELATIONS = 100_000
"""A key that follows more relations than this walks in a circle."""


def names_of_records(classes: Iterable[type[Any]]) -> dict[str, list[str]]:
    """The models that instances of `classes` may lead to, they included, by label; and of each the
    fields by whose values, in place of the pk, relations refer to it."""
    reached: dict[str, type[Any]] = {}
    left = list(classes)
    while left:
        model = left.pop()._meta.concrete_model
        if concrete_label(model) not in reached:
            reached[concrete_label(model)] = model
            left += map(target_of, _saved_relations(model))
            left += model._meta.get_parent_list()
    names: dict[str, list[str]] = {label: [] for label in reached}
    referring = [field for model in reached.values() for field in _saved_relations(model)]
    for by in {field.target_field for field in referring}:
        if not by.primary_key:
            names[concrete_label(by.model)].append(by.name)
    return names


class Instances:
    """Builds instances and calls their methods."""

    def __init__(self, records: KeptRecords) -> None:
        self._records = records
        self._cache: OrderedDict[tuple[type[Any], int], tuple[Any, int]] = OrderedDict()
        self._cached_bytes = 0
        self._relations: dict[type[Any], dict[str, Any]] = {}
        self._named: dict[int, type[Any]] = {}
        """The classes whose records are known by the keys that they make, by the kind of name."""
        self._unnamed: set[int] = set()
        """The kinds of names that not all records have, or not yet."""
        self._followed = 0
        self._refusal: Exception | None = None
        """The first one in a call: kept, because the method may catch the exception."""
        self._answers = Answers(self._table, self.refuse)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()

    def key(self, model: type[Any], method: str, number: int) -> str:
        """The key that `method` makes of a record, as Django's JSON serializer writes it.

        Raises `RefusalError`.
        """
        while True:
            try:
                return self._call(model, method, number)
            except UnknownKeyError as error:
                if self._records.kind(error.model) in self._named:
                    raise self._unfound(error) from None
                self._name_records(error.model)

    def _call(self, model: type[Any], method: str, number: int) -> str:
        self._followed = 0
        self._refusal = None
        text = ""
        try:
            with self._answers.given():
                key = getattr(self._instance(model, number), method)()
                text = _key_text(spelled_out(key))
        except RecursionError:
            refusal = RefusalError("calls itself without end")
            self._refusal = self._refusal or refusal
        except Exception as error:
            self._refusal = self._refusal or self._as_refusal(error, model, number)
        if self._refusal is not None:
            raise self._refusal
        return text

    def _as_refusal(self, error: Exception, model: type[Any], number: int) -> Exception:
        if isinstance(error, RefusalError | FastnkError):
            return error
        if _is_about_no_pk(error):
            return RefusalError("needs the pk of a record that does not say it")
        what = f"raises {type(error).__name__}: {shorten(str(error))}".removesuffix(": ")
        # Which the method may have found out in its own way.
        if model._meta.pk.concrete and not self.row(model, number).says(model._meta.pk):
            what += "; the record does not say its pk"
        return RefusalError(what)

    def refuse(self, refusal: Exception) -> NoReturn:
        """Raise `refusal` so that the method cannot go on as if nothing were."""
        self._refusal = self._refusal or refusal
        raise refusal

    # -- natural keys that only a method can tell --

    def _name_records(self, model: type[Any]) -> None:
        """Have the records of `model` make their keys, so that references by key find them; and
        those of the models that their keys depend on."""
        left = [model]
        while left:
            model = left.pop()
            kind = self._records.kind(model)
            if kind in self._named:
                continue
            self._named[kind] = model
            if callable(getattr(model, "natural_key", None)):
                self._unnamed.add(kind)
                failed: set[int] = set()
                for number in self._records.numbers(concrete_label(model)):
                    left += self._name(Waiter(kind, number), failed)
                self._unnamed.discard(kind)
                self._unnamed |= failed

    def _name(self, first: Waiter, failed: set[int]) -> Iterator[type[Any]]:
        """Name a record, and those that wait for its name; or else let it wait. Gives the classes
        whose records have to be named for that, and adds kinds of names that cannot be made."""
        ready = [first]
        while ready:
            kind, number = waiter = ready.pop()
            model = self._named[kind]
            try:
                name = key_name(json.loads(self._call(model, "natural_key", number)))
            except UnknownKeyError as error:
                self._records.wait(error.model, error.name, waiter)
                yield error.model
            except RefusalError:
                failed.add(kind)  # A reference to it finds nothing, and says so.
            else:
                ready += self._records.give_name(number, model, name)

    def _unfound(self, error: UnknownKeyError) -> RefusalError:
        """Why no record is known by a key, after all of them were to be named."""
        is_sure = self._records.kind(error.model) not in self._unnamed
        return NoRecordError(error.model, error.key) if is_sure else UnmadeKeyError(error)

    # -- the rows that queries ask for --

    def _table(self, model: type[Any]) -> TableRows:
        """What the backup says of a model's table. Raises `RefusalError` if that is not all."""
        owner = model._meta.auto_created or model
        label = concrete_label(owner)
        self._records.keep(names_of_records([owner]))
        numbers = [record.number for record in self._records.that_count(label)]
        if not numbers:
            raise RefusalError(f"the backup has no {label}")
        if self._records.may_repeat_rows(label):
            raise RefusalError(f"not every {label} has a pk to tell it from those of other backups")
        rows = (self.row(owner, number) for number in numbers)
        if owner is not model:
            return self._links(owner, model, rows)
        first = self.row(model, numbers[0])
        # A column that only the project of today has would be guessed.
        fields = [
            field
            for field in model._meta.local_concrete_fields
            if field.primary_key or first.says(field)
        ]
        values = ([self._held(field, row) for field in fields] for row in rows)
        return TableRows(fields, values)

    def _held(self, field: Any, row: _Row) -> Any:
        """What a column holds; null for a pk that is not said. Raises `RefusalError`."""
        is_unsaid = field.primary_key and not row.says(field)
        return None if is_unsaid else self._value(field, row.raw(field))

    def _links(self, owner: type[Any], through: type[Any], rows: Iterable[_Row]) -> TableRows:
        """What a many-to-many field of `owner` has in its own table."""
        (many,) = (
            field
            for field in owner._meta.local_many_to_many
            if field.remote_field.through is through
        )
        source, target = map(
            through._meta.get_field, (many.m2m_field_name(), many.m2m_reverse_field_name())
        )
        values = (
            [self._value(source, row.raw(source.target_field)), self._value(target, raw)]
            for row in rows
            for raw in row.raw(many)
        )
        return TableRows([source, target], values)

    def _value(self, field: Any, raw: Any) -> Any:
        """What a column holds. Raises `RefusalError`."""
        if _is_key(field, raw):
            try:
                row = self.row(target_of(field), self.target(field, raw))
            except UnknownKeyError as error:
                if self._records.kind(error.model) in self._named:
                    raise self._unfound(error) from None
                raise
            return self._value(field.target_field, row.raw(field.target_field))
        return _python(field, raw)

    # -- building --

    def _instance(self, model: type[Any], number: int) -> Any:
        place = (model, number)
        if place in self._cache:
            self._cache.move_to_end(place)
            return self._cache[place][0]
        body = self._records.body(number)
        instance = self._build(model, _Row(self, model, number, body))
        size = INSTANCE + len(body)
        self._cache[place] = instance, size
        self._cached_bytes += size
        while self._cached_bytes > CACHED:
            self._cached_bytes -= self._cache.popitem(last=False)[1][1]
        return instance

    def _build(self, model: type[Any], row: _Row) -> Any:
        """An instance as the database would give it; what the records do not hold is deferred."""
        values: dict[str, Any] = {}
        for field in model._meta.concrete_fields:
            # What is missing, or of no use to its field, matters if the method asks for it.
            with suppress(RefusalError):
                raw = row.raw(field)
                if not _is_key(field, raw):
                    values[field.attname] = _python(field, raw)
        instance = model.from_db(DEFAULT_DB_ALIAS, list(values), tuple(values.values()))
        # Never filled: instances that hold each other would add up.
        if model not in self._relations:
            self._relations[model] = _relations(model)
        instance._state.fields_cache = _Related(self, row, self._relations[model])
        instance.refresh_from_db = partial(self._load, row, weakref.ref(instance))
        # Else Django looks for the pk before it loads a field, and a record may not say its pk.
        instance._is_pk_set = _is_pk_set
        return instance

    def _load(
        self,
        row: _Row,
        reference: weakref.ref[Any],
        using: str | None = None,
        fields: Sequence[str] | None = None,
        **_: Any,
    ) -> None:
        """Put deferred fields of an instance in place, as Django does from the database."""
        instance: Any = reference()
        if fields is None:
            self.refuse(RefusalError("queries the database"))
        for field in instance._meta.concrete_fields:
            if field.attname in fields or field.name in fields:
                try:
                    value = self._value(field, row.raw(field))
                except RefusalError as refusal:
                    self.refuse(refusal)
                instance.__dict__[field.attname] = value

    def related(self, field: Any, row: _Row) -> Any:
        """The instance that the relation `field` of a record leads to. Raises `RefusalError`."""
        self._followed += 1
        try:
            if self._followed > MAX_RELATIONS:
                raise RefusalError(
                    f"follows more than {MAX_RELATIONS:,} relations: they lead in a circle"
                )
            raw = row.raw(field)
            number = None if raw is None else self.target(field, raw)
        except RefusalError as refusal:
            self.refuse(refusal)
        return None if number is None else self._instance(target_of(field), number)

    def target(self, field: Any, raw: Any) -> int:
        """The number of the record that `raw`, an id or a natural key, means in `field`."""
        target = target_of(field)
        label = concrete_label(target)
        find = self._records.find
        if _is_key(field, raw):
            number = find((label, NATURAL_KEY), key_name(raw))
            if number is None:
                number = find(target, key_name(raw))
            if number is None:
                raise UnknownKeyError(target, raw)
            return number
        by = field.target_field
        owner = concrete_label(by.model)
        number = find((owner, PK if by.primary_key else by.name), id_name(raw))
        if number is not None and owner != label:
            # The field is inherited: the target itself continues the record that holds it.
            number = find((label, PK), id_name(loads(self._records.body(number)).get("pk")))
        if number is None:
            raise NoRecordError(target, raw)
        return number

    def row(self, model: type[Any], number: int) -> _Row:
        return _Row(self, model, number, self._records.body(number))


class _Row:
    """What the records hold of one row: its own, and those of the parents that it continues."""

    def __init__(self, instances: Instances, model: type[Any], number: int, body: bytes) -> None:
        self.model = model._meta.concrete_model
        self._instances = instances
        self._record = loads(body)
        self._parents: dict[str, _Row] = {}

    def raw(self, field: Any) -> Any:
        """The JSON value of a field. Raises `RefusalError` where there is none."""
        owner = field.model._meta.concrete_model
        if owner is not self.model:
            return self._parent(self.model._meta.get_ancestor_link(owner)).raw(field)
        if field.primary_key and self._record.get("pk") is not None:
            return self._record["pk"]
        for holder in ("fields", "references"):
            members = self._record.get(holder, {})
            if field.name in members and (holder == "fields" or field.primary_key):
                return members[field.name]
        raise RefusalError(f'needs the field "{field.name}", which the record does not hold')

    def says(self, field: Any) -> bool:
        """Whether there is a value."""
        try:
            self.raw(field)
        except RefusalError:
            return False
        return True

    def _parent(self, link: Any) -> _Row:
        if link.name not in self._parents:
            number = self._instances.target(link, self.raw(link))
            self._parents[link.name] = self._instances.row(target_of(link), number)
        return self._parents[link.name]


class _Related(dict[str, Any]):
    """Django's cache of the related instances of an instance, which finds them when asked."""

    def __init__(self, instances: Instances, row: _Row, relations: dict[str, Any]) -> None:
        super().__init__()
        self._instances = instances
        self._row = row
        self._relations = relations

    def __missing__(self, name: str) -> Any:
        return self._instances.related(self._relations[name], self._row)


def _relations(model: type[Any]) -> dict[str, Any]:
    """The fields of `model` that lead to one record, inherited ones included, by name."""
    return {field.name: field for field in model._meta.concrete_fields if field.is_relation}


def _saved_relations(model: type[Any]) -> list[Any]:
    return [field for field in _relations(model).values() if is_saved(field)]


def _is_pk_set(meta: Any = None) -> bool:
    return True


def _is_about_no_pk(error: Exception) -> bool:
    """Whether Django failed to load a pk, for which it has no words of its own."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return codes[-1] is DeferredAttribute._check_parent_chain.__code__


def _is_key(field: Any, raw: Any) -> bool:
    """Whether `raw` is a natural key in place of an id."""
    return field.is_relation and isinstance(raw, list)


def _python(field: Any, raw: Any) -> Any:
    """The value that the database would give for what a record holds. Raises `RefusalError`."""
    plain = plain_of(field)
    try:
        if isinstance(plain, models.JSONField) and plain.decoder is not None:
            return json.loads(json.dumps(raw), cls=plain.decoder)
        return plain.to_python(raw)
    except Exception as error:
        held = shorten(json.dumps(raw, ensure_ascii=False))
        raise RefusalError(f'needs the field "{field.name}", which cannot hold {held}') from error


def _key_text(key: Any) -> str:
    """A key as Django's JSON serializer writes it. Raises `RefusalError` for what is no key."""
    if not isinstance(key, tuple | list):
        plain = isinstance(key, str | int | float | None)
        shown = shorten(repr(key)) if plain else f"a {type(key).__name__}"
        raise RefusalError(f"returns {shown}, which is no list of key parts")
    if not key:
        raise RefusalError("returns an empty tuple")
    try:
        text = json.dumps(key, cls=DjangoJSONEncoder, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise RefusalError(f"returns what JSON cannot hold: {shorten(str(error))}") from error
    return text
