"""The demonstration, played for real. Every play has a process of its own, as Django wants it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import fastnk
from fastnk.cli import make_parser
from fastnk.demo.screen import Example, ModelLine, Story, screen

PLAY = """
import sys
from pathlib import Path
from fastnk.demo import run

keep = Path(sys.argv[1]) if sys.argv[1:] else None
sys.exit(run(keep))
"""

COMPARE = """
import functools
import json
import sys
import django
from django.db import connections, transaction

django.setup()
from fastnk.demo import compare

rows = compare._rows
rows_of_old = functools.cache(lambda model: rows(model, "old"))
compare._rows = lambda model, name: rows_of_old(model) if name == "old" else rows(model, name)

def differences_after(statements):
    with transaction.atomic(using="new"):
        with connections["new"].cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                assert cursor.rowcount > 0, statement
        comparisons = compare.compare_databases("old", "new")
        transaction.set_rollback(True, using="new")
    return [line for comparison in comparisons for line in comparison.differences]

print(json.dumps([differences_after(statements) for statements in json.load(sys.stdin)]))
"""

RESTORE = """
import json
import sys
import django

django.setup()
import fastnk

reports = [fastnk.restore(name, database="new") for name in sys.argv[1:]]
print(json.dumps([[one.created, one.updated, one.unchanged] for one in reports]))
"""

DUMP = """
import sys
import django
from django.apps import apps
from django.core import serializers

django.setup()

def rows():
    # As dumpdata reads them, but with the rows that keys are made of, which it reads one by one.
    for model in apps.get_models():
        relations = [one for one in model._meta.concrete_fields if one.remote_field]
        names = [one.name for one in relations]
        names += [
            f"{one.name}__{far.name}"
            for one in relations
            for far in one.related_model._meta.concrete_fields
            if far.remote_field
        ]
        yield from model._default_manager.using("old").select_related(*names).order_by("pk")

with open(sys.argv[1], "w") as stream:
    serializers.serialize(
        "json",
        rows(),
        stream=stream,
        use_natural_foreign_keys=True,
        use_natural_primary_keys=True,
    )
"""

SPOILED_RESTORE = """
import sys
import fastnk
from fastnk.demo import run

restore = fastnk.restore

def restore_and_forget_a_comment(*arguments, **options):
    report = restore(*arguments, **options)
    from fastnk.demo.documents.models import DocumentComment
    DocumentComment.objects.using("new").order_by("pk").first().delete()
    return report

fastnk.restore = restore_and_forget_a_comment
sys.exit(run())
"""


def python(
    code: str, *arguments: object, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        check=False,
    )


def in_demo(folder: Path, code: str, *arguments: object, stdin: str = "") -> str:
    """What `code` prints where the demonstration of `folder` is the Django project."""
    process = python(
        code,
        *arguments,
        stdin=stdin,
        FASTNK_DEMO_FOLDER=str(folder),
        DJANGO_SETTINGS_MODULE="fastnk.demo.settings",
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


class Played:
    """A demonstration whose files were kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = python(PLAY, folder)
        assert "Traceback" not in self.process.stderr, self.process.stderr

    @property
    def lines(self) -> list[str]:
        return self.process.stdout.splitlines()

    def line(self, start: str) -> str:
        """The only line that starts with `start`, blanks before it aside."""
        (line,) = [line for line in self.lines if line.lstrip().startswith(start)]
        return line

    def records(self, name: str) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = json.loads((self.folder / name).read_bytes())
        return records

    def query(self, database: str, sql: str) -> list[tuple[Any, ...]]:
        return query(self.folder / f"{database}.sqlite3", sql)


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def contents(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows by table, but for those that tell of restores and of ids."""
    tables = query(database, "SELECT name FROM sqlite_master WHERE type = 'table'")
    names = {name for (name,) in tables} - {"fastnk_ledger", "sqlite_sequence"}
    return {name: query(database, f"SELECT * FROM {name} ORDER BY 1") for name in sorted(names)}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Played(tmp_path_factory.mktemp("demo") / "kept")


def test_ends_well_and_says_so(played: Played) -> None:
    assert played.process.returncode == 0
    total = len(played.records("legacy.json"))
    assert f"the same {total:,} rows in both databases" in played.line("EQUAL:")
    assert "NOT EQUAL" not in played.process.stdout


def test_is_one_screen(played: Played) -> None:
    assert 24 <= len(played.lines) <= 45
    assert max(map(len, played.lines)) <= 100 + len(str(played.folder))
    assert max(len(line) for line in played.lines if str(played.folder) not in line) <= 100


def test_names_the_formats(played: Played) -> None:
    assert played.line("detect").endswith("legacy_database_ids")
    assert played.line("convert").endswith("enhanced_natural_keys")


def test_counts_are_those_of_the_files(played: Played) -> None:
    natural = by_model(played.folder / "natural.json")
    for label, records in natural.items():
        backup, pks, _, created, updated, unchanged, _ = numbers(played.line(f"{label} "))
        assert backup == len(records) == created + updated + unchanged
        assert pks == sum("natural_key" in record for record in records)
    backup, pks, references, *_ = numbers(played.line("all "))
    assert backup == sum(map(len, natural.values()))
    assert f"{pks:,} pks and {references:,} references" in played.line("convert")


def numbers(line: str) -> list[int]:
    return [int(word.replace(",", "")) for word in line.split()[1:]]


def test_system_rows_were_there_and_others_were_not(played: Played) -> None:
    created, updated, unchanged = numbers(played.line("users.user "))[3:6]
    assert (created, updated, unchanged) == (39, 1, 0)
    created, updated, unchanged = numbers(played.line("documents.documenttype "))[3:6]
    assert (created, updated, unchanged) == (0, 1, 4)
    created, updated, unchanged = numbers(played.line("documents.document "))[3:6]
    assert (created, updated, unchanged) == (300, 0, 0)


def test_the_shown_ids_are_those_of_the_databases(played: Played) -> None:
    sql = "SELECT id FROM documents_document WHERE document_number = 'DOC-2025-0001'"
    ((old,),), ((new,),) = played.query("old", sql), played.query("new", sql)
    assert old != new
    assert played.line("Restored, with").endswith(f"DOC-2025-0001 was {old}, is {new}):")


def test_every_document_has_another_id(played: Played) -> None:
    sql = "SELECT document_number, id FROM documents_document"
    old, new = (dict(played.query(name, sql)) for name in ("old", "new"))
    assert old.keys() == new.keys()
    assert not any(old[number] == new[number] for number in old)
    assert numbers(played.line("documents.document "))[-1] == len(old) == 300


def test_supersedes_chains_survive(played: Played) -> None:
    sql = """SELECT later.document_number, earlier.document_number, later.id < earlier.id
             FROM documents_document later
             JOIN documents_document earlier ON later.supersedes_id = earlier.id"""
    old, new = (played.query(name, sql) for name in ("old", "new"))
    assert {pair[:2] for pair in old} == {pair[:2] for pair in new}
    assert {is_forward for *_, is_forward in old} == {0, 1}, "references both back and forward"


def test_shows_a_record_of_every_stage(played: Played) -> None:
    text = " ".join(" ".join(played.lines).split())
    (natural,) = [
        record
        for record in played.records("natural.json")
        if record.get("natural_key") == ["DOC-2025-0001", "APPROVAL"]
    ]
    (legacy,) = [
        record
        for record in played.records("legacy.json")
        if record["model"] == natural["model"]
        and record["fields"]["document"] == document_id(played, "old")
    ]
    assert json.dumps(legacy) in text
    assert json.dumps(natural) in text
    assert f'"fields": {{"document": {document_id(played, "new")},' in text


def document_id(played: Played, database: str) -> int:
    sql = "SELECT id FROM documents_document WHERE document_number = 'DOC-2025-0001'"
    pk: int = played.query(database, sql)[0][0]
    return pk


def test_restored_once_more_changes_nothing(played: Played, tmp_path: Path) -> None:
    copy_databases(played, tmp_path)
    total = len(played.records("legacy.json"))
    backups = [played.folder / name for name in ("legacy.json", "natural.json")]
    assert json.loads(in_demo(tmp_path, RESTORE, *backups)) == [[0, 0, total]] * 2
    assert contents(tmp_path / "new.sqlite3") == contents(played.folder / "new.sqlite3")


def test_the_shown_restore_works(played: Played, tmp_path: Path) -> None:
    copy_databases(played, tmp_path)
    shutil.copy(played.folder / "natural.json", tmp_path)
    _, _, command = played.line("cd ").partition("&& fastnk ")
    process = subprocess.run(
        [sys.executable, "-m", "fastnk", *shlex.split(command), "--no-input"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("DJANGO")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert contents(tmp_path / "new.sqlite3") == contents(played.folder / "new.sqlite3")


def copy_databases(played: Played, folder: Path) -> None:
    for name in ("old.sqlite3", "new.sqlite3"):
        shutil.copy(played.folder / name, folder)


def test_every_command_shown_is_one(played: Played) -> None:
    commands = [line.partition("fastnk ")[2] for line in played.lines if "fastnk " in line]
    assert len(commands) == 4
    for command in commands:
        make_parser().parse_args(shlex.split(command))


def test_is_the_same_every_time_but_for_a_difference_which_is_a_failure(
    played: Played, tmp_path: Path
) -> None:
    again = python(SPOILED_RESTORE, TMPDIR=str(tmp_path))
    assert again.returncode == 1
    assert list(tmp_path.iterdir()) == []
    lines = again.stdout.splitlines()
    at = played.lines.index(played.line("EQUAL:"))
    assert lines[:at] == played.lines[:at]
    assert lines[at].startswith("NOT EQUAL")
    assert lines[at + 1].startswith("  documents.documentcomment ['DOC-2025-")
    assert lines[at + 1].endswith("only in the old database")
    assert lines[at + 2 :] == ["", *played.lines[at + 4 :]]


def test_leaves_nothing_behind(tmp_path: Path) -> None:
    assert python(PLAY, TMPDIR=str(tmp_path)).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_folder_in_use(played: Played) -> None:
    before = (played.folder / "legacy.json").read_bytes()
    again = python(PLAY, played.folder)
    assert again.returncode == 1
    assert "legacy.json is there already" in again.stderr
    assert "UsageError" in again.stderr
    assert (played.folder / "legacy.json").read_bytes() == before


def test_refuses_a_process_that_uses_django() -> None:
    code = "from django.conf import settings\nsettings.configure()\n" + PLAY
    process = python(code)
    assert process.returncode == 1
    assert "UsageError: FNK101 Django is in use in this process" in process.stderr


def test_needs_django_only_when_it_runs() -> None:
    without_django = "import sys\nsys.modules['django'] = None\n"
    assert python(without_django + "import fastnk.demo").returncode == 0
    process = python(without_django + PLAY)
    assert process.returncode == 1
    assert "MissingExtraError: FNK102 the demonstration needs Django" in process.stderr
    assert 'pip install "fastnk[django]"' in process.stderr


# ---- the comparison -------------------------------------------------------------------------


PLANTED = [
    (
        "UPDATE documents_document SET title = 'forged' WHERE document_number = 'DOC-2025-0007'",
        "documents.document ['DOC-2025-0007']: title was '",
    ),
    (
        "UPDATE users_user SET is_superuser = 0 WHERE username = 'admin'",
        "users.user ['admin']: is_superuser was True, is False",
    ),
    (
        "DELETE FROM users_userrole WHERE id = (SELECT min(id) FROM users_userrole)",
        "users.userrole .*: only in the old database",
    ),
    (
        "INSERT INTO users_role (name, description) VALUES ('Intruder', '')",
        "users.role ['Intruder']: only in the new database",
    ),
    (
        "UPDATE documents_document SET supersedes_id = NULL WHERE id ="
        " (SELECT min(id) FROM documents_document WHERE supersedes_id IS NOT NULL)",
        "supersedes was ('DOC-2025-",
    ),
    (
        "UPDATE workflows_documentworkflow SET current_state_id = 'DRAFT' WHERE id ="
        " (SELECT min(id) FROM workflows_documentworkflow WHERE current_state_id <> 'DRAFT')",
        "is ('DRAFT',)",
    ),
    (
        "DELETE FROM workflows_documentworkflow_reviewers WHERE id ="
        " (SELECT min(id) FROM workflows_documentworkflow_reviewers)",
        "reviewers was [",
    ),
    (
        "DELETE FROM audit_loginaudit WHERE id = (SELECT max(id) FROM audit_loginaudit)",
        "audit.loginaudit .*: only in the old database",
    ),
    (
        "INSERT INTO audit_loginaudit (user_id, username, address, timestamp, succeeded)"
        " SELECT user_id, username, address, timestamp, succeeded FROM audit_loginaudit LIMIT 1",
        "audit.loginaudit .*: only in the new database",
    ),
]
"""What is done to the new database: values, references and rows that are changed, lost or too many,
with a natural key and without; and what the comparison says of each."""
ALL_WRONG = """UPDATE audit_audittrail SET content_type_id =
    (SELECT id FROM django_content_type WHERE model = 'role')"""


def test_comparison_notices_every_fault_and_nothing_else(played: Played) -> None:
    spoilings = [[statement for statement, _ in PLANTED], [ALL_WRONG], []]
    found = json.loads(in_demo(played.folder, COMPARE, stdin=json.dumps(spoilings)))
    planted, all_wrong, right = found
    for _, said in PLANTED:
        pattern = ".*".join(map(re.escape, said.split(".*")))
        assert sum(bool(re.search(pattern, line)) for line in planted) == 1, said
    assert len(planted) == len(PLANTED)
    assert len(all_wrong) == 2_000
    assert all("content_type was ('" in line for line in all_wrong)
    assert right == []


def test_many_differences_are_counted() -> None:
    record = {"natural_key": ["DOC"], "fields": {"document": 1}}
    story = Story(
        backup_bytes=0,
        rows_before=0,
        rows_after=0,
        legacy_format="",
        natural_format="",
        keys_written=0,
        references_written=0,
        example=Example(record, record, record),
        models=[ModelLine("app.model", 0, 0, 0, 0, 0, 0, 0)],
        differences=[f"app.model {number}: {'long ' * 50}" for number in range(25)],
    )
    lines = list(screen(story, None))
    assert any("25 differences" in line for line in lines)
    assert sum(line.startswith("  app.model ") for line in lines) == 20
    assert "  and 5 more" in lines
    assert max(map(len, lines)) <= 100


# ---- the conversion against Django's own natural dump ----------------------------------------


@pytest.fixture(scope="module")
def djangos(played: Played) -> dict[str, list[dict[str, Any]]]:
    """The old database as `dumpdata --natural-foreign --natural-primary` writes it."""
    path = played.folder / "djangos.json"
    in_demo(played.folder, DUMP, path)
    return by_model(path)


def by_model(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Records by model, in order: Django puts the models in another order for natural keys."""
    models: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in json.loads(path.read_bytes()):
        models[record["model"]].append(record)
    return dict(models)


def test_style_django_is_what_django_writes(
    played: Played, djangos: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    output = tmp_path / "converted.json"
    fastnk.convert(
        played.folder / "legacy.json", output, played.folder / "schema.json", style="django"
    )
    assert by_model(output) == djangos


def test_style_fastnk_only_adds_the_natural_keys(
    played: Played, djangos: dict[str, list[dict[str, Any]]]
) -> None:
    ours = by_model(played.folder / "natural.json")
    assert {label: [without_key(record) for record in ours[label]] for label in ours} == djangos


def without_key(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "natural_key"}


def test_keys_are_what_the_methods_return(played: Played) -> None:
    code = """
import json
import django

django.setup()
from django.apps import apps

keys = {
    model._meta.label_lower: [
        list(row.natural_key()) for row in model._base_manager.using("old").order_by("pk")
    ]
    for model in apps.get_models()
    if hasattr(model, "natural_key")
}
print(json.dumps(keys))
"""
    expected = json.loads(in_demo(played.folder, code))
    ours = by_model(played.folder / "natural.json")
    assert "audit.loginaudit" not in expected
    found = {label: [record["natural_key"] for record in ours[label]] for label in expected}
    assert found == expected
