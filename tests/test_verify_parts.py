"""Verification by several processes says what that by one says."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fastnk.convert import LegacyBackupConverter, Policies
from fastnk.schema import Model, Relation, Schema
from fastnk.verify import VerificationReport, parts, reading, verify
from fastnk.verify.reading import Cut

Record = dict[str, Any]
Change = Callable[[list[Record], random.Random], None]

SCHEMA = Schema.of(
    {
        "a.user": Model(natural_key=["name"]),
        "a.document": Model(
            natural_key=["code", "author__name"],
            relations={
                "author": Relation("a.user"),
                "readers": Relation("a.user", many=True),
                "next": Relation("a.document"),
            },
        ),
        "a.note": Model(relations={"document": Relation("a.document")}),
    }
)
JOBS = 4


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small backups are divided as well, and a process with threads has those of the tests."""
    monkeypatch.setattr(parts, "SMALLEST", 0)
    monkeypatch.setattr(parts, "TELL_EVERY", 100)
    monkeypatch.setattr(parts, "can_fork", lambda: True)
    monkeypatch.setattr(reading, "CUT_EVERY", 1)
    monkeypatch.setattr(reading, "BLOCK_SIZE", 256)


@pytest.fixture(autouse=True)
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[list[parts.Outcome]]:
    """What came of each comparison in parts."""
    found: list[list[parts.Outcome]] = []
    compare = parts.compare

    def noted(*arguments: Any) -> list[parts.Outcome]:
        found.append(compare(*arguments))
        return found[-1]

    monkeypatch.setattr(parts, "compare", noted)
    return found


def records(seed: int) -> list[Record]:
    choices = random.Random(seed)
    count = choices.choice([3, 20, 60])
    users = [
        {"model": "a.user", "pk": 3 * n, "fields": {"name": f'u{n} "é"'}} for n in range(count)
    ]
    pks = [one["pk"] for one in users]
    documents = [
        {
            "model": "a.document",
            "pk": n,
            "fields": {
                "code": f"D-{n}",
                "author": choices.choice(pks),
                "readers": choices.sample(pks, choices.randrange(3)),
                "next": choices.choice([None, choices.randrange(count)]),
                "text": "ж" * choices.randrange(40),
            },
        }
        for n in range(count)
    ]
    notes = [
        {"model": "a.note", "pk": n, "fields": {"document": choices.randrange(count), "x": 1.50}}
        for n in range(count)
    ]
    made = [*users, *documents, *notes]
    if choices.random() < 0.5:
        choices.shuffle(made)
    return made


def as_array(made: list[Record]) -> str:
    return json.dumps(made, ensure_ascii=False)


def indented(made: list[Record]) -> str:
    return json.dumps(made, indent=2)


def as_lines(made: list[Record]) -> str:
    return "".join(json.dumps(one) + "\n" for one in made)


LAYOUTS = (as_array, indented, as_lines)


def both_ways(
    folder: Path, old: str, new: str, **options: Any
) -> tuple[VerificationReport, VerificationReport]:
    """The reports of one process and of several."""
    backup, converted = folder / "backup.json", folder / "natural.json"
    backup.write_text(old)
    converted.write_text(new)
    return (
        verify(backup, converted, SCHEMA, jobs=1, **options),
        verify(backup, converted, SCHEMA, jobs=JOBS, **options),
    )


def told(report: VerificationReport) -> dict[str, Any]:
    """All but what it took."""
    found = msgspec.to_builtins(report)
    return {name: value for name, value in found.items() if name not in ("seconds", "started")}


def converted(old: str, **options: Any) -> str:
    return LegacyBackupConverter(SCHEMA, **options).convert_bytes(old.encode()).decode()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("style", ["fastnk", "django"])
def test_faithful_in_parts(
    tmp_path: Path, outcomes: list[list[parts.Outcome]], layout: Any, style: str
) -> None:
    for seed in range(8):
        old = layout(records(seed))
        one, several = both_ways(tmp_path, old, converted(old, style=style))
        assert several.faithful
        assert told(one) == told(several)
        alone, divided = outcomes[-2:]
        assert alone == []
        assert len(divided) > 1
        assert all(part.findings.total == 0 for part in divided)


def lose_record(new: list[Record], choices: random.Random) -> None:
    del new[choices.randrange(len(new))]


def add_record(new: list[Record], choices: random.Random) -> None:
    new.insert(choices.randrange(len(new) + 1), {"model": "a.note", "pk": 999, "fields": {}})


def swap_records(new: list[Record], choices: random.Random) -> None:
    at = choices.randrange(len(new) - 1)
    new[at], new[at + 1] = new[at + 1], new[at]


def change_field(new: list[Record], choices: random.Random) -> None:
    fields = choices.choice(new)["fields"]
    fields[choices.choice([*fields, "new"])] = "other"


def change_key(new: list[Record], choices: random.Random) -> None:
    choices.choice([one for one in new if "natural_key" in one])["natural_key"][0] = "other"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "change", [lose_record, add_record, swap_records, change_field, change_key]
)
def test_differences_are_told_as_by_one_process(
    tmp_path: Path, outcomes: list[list[parts.Outcome]], layout: Any, change: Change
) -> None:
    for seed in range(8):
        made = records(seed)
        old = layout(made)
        new = json.loads(converted(as_array(made)))
        change(new, random.Random(seed))
        one, several = both_ways(tmp_path, old, layout(new))
        assert told(one) == told(several)
        assert several.faithful == (change is swap_records and one.faithful)
        assert outcomes[-1] == [] or several.faithful


def test_one_key_in_two_parts(tmp_path: Path) -> None:
    """Each part by itself is sound."""
    users = [{"model": "a.user", "pk": n, "fields": {"name": f"u{n % 39}"}} for n in range(40)]
    old = as_array(users)
    new = as_array(
        [{"model": "a.user", "natural_key": [f"u{n % 39}"], "fields": one["fields"]}
         for n, one in enumerate(users)]
    )  # fmt: skip
    one, several = both_ways(tmp_path, old, new)
    assert told(one) == told(several)
    assert several.counts == {"FNK505": 1}


@pytest.mark.parametrize("natural_first", [True, False])
def test_key_of_one_that_is_natural_already_in_another_part(
    tmp_path: Path, natural_first: bool
) -> None:
    users = [{"model": "a.user", "pk": n, "fields": {"name": f"u{n}"}} for n in range(40)]
    natural = {"model": "a.user", "natural_key": ["u20"], "fields": {"name": "u20"}}
    made = [natural, *users] if natural_first else [*users, natural]
    new = [
        {"model": "a.user", "natural_key": [one["fields"]["name"]], "fields": one["fields"]}
        for one in made
    ]
    one, several = both_ways(tmp_path, as_array(made), as_array(new))
    assert told(one) == told(several)
    assert several.counts == {"FNK505": 1}


def test_what_policies_allowed_adds_up(tmp_path: Path, outcomes: list[list[parts.Outcome]]) -> None:
    made = records(5)
    for n, one in enumerate(made):
        if one["model"] == "a.note" and n % 2:
            one["fields"]["document"] = 10_000 + n
    policies = Policies(on_unresolved="null")
    old = as_array(made)
    one, several = both_ways(tmp_path, old, converted(old, policies=policies), policies=policies)
    assert told(one) == told(several)
    assert several.allowed["on_unresolved"]["references that became null"] > 5
    assert len(outcomes[-1]) > 1


def test_records_that_are_left_out_are_for_one_process(
    tmp_path: Path, outcomes: list[list[parts.Outcome]]
) -> None:
    made = records(5)
    made[7]["fields"]["author"] = 10_000
    made[7]["model"] = "a.document"
    policies = Policies(on_unresolved="drop")
    old = as_array(made)
    one, several = both_ways(tmp_path, old, converted(old, policies=policies), policies=policies)
    assert told(one) == told(several)
    assert outcomes == []


def test_a_process_that_ends_too_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcomes: list[list[parts.Outcome]]
) -> None:
    work = parts._work

    def end(compare_part: Any, part: parts.Part, there: Any) -> None:
        if part.first:
            os._exit(1)
        work(compare_part, part, there)

    monkeypatch.setattr(parts, "_work", end)
    old = as_array(records(1))
    one, several = both_ways(tmp_path, old, converted(old))
    assert told(one) == told(several)
    assert several.faithful
    assert outcomes[-1] == []


def wrong_cuts(cuts: list[Cut]) -> Iterator[list[Cut]]:
    """What a core might say that does not know where records end."""
    yield [Cut(cut.offset + 3, cut.number) for cut in cuts]
    yield [Cut(cut.offset, cut.number + 1) for cut in cuts]
    yield [Cut(cut.offset, max(cut.number - 1, 0)) for cut in cuts]
    yield [cuts[0], *(Cut(cut.offset // 2, cut.number) for cut in cuts[1:])]


def test_the_word_of_the_core_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcomes: list[list[parts.Outcome]]
) -> None:
    look_over = parts._look_over
    made = records(2)
    old, new = as_array(made), json.loads(converted(as_array(made)))
    del new[len(new) // 2]
    for is_sound, text in ((True, converted(old)), (False, as_array(new))):
        (tmp_path / "natural.json").write_text(text)
        for number in range(4):

            def lie(source: Any, number: int = number) -> parts.Overview:
                found = look_over(source)
                return found._replace(cuts=[*wrong_cuts(found.cuts)][number])

            monkeypatch.setattr(parts, "_look_over", lie)
            one, several = both_ways(tmp_path, old, text)
            assert told(one) == told(several)
            assert several.faithful == is_sound
            assert outcomes[-1] == []


def test_a_backup_that_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcomes: list[list[parts.Outcome]]
) -> None:
    old = as_array(records(1))
    new = converted(old)
    fit_together = parts.fit_together

    def touched(found: Any) -> bool:
        os.utime(tmp_path / "natural.json", ns=(1, 1))
        return fit_together(found)

    monkeypatch.setattr(parts, "fit_together", touched)
    one, several = both_ways(tmp_path, old, new)
    assert told(one) == told(several)
    assert outcomes[-1] == []


def test_parts_are_of_about_the_same_size() -> None:
    cuts = [Cut(100 * n, n) for n in range(101)]
    divided = parts.parts_of(cuts, cuts, 4)
    assert [part.first for part in divided] == [0, 25, 50, 75]
    assert [part.stop for part in divided] == [25, 50, 75, None]
    assert parts.parts_of([Cut(0, 0)], cuts, 2)[1] == parts.Part(Cut(0, 0), cuts[50], 50, None)
    assert len(parts.parts_of(cuts, [Cut(0, 0), Cut(50, 0), Cut(99, 1)], 4)) == 1


@pytest.mark.parametrize(("limit", "jobs"), [("max", 2), ("1", 0), ("10000000000000", 2)])
def test_memory_of_a_container_limits_the_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, jobs: int
) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(parts, "MEMORY_LIMITS", (tmp_path / "absent", tmp_path / "memory.max"))
    assert min(parts._most_jobs(), 2) == jobs


def test_progress_of_all_processes_is_told_as_one(tmp_path: Path) -> None:
    old = as_array(records(3))
    seen: list[tuple[str, int, int | None]] = []
    both_ways(tmp_path, old, converted(old), progress=lambda *what: seen.append(what))
    done = [done for phase, done, _ in seen if phase == "compare"]
    assert done
    assert max(done) <= max(len(old.encode()), len(converted(old).encode()))
