"""Natural keys that methods of the project make, called on instances of a backup's records."""

from __future__ import annotations

import contextlib
import gc
import json
import re
import sqlite3
import uuid
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NoReturn

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections
from django.test.utils import override_settings

from fastnk import LegacyBackupConverter, Policies, UnifiedRestoreManager, verify
from fastnk.django import answers, instances
from fastnk.django.calling import CalledKey, called_keys
from fastnk.django.schema.introspect import schema_from_apps
from fastnk.errors import BackupSyntaxError, FindingsError, OutputError, UsageError
from fastnk.schema import Model, Relation, Schema
from fastnk.source import Source
from tests import databases
from tests.conftest import Project
from tests.test_exact import NATURAL, as_in_django, by_model, dumped, read

APP = "tests.project.exact.untraced"
ALIAS = "sqlite_new"
FAILING = {
    "untraced.asking": "queries the database: the backup has no auth.group",
    "untraced.broken": "raises ValueError: no key today",
    "untraced.careless": "queries the database: the backup has no auth.group",
    "untraced.endless": "calls itself without end",
    "untraced.wordy": "returns a dict, which is no list of key parts",
}
EDITIONS = (
    *("Formatted", "Percent", "Format", "Joined", "Sliced", "Lowered", "Spelled", "Lasting"),
    *("Structured", "Labelled", "Branching", "Typed"),
)


@pytest.fixture(scope="module")
def filled(sqlite: databases.SQLite) -> str:
    """A template with rows of the models whose keys cannot be traced."""
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, APP]):
        sqlite.make_template("template_untraced", fill)
    return "template_untraced"


@pytest.fixture
def project(sqlite: databases.SQLite, filled: str) -> Iterator[Any]:
    """Those models, installed, and the rows."""
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, APP]):
        sqlite.renew(ALIAS, filled)
        yield apps.get_app_config("untraced").models_module


@cache
def schema_of_all() -> Schema:
    """With those models, once they are installed. Tracing their methods again would take long."""
    return schema_from_apps()


def make(model: Any, **values: Any) -> Any:
    return model.objects.using(ALIAS).create(**values)


def fill(alias: str) -> None:
    def make(model: Any, **values: Any) -> Any:
        return model.objects.using(alias).create(**values)

    models: Any = apps.get_app_config("untraced").models_module
    moment = datetime(2024, 2, 29, 23, 59, 59, 123000, tzinfo=UTC)
    made: dict[str, list[Any]] = {}
    for name in EDITIONS:
        one = make(getattr(models, name), code="Ab-1", year=7, at=moment, lasts=timedelta(hours=30))
        facts = {"ö": [1, None, "é\n"]}
        two = make(getattr(models, name), code="Zü ß", year=2024, facts=facts, shift="")
        made[name] = [one, two]
    root = make(models.Branch, name="root")
    leaf = make(models.Branch, name="leaf", parent=make(models.Branch, name="stem", parent=root))
    grown = [
        make(models.Grown, code="g", token=uuid.UUID(int=5), size=3, price="2.00"),
        make(models.Grown, code="h"),
    ]
    account = make(models.Account, email="d@b.c")
    for number, branch in enumerate((leaf, root)):
        shelf = make(
            models.Shelf,
            formatted=made["Formatted"][number],
            joined=made["Joined"][1 - number],
            branch=branch,
            grown=grown[number],
            lasting=made["Lasting"][number],
            account=account,
        )
        shelf.sliced.set(made["Sliced"])
        make(models.Book, shelf=shelf, number=number)
    folders = [make(models.Folder, path=path, name=f"n{path}") for path in ("1", "13", "134", "2")]
    circle = make(models.Circle)
    circle.members.set([make(models.Seen, email=f"{name}@seen") for name in "zyx"])
    for folder in folders[1:]:
        make(models.File, folder=folder, circle=circle, at=moment)
    make(models.Order, customer=make(models.Customer, email="a@b.c"))
    make(models.Party).guests.set([make(models.Fancy, name="f"), make(models.Fancy, name="g")])


def labels() -> list[str]:
    every = apps.get_app_config("untraced").get_models()
    return [model._meta.label for model in every if model._meta.label_lower not in FAILING]


@pytest.fixture
def without_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """No database can be asked any more."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a database was asked")

    for connection in connections.all():
        connection.close()
        monkeypatch.setattr(connection, "connect", refuse)


NULLS = Policies(on_null_key="null")


def convert(backup: str, schema: Schema, **options: Any) -> list[dict[str, Any]]:
    options.setdefault("policies", NULLS)
    return read(LegacyBackupConverter(schema, **options).convert_bytes(backup.encode()).decode())


@pytest.mark.parametrize("style", ["fastnk", "django"])
@pytest.mark.parametrize("turned", [False, True])
def test_converted_is_what_django_dumps(
    project: Any, style: str, turned: bool, request: pytest.FixtureRequest
) -> None:
    backup = dumped(*labels(), alias=ALIAS)
    natural = by_model(read(dumped(*labels(), alias=ALIAS, **NATURAL)))
    if turned:
        backup = json.dumps(read(backup)[::-1], indent=1)
        natural = {label: records[::-1] for label, records in natural.items()}
    request.getfixturevalue("without_connections")
    ours = by_model(convert(backup, schema_of_all(), style=style))
    if style == "fastnk":
        # What leads through a proxy speaks as the record itself does.
        for label in ("untraced.order", "untraced.party"):
            del ours[label], natural[label]
        ours = {label: list(map(as_in_django, records)) for label, records in ours.items()}
    assert ours == natural


def test_record_has_the_key_that_its_method_gives(project: Any) -> None:
    schema = schema_of_all()
    ours = by_model(convert(dumped(*labels(), alias=ALIAS), schema))
    checked = 0
    for model in apps.get_app_config("untraced").get_models():
        label = model._meta.label_lower
        rows = list(model.objects.using(ALIAS).order_by("pk"))
        if label in ours and hasattr(model, "natural_key") and not model._meta.proxy:
            keys = [
                json.loads(json.dumps(row.natural_key(), cls=DjangoJSONEncoder)) for row in rows
            ]
            assert [record["natural_key"] for record in ours[label]] == keys
            checked += len(rows)
    assert checked > 30


def test_what_leads_through_a_proxy_speaks_as_the_record_does(project: Any) -> None:
    ours = by_model(convert(dumped(*labels(), alias=ALIAS), schema_of_all()))
    assert ours["untraced.order"][0]["fields"] == {"customer": ["a@b.c"]}
    assert ours["untraced.party"][0]["fields"] == {"guests": [1, 2]}


@pytest.mark.parametrize("style", ["fastnk", "django"])
def test_conversion_is_proved(project: Any, style: str, tmp_path: Any) -> None:
    backup, natural = tmp_path / "backup.json", tmp_path / "natural.json"
    backup.write_text(dumped(*labels(), alias=ALIAS))
    schema = schema_of_all()
    converter = LegacyBackupConverter(schema, style=style, policies=NULLS)
    report = converter.convert_to_natural_keys(backup, natural)
    assert report.keys_called > 30
    assert verify(backup, natural, schema).faithful


def test_schema_names_the_methods(project: Any) -> None:
    schema = schema_of_all()
    path = f"{APP}.models"
    account, order = schema.models["untraced.account"], schema.models["untraced.order"]
    assert schema.models["untraced.branch"].natural_key_method == f"{path}.Branch.natural_key"
    assert schema.models["untraced.branch"].natural_key is None
    assert account.natural_key == ["email"]
    method = f"{path}.Customer.natural_key"
    assert order.relations["customer"] == Relation("untraced.account", natural_key_method=method)
    guests = Relation("untraced.plain", many=True, natural_key=["name"])
    assert schema.models["untraced.party"].relations == {"guests": guests}
    assert Schema.loads(schema.dumps()) == schema


@pytest.mark.parametrize("label", FAILING)
def test_method_that_fails_is_a_finding(
    project: Any, label: str, without_connections: None
) -> None:
    record = {"model": label, "pk": 5, "fields": {"code": "Ab-1", "year": 7}}
    with pytest.raises(FindingsError) as caught:
        convert(json.dumps([record]), schema_of_all())
    (found,) = caught.value.findings
    assert (found.code, found.place.pk, found.value) == ("FNK307", "5", FAILING[label])
    assert "keep their pks" in str(caught.value)
    keep = Policies(on_unresolved="keep")
    assert convert(json.dumps([record]), schema_of_all(), policies=keep) == [record]


def test_null_in_a_key_is_a_finding(project: Any) -> None:
    fields = {"code": "x", "year": 1, "lasts": None}
    record = {"model": "untraced.lasting", "pk": 5, "fields": fields}
    with pytest.raises(FindingsError, match="FNK305"):
        convert(json.dumps([record]), schema_of_all(), policies=Policies())


def called(schema: Schema, *backups: list[dict[str, Any]]) -> list[CalledKey]:
    sources = [Source(json.dumps(records).encode()) for records in backups]
    return list(called_keys(schema, sources))


def branch(pk: Any, name: str | None, parent: Any = None, **more: Any) -> dict[str, Any]:
    fields = {"parent": parent} if name is None else {"name": name, "parent": parent}
    return {"model": "untraced.branch", "pk": pk, "fields": fields, **more}


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([branch(1, "a", 9)], "refers to untraced.branch 9, which no record has"),
        ([branch(1, "a", ["x"])], 'refers to untraced.branch ["x"], which no record has'),
        ([branch(1, None)], 'needs the field "name", which the record does not hold'),
        ([branch(1, "a", 1)], "calls itself without end"),
    ],
)
def test_why_there_is_no_key(project: Any, records: list[Any], reason: str) -> None:
    (found,) = called(schema_of_all(), records)
    assert (found.pk, found.key, found.reason) == ("1", None, reason)


def test_records_of_other_backups_and_natural_ones_are_found(project: Any) -> None:
    natural = branch(None, "top", natural_key=["top"])
    backup = [branch(1, "a", ["top"]), branch(2, "b", 3), natural]
    keys = [branch(3, "c"), branch(2, "other"), branch(4, "d", 1)]
    found = {one.pk: one.key for one in called(schema_of_all(), backup, keys)}
    assert found == {
        "1": '["top", "a"]',
        "2": '["c", "b"]',
        "3": '["c"]',
        "4": '["top", "a", "d"]',
    }


def test_many_instances_are_not_kept(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "CACHED", 3 * instances.INSTANCE)
    records = [branch(n, f"n{n}", n // 2 or None) for n in range(1, 100)]
    found = called(schema_of_all(), records)
    assert json.loads(found[-1].key or "") == ["n1", "n3", "n6", "n12", "n24", "n49", "n99"]


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("no.such.module.natural_key", "this project has no no.such.module"),
        ("natural_key", 'cannot call "natural_key", which the schema names for untraced.branch'),
        (f"{APP}.models.Nobody.natural_key", "this project has no .*Nobody"),
        (f"{APP}.models.Branch.other", 'Branch has no method "other"'),
        (f"{APP}.models.Edition.natural_key", "Edition is not a class of untraced.branch"),
        (f"{APP}.models.Account.natural_key", "Account is not a class of untraced.branch"),
        ("json.dumps.natural_key", "json.dumps is not a model"),
    ],
)
def test_schema_with_a_method_that_is_not_there(project: Any, method: str, what: str) -> None:
    relations = {"parent": Relation("untraced.branch")}
    model = Model(natural_key_method=method, relations=relations)
    with pytest.raises(UsageError, match=what):
        called(Schema.of({"untraced.branch": model}), [branch(1, "a")])


# ---- one method at a time -----------------------------------------------------------------------


def key_by(
    monkeypatch: pytest.MonkeyPatch, model: Any, method: Any, *backups: list[dict[str, Any]]
) -> dict[str, Any]:
    """By pk: the key that `method`, made one of `model`, gives for its records, or the reason."""
    monkeypatch.setattr(model, "tried", method, raising=False)
    path = f"{model.__module__}.{model.__qualname__}.tried"
    schema = Schema.of({model._meta.label_lower: Model(natural_key_method=path)})
    found = called(schema, *backups)
    assert len({one.pk for one in found}) == len(found)
    return {one.pk: one.reason or json.loads(one.key or "") for one in found}


def names_upwards(node: Any) -> list[str]:
    names = []
    while node is not None:
        names.append(node.name)
        node = node.parent
    return names


def test_circle_that_a_loop_walks(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "MAX_RELATIONS", 50)
    records = [branch(1, "a", 2), branch(2, "b", 1), branch(3, "c"), branch(4, "d", 3)]
    circle = "follows more than 50 relations: they lead in a circle"
    found = key_by(monkeypatch, project.Branch, names_upwards, records)
    assert found == {"1": circle, "2": circle, "3": ["c"], "4": ["d", "c"]}


ASKING = [
    (lambda row: (row.branch_set.count(),), [1]),
    (lambda row: [child.name for child in row.branch_set.all()], ["b"]),
    (lambda row: (type(row).objects.using(ALIAS).get(name="b").parent.name,), ["a"]),
    (lambda row: (Group.objects.using(ALIAS).count(),), "the backup has no auth.group"),
    (lambda row: (ContentType.objects.db_manager(ALIAS).get_for_model(Group).pk,), "no contentty"),
    (lambda row: (row.save(), type(row).objects.create(name="c").pk), [None, None]),
    (lambda row: (row.delete(),), "no untraced.shelf"),
    (lambda row: (row.refresh_from_db(),), ""),
    (lambda row: (connections[ALIAS].cursor().execute("PRAGMA user_version"),), "not authorized"),
    (lambda row: (connections[ALIAS].cursor().execute("SELECT 1 FROM x"),), "x is the table of no"),
    (lambda row: (connections[ALIAS].introspection.table_names(),), "sqlite_master.* prohibited"),
]


@pytest.mark.parametrize(("method", "expected"), ASKING)
def test_open_connections_are_not_used(
    project: Any, monkeypatch: pytest.MonkeyPatch, method: Any, expected: Any
) -> None:
    """Nor what is known from them."""
    kind = ContentType.objects.db_manager(ALIAS).get_for_model(Group)
    with connections[ALIAS].execute_wrapper(unexpected):
        found = key_by(monkeypatch, project.Branch, method, [branch(1, "a"), branch(2, "b", 1)])
    if isinstance(expected, str):
        assert re.search(f"queries the database.*{expected}", found["1"])
    else:
        assert found["1"] == expected
    assert ContentType.objects.using(ALIAS).get(model="group") == kind


def folder(pk: Any, path: str, **more: Any) -> dict[str, Any]:
    fields = {"path": path, "name": f"n{path}"}
    return {"model": "untraced.folder", "pk": pk, "fields": fields, **more}


def test_queries_see_the_records_that_count(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of further backups too, where the backup has none; the last one of two."""

    def all_paths(row: Any) -> list[str]:
        return list(type(row).objects.order_by("pk").values_list("path", flat=True))

    backup = [folder(1, "1"), folder(2, "2"), folder(1, "12")]
    found = key_by(monkeypatch, project.Folder, all_paths, backup, [folder(2, "9"), folder(3, "3")])
    assert found["1"] == ["12", "2", "3"]


def test_queries_that_records_do_not_answer(project: Any) -> None:
    records = [folder(1, "1"), {"model": "untraced.folder", "pk": 2, "fields": {"path": "2"}}]
    found = called(schema_of_all(), records)
    assert (found[0].reason or "").startswith('queries the database: needs the field "name"')


def test_queries_see_records_without_pk(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of Django's natural dumps. Whether another backup has the same ones is not known."""

    def all_pks(row: Any) -> list[Any]:
        return [(one.pk, one.name) for one in type(row).objects.order_by("path")]

    backup = [folder(1, "1"), folder(None, "2")]
    assert key_by(monkeypatch, project.Folder, all_pks, backup) == {"1": [[1, "n1"], [None, "n2"]]}
    found = key_by(monkeypatch, project.Folder, all_pks, backup, [folder(2, "2")])
    reason = "not every untraced.folder has a pk to tell it from those of other backups"
    assert found["1"] == f"queries the database: {reason}"


def test_column_of_today_is_not_guessed(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"model": "untraced.folder", "pk": 1, "fields": {"path": "1"}}]

    def count(row: Any) -> list[int]:
        return [type(row).objects.count()]

    def names(row: Any) -> list[str]:
        return [one.name for one in type(row).objects.all()]

    assert key_by(monkeypatch, project.Folder, count, records) == {"1": [1]}
    found = key_by(monkeypatch, project.Folder, names, records)
    assert found == {"1": "queries the database: no such column: untraced_folder.name"}


def test_no_room_for_the_rows_that_are_asked_for(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no property of the method, which may catch what is raised."""

    def careless(row: Any) -> list[Any]:
        with contextlib.suppress(Exception):
            return [type(row).objects.count()]
        return [0]

    def full(*_: Any) -> NoReturn:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(answers.Answers, "_column", full)
    with pytest.raises(OutputError, match="database or disk is full"):
        key_by(monkeypatch, project.Folder, careless, [folder(1, "1")])


def unexpected(*_: Any) -> None:
    raise AssertionError("a database was asked")


def test_reverse_relation_of_a_child(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"model": "untraced.base", "pk": 1, "fields": {"code": "g"}}
    found = key_by(monkeypatch, project.Base, lambda row: (row.grown.size,), [record])
    assert found == {"1": "queries the database: the backup has no untraced.grown"}


def test_reason_that_a_method_hides(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def hides(row: Any) -> Any:
        try:
            return (row.parent.name,)
        except Exception:
            return ("nobody",)

    found = key_by(monkeypatch, project.Branch, hides, [branch(1, "a", 7), branch(2, "b")])
    assert found == {"1": "refers to untraced.branch 7, which no record has", "2": ["nobody"]}


def test_instances_do_not_hold_each_other(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "CACHED", 9 * instances.INSTANCE)
    gc.collect()  # what other tests left
    alive = []

    def with_parent(row: Any) -> Any:
        if row.pk % 20 == 0:  # to look through all objects takes a while
            alive.append(sum(type(one) is project.Branch for one in gc.get_objects()))
        return (row.name, row.parent.name if row.parent else None)

    records = [branch(n, f"n{n}", n - 1 or None) for n in range(1, 100)]
    assert key_by(monkeypatch, project.Branch, with_parent, records)["99"] == ["n99", "n98"]
    assert 0 < max(alive) < 20


def test_values_are_those_of_the_database(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(row: Any) -> Any:
        return [repr(row.price), f"{row.price:.1f}", f"{row.token.hex[-2:]}", repr(row.base_ptr_id)]

    row = make(project.Grown, code="q", token=uuid.UUID(int=5), size=3, price="2.00")
    backup = read(dumped("untraced.grown", "untraced.base", alias=ALIAS))
    fresh = project.Grown.objects.using(ALIAS).get(pk=row.pk)
    assert key_by(monkeypatch, project.Grown, shown, backup)[str(row.pk)] == shown(fresh)


class Upper(json.JSONDecoder):
    def decode(self, text: str, *_: Any) -> Any:
        return super().decode(text.upper())


def test_decoder_of_a_field(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project.Structured._meta.get_field("facts"), "decoder", Upper)
    make(project.Structured, code="s", facts={"a": ["b"]})
    backup = read(dumped("untraced.structured", alias=ALIAS))
    found = key_by(monkeypatch, project.Structured, lambda row: (row.facts,), backup)
    live = project.Structured.objects.using(ALIAS).get(code="s")
    assert found[str(live.pk)] == [live.facts] == [{"A": ["B"]}]


def test_parent_that_is_missing(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"model": "untraced.grown", "pk": 1, "fields": {"size": 5}}
    missing = "refers to untraced.base 1, which no record has"
    for method in (lambda row: (row.code,), lambda row: (row.base_ptr.code,)):
        assert key_by(monkeypatch, project.Grown, method, [record]) == {"1": missing}
    assert key_by(monkeypatch, project.Grown, lambda row: (row.size,), [record]) == {"1": [5]}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("x", 'needs the field "year", which cannot hold "x"'),
        ("\ud800", r'needs the field "year", which cannot hold "\ud800"'),
    ],
)
def test_value_that_the_field_cannot_hold(
    project: Any, monkeypatch: pytest.MonkeyPatch, value: Any, reason: str
) -> None:
    record = {"model": "untraced.joined", "pk": 1, "fields": {"code": "c", "year": value}}
    assert key_by(monkeypatch, project.Joined, lambda row: (row.code,), [record]) == {"1": ["c"]}
    assert key_by(monkeypatch, project.Joined, lambda row: (row.year,), [record]) == {"1": reason}


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ((), "returns an empty tuple"),
        (None, "returns None, which is no list of key parts"),
        ({"a": 1}, "returns a dict, which is no list of key parts"),
        (({1, 2},), "returns what JSON cannot hold: Object of type set is not JSON serializable"),
        (("\ud800",), "returns what JSON cannot hold: 'utf-8' codec can't encode"),
    ],
)
def test_what_is_no_key(
    project: Any, monkeypatch: pytest.MonkeyPatch, result: Any, reason: str
) -> None:
    found = key_by(monkeypatch, project.Branch, lambda row: result, [branch(1, "a")])
    assert found["1"].startswith(reason)


def test_instance_in_a_key(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own key stands for it."""
    records = [{"model": "untraced.shelf", "pk": 1, "fields": {"branch": 1}}, branch(1, "root")]
    keys = key_by(monkeypatch, project.Shelf, lambda row: (row.pk, (row.branch,)), records)
    assert keys == {"1": [1, [["root"]]]}


# ---- backups of all kinds -----------------------------------------------------------------------


def live_keys(schema: Schema) -> dict[tuple[str, str, str], Any]:
    """By label, method and pk: what each method named in the schema returns for the live rows."""
    keys = {}
    pairs = [(label, model.natural_key_method) for label, model in schema.models.items()]
    for model in schema.models.values():
        pairs += [(one.to, one.natural_key_method) for one in model.relations.values()]
    for label, method in pairs:
        if method is not None and label not in FAILING and label.startswith("untraced."):
            name = method.split(".")[-2]
            for row in apps.get_model("untraced", name).objects.using(ALIAS):
                text = json.dumps(row.natural_key(), cls=DjangoJSONEncoder, ensure_ascii=False)
                keys[label, method, json.dumps(row.pk)] = text
    return keys


def as_they_are(records: list[Any]) -> list[Any]:
    return records


def turned(records: list[Any]) -> list[Any]:
    return records[::-1]


def shuffled(records: list[Any]) -> list[Any]:
    return sorted(records, key=lambda record: hash_of(json.dumps(record)))


def hash_of(text: str) -> int:
    return zlib.crc32(text.encode())


@pytest.mark.parametrize("order", [as_they_are, turned, shuffled])
@pytest.mark.parametrize("natural", [False, True])
def test_keys_are_those_of_the_live_rows(project: Any, natural: bool, order: Any) -> None:
    """Where references are natural keys already, too: only methods can tell whose they are."""
    schema = schema_of_all()
    backup = json.loads(dumped(*labels(), alias=ALIAS, use_natural_foreign_keys=natural))
    expected = live_keys(schema)
    found = {
        (one.label, one.method, one.pk): one.key or one.reason
        for one in called(schema, order(backup))
    }
    assert found == expected
    assert {label for label, _, _ in found} >= {"untraced.shelf", "untraced.account"}


@pytest.mark.parametrize("order", [as_they_are, turned])
def test_natural_records_of_django_are_found(project: Any, order: Any) -> None:
    """They hold neither pk nor natural key."""
    names = [f"n{n}" for n in range(50)]
    tree = [branch(None, name, names[:n] or None) for n, name in enumerate(names)]
    for record in tree:
        del record["pk"]
    (found,) = called(schema_of_all(), order([*tree, branch(7, "leaf", names)]))
    assert (found.pk, json.loads(found.key or "")) == ("7", [*names, "leaf"])


def test_keys_that_wait_for_each_other(project: Any) -> None:
    records = [branch(1, "a", ["b", "a"]), branch(2, "b", ["b", "a", "b"]), branch(3, "c")]
    found = {one.pk: one.key or one.reason for one in called(schema_of_all(), records)}
    assert found == {
        "1": 'refers to untraced.branch ["b", "a"], which no record has',
        "2": 'refers to untraced.branch ["b", "a", "b"], which no record has',
        "3": '["c"]',
    }


def test_which_record_counts(project: Any) -> None:
    """The last one, and the backup's before those that only supply keys."""
    backup = [branch(1, "first"), branch("1", "last"), branch(2, "x", 1), branch(3, "y", "4")]
    more = [branch(1, "more"), branch(4, "four")]
    found = {one.pk: one.key for one in called(schema_of_all(), backup, more, [branch(4, "5")])}
    assert found == {'"1"': '["last"]', "2": '["last", "x"]', "3": '["5", "y"]', "4": '["5"]'}


def test_key_that_a_record_with_a_pk_tells(project: Any) -> None:
    records = [branch(1, "a", 9, natural_key=["ä", 1]), branch(2, "b", ["ä", 1])]
    found = {one.pk: one.key or one.reason for one in called(schema_of_all(), records)}
    unknown = "refers to untraced.branch 9, which no record has"
    assert found == {"1": '["ä", 1]', "2": unknown}


def test_text_that_only_python_reads(project: Any) -> None:
    text = (
        b'[{"model": "untraced.Structured", "pk": "\\u00e4", "fields": {"code": "c",'
        b' "facts": [NaN, 1e400, "\\ud83d\\ude00"], "shift": "\\ud800"}}]'
    )
    (found,) = called_keys(schema_of_all(), [Source(text)])
    assert (found.key, found.reason) == ('["c", [NaN, Infinity, "😀"]]', None)
    assert json.loads(found.pk) == "ä"


def test_backup_that_is_cut_off(project: Any) -> None:
    text = json.dumps([branch(1, "a"), branch(2, "b", 1)]).encode()
    (found,) = called_keys(schema_of_all(), [Source(text[:-20])])
    assert (found.pk, found.key) == ("1", '["a"]')
    with pytest.raises(BackupSyntaxError):
        list(called_keys(schema_of_all(), [Source(text.replace(b"null", b"nil"))]))


CALL = "from fastnk.django.calling import called_keys; list(called_keys(None, []))"


def test_without_a_project(tmp_path: Any) -> None:
    error = Project(tmp_path).error(CALL)
    assert error["code"] == "FNK101"
    assert "Django is not set up" in error["what"]
    assert "--settings" in error["remedy"]


def test_the_project_that_the_environment_names(tmp_path: Any) -> None:
    project = Project(tmp_path)
    project.write("INSTALLED_APPS = ['shop']", shop="")
    named = "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'settings'; "
    called = "from fastnk.django.calling import called_keys; print(json.dumps([*called_keys("
    assert project.run(f"{named}{called}Schema(version=1, models={{}}), [])]))") == []


def test_without_django(tmp_path: Any) -> None:
    error = Project(tmp_path).error(f"sys.modules['django'] = None; {CALL}")
    assert (error["code"], error["remedy"]) == ("FNK102", 'pip install "fastnk[django]"')


# ---- what the schema names ----------------------------------------------------------------------

SHOP = """
    INSTALLED_APPS = ["shop"]
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    """


def test_proxies_of_all_kinds(tmp_path: Any) -> None:
    project = Project(tmp_path)
    project.write(
        SHOP,
        shop="""
        class Item(models.Model):
            code = models.CharField(max_length=9)
            def natural_key(self):
                return (self.shown(),)
            def shown(self):
                return f"i{self.code}"

        class Gift(Item):
            def shown(self):
                return f"g{self.code}"
            class Meta:
                proxy = True

        class Bare(models.Model):
            pass

        class BareProxy(Bare):
            class Meta:
                proxy = True

        class Basket(models.Model):
            item = models.ForeignKey(Item, models.CASCADE)
            gift = models.ForeignKey(Gift, models.CASCADE, related_name="+")
            gifts = models.ManyToManyField(Gift, related_name="+")
            counted = models.ManyToManyField(Gift, through="Count", related_name="+")
            bare = models.ForeignKey(BareProxy, models.CASCADE)

        class Count(models.Model):
            basket = models.ForeignKey(Basket, models.CASCADE)
            gift = models.ForeignKey(Gift, models.CASCADE)
        """,
    )
    models = project.schema().models
    assert models["shop.item"] == Model(
        natural_key_method="shop.models.Item.natural_key", proxies=["shop.gift"]
    )
    gift = Relation("shop.item", natural_key_method="shop.models.Gift.natural_key")
    assert models["shop.basket"].relations == {
        "item": Relation("shop.item"),
        "gift": gift,
        "gifts": Relation("shop.item", many=True, natural_key_method=gift.natural_key_method),
        "counted": Relation("shop.item", many=True, natural_key_method=gift.natural_key_method),
        "bare": Relation("shop.bare"),
    }
    assert models["shop.bare"] == Model(proxies=["shop.bareproxy"])


def test_method_that_no_path_leads_to(tmp_path: Any) -> None:
    project = Project(tmp_path)
    project.write(
        SHOP,
        shop="""
        def make():
            class Item(models.Model):
                code = models.CharField(max_length=9)
                def natural_key(self):
                    return (f"i{self.code}",)
            return Item

        make()
        """,
    )
    error = project.error('schema_from_project("settings")')
    assert (error["code"], error["models"]) == ("FNK111", {"shop.item": 'formats "code"'})


def test_pk_that_a_method_may_not_tell(tmp_path: Any) -> None:
    project = Project(tmp_path)
    key = "def natural_key(self): return (str(self.pk)[:1],)"
    project.write(
        SHOP,
        shop=f"""
        class Numbered(models.Model):
            {key}

        class Named(models.Model):
            code = models.CharField(max_length=9, primary_key=True)
            {key}

        class Detail(models.Model):
            named = models.OneToOneField(Named, models.CASCADE, primary_key=True)
            {key}

        class Special(Numbered):
            {key}
        """,
    )
    kept = {label: model.keep_pk for label, model in project.schema().models.items()}
    assert kept == {
        "shop.detail": False,
        "shop.named": True,
        "shop.numbered": False,
        "shop.special": False,
    }


def test_natural_dump_whose_keys_are_made_by_queries(
    project: Any, sqlite: databases.SQLite
) -> None:
    """Such a dump says neither the keys nor the pks; the rows that exist are asked for theirs."""
    new = "sqlite_old"
    sqlite.renew(new)
    databases.migrate(new)
    project.Folder.objects.using(new).create(pk=50, path="1", name="n1")
    backup = dumped("untraced.Folder", alias=ALIAS, **NATURAL)
    manager = UnifiedRestoreManager(schema_of_all(), database=new)
    for created in (3, 0):
        report = manager.restore_any_format(backup.encode())
        assert (report.created, report.updated, report.weak_keys) == (created, 0, {})
    assert dumped("untraced.Folder", alias=new, **NATURAL) == backup


def names_by_table(row: Any) -> tuple[str, ...]:
    every = {one.pk: one for one in type(row).objects.using(row._state.db)}
    names = [row.name]
    while row.parent_id is not None:
        row = every[row.parent_id]
        names.insert(0, row.name)
    return tuple(names)


def no_key_at_all(row: Any) -> NoReturn:
    raise ValueError("no key today")


@pytest.mark.parametrize(
    ("method", "why"),
    [
        (
            names_by_table,
            'queries the database: refers to untraced.branch ["a"], and no record says that this'
            " is its key",
        ),
        (
            lambda row: (row.name,) if row.pk else (),
            "needs the pk of a record that does not say it",
        ),
        (no_key_at_all, "raises ValueError: no key today; the record does not say its pk"),
    ],
)
def test_natural_dump_whose_keys_cannot_be_made(
    project: Any, sqlite: databases.SQLite, monkeypatch: pytest.MonkeyPatch, method: Any, why: str
) -> None:
    """The method is named, with what it did; with ids the same rows are restored."""
    new = "sqlite_old"
    sqlite.renew(new)
    databases.migrate(new)
    monkeypatch.setattr(project.Branch, "natural_key", method)
    manager = UnifiedRestoreManager(schema_of_all(), database=new)
    natural = [branch(None, "a"), branch(None, "b", ["a"])]
    with pytest.raises(FindingsError) as caught:
        manager.restore_any_format(json.dumps(natural).encode())
    (found,) = caught.value.findings
    assert (found.code, found.place.record) == ("FNK410", 2)
    assert found.what.endswith(f"{APP}.models.Branch.natural_key {why}")
    assert "with ids, without --natural-foreign" in str(caught.value.remedy)
    with_ids = json.dumps([branch(7, "a"), branch(8, "b", 7)]).encode()
    assert manager.restore_any_format(with_ids).created == 2
    assert project.Branch.objects.using(new).get(name="b").parent.name == "a"


def test_what_was_restored_is_what_was_dumped(project: Any, sqlite: databases.SQLite) -> None:
    """From the ids of one database to those of another, by keys that methods make."""
    new = "sqlite_old"
    sqlite.renew(new)
    databases.migrate(new)
    project.Sliced.objects.using(new).create(pk=500, code="in the way")
    natural = by_model(read(dumped(*labels(), alias=ALIAS, **NATURAL)))
    schema = schema_of_all()
    manager = UnifiedRestoreManager(schema, database=new, policies=NULLS)
    backup = dumped(*labels(), alias=ALIAS).encode()
    assert manager.restore_any_format(backup).created == len(json.loads(backup))
    project.Sliced.objects.using(new).get(code="in the way").delete()
    assert by_model(read(dumped(*labels(), alias=new, **NATURAL))) == natural
    again = manager.restore_any_format(backup)
    assert (again.created, again.updated) == (0, 0)
