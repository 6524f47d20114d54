"""PostgreSQL: an advisory lock, sequences, COPY."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any, ClassVar

from fastnk.django.restore.engines.base import Engine, locked, tables_of
from fastnk.django.restore.streams import CopyStream, Psycopg2Stream, Stream

LOCK = int.from_bytes(b"fastnk", "big")
"""The number of the advisory lock; it holds for one database."""

FETCHED = 10_000
"""Numbers of a sequence that are fetched at once."""


class PostgreSQL(Engine):
    OPTIONS: ClassVar[dict[str, Any]] = {
        "connect_timeout": 10,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
    }

    def lock(self) -> None:
        tables_of(self.connection)
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
            (is_ours,) = cursor.fetchone()
        if not is_ours:
            raise locked("another restore")

    def schema(self) -> str | None:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT current_schema()")
            (name,) = cursor.fetchone()
        return None if name == "public" else name

    def wait_for_the_lost_session(self, patience: float) -> None:
        """It holds the lock of restores until it ends."""
        end = time.monotonic() + patience
        with self.connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
                if cursor.fetchone()[0]:
                    cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
                    return
                if time.monotonic() > end:
                    raise TimeoutError("the lost session has not ended")
                time.sleep(0.2)

    def stream(self) -> Stream:
        from django.db.backends.postgresql.psycopg_any import is_psycopg3

        with self.connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")  # also those that are not by themselves
        return (CopyStream if is_psycopg3 else Psycopg2Stream)(self.connection)

    def reserve(
        self, model: Any, count: int, kept: Iterable[Any], loose: Collection[Any]
    ) -> Iterator[Any]:
        sequence = self._sequence(model)
        if sequence is None:
            return super().reserve(model, count, kept, loose)
        floor = self._highest(model, kept)
        with self.connection.cursor() as cursor:
            # It may lag behind rows that brought their pks along, or will.
            statement = "SELECT setval(%s, greatest(nextval(%s), %s))"
            cursor.execute(statement, [sequence, sequence, floor])
        return self._next(sequence, count, loose)

    def reset_sequences(self, models: list[Any]) -> None:
        # A sequence begins with 1, and does not take the 0 that Django would give it.
        super().reset_sequences([model for model in models if self._highest(model, ()) > 0])

    def _sequence(self, model: Any) -> str | None:
        table = self.connection.ops.quote_name(model._meta.db_table)
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", [table, model._meta.pk.column])
            (sequence,) = cursor.fetchone()
        return None if sequence is None else str(sequence)

    def _next(self, sequence: str, count: int, loose: Collection[Any]) -> Iterator[Any]:
        """`count` numbers of a sequence that are not in `loose`, fetched as they are needed."""
        while count:
            with self.connection.cursor() as cursor:
                size = min(FETCHED, count)
                cursor.execute("SELECT nextval(%s) FROM generate_series(1, %s)", [sequence, size])
                numbers = [number for (number,) in cursor.fetchall() if number not in loose]
            count -= len(numbers)
            yield from numbers
