"""The way of rows into one table after the other.

A COPY is kept open while rows come for the same table: the server takes rows in while the next ones
are made; if each batch waited for its end, the two would take turns. Until its end the connection
can do nothing else, so that any other statement, as one of a field of the project, ends it first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from types import TracebackType
from typing import Any, Protocol, Self

from django.core.exceptions import ValidationError
from django.db import DatabaseError

from fastnk.django.restore.discretion import refused

READ = 1 << 20
"""Bytes of rows that psycopg2 takes at a time."""

REFUSALS = (DatabaseError, ValidationError, ValueError, TypeError, OverflowError)

Columns = Sequence[Sequence[Any]]


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Say what was being written when the database or its driver refused it."""
    try:
        yield
    except REFUSALS as error:
        raise refused(path, error) from error


class Rows(Protocol):
    """What takes the rows of a restore."""

    def write(self, path: str, table: str, names: Sequence[str], columns: Columns, /) -> None:
        """Write rows into the columns with these names, which are quoted.

        `path` is what errors call the place. Raises `RestoreError`, perhaps of earlier rows.
        """

    def end(self) -> None:
        """Wait until all rows are in the database. Raises `RestoreError`."""


class Stream:
    """Writes rows as they come; use it in a `with` statement.

    What is under way when an error leaves that is given up.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._path = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.end()

    def write(self, path: str, table: str, names: Sequence[str], columns: Columns) -> None:
        self._insert(path, table, names, ["%s"] * len(names), columns)

    def _insert(
        self, path: str, table: str, names: Sequence[str], places: list[str], columns: Columns
    ) -> None:
        into = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(places)})"
        self._path = path
        with self._naming(), self._connection.cursor() as cursor:
            cursor.executemany(into, list(zip(*columns, strict=True)))

    def end(self) -> None:
        pass

    @contextmanager
    def _naming(self) -> Iterator[None]:
        with naming(self._path), self._connection.wrap_database_errors:
            yield


class SQLiteStream(Stream):
    """Has the statement say the nulls that go all down a column: Python's driver takes longer over
    each of them than SQLite does."""

    def write(self, path: str, table: str, names: Sequence[str], columns: Columns) -> None:
        are_null = [one[0] is None and one.count(None) == len(one) for one in columns]
        are_null[0] = False  # one must say how many rows there are
        places = ["NULL" if is_null else "%s" for is_null in are_null]
        said = [column for column, is_null in zip(columns, are_null, strict=True) if not is_null]
        self._insert(path, table, names, places, said)


class Psycopg2Stream(Stream):
    """Copies rows into PostgreSQL through psycopg2, batch by batch."""

    def write(self, path: str, table: str, names: Sequence[str], columns: Columns) -> None:
        from psycopg2.extras import execute_values

        from fastnk.django.restore.spelling import spelled

        into = f"{table} ({', '.join(names)})"
        self._path = path
        with self._naming(), self._connection.cursor() as cursor:
            try:
                rows = BytesIO(spelled(columns))
            except KeyError:  # lists, ranges and other types that the driver knows itself
                values = zip(*columns, strict=True)
                execute_values(cursor.cursor, f"INSERT INTO {into} VALUES %s", values)
            else:
                cursor.copy_expert(f"COPY {into} FROM STDIN", rows, READ)


class CopyStream(Stream):
    """Copies rows into PostgreSQL."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._open = ExitStack()
        self._into = ""
        self._copy: Any = None
        self._others = connection.execute_wrapper(self._end_before)

    def __enter__(self) -> Self:
        self._others.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._others.__exit__(None, None, None)
        if kind is None:
            self.end()
            return
        self._copy, self._into = None, ""
        with suppress(DatabaseError):  # the one that is on its way says more
            self._open.__exit__(kind, error, trace)

    def write(self, path: str, table: str, names: Sequence[str], columns: Columns) -> None:
        into = f"COPY {table} ({', '.join(names)}) FROM STDIN"
        if into != self._into:
            self.end()
            self._path = path
            with self._naming():
                cursor = self._open.enter_context(self._connection.cursor())
                self._copy = self._open.enter_context(cursor.copy(into))
            self._into = into
        write_row = self._copy.write_row
        with self._naming():
            for row in zip(*columns, strict=True):
                write_row(row)

    def end(self) -> None:
        try:
            with self._naming():
                self._open.close()
        finally:
            self._copy, self._into = None, ""

    def _end_before(self, execute: Callable[..., Any], *statement: Any) -> Any:
        """What Django calls for every statement but COPY."""
        self.end()
        return execute(*statement)
