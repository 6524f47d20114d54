"""What must be refused, with its code, its offset and the words of its message; what must pass.

A case is a text with the fault marked: `~` stands before the first byte that makes the text
wrong, and is taken out. Every case is fed at every block size.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fastnk._core import Indexer
from fastnk.convert import LegacyBackupConverter, Policies
from fastnk.detect import detect
from fastnk.errors import MAX_MODELS, BackupSyntaxError, FindingsError, Place
from fastnk.planning import Plans
from fastnk.schema import Schema
from tests.strategies import BLOCK_SIZES, KEEP, BackupData, Spelling, backups, spellings

SCHEMA = Schema.loads(
    b"""{"version": 1, "models": {
        "users.user": {"natural_key": ["username"]},
        "documents.document": {"natural_key": ["number"],
            "relations": {"author": {"to": "users.user"},
                          "reviewers": {"to": "users.user", "many": true}}}}}"""
)
USER = b'{"model": "users.user", "pk": 1, "fields": {"username": "ann"}}'
MARK = b"~"


def convert(backup: bytes, block_size: int = 65536) -> bytes:
    converter = LegacyBackupConverter(
        SCHEMA, policies=Policies(**KEEP), block_size=block_size, encoding="utf-8"
    )
    return converter.convert_bytes(backup)


def refuse(backup: bytes, code: str, offset: int | None, fragment: str = "") -> None:
    for block_size in BLOCK_SIZES:
        with pytest.raises(BackupSyntaxError) as caught:
            convert(backup, block_size)
        error = caught.value
        assert (error.code, error.offset, block_size) == (code, offset, block_size)
        assert fragment.lower() in str(error).lower()


def refuse_marked(text: bytes, code: str, fragment: str = "") -> None:
    """`text` is refused at its mark; without one, at its end."""
    assert text.count(MARK) <= 1
    offset = text.index(MARK) if MARK in text else len(text)
    refuse(text.replace(MARK, b""), code, offset, fragment)


def accept(backup: bytes) -> None:
    """Passes at every block size, and byte for byte as far as nothing is to be rewritten."""
    for block_size in BLOCK_SIZES:
        assert convert(backup, block_size) == backup


# Contexts in which a value or a string may stand

VALUE_CONTEXTS = {
    "plain field": b'[{"model": "users.user", "pk": 1, "fields": {"username": "ann", "x": %s}}]',
    "first in an array": b'[{"model": "a.b", "pk": 1, "fields": {"x": [%s, 1]}}]',
    "last in an array": b'[{"model": "a.b", "pk": 1, "fields": {"x": [1, [{}, %s]]}}]',
    "nested object": b'[{"model": "a.b", "pk": 1, "fields": {"x": {"a": {"b": %s}}}}]',
    "pk": b'[{"model": "users.user", "pk": %s, "fields": {"username": "ann"}}]',
    "pk at the end": b'[{"model": "users.user", "fields": {"username": "ann"}, "pk": %s}]',
    "key part": b'[{"model": "users.user", "pk": 1, "fields": {"username": %s}}]',
    "relation": b'[{"model": "documents.document", "pk": 1, "fields": {"author": %s}}]',
    "many relation": b'[{"model": "documents.document", "fields": {"reviewers": [1, %s]}}]',
    "before the model": b'[{"fields": {"author": %s}, "pk": 1, "model": "documents.document"}]',
    "unknown member": b'[{"model": "users.user", "meta": %s, "pk": 1, "fields": {}}]',
    "unknown model": b'[{"model": "other.thing", "pk": 1, "fields": {"x": %s}}]',
    "second record": b"[" + USER + b', {"model": "a.b", "pk": 2, "fields": {"x": %s}}]',
    "line": USER + b'\n{"model": "a.b", "pk": 2, "fields": {"x": %s}}\n',
    "far": b'[{"model": "a.b", "pk": 2, "fields": {"x": "' + b"x" * 200 + b'", "y": %s}}]',
}
MEMBER_CONTEXTS = {
    "record member": b'[{"model": "a.b", "pk": 1, %s: 1, "fields": {}}]',
    "field": b'[{"model": "users.user", "pk": 1, "fields": {"username": "ann", %s: 1}}]',
    "nested member": b'[{"model": "a.b", "pk": 1, "fields": {"x": {"y": 1, %s: {}}}}]',
}


def placed(contexts: dict[str, bytes]) -> Any:
    return pytest.mark.parametrize("context", contexts.values(), ids=contexts.keys())


def refuse_each(context: bytes, values: Iterable[bytes], code: str, fragment: str = "") -> None:
    """Each of the values is refused in that context."""
    for value in values:
        refuse_marked(context % value, code, fragment)


BAD_NUMBERS = [
    b"~0\\",
    b"~12\\u0030",
    b'~1\\"',
    b"~01",
    b"~-01",
    b"~00",
    b"~-",
    b"~1.",
    b"~1.e5",
    b"~1e",
    b"~1e+",
    b"~1E-",
    b"~-a",
    b"~--1",
    b"~1.-5",
    b"~1e5.5",
    b"~0x10",
    b"~1_000",
    b"~1.2.3",
    b"~1a",
    b"~-Inf",
    b"~-NaN",
    b"~-infinity",
]
BAD_TOKENS = [
    b"~+1",
    b"~.5",
    b"~'single'",
    b"~bare",
    b"~undefined",
    b"~True",
    b"~None",
    b"~@",
    b"~;",
    b"~\\n",
    b"~/* comment */ 1",
    b"~// comment\n1",
    b"~\x00",
    b"~\x0b1",
    b"~\x0c1",
    b"~\xc2\xa01",
    b"~\xef\xbb\xbf1",
    b"~\xe2\x80\xa81",
    b"~:",
    b"~,",
    b"~}",
    b"~)",
]
BAD_LITERALS = [b"~nul", b"~nulL", b"~nullx", b"~tru", b"~truE", b"~falsee", b"~nan", b"~Na"]
BAD_LITERALS += [
    b"~null\\",
    b"~true\\n",
    b"~NaNs",
    b"~inf",
    b"~Infinit",
    b"~Infinityy",
    b"~-Infinit",
]
BAD_STRUCTURES = [
    b"[1,~]",
    b"[~,1]",
    b"[1 ~2]",
    b"[1,~,2]",
    b'[1 ~"a"]',
    b"[1~}",
    b"[~}",
    b"[1~:2]",
    b'{"a": 1,~}',
    b"{~,}",
    b'{~, "a": 1}',
    b'{"a": 1 ~"b": 2}',
    b'{"a": 1,~, "b": 2}',
    b'{"a"~}',
    b'{"a":~}',
    b'{"a" ~1}',
    b'{"a"~, 1}',
    b'{"a":~: 1}',
    b'{"a": 1~]',
    b'{"a": 1 ~: 2}',
    b"{~a: 1}",
    b"{~1: 1}",
    b"{~null: 1}",
    b"{~'a': 1}",
    b"{~[]: 1}",
    b"{~{}: 1}",
    b"{~]",
    b"1 ~2",
    b'"a" ~"b"',
    b"[] ~[]",
    b"{} ~{}",
    b"null ~null",
]
BAD_STRINGS = [
    rb'"~\a"',
    rb'"~\0"',
    rb'"~\U0041"',
    rb'"~\x41"',
    rb'"~\ "',
    rb'"ok \\~\q"',
    rb'"~\u"',
    rb'"~\u0"',
    rb'"~\u00"',
    rb'"~\u004"',
    rb'"~\u004g"',
    rb'"~\u-041"',
    rb'"~\u 041"',
    rb'"\u0041~\u00zz"',
    b'"~\\\'"',
    b'"~\x00"',
    b'"a~\x01"',
    b'"a~\tb"',
    b'"a~\nb"',
    b'"a~\rb"',
    b'"a~\x1f"',
    b'"' + b"y" * 70 + b'~\x1f"',
    b'"~\\\n"',
]
BAD_UTF8 = [
    b'"~\x80"',  # lone continuation
    b'"abc~\xbf"',  # lone continuation after text
    b'"~\xc0\xaf"',  # overlong slash
    b'"~\xc0\x80"',  # overlong nul
    b'"~\xc1\xbf"',  # overlong two bytes
    b'"~\xe0\x80\xaf"',  # overlong three bytes
    b'"~\xe0\x9f\xbf"',  # overlong three bytes at the limit
    b'"~\xf0\x80\x80\xaf"',  # overlong four bytes
    b'"~\xf0\x8f\xbf\xbf"',  # overlong four bytes at the limit
    b'"~\xed\xa0\x80"',  # surrogate
    b'"~\xed\xbf\xbf"',  # last surrogate
    b'"~\xed\xa0\xbd\xed\xb8\x80"',  # surrogate pair
    b'"~\xf4\x90\x80\x80"',  # too large
    b'"~\xf5\x80\x80\x80"',  # much too large
    b'"~\xfe"',  # fe
    b'"~\xff"',  # ff
    b'"~\xc3"',  # two bytes cut
    b'"~\xe2\x82"',  # three bytes cut
    b'"~\xe2"',  # three bytes cut to one
    b'"~\xf0\x9f\x98"',  # four bytes cut
    b'"~\xf0a"',  # four bytes cut to one
    b'"~\xe2\x82\xc3\xa9"',  # cut by another
    b'"caf~\xe9"',  # latin-1
    b'"' + "é€😀".encode() * 20 + b'~\xff"',  # after many good ones
    b'"~\x93quoted\x94"',  # cp1252 quote
]


@placed(VALUE_CONTEXTS)
def test_bad_number(context: bytes) -> None:
    refuse_each(context, BAD_NUMBERS, "FNK200", "number")


@placed(VALUE_CONTEXTS)
def test_wrong_token(context: bytes) -> None:
    in_array = context.startswith(b"[")
    refuse_each(context, [one for one in BAD_TOKENS if in_array or b"\n" not in one], "FNK200")


@placed(VALUE_CONTEXTS)
def test_bad_literal(context: bytes) -> None:
    refuse_each(context, BAD_LITERALS, "FNK200")


@placed(VALUE_CONTEXTS)
def test_bad_structure(context: bytes) -> None:
    refuse_each(context, BAD_STRUCTURES, "FNK200")


@placed({**VALUE_CONTEXTS, **MEMBER_CONTEXTS})
def test_bad_string(context: bytes) -> None:
    for value in BAD_STRINGS:
        fragment = "escape" if value[value.index(MARK) + 1 :].startswith(b"\\") else "control"
        refuse_each(context, [value], "FNK200", fragment)


@placed({**VALUE_CONTEXTS, **MEMBER_CONTEXTS})
def test_bad_utf8(context: bytes) -> None:
    refuse_each(context, BAD_UTF8, "FNK206", "UTF-8")


@pytest.mark.parametrize("value", [b"model", b"users.user"])
@pytest.mark.parametrize(
    ("fault", "code"), [(b"~\x01", "FNK200"), (b"~\\q", "FNK200"), (b"~\xff", "FNK206")]
)
def test_fault_in_the_words_that_matter(value: bytes, fault: bytes, code: str) -> None:
    refuse_marked(b"[" + USER.replace(value, value[:3] + fault + value[3:], 1) + b"]", code)


# Around and between records


@pytest.mark.parametrize(
    "text",
    [
        b"[%s~}",
        b"[%s ~%s]",
        b"[%s,~]",
        b"[~,%s]",
        b"[%s,~,%s]",
        b"[%s] ~%s",
        b"[%s]~,",
        b"[%s]~]",
        b"[%s]\n~x",
        b"[%s]~\x00",
        b"[%s]\n~null",
        b"[%s:~]".replace(b":~", b"~:"),
        b"%s~,%s",
        b"%s\n~,%s",
        b"%s~]",
        b"%s\n~]",
        b"~\x00[%s]",
        b"~]",
        b"~}",
        b"~,",
        b"~:",
        b"~nonsense",
        b"~<html>",
        b"  ~<?xml version='1.0'?>",
        b"~'%s'",
    ],
)
def test_wrong_around_records(text: bytes) -> None:
    refuse_marked(text.replace(b"%s", USER), "FNK200")


@pytest.mark.parametrize("text", [b"~\xff\xfe[\x00", b"[~\xff", b"[ ~\xc3\x28]", b"~\x80"])
def test_bad_utf8_around_records(text: bytes) -> None:
    refuse_marked(text, "FNK206", "UTF-8")


@pytest.mark.parametrize("text", [b"", b" ", b"\n", b" \t\r\n" * 50])
def test_empty(text: bytes) -> None:
    refuse(text, "FNK201", 0, "empty")


@pytest.mark.parametrize("text", [b"~[]", b" ~[ ]\n", b"~[\n\n]"])
def test_no_records(text: bytes) -> None:
    refuse_marked(text, "FNK202", "no records")


@pytest.mark.parametrize(
    "text",
    [
        b"~1",
        b"~-1.5e3",
        b" ~null",
        b"~true",
        b"~NaN",
        b'~"[]"',
        b"~{}",
        b'~{"count": 1, "results": []}',
        b"[~1]",
        b"[~null]",
        b'[~"a"]',
        b"[~[]]",
        b"[%s, ~5]",
        b"[%s, ~[%s]]",
        b"[~[%s]]",
        b"%s\n~5\n",
        b"%s\n~[%s]\n",
        b'%s\n~"x"\n',
    ],
)
def test_not_records(text: bytes) -> None:
    refuse_marked(text.replace(b"%s", USER), "FNK203")


@pytest.mark.parametrize(
    ("record", "fragment"),
    [
        (b"~{}", "model"),
        (b'~{"pk": 1}', "model"),
        (b'~{"model": "users.user", "pk": 1}', "fields"),
        (b'~{"pk": 1, "fields": {}}', "model"),
        (b'{"model": ~5, "pk": 1, "fields": {}}', "model"),
        (b'{"model": ~null, "pk": 1, "fields": {}}', "model"),
        (b'{"model": ~["a.b"], "pk": 1, "fields": {}}', "model"),
        (b'{"model": ~{"a": "b"}, "pk": 1, "fields": {}}', "model"),
        (b'{"model": ~true, "fields": {}}', "model"),
        (b'{"model": "users.user", "pk": 1, "fields": ~[]}', "fields"),
        (b'{"model": "users.user", "pk": 1, "fields": ~null}', "fields"),
        (b'{"model": "users.user", "pk": 1, "fields": ~"x"}', "fields"),
        (b'{"model": "users.user", "pk": 1, "fields": ~0}', "fields"),
        (b'{"fields": ~[{}], "model": "users.user"}', "fields"),
        (b'~{"Model": "users.user", "pk": 1, "fields": {}}', "model"),
        (b'~{"model": "users.user", "x": {"fields": {}}}', "fields"),
    ],
)
def test_not_a_record(record: bytes, fragment: str) -> None:
    refuse_marked(b"[" + record + b"]", "FNK204", fragment)
    refuse_marked(b"[" + USER + b",\n " + record + b"]", "FNK204", fragment)
    refuse_marked(USER + b"\n" + record + b"\n", "FNK204", fragment)


RICH = (
    '[{"model": "documents.document", "pk": "x\\u00e9", "meta": {"a": [1, -2.5e+3, NaN]},'
    ' "fields": {"title": "é€😀\\n\\"", "author": null, "flags": [true, false], "n": -Infinity}},'
    "\n " + USER.decode() + "]"
).encode()


def test_cut_off_anywhere() -> None:
    for length in range(1, len(RICH)):
        refuse(RICH[:length], "FNK205", length, "cut off")


def test_cut_off_in_a_line() -> None:
    for length in range(1, len(USER)):
        text = USER + b"\n" + USER[:length]
        refuse(text, "FNK205", len(text), "cut off")


FINE, DEEP = 50, 100_000


@pytest.mark.parametrize(
    ("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"": ', b"}]")]
)
@placed(VALUE_CONTEXTS)
def test_too_deep(context: bytes, opening: bytes, closing: bytes) -> None:
    convert(context % (opening * FINE + b"1" + closing * FINE))
    bad = context % (opening * DEEP + b"1" + closing * DEEP)
    offsets = set()
    for block_size in (64, 65536):
        with pytest.raises(BackupSyntaxError) as caught:
            convert(bad, block_size)
        assert caught.value.code == "FNK207"
        offsets.add(caught.value.offset)
    (offset,) = offsets
    assert bad[offset : offset + 1] in (b"[", b"{")


def test_too_deep_and_never_closed() -> None:
    for opening in (b"[", b'{"a":'):
        with pytest.raises(BackupSyntaxError) as caught:
            convert(VALUE_CONTEXTS["plain field"].partition(b"%s")[0] + opening * DEEP)
        assert caught.value.code == "FNK207"


@pytest.mark.parametrize("block_size", BLOCK_SIZES[:-1])
def test_record_larger_than_the_limit(block_size: int) -> None:
    small = b'{"model": "a.b", "fields": {}}'
    large = b'{"model": "a.b", "fields": {"x": "' + b"y" * 300 + b'"}}'
    text = b"[" + small + b",\n" + large + b"]"
    with pytest.raises(BackupSyntaxError) as caught:
        index(text, block_size, max_record=len(large) - 1)
    assert caught.value.code == "FNK208"
    assert caught.value.offset == text.index(large)
    index(text, block_size, max_record=len(large))


def test_more_models_than_the_limit() -> None:
    lines = [f'{{"model": "a.m{n}", "fields": {{}}}}\n'.encode() for n in range(MAX_MODELS + 1)]
    index(b"".join(lines[:-1]), 65536, max_record=100)
    with pytest.raises(BackupSyntaxError) as caught:
        index(b"".join(lines), 65536, max_record=100)
    assert caught.value.code == "FNK209"
    assert caught.value.offset == len(b"".join(lines[:-1]))


@pytest.mark.parametrize("full", [False, True])
def test_detection_places_the_model_that_is_one_too_many(full: bool) -> None:
    lines = [f'{{"model": "a.m{n}", "fields": {{}}}}\n'.encode() for n in range(MAX_MODELS + 1)]
    with pytest.raises(BackupSyntaxError) as caught:
        detect(b"".join(lines), full=full)
    assert caught.value.code == "FNK209"
    assert caught.value.place == Place(None, len(b"".join(lines[:-1])), MAX_MODELS + 1)


def index(text: bytes, block_size: int, max_record: int) -> None:
    indexer = Indexer(Plans(SCHEMA).full.plan, policies=KEEP, max_record=max_record)
    for start in range(0, len(text), block_size):
        indexer.feed(text[start : start + block_size])
    indexer.finish()


# Valid oddities

ODD_VALUES = [
    b"0",
    b"-0",
    b"-0.0",
    b"1E5",
    b"1e+05",
    b"0.1E-07",
    b"1" + b"0" * 400,
    b"1e999",
    b"-1e-999",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b'""',
    rb'"\"\\\/\b\f\n\r\t\u0000\u001f\uD83D\uDE00"',
    rb'"\ud800"',
    rb'"\uDC00\uD800"',
    rb'"\ud800\u0041"',
    rb'"\\"',
    rb'"\\\\\""',
    b'"\x7f\xc2\x80\xc2\xa0"',
    '"\u2028\u2029\ufeff\ufffe\uffff\ud7ff\ue000\U0010ffff"'.encode(),
    b'"/"',
    b"[]",
    b"[ ]",
    b"{}",
    b"{\t}",
    b"[ 1 , 2 ]",
    b'{ "a" : 1 , "b" : [ ] }',
    b'{"": {"": null}}',
    b'{"a": 1, "a": 2}',
    rb'{"\u0061": 1}',
    b'{"model": 5, "pk": [], "fields": null}',
    b'"{\\"model\\": 1}"',
    b'"' + b"\\\\" * 100 + b'"',
    b'"' + b"x" * 70_000 + b'"',
]


@placed(
    {
        name: text
        for name, text in VALUE_CONTEXTS.items()
        if b"a.b" in text or name in ("unknown model", "unknown member")
    }
)
@pytest.mark.parametrize("value", ODD_VALUES)
def test_valid_oddity_passes_as_it_stands(context: bytes, value: bytes) -> None:
    context = context.replace(b"users.user", b"other.user")
    for block_size in BLOCK_SIZES if len(value) < 1000 else BLOCK_SIZES[-3:]:
        assert convert(context % value, block_size) == context % value


@pytest.mark.parametrize(
    "text",
    [
        b"[%s]",
        b" \t\r\n[ \t\r\n%s \t\r\n, \t\r\n%s \t\r\n] \t\r\n",
        b"[%s\n,\n%s]",
        b"%s",
        b"%s\n",
        b"%s\n%s",
        b"%s\r\n%s\r\n",
        b"\n\n%s\n \t\n\n%s\n\n",
        b"  %s  \n\t%s\t",
    ],
)
def test_valid_layouts_pass_as_they_stand(text: bytes) -> None:
    record = b'{ "model":"a.b" ,"fields":{ } , "pk":null }'
    accept(text.replace(b"%s", record))


# Against Python's json


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A valid backup with up to three bytes flipped, deleted, inserted or doubled."""
    data: BackupData = draw(backups())
    spelling: Spelling = draw(spellings())
    backup = bytearray(spelling.write(data.records[:3]))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(backup) - 1))
        new = draw(st.one_of(st.sampled_from(b'[]{},:"\\\n 0-.eEutn\xc3'), st.integers(0, 255)))
        match draw(st.sampled_from(["replace", "delete", "insert", "cut", "double"])):
            case "replace":
                backup[at] = new
            case "delete":
                del backup[at]
            case "insert":
                backup.insert(at, new)
            case "cut":
                del backup[at:]
            case "double":
                backup[at:at] = backup[max(0, at - 9) : at]
        assume(len(backup) > 0)
    return bytes(backup)


def verdict(backup: bytes) -> bool | None:
    """Whether Python's json reads `backup` as records; None where the two forms mix."""
    try:
        text = backup.decode()
    except UnicodeDecodeError:
        return False
    if text.lstrip(" \t\r\n")[:1] == "[":
        return are_records(text)
    if not are_concatenated(text):
        return False
    lines = [line for line in text.split("\n") if line.strip(" \t\r")]
    return True if all(are_records(f"[{line}]") for line in lines) else None


def are_records(text: str) -> bool:
    try:
        records = json.loads(text)
    except ValueError:
        return False
    return bool(records) and all(is_record(record) for record in records)


def are_concatenated(text: str) -> bool:
    decoder = json.JSONDecoder()
    at, count = 0, 0
    while at < len(text):
        if text[at] in " \t\r\n":
            at += 1
            continue
        try:
            record, at = decoder.raw_decode(text, at)
        except ValueError:
            return False
        if not is_record(record):
            return False
        count += 1
    return count > 0


def is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("model"), str)
        and isinstance(value.get("fields"), dict)
    )


@given(mutations(), st.sampled_from(BLOCK_SIZES))
@example(b'[{"model": "a.b", "fields": {"x": 1.}}]', 1)
def test_accepts_what_python_accepts(backup: bytes, block_size: int) -> None:
    expected = verdict(backup)
    assume(expected is not None)
    if expected:
        convert(backup, block_size)
        return
    with pytest.raises(BackupSyntaxError) as caught:
        convert(backup, block_size)
    assert 0 <= caught.value.offset <= len(backup)


@given(mutations(), st.sampled_from(BLOCK_SIZES))
def test_same_fault_at_every_block_size(backup: bytes, block_size: int) -> None:
    assert outcome(backup, block_size) == outcome(backup, 65536)


TOKENS = (
    *("[", "]", "{", "}", "{}", ":", ",", '"', '"a"', '"x":', "\\", "\\u0041", "u", "n", "é"),
    *("0", "1", "-", ".", "e", "null", "true", "NaN", " ", "\n", "\0", "\x01", "\x7f"),
)
PLACES = (
    *('"fields":{"x":~,"y":2}', '"fields":{"x":"s"~,"y":2}', '"fields":{"x"~:"s","y":2}'),
    *('"fields":{"x":"s",~"y":2}', '"fields":{"x":"s","y":2~}', '"fields":{~}'),
    *('"fields":{"x":[~],"y":2}', '"fields":{"x":{"k":~},"y":2}', '"fields":{"x":"a~b","y":2}'),
    *('"fields":{"x":"s","y":2}~', '~"fields":{"x":"s","y":2}', '"pk":~,"fields":{"x":"s"}'),
)


@pytest.mark.parametrize("place", PLACES)
def test_up_to_two_tokens_where_they_do_not_belong(place: str) -> None:
    """In a record behind one of the same shape, whose fields a faster way may walk over."""
    record = '{"model":"users.user",' + place + "}"
    plan = Plans(SCHEMA).full.plan
    first = '[{"model":"users.user","fields":{"x":"s","y":2}},'
    for tokens in itertools.chain([()], *(itertools.product(TOKENS, repeat=n) for n in (1, 2))):
        backup = (first + record.replace("~", "".join(tokens)) + "]").encode()
        indexer = Indexer(plan, policies=KEEP)
        try:
            indexer.feed(backup)
            indexer.finish()
        except BackupSyntaxError:
            accepted = False
        else:
            accepted = True
        assert (backup, accepted) == (backup, verdict(backup))


def outcome(backup: bytes, block_size: int) -> Any:
    try:
        return convert(backup, block_size)
    except BackupSyntaxError as error:
        return error.code, error.offset, str(error)
    except FindingsError as error:
        return error.findings
