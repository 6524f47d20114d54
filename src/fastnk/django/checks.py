"""Check constraints that a row of the backup breaks."""

from __future__ import annotations

from typing import Any

from django.db.models import CheckConstraint

from fastnk.django import findings as codes
from fastnk.django.batches import Table
from fastnk.django.conditions import UnsupportedError, holds
from fastnk.django.findings import Findings
from fastnk.django.plan import Plan


def look(table: Table, findings: Findings) -> None:
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
