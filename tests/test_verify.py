"""The verification: faithful conversions pass, every planted fault is found at its place."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastnk.convert import LegacyBackupConverter, Policies
from fastnk.errors import BackupSyntaxError, FastnkError, SourceError
from fastnk.schema import Schema
from fastnk.verify import (
    CODES,
    MAX_KEPT,
    WINDOW_RECORDS,
    VerificationError,
    VerificationReport,
    verify,
)
from tests.oracle import natural_key_of
from tests.strategies import STYLES, BackupData, Record, Spelling, backups, settle, spellings

SCHEMA = Schema.loads(
    b"""{"version": 1, "models": {
    "contenttypes.contenttype": {"natural_key": ["app_label", "model"]},
    "users.user": {"natural_key": ["username"]},
    "users.profile": {"pk": "user", "natural_key": ["nickname"],
        "relations": {"user": {"to": "users.user"}}},
    "places.place": {"natural_key": ["name"]},
    "places.restaurant": {"pk": "place_ptr", "natural_key": ["place_ptr__name"],
        "relations": {"place_ptr": {"to": "places.place", "parent_link": true}}},
    "documents.source": {},
    "documents.state": {"pk": "code", "natural_key": ["label"], "keep_pk": true},
    "documents.document": {"natural_key": ["number"], "relations": {
        "author": {"to": "users.user"}, "reviewers": {"to": "users.user", "many": true},
        "owner": {"to": "users.user", "to_field": "username"},
        "state": {"to": "documents.state"}, "source": {"to": "documents.source"},
        "supersedes": {"to": "documents.document"}}},
    "workflows.step": {"natural_key": ["document__number", ["started|isoformat", "position|str"]],
        "relations": {"document": {"to": "documents.document"}}},
    "audit.entry": {
        "relations": {"type": {"to": "contenttypes.contenttype"}, "user": {"to": "users.user"}},
        "generic_relations": {"target": {"content_type": "type", "object_id": "target_id"}}}
    }}"""
)


def record(model: str, pk: Any, /, **fields: Any) -> Record:
    return {"model": model, "pk": pk, "fields": fields}


def document(pk: int, number: str, **fields: Any) -> Record:
    plain = {"title": "Ångström", "author": 1, "reviewers": [3, 2], "owner": "bob"}
    rest = {"state": "DRAFT", "source": 4, "supersedes": None, "size": 12345678901234567890}
    return record("documents.document", pk, number=number, **{**plain, **rest, **fields})


def step(pk: int, document: int, position: int) -> Record:
    started = "2025-01-02T03:04:05.120Z"
    return record("workflows.step", pk, document=document, started=started, position=position)


RECORDS = [
    document(7, "DOC-1"),
    document(8, "DOC-2", author=2, supersedes=7, reviewers=[], ratio=float("nan")),
    document(9, "DOC-3", author=3, supersedes=9, meta={"a": [1, {"b": None}], "c": 1.5}),
    record("users.user", 1, username="ann"),
    record("users.user", 2, username="bob"),
    record("users.user", 3, username="eve"),
    record("users.profile", 2, nickname="bobby"),
    record("places.place", 5, name="Kiosk"),
    record("places.restaurant", 5, stars=3),
    record("documents.source", 4, name="import"),
    record("documents.state", "DRAFT", label="Draft"),
    step(1, 7, 1),
    step(2, 7, 2),
    record("contenttypes.contenttype", 19, app_label="documents", model="document"),
    record("audit.entry", 1, type=19, target_id="8", user=1),
    record("audit.entry", 2, type=None, target_id=None, user=None),
]
NUMBERS = {(one["model"], one["pk"]): number for number, one in enumerate(RECORDS, start=1)}
SPELLINGS = [Spelling(), Spelling(indent=2), Spelling(lines=True), Spelling(loose=True, ascii=True)]
SHAPES = ["compact", "indented", "lines", "loose"]


def written(records: list[Record], spelling: Spelling = SPELLINGS[0]) -> bytes:
    """As the strategies write it, and with NaN as Python does."""
    return spelling.write(records)


BACKUP = written(RECORDS)


def converted(backup: bytes = BACKUP, **options: Any) -> bytes:
    return LegacyBackupConverter(SCHEMA, **options).convert_bytes(backup)


def verified(new: bytes, backup: bytes = BACKUP, **options: Any) -> VerificationReport:
    return verify(backup, new, SCHEMA, **options)


def found(report: VerificationReport) -> list[tuple[str, int | None, int | None, str | None]]:
    return [(one.code, one.record, one.converted_record, one.field) for one in report.findings]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=SHAPES)
def test_faithful_conversion(spelling: Spelling) -> None:
    backup = written(RECORDS, spelling)
    report = verified(converted(backup), backup)
    assert report.findings == []
    assert report.faithful
    assert report.style == "fastnk"
    report.check()


def test_faithful_conversion_in_style_django() -> None:
    """Where the pk says something, that style loses it; nothing else differs."""
    report = verified(converted(style="django"))
    assert report.style == "django"
    assert found(report) == [
        ("FNK509", 7, 7, "user"),
        ("FNK507", 11, 11, "pk"),
        ("FNK508", 15, 15, "target_id"),
    ]
    lossless = [one for number, one in enumerate(RECORDS, start=1) if number not in (7, 11, 15)]
    backup = written([_without(one, "state") for one in lossless])
    report = verified(converted(backup, style="django"), backup)
    assert report.faithful
    assert report.style == "django"


def _without(one: Record, field: str) -> Record:
    return {**one, "fields": {name: v for name, v in one["fields"].items() if name != field}}


def test_order_and_spelling_are_no_faults() -> None:
    new = json.loads(converted())
    for one in new:
        one["fields"] = dict(reversed(one["fields"].items()))
    new = [dict(reversed(one.items())) for one in new]
    for spelling in SPELLINGS:
        assert verified(written(new, spelling)).faithful
    assert verified(converted().replace(b'"c": 1.5', b'"c": 0.150E+1')).faithful


def test_summary() -> None:
    new = converted()
    report = verified(new)
    assert (report.backup.bytes, report.converted.bytes) == (len(BACKUP), len(new))
    assert report.backup.sha256 == hashlib.sha256(BACKUP).hexdigest()
    assert report.converted.sha256 == hashlib.sha256(new).hexdigest()
    assert report.schema_sha256 == hashlib.sha256(SCHEMA.dumps()).hexdigest()
    assert report.backup.records == report.converted.records == len(RECORDS)
    documents = report.models["documents.document"]
    assert (documents.records, documents.converted_records, documents.keys) == (3, 3, 3)
    assert documents.references == 3 + 2 * 2 + 3 + 3 + 2  # author, reviewers, owner, state, self
    assert report.models["audit.entry"].references == 3  # user, type and target
    assert report.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert report.versions.keys() == {"fastnk", "python"}
    again = msgspec.json.decode(msgspec.json.encode(report), type=VerificationReport)
    assert again == report


# ---- planted faults ----------------------------------------------------------------------------

Fault = Callable[[list[Record]], object]


def number_of(model: str, pk: Any) -> int:
    return NUMBERS[model, pk]


def fields(records: list[Record], number: int) -> Record:
    fields_: Record = records[number - 1]["fields"]
    return fields_


def put(number: int, **values: Any) -> Fault:
    return lambda records: fields(records, number).update(values)


def swap(first: int, second: int, name: str) -> Fault:
    def plant(records: list[Record]) -> None:
        one, other = fields(records, first), fields(records, second)
        one[name], other[name] = other[name], one[name]

    return plant


FAULTS: dict[str, tuple[Fault, list[tuple[str, int | None, int | None, str | None]]]] = {
    "value changed": (put(1, title="x"), [("FNK503", 1, 1, "title")]),
    "20th digit changed": (put(1, size=12345678901234567891), [("FNK503", 1, 1, "size")]),
    "number for a string": (put(12, position="1"), [("FNK503", 12, 12, "position")]),
    "other normal form": (put(1, title="A\u030angstro\u0308m"), [("FNK503", 1, 1, "title")]),
    "inside a JSON field": (
        put(3, meta={"a": [1, {"b": False}], "c": 1.5}),
        [("FNK503", 3, 3, "meta")],
    ),
    "NaN became null": (put(2, ratio=None), [("FNK503", 2, 2, "ratio")]),
    "null became a reference": (put(1, supersedes=["DOC-2"]), [("FNK504", 1, 1, "supersedes")]),
    "references swapped": (
        swap(1, 2, "author"),
        [("FNK504", 1, 1, "author"), ("FNK504", 2, 2, "author")],
    ),
    "reference by to_field leads elsewhere": (put(1, owner=["ann"]), [("FNK504", 1, 1, "owner")]),
    "null for a reference": (put(1, author=None), [("FNK509", 1, 1, "author")]),
    "id left": (put(1, author=1), [("FNK508", 1, 1, "author")]),
    "id of a model without key changed": (put(1, source=5), [("FNK503", 1, 1, "source")]),
    "element lost": (put(1, reviewers=[["eve"]]), [("FNK509", 1, 1, "reviewers")]),
    "first element lost": (put(1, reviewers=[["bob"]]), [("FNK509", 1, 1, "reviewers")]),
    "element added": (
        put(1, reviewers=[["eve"], ["bob"], ["ann"]]),
        [("FNK504", 1, 1, "reviewers")],
    ),
    "elements in other order": (
        put(1, reviewers=[["bob"], ["eve"]]),
        [("FNK504", 1, 1, "reviewers")] * 2,
    ),
    "all elements lost": (put(1, reviewers=None), [("FNK509", 1, 1, "reviewers")]),
    "field lost": (lambda r: fields(r, 1).pop("title"), [("FNK507", 1, 1, "title")]),
    "reference lost with its field": (
        lambda r: fields(r, 1).pop("author"),
        [("FNK507", 1, 1, "author")],
    ),
    "field added": (put(4, admin=True), [("FNK507", 4, 4, "admin")]),
    "member added": (lambda r: r[3].update(note=1), [("FNK507", 4, 4, "note")]),
    "natural key altered": (
        lambda r: r[3].update(natural_key=["anne"]),
        [("FNK506", 4, 4, "natural_key")],
    ),
    "part of a nested key altered": (
        lambda r: r[11]["natural_key"][1].__setitem__(1, 1),
        [("FNK506", 12, 12, "natural_key")],
    ),
    "natural key lost": (lambda r: r[3].pop("natural_key"), [("FNK507", 4, 4, "natural_key")]),
    "pk beside the key": (lambda r: r[3].update(pk=1), [("FNK507", 4, 4, "pk")]),
    "pk that says something lost": (lambda r: r[10].pop("pk"), [("FNK507", 11, 11, "pk")]),
    "pk without key changed": (lambda r: r[9].update(pk=5), [("FNK503", 10, 10, "pk")]),
    "pk left": (
        lambda r: (r[3].pop("natural_key"), r[3].update(pk=1)),
        [("FNK508", 4, 4, "pk")],
    ),
    "pk that is a reference lost": (lambda r: r[6].pop("references"), [("FNK509", 7, 7, "user")]),
    "pk that is a reference changed": (
        lambda r: r[6]["references"].update(user=["ann"]),
        [("FNK504", 7, 7, "user")],
    ),
    "parent link lost": (
        lambda r: fields(r, 9).pop("place_ptr"),
        [("FNK509", 9, 9, "place_ptr")],
    ),
    "parent link changed": (put(9, place_ptr=["Bar"]), [("FNK504", 9, 9, "place_ptr")]),
    "generic reference lost": (
        lambda r: r[14].pop("references"),
        [("FNK508", 15, 15, "target_id")],
    ),
    "generic reference changed": (
        lambda r: r[14]["references"].update(target_id=["DOC-1"]),
        [("FNK504", 15, 15, "target_id")],
    ),
    "reference invented": (
        lambda r: r[15].update(references={"target_id": ["DOC-1"]}),
        [("FNK507", 16, 16, "references.target_id")],
    ),
    "record dropped": (lambda r: r.pop(4), [("FNK501", 5, None, None)]),
    "first record dropped": (lambda r: r.pop(0), [("FNK501", 1, None, None)]),
    "last record dropped": (lambda r: r.pop(), [("FNK501", 16, None, None)]),
    "three records dropped": (
        lambda r: r.__delitem__(slice(3, 6)),
        [("FNK501", number, None, None) for number in (4, 5, 6)],
    ),
    "record repeated": (lambda r: r.insert(5, r[4]), [("FNK502", None, 6, None)]),
    "record repeated at the end": (lambda r: r.append(r[0]), [("FNK502", None, 17, None)]),
    "records in other order": (
        lambda r: r.insert(3, r.pop(4)),
        [("FNK501", 5, None, None), ("FNK502", None, 4, None)],
    ),
    "record of another model": (
        lambda r: r[9].update(model="users.user"),
        [("FNK501", 10, None, None), ("FNK502", None, 10, None)],
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS, ids=SHAPES)
@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault(name: str, spelling: Spelling) -> None:
    plant, expected = FAULTS[name]
    backup = written(RECORDS, spelling)
    records = json.loads(converted())
    plant(records)
    new = written(records, spelling)
    report = verified(new, backup)
    assert sorted(found(report), key=str) == sorted(expected, key=str)
    assert not report.faithful
    assert report.total == len(expected)
    assert report.counts.keys() <= CODES.keys()
    for one in report.findings:
        if one.offset is not None:
            assert decoded(backup, one.offset) == reread(RECORDS[(one.record or 0) - 1])
        if one.converted_offset is not None:
            assert decoded(new, one.converted_offset) == reread(
                records[(one.converted_record or 0) - 1]
            )
    with pytest.raises(VerificationError) as caught:
        report.check()
    assert caught.value.exit_code == 5
    assert all(one.code in str(caught.value) for one in report.findings)


def decoded(data: bytes, offset: int) -> str:
    return json.dumps(json.JSONDecoder().raw_decode(data[offset:].decode())[0])


def reread(one: Record) -> str:
    return json.dumps(json.loads(json.dumps(one)))


def test_several_faults_at_once() -> None:
    records = json.loads(converted())
    fields(records, 1)["title"] = "x"
    fields(records, 12)["position"] = 3
    del records[4]
    assert found(verified(written(records))) == [
        ("FNK503", 1, 1, "title"),
        ("FNK501", 5, None, None),
        ("FNK503", 12, 11, "position"),
    ]


def test_many_records_dropped() -> None:
    """In step again as far as the window reaches."""
    users = [record("users.user", number, username=f"user {number}") for number in range(3000)]
    backup = written(users)
    records = json.loads(converted(backup))
    report = verified(written(records[:10] + records[2900:]), backup)
    assert report.counts == {"FNK501": 2890}
    assert [one.record for one in report.findings] == list(range(11, 2901))


def test_more_records_dropped_than_the_window_holds() -> None:
    """What a policy drops is told from what is kept, however long it goes on."""
    strangers = [record("other.thing", number, text="x") for number in range(WINDOW_RECORDS + 900)]
    backup = written([RECORDS[3], *strangers, *RECORDS[4:6]])
    report = verified(converted(backup, policies=Policies(on_unknown_model="drop")), backup)
    assert report.counts == {"FNK501": len(strangers)}
    assert report.models["users.user"].differences == 0


def test_nothing_belongs_together() -> None:
    """All is counted, and the first of it shown, in linear time."""
    users = [record("users.user", number, username=f"user {number}") for number in range(12_000)]
    backup = written(users)
    records = json.loads(converted(backup))
    for one in records:
        one["natural_key"] = one["fields"]["username"] = "x"
    report = verified(written(records), backup)
    assert report.counts == {"FNK503": 12_000, "FNK506": 12_000}
    assert len(report.findings) == MAX_KEPT


# ---- keys that identify nothing, policies ------------------------------------------------------

TWINS = [document(7, "DOC-1"), document(8, "DOC-1"), step(1, 8, 1), *RECORDS[3:6], RECORDS[10]]


def test_key_that_two_records_share() -> None:
    """As a converter writes that does not look for such keys."""
    new = json.loads(converted(written(TWINS), policies=Policies(on_duplicate_key="keep")))
    for one in new[:2]:
        del one["pk"]
        one["natural_key"] = ["DOC-1"]
    new[2]["fields"]["document"] = ["DOC-1"]
    report = verified(written(new), written(TWINS))
    assert found(report) == [
        ("FNK505", 2, 2, "natural_key"),
        ("FNK505", 3, 3, "document"),
    ]


def test_key_that_a_natural_record_has_too() -> None:
    natural = {"model": "places.place", "natural_key": ["Kiosk"], "fields": {"name": "Kiosk"}}
    place, restaurant = RECORDS[7:9]
    for records in ([place, natural, restaurant], [natural, place, restaurant]):
        backup = written(records)
        report = verified(converted(backup), backup)
        assert found(report) == [("FNK505", 2, 2, "natural_key"), ("FNK505", 3, 3, "place_ptr")]


def test_natural_record_is_found_by_to_field() -> None:
    bob = {"model": "users.user", "fields": {"username": "bob"}}
    others = [RECORDS[3], RECORDS[5], RECORDS[10]]
    backup = written([document(7, "DOC-1", reviewers=[]), bob, *others])
    assert verified(converted(backup), backup).faithful


def test_ids_kept_by_policy_are_reported() -> None:
    backup = written(TWINS)
    report = verified(converted(backup, policies=Policies(on_duplicate_key="keep")), backup)
    assert found(report) == [
        ("FNK508", 1, 1, "pk"),
        ("FNK508", 2, 2, "pk"),
        ("FNK508", 3, 3, "document"),
    ]


@pytest.mark.parametrize(
    ("policy", "code", "place"),
    [("keep", "FNK508", 1), ("null", "FNK509", 1), ("drop", "FNK501", None)],
)
def test_unresolved_ids_are_reported(policy: Any, code: str, place: int | None) -> None:
    backup = written([document(7, "DOC-1", author=99), *RECORDS[3:6], RECORDS[10]])
    report = verified(converted(backup, policies=Policies(on_unresolved=policy)), backup)
    field = None if policy == "drop" else "author"
    assert found(report) == [(code, 1, place, field)]
    assert policy == "drop" or report.findings[0].what == "no record has this id"


def test_unknown_models_are_reported() -> None:
    backup = written([record("other.thing", 1, author=1), RECORDS[3]])
    kept = converted(backup, policies=Policies(on_unknown_model="keep"))
    assert found(verified(kept, backup)) == [("FNK508", 1, 1, None)]
    dropped = converted(backup, policies=Policies(on_unknown_model="drop"))
    assert found(verified(dropped, backup)) == [("FNK501", 1, None, None)]


def test_reference_to_an_id_that_two_records_have() -> None:
    twins = [record("users.user", 1, username="ann"), record("users.user", 1, username="eve")]
    backup = written([*twins, record("users.profile", 1, nickname="a")])
    report = verified(converted(backup, policies=Policies(on_duplicate_pk="keep")), backup)
    assert found(report) == [("FNK510", 3, 3, "user")]


def test_null_part_is_written_as_django_does() -> None:
    backup = written(
        [record("users.user", 1, username=None), record("users.profile", 1, nickname=2)]
    )
    assert verified(converted(backup, policies=Policies(on_null_key="null")), backup).faithful


def test_member_that_stands_twice() -> None:
    backup = written(RECORDS[3:5]).replace(
        b'"username": "bob"', b'"username": 1, "username": "bob"'
    )
    new = converted(backup, policies=Policies(on_duplicate_member="keep"))
    assert verified(new, backup).faithful
    assert found(verified(new.replace(b'"username": 1, ', b""), backup)) == [
        ("FNK507", 2, 2, "username")
    ]


# ---- inputs ------------------------------------------------------------------------------------


def test_keys_from_another_backup() -> None:
    backup, keys = written(RECORDS[:3]), written(RECORDS[3:])
    new = converted(backup, keys=[keys])
    report = verified(new, backup, keys=[keys])
    assert report.faithful
    assert [one.sha256 for one in report.keys] == [hashlib.sha256(keys).hexdigest()]
    assert verified(new, backup).counts.keys() == {"FNK504"}


def test_mixed_backup() -> None:
    """What is natural already stays as it is; what refers to ids is converted."""
    natural = json.loads(converted())
    mixed = [*natural[:3], *RECORDS[3:12], natural[12], *RECORDS[13:]]
    mixed[14] = {**mixed[14], "fields": {**mixed[14]["fields"], "target_id": ["DOC-2"]}}
    backup = written(mixed)
    backup = backup.replace(b'"document": 7', b'"document": ["DOC-1"]')
    new = converted(backup)
    assert verified(new, backup).faithful
    assert new != backup
    changed = new.replace(b'"supersedes": ["DOC-1"]', b'"supersedes": ["DOC-3"]')
    assert found(verified(changed, backup)) == [("FNK504", 2, 2, "supersedes")]


@pytest.mark.parametrize("spelling", SPELLINGS[:3], ids=SHAPES[:3])
@pytest.mark.parametrize("lost", [2, 30])
def test_salvaged(spelling: Spelling, lost: int) -> None:
    backup = written(RECORDS, spelling)[:-lost]
    new = converted(backup, salvage=True)
    with pytest.raises(BackupSyntaxError, match="FNK205"):
        verified(new, backup)
    report = verified(new, backup, salvage=True)
    assert report.faithful
    assert report.cut_off_at == len(backup)
    with pytest.raises(BackupSyntaxError, match="FNK205"):
        verified(backup, backup, salvage=True)


@pytest.mark.parametrize(
    ("data", "code", "offset"),
    [
        (b"", "FNK201", 0),
        (b" []", "FNK202", 0),
        (b"log line\n[]", "FNK200", 0),
        (b'[{"model": "a.b", "fields": {}} {}]', "FNK200", 32),
        (b'[{"model": "a.b", "fields": {}}, 1]', "FNK203", 33),
        (b'["x"]', "FNK203", 1),
        (b'[{"model": "a.b"}]', "FNK204", 1),
        (b'[{"model": "a.b", "fields": {}}]]', "FNK200", 32),
        (b'[{"model": "a.b", "fields": {"a": tru}}' + b" " * 40 + b"]", "FNK200", 34),
        (b'[{"model": "a.\xff", "fields": {}}]', "FNK206", 14),
        (b'[{"model": "a.b", "fields": {"\xc3\xa9": 1}},, ' + b" " * 40, "FNK203", 39),
        (
            b'[{"model": "a.b", "fields": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}]",
            "FNK207",
            None,
        ),
    ],
)
def test_damaged(data: bytes, code: str, offset: int | None) -> None:
    with pytest.raises(BackupSyntaxError) as caught:
        verified(converted(), data)
    assert (caught.value.code, caught.value.place.offset) == (code, offset)


def test_files_streams_and_what_cannot_be_read(tmp_path: Path) -> None:
    backup, new, schema = tmp_path / "old.json", tmp_path / "new.json", tmp_path / "schema.json"
    backup.write_bytes(BACKUP)
    new.write_bytes(converted())
    SCHEMA.save(schema)
    phases = []
    report = verify(backup, new, schema, progress=lambda *told: phases.append(told))
    assert report.faithful
    assert (report.backup.name, report.converted.name) == (str(backup), str(new))
    assert ("rows", len(BACKUP), len(BACKUP)) in phases
    assert ("compare", len(BACKUP), len(BACKUP)) in phases
    stream = io.BytesIO(b"before" + BACKUP)
    stream.seek(6)
    assert verify(stream, io.BytesIO(new.read_bytes()), schema).faithful
    assert not stream.closed
    with pytest.raises(SourceError):
        verify(tmp_path / "none.json", new, schema)


def test_backup_that_changes_while_it_is_read(tmp_path: Path) -> None:
    backup = tmp_path / "old.json"
    backup.write_bytes(BACKUP)

    def change(phase: str, done: int, total: int | None) -> None:
        if phase == "rows" and done == total:
            backup.write_bytes(BACKUP.replace(b"DOC-3", b"DOC-4"))

    with pytest.raises(SourceError, match="FNK121"):
        verify(backup, converted(), SCHEMA, progress=change)


def test_large_records_and_characters_across_blocks() -> None:
    big = [record("users.user", n, username=f"ü{n}", bio="é😀" * 400_000) for n in (1, 2)]
    small = [record("users.user", n, username=f"é{n}" * 50) for n in range(3, 9000)]
    backup = written([*big, *small])
    assert len(backup) > 3 << 20
    new = converted(backup)
    assert verified(new, backup).faithful
    place = new.rindex(b'{"model"')
    broken = new[:place] + new[place:].replace("é8999é".encode(), "é8999e".encode())
    report = verified(broken, backup)
    assert {one.converted_offset for one in report.findings} == {place}
    assert {one.offset for one in report.findings} == {backup.rindex(b'{"model"')}


def test_shares_no_code_with_the_core() -> None:
    program = "import sys, fastnk.verify; print([m for m in sys.modules if m.startswith('fastnk')])"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert eval(run.stdout) == ["fastnk", "fastnk.errors", "fastnk.schema", "fastnk.verify"]


# ---- properties --------------------------------------------------------------------------------


def keeping_pks_that_lead_to_ids(schema: Schema) -> Schema:
    """As a schema from a project has it: a pk that is the id of a row without key is kept."""
    models = {}
    for label, model in schema.models.items():
        relation = model.relations.get(model.pk)
        keep = relation is not None and schema.models[relation.to].natural_key is None
        models[label] = msgspec.structs.replace(model, keep_pk=keep)
    return Schema.of(models)


def has_unique_keys(data: BackupData) -> bool:
    both = [*data.records, *data.keys]
    keys = [
        (one["model"], json.dumps(key))
        for one in both
        if (key := one.get("natural_key") or natural_key_of(one, both, data.schema))
    ]
    return len(keys) == len(set(keys))


def conversion(
    data: BackupData, spelling: Spelling, style: str
) -> tuple[bytes, bytes, list[bytes]]:
    """Backup, converted backup and keys; only examples that the converter does not refuse."""
    data.schema = keeping_pks_that_lead_to_ids(data.schema)
    settle(data)
    assume(has_unique_keys(data))
    backup = spelling.write(data.records)
    keys = [spelling.write(data.keys)] if data.keys else []
    converter = LegacyBackupConverter(data.schema, keys=keys, style=style)  # type: ignore[arg-type]
    try:
        return backup, converter.convert_bytes(backup), keys
    except FastnkError:
        assume(False)
        raise


@given(backups(flawed=False), spellings(), st.sampled_from(STYLES))
def test_every_conversion_verifies(data: BackupData, spelling: Spelling, style: str) -> None:
    backup, new, keys = conversion(data, spelling, style)
    report = verify(backup, new, data.schema, keys=keys)
    if style == "django":  # which has no place for pks that say something
        pks = {(label, name) for label, m in data.schema.models.items() for name in ("pk", m.pk)}
        lost = [one for one in report.findings if (one.model, one.field) in pks]
        assert report.findings == lost
    else:
        assert report.findings == []


@given(backups(flawed=False), st.sampled_from(STYLES), st.randoms(use_true_random=False))
def test_every_mutation_is_found(data: BackupData, style: str, choices: random.Random) -> None:
    backup, new, keys = conversion(data, Spelling(), style)
    before = verify(backup, new, data.schema, keys=keys)
    records = json.loads(new)
    mutate(records, choices)
    report = verify(backup, json.dumps(records).encode(), data.schema, keys=keys)
    assert report.total > before.total


def mutate(records: list[Record], choices: random.Random) -> None:
    """Change one value of one record into another."""
    one = choices.choice(records)
    places = [
        (container, name)
        for container in (one, one["fields"], one.get("references", {}))
        for name in container
        if name not in ("model", "fields", "references")
    ]
    container, name = choices.choice(places or [(one, "model")])
    old = copy.deepcopy(container[name])
    kinds = [None, True, "other", 7, [], ["other"], "drop"]
    if isinstance(old, str):
        kinds.append(old + "\u0301")
    if isinstance(old, list) and old:
        kinds += [old[:-1], [*old, old[0]], [old]]
    new = choices.choice([kind for kind in kinds if json.dumps(kind) != json.dumps(old)])
    if new == "drop" and name != "model":
        del container[name]
    else:
        container[name] = new


# ---- real backups ------------------------------------------------------------------------------

FOLDER = os.environ.get("FASTNK_EDMS_BACKUPS")
EDMS_SCHEMA = Path(__file__).parents[1] / "examples" / "edms" / "schema.json"
needs_backups = pytest.mark.skipif(FOLDER is None, reason="FASTNK_EDMS_BACKUPS names no folder")


def read(name: str) -> bytes:
    return gzip.decompress(Path(FOLDER or "", f"{name}.json.gz").read_bytes())


@needs_backups
def test_real_conversion() -> None:
    backup, keys = read("legacy.truncated"), [read("contenttypes")]
    schema = Schema.load(EDMS_SCHEMA)
    converter = LegacyBackupConverter(schema, keys=keys, salvage=True)
    new = converter.convert_bytes(backup)
    report = verify(backup, new, schema, keys=keys, salvage=True)
    report.check()
    assert report.cut_off_at == len(backup)
    assert report.backup.records == report.converted.records == 3_253
    swapped = new.replace(b'["author01"]', b'["reviewer01"]', 1)
    assert swapped != new
    assert verify(backup, swapped, schema, keys=keys, salvage=True).total == 1


@needs_backups
@pytest.mark.parametrize("name", ["natural", "expected", "mixed", "contenttypes"])
def test_real_backup_that_needs_no_keys(name: str) -> None:
    backup, schema = read(name), Schema.load(EDMS_SCHEMA)
    new = LegacyBackupConverter(schema).convert_bytes(backup)
    verify(backup, new, schema).check()
