"""Natural keys that methods of the project make, called on instances of the backup's records.

The records of the models with such keys, and of all that these refer to, go into a private
temporary file, so that memory does not grow with them. An instance is built from one when it is
asked for; the relations of an instance lead to instances built in the same way, and no database is
asked. Imports Django.
"""

from __future__ import annotations

import json
import pkgutil
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, cast

import msgspec
from django.apps import apps
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import DEFERRED, Model

from fastnk.django.describe import concrete_label
from fastnk.django.offline import without_databases
from fastnk.errors import BackupSyntaxError, UsageError, shorten
from fastnk.schema import Schema
from fastnk.source import Source, split_records

CACHED = 1024
"""Instances that are kept because the next record may refer to them, too."""

ALIAS = "the backup"
"""Where the instances say they come from: no database has this name."""


class CalledKey(NamedTuple):
    """The natural key of one record, or why there is none."""

    label: str
    method: str
    """As the schema names it."""
    pk: str
    """JSON text."""
    key: str | None
    """A list as JSON text, spelled as Django's serializer spells it; `None` where it failed."""
    reason: str | None
    """Then: what happened."""


def called_keys(schema: Schema, sources: Sequence[Source]) -> Iterator[CalledKey]:
    """The keys of all records with a pk that need a method; of a proxy's, beside the model's own.

    `sources` are the backup and what supplies keys to it. Raises `UsageError` where Django is not
    set up, or the schema names a method that is not there.
    """
    if not apps.models_ready:
        raise UsageError(
            "natural keys of this schema are made by methods of a project, and none is set up",
            remedy="name the project's settings with --settings",
        )
    methods = [(label, method, _class_of(label, method)) for label, method in _methods(schema)]
    with _Store(schema, {label for label, _, _ in methods}) as store:
        for number, source in enumerate(sources):
            store.take(source, overrules=number == 0)
        instances = _Instances(schema, store)
        for label, method, model in methods:
            for record in store.with_pk(label):
                key, reason = instances.call(method, model, label, record)
                yield CalledKey(label, method, json.dumps(record["pk"]), key, reason)


def method_of(model: type[Any]) -> str | None:
    """The dotted path of a model's `natural_key`; `None` where nothing could find it there."""
    path = f"{model.__module__}.{model.__qualname__}"
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        return None
    return f"{path}.natural_key" if found is model else None


def _methods(schema: Schema) -> Iterator[tuple[str, str]]:
    """Each model and method, once."""
    found = {}
    for label, model in schema.models.items():
        found[label, model.natural_key_method] = True
        for relation in model.relations.values():
            found[relation.to, relation.natural_key_method] = True
    return ((label, method) for label, method in found if method is not None)


def _class_of(label: str, method: str) -> type[Any]:
    path, _, name = method.rpartition(".")
    model: Any
    try:
        model = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f'the schema names "{method}", which this project does not have: {error}',
            remedy="give the schema of this project, or its settings with --settings",
        ) from None
    is_model = isinstance(model, type) and issubclass(model, Model)
    if not (is_model and concrete_label(model) == label and callable(getattr(model, name, None))):
        raise UsageError(f'"{method}" in the schema is no method of the model {label}')
    return cast(type[Any], model)


class _NoKeyError(Exception):
    """The method cannot go on; the message says why."""


def encoded(key: Any) -> str:
    """A key as Django's JSON serializer writes it. Raises what the encoder does, or an error that
    says that it is no list."""
    if not isinstance(key, (list, tuple)):
        raise _NoKeyError(f"returns {shorten(repr(key))}, which is no list of key parts")
    return json.dumps(key, cls=DjangoJSONEncoder, ensure_ascii=False)


# ---- the records -------------------------------------------------------------------------------

Record = dict[str, Any]


class _Head(msgspec.Struct):
    model: str


class _Store:
    """Records in a temporary file, to be found by pk, by natural key or by a field."""

    def __init__(self, schema: Schema, called: set[str]) -> None:
        self._schema = schema
        self._wanted = _reachable(schema, called)
        self._fields = _fields_referred_to(schema, self._wanted)
        # A database without a name is a private file, gone with the connection.
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.executescript("""
            pragma journal_mode = off;
            pragma synchronous = off;
            create table record (number integer primary key, body blob not null);
            create table name (label text, field text, value text, number integer,
                               primary key (label, field, value)) without rowid;
            begin;
        """)

    def __enter__(self) -> _Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, source: Source, overrules: bool) -> None:
        """Keep what is wanted of a backup; of two records with one pk the last one counts."""
        word = "replace" if overrules else "ignore"
        try:
            for body in split_records(source):
                if _label(body) in self._wanted:
                    self._keep(json.loads(body), body, word)
        except BackupSyntaxError:
            # Cut off, and salvaged up to there, or there would be no conversion.
            pass

    def _keep(self, record: Record, body: bytes, word: str) -> None:
        label = record["model"].lower()
        names = [("natural_key", json.dumps(record.get("natural_key")))]
        names += [(name, _id(record["fields"].get(name))) for name in self._fields[label]]
        if "natural_key" not in record or record.get("pk") is not None:
            names.append(("pk", _id(record.get("pk"))))
        number = self._file.execute("insert into record (body) values (?)", (body,)).lastrowid
        self._file.executemany(
            f"insert or {word} into name values (?, ?, ?, ?)",
            [(label, name, value, number) for name, value in names if value != "null"],
        )

    def find(self, label: str, field: str, value: str) -> Record | None:
        found = self._file.execute(
            "select body from name join record using (number)"
            " where label = ? and field = ? and value = ?",
            (label, field, value),
        ).fetchone()
        return None if found is None else json.loads(found[0])

    def with_pk(self, label: str) -> Iterator[Record]:
        """The records whose natural key is yet to be made."""
        found = self._file.execute(
            "select body from name join record using (number)"
            " where label = ? and field = 'pk' order by number",
            (label,),
        )
        records = (json.loads(body) for (body,) in found)
        return (record for record in records if "natural_key" not in record)


def _label(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Head).model.lower()
    except msgspec.DecodeError:  # NaN, which Python writes, is not JSON to everybody
        return str(json.loads(body)["model"]).lower()


def _id(value: Any) -> str:
    """What identifies an id: 5 and "5" are the same."""
    return value if isinstance(value, str) else json.dumps(value)


def _reachable(schema: Schema, labels: set[str]) -> set[str]:
    """These models, and all that their relations lead to."""
    found: set[str] = set()
    left = list(labels)
    while left:
        label = left.pop()
        if label not in found:
            found.add(label)
            relations = schema.models[label].relations.values()
            left += [relation.to for relation in relations if not relation.many]
    return found


def _fields_referred_to(schema: Schema, labels: set[str]) -> dict[str, set[str]]:
    """The fields that relations hold the values of in place of the pk."""
    fields: dict[str, set[str]] = {label: set() for label in labels}
    for label in labels:
        for relation in schema.models[label].relations.values():
            if relation.to_field is not None and relation.to in fields:
                fields[relation.to].add(schema.field_name(relation.to, relation.to_field))
    return fields


# ---- the instances -----------------------------------------------------------------------------


class _Instances:
    """Instances of models, built from records and kept for a while."""

    def __init__(self, schema: Schema, store: _Store) -> None:
        self._schema = schema
        self._store = store
        self._cache: OrderedDict[tuple[type[Any], str, str], Any] = OrderedDict()
        self._refusal: str | None = None
        """The first thing refused in a call: kept, because the method may catch the exception."""

    def call(
        self, method: str, model: type[Any], label: str, record: Record
    ) -> tuple[str | None, str | None]:
        """The key as JSON text, or what happened."""
        self._refusal = None
        try:
            with without_databases(self._refuse_query):
                key = getattr(self.build(model, label, record), method.rpartition(".")[2])()
            text = encoded(key)
        except RecursionError:
            self._refusal = self._refusal or "calls itself without end"
        except _NoKeyError as error:
            self._refusal = self._refusal or str(error)
        except Exception as error:
            raised = f"raises {type(error).__name__}: {shorten(str(error))}"
            self._refusal = self._refusal or raised
        return (text, None) if self._refusal is None else (None, self._refusal)

    def _refuse(self, why: str) -> NoReturn:
        self._refusal = self._refusal or why
        raise _NoKeyError(why)

    def _refuse_query(self) -> NoReturn:
        self._refuse("queries the database")

    def _refuse_deferred(
        self, using: str | None = None, fields: Sequence[str] = (), **_: Any
    ) -> NoReturn:
        names = ", ".join(f'"{name}"' for name in fields)
        self._refuse(f"needs the field {names}, which the record does not hold")

    def build(self, model: type[Any], label: str, record: Record) -> Any:
        """An instance as the database would give it; what the record does not hold is deferred."""
        values = self._values(model, label, record)
        instance = model.from_db(ALIAS, list(values), list(values.values()))
        instance._state.fields_cache = _Related(self, instance, self._keys(label, record))
        instance.refresh_from_db = self._refuse_deferred
        return instance

    def _values(self, model: type[Any], label: str, record: Record) -> dict[str, Any]:
        """What each column holds, by attribute; the columns of parents are in their records."""
        held: dict[str, Any] = {}
        records = {label: record}
        for field in model._meta.concrete_fields:
            owner = concrete_label(field.model)
            if owner not in records:
                records[owner] = self._parent(model, field.model, record)
            value = _held(field, records[owner])
            if value is not DEFERRED and isinstance(value, list) and field.is_relation:
                value = self._id_behind(field, value)
            if value is not DEFERRED:
                plain = field.target_field if field.is_relation else field
                held[field.attname] = plain.to_python(value)
        return held

    def _parent(self, model: type[Any], owner: type[Any], record: Record) -> Record:
        """The record with the columns that `model` inherits from `owner`."""
        link = model._meta.get_ancestor_link(owner)
        value = record["fields"].get(link.name, record.get("pk"))
        found = None
        if value is not None:
            found = self._store.find(concrete_label(owner), *_name_of(value))
        if found is None:
            self._refuse(f"needs {concrete_label(owner)} {_shown(value)}, {_NOBODY}")
        return found

    def _keys(self, label: str, record: Record) -> dict[str, list[Any]]:
        """The relations of the record that hold natural keys already."""
        fields = record["fields"]
        names = self._schema.models[label].relations
        return {name: fields[name] for name in names if isinstance(fields.get(name), list)}

    def _id_behind(self, field: Any, key: list[Any]) -> Any:
        """The id of the record that a natural key names; a natural record has none."""
        label = concrete_label(field.remote_field.model)
        found = self._store.find(label, "natural_key", json.dumps(key))
        return DEFERRED if found is None else _held(field.target_field, found)

    def related(self, field: Any, value: Any) -> Any:
        """The instance that `field` leads to by `value`, an id or a natural key."""
        model = field.remote_field.model
        label = concrete_label(model)
        name, text = _name_of(value)
        if name == "pk" and not field.target_field.primary_key:
            name = field.target_field.name
        place = (model, name, text)
        if place not in self._cache:
            record = self._store.find(label, name, text)
            if record is None:
                self._refuse(f"refers to {label} {_shown(value)}, {_NOBODY}")
            self._cache[place] = self.build(model, label, record)
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(place)
        return self._cache[place]


_NOBODY = "which no record has"


def _shown(value: Any) -> str:
    return shorten(_id(value))


def _name_of(value: Any) -> tuple[str, str]:
    """By what a record is found that a relation refers to."""
    if isinstance(value, list):
        return "natural_key", json.dumps(value)
    return "pk", _id(value if isinstance(value, (str, int, float)) else str(value))


def _held(field: Any, record: Record) -> Any:
    """What a record holds of a field, as JSON; deferred where it holds nothing."""
    if field.primary_key and "pk" in record:
        return record["pk"]
    return record["fields"].get(field.name, DEFERRED)


class _Related(dict[str, Any]):
    """What Django keeps of an instance's relations: here each is found when it is asked for."""

    def __init__(self, instances: _Instances, instance: Any, keys: dict[str, list[Any]]) -> None:
        super().__init__()
        self._instances = instances
        self._instance = instance
        self._keys = keys

    def __missing__(self, name: str) -> Any:
        field = next(
            (one for one in self._instance._meta.concrete_fields if one.name == name), None
        )
        if field is None or not field.is_relation:
            raise KeyError(name)
        value = self._keys.get(name)
        if value is None:
            value = getattr(self._instance, field.attname)
        if value is None:
            raise KeyError(name)
        self[name] = self._instances.related(field, value)
        return self[name]
