"""How rows go to PostgreSQL through psycopg2, against how psycopg2 itself writes them."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import DataError, connections
from django.db.backends.postgresql.psycopg_any import is_psycopg3

from fastnk.django.restore.streams import Psycopg2Stream
from fastnk.errors import RestoreError
from tests import databases

pytestmark = pytest.mark.skipif(is_psycopg3, reason="Django prefers the newer driver")

ALIAS = "postgres_new"
NASTY = "".join(map(chr, range(1, 128))) + "\\N\\.\\\\t é 🦁\u2028"
VALUES: dict[str, list[Any]] = {
    "text": ["", NASTY, "\\.", None, "\\N", "a\tb\r\nc", "\\"],
    "bytea": [b"", bytes(range(256)), None],
    "boolean": [True, False, None],
    "bigint": [0, -(2**63), 2**63 - 1],
    "numeric": [Decimal("1E+3"), Decimal("-0.000000001"), Decimal("NaN"), 10**30],
    "double precision": [0.1, 1e-300, math.inf, -math.inf, math.nan],
    "timestamp with time zone": [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(2025, 3, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(minutes=-90))),
        datetime.max.replace(tzinfo=UTC),
    ],
    "timestamp": [datetime(2025, 3, 1, 12), datetime(999, 12, 31, 23, 59, 59, 1)],
    "date": [date.min, date.max, None],
    "time": [time(0, 0), time(23, 59, 59, 999999)],
    "interval": [timedelta(0), timedelta.max, timedelta.min, -timedelta(microseconds=1)],
    "uuid": [UUID(int=0), UUID(int=2**128 - 1)],
    "integer[]": [[1, 2], [], None],
    "text[]": [["a,b", '"', "\\", "NULL"], None],
}


def adapted(kind: str, value: Any) -> Any:
    driver = connections[ALIAS].Database
    return driver.Binary(value) if kind == "bytea" and value is not None else value


@pytest.fixture(scope="module")
def alias(postgres: databases.Postgres) -> str:
    postgres.renew(ALIAS)
    return ALIAS


def written(kind: str, values: list[Any], *, through: Any) -> list[Any]:
    """What a column of this kind holds afterwards, as the server spells it."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE target (place integer, value {kind})")
        try:
            through(cursor, [[*range(len(values))], values])
            cursor.execute("SELECT place, value::text FROM target ORDER BY place")
            return list(cursor.fetchall())
        finally:
            cursor.execute("DROP TABLE target")


def by_stream(cursor: Any, columns: list[list[Any]]) -> None:
    with Psycopg2Stream(connections[ALIAS]) as stream:
        stream.write("app.model", "target", ["place", "value"], columns)


def by_driver(cursor: Any, columns: list[list[Any]]) -> None:
    cursor.executemany("INSERT INTO target VALUES (%s, %s)", list(zip(*columns, strict=True)))


@pytest.mark.parametrize("kind", VALUES)
def test_columns_hold_what_the_driver_would_write(alias: str, kind: str) -> None:
    values = [adapted(kind, value) for value in VALUES[kind]]
    assert written(kind, values, through=by_stream) == written(kind, values, through=by_driver)


@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_json(alias: str, kind: str) -> None:
    adapt = partial(connections[alias].ops.adapt_json_value, encoder=None)
    values = [*map(adapt, [None, {"a\t": [1, 1.5, "\\", NASTY]}, "\n"]), None]
    assert written(kind, values, through=by_stream) == written(kind, values, through=by_driver)


def test_refusals_name_the_model(alias: str) -> None:
    with pytest.raises(RestoreError, match=r"app\.model") as caught:
        written("boolean", ["neither"], through=by_stream)
    assert isinstance(caught.value.__cause__, DataError)
