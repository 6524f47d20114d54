"""How fixtures in XML and YAML are told from JSON, and where the records of a damaged one stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from fastnk.source.encodings import RECORD_START, encoding_of, head_in_utf8
from fastnk.source.losses import TEXT_BEFORE

Kind = Literal["XML", "YAML"]

_XML = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?(?:<!DOCTYPE[^>\[]*\[?|<django-objects\b)",
    re.DOTALL,
)
_YAML = re.compile(
    rb"(?:%YAML[^\n]*\n|---[^\n]*\n|#[^\n]*\n|\s)*"
    rb"(?:- \s*(?:\{\s*)?|\[\s*\{\s*)(?:model|pk|fields): ?",
    re.DOTALL,
)
_MODEL = re.compile(
    rb'"model"\s*:\s*"[^"\\\s]+"|<object\b[^<>]*\smodel="'
    rb"|^[ ]*(?:- )?model: [\"']?\w+\.\w+[\"']?\s*$",
    re.MULTILINE,
)
_NO_RECORDS = re.compile(rb"\s*\[\s*\]\s*")
_SOMEWHERE = re.compile(
    rb'(?P<XML><(?:django-objects|object)\s+(?:version|model|pk)=")'
    rb"|(?P<YAML>^[ ]*- (?:model|pk|fields):)"
    rb"|(?P<JSON>" + RECORD_START.pattern + rb")",
    re.MULTILINE,
)
"""What begins a record, whatever is in front. No text in JSON holds a bare quote or line break."""


class Piece(NamedTuple):
    """What seems to be a record, or something that is none, with its place in the text."""

    start: int
    end: int
    fault: str | None = None
    """Why it is none."""
    records: int = 1
    """How many seem to begin in it."""


def fixture_kind(text: bytes, *, is_damaged: bool = False) -> Kind | None:
    """The kind of a fixture that begins so and is not JSON; `None` for all else. Of a damaged one
    what is in front of its first record does not matter."""
    if _XML.match(text) and b"django-objects" in text:
        return "XML"
    if _YAML.match(text):
        return "YAML"
    found = _SOMEWHERE.search(text) if is_damaged else None
    kinds: dict[str | None, Kind] = {"XML": "XML", "YAML": "YAML"}
    return kinds.get(found.lastgroup) if found else None


def looks_like_records(head: bytes) -> bool:
    """Whether a file that begins so holds records, as far as can be told."""
    if len(head) < 2:
        return False
    text = head_in_utf8(head, encoding_of(head, None))
    if _NO_RECORDS.fullmatch(text) or fixture_kind(text):
        return True
    return bool(_SOMEWHERE.search(text) and _MODEL.search(text))


def pieces(kind: Kind, text: bytes) -> Iterator[Piece]:
    """A damaged fixture from its start to its end, without what belongs between its records."""
    records, gap = {"XML": (_xml_records, _xml_gap), "YAML": (_yaml_records, _yaml_gap)}[kind]
    done = 0
    for record in records(text):
        yield from gap(text, done, record.start)
        yield record
        done = record.end
    yield from gap(text, done, len(text))


def is_torn(text: bytes) -> bool:
    """Whether a text in YAML ends as none does that a program wrote: in the middle of a line."""
    return not text.rstrip(b" \t").endswith((b"\n", b"]", b"}"))


def _lost_between(
    text: bytes, start: int, end: int, belongs: re.Pattern[bytes], seems: re.Pattern[bytes]
) -> Iterator[Piece]:
    """What is between two records beside white space and what `belongs` there."""
    left = belongs.sub(lambda found: b" " * len(found[0]), text[start:end])
    lost = left.strip()
    if lost:
        first = start + len(left) - len(left.lstrip())
        what = "text between the records" if start else TEXT_BEFORE
        yield Piece(first, first + len(lost), what, len(seems.findall(lost)))


# ---- XML ---------------------------------------------------------------------------------------

_XML_MARK = re.compile(
    rb"(?P<empty><object(?:\s[^<>]*)?/>)|(?P<open><object(?=[\s>]))|(?P<close></object\s*>)"
    rb"|<!\[CDATA\[|<!--"
)
_CLOSERS = {b"<![CDATA[": b"]]>", b"<!--": b"-->"}
_XML_BELONGS = re.compile(
    rb"<\?xml[^<>]*\?>|<!--[^<]*?-->|<django-objects[^<>]*>|</django-objects\s*>", re.DOTALL
)
_XML_SEEMS = re.compile(rb"<object\b")
_XML_TAIL = re.compile(rb"</django-objects\s*>|<django-objects[^<>]*/>")


def _xml_records(text: bytes) -> Iterator[Piece]:
    start: int | None = None
    for mark in _xml_marks(text):
        if mark.lastgroup == "close":
            if start is not None:
                yield Piece(start, mark.end())
            start = None
            continue
        if start is not None:
            yield Piece(start, mark.start(), "a record that does not end")
        start = mark.start()
        if mark.lastgroup == "empty":
            yield Piece(start, mark.end())
            start = None
    if start is not None:
        yield Piece(start, len(text), "a record that does not end")


def _xml_marks(text: bytes) -> Iterator[re.Match[bytes]]:
    """Where objects begin and end. What ends nowhere hides nothing."""
    missing: set[bytes] = set()
    at = 0
    while mark := _XML_MARK.search(text, at):
        at = mark.end()
        closer = _CLOSERS.get(mark[0])
        if closer is None:
            yield mark
        elif closer not in missing:
            end = text.find(closer, at)
            if end < 0:
                missing.add(closer)
            else:
                at = end + len(closer)


def _xml_gap(text: bytes, start: int, end: int) -> Iterator[Piece]:
    if start == 0 and b"<django-objects" not in text[:end]:
        yield Piece(0, 0, "no <django-objects>", 0)
    yield from _lost_between(text, start, end, _XML_BELONGS, _XML_SEEMS)
    if end == len(text) and not _XML_TAIL.search(text, start):
        yield Piece(end, end, "cut off: no </django-objects>", 0)


# ---- YAML --------------------------------------------------------------------------------------

_YAML_FIRST = re.compile(rb"^([ ]*)- (?:\{\s*)?(?:model|pk|fields):", re.MULTILINE)
_YAML_BELONGS = re.compile(rb"^(?:%YAML|---|\.\.\.|#)[^\n]*", re.MULTILINE)
_YAML_SEEMS = re.compile(rb"^[ ]*- ", re.MULTILINE)


def _yaml_records(text: bytes) -> Iterator[Piece]:
    """The items of a list, each with the lines that are indented more."""
    first = _YAML_FIRST.search(text)
    if first is None:
        return
    item = re.compile(
        rb"^%b- [^\n]*+(?:\n(?:%b[ \t]+[^\n]*+|[ \t\r]*+(?=\n)))*+" % (first[1], first[1]),
        re.MULTILINE,
    )
    for found in item.finditer(text, first.start()):
        is_last = found.end() == len(text)
        fault = "it ends in the middle of a line" if is_last and is_torn(found[0]) else None
        yield Piece(*found.span(), fault)


def _yaml_gap(text: bytes, start: int, end: int) -> Iterator[Piece]:
    return _lost_between(text, start, end, _YAML_BELONGS, _YAML_SEEMS)
