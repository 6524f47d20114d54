"""A row for each restore, written in its transaction: it tells whether COMMIT came through."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from fastnk.django.backend import LOCK

TABLE = "fastnk_ledger"
PATIENCE = 30.0
"""Seconds that a lost session is given to end."""


def note(connection: Any, token: str, name: str | None) -> None:
    """Write the row of the restore with this token."""
    with connection.cursor() as cursor:
        if TABLE not in connection.introspection.table_names(cursor):
            cursor.execute(
                f"CREATE TABLE {TABLE} (token varchar(32) PRIMARY KEY,"
                " restored_at varchar(40) NOT NULL, backup varchar(255) NOT NULL)"
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        row = [token, now, (name or "")[-255:]]
        cursor.execute(f"INSERT INTO {TABLE} VALUES (%s, %s, %s)", row)


def is_noted(connection: Any, token: str) -> bool:
    """Whether the restore with this token is in the database, by a connection of its own.

    Raises what the database raises that cannot be reached.
    """
    connection.close()
    if connection.vendor == "postgresql":
        _wait_for_the_lost_session(connection)
    with connection.cursor() as cursor:
        if TABLE not in connection.introspection.table_names(cursor):
            return False
        cursor.execute(f"SELECT 1 FROM {TABLE} WHERE token = %s", [token])
        return cursor.fetchone() is not None


def _wait_for_the_lost_session(connection: Any) -> None:
    """As long as it lives it may still commit; it holds the lock of restores until it ends."""
    end = time.monotonic() + PATIENCE
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
            if cursor.fetchone()[0]:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
                return
            if time.monotonic() > end:
                raise TimeoutError("the lost session has not ended")
            time.sleep(0.2)
