"""Which rows are checked while they are surveyed, and which are left to the check of all records.

A row that is taken too easily would be written unchecked; so each case that must not be taken is
also restored, and what the full check says of it is compared. All of it is the same where another
process looks at every second record.
"""

from __future__ import annotations

import sys
from typing import Any
from uuid import UUID

import pytest

from fastnk.django.restore import checking, early, loader, plain
from fastnk.django.restore.checking import Known, Look
from fastnk.django.restore.loader import Loader
from fastnk.django.restore.rows import Fate
from fastnk.schema import Embedded, Schema
from tests import test_restore
from tests.project.zoo import models as zoo
from tests.test_restore import counts_of, keeper, keyed, load, record, refused
from tests.zoo import SENSOR, Record, project_schema, put, rows

SENSORS = [str(UUID(int=number)) for number in range(1, 40)]


@pytest.fixture(params=[1, 2], ids=["alone", "shared"], autouse=True)
def _jobs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two of them each record is a chunk, and another process looks at every second one; also
    at fields of the project, which these do not mind."""
    if request.param == 2:
        if sys.platform != "linux":
            pytest.skip("processes are forked on Linux")
        monkeypatch.setattr(loader, "default_jobs", lambda: 2)
        monkeypatch.setattr(checking, "can_fork", lambda: True)
        monkeypatch.setattr(checking, "FEWEST_RECORDS", 1)
        monkeypatch.setattr(plain, "is_made_by_django", lambda plan: True)
        chunks_of = test_restore.chunks_of
        monkeypatch.setattr(test_restore, "chunks_of", lambda records: chunks_of(lambda: records))


def vault(name: str, **fields: Any) -> Record:
    return keyed("zoo.vault", name, name=name, **fields)


def sensor(number: int) -> Record:
    return keyed("zoo.sensor", f"S{number}", id=SENSORS[number], serial=f"S{number}")


def reading(number: int, sensor: Any) -> Record:
    return record("zoo.reading", str(UUID(int=1000 + number)), sensor=sensor, celsius=1.5)


def sticker(number: int, kind: str, object_id: Any) -> Record:
    return record("zoo.sticker", number, text="x", content_type=["zoo", kind], object_id=object_id)


def slot(pk: int, **fields: Any) -> Record:
    return record("zoo.slot", pk, keeper=["Anna"], day=None, post=str(pk), **fields)


def checked(
    alias: str, records: list[Record], label: str, schema: Schema | None = None
) -> list[bool]:
    """Which rows of a model are checked once all records are surveyed, in their order."""
    task = Loader(schema or project_schema(), alias)._task(
        test_restore.chunks_of(records), None, counts_of(records), int
    )
    look = Look(task, Known())
    while known := look.read():
        look = Look(task, known)
    (found,) = (one for one in look.directory.in_backup if one.plan.label == label)
    return [fate == Fate.CHECKED for fate in found.fates]


TAKEN = {
    "values": [vault("a", small=1), vault("b", small=2)],
    "nulls where there may be some": [vault("a", amount=None), vault("b", amount="1.50")],
    "references to rows further up": [sensor(1), reading(1, ["S1"]), reading(2, ["S1"])],
    "references to rows further down": [reading(1, ["S1"]), sensor(1), reading(2, ["S1"])],
    "references to rows in the database": [reading(1, ["there"])],
    "ids of rows in the database": [reading(1, str(SENSOR))],
    "a generic key": [sticker(1, "keeper", ["Anna"]), keeper("Anna")],
    "a generic id": [sticker(1, "tag", "5"), record("zoo.tag", 5, label="a")],
    "generic ids of rows that are gone": [sticker(n, "keeper", "99") for n in (1, 2)],
}

LEFT: dict[str, tuple[list[Record], list[Any]]] = {
    "a reference to nothing, with all others": (
        [sensor(1), reading(1, ["S1"]), reading(2, ["S9"]), reading(3, ["S1"])],
        [("FNK410", 3, "sensor")],
    ),
    "a null where there must be none": ([reading(1, None)], [("FNK413", 1, "sensor")]),
    "a reference spelled as no key can be": ([reading(1, {"a": 1})], [("FNK410", 1, "sensor")]),
    "a key that is too long": ([reading(1, ["S1", "S2"])], [("FNK410", 1, "sensor")]),
    "a field that is not known": ([vault("a", gone=1)], [("FNK412", 1, "gone")]),
    "a number with too many digits": ([vault("a", amount="12345.67")], [("FNK413", 1, "amount")]),
    "a number that is too large": ([vault("a", small=1 << 70)], [("FNK413", 1, "small")]),
    "a day that there is not": (
        [vault("a", moment="2024-02-30T00:00:00Z")],
        [("FNK413", 1, "moment")],
    ),
    "a value of another type": ([vault("a", share="x")], [("FNK413", 1, "share")]),
    "a field that has its own way": ([vault("a", content="x")], []),
    "a moment without a zone": ([vault("a", moment="2024-02-03T04:05:06")], []),
    "an address that Django spells otherwise": ([vault("a", place="::ffff:10.0.0.1")], []),
    "a generic key to nothing, with all others": (
        [sticker(1, "keeper", "9"), sticker(2, "keeper", ["Nobody"])],
        [("FNK410", 2, "object_id")],
    ),
    "a null where a generic id must be": (
        [sticker(1, "keeper", None)],
        [("FNK413", 1, "object_id")],
    ),
    "a constraint about references": (
        [keeper("Anna"), slot(1), slot(2, begin=3, end=3)],
        [("FNK420", 3, None)],
    ),
}


@pytest.fixture
def with_sensor(new: str) -> str:
    put(new, zoo.Sensor, id=SENSOR, serial="there")
    return new


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_plainly_right_is_checked_early(with_sensor: str, name: str) -> None:
    label = TAKEN[name][0]["model"] if "references" not in name else "zoo.reading"
    assert set(checked(with_sensor, TAKEN[name], label)) == {True}
    assert load(with_sensor, TAKEN[name], project_schema()).created == len(TAKEN[name])


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_plainly_right_is_left_to_the_full_check(with_sensor: str, name: str) -> None:
    records, findings = LEFT[name]
    assert True not in checked(with_sensor, records, records[-1]["model"])
    if findings:
        assert refused(with_sensor, records, schema=project_schema()) == findings
    else:
        assert load(with_sensor, records, project_schema()).created == len(records)


def test_rows_that_exist_are_left(new: str) -> None:
    load(new, [vault("a", small=1)], project_schema())
    records = [vault("b", small=1), vault("a", small=2), vault("c", small=3)]
    assert checked(new, records, "zoo.vault")[1] is False
    report = load(new, records, project_schema())
    assert (report.created, report.updated) == (2, 1)


def test_values_with_ids_inside_are_left(new: str) -> None:
    models = dict(project_schema().models)
    models["zoo.vault"] = _with_embedded(models["zoo.vault"])
    records = [keeper("Anna"), vault("a", data={"keeper": ["Anna"]})]
    assert checked(new, records, "zoo.vault", Schema.of(models)) == [False]
    assert load(new, records, Schema.of(models)).created == 2
    assert rows(zoo.Vault, new).get().data == {"keeper": rows(zoo.Keeper, new).get().pk}


def _with_embedded(model: Any) -> Any:
    from msgspec.structs import replace

    return replace(model, embedded={"data.keeper": Embedded("zoo.keeper")})


def test_more_references_than_can_be_kept(new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that lead to rows further down are too many; of the others room is made."""
    monkeypatch.setattr(early, "MOST_OPEN", 10)
    ahead = [reading(number, [f"S{number}"]) for number in range(1, 30)]
    sensors = [sensor(number) for number in range(1, 30)]
    assert False in checked(new, [*ahead, *sensors], "zoo.reading")
    assert set(checked(new, [*sensors, *ahead], "zoo.reading")) == {True}
    load(new, [*ahead, *sensors], project_schema())
    assert [row.sensor.serial for row in rows(zoo.Reading, new)] == [f"S{n}" for n in range(1, 30)]


def test_more_generic_references_than_can_be_kept(
    new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then all are left, so that those which lead nowhere are counted once."""
    monkeypatch.setattr(early, "MOST_OPEN", 10)
    keys = [sticker(n, "keeper", [f"K{n}"]) for n in range(1, 30)]
    keepers = [keeper(f"K{n}") for n in range(1, 30)]
    assert set(checked(new, [*keepers, *keys], "zoo.sticker")) == {True}
    loose = [sticker(100 + n, "keeper", str(5000 + n)) for n in range(30)]
    records = [*keepers, *keys, *loose]
    assert True not in checked(new, records, "zoo.sticker")
    report = load(new, records, project_schema())
    assert (report.created, report.generic_kept) == (len(records), 30)
    names = dict(rows(zoo.Keeper, new).values_list("name", "pk"))
    held = dict(rows(zoo.Sticker, new).values_list("pk", "object_id"))
    assert [held[n] for n in range(1, 30)] == [str(names[f"K{n}"]) for n in range(1, 30)]
    assert [held[100 + n] for n in range(30)] == [str(5000 + n) for n in range(30)]
