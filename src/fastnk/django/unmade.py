"""Why the records of a backup do not tell a natural key that a method makes. Imports Django."""

from __future__ import annotations

import json
from typing import Any

from fastnk.django.kept import key_name
from fastnk.django.schema.describe import concrete_label
from fastnk.errors import shorten


class RefusalError(Exception):
    """The method cannot make a key of what the backup holds; the message says why."""


class NoRecordError(RefusalError):
    """No record has the pk that is referred to, or the natural key."""

    def __init__(self, model: type[Any], raw: Any) -> None:
        super().__init__(f"refers to {_told(model, raw)}, which no record has")


class UnknownKeyError(NoRecordError):
    """No record is known to have the natural key that is referred to; one may be found."""

    def __init__(self, model: type[Any], key: list[Any]) -> None:
        super().__init__(model, key)
        self.model = model
        self.key = key
        self.name = key_name(key)


class UnmadeKeyError(RefusalError):
    """No record is known to have the natural key that is referred to, and not every record has one:
    methods could not make them, or were asked for this one meanwhile."""

    def __init__(self, unknown: UnknownKeyError) -> None:
        told = _told(unknown.model, unknown.key)
        super().__init__(f"refers to {told}, and no record says that this is its key")


def _told(model: type[Any], raw: Any) -> str:
    return f"{concrete_label(model)} {shorten(json.dumps(raw, ensure_ascii=False))}"
