"""Reads the records of a backup, as often as the loader must, and surveys them first."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from fastnk.audit import Audit
from fastnk.django import findings as codes
from fastnk.django.directory import DanglingError, Directory, refusal
from fastnk.django.findings import Findings
from fastnk.django.plan import (
    CalledKey,
    Key,
    KeyForm,
    KeyPart,
    KeyShapeError,
    Path,
    PkKind,
    Plan,
    Reference,
    UnknownModelError,
)
from fastnk.django.reading import Chunks, Data, Head, Reader, Shape
from fastnk.django.rows import BATCH, BackupRows, InBackup, Missing
from fastnk.django.values import REFUSALS, comparable, converted
from fastnk.errors import BackupSyntaxError, Place, SourceError


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

    def note(self, findings: Findings, code: str, what: str, **rest: Any) -> None:
        """Add a finding about this record."""
        number = self.row.rows.record_numbers[self.row.number]
        pk = self.data.get("pk")
        findings.add(code, what, record=number, model=self.plan.label, pk=pk, **rest)


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


MatchLean = Callable[[Lean], None]

Entry = tuple[BackupRows, int, Any, Shape | None]
"""The rows of a record's model, the number of its own row, the record, and its shape if it has one.
Without a shape the record is a dictionary."""


class Backup:
    """The records of a backup."""

    def __init__(
        self, chunks: Chunks, directory: Directory, findings: Findings, connection: Any
    ) -> None:
        self._reader = Reader(chunks, directory.plans, connection)
        self._directory = directory
        self._findings = findings
        self._deferred: list[tuple[InBackup, list[Any]]] = []
        self._audits: dict[tuple[str, bool], Audit] = defaultdict(Audit)
        """Of lean rows what must not occur twice: by label, keys or (`False`) pks."""

    def survey(self, match_lean: MatchLean) -> None:
        """Read all records once and enter their rows and keys in the directory."""
        waiting: dict[str, list[tuple[int, Data]]] = defaultdict(list)
        for number, label, data in self._surveyed():
            plan = self._plan_of(number, label, data)
            if plan is None:
                continue
            rows = self._directory.backup(plan)
            if not rows.is_lean:
                self._enter(rows, number, data)
                continue
            batch = waiting[plan.label]
            batch.append((number, data))
            if len(batch) == BATCH:
                match_lean(self._entered(rows, batch))
                batch.clear()
        for label, batch in waiting.items():
            if batch:
                match_lean(
                    self._entered(self._directory.backup(self._directory.plans[label]), batch)
                )
        self._compose_deferred()
        self._name_repeated()

    def __iter__(self) -> Iterator[Record]:
        """The records again, with their rows. Raises `SourceError` if they are not the same."""
        for rows, number, record, shape in self.entries():
            yield self.record(rows, number, record, shape)

    def entries(self) -> Iterator[Entry]:
        """The records as they come, with their rows. Raises `SourceError` if they changed."""
        seen: Counter[str] = Counter()
        for number, record in enumerate(self._reader.records(), start=1):
            shape = self._reader.shape_of(record)
            if shape is None:
                try:
                    plan = self._directory.plans[_label(number, record)]
                except UnknownModelError:
                    continue
            else:
                plan = shape.plan
            rows = self._directory.backup(plan)
            at = seen[plan.label]
            if at == len(rows):
                raise SourceError("the backup changed while it was read")
            seen[plan.label] = at + 1
            yield rows, at, record, shape
        if any(len(rows) != seen[rows.plan.label] for rows in self._directory.in_backup):
            raise SourceError("the backup changed while it was read")

    def record(self, rows: BackupRows, number: int, record: Any, shape: Shape | None) -> Record:
        """One of `entries` to look into."""
        data = record if shape is None else shape.data(record)
        return Record(InBackup(rows, number), _with_references(data))

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

    def _surveyed(self) -> Iterator[tuple[int, str, Data]]:
        """Number, label and, as far as the survey looks at them, contents of all records."""
        for number, head in enumerate(self._reader.heads(self._directory.needed), start=1):
            if isinstance(head, Head):
                yield number, head.label, head.data()
            else:
                yield number, _label(number, head), _with_references(head)

    def _plan_of(self, number: int, label: str, data: Data) -> Plan | None:
        """The plan for a record; `None`, and a finding, where there is none."""
        if data.get("natural_key") is not None or "references" in data:
            self._directory.is_in_fastnk_style = True
        try:
            return self._directory.plans[label]
        except UnknownModelError as error:
            what = f'no model "{label}" to restore into: {error}'
            pk = data.get("pk")
            self._findings.add(codes.UNKNOWN_MODEL, what, record=number, model=label, pk=pk)
            return None

    def _enter(self, rows: BackupRows, number: int, data: Data) -> None:
        record = Record(InBackup(rows, len(rows)), data)
        rows.enter(number)
        rows.keys.append(None)
        rows.uniques.append(self._unique(record))
        for name, values in rows.values.items():
            value = record.raw(name)
            values.append(Missing.VALUE if value is None and name not in record.fields else value)
        self._enter_key(record)
        self._enter_pk(record)

    def _entered(self, rows: BackupRows, batch: list[tuple[int, Data]]) -> Lean:
        """Enter lean rows: nobody will ask for their keys later, so they are not kept."""
        first = len(rows)
        records = [Record(InBackup(rows, first + at), data) for at, (_, data) in enumerate(batch)]
        for number, _ in batch:
            rows.enter(number)
        keys = self._lean_keys(rows.plan, records)
        uniques = [self._unique(record) for record in records] if rows.plan.unique else ()
        self._audit((rows.plan.label, True), keys)
        if rows.keeps_pks:
            for record, key in zip(records, keys, strict=True):
                rows.old_pks[record.row.number] = self._old_pk(record, key)
            self._audit((rows.plan.label, False), rows.old_pks[first:])
        return Lean(rows, first, keys, uniques)

    def _lean_keys(self, plan: Plan, records: list[Record]) -> list[Key | None]:
        spelled = [record.data.get("natural_key") for record in records]
        if plan.key is not None and None not in spelled:
            try:
                return list(plan.key.read_all(spelled))
            except (*REFUSALS, KeyShapeError):
                pass  # one of them; which one will be found out
        return [self._key(record) for record in records]

    def _audit(self, what: tuple[str, bool], values: Sequence[Any]) -> None:
        prints = array("q", bytes(16 * len(values)))
        prints[::2] = array("q", map(hash, ((value,) for value in values)))
        known = [value is not None for value in values]
        if not all(known):
            prints = array("q", (half for at, half in enumerate(prints) if known[at // 2]))
        self._audits[what].add(prints.tobytes())

    def _name_repeated(self) -> None:
        """Note the lean records that have a key or pk in common; they are looked for again."""
        suspects = {}
        for what, audit in self._audits.items():
            if found := array("q", audit.repeated()):
                suspects[what] = set(found[::2])
            audit.close()
        self._audits.clear()
        if not suspects:
            return
        firsts: dict[tuple[str, bool, Any], int] = {}
        seen: Counter[str] = Counter()
        for number, label, data in self._surveyed():
            try:
                plan = self._directory.plans[label]
            except UnknownModelError:
                continue
            rows = self._directory.backup(plan)
            record = Record(InBackup(rows, seen[plan.label]), data)
            seen[plan.label] += 1
            for is_key in (True, False):
                prints = suspects.get((plan.label, is_key))
                if prints is None:
                    continue
                key = rows.late_keys.get(record.row.number) or self._key(record)
                value = key if is_key else self._old_pk(record, key)
                if value is not None and hash((value,)) in prints:
                    first = firsts.setdefault((plan.label, is_key, value), number)
                    if first != number:
                        self._note_same(record.row, first, value if is_key else None)

    def _note_same(self, row: InBackup, first: int, key: Key | None) -> None:
        rows, number = row
        noun = "pk" if key is None else "natural key"
        form = rows.plan.key
        self._findings.add(
            codes.SAME_ROW,
            f"record {first} has the same {noun}",
            record=rows.record_numbers[number],
            model=rows.plan.label,
            value=... if key is None or form is None else form.spell(key),
        )

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
        key = self._key(record)
        if key is not None:
            self._set_key(record.row, key)

    def _key(self, record: Record) -> Key | None:
        """The record's natural key; `None` where it has none, or where it has to wait."""
        form = record.plan.key
        spelled = record.data.get("natural_key")
        if form is None:
            if spelled is not None:
                what = "a natural key, and the schema has none for this model"
                record.note(self._findings, codes.NO_KEY, what, value=spelled)
            return None
        if spelled is None:
            return self._key_of_fields(record, form)
        try:
            return form.read(spelled)
        except (*REFUSALS, KeyShapeError) as error:
            what = f"not a natural key of this model: {refusal(error)}"
            record.note(self._findings, codes.NO_KEY, what, value=spelled)
            return None

    def _key_of_fields(self, record: Record, form: KeyForm) -> Key | None:
        if isinstance(form, CalledKey):
            what = (
                f"{form.method} makes the natural key of this model, and the record does not say"
                " it; convert the backup in the style fastnk"
            )
            record.note(self._findings, codes.NO_KEY, what)
            return None
        try:
            parts = [self.value_of(record, part) for part in form.parts]
        except (*REFUSALS, KeyShapeError, DanglingError):
            return None  # the check of the fields reports it
        if any(isinstance(part, Hop) for part in parts):
            self._deferred.append((record.row, parts))
            return None
        return tuple(parts)

    def _set_key(self, row: InBackup, key: Key) -> None:
        rows, number = row
        if rows.is_lean:
            rows.late_keys[number] = key
            self._audit((rows.plan.label, True), [key])
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
            position = plan.key.positions.get((plan.pk.name,)) if plan.key else None
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


def _label(number: int, data: Any) -> str:
    """The label of the record with this number. Raises `BackupSyntaxError` if it is none."""
    label = data.get("model") if isinstance(data, dict) else None
    if not isinstance(label, str) or not isinstance(data.get("fields"), dict):
        raise BackupSyntaxError(
            "not a record: an object with a model and fields was expected",
            place=Place(record=number),
        )
    return label


def _with_references(data: Data) -> Data:
    """What the fields could not hold among them; it means more than an id that stands there."""
    references = data.get("references")
    return {**data, "fields": data["fields"] | references} if references else data
