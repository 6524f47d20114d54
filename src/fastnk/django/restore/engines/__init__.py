"""Which engines a restore knows."""

from __future__ import annotations

from typing import Any

from fastnk.django.restore.engines.base import Engine
from fastnk.django.restore.engines.mysql import MySQL
from fastnk.django.restore.engines.postgresql import PostgreSQL
from fastnk.django.restore.engines.sqlite import SQLite
from fastnk.errors import NAME_THE_SETTINGS, UsageError

ENGINES: dict[str, type[Engine]] = {"mysql": MySQL, "postgresql": PostgreSQL, "sqlite": SQLite}
"""By Django's name of the vendor; MariaDB goes by that of MySQL."""


NO_VENDOR = "unknown"
"""Of what Django puts in the place of an engine that the settings do not name."""


def engine_of(connection: Any) -> Engine:
    """What a restore knows of a database.

    Raises `UsageError` for an engine whose locks and transactions it does not know, and for none.
    """
    if connection.vendor == NO_VENDOR:
        raise UsageError(
            f'the settings say nothing of a database "{connection.alias}"', remedy=NAME_THE_SETTINGS
        )
    make = ENGINES.get(connection.vendor)
    if make is None:
        raise UsageError(
            "fastnk restores into PostgreSQL, MySQL, MariaDB and SQLite; the database"
            f' "{connection.alias}" is {connection.display_name}',
            remedy="fastnk convert --style django --order dependencies, then manage.py loaddata",
        )
    return make(connection)
