"""`fastnk bench`: what it measures is named, adds up, and leaves nothing behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fastnk.bench import BenchReport, bench
from fastnk.cli import main
from fastnk.errors import FastnkError, FindingsError, OutputError, SourceError, UsageError
from fastnk.schema import Model, Relation, Schema

USERS = {"users.user": Model(natural_key=["username"], relations={"boss": Relation("users.user")})}


def write(folder: Path, *bosses: int | None) -> Path:
    """A folder with nothing but a schema and a backup of one user for each of `bosses`."""
    records = [
        {"model": "users.user", "pk": pk, "fields": {"username": f"u{pk}", "boss": boss}}
        for pk, boss in enumerate(bosses, start=1)
    ]
    Schema.of(USERS).save(folder / "schema.json")
    backup = folder / "backup.json"
    backup.write_text(json.dumps(records))
    return backup


def measured(backup: Path, **options: Any) -> BenchReport:
    return bench(backup, backup.with_name("schema.json"), **options)


def command(backup: Path, *more: str) -> int:
    return main(["bench", str(backup), "--schema", str(backup.with_name("schema.json")), *more])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_phases_and_copies_beside_the_conversion(tmp_path: Path) -> None:
    backup = write(tmp_path, None, 1, 2)
    report = measured(backup, runs=1)
    assert (report.records, report.bytes, report.runs) == (3, backup.stat().st_size, 1)
    phases = {phase.name: phase for phase in report.phases}
    assert list(phases) == ["detect", "index", "keys", "splice", "write", "commit"]
    converting = [phase for phase in report.phases if phase.name != "detect"]
    assert sum(phase.seconds for phase in converting) == pytest.approx(report.seconds)
    assert sum(phase.share for phase in converting) == pytest.approx(1)
    assert phases["detect"].mb_per_second is None
    assert [copy.name for copy in report.copies] == ["copy", "copy, on disk"]
    assert report.copies[0].seconds < report.copies[1].seconds
    for timing in (phases["splice"], *report.copies):
        assert timing.mb_per_second == pytest.approx(report.bytes / 1e6 / timing.seconds)
        assert timing.share == pytest.approx(timing.seconds / report.seconds)


def test_share_of_a_restore(tmp_path: Path) -> None:
    report = measured(write(tmp_path, None, 1), runs=1, restore_rates=[0.5, 2])
    detection = report.phases[0].seconds
    for restore, loading in zip(report.restores, (4, 1), strict=True):
        assert restore.seconds == pytest.approx(loading + report.seconds + detection)
        assert restore.conversion_share == pytest.approx(1 - loading / restore.seconds)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_leaves_nothing_behind(tmp_path: Path, elsewhere: bool) -> None:
    backup = write(tmp_path, None, 1)
    folder = tmp_path / "folder"
    folder.mkdir()
    report = measured(backup, folder=folder if elsewhere else None)
    assert report.folder == str(folder if elsewhere else tmp_path)
    assert names(folder) == []
    assert names(tmp_path) == ["backup.json", "folder", "schema.json"]


def test_findings_are_those_of_a_conversion(tmp_path: Path) -> None:
    backup = write(tmp_path, None, 99)
    with pytest.raises(FindingsError, match="FNK301"):
        measured(backup)
    assert names(tmp_path) == ["backup.json", "schema.json"]
    assert command(backup) == 4
    assert command(backup, "--on-unresolved", "keep", "--runs", "1") == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"runs": 0}, UsageError),
        ({"restore_rates": [0]}, UsageError),
        ({"folder": "no/such/folder"}, OutputError),
        ({"jobs": 0}, UsageError),
    ],
)
def test_what_cannot_be_measured(
    tmp_path: Path, options: dict[str, Any], error: type[FastnkError]
) -> None:
    with pytest.raises(error):
        measured(write(tmp_path, None), **options)


def test_backup_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, None).unlink()
    with pytest.raises(SourceError, match="cannot read"):
        measured(tmp_path / "backup.json")


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, None).unlink()
    os.mkfifo(tmp_path / "backup.json")
    with pytest.raises(UsageError, match="no file"):
        measured(tmp_path / "backup.json")


def test_says_it_to_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = write(tmp_path, None, 1, 2)
    assert command(backup, "--runs", "1", "--restore-rate", "50") == 0
    captured = capsys.readouterr()
    assert "3 records" in captured.out
    assert [*(line.split()[0] for line in captured.out.splitlines()[1:10])] == [
        *("phase", "detect", "index", "keys", "splice", "write", "commit", "copy", "copy,")
    ]
    assert "at 50 rows/s a restore of these 3 records takes 0.1 s" in captured.out
    assert f"next: fastnk convert {backup} natural.json" in captured.err


def test_says_it_to_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(write(tmp_path, None), "--runs", "1", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["records"] == 1
    assert [restore["rows_per_second"] for restore in document["restores"]] == [1000, 10000, 30000]
