"""Whether what looks like a record is one, or inside another one, by the brackets around it."""

from __future__ import annotations

import enum
import itertools
import re
from bisect import bisect_left
from collections import Counter
from typing import NamedTuple

from fastnk.source.encodings import RECORD_MEMBER, RECORD_START

TOKEN = re.compile(
    rb'"(?:[^"\\\n]++|\\.)*+"(?P<key>\s*:)?|[\[\]{},]'
    rb"|(?P<bad>(?!(?:-?[0-9][0-9.eE+-]*|true|false|null|NaN|-?Infinity)(?=[\s,\]}]|\Z))[^\s,\[\]{}\"]+|\")"
    rb"|[^\s,\]}]+"
)
"""A string, perhaps as a key, a mark, another value, or a byte that no JSON has there."""
_RECORD_MEMBER = re.compile(RECORD_MEMBER)
_OPENED_BY = {ord("]"): b"[", ord("}"): b"{R"}
_CUT_OFF = re.compile(rb"\n[ \t]+[\]}]\s*\Z")
"""Behind which more brackets should stand, further to the left."""
_LONG_INDENT = 256
_OPENING, _CLOSING = b"[{", b"]}"
_UNKNOWN, _RECORD = ord("?"), ord("R")
_VALUE = ord("v")
_LIST, _BRACE, _COLON, _COMMA = b"[{:,"
DEEP = 20
"""Behind damage so many brackets are looked at, and so many beginnings of records inside each other
are tried, so that no time is lost on hostile ones."""
_NO_INDENT = 1 << 30
_STEP = re.compile(rb'^([ \t]*)[^\n]*[\[{]\r?\n(?=\1([ \t]+)["\[{])', re.MULTILINE)
_IN_LINES = re.compile(rb"\s*(?:[\[{]\s*?\n|[^\s\[{][^\n]*\n|" + RECORD_START.pattern + rb")")


class Standing(enum.Enum):
    """Where what looks like a record stands."""

    RECORD = enum.auto()
    """Where records do."""
    INSIDE = enum.auto()
    """Inside another one."""
    LAST = enum.auto()
    """In a list behind which brackets are closed until all ends: those of an envelope, or of the
    last record of all."""
    UNKNOWN = enum.auto()


class Shape(enum.Enum):
    """What records stand in."""

    ARRAY = enum.auto()
    LINES = enum.auto()
    ENVELOPE = enum.auto()
    TORN = enum.auto()
    """A text that begins in the middle of one of them."""


class Nesting:
    """The brackets that are open at a place.

    In a text of one line they are followed from a place on where they were known, as far as they
    add up. Where lines are indented, each says what is still open when it begins, so that one
    bracket too many or too few is forgotten with the line it was on.
    """

    def __init__(self) -> None:
        self.unit = 0
        """By how much a line is indented more than the one it belongs to; 0 in one line."""
        self.record_indent: int | None = None
        """Of the lines on which records begin, where that is known."""
        self._opened = bytearray()
        """Those around the place, `R` for the brace of a record; `?` is what is not known."""
        self._indents: list[int] = []
        """Of the lines on which they were opened, never less than the one before."""
        self._indent = 0
        """Of the line at hand."""
        self.lose()
        self.tear()

    def begin(self, around: int, last: int = _VALUE) -> None:
        """Here all brackets are known that matter: what is `around`, a list of records or what
        holds several texts, and that the `last` thing was a value, or nothing."""
        self._opened = bytearray([around])
        self._indents = [-self.unit]
        self._last = last
        """The bracket, comma, colon or end of a value before it."""
        self.closed = bytearray()
        """Those that were closed of what was around where it began."""
        self.is_known = True
        self._is_at_close = False

    def settle(self, indent: int | None) -> None:
        """Here whole records end that stand where records do, the first of them on a line of that
        indentation."""
        if self.unit and indent is not None:
            self._align(indent, _BRACE)
        if not self.is_known or _RECORD in self._opened or not self._may_be_element():
            self.begin(_LIST)
            if indent is not None:
                self._indents = [indent - self.unit]
        self._last = _VALUE

    def lose(self) -> None:
        """They do not add up."""
        self._last = _UNKNOWN
        self.closed = bytearray()
        self.is_known = False
        self._is_at_close = False
        if not self.unit:
            self.tear()

    def tear(self) -> None:
        """Nothing that is around is known, by lines neither."""
        self._opened = bytearray([_UNKNOWN])
        self._indents = [-_NO_INDENT]

    def give_up(self, before: bytes) -> None:
        """They are not followed so far; `before` is what stands in front of the place."""
        self.lose()
        if before.rstrip().endswith(b":"):
            self._last = _COLON

    def take(self, token: re.Match[bytes], indent: int | None) -> bool:
        """Go on over one token, which may begin a line of that indentation; whether it may stand
        there."""
        mark = token[0][0]
        self._is_at_close = mark in _CLOSING
        if token["bad"]:
            return False
        if self.unit and indent is not None:
            self._align(indent, mark)
            self._indent = indent
        if token["key"]:
            return self._take_key(token[0])
        if mark == _COMMA:
            is_good = self._last in (_VALUE, _UNKNOWN)
            self._last = mark
            return is_good
        if mark in _CLOSING:
            return self._close(mark)
        is_good = self._may_be_value(mark)
        self._last = mark if mark in _OPENING else _VALUE
        if mark in _OPENING:
            self._open(mark)
        return is_good

    def _open(self, mark: int) -> None:
        is_torn = self.depth > 1 and self._indents[-1] == self._indent
        if is_torn and self.unit > 1 and self.record_indent is None:
            self._opened.pop()  # such a line opens but one: its beginning was that of another
            self._indents.pop()
        self._opened.append(mark)
        self._indents.append(self._indent)

    def _align(self, indent: int, mark: int) -> None:
        """A line begins here: what was opened on lines that were not indented less is closed."""
        opened, indents = self._opened, self._indents
        if self._last in _OPENING and indents[-1] == indent and mark not in _CLOSING:
            indents[-1] -= self.unit  # records stand below their list
        kept = bisect_left(indents, indent + (mark in _CLOSING), 1)
        if kept < len(indents):
            del opened[kept:], indents[kept:]
            self._last = _UNKNOWN
        if not self.is_known:
            self._last = _UNKNOWN
            self.is_known = self._is_complete(indent)

    def _is_complete(self, indent: int) -> bool:
        """Whether all is known that is around a line of that indentation."""
        steps = itertools.pairwise([*self._indents[:DEEP], indent])
        return self.depth <= DEEP and all(right - left <= self.unit for left, right in steps)

    def _take_key(self, text: bytes) -> bool:
        around, last = self._opened[-1], self._last
        if around == _LIST and self.unit and last == _UNKNOWN:  # its brace was lost
            self._opened.append(_BRACE)
            self._indents.append(max(self._indents[-1], self._indent - self.unit))
            around = _BRACE
        self._last = _COLON
        if _RECORD_MEMBER.match(text):
            self._opened[-1] = _RECORD
        elif around == _UNKNOWN:
            self._opened[-1] = _BRACE
        return last in b"{,?" and around != _LIST

    def _close(self, mark: int) -> bool:
        around, indent = self._opened.pop(), self._indents.pop()
        is_good = self._last not in b",:" and around in _OPENED_BY[mark] + b"?"
        if not self._opened:
            self._opened.append(_UNKNOWN)
            self._indents.append(indent - self.unit)
            self.closed.append(mark)
        self._last = _VALUE
        return is_good

    def _may_be_value(self, mark: int) -> bool:
        around = self._opened[-1]
        if self._last == _VALUE:  # another text
            return len(self._opened) == 1 and mark in _OPENING and around == _UNKNOWN
        if self._last in b"[,":
            self._opened[-1] = _LIST
            return around in b"[?"
        return self._last in b":?"

    def _may_be_element(self) -> bool:
        """Whether a value may stand here."""
        return self.awaits_value or (self._last != _VALUE and self._opened[-1] == _LIST)

    def standing(self, shape: Shape, indent: int | None) -> Standing:
        """Where an object stands that begins here, perhaps a line of that indentation."""
        if self.unit and indent is not None:
            return self._standing_on_line(shape, indent)
        if self.depth > 1 and self._last != _UNKNOWN and not self._may_be_element():
            self.lose()
        if self.awaits_value and (self.unit or not self.is_known):
            return Standing.INSIDE
        if not self.is_known:
            return Standing.INSIDE if not self.unit and self._is_in_record() else Standing.UNKNOWN
        if self._is_in_record():
            return Standing.INSIDE
        return Standing.UNKNOWN if self.awaits_value else self._standing_in_list(shape)

    def _standing_on_line(self, shape: Shape, indent: int) -> Standing:
        if self.record_indent is not None and shape is not Shape.ENVELOPE:
            if indent == self.record_indent:
                return Standing.RECORD
            if shape is not Shape.TORN:
                return Standing.INSIDE
        self._align(indent, _BRACE)
        if self._is_in_record():
            return Standing.INSIDE
        is_told = self._is_in_list() and self._is_complete(indent)
        return Standing.RECORD if is_told else Standing.UNKNOWN

    def _standing_in_list(self, shape: Shape) -> Standing:
        """The same in one line, where no record is around and no key before it."""
        if shape is Shape.ENVELOPE:
            return Standing.RECORD if self._is_in_list() else Standing.UNKNOWN
        if shape is Shape.LINES:
            return Standing.RECORD if self.depth == 1 else Standing.INSIDE
        if not self.closed:  # in lists alone, nothing can be around it but a list too many
            return Standing.INSIDE if self.braces else Standing.RECORD
        is_first = self._last == _LIST and self.depth == 2
        return Standing.RECORD if is_first else Standing.UNKNOWN

    def _is_in_record(self) -> bool:
        return _RECORD in self._opened[: DEEP + 1]

    def _is_in_list(self) -> bool:
        """Whether what is around are objects, and within them one list."""
        return self._opened.find(_LIST, 0, DEEP) == self.depth - 1

    def may_close(self, closed: bytearray) -> bool:
        """Whether that may be the brackets that are closed next, from the innermost one on."""
        pairs = zip(closed, reversed(self._opened), strict=False)
        return all(opened in _OPENED_BY[mark] + b"?" for mark, opened in pairs)

    @property
    def awaits_value(self) -> bool:
        """Whether the value of a member begins here."""
        return self._last == _COLON

    @property
    def depth(self) -> int:
        """How many brackets are open."""
        return len(self._opened)

    @property
    def braces(self) -> int:
        """How many of them are braces."""
        return self._opened.count(b"{") + self._opened.count(b"R")

    def standing_before(self, token: re.Match[bytes], has_line: bool) -> Standing | None:
        """Where what it began behind stood, if this token tells; `has_line` where one begins."""
        if token["bad"]:
            return Standing.UNKNOWN
        if len(self._opened) > 1:
            return None
        mark, closed = token[0][0], self.closed
        if self._opened == b"[" and (token["key"] or mark == ord("}")):
            return Standing.UNKNOWN  # no list holds a member
        if self._last == _VALUE:
            if mark == ord("}") and not closed:
                return Standing.INSIDE
            if mark == ord("]") and closed:
                return Standing.INSIDE
            if mark in _OPENING:
                return self._standing_before_text(mark, has_line)
        elif token["key"]:
            is_member = not closed or _RECORD_MEMBER.match(token[0])
            return Standing.INSIDE if is_member and self._last == _COMMA else None
        elif self._last == _COMMA:
            is_element = closed or mark != _BRACE
            return Standing.INSIDE if is_element and mark not in _CLOSING else None
        return None

    def _standing_before_text(self, mark: int, has_line: bool) -> Standing:
        if mark == _LIST:
            return Standing.RECORD if self.closed == b"]" else Standing.UNKNOWN
        if not has_line:
            return Standing.UNKNOWN
        return Standing.INSIDE if self.closed else Standing.RECORD

    def standing_before_end(self) -> Standing:
        """The same where the text ends."""
        if len(self._opened) > 1 or not self._is_at_close or not self.closed:
            return Standing.UNKNOWN
        return Standing.RECORD if self.closed == b"]" else Standing.LAST


def unit_of(head: bytes) -> int:
    """By how much each line of a text that begins so is indented more than the one it belongs to; 1
    where all begin at its margin, 0 where it is all one line."""
    if not _IN_LINES.match(head):
        return 0
    steps = Counter(len(step[2]) for step in _STEP.finditer(head))
    return steps.most_common(1)[0][0] if steps else 1


class Behind(NamedTuple):
    """What is behind something that may be a record."""

    standing: Standing
    """Where it stands by that."""
    closed: bytearray
    """The brackets that are closed there of what is around it."""
    reached: int
    """How far it was looked at."""
    is_all: bool
    """Whether that is the end of all."""


def look_behind(text: bytearray, start: int, end: int, is_all: bool, is_listed: bool) -> Behind:
    """What is behind something that ends at `start`. `is_all` where the text ends at `end`,
    `is_listed` where what is around it is known to be a list."""
    nesting = Nesting()
    nesting.begin(_LIST if is_listed else _UNKNOWN)
    place = start
    for token in TOKEN.finditer(text, start, end):
        has_line = b"\n" in text[place : token.start()]
        place = token.end()
        told = nesting.standing_before(token, has_line)
        if told is None and not nesting.take(token, None):
            told = Standing.UNKNOWN
        if told is not None:
            return Behind(told, nesting.closed, place, False)
    is_whole = is_all and not _CUT_OFF.search(text, max(start, end - _LONG_INDENT), end)
    told = nesting.standing_before_end() if is_whole else Standing.UNKNOWN
    return Behind(told, nesting.closed, end, is_all)
