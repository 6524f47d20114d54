"""Restores into real databases: what is there afterwards, and what is refused before."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import django
import msgspec
import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.core import serializers
from django.db import connections
from django.test.utils import CaptureQueriesContext

import fastnk
from fastnk import lanes
from fastnk.cli import main
from fastnk.convert import LegacyBackupConverter, Policies
from fastnk.detect import HEAD_BYTES, BackupFormatDetector
from fastnk.django.restore import reading
from fastnk.django.restore.engines import engine_of
from fastnk.django.restore.loader import Loader
from fastnk.django.restore.report import ModelCounts, RestoreOptions, RestoreReport
from fastnk.errors import (
    BackupSyntaxError,
    Finding,
    FindingsError,
    LockedError,
    RestoreError,
    SchemaError,
    SourceError,
    UsageError,
)
from fastnk.progress import Progress
from fastnk.restore.chunks import read_chunks
from fastnk.schema import GenericRelation, Model, Relation, Schema
from tests import databases
from tests import zoo as backups
from tests.databases import at_once
from tests.project.exact.models import (
    Badge,
    Beacon,
    Crowd,
    Desk,
    Device,
    Floor,
    Keyhole,
    Locker,
    Note,
    Person,
    Profile,
    Room,
    Snack,
)
from tests.project.zoo import models as zoo
from tests.zoo import SCHEMA, Record, by_keys, project_schema, put, rows, tables

if django.VERSION >= (5, 2):
    from tests.project.exact.models import Seat, Ticket

needs_composite_pks = pytest.mark.skipif(django.VERSION < (5, 2), reason="came with Django 5.2")

STYLES = {
    "legacy": backups.legacy,
    "fastnk": backups.converted,
    "django": backups.django_natural,
}


@cache
def dumped(style: str, alias: str) -> str:
    return json.dumps(STYLES[style](alias))


@pytest.fixture(scope="session")
def old(renew: Callable[[str], str]) -> str:
    """The alias of the full zoo; tests only read it."""
    alias = renew("old")
    backups.fill(alias)
    return alias


@pytest.fixture(params=STYLES)
def backup(request: pytest.FixtureRequest, old: str) -> list[Record]:
    """The full zoo in each style, without what Django's own style cannot hold."""
    records = json.loads(dumped(request.param, old))
    return without_lost_pks(records) if request.param == "django" else records


def without_lost_pks(records: list[Record]) -> list[Record]:
    for record in records:
        if record["model"] == "zoo.animal":
            record["fields"]["status"] = None
    return [record for record in records if record["model"] not in backups.DJANGO_LOSES]


def load(
    alias: str,
    records: Any,
    schema: Schema = SCHEMA,
    *,
    name: str | None = None,
    dry_run: bool = False,
    options: RestoreOptions | None = None,
) -> RestoreReport:
    loader = Loader(schema, alias, dry_run=dry_run, options=options)
    counts = None if callable(records) else counts_of(records)
    return loader.load(chunks_of(records), name, counts=counts)


def counts_of(records: Any) -> Counter[str] | None:
    """How many there are of each label, as the conversion reports; `None` for no records."""
    try:
        return Counter(one["model"] for one in records)
    except (KeyError, TypeError):
        return None


def chunks_of(records: Any) -> Callable[[str], Iterator[bytes]]:
    """Records as a restore reads them; those that are called for come one by one."""

    def chunks(phase: str) -> Iterator[bytes]:
        if not callable(records):
            yield json.dumps(records).encode()
            return
        for one in records():
            yield json.dumps([one]).encode()

    return chunks


def record(model: str, pk: Any = None, /, **fields: Any) -> Record:
    return {"model": model, "pk": pk, "fields": fields}


def keyed(model: str, *key: Any, **fields: Any) -> Record:
    return {"model": model, "natural_key": list(key), "fields": fields}


def keeper(name: str, **fields: Any) -> Record:
    times = {"joined": "2001-02-03T04:05:06.789Z", "seen": "2001-02-03T04:05:06.789Z"}
    return keyed("zoo.keeper", name, name=name, **times | fields)


def told_of(records: list[Record], contents: dict[str, list[str]]) -> dict[str, list[str]]:
    """What a database holds of the models in a backup."""
    models = {record["model"] for record in records}
    return {label: told for label, told in contents.items() if label in models}


def refused(alias: str, records: Any, **options: Any) -> list[tuple[str, int | None, str | None]]:
    """Code, record and field of the findings; nothing was written."""
    before = tables(alias)
    with pytest.raises(FindingsError) as caught:
        load(alias, records, **options)
    assert tables(alias) == before
    assert caught.value.total == len(caught.value.findings)
    return [
        (finding.code, finding.place.record, finding.place.field)
        for finding in caught.value.findings
    ]


def counts(report: RestoreReport) -> tuple[int, int, int, int]:
    return report.created, report.updated, report.unchanged, report.renumbered


# The whole zoo


def test_into_an_empty_database_gives_the_old_one_and_once_more_changes_nothing(
    old: str, new: str, backup: list[Record]
) -> None:
    report = load(new, backup)
    expected = told_of(backup, by_keys(old))
    if not any(record["model"] == "zoo.status" for record in backup):
        expected = without_status(expected)
    assert told_of(backup, by_keys(new)) == expected
    assert report.records == len(backup)
    assert report.renumbered == 0
    assert report.generic_kept == 0
    before = tables(new)
    assert counts(load(new, backup)) == (0, 0, len(backup), 0)
    assert tables(new) == before


def test_models_in_capitals_are_read_as_django_reads_them(old: str, new: str) -> None:
    records = json.loads(dumped("legacy", old))
    spelled = [one | {"model": apps.get_model(one["model"])._meta.label} for one in records]
    fastnk.restore(json.dumps([*spelled[::2], *records[1::2]]).encode(), SCHEMA, database=new)
    assert told_of(records, by_keys(new)) == told_of(records, by_keys(old))


def without_status(told: dict[str, list[str]]) -> dict[str, list[str]]:
    return {
        label: [text.replace("'status': ('WELL',)", "'status': None") for text in texts]
        for label, texts in told.items()
    }


def test_over_rows_that_own_the_pks(old: str, new: str, backup: list[Record]) -> None:
    """Planned, done, and done once more."""
    backups.soil(new)
    before, rows_before, sequences = by_keys(new), tables(new), positions(new)
    planned = load(new, backup, dry_run=True)
    assert (tables(new), positions(new)) == (rows_before, sequences)
    report = load(new, backup)
    assert planned.dry_run
    assert not report.dry_run
    assert planned.models == report.models
    assert planned.generic_kept == report.generic_kept
    found = by_keys(new)
    assert_all_is_there(old, backup, found)
    for label, told in found.items():
        created = report.models[label].created if label in report.models else 0
        assert len(told) == len(before[label]) + created, label
    assert report.renumbered == (8 if "zoo.sticker" in report.models else 6)
    assert report.models["zoo.keeper"].created == 3
    assert report.models["zoo.keeper"].updated == 1
    rows_after = tables(new)
    assert counts(load(new, backup)) == (0, 0, len(backup), 0)
    assert tables(new) == rows_after


def assert_all_is_there(old: str, backup: list[Record], found: dict[str, list[str]]) -> None:
    wanted = told_of(backup, by_keys(old))
    if not any(record["model"] == "zoo.status" for record in backup):
        wanted = without_status(wanted)
    missing = {label: Counter(told) - Counter(found[label]) for label, told in wanted.items()}
    assert not {label: texts for label, texts in missing.items() if texts}


def positions(alias: str) -> Any:
    """Where the sequences of a database stand; SQLite keeps them in a table."""
    if connections[alias].vendor != "postgresql":
        return None
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1")
        return cursor.fetchall()


def test_pk_zero_stays_zero(new: str) -> None:
    records = [record("zoo.tag", 0, label="zero"), record("zoo.memo", 5, text="", tags=[0])]
    records += [record("zoo.visit", 0, tag=0, day="2020-01-01", guests=1)]
    assert load(new, records).created == 3
    assert rows(zoo.Tag, new).get().pk == 0
    assert rows(zoo.Memo, new).get().tags.get().pk == 0
    assert rows(zoo.Visit, new).get().tag_id == 0
    assert counts(load(new, records)) == (0, 0, 3, 0)


def test_rows_of_large_tables_are_found_again(
    new: str, backup: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of which not all rows are read."""
    monkeypatch.setattr("fastnk.django.restore.existing.MOST_READ", 0)
    load(new, backup)
    before = tables(new)
    assert counts(load(new, backup)) == (0, 0, len(backup), 0)
    assert tables(new) == before


def test_natural_dumps_of_both_databases_are_equal(old: str, new: str) -> None:
    backups.soil(new)
    load(new, json.loads(dumped("fastnk", old)))
    models = [User, Group, zoo.Keeper, zoo.Species, zoo.Status, zoo.Enclosure, zoo.Passport]

    def natural(alias: str, model: Any) -> dict[str, Any]:
        text = serializers.serialize(
            "json",
            rows(model, alias),
            use_natural_foreign_keys=True,
            use_natural_primary_keys=True,
        )
        return {json.dumps(one["fields"]): one for one in json.loads(text)}

    for model in models:
        assert natural(old, model).items() <= natural(new, model).items()


def test_records_in_any_order(old: str, new: str, backup: list[Record]) -> None:
    backups.soil(new)
    report = load(new, backup[::-1])
    assert_all_is_there(old, backup, by_keys(new))
    assert counts(load(new, backup)) == (0, 0, report.records, 0)


def test_ordinary_rows_can_be_created_afterwards(old: str, new: str) -> None:
    backups.soil(new)
    load(new, json.loads(dumped("legacy", old)))
    highest = max(rows(zoo.Tag, new).values_list("pk", flat=True))
    assert zoo.Tag.objects.using(new).create(label="next").pk > highest
    zoo.Species.objects.using(new).create(code="ELE", latin="loxodonta")
    zoo.Event.objects.using(new).create(uuid=UUID(int=7), text="next")
    tiger = zoo.Animal.objects.using(new).get(name="Tig")
    tiger.tags.add(*rows(zoo.Tag, new))
    assert tiger.tags.count() == rows(zoo.Tag, new).count()


def test_receivers_of_signals_are_not_called(old: str, new: str) -> None:
    load(new, json.loads(dumped("legacy", old)))
    assert rows(zoo.Keeper, new).count() == 4
    assert not rows(zoo.Memo, new).filter(text__startswith="welcome").exists()


def test_report_names_the_database(old: str, new: str, engine: str) -> None:
    report = load(new, json.loads(dumped("legacy", old)))
    assert report.database == new
    assert report.engine == connections[new].vendor
    assert "new" in report.name
    assert report.as_dict()["created"] == report.created == 50


def test_report_names_the_schema_of_a_tenant(postgres: databases.Postgres) -> None:
    alias = "postgres_new"
    postgres.renew(alias)
    assert load(alias, [keeper("anna")], dry_run=True).schema is None
    with connections[alias].cursor() as cursor:
        cursor.execute("CREATE SCHEMA tenant; SET search_path = tenant, public")
    try:
        report = load(alias, [keeper("anna")], dry_run=True)
    finally:
        with connections[alias].cursor() as cursor:
            cursor.execute("DROP SCHEMA tenant; SET search_path = public")
    assert report.schema == "tenant"
    assert report.where.endswith(", schema tenant)")


# Whose row it is


def test_natural_key_decides_whatever_the_pk_says(new: str) -> None:
    put(new, zoo.Sensor, id=UUID(int=5), serial="S1")
    reading = record("zoo.reading", str(UUID(int=8)), sensor=["S1"], celsius=1.5)
    sensor = keyed("zoo.sensor", "S1", serial="S1")
    report = load(new, [sensor, reading])
    assert counts(report) == (1, 0, 1, 0)
    assert rows(zoo.Reading, new).get().sensor_id == UUID(int=5)


def test_keys_are_compared_to_the_letter(new: str) -> None:
    names = ["anna", "Anna", "Anna ", "Ännä", "A\u0308"]
    if connections[new].vendor == "mysql":  # whose unique columns take most of them for the same
        found = refused(new, [*map(keeper, names)])
        assert found == [("FNK418", number, "name") for number in (2, 3, 4)]
        load(new, [keeper("anna")])
        assert refused(new, [keeper("Anna ")]) == [("FNK418", 1, "name")]
        return
    load(new, [*map(keeper, names)])
    assert rows(zoo.Keeper, new).count() == 5


def test_only_what_differs_is_updated(new: str) -> None:
    load(new, [keeper("Anna", hired="1999-01-01"), keeper("Bela")])
    rows(zoo.Keeper, new).filter(name="Anna").update(hired=date(2020, 2, 2))
    with CaptureQueriesContext(
        connections[new],
    ) as queries:
        report = load(new, [keeper("Anna", hired="1999-01-01"), keeper("Bela")])
    assert counts(report) == (0, 1, 1, 0)
    (update,) = [query["sql"] for query in queries if query["sql"].startswith("UPDATE")]
    assert "hired" in update
    assert "joined" not in update
    assert rows(zoo.Keeper, new).get(name="Anna").hired == date(1999, 1, 1)


def test_fields_that_the_record_does_not_have_are_left_alone(new: str) -> None:
    load(new, [keeper("Anna", hired="1999-01-01")])
    report = load(new, [keyed("zoo.keeper", "Anna", name="Anna")])
    assert counts(report) == (0, 0, 1, 0)
    assert rows(zoo.Keeper, new).get().hired == date(1999, 1, 1)


def test_new_rows_get_defaults_for_fields_that_the_record_does_not_have(new: str) -> None:
    load(new, [keyed("zoo.keeper", "Anna", name="Anna"), keyed("zoo.sensor", "S", serial="S")])
    assert rows(zoo.Keeper, new).get().joined.year >= 2024
    assert rows(zoo.Sensor, new).get().pk.version == 4


def test_pk_without_key_is_kept_where_it_is_free(new: str) -> None:
    load(new, [record("zoo.tag", 77, label="a"), record("zoo.memo", 5, text="b", tags=[77])])
    assert rows(zoo.Tag, new).get().pk == 77
    assert list(rows(zoo.Memo, new).get().tags.values_list("pk", flat=True)) == [77]


def test_pk_without_key_moves_where_it_is_taken_and_references_follow(new: str) -> None:
    put(new, zoo.Tag, id=77, label="other")
    memo = record("zoo.memo", 5, text="b", tags=[77])
    visit = record("zoo.visit", 6, tag=77, day="2020-01-01", guests=1)
    report = load(new, [memo, visit, record("zoo.tag", 77, label="a")])
    moved = rows(zoo.Tag, new).get(label="a").pk
    assert moved != 77
    assert report.models["zoo.tag"].renumbered == 1
    assert list(rows(zoo.Memo, new).get().tags.values_list("pk", flat=True)) == [moved]
    assert rows(zoo.Visit, new).get().tag_id == moved


def test_new_pks_stay_clear_of_those_that_rows_bring_along(new: str) -> None:
    put(new, zoo.Tag, id=1, label="taken")
    load(new, [record("zoo.tag", pk, label=f"tag {pk}") for pk in range(1, 9)])
    assert rows(zoo.Tag, new).count() == 9
    assert zoo.Tag.objects.using(new).create(label="next").pk > 8


def test_same_content_under_another_pk_is_the_row(new: str) -> None:
    put(new, zoo.Tag, id=1, label="other")
    put(new, zoo.Tag, id=2, label="a")
    report = load(new, [record("zoo.tag", 1, label="a"), record("zoo.memo", 1, text="", tags=[1])])
    assert report.models["zoo.tag"].unchanged == 1
    assert list(rows(zoo.Memo, new).get().tags.values_list("pk", flat=True)) == [2]


def test_content_is_more_than_columns(new: str) -> None:
    put(new, zoo.Tag, id=1, label="a")
    put(new, zoo.Tag, id=2, label="b")
    put(new, zoo.Memo, id=1, text="same", tags=[1])
    load(new, [record("zoo.tag", 2, label="b"), record("zoo.memo", 1, text="same", tags=[2])])
    held = [list(memo.tags.values_list("pk", flat=True)) for memo in rows(zoo.Memo, new)]
    assert held == [[1], [2]]


def test_twins_are_two_rows(new: str) -> None:
    put(new, zoo.Tag, id=1, label="other")
    put(new, zoo.Tag, id=2, label="other")
    twins = [record("zoo.tag", 1, label="a"), record("zoo.tag", 2, label="a")]
    assert counts(load(new, twins)) == (2, 0, 0, 2)
    assert counts(load(new, twins)) == (0, 0, 2, 0)
    assert rows(zoo.Tag, new).filter(label="a").count() == 2


def test_long_chain_without_keys(new: str) -> None:
    put(new, zoo.Memo, id=1, text="other")
    chain = [record("zoo.memo", pk, text="same", parent=pk - 1 or None) for pk in range(1, 3001)]
    assert counts(load(new, chain))[:3] == (3000, 0, 0)
    assert counts(load(new, chain)) == (0, 0, 3000, 0)


def test_row_of_another_record_is_left_to_it(new: str) -> None:
    """All existing rows are the backup's, one pk further; but for one none may be doubled."""
    for pk, label in enumerate(["other", "a", "b", "c"], start=1):
        put(new, zoo.Tag, id=pk, label=label)
    shifted = [record("zoo.tag", pk, label=label) for pk, label in enumerate("abc", start=1)]
    assert counts(load(new, shifted)) == (0, 0, 3, 0)
    twins = [record("zoo.tag", 2, label="b"), record("zoo.tag", 3, label="b")]
    assert counts(load(new, twins)) == (1, 0, 1, 1)
    assert counts(load(new, twins)) == (0, 0, 2, 0)


def test_circles_of_rows_without_keys(new: str) -> None:
    for pk, name in ((1, "other"), (2, "b"), (3, "a")):
        with at_once(new):
            put(new, zoo.Swing, id=pk, name=name, rope_id=pk)
            put(new, zoo.Rope, id=pk, length=5, swing_id=pk)
    records = [
        record("zoo.swing", 1, name="a", rope=1),
        record("zoo.rope", 1, length=5, swing=1),
        record("zoo.swing", 2, name="b", rope=2),
        record("zoo.rope", 2, length=5, swing=2),
    ]
    assert counts(load(new, records)) == (0, 0, 4, 0)
    records[1]["fields"]["length"] = 6
    assert counts(load(new, records)) == (2, 0, 2, 2)
    assert counts(load(new, records)) == (0, 0, 4, 0)
    held = rows(zoo.Rope, new).values_list("length", "swing__name", "swing__rope__length")
    assert sorted(held) == [(5, "a", 5), (5, "b", 5), (5, "other", 5), (6, "a", 6)]


def test_circle_through_a_many_to_many_field(new: str) -> None:
    """The schema may know a model without the key that Django sees."""
    schema = Schema.of({"zoo.animal": Model()})
    backups.put_enclosure(new)
    leo = {"species_id": "LEO", "enclosure_id": 1, "habits": {}}
    for pk, name in ((1, "x"), (2, "c"), (3, "b"), (4, "a")):
        put(new, zoo.Animal, id=pk, name=name, **leo)
    friends = {1: ("a", [2]), 2: ("b", [1, 3]), 3: ("c", [2])}
    animals = [
        record("zoo.animal", pk, species="LEO", enclosure=1, name=name, friends=others)
        for pk, (name, others) in friends.items()
    ]
    for source, target in ((2, 3), (3, 2), (3, 4), (4, 3)):
        zoo.Animal.friends.through.objects.using(new).create(
            from_animal_id=source, to_animal_id=target
        )
    assert counts(load(new, animals, schema)) == (0, 0, 3, 0)


def test_one_to_one_relation_tells_rows_without_key(new: str) -> None:
    put(new, zoo.Keeper, id=8, name="Zoe", joined=backups.NOW, seen=backups.NOW)
    put(new, zoo.Keeper, id=9, name="Anna", joined=backups.NOW, seen=backups.NOW)
    put(new, zoo.Portrait, id=1, keeper_id=8, text="same")
    put(new, zoo.Portrait, id=2, keeper_id=9, text="before")
    portraits = [
        record("zoo.portrait", 1, keeper=["Anna"], text="after"),
        record("zoo.portrait", 2, keeper=["Bela"], text="same"),
    ]
    report = load(new, [*portraits, keeper("Anna"), keeper("Bela")])
    assert report.models["zoo.portrait"] == ModelCounts(
        created=1, updated=1, renumbered=1, unknown_rows=1
    )
    told = dict(rows(zoo.Portrait, new).values_list("keeper__name", "text"))
    assert told == {"Zoe": "same", "Anna": "after", "Bela": "same"}


def test_unique_column_tells_rows_without_key(new: str) -> None:
    put(new, zoo.Event, id=3, uuid=UUID(int=1), text="before")
    put(new, zoo.Event, id=4, uuid=UUID(int=2), text="other")
    report = load(new, [record("zoo.event", 4, uuid=str(UUID(int=1)), text="after")])
    assert counts(report) == (0, 1, 0, 0)
    assert rows(zoo.Event, new).get(pk=3).text == "after"
    assert rows(zoo.Event, new).get(pk=4).text == "other"


def test_pk_of_the_application_tells_rows_without_key(new: str) -> None:
    schema = Schema.of({"zoo.status": Model(pk="code")})
    put(new, zoo.Status, code="WELL", title="before")
    records = [record("zoo.status", "WELL", title="after"), record("zoo.status", "ILL", title="x")]
    assert counts(load(new, records, schema)) == (1, 1, 0, 0)
    assert rows(zoo.Status, new).get(code="WELL").title == "after"


def test_ids_of_rows_that_only_the_database_has(new: str) -> None:
    put(new, zoo.Tag, id=3, label="there")
    load(new, [record("zoo.memo", 1, text="", tags=[3]), keeper("Anna")])
    assert list(rows(zoo.Memo, new).get().tags.values_list("pk", flat=True)) == [3]


def test_keys_of_rows_that_only_the_database_has(new: str) -> None:
    load(new, [keeper("Anna")])
    load(new, [keeper("Bela", mentor=["Anna"])])
    assert rows(zoo.Keeper, new).get(name="Bela").mentor.name == "Anna"


def test_key_that_passes_through_rows_of_the_database(new: str) -> None:
    backups.put_enclosure(new)
    animal = record("zoo.animal", species="LEO", enclosure=1, name="Leo", habits={})
    passport = keyed("zoo.passport", "P", number="P", animal=["leo", "north", "Leo"])
    load(new, [animal, passport])
    assert rows(zoo.Passport, new).get().animal.name == "Leo"
    assert counts(load(new, [animal, passport])) == (0, 0, 2, 0)


def test_records_of_a_proxy_are_those_of_its_model(new: str) -> None:
    friendly = keeper("Anna") | {"model": "zoo.friendlykeeper"}
    report = load(new, [friendly, keeper("Bela", mentor=["Anna"])])
    assert report.models["zoo.keeper"].created == 2


def test_a_proxy_need_not_be_in_the_project_if_the_schema_has_it(new: str) -> None:
    keepers = msgspec.structs.replace(SCHEMA.models["zoo.keeper"], proxies=["zoo.nightkeeper"])
    schema = Schema.of({**SCHEMA.models, "zoo.keeper": keepers})
    report = load(new, [keeper("Anna") | {"model": "zoo.NightKeeper"}], schema)
    assert report.models["zoo.keeper"].created == 1


def test_rows_hidden_by_managers_are_found(new: str) -> None:
    put(new, zoo.Secret, id=1, name="low", hidden=True)
    report = load(new, [keyed("zoo.secret", "low", name="low", hidden=True)])
    assert counts(report) == (0, 0, 1, 0)


# What the rows hold


def test_values_are_those_of_the_backup(old: str, new: str) -> None:
    load(new, json.loads(dumped("fastnk", old)))
    leo = rows(zoo.Animal, new).get(name="Leo", enclosure__name="north")
    assert leo.weight == Decimal("190.50")
    assert leo.chart == [1, {"a": None}]
    assert leo.habits == {"sleeps": [18, 1.5, True, None]}
    assert leo.nap == timedelta(hours=3, microseconds=7)
    assert leo.photo.name == "leo.jpg"
    assert bytes(leo.print) == b"\x00\xff"
    anna = rows(zoo.Keeper, new).get(name="Anna")
    assert anna.joined == anna.seen == datetime(2001, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)


def test_every_type_of_value_is_updated(old: str, new: str) -> None:
    backup = json.loads(dumped("fastnk", old))
    load(new, backup)
    before = by_keys(new)
    animals = rows(zoo.Animal, new).filter(name="Leo", enclosure__name="north")
    plain = {"status_id": None, "weight": None, "chart": {"x": [True]}, "habits": []}
    others = {"born": None, "nap": timedelta(days=9), "photo": "other.jpg", "print": b""}
    assert animals.update(**plain, **others) == 1
    rows(zoo.Reading, new).update(celsius=-1.5)
    rows(zoo.Secret, new).update(hidden=False)
    rows(zoo.Keeper, new).update(mentor=None, hired=None, joined=backups.NOW)
    assert by_keys(new) != before
    assert load(new, backup).updated == 7
    assert by_keys(new) == before


@pytest.mark.skipif(django.VERSION < (5, 0), reason="came with Django 5.0")
def test_generated_columns_are_left_to_the_database(new: str) -> None:
    rope = record("zoo.rope", 1, length=5, swing=1, twice=999)
    records = [rope, record("zoo.swing", 1, name="x", rope=1)]
    load(new, records)
    assert rows(zoo.Rope, new).get().twice == 10
    assert counts(load(new, records)) == (0, 0, 2, 0)


def test_time_that_the_backup_cut_short_is_no_change(new: str) -> None:
    exact = datetime(2001, 2, 3, 4, 5, 6, 789123, tzinfo=UTC)
    put(new, zoo.Keeper, id=1, name="Anna", joined=exact, seen=exact)
    assert counts(load(new, [keeper("Anna")])) == (0, 0, 1, 0)
    assert rows(zoo.Keeper, new).get().joined == exact


def test_null_in_json_and_null_in_the_column(new: str) -> None:
    backups.put_enclosure(new)
    fields = {"species": ["leo"], "enclosure": ["north"], "name": "Leo"}
    animal = keyed("zoo.animal", "leo", "north", "Leo", **fields, habits=None, chart=None)
    load(new, [animal])
    nulls = rows(zoo.Animal, new).filter(habits__isnull=False, chart__isnull=True)
    assert nulls.get().habits is None
    rows(zoo.Animal, new).update(habits={"a": 1})
    assert counts(load(new, [animal])) == (0, 1, 0, 0)
    assert nulls.get().habits is None


@pytest.mark.parametrize(
    ("before", "after", "is_change"),
    [(1, True, True), (1, 1.0, False), ({"a": [0]}, {"a": [False]}, True), ("1", 1, True)],
)
def test_json_says_the_same_or_not(new: str, before: Any, after: Any, is_change: bool) -> None:
    backups.put_enclosure(new)
    put(new, zoo.Animal, id=1, species_id="LEO", enclosure_id=1, name="Leo", habits=before)
    report = load(new, [keyed("zoo.animal", "leo", "north", "Leo", habits=after)])
    assert report.updated == is_change
    assert type(rows(zoo.Animal, new).get().habits) is type(after if is_change else before)


def test_many_to_many_gets_and_loses_links(new: str) -> None:
    for pk in (1, 2, 3):
        put(new, zoo.Tag, id=pk, label=str(pk))
    put(new, zoo.Memo, id=9, text="other")
    put(new, zoo.Keeper, id=1, name="Anna", joined=backups.NOW, seen=backups.NOW)
    backups.put_enclosure(new)
    leo = {"species_id": "LEO", "enclosure_id": 1, "name": "Leo", "habits": {}}
    put(new, zoo.Animal, id=1, **leo, tags=[1, 2])
    animal = keyed("zoo.animal", "leo", "north", "Leo", tags=[2, 3, 3], keepers=[["Anna"]])
    assert counts(load(new, [animal])) == (0, 1, 0, 0)
    restored = rows(zoo.Animal, new).get()
    assert set(restored.tags.values_list("pk", flat=True)) == {2, 3}
    assert restored.keepers.get().name == "Anna"
    assert counts(load(new, [animal])) == (0, 0, 1, 0)


def test_generic_references_follow_or_are_counted(new: str) -> None:
    put(new, zoo.Tag, id=5, label="other")
    kind = ["zoo", "tag"]
    stickers = [
        record("zoo.sticker", 1, text="moved", content_type=kind, object_id="5"),
        record("zoo.sticker", 2, text="loose", content_type=kind, object_id="99"),
        record("zoo.sticker", 3, text="key", content_type=["zoo", "keeper"], object_id=["Anna"]),
    ]
    records = [*stickers, record("zoo.tag", 5, label="a"), keeper("Anna")]
    report = load(new, records)
    held = dict(rows(zoo.Sticker, new).values_list("text", "object_id"))
    assert held["moved"] == str(rows(zoo.Tag, new).get(label="a").pk)
    assert held["key"] == str(rows(zoo.Keeper, new).get().pk)
    assert held["loose"] == "99"
    assert report.generic_kept == 1
    assert counts(load(new, records)) == (0, 0, 5, 0)


def test_generic_reference_to_a_row_that_is_gone_never_means_another(new: str) -> None:
    loose = record("zoo.sticker", 1, text="loose", content_type=["zoo", "keeper"], object_id="2")
    records = [loose, *map(keeper, "abc")]
    load(new, records)
    assert not rows(zoo.Keeper, new).filter(pk=2)
    assert counts(load(new, records)) == (0, 0, 4, 0)
    put(new, zoo.Keeper, id=2, name="Zoe", joined=backups.NOW, seen=backups.NOW)
    assert refused(new, records) == [("FNK410", 1, "object_id")]
    kept = RestoreOptions(keep_generic=True)
    assert counts(load(new, records, options=kept)) == (0, 0, 4, 0)
    thing = GenericRelation(content_type="content_type", object_id="object_id", may_dangle=True)
    log = msgspec.structs.replace(SCHEMA.models["zoo.sticker"], generic_relations={"thing": thing})
    schema = Schema.of({**SCHEMA.models, "zoo.sticker": log})
    assert counts(load(new, records, schema)) == (0, 0, 4, 0)


def test_generic_references_through_content_types_of_proxies_follow(new: str) -> None:
    put(new, zoo.Keeper, id=1, name="Zoe", joined=backups.NOW, seen=backups.NOW)
    friendly = keeper("Anna") | {"model": "zoo.friendlykeeper", "pk": 1}
    kind = ["zoo", "friendlykeeper"]
    sticker = record("zoo.sticker", 1, text="a", content_type=kind, object_id="1")
    report = load(new, [sticker, friendly], project_schema())
    assert (report.generic_kept, counts(report)) == (0, (2, 0, 0, 0))
    assert rows(zoo.Sticker, new).get().object_id == str(rows(zoo.Keeper, new).get(name="Anna").pk)


def test_key_beside_the_fields_of_what_is_no_relation_is_refused(new: str) -> None:
    kind = ["zoo", "keeper"]
    sticker = record("zoo.sticker", 1, text="a", content_type=kind, object_id="1")
    sticker["references"] = {"object_id": ["Anna"]}
    blind = msgspec.structs.replace(SCHEMA.models["zoo.sticker"], generic_relations={})
    schema = Schema.of({**SCHEMA.models, "zoo.sticker": blind})
    assert refused(new, [sticker, keeper("Anna")], schema=schema) == [("FNK413", 1, "object_id")]
    load(new, [sticker, keeper("Anna")])
    assert rows(zoo.Sticker, new).get().object_id == str(rows(zoo.Keeper, new).get().pk)


def test_rows_that_only_a_log_names_are_found(new: str) -> None:
    """Of a model whose rows nothing else refers to, in any order, also where the log says ids."""
    tags = [record("zoo.tag", n, label=f"tag {n}") for n in range(1, 60)]
    put(new, zoo.Tag, id=7, label="taken")

    def log(n: int, object_id: Any) -> Record:
        kind = ["zoo", "tag"]
        return record("zoo.sticker", n, text=str(n), content_type=kind, object_id=object_id)

    stickers = [log(n, str(n)) for n in range(1, 60)]
    for records in ([*tags, *stickers], [*stickers, *tags]):
        load(new, records)
        held = dict(rows(zoo.Sticker, new).values_list("text", "object_id"))
        labels = dict(rows(zoo.Tag, new).values_list("label", "pk"))
        assert held == {str(n): str(labels[f"tag {n}"]) for n in range(1, 60)}
        assert labels["tag 7"] != 7


def test_a_model_without_a_table_is_not_asked_for_rows(new: str) -> None:
    """A log may name one that another program manages, or whose table is gone."""
    with connections[new].schema_editor() as editor:
        editor.delete_model(zoo.Vault)
    sticker = record("zoo.sticker", 1, text="a", content_type=["zoo", "vault"], object_id="7")
    assert load(new, [sticker], project_schema()).generic_kept == 1
    assert rows(zoo.Sticker, new).get().object_id == "7"


def test_generic_key_that_leads_nowhere_is_one_finding(new: str) -> None:
    schema = project_schema()
    note = record("exact.note", 1, text="a", content_type=["zoo", "keeper"], object_id=["Nobody"])
    assert refused(new, [note], schema=schema) == [("FNK410", 1, "object_id")]
    gone = record("exact.note", 1, text="a", content_type=["zoo", "dodo"], object_id=["Nobody"])
    assert refused(new, [gone], schema=schema) == [("FNK410", 1, "content_type")]
    assert load(new, [gone], schema, options=RestoreOptions(on_dangling="null")).created == 1
    assert [*rows(Note, new).values_list("content_type", "object_id")] == [(None, None)]
    pin = record("exact.pin", 1, content_type=["zoo", "dodo"], object_id=["Nobody"])
    assert ("FNK413", 1, "object_id") in refused(new, [pin], schema=schema)


def test_rows_whose_pk_is_a_relation_can_be_referred_to(new: str) -> None:
    """By the old id, which stands beside the reference that says what it means now."""
    User(id=9, username="other").save(using=new)
    backup = [
        record("exact.snack", 5, diet=9),
        record("exact.diet", 9, food="hay"),
        record("exact.profile", 9, biography="long"),
        record("auth.user", 9, username="anna", groups=[], user_permissions=[]),
    ]
    manager = fastnk.UnifiedRestoreManager(database=new)
    assert manager.restore_any_format(json.dumps(backup).encode()).created == 4
    snack = rows(Snack, new).get()
    assert snack.diet.profile.user.username == "anna"
    assert manager.restore_any_format(json.dumps(backup).encode()).created == 0


def shift(keeper: Any, day: str, old_keeper: int = 1) -> Record:
    return record("zoo.shift", [old_keeper, day], keeper=keeper, day=day)


@needs_composite_pks
def test_composite_pks_follow_the_rows_that_they_name(new: str) -> None:
    put(new, zoo.Keeper, id=1, name="Zoe", joined=backups.NOW, seen=backups.NOW)
    zoo.Shift.objects.using(new).create(keeper_id=1, day=date(2020, 1, 1))
    records = [shift(["Anna"], "2020-01-01"), shift(["Zoe"], "2020-01-01", 2), keeper("Anna")]
    assert counts(load(new, records)) == (2, 0, 1, 0)
    anna = rows(zoo.Keeper, new).get(name="Anna").pk
    days = [(1, date(2020, 1, 1)), (anna, date(2020, 1, 1))]
    assert sorted(rows(zoo.Shift, new).values_list("keeper_id", "day")) == sorted(days)
    assert counts(load(new, records)) == (0, 0, 3, 0)


SEATS = Schema.of(
    {
        "exact.floor": Model(pk="level", natural_key=["name"]),
        "exact.room": Model(
            natural_key=["floor__name", "number"], relations={"floor": Relation("exact.floor")}
        ),
        "exact.seat": Model(
            pk="pk",
            relations={"room": Relation("exact.room"), "floor": Relation("exact.floor")},
        ),
        "exact.ticket": Model(pk="pk", natural_key=["barcode"]),
    }
)


@needs_composite_pks
def test_rows_with_composite_pks_are_updated_in_bulk(new: str) -> None:
    """So many that a database takes neither their pks nor a condition on each of them at once."""
    floors = [
        {**keyed("exact.floor", name, name=name), "pk": level} for level, name in enumerate("ab")
    ]
    room = keyed("exact.room", "a", "1", floor=["a"], number="1")

    def seats(floor: str) -> list[Record]:
        return [
            record("exact.seat", [7, number], room=["a", "1"], number=number, floor=[floor])
            for number in range(2500)
        ]

    assert counts(load(new, [*seats("a"), room, *floors], SEATS)) == (2503, 0, 0, 0)
    assert counts(load(new, [*seats("b"), room, *floors], SEATS)) == (0, 2500, 3, 0)
    assert rows(Seat, new).filter(floor__name="b").count() == 2500
    assert counts(load(new, [*seats("b"), room, *floors], SEATS)) == (0, 0, 2503, 0)


def ticket(block: str, number: int, barcode: str) -> Record:
    return keyed("exact.ticket", barcode, block=block, number=number, barcode=barcode)


@needs_composite_pks
def test_natural_key_decides_whatever_the_composite_pk_says(new: str) -> None:
    load(new, [ticket("A", 1, "x"), ticket("A", 2, "y")], SEATS)
    moved = [ticket("B", 1, "x"), ticket("B", 2, "y")]
    assert counts(load(new, moved, SEATS)) == (0, 2, 0, 0)
    pks = rows(Ticket, new).values_list("block", "number", "barcode")
    assert sorted(pks) == [("B", 1, "x"), ("B", 2, "y")]
    assert counts(load(new, moved, SEATS)) == (0, 0, 2, 0)


@needs_composite_pks
def test_natural_key_with_foreign_pks_decides_whatever_the_composite_pk_says(new: str) -> None:
    """Of rows that have no more than pks, those pks tell rows apart."""
    by_room = Model(
        pk="pk",
        natural_key=["room__id", "floor__level"],
        relations={"room": Relation("exact.room"), "floor": Relation("exact.floor")},
    )
    schema = Schema.of({**SEATS.models, "exact.room": Model(), "exact.seat": by_room})
    floor = {**keyed("exact.floor", "a", name="a"), "pk": 3}
    room = record("exact.room", 7, number="1", floor=3)
    put(new, Floor, level=5, name="a")
    put(new, Floor, level=6, name="b")
    put(new, Room, id=7, number="other", floor_id=6)
    Seat.objects.using(new).create(room_id=7, number=1, floor_id=5)

    def seat(number: int) -> Record:
        return record("exact.seat", [7, number], room=7, number=number, floor=["a"])

    assert counts(load(new, [seat(1), room, floor], schema)) == (2, 0, 1, 1)
    moved = rows(Room, new).get(number="1").pk
    assert rows(Seat, new).filter(room_id=moved, number=1, floor_id=5).count() == 1
    assert counts(load(new, [seat(2), room, floor], schema)) == (0, 1, 2, 0)
    assert sorted(rows(Seat, new).values_list("room_id", "number")) == [(7, 1), (moved, 2)]


@needs_composite_pks
def test_composite_pks_that_cannot_be_had(new: str) -> None:
    Ticket.objects.using(new).create(block="A", number=1, barcode="x")
    put(new, zoo.Keeper, id=1, name="Zoe", joined=backups.NOW, seen=backups.NOW)
    day = "2020-01-01"
    no_day = record("zoo.shift", [1, day], keeper=1)
    assert refused(new, [no_day]) == [("FNK417", 1, "day")]
    assert refused(new, [shift(["Nobody"], day)]) == [("FNK410", 1, "keeper")]
    assert refused(new, [shift(1, "tomorrow")]) == [("FNK413", 1, "pk"), ("FNK413", 1, "day")]
    assert set(refused(new, [shift(1, day), shift(1, day)])) == {("FNK415", 2, None)}
    twin = {**shift(["Zoe"], day), "pk": None}
    assert refused(new, [shift(1, day), twin]) == [("FNK415", 2, None)]
    too_short = {**shift(1, day), "pk": [1]}
    assert refused(new, [too_short]) == [("FNK413", 1, "pk")]
    assert refused(new, [ticket("A", 1, "y")], schema=SEATS) == [("FNK417", 1, None)]


def test_pk_that_only_the_key_of_its_own_record_holds(new: str) -> None:
    schema = Schema.of(
        {
            "exact.desk": Model(relations={"room": Relation("exact.room")}),
            "exact.room": Model(relations={"floor": Relation("exact.floor")}),
            "exact.floor": Model(pk="level", natural_key=["name"]),
            "exact.keyhole": Model(
                pk="desk", natural_key=["desk__id"], relations={"desk": Relation("exact.desk")}
            ),
        }
    )
    put(new, Floor, level=1, name="a")
    put(new, Room, id=1, number="1", floor_id=1)
    put(new, Room, id=2, number="2", floor_id=1)
    put(new, Desk, id=5, room_id=1)
    put(new, Keyhole, desk_id=5)
    records = [keyed("exact.keyhole", 5), record("exact.desk", 5, room=2, next_to=5)]
    assert counts(load(new, records, schema)) == (2, 0, 0, 1)
    desk = rows(Desk, new).get(room_id=2).pk
    assert sorted(rows(Keyhole, new).values_list("pk", flat=True)) == sorted([5, desk])
    assert counts(load(new, records, schema)) == (0, 0, 2, 0)


def test_key_that_holds_the_pk_of_a_row_that_has_another_in_the_target(new: str) -> None:
    put(new, Device, id=UUID(int=7), serial="S")
    schema = Schema.of(
        {
            "exact.device": Model(natural_key=["serial"]),
            "exact.beacon": Model(
                natural_key=["token", "device__id"], relations={"device": Relation("exact.device")}
            ),
        }
    )
    device = {**keyed("exact.device", "S", serial="S"), "pk": str(UUID(int=1))}
    token = str(UUID(int=3))
    beacon = keyed("exact.beacon", token, str(UUID(int=1)), token=token, device=["S"])
    assert counts(load(new, [beacon, device], schema)) == (1, 0, 1, 0)
    assert rows(Beacon, new).get().device_id == UUID(int=7)
    assert counts(load(new, [beacon, device], schema)) == (0, 0, 2, 0)


def test_links_that_are_records_themselves(new: str) -> None:
    """`dumpdata` writes the table of a many-to-many field only if it is named."""
    links = "exact.person_badges"
    relations = {"person": Relation("exact.person"), "badge": Relation("exact.badge")}
    schema = Schema.of(
        {
            "exact.person": Model(natural_key=["name"], relations={"badges": many("exact.badge")}),
            "exact.badge": Model(natural_key=["code"]),
            links: Model(relations=relations),
            "exact.crowd": Model(relations={"tie": Relation(links)}),
        }
    )
    badges = [keyed("exact.badge", code, code=code) for code in "ab"]
    eve = keyed("exact.person", "Eve", name="Eve", badges=[["a"], ["b"]])
    crowd, tie = record("exact.crowd", 1, tie=9), record(links, 9, person=["Eve"], badge=["b"])
    assert refused(new, [*badges, eve, crowd], schema=schema) == [("FNK410", 4, "tie")]
    assert counts(load(new, [*badges, eve, crowd, tie], schema)) == (5, 0, 0, 0)
    assert [row.code for row in Person.objects.using(new).get().badges.order_by("code")] == [*"ab"]
    assert rows(Crowd, new).get().tie.badge.code == "b"
    assert counts(load(new, [*badges, eve, crowd, tie], schema)) == (0, 0, 5, 0)
    Person.objects.using(new).get().badges.remove(rows(Badge, new).get(code="a"))
    assert counts(load(new, [*badges, eve, crowd, tie], schema)) == (0, 1, 4, 0)
    rows(Crowd, new).delete()
    Person.objects.using(new).get().badges.clear()
    assert counts(load(new, [*badges, eve, crowd, tie], schema)) == (2, 1, 2, 0)
    assert [row.code for row in Person.objects.using(new).get().badges.order_by("code")] == [*"ab"]


def many(label: str) -> Relation:
    return Relation(label, many=True)


def test_generic_references_by_a_label(new: str) -> None:
    put(new, zoo.Tag, id=5, label="taken")
    generic = GenericRelation(label="text", object_id="object_id", labels={"who": "zoo.keeper"})
    kinds = {"content_type": Relation("contenttypes.contenttype")}
    by_label = Model(relations=kinds, generic_relations={"thing": generic})
    schema = Schema.of({**SCHEMA.models, "zoo.sticker": by_label})

    def sticker(pk: int, text: str, object_id: Any) -> Record:
        kind = ["zoo", "memo"]
        return record("zoo.sticker", pk, content_type=kind, text=text, object_id=object_id)

    records = [
        sticker(1, "zoo.Tag", "5"),
        sticker(2, "who", ["Anna"]),
        sticker(3, "nothing", "5"),
        record("zoo.tag", 5, label="loud"),
        keeper("Anna"),
    ]
    assert load(new, records, schema).generic_kept == 1
    found = dict(rows(zoo.Sticker, new).values_list("pk", "object_id"))
    tag = rows(zoo.Tag, new).get(label="loud").pk
    anna = rows(zoo.Keeper, new).get().pk
    assert found == {1: str(tag), 2: str(anna), 3: "5"}
    assert tag != 5
    assert counts(load(new, records, schema)) == (0, 0, 5, 0)


def test_content_types_that_are_new_can_be_referred_to(new: str) -> None:
    fields = {"app_label": "gone", "model": "model"}
    kind = {"model": "contenttypes.contenttype", "natural_key": ["gone", "model"], "fields": fields}
    sticker = record("zoo.sticker", 1, text="", content_type=["gone", "model"], object_id="1")
    load(new, [sticker, kind])
    assert rows(zoo.Sticker, new).get().content_type.app_label == "gone"


# What is refused before anything is written


def test_every_dangling_reference_is_listed(new: str) -> None:
    records = [
        keeper("Anna", mentor=["Nobody"]),
        record("zoo.memo", 1, text="", parent=99, tags=[98, 97]),
        record("zoo.animal", species="NO", enclosure=["none"], name="", habits={}),
        record("zoo.sticker", 1, text="", content_type=["zoo", "keeper"], object_id=["Nobody"]),
        record("zoo.diet", ["no", "such", "animal"], food=""),
    ]
    assert refused(new, records) == [
        ("FNK410", 1, "mentor"),
        ("FNK410", 2, "parent"),
        ("FNK410", 2, "tags"),
        ("FNK410", 2, "tags"),
        ("FNK410", 3, "species"),
        ("FNK410", 3, "enclosure"),
        ("FNK410", 4, "object_id"),
        ("FNK410", 5, "animal"),
    ]


def test_id_is_not_guessed_where_the_backup_holds_keys(new: str) -> None:
    put(new, zoo.Keeper, id=7, name="Zoe", joined=backups.NOW, seen=backups.NOW)
    records = [keeper("Anna"), record("zoo.memo", 1, text="", keeper=7)]
    assert refused(new, records) == [("FNK410", 2, "keeper")]


def test_id_is_not_guessed_where_what_it_refers_to_holds_a_key(new: str) -> None:
    user, owner = Relation("auth.user"), Relation("exact.profile")
    profile = Model(pk="user", natural_key=["user__username"], relations={"user": user})
    schema = Schema.of(
        {
            "auth.user": Model(natural_key=["username"]),
            "exact.profile": profile,
            "exact.locker": Model(relations={"owner": owner}),
            "exact.lockerkey": Model(relations={"locker": Relation("exact.locker", "owner")}),
        }
    )
    for pk, name in ((1, "ann"), (2, "bob")):
        User.objects.using(new).create(pk=pk, username=name)
        put(new, Profile, user_id=pk, biography="")
    put(new, Locker, id=9, owner_id=2, number=9)
    locker = record("exact.locker", 5, owner=["ann"], number=5)
    key = record("exact.lockerkey", 1, locker=2)
    assert refused(new, [locker, key], schema=schema) == [("FNK410", 2, "locker")]
    key = record("exact.lockerkey", 1, locker=1)
    legacy = record("exact.locker", 5, owner=1, number=5)
    assert counts(load(new, [legacy, key], schema)) == (2, 0, 0, 0)


def test_unknown_models_and_fields(new: str) -> None:
    records = [
        record("zoo.keper", 1, name="x"),
        record("zoo.tag", 1, label="x", colour="red"),
        record("nowhere.tag", 1),
    ]
    assert refused(new, records) == [
        ("FNK411", 1, None),
        ("FNK412", 2, "colour"),
        ("FNK411", 3, None),
    ]
    with pytest.raises(FindingsError, match=r'did you mean "zoo\.keeper"'):
        load(new, records)


def test_values_that_fields_refuse(new: str) -> None:
    records = [
        keeper("Anna", hired="soon"),
        keeper("Bela", seen=None),
        record("zoo.event", 1, uuid="no uuid", text=""),
        record("zoo.memo", 1, text="", tags=3),
        record("zoo.reading", "x", sensor=["S1"], celsius=1),
        keyed("zoo.sensor", "S1", serial="S1"),
    ]
    assert refused(new, records) == [
        ("FNK413", 1, "hired"),
        ("FNK413", 2, "seen"),
        ("FNK413", 3, "uuid"),
        ("FNK413", 4, "tags"),
        ("FNK413", 5, "id"),
    ]


def test_key_that_two_rows_of_the_database_have(new: str) -> None:
    schema = Schema.of({"zoo.tag": Model(natural_key=["label"])})
    put(new, zoo.Tag, id=1, label="a")
    put(new, zoo.Tag, id=2, label="a")
    records = [keyed("zoo.tag", "a", label="a"), record("zoo.memo", 1, text="", tags=[["a"]])]
    assert refused(new, records[:1], schema=schema) == [("FNK414", 1, None)]
    assert refused(new, records[1:], schema=schema) == [("FNK414", 1, "tags")]


def test_null_in_a_key_is_refused_unless_it_is_said_to_be_one(new: str) -> None:
    schema = Schema.of({"zoo.keeper": Model(natural_key=["hired"])})
    load(new, [keeper("Anna")])
    anna = keeper("Anna") | {"natural_key": [None]}
    assert refused(new, [anna], schema=schema) == [("FNK416", 1, None)]
    allowed = RestoreOptions(null_keys=True)
    assert counts(load(new, [anna], schema, options=allowed)) == (0, 0, 1, 0)
    load(new, [keeper("Bela")])
    found = refused(new, [anna], schema=schema, options=allowed)
    assert found == [("FNK414", 1, None), ("FNK418", 1, "name")]


def test_records_that_are_the_same_row(new: str) -> None:
    put(new, zoo.Event, id=1, uuid=UUID(int=1), text="")
    records = [
        keeper("Anna"),
        keeper("Anna"),
        record("zoo.tag", 5, label="a"),
        record("zoo.tag", "5", label="b"),
        record("zoo.event", 1, uuid=str(UUID(int=1)), text=""),
        record("zoo.event", 2, uuid=str(UUID(int=1)), text=""),
    ]
    assert refused(new, records) == [
        ("FNK415", 2, None),
        ("FNK415", 4, None),
        ("FNK415", 6, None),
        ("FNK418", 6, "uuid"),
    ]


def test_keys_and_pks_that_cannot_be_had(new: str) -> None:
    put(new, zoo.Status, code="A", title="")
    by_title = Schema.of({"zoo.status": Model(pk="code", natural_key=["title"])})
    assert refused(new, [keyed("zoo.keeper", "too", "many")]) == [("FNK416", 1, None)]
    assert refused(new, [keyed("zoo.tag", "a", label="a")]) == [("FNK416", 1, None)]
    assert refused(new, [record("zoo.status", title="x")]) == [("FNK417", 1, None)]
    assert refused(new, [record("zoo.diet", food="x")]) == [("FNK417", 1, None)]
    taken = record("zoo.status", "A", title="other")
    assert refused(new, [taken], schema=by_title) == [("FNK417", 1, None)]


def test_lossy_dump_of_django_is_refused_not_guessed(old: str, new: str) -> None:
    found = refused(new, backups.django_natural(old))
    assert {code for code, _, _ in found} == {"FNK410", "FNK417"}


def test_findings_name_the_place(new: str) -> None:
    records = [keeper("Anna"), record("zoo.memo", 17, text="", parent=99)]
    with pytest.raises(FindingsError) as caught:
        load(new, records, name="backup.json")
    assert str(caught.value).splitlines() == [
        "FNK300 refused because of 1 finding; nothing was written",
        "  FNK410 no such row of zoo.memo in the backup or the database (99)",
        "    at backup.json, record 2, zoo.memo pk 17, field parent",
        "  try: mend the backup or the database, or let references go: --on-unresolved null",
    ]


@pytest.mark.parametrize(
    ("records", "beside"),
    [
        ([keyed("zoo.tag", "a", label="a")], ""),
        (
            [record("zoo.memo", 1, text="", parent=["note"])],
            ", or let references go: --on-unresolved null",
        ),
    ],
)
def test_keys_of_another_schema_are_restored_by_that(
    new: str, records: list[Any], beside: str
) -> None:
    with pytest.raises(FindingsError) as caught:
        load(new, records)
    by_its_schema = "restore by the schema that these natural keys are from: --schema SCHEMA"
    assert caught.value.remedy == f"{by_its_schema}{beside}"


def test_keys_without_parts_need_a_dump_with_ids(new: str) -> None:
    """As Django writes them for models whose method makes such: no schema helps."""
    with pytest.raises(FindingsError) as caught:
        load(new, [record("zoo.memo", 1, text="", parent=[])])
    assert caught.value.remedy == (
        "dump the rows with ids, without --natural-foreign and --natural-primary"
        ", or let references go: --on-unresolved null"
    )


@pytest.mark.parametrize("broken", [[1], [{"fields": {}}], [{"model": "zoo.tag", "fields": []}]])
def test_what_is_no_record(new: str, broken: list[Any]) -> None:
    with pytest.raises(BackupSyntaxError, match="not a record") as caught:
        load(new, [keeper("Anna"), *broken])
    assert caught.value.place.record == 2
    assert not rows(zoo.Keeper, new).exists()


@pytest.mark.parametrize("change", [1, -1])
def test_backup_that_changes_while_it_is_read(new: str, change: int) -> None:
    lengths = iter([2, 2 + change])
    with pytest.raises(SourceError, match="changed"):
        load(new, lambda: [keeper(str(number)) for number in range(next(lengths))])
    assert not rows(zoo.Keeper, new).exists()


def test_schema_of_another_project(new: str) -> None:
    schema = Schema.of({"zoo.tag": Model(natural_key=["name"])})
    with pytest.raises(SchemaError, match=r"zoo\.tag"):
        load(new, [record("zoo.tag", 1, label="x")], schema)
    other_model = record("zoo.vehicle", 1, plate="A-1")
    assert load(new, [other_model], schema).created == 1


# All or nothing


def test_clash_in_the_last_row_leaves_everything_as_it_was(old: str, new: str) -> None:
    if not connections[new].features.supports_expression_indexes:
        pytest.skip("the database keeps no expression unique")
    backups.soil(new)
    before = tables(new)
    clash = [
        record("zoo.slot", pk, keeper=["Anna"], post="gate", sign=sign)
        for pk, sign in enumerate(("X", "x"))
    ]
    with pytest.raises(RestoreError, match=r"zoo\.slot.*rolled back") as caught:
        load(new, [*json.loads(dumped("fastnk", old)), *clash])
    assert caught.value.exit_code == 1
    assert tables(new) == before
    load(new, json.loads(dumped("fastnk", old)))


def test_constraint_that_fails_in_the_end_leaves_everything_as_it_was(new: str) -> None:
    backups.put_enclosure(new)
    put(new, zoo.Animal, id=1, species_id="LEO", enclosure_id=1, name="Leo", habits={})
    before = tables(new)
    renamed = keyed("zoo.species", "leo", latin="leo", code="NEW")
    with pytest.raises(RestoreError, match=r"(?i)foreign key"):
        load(new, [keeper("Anna"), renamed])
    assert tables(new) == before


def test_value_that_only_the_database_refuses(new: str) -> None:
    before = tables(new)
    backups.put_enclosure(new)
    before = tables(new)
    not_json = keyed("zoo.animal", "leo", "north", "Leo", species="LEO", name="Leo", habits=nan)
    not_json["fields"]["enclosure"] = ["north"]
    # What MySQL takes in JSON is known before the first row is written.
    refusal = FindingsError if connections[new].vendor == "mysql" else RestoreError
    with pytest.raises(refusal, match=r"zoo\.animal"):
        load(new, [keeper("Anna"), not_json])
    assert tables(new) == before


def test_error_of_the_source_half_way(new: str) -> None:
    passes = iter(range(3))

    def records() -> Iterator[Record]:
        is_last = next(passes) == 2
        yield from (record("zoo.tag", pk, label="") for pk in range(1, 2002))
        if is_last:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        load(new, records)
    assert not rows(zoo.Tag, new).exists()


def test_second_restore_at_the_same_time_is_locked_out(new: str) -> None:
    outcomes: list[BaseException | RestoreReport] = []

    def second() -> None:
        try:
            outcomes.append(load(new, [keeper("Bela")]))
        except RestoreError as error:
            outcomes.append(error)
        finally:
            connections[new].close()

    def first() -> Iterator[Record]:
        if not outcomes:
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()
        yield keeper("Anna")

    load(new, first)
    (outcome,) = outcomes
    assert isinstance(outcome, LockedError)
    assert outcome.exit_code == 6
    assert [keeper.name for keeper in rows(zoo.Keeper, new)] == ["Anna"]
    assert load(new, [keeper("Bela")]).created == 1


def test_database_without_tables(new: str) -> None:
    connection = connections[new]
    with connection.constraint_checks_disabled(), connection.schema_editor() as editor:
        for table in connection.introspection.table_names():
            cascade = " CASCADE" if connection.vendor == "postgresql" else ""
            editor.execute(f"DROP TABLE {connection.ops.quote_name(table)}{cascade}")
    with pytest.raises(RestoreError, match="no tables") as caught:
        load(new, [keeper("Anna")])
    assert "migrate" in str(caught.value)


def test_database_without_one_of_the_tables(new: str) -> None:
    with connections[new].schema_editor() as editor:
        editor.delete_model(zoo.Event)
    with pytest.raises(RestoreError, match="zoo_event"):
        load(new, [keeper("Anna"), record("zoo.event", 1, uuid=str(UUID(int=1)), text="")])
    assert not rows(zoo.Keeper, new).exists()


def test_alias_that_the_project_does_not_have() -> None:
    with pytest.raises(UsageError, match='no database "elsewhere"'):
        Loader(SCHEMA, "elsewhere")


def test_queries_do_not_grow_with_rows(new: str) -> None:
    def queries(count: int) -> int:
        names = [f"{count} {number}" for number in range(count)]
        keepers = [keeper(name, mentor=[names[0]]) for name in names]
        tags = [record("zoo.tag", count * 10 + n, label=name) for n, name in enumerate(names)]
        with CaptureQueriesContext(connections[new]) as captured:
            load(new, [*keepers, *tags])
            load(new, [*keepers, *tags])
        return len(captured)

    queries(10)  # an empty table is asked less
    assert queries(20) == queries(40)


# The unified restore


KEEP_GENERIC = Policies(on_generic="keep")
"""One of the stickers is on a memo, which has no natural key."""


@pytest.fixture
def legacy_file(old: str, tmp_path: Path) -> Path:
    path = tmp_path / "backup.json"
    path.write_text(dumped("legacy", old))
    return path


def test_unified_restore_of_every_format(old: str, new: str, legacy_file: Path) -> None:
    natural = legacy_file.with_name("natural.json")
    fastnk.convert(legacy_file, natural, SCHEMA, policies=KEEP_GENERIC)
    mixed = legacy_file.with_name("mixed.jsonl")
    pairs = zip(json.loads(legacy_file.read_text()), json.loads(natural.read_text()), strict=True)
    lines = [pair[0] if pair[0]["model"] == "zoo.keeper" else pair[1] for pair in pairs]
    mixed.write_text("\n".join(map(json.dumps, lines)))
    formats = ("legacy_database_ids", "enhanced_natural_keys", "mixed")
    manager = fastnk.UnifiedRestoreManager(SCHEMA, database=new, policies=KEEP_GENERIC)
    for path, format_ in zip((legacy_file, natural, mixed), formats, strict=True):
        report = manager.restore_any_format(path)
        assert report.format == format_
        is_natural = format_ == "enhanced_natural_keys"
        assert (report.conversion.keys_written == 0) == is_natural
        assert counts(report)[1:] in ((0, report.unchanged, 0), (0, 0, 0))
    assert report.created == 0
    expected = {label: told for label, told in by_keys(old).items() if label in report.models}
    assert told_of(lines, by_keys(new)) == told_of(lines, expected)


def test_backups_of_which_one_continues_the_other(old: str, new: str, legacy_file: Path) -> None:
    """As dumps of several days, or of an app and of all: what comes last counts, as in Django."""
    legacy = json.loads(legacy_file.read_text())
    outdated = legacy_file.with_name("outdated.json")
    texts = {"zoo.keeper": "name", "zoo.event": "text"}
    before = [
        {**one, "fields": {**one["fields"], texts[one["model"]]: "before"}}
        for one in legacy
        if one["model"] in texts
    ]
    assert before
    outdated.write_text(json.dumps(before))
    backup = [outdated, legacy_file]
    with pytest.raises(FindingsError, match="FNK303"):
        fastnk.restore(backup, SCHEMA, database=new, policies=KEEP_GENERIC)
    policies = msgspec.structs.replace(KEEP_GENERIC, on_duplicate_pk="drop")
    report = fastnk.restore(backup, SCHEMA, database=new, policies=policies, verify=True)
    assert report.conversion.records_dropped == len(before)
    assert (report.records, report.complete) == (len(legacy), False)
    expected = {label: told for label, told in by_keys(old).items() if label in report.models}
    assert told_of(legacy, by_keys(new)) == told_of(legacy, expected)


def test_the_same_natural_backup_twice_in_one(new: str, legacy_file: Path) -> None:
    natural = legacy_file.with_name("natural.json")
    fastnk.convert(legacy_file, natural, SCHEMA, policies=KEEP_GENERIC)
    once = fastnk.restore(natural, SCHEMA, database=new, policies=KEEP_GENERIC)
    with pytest.raises(FindingsError, match="--on-duplicate-pk"):
        fastnk.restore([natural, natural], SCHEMA, database=new, policies=KEEP_GENERIC)
    policies = msgspec.structs.replace(KEEP_GENERIC, on_duplicate_pk="drop")
    report = fastnk.restore([natural, natural], SCHEMA, database=new, policies=policies)
    left_out = report.conversion.records_dropped, sum(report.superseded.values())
    assert min(left_out) > 0
    # What no unique key tells apart may be two rows.
    assert report.weak_keys.keys() == {"zoo.visit"}
    assert sum(left_out) == once.records - once.models["zoo.visit"].created
    assert report.models["zoo.visit"].unchanged == once.models["zoo.visit"].created


def test_backup_of_which_the_head_tells_nothing(new: str) -> None:
    backup = b" " * HEAD_BYTES + json.dumps([keeper("anna")]).encode()
    report = fastnk.UnifiedRestoreManager(SCHEMA, database=new).restore_any_format(backup)
    assert (report.created, report.format) == (1, None)
    dry = fastnk.UnifiedRestoreManager(SCHEMA, database=new, dry_run=True)
    assert dry.restore_any_format(backup).unchanged == 1


def test_nothing_is_asked_of_a_backup_behind_the_commit(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BackupFormatDetector, "detect_format", gone)
    manager = fastnk.UnifiedRestoreManager(SCHEMA, database=new)
    before = tables(new)
    with pytest.raises(SourceError):
        manager.restore_any_format(json.dumps([keeper("anna")]).encode())
    assert tables(new) == before


def test_record_of_very_many_fields_is_given_no_type_of_its_own(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def struct(tag: str, names: list[str], *rest: Any, **how: Any) -> Any:
        made.append(len(names))
        return original(tag, names, *rest, **how)

    original = reading._struct
    monkeypatch.setattr(reading, "_struct", struct)
    many = {f"f{number}": number for number in range(reading.MOST_FIELDS)}
    found = refused(new, [keeper("anna", **many)])
    assert len(found) == len(many)
    assert max(made) < len(many)


def gone(*_: Any) -> None:
    raise SourceError("cannot read it any more")


def test_progress_tells_every_phase(new: str, legacy_file: Path) -> None:
    phases: dict[str, int] = {}
    manager = fastnk.UnifiedRestoreManager(
        SCHEMA,
        database=new,
        policies=KEEP_GENERIC,
        progress=lambda phase, done, total: phases.setdefault(phase, len(phases)),
    )
    manager.restore_any_format(legacy_file)
    names = ("index", "read", "match", "check", "write", "constraints", "commit")
    assert [name for name in phases if name in names] == list(names)


def test_progress_counts_the_rows_of_each_phase(new: str) -> None:
    told: Counter[str] = Counter()

    class Counting(Progress):
        def __call__(self, phase: str, done: int, total: int | None) -> None:
            self.phase = phase

        def count_rows(self, count: int) -> None:
            told[self.phase] += count

    records = [keeper(f"keeper {n}", mentor=[f"keeper {n // 2}"]) for n in range(12_000)]
    backup = json.dumps(records).encode()
    report = fastnk.restore(backup, SCHEMA, database=new, jobs=1, progress=Counting(io.StringIO()))
    assert report.created == len(records)
    assert told["read"] == len(records)
    assert told.keys() == {"read", "check", "write"}
    assert told["check"] == told["write"] == len(records)


def test_engine_that_restores_do_not_know_is_refused() -> None:
    oracle = SimpleNamespace(vendor="oracle", alias="old", display_name="Oracle")
    with pytest.raises(UsageError, match='MariaDB and SQLite; the database "old" is Oracle'):
        engine_of(oracle)


def test_id_behind_a_natural_head_is_not_taken_for_one_of_the_target(new: str) -> None:
    load(new, [keeper("Anna")])
    pk = rows(zoo.Keeper, new).get().pk
    head = [keeper(f"keeper {n}") for n in range(20_000)]
    backup = json.dumps([*head, keeper("Bela", mentor=pk)]).encode()
    assert fastnk.detect(backup, SCHEMA) == "enhanced_natural_keys"
    with pytest.raises(FindingsError) as caught:
        fastnk.restore(backup, SCHEMA, database=new)
    assert [(one.code, one.place.field) for one in caught.value.findings] == [("FNK301", "mentor")]
    assert rows(zoo.Keeper, new).count() == 1


def test_target_is_known_before(new: str, engine: str) -> None:
    target = fastnk.UnifiedRestoreManager(SCHEMA, database=new).target
    assert target.database == new
    name = "/" if engine == "sqlite" else f"{new} at /"
    assert f"({connections[new].vendor} {name}" in str(target)
    with pytest.raises(UsageError, match="elsewhere"):
        fastnk.UnifiedRestoreManager(SCHEMA, database="elsewhere")


def test_unified_restore_of_bytes_and_streams(new: str, legacy_file: Path) -> None:
    data = legacy_file.read_bytes()
    manager = fastnk.UnifiedRestoreManager(SCHEMA, database=new, policies=KEEP_GENERIC)
    assert manager.restore_any_format(data).created == 50
    with legacy_file.open("rb") as stream:
        assert manager.restore_any_format(stream).created == 0
    natural = fastnk.LegacyBackupConverter(SCHEMA, policies=KEEP_GENERIC).convert_bytes(data)
    assert manager.restore_any_format(io.BytesIO(natural)).created == 0
    out, into = os.pipe()
    with os.fdopen(out, "rb") as stream, os.fdopen(into, "wb") as end:
        # Of its own, because a pipe holds less than the backup.
        writer = threading.Thread(target=lambda: (end.write(natural), end.close()))
        writer.start()
        assert manager.restore_any_format(stream).created == 0
    writer.join()


def test_unified_restore_with_a_schema_file_and_more_keys(new: str, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    SCHEMA.save(schema)
    keys = [record("zoo.keeper", 5, name="Anna")]
    backup = [record("zoo.keeper", 6, name="Bela", mentor=5)]
    backup[0]["fields"] |= {"joined": "2001-01-01T00:00:00Z", "seen": "2001-01-01T00:00:00Z"}
    load(new, [keeper("Anna")])
    with pytest.raises(FindingsError):
        fastnk.restore(json.dumps(backup).encode(), schema, database=new)
    fastnk.restore(
        json.dumps(backup).encode(), schema, database=new, keys=[json.dumps(keys).encode()]
    )
    assert rows(zoo.Keeper, new).get(name="Bela").mentor.name == "Anna"


def test_unified_restore_with_the_schema_of_the_project(new: str) -> None:
    backup = json.dumps([keeper("Anna"), keeper("Bela", mentor=["Anna"])]).encode()
    report = fastnk.restore(backup, database=new, settings="tests.project.settings", dry_run=True)
    assert report.models["zoo.keeper"].created == 2
    assert not rows(zoo.Keeper, new).exists()


def test_unified_restore_of_a_damaged_backup(new: str, legacy_file: Path) -> None:
    data = legacy_file.read_bytes()[:-1]
    with pytest.raises(BackupSyntaxError):
        fastnk.restore(data, SCHEMA, database=new)
    assert not rows(zoo.Keeper, new).exists()
    report = fastnk.restore(data, SCHEMA, database=new, salvage=True, policies=KEEP_GENERIC)
    assert report.created == 50
    assert report.conversion.salvaged


@pytest.mark.parametrize("tail", [b'[{"model": "zoo.tag", "fields": {}', b"[{]", b'["\xff"]'])
def test_natural_backup_that_is_not_json_to_its_end(new: str, tail: bytes) -> None:
    head = json.dumps(keeper("Anna")).encode()
    data = b"[" + b",".join([head] * 2) + b"," + tail[1:]
    with pytest.raises(BackupSyntaxError):
        fastnk.restore(data, SCHEMA, database=new)
    assert not rows(zoo.Keeper, new).exists()


@pytest.mark.parametrize("piece_size", [1, 100, 1 << 19])
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("before", "between", "behind"),
    [("[", ",", "]"), (" \n[ ", "\n  ,\n  ", "]\n"), ("\n", "\n", "\n"), ("", "\n\n", "")],
)
def test_chunks_are_all_records(
    before: str,
    between: str,
    behind: str,
    jobs: int,
    piece_size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "PIECE_SIZE", piece_size)
    records = [keeper(f"],[ {number}") for number in range(20)]
    text = before + between.join(map(json.dumps, records)) + behind
    with LegacyBackupConverter(SCHEMA, jobs=jobs).converted(text.encode()) as conversion:
        for _ in range(2):
            chunks = map(json.loads, read_chunks(conversion.blocks("read")))
            assert list(itertools.chain.from_iterable(chunks)) == records


def test_restore_without_django() -> None:
    script = """
import sys
sys.modules["django"] = None
import fastnk
try:
    fastnk.restore(b"[]")
except fastnk.FastnkError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("MissingExtraError FNK102 a restore needs Django")


def test_restore_with_a_django_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.VERSION", (3, 2, 25, "final", 0))
    with pytest.raises(UsageError, match=r"needs Django 4\.2 or newer, and this is 3\.2") as caught:
        fastnk.restore(b"[]")
    assert caught.value.remedy


# The command


class Terminal(io.StringIO):
    """Standard input with somebody in front of it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stdin", "more", "code"),
    [
        (io.StringIO("y\n"), [], 2),
        (io.StringIO(""), ["--no-input"], 0),
        (io.StringIO(""), ["--dry-run"], 0),
        (Terminal("y\n"), [], 0),
        (Terminal("\n"), [], 2),
        (Terminal("no\n"), [], 2),
    ],
)
def test_command_asks_before_it_writes(
    new: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stdin: io.StringIO,
    more: list[str],
    code: int,
) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    stdin.seek(0)
    schema, backup = tmp_path / "schema.json", tmp_path / "backup.json"
    SCHEMA.save(schema)
    backup.write_text(json.dumps([keeper("Anna")]))
    arguments = ["restore", str(backup), "--schema", str(schema), "--database", new, *more]
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert rows(zoo.Keeper, new).count() == (code == 0 and "--dry-run" not in more)
    assert ("1 created" in captured.out) == (code == 0)
    if "--dry-run" in more:
        assert captured.out.startswith("dry run, nothing was written")
    else:
        assert captured.err.startswith(f'restore {backup} into database "{new}"')


def test_command_reports_findings_with_exit_code_4(
    new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema, backup = tmp_path / "schema.json", tmp_path / "backup.json"
    SCHEMA.save(schema)
    backup.write_text(json.dumps([keeper("Bela", mentor=["Nobody"])]))
    arguments = ["restore", str(backup), "--schema", str(schema), "--database", new, "--no-input"]
    handover = sys.getswitchinterval()
    assert main([*arguments, "--json"]) == 4
    assert sys.getswitchinterval() == handover
    error = json.loads(capsys.readouterr().out)["error"]
    assert [finding["code"] for finding in error["findings"]] == ["FNK410"]
    assert not rows(zoo.Keeper, new).exists()


@pytest.mark.parametrize("left_out", ["", "0", "12", "0246", "4789"])
def test_findings_have_the_numbers_of_the_backup_where_records_are_left_out(
    new: str, left_out: str
) -> None:
    records = [
        record("zoo.gone" if str(at) in left_out else "zoo.keeper", name=str(at), hired="soon")
        for at in range(10)
    ]
    policies = Policies(on_unknown_model="drop")
    with pytest.raises(FindingsError) as caught:
        fastnk.restore(json.dumps(records).encode(), SCHEMA, database=new, policies=policies)
    places = [finding.place for finding in caught.value.findings]
    assert [place.record for place in places] == [
        at + 1 for at in range(10) if str(at) not in left_out
    ]


def test_the_other_record_has_its_number_in_the_backup(new: str) -> None:
    """Findings that differ in nothing else are of one kind."""
    gone = record("zoo.gone")
    schema = Schema.of({**SCHEMA.models, "zoo.lamp": Model()})
    policies = Policies(on_unknown_model="drop")

    def restored(*records: Record) -> RestoreReport:
        backup = json.dumps([gone, *records]).encode()
        return fastnk.restore(backup, schema, database=new, policies=policies)

    anna, bela = keeper("Anna"), keeper("Bela")
    with pytest.raises(FindingsError) as caught:
        restored(anna, gone, bela, bela, anna)
    found = [(one.place.record, one.other_record) for one in caught.value.findings]
    assert found == [(5, 4), (6, 2)]
    assert len(caught.value.counts) == 1
    assert '(["Anna"]): record 2\n    at the backup, record 6' in str(caught.value)
    dicts = [one.as_dict() for one in caught.value.findings]
    assert [one["other_record"] for one in dicts] == [4, 2]
    assert list(map(Finding.from_dict, dicts)) == caught.value.findings
    with pytest.raises(FindingsError) as caught:
        restored(record("zoo.lamp", 1, is_lit=True), gone, record("zoo.lamp", 2, is_lit=True))
    assert [(one.place.record, one.other_record) for one in caught.value.findings] == [(4, 2)]


LOSSES: dict[str, tuple[list[Record], list[str]]] = {
    "a field": ([keeper("Anna", gone=1)], ["--ignore-nonexistent"]),
    "a model": ([keeper("Anna"), record("zoo.gone", 1)], ["--ignore-nonexistent"]),
    "an excluded model": ([keeper("Anna"), record("zoo.gone", 1)], ["--exclude", "zoo.gone"]),
    "a reference": (
        [keeper("Anna"), record("zoo.memo", 1, text="a", keeper=99)],
        ["--on-unresolved", "null"],
    ),
    "a record": (
        [keeper("Anna"), record("zoo.memo", 1, text="a", keeper=99)],
        ["--on-unresolved", "drop"],
    ),
}


@pytest.mark.parametrize("what", [*LOSSES, "damage", "nothing"])
def test_command_tells_a_loss_that_was_allowed_by_exit_code_3(
    new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """Without the option it is refused; a second restore, which changes nothing, tells it again."""
    schema, backup = tmp_path / "schema.json", tmp_path / "backup.json"
    SCHEMA.save(schema)
    records, allowed = LOSSES.get(what, ([keeper("Anna")], ["--salvage"]))
    text = json.dumps(records)
    backup.write_text(text[:-1] + ', {"model": "zoo.memo", "pk": ' if what == "damage" else text)
    arguments = ["restore", str(backup), "--schema", str(schema), "--database", new, "--no-input"]
    if what == "nothing":
        assert main(arguments) == 0
        return
    assert main(arguments) == (1 if what == "damage" else 4)
    assert not rows(zoo.Keeper, new).exists()
    for created in (True, False):
        capsys.readouterr()
        assert main([*arguments, *allowed, "--json"]) == 3
        assert bool(json.loads(capsys.readouterr().out)["created"]) is created
    assert rows(zoo.Keeper, new).get().name == "Anna"
    assert main([*arguments, *allowed, "--dry-run"]) == 3
