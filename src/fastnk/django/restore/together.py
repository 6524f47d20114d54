"""Which records are left out together, because one refers to another."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any

from fastnk.django.restore.backup import Backup, Record
from fastnk.django.restore.directory import UNSOLVED, Directory
from fastnk.django.restore.plan import Reference
from fastnk.django.restore.rows import InBackup


class Referring:
    """The references of a backup to its new rows, some twenty bytes for each."""

    def __init__(self) -> None:
        self._targets, self._records = array("Q"), array("Q")
        """The numbers of the record that is meant, and of the one that refers to it."""
        self._fields = array("L")
        self._names: dict[str, int] = {}

    def add(self, target: int, record: int, field: str) -> None:
        """Take in a reference to one record of another, in a field by its full name."""
        self._targets.append(target)
        self._records.append(record)
        self._fields.append(self._names.setdefault(field, len(self._names)))

    def together_with(self, left_out: Mapping[int, str]) -> dict[int, str]:
        """These records, those that refer to one of them, those that refer to these, and so on;
        each with the field for which it is left out."""
        names = list(self._names)
        order = sorted(range(len(self._targets)), key=self._targets.__getitem__)
        found = dict(left_out)
        waiting = list(found)
        while waiting:
            target = waiting.pop()
            at = bisect_left(order, target, key=self._targets.__getitem__)
            while at < len(order) and self._targets[order[at]] == target:
                record = self._records[order[at]]
                if record not in found:
                    found[record] = names[self._fields[order[at]]]
                    waiting.append(record)
                at += 1
        return found


def referring(backup: Backup, directory: Directory) -> Referring:
    """What records refer to new rows; what refers to others may find them in the database. Only
    plain relations are looked at."""
    found = Referring()
    for run in backup.runs("check", lambda rows: b""):
        for number, data in enumerate(run.records, run.first):
            record = backup.record(run.rows, number, data)
            for name, reference, value in _references(directory, record):
                try:
                    row = directory.find(reference, value)
                except UNSOLVED:
                    continue
                if isinstance(row, InBackup) and not row.rows.exists(row.number):
                    target = row.rows.record_numbers[row.number]
                    found.add(target, record.number, f"{record.plan.label}.{name}")
    return found


def _references(directory: Directory, record: Record) -> Iterator[tuple[str, Reference, Any]]:
    plan = record.plan
    for name, value in record.fields.items():
        if name in plan.inside or name in plan.generics or directory.passes_over(plan, name):
            continue
        column, many = plan.columns.get(name), plan.many.get(name)
        if column is not None and column.reference is not None and value is not None:
            yield name, column.reference, value
        elif many is not None and isinstance(value, list):
            yield from ((name, many.reference, one) for one in value if one is not None)
