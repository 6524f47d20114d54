"""Schema and backup compared before any work: each way in which they may not fit."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fastnk.check import COLUMNS, CheckReport, CheckRow, check
from fastnk.cli.printing import table
from fastnk.errors import BackupSyntaxError, Place, SchemaError, SourceError
from fastnk.schema import GenericRelation, Model, Relation, Schema

USER = Model(natural_key=["username"])
PAPER = Model(natural_key=["number"], relations={"author": Relation(to="users.user")})
SCHEMA = Schema.of({"users.user": USER, "docs.paper": PAPER})


def record(label: str, pk: Any, **fields: Any) -> dict[str, Any]:
    return {"model": label, "pk": pk, "fields": fields}


GOOD = [
    *[record("users.user", n, username=f"user{n}", password="x") for n in (1, 2, 3)],
    *[record("docs.paper", n, number=f"P-{n}", author=1 + n % 3, size=n) for n in (1, 2, 3, 4)],
]


def dump(records: list[dict[str, Any]]) -> bytes:
    return json.dumps(records).encode()


def rows(report: CheckReport, kind: str) -> list[CheckRow]:
    return [row for row in report.rows if row.kind == kind]


def only(report: CheckReport, kind: str) -> CheckRow:
    found = rows(report, kind)
    assert len(found) == 1, found
    return found[0]


def test_what_fits() -> None:
    report = check(SCHEMA, dump(GOOD))
    assert report.fits
    assert report.rows == []
    assert report.records == 7
    assert report.models == {"docs.paper": 4, "users.user": 3}


def test_models_in_capitals_are_read_as_django_reads_them() -> None:
    records = [record("Docs.Paper", 5, number="P-5", author=1), record("Users.user", 1)]
    spelled = [{**one, "model": one["model"].replace("paper", "Paper")} for one in GOOD]
    assert check(SCHEMA, dump([*spelled, *GOOD[:3]])).models == {"docs.paper": 4, "users.user": 6}
    unknown = rows(check(SCHEMA, dump([*spelled, *records])), "unknown_model")
    assert [row.model for row in unknown] == ["Docs.paper", "Users.user"]


def test_model_that_the_schema_lacks() -> None:
    report = check(SCHEMA, dump([*GOOD, record("log.line", 1), record("log.line", 2)]))
    assert not report.fits
    row = only(report, "unknown_model")
    assert (row.model, row.count, row.code) == ("log.line", 2, "FNK302")
    assert row.option == "--on-unknown-model"
    assert report.misfits == [row]


def test_model_that_the_backup_lacks_is_only_noted() -> None:
    schema = Schema.of({**SCHEMA.models, "log.line": Model()})
    report = check(schema, dump(GOOD))
    assert report.fits
    assert only(report, "absent_model").model == "log.line"


def test_relation_field_that_no_record_has_is_a_warning() -> None:
    relations = {**PAPER.relations, "editor": Relation(to="users.user")}
    paper = Model(natural_key=["number"], relations=relations)
    report = check(Schema.of({"users.user": USER, "docs.paper": paper}), dump(GOOD))
    row = only(report, "absent_relation_field")
    assert (row.severity, row.model, row.field) == ("warning", "docs.paper", "editor")
    assert report.fits


def test_list_whose_links_may_be_records_of_a_model_is_only_noted() -> None:
    fans = {"fans": Relation(to="users.user", many=True)}
    paper = Model(natural_key=["number"], relations={**PAPER.relations, **fans})
    ends = {"paper": Relation(to="docs.paper"), "user": Relation(to="users.user")}
    models = {"users.user": USER, "docs.paper": paper}
    row = only(check(Schema.of(models), dump(GOOD)), "absent_relation_field")
    assert (row.severity, row.field) == ("warning", "fans")
    more = {**ends, "answered": Relation(to="docs.paper")}
    others = {"docs.ask": Model(relations=more), "docs.mail": Model(relations=more)}
    fan = {"docs.fan": Model(relations=ends)}
    for one in (fan, fan | others, others | fan):
        row = only(check(Schema.of(models | one), dump(GOOD)), "absent_relation_field")
        assert (row.severity, row.field) == ("note", "fans")
        assert row.what.endswith("its links may be records of docs.fan")


def test_many_to_many_fields_of_a_parent_stand_in_its_records() -> None:
    tags = Relation(to="docs.note", many=True)
    link = Relation(to="docs.note", parent_link=True)
    child = Model(pk="note_ptr", relations={"note_ptr": link, "tags": tags})
    schema = Schema.of({"docs.note": Model(relations={"tags": tags}), "docs.child": child})
    records = [record("docs.note", 1, tags=[]), record("docs.child", 1, text="a")]
    assert check(schema, dump(records)).rows == []


def test_key_field_that_no_record_has() -> None:
    user = Model(natural_key=["email"])
    report = check(Schema.of({"users.user": user, "docs.paper": PAPER}), dump(GOOD))
    row = only(report, "absent_key_field")
    assert (row.severity, row.model, row.field, row.count) == ("misfit", "users.user", "email", 3)
    assert "FNK305" in {row.code for row in rows(report, "finding")}
    assert not report.fits


def test_pk_is_no_absent_field() -> None:
    user = Model(pk="code", natural_key=["code", "username"])
    report = check(Schema.of({"users.user": user, "docs.paper": PAPER}), dump(GOOD))
    assert report.rows == []


LINE = Model(
    relations={"content_type": Relation(to="contenttypes.contenttype")},
    generic_relations={
        "target": GenericRelation(content_type="content_type", object_id="object_id")
    },
)


def test_fields_of_generic_relations_are_looked_for() -> None:
    schema = Schema.of({"log.line": LINE, "contenttypes.contenttype": Model()})
    report = check(schema, dump([record("log.line", 1, content_type=1)]))
    assert only(report, "absent_relation_field").field == "object_id"


def test_unlisted_relation_is_noted() -> None:
    papers = [record("docs.paper", n, number=f"P-{n}", author=1, user=1 + n % 3) for n in (1, 2, 3)]
    report = check(SCHEMA, dump([*GOOD[:3], *papers]))
    row = only(report, "unlisted_relation")
    assert (row.severity, row.model, row.field, row.count) == ("note", "docs.paper", "user", 3)
    assert "users.user" in row.what
    assert report.fits


def test_ids_that_do_not_resolve() -> None:
    lost = [record("docs.paper", n, number=f"P-{n}", author=n) for n in range(90, 99)]
    report = check(SCHEMA, dump([*GOOD, *lost]))
    row = only(report, "finding")
    assert (row.code, row.model, row.field) == ("FNK301", "docs.paper", "author")
    assert (row.count, row.option) == (9, "--on-unresolved")
    assert row.values == ["90", "91", "92", "93", "94", "…"]
    assert row.place is not None
    assert "record 8" in row.place


def test_generic_relation_to_a_model_without_natural_key() -> None:
    schema = Schema.of({"log.line": LINE, "contenttypes.contenttype": Model()})
    contenttype = record("contenttypes.contenttype", 1, app_label="log", model="line")
    line = record("log.line", 5, content_type=1, object_id=5)
    row = only(check(schema, dump([contenttype, line])), "finding")
    assert (row.code, row.field, row.option) == ("FNK310", "object_id", "--on-generic keep")


def test_keys_make_ids_resolve() -> None:
    assert not check(SCHEMA, dump(GOOD[3:])).fits
    report = check(SCHEMA, dump(GOOD[3:]), keys=[dump(GOOD[:3])])
    assert report.fits
    assert report.models == {"docs.paper": 4}


@pytest.mark.parametrize(
    ("extra", "code", "option"),
    [
        (record("users.user", 9, username="user1"), "FNK304", "--on-duplicate-key keep"),
        (record("users.user", 9, username=None), "FNK305", "--on-null-key"),
        (record("users.user", 1, username="else"), "FNK303", "--on-duplicate-pk"),
    ],
)
def test_keys_that_do_not_identify(extra: dict[str, Any], code: str, option: str) -> None:
    report = check(SCHEMA, dump([*GOOD, extra]))
    row = only(report, "finding")
    assert (row.code, row.model, row.option, row.count) == (code, "users.user", option, 1)
    assert not report.fits


def test_member_that_stands_twice() -> None:
    twice = b'[{"model": "users.user", "pk": 1, "pk": 2, "fields": {"username": "a"}}]'
    row = only(check(SCHEMA, twice), "finding")
    assert (row.code, row.option) == ("FNK306", "--on-duplicate-member keep")


def test_damage_is_a_misfit_that_salvage_allows() -> None:
    for backup in (dump(GOOD)[:-1], b"Loading\n" + dump(GOOD)):
        report = check(SCHEMA, backup)
        row = only(report, "damage")
        assert (row.severity, row.option) == ("misfit", "--salvage")
        assert "7 whole records" in row.what
        assert report.records == 7
        allowed = check(SCHEMA, backup, salvage=True)
        assert only(allowed, "damage").severity == "warning"
        assert allowed.fits
        assert allowed.damage


def test_backup_in_which_nothing_is_whole_is_refused_for_what_is_wrong_with_it() -> None:
    for backup, code in ((b" \n", "FNK201"), (b"[" * 2000, "FNK207"), (b'[{"a": 1}]', "FNK204")):
        with pytest.raises(BackupSyntaxError, match=code):
            check(SCHEMA, backup)
    with pytest.raises(BackupSyntaxError, match="FNK202 no whole record"):
        check(SCHEMA, b"[" * 2000, salvage=True)


def test_values_and_names_are_shown_shortened() -> None:
    long = "9" * 100_000
    backup = dump([*GOOD, record("docs.paper", 9, number="P", author=1)])
    report = check(SCHEMA, backup.replace(b'"author": 1}', b'"author": %s}' % long.encode()))
    (value,) = only(report, "finding").values
    assert len(value) < 100
    assert len(str(Place(None, 0, 1, long, long, long))) < 1000
    assert max(map(len, table(COLUMNS, [row.cells() for row in report.rows]))) < 1000


def test_misfits_come_first_and_rows_have_cells() -> None:
    schema = Schema.of({**SCHEMA.models, "aaa.first": Model()})
    report = check(schema, dump([*GOOD, record("log.line", 1)]))
    assert [row.severity for row in report.rows] == ["misfit", "note"]
    assert all(len(row.cells()) == len(COLUMNS) for row in report.rows)
    assert json.loads(msgspec.json.encode(report))["fits"] is False


def test_backup_that_cannot_be_checked_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BackupSyntaxError):
        check(SCHEMA, b"no backup")
    with pytest.raises(SourceError):
        check(SCHEMA, tmp_path / "missing.json")
    with pytest.raises(SchemaError):
        check(tmp_path / "missing.json", dump(GOOD))


def test_nothing_is_written(tmp_path: Path) -> None:
    path, schema = tmp_path / "backup.json", tmp_path / "schema.json"
    path.write_bytes(dump(GOOD))
    SCHEMA.save(schema)
    report = check(schema, path)
    assert report.backup == str(path)
    assert report.fits
    assert {one.name for one in tmp_path.iterdir()} == {"backup.json", "schema.json"}
    assert path.read_bytes() == dump(GOOD)


def test_open_files_are_read_from_where_they_stand() -> None:
    file = io.BytesIO(b"head" + dump([*GOOD, record("log.line", 1)]))
    file.seek(4)
    assert only(check(SCHEMA, file), "unknown_model").count == 1


def test_pipes_are_read_once(tmp_path: Path) -> None:
    backup = dump([*GOOD, record("docs.paper", 9, number="P-9", author=99)])
    read, write = os.pipe()
    with io.FileIO(read) as stream, writing(io.FileIO(write, "w"), backup):
        assert only(check(SCHEMA, stream), "finding").code == "FNK301"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with writing(fifo, backup):
        assert only(check(SCHEMA, fifo), "finding").code == "FNK301"


@contextmanager
def writing(target: io.FileIO | Path, data: bytes) -> Iterator[None]:
    """Write in the background, as the other end of a pipe does."""

    def write() -> None:
        with target.open("wb") if isinstance(target, Path) else target as stream:
            stream.write(data)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        thread.join()
