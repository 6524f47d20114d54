"""Reads the records of a backup, as often as the loader must, and surveys them first."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from fastnk.django.refusals import refusal
from fastnk.django.restore import findings as codes
from fastnk.django.restore.directory import UNSOLVED, DanglingError, Directory
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.natural_keys import CalledKey, Key, KeyForm, KeyPart, KeyShapeError, Path
from fastnk.django.restore.plan import PkKind, Plan, Reference, UnknownModelError
from fastnk.django.restore.reading import (
    Chunks,
    Reader,
    Runs,
    Shape,
    frozen,
    label_of,
    unfrozen,
    with_references,
)
from fastnk.django.restore.renaming import Data
from fastnk.django.restore.repeats import Repeats
from fastnk.django.restore.rows import BackupRows, InBackup, Missing
from fastnk.django.restore.unsaid import KeyMaker
from fastnk.django.restore.values import REFUSALS, are_comparable, comparable, converted, digest
from fastnk.django.unmade import RefusalError
from fastnk.errors import SourceError


class Record(NamedTuple):
    """One record of a model that the target has."""

    row: InBackup
    data: dict[str, Any]

    @property
    def plan(self) -> Plan:
        return self.row.rows.plan

    @property
    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = self.data["fields"]
        return fields

    @property
    def pk(self) -> Any:
        """The pk as the backup has it, wherever that is; for a relation perhaps a key."""
        among_fields = self.fields.get(self.plan.pk.name)
        return self.data.get("pk") if among_fields is None else among_fields

    def raw(self, name: str) -> Any:
        """The value of a field as it stands in the backup; `None` where there is none."""
        return self.pk if name == self.plan.pk.name else self.fields.get(name)

    @property
    def number(self) -> int:
        """Its place in the backup, from 1."""
        return self.row.rows.record_numbers[self.row.number]

    def note(self, findings: Findings, code: str, what: str, **rest: Any) -> None:
        """Add a finding about this record."""
        pk = self.data.get("pk")
        findings.add(code, what, record=self.number, model=self.plan.label, pk=pk, **rest)


class Hop(NamedTuple):
    """A key part that can only be told once all records are known."""

    reference: Reference
    value: Any
    path: Path


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


MeetLean = Callable[[Lean], None]

Done = Callable[[BackupRows], bytes]
"""The fates of rows that a pass has nothing to do with, of each model."""


class Part(NamedTuple):
    """Rows that follow each other, of records that do."""

    rows: BackupRows
    first: int
    length: int


class Met(NamedTuple):
    """What the survey met in a chunk."""

    records: int
    parts: list[Part]
    """Without the records of unknown models."""

    def are(self, done: Done) -> bool:
        """Whether all rows are done with."""
        return all(
            part.rows.all_are(part.first, part.length, done(part.rows)) for part in self.parts
        )


class Run(NamedTuple):
    """Records that follow each other and have the same shape, or none."""

    rows: BackupRows
    first: int
    """The number of the first one's row; the others follow."""
    records: list[Any]
    """Structs of the shape; without one, dictionaries."""
    shape: Shape | None


class Backup:
    """The records of a backup."""

    def __init__(
        self,
        chunks: Chunks,
        directory: Directory,
        findings: Findings,
        connection: Any,
        *,
        null_keys: bool = False,
        left_out: Collection[int] = (),
        count_rows: Callable[[int], None] = lambda count: None,
    ) -> None:
        """With `null_keys` a natural key with a null in it is one all the same. `left_out` are the
        numbers of records that count as not there. `count_rows` is told how many records are done
        with, chunk by chunk."""
        self._count_rows = count_rows
        self._null_keys = null_keys
        self._left_out = left_out
        self._reader = Reader(chunks, directory.plans, connection)
        self._directory = directory
        self._findings = findings
        self._deferred: list[tuple[InBackup, list[Any]]] = []
        self._unsaid: dict[CalledKey, list[InBackup]] = {}
        """Rows whose keys methods make and records do not say."""
        self._met: list[Met] = []
        """Chunk by chunk."""
        self.weak: dict[str, str] = {}
        """Of models whose natural keys turned out not to tell their records apart: why."""
        self._kinds: dict[tuple[str, str], set[tuple[Any, bool]]] = defaultdict(set)
        """By label and object id: what names the models that generic relations lead to, and
        whether by a key."""
        self._spelled: dict[tuple[str, bytes], int] = {}
        """By label and digest: the first record of keys that only the target will tell."""
        self._repeats = Repeats()
        """Of lean rows what must not occur twice: by label, keys or (`False`) pks."""

    def survey(self, meet_lean: MeetLean) -> None:
        """Read all records once and enter their rows and keys in the directory."""
        number = 1
        for runs in self._reader.heads(self._directory.needed):
            first, parts = number, []
            for run in runs:
                together = isinstance(run[0], msgspec.Struct)
                for one, some in self._stretches(run, number, together=together):
                    parts += self._survey(some, one, meet_lean)
                number += len(run)
            self._met.append(Met(number - first, parts))
            self._count_rows(number - first)
        self._directory.plans.naming.refuse_unfit_fields()
        self._call_unsaid()
        self._compose_deferred()
        self._name_repeated()

    def lean_but_named(self) -> set[str]:
        """The labels of models with lean rows that generic relations may lead to."""
        labels = set()
        for (label, name), kinds in self._kinds.items():
            plan = self._directory.plans[label]
            for kind, is_by_key in kinds:
                with contextlib.suppress(*UNSOLVED):
                    generic = plan.generics[name]
                    rows = self._directory.backup(
                        self._directory.generic_target(plan, generic, unfrozen(kind))
                    )
                    if rows and rows.is_lean and (is_by_key or rows.says_pks):
                        labels.add(rows.plan.label)
        return labels

    def runs(self, phase: str, done: Done) -> Iterator[Run]:
        """The records as they come, with their rows; without the chunks all of whose rows are
        `done`, and only as far as there are others. Raises `SourceError` if the records changed."""
        wanted = [not met.are(done) for met in self._met]
        while wanted and not wanted[-1]:
            wanted.pop()
        chunks = self._reader.records(phase, wanted)
        seen: Counter[str] = Counter()
        number = 1
        for is_wanted, met in zip(wanted, self._met, strict=False):
            runs = next(chunks, None)
            if runs is None or (is_wanted and sum(map(len, runs)) != met.records):
                raise _changed()
            yield from self._with_rows(runs, number, seen)
            if not is_wanted:
                for part in met.parts:
                    seen[part.rows.plan.label] += part.length
            number += met.records
            self._count_rows(met.records)
        if len(wanted) == len(self._met) and next(chunks, None) is not None:
            raise _changed()

    def _with_rows(self, runs: Runs, number: int, seen: Counter[str]) -> Iterator[Run]:
        """The records of a chunk, of which `number` is the first, behind those that were seen."""
        for records in runs:
            shape = self._reader.shape_of(records[0])
            stretches = self._stretches(records, number, together=shape is not None)
            number += len(records)
            for one, some in stretches:
                plan = shape.plan if shape else self._known_plan(label_of(one, some[0]))
                if plan is None:
                    continue
                rows, first = self._directory.backup(plan), seen[plan.label]
                seen[plan.label] += len(some)
                if seen[plan.label] > len(rows):
                    raise _changed()
                yield Run(rows, first, some, shape)

    def record(self, rows: BackupRows, number: int, record: Any, shape: Shape | None) -> Record:
        """One record of a run to look into."""
        data = record if shape is None else shape.data(record)
        return Record(InBackup(rows, number), with_references(data))

    def value_of(self, record: Record, part: KeyPart) -> Any:
        """A part of the record's key from its fields: comparable, or a `Hop`.

        Raises a refusal, `KeyShapeError` or `DanglingError`.
        """
        name, rest = part.path[0], part.path[1:]
        value = record.raw(name)
        if value is None:
            if name == record.plan.pk.name:
                raise DanglingError("the key holds the pk, which the record has not")
            return None
        if not rest:
            return part.comparable(value)
        reference = record.plan.columns[name].reference
        if reference is None:
            raise DanglingError(f"{name} is not a relation")
        target = self._directory.plans[reference.target]
        if isinstance(value, list) and not reference.proxy_key:
            position = target.key.positions.get(rest) if target.key else None
            if target.key and position is not None and not part.is_foreign_pk:
                return target.key.read(value)[position]
        elif rest == (target.pk.name,) and reference.to_field is None:
            return target.pk_value(value)
        return Hop(reference, value, rest)

    def _stretches(
        self, run: list[Any], number: int, *, together: bool
    ) -> Iterator[tuple[int, list[Any]]]:
        """The records of a run that are not left out, those that follow each other together if they
        may be; with the number of the first, which is `number` for the run's."""
        if together and not self._left_out:
            yield number, run
            return
        start = 0
        for end in range(len(run) + 1):
            is_out = end == len(run) or number + end in self._left_out
            if start < end and (is_out or not together):
                yield number + start, run[start:end]
                start = end
            if is_out:
                start = end + 1

    def _bodies(self) -> Iterator[bytes]:
        """Every record that is not left out, as it stands in the backup."""
        bodies = enumerate(self._reader.bodies(), start=1)
        return (body for number, body in bodies if number not in self._left_out)

    def _survey(self, run: list[Any], number: int, meet_lean: MeetLean) -> list[Part]:
        """Enter a run of structs of one label, or one record; `number` is that of the first."""
        label = label_of(number, run[0])
        plan = self._known_plan(label)
        if plan is None:
            self._note_unknown(run, number, label)
            return []
        rows = self._directory.backup(plan)
        part = Part(rows, len(rows), len(run))
        if not self._directory.is_in_fastnk_style:
            self._directory.is_in_fastnk_style = any(map(_is_in_fastnk_style, run))
        if rows.is_lean:
            rows.says_pks = rows.says_pks or any(map(_says_pk, run))
            self._note_kinds(plan, run)
            meet_lean(self._entered(rows, number, run))
        else:
            for at, record in enumerate(run):
                self._enter(rows, number + at, self._reader.data(record))
        return [part]

    def _known_plan(self, label: str) -> Plan | None:
        try:
            return self._directory.plans.of_records(label)
        except UnknownModelError:
            return None

    def _note_unknown(self, run: list[Any], first: int, label: str) -> None:
        try:
            self._directory.plans.of_records(label)
        except UnknownModelError as error:
            if self._findings.leaves_out(label, len(run)):
                return
            what = f'no model "{label}" to restore into: {error}'
            for number, record in enumerate(run, start=first):
                pk = self._reader.data(record).get("pk")
                self._findings.add(codes.UNKNOWN_MODEL, what, record=number, model=label, pk=pk)

    def _note_kinds(self, plan: Plan, run: list[Any]) -> None:
        shape = self._reader.shape_of(run[0])
        for name, generic in plan.generics.items():
            if shape is not None and name in shape.generics:
                self._kinds[plan.label, name].update(
                    (kind, isinstance(value, tuple))
                    for kind, value in set(shape.pairs(run, generic))
                    if kind is not None and value is not None
                )
            else:
                for one in run:
                    self._note_kind(plan, name, self._reader.data(one)["fields"])

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
        self._enter_key(record)
        self._enter_pk(record)

    def _entered(self, rows: BackupRows, number: int, run: list[Any]) -> Lean:
        """Enter lean rows: nobody will ask for their keys later, so they are not kept."""
        first, plan = len(rows), rows.plan
        rows.enter_many(number, len(run))
        whole: list[Record] = []

        def records() -> list[Record]:
            if not whole:
                rest = enumerate(run, start=first)
                whole.extend(
                    Record(InBackup(rows, at), self._reader.data(record)) for at, record in rest
                )
            return whole

        shape = self._reader.shape_of(run[0])
        keys = self._lean_keys(plan, run) if shape else None
        if keys is None:
            keys = [self._key(record) for record in records()]
        uniques: Sequence[Any] = ()
        if plan.unique:
            uniques = self._lean_uniques(plan, run, shape) if shape else ()
            uniques = uniques or list(map(self._unique, records()))
        self._repeats.add((plan.label, True), keys)
        pks: Sequence[Any] = ()
        if rows.keeps_pks:
            told = _lean_pks(run, shape, keys) if shape else None
            if told is None:
                pairs = zip(records(), keys, strict=True)
                told = [self._old_pk(record, key) for record, key in pairs]
            pks = told
            self._repeats.add((plan.label, False), pks)
        return Lean(rows, first, keys, uniques, pks, run, shape)

    def _lean_keys(self, plan: Plan, run: list[Any]) -> Sequence[Key | None] | None:
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

    def _lean_uniques(self, plan: Plan, run: list[Any], shape: Shape) -> Sequence[Any]:
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

    def _name_repeated(self) -> None:
        """Note the lean records that have a key or pk in common; they are looked for again."""
        if not self._repeats.settle():
            return
        for number, record in self._lean_records():
            label, rows = record.plan.label, record.row.rows
            key = rows.late_keys.get(record.row.number) or self._key(record)
            for value, is_key in ((key, True), (self._old_pk(record, key), False)):
                first = self._repeats.earlier((label, is_key), value, number)
                if first is not None:
                    self._note_same(record.row, first[0], key if is_key else None)

    def _lean_records(self) -> Iterator[tuple[int, Record]]:
        """All records of lean rows as in the survey, with their numbers."""
        seen: Counter[str] = Counter()
        number = 0
        for runs in self._reader.heads(self._directory.needed):
            for one in itertools.chain.from_iterable(runs):
                number += 1
                plan = self._known_plan(label_of(number, one))
                if number in self._left_out or plan is None:
                    continue
                if self._directory.backup(plan).is_lean:
                    row = InBackup(self._directory.backup(plan), seen[plan.label])
                    seen[plan.label] += 1
                    yield number, Record(row, self._reader.data(one))

    def _note_same(self, row: InBackup, first: int, key: Key | None) -> None:
        rows, number = row
        noun = "pk" if key is None else "natural key"
        form = rows.plan.key
        if key is not None and not rows.plan.key_is_enforced:
            places = f"records {first} and {rows.record_numbers[number]}"
            self.weak.setdefault(rows.plan.label, f"{places} have the same")
            return
        if key is not None and self._findings.lets_supersede(first, rows.plan.label):
            return
        self._findings.add(
            codes.SAME_ROW,
            f"record {first} has the same {noun}",
            record=rows.record_numbers[number],
            model=rows.plan.label,
            value=... if key is None or form is None else form.spell(key),
        )

    def _note_same_words(self, record: Record, form: KeyForm) -> None:
        """Note a record that says its key, with a row in it whose pk is not known yet, as another
        one does."""
        rows, number = record.row
        words = digest(tuple(comparable(record.raw(part.path[0])) for part in form.parts))
        first = self._spelled.setdefault((rows.plan.label, words), number)
        if first != number and not rows.plan.key_is_enforced:
            self._note_same(record.row, rows.record_numbers[first], ())

    def _unique(self, record: Record) -> Any:
        name = record.plan.unique
        value = record.fields.get(name) if name else None
        if name is None or value is None:
            return Missing.VALUE
        try:
            return comparable(converted(record.plan.columns[name].field, value))
        except REFUSALS:
            return Missing.VALUE  # the check of the record reports it

    def _enter_key(self, record: Record) -> None:
        key = self._name(record) if record.plan.weak else self._key(record)
        if key is not None:
            self._set_key(record.row, key)

    def _name(self, record: Record) -> Key | None:
        """The natural key by which others may refer to a record though it counts as none; `None`
        where they have its pk, or where it has to wait."""
        form, spelled = record.plan.spelled_key, record.data.get("natural_key")
        if form is None or (spelled is None and record.data.get("pk") is not None):
            return None
        if spelled is None:
            return self._key_of_fields(record, form)
        try:
            return form.read(spelled)
        except (*REFUSALS, KeyShapeError):
            return None  # nothing can refer to it by that

    def _key(self, record: Record) -> Key | None:
        """The record's natural key; `None` where it has none, or where it has to wait."""
        form = record.plan.key
        spelled = record.data.get("natural_key")
        if form is None:
            if spelled is not None and not record.plan.weak:
                what = "a natural key, and the schema has none for this model"
                record.note(self._findings, codes.NO_KEY, what, value=spelled)
            return None
        if spelled is None:
            return self._key_of_fields(record, form)
        try:
            return self._without_null(record, form.read(spelled))
        except (*REFUSALS, KeyShapeError) as error:
            what = f"not a natural key of this model: {refusal(error)}"
            record.note(self._findings, codes.NO_KEY, what, value=spelled)
            return None

    def _key_of_fields(self, record: Record, form: KeyForm) -> Key | None:
        if isinstance(form, CalledKey):
            self._unsaid.setdefault(form, []).append(record.row)
            return None
        try:
            parts = [self.value_of(record, part) for part in form.parts]
        except (*REFUSALS, KeyShapeError, DanglingError):
            if form.has_foreign_pk and not record.plan.weak:
                self._note_same_words(record, form)
            return None  # the check of the fields reports it
        if any(isinstance(part, Hop) for part in parts):
            self._deferred.append((record.row, parts))
            return None
        return self._without_null(record, tuple(parts))

    def _call_unsaid(self) -> None:
        """Have the methods make the keys that records do not say. If one cannot be made, the
        natural keys of that model tell nothing."""
        if not self._unsaid:
            return
        # Under other names the methods would find nothing, or the wrong thing.
        bodies = partial(iter, ()) if self._directory.plans.naming else self._bodies
        with KeyMaker(self._unsaid, bodies) as maker:
            for row, form in ((row, form) for form, rows in self._unsaid.items() for row in rows):
                label = row.rows.plan.label
                if label not in self.weak:
                    try:
                        self._set_key(row, maker.key(form, row))
                    except RefusalError as refused:
                        if row.rows.plan.weak:
                            continue  # nothing can refer to it by its key
                        number = row.rows.record_numbers[row.number]
                        why = f"record {number} does not say it, and {form.method} {refused}"
                        self.weak[label] = why

    def _without_null(self, record: Record, key: Key) -> Key | None:
        """The key, unless it has a null part that nobody said is one: then there is a finding."""
        if None not in key or self._null_keys or record.plan.weak:
            return key
        what = (
            "the natural key has a null part, so it identifies no row (--on-null-key null: it does)"
        )
        record.note(self._findings, codes.NO_KEY, what, value=record.data.get("natural_key", ...))
        return None

    def _set_key(self, row: InBackup, key: Key) -> None:
        rows, number = row
        if rows.is_lean:
            rows.late_keys[number] = key
            self._repeats.add((rows.plan.label, True), [key])
            return
        if rows.plan.weak:
            rows.names[key] = None if key in rows.names else number
            return
        rows.keys[number] = key
        first = rows.by_key.setdefault(key, number)
        if first != number:
            self._note_same(row, rows.record_numbers[first], key)

    def _enter_pk(self, record: Record) -> None:
        rows, number = record.row
        pk = self._old_pk(record, rows.keys[number])
        rows.old_pks[number] = pk
        if pk is None:
            return
        first = rows.by_old_pk.setdefault(pk, number)
        if first != number:
            record.note(
                self._findings,
                codes.SAME_ROW,
                f"record {rows.record_numbers[first]} has the same pk",
            )

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
            record.note(
                self._findings, codes.REFUSED_VALUE, refusal(error), field=plan.pk.name, value=value
            )
            return None

    def _compose_deferred(self) -> None:
        """Make the keys that pass through other records; those may wait for theirs in turn."""
        waiting = self._deferred
        while waiting:
            still = [(row, parts) for row, parts in waiting if not self._compose(row, parts)]
            if len(still) == len(waiting):
                break
            waiting = still
        self._deferred = []

    def _compose(self, row: InBackup, parts: list[Any]) -> bool:
        try:
            self._set_key(row, tuple(map(self._resolved, parts)))
        except (DanglingError, *REFUSALS):
            return False
        return True

    def _resolved(self, part: Any) -> Any:
        if not isinstance(part, Hop):
            return part
        end = self._directory.follow(self._directory.find(part.reference, part.value), part.path)
        if isinstance(end, InBackup):
            end = end.rows.old_pks[end.number]
            if end is None:
                raise DanglingError("the backup does not say which pk the row had")
        return end


def _changed() -> SourceError:
    return SourceError("the backup changed while it was read")


def _lean_pks(run: list[Any], shape: Shape, keys: Sequence[Key | None]) -> list[Any] | None:
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


def _says_pk(record: Any) -> bool:
    """Whether a struct or a dictionary has a pk beside its fields."""
    return (record.get("pk") if isinstance(record, dict) else record.pk) is not None


def _is_in_fastnk_style(record: Any) -> bool:
    """Whether a struct or a dictionary has what only fastnk writes."""
    if isinstance(record, dict):
        return record.get("natural_key") is not None or "references" in record
    return record.natural_key is not None or record.references is not None
