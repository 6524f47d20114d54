"""Finds what occurs more than once among any number of keys, in bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import IO

from fastnk._core import partition, repeated

IN_MEMORY = 4 << 20
"""Bytes of fingerprints, 16 for each key, that stay in memory; more go to a temporary file."""


IN_CACHE = 1 << 18
"""Bytes of fingerprints that are compared at once, in a table that stays in the cache."""


class Audit:
    """Takes fingerprints of keys as the core gives them."""

    def __init__(self) -> None:
        self._prints = bytearray()
        self._file: IO[bytes] | None = None
        self._parts: list[list[tuple[int, int]]] = []
        """Of each time that memory was full, where in the file each part starts and ends."""

    def add(self, prints: bytes) -> None:
        self._prints += prints
        if len(self._prints) > IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            import tempfile

            self._file = tempfile.TemporaryFile()
        parted, sizes = partition(self._prints)
        start = self._file.seek(0, 2)
        self._file.write(parted)
        places = itertools.accumulate(sizes, initial=start)
        self._parts.append(list(itertools.pairwise(places)))
        self._prints.clear()

    def repeated(self) -> bytes:
        """The fingerprints that occurred more than once."""
        return b"".join(repeated(part) for part in self._in_parts())

    def _in_parts(self) -> Iterator[bytearray | memoryview]:
        """All fingerprints, equal ones in the same part."""
        if self._file is not None:
            self._spill()
            yield from map(self._read, zip(*self._parts, strict=True))
        elif len(self._prints) <= IN_CACHE:
            yield self._prints
        else:
            parted, sizes = partition(self._prints)
            places = itertools.accumulate(sizes, initial=0)
            for start, end in itertools.pairwise(places):
                yield memoryview(parted)[start:end]

    def _read(self, places: tuple[tuple[int, int], ...]) -> bytearray:
        """One part, of all times together."""
        assert self._file is not None
        part = bytearray()
        for start, end in places:
            self._file.seek(start)
            part += self._file.read(end - start)
        return part

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
