"""Stretches of several texts as one text."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right

from fastnk._core import Splitter
from fastnk.source.compression import Chunks
from fastnk.source.losses import Scan


class Pieces:
    """The runs of records of all parts as one text: `[`, records, `,`, records, `]`."""

    def __init__(self, scans: list[Scan], joint: bytes) -> None:
        """`joint` is what stands between two arrays of an envelope, empty where there is none."""
        with_records = [one for one in scans if one.records]
        is_array = not with_records or any(one.shape == "array" for one in with_records)
        self._start, self._separator, self.tail = b"", b"\n", b"\n"
        if joint:
            self._start, self._separator, self.tail = b"[", joint, b"]"
        elif is_array:
            self._start, self._separator, self.tail = b"[\n", b",\n", b"\n]\n"
        self._lacks_commas = [is_array and one.shape == "jsonl" for one in scans]
        self._runs = [list(one.pairs()) for one in scans]
        self._starts = array("Q")
        """Of each run in the text, …"""
        self._places: list[tuple[int, int]] = []
        """… its part, and where it starts in that."""
        at = 0
        for index, runs in enumerate(self._runs):
            for start, end in runs:
                at += len(self._before(not self._places))
                self._starts.append(at)
                self._places.append((index, start))
                at += end - start

    def _before(self, is_first: bool) -> bytes:
        return self._start if is_first else self._separator

    def of(self, index: int, text: Chunks) -> Chunks:
        """What one part, of which this is the text, gives."""
        passing = _Passing(text)
        is_first = not any(self._runs[:index])
        if index == 0 and not self._places:
            yield self._before(True)
        for start, end in self._runs[index]:
            yield self._before(is_first)
            is_first = False
            run = passing.between(start, end)
            yield from with_commas(run) if self._lacks_commas[index] else run
        passing.to_end()

    def place(self, offset: int) -> tuple[int, int]:
        """The part and the place in it of a byte of the text."""
        if not self._places:
            return 0, offset
        number = max(0, bisect_right(self._starts, offset) - 1)
        index, start = self._places[number]
        return index, start + max(0, offset - self._starts[number])


class _Passing:
    """A text of which stretches are taken as it passes by."""

    def __init__(self, text: Chunks) -> None:
        self._text = text
        self._at = 0
        self._rest = b""

    def between(self, start: int, end: int) -> Chunks:
        while self._at < end:
            self._rest = self._rest or next(self._text, b"")
            if not self._rest:
                return  # it has changed, which the checksums show
            kept = self._rest[max(0, start - self._at) : end - self._at]
            taken = min(len(self._rest), end - self._at)
            self._at += taken
            self._rest = self._rest[taken:]
            if kept:
                yield kept

    def to_end(self) -> None:
        """So that damage behind the records is met in each pass."""
        for _ in self._text:
            pass


def with_commas(chunks: Chunks) -> Chunks:
    """Records in lines as they stand in an array: a comma takes the place of the first white space
    between two, so that no byte moves (where there is none, the others move by one)."""
    splitter = Splitter()
    rest = bytearray()
    between = b""
    for chunk in chunks:
        splitter.feed(chunk)
        rest += chunk
        at = 0
        parts: list[bytes | bytearray] = []
        for record in splitter.take():
            start = rest.index(b"{", at)
            parts += [between, rest[at + len(between) : start], record]
            at = start + len(record)
            between = b","
        del rest[:at]
        if len(rest) > len(chunk) and rest.isspace():  # of any length
            parts.append(rest[:-1])
            del rest[:-1]
        yield b"".join(parts)
    yield bytes(rest)


def between(chunks: Chunks, start: int, end: int = sys.maxsize) -> Chunks:
    """A text from one place to another, or to its end."""
    for chunk in chunks:
        if start < len(chunk) and end > 0:
            yield chunk[max(0, start) : end]
        start -= len(chunk)
        end -= len(chunk)
