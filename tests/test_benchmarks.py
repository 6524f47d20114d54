"""The benchmarks: what is measured is what it claims to be, and every figure is a measured one."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import __main__ as bench
from benchmarks import generate, report
from benchmarks.rivals.rewrite import Rewriter
from fastnk.schema import Schema, flat_parts, parse_path
from tests import oracle

pytestmark = pytest.mark.skipif(find_spec("orjson") is None, reason="orjson is not installed")
ROOT = Path(__file__).resolve().parent.parent
CONVERTERS = ("fastnk", *bench.PYTHON_RIVALS)
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
    assert digest == "8031f5fc20d33b8948ecf9f0cecb2f48939c21da9b220bdde0d51fa72d93dd04"


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
    small, large = (bench.measure([*command, size]).peak_bytes for size in ("16", "64"))
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
    command = bench.command_of(name, backup, output)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("layout", generate.LAYOUTS)
def test_converters_give_equal_records(
    layout: str, backups: dict[str, Path], tmp_path: Path
) -> None:
    outputs = {}
    for name in CONVERTERS:
        output = tmp_path / f"{name}.json"
        done = run_rival(name, backups[layout], output)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
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


@pytest.mark.parametrize("name", CONVERTERS)
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


# The runner and its report


def test_measures_seconds_and_memory_of_the_command_alone() -> None:
    ballast = bytearray(b"x" * 200_000_000)
    small = bench.measure([sys.executable, "-c", "pass"])
    large = bench.measure([sys.executable, "-c", "b'x' * 100_000_000"])
    assert len(ballast) > large.peak_bytes > 100e6
    assert small.peak_bytes < 50e6
    assert small.seconds > 0


def test_a_failing_competitor_stops_the_benchmark() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        bench.measure([sys.executable, "-c", "raise SystemExit(3)"])
    assert caught.value.returncode == 3


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
        digests[name] = bench.records_digest(tmp_path / name)
    assert digests["compact"] == digests["spaced"] == digests["lines"] != digests["other"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a run on tiny backups wrote."""
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "benchmarks", "--size", "0.3", "--big", "0.5", "--runs", "2"]
    layouts = ["--layouts", "compact", "jsonl"]
    folders = ["--data", str(folder / "data"), "--results", str(folder)]
    done = subprocess.run(
        [*command, *layouts, *folders], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("**compact")
    return folder


def test_results_say_what_ran_where(results: Path) -> None:
    document = json.loads((results / "results.json").read_text())
    assert document["runs"] == 2
    assert document["command"].startswith("python -m benchmarks --size 0.3")
    assert document["machine"]["cores"] >= 1
    assert document["machine"]["memory_gb"] > 0
    assert {"python", "fastnk", "orjson", "msgspec", "ijson"} <= set(document["versions"])
    assert document["idle_peak_bytes"] > 1e6
    titles = [(case["layout"], case["megabytes"]) for case in document["cases"]]
    assert titles == [("compact", 0.3), ("jsonl", 0.3), ("compact", 0.5), ("jsonl", 0.5)]


def test_results_follow_from_the_seconds(results: Path) -> None:
    for case in json.loads((results / "results.json").read_text())["cases"]:
        rows = {row["name"]: row for row in case["competitors"]}
        compared = case["megabytes"] == 0.3
        assert set(rows) == set(bench.EVERYONE if compared else ("fastnk", *bench.FLOORS))
        assert case["outputs_equal"] == (sorted(CONVERTERS) if compared else [])
        middle = {name: median(row["seconds"]) for name, row in rows.items()}
        fastest = min((middle[name] for name in bench.PYTHON_RIVALS if compared), default=None)
        for name, row in rows.items():
            assert len(row["seconds"]) == 2
            assert row["median_seconds"] == pytest.approx(middle[name], abs=2e-4)
            speed = case["bytes"] / 1e6 / middle[name]
            assert row["mb_per_second"] == pytest.approx(speed, rel=0.05)
            assert row["time_against_cp"] == pytest.approx(middle[name] / middle["cp"], rel=0.05)
            if fastest is None:
                assert row["times_fastest_rival"] is None
            else:
                assert row["times_fastest_rival"] == pytest.approx(fastest / middle[name], rel=0.05)
            assert (row["peak_bytes"] is None) == (name in bench.FLOORS)


def test_page_opens_with_what_the_figures_do_not_say(results: Path) -> None:
    page = (results / "results.md").read_text()
    assert page.index("What these figures do not say") < page.index("results.svg") < page.index("|")
    assert not re.search(r"\d", report.CAVEATS)
    document = json.loads((results / "results.json").read_text())
    assert page == report.page(document)
    for row in document["cases"][0]["competitors"]:
        assert f"| `{row['name']}` |" in page


def test_chart_draws_one_bar_per_competitor(results: Path) -> None:
    picture = ElementTree.parse(results / "results.svg").getroot()
    texts = [element.text for element in picture.iter() if element.tag.endswith("}text")]
    assert Counter(texts)["fastnk"] == 2
    assert {*bench.EVERYONE} <= {*texts}


def test_report_can_be_made_again_from_the_file(results: Path, tmp_path: Path) -> None:
    document = json.loads((results / "results.json").read_text())
    document["cases"][0]["competitors"][0]["mb_per_second"] = 98765.0
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    subprocess.run([sys.executable, "-m", "benchmarks.report", str(path)], cwd=ROOT, check=True)
    assert "98,765" in (tmp_path / "results.md").read_text()
    assert "98,765" in (tmp_path / "results.svg").read_text()


def test_generated_backups_are_used_again(tmp_path: Path) -> None:
    case = bench.Case("compact", 0.1, ("cp",))
    backup = bench.prepare(tmp_path, case, 1)
    first = backup.stat().st_mtime_ns
    assert bench.prepare(tmp_path, case, 1) == backup
    assert backup.stat().st_mtime_ns == first
    assert bench.prepare(tmp_path, case, 2) != backup
