"""The dictionary rewrite that the Python rivals share: two passes over decoded records.

What can be prepared is prepared: per model a table of its key and its relations, per natural key
that something refers to one dictionary from id to key, and one per path through a relation.
Ids are compared as Python values, and a path is not followed through a value that is a natural
key already. Memory is those dictionaries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, NamedTuple

Record = dict[str, Any]
Ids = dict[Any, Any]
"""From an id to the natural key, or to the value of a path, of its row."""

Part = Callable[[Record], Any]


class Table(NamedTuple):
    """What to do with the records of one model."""

    key: Callable[[Record], list[Any]] | None
    relations: list[tuple[str, Ids]]
    many: list[tuple[str, Ids]]


class Lookup(NamedTuple):
    """A dictionary that the second pass needs, and how to fill it from the rows of the first."""

    model: str
    by: str | None
    """The field that holds the id, where that is not the pk."""
    value: Part
    ids: Ids


class Rewriter:
    """`index` every record, then `resolve` once, then `rewrite` every record in place.

    `rewrite` raises `KeyError` for an id without a row and for a model that is not in the schema.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._models: dict[str, dict[str, Any]] = schema["models"]
        # A lookup is entered after those that its own value passes through.
        self._lookups: dict[tuple[str, str | None, str | None], Lookup] = {}
        self._tables = {label: self._table(label) for label in self._models}
        self._rows: dict[str, list[Record]] = {model: [] for model, _, _ in self._lookups}
        self._kept = {label: self._key_fields(label) for label in self._rows}

    def index(self, record: Record) -> None:
        """Keep what the keys of a record need, if anything refers to its model."""
        rows = self._rows.get(record["model"])
        if rows is not None:
            fields = record["fields"]
            kept = {name: fields[name] for name in self._kept[record["model"]] if name in fields}
            rows.append({"pk": record["pk"], "fields": kept})

    def resolve(self) -> None:
        """Make every key and every path that `rewrite` will look up."""
        for model, by, value, ids in self._lookups.values():
            for row in self._rows[model]:
                ids[row["fields"][by] if by else row["pk"]] = value(row)

    def rewrite(self, record: Record) -> None:
        """Put natural keys where ids stand."""
        key, relations, many = self._tables[record["model"]]
        if key is not None and "pk" in record:
            record["natural_key"] = key(record)
            del record["pk"]
        fields = record["fields"]
        for name, ids in relations:
            value = fields.get(name)
            if value is not None and type(value) is not list:
                fields[name] = ids[value]
        for name, ids in many:
            if values := fields.get(name):
                fields[name] = [value if type(value) is list else ids[value] for value in values]

    def _table(self, label: str) -> Table:
        table = Table(self._key(label), [], [])
        for name, relation in self._models[label].get("relations", {}).items():
            if self._models[relation["to"]].get("natural_key"):
                ids = self._lookup(relation["to"], relation.get("to_field"), None)
                (table.many if relation.get("many") else table.relations).append((name, ids))
        return table

    def _lookup(self, label: str, by: str | None, path: str | None) -> Ids:
        """The dictionary from ids of a model to natural keys, or to what a path leads to."""
        model = self._models[label]
        by = None if by in (None, model.get("pk", "id")) else by
        name = (label, by, path)
        if name not in self._lookups:
            value = self._key(label) if path is None else self._part(label, path)
            assert value is not None
            self._lookups[name] = Lookup(label, by, value, {})
        return self._lookups[name].ids

    def _key(self, label: str) -> Callable[[Record], list[Any]] | None:
        paths = self._models[label].get("natural_key")
        return self._key_of(label, paths) if paths else None

    def _key_of(self, label: str, paths: list[Any]) -> Callable[[Record], list[Any]]:
        parts = [
            self._key_of(label, path) if isinstance(path, list) else self._part(label, path)
            for path in paths
        ]
        if len(parts) == 1:
            (only,) = parts
            return lambda record: [only(record)]
        if len(parts) == 2:
            first, second = parts
            return lambda record: [first(record), second(record)]
        return lambda record: [part(record) for part in parts]

    def _part(self, label: str, path: str) -> Part:
        name, _, rest = path.partition("__")
        if rest:
            relation = self._models[label]["relations"][name]
            ids = self._lookup(relation["to"], relation.get("to_field"), rest)
            return lambda record: ids[record["fields"][name]]
        name, _, transform = path.partition("|")
        plain = self._plain(label, name)
        if not transform:
            return plain
        change = TRANSFORMS[transform]
        return lambda record: change(plain(record))

    def _plain(self, label: str, name: str) -> Part:
        if name in ("pk", self._models[label].get("pk", "id")):
            return itemgetter("pk")
        return lambda record: record["fields"][name]

    def _key_fields(self, label: str) -> set[str]:
        """The fields that the lookups of a model and its own natural key read."""
        paths = [*_flat(self._models[label].get("natural_key") or [])]
        paths += [path for model, _, path in self._lookups if model == label and path]
        ids = {by for model, by, _ in self._lookups if model == label and by}
        names = {path.partition("|")[0].split("__")[0] for path in paths} | ids
        return names - {"pk", self._models[label].get("pk", "id")}


def _flat(paths: list[Any]) -> Iterator[str]:
    for path in paths:
        if isinstance(path, list):
            yield from _flat(path)
        else:
            yield path


def _isoformat(value: Any) -> Any:
    """A time as Django's JSON encoder spells it, as `datetime.isoformat()` does."""
    if not isinstance(value, str):
        return value
    if value.endswith("Z"):
        value = value[:-1] + "+00:00"
    head, point, tail = value.partition(".")
    if not point:
        return value
    digits = len(tail) - len(tail.lstrip("0123456789"))
    fraction, zone = tail[:digits], tail[digits:]
    return f"{head}.{fraction:0<6}{zone}" if fraction.strip("0") else head + zone


TRANSFORMS: dict[str, Callable[[Any], Any]] = {"str": str, "isoformat": _isoformat}
