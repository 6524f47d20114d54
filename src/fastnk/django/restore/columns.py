"""What the values of a column must be, and how they go from the backup to the driver.

Django's own fields of common types are known here, so that whole columns are converted at once.
Every other field, and every value that is not plainly right, takes the field's own way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import models
from django.db.models import Field, JSONField
from django.db.models.sql import InsertQuery

from fastnk.django.restore.rows import Missing
from fastnk.django.restore.values import (
    REFUSALS,
    are_uuids,
    converted,
    from_json,
    integer_range,
    on_json_text,
    refuse_unfit,
)

Values = Sequence[Any]

TEXTS = (
    models.CharField,
    models.EmailField,
    models.FileField,
    models.ImageField,
    models.SlugField,
    models.TextField,
    models.URLField,
)
INTEGERS = (
    models.BigIntegerField,
    models.IntegerField,
    models.PositiveBigIntegerField,
    models.PositiveIntegerField,
    models.PositiveSmallIntegerField,
    models.SmallIntegerField,
)
MOST_IN_A_BOUND = (1 << 63) - 1
"""What msgspec takes as one; a column of MySQL without a sign holds more, which is not plain."""

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")

_DIGITS_AND_DOTS = re.compile("[0-9.]*")
"""What is left of them all in a row, when they have been checked."""

_ZONE = attrgetter("tzinfo")
_DATE = "[0-9]{4}-[01][0-9]-[0-3][0-9]"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.(?!000)[0-9]{3})?"
_ALL_UTC = re.compile(f"(?:{_DATE}T{_TIME}Z)*")
"""Moments as Django writes them into backups, one behind the other."""

_TEXT_OF_JSON = re.compile(rb'\0"[{[\\]')
"""How a text begins that may be that of a JSON object or array; a brace can be escaped."""

MANY_TEXTS = 1000
"""JSON texts of which it is remembered how Django spells them."""


class PlainColumn(NamedTuple):
    """How to check and convert a column at once."""

    hint: Any
    """The type that msgspec must find."""
    check: Callable[[Values], Values]
    """Raises for what is not plain; the others need not be called for that."""
    python: Callable[[Values], Values]
    """The values as the field has them in Python."""
    driver: Callable[[Values], Values]
    """The values as the driver takes them; what is no value at all has been found before."""


def plain_column(field: Field[Any, Any], connection: Any) -> PlainColumn | None:
    """How to convert a column of `field` at once; `None` where that is not known."""
    make = _MAKERS.get(type(field))
    if make is None:
        return None
    column = make(field, connection)
    return _with_nulls(column) if field.null and column is not None else column


def prepared(field: Field[Any, Any], value: Any, connection: Any) -> Any:
    """`value` as the driver takes it, by the field's own conversion."""
    if isinstance(value, Missing):
        return value
    if value is None and isinstance(field, JSONField) and not field.null:
        return connection.ops.adapt_json_value(None, field.encoder)  # JSON's null, not SQL's
    made = field.get_db_prep_save(value, connection)
    return _compiled(field, made, connection) if is_expression(made) else made


def takes_null(field: Any, connection: Any) -> bool:
    """Whether a column takes Python's None; some fields put a text where Python has that."""
    if field.null or field.get_internal_type() == "JSONField":
        return True
    try:
        return prepared(field, None, connection) is not None
    except REFUSALS:
        return False


def is_expression(value: Any) -> bool:
    """Whether Django asks a value for the SQL by which it is written."""
    return hasattr(value, "as_sql") and hasattr(value, "resolve_expression")


def _compiled(field: Field[Any, Any], value: Any, connection: Any) -> Any:
    """What the driver takes for an expression, if that is nothing but a value in a new row."""
    compiler = InsertQuery(field.model).get_compiler(connection=connection)
    sql, params = compiler.compile(value)
    return params[0] if sql == "%s" else value


def is_written_directly(model: Any) -> bool:
    """Whether rows can be given to the driver as values alone, with no SQL of a field's around."""
    return not any(
        hasattr(field, "get_placeholder") and type(field) is not models.BinaryField
        for field in model._meta.local_concrete_fields
    )


def _same(values: Values) -> Values:
    return values


def _each(convert: Callable[[Any], Any]) -> Callable[[Values], Values]:
    return lambda values: list(map(convert, values))


def _with_nulls(column: PlainColumn) -> PlainColumn:
    """The same for a column that may hold nulls."""

    def around(convert: Callable[[Values], Values]) -> Callable[[Values], Values]:
        def converted(values: Values) -> Values:
            if None not in values:
                return convert(values)
            held = [value for value in values if value is not None]
            made = iter(convert(held) if held else held)
            return [None if value is None else next(made) for value in values]

        return _same if convert is _same else converted

    hint = column.hint if column.hint is msgspec.Raw else column.hint | None
    check, python, driver = map(around, (column.check, column.python, column.driver))
    return PlainColumn(hint, check, python, driver)


def _text(field: Any, connection: Any) -> PlainColumn:
    hint: Any = str
    if not isinstance(field, models.TextField) and connection.vendor != "sqlite":
        hint = Annotated[str, msgspec.Meta(max_length=field.max_length)]
    return PlainColumn(hint, _same, _same, _same)


def _integer(field: Any, connection: Any) -> PlainColumn:
    low, high = integer_range(field, connection)
    hint = Annotated[int, msgspec.Meta(ge=low, le=min(high, MOST_IN_A_BOUND))]
    return PlainColumn(hint, _same, _same, _same)


def _boolean(field: Any, connection: Any) -> PlainColumn:
    # What SQLite holds; its driver would look for an adapter for each.
    driver = _each(int) if connection.vendor == "sqlite" else _same
    return PlainColumn(bool, _same, _same, driver)


def _float(field: Any, connection: Any) -> PlainColumn:
    return PlainColumn(float, _same, _same, _same)


def _uuid(field: Any, connection: Any) -> PlainColumn:
    def checked(values: Values) -> Values:
        if are_uuids(values):
            return values
        raise ValueError("perhaps UUIDs, spelled otherwise")

    def without_dashes(values: Values) -> Values:
        return "\0".join(checked(values)).replace("-", "").split("\0")

    def python(values: Values) -> Values:
        return msgspec.convert(checked(values), list[UUID])

    is_native = connection.features.has_native_uuid_field
    return PlainColumn(str, checked, python, checked if is_native else without_dashes)


def _date(field: Any, connection: Any) -> PlainColumn:
    python = _each(date.fromisoformat)
    adapt = connection.ops.adapt_datefield_value
    return PlainColumn(str, python, python, lambda values: list(map(adapt, python(values))))


def _moment(field: Any, connection: Any) -> PlainColumn:
    adapt = connection.ops.adapt_datetimefield_value
    is_postgresql = connection.vendor == "postgresql"
    is_utc = connection.timezone_name == "UTC"

    def driver(values: Values) -> Values:
        together = "".join(values)
        may_stay = settings.USE_TZ and (is_postgresql or is_utc)
        if may_stay and _ALL_UTC.fullmatch(together):
            # PostgreSQL reads them itself.
            return values if is_postgresql else _without_zones(together)
        return list(map(adapt, _moments(values)))

    return PlainColumn(str, _moments, _moments, driver)


def _without_zones(moments: str) -> list[str]:
    """What Django makes of moments of UTC for other databases, in a fraction of the time."""
    spelled = moments.replace("T", " ").split("Z")[:-1]
    return [f"{moment}000" if "." in moment else moment for moment in spelled]


def _moments(values: Values) -> Values:
    moments = list(map(datetime.fromisoformat, values))
    has_zones = {zone is not None for zone in set(map(_ZONE, moments))}
    if has_zones != {settings.USE_TZ}:
        raise ValueError("a zone too many or too few")
    return moments


def _by_field(field: Any, connection: Any) -> PlainColumn:
    """By Django's own functions, value by value: for types that are rare, or rarely there."""

    def python(values: Values) -> Values:
        return [converted(field, value) for value in values]

    def driver(values: Values) -> Values:
        return [prepared(field, value, connection) for value in python(values)]

    return PlainColumn(str, python, python, driver)


def _decimal(field: Any, connection: Any) -> PlainColumn:
    def python(values: Values) -> Values:
        numbers = list(map(Decimal, values))
        for number in numbers:
            if not number.is_finite():
                raise ValueError("what is no number is for the field to take or to refuse")
            refuse_unfit(field, number, connection)
        return numbers

    adapt = partial(
        connection.ops.adapt_decimalfield_value,
        max_digits=field.max_digits,
        decimal_places=field.decimal_places,
    )
    return PlainColumn(str, python, python, lambda values: list(map(adapt, python(values))))


def _address(field: Any, connection: Any) -> PlainColumn:
    def checked(values: Values) -> Values:
        if all(map(_IPV4.fullmatch, set(values))):
            return values
        raise ValueError("perhaps an IPv6 address, which Django spells in its own way")

    def driver(values: Values) -> Values:
        is_plain = "" not in values and _DIGITS_AND_DOTS.fullmatch("".join(values))
        return values if is_plain else checked(values)

    return PlainColumn(str, checked, checked, driver)


def _joined(values: Values) -> bytes:
    """JSON texts, each behind a byte that none of them can hold."""
    return b"\0".join([b"", *values])


def _texts(values: Values) -> list[str]:
    return _joined(values).decode().split("\0")[1:]


def _json(field: Any, connection: Any) -> PlainColumn | None:
    word = on_json_text(field)
    if field.encoder is not None or field.decoder is not None or word == "read":
        return None
    null = None if field.null else "null"
    known: dict[str, str | None] = {"null": null}
    encode = json.JSONEncoder().encode

    def checked(values: Values) -> Values:
        if word == "error" and _TEXT_OF_JSON.search(_joined(values)):
            raise ValueError("perhaps a text that holds JSON")
        return values

    def python(values: Values) -> Values:
        return list(map(from_json, _texts(checked(values))))

    def as_it_stands(values: Values) -> Values:
        return [null if text == "null" else text for text in _texts(values)]

    def as_django_spells_it(values: Values) -> Values:
        # SQLite compares the text, so it has to be what Django would have written.
        return [known[text] if text in known else spell(text) for text in _texts(values)]

    def spell(text: str) -> str:
        spelled = encode(from_json(text))
        if len(known) < MANY_TEXTS:
            known[text] = spelled
        return spelled

    is_native = connection.vendor == "postgresql"
    return PlainColumn(
        msgspec.Raw, checked, python, as_it_stands if is_native else as_django_spells_it
    )


_MAKERS: dict[Any, Callable[[Any, Any], PlainColumn | None]] = {
    **dict.fromkeys(TEXTS, _text),
    **dict.fromkeys(INTEGERS, _integer),
    models.BooleanField: _boolean,
    models.FloatField: _float,
    models.UUIDField: _uuid,
    models.DateField: _date,
    models.DateTimeField: _moment,
    models.DecimalField: _decimal,
    models.BinaryField: _by_field,
    models.DurationField: _by_field,
    models.TimeField: _by_field,
    models.GenericIPAddressField: _address,
    models.JSONField: _json,
}
