"""Damaged envelopes: which records are whole is reckoned from where each stands in the text and
which bytes were damaged, by Python's own `json` and without fastnk."""

from __future__ import annotations

import itertools
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastnk
from fastnk import LegacyBackupConverter
from fastnk._core import Indexer
from fastnk.cli import main
from fastnk.errors import BackupSyntaxError
from fastnk.schema import Schema
from fastnk.source.scan import MAX_FOLLOWED, scan

SCHEMA = Schema.loads(b'{"version": 1, "models": {"a.b": {"pk": "id"}}}')
INNER = {"model": "a.b", "pk": "inner", "fields": {"n": 1}}
VALUES = (
    *("x", "é", 'a"b', "}, {", '[{"model": "q.q", "pk": 1}]', "\\", "\n"),
    *(1, None, True, [1, 2], {"a": []}, [{"b": 1}]),
)
LAYOUTS = ["compact", "plain", "indented"]
NESTED = (*VALUES, INNER, [INNER], [INNER, INNER], {"x": [INNER]}, [INNER, 1, "t"])


class Whole(NamedTuple):
    """A record, and the bytes that it takes."""

    start: int
    end: int
    record: dict[str, Any]


def record(pk: int, values: tuple[Any, ...] = ("x",)) -> dict[str, Any]:
    return {"model": "a.b", "pk": pk, "fields": {f"f{n}": one for n, one in enumerate(values)}}


def envelope(arrays: list[list[dict[str, Any]]], shape: int) -> dict[str, Any]:
    """These three arrays, with something else around and between them."""
    first, second, third = arrays
    return [
        {"metadata": {"version": 3, "by": "x, y"}, "users": first, "b": second, "c": third},
        {"v": 1, "a": first, "mid": {"k": [1]}, "b": {"c": second, "d": {"e": third}}, "z": [1]},
        {"data": {"a": first, "b": second}, "meta": {"é": {"y": 1}}, "empty": [], "c": third},
    ][shape]


def laid_out(value: Any, layout: str) -> str:
    if layout == "compact":
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return json.dumps(value, indent={"indented": 2, "plain": None}[layout], ensure_ascii=False)


def whole_records(text: str, count: int) -> list[Whole]:
    """Where the records with the pks from 0 on stand."""
    decode = json.JSONDecoder().raw_decode
    found: list[Whole] = []
    at = 0
    while len(found) < count:
        at = text.index("{", at)
        one, end = decode(text, at)
        if one.get("pk") != len(found):
            at += 1
            continue
        found.append(Whole(len(text[:at].encode()), len(text[:end].encode()), one))
        at = end
    return found


def salvaged(data: bytes) -> list[dict[str, Any]]:
    """What salvage keeps; nothing where it finds no whole record."""
    policies = fastnk.Policies(
        on_duplicate_pk="keep", on_unknown_model="keep", on_duplicate_member="keep"
    )
    converter = LegacyBackupConverter(SCHEMA, salvage=True, policies=policies)
    try:
        return list(records_of(converter.convert_bytes(data).decode()))
    except BackupSyntaxError as error:
        if error.code != "FNK202":
            raise
        return []


def records_of(text: str) -> Iterator[dict[str, Any]]:
    """Those of an array, of an envelope, or one behind the other."""
    decode = json.JSONDecoder().raw_decode
    while text := text.lstrip():
        value, end = decode(text)
        yield from records_in(value)
        text = text[end:]


def records_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and "model" in value:
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from records_in(one)


class Damage(NamedTuple):
    """Bytes that something else stands in place of."""

    start: int
    end: int
    instead: bytes = b""

    def done_to(self, data: bytes) -> bytes:
        return data[: self.start] + self.instead + data[self.end :]

    def spares(self, whole: Whole) -> bool:
        return self.end <= whole.start or self.start >= whole.end


@pytest.mark.parametrize(
    ("which", "shape", "layout"),
    [
        (("head", "tail")[(shape + number) % 2], shape, layout)
        for shape in range(3)
        for number, layout in enumerate(LAYOUTS)
    ],
)
def test_cut_anywhere(which: str, shape: int, layout: str) -> None:
    """Every shape in every layout, at one of its ends; every shape and every layout at both."""
    arrays = [[record(0), record(1, VALUES)], [record(2, (2, "é"))], [record(3), record(4)]]
    text = laid_out(envelope(arrays, shape), layout)
    data, wholes = text.encode(), whole_records(text, 5)
    for at in range(1, len(data)):
        if data[at - 1 : at + 1].isspace():  # as at the next byte
            continue
        damage = Damage(0, at) if which == "head" else Damage(at, len(data))
        want = [one.record for one in wholes if damage.spares(one)]
        assert salvaged(damage.done_to(data)) == want, at


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", range(3))
@pytest.mark.parametrize("mark", [b",", b'"', b"[", b"]", b"{", b"}"])
def test_every_mark_that_may_be_lost(mark: bytes, shape: int, layout: str) -> None:
    arrays = [[record(0), record(1, (1, [2]))], [record(2, (2, "é")), record(3)], [record(4)]]
    text = laid_out(envelope(arrays, shape), layout)
    data, wholes = text.encode(), whole_records(text, 5)
    for at in range(len(data)):
        if data[at : at + 1] != mark:
            continue
        damage = Damage(at, at + 1)
        want = [one.record for one in wholes if damage.spares(one)]
        kept = salvaged(damage.done_to(data))
        if layout == "indented" and shape == 1:  # its arrays stand at depths that differ
            assert [one for one in want if one in kept] == kept, at
            assert kept[:1] == want[:1], at
        else:
            assert kept == want, at


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), length=st.sampled_from([1, 3, 5]))
def test_overwritten_bytes(seed: int, length: int) -> None:
    chosen = random.Random(seed)
    pks = iter(range(6))
    arrays = [
        [record(next(pks), tuple(chosen.choices(NESTED, k=3))) for _ in range(count)]
        for count in (2, 3, 1)
    ]
    text = laid_out(envelope(arrays, chosen.randrange(3)), chosen.choice(LAYOUTS))
    data, wholes = text.encode(), whole_records(text, 6)
    at = chosen.randrange(len(data))
    damage = Damage(at, at + length, bytes(length))  # no JSON has a NUL; a record's start is longer
    want = [one.record for one in wholes if damage.spares(one)]
    kept = salvaged(damage.done_to(data))
    assert [one for one in want if one in kept] == kept


def test_what_is_said_of_an_envelope_without_its_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = [[record(0), record(1)], [record(2)], [record(3)]]
    text = laid_out(envelope(arrays, 0), "compact")
    wholes = whole_records(text, 4)
    cut = wholes[0].start + 20
    backup, out, report = tmp_path / "cut.json", tmp_path / "out", tmp_path / "report"
    backup.write_bytes(text.encode()[cut:])
    (tmp_path / "schema").write_bytes(SCHEMA.dumps())
    command = ["convert", str(backup), str(out), "--schema", str(tmp_path / "schema")]
    assert main(command) == 1
    assert "--salvage, which keeps 3 whole records" in capsys.readouterr().err
    assert not out.exists()
    assert main([*command, "--salvage", "--report", str(report)]) == 3
    assert [one["pk"] for one in json.loads(out.read_bytes())] == [1, 2, 3]
    losses = [(one["start"], one["end"]) for one in json.loads(report.read_bytes())["losses"]]
    kept = [(one.start - cut, one.end - cut) for one in wholes[1:]]
    size = backup.stat().st_size
    for start, end in losses:
        assert 0 <= start < end <= size
        assert all(end <= first or start >= last for first, last in kept)
    lost = {at for start, end in losses for at in range(start, end)}
    between = set(range(size)).difference(*(range(*one) for one in kept))
    assert all(text.encode()[cut + at] in b",[]" for at in between - lost)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("salvage", [False, True])
def test_cp1252_around_the_records_only(salvage: bool, layout: str) -> None:
    arrays = [[record(0)], [record(1)], [record(2)]]
    text = laid_out(envelope(arrays, 2), layout)
    out = LegacyBackupConverter(SCHEMA, salvage=salvage).convert_bytes(text.encode("cp1252"))
    assert json.loads(out) == json.loads(text)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_array_without_its_first_bracket(layout: str) -> None:
    records = [record(0), record(1, (1, [2])), record(2)]
    data = laid_out(records, layout).encode()[1:]
    with pytest.raises(BackupSyntaxError) as caught:
        LegacyBackupConverter(SCHEMA).convert_bytes(data)
    assert caught.value.salvage is not None
    assert caught.value.salvage.losses[0]["what"] == "no opening bracket"
    assert salvaged(data) == records


@pytest.mark.parametrize("layout", LAYOUTS)
def test_first_record_of_an_envelope_is_broken(layout: str) -> None:
    arrays = [[record(0), record(1)], [record(2)], [record(3)]]
    text = laid_out(envelope(arrays, 0), layout)
    data = text.encode().replace(b'"pk"', b"\xffpk", 1)
    with pytest.raises(BackupSyntaxError) as caught:
        LegacyBackupConverter(SCHEMA).convert_bytes(data)
    assert caught.value.salvage is not None
    assert caught.value.salvage.records == 3
    assert [one["pk"] for one in salvaged(data)] == [1, 2, 3]


DAMAGED = ("\0", "x", '"', ":", "\\")
ALL_LAYOUTS = [*LAYOUTS, "lines"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_bytes_that_others_stand_in_place_of(seed: int) -> None:
    chosen = random.Random(seed)
    records = [record(pk, tuple(chosen.choices(VALUES, k=2))) for pk in range(8)]
    layout = chosen.choice(ALL_LAYOUTS)
    if layout == "lines":
        text = "".join(laid_out(one, "compact") + "\n" for one in records)
    else:
        text = laid_out(records, layout)
    data, wholes = text.encode(), whole_records(text, 8)
    at, length = chosen.randrange(len(data)), chosen.choice([0, 1, 20, 60])
    damage = Damage(at, at + length, chosen.choice(DAMAGED).encode() * chosen.choice([1, 5, 40]))
    want = [one.record for one in wholes if damage.spares(one)]
    kept = salvaged(damage.done_to(data))
    assert [one for one in kept if one in want] == want


@pytest.mark.parametrize(
    "tail", ["]}]", "}]", "}}]", "}}}]", ':4}}],"f2":"a: b"}},{"model":"a.b"}]', "]}}"]
)
def test_brackets_behind_the_end_do_not_refute_the_records(tail: str) -> None:
    records = [record(0), record(1, (INNER,))]
    assert salvaged((laid_out(records, "compact") + tail).encode()) == records


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bracket_too_many_in_front(layout: str) -> None:
    records = [record(0), record(1, (INNER,)), record(2)]
    assert salvaged(b"[" + laid_out(records, layout).encode()) == records


@pytest.mark.parametrize("layout", LAYOUTS)
def test_array_that_was_written_over_a_longer_one(layout: str) -> None:
    """Its own records are kept, wherever the tail of the other one begins."""
    own = [record(0), record(1)]
    text = laid_out(own, layout).rstrip()
    longer = laid_out([record(pk) for pk in range(2, 9)], layout)
    for at in range(len(text), len(longer)):
        kept = salvaged((text + longer[at:]).encode())
        assert kept[:2] == own, at
        assert {one["pk"] for one in kept[2:]} <= {*range(2, 9)}, at


@pytest.mark.parametrize("value", [[INNER], [INNER, INNER], {"x": [INNER, 1]}, {"y": {"z": INNER}}])
@pytest.mark.parametrize("shape", range(3))
def test_lines_tell_what_is_inside_a_record_that_is_cut_off(shape: int, value: Any) -> None:
    arrays = [[record(0), record(1, (value, "x", [value]))], [record(2, ("y", value))], [record(3)]]
    text = laid_out(envelope(arrays, shape), "indented")
    data, wholes = text.encode(), whole_records(text, 4)
    for at in range(wholes[1].start + 1, wholes[2].end, 11):
        want = [one.record for one in wholes if one.end <= at]
        assert salvaged(data[:at]) == want, at


@pytest.mark.parametrize("layout", ALL_LAYOUTS)
def test_what_neither_side_tells_to_be_inside_is_kept(layout: str) -> None:
    records = [record(pk, ("x", [1])) for pk in range(5)]
    if layout == "lines":
        text = "".join(laid_out(one, "compact") + "\n" for one in records)
    else:
        text = laid_out(records, layout)
    data, wholes = text.encode(), whole_records(text, 5)
    for start, end in ((1, 1), (3, 3)):  # two damages, with a whole record in between
        place, length = wholes[start].start + 30, wholes[end].end - wholes[end].start - 60
        data = data[:place] + b"\xff" * length + data[place + length :]
    assert salvaged(data) == [records[0], records[2], records[4]]


@pytest.mark.parametrize(
    "piece", [b'{"model":', b'{"model":\n', b'{"model":[', b'{"pk":[', b'{"pk":{"a":{', b"}", b"]}"]
)
def test_what_is_nested_without_end_is_passed_over(
    piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastnk.source.scan.MAX_FOLLOWED", 1 << 18)
    whole = laid_out([record(0)], "compact").encode()[:-1]
    damaged = [piece * (65_536 // len(piece))] * 5
    found = scan(iter([whole + b",", *damaged, whole[1:] + b"]"]))
    assert (found.records, found.loss_count) in ((1, 1), (2, 1))


@pytest.mark.parametrize("end", [b"", b"]}" * 500], ids=["open", "closed"])
@pytest.mark.parametrize("gap", [0, MAX_FOLLOWED + 1000])
def test_what_is_inside_many_that_are_no_records_is_walked_over_a_few_times(
    gap: int, end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def counted(*arguments: Any, **options: Any) -> Indexer:
        tried.append(options)
        return Indexer(*arguments, **options)

    monkeypatch.setattr("fastnk.source.scan.Indexer", counted)
    whole = laid_out([record(0)], "compact").encode()[:-1]
    nested = b'{"pk":[0,' * 500 + b"0," * 200_000 + b"0" + end
    data = b"".join([whole, b",", b"\xff" * gap, nested, b",", whole[1:], b"]"])
    found = scan(iter([data]))
    assert found.records == (2 if end else 1)
    assert len(tried) < 40


def test_lines_go_on_behind_a_first_one_that_is_broken() -> None:
    lines = [laid_out(record(pk), "compact") for pk in range(3)]
    broken = lines[0].replace('"pk":', '"pk', 1)
    data = "\n".join([broken, *lines[1:]]).encode()
    assert salvaged(data) == [record(1), record(2)]


@pytest.mark.parametrize("space", [0, 300, 300_000])
@pytest.mark.parametrize(
    "text",
    [
        "[%s %s, %s]",
        "%s %s, %s]",
        '{"a": [%s %s], "b": [%s]}',
        '{"a": [%s] %s, "b": [%s]}',
        '[%s %s, {"model": "a.b", "pk": 7, "fields": {"x": ]}}, %s]',
    ],
)
def test_white_space_of_any_length_tells_nothing(
    text: str, space: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastnk.source.scan.MAX_SPACE", 1000)
    first, second = (laid_out(record(pk), "compact") for pk in range(2))
    data = (text % (first, " " * space, second)).encode()
    assert salvaged(data) == [record(0), record(1)]


@pytest.mark.parametrize("space", [0, 300, 300_000])
@pytest.mark.parametrize(
    "text",
    [
        "%s[%s, %s]",
        "[%s%s, %s]",
        "\n[\n%s  %s,\n  %s]",
        "[%s%s, {%s]",
        "[%sx, %s, %s]",
        "%sx [%s, %s]",
        '[%s{"model": "a.b", "pk": }, %s, %s]',
        "%s%s\n%s",
    ],
)
def test_white_space_of_any_length_before_the_records_tells_nothing(
    text: str, space: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [laid_out(record(pk), "compact") for pk in range(2)]

    def found() -> Any:
        data = (text % (" " * space, *records)).encode()
        one = scan(iter([data[at : at + 50_000] for at in range(0, len(data), 50_000)]))
        return one.records, one.runs, one.losses, one.shape

    whole = found()
    monkeypatch.setattr("fastnk.source.scan.MAX_SPACE", 1000)
    assert found() == whole
    assert whole[0] == 2


def peak_of(work: Callable[[], object]) -> int:
    """Bytes of memory that it takes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("before", [b"", b"[", b"[]"])
def test_white_space_before_the_records_takes_little_memory(
    before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastnk.source.scan.MAX_SPACE", 1 << 16)
    whole = laid_out([record(0)], "compact").encode()
    blanks = itertools.repeat(b" " * (1 << 16), 200)
    text = itertools.chain([before], blanks, [whole.removeprefix(before)])
    assert peak_of(lambda: scan(text)) < 2 << 20


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("member", ["model", "pk", "fields"])
def test_record_that_a_lost_end_makes_the_value_of_a_member(
    member: str, count: int, layout: str
) -> None:
    records = [record(pk, ("x", [1])) for pk in range(count)]
    text = laid_out(records, layout)
    data, wholes = text.encode(), whole_records(text, count)
    place = data.index(b":", data.index(f'"{member}"'.encode(), wholes[1].start)) + 1
    damage = Damage(place, wholes[2].start)
    assert salvaged(damage.done_to(data)) == [records[0], *records[2:]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_record_that_lost_its_beginning_does_not_refute_those_before_it(layout: str) -> None:
    records = [record(pk, ("x", [1])) for pk in range(6)]
    text = laid_out(records, layout)
    data, wholes = text.encode(), whole_records(text, 6)
    head = Damage(0, wholes[0].start + 20)
    torn = Damage(wholes[4].start, data.index(b'"', wholes[4].start))
    assert salvaged(head.done_to(torn.done_to(data))) == [*records[1:4], records[5]]
