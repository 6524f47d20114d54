"""Rows and backups of the test project's zoo."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import chain
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core import serializers
from django.core.management.color import no_style
from django.db import connections
from django.db.models import AutoField, F, QuerySet

from fastnk.django.restore import ledger
from fastnk.django.schema.introspect import schema_from_apps
from fastnk.schema import Schema
from tests import oracle
from tests.databases import at_once
from tests.project.zoo import models as zoo

Record = dict[str, Any]

ANIMAL_KEY = ["species__latin", "enclosure__name", "name"]
SCHEMA = Schema.loads(
    json.dumps(
        {
            "version": 1,
            "models": {
                "contenttypes.contenttype": {"natural_key": ["app_label", "model"]},
                "auth.permission": {
                    "natural_key": [
                        "codename",
                        "content_type__app_label",
                        "content_type__model",
                    ],
                    "relations": {"content_type": {"to": "contenttypes.contenttype"}},
                },
                "auth.group": {
                    "natural_key": ["name"],
                    "relations": {"permissions": {"to": "auth.permission", "many": True}},
                },
                "auth.user": {
                    "natural_key": ["username"],
                    "relations": {
                        "groups": {"to": "auth.group", "many": True},
                        "user_permissions": {"to": "auth.permission", "many": True},
                    },
                },
                "zoo.keeper": {
                    "natural_key": ["name"],
                    "relations": {"mentor": {"to": "zoo.keeper"}},
                },
                "zoo.species": {"natural_key": ["latin"]},
                "zoo.status": {"pk": "code", "natural_key": ["code"]},
                "zoo.enclosure": {
                    "natural_key": ["name"],
                    "relations": {"contract": {"to": "zoo.contract"}},
                },
                "zoo.contract": {
                    "natural_key": ["number"],
                    "relations": {"enclosure": {"to": "zoo.enclosure"}},
                },
                "zoo.tag": {},
                "zoo.animal": {
                    "natural_key": ANIMAL_KEY,
                    "relations": {
                        "species": {"to": "zoo.species", "to_field": "code"},
                        "enclosure": {"to": "zoo.enclosure"},
                        "status": {"to": "zoo.status"},
                        "keepers": {"to": "zoo.keeper", "many": True},
                        "friends": {"to": "zoo.animal", "many": True},
                        "tags": {"to": "zoo.tag", "many": True},
                    },
                },
                "zoo.passport": {
                    "natural_key": ["number"],
                    "relations": {"animal": {"to": "zoo.animal"}},
                },
                "zoo.diet": {"pk": "animal", "relations": {"animal": {"to": "zoo.animal"}}},
                "zoo.collar": {
                    "pk": "animal",
                    "natural_key": [f"animal__{part}" for part in ANIMAL_KEY],
                    "relations": {"animal": {"to": "zoo.animal"}},
                },
                "zoo.memo": {
                    "relations": {
                        "parent": {"to": "zoo.memo"},
                        "keeper": {"to": "zoo.keeper"},
                        "tags": {"to": "zoo.tag", "many": True},
                    }
                },
                "zoo.swing": {"relations": {"rope": {"to": "zoo.rope"}}},
                "zoo.rope": {"relations": {"swing": {"to": "zoo.swing"}}},
                "zoo.visit": {
                    "natural_key": ["tag__id", "day|isoformat"],
                    "relations": {"tag": {"to": "zoo.tag"}},
                },
                "zoo.ticket": {
                    "natural_key": ["keeper__name", "id|str"],
                    "relations": {"keeper": {"to": "zoo.keeper"}},
                },
                "zoo.sensor": {"natural_key": ["serial"]},
                "zoo.reading": {"relations": {"sensor": {"to": "zoo.sensor"}}},
                "zoo.event": {},
                "zoo.portrait": {"relations": {"keeper": {"to": "zoo.keeper"}}},
                "zoo.sticker": {
                    "relations": {"content_type": {"to": "contenttypes.contenttype"}},
                    "generic_relations": {
                        "thing": {"content_type": "content_type", "object_id": "object_id"}
                    },
                },
                "zoo.person": {"natural_key": ["email"]},
                "zoo.vet": {
                    "pk": "person_ptr",
                    "natural_key": ["person_ptr__email"],
                    "relations": {"person_ptr": {"to": "zoo.person", "parent_link": True}},
                },
                "zoo.vehicle": {},
                "zoo.truck": {
                    "pk": "vehicle_ptr",
                    "relations": {"vehicle_ptr": {"to": "zoo.vehicle", "parent_link": True}},
                },
                "zoo.secret": {"natural_key": ["name"]},
            },
        }
    )
)


@cache
def project_schema() -> Schema:
    """The schema of the whole test project. Made once: all its methods are called for it."""
    return schema_from_apps()


def rows(model: Any, alias: str) -> QuerySet[Any]:
    """All rows, past every manager."""
    return QuerySet(model, using=alias).order_by("pk")


def put(alias: str, model: Any, **values: Any) -> None:
    """Insert one row into the model's own table as it is given: no `save`, no signals."""
    many = {field.name: values.pop(field.name, []) for field in model._meta.local_many_to_many}
    by_attname = {field.attname: field for field in model._meta.local_concrete_fields}
    fields = [by_attname[name] for name in values]
    row = SimpleNamespace(**values)
    QuerySet(model, using=alias)._insert([row], fields=fields, using=alias, raw=True)
    pk = values[model._meta.pk.attname]
    for name, targets in many.items():
        field = model._meta.get_field(name)
        source = field.remote_field.through._meta.get_field(field.m2m_field_name()).attname
        target = field.remote_field.through._meta.get_field(field.m2m_reverse_field_name()).attname
        for other in targets:
            QuerySet(field.remote_field.through, using=alias).create(**{source: pk, target: other})


NOW = datetime(2024, 1, 1, tzinfo=UTC)
LONG_AGO = datetime(2001, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)
SENSOR = UUID("0f0e0d0c-0b0a-4908-8706-050403020100")
READING = UUID("11111111-2222-4333-8444-555555555555")
EVENTS = [UUID(int=number) for number in (1, 2)]


def fill(alias: str) -> None:
    """One zoo, with every kind of row and relation. Its pks are all above 10."""
    with at_once(alias):
        _fill_people(alias)
        _fill_animals(alias)
        _fill_what_has_no_key(alias)
        _fill_what_inherits(alias)
    reset_sequences(alias)


def _fill_people(alias: str) -> None:
    times = {"joined": LONG_AGO, "seen": LONG_AGO}
    put(alias, zoo.Keeper, id=11, name="Anna", mentor_id=12, hired=date(1999, 1, 1), **times)
    put(alias, zoo.Keeper, id=12, name="Béla", mentor_id=13, **times)
    put(alias, zoo.Keeper, id=13, name='"C"\n', mentor_id=11, **times)
    put(alias, zoo.Keeper, id=14, name="Dora", **times)
    put(alias, zoo.Secret, id=11, name="OPEN", hidden=False)
    put(alias, zoo.Secret, id=12, name="HIDDEN", hidden=True)
    put(alias, zoo.Ticket, id=21, keeper_id=11, text="feed")
    put(alias, zoo.Ticket, id=22, keeper_id=11, text="feed")
    user = {"password": "!", "is_superuser": False, "first_name": "", "last_name": "", "email": ""}
    user |= {"is_staff": False, "is_active": True, "date_joined": LONG_AGO}
    permission = rows(Permission, alias).get(codename="change_animal")
    put(alias, Group, id=11, name="keepers", permissions=[permission.pk])
    put(alias, User, id=11, username="anna", groups=[11], **user)


def _fill_animals(alias: str) -> None:
    put(alias, zoo.Species, id=11, code="LEO", latin="panthera leo")
    put(alias, zoo.Species, id=12, code="TIG", latin="panthera tigris")
    put(alias, zoo.Status, code="WELL", title="well")
    put(alias, zoo.Status, code="ILL", title="ill")
    put(alias, zoo.Contract, id=11, number=501, enclosure_id=12)
    put(alias, zoo.Contract, id=12, number=502, enclosure_id=11)
    put(alias, zoo.Enclosure, id=11, name="north", contract_id=11)
    put(alias, zoo.Enclosure, id=12, name="south", contract_id=12)
    put(alias, zoo.Tag, id=11, label="loud")
    put(alias, zoo.Tag, id=12, label="tame")
    leo = {"species_id": "LEO", "habits": {"sleeps": [18, 1.5, True, None]}, "status_id": "WELL"}
    put(
        alias,
        zoo.Animal,
        **leo,
        id=11,
        enclosure_id=11,
        name="Leo",
        keepers=[11, 12],
        friends=[12],
        tags=[11, 12],
        weight=Decimal("190.50"),
        chart=[1, {"a": None}],
        born=date(2010, 5, 6),
        nap=timedelta(hours=3, microseconds=7),
        photo="leo.jpg",
        print=b"\x00\xff",
    )
    put(alias, zoo.Animal, **leo, id=12, enclosure_id=12, name="Leo", friends=[11])
    put(alias, zoo.Animal, id=13, species_id="TIG", enclosure_id=11, name="Tig", habits={})
    put(alias, zoo.Passport, id=11, number="P1", animal_id=11)
    put(alias, zoo.Diet, animal_id=12, food="meat")
    put(alias, zoo.Collar, animal_id=13, colour="red")


def _fill_what_has_no_key(alias: str) -> None:
    put(alias, zoo.Memo, id=11, text="first", keeper_id=11, tags=[11])
    put(alias, zoo.Memo, id=12, text="reply", parent_id=11)
    put(alias, zoo.Memo, id=13, text="reply", parent_id=12)
    put(alias, zoo.Memo, id=14, text="twin")
    put(alias, zoo.Memo, id=15, text="twin")
    put(alias, zoo.Swing, id=11, name="big", rope_id=11)
    put(alias, zoo.Rope, id=11, length=5, swing_id=11)
    put(alias, zoo.Visit, id=11, tag_id=11, day=date(2020, 1, 1), guests=3)
    put(alias, zoo.Visit, id=12, tag_id=12, day=date(2020, 1, 1), guests=4)
    put(alias, zoo.Sensor, id=SENSOR, serial="S1")
    put(alias, zoo.Reading, id=READING, sensor_id=SENSOR, celsius=21.0)
    put(alias, zoo.Event, id=11, uuid=EVENTS[0], text="birth")
    put(alias, zoo.Event, id=12, uuid=EVENTS[1], text="birth")
    put(alias, zoo.Portrait, id=11, keeper_id=11, text="smiles")
    put(alias, zoo.Portrait, id=12, keeper_id=12, text="smiles")
    for pk, model, target in ((11, zoo.Tag, 11), (12, zoo.Keeper, 12), (13, zoo.Memo, 13)):
        kind = rows(ContentType, alias).get(app_label="zoo", model=model._meta.model_name)
        put(alias, zoo.Sticker, id=pk, text="x", content_type_id=kind.pk, object_id=str(target))


def _fill_what_inherits(alias: str) -> None:
    put(alias, zoo.Person, id=11, email="p@zoo")
    put(alias, zoo.Person, id=12, email="v@zoo")
    put(alias, zoo.Vet, person_ptr_id=12, licence="L1")
    put(alias, zoo.Vehicle, id=11, plate="A-1")
    put(alias, zoo.Vehicle, id=12, plate="A-2")
    put(alias, zoo.Truck, vehicle_ptr_id=12, load=7)


def reset_sequences(alias: str) -> None:
    connection = connections[alias]
    models = apps.get_models(include_auto_created=True)
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), models):
            cursor.execute(statement)


def legacy(alias: str) -> list[Record]:
    """The backup as plain `dumpdata` writes it, past the managers that hide rows."""
    return _dump(alias)


def django_natural(alias: str) -> list[Record]:
    """The backup as Django writes it with natural keys."""
    return _dump(alias, use_natural_foreign_keys=True, use_natural_primary_keys=True)


def converted(alias: str) -> list[Record]:
    """The backup as fastnk converts it, by the word of the tests' oracle."""
    result = oracle.convert(legacy(alias), SCHEMA, policies={"on_generic": "keep"})
    assert not result.refused
    return result.records


DJANGO_LOSES = ("zoo.status", "zoo.collar", "zoo.diet", "zoo.sticker")
"""Models whose pk Django's natural dump leaves out or leaves as it was."""


def put_enclosure(alias: str) -> None:
    """What an animal cannot be without: the species leo, whose code is LEO, and the enclosure."""
    with at_once(alias):
        put(alias, zoo.Species, id=1, code="LEO", latin="leo")
        put(alias, zoo.Contract, id=1, number=1, enclosure_id=1)
        put(alias, zoo.Enclosure, id=1, name="north", contract_id=1)


def soil(alias: str) -> None:
    """Fill a fresh database with rows that own the backup's pks, and with some of its keys."""
    with at_once(alias):
        for model, column in ((ContentType, "id"), (Permission, "id")):
            rows(model, alias).update(**{column: F(column) + 1000})
        rows(Permission, alias).update(content_type_id=F("content_type_id") + 1000)
        put(alias, zoo.Keeper, id=11, name="Zoe", joined=NOW, seen=NOW)
        put(alias, zoo.Keeper, id=12, name="Anna", mentor_id=11, joined=NOW, seen=NOW)
        put(alias, zoo.Species, id=11, code="TX", latin="panthera tigris")
        put(alias, zoo.Status, code="ILL", title="sick")
        put(alias, zoo.Contract, id=12, number=900, enclosure_id=11)
        put(alias, zoo.Enclosure, id=11, name="south", contract_id=12)
        put(alias, zoo.Tag, id=11, label="other")
        put(alias, zoo.Tag, id=12, label="loud")
        put(alias, zoo.Species, id=12, code="CAT", latin="felis catus")
        put(alias, zoo.Animal, id=12, species_id="CAT", enclosure_id=11, name="Tom", habits={})
        put(alias, zoo.Memo, id=11, text="stranger", tags=[11])
        put(alias, zoo.Memo, id=12, text="stranger", parent_id=11)
        put(alias, zoo.Memo, id=14, text="twin")
        put(alias, zoo.Swing, id=11, name="small", rope_id=11)
        put(alias, zoo.Rope, id=11, length=2, swing_id=11)
        put(alias, zoo.Visit, id=11, tag_id=11, day=date(2020, 1, 1), guests=9)
        put(alias, zoo.Ticket, id=21, keeper_id=11, text="sleep")
        put(alias, zoo.Event, id=11, uuid=UUID(int=99), text="other")
        put(alias, zoo.Event, id=50, uuid=EVENTS[0], text="changed")
        put(alias, zoo.Portrait, id=11, keeper_id=11, text="smiles")
        put(alias, zoo.Portrait, id=50, keeper_id=12, text="frowns")
        put(alias, zoo.Person, id=11, email="v@zoo")
        put(alias, zoo.Vehicle, id=12, plate="B-2")
        put(alias, zoo.Truck, vehicle_ptr_id=12, load=1)
        put(alias, zoo.Secret, id=12, name="OPEN", hidden=True)
        kind = rows(ContentType, alias).get(app_label="zoo", model="tag")
        put(alias, zoo.Sticker, id=11, text="y", content_type_id=kind.pk, object_id="11")
    reset_sequences(alias)


def tables(alias: str) -> dict[str, list[Any]]:
    """Every row of every table but that of restores, as the database has it."""
    connection = connections[alias]
    contents = {}
    with connection.cursor() as cursor:
        for table in set(connection.introspection.table_names()) - {ledger.TABLE}:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            contents[table] = sorted(cursor.fetchall(), key=repr)
    return contents


def _dump(alias: str, **options: Any) -> list[Record]:
    queries = (rows(apps.get_model(label), alias) for label in SCHEMA.models)
    text = serializers.serialize("json", chain.from_iterable(queries), **options)
    records: list[Record] = json.loads(text)
    return records


def by_keys(alias: str) -> dict[str, list[str]]:
    """What a database holds, model by model, without the pks that natural keys replace."""
    return {
        label: sorted(repr(_told(row)) for row in _with_targets(apps.get_model(label), alias))
        for label in SCHEMA.models
    }


def _with_targets(model: type[Any], alias: str) -> Any:
    """The rows of a model, and in the same query those that they refer to."""
    relations = [one.name for one in model._meta.local_concrete_fields if one.remote_field]
    return rows(model, alias).select_related(*relations or [None])


PKS_IN_KEYS = (zoo.Visit, zoo.Ticket)


def _told(row: Any, seen: tuple[Any, ...] = ()) -> Any:
    """A row as its fields and those of the rows that it refers to."""
    if row in seen:
        return "…"
    seen = (*seen, row)
    fields = {}
    for field in row._meta.local_concrete_fields:
        if field.remote_field:
            target = getattr(row, field.name)
            fields[field.name] = target and _named(target, seen)
        elif not isinstance(field, AutoField) and field is not zoo.Sensor._meta.pk:
            fields[field.name] = _plain(getattr(row, field.attname))
    for field in row._meta.local_many_to_many:
        fields[field.name] = sorted(
            repr(_named(target, seen)) for target in getattr(row, field.name).all()
        )
    if isinstance(row, zoo.Sticker):
        fields["object_id"] = _named(row.thing, seen)
    return fields


def _named(row: Any, seen: tuple[Any, ...]) -> Any:
    has_key = hasattr(row, "natural_key") and not isinstance(row, PKS_IN_KEYS)
    return row.natural_key() if has_key else _told(row, seen)


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else str(value)
