"""Backups of a real system, where the folder with them is named by FASTNK_EDMS_BACKUPS."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fastnk.convert import LegacyBackupConverter, Policies
from fastnk.detect import detect
from fastnk.errors import BackupSyntaxError, FastnkError, FindingsError
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


def packed(data: bytes, how: str) -> bytes:
    out = io.BytesIO()
    if how == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("backup.json", data)
    elif how == "package":
        digest = hashlib.sha256(data).hexdigest()
        files = {
            "metadata.json": b'{"export_type": "migration_package"}',
            "database/database_backup.json": data,
            "checksum.txt": f"{digest}  database/database_backup.json\n".encode(),
            "storage/documents/one.pdf": b"%PDF-1.7" + bytes(5000),
        }
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    elif how == "PowerShell":
        return data.decode().replace("\n", "\r\n").encode("utf-16")
    else:
        return {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[how](data)
    return out.getvalue()


@pytest.mark.parametrize("how", ["gzip", "bzip2", "xz", "zip", "package", "PowerShell"])
@pytest.mark.parametrize("name", [LEGACY, "expected", "contenttypes", "mixed", "natural"])
def test_packing_makes_no_difference(name: str, how: str) -> None:
    data = read(name)
    keys = [read("contenttypes")] if name == LEGACY else []
    options: dict[str, Any] = {"salvage": name == LEGACY, "keys": keys}
    plain = converter(**options).convert_bytes(data)
    found = converter(**options).convert_bytes(packed(data, how))
    assert json.loads(found) == json.loads(plain)
    formats = {LEGACY: "legacy_database_ids", "contenttypes": "legacy_database_ids"}
    kind = detect(packed(data, how), SCHEMA, salvage=name == LEGACY)
    assert kind == formats.get(name, "mixed" if name == "mixed" else "enhanced_natural_keys")


@pytest.mark.parametrize("how", [None, "gzip", "package", "PowerShell"])
def test_polluted_backup_loses_its_log_lines_and_says_so(how: str | None, tmp_path: Path) -> None:
    data = read("polluted")
    backup = tmp_path / "backup"
    backup.write_bytes(data if how is None else packed(data, how))
    policies = Policies(on_unresolved="keep", on_generic="keep", on_unknown_model="keep")
    with pytest.raises(BackupSyntaxError, match="--salvage"):
        converter(policies=policies).convert_to_natural_keys(backup, tmp_path / "out")
    report = converter(policies=policies, salvage=True).convert_to_natural_keys(
        backup, tmp_path / "out"
    )
    whole = json.loads(data[data.index(b"\n[") :] + b"]")
    assert report.records == len(whole) == len(json.loads((tmp_path / "out").read_bytes()))
    assert [loss.what for loss in report.losses] == [
        "text before the records",
        "no closing bracket",
    ]
    assert report.records_lost == 0
    assert not report.complete
    found = detect(backup, SCHEMA, salvage=True)
    assert found.records == len(whole)
    assert found.damage


@pytest.mark.parametrize("how", [None, "gzip", "package", "PowerShell"])
def test_log_alone_is_refused_with_a_sentence_that_helps(how: str | None) -> None:
    data = read("log_only") if how is None else packed(read("log_only"), how)
    for salvage in (False, True):
        with pytest.raises(FastnkError) as caught:
            converter(salvage=salvage).convert_bytes(data)
        assert "record" in str(caught.value)
        assert caught.value.remedy
