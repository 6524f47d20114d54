"""Keys and pks that occur twice: found in bounded memory, and named with their places."""

from __future__ import annotations

import io
import json
import struct
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastnk import audit
from fastnk.audit import Audit
from fastnk.convert import LegacyBackupConverter, Policies
from fastnk.errors import FindingsError
from fastnk.schema import Model, Relation, Schema

MADE = 2
SCHEMA = Schema.of({"u.user": Model(natural_key=["name"]), "l.line": Model()})


def fingerprint(high: int, low: int, made: bool = True) -> bytes:
    return struct.pack("=QQ", high, (low * 4 + 1) | (MADE if made else 0))


numbers = st.integers(0, 5) | st.integers(2**63, 2**64 - 1)


@given(
    st.lists(st.tuples(numbers, st.integers(0, 2), st.booleans())),
    st.integers(1, 64) | st.just(audit.IN_MEMORY),
    st.sampled_from([0, audit.IN_CACHE]),
)
def test_what_occurs_twice_is_found(
    prints: list[tuple[int, int, bool]], memory: int, cache: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "IN_MEMORY", memory)
        patch.setattr(audit, "IN_CACHE", cache)
        one = Audit()
        for print_ in prints:
            one.add(fingerprint(*print_))
        found = one.repeated()
        one.close()
    counts = Counter((high, low) for high, low, _ in prints)
    made = Counter((high, low) for high, low, made in prints if made)
    expected = {key for key, count in counts.items() if count > 1 and made[key]}
    pairs = [struct.unpack_from("=QQ", found, at) for at in range(0, len(found), 16)]
    assert {(high, low // 4) for high, low in pairs} == expected


def findings(records: list[dict[str, Any]], **options: Any) -> list[tuple[str, int, str | None]]:
    with pytest.raises(FindingsError) as caught:
        LegacyBackupConverter(SCHEMA, **options).convert_bytes(json.dumps(records).encode())
    return [(one.code, one.place.record or 0, one.place.pk) for one in caught.value.findings]


def user(pk: int | None, name: str, **more: Any) -> dict[str, Any]:
    record = {"model": "u.user", "pk": pk, "fields": {"name": name}, **more}
    return {name: value for name, value in record.items() if value is not None}


def test_each_record_with_a_key_that_came_before_is_named() -> None:
    users = [user(1, "ann"), user(2, "bob"), user(3, "ann"), user(4, "ann"), user(5, "b\u00f6b")]
    assert findings(users) == [("FNK304", 3, "3"), ("FNK304", 4, "4")]


def test_no_two_texts_that_are_alike_are_taken_for_one() -> None:
    """Where one byte of two texts differs as their lengths do, and all others are the same."""
    characters = [chr(ord("0") ^ bit) for bit in range(10)] + list("au")
    names = {a + b * n + c for a in characters for b in characters for c in "07" for n in range(40)}
    records = [
        *(user(number, name) for number, name in enumerate(names)),
        *({"model": "l.line", "pk": name, "fields": {}} for name in names),
    ]
    report = LegacyBackupConverter(SCHEMA).convert_bytes(json.dumps(records).encode())
    assert len(json.loads(report)) == 2 * len(names)


@pytest.mark.parametrize("key", ['["ann"]', '[ "ann" ]', '["\\u0061nn"]'])
@pytest.mark.parametrize("first", [True, False])
def test_a_record_with_the_key_of_one_that_is_natural_already(key: str, first: bool) -> None:
    natural = f'{{"model": "u.user", "natural_key": {key}, "fields": {{"name": "ann"}}}}'
    legacy = json.dumps(user(1, "ann"))
    backup = f"[{natural}, {legacy}]" if first else f"[{legacy}, {natural}]"
    with pytest.raises(FindingsError) as caught:
        LegacyBackupConverter(SCHEMA).convert_bytes(backup.encode())
    assert [(one.code, one.place.pk) for one in caught.value.findings] == [("FNK304", "1")]


def test_a_record_with_the_key_of_one_in_a_natural_dump_of_django() -> None:
    assert findings([user(None, "ann"), user(1, "ann")]) == [("FNK304", 2, "1")]


def test_what_is_natural_already_passes_through_whatever_it_is() -> None:
    backup = json.dumps([user(None, "ann"), user(None, "ann", natural_key=["ann"])]).encode()
    assert LegacyBackupConverter(SCHEMA).convert_bytes(backup) == backup


def line(number: int) -> dict[str, Any]:
    return {"model": "l.line", "pk": str(UUID(int=number)), "fields": {}}


@pytest.mark.parametrize("memory", [16, audit.IN_MEMORY])
def test_pks_that_are_no_numbers_are_named_too(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "IN_MEMORY", memory)
    lines = [line(number) for number in (1, 2, 3, 2, 1, 5, 1)]
    expected = [("FNK303", at, lines[at - 1]["pk"]) for at in (4, 5, 7)]
    assert findings([*lines, user(1, "ann")]) == expected


def test_pks_that_occur_twice_are_counted_once() -> None:
    converter = LegacyBackupConverter(SCHEMA, policies=Policies(on_duplicate_pk="keep"))
    backup = json.dumps([line(1), user(1, "ann"), line(1), line(2), line(1)]).encode()
    out = io.BytesIO()
    report = converter.convert_to_natural_keys(backup, out)
    assert report.policies_applied == {"FNK303": 2}
    assert report.records == 5
    assert report.models["l.line"].records == 4
    assert len(json.loads(out.getvalue())) == 5


@pytest.mark.parametrize("memory", [16, audit.IN_MEMORY])
def test_all_but_the_last_record_with_a_pk_are_left_out(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "IN_MEMORY", memory)
    converter = LegacyBackupConverter(SCHEMA, policies=Policies(on_duplicate_pk="drop"))
    earlier = [line(2), user(7, "ann"), line(1), user(7, "bob"), line(1)]
    last = [line(3), user(8, "bob"), line(1), user(7, "ann"), line(2)]
    out = io.BytesIO()
    backup = json.dumps([*earlier[:3], last[0], *earlier[3:], *last[1:]]).encode()
    report = converter.convert_to_natural_keys(backup, out)
    assert report.policies_applied == {"FNK303": 5}
    assert (report.records, report.records_dropped, report.complete) == (10, 5, False)
    assert json.loads(out.getvalue()) == json.loads(
        converter.convert_bytes(json.dumps(last).encode())
    )


def test_a_record_is_not_left_out_for_one_with_another_pk() -> None:
    relation = Relation("u.user", to_field="name")
    schema = Schema.of(
        {"u.user": Model(natural_key=["mail"]), "l.line": Model(relations={"u": relation})}
    )
    users = [user(1, "ann"), user(2, "ann")]
    for number, one in enumerate(users):
        one["fields"]["mail"] = str(number)
    for word in ("error", "drop"):
        converter = LegacyBackupConverter(schema, policies=Policies(on_duplicate_pk=word))
        with pytest.raises(FindingsError) as caught:
            converter.convert_bytes(json.dumps(users).encode())
        places = [(one.code, one.place.pk, one.place.field) for one in caught.value.findings]
        assert places == [("FNK303", "2", "name")]


def test_a_pk_that_refers_to_a_record_which_keeps_its_pk_is_not_lost() -> None:
    profile = Model(pk="user", natural_key=["code"], relations={"user": Relation("u.user")})
    schema = Schema.of({"u.user": Model(natural_key=["name"]), "p.profile": profile})
    records = [
        user(1, "ann"),
        user(2, "ann"),
        {"model": "p.profile", "pk": 2, "fields": {"code": "x"}},
    ]
    converter = LegacyBackupConverter(schema, policies=Policies(on_duplicate_key="keep"))
    out = json.loads(converter.convert_bytes(json.dumps(records).encode()))
    assert out[:2] == records[:2]
    assert out[2] == {
        "model": "p.profile",
        "natural_key": ["x"],
        "references": {"user": 2},
        "fields": {"code": "x"},
    }
