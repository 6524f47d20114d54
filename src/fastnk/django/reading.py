"""Decodes records: those of a known shape by the type of each field, all others one by one.

A chunk of a backup is a JSON array of whole records. What has a shape that was met before is
decoded straight into structs, which checks types, lengths and names on the way; what does not fit
comes as a plain dictionary, and its shape is learned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

import msgspec

from fastnk.django.columns import PlainColumn, plain_column
from fastnk.django.plan import Plan, Plans, UnknownModelError

Chunks = Callable[[], Iterable[bytes]]
"""Gives the chunks of a backup, each time from the start."""

Data = dict[str, Any]
"""A record as JSON has it."""

MOST_SHAPES = 8
"""Of one model; past that its records have no shape worth knowing."""


class ShapedColumn(NamedTuple):
    """A member of `fields`."""

    name: str
    plain: PlainColumn | None


class Shape:
    """The records of one label that have the same fields."""

    def __init__(self, label: str, plan: Plan, names: Sequence[str], connection: Any) -> None:
        self.label = label
        self.plan = plan
        self.columns = [
            ShapedColumn(name, _plain(plan, name, connection) if connection else None)
            for name in names
        ]

    def fields_type(self) -> Any:
        hints = [column.plain.hint if column.plain else Any for column in self.columns]
        return _struct(self.label, [column.name for column in self.columns], hints, strict=True)

    def data(self, record: Any) -> Data:
        """The record of this shape as JSON has it."""
        values = msgspec.structs.astuple(record.fields)
        fields = {
            column.name: _json_of(value) for column, value in zip(self.columns, values, strict=True)
        }
        data = {"model": self.label, "pk": record.pk, "fields": fields}
        if record.natural_key is not None:
            data["natural_key"] = record.natural_key
        return data


def _json_of(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value))
    return value if value is None or isinstance(value, int | float | list | dict) else str(value)


class Reader:
    """Reads all records of a backup, any number of times."""

    def __init__(self, chunks: Chunks, plans: Plans, connection: Any) -> None:
        self._chunks = chunks
        self._plans = plans
        self._connection = connection
        self._shapes: dict[type, Shape] = {}
        self._types: dict[str, list[type]] = {}
        """Record types by label, the last learned first."""
        self._decoder: Any = None
        self._refuses_nul = connection.vendor == "postgresql"

    def shape_of(self, record: Any) -> Shape | None:
        """The shape of what `records` gave; `None` for a dictionary."""
        return self._shapes.get(type(record))

    def records(self) -> Iterator[Any]:
        """Every record, as a struct of its shape or as a dictionary."""
        for chunk in self._chunks():
            has_nul = self._refuses_nul and b"\\u0000" in chunk
            yield from self._singly(chunk) if has_nul else self._decoded(chunk)

    def data(self) -> Iterator[Data]:
        """Every record as a dictionary."""
        for chunk in self._chunks():
            yield from _loads(chunk)

    def heads(self, needed: Callable[[Plan], Sequence[str]]) -> Iterator[Any]:
        """Every record with its pk, its keys and the fields needed; what is unknown comes whole."""
        heads = _Heads(self._plans, needed)
        for chunk in self._chunks():
            yield from heads.of(chunk)

    def _decoded(self, chunk: bytes) -> Iterable[Any]:
        if self._decoder is None:
            return self._singly(chunk)
        try:
            decoded: list[Any] = self._decoder.decode(chunk)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._singly(chunk)
        return decoded

    def _singly(self, chunk: bytes) -> list[Any]:
        return [self._one(raw, data) for raw, data in _each(chunk)]

    def _one(self, raw: bytes, data: Data) -> Any:
        """One record as a struct if it has a shape, known by now or learned from it."""
        if self._refuses_nul and b"\\u0000" in raw:
            return data
        label = data.get("model") if isinstance(data, dict) else None
        if not isinstance(label, str):
            return data
        for kind in self._types.get(label, ()):
            try:
                return msgspec.json.decode(raw, type=kind)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
        kind = self._learned(label, data)
        if kind is not None:
            self._types.setdefault(label, []).insert(0, kind)
            self._decoder = _decoder_of(kinds[0] for kinds in self._types.values())
        return data

    def _learned(self, label: str, data: Data) -> Any:
        """The type of records like this one; `None` where it would be of no use."""
        fields = data.get("fields")
        if not isinstance(fields, dict) or "references" in data:
            return None
        known = self._types.get(label, ())
        names = list(fields)
        if len(known) == MOST_SHAPES or any(self._names(kind) == names for kind in known):
            return None
        try:
            shape = Shape(label, self._plans[label], names, self._connection)
        except UnknownModelError:
            return None
        kind = msgspec.defstruct(
            "Record",
            [
                ("fields", shape.fields_type()),
                ("pk", Any, None),
                ("natural_key", Any, None),
                ("references", None, None),
            ],
            tag_field="model",
            tag=label,
            gc=False,
        )
        self._shapes[kind] = shape
        return kind

    def _names(self, kind: type) -> list[str]:
        return [column.name for column in self._shapes[kind].columns]


class _Heads:
    """Decodes no more of a record than its pk, its keys and a few fields."""

    def __init__(self, plans: Plans, needed: Callable[[Plan], Sequence[str]]) -> None:
        self._plans = plans
        self._needed = needed
        self._types: dict[str, Any] = {}
        self._decoder: Any = None

    def of(self, chunk: bytes) -> Iterable[Any]:
        try:
            if self._decoder is not None:
                return list(self._decoder.decode(chunk))
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        return [self._one(raw, data) for raw, data in _each(chunk)]

    def _one(self, raw: bytes, data: Data) -> Any:
        label = data.get("model") if isinstance(data, dict) else None
        if not isinstance(label, str):
            return data
        if label not in self._types:
            try:
                plan = self._plans[label]
            except UnknownModelError:
                return data
            self._types[label] = _head_type(label, self._needed(plan))
            self._decoder = _decoder_of(self._types.values())
        try:
            return msgspec.json.decode(raw, type=self._types[label])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return data


class Head(msgspec.Struct, gc=False):
    """What heads of every label have in common."""

    fields: Any
    pk: Any = None
    natural_key: Any = None
    references: Any = None

    @property
    def label(self) -> str:
        return str(self.__struct_config__.tag)

    def data(self) -> Data:
        """The record as JSON has it, without the fields that are not needed."""
        values = msgspec.structs.astuple(self.fields)
        names = self.fields.__struct_encode_fields__
        fields = {
            name: value
            for name, value in zip(names, values, strict=True)
            if value is not msgspec.UNSET
        }
        data: Data = {"pk": self.pk, "fields": fields}
        if self.natural_key is not None:
            data["natural_key"] = self.natural_key
        if self.references is not None:
            data["references"] = self.references
            data["fields"] = fields | self.references
        return data


def _head_type(label: str, names: Sequence[str]) -> Any:
    fields = _struct(label, list(names), [Any] * len(names), strict=False)
    return msgspec.defstruct(
        "Head", [("fields", fields)], bases=(Head,), tag_field="model", tag=label, gc=False
    )


def _decoder_of(kinds: Iterable[Any]) -> Any:
    """Decodes an array of records, each of any of these types, told by their label."""
    return msgspec.json.Decoder(list[reduce(or_, kinds)])  # type: ignore[misc]


def _struct(label: str, names: list[str], hints: list[Any], *, strict: bool) -> Any:
    """A struct with these members; where it is strict, with exactly these."""
    fields: list[Any] = []
    for number, hint in enumerate(hints):
        name = f"f{number}"  # theirs may be no names in Python
        fields.append((name, hint) if strict else (name, hint, msgspec.UNSET))
    return msgspec.defstruct(
        f"Fields of {label}",
        fields,
        rename={f"f{number}": name for number, name in enumerate(names)},
        forbid_unknown_fields=strict,
        gc=False,
    )


def _plain(plan: Plan, name: str, connection: Any) -> PlainColumn | None:
    column = plan.columns.get(name)
    if column is None or column.reference is not None or name in plan.special:
        return None
    return plain_column(column.field, connection)


def _each(chunk: bytes) -> Iterator[tuple[bytes, Data]]:
    """Every record of a chunk as it stands there, and as a dictionary."""
    try:
        raws: list[Any] = _RAWS.decode(chunk)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # What Python's own JSON has and the standard has not: NaN, half of a surrogate pair.
        raws = [json.dumps(data).encode() for data in json.loads(chunk)]
    for raw in map(bytes, raws):
        yield raw, _loads(raw)


def _loads(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.loads(text)


_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
