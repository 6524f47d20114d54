"""Every row of the table of formats is restored as it says, and so are the formats themselves."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

import fastnk
from fastnk import formats
from fastnk.errors import FastnkError
from tests.test_formats import EXTRAS, IN_PART, SCHEMA, expected, made, options, records


@pytest.fixture(scope="module")
def target(renew: object) -> str:
    return renew("new")  # type: ignore[operator,no-any-return]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in formats.ROWS])
def test_row(row: formats.Row, target: str, tmp_path: Path) -> None:
    if row.name in EXTRAS and not find_spec(EXTRAS[row.name]):
        pytest.skip(f"no {EXTRAS[row.name]}")
    manager = fastnk.UnifiedRestoreManager(SCHEMA, database=target, dry_run=True, **options(row))
    if row.how == "refused":
        with pytest.raises(FastnkError):
            manager.restore_any_format(made(row, tmp_path))
        return
    if row.how == "salvage" and leads_to_what_is_lost(row, tmp_path):
        with pytest.raises(fastnk.FindingsError, match="FNK410"):
            manager.restore_any_format(made(row, tmp_path))
        return
    report = manager.restore_any_format(made(row, tmp_path))
    assert report.format == "legacy_database_ids"
    assert bool(report.conversion and report.conversion.salvaged) == (row.how == "salvage")
    if row.name not in (*IN_PART, "damaged file in a zip"):
        assert report.created == len(expected(row))
    assert report.created <= len(records())


def leads_to_what_is_lost(row: formats.Row, tmp_path: Path) -> bool:
    converted = fastnk.convert(made(row, tmp_path), tmp_path / "converted", SCHEMA, **options(row))
    return bool(converted.dangling)
