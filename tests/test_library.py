"""What programs that call the library rely on: other processes, other types, clear refusals."""

from __future__ import annotations

import copy
import io
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import fastnk
from fastnk.check import check
from fastnk.convert import LegacyBackupConverter
from fastnk.django.schema.introspect import UntraceableKeyError
from fastnk.errors import FastnkError, Finding, FindingList, FindingsError, Place, UsageError
from fastnk.infer import infer
from fastnk.policies import Policies
from fastnk.renames import RenameError
from fastnk.schema import Model, Relation, Schema
from fastnk.verify import VerificationError, verify

SCHEMA = Schema(
    version=1,
    models={
        "app.author": Model(pk="id", natural_key=("name",)),
        "app.book": Model(pk="id", relations={"author": Relation(to="app.author")}),
    },
)
RECORDS = [
    {"model": "app.author", "pk": 1, "fields": {"name": "Anna"}},
    {"model": "app.book", "pk": 1, "fields": {"author": 1}},
]
BACKUP = json.dumps(RECORDS).encode()
DANGLING = BACKUP.replace(b'"author": 1', b'"author": 7')


def all_kinds(kind: type[FastnkError]) -> list[type[FastnkError]]:
    return [kind, *(each for one in kind.__subclasses__() for each in all_kinds(one))]


def example(kind: type[FastnkError]) -> FastnkError:
    """An error of a class with everything in it."""
    place = Place("backup.json", 3, 1, "app.book", "1", "author")
    found = FindingList()
    found.add(Finding("FNK301", "no record has this id", place, "7"))
    special: dict[str, Callable[[Any], FastnkError]] = {
        "FindingsError": lambda kind: kind(found, remedy="do"),
        "MissingExtraError": lambda kind: kind("Django", "django", "a restore"),
        "UntraceableKeyError": lambda kind: kind({"app.book": "counts"}),
        "VerificationError": lambda kind: kind(verify(BACKUP, BACKUP, SCHEMA)),
    }
    if kind.__name__ in special:
        return special[kind.__name__](kind)
    return kind("what", place=place, remedy="do", code="FNK999")


@pytest.mark.parametrize("kind", all_kinds(FastnkError), ids=lambda kind: kind.__name__)
def test_errors_come_out_of_other_processes_whole(kind: type[FastnkError]) -> None:
    error = example(kind)
    for other in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(other) is kind
        assert str(other) == str(error)
        assert other.as_dict() == error.as_dict()
        assert other.args == error.args


def test_kinds_of_errors_are_known_here() -> None:
    assert {RenameError, UntraceableKeyError, VerificationError} <= {*all_kinds(FastnkError)}


def test_a_converter_works_in_other_processes() -> None:
    converter = LegacyBackupConverter(SCHEMA)
    wanted = converter.convert_bytes(BACKUP)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(converter.convert_bytes, BACKUP).result() == wanted
        with pytest.raises(FindingsError, match="FNK301") as caught:
            pool.submit(converter.convert_bytes, DANGLING).result()
        assert caught.value.findings[0].place.field == "author"
        assert pool.submit(converter.convert_bytes, BACKUP).result() == wanted


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_any_type(kind: Any) -> None:
    converter = LegacyBackupConverter(SCHEMA)
    wanted = converter.convert_bytes(BACKUP)
    assert converter.convert_bytes(kind(BACKUP)) == wanted
    out = io.BytesIO()
    converter.convert_to_natural_keys(kind(BACKUP), out)
    assert out.getvalue() == wanted
    assert fastnk.detect(kind(BACKUP)) == "legacy_database_ids"


@pytest.mark.parametrize("backup", [None, 5, {}, RECORDS, object()])
def test_what_is_no_backup_is_refused(backup: Any) -> None:
    for call in (fastnk.detect, infer, lambda it: fastnk.convert(it, io.BytesIO(), SCHEMA)):
        with pytest.raises(UsageError, match=r"(NoneType|int|dict|object) is no backup"):
            call(backup)


@pytest.mark.parametrize("backup", ["", ["", BACKUP]])
def test_empty_name_is_not_the_folder_of_now(
    backup: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "backup.json").write_bytes(BACKUP)
    for call in (fastnk.detect, infer, lambda it: fastnk.convert(it, io.BytesIO(), SCHEMA)):
        with pytest.raises(UsageError, match="an empty name is no backup"):
            call(backup)


@pytest.mark.parametrize("keys", ["more.json", b"[]"])
def test_one_backup_is_no_list_of_them(keys: Any, tmp_path: Path) -> None:
    calls = (
        lambda: LegacyBackupConverter(SCHEMA, keys=keys),
        lambda: verify(BACKUP, BACKUP, SCHEMA, keys=keys),
        lambda: check(SCHEMA, BACKUP, keys=keys),
        lambda: infer(BACKUP, keys=keys),
    )
    for call in calls:
        with pytest.raises(UsageError, match="where a list of them is taken"):
            call()


@pytest.mark.parametrize("name", Policies.__struct_fields__)
def test_policies_take_their_words_alone(name: str) -> None:
    with pytest.raises(UsageError, match=f'no {name} "ignore"') as caught:
        Policies(**{name: "ignore"})
    assert caught.value.remedy is not None
    for word in caught.value.remedy.split(", "):
        assert getattr(Policies(**{name: word}), name) == word
