"""Restores that are interrupted: the database is as it was, or the outcome is told."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.db.models.signals import post_save

import fastnk
from fastnk.django.restore.loader import Loader
from fastnk.django.restore.report import RestoreOptions
from fastnk.errors import NotRestoredError, OutcomeUnknownError, OutputError, RestoreError
from tests import databases
from tests.project.zoo import models as zoo
from tests.test_restore import keeper, load, record
from tests.zoo import SCHEMA, rows, tables


class Relay:
    """Passes on what clients and the socket of a server say to each other."""

    def __init__(self, listener: socket.socket, server: str) -> None:
        self._server = server
        self._listener = listener
        self._sockets = [listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    def _start(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                if self._refuses(client):
                    continue
                server = socket.socket(socket.AF_UNIX)
                self._sockets.append(server)
                server.connect(self._server)
                self._start(self._pass_on, client, server)
                self._start(self._pass_on, server, client)

    def _refuses(self, client: socket.socket) -> bool:
        return False

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        raise NotImplementedError


class Wire(Relay):
    """Cut where `cut` says, at the first COMMIT."""

    def __init__(self, own: str, server: str, commit: bytes, cut: str) -> None:
        self._commit = commit
        self._cut = cut
        self._is_cut = False
        self._unheard: set[socket.socket] = set()
        """The server's end where COMMIT went; its answer is the first that is not passed on."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(own)
        listener.listen()
        super().__init__(listener, server)

    def _refuses(self, client: socket.socket) -> bool:
        if self._is_cut and self._cut == "for good":
            client.shutdown(socket.SHUT_RDWR)
            return True
        return False

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if source in self._unheard:
                    break
                if self._commit in data and not self._is_cut:
                    self._is_cut = True
                    if self._cut == "before":
                        break
                    self._unheard.add(sink)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


SOCKETS = {"postgres": ("/.s.PGSQL.5432", b"COMMIT"), "mysql": ("", b"\x03COMMIT")}
"""What follows on HOST in the name of a server's socket, and how a COMMIT looks there."""


@pytest.fixture
def cut(request: pytest.FixtureRequest, engine: str, new: str) -> Iterator[str]:
    """The alias of a database whose wire is cut at the first COMMIT."""
    if engine not in SOCKETS:
        pytest.skip("there is no wire")
    behind, commit = SOCKETS[engine]
    settings = connections[new].settings_dict
    host = settings["HOST"]
    with tempfile.TemporaryDirectory(prefix="wire-") as folder:
        own = folder if behind else f"{folder}/socket"
        wire = Wire(own + behind, host + behind, commit, request.param)
        settings["HOST"] = own
        yield new
        databases.close(new)
        wire.close()
    settings["HOST"] = host


@pytest.mark.parametrize("cut", ["behind"], indirect=True)
def test_lost_answer_to_commit_is_looked_up(cut: str) -> None:
    assert load(cut, [keeper("Anna")]).created == 1
    assert rows(zoo.Keeper, cut).get().name == "Anna"


@pytest.mark.parametrize("cut", ["before"], indirect=True)
def test_commit_that_never_arrived(cut: str) -> None:
    with pytest.raises(RestoreError, match="nothing was changed"):
        load(cut, [keeper("Anna")])
    assert not rows(zoo.Keeper, cut).exists()


@pytest.mark.parametrize("cut", ["for good"], indirect=True)
def test_unknown_outcome_is_called_unknown(cut: str) -> None:
    with pytest.raises(OutcomeUnknownError, match="whole, or not at all") as caught:
        load(cut, [keeper("Anna")])
    assert "fastnk_ledger WHERE token" in str(caught.value)


class DeadHost(Relay):
    """A host that is reached by TCP and vanishes when it reads `last_words`.

    From then on the kernel drops whatever comes in before it is acknowledged, so that to the client
    the other side is not closed and not slow, but gone.
    """

    def __init__(self, server: str, last_words: bytes) -> None:
        self._last_words = last_words
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        super().__init__(listener, server)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self._last_words in data and source.family == socket.AF_INET:
                    drop_all(source)
                    sink.shutdown(socket.SHUT_RDWR)
                    return
                sink.sendall(data)


def drop_all(end: socket.socket) -> None:
    """Let the kernel drop every packet for a socket, by a filter that returns 0 bytes of it."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    end.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 1, ctypes.addressof(program)))


def may_drop() -> bool:
    """Whether this system has such filters, and this user may use them."""
    try:
        with socket.socket() as end:
            drop_all(end)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def reached_by(alias: str, port: int, **options: int | str) -> Iterator[None]:
    """Connections of `alias` go to a port of this machine."""
    databases.close(alias)
    settings = connections[alias].settings_dict
    before = {name: settings[name] for name in ("HOST", "PORT", "OPTIONS")}
    settings |= {"HOST": "127.0.0.1", "PORT": port, "OPTIONS": options}
    try:
        yield
    finally:
        databases.close(alias)
        settings.update(before)


@pytest.mark.skipif(not may_drop(), reason="no filter of a socket here, or not for this user")
@pytest.mark.parametrize("last_words", [b"COPY", b"pg_try_advisory"])
def test_host_that_vanishes_ends_the_restore(
    postgres: databases.Postgres, last_words: bytes
) -> None:
    """In seconds instead of minutes."""
    alias = "postgres_new"
    postgres.renew(alias)
    records = [keeper(f"keeper {n}") for n in range(5000)]
    before = tables(alias)
    host = DeadHost(connections[alias].settings_dict["HOST"] + SOCKETS["postgres"][0], last_words)
    quick = {"keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 2}
    with (
        reached_by(alias, host.port, **quick, tcp_user_timeout=2000, sslmode="disable"),
        pytest.raises(RestoreError, match="timed out") as caught,
    ):
        load(alias, records)
    host.close()
    assert "see that the server runs" in str(caught.value)
    assert tables(alias) == before
    assert load(alias, records).created == len(records)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name the options otherwise")
def test_every_connection_of_a_restore_notices_dead_hosts(postgres: databases.Postgres) -> None:
    """The options as the kernel has them, of the socket that the restore used."""
    alias = "postgres_new"
    postgres.renew(alias)
    host = DeadHost(
        connections[alias].settings_dict["HOST"] + SOCKETS["postgres"][0], b"no such words"
    )
    with reached_by(alias, host.port, keepalives_count=5):
        assert load(alias, [keeper("Anna")]).created == 1
        with socket.socket(fileno=os.dup(connections[alias].connection.fileno())) as end:
            assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 5  # the project's own
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
    host.close()


def test_server_that_does_not_answer(postgres: databases.Postgres) -> None:
    """It takes the connection and says nothing."""
    alias = "postgres_new"
    postgres.renew(alias)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        reached_by(alias, silent.getsockname()[1], connect_timeout=2),
        pytest.raises(RestoreError, match="timeout") as caught,
    ):
        load(alias, [keeper("Anna")])
    assert "see that the server runs" in str(caught.value)


def test_second_restore_leaves_no_row_in_the_ledger(new: str) -> None:
    for _ in range(2):
        load(new, [keeper("Anna")])
    with connections[new].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM fastnk_ledger")
        assert cursor.fetchone() == (1,)


SCRIPT = """
import json, os, sys, time
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.project.settings"
from django.conf import settings
from tests import databases
settings.DATABASES.update(databases.settings())
alias, options = sys.argv[1], json.loads(sys.argv[2])
settings.DATABASES[alias].update(options)
import django
django.setup()
from fastnk import cli
from fastnk.django.restore import restoring
import fastnk.restore
restoring.FEWEST_ROWS = int(sys.argv[4])
restore = sys.modules["fastnk.restore"]
whole = restore.Conversion.blocks
def slowly(conversion, phase, **options):
    for block in whole(conversion, phase, **options):
        yield block
        if phase in ("insert", "write"):
            print("writing", flush=True)
            time.sleep(60)
restore.Conversion.blocks = slowly
sys.exit(cli.main(["restore", sys.argv[3], "--no-input", "--database", alias]))
"""


@pytest.mark.parametrize("fewest_ahead", ["1", "10000"])
@pytest.mark.parametrize(("number", "code"), [("KILL", -9), ("INT", 130), ("TERM", 143)])
def test_end_of_the_process_in_the_midst_of_writing(
    new: str, tmp_path: Path, fewest_ahead: str, number: str, code: int
) -> None:
    """Also where another process makes the rows ready."""
    backup = tmp_path / "backup.json"
    backup.write_text(json.dumps([keeper(f"keeper {n}") for n in range(1200)]))
    before = tables(new)
    settings = {name: str(connections[new].settings_dict[name]) for name in ("NAME", "HOST")}
    databases.close(new)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, new, json.dumps(settings), str(backup), fewest_ahead],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(getattr(signal, f"SIG{number}"))
        _, said = process.communicate(timeout=120)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert ("nothing was changed" in said) == (number != "KILL")
    assert tables(new) == before
    assert load(new, json.loads(backup.read_text())).created == 1200


def test_rows_that_the_database_changes_are_found_by_verify(new: str) -> None:
    trigger = {
        "mysql": """
            CREATE TRIGGER louder BEFORE INSERT ON zoo_keeper
            FOR EACH ROW SET NEW.name = upper(NEW.name)""",
        "sqlite": """
            CREATE TRIGGER louder AFTER INSERT ON zoo_keeper BEGIN
            UPDATE zoo_keeper SET name = upper(name) WHERE id = NEW.id; END""",
        "postgresql": """
            CREATE FUNCTION louder() RETURNS trigger AS $$
            BEGIN NEW.name = upper(NEW.name); RETURN NEW; END $$ LANGUAGE plpgsql;
            CREATE TRIGGER louder BEFORE INSERT ON zoo_keeper
            FOR EACH ROW EXECUTE FUNCTION louder()""",
    }
    options = RestoreOptions(verify=True)
    assert load(new, [keeper("ANNA")], options=options).verified
    before = tables(new)
    with connections[new].cursor() as cursor:
        cursor.execute(trigger[connections[new].vendor])
    try:
        with pytest.raises(NotRestoredError, match=r"1 records (are not there|clash)") as caught:
            load(new, [keeper("Bela")], options=options)
        assert caught.value.exit_code == 5
        assert "zoo.keeper" in str(caught.value)
        assert tables(new) == before
    finally:
        with connections[new].cursor() as cursor:
            cursor.execute("DROP TRIGGER louder" + (" ON zoo_keeper" if "postgres" in new else ""))


def test_verify_names_the_fields_that_differ(sqlite: databases.SQLite) -> None:
    alias = "sqlite_new"
    sqlite.renew(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute(
            """CREATE TRIGGER fires AFTER INSERT ON zoo_keeper BEGIN
            UPDATE zoo_keeper SET hired = NULL WHERE id = NEW.id; END"""
        )
    anna = keeper("Anna", hired="2001-02-03")
    with pytest.raises(NotRestoredError) as caught:
        load(alias, [anna], options=RestoreOptions(verify=True))
    assert "at zoo.keeper (hired)" in str(caught.value)
    assert "--exclude app.model.field" in str(caught.value.remedy)
    backup = json.dumps([anna]).encode()
    report = fastnk.restore(backup, database=alias, exclude=["zoo.keeper.hired"], verify=True)
    assert report.created == 1


EVENT = record("zoo.event", 7, uuid=str(UUID(int=7)), text="birth")


@contextlib.contextmanager
def trigger_on_events(alias: str, does: str) -> Iterator[None]:
    """One of SQLite or PostgreSQL, which fires behind each new row."""
    begin, end = "CREATE TRIGGER fires AFTER INSERT ON zoo_event FOR EACH ROW", "DROP TRIGGER fires"
    if connections[alias].vendor == "sqlite":
        statements = [f"{begin} BEGIN {does}; END"]
    else:
        body = f"BEGIN {does}; RETURN NULL; END"
        statements = [
            f"CREATE FUNCTION fires() RETURNS trigger AS $$ {body} $$ LANGUAGE plpgsql",
            f"{begin} EXECUTE FUNCTION fires()",
        ]
        end = "DROP FUNCTION fires CASCADE"
    with connections[alias].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        try:
            yield
        finally:
            cursor.execute(end)


@pytest.mark.parametrize("existing", ["update", "keep"])
@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("UPDATE zoo_event SET text = 'death' WHERE id = NEW.id", "0 records .* and 1 differ"),
        ("UPDATE zoo_event SET id = 900 WHERE id = NEW.id", "1 rows have other pks"),
        ("DELETE FROM zoo_event WHERE id = NEW.id", "1 records are not there"),
    ],
)
def test_verify_finds_what_triggers_do(new: str, existing: Any, does: str, said: str) -> None:
    if connections[new].vendor == "mysql":
        pytest.skip("its triggers change no table whose rows fire them")
    load(new, [keeper("Anna"), record("zoo.event", 1, uuid=str(UUID(int=1)), text="birth")])
    before = tables(new)
    changed = record("zoo.event", 1, uuid=str(UUID(int=1)), text="changed")
    options = RestoreOptions(verify=True, on_existing=existing)
    with trigger_on_events(new, does):
        with pytest.raises(NotRestoredError, match=f"(?s){said}"):
            load(new, [keeper("Anna"), changed, EVENT], options=options)
        assert tables(new) == before
    assert load(new, [keeper("Anna"), changed, EVENT], options=options).verified


def test_rows_that_triggers_make_are_told_by_verify(new: str) -> None:
    if connections[new].vendor == "mysql":
        pytest.skip("its triggers are written otherwise")
    columns = "name, joined, seen"
    does = f"INSERT INTO zoo_keeper ({columns}) VALUES (NEW.text, '2001-02-03', '2001-02-03')"
    with trigger_on_events(new, does):
        report = load(new, [keeper("Anna"), EVENT], options=RestoreOptions(verify=True))
    assert report.further_rows == {"zoo.keeper": 1}


def test_rows_that_receivers_make_are_told_by_verify(new: str) -> None:
    def saved(instance: zoo.Event, using: str, **more: Any) -> None:
        rows(zoo.Memo, using).create(text=instance.text)

    records = [EVENT, record("zoo.memo", 700, text="welcome")]
    options = RestoreOptions(verify=True, signals=True)
    post_save.connect(saved, zoo.Event)
    try:
        report = load(new, records, options=options)
    finally:
        post_save.disconnect(saved, zoo.Event)
    assert report.verified
    assert report.further_rows == {"zoo.memo": 1}


def test_rows_that_a_trigger_makes_first_are_to_be_left_out(sqlite: databases.SQLite) -> None:
    alias = "sqlite_new"
    sqlite.renew(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute(
            """CREATE TRIGGER fills AFTER INSERT ON zoo_keeper BEGIN
            INSERT INTO zoo_memo (id, text) VALUES (1, NEW.name); END"""
        )
    with pytest.raises(RestoreError, match=r"refused zoo\.memo") as caught:
        load(alias, [keeper("Anna"), record("zoo.memo", 1, text="Anna")])
    assert "--exclude zoo.memo" in str(caught.value)
    assert not tables(alias).get("zoo_keeper")


def test_full_disk_in_sqlite(sqlite: databases.SQLite) -> None:
    """Its limit of pages raises what a full disk does."""
    alias = "sqlite_new"
    sqlite.renew(alias)
    load(alias, [keeper("Anna")])
    before = tables(alias)
    records = [keeper(f"keeper {n}") for n in range(20_000)]
    with connections[alias].cursor() as cursor:
        (pages,) = cursor.execute("PRAGMA page_count").fetchone()
        cursor.execute(f"PRAGMA max_page_count = {pages + 50}")
    with pytest.raises(RestoreError, match="disk is full; everything was rolled back") as caught:
        load(alias, records)
    assert "make room on the disk of the database" in str(caught.value)
    assert tables(alias) == before
    databases.close(alias)
    assert tables(alias) == before
    assert load(alias, records).created == len(records)


@pytest.mark.parametrize(
    ("name", "said"),
    [("/no/such/file", "unable to open database file"), ("?mode=ro", "readonly database")],
)
def test_file_that_cannot_be_written(sqlite: databases.SQLite, name: str, said: str) -> None:
    alias = "sqlite_new"
    sqlite.renew(alias)
    settings = connections[alias].settings_dict
    databases.close(alias)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(settings, "NAME", f"file:{settings['NAME']}{name}")
        patch.setitem(settings, "OPTIONS", {"uri": True})
        with pytest.raises(RestoreError, match=said) as caught:
            load(alias, [keeper("Anna")])
        databases.close(alias)
    assert "may be written" in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "said", "remedy"),
    [
        ("RAISE 'no space left' USING ERRCODE = 'disk_full'", "no space left", "make room on"),
        (
            "RAISE 'a standby' USING ERRCODE = 'read_only_sql_transaction'",
            "a standby",
            "may be written",
        ),
        (
            "PERFORM pg_terminate_backend(pg_backend_pid())",
            "terminating|closed the connection",  # whichever the driver notices first
            "the server runs",
        ),
        ("RAISE 'not today' USING ERRCODE = 'check_violation'", "not today", "mend the backup"),
        ("RAISE 'a circle' USING ERRCODE = 'deadlock_detected'", "a circle", "no other session"),
        ("RAISE 'at once' USING ERRCODE = 'serialization_failure'", "at once", "no other session"),
        ("SET LOCAL statement_timeout = 1; PERFORM pg_sleep(9)", "timeout", "a timeout of the"),
        ("RAISE 'no right' USING ERRCODE = '42501'", "no right", "as a user who may"),
    ],
)
def test_faults_of_a_server_say_what_to_do(
    postgres: databases.Postgres, fault: str, said: str, remedy: str
) -> None:
    alias = "postgres_new"
    postgres.renew(alias)
    load(alias, [keeper("Anna")])
    before = tables(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute(f"""
            CREATE FUNCTION fail() RETURNS trigger AS $$ BEGIN {fault}; RETURN NEW; END $$
            LANGUAGE plpgsql;
            CREATE TRIGGER fail BEFORE INSERT ON zoo_keeper FOR EACH ROW
            WHEN (NEW.name = 'keeper 3000') EXECUTE FUNCTION fail()""")
    try:
        with pytest.raises(RestoreError, match=said) as caught:
            load(alias, [keeper(f"keeper {n}") for n in range(5000)])
        assert remedy in str(caught.value)
        databases.close(alias)
        assert tables(alias) == before
    finally:
        databases.close(alias)
        with connections[alias].cursor() as cursor:
            cursor.execute("DROP TRIGGER fail ON zoo_keeper; DROP FUNCTION fail()")


@pytest.fixture
def checked(request: pytest.FixtureRequest, postgres: databases.Postgres) -> Iterator[str]:
    """The name of a foreign key that is checked as the parameter says, of memos to keepers."""
    alias = "postgres_new"
    postgres.renew(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'zoo_memo'::regclass"
            " AND confrelid = 'zoo_keeper'::regclass"
        )
        (name,) = cursor.fetchone()
        change = f"ALTER TABLE zoo_memo ALTER CONSTRAINT {name}"
        cursor.execute(f"{change} {request.param}")
        yield name
        cursor.execute(f"{change} DEFERRABLE INITIALLY DEFERRED")


MEMO_FIRST = [record("zoo.memo", 1, text="a", keeper=["Anna"]), keeper("Anna")]


@pytest.mark.parametrize("checked", ["DEFERRABLE INITIALLY IMMEDIATE"], indirect=True)
@pytest.mark.usefixtures("checked")
def test_references_that_can_wait_are_checked_at_the_end() -> None:
    assert load("postgres_new", MEMO_FIRST).created == 2


@pytest.mark.parametrize("checked", ["NOT DEFERRABLE"], indirect=True)
def test_references_that_cannot_wait(checked: str) -> None:
    alias = "postgres_new"
    before = tables(alias)
    with pytest.raises(
        RestoreError, match=rf"refused zoo\.memo: .* foreign key .*{checked}"
    ) as caught:
        load(alias, MEMO_FIRST)
    assert tables(alias) == before
    _, _, statement = caught.value.remedy.partition(": ")
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)
    assert load(alias, MEMO_FIRST).created == 2


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (1114, "make room on"),
        (1205, "no other session"),
        (1213, "no other session"),
        (1290, "may be written"),
        (1142, "as a user who may"),
        (1054, "manage.py migrate"),
        (1927, "the server runs"),
        (1048, "mend the backup"),
    ],
)
def test_faults_of_mysql_say_what_to_do(mysql: databases.MySQL, number: int, remedy: str) -> None:
    alias = "mysql_new"
    mysql.renew(alias)
    before = tables(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute(f"""
            CREATE TRIGGER fail BEFORE INSERT ON zoo_keeper FOR EACH ROW
            IF NEW.name = 'keeper 3000' THEN
            SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'not today';
            END IF""")
    try:
        with pytest.raises(RestoreError, match="not today") as caught:
            load(alias, [keeper(f"keeper {n}") for n in range(5000)])
        assert remedy in str(caught.value)
        assert tables(alias) == before
    finally:
        with connections[alias].cursor() as cursor:
            cursor.execute("DROP TRIGGER fail")


def test_rows_that_another_session_has_locked(new: str) -> None:
    """SQLite, which has but one lock for all, takes that of restores at first."""
    waits = {
        "postgresql": "SET lock_timeout = 100",
        "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
    }
    connection = connections[new]
    if connection.vendor not in waits:
        pytest.skip("no locks of rows")
    load(new, [keeper("Anna")])
    before = tables(new)
    with contextlib.closing(connection.copy()) as other, atomic_of(other):
        with other.cursor() as cursor:
            cursor.execute("UPDATE zoo_keeper SET hired = '2001-01-01'")
        with connection.cursor() as cursor:
            cursor.execute(waits[connection.vendor])
        with pytest.raises(RestoreError, match=r"(?i)lock (wait )?timeout") as caught:
            load(new, [keeper("Anna", hired="2002-02-02")])
    databases.close(new)
    assert "no other session is in the way" in str(caught.value)
    assert tables(new) == before
    assert load(new, [keeper("Anna", hired="2002-02-02")]).updated == 1


@pytest.mark.parametrize("phase", ["check", "write"])
def test_rows_that_another_session_deletes_meanwhile(new: str, phase: str) -> None:
    """SQLite lets no other session write."""
    connection = connections[new]
    if connection.vendor == "sqlite":
        pytest.skip("one session writes")
    load(new, [keeper("Anna"), keeper("Bela")])
    changed = [keeper("Anna"), keeper("Bela", hired="2001-02-03")]

    def chunks(named: str) -> Iterator[bytes]:
        if named == phase:
            with contextlib.closing(connection.copy()) as other, other.cursor() as cursor:
                cursor.execute("DELETE FROM zoo_keeper WHERE name = 'Bela'")
        yield json.dumps(changed).encode()

    with pytest.raises(RestoreError, match=r"deleted 1 rows of zoo\.keeper") as caught:
        Loader(SCHEMA, new).load(chunks)
    assert "no other session is in the way" in str(caught.value)
    assert [row.name for row in rows(zoo.Keeper, new)] == ["Anna"]
    assert load(new, changed).created == 1


@contextlib.contextmanager
def atomic_of(connection: Any) -> Iterator[None]:
    """A transaction that is taken back."""
    connection.set_autocommit(False)
    try:
        yield
    finally:
        connection.rollback()


def test_a_ledger_that_cannot_be_made_is_told_before_rows_are_written(
    postgres: databases.Postgres,
) -> None:
    alias, settings = "postgres_new", connections["postgres_new"].settings_dict
    postgres.renew(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute("""
            CREATE ROLE poor LOGIN;
            REVOKE CREATE ON SCHEMA public FROM public;
            GRANT SELECT ON ALL TABLES IN SCHEMA public TO poor;
            GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO poor""")
    databases.close(alias)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(settings, "USER", "poor")
            with pytest.raises(RestoreError, match="refused fastnk_ledger") as caught:
                load(alias, [keeper("Anna")])
            databases.close(alias)
        assert "create fastnk_ledger" in str(caught.value)
    finally:
        with connections[alias].cursor() as cursor:
            cursor.execute("DROP OWNED BY poor; DROP ROLE poor")


@pytest.mark.parametrize("name", ["NAME", "USER"])
def test_databases_and_users_that_are_not_there(
    engine: str, new: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if engine not in SOCKETS:
        pytest.skip("no server")
    databases.close(new)
    monkeypatch.setitem(connections[new].settings_dict, name, "nobody")
    with pytest.raises(RestoreError) as caught:
        load(new, [keeper("Anna")])
    databases.close(new)
    assert "NAME, USER and PASSWORD" in str(caught.value)


def test_no_room_for_what_spills(new: str, tmp_path: Path) -> None:
    backup = tmp_path / "backup.json"
    with backup.open("wb") as stream:  # sparse: it takes no room itself
        stream.truncate(8 * (shutil.disk_usage(tempfile.gettempdir()).free + (1 << 30)))
    with pytest.raises(OutputError, match="may need"):
        fastnk.restore(backup, database=new)
