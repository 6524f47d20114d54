"""SQLite: its one write lock, its cache, its table of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django.db import OperationalError

from fastnk.django.restore.engines.base import Engine, locked, tables_of
from fastnk.django.restore.streams import SQLiteStream, Stream

CACHE_KIB = 32 << 10
"""Of pages; with twice as much nothing was faster."""


class SQLite(Engine):
    IS_EMBEDDED: ClassVar[bool] = True

    @contextmanager
    def session(self) -> Iterator[None]:
        with self._checked_at_the_end(), self._with_room_for_indexes():
            yield

    @contextmanager
    def _checked_at_the_end(self) -> Iterator[None]:
        """Leave foreign keys to the check of all constraints before commit, which saves time.

        SQLite would look up every reference as its row is written, and must be told outside of a
        transaction not to.
        """
        if self.connection.in_atomic_block:
            yield
            return
        with self.connection.constraint_checks_disabled():
            yield

    @contextmanager
    def _with_room_for_indexes(self) -> Iterator[None]:
        """Keep more pages than the usual 2 MB: entries go to any place of an index."""
        with self.connection.cursor() as cursor:
            (before,) = cursor.execute("PRAGMA cache_size").fetchone()
            cursor.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        try:
            yield
        finally:
            with self.connection.cursor() as cursor:
                cursor.execute(f"PRAGMA cache_size = {before:d}")

    def stream(self) -> Stream:
        return SQLiteStream(self.connection)

    def lock(self) -> None:
        """Take the write lock now, by a statement that writes nothing."""
        table = self.connection.ops.quote_name(tables_of(self.connection)[0])
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {table} WHERE 0")
        except OperationalError as error:
            if "locked" not in str(error):
                raise
            raise locked("another restore or another writer") from None

    def _highest_ever(self, model: Any) -> int:
        if not self._has_sequences():
            return 0
        with self.connection.cursor() as cursor:
            table = model._meta.db_table
            cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
            row = cursor.fetchone()
        return int(row[0]) if row else 0

    def _number_from(self, model: Any, highest: int) -> None:
        if self._has_sequences():
            table = model._meta.db_table
            with self.connection.cursor() as cursor:
                cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
                cursor.execute("INSERT INTO sqlite_sequence VALUES (%s, %s)", [table, highest])

    def _has_sequences(self) -> bool:
        """Whether SQLite remembers pks; it does where any table is made to."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")
            return cursor.fetchone() is not None
