"""The schema document: written and read back, and every error with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastnk.errors import OutputError, SchemaError
from fastnk.schema import (
    Embedded,
    GenericRelation,
    KeyPath,
    Model,
    Relation,
    Schema,
    embedded_steps,
    flat_parts,
    parse_path,
)

EVERYTHING = Schema.of(
    {
        "types.type": Model(natural_key=["app", "name"]),
        "users.user": Model(
            pk="uuid", natural_key=["username"], relations={"boss": Relation(to="users.user")}
        ),
        "Docs.document": Model(
            natural_key=["author__boss__username", ["id|str", ["made|isoformat"]], "author__pk"],
            relations={
                "author": Relation(to="users.user"),
                "boss": Relation(to="users.user", to_field="username"),
                "readers": Relation(to="users.user", many=True),
                "kind": Relation(to="types.type"),
            },
            generic_relations={"target": GenericRelation(content_type="kind", object_id="object")},
        ),
        "docs.profile": Model(
            pk="user", natural_key=["pk"], relations={"user": Relation(to="users.user")}
        ),
    }
)


def test_names_that_no_file_can_hold_are_refused() -> None:
    with pytest.raises(SchemaError, match=r"'a\.\\ud800' is no name"):
        Schema.of({"a.\ud800": Model()})


def test_written_and_read_back(tmp_path: Path) -> None:
    EVERYTHING.save(tmp_path / "schema.json")
    assert Schema.load(tmp_path / "schema.json") == EVERYTHING
    assert Schema.load(str(tmp_path / "schema.json")) == EVERYTHING


def test_document_is_indented_and_leaves_out_what_goes_without_saying() -> None:
    schema = Schema.of(
        {"a.b": Model(natural_key=["c"], relations={"d": Relation(to="a.b")}), "a.e": Model()}
    )
    assert schema.dumps().decode() == (
        "{\n"
        '  "version": 1,\n'
        '  "models": {\n'
        '    "a.b": {\n'
        '      "natural_key": [\n'
        '        "c"\n'
        "      ],\n"
        '      "relations": {\n'
        '        "d": {\n'
        '          "to": "a.b"\n'
        "        }\n"
        "      }\n"
        "    },\n"
        '    "a.e": {}\n'
        "  }\n"
        "}\n"
    )


def test_document_as_text_and_as_bytes() -> None:
    document = EVERYTHING.dumps()
    assert Schema.loads(document) == Schema.loads(document.decode()) == EVERYTHING


def document(**model: Any) -> str:
    """A schema of users, and of documents which are `model`."""
    models = {"users.user": {"natural_key": ["username"]}, "documents.document": model}
    return json.dumps({"version": 1, "models": models})


RELATIONS: dict[str, Any] = {
    "author": {"to": "users.user"},
    "readers": {"to": "users.user", "many": True},
}
PLACE = "models.documents.document"

FAULTS: list[tuple[str, str, str]] = [
    # wrong types and names, at each depth
    ("3", "schema", "schema: Expected `object`, got `int`"),
    ("[]", "schema", "schema: Expected `object`, got `array`"),
    ("{}", "schema", "schema: Object missing required field `version`"),
    ('{"version": 1}', "schema", "schema: Object missing required field `models`"),
    ('{"version": "1", "models": {}}', "version", "schema: Expected `int`, got `str`"),
    ('{"version": 1, "models": []}', "models", "schema: Expected `object`, got `array`"),
    (
        '{"version": 1, "models": {}, "model": {}}',
        "schema",
        "schema: Object contains unknown field `model`",
    ),
    ('{"version": 1, "models": {"a.b": []}}', "models.a.b", "schema: Expected `object`"),
    (document(pk=3), f"{PLACE}.pk", "schema: Expected `str`, got `int`"),
    (document(relation={}), PLACE, "schema: Object contains unknown field `relation`"),
    (document(natural_key="number"), f"{PLACE}.natural_key", "schema: Expected `array | null`"),
    (document(natural_key=["number", 3]), f"{PLACE}.natural_key[1]", "schema: Expected"),
    (document(relations=[]), f"{PLACE}.relations", "schema: Expected `object`, got `array`"),
    (
        document(relations={**RELATIONS, "reviewer": "users.user"}),
        f"{PLACE}.relations.reviewer",
        "schema: Expected `object`, got `str`",
    ),
    (
        document(relations={**RELATIONS, "reviewer": {"to": 7}}),
        f"{PLACE}.relations.reviewer.to",
        "schema: Expected `str`, got `int`",
    ),
    (
        document(relations={**RELATIONS, "reviewer": {}}),
        f"{PLACE}.relations.reviewer",
        "schema: Object missing required field `to`",
    ),
    (
        document(relations={"author": {"to": "users.user", "many": 1}}),
        f"{PLACE}.relations.author.many",
        "schema: Expected `bool`, got `int`",
    ),
    (
        document(relations=RELATIONS, generic_relations={"target": {"content_type": "kind"}}),
        f"{PLACE}.generic_relations.target",
        "schema: Object missing required field `object_id`",
    ),
    # things that do not hold together
    ('{"version": 2, "models": {}}', "version", "schema version 2 is not known; this fastnk reads"),
    ('{"version": 1, "models": {"document": {}}}', "models.document", "is not a model label"),
    ('{"version": 1, "models": {"a.b.c": {}}}', "models.a.b.c", "is not a model label"),
    ('{"version": 1, "models": {".b": {}}}', "models..b", "is not a model label"),
    ('{"version": 1, "models": {"a.": {}}}', "models.a.", "is not a model label"),
    ('{"version": 1, "models": {"a.Model": {}}}', "models.a.Model", "is not a model label"),
    (
        '{"version": 1, "models": {"a.b": {"proxies": ["P"]}}}',
        "models.a.b.proxies[0]",
        "is not a model label",
    ),
    (
        '{"version": 1, "models": {"a.b": {"proxies": ["a.c"]}, "a.c": {}}}',
        "models.a.b.proxies[0]",
        '"a.c" is a model of its own',
    ),
    (
        '{"version": 1, "models": {"a.b": {"proxies": ["a.p"]}, "a.c": {"proxies": ["a.p"]}}}',
        "models.a.c.proxies[0]",
        '"a.p" is a proxy of a.b',
    ),
    (
        document(relations={"author": {"to": "users.usr"}}),
        f"{PLACE}.relations.author.to",
        'no model "users.usr"; did you mean "users.user"?',
    ),
    (
        document(relations={"author": {"to": "x.y"}}),
        f"{PLACE}.relations.author.to",
        'no model "x.y"',
    ),
    (
        document(generic_relations={"target": {"content_type": "kind", "object_id": "id"}}),
        f"{PLACE}.generic_relations.target.content_type",
        '"kind" is not a relation of documents.document',
    ),
    # key parts
    (document(natural_key=[]), f"{PLACE}.natural_key", "an empty natural key identifies nothing"),
    (document(natural_key=["a", []]), f"{PLACE}.natural_key[1]", "[] is not a key part"),
    (document(natural_key=["a", ["b", 4]]), f"{PLACE}.natural_key[1][1]", "4 is not a key part"),
    (document(natural_key=[""]), f"{PLACE}.natural_key[0]", '"" is not a path'),
    (
        document(natural_key=["author__"], relations=RELATIONS),
        f"{PLACE}.natural_key[0]",
        '"author__" is not a path',
    ),
    (
        document(natural_key=["id|string"]),
        f"{PLACE}.natural_key[0]",
        'no transform "string"; did you mean "str"?',
    ),
    (
        document(natural_key=["number", "autor__username"], relations=RELATIONS),
        f"{PLACE}.natural_key[1]",
        '"autor" is not a relation of documents.document; did you mean "author"?',
    ),
    (
        document(natural_key=["author__boss__username"], relations=RELATIONS),
        f"{PLACE}.natural_key[0]",
        '"boss" is not a relation of users.user',
    ),
    (
        document(natural_key=["readers__username"], relations=RELATIONS),
        f"{PLACE}.natural_key[0]",
        '"readers" of documents.document holds many keys',
    ),
    (
        document(natural_key=["author"], relations=RELATIONS),
        f"{PLACE}.natural_key[0]",
        '"author" ends at a relation',
    ),
    (
        document(embedded={"log": {"to": "users.user"}, "log[].by": {"to": "users.user"}}),
        "models.documents.document.embedded.log",
        'a list at "log" could be a natural key, or the list that "log[]" leads into',
    ),
]


@pytest.mark.parametrize(("text", "place", "what"), FAULTS)
def test_fault(text: str, place: str, what: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Schema.loads(text)
    assert (caught.value.place, caught.value.code) == (place, "FNK110")
    assert what in caught.value.what


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "schema is not JSON: Input data was truncated"),
        ('{"version": 1, "models": {', "schema is not JSON: Input data was truncated"),
        ("{'version': 1}", "schema is not JSON: JSON is malformed"),
        # wrong before it is broken
        ('{"version": "1", "models"', "schema is not JSON: Input data was truncated"),
        (b'{"version": 1, "models": {"\xff": {}}}', "schema is not JSON: 'utf-8' codec"),
        (document(natural_key="X").replace('"X"', "[" * 100_000), "schema is nested too deep"),
    ],
    ids=["empty", "cut", "quotes", "wrong and cut", "not UTF-8", "endless"],
)
def test_not_json(text: str | bytes, what: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Schema.loads(text)
    assert caught.value.what.startswith(what)


def test_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text("{}")
    with pytest.raises(SchemaError, match=r"mine\.json: Object missing") as caught:
        Schema.load(path)
    assert caught.value.place == str(path)
    assert caught.value.remedy is not None
    assert caught.value.remedy.startswith("fastnk schema django")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="no-such") as caught:
        Schema.load(tmp_path / "no-such.json")
    assert str(caught.value).splitlines() == [
        f"FNK110 cannot read the schema {tmp_path / 'no-such.json'}: No such file or directory",
        "  try: fastnk schema django --settings mysite.settings -o schema.json; where there is no"
        " project: fastnk schema infer BACKUP -o schema.json",
    ]


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write the schema"):
        EVERYTHING.save(tmp_path / "no-such" / "schema.json")


def test_of_checks_too() -> None:
    with pytest.raises(SchemaError, match="no model"):
        Schema.of({"a.b": Model(relations={"c": Relation(to="a.c")})})


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ("name", KeyPath((), "name", None)),
        ("id|str", KeyPath((), "id", "str")),
        ("a__b_c__made_at|isoformat", KeyPath(("a", "b_c"), "made_at", "isoformat")),
    ],
)
def test_parse_path(part: str, path: KeyPath) -> None:
    assert parse_path(part) == path


def test_flat_parts() -> None:
    assert list(flat_parts(["a", ["b", ["c", "d"]], "e"])) == ["a", "b", "c", "d", "e"]


def test_target_follows_the_alias_of_the_pk() -> None:
    assert EVERYTHING.target("docs.profile", "pk") == "users.user"
    assert EVERYTHING.target("docs.profile", "user") == "users.user"
    assert EVERYTHING.target("users.user", "pk") is None
    assert EVERYTHING.field_name("users.user", "pk") == "uuid"
    assert EVERYTHING.field_name("users.user", "boss") == "boss"


def test_default_is_left_out_however_it_was_spelled() -> None:
    """Also where the text is equal to the default and not the same object."""
    read = Schema.loads('{"version": 1, "models": {"a.b": {"pk": "id"}}}')
    assert read.dumps() == Schema.of({"a.b": Model()}).dumps()


EDMS = Path(__file__).parents[1] / "examples" / "edms" / "schema.json"


def test_example_is_formatted_by_us() -> None:
    assert Schema.load(EDMS).dumps() == EDMS.read_bytes()


def test_example_knows_what_backups_leave_out() -> None:
    models = Schema.load(EDMS).models
    assert models["contenttypes.contenttype"].natural_key == ["app_label", "model"]
    assert models["auth.permission"].natural_key == [
        "codename",
        "content_type__app_label",
        "content_type__model",
    ]


def test_each_of_many_paths_is_taken_apart_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def steps(path: str) -> list[str]:
        taken.append(path)
        return embedded_steps(path)

    monkeypatch.setattr("fastnk.schema.embedded_steps", steps)
    paths = {f"data.m{number}": Embedded("a.user") for number in range(100)}
    Schema.of({"a.user": Model(), "a.log": Model(embedded=paths)})
    assert 0 < len(taken) <= 5 * len(paths)
