"""Which record was made of which."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator
from typing import Self

from fastnk.verify.likeness import Likeness
from fastnk.verify.reading import Entry, Input
from fastnk.verify.values import DECODER

WINDOW_RECORDS = 4096
WINDOW_BYTES = 8 << 20
"""How far apart the two backups may be and still be brought into step, when records are missing
or invented."""

BeforeAfter = tuple[Entry | None, Entry | None]


class _Window:
    """The next records of a backup, as many as were asked for."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self._entries = entries
        self.ahead: deque[Entry] = deque()

    def first(self) -> Entry | None:
        self.fill(1)
        return self.ahead[0] if self.ahead else None

    def fill(self, count: int) -> None:
        """Look ahead, as far as memory should go."""
        while len(self.ahead) < count and (
            not self.ahead or self.ahead[-1].end - self.ahead[0].offset < WINDOW_BYTES
        ):
            entry = next(self._entries, None)
            if entry is None:
                return
            self.ahead.append(entry)

    def take(self, count: int) -> list[Entry]:
        return [self.ahead.popleft() for _ in range(count)]


class Pairing:
    """Brings two backups into step: one pair after the other, missing and invented ones alone."""

    def __init__(self, old: Iterator[Entry], new: Iterator[Entry], likeness: Likeness) -> None:
        self._old = _Window(old)
        self._new = _Window(new)
        self._likeness = likeness
        self._steps_without_search = 0

    def pairs(self) -> Iterator[BeforeAfter]:
        while True:
            old, new = self._old.first(), self._new.first()
            if old is None and new is None:
                return
            if old is None or new is None or self._likeness.are_alike(old, new):
                self._old.take(int(old is not None))
                self._new.take(int(new is not None))
                yield old, new
                continue
            counts = self._next_match() or self._step(old)
            yield from self._gap(self._old.take(counts[0]), self._new.take(counts[1]))

    def _step(self, old: Entry) -> tuple[int, int]:
        """What to take where nothing ahead belongs together."""
        return (1, 0) if self._likeness.may_be_dropped(old) else (1, 1)

    def _next_match(self) -> tuple[int, int] | None:
        """How many records of both stand before the next two that belong together."""
        if self._steps_without_search:
            self._steps_without_search -= 1
            return None
        width = 8
        while width <= WINDOW_RECORDS:
            self._old.fill(width)
            self._new.fill(width)
            if found := self._match():
                return found
            width *= 8
        # All these are known not to belong together: only what comes into the windows may. To
        # search again at every step would take quadratic time.
        self._steps_without_search = max(len(self._old.ahead), len(self._new.ahead)) // 2
        return None

    def _match(self) -> tuple[int, int] | None:
        places: dict[bytes, int] = {}
        for number, new in enumerate(self._new.ahead):
            places.setdefault(self._likeness.new_signature(new), number)
        best: tuple[int, int] | None = None
        for number, old in enumerate(self._old.ahead):
            if best is not None and number >= sum(best):
                break
            place = places.get(self._likeness.old_signature(old))
            if place is not None and (best is None or number + place < sum(best)):
                best = number, place
        return best

    def _gap(self, olds: list[Entry], news: list[Entry]) -> Iterator[BeforeAfter]:
        """Pairs of what stands between two places where the backups are in step."""
        while olds and news:
            old, new = olds[0], news[0]
            same_model = old.label == new.label
            if self._likeness.are_alike(old, new) or (same_model and len(olds) == len(news)):
                yield olds.pop(0), news.pop(0)
            elif len(olds) >= len(news):
                yield olds.pop(0), None
            else:
                yield None, news.pop(0)
        for old in olds:
            yield old, None
        for new in news:
            yield None, new


class Arranged:
    """The records of a converted backup in the order of those that they were made of.

    Which belong together stands in a private temporary file; the records stay where they are.
    """

    def __init__(self, converted: Input, likeness: Likeness) -> None:
        self._converted = converted
        self._likeness = likeness
        # A database without a name is a private file, gone with the connection.
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.executescript("""
            pragma journal_mode = off;
            pragma synchronous = off;
            create table record (number integer primary key, start integer, stop integer,
                                 place integer);
            create table name (name blob, number integer, primary key (name, number))
                without rowid;
            begin;
        """)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, entry: Entry) -> None:
        """Take in a record of the converted backup."""
        self._file.execute(
            "insert into record values (?, ?, ?, null)", (entry.number, entry.offset, entry.end)
        )
        self._file.executemany(
            "insert or ignore into name values (?, ?)",
            [(name, entry.number) for name in self._likeness.new_names(entry)],
        )

    def place(self, entry: Entry) -> None:
        """Put the first record that may be made of `entry`, and has no place yet, where that is."""
        for name in self._likeness.old_names(entry):
            free = self._free(name)
            if len(free) > 1:
                free = self._free(name, self._likeness.old_signature(entry)) or free
            if free:
                self._file.execute(
                    "update record set place = ? where number = ?", (entry.number, free[0])
                )
                return

    def _free(self, *names: bytes) -> list[int]:
        """The first two records with all these names that have no place yet."""
        also = " and number in (select number from name where name = ?)" * (len(names) - 1)
        found = self._file.execute(
            f"select number from name join record using (number) where name = ?{also}"
            " and place is null order by number limit 2",
            names,
        )
        return [number for (number,) in found]

    def entries(self) -> Iterator[Entry]:
        """Those that belong to none come last."""
        for number, start, stop in self._file.execute(
            "select number, start, stop from record order by place is null, place, number"
        ):
            text = self._converted.read(start, stop).decode()
            yield Entry(DECODER.decode(text), number, start, stop, self._converted.proxies)
