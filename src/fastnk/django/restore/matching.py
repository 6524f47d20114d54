"""Decides which row of the database each record is, or that it is a new one.

A natural key decides; then a unique column; then a pk that the application gives. Where there is
only a pk that the database made, the content does. Most records are decided at once. Those whose
key, pk or content holds pks of other rows wait until those are decided.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fastnk.django.restore import findings as codes
from fastnk.django.restore.backup import Backup
from fastnk.django.restore.contents import Contents
from fastnk.django.restore.decisions import Decisions
from fastnk.django.restore.directory import Directory
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.natural_keys import Key
from fastnk.django.restore.needs import Needs
from fastnk.django.restore.plan import PkKind
from fastnk.django.restore.record_keys import RecordKeys
from fastnk.django.restore.rows import InBackup, Missing, NewPks
from fastnk.django.restore.survey import Lean
from fastnk.django.restore.waiting import (
    ByUniqueColumns,
    Means,
    Waiting,
    circles,
    settle_in_order,
    undecided,
)


class Matcher:
    """Fills in `pks` and `fates` of all rows that the backup holds."""

    def __init__(
        self,
        backup: Backup,
        keys: RecordKeys,
        directory: Directory,
        findings: Findings,
        connection: Any,
        *,
        duplicate_keys: bool = False,
    ) -> None:
        """With `duplicate_keys` natural keys of which the database has one twice tell nothing."""
        self._duplicate_keys = duplicate_keys
        self._backup = backup
        self._keys = keys
        self._directory = directory
        self._number_in_backup = findings.number_in_backup
        self.decisions = Decisions(directory, findings)
        self._needs = Needs(keys, directory, findings, self.decisions, connection)

    def match(self) -> None:
        """Decide for every record; what cannot be decided is noted as a finding."""
        for rows in self._directory.in_backup:
            if not rows.is_lean:
                existing = self._directory.existing(rows.plan)
                existing.expect(rows.old_pks, rows.keys, rows.uniques)
            # Lean rows are decided by now but for the few whose keys had to wait.
            for number in rows.late_keys if rows.is_lean else range(len(rows)):
                self._match_at_once(InBackup(rows, number))
        self._match_by_heirs()
        if any(rows.pks.count(Missing.MATCH) for rows in self._directory.in_backup):
            self._match_waiting(list(self._needs.of_all(self._backup)))

    def match_lean(self, lean: Lean) -> None:
        """Decide for lean rows as far as each of them tells by itself."""
        rows = lean.rows
        new = pks_if_new(lean) if rows.are_first else None
        if new is not None:
            rows.create(lean.first, new)
            return
        if lean.pks:
            rows.keep_old_pks(lean.first, lean.pks)
        self._directory.existing(rows.plan).expect(lean.pks, lean.keys, lean.uniques)
        for at, key in enumerate(lean.keys):
            row = InBackup(rows, lean.first + at)
            if key is not None:
                self._match_by_key(row, key)
            elif lean.uniques and lean.uniques[at] is not Missing.VALUE:
                self._match_by_unique(row, lean.uniques[at])
            else:
                self._match_by_pk_alone(row)

    def _match_by_key(self, row: InBackup, key: Key) -> None:
        """Match by the natural key as the target spells it."""
        plan = row.rows.plan
        pk = None if Missing.PK in key else self._directory.existing(plan).by_key.get(key)
        if pk is Missing.UNIQUE:
            what = (
                "more than one row of the database has this natural key"
                " (--on-duplicate-key keep: the model's natural keys count as none)"
            )
            spelled = plan.key.spell(key) if plan.key else key
            self.decisions.refuse(row, codes.AMBIGUOUS_KEY, what, spelled)
            if self._duplicate_keys:
                number = self._number_in_backup(row.rows.record_numbers[row.number])
                why = f"more than one row of the database has that of record {number}"
                self._keys.weak.setdefault(plan.label, why)
        elif pk is not None and row.rows.is_lean and plan.label not in self.decisions.claims:
            # No other key leads to the row, and of lean records with one key the survey tells.
            self.decisions.take(row, pk)
        elif pk is not None:
            self.decisions.claim(row, pk)
        elif plan.pk_kind is PkKind.OWN:
            self.decisions.create_with_own_pk(row)
        elif plan.pk_kind is PkKind.AUTO and plan.own_pk_part is not None:
            self.decisions.keep_free_pk(row)
        elif plan.pk_kind is PkKind.AUTO:
            self.decisions.create_under_new_pk(row)

    def _match_by_unique(self, row: InBackup, value: Any) -> None:
        """Match by the comparable value of the column that identifies rows, unless a row has the
        pk that identifies its row."""
        rows, number = row
        existing = self._directory.existing(rows.plan)
        if rows.plan.pk_kind is PkKind.OWN and rows.old_pk_of(number) in existing.pks:
            self.decisions.match_by_own_pk(row)
        else:
            self._match_by_unique_pk(row, existing.by_unique.get(value))

    def _match_by_unique_pk(self, row: InBackup, pk: Any) -> None:
        """Match by the pk of the one row that has the same in what must be unique; `None` where
        there is none."""
        if pk is not None:
            self.decisions.claim(row, pk)
            return
        self.decisions.keep_free_pk(row)
        if row.pk is Missing.MATCH:
            self.decisions.renumber(row)

    def _match_at_once(self, row: InBackup) -> None:
        rows, number = row
        if rows.plan.has_foreign_pk or row.pk is not Missing.MATCH:
            return
        key = rows.key_of(number)
        if key is not None:
            self._match_by_key(row, key)
        elif rows.unique_of(number) is not Missing.VALUE:
            self._match_by_unique(row, rows.unique_of(number))
        elif not rows.plan.together and not rows.is_lean:
            self._match_by_pk_alone(row)

    def _match_by_heirs(self) -> None:
        """Match rows that only their pks would tell by those that exist and have the same pks, such
        as children in multi-table inheritance with natural keys of their own."""
        for rows in self._directory.in_backup:
            if rows.plan.pk_kind is PkKind.RELATION:
                for number in range(len(rows)):
                    self._match_by_heir(InBackup(rows, number))

    def _match_by_heir(self, heir: InBackup) -> None:
        row = self._directory.pk_relation(heir) if _exists(heir) else None
        if isinstance(row, InBackup) and not _exists(row) and _has_only_a_pk(row):
            self.decisions.claim(row, heir.pk)
            if row.rows.plan.pk_kind is PkKind.RELATION:
                self._match_by_heir(row)

    def _match_by_pk_alone(self, row: InBackup) -> None:
        if row.rows.plan.pk_kind is PkKind.AUTO:
            self.decisions.keep_free_pk(row)
        elif row.rows.plan.pk_kind is PkKind.OWN:
            self.decisions.match_by_own_pk(row)

    def _match_waiting(self, waiting: list[Waiting]) -> None:
        """Decide for records behind those that they need; for circles of them together."""
        with_columns = self._existing_with_columns(waiting)
        contents = Contents(self._directory, self.decisions, waiting, self._needs.continuations)

        def by_columns(row: InBackup, values: tuple[Any, ...]) -> None:
            self._match_by_unique_pk(row, with_columns[row.rows.plan.label].get(values))

        means = Means(self.decisions, self._match_by_key, by_columns, contents.match)
        settle_in_order(waiting, means)
        while found := circles(waiting := undecided(waiting)):
            contents.settle_circles(found)
            settle_in_order(undecided(waiting), means)
        for entry in waiting:
            what = "what tells which row this is leads back to this record"
            self.decisions.refuse(entry.row, codes.NO_KEY, what)

    def _existing_with_columns(self, waiting: list[Waiting]) -> dict[str, Mapping[Any, Any]]:
        """By label and the values of the columns that together identify rows: the pks of existing
        rows, those alone that records may be."""
        wanted: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
        for entry in waiting:
            if isinstance(entry, ByUniqueColumns):
                wanted[entry.row.rows.plan.label].add(entry.values)
        found: dict[str, Mapping[Any, Any]] = {}
        for label, values in wanted.items():
            plan = self._directory.plans[label]
            columns = [plan.columns[name].field.attname for name in plan.together]
            are_known = Missing.MATCH not in itertools.chain.from_iterable(values)
            existing = self._directory.existing(plan)
            found[label] = existing.with_values(columns, values if are_known else None)
        return found


def pks_if_new(lean: Lean) -> NewPks | None:
    """What is known of the pks of lean rows of an empty table; `None` where something is special
    about one of them."""
    plan = lean.rows.plan
    is_auto = plan.pk_kind is PkKind.AUTO
    if is_auto and plan.own_pk_part is None and None not in lean.keys:
        return NewPks(Missing.PK)
    if lean.shape is None or (plan.key is not None and plan.own_pk_part is None):
        return None
    told = lean.told_pks
    if not is_auto:
        return None if None in [*told, *lean.pks] else NewPks(Missing.OWN)
    if set(map(type, told)) != {int} or (plan.key is not None and None in lean.keys):
        return None
    lowest, highest = min(told), max(told)
    is_right = lean.rows.takes_pk(lowest) and lean.rows.takes_pk(highest)
    return NewPks(Missing.OWN, highest) if is_right else None


def _exists(row: InBackup) -> bool:
    return row.rows.exists(row.number)


def _has_only_a_pk(row: InBackup) -> bool:
    """Whether nothing tells which row it is but a pk that says nothing of it."""
    rows, number = row
    return (
        rows.plan.pk_kind in (PkKind.AUTO, PkKind.RELATION)
        and not rows.plan.together
        and rows.key_of(number) is None
        and rows.unique_of(number) is Missing.VALUE
    )
