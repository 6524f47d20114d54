"""What is told of rows and of a database's errors: what helps, and nothing that lets anybody in."""

from __future__ import annotations

import re
from types import EllipsisType
from typing import Any, NamedTuple

from django.db import IntegrityError, InterfaceError, OperationalError

from fastnk.errors import RestoreError
from fastnk.schema import model_name

NOT_SHOWN = "(not shown)"


class _Fault(NamedTuple):
    """What no row is to blame for, and how databases tell it."""

    remedy: str
    codes: tuple[str, ...]
    """How those of PostgreSQL begin."""
    numbers: frozenset[int]
    """Those of MySQL and MariaDB."""
    words: tuple[str, ...] = ()
    """What others say, SQLite above all."""

    def is_told_by(self, cause: BaseException) -> bool:
        number = cause.args[0] if cause.args else None
        if isinstance(number, int):
            return number in self.numbers
        code = _code_of(cause)
        return (isinstance(code, str) and code.startswith(self.codes)) or any(
            words in str(cause) for words in self.words
        )


_LOST = _Fault(
    "see that the server runs and answers, then restore again",
    ("08", "57P"),
    frozenset({1053, 1152, 1184, 1927, 2002, 2003, 2006, 2013, 2055}),
)
_FAULTS = (
    _Fault(
        "make room on the disk of the database, then restore again",
        ("53100",),
        frozenset({1021, 1114}),
        ("disk is full",),
    ),
    _Fault(
        "see that the database may be written, a file's folder too, then restore again",
        ("25006",),
        frozenset({1290, 1792, 1836, 4170}),
        ("readonly database", "unable to open database file"),
    ),
    _Fault(
        "restore again when no other session is in the way; where a timeout of the server ends what"
        " takes long, raise that first",
        ("25P03", "25P04", "40", "55P03", "57014"),
        frozenset({1020, 1205, 1213, 1317, 1969, 3024}),
        ("database is locked", "table is locked"),
    ),
    _Fault(
        "restore as a user who may read and write all tables, use and set their sequences, and"
        " create fastnk_ledger, such as their owner",
        ("42501",),
        frozenset({1142, 1143, 1227, 1370}),
        ("row-level security",),
    ),
    _Fault(
        "bring the tables to what the project says, then restore again: python manage.py migrate",
        ("42P01", "42703"),
        frozenset({1054, 1146}),
        ("no such table", "no such column", "has no column named"),
    ),
    _Fault(
        "see NAME, USER and PASSWORD of this database in DATABASES, then restore again",
        (),
        frozenset({1044, 1045, 1049, 1698}),
        ('FATAL:  role "', 'FATAL:  database "', "authentication failed"),
    ),
    _LOST,
)

NO_SUCH_ROW = "23503"
"""PostgreSQL's code for a broken reference; before the end it checks none that can wait."""

_SECRET = re.compile(r"passw(or)?d|passphrase|token|secret|api_?key|private_?key|credential", re.I)

_FIRST_QUOTED = re.compile(r"(?<=Duplicate entry )'.*'(?= for key)|(?<=value: )'.*'(?= for column)")


def is_secret(label: str, field: str | None) -> bool:
    """Whether the values of a field, by its name or that of its model, are nobody's business."""
    model = model_name(label)
    return bool(_SECRET.search(model) or (field and _SECRET.search(field)))


def reason(error: BaseException) -> str:
    """What a database says is wrong, on one line, without the rest of the row that it quotes."""
    told = (error.__cause__ or error).args
    if len(told) == 2 and isinstance(told[0], int):  # of MySQL, which quotes values first
        return f"{_FIRST_QUOTED.sub(NOT_SHOWN, ' '.join(str(told[1]).split()))} ({told[0]})"
    diagnosis = getattr(error.__cause__ or error, "diag", None)
    message: str | None = getattr(diagnosis, "message_primary", None)
    if message is None:
        return " ".join(str(error).split())
    detail: Any = getattr(diagnosis, "message_detail", None) or ""
    named = " ".join(filter(None, (diagnosis and diagnosis.table_name, detail.partition("=")[0])))
    is_key = detail.startswith("Key (") and not _SECRET.search(named)
    return f"{message}: {detail}" if is_key else message


def refused(path: str, error: Exception) -> RestoreError:
    """The error for what a database or its driver raised while rows of `path` were written."""
    return RestoreError(
        f"the database refused {path}: {reason(error)}; everything was rolled back",
        remedy=remedy_for(error) or _remedy_of_rows(path, error),
    )


def _remedy_of_rows(path: str, error: Exception) -> str:
    remedy = "mend the backup or the row in the way, then restore again"
    cause = error.__cause__ or error
    if _code_of(cause) == NO_SUCH_ROW:
        table, name = cause.diag.table_name, cause.diag.constraint_name  # type: ignore[attr-defined]
        return (
            "have the database check such references at the end, as Django makes them:"
            f" ALTER TABLE {table} ALTER CONSTRAINT {name} DEFERRABLE INITIALLY DEFERRED"
        )
    if isinstance(error, IntegrityError):
        label = ".".join(path.split(".")[:2])
        remedy += (
            "; rows that triggers or receivers make, as of an index for searching, do not belong"
            f" in a backup: --exclude {label}"
        )
    return remedy


def remedy_for(error: Exception) -> str | None:
    """What to do where no row is to blame, but the disk, the connection, other sessions or rights;
    `None` elsewhere."""
    cause = error.__cause__ or error
    for fault in _FAULTS:
        if fault.is_told_by(cause):
            return fault.remedy
    is_lost = isinstance(error, OperationalError | InterfaceError) and _code_of(cause) is None
    return _LOST.remedy if is_lost else None


def _code_of(cause: BaseException) -> str | EllipsisType | None:
    """PostgreSQL's code of an error; `None` where its driver has none, having lost the server, and
    an ellipsis for those of other drivers."""
    # The second is psycopg2's word.
    code: str | EllipsisType | None = getattr(cause, "sqlstate", getattr(cause, "pgcode", ...))
    return code
