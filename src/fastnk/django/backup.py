"""Reads the records of a backup, as often as the loader must, and surveys them first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from fastnk.django import findings as codes
from fastnk.django.directory import DanglingError, Directory, refusal
from fastnk.django.findings import Findings
from fastnk.django.plan import (
    CalledKey,
    Key,
    KeyPart,
    KeyShapeError,
    Path,
    PkKind,
    Plan,
    Reference,
    UnknownModelError,
)
from fastnk.django.rows import BackupRows, Fate, InBackup, Missing
from fastnk.django.values import REFUSALS, comparable, converted
from fastnk.errors import BackupSyntaxError, Place, SourceError

Records = Callable[[], Iterable[dict[str, Any]]] | Iterable[dict[str, Any]]
"""The records of a backup: something to call or to iterate, twice and more."""


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


class Backup:
    """The records of a backup."""

    def __init__(self, records: Records, directory: Directory, findings: Findings) -> None:
        self._records = records
        self._directory = directory
        self._findings = findings
        self._deferred: list[tuple[InBackup, list[Any]]] = []

    def survey(self) -> None:
        """Read all records once and enter their rows and keys in the directory."""
        for number, label, data in self._numbered():
            try:
                plan = self._directory.plans[label]
            except UnknownModelError as error:
                self._findings.add(
                    codes.UNKNOWN_MODEL,
                    f'no model "{label}" to restore into: {error}',
                    record=number,
                    model=label,
                    pk=data.get("pk"),
                )
            else:
                if "natural_key" in data or "references" in data:
                    self._directory.is_in_fastnk_style = True
                self._enter(self._directory.backup(plan), number, data)
        self._compose_deferred()

    def __iter__(self) -> Iterator[Record]:
        """The records again, with their rows. Raises `SourceError` if they are not the same."""
        seen: Counter[str] = Counter()
        for _, label, data in self._numbered():
            try:
                plan = self._directory.plans[label]
            except UnknownModelError:
                continue
            rows = self._directory.backup(plan)
            if seen[plan.label] == len(rows):
                raise SourceError("the backup changed while it was read")
            yield Record(InBackup(rows, seen[plan.label]), data)
            seen[plan.label] += 1
        if any(len(rows) != seen[rows.plan.label] for rows in self._directory.in_backup):
            raise SourceError("the backup changed while it was read")

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

    def _numbered(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        records = self._records() if callable(self._records) else self._records
        for number, data in enumerate(records, start=1):
            label = data.get("model") if isinstance(data, dict) else None
            if not isinstance(label, str) or not isinstance(data.get("fields"), dict):
                raise BackupSyntaxError(
                    "not a record: an object with a model and fields was expected",
                    place=Place(record=number),
                )
            if references := data.get("references"):
                # What the fields could not hold; it means more than an id that stands there.
                data = {**data, "fields": data["fields"] | references}
            yield number, label, data

    def _enter(self, rows: BackupRows, number: int, data: dict[str, Any]) -> None:
        record = Record(InBackup(rows, len(rows)), data)
        rows.record_numbers.append(number)
        rows.keys.append(None)
        rows.old_pks.append(None)
        rows.uniques.append(self._unique(record))
        rows.pks.append(Missing.MATCH)
        rows.fates.append(Fate.CREATED)
        for name, values in rows.values.items():
            value = record.raw(name)
            values.append(Missing.VALUE if value is None and name not in record.fields else value)
        self._enter_key(record)
        self._enter_pk(record)

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
        form = record.plan.key
        spelled = record.data.get("natural_key")
        if form is None:
            if spelled is not None:
                what = "a natural key, and the schema has none for this model"
                record.note(self._findings, codes.NO_KEY, what, value=spelled)
            return
        if spelled is None and isinstance(form, CalledKey):
            what = (
                f"{form.method} makes the natural key of this model, and the record does not say"
                " it; convert the backup in the style fastnk"
            )
            record.note(self._findings, codes.NO_KEY, what)
            return
        try:
            if spelled is not None:
                self._set_key(record.row, form.read(spelled))
                return
            parts = [self.value_of(record, part) for part in form.parts]
        except (*REFUSALS, KeyShapeError) as error:
            if spelled is not None:
                record.note(
                    self._findings,
                    codes.NO_KEY,
                    f"not a natural key of this model: {refusal(error)}",
                    value=spelled,
                )
        except DanglingError:
            return
        else:
            if any(isinstance(part, Hop) for part in parts):
                self._deferred.append((record.row, parts))
            else:
                self._set_key(record.row, tuple(parts))

    def _set_key(self, row: InBackup, key: Key) -> None:
        rows = row.rows
        rows.keys[row.number] = key
        first = rows.by_key.setdefault(key, row.number)
        if first != row.number:
            self._findings.add(
                codes.SAME_ROW,
                f"record {rows.record_numbers[first]} has the same natural key",
                record=rows.record_numbers[row.number],
                model=rows.plan.label,
                value=rows.plan.key.spell(key) if rows.plan.key else key,
            )

    def _enter_pk(self, record: Record) -> None:
        rows, number = record.row
        pk = self._old_pk(record)
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

    def _old_pk(self, record: Record) -> Any:
        """The comparable pk in the backup: beside the fields, among them, or in the key."""
        plan, value = record.plan, record.data.get("pk")
        if value is None:
            value = record.pk
        if value is None:
            key = record.row.rows.keys[record.row.number]
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
