"""What the fields of a backup hold, in few bytes per value: the ground that inference stands on.

Values are not kept. An integer is kept as itself, a text as its hash, each in eight bytes, and of
every field only those of the first `MAX_VALUES` records, or of fewer where there are very many
fields. Pks are kept of all records.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from operator import gt
from typing import Any

from fastnk.decoding import Members, members_of
from fastnk.errors import (
    MAX_FIELDS,
    MAX_MODELS,
    BackupSyntaxError,
    Place,
    too_many_fields,
    too_many_models,
)
from fastnk.schema import plain_label
from fastnk.source import Backup, Progress, Source, split_records

MAX_VALUES = 200_000
"""Of each field the values of so many records are kept, 1.6 MB; of lists so many elements."""

MOST_VALUES = 32 << 20
"""Values that are kept of all fields together, 256 MB."""

ROOM_CHECKED_EVERY = 50_000
"""Records, in each of which a field can gain one value."""

MAX_KEY_TEXT = 120
"""Characters; a longer text, or one of several lines, is prose and no key."""

MAX_KEY_PARTS = 8
"""A longer list is not a natural key."""

MAX_KEY_DEPTH = 4
"""Lists in one another that are looked into; what is deeper is data."""

RANDOM_DIGITS = 32
HEX_DIGITS = "0123456789abcdef"

NULL = -(1 << 63)
"""What is kept for a null, and for a value that is neither an integer nor a text."""


class Room:
    """How many values of each field are kept."""

    def __init__(self) -> None:
        self.each = MAX_VALUES

    def make(self, columns: Iterable[Column]) -> None:
        """Keep fewer where those of all columns are too many."""
        held = list(columns)
        while sum(len(column.codes) for column in held) > MOST_VALUES:
            self.each //= 2
            for column in held:
                del column.codes[self.each :]


class Ids:
    """A set of integers of 64 bits; integers that follow each other take no room."""

    def __init__(self, values: Iterable[int] = ()) -> None:
        self._starts = array("q")
        self._ends = array("q")
        self._before = array("q")
        self._settled = True
        for value in values:
            self.add(value)

    def add(self, value: int) -> None:
        if self._ends and value == self._ends[-1] + 1:
            self._ends[-1] = value
        else:
            self._starts.append(value)
            self._ends.append(value)
        self._settled = False

    def __len__(self) -> int:
        self._settle()
        return self._before[-1] + self._ends[-1] - self._starts[-1] + 1 if self._ends else 0

    def __contains__(self, value: int) -> bool:
        self._settle()
        run = bisect_right(self._starts, value) - 1
        return run >= 0 and value <= self._ends[run]

    @property
    def lowest(self) -> int:
        """Of a set that is not empty, as `highest` is."""
        self._settle()
        return self._starts[0]

    @property
    def highest(self) -> int:
        self._settle()
        return self._ends[-1]

    def has_all(self, values: Sequence[int]) -> bool:
        """Whether it has all of these, which are in order. The first one that it does not have ends
        it: with many models, most have nothing to do with each other."""
        return self.density(values[0], values[-1]) == 1 or all(map(self.__contains__, values))

    def is_within(self, other: Ids) -> bool:
        """Whether `other` has all members."""
        self._settle()
        runs = zip(self._starts, self._ends, strict=True)
        return all(other.density(start, end) == 1 for start, end in runs)

    def common(self, other: Ids) -> int:
        """How many members are in `other`, too."""
        self._settle()
        runs = zip(self._starts, self._ends, strict=True)
        return sum(other._up_to(end) - other._up_to(start - 1) for start, end in runs)

    def density(self, low: int, high: int) -> float:
        """Which share of the integers from `low` to `high` is in the set."""
        return (self._up_to(high) - self._up_to(low - 1)) / (high - low + 1)

    def _up_to(self, value: int) -> int:
        """How many members are not greater than `value`."""
        self._settle()
        run = bisect_right(self._starts, value) - 1
        if run < 0:
            return 0
        return self._before[run] + min(self._ends[run], value) - self._starts[run] + 1

    def _settle(self) -> None:
        """Put the runs in order, join those that touch, and count what stands before each."""
        if self._settled:
            return
        runs: Iterable[tuple[int, int]] = zip(self._starts, self._ends, strict=True)
        if any(map(gt, self._starts, itertools.islice(self._starts, 1, None))):
            runs = sorted(runs)
        starts, ends, before = array("q"), array("q"), array("q")
        count = 0
        for start, end in runs:
            if ends and start <= ends[-1] + 1:
                count += max(0, end - ends[-1])
                ends[-1] = max(ends[-1], end)
            else:
                starts.append(start)
                ends.append(end)
                before.append(count)
                count += end - start + 1
        self._starts, self._ends, self._before = starts, ends, before
        self._settled = True


class Hashes:
    """A set of hashes."""

    def __init__(self) -> None:
        self._parts: dict[int, array[int]] = defaultdict(partial(array, "q"))
        """Sorted one by one, because Python takes five times the room to sort."""
        self._settled = True

    def add(self, value: int) -> None:
        self._parts[value & 0xFF].append(value)
        self._settled = False

    def __len__(self) -> int:
        self._settle()
        return sum(map(len, self._parts.values()))

    def __contains__(self, value: int) -> bool:
        self._settle()
        part = self._parts.get(value & 0xFF, ())
        place = bisect_left(part, value)
        return place < len(part) and part[place] == value

    @property
    def lowest(self) -> int:
        """Hashes tell no more than that."""
        return NULL

    @property
    def highest(self) -> int:
        return ~NULL

    def has_all(self, values: Sequence[int]) -> bool:
        return all(map(self.__contains__, values))

    def __iter__(self) -> Iterator[int]:
        self._settle()
        return itertools.chain.from_iterable(self._parts.values())

    def _settle(self) -> None:
        if not self._settled:
            for number, part in self._parts.items():
                self._parts[number] = array("q", sorted(set(part)))
            self._settled = True


class Column:
    """One field of a model: what kinds of values it holds, and the values as codes."""

    __slots__ = (
        "codes",
        "count",
        "depth",
        "free",
        "ints",
        "lists",
        "nulls",
        "others",
        "room",
        "sample",
        "texts",
        "times",
        "words",
    )

    def __init__(self, room: Room, depth: int = MAX_KEY_DEPTH) -> None:
        self.room = room
        self.depth = depth
        """How many lists in one another are looked into."""
        self.count = 0
        """Records that have the field."""
        self.nulls = 0
        self.ints = 0
        self.texts = 0
        self.others = 0
        """Booleans, fractions, objects, lists that are too deep, integers of more than 64 bits."""
        self.free = 0
        """Texts that are prose."""
        self.times = 0
        """Texts that are dates or times."""
        self.words = 0
        self.sample: str | None = None
        """One of the texts."""
        self.codes = array("q")
        self.lists: Lists | None = None

    def add(self, value: Any) -> None:
        self.count += 1
        kind = type(value)
        code = NULL
        if value is None:
            self.nulls += 1
        elif kind is str:
            code = self._add_text(value)
        elif kind is int and -(1 << 62) < value < 1 << 62:
            self.ints += 1
            code = value
        elif kind is list and self.depth:
            if self.lists is None:
                self.lists = Lists(len(self.codes), self.room, self.depth - 1)
            self.lists.add(value)
        else:
            self.others += 1
        if len(self.codes) < self.room.each:
            self.codes.append(code)
            if self.lists is not None:
                self.lists.keep_pace(len(self.codes))

    def _add_text(self, value: str) -> int:
        self.texts += 1
        if len(value) > MAX_KEY_TEXT or "\n" in value:
            self.free += 1
            return hash(value)
        if self.sample is None and value:
            self.sample = value
        self.words += value.count(" ") + 1
        if value[4:5] == "-" and value[7:8] == "-" and value[:4].isdecimal():
            self.times += 1
            return hash(normal_time(value))
        return hash(value)

    @property
    def kind(self) -> type | None:
        """`int`, `str` or `list` where all values that are not null are of it; else `None`."""
        lists = 0 if self.lists is None else self.lists.count
        counts = {int: self.ints, str: self.texts, list: lists}
        held = [kind for kind, count in counts.items() if count]
        return held[0] if len(held) == 1 and not self.others else None

    @property
    def kind_of_ids(self) -> type | None:
        """`int` or `str` where all values are of it, but for nulls and natural keys."""
        with_keys = self.lists is not None and self.lists.key.looks_like_keys
        if self.others or (self.lists is not None and not with_keys) or (self.ints and self.texts):
            return None
        return int if self.ints else str if self.texts else None

    @property
    def is_capped(self) -> bool:
        return self.count > self.room.each

    @property
    def is_plain_text(self) -> bool:
        """Whether it holds short texts that are no dates."""
        return self.kind is str and not self.free and not self.times

    @property
    def all(self) -> Iterator[Column]:
        """Itself, and the columns in its lists."""
        yield self
        if self.lists is not None:
            key, keys = self.lists.key.columns or (), self.lists.keys.columns or ()
            for column in (self.lists.elements, *key, *keys):
                yield from column.all

    def distinct(self) -> array[int]:
        """The codes of the different values kept that are not null, in order."""
        return array("q", sorted({*self.codes} - {NULL}))


class Lists:
    """The lists that a field holds: as ids of many, as one natural key, or as many of them."""

    __slots__ = ("count", "elements", "empty", "key", "keys")

    def __init__(self, behind: int, room: Room, depth: int) -> None:
        self.count = 0
        self.empty = 0
        self.elements = Column(room, depth)
        """What the lists hold, list by list, where those are no lists themselves."""
        self.key = Parts(behind, room, depth)
        """The parts where each list is one natural key."""
        self.keys = Parts(0, room, depth)
        """The parts where each list holds natural keys."""

    def add(self, value: list[Any]) -> None:
        self.count += 1
        self.empty += not value
        nested = False
        for element in value:
            if type(element) is list:
                nested = True
                self.keys.add(element)
            else:
                self.elements.add(element)
        if value and not nested:
            self.key.add(value)

    def keep_pace(self, length: int) -> None:
        """Note that a record without a list went by."""
        self.key.keep_pace(length)


class Parts:
    """Natural keys of one length, as one column for each part."""

    __slots__ = ("_depth", "_room", "columns", "count", "uneven")

    def __init__(self, behind: int, room: Room, depth: int) -> None:
        self._room = room
        self._depth = depth
        self.count = behind
        """Records, those without a key included."""
        self.uneven = False
        self.columns: list[Column] | None = None

    def add(self, key: list[Any]) -> None:
        if self.uneven or len(key) > MAX_KEY_PARTS:
            self.uneven = True
            return
        if self.columns is None:
            self.columns = [Column(self._room, self._depth) for _ in key]
            for column in self.columns:
                column.codes.extend(itertools.repeat(NULL, min(self.count, self._room.each)))
        if len(key) != len(self.columns):
            self.uneven = True
            return
        self.count += 1
        for column, part in zip(self.columns, key, strict=True):
            column.add(part)

    def keep_pace(self, length: int) -> None:
        if self.count < length:
            self.count += 1
            for column in self.columns or ():
                column.codes.append(NULL)

    @property
    def looks_like_keys(self) -> bool:
        """Whether there are any, all of one length, with a text in them and no structure."""
        if self.uneven or not self.columns:
            return False
        plain = all(not column.others and column.lists is None for column in self.columns)
        return plain and any(column.texts for column in self.columns)

    def distinct(self) -> set[tuple[int, ...]]:
        """The different keys, as codes."""
        rows = set(zip(*(column.codes for column in self.columns or ()), strict=False))
        return {row for row in rows if any(code != NULL for code in row)}


class ModelSurvey:
    """What the records of one model hold."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.records = 0
        self.without_pk = 0
        self.with_natural_key = 0
        self.int_pks = Ids()
        self.text_pks = Hashes()
        self.text_pk: str | None = None
        """One of the pks that are texts."""
        self.columns: dict[str, Column] = {}
        self.natural_key = Column(room)

    def add(self, record: Members) -> None:
        self.records += 1
        pk = record.pk
        if pk is None:
            self.without_pk += 1
        elif type(pk) is int and -(1 << 62) < pk < 1 << 62:
            self.int_pks.add(pk)
        elif type(pk) is str:
            self.text_pk = pk
            self.text_pks.add(hash(pk))
        if record.natural_key is not None:
            self.with_natural_key += 1
            self.natural_key.add(record.natural_key)
        for name, value in record.fields.items():
            column = self.columns.get(name)
            if column is None:
                column = self.columns[name] = Column(self._room)
            column.add(value)

    @property
    def kept(self) -> int:
        """The first so many records are those whose values are kept."""
        return min(self.records, self._room.each)

    @property
    def is_keyed(self) -> bool:
        """Whether a record shows that the model has a natural key."""
        return bool(self.without_pk or self.with_natural_key)

    def pks(self, kind: type) -> Ids | Hashes | None:
        """The pks of a kind, where the model has any."""
        return (self.int_pks if kind is int else self.text_pks) or None

    def always(self, name: str) -> bool:
        """Whether every record has the field, and never as null."""
        column = self.columns.get(name)
        return column is not None and column.count == self.records and not column.nulls

    def is_unique(self, names: Sequence[str]) -> bool:
        """Whether these fields together differ in all records kept. Each must be in all."""
        columns = [self.columns[name].codes for name in names]
        return unique(columns)


class Survey:
    """What all records of some backups hold."""

    def __init__(self) -> None:
        self._room = Room()
        self.models: dict[str, ModelSurvey] = {}
        self.records = 0
        self._fields = 0
        """Of all models."""
        self.damage: list[str] = []
        """A sentence for each damaged backup."""
        self.read_as: list[str] = []
        """What they are packed in and how they are encoded, where they are not plain files."""

    @property
    def notes(self) -> list[str]:
        return [*self.read_as, *self.damage]

    def add(self, backup: Backup, **options: Any) -> None:
        """Take a backup in; the options are those of `Source`, and with `salvage` a note says what
        is lost. Raises `BackupSyntaxError` and `SourceError`."""
        with Source(backup, **options) as source:
            name = source.name or "the backup"
            for record in _records(source, options.get("progress")):
                self._add(record, source)
            self.read_as += source.notes
            if source.damage is not None:
                self.damage.append(f"{name} is damaged: {source.damage.described()}")

    def _add(self, record: Members, source: Source) -> None:
        if len(record.fields) > MAX_FIELDS or self._fields > MAX_FIELDS:
            raise too_many_fields(Place(source.name, None, self.records + 1, record.model))
        model = self._model(plain_label(record.model), source)
        before = len(model.columns)
        model.add(record)
        self._fields += len(model.columns) - before
        self.records += 1
        if self.records % ROOM_CHECKED_EVERY == 0:
            self._room.make(self._columns())

    def _columns(self) -> Iterator[Column]:
        for model in self.models.values():
            for column in (model.natural_key, *model.columns.values()):
                yield from column.all

    def _model(self, label: str, source: Source) -> ModelSurvey:
        model = self.models.get(label)
        if model is None:
            if len(self.models) == MAX_MODELS:
                raise too_many_models(Place(source.name))
            model = self.models[label] = ModelSurvey(self._room)
        return model


def survey(*backups: Backup, encoding: str | None = None, **options: Any) -> Survey:
    """What the records of these backups hold; the options are those of `Source`, the encoding is
    that of the first. Raises as `Survey.add` does."""
    whole = Survey()
    for number, backup in enumerate(backups):
        whole.add(backup, encoding=None if number else encoding, **options)
    return whole


def _records(source: Source, progress: Progress | None) -> Iterator[Members]:
    for number, text in enumerate(split_records(source, progress=progress), start=1):
        try:
            yield members_of(text, Place(source.name, None, number))
        except BackupSyntaxError as error:
            raise source.explained(error) from None


def holder(column: Column) -> Column | None:
    """What of a column may hold ids, itself or the elements of its lists, if anything may."""
    held = column
    if column.lists is not None and column.kind is list:
        held = column.lists.elements
        if column.lists.keys.count:
            return None
    return None if held.kind_of_ids is None or held.free or held.times else held


def unique(columns: Sequence[Sequence[int]]) -> bool:
    """Whether no two rows of these columns are equal."""
    seen: set[tuple[int, ...]] = set()
    rows = 0
    for row in zip(*columns, strict=False):
        rows += 1
        seen.add(row)
        # Early looks spare the rest of columns that repeat themselves.
        if rows % 1_000 == 0 and len(seen) < rows:
            return False
    return len(seen) == rows


def contained(codes: Sequence[int], ids: Ids | Hashes, most: int) -> float:
    """Which share of `codes` is in `ids`; of very many only `most`, evenly spread, are tried."""
    if not codes:
        return 0.0
    tried = spread(codes, most)
    return sum(code in ids for code in tried) / len(tried)


def spread(codes: Sequence[int], most: int) -> Sequence[int]:
    """Not many more than `most` of them."""
    return codes[:: max(1, len(codes) // most)]


def joined(first: array[int], second: array[int]) -> float:
    """Which share of the sorted codes `first` is among the sorted codes `second`."""
    if not first:
        return 0.0
    found = 0
    for code in first:
        place = bisect_left(second, code)
        found += place < len(second) and second[place] == code
    return found / len(first)


def is_random(text: str) -> bool:
    """Whether a text is a UUID, a hash or the like, or ends in one, as `person/6ba7b810-…`."""
    digits = text.replace("-", "").lower()
    return len(digits) - len(digits.rstrip(HEX_DIGITS)) >= RANDOM_DIGITS


def normal_time(text: str) -> str:
    """A time as `datetime.isoformat()` spells it, from that or from what Django dumps."""
    if text.endswith("Z"):
        text = text[:-1] + "+00:00"
    head, point, rest = text.partition(".")
    if not point:
        return text
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    fraction = digits.ljust(6, "0")
    return head + ("" if set(fraction) == {"0"} else f".{fraction}") + rest[len(digits) :]
