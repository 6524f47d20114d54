"""The scan of the core: every SIMD variant and every way to cut the input must see the same."""

from __future__ import annotations

import io
import json
import random
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastnk
from fastnk import _core
from fastnk.convert import LegacyBackupConverter, Policies
from fastnk.errors import FindingsError
from fastnk.schema import GenericRelation, Model, Relation, Schema
from tests.strategies import BLOCK_SIZES

VARIANTS = _core.variants()
SCHEMA = Schema.loads(
    b"""{"version": 1, "models": {
        "users.user": {"natural_key": ["username"]},
        "documents.document": {"natural_key": ["number", "author__username"],
            "relations": {"author": {"to": "users.user"},
                          "parent": {"to": "documents.document"}}}}}"""
)


@pytest.fixture(autouse=True)
def automatic_variant() -> Iterator[None]:
    yield
    _core.force(None)


every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_block_size = pytest.mark.parametrize("block_size", BLOCK_SIZES)


def converted(backup: bytes, variant: str, block_size: int = 65536, **options: Any) -> bytes:
    _core.force(variant)
    return LegacyBackupConverter(SCHEMA, block_size=block_size, **options).convert_bytes(backup)


def as_bytes(records: list[Any], **options: Any) -> bytes:
    return json.dumps(records, ensure_ascii=False, **options).encode()


def test_variants_end_with_the_scalar_twin() -> None:
    assert VARIANTS[-1] == "scalar"
    assert len(set(VARIANTS)) == len(VARIANTS)


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="no-such-variant"):
        _core.force("no-such-variant")


@every_variant
def test_quotes_and_backslashes_at_every_place_of_a_block(variant: str) -> None:
    """Runs of backslashes decide whether a quote ends its string, also across two blocks."""
    for filler in range(66):
        for run in (1, 2, 3, 4, 63, 64, 65, 128, 129):
            text = "x" * filler + "\\" * run + '"},{[' + "\\" * run
            records = [
                {"model": "users.user", "pk": 1, "fields": {"username": text}},
                {"model": "documents.document", "pk": 2, "fields": {"number": text, "author": 1}},
            ]
            out = json.loads(converted(as_bytes(records), variant))
            assert out[1] == {
                "model": "documents.document",
                "natural_key": [text, text],
                "fields": {"number": text, "author": [text]},
            }


@every_variant
@every_block_size
def test_structure_at_every_place_of_a_block(variant: str, block_size: int) -> None:
    for filler in range(0, 130, 1 if block_size > 7 else 13):
        backup = (
            b" " * filler
            + b'[{"model": "users.user", "pk": 1, "fields": {"username": "ann"}},\n'
            + b'{"model": "documents.document", "pk": 2,'
            + b" " * filler
            + b'"fields": {"number": "D", "author": 1, "parent": 2}}]'
        )
        assert converted(backup, variant, block_size) == (
            backup.replace(b'"pk": 1', b'"natural_key": ["ann"]')
            .replace(b'"pk": 2', b'"natural_key": ["D", "ann"]')
            .replace(b'"author": 1', b'"author": ["ann"]')
            .replace(b'"parent": 2', b'"parent": ["D", "ann"]')
        )


@every_variant
@every_block_size
def test_utf8_at_every_place_of_a_block(variant: str, block_size: int) -> None:
    for filler in range(0, 130, 1 if block_size > 7 else 13):
        name = "x" * filler + "é€😀߿ࠀ￿𐀀\U0010ffff"
        backup = as_bytes([{"model": "users.user", "pk": 1, "fields": {"username": name}}])
        expected = backup.replace(b'"pk": 1', b'"natural_key": ["' + name.encode() + b'"]')
        assert converted(backup, variant, block_size) == expected


@every_variant
@every_block_size
def test_ids_are_equal_however_they_are_escaped(variant: str, block_size: int) -> None:
    spellings = [
        b'"caf\xc3\xa9/\\u0031\xf0\x9f\x98\x80"',
        b'"caf\\u00e9\\/1\\ud83d\\ude00"',
        b'"\\u0063\\u0061\\u0066\\u00E9\\u002f\\u0031\\uD83D\\uDE00"',
    ]
    user = b'{"model": "users.user", "pk": %s, "fields": {"username": "ann"}}'
    document = b'{"model": "documents.document", "fields": {"author": %s}}'
    for own in spellings:
        for other in spellings:
            backup = b"[" + user % own + b",\n" + document % other + b"]"
            out = json.loads(converted(backup, variant, block_size))
            assert out[1]["fields"]["author"] == ["ann"]


@pytest.mark.parametrize("length", range(1, 20))
def test_names_that_differ_in_one_character_are_told_apart(length: int) -> None:
    """Fields in either order, of models and rows that differ in as much."""
    name = "n" * length
    for place in range(length):
        other = name[:place] + "m" + name[place + 1 :]
        models = {
            "u.u": Model(natural_key=["key"]),
            f"d.{name}": Model(relations={name: Relation("u.u")}),
            f"d.{other}": Model(relations={other: Relation("u.u")}),
        }
        users = [{"model": "u.u", "pk": pk, "fields": {"key": f"of {pk}"}} for pk in (name, other)]
        records = [
            {"model": model, "pk": number, "fields": fields}
            for number, fields in enumerate(
                [{name: name, other: other}, {other: name, name: other}]
            )
            for model in (f"d.{name}", f"d.{other}")
        ]
        converter = LegacyBackupConverter(Schema.of(models))
        out = json.loads(converter.convert_bytes(as_bytes([*records, *users])))
        for before, after in zip(records, out, strict=False):
            field = before["model"].removeprefix("d.")
            key = [f"of {before['fields'][field]}"]
            assert after["fields"] == {**before["fields"], field: key}


@every_variant
@pytest.mark.parametrize("block_size", [64, 65536])
def test_record_larger_than_many_blocks(variant: str, block_size: int) -> None:
    big = {"text": '"{[' * 50_000, "list": list(range(20_000)), "é": ["\\"] * 10_000}
    records = [
        {"model": "documents.document", "fields": {"x": big, "author": 7}, "pk": 1},
        {"model": "users.user", "fields": {"x": big, "username": "ann"}, "pk": 7},
    ]
    records[0]["fields"]["number"] = "D"  # type: ignore[index]
    backup = as_bytes(records)
    expected = (
        backup.replace(b'"pk": 1}', b'"natural_key": ["D", "ann"]}')
        .replace(b'"pk": 7}', b'"natural_key": ["ann"]}')
        .replace(b'"author": 7', b'"author": ["ann"]')
    )
    assert converted(backup, variant, block_size) == expected


@every_variant
def test_many_rows_with_ids_of_every_kind(variant: str) -> None:
    """Enough rows to make a hash table grow several times, in an order of no meaning."""
    rng = random.Random(1)
    ids: list[Any] = [*range(3000), *(-n for n in range(1, 500)), 2**63, 2**64, 10**30]
    ids += [*range(8_000, 16_000, 8), *range(20_000, 999_000, 1000), *range(2**50, 2**50 + 99)]
    ids += ["", "007", "7 ", "-0", "é", *(f"{n:032x}" for n in range(3000))]
    rng.shuffle(ids)
    users = [
        {"model": "users.user", "pk": id_, "fields": {"username": f"u{n}"}}
        for n, id_ in enumerate(ids)
    ]
    documents = [
        {"model": "documents.document", "pk": n, "fields": {"number": f"d{n}", "author": id_}}
        for n, id_ in enumerate(ids)
    ]
    rng.shuffle(documents)
    out = json.loads(converted(as_bytes([*documents, *users]), variant))
    for before, after in zip(documents, out, strict=False):
        name = f"u{before['pk']}"
        assert after["fields"]["author"] == [name]
        assert after["natural_key"] == [before["fields"]["number"], name]


@pytest.mark.parametrize("small", [7, "7"])
def test_integers_are_told_apart_by_their_text_only(small: Any) -> None:
    """5 and "5" are one id; 05 in a string, 5.0 and 5e0 are others."""
    users = [
        {"model": "users.user", "pk": pk, "fields": {"username": f"u{n}"}}
        for n, pk in enumerate([small, "07", 7.0, "+7", "7e0", 70, "-7"])
    ]
    document = {"model": "documents.document", "fields": {"author": 7}}
    out = json.loads(converted(as_bytes([*users, document]), "scalar"))
    assert out[-1]["fields"]["author"] == ["u0"]


@pytest.mark.parametrize(
    ("label", "is_known"),
    [("MyApp.user", True), ("MyApp.User", True), ("myapp.user", False), ("myapp.User", False)],
)
def test_models_are_known_in_capitals_and_apps_as_they_stand(label: str, is_known: bool) -> None:
    schema = Schema.of({"MyApp.user": Model(natural_key=["name"])})
    backup = as_bytes([{"model": label, "pk": 1, "fields": {"name": "ann"}}])
    if is_known:
        out = json.loads(LegacyBackupConverter(schema).convert_bytes(backup))
        assert out[0] == {"model": label, "natural_key": ["ann"], "fields": {"name": "ann"}}
        return
    with pytest.raises(FindingsError) as caught:
        LegacyBackupConverter(schema).convert_bytes(backup)
    assert [(one.code, one.place.model) for one in caught.value.findings] == [
        ("FNK302", "myapp.user")
    ]


@pytest.mark.parametrize(
    ("text", "is_known"),
    [("MyApp.user", True), ("MyApp.USER", True), ("myapp.user", False), ("MYAPP.User", False)],
)
def test_texts_that_name_models_are_read_as_labels_are(text: str, is_known: bool) -> None:
    log = Model(generic_relations={"what": GenericRelation(label="kind", object_id="number")})
    schema = Schema.of({"MyApp.user": Model(natural_key=["name"]), "logs.log": log})
    backup = as_bytes(
        [
            {"model": "MyApp.user", "pk": 1, "fields": {"name": "ann"}},
            {"model": "logs.log", "pk": 1, "fields": {"kind": text, "number": 1}},
        ]
    )
    policies = Policies(on_generic="keep")
    out = LegacyBackupConverter(schema, policies=policies).convert_bytes(backup)
    assert json.loads(out)[1].get("references") == ({"number": ["ann"]} if is_known else None)
    report = fastnk.verify(backup, out, schema, policies=policies)
    assert report.faithful
    assert report.complete is is_known


def test_records_of_many_unknown_models_are_counted_by_model() -> None:
    labels = [f"a.m{number}" for number in range(200)]
    backup = as_bytes([{"model": label, "fields": {}} for label in [*labels, *labels]])
    converter = LegacyBackupConverter(SCHEMA, policies=Policies(on_unknown_model="keep"))
    report = converter.convert_to_natural_keys(backup, io.BytesIO())
    assert {label: counts.records for label, counts in report.models.items()} == dict.fromkeys(
        labels, 2
    )


def test_several_conversions_at_once() -> None:
    """State lives per call: threads that convert at the same time do not disturb each other."""
    start = threading.Barrier(4)

    def convert(number: int) -> bool:
        records = [
            {"model": "users.user", "pk": n, "fields": {"username": f"t{number}-{n}"}}
            for n in range(500)
        ]
        records += [{"model": "documents.document", "fields": {"author": n}} for n in range(500)]
        backup = as_bytes(records)
        start.wait()
        for _ in range(5):
            out = json.loads(LegacyBackupConverter(SCHEMA, block_size=64).convert_bytes(backup))
            if [one["fields"]["author"] for one in out[500:]] != [
                [f"t{number}-{n}"] for n in range(500)
            ]:
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(convert, range(4)))


PK_ORDERS = {
    "ascending": [*range(50)],
    "descending": [*range(50, 0, -1)],
    "again at the end": [1, 2, 3, 3],
    "again in a run": [1, 2, 3, 4, 2],
    "again in a gap": [1, 5, 9, 4, 4, 7, 5],
    "below zero": [-3, -2, -1, 0, 1, -2, "-0", 0],
    "large": [10**17, 10**18 - 1, 10**18, 10**30, 10**18, 10**17, 10**30, -(10**18)],
    "beyond 64 bits": [5, 2**64 + 5, 2**63, -(2**63), 2**64, 0, 2**63, 5],
    "spelled like numbers": [7, "7", "07", "07", "+7", 7.0, 7.0, "7 ", ""],
    "texts between": ["a", 1, "b", 2, "a", 2, 3],
}


@pytest.mark.parametrize("pks", PK_ORDERS.values(), ids=PK_ORDERS.keys())
@pytest.mark.parametrize("label", ["users.user", "alone.alone"])
def test_every_second_record_with_a_pk_is_found(label: str, pks: list[Any]) -> None:
    """Whether something refers to the model, so that its rows are kept, or nothing does."""
    models = {**SCHEMA.models, "alone.alone": Model()}
    records = [
        {"model": label, "pk": pk, "fields": {"username": f"u{n}"}} for n, pk in enumerate(pks)
    ]
    texts = [pk if isinstance(pk, str) else json.dumps(pk) for pk in pks]
    expected = [n + 1 for n, text in enumerate(texts) if text in texts[:n]]
    found: list[tuple[str, int | None]] = []
    try:
        LegacyBackupConverter(Schema.of(models)).convert_bytes(as_bytes(records))
    except FindingsError as error:
        found = [(one.code, one.place.record) for one in error.findings]
    assert found == [("FNK303", number) for number in expected]


# The scan by itself

PIECES = [
    b'"',
    b"\\",
    b"\\\\",
    b'\\"',
    b"\\n",
    b"\\u00e9",
    b"\\u00",
    b"\\x",
    b"\\/",
    b"{",
    b"}",
    b"[",
    b"]",
]
PIECES += [
    b":",
    b",",
    b" ",
    b"\n",
    b"\t",
    b"\r",
    b"\x0b",
    b"\x0c",
    b"\x1a",
    b"\x1f",
    b"\x00",
    b"\x7f",
]
PIECES += [b"a", b"null", b"-1.5e3", b"word " * 9, b"x" * 61]
PIECES += [text.encode() for text in ("é", "€", "\U0010ffff", "ñ" * 40, "漢字" * 15)]
PIECES += [b"\x80", b"\xbf", b"\xc0\xaf", b"\xc3", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xe2\x82"]
PIECES += [b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf0\x9f\x98", b"\xf5", b"\xff"]


def listed(text: bytes) -> tuple[list[int], int, bool]:
    """What the scan should find, byte by byte."""
    try:
        text.decode()
        end, broken = len(text), False
    except UnicodeDecodeError as error:
        end, broken = error.start, "unexpected end" not in error.reason
    places = []
    in_string = False
    at = 0
    while at < end:
        byte = text[at : at + 1]
        if in_string:
            if byte == b"\\":
                if not re.match(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})', text[at:]):
                    places.append(at)
                at += text[at + 1 : at + 2] >= b" "  # what is no character stays wrong
            elif byte == b'"':
                in_string = False
            elif byte < b" ":
                places.append(at)
        elif byte in b'{}[]:,"':
            places.append(at)
            in_string = byte == b'"'
        elif byte not in b" \t\r\n" and (at == 0 or text[at - 1] in b'{}[]:," \t\r\n'):
            places.append(at)
        at += 1
    return places, end, broken


@given(st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join))
def test_every_variant_lists_the_same(text: bytes) -> None:
    outside = re.sub(rb'"(?:[^"\\]|\\.)*(?:"|\Z)', b'""', text, flags=re.DOTALL)
    # Outside strings, where no backslash and no control character is right, it is the walk that
    # refuses them, at the first one.
    assume(not re.search(rb"[\\\x00-\x08\x0b\x0c\x0e-\x1f]", outside))
    expected = listed(text)
    for variant in VARIANTS:
        _core.force(variant)
        assert _core.scan(text) == expected, variant


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=9))).map(b"".join))
def test_variants_are_equal_on_whatever_bytes(text: bytes) -> None:
    found = []
    for variant in VARIANTS:
        _core.force(variant)
        found.append(_core.scan(text))
    assert all(one == found[0] for one in found)


@every_variant
def test_bad_utf8_is_found_at_every_place(variant: str) -> None:
    _core.force(variant)
    bad = [piece for piece in PIECES if piece[0] >= 0x80 and not is_utf8(piece)]
    assert len(bad) == 12
    for wrong in bad:
        for before in range(140):
            for filler in (b"x", "é".encode()):
                head = filler * (before // len(filler))
                for tail in (b"", b"x" * 70):
                    text = b'"' + head + wrong + tail
                    assert _core.scan(text)[1:] == listed(text)[1:], (text, variant)


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.binary(max_size=300), st.integers(1, 200))
def test_every_variant_gives_the_same_checksums(data: bytes, size: int) -> None:
    found = []
    for variant in VARIANTS:
        _core.force(variant)
        found.append(_core.checksums(data, size))
    assert found == found[-1:] * len(VARIANTS)


@given(st.binary(max_size=300), st.data())
def test_checksum_tells_changed_bytes(data: bytes, draw: st.DataObject) -> None:
    assume(data)
    at = draw.draw(st.integers(0, len(data) - 1))
    other = bytearray(data)
    other[at] ^= draw.draw(st.integers(1, 255))
    known, found = (_core.checksums(one, 64) for one in (data, other))
    assert [x == y for x, y in zip(known, found, strict=True)].index(False) == at // 64
    assert sum(x != y for x, y in zip(known, found, strict=True)) == 1


@given(st.binary(max_size=300), st.integers(1, 100))
def test_each_block_has_its_checksum(data: bytes, size: int) -> None:
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    alone = [_core.checksums(block, len(block))[0] for block in blocks]
    assert _core.checksums(data, size).tolist() == alone


def test_checksum_tells_the_order_of_blocks() -> None:
    blocks = [bytes([number]) * 64 for number in range(4)]
    assert len({_core.checksums(b"".join(order), 256)[0] for order in permutations(blocks)}) == 24
