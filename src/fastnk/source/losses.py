"""What a scan finds in a text: runs of whole records, and what is lost between them."""

from __future__ import annotations

import codecs
import re
from array import array
from collections.abc import Iterator
from typing import Literal

import msgspec

from fastnk.errors import shorten

MARK = codecs.BOM_UTF8
MAX_LOSSES = 10_000
"""How many lost ranges are listed; all are counted."""
SPACE = b" \t\r\n"
PUNCTUATION = SPACE + b",[]"
"""What may stand around the records of an array."""
TEXT_BEFORE = "text before the records"
_JOINT = re.compile(rb"\](\[\])*\[")


class Loss(msgspec.Struct, frozen=True):
    """A stretch of a backup that is no whole record."""

    start: int
    """Bytes before it in the file."""
    end: int
    records: int
    """How many records seem to begin in it."""
    what: str
    """What is wrong there."""
    seen: str
    """How it begins."""
    file: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}: " if self.file else ""
        return f'{where}bytes {self.start:,} to {self.end:,}: {self.what}: "{self.seen}"'


class Scan:
    """What a scan of one text found."""

    def __init__(self) -> None:
        self.runs = array("Q")
        """Where each run of records begins and ends."""
        self.records = 0
        self.losses: list[Loss] = []
        self.loss_count = 0
        self.lost_records = 0
        self.lost_bytes = 0
        self.shape: Literal["array", "jsonl"] = "array"
        self.has_empty_arrays = False
        """Whether some stand beside the records."""
        self.length = 0
        self.ends_badly = False
        """Whether the last loss is at its end."""
        self.closed: int | None = None
        """Behind the bracket of an array that was all to be looked at."""

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing but records and what belongs between them."""
        return self.loss_count == 0

    def lose(self, loss: Loss) -> None:
        """Take in a stretch that is lost."""
        self.loss_count += 1
        self.lost_records += loss.records
        self.lost_bytes += loss.end - loss.start
        if len(self.losses) < MAX_LOSSES:
            self.losses.append(loss)

    def follow(self, other: Scan, between: int) -> None:
        """Take in a whole array that stands so many bytes behind this one."""
        assert other.closed is not None
        start = (self.closed or 0) + between
        self.closed = start + other.closed
        self.runs.extend((start + 1, self.closed - 1))
        self.records += other.records

    def pairs(self) -> Iterator[tuple[int, int]]:
        return zip(self.runs[::2], self.runs[1::2], strict=True)


class Gap:
    """What stands between two runs of records."""

    def __init__(self, start: int, fault: str) -> None:
        self.start = self.end = start
        self.fault = fault
        self.starts = 0
        """Records that seem to begin in it."""
        self.seen = b""
        self.has_brace = False
        self.marks = b""
        """Punctuation, as far as it matters."""
        self.lacks_bracket = False
        """Whether a list should begin in it, and does not."""
        self._lost: tuple[int, int] | None = None

    def take(self, start: int, text: bytes) -> None:
        """It goes on with so much text."""
        self.end = start + len(text)
        if MARK in text:  # of a file that was appended
            text = text.replace(MARK, b" " * len(MARK))
        inner = text.strip(PUNCTUATION)
        if inner:
            first = start + len(text) - len(text.lstrip(PUNCTUATION))
            last = start + len(text.rstrip(PUNCTUATION))
            self._lost = (self._lost[0] if self._lost else first, last)
            self.has_brace |= b"{" in inner
            self.seen += inner[: 200 - len(self.seen)]
        elif len(self.marks) < 64:
            self.marks += text.translate(None, SPACE)

    def range(self) -> tuple[int, int]:
        """Where what is lost in it begins and ends."""
        return self._lost or (self.start, self.end)

    def wrong(self, is_first: bool, is_last: bool, shape: str) -> str | None:
        """What is wrong with it: nothing, or an empty string where a fault says it."""
        if self._lost:
            return ""
        if self.lacks_bracket:
            return "no opening bracket"
        marks = self.marks
        if is_first and is_last:
            return "" if marks.replace(b"[]", b"") else None
        if is_first:
            return None if marks in (b"", b"[") or re.fullmatch(rb"(\[\])*\[", marks) else ""
        if shape == "jsonl":
            return "punctuation between lines" if marks else None
        if is_last:
            if not marks:
                return "no closing bracket"
            if re.fullmatch(rb"\](\[\])*", marks):
                return None
            return "a comma too many" if marks == b",]" else ""
        if marks == b"," or _JOINT.fullmatch(marks):
            return None
        return {b"": "a comma is missing", b",,": "a comma too many"}.get(marks, "")


def shown(text: bytes) -> str:
    """The beginning of something lost, as messages have it."""
    return shorten(text.decode(errors="replace").replace("\0", "\\0"))
