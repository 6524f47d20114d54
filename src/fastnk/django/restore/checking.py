"""Looks through a whole backup before anything is written: what will be done, and what is wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

from django.db import router, transaction
from msgspec import Struct
from msgspec.structs import replace

from fastnk.django.restore import checks
from fastnk.django.restore.accounting import Accounts
from fastnk.django.restore.backup import Backup, Done, Part, PlainRun, Share
from fastnk.django.restore.batches import Batches, Sink, Table
from fastnk.django.restore.defaults import (
    note_dangling_defaults,
    refuse_dangling_defaults,
    refuse_unfit_defaults,
    with_defaults,
)
from fastnk.django.restore.directory import Directory
from fastnk.django.restore.early import EarlyCheck
from fastnk.django.restore.engines.base import Engine
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.matching import Matcher
from fastnk.django.restore.plain import FEWEST_RECORDS, PlainLook, alone, shared
from fastnk.django.restore.plan import Plan
from fastnk.django.restore.plans import Plans
from fastnk.django.restore.reading import Chunks
from fastnk.django.restore.report import RestoreOptions, RestoreReport, RestoreTarget
from fastnk.django.restore.rows import CHECKED, UNCHANGED
from fastnk.django.restore.signalling import has_receivers, receivers
from fastnk.django.restore.survey import Lean, Survey
from fastnk.django.restore.together import referring
from fastnk.django.restore.translation import Translator
from fastnk.django.restore.uniques import UniqueColumns
from fastnk.django.restore.values import misreads
from fastnk.django.restore.writing import changes
from fastnk.processes import can_fork
from fastnk.progress import Teller
from fastnk.renames import Renames
from fastnk.schema import Schema


class Task(NamedTuple):
    """What is restored, and into what."""

    chunks: Chunks
    name: str | None
    """What findings call the backup."""
    counts: Mapping[str, int] | None
    """How many records of each label there are."""
    number_in_backup: Callable[[int], int]
    """Makes of a record's number in the chunks the one it has in the backup."""
    schema: Schema
    renames: Renames
    options: RestoreOptions
    engine: Engine
    target: RestoreTarget
    dry_run: bool
    jobs: int
    teller: Teller


class Phases(dict[str, float]):
    """How many seconds each took."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self[name] = round(self.get(name, 0) + time.perf_counter() - started, 3)


class Known(Struct, frozen=True):
    """What earlier looks through a backup found out, because of which it is looked through again.

    What refers to a record that is left out refers to nothing from then on.
    """

    weak: dict[str, str] = {}
    """The models whose natural keys count as none, and why."""
    named: set[str] = set()
    """The models to which generic relations lead."""
    left_out: dict[int, str] = {}
    """The records whose references nothing answers, by number, and the field concerned."""
    superseded: dict[int, str] = {}
    """Those that later ones make up for, and their labels."""


class Look:
    """One look through a backup; the last one has found out what to write."""

    def __init__(self, task: Task, known: Known) -> None:
        self._task = task
        self._known = known
        self._engine = task.engine
        options, connection = task.options, task.engine.connection
        self.findings = Findings(
            task.name,
            task.number_in_backup,
            ignore_nonexistent=options.ignore_nonexistent,
            keeps_generic=options.keep_generic,
            on_dangling=options.on_dangling,
            last_counts=options.last_counts,
        )
        self.directory = _directory(task, known)
        parts = (self.directory, self.findings)
        self._backup = Backup(
            task.chunks,
            self.directory,
            connection,
            left_out=known.left_out | known.superseded,
            count_rows=task.teller.count_rows,
        )
        null_keys, duplicate_keys = options.null_keys, options.duplicate_keys
        meets = self._meet_lean, self._meet_plain
        self._survey = Survey(self._backup, *parts, *meets, null_keys=null_keys)
        self._keys = self._survey.keys
        self._matcher = Matcher(
            self._backup, self._keys, *parts, connection, duplicate_keys=duplicate_keys
        )
        self.decisions = self._matcher.decisions
        self._uniques = UniqueColumns(*parts, self._engine)
        self.accounts = Accounts(*parts, options)
        translator = Translator(*parts, connection)
        self._early = EarlyCheck(
            self.directory, translator, self._uniques, self._check_created, self.accounts.forget
        )
        self._generic_kept = 0
        self._renamed: dict[str, int] = {}

    def run(self, phases: Phases) -> RestoreReport | Known:
        """What will be done; or what is known by now, if that calls for another look.

        Raises `FindingsError` for whatever is wrong with the backup.
        """
        for name, step in (("read", self.read), ("match", self._match), ("check", self._check)):
            with phases.timed(name):
                known = step()
            if known is not None:
                return known
        return self._report()

    def read(self) -> Known | None:
        """Read all records for the first time, and what they refer to."""
        known = self._known
        # The loader asked the same before; other columns tell rows apart where keys count as none.
        refuse_unfit_defaults(self.directory.plans, self._engine.connection)
        with self._shared() as share:
            self._survey.run(share)
        weak, named = self._keys.weak, self._survey.lean_but_named()
        if weak or named:
            return replace(known, weak=known.weak | weak, named=known.named | named)
        if self.findings.superseded:
            return replace(known, superseded=known.superseded | self.findings.superseded)
        self._generic_kept = self._early.settle()
        return None

    def _shared(self) -> AbstractContextManager[Share]:
        """Who looks at which part of the backup in the survey."""
        counts, known = self._task.counts, self._known
        is_as_it_stands = not (known.left_out or known.superseded or self.directory.plans.naming)
        if counts and is_as_it_stands and self._task.jobs > 1 and can_fork():
            parts = (self._backup, self.directory, self.findings, self._early, self._uniques)
            look = PlainLook(*parts, self._engine)
            if look.expect(counts) >= FEWEST_RECORDS:
                return shared(look)
        return nullcontext(alone)

    def pass_on(self, phase: str, created: Sink, matched: Sink, done: Done) -> int:
        """Translate all records but those that are `done`, and pass them on in batches.

        Gives the number of generic references that keep their ids.
        """
        batches = Batches(
            self._backup,
            self.directory,
            self.findings,
            self._engine.connection,
            created=created,
            matched=matched,
            phase=phase,
            in_python=self.has_receivers,
        )
        return batches.run(done)

    def has_receivers(self, plan: Plan) -> bool:
        """Whether somebody is to be called about rows of a model."""
        return self._task.options.signals and has_receivers(plan)

    @property
    def plans(self) -> list[Plan]:
        """Of the models that the backup holds."""
        return [rows.plan for rows in self.directory.in_backup]

    @property
    def tables(self) -> set[str]:
        """The tables in which a reference may be broken: those written, and those that hold values
        of other columns than pks, which an update may change."""
        tables = {plan.model._meta.db_table for plan in self.plans}
        tables |= {
            many.through._meta.db_table for plan in self.plans for many in plan.many.values()
        }
        relations = [one for plan in self.plans for one in plan.model._meta.related_objects]
        for relation in relations:
            field = relation.field
            if (
                relation.one_to_many
                and field.concrete
                and not field.target_field.primary_key
                and router.allow_migrate_model(self._task.target.database, relation.related_model)
            ):
                tables.add(relation.related_model._meta.db_table)
        return tables

    def _meet_lean(self, lean: Lean) -> None:
        self._matcher.match_lean(lean)
        self._early.check(lean)

    def _meet_plain(self, part: Part, told: PlainRun) -> None:
        part.rows.create(part.first, told.new_pks)
        if self._early.takes(*part, told.references):
            self._uniques.add(told.label, told.uniques)
            numbers = range(part.first, part.first + part.length)
            self.accounts.created(Table(part.rows, numbers, {}, True, {}))

    def _match(self) -> Known | None:
        self._task.teller.begin("match")
        self._matcher.match()
        weak = self._keys.weak
        return replace(self._known, weak=self._known.weak | weak) if weak else None

    def _check(self) -> Known | None:
        refuse_dangling_defaults(self.directory)
        self._generic_kept += self.pass_on(
            "check", self._check_created, self._check_matched, lambda rows: CHECKED
        )
        if unanswered := self.findings.unanswered:
            if self._known.left_out:  # another look would find one step more of what goes together
                together = referring(self._backup, self.directory)
                unanswered = together.together_with(unanswered)
            return replace(self._known, left_out=self._known.left_out | unanswered)
        self._renamed = self.directory.plans.naming.counts()
        self.findings.stop_counting()
        if self._uniques.find_repeated():
            look_again = self._uniques.look_again
            self.pass_on("check", self._look_again_at_created, look_again, lambda rows: UNCHANGED)
        note_dangling_defaults(self.directory, self.accounts.defaulting, self.findings)
        self.findings.refuse()
        self._engine.refuse_tables(self.tables)
        self.accounts.count_unknown()
        return None

    def _look_again_at_created(self, table: Table) -> None:
        self._uniques.look_again(with_defaults(self.directory, table))

    def _check_created(self, table: Table) -> None:
        table = with_defaults(self.directory, table)
        self._uniques.look(table)
        checks.look(table, self.findings, self._engine)
        self.accounts.created(table)

    def _check_matched(self, table: Table) -> None:
        changed = changes(self.directory, table)
        self._uniques.look(table, changed)
        checks.look(table, self.findings, self._engine)
        self.accounts.matched(table, changed)

    def _report(self) -> RestoreReport:
        target, known = self._task.target, self._known
        return RestoreReport(
            database=target.database,
            engine=target.engine,
            name=target.name,
            dry_run=self._task.dry_run,
            models=dict(self.accounts.models),
            privileges=self.accounts.privileges,
            differences=self.accounts.differences,
            receivers=receivers(self.plans),
            left_out=dict(self.findings.left_out),
            excluded=dict(self.findings.excluded),
            replaced_nulls=dict(self.findings.replaced_nulls),
            superseded=dict(Counter(known.superseded.values())),
            let_go=dict(self.findings.let_go + Counter(known.left_out.values())),
            renamed=self._renamed,
            generic_kept=self._generic_kept,
            weak_keys=known.weak,
            defaulted=self.accounts.defaulted,
            misread=self._misread,
            schema=self._engine.schema(),
        )

    @property
    def _misread(self) -> list[str]:
        return [
            f"{plan.label}.{name}"
            for plan in self.plans
            for name, column in plan.columns.items()
            if column.reference is None and misreads(column.field)
        ]


def look_through(task: Task, phases: Phases) -> tuple[Look, RestoreReport]:
    """Look through a backup until nothing new comes up: the last look, and what will be done.

    Fields may write rows of their own when they are asked for values, as those that encrypt do;
    such rows would stay behind a dry run, and be in the way of those of the backup, so that they
    are rolled back. Raises `FindingsError` for whatever is wrong with the backup.
    """
    known = Known()
    while True:
        look = Look(task, known)
        with transaction.atomic(using=task.target.database):
            found = look.run(phases)
            transaction.set_rollback(True, using=task.target.database)
        if isinstance(found, RestoreReport):
            return look, found
        known = found


def _directory(task: Task, known: Known) -> Directory:
    labels = task.counts and list(map(task.renames.label, task.counts))
    options = task.options
    plans = Plans(
        task.schema,
        task.target.database,
        known.weak,
        task.renames,
        options.on_json_text,
        labels or (),
        options.excludes,
        options.defaults,
    )
    return Directory(
        plans,
        task.engine,
        labels,
        named=known.named,
        keeps_names=options.diff,
        keeps_ids=options.on_dangling == "keep",
    )
