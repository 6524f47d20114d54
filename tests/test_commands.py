"""The management commands in a real project, as its administrators call them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Project

SETTINGS = """
    SECRET_KEY = "x"
    USE_TZ = True
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    INSTALLED_APPS = ["fastnk.django", "shop"]
    DATABASES = {
        name: {"ENGINE": "django.db.backends.sqlite3", "NAME": name + ".sqlite3"}
        for name in ("default", "other")
    }
"""
SHOP = """
    class Shop(models.Model):
        name = models.CharField(max_length=20, unique=True)
        parent = models.ForeignKey("self", models.CASCADE, null=True)

        def natural_key(self):
            return (self.name,)
"""
LEGACY = [
    {"model": "shop.shop", "pk": 5, "fields": {"name": "b", "parent": 7}},
    {"model": "shop.shop", "pk": 7, "fields": {"name": "a", "parent": None}},
]


class Shell:
    """`python -m django` in the folder of a project."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings"}
        self._environment["PYTHONPATH"] = str(folder)

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        process = self.start(*words)
        out, errors = process.communicate()
        assert process.returncode == code, errors
        return subprocess.CompletedProcess(words, code, out, errors)

    def start(self, *words: str, stdout: Any = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "django", *words],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def names(self, database: str) -> list[tuple[str, str | None]]:
        """The shops in a database, each with its parent."""
        query = """SELECT shop.name, parent.name FROM shop_shop shop
                   LEFT JOIN shop_shop parent ON parent.id = shop.parent_id ORDER BY 1"""
        with closing(sqlite3.connect(self._folder / f"{database}.sqlite3")) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project with two empty databases, of which each test has a copy."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.write(SETTINGS, shop=SHOP)
    (project.folder / "legacy.json").write_text(json.dumps(LEGACY))
    Shell(project.folder).run("migrate", "--run-syncdb", "-v", "0")
    shutil.copyfile(project.folder / "default.sqlite3", project.folder / "other.sqlite3")
    return project.folder


@pytest.fixture
def shell(migrated: Path, project: Project) -> Shell:
    shutil.copytree(migrated, project.folder, dirs_exist_ok=True)
    return Shell(project.folder)


def test_whole_way_by_management_commands(shell: Shell) -> None:
    assert "legacy_database_ids" in shell.run("fastnk_detect", "legacy.json").stdout
    shell.run("fastnk_schema", "-o", "schema.json")
    shell.run("fastnk_convert", "legacy.json", "natural.json", "--schema", "schema.json")
    verified = shell.run("fastnk_verify", "legacy.json", "natural.json", "--schema", "schema.json")
    assert verified.stdout.startswith("faithful")
    done = shell.run("fastnk_restore", "natural.json", "--no-input", "--json")
    assert json.loads(done.stdout)["created"] == 2
    assert shell.names("default") == [("a", None), ("b", "a")]


def test_other_database_and_silence(shell: Shell) -> None:
    words = ["fastnk_restore", "legacy.json", "--noinput", "--database", "other", "-v", "0"]
    assert shell.run(*words).stdout == ""
    assert shell.names("other") == [("a", None), ("b", "a")]
    assert shell.names("default") == []


def test_exit_codes_are_those_of_the_command_line(shell: Shell, project: Project) -> None:
    assert "CommandError: FNK101" in shell.run("fastnk_restore", "legacy.json", code=2).stderr
    dangling = [{"model": "shop.shop", "pk": 1, "fields": {"name": "a", "parent": 9}}]
    (project.folder / "dangling.json").write_text(json.dumps(dangling))
    refused = shell.run("fastnk_restore", "dangling.json", "--no-input", code=4)
    assert "FNK301" in refused.stderr
    shell.run("fastnk_schema", "-o", "schema.json")
    words = ["dangling.json", "kept.json", "--schema", "schema.json", "--on-unresolved", "keep"]
    shell.run("fastnk_convert", *words, code=3)
    assert "references that stay ids: 1" in shell.run("fastnk_verify", *words, code=3).stdout
    shell.run("fastnk_verify", *words[:-2], code=5)
    assert "Traceback" not in refused.stderr


def test_failure_is_reported_and_one_json_document(shell: Shell, project: Project) -> None:
    dangling = [{"model": "shop.shop", "pk": pk, "fields": {"parent": 99}} for pk in range(25)]
    (project.folder / "dangling.json").write_text(json.dumps(dangling))
    words = ["fastnk_restore", "dangling.json", "--dry-run", "--json"]
    assert "--report FILE lists all of them" in (refused := shell.run(*words, code=4)).stderr
    shell.run(*words, "--report", "report.json", code=4)
    report = (project.folder / "report.json").read_text()
    assert json.loads(report) == json.loads(refused.stdout)
    assert json.loads(report)["error"]["code"] == "FNK300"


def test_output_on_standard_output_holds_no_report(shell: Shell) -> None:
    shell.run("fastnk_schema", "-o", "schema.json")
    done = shell.run("fastnk_convert", "legacy.json", "-", "--schema", "schema.json")
    assert len(json.loads(done.stdout)) == len(LEGACY)
    assert "2 records" in done.stderr


def test_next_command_is_a_management_command(shell: Shell) -> None:
    done = shell.run("fastnk_restore", "legacy.json", "--dry-run")
    command = "fastnk_restore legacy.json --database default --settings settings"
    assert done.stderr == f"next: python manage.py {command}\n"
    done = shell.run("fastnk_detect", "legacy.json")
    command = "fastnk_schema --settings settings -o schema.json"
    assert done.stderr == f"next: python manage.py {command}\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(shell: Shell, project: Project, number: signal.Signals, code: int) -> None:
    pipe = project.folder / "backup.pipe"
    os.mkfifo(pipe)
    process = shell.start("fastnk_detect", pipe.name)
    with pipe.open("wb", buffering=0) as writer:  # opens when the reader does
        writer.write(b"[")
        time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors.splitlines()[-1].endswith("nothing was changed")
    assert "Traceback" not in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_standard_output_that_is_full(shell: Shell) -> None:
    with Path("/dev/full").open("w") as full:
        process = shell.start("fastnk_restore", "legacy.json", "--no-input", stdout=full)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "CommandError: FNK130 done, but standard output takes no report" in errors
    assert shell.names("default") == [("a", None), ("b", "a")]


def test_settings_without_a_database(shell: Shell, project: Project) -> None:
    (project.folder / "bare.py").write_text("INSTALLED_APPS = ['fastnk.django', 'shop']")
    done = shell.run("fastnk_restore", "legacy.json", "--settings", "bare", code=2)
    assert 'the settings say nothing of a database "default"' in done.stderr
    assert "--settings mysite.settings" in done.stderr


def test_help_is_in_the_words_of_django_and_of_the_verb(shell: Shell) -> None:
    shown = shell.run("fastnk_restore", "--help").stdout
    assert "--dry-run" in shown
    assert "--verbosity" in shown


def test_migrations_that_are_not_applied_are_told_first(shell: Shell, project: Project) -> None:
    settings = project.folder / "settings.py"
    settings.write_text(
        settings.read_text().replace(
            '"shop"]', '"shop", "django.contrib.auth", "django.contrib.contenttypes"]'
        )
    )
    shell.run("migrate", "contenttypes", "0001", "-v", "0")
    refused = shell.run("fastnk_restore", "legacy.json", "--no-input", code=1)
    assert "migrations are not applied" in refused.stderr
    assert "python manage.py migrate" in refused.stderr
    assert shell.names("default") == []


def test_tables_that_migrations_did_not_make_are_restored_into(
    shell: Shell, project: Project
) -> None:
    settings = project.folder / "settings.py"
    kept = settings.read_text()
    project.write(kept.replace('"shop"]', '"shop", "django.contrib.contenttypes"]'))
    unmigrated = settings.read_text() + '\nMIGRATION_MODULES = {"contenttypes": None}\n'
    (project.folder / "evolved.py").write_text(unmigrated)
    shell.run("migrate", "--run-syncdb", "-v", "0", "--settings", "evolved")
    shell.run("fastnk_restore", "legacy.json", "--no-input")
    assert shell.names("default") == [("a", None), ("b", "a")]

    with closing(sqlite3.connect(project.folder / "default.sqlite3")) as database:
        database.execute("ALTER TABLE django_content_type RENAME COLUMN model TO old")
    refused = shell.run("fastnk_restore", "legacy.json", "--no-input", code=1)
    assert "2 migrations are not applied" in refused.stderr


def add_router(project: Project, may_migrate: str) -> None:
    """Have a router of the project say whether rows of an app may be in a database."""
    (project.folder / "routers.py").write_text(
        "class Router:\n"
        "    def allow_migrate(self, db, app_label, **hints):\n"
        f"        return {may_migrate}\n"
    )
    with (project.folder / "settings.py").open("a") as settings:
        settings.write('\nDATABASE_ROUTERS = ["routers.Router"]\n')


def test_models_of_another_database_are_refused(shell: Shell, project: Project) -> None:
    add_router(project, "db == 'other' or app_label != 'shop'")
    refused = shell.run("fastnk_restore", "legacy.json", "--no-input", code=4)
    assert 'keep its rows out of database "default"' in refused.stderr
    shell.run("fastnk_restore", "legacy.json", "--no-input", "--database", "other")
    assert shell.names("other") == [("a", None), ("b", "a")]


def test_code_of_the_project_that_fails_is_told(shell: Shell, project: Project) -> None:
    add_router(project, "hints[0]")
    words = ["fastnk_restore", "legacy.json", "--no-input", "--json"]
    done = shell.run(*words, code=1)
    assert "CommandError: FNK140 KeyError: 0\n  at " in done.stderr
    assert "routers.py, line 3\n  try: --traceback shows" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "FNK140"
    assert "in allow_migrate" in shell.run(*words, "--traceback", code=1).stderr


def test_log_of_the_admin_follows_its_rows(shell: Shell, project: Project) -> None:
    project.write(
        SETTINGS.replace(
            '"shop"]',
            '"shop", *(f"django.contrib.{app}" for app in ("admin", "auth", "contenttypes"))]',
        )
        + '    SILENCED_SYSTEM_CHECKS = [f"admin.E{n}" for n in range(403, 411)]\n'
    )
    (project.folder / "default.sqlite3").unlink()
    shell.run("migrate", "--run-syncdb", "-v", "0")

    def entry(pk: int, kind: int, object_id: str | None) -> dict[str, Any]:
        fields = {"action_time": "2001-02-03T04:05:06Z", "user": 7, "content_type": kind}
        fields |= {"object_id": object_id, "object_repr": "x", "action_flag": 2}
        return {"model": "admin.logentry", "pk": pk, "fields": fields}

    backup = [
        *(entry(pk, kind, id_) for pk, kind, id_ in ((1, 44, "7"), (2, 44, "3"), (3, 45, "7"))),
        entry(4, 44, None),
        {
            "model": "contenttypes.contenttype",
            "pk": 44,
            "fields": {"app_label": "auth", "model": "user"},
        },
        {
            "model": "contenttypes.contenttype",
            "pk": 45,
            "fields": {"app_label": "old", "model": "x"},
        },
        {"model": "auth.user", "pk": 7, "fields": {"username": "ann", "password": "!"}},
    ]
    (project.folder / "legacy.json").write_text(json.dumps(backup))
    with closing(sqlite3.connect(project.folder / "default.sqlite3")) as connection:
        names = ("username", "password", "first_name", "last_name", "email", "date_joined")
        flags = ("is_superuser", "is_staff", "is_active")
        row = (7, "zoe", *[""] * 4, "2001-02-03", *[0] * 3)
        connection.execute(
            f"INSERT INTO auth_user (id, {', '.join(names + flags)}) VALUES ({'?, ' * 9}?)", row
        )
        connection.commit()
    for created in (6, 0):
        words = ["legacy.json", "--no-input", "--verify", "--json"]
        report = json.loads(shell.run("fastnk_restore", *words).stdout)
        assert (report["created"], report["generic_kept"]) == (created, 2)
        with closing(sqlite3.connect(project.folder / "default.sqlite3")) as connection:
            query = "SELECT id FROM auth_user WHERE username = 'ann'"
            ((ann,),) = connection.execute(query).fetchall()
            query = "SELECT object_id FROM django_admin_log ORDER BY id"
            assert connection.execute(query).fetchall() == [(str(ann),), ("3",), ("7",), (None,)]
        assert ann not in (3, 7)


def test_swapped_user(shell: Shell, project: Project) -> None:
    project.write(
        SETTINGS.replace(
            '"shop"]', '"shop", "people", "django.contrib.auth", "django.contrib.contenttypes"]'
        )
        + '    AUTH_USER_MODEL = "people.Member"\n',
        people="""
            from django.contrib.auth.models import AbstractUser

            class Member(AbstractUser):
                boss = models.ForeignKey("self", models.CASCADE, null=True)
        """,
    )
    (project.folder / "default.sqlite3").unlink()
    shell.run("migrate", "--run-syncdb", "-v", "0")
    plain = {"password": "!", "date_joined": "2001-02-03T04:05:06Z"}
    records = [
        {"model": "people.member", "pk": 3, "fields": {"username": "b", "boss": 9, **plain}},
        {"model": "people.member", "pk": 9, "fields": {"username": "a", "is_staff": True, **plain}},
    ]
    (project.folder / "members.json").write_text(json.dumps(records))
    done = shell.run("fastnk_restore", "members.json", "--no-input", "--verify", "--json")
    report = json.loads(done.stdout)
    assert (report["created"], report["verified"]) == (2, True)
    assert [one["change"] for one in report["privileges"]] == ["is_staff, as a new row"]
    (project.folder / "users.json").write_text(
        json.dumps([{"model": "auth.user", "pk": 1, "fields": {"username": "x", **plain}}])
    )
    words = ["fastnk_restore", "users.json", "--no-input", "--on-unknown-model", "keep"]
    assert "swapped out for people.Member" in shell.run(*words, code=4).stderr
