"""Backups of a real system, where the folder with them is named by FASTNK_EDMS_BACKUPS."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fastnk.convert import LegacyBackupConverter
from fastnk.errors import BackupSyntaxError, FindingsError
from fastnk.schema import Schema

FOLDER = os.environ.get("FASTNK_EDMS_BACKUPS")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="FASTNK_EDMS_BACKUPS names no folder")
SCHEMA = Path(__file__).parents[1] / "examples" / "edms" / "schema.json"
LEGACY, RECORDS = "legacy.truncated", 3_253
IDS_OF_CONTENT_TYPES = {"audit.audittrail": 951, "audit.databasechangelog": 94}


def read(name: str) -> bytes:
    return gzip.decompress(Path(FOLDER or "", f"{name}.json.gz").read_bytes())


def converter(**options: Any) -> LegacyBackupConverter:
    return LegacyBackupConverter(Schema.load(SCHEMA), **options)


def test_lost_bracket_is_refused_with_its_place() -> None:
    data = read(LEGACY)
    with pytest.raises(BackupSyntaxError, match="cut off") as caught:
        converter().convert_bytes(data)
    assert (caught.value.code, caught.value.offset) == ("FNK205", len(data))
    assert f"{RECORDS:,} whole records" in str(caught.value)
    assert "--salvage" in str(caught.value)


def test_salvaged_without_keys_lists_what_cannot_be_resolved() -> None:
    data = read(LEGACY)
    with pytest.raises(FindingsError) as caught:
        converter(salvage=True).convert_bytes(data)
    findings = caught.value.findings
    assert caught.value.total == len(findings)
    kinds = Counter((one.code, one.place.model, one.place.field, one.value) for one in findings)
    assert kinds == {
        ("FNK301", model, "content_type", "19"): count
        for model, count in IDS_OF_CONTENT_TYPES.items()
    }
    for one in findings:
        assert data[one.place.offset :].startswith(b"19,")
    records = json.loads(data + b"]")
    assert all(records[one.place.record - 1]["pk"] == int(one.place.pk) for one in findings)


def test_salvaged_with_keys_equals_what_django_dumps() -> None:
    converted = json.loads(
        converter(salvage=True, keys=[read("contenttypes")]).convert_bytes(read(LEGACY))
    )
    expected = json.loads(read("expected"))
    for record in expected:
        if record["model"] == "django_celery_results.taskresult" and record["pk"] == 263:
            # The one value that the database spelled in another way.
            record["fields"]["date_done"] = record["fields"]["date_done"].replace("Z", ".000Z")
    for record in converted:
        record.pop("natural_key", None)
    assert len(converted) == RECORDS
    assert counted(converted) == counted(expected)


def counted(records: list[dict[str, Any]]) -> Counter[str]:
    return Counter(json.dumps(record, sort_keys=True) for record in records)


@pytest.mark.parametrize("name", ["natural", "expected"])
def test_natural_backup_passes_through_unchanged(name: str) -> None:
    data = read(name)
    assert converter().convert_bytes(data) == data


def test_mixed_backup_converts_what_it_can_resolve() -> None:
    before = json.loads(read("mixed"))
    after = json.loads(converter().convert_bytes(read("mixed")))
    schema = Schema.load(SCHEMA)
    for old, new in zip(before, after, strict=True):
        model = schema.models[old["model"]]
        assert ("pk" in new) == ("pk" in old and model.natural_key is None)
        for name in model.relations.keys() & old["fields"].keys():
            relation = model.relations[name]
            if schema.models[relation.to].natural_key is None:
                assert new["fields"][name] == old["fields"][name]
            else:
                assert new["fields"][name] is None or isinstance(new["fields"][name], list)


@pytest.mark.parametrize("name", ["polluted", "log_only"])
def test_backup_behind_log_lines_is_refused_at_its_first_byte(name: str) -> None:
    with pytest.raises(BackupSyntaxError) as caught:
        converter().convert_bytes(read(name))
    assert (caught.value.code, caught.value.offset) == ("FNK200", 0)
