"""One restore: the look through the backup, the rows, and what only then can be told."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from fastnk.django.restore.ahead import FEWEST_ROWS, make_ahead
from fastnk.django.restore.backup import Done
from fastnk.django.restore.batches import Table
from fastnk.django.restore.checking import Look, Phases, Task, look_through
from fastnk.django.restore.directory import Directory
from fastnk.django.restore.engines.base import Engine, refuse_unmigrated
from fastnk.django.restore.natural_keys import CalledKey
from fastnk.django.restore.plan import PkKind
from fastnk.django.restore.processes import is_made_by_django
from fastnk.django.restore.report import RestoreOptions, RestoreReport
from fastnk.django.restore.rows import (
    ALL,
    EXISTING,
    NEW,
    UNCHANGED,
    BackupRows,
    InBackup,
    Missing,
)
from fastnk.django.restore.signalling import Sender, has_receivers
from fastnk.django.restore.streams import Rows, Stream
from fastnk.django.restore.values import as_text, comparable
from fastnk.django.restore.verifying import verify
from fastnk.django.restore.writing import Writer, changes
from fastnk.errors import RestoreError
from fastnk.processes import can_fork
from fastnk.progress import INSERT

logger = logging.getLogger(__name__)

Confirm = Callable[[RestoreReport], None]


def restore(task: Task, confirm: Confirm) -> RestoreReport:
    """A restore, or its dry run, up to the commit; for the rest see `Loader`."""
    if not task.dry_run:
        task.engine.lock()
    refuse_unmigrated(task.engine.connection)
    phases = Phases()
    look, report = look_through(task, phases)
    if not task.dry_run:
        confirm(report)
        _Writing(task, look).run(phases)
        if task.options.verify:
            with phases.timed("verify"):
                verify(task, look, report)
            report.verified = True
    report.seconds = dict(phases)
    return report


class _Writing:
    """Writes what a look through the backup has found out."""

    def __init__(self, task: Task, look: Look) -> None:
        self._look = look
        self._engine = task.engine
        self._options = task.options
        self._teller = task.teller
        self._jobs = task.jobs

    def run(self, phases: Phases) -> None:
        """Write all rows, and check what could not be before."""
        with phases.timed("write"), self._engine.stream() as stream:
            self._reserve_pks()
            self._write_rows(stream)
        self._teller.begin("constraints")
        with phases.timed("constraints"):
            self._finish()

    def _write_rows(self, stream: Stream) -> None:
        """Rows that another process can make ready first: fields of projects may write some, too,
        which must not be in the way of those of the backup."""
        ahead = self._made_ahead()

        def of_them(done: bytes) -> Done:
            return lambda rows: done if rows.plan.label in ahead else ALL

        def of_others(rows: BackupRows) -> bytes:
            return ALL if rows.plan.label in ahead else UNCHANGED

        if ahead:
            self._pass_to(stream, "update", of_them(UNCHANGED + NEW))
            make = partial(self._pass_to, phase=INSERT, done=of_them(EXISTING))
            make_ahead(make, stream, self._teller)
        self._pass_to(stream, "write", of_others)

    def _made_ahead(self) -> set[str]:
        """The labels of the models of which another process makes the new rows ready."""
        if not self._engine.IS_EMBEDDED or self._jobs == 1 or not can_fork():
            return set()
        labels = {
            plan.label
            for plan in self._look.plans
            if is_made_by_django(plan) and not self._look.has_receivers(plan)
        }
        created = sum(self._look.accounts.models[label].created for label in labels)
        return labels if created >= FEWEST_ROWS else set()

    def _pass_to(self, rows: Rows, phase: str, done: Done) -> None:
        """Write all rows that are not `done`."""
        if all(one.all_are(0, len(one), done(one)) for one in self._look.directory.in_backup):
            return
        sinks = _Sinks(self._look.directory, self._engine, rows, self._options)
        self._look.pass_on(phase, sinks.insert, sinks.update, done)
        self._look.findings.refuse()  # of values that could not be made before the new pks were

    def _reserve_pks(self) -> None:
        """Give every new row its pk, so that any row may refer to any other, and have the database
        give no pk of the backup to rows that triggers or receivers create."""
        for rows in self._numbered:
            new = rows.pks.count(Missing.PK)
            kept = itertools.chain([rows.highest_own], rows.known_pks)
            loose = self._look.directory.loose_ids[rows.plan.label]
            pks = self._engine.reserve(rows.plan.model, new, kept, loose)
            if rows.is_lean:
                rows.new_pks = pks
                continue
            for number, pk in enumerate(rows.pks):
                if pk is Missing.PK:
                    rows.pks[number] = next(pks)
        for row in self._look.decisions.shared_pks:
            self._share_pk(row)

    def _share_pk(self, row: InBackup) -> Any:
        if row.pk is Missing.PK:
            row.rows.pks[row.number] = self._share_pk(self._look.decisions.shared_pks[row])
        return row.pk

    def _finish(self) -> None:
        """Check what could not be before, and put the sequences right."""
        for rows in self._look.directory.in_backup:
            if isinstance(rows.plan.key, CalledKey):
                self._check_called_keys(rows, rows.plan.key)
        tables = self._look.tables
        self._engine.connection.check_constraints(table_names=sorted(tables))
        self._engine.reset_sequences([rows.plan.model for rows in self._numbered])
        logger.info(
            "restored %d records", sum(len(rows) for rows in self._look.directory.in_backup)
        )

    def _check_called_keys(self, rows: BackupRows, form: CalledKey) -> None:
        """Raise `RestoreError` if a new row would not be found again by its natural key.

        A method may have made it of ids, which nothing but the method itself can tell.
        """
        new = {
            comparable(pk): number
            for number, pk in enumerate(rows.pks)
            # Composite pks are not known where they hold pks of other new rows.
            if not (rows.exists(number) or isinstance(pk, Missing))
        }
        pks = map(rows.pks.__getitem__, new.values())
        for pk, key in self._look.directory.existing(rows.plan).keys_of(form, pks):
            number = new[comparable(pk)]
            wanted = rows.keys[number]
            if wanted is not None and key != wanted:
                record = self._look.findings.number_in_backup(rows.record_numbers[number])
                raise RestoreError(
                    f"record {record}: of the restored {rows.plan.label}"
                    f" {pk!r}, {form.method} makes the natural key {as_text(form.spell(key))}, but"
                    f" the backup has {as_text(form.spell(wanted))}; everything was rolled back",
                    remedy="a key must not be made of ids, or of rows that the backup leaves out",
                )

    @property
    def _numbered(self) -> list[BackupRows]:
        """The rows of models whose pks the database makes, where any of them is new."""
        return [
            rows
            for rows in self._look.directory.in_backup
            if rows.plan.pk_kind is PkKind.AUTO
            and self._look.accounts.models[rows.plan.label].created
        ]


class _Sinks:
    """Writes tables, and calls receivers of signals where that is asked for."""

    def __init__(
        self, directory: Directory, engine: Engine, rows: Rows, options: RestoreOptions
    ) -> None:
        self._directory = directory
        self._writer = Writer(directory, engine, rows)
        self._sender = Sender(engine.connection.alias, rows.end)
        self._signals = options.signals

    def insert(self, table: Table) -> None:
        pks = self._writer.pks(table)
        write = partial(self._writer.insert, table, pks)
        if self._signals and has_receivers(table.plan):
            self._sender.created(table, pks, write)
        else:
            write()

    def update(self, table: Table) -> None:
        changed = changes(self._directory, table)
        write = partial(self._writer.update, table.plan, changed)
        if self._signals and has_receivers(table.plan):
            self._sender.updated(table.plan, changed, write)
        else:
            write()
