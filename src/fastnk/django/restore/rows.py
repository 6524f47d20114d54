"""The rows of one model that the backup holds, and what is known of them."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, IntEnum, auto
from typing import Any, NamedTuple

from fastnk.django.restore.natural_keys import Key
from fastnk.django.restore.plan import PkKind, Plan
from fastnk.django.restore.values import REFUSALS, comparable, converted

BATCH = 1000
"""Rows that are held and sent at once, where the database takes as many parameters."""


class Fate(IntEnum):
    """What becomes of a record's row. One byte each: those of a million rows are one `bytearray`,
    and a set of fates is `bytes`, so that they are looked through at the speed of C."""

    CREATED = auto()
    CHECKED = auto()
    """It is created, and nothing is wrong with the record."""
    RENUMBERED = auto()
    """Created under another pk than in the backup."""
    MATCHED = auto()
    """It is an existing row."""
    UNCHANGED = auto()
    """It is an existing row, and nothing in it differs."""


CREATED, CHECKED, UNCHANGED = (
    bytes([fate]) for fate in (Fate.CREATED, Fate.CHECKED, Fate.UNCHANGED)
)
EXISTING = bytes([Fate.MATCHED, Fate.UNCHANGED])
"""The fates of rows that exist."""
NEW = bytes([Fate.CREATED, Fate.CHECKED, Fate.RENUMBERED])
"""The fates of rows that do not."""
ALL = EXISTING + NEW


class Missing(Enum):
    """What stands in the place of what is not known, or not there: of a pk in the target, of a
    value, or of the one row that has a key.

    A row begins with `MATCH`. Matching puts the pk of an existing row there, or `PK` or `OWN`;
    before anything is written `PK` becomes a pk that the database gives.
    """

    PK = auto()
    """The row is new and its pk will be reserved before anything is written."""
    MATCH = auto()
    """Which row it is depends on which rows others are."""
    OWN = auto()
    """The row is new, and its pk will be the one that its record says."""
    VALUE = auto()
    """The record does not have the field."""
    UNIQUE = auto()
    """More than one row has the key."""


class NewPks(NamedTuple):
    """What is known of the pks of new rows that follow each other."""

    why: Missing
    highest: int = 0
    """Of those that `Missing.OWN` stands for, if they are numbers."""


class RecordNumbers:
    """The number of each row's record; those that follow each other take no room."""

    def __init__(self) -> None:
        self._rows, self._records = array("Q"), array("Q")
        """Where the numbers do not go on by one, and with what."""
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> int:
        at = bisect_right(self._rows, row) - 1
        return self._records[at] + row - self._rows[at]

    def extend(self, number: int, count: int) -> None:
        """Add rows for so many records that follow each other, the first with this number."""
        if not self._rows or self._records[-1] + self._length - self._rows[-1] != number:
            self._rows.append(self._length)
            self._records.append(number)
        self._length += count


class FewPks:
    """Pks of rows of which most have none that is known: it takes a byte to say why."""

    _WHY = (Missing.MATCH, Missing.PK, Missing.OWN)
    _KNOWN = len(_WHY)

    def __init__(self) -> None:
        self._why = bytearray()
        self._known: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._why)

    def __getitem__(self, number: int) -> Any:
        why = self._why[number]
        return self._known[number] if why == self._KNOWN else self._WHY[why]

    def __setitem__(self, number: int, pk: Any) -> None:
        if pk in self._WHY:
            self._why[number] = self._WHY.index(pk)
        else:
            self._why[number] = self._KNOWN
            self._known[number] = pk

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))

    def count(self, why: Missing) -> int:
        return self._why.count(self._WHY.index(why))

    def of(self, numbers: Sequence[int]) -> list[Any]:
        """Those of some rows."""
        if isinstance(numbers, range):
            whys = bytes(self._why[numbers.start : numbers.stop : numbers.step])
        else:
            whys = bytes(map(self._why.__getitem__, numbers))
        if self._KNOWN in whys:
            return list(map(self.__getitem__, numbers))
        return list(map(self._WHY.__getitem__, whys))

    def known(self) -> Iterable[Any]:
        """Those that are known."""
        return (pk for number, pk in self._known.items() if self._why[number] == self._KNOWN)

    def extend(self, why: Missing, count: int) -> None:
        """Add so many rows, and say the same of all."""
        self._why += bytes([self._WHY.index(why)]) * count

    def fill(self, first: int, why: Missing) -> None:
        """Say the same of all rows from this one on."""
        self._why[first:] = bytes([self._WHY.index(why)]) * (len(self) - first)


class BackupRows:
    """What must be known of a model's records while others are read: one entry per record."""

    def __init__(
        self,
        plan: Plan,
        kept_fields: Sequence[str] = (),
        *,
        is_lean: bool = False,
        are_first: bool = False,
        pk_range: range | None = None,
    ) -> None:
        self.plan = plan
        self.are_first = are_first
        """Whether the table is empty: then hardly more is kept of lean rows than how many there
        are."""
        self.is_lean = is_lean
        """Whether nothing refers to these rows. They are decided as they are read, and `keys`,
        `uniques`, `by_key`, `by_old_pk` and, where no pk is kept, `old_pks` stay empty."""
        self.says_pks = False
        """Of lean rows: whether the backup says the pk of any."""
        self.late_keys: dict[int, Key] = {}
        """Of lean rows: the natural keys that could only be made when all records were known."""
        self.new_pks: Iterator[Any] = iter(())
        """Of lean rows: the reserved pks, drawn when rows are written."""
        self._pk_range = pk_range
        """The numbers that the column of the pks takes, where the database gives these."""
        self.record_numbers = RecordNumbers()
        self.keys: list[Key | None] = []
        """The natural key as the backup spells it; `None` where it has none or cannot be made."""
        self.old_pks: list[Any] = []
        """The pk in the backup, comparable; `None` where the record has none."""
        self.uniques: list[Any] = []
        """The value of the column that identifies rows without natural key."""
        self.pks: list[Any] | FewPks = FewPks() if is_lean and are_first else []
        """The pk in the target, or one of `Missing`."""
        self.highest_own = 0
        """The highest of the pks for which `Missing.OWN` stands."""
        self.fates = bytearray()
        """A `Fate` for each."""
        self.by_key: dict[Key, int] = {}
        self.names: dict[Key, int | None] = {}
        """Where natural keys count as none: which row has which, as references may say it; `None`
        where several have it."""
        self.has_unnamed = False
        """Whether there are records that do not say the key by which others refer to them, and no
        method can make it."""
        self.by_old_pk: dict[Any, int] = {}
        self.by_odd_pk: dict[str, int] = {}
        """The same of those that can be no pks today, as text."""
        self._odd: set[int] = set()
        self.values: dict[str, list[Any]] = {name: [] for name in kept_fields}
        """The fields that other records look through, as they stand in the backup."""
        self._by_value: dict[str, dict[Any, int]] = {}
        self._with_keys: dict[str, bool] = {}

    def __len__(self) -> int:
        return len(self.record_numbers)

    def by_value(self, name: str) -> dict[Any, int]:
        """The rows by the comparable value of a field that others refer to."""
        rows = self._by_value.get(name)
        if rows is None:
            rows = self._by_value[name] = {}
            field = self.plan.model._meta.get_field(name)
            for number, value in enumerate(self.values[name]):
                if value is not Missing.VALUE and value is not None:
                    try:
                        rows[comparable(converted(field, value))] = number
                    except REFUSALS:
                        continue  # the check of the record itself reports it
        return rows

    def holds_keys(self, name: str) -> bool:
        """Whether a field that others refer to holds natural keys in the place of ids."""
        if name not in self._with_keys:
            self._with_keys[name] = any(isinstance(value, list) for value in self.values[name])
        return self._with_keys[name]

    def takes_pk(self, pk: Any) -> bool:
        """Whether the column takes the pk that the backup says, if no other row has it. Of one
        that a field shows as an object of its own that is not asked."""
        return self._pk_range is None or type(pk) is not int or pk in self._pk_range

    @property
    def keeps_pks(self) -> bool:
        """Whether a new row may have the pk that the backup says."""
        plan = self.plan
        return plan.pk_kind is not PkKind.AUTO or plan.key is None or plan.own_pk_part is not None

    def enter_many(self, number: int, count: int) -> None:
        """Add rows for so many records that follow each other, the first with this number."""
        self.record_numbers.extend(number, count)
        if isinstance(self.pks, FewPks):
            self.pks.extend(Missing.MATCH, count)
        else:
            self.pks += [Missing.MATCH] * count
        self.fates.extend(bytes([Fate.CREATED]) * count)
        if not self.is_lean:
            self.old_pks.extend([None] * count)

    def keep_old_pks(self, first: int, pks: Sequence[Any]) -> None:
        """Of lean rows that cannot be decided all at once."""
        self.old_pks.extend([None] * (first - len(self.old_pks)))
        self.old_pks[first:] = pks

    def create(self, first: int, new: NewPks) -> None:
        """Let the rows from this one on be new."""
        self.highest_own = max(self.highest_own, new.highest)
        if isinstance(self.pks, FewPks):
            self.pks.fill(first, new.why)
        else:
            self.pks[first:] = [new.why] * (len(self.pks) - first)

    def pks_of(self, numbers: Sequence[int]) -> list[Any]:
        """The pks of some rows in the target, or what is missing of them."""
        if isinstance(self.pks, FewPks):
            return self.pks.of(numbers)
        return list(map(self.pks.__getitem__, numbers))

    @property
    def known_pks(self) -> Iterable[Any]:
        """The pks in the target that are known by now."""
        if isinstance(self.pks, FewPks):
            return self.pks.known()
        return (pk for pk in self.pks if not isinstance(pk, Missing))

    def are_decided(self, first: int) -> bool:
        """Whether it is known of the rows from this one on which they are."""
        return Missing.MATCH not in self.pks_of(range(first, len(self)))

    def exists(self, number: int) -> bool:
        """Whether a row is one that exists."""
        return self.fates[number] in EXISTING

    def all_are(self, first: int, count: int, fates: bytes) -> bool:
        """Whether so many rows from the first one have one of these fates."""
        return not self.fates[first : first + count].translate(None, fates)

    def key_of(self, number: int) -> Key | None:
        """The natural key of a row that is not decided yet."""
        return self.late_keys.get(number) if self.is_lean else self.keys[number]

    def old_pk_of(self, number: int) -> Any:
        """The pk that the backup says, comparable, as far as it is kept."""
        return self.old_pks[number] if number < len(self.old_pks) else None

    def unique_of(self, number: int) -> Any:
        """What the column holds that identifies a row that is not decided yet."""
        return Missing.VALUE if self.is_lean else self.uniques[number]

    def number_of_old_pk(self, pk: Any) -> int | None:
        """Which row had this pk in the backup."""
        if self.is_lean and not self.by_old_pk:
            self.by_old_pk = {old: number for number, old in enumerate(self.old_pks)}
        return self.by_old_pk.get(pk)

    def has_odd_pk(self, number: int) -> bool:
        """Whether a row had a pk in the backup that cannot be one today."""
        if len(self._odd) < len(self.by_odd_pk):
            self._odd = {*self.by_odd_pk.values()}
        return number in self._odd

    @property
    def lost_pks(self) -> bool:
        """Whether the backup names rows of this model without their pks."""
        return len(self.by_old_pk) + len(self.by_odd_pk) < len(self)


class InBackup(NamedTuple):
    """A row that the backup holds."""

    rows: BackupRows
    number: int

    @property
    def pk(self) -> Any:
        return self.rows.pks[self.number]


class InDatabase(NamedTuple):
    """A row that only the database holds."""

    plan: Plan
    pk: Any
