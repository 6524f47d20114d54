"""Where the whole records of a backup stand, whatever is between them.

One pass with the grammar of the core. At a fault it goes on at the next place where a record
seems to start, so that a damaged backup costs no more than a good one. The rest of fastnk then
reads the records as one list and does not know of the damage.
"""

from __future__ import annotations

import re

from fastnk._core import DEFAULT_MAX_RECORD, Indexer, Plan
from fastnk.errors import BackupSyntaxError
from fastnk.source.compression import Chunks, Lookahead
from fastnk.source.encodings import RECORD_START
from fastnk.source.losses import SPACE, TEXT_BEFORE, Gap, Loss, Scan, shown
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
from fastnk.source.window import MARGIN, Window

MAX_RECORD = 64 << 20
"""Bytes of a record behind damage, so that one bracket that is never closed costs little."""
MAX_SPACE = 16 << 20
"""Bytes of white space behind a record that can be looked at again: no less than may be around the
records of an envelope."""
FIRST_LOOK = 1 << 12
_NO_PLAN = Plan([], [], [], [])
_KEEP = {"on_unknown_model": "keep", "on_duplicate_member": "keep"}
_MORE_BEHIND = "not JSON: there is more behind the closing bracket"
MAX_FOLLOWED = 1 << 20
"""Bytes of a broken record in which brackets are followed, to tell what is inside it …"""
FREE_LOOKS = 16 << 20
"""… and behind all of them together, beyond what was read anyway, so that hostile ones cost
little."""
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
_NEW_LINE = re.compile(rb"[\r\n]")
_CLOSE = re.compile(rb"\s*\]")
_ELEMENT_END = re.compile(rb"\s*[,\]]")
_IS_MEMBER = re.compile(rb'\s*(?:\}\s*)?(?:,\s*"[^"\\]*"\s*:|\}\s*\})')
_MEMBER_LINE = re.compile(rb'\{\r?\n([ \t]*)"')
_END_OF_LINE = re.compile(rb"[^\n]*\}\s*\}\r?\n")


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
        self._closes = closes
        self._found = Scan()
        self._window = Window(chunks)
        self._gap = Gap(0, TEXT_BEFORE)
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
        found.length = self._window.end
        self._pass(found.length)
        self._close_gap(None)
        return found

    def rest(self, start: int) -> bytes:
        """What was read behind a place."""
        return self._window.between(start, self._window.end)

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
            while (chunk := self._window.read()) is not None:
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
        at, length = start, FIRST_LOOK
        while at < self._window.end:
            indexer.feed(self._window.between(at, at + length))
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
        self._gap = Gap(end, self._fault)
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
        first = brace.match(self._window.text) if brace else None
        if first is None:
            self._tried = [reached, *(end for end in self._tried if end > start)]
            is_deep = len(self._tried) > DEEP
            return max(reached, start + 1) if is_deep else start + (start > 0)
        self._gap.fault = self._fault
        self._gap.starts += 1
        return self._window.start + first.end()

    def _note_shape(self, end: int, indexer: Indexer) -> None:
        """What the first records stand in, by what is behind them where nothing is in front."""
        self._window.read_on(end + MARGIN)
        is_element = self._window.match(_ELEMENT_END, end)
        is_list = indexer.is_array or (indexer.records == 1 and is_element is not None)
        self._found.shape = "array" if is_list else "jsonl"
        if is_list and not indexer.is_array:
            self._gap.lacks_bracket = True
            self._shape = Shape.TORN
        nesting = self._nesting
        if self._shape is Shape.LINES and self._window.match(_NEW_LINE, end):
            nesting.unit, nesting.record_indent = nesting.unit or 1, 0
        elif self._shape is Shape.TORN:
            nesting.record_indent = self._indent

    def _note_close(self, closed: int) -> None:
        """Where the array ended that was all there should be, if it did."""
        found = self._found
        is_all = self._closes and found.is_clean and not found.runs and self._fault == _MORE_BEHIND
        if is_all and closed >= self._window.start:
            found.closed = closed + 1

    def _find_first(self) -> None:
        """Go on to the brace of the first record, which may be far behind the start of a text."""
        window = self._window
        if self._first < window.start:
            return  # it has left the window
        brace = window.text.find(b"{", window.at(self._first))
        first = window.start + brace if brace >= 0 else window.end
        if first > self._first:
            self._first = first
            self._indent = window.indent_of(first) if brace >= 0 else None

    def _look_at_start(self) -> None:
        """What the text is, by how it begins."""
        self._window.read_on(FIRST_LOOK)
        nesting, head = self._nesting, self._window.between(0, FIRST_LOOK)
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
        self._indent = self._indent_of_record(start)
        if self._found.runs:
            return b"[" if self._found.shape == "array" else b""
        before = self._window.before(start).rstrip(b" \t\r\n\0")
        return b"[" if before[-1:] in (b"[", b",") else b""

    def _trim(self, indexer: Indexer, origin: int) -> None:
        """Forget what is whole, and white space that is too long to be looked at again."""
        done = origin + indexer.records_end - MARGIN
        if indexer.consumed - indexer.records_end > MAX_SPACE:
            done = origin + indexer.consumed - MARGIN
            self._forget_space(origin + indexer.records_end if indexer.records else None, done)
        elif not indexer.records:
            return
        self._window.forget(done)

    def _forget_space(self, start: int | None, end: int) -> None:
        """What is behind the record that ends at `start`, or in front of the first one."""
        if start is None:
            self._pass(end)
            self._place = end
            return
        marks = self._space[1] if self._space[0] == start else b""
        text = self._window.between(start, end)
        self._space = start, marks + text.translate(None, SPACE)

    def _indent_of_record(self, place: int) -> int | None:
        """How far a record is indented, if it begins a line.

        Where its line has lost its beginning and what is left stands at the end of another one,
        the line of its first member tells.
        """
        indent, unit = self._window.indent_of(place), self._nesting.unit
        member = self._window.match(_MEMBER_LINE, place)
        if indent is not None or member is None or not unit:
            return indent
        line = self._window.before(place).rpartition(b"\n")[2]
        own = len(member[1]) - unit
        return own if 0 <= own != len(line) - len(line.lstrip(b" \t")) else None

    # -- between runs --

    def _next(self, at: int) -> int | None:
        """The next place from `at` on where a record seems to start."""
        window = self._window
        while True:
            match = RECORD_START.search(window.text, window.at(at))
            if match is not None:
                start = window.start + match.start()
                is_none = window.match(_NO_RECORD, start)
                if is_none or self._is_inside(start):
                    self._gap.starts += is_none is not None
                    at = start + 1
                    continue
                self._pass(start)
                if start > self._gap.start or not self._found.runs:
                    self._gap.starts += 1
                return start
            at = max(at, window.end - MARGIN)
            self._follow(None)
            self._pass(at)
            window.forget(min(at - MARGIN, self._place))
            if not window.read_on(window.end + 1):
                return None

    def _is_inside(self, start: int) -> bool:
        """Whether what seems to start a record there plainly stands inside one."""
        self._follow(start)
        nesting, indent = self._nesting, self._indent_of_record(start)
        self._is_told_by_line = nesting.unit > 0 and indent is not None
        self._standing = nesting.standing(self._shape, indent)
        is_value = nesting.unit > 0 and nesting.awaits_value
        return is_value and self._standing is Standing.INSIDE

    def _follow(self, stop: int | None) -> None:
        """Follow the brackets up to a place where a record seems to start, or as far as they are
        in the window."""
        window = self._window
        end = window.end if stop is None else stop
        if self._place < window.start or self._is_far(end):
            self._nesting.give_up(window.before(end))
            self._place = end
        place, limit = window.at(self._place), window.at(end)
        text_end = -1
        while (token := TOKEN.search(window.text, place)) and token.start() < limit:
            line = window.text.rfind(b"\n", place, token.start())
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
        self._place = window.start + place

    def _is_far(self, place: int) -> bool:
        """Whether brackets are not followed that far into a broken record."""
        return place > self._gap.start + MAX_FOLLOWED

    def _is_torn(self, token: re.Match[bytes]) -> bool:
        """Whether a token may go on in what is not in the window yet. No text holds a raw newline,
        so a quote without another one before that is part of the damage."""
        text = self._window.text
        return token.end() == len(text) or (token[0] == b'"' and text.find(b"\n", token.end()) < 0)

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
            window = self._window
            brace = window.text.rfind(b"}", 0, window.at(end))
            last = window.indent_of(window.start + brace) if brace >= 0 else None
            if last is not None and self._indent is not None and last < self._indent:
                return self._nesting.standing(self._shape, last)
        return self._standing

    def _is_sure(self, records: int) -> bool:
        """Whether a run that seems to stand where records do needs no look behind it."""
        many = 2 if self._shape is Shape.LINES else MANY_RECORDS
        return self._is_told_by_line or bool(self._found.runs) or records >= many

    def _are_inner(self, end: int, records: int) -> bool:
        """Whether the first records of all are inside one of which the rest follows."""
        self._window.read_on(end + MARGIN)
        if self._shape is Shape.LINES and self._window.match(_IS_MEMBER, end):
            return True
        is_last = self._window.match(_CLOSE, end)
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
            if _END_OF_LINE.fullmatch(self._window.text, self._window.at(end)):
                return False
            self._shape = Shape.ENVELOPE
        return self._shape is Shape.ENVELOPE

    def _look_behind(self, end: int, records: int) -> Behind:
        """What is behind so many records that end there."""
        is_listed = records > 1 and self._shape is not Shape.LINES
        free = min(MAX_FOLLOWED, FREE_LOOKS + end - self._looked_ahead)
        window = self._window
        has_more = window.read_on(end + free + 1)
        start = window.at(end)
        limit = min(start + max(0, free), len(window.text))
        found = look_behind(window.text, start, limit, not has_more, is_listed)
        self._looked_ahead += found.reached - start
        return found

    def _pass(self, end: int) -> None:
        """The gap goes on up to `end`."""
        gap = self._gap
        start = max(gap.end, self._window.start)
        if end > start:
            gap.take(start, self._window.between(start, end))

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
