"""A schema from a live project: its relations, and natural keys traced through methods."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import django
import pytest
from django.apps import apps
from django.core import serializers
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from fastnk.django.schema.introspect import (
    UntraceableKeyError,
    schema_from_apps,
    schema_from_project,
)
from fastnk.errors import SchemaError, UsageError
from fastnk.schema import GenericRelation, Model, Relation, Schema, plain_label

SETTINGS = "tests.project.settings"

if not apps.ready:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS)
    django.setup()

# What imports models comes after the set-up.
from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.test.utils import isolate_apps  # noqa: E402

from fastnk.django.schema.describe import relations_kept_inside, relations_of  # noqa: E402
from fastnk.django.schema.samples import sample_value  # noqa: E402
from fastnk.django.schema.tracing import (  # noqa: E402
    MAX_HOPS,
    SAMPLES,
    TraceError,
    trace_natural_key,
)
from tests.conftest import Project  # noqa: E402
from tests.oracle import natural_key_of  # noqa: E402
from tests.project.traced import models as traced  # noqa: E402

KEYS: dict[str, Any] = {
    "auth.group": ["name"],
    "auth.permission": ["codename", "content_type__app_label", "content_type__model"],
    "auth.user": ["username"],
    "contenttypes.contenttype": ["app_label", "model"],
    "traced.account": ["email"],
    "traced.audittrail": ["uuid|str", "timestamp|isoformat", "day|isoformat", "time|isoformat"],
    "traced.bistro": [
        "restaurant_ptr__place_ptr__name",
        "restaurant_ptr__place_ptr__city",
        "restaurant_ptr__place_ptr__role__name",
        "restaurant_ptr__stars",
        "restaurant_ptr__place_ptr__id",
        "pk",
    ],
    "traced.comment": ["document__document_number", "id|str"],
    "traced.dependency": [
        "document__document_number",
        "depends_on__document_number",
        "dependency_type",
    ],
    "traced.dinner": [
        "place__restaurant_ptr__place_ptr__name",
        "place__pk",
        "writer__email",
    ],
    "traced.document": ["document_number"],
    "traced.document_roles": None,
    "traced.nested": [
        ["role__name"],
        ["document__document_number", ["document__author__username"]],
        "note|str",
    ],
    "traced.place": ["name", "city"],
    "traced.raw": ["id", "document__id", "workflow__pk", "state__slug"],
    "traced.reading": ["document__document_number", "document__author__username", "role__name"],
    "traced.restaurant": [
        "place_ptr__name",
        "place_ptr__city",
        "place_ptr__role__name",
        "stars",
        "place_ptr__id",
        "pk",
    ],
    "traced.role": ["name"],
    "traced.sample": None,
    "traced.state": ["code"],
    "traced.texts": ["text|str", "flag|str", "price|str", "day|str", "address|str", "email|str"],
    "traced.transition": [
        "workflow__document__document_number",
        "workflow__workflow_type",
        "id|str",
    ],
    "traced.version": ["document__document_number", "version_major", "version_minor"],
    "traced.workflow": ["document__document_number", "workflow_type"],
}
if django.VERSION >= (5, 2):
    KEYS["traced.seat"] = ["row", "number"]


@pytest.fixture(scope="module")
def schema() -> Schema:
    return schema_from_apps()


@pytest.mark.parametrize("text", ["auth.user", "auth.User", "auth.USER", "Auth.User", "AUTH.user"])
def test_labels_are_read_as_django_reads_them(text: str) -> None:
    labels = {model._meta.label_lower: model for model in apps.get_models()}
    try:
        found = apps.get_model(text)
    except LookupError:
        found = None
    assert labels.get(plain_label(text)) is found


@pytest.mark.parametrize("label", KEYS)
def test_natural_key(schema: Schema, label: str) -> None:
    assert schema.models[label].natural_key == KEYS[label]


def test_models_are_those_that_dumpdata_writes(schema: Schema) -> None:
    ours = {"auth", "contenttypes", "traced"}
    assert {label for label in schema.models if label.split(".")[0] in ours} == set(KEYS)


def test_models_are_sorted_by_label(schema: Schema) -> None:
    assert list(schema.models) == sorted(schema.models)


def test_survives_being_written(schema: Schema) -> None:
    assert Schema.loads(schema.dumps()) == schema


def test_relations(schema: Schema) -> None:
    assert schema.models["traced.document"].relations == {
        "state": Relation(to="traced.state"),
        "previous_state": Relation(to="traced.state", to_field="slug"),
        "author": Relation(to="auth.user"),
        "supersedes": Relation(to="traced.document"),
        "roles": Relation(to="traced.role", many=True),
        "readers": Relation(to="traced.role", many=True),
    }


def test_relation_as_pk(schema: Schema) -> None:
    workflow = schema.models["traced.workflow"]
    assert (workflow.pk, workflow.relations) == (
        "document",
        {"document": Relation(to="traced.document")},
    )


def test_child_with_a_table_of_its_own(schema: Schema) -> None:
    """It holds the link to its parent; what it inherits is in the parent's record."""
    restaurant = schema.models["traced.restaurant"]
    assert restaurant.pk == "place_ptr"
    assert restaurant.relations == {"place_ptr": Relation(to="traced.place", parent_link=True)}
    assert restaurant.generic_relations == {}


def test_proxies_are_listed_with_their_model(schema: Schema) -> None:
    assert schema.models["traced.account"].proxies == ["traced.writer"]


def test_relation_to_a_proxy_is_one_to_its_model(schema: Schema) -> None:
    assert schema.models["traced.dinner"].relations["writer"] == Relation(to="traced.account")


def test_link_to_a_parent_is_known_by_being_the_pk(schema: Schema) -> None:
    links = {
        f"{label}.{name}"
        for label, model in schema.models.items()
        for name, relation in model.relations.items()
        if relation.parent_link and label.startswith(("traced.", "exact."))
    }
    assert links == {
        "exact.amphibian.boat_ptr",
        "exact.bistro.restaurant_ptr",
        "exact.cart.vehicle_ptr",
        "exact.coach.cart_ptr",
        "exact.lorry.truck_ptr",
        "exact.moon.planet",
        "exact.restaurant.place_ptr",
        "exact.shop.place_ptr",
        "exact.truck.vehicle_ptr",
        "traced.bistro.restaurant_ptr",
        "traced.restaurant.place_ptr",
    }
    assert schema.models["exact.landmark"].relations == {"place": Relation(to="exact.place")}
    assert schema.models["exact.amphibian"].relations["car_ptr"] == Relation(to="exact.car")


@pytest.mark.parametrize(
    ("label", "keeps"),
    [
        ("exact.currency", True),  # a text, and not in the key
        ("exact.device", True),
        ("exact.floor", True),
        ("exact.landmark", True),
        ("exact.lock", True),  # the id of a row that has nothing else
        ("exact.country", False),  # the key is the pk
        ("exact.keyhole", False),
        ("exact.room", False),  # the database numbers it
        ("exact.passport", False),  # the row that it means has a natural key
        ("exact.rank", False),
        ("exact.moon", False),  # the fields hold it
        ("exact.truck", False),
        ("exact.firmware", False),  # no natural key replaces it
    ],
)
def test_pk_that_is_kept(schema: Schema, label: str, keeps: bool) -> None:
    assert schema.models[label].keep_pk is keeps


@pytest.mark.parametrize(
    "relation",
    [
        Relation(to="a.b", parent_link=True, many=True),
        Relation(to="a.b", parent_link=True, to_field="code"),
    ],
)
def test_parent_link_is_the_pk_alone(relation: Relation) -> None:
    with pytest.raises(SchemaError, match=r"models\.a\.c\.relations\.b_ptr\.parent_link"):
        Schema.of({"a.b": Model(), "a.c": Model(pk="b_ptr", relations={"b_ptr": relation})})
    link = Relation(to="a.b", parent_link=True)
    with pytest.raises(SchemaError, match=r'the pk is "id"'):
        Schema.of({"a.b": Model(), "a.c": Model(relations={"b_ptr": link})})


@pytest.mark.skipif(django.VERSION < (5, 2), reason="came with Django 5.2")
def test_composite_pk(schema: Schema) -> None:
    assert schema.models["traced.seat"].pk == "pk"


def test_generic_relation(schema: Schema) -> None:
    assert schema.models["traced.audittrail"].generic_relations == {
        "target": GenericRelation(content_type="content_type", object_id="object_id")
    }


def live_rows() -> list[models.Model]:
    """One row of every traced model, none of them in a database."""
    some_uuid, moment = UUID(int=0xFA57), datetime(2025, 3, 1, 9, 30, 5, 120_000, tzinfo=UTC)
    kind = ContentType(pk=19, app_label="traced", model="role")
    user = User(pk=3, username="Zoë")
    role = traced.Role(pk=4, name="author")
    state = traced.State(code="DRAFT", slug="draft")
    document = traced.Document(
        pk=5, document_number="D-1", uuid=some_uuid, state=state, author=user, cached_by=role
    )
    workflow = traced.Workflow(document=document, workflow_type="APPROVAL")
    inherited = {
        "name": "Chez Léon",
        "city": "Bruxelles",
        "role": role,
        "content_type": kind,
        "object_id": 4,
    }
    child = {**inherited, "id": 7, "place_ptr_id": 7, "stars": 2}
    bistro = traced.Bistro(**child, restaurant_ptr_id=7)
    day, time = moment.date(), moment.time()
    rows = [
        kind,
        user,
        role,
        state,
        document,
        workflow,
        Permission(pk=1, codename="add_role", name="x", content_type=kind),
        Group(pk=2, name="staff"),
        traced.Reading(pk=1, document=document, role=role),
        traced.Version(pk=1, document=document, version_major=2, version_minor=0),
        traced.Dependency(pk=1, document=document, depends_on=document, dependency_type="x"),
        traced.Comment(pk=12, document=document),
        traced.Transition(pk=13, workflow=workflow),
        traced.Raw(pk=14, document=document, workflow=workflow, state=state),
        traced.AuditTrail(pk=15, uuid=some_uuid, timestamp=moment, day=day, time=time),
        traced.Texts(
            pk=16, text="t", flag=True, price=Decimal("9.50"), day=day, address="::1", email="a@b.c"
        ),
        traced.Nested(pk=17, role=role, document=document, note=None),
        traced.Place(id=7, **inherited),
        traced.Restaurant(**child),
        bistro,
        traced.Account(pk=8, email="w@b.c"),
        traced.Dinner(pk=18, place=bistro, writer=traced.Writer(pk=8, email="w@b.c")),
    ]
    if django.VERSION >= (5, 2):
        rows.append(traced.Seat(row="A", number=3))
    return rows


def test_keys_are_what_the_methods_return(schema: Schema) -> None:
    """Evaluated on what Django's serializer writes, as on the live row."""
    rows = live_rows()
    # Many-to-many fields would be read from a database.
    fields = {field.name for row in rows for field in row._meta.local_fields}
    records = json.loads(serializers.serialize("json", rows, fields=fields))
    keys = {record["model"]: natural_key_of(record, records, schema) for record in records}
    live = {
        row._meta.label_lower: json.loads(json.dumps(row.natural_key(), cls=DjangoJSONEncoder))
        for row in rows
    }
    assert keys == live
    assert set(live) == {label for label, key in KEYS.items() if key is not None}


def trace(method: Callable[[Any], Any]) -> Any:
    """The key that `method` would give to `traced.Sample`."""
    with isolate_apps("tests.project.traced"):
        body = {
            "__module__": traced.Sample.__module__,
            "natural_key": method,
            "Meta": type("Meta", (), {"proxy": True}),
        }
        return trace_natural_key(type("Tried", (traced.Sample,), body))


def swallows_a_refusal(sample: Any) -> Any:
    try:
        return (sample.code.upper(),)
    except Exception:
        return (sample.number,)


def climbs(sample: Any) -> Any:
    names = []
    while sample is not None:
        names.append(sample.code)
        sample = sample.parent
    return names


def forever(sample: Any) -> Any:
    return forever(sample)


REFUSED: list[tuple[str, Callable[[Any], Any]]] = [
    # what it returns
    ("returns a dict, not a tuple", lambda s: {"code": s.code}),
    ("returns a generator, not a tuple", lambda s: (part for part in (s.code,))),
    ("returns an empty tuple", lambda s: (s.code, [])),
    ('makes another key where "maybe" is null', lambda s: () if s.maybe is None else (s.maybe,)),
    ("returns the constant 'SAMPLE' as part 2", lambda s: (s.code, "SAMPLE")),
    ("returns the constant 'a' as part 1", lambda s: (s.KINDS[0], s.code)),
    ("returns the constant 7 as part 1, which is not the value of a field", lambda s: (7,)),
    ("returns the constant None as part 2", lambda s: (s.code, None)),
    ("returns an instance of traced.sample as part 2", lambda s: (s.code, s.step_parent)),
    ('"lasts", a DurationField, which may look different in a key', lambda s: (s.lasts,)),
    ('"facts", a JSONField', lambda s: (s.facts,)),
    ('"blob", a BinaryField', lambda s: (s.blob,)),
    ('returns "secret", which Django leaves out of backups', lambda s: (s.secret,)),
    ('returns "secret|str", which Django leaves out of backups', lambda s: (str(s.secret),)),
    ('follows "hidden", which Django leaves out of backups', lambda s: (s.hidden.name,)),
    ('returns "hidden__id", which Django leaves out of backups', lambda s: (s.hidden_id,)),
    # what it does with a value
    ('formats "code"', lambda s: (f"S-{s.code}",)),
    ('formats "code"', lambda s: (f"{s.code}",)),
    ('formats "number"', lambda s: (f"{s.number:04}",)),
    ('formats "code|str"', lambda s: (f"{s.code!s}",)),
    ('formats "code"', lambda s: (f"{s.code!r}",)),
    ('formats "code"', lambda s: ("{}".format(s.code),)),  # noqa: UP032
    ("returns the constant 'S-code|str' as part 1", lambda s: ("S-%s" % s.code,)),  # noqa: UP031
    ('formats "code|str"', lambda s: ("%s|%s" % (s.code, s.number),)),  # noqa: UP031
    ("returns the constant 'code|str code|str'", lambda s: (" ".join([str(s.code)] * 2),)),
    ("raises TypeError: sequence item 0", lambda s: ("-".join([s.code]),)),
    ('calculates with "code"', lambda s: (s.code + "-x",)),
    ('calculates with "code"', lambda s: ("x-" + s.code,)),
    ('calculates with "code|str"', lambda s: (str(s.code) + "-x",)),
    ('calculates with "code|str"', lambda s: ("x-" + str(s.code),)),
    ('calculates with "code|str"', lambda s: ("" + str(s.code),)),
    ('formats "code|str"', lambda s: (str(s.code) % (),)),
    ('calculates with "number"', lambda s: (s.number * 2,)),
    ('calculates with "number"', lambda s: (-s.number,)),
    ('converts "number"', lambda s: (int(s.number),)),
    ('converts "ratio"', lambda s: (round(s.ratio, 1),)),
    ('counts or takes apart "code"', lambda s: (s.code[0],)),
    ('counts or takes apart "code|str"', lambda s: (str(s.code)[:3],)),
    ('counts or takes apart "code"', lambda s: tuple(s.code)),
    ('counts or takes apart "code|str"', lambda s: (s.code, len(str(s.code)))),
    ('tests the truth of "code"', lambda s: (s.code or s.number,)),
    ('tests the truth of "code|str"', lambda s: (str(s.code) or s.number,)),
    ('compares "code"', lambda s: (s.number,) if s.code == "x" else (s.code,)),
    ('compares "code"', lambda s: (s.number,) if "x" != s.code else (s.code,)),  # noqa: SIM300
    ('compares "code|str"', lambda s: (s.number,) if str(s.code) == "x" else (s.code,)),
    ('compares "code|str"', lambda s: (s.number,) if "x" == str(s.code) else (s.code,)),  # noqa: SIM300
    ('compares "code"', lambda s: (s.number,) if s.code in ("x", "y") else (s.code,)),
    ('compares "code"', lambda s: ({"x": s.number}.get(s.code, s.code),)),
    ('compares "number"', lambda s: (s.code,) if s.number > 1 else (s.number,)),
    ('compares "id"', lambda s: tuple(sorted([s.number, s.id]))),
    ('compares "parent__id"', lambda s: (s.code,) if s.parent == s.step_parent else (s.number,)),
    ('takes .upper of "code"', lambda s: (s.code.upper(),)),
    ('takes .upper of "code|str"', lambda s: (str(s.code).upper(),)),
    ('takes .isoformat of "code"', lambda s: (s.code.isoformat(),)),
    ('takes .date of "when"', lambda s: (s.when.date(),)),
    ('takes .isoformat() of "when" with options', lambda s: (s.when.isoformat(sep=" "),)),
    ('asks for the type of "code"', lambda s: (s.code if isinstance(s.code, str) else s.id,)),
    ('asks for the type of "number"', lambda s: (s.get_number_display(),)),
    ('takes str() of "when"', lambda s: (str(s.when),)),
    ('takes str() of "time"', lambda s: (str(s.time),)),
    ('takes str() of "ratio"', lambda s: (str(s.ratio),)),
    ('takes str() of "lasts"', lambda s: (str(s.lasts),)),
    ('takes .upper of "code"', swallows_a_refusal),
    ('takes .strip of "code"', lambda s: (getattr(s.code, "strip", s.number),)),
    # where it is null
    ('makes another key where "maybe" is null', lambda s: (s.id if s.maybe is None else s.maybe,)),
    (
        'makes another key where "step_parent" is null',
        lambda s: s.step_parent.role.natural_key() if s.step_parent else s.role.natural_key(),
    ),
    (
        'makes another key where "step_parent" is null',
        lambda s: (s.code, *((s.step_parent.code,) if s.step_parent else ())),
    ),
    (
        'makes another key where "step_parent" is null',
        lambda s: (s.step_parent.code if s.step_parent_id is not None else f"{s.code}",),
    ),
    # where it goes
    (f"follows more than {MAX_HOPS} relations", climbs),
    ("raises RecursionError", forever),
    ("raises AttributeError", lambda s: (s.nonsense,) if s.maybe is not None else (s.code,)),
    ("raises AttributeError", lambda s: (s.KINDS.nonsense,)),
    ("raises TypeError: 'NoneType' object is not callable", lambda s: s.parent.natural_key()),
    ("raises KeyError", lambda s: (s.code, {}["x"])),
    ('"id"', lambda s: tuple(child.code for child in s.children.all())),
    ('"id"', lambda s: (s.roles.first().name,)),
    ('"content_type__id"', lambda s: (s.target.name,)),
]


@pytest.mark.parametrize(("reason", "method"), REFUSED)
def test_refused(reason: str, method: Callable[[Any], Any]) -> None:
    with pytest.raises(TraceError, match=re.escape(reason)):
        trace(method)


ACCEPTED: list[tuple[list[Any], Callable[[Any], Any]]] = [
    (["code"], lambda s: [s.code]),
    (["code|str"], lambda s: (str(str(s.code)),)),
    (["number", "code"], lambda s: (lambda *parts: parts[::-1])(s.code, s.number)),
    (["when", "time", "ratio"], lambda s: (s.when, s.time, s.ratio)),
    (["when|isoformat"], lambda s: (s.when.isoformat(),)),
    (["maybe", "maybe|str"], lambda s: (s.maybe, str(s.maybe))),
    (["step_parent__code"], lambda s: (s.step_parent and s.step_parent.code,)),
    (["step_parent__id"], lambda s: (s.step_parent_id,)),
    (["step_parent__id", "code"], lambda s: (s.step_parent.pk, s.code)),
    (["parent__parent__role__name"], lambda s: s.parent.parent.role.natural_key()),
    (["code", ["parent__role__name"]], lambda s: (s.code, s.parent.role)),
    (["code"], lambda s: (getattr(s, "code", None),) if isinstance(s, traced.Sample) else ()),
    (["content_type__app_label", "content_type__model"], lambda s: s.content_type.natural_key()),
]


@pytest.mark.parametrize(("key", "method"), ACCEPTED)
def test_accepted(key: list[Any], method: Callable[[Any], Any]) -> None:
    assert trace(method) == key


def test_an_empty_key_says_that_a_model_has_none() -> None:
    """So a subclass takes back the key of its parent."""
    assert trace(lambda sample: ()) is None
    assert trace(lambda sample: [getattr(sample, name) for name in ()]) is None


def test_a_key_that_always_holds_an_instance_without_key_is_none() -> None:
    """No backup could hold it; one that is null in some records may be held."""
    assert trace(lambda sample: (sample.code, [sample.role, sample.parent])) is None


@pytest.mark.parametrize(
    "method",
    [
        lambda sample: sample.code,
        lambda sample: f"{sample.code}.{sample.number}",
        lambda sample: sample.step_parent.code,
        lambda sample: sample.pk,
        lambda sample: "abc",
        lambda sample: None,
    ],
)
def test_a_key_that_is_a_single_value_is_none(method: Callable[[Any], Any]) -> None:
    """Django writes that, and reads it as a pk."""
    assert trace(method) is None


@pytest.mark.parametrize(
    "method",
    [
        lambda sample: sample.code if sample.maybe else (sample.code,),
        lambda sample: sample.code if type(sample).objects.exists() else (sample.code,),
    ],
)
def test_a_key_that_may_be_a_list_is_one(method: Callable[[Any], Any]) -> None:
    with pytest.raises(TraceError):
        trace(method)


def test_a_method_that_fails_for_every_record_is_no_key() -> None:
    """As that of a mixin does where the class lacks the names of the fields."""
    assert trace(lambda sample: [getattr(sample, name) for name in sample.names_of_fields]) is None


class _Tree(models.Model):
    """Abstract: the tests make real models of it, in a registry of their own."""

    name = models.CharField(max_length=20)

    class Meta:
        abstract = True


@isolate_apps("tests.project.traced")
@pytest.mark.parametrize("nullable", [False, True])
def test_key_of_all_ancestors_is_refused(nullable: bool) -> None:
    class Folder(_Tree):
        parent = models.ForeignKey("self", models.CASCADE, null=nullable)

        def natural_key(self) -> Any:
            return (self.name, *(self.parent.natural_key() if self.parent else ()))

        class Meta:
            app_label = "traced"

    with pytest.raises(TraceError, match=f"more than {MAX_HOPS} relations"):
        trace_natural_key(Folder)


class _KeptInside(models.ManyToManyField):  # type: ignore[type-arg]
    """Ids that another field keeps, such as one of JSON: there is no table of them."""

    def contribute_to_class(self, cls: Any, name: str, **options: Any) -> None:
        self.set_attributes_from_name(name)
        cls._meta.add_field(self, private=True)


@isolate_apps("tests.project.traced")
def test_relations_kept_inside_other_fields_are_named_only() -> None:
    class Card(_Tree):
        users = _KeptInside(User)

        class Meta:
            app_label = "traced"

    class Marked(Card):
        owner = _KeptInside(User)

        class Meta:
            app_label = "traced"
            proxy = True

    class Child(Card):
        class Meta:
            app_label = "traced"

    assert relations_of(Card) == {}
    assert [relations_kept_inside(one) for one in (Card, Child)] == [["owner", "users"], []]


@isolate_apps("tests.project.traced")
def test_keys_that_need_each_other_are_refused() -> None:
    class Egg(_Tree):
        hen = models.ForeignKey("Hen", models.CASCADE)

        def natural_key(self) -> Any:
            return (self.name, *self.hen.natural_key())

        class Meta:
            app_label = "traced"

    class Hen(_Tree):
        egg = models.ForeignKey(Egg, models.CASCADE)

        def natural_key(self) -> Any:
            return (self.name, *self.egg.natural_key())

        class Meta:
            app_label = "traced"

    for model in (Egg, Hen):
        with pytest.raises(TraceError, match=r'more than 16 relations \("(hen|egg)__(egg|hen)__'):
            trace_natural_key(model)


LOOKS_THAT_CANNOT_BE_REFUSED: list[Callable[[Any], Any]] = [
    lambda s: (s.code,) if type(s.code) is str else (s.number,),
    lambda s: (s.id,) if type(s.number) is not int else (s.code,),
    lambda s: (s.role.name,) if type(s.parent.when) is datetime else (s.id,),
    lambda s: (s.code, *([s.number] if type(s.number) is int else [])),
    lambda s: (s.code, s.number if type(s.maybe) is str else s.maybe),
]


@pytest.mark.parametrize("method", LOOKS_THAT_CANNOT_BE_REFUSED)
def test_trace_that_the_method_contradicts(method: Callable[[Any], Any]) -> None:
    with pytest.raises(TraceError, match="does not hand on what it was traced to"):
        trace(method)


def fails_on_values(sample: Any) -> Any:
    if type(sample.code) is str:
        raise ValueError("not like this")
    return (sample.code,)


def test_method_that_fails_on_values() -> None:
    with pytest.raises(TraceError, match="raises ValueError for a sample record: not like this"):
        trace(fails_on_values)


def test_sample_values_have_the_types_of_a_database() -> None:
    values = {
        field.name: sample_value(field, field.name, 0)
        for model in (traced.Sample, traced.Texts, traced.AuditTrail)
        for field in model._meta.fields
        if not field.is_relation
    }
    kinds = {name: type(value).__name__ for name, value in values.items()}
    assert kinds == {
        "id": "int",
        "code": "str",
        "maybe": "str",
        "number": "int",
        "ratio": "float",
        "when": "datetime",
        "time": "time",
        "lasts": "NoneType",
        "facts": "NoneType",
        "blob": "NoneType",
        "secret": "str",
        "text": "str",
        "flag": "bool",
        "price": "Decimal",
        "day": "date",
        "address": "str",
        "email": "str",
        "uuid": "UUID",
        "timestamp": "datetime",
        "object_id": "int",
    }
    assert values["timestamp"].tzinfo is UTC


def test_sample_values_of_choices() -> None:
    number = traced.Sample._meta.get_field("number")
    assert {sample_value(number, "number", n) for n in range(SAMPLES)} == {1, 2}


def test_project_that_is_set_up_already() -> None:
    assert schema_from_project(SETTINGS) == schema_from_apps()


def test_other_settings_in_the_same_process() -> None:
    with pytest.raises(UsageError, match='other settings than "elsewhere'):
        schema_from_project("elsewhere.settings")


def test_project_in_the_current_folder(project: Project) -> None:
    project.write(
        """
        INSTALLED_APPS = ["Shop"]
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        """,
        Shop="""
        class Item(models.Model):
            sku = models.CharField(max_length=9)
            def natural_key(self):
                return (self.sku,)
        """,
    )
    assert project.schema() == Schema.of({"Shop.item": Model(natural_key=["sku"])})


def test_settings_that_look_into_themselves_while_they_are_imported(project: Project) -> None:
    project.write(
        """
        from django.conf import settings

        DEBUG = getattr(settings, "TESTING", False)
        INSTALLED_APPS = ["shop"]
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        """,
        shop="""
        class Item(models.Model):
            sku = models.CharField(max_length=9)
        """,
    )
    assert project.schema() == Schema.of({"shop.item": Model()})


def test_swapped_model(project: Project) -> None:
    project.write(
        """
        INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "staff"]
        AUTH_USER_MODEL = "staff.Person"
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        """,
        staff="""
        from django.conf import settings
        from django.contrib.auth.models import AbstractUser

        class Person(AbstractUser):
            pass

        class Badge(models.Model):
            person = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)

            def natural_key(self):
                return self.person.natural_key() + (self.person_id,)
        """,
    )
    schema = project.schema()
    assert "auth.user" not in schema.models
    assert schema.models["staff.badge"] == Model(
        natural_key=["person__username", "person__id"],
        relations={"person": Relation(to="staff.person")},
    )


UNTRACEABLE = {
    "settings": """
        INSTALLED_APPS = ["shop"]
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        """,
    "shop": """
        class Plain(models.Model):
            code = models.CharField(max_length=9)
            def natural_key(self):
                return (self.code,)

        def models_that_nobody_can_import():
            class Formatted(Plain):
                def natural_key(self):
                    return (f"F-{self.code}",)

            class Counting(models.Model):
                code = models.CharField(max_length=9)
                def natural_key(self):
                    return (self.code,) if Plain.objects.exists() else (self.pk,)

        models_that_nobody_can_import()
        """,
}
REASONS = {
    "shop.counting": "queries the database",
    "shop.formatted": 'formats "plain_ptr__code"',
}


def test_every_untraceable_key_is_named(project: Project) -> None:
    project.write(**UNTRACEABLE)
    error = project.error('schema_from_project("settings")')
    assert (error["code"], error["models"]) == ("FNK111", REASONS)
    for label, reason in REASONS.items():
        assert f"{label}: natural_key() {reason}" in error["text"]
    assert "by hand in the schema" in error["remedy"]


def test_untraceable_keys_left_out_on_request(project: Project) -> None:
    project.write(**UNTRACEABLE)
    told, keys = project.run("""
        told = {}
        schema = schema_from_project("settings", told.__setitem__)
        keys = {label: model.natural_key for label, model in schema.models.items()}
        print(json.dumps([told, keys]))
    """)
    assert told == REASONS
    assert keys == {"shop.counting": None, "shop.formatted": None, "shop.plain": ["code"]}


@pytest.mark.parametrize(
    ("settings", "models", "code", "message"),
    [
        (None, "", "FNK101", 'cannot import the settings "settings": ModuleNotFoundError'),
        ("import nonsense", "", "FNK101", "No module named 'nonsense'"),
        ("1 / 0", "", "FNK101", 'cannot import the settings "settings": ZeroDivisionError'),
        ("INSTALLED_APPS = ['nonsense']", "", "FNK101", "does not load: ModuleNotFoundError"),
        ("INSTALLED_APPS = ['shop']", "import nonsense", "FNK101", "No module named 'nonsense'"),
        (
            "INSTALLED_APPS = ['shop']",
            "class A(models.Model): b = models.ForeignKey('x.B', models.CASCADE)",
            "FNK110",
            '"b" of shop.a refers to x.B, which is not installed',
        ),
        (
            "INSTALLED_APPS = ['shop']; SHOP_A = 'shop.B'",
            """
            class A(models.Model):
                class Meta:
                    swappable = "SHOP_A"

            class B(models.Model):
                a = models.ForeignKey(A, models.CASCADE)
            """,
            "FNK110",
            '"a" of shop.b refers to shop.A, which shop.B replaces',
        ),
    ],
)
def test_project_that_does_not_load(
    project: Project, settings: str | None, models: str, code: str, message: str
) -> None:
    project.write(settings or "", shop=models)
    if settings is None:
        (project.folder / "settings.py").unlink()
    error = project.error('schema_from_project("settings")')
    assert error["code"] == code
    assert message in error["what"]
    assert error["remedy"]


def test_what_a_project_prints_is_not_in_the_schema(project: Project) -> None:
    project.write("print('loading')\nINSTALLED_APPS = ['shop']", shop="print('welcome')")
    assert project.schema().models == {}


def test_apps_that_are_not_set_up(project: Project) -> None:
    error = project.error("schema_from_apps()")
    assert (error["code"], error["what"]) == ("FNK101", "Django is not set up")


@pytest.mark.parametrize("call", ["schema_from_apps()", 'schema_from_project("settings")'])
def test_without_django(project: Project, call: str) -> None:
    error = project.error(f"sys.modules['django'] = None; {call}")
    assert error["code"] == "FNK102"
    assert error["remedy"] == 'pip install "fastnk[django]"'


@pytest.mark.parametrize("call", ["schema_from_apps()", 'schema_from_project("settings")'])
def test_a_django_that_is_too_old(project: Project, call: str) -> None:
    error = project.error(f"import django; django.VERSION = (2, 2, 28, 'final', 0); {call}")
    assert error["code"] == "FNK102"
    assert error["what"].endswith("needs Django 3.0 or newer, and this is 2.2.28")
    assert "schema infer" in error["remedy"]


def test_error_tells_one_from_many() -> None:
    error = UntraceableKeyError({"a.b": 'compares "c"'})
    assert str(error).splitlines()[:2] == [
        "FNK111 cannot tell what these natural keys are made of:",
        '    a.b: natural_key() compares "c"',
    ]


def test_a_history_says_whose_pks_it_copies(project: Project) -> None:
    """Packages make such models: the class names the original, and its pk is a number like any."""
    project.write(
        "INSTALLED_APPS = ['shop']",
        shop="""
            class Article(models.Model):
                name = models.TextField()

            class Draft(Article):
                class Meta:
                    proxy = True

            class Base(models.Model):
                original = Draft

                class Meta:
                    abstract = True

            class ArticleThen(Base):
                then = models.AutoField(primary_key=True)
                id = models.IntegerField(db_index=True)
                name = models.TextField()

            class Report(Article):
                year = models.IntegerField()

            class ReportThen(models.Model):
                original = Report
                then = models.AutoField(primary_key=True)
                id = models.IntegerField()
                article_ptr = models.ForeignKey(Article, models.DO_NOTHING, db_constraint=False)

            class Shown(models.Model):
                form_of = Article
                name = models.TextField()
        """,
    )
    embedded = project.run("""
        schema = schema_from_project("settings")
        print(json.dumps({label: [[path, one.to] for path, one in model.embedded.items()]
                          for label, model in schema.models.items()}))
    """)
    assert embedded == {
        "shop.article": [],
        "shop.articlethen": [["id", "shop.article"]],
        "shop.report": [],
        "shop.reportthen": [["id", "shop.article"]],
        "shop.shown": [],
    }


def test_ids_of_which_the_project_does_not_tell_are_named(project: Project) -> None:
    apps = ("contenttypes", "auth", "admin")
    settings = [*(f"django.contrib.{name}" for name in apps), "tags"]
    project.write(
        f"INSTALLED_APPS = {settings}",
        tags="""
            from django.contrib.contenttypes.fields import GenericForeignKey
            from django.contrib.contenttypes.models import ContentType

            class Tag(models.Model):
                content_type = models.ForeignKey(ContentType, models.CASCADE)
                object_id = models.IntegerField()
                target = GenericForeignKey()

            class Note(models.Model):
                kind = models.ForeignKey(ContentType, models.CASCADE)
                target_pk = models.TextField()
                text = models.TextField()
        """,
    )
    named = project.run("""
        schema = schema_from_project("settings")
        print(json.dumps(undeclared_generics(schema)))
    """)
    assert named == [
        ["tags.note", "kind", "target_pk"],
    ]


def test_links_that_backups_leave_out_are_named(project: Project) -> None:
    project.write(
        'INSTALLED_APPS = ["clubs"]',
        clubs="""
            class Active(models.Manager):
                def get_queryset(self):
                    return super().get_queryset().filter(left=None)

            class Broken(models.Manager):
                def get_queryset(self):
                    raise RuntimeError("no request")

            class Member(models.Model):
                left = models.DateField(null=True)
                objects = Active()

            class Guest(models.Model):
                objects = Broken()

            class Club(models.Model):
                members = models.ManyToManyField(Member)
                guests = models.ManyToManyField(Guest)
                clubs = models.ManyToManyField("self")
                held_by = models.ForeignKey(Member, models.CASCADE)
        """,
    )
    named = project.run("""
        schema = schema_from_project("settings")
        print(json.dumps(lossy_fields(schema)))
    """)
    assert named == [["clubs.club", "members", "clubs.member"]]
