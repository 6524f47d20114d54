"""A schema as it was at an older point of the migrations; no test here has a database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

django = pytest.importorskip("django")
from django.apps import apps  # noqa: E402

SETTINGS = "tests.project.settings"

if not apps.ready:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS)
    django.setup()

from django.conf import settings  # noqa: E402
from django.db import connections, models  # noqa: E402
from django.test.utils import isolate_apps, override_settings  # noqa: E402

from fastnk.django.schema.history import copied_pks_then  # noqa: E402
from fastnk.django.schema.introspect import (  # noqa: E402
    UntraceableKeyError,
    schema_from_apps,
    schema_from_project,
)
from fastnk.errors import SchemaError, UsageError  # noqa: E402
from fastnk.schema import Embedded, GenericRelation, Model, Relation, Schema  # noqa: E402

LENDING = "tests.project.history.lending"
GONE = "cannot be known, because the project no longer has the model; it may have had none"

TO_PAPER = Relation(to="history.paper")
TO_SHELF = Relation(to="history.shelf")
CONTENT_TYPE = {"content_type": Relation(to="contenttypes.contenttype")}
ABOUT = {"about": GenericRelation(content_type="content_type", object_id="object_id")}

PARENT = {"paper_ptr": Relation(to="history.paper", parent_link=True)}
COPIES = {"copies_on": Relation(to="history.shelf", many=True)}
"""Which Django before 3.0 repeats in records of children."""

SHELF = {"history.shelf": Model(natural_key=["code"])}
BOOK = {"history.book": Model(pk="paper_ptr", natural_key=["isbn"], relations=PARENT)}
COPIED = {"history.book": Model(pk="paper_ptr", natural_key=["isbn"], relations=PARENT | COPIES)}
DRAFTS = {
    "history.draft": Model(relations={"papers": Relation(to="history.paper", many=True)}),
    "history.draft_papers": Model(
        relations={"draft": Relation(to="history.draft"), "paper": TO_PAPER}
    ),
    "history.shortlist": Model(relations={"picked": Relation(to="history.draft_papers")}),
}
ON_SHELVES = {"shelf": TO_SHELF, **COPIES}

MODELS: dict[str, dict[str, Model]] = {
    "0001_initial": {
        **SHELF,
        **BOOK,
        **DRAFTS,
        "history.chapter": Model(relations={"paper": TO_PAPER}),
        "history.label": Model(),
        "history.note": Model(relations=CONTENT_TYPE),
        "history.paper": Model(natural_key=["name"]),
        "history.place": Model(relations={"paper": TO_PAPER}),
    },
    "0002_title_and_shelf": {
        **SHELF,
        **COPIED,
        **DRAFTS,
        "history.chapter": Model(relations={"paper": TO_PAPER}),
        "history.label": Model(relations={"holder": TO_PAPER}),
        "history.note": Model(relations=CONTENT_TYPE, generic_relations=ABOUT),
        "history.paper": Model(natural_key=["title"], relations=ON_SHELVES),
        "history.place": Model(natural_key=["paper__shelf__code"], relations={"paper": TO_PAPER}),
        "history.stamp": Model(natural_key=["code"]),
    },
    "0003_without_drafts": {
        **SHELF,
        **COPIED,
        "history.chapter": Model(
            natural_key=["paper__title", "number"], relations={"paper": TO_PAPER}
        ),
        "history.label": Model(natural_key=["holder__code"], relations={"holder": TO_SHELF}),
        "history.note": Model(relations=CONTENT_TYPE, generic_relations=ABOUT),
        "history.paper": Model(natural_key=["title"], relations=ON_SHELVES),
        "history.place": Model(natural_key=["paper__shelf__code"], relations={"paper": TO_PAPER}),
        "history.stamp": Model(natural_key=["code"]),
    },
}
REASONS: dict[str, dict[str, str]] = {
    "0001_initial": {
        "history.chapter": 'uses "number", but then "number" of history.chapter was a CharField',
        "history.draft": GONE,
        "history.label": 'uses "holder__code", but then "holder" of history.label '
        "referred to no model",
        "history.place": 'uses "paper__shelf__code", but then history.paper had no field "shelf"',
        "history.shortlist": GONE,
    },
    "0002_title_and_shelf": {
        "history.chapter": 'uses "number", but then "number" of history.chapter was a CharField',
        "history.draft": GONE,
        "history.label": 'uses "holder__code", but then "holder" of history.label '
        "referred to history.paper",
        "history.shortlist": GONE,
    },
    "0003_without_drafts": {},
}


def schema_at(*points: str) -> tuple[Schema, dict[str, str]]:
    """The schema, and the reasons why natural keys are not known."""
    reasons: dict[str, str] = {}
    return schema_from_apps(reasons.__setitem__, points), reasons


def of_app(schema: Schema, app: str) -> dict[str, Model]:
    return {label: model for label, model in schema.models.items() if label.startswith(f"{app}.")}


def others(schema: Schema) -> dict[str, Model]:
    """The models of the apps that have no migrations."""
    return {
        label: model
        for label, model in schema.models.items()
        if label.split(".")[0] not in {"history", "lending"}
    }


@contextmanager
def installed(*names: str) -> Iterator[None]:
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, *names]):
        yield


@pytest.fixture
def lending() -> Iterator[None]:
    """A second app with migrations, which need those of the first."""
    with installed(LENDING):
        yield


@pytest.mark.parametrize("name", MODELS)
def test_models_at_each_migration(name: str) -> None:
    schema, reasons = schema_at(f"history.{name}")
    assert of_app(schema, "history") == MODELS[name]
    assert reasons == REASONS[name]


@pytest.mark.parametrize("name", MODELS)
def test_apps_without_migrations_are_as_they_are(name: str) -> None:
    schema, _ = schema_at(f"history.{name}")
    assert others(schema) == others(schema_from_apps())
    assert list(schema.models) == sorted(schema.models)


def test_key_parts_have_the_names_of_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through relations, in nested lists, in front of transforms."""
    from tests.project.history.models import Chapter, Paper

    monkeypatch.setattr(Chapter, "natural_key", lambda row: ([row.paper.title],))
    monkeypatch.setattr(Paper, "natural_key", lambda row: (str(row.title), row.pk))
    keys = {point: schema_at(f"history.{point}")[0].models for point in MODELS}
    for point, name in zip(MODELS, ("name", "title", "title"), strict=True):
        assert keys[point]["history.chapter"].natural_key == [[f"paper__{name}"]]
        assert keys[point]["history.paper"].natural_key == [f"{name}|str", "id"]


def test_the_latest_migration_is_the_live_schema() -> None:
    assert schema_from_apps(at=["history.0003"]) == schema_from_apps()
    assert schema_from_project(SETTINGS, at=["history.0003"]) == schema_from_apps()


@pytest.mark.parametrize("name", MODELS)
def test_a_prefix_is_enough(name: str) -> None:
    assert schema_at(f"history.{name[:4]}") == schema_at(f"history.{name}")


def test_the_database_is_not_asked() -> None:
    def refuse(*_: Any) -> NoReturn:
        raise AssertionError("a query")

    with connections["default"].execute_wrapper(refuse):
        schema, _ = schema_at("history.0002")
    assert schema.models["history.paper"].natural_key == ["title"]


def test_keys_that_are_not_known_are_refused() -> None:
    with pytest.raises(UntraceableKeyError) as caught:
        schema_from_apps(at=["history.0002"])
    assert caught.value.reasons == REASONS["0002_title_and_shelf"]
    assert f"history.draft: natural_key() {GONE}" in str(caught.value)
    assert "by hand" in str(caught.value.remedy)
    assert "--skip-untraceable" in str(caught.value.remedy)


def test_methods_of_apps_without_migrations() -> None:
    with installed("tests.project.exact.untraced"):
        schema, reasons = schema_at("history.0001")
        assert others(schema) == others(schema_from_apps())
    assert reasons == REASONS["0001_initial"]
    method = "tests.project.exact.untraced.models.Formatted.natural_key"
    assert schema.models["untraced.formatted"].natural_key_method == method


def test_methods_are_called_where_the_fields_are_those_of_today(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also those of what a model refers to: `Label` led to papers, and a paper had no shelf."""
    from tests.project.history import models

    for name in ("Chapter", "Label", "Place", "Shelf"):
        method = lambda row: (f"{row.pk}",)  # noqa: E731
        monkeypatch.setattr(getattr(models, name), "natural_key", method)
    called: dict[str, set[str]] = {}
    for point in MODELS:
        schema, reasons = schema_at(f"history.{point}")
        called[point] = {
            label
            for label, model in schema.models.items()
            if model.natural_key_method and label.startswith("history.")
        }
        assert {"history.shelf", "history.label", "history.place"} <= called[point] | set(reasons)
        assert called[point].isdisjoint(reasons)
    assert called == {
        "0001_initial": {"history.shelf"},
        "0002_title_and_shelf": {"history.place", "history.shelf"},
        "0003_without_drafts": {
            "history.chapter",
            "history.label",
            "history.place",
            "history.shelf",
        },
    }


@pytest.mark.parametrize(
    ("points", "what", "remedy"),
    [
        (["history"], 'history has no migration ""', "0001_initial, 0002_title_and_shelf, 0003"),
        (["history.0009"], 'history has no migration "0009"', "one of 0001_initial, 0002_"),
        (["history.000"], 'several migrations of history begin with "000"', "one of 0001_initial"),
        (["histories.0001"], '"histories.0001" names no app', "APP.MIGRATION.*: history"),
        (["auth.0001"], '"auth.0001" names no app that has migrations', "APP.MIGRATION"),
        ([""], '"" names no app', "APP.MIGRATION"),
        (
            ["history.0001", "history.0002"],
            "two points of history: 0001_initial and 0002_title_and_shelf",
            "name one for each app",
        ),
        ("history.0001", '"history.0001" is not a sequence', r'at=\["history.0001"\]'),
    ],
)
def test_points_that_are_no_points(points: list[str], what: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        schema_from_apps(at=points)
    assert caught.match(f"try: .*{remedy}")


def test_the_same_point_twice() -> None:
    assert schema_at("history.0002", "history.0002_title") == schema_at("history.0002")


LOAN = Model(natural_key=["day"], relations={"paper": TO_PAPER})
LOAN_THAT_COMES_BACK = Model(
    natural_key=["day"], relations={"paper": TO_PAPER, "back_on": TO_SHELF}
)


@pytest.mark.usefixtures("lending")
@pytest.mark.parametrize(
    ("point", "loan", "drafts"),
    [
        ("history.0001", LOAN, True),
        ("history.0002", LOAN_THAT_COMES_BACK, True),
        ("history.0003", LOAN_THAT_COMES_BACK, False),
        ("lending.0001_initial", LOAN, False),
        ("lending.0002", LOAN_THAT_COMES_BACK, False),
    ],
)
def test_other_apps_are_as_late_as_the_point_allows(point: str, loan: Model, drafts: bool) -> None:
    schema, _ = schema_at(point)
    assert schema.models["lending.loan"] == loan
    assert ("history.draft" in schema.models) is drafts


@pytest.mark.usefixtures("lending")
def test_points_of_two_apps() -> None:
    schema, _ = schema_at("lending.0001_initial", "history.0002")
    assert schema.models["lending.loan"] == LOAN
    assert "history.draft" in schema.models


@pytest.mark.usefixtures("lending")
def test_points_that_exclude_each_other() -> None:
    with pytest.raises(UsageError) as caught:
        schema_at("history.0001", "lending.0002")
    assert "lending.0002_back_on needs history.0002_title_and_shelf" in caught.value.what


@isolate_apps("tests.project.history")
def test_copies_of_pks_are_where_the_fields_were() -> None:
    """Of which the class of today tells, and no migration."""

    class Base(models.Model):
        class Meta:
            abstract = True
            app_label = "history"

    class Original(Base):
        name = models.TextField()

    class Copy(Base):
        original = Original
        number = models.AutoField(primary_key=True)
        id = models.IntegerField()

    class Then(Base):
        number = models.AutoField(primary_key=True)

    written = {"history.original": Original}
    assert copied_pks_then(Copy, Copy, written) == {"id": Embedded("history.original")}
    assert copied_pks_then(Copy, Copy, {}) == copied_pks_then(Copy, None, written) == {}
    assert copied_pks_then(Then, Copy, written) == {}


@pytest.mark.usefixtures("lending")
def test_a_squashed_migration_is_what_it_was_made_of() -> None:
    assert schema_at("lending.0001_squashed") == schema_at("lending.0002")


@pytest.mark.usefixtures("lending")
def test_a_key_is_not_kept_where_a_proxy_that_is_gone_made_it() -> None:
    schema, reasons = schema_at("lending.0002")
    assert schema.models["history.paper"].natural_key is None
    assert reasons == {
        "history.paper": "is not known to be that of lending.OldPaper, the proxy that "
        '"paper" of lending.loan referred to, which is gone'
    }
    assert schema_from_apps(at=["lending.0003"]) == schema_from_apps()


STICKERS = """
from django.db import models

class Sticker(models.Model):
    stamp = models.ForeignKey("history.Stamp", models.CASCADE)

    def natural_key(self):
        return (self.stamp.code,)
"""


def test_app_without_migrations_that_refers_to_what_was_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stickers").mkdir()
    (tmp_path / "stickers/__init__.py").touch()
    (tmp_path / "stickers/models.py").write_text(STICKERS)
    monkeypatch.syspath_prepend(tmp_path)
    told: dict[str, str] = {}
    with installed("stickers"):
        schema, _ = schema_at("history.0002")
        with pytest.raises(SchemaError, match=r'no model "history\.stamp"') as caught:
            schema_from_apps(told.__setitem__, ["history.0001"])
    assert schema.models["stickers.sticker"].natural_key == ["stamp__code"]
    assert caught.value.place == "models.stickers.sticker.relations.stamp.to"
    assert told["stickers.sticker"] == 'uses "stamp__code", but then there was no history.stamp'


NEEDS_A_LOST_ONE = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = (("needs_a_lost_one", "0000_lost"),)
"""


@pytest.mark.parametrize(
    ("app", "migration", "fault"),
    [
        ("raises", "1 / 0", "ZeroDivisionError: division by zero"),
        ("has_none", "", "BadMigrationError: Migration 0001_initial in app has_none"),
        ("needs_a_lost_one", NEEDS_A_LOST_ONE, "NodeNotFoundError: Migration needs_a_lost_one"),
    ],
)
def test_migrations_that_do_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: str, migration: str, fault: str
) -> None:
    folder = tmp_path / app / "migrations"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").touch()
    (folder / "0001_initial.py").write_text(migration)
    monkeypatch.syspath_prepend(tmp_path)
    with installed(app), pytest.raises(UsageError) as caught:
        schema_from_apps(at=["history.0001"])
    assert f"the project's migrations do not load: {fault}" in caught.value.what
    assert caught.value.remedy
