"""What a restore does with rows that exist, rights, secrets, unique columns and odd values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core import serializers
from django.core.exceptions import ValidationError
from django.db import Error, connections, transaction
from django.db.models import QuerySet, signals
from msgspec import structs

import fastnk
from fastnk import errors
from fastnk.cli import main
from fastnk.cli.restore import _default as default_of_word
from fastnk.django.restore import discretion, findings
from fastnk.django.restore.checking import Look, Phases
from fastnk.django.restore.discretion import NOT_SHOWN, reason
from fastnk.django.restore.report import Default, Difference, RestoreOptions, RestoreReport
from fastnk.django.restore.values import pk_range
from fastnk.errors import MAX_DEPTH, BackupSyntaxError, FindingsError, RestoreError, UsageError
from fastnk.schema import Schema
from tests.project.exact import models as exact
from tests.project.zoo import models as zoo
from tests.test_restore import counts, keeper, keyed, load, record, refused
from tests.zoo import project_schema, put, rows, tables

KEEP = RestoreOptions(on_existing="keep")
ERROR = RestoreOptions(on_existing="error")
IGNORE = RestoreOptions(ignore_nonexistent=True)
NULL = RestoreOptions(on_dangling="null")
DROP = RestoreOptions(on_dangling="drop", verify=True)
LAST = RestoreOptions(last_counts=True, verify=True)


def restored(alias: str, *records: Any, **options: Any) -> RestoreReport:
    return load(alias, list(records), project_schema(), **options)


def vault(name: str, **fields: Any) -> dict[str, Any]:
    return keyed("zoo.vault", name, name=name, **fields)


def encoded(records: list[dict[str, Any]]) -> bytes:
    return json.dumps(records).encode()


def user(name: str, **fields: Any) -> dict[str, Any]:
    plain = {"password": "!", "date_joined": "2001-02-03T04:05:06Z", "username": name}
    return keyed("auth.user", name, **plain | fields)


# Rows that exist


def test_what_records_hold_tells_rows_of_whose_pks_they_do_not_say(new: str) -> None:
    hot, cold = (
        {"model": "zoo.reading", "fields": {"sensor": ["s1"], "celsius": celsius}}
        for celsius in (30.5, -2.5)
    )
    sensor = keyed("zoo.sensor", "s1", serial="s1")
    verified = RestoreOptions(verify=True)
    assert restored(new, sensor, hot, hot, options=verified).created == 3
    report = restored(new, sensor, hot, hot, cold, options=verified)
    assert (report.created, report.unchanged) == (1, 3)
    assert [row.celsius for row in rows(zoo.Reading, new).order_by("celsius")] == [-2.5, 30.5, 30.5]


def test_fields_that_count_as_equal_hold_their_own_values(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So do those that a field makes for a model beside itself, with numbers of its own.
    name, small = (zoo.Vault._meta.get_field(name) for name in ("name", "small"))
    monkeypatch.setattr(small, "creation_counter", name.creation_counter)
    restored(new, vault("a", small=3), options=RestoreOptions(verify=True))
    assert [(row.name, row.small) for row in rows(zoo.Vault, new)] == [("a", 3)]


def test_rows_that_exist_are_kept_or_refused_on_request(new: str) -> None:
    restored(new, vault("a", small=1), vault("b", small=1))
    changed = [vault("a", small=2), vault("b", small=1), vault("c", small=3)]
    report = restored(new, *changed, options=KEEP)
    assert (report.created, report.updated, report.unchanged, report.kept) == (1, 0, 1, 1)
    assert {row.name: row.small for row in rows(zoo.Vault, new)} == {"a": 1, "b": 1, "c": 3}
    found = refused(new, changed, schema=project_schema(), options=ERROR)
    assert found == [("FNK419", 1, None)]
    assert restored(new, changed[1], options=ERROR).unchanged == 1


def test_whatever_a_field_raises_is_a_refusal(new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def to_python(field: Any, value: Any) -> Any:
        raise KeyError(f"no {value}")

    monkeypatch.setattr(zoo.SecretField, "to_python", to_python)
    with pytest.raises(FindingsError) as caught:
        restored(new, vault("a"), vault("b", content="key"))
    (found,) = caught.value.findings
    assert (found.code, found.place.field) == ("FNK413", "content")
    assert "KeyError: 'no key'" in found.what


def guides(alias: str) -> dict[str, list[str]]:
    """Of each tour, in the order that the table says."""
    links = rows(zoo.Tour.guides.through, alias).order_by("tour__name", "place")
    told = links.values_list("tour__name", "keeper__name", "place", "since")
    assert all(since == date(2020, 1, 1) for *_, since in told)
    assert len({(tour, place) for tour, _, place, _ in told}) == len(told)
    tours = groupby(told, key=itemgetter(0))
    return {tour: [name for _, name, *_ in links] for tour, links in tours}


def test_many_in_an_order_of_their_own(new: str) -> None:
    """Some fields give their table a column for it, of which backups say nothing."""
    staff = [keeper(name) for name in "abc"]

    def tour(name: str, *names: str) -> dict[str, Any]:
        return keyed("zoo.tour", name, name=name, guides=[[one] for one in names])

    restored(new, *staff, tour("long", "c", "a", "b"), tour("short", "b", "a"), tour("none"))
    assert guides(new) == {"long": ["c", "a", "b"], "short": ["b", "a"]}
    again = restored(new, tour("long", "c", "a", "b"), tour("short", "a", "b"), tour("none", "c"))
    assert (again.updated, again.unchanged) == (2, 1)
    assert guides(new) == {"long": ["c", "a", "b"], "none": ["c"], "short": ["a", "b"]}
    assert restored(new, tour("long", "b", "c"), options=KEEP).kept == 1
    assert restored(new, tour("long", "b", "c"), options=RestoreOptions(verify=True)).verified
    assert guides(new)["long"] == ["b", "c"]


def truck(pk: int, plate: str, load: int) -> list[dict[str, Any]]:
    return [record("zoo.vehicle", pk, plate=plate), record("zoo.truck", pk, load=load)]


def test_parents_without_keys_are_told_by_their_children_too(new: str) -> None:
    """A row that says next to nothing is like anybody's."""
    put(new, zoo.Vehicle, id=5, plate="")
    put(new, zoo.Truck, vehicle_ptr_id=5, load=1)
    put(new, zoo.Vehicle, id=6, plate="")
    backup = [*truck(5, "", 9), *truck(6, "", 8), *truck(7, "", 1)]
    report = restored(new, *backup)
    assert (report.created, report.updated, report.unchanged) == (6, 0, 0)
    loads = sorted(row.load for row in rows(zoo.Truck, new))
    assert loads == [1, 1, 8, 9]
    assert zoo.Truck.objects.using(new).get(pk=5).load == 1
    assert not zoo.Truck.objects.using(new).filter(pk=6)
    before = tables(new)
    again = restored(new, *backup)
    assert (again.created, again.updated, again.unchanged) == (0, 0, 6)
    assert tables(new) == before


def test_parents_without_keys_are_those_of_children_with_keys(new: str) -> None:
    put(new, exact.Vehicle, id=4, wheels=6)
    put(new, exact.Vehicle, id=5, wheels=4)
    put(new, exact.Truck, vehicle_ptr_id=5, plate="A")
    backup = [record("exact.vehicle", 4, wheels=6), record("exact.truck", 4, plate="A")]
    report = restored(new, *backup)
    assert (report.created, report.updated, report.unchanged) == (0, 1, 1)
    assert [(row.pk, row.wheels) for row in rows(exact.Vehicle, new)] == [(4, 6), (5, 6)]
    assert [(row.pk, row.plate) for row in rows(exact.Truck, new)] == [(5, "A")]
    again = restored(new, *backup)
    assert (again.created, again.updated, again.unchanged) == (0, 0, 2)


def test_a_relation_that_is_a_pk_stays_or_is_refused(new: str) -> None:
    for name in ("one", "two"):
        holder = User.objects.using(new).create(username=name)
        put(new, exact.Profile, user_id=holder.pk, biography="")
    put(new, exact.Passport, profile_id=holder.pk, number="A")
    backup = [
        keyed("exact.profile", "one", biography="", user=["one"]),
        keyed("exact.passport", "A", number="A", profile=["one"]),
    ]
    before = tables(new)
    assert refused(new, backup, schema=project_schema()) == [("FNK417", 2, "profile")]
    report = restored(new, *backup, options=KEEP)
    assert (report.created, report.updated, report.unchanged) == (0, 0, 1)
    assert report.models["exact.passport"].kept == 1
    assert tables(new) == before


def test_in_json_true_is_not_one_and_order_does_not_matter(new: str) -> None:
    restored(new, vault("a", data={"x": 1, "y": [True]}))
    assert restored(new, vault("a", data={"y": [True], "x": 1.0})).unchanged == 1
    for data in ({"x": True, "y": [True]}, {"x": True, "y": [1]}, [], {}, {"x": "1"}):
        assert restored(new, vault("a", data=data)).updated == 1
        assert repr(rows(zoo.Vault, new).get().data) == repr(data)
        assert restored(new, vault("a", data=data)).unchanged == 1


def test_values_nested_as_deep_as_a_conversion_takes_them(new: str) -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    backup = json.dumps([vault("a", data={}), vault("b", data="deep")]).replace('"deep"', deep)
    report = fastnk.restore(backup.encode(), project_schema(), database=new, dry_run=True)
    assert report.created == 2


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 200])
def test_keys_that_no_row_can_have_are_told_as_in_small_tables(
    new: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored(new, vault("a"), vault("b"))
    outcomes: list[Any] = []
    for most_read in (0, 50_000):
        monkeypatch.setattr("fastnk.django.restore.existing.MOST_READ", most_read)
        try:
            outcomes.append(restored(new, vault("a"), vault(name), dry_run=True).created)
        except FindingsError as error:
            outcomes.append([(one.code, one.place.field) for one in error.findings])
    assert outcomes[0] == outcomes[1]


def test_rows_that_the_backup_does_not_know_are_counted(new: str) -> None:
    restored(new, vault("a"), vault("b"))
    report = restored(new, vault("b"), vault("c"))
    assert report.models["zoo.vault"].unknown_rows == 1
    assert report.rows_present == 2
    assert sorted(row.name for row in rows(zoo.Vault, new)) == ["a", "b", "c"]


def test_differences_are_told_but_for_secrets(new: str) -> None:
    restored(new, vault("a", small=1, api_token="one"))
    records = [vault("a", small=2, api_token="two")]
    report = restored(new, *records, dry_run=True, options=RestoreOptions(diff=True))
    assert sorted(report.differences, key=lambda one: one.field) == [
        Difference("zoo.vault", '["a"]', "api_token", "(not shown)", "(not shown)"),
        Difference("zoo.vault", '["a"]', "small", 1, 2),
    ]
    assert rows(zoo.Vault, new).get().small == 1


def test_a_reference_to_a_row_that_is_yet_to_be_made_is_told_by_its_natural_key(new: str) -> None:
    restored(new, keeper("anna"))
    records = [keeper("anna", mentor=["bela"]), keeper("bela")]
    report = restored(new, *records, dry_run=True, options=RestoreOptions(diff=True))
    assert report.differences == [
        Difference("zoo.keeper", '["anna"]', "mentor", None, 'the new row ["bela"]')
    ]


# Rights


def test_changes_of_rights_have_a_section(new: str) -> None:
    restored(new, user("anna", is_staff=False, groups=[]), user("bela"))
    permission = rows(Permission, new).filter(codename="add_animal").get().natural_key()
    group = keyed("auth.group", "vets", name="vets", permissions=[list(permission)])
    anna = user("anna", is_staff=True, groups=[["vets"]])
    report = restored(new, group, anna, user("bela"), user("carl", is_superuser=True))
    told = {(one.model, one.row, one.change) for one in report.privileges}
    assert told == {
        ("auth.group", '["vets"]', "1 of permissions, as a new row"),
        ("auth.user", '["anna"]', "is_staff: False -> True"),
        ("auth.user", '["anna"]', "groups: 1 more, 0 less"),
        ("auth.user", '["carl"]', "is_superuser, as a new row"),
    }
    assert rows(User, new).get(username="anna").groups.get() == rows(Group, new).get()
    assert restored(new, group, anna).privileges == []


@pytest.fixture
def unique_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """The content of a vault is unique, which Django 4.2 looks at each time."""
    field = zoo.Vault._meta.get_field("content")
    for name in ("unique", "_unique"):
        monkeypatch.setitem(field.__dict__, name, True)


@pytest.mark.usefixtures("unique_content")
def test_unique_column_of_a_field_that_stores_values_in_its_own_way(new: str) -> None:
    restored(new, vault("a", content="x"), vault("b", content="y"))
    found = refused(new, [vault("c", content="x")], schema=project_schema())
    assert found == [("FNK418", 1, "content")]
    assert restored(new, vault("c", content="z")).created == 1


@pytest.mark.usefixtures("unique_content")
def test_unique_column_of_a_field_that_stores_nulls_and_shows_something_else(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As fields do for forms, where an empty text would be unique."""
    stored, shown = zoo.SecretField.get_prep_value, zoo.SecretField.from_db_value
    monkeypatch.setattr(zoo.SecretField, "get_prep_value", lambda one, it: stored(one, it or None))
    monkeypatch.setattr(zoo.SecretField, "from_db_value", lambda *args: shown(*args) or "")
    backup = [vault("a", content=""), vault("b", content="")]
    assert restored(new, *backup).created == 2
    assert restored(new, *backup).unchanged == 2
    assert restored(new, vault("c", content="")).created == 1


def test_rows_that_fields_write_are_in_nobodys_way(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As fields do that encrypt, and keep elsewhere what they encrypted."""
    stored = zoo.SecretField.get_prep_value

    def store(field: zoo.SecretField, value: Any) -> Any:
        if value is not None:
            Group.objects.using(new).get_or_create(name=value)
        return stored(field, value)

    monkeypatch.setattr(zoo.SecretField, "get_prep_value", store)
    backup = [keyed("auth.group", "x", name="x"), vault("a", content="x")]
    assert restored(new, *backup, dry_run=True).created == 2
    assert not rows(Group, new).exists()
    assert restored(new, *backup, options=RestoreOptions(verify=True)).created == 2
    assert [group.name for group in rows(Group, new)] == ["x"]
    assert restored(new, *backup).unchanged == 2


def test_findings_are_all_counted_and_the_first_ones_kept(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (errors, findings):
        monkeypatch.setattr(module, "MAX_FINDINGS", 5)
    with pytest.raises(FindingsError) as caught:
        restored(new, *(keeper(f"keeper {n}", mentor=["nobody"]) for n in range(99)))
    assert caught.value.total == 99
    assert [one.place.record for one in caught.value.findings] == [1, 2, 3, 4, 5]


# Secrets


def test_secrets_are_not_in_findings(new: str) -> None:
    hidden = record("zoo.secret", 1, name="A", hidden="s3cret")
    records = [vault("a", api_token=["s3cret"] * 9, small=10**20), hidden]
    with pytest.raises(FindingsError) as caught:
        restored(new, *records)
    assert "small" in str(caught.value)
    assert "a value that the field does not take (not shown)" in str(caught.value)
    assert "s3cret" not in str(caught.value) + json.dumps(caught.value.as_dict())


def places(alias: str, *records: Any) -> list[str]:
    with pytest.raises(FindingsError) as caught:
        restored(alias, *records)
    assert "s3cret" not in str(caught.value) + json.dumps(caught.value.as_dict())
    return [str(one.place) for one in caught.value.findings]


def test_a_secret_does_not_hide_whose_it_is(new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record("zoo.vault", 17, name="a", old_token="s3cret")]
    assert places(new, *records) == ["the backup, record 1, zoo.vault pk 17, field old_token"]
    monkeypatch.setattr(discretion, "_SECRET", re.compile("code"))
    records = [record("zoo.status", "s3cret", title="", gone=1)]
    assert places(new, *records) == ["the backup, record 1, zoo.status, field gone"]


def test_secrets_are_not_in_the_words_of_the_database(new: str) -> None:
    put(new, zoo.Vault, id=1, name="a", code="1", api_token="s3cret", small=0, data={})
    with pytest.raises(Error) as caught, transaction.atomic(using=new):
        connections[new].cursor().execute("INSERT INTO zoo_vault SELECT * FROM zoo_vault")
    assert "s3cret" not in reason(caught.value)
    assert re.search("zoo_vault|PRIMARY", reason(caught.value))
    with pytest.raises(Error) as caught, transaction.atomic(using=new):
        connections[new].cursor().execute("UPDATE zoo_vault SET small = NULL")
    assert "s3cret" not in reason(caught.value)


# Unique columns


def test_unique_column_of_a_row_with_another_key(new: str) -> None:
    restored(new, vault("a", code="1"), vault("b", code="2"))
    records = [vault("a", code="1"), vault("c", code="2"), vault("d", code=None)]
    assert refused(new, records, schema=project_schema()) == [("FNK418", 2, "code")]


def test_unique_column_twice_in_the_backup(new: str) -> None:
    records = [vault(str(number), code=str(number // 2 or number)) for number in range(6)]
    found = refused(new, records, schema=project_schema())
    assert found == [("FNK418", 3, "code"), ("FNK418", 4, "code"), ("FNK418", 6, "code")]


def test_keys_and_pks_that_occur_twice_where_nothing_refers_to_the_rows(new: str) -> None:
    records = [vault("a"), vault("b"), vault("a")]
    assert refused(new, records, schema=project_schema()) == [("FNK415", 3, None)]
    events = [record("zoo.reading", str(UUID(int=n // 2)), celsius=1.0) for n in range(3)]
    assert ("FNK415", 2, None) in refused(new, events, schema=project_schema())


def slot(pk: int, keeper: str, day: str | None, post: str = "", **more: Any) -> dict[str, Any]:
    return record("zoo.slot", pk, keeper=[keeper], day=day, post=post or str(pk), **more)


def test_columns_that_are_unique_together(new: str) -> None:
    old = [keeper("Anna"), slot(1, "Anna", "2024-01-01"), slot(2, "Anna", None)]
    restored(new, *old)
    records = [
        keeper("Béla"),
        slot(3, "Anna", "2024-01-01"),
        slot(4, "Béla", "2024-01-01"),
        slot(5, "Béla", "2024-01-01"),
        slot(6, "Anna", None),
        slot(7, "Anna", None),
    ]
    found = refused(new, records, schema=project_schema())
    assert found == [("FNK418", 4, "keeper, day")]
    assert restored(new, *old).unchanged == 3
    report = restored(new, *records[:2], options=RestoreOptions(verify=True))
    assert (report.created, report.updated) == (1, 1)  # the row of that day is the record's


def test_unique_column_of_a_boolean(new: str) -> None:
    load(new, [record("zoo.lamp", 1, is_lit=True)])
    records = [
        record("zoo.lamp", 10 + number, is_lit=lit) for number, lit in enumerate((True, None))
    ]
    assert load(new, records[1:]).created == 1
    with pytest.raises(FindingsError) as caught:
        load(new, records)
    assert [(one.place.record, one.value) for one in caught.value.findings] == [(1, "true")]
    repeated = [record("zoo.lamp", pk, is_lit=False) for pk in (12, 13)]
    with pytest.raises(FindingsError) as caught:
        load(new, repeated)
    assert [(one.place.record, one.value) for one in caught.value.findings] == [(2, "false")]
    assert str(caught.value.remedy).endswith("leave a model out: --exclude zoo.lamp")
    species = [keyed("zoo.species", latin, latin=latin) for latin in ("Lutra", "Ursus")]
    with pytest.raises(FindingsError) as caught:
        load(new, [*repeated, *species])
    both = "--exclude zoo.lamp --exclude zoo.species"
    assert str(caught.value.remedy).endswith(f"leave models out: {both}")


def test_remedy_repeats_the_options_that_findings_name(new: str) -> None:
    text = record("zoo.vault", 1, data='{"a": 1}')
    with pytest.raises(FindingsError) as caught:
        load(new, [text])
    assert "FNK413" in {one.code for one in caught.value.findings}
    assert "or allow what is said there: --on-json-text read" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("records", "way_out"),
    [
        (
            [record("zoo.label", 2, thing=5, text="c")],
            "allow what is said there: --on-duplicate-key keep",
        ),
        ([record("zoo.sticky", 1, label=[5], number=1)], None),
        ([keeper("Anna"), keeper("Anna")], "allow what is said there: --on-duplicate-pk drop"),
        ([record("zoo.memo", 1, text="a"), record("zoo.memo", 1, text="b")], None),
        ([keeper("Zoe", hired="2001-02-03")], "allow what is said there: --on-existing update"),
    ],
)
def test_remedy_has_ways_out_that_help(new: str, records: list[Any], way_out: str | None) -> None:
    """None for two records with one pk, or references to a key that two rows have."""
    load(new, [keeper("Zoe")])
    for pk in (1, 2):
        put(new, zoo.Label, id=pk, thing=5, text="")
    with pytest.raises(FindingsError) as caught:
        load(new, records, project_schema(), options=ERROR)
    mend = "mend the backup or the database"
    wanted = f"{mend}, or {way_out}" if way_out else f"{mend}, then restore again"
    assert caught.value.remedy == wanted


def test_what_records_do_not_say_is_checked_as_it_will_be_written(new: str) -> None:
    species = [keyed("zoo.species", latin, latin=latin) for latin in ("Lutra", "Ursus")]
    with pytest.raises(FindingsError) as caught:
        restored(new, *species, record("zoo.vehicle", 1, plate="A"), record("zoo.truck", 1))
    unique, null = caught.value.findings
    assert (unique.code, unique.place.record, unique.place.field) == ("FNK418", 2, "code")
    assert "the backup does not say code" in unique.what
    assert str(caught.value.remedy).endswith("or leave a model out: --exclude zoo.species")
    assert (null.code, null.place.record, null.place.field) == ("FNK413", 4, "load")
    anna = keeper("Anna")
    late = [anna, slot(1, "Anna", None, end=1), slot(2, "Anna", None, end=3)]
    with pytest.raises(FindingsError) as caught:
        load(new, late, project_schema())
    assert [(one.code, one.place.record) for one in caught.value.findings] == [("FNK420", 2)]
    assert str(caught.value.remedy).endswith("or leave a model out: --exclude zoo.slot")


def test_new_rows_with_a_default_are_told(new: str) -> None:
    report = restored(new, keyed("zoo.species", "Lutra", latin="Lutra"), vault("a", data=[1]))
    assert report.defaulted == {
        "zoo.species.code": Default(1, ""),
        "zoo.vault.small": Default(1, 0),
    }
    report = restored(new, keyed("zoo.species", "Lutra", latin="Lutra"), vault("a", data=[1]))
    assert (report.unchanged, report.defaulted) == (2, {})


def test_a_default_of_each_row_is_told_without_a_value(new: str) -> None:
    report = restored(new, vault("a", small=1))
    assert report.defaulted == {"zoo.vault.data": Default(1)}


def test_a_default_that_fails_is_told(new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def first() -> int:
        return zoo.Vault.objects.using(new).get(name="first").small

    field = zoo.Vault._meta.get_field("small")
    monkeypatch.setattr(field, "default", first)
    monkeypatch.setitem(field.__dict__, "_get_default", first)
    with pytest.raises(RestoreError, match=r"vault\.small, and its default fails: Vault"):
        restored(new, vault("a"))
    assert not rows(zoo.Vault, new).exists()
    restored(new, vault("first", small=5))
    restored(new, vault("a"))
    assert rows(zoo.Vault, new).get(name="a").small == 5


def test_declared_defaults_are_what_the_records_would_have_said(new: str) -> None:
    records = [
        keyed("zoo.sensor", "S1", serial="S1"),
        *(record("zoo.reading", str(UUID(int=n)), celsius=n) for n in (1, 2)),
        record("zoo.reading", str(UUID(int=3)), sensor=["S1"]),
        record("zoo.reading", str(UUID(int=4)), sensor=None, celsius=None),
        record("zoo.vehicle", 1, plate="A"),
        record("zoo.truck", 1),
        vault("a", data=[1]),
    ]
    defaults = {"zoo.reading.sensor": ["S1"], "zoo.reading.celsius": 7.5, "zoo.Truck.load": 3}
    with pytest.raises(FindingsError):
        fastnk.restore(encoded(records), database=new)
    told = defaults | {"zoo.vault.api_token": "x", "zoo.vault.small": "4"}
    report = fastnk.restore(encoded(records), database=new, defaults=told)
    readings = rows(zoo.Reading, new).order_by("id")
    assert [(one.sensor.serial, one.celsius) for one in readings] == [
        ("S1", 1),
        ("S1", 2),
        ("S1", 7.5),
        ("S1", 7.5),
    ]
    assert rows(zoo.Truck, new).get().load == 3
    assert (rows(zoo.Vault, new).get().small, rows(zoo.Vault, new).get().api_token) == (4, "x")
    assert report.defaulted == {
        "zoo.reading.sensor": Default(2, ["S1"]),
        "zoo.reading.celsius": Default(1, 7.5),
        "zoo.truck.load": Default(1, 3),
        "zoo.vault.small": Default(1, "4"),
        "zoo.vault.api_token": Default(1, NOT_SHOWN),
    }
    nulls = {"zoo.reading.sensor": 1, "zoo.reading.celsius": 1}
    assert report.replaced_nulls == nulls
    again = fastnk.restore(encoded(records), database=new, defaults=told | {"zoo.truck.load": 5})
    assert (again.created, again.updated, again.defaulted) == (0, 0, {})
    assert again.replaced_nulls == nulls


def test_where_only_defaults_are_missing_they_are_the_remedy(new: str) -> None:
    """Also of a secret, of which no value is told, and of a field with its own words for null."""
    records = [
        *(record("zoo.vehicle", pk, plate=str(pk)) for pk in (1, 2)),
        *(record("zoo.truck", pk) for pk in (1, 2)),
        vault("a", data=[1], small=None),
        record("zoo.secret", 1, name="A", hidden=None),
    ]
    with pytest.raises(FindingsError) as caught:
        restored(new, *records)
    fields = ["zoo.truck.load", "zoo.vault.small", "zoo.secret.hidden"]
    options = " ".join(f"--default {field}=VALUE" for field in fields)
    remedy = f"mend the backup or the database, or say what rows hold: {options}"
    assert caught.value.remedy == remedy
    assert all(one.what.endswith("(--default: what it means)") for one in caught.value.findings)


def test_defaults_and_exclusions_on_the_command_line(
    new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "backup.json"
    truck = [record("zoo.vehicle", 1, plate="A"), record("zoo.truck", 1)]
    backup.write_bytes(encoded([*truck, vault("a", data=[1], small=None), keeper("Anna")]))
    said = ["--default", "zoo.truck.load=3", "--default=zoo.vault.small=4", "-e", "zoo.keeper"]
    assert main(["restore", str(backup), "--database", new, "--dry-run", *said]) == 3
    told = capsys.readouterr()
    assert "zoo.truck.load: 3 (1)" in told.out
    assert "became the default, zoo.vault.small: 1" in told.out
    assert "left out, since it is excluded, zoo.keeper: 1" in told.out
    assert "--exclude=zoo.keeper --default=zoo.truck.load=3" in told.err


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        ("zoo.truck.lode", 1, "has no field lode of its own that can have a default; did you mean"),
        ("zoo.friendlykeeper.hired", "2001-02-03", "has no field hired of its own"),
        ("zoo.species.latin", "x", "tells which row"),
        ("zoo.event.uuid", str(UUID(int=1)), "tells which row"),
        ("zoo.vault.small", None, "takes no null"),
        ("zoo.truck.vehicle_ptr", 1, "has no field vehicle_ptr"),
        ("zoo.lorry.load", 1, "no such model"),
        ("zoo.truck", 1, "is no field"),
        ("zoo.truck.load", "much", "much.*zoo.truck.load"),
        ("zoo.reading.sensor", ["S1", "S2"], "a list of 1 was expected"),
        ("zoo.sticker.content_type", ["zoo"], "a list of 2 was expected"),
        ("zoo.memo.parent", ["x"], "zoo.memo has no natural key"),
        ("zoo.reading.sensor", True, "refers to zoo.sensor"),
    ],
)
def test_defaults_that_nothing_takes(new: str, path: str, value: Any, what: str) -> None:
    """They are told before the backup is opened."""
    with pytest.raises(UsageError, match=what):
        fastnk.UnifiedRestoreManager(database=new, defaults={path: value})


def test_a_default_that_refers_to_nothing(new: str) -> None:
    with pytest.raises(UsageError, match=r"no such row of zoo\.sensor"):
        fastnk.restore(
            encoded([keeper("Anna")]), database=new, defaults={"zoo.reading.sensor": ["S9"]}
        )


def test_a_default_of_the_project_that_refers_to_nothing(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told by the check, once, unless a new row has that pk, or may get it."""
    sensor, other = (record("zoo.sensor", str(UUID(int=n)), serial=f"S{n}") for n in (7, 8))
    readings = [record("zoo.reading", str(UUID(int=n)), celsius=n) for n in (1, 2)]
    records = [other, *readings, record("zoo.memo", 1, text="", parent=None)]
    has_default(monkeypatch, zoo.Reading, "sensor", UUID(int=7))
    has_default(monkeypatch, zoo.Memo, "keeper", 9)
    for dry_run in (True, False):
        with pytest.raises(FindingsError, match="its default refers to no row") as caught:
            fastnk.restore(encoded(records), database=new, dry_run=dry_run)
        found = [(one.code, one.place.record, one.place.field) for one in caught.value.findings]
        assert found == [("FNK413", 2, "sensor"), ("FNK413", 4, "keeper")]
    all_may_be = [sensor, keeper("Anna"), *records]
    assert fastnk.restore(encoded(all_may_be), database=new, dry_run=True).created == 6
    defaults = {"zoo.reading.sensor": str(UUID(int=8)), "zoo.memo.keeper": None}
    assert fastnk.restore(encoded(records), database=new, defaults=defaults).created == 4


def has_default(monkeypatch: pytest.MonkeyPatch, model: Any, name: str, value: Any) -> None:
    field = model._meta.get_field(name)
    monkeypatch.setattr(field, "default", value)
    monkeypatch.setitem(field.__dict__, "_get_default", lambda: value)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_declared_default_is_unique_as_any_other(new: str, is_there: bool) -> None:
    """Be it a value, or a row that is there or will be."""
    if is_there:
        restored(new, keeper("Anna"))
    slots = [slot(n, "Bela", None, f"p{n}") for n in (1, 2)]
    records = [record("zoo.species", n, latin=f"L{n}") for n in (1, 2)]
    records += [keeper("Anna"), keeper("Bela"), *slots]
    defaults = {"zoo.species.code": "c", "zoo.slot.guest": ["Anna"]}
    for dry_run in (True, False):
        with pytest.raises(FindingsError) as caught:
            fastnk.restore(encoded(records), database=new, defaults=defaults, dry_run=dry_run)
        found = [(one.code, one.place.record, one.place.field) for one in caught.value.findings]
        assert found == [("FNK418", 2, "code"), ("FNK418", 6, "guest")]


def test_null_that_a_field_takes_is_no_default(new: str) -> None:
    names = ["code", "amount", "place", "wait", "at", "share", "key", "api_token", "content"]
    # More shapes than are learned, so that some records are read singly.
    records = [vault(f"v{n}", data=None, **dict.fromkeys(names[:n])) for n in range(len(names) + 1)]
    report = fastnk.restore(encoded(records), database=new, defaults={"zoo.vault.data": [9]})
    assert {one.data for one in rows(zoo.Vault, new)} == {None}
    assert report.replaced_nulls == {}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("5", 5), ("1.1", 1.1), ("1.10", "1.10"), ("1e5", "1e5"), ("NaN", "NaN"), ("true", True),
        ('"true"', "true"), ("null", None), ('["a"]', ["a"]), ("a b", "a b"), ("", ""), ("=", "="),
    ],
)  # fmt: skip
def test_words_of_defaults(word: str, value: Any) -> None:
    assert default_of_word(f"a.b.c={word}") == ("a.b.c", value)
    with pytest.raises(UsageError, match="has no value"):
        default_of_word("a.b.c")


# What is excluded


def test_excluded_records_are_counted_and_left_out(new: str) -> None:
    restored(new, keeper("Anna"))
    options = RestoreOptions(exclude=frozenset(["zoo.keeper"]))
    records = [keeper("Anna", hired="2001-02-03"), keeper("Bela"), memo(1, keeper=["Anna"])]
    report = restored(new, *records, options=options)
    assert (report.created, report.excluded, report.complete) == (1, {"zoo.keeper": 2}, False)
    assert rows(zoo.Memo, new).get().keeper.name == "Anna"
    assert rows(zoo.Keeper, new).get().hired is None
    again = [records[0], memo(2, keeper=["Bela"])]
    assert refused(new, again, schema=project_schema(), options=options) == [
        ("FNK410", 2, "keeper")
    ]


def test_generic_ids_that_applications_give_mean_the_rows_that_have_them(new: str) -> None:
    """A UUID is that of one row, whether the backup has its record by key, or of others only."""
    number = UUID("0b2e7f5c-8f0d-4d2e-9a51-6f6f2a0a7a01")
    put(new, zoo.Sensor, id=number, serial="a")
    sticker = record(
        "zoo.sticker", 1, text="", content_type=["zoo", "sensor"], object_id=str(number)
    )
    for serial, exclude in (("a", frozenset[str]()), ("b", frozenset()), ("c", {"zoo.sensor"})):
        options = RestoreOptions(exclude=frozenset(exclude), verify=True)
        sensor = keyed("zoo.sensor", serial, serial=serial)
        assert restored(new, sensor, sticker, options=options).complete == (not exclude)
        assert rows(zoo.Sticker, new).get().object_id == str(number)


def test_ids_of_excluded_records_mean_no_row_of_the_database(new: str) -> None:
    put(new, zoo.Tag, id=5, label="other")
    sticker = record("zoo.sticker", 1, text="", content_type=["zoo", "tag"], object_id="5")
    records = [record("zoo.tag", 5, label="old"), memo(1, tags=[5]), sticker]
    records += [keeper("Anna"), memo(2, keeper=["Anna"])]
    options = RestoreOptions(exclude=frozenset(["zoo.tag", "zoo.keeper"]))
    with pytest.raises(FindingsError) as caught:
        restored(new, *records, options=options)
    some = (
        "the backup's records of zoo.tag are excluded, and in the database this id is some zoo.tag"
    )
    none = "no such row of zoo.keeper in the database, and its records are excluded"
    assert [(one.place.record, one.place.field, one.what) for one in caught.value.findings] == [
        (2, "tags", f"{some} (--on-unresolved keep: it may be)"),
        (3, "object_id", f"{some} (--on-generic keep: it may be)"),
        (5, "keeper", none),
    ]
    assert str(caught.value.remedy) == (
        "mend the backup or the database, or let references go: --on-unresolved null"
        ", or allow what is said there: --on-unresolved keep, --on-generic keep"
    )
    lets_go = RestoreOptions(exclude=options.exclude, on_dangling="null")
    with pytest.raises(FindingsError) as caught:
        restored(new, *records, options=lets_go)
    assert "--on-unresolved" not in str(caught.value.remedy)
    assert "allow what is said there: --on-generic keep" in str(caught.value.remedy)
    # Of an excluded model of which there are no records the backup holds nothing back.
    with pytest.raises(
        FindingsError, match=r"no such row of zoo\.keeper in the backup or the data"
    ):
        restored(new, memo(3, keeper=["Anna"]), options=options)


def test_what_is_wrong_with_excluded_records_is_nobodys_business(new: str) -> None:
    """Whatever is found in them, in the conversion or later; what else is wrong is told."""
    keepers = [record("zoo.keeper", pk, name="Anna") for pk in (1, 2)]
    wrong = [*keepers, record("zoo.memo", 1, text="x" * 200, keeper=9), record("gone.thing", 1)]
    good = record("zoo.tag", 1, label="a")
    exclude = ["zoo.memo", "zoo.Keeper", "gone"]
    report = fastnk.restore(encoded([*wrong, good]), database=new, exclude=exclude)
    left_out = {"zoo.keeper": 2, "zoo.memo": 1, "gone.thing": 1}
    assert (report.created, report.excluded) == (1, left_out)
    animal = record("zoo.animal", 1, name="Otto", species="L", enclosure=7)
    with pytest.raises(FindingsError) as caught:
        fastnk.restore(encoded([*wrong, animal]), database=new, exclude=exclude)
    assert {kind.model for kind in caught.value.counts} >= {"zoo.animal"}


def test_of_excluded_models_by_any_label(new: str) -> None:
    records = [{**keeper("Anna"), "model": label} for label in ("zoo.Keeper", "zoo.FriendlyKeeper")]
    report = fastnk.restore(encoded(records), database=new, exclude=["zoo.keeper"])
    assert (report.created, report.excluded) == (0, {"zoo.keeper": 2})


def test_excluded_records_excuse_no_others(new: str) -> None:
    """Neither what the loader finds in others, nor what the same policy is about."""
    nothing = [record("zoo.tag", 1, label="a"), vault("b") | {"fields": {"name": None}}]
    with pytest.raises(FindingsError) as caught:
        fastnk.restore(encoded(nothing), database=new, exclude=["zoo.tag"])
    assert [one.code for one in caught.value.findings] == ["FNK413"]
    wrong = [memo(1, keeper=9), memo(2, parent=9) | {"model": "zoo.memo"}]
    manager = fastnk.UnifiedRestoreManager(database=new, exclude=["zoo.memo"])
    assert manager.restore_any_format(encoded(wrong)).excluded == {"zoo.memo": 2}
    with pytest.raises(FindingsError):
        manager.restore_any_format(encoded([record("zoo.animal", 1, name="x", species="?")]))


FIELDS = {
    "text in a relation of today": {"parent": "urgent"},
    "an id that leads nowhere": {"parent": 77, "keeper": None},
    "many": {"tags": [8, "x"]},
    "what is gone": {"gone": {"a": 1}},
}


@pytest.mark.parametrize("of_all", [False, True], ids=["one", "all"])
@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_what_records_say_of_an_excluded_field_is_left_out(
    new: str, fields: dict[str, Any], of_all: bool
) -> None:
    """Whatever is wrong with it: new rows are as if it were unsaid."""
    name = next(iter(fields))
    others = fields if of_all else {}
    records = [record("zoo.memo", 1, text="new", **fields)]
    records += [record("zoo.memo", 2, text="other", **others)]
    with pytest.raises(FindingsError):
        fastnk.restore(encoded(records), database=new)
    report = fastnk.restore(encoded(records), database=new, exclude=[f"zoo.Memo.{name}"])
    assert (report.created, report.excluded) == (2, {f"zoo.memo.{name}": 1 + of_all})
    assert not report.complete
    row = rows(zoo.Memo, new).get(text="new")
    assert (row.parent, row.keeper, list(row.tags.all())) == (None, None, [])


def test_an_excluded_field_of_existing_rows_stays(new: str) -> None:
    restored(new, keeper("Anna", hired="2001-02-03"), keeper("Bea"))
    records = [keeper("Anna", hired="2011-11-11"), keeper("Bea", mentor=["No"])]
    exclude = ["zoo.keeper.hired", "zoo.keeper.mentor"]
    report = fastnk.restore(encoded(records), database=new, exclude=exclude)
    assert report.excluded == dict.fromkeys(exclude, 1)
    assert str(rows(zoo.Keeper, new).get(name="Anna").hired) == "2001-02-03"


@pytest.mark.parametrize("name", ["zoo.keeper.id", "zoo.keeper.name"])
def test_a_field_that_tells_rows_apart_cannot_be_excluded(new: str, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} cannot be excluded") as caught:
        fastnk.restore(encoded([keeper("Anna")]), database=new, exclude=[name])
    assert caught.value.remedy == "leave its records out: --exclude zoo.keeper"


def test_names_that_nothing_has_cannot_be_excluded(new: str) -> None:
    with pytest.raises(UsageError, match="nothing to exclude"):
        fastnk.restore(
            encoded([record("old.tag", 1, label="a")]),
            database=new,
            exclude=["old.tag"],
            renames={"old": "zoo"},
        )
    with pytest.raises(UsageError, match=r'did you mean "zoo\.keeper"'):
        fastnk.restore(encoded([keeper("Anna")]), database=new, exclude=["zoo.kepeer"])


@pytest.mark.parametrize("label", ["zoo.keeper", "zoo.friendlykeeper"])
def test_a_proxy_that_is_excluded_names_its_model(new: str, label: str) -> None:
    """Also where records have its label."""
    records = [{**keeper("Anna"), "model": label}]
    with pytest.raises(UsageError, match=r"a proxy: .* zoo\.keeper\n") as caught:
        fastnk.restore(encoded(records), database=new, exclude=["zoo.FriendlyKeeper"])
    assert caught.value.remedy == "--exclude zoo.keeper"
    with pytest.raises(UsageError, match="list"):
        fastnk.restore(encoded([keeper("Anna")]), database=new, exclude="zoo")


def test_relations_and_conditions_that_are_unique(new: str) -> None:
    restored(new, keeper("Anna"), slot(1, "Anna", None, "gate", guest=["Anna"], is_open=True))
    records = [
        keeper("Béla"),
        slot(2, "Béla", None, guest=["Anna"]),
        slot(3, "Béla", None, guest=["Béla"]),
        slot(4, "Béla", None, guest=["Béla"]),
        slot(5, "Béla", None, "gate", is_open=True),
        slot(6, "Béla", None, "gate", is_open=False),
        slot(7, "Béla", None, "door", is_open=True),
        slot(8, "Béla", None, "door", is_open=True),
    ]
    expected = [("FNK418", 2, "guest"), ("FNK418", 4, "guest")]
    if connections[new].features.supports_partial_indexes:  # MySQL keeps no condition
        expected += [("FNK418", 5, "post"), ("FNK418", 8, "post")]
    assert refused(new, records, schema=project_schema()) == expected


def test_a_row_with_the_same_pk_and_the_same_in_a_unique_column_is_the_same(new: str) -> None:
    restored(
        new,
        *(keeper("Anna"), keeper("Béla")),
        slot(1, "Anna", None, "gate", guest=["Anna"]),
        slot(2, "Anna", None, "gate"),
        slot(3, "Anna", None, "gate", guest=["Béla"]),
    )
    ours = [
        slot(1, "Anna", None, "door", guest=["Anna"]),
        slot(2, "Anna", None, "door", guest=None),
    ]
    report = restored(new, *ours)
    assert (report.updated, report.created, report.renumbered) == (1, 1, 1)
    found = dict(rows(zoo.Slot, new).values_list("id", "post"))
    assert [found.pop(pk) for pk in (1, 2, 3)] == ["door", "gate", "gate"]
    assert [*found.values()] == ["door"]
    stranger = slot(9, "Anna", None, "door", guest=["Béla"])
    assert refused(new, [stranger], schema=project_schema()) == [("FNK418", 1, "guest")]
    assert restored(new, *ours).unchanged == 2


def shelf(pk: int, inside: int | None, note: str = "old", **more: Any) -> dict[str, Any]:
    return record("zoo.shelf", pk, inside=inside, name=f"shelf {pk}", note=note, **more)


def jar(pk: int, shelf: int, note: str = "old", **more: Any) -> dict[str, Any]:
    return record("zoo.jar", pk, shelf=shelf, label=f"jar {pk}", note=note, **more)


def test_a_row_with_the_same_pk_and_the_same_in_what_rows_without_keys_tell(new: str) -> None:
    restored(new, shelf(1, None), shelf(2, 1), shelf(3, 2), shelf(4, 3), jar(1, 4))
    ours = [jar(1, 4, "new"), shelf(4, 3, "new"), shelf(3, 2, "new"), shelf(2, 1), shelf(1, None)]
    report = restored(new, *ours)
    assert (report.updated, report.unchanged, report.created) == (3, 2, 0)
    assert restored(new, *ours).unchanged == 5


def test_a_row_with_the_same_pk_and_the_same_in_unique_columns_beside_a_circle(new: str) -> None:
    def backup(note: str) -> list[dict[str, Any]]:
        return [
            shelf(1, None, "old"),
            *(shelf(2, 1, note, first=6), jar(6, 2, note)),
            *(shelf(3, 2, note, first=7), shelf(4, 3, "old"), jar(7, 3, "old"), jar(8, 4, note)),
        ]

    restored(new, *backup("old"))
    report = restored(new, *backup("new"))
    assert (report.updated, report.unchanged, report.created) == (4, 3, 0)


def test_a_row_whose_child_has_the_same_pk_and_the_same_in_a_unique_column(new: str) -> None:
    restored(new, shelf(1, None), record("zoo.rack", 1, code="a"), shelf(2, 1))
    report = restored(new, shelf(1, None, "new"), record("zoo.rack", 1, code="a"), shelf(2, 1))
    assert (report.updated, report.unchanged, report.created) == (1, 2, 0)


def test_a_row_with_the_same_pk_and_the_same_in_a_column_that_is_unique_on_a_condition(
    new: str,
) -> None:
    shut, opened = (slot(n, "Anna", None, "gate", is_open=n == 2) for n in (1, 2))
    restored(new, keeper("Anna"), shut, opened)
    for one in (shut, opened):
        one["fields"]["end"] = 5
    report = restored(new, shut, opened)
    assert (report.updated, report.created, report.renumbered) == (1, 1, 1)
    found = dict(rows(zoo.Slot, new).values_list("id", "end"))
    assert [found.pop(pk) for pk in (1, 2)] == [2, 5]
    assert [*found.values()] == [5]


def test_what_is_unique_on_the_condition_that_a_relation_leads_somewhere(new: str) -> None:
    restored(new, shelf(1, None), jar(1, 1, lid=1), jar(2, 1))
    report = restored(new, jar(1, 1, lid=2), jar(2, 1))
    assert (report.updated, report.unchanged) == (1, 1)
    records = [shelf(1, None), jar(1, 1, "a", lid=3), jar(2, 1, "a"), jar(3, 1, "a", lid=3)]
    if connections[new].features.supports_partial_indexes:  # MySQL keeps no condition
        assert refused(new, records, schema=project_schema()) == [("FNK418", 4, "note")]


def test_values_that_write_sql_of_their_own(new: str) -> None:
    def backup(*texts: str | None) -> list[dict[str, Any]]:
        return [
            record("zoo.motto", number, name=str(number), text=text, rank=len(texts))
            for number, text in enumerate(texts, start=1)
        ]

    def stored() -> list[Any]:
        with connections[new].cursor() as cursor:
            cursor.execute("SELECT text FROM zoo_motto ORDER BY id")
            return [text for (text,) in cursor.fetchall()]

    assert restored(new, *backup("a", None)).created == 2
    assert stored() == ["a", None]
    assert restored(new, *backup("a", None)).unchanged == 2
    assert restored(new, *backup("b", None, "c")).updated == 2
    assert stored() == ["b!", None, "c"]
    assert restored(new, *backup("b", None, "c")).unchanged == 3


def test_values_that_break_a_check_constraint(new: str) -> None:
    records = [
        keeper("Anna"),
        slot(1, "Anna", None, begin=1, end=3),
        slot(2, "Anna", None, begin=3, end=3),
        slot(3, "Anna", None, begin=3, end=None),
    ]
    assert refused(new, records, schema=project_schema()) == [("FNK420", 3, None)]
    assert restored(new, records[0], records[1], records[3]).created == 3


def test_what_only_the_database_can_check_is_left_to_it(new: str) -> None:
    assert restored(new, keeper("Anna"), slot(1, "Anna", None, begin=1)).created == 2
    with pytest.raises(RestoreError, match="begin_is_positive"):
        restored(new, slot(2, "Anna", None, begin=0))


# What the project no longer has


def test_what_the_project_no_longer_has_is_listed_or_left_out(new: str) -> None:
    records = [vault("a", gone=1), vault("b", gone=2), record("zoo.gone", 1), vault("c")]
    found = refused(new, records, schema=project_schema())
    assert found == [("FNK412", 1, "gone"), ("FNK412", 2, "gone"), ("FNK411", 3, None)]
    report = restored(new, *records, options=IGNORE)
    assert report.created == 3
    assert report.left_out == {"zoo.vault.gone": 2, "zoo.gone": 1}


def test_a_model_without_a_column_for_its_pk_is_refused_or_left_out(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some packages make a pk of several columns in ways of their own."""
    monkeypatch.setattr(zoo.Memo._meta.pk, "concrete", False)
    records = [memo(1), vault("a")]
    assert refused(new, records, schema=project_schema()) == [("FNK411", 1, None)]
    assert restored(new, *records, options=IGNORE).left_out == {"zoo.memo": 1}


# Records that later ones make up for


@pytest.mark.parametrize("occupied", [False, True])
def test_of_records_with_one_natural_key_the_last_may_count(new: str, occupied: bool) -> None:
    if occupied:
        restored(new, keeper("Ben"), vault("b", small=9), keeper("Carl"))
    backup = [
        *(keeper("Anna"), keeper("Ben", mentor=["Anna"]), vault("a", small=1)),
        *(keeper("Carl", mentor=["Ben"]), keeper("Ben"), vault("b"), vault("a", small=2)),
        *(keeper("Ben", mentor=["Carl"]), vault("a", small=3)),
    ]
    found = refused(new, backup, schema=project_schema())
    assert {number for code, number, _ in found if code == "FNK415"} == {5, 7, 8, 9}
    report = restored(new, *backup, options=LAST)
    assert report.superseded == {"zoo.keeper": 2, "zoo.vault": 2}
    assert not report.complete
    assert report.records == 5
    mentors = rows(zoo.Keeper, new).order_by("name").values_list("name", "mentor__name")
    assert list(mentors) == [("Anna", None), ("Ben", "Carl"), ("Carl", "Ben")]
    held = rows(zoo.Vault, new).order_by("name").values_list("name", "small")
    assert list(held) == [("a", 3), ("b", 9 if occupied else 0)]
    assert restored(new, *backup, options=LAST).unchanged == 5


# References that nothing answers


def memo(pk: int, **fields: Any) -> dict[str, Any]:
    return record("zoo.memo", pk, **{"text": str(pk), "parent": None, "keeper": None} | fields)


def test_references_that_nothing_answers_are_refused_or_let_go(new: str) -> None:
    records = [
        keeper("Anna"),
        memo(1, keeper=["Anna"], parent=99),
        memo(2, keeper=["Ben"]),
        memo(3, keeper=["Anna"], parent=1, tags=[1, 98, 97]),
        memo(4, keeper=["Ben"], tags=[98]),
        record("zoo.tag", 1, label="a"),
    ]
    found = refused(new, records, schema=project_schema())
    assert [(number, field) for _, number, field in found] == [
        (2, "parent"),
        (3, "keeper"),
        *[(4, "tags")] * 2,
        (5, "keeper"),
        (5, "tags"),
    ]
    report = restored(new, *records, options=NULL)
    assert report.let_go == {"zoo.memo.parent": 1, "zoo.memo.keeper": 2, "zoo.memo.tags": 3}
    assert not report.complete
    held = rows(zoo.Memo, new).order_by("text").values_list("keeper__name", "parent__text", "tags")
    tag = rows(zoo.Tag, new).get().pk
    assert list(held) == [
        ("Anna", None, None),
        (None, None, None),
        ("Anna", "1", tag),
        (None, None, None),
    ]
    assert restored(new, *records, options=NULL).unchanged == len(records)


def test_a_reference_that_cannot_be_null_is_not_let_go(new: str) -> None:
    records = [record("zoo.ticket", 1, keeper=["Ben"]), memo(1, keeper=["Ben"])]
    found = refused(new, records, schema=project_schema(), options=NULL)
    assert ("FNK410", 1, "keeper") in found
    assert {number for _, number, _ in found} == {1}


def test_rows_that_dumpdata_hides_are_named_as_such(new: str) -> None:
    with pytest.raises(FindingsError, match="what the model's manager hides, but with --all"):
        restored(new, record("exact.hint", 1, secret=7))
    with pytest.raises(FindingsError) as caught:
        restored(new, memo(1, parent=7))
    assert "--all" not in str(caught.value)


def test_records_whose_references_nothing_answers_are_left_out(new: str) -> None:
    """With them goes what refers to them."""
    records = [
        record("zoo.tag", 1, label="a"),
        memo(1, parent=99),
        memo(2, parent=1),
        memo(3, parent=2, tags=[1]),
        memo(4, tags=[1]),
        memo(5, tags=[1, 98]),
        keeper("Anna"),
        record("zoo.ticket", 1, keeper=["Ben"], text=""),
        record("zoo.ticket", 2, keeper=["Anna"], text=""),
    ]
    put(new, zoo.Memo, id=2, text="another's")
    with pytest.raises(FindingsError, match="one, or leave records out: --on-unresolved drop"):
        restored(new, *records, options=NULL)
    dry = restored(new, *records, options=DROP, dry_run=True)
    report = restored(new, *records, options=DROP)
    for one in (dry, report):
        assert one.let_go == {"zoo.memo.parent": 3, "zoo.memo.tags": 1, "zoo.ticket.keeper": 1}
        assert (one.created, one.records, one.complete) == (4, 4, False)
    assert sorted(row.text for row in rows(zoo.Memo, new)) == ["4", "another's"]
    assert restored(new, *records, options=DROP).unchanged == 4


def test_what_refers_to_each_other_is_left_out_after_few_looks(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = [memo(n, parent=n + 1) for n in range(1, 100)]
    back = [memo(n, parent=n - 1) for n in range(101, 200)]
    beside = [record("zoo.ticket", 1, keeper=["Ann"], text=""), keeper("Ann", mentor=["Bob"])]
    records = [*forward, memo(100, parent=999), *back, *beside, memo(300), memo(301, parent=300)]
    looks: list[Look] = []
    run = Look.run

    def counted(look: Look, phases: Phases) -> Any:
        looks.append(look)
        return run(look, phases)

    monkeypatch.setattr(Look, "run", counted)
    report = restored(new, *records, options=DROP)
    assert len(looks) < 10
    assert report.let_go == {"zoo.memo.parent": 199, "zoo.ticket.keeper": 1, "zoo.keeper.mentor": 1}
    assert sorted(rows(zoo.Memo, new).values_list("text", flat=True)) == ["300", "301"]
    assert rows(zoo.Ticket, new).count() == 0


def test_findings_say_which_record_where_others_are_left_out(new: str) -> None:
    records = [memo(1, parent=99), memo(2), vault("a", small="x"), vault("b", small="y")]
    found = refused(new, records, schema=project_schema(), options=DROP)
    assert found == [("FNK413", 3, "small"), ("FNK413", 4, "small")]


def test_an_id_that_no_record_has_means_no_row_that_has_it_by_chance(new: str) -> None:
    put(new, zoo.Memo, id=99, text="another's")
    records = [memo(1, parent=99)]
    assert refused(new, records, schema=project_schema()) == [("FNK410", 1, "parent")]
    kept = restored(new, *records, dry_run=True, options=RestoreOptions(on_dangling="keep"))
    assert (kept.created, kept.let_go) == (1, {})
    assert restored(new, *records, options=NULL).let_go == {"zoo.memo.parent": 1}
    assert restored(new, *records, options=NULL).unchanged == 1


def test_ids_of_models_without_records_are_those_of_the_database(new: str) -> None:
    put(new, zoo.Tag, id=5, label="a")
    assert restored(new, memo(1, tags=[5])).created == 1
    assert rows(zoo.Memo, new).get().tags.get().label == "a"


# What only natural keys tell


def test_fields_that_only_natural_keys_tell_are_those_of_new_rows(new: str) -> None:
    zoo.Vault.objects.using(new).create(name="there", small=1)
    stated = [keyed("zoo.vault", name, small=n) for n, name in enumerate(("a", "b", "there", "c"))]
    odd = [keyed("zoo.vault", "d", small=5, extra=1), record("zoo.vault", None, name="e", small=6)]
    keepers = [keyed("zoo.keeper", "Ann", mentor=None), keyed("zoo.keeper", "Bob", mentor=["Ann"])]
    options = RestoreOptions(ignore_nonexistent=True, verify=True)
    report = restored(new, *stated, *odd, *keepers, options=options)
    assert counts(report) == (7, 1, 0, 0)
    assert not any(path.endswith(".name") for path in report.defaulted)
    held = dict(rows(zoo.Vault, new).values_list("name", "small"))
    assert held == {"a": 0, "b": 1, "there": 2, "c": 3, "d": 5, "e": 6}
    assert dict(rows(zoo.Keeper, new).values_list("name", "mentor__name")) == {
        "Ann": None,
        "Bob": "Ann",
    }
    assert restored(new, *stated, *odd, *keepers, options=options).unchanged == 8


# What fields or drivers do not take


@pytest.mark.parametrize("is_empty", [True, False])
def test_pks_that_the_column_does_not_take_are_given_up(new: str, is_empty: bool) -> None:
    if not is_empty:
        put(new, zoo.Memo, id=1, text="there")
        put(new, zoo.Tag, id=1, label="there")
    highest, beyond = (1 << 63) + 7, 10**30
    records = [memo(highest, parent=beyond), memo(5, parent=highest), memo(beyond)]
    tags = [record("zoo.tag", pk, label=str(pk)) for pk in (highest, 6)]
    report = restored(new, *records, *tags, options=RestoreOptions(verify=True))
    assert counts(report) == (5, 0, 0, 3)
    parents = {row.text: row.parent and row.parent.text for row in rows(zoo.Memo, new)}
    parents.pop("there", None)
    assert parents == {str(highest): str(beyond), "5": str(highest), str(beyond): None}
    assert rows(zoo.Memo, new).get(text="5").pk == 5


def test_no_pk_is_left_above_the_highest(new: str) -> None:
    highest = pk_range(zoo.Memo._meta.pk, connections[new])[-1]
    with pytest.raises(RestoreError, match=r"no pks are left for new rows|reached maximum value"):
        restored(new, memo(highest), memo("odd"))


def test_what_only_the_driver_refuses_is_a_finding(new: str) -> None:
    """Fields of Django take any object for the content of a binary column."""
    blobs = [record("exact.everything", n, text="", upload="", blob=n) for n in (1, 2, 3)]
    found = refused(new, blobs, schema=project_schema())
    assert [one for one in found if one[2] == "blob"] == [("FNK413", n, "blob") for n in (1, 2, 3)]


def test_what_a_field_cannot_give_to_the_driver_is_a_finding(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(field: Any, value: Any, *_: Any, **__: Any) -> Any:
        if value == "x":
            raise ValueError("no place for it")
        return value

    monkeypatch.setattr(type(zoo.Vault._meta.get_field("content")), "get_db_prep_save", refuse)
    records = [vault("a", content="x"), vault("b", content="x", small=1)]
    found = refused(new, records, schema=project_schema())
    assert found == [("FNK413", 1, "content"), ("FNK413", 2, "content")]


def test_half_a_surrogate_pair_in_any_column_is_a_finding(new: str) -> None:
    names = ("small", "amount", "place", "wait", "at", "share", "key", "moment", "content")
    records = [vault("a"), *(vault(name, **{name: "\ud800"}) for name in names)]
    for records_now in (records, records[::-1], records * 2):
        fields = {field for _, _, field in refused(new, records_now, schema=project_schema())}
        assert fields >= set(names)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\tb", "", "\ud800"])
def test_fields_with_names_that_no_field_has(new: str, name: str) -> None:
    records = [memo(1, **{name: 1}), memo(2, **{name: 2}), memo(3)]
    found = refused(new, records, schema=project_schema())
    assert found == [("FNK412", 1, name), ("FNK412", 2, name)]
    report = restored(new, *records, options=IGNORE)
    assert (report.created, report.left_out) == (3, {f"zoo.memo.{name}": 2})


@pytest.mark.parametrize("references", [5, [], "x", True])
def test_references_that_are_no_object_are_told(new: str, references: Any) -> None:
    odd = memo(2) | {"references": references}
    for records, number in (([odd], 1), ([memo(1), memo(3), odd], 3)):
        with pytest.raises(BackupSyntaxError, match="references that are an object") as caught:
            restored(new, *records)
        assert caught.value.place.record == number


@pytest.mark.parametrize("beside", ["null", "NaN"])
def test_number_that_python_does_not_read_is_told(new: str, beside: str) -> None:
    backup = json.dumps([vault("a", data=5), vault("b", data=6)]).encode()
    odd = backup.replace(b"5", b"9" * 5000).replace(b"6", beside.encode())
    with pytest.raises(RestoreError, match=r"FNK400 a number of more than 4,300 digits is in "):
        fastnk.restore(odd, project_schema(), database=new)


# Texts that hold JSON


TEXTS_OF_JSON = ['{"a": 1}', "[]", r'["\\"]', '"text"', "{", "5", 5, True, {"b": []}]


def test_texts_that_hold_json_are_refused_kept_or_read(new: str) -> None:
    records = [vault(str(number), data=data) for number, data in enumerate(TEXTS_OF_JSON)]
    for records_now in (records, records[::-1]):  # the fast way takes over at the second record
        found = refused(new, records_now, schema=project_schema())
        held = [records_now[number - 1]["fields"]["data"] for _, number, _ in found if number]
        assert sorted(held) == sorted(TEXTS_OF_JSON[:3])
    assert {(code, field) for code, _, field in found} == {("FNK413", "data")}
    assert data_of_vaults(new, records, "keep") == TEXTS_OF_JSON
    read = [{"a": 1}, [], ["\\"], "text", "{", 5, 5, True, {"b": []}]
    assert data_of_vaults(new, records, "read") == read
    assert restored(new, *records, options=RestoreOptions(on_json_text="read")).updated == 0


def data_of_vaults(alias: str, records: list[Any], word: Literal["keep", "read"]) -> list[Any]:
    restored(alias, *records, options=RestoreOptions(on_json_text=word))
    return list(rows(zoo.Vault, alias).order_by("name").values_list("data", flat=True))


# Values


VALUES: dict[str, list[Any]] = {
    "code": ["\t\\N\\.\n\ré漢📋", "", "None", "\\"],
    "content": ["s3cret", "", None, "ü"],
    "api_token": ["", None, "null", "NULL"],
    "small": [-32768, 32767, 0, "5"],
    "amount": ["999.99", "-0.01", None, "5"],
    "place": ["10.0.0.1", "2001:db8::1", None, "::ffff:10.0.0.1"],
    "data": [{"ä": [1, 2.5, None, "x\ty"]}, None, [], "text"],
    "wait": ["P1DT02H03M04.500000S", "P0DT00H00M00S", None, "1 02:00:00"],
    "at": ["12:34:56.789", "00:00:00", None, "23:59"],
    "share": [1, 0.1, None, 1e300],
    "key": [str(UUID(int=7)), UUID(int=8).hex, None, str(UUID(int=9)).upper()],
    "moment": [
        "2024-02-29T12:34:56.789Z",
        "2024-02-29T12:34:56.789123+05:30",
        None,
        "1999-12-31T23:59:59Z",
    ],
}


def test_every_kind_of_value_arrives_the_fast_way_and_the_slow(new: str) -> None:
    """The oracle is each field's own `to_python`; the fast way takes over at the second record."""
    names = [str(number) for number in range(4)]
    records = [
        vault(name, **{field: values[number] for field, values in VALUES.items()})
        for number, name in enumerate(names)
    ]
    for records_now in (records, records[::-1]):
        QuerySet(zoo.Vault, using=new).delete()
        report = restored(new, *records_now)
        assert report.created == 4
        for one in rows(zoo.Vault, new):
            for field, values in VALUES.items():
                expected = zoo.Vault._meta.get_field(field).to_python(values[int(one.name)])
                assert getattr(one, field) == expected, field
        assert restored(new, *records_now).unchanged == 4


def test_values_arrive_in_python_types(new: str) -> None:
    restored(
        new, *[vault(str(n), **{f: v[0] for f, v in VALUES.items() if f != "code"}) for n in "ab"]
    )
    row = rows(zoo.Vault, new).last()
    assert row.content == "s3cret"
    assert (row.amount, row.wait) == (Decimal("999.99"), timedelta(1, 7384, 500000))
    assert row.at == time(12, 34, 56, 789000)
    assert row.moment == datetime(2024, 2, 29, 12, 34, 56, 789000, UTC)
    with connections[new].cursor() as cursor:
        cursor.execute("SELECT content FROM zoo_vault")
        assert cursor.fetchone() == ("terc3s:terces",)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("small", -(10**20)),
        ("small", None),
        ("amount", "1.005"),
        ("amount", "1000.00"),
        ("amount", "x"),
        ("key", "123"),
        ("moment", "2024-02-30T00:00:00Z"),
    ],
)
def test_values_that_the_column_would_not_take_whole(new: str, field: str, value: Any) -> None:
    records = [vault("a"), vault("b", **{field: value}), vault("c", **{field: value})]
    found = refused(new, records, schema=project_schema())
    assert found == [("FNK413", 2, field), ("FNK413", 3, field)]


@pytest.mark.parametrize("amount", ["NaN", "-Infinity"])
def test_what_is_no_number_and_a_row_with_it_could_not_be_read(new: str, amount: str) -> None:
    records = [vault("a", amount=amount), vault("b", amount="1.00")]
    if connections[new].vendor != "postgresql":  # which has such numbers
        assert refused(new, records, schema=project_schema()) == [("FNK413", 1, "amount")]


def test_a_file_that_is_none(new: str) -> None:
    restored(new, record("exact.everything", 1, text="a", upload=None))
    (row,) = rows(exact.Everything, new)
    assert row.upload.name == ""
    assert restored(new, record("exact.everything", 1, text="a", upload=None)).unchanged == 1


def test_text_that_is_too_long(new: str) -> None:
    records = [vault("a"), vault("b", code="x" * 11)]
    if connections[new].vendor == "sqlite":  # which takes it
        assert restored(new, *records).created == 2
    else:
        assert refused(new, records, schema=project_schema()) == [("FNK413", 2, "code")]


def test_nul_in_text_and_in_json(new: str) -> None:
    records = [vault("a"), vault("b", code="a\0b"), vault("c", data={"a": "\0"})]
    if connections[new].vendor != "postgresql":  # the others take it
        assert restored(new, *records).created == 3
    else:
        found = refused(new, records, schema=project_schema())
        assert found == [("FNK413", 2, "code"), ("FNK413", 3, "data")]


def test_half_of_a_surrogate_pair_is_no_text(new: str) -> None:
    records = [vault("a"), vault("b", code="\ud800")]
    assert refused(new, records, schema=project_schema()) == [("FNK413", 2, "code")]


def test_refusal_in_the_midst_of_copy_names_the_model(new: str) -> None:
    before = tables(new)
    records = [vault("a"), vault("b", share=float("nan"), data={"a": float("nan")})]
    if connections[new].vendor == "mysql":  # which has no such number
        found = refused(new, records, schema=project_schema())
        assert found == [("FNK413", 2, "share"), ("FNK413", 2, "data")]
        return
    with pytest.raises(RestoreError, match=r"zoo\.vault"):
        restored(new, keeper("Anna"), *records)
    assert tables(new) == before
    assert not rows(zoo.Keeper, new).exists()


# Signals


def test_receivers_of_all_models_are_named_once(new: str) -> None:
    def general(**more: Any) -> None: ...

    def special(**more: Any) -> None: ...

    signals.post_save.connect(general)
    signals.post_save.connect(special, zoo.Tag)
    try:
        records = [record("zoo.tag", 1, label="a"), record("zoo.memo", 1, text="a")]
        named = restored(new, *records, dry_run=True).receivers
    finally:
        signals.post_save.disconnect(general)
        signals.post_save.disconnect(special, zoo.Tag)
    assert [one.partition(":")[0] for one in named] == [
        "post_save of all models",
        "post_save of zoo.tag",
    ]


def test_receivers_are_named_and_called_only_on_request(new: str) -> None:
    calls: list[tuple[Any, ...]] = []

    def saved(sender: Any, instance: Any, raw: bool, using: str, **more: Any) -> None:
        calls.append((instance.name, raw, using, more.get("created")))

    def linked(sender: Any, action: str, instance: Any, pk_set: set[Any], **more: Any) -> None:
        calls.append((action, instance.name, len(pk_set)))

    signals.pre_save.connect(saved, zoo.Secret)
    signals.post_save.connect(saved, zoo.Secret)
    signals.m2m_changed.connect(linked, Group.permissions.through)
    permission = list(rows(Permission, new).filter(codename="add_animal").get().natural_key())
    records = [
        keyed("zoo.secret", "A", name="A"),
        keyed("auth.group", "vets", name="vets", permissions=[permission]),
    ]
    on = RestoreOptions(signals=True)
    try:
        report = restored(new, *records, dry_run=True)
        assert [one.split(":")[0] for one in report.receivers] == [
            "m2m_changed of auth.group",
            "post_save of zoo.secret",
            "pre_save of zoo.secret",
        ]
        assert calls == []
        restored(new, *records, options=on)
        assert calls == [
            ("A", True, new, None),
            ("A", True, new, True),
            ("pre_add", "vets", 1),
            ("post_add", "vets", 1),
        ]
        calls.clear()
        records[0]["fields"]["hidden"] = True
        records[1]["fields"]["permissions"] = []
        restored(new, *records, options=on)
        assert calls == [
            ("A", True, new, None),
            ("A", True, new, False),
            ("pre_remove", "vets", 1),
            ("post_remove", "vets", 1),
        ]
        assert restored(new, *records, options=on).unchanged == 2
    finally:
        signals.pre_save.disconnect(saved, zoo.Secret)
        signals.post_save.disconnect(saved, zoo.Secret)
        signals.m2m_changed.disconnect(linked, Group.permissions.through)


def test_a_receiver_that_fails_is_named(new: str) -> None:
    def saved(instance: Any, **more: Any) -> None:
        raise KeyError(instance.name)

    signals.post_save.connect(saved, zoo.Vault)
    try:
        with pytest.raises(
            RestoreError, match=r"post_save of zoo\.vault failed: KeyError"
        ) as caught:
            restored(new, vault("a"), options=RestoreOptions(signals=True))
    finally:
        signals.post_save.disconnect(saved, zoo.Vault)
    assert "--signals" in str(caught.value)
    assert not rows(zoo.Vault, new).exists()


# Natural keys that are none


def label(pk: int | None, thing: int, text: str) -> dict[str, Any]:
    return record("zoo.label", pk, thing=thing, text=text)


@pytest.mark.parametrize("has_pks", [True, False])
def test_keys_that_do_not_tell_rows_apart_count_as_none(new: str, has_pks: bool) -> None:
    put(new, zoo.Label, id=1, thing=9, text="other")
    labels = [(1, 5, "a"), (2, 5, "b"), (3, 6, "a"), (4, 5, "b")]
    records = [label(pk if has_pks else None, thing, text) for pk, thing, text in labels]
    backup = json.dumps(records).encode()
    report = fastnk.restore(backup, database=new)
    assert (report.created, report.weak_keys.keys()) == (4, {"zoo.label"})
    held = sorted(rows(zoo.Label, new).values_list("thing", "text"))
    assert held == [(5, "a"), (5, "b"), (5, "b"), (6, "a"), (9, "other")]
    again = fastnk.restore(backup, database=new)
    assert (again.unchanged, again.created, again.complete) == (4, 0, True)


def test_keys_through_rows_that_keys_do_not_tell_apart_count_as_none(new: str) -> None:
    put(new, zoo.Label, id=1, thing=9, text="other")
    records = [label(pk, 5, text) for pk, text in enumerate("abcd", start=1)]
    records += [record("zoo.sign", pk, colour=f"colour {pk}") for pk in (2, 3)]
    records += [record("zoo.sticky", pk, label=pk, number=1) for pk in (1, 4)]
    backup = json.dumps(records).encode()
    report = fastnk.restore(backup, database=new)
    assert (report.created, report.weak_keys.keys()) == (
        8,
        {"zoo.label", "zoo.sign", "zoo.sticky"},
    )
    signs = rows(zoo.Sign, new).values_list("label_ptr__text", "colour")
    assert sorted(signs) == [("b", "colour 2"), ("c", "colour 3")]
    assert sorted(rows(zoo.Sticky, new).values_list("label__text", flat=True)) == ["a", "d"]
    again = fastnk.restore(backup, database=new)
    assert (again.unchanged, again.created, again.complete) == (8, 0, True)


def test_references_by_a_key_that_only_others_share(new: str) -> None:
    put(new, zoo.Label, id=1, thing=7, text="other")
    labels = [label(None, 5, "a"), label(None, 5, "b"), label(None, 6, "c")]

    def sticky(thing: int) -> dict[str, Any]:
        return record("zoo.sticky", None, label=[thing], number=1)

    for created in (4, 0):
        report = restored(new, *labels, sticky(6))
        assert (report.created, report.weak_keys.keys()) == (created, {"zoo.label"})
    assert rows(zoo.Sticky, new).get().label.text == "c"
    for thing in (5, 7):
        assert refused(new, [*labels, sticky(thing)], schema=project_schema()) == [
            ("FNK410", 4, "label")
        ]


@pytest.mark.parametrize("is_referred_to", [True, False])
def test_keys_that_several_rows_have_are_refused_or_count_as_none(
    new: str, is_referred_to: bool
) -> None:
    for pk, text in enumerate("ab", start=1):
        put(new, zoo.Label, id=pk, thing=5, text=text)
    records = [label(2, 5, "c"), label(3, 6, "d")]
    if is_referred_to:
        records.append(record("zoo.sticky", 1, label=2, number=1))
    assert refused(new, records, schema=project_schema()) == [("FNK414", 1, None)]
    keep = RestoreOptions(duplicate_keys=True, verify=True)
    report = restored(new, *records, options=keep)
    assert (report.created, report.weak_keys.keys()) == (len(records), {"zoo.label"})
    assert sorted(rows(zoo.Label, new).values_list("text", flat=True)) == ["a", "b", "c", "d"]
    assert [row.label.text for row in rows(zoo.Sticky, new)] == ["c"] * is_referred_to
    assert restored(new, *records, options=keep).unchanged == len(records)


def schema_with_generic_ids_as_keys() -> Schema:
    """As in a table of tags whose key is the id of what is tagged."""
    project = project_schema()
    sticker = structs.replace(project.models["zoo.sticker"], natural_key=["object_id"])
    return structs.replace(project, models=project.models | {"zoo.sticker": sticker})


def test_keys_of_generic_ids_that_do_not_tell_rows_apart_count_as_none(new: str) -> None:
    schema = schema_with_generic_ids_as_keys()
    records = [keeper("Anna"), keeper("Béla")]
    for pk, (name, text) in enumerate([("Anna", "a"), ("Anna", "b"), ("Béla", "a")], start=1):
        one = record("zoo.sticker", pk, content_type=["zoo", "keeper"], object_id=7, text=text)
        records.append(one | {"references": {"object_id": [name]}})
    report = load(new, records, schema, options=RestoreOptions(verify=True))
    assert (report.created, report.weak_keys.keys()) == (5, {"zoo.sticker"})
    held = [(row.thing.name, row.text) for row in rows(zoo.Sticker, new)]
    assert sorted(held) == [("Anna", "a"), ("Anna", "b"), ("Béla", "a")]
    assert load(new, records, schema).unchanged == 5


def test_an_id_that_may_be_one_of_any_model_tells_no_rows_apart(new: str) -> None:
    schema = schema_with_generic_ids_as_keys()
    long_ago = datetime(2001, 2, 3, tzinfo=UTC)
    put(new, zoo.Keeper, id=5, name="Anna", joined=long_ago, seen=long_ago)
    kind = ContentType.objects.db_manager(new).get_for_model(zoo.Keeper)
    put(new, zoo.Sticker, id=1, text="theirs", content_type_id=kind.pk, object_id="5")
    of_tag = record("zoo.sticker", 1, content_type=["zoo", "tag"], object_id="5", text="a")
    of_anna = record("zoo.sticker", 2, content_type=["zoo", "keeper"], object_id="7", text="b")
    of_anna["references"] = {"object_id": ["Anna"]}
    records = [record("zoo.tag", 5, label="new"), keeper("Anna"), of_tag, of_anna]
    report = load(new, records, schema, options=RestoreOptions(verify=True))
    assert (report.created, report.weak_keys.keys()) == (3, {"zoo.sticker"})
    held = {row.text: type(row.thing) for row in rows(zoo.Sticker, new)}
    assert held == {"theirs": zoo.Keeper, "a": zoo.Tag, "b": zoo.Keeper}
    assert load(new, records, schema).unchanged == 4


@pytest.mark.parametrize("is_there", [True, False])
def test_keys_that_methods_make_of_generic_ids_count_as_none(
    new: str, monkeypatch: pytest.MonkeyPatch, *, is_there: bool
) -> None:
    def key(sticker: zoo.Sticker) -> tuple[Any, ...]:
        return (*sticker.content_type.natural_key(), [sticker.object_id], sticker.text)

    monkeypatch.setattr(zoo.Sticker, "natural_key", key, raising=False)
    project, method = project_schema(), f"{zoo.__name__}.Sticker.natural_key"
    sticker = structs.replace(project.models["zoo.sticker"], natural_key_method=method)
    schema = structs.replace(project, models=project.models | {"zoo.sticker": sticker})
    long_ago = datetime(2001, 2, 3, tzinfo=UTC)
    for pk, name in ((7, "other"), (8, "Anna")):
        put(new, zoo.Keeper, id=pk, name=name, joined=long_ago, seen=long_ago)
    kind = ContentType.objects.db_manager(new).get_for_model(zoo.Keeper)
    if is_there:
        put(new, zoo.Sticker, id=5, text="a", content_type_id=kind.pk, object_id="7")
    of_anna = record("zoo.sticker", 1, content_type=["zoo", "keeper"], object_id="7", text="a")
    of_anna |= {"natural_key": ["zoo", "keeper", ["7"], "a"], "references": {"object_id": ["Anna"]}}
    records = [keeper("Anna"), of_anna]
    report = load(new, records, schema, options=RestoreOptions(verify=True))
    assert report.weak_keys.keys() == {"zoo.sticker"}
    held = sorted(row.thing.name for row in rows(zoo.Sticker, new))
    assert held == ["Anna", *["other"] * is_there]
    assert load(new, records, schema).unchanged == 2


def test_methods_ask_the_backup_or_the_database_that_is_restored(new: str) -> None:
    put(new, zoo.Ancestry, id=7, name="other")
    records = [
        record("zoo.ancestry", 8, name="child", parent=7),
        record("zoo.ancestry", 7, name="root", parent=None),
    ]
    for count in (2, 0):
        report = fastnk.restore(json.dumps(records).encode(), database=new)
        assert (report.created, report.updated, report.weak_keys) == (count, 0, {})
    assert rows(zoo.Ancestry, new).get(name="child").parent.name == "root"


# Values of types that only their fields know


def test_objects_without_equality_in_a_circle_are_found_again(new: str) -> None:
    put(new, zoo.Draft, id=1, dot=zoo.Dot(0, 0))
    kind = ["zoo", "draft"]
    records = [
        record("zoo.draft", 1, dot="1 2", latest=5),
        record("zoo.draft", 2, dot="1 3", latest=None),
        record("zoo.version", 5, content_type=kind, object_id="1"),
    ]
    assert restored(new, *records).created == 3
    assert rows(zoo.Draft, new).get(latest__isnull=False).latest.of.dot.y == 2
    assert restored(new, *records).unchanged == 3
    records[1]["fields"]["dot"] = "4 4"
    assert restored(new, *records).updated == 0


def test_objects_are_told_by_what_a_backup_says_of_them(new: str) -> None:
    put(new, zoo.Pin, id=1, spot=zoo.Dot(0, 0))
    records = [record("zoo.pin", pk, spot=f"{pk} 2") for pk in (1, 2)]
    report = restored(new, *records, options=RestoreOptions(verify=True))
    assert (report.created, report.unchanged) == (2, 0)
    assert restored(new, *records).unchanged == 2
    assert {row.spot.x for row in rows(zoo.Pin, new)} == {0, 1, 2}


def test_values_that_a_database_gives_in_another_form_are_the_same(new: str) -> None:
    put(new, zoo.Beacon, id=7, serial="0x1f", name="old", note="")
    put(new, zoo.Filter, id=7, colour="0xa", slot="0x2")
    records = [
        record("zoo.beacon", 1, serial=31, name="new"),
        record("zoo.flash", 1, beacon=31, colour=255),
        record("zoo.flash", 2, beacon=31, colour=None),
        keyed("zoo.filter", 10, colour=10, slot=2),
        keyed("zoo.filter", 11, colour=11, slot=3),
    ]
    report = restored(new, *records)
    assert (report.created, report.updated, report.unchanged) == (3, 1, 1)
    assert restored(new, *records).unchanged == 5
    assert refused(new, [keyed("zoo.filter", 12, colour=12, slot=3)], schema=project_schema())
    records[0]["fields"]["name"] = "newer"
    assert restored(new, *records).updated == 1


@pytest.mark.parametrize("note", [None, ""])
def test_fields_that_store_a_text_for_none_take_it(new: str, note: str | None) -> None:
    put(new, zoo.Beacon, id=7, serial="0x1", name="a", note="old")
    records = [record("zoo.beacon", pk, serial=pk, name="a", note=note) for pk in (1, 2)]
    report = restored(new, *records)
    assert (report.created, report.updated) == (1, 1)
    assert restored(new, *records).unchanged == 2
    with connections[new].cursor() as cursor:
        cursor.execute("SELECT note FROM zoo_beacon")
        assert list(cursor.fetchall()) == [("",), ("",)]


def test_fields_that_cannot_read_what_they_write_are_told(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django writes `str()` of an object that a field makes of its text."""
    records = [record("zoo.beacon", 1, serial="0x1", name="a", note="[]")]
    assert restored(new, *records, dry_run=True).misread == []

    def words(field: Any, value: Any) -> frozenset[str]:
        return value if isinstance(value, frozenset) else frozenset(value.split())

    monkeypatch.setattr(zoo.BlankField, "to_python", words)
    monkeypatch.setattr(zoo.BlankField, "get_prep_value", lambda field, value: " ".join(value))
    assert restored(new, *records, dry_run=True).misread == ["zoo.beacon.note"]


def words_of(field: Any, value: Any) -> list[str]:
    return value if isinstance(value, list) else value.split()


def words_or_none(field: Any, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValidationError("Must be a list.")
    return value


class Day(date):
    """Is equal to none of Python's, and has no hash."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Day) and super().__eq__(other)


def test_dates_of_a_class_of_the_projects_own(new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(value: date, *_: Any) -> Day:
        return Day(value.year, value.month, value.day)

    hired = zoo.Keeper._meta.get_field("hired")
    monkeypatch.setattr(hired, "from_db_value", shown, raising=False)
    verify = RestoreOptions(verify=True)
    assert restored(new, keeper("a", hired="2020-01-02"), options=verify).created == 1
    assert restored(new, keeper("a", hired="2020-01-02")).unchanged == 1
    assert restored(new, keeper("a", hired="2020-01-03"), options=verify).updated == 1
    assert rows(zoo.Keeper, new).get().hired == Day(2020, 1, 3)


@pytest.mark.parametrize("to_python", [words_of, words_or_none])
@pytest.mark.parametrize("note", [[], ["it's"], ["a", "b"]])
def test_lists_that_fields_make_of_their_texts_are_what_their_backups_show(
    new: str, monkeypatch: pytest.MonkeyPatch, to_python: Any, note: list[str]
) -> None:
    monkeypatch.setattr(zoo.BlankField, "to_python", to_python)
    monkeypatch.setattr(zoo.BlankField, "from_db_value", lambda field, value, *_: value.split())
    monkeypatch.setattr(zoo.BlankField, "get_prep_value", lambda field, value: " ".join(value))
    put(new, zoo.Beacon, id=7, serial="0x1", name="a", note=note)
    dumped = json.loads(serializers.serialize("json", rows(zoo.Beacon, new)))
    assert dumped[0]["fields"]["note"] == str(note)
    report = restored(new, *dumped)
    assert (report.unchanged, report.misread) == (1, [])
    rows(zoo.Beacon, new).update(note=["other"])
    assert restored(new, *dumped, options=RestoreOptions(verify=True)).updated == 1
    assert rows(zoo.Beacon, new).get().note == note


def test_a_text_is_as_long_as_its_column_takes_not_its_field(new: str) -> None:
    restored(new, vault("a", content="longer than ten"))
    assert rows(zoo.Vault, new).get().content == "longer than ten"


def test_texts_that_look_like_lists_stay_texts(new: str) -> None:
    restored(new, record("zoo.beacon", 1, serial="0x1", name="['a']", note=r"['\d']"))
    row = rows(zoo.Beacon, new).get()
    assert (row.name, row.note) == ("['a']", r"['\d']")


def test_values_that_can_be_compared_with_their_like_alone(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo.Dot, "__eq__", lambda one, other: (one.x, one.y) == (other.x, other.y))
    put(new, zoo.Draft, id=5, dot=zoo.Dot(1, 2))
    records = [record("zoo.draft", 5, dot="1 2"), record("zoo.draft", 6, dot="3 4")]
    report = restored(new, *records)
    assert (report.created, report.unchanged) == (1, 1)


def test_records_that_need_what_needs_a_circle(new: str) -> None:
    put(new, zoo.Draft, id=1, dot=zoo.Dot(0, 0))
    records = [
        record("zoo.vote", 1, verdict=1),
        record("zoo.verdict", 1, draft=1, text="good"),
        record("zoo.draft", 1, dot="1 2", latest=5),
        record("zoo.version", 5, content_type=["zoo", "draft"], object_id="1"),
    ]
    assert restored(new, *records).created == 4
    assert restored(new, *records).unchanged == 4


TRIGGER = {
    "sqlite": [
        "CREATE TRIGGER tell AFTER INSERT ON zoo_secret BEGIN"
        " INSERT INTO zoo_memo (text) VALUES ('new: ' || NEW.name); END"
    ],
    "postgresql": [
        "CREATE FUNCTION tell_of_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO zoo_memo (text) VALUES ('new: ' || NEW.name); RETURN NULL; END $$",
        "CREATE TRIGGER tell AFTER INSERT ON zoo_secret FOR EACH ROW EXECUTE FUNCTION tell_of_it()",
    ],
    "mysql": [
        "CREATE TRIGGER tell AFTER INSERT ON zoo_secret FOR EACH ROW"
        " INSERT INTO zoo_memo (text) VALUES (CONCAT('new: ', NEW.name))"
    ],
}


@pytest.fixture(params=["trigger", "receiver"])
def teller(request: pytest.FixtureRequest, new: str) -> Iterator[RestoreOptions]:
    """What creates a memo for each secret, and the options that let it."""
    if request.param == "receiver":

        def tell(sender: Any, instance: Any, using: str, **more: Any) -> None:
            zoo.Memo.objects.using(using).create(text=f"new: {instance.name}")

        signals.post_save.connect(tell, zoo.Secret)
        yield RestoreOptions(signals=True)
        signals.post_save.disconnect(tell, zoo.Secret)
        return
    vendor = connections[new].vendor
    with connections[new].cursor() as cursor:
        for statement in TRIGGER[vendor]:
            cursor.execute(statement)
    yield RestoreOptions()
    with connections[new].cursor() as cursor:
        cursor.execute(f"DROP TRIGGER tell{' ON zoo_secret' * (vendor == 'postgresql')}")
        if vendor == "postgresql":
            cursor.execute("DROP FUNCTION tell_of_it")


def test_rows_that_others_create_meanwhile_get_no_pk_of_the_backup(
    new: str, teller: RestoreOptions
) -> None:
    records = [keyed("zoo.secret", name, name=name) for name in "AB"]
    records += [record("zoo.memo", 1, text="a"), record("zoo.memo", 2, text="b", parent=1)]
    restored(new, *records, options=teller)
    texts = {memo.pk: memo.text for memo in rows(zoo.Memo, new)}
    assert (texts.pop(1), texts.pop(2)) == ("a", "b")
    assert sorted(texts.values()) == ["new: A", "new: B"]
    assert zoo.Memo.objects.using(new).create(text="next").pk > max(texts)


# UUIDs that fields make


def test_unique_columns_tell_rows_whose_uuids_the_new_system_made_itself(new: str) -> None:
    """As those that a migration makes in any system, each time with other UUIDs."""
    project = project_schema()
    sensor = structs.replace(project.models["zoo.sensor"], natural_key=None)
    schema = structs.replace(project, models=project.models | {"zoo.sensor": sensor})
    seeded = zoo.Sensor.objects.using(new).create(serial="seeded")
    moved = zoo.Sensor.objects.using(new).create(serial="before", id=UUID(int=9))
    old, other = (str(UUID(int=number)) for number in (7, 8))
    kind = ["zoo", "sensor"]
    records = [
        record("zoo.sensor", old, serial="seeded"),
        record("zoo.sensor", other, serial="other"),
        record("zoo.sensor", str(moved.id), serial="after"),
        record("zoo.reading", str(UUID(int=1)), sensor=old, celsius=1.5),
        record("zoo.reading", str(UUID(int=2)), sensor=other, celsius=2.5),
        record("exact.sticker", 1, kind=kind, which=old, code="s"),
    ]
    for created, updated in ((4, 1), (0, 0)):
        report = load(new, records, schema, options=RestoreOptions(verify=True))
        assert (report.created, report.updated) == (created, updated)
    sensors = dict(rows(zoo.Sensor, new).values_list("serial", "id"))
    assert sensors == {"seeded": seeded.id, "other": UUID(other), "after": moved.id}
    held = rows(zoo.Reading, new).order_by("celsius").values_list("sensor__serial", flat=True)
    assert list(held) == ["seeded", "other"]
    assert rows(exact.Sticker, new).get().which == str(seeded.id)


# Pks of another type than those of today


def test_texts_that_were_pks_where_the_database_numbers_rows_today(new: str) -> None:
    """They say which row is meant, and no more."""
    zoo.Tag.objects.using(new).create(id=7, label="other")
    records = [
        record("zoo.tag", "tag-red", label="red"),
        record("zoo.tag", 7, label="blue"),
        record("zoo.tag", "tag-green", label="green"),
        record("zoo.memo", "m", text="a", tags=["tag-red", 7]),
        record("zoo.memo", "n", text="b", tags=["tag-green"]),
    ]
    for created in (5, 0):
        report = fastnk.restore(encoded(records), database=new, verify=True)
        assert (report.created, report.updated, report.renumbered) == (created, 0, created)
    held = rows(zoo.Memo, new).order_by("text", "tags__label").values_list("text", "tags__label")
    assert list(held) == [("a", "blue"), ("a", "red"), ("b", "green")]
    assert ("FNK410", 1, "tags") in refused(new, [record("zoo.memo", 1, text="", tags=["tag-x"])])


def test_numbers_that_were_pks_where_fields_make_uuids_today(new: str) -> None:
    """They say which row is meant, as numbers and as texts, and no more: Django would make of each
    the same UUID in whatever backup."""
    exact.Firmware.objects.using(new).create(id=UUID(int=1))
    kind = ["exact", "firmware"]
    records = [
        keyed("exact.device", "d", serial="d") | {"pk": 1},
        record("exact.firmware", 1, devices=[1], after=None),
        record("exact.firmware", 2, devices=[], after=1),
        record("exact.sticker", 1, kind=kind, which="2", code="s"),
        record("exact.pin", 1, content_type=kind, object_id=2),
        record("zoo.reading", 1, sensor=["s"], celsius=1.5),
        keyed("zoo.sensor", "s", serial="s"),
    ]
    for created in (7, 0):
        report = fastnk.restore(encoded(records), database=new, verify=True)
        assert (report.created, report.updated) == (created, 0)
    first, second = exact.Firmware.objects.using(new).exclude(id=UUID(int=1)).order_by("after_id")
    if first.after_id:
        first, second = second, first
    assert [device.serial for device in first.devices.all()] == ["d"]
    assert second.after_id == first.id
    assert exact.Sticker.objects.using(new).get().which == str(second.id)
    assert exact.Pin.objects.using(new).get().object_id == second.id
    ids = {first.id, second.id, first.devices.get().id, zoo.Reading.objects.using(new).get().id}
    assert {pk.version for pk in ids} == {4}
    note = record("exact.note", 1, content_type=kind, object_id=1, text="a")
    firmware = record("exact.firmware", 1, devices=[], after=None)
    found = refused(new, [firmware, note], schema=project_schema())
    assert found == [("FNK413", 2, "object_id")]
    unknown = [records[1], record("exact.firmware", 2, devices=[], after=3)]
    assert ("FNK410", 2, "after") in refused(new, unknown)
