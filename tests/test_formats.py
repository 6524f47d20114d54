"""Every row of the table of formats, made with Python's own libraries, goes through every verb."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import inspect
import io
import itertools
import json
import lzma
import os
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastnk
from fastnk import formats
from fastnk.cli import main
from fastnk.convert import LegacyBackupConverter
from fastnk.errors import BackupSyntaxError, FastnkError, SourceError
from fastnk.schema import Schema
from fastnk.source import Backup, Source, compression
from fastnk.source.joining import with_commas
from fastnk.source.opening import ClosedFile

SCHEMA = Schema.loads(
    b"""{"version": 1, "models": {"zoo.keeper": {
        "natural_key": ["name"], "relations": {"mentor": {"to": "zoo.keeper"}}}}}"""
)
NAMES = ["Anna", "Børge", "Čenda", "Dörte", "Émile", "Flo"]
WESTERN = ["Anna", "Børge", "Zoë", "Dörte", "Émile", "Flo"]
TIME = "2001-02-03T04:05:06.789Z"


def keeper(pk: int, name: str, mentor: int | None = None) -> dict[str, Any]:
    fields = {"name": name, "mentor": mentor, "joined": TIME, "seen": TIME}
    return {"model": "zoo.keeper", "pk": pk, "fields": fields}


def pupil(pk: int, mentor: int) -> dict[str, Any]:
    return keeper(pk, f'P-{pk} "quoted" {{text}}, [1]', mentor)


def records(names: list[str] = NAMES) -> list[dict[str, Any]]:
    keepers = [keeper(pk, name) for pk, name in enumerate(names, 1)]
    return [pupil(101, 6), *keepers, *(pupil(pk, pk % 6 + 1) for pk in range(102, 140))]


RECORDS = records()
TEXT = json.dumps(RECORDS, ensure_ascii=False, indent=2).encode()
COMPACT = json.dumps(RECORDS, ensure_ascii=False).encode()
GZIP = gzip.compress(TEXT)


def natural(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the conversion of these records gives, by plain dicts."""
    names = {one["pk"]: one["fields"]["name"] for one in given}
    found = []
    for one in given:
        mentor = one["fields"]["mentor"]
        fields = {**one["fields"], "mentor": [names[mentor]] if mentor in names else mentor}
        found.append({"model": one["model"], "natural_key": [fields["name"]], "fields": fields})
    return found


# ---- containers ----


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def locked(archive: bytes) -> bytes:
    """As if its first file needed a password."""
    data = bytearray(archive)
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def package(checksum: str | None = None) -> dict[str, bytes]:
    digest = hashlib.sha256(TEXT).hexdigest() if checksum is None else checksum
    return {
        "./metadata.json": b'{"export_type": "migration_package", "components": {}}',
        "./database/database_backup.json": TEXT,
        "./database/backup_metadata.json": b'{"model_counts": {"zoo.keeper": 45}}',
        "./storage/media/scan.png": b"\x89PNG" + bytes(range(256)) * 100,
        "./storage/other.json": json.dumps([keeper(99, "nobody")]).encode(),
        "./checksum.txt": f"{digest}  database/database_backup.json\n".encode(),
    }


def linked() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("backup.json")
        info.type = tarfile.SYMTYPE
        info.linkname = "/etc/passwd"
        archive.addfile(info)
    return out.getvalue()


def by_model() -> dict[str, bytes]:
    keepers = [one for one in RECORDS if one["pk"] < 100]
    pupils = [one for one in RECORDS if one["pk"] > 100]
    return {
        "a_pupils.json": json.dumps(pupils).encode(),
        "empty.json": b"[]\n",
        "notes.txt": b"taken on a Monday\n",
        "keepers.json": json.dumps(keepers, indent=1).encode(),
    }


def folder(tmp_path: Path) -> Path:
    for name, data in by_model().items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "folder"


def fixtures_in(where: Path) -> list[str]:
    return sorted(map(str, where.glob("*.json")))


def mixed_folder(tmp_path: Path) -> Path:
    where = folder(tmp_path)
    lines = (json.dumps(one) + "\r\n" for one in json.loads(by_model()["a_pupils.json"]))
    (where / "a_pupils.json").write_bytes("".join(lines).encode())
    return where


def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write() -> None:
        path.write_bytes(TEXT)

    threading.Thread(target=write).start()
    return path


def zstd(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    return bytes(zstandard.ZstdCompressor().compress(data))


def url(tmp_path: Path) -> str:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://backups/b.json", "wb") as file:
        file.write(GZIP)
    return "memory://backups/b.json"


MIXED = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in RECORDS).encode()
ENVELOPE = (
    b'{"metadata": {"at": "2025", "n": [1, {"a": "]"}]}, "data": {"records": %s, "x": [2]}}\n'
)
AROUND = (
    b'{"at": "2025", "none": [], "a": {"n": 1,\n "pupils":  ',
    b' , "x": "]}"}, "keepers":',
    b'\n, "list": [1, {"more": ',
    b'}], "last": null}\n',
)
HALF = len(RECORDS) // 2
LAST = TEXT.rindex(b'{\n    "model"') if b'{\n    "model"' in TEXT else TEXT.rindex(b"  {")


def django_fixture(kind: str) -> bytes:
    """As Django's own serialisers write it."""
    pytest.importorskip("django")
    if kind == "yaml":
        pytest.importorskip("yaml")
    from django.core import serializers

    rows = list(serializers.deserialize("json", json.dumps(RECORDS)))
    fields = ("name", "mentor", "joined", "seen")
    return bytes(serializers.serialize(kind, [row.object for row in rows], fields=fields).encode())


XML_WITH_ENTITIES = b"""<?xml version="1.0"?>
<!DOCTYPE django-objects [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>
<django-objects version="1.0"><object model="zoo.keeper" pk="1">
<field name="name" type="CharField">&b;</field></object></django-objects>
"""
YAML_WITH_TAGS = b"""- model: zoo.keeper
  pk: !!python/object/apply:os.getpid []
  fields: {name: Anna}
"""
YAML_BOMB = (
    b"- model: zoo.keeper\n  pk: 1\n  fields:\n    a0: &a0 [x, x, x, x, x, x, x, x]\n"
    + b"".join(
        b"    a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 8)) for n in range(1, 12)
    )
)

KEEPERS = [one for one in RECORDS if one["pk"] < 100]
PUPILS = [one for one in RECORDS if one["pk"] > 100]
PARTS = {"a.json": KEEPERS, "b.json": PUPILS[:20], "c.json": PUPILS[20:]}
ZIP = zipped({name: json.dumps(part, indent=1).encode() for name, part in PARTS.items()})
THIRD = ZIP.rindex(b"PK\x03\x04")
DAMAGED_ZIP = ZIP[: THIRD - 150] + b"\xff" * 20 + ZIP[THIRD - 130 :]
IN_PART = ("cut in a gzip stream", "cut in UTF-16", "cut in a zip", "cut in a tar")
"""Damage of which it depends on the compression how much is whole."""

Maker = Callable[[Path], Backup]
MAKERS: dict[str, Maker | bytes] = {
    "plain file": TEXT,
    "gzip": GZIP,
    "gzip of several members": gzip.compress(TEXT[:500]) + gzip.compress(TEXT[500:]) + bytes(512),
    "gzip in gzip": gzip.compress(GZIP),
    "bzip2": bz2.compress(TEXT[:500]) + bz2.compress(TEXT[500:]),
    "xz": lzma.compress(TEXT),
    "lzma": lzma.compress(TEXT, format=lzma.FORMAT_ALONE),
    "zstd": lambda _: zstd(TEXT[:500]) + zstd(TEXT[500:]),
    "zip": zipped({"readme.txt": b"hello", "backup.json": TEXT}),
    "tar": tarred({"readme.txt": b"hello", "backup.json": TEXT}),
    "compressed tar": tarred({"a/readme.txt": b"hello", "a/backup.json": TEXT}, "w:gz"),
    "tar of compressed files": tarred({"backup.json.gz": GZIP, "readme.txt": b"hello"}),
    "zip in a compressed stream": gzip.compress(zipped({"a.txt": b"hello", "b.json": TEXT})),
    "zip in a tar": tarred({"readme.txt": b"hello", "a.zip": zipped({"b.json": TEXT})}),
    "compressed tar in a zip": zipped({"a.txt": b"a", "a.tgz": tarred({"b.json": TEXT}, "w:gz")}),
    "tar in a tar": tarred({"a.tar": tarred({"b.json": TEXT}), "z.txt": b"hello"}),
    "zip with a password": locked(zipped({"b.json": TEXT})),
    "EDMS package": tarred(package(), "w:gz"),
    "folder": folder,
    "list of files": lambda path: fixtures_in(folder(path)),
    "pipe": pipe,
    "URL": url,
    "package with a path that climbs out": tarred({"../backup.json": TEXT}),
    "package with a link": linked(),
    "package with another checksum": zipped(package("0" * 64)),
    "array": COMPACT,
    "JSON Lines": MIXED,
    "several arrays": b"%s\n[]\n%s"
    % (json.dumps(RECORDS[:HALF]).encode(), json.dumps(RECORDS[HALF:]).encode()),
    "envelope": ENVELOPE % COMPACT,
    "envelope with several arrays": lambda _: by_place(PUPILS[:7], KEEPERS, PUPILS[7:]),
    "one file per model": folder,
    "arrays and JSON Lines in one folder": mixed_folder,
    "XML fixture": lambda _: django_fixture("xml"),
    "YAML fixture": lambda _: django_fixture("yaml"),
    "XML with entities": XML_WITH_ENTITIES,
    "YAML with object tags": YAML_WITH_TAGS,
    "UTF-8": COMPACT,
    "UTF-8 with a byte order mark": b"\xef\xbb\xbf" + TEXT,
    "UTF-16 LE with a byte order mark": b"\xff\xfe" + TEXT.decode().encode("utf-16-le"),
    "UTF-16 BE with a byte order mark": b"\xfe\xff" + TEXT.decode().encode("utf-16-be"),
    "UTF-16 LE": TEXT.decode().encode("utf-16-le"),
    "UTF-16 BE": TEXT.decode().encode("utf-16-be"),
    "XML fixture in UTF-16": lambda _: django_fixture("xml").decode().encode("utf-16"),
    "cp1252": json.dumps(records(WESTERN), ensure_ascii=False).encode("cp1252"),
    "Latin-1": json.dumps(records(WESTERN), ensure_ascii=False).encode("latin-1"),
    "text before the first record": b"Loading .env\n[INFO] {settings}\n" + TEXT,
    "text after the last record": TEXT + b"\nDone in 3 s {ok}\n",
    "no closing bracket": TEXT.rstrip()[:-1],
    "cut in a record": TEXT[: LAST + 20],
    "cut in a string": COMPACT[: COMPACT.rindex(b"quoted")],
    "cut in a character": COMPACT[: COMPACT.index("Č".encode()) + 1],
    "cut in a gzip stream": GZIP[: len(GZIP) // 2],
    "cut in a zip": ZIP[: THIRD + 250],
    "cut in a tar": tarred({"a.txt": b"hello", "b.json": TEXT})[: 2048 + len(TEXT) // 2],
    "damaged file in a zip": DAMAGED_ZIP,
    "trailing comma": COMPACT[:-1] + b",]",
    "missing comma": COMPACT.replace(b'}}, {"model"', b'}} {"model"', 1),
    "NUL bytes at the end": TEXT + bytes(4096),
    "corrupt record in the middle": COMPACT.replace(b'"pk": 5, "fields"', b'"pk": 5 "fie', 1),
    "bytes that are no UTF-8 in a record": COMPACT.replace(b"P-120", b"P\xff120"),
    "cut in UTF-16": TEXT.decode().encode("utf-16")[:3001],
    "XML fixture cut in a record": lambda _: django_fixture("xml").rpartition(b"</field>")[0],
    "corrupt record in a YAML fixture": lambda _: django_fixture("yaml").replace(
        b"name: \xc3\x89mile", b'name: "\xc3\x89mile'
    ),
    "no whole record": b"INFO starting\nINFO done\n[",
}
LOST: dict[str, list[dict[str, Any]]] = {
    # What of the records is not whole; where it is not all that follows.
    "cut in a record": RECORDS[-1:],
    "cut in a string": RECORDS[-1:],
    "cut in a character": RECORDS[3:],
    "corrupt record in the middle": [keeper(5, "Émile")],
    "corrupt record in a YAML fixture": [keeper(5, "Émile")],
    "XML fixture cut in a record": RECORDS[-1:],
    "bytes that are no UTF-8 in a record": [one for one in RECORDS if one["pk"] == 120],
}
EXTRAS = {"zstd": "zstandard", "URL": "fsspec", "YAML with object tags": "yaml"}
WITH_ID = [pytest.param(row, id=row.name) for row in formats.ROWS]


def made(row: formats.Row, tmp_path: Path) -> Backup:
    maker = MAKERS[row.name]
    if isinstance(maker, bytes):
        path = tmp_path / "backup"  # the name says nothing
        path.write_bytes(maker)
        return path
    found = maker(tmp_path)
    if isinstance(found, bytes):
        return made_of(found, tmp_path)
    return found


def made_of(data: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "backup"
    path.write_bytes(data)
    return path


def options(row: formats.Row) -> dict[str, Any]:
    given: dict[str, Any] = {"salvage": True} if row.how == "salvage" else {}
    return {**given, "encoding": "latin-1"} if row.how == "named" else given


def expected(row: formats.Row) -> list[dict[str, Any]]:
    if row.name == "envelope with several arrays":
        return natural(PUPILS[:7] + KEEPERS + PUPILS[7:])
    if row.name in ("cp1252", "Latin-1"):
        return natural(records(WESTERN))
    return natural([one for one in RECORDS if one not in LOST.get(row.name, [])])


def read(data: bytes, row: formats.Row) -> list[dict[str, Any]]:
    if row.name == "JSON Lines":
        return [json.loads(line) for line in data.splitlines()]
    found = json.loads(data)
    if row.name == "envelope with several arrays":
        return [*found["a"]["pupils"], *found["keepers"], *found["list"][1]["more"]]
    return found["data"]["records"] if row.name == "envelope" else found


def test_every_row_has_a_sample() -> None:
    assert set(MAKERS) == {row.name for row in formats.ROWS}


def test_documentation_has_the_table() -> None:
    page = Path(__file__).parents[1] / "docs" / "formats.md"
    assert formats.markdown() in page.read_text()


@pytest.mark.parametrize("row", WITH_ID)
def test_row(row: formats.Row, tmp_path: Path) -> None:
    if row.name in EXTRAS and not find_spec(EXTRAS[row.name]):
        pytest.skip(f"no {EXTRAS[row.name]}")
    if row.how == "refused":
        with pytest.raises(FastnkError) as caught:
            fastnk.convert(made(row, tmp_path), tmp_path / "out", SCHEMA, salvage=True)
        assert caught.value.remedy
        assert not (tmp_path / "out").exists()
        return
    output = tmp_path / "out.json"
    report = fastnk.convert(made(row, tmp_path), output, SCHEMA, **options(row))
    got = read(output.read_bytes(), row)
    want = expected(row)
    if "folder" in row.name or row.name in ("list of files", "one file per model"):
        want.sort(key=lambda one: not one["natural_key"][0].startswith("P-"))
    if row.name in IN_PART:
        ordered = natural(KEEPERS + PUPILS) if row.name == "cut in a zip" else natural(RECORDS)
        assert 0 < len(got) < len(want)
        assert got == ordered[: len(got)] or report.dangling
    elif row.name == "damaged file in a zip":
        assert len(KEEPERS + PUPILS[20:]) <= len(got) < len(want)
        assert all(one in got for one in natural(KEEPERS + PUPILS[20:]))
    else:
        assert got == want
    assert report.complete == (row.how != "salvage")
    assert bool(report.salvaged) == (row.how == "salvage")
    if row.name == "pipe":
        return
    assert fastnk.detect(made_again(row, tmp_path), SCHEMA, **options(row)) == "legacy_database_ids"
    if not report.dangling:
        assert fastnk.verify(made_again(row, tmp_path), output, SCHEMA, **options(row)).faithful


def made_again(row: formats.Row, tmp_path: Path) -> Backup:
    (tmp_path / "again").mkdir(exist_ok=True)
    return made(row, tmp_path / "again")


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name) for row in formats.ROWS if row.how == "salvage"]
)
def test_damage_is_refused_with_what_salvage_would_do(row: formats.Row, tmp_path: Path) -> None:
    with pytest.raises(BackupSyntaxError) as caught:
        fastnk.convert(made(row, tmp_path), tmp_path / "out", SCHEMA)
    assert caught.value.place.offset is not None
    assert "--salvage" in str(caught.value)
    assert "whole records" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name) for row in formats.ROWS if row.kind == "encoding"]
)
def test_encodings_are_reported(row: formats.Row, tmp_path: Path) -> None:
    report = fastnk.convert(made(row, tmp_path), tmp_path / "out", SCHEMA, **options(row))
    assert bool(report.read_as) == (row.name != "UTF-8")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("cp1251", "Иван и Мария"), ("cp1253", "Ελένη"), ("koi8-r", "Анна"), ("gbk", "中文管理")],
)
def test_another_script_is_not_taken_for_a_western_one(encoding: str, text: str) -> None:
    backup = json.dumps([keeper(1, text)], ensure_ascii=False).encode(encoding)
    with pytest.raises(BackupSyntaxError, match=r"FNK206(.|\n)*--encoding"):
        LegacyBackupConverter(SCHEMA).convert_bytes(backup)
    out = LegacyBackupConverter(SCHEMA, encoding=encoding).convert_bytes(backup)
    assert json.loads(out)[0]["natural_key"] == [text]


def test_envelope_is_kept_byte_for_byte(tmp_path: Path) -> None:
    before, behind = ENVELOPE.split(b"%s")
    backup = made_of(ENVELOPE % COMPACT, tmp_path)
    fastnk.convert(backup, tmp_path / "out", SCHEMA)
    data = (tmp_path / "out").read_bytes()
    assert data.startswith(before)
    assert data.endswith(behind)
    (tmp_path / "out").write_bytes(data.replace(b'"x": [2]', b'"x": [3]'))
    assert not fastnk.verify(backup, tmp_path / "out", SCHEMA).faithful


def by_place(*parts: Any, indent: int | None = None) -> bytes:
    texts = [json.dumps(part, ensure_ascii=False, indent=indent) for part in parts]
    return b"".join(
        around + text.encode() for around, text in zip(AROUND, [*texts, ""], strict=True)
    )


@pytest.mark.parametrize("block_size", [1, 7, 1 << 17])
@pytest.mark.parametrize("indent", [None, 2])
def test_several_arrays_of_an_envelope_stay_in_their_places(
    indent: int | None, block_size: int
) -> None:
    parts = [PUPILS[:7], KEEPERS, PUPILS[7:]]
    backup = by_place(*parts, indent=indent)
    want = natural(PUPILS[:7] + KEEPERS + PUPILS[7:])
    for jobs in (1, 3):
        converter = LegacyBackupConverter(SCHEMA, block_size=block_size, jobs=jobs)
        out = converter.convert_bytes(backup)
        got = json.loads(out)
        assert [*got["a"]["pupils"], *got["keepers"], *got["list"][1]["more"]] == want
        assert [len(got["a"]["pupils"]), len(got["keepers"])] == [7, 6]
        assert all(around in out for around in AROUND)
    report = fastnk.verify(backup, out, SCHEMA)
    assert report.faithful
    assert report.envelope_kept
    assert converter.convert_bytes(out) == out
    moved = by_place(want[:6], want[6:13], want[13:], indent=indent)
    assert not fastnk.verify(backup, moved, SCHEMA).envelope_kept
    assert fastnk.detect(backup, SCHEMA, full=True).records == len(RECORDS)


def test_places_in_several_arrays_of_an_envelope() -> None:
    backup = by_place(PUPILS[:7], KEEPERS, [pupil(200, 77)])
    with pytest.raises(FastnkError) as caught:
        LegacyBackupConverter(SCHEMA).convert_bytes(backup)
    (finding,) = caught.value.findings  # type: ignore[attr-defined]
    assert backup[finding.place.offset :].startswith(b"77")


def in_places(backup: Any) -> list[Any]:
    """The arrays of what `by_place` has made."""
    return [backup["a"]["pupils"], backup["keepers"], backup["list"][1]["more"]]


DROP = fastnk.Policies(on_unresolved="drop")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=3, max_size=3),
    st.sampled_from([None, 2]),
    st.sampled_from([1, 7, 1 << 17]),
)
def test_what_is_left_out_of_several_arrays_of_an_envelope(
    stay: list[list[bool]], indent: int | None, block_size: int
) -> None:
    assume(any(map(any, stay)))
    numbers = itertools.count(1)
    parts = [
        [keeper(n := next(numbers), f"n{n}", None if one else 999) for one in part] for part in stay
    ]
    backup = by_place(*parts, indent=indent)
    kept = [natural([one for one in part if not one["fields"]["mentor"]]) for part in parts]
    for memory_limit in (None, 1):
        converter = LegacyBackupConverter(
            SCHEMA, policies=DROP, block_size=block_size, memory_limit=memory_limit
        )
        out = converter.convert_bytes(backup)
        assert in_places(json.loads(out)) == kept
        assert all(around in out for around in AROUND)
    assert fastnk.verify(backup, out, SCHEMA, policies=DROP).faithful
    with converter.converted(backup) as conversion:
        records = json.loads(b"".join(map(bytes, conversion.blocks("splice"))))
    assert records == [*itertools.chain(*kept)]
    moved = [kept[0][1:], kept[1], [*kept[2], *kept[0][:1]]]
    report = fastnk.verify(backup, by_place(*moved), SCHEMA, policies=DROP, any_order=True)
    assert report.total == 0
    assert report.faithful == (not kept[0])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 14), min_size=1, max_size=5), min_size=3, max_size=3),
    st.sampled_from([None, 2]),
    st.sampled_from([1, 7, 1 << 17]),
)
def test_several_arrays_of_an_envelope_are_arranged_each_by_itself(
    mentors: list[list[int]], indent: int | None, block_size: int
) -> None:
    numbers, count = itertools.count(1), sum(map(len, mentors))
    parts = [
        [keeper(n := next(numbers), f"n{n}", min(mentor, count) or None) for mentor in part]
        for part in mentors
    ]
    backup = by_place(*parts, indent=indent)
    options: Any = {"order": "dependencies", "block_size": block_size}
    converter = LegacyBackupConverter(SCHEMA, **options)
    output = io.BytesIO()
    report = converter.convert_to_natural_keys(backup, output)
    got = json.loads(output.getvalue())
    assert all(around in output.getvalue() for around in AROUND)
    alone = LegacyBackupConverter(SCHEMA, keys=[backup], **options)
    forward = 0
    for part, found in zip(parts, in_places(got), strict=True):
        one = io.BytesIO()
        forward += alone.convert_to_natural_keys(json.dumps(part).encode(), one).forward_references
        assert found == json.loads(one.getvalue())
    assert report.forward_references == forward
    assert fastnk.verify(backup, output.getvalue(), SCHEMA, any_order=True).faithful


@pytest.mark.parametrize("any_order", [False, True])
def test_an_envelope_of_which_no_record_is_left(any_order: bool) -> None:
    lost = [[keeper(1, "Anna", 99)], [keeper(2, "Flo", 1), keeper(3, "Zoë", 99)], []]
    for backup in (
        by_place(*lost),
        by_place(*lost, indent=2),
        ENVELOPE % json.dumps(lost[1]).encode(),
    ):
        out = LegacyBackupConverter(SCHEMA, policies=DROP).convert_bytes(backup)
        options: Any = {"policies": DROP, "any_order": any_order}
        report = fastnk.verify(backup, out, SCHEMA, **options)
        assert (report.faithful, report.complete, report.converted.records) == (True, False, 0)
        other = out.replace(b'"at"', b'"on"')
        for wrong, policies in ((other, DROP), (out, fastnk.Policies())):
            with pytest.raises(BackupSyntaxError, match="FNK204") as caught:
                fastnk.verify(backup, wrong, SCHEMA, policies=policies)
            assert "None" not in str(caught.value)


@pytest.mark.parametrize("order", [None, "dependencies"])
def test_records_of_an_envelope_that_begin_with_references(order: Any) -> None:
    """As where members are sorted, and a conversion puts references in front of `fields`."""
    visit = {"model": "zoo.visit", "pk": 1, "fields": {"kind": "zoo.keeper", "number": 1}}
    schema = Schema.loads(
        b"""{"version": 1, "models": {
        "zoo.keeper": {"natural_key": ["name"]},
        "zoo.visit": {"generic_relations": {"whom": {"label": "kind", "object_id": "number"}}}}}"""
    )
    arrays = [[visit, visit | {"pk": 2}], [keeper(1, "Anna")], [visit | {"pk": 3}]]
    for layout in (arrays, [arrays[0]], arrays[1:]):
        number = sum(map(len, layout))
        document = {f"part {name}": one for name, one in enumerate(layout)}
        keys = [json.dumps(arrays[1]).encode()] if len(layout) == 1 else []
        backup = json.dumps(document, sort_keys=True).encode()
        output = io.BytesIO()
        LegacyBackupConverter(schema, keys=keys, order=order).convert_to_natural_keys(
            backup, output
        )
        assert b'[{"references": {"number": ["Anna"]}, "fields"' in output.getvalue()
        report = fastnk.verify(backup, output.getvalue(), schema, keys=keys, any_order=True)
        assert (report.faithful, report.converted.records) == (True, number)


@pytest.mark.parametrize("order", [None, "dependencies"])
@pytest.mark.parametrize("other", [{"x": 1}, {"at": 'a "day", 2020', "by": None, "n": -1.5}])
def test_records_of_an_envelope_that_begin_with_what_nobody_knows(other: Any, order: Any) -> None:
    """As where a pk in front of it was all that told a record, and a conversion takes it out."""
    records = [{"pk": one["pk"], **other, **one} for one in KEEPERS]
    backup = json.dumps({"rows": [{"x": 1, "model": "none"}], "records": records}).encode()
    output = io.BytesIO()
    converter = LegacyBackupConverter(SCHEMA, style="django", order=order)
    assert converter.convert_to_natural_keys(backup, output).records == len(KEEPERS)
    first, *_ = json.loads(output.getvalue())["records"]
    assert list(first) == [*other, "model", "fields"]
    assert fastnk.verify(backup, output.getvalue(), SCHEMA, any_order=True).faithful
    assert fastnk.detect(output.getvalue(), SCHEMA) == "enhanced_natural_keys"


def test_an_envelope_of_several_arrays_beside_other_files(tmp_path: Path) -> None:
    backup = by_place(PUPILS[:7], KEEPERS, PUPILS[7:])
    (tmp_path / "a.json").write_bytes(backup)
    (tmp_path / "b.json").write_bytes(COMPACT)
    with pytest.raises(BackupSyntaxError, match=r"FNK211 .* other files"):
        fastnk.detect(tmp_path)


def test_envelope_beside_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(ENVELOPE % json.dumps(PUPILS).encode())
    (tmp_path / "b.json").write_bytes(json.dumps(KEEPERS).encode())
    got = json.loads(converted(tmp_path))
    assert got["data"]["records"] == natural(PUPILS + KEEPERS)
    (tmp_path / "b.json").write_bytes(ENVELOPE % json.dumps(KEEPERS).encode())
    with pytest.raises(BackupSyntaxError, match=r"FNK211 .* other files"):
        fastnk.detect(tmp_path)


def converted(backup: Backup) -> bytes:
    out = io.BytesIO()
    fastnk.convert(backup, out, SCHEMA)
    return out.getvalue()


def test_many_arrays_in_an_envelope() -> None:
    parts = {f"m{number}": [keeper(number, f"n{number}")] for number in range(1, 1_500)}
    backup = json.dumps({"at": 1, **parts}).encode()
    got = json.loads(LegacyBackupConverter(SCHEMA).convert_bytes(backup))
    assert got == {"at": 1, **{name: natural(part) for name, part in parts.items()}}


@pytest.mark.parametrize("block_size", [1, 7, 1000, 1 << 17])
@pytest.mark.parametrize("name", ["gzip", "UTF-16 LE", "several arrays", "envelope"])
def test_block_sizes_and_jobs_make_no_difference(name: str, block_size: int) -> None:
    data = MAKERS[name]
    assert isinstance(data, bytes)
    want = LegacyBackupConverter(SCHEMA).convert_bytes(data)
    for jobs in (1, 3):
        converter = LegacyBackupConverter(SCHEMA, block_size=block_size, jobs=jobs)
        assert converter.convert_bytes(data) == want


@pytest.mark.parametrize("block_size", [7, 1 << 17])
@pytest.mark.parametrize("text", [TEXT, COMPACT, MIXED], ids=["indented", "compact", "lines"])
def test_cut_anywhere_keeps_every_whole_record(text: bytes, block_size: int) -> None:
    converter = LegacyBackupConverter(SCHEMA, salvage=True, block_size=block_size)
    decode = json.JSONDecoder().raw_decode
    for length in range(len(text) // 3, len(text), 97):
        cut = text[:length]
        readable = cut.decode(errors="ignore")
        whole = []
        at = 0
        while (at := readable.find("{", at)) >= 0:
            try:
                one, at = decode(readable, at)
            except ValueError:
                break
            whole.append(one)
        data = converter.convert_bytes(cut)
        lines = text is MIXED
        got = [json.loads(line) for line in data.splitlines()] if lines else json.loads(data)
        assert got == natural(whole)


def test_places_are_those_in_the_file(tmp_path: Path) -> None:
    """Of faults and of findings, in UTF-16 and behind a mark."""
    text = json.dumps([keeper(1, "Čenda 😀"), pupil(2, 77)], ensure_ascii=False)
    fault = text.replace('"mentor"', '"mentor": x', 1)
    for encoding, mark in [
        ("utf-16-le", b"\xff\xfe"),
        ("utf-16-be", b""),
        ("utf-8", b"\xef\xbb\xbf"),
    ]:
        backup = mark + text.encode(encoding)
        with pytest.raises(FastnkError) as found:
            LegacyBackupConverter(SCHEMA).convert_bytes(backup)
        (finding,) = found.value.findings  # type: ignore[attr-defined]
        at = len(mark + text[: text.index("77")].encode(encoding))
        assert finding.place.offset == at
        with pytest.raises(BackupSyntaxError) as caught:
            LegacyBackupConverter(SCHEMA).convert_bytes(mark + fault.encode(encoding))
        assert caught.value.offset == len(mark + fault[: fault.index(" x") + 1].encode(encoding))


def test_places_name_the_file_of_a_folder(tmp_path: Path) -> None:
    where = folder(tmp_path)
    (where / "more.json").write_text(json.dumps([pupil(50, 77)]))
    with pytest.raises(FastnkError) as found:
        fastnk.convert(where, tmp_path / "out", SCHEMA)
    (finding,) = found.value.findings  # type: ignore[attr-defined]
    assert finding.place.path == str(where / "more.json")
    assert (where / "more.json").read_bytes()[finding.place.offset :].startswith(b"77")


@pytest.mark.parametrize("block_size", [7, 1 << 17])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\n\n  "])
def test_arrays_and_lines_in_one_folder(newline: bytes, block_size: int, tmp_path: Path) -> None:
    lines = newline.join(json.dumps(one).encode() for one in PUPILS) + newline
    array, more = json.dumps(KEEPERS).encode(), json.dumps(pupil(200, 77)).encode() + newline
    converter = LegacyBackupConverter(SCHEMA, block_size=block_size)
    for names in (["a.jsonl", "b.json"], ["b.jsonl", "a.json"]):
        where = tmp_path / names[0]
        where.mkdir()
        (where / names[0]).write_bytes(lines)
        (where / names[1]).write_bytes(array)
        converter.convert_to_natural_keys(where, where / "out")
        got = json.loads((where / "out").read_bytes())
        (where / "out").unlink()
        assert sorted(map(json.dumps, got)) == sorted(map(json.dumps, natural(KEEPERS + PUPILS)))
    (where / "c.jsonl").write_bytes(more)
    with pytest.raises(FastnkError) as caught:
        converter.convert_to_natural_keys(where, where / "out")
    (finding,) = caught.value.findings  # type: ignore[attr-defined]
    assert finding.place.path == str(where / "c.jsonl")
    assert more[finding.place.offset :].startswith(b"77")


def test_losses_and_dangling_references_are_listed(tmp_path: Path) -> None:
    broken = COMPACT.replace(b'"pk": 5, "fields"', b'"pk": 5 "fie', 1)
    report = fastnk.convert(broken, tmp_path / "out", SCHEMA, salvage=True)
    (loss,) = report.losses
    assert report.records_lost == loss.records == 1
    assert broken[loss.start : loss.end].startswith(b'{"model": "zoo.keeper", "pk": 5 "fie')
    assert broken[loss.end :].startswith(b', {"model"')
    want = [one["pk"] for one in RECORDS if one["fields"]["mentor"] == 5]
    assert [int(one["pk"]) for one in report.dangling] == want
    assert {one["value"] for one in report.dangling} == {"5"}


def test_losses_are_counted_beyond_those_that_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup, out = tmp_path / "backup.json", tmp_path / "out.json"
    backup.write_bytes(
        b"[" + b", oops, ".join([json.dumps(keeper(1, "x")).encode()] * 10_101) + b"]"
    )
    (tmp_path / "schema.json").write_bytes(SCHEMA.dumps())
    arguments = ["convert", str(backup), str(out), "--schema", str(tmp_path / "schema.json")]
    arguments += ["--salvage", "--on-duplicate-pk", "keep", "--on-duplicate-key", "keep"]
    assert main([*arguments, "--report", str(tmp_path / "report.json")]) == 3
    assert "and 10,080 more; --report writes the first 10,000 of them" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert (report["places_lost"], len(report["losses"])) == (10_100, 10_000)
    assert report["bytes_lost"] == 10_100 * len("oops")


@pytest.mark.parametrize(
    "junk", [b'{"model": ', b'{"model": "a.b", "fields": {"x": [', b'{"pk": {"pk":', b'"[{']
)
def test_much_that_seems_to_begin_a_record_is_gone_through(junk: bytes) -> None:
    one = json.dumps(keeper(1, "Anna")).encode()
    data = b"[" + one + b",\n" + junk * 5_000 + b",\n" + one.replace(b"Anna", b"Bea") + b"]"
    converter = LegacyBackupConverter(
        SCHEMA, salvage=True, policies=fastnk.Policies(on_duplicate_pk="keep")
    )
    found = json.loads(converter.convert_bytes(data))
    assert [one["natural_key"] for one in found] == [["Anna"], ["Bea"]]


def test_damaged_backup_that_supplies_keys(tmp_path: Path) -> None:
    keys = b"WARNING: beware\n" + json.dumps([keeper(77, "Zoë")]).encode()
    backup = json.dumps([pupil(101, 77)]).encode()
    with pytest.raises(BackupSyntaxError, match="--salvage"):
        fastnk.convert(backup, tmp_path / "out", SCHEMA, keys=[keys])
    report = fastnk.convert(backup, tmp_path / "out", SCHEMA, keys=[keys], salvage=True)
    (one,) = json.loads((tmp_path / "out").read_bytes())
    assert one["fields"]["mentor"] == ["Zoë"]
    assert [loss.what for loss in report.losses] == ["text before the records"]
    assert not report.complete


INNER = json.dumps(keeper(90, "inner"))
BREAKS = {
    "a value": ("x: x", {}),
    "a comma": ("", {'"mentor"': '"seen" "mentor"'}),
    "a quote": ("", {'"P-3 ': '"P"-3 '}),
    "an opening brace": ("", {'"fields": {': '"fields": '}),
    "an opening bracket": ("", {'"list": [': '"list": '}),
    "a closing bracket": ("", {"]": ""}),
    "a closing brace": ("", {"}}": "}"}),
    "all behind its middle": ("", {'"joined": ': "\0" * 100}),
    "its member model": (
        "",
        {'"model": "zoo.keeper", "pk": 3,': '"modle": "zoo.keeper", "pk": 3,'},
    ),
    "its start": ("", {'{"model": "zoo.keeper", "pk": 3, "fie': "\0" * 30}),
}


@pytest.mark.parametrize("layout", ["indented", "compact", "lines", "envelope"])
@pytest.mark.parametrize("what", BREAKS)
@pytest.mark.parametrize("nested", ["list", "list of two", "value"])
def test_objects_that_look_like_records_are_not_taken_out_of_a_broken_one(
    layout: str, what: str, nested: str
) -> None:
    inner = {"value": f'"copy": {INNER}', "list": f'"list": [{INNER}]'}
    inside = inner.get(nested, f'"list": [{INNER}, {INNER}]')
    added, changes = BREAKS[what]
    broken = json.dumps({**keeper(3, "P-3 x"), "HERE": 0}).replace('"HERE": 0', '"x": 1')
    broken = broken.replace('"name"', f"{inside}, {added}{', ' if added else ''}" + '"name"')
    for old, new in changes.items():
        if old not in broken:
            pytest.skip("there is nothing to break")
        broken = broken.replace(old, new, 1)
    good = [keeper(pk, f"n{pk}") for pk in (1, 2, 4, 5)]
    texts = [json.dumps(one) for one in good]
    texts.insert(2, broken)
    if layout == "indented":
        texts = ["  " + text for text in texts]
    data = "\n".join(texts) if layout == "lines" else "[" + ", ".join(texts) + "]"
    if layout == "indented":
        data = "[\n" + ",\n".join(texts) + "\n]\n"
    if layout == "envelope":
        data = f'{{"meta": {{"n": 1}}, "data": {data}, "rest": 5}}'
    found = LegacyBackupConverter(SCHEMA, salvage=True).convert_bytes(data.encode())
    got = (
        [json.loads(line) for line in found.splitlines()]
        if layout == "lines"
        else json.loads(found)
    )
    names = [one["natural_key"][0] for one in got]
    assert "inner" not in names
    assert names in (["n1", "n2", "n4", "n5"], ["n1", "n2", "n5"])


def test_yaml_whose_aliases_grow_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("yaml")
    pytest.importorskip("django")
    monkeypatch.setattr("fastnk.django.fixtures.FREE_BYTES", 1 << 20)
    with pytest.raises(BackupSyntaxError, match="FNK212"):
        LegacyBackupConverter(SCHEMA).convert_bytes(YAML_BOMB)


@pytest.mark.parametrize("kind", ["xml", "yaml"])
def test_xml_and_yaml_that_are_nested_without_end_are_refused(kind: str) -> None:
    if kind == "yaml":
        pytest.importorskip("yaml")
    serializers = pytest.importorskip("django.core.serializers")
    from tests.project.zoo.models import Keeper

    text = serializers.serialize(kind, [Keeper(pk=1, name="Anna")], fields=("name",))
    deep = {"xml": "<b>" * 5000 + "</b>" * 5000, "yaml": "[" * 5000 + "]" * 5000}[kind]
    with pytest.raises(BackupSyntaxError, match=r"FNK212 .*( nest|Unexpected element)"):
        LegacyBackupConverter(SCHEMA).convert_bytes(text.replace("Anna", deep).encode())


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ('<field name="gone">1</field>', "no field named 'gone'"),
        ('<field name="joined">yesterday</field>', "“yesterday” value"),
        (f'<field name="mentor">{"x" * 100_000}</field>', "x” value must be"),
    ],
)
def test_what_the_project_does_not_take_of_xml_is_told_with_its_place(field: str, why: str) -> None:
    pytest.importorskip("django")
    good = '<object model="zoo.keeper" pk="1"><field name="name">Anna</field></object>'
    bad = f'<object model="zoo.keeper" pk="2">{field}</object>'
    text = f'<?xml version="1.0"?><django-objects version="1.0">{good}{bad}</django-objects>'
    with pytest.raises(BackupSyntaxError, match=f"FNK212 .*{why}") as caught:
        LegacyBackupConverter(SCHEMA).convert_bytes(text.encode())
    assert caught.value.place.record == 2
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("1" + ":11" * 200_000, "more than 4,000 characters"),
        ("1" + ":11" * 300 + ".5", "too large"),
        *[(f"!!{tag} ''", "") for tag in ("int", "float", "timestamp", "bool")],
    ],
)
def test_values_that_trouble_yaml_are_refused_at_once(value: str, why: str) -> None:
    pytest.importorskip("yaml")
    pytest.importorskip("django")
    text = f"- model: zoo.keeper\n  pk: 1\n  fields: {{name: Anna, size: {value}}}\n"
    with pytest.raises(BackupSyntaxError, match=f"FNK212 .*{why}"):
        LegacyBackupConverter(SCHEMA).convert_bytes(text.encode())


def test_halves_of_surrogate_pairs_in_xml_stay_what_they_are() -> None:
    pytest.importorskip("django")
    from fastnk.django.fixtures import as_json

    row = '<object model="zoo.animal" pk="1"><field name="habits">"\\ud800"</field></object>'
    text = f'<?xml version="1.0"?><django-objects version="1.0">{row}</django-objects>'
    (record,) = json.loads(b"".join(as_json("XML", io.BytesIO(text.encode()), None)))
    assert record["fields"] == {"habits": "\ud800"}


@pytest.mark.parametrize("kind", ["xml", "yaml"])
def test_times_in_xml_and_yaml_keep_their_microseconds(kind: str) -> None:
    text = django_fixture(kind).replace(b"06.789000", b"06.789012")
    found = json.loads(LegacyBackupConverter(SCHEMA).convert_bytes(text))
    assert {one["fields"]["seen"] for one in found} == {"2001-02-03T04:05:06.789012Z"}


@pytest.mark.parametrize("kind", ["xml", "yaml"])
def test_natural_keys_in_xml_and_yaml_stay_as_they_are(kind: str, tmp_path: Path) -> None:
    if kind == "yaml":
        pytest.importorskip("yaml")
    serializers = pytest.importorskip("django.core.serializers")
    from tests.project.zoo.models import Keeper

    anna = Keeper(pk=1, name="Anna")
    options = {"fields": ("name", "mentor"), "use_natural_foreign_keys": True}
    rows = [anna, Keeper(pk=2, name="Bea", mentor=anna)]
    text = serializers.serialize(kind, rows, **options)
    fastnk.convert(text.encode(), tmp_path / "out", SCHEMA)
    first, second = json.loads((tmp_path / "out").read_bytes())
    assert first["natural_key"] == ["Anna"]
    assert second["fields"] == {"name": "Bea", "mentor": ["Anna"]}


@pytest.mark.parametrize("kind", ["xml", "yaml"])
def test_records_without_pks_in_xml_and_yaml_ask_no_database(kind: str, tmp_path: Path) -> None:
    """Tests without a fixture for it have no database with tables."""
    if kind == "yaml":
        pytest.importorskip("yaml")
    serializers = pytest.importorskip("django.core.serializers")
    from django.contrib.auth.models import User

    options = {"fields": ("username", "is_staff"), "use_natural_primary_keys": True}
    text = serializers.serialize(kind, [User(pk=1, username="ann")], **options)
    schema = Schema.loads(b'{"version": 1, "models": {"auth.user": {"natural_key": ["username"]}}}')
    fastnk.convert(text.encode(), tmp_path / "out", schema)
    (one,) = json.loads((tmp_path / "out").read_bytes())
    assert one == {"model": "auth.user", "fields": {"username": "ann", "is_staff": False}}


# ---- outputs ----

DECOMPRESS = {"gz": gzip.decompress, "bz2": bz2.decompress, "xz": lzma.decompress}


@pytest.mark.parametrize("suffix", DECOMPRESS)
def test_output_is_compressed_by_its_name(suffix: str, tmp_path: Path) -> None:
    fastnk.convert(TEXT, tmp_path / "plain.json", SCHEMA)
    fastnk.convert(TEXT, tmp_path / f"o.json.{suffix}", SCHEMA)
    data = (tmp_path / f"o.json.{suffix}").read_bytes()
    assert DECOMPRESS[suffix](data) == (tmp_path / "plain.json").read_bytes()


def test_output_is_compressed_as_told(tmp_path: Path) -> None:
    fastnk.convert(TEXT, tmp_path / "a.gz", SCHEMA, compress="none")
    fastnk.convert(TEXT, tmp_path / "b", SCHEMA, compress="gzip")
    assert gzip.decompress((tmp_path / "b").read_bytes()) == (tmp_path / "a.gz").read_bytes()
    with pytest.raises(FastnkError, match="FNK101"):
        fastnk.convert(TEXT, tmp_path / "c", SCHEMA, compress="rar")


@pytest.mark.parametrize("has_isal", [False, True])
def test_large_gzip_output(has_isal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnk import compressor

    if not has_isal:
        monkeypatch.setattr(compressor, "fast_zlib", lambda: None)
    data = b"".join(b"%d %s\n" % (n, os.urandom(3).hex().encode()) for n in range(400_000))
    out = bytearray()
    gzipped = compressor.Compressor("gzip", out.extend)
    for start in range(0, len(data), 300_001):
        gzipped.write(data[start : start + 300_001])
    gzipped.finish()
    assert gzip.decompress(out) == data
    assert len(out) < 1.1 * len(gzip.compress(data, 1))


# ---- what is not to be trusted ----


def device() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("backup.json")
        info.type = tarfile.CHRTYPE
        archive.addfile(info)
    return out.getvalue()


def zip_link() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("backup.json")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        device(),
        zip_link(),
        linked(),
        tarred({"/backup.json": TEXT}),
        tarred({"a/../../backup.json": TEXT}),
        zipped({"C:\\backup.json": TEXT}),
        tarred({"a.json": TEXT, "./a.json": TEXT}),
    ],
    ids=["device", "zip link", "link", "absolute", "climbs", "drive", "twice"],
)
def test_package_that_is_not_to_be_trusted(data: bytes) -> None:
    with pytest.raises(SourceError, match="FNK123"):
        fastnk.detect(data)


def test_bomb_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that no single layer, and no single file, gives away."""
    from fastnk.source import compression

    monkeypatch.setattr(compression, "FREE_BYTES", 1 << 20)
    blank = json.dumps(RECORDS[:1]).encode()[:-1] + b" " * (8 << 20)
    bomb = lzma.compress(blank)
    small = lzma.compress(blank[: 900 << 10])
    several = {f"{number}.json": small for number in range(40)}
    for data in (
        bomb,
        gzip.compress(bomb),
        bz2.compress(blank),
        zipped({"a.json": bomb}),
        zipped({"a.json": gzip.compress(blank)}),
        tarred({"a.json": gzip.compress(gzip.compress(blank))}, "w:gz"),
        tarred({"a.zip": zipped({"a.json": bomb})}, "w:gz"),
        tarred(several, "w:gz"),
        gzip.compress(zipped(several)),
    ):
        with pytest.raises(BackupSyntaxError, match=r"FNK210 .* 1,000 times"):
            LegacyBackupConverter(SCHEMA).convert_bytes(data)


def test_what_is_read_ahead_can_be_closed_by_its_own_thread() -> None:
    """As the collector of cycles does that happens to run there."""
    from fastnk.source import compression

    is_taken = threading.Event()
    closed: SimpleQueue[BaseException | None] = SimpleQueue()

    def chunks() -> Iterator[bytes]:
        yield b"first"
        is_taken.wait()
        try:
            ahead.close()
        except RuntimeError as error:
            closed.put(error)
        closed.put(None)
        yield b"second"

    ahead: Any = compression.read_ahead(chunks())
    assert next(ahead) == b"first"
    is_taken.set()
    assert closed.get(timeout=10) is None
    assert list(ahead) == []


def test_zip_whose_files_overlap_is_stopped() -> None:
    """Its directory names the same bytes a thousand times."""
    one = zipped({"0000.json": b" " * (8 << 20)})
    start = one.index(b"PK\x01\x02")
    entry, end = one[start : one.index(b"PK\x05\x06")], one[one.index(b"PK\x05\x06") :]
    entries = b"".join(entry.replace(b"0000", b"%04d" % number) for number in range(1000))
    counts = (1000).to_bytes(2, "little") * 2 + len(entries).to_bytes(4, "little")
    data = one[:start] + entries + end[:8] + counts + end[16:]
    with pytest.raises(SourceError, match=r"FNK123 .*'0000\.json' is packed in bytes of another"):
        fastnk.detect(data)


def test_tar_header_that_fills_the_memory_is_stopped() -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2 << 20
    data = header.tobuf(tarfile.USTAR_FORMAT) + b" " * (2 << 20) + tarred({"a.json": TEXT})
    with pytest.raises(BackupSyntaxError, match="more than 1,048,576 bytes of headers for a file"):
        fastnk.detect(data)


@pytest.mark.parametrize("size", ["-1", "-100000", "99999999999999999999"])
def test_tar_that_lies_about_the_length_of_a_file(size: str) -> None:
    header = tarfile.TarInfo("a.json")
    header.pax_headers = {"size": size}
    data = header.tobuf(tarfile.PAX_FORMAT) + bytes(600) + tarred({"b.json": TEXT})
    with pytest.raises(BackupSyntaxError, match="FNK205 the tar is cut off"):
        fastnk.detect(data)


def attributes(text: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """A header of a tar that says this of the next file, or of all."""
    header = tarfile.TarInfo("attributes")
    header.type, header.size = kind, len(text)
    return header.tobuf(tarfile.USTAR_FORMAT) + text + bytes(-len(text) % 512)


def attribute(name: bytes, value: bytes) -> bytes:
    length = len(name) + len(value) + 3
    length += len(str(length + len(str(length))))
    return b"%d %b=%b\n" % (length, name, value)


@pytest.mark.parametrize(
    "headers",
    [
        attributes(attribute(b"GNU.sparse.map", b"a,b")),
        attributes(attribute(b"GNU.sparse.major", b"1") + attribute(b"GNU.sparse.minor", b"0")),
        attributes(attribute(b"comment", b"none")) * 2000,
        attributes(b"1" * 300_000),
        attributes(attribute(b"comment", b"1" * 300_000)),
        attributes(b"4 ab" * 100_000 + b"="),
        b"".join(
            attributes(attribute(b"k%d" % number, b"x" * 400_000), tarfile.XGLTYPE)
            + tarfile.TarInfo(f"{number}.txt").tobuf()
            for number in range(3)
        ),
    ],
    ids=["sparse", "sparse 1.0", "many", "digits", "number", "no equals sign", "for all files"],
)
def test_tar_headers_that_trouble_their_parser_are_damage(headers: bytes) -> None:
    with pytest.raises(BackupSyntaxError, match="FNK205 the tar is cut off or damaged"):
        fastnk.detect(headers + tarred({"a.json": COMPACT}))


def test_tar_goes_on_behind_its_end() -> None:
    first, second = {"a.json": COMPACT}, {"b.json": json.dumps(MORE).encode()}
    zeroed = bytearray(tarred({**first, "lost.txt": b"lost", **second}))
    at = zeroed.index(b"lost.txt")
    zeroed[at : at + 512] = bytes(512)
    for data in (tarred(first) + tarred(second), bytes(zeroed)):
        with pytest.raises(BackupSyntaxError, match="FNK205 the tar goes on behind its end"):
            fastnk.detect(data)
        assert fastnk.detect(data, salvage=True).records == len(RECORDS + MORE)


def test_what_is_behind_a_bad_header_of_a_tar_is_salvaged() -> None:
    files = {"a.json": COMPACT, "lost.txt": b"[1]", "b.json": json.dumps(MORE).encode()}
    data = bytearray(tarred(files))
    data[data.index(b"lost.txt")] = 0
    assert fastnk.detect(bytes(data), salvage=True).records == len(RECORDS + MORE)


def test_sparse_files_and_unknown_ones_in_a_tar_are_not_passed_over_in_silence() -> None:
    odd = tarfile.TarInfo("odd.json")
    odd.type = b"Z"
    odd.size = len(COMPACT)
    unknown = odd.tobuf() + COMPACT + bytes(-len(COMPACT) % 512)
    sparse = attributes(attribute(b"GNU.sparse.map", b"0,0")) + tarfile.TarInfo("holes").tobuf()
    data = unknown + sparse + tarred({"a.txt": b"-"})
    assert fastnk.detect(data).records == len(RECORDS)
    assert "odd.json; left alone holes (sparse), a.txt" in str(fastnk.detect(data).read_as)


def test_folders_of_an_archive_may_be_listed_twice() -> None:
    folder_ = tarfile.TarInfo("database")
    folder_.type = tarfile.DIRTYPE
    data = folder_.tobuf() * 2 + tarred({"database/a.json": COMPACT})
    assert fastnk.detect(data).records == len(RECORDS)


def with_comment(archive: bytes, comment: bytes) -> bytes:
    return archive[:-2] + len(comment).to_bytes(2, "little") + comment


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["zip", "stream"])
def test_two_zips_one_behind_the_other_are_not_taken_for_one(
    packed: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    first, second = zipped({"a.json": TEXT}), zipped({"b.json": json.dumps(MORE).encode()})
    backup = tmp_path / "backup"
    backup.write_bytes(packed(first + second))
    with pytest.raises(SourceError, match=r"FNK123 .*(directory does not have|stands behind it)"):
        fastnk.detect(backup)


@pytest.mark.parametrize("hidden", [zipped({"b.json": b"[]"}), b"PK\x05\x06" + bytes(18)])
def test_comment_of_a_zip_that_claims_to_be_its_directory(hidden: bytes) -> None:
    data = with_comment(zipped({"a.json": TEXT}), hidden)
    with pytest.raises(SourceError, match=r"FNK123 .*its directory does not have"):
        fastnk.detect(data)
    assert fastnk.detect(gzip.compress(data)).records == len(RECORDS)


def test_zip_of_no_files_and_file_of_no_name(tmp_path: Path) -> None:
    backup = tmp_path / "backup.zip"
    backup.write_bytes(zipped({}))
    with pytest.raises(SourceError, match="FNK124"):
        fastnk.detect(backup)
    nameless = zipped({"NAME.json": TEXT}).replace(b"NAME", b"\0AME")
    assert fastnk.detect(nameless).records == len(RECORDS)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_of_another_compression(method: int) -> None:
    """Also as a stream; and little at once of what is much when it is unpacked."""
    from fastnk.source.archives import zip_files
    from fastnk.source.opening import CHUNK_BYTES

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a.json", TEXT)
        archive.writestr("b.txt", b" " * (4 << 20))
    assert fastnk.detect(out.getvalue()).records == len(RECORDS)
    assert fastnk.detect(gzip.compress(out.getvalue())).records == len(RECORDS)
    lengths: list[int] = []
    for one in zip_files(None, out, lambda *_: None, careful=False):
        lengths += map(len, one.chunks)
    assert sum(lengths) == len(TEXT) + (4 << 20)
    assert max(lengths) <= CHUNK_BYTES


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda text: gzip.compress(text, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": lambda text: zipped({"a.json": text}),
    "zip in gzip": lambda text: gzip.compress(zipped({"a.json": text})),
}


@pytest.mark.parametrize("name", PACKED)
def test_all_in_front_of_a_wrong_checksum_is_salvaged(name: str) -> None:
    data = bytearray(PACKED[name](TEXT))
    at = {"gzip": -8, "bzip2": 10, "xz": -36, "zip": data.find(b"PK\x01\x02") + 16}.get(name)
    if at is None:
        inner = bytearray(zipped({"a.json": TEXT}))
        inner[14] ^= 1
        data = bytearray(gzip.compress(inner))
    else:
        data[at] ^= 1
    with pytest.raises(BackupSyntaxError, match=rf"(?s)FNK205 .*keeps {len(RECORDS)} whole"):
        fastnk.convert(bytes(data), os.devnull, SCHEMA)


def test_damage_of_a_tar_is_not_taken_for_its_end() -> None:
    data = bytearray(tarred({"a.json": COMPACT, "b.json": b"[]"}))
    at = data.index(b"b.json")
    data[at + 148 : at + 156] = b"no sum!!"
    with pytest.raises(BackupSyntaxError, match="FNK205"):
        fastnk.detect(bytes(data))
    assert fastnk.detect(bytes(data), salvage=True).damage
    without_end = tarred({"a.json": COMPACT})[: 512 + -(-len(COMPACT) // 512) * 512]
    with pytest.raises(BackupSyntaxError, match="FNK205"):
        fastnk.detect(without_end)


def test_too_many_layers() -> None:
    data = TEXT
    for _ in range(6):
        data = gzip.compress(data)
    with pytest.raises(BackupSyntaxError, match="FNK210"):
        fastnk.detect(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_file_in_a_zip_is_no_crash_however_it_is_packed(method: int) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a.json", json.dumps(MORE))
        start = out.tell()
        archive.writestr("b.json", TEXT)
        end = out.tell()
    data = bytearray(out.getvalue())
    middle = (start + end) // 2
    data[middle : middle + 40] = bytes(40)
    with pytest.raises(BackupSyntaxError, match=r"the zip is damaged at b\.json") as caught:
        fastnk.detect(bytes(data))
    salvaged = fastnk.detect(bytes(data), salvage=True)
    assert len(MORE) <= salvaged.records < len(RECORDS + MORE)
    at = caught.value.offset
    assert f", at byte {at:,}" in str(salvaged.damage) or not at


SHA256 = hashlib.sha256(TEXT).hexdigest()
PATH = "database/database_backup.json"
OTHERS = "".join(f"{number:064x}  media/{number}.png\n" for number in range(2000))


@pytest.mark.parametrize(
    ("checksums", "verdict"),
    [
        (f"{SHA256}\r\n", "is that of"),
        (f"SHA256 (./{PATH}) = {SHA256.upper()}", "is that of"),
        (f"{OTHERS}{SHA256} *{PATH}\n", "is that of"),
        (f"{OTHERS}{0:064x} *{PATH}\n", "FNK125"),
        (f"{0:064x}  old/{PATH}\n{SHA256}  {PATH}\n", "is that of"),
        (f"{0:064x}  {PATH}.txt\n{SHA256}  {PATH}\n", "is that of"),
        (f"{hashlib.md5(TEXT).hexdigest()}  {PATH}\n{0:064x}  {PATH}\n", "FNK125"),
        (f"{0:064x}  {PATH.upper()}\n{1:064x}  a.png\n", "FNK125"),
        (f"{0:064x}  /srv/export/{PATH}\n", "FNK125"),
        (f"{0:064x}  media/a.png\n", "has no md5"),
        (f"{0:064x}\n{0:064x}\n", "has no md5"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_checksum_of_the_backup_among_others(checksums: str, verdict: str, encoding: str) -> None:
    data = tarred({PATH: TEXT, "checksum.txt": checksums.encode(encoding)})
    try:
        said = str(fastnk.detect(data).read_as)
    except SourceError as error:
        said = str(error)
    assert verdict in said


@pytest.mark.parametrize("pack", [tarred, zipped])
def test_only_digests_that_are_stated_are_made(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def new(name: str, **options: Any) -> Any:
        made.append(name)
        return hashlib.sha256()

    monkeypatch.setattr(hashlib, "new", new)
    fastnk.detect(pack({PATH: TEXT}))
    assert not made
    assert "is that of" in str(fastnk.detect(pack(package())).read_as)
    assert {*made} == {"sha256"}


def test_backup_of_a_package_that_cannot_be_told_gives_no_way_to_another_file() -> None:
    other = json.dumps(MORE).encode()
    with pytest.raises(BackupSyntaxError, match="FNK201"):
        fastnk.detect(tarred({PATH: b"", "other.json": other}))
    torn = tarred({PATH: bytes(80_000) + TEXT, "other.json": other})
    with pytest.raises(BackupSyntaxError, match="FNK200"):
        fastnk.detect(torn)
    assert fastnk.detect(torn, salvage=True).records == len(RECORDS)


def test_archive_without_records_says_what_is_in_it() -> None:
    with pytest.raises(SourceError, match=r"FNK124 .*hello.txt"):
        fastnk.detect(zipped({"hello.txt": b"hello"}))


def test_cut_archives() -> None:
    whole = tarred({"a.json": TEXT, "b.json": json.dumps([keeper(70, "x")]).encode()}, "w:gz")
    for data in (whole[: len(whole) // 2], zipped({"a.json": TEXT})[:-30]):
        with pytest.raises(FastnkError, match=r"FNK205|FNK122"):
            LegacyBackupConverter(SCHEMA).convert_bytes(data)


def test_compressed_file_that_changes_between_the_passes(tmp_path: Path) -> None:
    backup = made_of(GZIP, tmp_path)

    def change(phase: str, done: int, total: int | None) -> None:
        if phase == "index":
            backup.write_bytes(gzip.compress(TEXT.replace(b"P-120", b"P-121")))

    with pytest.raises(SourceError, match="FNK121"):
        fastnk.convert(backup, tmp_path / "out", SCHEMA, progress=change)


def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("fsspec", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(FastnkError, match=r"fastnk\[url\]"):
        fastnk.detect("s3://bucket/backup.json")
    with pytest.raises(FastnkError, match=r"fastnk\[fast\]"):
        fastnk.detect(b"\x28\xb5\x2f\xfd" + bytes(20))


@pytest.mark.parametrize("text", ["x", "\\n"])
def test_texts_of_an_envelope_take_little_memory(text: str) -> None:
    import tracemalloc

    envelope = {"note": text * 1_000_000, "data": [keeper(1, "Anna")]}
    data = json.dumps(envelope).encode()
    tracemalloc.start()
    try:
        assert fastnk.detect(data, SCHEMA, full=True).records == 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 15 * len(data)


def test_what_an_envelope_holds_is_json_in_utf_8() -> None:
    around = b'{"note": %s, "data": ' + json.dumps([keeper(1, "Anna")]).encode() + b"}"
    digits = around % (b"9" * 5000)
    assert LegacyBackupConverter(SCHEMA).convert_bytes(digits).startswith(b'{"note": 9')
    with pytest.raises(BackupSyntaxError):
        LegacyBackupConverter(SCHEMA, encoding="utf-8").convert_bytes(around % b'"\xed\xa0\x80"')


def test_white_space_in_front_of_the_records_of_an_envelope(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastnk.source.layout.MAX_ENVELOPE", 1 << 16)
    records = json.dumps([keeper(1, "Anna")]).encode()
    for blanks in (1, 1 << 16, 1 << 18):
        inner = records.replace(b"[", b"[" + b" " * blanks, 1)
        with Source(b'{"data": ' + inner + b"}") as source:
            assert source.envelope is not None
            assert (source.envelope.around[0], source.envelope.counts) == (b'{"data": ', [1])
            assert b"".join(map(bytes, source.blocks())) == inner
        with pytest.raises(BackupSyntaxError):
            Source(b'{"data": [' + b" " * blanks + b"1]}", salvage=True)


def test_short_streams_in_one_file_are_not_copied_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copied: list[int] = []

    class Inflater(compression._Inflater):
        @property
        def unused_data(self) -> bytes:
            unused = super().unused_data
            copied.append(len(unused))
            return unused

    gzip_kind = compression._KINDS["gzip"]._replace(decompressor=Inflater)
    monkeypatch.setitem(compression._KINDS, "gzip", gzip_kind)
    records = json.dumps([keeper(number, "Anna") for number in range(20)]).encode()
    ends = range(1, len(records) + 1)
    streams = [gzip.compress(records[end - 1 : end]) + b"\0" * (end % 3) for end in ends]
    with Source(b"".join(streams)) as source:
        assert b"".join(map(bytes, source.blocks())) == records
    assert sum(copied) <= 2 * compression.FIRST_STEP * len(copied)


def test_what_was_looked_at_may_be_given_back() -> None:
    text = bytes(range(256)) * 40
    ahead = compression.Lookahead(iter([text[at : at + 1000] for at in range(0, len(text), 1000)]))
    taken = ahead.take(10) + ahead.take_some(5) + ahead.take(4000)
    ahead.give_back(taken[-7:])
    assert ahead.peek(20) == text[4008:4028]
    ahead.give_back(taken[15:-7])  # more than is at hand
    assert ahead.done == 15
    assert b"".join([ahead.take_some(3), *ahead.chunks()]) == text[15:]


def test_white_space_between_lines_takes_little_memory() -> None:
    """In a folder with an array, where lines get commas."""
    import tracemalloc

    line = json.dumps(keeper(1, "Anna")).encode()
    blanks = itertools.repeat(b"\n" * (1 << 16), 200)
    tracemalloc.start()
    try:
        text = (part.strip() for part in with_commas(itertools.chain([line], blanks, [line])))
        assert b"".join(text) == line + b"," + line
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20


def test_memory_does_not_grow_with_a_compressed_backup(tmp_path: Path) -> None:
    import tracemalloc

    def grown(count: int) -> Iterator[bytes]:
        yield b"["
        for number in itertools.count(1):
            end = b"]" if number == count else b",\n"
            yield (
                json.dumps({"model": "a.b", "pk": number, "fields": {"x": "y" * 500}}).encode()
                + end
            )
            if number == count:
                return

    path = tmp_path / "b.json.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.writelines(grown(60_000))
    converter = LegacyBackupConverter(
        SCHEMA, policies=fastnk.Policies(on_unknown_model="keep"), jobs=2
    )
    tracemalloc.start()
    converter.convert_to_natural_keys(path, tmp_path / "out.json.gz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 << 20


# ---- what comes together, and from where ----

MORE = [keeper(70, "Xaver"), pupil(71, 70)]
BOM = b"\xef\xbb\xbf"
UTF16 = TEXT.decode().encode("utf-16-le")
UTF16_LOG = "\ufeffINFO [x] {y}\r\nWARN\r\n" + TEXT.decode().replace("\n", "\r\n")


def long_name() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("d" * 200 + "/bäckup.json")
        info.size = len(TEXT)
        archive.addfile(info, io.BytesIO(TEXT))
    return out.getvalue()


WHOLE: dict[str, tuple[bytes, list[dict[str, Any]]]] = {
    "backups with marks, one behind the other": (
        BOM + COMPACT + b"\r\n" + BOM + json.dumps(MORE).encode(),
        RECORDS + MORE,
    ),
    "lines with marks": (BOM + MIXED + BOM + json.dumps(MORE[0]).encode(), [*RECORDS, MORE[0]]),
    "an indented array and a compact one": (TEXT + json.dumps(MORE).encode(), RECORDS + MORE),
    "an empty array behind, with a mark": (BOM + TEXT + b"[]", RECORDS),
    "an empty array in front": (b"[]\n" + TEXT, RECORDS),
    "empty arrays around": (gzip.compress(b"[] []" + COMPACT + b"[\n]\n"), RECORDS),
    "cp1252 in an envelope": (
        json.dumps({"à": 1, "records": records(WESTERN)}, ensure_ascii=False).encode("cp1252"),
        records(WESTERN),
    ),
    "carriage returns": (TEXT.replace(b"\n", b"\r\n"), RECORDS),
    "lines with carriage returns": (MIXED.replace(b"\n", b"\r\n"), RECORDS),
    "UTF-32": (TEXT.decode().encode("utf-32"), RECORDS),
    "UTF-16 in a package": (tarred({"b": ("\ufeff" + TEXT.decode()).encode("utf-16-be")}), RECORDS),
    "a long name in a tar": (long_name(), RECORDS),
    "a Windows path in a zip": (zipped({"backups\\b.json": TEXT}), RECORDS),
    "what macOS adds": (tarred({"./._b.json": b"\0\5\x16\7" * 50, "./b.json": TEXT}), RECORDS),
}
IN_LINES = ("lines with marks", "lines with carriage returns")


@pytest.mark.parametrize("salvage", [False, True])
@pytest.mark.parametrize("name", WHOLE)
def test_odd_but_whole(name: str, salvage: bool) -> None:
    data, want = WHOLE[name]
    out = LegacyBackupConverter(SCHEMA, salvage=salvage).convert_bytes(data)
    lines = name in IN_LINES
    read = [json.loads(line) for line in out.splitlines()] if lines else json.loads(out)
    assert (read["records"] if isinstance(read, dict) else read) == natural(want)
    report = fastnk.detect(data, full=True, salvage=salvage)
    assert (report.records, report.complete) == (len(want), True)


DAMAGED: dict[str, tuple[bytes, int]] = {
    "UTF-16 in gzip, behind a log, cut": (gzip.compress(UTF16_LOG[:-800].encode("utf-16-le")), 41),
    "garbage behind a gzip stream": (GZIP + b"garbage", 45),
    "a log before an envelope": (
        b"[x] WARN {1}\n" + json.dumps({"m": [1], "records": RECORDS}).encode(),
        45,
    ),
    "a log around an envelope": (b"INFO\n{" + b'"data": {"all": %s}}\nINFO [' % TEXT, 45),
    "a log before lines": (b"[x] WARN {1}\n" + MIXED, 45),
    "NULs in front": (bytes(5000) + TEXT, 45),
    "NULs behind the bracket": (b"[" + bytes(501) + TEXT[1:], 45),
    "NULs in the first record": (b"[" + bytes(99) + TEXT[100:], 44),
    "NULs in the first record, in UTF-16": (UTF16[:2] + bytes(198) + UTF16[200:], 44),
    "a guard against scripts": (b")]}'\n" + COMPACT, 45),
    "a call": (b"callback(" + COMPACT + b");", 45),
    "a fence": (b"```json\n" + TEXT + b"\n```\n", 45),
    "colours": (b"\x1b[33mWARN\x1b[0m [x\n" + TEXT, 45),
    "cp1252, cut": (json.dumps(records(WESTERN), ensure_ascii=False).encode("cp1252")[:-9], 44),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_odd_and_damaged(name: str) -> None:
    data, count = DAMAGED[name]
    with pytest.raises(BackupSyntaxError) as caught:
        LegacyBackupConverter(SCHEMA).convert_bytes(data)
    assert caught.value.salvage is not None
    assert caught.value.salvage.records == count
    policies = fastnk.Policies(on_unresolved="keep")
    converter = LegacyBackupConverter(SCHEMA, salvage=True, policies=policies)
    out = converter.convert_bytes(data)
    lines = name == "a log before lines"
    assert len(out.splitlines() if lines else json.loads(out)) == count


def test_damage_in_one_of_several_files_is_not_passed_over(tmp_path: Path) -> None:
    where = folder(tmp_path)
    broken = where / "more.json"
    broken.write_bytes(json.dumps(MORE).encode()[:-9])
    files = [str(where / name) for name in ("keepers.json", "a_pupils.json", "more.json")]
    for backup in (where, files):
        for verb in (converted, fastnk.detect, lambda one: fastnk.verify(one, TEXT, SCHEMA)):
            with pytest.raises(BackupSyntaxError, match="FNK205") as caught:
                verb(backup)
            assert caught.value.place.path == str(broken)
            assert caught.value.salvage is not None
            (loss,) = caught.value.salvage.losses
            assert (loss["file"], loss["records"]) == (str(broken), 1)
    assert fastnk.detect(where, salvage=True).damage


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/b\xff.json"
    try:
        Path(os.fsdecode(path)).write_bytes(COMPACT)
    except OSError:
        pytest.skip("this file system takes no such names")
    report = fastnk.convert(tmp_path, tmp_path / "out", SCHEMA)
    assert report.records == len(RECORDS)
    assert any("b\\xff.json" in note for note in report.read_as) or not report.read_as
    assert json.loads((tmp_path / "out").read_bytes()) == natural(RECORDS)


def test_size_of_each_of_many_files_is_asked_for_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        one = json.dumps([keeper(number, f"n{number}")])
        (tmp_path / f"{number}.json").write_text(one)
    asked: list[str | None] = []

    def size(file: ClosedFile) -> int:
        asked.append(file.name)
        return 100

    monkeypatch.setattr(ClosedFile, "size", property(size))
    told: list[tuple[str, int, int | None]] = []
    fastnk.convert(tmp_path, tmp_path / "out", SCHEMA, progress=lambda *one: told.append(one))
    assert ("look", 50 * 100) in {(phase, total) for phase, _, total in told}
    assert len(asked) <= 5 * 50


def test_folder_and_list_of_one_file(tmp_path: Path) -> None:
    path = made_of(COMPACT, tmp_path)
    assert json.loads(converted([str(path)])) == natural(RECORDS)
    assert json.loads(converted(tmp_path)) == natural(RECORDS)
    assert fastnk.detect(tmp_path, full=True).records == len(RECORDS)
    path.write_bytes(COMPACT[:-1])
    with pytest.raises(BackupSyntaxError, match=rf"FNK205[^/]*\n  at .*backup:{len(COMPACT) - 1}"):
        converted([str(path)])


def test_what_is_left_alone_is_named(tmp_path: Path) -> None:
    where = folder(tmp_path)
    (where / "odd.json").write_text('{"a": 1}')
    (note,) = fastnk.detect(where).read_as
    assert "left alone" in note
    assert "odd.json" in note


def test_a_file_that_is_named_is_not_left_alone(tmp_path: Path) -> None:
    where = folder(tmp_path)
    odd = where / "odd.json"
    odd.write_bytes(b"Loading ...\n" + "[…]".encode("utf-16"))
    with pytest.raises(SourceError, match=r"FNK124 no records are found in .*odd\.json"):
        converted(fixtures_in(where))
    odd.write_text("[]")
    assert json.loads(converted(fixtures_in(where))) == json.loads(converted(where))


def test_directory_of_a_zip_that_points_before_its_start(tmp_path: Path) -> None:
    backup = bytearray(zipped({"backup.json": TEXT}))
    place = len(backup) - 6  # of the directory's own place, in the last bytes
    backup[place : place + 4] = (int.from_bytes(backup[place : place + 4], "little") + 1).to_bytes(
        4, "little"
    )
    with pytest.raises(FastnkError, match="the zip is damaged"):
        fastnk.convert(bytes(backup), tmp_path / "out.json", SCHEMA)


def test_what_is_no_file_in_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "backup.json").write_bytes(TEXT)
    (tmp_path / "latest.json").symlink_to(tmp_path / "backup.json")
    os.mkfifo(tmp_path / "pipe.json")
    said = str(fastnk.detect(tmp_path).read_as)
    assert "latest.json (a link)" in said
    assert "pipe.json (no file)" in said


def test_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    from fastnk.source.opening import ClosedFile

    pipe = tmp_path / "backup.json"
    os.mkfifo(pipe)
    assert list(ClosedFile(pipe, is_named=False).chunks()) == []


def test_folders_in_one_another_without_end(tmp_path: Path) -> None:
    from fastnk.source.opening import files_of

    (tmp_path.joinpath(*"f" * 200)).mkdir(parents=True)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert files_of(tmp_path) == []
    finally:
        sys.setrecursionlimit(before)


def test_paths_that_the_system_does_not_take() -> None:
    for path in ("x" * 5000, "a\0b"):
        with pytest.raises(SourceError, match="FNK120 cannot read"):
            fastnk.detect(path)


def test_names_do_not_change_what_a_terminal_shows() -> None:
    said = str(fastnk.detect(zipped({"a\x1b[2J.json": TEXT, "b\n\u202e": b"-"})).read_as)
    assert said.isprintable()
