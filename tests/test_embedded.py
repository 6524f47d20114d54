"""Ids inside JSON fields and text, generic relations by label, as the core converts them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from fastnk import _core
from fastnk.cli import main
from fastnk.convert import LegacyBackupConverter, Policies
from fastnk.errors import FindingsError, SchemaError
from fastnk.schema import Embedded, GenericRelation, Model, Relation, Schema

USER = Model(natural_key=["name"])
DOCUMENT = Model(natural_key=["number"], relations={"author": Relation("u.user")})
RECORDS: list[dict[str, Any]] = [
    {"model": "u.user", "pk": 1, "fields": {"name": 'ann "é"'}},
    {"model": "u.user", "pk": 2, "fields": {"name": "bob"}},
    {"model": "d.document", "pk": 7, "fields": {"number": "D-1", "author": 1}},
]
ANN = 'ann "é"'


def schema_with(*paths: str, to: str = "u.user", **more: Any) -> Schema:
    log = Model(embedded={path: Embedded(to) for path in paths}, **more)
    return Schema.of({"u.user": USER, "d.document": DOCUMENT, "t.tag": Model(), "a.log": log})


def converted(schema: Schema, fields: dict[str, Any], **options: Any) -> Any:
    """What becomes of a record's fields, in blocks of any size."""
    backup = json.dumps([*RECORDS, {"model": "a.log", "pk": 1, "fields": fields}]).encode()
    options.setdefault("embedded", True)
    whole = LegacyBackupConverter(schema, **options).convert_bytes(backup)
    for block_size in (1, 2, 3, 5, 7, 64):
        once = LegacyBackupConverter(schema, block_size=block_size, **options)
        assert once.convert_bytes(backup) == whole
    return json.loads(whole)[-1]["fields"]


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("old.author", {"author": 1, "other": 1}, {"author": [ANN], "other": 1}),
        ("old.author", {"author": "2"}, {"author": ["bob"]}),
        ("old.a.b", {"a": {"b": 2, "c": {"b": 2}}}, {"a": {"b": ["bob"], "c": {"b": 2}}}),
        ("old[]", [1, None, 2, ["bob"], True], [[ANN], None, ["bob"], ["bob"], True]),
        ("old[].by", [{"by": 1}, {}, 2, {"by": None}], [{"by": [ANN]}, {}, 2, {"by": None}]),
        ("old[][]", [[1, 2], [], 2], [[[ANN], ["bob"]], [], 2]),
        ("old", 1, [ANN]),
        ("old", "2", '["bob"]'),
        ("old", "", ""),
        ("old.é\n", {"é\n": 1}, {"é\n": [ANN]}),
        ("old.author", {"author": {"author": 1}}, {"author": {"author": 1}}),
        ("old.author", {"author": ""}, {"author": ""}),
        ("old.author", {"author": float("inf")}, {"author": float("inf")}),
        ("old.author", None, None),
        ("old.author", [], []),
        ("old.author", {}, {}),
        ("old[]", [], []),
    ],
)
def test_ids_in_json(path: str, before: Any, after: Any) -> None:
    schema = schema_with(path)
    assert converted(schema, {"x": 1, "old": before, "y": 2}) == {"x": 1, "old": after, "y": 2}
    assert converted(schema, {"old": before}, embedded=False) == {"old": before}


def test_fields_whose_ids_would_become_keys_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def left(backup: bytes, to: str = "u.user", **options: Any) -> tuple[bytes, list[str]]:
        out = io.BytesIO()
        converter = LegacyBackupConverter(schema_with("old", to=to), **options)
        report = converter.convert_to_natural_keys(backup, out)
        return out.getvalue(), report.ids_left

    backup = json.dumps([*RECORDS, {"model": "a.log", "pk": 1, "fields": {"old": 1}}]).encode()
    natural, named = left(backup)
    assert named == ["a.log.old"]
    assert left(natural)[1] == left(backup, "t.tag")[1] == left(backup, embedded=True)[1] == []
    (tmp_path / "backup.json").write_bytes(backup)
    schema_with("old").save(tmp_path / "schema.json")
    names = [str(tmp_path / name) for name in ("backup.json", "out.json", "schema.json")]
    assert main(["convert", *names[:2], "--schema", names[2]]) == 0
    assert "  the ids in a.log.old stay as they are without --embedded" in capsys.readouterr().out


@pytest.mark.parametrize("variant", _core.variants())
@pytest.mark.parametrize(
    ("text", "after"),
    [
        # The key is spelled as in the record that it comes from.
        ('{"author": 1}', '{"author": ["ann \\"\\u00e9\\""]}'),
        (' {"é\\n":"\\\\", "author" : "2"} ', ' {"é\\n":"\\\\", "author" : ["bob"]} '),
        ('{"author": [1, 2]}', '{"author": [1, 2]}'),
        ('[{"author": 1}]', '[{"author": 1}]'),
        ("17", "17"),
        ("null", "null"),
        ("", ""),
    ],
)
def test_ids_in_text_that_holds_json(text: str, after: str, variant: str) -> None:
    _core.force(variant)
    try:
        found = converted(schema_with("old.author"), {"old": text})["old"]
    finally:
        _core.force(None)
    assert found == after


@pytest.mark.parametrize("variant", _core.variants())
@pytest.mark.parametrize(
    ("text", "is_key"),
    [
        (r"[\"bob\"]", True),
        (r"\u005b\"bob\"]", True),
        (r"\u005B\u0022bob\u0022\u005D", True),
        (r" \t\n[\"bob\", [1, null]]  ", True),
        ("[]", True),
        ("[", False),
        ("[1]x", False),
        (r"[\"bob\"", False),
        (r"\u005bbob]", False),
        (r"\\[1]", False),
        (" 2", False),
        (r"\"[1]\"", False),
    ],
)
def test_a_text_that_holds_a_list_is_a_key_and_any_other_is_an_id(
    text: str, is_key: bool, variant: str
) -> None:
    _core.force(variant)
    schema = schema_with("text")
    content = json.loads(f'"{text}"')
    user = {"model": "u.user", "pk": content, "fields": {"name": "eve"}}
    log = f'{{"model": "a.log", "pk": 1, "fields": {{"text": "{text}"}}}}'
    for block_size in (1, 7, 64):
        converter = LegacyBackupConverter(schema, embedded=True, block_size=block_size)
        out = converter.convert_bytes(f"[{json.dumps(user)}, {log}]".encode())
        assert json.loads(out)[1]["fields"]["text"] == (content if is_key else '["eve"]')
        assert (f'"{text}"'.encode() in out.partition(b"a.log")[2]) == is_key


def test_every_other_byte_of_a_text_stays() -> None:
    schema = schema_with("old.author")
    head = b'[{"model": "u.user", "pk": 5, "fields": {"name": "a/\\u0041"}}, '
    head += b'{"model": "a.log", "pk": 1, "fields": {"old": "'
    before = (
        b'{\\u0022x\\u0022: \\"\\\\/\\u00e9\\\\n\\", \\t\\"author\\"\\u003a \\u0035 , \\"z\\":1.50}'
    )
    after = before.replace(b"\\u0035", b'[\\"a/\\\\u0041\\"]')
    out = LegacyBackupConverter(schema, embedded=True).convert_bytes(head + before + b'"}}]')
    assert head.replace(b'"pk": 5', b'"natural_key": ["a/\\u0041"]') + after + b'"}}]' == out
    assert json.loads(json.loads(out)[1]["fields"]["old"])["author"] == ["a/A"]


def test_paths_into_one_field_and_fields_side_by_side() -> None:
    schema = schema_with("old.author", "old.items[].by", "old", "new.author", "new[].author")
    item = {"author": 1, "items": [{"by": 2}, {"by": 1, "author": 1}]}
    natural = {"author": [ANN], "items": [{"by": ["bob"]}, {"by": [ANN], "author": 1}]}
    assert converted(schema, {"old": item, "new": [item, item]}) == {
        "old": natural,
        "new": [{**item, "author": [ANN]}] * 2,
    }


def test_a_target_without_a_natural_key_keeps_its_ids() -> None:
    assert converted(schema_with("old", to="t.tag"), {"old": 5}) == {"old": 5}


def findings(schema: Schema, fields: dict[str, Any]) -> list[tuple[str, str | None, str | None]]:
    with pytest.raises(FindingsError) as caught:
        converted(schema, fields)
    return [(one.code, one.place.field, one.value) for one in caught.value.findings]


def test_ids_that_no_record_has_are_findings() -> None:
    schema = schema_with("old.author", "text[].by", "plain")
    fields = {"old": {"author": 9}, "text": '[{"by": "x"}]', "plain": "8"}
    assert findings(schema, fields) == [
        ("FNK311", "old.author", "9"),
        ("FNK311", "text[].by", "x"),
        ("FNK311", "plain", "8"),
    ]
    keep = Policies(on_embedded="keep")
    assert converted(schema, fields, policies=keep) == fields


@pytest.mark.parametrize(
    "text", ["nothing", '{"author": 1', '{"author": 1,}', '{"author": 01}', "{} {}", '{"a"}', " "]
)
def test_text_that_should_be_json_and_is_not_is_a_finding(text: str) -> None:
    schema = schema_with("old.author", "new.author")
    fields = {"new": {"author": 1}, "old": text}
    assert findings(schema, fields) == [("FNK312", "old", None)]
    keep = Policies(on_embedded="keep")
    assert converted(schema, fields, policies=keep) == {"new": {"author": [ANN]}, "old": text}


@pytest.mark.parametrize("path", ["", "[]", "[].a", "a..b", ".a", "author.x", "id", "pk.x"])
def test_paths_that_lead_nowhere_are_refused(path: str) -> None:
    with pytest.raises(SchemaError):
        schema_with(path, relations={"author": Relation("u.user")})


# ---- generic relations by label ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "number", "key"),
    [
        ("document", 7, ["D-1"]),
        ("d.document", "7", ["D-1"]),
        ("d.DOCUMENT", 7, ["D-1"]),
        ("Nutzer ä", 2, ["bob"]),
    ],
)
def test_labels_lead_to_models(kind: str, number: Any, key: list[str]) -> None:
    labels = {"document": "d.document", "Nutzer ä": "u.user"}
    generic = GenericRelation(label="kind", object_id="number", labels=labels)
    schema = schema_with(generic_relations={"target": generic})
    fields = {"kind": kind, "number": number}
    log = {"model": "a.log", "pk": 1, "fields": fields}
    backup = json.dumps([*RECORDS, log]).encode()
    out = json.loads(LegacyBackupConverter(schema).convert_bytes(backup))
    assert out[-1] == {**log, "references": {"number": key}}


@pytest.mark.parametrize("kind", ["D.document", "DOCUMENT", "nutzer ä"])
def test_labels_of_no_model(kind: str) -> None:
    generic = GenericRelation(label="kind", object_id="number", labels={"document": "d.document"})
    schema = schema_with(generic_relations={"target": generic})
    log = {"model": "a.log", "pk": 1, "fields": {"kind": kind, "number": 7}}
    with pytest.raises(FindingsError, match="FNK308"):
        LegacyBackupConverter(schema).convert_bytes(json.dumps([*RECORDS, log]).encode())


@pytest.mark.parametrize("kind", ["MyApp.book", "MyApp.Book", "MyApp.BOOK"])
def test_labels_of_an_app_in_capitals(kind: str) -> None:
    generic = GenericRelation(label="kind", object_id="number")
    book = Model(natural_key=["name"])
    schema = Schema.of({"MyApp.book": book, "a.log": Model(generic_relations={"target": generic})})
    records = [
        {"model": "MyApp.book", "pk": 1, "fields": {"name": "B"}},
        {"model": "a.log", "pk": 1, "fields": {"kind": kind, "number": 1}},
    ]
    out = json.loads(LegacyBackupConverter(schema).convert_bytes(json.dumps(records).encode()))
    assert out[-1] == {**records[-1], "references": {"number": ["B"]}}


@pytest.mark.parametrize(
    ("kind", "number", "found"),
    [
        ("documents", 7, ("FNK308", "number", '"documents"')),
        ("d.document", 8, ("FNK309", "number", "8")),
        ("t.tag", 8, ("FNK310", "number", "8")),
    ],
)
def test_labels_that_lead_nowhere_are_findings(kind: str, number: int, found: Any) -> None:
    generic = GenericRelation(label="kind", object_id="number")
    schema = schema_with(generic_relations={"target": generic})
    assert findings(schema, {"kind": kind, "number": number}) == [found]


def test_salvage_lets_nothing_through_that_no_lost_record_causes() -> None:
    generic = GenericRelation(label="kind", object_id="number")
    schema = schema_with(generic_relations={"target": generic})
    log = {"model": "a.log", "pk": 1, "fields": {"kind": "t.tag", "number": 8}}
    lost = {"model": "u.user", "pk": 9, "fields": {"name": "lost"}}
    backup = json.dumps([*RECORDS, log, lost]).encode()[:-20]
    with pytest.raises(FindingsError) as caught:
        LegacyBackupConverter(schema, salvage=True).convert_bytes(backup)
    assert [one.code for one in caught.value.findings] == ["FNK310"]


@pytest.mark.parametrize(
    "generic",
    [
        GenericRelation(object_id="number"),
        GenericRelation(object_id="number", label="kind", content_type="type"),
        GenericRelation(object_id="number", label="kind", labels={"x": "no.model"}),
    ],
)
def test_generic_relations_that_do_not_hold_together_are_refused(generic: GenericRelation) -> None:
    with pytest.raises(SchemaError):
        schema_with(generic_relations={"target": generic})
