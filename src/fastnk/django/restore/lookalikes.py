"""Which existing rows are like the records that only their content can tell."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict, deque
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from fastnk.django.restore.batches import only_row
from fastnk.django.restore.directory import Directory
from fastnk.django.restore.pending import WithIds
from fastnk.django.restore.plan import PkKind, Plan
from fastnk.django.restore.rows import BATCH, InBackup, Missing
from fastnk.django.restore.statements import chunks
from fastnk.django.restore.uniques import unique_values
from fastnk.django.restore.values import REFUSALS, comparable, digest, in_column
from fastnk.django.restore.waiting import ByContent, ComparedColumns, Content, in_order

ATTEMPTS = 100
"""How many rows are tried for a record of a circle; more are only there of rows all alike."""


class LookAlikes:
    """The existing rows that are like records, by content and by the firm part of it."""

    def __init__(self, directory: Directory, entries: Iterable[ByContent]) -> None:
        """Reads the rows of the models concerned, each model once per `ComparedColumns`."""
        self._directory = directory
        self._entries = {entry.row: entry for entry in entries}
        self._pks: dict[Content, OrderedDict[Any, None]] = defaultdict(OrderedDict)
        self._alike_in_part: dict[tuple[ComparedColumns, bytes], dict[Any, Content]] = defaultdict(
            dict
        )
        self._own: dict[InBackup, list[tuple[Any, ...] | None]] = {}
        """By record: the `unique_values` of the row with its pk."""
        by_columns: dict[ComparedColumns, list[ByContent]] = defaultdict(list)
        for entry in self._entries.values():
            by_columns[entry.compared].append(entry)
        for compared, its in by_columns.items():
            self._read(compared, its)

    def is_like(self, pk: Any, content: Content) -> bool:
        """Whether the row with `pk` is like `content`."""
        return pk in self._pks.get(content, ())

    def is_own(self, entry: ByContent) -> bool:
        """Whether the row with a record's pk has the same as the record in columns, alone or
        together, that are unique."""
        return any(map(_is_same, entry.uniques(), self._own.get(entry.row, ())))

    def may_be_own(self, entry: ByContent) -> bool:
        """Whether that may turn out once all is known that the record needs."""
        return any(map(_may_be_same, entry.uniques(), self._own.get(entry.row, ())))

    def of(self, content: Content, claims: Container[Any]) -> Iterator[Any]:
        """The pks of the rows that are like `content`, but for those in `claims`.

        What was given comes last the next time, so that of thousands that are all alike none is
        passed over again and again.
        """
        pks = self._pks.get(content, OrderedDict())
        for _ in range(len(pks)):
            pk = next(iter(pks))
            if pk in claims:
                del pks[pk]
            else:
                pks.move_to_end(pk)
                yield pk

    def of_part(self, entry: ByContent) -> Mapping[Any, Content]:
        """The rows that are like a record but for the pks that it holds of others."""
        return self._alike_in_part[entry.compared, entry.firm]

    def is_for_another(self, row: InBackup, pk: Any, content: Content) -> bool:
        """Whether the row with `pk` is, or may be, that of the record that had this very pk."""
        number = row.rows.number_of_old_pk(pk)
        other = None if number is None else self._entries.get(InBackup(row.rows, number))
        if other is None or other.row == row or (other.compared, other.firm) != content[:2]:
            return False
        its = other.content()
        return its == content or its.has(Missing.MATCH)

    def circle(self, entry: ByContent, claims: Mapping[str, Any]) -> dict[InBackup, Any] | None:
        """The rows of a record and of all that it needs; `None` where there are none.

        Records that need each other can only be told together: it is supposed that the first one is
        this or that row, that settles which rows the others must be, and then they are compared.
        `claims` holds, by model, the pks that are out of the question.
        """
        own = entry.row.rows.old_pk_of(entry.row.number)
        alike, claimed = self.of_part(entry), claims[entry.compared.label]
        others = (pk for pk in alike if pk != own)
        free = (pk for pk in chain([own] if own in alike else [], others) if pk not in claimed)
        for pk in islice(free, ATTEMPTS):
            supposed = self._suppose(entry, pk, claims)
            if supposed is not None and self._is_right(supposed):
                return supposed
        return None

    def _read(self, compared: ComparedColumns, entries: list[ByContent]) -> None:
        plan = self._directory.plans[compared.label]
        existing = self._directory.existing(plan)
        for chunk in chunks(self._alike(plan, compared, entries), BATCH):
            pks = [pk for pk, _, _ in chunk]
            links = [existing.links(plan.many[name], pks) for name in compared.many]
            for pk, firm, soft in chunk:
                many = tuple(in_order(link[comparable(pk)]) for link in links)
                content = Content(compared, firm, soft, many)
                self._pks[content][pk] = None
                self._alike_in_part[compared, firm][pk] = content

    def _alike(
        self, plan: Plan, compared: ComparedColumns, entries: list[ByContent]
    ) -> Iterator[tuple[Any, bytes, tuple[Any, ...]]]:
        """The existing rows that are like records in the firm columns: pk, digest, soft columns.
        On the way it is noted what those with the pks of records have in unique columns."""
        names = (*compared.firm, *compared.soft)
        fields = [plan.columns[name].field for name in names]
        split = len(compared.firm)
        wanted = {entry.firm for entry in entries}
        told = {
            entry.row.rows.old_pk_of(entry.row.number): entry
            for entry in entries
            if entry.has_uniques
        }
        rows = self._directory.existing(plan).all([field.attname for field in fields])
        for pk, *values in rows:
            held = tuple(map(in_column, fields[:split], values[:split]))
            soft = tuple(map(comparable, values[split:]))
            if pk in told:
                its = dict(zip(names, (*held, *soft), strict=True))
                row = only_row(told[pk].row, dict(zip(names, values, strict=True)))
                self._own[told[pk].row] = unique_values(row, its)
            if (firm := digest(held)) in wanted:
                yield pk, firm, soft

    def _suppose(
        self, first: ByContent, pk: Any, claims: Mapping[str, Any]
    ) -> dict[InBackup, Any] | None:
        """Which rows records must be if the first is the row with `pk`; `None` if it cannot be."""
        supposed = {first.row: pk}
        taken = {(first.compared.label, pk)}
        open_entries = deque([first])
        while open_entries:
            entry = open_entries.popleft()
            content = self.of_part(entry).get(supposed[entry.row])
            if content is None:
                return None
            for row, its_pk in self._with_owners(self._implied(entry, content, supposed)):
                known = supposed.get(row, row.pk)
                if known is Missing.MATCH:
                    its = (row.rows.plan.label, its_pk)
                    if its in taken or its_pk in claims[its[0]] or not self._may_be(row, its_pk):
                        return None
                    supposed[row] = its_pk
                    taken.add(its)
                    if row in self._entries:
                        open_entries.append(self._entries[row])
                elif known != its_pk:
                    return None
        return supposed

    def _with_owners(
        self, implied: Iterator[tuple[InBackup, Any]]
    ) -> Iterator[tuple[InBackup, Any]]:
        """The same, each followed by the rows whose pk its own is."""
        for row, pk in implied:
            owner: Any = row
            while isinstance(owner, InBackup):
                yield owner, pk
                owner = self._directory.pk_relation(owner) if self._is_owned(owner) else None

    def _may_be(self, row: InBackup, pk: Any) -> bool:
        """Whether a record may be the existing row with `pk`, as far as is known without others."""
        return row in self._entries or (
            self._is_owned(row) and pk in self._directory.existing(row.rows.plan).pks
        )

    def _is_owned(self, row: InBackup) -> bool:
        """Whether nothing tells which row a record is but another whose pk it has."""
        return row.rows.plan.pk_kind is PkKind.RELATION and row not in self._entries

    def _implied(
        self, entry: ByContent, content: Content, supposed: Mapping[InBackup, Any]
    ) -> Iterator[tuple[InBackup, Any]]:
        """Which rows the records that `entry` needs must be, if its own is one like `content`.

        For what a many-to-many field or a value with ids inside holds that is a guess: best that
        pks have not changed.
        """
        guessed = list(zip(entry.many, content.many, strict=True))
        for part, held in zip(entry.soft, content.soft, strict=True):
            if isinstance(part, WithIds):
                guessed.append(([one.held for one in part.pks], _scalars(held)))
            elif isinstance(part.row, InBackup):
                yield part.row, _pk(part.row, held)
        for parts, pks in guessed:
            rows = [part.row for part in parts]
            known = {supposed.get(row, row.pk) for row in rows if isinstance(row, InBackup)}
            left = dict.fromkeys(pk for pk in pks if pk not in known)
            for part in parts:
                for row in part.awaited:
                    if row in supposed or row not in self._entries:
                        continue
                    alike = self.of_part(self._entries[row])
                    own = row.rows.old_pk_of(row.number)
                    is_own = own in left and own in alike
                    pk = own if is_own else next((pk for pk in alike if pk in left), None)
                    left.pop(pk, None)
                    yield row, pk

    def _is_right(self, supposed: Mapping[InBackup, Any]) -> bool:
        """Whether the records' contents are those of the rows that they are supposed to be."""
        for row, pk in supposed.items():
            row.rows.pks[row.number] = pk
        contents = {row: entry.content() for row in supposed if (entry := self._entries.get(row))}
        for row in supposed:
            row.rows.pks[row.number] = Missing.MATCH
        return all(self.is_like(supposed[row], content) for row, content in contents.items())


def _is_same(values: tuple[Any, ...] | None, others: tuple[Any, ...] | None) -> bool:
    return values is not None and bool(values == others)


def _may_be_same(values: tuple[Any, ...] | None, others: tuple[Any, ...] | None) -> bool:
    """Whether values are the same but for those that are not known yet."""
    return (
        values is not None
        and others is not None
        and all(
            value is Missing.MATCH or value == other
            for value, other in zip(values, others, strict=True)
        )
    )


def _pk(row: InBackup, held: Any) -> Any:
    """What a column of any type holds as a pk of the row's model; as it is if it is none."""
    try:
        return row.rows.plan.pk_value(held)
    except REFUSALS:
        return held


def _scalars(value: Any) -> tuple[Any, ...]:
    """The scalars inside a comparable value; a text among them as the JSON that it may hold too."""
    if isinstance(value, tuple):
        return tuple(scalar for item in value for scalar in _scalars(item))
    if not isinstance(value, str):
        return (value,)
    try:
        return (value, *_scalars(comparable(json.loads(value))))
    except ValueError:
        return (value,)
