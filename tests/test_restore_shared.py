"""A survey that another process shares: nothing else comes of it, whatever becomes of that process.

What is told of single records, right and wrong, is compared in `test_restore_early`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any
from uuid import UUID

import pytest

import fastnk
from fastnk import Policies, lanes
from fastnk.django.restore import checking, plain
from fastnk.errors import FindingsError
from tests.databases import SQLite
from tests.project.zoo import models as zoo
from tests.test_restore import keeper, record
from tests.zoo import project_schema, rows, tables

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")

NEW = "sqlite_new"


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small backups will do, and the threads of the test runner are no threads of ours."""
    monkeypatch.setattr(checking, "FEWEST_RECORDS", 1)
    monkeypatch.setattr(checking, "can_fork", lambda: True)
    monkeypatch.setattr(lanes, "PIECE_SIZE", 1 << 12)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the other process told of each chunk that it was asked about."""
    answers: list[Any] = []
    answer_of = plain._answer_of

    def watched(other: Any) -> Any:
        answers.append(answer_of(other))
        return answers[-1]

    monkeypatch.setattr(plain, "_answer_of", watched)
    return answers


def restored(records: list[Any], **options: Any) -> fastnk.RestoreReport:
    backup = json.dumps(records).encode()
    return fastnk.restore(backup, project_schema(), database=NEW, **{"jobs": 2} | options)


def stickers(count: int, **fields: Any) -> list[Any]:
    """With keepers in front that they stick to."""
    keepers = [keeper(f"keeper {n}") for n in range(9)]
    return keepers + [
        record(
            "zoo.sticker",
            n,
            **{"text": f"{n}", "content_type": ["zoo", "keeper"], "object_id": [f"keeper {n % 9}"]}
            | fields,
        )
        for n in range(1, count + 1)
    ]


def test_rows_and_counts_are_those_of_one_process(
    new_sqlite: str, sqlite: SQLite, told: list[Any]
) -> None:
    alone = restored(stickers(500), jobs=1)
    assert told == []
    wanted = tables(new_sqlite)
    sqlite.renew(NEW)
    planned = restored(stickers(500), dry_run=True)
    report = restored(stickers(500), verify=True)
    assert len(told) > 10
    assert None not in told
    assert tables(new_sqlite) == wanted
    assert planned.models == report.models == alone.models
    asked = len(told)
    assert restored(stickers(500)).created == 0
    assert len(told) == asked  # of rows that exist nobody is asked


@pytest.mark.parametrize("answers", range(3))
def test_other_process_that_dies_is_not_needed(
    new_sqlite: str, monkeypatch: pytest.MonkeyPatch, told: list[Any], answers: int
) -> None:
    look, left = plain.PlainLook.told, answers

    def look_some(*arguments: Any) -> Any:
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return look(*arguments)

    monkeypatch.setattr(plain.PlainLook, "told", look_some)
    assert restored(stickers(500), verify=True).created == 509
    assert sum(one is not None for one in told) == answers
    assert rows(zoo.Sticker, new_sqlite).count() == 500


def test_no_other_process_where_there_is_no_room(
    new_sqlite: str, monkeypatch: pytest.MonkeyPatch, told: list[Any]
) -> None:
    def fork() -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", fork)
    assert restored(stickers(100)).created == 109
    assert not any(told)


def found(records: list[Any], **options: Any) -> list[tuple[str, int | None, str | None]]:
    with pytest.raises(FindingsError) as caught:
        restored(records, **options)
    return [(one.code, one.place.record, one.place.field) for one in caught.value.findings]


@pytest.mark.parametrize("number", [150, 151, 400, 500])
def test_what_is_wrong_is_told_with_its_place(
    new_sqlite: str, told: list[Any], number: int
) -> None:
    records = stickers(500)
    records[7 + number]["fields"]["text"] = None
    records[8 + number]["fields"]["object_id"] = ["nobody"]
    assert found(records) == [
        ("FNK413", 8 + number, "text"),
        ("FNK410", 9 + number, "object_id"),
    ]
    assert not rows(zoo.Sticker, new_sqlite).exists()


@pytest.mark.parametrize("distance", [1, 40, 120, 300])
def test_what_two_records_have_is_found_whoever_looked(
    new_sqlite: str, told: list[Any], distance: int
) -> None:
    events = [record("zoo.event", n, uuid=str(UUID(int=n)), text="") for n in range(1, 600)]
    events[100 + distance]["fields"]["uuid"] = str(UUID(int=101))
    wanted = [("FNK418", 101 + distance, "uuid")]
    assert found(events, jobs=1) == wanted
    assert not told
    assert found(events) == wanted
    assert any(told)


def test_pk_that_two_records_have_is_found_whoever_looked(new_sqlite: str, told: list[Any]) -> None:
    events = [
        record("zoo.event", n, uuid=str(UUID(int=n)), text="x" * 2_000) for n in range(1, 600)
    ]
    events[400]["pk"] = 101
    keep = Policies(on_duplicate_pk="keep")  # or the conversion refuses it
    wanted = found(events, jobs=1, policies=keep)
    assert [number for _, number, _ in wanted] == [401]
    assert not told
    assert found(events, policies=keep) == wanted
    assert any(told)
