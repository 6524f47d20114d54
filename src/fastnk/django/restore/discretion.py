"""What is told of rows and of a database's errors: what helps, and nothing that lets anybody in."""

from __future__ import annotations

import re
from typing import Any

from django.db import IntegrityError, InterfaceError, OperationalError

from fastnk.errors import RestoreError
from fastnk.schema import model_name

NOT_SHOWN = "(not shown)"

DISK_FULL = "53100"
READ_ONLY = "25006"
"""PostgreSQL's codes."""
NOT_WRITABLE = ("readonly database", "unable to open database file")
"""What SQLite says."""
CONNECTION_LOST = ("08", "57P")
"""How the codes of its errors begin; where there is none the driver has lost the server."""

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
    if isinstance(error, IntegrityError):
        label = ".".join(path.split(".")[:2])
        remedy += (
            "; rows that triggers or receivers make, as of an index for searching, do not belong"
            f" in a backup: --exclude {label}"
        )
    return remedy


def remedy_for(error: Exception) -> str | None:
    """What to do where no row is to blame, but the disk or the connection; `None` elsewhere."""
    cause = error.__cause__ or error
    # The second is psycopg2's word; other drivers have neither.
    state = getattr(cause, "sqlstate", getattr(cause, "pgcode", ...))
    if state == DISK_FULL or "disk is full" in str(cause):
        return "make room on the disk of the database, then restore again"
    if state == READ_ONLY or any(words in str(cause) for words in NOT_WRITABLE):
        return "see that the database may be written, a file's folder too, then restore again"
    is_lost = state is None or (state is not ... and state.startswith(CONNECTION_LOST))
    if is_lost and isinstance(error, OperationalError | InterfaceError):
        return "see that the server runs and answers, then restore again"
    return None
