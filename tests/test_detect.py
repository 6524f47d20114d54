"""Detection: what each kind of backup is called, with a schema and without, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ijson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastnk.check import check
from fastnk.convert import LegacyBackupConverter, Policies
from fastnk.detect import CHUNK_BYTES, HEAD_BYTES, BackupFormatDetector, DetectionReport, detect
from fastnk.errors import MAX_DEPTH, BackupSyntaxError, SourceError, UsageError
from fastnk.inferred import InferredProfile
from fastnk.profile import SchemaProfile
from fastnk.records import Record, RecordReader
from fastnk.schema import Model, Relation, Schema
from fastnk.source import Source, split_records
from fastnk.verify import verify

LEGACY, NATURAL, MIXED = "legacy_database_ids", "enhanced_natural_keys", "mixed"

SCHEMA = Schema.of(
    {
        "users.user": Model(natural_key=["username"]),
        "users.role": Model(natural_key=["name"]),
        "users.userrole": Model(
            relations={"user": Relation(to="users.user"), "role": Relation(to="users.role")}
        ),
        "documents.document": Model(
            natural_key=["number", "kind"],
            relations={
                "author": Relation(to="users.user"),
                "parent": Relation(to="documents.document"),
                "content_type": Relation(to="contenttypes.contenttype"),
                "state": Relation(to="flow.state"),
                "reviewers": Relation(to="users.user", many=True),
                "labels": Relation(to="tags.label", many=True),
            },
        ),
        "documents.version": Model(
            natural_key=["number", ["document__number", "document__kind"]],
            relations={"document": Relation(to="documents.document")},
        ),
        "documents.note": Model(relations={"version": Relation(to="documents.version")}),
        "flow.state": Model(pk="code", natural_key=["code"]),
        "tags.label": Model(pk="code"),
        "tags.use": Model(relations={"label": Relation(to="tags.label")}),
        "stock.place": Model(),
        "contenttypes.contenttype": Model(natural_key=["app_label", "model"]),
        "logs.entry": Model(relations={"user": Relation(to="users.user")}),
    }
)

Records = list[dict[str, Any]]


def with_pk(model: str, pk: Any, /, **fields: Any) -> dict[str, Any]:
    return {"model": model, "pk": pk, "fields": fields}


def bare(model: str, /, **fields: Any) -> dict[str, Any]:
    return {"model": model, "fields": fields}


def named(model: str, natural_key: list[Any], /, **fields: Any) -> dict[str, Any]:
    return {"model": model, "natural_key": natural_key, "fields": fields}


def array(records: Records) -> bytes:
    return json.dumps(records).encode()


def indented(records: Records) -> bytes:
    return json.dumps(records, indent=2, ensure_ascii=False).encode()


def jsonl(records: Records) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


DOCUMENT = {"number": "DOC-1", "kind": "SOP"}

LEGACY_BACKUP = [
    with_pk("users.user", 5, username="ann"),
    with_pk("documents.document", 7, **DOCUMENT, author=5, parent=None, reviewers=[5]),
    with_pk("documents.version", 1, number=1, document=7),
]
DJANGO_BACKUP = [
    bare("users.user", username="ann"),
    bare("documents.document", **DOCUMENT, author=["ann"], parent=None, reviewers=[["ann"]]),
    bare("documents.version", number=1, document=["DOC-1", "SOP"]),
]
OUR_BACKUP = [
    named("users.user", ["ann"], username="ann"),
    named("documents.document", ["DOC-1", "SOP"], **DOCUMENT, author=["ann"], reviewers=[]),
    named("documents.version", [1, ["DOC-1", "SOP"]], number=1, document=["DOC-1", "SOP"]),
]
LABELS = [with_pk("tags.label", code) for code in ("A", "B", "C")]
JSON_VALUES: list[Any] = [
    ["a", "b"],
    [],
    {"users": [["ann"], ["bob"]]},
    [{"model": "users.user", "pk": 1, "fields": {"author": ["ann"]}}],
    ["a", {"b": ["c"]}],
    [[1, 2], [3]],
    "text",
    3,
]

CASES: dict[str, tuple[str, Records]] = {
    "database ids": (LEGACY, LEGACY_BACKUP),
    "natural keys as Django writes them": (NATURAL, DJANGO_BACKUP),
    "natural keys as we write them": (NATURAL, OUR_BACKUP),
    "one backup after the other": (MIXED, LEGACY_BACKUP + DJANGO_BACKUP),
    "a model with and without pk": (
        MIXED,
        [with_pk("users.user", 1, username="ann"), bare("users.user", username="bob")],
    ),
    "a model with pk and with natural_key": (
        MIXED,
        [with_pk("users.user", 1, username="ann"), named("users.user", ["bob"], username="bob")],
    ),
    "a relation with ids and keys": (
        MIXED,
        [
            bare("users.user", username="ann"),
            bare("documents.document", **DOCUMENT, author=["ann"]),
            bare("documents.document", number="DOC-2", kind="SOP", author=5),
        ],
    ),
    "a list of ids and a list of keys in one relation": (
        MIXED,
        [
            bare("documents.document", **DOCUMENT, reviewers=[["ann"], ["bob"]]),
            bare("documents.document", number="DOC-2", kind="SOP", reviewers=[5, 6]),
        ],
    ),
    "natural foreign keys alone": (
        MIXED,
        [
            with_pk("users.user", 5, username="ann"),
            with_pk("documents.document", 7, **DOCUMENT, author=["ann"]),
            with_pk("documents.version", 1, number=1, document=["DOC-1", "SOP"]),
        ],
    ),
    "natural foreign keys alone, targets elsewhere": (
        MIXED,
        [with_pk("documents.document", 7, **DOCUMENT, author=["ann"])],
    ),
    "natural foreign keys alone, many": (
        MIXED,
        [
            with_pk("documents.document", 7, **DOCUMENT, reviewers=[["ann"], ["bob"]]),
            with_pk("documents.document", 8, number="DOC-2", kind="SOP", reviewers=[]),
        ],
    ),
    "text pks": (
        LEGACY,
        [
            with_pk("flow.state", "DRAFT", code="DRAFT"),
            with_pk("documents.document", "7f0c", **DOCUMENT, state="DRAFT", parent="7f0d"),
        ],
    ),
    "a key that is the pk": (
        MIXED,
        [
            with_pk("flow.state", "DRAFT", title="Draft"),
            with_pk("documents.document", 7, **DOCUMENT, state=["DRAFT"]),
        ],
    ),
    "many text pks": (
        LEGACY,
        [
            *LABELS,
            with_pk("documents.document", 7, **DOCUMENT, labels=["A", "B"]),
            with_pk("documents.document", 8, number="DOC-2", kind="SOP", labels=["C"]),
            with_pk("documents.document", 9, number="DOC-3", kind="SOP", labels=[]),
        ],
    ),
    "many text pks, always two": (
        LEGACY,
        [
            with_pk("documents.document", 7, **DOCUMENT, labels=["A", "B"]),
            with_pk("documents.document", 8, number="DOC-2", kind="SOP", labels=["B", "C"]),
            *LABELS,
        ],
    ),
    "many text pks beside natural keys": (
        NATURAL,
        [
            *LABELS,
            bare("documents.document", **DOCUMENT, author=["ann"], labels=["A", "B"]),
            bare("documents.document", number="DOC-2", kind="SOP", author=["bob"], labels=[]),
        ],
    ),
    "composite pks": (
        LEGACY,
        [with_pk("stock.place", [1, 2], name="a"), with_pk("stock.place", [1, 3], name="b")],
    ),
    "composite pks of texts beside natural keys": (
        NATURAL,
        [*DJANGO_BACKUP, with_pk("stock.place", ["A", "B"], name="a")],
    ),
    "JSON values": (
        LEGACY,
        [with_pk("users.user", n, username=f"u{n}", info=v) for n, v in enumerate(JSON_VALUES, 1)],
    ),
    "JSON values beside natural keys": (
        NATURAL,
        [
            *DJANGO_BACKUP,
            *(bare("users.user", username=f"u{n}", info=v) for n, v in enumerate(JSON_VALUES)),
        ],
    ),
    "JSON lists of texts, always two": (
        LEGACY,
        [
            with_pk("users.user", 1, username="ann", langs=["en", "de"], metadata=["a"]),
            with_pk("users.user", 2, username="bob", langs=["en", "fr"], metadata=["b"]),
        ],
    ),
    "JSON lists with objects in them": (
        LEGACY,
        [with_pk("users.user", 1, username="ann", info=["a", {"b": 1}], seen=[["a", {"b": 1}]])],
    ),
    "JSON lists of one text or none": (
        LEGACY,
        [with_pk("users.user", 1, team=["a"]), with_pk("users.user", 2, team=[])],
    ),
    "JSON lists now of lists, now of anything": (
        LEGACY,
        [with_pk("users.user", 1, grid=[["a"], ["b"]]), with_pk("users.user", 2, grid=["a", True])],
    ),
    "lists of text pks under a name in the singular": (
        LEGACY,
        [*LABELS, with_pk("users.user", 1, team=["A", "B"]), with_pk("users.user", 2, team=["B"])],
    ),
    "lists of two text pks under a name in the singular": (
        LEGACY,
        [*LABELS, with_pk("users.user", 1, team=["A", "B"])],
    ),
    "numbers named like a model": (
        NATURAL,
        [bare("shop.order", number="R-1"), with_pk("shop.menu", 1, order=3)],
    ),
    "JSON lists of numbers": (
        LEGACY,
        [with_pk("users.user", 1, username="ann", position=[1, 2], grid=[[1, 2], [3, 4]])],
    ),
    "keys with lists in them": (
        NATURAL,
        [
            named("documents.version", [1, ["DOC-1", "SOP"]], number=1, document=["DOC-1", "SOP"]),
            with_pk("documents.note", 1, version=[1, ["DOC-1", "SOP"]]),
        ],
    ),
    "keys with lists in them beside pks": (
        MIXED,
        [
            with_pk("documents.version", 1, number=1, document=["DOC-1", "SOP"]),
            with_pk("documents.note", 1, version=[1, ["DOC-1", "SOP"]]),
            with_pk("documents.note", 2, version=[2, ["DOC-1", "SOP"]]),
        ],
    ),
    "keys with null in them": (
        NATURAL,
        [bare("documents.version", number=1, document=[None, "SOP"])],
    ),
    "pks of models without natural key beside natural keys": (
        NATURAL,
        [*DJANGO_BACKUP, with_pk("logs.entry", 1, user=["ann"]), with_pk("logs.entry", 2)],
    ),
    "ids of models without natural key beside natural keys": (
        NATURAL,
        [*DJANGO_BACKUP, *LABELS, with_pk("tags.use", 1, label="A")],
    ),
    "ids of models with natural key beside natural keys": (
        MIXED,
        [*DJANGO_BACKUP, with_pk("logs.entry", 1, user=5)],
    ),
    "pks and ids in an app with natural keys": (
        MIXED,
        [
            bare("users.user", username="ann"),
            with_pk("users.role", 3, name="editor"),
            with_pk("users.userrole", 1, user=["ann"], role=3),
        ],
    ),
    "content types by id": (
        MIXED,
        [bare("documents.document", **DOCUMENT, author=["ann"], content_type=19)],
    ),
    "content types with pk": (
        MIXED,
        [*DJANGO_BACKUP, with_pk("contenttypes.contenttype", 4, app_label="a", model="b")],
    ),
    "nothing but models without natural key": (
        LEGACY,
        [*LABELS, with_pk("tags.use", 1, label="A")],
    ),
    "models that no schema knows": (LEGACY, [with_pk("else.where", 1, other=3)]),
    "models that no schema knows, without pk": (NATURAL, [bare("else.where", name="a")]),
    "a pk that is null": (NATURAL, [with_pk("users.user", None, username="ann")]),
    "a pk beside natural_key": (
        NATURAL,
        [{**with_pk("flow.state", "DRAFT", code="DRAFT"), "natural_key": ["DRAFT"]}],
    ),
    "a natural_key that is null": (LEGACY, [{**with_pk("users.user", 1), "natural_key": None}]),
    "not finite": (LEGACY, [with_pk("users.user", 1, a=math.nan, b=[math.inf, -math.inf])]),
}


@pytest.mark.parametrize("full", [False, True], ids=["head", "full"])
@pytest.mark.parametrize("schema", [SCHEMA, None], ids=["schema", "no schema"])
@pytest.mark.parametrize(("expected", "records"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("spell", [array, indented, jsonl])
def test_format(spell: Any, expected: str, records: Records, schema: Any, full: bool) -> None:
    report = detect(spell(records), schema, full)
    assert report == expected, report.evidence
    assert report.shape == ("jsonl" if spell is jsonl else "array")
    assert (report.records, report.read_all, report.complete) == (len(records), True, True)
    assert report.evidence


@pytest.mark.parametrize("order", [("fields", "model", "pk"), ("pk", "fields", "model")])
def test_order_of_members_says_nothing(order: tuple[str, ...]) -> None:
    records = [{name: record[name] for name in order} for record in LEGACY_BACKUP]
    assert detect(array(records)) == LEGACY


def test_members_that_are_not_django_s_say_nothing() -> None:
    extra = {"meta": {"pk": 1, "model": "x", "deep": [{"fields": []}]}, "version": "5"}
    records = [{**extra, **record, "after": [1]} for record in DJANGO_BACKUP]
    report = detect(array(records), SCHEMA)
    assert (report.format, report.records) == (NATURAL, 3)


def test_counts_with_a_schema() -> None:
    records = [
        with_pk("documents.document", 7, author=5, reviewers=[5, ["ann"]], labels=["A", "B"]),
        named("documents.document", ["DOC-1", "SOP"], author=["ann"], parent=None, title=["x"]),
        bare("documents.document", author=None),
        with_pk("tags.use", 1, label="A"),
        with_pk("else.where", 1, author=5),
    ]
    models = detect(array(records), SCHEMA).models
    document = models["documents.document"]
    assert (document.records, document.with_pk) == (3, 1)
    assert (document.with_natural_key, document.with_neither) == (1, 1)
    assert (document.ids, document.neutral_ids, document.keys, document.nulls) == (2, 2, 2, 2)
    assert (models["tags.use"].ids, models["tags.use"].neutral_ids) == (0, 1)
    assert {label: report.keyed for label, report in models.items()} == {
        "documents.document": True,
        "tags.use": False,
        "else.where": None,
    }
    assert (models["else.where"].records, models["else.where"].ids) == (1, 0)


def test_counts_without_a_schema() -> None:
    records = [
        *DJANGO_BACKUP,
        with_pk("logs.entry", 1, user=["ann"]),
        with_pk("logs.entry", 2, user=5),
        with_pk("logs.entry", 3, user=None),
        *LABELS,
        with_pk("tags.use", 1, label="A"),
    ]
    models = detect(array(records)).models
    assert (models["logs.entry"].ids, models["logs.entry"].keys) == (1, 1)
    assert models["logs.entry"].nulls == 1
    assert (models["tags.use"].ids, models["tags.use"].neutral_ids) == (0, 1)
    assert models["documents.document"].keys == 2
    assert (models["users.user"].keyed, models["tags.label"].keyed) == (True, None)


def test_ids_of_a_legacy_backup_are_counted_without_a_schema() -> None:
    records = [
        *LEGACY_BACKUP,
        with_pk("documents.version", 2, document=7, other_documents=[7, 8], order=3),
    ]
    assert detect(array(records)).models["documents.version"].ids == 4


def test_lists_in_a_legacy_backup_are_data_unless_more_speaks_for_keys() -> None:
    """As what a token may be used for, which is a list in a JSON field."""
    records = [*LEGACY_BACKUP, with_pk("log.entry", 1, content_type=5, audience=["https://a"])]
    assert detect(array(records)) == "legacy_database_ids"
    assert detect(array([*records, with_pk("log.entry", 2, audience=5)])) == "mixed"
    assert detect(array([*records, with_pk("log.entry", 2, document=["DOC-1"])])) == "mixed"


@pytest.mark.parametrize("schema", [SCHEMA, None], ids=["schema", "no schema"])
def test_evidence_names_natural_foreign_keys_alone(schema: Schema | None) -> None:
    said = " ".join(detect(array(CASES["natural foreign keys alone"][1]), schema).evidence)
    assert "--natural-foreign without --natural-primary" in said
    said = " ".join(detect(array(LEGACY_BACKUP + DJANGO_BACKUP), schema).evidence)
    assert "--natural-foreign" not in said


@pytest.mark.parametrize(
    ("groups", "word", "evidence"),
    [
        (
            [["crew"], ["staff"]],
            "mixed",
            "2 relation values given by natural key: auth.user.groups",
        ),
        ([1, 2], "legacy_database_ids", "3 relation values given by id: auth.user.groups (2)"),
    ],
)
def test_groups_of_users_are_relations_where_the_backup_leaves_them_out(
    groups: list[Any], word: str, evidence: str
) -> None:
    user = with_pk("auth.user", 1, username="ann", groups=groups, user_permissions=[])
    report = detect(array([user, with_pk("crew.profile", 1, user=1)]))
    assert report == word
    assert any(evidence in sentence for sentence in report.evidence)


def test_evidence_says_what_was_assumed() -> None:
    _, records = CASES["pks and ids in an app with natural keys"]
    said = " ".join(detect(array(records)).evidence)
    assert "no schema" in said
    assert "users.role (1)" in said
    said = " ".join(detect(array([*DJANGO_BACKUP, *LABELS])).evidence)
    assert "3 records with a pk, of models taken to have no natural key" in said


def test_evidence_names_models_not_in_the_schema() -> None:
    records = [with_pk(f"else.model{n}", 1) for n in range(5)]
    said = " ".join(detect(array(records), SCHEMA).evidence)
    assert "not in the schema" in said
    assert "and 2 more" in said


def test_models_in_capitals_are_read_as_django_reads_them() -> None:
    records = [with_pk("Shop.Item", 1), with_pk("Shop.item", 2), with_pk("shop.item", 3)]
    models = detect(array(records)).models
    assert {label: one.records for label, one in models.items()} == {"Shop.item": 2, "shop.item": 1}


def test_report_is_its_word() -> None:
    report = detect(array(LEGACY_BACKUP))
    assert report == LEGACY
    assert report != MIXED
    assert str(report) == LEGACY
    assert report == detect(array(LEGACY_BACKUP))
    assert report != detect(jsonl(LEGACY_BACKUP))
    assert report != 5


def test_judging_twice_gives_the_same() -> None:
    for profile in (SchemaProfile(SCHEMA), InferredProfile()):
        for record in LEGACY_BACKUP + DJANGO_BACKUP:
            has_natural_key = "natural_key" in record
            profile.add(record["model"], record.get("pk"), has_natural_key, record["fields"])
        assert profile.judge() == profile.judge()


# Heads and cuts


def outcome(
    backup: bytes, schema: Schema | None, full: bool
) -> DetectionReport | BackupSyntaxError:
    try:
        return detect(backup, schema, full)
    except BackupSyntaxError as error:
        return error


@pytest.mark.parametrize("schema", [SCHEMA, None], ids=["schema", "no schema"])
@pytest.mark.parametrize("full", [False, True], ids=["head", "full"])
@pytest.mark.parametrize("spell", [array, indented, jsonl])
@pytest.mark.parametrize(
    ("expected", "records"),
    [(LEGACY, LEGACY_BACKUP), (NATURAL, DJANGO_BACKUP), (NATURAL, OUR_BACKUP)],
    ids=["legacy", "django", "ours"],
)
def test_cut_off_at_every_byte(
    expected: str, records: Records, spell: Any, full: bool, schema: Any
) -> None:
    backup = spell(records).rstrip()
    ends = [spell(records[:count]) for count in range(len(records))]
    ends += [end.rstrip() for end in ends]
    told = 0
    for length in range(1, len(backup)):
        part = backup[:length]
        found = outcome(part, schema, full)
        if isinstance(found, BackupSyntaxError):
            assert (found.code, found.offset) == ("FNK205", length)
            assert not told, "what was told of less can be told of more"
            continue
        told += 1
        assert found == expected, part
        at_end_of_record = spell is jsonl and part in ends
        assert found.complete == at_end_of_record
        assert found.cut_off_at == (None if at_end_of_record else length)
        assert any("cut off" in said for said in found.evidence) != at_end_of_record
    assert told > len(backup) / 2


def test_value_that_was_being_read_says_nothing() -> None:
    start = b'[{"model": "a.b", "pk": 1, "fields": {"info": ["a"'
    assert detect(start) == LEGACY
    assert detect(start + b', {"b": 1}]}}]') == LEGACY


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1" * 5000, "1e" + "9" * 5000, r'"\ud800"'])
def test_beginning_ends_before_what_ijson_does_not_read(value: str) -> None:
    """Which is what it would be if the backup were cut off there."""
    start = '[{"model": "a.b", "pk": 1, "fields": {"author": ["ann"], "more": '
    report = detect(f'{start}{value}, "photo": "'.encode(), SCHEMA)
    assert report.models == detect(start.encode() + b'"', SCHEMA).models
    assert report.models["a.b"].with_pk == 1


def endless(records: Records) -> Iterator[bytes]:
    yield b"["
    while True:
        yield array(records)[1:-1] + b",\n"


class Endless(io.RawIOBase):
    """A file object without end that counts what is read of it."""

    def __init__(self, records: Records) -> None:
        self._pieces = endless(records)
        self._known = b""
        self.position = self.furthest = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        assert whence == os.SEEK_SET, "it has no end"
        self.position = offset
        return offset

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        buffer[:] = self.read(len(buffer))
        return len(buffer)

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "all of it is never asked for"
        end = self.position + size
        while len(self._known) < end:
            self._known += next(self._pieces)
        piece = self._known[self.position : end]
        self.position = end
        self.furthest = max(self.furthest, end)
        return piece


def test_head_is_all_that_is_read() -> None:
    stream = Endless(LEGACY_BACKUP)
    report = detect(stream)  # type: ignore[arg-type]
    assert report == LEGACY
    assert stream.furthest <= HEAD_BYTES + CHUNK_BYTES
    assert stream.position == 0
    assert (report.read_all, report.complete, report.cut_off_at) == (False, False, None)
    assert any("only the first 1,048,576 bytes" in said for said in report.evidence)
    assert report.records > 1000


def test_full_reads_what_the_head_does_not_show() -> None:
    backup = array(LEGACY_BACKUP * 8000 + DJANGO_BACKUP)
    assert len(backup) > HEAD_BYTES
    assert detect(backup, SCHEMA) == LEGACY
    report = detect(backup, SCHEMA, full=True)
    assert report == MIXED
    assert (report.records, report.complete) == (24003, True)
    assert not any("only the first" in said for said in report.evidence)


@pytest.mark.parametrize("schema", [SCHEMA, None], ids=["schema", "no schema"])
def test_head_that_ends_in_the_first_record(schema: Schema | None) -> None:
    for record, expected in (
        (with_pk("users.user", 1, author=5, photo="x" * HEAD_BYTES), LEGACY),
        (bare("users.user", manager=["ann"], photo=["x" * 999] * 2000), NATURAL),
        (named("users.user", ["ann"], photo={"x": ["y" * HEAD_BYTES]}), NATURAL),
    ):
        report = detect(array([record]), schema)
        assert report == expected
        assert (report.records, report.models["users.user"].records) == (0, 1)
        assert any("beginning of the first" in said for said in report.evidence)
        assert detect(array([record]), schema, full=True).records == 1


def test_head_that_does_not_tell_what_the_first_record_is() -> None:
    record = {"fields": {"photo": "x" * HEAD_BYTES}, "model": "users.user", "pk": 1}
    with pytest.raises(BackupSyntaxError) as caught:
        detect(array([record]))
    assert (caught.value.code, caught.value.offset) == ("FNK202", 1)
    assert "full=True" in str(caught.value)
    assert detect(array([record]), full=True) == LEGACY


def test_deep_and_wide_values_cost_no_more_than_others() -> None:
    half = HEAD_BYTES // 16
    values = [
        "[" * MAX_DEPTH + "]" * MAX_DEPTH,
        '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH,
        f"[{'1,' * half}1]",
        '"' + "}" * half + '"',
        '"' + '\\"}' * half + '"',
    ]
    for value in values:
        for tail in ("}}]", ""):
            backup = f'[{{"model": "a.b", "pk": 1, "fields": {{"x": {value}{tail}'.encode()
            assert detect(backup) == LEGACY
            assert detect(backup, full=True) == LEGACY


@pytest.mark.parametrize("deep", [MAX_DEPTH + 1, HEAD_BYTES // 16])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"[":', "}"), ('["[",{"}":', "}]")])
def test_what_no_other_verb_takes_is_told(opening: str, closing: str, deep: int) -> None:
    value = opening * deep + "1" + closing * deep
    backup = f'[{{"model": "a.b", "pk": 1, "fields": {{"x": {value}}}}}]'.encode()
    offsets = set()
    for verb in (lambda: detect(backup, full=True), lambda: list(split_records(Source(backup)))):
        with pytest.raises(BackupSyntaxError, match="FNK207 nested deeper than 1,024") as caught:
            verb()
        offsets.add(caught.value.offset)
    assert len(offsets) == 1


def test_deep_members_that_detection_leaves_out_are_counted() -> None:
    value = "[" * HEAD_BYTES
    with pytest.raises(BackupSyntaxError, match="FNK207"):
        detect(f'[{{"model": "a.b", "pk": 1, "more": {value}'.encode(), full=True)


@pytest.mark.parametrize(
    ("levels", "record"),
    [
        (MAX_DEPTH, '{"model": "users.user", "pk": 1, "fields": {"x": %s}}'),
        (MAX_DEPTH, '{"model": "users.user", "pk": 1, "fields": {"team": %s}}'),
        (MAX_DEPTH, '{"fields": {"x": %s}, "model": "users.user", "pk": 1}'),
        (MAX_DEPTH + 1, '{"model": "users.user", "pk": %s, "fields": {}}'),
        (MAX_DEPTH + 1, '{"model": "users.user", "pk": 1, "fields": {}, "more": %s}'),
    ],
)
def test_all_verbs_take_the_same_depth(levels: int, record: str) -> None:
    relation = Relation(to="users.user", many=True)
    schema = Schema.of({"users.user": Model(natural_key=["x"], relations={"team": relation})})
    keep = Policies(on_null_key="keep")
    verbs: list[Callable[[bytes], object]] = [
        lambda backup: detect(backup, full=True),
        lambda backup: list(split_records(Source(backup))),
        lambda backup: LegacyBackupConverter(schema, policies=keep).convert_bytes(backup),
        lambda backup: verify(backup, backup, schema, policies=keep),
        lambda backup: check(schema, backup),
    ]
    for verb in verbs:
        verb(("[" + record % ("[" * levels + "]" * levels) + "]").encode())
        deeper = record % ("[" * (levels + 1) + "]" * (levels + 1))
        with pytest.raises(BackupSyntaxError, match=r"FNK207 nested deeper than 1,024 levels"):
            verb(f"[{deeper}]".encode())


@pytest.mark.parametrize(
    "number",
    [
        *("1" * 5000, "-" + "9" * 200_000, "1." + "0" * 5000, "1e5", "-0", "12345678901234567890"),
        *("1e" + "9" * 20, "-1.5E+" + "9" * 20, "1e-" + "9" * 20),
        *("1e" + "9" * 5000, "-1.5E+" + "9" * 5000, "1e-" + "9" * 5000),
    ],
)
def test_large_numbers(number: str) -> None:
    backup = f'[{{"model": "users.user", "pk": {number}, "fields": {{"n": [{number}]}}}}]'.encode()
    report = detect(backup, SCHEMA, full=True)
    assert report == LEGACY
    assert report.models["users.user"].with_pk == 1
    assert detect(backup[:-1], SCHEMA, full=True).cut_off_at == len(backup) - 1
    with pytest.raises(BackupSyntaxError) as caught:
        detect(backup.replace(b"]}", b"]?"), SCHEMA, full=True)
    assert caught.value.offset == len(backup) - 3


@pytest.mark.parametrize(
    "text",
    [
        *(r"\ud800", r"\uDFAA", r"\udc00\ud800", r"\ud800\ud800\udc00", r"\uDBFF\u0041"),
        *(r"\\\udc00", r"\\udc00", r"\\\\\uDC00\"", r"\ud83d\ude00\ude00"),
    ],
)
def test_halves_of_surrogate_pairs(text: str) -> None:
    backup = f'[{{"model": "users.user", "pk": "{text}", "fields": {{"{text}": "{text}"}}}}]'
    json.loads(backup)
    assert detect(backup.encode(), SCHEMA, full=True).models["users.user"].with_pk == 1


@pytest.mark.parametrize("blank", ["\v", "\f"])
@pytest.mark.parametrize("place", ["[", '{"model"', ":", '"u', "}", "},"])
def test_blanks_that_json_does_not_know(blank: str, place: str) -> None:
    backup = '[{"model": "users.user", "pk": 1, "fields": {"username": "u"}},\n{"model":"x.y"'
    offset = backup.rindex(place) + len(place)
    wrong = backup[:offset] + blank + backup[offset:]
    with pytest.raises(BackupSyntaxError) as caught:
        detect(wrong.encode(), SCHEMA, full=True)
    assert (caught.value.code, caught.value.offset) == ("FNK200", offset)


# What a backup may be


def test_path(tmp_path: Path) -> None:
    path = tmp_path / "backup.json"
    path.write_bytes(array(DJANGO_BACKUP))
    schema = tmp_path / "schema.json"
    SCHEMA.save(schema)
    assert detect(path) == NATURAL
    assert detect(str(path), str(schema), True) == NATURAL
    assert BackupFormatDetector(SCHEMA).detect_format(path) == NATURAL


def test_bytes_of_any_kind() -> None:
    backup = array(LEGACY_BACKUP)
    assert detect(bytearray(backup)) == detect(memoryview(backup)) == LEGACY


@pytest.mark.parametrize("full", [False, True])
def test_file_object_keeps_its_position(full: bool) -> None:
    stream = io.BytesIO(b"....." + array(LEGACY_BACKUP))
    stream.seek(5)
    assert detect(stream, full=full) == LEGACY
    assert stream.tell() == 5
    with pytest.raises(BackupSyntaxError):
        detect(io.BytesIO(b"nonsense"))
    stream.seek(1)
    with pytest.raises(BackupSyntaxError) as caught:
        detect(stream, full=full)
    assert (caught.value.offset, stream.tell()) == (0, 1)


def pipe_of(content: bytes) -> int:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return reading


def test_stream_that_can_be_peeked_loses_nothing() -> None:
    backup = array(LEGACY_BACKUP)
    with open(pipe_of(backup), "rb") as stream:
        report = detect(stream)
        assert (report.format, report.read_all) == (LEGACY, False)
        assert stream.read() == backup


def test_stream_that_is_empty() -> None:
    with open(pipe_of(b""), "rb") as stream, pytest.raises(BackupSyntaxError) as caught:
        detect(stream)
    assert caught.value.code == "FNK201"


def test_stream_that_would_be_lost() -> None:
    backup = array(LEGACY_BACKUP)
    with open(pipe_of(backup), "rb", buffering=0) as stream:
        with pytest.raises(SourceError, match="not seekable"):
            detect(stream)
        assert stream.read() == backup
    with open(pipe_of(backup), "rb") as stream:
        with pytest.raises(SourceError, match="to its end"):
            detect(stream, full=True)
        assert stream.read() == backup


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        detect(tmp_path / "missing.json")
    with pytest.raises(SourceError, match="empty"):
        detect(tmp_path)
    with pytest.raises(UsageError, match="text"):
        detect(io.StringIO("[]"))  # type: ignore[arg-type]


# What is refused: `~` marks the offset

USER = '{"model": "users.user", "pk": 1, "fields": {"username": "ann"}}'
LOG = "⚠️ Using the development key\nINFO: 5 records\n"

REFUSED = {
    "FNK200": [
        "~nonsense",
        "~<html><body>",
        "  ~<?xml version='1.0'?>",
        "~]",
        "~}",
        "~2025-12-04 10:00:00 INFO starting",
        f"~{LOG}[{USER}]",
        f"~{LOG}[\n  {USER}\n]",
        f"~{LOG}{USER}\n",
        f"[~INFO] starting\n[{USER}]",
        f"~{LOG}[",
        f"~{LOG}",
        "[~INFO] starting",
        f"[{USER}~}}",
        f"[{USER} ~{USER}]",
        f"[{USER},~]",
        f"[~,{USER}]",
        f"[{USER}] ~{USER}",
        f"[{USER}]\n~INFO: done",
        f"{USER}~,{USER}",
        f"{USER}\n~]",
        f"{USER}\n~INFO: done\n",
        f'[{USER}, {{"model": ~users.user}}]',
        f'[{USER}, {{"model": "a.b", "pk": 1, "fields": {{"x": ~NaNs}}}}]',
        f'[{USER}, {{"model": "a.b", "pk": 1, "fields": {{"x": "a~\\q"}}}}]',
        f'[{USER}, {{"model": "a.b", "pk": 1, "fields": {{"x": "a~\n"}}}}]',
        f'[{{"model": "a.b", "pk": 1, "fields": {{"x": 1,~}}}}, {USER}]',
    ],
    "FNK201": ["~", "~ \n\t\r "],
    "FNK202": ["~[]", "\n ~[ \n]\n"],
    "FNK203": [
        "~5",
        " ~-1.5e3 ",
        "~null",
        "~true\n",
        "~NaN",
        '~"text\\"text"',
        "[~1]",
        "[ ~null, 5]",
        '[~"a"]',
        f"[~[{USER}]]",
        f"[{USER}, ~5]",
        f"[{USER}, ~[{USER}]]",
        f"{USER}\n~5\n",
        f"{USER}\n~[{USER}]\n",
    ],
    "FNK204": [
        "~{}",
        "[~{}]",
        f'[{USER}, ~{{"pk": 1}}]',
        f'[{USER},\n  ~{{"model": "users.user", "pk": 1}}, {USER}]',
        '~{"model": "users.user", "pk": 1}',
        f'[{USER}, ~{{"pk": 1, "fields": {{}}}}, oops]',
        f'{USER}\n~{{"pk": 1, "fields": {{}}}}\n',
        '[~{"model": 5, "pk": 1, "fields": {}}]',
        '[~{"model": null, "pk": 1, "fields": {}}]',
        '[~{"model": "users.user", "pk": 1, "fields": []}]',
        '[~{"model": "users.user", "pk": 1, "fields": "\\udfff"}]',
        '[~{"fields": null, "model": "users.user", "pk": 1}]',
    ],
    "FNK205": [
        "[~",
        "[ \n ~",
        "[{~",
        '[{"model": "a.b"~',
        '{"model": "a.b", "pk"~',
        '[{"model": "a.b", "pk": ~',
        '{"fields": {"a": 1}, "pk": 5~',
    ],
    "FNK206": [
        f'[{USER}, {{"model": "a.b", "pk": 1, "fields": {{"x": "~\udcff"}}}}]',
    ],
}


@pytest.mark.parametrize("full", [False, True], ids=["head", "full"])
@pytest.mark.parametrize(
    ("code", "text"), [(code, text) for code, texts in REFUSED.items() for text in texts]
)
def test_refused(code: str, text: str, full: bool) -> None:
    before, _, after = text.partition("~")
    backup = (before + after).encode(errors="surrogateescape")
    with pytest.raises(BackupSyntaxError) as caught:
        detect(backup, full=full)
    error = caught.value
    assert (error.code, error.offset) == (code, len(before.encode(errors="surrogateescape")))
    assert error.remedy


def test_refusal_shows_the_text_before_the_records() -> None:
    begin = len(LOG.encode())
    for verb in (detect, lambda backup: list(split_records(Source(backup)))):
        with pytest.raises(BackupSyntaxError) as caught:
            verb(f"{LOG}[{USER}]".encode())
        assert 'FNK200 text before the records (there stands "⚠️ Using the' in str(caught.value)
        assert f"bytes 0 to {begin - 1}: text before the records" in str(caught.value)
        assert "--salvage, which keeps 1 whole record" in str(caught.value)


def test_a_remark_behind_the_bracket_is_shown() -> None:
    with pytest.raises(BackupSyntaxError, match="FNK200") as caught:
        detect(b'[\n// users\n{"model": "users.user", "pk": 1, "fields": {}}]')
    assert 'there stands "// users"' in str(caught.value)
    assert "--salvage" in str(caught.value)


def test_refusal_names_record_model_and_file(tmp_path: Path) -> None:
    path = tmp_path / "backup.json"
    path.write_text(f'[{USER}, {{"model": "users.role", "pk": 1}}]')
    with pytest.raises(BackupSyntaxError) as caught:
        detect(path)
    assert f"{path}:{len(USER) + 3}, record 2, users.role" in str(caught.value)
    assert 'a record has no "fields"' in str(caught.value)


def test_fault_behind_the_head_is_found_by_full_alone() -> None:
    backup = array(LEGACY_BACKUP * 8000)[:-1]
    assert detect(backup + b", oops]") == LEGACY
    with pytest.raises(BackupSyntaxError) as caught:
        detect(backup + b", oops]", full=True)
    assert (caught.value.code, caught.value.offset) == ("FNK200", len(backup) + 2)


def test_fault_in_a_large_record() -> None:
    start = b'[{"model": "a.b", "pk": 1, "fields": {"x": "%s", ' % (b"x" * 2 * HEAD_BYTES)
    with pytest.raises(BackupSyntaxError) as caught:
        detect(start + b'"z": oops}}]', full=True)
    assert (caught.value.code, caught.value.offset) == ("FNK200", len(start) + 5)


# The reader


def read(backup: bytes, size: int) -> tuple[list[Record], int | None]:
    reader = RecordReader(None)
    chunks = [backup[start : start + size] for start in range(0, len(backup), size)]
    records = list(reader.records(chunks))
    return records, reader.finish(read_all=True)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.sampled_from(["NaN", "Infinity", '"NaN"', "\\", "}", "{", "[", "é€😀", '\\"', "-Infinity"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["model", "pk", "fields", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"model": st.sampled_from(["a.b", "c.d"]), "fields": st.dictionaries(st.text(), VALUES)},
        optional={"pk": VALUES, "natural_key": VALUES, "else": VALUES},
    ),
    min_size=1,
    max_size=4,
)


@given(RECORDS, st.integers(1, 40), st.sampled_from([array, indented, jsonl]))
def test_reader_reads_what_json_reads(records: Records, size: int, spell: Any) -> None:
    expected = [
        Record(r["model"], r.get("pk"), r.get("natural_key") is not None, r["fields"])
        for r in records
    ]
    assert read(spell(records), size) == (expected, None)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 65536])
@pytest.mark.parametrize("escapes", ["", "\\\\", '\\"', '\\\\\\"', "\\u0022"])
def test_numbers_that_are_none_are_read(escapes: str, size: int) -> None:
    text = f"}} NaN, {escapes}: NaN, [-Infinity, {escapes}"
    backup = (
        f'[{{"model": "a.b", "pk": NaN, "fields": {{"a": "{text}", "b": [NaN, Infinity,'
        f' -Infinity ], "{text}": -Infinity}}}}]'
    ).encode()
    decoded = json.loads(f'"{text}"')
    ((record,), _) = read(backup, size)
    assert math.isnan(record.pk)
    assert math.isnan(record.fields["b"][0])
    expected = {"a": decoded, "b": [math.inf, -math.inf], decoded: -math.inf}
    assert {**record.fields, "b": record.fields["b"][1:]} == expected


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 65536])
@pytest.mark.parametrize(
    "text",
    [
        text
        for code in ("FNK200", "FNK203", "FNK204")
        for text in REFUSED[code]
        if len(text) > 10 and not text.startswith("~")  # those are judged by the first chunk
    ],
)
def test_offsets_do_not_depend_on_chunks(text: str, size: int) -> None:
    before, _, after = text.partition("~")
    with pytest.raises(BackupSyntaxError) as caught:
        read((before + after).encode(), size)
    assert caught.value.offset == len(before.encode())


def test_python_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ijson, "basic_parse_coro", ijson.get_backend("python").basic_parse_coro)
    for expected, records in CASES.values():
        for spell in (array, indented, jsonl):
            report = detect(spell(records), SCHEMA)
            assert (report.format, report.records) == (expected, len(records))
            assert detect(spell(records).rstrip()[:-1], SCHEMA).cut_off_at is not None


@pytest.mark.parametrize(
    ("piece", "code"),
    [("1e", "FNK200"), ('""', "FNK203"), ('\\"', "FNK200"), ("NaN ", "FNK203")],
)
def test_what_is_no_record_takes_little_memory(piece: str, code: str) -> None:
    whole = json.dumps([{"model": "a.b", "pk": 1, "fields": {}}])
    data = f"{whole[:-1]},{piece * (50_000 // len(piece))}".encode()
    tracemalloc.start()
    try:
        with pytest.raises(BackupSyntaxError, match=code) as caught:
            detect(data, full=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_500_000 + 5 * len(data)
    assert piece.strip() in caught.value.what


# Backups of a real system

EDMS = os.environ.get("FASTNK_EDMS_BACKUPS")
EDMS_SCHEMA = Path(__file__).parents[1] / "examples" / "edms" / "schema.json"


@pytest.mark.skipif(EDMS is None, reason="FASTNK_EDMS_BACKUPS names no folder of backups")
@pytest.mark.parametrize("full", [False, True], ids=["head", "full"])
@pytest.mark.parametrize("schema", [EDMS_SCHEMA, None], ids=["schema", "no schema"])
@pytest.mark.parametrize(
    ("name", "expected", "records", "cut_off_at"),
    [
        ("legacy.truncated", LEGACY, 3253, 3_210_630),
        ("contenttypes", LEGACY, 320, None),
        ("mixed", MIXED, 534, None),
        ("natural", NATURAL, 477, None),
        ("expected", NATURAL, 3253, None),
    ],
)
def test_edms(
    name: str, expected: str, records: int, cut_off_at: int | None, schema: Any, full: bool
) -> None:
    backup = gzip.decompress((Path(EDMS or "") / f"{name}.json.gz").read_bytes())
    report = detect(backup, schema, full)
    assert report == expected
    if full:
        assert (report.records, report.cut_off_at) == (records, cut_off_at)


@pytest.mark.skipif(EDMS is None, reason="FASTNK_EDMS_BACKUPS names no folder of backups")
@pytest.mark.parametrize("name", ["polluted", "log_only"])
def test_edms_with_a_log_in_it(name: str) -> None:
    with pytest.raises(BackupSyntaxError, match="Failed to send") as caught:
        detect(gzip.decompress((Path(EDMS or "") / f"{name}.json.gz").read_bytes()))
    assert (caught.value.code, caught.value.offset) == ("FNK200", 0)
