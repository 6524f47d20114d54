"""Room for what grows with the backup: in memory, or in temporary files."""

from __future__ import annotations

import mmap
import tempfile
from array import array
from typing import IO, Self

from fastnk.source import BLOCK_SIZE

IN_MEMORY = 4 << 20
"""Bytes of each kind of working data that stay in memory; more go to a temporary file."""

AT_ONCE = 4096
"""Rows or numbers that are collected before they are put away."""


class Spool:
    """Bytes one behind the other: in memory, or in a temporary file when they are many."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._file: IO[bytes] | None = None
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, data: bytes) -> None:
        self._waiting += data
        self.size += len(data)
        if len(self._waiting) > IN_MEMORY:
            self._put_away()

    def _put_away(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()
        self._file.write(self._waiting)
        self._waiting.clear()

    def view(self) -> memoryview:
        """All of them; nothing can be written any more."""
        if self._file is None:
            return memoryview(self._waiting)
        self._put_away()
        self._file.flush()
        return memoryview(mmap.mmap(self._file.fileno(), 0))


class Numbers:
    """Numbers one behind the other, eight bytes each."""

    def __init__(self) -> None:
        self._spool = Spool()
        self._waiting = array("q")
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._spool.__exit__(*error)

    def __len__(self) -> int:
        return self._spool.size // 8 + len(self._waiting)

    def append(self, number: int) -> None:
        self._waiting.append(number)
        if len(self._waiting) >= AT_ONCE:
            self._put_away()

    def _put_away(self) -> None:
        self._spool.write(self._waiting.tobytes())
        del self._waiting[:]

    def view(self) -> memoryview:
        """All of them; none can be appended any more."""
        self._put_away()
        return self._spool.view().cast("q")


def zeros(count: int) -> memoryview:
    """So many zeros that can be overwritten: in memory, or in a temporary file if they are many."""
    size = count * 8
    if size <= IN_MEMORY:
        return memoryview(bytearray(size)).cast("q")
    with tempfile.TemporaryFile() as file:
        # Written, not only made longer: a mapped file that finds no room later ends the process.
        for _ in range(0, size, BLOCK_SIZE):
            file.write(bytes(BLOCK_SIZE))
        file.flush()
        return memoryview(mmap.mmap(file.fileno(), size)).cast("q")
