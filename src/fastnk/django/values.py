"""From a backup's values to a field's, and when two of them say the same."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Field, JSONField, TextField, Value
from django.db.models.functions import Cast
from django.utils import timezone

REFUSALS = (ValidationError, ValueError, TypeError, ArithmeticError, AttributeError)
"""What `to_python` of Django's fields and of other people's raises for a value it refuses."""


def converted(field: Field[Any, Any], value: Any) -> Any:
    """What `field` makes of a value from a backup. Raises one of `REFUSALS`."""
    python = field.to_python(value)
    if isinstance(python, datetime) and timezone.is_naive(python) == settings.USE_TZ:
        zone = timezone.get_default_timezone()
        change = timezone.make_aware if settings.USE_TZ else timezone.make_naive
        return change(python, zone)
    return python


def stored(field: Field[Any, Any], value: Any) -> Any:
    """`value` as Django must be given it to put it into the column of `field`."""
    if value is None and isinstance(field, JSONField) and not field.null:
        # JSON's null: a plain None would be SQL's, and so would a Value(None) inside a CASE.
        return Cast(Value("null", TextField()), field)
    return value


def comparable(value: Any) -> Any:
    """A hashable form with a stable repr, equal for values that a backup cannot tell apart.

    Backups cut times to milliseconds, so times are compared as far as they go. Numbers in JSON
    columns come back from databases as `1` or `1.0`, but `true` is not 1. What is comparable
    already stays as it is.
    """
    if value is None or type(value) in (str, int):
        return value
    if isinstance(value, bool):
        return (bool, int(value))
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        return value if value == value else "NaN"  # which is not equal to itself
    if isinstance(value, datetime) and not timezone.is_naive(value):
        return _in_milliseconds(value.astimezone(UTC))
    if isinstance(value, datetime | time):
        return _in_milliseconds(value)
    if isinstance(value, Decimal):
        return value.normalize()
    if isinstance(value, dict):
        return (dict, *sorted((str(name), comparable(item)) for name, item in value.items()))
    if isinstance(value, list | tuple):
        return tuple(map(comparable, value))
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return value if type(value).__hash__ is not None else repr(value)


def digest(values: object) -> bytes:
    """16 bytes that stand for `comparable` values."""
    return hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def as_text(value: Any) -> str:
    """A value from a backup as a finding shows it."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _in_milliseconds(moment: Any) -> Any:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
