"""Damaged fixtures in XML and YAML, which Django's own serialisers wrote: which records are whole
is reckoned from where each stands in the text and which bytes were damaged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastnk
from fastnk.convert import LegacyBackupConverter
from fastnk.errors import BackupSyntaxError, UsageError
from fastnk.schema import Schema
from fastnk.source import Source
from fastnk.source.fixtures import Kind, fixture_kind, pieces

pytest.importorskip("django")
yaml = pytest.importorskip("yaml")

SCHEMA = Schema.loads(b'{"version": 1, "models": {"zoo.keeper": {"natural_key": ["name"]}}}')
NAMES = (
    *("Anna", "Børge", "two\nlines", "- model: zoo.keeper", "]]>", "<object>", "a &amp; b"),
    *("'", '"', "# no comment", "{pk: 1}", "a\tb", "x" * 200, "Čenda\n\n- pk: 7\n  fields:"),
)
KINDS: tuple[Kind, ...] = ("XML", "YAML")


class Whole(NamedTuple):
    """A record, and the bytes that it takes."""

    start: int
    end: int
    name: str


def fixture(kind: Kind, names: tuple[str, ...] = NAMES, **options: Any) -> bytes:
    from django.core import serializers

    from tests.project.zoo.models import Keeper

    rows = [Keeper(pk=pk, name=name) for pk, name in enumerate(names, 1)]
    text = serializers.serialize(kind.lower(), rows, fields=("name", "joined"), **options)
    return str(text).encode()


def wholes(kind: Kind, data: bytes) -> Iterator[Whole]:
    pattern = {"XML": rb"<object .*?</object>", "YAML": rb"- model: .*?\n(?=- model|\n*\Z)"}[kind]
    found = list(re.finditer(pattern, data, re.DOTALL))
    assert len(found) == len(NAMES)
    for one, name in zip(found, NAMES, strict=True):
        yield Whole(*one.span(), name)


def salvaged(data: bytes) -> list[Any]:
    """The names in the records that are kept."""
    try:
        with Source(data, salvage=True) as source:
            text = b"".join(map(bytes, source.blocks()))
    except BackupSyntaxError as error:
        if error.code != "FNK202":
            raise
        return []
    return [one["fields"].get("name") for one in json.loads(text)]


TEXTS = {kind: fixture(kind) for kind in KINDS}
WHOLES = {kind: list(wholes(kind, TEXTS[kind])) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_whole_record_is_kept_and_no_other(kind: Kind, data: st.DataObject) -> None:
    text, records = TEXTS[kind], WHOLES[kind]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 300)))
    instead = data.draw(
        st.sampled_from([b"", b"\0" * 100, b"\xff", b"<", b">", b'"', b"<!--", b"<![CDATA[", b"- "])
    )
    kept = salvaged(text[:start] + instead + text[end:])
    spared = [one.name for one in records if end < one.start or start > one.end]
    touched = [one.name for one in records if one.name not in spared]
    assert [name for name in kept if name in spared] == spared
    assert len(kept) <= len(spared) + len(touched)


@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere(kind: Kind) -> None:
    data, records = TEXTS[kind], WHOLES[kind]
    for at in range(1, len(data), 31):
        kept = salvaged(data[:at])
        want = [one.name for one in records if one.end <= at]
        if kind == "YAML":  # a record may go on where a line ends
            kept = kept[: len(want)]
        assert kept == want


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_lost_is_listed_with_its_places_in_the_file(kind: Kind, tmp_path: Path) -> None:
    broken = WHOLES[kind][1]
    text = TEXTS[kind].decode("utf-8").replace("Børge", "B\0rge")
    data = ("Loading .env\n" + text).encode("utf-16")
    report = fastnk.convert(data, tmp_path / "out", SCHEMA, salvage=True)
    before, lost = report.losses
    assert data[before.start : before.end].decode("utf-16-le") == "Loading .env"
    found = data[lost.start : lost.end].decode("utf-16-le")
    assert found == TEXTS[kind][broken.start : broken.end].decode().replace("ø", "\0").rstrip("\n")
    assert (report.records, lost.records) == (len(NAMES) - 1, 1)
    assert not report.complete


@pytest.mark.parametrize("kind", KINDS)
def test_undamaged_fixtures_lose_nothing_by_salvage(kind: Kind, tmp_path: Path) -> None:
    report = fastnk.convert(TEXTS[kind], tmp_path / "out", SCHEMA, salvage=True)
    assert report.complete
    assert report.records == len(NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "- {model: zoo.keeper, pk: 1,\nfields: {name: Anna}}\n",
        "# all\n[\n  {model: zoo.keeper, pk: 1, fields: {name: Anna,},},\n]\n",
        "- model: zoo.keeper\n  pk: 1\n# a remark\n  fields: {name: Anna}\n",
        "%YAML 1.1\n---\n  - model: zoo.keeper\n    pk: 1\n    fields: &a {name: Anna}\n",
    ],
)
def test_yaml_of_any_style_needs_no_salvage(text: str) -> None:
    assert salvaged(text.encode()) == ["Anna"]


@pytest.mark.parametrize("end", ["name: Ann", "name: 'Anna'", "name"])
def test_yaml_that_ends_in_the_middle_of_a_line_is_refused(end: str) -> None:
    text = f"- model: zoo.keeper\n  pk: 1\n  fields:\n    {end}".encode()
    with pytest.raises(BackupSyntaxError, match="FNK212"):
        LegacyBackupConverter(SCHEMA).convert_bytes(text)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("<object a><object b></object>", ["a record that does not end", None]),
        ("<object a><![CDATA[<object b></object>]]></object>", [None]),
        ("<object a><![CDATA[</object><object b></object>", [None, None]),
        ("<object a/><object b></object>", [None, None]),
        ("<object a></object>\0\0", [None, "text between the records"]),
    ],
)
def test_pieces_of_xml(text: str, want: list[str | None]) -> None:
    document = f'<django-objects version="1.0">{text}</django-objects>'
    assert [one.fault for one in pieces("XML", document.encode())] == want


def test_pieces_of_xml_that_is_torn_at_both_ends() -> None:
    found = list(pieces("XML", b"</field></object> <object a></object>"))
    assert [one.fault for one in found] == [
        *("no <django-objects>", "text before the records", None),
        "cut off: no </django-objects>",
    ]
    assert [one.records for one in found] == [0, 0, 1, 0]


@pytest.mark.parametrize("opener", [b"<!--", b"<![CDATA[", b"<object ", b"<object a/", b"</object"])
def test_what_opens_without_end_costs_little(opener: bytes) -> None:
    assert len(list(pieces("XML", b"<django-objects>" + opener * 100_000))) < 100_010


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b'2025 INFO <start>\n<django-objects version="1.0">', "XML"),
        (b'</field><object model="a.b">{"model": "a.b"}', "XML"),
        (b"\0\0\n- model: a.b", "YAML"),
        (b'[{"model": "a.b", "fields": {"t": "<object model=\\"a.b\\">\\n- model: a.b"}}]', None),
        (b"log\n[{\"model\": 'x'\n- model: a.b", None),
    ],
)
def test_kind_of_a_damaged_backup(head: bytes, kind: str | None) -> None:
    assert fixture_kind(head, is_damaged=True) == kind


@pytest.mark.parametrize("before", [b"", b"Loading .env\n"])
def test_xml_without_its_project_is_no_broken_json(
    before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django.apps.apps.models_ready", False)
    with pytest.raises(UsageError, match="is XML, which only the project's models tell"):
        fastnk.detect(before + TEXTS["XML"])
