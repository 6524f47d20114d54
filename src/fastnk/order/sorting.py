"""Sorts what is numbered so that targets come first, wherever that can be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fastnk.order.room import zeros


class Graph(NamedTuple):
    """Records, or models, and their references, as numbers."""

    firsts: Sequence[int]
    """For each record the number of its first edge, and at last the number of all edges."""
    targets: Sequence[int]
    kinds: Sequence[int]
    """For each edge."""
    strengths: Sequence[int]
    """For each kind."""


_UNSEEN, _CLOSED, _AGAIN = 0, -1, -2


class Sorter:
    """Sorts records so that their targets come first, otherwise as they are numbered.

    Circles (strongly connected components) are found by Tarjan's algorithm, in the variant of
    Pearce that gives their records in the order in which a depth-first search leaves them. One
    whose edges differ in strength is taken up again without the weakest of them. Linear in the
    edges; no recursion, and no object per record.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._count = count = len(graph.firsts) - 1
        self.components = zeros(count)
        """For each record where its circle starts in the order."""
        self._order = zeros(count)
        self._free = zeros(count)
        """For each circle, by its start: where its next record goes."""
        self._seen = zeros(count)
        """When a record was seen first, or what it is instead."""
        self._lows = zeros(count)
        """The earliest that a record leads back to."""
        self._edges = zeros(count)
        """The next edge of a record to follow."""
        self._path = zeros(count)
        self._left = zeros(count)
        """Records that the search has left, whose circle is not complete."""
        self._left_count = 0
        self._clock = 0

    def sort(self) -> Sequence[int]:
        """The records in order."""
        for level in sorted(set(self._graph.strengths)):
            for record in range(self._count):
                if self._seen[record] == _UNSEEN:
                    self._search(record, level)
            if not self._take_up_again():
                break
        return self._order

    def _take_up_again(self) -> bool:
        """Whether there is a circle to be taken up again."""
        found = False
        for record in range(self._count):
            if self._seen[record] == _AGAIN:
                self._seen[record] = _UNSEEN
                self._free[self.components[record]] = self.components[record]
                found = True
        return found

    def _search(self, root: int, level: int) -> None:
        """Follow all edges from `root` that are of this level or stronger."""
        firsts, targets, kinds, strengths = self._graph
        seen, lows, edges, path = self._seen, self._lows, self._edges, self._path
        depth = 0
        self._enter(root, depth)
        while depth >= 0:
            record = path[depth]
            edge = edges[record]
            if edge < firsts[record + 1]:
                edges[record] = edge + 1
                target = targets[edge]
                if strengths[kinds[edge]] < level or not self._is_open(record, target):
                    continue
                if seen[target] == _UNSEEN:
                    depth += 1
                    self._enter(target, depth)
                else:
                    lows[record] = min(lows[record], lows[target])
                continue
            depth -= 1
            if lows[record] == seen[record]:
                self._close(record, level)
            else:
                self._left[self._left_count] = record
                self._left_count += 1
                lows[path[depth]] = min(lows[path[depth]], lows[record])

    def _is_open(self, record: int, target: int) -> bool:
        """Whether `target` may be in a circle with `record`."""
        return self._seen[target] >= 0 and self.components[target] == self.components[record]

    def _enter(self, record: int, depth: int) -> None:
        self._clock += 1
        self._seen[record] = self._lows[record] = self._clock
        self._edges[record] = self._graph.firsts[record]
        self._path[depth] = record

    def _close(self, root: int, level: int) -> None:
        """The circle of `root` is complete: give its records their places."""
        end = start = self._left_count
        while start and self._seen[self._left[start - 1]] > self._seen[root]:
            start -= 1
        self._left_count = start
        outer = self.components[root]
        place = self._free[outer]
        behind = self._free[outer] = place + end - start + 1
        self._order[place : behind - 1] = self._left[start:end]
        self._order[behind - 1] = root
        circle = self._order[place:behind]
        for record in circle:
            self.components[record] = place
            self._seen[record] = _CLOSED
        if len(circle) > 1 and self._differ(circle, level):
            for record in circle:
                self._seen[record] = _AGAIN

    def _differ(self, circle: Iterable[int], level: int) -> bool:
        """Whether the edges within a circle that has just been closed differ in strength."""
        firsts, targets, kinds, strengths = self._graph
        found = {
            strengths[kinds[edge]]
            for record in circle
            for edge in range(firsts[record], firsts[record + 1])
            if targets[edge] != record and self._are_together(record, targets[edge])
        }
        return sum(strength >= level for strength in found) > 1

    def _are_together(self, record: int, target: int) -> bool:
        """Whether both are in the circle that has just been closed, given that `record` is."""
        return self._seen[target] == _CLOSED and self.components[target] == self.components[record]
