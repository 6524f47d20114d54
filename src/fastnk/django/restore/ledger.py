"""A row for each restore, written in its transaction: it tells whether COMMIT came through."""

from __future__ import annotations

from datetime import UTC, datetime

from fastnk.django.restore.engines.base import Engine
from fastnk.django.restore.streams import naming

TABLE = "fastnk_ledger"
COLUMNS = (
    "token varchar(32) PRIMARY KEY, restored_at varchar(40) NOT NULL, backup varchar(255) NOT NULL"
)
PATIENCE = 30.0
"""Seconds that a lost session is given to end."""


def note(engine: Engine, token: str, name: str | None) -> None:
    """Write the row of the restore with this token."""
    connection = engine.connection
    with naming(TABLE), connection.cursor() as cursor:
        if TABLE not in connection.introspection.table_names(cursor):
            engine.create(TABLE, COLUMNS)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        row = [token, now, (name or "")[-255:]]
        cursor.execute(f"INSERT INTO {TABLE} VALUES (%s, %s, %s)", row)


def is_noted(engine: Engine, token: str) -> bool:
    """Whether the restore with this token is in the database, by a connection of its own.

    Raises what the database raises that cannot be reached, and `TimeoutError`.
    """
    connection = engine.connection
    connection.close()
    engine.wait_for_the_lost_session(PATIENCE)
    with connection.cursor() as cursor:
        if TABLE not in connection.introspection.table_names(cursor):
            return False
        cursor.execute(f"SELECT 1 FROM {TABLE} WHERE token = %s", [token])
        return cursor.fetchone() is not None
