"""The schema in the form that the core needs: which columns to keep, which ids lead where."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import msgspec

from fastnk._core import Plan
from fastnk.schema import (
    ELEMENTS,
    GenericRelation,
    KeyPart,
    Model,
    Relation,
    Schema,
    embedded_steps,
    parse_path,
)

Style = Literal["fastnk", "django"]


class Planned(NamedTuple):
    """The schema in the form that the core needs."""

    plan: Plan
    key_tables: dict[tuple[str, str], str]
    """The labels of the tables that hold the keys which methods make, by model and method."""


class Plans:
    """What a schema becomes for the core: `lean`, and `full` for a backup with a log.

    A generic relation may lead to any row, so that the rows of all models with a natural key are
    kept. A project with Django's admin has one that may dangle, used or not; of those it is seen
    first whether any in the backup leads to a model whose rows are not kept anyway.
    """

    def __init__(self, schema: Schema, style: Style = "fastnk", embedded: bool = False) -> None:
        self._planned = partial(_planned, schema, style, embedded)

    def __getstate__(self) -> dict[str, Any]:
        """For another process, without what is made of the schema, which is memory of the core."""
        return {"_planned": self._planned}

    @cached_property
    def lean(self) -> Planned:
        return self._planned(expects_logs=False)

    @cached_property
    def full(self) -> Planned:
        return self._planned(expects_logs=True)


def _planned(schema: Schema, style: Style, embedded: bool, expects_logs: bool) -> Planned:
    planner = Planner(schema, style, embedded, expects_logs)
    return Planned(planner.plan(), planner.key_tables)


class Planner:
    """Decides which columns and indexes every model's rows need."""

    def __init__(self, schema: Schema, style: Style, embedded: bool, expects_logs: bool) -> None:
        self._schema = schema
        self._style = style
        self._embedded = embedded
        self._expects_logs = expects_logs or schema.has_firm_generics
        self._numbers = {label: number for number, label in enumerate(schema.models)}
        self._columns: dict[str, dict[str, int]] = {label: {} for label in schema.models}
        self._indexes: dict[str, list[str]] = {label: [] for label in schema.models}
        self._parts: list[tuple[bytes, list[Any], int, str | None]] = []
        self._relations: list[_PlannedRelation] = []
        self._steps: list[tuple[bytes, int, int, range]] = []
        self.key_tables: dict[tuple[str, str], str] = {}

    def plan(self) -> Plan:
        """The schema in the form that the core needs."""
        schema = self._schema
        keys = {label: self._key(label, model) for label, model in schema.models.items()}
        relations = {
            label: {name: self._relation(label, name) for name in model.relations}
            for label, model in schema.models.items()
        }
        steps = {label: self._embedded_fields(model) for label, model in schema.models.items()}
        self._index_generic_targets()
        # The columns of generic relations come behind: rows need not keep what only the record
        # itself has to show.
        row_columns = {label: len(columns) for label, columns in self._columns.items()}
        generics = {label: self._generics(label) for label in schema.models}
        models = [
            {
                **self._model(label, relations[label], steps[label]),
                "natural": keys[label],
                "row_columns": row_columns[label],
                "generics": generics[label],
            }
            for label in schema.models
        ]
        models += [_key_table(label) for label in self.key_tables.values()]
        return Plan(models, self._parts, self._relations, self._steps)

    def _model(
        self, label: str, relations: dict[str, int], steps: dict[str, int]
    ) -> dict[str, Any]:
        columns = self._columns[label]
        model = self._schema.models[label]
        pk = model.pk
        pk_relation = model.relations.get(pk)
        parent_link = pk_relation is not None and pk_relation.parent_link
        return {
            "label": label.encode(),
            "proxies": [proxy.encode() for proxy in model.proxies],
            "keep_pk": model.keep_pk,
            "parent_link": parent_link,
            "pk_relation": relations.get(pk, _NOWHERE),
            "columns": len(columns),
            "pk_column": columns.get(pk, _NOWHERE),
            "pk_part": self._pk_part(label),
            "fields": [
                (
                    name.encode(),
                    columns.get(name, _NOWHERE),
                    relations.get(name, _NOWHERE),
                    steps.get(name, _NOWHERE),
                )
                for name in dict.fromkeys([*columns, *relations, *steps])
                if name != pk or parent_link
            ],
            "indexes": [
                _NOWHERE if field == pk else columns[field] for field in self._indexes[label]
            ],
        }

    def _key(self, label: str, holder: Model | Relation) -> _PlannedKey | None:
        """How to make the natural key of `label` which `holder` describes."""
        first, tail = len(self._parts), b""
        if holder.natural_key_method is not None:
            self._add_called(label, holder.natural_key_method)
        elif holder.natural_key is not None:
            tail = self._add_parts(label, holder.natural_key, b"")
        else:
            return None
        return range(first, len(self._parts)), tail

    def _pk_part(self, label: str) -> int:
        """Where the pk stands in the natural key, as it is or as a text."""
        model = self._schema.models[label]
        if model.pk in model.relations:
            return _NOWHERE
        places = self._schema.places(label, model.natural_key or [])
        found = (places.get((model.pk, transform), ()) for transform in (None, "str"))
        return next((place[0] for place in found if len(place) == 1), _NOWHERE)

    def _add_called(self, label: str, method: str) -> None:
        """A key that a method has made: by the pk, from a table of such keys."""
        # A name that no backup can foresee.
        name = self.key_tables.setdefault((label, method), f"{label} {os.urandom(8).hex()}")
        table = self._numbers.setdefault(name, len(self._numbers))
        hop = (self._column(label, "pk"), table, 0, None, None)
        self._parts.append((b"", [hop], 0, "key"))

    def _add_parts(self, label: str, key: list[KeyPart], before: bytes) -> bytes:
        """The parts of a list, with the text `before` in front; what stands behind the last one."""
        before += b"["
        for number, part in enumerate(key):
            before += b", " if number else b""
            if isinstance(part, str):
                self._parts.append((before, *self._path(label, part)))
                before = b""
            else:
                before = self._add_parts(label, part, before)
        return before + b"]"

    def _embedded_fields(self, model: Model) -> dict[str, int]:
        """The first step of the paths into each field."""
        if not self._embedded:
            return {}
        tree = _PathTree()
        for path, embedded in model.embedded.items():
            target = self._schema.models[embedded.to]
            key = self._key(embedded.to, target)
            if key is not None:
                index = self._index(embedded.to, embedded.to_field)
                number = self._numbers[embedded.to]
                self._relations.append((path.encode(), number, index, False, True, key))
                tree.add(embedded_steps(path), len(self._relations) - 1)
        return dict(zip(tree.branches, self._plan_steps(tree.branches), strict=True))

    def _plan_steps(self, branches: dict[str, _PathTree]) -> range:
        """The numbers of these steps, which stand one behind the other."""
        first = len(self._steps)
        numbers = range(first, first + len(branches))
        self._steps += [(b"", _NOWHERE, _NOWHERE, range(0))] * len(branches)
        for number, (name, tree) in zip(numbers, branches.items(), strict=True):
            members = dict(tree.branches)
            elements = members.pop(ELEMENTS, None)
            self._steps[number] = (
                name.encode(),
                tree.relation,
                _NOWHERE if elements is None else self._plan_steps({ELEMENTS: elements}).start,
                self._plan_steps(members),
            )
        return numbers

    def _index_generic_targets(self) -> None:
        """A generic relation may lead to any model, by way of its content types."""
        models = self._schema.models
        types = {
            model.relations[generic.content_type].to
            for model in models.values()
            for generic in model.generic_relations.values()
            if generic.content_type is not None
        }
        for label in types:
            self._column(label, "app_label")
            self._column(label, "model")
        if self._expects_logs and any(model.generic_relations for model in models.values()):
            for label, model in models.items():
                if model.has_natural_key:
                    self._index(label, None)

    def _generics(self, label: str) -> list[tuple[Any, ...]]:
        model = self._schema.models[label]
        return [
            (
                generic.object_id.encode(),
                generic.may_dangle,
                not self._expects_logs,
                self._column(label, generic.kind),
                self._column(label, generic.object_id),
                *self._content_type(model, generic),
                [(text.encode(), self._numbers[to]) for text, to in generic.labels.items()],
            )
            for generic in model.generic_relations.values()
        ]

    def _content_type(self, model: Model, generic: GenericRelation) -> tuple[int, int, int, int]:
        """The model of the content types, the index that finds one, and what it is made of."""
        if generic.content_type is None:
            return (_NOWHERE,) * 4
        relation = model.relations[generic.content_type]
        types = relation.to
        return (
            self._numbers[types],
            self._index(types, relation.to_field),
            self._column(types, "app_label"),
            self._column(types, "model"),
        )

    def _relation(self, label: str, name: str) -> int:
        relation = self._schema.models[label].relations[name]
        index = _NOWHERE
        # A key that only a proxy has is what Django writes; no record could be found by it.
        key = self._key(relation.to, relation) if self._style == "django" else None
        if key is None:
            key = self._key(relation.to, self._schema.models[relation.to])
        if key is not None:
            index = self._index(relation.to, relation.to_field)
        target = self._numbers[relation.to]
        planned = (name.encode(), target, index, relation.many, False, key or _NO_KEY)
        self._relations.append(planned)
        return len(self._relations) - 1

    def _index(self, label: str, field: str | None) -> int:
        """The number of the index that finds rows of `label` by `field`; the pk's is always 0."""
        indexes = self._indexes[label]
        pk = self._schema.models[label].pk
        if not indexes:
            indexes.append(pk)
        field = pk if field is None else self._schema.field_name(label, field)
        if field not in indexes:
            self._column(label, field)
            indexes.append(field)
        return indexes.index(field)

    def _column(self, label: str, field: str) -> int:
        columns = self._columns[label]
        return columns.setdefault(self._schema.field_name(label, field), len(columns))

    def _path(self, label: str, part: str) -> tuple[list[Any], int, str | None]:
        """The hops from row to row, the column of the last one, and what is done with its value."""
        names, field, transform = parse_path(part)
        hops = []
        for number, name in enumerate(names):
            column = self._column(label, name)
            relation = self._schema.models[label].relations[self._schema.field_name(label, name)]
            index = self._index(relation.to, relation.to_field)
            label = relation.to
            rest = "__".join([*names[number + 1 :], field])
            positions, rest_transform = self._positions(label, rest, transform)
            hops.append((column, self._numbers[label], index, positions, rest_transform))
        return hops, self._column(label, field), transform

    def _positions(
        self, label: str, rest: str, transform: str | None
    ) -> tuple[Sequence[int], str | None]:
        """Where the rest of a path stands in the natural key of `label` (the number of the part,
        of the part in that part, …) and what is still to be done with what stands there."""
        places = self._schema.places(label, self._schema.models[label].natural_key or [])
        path = self._schema.spelled_out(label, rest)
        if transform is None or (path, transform) in places:
            return places.get((path, transform), ()), None
        return places.get((path, None), ()), transform


class _PathTree(msgspec.Struct):
    """Paths into fields, by their steps."""

    branches: dict[str, _PathTree] = {}
    relation: int = -1

    def add(self, steps: list[str], relation: int) -> None:
        tree = self
        for step in steps:
            tree = tree.branches.setdefault(step, _PathTree())
        tree.relation = relation


def _key_table(label: str) -> dict[str, Any]:
    """The table of the keys that a method has made: by pk, the key as a whole."""
    return {
        "label": label.encode(),
        "proxies": [],
        "keep_pk": False,
        "parent_link": False,
        "pk_relation": _NOWHERE,
        "columns": 1,
        "row_columns": 1,
        "pk_column": _NOWHERE,
        "pk_part": _NOWHERE,
        "fields": [(b"key", 0, _NOWHERE, _NOWHERE)],
        "indexes": [_NOWHERE],
        "natural": None,
        "generics": [],
    }


_PlannedKey = tuple[range, bytes]
_PlannedRelation = tuple[bytes, int, int, bool, bool, _PlannedKey]
_NO_KEY: _PlannedKey = (range(0), b"")
_NOWHERE = -1
