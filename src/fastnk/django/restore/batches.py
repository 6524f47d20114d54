"""Translates records in batches: whole columns at once, and one by one what is not plain."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

from msgspec import Raw

from fastnk.django.restore.backup import Backup, Done, Record, Run
from fastnk.django.restore.columns import is_written_directly, prepared
from fastnk.django.restore.directory import UNSOLVED, Directory, Row
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.natural_keys import KeyShapeError
from fastnk.django.restore.pending import PkOf, settled
from fastnk.django.restore.plan import Plan, Reference
from fastnk.django.restore.reading import Shape, ShapedColumn, unfrozen
from fastnk.django.restore.rows import BATCH, EXISTING, BackupRows, InBackup, Missing
from fastnk.django.restore.translation import Translator
from fastnk.django.restore.values import REFUSALS, converted, refuse_unfit

MOST_REMEMBERED = 50_000
"""References of one column of which it is remembered where they lead."""


class Table(NamedTuple):
    """Rows of one model that have the same columns."""

    rows: BackupRows
    numbers: Sequence[int]
    columns: dict[str, Sequence[Any]]
    """Column name to the rows' values."""
    is_prepared: bool
    """Whether the values are as the driver takes them, not as they are in Python."""
    many: dict[str, Sequence[list[Any] | None]]
    """Field name to the pks of the rows that each row is to hold; `None` for no word of it."""
    old_pks: Sequence[Any] = ()
    """The pks that the records say, as they stand beside the fields or in a key."""
    unsaid: Sequence[str] = ()
    """The columns beside the pk of which the records say nothing."""

    @property
    def plan(self) -> Plan:
        return self.rows.plan


def only_row(row: InBackup, columns: Mapping[str, Any]) -> Table:
    """A table of one row, as it is in Python."""
    return Table(
        row.rows,
        [row.number],
        {name: [value] for name, value in columns.items()},
        is_prepared=False,
        many={},
    )


Sink = Callable[[Table], None]


class Remembered(dict[Any, Any]):
    """What `find` gives for references, which is asked once for each."""

    def __init__(self, find: Callable[[Any], Any]) -> None:
        self._find = find

    def __missing__(self, value: Any) -> Any:
        found = self._find(value)
        if len(self) == MOST_REMEMBERED:
            self.clear()
        self[value] = found
        return found


class _Batch(NamedTuple):
    """Records of one shape, or none, that become rows of one kind."""

    rows: BackupRows
    shape: Shape | None
    is_new: bool
    prepares: bool
    """Whether the values are made ready for the driver."""
    numbers: list[int]
    records: list[Any]


class Batches:
    """One pass over the backup that translates every record that may change the database."""

    def __init__(
        self,
        backup: Backup,
        directory: Directory,
        findings: Findings,
        connection: Any,
        *,
        created: Sink,
        matched: Sink,
        phase: str,
        in_python: Callable[[Plan], bool],
    ) -> None:
        """In the phase `check` the values of new rows are looked at, and do not become the
        driver's; nor do those of the models for which they are wanted in Python."""
        self._in_python = in_python
        self._backup = backup
        self._directory = directory
        self._findings = findings
        self._connection = connection
        self._created = created
        self._matched = matched
        self._phase = phase
        self._is_check = phase == "check"
        self._translator = Translator(directory, findings, connection)
        self._remembered: dict[tuple[str, str, bool], Remembered] = {}
        """Label and field of references, and whether for the driver."""
        self._whole: dict[int, Record] = {}
        """The records of the batch at hand that were looked into, by their places in it."""

    def run(self, done: Done) -> int:
        """Translate all records but those whose rows are `done`.

        Gives the number of generic references that keep their ids.
        """
        batches: dict[tuple[Any, ...], _Batch] = {}
        for run in self._backup.runs(self._phase, done):
            fates = run.rows.fates[run.first : run.first + len(run.records)]
            # Existing ones first.
            for fate in sorted(set(fates).difference(done(run.rows)), reverse=True):
                batch = self._batch_for(batches, run, fate not in EXISTING)
                if fates.count(fate) == len(fates):
                    batch.numbers.extend(range(run.first, run.first + len(fates)))
                    batch.records.extend(run.records)
                else:
                    chosen = [at for at, other in enumerate(fates) if other == fate]
                    batch.numbers.extend(run.first + at for at in chosen)
                    batch.records.extend(run.records[at] for at in chosen)
                if len(batch.numbers) >= BATCH:
                    self._flush(batch)
        for batch in batches.values():
            if batch.numbers:
                self._flush(batch)
        return self._translator.generic_kept

    def _batch_for(self, batches: dict[tuple[Any, ...], _Batch], run: Run, is_new: bool) -> _Batch:
        record = run.records[0]
        names = (type(record),) if run.shape else tuple(record["fields"])
        states_key = not run.shape and record.get("natural_key") is not None
        kind = (run.rows.plan.label, *names, is_new, states_key)
        if kind not in batches:
            batches[kind] = self._batch(run.rows, run.shape, is_new)
        return batches[kind]

    def _batch(self, rows: BackupRows, shape: Shape | None, is_new: bool) -> _Batch:
        is_direct = is_written_directly(rows.plan.model)
        prepares = is_new and is_direct and not self._in_python(rows.plan)
        return _Batch(rows, shape, is_new, prepares, [], [])

    def _flush(self, batch: _Batch) -> None:
        table = self._singly(batch) if batch.shape is None else self._at_once(batch, batch.shape)
        (self._created if batch.is_new else self._matched)(table)
        batch.numbers.clear()
        batch.records.clear()
        self._whole.clear()

    def _singly(self, batch: _Batch) -> Table:
        plan = batch.rows.plan
        records = [self._record(batch, at) for at in range(len(batch.numbers))]
        made = [self._translator.columns(record) for record in records]
        names = dict.fromkeys(name for columns in made for name in columns)
        columns: dict[str, Sequence[Any]] = {
            name: [
                self._taken(record, name, one.get(name), batch.prepares)
                for record, one in zip(records, made, strict=True)
            ]
            for name in names
        }
        held = [self._translator.many(record) for record in records]
        many: dict[str, Sequence[list[Any] | None]] = {
            name: [_pks(one[name]) if name in one else None for one in held] for name in plan.many
        }
        says = [(record.data.get("pk"), record.data.get("natural_key")) for record in records]
        old_pks = list(itertools.starmap(plan.told_pk, says))
        keys = [key for _, key in says]
        return self._table(batch, columns, many, old_pks, records[0].fields, keys)

    def _at_once(self, batch: _Batch, shape: Shape) -> Table:
        plan = shape.plan
        columns: dict[str, Sequence[Any]] = {}
        many: dict[str, Sequence[Any]] = {}
        for column, values in shape.values(batch.records):
            if self._directory.passes_over(plan, column.name):
                continue
            if column.name in plan.many:
                many[column.name] = self._many(batch, column, values)
            elif column.name in plan.columns or not self._leaves_out(plan, column, values):
                columns[column.name] = self._column(batch, column, values)
        old_pks = plan.told_pks(batch.records)
        keys = [record.natural_key for record in batch.records]
        return self._table(batch, columns, many, old_pks, shape.names, keys)

    def _table(
        self,
        batch: _Batch,
        columns: Mapping[str, Sequence[Any]],
        many: dict[str, Sequence[Any]],
        old_pks: Sequence[Any],
        said: Collection[str],
        keys: Sequence[Any],
    ) -> Table:
        """The rows of records with these fields and natural keys, which may tell more columns."""
        unsaid = batch.rows.plan.unsaid(said)
        stated = self._stated(batch, unsaid, keys)
        return Table(
            batch.rows,
            batch.numbers,
            {**columns, **stated},
            batch.prepares,
            many,
            old_pks,
            [name for name in unsaid if name not in stated],
        )

    def _stated(
        self, batch: _Batch, unsaid: Sequence[str], keys: Sequence[Any]
    ) -> dict[str, Sequence[Any]]:
        """The columns of new rows of which only the natural keys tell, if all records state one."""
        plan, form = batch.rows.plan, batch.rows.plan.spelled_key
        names = plan.stated(unsaid) if batch.is_new else []
        if not names or form is None or not all(isinstance(key, list) for key in keys):
            return {}
        try:
            read = [form.read(key) for key in keys]
        except (KeyShapeError, *REFUSALS):
            return {}  # which has been told
        return {
            name: [
                self._final(plan, name, converted(plan.columns[name].field, value), batch.prepares)
                for value in map(itemgetter(form.positions[name,]), read)
            ]
            for name in names
        }

    def _leaves_out(self, plan: Plan, column: ShapedColumn, values: Sequence[Any]) -> bool:
        return self._findings.leaves_out(f"{plan.label}.{column.name}", len(values))

    def _column(self, batch: _Batch, column: ShapedColumn, values: Sequence[Any]) -> Sequence[Any]:
        if column.plain is not None:
            try:
                if batch.prepares and self._is_check:
                    column.plain.check(values)
                    return values
                return (column.plain.driver if batch.prepares else column.plain.python)(values)
            except REFUSALS:
                pass  # one of them is not plain; which one will be found out
        if column.is_generic:
            return self._generic(batch, column.name)
        if column.is_id:
            return self._ids(batch, column.name, values)
        known = batch.rows.plan.columns.get(column.name)
        if known is None or known.reference is None or column.name in batch.rows.plan.special:
            own = partial(self._converted, batch, column.name)
            return [own(value, at) for at, value in enumerate(values)]
        if column.is_reference:
            try:
                memory = self._memory(batch, column.name, self._held)
                return list(map(memory.__getitem__, values))
            except UNSOLVED:
                pass
        return [self._referred(batch, column.name, value, at) for at, value in enumerate(values)]

    def _generic(self, batch: _Batch, name: str) -> Sequence[Any]:
        """What a column holds for generic references."""
        plan, shape = batch.rows.plan, batch.shape
        assert shape is not None
        memory = self._memory(batch, name, self._held_generic)
        held = []
        for at, pair in enumerate(shape.pairs(batch.records, plan.generics[name])):
            try:
                value, is_kept = memory[pair]
            except UNSOLVED:
                value, is_kept = self._one(batch, name, at), False
            held.append(value)
            self._translator.generic_kept += is_kept
        return held

    def _held_generic(
        self, plan: Plan, name: str, prepares: bool, pair: tuple[Any, Any]
    ) -> tuple[Any, bool]:
        """What a column holds for a generic reference, and whether it leads nowhere and stays.

        Raises one of `UNSOLVED`.
        """
        value, is_kept = self._translator.generic_value(plan, name, *map(unfrozen, pair))
        return self._final(plan, name, value, prepares), is_kept

    def _ids(self, batch: _Batch, name: str, values: Sequence[Any]) -> list[Any]:
        """What a column holds for ids of which no relation tells."""
        memory = self._memory(batch, name, self._held_id)
        held = []
        for at, value in enumerate(values):
            try:
                # What equals a number, as true does, is none.
                held.append(memory[value] if type(value) is int else self._one(batch, name, at))
            except UNSOLVED:
                held.append(self._one(batch, name, at))
        return held

    def _held_id(self, plan: Plan, name: str, prepares: bool, value: int) -> Any:
        """What a column holds for an id of which no relation tells. Raises one of `UNSOLVED`."""
        return self._final(plan, name, self._translator.value_of_id(plan, name, value), prepares)

    def _memory(self, batch: _Batch, name: str, held: Callable[..., Any]) -> Remembered:
        """What a column holds for values met before, as `held` says of each."""
        plan, prepares = batch.rows.plan, batch.prepares
        find = partial(held, plan, name, prepares)
        return self._remembered.setdefault((plan.label, name, prepares), Remembered(find))

    def _converted(self, batch: _Batch, name: str, value: Any, at: int) -> Any:
        """A value by the field's own conversion; `Missing.VALUE`, and a finding, if it refuses."""
        plan = batch.rows.plan
        column = plan.columns.get(name)
        if column is None or name in plan.special or isinstance(value, Raw):
            return self._one(batch, name, at)
        if value is None and not column.field.null:
            return self._one(batch, name, at)
        try:
            python = converted(column.field, value)
            refuse_unfit(column.field, python, self._connection)
            return self._final(plan, name, python, batch.prepares)
        except REFUSALS:
            return self._one(batch, name, at)

    def _referred(self, batch: _Batch, name: str, value: Any, at: int) -> Any:
        """What a column holds for a reference; `Missing.VALUE`, and a finding, if it dangles."""
        try:
            return self._held(batch.rows.plan, name, batch.prepares, value)
        except UNSOLVED:
            return self._one(batch, name, at)

    def _held(self, plan: Plan, name: str, prepares: bool, value: Any) -> Any:
        """What a column holds for a reference. Raises one of `UNSOLVED`."""
        column = plan.columns[name]
        assert column.reference is not None
        if value is None and column.field.null:
            return None
        row = self._directory.find(column.reference, unfrozen(value))
        held = self._directory.held(row, column.reference)
        if isinstance(held, Row):
            held = PkOf(held, column.field)
        return self._final(plan, name, held, prepares)

    def _many(
        self, batch: _Batch, column: ShapedColumn, values: Sequence[Any]
    ) -> list[list[Any] | None]:
        plan, name = batch.rows.plan, column.name
        if column.is_reference:
            find = partial(self._target, plan.many[name].reference)
            memory = self._remembered.setdefault((plan.label, name, True), Remembered(find))
            try:
                return [list(dict.fromkeys(map(memory.__getitem__, value))) for value in values]
            except UNSOLVED:
                pass
        held = [self._translator.many(self._record(batch, at)) for at in range(len(values))]
        return [_pks(many[name]) if name in many else None for many in held]

    def _target(self, reference: Reference, value: Any) -> Any:
        """The pk of what one of many keys or ids means. Raises one of `UNSOLVED`."""
        row = self._directory.find(reference, unfrozen(value))
        return PkOf(row, self._directory.plans[reference.target].pk).value

    def _one(self, batch: _Batch, name: str, at: int) -> Any:
        """A value by itself; `Missing.VALUE`, and a finding, where it cannot be."""
        record = self._record(batch, at)
        return self._taken(record, name, self._translator.column(record, name), batch.prepares)

    def _taken(self, record: Record, name: str, value: Any, prepares: bool) -> Any:
        """`_final` of a value; `Missing.VALUE`, and a finding, where its field takes the value and
        still cannot give it to the driver."""
        try:
            return self._final(record.plan, name, value, prepares)
        except REFUSALS as error:
            self._translator.refuse(record, name, error, record.raw(name))
            return Missing.VALUE

    def _final(self, plan: Plan, name: str, value: Any, prepares: bool) -> Any:
        now = settled(value)
        if now is Missing.PK and self._is_check and isinstance(value, PkOf):
            return value.row  # which row it is can be told, and its pk not yet
        if not prepares or name not in plan.columns:
            return now
        made = prepared(plan.columns[name].field, now, self._connection)
        return now if self._is_check else made

    def _record(self, batch: _Batch, at: int) -> Record:
        if at not in self._whole:
            rows, number = batch.rows, batch.numbers[at]
            self._whole[at] = self._backup.record(rows, number, batch.records[at])
        return self._whole[at]


def _pks(targets: list[Any]) -> list[Any]:
    return [target.value for target in targets]
