"""The management commands in a real project, as its administrators call them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
        done = subprocess.run(
            [sys.executable, "-m", "django", *words],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    def names(self, database: str) -> list[tuple[str, str | None]]:
        script = (
            "import django, json; django.setup(); from shop.models import Shop;"
            f"rows = Shop.objects.using({database!r}).values_list('name', 'parent__name');"
            "print(json.dumps(sorted(map(list, rows))))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return [tuple(row) for row in json.loads(done.stdout)]


@pytest.fixture
def shell(project: Project) -> Shell:
    project.write(SETTINGS, shop=SHOP)
    (project.folder / "legacy.json").write_text(json.dumps(LEGACY))
    shell = Shell(project.folder)
    for database in ("default", "other"):
        shell.run("migrate", "--run-syncdb", "--database", database, "-v", "0")
    return shell


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
    assert "Traceback" not in refused.stderr


def test_help_is_in_the_words_of_django_and_of_the_verb(shell: Shell) -> None:
    shown = shell.run("fastnk_restore", "--help").stdout
    assert "--dry-run" in shown
    assert "--verbosity" in shown
