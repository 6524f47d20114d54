"""Ids inside fields, and natural keys that methods make: restored into real databases."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from django.conf import settings
from django.core import serializers
from django.core.management import call_command
from django.core.serializers.json import DjangoJSONEncoder
from django.test.utils import override_settings

from fastnk import LegacyBackupConverter, Policies, UnifiedRestoreManager
from fastnk.django.restore.loader import Loader
from fastnk.django.restore.report import RestoreReport
from fastnk.errors import FindingsError, RestoreError, SchemaError
from fastnk.renames import Renames
from fastnk.schema import Embedded, Model, Relation, Schema
from tests import databases
from tests.zoo import Record, tables

APP = "tests.project.inside"
METHOD = f"{APP}.models.Book.natural_key"
PROXY_METHOD = f"{APP}.models.Paperback.natural_key"

AUTHOR, DEVICE = Embedded("inside.author"), Embedded("inside.device")
TAG, LOG, ENTRY = Embedded("inside.tag"), Embedded("inside.log"), Embedded("inside.entry")
MODELS = {
    "inside.author": Model(natural_key=["name"]),
    "inside.device": Model(natural_key=["serial"]),
    "inside.tag": Model(),
    "inside.log": Model(
        embedded={
            "facts.author": AUTHOR,
            "facts.device": DEVICE,
            "facts.tag": TAG,
            "facts.log": LOG,
            "facts.by": Embedded("inside.author", "number"),
            "items[]": AUTHOR,
            "items[].author": AUTHOR,
            "items[].tags[]": TAG,
            "text.author": AUTHOR,
            "text.tags[]": TAG,
            "text.devices[].id": DEVICE,
            "which": AUTHOR,
            "number": AUTHOR,
        }
    ),
    "inside.entry": Model(embedded={"facts.next": ENTRY}),
    "inside.mark": Model(natural_key=["text", "author_id"], embedded={"author_id": AUTHOR}),
    "inside.book": Model(
        natural_key_method=METHOD,
        relations={"author": Relation("inside.author"), "follows": Relation("inside.book")},
    ),
    "inside.copy": Model(
        relations={
            "book": Relation("inside.book"),
            "paperback": Relation("inside.paperback", natural_key_method=PROXY_METHOD),
            "books": Relation("inside.book", many=True),
            "papers": Relation("inside.paperback", many=True, natural_key=["title"]),
        },
        embedded={"facts.book": Embedded("inside.book")},
    ),
    "inside.paperback": Model(natural_key=["title"]),
}
SCHEMA = Schema.of(MODELS)


@pytest.fixture(scope="module", autouse=True)
def _app() -> Iterator[None]:
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, APP]):
        yield


class Pair(NamedTuple):
    """Two databases with the tables of the app."""

    old: str
    new: str


@pytest.fixture(scope="module")
def template(_app: None, server: databases.SQLite | databases.Postgres) -> str:
    """A template that also has the tables of the app."""
    server.make_template("template_inside")
    return "template_inside"


@pytest.fixture
def pair(renew: Callable[..., str], template: str) -> Pair:
    return Pair(renew("old", template), renew("new", template))


@pytest.fixture
def target(renew: Callable[..., str], template: str) -> str:
    """The alias of an empty database with the tables of the app."""
    return renew("new", template)


def manager_of(name: str, alias: str) -> Any:
    from tests.project.inside import models

    return getattr(models, name).objects.using(alias)


def load(alias: str, *records: Record, schema: Schema = SCHEMA) -> RestoreReport:
    return Loader(schema, alias).load(lambda phase: [json.dumps(list(records)).encode()])


def refused(alias: str, *records: Record) -> list[tuple[str, int | None, str | None]]:
    """Code, record and field of the findings; nothing was written."""
    before = tables(alias)
    with pytest.raises(FindingsError) as caught:
        load(alias, *records)
    assert tables(alias) == before
    return [(one.code, one.place.record, one.place.field) for one in caught.value.findings]


def counts(report: RestoreReport) -> tuple[int, int, int]:
    return report.created, report.updated, report.unchanged


def plain(model: str, pk: Any = None, /, **fields: Any) -> Record:
    return {"model": f"inside.{model}", "pk": pk, "fields": fields}


def keyed(model: str, *key: Any, **fields: Any) -> Record:
    return {"model": f"inside.{model}", "natural_key": list(key), "fields": fields}


def log(pk: int, **fields: Any) -> Record:
    rest = {"facts": None, "items": [], "text": "", "which": "", "number": None}
    return plain("log", pk, code=f"log {pk}", **rest | fields)


# ---- ids inside fields -------------------------------------------------------------------------


def ids_in(alias: str) -> dict[str, Any]:
    """The ids of the rows by name."""
    named = {"Author": "name", "Device": "serial", "Tag": "name", "Log": "code"}
    return {
        getattr(row, column): row.pk
        for name, column in named.items()
        for row in manager_of(name, alias).all()
    }


def logs(ids: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What logs hold in the database with these ids."""
    ann, bob, disk = ids["ann"], ids["bob"], str(ids["disk"])
    old, new = ids["old"], ids["new"]
    return {
        "full": {
            "facts": {
                "author": ann,
                "device": disk,
                "tag": new,
                "log": ids["empty"],
                "by": 17,
                "other": [1, {"author": 1}],
            },
            "items": [bob, None, {"author": ann, "tags": [old, new]}, "x", ann, {"author": []}],
            "text": f' {{"a": 1.50, "author" :{bob}, "tags": [{new},\t"{old}"],'
            f' "devices": [{{"id": "{disk}", "é": "\\u00e9"}}, {{}}]}}',
            "which": str(ann),
            "number": bob,
        },
        "empty": {"facts": None, "items": [], "text": "", "which": "", "number": None},
        "odd": {
            "facts": {"author": None, "tag": 987, "log": "none", "device": True},
            "items": {"author": 1},
            "text": "no JSON at all",
            "which": str(bob),
            "number": None,
        },
    }


def held(alias: str) -> dict[str, dict[str, Any]]:
    columns = ("facts", "items", "text", "which", "number")
    return {
        row.code: {column: getattr(row, column) for column in columns}
        for row in manager_of("Log", alias).exclude(code__startswith="stranger")
    }


def fill(alias: str) -> None:
    for number, name in enumerate(("ann", "bob")):
        manager_of("Author", alias).create(name=name, number=17 + number)
    manager_of("Device", alias).create(serial="disk")
    for name in ("old", "new"):
        manager_of("Tag", alias).create(name=name)
    for code in ("full", "empty", "odd"):
        manager_of("Log", alias).create(code=code)
    for code, values in logs(ids_in(alias)).items():
        manager_of("Log", alias).filter(code=code).update(**values)


def settle_strangers(alias: str) -> None:
    """Other rows with the ids that the backup has, and one that the backup has too."""
    for name in ("zed", "yan", "bob"):
        manager_of("Author", alias).create(name=name)
    for name in ("a", "b", "c"):
        manager_of("Tag", alias).create(name=name)
    for number in range(3):
        manager_of("Log", alias).create(code=f"stranger {number}")


def dumped(alias: str) -> bytes:
    out = io.StringIO()
    call_command("dumpdata", "inside", database=alias, stdout=out)
    return out.getvalue().encode()


@pytest.mark.parametrize("order", [1, -1])
def test_ids_inside_fields_are_those_of_the_target(pair: Pair, order: int) -> None:
    fill(pair.old)
    settle_strangers(pair.new)
    backup = json.dumps(json.loads(dumped(pair.old))[::order]).encode()
    options: dict[str, Any] = {"embedded": True, "policies": Policies(on_embedded="keep")}
    converted = LegacyBackupConverter(SCHEMA, **options).convert_bytes(backup)
    assert b'\\"author\\" :[\\"bob\\"]' in converted

    manager = UnifiedRestoreManager(SCHEMA, database=pair.new, **options)
    report = manager.restore_any_format(backup)
    ids = ids_in(pair.new)
    before = ids_in(pair.old)
    assert not [name for name in before if ids[name] == before[name]]
    assert held(pair.new) == logs(ids)
    assert held(pair.old) == logs(before)
    assert json.dumps(held(pair.new), sort_keys=True) == json.dumps(logs(ids), sort_keys=True)

    tables_before = tables(pair.new)
    for again in (backup, converted):
        assert manager.restore_any_format(again).unchanged == report.records
    without_option = UnifiedRestoreManager(SCHEMA, database=pair.new)
    assert without_option.restore_any_format(converted).unchanged == report.records
    assert tables(pair.new) == tables_before


@pytest.mark.parametrize("rows", [range(1, 4), range(3, 0, -1)])
def test_rows_that_only_their_content_tells_are_found_again(target: str, rows: range) -> None:
    """A chain of entries and a ring, where each holds the pk of the next."""
    for _ in range(6):
        manager_of("Entry", target).create(facts={"name": "stranger"})
    chain = [plain("entry", pk, facts={"name": f"n{pk}", "next": pk + 1}) for pk in rows]
    end = plain("entry", 4, facts={"name": "end", "next": None})
    ring = [plain("entry", pk, facts={"name": f"r{pk}", "next": 11 - pk}) for pk in (5, 6)]
    assert counts(load(target, *chain, *ring, end)) == (6, 0, 0)
    entries = {row.pk: row.facts for row in manager_of("Entry", target).all()}
    nexts = {
        facts["name"]: entries[facts["next"]]["name"]
        for facts in entries.values()
        if facts.get("next")
    }
    assert nexts == {"n1": "n2", "n2": "n3", "n3": "end", "r5": "r6", "r6": "r5"}
    assert counts(load(target, *chain, *ring, end)) == (0, 0, 6)


@pytest.mark.parametrize("path", ["number", "facts.tag"])
def test_no_new_row_gets_an_id_that_leads_nowhere(target: str, path: str) -> None:
    """As a history has those of rows that are gone."""
    manager_of("Tag", target).create(pk=1, name="stranger")
    schema = Schema.of({**MODELS, "inside.log": Model(embedded={path: TAG})})
    logs = [log(pk, facts={"tag": pk}, number=pk) for pk in (1, 2)]
    backup = [plain("tag", 1, name="a"), *logs]
    assert counts(load(target, *backup, schema=schema)) == (3, 0, 0)
    now = [
        row.number if path == "number" else row.facts["tag"]
        for row in manager_of("Log", target).order_by("code")
    ]
    tags = {row.name: row.pk for row in manager_of("Tag", target).all()}
    assert now == [tags["a"], 2]
    assert tags == {"stranger": 1, "a": 3}
    assert counts(load(target, *backup, schema=schema)) == (0, 0, 3)


def test_an_id_inside_the_natural_key(target: str) -> None:
    manager_of("Author", target).create(name="zed")
    ann = keyed("author", "ann", name="ann")
    mark = keyed("mark", "x", 1, text="x", author_id=["ann"])
    assert counts(load(target, mark, ann)) == (2, 0, 0)
    assert manager_of("Mark", target).get().author_id == manager_of("Author", target).last().pk
    assert counts(load(target, mark, ann)) == (0, 0, 2)


def test_keys_of_rows_that_only_the_database_has(target: str) -> None:
    ann = manager_of("Author", target).create(name="ann", number=4)
    load(target, log(1, facts={"author": ["ann"], "by": ["ann"]}, which=' ["ann"] '))
    row = manager_of("Log", target).get()
    assert (row.facts, row.which) == ({"author": ann.pk, "by": 4}, str(ann.pk))


def test_keys_that_nothing_answers_are_findings(target: str) -> None:
    before = log(1, facts={"author": ["ann"], "device": ["a", "b"]}, number=["x"], which='["y"]')
    assert refused(target, before, log(2, text='{"author": ["z"]}', items=[["q"], []])) == [
        ("FNK410", 1, "facts.author"),
        ("FNK410", 1, "facts.device"),
        ("FNK410", 1, "which"),
        ("FNK410", 1, "number"),
        ("FNK410", 2, "items[]"),
        ("FNK410", 2, "text.author"),
    ]


def test_what_is_no_key_stays(target: str) -> None:
    facts = {"author": [], "tag": [1, 2], "log": 5, "device": "none", "by": True}
    text = '{"tags": [[1], 2, {"author": 1}], "author": {"author": [1]}}'
    load(target, log(1, facts=facts, text=text), log(2, text='{"author": ["ann"]'))
    kept = manager_of("Log", target).get(code="log 1")
    assert (kept.facts, kept.text) == (facts, text)
    assert manager_of("Log", target).get(code="log 2").text == '{"author": ["ann"]'


def test_a_value_that_the_column_does_not_take_is_a_finding(target: str) -> None:
    models = {**MODELS, "inside.log": Model(embedded={"number": DEVICE})}
    device = keyed("device", "disk", serial="disk")
    with pytest.raises(FindingsError) as caught:
        load(target, device, log(1, number=["disk"]), schema=Schema.of(models))
    assert [one.code for one in caught.value.findings] == ["FNK413"]
    assert not manager_of("Device", target).exists()


def test_a_field_that_the_project_does_not_have_is_an_error_of_the_schema(target: str) -> None:
    to = Embedded("inside.author", "nickname")
    models = {**MODELS, "inside.log": Model(embedded={"facts.author": to})}
    with pytest.raises(SchemaError, match="nickname"):
        load(target, log(1), schema=Schema.of(models))


# ---- natural keys that methods make ------------------------------------------------------------


def add_book(alias: str, title: str, author: Any = None, **more: Any) -> Any:
    return manager_of("Book", alias).create(title=title, author=author, day="2020-02-03", **more)


def book(title: str, author: str | None = None, **fields: Any) -> Record:
    """The record of a book as `add_book` makes it."""
    rest = {"author": author and [author], "day": "2020-02-03", "price": "1.50"}
    key = (title.upper(), [author, "2020-02-03"], "1.50")
    return keyed("book", *key, title=title, **rest | fields)


def in_fastnk_style(alias: str) -> list[Record]:
    """The books and copies as Django's serializer spells references, beside their own keys."""
    result = []
    for name in ("Author", "Book", "Copy"):
        rows = list(manager_of(name, alias).order_by("pk"))
        text = serializers.serialize(
            "json", rows, use_natural_foreign_keys=True, use_natural_primary_keys=True
        )
        for row, record in zip(rows, json.loads(text), strict=True):
            if hasattr(row, "natural_key"):
                key = json.loads(json.dumps(row.natural_key(), cls=DjangoJSONEncoder))
                record["natural_key"] = key
            result.append(record)
    return result


@pytest.mark.parametrize("says_keys", [True, False])
@pytest.mark.parametrize("order", [1, -1])
def test_rows_are_matched_by_the_keys_that_methods_make(
    pair: Pair, order: int, says_keys: bool
) -> None:
    """Records say them as fastnk writes them, and do not as Django does."""
    ann = manager_of("Author", pair.old).create(name="ann")
    first = add_book(pair.old, "first", ann)
    second = add_book(pair.old, "second", follows=first)
    manager_of("Copy", pair.old).create(book=second).books.set([first, second])
    backup = in_fastnk_style(pair.old)[::order]
    backup.append(plain("copy", 9, book=backup[order]["natural_key"], facts={}, books=[]))
    backup[-1]["fields"] |= {"book": first_key(), "facts": {"book": first_key(), "x": 1}}
    if not says_keys:
        for record in backup:
            record.pop("natural_key", None)

    add_book(pair.new, "stranger")
    there = add_book(pair.new, "first", manager_of("Author", pair.new).create(name="ann"))
    assert counts(load(pair.new, *backup)) == (3, 0, 2)
    copy = manager_of("Copy", pair.new).get(books__title="second")
    assert (copy.book.title, copy.book.follows_id) == ("second", there.pk)
    assert sorted(copy.books.values_list("title", flat=True)) == ["first", "second"]
    last = manager_of("Copy", pair.new).get(pk=9)
    assert (last.book_id, last.facts) == (there.pk, {"book": there.pk, "x": 1})
    assert copy.book.pk != second.pk
    assert counts(load(pair.new, *backup)) == (0, 0, 5)


def first_key() -> list[Any]:
    return ["FIRST", ["ann", "2020-02-03"], "1.50"]


def test_a_method_that_fails_on_a_row_of_the_database_is_named(target: str) -> None:
    broken = add_book(target, "broken")
    what = rf"inside.book {broken.pk} .*Book.natural_key raises LookupError: no key today"
    with pytest.raises(RestoreError, match=what):
        load(target, book("first"))
    assert manager_of("Book", target).count() == 1


def test_two_rows_with_the_same_made_key(target: str) -> None:
    add_book(target, "first")
    add_book(target, "FIRST")
    copy = plain("copy", 1, book=["FIRST", [None, "2020-02-03"], "1.50"])
    assert refused(target, book("first")) == [("FNK414", 1, None)]
    assert refused(target, copy) == [("FNK414", 1, "book")]


def test_two_records_with_the_same_made_key(target: str) -> None:
    """The method's key does not tell them apart, so their content does."""
    records = book("first"), book("First")
    report = load(target, *records)
    assert counts(report) == (2, 0, 0)
    assert report.weak_keys.keys() == {"inside.book"}
    assert counts(load(target, *records)) == (0, 0, 2)


@pytest.mark.parametrize(
    ("title", "what"),
    [
        ("broken", "raises LookupError: no key today; the record does not say its pk"),
        ("numbered", "needs the pk of a record that does not say it"),
    ],
)
def test_a_key_that_no_record_says_and_no_method_makes(target: str, title: str, what: str) -> None:
    record = plain("book", title=title, author=None, day="2020-02-03")
    assert counts(load(target, record)) == (1, 0, 0)
    report = load(target, record)
    assert counts(report) == (0, 0, 1)
    why = "record 1 does not say it, and tests.project.inside.models.Book.natural_key"
    assert report.weak_keys["inside.book"] == f"{why} {what}"


@pytest.mark.parametrize("says_its_key", [True, False])
def test_references_by_key_where_another_record_has_none(target: str, says_its_key: bool) -> None:
    """As a conversion leaves it that was told to keep the ids of what has no key."""
    add_book(target, "other")
    first = book("first") if says_its_key else book("first") | {"natural_key": None}
    broken = plain("book", 7, title="broken", author=None, day="2020-02-03")
    key = ["FIRST", [None, "2020-02-03"], "1.50"]
    records = plain("copy", 1, book=key), first, broken, plain("copy", 2, book=7)
    report = load(target, *records)
    assert (counts(report), report.weak_keys.keys()) == ((4, 0, 0), {"inside.book"})
    titles = manager_of("Copy", target).order_by("id").values_list("book__title", flat=True)
    assert list(titles) == ["first", "broken"]
    assert counts(load(target, *records)) == (0, 0, 4)
    other = plain("copy", 3, book=["OTHER", *key[1:]])
    assert refused(target, *records, other) == [("FNK410", 5, "book")]


def test_methods_are_not_called_on_records_under_other_names(target: str) -> None:
    record = plain("book", name="first", author=None, day="2020-02-03", price="1.50")
    loader = Loader(SCHEMA, target, renames=Renames({"inside.book.name": "inside.book.title"}))
    report = loader.load(lambda phase: [json.dumps([record]).encode()])
    assert counts(report) == (1, 0, 0)
    assert "cannot be called" in report.weak_keys["inside.book"]


@pytest.mark.parametrize("old", ["inside.note", "inside.device.code"])
def test_methods_are_called_where_only_what_they_do_not_look_at_is_renamed(
    target: str, old: str
) -> None:
    first = plain("book", title="first", author=None, day="2020-02-03", price="1.50")
    copy = plain("copy", 1, book=["FIRST", [None, "2020-02-03"], "1.50"])
    renamed = {"inside.note": "inside.tag", "inside.device.code": "inside.device.serial"}
    others = [plain("note", 3, name="x"), keyed("device", "S1", code="S1")]
    other = next(one for one in others if old.startswith(one["model"]))
    for created in (3, 0):
        loader = Loader(SCHEMA, target, renames=Renames({old: renamed[old]}))
        backup = json.dumps([first, copy, other]).encode()
        report = loader.load(lambda phase, backup=backup: [backup])
        assert (report.created, report.weak_keys) == (created, {})


def test_methods_are_called_on_records_of_which_a_field_is_excluded(target: str) -> None:
    first = plain("book", title="first", author=None, day="2020-02-03", price="1.50", follows="?")
    copy = plain("copy", 1, book=["FIRST", [None, "2020-02-03"], "1.50"])
    for created in (2, 0):
        loader = Loader(SCHEMA, target, renames=Renames(exclude={"inside.book.follows"}))
        report = loader.load(lambda phase: [json.dumps([first, copy]).encode()])
        assert (report.created, report.weak_keys) == (created, {})
        assert report.excluded == {"inside.book.follows": 1}


def test_what_is_no_made_key_is_a_finding(target: str) -> None:
    wrong = {**book("first"), "natural_key": "FIRST"}
    assert refused(target, wrong) == [("FNK416", 1, None)]


def test_a_made_key_with_ids_in_it_is_refused(target: str) -> None:
    """The row would not be found again: each restore would add another one."""
    add_book(target, "first")
    numbered = book("numbered")
    numbered["natural_key"][0] = "by number 0"
    with pytest.raises(RestoreError, match=r'"by number \d+".*"by number 0"'):
        load(target, numbered)
    assert manager_of("Book", target).count() == 1


def test_a_method_that_the_project_does_not_have_is_an_error_of_the_schema(target: str) -> None:
    models = {**MODELS, "inside.book": Model(natural_key_method=METHOD + "s")}
    models["inside.copy"] = Model()
    with pytest.raises(SchemaError, match="natural_keys"):
        load(target, book("first"), schema=Schema.of(models))


def test_keys_of_proxies_are_told_from_those_of_models(target: str) -> None:
    """What Django writes is the proxy's key, what fastnk writes is the model's."""
    add_book(target, "first")
    key = ["FIRST", [None, "2020-02-03"], "1.50"]
    as_django = plain("copy", 1, book=key, paperback=["first"], papers=[["first"]])
    assert sorted(refused(target, as_django)) == [
        ("FNK410", 1, "paperback"),
        ("FNK410", 1, "papers"),
    ]
    as_fastnk = plain("copy", 1, book=key, paperback=key, papers=[key])
    assert counts(load(target, as_fastnk, book("first"))) == (1, 0, 1)
    copy = manager_of("Copy", target).get()
    assert copy.paperback_id == copy.papers.get().pk == copy.book_id
