"""The benchmarks: what is measured is what it claims to be, and every figure is a measured one."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import (
    comparing,
    fields,
    generate,
    instructions,
    passes,
    report,
    running,
    small,
)
from benchmarks.backups import Store
from benchmarks.rivals.rewrite import Rewriter
from fastnk.schema import Schema, flat_parts, parse_path
from tests import oracle

ROOT = Path(__file__).resolve().parent.parent
Record = dict[str, Any]


def read_records(path: Path) -> list[Record]:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if text.startswith("[") else [*map(json.loads, text.splitlines())]


def generated(folder: Path, megabytes: float, layout: str = "compact", seed: int = 1) -> Path:
    backup = folder / f"{layout}-{megabytes}-{seed}.json"
    generate.generate(backup, megabytes, layout, seed)
    return backup


@pytest.fixture(scope="module")
def backups(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("generated")
    return {layout: generated(folder, 1.5, layout) for layout in generate.LAYOUTS}


@pytest.fixture(scope="module")
def records(backups: dict[str, Path]) -> list[Record]:
    return read_records(backups["compact"])


@pytest.fixture(scope="module")
def schema(backups: dict[str, Path]) -> Schema:
    return Schema.load(generate.schema_path(backups["compact"]))


# The generator


def test_same_seed_same_bytes_on_every_machine(tmp_path: Path) -> None:
    backup = generated(tmp_path, 0.3)
    digest = hashlib.sha256(backup.read_bytes()).hexdigest()
    assert digest == "5ea94394d0b146fd3e03436d8380a666a4c605eeb9e9abf831895a7354f28bf5"


def test_another_seed_gives_another_backup(tmp_path: Path) -> None:
    assert generated(tmp_path, 0.3).read_bytes() != generated(tmp_path, 0.3, seed=2).read_bytes()


@pytest.mark.parametrize("layout", generate.LAYOUTS)
def test_every_layout_holds_the_same_records(
    layout: str, backups: dict[str, Path], records: list[Record]
) -> None:
    assert read_records(backups[layout]) == records


@pytest.mark.parametrize(
    ("layout", "arranged"),
    [
        ("compact", lambda records: json.dumps(records, ensure_ascii=False)),
        (
            "indented",
            lambda records: (
                "[\n"
                + ",\n".join(json.dumps(record, indent=2, ensure_ascii=False) for record in records)
                + "\n]\n"
            ),
        ),
        (
            "jsonl",
            lambda records: "".join(
                json.dumps(record, ensure_ascii=False) + "\n" for record in records
            ),
        ),
    ],
)
def test_spelled_as_dumpdata_spells(
    layout: str,
    arranged: Callable[[list[Record]], str],
    backups: dict[str, Path],
    records: list[Record],
) -> None:
    assert backups[layout].read_text(encoding="utf-8") == arranged(records)


@pytest.mark.parametrize("megabytes", [1, 4])
def test_has_the_size_that_was_asked_for(megabytes: int, tmp_path: Path) -> None:
    size = generated(tmp_path, megabytes).stat().st_size
    assert size == pytest.approx(megabytes * 1e6, rel=0.05)


def test_memory_does_not_grow_with_the_size(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.generate", str(tmp_path / "backup.json"), "--size"]
    small, large = (running.measure([*command, size]).peak_bytes for size in ("16", "40"))
    assert large < small + 4e6


def test_holds_what_makes_conversion_hard(backups: dict[str, Path], records: list[Record]) -> None:
    text = backups["compact"].read_text(encoding="utf-8")
    assert '\\"' in text
    assert "\\\\" in text
    assert not text.isascii()
    audits = sum(record["model"] == "audit.audittrail" for record in records)
    assert audits * 10 > len(records) * 4
    documents = {r["pk"]: r["fields"] for r in records if r["model"] == "documents.document"}
    pointing = {pk: d["supersedes"] for pk, d in documents.items() if d["supersedes"]}
    assert any(target > pk for pk, target in pointing.items())
    assert any(target < pk for pk, target in pointing.items())
    assert {len(document["reviewers"]) for document in documents.values()} == {0, 1, 2, 3}


def test_every_model_of_the_schema_occurs(records: list[Record], schema: Schema) -> None:
    assert {record["model"] for record in records} == set(schema.models)


def test_every_reference_resolves(records: list[Record], schema: Schema) -> None:
    rows = {(record["model"], record["pk"]) for record in records}
    referred = [
        (relation.to, value)
        for record in records
        for name, relation in schema.models[record["model"]].relations.items()
        for value in (record["fields"][name] if relation.many else [record["fields"][name]])
        if value is not None
    ]
    assert len(referred) > len(records)
    assert [reference for reference in referred if reference not in rows] == []


def test_pks_and_natural_keys_are_unique(records: list[Record], schema: Schema) -> None:
    rows = {(record["model"], record["pk"]): record for record in records}
    assert len(rows) == len(records)

    def value(label: str, record: Record, path: str) -> Any:
        hops, field, _ = parse_path(path)
        for hop in hops:
            label, pk = schema.models[label].relations[hop].to, record["fields"][hop]
            record = rows[label, pk]
        return record["pk"] if field == schema.models[label].pk else record["fields"][field]

    keys = Counter(
        (label, *(value(label, record, path) for path in flat_parts(key)))
        for (label, _), record in rows.items()
        if (key := schema.models[label].natural_key)
    )
    assert [key for key, times in keys.items() if times > 1] == []
    assert [key for key in keys if None in key] == []


# The rivals


def run_rival(name: str, backup: Path, output: Path) -> subprocess.CompletedProcess[str]:
    what = running.Input(name, backup, generate.schema_path(backup), backup.stat().st_size)
    command = running.command_of(name, what, output)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_converters_give_equal_records(backups: dict[str, Path], tmp_path: Path) -> None:
    """Of the layout that is not among those of the run further down."""
    outputs = {}
    for name in running.CONVERTERS:
        output = tmp_path / f"{name}.json"
        done = run_rival(name, backups["indented"], output)
        assert done.returncode == 0, done.stderr
        outputs[name] = read_records(output)
    first = outputs["json"]
    assert [name for name, converted in outputs.items() if converted != first] == []


def test_rivals_give_what_the_oracle_gives(tmp_path: Path) -> None:
    backup = generated(tmp_path, 0.1)
    expected = oracle.convert(
        read_records(backup), Schema.load(generate.schema_path(backup)), style="fastnk"
    )
    assert expected.findings == []
    output = tmp_path / "output.json"
    assert run_rival("json", backup, output).returncode == 0
    assert read_records(output) == expected.records


@pytest.mark.parametrize("name", running.CONVERTERS)
def test_an_id_without_a_row_stops_every_converter(name: str, tmp_path: Path) -> None:
    backup = generated(tmp_path, 0.1)
    damaged = backup.read_text(encoding="utf-8").replace('"manager": 1,', '"manager": 999999,')
    backup.write_text(damaged, encoding="utf-8")
    done = run_rival(name, backup, tmp_path / "output.json")
    assert done.returncode != 0
    assert "999999" in done.stderr


def test_rewrite_handles_nested_keys_and_what_is_natural_already() -> None:
    schema = {
        "models": {
            "a.place": {"natural_key": ["name", ["id|str", "opened|isoformat"]]},
            "a.visit": {"relations": {"place": {"to": "a.place"}, "all": {"to": "a.place"}}},
        }
    }
    schema["models"]["a.visit"]["relations"]["all"]["many"] = True
    place = {"model": "a.place", "pk": 7, "fields": {"name": "P", "opened": "2020-01-01T10:00:00Z"}}
    key = ["P", ["7", "2020-01-01T10:00:00+00:00"]]
    visits = [
        {"model": "a.visit", "pk": 1, "fields": {"place": 7, "all": [7, ["Q", []]]}},
        {"model": "a.visit", "pk": 2, "fields": {"place": ["Q", []], "all": []}},
        {"model": "a.visit", "pk": 3, "fields": {"place": None}},
    ]
    expected = copy.deepcopy(visits)
    expected[0]["fields"] = {"place": key, "all": [key, ["Q", []]]}
    records = [place, *visits]
    rewriter = Rewriter(schema)
    for record in records:
        rewriter.index(record)
    rewriter.resolve()
    for record in records:
        rewriter.rewrite(record)
    assert visits == expected
    assert place == {"model": "a.place", "fields": place["fields"], "natural_key": key}


def test_compression_alone_is_the_floor_for_compressed_backups(tmp_path: Path) -> None:
    what = Store(tmp_path, 1).gzipped("compact", 0.1)
    output = tmp_path / "again.json.gz"
    subprocess.run(running.command_of("regzip", what, output), cwd=ROOT, check=True)
    plain = gzip.decompress(what.backup.read_bytes())
    assert gzip.decompress(output.read_bytes()) == plain
    assert len(plain) == what.size > 2 * output.stat().st_size
    assert comparing.records_digest(output) == comparing.records_digest(what.backup)


# The runner and its report


def test_measures_seconds_and_memory_of_the_command_alone() -> None:
    ballast = bytearray(b"x" * 200_000_000)
    small = running.measure([sys.executable, "-c", "pass"])
    large = running.measure([sys.executable, "-c", "b'x' * 100_000_000"])
    assert len(ballast) > large.peak_bytes > 100e6
    assert small.peak_bytes < 50e6
    assert small.seconds > 0


def test_a_failing_competitor_stops_the_benchmark() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        running.measure([sys.executable, "-c", "raise SystemExit(3)"])
    assert caught.value.returncode == 3


def test_whoever_takes_long_is_not_run_again(
    monkeypatch: pytest.MonkeyPatch, backups: dict[str, Path]
) -> None:
    backup = backups["compact"]
    order = []

    def measure(command: list[str]) -> running.Run:
        Path(command[-1]).touch()
        order.append(command[0])
        return running.Run(3.0 if command[0] == "slow" else 1.0, 0, "")

    monkeypatch.setattr(running, "PATIENCE", 5.0)
    monkeypatch.setattr(running, "measure", measure)
    monkeypatch.setattr(running, "command_of", lambda name, what, output: [name, str(output)])
    what = running.Input("", backup, generate.schema_path(backup), 0)
    runs = running.in_turns(what, {"slow": 5, "fast": 4, "once": 1})
    assert {name: len(of_one) for name, of_one in runs.items()} == {"slow": 3, "fast": 4, "once": 1}
    assert order == ["cp", "slow", "fast", "once", "fast", "slow", "slow", "fast", "fast"]


def test_digest_sees_records_and_not_their_spelling(tmp_path: Path) -> None:
    texts = {
        "compact": '[{"a":1,"b":"\u00e9"},{"a":2}]',
        "spaced": '[ {"b": "\\u00e9",\n "a": 1}, {"a": 2} ]\n',
        "lines": '{"a": 1, "b": "\u00e9"}\n{"a": 2}\n',
        "other": '[{"a":1,"b":"e"},{"a":2}]',
    }
    digests = {}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        digests[name] = comparing.records_digest(tmp_path / name)
    assert digests["compact"] == digests["spaced"] == digests["lines"] != digests["other"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a run on tiny backups wrote."""
    project = tmp_path_factory.mktemp("project")
    folder = project / "results"
    (project / "README.md").write_text(
        "before\n<!-- figures -->\nold\n<!-- end of the figures -->\n"
    )
    command = [sys.executable, "-m", "benchmarks", "--size", "0.3", "--runs", "2"]
    command += ["--layouts", "compact", "jsonl", "--slow-runs", "1"]
    command += ["--smallest", "0.1", "--up-to", "0.4", "--relations-size", "0.2"]
    command += ["--memory-rows", "3000", "--gzip-size", "0.2"]
    command += ["--data", str(folder / "data"), "--results", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("**compact")
    return folder


@pytest.fixture(scope="module")
def document(results: Path) -> dict[str, Any]:
    loaded = json.loads((results / "results.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_results_say_what_ran_where(document: dict[str, Any]) -> None:
    assert document["command"].startswith("python -m benchmarks --size 0.3")
    assert document["machine"]["cores"] >= 1
    assert document["machine"]["memory_gb"] > 0
    assert {"python", "fastnk", "orjson", "msgspec", "ijson"} <= set(document["versions"])
    assert document["idle_peak_bytes"] > 1e6
    titles = [(case["layout"], case["megabytes"]) for case in document["cases"]]
    assert titles == [("compact", 0.3), ("jsonl", 0.3), ("compact, gzip", 0.2)]
    assert [case["megabytes"] for case in document["sizes"]] == [0.1, 0.4]
    assert [case["relations"] for case in document["relations"]] == [*fields.COUNTS]


def test_results_follow_from_the_seconds(document: dict[str, Any]) -> None:
    *cases, compressed = document["cases"]
    assert {row["name"] for row in compressed["competitors"]} == {*running.FASTNK, "regzip"}
    assert compressed["outputs_equal"] == sorted(running.FASTNK)
    for case in cases:
        rows = {row["name"]: row for row in case["competitors"]}
        assert set(rows) == set(running.EVERYONE)
        assert case["outputs_equal"] == sorted(running.CONVERTERS)
        middle = {name: median(row["seconds"]) for name, row in rows.items()}
        fastest = min(middle[name] for name in running.PYTHON_RIVALS)
        for name, row in rows.items():
            assert len(row["seconds"]) == (1 if name in running.PYTHON_RIVALS else 2)
            assert row["median_seconds"] == pytest.approx(middle[name], abs=2e-4)
            speed = case["bytes"] / 1e6 / middle[name]
            assert row["mb_per_second"] == pytest.approx(speed, rel=0.05, abs=0.06)
            for floor in running.FLOORS:
                times = middle[name] / middle[floor]
                assert row[f"time_against_{floor}"] == pytest.approx(times, rel=0.1, abs=0.006)
            assert row["times_fastest_rival"] == pytest.approx(
                fastest / middle[name], rel=0.05, abs=0.006
            )
            assert row["times_orjson_gc"] == pytest.approx(
                middle["orjson_gc"] / middle[name], rel=0.05, abs=0.006
            )
            assert (row["peak_bytes"] is None) == (name in running.FLOORS)


def test_growth_is_told_with_its_key_map(document: dict[str, Any]) -> None:
    for case in document["sizes"]:
        names = {row["name"] for row in case["competitors"]}
        assert names == {*running.GROWING, *running.GROWING_RIVALS, *running.FLOORS}
        assert all(row["times_fastest_rival"] for row in case["competitors"])
    for case in (*document["sizes"], *document["relations"]):
        assert {row["name"] for row in case["competitors"]} >= set(running.GROWING)
        assert case["records"] > case["referenced_rows"]
        if case["referenced_rows"]:
            assert case["key_map_bytes"] > 0
    for key in ("bytes", "records", "referenced_rows", "key_map_bytes"):
        small, large = (case[key] for case in document["sizes"])
        assert small < large
    without, *others = document["relations"]
    assert (without["references"], without["referenced_rows"]) == (0, 0)
    one = others[0]["references"]
    assert [case["references"] / one for case in others] == [*fields.COUNTS[1:]]
    assert {case["bytes"] for case in document["relations"]} == {without["bytes"]}


def test_limit_of_memory_moves_the_key_map_to_files(document: dict[str, Any]) -> None:
    case = document["limited"]
    without, limited = case["runs"]
    assert case["rows"] == 3000
    assert without["spilled_bytes"] == 0 < case["limit_bytes"] < without["key_map_bytes"]
    assert limited["key_map_bytes"] == without["key_map_bytes"]
    assert limited["spilled_bytes"] > 0.9 * limited["key_map_bytes"]


def test_small_backup_and_starts(document: dict[str, Any]) -> None:
    assert document["small"]["bytes"] == len(small.backup())
    assert len(document["small"]["per_second"]) == 1
    assert [row["name"] for row in document["starts"]] == [*small.STARTS]
    assert 1800 < len(small.backup()) < 2200
    converted = json.loads(small.converter().convert_bytes(small.backup()))
    assert [record["model"] for record in converted] == [*small.MODELS]
    assert not any("pk" in record for record in converted)


def test_page_opens_with_what_the_figures_do_not_say(
    results: Path, document: dict[str, Any]
) -> None:
    page = (results / "results.md").read_text()
    assert page.index("What these figures do not say") < page.index("results.svg") < page.index("|")
    assert not re.search(r"\d", report.CAVEATS.replace("fastnk_1", ""))
    assert page == report.page(document)
    for name in running.EVERYONE:
        assert f"| `{name}` |" in page


@pytest.mark.parametrize(
    ("chart", "texts"),
    [
        ("results.svg", {*running.EVERYONE, "compact, 0 MB", "jsonl, 0 MB"}),
        ("growth.svg", {*running.GROWING, *running.FLOORS, "key map", "relations in a record"}),
    ],
)
def test_charts_name_what_they_show(results: Path, chart: str, texts: set[str]) -> None:
    picture = ElementTree.parse(results / chart).getroot()
    found = {element.text for element in picture.iter() if element.tag.endswith("}text")}
    assert texts <= found


def test_readme_gets_its_figures(results: Path, document: dict[str, Any]) -> None:
    before, between = (results.parent / "README.md").read_text().split("<!-- figures -->\n")
    assert before == "before\n"
    assert between == report.readme_part(document) + "<!-- end of the figures -->\n"
    assert between.count("| `fastnk` |") == between.count("| `fastnk_1_no_sync` |") == 5


def test_figures_in_the_readme_are_those_of_the_results_file() -> None:
    measured = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    assert report.readme_part(measured) in (ROOT / "README.md").read_text()
    assert report.page(measured) == (ROOT / "benchmarks" / "results.md").read_text()


def test_report_can_be_made_again_from_the_file(document: dict[str, Any], tmp_path: Path) -> None:
    changed = copy.deepcopy(document)
    changed["cases"][0]["competitors"][0]["mb_per_second"] = 98765.0
    path = tmp_path / "results" / "results.json"
    path.parent.mkdir()
    path.write_text(json.dumps(changed))
    subprocess.run([sys.executable, "-m", "benchmarks.report", str(path)], cwd=ROOT, check=True)
    for name in ("results.md", "results.svg"):
        assert "98,765" in path.with_name(name).read_text()
    drawn = path.with_name("growth.svg").read_text()
    report.write(path)
    assert path.with_name("growth.svg").read_text() == drawn


def test_generated_backups_are_used_again(tmp_path: Path) -> None:
    for make in (Store.edms, Store.fields):
        name: Any = "compact" if make is Store.edms else 2
        made = make(Store(tmp_path, 1), name, 0.1)
        assert made.schema.exists()
        first = made.backup.stat().st_mtime_ns
        assert make(Store(tmp_path, 1), name, 0.1) == made
        assert made.backup.stat().st_mtime_ns == first
        assert make(Store(tmp_path, 2), name, 0.1).backup != made.backup


def test_same_fields_are_relations_or_not(tmp_path: Path) -> None:
    store = Store(tmp_path, 1)
    without, *others = (store.fields(count, 0.2) for count in fields.COUNTS)
    assert {other.backup for other in others} == {without.backup}
    assert without.backup.stat().st_size == pytest.approx(200_000, rel=0.01)
    for count, other in zip(fields.COUNTS, (without, *others), strict=True):
        assert len(Schema.load(other.schema).models["fields.record"].relations) == count


# The instructions


def test_instructions_are_those_of_the_rounds_alone(
    backups: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backup = backups["compact"]
    what = running.Input("", backup, generate.schema_path(backup), 1000)
    start, one_round = 1_000_000, 7 * 1000
    monkeypatch.setattr(
        instructions, "_counted", lambda what, name, rounds, profiles: start + rounds * one_round
    )
    assert instructions.instructions_per_byte(what, "index", tmp_path) == 7


def test_says_that_valgrind_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.instructions", "--data", str(tmp_path)]
    monkeypatch.setenv("PATH", str(tmp_path))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("valgrind is not installed")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", passes.PASSES)
def test_a_pass_can_be_made_again_and_again(name: str, backups: dict[str, Path]) -> None:
    backup = backups["jsonl"]
    files = [str(backup), str(generate.schema_path(backup))]
    command = [sys.executable, "-m", "benchmarks.passes", name, *files, "2"]
    subprocess.run(command, cwd=ROOT, check=True)
