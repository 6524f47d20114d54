"""What differs between databases: the lock, the reservation of pks, the sequences."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.color import no_style
from django.db import OperationalError
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Max, QuerySet

from fastnk.errors import LockedError, RestoreError, UsageError

LOCK = int.from_bytes(b"fastnk", "big")
"""The number of PostgreSQL's advisory lock; it holds for one database."""


CACHE_KIB = 32 << 10
"""Of SQLite's pages; with twice as much nothing was faster."""

FETCHED = 10_000
"""Numbers of a sequence that are fetched at once."""


KEEPALIVES = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Options of libpq, without which a dead connection hangs for hours."""


RESTORED_INTO = ("postgresql", "sqlite")


def refuse_others(connection: Any) -> None:
    """Raise `UsageError` for an engine whose locks and transactions a restore does not know."""
    if connection.vendor not in RESTORED_INTO:
        raise UsageError(
            f'fastnk restores into PostgreSQL and SQLite; the database "{connection.alias}" is'
            f" {connection.display_name}",
            remedy="fastnk convert --style django --order dependencies, then manage.py loaddata",
        )


def keep_alive(connection: Any) -> None:
    """Let a connection that is still to be made notice that the other side is gone."""
    if connection.vendor == "postgresql" and connection.connection is None:
        options = connection.settings_dict["OPTIONS"]
        connection.settings_dict["OPTIONS"] = {**KEEPALIVES, **options}


def refuse_unmigrated(connection: Any) -> None:
    """Raise `RestoreError` where migrations of the project are not applied."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        first = plan[0][0]
        raise RestoreError(
            f'{len(plan)} migrations are not applied to the database "{connection.alias}",'
            f" {first.app_label}.{first.name} is the first; nothing was written",
            remedy=f"python manage.py migrate --database {connection.alias}",
        )


def lock(connection: Any) -> None:
    """Keep other restores out until the transaction ends. Raises `LockedError`."""
    tables = connection.introspection.table_names()
    if not tables:
        raise RestoreError(
            f'the database "{connection.alias}" has no tables',
            remedy=f"python manage.py migrate --database {connection.alias}",
        )
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
            (is_ours,) = cursor.fetchone()
        if not is_ours:
            raise _locked("another restore")
    elif connection.vendor == "sqlite":
        _lock_file(connection, tables[0])


@contextmanager
def checked_at_the_end(connection: Any) -> Iterator[None]:
    """Leave foreign keys to the check of all constraints before commit, where that saves time.

    SQLite would look up every reference as its row is written, and must be told outside of a
    transaction not to.
    """
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    with connection.constraint_checks_disabled():
        yield


@contextmanager
def with_room_for_indexes(connection: Any) -> Iterator[None]:
    """Let SQLite keep more pages than its usual 2 MB: entries go to any place of an index."""
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        (before,) = cursor.execute("PRAGMA cache_size").fetchone()
        cursor.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA cache_size = {before:d}")


def _lock_file(connection: Any, table: str) -> None:
    """Take SQLite's one write lock now, by a statement that writes nothing."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)} WHERE 0")
    except OperationalError as error:
        if "locked" not in str(error):
            raise
        raise _locked("another restore or another writer") from None


def _locked(who: str) -> LockedError:
    return LockedError(
        f"{who} holds the lock of this database; nothing was written",
        remedy="wait for it to end, then restore again",
    )


def reserve(
    connection: Any,
    model: Any,
    count: int,
    kept: Iterable[Any],
    loose: Collection[Any],
    before: Callable[[], None],
) -> Iterator[Any]:
    """`count` pks for new rows that no row has and nobody else will get.

    They are above all in `kept`, and none is in `loose`. They may be fetched later, as they are
    needed; `before` is called each time.
    """
    pk = model._meta.pk
    top = QuerySet(model, using=connection.alias).aggregate(top=Max(pk.name))["top"]
    floor = max(kept, default=0)
    floor = max(floor, top or 0)
    sequence = _sequence(connection, model) if connection.vendor == "postgresql" else None
    if sequence is not None:
        return _drawn(connection, sequence, count, floor, loose, before)
    if connection.vendor == "sqlite":
        floor = max(floor, _highest_ever(connection, model))
    highest = floor + count
    while (wanted := floor + count + sum(floor < pk <= highest for pk in loose)) != highest:
        highest = wanted
    if connection.vendor == "sqlite":
        _number_from(connection, model, highest)
    return (pk for pk in range(floor + 1, highest + 1) if pk not in loose)


def reset_sequences(connection: Any, models: list[Any]) -> None:
    """Make the database number the next rows after those that brought their pks along."""
    statements = connection.ops.sequence_reset_sql(no_style(), models)
    if statements:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def _sequence(connection: Any, model: Any) -> str | None:
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", [table, model._meta.pk.column])
        (sequence,) = cursor.fetchone()
    return None if sequence is None else str(sequence)


def _drawn(
    connection: Any,
    sequence: str,
    count: int,
    floor: int,
    loose: Collection[Any],
    before: Callable[[], None],
) -> Iterator[Any]:
    with connection.cursor() as cursor:
        # It may lag behind rows that brought their pks along, or will.
        cursor.execute("SELECT setval(%s, greatest(nextval(%s), %s))", [sequence, sequence, floor])
    return _next(connection, sequence, count, loose, before)


def _next(
    connection: Any, sequence: str, count: int, loose: Collection[Any], before: Callable[[], None]
) -> Iterator[Any]:
    """`count` numbers of a sequence that are not in `loose`, fetched as they are needed."""
    while count:
        before()
        with connection.cursor() as cursor:
            size = min(FETCHED, count)
            cursor.execute("SELECT nextval(%s) FROM generate_series(1, %s)", [sequence, size])
            numbers = [number for (number,) in cursor.fetchall() if number not in loose]
        count -= len(numbers)
        yield from numbers


def _highest_ever(connection: Any, model: Any) -> int:
    """The highest pk that SQLite has given to a row of the table, deleted ones too."""
    if not _has_sequences(connection):
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [model._meta.db_table])
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def _number_from(connection: Any, model: Any, highest: int) -> None:
    """Make SQLite number rows that come without a pk after `highest`."""
    if _has_sequences(connection):
        table = model._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
            cursor.execute("INSERT INTO sqlite_sequence VALUES (%s, %s)", [table, highest])


def _has_sequences(connection: Any) -> bool:
    """Whether SQLite remembers pks; it does where any table is made to."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")
        return cursor.fetchone() is not None
