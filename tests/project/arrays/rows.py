"""Rows with arrays and ranges of every make."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.db.backends.postgresql.psycopg_any import DateTimeTZRange, NumericRange

from tests.project.arrays import models as arrays
from tests.project.exact.rows import RECORD, TRICKY

LIKE_JSON = ['[1, "a"]', '{"pk": 1}', "null", "", '"', "\\", "\\u00eb", "{a,b}", "NULL", TRICKY]
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)


def fill(alias: str) -> None:
    """Put rows of every model into the database `alias`, which has its tables."""

    def make(model: Any, **values: Any) -> Any:
        return model.objects.using(alias).create(**values)

    first = make(arrays.Parcel, pk=7, code=TRICKY[:40])
    second = make(
        arrays.Parcel,
        pk=3,
        code="full",
        follows=first,
        counts=[7, 3, -1, 0, 2**31 - 1],
        words=LIKE_JSON,
        grid=[[1, None], [2**63 - 1, -(2**63)]],
        pair=[1e22, -0.5],
        days=[date(1, 1, 1), date(2024, 2, 29)],
        moments=[NOON, NOON.replace(microsecond=120_000)],
        prices=[Decimal("9.50"), Decimal("-0.01")],
        tokens=[uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)],
        facts=[RECORD, [RECORD], "x", 1],
        span=NumericRange(3, 7),
        open=DateTimeTZRange(NOON, None, "[)"),
    )
    empty: dict[str, Any] = {name: [] for name in ("counts", "grid", "days", "facts")}
    make(arrays.Parcel, pk=5, code="empty", follows=second, span=NumericRange(empty=True), **empty)
    pallet = make(arrays.Pallet, pk=7, top=second, places=[7, 3])
    pallet.parcels.set([first, second])
    route = make(arrays.Route, pk=7, name="north", stops=LIKE_JSON, first=second)
    make(arrays.Tour, pk=3, route=route, number=1)
    for model in (arrays.Head, arrays.Chain):
        make(model, pk=7, stops=["a", "Zoë"])
    make(arrays.Span, pk=7, span=NumericRange(1, None))
