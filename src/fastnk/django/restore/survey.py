"""Surveys a backup: which rows its records make, and what must be known of them."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

from fastnk.django.refusals import refusal
from fastnk.django.restore import findings as codes
from fastnk.django.restore.backup import Backup, Part, PlainRun, Record, Share
from fastnk.django.restore.directory import UNSOLVED, Directory
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.natural_keys import Key, KeyShapeError
from fastnk.django.restore.plan import ExcludedError, PkKind, Plan, UnknownModelError
from fastnk.django.restore.reading import Shape, frozen, label_of, unfrozen
from fastnk.django.restore.record_keys import SAME_PK, RecordKeys
from fastnk.django.restore.renaming import Data
from fastnk.django.restore.repeats import Repeats, hashes_of
from fastnk.django.restore.rows import BackupRows, InBackup, Missing
from fastnk.django.restore.values import REFUSALS, are_comparable, comparable, converted


class Lean(NamedTuple):
    """Records of lean rows, read together."""

    rows: BackupRows
    first: int
    """The number of the first one's row; the others follow."""
    keys: Sequence[Key | None]
    uniques: Sequence[Any]
    pks: Sequence[Any]
    """The pks that the records say, where new rows may have them."""
    records: list[Any]
    shape: Shape | None

    @property
    def told_pks(self) -> Sequence[Any]:
        """The pks that structs say, as they stand beside the fields or in a key."""
        is_in_key = self.rows.plan.own_pk_part is not None
        return self.pks if is_in_key else [record.pk for record in self.records]


MeetLean = Callable[[Lean], None]
MeetPlain = Callable[[Part, PlainRun], None]


class Survey:
    """Enters the rows of all records in the directory."""

    def __init__(
        self,
        backup: Backup,
        directory: Directory,
        findings: Findings,
        meet_lean: MeetLean,
        meet_plain: MeetPlain,
        *,
        null_keys: bool = False,
    ) -> None:
        """`meet_lean` and `meet_plain` are told of lean rows as they are met; for `null_keys` see
        `RecordKeys`."""
        self._backup = backup
        self._directory = directory
        self._findings = findings
        self._meet_lean = meet_lean
        self._meet_plain = meet_plain
        self._repeats = Repeats()
        """Of lean rows what must not occur twice: by label, keys or (`False`) pks."""
        self.keys = RecordKeys(directory, findings, self._repeats, null_keys=null_keys)
        self._kinds: dict[tuple[str, str], set[tuple[Any, bool]]] = defaultdict(set)
        """By label and object id: what names the models that generic relations lead to, and
        whether by a key."""

    def run(self, share: Share) -> None:
        """Read all records once and enter their rows and keys in the directory."""
        self._backup.survey(self._enter_run, self._enter_plain, share)
        self._directory.plans.naming.refuse_unfit_fields()
        self.keys.settle(self._backup.bodies)
        self._name_repeated()

    def lean_but_named(self) -> set[str]:
        """The labels of models with lean rows that generic relations may lead to."""
        labels = set()
        for (label, name), kinds in self._kinds.items():
            plan = self._directory.plans[label]
            for kind, is_by_key in kinds:
                with contextlib.suppress(*UNSOLVED):
                    generic = plan.generics[name]
                    rows = self._directory.rows_of(
                        self._directory.generic_target(plan, generic, unfrozen(kind))
                    )
                    if rows and rows.is_lean and (is_by_key or rows.says_pks):
                        labels.add(rows.plan.label)
        return labels

    def _enter_run(self, run: list[Any], number: int) -> list[Part]:
        """Enter a run of structs of one label, or one record; `number` is that of the first."""
        label = label_of(number, run[0])
        try:
            plan = self._directory.plans.of_records(label)
        except UnknownModelError as error:
            self._note_unknown(run, number, label, error)
            return []
        rows = self._directory.rows_of(plan)
        part = Part(rows, len(rows), len(run))
        if not self._directory.is_in_fastnk_style:
            self._directory.is_in_fastnk_style = any(map(is_in_fastnk_style, run))
        if rows.is_lean:
            rows.says_pks = rows.says_pks or any(map(says_pk, run))
            self._note_kinds(plan, run)
            self._meet_lean(self._entered(rows, number, run))
        else:
            for at, record in enumerate(run):
                self._enter(rows, number + at, self._backup.data(record))
        return [part]

    def _enter_plain(self, one: PlainRun, number: int) -> Part:
        rows = self._directory.rows_of(self._directory.plans[one.label])
        part = Part(rows, len(rows), one.length)
        self._directory.is_in_fastnk_style |= one.is_in_fastnk_style
        rows.says_pks |= one.says_pks
        for name, kinds in one.kinds.items():
            self._kinds[one.label, name] |= kinds
        rows.enter_many(number, one.length)
        self._repeats.add((one.label, True), one.keys)
        self._repeats.add((one.label, False), one.pks)
        self._meet_plain(part, one)
        return part

    def _note_unknown(self, run: list[Any], first: int, label: str, why: UnknownModelError) -> None:
        if isinstance(why, ExcludedError):
            self._findings.excluded[str(why)] += len(run)
            return
        if self._findings.leaves_out(label, len(run)):
            return
        what = f'no model "{label}" to restore into: {why}'
        for number, record in enumerate(run, start=first):
            pk = self._backup.data(record).get("pk")
            self._findings.add(codes.UNKNOWN_MODEL, what, record=number, model=label, pk=pk)

    def _note_kinds(self, plan: Plan, run: list[Any]) -> None:
        shape = self._backup.shape_of(run[0])
        for name, generic in plan.generics.items():
            if shape is not None and name in shape.generics:
                self._kinds[plan.label, name] |= kinds_in(shape.pairs(run, generic))
            else:
                for one in run:
                    self._note_kind(plan, name, self._backup.data(one)["fields"])

    def _note_kind(self, plan: Plan, name: str, fields: dict[str, Any]) -> None:
        kind, value = fields.get(plan.generics[name].kind), fields.get(name)
        if kind is not None and value is not None:
            self._kinds[plan.label, name].add((frozen(kind), isinstance(value, list)))

    def _enter(self, rows: BackupRows, number: int, data: Data) -> None:
        record = Record(InBackup(rows, len(rows)), data)
        for name in rows.plan.generics:
            self._note_kind(rows.plan, name, record.fields)
        rows.enter_many(number, 1)
        rows.keys.append(None)
        rows.uniques.append(self._unique(record))
        for name, values in rows.values.items():
            value = record.raw(name)
            values.append(Missing.VALUE if value is None and name not in record.fields else value)
        self.keys.enter(record)
        self._enter_pk(record)

    def _entered(self, rows: BackupRows, number: int, run: list[Any]) -> Lean:
        """Enter lean rows: nobody will ask for their keys later, so they are not kept."""
        first, plan = len(rows), rows.plan
        rows.enter_many(number, len(run))
        shape = self._backup.shape_of(run[0])
        # Each is looked into singly, which takes long, only where all together do not tell.
        whole = cache(partial(self._whole, rows, first, run))
        keys = lean_keys(plan, run) if shape else None
        if keys is None:
            keys = list(map(self.keys.key, whole()))
        uniques: Sequence[Any] = ()
        if plan.unique:
            uniques = _lean_uniques(plan, run, shape) if shape else ()
            uniques = uniques or list(map(self._unique, whole()))
        self._repeats.add((plan.label, True), hashes_of(keys))
        pks: Sequence[Any] = ()
        if rows.keeps_pks:
            told = lean_pks(run, shape, keys) if shape else None
            pks = told or list(map(self._old_pk, whole(), keys))
            self._repeats.add((plan.label, False), hashes_of(pks))
        return Lean(rows, first, keys, uniques, pks, run, shape)

    def _whole(self, rows: BackupRows, first: int, run: list[Any]) -> list[Record]:
        """The records of rows that follow each other, to look into."""
        return [
            Record(InBackup(rows, at), self._backup.data(record))
            for at, record in enumerate(run, start=first)
        ]

    def _name_repeated(self) -> None:
        """Note the lean records that have a key or pk in common; they are looked for again."""
        if not self._repeats.settle():
            return
        for number, record in self._lean_records():
            label, rows = record.plan.label, record.row.rows
            key = rows.late_keys.get(record.row.number) or self.keys.key(record)
            for value, is_key in ((key, True), (self._old_pk(record, key), False)):
                first = self._repeats.earlier((label, is_key), value, number)
                if first is not None:
                    self.keys.note_same(record.row, first[0], key if is_key else None)

    def _lean_records(self) -> Iterator[tuple[int, Record]]:
        """All records of lean rows, with their numbers."""
        seen: Counter[str] = Counter()
        for number, one in self._backup.singly():
            plan = self._backup.known_plan(label_of(number, one))
            if plan is not None and self._directory.rows_of(plan).is_lean:
                row = InBackup(self._directory.rows_of(plan), seen[plan.label])
                seen[plan.label] += 1
                yield number, Record(row, self._backup.data(one))

    def _unique(self, record: Record) -> Any:
        name = record.plan.unique
        value = record.fields.get(name) if name else None
        if name is None or value is None:
            return Missing.VALUE
        try:
            return comparable(converted(record.plan.columns[name].field, value))
        except REFUSALS:
            return Missing.VALUE  # the check of the record reports it

    def _enter_pk(self, record: Record) -> None:
        rows, number = record.row
        pk = self._old_pk(record, rows.keys[number])
        rows.old_pks[number] = pk
        told = record.data.get("pk")
        if pk is not None:
            first = rows.by_old_pk.setdefault(pk, number)
        elif isinstance(told, str | int):
            first = rows.by_odd_pk.setdefault(str(told), number)
        else:
            return
        if first != number:
            other = rows.record_numbers[first]
            record.note(self._findings, codes.SAME_ROW, SAME_PK, other_record=other)

    def _old_pk(self, record: Record, key: Key | None) -> Any:
        """The comparable pk in the backup: beside the fields, among them, or in the key."""
        plan, value = record.plan, record.data.get("pk")
        if type(value) is int and plan.pk_kind is PkKind.AUTO:
            return value
        if value is None:
            value = record.pk
        if value is None:
            position = plan.pk_position
            return None if key is None or position is None else key[position]
        if isinstance(value, list) and plan.pk_kind is not PkKind.COMPOSITE:
            return None
        try:
            return plan.pk_value(value)
        except REFUSALS as error:
            if type(value) is plan.odd_type:
                return None  # it had another type once, and only says what refers to the row
            record.note(
                self._findings, codes.REFUSED_VALUE, refusal(error), field=plan.pk.name, value=value
            )
            return None


def lean_keys(plan: Plan, run: list[Any]) -> Sequence[Key | None] | None:
    """The natural keys of structs, if that can be told of all of them together."""
    spelled = [head.natural_key for head in run]
    if plan.key is None:
        return None if any(spelled) else [None] * len(run)
    try:
        if None in spelled:
            return None
        keys = list(plan.key.read_all(spelled))
        return None if None in itertools.chain.from_iterable(keys) else keys
    except (*REFUSALS, KeyShapeError):
        return None  # one of them; which one will be found out


def _lean_uniques(plan: Plan, run: list[Any], shape: Shape) -> Sequence[Any]:
    """What records of a shape hold in the column that identifies rows, if that is plain."""
    values = shape.column(run, plan.unique or "")
    field = plan.columns[plan.unique or ""].field
    try:
        if type(None) in map(type, values):
            return ()
        if are_comparable(field, values):
            return values
        return [comparable(converted(field, value)) for value in values]
    except REFUSALS:
        return ()


def lean_pks(run: list[Any], shape: Shape, keys: Sequence[Key | None]) -> list[Any] | None:
    """The comparable pks of structs, if all say theirs beside the fields, or in their keys."""
    plan = shape.plan
    told = [record.pk for record in run]
    kinds = set(map(type, told))
    if plan.pk_kind is PkKind.AUTO and kinds == {int}:
        return told
    if kinds == {type(None)} and plan.pk.name not in shape.names:
        position = plan.pk_position
        return told if position is None else [key and key[position] for key in keys]
    if are_comparable(plan.pk, told):
        return told
    try:
        return list(map(plan.pk_value, told)) if kinds <= {int, str} else None
    except REFUSALS:
        return None  # one of them; which one will be found out


def kinds_in(pairs: Iterable[tuple[Any, Any]]) -> set[tuple[Any, bool]]:
    """What names the models that generic references of structs lead to, and whether by a key."""
    return {
        (kind, isinstance(value, tuple))
        for kind, value in set(pairs)
        if kind is not None and value is not None
    }


def says_pk(record: Any) -> bool:
    """Whether a struct or a dictionary has a pk beside its fields."""
    return (record.get("pk") if isinstance(record, dict) else record.pk) is not None


def is_in_fastnk_style(record: Any) -> bool:
    """Whether a struct or a dictionary has what only fastnk writes."""
    if isinstance(record, dict):
        return record.get("natural_key") is not None or "references" in record
    return record.natural_key is not None or record.references is not None
