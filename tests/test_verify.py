"""The verification: faithful conversions pass, every planted fault is found at its place."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import itertools
import json
import os
import random
import subprocess
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastnk.convert import LegacyBackupConverter, Policies
from fastnk.errors import BackupSyntaxError, FastnkError, SourceError
from fastnk.schema import GenericRelation, Model, Relation, Schema
from fastnk.source import Source
from fastnk.verify import VerificationError, VerificationReport, verify
from fastnk.verify.findings import MAX_KEPT
from fastnk.verify.pairing import WINDOW_RECORDS
from fastnk.verify.report import CODES, Difference
from tests.oracle import natural_key_of
from tests.strategies import (
    FLAWS,
    STYLES,
    BackupData,
    Record,
    Spelling,
    Verbatim,
    backups,
    is_legacy,
    settle,
    spellings,
)

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


def capitals(one: Record) -> Record:
    app, _, name = one["model"].partition(".")
    return {**one, "model": f"{app}.{name.title()}"}


def test_faithful_conversion_of_models_in_capitals() -> None:
    backup = written([*map(capitals, RECORDS[::2]), *RECORDS[1::2]])
    new = converted(backup)
    assert verified(new, backup).faithful
    report = verified(new.replace(b"documents.Document", b"documents.document"), backup)
    assert {(one.code, one.field) for one in report.findings} == {("FNK503", "model")}


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


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        ("1.5", "1.50", True),
        ("100", "1e2", True),
        ("0.0", "0", True),
        ("-0.0", "-0e5", True),
        ("NaN", "NaN", True),
        ("0", "-0", False),
        ("-0.0", "0.0", False),
        ("10", "1", False),
        ("0.1", "0.01", False),
        ("1e5", "1e-5", False),
        ("12345678901234567890", "12345678901234567891", False),
        ("Infinity", "-Infinity", False),
        ("1", "true", False),
        ("0", "false", False),
        ("1", '"1"', False),
    ],
)
def test_numbers_are_compared_by_their_values(before: str, after: str, is_same: bool) -> None:
    old, new = (b'"c": ' + text.encode() for text in (before, after))
    for one, other in ((old, new), (new, old)):
        backup, out = (data.replace(b'"c": 1.5', one) for data in (BACKUP, converted()))
        assert verified(out.replace(one, other), backup).faithful == is_same


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
    "another id": (put(1, author=2), [("FNK504", 1, 1, "author")]),
    "text for a reference": (put(1, author='["ann"]'), [("FNK504", 1, 1, "author")]),
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


@pytest.mark.parametrize("spelling", SPELLINGS, ids=SHAPES)
@pytest.mark.parametrize("style", ["fastnk", "django"])
def test_any_order_where_it_is_asked_for(style: str, spelling: Spelling) -> None:
    in_order = verified(converted(style=style))
    records = json.loads(converted(style=style))
    random.Random(5).shuffle(records)
    new = written(records, spelling)
    codes = [code for code, *_ in found(in_order)]
    assert [code for code, *_ in found(verified(new, any_order=True))] == codes
    assert verified(converted(style=style), any_order=True).counts == in_order.counts
    assert verified(new).total > in_order.total


@pytest.mark.parametrize("name", sorted(FAULTS.keys() - {"records in other order"}))
def test_planted_fault_in_any_order(name: str) -> None:
    records = json.loads(converted())
    FAULTS[name][0](records)
    random.Random(5).shuffle(records)
    assert not verified(written(records), any_order=True).faithful


def test_of_as_many_in_either_style_those_without_keys_are_wrong() -> None:
    records = json.loads(converted(written(PEOPLE[:2])))
    del records[1]["natural_key"]
    report = verified(written(records), written(PEOPLE[:2]))
    assert report.style == "fastnk"
    assert found(report) == [("FNK507", 2, 2, "natural_key")]


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
    users = [record("users.user", number, username=f"user {number}") for number in range(6_000)]
    backup = written(users)
    records = json.loads(converted(backup))
    for one in records:
        one["natural_key"] = one["fields"]["username"] = "x"
    report = verified(written(records), backup)
    assert report.counts == {"FNK503": 6_000, "FNK506": 6_000}
    assert len(report.findings) == MAX_KEPT


# ---- ids inside fields, generic relations by label ---------------------------------------------

LOGS = Schema.loads(
    b"""{"version": 1, "models": {
    "users.user": {"natural_key": ["username"]},
    "documents.document": {"natural_key": ["number"]},
    "tags.tag": {},
    "audit.log": {
        "embedded": {
            "old.author": {"to": "users.user"},
            "old.items[].document": {"to": "documents.document"},
            "old.tag": {"to": "tags.tag"}, "rows[][]": {"to": "users.user", "to_field": "username"},
            "note.author": {"to": "users.user"}, "note.by[]": {"to": "users.user"},
            "who": {"to": "users.user"}},
        "generic_relations": {"target": {"label": "kind", "object_id": "number",
                                         "labels": {"doc": "documents.document"}}}}
    }}"""
)
NOTE = ' {"caf\u00e9": "\\n1", "author" :1,"other": {"author": 1}, "by": [2, null, "3"], "x": 1.50}'
NOTE_NOW = NOTE.replace(":1,", ':["ann"],').replace('[2, null, "3"]', '[["bob"], null, ["eve"]]')
LOG = record(
    "audit.log",
    1,
    old={"author": 1, "items": [{"document": 7}, {"document": "8"}, 7, None], "tag": 4, "size": 1},
    rows=[["ann", "bob"], [], None],
    note=NOTE,
    who="2",
    kind="documents.Document",
    number="7",
)
ODD_LOG = record(
    "audit.log",
    2,
    old={"author": ["ann"], "items": {"document": 7}, "tag": None},
    rows=[[["ann"]], {"rows": 1}, "", True],
    note="",
    who='["bob"]',
    kind="doc",
    number=8,
)
LOG_RECORDS = [
    LOG,
    ODD_LOG,
    record("audit.log", 3, old=None, rows=5, note="[1, 2]", who=3, kind=None, number=None),
    *RECORDS[3:6],
    record("documents.document", 7, number="DOC-1"),
    record("documents.document", 8, number="DOC-2"),
    record("tags.tag", 4, name="t"),
]


def natural(one: Record, *key: str) -> Record:
    return {"model": one["model"], "natural_key": list(key), "fields": one["fields"]}


def changed(one: Record, references: Record | None = None, /, **fields: Any) -> Record:
    beside = {"references": references} if references else {}
    return {**one, **beside, "fields": {**one["fields"], **fields}}


LOGS_NOW = [
    changed(
        LOG,
        {"number": ["DOC-1"]},
        old={
            "author": ["ann"],
            "items": [{"document": ["DOC-1"]}, {"document": ["DOC-2"]}, 7, None],
            "tag": 4,
            "size": 1,
        },
        rows=[[["ann"], ["bob"]], [], None],
        note=NOTE_NOW,
        who='["bob"]',
    ),
    changed(ODD_LOG, {"number": ["DOC-2"]}),
    changed(LOG_RECORDS[2], who=["eve"]),
    natural(LOG_RECORDS[3], "ann"),
    natural(LOG_RECORDS[4], "bob"),
    natural(LOG_RECORDS[5], "eve"),
    natural(LOG_RECORDS[6], "DOC-1"),
    natural(LOG_RECORDS[7], "DOC-2"),
    LOG_RECORDS[8],
]
"""What has to become of `LOG_RECORDS`, written by hand."""


def logs_verified(
    now: list[Record], before: list[Record] = LOG_RECORDS, **options: Any
) -> VerificationReport:
    options.setdefault("embedded", True)
    return verify(written(before), written(now), LOGS, **options)


@pytest.mark.parametrize("spelling", SPELLINGS, ids=SHAPES)
def test_faithful_conversion_of_ids_inside_fields(spelling: Spelling) -> None:
    report = verify(
        written(LOG_RECORDS, spelling), written(LOGS_NOW, spelling), LOGS, embedded=True
    )
    assert report.findings == []
    assert report.embedded
    # author, items, rows, note.author and note.by, who and number; who; number
    assert report.models["audit.log"].references == (1 + 2 + 2 + 3 + 1 + 1) + 1 + 1


def test_ids_inside_fields_stay_where_they_were_not_asked_for() -> None:
    now = [changed(one, **old["fields"]) for one, old in zip(LOGS_NOW, LOG_RECORDS, strict=True)]
    report = logs_verified(now, embedded=False)
    assert report.findings == []
    assert not report.embedded
    assert found(logs_verified(LOGS_NOW, embedded=False)) == [
        *[("FNK503", 1, 1, name) for name in ("old", "rows", "note", "who")],
        ("FNK503", 3, 3, "who"),
    ]
    names = ["old.author", "old.items[].document", "old.items[].document", "rows[][]", "rows[][]"]
    names += ["note.author", "note.by[]", "note.by[]", "who"]
    report = logs_verified(now)
    assert found(report) == [*[("FNK508", 1, 1, name) for name in names], ("FNK508", 3, 3, "who")]


def inside(name: str, *path: str | int) -> Callable[[Any], Fault]:
    """Put a value into a JSON field of the first record."""

    def put_inside(value: Any) -> Fault:
        def plant(records: list[Record]) -> None:
            place = fields(records, 1)[name]
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = value

        return plant

    return put_inside


def in_note(old: str, new: str) -> Fault:
    def plant(records: list[Record]) -> None:
        note = fields(records, 1)["note"]
        assert note.count(old) == 1
        fields(records, 1)["note"] = note.replace(old, new)

    return plant


def both(*plants: Fault) -> Fault:
    return lambda records: [plant(records) for plant in plants]


ITEMS, ROWS = ("old", "items"), ("rows", 0)
FAULTS_INSIDE: dict[str, tuple[Fault, list[tuple[str, str]]]] = {
    "key of another record": (inside("old", "author")(["bob"]), [("FNK504", "old.author")]),
    "id left": (inside("old", "author")(1), [("FNK508", "old.author")]),
    "null for an id": (inside("old", "author")(None), [("FNK509", "old.author")]),
    "two swapped": (
        both(
            inside(*ITEMS, 0, "document")(["DOC-2"]),
            inside(*ITEMS, 1, "document")(["DOC-1"]),
        ),
        [("FNK504", "old.items[].document")] * 2,
    ),
    "two swapped, found by a field": (
        inside(*ROWS)([["bob"], ["ann"]]),
        [("FNK504", "rows[][]")] * 2,
    ),
    "element lost": (inside(*ROWS)([["ann"]]), [("FNK503", "rows")]),
    "element beside changed": (inside(*ITEMS, 2)(8), [("FNK503", "old")]),
    "member beside changed": (inside("old", "size")(2), [("FNK503", "old")]),
    "member added": (inside("old", "more")(1), [("FNK503", "old")]),
    "id of a model without key changed": (inside("old", "tag")(5), [("FNK503", "old")]),
    "key of another record in a text": (in_note('"ann"', '"bob"'), [("FNK504", "note.author")]),
    "two swapped in a text": (
        in_note('[["bob"], null, ["eve"]]', '[["eve"], null, ["bob"]]'),
        [("FNK504", "note.by[]")] * 2,
    ),
    "id left in a text": (in_note('["ann"]', "1"), [("FNK508", "note.author")]),
    "space beside an id": (in_note('"author" :', '"author":'), [("FNK503", "note")]),
    "character in front of an id": (in_note("caf\u00e9", "cafe"), [("FNK503", "note")]),
    "number behind the last id": (in_note("1.50", "1.5"), [("FNK503", "note")]),
    "id that no path leads to": (
        in_note('{"author": 1}', '{"author": ["ann"]}'),
        [("FNK503", "note")],
    ),
    "text that became what it means": (
        put(1, note=json.loads(NOTE_NOW)),
        [("FNK503", "note")],
    ),
    "text cut off": (put(1, note=NOTE_NOW[:40]), [("FNK503", "note")]),
    "text cut off at an id": (
        put(1, note=NOTE_NOW[: NOTE_NOW.index('["ann')]),
        [("FNK503", "note")],
    ),
    "whole text": (put(1, who='["ann"]'), [("FNK504", "who")]),
    "whole text left": (put(1, who="2"), [("FNK508", "who")]),
    "whole text that became a list": (put(1, who=["bob"]), [("FNK503", "who")]),
    "whole text lost": (put(1, who=None), [("FNK503", "who")]),
    "field lost": (lambda r: fields(r, 1).pop("old"), [("FNK507", "old")]),
    "reference by label to another record": (
        lambda r: r[0]["references"].update(number=["DOC-2"]),
        [("FNK504", "number")],
    ),
    "reference by label lost": (lambda r: r[0].pop("references"), [("FNK508", "number")]),
    "label changed": (put(1, kind="doc"), [("FNK503", "kind")]),
}


@pytest.mark.parametrize("name", FAULTS_INSIDE)
def test_planted_fault_inside_a_field(name: str) -> None:
    plant, expected = FAULTS_INSIDE[name]
    now = copy.deepcopy(LOGS_NOW)
    plant(now)
    assert found(logs_verified(now)) == [(code, 1, 1, field) for code, field in expected]


def test_references_by_label_swapped() -> None:
    now = copy.deepcopy(LOGS_NOW)
    now[0]["references"], now[1]["references"] = now[1]["references"], now[0]["references"]
    assert found(logs_verified(now)) == [("FNK504", 1, 1, "number"), ("FNK504", 2, 2, "number")]


def test_odd_values_inside_fields_stay() -> None:
    values = {
        "old": [[], {"author": {"author": 1}}, {"author": True}, {"author": ""}],
        "rows": [{}, [["", None, True, {"x": 1}]]],
        "note": ["null", "17", '"1"', "[]", '{"author": ""}', '{"author": []}'],
        "who": [True, [], {}, '["x", ["y"]]'],
    }
    users = list(zip(LOG_RECORDS[3:6], LOGS_NOW[3:6], strict=True))
    for name, several in values.items():
        for number, value in enumerate(several):
            log = record("audit.log", 1, **{name: value})
            before, now = [log, *(one for one, _ in users)], [log, *(one for _, one in users)]
            assert logs_verified(now, before).findings == []
            other = several[number - 1]
            wrong = [record("audit.log", 1, **{name: other}), *now[1:]]
            assert found(logs_verified(wrong, before)) == [("FNK503", 1, 1, name)]


def test_member_that_comes_again_inside_a_field() -> None:
    users = LOG_RECORDS[3:5], LOGS_NOW[3:5]
    texts = '{"author": 1, "author": "2"}', '{"author": ["ann"], "author": ["bob"]}'
    swapped = texts[1].replace("ann", "x").replace("bob", "ann").replace("x", "bob")
    for name, spell in (("old", str), ("note", json.dumps)):
        before, now, wrong = (
            written([record("audit.log", 1, **{name: Verbatim(spell(text))}), *several])
            for text, several in zip((*texts, swapped), (*users, users[1]), strict=True)
        )
        assert verify(before, now, LOGS, embedded=True).findings == []
        report = verify(before, wrong, LOGS, embedded=True)
        assert found(report) == [("FNK504", 1, 1, f"{name}.author")] * 2


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("old", {"author": 99}, "old.author"),
        ("note", '{"author": 99}', "note.author"),
        ("who", "nobody", "who"),
        ("note", "{author: 1}", "note"),
        ("note", '{"author": 1', "note"),
        ("note", " ", "note"),
    ],
)
def test_ids_inside_fields_that_were_kept_are_reported(name: str, value: Any, field: str) -> None:
    log = record("audit.log", 1, **{name: value})
    report = logs_verified([log, LOGS_NOW[3]], [log, LOG_RECORDS[3]])
    assert found(report) == [("FNK508", 1, 1, field)]
    changed_too = [record("audit.log", 1, **{name: "x"}), LOGS_NOW[3]]
    assert len(logs_verified(changed_too, [log, LOG_RECORDS[3]]).findings) == 1


def test_label_that_means_nothing_is_reported() -> None:
    log = record("audit.log", 1, kind="documents.folder", number=1)
    assert found(logs_verified([log], [log])) == [("FNK508", 1, 1, "number")]


# ---- keys of proxies ---------------------------------------------------------------------------

PROXIES = Schema.loads(
    b"""{"version": 1, "models": {
    "users.user": {"natural_key": ["username"]},
    "runs.run": {"relations": {"by": {"to": "users.user"}}},
    "audit.entry": {"relations": {
        "user": {"to": "users.user", "natural_key": ["username", "mail"]},
        "run": {"to": "runs.run", "natural_key": ["name", "by__username"]},
        "runs": {"to": "runs.run", "many": true, "natural_key": ["name", "by__username"]}}}
    }}"""
)
ANN, EVE = (
    record("users.user", n, username=name, mail="m") for n, name in ((1, "ann"), (3, "eve"))
)
NIGHTLY, DAILY = (record("runs.run", n, name=name, by=1) for n, name in ((1, "night"), (2, "day")))
ENTRIES = [
    record("audit.entry", 1, user=1, run=1, runs=[2, 1]),
    record("audit.entry", 2, user=3, run=2, runs=[]),
    *(ANN, EVE, NIGHTLY, DAILY),
]
ROWS_OF_FASTNK = [
    natural(ANN, "ann"),
    natural(EVE, "eve"),
    changed(NIGHTLY, by=["ann"]),
    changed(DAILY, by=["ann"]),
]
IN_STYLE: dict[str, list[Record]] = {
    "fastnk": [
        changed(ENTRIES[0], user=["ann"]),
        changed(ENTRIES[1], user=["eve"]),
        *ROWS_OF_FASTNK,
    ],
    "django": [
        changed(
            ENTRIES[0],
            user=["ann", "m"],
            run=["night", "ann"],
            runs=[["day", "ann"], ["night", "ann"]],
        ),
        changed(ENTRIES[1], user=["eve", "m"], run=["day", "ann"]),
        *({name: one[name] for name in one if name != "natural_key"} for one in ROWS_OF_FASTNK),
    ],
}


def proxies_verified(now: list[Record], before: list[Record] = ENTRIES) -> VerificationReport:
    return verify(written(before), written(now), PROXIES)


@pytest.mark.parametrize("style", STYLES)
def test_faithful_conversion_with_proxies(style: str) -> None:
    report = proxies_verified(IN_STYLE[style])
    assert report.findings == []
    assert report.style == style
    assert report.models["audit.entry"].references == (2 if style == "fastnk" else 2 + 2 + 2)


@pytest.mark.parametrize("style", STYLES)
def test_planted_fault_behind_a_proxy(style: str) -> None:
    for name in ("user", "run"):
        now = copy.deepcopy(IN_STYLE[style])
        swap(1, 2, name)(now)
        code = "FNK504"
        assert found(proxies_verified(now)) == [(code, 1, 1, name), (code, 2, 2, name)]
    now = copy.deepcopy(IN_STYLE[style])
    fields(now, 1)["runs"].pop()
    assert found(proxies_verified(now)) == [("FNK509", 1, 1, "runs")]
    put(1, user=None, run=None)(now)
    assert [one[0] for one in found(proxies_verified(now))] == ["FNK509"] * 3


@pytest.mark.parametrize("style", STYLES)
def test_reference_in_the_other_style(style: str) -> None:
    other = {"fastnk": "django", "django": "fastnk"}[style]
    for name in ("user", "run"):
        now = copy.deepcopy(IN_STYLE[style])
        fields(now, 1)[name] = fields(IN_STYLE[other], 1)[name]
        code = "FNK508" if (style, name) == ("django", "run") else "FNK504"
        report = proxies_verified(now)
        assert report.style == style
        assert found(report) == [(code, 1, 1, name)]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("by", [None, 99])
def test_id_stays_where_a_proxy_has_no_key_to_write(by: int | None, style: Any) -> None:
    """A null in it, or a record on its way is missing. The record that is meant keeps its pk."""
    run = record("runs.run", 1, name="night", by=by)
    backup = written([*ENTRIES[:1], ANN, EVE, run, DAILY])
    policies = Policies(on_unresolved="error" if by is None else "keep")
    converter = LegacyBackupConverter(PROXIES, policies=policies, style=style)
    new = json.loads(converter.convert_bytes(backup))
    assert new[0]["fields"]["run"] == 1
    assert verify(backup, written(new), PROXIES, policies=policies).faithful
    new[0]["fields"]["run"] = 2
    assert found(verify(backup, written(new), PROXIES, policies=policies)) == [
        ("FNK504", 1, 1, "run")
    ]


@pytest.mark.parametrize("style", STYLES)
def test_list_through_a_proxy_of_which_an_id_leads_nowhere(style: Any) -> None:
    """Only the proxy has keys: in style fastnk all ids stay, in style django that one is taken
    out."""
    before = [changed(ENTRIES[0], runs=[2, 99, 1]), *ENTRIES[1:]]
    null = Policies(on_unresolved="null")
    converter = LegacyBackupConverter(PROXIES, policies=null, style=style)
    new = json.loads(converter.convert_bytes(written(before)))
    assert len(new[0]["fields"]["runs"]) == (3 if style == "fastnk" else 2)
    assert verify(written(before), written(new), PROXIES, policies=null).faithful
    new[0]["fields"]["runs"] = (
        [2, 1] if style == "fastnk" else [["day", "ann"], 99, ["night", "ann"]]
    )
    assert not verify(written(before), written(new), PROXIES, policies=null).faithful


def test_key_of_a_proxy_that_two_records_share() -> None:
    again = record("runs.run", 3, name="night", by=1)
    now = [*IN_STYLE["django"], changed(again, by=["ann"])]
    report = proxies_verified(now, [*ENTRIES, again])
    assert found(report) == [("FNK505", 1, 1, "run"), ("FNK505", 1, 1, "runs")]
    now = [*IN_STYLE["fastnk"], changed(again, by=["ann"])]
    assert proxies_verified(now, [*ENTRIES, again]).findings == []


# ---- keys that methods make --------------------------------------------------------------------

METHOD = "shops.models.Shelf.natural_key"
OF_PROXY = "shops.models.Top.natural_key"
SHELVES = Schema.of(
    {
        "shops.shelf": Model(
            natural_key_method=METHOD, relations={"parent": Relation("shops.shelf")}
        ),
        "shops.item": Model(
            natural_key=["name"],
            relations={
                "shelf": Relation("shops.shelf"),
                "place": Relation("shops.shelf", to_field="code"),
                "top": Relation("shops.shelf", natural_key_method=OF_PROXY),
            },
        ),
    }
)
SHELF_RECORDS = [
    record("shops.item", 1, name="pen", shelf=2, place="B", top=1),
    record("shops.item", 2, name="ink", shelf=1, place="A", top=1),
    record("shops.shelf", 1, name="a", code="A", parent=None),
    record("shops.shelf", 2, name="b", code="B", parent=1),
]
SHELVES_NOW = [
    natural(changed(SHELF_RECORDS[0], shelf=["a", "b"], place=["a", "b"], top=["a"]), "pen"),
    natural(changed(SHELF_RECORDS[1], shelf=["a"], place=["a"], top=["a"]), "ink"),
    natural(SHELF_RECORDS[2], "a"),
    natural(changed(SHELF_RECORDS[3], parent=["a"]), "a", "b"),
]


class Called(NamedTuple):
    label: str
    method: str
    pk: str
    key: str | None
    reason: str | None = None


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for the project: a shelf's key is the names of its ancestors and its own."""

    def called_keys(schema: Schema, sources: list[Source]) -> Iterator[Called]:
        assert schema is SHELVES
        records = [one for source in sources for one in json.loads(b"".join(source.blocks()))]
        shelves = {one["pk"]: one["fields"] for one in records if one["model"] == "shops.shelf"}
        for pk, shelf in shelves.items():
            names, parent = [shelf["name"]], shelf["parent"]
            while parent is not None:
                names.insert(0, shelves[parent]["name"])
                parent = shelves[parent]["parent"]
            key = None if names[-1] == "broken" else json.dumps(names)
            yield Called("shops.shelf", METHOD, json.dumps(pk), key, "it failed")
            yield Called("shops.shelf", OF_PROXY, json.dumps(pk), json.dumps(["top", *names]))
            yield Called("shops.shelf", "shops.models.Other.natural_key", json.dumps(pk), "[1]")

    module = types.ModuleType("fastnk.django.calling")
    monkeypatch.setattr(module, "called_keys", called_keys, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def shelves_verified(
    now: list[Record], before: list[Record] = SHELF_RECORDS, **options: Any
) -> VerificationReport:
    return verify(written(before), written(now), SHELVES, **options)


@pytest.mark.usefixtures("methods")
def test_faithful_conversion_with_keys_that_methods_make() -> None:
    report = shelves_verified(SHELVES_NOW)
    assert report.findings == []
    assert (report.models["shops.shelf"].keys, report.models["shops.item"].references) == (2, 6)
    keys = written(SHELF_RECORDS[2:])
    assert shelves_verified(SHELVES_NOW[:2], SHELF_RECORDS[:2], keys=[keys]).findings == []
    now = [{name: one[name] for name in one if name != "natural_key"} for one in SHELVES_NOW]
    for one in now[:2]:
        one["fields"] = {**one["fields"], "top": ["top", "a"]}
    report = shelves_verified(now)
    assert (report.style, report.findings) == ("django", [])


SHELF_FAULTS: dict[str, tuple[Fault, list[tuple[str, int | None, int | None, str | None]]]] = {
    "keys swapped": (
        lambda r: (r[2].update(natural_key=["a", "b"]), r[3].update(natural_key=["a"])),
        [("FNK506", 3, 3, "natural_key"), ("FNK506", 4, 4, "natural_key")],
    ),
    "key too short": (
        lambda r: r[3].update(natural_key=["b"]),
        [("FNK506", 4, 4, "natural_key")],
    ),
    "references swapped": (
        swap(1, 2, "shelf"),
        [("FNK504", 1, 1, "shelf"), ("FNK504", 2, 2, "shelf")],
    ),
    "references found by a field swapped": (
        swap(1, 2, "place"),
        [("FNK504", 1, 1, "place"), ("FNK504", 2, 2, "place")],
    ),
    "reference to its own kind": (put(4, parent=["a", "b"]), [("FNK504", 4, 4, "parent")]),
    "key of a proxy": (put(1, top=["top", "a"]), [("FNK504", 1, 1, "top")]),
    "id left": (put(1, shelf=2), [("FNK508", 1, 1, "shelf")]),
}


@pytest.mark.usefixtures("methods")
@pytest.mark.parametrize("name", SHELF_FAULTS)
def test_planted_fault_in_a_key_that_a_method_makes(name: str) -> None:
    plant, expected = SHELF_FAULTS[name]
    now = copy.deepcopy(SHELVES_NOW)
    plant(now)
    assert found(shelves_verified(now)) == expected


@pytest.mark.usefixtures("methods")
def test_key_that_a_method_could_not_make() -> None:
    broken = record("shops.shelf", 3, name="broken", code="C", parent=None)
    item = record("shops.item", 3, name="cap", shelf=3, place="A", top=1)
    item_now = natural(changed(item, place=["a"], top=["a"]), "cap")
    report = shelves_verified([*SHELVES_NOW, broken, item_now], [*SHELF_RECORDS, broken, item])
    assert found(report) == [("FNK508", 5, 5, "pk"), ("FNK508", 6, 6, "shelf")]


@pytest.mark.usefixtures("methods")
def test_key_of_a_method_that_two_records_share() -> None:
    twin = record("shops.shelf", 3, name="a", code="C", parent=None)
    report = shelves_verified([*SHELVES_NOW, natural(twin, "a")], [*SHELF_RECORDS, twin])
    assert ("FNK505", 5, 5, "natural_key") in found(report)
    assert ("FNK505", 2, 2, "shelf") in found(report)


def test_methods_are_not_called_where_nothing_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastnk.django.calling", None)
    item = record("shops.item", 1, name="pen", shelf=None, place=None, top=None)
    assert shelves_verified([natural(item, "pen")], [item]).findings == []
    with pytest.raises(ImportError):
        shelves_verified(SHELVES_NOW)


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
    sound = json.loads(converted(written([place, restaurant])))
    for at in (0, 1):
        records, new = [place, restaurant], [*sound]
        records.insert(at, natural)
        new.insert(at, natural)
        report = verified(written(new), written(records))
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


def test_pk_that_stands_twice() -> None:
    """Where the natural key takes its place, both are gone; of a key that cannot be made the one
    that does not count; where pks stay, both do."""
    policies = Policies(on_duplicate_member="keep", on_unresolved="keep")
    backup = written([RECORDS[9], RECORDS[3], step(1, 99, 1)])
    for pk in (b'"pk": 4,', b'"pk": 1,'):
        backup = backup.replace(pk, b'"pk": 5, ' + pk)
    new = converted(backup, policies=policies)
    assert [new.count(pk) for pk in (b'"pk": 5,', b'"pk": 4,', b'"pk": 1,')] == [1, 1, 1]
    assert verified(new, backup, policies=policies).faithful
    for wrong in (b"", b'"pk": 6, '):
        report = verified(new.replace(b'"pk": 5, ', wrong), backup, policies=policies)
        assert [(one.record, one.field) for one in report.findings] == [(1, "pk")]
    for wrong in (b'"pk": 5, "natural_key"', b'"natural_key": ["x"], "natural_key"'):
        report = verified(new.replace(b'"natural_key"', wrong), backup, policies=policies)
        assert not report.faithful


# ---- policies ----------------------------------------------------------------------------------

POLICY_WORDS = Policies.__struct_fields__

GONE = document(7, "DOC-1", author=99, reviewers=[3, 98, 2])
BEHIND = document(8, "DOC-2", supersedes=7)
BEHIND_THAT = step(1, 8, 1)
PEOPLE = [*RECORDS[3:6], RECORDS[10]]
TYPE = RECORDS[13]
NULL_USER = record("users.user", 9, username=None)
STRANGER = record("other.thing", 1, author=1)


def profile(pk: int, nickname: str) -> Record:
    return record("users.profile", pk, nickname=nickname)


def entry(pk: int, type_: Any, id_: int, user: int | None = 1) -> Record:
    return record("audit.entry", pk, type=type_, target_id=id_, user=user)


class PolicyCase(NamedTuple):
    """A backup, the policies that its conversion needs, and what they have to be needed for."""

    records: list[Record]
    policies: dict[str, str]
    allowed: dict[str, dict[str, int]]


POLICY_CASES = {
    "unresolved ids kept": PolicyCase(
        [GONE, BEHIND, BEHIND_THAT, *PEOPLE],
        {"on_unresolved": "keep"},
        {"on_unresolved": {"references that stay ids": 2}},
    ),
    "unresolved ids made null": PolicyCase(
        [GONE, BEHIND, BEHIND_THAT, *PEOPLE],
        {"on_unresolved": "null"},
        {"on_unresolved": {"references that became null": 2}},
    ),
    "records with unresolved ids left out": PolicyCase(
        [BEHIND_THAT, BEHIND, document(9, "DOC-3"), GONE, *PEOPLE],
        {"on_unresolved": "drop"},
        {"on_unresolved": {"records left out": 3}},
    ),
    "key that cannot be made": PolicyCase(
        [step(1, 5, 1), *PEOPLE],
        {"on_unresolved": "null"},
        {"on_unresolved": {"records that keep their pks": 1, "references that became null": 1}},
    ),
    "key of a child that cannot be made": PolicyCase(
        [record("places.restaurant", 5, stars=3), *PEOPLE],
        {"on_unresolved": "null"},
        {"on_unresolved": {"records that keep their pks": 1, "references that stay ids": 1}},
    ),
    "pk that refers to nothing": PolicyCase(
        [profile(2, "bobby"), profile(99, "nobody"), *PEOPLE],
        {"on_unresolved": "keep"},
        {"on_unresolved": {"references that stay ids": 1}},
    ),
    "unknown model kept": PolicyCase(
        [STRANGER, *PEOPLE],
        {"on_unknown_model": "keep"},
        {"on_unknown_model": {"records left as they are": 1}},
    ),
    "unknown model left out": PolicyCase(
        [PEOPLE[0], STRANGER, *PEOPLE[1:]],
        {"on_unknown_model": "drop"},
        {"on_unknown_model": {"records left out": 1}},
    ),
    "keys that two records share": PolicyCase(
        [*TWINS, entry(1, 19, 7), TYPE],
        {"on_duplicate_key": "keep"},
        {"on_duplicate_key": {"records that keep their pks": 2, "references that stay ids": 2}},
    ),
    "key that a natural record has": PolicyCase(
        [{"model": "places.place", "fields": {"name": "Kiosk"}}, *RECORDS[7:9]],
        {"on_duplicate_key": "keep"},
        {"on_duplicate_key": {"records that keep their pks": 1, "references that stay ids": 1}},
    ),
    "keys of those that pks refer to": PolicyCase(
        [*PEOPLE, record("users.user", 4, username="ann"), profile(2, "bobby")],
        {"on_duplicate_key": "keep", "on_duplicate_pk": "keep"},  # names are ids, too
        {"on_duplicate_key": {"records that keep their pks": 4, "references that stay ids": 1}},
    ),
    "null in a key, pks kept": PolicyCase(
        [NULL_USER, *PEOPLE, document(7, "DOC-1", author=9)],
        {"on_null_key": "keep"},
        {"on_null_key": {"records that keep their pks": 4, "references that stay ids": 4}},
    ),
    "null in a key, written": PolicyCase(
        [NULL_USER, *PEOPLE, document(7, "DOC-1", author=9)],
        {"on_null_key": "null"},
        {"on_null_key": {"natural keys with a null": 1}},
    ),
    "pk that two records have": PolicyCase(
        [*PEOPLE, record("users.user", 1, username="zoe"), document(7, "DOC-1")],
        {"on_duplicate_pk": "keep"},
        {"on_duplicate_pk": {"references to the last of several records": 1}},
    ),
    "all but the last of those with one pk left out": PolicyCase(
        [
            *(TWINS[0], document(7, "DOC-0", author=99), record("users.user", 1, username="zoe")),
            *(PEOPLE[0], STRANGER, *PEOPLE, document(7, "DOC-1"), TYPE, entry(1, 19, 7)),
        ],
        {"on_duplicate_pk": "drop", "on_unknown_model": "drop"},
        {
            "on_duplicate_pk": {"records left out": 4},
            "on_unknown_model": {"records left out": 1},
        },
    ),
    "generic relations to nothing": PolicyCase(
        [
            entry(1, 19, 404),
            entry(2, ["no", "model"], 7),
            entry(3, 19, 7),
            *(TYPE, document(7, "DOC-1"), *PEOPLE),
        ],
        {"on_generic": "keep"},
        {"on_generic": {"references that stay ids": 2}},
    ),
    "everything at once": PolicyCase(
        [GONE, NULL_USER, STRANGER, TYPE, entry(1, 19, 404), step(1, 5, 1), *PEOPLE],
        {"on_unresolved": "null", "on_unknown_model": "drop", "on_null_key": "null"}
        | {"on_generic": "keep"},
        {
            "on_generic": {"references that stay ids": 1},
            "on_null_key": {"natural keys with a null": 1},
            "on_unknown_model": {"records left out": 1},
            "on_unresolved": {
                "records that keep their pks": 1,
                "references that became null": 3,
            },
        },
    ),
}


@pytest.mark.parametrize("any_order", [False, True], ids=["in order", "in any order"])
@pytest.mark.parametrize("spelling", SPELLINGS, ids=SHAPES)
@pytest.mark.parametrize("name", POLICY_CASES)
def test_what_policies_allow_is_accounted_for(
    name: str, spelling: Spelling, any_order: bool
) -> None:
    records, words, allowed = POLICY_CASES[name]
    backup, policies = written(records, spelling), Policies(**words)  # type: ignore[arg-type]
    report = verified(
        converted(backup, policies=policies), backup, policies=policies, any_order=any_order
    )
    assert report.findings == []
    assert report.faithful
    assert report.policies == words
    assert report.allowed == allowed
    assert report.complete == (words == {"on_null_key": "null"})
    assert sum(one.records for one in report.models.values()) == len(records)


ONE_PK = {
    "a key that cannot be made": [step(1, 7, 1), step(1, 99, 2)],
    "no key that can be made": [step(1, 98, 1), step(1, 99, 2)],
    "a key of its own": [
        record("workflows.step", 1, document=7, started="2025", position=1),
        {
            **record("workflows.step", 1, document=7, started="2026", position=1),
            "natural_key": ["DOC-1", ["2026", "1"]],
        },
    ],
    "a key that is known already": [
        record("users.user", 1, username="zoe"),
        {**PEOPLE[0], "natural_key": ["ann"]},
    ],
}
"""Records that a pk alone does not tell apart."""


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ONE_PK)
def test_records_with_one_pk_are_told_apart_in_any_order(name: str, style: Any) -> None:
    policies = Policies(on_unresolved="keep", on_duplicate_pk="keep", on_duplicate_key="keep")
    people = [one for one in PEOPLE[1:] if one["model"] == "users.user"]
    rest = [_without(document(7, "DOC-1"), "state"), *people]
    for both in itertools.permutations(ONE_PK[name]):
        backup = written([*both, *rest])
        new = json.loads(converted(backup, policies=policies, style=style))
        for one in (new, new[::-1]):
            assert verified(written(one), backup, policies=policies, any_order=True).faithful


@pytest.mark.parametrize("word", ["keep", "null", "drop"])
@pytest.mark.parametrize("value", [True, {}, {"pk": 1}, ""])
def test_what_can_be_no_id_refers_to_nothing(value: Any, word: Any) -> None:
    policies = Policies(on_unresolved=word)
    backup = written([document(7, "DOC-1", author=value, reviewers=[3, value]), *PEOPLE])
    new = converted(backup, policies=policies)
    report = verified(new, backup, policies=policies)
    assert report.findings == []
    (used,) = report.allowed.values()
    assert sum(used.values()) == (1 if word == "drop" else 2)
    assert not verified(new, backup).faithful


@pytest.mark.parametrize("name", POLICY_CASES)
def test_no_policy_allows_anything_where_another_was_given(name: str) -> None:
    records, words, _ = POLICY_CASES[name]
    backup, policies = written(records), Policies(**words)  # type: ignore[arg-type]
    new = converted(backup, policies=policies)
    others = Policies(**{name: "keep" for name in POLICY_WORDS if name not in words})
    for given_here in (Policies(), others):
        report = verified(new, backup, policies=given_here)
        assert report.faithful == (words == {"on_null_key": "null"})


@pytest.mark.parametrize("word", ["keep", "null", "drop"])
def test_key_of_another_backup_that_is_of_no_use(word: Any) -> None:
    """The record there keeps no pk for it: to refer to it is to refer to nothing."""
    backup, keys = written([document(7, "DOC-1", author=9), *PEOPLE]), [written([NULL_USER])]
    policies = Policies(on_unresolved=word)
    new = converted(backup, keys=keys, policies=policies)
    report = verified(new, backup, keys=keys, policies=policies)
    assert report.findings == []
    assert not report.complete
    assert not verified(new, backup, keys=keys).faithful
    null = Policies(on_null_key="null")
    new = converted(backup, keys=keys, policies=null)
    assert verified(new, backup, keys=keys, policies=null).faithful
    assert not verified(new, backup, keys=keys, policies=policies).faithful


@pytest.mark.parametrize("word", ["keep", "drop"])
def test_other_backups_that_contradict_each_other(word: Any) -> None:
    backup = written([document(7, "DOC-1", reviewers=[]), PEOPLE[1], RECORDS[10]])
    keys = [written([record("users.user", 1, username=name)]) for name in ("ann", "zoe", "zoe")]
    policies = Policies(on_duplicate_pk=word)
    new = converted(backup, keys=keys, policies=policies)
    assert b'["zoe"]' in new
    assert verified(new, backup, keys=keys, policies=policies).faithful
    assert found(verified(new, backup, keys=keys)) == [("FNK510", 1, 1, "author")]
    new = new.replace(b'["zoe"]', b'["ann"]')
    assert not verified(new, backup, keys=keys, policies=policies).faithful


def test_value_that_a_natural_record_has_too_means_the_last_one() -> None:
    """One of the two has no pk, so that neither is left out for the other."""
    eve = {"model": "users.user", "natural_key": ["eve"], "fields": {"username": "eve", "code": 7}}
    by_code = Model(relations={"user": Relation("users.user", to_field="code")})
    schema = Schema.of({"users.user": Model(natural_key=["username"]), "audit.entry": by_code})
    records = [record("users.user", 1, username="ann", code=7), eve]
    backup = written([*records, record("audit.entry", 1, user=7)])
    drop = Policies(on_duplicate_pk="drop")
    new = LegacyBackupConverter(schema, policies=drop).convert_bytes(backup)
    assert json.loads(new)[2]["fields"] == {"user": ["eve"]}
    assert verify(backup, new, schema, policies=drop).faithful
    assert found(verify(backup, new, schema)) == [("FNK510", 3, 3, "user")]


def test_other_backups_that_say_the_same_before_and_after_a_conversion() -> None:
    """One has ids where the other has keys, and no pk, though that is a part of its key."""
    schema = Schema.of(
        {
            "t.t": Model(natural_key=["name"]),
            "u.u": Model(
                natural_key=["name", "id", "team__name"], relations={"team": Relation("t.t")}
            ),
            "d.d": Model(relations={"u": Relation("u.u", to_field="name")}),
        }
    )
    legacy = written([record("t.t", 3, name="x"), record("u.u", 1, name="ann", team=3)])
    keys = [legacy, LegacyBackupConverter(schema).convert_bytes(legacy)]
    backup = written([record("d.d", 1, u="ann")])
    new = LegacyBackupConverter(schema, keys=keys).convert_bytes(backup)
    assert json.loads(new)[0]["fields"] == {"u": ["ann", 1, "x"]}
    assert verify(backup, new, schema, keys=keys).faithful


@pytest.mark.parametrize("any_order", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_dropping_depends_on_the_style_where_only_a_proxy_has_keys(
    style: Any, any_order: bool
) -> None:
    """In style fastnk the id stays an id, and leads nowhere as it did."""
    options: Any = {"policies": Policies(on_unresolved="drop")}
    lost = [record("audit.entry", 3, user=1, run=99), record("audit.entry", 4, runs=[1, 99])]
    backup = written([*lost, *ENTRIES])
    new = LegacyBackupConverter(PROXIES, style=style, **options).convert_bytes(backup)
    assert len(json.loads(new)) == len(ENTRIES) + (2 if style == "fastnk" else 0)
    report = verify(backup, new, PROXIES, any_order=any_order, **options)
    assert (report.findings, report.style) == ([], style)
    wrong = json.loads(new)[1:] if style == "fastnk" else [*lost[:1], *json.loads(new)]
    assert not verify(backup, written(wrong), PROXIES, any_order=any_order, **options).faithful


def test_what_leads_nowhere_where_only_a_proxy_has_keys() -> None:
    before = [record("audit.entry", 1, user=None, run=99), *ENTRIES[2:]]
    for word, now in (("keep", 99), ("null", None)):
        rows = IN_STYLE["django"][2:]
        new = written([record("audit.entry", 1, user=None, run=now), *rows])
        policies = Policies(on_unresolved=word)  # type: ignore[arg-type]
        assert verify(written(before), new, PROXIES, policies=policies).findings == []
        converter = LegacyBackupConverter(PROXIES, policies=policies, style="django")
        assert json.loads(converter.convert_bytes(written(before))) == json.loads(new)


@pytest.mark.parametrize("any_order", [False, True])
@pytest.mark.parametrize(
    ("records", "code"),
    [
        (
            [record("users.profile", 99, nickname="x"), record("users.user", 1, username="y")],
            "FNK509",
        ),
        ([record("users.badge", 99, color="red")], "FNK508"),
    ],
    ids=["its key is lost", "nothing tells the style"],
)
def test_pk_that_leads_nowhere_is_a_cause_to_leave_out_in_style_fastnk_only(
    records: list[Record], code: str, any_order: bool
) -> None:
    """In style django it has no place beside the fields."""
    badge = Model(pk="user", relations={"user": Relation("users.user")})
    schema = Schema.of({**SCHEMA.models, "users.badge": badge})
    options: Any = {"policies": Policies(on_unresolved="drop")}
    backup = written(records)
    for style, expected in (("fastnk", []), ("django", [(code, 1, 1, "user")])):
        converter = LegacyBackupConverter(schema, style=style, **options)  # type: ignore[arg-type]
        new = converter.convert_bytes(backup)
        assert len(json.loads(new)) == len(records) - (style == "fastnk")
        report = verify(backup, new, schema, any_order=any_order, **options)
        assert found(report) == expected


def test_records_tell_the_style_where_no_key_does() -> None:
    label = GenericRelation(label="kind", object_id="number")
    user = Relation("users.user")
    badge = Model(pk="user", relations={"user": user}, generic_relations={"target": label})
    schema = Schema.of({"users.user": Model(natural_key=["name"]), "users.badge": badge})
    backup = written([record("users.badge", 99, kind="users.user", number=98)])
    report = verify(backup, backup, schema, policies=Policies(on_unresolved="drop"))
    assert found(report) == [("FNK508", 1, 1, "user"), ("FNK508", 1, 1, "number")]


def test_record_that_style_django_does_not_leave_out() -> None:
    records = [record("users.profile", 99, nickname="x"), record("users.user", 1, username="y")]
    drop = Policies(on_unresolved="drop")
    new = json.loads(converted(written(records), policies=drop, style="django"))
    report = verified(written(new[1:]), written(records), policies=drop)
    assert found(report) == [("FNK501", 1, None, None)]


def test_records_that_lead_to_each_other_are_left_out_one_after_the_other() -> None:
    chain = [document(n, f"DOC-{n}", supersedes=n + 1) for n in range(1, 9)]
    backup, drop = written([*chain, *PEOPLE]), Policies(on_unresolved="drop")
    new = converted(backup, policies=drop)
    report = verified(new, backup, policies=drop)
    assert report.findings == []
    assert report.allowed == {"on_unresolved": {"records left out": 8}}
    assert (report.backup.records, report.converted.records) == (12, 4)


@pytest.mark.parametrize("any_order", [False, True])
def test_lines_of_which_none_is_left_are_an_empty_text(any_order: bool) -> None:
    lost = [document(n, f"DOC-{n}", supersedes=99) for n in range(1, 4)]
    backup, drop = written(lost, Spelling(lines=True)), Policies(on_unresolved="drop")
    new = converted(backup, policies=drop)
    assert not new.strip()
    report = verified(new, backup, policies=drop, any_order=any_order)
    assert (report.faithful, report.complete, report.converted.records) == (True, False, 0)
    assert report.allowed == {"on_unresolved": {"records left out": 3}}
    for other, policies in ((backup, None), (written(lost), drop), (BACKUP, drop)):
        with pytest.raises(BackupSyntaxError, match="FNK201"):
            verified(b"", other, policies=policies)


def test_the_first_of_two_records_with_one_pk_is_left_out() -> None:
    """The id means the last one, which stays."""
    rest = [document(7, "DOC-2", reviewers=[]), document(8, "DOC-3", supersedes=7), *PEOPLE]
    policies = Policies(on_unresolved="drop", on_duplicate_pk="keep")
    backup, new = written([document(7, "DOC-1", author=99), *rest]), converted(written(rest))
    assert converted(backup, policies=policies) == new
    report = verified(new, backup, policies=policies)
    assert report.findings == []
    assert report.allowed == {
        "on_duplicate_pk": {"references to the last of several records": 1},
        "on_unresolved": {"records left out": 1},
    }


@pytest.mark.parametrize("by_value", [False, True])
def test_the_first_of_two_records_that_are_told_by_the_same_is_left_out(by_value: bool) -> None:
    """What refers to them looks the same in both: only the place tells which one is meant."""
    user = Relation("users.user", to_field="code" if by_value else None)
    schema = Schema.of(
        {
            "users.user": Model(natural_key=["name"], relations={"boss": Relation("users.user")}),
            "audit.entry": Model(relations={"user": user}),
        }
    )
    first = record("users.user", 1, name="ann", code=7, boss=99)
    last = record("users.user", 2 if by_value else 1, name="ann", code=7, boss=None)
    entry = record("audit.entry", 1, user=7 if by_value else 1)
    policies = Policies(on_unresolved="drop", on_duplicate_pk="keep")
    for records in ([first, last, entry], [entry, first, last]):
        backup = written(records)
        new = LegacyBackupConverter(schema, policies=policies).convert_bytes(backup)
        assert len(json.loads(new)) == 2
        assert verify(backup, new, schema, policies=policies).faithful


def test_the_last_of_two_records_with_one_pk_is_left_out() -> None:
    """The id means it all the same, and leads nowhere."""
    first, last = document(7, "DOC-1"), document(7, "DOC-2", author=99)
    rest = [document(8, "DOC-3", supersedes=7), *PEOPLE]
    policies = Policies(on_unresolved="drop", on_duplicate_pk="keep")
    backup, new = written([first, last, *rest]), converted(written([first, *PEOPLE]))
    assert converted(backup, policies=policies) == new
    report = verified(new, backup, policies=policies)
    assert report.findings == []
    assert report.allowed == {"on_unresolved": {"records left out": 2}}


def test_natural_record_is_left_out_with_what_refers_to_it_by_a_field() -> None:
    ann = {"model": "users.user", "fields": {"username": "ann", "boss": 99}}
    boss = Model(natural_key=["username"], relations={"boss": Relation("users.user")})
    by_name = Model(relations={"user": Relation("users.user", to_field="username")})
    schema = Schema.of({"users.user": boss, "audit.entry": by_name})
    entries = [record("audit.entry", 1, user="ann"), record("audit.entry", 2, user=None)]
    backup, drop = written([ann, *entries]), Policies(on_unresolved="drop")
    new = LegacyBackupConverter(schema, policies=drop).convert_bytes(backup)
    assert json.loads(new) == entries[1:]
    assert verify(backup, new, schema, policies=drop).findings == []
    named = [record("audit.entry", 1, user=["ann"]), entries[1]]
    assert found(verify(backup, written(named), schema, policies=drop)) == [
        ("FNK502", None, 1, None)
    ]


Expected = list[tuple[str, int | None, int | None, str | None]]
POLICY_FAULTS: dict[str, tuple[str, Fault, Expected]] = {
    "id kept that leads somewhere": (
        "unresolved ids kept",
        put(2, author=1),
        [("FNK508", 2, 2, "author")],
    ),
    "id kept in a list that leads somewhere": (
        "unresolved ids kept",
        put(1, reviewers=[3, 98, ["bob"]]),
        [("FNK508", 1, 1, "reviewers")],
    ),
    "null where the id is to be kept": (
        "unresolved ids kept",
        put(1, author=None),
        [("FNK509", 1, 1, "author")],
    ),
    "another id": ("unresolved ids kept", put(1, author=97), [("FNK504", 1, 1, "author")]),
    "invented key": ("unresolved ids kept", put(1, author=["ann"]), [("FNK504", 1, 1, "author")]),
    "pk kept of a record that has a key": (
        "unresolved ids kept",
        lambda r: (r[1].pop("natural_key"), r[1].update(pk=8)),
        [("FNK508", 2, 2, "pk")],
    ),
    "record left out for nothing": (
        "unresolved ids kept",
        lambda r: r.pop(0),
        [("FNK501", 1, None, None)],
    ),
    "null where the id leads somewhere": (
        "unresolved ids made null",
        put(2, author=None),
        [("FNK509", 2, 2, "author")],
    ),
    "id where null should be": (
        "unresolved ids made null",
        put(1, author=99),
        [("FNK508", 1, 1, "author")],
    ),
    "element taken out that leads somewhere": (
        "unresolved ids made null",
        put(1, reviewers=[["eve"]]),
        [("FNK509", 1, 1, "reviewers")],
    ),
    "null in a list": (
        "unresolved ids made null",
        put(1, reviewers=[["eve"], None, ["bob"]]),
        [("FNK509", 1, 1, "reviewers"), *[("FNK504", 1, 1, "reviewers")] * 2],
    ),
    "record left out without cause": (
        "records with unresolved ids left out",
        lambda r: r.pop(0),
        [("FNK501", 3, None, None)],
    ),
    "record that was to be left out": (
        "records with unresolved ids left out",
        lambda r: r.insert(0, {**natural(BEHIND, "DOC-2")}),
        [("FNK502", None, 1, None)],
    ),
    "pk made another": (
        "key that cannot be made",
        lambda r: r[0].update(pk=2),
        [("FNK503", 1, 1, "pk")],
    ),
    "key that cannot be made": (
        "key that cannot be made",
        lambda r: (r[0].pop("pk"), r[0].update(natural_key=["x"])),
        [("FNK506", 1, 1, "natural_key")],
    ),
    "link to a parent made null": (
        "key of a child that cannot be made",
        put(1, place_ptr=None),
        [("FNK509", 1, 1, "place_ptr")],
    ),
    "id of a pk lost": (
        "pk that refers to nothing",
        lambda r: r[1].pop("references"),
        [("FNK509", 2, 2, "user")],
    ),
    "id of a pk kept that leads somewhere": (
        "pk that refers to nothing",
        lambda r: r[0]["references"].update(user=2),
        [("FNK508", 1, 1, "user")],
    ),
    "unknown record changed": (
        "unknown model kept",
        put(1, author=2),
        [("FNK503", 1, 1, "author")],
    ),
    "unknown record left out": (
        "unknown model kept",
        lambda r: r.pop(0),
        [("FNK501", 1, None, None)],
    ),
    "unknown record kept": (
        "unknown model left out",
        lambda r: r.insert(1, STRANGER),
        [("FNK502", None, 2, None)],
    ),
    "known record left out": (
        "unknown model left out",
        lambda r: r.pop(1),
        [("FNK501", 3, None, None)],
    ),
    "key that two records share": (
        "keys that two records share",
        lambda r: (r[1].pop("pk"), r[1].update(natural_key=["DOC-1"])),
        [("FNK507", 2, 2, "pk"), ("FNK507", 2, 2, "natural_key")],
    ),
    "reference by such a key": (
        "keys that two records share",
        put(3, document=["DOC-1"]),
        [("FNK504", 3, 3, "document")],
    ),
    "generic reference by such a key": (
        "keys that two records share",
        lambda r: r[7].update(references={"target_id": ["DOC-1"]}),
        [("FNK504", 8, 8, "target_id")],
    ),
    "pk kept of another model": (
        "keys that two records share",
        lambda r: (r[3].pop("natural_key"), r[3].update(pk=1)),
        [("FNK508", 4, 4, "pk")],
    ),
    "id kept of another model": (
        "keys that two records share",
        put(1, author=1),
        [("FNK508", 1, 1, "author")],
    ),
    "reference by pk to such a key": (
        "keys of those that pks refer to",
        lambda r: r[5]["references"].update(user=["bob"]),
        [("FNK504", 6, 6, "user")],
    ),
    "reference by pk lost": (
        "keys of those that pks refer to",
        lambda r: r[5].pop("references"),
        [("FNK509", 6, 6, "user")],
    ),
    "key with a null": (
        "null in a key, pks kept",
        lambda r: (r[0].pop("pk"), r[0].update(natural_key=[None])),
        [("FNK507", 1, 1, "pk"), ("FNK507", 1, 1, "natural_key")],
    ),
    "key beside keys with a null": (
        "null in a key, pks kept",
        lambda r: (r[1].pop("pk"), r[1].update(natural_key=["ann"])),
        [("FNK507", 2, 2, "pk"), ("FNK507", 2, 2, "natural_key")],
    ),
    "pk kept for a null": (
        "null in a key, written",
        lambda r: (r[0].pop("natural_key"), r[0].update(pk=9)),
        [("FNK508", 1, 1, "pk")],
    ),
    "id kept for a null": (
        "null in a key, written",
        put(6, author=9),
        [("FNK508", 6, 6, "author")],
    ),
    "first of two records": (
        "pk that two records have",
        put(6, author=["ann"]),
        [("FNK504", 6, 6, "author")],
    ),
    "one of two records": (
        "pk that two records have",
        lambda r: r.pop(0),
        [("FNK501", 1, None, None)],
    ),
    "generic reference invented": (
        "generic relations to nothing",
        lambda r: r[0].update(references={"target_id": ["DOC-1"]}),
        [("FNK504", 1, 1, "target_id")],
    ),
    "generic reference lost": (
        "generic relations to nothing",
        lambda r: r[2].pop("references"),
        [("FNK508", 3, 3, "target_id")],
    ),
    "generic id changed": (
        "generic relations to nothing",
        put(1, target_id=405),
        [("FNK503", 1, 1, "target_id")],
    ),
}


@pytest.mark.parametrize("name", POLICY_FAULTS)
def test_planted_fault_under_a_policy(name: str) -> None:
    case, plant, expected = POLICY_FAULTS[name]
    records, words, _ = POLICY_CASES[case]
    backup, policies = written(records), Policies(**words)  # type: ignore[arg-type]
    new = json.loads(converted(backup, policies=policies))
    plant(new)
    report = verified(written(new), backup, policies=policies)
    assert sorted(found(report), key=str) == sorted(expected, key=str)
    assert not report.faithful
    assert not verified(written(new), backup, policies=policies, any_order=True).faithful


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


def test_what_refers_to_lost_records_is_taken_by_policy() -> None:
    """As a conversion keeps their ids where records of a damaged backup are lost."""
    backup = written([*RECORDS[10:], *RECORDS[:10]])[:-900]
    new = converted(backup, salvage=True)
    assert not verified(new, backup, salvage=True).faithful
    keep = Policies(on_unresolved="keep", on_generic="keep")
    report = verified(new, backup, salvage=True, policies=keep)
    assert report.faithful
    assert not report.complete
    assert report.allowed.keys() == {"on_unresolved", "on_generic"}


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
            1,
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
    small = [record("users.user", n, username=f"é{n}" * 50) for n in range(3, 4000)]
    backup = written([*big, *small])
    assert len(backup) > 3 << 20
    new = converted(backup)
    assert verified(new, backup).faithful
    place = new.rindex(b'{"model"')
    broken = new[:place] + new[place:].replace("é3999é".encode(), "é3999e".encode())
    report = verified(broken, backup)
    assert {one.converted_offset for one in report.findings} == {place}
    assert {one.offset for one in report.findings} == {backup.rindex(b'{"model"')}


def test_shares_no_code_with_the_core() -> None:
    program = "import sys, fastnk.verify; print([m for m in sys.modules if m.startswith('fastnk')])"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    others = {name for name in eval(run.stdout) if not name.startswith("fastnk.verify")}
    helpers = {"fastnk.errors", "fastnk.policies", "fastnk.processes", "fastnk.schema"}
    assert others == {"fastnk", "fastnk.threads", *helpers}


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
    data: BackupData, spelling: Spelling, style: str, embedded: bool
) -> tuple[bytes, bytes, list[bytes]]:
    """Backup, converted backup and keys; only examples that the converter does not refuse."""
    data.schema = keeping_pks_that_lead_to_ids(data.schema)
    settle(data)
    assume(has_unique_keys(data))
    backup = spelling.write(data.records)
    keys = [spelling.write(data.keys)] if data.keys else []
    options: Any = {"keys": keys, "style": style, "embedded": embedded}
    converter = LegacyBackupConverter(data.schema, **options)
    try:
        return backup, converter.convert_bytes(backup), keys
    except FastnkError:
        assume(False)
        raise


@given(backups(flawed=False), spellings(), st.sampled_from(STYLES), st.booleans())
def test_every_conversion_verifies(
    data: BackupData, spelling: Spelling, style: str, embedded: bool
) -> None:
    backup, new, keys = conversion(data, spelling, style, embedded)
    report = verify(backup, new, data.schema, keys=keys, embedded=embedded)
    assert report.findings == lost_by_style(style, data.schema, report)


def lost_by_style(style: str, schema: Schema, report: VerificationReport) -> list[Difference]:
    """What style django has no place for: references beside the fields."""
    if style == "fastnk":
        return []
    names = {(label, name) for label, model in schema.models.items() for name in ("pk", model.pk)}
    names |= {
        (label, generic.object_id)
        for label, model in schema.models.items()
        for generic in model.generic_relations.values()
    }
    return [one for one in report.findings if (one.model, one.field) in names]


@given(
    backups(flawed=False),
    st.sampled_from(STYLES),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_every_mutation_is_found(
    data: BackupData, style: str, embedded: bool, choices: random.Random
) -> None:
    backup, new, keys = conversion(data, Spelling(), style, embedded)
    before = verify(backup, new, data.schema, keys=keys, embedded=embedded)
    records = json.loads(new)
    mutate(records, choices, data.records)
    changed = json.dumps(records).encode()
    report = verify(backup, changed, data.schema, keys=keys, embedded=embedded)
    assert report.total > before.total


@given(backups(flawed=False), spellings(), st.sampled_from(STYLES))
def test_ids_inside_fields_are_converted_on_request_only(
    data: BackupData, spelling: Spelling, style: str
) -> None:
    backup, new, keys = conversion(data, spelling, style, True)
    plain = conversion(data, spelling, style, False)[1]
    both = [verify(backup, new, data.schema, keys=keys, embedded=flag) for flag in (True, False)]
    assert (both[1].total > both[0].total) == (new != plain)


def keys_in(records: Iterable[Record]) -> int:
    return sum("natural_key" in one for one in records)


def mutate(records: list[Record], choices: random.Random, backup: list[Record]) -> None:
    """Change one value of one record of what became of a backup, so that keys which were made still
    tell which style it is."""
    tells_style = keys_in(records) > keys_in(backup)
    one = choices.choice(records)
    places = [
        (container, name)
        for container in (one, one["fields"], one.get("references", {}))
        for name in container
        if name not in ("model", "fields", "references")
    ]
    if not places:
        one["model"] = "some.other"
        return
    container, name = choices.choice(places)
    old = copy.deepcopy(container[name])
    kinds = [None, True, "other", 7, [], ["other"], "drop"]
    if isinstance(old, str):
        kinds.append(old + "\u0301")
    if isinstance(old, list) and old:
        kinds += [old[:-1], [*old, old[0]], [old]]
    new = choices.choice([kind for kind in kinds if json.dumps(kind) != json.dumps(old)])
    if new == "drop":
        del container[name]
    else:
        container[name] = new
    assume(not tells_style or keys_in(records) > keys_in(backup))


policy_sets = st.fixed_dictionaries(
    {name: st.just("keep") for name in POLICY_WORDS}
    | {
        "on_unresolved": st.sampled_from(["keep", "null", "drop"]),
        "on_unknown_model": st.sampled_from(["keep", "drop"]),
        "on_null_key": st.sampled_from(["keep", "null"]),
    }
)


def flawed(data: BackupData, flaw: str, draw: st.DrawFn) -> None:
    """Add that flaw, and perhaps another one; what is natural already, or only supplies keys, stays
    sound, because its flaws are no policy's to allow."""
    data.schema = keeping_pks_that_lead_to_ids(data.schema)
    for name in sorted({flaw, draw(st.sampled_from(sorted(FLAWS)))}):
        FLAWS[name](draw, data)
    data.records.append({"model": next(iter(data.schema.models)), "fields": {"code": "filler"}})
    settle(data)
    both = [*data.records, *data.keys]
    keys = Counter(_key_of(one, both, data.schema) for one in both)
    sure = [one for one in both if not is_legacy(one)] + data.keys
    standing = Counter(_key_of(one, both, data.schema) for one in sure)
    assume(all(keys[_key_of(one, both, data.schema)] == 1 for one in data.keys))
    assume(all(count == 1 for count in standing.values()))


def _key_of(one: Record, rows: list[Record], schema: Schema) -> tuple[str, str]:
    key = one.get("natural_key") or natural_key_of(one, rows, schema)
    return one["model"], json.dumps(key or id(one))


@pytest.mark.parametrize("flaw", sorted(FLAWS))
@settings(max_examples=60)
@given(
    backups(flawed=False),
    st.data(),
    spellings(),
    policy_sets,
    st.sampled_from(STYLES),
    st.booleans(),
    st.booleans(),
)
def test_every_conversion_verifies_with_its_policies(
    flaw: str,
    data: BackupData,
    more: st.DataObject,
    spelling: Spelling,
    words: dict[str, str],
    style: str,
    embedded: bool,
    any_order: bool,
) -> None:
    flawed(data, flaw, more.draw)
    backup = spelling.write(data.records)
    keys = [spelling.write(data.keys)] if data.keys else []
    options: Any = {"keys": keys, "policies": Policies(**words), "embedded": embedded}  # type: ignore[arg-type]
    new = LegacyBackupConverter(data.schema, style=style, **options).convert_bytes(backup)
    report = verify(backup, new, data.schema, any_order=any_order, **options)
    assert report.findings == lost_by_style(style, data.schema, report)


@pytest.mark.parametrize("flaw", sorted(FLAWS))
@settings(max_examples=60)
@given(
    backups(flawed=False),
    st.data(),
    policy_sets,
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_every_mutation_is_found_whatever_the_policies(
    flaw: str,
    data: BackupData,
    more: st.DataObject,
    words: dict[str, str],
    embedded: bool,
    choices: random.Random,
) -> None:
    flawed(data, flaw, more.draw)
    backup = Spelling().write(data.records)
    keys = [Spelling().write(data.keys)] if data.keys else []
    options: Any = {"keys": keys, "policies": Policies(**words), "embedded": embedded}  # type: ignore[arg-type]
    records = json.loads(LegacyBackupConverter(data.schema, **options).convert_bytes(backup))
    if len(records) > 1 and choices.random() < 0.2:
        del records[choices.randrange(len(records))]
    else:
        mutate(records, choices, data.records)
    report = verify(backup, json.dumps(records).encode(), data.schema, **options)
    assert not report.faithful


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
