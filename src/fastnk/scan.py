"""Where the whole records of a backup stand, whatever is between them.

One pass with the grammar of the core. At a fault it goes on at the next place where a record
seems to start, so that a damaged backup costs no more than a good one. The rest of fastnk then
reads the records as one list and does not know of the damage.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from typing import Literal

import msgspec

from fastnk._core import DEFAULT_MAX_RECORD, Indexer, Plan
from fastnk.compression import Chunks
from fastnk.encodings import RECORD_START
from fastnk.errors import BackupSyntaxError, shorten

MAX_LOSSES = 10_000
"""How many lost ranges are listed; all are counted."""
MAX_RECORD = 64 << 20
"""Bytes of a record behind damage, so that one bracket that is never closed costs little."""
FIRST_LOOK = 1 << 12
PUNCTUATION = b" \t\r\n,[]"
_NO_PLAN = Plan([], [], [], [])
_KEEP = {"on_unknown_model": "keep", "on_duplicate_member": "keep"}
_JOINT = re.compile(rb"\](\[\])*\[")
_MORE_BEHIND = "not JSON: there is more behind the closing bracket"
_MARGIN = 256
"""Bytes that stay in the window, so that the start of a record is not torn."""


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
        self.length = 0
        self.ends_badly = False
        """Whether the last loss is at its end."""
        self.closed: int | None = None
        """Behind the bracket of an array that was all to be looked at."""

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing but records and what belongs between them."""
        return self.loss_count == 0

    def pairs(self) -> Iterator[tuple[int, int]]:
        return zip(self.runs[::2], self.runs[1::2], strict=True)


def scan(chunks: Chunks, closes: bool = False) -> Scan:
    """Find the whole records of a text in UTF-8. With `closes` it is an array with something else
    behind it, which is not looked at."""
    return _Scanner(chunks, closes).scan()


class _Scanner:
    """The window and the walk over it."""

    def __init__(self, chunks: Chunks, closes: bool) -> None:
        self._chunks = chunks
        self._closes = closes
        self._found = Scan()
        self._window = bytearray()
        """What may be looked at again."""
        self._base = 0
        """Bytes before it."""
        self._gap = _Gap(0, "text before the records")
        self._fault = ""
        self._first = 0
        """Where the first record of the run begins."""
        self._space = (0, b"")
        """Where white space began of which some has left the window, and the comma in it."""
        self._indent: bytes | None = None
        """What stands before a record on its line, where records begin lines."""

    def scan(self) -> Scan:
        found = self._found
        start: int | None = 0
        while start is not None:
            end = self._run(start)
            start = self._next(end) if found.closed is None else None
        if found.closed is not None:
            return found
        self._pass(self._base + len(self._window))
        found.length = self._base + len(self._window)
        self._close_gap(None)
        return found

    # -- a run of records --

    def _run(self, start: int) -> int:
        """Walk over the records from `start` on; where to look for the next ones."""
        lead = self._lead(start)
        # What begins a backup is trusted more than what seems to begin a record in the middle.
        limit = MAX_RECORD if start else DEFAULT_MAX_RECORD
        indexer = Indexer(_NO_PLAN, policies=_KEEP, max_record=limit)
        indexer.feed(lead)
        origin = start - len(lead)
        try:
            self._feed_window(indexer, start)
            self._trim(indexer, origin)
            for chunk in self._chunks:
                self._window += chunk
                self._find_first()
                indexer.feed(chunk)
                self._trim(indexer, origin)
            indexer.finish()
            self._fault = "text behind the records"
        except BackupSyntaxError as error:
            self._fault = error.what
            self._note_close(indexer, origin)
        return self._end_run(indexer, origin, start)

    def _feed_window(self, indexer: Indexer, start: int) -> None:
        """Little first: most places that seem to start a record and do not are found out soon, and
        hostile backups have many."""
        at = start - self._base
        length = FIRST_LOOK
        while at < len(self._window):
            indexer.feed(bytes(self._window[at : at + length]))
            at += length
            length *= 2

    def _end_run(self, indexer: Indexer, origin: int, start: int) -> int:
        if not indexer.records:
            return start + 1
        self._remember_indent()
        end = origin + indexer.records_end
        self._found.records += indexer.records
        if not self._found.runs and not indexer.is_array:
            self._found.shape = "jsonl"
        self._close_gap(self._first)
        self._found.runs.extend((self._first, end))
        self._gap = _Gap(end, self._fault)
        if self._space[0] == end:
            self._gap.marks = self._space[1]
        return end

    def _note_close(self, indexer: Indexer, origin: int) -> None:
        """Where the array ended that was all there should be, if it did."""
        if self._closes and not self._found.runs and self._fault == _MORE_BEHIND:
            end = origin + indexer.records_end - self._base
            self._found.closed = self._base + self._window.index(b"]", end) + 1

    def _find_first(self) -> None:
        if self._first == 0 and not self._base:
            self._first = max(0, self._window.find(b"{"))

    def _lead(self, start: int) -> bytes:
        """What makes the core expect a record as it stands there: in an array or in lines."""
        self._first = start
        if start == 0:
            return b""
        at = start - self._base
        before = bytes(self._window[max(0, at - _MARGIN) : at]).rstrip(b" \t\r\n")
        return b"[" if before[-1:] in (b"[", b",") else b""

    def _trim(self, indexer: Indexer, origin: int) -> None:
        """Forget what is whole."""
        if not indexer.records:
            return
        self._remember_indent()
        end = origin + indexer.records_end
        done = end - self._base - _MARGIN
        if indexer.consumed - indexer.records_end > MAX_RECORD:
            done = origin + indexer.consumed - self._base - _MARGIN
            self._forget_space(end, done)
        if done > 0:
            del self._window[:done]
            self._base += done

    def _forget_space(self, end: int, done: int) -> None:
        marks = self._space[1] if self._space[0] == end else b""
        text = bytes(self._window[max(0, end - self._base) : max(0, done)])
        self._space = end, marks + text.translate(None, b" \t\r\n")

    def _remember_indent(self) -> None:
        if self._indent is not None or self._found.runs or self._first < self._base:
            return
        line = bytes(self._window[: self._first - self._base]).rpartition(b"\n")
        if line[1] and not line[2].strip(b" \t"):
            self._indent = line[2]

    # -- between runs --

    def _next(self, at: int) -> int | None:
        """The next place from `at` on where a record seems to start."""
        while True:
            for match in RECORD_START.finditer(self._window, max(0, at - self._base)):
                start = self._base + match.start()
                if self._may_start(match.start()):
                    self._pass(start)
                    if start > self._gap.start or not self._found.runs:
                        self._gap.starts += 1
                    return start
            end = self._base + len(self._window)
            at = max(at, end - _MARGIN)
            self._pass(at)
            keep = max(0, at - _MARGIN - self._base)
            chunk = next(self._chunks, None)
            if chunk is None:
                return None
            del self._window[:keep]
            self._base += keep
            self._window += chunk

    def _may_start(self, place: int) -> bool:
        if self._indent is None:
            return True
        line = bytes(self._window[max(0, place - _MARGIN) : place]).rpartition(b"\n")
        return line[2] == self._indent or not line[1]

    def _pass(self, end: int) -> None:
        """The gap goes on up to `end`."""
        gap = self._gap
        start = max(gap.end, self._base)
        if end > start:
            gap.take(start, bytes(self._window[start - self._base : end - self._base]))

    def _close_gap(self, next_start: int | None) -> None:
        gap, found = self._gap, self._found
        if next_start is not None:
            self._pass(next_start)
            gap.starts -= 1 if gap.starts else 0
        what = gap.wrong(not found.runs, next_start is None, found.shape)
        if what is None:
            return
        found.ends_badly = next_start is None
        start, end = gap.range()
        is_record = gap.has_brace and bool(found.runs) and gap.fault != _MORE_BEHIND
        records = max(gap.starts, int(is_record))
        found.loss_count += 1
        found.lost_records += records
        found.lost_bytes += end - start
        if len(found.losses) < MAX_LOSSES:
            what = what or gap.fault
            seen = shorten(gap.seen.decode(errors="replace").replace("\0", "\\0"))
            found.losses.append(Loss(start, end, records, what, seen))


class _Gap:
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
        self._lost: tuple[int, int] | None = None

    def take(self, start: int, text: bytes) -> None:
        self.end = start + len(text)
        inner = text.strip(PUNCTUATION)
        if inner:
            first = start + len(text) - len(text.lstrip(PUNCTUATION))
            last = start + len(text.rstrip(PUNCTUATION))
            self._lost = (self._lost[0] if self._lost else first, last)
            self.has_brace |= b"{" in inner
            self.seen += inner[: 200 - len(self.seen)]
        elif len(self.marks) < 64:
            self.marks += text.translate(None, b" \t\r\n")

    def range(self) -> tuple[int, int]:
        return self._lost or (self.start, self.end)

    def wrong(self, is_first: bool, is_last: bool, shape: str) -> str | None:
        """What is wrong with it: nothing, or an empty string where a fault says it."""
        if self._lost:
            return ""
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
