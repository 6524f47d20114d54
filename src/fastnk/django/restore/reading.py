"""Decodes records: those of a known shape by the type of each field, all others one by one.

A chunk of a backup is a JSON array of whole records. What has a shape that was met before is
decoded straight into structs, which checks types, lengths and names on the way; what does not fit
comes as a plain dictionary, and its shape is learned.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, reduce
from itertools import groupby
from operator import attrgetter, or_
from typing import Any, NamedTuple

import msgspec

from fastnk.django.restore.columns import PlainColumn, plain_column
from fastnk.django.restore.plan import Plan, UnknownModelError
from fastnk.django.restore.plans import Plans
from fastnk.django.restore.renaming import Data, Naming, is_record
from fastnk.django.restore.values import from_json
from fastnk.errors import BackupSyntaxError, Place
from fastnk.schema import GenericRelation

Chunks = Callable[[str], Iterable[bytes]]
"""Gives the chunks of a backup, each time from the start; it is told what for."""

MOST_SHAPES = 8
"""Of one model; past that its records have no shape worth knowing."""
MOST_FIELDS = 1_000
"""Of a shape: a type with many more takes longer to make than it saves."""


SPELLED = int | str | tuple[int | str | tuple[int | str | None, ...] | None, ...]
"""How a reference may be spelled: an id, or a natural key. All of these can be hashed, and none is
equal to another that means something else, as `1` and `true` are."""


class ShapedColumn(NamedTuple):
    """A member of `fields`."""

    name: str
    plain: PlainColumn | None
    hint: Any
    """The type of the values."""
    is_reference: bool = False
    """Whether the values are references, spelled so that they can be hashed."""
    is_generic: bool = False
    """Whether they are generic references, spelled so; their keys stand beside the fields."""
    is_id: bool = False
    """Whether they are, as a whole, ids of which no relation tells."""


class Shape:
    """The records of one label that have the same fields."""

    def __init__(
        self,
        tag: str,
        spelled: Sequence[str],
        plan: Plan,
        naming: Naming,
        loose: set[str],
        connection: Any,
    ) -> None:
        """`tag` and `spelled` are what the backup calls the model and the fields. The values of the
        `loose` fields may be of any type."""
        self.tag = tag
        self.spelled = list(spelled)
        self.label = naming.renames.label(tag)
        self.plan = plan
        self.columns = [
            ShapedColumn(name, None, Any)
            if name in loose
            else _shaped_column(plan, name, connection)
            for name in naming.fields(tag, spelled)
        ]
        self.beside = [
            at for at, column in enumerate(self.columns) if column.is_generic and not naming
        ]
        """The numbers of the fields of which a key may stand beside them."""
        self.generics = {column.name for column in self.columns if column.is_generic}

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def loose_for(self, fields: Data) -> set[str]:
        """The names of the fields that must be loose for a record with these to have the shape."""
        return {
            column.name
            for column, spelled in zip(self.columns, self.spelled, strict=True)
            if not _fits(fields[spelled], column.hint)
        }

    def fields_type(self) -> Any:
        hints = [column.hint for column in self.columns]
        return _struct(self.tag, self.spelled, hints, strict=True)

    def references_type(self) -> Any:
        """Of what stands beside the fields."""
        spelled = [self.spelled[at] for at in self.beside]
        if not spelled:
            return None
        return _struct(self.tag, spelled, [SPELLED] * len(spelled), strict=True, whole=False) | None

    def values(self, records: Sequence[Any]) -> Iterator[tuple[ShapedColumn, Sequence[Any]]]:
        """The columns of records of this shape."""
        rows = [msgspec.structs.astuple(record.fields) for record in records]
        for at, (column, values) in enumerate(
            zip(self.columns, zip(*rows, strict=True), strict=True)
        ):
            yield column, self._with_keys(at, records, values) if at in self.beside else values

    def column(self, records: Sequence[Any], name: str) -> list[Any]:
        """One column of records of this shape; nulls where they do not have it."""
        if name not in self.names:
            return [None] * len(records)
        at = self.names.index(name)
        values = list(map(attrgetter(f"fields.f{at}"), records))
        return self._with_keys(at, records, values) if at in self.beside else values

    def pairs(self, records: Sequence[Any], generic: GenericRelation) -> Iterator[tuple[Any, Any]]:
        """What names the models of generic references, and their keys or ids."""
        kinds = self.column(records, generic.kind)
        return zip(kinds, self.column(records, generic.object_id), strict=True)

    def _with_keys(self, at: int, records: Sequence[Any], ids: Sequence[Any]) -> list[Any]:
        """The keys of generic references, and the ids of which none stands beside the fields."""
        beside = [record.references for record in records]
        get = attrgetter(f"f{self.beside.index(at)}")
        return [
            id_ if one is None or (key := get(one)) is msgspec.UNSET else key
            for id_, one in zip(ids, beside, strict=True)
        ]

    def data(self, record: Any) -> Data:
        """The record of this shape as JSON has it."""
        fields = {column.name: _json_of(value) for column, (value,) in self.values([record])}
        data = {"model": self.label, "pk": record.pk, "fields": fields}
        if record.natural_key is not None:
            data["natural_key"] = record.natural_key
        return data


def _json_of(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return from_json(bytes(value))
    if isinstance(value, list | tuple):
        return list(map(unfrozen, value))
    return value if value is None or isinstance(value, int | float | dict) else str(value)


def frozen(value: Any) -> Any:
    """A reference so that it can be hashed."""
    if isinstance(value, list | tuple):
        return tuple(map(frozen, value))
    return value if isinstance(value, int | str | None) else str(value)


def unfrozen(value: Any) -> Any:
    """A reference as JSON spells it, of one that can be hashed."""
    return list(map(unfrozen, value)) if isinstance(value, tuple) else value


Runs = list[list[Any]]
"""The records of a chunk: runs of structs of one type, and of dictionaries."""


Decode = Callable[[bytes], Runs]
"""Makes records of a chunk."""


class Reader:
    """Reads all records of a backup, any number of times."""

    def __init__(self, chunks: Chunks, plans: Plans, connection: Any) -> None:
        self._chunks = chunks
        self._plans = plans
        self._naming = plans.naming
        self._connection = connection
        self._shapes: dict[type, Shape] = {}
        self._decoder = Decoder(self._learned, self._refuses_nul)

    @property
    def _refuses_nul(self) -> bool:
        return bool(self._connection.vendor == "postgresql")

    def shape_of(self, record: Any) -> Shape | None:
        """The shape of a record; `None` for a head or a dictionary."""
        return self._shapes.get(type(record))

    def records(self, phase: str, wanted: Sequence[bool]) -> Iterator[Runs]:
        """The records of each chunk: structs of a shape, dictionaries; none of those not wanted."""
        for number, chunk in enumerate(self._chunks(phase)):
            is_wanted = number < len(wanted) and wanted[number]
            yield self._renamed(self._decoder.runs(chunk)) if is_wanted else []

    def chunks(self) -> Iterator[bytes]:
        """All records as they stand in the backup, in JSON arrays."""
        return iter(self._chunks("read"))

    def heads(self, needed: Callable[[Plan], Sequence[str] | None]) -> Decode:
        """Makes of each chunk heads, which have the pk, the keys and the fields needed.

        Where `needed` gives no list, they are structs of their shapes; those of unknown models are
        dictionaries.
        """
        decoder = Decoder(partial(self._learned_head, needed), self._refuses_nul)
        self._naming.start_counting()

        def heads(chunk: bytes) -> Runs:
            runs = decoder.runs(chunk)
            if self._naming:
                self._naming.count(runs)
            return self._renamed(runs)

        return heads

    def bodies(self) -> Iterator[bytes]:
        """Every record as it stands in the backup."""
        return itertools.chain.from_iterable(map(_each, self.chunks()))

    def data(self, record: Any) -> Data:
        """A record to look into, whatever it was decoded to."""
        if isinstance(record, Head):
            return self._naming.record(record.data()) if self._naming else record.data()
        shape = self.shape_of(record)
        return with_references(record if shape is None else shape.data(record))

    def _renamed(self, runs: Runs) -> Runs:
        """The dictionaries among the records by the names of today; structs have them already."""
        if not self._naming:
            return runs
        return [
            run if isinstance(run[0], msgspec.Struct) else list(map(self._naming.record, run))
            for run in runs
        ]

    def _learned_head(
        self, needed: Callable[[Plan], Sequence[str] | None], data: Data, known: list[type]
    ) -> Any:
        tag = data["model"]
        label = self._naming.renames.label(tag)
        try:
            names = needed(self._plans.of_records(label))
        except UnknownModelError:
            return None
        if names is None:
            return self._learned(data, known)
        if known or self._naming.looks_into(label):
            return None
        return _head_type(tag, label, self._naming.old_fields(tag, names))

    def _learned(self, data: Data, known: list[type]) -> type | None:
        """The type of records like this one; `None` where it would be of no use."""
        if not is_record(data) or len(known) == MOST_SHAPES or len(data["fields"]) > MOST_FIELDS:
            return None
        tag, fields = data["model"], data["fields"]
        label = self._naming.renames.label(tag)
        if self._naming.looks_into(label) or any(map(_NO_NAME.search, fields)):
            return None
        names, loose = list(fields), set[str]()
        for shape in (self._shapes[kind] for kind in known):
            if shape.spelled == names:
                loose = shape.loose_for(fields)
                break
        try:
            plan = self._plans.of_records(label)
        except UnknownModelError:
            return None
        shape = Shape(tag, names, plan, self._naming, loose, self._connection)
        if not set(data.get("references") or ()) <= {names[at] for at in shape.beside}:
            return None
        kind = _record_type(shape)
        self._shapes[kind] = shape
        return kind


Learn = Callable[[Data, list[type]], type | None]
"""Makes a type for records like this one, beside those known for its label; `None` if it cannot."""


class Decoder:
    """Decodes chunks into structs of types that are learned on the way."""

    def __init__(self, learn: Learn, refuses_nul: bool) -> None:
        self._learn = learn
        self._refuses_nul = refuses_nul
        self._types: dict[str, list[type]] = {}
        """Types by label, the last learned first."""
        self._many: Any = None
        self._one: Any = None

    def runs(self, chunk: bytes) -> Runs:
        """The records of a chunk."""
        has_nul = self._refuses_nul and b"\\u0000" in chunk
        records = self._singly(chunk) if has_nul else self._at_once(chunk)
        return [list(run) for _, run in groupby(records, key=type)]

    def _at_once(self, chunk: bytes) -> list[Any]:
        try:
            if self._many is not None:
                return list(self._many.decode(chunk))
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        return self._singly(chunk)

    def _singly(self, chunk: bytes) -> list[Any]:
        return [self._decoded(raw) for raw in _each(chunk)]

    def _decoded(self, raw: bytes) -> Any:
        """One record as a struct if its type is known by now."""
        if self._refuses_nul and b"\\u0000" in raw:
            return from_json(raw)
        try:
            if self._one is not None:
                return self._one.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        data = from_json(raw)
        label = data.get("model") if isinstance(data, dict) else None
        if not isinstance(label, str):
            return data
        known = self._types.get(label, [])
        for kind in known:
            try:
                return msgspec.json.decode(raw, type=kind)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
        return self._first_of_its_kind(raw, label, data, known)

    def _first_of_its_kind(self, raw: bytes, label: str, data: Data, known: list[type]) -> Any:
        kind = self._learn(data, known)
        if kind is None:
            return data
        self._types[label] = [kind, *known]
        newest = reduce(or_, (kinds[0] for kinds in self._types.values()))
        self._many = msgspec.json.Decoder(list[newest])  # type: ignore[valid-type]
        self._one = msgspec.json.Decoder(newest)
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return data


_NO_NAME = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')
"""What the names of a struct's members must not have in msgspec."""


def _record_type(shape: Shape) -> type:
    return msgspec.defstruct(
        "Record",
        [
            ("fields", shape.fields_type()),
            ("pk", Any, None),
            ("natural_key", Any, None),
            ("references", shape.references_type(), None),
        ],
        tag_field="model",
        tag=shape.tag,
        gc=False,
        namespace={"label": shape.label},
    )


class Head(msgspec.Struct, gc=False):
    """What heads of every label have in common."""

    fields: Any
    pk: Any = None
    natural_key: Any = None
    references: dict[str, Any] | None = None

    def data(self) -> Data:
        """The record as JSON has it, without the fields that are not needed."""
        values = msgspec.structs.astuple(self.fields)
        names = self.fields.__struct_encode_fields__
        fields = {
            name: value
            for name, value in zip(names, values, strict=True)
            if value is not msgspec.UNSET
        }
        data: Data = {"model": self.__struct_config__.tag, "pk": self.pk, "fields": fields}
        if self.natural_key is not None:
            data["natural_key"] = self.natural_key
        if self.references is not None:
            data["references"] = self.references
        return with_references(data)


def _head_type(tag: str, label: str, spelled: Sequence[str]) -> Any:
    fields = _struct(tag, list(spelled), [Any] * len(spelled), strict=False, whole=False)
    return msgspec.defstruct(
        "Head",
        [("fields", fields)],
        bases=(Head,),
        tag_field="model",
        tag=tag,
        gc=False,
        namespace={"label": label},
    )


def _fits(value: Any, hint: Any) -> bool:
    if hint is msgspec.Raw:
        return True
    try:
        msgspec.convert(value, hint)
    except (msgspec.ValidationError, UnicodeEncodeError):  # half a surrogate pair in its place
        return False
    return True


def _struct(
    tag: str, names: list[str], hints: list[Any], *, strict: bool, whole: bool = True
) -> Any:
    """A struct of these members: with no others where it is strict, with all where it is whole."""
    fields: list[Any] = []
    for number, hint in enumerate(hints):
        name = f"f{number}"  # theirs may be no names in Python
        fields.append((name, hint) if whole else (name, hint, msgspec.UNSET))
    return msgspec.defstruct(
        f"Fields of {tag}",
        fields,
        rename={f"f{number}": name for number, name in enumerate(names)},
        forbid_unknown_fields=strict,
        gc=False,
    )


def _shaped_column(plan: Plan, name: str, connection: Any) -> ShapedColumn:
    column = (plan.columns | plan.many).get(name)
    if name in plan.generics and name not in plan.inside:
        return ShapedColumn(name, None, SPELLED | None, is_generic=True)
    if column is None or name in plan.special:
        is_id = name not in plan.generics and name in plan.inside and not plan.inside[name].steps
        return ShapedColumn(name, None, Any, is_id=is_id)
    if name in plan.many:
        return ShapedColumn(name, None, list[SPELLED], is_reference=True)
    if column.reference is not None:
        return ShapedColumn(name, None, SPELLED | None, is_reference=True)
    plain = plain_column(column.field, connection)
    return ShapedColumn(name, plain, plain.hint if plain else Any)


def with_references(data: Data) -> Data:
    """What the fields could not hold among them; it means more than an id that stands there, which
    is then among the `ids`."""
    references = data.get("references")
    if not references:
        return data
    fields = data["fields"]
    ids = {name: fields[name] for name in references if name in fields}
    return {**data, "fields": fields | references, "ids": ids}


def label_of(number: int, record: Any) -> str:
    """The label of a struct, or of the dictionary that is the record with this number.

    Raises `BackupSyntaxError` if it is no record.
    """
    if isinstance(record, msgspec.Struct):
        return str(type(record).label)  # type: ignore[attr-defined]
    if not is_record(record):
        raise BackupSyntaxError(
            "not a record: a model, fields, and references that are an object were expected",
            code="FNK204",
            place=Place(record=number),
        )
    return str(record["model"])


def _each(chunk: bytes) -> Iterator[bytes]:
    """Every record of a chunk as it stands there."""
    try:
        raws: list[Any] = _RAWS.decode(chunk)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # What Python's own JSON has and the standard has not: NaN, half of a surrogate pair.
        raws = [json.dumps(data).encode() for data in from_json(chunk)]
    return map(bytes, raws)


_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
