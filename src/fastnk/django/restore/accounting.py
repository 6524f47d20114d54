"""Counts what a restore does, or would do, and tells what somebody should look at."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser

from fastnk.django.restore import findings as codes
from fastnk.django.restore.batches import Table
from fastnk.django.restore.defaults import is_constant, is_made_up, told_default
from fastnk.django.restore.directory import Directory
from fastnk.django.restore.discretion import NOT_SHOWN, is_secret
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.plan import RIGHTS, Plan
from fastnk.django.restore.report import Default, Difference, ModelCounts, Privilege, RestoreOptions
from fastnk.django.restore.rows import EXISTING, Fate, InBackup
from fastnk.django.restore.values import as_in_json, as_text
from fastnk.django.restore.writing import Change

FLAGS = ("is_superuser", "is_staff")


class Accounts:
    """Takes the tables of the check."""

    def __init__(self, directory: Directory, findings: Findings, options: RestoreOptions) -> None:
        self._directory = directory
        self._findings = findings
        self._options = options
        self.models: dict[str, ModelCounts] = defaultdict(ModelCounts)
        self.privileges: list[Privilege] = []
        self.differences: list[Difference] = []
        self._changing: dict[str, set[str]] = defaultdict(set)
        """By label: the fields in which existing rows change."""
        self._defaulted: dict[str, dict[str, Default]] = defaultdict(dict)
        """By label and field."""
        self.defaulting: dict[tuple[str, str], int] = {}
        """By label and field: the first record of which the new row has the default."""

    @property
    def defaulted(self) -> dict[str, Default]:
        """As in `RestoreReport`."""
        return {
            f"{label}.{name}": default
            for label, defaults in self._defaulted.items()
            for name, default in defaults.items()
        }

    def created(self, table: Table) -> None:
        counts = self.models[table.plan.label]
        fates = bytes(map(table.rows.fates.__getitem__, table.numbers))
        counts.created += len(table.numbers)
        counts.renumbered += fates.count(Fate.RENUMBERED)
        for name in table.unsaid:
            if is_made_up(table.plan.columns[name]):
                self._default(table.plan, name).rows += len(table.numbers)
                first = table.rows.record_numbers[table.numbers[0]]
                self.defaulting.setdefault((table.plan.label, name), first)
        for name in _flags(table.plan):
            for number, value in zip(table.numbers, table.columns.get(name, ()), strict=False):
                if value is True:
                    self._privilege(InBackup(table.rows, number), f"{name}, as a new row")
        for name in _memberships(table.plan) & table.many.keys():
            for number, pks in zip(table.numbers, table.many[name], strict=True):
                if pks:
                    what = f"{len(pks)} of {name}, as a new row"
                    self._privilege(InBackup(table.rows, number), what)

    def matched(self, table: Table, changes: list[Change]) -> None:
        """Count rows that exist; those in which nothing is to change are done with."""
        counts = self.models[table.plan.label]
        counts.unchanged += len(table.numbers) - len(changes)
        for one in changes:
            self._changing[table.plan.label].update(one.columns, one.added, one.removed)
        fates, done = table.rows.fates, set(table.numbers)
        if self._options.on_existing == "keep":
            counts.kept += len(changes)
        else:
            counts.updated += len(changes)
            done.difference_update(change.row.number for change in changes)
            for change in changes:
                self._look_at(table.plan, change)
        for number in done:
            fates[number] = Fate.UNCHANGED

    def what_changes(self, label: str) -> str:
        """A model, and the fields in which its existing rows change."""
        fields = sorted(self._changing[label])
        return f"{label} ({', '.join(fields)})" if fields else label

    def forget(self, label: str) -> None:
        """Take back what was counted of a model; all its records will come again."""
        self.models.pop(label, None)
        self._defaulted.pop(label, None)
        self.defaulting = {at: first for at, first in self.defaulting.items() if at[0] != label}
        self.privileges = [one for one in self.privileges if one.model != label]

    def count_unknown(self) -> None:
        """Count the rows of the database that the backup does not know."""
        for rows in self._directory.in_backup:
            known = sum(map(rows.fates.count, EXISTING))
            there = self._directory.existing(rows.plan).query.count()
            self.models[rows.plan.label].unknown_rows = there - known

    def _default(self, plan: Plan, name: str) -> Default:
        known = self._defaulted[plan.label]
        if name not in known:
            known[name] = Default()
            column = plan.columns[name]
            if is_constant(column):
                is_hidden = is_secret(plan.label, name)
                known[name].value = NOT_SHOWN if is_hidden else _shown(told_default(column))
        return known[name]

    def _look_at(self, plan: Plan, change: Change) -> None:
        if self._options.on_existing == "error":
            names = ", ".join([*change.columns, *change.added, *change.removed])
            self._findings.add(
                codes.EXISTS,
                f"the row exists and differs in {names} (--on-existing update: as the record says)",
                record=change.row.rows.record_numbers[change.row.number],
                model=plan.label,
            )
        elif plan.pk.name in change.columns:
            self._findings.add(
                codes.NO_PK,
                f"the row that exists has another {plan.pk.name}, and a pk stays as it is",
                record=change.row.rows.record_numbers[change.row.number],
                model=plan.label,
                pk=change.before[plan.pk.name],
                pk_name=plan.pk.name,
                field=plan.pk.name,
            )
        for name in _flags(plan):
            if name in change.columns:
                what = f"{name}: {change.before[name]} -> {change.columns[name]}"
                self._privilege(change.row, what)
        for name in _memberships(plan):
            added, removed = len(change.added.get(name, ())), len(change.removed.get(name, ()))
            if added or removed:
                self._privilege(change.row, f"{name}: {added} more, {removed} less")
        if self._options.diff:
            self._tell_differences(plan, change)

    def _tell_differences(self, plan: Plan, change: Change) -> None:
        told = named(change.row)
        for name, value in change.columns.items():
            secret = is_secret(plan.label, name)
            before, after = change.before[name], value
            values = (NOT_SHOWN, NOT_SHOWN) if secret else (_shown(before), _shown(after))
            self.differences.append(Difference(plan.label, told, name, *values))
        for name in change.added.keys() | change.removed.keys():
            gone, new = len(change.removed.get(name, ())), len(change.added.get(name, ()))
            self.differences.append(
                Difference(plan.label, told, name, f"{gone} less", f"{new} more")
            )

    def _privilege(self, row: InBackup, change: str) -> None:
        self.privileges.append(Privilege(row.rows.plan.label, named(row), change))


def is_about_rights(plan: Plan) -> bool:
    """Whether rows of a model may have a say in who may do what."""
    return bool(_flags(plan) or _memberships(plan))


def _flags(plan: Plan) -> tuple[str, ...]:
    return FLAGS if issubclass(plan.model, AbstractBaseUser) else ()


def _memberships(plan: Plan) -> set[str]:
    targets = {name: column.reference.target for name, column in plan.many.items()}
    return {name for name, target in targets.items() if target in RIGHTS}


def named(row: InBackup) -> str:
    """What a person calls a row: its natural key, else its pk, as JSON."""
    rows, number = row
    key = None if rows.is_lean else rows.keys[number]
    if is_secret(rows.plan.label, None):
        return NOT_SHOWN
    if key is not None and rows.plan.key is not None:
        return as_text(rows.plan.key.spell(key))
    pk = rows.pks[number] if rows.exists(number) else rows.old_pk_of(number)
    return as_text(pk)


def _shown(value: Any) -> Any:
    if isinstance(value, InBackup):
        return f"the new row {named(value)}"
    try:
        return as_in_json(value)
    except TypeError:
        return str(value)
