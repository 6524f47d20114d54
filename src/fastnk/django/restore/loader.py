"""Puts converted records into the database of the configured Django project."""

from __future__ import annotations

import gc
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple
from uuid import uuid4

from django.db import Error as DatabaseFault
from django.db import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    connections,
    router,
    transaction,
)
from django.utils.connection import ConnectionDoesNotExist

from fastnk.django.restore import checks, ledger
from fastnk.django.restore.accounting import Accounts
from fastnk.django.restore.ahead import FEWEST_ROWS, can_fork, is_made_by_django, make_ahead
from fastnk.django.restore.backup import Backup, Done
from fastnk.django.restore.batches import Batches, Sink, Table
from fastnk.django.restore.directory import Directory
from fastnk.django.restore.discretion import reason, remedy_for
from fastnk.django.restore.early import EarlyCheck
from fastnk.django.restore.engines import engine_of
from fastnk.django.restore.engines.base import Engine, refuse_unmigrated
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.matching import Matcher
from fastnk.django.restore.natural_keys import CalledKey
from fastnk.django.restore.plan import PkKind, Plan, Plans
from fastnk.django.restore.reading import Chunks
from fastnk.django.restore.renaming import refuse_unfit
from fastnk.django.restore.report import RestoreOptions, RestoreReport, RestoreTarget
from fastnk.django.restore.rows import (
    ALL,
    CHECKED,
    EXISTING,
    NEW,
    UNCHANGED,
    BackupRows,
    InBackup,
    Missing,
)
from fastnk.django.restore.signalling import Sender, has_receivers, receivers
from fastnk.django.restore.streams import Rows, Stream
from fastnk.django.restore.survey import Lean, Survey
from fastnk.django.restore.translation import Translator
from fastnk.django.restore.uniques import UniqueColumns
from fastnk.django.restore.values import as_text, comparable, misreads
from fastnk.django.restore.writing import Writer, changes
from fastnk.errors import (
    FindingsError,
    NotRestoredError,
    OutcomeUnknownError,
    Place,
    RestoreError,
    UsageError,
)
from fastnk.lanes import processors
from fastnk.progress import INSERT, Teller
from fastnk.renames import Renames
from fastnk.schema import Schema

logger = logging.getLogger(__name__)

Confirm = Callable[[RestoreReport], None]


class Loader:
    """Loads records into a database of a Django project that is set up, all or nothing."""

    def __init__(
        self,
        schema: Schema,
        database: str = "default",
        *,
        dry_run: bool = False,
        options: RestoreOptions | None = None,
        renames: Renames | None = None,
        jobs: int | None = None,
        teller: Teller | None = None,
    ) -> None:
        """With more than one of `jobs`, which is the number of processors unless given, another
        process may make rows ready. Raises `UsageError` for an alias that the project does not
        have, or an engine that restores do not know, and `RenameError` for new names that the
        project does not have."""
        self.schema = schema
        self.options = options or RestoreOptions()
        self.renames = renames or Renames()
        refuse_unfit(self.renames)
        self.jobs = jobs or processors()
        self.teller = teller or Teller(None)
        self._database = database
        self.dry_run = dry_run
        try:
            self._connection = connections[database]
        except ConnectionDoesNotExist:
            known = ", ".join(connections)
            raise UsageError(
                f'the project has no database "{database}"', remedy=f"one of: {known}"
            ) from None
        self.engine = engine_of(self._connection)

    @property
    def target(self) -> RestoreTarget:
        settings = self._connection.settings_dict
        return RestoreTarget(
            database=self._database,
            engine=self._connection.vendor,
            name=str(settings["NAME"]),
            host=str(settings["HOST"]),
        )

    def load(
        self,
        chunks: Chunks,
        name: str | None = None,
        *,
        labels: Collection[str] | None = None,
        number_in_backup: Callable[[int], int] = int,
        confirm: Confirm | None = None,
    ) -> RestoreReport:
        """Restore the records in `chunks`, which are read three times or four.

        `name` is what findings call the backup, `labels` are those of its records there, and
        `number_in_backup` makes of a record's number in the chunks the one it has there. `confirm`
        is told what will be done, before the first row is written, and raises to stop it. Raises
        `FindingsError` and `RenameError` before that, `LockedError` while another restore is under
        way, and `RestoreError` where the database refuses; it is then as it was before.
        """
        self.engine.keep_alive()
        restore = _Restore(self, Given(chunks, name, labels, number_in_backup))
        token = uuid4().hex
        report: RestoreReport | None = None
        try:
            with (
                _without_collector(),
                self.engine.session(),
                transaction.atomic(using=self._database),
            ):
                done = restore.run(confirm)
                if not self.dry_run and done.created + done.updated:
                    ledger.note(self.engine, token, name)
                    self.teller.begin("commit")
                report = done  # from here on only COMMIT can fail
            return done
        except IntegrityError as error:
            raise self._failed(
                error, "mend the backup or the rows named, then restore again"
            ) from error
        except DatabaseFault as error:
            if report is not None and self._came_through(token, error):
                return report
            check = f"python manage.py migrate --check --database {self._database}"
            remedy = remedy_for(error) or check
            raise self._failed(error, remedy) from error

    def _came_through(self, token: str, error: Exception) -> bool:
        """Whether the restore is in the database although the answer to COMMIT was lost."""
        if not isinstance(error, OperationalError | InterfaceError):
            return False
        try:
            return ledger.is_noted(self.engine, token)
        except (DatabaseFault, TimeoutError) as fault:
            raise OutcomeUnknownError(
                f"the answer to COMMIT was lost ({reason(error)}), and the database does not"
                f" answer ({reason(fault)}): the backup is restored whole, or not at all",
                remedy=f"SELECT * FROM {ledger.TABLE} WHERE token = '{token}'; a row: restored",
            ) from error

    def _failed(self, error: Exception, remedy: str) -> RestoreError:
        return RestoreError(
            f'database "{self._database}": {reason(error)}; nothing was changed', remedy=remedy
        )


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep Python's collector of cycles away: it would walk over all rows again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Given(NamedTuple):
    """A backup as `Loader.load` gets it."""

    chunks: Chunks
    name: str | None
    labels: Collection[str] | None
    number_in_backup: Callable[[int], int] = int


class _Restore:
    """One restore, inside its transaction."""

    def __init__(self, loader: Loader, given: Given) -> None:
        self._loader = loader
        self._given = given
        self._renames = loader.renames
        self._seconds: dict[str, float] = {}
        self._target = loader.target
        self._options = loader.options
        self._dry_run = loader.dry_run
        self._engine = loader.engine
        self._connection = self._engine.connection
        self._left_out: dict[int, str] = {}
        """The records whose references nothing answers, by number, and the field concerned."""
        self._superseded: dict[int, str] = {}
        """Those that later ones make up for, and their labels."""
        self._start({}, set())

    def _start(self, weak: dict[str, str], named: set[str]) -> None:
        """Begin, or begin again: with models whose natural keys count as none, and why, and with
        those that generic relations lead to."""
        options, database = self._options, self._target.database
        self._weak = weak
        self._named = named
        self._findings = Findings(
            self._given.name,
            self._given.number_in_backup,
            ignore_nonexistent=options.ignore_nonexistent,
            keeps_generic=options.keep_generic,
            on_dangling=options.on_dangling,
            last_counts=options.last_counts,
        )
        labels = self._given.labels and list(map(self._renames.label, self._given.labels))
        plans = Plans(
            self._loader.schema, database, weak, self._renames, options.on_json_text, labels or ()
        )
        self._naming = plans.naming
        self._directory = Directory(
            plans,
            self._engine,
            labels,
            named=named,
            keeps_names=options.diff,
            keeps_ids=options.on_dangling == "keep",
        )
        self._backup = Backup(
            self._given.chunks,
            self._directory,
            self._connection,
            left_out=self._left_out | self._superseded,
            count_rows=self._loader.teller.count_rows,
        )
        self._survey = Survey(
            self._backup,
            self._directory,
            self._findings,
            self._meet_lean,
            null_keys=options.null_keys,
        )
        self._keys = self._survey.keys
        self._matcher = Matcher(
            self._backup,
            self._keys,
            self._directory,
            self._findings,
            self._connection,
            duplicate_keys=options.duplicate_keys,
        )
        self._uniques = UniqueColumns(self._directory, self._findings, self._engine)
        self._accounts = Accounts(self._directory, self._findings, options)
        translator = Translator(self._directory, self._findings, self._connection)
        self._early = EarlyCheck(
            self._directory,
            translator,
            self._uniques,
            self._check_created,
            self._accounts.forget,
        )

    def run(self, confirm: Confirm | None) -> RestoreReport:
        """The restore, or the dry run, up to the commit."""
        if not self._dry_run:
            self._engine.lock()
        refuse_unmigrated(self._connection)
        report = self.checked()
        if not self._dry_run:
            if confirm is not None:
                confirm(report)
            self._write()
            if self._options.verify:
                self._verify()
                report.verified = True
        report.seconds = self._seconds
        return report

    def _write(self) -> None:
        with self._phase("write"), self._engine.stream() as stream:
            self._reserve_pks()
            self._write_rows(stream)
        self._loader.teller.begin("constraints")
        with self._phase("constraints"):
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
            make_ahead(make, stream, self._loader.teller)
        self._pass_to(stream, "write", of_others)

    def _made_ahead(self) -> set[str]:
        """The labels of the models of which another process makes the new rows ready."""
        if not self._engine.IS_EMBEDDED or self._loader.jobs == 1 or not can_fork():
            return set()
        labels = {
            plan.label
            for plan in self._plans
            if is_made_by_django(plan) and not self._has_receivers(plan)
        }
        created = sum(self._accounts.models[label].created for label in labels)
        return labels if created >= FEWEST_ROWS else set()

    def _pass_to(self, rows: Rows, phase: str, done: Done) -> None:
        """Write all rows that are not `done`."""
        if all(one.all_are(0, len(one), done(one)) for one in self._directory.in_backup):
            return
        sinks = _Sinks(self._directory, self._engine, rows, self._options)
        self._pass_on(phase, sinks.insert, sinks.update, done)
        self._findings.refuse()  # of values that could not be made before the new pks were

    def _has_receivers(self, plan: Plan) -> bool:
        """Whether somebody is to be called about rows of a model."""
        return self._options.signals and has_receivers(plan)

    def _verify(self) -> None:
        """Read everything back. Raises `NotRestoredError` where it is not what the backup says."""
        try:
            with self._phase("verify"):
                restore = _Restore(self._loader, self._given)
                again = restore.checked()
        except FindingsError as error:
            differs = f"{error.total:,} records clash with what is there"
            place: Place | str = error.findings[0].place
            differs += f", the first: {error.findings[0].code} {error.findings[0].what}"
        else:
            if not again.created and not again.updated:
                return
            differs = f"{again.created:,} records are not there and {again.updated:,} differ"
            counts = again.models.items()
            labels = [label for label, one in counts if one.created or one.updated]
            place = ", ".join(map(restore.what_changes, labels))
        raise NotRestoredError(
            f"read back, {differs}; everything was rolled back",
            place=place,
            remedy="triggers of the database, or conversions of fields, may change values",
        )

    def what_changes(self, label: str) -> str:
        """A model, and the fields in which its existing rows change."""
        fields = sorted(self._accounts.changing[label])
        return f"{label} ({', '.join(fields)})" if fields else label

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds[name] = round(time.perf_counter() - started, 3)

    def checked(self) -> RestoreReport:
        """What will be done. Raises `FindingsError` for whatever is wrong with the backup.

        Fields may write rows of their own when they are asked for values, as those that encrypt
        do; such rows would stay behind a dry run, and be in the way of those of the backup.
        """
        database = self._target.database
        while True:
            with transaction.atomic(using=database):
                report = self._looked_through()
                transaction.set_rollback(True, using=database)
            if report is not None:
                return report
            # What refers to these records refers to nothing from now on.
            self._left_out |= self._findings.unanswered
            self._superseded |= self._findings.superseded
            self._start(self._weak | self._keys.weak, self._named)

    def _looked_through(self) -> RestoreReport | None:
        """What will be done; `None` where more records are to be left out, or more natural keys
        turned out to tell nothing."""
        with self._phase("read"):
            self._read()
        if self._findings.superseded:
            return None
        self._loader.teller.begin("match")
        with self._phase("match"):
            self._matcher.match()
        if self._keys.weak:
            return None
        with self._phase("check"):
            self._generic_kept += self._pass_on(
                "check", self._check_created, self._check_matched, lambda rows: CHECKED
            )
            if self._findings.unanswered:
                return None
            renamed = self._naming.counts()
            self._findings.stop_counting()
            if self._uniques.find_repeated():
                look_again = self._uniques.look_again
                self._pass_on("check", look_again, look_again, lambda rows: UNCHANGED)
            self._findings.refuse()
            self._engine.refuse_tables(_touched_tables(self._plans, self._target.database))
            self._accounts.count_unknown()
        return RestoreReport(
            database=self._target.database,
            engine=self._target.engine,
            name=self._target.name,
            dry_run=self._dry_run,
            models=dict(self._accounts.models),
            privileges=self._accounts.privileges,
            differences=self._accounts.differences,
            receivers=receivers(self._plans),
            left_out=dict(self._findings.left_out),
            superseded=dict(Counter(self._superseded.values())),
            let_go=dict(self._findings.let_go + Counter(self._left_out.values())),
            renamed=renamed,
            generic_kept=self._generic_kept,
            weak_keys=self._weak,
            misread=self._misread,
            schema=self._engine.schema(),
        )

    @property
    def _plans(self) -> list[Plan]:
        """Of the models that the backup holds."""
        return [rows.plan for rows in self._directory.in_backup]

    @property
    def _misread(self) -> list[str]:
        return [
            f"{plan.label}.{name}"
            for plan in self._plans
            for name, column in plan.columns.items()
            if column.reference is None and misreads(column.field)
        ]

    def _read(self) -> None:
        """Read all records; again without the natural keys that do not tell them apart, and with
        all rows of models that generic relations turn out to lead to."""
        while True:
            self._survey.run()
            weak, named = self._keys.weak, self._survey.lean_but_named()
            if not (weak or named):
                break
            self._start(self._weak | weak, self._named | named)
        self._generic_kept = self._early.settle()

    def _meet_lean(self, lean: Lean) -> None:
        self._matcher.match_lean(lean)
        self._early.check(lean)

    def _check_created(self, table: Table) -> None:
        self._uniques.look(table)
        checks.look(table, self._findings, self._engine)
        self._accounts.created(table)

    def _check_matched(self, table: Table) -> None:
        changed = changes(self._directory, table)
        self._uniques.look(table, changed)
        checks.look(table, self._findings, self._engine)
        self._accounts.matched(table, changed)

    def _pass_on(self, phase: str, created: Sink, matched: Sink, done: Done) -> int:
        """Translate all records but those that are `done`, and pass them on in batches.

        Gives the number of generic references that keep their ids.
        """
        batches = Batches(
            self._backup,
            self._directory,
            self._findings,
            self._connection,
            created=created,
            matched=matched,
            phase=phase,
            in_python=self._has_receivers,
        )
        return batches.run(done)

    @property
    def _numbered(self) -> list[BackupRows]:
        """The rows of models whose pks the database makes, where any of them is new."""
        return [
            rows
            for rows in self._directory.in_backup
            if rows.plan.pk_kind is PkKind.AUTO and self._accounts.models[rows.plan.label].created
        ]

    def _reserve_pks(self) -> None:
        """Give every new row its pk, so that any row may refer to any other, and have the database
        give no pk of the backup to rows that triggers or receivers create."""
        for rows in self._numbered:
            new = rows.pks.count(Missing.PK)
            told = (pk for pk in rows.pks if not isinstance(pk, Missing))
            kept = itertools.chain([rows.highest_own], told)
            loose = self._directory.loose_ids[rows.plan.label]
            pks = self._engine.reserve(rows.plan.model, new, kept, loose)
            if rows.is_lean:
                rows.new_pks = pks
                continue
            for number, pk in enumerate(rows.pks):
                if pk is Missing.PK:
                    rows.pks[number] = next(pks)
        for row in self._matcher.decisions.shared_pks:
            self._share_pk(row)

    def _share_pk(self, row: InBackup) -> Any:
        if row.pk is Missing.PK:
            row.rows.pks[row.number] = self._share_pk(self._matcher.decisions.shared_pks[row])
        return row.pk

    def _finish(self) -> None:
        """Check what could not be before, and put the sequences right."""
        for rows in self._directory.in_backup:
            if isinstance(rows.plan.key, CalledKey):
                self._check_called_keys(rows, rows.plan.key)
        tables = _touched_tables(self._plans, self._target.database)
        self._connection.check_constraints(table_names=sorted(tables))
        self._engine.reset_sequences([rows.plan.model for rows in self._numbered])
        logger.info("restored %d records", sum(len(rows) for rows in self._directory.in_backup))

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
        for pk, key in self._directory.existing(rows.plan).keys_of(form, pks):
            number = new[comparable(pk)]
            wanted = rows.keys[number]
            if wanted is not None and key != wanted:
                raise RestoreError(
                    f"record {rows.record_numbers[number]}: of the restored {rows.plan.label}"
                    f" {pk!r}, {form.method} makes the natural key {as_text(form.spell(key))}, but"
                    f" the backup has {as_text(form.spell(wanted))}; everything was rolled back",
                    remedy="a key must not be made of ids, or of rows that the backup leaves out",
                )


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


def _touched_tables(plans: list[Plan], database: str) -> set[str]:
    """The tables of a database in which a reference may be broken: those written, and those that
    hold values of other columns than pks, which an update may change."""
    tables = {plan.model._meta.db_table for plan in plans}
    tables |= {many.through._meta.db_table for plan in plans for many in plan.many.values()}
    for plan in plans:
        for relation in plan.model._meta.related_objects:
            field = relation.field
            if (
                relation.one_to_many
                and field.concrete
                and not field.target_field.primary_key
                and router.allow_migrate_model(database, relation.related_model)
            ):
                tables.add(relation.related_model._meta.db_table)
    return tables
