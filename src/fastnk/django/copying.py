"""COPY into one table after the other, each kept open while rows come for it.

The server takes rows in while the next ones are made; if each batch waited for its end, the two
would take turns. As long as a COPY is open the connection can do nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self

from django.db import DatabaseError

from fastnk.django.discretion import reason
from fastnk.errors import RestoreError

REFUSALS = (DatabaseError, ValueError, TypeError, OverflowError)


class CopyStream:
    """Use it in a `with` statement; what is still open when an error leaves it is given up."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._open = ExitStack()
        self._into = ""
        self._path = ""
        self._copy: Any = None

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
            return
        self._copy, self._into = None, ""
        with suppress(DatabaseError):  # the one that is on its way says more
            self._open.__exit__(kind, error, trace)

    def write(self, into: str, path: str, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows by the statement `into`; `path` is what errors call the place."""
        try:
            if into != self._into:
                self.end()
                self._start(into, path)
            with self._connection.wrap_database_errors:
                for row in rows:
                    self._copy.write_row(row)
        except REFUSALS as error:
            raise self._refused(error) from error

    def end(self) -> None:
        """Wait until the server has taken everything in."""
        try:
            self._open.close()
        except REFUSALS as error:
            raise self._refused(error) from error
        finally:
            self._copy, self._into = None, ""

    def _start(self, into: str, path: str) -> None:
        self._path = path
        self._open.enter_context(self._connection.wrap_database_errors)
        cursor = self._open.enter_context(self._connection.cursor())
        self._copy = self._open.enter_context(cursor.copy(into))
        self._into = into

    def _refused(self, error: Exception) -> RestoreError:
        return RestoreError(
            f"the database refused {self._path}: {reason(error)}; everything was rolled back",
            remedy="mend the backup or the row in the way, then restore again",
        )
