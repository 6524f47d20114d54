"""Records that cannot be matched before the records that they need are."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from fastnk.django.restore.decisions import Decisions
from fastnk.django.restore.natural_keys import Key
from fastnk.django.restore.pending import PENDING, Pending, PkOf
from fastnk.django.restore.rows import InBackup, Missing
from fastnk.django.restore.values import comparable


class Means(NamedTuple):
    """What a record is matched by once all is known that it needs."""

    decisions: Decisions
    by_key: Callable[[InBackup, Key], None]
    by_columns: Callable[[InBackup, tuple[Any, ...]], None]
    """Is given the comparable values of the columns that together identify rows."""
    by_content: Callable[[ByContent], None]


class Waiting:
    """A record that waits. What it holds is comparable, or the pk of another record's row."""

    def __init__(self, row: InBackup, parts: Iterable[Any]) -> None:
        self.row = row
        self.needs = [row for part in parts if isinstance(part, PENDING) for row in part.awaited]

    def settle(self, means: Means) -> None:
        """Match the record; all that it needs is settled."""
        raise NotImplementedError


class ByRelation(Waiting):
    """Its pk is the pk of another row."""

    def __init__(self, row: InBackup, target: Any) -> None:
        super().__init__(row, [target])
        self._target = target

    def settle(self, means: Means) -> None:
        rows, number = self.row
        pk = now(self._target)
        if pk is Missing.PK:
            means.decisions.share_pk(self.row, self._target.row)
        elif rows.keys[number] is None or rows.plan.has_foreign_pk:
            means.decisions.match_by_pk(self.row, pk)
        else:  # no row has its key
            means.decisions.create_with_pk(self.row, pk)


class ByCompositePk(Waiting):
    """Its pk has several parts; so has its natural key where that holds pks of other rows."""

    def __init__(self, row: InBackup, pk: list[Any], key: list[Any] | None) -> None:
        super().__init__(row, [*pk, *(key or [])])
        self._pk = pk
        self._key = key

    def settle(self, means: Means) -> None:
        rows, number = self.row
        if self._key is not None:
            means.by_key(self.row, tuple(map(now, self._key)))
        pk = tuple(map(now, self._pk))
        if self.row.pk is not Missing.MATCH:
            return
        if Missing.PK in pk:
            means.decisions.create_under_new_pk(self.row)
        elif self._key is None and rows.keys[number] is None:
            means.decisions.match_by_pk(self.row, pk)
        else:  # no row has its key
            means.decisions.create_with_pk(self.row, pk)


class ByForeignPk(Waiting):
    """Its natural key holds pks of other rows."""

    def __init__(self, row: InBackup, parts: list[Any]) -> None:
        super().__init__(row, parts)
        self._parts = parts

    def settle(self, means: Means) -> None:
        means.by_key(self.row, tuple(map(now, self._parts)))
        if self.row.pk is Missing.MATCH:
            means.decisions.renumber(self.row)


class ByUniqueColumns(Waiting):
    """A relation beside its pk, or several columns together, that no other row can have identify
    it."""

    def __init__(self, row: InBackup, parts: list[Any]) -> None:
        super().__init__(row, parts)
        self._parts = parts

    @property
    def values(self) -> tuple[Any, ...]:
        """What the columns hold, as far as is known by now."""
        return tuple(map(now, self._parts))

    def settle(self, means: Means) -> None:
        means.by_columns(self.row, self.values)


class ComparedColumns(NamedTuple):
    """The columns by which a record is compared with existing rows."""

    label: str
    firm: tuple[str, ...]
    """Columns whose values are known from the start."""
    soft: tuple[str, ...]
    """Columns that hold pks of records that wait themselves."""
    many: tuple[str, ...]
    """Many-to-many fields."""

    @property
    def are_none(self) -> bool:
        return not (self.firm or self.soft or self.many)


class Content(NamedTuple):
    """What a row must be like to be that of a record."""

    compared: ComparedColumns
    firm: bytes
    """The digest of the firm columns."""
    soft: tuple[Any, ...]
    many: tuple[tuple[Any, ...], ...]

    def has(self, missing: Missing) -> bool:
        return missing in self.soft or any(missing in values for values in self.many)


class ByContent(Waiting):
    """It has nothing but a pk, and another row may have that by now."""

    def __init__(
        self,
        row: InBackup,
        compared: ComparedColumns,
        firm: bytes,
        soft: Sequence[Pending],
        many: Sequence[Sequence[PkOf]],
        uniques: Sequence[tuple[Any, ...] | None],
    ) -> None:
        super().__init__(row, [*soft, *(part for parts in many for part in parts)])
        self.compared = compared
        self.firm = firm
        self.soft = soft
        self.many = many
        self._uniques = uniques

    def settle(self, means: Means) -> None:
        means.by_content(self)

    def content(self) -> Content:
        """What the record's row must be like, as far as is known by now."""
        many = tuple(in_order(map(now, parts)) for parts in self.many)
        return Content(self.compared, self.firm, tuple(map(now, self.soft)), many)

    @property
    def has_uniques(self) -> bool:
        """Whether it holds anything that no two rows may have in common."""
        return any(self._uniques)

    def uniques(self) -> list[tuple[Any, ...] | None]:
        """The `unique_values` of the record's row, as far as is known by now."""
        return [values and tuple(map(now, values)) for values in self._uniques]


def settle_in_order(waiting: Sequence[Waiting], means: Means) -> None:
    """Settle records after those that they need, as far as there is such an order."""
    users: dict[InBackup, list[Waiting]] = defaultdict(list)
    open_needs = {}
    for entry in waiting:
        needs = [row for row in entry.needs if row.pk is Missing.MATCH]
        open_needs[entry.row] = len(needs)
        for row in needs:
            users[row].append(entry)
    ready = deque(entry for entry in waiting if not open_needs[entry.row])
    while ready:
        entry = ready.popleft()
        entry.settle(means)
        for user in users[entry.row]:
            open_needs[user.row] -= 1
            if not open_needs[user.row]:
                ready.append(user)


def undecided(waiting: list[Waiting]) -> list[Waiting]:
    """Those of which it is not known yet which rows they are."""
    return [entry for entry in waiting if entry.row.pk is Missing.MATCH]


def circles(left: list[Waiting]) -> list[ByContent]:
    """The records without keys that need each other; if they can be told, those alone that need
    nothing else that is not decided."""
    contents = [entry for entry in left if isinstance(entry, ByContent)]
    others = {entry.row for entry in left if not isinstance(entry, ByContent)}
    return independent(contents, others) or contents


def independent(entries: list[ByContent], rows: set[InBackup]) -> list[ByContent]:
    """The entries that are none of the rows and need none of them, nor what does."""
    users: dict[InBackup, list[InBackup]] = defaultdict(list)
    for entry in entries:
        for row in entry.needs:
            users[row].append(entry.row)
    blocked = set(rows)
    open_rows = deque(rows)
    while open_rows:
        new = set(users[open_rows.popleft()]) - blocked
        blocked |= new
        open_rows.extend(new)
    return [entry for entry in entries if entry.row not in blocked]


def now(part: Any) -> Any:
    """A part of a key or a content, comparable or one of `Missing`, as far as is known."""
    if not isinstance(part, PENDING):
        return part
    value = part.value
    return value if isinstance(value, Missing) else comparable(value)


def in_order(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted(values, key=repr))
