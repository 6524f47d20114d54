"""Finds values that occur more than once, in bounded memory: first which may, then which do."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Any

from fastnk.audit import Audit

ALL_BITS = -1
"""The second half of every fingerprint. The core reads bits there that mean nothing here."""


Hashes = bytes
"""Of values, eight bytes each."""


def hashes_of(values: Iterable[Hashable]) -> Hashes:
    """The hashes by which repeats are found; `None` is no value."""
    known = [value for value in values if value is not None]
    return array("q", map(hash, zip(known, strict=True))).tobytes()


class Repeats:
    """Values of several kinds, such as the natural keys of one model."""

    def __init__(self) -> None:
        self._audits: dict[Hashable, Audit] = defaultdict(Audit)
        self._suspects: dict[Hashable, set[int]] = {}
        self._firsts: dict[tuple[Hashable, Hashable], tuple[int, Any]] = {}

    def add(self, kind: Hashable, hashes: Hashes) -> None:
        """Take values in, by their hashes."""
        halves = array("q", hashes)
        prints = array("q", [ALL_BITS]) * (2 * len(halves))
        prints[::2] = halves
        self._audits[kind].add(prints.tobytes())

    def settle(self) -> bool:
        """Whether any value may have occurred twice; then all of them have to be shown again."""
        for kind, audit in self._audits.items():
            if found := array("q", audit.repeated()):
                self._suspects[kind] = set(found[::2])
            audit.close()
        self._audits.clear()
        return bool(self._suspects)

    def earlier(self, kind: Hashable, value: Hashable, record: int) -> tuple[int, Any] | None:
        """The record that had this value first, and as it had it; `None` for that record."""
        suspects = self._suspects.get(kind)
        if suspects is None or value is None or hash((value,)) not in suspects:
            return None
        first = self._firsts.setdefault((kind, value), (record, value))
        return None if first[0] == record else first
