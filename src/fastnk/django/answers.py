"""Answers what methods ask databases, from the records of a backup. Imports Django.

A private SQLite database stands in for all databases of the project, and is gone with what methods
write into it. It begins without tables; when a query asks for one, the records of its model are put
in.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, NoReturn

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, Error
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.db.utils import ConnectionHandler

from fastnk.django.kept import no_room_is_an_error
from fastnk.django.offline import with_database
from fastnk.django.schema.describe import plain_of
from fastnk.django.unmade import RefusalError, UnknownKeyError
from fastnk.errors import FastnkError

_PRIVATE_FILE = {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:"}
"""A temporary file without a name, gone with the connection."""

_NO_TABLE = re.compile(r"no such table: (.+)")


class TableRows(NamedTuple):
    """What the backup says of a table."""

    fields: Sequence[Any]
    values: Iterator[Sequence[Any]]
    """Row by row, as Python has them."""


class Answers:
    """The private database."""

    def __init__(
        self, rows: Callable[[type[Any]], TableRows], refuse: Callable[[Exception], NoReturn]
    ) -> None:
        """`rows` gives those of a model's table, and raises `RefusalError` if it cannot. What is
        not answered is told to `refuse`, because the method may catch what is raised."""
        self._rows = rows
        self._refuse = refuse
        self._refused: dict[str, str] = {}
        """The tables that could not be filled, and why."""
        settings = ConnectionHandler({DEFAULT_DB_ALIAS: _PRIVATE_FILE}).settings
        self._database = _Database(settings[DEFAULT_DB_ALIAS], DEFAULT_DB_ALIAS)
        self._database.execute_wrappers.append(self._answer)

    def close(self) -> None:
        self._database.close()

    def given(self) -> AbstractContextManager[None]:
        """Here whatever asks a database in this thread is answered from the records."""
        return with_database(self._database)

    def _answer(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        while True:
            try:
                return execute(sql, params, many, context)
            except Error as error:
                missing = _NO_TABLE.fullmatch(str(error))
                if missing is None:
                    self._refuse_query(str(error))
            self._fill(missing[1])

    def _refuse_query(self, why: str) -> NoReturn:
        self._refuse(RefusalError(f"queries the database: {why}"))

    def _fill(self, table: str) -> None:
        """Make a table. Why one cannot be made is found out once."""
        if table not in self._refused:
            try:
                with no_room_is_an_error():
                    self._make(table)
            except (FastnkError, UnknownKeyError) as error:
                self._refuse(error)
            except Exception as error:
                self._refused[table] = str(error) or type(error).__name__
        if table in self._refused:
            self._refuse_query(self._refused[table])

    def _make(self, table: str) -> None:
        fields, rows = self._rows(_model_of(table))
        places = ", ".join("?" * len(fields))
        stored = (list(map(self._stored, fields, row)) for row in rows)
        with self._whole() as private:
            columns = ", ".join(map(self._column, fields))
            private.execute(f"CREATE TABLE {self._quoted(table)} ({columns})")
            private.executemany(f"INSERT INTO {self._quoted(table)} VALUES ({places})", stored)
            for field in fields:
                if field.db_index or field.unique:
                    private.execute(self._index(table, field))

    @contextmanager
    def _whole(self) -> Iterator[Any]:
        """The connection of the driver, which nobody answers; all or nothing is written."""
        private = self._database.connection
        private.set_authorizer(None)
        private.execute("SAVEPOINT filling")
        try:
            yield private
        except BaseException:
            private.execute("ROLLBACK TO filling")
            raise
        finally:
            private.execute("RELEASE filling")
            private.set_authorizer(_authorize)

    def _column(self, field: Any) -> str:
        """Of a table without constraints: other databases take what SQLite would not, and not
        every record says its pk."""
        kind = field.db_type(self._database) or ""
        return f"{self._quoted(field.column)} {kind}"

    def _index(self, table: str, field: Any) -> str:
        name, column = self._quoted(f"{table}.{field.column}"), self._quoted(field.column)
        return f"CREATE INDEX {name} ON {self._quoted(table)} ({column})"

    def _stored(self, field: Any, value: Any) -> Any:
        return plain_of(field).get_db_prep_save(value, self._database)

    def _quoted(self, name: str) -> str:
        return str(self._database.ops.quote_name(name))


class _Database(DatabaseWrapper):  # type: ignore[misc]
    def connect(self) -> None:
        super().connect()  # receivers of its signal may set what they like
        self.connection.set_authorizer(_authorize)


def _authorize(action: int, name: str | None, *_: str | None) -> int:
    """Refuse to tell which tables there are: only those that were asked for."""
    of_tables = action == sqlite3.SQLITE_READ and (name or "").startswith("sqlite_")
    is_refused = of_tables or action == sqlite3.SQLITE_PRAGMA
    return sqlite3.SQLITE_DENY if is_refused else sqlite3.SQLITE_OK


def _model_of(table: str) -> type[Any]:
    models: list[type[Any]] = apps.get_models(include_auto_created=True)
    for model in models:
        if model._meta.db_table == table and not model._meta.proxy:
            return model
    raise RefusalError(f"{table} is the table of no model")
