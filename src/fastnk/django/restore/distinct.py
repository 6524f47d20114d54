"""What the tables of models declare to be unique."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from django.db.models import Q, UniqueConstraint

from fastnk.django.restore.natural_keys import Path, concrete


class Unique(NamedTuple):
    """Columns of one model whose values no two of its rows may have in common."""

    names: tuple[str, ...]
    condition: Q | None = None
    """Of which rows that holds; of all without one."""
    with_nulls: bool = False
    """Whether two nulls are the same."""
    is_told: bool = False
    """Whether rows with the same values to the letter are told to be the same otherwise."""


def unique_sets(model: Any) -> Iterator[tuple[str, ...]]:
    """The names of fields of the model's own table that are unique together, where none is null."""
    yield ("pk",)
    yield from (unique.names for unique in declared(model) if unique.condition is None)


def declared(model: Any) -> Iterator[Unique]:
    """What the model's own table declares to be unique, but for expressions."""
    for field in model._meta.local_concrete_fields:
        if field.unique:
            yield Unique((field.name,))
    for names in model._meta.unique_together:
        yield Unique(tuple(names))
    for constraint in model._meta.constraints:
        if isinstance(constraint, UniqueConstraint) and constraint.fields:
            with_nulls = getattr(constraint, "nulls_distinct", None) is False
            yield Unique(tuple(constraint.fields), constraint.condition, with_nulls)


def target_of(model: Any, relation: str) -> Any:
    return concrete(model._meta.get_field(relation).remote_field.model)


def tell_rows_apart(model: Any, paths: Iterable[Path]) -> bool:
    """Whether the database sees to it that no two rows of `model` have the same values there."""
    behind: dict[str, list[Path]] = {}
    for first, *rest in paths:
        behind.setdefault(first, []).append(tuple(rest))
    told = {
        name
        for name, rests in behind.items()
        if () in rests or tell_rows_apart(target_of(model, name), rests)
    }
    return any(told.issuperset(one) for one in unique_sets(model))
