"""The order for `loaddata`: held beside a checker of plain lists, and loaded by Django."""

from __future__ import annotations

import io
import itertools
import json
import random
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.core.management import call_command
from hypothesis import given
from hypothesis import strategies as st

from fastnk.convert import LegacyBackupConverter, Policies
from fastnk.django.schema.introspect import schema_from_apps
from fastnk.errors import BackupSyntaxError, OutputError, UsageError
from fastnk.order import Arrangement, arrange, room
from fastnk.output import MemorySink
from fastnk.schema import Schema
from fastnk.source import Source
from tests import databases, zoo
from tests.conftest import Project
from tests.project.exact import rows as exact
from tests.strategies import BLOCK_SIZES, KEEP, STYLES, BackupData, Spelling, backups, spellings

Record = dict[str, Any]
Name = tuple[str, str, str]

AS_IT_IS = Policies(**KEEP)


def arranged(backup: bytes, schema: Schema, block_size: int = 64) -> tuple[bytes, Arrangement]:
    sink = MemorySink()
    with Source(backup, block_size) as source:
        arrangement = arrange(source, sink, schema)
    return sink.value(), arrangement


def schema_of(**models: Any) -> Schema:
    """A schema of models of one app, which all have the key `name` if they have no other."""
    return Schema.loads(
        json.dumps(
            {
                "version": 1,
                "models": {
                    f"app.{name}": {"natural_key": ["name"]} | model
                    for name, model in models.items()
                },
            }
        )
    )


# ---- a checker of plain lists -----------------------------------------------------------------


def split(backup: bytes) -> list[str]:
    """The records of a backup as they stand there."""
    text = backup.decode()
    decoder = json.JSONDecoder()
    records, at = [], text.find("{")
    while at >= 0:
        _, end = decoder.raw_decode(text, at)
        records.append(text[at:end])
        at = text.find("{", end)
    return records


class Reference(NamedTuple):
    record: int
    """The number of the record in the backup as it was."""
    target: int
    field: str


class Checker:
    """Which record refers to which: names that records go by in a dict, nothing else.

    `told` are the same records in style `fastnk`, which tells all natural keys.
    """

    def __init__(self, records: list[str], told: list[str], schema: Schema) -> None:
        self.records = records
        self.schema = schema
        self.models = [json.loads(one)["model"] for one in records]
        self.holders: dict[Name, list[int]] = {}
        self.same: dict[Name, list[int]] = {}
        parsed = [json.loads(one) for one in records]
        for number, (record, twin) in enumerate(zip(parsed, map(json.loads, told), strict=True)):
            if record["model"] in schema.models:
                self._enter(number, record, twin.get("natural_key"))
        self.references = [
            reference
            for number, record in enumerate(parsed)
            if record["model"] in schema.models
            for reference in self._references_of(number, record)
        ]

    def _enter(self, number: int, record: Record, natural_key: Any) -> None:
        label = record["model"]
        pk_field = self.schema.models[label].pk
        found_by = []
        if natural_key is not None:
            found_by.append(name_of(label, "", natural_key))
        if record.get("pk") is not None:
            found_by.append(name_of(label, pk_field, record["pk"]))
        fields = {
            name_of(label, field, value)
            for field, value in record["fields"].items()
            if value is not None
        }
        for name in {*found_by, *fields}:
            self.holders.setdefault(name, []).append(number)
        if found_by:
            self.same.setdefault(found_by[-1], []).append(number)

    def _references_of(self, number: int, record: Record) -> Iterator[Reference]:
        model = self.schema.models[record["model"]]
        for field, relation in model.relations.items():
            held = record["fields"].get(field)
            if field == model.pk and field not in record["fields"]:
                held = record.get("references", {}).get(field, record.get("pk"))
            several = relation.many and isinstance(held, list)
            to_field = self.schema.field_name(relation.to, relation.to_field or "pk")
            for one in held if several else [held]:
                by = "" if isinstance(one, list) else to_field
                found = self.holders.get(name_of(relation.to, by, one))
                if one is not None and found:
                    yield Reference(number, found[0], f"{record['model']}.{field}")

    def forward(self, arranged: bytes) -> list[Reference]:
        """The references that point forward; also checks that no record is lost or changed."""
        numbers: dict[str, list[int]] = {}
        for number, one in enumerate(self.records):
            numbers.setdefault(one, []).append(number)
        output = split(arranged)
        assert Counter(output) == Counter(self.records)
        place = {numbers[one].pop(0): place for place, one in enumerate(output)}
        for same in self.same.values():
            assert sorted(same, key=place.__getitem__) == same
        unknown = [n for n, label in enumerate(self.models) if label not in self.schema.models]
        assert [place[n] for n in unknown] == list(range(len(place)))[len(place) - len(unknown) :]
        return [one for one in self.references if place[one.target] >= place[one.record]]

    def is_in_a_cycle(self, reference: Reference) -> bool:
        """Whether the target depends on the record in turn: then no order is right for both."""
        after: dict[int, set[int]] = {}
        for one in self.references:
            after.setdefault(one.record, set()).add(one.target)
        for same in self.same.values():
            for earlier, later in itertools.pairwise(same):
                after.setdefault(later, set()).add(earlier)
        reached, new = set(), {reference.target}
        while new:
            reached |= new
            new = {target for one in new for target in after.get(one, ())} - reached
        return reference.record in reached


def name_of(label: str, field: str, value: Any) -> Name:
    return label, field, json.dumps(as_text(value))


def as_text(value: Any) -> Any:
    """Numbers as texts: an id may be spelled as either."""
    if isinstance(value, list):
        return [as_text(one) for one in value]
    return str(value) if type(value) in (int, float) else value


def check(backup: bytes, told: bytes, schema: Schema, block_size: int = 64) -> Arrangement:
    """Arrange a backup and check all that is promised."""
    output, arrangement = arranged(backup, schema, block_size)
    checker = Checker(split(backup), split(told), schema)
    forward = checker.forward(output)
    assert all(map(checker.is_in_a_cycle, forward))
    assert arrangement.records == len(checker.records)
    assert arrangement.forward_references == len(forward)
    assert arrangement.forward_fields == Counter(one.field for one in forward)
    if not forward:
        assert arranged(output, schema)[0] == output
    return arrangement


@given(backups(), spellings(), st.sampled_from(STYLES), st.sampled_from(BLOCK_SIZES))
def test_any_backup(data: BackupData, spelling: Spelling, style: Any, block_size: int) -> None:
    backup = spelling.write(data.records)
    options = {"policies": AS_IT_IS, "keys": [spelling.write(data.keys)] if data.keys else []}
    converted, told = (
        LegacyBackupConverter(data.schema, style=one, **options).convert_bytes(backup)
        for one in (style, "fastnk")
    )
    try:
        check(converted, told, data.schema, block_size)
    except UsageError:
        records = map(json.loads, split(converted))
        assert any({"pk", "natural_key"}.isdisjoint(record) for record in records)


# ---- the zoo ----------------------------------------------------------------------------------


class Zoo(NamedTuple):
    """A converted backup, and the same in style `fastnk`."""

    records: list[str]
    told: list[str]
    schema: Schema

    def shuffled(self, seed: int) -> tuple[bytes, bytes]:
        numbers = list(range(len(self.records)))
        random.Random(seed).shuffle(numbers)
        return as_array([self.records[n] for n in numbers]), as_array(
            [self.told[n] for n in numbers]
        )


def as_array(records: list[str]) -> bytes:
    return ("[" + ", ".join(records) + "]").encode()


def zoo_of(backup: str, schema: Schema, style: str) -> Zoo:
    """Generic relations that lead to no key stay ids."""
    policies = Policies(on_null_key="null", on_generic="keep")
    records, told = (
        split(
            LegacyBackupConverter(schema, style=one, policies=policies).convert_bytes(
                backup.encode()
            )
        )
        for one in (style, "fastnk")
    )
    return Zoo(records, told, schema)


@pytest.fixture(scope="module")
def old(sqlite: databases.SQLite) -> str:
    """The alias of a database with rows of both zoos."""
    sqlite.renew("sqlite_old")
    zoo.fill("sqlite_old")
    exact.fill("sqlite_old")
    return "sqlite_old"


@pytest.fixture(scope="module", params=STYLES)
def zoo_in_style(request: pytest.FixtureRequest, old: str) -> Zoo:
    return zoo_of(json.dumps(zoo.legacy(old)), zoo.SCHEMA, request.param)


@pytest.mark.parametrize("seed", range(10))
def test_zoo(zoo_in_style: Zoo, seed: int) -> None:
    fields = check(*zoo_in_style.shuffled(seed), zoo.SCHEMA).forward_fields
    assert fields["zoo.keeper.mentor"] == 1


@pytest.fixture(scope="module", params=STYLES)
def every_kind(request: pytest.FixtureRequest, old: str) -> Zoo:
    out = io.StringIO()
    apps = ("contenttypes", "auth", "exact", "zoo")
    call_command("dumpdata", *apps, use_base_manager=True, database=old, stdout=out)
    return zoo_of(out.getvalue(), schema_from_apps(), request.param)


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_model(every_kind: Zoo, seed: int) -> None:
    check(*every_kind.shuffled(seed), every_kind.schema)


# ---- loaded by Django -------------------------------------------------------------------------

FIRM = """
class Manager(models.Manager):
    def get_by_natural_key(self, *key):
        return self.get(**dict(zip(self.model.KEY, key)))

class Named(models.Model):
    KEY = ["name"]
    name = models.CharField(max_length=40)
    objects = Manager()

    class Meta:
        abstract = True

    def natural_key(self):
        return (self.name,)

class Node(Named):
    parent = models.ForeignKey("self", models.CASCADE, null=True)

class Folder(Named):
    KEY = ["name", "parent__name"]
    parent = models.ForeignKey("self", models.CASCADE, null=True)

    def natural_key(self):
        return (self.name, self.parent.name if self.parent else None)

class Task(models.Model):
    after = models.ForeignKey("self", models.CASCADE, null=True)
    node = models.ForeignKey(Node, models.CASCADE)

class Person(Named):
    code = models.CharField(max_length=40, unique=True)
    follows = models.ManyToManyField("self", symmetrical=False)
    boss = models.ForeignKey("self", models.CASCADE, null=True, to_field="code")

class Employee(Named):
    department = models.ForeignKey("Department", models.CASCADE)

class Department(Named):
    head = models.ForeignKey(Employee, models.CASCADE, null=True)

class Player(Named):
    KEY = ["name", "team__name"]
    team = models.ForeignKey("Team", models.CASCADE)

    def natural_key(self):
        return (self.name, *self.team.natural_key())

class Team(Named):
    captain = models.ForeignKey(Player, models.CASCADE, null=True)
"""

LOADING = """
import io
import json
import random
import tempfile
from pathlib import Path
from django.core import serializers
from django.core.management import call_command
from django.db import transaction
from fastnk import LegacyBackupConverter
from fastnk.convert import Policies
from fastnk.django.schema.introspect import schema_from_project
from fastnk.order import arrange
from fastnk.output import MemorySink
from fastnk.source import Source

schema = schema_from_project("settings")
call_command("migrate", run_syncdb=True, verbosity=0)

def dumped(**options):
    out = io.StringIO()
    call_command("dumpdata", "firm", stdout=out, **options)
    return out.getvalue()

def contents():
    records = json.loads(dumped(use_natural_foreign_keys=True, use_natural_primary_keys=True))
    for record in records:
        record["fields"].get("follows", []).sort()
    return sorted(map(json.dumps, records))

def shuffled(backup, seed):
    records = json.loads(backup)
    random.Random(seed).shuffle(records)
    return json.dumps(records).encode()

def load_without_looking_back(backup):
    with transaction.atomic():
        for one in serializers.deserialize("json", backup, handle_forward_references=False):
            one.save()

def loaddata(backup):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "backup.json")
        path.write_bytes(backup)
        call_command("loaddata", path, verbosity=0)

def arranged(backup):
    sink = MemorySink()
    with Source(backup) as source:
        arrangement = arrange(source, sink, schema)
    return sink.value(), arrangement.forward_fields

def outcome(load, backup, expected):
    call_command("flush", interactive=False, verbosity=0)
    try:
        load(backup)
    except Exception as error:
        return type(error).__name__
    return contents() == expected

def converted(style):
    converter = LegacyBackupConverter(schema, style=style, policies=Policies(on_null_key="null"))
    return converter.convert_bytes(dumped().encode())

def outcomes(load, backup):
    # Of eight shuffled backups: loaded as they are, loaded as arranged, what points forward.
    expected = contents()
    for seed in range(8):
        before = shuffled(backup, seed)
        after, forward = arranged(before)
        yield outcome(load, before, expected), outcome(load, after, expected), forward
"""


@pytest.fixture
def firm(project: Project) -> Project:
    project.write(
        """
        INSTALLED_APPS = ["firm"]
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        """,
        firm=FIRM,
    )
    (project.folder / "loading.py").write_text(LOADING)
    return project


@pytest.mark.parametrize("style", STYLES)
def test_django_loads_what_has_an_order_without_looking_back(firm: Project, style: str) -> None:
    firm_grows = """
        from loading import *
        from firm.models import *

        draw = random.Random(7)
        nodes, folders, tasks, people = [], [], [], []

        def one_of(rows):
            return draw.choice([None, *rows])

        for number in range(30):
            nodes.append(Node.objects.create(name=f"n{number}", parent=one_of(nodes)))
            folders.append(Folder.objects.create(name=f"f{number}", parent=one_of(folders)))
            tasks.append(Task.objects.create(after=one_of(tasks), node=draw.choice(nodes)))
            person = Person(name=f"p{number}", code=f"c{number}", boss=one_of(people))
            person.save()
            person.follows.set(draw.sample(people, min(number, 3)))
            people.append(person)
    """
    load = f'print(json.dumps([*outcomes(load_without_looking_back, converted("{style}"))]))'
    outcomes = firm.run(textwrap.dedent(firm_grows) + load)
    assert outcomes == [["DeserializationError", True, {}]] * 8


@pytest.mark.parametrize("style", STYLES)
def test_loaddata_loads_cycles_that_can_be_loaded(firm: Project, style: str) -> None:
    """What may be null or is many-to-many points forward, not what keys and NOT NULL need."""
    firm_turns = """
        from loading import *
        from firm.models import *

        for number in range(9):
            department = Department.objects.create(name=f"d{number}")
            employee = Employee.objects.create(name=f"e{number}", department=department)
            team = Team.objects.create(name=f"t{number}")
            player = Player.objects.create(name=f"p{number}", team=team)
            if number:
                Department.objects.filter(pk=department.pk).update(head=employee)
                Team.objects.filter(pk=team.pk).update(captain=player)
        people = [Person.objects.create(name=f"p{n}", code=f"c{n}") for n in range(9)]
        for number, person in enumerate(people):
            person.follows.set([people[number - 1]])
        Person.objects.exclude(code="c3").update(boss=people[3])
    """
    load = f'print(json.dumps([*outcomes(loaddata, converted("{style}"))]))'
    for before, after, forward in firm.run(textwrap.dedent(firm_turns) + load):
        assert before in ("IntegrityError", "DeserializationError")
        assert after is True
        assert forward["firm.department.head"] == forward["firm.team.captain"] == 8
        assert forward.keys() == {
            "firm.department.head",
            "firm.team.captain",
            "firm.person.follows",
        }


# ---- single records ---------------------------------------------------------------------------


def record(model: str, name: str, pk: int | None = None, **fields: Any) -> Record:
    """One in style `django`; with a pk instead of a key where there is one."""
    identity = {} if pk is None else {"pk": pk}
    return {"model": f"app.{model}", **identity, "fields": {"name": name, **fields}}


def names(records: list[Record], schema: Schema) -> list[str]:
    """The names of the records, arranged."""
    output, _ = arranged(json.dumps(records).encode(), schema)
    return [json.loads(one)["fields"]["name"] for one in split(output)]


TREE = schema_of(node={"relations": {"parent": {"to": "app.node"}}})
NODES = [record("node", "leaf", parent=["root"]), record("node", "root", parent=None)]


@pytest.mark.parametrize("last_parent", [None, "0", "2500"])
@pytest.mark.parametrize("depth", [5_000])
def test_tree_from_its_leaves(depth: int, last_parent: str | None) -> None:
    """Each stands before its parent; with a last parent they end in a cycle."""
    parents = [*map(str, range(1, depth)), last_parent]
    records = [
        record("node", str(number), parent=None if parent is None else [parent])
        for number, parent in enumerate(parents)
    ]
    output, arrangement = arranged(json.dumps(records).encode(), TREE, 1 << 16)
    forward = 0 if last_parent is None else 1
    assert arrangement == Arrangement(
        depth, forward, {"app.node.parent": forward} if forward else {}
    )
    place = {json.loads(one)["fields"]["name"]: place for place, one in enumerate(split(output))}
    assert sum(place[p] > place[str(n)] for n, p in enumerate(parents) if p) == forward


def test_models_in_capitals_are_read_as_django_reads_them() -> None:
    records = [record("Node", "leaf", parent=["stem"]), record("node", "stem", parent=["root"])]
    assert names([*records, record("NODE", "root")], TREE) == ["root", "stem", "leaf"]


def test_record_that_refers_to_itself_cannot_stand_behind_itself() -> None:
    backup = json.dumps([record("node", "root", parent=["root"])]).encode()
    assert arranged(backup, TREE) == (backup, Arrangement(1, 1, {"app.node.parent": 1}))


def test_models_follow_what_they_refer_to_and_keep_their_order_otherwise() -> None:
    schema = schema_of(
        d={"relations": {"c": {"to": "app.c"}, "a": {"to": "app.a"}}}, c={}, b={}, a={}
    )
    records = [record("b", "b1"), record("d", "d1", c=["c1"]), record("a", "a1")]
    records += [record("c", "c1"), {"model": "no.model", "fields": {"name": "x"}}]
    records += [record("b", "b2"), record("a", "a2")]
    assert names(records, schema) == ["b1", "b2", "a1", "a2", "c1", "d1", "x"]


@pytest.mark.parametrize(
    ("relation", "target", "reference"),
    [
        ({}, {"pk": 5}, 5),
        ({}, {"pk": 5}, "5"),
        ({"to_field": "code"}, {"pk": 5, "code": "C"}, "C"),
        ({"to_field": "code"}, {"code": "C"}, ["B"]),
        ({"many": True}, {"pk": 5}, ["no", 5]),
        ({"many": True}, {}, [["B"], ["no"]]),
        ({"natural_key": [["name"], "code|str"]}, {"pk": 5, "code": 1}, [["B"], "1"]),
    ],
)
def test_what_a_record_is_found_by(relation: Any, target: Any, reference: Any) -> None:
    schema = schema_of(node={"relations": {"next": {"to": "app.node", **relation}}})
    records = [record("node", "A", next=reference), record("node", "B", **target)]
    assert names(records, schema) == ["B", "A"]


@pytest.mark.parametrize(
    ("key", "fields", "reference"),
    [
        (
            ["at|isoformat"],
            {"at": "2024-01-01T00:00:00.120Z"},
            ["2024-01-01T00:00:00.120000+00:00"],
        ),
        (["at|isoformat"], {"at": "2024-01-01T00:00:00Z"}, ["2024-01-01T00:00:00+00:00"]),
        (["flag|str", "name"], {"flag": True}, ["True", "B"]),
        (["owner__name", ["name"]], {"owner": [["x"], "ann"]}, ["ann", ["B"]]),
        (["owner__city__name"], {"owner": [["rome"], "ann"]}, ["rome"]),
        (["owner__name", "name"], {"owner": None}, [None, "B"]),
        (["tag__id", "tag__pk|str"], {"tag": 7}, [7, "7"]),
    ],
)
def test_natural_key_that_fields_tell(key: Any, fields: Any, reference: Any) -> None:
    schema = schema_of(
        node={
            "natural_key": key,
            "relations": {
                "next": {"to": "app.node"},
                "owner": {"to": "app.user"},
                "tag": {"to": "app.tag"},
            },
        },
        user={
            "natural_key": [["city__name"], "name"],
            "relations": {"city": {"to": "app.city"}},
        },
        city={},
        tag={"natural_key": None},
    )
    records = [record("node", "A", next=reference), record("node", "B", **fields)]
    assert names(records, schema) == ["B", "A"]


@pytest.mark.parametrize("model", [{"natural_key": None, "natural_key_method": "a.B.c"}, {}])
def test_natural_key_that_the_record_does_not_tell(model: Any) -> None:
    relations = {"next": {"to": "app.node"}, "owner": {"to": "app.owner"}}
    untold = {"natural_key": ["owner__street"], "relations": relations} | model
    schema = schema_of(node=untold, owner={})
    alone = [record("node", "A", next=None, owner=["ann"])]
    assert names(alone, schema) == ["A"]
    with pytest.raises(UsageError, match=r"app\.node (?s:.*)--style fastnk"):
        names([*alone, record("node", "B", next=["A"])], schema)
    told = [{**one, "natural_key": [one["fields"]["name"]]} for one in alone]
    assert names([{**record("node", "B", next=["A"]), "natural_key": ["B"]}, *told], schema) == [
        "A",
        "B",
    ]


def test_pk_that_is_a_relation() -> None:
    """As style `fastnk` writes it where the target has a natural key."""
    schema = schema_of(
        part={
            "natural_key": None,
            "pk": "whole",
            "relations": {"whole": {"to": "app.whole"}, "next": {"to": "app.part"}},
        },
        whole={"relations": {"first": {"to": "app.part"}}},
    )
    part = {"model": "app.part", "pk": 1, "references": {"whole": ["W"]}, "fields": {"name": "P"}}
    whole = {**record("whole", "W", first=None), "natural_key": ["W"]}
    assert names([part, whole], schema) == ["W", "P"]
    assert names([{**part, "references": {}}, {**whole, "pk": 1}], schema) == ["W", "P"]


def test_the_later_of_two_records_with_one_pk_stays_the_later() -> None:
    """It overwrites the earlier one, and may be asked for first."""
    records = [
        record("node", "C", parent=["B"]),
        record("node", "A", pk=1, parent=None),
        record("node", "B", pk=1, parent=None),
    ]
    assert names(records, TREE) == ["A", "B", "C"]


def test_the_earlier_of_two_records_with_one_pk_is_enough() -> None:
    records = [
        record("node", "B", parent=1),
        record("node", "A", pk=1, parent=None),
        record("node", "C", pk=1, parent=["B"]),
    ]
    assert names(records, TREE) == ["A", "B", "C"]


def test_weakest_reference_of_a_cycle_points_forward() -> None:
    schema = schema_of(
        a={
            "natural_key": ["name", "key__name"],
            "relations": {
                "key": {"to": "app.a"},
                "null": {"to": "app.a"},
                "set": {"to": "app.a"},
                "many": {"to": "app.a", "many": True},
            },
        }
    )
    fields = ["key", "set", "null", "many"]
    for strong, weak in itertools.combinations(fields, 2):
        records = []
        for name, other, field in (("x", "y", strong), ("y", "x", weak)):
            held = {"key": None, "null": None, "set": ["no", None], "many": []}
            held[field] = [[other, None]] if field == "many" else [other, None]
            records.append({**record("a", name, **held), "natural_key": [name, None]})
        for given_order in (records, records[::-1]):
            assert names(given_order, schema) == ["y", "x"]


# ---- shapes -----------------------------------------------------------------------------------

FIRST, SECOND = (json.dumps(one) for one in reversed(NODES))


@pytest.mark.parametrize("block_size", [1, 7, 1 << 18])
@pytest.mark.parametrize(
    ("before", "between", "behind"),
    [
        ("[", ", ", "]"),
        ("[\n", ",\n", "\n]\n"),
        (" [\r\n\t", "\r\n,\t", " ] "),
        ("", "\n", "\n"),
        ("", "\n", ""),
        ("\n", "\r\n\n", "\n\n"),
    ],
)
def test_shape_stays(before: str, between: str, behind: str, block_size: int) -> None:
    backup = before + between.join([SECOND, FIRST]) + behind
    output, _ = arranged(backup.encode(), TREE, block_size)
    assert output.decode() == before + between.join([FIRST, SECOND]) + behind


@pytest.mark.parametrize("between", ["", " "])
def test_records_on_one_line_get_lines(between: str) -> None:
    output, _ = arranged((SECOND + between + FIRST).encode(), TREE)
    assert output.decode() == FIRST + "\n" + SECOND


def test_separators_that_differ_become_the_first_of_them() -> None:
    third = json.dumps(record("node", "third", parent=None))
    output, _ = arranged(f"[{SECOND} ,\n{FIRST},{third}]".encode(), TREE)
    assert output.decode() == f"[{FIRST} ,\n{SECOND} ,\n{third}]"


@pytest.mark.parametrize("block_size", [64, 1 << 17])
@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("[~{0}, {1}\n]", "[{1}, {0}\n]"),
        ("[\n{0},~{1}]~", "[\n{1},{0}]"),
        ("{0}\n~{1}\n", "{1}\n{0}\n"),
    ],
)
def test_white_space_is_taken_where_it_is_much(text: str, becomes: str, block_size: int) -> None:
    """Behind each of many records it would fill the disk."""
    backup = text.format(SECOND, FIRST).replace("~", " " * 300_000)
    output, _ = arranged(backup.encode(), TREE, block_size)
    assert output.decode() == becomes.format(SECOND, FIRST)


@pytest.mark.parametrize(
    "backup", [f"[{FIRST}]", FIRST, f"{FIRST}\n", '[{"model": "x.y", "fields": {}}]']
)
def test_single_record_stays(backup: str) -> None:
    assert arranged(backup.encode(), TREE) == (backup.encode(), Arrangement(1, 0))


@pytest.mark.parametrize("backup", ["[]", " [\n]\n", "", "\n"])
def test_no_records_stay(backup: str) -> None:
    """What is left where a policy has left all out."""
    assert arranged(backup.encode(), TREE) == (backup.encode(), Arrangement(0, 0))


@pytest.mark.parametrize(
    "odd", ["NaN", "-Infinity", '"\\ud800"', "[" * 1000 + "]" * 1000, "9" * 5000]
)
def test_what_only_python_writes(odd: str) -> None:
    leaf = SECOND.replace('"fields": {', '"fields": {"odd": ' + odd + ", ")
    root = FIRST.replace('"fields": {', '"fields": {"odd": ' + odd + ", ")
    output, _ = arranged(f"[{leaf}, {root}]".encode(), TREE)
    assert output.decode() == f"[{root}, {leaf}]"


def test_reference_that_is_no_key_but_deep() -> None:
    odd = FIRST.replace('"parent": null', f'"parent": {"[" * 1000}{"]" * 1000}')
    assert odd != FIRST
    assert arranged(f"[{SECOND}, {odd}]".encode(), TREE)[0] == f"[{odd}, {SECOND}]".encode()


def test_damage_is_told() -> None:
    with pytest.raises(BackupSyntaxError, match="FNK205"):
        arranged(f"[{FIRST}, {SECOND}".encode(), TREE)


# ---- room -------------------------------------------------------------------------------------


def many_trees() -> bytes:
    numbers = list(range(2_000))
    random.Random(3).shuffle(numbers)
    records = [record("node", str(n), parent=[str(n // 2)] if n else None) for n in numbers]
    return json.dumps(records).encode()


def test_temporary_files_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = arranged(many_trees(), TREE)
    monkeypatch.setattr(room, "IN_MEMORY", 100)
    assert arranged(many_trees(), TREE) == in_memory


def test_no_room_for_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "IN_MEMORY", 100)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutputError, match="TMPDIR"):
        arranged(many_trees(), TREE)
