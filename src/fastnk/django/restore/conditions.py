"""Conditions of constraints, as far as the values of one row tell whether they hold."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

from django.db.models import F, Q

from fastnk.django.restore.batches import Table
from fastnk.django.restore.pending import PENDING
from fastnk.django.restore.rows import InBackup, Missing
from fastnk.django.restore.values import REFUSALS, converted


class UnsupportedError(Exception):
    """Only the database can tell."""


def names_in(condition: Any) -> Iterator[str]:
    """The fields that a condition names, as far as that can be told."""
    if isinstance(condition, Q):
        for child in condition.children:
            yield from names_in(child)
    elif isinstance(condition, tuple):
        path, other = condition
        yield path.partition("__")[0]
        if isinstance(other, F):
            yield other.name


def holds(condition: Any, table: Table, at: int) -> bool | None:
    """Whether a condition holds for a row of a table; as in SQL `None` where a null decides.

    Raises `UnsupportedError`.
    """
    if isinstance(condition, tuple):
        path, other = condition
        return _lookup(path, other, table, at)
    if not isinstance(condition, Q) or condition.connector not in (Q.AND, Q.OR):
        raise UnsupportedError
    found = [holds(child, table, at) for child in condition.children]
    decisive = condition.connector == Q.OR
    together = decisive if decisive in found else None if None in found else not decisive
    return together if together is None or not condition.negated else not together


def _lookup(path: str, other: Any, table: Table, at: int) -> bool | None:
    name, _, lookup = path.partition("__")
    if lookup == "isnull":
        return (_known(table, name, at) is None) is bool(other)
    value = _value(table, name, at)
    compare = _COMPARISONS.get(lookup or "exact")
    if isinstance(other, F):
        other = _value(table, other.name, at)
    if compare is None or hasattr(other, "resolve_expression"):
        raise UnsupportedError
    if value is None or other is None:
        return None
    try:
        return compare(value, other)
    except REFUSALS:
        raise UnsupportedError from None


def _value(table: Table, name: str, at: int) -> Any:
    """What a row holds in a column, in the type of its field."""
    value = _known(table, name, at)
    if isinstance(value, (InBackup, *PENDING)):
        raise UnsupportedError
    try:
        return None if value is None else converted(table.plan.columns[name].field, value)
    except REFUSALS:
        raise UnsupportedError from None


def _known(table: Table, name: str, at: int) -> Any:
    """What is known of a row's column, be it that it refers to a row that has no pk yet."""
    if name not in table.plan.columns or name not in table.columns:
        raise UnsupportedError
    value = table.columns[name][at]
    if isinstance(value, Missing):
        raise UnsupportedError
    return value


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "exact": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "in": lambda value, many: value in many,
    "lt": operator.lt,
    "lte": operator.le,
    "range": lambda value, ends: ends[0] <= value <= ends[1],
}
