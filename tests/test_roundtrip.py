"""Old database, backup, conversion, restore into a new database, backup again: nothing changed.

The new database numbers its rows in another way. It is empty, or strangers have the ids of the old
one. An oracle of its own tells which row is which: it asks both databases through Django's models
and knows nothing of schemas or loaders.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connections
from django.db.models import (
    AutoField,
    CharField,
    DateField,
    F,
    IntegerField,
    QuerySet,
    TextField,
    UUIDField,
)
from django.test.utils import override_settings

from fastnk import LegacyBackupConverter, Policies, UnifiedRestoreManager
from fastnk.django.restore.report import RestoreReport
from fastnk.django.schema.introspect import schema_from_apps
from fastnk.schema import Schema
from tests import databases, zoo
from tests.databases import at_once
from tests.project.exact import rows as exact
from tests.zoo import Record, put, tables

APPS = ("contenttypes", "auth", "exact", "zoo")
ARRAYS = "tests.project.arrays"
"""The app with what PostgreSQL alone has; it is installed for one test only."""
AS_IT_IS = Policies(on_null_key="null", on_generic="keep")
"""The zoo has null parts in keys, and generic relations to rows that have nothing but pks."""


def apps_of_the_zoo() -> tuple[str, ...]:
    return (*APPS, "arrays") if apps.is_installed(ARRAYS) else APPS


def models_of_the_zoo() -> list[Any]:
    """Every model with a table, those of many-to-many fields only where a column points at one."""
    models = [model for app in apps_of_the_zoo() for model in apps.get_app_config(app).get_models()]
    pointed_at = [
        field.remote_field.model
        for model in models
        for field in model._meta.local_concrete_fields
        if field.is_relation and field.remote_field.model._meta.auto_created
    ]
    return [model for model in [*models, *pointed_at] if not model._meta.proxy]


def dumped(alias: str, *labels: str) -> list[Record]:
    out = io.StringIO()
    call_command("dumpdata", *labels, use_base_manager=True, database=alias, stdout=out)
    return json.loads(out.getvalue())  # type: ignore[no-any-return]


def legacy(alias: str) -> list[Record]:
    """What `dumpdata` writes of every model; tables of many-to-many fields it wants by name."""
    named = [model._meta.label for model in models_of_the_zoo() if model._meta.auto_created]
    return dumped(alias, *apps_of_the_zoo()) + dumped(alias, *named)


def in_backups(model: Any, alias: str) -> QuerySet[Any]:
    """The rows that `dumpdata` writes."""
    return model._base_manager.using(alias).order_by("pk")  # type: ignore[no-any-return]


def move_rows(alias: str) -> None:
    """Move the rows that a fresh database has."""
    with at_once(alias):
        for model in (ContentType, Permission):
            model.objects.using(alias).update(id=F("id") + 5_000)
        Permission.objects.using(alias).update(content_type_id=F("content_type_id") + 5_000)


def move_sequences(alias: str, first: int, step: int) -> None:
    """Let the database number the rows of each model from somewhere else."""
    for number, model in enumerate(apps.get_models(include_auto_created=True)):
        if isinstance(model._meta.pk, AutoField) and not model._meta.proxy:
            move_sequence(alias, model._meta, first + number * step)


def move_sequence(alias: str, meta: Any, position: int) -> None:
    table, column = meta.db_table, meta.pk.column
    with connections[alias].cursor() as cursor:
        if connections[alias].vendor == "postgresql":
            name = connections[alias].ops.quote_name(table)
            sql = "SELECT setval(pg_get_serial_sequence(%s, %s), %s)"
            cursor.execute(sql, [name, column, position])
        elif connections[alias].vendor == "mysql":
            cursor.execute(f"ALTER TABLE {table} AUTO_INCREMENT = {position + 1}")
        else:
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
            cursor.execute("INSERT INTO sqlite_sequence VALUES (%s, %s)", [table, position])


# ---- strangers --------------------------------------------------------------------------------

NO_STRANGERS = {
    "contenttypes.contenttype",  # every database has them
    "auth.permission",
    "exact.bill",  # what the database would make of other values is not told here
    "exact.gap",  # an id is what makes its key: a row with that is the same row
    "exact.chicken",  # no more than ids
    "exact.rooster",
    "exact.sailor",
    "exact.ship",
    "exact.step",
    "exact.desk",  # the highest ids there are, so that no new one is free; and what refers to them
    "exact.drawer",
    "exact.keyhole",
    "exact.levy",
    "exact.lock",
    "exact.room",
}


def settle_strangers(alias: str, backup: list[Record]) -> list[Record]:
    """Put other rows, which have the ids of those in the backup, into a database; its backup."""
    with at_once(alias):
        for record in backup:
            meta = apps.get_model(record["model"])._meta
            is_composite = isinstance(record["pk"], list)
            if not (record["model"] in NO_STRANGERS or meta.auto_created or is_composite):
                put(alias, meta.model, **strange_values(meta, record))
    return [record for record in legacy(alias) if is_stranger(record)]


def is_stranger(record: Record) -> bool:
    """Whether a row like that of `record` can be another one: it holds more than an id."""
    is_id = isinstance(apps.get_model(record["model"])._meta.pk, AutoField)
    has_more = any(record["fields"].values()) or not is_id
    return record["model"] not in NO_STRANGERS and has_more


def strange_values(meta: Any, record: Record) -> dict[str, Any]:
    """What a row like that of `record` holds, with the same ids and other values."""
    given = {meta.pk.name: record["pk"], **record["fields"]}
    values = {}
    for field in meta.local_concrete_fields:
        if getattr(field, "generated", False):
            continue
        is_given = field.name in given
        value = strange(field, given[field.name]) if is_given else field.get_default()
        values[field.attname] = field.to_python(value)
    for field in meta.local_many_to_many:
        pk = field.remote_field.model._meta.pk
        values[field.name] = [strange(pk, item) for item in given.get(field.name, ())]
    return values


def strange(field: Any, value: Any) -> Any:
    """Another value than that of a backup, but for ids."""
    if value is None or (field.is_relation and field.remote_field.model._meta.auto_created):
        return None
    field = end_of(field)
    if isinstance(field, AutoField):
        return value
    if isinstance(field, IntegerField):
        return value - 1_000 if value > 0 else value + 1_000
    if isinstance(field, UUIDField):
        return "e" + value[1:]
    if isinstance(field, DateField):  # a date and time too
        return "7" + value[1:]
    if type(field) in (CharField, TextField):
        return ("~" + value)[: field.max_length]
    return value


def end_of(field: Any) -> Any:
    """The field whose values a relation holds in the end: its pk may be a relation in turn."""
    while field.is_relation and field.concrete:
        field = field.target_field
    return field


# ---- the oracle -------------------------------------------------------------------------------

TOLD_BY: dict[str, Callable[[Any], Any]] = {
    "exact.comment": lambda row: (row.badge and row.badge.code, row.parent_id is None),
    "exact.visit": lambda row: row.restaurant.name,
    "zoo.visit": lambda row: row.guests,
}
"""What tells rows apart that have no natural key, or one with ids of other rows in it."""
TOLD_BY_ORDER = {"exact.drawer", "exact.gap", "zoo.ticket"}
"""Models with ids of their own in the key: no more than a number."""


def told(row: Any) -> Any:
    """What tells a row apart in any database; `None` where only the order of the ids does."""
    label = row._meta.label_lower
    if label in TOLD_BY_ORDER:
        return None
    if label in TOLD_BY:
        return TOLD_BY[label](row)
    if row._meta.auto_created:
        ends = [field.name for field in row._meta.concrete_fields if field.is_relation]
        return [told(getattr(row, name)) for name in ends]
    return row.natural_key() if hasattr(row, "natural_key") else None


class Renaming:
    """Gives the rows of one database the ids that they have in another.

    `strangers` are the rows that are none of ours, as the alias, the label and the pk.
    """

    def __init__(self, source: str, target: str, strangers: set[tuple[str, str, str]]) -> None:
        self._source = source
        self._strangers = strangers
        self._ids = {
            model._meta.label_lower: self._renamed(model, source, target)
            for model in models_of_the_zoo()
            if isinstance(model._meta.pk, AutoField)
        }
        kinds = ContentType.objects.using(source)
        self._kinds = {kind.pk: kind.model_class() for kind in kinds.all()}

    @property
    def differing(self) -> set[str]:
        """The models with rows that have other ids in the two databases."""
        return {
            label
            for label, ids in self._ids.items()
            if any(before != after for before, after in ids.items())
        }

    def records(self, records: list[Record]) -> Iterator[Record]:
        for record in records:
            if not self._is_stranger(self._source, record["model"], record["pk"]):
                yield self._record(apps.get_model(record["model"]), record)

    def _is_stranger(self, alias: str, label: str, pk: Any) -> bool:
        return (alias, label, str(pk)) in self._strangers

    def _record(self, model: Any, record: Record) -> Record:
        fields = dict(record["fields"])
        for field in model._meta.private_fields:
            if isinstance(field, GenericForeignKey):
                kind = self._kinds.get(fields[field.ct_field])
                fields[field.fk_field] = self._object_id(kind, fields[field.fk_field])
        for name, value in fields.items():
            fields[name] = self._value(model._meta.get_field(name), value)
        return {"model": record["model"], "pk": self._pk(model, record["pk"]), "fields": fields}

    def _pk(self, model: Any, value: Any) -> Any:
        if isinstance(value, list):
            pairs = zip(model._meta.pk.fields, value, strict=True)
            return [self._value(field, part) for field, part in pairs]
        return self._value(model._meta.pk, value)

    def _object_id(self, model: Any, value: Any) -> Any:
        if model is None:
            return value
        pk = end_of(model._meta.pk).to_python(value)
        return type(value)(self._pk(model, pk))

    def _value(self, field: Any, value: Any) -> Any:
        """The value of a field with the ids in it renamed; a set of rows in order."""
        if field.many_to_many:
            pk = field.remote_field.model._meta.pk
            return sorted((self._value(pk, item) for item in value), key=str)
        end = end_of(field)
        if value is None or not isinstance(end, AutoField):
            return value
        return self._ids[end.model._meta.label_lower][value]

    def _renamed(self, model: Any, source: str, target: str) -> dict[Any, Any]:
        """The ids of rows in one database to those of the same rows in another."""
        ours, theirs = self._rows(model, source), self._rows(model, target)
        assert len(ours) == len(theirs), model
        if any(told(row) is None for row in ours):
            return {row.pk: other.pk for row, other in zip(ours, theirs, strict=True)}
        ids = {repr(told(row)): row.pk for row in theirs}
        return {row.pk: ids.pop(repr(told(row))) for row in ours}

    def _rows(self, model: Any, alias: str) -> list[Any]:
        label = model._meta.label_lower
        rows = in_backups(model, alias)
        return [row for row in rows if not self._is_stranger(alias, label, row.pk)]


# ---- the round trip ---------------------------------------------------------------------------


class Trip(NamedTuple):
    """What came of restoring the zoo into a database that numbers rows in another way."""

    old: str
    new: str
    backup: list[Record]
    """Of the old database, as `dumpdata` writes it."""
    natural: bytes
    """The same, converted."""
    strangers: list[Record]
    """What the new database held before, but for rows that every database has."""
    report: RestoreReport

    def renaming(self, source: str, target: str) -> Renaming:
        strangers = {(self.new, record["model"], str(record["pk"])) for record in self.strangers}
        return Renaming(source, target, strangers)


@pytest.fixture(scope="module")
def schema() -> Schema:
    return schema_from_apps()


class Origin(NamedTuple):
    """The old database, which tests only read."""

    old: str
    backup: list[Record]
    natural: bytes


@pytest.fixture(scope="module")
def origin(renew: Callable[[str], str], schema: Schema) -> Origin:
    old = renew("old")
    move_sequences(old, 1_000, 0)  # clear of the ids that the zoo chooses
    exact.fill(old)
    zoo.fill(old)
    backup = legacy(old)
    return Origin(old, backup, converted(backup, schema))


@pytest.fixture(scope="module", params=["empty", "with strangers"])
def trip(
    request: pytest.FixtureRequest, renew: Callable[[str], str], schema: Schema, origin: Origin
) -> Trip:
    new = renew("new")
    if request.param == "empty":
        move_rows(new)
        strangers = []
    else:
        strangers = settle_strangers(new, origin.backup)
    move_sequences(new, 10_000, 1_000)
    return Trip(origin.old, new, *origin[1:], strangers, restore(origin.natural, schema, new))


def converted(backup: list[Record], schema: Schema) -> bytes:
    converter = LegacyBackupConverter(schema, policies=AS_IT_IS)
    return converter.convert_bytes(json.dumps(backup).encode())


def restore(natural: bytes, schema: Schema, alias: str) -> RestoreReport:
    manager = UnifiedRestoreManager(schema, database=alias, policies=AS_IT_IS)
    return manager.restore_any_format(natural)


def by_pk(records: Iterable[Record]) -> dict[str, dict[str, Record]]:
    models: dict[str, dict[str, Record]] = {}
    for record in records:
        model = models.setdefault(record["model"], {})
        assert str(record["pk"]) not in model
        model[str(record["pk"])] = record
    return models


def test_every_record_comes_back_as_it_was(trip: Trip) -> None:
    assert_all_is_back(trip)


def assert_all_is_back(trip: Trip) -> None:
    to_old, as_it_is = trip.renaming(trip.new, trip.old), trip.renaming(trip.old, trip.old)
    restored = by_pk(to_old.records(legacy(trip.new)))
    original = by_pk(as_it_is.records(trip.backup))
    assert restored.keys() == original.keys()
    for label, records in original.items():
        assert restored[label] == records, label
        assert spelled(restored[label]) == spelled(records), label


def spelled(records: dict[str, Record]) -> str:
    """What tells 1 from 1.0 and true, which are equal to Python."""
    return json.dumps(records, sort_keys=True)


def test_strangers_are_left_alone(trip: Trip) -> None:
    found = by_pk(map(in_order, legacy(trip.new)))
    for stranger in map(in_order, trip.strangers):
        assert found[stranger["model"]][str(stranger["pk"])] == stranger


def in_order(record: Record) -> Record:
    """With sets of rows in one order, for a database may give them in any."""
    sets = {field.name for field in apps.get_model(record["model"])._meta.many_to_many}
    fields = {
        name: sorted(value, key=str) if name in sets else value
        for name, value in record["fields"].items()
    }
    return {**record, "fields": fields}


def test_every_model_with_rows_takes_part(trip: Trip) -> None:
    with_rows = {
        model._meta.label_lower
        for model in models_of_the_zoo()
        if in_backups(model, trip.old).exists()
    }
    assert {record["model"] for record in trip.backup} == with_rows == trip.report.models.keys()
    assert with_rows >= {
        model._meta.label_lower for model in models_of_the_zoo() if model._meta.app_label == "exact"
    }


def test_every_id_that_a_key_replaces_or_a_stranger_has_is_another(trip: Trip) -> None:
    """Else the round trip would prove nothing."""
    numbered = {
        model._meta.label_lower: model
        for model in models_of_the_zoo()
        if isinstance(model._meta.pk, AutoField) and in_backups(model, trip.old).exists()
    }
    keyed = {
        label
        for label, model in numbered.items()
        if hasattr(model, "natural_key") or model._meta.auto_created
    }
    expected = keyed - TOLD_BY_ORDER
    if trip.strangers:
        expected |= numbered.keys() - NO_STRANGERS
        expected -= {"contenttypes.contenttype", "auth.permission"}
    assert trip.renaming(trip.old, trip.new).differing == expected


def test_second_restore_changes_nothing(trip: Trip, schema: Schema) -> None:
    before = tables(trip.new)
    report = restore(trip.natural, schema, trip.new)
    assert report.unchanged == report.records == len(trip.backup)
    assert tables(trip.new) == before


def test_arrays_and_ranges_come_back_as_they_were(postgres: databases.Postgres) -> None:
    old, new = "postgres_old", "postgres_new"
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, ARRAYS]):
        from tests.project.arrays.rows import fill

        for alias in (old, new):
            postgres.renew(alias)
            databases.migrate(alias)
        fill(old)
        # No JSON holds a range in a key, so that nothing says which row such a record is.
        apps.get_model("arrays", "span").objects.using(old).all().delete()
        backup = legacy(old)
        schema = schema_from_apps()
        natural = converted(backup, schema)
        move_sequences(new, 10_000, 1_000)
        trip = Trip(old, new, backup, natural, [], restore(natural, schema, new))
        assert_all_is_back(trip)
        assert "arrays.parcel" in trip.renaming(old, new).differing
        report = restore(natural, schema, new)
        assert report.unchanged == report.records == len(backup)
