"""What Django would have dumped: the zoo converted, held beside Django's own natural dump."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import django
import pytest
from django.apps import apps
from django.conf import settings
from django.core import serializers
from django.core.management import CommandError, call_command
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections
from django.db.models.fields import AutoFieldMixin
from django.test.utils import override_settings

from fastnk import LegacyBackupConverter, Policies, UnifiedRestoreManager
from fastnk.django.schema.introspect import schema_from_apps
from fastnk.django.schema.tracing import TraceError, trace_natural_key
from fastnk.errors import FindingsError
from fastnk.schema import Model, Schema, flat_parts
from tests import databases
from tests.conftest import Project
from tests.project.exact import models as exact
from tests.project.exact.kinds import KINDS, Specimen
from tests.project.exact.rows import fill

Record = dict[str, Any]
ALIAS, BROKEN = "sqlite_old", "sqlite_new"
APPS = ("contenttypes", "auth", "exact")
NATURAL = {"use_natural_foreign_keys": True, "use_natural_primary_keys": True}
AS_DJANGO = Policies(on_null_key="null", on_generic="keep")
"""Without a word Django writes a null in a key, and the ids in generic relations as they are."""


def dumped(*labels: str, alias: str = ALIAS, hidden: bool = True, **options: Any) -> str:
    """What `dumpdata` writes, the rows that default managers hide included or not."""
    out = io.StringIO()
    options |= {"use_base_manager": hidden, "database": alias, "stdout": out}
    call_command("dumpdata", *labels, **options)
    return out.getvalue()


def converted(
    backup: str | bytes, schema: Schema, style: Any = "fastnk", policies: Policies = AS_DJANGO
) -> list[Record]:
    data = backup.encode() if isinstance(backup, str) else backup
    converter = LegacyBackupConverter(schema, style=style, policies=policies)
    return read(converter.convert_bytes(data).decode())


def read(text: str) -> list[Record]:
    """The records with every number as it is spelled; those of JSON Lines too."""
    if text.lstrip().startswith("["):
        return json.loads(text, parse_float=Spelled)  # type: ignore[no-any-return]
    return [json.loads(line, parse_float=Spelled) for line in text.split("\n") if line.strip()]


class Spelled(float):
    """A number that equals only what is spelled as it is: not 1e2 for 100.0, nor 0.0 for -0.0."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spelled) and self.text == other.text

    __hash__ = float.__hash__


def by_model(records: list[Record]) -> dict[str, list[Record]]:
    models: dict[str, list[Record]] = {}
    for record in records:
        models.setdefault(record["model"], []).append(record)
    return models


def as_in_django(record: Record) -> Record:
    """A record without what the style `fastnk` adds to it."""
    added = {"natural_key", "references"} | ({"pk"} if "natural_key" in record else set())
    return {name: value for name, value in record.items() if name not in added}


@pytest.fixture(scope="module")
def schema() -> Schema:
    return schema_from_apps()


@pytest.fixture(scope="module")
def zoo(sqlite: databases.SQLite) -> str:
    """The alias of a database with rows of every kind."""
    sqlite.renew(ALIAS)
    fill(ALIAS)
    return ALIAS


@pytest.fixture(scope="module")
def legacy(zoo: str) -> str:
    return dumped(*APPS)


@pytest.fixture(scope="module")
def natural(zoo: str) -> list[Record]:
    return read(dumped(*APPS, **NATURAL))


@pytest.fixture(scope="module")
def ours(legacy: str, schema: Schema) -> dict[str, list[Record]]:
    return by_model(converted(legacy, schema))


def labels_of_the_zoo() -> list[str]:
    written = [model for name in APPS for model in apps.get_app_config(name).get_models()]
    return [model._meta.label_lower for model in written if not model._meta.proxy]


# ---- the same as Django -----------------------------------------------------------------------


@pytest.mark.parametrize("label", labels_of_the_zoo())
def test_style_django_is_what_django_dumps(
    legacy: str, natural: list[Record], schema: Schema, label: str
) -> None:
    theirs, ours = by_model(natural), by_model(converted(legacy, schema, "django"))
    assert ours[label] == theirs[label]


@pytest.mark.parametrize("label", labels_of_the_zoo())
def test_style_fastnk_only_adds(
    ours: dict[str, list[Record]], natural: list[Record], label: str
) -> None:
    assert list(map(as_in_django, ours[label])) == by_model(natural)[label]


@pytest.mark.parametrize("label", labels_of_the_zoo())
def test_natural_keys_are_those_of_the_methods(
    ours: dict[str, list[Record]], zoo: str, label: str
) -> None:
    rows = apps.get_model(label)._base_manager.using(zoo).order_by("pk")
    assert [record.get("natural_key") for record in ours[label]] == list(map(live_key, rows))


def live_key(row: Any) -> Any:
    return as_dumped(row.natural_key()) if hasattr(row, "natural_key") else None


def as_dumped(value: Any) -> Any:
    """What a backup holds for `value`."""
    return json.loads(json.dumps(value, cls=DjangoJSONEncoder), parse_float=Spelled)


def test_both_dumps_hold_every_model(legacy: str, natural: list[Record]) -> None:
    assert set(by_model(read(legacy))) == set(by_model(natural)) == set(labels_of_the_zoo())


def as_lines(records: list[Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def turned_round(records: list[Any]) -> str:
    return json.dumps([dict(reversed(record.items())) for record in records])


SPELLINGS: dict[str, Callable[[list[Any]], str]] = {
    "escaped": json.dumps,
    "indented": lambda records: json.dumps(records, indent=4, ensure_ascii=False),
    "tabs and lines": lambda records: json.dumps(records, indent="\r\n\t"),
    "sorted": lambda records: json.dumps(records, sort_keys=True),
    "dense": lambda records: json.dumps(records, separators=(",", ":"), ensure_ascii=False),
    "loose": lambda records: json.dumps(records, separators=(" ,\t", "\n: ")),
    "fields first": turned_round,
    "lines": as_lines,
}


@pytest.mark.parametrize("style", ["django", "fastnk"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_producers(
    legacy: str, natural: list[Record], schema: Schema, spelling: str, style: str
) -> None:
    """They spell some floats in another way: those are compared by value."""
    records = converted(SPELLINGS[spelling](json.loads(legacy)), schema, style)
    assert by_value(list(map(as_in_django, records))) == by_value(natural)


def by_value(records: list[Record]) -> dict[str, list[Record]]:
    return by_model([json.loads(json.dumps(record)) for record in records])


@pytest.mark.parametrize("options", [{"indent": 2}, {"format": "jsonl"}])
def test_other_formats_of_dumpdata(
    zoo: str, natural: list[Record], schema: Schema, options: dict[str, Any]
) -> None:
    records = converted(dumped(*APPS, **options), schema, "django")
    assert by_model(records) == by_model(natural)


def test_what_is_converted_already_stays(legacy: str, schema: Schema) -> None:
    converter = LegacyBackupConverter(schema, policies=AS_DJANGO)
    once = converter.convert_bytes(legacy.encode())
    assert converter.convert_bytes(once) == once


def test_natural_dumps_of_django_stay(zoo: str, schema: Schema) -> None:
    """But for the ids that nothing in them explains, because Django dropped what they were."""
    text = dumped(*APPS, **NATURAL).encode()
    with pytest.raises(FindingsError) as caught:
        LegacyBackupConverter(schema, policies=AS_DJANGO).convert_bytes(text)
    assert {(f.code, f.place.model, f.place.field) for f in caught.value.findings} == {
        ("FNK301", "exact.diet", "profile"),
        ("FNK301", "exact.levy", "room"),
    }
    keep = Policies(on_generic="keep", on_unresolved="keep")
    assert LegacyBackupConverter(schema, policies=keep).convert_bytes(text) == text


@pytest.mark.parametrize("first", ["legacy", "natural"])
def test_mixed_backups(legacy: str, schema: Schema, first: str) -> None:
    """Every second record converted already: what refers to those needs the rows as `--keys`."""
    old, new = json.loads(legacy), converted(legacy, schema)
    pairs = zip(old, new, strict=True)
    mixed = [pair[(n + (first == "legacy")) % 2] for n, pair in enumerate(pairs)]
    converter = LegacyBackupConverter(schema, policies=AS_DJANGO, keys=[legacy.encode()])
    done = read(converter.convert_bytes(json.dumps(mixed).encode()).decode())
    assert by_value(done) == by_value(new)


# ---- nothing is lost --------------------------------------------------------------------------


@pytest.mark.parametrize("label", labels_of_the_zoo())
def test_every_pk_that_no_database_made_is_in_the_record(
    ours: dict[str, list[Record]], legacy: str, schema: Schema, label: str
) -> None:
    """As it was, or as the natural key of the row that it meant."""
    pk = apps.get_model(label)._meta.pk
    before = by_model(read(legacy))
    for old, new in zip(before[label], ours[label], strict=True):
        if isinstance(pk, AutoFieldMixin) and "natural_key" in new:
            assert "pk" not in new
        elif (held := pk_in(new, schema.models[label])) is not None:
            assert held == old["pk"]
        else:
            held = {**new["fields"], **new.get("references", {})}[pk.name]
            assert held == key_of(before, ours, pk, old["pk"])


def pk_in(record: Record, model: Model) -> Any:
    """The pk where the record has it as it was: beside the fields, in the key or among them."""
    if "pk" in record:
        return record["pk"]
    paths = list(flat_parts(model.natural_key or []))
    for path in {"pk", model.pk} & set(paths):
        return record["natural_key"][paths.index(path)]
    if model.pk != "pk":
        return None
    return [record["fields"][part.name] for part in apps.get_model(record["model"])._meta.pk]


def key_of(
    before: dict[str, list[Record]], after: dict[str, list[Record]], field: Any, value: Any
) -> Any:
    """The natural key of the record that `value` of the relation `field` means."""
    target = field.remote_field.model._meta.label_lower
    by = field.target_field
    for old, new in zip(before[target], after[target], strict=True):
        if (old["pk"] if by.primary_key else old["fields"][by.name]) == value:
            return new.get("natural_key", value)
    raise AssertionError(f"no {target} with {by.name} {value}")


def test_members_beside_the_fields(ours: dict[str, list[Record]]) -> None:
    """Exactly what Django loses, and nothing that it does not."""
    with_references = {
        label for label, records in ours.items() for record in records if "references" in record
    }
    assert with_references == {
        "exact.note",  # generic relations
        "exact.pin",
        "exact.sticker",
        "exact.diet",  # relations as pks
        "exact.levy",
        "exact.passport",
        "exact.profile",
        "exact.rank",
        "exact.tariff",
    }
    with_both = {
        label for label, records in ours.items() for r in records if {"pk", "natural_key"} <= {*r}
    }
    assert with_both == {
        "exact.currency",  # pks that are data
        "exact.device",
        "exact.floor",
        "exact.landmark",
        "exact.planet",
        "exact.lock",  # a relation to a model that has nothing but pks
    }


def test_generic_relations(ours: dict[str, list[Record]], zoo: str) -> None:
    for model, name in GENERIC.items():
        rows = model.objects.using(zoo).order_by("pk")
        for row, record in zip(rows, ours[model._meta.label_lower], strict=True):
            assert record["fields"][name] == as_dumped(getattr(row, name))
            has_key = row.target is not None and hasattr(row.target, "natural_key")
            assert record.get("references") == ({name: live_key(row.target)} if has_key else None)


GENERIC = {exact.Note: "object_id", exact.Pin: "object_id", exact.Sticker: "which"}
"""Models with a generic relation, and the field that holds the pk of what it refers to."""


# ---- hidden rows ------------------------------------------------------------------------------


def test_row_that_the_default_manager_hides(zoo: str, schema: Schema) -> None:
    """Django looks past the manager for the key; a backup that lacks the row cannot."""
    backup = dumped("exact.secret", "exact.hint", hidden=False)
    theirs = read(dumped("exact.secret", "exact.hint", hidden=False, **NATURAL))
    assert [r["fields"]["secret"] for r in theirs if r["model"] == "exact.hint"] == [
        ["secret"],
        ["open"],
    ]
    with pytest.raises(FindingsError) as caught:
        converted(backup, schema)
    assert [finding.code for finding in caught.value.findings] == ["FNK301"]
    supplied = LegacyBackupConverter(
        schema, style="django", keys=[dumped("exact.secret").encode()]
    ).convert_bytes(backup.encode())
    assert by_model(read(supplied.decode())) == by_model(theirs)


# ---- another user model -----------------------------------------------------------------------


def test_swapped_user_model(project: Project) -> None:
    """In a process of its own: a project has one user model."""
    project.write(
        """
        INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "staff"]
        MIGRATION_MODULES = {"contenttypes": None, "auth": None}
        AUTH_USER_MODEL = "staff.Person"
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        """,
        staff="""
        from django.conf import settings
        from django.contrib.auth.models import AbstractUser

        class Person(AbstractUser):
            username = None
            email = models.EmailField(unique=True)
            boss = models.ForeignKey("self", models.SET_NULL, null=True)
            USERNAME_FIELD = "email"

        class Badge(models.Model):
            person = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE)
            number = models.IntegerField()

            def natural_key(self):
                return self.person.natural_key() + (self.number,)
        """,
    )
    legacy, natural, ours = project.run("""
        import io
        from fastnk import LegacyBackupConverter
        schema = schema_from_project("settings")
        from django.core.management import call_command
        from django.contrib.auth.models import Permission
        from staff.models import Badge, Person

        call_command("migrate", run_syncdb=True, verbosity=0)
        boss = Person.objects.create(pk=12, email="boss@b.c")
        boss.user_permissions.set(Permission.objects.filter(codename__contains="badge"))
        person = Person.objects.create(pk=11, email="a@b.c", boss=boss)
        Badge.objects.create(person=person, number=5)

        def dumped(**options):
            out = io.StringIO()
            call_command("dumpdata", "staff", "auth", "contenttypes", stdout=out, **options)
            return out.getvalue()

        legacy = dumped()
        natural = dumped(use_natural_foreign_keys=True, use_natural_primary_keys=True)
        ours = LegacyBackupConverter(schema, style="django").convert_bytes(legacy.encode())
        print(json.dumps([json.loads(text) for text in (legacy, natural, ours)]))
    """)
    assert by_model(ours) == by_model(natural)
    assert by_model(natural).keys() >= {"staff.person", "staff.badge", "auth.permission"}
    assert by_model(legacy)["staff.badge"][0]["fields"]["person"] == 11


# ---- what Django refuses to dump --------------------------------------------------------------


@pytest.fixture
def broken(sqlite: databases.SQLite) -> str:
    """The alias of a database that does not check what its rows refer to."""
    sqlite.renew(BROKEN)
    with connections[BROKEN].cursor() as cursor:
        cursor.execute("PRAGMA foreign_keys = OFF")
    return BROKEN


def codes_of(backup: str, schema: Schema) -> list[tuple[str, str | None, str | None]]:
    with pytest.raises(FindingsError) as caught:
        LegacyBackupConverter(schema).convert_bytes(backup.encode())
    return [(f.code, f.place.model, f.place.field) for f in caught.value.findings]


def test_reference_to_a_row_that_is_gone(broken: str, schema: Schema) -> None:
    exact.Visa.objects.using(broken).create(passport_id=5, profile_id=5, country_id="XX")
    with pytest.raises(CommandError, match="does not exist"):
        dumped("exact.visa", alias=broken, **NATURAL)
    assert codes_of(dumped("exact.visa", alias=broken), schema) == [
        ("FNK307", "exact.visa", None),
        ("FNK301", "exact.visa", "passport"),
        ("FNK301", "exact.visa", "profile"),
        ("FNK301", "exact.visa", "country"),
    ]


def test_key_that_a_null_relation_breaks(broken: str, schema: Schema) -> None:
    shop = exact.Shop.objects.using(broken).create(name="Nowhere", licence="L-0")
    place = exact.Restaurant.objects.using(broken).create(name="Here", stars=0)
    exact.Visit.objects.using(broken).create(restaurant=place, shop=shop)
    labels = ("exact.place", "exact.restaurant", "exact.shop", "exact.visit")
    if django.VERSION < (6, 1):  # which takes the error for a model without a key
        with pytest.raises(CommandError, match="'NoneType' object has no attribute"):
            dumped(*labels, alias=broken, **NATURAL)
    findings = codes_of(dumped(*labels, alias=broken), schema)
    assert ("FNK305", "exact.shop", None) in findings


def test_keys_that_are_not_unique(broken: str, schema: Schema) -> None:
    """Django dumps two rows that `loaddata` makes one of; here the model can keep its pks."""
    for pk in (1, 2):
        exact.Folder.objects.using(broken).create(pk=pk, name="twin", parent_id=None)
    theirs = read(dumped("exact.folder", alias=broken, **NATURAL))
    assert theirs[0] == theirs[1]
    backup = dumped("exact.folder", alias=broken)
    converter = LegacyBackupConverter(
        schema, policies=Policies(on_null_key="null", on_duplicate_key="keep")
    )
    assert converter.convert_bytes(backup.encode()).decode() == backup


def test_times_that_a_backup_cuts(broken: str, schema: Schema) -> None:
    """A backup has milliseconds; what `isoformat` gave beyond them it does not hold."""
    at = datetime(2024, 1, 1, microsecond=123_456, tzinfo=UTC)
    row = exact.Stamp.objects.using(broken).create(day=at.date(), time=at.time(), at=at)
    (record,) = converted(dumped("exact.stamp", alias=broken), schema)
    assert row.natural_key()[2] == "2024-01-01T00:00:00.123456+00:00"
    assert record["natural_key"][2] == "2024-01-01T00:00:00.123000+00:00"


# ---- keys that cannot be traced ---------------------------------------------------------------

UNTRACED = "tests.project.exact.untraced"
REASONS = {
    "untraced.asking": "queries the database",
    "untraced.branch": 'follows more than 16 relations ("parent__parent__parent__parent__…"): '
    "the key of a tree has no fixed length",
    "untraced.branching": 'compares "year"',
    "untraced.broken": "raises ValueError: no key today",
    "untraced.careless": "queries the database",
    "untraced.circle": 'compares "id"',
    "untraced.customer": "returns the constant 'customer' as part 1, which is not the value of a "
    "field",
    "untraced.endless": "raises RecursionError: maximum recursion depth exceeded",
    "untraced.folder": 'counts or takes apart "path"',
    "untraced.format": 'formats "code"',
    "untraced.formatted": 'formats "code"',
    "untraced.grown": 'formats "base_ptr__code"',
    "untraced.joined": 'calculates with "code"',
    "untraced.labelled": 'asks for the type of "shift"',
    "untraced.lasting": 'returns "lasts", a DurationField, which may look different in a key and '
    "in a field",
    "untraced.lowered": 'takes .lower of "code"',
    "untraced.percent": 'converts "year"',
    "untraced.shelf": 'follows more than 16 relations ("branch__parent__parent__parent__…"): '
    "the key of a tree has no fixed length",
    "untraced.sliced": 'counts or takes apart "code"',
    "untraced.spelled": 'takes str() of "at", which is not how a backup spells it',
    "untraced.structured": 'returns "facts", a JSONField, which may look different in a key and '
    "in a field",
    "untraced.typed": "does not hand on what it was traced to for a sample record: ('7400 code',)",
    "untraced.wordy": 'counts or takes apart "code"',
}


@pytest.fixture
def untraced() -> Iterator[Any]:
    """The models with keys that cannot be traced, installed."""
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, UNTRACED]):
        yield apps.get_app_config("untraced").models_module


def test_every_key_that_cannot_be_traced_is_named(untraced: Any) -> None:
    reasons = {}
    for model in apps.get_app_config("untraced").get_models():
        try:
            trace_natural_key(model)
        except TraceError as error:
            reasons[model._meta.label_lower] = str(error)
    assert reasons == REASONS


# ---- what PostgreSQL alone has ------------------------------------------------------------------

ARRAYS = "tests.project.arrays"
KEEP_PK = Policies(on_null_key="null", on_generic="keep", on_unresolved="keep")
KEYS_OF_ARRAYS = ("arrays.chain", "arrays.head", "arrays.route", "arrays.span", "arrays.tour")


class Arrays(NamedTuple):
    """What there is of the app with arrays, which is installed while a database is filled."""

    legacy: str
    natural: dict[str, list[Record]]
    schema: Schema
    reasons: dict[str, str]
    """Why keys are not traced."""
    specimens: list[Specimen]


@pytest.fixture(scope="module")
def arrays(postgres: databases.Postgres) -> Arrays:
    alias = "postgres_old"
    postgres.renew(alias)
    reasons: dict[str, str] = {}
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, ARRAYS]):
        from tests.project.arrays.rows import fill as fill_arrays

        databases.migrate(alias)
        fill_arrays(alias)
        return Arrays(
            dumped("arrays", alias=alias),
            by_model(read(dumped("arrays", alias=alias, **NATURAL))),
            schema_from_apps(reasons.__setitem__),
            reasons,
            specimens_of(apps.get_app_config("arrays"), alias),
        )


@pytest.mark.parametrize("style", ["django", "fastnk"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_arrays_are_what_django_dumps(arrays: Arrays, spelling: str, style: str) -> None:
    """But for a range in a key, which no JSON can hold: that model keeps its pks."""
    ours = by_model(
        converted(SPELLINGS[spelling](json.loads(arrays.legacy)), arrays.schema, style, KEEP_PK)
    )
    for label, theirs in arrays.natural.items():
        if label != "arrays.span":
            assert by_value(list(map(as_in_django, ours[label]))) == by_value(theirs)


def test_array_is_a_list_in_a_key_and_a_text_in_a_field(arrays: Arrays) -> None:
    """Which is why a key made of one is not traced."""
    (route,), (tour,) = arrays.natural["arrays.route"], arrays.natural["arrays.tour"]
    assert tour["fields"]["route"] == ["north", json.loads(route["fields"]["stops"])]
    models = arrays.schema.models.items()
    called = {label for label, one in models if one.natural_key_method and "arrays." in label}
    assert called == set(KEYS_OF_ARRAYS)


def test_range_in_a_key_is_a_finding(arrays: Arrays) -> None:
    """Django could not write a reference to such a record."""
    assert codes_of(arrays.legacy, arrays.schema) == [("FNK307", "arrays.span", None)]


@pytest.mark.parametrize("form", ["legacy", "converted", "natural"])
def test_arrays_come_back(arrays: Arrays, postgres: databases.Postgres, form: str) -> None:
    """But for the record whose key cannot be made: nothing says which row it is."""
    records = [one for one in read(arrays.legacy) if one["model"] != "arrays.span"]
    natural = {label: ones for label, ones in arrays.natural.items() if label != "arrays.span"}
    if form == "converted":
        records = converted(json.dumps(records), arrays.schema)
    if form == "natural":
        records = list(itertools.chain.from_iterable(natural.values()))
    backup, alias = json.dumps(records).encode(), "postgres_new"
    postgres.renew(alias)
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, ARRAYS]):
        databases.migrate(alias)
        manager = UnifiedRestoreManager(arrays.schema, database=alias, policies=AS_DJANGO)
        assert manager.restore_any_format(backup).created == len(records)
        assert by_model(read(dumped("arrays", alias=alias, **NATURAL))) == natural
        assert manager.restore_any_format(backup).updated == 0


# ---- every kind is there ----------------------------------------------------------------------


def specimens_of(app: Any, alias: str) -> list[Specimen]:
    """The models of an app with their rows in the database `alias`."""
    found = []
    for model in app.get_models():
        rows = list(model._base_manager.using(alias))
        found.append(Specimen(model, rows, serializers.serialize("json", rows)))
    return found


@pytest.fixture(scope="module")
def specimens(zoo: str, arrays: Arrays) -> list[Specimen]:
    """Every model of the zoo, proxies and those with keys that cannot be traced included."""
    found = [*arrays.specimens]
    for name in APPS:
        found += specimens_of(apps.get_app_config(name), zoo)
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, UNTRACED]):
        models = apps.get_app_config("untraced").get_models()
        return found + [Specimen(model, [], "") for model in models]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_specimen(specimens: list[Specimen], kind: str) -> None:
    assert any(KINDS[kind](specimen) for specimen in specimens)


def test_every_specimen_of_the_zoo_has_rows(specimens: list[Specimen]) -> None:
    empty = {s.model.__name__ for s in specimens if not s.rows and s.app == "exact"}
    assert not empty
