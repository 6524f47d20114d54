"""What must be known of other records before it can be decided which row a record is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from fastnk.django.restore import findings as codes
from fastnk.django.restore.backup import Backup, Record
from fastnk.django.restore.batches import only_row
from fastnk.django.restore.decisions import Decisions
from fastnk.django.restore.directory import DanglingError, Directory
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.natural_keys import KeyPart, KeyShapeError
from fastnk.django.restore.pending import PENDING, PkOf, settled
from fastnk.django.restore.plan import PkKind
from fastnk.django.restore.record_keys import Hop, RecordKeys
from fastnk.django.restore.rows import InBackup, Missing
from fastnk.django.restore.translation import Translator
from fastnk.django.restore.uniques import unique_values
from fastnk.django.restore.values import REFUSALS, comparable, digest, in_column
from fastnk.django.restore.waiting import (
    ByCompositePk,
    ByContent,
    ByForeignPk,
    ByRelation,
    ByUniqueColumns,
    ComparedColumns,
    Waiting,
)


class Needs:
    """Looks through the records that are not decided yet, and decides those that need no other."""

    def __init__(
        self,
        keys: RecordKeys,
        directory: Directory,
        findings: Findings,
        decisions: Decisions,
        connection: Any,
    ) -> None:
        self._keys = keys
        self._directory = directory
        self._findings = findings
        self._decisions = decisions
        self._translator = Translator(directory, findings, connection)
        # What is wrong with fields is for the check of all records to say, once pks are known.
        quiet = Findings(None, on_dangling=findings.on_dangling)
        self._quiet_translator = Translator(directory, quiet, connection)
        self.continuations: dict[InBackup, list[ByContent | None]] = defaultdict(list)
        """By the row of a record: those that go on under its pk in tables of their own, and that
        have nothing else to tell which rows they are; `None` for one that must be new."""

    def of_all(self, backup: Backup) -> Iterator[Waiting]:
        """What must be known of each record that is not decided yet."""
        for run in backup.runs("match", lambda rows: b""):
            for number, record in enumerate(run.records, start=run.first):
                if run.rows.pks[number] is Missing.MATCH:
                    whole = backup.record(run.rows, number, record)
                    if (waiting := self._of(whole)) is not None:
                        yield waiting

    def _of(self, record: Record) -> Waiting | None:
        """What must be known of a record before it can be decided; `None` when it is now."""
        row, plan = record.row, record.plan
        if row.pk is not Missing.MATCH:
            return None
        if plan.pk_kind is PkKind.RELATION:
            return self._by_relation(record)
        if plan.pk_kind is PkKind.COMPOSITE:
            return self._by_composite_pk(record)
        if plan.has_foreign_pk:
            parts = self._foreign_key_parts(record)
            if parts is not None:
                return ByForeignPk(row, parts)
            if plan.pk_kind is PkKind.OWN:
                self._decisions.match_by_own_pk(row)
        if plan.together:
            columns = self._quiet_translator.columns(record)
            told = [columns.get(name) for name in plan.together]
            if all(value is not None for value in told):
                return ByUniqueColumns(row, list(map(_part, told)))
            self._decisions.keep_free_pk(row)
        return self._by_content(record) if row.pk is Missing.MATCH else None

    def _by_relation(self, record: Record) -> Waiting | None:
        target = self._translator.pk_relation(record)
        if target is None:
            self._decisions.create_under_new_pk(record.row)
            return None
        if _is_awaited(target) and record.row.rows.key_of(record.row.number) is None:
            self.continuations[target.row].append(self._content_of(record))
        return ByRelation(record.row, _part(target))

    def _by_composite_pk(self, record: Record) -> Waiting | None:
        columns = self._quiet_translator.columns(record)
        names = [field.name for field in record.plan.pk_fields]
        for name in names:
            if name not in record.fields:
                record.note(
                    self._findings, codes.NO_PK, f"the record does not say its {name}", field=name
                )
        if any(columns.get(name) is None for name in names):
            self._decisions.create_under_new_pk(record.row)
            return None
        key = self._foreign_key_parts(record) if record.plan.has_foreign_pk else None
        return ByCompositePk(record.row, [_part(columns[name]) for name in names], key)

    def _foreign_key_parts(self, record: Record) -> list[Any] | None:
        """The parts of a key that holds pks of other rows; `None` where it cannot be made."""
        key_parts = record.plan.key.parts if record.plan.key else []
        try:
            return [self._key_part(record, *part) for part in enumerate(key_parts)]
        except (DanglingError, KeyShapeError, *REFUSALS):
            return None

    def _key_part(self, record: Record, position: int, part: KeyPart) -> Any:
        """A part of the key as the target spells it: comparable, or the pk it will be."""
        key = record.row.rows.keys[record.row.number]
        if key is not None and not part.is_foreign_pk:
            return key[position]
        if len(part.path) == 1 and part.path[0] in record.plan.columns:
            return _part(self._quiet_translator.columns(record).get(part.path[0]))
        value = record.raw(part.path[0])
        if value is None:
            return None
        reference = record.plan.told(part.path[0]).reference
        made = self._keys.value_of(record, part)
        if reference is None or not (part.is_foreign_pk or isinstance(made, Hop)):
            return made
        end = self._directory.follow(self._directory.find(reference, value), part.path[1:])
        return PkOf(end, part.field) if isinstance(end, InBackup) else end

    def _by_content(self, record: Record) -> Waiting | None:
        entry = self._content_of(record)
        if entry is None:
            self._decisions.renumber(record.row)
        return entry

    def _content_of(self, record: Record) -> ByContent | None:
        """What a record's row must be like; `None` where it refers to a row that is new, to which
        no existing one can refer."""
        plan = record.plan
        columns = self._quiet_translator.columns(record)
        columns.pop(plan.pk.name, None)
        soft = {name: value for name, value in columns.items() if _is_awaited(value)}
        firm = {name: settled(value) for name, value in columns.items() if name not in soft}
        many = self._quiet_translator.many(record)
        # By identity: objects that only their field knows may not let themselves be compared.
        if any(value is Missing.PK for value in firm.values()):
            return None
        held = {name: in_column(plan.columns[name].field, firm[name]) for name in firm}
        return ByContent(
            record.row,
            ComparedColumns(plan.label, tuple(firm), tuple(soft), tuple(many)),
            digest(tuple(held.values())),
            list(soft.values()),
            list(many.values()),
            unique_values(only_row(record.row, columns), {**held, **soft}),
        )


def _part(value: Any) -> Any:
    """A part of a key or pk as `Waiting` takes it."""
    return value if isinstance(value, PENDING) else comparable(value)


def _is_awaited(value: Any) -> bool:
    return isinstance(value, PENDING) and bool(value.awaited)
