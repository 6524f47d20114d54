"""Everything wrong with a backup, gathered before anything is written."""

from __future__ import annotations

from typing import Any

from fastnk.django.values import as_text
from fastnk.errors import Finding, FindingsError, Place

DANGLING = "FNK410"
UNKNOWN_MODEL = "FNK411"
UNKNOWN_FIELD = "FNK412"
REFUSED_VALUE = "FNK413"
AMBIGUOUS_KEY = "FNK414"
SAME_ROW = "FNK415"
NO_KEY = "FNK416"
NO_PK = "FNK417"


class Findings:
    """The findings of one restore, by the name that its backup goes by."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._found: dict[Finding, None] = {}

    def add(
        self,
        code: str,
        what: str,
        *,
        record: int,
        model: str,
        pk: Any = None,
        field: str | None = None,
        value: Any = ...,
    ) -> None:
        """Note one finding; `value` as the backup has it."""
        place = Place(
            path=self._name,
            record=record,
            model=model,
            pk=None if pk is None else pk if isinstance(pk, str) else as_text(pk),
            field=field,
        )
        text = None if value is ... else as_text(value)
        self._found[Finding(code, what, place, text)] = None

    def refuse(self) -> None:
        """Raise `FindingsError` if there are any, in the order of the backup."""
        if self._found:
            findings = sorted(self._found, key=lambda finding: finding.place.record or 0)
            raise FindingsError(
                findings,
                total=len(findings),
                remedy="mend the backup or the database, then restore again",
            )
