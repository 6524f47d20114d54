"""What a row of the backup breaks: check constraints, nulls unsaid, and character sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import CheckConstraint

from fastnk.django.restore import findings as codes
from fastnk.django.restore.batches import Table
from fastnk.django.restore.columns import takes_null
from fastnk.django.restore.conditions import UnsupportedError, holds
from fastnk.django.restore.engines.base import Engine
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.plan import Plan
from fastnk.django.restore.values import TEXTS


def look(table: Table, findings: Findings, engine: Engine) -> None:
    """Note the rows that a table would not take as they are, as far as their own values tell."""
    _look_at_constraints(table, findings)
    plan, connection = table.plan, engine.connection
    for name in table.unsaid:
        is_null = any(value is None for value in table.columns.get(name, ()))
        if is_null and not takes_null(plan.columns[name].field, connection):
            _look_at_nulls(table, findings, name)
    for name, values in table.columns.items():
        column = plan.columns.get(name)
        if column is not None and column.field.get_internal_type() in TEXTS:
            losing = engine.loses(column.field)
            if losing is not None:
                _look_at_texts(table, findings, name, values, losing(values))


def _look_at_nulls(table: Table, findings: Findings, name: str) -> None:
    """Note the new rows of which a column would hold null, since the backup says nothing of it."""
    for number, value in zip(table.numbers, table.columns[name], strict=True):
        if value is None:
            findings.add(
                codes.REFUSED_VALUE,
                "the record says nothing by this name; the column takes no null and has no default"
                + codes.DECLARABLE,
                record=table.rows.record_numbers[number],
                model=table.plan.label,
                field=name,
            )


def _look_at_texts(
    table: Table, findings: Findings, name: str, texts: Sequence[Any], held: Sequence[Any]
) -> None:
    """Note the texts of which their column would hold something else."""
    for number, text, made in zip(table.numbers, texts, held, strict=True):
        if text is not made and text != made:
            findings.add(
                codes.REFUSED_VALUE,
                "characters that the column does not have, by its character set",
                record=table.rows.record_numbers[number],
                model=table.plan.label,
                field=name,
                value=text,
            )


def _look_at_constraints(table: Table, findings: Findings) -> None:
    """Note the rows that break a check constraint, as far as their own values tell."""
    for name, condition in checks_of(table.plan):
        try:
            for at, number in enumerate(table.numbers):
                if holds(condition, table, at) is False:
                    what = f'the values break the check constraint "{name}"'
                    record = table.rows.record_numbers[number]
                    findings.add(codes.CHECK, what, record=record, model=table.plan.label)
        except UnsupportedError:
            continue  # the database will tell


def checks_of(plan: Plan) -> list[tuple[str, Any]]:
    """Name and condition of every check constraint of a model."""
    return [
        (one.name, one.condition if hasattr(one, "condition") else one.check)
        for one in plan.model._meta.constraints
        if isinstance(one, CheckConstraint)
    ]
