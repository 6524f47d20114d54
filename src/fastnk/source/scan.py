"""Where the whole records of a backup stand, whatever is between them.

One pass with the grammar of the core. At a fault it goes on at the next place where a record
seems to start, so that a damaged backup costs no more than a good one. The rest of fastnk then
reads the records as one list and does not know of the damage.
"""

from __future__ import annotations

import codecs
import re
from array import array
from collections.abc import Iterator
from typing import Literal

import msgspec

from fastnk._core import DEFAULT_MAX_RECORD, Indexer, Plan
from fastnk.errors import BackupSyntaxError, shorten
from fastnk.source.compression import Chunks, Lookahead
from fastnk.source.encodings import RECORD_START
from fastnk.source.nesting import (
    DEEP,
    TOKEN,
    Behind,
    Nesting,
    Shape,
    Standing,
    look_behind,
    unit_of,
)

MAX_LOSSES = 10_000
"""How many lost ranges are listed; all are counted."""
MAX_RECORD = 64 << 20
"""Bytes of a record behind damage, so that one bracket that is never closed costs little."""
MAX_SPACE = 16 << 20
"""Bytes of white space behind a record that can be looked at again: no less than may be around the
records of an envelope."""
FIRST_LOOK = 1 << 12
PUNCTUATION = b" \t\r\n,[]"
"""What may stand around the records of an array."""
_NO_PLAN = Plan([], [], [], [])
_KEEP = {"on_unknown_model": "keep", "on_duplicate_member": "keep"}
_JOINT = re.compile(rb"\](\[\])*\[")
_MORE_BEHIND = "not JSON: there is more behind the closing bracket"
_MARGIN = 256
"""Bytes that stay in the window, so that the start of a record is not torn."""
MAX_FOLLOWED = 1 << 20
"""Bytes of a broken record in which brackets are followed, to tell what is inside it …"""
FREE_LOOKS = 16 << 20
"""… and behind all of them together, beyond what was read anyway, so that hostile ones cost
little."""
_MARK = codecs.BOM_UTF8
MANY_RECORDS = 10
"""Behind so many whole records in a row it is taken for certain that no bracket is open."""
_FIRST_BRACE = {
    b"": re.compile(rb"\s*\[\s*\{|" + RECORD_START.pattern),
    b"[": re.compile(rb"\s*\{"),
}
"""What seems to begin the first record of all, by what has left the window besides white space."""
_NO_RECORD = re.compile(
    rb'\{\s*+"(?:(?:model|pk|natural_key)"\s*+:\s*+"(?:[^"\\]++|\\.)*+"\s*+[^\s,]'
    rb'|(?:pk|natural_key)"\s*+:\s*+(?:[^\s"\[{\w-]|[\w.+-]++\s*+[^\s,\w.+-])'
    rb'|model"\s*+:\s*+[^\s"]|fields"\s*+:\s*+[^\s{])',
    re.DOTALL,
)
"""What begins as a record does and is none by its first member: told in much less time than
it takes to walk over it, for hostile backups have many."""
_FIRST_LINE = re.compile(rb"\s*\[\s*?\n([ \t]*)\{")
_CLOSE = re.compile(rb"\s*\]")
_ELEMENT_END = re.compile(rb"\s*[,\]]")
_IS_MEMBER = re.compile(rb'\s*(?:\}\s*)?(?:,\s*"[^"\\]*"\s*:|\}\s*\})')
_MEMBER_LINE = re.compile(rb'\{\r?\n([ \t]*)"')
_END_OF_LINE = re.compile(rb"[^\n]*\}\s*\}\r?\n")


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


def shown(text: bytes) -> str:
    """The beginning of something lost, as messages have it."""
    return shorten(text.decode(errors="replace").replace("\0", "\\0"))


def scan(chunks: Chunks) -> Scan:
    """Find the whole records of a text in UTF-8."""
    return _Scanner(chunks, False).scan()


def scan_array(text: Lookahead) -> Scan:
    """The same of an array that begins here. It is taken; what is behind it is not, where it is
    whole."""
    scanner = _Scanner(text.chunks(), True)
    found = scanner.scan()
    if found.closed is not None:
        text.give_back(scanner.rest(found.closed))
    return found


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
        self._indent: int | None = None
        """Of the line which the run at hand begins, if it does."""
        self._shape = Shape.TORN
        self._nesting = Nesting()
        self._place = 0
        """How far brackets have been followed."""
        self._standing = Standing.RECORD
        """Of the run at hand, as far as is known from what is before it."""
        self._is_told_by_line = False
        """Whether that is by the line that it begins."""
        self._looked_ahead = 0
        """Bytes that were looked at to tell it from what is behind."""
        self._tried: list[int] = []
        """How far was walked from places around the one at hand that seemed to start a record and
        did not."""

    def scan(self) -> Scan:
        self._look_at_start()
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

    def rest(self, start: int) -> bytes:
        """What was read behind a place."""
        return bytes(self._window[start - self._base :])

    # -- a run of records --

    def _run(self, start: int) -> int:
        """Walk over the records from `start` on; where to look for the next ones."""
        lead = self._lead(start)
        self._find_first()
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
            return self._end_without_records(start, origin + indexer.reached)
        end = origin + indexer.records_end
        # A list that begins with the text and ends again is its own, whatever is behind it.
        is_whole_list = start == 0 and indexer.closed > 0
        if not (self._closes or self._are_records(end, indexer.records) or is_whole_list):
            self._gap.starts -= 1
            if self._standing is Standing.RECORD:  # which was taken for granted
                self._shape = Shape.TORN
                self._nesting.lose()
            return end
        found = self._found
        if not found.runs:
            self._note_shape(end, indexer)
        found.records += indexer.records
        self._close_gap(self._first)
        self._note_close(origin + indexer.closed)
        found.runs.extend((self._first, end))
        self._gap = _Gap(end, self._fault)
        if self._space[0] == end:
            self._gap.marks = self._space[1]
        if self._shape is Shape.LINES:
            self._nesting.begin(ord("?"))
        else:
            self._nesting.settle(self._indent)
        self._place = end
        return end

    def _end_without_records(self, start: int, reached: int) -> int:
        """Where to look on when what seemed to be a record is none."""
        brace = _FIRST_BRACE.get(self._gap.marks) if start == 0 else None
        first = brace.match(self._window) if brace else None
        if first is None:
            self._tried = [reached, *(end for end in self._tried if end > start)]
            is_deep = len(self._tried) > DEEP
            return max(reached, start + 1) if is_deep else start + (start > 0)
        self._gap.fault = self._fault
        self._gap.starts += 1
        return self._base + first.end()

    def _note_shape(self, end: int, indexer: Indexer) -> None:
        """What the first records stand in, by what is behind them where nothing is in front."""
        self._read_on(end + _MARGIN)
        place = max(0, end - self._base)
        is_element = _ELEMENT_END.match(self._window, place)
        is_list = indexer.is_array or (indexer.records == 1 and is_element is not None)
        self._found.shape = "array" if is_list else "jsonl"
        if is_list and not indexer.is_array:
            self._gap.lacks_bracket = True
            self._shape = Shape.TORN
        nesting = self._nesting
        if self._shape is Shape.LINES and self._window.startswith((b"\r", b"\n"), place):
            nesting.unit, nesting.record_indent = nesting.unit or 1, 0
        elif self._shape is Shape.TORN:
            nesting.record_indent = self._indent

    def _note_close(self, closed: int) -> None:
        """Where the array ended that was all there should be, if it did."""
        found = self._found
        is_all = self._closes and found.is_clean and not found.runs and self._fault == _MORE_BEHIND
        if is_all and closed >= self._base:
            found.closed = closed + 1

    def _find_first(self) -> None:
        """Go on to the brace of the first record, which may be far behind the start of a text."""
        if self._first < self._base:
            return  # it has left the window
        brace = self._window.find(b"{", self._first - self._base)
        first = self._base + (brace if brace >= 0 else len(self._window))
        if first > self._first:
            self._first = first
            self._indent = self._indent_of(brace)

    def _look_at_start(self) -> None:
        """What the text is, by how it begins."""
        self._read_on(FIRST_LOOK)
        nesting, head = self._nesting, bytes(self._window[:FIRST_LOOK])
        nesting.unit = unit_of(head)
        start = len(head) - len(head.lstrip())
        if head.startswith(b"[", start):
            self._shape = Shape.ARRAY
            first = _FIRST_LINE.match(head)
            if first and len(first[1]) <= nesting.unit:
                nesting.record_indent = len(first[1])
                self._is_told_by_line = True
            self._place = start + 1
            nesting.begin(ord("["), ord("["))
        elif head.startswith(b"{", start):
            is_record = RECORD_START.match(head, start)
            self._shape = Shape.LINES if is_record else Shape.ENVELOPE
            if is_record:
                nesting.record_indent = 0
            self._place = start
            nesting.begin(ord("?"), ord("?"))

    def _lead(self, start: int) -> bytes:
        """What makes the core expect a record as it stands there: in an array or in lines."""
        self._first = start
        if start == 0:
            return b""
        self._indent = self._indent_of_record(start - self._base)
        if self._found.runs:
            return b"[" if self._found.shape == "array" else b""
        before = self._before(start - self._base).rstrip(b" \t\r\n\0")
        return b"[" if before[-1:] in (b"[", b",") else b""

    def _before(self, place: int) -> bytes:
        """What stands in front of a place in the window."""
        return bytes(self._window[max(0, place - _MARGIN) : max(0, place)])

    def _trim(self, indexer: Indexer, origin: int) -> None:
        """Forget what is whole, and white space that is too long to be looked at again."""
        done = origin + indexer.records_end - _MARGIN
        if indexer.consumed - indexer.records_end > MAX_SPACE:
            done = origin + indexer.consumed - _MARGIN
            self._forget_space(origin + indexer.records_end if indexer.records else None, done)
        elif not indexer.records:
            return
        self._forget(done)

    def _forget_space(self, start: int | None, end: int) -> None:
        """What is behind the record that ends at `start`, or in front of the first one."""
        if start is None:
            self._pass(end)
            self._place = end
            return
        marks = self._space[1] if self._space[0] == start else b""
        text = self._window[max(0, start - self._base) : max(0, end - self._base)]
        self._space = start, marks + text.translate(None, b" \t\r\n")

    def _indent_of(self, place: int) -> int | None:
        """How far what stands there is indented, if it begins a line."""
        line = self._before(place).removesuffix(_MARK).rpartition(b"\n")
        return len(line[2]) if line[1] and not line[2].strip(b" \t") else None

    def _indent_of_record(self, place: int) -> int | None:
        """The same of a record. Where its line has lost its beginning and what is left stands at
        the end of another one, the line of its first member tells."""
        indent, unit = self._indent_of(place), self._nesting.unit
        member = _MEMBER_LINE.match(self._window, place)
        if indent is not None or member is None or not unit:
            return indent
        line = self._before(place).rpartition(b"\n")[2]
        own = len(member[1]) - unit
        return own if 0 <= own != len(line) - len(line.lstrip(b" \t")) else None

    # -- between runs --

    def _next(self, at: int) -> int | None:
        """The next place from `at` on where a record seems to start."""
        while True:
            match = RECORD_START.search(self._window, max(0, at - self._base))
            if match is not None:
                start = self._base + match.start()
                is_none = _NO_RECORD.match(self._window, match.start())
                if is_none or self._is_inside(start):
                    self._gap.starts += is_none is not None
                    at = start + 1
                    continue
                self._pass(start)
                if start > self._gap.start or not self._found.runs:
                    self._gap.starts += 1
                return start
            end = self._base + len(self._window)
            at = max(at, end - _MARGIN)
            self._follow(None)
            self._pass(at)
            self._forget(min(at - _MARGIN, self._place))
            if not self._read_on(end + 1):
                return None

    def _is_inside(self, start: int) -> bool:
        """Whether what seems to start a record there plainly stands inside one."""
        self._follow(start)
        nesting, indent = self._nesting, self._indent_of_record(start - self._base)
        self._is_told_by_line = nesting.unit > 0 and indent is not None
        self._standing = nesting.standing(self._shape, indent)
        is_value = nesting.unit > 0 and nesting.awaits_value
        return is_value and self._standing is Standing.INSIDE

    def _forget(self, end: int) -> None:
        if end > self._base:
            del self._window[: end - self._base]
            self._base = end

    def _read_on(self, end: int) -> bool:
        """Have the window reach to `end`; whether the text does."""
        while self._base + len(self._window) < end:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._window += chunk
        return True

    def _follow(self, stop: int | None) -> None:
        """Follow the brackets up to a place where a record seems to start, or as far as they are
        in the window."""
        end = self._base + len(self._window) if stop is None else stop
        if self._place < self._base or self._is_far(end):
            self._nesting.give_up(self._before(end - self._base))
            self._place = end
        place = self._place - self._base
        limit = end - self._base
        text_end = -1
        while (token := TOKEN.search(self._window, place)) and token.start() < limit:
            line = self._window.rfind(b"\n", place, token.start())
            indent = token.start() - line - 1 if line >= 0 else None
            if stop is None and self._is_torn(token):
                break
            if token.end() > limit:  # no text holds what begins a record
                self._nesting.lose()
                place = limit
                break
            place = token.end()
            if not self._nesting.take(token, indent):
                self._nesting.lose()
                if token["bad"] and token.start() == text_end:
                    place = text_end - 1  # the quote was that of another text
            text_end = token.end() if token[0].endswith(b'"') and not token["bad"] else -1
        self._place = self._base + place

    def _is_far(self, place: int) -> bool:
        """Whether brackets are not followed that far into a broken record."""
        return place > self._gap.start + MAX_FOLLOWED

    def _is_torn(self, token: re.Match[bytes]) -> bool:
        """Whether a token may go on in what is not in the window yet. No text holds a raw newline,
        so a quote without another one before that is part of the damage."""
        if token.end() == len(self._window):
            return True
        return token[0] == b'"' and self._window.find(b"\n", token.end()) < 0

    def _are_records(self, end: int, records: int) -> bool:
        """Whether the records of a run are some, and not inside a broken one. They are taken for
        some unless either side tells that they are not."""
        front = self._standing_in_front(end)
        if front is Standing.RECORD:
            return self._is_sure(records) or not self._are_inner(end, records)
        if records >= MANY_RECORDS:
            return True
        behind = self._look_behind(end, records)
        if self._shape is Shape.LINES and behind.closed:
            return False
        if behind.standing is Standing.LAST:
            return self._ends_envelope(end)
        if front is Standing.INSIDE:
            is_cut_off = behind.is_all and self._nesting.may_close(behind.closed)
            return behind.standing is Standing.RECORD and not is_cut_off
        return behind.standing is not Standing.INSIDE

    def _standing_in_front(self, end: int) -> Standing:
        """Where a run stands by what is before it, or by the line on which its last record ends,
        where its first one has lost its end to that."""
        if self._is_told_by_line and self._standing is Standing.INSIDE:
            last = self._indent_of(self._window.rfind(b"}", 0, max(0, end - self._base)))
            if last is not None and self._indent is not None and last < self._indent:
                return self._nesting.standing(self._shape, last)
        return self._standing

    def _is_sure(self, records: int) -> bool:
        """Whether a run that seems to stand where records do needs no look behind it."""
        many = 2 if self._shape is Shape.LINES else MANY_RECORDS
        return self._is_told_by_line or bool(self._found.runs) or records >= many

    def _are_inner(self, end: int, records: int) -> bool:
        """Whether the first records of all are inside one of which the rest follows."""
        self._read_on(end + _MARGIN)
        if self._shape is Shape.LINES and _IS_MEMBER.match(self._window, end - self._base):
            return True
        is_last = _CLOSE.match(self._window, end - self._base)
        if (self._shape is not Shape.LINES and not is_last) or self._indent == 0:
            return False
        behind = self._look_behind(end, records)
        if behind.standing is Standing.LAST and self._shape is Shape.ARRAY:
            self._shape = Shape.ENVELOPE
        ends_record = behind.closed.count(b"}") > 1 + self._nesting.braces
        is_more = ends_record or (self._shape is Shape.LINES and (behind.closed or not is_last))
        return behind.standing is Standing.INSIDE and bool(is_more)

    def _ends_envelope(self, end: int) -> bool:
        """Whether it is an envelope that ends behind the list of records, and no record."""
        if self._shape is Shape.TORN or (self._shape is Shape.ARRAY and not self._found.runs):
            if _END_OF_LINE.fullmatch(self._window, end - self._base):
                return False
            self._shape = Shape.ENVELOPE
        return self._shape is Shape.ENVELOPE

    def _look_behind(self, end: int, records: int) -> Behind:
        """What is behind so many records that end there."""
        is_listed = records > 1 and self._shape is not Shape.LINES
        free = min(MAX_FOLLOWED, FREE_LOOKS + end - self._looked_ahead)
        has_more = self._read_on(end + free + 1)
        start = end - self._base
        limit = min(start + max(0, free), len(self._window))
        found = look_behind(self._window, start, limit, not has_more, is_listed)
        self._looked_ahead += found.reached - start
        return found

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
        found.has_empty_arrays |= b"[]" in gap.marks
        what = gap.wrong(not found.runs, next_start is None, found.shape)
        if what is None:
            return
        found.ends_badly = next_start is None
        start, end = gap.range()
        is_record = gap.has_brace and bool(found.runs) and gap.fault != _MORE_BEHIND
        records = max(gap.starts, int(is_record))
        found.lose(Loss(start, end, records, what or gap.fault, shown(gap.seen)))


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
        self.lacks_bracket = False
        """Whether a list should begin in it, and does not."""
        self._lost: tuple[int, int] | None = None

    def take(self, start: int, text: bytes) -> None:
        self.end = start + len(text)
        if _MARK in text:  # of a file that was appended
            text = text.replace(_MARK, b" " * len(_MARK))
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
