"""Backups that call models and fields otherwise than the project does today."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType

import fastnk
from fastnk.cli import main
from fastnk.errors import FindingsError
from fastnk.renames import RenameError, Renames, parse_renames
from fastnk.schema import Embedded, GenericRelation, Model, Relation, Schema
from tests import zoo as backups
from tests.conftest import Project
from tests.project.zoo import models as zoo
from tests.test_commands import Shell
from tests.test_restore import (
    STYLES,
    counts,
    keeper,
    keyed,
    record,
    without_lost_pks,
    without_status,
)
from tests.zoo import SCHEMA, Record, by_keys, project_schema, put, rows, tables

MODELS = {"animal": "beast", "keeper": "warden", "person": "human", "collar": "collar"}
FIELDS = {
    "animal": {"species": "kind", "keepers": "carers", "habits": "ways", "enclosure": "cage"},
    "keeper": {"mentor": "chief", "name": "called"},
    "species": {"code": "sign"},
    "collar": {"animal": "beast"},
    "diet": {"animal": "beast"},
    "status": {"code": "word"},
    "sticker": {"content_type": "sort", "object_id": "thing_id"},
    "vet": {"person_ptr": "human_ptr"},
    "memo": {"parent": "above"},
}
RENAMES = {
    "park": "zoo",
    **{f"park.{MODELS[name]}": f"zoo.{name}" for name in MODELS if MODELS[name] != name},
    **{
        f"park.{MODELS.get(name, name)}.{old}": f"zoo.{name}.{new}"
        for name, fields in FIELDS.items()
        for new, old in fields.items()
    },
}
"""Zoo, animal and their fields were once called otherwise."""


# How the tests age a backup: by hand, one value after the other.


def aged(record: Record) -> Record:
    """A record as the project wrote it when it used the old names."""
    app, _, name = record["model"].partition(".")
    names = FIELDS.get(name, {}) if app == "zoo" else {}
    result = {key: aged_value(value) for key, value in record.items() if key != "model"}
    result["model"] = f"park.{MODELS.get(name, name)}" if app == "zoo" else record["model"]
    for holder in ("fields", "references"):
        if holder in result:
            members = record[holder].items()
            result[holder] = {names.get(key, key): aged_value(one) for key, one in members}
    fields = result["fields"]
    if record["model"] == "contenttypes.contenttype":
        [fields["app_label"], fields["model"]] = aged_value([fields["app_label"], fields["model"]])
    return result


def aged_value(value: Any) -> Any:
    """A value in which content types and permissions have the old names."""
    if not isinstance(value, list):
        return value
    if len(value) == 2 and value[0] == "zoo":
        return ["park", MODELS.get(value[1], value[1])]
    if len(value) == 3 and value[1] == "zoo" and "_" in str(value[0]):
        return [aged_codename(value[0]), "park", MODELS.get(value[2], value[2])]
    return [aged_value(one) for one in value]


def aged_codename(codename: str) -> str:
    action, _, name = codename.partition("_")
    return f"{action}_{MODELS.get(name, name)}"


def aged_backup(records: list[Record]) -> list[Record]:
    kinds = {
        one["pk"]: one["fields"]["app_label"]
        for one in records
        if one["model"] == "contenttypes.contenttype" and one.get("pk") is not None
    }
    result = []
    for one in records:
        old = aged(one)
        if one["model"] == "auth.permission":
            kind = one["fields"]["content_type"]
            app = kind[0] if isinstance(kind, list) else kinds[kind]
            if app == "zoo":
                codename = aged_codename(old["fields"]["codename"])
                text = f"Can {codename.replace('_', ' ')}"
                changed = codename != old["fields"]["codename"]
                old["fields"] |= {"codename": codename} | ({"name": text} if changed else {})
        result.append(old)
    return result


restore = partial(fastnk.restore, schema=SCHEMA, renames=RENAMES)


def as_bytes(records: list[Record]) -> bytes:
    return json.dumps(records).encode()


@pytest.fixture(params=STYLES)
def young(request: pytest.FixtureRequest, renew: Callable[[str], str]) -> list[Record]:
    """The full zoo in each style, with the names of today, without what Django's style loses."""
    alias = renew("old")
    backups.fill(alias)
    records = json.loads(json.dumps(STYLES[request.param](alias)))
    return without_lost_pks(records) if request.param == "django" else records


def expected(young: list[Record], contents: dict[str, list[str]]) -> dict[str, list[str]]:
    models = {one["model"] for one in young}
    if "zoo.status" not in models:
        contents = without_status(contents)
    return {label: told for label, told in contents.items() if label in models}


def test_whole_zoo_under_other_names(engine: str, new: str, young: list[Record]) -> None:
    old = f"{engine}_old"
    data = as_bytes(aged_backup(young))
    text = data.decode()
    assert '"zoo.' not in text
    assert '"zoo"' not in text
    held = {one["model"] for one in json.loads(data)}
    names = {
        key: new for key, new in RENAMES.items() if key.rpartition(".")[0] in {*held, "park", ""}
    }
    report = restore(data, database=new, renames=names)
    assert expected(young, by_keys(new)) == expected(young, by_keys(old))
    assert report.records == len(young)
    assert report.renamed["park.beast -> zoo.animal"] == 3
    before = tables(new)
    again = restore(data, database=new, renames=names)
    assert counts(again) == (0, 0, len(young), 0)
    assert tables(new) == before


# Several ways to be referred to


def vault(name: str, **fields: Any) -> Record:
    return {"model": "zoo.safe", "natural_key": [name], "fields": {"name": name, **fields}}


SAFE = {
    "zoo.safe": "zoo.vault",
    "zoo.safe.tiny": "zoo.vault.small",
    "zoo.safe.label": "zoo.vault.code",
}


def test_rows_that_nothing_refers_to(new: str) -> None:
    """Read as structs, many at once, and in more than one shape."""
    schema = project_schema()
    records = [vault(str(number), tiny=number, label=str(number)) for number in range(300)]
    records += [vault(str(number), tiny=number) for number in range(300, 400)]
    report = fastnk.restore(as_bytes(records), schema, database=new, renames=SAFE)
    assert report.created == 400
    assert report.renamed == {
        "zoo.safe -> zoo.vault": 400,
        "zoo.safe.tiny -> zoo.vault.small": 400,
        "zoo.safe.label -> zoo.vault.code": 300,
    }
    assert {row.name: (row.small, row.code) for row in rows(zoo.Vault, new)} == {
        str(number): (number, str(number) if number < 300 else None) for number in range(400)
    }
    report = fastnk.restore(as_bytes(records), schema, database=new, renames=SAFE, verify=True)
    assert counts(report) == (0, 0, 400, 0)


def test_a_relation_under_the_name_of_its_column(new: str) -> None:
    records = [keeper("a"), {**keeper("b"), "fields": {"name": "b", "mentor_id": ["a"]}}]
    old, today = "zoo.keeper.mentor_id", "zoo.keeper.mentor"
    with pytest.raises(FindingsError, match=f"FNK412 .*called so: --rename {old}={today}"):
        fastnk.restore(as_bytes(records), SCHEMA, database=new)
    fastnk.restore(as_bytes(records), SCHEMA, database=new, renames={old: today})
    assert rows(zoo.Keeper, new).get(name="b").mentor.name == "a"


def test_fields_that_exchange_their_names(new: str) -> None:
    names = {"zoo.vault.code": "zoo.vault.name", "zoo.vault.name": "zoo.vault.code"}
    record_of = {"model": "zoo.vault", "natural_key": ["a"], "fields": {"code": "a", "name": "b"}}
    report = fastnk.restore(as_bytes([record_of]), project_schema(), database=new, renames=names)
    assert report.created == 1
    row = rows(zoo.Vault, new).get()
    assert (row.name, row.code) == ("a", "b")


def test_a_relation_of_today_with_the_name_that_another_field_had(new: str) -> None:
    """What the backup calls so is no id, whatever it looks like."""
    records = [record("zoo.memo", pk, parent=text, tags=[]) for pk, text in ((1, "urgent"), (2, 1))]
    names = {"zoo.memo.parent": "zoo.memo.text"}
    fastnk.restore(as_bytes(records), database=new, renames=names)
    found = rows(zoo.Memo, new).order_by("pk").values_list("text", "parent")
    assert list(found) == [("urgent", None), ("1", None)]


def test_ids_that_others_own_follow_under_new_names(engine: str, new: str) -> None:
    backups.soil(new)
    before = rows(zoo.Memo, new).count()
    records = [
        record("park.note", 11, text="first"),
        record("park.note", 12, text="second", above=11),
    ]
    names = {"park.note": "zoo.memo", "park.note.above": "zoo.memo.parent"}
    report = restore(as_bytes(records), database=new, renames=names)
    assert counts(report) == (2, 0, 0, 2)
    assert rows(zoo.Memo, new).get(text="second").parent.text == "first"
    assert rows(zoo.Memo, new).count() == before + 2
    assert counts(restore(as_bytes(records), database=new, renames=names)) == (0, 0, 2, 0)


def test_permission_of_a_model_without_records(new: str) -> None:
    """Nothing but a natural key names the model."""
    group = keyed("auth.group", "g", name="g", permissions=[["view_beast", "park", "beast"]])
    names = {"park.beast": "zoo.animal"}
    report = restore(as_bytes([group]), database=new, renames=names)
    assert report.renamed == {"park.beast -> zoo.animal": 0}
    permission = rows(Group, new).get().permissions.get()
    assert permission == rows(Permission, new).get(codename="view_animal")
    assert permission.name == "Can view animal"


def test_own_permissions_of_a_model_keep_their_codenames(new: str) -> None:
    kind = rows(ContentType, new).get(app_label="zoo", model="animal")
    put(new, Permission, id=9000, codename="feed_beast", name="May feed", content_type_id=kind.pk)
    own = keyed(
        "auth.permission",
        *("feed_beast", "park", "beast"),
        codename="feed_beast",
        name="May feed",
        content_type=["park", "beast"],
    )
    report = restore(as_bytes([own]), database=new, renames={"park.beast": "zoo.animal"})
    assert counts(report) == (0, 0, 1, 0)


def test_models_that_text_names(new: str) -> None:
    """A generic relation whose model is a label in a text field."""
    models = SCHEMA.models | {
        "zoo.event": Model(
            generic_relations={
                "thing": GenericRelation(
                    label="text", object_id="uuid", labels={"a pal": "zoo.keeper"}
                )
            }
        ),
        "zoo.sensor": Model(),
    }
    schema = Schema.of(models)
    names = {"park.gauge": "zoo.sensor"}
    for number, text in enumerate(("park.gauge", "Park.Gauge", "a pal", "words"), start=1):
        uuid = str(UUID(int=number))
        target = [record("park.gauge", uuid, serial=str(number))]
        event = record("zoo.event", number, uuid=uuid, text=text)
        fastnk.restore(
            as_bytes([*target, event]),
            schema,
            database=new,
            renames=names,
            policies=fastnk.Policies(on_generic="keep"),
        )
    texts = sorted(row.text for row in rows(zoo.Event, new))
    assert texts == ["a pal", "words", "zoo.Sensor", "zoo.sensor"]


def test_a_generic_relation_by_an_old_name_is_counted_once(new: str) -> None:
    """Its key stands beside the id, under the same name."""
    tour = record("zoo.tour", 5, name="long")
    version = record("zoo.version", 1, content_type=["zoo", "tour"], thing_id="5")
    records = [tour, version, record("zoo.draft", 1, latest=1)]
    names = {"zoo.version.thing_id": "zoo.version.object_id"}
    report = fastnk.restore(as_bytes(records), project_schema(), database=new, renames=names)
    assert report.renamed == {"zoo.version.thing_id -> zoo.version.object_id": 1}


def test_a_relation_that_leads_to_many_today(new: str) -> None:
    """The id of one row, or of none, is one of many."""
    anna = record("zoo.keeper", 7, **keeper("Anna")["fields"])
    tags = [record("zoo.tag", pk, label=f"t{pk}") for pk in (5, 6)]
    memos = [record("zoo.memo", n, text=f"m{n}", tag=tag) for n, tag in ((1, 5), (2, None))]
    tours = [record("zoo.tour", n, name=f"r{n}", guide=one) for n, one in ((1, 7), (2, None))]
    names = {"zoo.memo.tag": "zoo.memo.tags", "zoo.tour.guide": "zoo.tour.guides"}
    for created in (7, 0):
        backup = as_bytes([anna, *tags, *memos, *tours])
        report = fastnk.restore(backup, project_schema(), database=new, renames=names)
        assert (report.created, report.updated) == (created, 0)
    memos_now = rows(zoo.Memo, new).order_by("text").values_list("text", "tags__label")
    assert list(memos_now) == [("m1", "t5"), ("m2", None)]
    tours_now = rows(zoo.Tour, new).order_by("name").values_list("name", "guides__name")
    assert list(tours_now) == [("r1", "Anna"), ("r2", None)]


@pytest.mark.parametrize("policies", [None, fastnk.Policies(on_unresolved="null")])
def test_the_natural_key_of_a_relation_that_leads_to_many_today(
    new: str, policies: fastnk.Policies | None
) -> None:
    """It is a list of what no id can be, in a backup that has some rows by their ids, too."""
    people = [keeper("Anna"), record("zoo.keeper", 7, **keeper("Ben")["fields"])]
    guides = [["Anna"], 7, None]
    tours = [record("zoo.tour", n, name=f"r{n}", guide=one) for n, one in enumerate(guides)]
    names = {"zoo.tour.guide": "zoo.tour.guides"}
    for created in (5, 0):
        backup = as_bytes([*people, *tours])
        report = fastnk.restore(backup, database=new, renames=names, policies=policies)
        assert (report.created, report.updated, report.let_go) == (created, 0, {})
    tours_now = rows(zoo.Tour, new).order_by("name").values_list("name", "guides__name")
    assert list(tours_now) == [("r0", "Anna"), ("r1", "Ben"), ("r2", None)]


def test_ids_that_no_record_has_in_a_renamed_list(new: str) -> None:
    people = [record("zoo.keeper", 7, **keeper("Anna")["fields"])]
    tours = [record("zoo.tour", 1, name="r", leads=[7, 8])]
    with pytest.raises(FindingsError, match=r"FNK301 no record has this id \(8\)"):
        fastnk.restore(
            as_bytes([*people, *tours]), database=new, renames={"zoo.tour.leads": "zoo.tour.guides"}
        )


# The schema by the names of the backup


def test_schema_by_old_names() -> None:
    today = Schema.of(
        {
            "new.book": Model(
                pk="code",
                natural_key=["author__name", ["code|str"]],
                relations={"author": Relation("new.author", to_field="name")},
                generic_relations={
                    "thing": GenericRelation(
                        object_id="thing_id", label="kind", labels={"B": "new.book"}
                    )
                },
                embedded={"log[].author": Embedded("new.author", "name")},
            ),
            "new.author": Model(natural_key=["name"]),
            "other.thing": Model(relations={"books": Relation("new.book", many=True)}),
        }
    )
    renames = Renames(
        {
            "old": "new",
            "attic.Volume": "new.Book",
            "old.author.called": "new.author.name",
            "attic.volume.writer": "new.book.author",
            "attic.volume.id": "new.book.code",
            "attic.volume.what": "new.book.thing_id",
            "attic.volume.sort": "new.book.kind",
            "attic.volume.past": "new.book.log",
        }
    )
    schema = renames.schema_of_backup(today)
    assert schema.models["attic.volume"] == Model(
        pk="id",
        natural_key=["writer__called", ["id|str"]],
        relations={"writer": Relation("old.author", to_field="called")},
        generic_relations={
            "thing": GenericRelation(object_id="what", label="sort", labels={"B": "attic.volume"})
        },
        embedded={"past[].author": Embedded("old.author", "called")},
    )
    assert schema.models["old.author"] == Model(natural_key=["called"])
    assert schema.models["other.thing"].relations == {"books": Relation("attic.volume", many=True)}
    assert "old.book" not in schema.models
    assert Renames().schema_of_backup(today) is today


# What is refused


BEAST = record(
    "park.warden", None, called="Anna", joined="2001-02-03T04:05:06Z", seen="2001-02-03T04:05:06Z"
)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ({"park": "zoos"}, 'the project has no app "zoos"; did you mean "zoo"?'),
        ({"park.warden": "zoo.keepr"}, 'no model "zoo.keepr"; did you mean "zoo.keeper"?'),
        (
            {"park.warden": "zoo.keeper", "park.warden.called": "zoo.keeper.nam"},
            'no field "zoo.keeper.nam"; did you mean "zoo.keeper.name"?',
        ),
        ({"park.warden.called": "zoo.keeper.name"}, "today park.warden is park.warden"),
        ({"park.warden": "zoo.keeper.name"}, '"park.warden=zoo.keeper.name" is no rename'),
        ({"park.": "zoo.keeper"}, "is no rename"),
        ({"a.b.c.d": "a.b.c.e"}, "is no rename"),
        ({"zoo.Keeper": "zoo.keeper"}, "changes nothing"),
        ({"a.x": "zoo.keeper", "a.y": "zoo.keeper"}, "would both become"),
        ({"a": "zoo", "b": "zoo"}, "would both become"),
    ],
)
def test_names_that_do_not_fit_are_refused_before_anything_is_read(
    new: str, names: dict[str, str], what: str
) -> None:
    with pytest.raises(RenameError) as caught:
        fastnk.UnifiedRestoreManager(SCHEMA, database=new, renames=names)
    assert what in str(caught.value)
    assert (caught.value.code, caught.value.exit_code) == ("FNK103", 2)


WARDEN = {"park.warden": "zoo.keeper", "park.warden.called": "zoo.keeper.name"}


@pytest.mark.parametrize(
    ("more", "records", "what"),
    [
        ({"dark": "zoo"}, [], 'nothing in the backup is called "dark"'),
        ({"park.beest": "zoo.animal"}, [], 'nothing in the backup is called "park.beest"'),
        ({"park.warden.chef": "zoo.keeper.mentor"}, [], '"park.warden.chef"'),
        ({"park.beast": "zoo.animal", "park.beast.kind": "zoo.animal.species"}, [], "park.beast"),
        ({}, [keeper("Béla")], "both park.warden and zoo.keeper, which would both be zoo.keeper"),
        (
            {},
            [{**BEAST, "fields": {**BEAST["fields"], "called": "C", "name": "D"}}],
            "both fields called and name in records of park.warden",
        ),
    ],
)
def test_names_that_the_backup_does_not_have_or_has_twice(
    new: str, more: dict[str, str], records: list[Record], what: str
) -> None:
    before = tables(new)
    with pytest.raises(RenameError) as caught:
        restore(as_bytes([BEAST, *records]), database=new, renames=WARDEN | more)
    assert what in str(caught.value)
    assert tables(new) == before
    assert restore(as_bytes([BEAST]), database=new, renames=WARDEN).created == 1


def test_a_field_that_is_the_pk_today(new: str) -> None:
    """Records that have a pk besides do not have it twice: neither of both is lost unsaid."""
    renames = {"zoo.memo.number": "zoo.memo.id"}
    memo = record("zoo.memo", None, number=5, text="a", tags=[])
    why = "id is the pk today, and records of zoo.memo have a pk beside number"
    for records in ([memo | {"pk": 1}], [memo, memo | {"pk": 1}]):
        with pytest.raises(RenameError, match=why):
            restore(as_bytes(records), database=new, renames=renames)
    assert restore(as_bytes([memo]), database=new, renames=renames).created == 1
    assert rows(zoo.Memo, new).get().pk == 5


@pytest.mark.parametrize(("old", "today"), [("zoo.keepr", "zoo.keeper"), ("park", "zoo")])
def test_backup_that_has_the_new_name_already(new: str, old: str, today: str) -> None:
    """Not told is that its ids lead nowhere, which comes of it."""
    mentor, pupil = keeper("Anna"), keeper("Béla", mentor=1)
    records = [mentor | {"pk": 1}, pupil | {"pk": 2}]
    with pytest.raises(RenameError, match=f'nothing in the backup is called "{old}"'):
        fastnk.restore(as_bytes(records), database=new, renames={old: today})


def test_old_name_that_the_project_uses_again(new: str) -> None:
    """What was a species is a tag; that there are species today, too, is no matter."""
    records = [record("zoo.species", 5, label="loud"), record("zoo.memo", 1, text="a", tags=[5])]
    report = restore(as_bytes(records), database=new, renames={"zoo.species": "zoo.tag"})
    assert report.models["zoo.tag"].created == 1
    assert rows(zoo.Memo, new).get().tags.get().label == "loud"


@pytest.mark.parametrize(
    "records",
    [
        [record("zoo.gone", 1)],
        [vault("a") | {"model": "zoo.vault"}],
        # The loader would do something about keys that occur twice.
        [record("zoo.gone", 1), *(record("zoo.species", pk, latin="a") for pk in (1, 2))],
    ],
)
def test_what_is_not_known_points_at_renames(new: str, records: list[Record]) -> None:
    records[0]["fields"]["gone"] = 1
    with pytest.raises(FindingsError) as caught:
        fastnk.restore(as_bytes(records), project_schema(), database=new)
    assert caught.value.remedy is not None
    assert "--rename app.old=app.new" in caught.value.remedy
    assert "--ignore-nonexistent" in caught.value.remedy


def test_a_text_where_there_is_a_relation_today_points_at_renames(new: str) -> None:
    records = [record("zoo.memo", 1, text="a", parent="urgent", tags=[])]
    with pytest.raises(FindingsError, match=r"FNK410 .*zoo\.memo: .*--rename: what the field"):
        fastnk.restore(as_bytes(records), database=new)


def test_words_of_the_command_line() -> None:
    assert parse_renames(["a.b=c.d", "e=f", "e=f"]) == {"a.b": "c.d", "e": "f"}
    with pytest.raises(RenameError, match='"e" is renamed to "f" and to "g"'):
        parse_renames(["e=f", "e=g"])
    with pytest.raises(RenameError, match='"e" is no rename'):
        parse_renames(["e"])


def test_command(new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema, backup = tmp_path / "schema.json", tmp_path / "backup.json"
    SCHEMA.save(schema)
    backup.write_bytes(as_bytes([BEAST]))
    arguments = ["restore", str(backup), "--schema", str(schema), "--database", new]
    words = [f"--rename={old}={today}" for old, today in WARDEN.items()]
    assert main([*arguments, *words, "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert " ".join(words) in captured.out + captured.err
    assert not rows(zoo.Keeper, new).exists()
    assert main([*arguments, *words, "--no-input"]) == 0
    assert "renamed park.warden -> zoo.keeper: 1 records" in capsys.readouterr().out
    assert main([*arguments, *words, "--no-input", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["renamed"] == {
        "park.warden -> zoo.keeper": 1,
        "park.warden.called -> zoo.keeper.name": 1,
    }
    assert report["unchanged"] == 1
    assert main([*arguments, "--rename", "park=z", "--no-input"]) == 2
    assert "FNK103" in capsys.readouterr().err


# A real project before and after, each with its own code and its own dumpdata


SETTINGS = """
    import json
    SECRET_KEY = "x"
    USE_TZ = True
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    INSTALLED_APPS = [
        "django.contrib.contenttypes", "django.contrib.auth", "fastnk.django", "{app}"
    ]
    MIGRATION_MODULES = {{"contenttypes": None, "auth": None}}
    DATABASES = {{"default": json.loads('''{database}''')}}
"""
MODELS_OF_PROJECT = """
    from django.contrib.contenttypes.fields import GenericForeignKey
    from django.contrib.contenttypes.models import ContentType

    class {author}(models.Model):
        {name} = models.CharField(max_length=20, unique=True)
        def natural_key(self):
            return (self.{name},)

    class {tag}(models.Model):
        text = models.CharField(max_length=20)

    class {book}(models.Model):
        title = models.CharField(max_length=20)
        {by} = models.ForeignKey({author}, models.CASCADE)
        {tags} = models.ManyToManyField({tag})
        class Meta:
            unique_together = [("title", "{by}")]
            permissions = [("lend", "May lend")]
        def natural_key(self):
            return (self.title, *self.{by}.natural_key())

    class {issue}(models.Model):
        year = models.IntegerField()
        {number} = models.IntegerField()
        book = models.ForeignKey({book}, models.CASCADE)
        def natural_key(self):
            return (f"{{self.year}}-{{self.{number}:03}}",)

    class Note(models.Model):
        text = models.CharField(max_length=20)
        kind = models.ForeignKey(ContentType, models.CASCADE)
        object_id = models.PositiveIntegerField()
        thing = GenericForeignKey("kind", "object_id")
"""
BEFORE = {
    "app": "library",
    "author": "Author",
    "name": "name",
    "tag": "Tag",
    "book": "Book",
    "by": "author",
    "tags": "tags",
    "issue": "Issue",
    "number": "number",
}
TODAY = {
    "app": "stock",
    "author": "Writer",
    "name": "called",
    "tag": "Label",
    "book": "Volume",
    "by": "writer",
    "tags": "labels",
    "issue": "Edition",
    "number": "count",
}
DECLARED = {
    "library": "stock",
    "library.Author": "stock.Writer",
    "library.Author.name": "stock.Writer.called",
    "library.Tag": "stock.Label",
    "library.Book": "stock.Volume",
    "library.Book.author": "stock.Volume.writer",
    "library.Book.tags": "stock.Volume.labels",
    "library.Issue": "stock.Edition",
    "library.Issue.number": "stock.Edition.count",
}
FILL = """
    import django; django.setup()
    from django.contrib.auth.models import Group, Permission
    from django.contrib.contenttypes.models import ContentType
    from library.models import *
    authors = [Author.objects.create(id=50 + n, name=f"a{n}") for n in range(3)]
    tags = [Tag.objects.create(id=70 + n, text=f"t{n}") for n in range(3)]
    for n in range(40):
        book = Book.objects.create(id=100 + n, title=f"b{n}", author=authors[n % 3])
        book.tags.set(tags[: n % 4])
        Issue.objects.create(id=200 + n, year=2000 + n, number=n, book=book)
        thing = [book, authors[n % 3], tags[n % 3]][n % 3]
        Note.objects.create(id=300 + n, text=f"n{n}", thing=thing)
    codes = ["add_author", "change_book", "lend", "view_note"]
    Group.objects.create(name="g").permissions.set(Permission.objects.filter(codename__in=codes))
    from django.core.management import call_command
    for natural in (False, True):
        call_command("dumpdata", output=f"{natural}.json", use_natural_foreign_keys=natural)
"""
SPOIL = """
    import django; django.setup()
    from stock.models import *
    for n in range(3):
        Label.objects.create(id=70 + n, text=f"other{n}")
        writer = Writer.objects.create(id=50 + n, called=f"other{n}")
        volume = Volume.objects.create(id=100 + n, title="other", writer=writer)
    Writer.objects.create(id=60, called="a1")
    print("null")
"""
TELL = """
    import django; django.setup()
    from django.contrib.auth.models import Group
    from {app}.models import *
    def note(row):
        thing = row.thing
        named = getattr(thing, "natural_key", lambda: (thing.text,))()
        place = ["{author}", "{book}", "{tag}"].index(type(thing).__name__)
        return [row.text, place, list(named)]
    print(json.dumps({{
        "authors": sorted(row.{name} for row in {author}.objects.all()),
        "tags": sorted(row.text for row in {tag}.objects.all()),
        "books": sorted(
            [row.title, row.{by}.{name}, sorted(one.text for one in row.{tags}.all())]
            for row in {book}.objects.all()
        ),
        "issues": sorted([row.year, row.{number}, row.book.title] for row in {issue}.objects.all()),
        "notes": sorted(note(row) for row in Note.objects.all()),
        "permissions": sorted(
            [one.codename, one.name, one.content_type.model]
            for one in Group.objects.get().permissions.all()
        ),
    }}))
"""


def test_real_project_whose_app_models_and_fields_were_renamed(tmp_path: Path) -> None:
    """Its ids are taken; permissions, generic relations and many-to-many fields are compared."""
    projects = {}
    for words in (BEFORE, TODAY):
        app = words["app"]
        (tmp_path / app).mkdir()
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / f"{app}.db")}
        projects[app] = Project(tmp_path / app)
        settings = SETTINGS.format(app=app, database=json.dumps(database))
        projects[app].write(settings, **{app: MODELS_OF_PROJECT.format(**words)})
        shell = Shell(tmp_path / app)
        shell.run("migrate", "--run-syncdb", "-v", "0")
    old, new = projects["library"], projects["stock"]
    set_up = "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\n"
    before = old.run(set_up + textwrap.dedent(FILL) + textwrap.dedent(TELL.format(**BEFORE)))
    new.run(set_up + textwrap.dedent(SPOIL))
    renames = [f"--rename={name}={today}" for name, today in DECLARED.items()]
    for natural in (False, True):
        backup = tmp_path / "library" / f"{natural}.json"
        words = ["fastnk_restore", str(backup), "--no-input", "--json", *renames]
        report = json.loads(shell.run(*words).stdout)
        assert bool(report["created"]) is not natural
        assert (report["updated"], report["renamed"]["library.book -> stock.volume"]) == (0, 40)
        assert json.loads(shell.run(*words).stdout)["unchanged"] == report["records"]
        after = new.run(set_up + textwrap.dedent(TELL.format(**TODAY)))
        for kind in ("authors", "tags"):
            others = [one for one in after[kind] if one.startswith("other")]
            assert len(others) == 3
            after[kind] = [one for one in after[kind] if one not in others]
        after["books"] = [one for one in after["books"] if one[0] != "other"]
        assert {**after, "permissions": 0} == {**before, "permissions": 0}
        assert after["permissions"] == [
            ["add_writer", "Can add writer", "writer"],
            ["change_volume", "Can change volume", "volume"],
            ["lend", "May lend", "volume"],
            ["view_note", "Can view note", "note"],
        ]
