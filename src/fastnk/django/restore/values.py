"""From a backup's values to a field's, what is inside them, and when two of them say the same."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import Error as DatabaseError
from django.db.models import (
    AutoField,
    BinaryField,
    CharField,
    DecimalField,
    EmailField,
    Field,
    FileField,
    IntegerField,
    JSONField,
    SlugField,
    TextField,
    UUIDField,
    Value,
)
from django.db.models.functions import Cast
from django.utils import timezone
from django.utils.encoding import is_protected_type

from fastnk.django.offline import without_databases
from fastnk.django.schema.describe import plain_of
from fastnk.errors import MAX_VALUE_SHOWN, RestoreError, shorten
from fastnk.schema import ELEMENTS, Embedded, embedded_steps

REFUSALS = (ValidationError, ValueError, TypeError, ArithmeticError, AttributeError)
"""What `to_python` of Django's fields and of other people's raises for a value it refuses."""

TEXTS = {"CharField", "FileField", "FilePathField", "SlugField", "TextField"}
"""The internal types of columns that hold text."""

_PLAIN_TEXTS = (CharField, EmailField, SlugField)

_BRACKETS = ("[", "(", "{")
"""What Python shows lists, tuples, sets and dicts in."""

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
"""How a date and time begin in JSON."""

_JSON_TEXT = "fastnk_on_json_text"
"""The attribute by which a field knows what is done about texts that hold JSON."""


def told_of_json_text(field: Field[Any, Any], word: str) -> Field[Any, Any]:
    """A JSON field that knows whether texts that hold JSON are read, or kept; others as they are.

    Fields of the `jsonfield` package stored what they held as text and put that text into backups.
    """
    if word == "error" or not isinstance(field, JSONField):
        return field
    told = copy(field)
    setattr(told, _JSON_TEXT, word)
    return told


def on_json_text(field: Field[Any, Any]) -> str:
    """What is done about texts that hold JSON: `error`, `keep` or `read`."""
    return getattr(field, _JSON_TEXT, "error")


def converted(field: Field[Any, Any], value: Any) -> Any:
    """What `field` makes of a value from a backup. Raises one of `REFUSALS`."""
    field = plain_of(field)
    if value is None and isinstance(field, FileField) and not field.null:
        return ""  # as Django writes a file that is none
    if isinstance(value, str) and on_json_text(field) == "read":
        value = _read_if_json(value)
    python = _in_python(field, value)
    if isinstance(python, datetime) and timezone.is_naive(python) == settings.USE_TZ:
        zone = timezone.get_default_timezone()
        change = timezone.make_aware if settings.USE_TZ else timezone.make_naive
        return change(python, zone)
    return python


def _in_python(field: Field[Any, Any], value: Any) -> Any:
    """What `to_python` gives. Raises one of `REFUSALS`, as Django takes whatever it raises for one;
    a database that fails meanwhile is another matter."""
    try:
        return field.to_python(_as_written(field, value))
    except (*REFUSALS, DatabaseError):
        raise
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _as_written(field: Field[Any, Any], value: Any) -> Any:
    """`value`, or the list or moment that is meant by a text: Django writes `str()` of a list that
    a field makes of its text, and a moment as JSON has it. Such a text is one that `field` writes
    for that list or moment, and not for what it reads in the text."""
    if not isinstance(value, str) or is_of_django(field):
        return value
    try:
        if value.startswith(_BRACKETS):
            shown = _literal(value)
        elif _MOMENT.match(value):
            shown = datetime.fromisoformat(value)
        else:
            return value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value
    is_shown = _is_written_for(field, value, shown) and not _is_written_for(field, value, value)
    return shown if is_shown else value


def _literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of a backslash that Python would double
        return ast.literal_eval(text)


def _is_written_for(field: Field[Any, Any], text: str, value: Any) -> bool:
    """Whether backups have `text` for what `field` makes of `value`."""
    try:
        written = _written(field, field.to_python(value))
        if isinstance(written, datetime):
            written = DjangoJSONEncoder().default(written)
        return bool(written == text)
    except DatabaseError:
        raise
    except Exception:
        return False


def _written(field: Field[Any, Any], value: Any) -> Any:
    """What Django writes for a value of `field` into backups."""
    if is_protected_type(value):
        return value
    return field.value_to_string(SimpleNamespace(**{field.attname: value}))


def refuse_unfit(field: Field[Any, Any], value: Any, connection: Any) -> None:
    """Raise `ValueError` for a value that the field takes and its column would not, or not whole.

    A database would refuse it in the middle of the work, or round it without a word.
    """
    if isinstance(field, JSONField):
        if connection.vendor == "postgresql" and _has_inside(value, _is_text_with_nul):
            raise ValueError("a NUL character, which PostgreSQL does not take in JSON")
        if connection.vendor == "mysql" and _has_inside(value, _is_no_number):
            raise ValueError("no number that MySQL takes in JSON")
        if isinstance(value, str) and on_json_text(field) == "error" and _holds_json(value):
            raise ValueError(
                "a text that holds JSON (--on-json-text read: what it holds; keep: the text)"
            )
    elif type(field) is BinaryField:
        # It takes any object, and not every driver refuses what is none of bytes.
        if not isinstance(value, bytes | memoryview | None):
            raise ValueError("no text in base64, as which Django writes bytes")
    elif isinstance(value, str):
        limit = field.max_length if isinstance(field, CharField | FileField) else None
        if limit is not None and len(value) > limit and _is_kept(limit, field, connection):
            raise ValueError(f"{len(value):,} characters, and the column takes {limit:,}")
        if "\0" in value and connection.vendor == "postgresql":
            raise ValueError("a NUL character, which PostgreSQL does not take in text")
        value.encode()  # half of a surrogate pair is no text
    elif connection.vendor == "mysql" and _is_no_number(value):
        raise ValueError("no number that MySQL takes")
    elif isinstance(value, Decimal) and isinstance(field, DecimalField):
        _refuse_digits(field, value, connection)
    elif isinstance(value, int) and isinstance(field, IntegerField):
        low, high = integer_range(field, connection)
        if not low <= value <= high:
            raise ValueError(f"the column takes {low:,} to {high:,}")


def _is_kept(limit: int, field: Field[Any, Any], connection: Any) -> bool:
    """Whether the column keeps a limit of its field; fields that encrypt often have it in a column
    for text of any length."""
    return connection.vendor != "sqlite" and f"({limit})" in (field.db_type(connection) or "")


def integer_range(field: Any, connection: Any) -> tuple[int, int]:
    """The numbers that the column of an integer field takes."""
    kind = field.get_internal_type()
    low, high = connection.ops.integer_field_range(kind)
    lowest = 0 if kind.startswith("Positive") else -(1 << 63)
    return max(lowest, lowest if low is None else low), (1 << 63) - 1 if high is None else high


def pk_range(pk: Any, connection: Any) -> range | None:
    """The numbers that the column of a pk takes, where the database gives these."""
    kind = pk.get_internal_type()
    if not isinstance(pk, AutoField) or kind not in connection.ops.integer_field_ranges:
        return None
    lowest, highest = integer_range(pk, connection)
    return range(lowest, highest + 1)


def _read_if_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _holds_json(text: str) -> bool:
    """Whether it is that of an object or an array; a text such as `5` is most likely just that."""
    return text.startswith(("{", "[")) and _read_if_json(text) is not text


def _has_inside(value: Any, is_it: Callable[[Any], bool]) -> bool:
    """Whether there is such a scalar, or such a name, in a JSON value."""
    if isinstance(value, dict):
        return any(is_it(name) or _has_inside(item, is_it) for name, item in value.items())
    if isinstance(value, list):
        return any(_has_inside(item, is_it) for item in value)
    return is_it(value)


def _is_text_with_nul(value: Any) -> bool:
    return isinstance(value, str) and "\0" in value


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _refuse_digits(field: Any, value: Decimal, connection: Any) -> None:
    _, digits, exponent = value.normalize().as_tuple()
    if not isinstance(exponent, int):  # not a number, or without end
        if connection.vendor == "postgresql":
            return
        raise ValueError("no number that the column takes")
    if -exponent > field.decimal_places:
        raise ValueError(f"more than {field.decimal_places} decimal places")
    if value and len(digits) + exponent > field.max_digits - field.decimal_places:
        raise ValueError(f"more than {field.max_digits} digits")


def stored(field: Field[Any, Any], value: Any) -> Any:
    """`value` as Django must be given it to put it into the column of `field`."""
    if value is None and isinstance(field, JSONField) and not field.null:
        # JSON's null: a plain None would be SQL's, and so would a Value(None) inside a CASE.
        return Cast(Value("null", TextField()), field)
    return value


def are_comparable(field: Field[Any, Any], values: Sequence[Any]) -> bool:
    """Whether the values of a column are surely comparable as they are."""
    if not set(map(type, values)) <= {str, type(None)}:
        return False
    if type(field) is UUIDField:
        return are_uuids([value for value in values if value is not None])
    return type(field) in _PLAIN_TEXTS


def are_uuids(texts: Sequence[str]) -> bool:
    """Whether all texts are UUIDs as Python spells them."""
    together, dashes = "".join(texts), "-" * len(texts)
    return (
        set(map(len, texts)) <= {36}
        and all(together[at::36] == dashes for at in (8, 13, 18, 23))
        and together.isascii()
        and together.encode().translate(None, b"0123456789abcdef").decode() == dashes * 4
    )


def comparable(value: Any) -> Any:
    """A hashable form with a stable repr, equal for values that a backup cannot tell apart.

    Backups cut times to milliseconds, so times are compared as far as they go. Numbers in JSON
    columns come back from databases as `1` or `1.0`, but `true` is not 1. UUIDs are texts, as they
    are in backups. What is comparable already stays as it is.
    """
    if value is None or type(value) in (str, int):
        return value
    if isinstance(value, bool):
        return (bool, int(value))
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        return value if value == value else "NaN"  # which is not equal to itself
    if isinstance(value, date):
        value = _as_of_python(value)
    if isinstance(value, datetime) and not timezone.is_naive(value):
        return in_milliseconds(value.astimezone(UTC))
    if isinstance(value, datetime | time):
        return in_milliseconds(value.replace(fold=0))  # which no column and no backup can hold
    if isinstance(value, Decimal):
        return value.normalize()
    if isinstance(value, dict):
        return (dict, *sorted((str(name), comparable(item)) for name, item in value.items()))
    if isinstance(value, list | tuple):
        return tuple(map(comparable, value))
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if type(value) is UUID:
        return str(value)
    return value if type(value).__hash__ is not None else repr(value)


def of_comparable(value: Any) -> Any:
    """What has this comparable form, as queries take it and messages show it."""
    if not isinstance(value, tuple):
        return value
    kind, *items = value or (None,)
    if kind is bool:
        return bool(items[0])
    if kind is dict:
        return {name: of_comparable(item) for name, item in items}
    return list(map(of_comparable, value))


def as_restored(field: Field[Any, Any], value: Any) -> Any:
    """What a column holds, as `field` would make it of a backup.

    Most fields read the same from a database; some make a number from there a text for everyone
    else. What a field refuses stays as it is.
    """
    if not _may_read_otherwise(field):
        return value
    try:
        return _in_python(field, value)
    except REFUSALS:
        return value


@cache
def _may_read_otherwise(field: Field[Any, Any]) -> bool:
    return not type(end_of(field)).to_python.__module__.startswith("django.db.models.")


def end_of(field: Any) -> Any:
    """The field that a relation refers to, at the end of all where that is one as well."""
    while field.remote_field:
        field = field.target_field
    return field


def or_null(field: Field[Any, Any], value: Any) -> Any:
    """`value`, or `None` where it is empty and `field` puts a null into the column for that."""
    if value in field.empty_values:
        with contextlib.suppress(*REFUSALS):
            return None if field.get_prep_value(value) is None else value
    return value


def in_column(field: Field[Any, Any], value: Any) -> Any:
    """The comparable form of what a column holds; an object of a type that only its field knows
    is compared by what the field puts into the column, or into a backup if that is an object, too,
    as a place on a map is."""
    value = _as_of_python(as_restored(field, value))
    if type(value) not in _KNOWN:
        with contextlib.suppress(*REFUSALS):
            value = field.get_prep_value(value)
    if type(value) not in _KNOWN:
        with contextlib.suppress(*REFUSALS):
            value = _written(field, value)
    return comparable(value)


_KNOWN = {type(None), bool, bytes, date, datetime, Decimal, dict, float, int, list, memoryview}
_KNOWN |= {str, time, timedelta, tuple, UUID}


def is_of_django(field: Field[Any, Any]) -> bool:
    """Whether it is one of Django's own, so that no code of the project makes its values."""
    return type(field).__module__.startswith("django.")


def misreads(field: Field[Any, Any]) -> bool:
    """Whether `field` makes another value of what it writes into backups, and says nothing, as one
    that makes objects of its texts and has them written as Python shows them."""
    if is_of_django(field):
        return False
    with without_databases():
        return any(_is_misread(field, text) for text in ("", "a"))


def _is_misread(field: Field[Any, Any], text: str) -> bool:
    try:
        value = field.to_python(text)
        read = _in_python(field, _written(field, value))
        return bool(in_column(field, read) != in_column(field, value))
    except Exception:  # what is refused is told of each value
        return False


def from_json(text: bytes | str) -> Any:
    """What `json.loads` makes of it, mostly in a fraction of the time."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _from_odd_json(text)


def _from_odd_json(text: bytes | str) -> Any:
    """Raises `RestoreError` for what is right and still more than Python reads."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        start = text[: 2 * MAX_VALUE_SHOWN]
        seen = shorten(start if isinstance(start, str) else start.decode(errors="replace"))
        raise RestoreError(
            f"a number of more than {sys.get_int_max_str_digits():,} digits is in {seen}",
            remedy="no column takes such a number; is this file what it seems?",
        ) from None


def as_in_json(value: Any) -> Any:
    """What stands in a backup for `value`, which may be of any type that Django can write."""
    return json.loads(json.dumps(value, cls=DjangoJSONEncoder))


def digest(values: object) -> bytes:
    """16 bytes that stand for `comparable` values."""
    return hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def as_text(value: Any) -> str:
    """A value from a backup as a finding shows it."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _as_of_python(value: Any) -> Any:
    """`value`; a date or time of a class of the project's own as one of Python's, because such a
    class may compare in another way."""
    if type(value) in (date, datetime) or not isinstance(value, date):
        return value
    day = date.fromordinal(value.toordinal())
    return datetime.combine(day, value.timetz()) if isinstance(value, datetime) else day


def in_milliseconds(moment: Any) -> Any:
    """A time as far as a backup has it."""
    if not moment.microsecond % 1000:
        return moment
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Inside:
    """Where in the value of a field ids of other rows stand: the schema's paths as a tree."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        """The path to here, as findings show it."""
        self.to = ""
        """The label of the model that the id here refers to; empty where no path ends."""
        self.to_field: str | None = None
        self.steps: dict[str, Inside] = {}

    def add(self, path: str, end: Embedded) -> None:
        """Add a path, which starts with the field itself."""
        place = self
        for step in embedded_steps(path)[1:]:
            place = place.steps.setdefault(step, Inside())
        place.path, place.to, place.to_field = path, end.to, end.to_field

    def all(self) -> Iterator[Inside]:
        """This place and those further down."""
        yield self
        for place in self.steps.values():
            yield from place.all()

    def replaced(self, value: Any, replace: Replace) -> Any:
        """`value` with what `replace` makes of the ids and the natural keys where paths end.

        A text holds JSON where paths go on, and is an id or a key as a whole where none does.
        All but what is replaced stays as it is, in a text to the letter.
        """
        if not isinstance(value, str):
            return self._in_value(value, replace)
        return self._in_text(value, replace) if self.steps else self._whole_text(value, replace)

    def _in_value(self, value: Any, replace: Replace) -> Any:
        if self._is_end(value):
            return replace(self, value)
        if isinstance(value, dict):
            return {name: self._in_item(name, item, replace) for name, item in value.items()}
        if isinstance(value, list) and ELEMENTS in self.steps:
            return [self.steps[ELEMENTS]._in_value(item, replace) for item in value]
        return value

    def _in_item(self, name: str, item: Any, replace: Replace) -> Any:
        is_on_path = name in self.steps and name != ELEMENTS
        return self.steps[name]._in_value(item, replace) if is_on_path else item

    def _whole_text(self, text: str, replace: Replace) -> str:
        item = _key_in(text) or text
        new = replace(self, item) if self._is_end(item) else item
        return text if new is item else new if isinstance(new, str) else as_text(new)

    def _in_text(self, text: str, replace: Replace) -> str:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return text
        pieces, done = [], 0
        for start, end, place, item in self._ends(text, _after_space(text, 0)):
            new = replace(place, item)
            if new is not item:
                pieces += [text[done:start], as_text(new)]
                done = end
        return "".join([*pieces, text[done:]])

    def _ends(self, text: str, start: int) -> Iterator[tuple[int, int, Inside, Any]]:
        """Start and end of the ids and keys in the JSON value at `start`, and what they are."""
        value, end = _DECODER.raw_decode(text, start)
        if self._is_end(value):
            yield start, end, self, value
        elif isinstance(value, dict | list):
            for step, at in _items(text, start):
                if step in self.steps:
                    yield from self.steps[step]._ends(text, at)

    def _is_end(self, value: Any) -> bool:
        """Whether `value`, which stands here, may be an id or a key."""
        if not self.to:
            return False
        if not isinstance(value, list):
            return value != "" and type(value) in (int, str)
        # Where paths go on into a list, what is nested is no key.
        is_nested = any(isinstance(item, dict | list) for item in value)
        return bool(value) and not (is_nested and ELEMENTS in self.steps)


Replace = Callable[[Inside, Any], Any]
"""Gets where a path ends and what stands there: an id or, as a list, a natural key."""

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _items(text: str, start: int) -> Iterator[tuple[str, int]]:
    """The step to each item of the JSON object or array at `start`, and where that starts."""
    is_object = text[start] == "{"
    at = _after_space(text, start + 1)
    while text[at] not in "}]":
        step = ELEMENTS
        if is_object:
            step, at = _DECODER.raw_decode(text, at)
            at = _after_space(text, _after_space(text, at) + len(":"))
        if not is_object or step != ELEMENTS:
            yield step, at
        _, at = _DECODER.raw_decode(text, at)
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)


def _key_in(text: str) -> list[Any] | None:
    """The natural key that `text` is, if it is one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) else None
