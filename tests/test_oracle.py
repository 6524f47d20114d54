"""The oracle itself, against expectations written by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastnk.schema import Schema
from tests import jsontext, oracle
from tests.oracle import Found

SCHEMA = Schema.loads(
    b"""{"version": 1, "models": {
    "users.user": {"natural_key": ["username"]},
    "documents.document": {"natural_key": ["number"], "relations": {
        "author": {"to": "users.user"}, "reviewers": {"to": "users.user", "many": true},
        "supersedes": {"to": "documents.document"}}},
    "workflows.state": {"pk": "code", "natural_key": ["code"]},
    "workflows.workflow": {"natural_key": ["document__number", ["kind", "started|isoformat"]],
        "relations": {"document": {"to": "documents.document"},
                      "state": {"to": "workflows.state"},
                      "owner": {"to": "users.user", "to_field": "username"}}},
    "workflows.step": {"natural_key": ["workflow__document__number", "position|str"],
        "relations": {"workflow": {"to": "workflows.workflow"}}},
    "audit.entry": {"relations": {"user": {"to": "users.user"}, "run": {"to": "audit.run"}}},
    "audit.run": {"natural_key": null}
    }}"""
)


def record(model: str, pk: Any, **fields: Any) -> oracle.Record:
    return {"model": model, "pk": pk, "fields": fields}


ANN = record("users.user", 1, username="ann")
BOB = record("users.user", 2, username="bob")
DOC = record("documents.document", 7, number="DOC-1", author=1, reviewers=[2, 1], supersedes=None)


def converted(*records: oracle.Record, **options: Any) -> list[oracle.Record]:
    result = oracle.convert(records, SCHEMA, **options)
    assert result.refused == []
    return result.records


def findings(*records: oracle.Record, **options: Any) -> list[Found]:
    return oracle.convert(records, SCHEMA, **options).findings


def test_relations_and_pk_become_keys_in_place() -> None:
    assert converted(DOC, ANN, BOB)[0] == {
        "model": "documents.document",
        "natural_key": ["DOC-1"],
        "fields": {
            "number": "DOC-1",
            "author": ["ann"],
            "reviewers": [["bob"], ["ann"]],
            "supersedes": None,
        },
    }
    assert list(converted(DOC, ANN, BOB)[0]) == ["model", "natural_key", "fields"]


def test_django_style_leaves_the_pk_out() -> None:
    assert converted(ANN, style="django") == [
        {"model": "users.user", "fields": {"username": "ann"}}
    ]


def test_ids_are_compared_by_their_text() -> None:
    entry = record("audit.entry", 1, user="1")
    assert converted(entry, ANN)[0]["fields"] == {"user": ["ann"]}


def test_numbers_of_one_value_are_ids_of_their_own() -> None:
    users = [
        f'{{"model": "users.user", "pk": {pk}, "fields": {{"username": "{pk}"}}}}'
        for pk in ("1.50", "1.5", "15e-1", "2", "2.0", "-0", "0")
    ]
    for pk in ("1.50", "1.5", "15e-1", "2", "2.0", "-0", "0"):
        entry = f'{{"model": "audit.entry", "pk": 1, "fields": {{"user": {pk}}}}}'
        records = [node.value for node in jsontext.parse_records(f"[{entry}, {', '.join(users)}]")]
        assert converted(*records)[0]["fields"] == {"user": [pk]}


def test_model_without_key_keeps_pk_and_is_kept_as_target() -> None:
    entry = record("audit.entry", 4, user=2, run=99)
    assert converted(entry, BOB)[0] == record("audit.entry", 4, user=["bob"], run=99)


def test_to_field_and_pk_that_is_the_key() -> None:
    state = record("workflows.state", "DRAFT")
    workflow = record(
        "workflows.workflow",
        1,
        document=7,
        state="DRAFT",
        owner="bob",
        kind="REVIEW",
        started="2025-01-02T03:04:05.120Z",
    )
    out = converted(state, workflow, DOC, ANN, BOB)
    assert out[0] == {"model": "workflows.state", "natural_key": ["DRAFT"], "fields": {}}
    assert out[1]["natural_key"] == ["DOC-1", ["REVIEW", "2025-01-02T03:04:05.120000+00:00"]]
    assert out[1]["fields"]["state"] == ["DRAFT"]
    assert out[1]["fields"]["owner"] == ["bob"]


def test_keys_through_two_hops_and_through_a_natural_value() -> None:
    workflow = record("workflows.workflow", 1, document=["DOC-9"], kind="K", started="2025-01-02")
    step = record("workflows.step", 5, workflow=1, position=3)
    other = record("workflows.step", 6, workflow=["DOC-8", ["K", "x"]], position=4)
    out = converted(workflow, step)
    assert out[0]["natural_key"] == ["DOC-9", ["K", "2025-01-02"]]
    assert out[1]["natural_key"] == ["DOC-9", "3"]
    assert out[1]["fields"]["workflow"] == ["DOC-9", ["K", "2025-01-02"]]
    assert converted(other)[0]["natural_key"] == ["DOC-8", "4"]


def test_natural_records_pass_but_for_their_relations() -> None:
    natural = {"model": "documents.document", "natural_key": ["D"], "fields": {"author": 1}}
    assert converted(natural, ANN)[0] == {**natural, "fields": {"author": ["ann"]}}
    bare = {"model": "users.user", "fields": {"username": "eve"}}
    assert converted(bare) == [bare]


def test_keys_supply_rows_and_are_not_output() -> None:
    out = converted(DOC, keys=[ANN, BOB])
    assert [one["fields"]["author"] for one in out] == [["ann"]]


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        ("keep", {"number": "DOC-1", "author": ["ann"], "reviewers": [2, ["ann"]]}),
        ("null", {"number": "DOC-1", "author": ["ann"], "reviewers": [["ann"]]}),
    ],
)
def test_unresolved_id(policy: str, fields: oracle.Record) -> None:
    policies = {"on_unresolved": policy}
    found = Found("FNK301", 1, "documents.document", "7", "reviewers")
    assert findings(DOC, ANN, policies=policies) == [found]
    out = converted(DOC, ANN, policies=policies)
    assert out[0]["fields"] == {**fields, "supersedes": None}


def test_unresolved_id_dropped_with_what_points_at_it() -> None:
    heir = record("documents.document", 8, number="DOC-2", author=2, supersedes=7)
    lone = record("documents.document", 9, number="DOC-3", author=2, supersedes=None)
    out = converted(heir, DOC, lone, BOB, policies={"on_unresolved": "drop"})
    assert [one["natural_key"] for one in out] == [["DOC-3"], ["bob"]]


def test_own_key_that_cannot_be_made_keeps_the_pk_and_references_to_it() -> None:
    workflow = record("workflows.workflow", 1, document=99, kind="K", started="2025-01-02")
    step = record("workflows.step", 5, workflow=1, position=3)
    assert findings(workflow, step) == [
        Found("FNK301", 1, "workflows.workflow", "1", "document"),
        Found("FNK307", 1, "workflows.workflow", "1", None),
        Found("FNK307", 2, "workflows.step", "5", None),
    ]
    assert converted(workflow, step, policies={"on_unresolved": "keep"}) == [workflow, step]


def test_duplicate_pk() -> None:
    again = record("users.user", "1", username="anna")
    assert findings(ANN, again) == [Found("FNK303", 2, "users.user", "1", None)]
    entry = record("audit.entry", 1, user=1)
    out = converted(entry, ANN, again, policies={"on_duplicate_pk": "keep"})
    assert [out[0]["fields"]["user"], out[1]["natural_key"]] == [["anna"], ["ann"]]


def test_duplicate_key_keeps_the_whole_model() -> None:
    records = [ANN, record("users.user", 3, username="ann"), BOB, record("audit.entry", 1, user=2)]
    assert findings(*records) == [Found("FNK304", 2, "users.user", "3", None)]
    assert converted(*records, policies={"on_duplicate_key": "keep"}) == records


@pytest.mark.parametrize("fields", [{"username": None}, {}])
def test_null_key_part(fields: oracle.Record) -> None:
    records = [record("users.user", 3, **fields), BOB, record("audit.entry", 1, user=3)]
    assert findings(*records) == [Found("FNK305", 1, "users.user", "3", None)]
    assert converted(*records, policies={"on_null_key": "keep"}) == records
    out = converted(*records, policies={"on_null_key": "null"})
    assert [out[0]["natural_key"], out[2]["fields"]["user"]] == [[None], [None]]


@pytest.mark.parametrize(("policy", "left"), [("keep", 2), ("drop", 1)])
def test_unknown_model(policy: str, left: int) -> None:
    stranger = record("other.thing", 5, x=1)
    assert findings(BOB, stranger) == [Found("FNK302", 2, "other.thing", "5", None)]
    assert len(converted(BOB, stranger, policies={"on_unknown_model": policy})) == left


def test_duplicate_member() -> None:
    text = '{"model": "users.user", "pk": 1, "pk": 4, "fields": {"username": "a", "username": "b"}}'
    user = jsontext.parse(text)[0].value
    assert [found.field for found in findings(user)] == ["pk", "username"]
    out = converted(user, policies={"on_duplicate_member": "keep"})
    assert out[0]["natural_key"] == ["b"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2025-01-02T03:04:05Z", "2025-01-02T03:04:05+00:00"),
        ("2025-01-02T03:04:05.120Z", "2025-01-02T03:04:05.120000+00:00"),
        ("2025-01-02T03:04:05.000+02:00", "2025-01-02T03:04:05+02:00"),
        ("2025-01-02T03:04:05.123456", "2025-01-02T03:04:05.123456"),
        ("2025-01-02", "2025-01-02"),
        ("03:04:05.5", "03:04:05.500000"),
        (None, None),
    ],
)
def test_isoformat(value: Any, expected: Any) -> None:
    assert oracle.as_isoformat(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", "a"), (12, "12"), (True, "True"), (False, "False"), (None, "None")],
)
def test_str(value: Any, expected: str) -> None:
    assert oracle.as_str(value) == expected


INSIDE = Schema.loads(
    b"""{"version": 1, "models": {
    "users.user": {"natural_key": ["username"]},
    "audit.run": {},
    "audit.log": {"embedded": {
        "old.author": {"to": "users.user"}, "items[].by": {"to": "users.user"},
        "rows[][]": {"to": "users.user", "to_field": "username"},
        "old.run": {"to": "audit.run"}, "run": {"to": "audit.run"}, "who": {"to": "users.user"}},
        "generic_relations": {"target": {"label": "kind", "object_id": "number",
                                         "labels": {"person": "users.user"}}}}
    }}"""
)


def inside(fields: str, *others: oracle.Record, **options: Any) -> oracle.Result:
    """An `audit.log` with such fields, as JSON, in front of the others."""
    log = '{"model": "audit.log", "pk": 1, "fields": ' + fields + "}"
    records = [jsontext.parse(log)[0].value, *(others or (ANN, BOB))]
    return oracle.convert(records, INSIDE, **options)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{"old": {"author": 1, "other": 1}}', '{"old": {"author": ["ann"], "other": 1}}'),
        ('{"old": {"author": "1", "run": 1}}', '{"old": {"author": ["ann"], "run": 1}}'),
        ('{"items": [{"by": 1}, {"by": 2}]}', '{"items": [{"by": ["ann"]}, {"by": ["bob"]}]}'),
        ('{"items": [[{"by": 1}], 1, {"by": null}]}', None),
        ('{"items": {"by": 1}, "old": [{"author": 1}]}', None),
        ('{"rows": [["ann", "bob"], []]}', '{"rows": [[["ann"], ["bob"]], []]}'),
        ('{"old": {"author": ["ann"]}}', None),
        ('{"old": {"author": true}, "rows": [[false, null, "", NaN, {}]]}', None),
        ('{"old": {"author": {"author": 1}}}', None),
        ('{"who": 1}', '{"who": ["ann"]}'),
        ('{"who": "1"}', r'{"who": "[\"ann\"]"}'),
        (r'{"who": "[\"ann\"]"}', None),
        ('{"who": "", "old": "", "run": "5"}', None),
        (
            r'{"old": " {\"\\u00e9\\n\": 1.50, \"author\" : 1, \"caf\u00e9\\\/\": \"\"}"}',
            r'{"old": " {\"\\u00e9\\n\": 1.50, \"author\" : [\"ann\"], \"caf\u00e9\\\/\": \"\"}"}',
        ),
        (
            r'{"old": "{\"author\": 1, \"\\u0061uthor\": \"\\u0032\"}"}',
            r'{"old": "{\"author\": [\"ann\"], \"\\u0061uthor\": [\"bob\"]}"}',
        ),
        (r'{"items": "[{\"by\":\u0031},2]"}', r'{"items": "[{\"by\":[\"ann\"]},2]"}'),
        (r'{"old": "{\"author\": \"\"}", "rows": "null"}', None),
        (r'{"old": {"author": "{\"author\": 1}"}}', None),
    ],
)
def test_ids_inside_fields(old: str, new: str | None) -> None:
    """What is not an id at the end of a path stays, in a text every character of it."""
    result = inside(old, embedded=True, policies={"on_embedded": "keep"})
    assert jsontext.raw_of(result.records[0]["fields"]) == (new or old)
    assert jsontext.raw_of(inside(old).records[0]["fields"]) == old


def test_key_in_a_text_is_spelled_as_in_its_record() -> None:
    user = jsontext.parse(r'{"model": "users.user", "pk": 1, "fields": {"username": "\u00e9\""}}')
    result = inside(r'{"old": "{\"author\": 1}"}', user[0].value, embedded=True)
    fields = jsontext.raw_of(result.records[0]["fields"])
    assert fields == r'{"old": "{\"author\": [\"\\u00e9\\\"\"]}"}'
    assert json.loads(json.loads(fields)["old"]) == {"author": ['é"']}


def test_every_occurrence_of_a_member_inside_a_field_counts() -> None:
    text = '{"author":1, "author": 2}'
    result = inside('{"old": {}}', embedded=True)
    log = {"model": "audit.log", "fields": {"old": None}}
    assert result.spliced(log, "old", text) == '{"author":["ann"], "author": ["bob"]}'


def test_findings_inside_fields() -> None:
    fields = r'{"old": {"author": 9, "run": 9}, "items": "[{", "who": "nobody"}'
    result = inside(fields, embedded=True)
    assert result.refused == [
        Found("FNK312", 1, "audit.log", "1", "items"),
        Found("FNK311", 1, "audit.log", "1", "old.author"),
        Found("FNK311", 1, "audit.log", "1", "who"),
    ]
    assert jsontext.raw_of(result.records[0]["fields"]) == fields
    assert inside(fields).findings == []


def test_ids_inside_fields_of_a_model_that_keeps_its_pks_stay() -> None:
    twin = record("users.user", 2, username="ann")
    keep = {"on_duplicate_key": "keep"}
    result = inside('{"old": {"author": 1}, "who": "9"}', ANN, twin, embedded=True, policies=keep)
    assert [found.code for found in result.findings] == ["FNK304"]
    assert jsontext.raw_of(result.records[0]["fields"]) == '{"old": {"author": 1}, "who": "9"}'


@pytest.mark.parametrize("kind", ["users.user", "users.User", "person"])
def test_generic_relation_by_label(kind: str) -> None:
    fields = f'{{"kind": "{kind}", "number": "1"}}'
    result = inside(fields)
    assert result.records[0]["references"] == {"number": ["ann"]}
    assert jsontext.raw_of(result.records[0]["fields"]) == fields
    assert "references" not in inside(fields, style="django").records[0]


@pytest.mark.parametrize(
    ("kind", "number", "code"),
    [
        ('"Person"', "1", "FNK308"),
        ('"Users.user"', "1", "FNK308"),
        ('""', "1", "FNK308"),
        ("[]", "1", "FNK308"),
        ('"users.user"', "9", "FNK309"),
        ('"audit.run"', "1", "FNK310"),
        ("null", "9", None),
        ('"x"', "null", None),
        ('"x"', '["ann"]', None),
    ],
)
def test_generic_relation_that_leads_nowhere(kind: str, number: str, code: str | None) -> None:
    result = inside(f'{{"kind": {kind}, "number": {number}}}', policies={"on_generic": "keep"})
    assert [(found.code, found.field) for found in result.findings] == (
        [(code, "number")] if code else []
    )
    assert "references" not in result.records[0]


PROXIES = Schema.loads(
    b"""{"version": 1, "models": {
    "users.user": {"natural_key": ["username"]},
    "audit.run": {"relations": {"by": {"to": "users.user"}}},
    "audit.entry": {"relations": {
        "user": {"to": "users.user", "natural_key": ["username", "mail"]},
        "run": {"to": "audit.run", "natural_key": ["name", "by__username"]},
        "last": {"to": "audit.run", "natural_key_method": "audit.models.Last.natural_key"}}}
    }}"""
)


def test_key_of_a_proxy_is_written_in_style_django() -> None:
    user = record("users.user", 1, username="ann", mail="a@b")
    records = [record("audit.entry", 1, user=1, run=3, last=3), user]
    records.append(record("audit.run", 3, name="nightly", by=1))
    called = {("audit.run", "audit.models.Last.natural_key", "3"): ["n", ["ly"]]}
    result = oracle.convert(records, PROXIES, style="django", called=called)
    fields = {"user": ["ann", "a@b"], "run": ["nightly", "ann"], "last": ["n", ["ly"]]}
    assert [one["fields"] for one in result.records] == [
        fields,
        user["fields"],
        {"name": "nightly", "by": ["ann"]},
    ]
    assert result.records[2]["pk"] == 3
    result = oracle.convert(records, PROXIES, called=called)
    assert result.records[0]["fields"] == {"user": ["ann"], "run": 3, "last": 3}


def test_id_without_record_behind_a_proxy() -> None:
    records = [record("audit.entry", 1, run=9), ANN]
    assert oracle.convert(records, PROXIES).findings == []
    found = [Found("FNK301", 1, "audit.entry", "1", "run")]
    assert oracle.convert(records, PROXIES, style="django").findings == found


METHODS = Schema.loads(
    b"""{"version": 1, "models": {
    "users.user": {"natural_key_method": "users.models.User.natural_key"},
    "audit.entry": {"natural_key": ["user__username"],
                    "relations": {"user": {"to": "users.user", "to_field": "code"}}}
    }}"""
)


def test_keys_that_methods_make() -> None:
    records = [
        record("audit.entry", 1, user="A"),
        record("users.user", 1, username="ann", code="A"),
        record("users.user", "2", username="bob", code="B"),
        record("audit.entry", 2, user="B"),
    ]
    method = "users.models.User.natural_key"
    called = {("users.user", method, "1"): ["x", [1]], ("users.user", method, '"2"'): ["y"]}
    result = oracle.convert(records, METHODS, called=called)
    assert result.findings == []
    assert [one["natural_key"] for one in result.records] == [["ann"], ["x", [1]], ["y"], ["bob"]]
    assert [result.records[n]["fields"]["user"] for n in (0, 3)] == [["x", [1]], ["y"]]
    del called["users.user", method, '"2"']
    result = oracle.convert(records, METHODS, called=called)
    assert result.findings == [Found("FNK307", 3, "users.user", "2", None)]
    assert result.records[3]["fields"] == {"user": "B"}


def test_spelling_survives_parsing() -> None:
    text = ' [ {"a" : "caf\\u00e9", "b":[1.50, -0 ,true,null]} ]\n'
    node = jsontext.parse(text)[0]
    assert "".join(jsontext.tokens(text)) == text
    assert node.value == [{"a": "café", "b": [1.5, 0, True, None]}]
    assert jsontext.raw_of(node.value[0]["b"]) == "[1.50, -0, true, null]"
    inner = node.items[0].member("a")
    assert inner is not None
    assert text[inner.start : inner.end] == '"caf\\u00e9"'
