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
        shown = shorten(json.dumps(raw, ensure_ascii=False))
        super().__init__(f"refers to {concrete_label(model)} {shown}, which no record has")


class UnknownKeyError(NoRecordError):
    """No record is known to have the natural key that is referred to; one may be found."""

    def __init__(self, model: type[Any], key: list[Any]) -> None:
        super().__init__(model, key)
        self.model = model
        self.name = key_name(key)
