"""What a restore asks of a database, one class per engine; here what most have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, ClassVar

from django.apps import apps
from django.core.management.color import no_style
from django.db import router
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Field, Max, QuerySet

from fastnk.django.restore.streams import Stream
from fastnk.django.restore.values import pk_range
from fastnk.errors import LockedError, RestoreError

Texts = Sequence[Any]


class Engine:
    """One database, by its connection."""

    OPTIONS: ClassVar[dict[str, Any]] = {}
    """For the driver, without which a dead connection hangs for hours."""
    IS_EMBEDDED: ClassVar[bool] = False
    """Whether the database does its work inside this process."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def keep_alive(self) -> None:
        """Let a connection that is still to be made notice that the other side is gone."""
        if self.OPTIONS and self.connection.connection is None:
            options = self.connection.settings_dict["OPTIONS"]
            self.connection.settings_dict["OPTIONS"] = {**self.OPTIONS, **options}

    @contextmanager
    def session(self) -> Iterator[None]:
        """What is set while a restore lasts, around its transaction, and set back behind it."""
        yield

    def lock(self) -> None:
        """Keep other restores out until the transaction ends. Raises `LockedError`."""
        raise NotImplementedError

    def wait_for_the_lost_session(self, patience: float) -> None:
        """As long as it lives it may still commit. Raises `TimeoutError` after so many seconds."""

    def create(self, table: str, columns: str) -> None:
        """Create a table for a row that the transaction will write."""
        with self.connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {table} ({columns})")

    def schema(self) -> str | None:
        """The schema of the database that new tables come into; `None` for the usual one."""
        return None

    def refuse_tables(self, names: Collection[str]) -> None:
        """Raise `RestoreError` for tables that take no part in transactions."""

    def stream(self) -> Stream:
        """What takes rows fastest."""
        return Stream(self.connection)

    def read(
        self, query: QuerySet[Any, Any], pk: Callable[[Any], Any] = itemgetter(0)
    ) -> Iterator[Any]:
        """All rows of a query without order, no more of them in memory than a part.

        `pk` tells that of a row.
        """
        return iter(query.iterator())

    @property
    def longest_statement(self) -> int | None:
        """How many bytes of values a statement surely takes; `None` without a limit."""
        return None

    def merges(self, field: Field[Any, Any]) -> Callable[[Texts], Texts] | None:
        """What makes texts equal that are the same to the index of a column; other values stay.

        `None` where texts are compared letter by letter.
        """
        return None

    def loses(self, field: Field[Any, Any]) -> Callable[[Texts], Texts] | None:
        """What a column makes of texts by its character set; other values stay. `None` where it
        has all characters."""
        return None

    def askable(self, field: Field[Any, Any], values: Texts) -> Texts:
        """Of values those that a column may hold, by its character set. MySQL refuses a question
        for others."""
        losing = self.loses(field)
        if losing is None:
            return values
        plain = [str(value) if isinstance(value, str) else value for value in values]
        return [value for value, held in zip(plain, losing(plain), strict=True) if value == held]

    def reserve(
        self, model: Any, count: int, kept: Iterable[Any], loose: Collection[Any]
    ) -> Iterator[Any]:
        """`count` pks for new rows that no row has and nobody else will get.

        They are above all in `kept`, and none is in `loose`. They may be fetched later, as they
        are needed.
        """
        floor = max(self._highest(model, kept), self._highest_ever(model))
        highest = floor + count
        while (wanted := floor + count + sum(floor < pk <= highest for pk in loose)) != highest:
            highest = wanted
        possible = pk_range(model._meta.pk, self.connection)
        if possible is not None and highest not in possible:
            raise RestoreError(
                f"no pks are left for new rows of {model._meta.label_lower} above {floor:,}",
                remedy="give the row with the highest pk another one, in backup and database",
            )
        self._number_from(model, highest)
        return (pk for pk in range(floor + 1, highest + 1) if pk not in loose)

    def reset_sequences(self, models: list[Any]) -> None:
        """Make the database number the next rows after those that brought their pks along."""
        statements = self.connection.ops.sequence_reset_sql(no_style(), models)
        if statements:
            with self.connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

    def _highest(self, model: Any, kept: Iterable[Any]) -> int:
        """The highest pk of a row that is there or in `kept`, as a number, which some fields show
        as an object of their own."""
        rows = QuerySet(model, using=self.connection.alias)
        top = rows.aggregate(top=Max(model._meta.pk.name))["top"]
        highest = max(max(kept, default=0), top or 0)
        return int(model._meta.pk.get_prep_value(highest))

    def _highest_ever(self, model: Any) -> int:
        """The highest pk that the database has given to a row, deleted ones too."""
        return 0

    def _number_from(self, model: Any, highest: int) -> None:
        """Make the database number rows that come without a pk after `highest`."""


def refuse_unmigrated(connection: Any) -> None:
    """Raise `RestoreError` where migrations of the project are not applied.

    Where none of an app ever was and all of its tables are there, something else made them and
    keeps them, as `django-evolution` does.
    """
    executor = MigrationExecutor(connection)
    plan = [step for step, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    migrated = {app for app, _ in executor.loader.applied_migrations}
    unknown = {step.app_label for step in plan} - migrated
    tables = connection.introspection.table_names() if unknown else []
    whole = {app for app in unknown if _has_all_of(connection, tables, app)}
    left = [step for step in plan if step.app_label not in whole]
    if left:
        first = left[0]
        raise RestoreError(
            f'{len(left)} migrations are not applied to the database "{connection.alias}",'
            f" {first.app_label}.{first.name} is the first; nothing was written",
            remedy=f"python manage.py migrate --database {connection.alias}",
        )


def _has_all_of(connection: Any, tables: list[str], app: str) -> bool:
    """Whether these tables of a database are all those of an app, which has some, with all of their
    columns."""
    alias = connection.alias
    models = [
        model
        for model in apps.get_app_config(app).get_models(include_auto_created=True)
        if model._meta.can_migrate(alias) and router.allow_migrate_model(alias, model)
    ]
    if not models or any(model._meta.db_table not in tables for model in models):
        return False
    described = connection.introspection.get_table_description
    with connection.cursor() as cursor:
        return all(
            {field.column for field in model._meta.local_concrete_fields}
            <= {column.name for column in described(cursor, model._meta.db_table)}
            for model in models
        )


def tables_of(connection: Any) -> list[str]:
    """The names of all tables. Raises `RestoreError` if there are none."""
    tables: list[str] = connection.introspection.table_names()
    if not tables:
        raise RestoreError(
            f'the database "{connection.alias}" has no tables',
            remedy=f"python manage.py migrate --database {connection.alias}",
        )
    return tables


def locked(who: str) -> LockedError:
    return LockedError(
        f"{who} holds the lock of this database; nothing was written",
        remedy="wait for it to end, then restore again",
    )
