"""Hand-made backups and what must become of them, byte for byte: `golden/NAME/`.

Each folder holds `schema.json`, `backup.json`, perhaps `keys.json`, and the expected output in
both styles, `fastnk.json` and `django.json`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fastnk import _core
from fastnk.convert import LegacyBackupConverter
from fastnk.schema import Schema
from tests import jsontext, oracle
from tests.strategies import BLOCK_SIZES, STYLES

FOLDERS = sorted(path for path in (Path(__file__).parent / "golden").iterdir() if path.is_dir())

every_pair = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
every_style = pytest.mark.parametrize("style", STYLES)


def keys_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("keys*.json"))


@every_pair
@every_style
@pytest.mark.parametrize("variant", _core.variants())
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_golden_pair(folder: Path, style: str, block_size: int, variant: str) -> None:
    schema = Schema.load(folder / "schema.json")
    converter = LegacyBackupConverter(
        schema, keys=keys_of(folder), style=style, block_size=block_size
    )
    _core.force(variant)
    try:
        output = converter.convert_bytes((folder / "backup.json").read_bytes())
    finally:
        _core.force(None)
    assert output == (folder / f"{style}.json").read_bytes()


@every_pair
@every_style
def test_golden_pair_agrees_with_the_oracle(folder: Path, style: str) -> None:
    backup, expected = records(folder / "backup.json"), records(folder / f"{style}.json")
    keys = [record for path in keys_of(folder) for record in records(path)]
    schema = Schema.load(folder / "schema.json")
    result = oracle.convert(backup, schema, keys=keys, style=style)
    assert result.findings == []
    assert jsontext.raw_of(result.records) == jsontext.raw_of(expected)


def records(path: Path) -> list[oracle.Record]:
    return [node.value for node in jsontext.parse_records(path.read_text(encoding="utf-8"))]
