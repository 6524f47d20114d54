"""Managers with the `get_by_natural_key` that `loaddata` needs and fastnk does not."""

from __future__ import annotations

from typing import Any

from django.db import models


def by_natural_key(*lookups: str) -> Any:
    """A manager that finds a row by the lookups of its natural key."""

    class ByNaturalKey(models.Manager[Any]):
        def get_by_natural_key(self, *key: Any) -> Any:
            return self.get(**dict(zip(lookups, key, strict=True)))

    return ByNaturalKey()
