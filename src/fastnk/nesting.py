"""Whether what looks like a record is one, or inside another one, by the brackets around it."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from fastnk.encodings import RECORD_START

TOKEN = re.compile(
    rb'"(?:[^"\\\n]|\\.)*"(?P<key>\s*:)?|[\[\]{},]'
    rb"|(?P<bad>(?!(?:-?[0-9][0-9.eE+-]*|true|false|null|NaN|-?Infinity)(?=[\s,\]}]|\Z))[^\s,\[\]{}\"]+|\")"
    rb"|[^\s,\]}]+"
)
"""A string, perhaps as a key, a mark, another value, or a byte that no JSON has there."""
_RECORD_MEMBER = re.compile(rb'"(?:model|pk|fields|natural_key)"')
_OPENED_BY = {ord("]"): b"[", ord("}"): b"{R"}
_CUT_OFF = re.compile(rb"\n[ \t]+[\]}]\s*\Z")
"""Behind which more brackets should stand, further to the left."""
_LONG_INDENT = 256
_OPENING, _CLOSING = b"[{", b"]}"
_UNKNOWN, _RECORD = ord("?"), ord("R")
_VALUE = ord("v")


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
    """The brackets that are open at a place, from one on where it was known, or as far as they add
    up."""

    def __init__(self) -> None:
        self.begin(_UNKNOWN, _UNKNOWN)

    def begin(self, around: int, last: int = _VALUE) -> None:
        """Here all brackets are known that matter: what is `around`, a list of records or what
        holds several texts, and that the `last` thing was a value, or nothing."""
        self._opened = bytearray([around])
        """Those around the place, `R` for the brace of a record; `?` is what is not known."""
        self._last = last
        """The bracket, comma, colon or end of a value before it."""
        self.closed = b""
        """Those that were closed of what was around where it began."""
        self.is_known = True
        self.in_list = False
        """Whether a list was open inside a record where the brackets last added up."""

    def lose(self) -> None:
        """They do not add up."""
        self.in_list = b"[" in self._opened[1:] or (self.in_list and not self.is_known)
        self._opened = bytearray([_UNKNOWN])
        self._last = _UNKNOWN
        self.closed = b""
        self.is_known = False

    def give_up(self, before: bytes) -> None:
        """They are not followed so far; `before` is what stands in front of the place."""
        self.lose()
        self.in_list = True
        if before.rstrip().endswith(b":"):
            self._last = ord(":")

    def take(self, token: re.Match[bytes]) -> bool:
        """Go on over one token; whether it may stand there."""
        mark = token[0][0]
        if token["bad"]:
            return False
        if token["key"]:
            return self._take_key(token[0])
        if mark == ord(","):
            is_good = self._last in (_VALUE, _UNKNOWN)
            self._last = mark
            return is_good
        if mark in _CLOSING:
            return self._close(mark)
        is_good = self._may_be_value(mark)
        self._last = mark if mark in _OPENING else _VALUE
        if mark in _OPENING:
            self._opened.append(mark)
        return is_good

    def _take_key(self, text: bytes) -> bool:
        around, last = self._opened[-1], self._last
        self._last = ord(":")
        if _RECORD_MEMBER.match(text):
            self._opened[-1] = _RECORD
        elif around == _UNKNOWN:
            self._opened[-1] = ord("{")
        return last in b"{,?" and around != ord("[")

    def _close(self, mark: int) -> bool:
        around = self._opened.pop()
        is_good = self._last not in b",:" and around in _OPENED_BY[mark] + b"?"
        if not self._opened:
            self._opened.append(_UNKNOWN)
            self.closed += bytes([mark])
        self._last = _VALUE
        return is_good

    def _may_be_value(self, mark: int) -> bool:
        around = self._opened[-1]
        if self._last == _VALUE:  # another text
            return len(self._opened) == 1 and mark in _OPENING and around == _UNKNOWN
        if self._last in b"[,":
            self._opened[-1] = ord("[")
            return around in b"[?"
        return self._last in b":?"

    def _may_be_element(self) -> bool:
        """Whether a value may stand here."""
        return self.awaits_value or (self._last != _VALUE and self._opened[-1] == ord("["))

    def standing(self, shape: Shape) -> Standing:
        """Where an object stands that begins here."""
        if self.depth > 1 and self._last != _UNKNOWN and not self._may_be_element():
            self.lose()
        opened, last = self._opened, self._last
        if _RECORD in opened or (self.awaits_value and not self.is_known):
            return Standing.INSIDE
        if self.awaits_value or not self.is_known:
            return Standing.UNKNOWN
        is_around = bool(self.closed) or (shape is Shape.ENVELOPE and opened[0] != ord("["))
        if not is_around or shape is Shape.LINES:
            return Standing.RECORD if len(opened) == 1 else Standing.INSIDE
        is_first = last == ord("[") and (shape is Shape.ENVELOPE or len(opened) == 2)
        return Standing.RECORD if is_first else Standing.UNKNOWN

    @property
    def awaits_value(self) -> bool:
        """Whether the value of a member begins here."""
        return self._last == ord(":")

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
        if self._last == _VALUE:
            if mark == ord("}") and not closed:
                return Standing.INSIDE
            if mark == ord("]") and closed:
                return Standing.INSIDE
            if mark in _OPENING:
                return self._standing_before_text(mark, has_line)
        elif token["key"]:
            is_member = not closed or _RECORD_MEMBER.match(token[0])
            return Standing.INSIDE if is_member and self._last == ord(",") else None
        elif self._last == ord(","):
            is_element = closed or mark != ord("{")
            return Standing.INSIDE if is_element and mark not in _CLOSING else None
        return None

    def _standing_before_text(self, mark: int, has_line: bool) -> Standing:
        if mark == ord("["):
            return Standing.RECORD if self.closed == b"]" else Standing.UNKNOWN
        if not has_line:
            return Standing.UNKNOWN
        return Standing.INSIDE if self.closed else Standing.RECORD

    def standing_before_end(self) -> Standing:
        """The same where the text ends."""
        if len(self._opened) > 1 or self._last != _VALUE or not self.closed:
            return Standing.UNKNOWN
        return Standing.RECORD if self.closed == b"]" else Standing.LAST


class Behind(NamedTuple):
    """What is behind something that may be a record."""

    standing: Standing
    """Where it stands by that."""
    closed: bytes
    """The brackets that are closed there of what is around it."""
    reached: int
    """How far it was looked at."""
    is_all: bool
    """Whether that is the end of all."""


def look_behind(text: bytearray, start: int, end: int, is_all: bool) -> Behind:
    """What is behind something that ends at `start`. `is_all` where the text ends at `end`."""
    nesting = Nesting()
    nesting.begin(_UNKNOWN)
    place = start
    for token in TOKEN.finditer(text, start, end):
        has_line = b"\n" in text[place : token.start()]
        place = token.end()
        told = nesting.standing_before(token, has_line)
        if told is None and (not nesting.take(token) or RECORD_START.search(token[0])):
            told = Standing.UNKNOWN
        if told is not None:
            return Behind(told, nesting.closed, place, False)
    is_whole = is_all and not _CUT_OFF.search(text, max(start, end - _LONG_INDENT), end)
    told = nesting.standing_before_end() if is_whole else Standing.UNKNOWN
    return Behind(told, nesting.closed, end, is_all)
