"""Decodes records: those of a known shape by the type of each field, all others one by one.

A chunk of a backup is a JSON array of whole records. What has a shape that was met before is
decoded straight into structs, which checks types, lengths and names on the way; what does not fit
comes as a plain dictionary, and its shape is learned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import groupby
from operator import or_
from typing import Any, NamedTuple

import msgspec

from fastnk.django.columns import PlainColumn, plain_column
from fastnk.django.plan import Plan, Plans, UnknownModelError
from fastnk.errors import BackupSyntaxError, Place

Chunks = Callable[[str], Iterable[bytes]]
"""Gives the chunks of a backup, each time from the start; it is told what for."""

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

    def __init__(
        self, label: str, plan: Plan, names: Sequence[str], loose: set[str], connection: Any
    ) -> None:
        """The values of the `loose` fields may be of any type."""
        self.label = label
        self.plan = plan
        self.columns = [
            ShapedColumn(name, None if name in loose else _plain(plan, name, connection))
            for name in names
        ]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def loose_for(self, fields: Data) -> set[str]:
        """The names of the fields that must be loose for a record with these to have the shape."""
        return {
            column.name
            for column in self.columns
            if column.plain is None or not _fits(fields[column.name], column.plain.hint)
        }

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
        self._decoder_of_one: Any = None
        self._refuses_nul = connection.vendor == "postgresql"

    def shape_of(self, record: Any) -> Shape | None:
        """The shape of what `records` gave; `None` for a dictionary."""
        return self._shapes.get(type(record))

    def records(self, phase: str) -> Iterator[list[Any]]:
        """All records in runs, each of structs of one shape or of dictionaries."""
        for chunk in self._chunks(phase):
            has_nul = self._refuses_nul and b"\\u0000" in chunk
            yield from _runs(self._singly(chunk) if has_nul else self._decoded(chunk))

    def heads(self, needed: Callable[[Plan], Sequence[str]]) -> Iterator[list[Any]]:
        """All records in runs, each of one type of `Head` or of dictionaries.

        They have their pk, their keys and the fields needed; those of unknown models come whole.
        """
        heads = _Heads(self._plans, needed)
        for chunk in self._chunks("read"):
            yield from _runs(heads.of(chunk))

    def _decoded(self, chunk: bytes) -> Iterable[Any]:
        if self._decoder is None:
            return self._singly(chunk)
        try:
            decoded: list[Any] = self._decoder.decode(chunk)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._singly(chunk)
        return decoded

    def _singly(self, chunk: bytes) -> list[Any]:
        return [self._one(raw) for raw in _each(chunk)]

    def _one(self, raw: bytes) -> Any:
        """One record as a struct if it has a shape that is known by now."""
        if self._refuses_nul and b"\\u0000" in raw:
            return _loads(raw)
        try:
            if self._decoder_of_one is not None:
                return self._decoder_of_one.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        data = _loads(raw)
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
            newest = [kinds[0] for kinds in self._types.values()]
            self._decoder, self._decoder_of_one = _decoders_of(newest)
        return data

    def _learned(self, label: str, data: Data) -> Any:
        """The type of records like this one; `None` where it would be of no use."""
        fields = data.get("fields")
        if not isinstance(fields, dict) or "references" in data:
            return None
        known = self._types.get(label, ())
        names, loose = list(fields), set[str]()
        if len(known) == MOST_SHAPES:
            return None
        for shape in (self._shapes[kind] for kind in known):
            if shape.names == names:
                loose = shape.loose_for(fields)
                break
        try:
            shape = Shape(label, self._plans[label], names, loose, self._connection)
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


class _Heads:
    """Decodes no more of a record than its pk, its keys and a few fields."""

    def __init__(self, plans: Plans, needed: Callable[[Plan], Sequence[str]]) -> None:
        self._plans = plans
        self._needed = needed
        self._types: dict[str, Any] = {}
        self._decoder: Any = None
        self._decoder_of_one: Any = None

    def of(self, chunk: bytes) -> Iterable[Any]:
        try:
            if self._decoder is not None:
                return list(self._decoder.decode(chunk))
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        return [self._one(raw) for raw in _each(chunk)]

    def _one(self, raw: bytes) -> Any:
        for _ in range(2):
            try:
                if self._decoder_of_one is not None:
                    return self._decoder_of_one.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
            if not self._learns(_loads(raw)):
                break
        return _loads(raw)

    def _learns(self, data: Any) -> bool:
        """Make the type of heads of this record's label, if that is a new one."""
        label = data.get("model") if isinstance(data, dict) else None
        if not isinstance(label, str) or label in self._types:
            return False
        try:
            self._types[label] = _head_type(label, self._needed(self._plans[label]))
        except UnknownModelError:
            return False
        self._decoder, self._decoder_of_one = _decoders_of(self._types.values())
        return True


class Head(msgspec.Struct, gc=False):
    """What heads of every label have in common."""

    fields: Any
    pk: Any = None
    natural_key: Any = None
    references: Any = None

    def value(self, name: str) -> Any:
        """One of the fields; `None` where the record does not have it."""
        number = self.fields.__struct_encode_fields__.index(name)
        value = getattr(self.fields, f"f{number}")
        return None if value is msgspec.UNSET else value

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


def _decoders_of(kinds: Iterable[Any]) -> tuple[Any, Any]:
    """What decodes an array of records of any of these types, told by their label, and one."""
    union = reduce(or_, kinds)
    many = msgspec.json.Decoder(list[union])  # type: ignore[valid-type]
    return many, msgspec.json.Decoder(union)


def _fits(value: Any, hint: Any) -> bool:
    if hint is msgspec.Raw:
        return True
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    return True


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


def label_of(number: int, record: Any) -> str:
    """The label of a head, or of the dictionary that is the record with this number.

    Raises `BackupSyntaxError` if it is no record.
    """
    if isinstance(record, Head):
        return str(record.__struct_config__.tag)
    label = record.get("model") if isinstance(record, dict) else None
    if not isinstance(label, str) or not isinstance(record.get("fields"), dict):
        raise BackupSyntaxError(
            "not a record: an object with a model and fields was expected",
            place=Place(record=number),
        )
    return label


def _runs(records: Iterable[Any]) -> Iterator[list[Any]]:
    return (list(run) for _, run in groupby(records, key=type))


def _each(chunk: bytes) -> Iterator[bytes]:
    """Every record of a chunk as it stands there."""
    try:
        raws: list[Any] = _RAWS.decode(chunk)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # What Python's own JSON has and the standard has not: NaN, half of a surrogate pair.
        raws = [json.dumps(data).encode() for data in json.loads(chunk)]
    return map(bytes, raws)


def _loads(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.loads(text)


_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
