"""Are two databases equal when natural keys stand for ids? Asks Django, not the rest of fastnk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.apps import apps
from django.core import serializers


class Row(NamedTuple):
    """A row without its ids: every relation in `fields` is a natural key."""

    pk: Any
    fields: dict[str, Any]


class ModelComparison(NamedTuple):
    """The rows of one model in the old and the new database."""

    label: str
    old: int
    new: int
    other_ids: int
    """Rows that both have, with another pk."""
    differences: list[str]
    """One line for every value that differs and every row that only one of the two has."""


def compare_databases(old: str, new: str) -> list[ModelComparison]:
    """Compare all models of the project in the databases with the aliases `old` and `new`."""
    return [_compare(model, old, new) for model in apps.get_models()]


def _compare(model: Any, old: str, new: str) -> ModelComparison:
    before, after = _rows(model, old), _rows(model, new)
    both = before.keys() & after.keys()
    return ModelComparison(
        label=model._meta.label_lower,
        old=len(before),
        new=len(after),
        other_ids=sum(before[key].pk != after[key].pk for key in both),
        differences=[
            f"{model._meta.label_lower} {key}: {difference}"
            for (key, _), difference in _differences(before, after)
        ],
    )


RowKey = tuple[str, int]
"""What identifies a row in words, and how many with the same words came before it."""


def _rows(model: Any, database: str) -> dict[RowKey, Row]:
    objects = list(_queryset(model, database))
    records = serializers.serialize(
        "python", objects, use_natural_foreign_keys=True, use_natural_primary_keys=True
    )
    seen: Counter[str] = Counter()
    rows = {}
    for item, record in zip(objects, records, strict=True):
        fields = record["fields"]
        words = str(list(item.natural_key()) if hasattr(item, "natural_key") else fields)
        rows[words, seen[words]] = Row(item.pk, fields)
        seen[words] += 1
    return rows


def _queryset(model: Any, database: str) -> Any:
    many = [field.name for field in model._meta.many_to_many]
    rows = model._base_manager.using(database)
    return rows.select_related(*_relations(model, depth=2)).prefetch_related(*many)


def _relations(model: Any, depth: int) -> Iterator[str]:
    """The rows that natural keys come from, fetched along instead of one by one."""
    for field in model._meta.concrete_fields:
        if field.is_relation:
            yield field.name
            if depth > 1:
                deeper = _relations(field.related_model, depth - 1)
                yield from (f"{field.name}__{name}" for name in deeper)


def _differences(
    before: dict[RowKey, Row], after: dict[RowKey, Row]
) -> Iterator[tuple[RowKey, str]]:
    for key, row in before.items():
        if key not in after:
            yield key, "only in the old database"
            continue
        for name, value in row.fields.items():
            restored = after[key].fields.get(name)
            if value != restored:
                yield key, f"{name} was {value!r}, is {restored!r}"
    for key in after:
        if key not in before:
            yield key, "only in the new database"
