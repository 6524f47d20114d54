"""Arranges a converted backup: every record behind those it refers to, wherever that can be.

Most models do not refer to each other in circles: their records move in whole runs. Only the
records of models that do, trees among them, are arranged one by one. What grows with the backup
is kept in compact numbers and in temporary files.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import re
import sqlite3
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import IO, Any, NamedTuple, Self

import msgspec

from fastnk._core import Splitter
from fastnk.decoding import deep_nesting, label_of
from fastnk.errors import BackupSyntaxError, OutputError, UsageError
from fastnk.output import Sink
from fastnk.schema import KeyPart, Schema, flat_parts, parse_path
from fastnk.source import BLOCK_SIZE, Source

IN_MEMORY = 4 << 20
"""Bytes of each kind of working data that stay in memory; more go to a temporary file."""

AT_ONCE = 4096
"""Rows or numbers that are collected before they are put away."""


class Arrangement(msgspec.Struct, frozen=True):
    """How the records of a backup stand."""

    records: int
    forward_references: int
    """References to a record that does not stand before; each is part of a cycle."""
    forward_fields: dict[str, int] = {}
    """How many of them there are, by `app.model.field`."""


def arrange(converted: Source, sink: Sink, schema: Schema) -> Arrangement:
    """Write the records of a converted backup to `sink`, each behind those it refers to.

    An array stays an array, lines stay lines, and each record keeps its bytes; between records
    stands what stood between the first two. Where references leave a choice, the order of the
    backup stays. In a cycle the weakest references point forward: many-to-many first, then
    fields that are null elsewhere, and last of all those that a record is identified by.

    Raises `UsageError` where the order depends on natural keys that the backup does not tell,
    `BackupSyntaxError`, `SourceError`, and `OutputError`.
    """
    with contextlib.ExitStack() as stack, _no_room_is_an_error():
        backup = _Backup(schema, stack)
        backup.read(converted)
        return backup.write(sink)


@contextlib.contextmanager
def _no_room_is_an_error() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise OutputError(
            f"cannot arrange the records: {error}",
            remedy=f"make room in {tempfile.gettempdir()}, or set TMPDIR to another folder",
        ) from error


class _Backup:
    """The records of one backup, and where they go.

    A segment is a run of records of one model that stay together, or a single record of a model
    in a cycle. It is three numbers: the model, and where it starts and ends in the spool.
    """

    def __init__(self, schema: Schema, stack: contextlib.ExitStack) -> None:
        self._schema = schema
        self._references = stack.enter_context(_References(schema))
        self._spool = stack.enter_context(_Spool())
        self._segments = stack.enter_context(_Numbers())
        self._segment_count = 0
        self._segment: tuple[int, int] | None = None
        """The model and the start of the segment that goes on."""
        self._models: dict[str, int] = {}
        """The label of each model met, and its number."""
        self._head = self._separator = self._tail = b""
        self._records = 0

    def read(self, source: Source) -> None:
        """Raises `BackupSyntaxError`, `SourceError`, and `UsageError`."""
        records = _records(source)
        _, self._head = next(records)
        for record, behind in records:
            if self._records == 0:
                same_line = b"," not in behind and b"\n" not in behind
                self._separator = b"\n" if same_line else behind
            self._put(record)
            self._records += 1
            self._tail = behind
        self._close_segment()
        self._references.check_keys()

    def _put(self, record: bytes) -> None:
        label = label_of(record)
        model = self._models.setdefault(label, len(self._models))
        stands_alone = label in self._references.models
        if self._segment is None or self._segment[0] != model or stands_alone:
            self._close_segment()
            self._segment = model, self._spool.size
        if stands_alone:
            self._references.add(self._segment_count, label, _decode(record))
        self._spool.write(record + self._separator)

    def _close_segment(self) -> None:
        if self._segment is not None:
            for number in (*self._segment, self._spool.size):
                self._segments.append(number)
            self._segment_count += 1
            self._segment = None

    def write(self, sink: Sink) -> Arrangement:
        """Raises `OutputError`."""
        segments = self._segments.view()
        graph = self._references.graph(self._segment_count)
        order = _Sorter(graph).sort() if graph.targets else range(self._segment_count)
        placed = self._placed(segments, order)
        self._copy(segments, placed, sink)
        forward = self._references.forward(graph, placed)
        return Arrangement(self._records, sum(forward.values()), forward)

    def _placed(self, segments: Sequence[int], order: Iterable[int]) -> Sequence[int]:
        """The segments by the ranks of their models, within each rank in the given order."""
        ranks = _ranks(self._schema, self._models)
        sizes = Counter(ranks[model] for model in segments[::3])
        starts = itertools.accumulate((sizes[rank] for rank in sorted(sizes)), initial=0)
        free = dict(zip(sorted(sizes), starts, strict=False))
        placed = _room(self._segment_count)
        for segment in order:
            rank = ranks[segments[3 * segment]]
            placed[free[rank]] = segment
            free[rank] += 1
        return placed

    def _copy(self, segments: Sequence[int], order: Iterable[int], sink: Sink) -> None:
        spool = self._spool.view()
        out = bytearray(self._head)
        for start, end in self._pieces(segments, order):
            for at in range(start, end, BLOCK_SIZE):
                out += spool[at : min(at + BLOCK_SIZE, end)]
                if len(out) >= BLOCK_SIZE:
                    sink.write(bytes(out))
                    out.clear()
        sink.write(bytes(out + self._tail))

    def _pieces(self, segments: Sequence[int], order: Iterable[int]) -> Iterator[tuple[int, int]]:
        """The segments; those that were neighbours and still are as one. The last separator,
        which has nothing behind it, is left out."""
        start = end = 0
        for segment in order:
            _, next_start, next_end = segments[3 * segment : 3 * segment + 3]
            if next_start != end:
                yield start, end
                start = next_start
            end = next_end
        yield start, end - len(self._separator)


def _records(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """First no record and what stands before the records, then each record and what stands behind.

    Raises `BackupSyntaxError` and `SourceError`. A backup without records is no error here.
    """
    splitter = Splitter(source.name)
    window = bytearray()
    record = b""
    for block in itertools.chain(source.blocks(), [None]):
        if block is None:
            _finish(splitter)
        else:
            splitter.feed(block)
            window += block
        at = 0
        for following in splitter.take():
            start = window.index(b"{", at)  # only white space and punctuation stand between
            yield record, bytes(window[at:start])
            record = following
            at = start + len(record)
        del window[:at]
    yield record, bytes(window)


def _finish(splitter: Splitter) -> None:
    try:
        splitter.finish()
    except BackupSyntaxError as error:
        if error.code not in (_EMPTY, _NO_RECORDS):
            raise


_EMPTY, _NO_RECORDS = "FNK201", "FNK202"


# ---- records ----------------------------------------------------------------------------------


class _Record(msgspec.Struct):
    """The members that tell what a record is and what it refers to."""

    model: str
    fields: dict[str, Any]
    pk: Any = None
    natural_key: Any = None
    references: Any = None
    """Among others: what a pk that is a relation refers to."""

    def value(self, field: str, pk_field: str) -> Any:
        """What a field holds, the pk too; `None` where there is nothing."""
        if field != pk_field or field in self.fields:
            return self.fields.get(field)
        referred = self.references.get(field) if isinstance(self.references, dict) else None
        return self.pk if referred is None else referred


_RECORD = msgspec.json.Decoder(_Record)


def _decode(record: bytes) -> _Record:
    try:
        return _RECORD.decode(record)
    except (msgspec.DecodeError, RecursionError):
        # What the core lets through because Python writes it.
        with deep_nesting():
            return msgspec.convert(json.loads(record), _Record)


# ---- natural keys -----------------------------------------------------------------------------


class _UnknownKeyError(Exception):
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

    def of(self, record: _Record, pk_field: str) -> Any:
        """The part. Raises `_UnknownKeyError`."""
        value = record.value(self.field, pk_field)
        if value is None and self.field == pk_field:
            raise _UnknownKeyError
        if self.is_relation:
            value = self._of_target(value)
            if value is None:
                return None
        return _transformed(value, self.transform)

    def _of_target(self, value: Any) -> Any:
        if value is None or (self.is_id and not isinstance(value, list)):
            return value
        if not self.positions:
            raise _UnknownKeyError
        for position in self.positions:
            if not isinstance(value, list) or position >= len(value):
                raise _UnknownKeyError
            value = value[position]
        return value


_Key = list[Any]
"""The parts of a natural key: `_Part`s and lists of them."""


def _composed(key: _Key, record: _Record, pk_field: str) -> list[Any]:
    """The natural key of a record. Raises `_UnknownKeyError`."""
    return [
        part.of(record, pk_field) if isinstance(part, _Part) else _composed(part, record, pk_field)
        for part in key
    ]


def _key(schema: Schema, label: str, parts: Iterable[KeyPart]) -> _Key:
    """Where these parts stand in a record of model `label`. Raises `_UnknownKeyError`."""
    return [
        _part(schema, label, part) if isinstance(part, str) else _key(schema, label, part)
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
    places = dict(_places(schema, relation.to, held))
    positions = places.get((rest, transform)) or places.get((rest, None)) or ()
    is_id = rest == schema.field_name(relation.to, relation.to_field or "pk")
    if not positions and not is_id:
        raise _UnknownKeyError
    return _Part(name, transform, True, positions, is_id)


def _places(
    schema: Schema, label: str, parts: Iterable[KeyPart], outer: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[str, str | None], tuple[int, ...]]]:
    """The paths in a natural key, each with its transform, and where in the key they stand."""
    for number, part in enumerate(parts):
        if isinstance(part, str):
            path, _, transform = part.partition("|")
            yield (schema.spelled_out(label, path), transform or None), (*outer, number)
        else:
            yield from _places(schema, label, part, (*outer, number))


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


# ---- models -----------------------------------------------------------------------------------

_MANY, _NULLABLE, _REQUIRED, _IDENTIFYING = range(4)
"""How much depends on a reference. `loaddata` can put off what a many-to-many field holds, and
what a field holds that may be null; never what it looks for a record by."""

_OWN = ""
"""The natural key of a model that is no proxy's."""


class _Reference(NamedTuple):
    """A relation between models of one cycle."""

    number: int
    field: str
    to: str
    to_field: str
    key: str
    """Which of the target's natural keys it holds, as `_Model.keys` calls it."""
    many: bool
    strength: int


class _Model(NamedTuple):
    """A model in a cycle: what its records are found by, and what they refer to."""

    pk: str
    keys: dict[str, _Key | None]
    """Its natural keys; `None` for one that its records do not tell."""
    fields: set[str]
    """Those whose values relations hold; the pk may be among them."""
    references: list[_Reference]


def _cyclic_models(schema: Schema) -> dict[str, _Model]:
    """The models that refer to themselves, or to each other in circles."""
    components = _components(schema, list(schema.models))
    sizes = Counter(components.values())
    models = {
        label: _Model(model.pk, {_OWN: _known_key(schema, label, model.natural_key)}, set(), [])
        for label, model in schema.models.items()
        if sizes[components[label]] > 1
        or any(relation.to == label for relation in model.relations.values())
    }
    numbers = itertools.count(1)
    for label, model in models.items():
        for field, relation in schema.models[label].relations.items():
            if components[relation.to] == components[label]:
                reference = _reference(schema, next(numbers), label, field)
                model.references.append(reference)
                target = models[relation.to]
                target.fields.add(reference.to_field)
                if reference.key != _OWN:
                    known = _known_key(schema, relation.to, relation.natural_key)
                    target.keys[reference.key] = known
    return models


def _known_key(schema: Schema, label: str, parts: list[KeyPart] | None) -> _Key | None:
    with contextlib.suppress(_UnknownKeyError):
        return None if parts is None else _key(schema, label, parts)
    return None


def _reference(schema: Schema, number: int, label: str, field: str) -> _Reference:
    model = schema.models[label]
    relation = model.relations[field]
    key = relation.natural_key_method or (
        str(relation.natural_key) if relation.natural_key else _OWN
    )
    to_field = schema.field_name(relation.to, relation.to_field or "pk")
    hops = [
        hop for part in flat_parts(model.natural_key or ()) for hop in parse_path(part).hops[:1]
    ]
    if relation.many:
        strength = _MANY
    elif field in {model.pk, *(schema.field_name(label, hop) for hop in hops)}:
        strength = _IDENTIFYING
    else:
        strength = _REQUIRED
    return _Reference(number, field, relation.to, to_field, key, relation.many, strength)


def _ranks(schema: Schema, labels: Iterable[str]) -> list[int]:
    """The place of each of `labels` in an order that follows the relations.

    Models that refer to each other in circles share one; those that the schema does not know
    share the last.
    """
    labels = list(labels)
    known = [label for label in labels if label in schema.models]
    every = list(dict.fromkeys([*known, *schema.models]))
    components = _components(schema, every)
    return [components.get(label, len(every)) for label in labels]


def _components(schema: Schema, labels: Sequence[str]) -> dict[str, int]:
    """All models of the schema, given in some order, with the place of the circle that each is in.

    A model that is in none has a place of its own.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    firsts, targets = [0], []
    for label in labels:
        relations = schema.models[label].relations.values()
        targets += sorted({numbers[relation.to] for relation in relations})
        firsts.append(len(targets))
    sorter = _Sorter(_Graph(firsts, targets, [0] * len(targets), [_REQUIRED]))
    sorter.sort()
    return {label: sorter.components[number] for label, number in numbers.items()}


# ---- references -------------------------------------------------------------------------------


class _References:
    """What the records of models in cycles are found by and refer to, in a private database."""

    def __init__(self, schema: Schema) -> None:
        self.models = _cyclic_models(schema)
        references = [
            (f"{label}.{reference.field}", reference.strength)
            for label, model in self.models.items()
            for reference in model.references
        ]
        # Number 0 is no relation: a record with the key of another one, which overwrites it.
        self._fields = ["", *(field for field, _ in references)]
        self._strengths = [_IDENTIFYING, *(strength for _, strength in references)]
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

    def add(self, record: int, label: str, members: _Record) -> None:
        """Note what a record is found by and what it refers to. Records come in their order."""
        model = self.models[label]
        for name, is_identity in self._names_of(label, model, members).items():
            self._names.append((name, record, is_identity))
        for reference in model.references:
            for name in self._names_in(reference, members.value(reference.field, model.pk)):
                self._uses.append((name, record, reference.number))
        if len(self._names) + len(self._uses) > AT_ONCE:
            self._put_away()

    def _names_of(self, label: str, model: _Model, members: _Record) -> dict[bytes, bool]:
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
            names[_digest(label, _OWN, key)] = members.pk is None and None not in key
        return names

    def _keys_of(self, label: str, model: _Model, members: _Record) -> Iterator[list[Any]]:
        if isinstance(members.natural_key, list):
            yield members.natural_key
            return
        for name, key in model.keys.items():
            try:
                if key is None:
                    raise _UnknownKeyError
                yield _composed(key, members, model.pk)
            except _UnknownKeyError:
                # With a pk and no other key, the record is referred to by its pk.
                if name != _OWN or members.pk is None:
                    self._untold.add((label, name))

    def _names_in(self, reference: _Reference, value: Any) -> Iterator[bytes]:
        if value is None and self._strengths[reference.number] == _REQUIRED:
            self._strengths[reference.number] = _NULLABLE
        for one in value if reference.many and isinstance(value, list) else [value]:
            if isinstance(one, list):
                self._wanted.add((reference.to, reference.key))
                yield _digest(reference.to, _OWN, one)
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

    def graph(self, records: int) -> _Graph:
        """Which of so many records refers to which; one that several have means the first."""
        self._put_away()
        self._database.execute(_INDEX)
        firsts, targets, kinds = (self._stack.enter_context(_Numbers()) for _ in range(3))
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
        return _Graph(firsts.view(), targets.view(), kinds.view(), self._strengths)

    def forward(self, graph: _Graph, order: Sequence[int]) -> dict[str, int]:
        """How many references in each field do not point backwards in this order."""
        places = _room(len(order))
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


# ---- sorting ----------------------------------------------------------------------------------


class _Graph(NamedTuple):
    """Records, or models, and their references, as numbers."""

    firsts: Sequence[int]
    """For each record the number of its first edge, and at last the number of all edges."""
    targets: Sequence[int]
    kinds: Sequence[int]
    """For each edge."""
    strengths: Sequence[int]
    """For each kind."""


_UNSEEN, _CLOSED, _AGAIN = 0, -1, -2


class _Sorter:
    """Sorts records so that their targets come first, otherwise as they are numbered.

    Circles (strongly connected components) are found by Tarjan's algorithm, in the variant of
    Pearce that gives their records in the order in which a depth-first search leaves them. One
    whose edges differ in strength is taken up again without the weakest of them. Linear in the
    edges; no recursion, and no object per record.
    """

    def __init__(self, graph: _Graph) -> None:
        self._graph = graph
        self._count = count = len(graph.firsts) - 1
        self.components = _room(count)
        """For each record where its circle starts in the order."""
        self._order = _room(count)
        self._free = _room(count)
        """For each circle, by its start: where its next record goes."""
        self._seen = _room(count)
        """When a record was seen first, or what it is instead."""
        self._lows = _room(count)
        """The earliest that a record leads back to."""
        self._edges = _room(count)
        """The next edge of a record to follow."""
        self._path = _room(count)
        self._left = _room(count)
        """Records that the search has left, whose circle is not complete."""
        self._left_count = 0
        self._clock = 0

    def sort(self) -> Sequence[int]:
        """The records in order."""
        for level in sorted(set(self._graph.strengths)):
            for record in range(self._count):
                if self._seen[record] == _UNSEEN:
                    self._search(record, level)
            if not self._take_up_again():
                break
        return self._order

    def _take_up_again(self) -> bool:
        """Whether there is a circle to be taken up again."""
        found = False
        for record in range(self._count):
            if self._seen[record] == _AGAIN:
                self._seen[record] = _UNSEEN
                self._free[self.components[record]] = self.components[record]
                found = True
        return found

    def _search(self, root: int, level: int) -> None:
        """Follow all edges from `root` that are of this level or stronger."""
        firsts, targets, kinds, strengths = self._graph
        seen, lows, edges, path = self._seen, self._lows, self._edges, self._path
        depth = 0
        self._enter(root, depth)
        while depth >= 0:
            record = path[depth]
            edge = edges[record]
            if edge < firsts[record + 1]:
                edges[record] = edge + 1
                target = targets[edge]
                if strengths[kinds[edge]] < level or not self._is_open(record, target):
                    continue
                if seen[target] == _UNSEEN:
                    depth += 1
                    self._enter(target, depth)
                else:
                    lows[record] = min(lows[record], lows[target])
                continue
            depth -= 1
            if lows[record] == seen[record]:
                self._close(record, level)
            else:
                self._left[self._left_count] = record
                self._left_count += 1
                lows[path[depth]] = min(lows[path[depth]], lows[record])

    def _is_open(self, record: int, target: int) -> bool:
        """Whether `target` may be in a circle with `record`."""
        return self._seen[target] >= 0 and self.components[target] == self.components[record]

    def _enter(self, record: int, depth: int) -> None:
        self._clock += 1
        self._seen[record] = self._lows[record] = self._clock
        self._edges[record] = self._graph.firsts[record]
        self._path[depth] = record

    def _close(self, root: int, level: int) -> None:
        """The circle of `root` is complete: give its records their places."""
        end = start = self._left_count
        while start and self._seen[self._left[start - 1]] > self._seen[root]:
            start -= 1
        self._left_count = start
        outer = self.components[root]
        place = self._free[outer]
        behind = self._free[outer] = place + end - start + 1
        self._order[place : behind - 1] = self._left[start:end]
        self._order[behind - 1] = root
        circle = self._order[place:behind]
        for record in circle:
            self.components[record] = place
            self._seen[record] = _CLOSED
        if len(circle) > 1 and self._differ(circle, level):
            for record in circle:
                self._seen[record] = _AGAIN

    def _differ(self, circle: Iterable[int], level: int) -> bool:
        """Whether the edges within a circle that has just been closed differ in strength."""
        firsts, targets, kinds, strengths = self._graph
        found = {
            strengths[kinds[edge]]
            for record in circle
            for edge in range(firsts[record], firsts[record + 1])
            if targets[edge] != record and self._are_together(record, targets[edge])
        }
        return len(found.intersection(range(level, _IDENTIFYING + 1))) > 1

    def _are_together(self, record: int, target: int) -> bool:
        """Whether both are in the circle that has just been closed, given that `record` is."""
        return self._seen[target] == _CLOSED and self.components[target] == self.components[record]


# ---- room -------------------------------------------------------------------------------------


class _Spool:
    """Bytes one behind the other: in memory, or in a temporary file when they are many."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._file: IO[bytes] | None = None
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, data: bytes) -> None:
        self._waiting += data
        self.size += len(data)
        if len(self._waiting) > IN_MEMORY:
            self._put_away()

    def _put_away(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()
        self._file.write(self._waiting)
        self._waiting.clear()

    def view(self) -> memoryview:
        """All of them; nothing can be written any more."""
        if self._file is None:
            return memoryview(self._waiting)
        self._put_away()
        self._file.flush()
        return memoryview(mmap.mmap(self._file.fileno(), 0))


class _Numbers:
    """Numbers one behind the other, eight bytes each."""

    def __init__(self) -> None:
        self._spool = _Spool()
        self._waiting = array("q")
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._spool.__exit__(*error)

    def __len__(self) -> int:
        return self._spool.size // 8 + len(self._waiting)

    def append(self, number: int) -> None:
        self._waiting.append(number)
        if len(self._waiting) >= AT_ONCE:
            self._put_away()

    def _put_away(self) -> None:
        self._spool.write(self._waiting.tobytes())
        del self._waiting[:]

    def view(self) -> memoryview:
        """All of them; none can be appended any more."""
        self._put_away()
        return self._spool.view().cast("q")


def _room(count: int) -> memoryview:
    """So many zeros that can be overwritten: in memory, or in a temporary file if they are many."""
    size = count * 8
    if size <= IN_MEMORY:
        return memoryview(bytearray(size)).cast("q")
    with tempfile.TemporaryFile() as file:
        # Written, not only made longer: a mapped file that finds no room later ends the process.
        for _ in range(0, size, BLOCK_SIZE):
            file.write(bytes(BLOCK_SIZE))
        file.flush()
        return memoryview(mmap.mmap(file.fileno(), size)).cast("q")
