"""Backups that older versions of Django and of projects wrote, in projects of today."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Project

SETTINGS = """
    SECRET_KEY = "x"
    USE_TZ = {use_tz}
    TIME_ZONE = "Europe/Berlin"
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    INSTALLED_APPS = [
        "django.contrib.contenttypes", "django.contrib.auth", "fastnk.django", "diary"
    ]
    MIGRATION_MODULES = {{"contenttypes": None, "auth": None}}
    DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}}}
"""
DIARY = """
    from django.contrib.auth.models import User

    class Entry(models.Model):
        at = models.DateTimeField(null=True)
        mood = models.BooleanField(null=True)
        took = models.DurationField(null=True)
        facts = models.JSONField(null=True)
        readers = models.ManyToManyField(User)

    class Page(Entry):
        number = models.IntegerField()
"""
RESTORE = """
    import django, fastnk
    django.setup()
    from django.core.management import call_command
    from diary.models import Entry
    call_command("migrate", run_syncdb=True, verbosity=0)
    {prepare}
    backup = {backup!r}
    done = [fastnk.restore(backup, **{options!r}) for _ in range(2)]
    rows = Entry.objects.order_by("pk").values_list("at", "mood", "took", "facts")
    print(json.dumps({{
        "created": [report.created for report in done],
        "changed": done[1].updated,
        "rows": [[str(at), mood, str(took), facts] for at, mood, took, facts in rows],
        "readers": [
            list(one.readers.values_list("username", flat=True)) for one in Entry.objects.all()
        ],
    }}))
"""


def restored_twice(
    project: Project,
    *records: dict[str, Any],
    use_tz: bool = True,
    prepare: str = "",
    **options: Any,
) -> dict[str, Any]:
    """What is there after the same backup was restored twice, and what each time did."""
    project.write(SETTINGS.format(use_tz=use_tz), diary=DIARY)
    backup = json.dumps(records).encode()
    done = project.run(
        "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\n"
        + RESTORE.format(backup=backup, options=options, prepare=prepare).replace("\n    ", "\n")
    )
    assert isinstance(done, dict)
    assert done["created"][1] == done["changed"] == 0
    return done


def entry(pk: int, **fields: Any) -> dict[str, Any]:
    return {"model": "diary.entry", "pk": pk, "fields": {"readers": [], **fields}}


def user(pk: int, name: str, **fields: Any) -> dict[str, Any]:
    plain = {"username": name, "password": "!", "date_joined": "2001-02-03T04:05:06Z"}
    return {"model": "auth.user", "pk": pk, "fields": {**plain, **fields}}


def test_times_without_zone_are_of_the_zone_of_the_project(project: Project) -> None:
    """Of the hour that comes twice it is the first, as Django's own field has it."""
    times = ["2021-07-01T12:00:00", "2021-01-01T12:00:00", "2021-10-31T02:30:00", None]
    records = [entry(number, at=at) for number, at in enumerate(times, start=1)]
    assert [row[0] for row in restored_twice(project, *records)["rows"]] == [
        "2021-07-01 10:00:00+00:00",
        "2021-01-01 11:00:00+00:00",
        "2021-10-31 00:30:00+00:00",
        "None",
    ]


def test_times_with_zone_become_those_of_the_clock(project: Project) -> None:
    """Two moments become one where the clock shows an hour twice; they are found again all the
    same."""
    times = ["2021-07-01T10:00:00Z", "2021-10-31T00:30:00Z", "2021-10-31T01:30:00Z"]
    records = [entry(number, at=at) for number, at in enumerate(times, start=1)]
    rows = restored_twice(project, *records, use_tz=False)["rows"]
    assert [row[0] for row in rows] == ["2021-07-01 12:00:00", *["2021-10-31 02:30:00"] * 2]


FACTS = ['{"a": 1}', "[]", '"text"', "text", "5", 5, None, True]
"""As the package `jsonfield` wrote objects, arrays and texts; and what was never in JSON."""


def test_what_texts_hold_is_read_on_request(project: Project) -> None:
    records = [entry(number, facts=facts) for number, facts in enumerate(FACTS, start=1)]
    rows = restored_twice(project, *records, on_json_text="read")["rows"]
    assert [row[3] for row in rows] == [{"a": 1}, [], "text", "text", 5, 5, None, True]


def test_children_that_repeat_the_links_of_their_parents(project: Project) -> None:
    """Django 2.2 writes many-to-many fields of parents into records of children, too."""
    prepare = (
        "from django.contrib.auth.models import User; User.objects.create(username='stranger')"
    )
    records = [
        user(1, "anna"),
        user(2, "ben"),
        entry(7, took="-1 00:00:00.000001", mood=True, readers=[1, 2]),
        entry(8, took="10000 00:00:05.123456", readers=[2]),
        {"model": "diary.page", "pk": 7, "fields": {"number": 3, "readers": [1, 2]}},
    ]
    done = restored_twice(project, *records, prepare=prepare)
    assert done["rows"] == [
        ["None", True, "-1 day, 0:00:00.000001", None],
        ["None", None, "10000 days, 0:00:05.123456", None],
    ]
    assert done["readers"] == [["anna", "ben"], ["ben"]]


def test_permissions_of_models_that_are_gone(project: Project) -> None:
    """A dump with natural keys and without content types and permissions, as the manual of Django
    has it."""
    known, gone = ["view_entry", "diary", "entry"], ["add_poem", "diary", "poem"]
    records = [user(1, "anna", user_permissions=[known, gone]), entry(1, readers=[["anna"]])]
    with pytest.raises(AssertionError, match="FNK410 no such row of auth"):
        restored_twice(project, *records)
    (project.folder / "db.sqlite3").unlink()
    policies = "fastnk.Policies(on_unresolved='null')"
    done = project.run(f"""
        import os
        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        import django, fastnk
        django.setup()
        from django.contrib.auth.models import User
        from django.core.management import call_command
        call_command("migrate", run_syncdb=True, verbosity=0)
        backup = {json.dumps(records).encode()!r}
        reports = [fastnk.restore(backup, policies={policies}) for _ in range(2)]
        held = User.objects.get().user_permissions.values_list("codename", flat=True)
        print(json.dumps([
            list(held), [[one.let_go, one.created, one.updated, one.complete] for one in reports]
        ]))
    """)
    let_go = {"auth.user.user_permissions": 1}
    assert done == [["view_entry"], [[let_go, 2, 0, False], [let_go, 0, 0, False]]]
