"""The part of a text that a scan may look at again."""

from __future__ import annotations

import re

from fastnk.source.compression import Chunks
from fastnk.source.losses import MARK

MARGIN = 256
"""Bytes that stay in the window, so that the start of a record is not torn."""


class Window:
    """What was read of a text and is not forgotten. Places are bytes from the start of the text."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self.text = bytearray()
        self.start = 0
        """Bytes before it."""

    @property
    def end(self) -> int:
        """How far the text has been read."""
        return self.start + len(self.text)

    def read(self) -> bytes | None:
        """Take in and give the next chunk; `None` at the end of the text."""
        chunk = next(self._chunks, None)
        self.text += chunk or b""
        return chunk

    def read_on(self, end: int) -> bool:
        """Have the window reach to `end`; whether the text does."""
        while self.end < end:
            if self.read() is None:
                return False
        return True

    def forget(self, end: int) -> None:
        """Forget what is in front of `end`."""
        if end > self.start:
            del self.text[: end - self.start]
            self.start = end

    def at(self, place: int) -> int:
        """Where a place is in `text`; its start for what has been forgotten."""
        return max(0, place - self.start)

    def between(self, start: int, end: int) -> bytes:
        """The text from one place to another, as far as it is in the window."""
        return bytes(self.text[self.at(start) : self.at(end)])

    def before(self, place: int) -> bytes:
        """What stands in front of a place."""
        return self.between(place - MARGIN, place)

    def match(self, pattern: re.Pattern[bytes], place: int) -> re.Match[bytes] | None:
        """What stands at a place, if it matches."""
        return pattern.match(self.text, self.at(place))

    def indent_of(self, place: int) -> int | None:
        """How far what stands there is indented, if it begins a line."""
        line = self.before(place).removesuffix(MARK).rpartition(b"\n")
        return len(line[2]) if line[1] and not line[2].strip(b" \t") else None
