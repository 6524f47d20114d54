"""What may be told of rows and of a database's errors: nothing that lets anybody in."""

from __future__ import annotations

import re
from typing import Any

NOT_SHOWN = "(not shown)"

_SECRET = re.compile(r"passw(or)?d|passphrase|token|secret|api_?key|private_?key|credential", re.I)

_FIRST_QUOTED = re.compile(r"(?<=Duplicate entry )'.*'(?= for key)|(?<=value: )'.*'(?= for column)")


def is_secret(label: str, field: str | None) -> bool:
    """Whether the values of a field, by its name or that of its model, are nobody's business."""
    model = label.rpartition(".")[2]
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
