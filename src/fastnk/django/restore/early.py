"""Checks lean rows while they are surveyed, so that they need not be decoded again for that.

Only what is plainly right is found to be so. Everything else, and all findings, are for the check
of all records.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastnk.django.restore.backup import GenericReference, References
from fastnk.django.restore.batches import Sink, Table
from fastnk.django.restore.checks import checks_of
from fastnk.django.restore.conditions import names_in
from fastnk.django.restore.directory import UNSOLVED, Directory
from fastnk.django.restore.plan import Plan, Reference
from fastnk.django.restore.reading import ShapedColumn, unfrozen
from fastnk.django.restore.rows import CHECKED, CREATED, BackupRows, InBackup
from fastnk.django.restore.survey import Lean
from fastnk.django.restore.translation import Translator
from fastnk.django.restore.uniques import UniqueColumns, needed
from fastnk.django.restore.values import REFUSALS

MOST_OPEN = 20_000
"""References of one kind that may wait for the end of the survey."""


class Looked(NamedTuple):
    """What records tell that are plainly right."""

    table: Table
    """Of new rows, in which there are no references."""
    references: References


class EarlyCheck:
    """Takes lean rows as they are met, and their references once all rows are known."""

    def __init__(
        self,
        directory: Directory,
        translator: Translator,
        uniques: UniqueColumns,
        created: Sink,
        forget: Callable[[str], None],
    ) -> None:
        """`created` is given tables of new rows, in which there are no references; `forget` is told
        the labels of which all that were given will be checked once more."""
        self._directory = directory
        self._translator = translator
        self._uniques = uniques
        self._created = created
        self._forget = forget
        self._is_plain: dict[str, bool] = {}
        """By label: whether no constraint of the model is about references."""
        self._open: dict[str, dict[Reference, set[Any]]] = defaultdict(lambda: defaultdict(set))
        """By label: references of checked records that are still to be found."""
        self._generic: dict[str, dict[str, Counter[GenericReference]]] = defaultdict(
            lambda: defaultdict(Counter)
        )
        """By label and field: the same of generic references, and how often each occurs."""

    def check(self, lean: Lean) -> None:
        """Check records whose rows were just matched."""
        rows, first, count = lean.rows, lean.first, len(lean.records)
        if not rows.all_are(first, count, CREATED) or not rows.are_decided(first):
            return
        looked = self.look(lean)
        if looked is not None and self.takes(rows, first, count, looked.references):
            self._created(looked.table)

    def look(self, lean: Lean) -> Looked | None:
        """What records tell that are plainly right; `None` where any of them is not. It does not
        count as checked by that."""
        rows, first, count, shape = lean.rows, lean.first, len(lean.records), lean.shape
        if shape is None or not self._constraints_are_plain(rows.plan):
            return None
        old_pks = lean.told_pks
        unsaid = rows.plan.unsaid(shape.names)
        if rows.plan.stated(unsaid):
            return None
        table = Table(rows, range(first, first + count), {}, True, {}, old_pks, unsaid)
        references = References({}, {})
        for column, values in shape.values(lean.records):
            if column.is_generic:
                pairs = shape.pairs(lean.records, rows.plan.generics[column.name])
                references.generic[column.name] = Counter(pairs)
            elif not self._is_right(table, references.plain, column, values):
                return None
        return Looked(table, references)

    def takes(self, rows: BackupRows, first: int, count: int, references: References) -> bool:
        """Count rows as checked but for their references, if those can wait for all rows."""
        plan = rows.plan
        if (
            self._constraints_are_plain(plan)
            and self._waits_for(plan, references.plain)
            and self._waits_for_generic(plan, references.generic)
        ):
            rows.fates[first : first + count] = CHECKED * count
            return True
        return False

    def settle(self) -> int:
        """Leave to the check of all records those that refer to nothing.

        Gives the number of generic references of the others that keep their ids.
        """
        kept = 0
        for label in {*self._open, *self._generic}:
            try:
                for reference, values in self._open[label].items():
                    for value in values:
                        self._directory.held(
                            self._directory.find(reference, unfrozen(value)), reference
                        )
                kept += self._kept(label)
            except UNSOLVED:
                self._give_up(label)
        return kept

    def _constraints_are_plain(self, plan: Plan) -> bool:
        """Whether no constraint of the model is about references, which are not known yet."""
        if plan.label not in self._is_plain:
            names = {name for unique in self._uniques.of(plan) for name in needed(unique)}
            names.update(name for _, check in checks_of(plan) for name in names_in(check))
            known = [plan.columns[name] for name in names if name in plan.columns]
            self._is_plain[plan.label] = plan.generics.keys().isdisjoint(names) and all(
                column.reference is None for column in known
            )
        return self._is_plain[plan.label]

    def _is_right(
        self,
        table: Table,
        references: dict[Reference, set[Any]],
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

    def _waits_for(self, plan: Plan, references: dict[Reference, set[Any]]) -> bool:
        """Keep references until all rows are known, if they are not too many."""
        for reference, values in references.items():
            kept = self._open[plan.label][reference]
            kept |= values
            if len(kept) > MOST_OPEN:
                kept -= {value for value in kept if self._is_met(reference, value)}
                if len(kept) > MOST_OPEN // 2:
                    return False
        return True

    def _waits_for_generic(
        self, plan: Plan, generics: dict[str, Counter[GenericReference]]
    ) -> bool:
        """The same of generic references. If they are too many, all that the model has are left to
        the check of all records, which counts those that lead nowhere."""
        for name, pairs in generics.items():
            kept = self._generic[plan.label][name]
            kept.update(pairs.elements())  # one by one, at the speed of C
            if len(kept) > MOST_OPEN:
                for pair in [pair for pair in kept if self._is_generic_met(plan, name, pair)]:
                    del kept[pair]
                if len(kept) > MOST_OPEN // 2:
                    self._give_up(plan.label)
                    return False
        return True

    def _give_up(self, label: str) -> None:
        rows = self._directory.rows_of(self._directory.plans[label])
        rows.fates = rows.fates.replace(CHECKED, CREATED)
        self._forget(label)
        self._is_plain[label] = False
        self._open.pop(label, None)
        self._generic.pop(label, None)

    def _is_met(self, reference: Reference, value: Any) -> bool:
        """Whether a reference leads to a row of the backup, whatever is still to come."""
        if reference.to_field is not None or not isinstance(value, tuple):
            return False
        try:
            return isinstance(self._directory.find(reference, unfrozen(value)), InBackup)
        except UNSOLVED:
            return False

    def _is_generic_met(self, plan: Plan, name: str, pair: GenericReference) -> bool:
        kind, value = pair
        try:
            target = self._directory.generic_target(plan, plan.generics[name], unfrozen(kind))
            return self._is_met(Reference(target.label, None), value)
        except UNSOLVED:
            return False

    def _kept(self, label: str) -> int:
        """How many generic references of a model lead nowhere and stay. Raises one of `UNSOLVED`
        if there is one that must not."""
        plan = self._directory.plans[label]
        return sum(
            count
            for name, pairs in self._generic[label].items()
            for pair, count in pairs.items()
            if self._translator.generic_value(plan, name, *map(unfrozen, pair))[1]
        )
