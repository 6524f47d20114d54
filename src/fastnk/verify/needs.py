"""Which records are left out together."""

from __future__ import annotations

from collections.abc import Iterable

Id = tuple[str, str, str]
"""Label, field and text of an id that leads to a record."""


class Needs:
    """What records need, to find at once all that go with those that are left out, however far
    away: to look which references lead nowhere finds one step of that each time."""

    def __init__(self) -> None:
        self._ids: dict[int, list[Id]] = {}
        """The ids that lead to a record, by its number."""
        self._needing: dict[Id, list[int]] = {}
        """The records that need what an id leads to."""

    def add(self, number: int, ids: list[Id], needed: Iterable[Id]) -> None:
        """Take a record in, with the ids that lead to it and those without which it goes."""
        if ids:
            self._ids[number] = ids
        for one in needed:
            self._needing.setdefault(one, []).append(number)

    def left_out_with(self, numbers: Iterable[int]) -> set[int]:
        """These records, those that need one of them, those that need these, and so on."""
        found = set(numbers)
        waiting = list(found)
        while waiting:
            for one in self._ids.get(waiting.pop(), ()):
                more = set(self._needing.get(one, ())) - found
                found |= more
                waiting += more
        return found
