"""Ids of the model to which a relation led once, in a project that has it lead to another one."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest

import fastnk
from fastnk.django.schema.introspect import schema_from_apps
from fastnk.django.schema.retargeted import Former, Retargeted, retargeted
from fastnk.errors import FindingsError
from tests.conftest import Project
from tests.project.history.models import Label
from tests.test_restore import keeper, record
from tests.zoo import rows

UNTIL = "history.0002_title_and_shelf"

SHELF = record("history.shelf", 2, code="s2")
PAPER = record("history.paper", 2, title="p", shelf=None, copies_on=[])
LABEL = record("history.label", 1, holder=2)


def restored(alias: str, *records: Any, **options: Any) -> fastnk.RestoreReport:
    backup = json.dumps(records).encode()
    report: fastnk.RestoreReport = fastnk.restore(backup, database=alias, **options)
    return report


def refusal(alias: str, *records: Any, **options: Any) -> FindingsError:
    with pytest.raises(FindingsError) as caught:
        restored(alias, *records, **options)
    return caught.value


def test_migrations_tell_where_relations_led() -> None:
    shapes = {frozenset({"holder"})}
    formers = [Former("history.paper", UNTIL, shapes)]
    holder = Retargeted("id", False, "history.shelf", shapes, formers)
    assert retargeted() == {"history.label": {"holder": holder}}


def test_an_id_that_may_be_one_of_another_model(new: str) -> None:
    error = refusal(new, SHELF, PAPER, LABEL)
    (found,) = error.findings
    assert (found.code, found.place.record, found.place.pk) == ("FNK410", 3, "1")
    assert (found.place.model, found.place.field) == ("history.label", "holder")
    assert found.what == (
        "an id of history.shelf, or of history.paper, to which the field led up to"
        f" {UNTIL} and of which the backup has these ids"
    )
    assert f"--at {UNTIL}" in str(error.remedy)
    assert not rows(Label, new).exists()


def test_an_id_that_may_be_one_of_another_model_under_other_names(new: str) -> None:
    label = record("old.label", 1, keeper=2)
    renames = {"old": "history", "old.label.keeper": "history.label.holder"}
    (found,) = refusal(new, SHELF, PAPER, label, renames=renames).findings
    assert (found.place.model, found.place.field) == ("old.label", "keeper")
    renames["history.paper"] = "history.shelf"  # which makes the one the other
    assert restored(new, PAPER | {"fields": {"code": "s2"}}, label, renames=renames).created == 2


def test_an_id_that_may_be_one_of_a_model_that_is_gone(new: str) -> None:
    """Settings may have said where the field leads, of which no migration tells."""
    old = record("old.mentor", 1, name="m")
    keepers = [keeper(name) | {"pk": pk} for pk, name in ((1, "a"), (2, "b"))]
    keepers[1]["fields"]["mentor"] = 1
    for one in keepers:
        del one["natural_key"]
    error = refusal(new, old, *keepers, ignore_nonexistent=True)
    assert [(one.place.record, one.place.field) for one in error.findings] == [(3, "mentor")]
    assert "or of old.mentor, which the field is called like" in error.findings[0].what
    assert "old.mentor" in str(error.remedy)
    document = json.loads(schema_from_apps().dumps())
    document["models"]["old.mentor"] = {}
    document["models"]["zoo.keeper"]["relations"]["mentor"]["to"] = "old.mentor"
    then = fastnk.Schema.loads(json.dumps(document))
    (found,) = refusal(new, old, *keepers, ignore_nonexistent=True, schema=then).findings
    assert found.what.startswith("by the schema an id of old.mentor, and today")
    strange = old | {"pk": 3}
    assert restored(new, strange, *keepers, ignore_nonexistent=True).created == 2
    excluded = {"exclude": ["zoo.keeper.mentor", "old"]}
    assert restored(new, old, *keepers, **excluded).unchanged == 2


def test_a_schema_says_of_which_model_ids_are(new: str) -> None:
    then = schema_from_apps(lambda *_: None, [UNTIL])
    assert "no such row of history.shelf" in str(refusal(new, SHELF, PAPER, LABEL, schema=then))
    assert restored(new, SHELF, PAPER, LABEL, schema=schema_from_apps()).created == 3
    assert rows(Label, new).get().holder.code == "s2"


@pytest.mark.parametrize(
    ("records", "options"),
    [
        ([SHELF, LABEL], {}),
        ([SHELF, PAPER, record("history.label", 1, holder=["s2"])], {}),
        ([SHELF, PAPER | {"pk": 3}, LABEL], {}),
        ([SHELF, PAPER, LABEL], {"exclude": ["history.label"]}),
    ],
    ids=["no such records", "a natural key", "no such id", "excluded"],
)
def test_what_is_no_id_of_another_model(new: str, records: list[Any], options: Any) -> None:
    restored(new, *records, **options)
    assert {one.holder.code for one in rows(Label, new)} <= {"s2"}


UNTIL_NAMES = "wiki.0002_names"

SETTINGS = """
    SECRET_KEY = "x"
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "wiki"]
    MIGRATION_MODULES = {"contenttypes": None, "auth": None}
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
"""
WIKI = """
    from django.contrib.auth.models import Group

    class Crew(models.Model):
        name = models.CharField(max_length=9)

    class Page(models.Model):
        name = models.CharField(max_length=9)

    class Sheet(Page):
        pass

    class Case(models.Model):
        name = models.CharField(max_length=9)

        class Meta:
            db_table = "wiki_shelf"

    class Item(models.Model):
        crew = models.ForeignKey(Crew, models.CASCADE, null=True)
        page = models.ForeignKey(Sheet, models.CASCADE, null=True)
        shelf = models.ForeignKey(Case, models.CASCADE, null=True)
        team = models.ForeignKey(Group, models.CASCADE, null=True)
        fans = models.ManyToManyField(Crew, related_name="+")
        note = models.CharField(max_length=9, default="")
"""
MIGRATIONS = {
    "0001_first": """
        *(
            migrations.CreateModel(name, [("id", number()), ("name", text())])
            for name in ("Gang", "Team", "Page", "Shelf")
        ),
        migrations.CreateModel("Sheet", [("page_ptr", parent("wiki.page"))], bases=("wiki.page",)),
        migrations.CreateModel("Thing", [
            ("id", number()),
            ("crew", to("wiki.gang")),
            ("page", to("wiki.page")),
            ("shelf", to("wiki.shelf")),
            ("team", to("wiki.team")),
            ("fans", models.ManyToManyField("wiki.page", related_name="+")),
        ]),
    """,
    "0002_names": """
        migrations.RenameModel("Gang", "Crew"),
        migrations.RenameModel("Thing", "Item"),
    """,
    "0003_targets": """
        migrations.SeparateDatabaseAndState(state_operations=[
            migrations.CreateModel(
                "Case", [("id", number()), ("name", text())], {"db_table": "wiki_shelf"}
            ),
            migrations.AlterField("Item", "shelf", to("wiki.case")),
            migrations.DeleteModel("Shelf"),
        ]),
        migrations.AddField("Item", "note", text(default="")),
        migrations.AlterField("Item", "page", to("wiki.sheet")),
        migrations.AlterField("Item", "team", to("auth.group")),
        migrations.RemoveField("Item", "fans"),
        migrations.AddField(
            "Item", "fans", models.ManyToManyField("wiki.crew", related_name="+")
        ),
    """,
    "0004_without_team": """
        migrations.DeleteModel("Team"),
    """,
}
MIGRATION = """
from django.db import migrations, models

def number():
    return models.BigAutoField(
        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
    )

def text(**options):
    return models.CharField(max_length=9, **options)

def to(label):
    return models.ForeignKey(label, models.CASCADE, null=True)

def parent(label):
    return models.OneToOneField(
        label, models.CASCADE, auto_created=True, parent_link=True, primary_key=True,
        serialize=False,
    )

class Migration(migrations.Migration):
    dependencies = {dependencies!r}
    operations = [{operations}]
"""


@pytest.fixture
def wiki(project: Project) -> Project:
    project.write(SETTINGS, wiki=WIKI)
    folder = project.folder / "wiki" / "migrations"
    folder.mkdir()
    (folder / "__init__.py").touch()
    before = ("auth", "__first__")
    for name, operations in MIGRATIONS.items():
        source = MIGRATION.format(dependencies=[before], operations=textwrap.dedent(operations))
        (folder / f"{name}.py").write_text(source)
        before = ("wiki", name)
    return project


def item(pk: int, **fields: Any) -> dict[str, Any]:
    return record("wiki.item", pk, **{"crew": None, "page": None, "shelf": None} | fields)


def test_models_under_other_names_are_the_same(wiki: Project) -> None:
    """So are those of one table, and parents and children."""
    found = wiki.run("""
        set_up("settings")
        from fastnk.django.schema.retargeted import retargeted
        print(json.dumps({
            label: {name: [one[:2] for one in relation.formers] for name, relation in told.items()}
            for label, told in retargeted().items()
        }))
    """)
    formers = {"team": [["wiki.team", UNTIL_NAMES]], "fans": [["wiki.page", UNTIL_NAMES]]}
    assert found == {"wiki.item": formers}


RESTORES = """
    set_up("settings")
    import fastnk
    from django.core.management import call_command
    from wiki.models import Item
    call_command("migrate", run_syncdb=True, verbosity=0)
    LET_GO = fastnk.Policies(on_unresolved="null")
    told = []
    for backup, options in [{restores}]:
        try:
            fastnk.restore(backup.encode(), **options)
        except fastnk.FindingsError as error:
            told.append([[one.place.field, one.what] for one in error.findings])
        else:
            told.append([one.team and one.team.name for one in Item.objects.order_by("pk")])
    print(json.dumps(told))
"""


def test_what_fields_tell_of_the_age_of_a_backup(wiki: Project) -> None:
    """With such fields as there are only today, ids are those of today; with such as there were
    only then, they are not, whatever else the backup holds."""
    others = [record("auth.group", 5, name="g5", permissions=[]), record("wiki.page", 1, name="p")]
    told = "to which the field led up to wiki.0002_names; today it leads to"
    then = "{'schema': schema_from_apps(lambda *_: None, ['wiki.0002'])"
    old = json.dumps([*others, item(1, team=5, fans=[])])
    many = json.dumps([*others, item(1, team=None, fans=[1])])
    new = json.dumps([*others, item(2, team=5, fans=[], note="n")])
    restores = [
        f"({old!r}, {{}})",
        f"({many!r}, {{}})",
        f"({old!r}, {then}}})",
        f"({old!r}, {then}, 'policies': LET_GO}})",
        f"({new!r}, {{}})",
    ]
    done = wiki.run(RESTORES.format(restores=", ".join(restores)))
    assert done == [
        [["team", f"an id of wiki.team, {told} auth.group"]],
        [["fans", f"an id of wiki.page, {told} wiki.crew"]],
        [["team", "by the schema an id of wiki.team, and today the field leads to auth.group"]],
        [None],
        [None, "g5"],
    ]
