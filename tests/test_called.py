"""Natural keys that methods of the project make, called on instances of a backup's records."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections
from django.test.utils import override_settings

from fastnk import LegacyBackupConverter, Policies, verify
from fastnk.django import calling
from fastnk.django.calling import CalledKey, called_keys
from fastnk.django.introspect import schema_from_apps
from fastnk.errors import FindingsError, UsageError
from fastnk.schema import Model, Relation, Schema
from fastnk.source import Source
from tests import databases
from tests.test_exact import NATURAL, as_in_django, by_model, dumped, read

APP = "tests.project.exact.untraced"
ALIAS = "sqlite_new"
FAILING = {
    "untraced.asking": "queries the database",
    "untraced.broken": "raises ValueError: no key today",
    "untraced.careless": "queries the database",
    "untraced.endless": "calls itself without end",
    "untraced.wordy": "returns 'Ab-1', which is no list of key parts",
}
EDITIONS = (
    *("Formatted", "Percent", "Format", "Joined", "Sliced", "Lowered", "Spelled", "Lasting"),
    *("Structured", "Labelled", "Branching", "Typed"),
)


@pytest.fixture
def project(sqlite: databases.SQLite) -> Iterator[Any]:
    """The models whose keys cannot be traced, installed, and rows of them."""
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, APP]):
        sqlite.renew(ALIAS)
        databases.migrate(ALIAS)
        models = apps.get_app_config("untraced").models_module
        fill(models)
        yield models


def make(model: Any, **values: Any) -> Any:
    return model.objects.using(ALIAS).create(**values)


def fill(models: Any) -> None:
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
        monkeypatch.setattr(type(connection), "connect", refuse)


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
    ours = by_model(convert(backup, schema_from_apps(), style=style))
    if style == "fastnk":
        # What leads through a proxy speaks as the record itself does.
        for label in ("untraced.order", "untraced.party"):
            del ours[label], natural[label]
        ours = {label: list(map(as_in_django, records)) for label, records in ours.items()}
    assert ours == natural


def test_record_has_the_key_that_its_method_gives(project: Any) -> None:
    schema = schema_from_apps()
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
    ours = by_model(convert(dumped(*labels(), alias=ALIAS), schema_from_apps()))
    assert ours["untraced.order"][0]["fields"] == {"customer": ["a@b.c"]}
    assert ours["untraced.party"][0]["fields"] == {"guests": [1, 2]}


@pytest.mark.parametrize("style", ["fastnk", "django"])
def test_conversion_is_proved(project: Any, style: str, tmp_path: Any) -> None:
    backup, natural = tmp_path / "backup.json", tmp_path / "natural.json"
    backup.write_text(dumped(*labels(), alias=ALIAS))
    schema = schema_from_apps()
    converter = LegacyBackupConverter(schema, style=style, policies=NULLS)
    report = converter.convert_to_natural_keys(backup, natural)
    assert report.keys_called > 30
    assert verify(backup, natural, schema).faithful


def test_schema_names_the_methods(project: Any) -> None:
    schema = schema_from_apps()
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
        convert(json.dumps([record]), schema_from_apps())
    (found,) = caught.value.findings
    assert (found.code, found.place.pk, found.value) == ("FNK307", "5", FAILING[label])
    keep = Policies(on_unresolved="keep")
    assert convert(json.dumps([record]), schema_from_apps(), policies=keep) == [record]


def test_null_in_a_key_is_a_finding(project: Any) -> None:
    fields = {"code": "x", "year": 1, "lasts": None}
    record = {"model": "untraced.lasting", "pk": 5, "fields": fields}
    with pytest.raises(FindingsError, match="FNK305"):
        convert(json.dumps([record]), schema_from_apps(), policies=Policies())


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
    (found,) = called(schema_from_apps(), records)
    assert (found.pk, found.key, found.reason) == ("1", None, reason)


def test_records_of_other_backups_and_natural_ones_are_found(project: Any) -> None:
    natural = branch(None, "top", natural_key=["top"])
    backup = [branch(1, "a", ["top"]), branch(2, "b", 3), natural]
    keys = [branch(3, "c"), branch(2, "other"), branch(4, "d", 1)]
    found = {one.pk: one.key for one in called(schema_from_apps(), backup, keys)}
    assert found == {
        "1": '["top", "a"]',
        "2": '["c", "b"]',
        "3": '["c"]',
        "4": '["top", "a", "d"]',
    }


def test_many_instances_are_not_kept(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "CACHED", 2)
    records = [branch(n, f"n{n}", n // 2 or None) for n in range(1, 100)]
    found = called(schema_from_apps(), records)
    assert json.loads(found[-1].key or "") == ["n1", "n3", "n6", "n12", "n24", "n49", "n99"]


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("no.such.module.natural_key", "which this project does not have"),
        (f"{APP}.models.Nobody.natural_key", "which this project does not have"),
        (f"{APP}.models.Branch.other", "no method of the model untraced.branch"),
        (f"{APP}.models.Account.natural_key", "no method of the model untraced.branch"),
        ("json.dumps.natural_key", "no method of the model untraced.branch"),
    ],
)
def test_schema_with_a_method_that_is_not_there(project: Any, method: str, what: str) -> None:
    relations = {"parent": Relation("untraced.branch")}
    model = Model(natural_key_method=method, relations=relations)
    with pytest.raises(UsageError, match=what):
        called(Schema.of({"untraced.branch": model}), [branch(1, "a")])
