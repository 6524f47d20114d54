"""Values such as records hold, by kind of field. Imports Django."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import models

_START = datetime(2000, 1, 1)


def sample_value(field: Any, path: str, number: int) -> Any:
    """The value at `path` of the sample record `number`, of the type that a database gives.

    `None` for kinds of fields that keys are not made of.
    """
    n = zlib.crc32(path.encode()) % 10_000 + number
    choices = [value for value, _ in field.flatchoices if value not in (None, "")]
    if choices:
        return field.to_python(choices[n % len(choices)])
    return _value(field, n)


def _value(field: Any, n: int) -> Any:
    moment = _START + timedelta(hours=n, seconds=n)
    match field:
        case models.BooleanField():
            return n % 2 == 0
        case models.IntegerField():
            return n
        case models.FloatField():
            return n + 0.5
        case models.DecimalField():
            return Decimal(n).scaleb(-field.decimal_places)
        case models.DateTimeField():
            return moment.replace(tzinfo=UTC) if settings.USE_TZ else moment
        case models.DateField():
            return moment.date()
        case models.TimeField():
            return moment.time()
        case models.UUIDField():
            return UUID(int=n)
        case (
            models.CharField()
            | models.TextField()
            | models.FilePathField()
            | models.GenericIPAddressField()
        ):
            return f"{n} {field.name}"[: field.max_length]
    return None
