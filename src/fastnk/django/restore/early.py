"""Checks lean rows while they are surveyed, so that they need not be decoded again for that.

Only what is plainly right is found to be so. Everything else, and all findings, are for the check
of all records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from fastnk.django.restore.backup import Lean
from fastnk.django.restore.batches import Sink, Table
from fastnk.django.restore.checks import checks_of
from fastnk.django.restore.conditions import names_in
from fastnk.django.restore.directory import UNSOLVED, Directory
from fastnk.django.restore.plan import Plan, Reference
from fastnk.django.restore.reading import ShapedColumn, unfrozen
from fastnk.django.restore.rows import CHECKED, CREATED, InBackup
from fastnk.django.restore.uniques import UniqueColumns
from fastnk.django.restore.values import REFUSALS

MOST_OPEN = 20_000
"""References of one kind that may wait for the end of the survey."""


Referrer = Reference | tuple[str, str]
"""A reference that values make, or a generic one: the label and the field that holds the ids."""


class EarlyCheck:
    """Takes lean rows as they are met, and their references once all rows are known."""

    def __init__(self, directory: Directory, uniques: UniqueColumns, created: Sink) -> None:
        """`created` is given tables of new rows, in which there are no references."""
        self._directory = directory
        self._uniques = uniques
        self._created = created
        self._is_plain: dict[str, bool] = {}
        """By label: whether no constraint of the model is about references."""
        self._open: dict[str, dict[Referrer, set[Any]]] = defaultdict(lambda: defaultdict(set))
        """By label: references of checked records that are still to be found."""

    def check(self, lean: Lean) -> None:
        """Check records whose rows were just matched."""
        rows, first, count, shape = lean.rows, lean.first, len(lean.records), lean.shape
        if shape is None or not rows.all_are(first, count, CREATED):
            return
        if not rows.are_decided(first) or not self._constraints_are_plain(rows.plan):
            return
        old_pks = [record.pk for record in lean.records]
        table = Table(rows, range(first, first + count), {}, True, {}, old_pks)
        references: dict[Referrer, set[Any]] = {}
        for column, values in shape.values(lean.records):
            if column.is_generic:
                kinds = shape.column(lean.records, rows.plan.generics[column.name].kind)
                pairs = zip(kinds, values, strict=True)
                is_right = self._takes_generic(rows.plan, references, column.name, pairs)
            else:
                is_right = self._takes(table, references, column, values)
            if not is_right:
                return
        if self._waits_for(rows.plan, references):
            rows.fates[first:] = CHECKED * count
            self._created(table)

    def settle(self) -> None:
        """Leave to the check of all records those that refer to nothing."""
        for label, references in self._open.items():
            if not all(
                self._leads_somewhere(reference, value)
                for reference, values in references.items()
                for value in values
            ):
                rows = self._directory.backup(self._directory.plans[label])
                rows.fates = rows.fates.replace(CHECKED, CREATED)

    def _constraints_are_plain(self, plan: Plan) -> bool:
        """Whether no constraint of the model is about references, which are not known yet."""
        if plan.label not in self._is_plain:
            names = {name for unique in self._uniques.of(plan) for name in unique.needed}
            names.update(name for _, check in checks_of(plan) for name in names_in(check))
            known = [plan.columns[name] for name in names if name in plan.columns]
            self._is_plain[plan.label] = plan.generics.keys().isdisjoint(names) and all(
                column.reference is None for column in known
            )
        return self._is_plain[plan.label]

    def _takes(
        self,
        table: Table,
        references: dict[Referrer, set[Any]],
        column: ShapedColumn,
        values: Sequence[Any],
    ) -> bool:
        """Whether nothing is wrong with a column, as far as can be told by now."""
        known = table.plan.columns.get(column.name)
        if known is None or known.field.primary_key:
            return column.name in table.plan.generated.keys() | table.plan.made_of_others
        if column.plain is not None:
            try:
                column.plain.check(values)
            except REFUSALS:
                return False
            table.columns[column.name] = values
            return True
        if known.reference is None or not column.is_reference:
            return False
        some = references.setdefault(known.reference, set())
        some.update(values)
        if known.field.null:
            some.discard(None)
        return None not in some

    def _takes_generic(
        self,
        plan: Plan,
        references: dict[Referrer, set[Any]],
        name: str,
        pairs: Iterable[tuple[Any, Any]],
    ) -> bool:
        """Whether generic references, with what names their models, are keys or may be null."""
        some = references.setdefault((plan.label, name), set())
        some.update(pairs)
        if plan.columns[name].field.null:
            some -= {pair for pair in some if pair[1] is None}
        return all(kind is not None and isinstance(value, tuple) for kind, value in some)

    def _waits_for(self, plan: Plan, references: dict[Referrer, set[Any]]) -> bool:
        """Keep references until all rows are known, if they are not too many."""
        for reference, values in references.items():
            kept = self._open[plan.label][reference]
            kept |= values
            if len(kept) > MOST_OPEN:
                kept -= {value for value in kept if self._is_met(reference, value)}
            if len(kept) > MOST_OPEN // 2:
                return False
        return True

    def _is_met(self, reference: Referrer, value: Any) -> bool:
        """Whether a reference leads to a row of the backup, whatever is still to come."""
        try:
            reference, value = self._plainly(reference, value)
            if reference.to_field is not None or not isinstance(value, tuple):
                return False
            return isinstance(self._directory.find(reference, unfrozen(value)), InBackup)
        except UNSOLVED:
            return False

    def _leads_somewhere(self, reference: Referrer, value: Any) -> bool:
        try:
            reference, value = self._plainly(reference, value)
            self._directory.held(self._directory.find(reference, unfrozen(value)), reference)
        except UNSOLVED:
            return False
        return True

    def _plainly(self, reference: Referrer, value: Any) -> tuple[Reference, Any]:
        """A generic reference as others are. Raises one of `UNSOLVED`."""
        if isinstance(reference, Reference):
            return reference, value
        label, name = reference
        kind, key = value
        plan = self._directory.plans[label]
        target = self._directory.generic_target(plan, plan.generics[name], unfrozen(kind))
        return Reference(target.label, None), key
