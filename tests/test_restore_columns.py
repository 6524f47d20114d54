"""Columns converted at once: what Django's own fields make of each value alone."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Overflow
from typing import Any

import msgspec
import pytest
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models
from hypothesis import given
from hypothesis import strategies as st

from fastnk.django.refusals import refusal
from fastnk.django.restore.columns import plain_column
from fastnk.django.restore.values import (
    are_comparable,
    comparable,
    converted,
    from_json,
    of_comparable,
)
from fastnk.errors import RestoreError

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e16, 1e-7, 5e-324, 10**30, -0.0, "\x7f", "\x1f\n", '"\\/', "\ud800", "ü"])
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner)
)
SPELLERS: list[Callable[[Any], str]] = [
    json.dumps,
    lambda value: json.dumps(value, separators=(",", ":"), indent=1),
]


def driver_of(field: models.Field[Any, Any], values: Sequence[Any]) -> list[Any]:
    column = plain_column(field, connection)
    assert column is not None
    return [*column.driver(values)]


@given(st.lists(VALUES, min_size=1, max_size=6), st.sampled_from(SPELLERS))
def test_json_is_spelled_as_django_spells_it(
    values: list[Any], spell: Callable[[Any], str]
) -> None:
    field = models.JSONField()
    texts = [msgspec.Raw(spell(value).encode()) for value in values if not isinstance(value, str)]
    made = driver_of(field, texts) if texts else []
    assert made == [json.dumps(value) for value in values if not isinstance(value, str)]


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"b":3,"a":2}', "[1.50,1e400,-0,-0.0,1E5]", '["\\/\\u00FC"]', '["\\ud800", 1.0]'],
)
def test_json_that_python_would_not_have_written(text: str) -> None:
    made = driver_of(models.JSONField(), [msgspec.Raw(text.encode()), msgspec.Raw(b"[1.0]")])
    assert made == [json.dumps(json.loads(text)), "[1.0]"]


@pytest.mark.parametrize(
    "value",
    [None, True, False, 1, "a", b"a", [], [True, [0, None]], {"a": [{"b": False}], "c": {}}],
)
def test_a_comparable_form_tells_what_has_it(value: Any) -> None:
    again = of_comparable(comparable(value))
    assert (again, type(again)) == (value, type(value))


def spellings(value: uuid.UUID) -> list[str]:
    text = str(value)
    return [text, text.upper(), value.hex, f"{{{text}}}", f"urn:uuid:{text}"]


@given(st.lists(st.uuids(), min_size=1, max_size=4))
def test_uuids_arrive_as_django_writes_them(values: list[uuid.UUID]) -> None:
    field = models.UUIDField()
    texts = [*map(str, values)]
    wanted = [field.get_db_prep_save(value, connection) for value in values]
    assert driver_of(field, texts) == wanted
    assert [*plain_column(field, connection).python(texts)] == values  # type: ignore[union-attr]
    assert are_comparable(field, texts)
    assert texts == [comparable(value) for value in values]


@given(st.uuids(), st.integers(1, 4), st.uuids())
def test_uuids_that_are_spelled_otherwise_are_for_the_field(
    value: uuid.UUID, spelling: int, other: uuid.UUID
) -> None:
    texts = [str(other), spellings(value)[spelling]]
    is_same = texts[1] == str(value)  # of digits alone
    assert are_comparable(models.UUIDField(), texts) is is_same
    if not is_same:
        with pytest.raises(ValueError, match="UUID"):
            driver_of(models.UUIDField(), texts)


@given(st.uuids(), st.integers(0, 35), st.sampled_from("0aAg-ü \ud800\0"))
def test_one_character_that_is_another(value: uuid.UUID, at: int, other: str) -> None:
    text = str(value)
    text = text[:at] + other + text[at + 1 :]
    try:
        is_one = str(uuid.UUID(text)) == text
    except ValueError:
        is_one = False
    assert are_comparable(models.UUIDField(), [str(value), None, text]) is is_one


@pytest.mark.parametrize(
    "kind",
    [
        models.CharField,
        models.DateField,
        models.DateTimeField,
        models.DecimalField,
        models.GenericIPAddressField,
        models.IntegerField,
        models.UUIDField,
    ],
)
def test_columns_of_nulls_alone_are_plain(kind: type[models.Field[Any, Any]]) -> None:
    options = {"max_digits": 5, "decimal_places": 2} if kind is models.DecimalField else {}
    assert driver_of(kind(null=True, **options), [None, None]) == [None, None]


def test_a_reason_is_short_and_says_more_than_a_name() -> None:
    field = models.IntegerField()
    with pytest.raises(ValidationError) as caught:
        field.to_python("9" * 100_000 + "x")
    why = refusal(caught.value)
    assert len(why) < 1000
    assert why.endswith("must be an integer.")
    assert refusal(Overflow([Overflow])) == "a number beyond all bounds"


def test_a_reason_is_one_line_that_changes_nothing_on_a_terminal() -> None:
    with pytest.raises(ValidationError) as caught:
        models.IntegerField().to_python("two\n  FNK300 lines\x1b[31m")
    assert r"“two FNK300 lines\x1b[31m”" in refusal(caught.value)


def test_a_number_that_python_does_not_read_is_no_traceback() -> None:
    with pytest.raises(RestoreError, match=r"FNK400 .* more than 4,300 digits is in \[\"x\", 999"):
        from_json(b'["x", ' + b"9" * 5000 + b"]")
    with pytest.raises(ValueError, match="Expecting value"):
        from_json("no JSON")


class Stamped(models.Field):  # type: ignore[type-arg]
    """A moment that the database holds as a text of the field's own."""

    def to_python(self, value: Any) -> Any:
        if value is None or isinstance(value, datetime):
            return value
        return datetime.strptime(value, "%d/%m/%Y %H:%M %z")


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
def test_a_moment_that_its_field_reads_only_as_the_database_spells_it(zone: timezone) -> None:
    moment = datetime(2026, 2, 3, 4, 5, 6, 789000, zone)
    (written,) = json.loads(json.dumps([moment], cls=DjangoJSONEncoder))
    assert converted(Stamped(), written) == moment
    assert converted(Stamped(), "03/02/2026 04:05 +0000") == datetime(2026, 2, 3, 4, 5, tzinfo=UTC)
    for refused in ("2026-02-30T04:05:06Z", "2026-02-03 04:05:06Z"):
        with pytest.raises(ValueError, match="does not match format"):
            converted(Stamped(), refused)


def test_a_text_that_only_looks_like_a_moment_stays_one() -> None:
    class Words(models.TextField):  # type: ignore[type-arg]
        """As a project has them."""

    assert converted(Words(), "2026-02-03T04:05:06Z") == "2026-02-03T04:05:06Z"
