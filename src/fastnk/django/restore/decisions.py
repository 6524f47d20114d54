"""What becomes of each record's row: it is an existing one, or a new one, and with which pk."""

from __future__ import annotations

from typing import Any

from fastnk.django.restore import findings as codes
from fastnk.django.restore.directory import Directory
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.plan import PkKind
from fastnk.django.restore.rows import Fate, InBackup, Missing
from fastnk.django.restore.values import comparable


class Claims(dict[str, dict[Any, int]]):
    """By label and comparable pk: the record that has the row. Made of what is decided when it is
    first asked for, because lean rows can mostly do without."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def __missing__(self, label: str) -> dict[Any, int]:
        pks = enumerate(self._directory.rows_of(self._directory.plans[label]).pks)
        claims = {comparable(pk): number for number, pk in pks if not isinstance(pk, Missing)}
        self[label] = claims
        return claims


class Decisions:
    """Writes into `pks` and `fates` what is decided; no two records can have one row."""

    def __init__(self, directory: Directory, findings: Findings) -> None:
        self._directory = directory
        self._findings = findings
        self.claims = Claims(directory)
        self.shared_pks: dict[InBackup, InBackup] = {}
        """New rows whose pk will be that of another new row."""

    def take(self, row: InBackup, pk: Any) -> None:
        """Let a record's row be the existing one with this pk, which no other record can be."""
        row.rows.pks[row.number] = pk
        row.rows.fates[row.number] = Fate.MATCHED

    def match_by_pk(self, row: InBackup, pk: Any) -> None:
        """Match by a comparable pk that identifies its row."""
        existing = self._directory.existing(row.rows.plan).pks
        if pk in existing:
            self.claim(row, existing[pk])
        else:
            self.create_with_pk(row, pk)

    def match_by_own_pk(self, row: InBackup) -> None:
        """Match by the pk that the record says. If it says none, and its field makes one, something
        else must tell."""
        pk = row.rows.old_pk_of(row.number)
        if pk is not None:
            self.match_by_pk(row, pk)
        elif not row.rows.plan.pk.has_default():
            self.create_with_own_pk(row)

    def keep_free_pk(self, row: InBackup) -> None:
        """Give a new row its old pk unless that is taken, or none today: then something else must
        tell."""
        rows, number = row
        pk = rows.old_pk_of(number)
        if pk is None or not rows.takes_pk(pk):
            return
        existing = self._directory.existing(rows.plan)
        if existing.is_empty or pk not in existing.pks:
            rows.pks[number] = pk

    def claim(self, row: InBackup, pk: Any) -> None:
        """Let a record's row be the existing one with this pk, unless another record is that."""
        if not self._is_claimed(row, pk):
            self.take(row, pk)

    def create_with_pk(self, row: InBackup, pk: Any) -> None:
        """Create a row with a comparable pk that identifies it."""
        if pk in self._directory.existing(row.rows.plan).pks:
            what = "a row with another natural key has the pk of this one"
            self.refuse(row, codes.NO_PK, what, pk)
        elif not self._is_claimed(row, pk):
            row.rows.pks[row.number] = pk

    def create_with_own_pk(self, row: InBackup) -> None:
        """Create a row with the pk that the record says, or that its field makes."""
        rows, number = row
        pk = rows.old_pk_of(number)
        if pk is None and rows.plan.pk.has_default():
            pk = rows.plan.pk.get_default()
        if pk is None:
            what = f"the record does not say its {rows.plan.pk.name}, and the database makes none"
            self.refuse(row, codes.NO_PK, what)
        else:
            self.create_with_pk(row, pk)

    def create_under_new_pk(self, row: InBackup) -> None:
        """Create a row whose pk will be known once others have theirs."""
        row.rows.pks[row.number] = Missing.PK

    def share_pk(self, row: InBackup, other: InBackup) -> None:
        """Create a row with the pk that another new row will get."""
        self.create_under_new_pk(row)
        self.shared_pks[row] = other

    def renumber(self, row: InBackup) -> None:
        """Create a row under a new pk, its own being taken, not said, or none today."""
        rows, number = row
        had_another = rows.has_odd_pk(number)
        if rows.plan.pk_kind is PkKind.OWN:
            self.create_with_own_pk(row)
        else:
            rows.pks[number] = Missing.PK
            had_another |= rows.old_pk_of(number) is not None
        if had_another:
            rows.fates[number] = Fate.RENUMBERED

    def refuse(
        self,
        row: InBackup,
        code: str,
        what: str,
        value: Any = ...,
        other_record: int | None = None,
    ) -> None:
        """Note what is wrong with a record; its row counts as a new one."""
        rows, number = row
        rows.pks[number] = Missing.PK
        self._findings.add(
            code,
            what,
            record=rows.record_numbers[number],
            model=rows.plan.label,
            pk=rows.old_pk_of(number),
            pk_name=rows.plan.pk.name,
            value=value,
            other_record=other_record,
        )

    def _is_claimed(self, row: InBackup, pk: Any) -> bool:
        """Whether another record has the row already, which is then noted; else this one has."""
        rows, number = row
        first = self.claims[rows.plan.label].setdefault(comparable(pk), number)
        if first == number:
            return False
        what = "another record is the same row of the database"
        self.refuse(row, codes.SAME_ROW, what, other_record=rows.record_numbers[first])
        return True
