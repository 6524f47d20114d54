"""What a table tells of its rows: all of it where it is small, of a large one what is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

MOST_SINGLE = 1_000
"""Questions asked one by one; who has more of them is quicker with the whole table."""


class Sought:
    """A mapping that is read when it is asked. The values are no `None`."""

    def __init__(
        self,
        read_all: Callable[[], dict[Any, Any]],
        read_some: Callable[[list[Any]], dict[Any, Any] | None],
    ) -> None:
        """`read_some` gives what there is of some keys; `None` where all is to be read."""
        self._read_all = read_all
        self._read_some = read_some
        self._held: dict[Any, Any] = {}
        self._is_whole = False
        self._expected: Iterable[Any] = ()
        self._singles = 0

    def expect(self, keys: Iterable[Any]) -> None:
        """Say what will be asked for, to be read together; of a large table all else is forgotten,
        so that memory does not grow with what is asked for."""
        self._expected = keys
        if not self._is_whole:
            self._held = {}

    def get(self, key: Any) -> Any:
        """What there is of a key, or `None`."""
        if not self._is_whole and key not in self._held:
            self._read(key)
        return self._held.get(key)

    def __contains__(self, key: Any) -> bool:
        return self.get(key) is not None

    def __getitem__(self, key: Any) -> Any:
        return self.get(key)

    def _read(self, key: Any) -> None:
        expected = [one for one in self._expected if one is not None]
        self._expected = ()
        self._singles += not expected
        asked = dict.fromkeys([key, *expected])
        found = self._read_some([*asked]) if self._singles <= MOST_SINGLE else None
        self._is_whole = found is None
        if found is None:
            self._held = self._read_all()
        else:
            self._held |= asked | found
