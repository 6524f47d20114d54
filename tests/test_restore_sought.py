"""What is read of a table that is asked for some of its rows."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from fastnk.django.restore import sought
from fastnk.django.restore.sought import Sought
from tests.project.zoo import models as zoo
from tests.test_restore import keeper, load
from tests.zoo import rows

TABLE = {number: f"row {number}" for number in range(5)}


class Reader:
    """Reads `TABLE`, and keeps what it was asked for; `...` stands for all of it."""

    def __init__(self, is_large: bool) -> None:
        self.asked: list[Any] = []
        self._is_large = is_large

    def all(self) -> dict[int, str]:
        self.asked.append(...)
        return dict(TABLE)

    def some(self, keys: list[int]) -> dict[int, str] | None:
        if not self._is_large:
            return None
        self.asked.append(keys)
        return {key: TABLE[key] for key in keys if key in TABLE}

    def sought(self) -> Sought:
        return Sought(self.all, self.some)


def test_a_small_table_is_read_once() -> None:
    reader = Reader(is_large=False)
    told = reader.sought()
    told.expect([1, 2])
    assert [told.get(key) for key in (1, 7, 4)] == ["row 1", None, "row 4"]
    told.expect([3])
    assert 3 in told
    assert reader.asked == [...]


def test_what_is_expected_of_a_large_table_is_read_together_and_once() -> None:
    reader = Reader(is_large=True)
    told = reader.sought()
    told.expect([1, None, 2, 9])
    assert reader.asked == []
    assert [told.get(key) for key in (2, 1, 9, 2)] == ["row 2", "row 1", None, "row 2"]
    assert told[4] == "row 4"
    assert reader.asked == [[2, 1, 9], [4]]
    told.expect([3, 1])
    assert 3 in told
    assert reader.asked[2:] == [[3, 1]]


def test_who_asks_for_too_many_rows_one_by_one_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sought, "MOST_SINGLE", 2)
    reader = Reader(is_large=True)
    told = reader.sought()
    for number in range(3):  # rows that come in batches are no such questions
        told.expect([number, number + 1])
        assert number in told
    assert [told.get(key) for key in (0, 1, 4)] == ["row 0", "row 1", "row 4"]
    assert reader.asked == [[0, 1], [1, 2], [2, 3], [0], [1], ...]


def test_of_a_large_table_no_more_is_read_than_the_backup_needs(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(new, [keeper(f"keeper {number}") for number in range(30)])
    monkeypatch.setattr("fastnk.django.restore.existing.MOST_READ", 20)
    backup = [
        keeper("keeper 3", mentor=["keeper 4"]),
        keeper("nobody yet", mentor=["keeper 5"]),
    ]
    with CaptureQueriesContext(connections[new]) as captured:
        report = load(new, backup)
    assert (report.created, report.updated) == (1, 1)
    assert rows(zoo.Keeper, new).get(name="nobody yet").mentor.name == "keeper 5"
    statements = [one["sql"] for one in captured if re.search("FROM .zoo_keeper", one["sql"])]
    parts = ("WHERE", "LIMIT 1", "COUNT(", "MAX(", "max(", "SHOW")
    assert [sql for sql in statements if not any(part in sql for part in parts)] == []
