"""Projects with several databases: what refers from one into another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Project

SETTINGS = """
    import importlib.util
    if importlib.util.find_spec("pymysql") and not importlib.util.find_spec("MySQLdb"):
        import pymysql
        pymysql.install_as_MySQLdb()
    SECRET_KEY = "x"
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    INSTALLED_APPS = ["django.contrib.contenttypes", "fastnk.django", "people", "papers"]
    MIGRATION_MODULES = {{"contenttypes": None}}
    DATABASE_ROUTERS = ["routers.Router"]
    DATABASES = {databases!r}
"""
ROUTERS = """
class Router:
    def db_for_read(self, model, **hints):
        return {"people": "default", "papers": "archive"}.get(model._meta.app_label)

    db_for_write = db_for_read

    def allow_relation(self, one, other, **hints):
        return True

    def allow_migrate(self, db, app_label, **hints):
        return app_label == "contenttypes" or (app_label == "papers") == (db == "archive")
"""
PEOPLE = """
    class Person(models.Model):
        number = models.CharField(max_length=10, unique=True)

        def natural_key(self):
            return (self.number,)
"""
PAPERS = """
    from django.contrib.contenttypes.fields import GenericForeignKey
    from django.contrib.contenttypes.models import ContentType
    from people.models import Person

    class Paper(models.Model):
        code = models.CharField(max_length=10, unique=True)
        author = models.ForeignKey(Person, models.DO_NOTHING, null=True, db_constraint=False)

        def natural_key(self):
            return (self.code,)

    class Card(models.Model):
        person = models.OneToOneField(Person, models.DO_NOTHING, db_constraint=False)
        papers = models.ManyToManyField(Paper)

        def natural_key(self):
            return self.person.natural_key()

    class Loan(models.Model):
        card = models.ForeignKey(Card, models.CASCADE)
        lent_by = models.ForeignKey(
            Person, models.DO_NOTHING, to_field="number", db_constraint=False
        )

        def natural_key(self):
            return (*self.card.natural_key(), *self.lent_by.natural_key())

    class Stamp(models.Model):
        name = models.CharField(max_length=10)
        owner = models.ForeignKey(Person, models.DO_NOTHING, db_constraint=False)

        def natural_key(self):
            return [self.name + "-" + self.owner.number]

    class Mark(models.Model):
        content_type = models.ForeignKey(ContentType, models.CASCADE)
        object_id = models.PositiveIntegerField()
        about = GenericForeignKey()
"""
START = """
    import os
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    import django, fastnk
    django.setup()
    from django.core.management import call_command
    from people.models import Person
    from papers.models import Card, Loan, Mark, Paper, Stamp
    for alias in ("default", "archive"):
        call_command("migrate", run_syncdb=True, database=alias, verbosity=0)
"""
RESTORE = """
    Person.objects.create(number="stranger")
    for number in ("c", "b", "a"):
        Person.objects.create(number=number)
    Paper.objects.create(code="other")
    backup = {backup!r}
    options = dict(keys=[{keys!r}], policies=fastnk.Policies(on_duplicate_pk="keep"))
    if {is_converted}:
        converter = fastnk.LegacyBackupConverter(schema_from_apps(), **options)
        backup, options = converter.convert_bytes(backup), dict()
    reports = [
        fastnk.restore(backup, database="archive", verify=True, **options) for _ in range(2)
    ]
    print(json.dumps({{
        "done": [[one.created, one.updated] for one in reports],
        "papers": [[one.code, one.author and one.author.number] for one in Paper.objects.all()],
        "cards": [
            [one.person.number, [paper.code for paper in one.papers.all()]]
            for one in Card.objects.order_by("pk")
        ],
        "loans": [[one.card.person.number, one.lent_by.number] for one in Loan.objects.all()],
        "stamps": [[one.name, one.owner.number] for one in Stamp.objects.all()],
        "marks": [
            one.content_type.model_class().objects.get(pk=one.object_id).natural_key()
            for one in Mark.objects.order_by("pk")
        ],
    }}))
"""
REFUSED = """
    told = []
    for backup in {backups!r}:
        try:
            fastnk.restore(backup, database="archive")
        except fastnk.FindingsError as error:
            told.append([one.what for one in error.findings])
    print(json.dumps([told, Person.objects.count(), Paper.objects.count()]))
"""


SHARED_ROUTERS = """
class Router:
    keeps_out = set()

    def allow_migrate(self, db, app_label, **hints):
        return app_label not in self.keeps_out
"""
SHARED = """
    import os
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    import django, fastnk
    django.setup()
    from django.core.management import call_command
    from django.db import connection
    from people.models import Person
    from papers.models import Paper
    from routers import Router
    call_command("migrate", run_syncdb=True, verbosity=0)
    Router.keeps_out.add("people")
    Person.objects.create(number="a")
    told = []
    def restore(*records):
        try:
            told.append(fastnk.restore(json.dumps(records).encode(), verify=True).created)
        except fastnk.FindingsError as error:
            told.append([one.what for one in error.findings])
    paper = dict(model="papers.paper", fields=dict(code="p1", author=["a"]))
    restore(paper)
    told.append(Paper.objects.get().author.number)
    restore(dict(model="people.person", fields=dict(number="b")))
    with connection.schema_editor() as editor:
        editor.delete_model(Person)
    restore(paper)
    print(json.dumps(told))
"""


def record(label: str, pk: int, **fields: Any) -> dict[str, Any]:
    return {"model": label, "pk": pk, "fields": fields}


PEOPLE_IN_BACKUP = [
    record("contenttypes.contenttype", 1, app_label="people", model="person"),
    record("people.person", 1, number="a"),
    record("people.person", 2, number="b"),
]
"""In their own database content types have other ids than beside the papers."""
LEGACY = [
    record("contenttypes.contenttype", 1, app_label="papers", model="paper"),
    record("contenttypes.contenttype", 2, app_label="people", model="person"),
    record("papers.paper", 1, code="p1", author=2),
    record("papers.paper", 2, code="p2", author=None),
    record("papers.card", 1, person=1, papers=[2, 1]),
    record("papers.card", 2, person=2, papers=[]),
    record("papers.loan", 1, card=2, lent_by="a"),
    record("papers.stamp", 1, name="red", owner=2),
    record("papers.mark", 1, content_type=1, object_id=2),
    record("papers.mark", 2, content_type=2, object_id=2),
]


@pytest.fixture
def several(project: Project, engine: str, request: pytest.FixtureRequest) -> Project:
    """The project, with two empty databases of one engine."""
    databases = {
        alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{alias}.sqlite3"}
        if engine == "sqlite"
        else request.getfixturevalue(engine).make(f"several_{alias}")
        for alias in ("default", "archive")
    }
    project.write(SETTINGS.format(databases=databases), people=PEOPLE, papers=PAPERS)
    (project.folder / "routers.py").write_text(ROUTERS)
    return project


@pytest.mark.parametrize("is_converted", [False, True])
def test_references_lead_into_another_database(several: Project, is_converted: bool) -> None:
    """By pk, by another column, within natural keys, among them those that a method makes, and by
    generic relations; by ids that are other ones today."""
    backup, keys = (json.dumps(records).encode() for records in (LEGACY, PEOPLE_IN_BACKUP))
    done = several.run(START + RESTORE.format(backup=backup, keys=keys, is_converted=is_converted))
    assert done == {
        "done": [[8, 0], [0, 0]],
        "papers": [["other", None], ["p1", "b"], ["p2", None]],
        "cards": [["a", ["p1", "p2"]], ["b", []]],
        "loans": [["b", "a"]],
        "stamps": [["red", "b"]],
        "marks": [["p2"], ["b"]],
    }


def test_rows_of_another_database_are_not_restored(several: Project) -> None:
    """What is not there is a finding, and what is there stays as it is."""
    records = [
        {"model": "people.person", "fields": {"number": "a"}},
        {"model": "papers.paper", "fields": {"code": "p1", "author": ["b"]}},
    ]
    backups = [json.dumps([one]).encode() for one in records]
    told, people, papers = several.run(START + REFUSED.format(backups=backups))
    assert told == [
        ['no model "people.person" to restore into: it has no table in database "archive"'],
        ["no such row of people.person in the backup or the database"],
    ]
    assert (people, papers) == (0, 0)


def test_rows_that_the_database_only_shares_are_referred_to(several: Project) -> None:
    """As those of a schema that several others see: none of them is restored."""
    (several.folder / "routers.py").write_text(SHARED_ROUTERS)
    created, author, restored, without_table = several.run(SHARED)
    assert (created, author) == (1, "a")
    what = 'the routers of the project keep its rows out of database "default"'
    assert restored == [f'no model "people.person" to restore into: {what}']
    assert without_table == ['it has no table in database "default"']
