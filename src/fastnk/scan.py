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
from fastnk.compression import Chunks, Lookahead
from fastnk.encodings import RECORD_START
from fastnk.errors import BackupSyntaxError, shorten

MAX_LOSSES = 10_000
"""How many lost ranges are listed; all are counted."""
MAX_RECORD = 64 << 20
"""Bytes of a record behind damage, so that one bracket that is never closed costs little."""
FIRST_LOOK = 1 << 12
PUNCTUATION = b" \t\r\n,[]"
"""What may stand around the records of an array."""
_NO_PLAN = Plan([], [], [], [])
_KEEP = {"on_unknown_model": "keep", "on_duplicate_member": "keep"}
_JOINT = re.compile(rb"\](\[\])*\[")
_MORE_BEHIND = "not JSON: there is more behind the closing bracket"
_MARGIN = 256
"""Bytes that stay in the window, so that the start of a record is not torn."""
MAX_TRACKED = 1 << 20
"""Bytes of a broken record in which brackets are counted, to tell what is inside it …"""
FREE_TRACKED = 16 << 20
"""… of all of them together, beyond what was read anyway, so that hostile ones cost little."""
_TRACKED = re.compile(rb'"(?:[^"\\\n]|\\.)*"|["\[\]{}]', re.DOTALL)
_MARK = codecs.BOM_UTF8
MANY_RECORDS = 10
"""Behind so many whole records in a row it is taken for certain that no bracket is open."""
_FIRST_BRACE = re.compile(rb"\s*\[\s*?(?:\n(?P<indent>[ \t]*))?\{|" + RECORD_START.pattern)
_FIRST_RECORD = re.compile(rb"[\[\s]*" + RECORD_START.pattern)
_NOTHING_OPENED = re.compile(rb'[^"{:]{,256}')
_NO_STRING = re.compile(rb'[ \t\r\n]*[^ \t\r\n,:}\]"]')
_OPENED_BY = {ord("]"): ord("["), ord("}"): ord("{")}
_ENDS_OF_SCALARS = [bytes([byte]) for byte in b'"0123456789el']
_IS_INSIDE = re.compile(
    rb'\s*(?:\}|,\s*"(?!(?:model|pk|fields|natural_key)")[^"\\]*"\s*:|,\s*[-\[\dtfn]'
    rb"|,\s*(?P<record>\{)|(?P<list>\]\s*[,}\]]))"
)
"""What stands behind an object that is no record of its own but inside another one, or may be."""
_MEMBER = re.compile(rb'"(?:model|pk|fields|natural_key)"\s*:')
_IS_LAST = re.compile(rb"\s*\]\s*\Z|[ \t\r]*\n\s*(?:\{|\Z)")
"""What stands behind a record that is the last one of all, or of its line."""
_CLOSE = re.compile(rb"\s*\]")
_LIST_MEMBER = re.compile(rb'\n([ \t]*)"[^"\n]*":\s*\[\s*\Z')
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

    def lose_before(self, length: int, seen: str) -> None:
        """So many bytes stand in front of what was scanned, and are lost."""
        self.loss_count += 1
        self.lost_bytes += length
        self.losses.insert(0, Loss(-length, 0, 0, "text before the records", shorten(seen)))

    def follow(self, other: Scan, between: int) -> None:
        """Take in a whole array that stands so many bytes behind this one."""
        assert other.closed is not None
        start = (self.closed or 0) + between
        self.closed = start + other.closed
        self.runs.extend((start + 1, self.closed - 1))
        self.records += other.records

    def pairs(self) -> Iterator[tuple[int, int]]:
        return zip(self.runs[::2], self.runs[1::2], strict=True)


def scan(chunks: Chunks, *, is_in_object: bool = False) -> Scan:
    """Find the whole records of a text in UTF-8; with `is_in_object` it begins with the array of a
    damaged envelope."""
    return _Scanner(chunks, False, is_in_object).scan()


def scan_array(text: Lookahead) -> Scan:
    """The same of an array that begins here. It is taken; what is behind it is not, where it is
    whole."""
    scanner = _Scanner(text.chunks(), True, True)
    found = scanner.scan()
    if found.closed is not None:
        text.give_back(scanner.rest(found.closed))
    return found


class _Scanner:
    """The window and the walk over it."""

    def __init__(self, chunks: Chunks, closes: bool, is_in_object: bool) -> None:
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
        self._is_in_object = is_in_object
        """Whether the records stand in an envelope, as far as its beginning shows."""
        self._is_sure = True
        """Whether the run at hand is known not to be inside a record."""
        self._is_torn_off = False
        """Whether the backup begins in the middle of something, and no record was seen yet."""
        self._may_be_line = False
        """Whether it may be but the end of one line of JSON Lines."""
        self._is_around = False
        """Whether the brackets that are counted are those of an envelope, behind a list."""
        self._is_astray = False
        """Whether they may be, but where that list ended was not seen."""
        self._opened: bytes | None = None
        """The brackets known to be open where the search for the next record begins."""
        self._tracked = 0

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
            return self._end_without_records(start)
        self._remember_indent()
        found = self._found
        end = origin + indexer.records_end
        is_torn_list = start == 0 and self._is_torn_list(end, indexer.is_array)
        self._gap.lacks_bracket = is_torn_list and not indexer.is_array
        if self._is_refuted(start, end, indexer.records):
            self._opened = self._indent = None
            self._gap.starts -= 1
            return end
        self._opened = b"" if self._is_sure or indexer.records >= MANY_RECORDS else None
        found.records += indexer.records
        if not (found.runs or indexer.is_array or is_torn_list):
            found.shape = "jsonl"
            if self._read_on(end + 1) and self._window[end - self._base] in b"\r\n":
                self._indent = b""
        self._close_gap(self._first)
        self._note_close(end)
        found.runs.extend((self._first, end))
        self._gap = _Gap(end, self._fault)
        if self._space[0] == end:
            self._gap.marks = self._space[1]
        return end

    def _end_without_records(self, start: int) -> int:
        """Where to look on when what seemed to be a record is none."""
        first = _FIRST_BRACE.match(self._window) if start == 0 == self._base else None
        if first is not None and not self._is_torn_off:
            self._indent = first["indent"]
            self._opened = b"{"
            self._gap.fault = self._fault
            self._gap.starts += 1
            return first.end()
        self._opened = b"{" if self._is_sure and start else None
        return start + 1

    def _is_torn_list(self, end: int, is_array: bool) -> bool:
        """Whether records with which the backup begins are those of an envelope that has lost its
        head. Where they have no bracket in front, they may be inside one, and are not sure."""
        self._read_on(end + _MARGIN)
        found = _IS_INSIDE.match(self._window, end - self._base)
        if self._is_in_object or found is None or (is_array and not found["list"]):
            return False
        self._is_in_object = True
        is_list = found["record"] or found["list"]
        is_inside = self._is_list_inside(end) if is_list else True
        self._is_in_object = is_inside is False or (is_inside is True and not is_array)
        self._is_sure = is_array or is_inside is None
        return is_inside is not None

    def _note_close(self, end: int) -> None:
        """Where the array ended that was all there should be, if it did."""
        found = self._found
        if self._closes and found.is_clean and not found.runs and self._fault == _MORE_BEHIND:
            found.closed = self._base + self._window.index(b"]", end - self._base) + 1

    def _find_first(self) -> None:
        if self._first == 0 and not self._base:
            self._first = max(0, self._window.find(b"{"))

    def _look_at_start(self) -> None:
        self._read_on(_MARGIN)
        start = bytes(self._window[:_MARGIN]).lstrip()
        self._is_in_object |= start.startswith(b"{") and not RECORD_START.match(start)
        self._is_torn_off = not (self._is_in_object or _FIRST_RECORD.match(start))

    def _lead(self, start: int) -> bytes:
        """What makes the core expect a record as it stands there: in an array or in lines."""
        self._first = start
        if start == 0:
            return b""
        if self._found.runs:
            return b"[" if self._found.shape == "array" else b""
        at = start - self._base
        before = self._before(at).rstrip(b" \t\r\n\0")
        if self._is_torn_off:
            self._look_around(before)
        return b"[" if before[-1:] in (b"[", b",") else b""

    def _look_around(self, before: bytes) -> None:
        """What a backup that begins in the middle of something may be, by what stands before its
        first record."""
        around = before.rstrip(b"[ \t\r\n")[-1:]
        self._is_in_object = around in (b":", b",")
        self._may_be_line = around == b":" and b"}" not in before
        self._is_torn_off = False

    def _before(self, place: int) -> bytes:
        """What stands in front of a place in the window."""
        return bytes(self._window[max(0, place - _MARGIN) : place])

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
        if self._indent is None and not self._found.runs and self._first >= self._base:
            self._indent = self._indent_of(self._first - self._base)

    def _indent_of(self, place: int) -> bytes | None:
        """What stands on its line before a record, if that is white space."""
        line = bytes(self._window[:place]).rpartition(b"\n")
        return line[2] if line[1] and not line[2].strip(b" \t") else None

    # -- between runs --

    def _next(self, at: int) -> int | None:
        """The next place from `at` on where a record seems to start."""
        tracked = None
        if self._opened is not None and (self._indent is None or self._is_list_closed(at)):
            tracked = self._track(at)
        self._is_sure = self._indent is not None or tracked is not None
        at = at if tracked is None else tracked
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
            self._forget(at - _MARGIN)
            if not self._read_on(end + 1):
                return None

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

    def _may_start(self, place: int) -> bool:
        before = self._before(place)
        if self._indent is not None and not self._is_next(place):
            line = before.removesuffix(_MARK).rpartition(b"\n")
            if line[2] == self._indent:
                return bool(line[1]) or self._base + place == len(before)
            if not line[2].strip(b" \t") and line[1] and len(line[2]) < len(self._indent):
                self._indent = line[2]  # what was taken for the first record was inside one
                return True
            if self._is_list_around(before):
                self._indent = line[2]
                return True
            if line[2].strip(b" \t],") != b"[":
                return False
            self._indent = None  # another array, perhaps laid out in another way
        if self._is_sure:
            return True
        # What is the value of a member, or the element of a list that is one, is inside a record;
        # and so is, in all likelihood, what follows a text or a number.
        has_runs = bool(self._found.runs)
        before = before.rstrip()
        if before.endswith(b","):
            return not (has_runs and before[:-1].rstrip()[-1:] in _ENDS_OF_SCALARS)
        if before.endswith((b"[", b":")) and (self._is_in_object or self._is_torn_off):
            return True  # or in an envelope, as what is behind it tells
        return not before.rstrip(b"[ \t\r\n").endswith(b":" if has_runs else b'":')

    def _is_next(self, place: int) -> bool:
        """Whether a record follows the last one, but for what opens nothing."""
        end = self._gap.start - self._base
        if self._opened != b"" or end < 0:
            return False
        return _NOTHING_OPENED.fullmatch(self._window, end, place) is not None

    def _is_list_closed(self, at: int) -> bool:
        """Whether the list of records in an envelope ends here."""
        self._read_on(at + _MARGIN)
        return self._is_in_object and _CLOSE.match(self._window, at - self._base) is not None

    def _is_list_around(self, before: bytes) -> bool:
        """Whether the list that begins here, as a member of something laid out in lines, stands in
        an envelope: the members of a record stand deeper than the record."""
        member = _LIST_MEMBER.search(before)
        if member is None or self._indent is None or not self._is_in_object:
            return False
        return len(member[1]) <= len(self._indent)

    def _free(self, start: int) -> int:
        """In how many bytes from `start` on brackets may be counted."""
        return min(MAX_TRACKED, FREE_TRACKED + start - self._tracked)

    def _track(self, start: int) -> int | None:
        """Where the next record seems to begin, outside of all brackets from `start` on, or in the
        next list of an envelope; the end where there is none. `None` where they do not add up:
        nothing is known then of what is inside what."""
        limit = start + self._free(start)
        opened = bytearray(self._opened or b"")
        self._is_around = self._is_astray = False
        place = start
        try:
            while place < limit:
                token = _TRACKED.search(self._window, place - self._base)
                if token is None or self._is_torn(token):
                    end = self._base + len(self._window)
                    if token is None:
                        place = end
                    elif end >= limit:
                        return None
                    if not self._read_on(end + 1):
                        return end if self._is_in_object or not (opened or token) else None
                    continue
                place = self._base + token.end()
                self._read_on(place + _MARGIN)
                if self._begins_record(token, opened):
                    return self._base + token.start()
                if not self._turn(token, opened):
                    return None
            return None
        finally:
            self._tracked += place - start

    def _begins_record(self, token: re.Match[bytes], opened: bytearray) -> bool:
        """Whether a record begins with this bracket that is not inside another one."""
        start = token.start()
        if token[0] != b"{" or not RECORD_START.match(self._window, start):
            return False
        if not opened:
            return not self._is_value(start)
        is_first = self._is_around and opened[-1:] == b"[" and opened.count(b"[") == 1
        if is_first:
            self._indent = self._indent_of(start)
        return is_first

    def _turn(self, token: re.Match[bytes], opened: bytearray) -> bool:
        """Open or close a bracket; whether they still add up."""
        mark = token[0][0]
        if mark == ord('"') and _NO_STRING.match(self._window, token.end()):
            return False  # it was opened by what closes another one
        if mark == ord('"') and self._is_around and b"[" not in opened:
            return not _MEMBER.match(self._window, token.start())
        if mark == ord("{") or (mark == ord("[") and (opened or self._is_value(token.start()))):
            if self._is_in_object and not (opened or self._is_around):
                self._is_astray |= self._is_value(token.start())
            opened.append(mark)
            return not (self._is_astray and RECORD_START.match(self._window, token.start()))
        if mark in _OPENED_BY and opened:
            return opened.pop() == _OPENED_BY[mark]
        if mark == ord("]") and self._is_in_object:
            self._is_around |= self._before(token.start()).rstrip(b", \t\r\n").endswith(b"}")
        return True

    def _is_torn(self, token: re.Match[bytes]) -> bool:
        """Whether a quote may be closed by what is not in the window yet. No text holds a raw
        newline, so one without a quote before that is part of the damage."""
        return token[0] == b'"' and self._window.find(b"\n", token.end()) < 0

    def _is_value(self, place: int) -> bool:
        """Whether what begins there is the value of a member."""
        return self._before(place).rstrip().endswith(b":")

    def _is_refuted(self, start: int, end: int, records: int) -> bool:
        """Whether a run of records is none after all."""
        if not self._is_sure:
            return self._is_inside(end, records)
        if self._closes or start:
            return False
        return self._is_list_inside(end, braces=2) is True

    def _is_inside(self, end: int, records: int) -> bool:
        """Whether what stands behind some records shows that they are inside another one, or does
        not show that a few of them are not."""
        self._read_on(end + _MARGIN)
        found = _IS_INSIDE.match(self._window, end - self._base)
        if records >= MANY_RECORDS and (found is None or found["record"]):
            return False
        if found is None:
            return self._is_in_object and not _IS_LAST.match(self._window, end - self._base)
        if not (found["record"] or found["list"]):
            return True
        is_inside = self._is_list_inside(end)
        self._is_sure = is_inside is False
        return records < MANY_RECORDS if is_inside is None else is_inside

    def _is_list_inside(self, start: int, braces: int = 0) -> bool | None:
        """Whether the list of which elements end at `start` is inside a record, which others
        follow, and not in an envelope, with which all ends; `None` where that cannot be told, or
        fewer closing braces stand in between."""
        free = self._free(start)
        has_more = self._read_on(start + free)
        at = start - self._base
        end = at + free
        self._tracked += min(free, len(self._window) - at)
        opened = bytearray(b"[")
        left = last = 0
        for token in _TRACKED.finditer(self._window, at, max(at, end)):
            mark = token[0][0]
            if mark in b"[{":
                if not opened and self._is_element(token.start()):
                    return left >= braces or None
                opened.append(mark)
            elif mark == ord('"') and _NO_STRING.match(self._window, token.end()):
                return None
            elif mark in _OPENED_BY and opened:
                if opened.pop() != _OPENED_BY[mark]:
                    return None
                last = token.end() if not opened else last
            elif mark in _OPENED_BY:
                if mark == ord("]") or not (self._is_in_object or braces):
                    return left >= braces or None
                left += 1
                last = token.end()
        if has_more:
            return False if free == MAX_TRACKED else None
        is_line = self._may_be_line and left > 1 and _END_OF_LINE.fullmatch(self._window, at)
        is_cut_off = opened or self._window[last:].lstrip().startswith(b",")
        return None if is_cut_off or is_line else False

    def _is_element(self, place: int) -> bool:
        """Whether what begins there is one of several, and no member."""
        before = self._before(place).rstrip()
        is_record = RECORD_START.match(self._window, place) is not None
        return before.endswith(b",") or (is_record and not before.endswith(b":"))

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
