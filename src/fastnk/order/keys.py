"""Records, and the natural keys that they tell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from fastnk.decoding import Members, read
from fastnk.schema import KeyPart, Schema, parse_path


class Record(Members):
    """The members that tell what a record is and what it refers to."""

    references: Any = None
    """Among others: what a pk that is a relation refers to."""

    def value(self, field: str, pk_field: str) -> Any:
        """What a field holds, the pk too; `None` where there is nothing."""
        if field != pk_field or field in self.fields:
            return self.fields.get(field)
        referred = self.references.get(field) if isinstance(self.references, dict) else None
        return self.pk if referred is None else referred


_RECORD = msgspec.json.Decoder(Record)


def decoded(record: bytes) -> Record:
    """One that the core has let through."""
    return read(_RECORD, record)


class UnknownKeyError(Exception):
    """A natural key that the record itself does not tell."""


class _Part(NamedTuple):
    """Where a part of a natural key stands in a converted record."""

    field: str
    transform: str | None
    is_relation: bool = False
    positions: tuple[int, ...] = ()
    """In the natural key that the relation holds: of the part, of the part in that part, …"""
    is_id: bool = False
    """Whether the part is the id itself, where the relation holds one."""

    def of(self, record: Record, pk_field: str) -> Any:
        """The part. Raises `UnknownKeyError`."""
        value = record.value(self.field, pk_field)
        if value is None and self.field == pk_field:
            raise UnknownKeyError
        if self.is_relation:
            value = self._of_target(value)
            if value is None:
                return None
        return _transformed(value, self.transform)

    def _of_target(self, value: Any) -> Any:
        if value is None or (self.is_id and not isinstance(value, list)):
            return value
        if not self.positions:
            raise UnknownKeyError
        for position in self.positions:
            if not isinstance(value, list) or position >= len(value):
                raise UnknownKeyError
            value = value[position]
        return value


Key = list[Any]
"""The parts of a natural key: `_Part`s and lists of them."""


def composed(key: Key, record: Record, pk_field: str) -> list[Any]:
    """The natural key of a record. Raises `UnknownKeyError`."""
    return [
        part.of(record, pk_field) if isinstance(part, _Part) else composed(part, record, pk_field)
        for part in key
    ]


def compiled(schema: Schema, label: str, parts: Iterable[KeyPart]) -> Key:
    """Where these parts stand in a record of model `label`. Raises `UnknownKeyError`."""
    return [
        _part(schema, label, part) if isinstance(part, str) else compiled(schema, label, part)
        for part in parts
    ]


def _part(schema: Schema, label: str, part: str) -> _Part:
    hops, field, transform = parse_path(part)
    if not hops:
        return _Part(schema.field_name(label, field), transform)
    name = schema.field_name(label, hops[0])
    relation = schema.models[label].relations[name]
    rest = schema.spelled_out(relation.to, "__".join([*hops[1:], field]))
    held = relation.natural_key or schema.models[relation.to].natural_key or []
    places = schema.places(relation.to, held)
    positions = places.get((rest, transform)) or places.get((rest, None)) or ()
    is_id = rest == schema.field_name(relation.to, relation.to_field or "pk")
    if not positions and not is_id:
        raise UnknownKeyError
    return _Part(name, transform, True, positions, is_id)


def _transformed(value: Any, transform: str | None) -> Any:
    """A value as the transform gives it; what it has given stays as it is."""
    if transform == "str":
        return str(value)
    if transform == "isoformat" and isinstance(value, str):
        return _as_isoformat(value)
    return value


def _as_isoformat(text: str) -> str:
    """What `isoformat()` gives for a time as Django writes it: six digits or none, and no Z."""
    parts = _TIME.fullmatch(text)
    if parts is None:
        return text
    fraction = (parts["fraction"] or "").ljust(6, "0")
    zone = "+00:00" if parts["zone"] == "Z" else parts["zone"]
    return parts["before"] + ("" if fraction == "000000" else f".{fraction}") + zone


_TIME = re.compile(r"(?P<before>[^.Z]*)(?:\.(?P<fraction>\d*))?(?P<zone>(?:Z|[+-][\d:]*)?)", re.A)
