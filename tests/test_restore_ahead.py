"""Rows that another process makes ready: the same rows, whatever becomes of that process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connections

import fastnk
from fastnk import lanes
from fastnk.django.restore import ahead, batches, restoring
from fastnk.errors import RestoreError, SourceError
from tests import zoo as backups
from tests.databases import SQLite
from tests.project.zoo import models as zoo
from tests.test_restore import keeper, keyed
from tests.zoo import project_schema, rows, tables

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")

NEW = "sqlite_new"


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small backups will do, and the threads of the test runner are no threads of ours."""
    monkeypatch.setattr(restoring, "FEWEST_ROWS", 1)
    monkeypatch.setattr(lanes, "PIECE_SIZE", 1 << 14)
    monkeypatch.setattr(batches, "BATCH", 100)
    monkeypatch.setattr(restoring, "can_fork", lambda: True)


@pytest.fixture
def came_to_its_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Of every other process that was started; none is left behind."""
    ends: list[bool] = []
    forked: list[int] = []
    obey, fork = ahead._obey, os.fork

    def watched(*arguments: Any) -> bool:
        ends.append(obey(*arguments))
        return ends[-1]

    def noted() -> int:
        forked.append(fork())
        return forked[-1]

    monkeypatch.setattr(ahead, "_obey", watched)
    monkeypatch.setattr(os, "fork", noted)
    yield ends
    for process in forked:
        with pytest.raises(ChildProcessError):
            os.waitpid(process, os.WNOHANG)


def restored(backup: bytes, **options: Any) -> fastnk.RestoreReport:
    return fastnk.restore(backup, project_schema(), database=NEW, **{"jobs": 2} | options)


@pytest.fixture(scope="module")
def whole(sqlite: SQLite) -> bytes:
    """The zoo: all kinds of fields and relations, a model with a field of its own among them."""
    sqlite.renew("sqlite_old")
    backups.fill("sqlite_old")
    return json.dumps(backups.converted("sqlite_old")).encode()


def herd(count: int) -> bytes:
    keepers = [keeper(f"keeper {n}", mentor=[f"keeper {n // 2}"]) for n in range(count)]
    return json.dumps(keepers).encode()


def known(rows: dict[str, Any]) -> dict[str, Any]:
    """Without those whose pks are drawn at random."""
    return {table: rows[table] for table in rows if table not in ("zoo_sensor", "zoo_reading")}


def vault(name: str) -> dict[str, Any]:
    return keyed("zoo.vault", name, name=name, content=f"content of {name}")


def test_rows_are_those_that_one_process_writes(
    new_sqlite: str, sqlite: SQLite, whole: bytes, came_to_its_end: list[bool]
) -> None:
    policies = fastnk.Policies(on_null_key="null", on_generic="keep")
    alone = restored(whole, jobs=1, policies=policies)
    assert came_to_its_end == []
    wanted = known(tables(new_sqlite))
    sqlite.renew(NEW)
    report = restored(whole, policies=policies)
    assert came_to_its_end == [True]
    assert known(tables(new_sqlite)) == wanted
    assert report.models == alone.models
    assert restored(whole, policies=policies).created == 0
    assert came_to_its_end == [True]


def test_existing_rows_change_and_fields_of_the_project_are_asked_here(
    new_sqlite: str, monkeypatch: pytest.MonkeyPatch, came_to_its_end: list[bool]
) -> None:
    asked: list[str] = []
    stored = zoo.SecretField.get_prep_value

    def store(field: zoo.SecretField, value: Any) -> Any:
        asked.append(value)
        return stored(field, value)

    restored(json.dumps([keeper("Anna"), keeper("Bela")]).encode())
    monkeypatch.setattr(zoo.SecretField, "get_prep_value", store)
    records = [vault("a"), keeper("Anna", mentor=["Carl"]), keeper("Carl"), keeper("Bela")]
    told: list[str] = []
    progress = lambda phase, done, total: told.append(phase)  # noqa: E731
    report = restored(json.dumps(records).encode(), progress=progress)
    assert (report.created, report.updated, report.unchanged) == (2, 1, 1)
    assert came_to_its_end == [True, True]
    assert rows(zoo.Keeper, new_sqlite).get(name="Anna").mentor.name == "Carl"
    assert rows(zoo.Vault, new_sqlite).get().content == "content of a"
    assert "content of a" in asked
    phases = list(dict.fromkeys(told))
    assert phases[phases.index("check") :] == [
        "check",
        "update",
        "insert",
        "write",
        "constraints",
        "commit",
    ]


@pytest.mark.parametrize("writes", range(3))
def test_other_process_that_dies_is_not_needed(
    new_sqlite: str, monkeypatch: pytest.MonkeyPatch, came_to_its_end: list[bool], writes: int
) -> None:
    write = ahead._Sent.write

    def write_some(sent: Any, *arguments: Any) -> None:
        nonlocal writes
        if not writes:
            os.kill(os.getpid(), signal.SIGKILL)
        writes -= 1
        write(sent, *arguments)

    monkeypatch.setattr(ahead._Sent, "write", write_some)
    assert restored(herd(500), verify=True).created == 500
    assert came_to_its_end == [False]
    assert rows(zoo.Keeper, new_sqlite).filter(mentor__isnull=False).count() == 500


def test_other_process_keeps_off_the_database(
    new_sqlite: str, monkeypatch: pytest.MonkeyPatch, came_to_its_end: list[bool]
) -> None:
    """Also where a default asks it."""
    asked = lambda: str(Group.objects.using(new_sqlite).count())  # noqa: E731
    field = zoo.Vault._meta.get_field("small")
    monkeypatch.setattr(field, "default", asked)
    monkeypatch.setitem(field.__dict__, "_get_default", asked)
    monkeypatch.setattr(restoring, "is_made_by_django", lambda plan: True)
    assert restored(json.dumps([vault("a")]).encode()).created == 1
    assert came_to_its_end == [False]
    assert rows(zoo.Vault, new_sqlite).get().small == 0


def test_no_other_process_where_there_is_no_room(
    new_sqlite: str, monkeypatch: pytest.MonkeyPatch, came_to_its_end: list[bool]
) -> None:
    def fork() -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", fork)
    assert restored(herd(2)).created == 2
    assert came_to_its_end == [False]


def test_refusal_of_the_database_ends_both(new_sqlite: str, came_to_its_end: list[bool]) -> None:
    with connections[new_sqlite].cursor() as cursor:
        cursor.execute(
            """CREATE TRIGGER refuse BEFORE INSERT ON zoo_keeper WHEN NEW.name = 'keeper 400'
            BEGIN SELECT RAISE(ABORT, 'not this one'); END"""
        )
    with pytest.raises(RestoreError, match=r"zoo\.keeper: not this one"):
        restored(herd(500))
    assert came_to_its_end == []
    assert not rows(zoo.Keeper, new_sqlite).exists()


def test_interruption_ends_both(new_sqlite: str, came_to_its_end: list[bool]) -> None:
    def progress(phase: str, done: int, total: int | None) -> None:
        if phase == "insert" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restored(herd(500), progress=progress)
    assert not rows(zoo.Keeper, new_sqlite).exists()


def test_backup_that_changes_meanwhile_is_told_of(
    new_sqlite: str, tmp_path: Path, came_to_its_end: list[bool]
) -> None:
    path = tmp_path / "backup.json"
    path.write_bytes(herd(500))

    def change(report: fastnk.RestoreReport) -> None:
        path.write_bytes(herd(500).replace(b"keeper 499", b"keeper 999"))

    manager = fastnk.UnifiedRestoreManager(project_schema(), database=NEW, jobs=2)
    with pytest.raises(SourceError, match="changed"):
        manager.restore_any_format(path, confirm=change)
    assert came_to_its_end == [False]
    assert not rows(zoo.Keeper, new_sqlite).exists()


@pytest.mark.parametrize(("shelves", "size"), [(1, 1 << 20), (2, 5_000), (24, 10)])
def test_batches_go_where_there_is_room(
    new_sqlite: str,
    monkeypatch: pytest.MonkeyPatch,
    came_to_its_end: list[bool],
    shelves: int,
    size: int,
) -> None:
    monkeypatch.setattr(ahead, "SHELVES", shelves)
    monkeypatch.setattr(ahead, "SHELF", size)
    monkeypatch.setattr(ahead, "SMALL", 1_000)
    records = [keeper(f"keeper {n}" + n % 7 * "x") for n in range(1_000)]
    assert restored(json.dumps(records).encode(), verify=True).created == 1_000
    assert came_to_its_end == [True]


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "value",
    [None, True, 1 << 70, 0.5, "half \ud800", b"\0", Colour.RED],
    ids=repr,
)
def test_values_arrive_as_they_are(value: Any) -> None:
    words = ("write", "zoo.keeper", [[value, value]])
    arrived = ahead._unpacked(ahead._packed(words))
    assert arrived == words
    assert type(arrived[2][0][0]) is type(value)


def test_process_whose_threads_are_many_or_unknown_is_not_forked() -> None:
    """Asked in one of its own: this one may have threads anyway."""
    code = """
import django; django.setup()
from pathlib import Path
from threading import Event, Thread
from fastnk import processes
from fastnk.processes import can_fork
print(can_fork())
end = Event()
Thread(target=end.wait).start()
print(can_fork())
end.set()
processes.THREADS = Path("/absent/task")
print(can_fork())
"""
    root = Path(__file__).parents[1]
    asked = [sys.executable, "-c", code]
    done = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]
