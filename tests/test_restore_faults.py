"""Restores that are interrupted: the database is as it was, or the outcome is told."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connections

import fastnk
from fastnk.django.report import RestoreOptions
from fastnk.errors import NotRestoredError, OutcomeUnknownError, OutputError, RestoreError
from tests import databases
from tests.project.zoo import models as zoo
from tests.test_restore import keeper, load
from tests.zoo import rows, tables


class Wire:
    """Between a client and the socket of a server; cut at the first COMMIT, where `cut` says."""

    def __init__(self, own: str, server: str, commit: bytes, cut: str) -> None:
        self._server = server
        self._commit = commit
        self._cut = cut
        self._is_cut = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(own)
        self._listener.listen()
        self._sockets = [self._listener]
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
                if self._is_cut and self._cut == "for good":
                    client.shutdown(socket.SHUT_RDWR)
                    continue
                server = socket.socket(socket.AF_UNIX)
                self._sockets.append(server)
                server.connect(self._server)
                self._start(self._pass_on, client, server)
                self._start(self._pass_on, server, client)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                is_commit = self._commit in data and not self._is_cut
                if is_commit:
                    self._is_cut = True
                if not (is_commit and self._cut == "before"):
                    sink.sendall(data)
                if is_commit:
                    break
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
import fastnk.restore
restore = sys.modules["fastnk.restore"]
whole = restore.Conversion.blocks
def slowly(conversion, phase):
    for block in whole(conversion, phase):
        yield block
        if phase == "write":
            print("writing", flush=True)
            time.sleep(60)
restore.Conversion.blocks = slowly
sys.exit(cli.main(["restore", sys.argv[3], "--no-input", "--database", alias]))
"""


@pytest.mark.parametrize(("number", "code"), [("KILL", -9), ("INT", 130), ("TERM", 143)])
def test_end_of_the_process_in_the_midst_of_writing(
    new: str, tmp_path: Path, number: str, code: int
) -> None:
    backup = tmp_path / "backup.json"
    backup.write_text(json.dumps([keeper(f"keeper {n}") for n in range(1200)]))
    before = tables(new)
    settings = {name: str(connections[new].settings_dict[name]) for name in ("NAME", "HOST")}
    databases.close(new)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, new, json.dumps(settings), str(backup)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(getattr(signal, f"SIG{number}"))
        _, said = process.communicate(timeout=30)
    assert process.returncode == code
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
        assert tables(new) == before
    finally:
        with connections[new].cursor() as cursor:
            cursor.execute("DROP TRIGGER louder" + (" ON zoo_keeper" if "postgres" in new else ""))


def test_no_room_for_what_spills(new: str, tmp_path: Path) -> None:
    backup = tmp_path / "backup.json"
    with backup.open("wb") as stream:  # sparse: it takes no room itself
        stream.truncate(8 * (shutil.disk_usage(tempfile.gettempdir()).free + (1 << 30)))
    with pytest.raises(OutputError, match="may need"):
        fastnk.restore(backup, database=new)
