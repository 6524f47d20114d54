"""The command: exit codes, what goes to which stream, and what is left behind."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fastnk import formats
from fastnk.cli import main, make_parser
from fastnk.cli.printing import Outcome, document, table
from fastnk.errors import Finding, FindingList, FindingsError, Place
from fastnk.schema import Model, Relation, Schema

README = Path(__file__).parents[1] / "README.md"

USERS = [
    {"model": "users.user", "pk": pk, "fields": {"username": name, "manager": None}}
    for pk, name in ((1, "ann"), (2, "bob"))
]


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "schema.json"
    Schema.of(
        {
            "users.user": Model(
                natural_key=["username"], relations={"manager": Relation("users.user")}
            )
        }
    ).save(path)
    return path


def write(path: Path, records: Any) -> Path:
    path.write_text(json.dumps(records))
    return path


def dangling(count: int) -> list[dict[str, Any]]:
    return USERS + [
        {"model": "users.user", "pk": pk, "fields": {"username": f"u{pk}", "manager": 10_000 + pk}}
        for pk in range(10, 10 + count)
    ]


def convert(backup: Path, out: Path, schema: Path, *more: str) -> int:
    return main(["convert", str(backup), str(out), "--schema", str(schema), *more])


def test_convert(tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert convert(write(tmp_path / "b.json", USERS), out, schema) == 0
    assert [record["natural_key"] for record in json.loads(out.read_text())] == [["ann"], ["bob"]]
    captured = capsys.readouterr()
    assert "2 records, 2 pks and 0 references" in captured.out
    assert f"next: fastnk restore {out}" in captured.err


def test_findings_are_shown_up_to_twenty_and_reported_whole(
    tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = write(tmp_path / "b.json", dangling(25))
    report = tmp_path / "report.json"
    assert convert(backup, tmp_path / "out.json", schema, "--report", str(report)) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n  FNK301 ") == 20
    assert "and 5 more; in all\n" in captured.err
    assert "25  FNK301 no record has this id: users.user.manager\n" in captured.err
    error = json.loads(report.read_text())["error"]
    assert error["total"] == len(error["findings"]) == 25
    first = error["findings"][0]
    text = backup.read_text()
    assert text[first["offset"] :].startswith("10010}")
    assert first == {
        "code": "FNK301",
        "what": "no record has this id",
        "path": str(backup),
        "offset": first["offset"],
        "record": 3,
        "model": "users.user",
        "pk": "10",
        "field": "manager",
        "value": "10010",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "b.json",
        "report.json",
        "schema.json",
    ]


def test_every_kind_of_finding_is_shown() -> None:
    found = FindingList()
    for record in range(1, 31):
        found.add(Finding("FNK301", "no", Place(record=record, model="a.b", field="c")))
    found.add(Finding("FNK302", "none", Place(record=31, model="a.d")))
    shown = [int(number) for number in re.findall(r"record (\d+)", str(FindingsError(found)))]
    assert shown == [*range(1, 20), 31]


def test_what_a_finding_quotes_changes_nothing_on_a_terminal() -> None:
    place = Place(record=1, model="a.b", pk="x\n\x1b[2J", field="c\r\x9b")
    shown = str(Finding("FNK301", "no", place, "é\t\x1b]0;title\x07"))
    assert r"a.b pk x \x1b[2J, field c \x9b" in shown
    assert r"(é \x1b]0;title\x07)" in shown


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_report_that_cannot_be_written_is_a_failure(
    tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup, report = write(tmp_path / "b.json", USERS), "/dev/full"
    assert convert(backup, tmp_path / "out.json", schema, "--report", report) == 1
    captured = capsys.readouterr()
    assert "FNK130 cannot write the report" in captured.err
    assert "2 records" in captured.out
    bad = write(tmp_path / "bad.json", dangling(1))
    assert convert(bad, tmp_path / "bad.out", schema, "--report", report) == 4


@pytest.mark.parametrize(("policy", "left"), [("keep", [10_010]), ("null", [None]), ("drop", [])])
def test_policy_that_loses_something_exits_with_3(
    tmp_path: Path, schema: Path, policy: str, left: list[Any]
) -> None:
    out = tmp_path / "out.json"
    backup = write(tmp_path / "b.json", dangling(1))
    assert convert(backup, out, schema, "--on-unresolved", policy) == 3
    records = json.loads(out.read_text())
    assert [record["fields"]["manager"] for record in records[2:]] == left


@pytest.mark.parametrize(
    ("content", "code"), [("", 1), ("[1]", 1), ('[{"model": "users.user"', 1), ("[{]", 1)]
)
def test_damaged_backup_exits_with_1(
    tmp_path: Path, schema: Path, content: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "b.json"
    backup.write_text(content)
    assert convert(backup, tmp_path / "out.json", schema) == code
    assert "  at " in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_existing_output_and_output_over_input_exit_with_2(
    tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = write(tmp_path / "b.json", USERS)
    out = write(tmp_path / "out.json", "precious")
    assert convert(backup, out, schema) == 2
    assert "FNK131" in capsys.readouterr().err
    assert out.read_text() == '"precious"'
    assert convert(backup, out, schema, "--force") == 0
    assert convert(backup, backup, schema, "--force") == 2
    assert "FNK132" in capsys.readouterr().err
    assert json.loads(backup.read_text()) == USERS


def test_salvage_exits_with_3_and_says_what_is_lost(
    tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = json.dumps(USERS)
    backup = tmp_path / "b.json"
    backup.write_text(whole[:-10])
    out = tmp_path / "out.json"
    assert convert(backup, out, schema) == 1
    message = capsys.readouterr().err
    assert f"b.json:{len(whole) - 10}" in message
    assert "--salvage" in message
    assert convert(backup, out, schema, "--salvage") == 3
    assert [record["natural_key"] for record in json.loads(out.read_text())] == [["ann"]]
    assert "kept 1 whole record," in capsys.readouterr().out


def test_keys_supply_what_the_backup_leaves_out(tmp_path: Path, schema: Path) -> None:
    keys = write(
        tmp_path / "more.json",
        [{"model": "users.user", "pk": 10_010, "fields": {"username": "zoe", "manager": None}}],
    )
    out = tmp_path / "out.json"
    backup = write(tmp_path / "b.json", dangling(1))
    assert convert(backup, out, schema, "--keys", str(keys)) == 0
    assert json.loads(out.read_text())[2]["fields"]["manager"] == ["zoe"]


@pytest.mark.parametrize("broken", [False, True])
def test_json_is_one_document_on_stdout(
    tmp_path: Path, schema: Path, broken: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = write(tmp_path / "b.json", dangling(1) if broken else USERS)
    code = convert(backup, tmp_path / "out.json", schema, "--json")
    document = json.loads(capsys.readouterr().out)
    assert (code, "error" in document) == ((4, True) if broken else (0, False))


def test_detect(tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = write(tmp_path / "b.json", USERS)
    assert main(["detect", str(backup), "--schema", str(schema)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{backup}: legacy_database_ids\n")
    assert f"next: fastnk convert {backup} natural.json --schema {schema}" in captured.err


def test_next_command_does_not_write_over_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "natural.json", USERS)
    (tmp_path / "schema.json").touch()
    assert main(["detect", "natural.json"]) == 0
    assert "next: fastnk convert natural.json converted.json " in capsys.readouterr().err


def test_next_command_makes_the_schema_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "b.json", USERS)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "mine.settings")
    assert main(["detect", "b.json"]) == 0
    command = "schema django --settings mine.settings -o schema.json"
    assert f"next: fastnk {command}\n" in capsys.readouterr().err
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    assert main(["detect", "b.json"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "next: fastnk schema infer b.json -o schema.json"
    assert main(line.removeprefix("next: fastnk ").split()) == 0
    assert main(["detect", "b.json"]) == 0
    assert "next: fastnk convert b.json natural.json " in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["convert", "a"], ["schema"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["restor"], "invalid choice: 'restor'"),
        (["--on-unresolvd", "keep"], '--on-unresolvd keep; did you mean "--on-unresolved"?'),
        (["--on-unresolved", "kep"], "invalid choice: 'kep'"),
        (["--memory-limit", "256MB"], '"256MB" is no size, as 256M or 2G are'),
        (["--memory-limit", ""], '"" is no size'),
        (["--report", "no/such/report.json"], "cannot write no/such/report.json"),
        (["--report", "."], "cannot write ."),
    ],
)
def test_wrong_usage_is_told_shortly_before_anything_is_done(
    tmp_path: Path, schema: Path, words: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    verb = ["convert", str(write(tmp_path / "b.json", USERS)), str(out), "--schema", str(schema)]
    with pytest.raises(SystemExit) as caught:
        main([*verb, *words] if words[0].startswith("-") else words)
    said = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2
    assert said[0].startswith("FNK101 ")
    assert what in said[0]
    assert said[1:] == [f"  try: fastnk {'convert ' if words[1:] else ''}--help"]
    assert not out.exists()


@pytest.mark.parametrize(
    "head",
    [
        "SQLite format 3\0\x10\0\1\1",
        "PGDMP\1\x0e\0\4\x08",
        "--\n-- PostgreSQL database dump\n--\n\nSET x = 0;\n",
        "--\n-- PostgreSQL database cluster dump\n--\n",
        "-- MySQL dump 10.13  Distrib 5.7.26, for Linux (x86_64)\n",
        "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19-11.4.2-MariaDB\n",
        "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n",
    ],
)
def test_dump_of_a_database_is_told_as_such(
    tmp_path: Path, schema: Path, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "backup"
    backup.write_text(head + "INSERT INTO a VALUES (1, '[{}]');\n" * 9)
    for code in (main(["detect", str(backup)]), convert(backup, tmp_path / "out.json", schema)):
        assert code == 1
    said = capsys.readouterr().err
    assert said.count("FNK200 a database, or a dump of one, and no backup by dumpdata") == 2
    assert said.count("manage.py dumpdata --all") == 2


def test_what_git_keeps_in_place_of_a_large_file_is_told_as_such(
    tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "backup.json"
    backup.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    )
    for code in (main(["detect", str(backup)]), convert(backup, tmp_path / "out.json", schema)):
        assert code == 1
    said = capsys.readouterr().err
    assert said.count("FNK200 only what Git keeps in place of the backup") == 2
    assert said.count("try: fetch the backup itself: git lfs pull\n") == 2


@pytest.mark.parametrize("settings", [None, "shop.settings"])
def test_next_command_names_the_project_that_is_known(
    tmp_path: Path,
    schema: Path,
    settings: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    if settings:
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", settings)
    assert convert(write(tmp_path / "b.json", USERS), tmp_path / "out.json", schema) == 0
    assert f" --settings {settings or 'mysite.settings'}\n" in capsys.readouterr().err


def test_schema_that_does_not_hold_together_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"version": 1, "models": {"a.b": {"relations": {"c": {"to": "a.d"}}}}}')
    assert convert(write(tmp_path / "b.json", USERS), tmp_path / "out.json", schema) == 2
    assert "models.a.b.relations.c.to" in capsys.readouterr().err


def test_every_verb_is_in_the_readme() -> None:
    readme = README.read_text()
    (verbs,) = (action for action in make_parser()._actions if action.choices)
    for verb in verbs.choices or ():
        assert f"fastnk {verb}" in readme or f"make {verb}" in readme


def test_help_waits_for_no_import() -> None:
    code = "import sys; from fastnk.cli import make_parser; make_parser().format_help()"
    code += "; sys.exit('msgspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_table_aligns_and_cuts_nothing() -> None:
    label = "a_very_long_application.with_a_very_long_model_name_indeed"
    assert table(("model", "n"), [(label, 12345), ("x", 1)]) == [
        f"  {'model':<{len(label)}}       n",
        f"  {label}  12,345",
        f"  {'x':<{len(label)}}       1",
    ]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fastnk", *arguments]


def test_reader_of_a_pipe_that_goes_away_is_no_error(tmp_path: Path) -> None:
    backup = write(tmp_path / "b.json", USERS)
    process = subprocess.Popen(
        command("detect", *[str(backup)] * 3000),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141


@pytest.mark.parametrize(
    ("streams", "code", "said"),
    [
        (">&-", 1, "FNK130 done, but standard output takes no report: Bad file descriptor"),
        ("2>&-", 0, "became natural keys"),
        ("<&-", 0, "became natural keys"),
        pytest.param(
            ">/dev/full",
            1,
            "FNK130 done, but standard output takes no report: No space left on device",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it"),
        ),
    ],
)
def test_streams_that_are_closed_or_full(
    tmp_path: Path, schema: Path, streams: str, code: int, said: str
) -> None:
    out = tmp_path / "out.json"
    words = command("convert", str(write(tmp_path / "b.json", USERS)), str(out))
    line = f"{shlex.join([*words, '--schema', str(schema)])} {streams}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(json.loads(out.read_text())) == len(USERS)


def test_closed_standard_input_is_no_empty_backup() -> None:
    line = f"{shlex.join(command('detect', '-'))} <&-"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "FNK120 cannot read standard input: Bad file descriptor\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_names_that_the_terminal_cannot_show(tmp_path: Path, as_json: bool) -> None:
    name = "\u043a\u043b\u044e\u0447.json"
    write(tmp_path / name, USERS)
    done = subprocess.run(
        command("detect", name, *["--json"] * as_json),
        env={**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "latin-1"},
        cwd=tmp_path,
        capture_output=True,
    )
    assert done.returncode == 0
    if as_json:
        assert list(json.loads(done.stdout)) == [name]
    else:
        assert done.stdout.startswith(rb"\u043a\u043b\u044e\u0447.json: legacy_database_ids")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("by\nzero"), "FNK140 ZeroDivisionError: by zero"),
        (MemoryError(), "FNK140 there is not enough memory"),
    ],
)
def test_what_nobody_expected_is_told(
    error: Exception,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("fastnk.records.RecordReader.records", fail)
    words = ["detect", str(write(tmp_path / "b.json", USERS)), "--json"]
    assert main(words) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"]["code"] == "FNK140"
    assert shown.err.startswith(said)
    assert re.search(r"\n  at .*test_cli\.py, line \d+\n  try: --", shown.err)
    assert shown.err.count("\n") == 3
    with pytest.raises(type(error)):
        main([*words, "--debug"])


def test_names_of_files_that_are_no_text_are_json() -> None:
    name = os.fsdecode(b"\xff.json")
    assert json.loads(document(Outcome({name: name}, ""))) == {name: name}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_leaves_nothing(
    tmp_path: Path, schema: Path, number: signal.Signals, code: int
) -> None:
    pipe = tmp_path / "backup.pipe"
    os.mkfifo(pipe)
    out = tmp_path / "out.json"
    process = subprocess.Popen(
        command("convert", str(pipe), str(out), "--schema", str(schema)), stderr=subprocess.PIPE
    )
    with pipe.open("wb", buffering=0) as writer:  # opens when the reader does
        writer.write(b"[")
        time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert b"Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.pipe", "schema.json"]


def test_standard_input_and_output(tmp_path: Path, schema: Path) -> None:
    backup = json.dumps(USERS).encode()
    command = [sys.executable, "-m", "fastnk", "convert", "-", "-", "--schema", str(schema)]
    done = subprocess.run(command, input=gzip.compress(backup), capture_output=True, check=True)
    assert [record["natural_key"] for record in json.loads(done.stdout)] == [["ann"], ["bob"]]
    assert b"2 records" in done.stderr
    done = subprocess.run(
        [*command, "--compress", "gzip"], input=backup, capture_output=True, check=True
    )
    assert len(json.loads(gzip.decompress(done.stdout))) == 2


def test_output_whose_name_promises_an_archive(
    tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup, out = write(tmp_path / "b.json", USERS), tmp_path / "out.ZIP"
    assert convert(backup, out, schema) == 2
    assert "FNK101 an output is no zip, whatever its name says" in capsys.readouterr().err
    assert convert(backup, out, schema, "--compress", "none") == 0


def test_several_files_are_one_backup(tmp_path: Path, schema: Path) -> None:
    first = write(tmp_path / "a.json", USERS[:1])
    second = write(tmp_path / "b.json", USERS[1:])
    out = tmp_path / "out.json"
    assert main(["convert", str(second), str(first), str(out), "--schema", str(schema)]) == 0
    assert len(json.loads(out.read_text())) == 2


def test_formats_lists_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats"]) == 0
    shown = capsys.readouterr().out
    assert all(row.name in shown for row in formats.ROWS)


def test_salvage_lists_what_is_lost(
    tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "b.json"
    backup.write_text("WARNING: beware\n" + json.dumps(USERS) + "\nDone\n")
    assert main(["detect", str(backup), "--salvage"]) == 3
    assert "lost 19 bytes in 2 places" in capsys.readouterr().out
    assert convert(backup, tmp_path / "out.json", schema, "--salvage") == 3
    shown = capsys.readouterr().out
    assert "bytes 0 to 15" in shown
    assert "WARNING: beware" in shown
    assert "Done" in shown


def test_salvage_names_what_needs_a_lost_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema, backup = tmp_path / "schema.json", tmp_path / "b.json"
    book = Model(natural_key=["shelf__name"], relations={"shelf": Relation("a.shelf")})
    Schema.of({"a.book": book, "a.shelf": Model(natural_key=["name"])}).save(schema)
    text = (
        '[{"model": "a.book", "pk": 1, "fields": {"shelf": 5}}, {"model": "a.shelf", "pk": 5, "fi'
    )
    backup.write_text(text)
    pk, shelf = text.index('"pk": 1'), text.index("5}")
    assert convert(backup, tmp_path / "out.json", schema, "--salvage") == 3
    shown = capsys.readouterr().out
    assert "need what is lost, or was never there: 2 references and keys\n" in shown
    assert f"    {backup}:{pk}, record 1, a.book pk 1: the natural key cannot be made" in shown
    assert f"    {backup}:{shelf}, record 1, a.book pk 1, field shelf: 5\n" in shown


def test_verify_takes_the_policies_of_the_conversion(
    tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "b.json"
    dangling = {"model": "users.user", "pk": 3, "fields": {"username": "eve", "manager": 9}}
    backup.write_text(json.dumps([*USERS, dangling]))
    verify = ["verify", str(backup), str(tmp_path / "out.json"), "--schema", str(schema)]
    for word, what in (
        ("keep", "references that stay ids"),
        ("null", "references that became null"),
        ("drop", "records left out"),
    ):
        by = ["--on-unresolved", word]
        assert convert(backup, tmp_path / "out.json", schema, *by, "--force") == 3
        assert main(verify) == 5
        capsys.readouterr()
        assert main([*verify, *by]) == 3
        shown = capsys.readouterr().out
        assert shown.startswith("faithful, but not complete")
        assert f"  {what}: 1, by --on-unresolved {word}\n" in shown
        assert main([*verify, *by, "--json"]) == 3
        report = json.loads(capsys.readouterr().out)
        assert report["allowed"] == {"on_unresolved": {what: 1}}
        assert (report["faithful"], report["complete"]) == (True, False)


@pytest.fixture
def halves(tmp_path: Path) -> list[str]:
    """One backup in two files; the records of the second refer to those of the first."""
    staff = [
        {"model": "users.user", "pk": pk, "fields": {"username": f"u{pk}", "manager": pk - 2}}
        for pk in (3, 4)
    ]
    files = [write(tmp_path / "a.json", USERS), write(tmp_path / "b.json", staff)]
    return [str(file) for file in files]


def test_every_verb_takes_several_files_as_one_backup(
    tmp_path: Path, schema: Path, halves: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, by = str(tmp_path / "out.json"), ["--schema", str(schema)]
    assert main(["detect", *halves, "--together"]) == 0
    assert main(["schema", "infer", *halves]) == 0
    assert main(["schema", "check", str(schema), *halves]) == 0
    assert main(["convert", *halves, out, *by]) == 0
    assert main(["verify", *halves, out, *by]) == 0
    told = capsys.readouterr().out
    assert "4 records: fits" in told
    assert "faithful" in told
    managers = [record["fields"]["manager"] for record in json.loads(Path(out).read_text())]
    assert managers == [None, None, ["ann"], ["bob"]]


def test_every_verb_takes_standard_input_and_pipes(
    tmp_path: Path, schema: Path, halves: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def piped(*words: str) -> int:
        reading, writing = os.pipe()
        os.write(writing, Path(halves[0]).read_bytes())
        os.close(writing)
        with os.fdopen(reading) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            return main([*words])

    out, by = str(tmp_path / "out.json"), ["--schema", str(schema)]
    assert piped("detect", "-") == 0
    assert piped("schema", "infer", "-", halves[1]) == 0
    assert piped("schema", "check", str(schema), "-", halves[1]) == 0
    assert piped("convert", "-", halves[1], out, *by) == 0
    assert piped("verify", "-", halves[1], out, *by) == 0


def test_every_verb_says_what_salvage_would_do_and_does_it(
    tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "b.json"
    backup.write_bytes(b"Loading\n" + json.dumps(USERS).encode())
    out, by = str(tmp_path / "out.json"), ["--schema", str(schema)]
    verbs = {
        "detect": [str(backup)],
        "schema infer": [str(backup)],
        "convert": [str(backup), out, *by],
        "verify": [str(backup), out, *by],
    }
    for verb, words in verbs.items():
        assert main([*verb.split(), *words, "--json"]) == 1
        told = capsys.readouterr()
        assert "--salvage, which keeps 2 whole records, loses 7 bytes in 1 place" in told.err
        (loss,) = json.loads(told.out)["error"]["salvage"]["losses"]
        assert (loss["start"], loss["end"], loss["seen"]) == (0, 7, "Loading")
        assert main([*verb.split(), *words, "--salvage"]) == 3
        assert "lost 7 bytes in 1 place" in capsys.readouterr().out
    assert main(["schema", "check", str(schema), str(backup)]) == 4
    assert main(["schema", "check", str(schema), str(backup), "--salvage"]) == 3


def test_cut_off_backup_is_detected_with_what_salvage_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schema.json").touch()
    backup = tmp_path / "b.json"
    backup.write_text(json.dumps(USERS)[:-20])
    assert main(["detect", str(backup)]) == 0
    said = capsys.readouterr()
    assert "--salvage keeps 1 whole record, loses" in said.out
    assert "natural.json --schema schema.json --salvage" in said.err
