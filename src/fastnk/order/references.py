"""What the records of models in circles are found by, and what they refer to."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, Self

from fastnk.errors import UsageError
from fastnk.order.keys import Record, UnknownKeyError, composed
from fastnk.order.models import (
    IDENTIFYING,
    NULLABLE,
    OWN,
    REQUIRED,
    Model,
    Reference,
    cyclic_models,
)
from fastnk.order.room import AT_ONCE, Numbers, zeros
from fastnk.order.sorting import Graph
from fastnk.schema import Schema


class References:
    """What the records of models in cycles are found by and refer to, in a private database."""

    def __init__(self, schema: Schema) -> None:
        self.models = cyclic_models(schema)
        references = [
            (f"{label}.{reference.field}", reference.strength)
            for label, model in self.models.items()
            for reference in model.references
        ]
        # Number 0 is no relation: a record with the key of another one, which overwrites it.
        self._fields = ["", *(field for field, _ in references)]
        self._strengths = [IDENTIFYING, *(strength for _, strength in references)]
        self._untold: set[tuple[str, str]] = set()
        """The natural keys, of label and name, that some record does not tell."""
        self._wanted: set[tuple[str, str]] = set()
        """Those that some reference holds."""
        self._names: list[tuple[bytes, int, bool]] = []
        self._uses: list[tuple[bytes, int, int]] = []
        # A file of its own, without a name, when the cache is full.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_TABLES)
        self._stack = contextlib.ExitStack()
        self._stack.callback(self._database.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, record: int, label: str, members: Record) -> None:
        """Note what a record is found by and what it refers to. Records come in their order."""
        model = self.models[label]
        for name, is_identity in self._names_of(label, model, members).items():
            self._names.append((name, record, is_identity))
        for reference in model.references:
            for name in self._names_in(reference, members.value(reference.field, model.pk)):
                self._uses.append((name, record, reference.number))
        if len(self._names) + len(self._uses) > AT_ONCE:
            self._put_away()

    def _names_of(self, label: str, model: Model, members: Record) -> dict[bytes, bool]:
        """What a record is found by, and whether two records with that are the same."""
        names = {}
        for field in model.fields:
            value = members.value(field, model.pk)
            if value is not None:
                names[_digest(label, field, value)] = False
        if members.pk is not None:
            names[_digest(label, model.pk, members.pk)] = True
        for key in self._keys_of(label, model, members):
            # Django looks for a row by its natural key only where the record has no pk.
            names[_digest(label, OWN, key)] = members.pk is None and None not in key
        return names

    def _keys_of(self, label: str, model: Model, members: Record) -> Iterator[list[Any]]:
        if isinstance(members.natural_key, list):
            yield members.natural_key
            return
        for name, key in model.keys.items():
            try:
                if key is None:
                    raise UnknownKeyError
                yield composed(key, members, model.pk)
            except UnknownKeyError:
                # With a pk and no other key, the record is referred to by its pk.
                if name != OWN or members.pk is None:
                    self._untold.add((label, name))

    def _names_in(self, reference: Reference, value: Any) -> Iterator[bytes]:
        if value is None and self._strengths[reference.number] == REQUIRED:
            self._strengths[reference.number] = NULLABLE
        for one in value if reference.many and isinstance(value, list) else [value]:
            if isinstance(one, list):
                self._wanted.add((reference.to, reference.key))
                yield _digest(reference.to, OWN, one)
            elif one is not None:
                yield _digest(reference.to, reference.to_field, one)

    def check_keys(self) -> None:
        """Raise `UsageError` where references hold natural keys that their targets do not tell."""
        for label, _ in sorted(self._untold & self._wanted):
            raise UsageError(
                f"records of {label} refer to each other, perhaps by way of others,"
                " and the backup does not tell their natural keys",
                remedy="convert a backup with pks, with --style fastnk: each record tells its key",
            )

    def _put_away(self) -> None:
        self._database.executemany("INSERT INTO names VALUES (?, ?, ?)", self._names)
        self._database.executemany("INSERT INTO uses VALUES (?, ?, ?)", self._uses)
        self._names.clear()
        self._uses.clear()

    def graph(self, records: int) -> Graph:
        """Which of so many records refers to which; one that several have means the first."""
        self._put_away()
        self._database.execute(_INDEX)
        firsts, targets, kinds = (self._stack.enter_context(Numbers()) for _ in range(3))
        known = 0
        for record, kind, target in self._database.execute(_EDGES):
            while known <= record:
                firsts.append(len(targets))
                known += 1
            targets.append(target)
            kinds.append(kind)
        while known <= records:
            firsts.append(len(targets))
            known += 1
        return Graph(firsts.view(), targets.view(), kinds.view(), self._strengths)

    def forward(self, graph: Graph, order: Sequence[int]) -> dict[str, int]:
        """How many references in each field do not point backwards in this order."""
        places = zeros(len(order))
        for place, record in enumerate(order):
            places[record] = place
        forward: Counter[int] = Counter()
        for record, place in enumerate(places):
            for edge in range(graph.firsts[record], graph.firsts[record + 1]):
                if places[graph.targets[edge]] >= place:
                    forward[graph.kinds[edge]] += 1
        del forward[_SAME]
        return {self._fields[kind]: count for kind, count in sorted(forward.items())}


_SAME = 0
"""The kind of an edge that is no reference: an earlier record has the same key."""

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
PRAGMA cache_size = -8192;
BEGIN;
CREATE TABLE names (name BLOB, record INTEGER, is_identity INTEGER);
CREATE TABLE uses (name BLOB, record INTEGER, kind INTEGER);
"""

_INDEX = "CREATE INDEX by_name ON names (name, record)"

_EDGES = f"""
SELECT record, kind, target FROM (
    SELECT record, kind, rowid AS number,
           (SELECT min(names.record) FROM names WHERE names.name = uses.name) AS target
    FROM uses
    UNION ALL
    SELECT record, {_SAME}, 0, lag(record) OVER (PARTITION BY name ORDER BY record)
    FROM names WHERE is_identity
) WHERE target IS NOT NULL ORDER BY record, number
"""


def _digest(label: str, field: str, value: Any) -> bytes:
    """What stands for the record of a model with this value in this field."""
    told = repr((label, field, _comparable(value)))
    return blake2b(told.encode(), digest_size=16).digest()


def _comparable(value: Any) -> Any:
    """The value with numbers as texts: an id may be written as either."""
    if isinstance(value, list):
        return [_comparable(part) for part in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value
