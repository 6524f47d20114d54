"""The records in an object: one array of them, or several, with something else around."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fastnk.errors import BackupSyntaxError, Place
from fastnk.source.compression import Chunks, Lookahead
from fastnk.source.encodings import RECORD_MEMBER, RECORD_START
from fastnk.source.losses import Scan
from fastnk.source.scan import scan_array

MAX_ENVELOPE = 16 << 20
"""Bytes of an envelope in front of its records, between them, and behind them."""
FIRST_LOOK = 1 << 16
_SECRET = os.urandom(16)
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}:]', re.DOTALL)
_FIRST_RECORD = re.compile(rb"\s*" + RECORD_START.pattern)
_ARRAY = re.compile(rb"\[" + _FIRST_RECORD.pattern)
_MAY_HOLD_RECORDS = re.compile(rb"\s*(?:" + RECORD_START.pattern + rb"|\Z)")
"""What is behind the bracket of an array of records, as far as the head reaches."""
_RECORD_MEMBER = re.compile(RECORD_MEMBER)
_SPACES = b" \t\r\n"
_LINE = re.compile(rb"^(?:\{|[ \t]*\[\s*\{)", re.MULTILINE)
"""What begins a line where an envelope or a list of records begins."""


class Envelope(NamedTuple):
    """What is around the records, and where they are."""

    around: list[bytes]
    """In front of the first array, between each two, and behind the last one."""
    counts: list[int]
    """Of the records in each array."""
    scan: Scan
    """Its places count from the bracket of the first array."""

    @property
    def written(self) -> list[bytes]:
        """What is written around the records: all arrays together have the first bracket, and the
        last one."""
        first, *between, last = self.around
        return [first, *(b"]" + one + b"[" for one in between), last]

    @property
    def joint(self) -> bytes:
        """What stands for that which is between two arrays while their records pass as one: white
        space that no backup holds, neither by chance nor by intent."""
        digest = hashlib.blake2b(b"".join(self.around), digest_size=16, key=_SECRET).digest()
        return b"," + bytes(_SPACES[byte >> shift & 3] for byte in digest for shift in (0, 2, 4, 6))


def begins_as_record(head: bytes) -> bool:
    return _FIRST_RECORD.match(head) is not None


def object_start(head: bytes, is_behind_text: bool) -> int | None:
    """Where an object begins that is no record; with `is_behind_text` it may do so behind lines of
    text in which no record begins. `None` where something else does."""
    start = len(head) - len(head.lstrip())
    if is_behind_text and head[start : start + 1] != b"{":
        line = _LINE.search(head)
        start = len(head) if line is None else line.start()
    is_object = head[start : start + 1] == b"{" and not begins_as_record(head[start:])
    return start if is_object and not RECORD_START.search(head, 0, start) else None


def records_array(head: bytes) -> int | None:
    """Where in an object the array of its records begins, or may begin; `None` where there is
    none, or the object is itself a record."""
    depth = 0
    last = b""
    for token in _TOKEN.finditer(head):
        text = token[0]
        if text == b"[" and _MAY_HOLD_RECORDS.match(head, token.end()):
            return token.start()
        if text == b":" and depth == 1 and _RECORD_MEMBER.fullmatch(last):
            return None
        depth += (text in b"[{") - (text in b"]}")
        last = text
    return None


def envelope_of(chunks: Chunks, start: int) -> Envelope | None:
    """The envelope of which the first records begin at `start`; `None` where it is damaged, or
    larger than `MAX_ENVELOPE`."""
    text = Lookahead(chunks)
    around = [text.take(start)]
    size = start
    counts: list[int] = []
    found = Scan()
    is_array = True
    while is_array:
        one = scan_array(text)
        if one.closed is None:
            return None
        found.follow(one, len(around[-1]) if counts else 0)
        counts.append(one.records)
        is_array = _take_up_to_array(text, around)
        size += len(around[-1])
        if size > MAX_ENVELOPE:
            return None
    try:
        json.loads(b"[]".join(around).decode(), parse_int=str)
    except (ValueError, RecursionError):
        return None
    return Envelope(around, counts, found)


def _take_up_to_array(text: Lookahead, around: list[bytes]) -> bool:
    """Append what stands in front of the next array of records; whether there is one."""
    length = FIRST_LOOK
    while True:
        head = text.peek(length)
        array = _ARRAY.search(head)
        if array is not None:
            around.append(text.take(array.start()))
            return True
        if len(head) < length or length > MAX_ENVELOPE:
            around.append(head)
            return False
        length *= 8


class Joints:
    """Puts what is between arrays back where the joints are."""

    def __init__(self, joint: bytes, between: Sequence[bytes]) -> None:
        self._joint = joint
        self._between = iter(between)
        self._rest = b""

    def put(self, data: bytes | memoryview) -> Iterator[bytes]:
        """What is sure of the output."""
        text = self._rest + data
        start = 0
        while (end := text.find(self._joint, start)) >= 0:
            yield text[start:end]
            yield next(self._between)
            start = end + len(self._joint)
        kept = max(start, len(text) - len(self._joint) + 1)
        yield text[start:kept]
        self._rest = text[kept:]

    def finish(self) -> bytes:
        """The rest."""
        return self._rest


class Arrays:
    """The arrays of an envelope one by one, of a text in which they pass as one."""

    def __init__(self, chunks: Iterator[memoryview], joint: bytes) -> None:
        self._chunks = chunks
        self._joint = joint
        self._rest = b""
        self._is_over = False

    def __iter__(self) -> Iterator[Chunks]:
        """The text of each; it has to be read to its end before the next one."""
        while not self._is_over:
            yield self._one()

    def _one(self) -> Chunks:
        while (end := self._rest.find(self._joint)) < 0:
            sure = max(0, len(self._rest) - len(self._joint) + 1)
            yield self._rest[:sure]
            self._rest = self._rest[sure:]
            chunk = next(self._chunks, None)
            if chunk is None:
                self._is_over = True
                yield self._rest
                return
            self._rest += bytes(chunk)
        yield self._rest[:end] + b"]"
        self._rest = b"[" + self._rest[end + len(self._joint) :]


def only_one_envelope(name: str | None) -> BackupSyntaxError:
    return BackupSyntaxError(
        "its envelope cannot be kept: the output is one, and there are other files",
        code="FNK211",
        place=Place(name),
        remedy="convert each by itself, with the others as --keys",
    )
