"""Puts converted records into the database of the configured Django project."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

from django.db import Error as DatabaseFault
from django.db import IntegrityError, InterfaceError, OperationalError, connections, transaction
from django.utils.connection import ConnectionDoesNotExist

from fastnk.django.restore import ledger
from fastnk.django.restore.checking import Task
from fastnk.django.restore.defaults import refuse_unfit_defaults
from fastnk.django.restore.discretion import reason, remedy_for
from fastnk.django.restore.engines import engine_of
from fastnk.django.restore.plan import UnknownModelError
from fastnk.django.restore.plans import Plans
from fastnk.django.restore.reading import Chunks
from fastnk.django.restore.renaming import refuse_unfit
from fastnk.django.restore.report import RestoreOptions, RestoreReport, RestoreTarget
from fastnk.django.restore.restoring import Confirm, restore
from fastnk.errors import OutcomeUnknownError, RestoreError, UsageError
from fastnk.progress import Teller
from fastnk.renames import Renames
from fastnk.schema import Schema
from fastnk.threads import default_jobs


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
        """With more than one of `jobs`, which is the number of processors, up to 8, unless given,
        another process may do a part of the work.

        Raises `UsageError` for an alias that the project does not have, an engine that restores do
        not know, or a declared default that its field does not take, and `RenameError` for new
        names that the project does not have.
        """
        self.schema = schema
        self.options = options or RestoreOptions()
        self.renames = renames or Renames()
        refuse_unfit(self.renames)
        self.jobs = jobs or default_jobs()
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
        self._refuse_unfit_defaults()

    @property
    def target(self) -> RestoreTarget:
        settings = self._connection.settings_dict
        return RestoreTarget(
            database=self._database,
            engine=self._connection.vendor,
            name=str(settings["NAME"]),
            host=str(settings["HOST"]),
        )

    def takes(self, label: str) -> bool:
        """Whether records of a model are restored: not those that are excluded, or have no table
        of their own here. Where the database cannot be asked, they are."""
        excludes = self.options.excludes
        plans = Plans(self.schema, self._database, renames=self.renames, excludes=excludes)
        self.engine.keep_alive()
        try:
            plans.of_records(label)
        except UnknownModelError:
            return False
        except DatabaseFault:
            return True
        return True

    def load(
        self,
        chunks: Chunks,
        name: str | None = None,
        *,
        counts: Mapping[str, int] | None = None,
        number_in_backup: Callable[[int], int] = int,
        confirm: Confirm | None = None,
    ) -> RestoreReport:
        """Restore the records in `chunks`, which are read three times or four.

        `name` is what findings call the backup, `counts` says of each label how many records there
        are, and `number_in_backup` makes of a record's number in the chunks the one it has there.
        `confirm` is told what will be done, before the first row is written, and raises to stop it.
        Raises `FindingsError` and `RenameError` before that, `LockedError` while another restore is
        under way, and `RestoreError` where the database refuses; it is then as it was before.
        """
        self.engine.keep_alive()
        task = self._task(chunks, name, counts, number_in_backup)
        token = uuid4().hex
        report: RestoreReport | None = None
        try:
            with (
                _without_collector(),
                self.engine.session(),
                transaction.atomic(using=self._database),
            ):
                done = restore(task, partial(self._begin, confirm, token, name))
                if not self.dry_run and done.created + done.updated:
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
            remedy = remedy_for(error) or "mend what the database names, then restore again"
            raise self._failed(error, remedy) from error

    def _begin(
        self, confirm: Confirm | None, token: str, name: str | None, report: RestoreReport
    ) -> None:
        """Have what the report says confirmed, and write to the ledger before anything else, which
        asks for more rights than rows do."""
        if confirm is not None:
            confirm(report)
        if report.created + report.updated:
            ledger.note(self.engine, token, name)

    def _refuse_unfit_defaults(self) -> None:
        defaults = self.options.defaults
        plans = Plans(self.schema, self._database, renames=self.renames, defaults=defaults)
        refuse_unfit_defaults(plans, self._connection)

    def _task(
        self,
        chunks: Chunks,
        name: str | None,
        counts: Mapping[str, int] | None,
        number_in_backup: Callable[[int], int],
    ) -> Task:
        return Task(
            chunks,
            name,
            counts,
            number_in_backup,
            schema=self.schema,
            renames=self.renames,
            options=self.options,
            engine=self.engine,
            target=self.target,
            dry_run=self.dry_run,
            jobs=self.jobs,
            teller=self.teller,
        )

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
