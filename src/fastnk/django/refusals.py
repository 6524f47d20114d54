"""Why Django refused something, in words for people."""

from __future__ import annotations

from decimal import DecimalException

from fastnk.errors import one_line

MAX_REASON = 400
"""Characters of a reason. Django's messages hold the value, which may be as large as the backup."""


def refusal(error: Exception, most: int = MAX_REASON) -> str:
    """Why a field, a key form or a parser refused something, in one line of so many characters."""
    error = getattr(error, "original_exc", error)
    if isinstance(error, DecimalException):  # which says no more than its name
        return "a number beyond all bounds"
    messages = getattr(error, "messages", None)
    why = one_line(" ".join(messages) if messages else str(error) or type(error).__name__)
    return why if len(why) <= most else f"{why[: most // 2]}…{why[-most // 2 :]}"
