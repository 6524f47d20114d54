"""Rows as COPY reads them, for psycopg2, which leaves that to those who use it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.backends.postgresql.psycopg_any import Jsonb
from psycopg2.extensions import Binary
from psycopg2.extras import Json


def spelled(columns: Sequence[Sequence[Any]]) -> bytes:
    """The rows that these columns make. Raises `KeyError` for types whose spelling is not known."""
    rows = zip(*map(_spelled, columns), strict=True)
    return "".join(["\t".join(row) + "\n" for row in rows]).encode()


def _spelled(column: Sequence[Any]) -> Iterable[str]:
    spellings = {kind: _SPELLINGS[kind] for kind in {*map(type, column)}}
    if len(spellings) == 1:
        (spell,) = spellings.values()
        return map(spell, column)
    return [spellings[type(value)](value) for value in column]


def _null(value: None) -> str:
    return r"\N"


def _text(value: str) -> str:
    value = value.replace("\\", r"\\").replace("\t", r"\t")
    return value.replace("\n", r"\n").replace("\r", r"\r")


def _json(value: Any) -> str:
    return _text(value.dumps(value.adapted))


def _bytes(value: Any) -> str:
    return rf"\\x{bytes(value.adapted).hex()}"


def _interval(value: timedelta) -> str:
    return f"{value.days} days {value.seconds}.{value.microseconds:06} seconds"


_SPELLINGS: dict[type, Callable[[Any], str]] = {
    type(None): _null,
    bool: str,
    int: str,
    float: str,
    Decimal: str,
    str: _text,
    date: date.isoformat,
    datetime: datetime.isoformat,
    time: time.isoformat,
    timedelta: _interval,
    UUID: str,
    Json: _json,
    Jsonb: _json,
    Binary: _bytes,
}
