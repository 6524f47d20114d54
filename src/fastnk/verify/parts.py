"""Several processes, each of which compares a part of both backups.

Where the parts may begin in the converted backup the core says, whose word is not taken for it:
each process has to begin where the one before it has stopped, in both backups, or what they found
does not count. Neither does it where one of them found a difference, or two of them the same key.
Then one process compares everything in order, and says what is wrong.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastnk.errors import BackupSyntaxError
from fastnk.processes import Ends, can_fork, other_process
from fastnk.verify.findings import Findings
from fastnk.verify.reading import START, Cut, Entry, Input
from fastnk.verify.report import FileFacts

if TYPE_CHECKING:
    from fastnk.source import Source

SMALLEST = 16 << 20
"""Bytes of a backup that are compared in less time than other processes save."""
MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where Linux says what a container may use, by either version of its control groups."""
TELL_EVERY = 4 << 20
"""Bytes of the backup."""

Tell = Callable[[int], None]
"""Called with the bytes of the backup that are done with since the last call."""


class Part(NamedTuple):
    """Where to begin to read in both backups, and the records of the part."""

    old: Cut
    new: Cut
    first: int
    """How many records are in front of it."""
    stop: int | None
    """How many there are up to its end; `None` up to that of the backup."""


class Outcome(NamedTuple):
    """What a process has found in its part."""

    begins: list[int]
    """Bytes in front of it, in the backup and in the converted one."""
    ends: list[int]
    records: int
    """How many there are up to its end in the converted backup."""
    findings: Findings
    allowed: dict[str, Counter[str]]
    generic_kept: int
    converted_keys: dict[str, set[bytes]]
    natural_keys: dict[str, set[bytes]]


Compare = Callable[[Part, Tell], Outcome]


class Stretch:
    """The records of a part in one of the backups, and where they were."""

    def __init__(self, entries: Iterator[Entry], cut: Cut, part: Part) -> None:
        self.begin = self.end = cut.offset
        self.records = cut.number
        self._entries = entries
        self._part = part

    def entries(self, tell: Tell | None = None) -> Iterator[Entry]:
        told = self.begin
        for entry in self._entries:
            self.end, self.records = entry.end, entry.number
            if entry.number <= self._part.first:
                self.begin = entry.end
                continue
            yield entry
            if tell is not None and self.end - told >= TELL_EVERY:
                tell(self.end - told)
                told = self.end
            if entry.number == self._part.stop:
                return


class Overview(NamedTuple):
    """The converted backup, of which the core has said where records end."""

    cuts: list[Cut]
    is_array: bool
    size: int
    sha256: str


def compare(old: Input, new: Input, compare_part: Compare, jobs: int) -> list[Outcome]:
    """What up to so many processes find in the parts of both backups, of which the first has been
    read. Empty where anything differs, or they cannot tell."""
    jobs = min(jobs, _most_jobs()) if _may_be_divided(old) and _may_be_divided(new) else 1
    if jobs < 2:
        return []
    before = _statuses(old, new)
    try:
        overview = _look_over(new.source)
    except BackupSyntaxError:
        return []
    new.has_lines = not overview.is_array
    found = _outcomes(parts_of(old.cuts, overview.cuts, jobs), compare_part, _Telling(old))
    if not fit_together(found) or _statuses(old, new) != before:
        return []
    new.note(FileFacts(new.name, overview.size, overview.sha256, found[-1].records))
    return found


def _may_be_divided(one: Input) -> bool:
    """Whether it is a large file of this machine, of which any process may read any part."""
    size = one.source.size
    return size is not None and size >= SMALLEST and bool(one.source.statuses())


def _most_jobs() -> int:
    """How many processes there is memory for, each of which may come to hold all that this one
    does."""
    if not can_fork():
        return 1
    held = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return _memory() // 2 // held


def _memory() -> int:
    """Bytes that the machine has, or that its container may use."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" is none
            found = min(found, int(path.read_text()))
    return found


def _statuses(*inputs: Input) -> list[tuple[int, int]]:
    """What changes with the files."""
    found = [status for one in inputs for status in one.source.statuses()]
    return [(status.st_size, status.st_mtime_ns) for status in found]


class _Telling:
    """Tells the caller's progress."""

    def __init__(self, old: Input) -> None:
        self._old = old
        self._done = 0

    def __call__(self, more: int) -> None:
        self._done += more
        self._old.tell("compare", self._done)


def _look_over(source: Source) -> Overview:
    """Raises `BackupSyntaxError` for what is no backup."""
    from fastnk._core import Walker

    walker = Walker()
    cuts = [START]
    hash_ = hashlib.sha256()
    size = 0
    for block in source.blocks():
        hash_.update(block)
        size += len(block)
        walker.feed(block)
        cuts.append(Cut(walker.records_end, walker.records))
    walker.finish()
    return Overview(cuts, walker.is_array, size, hash_.hexdigest())


def parts_of(old: Sequence[Cut], new: Sequence[Cut], count: int) -> list[Part]:
    """Up to so many parts, of about the same size."""
    size = new[-1].offset
    begins = [(START, START)]
    for number in range(1, count):
        at = bisect_left(new, size * number // count, key=attrgetter("offset"))
        cut = new[at]
        if begins[-1][1].number < cut.number < new[-1].number:
            behind = bisect_right(old, cut.number, key=attrgetter("number"))
            begins.append((old[behind - 1], cut))
    stops = [*(cut.number for _, cut in begins[1:]), None]
    return [
        Part(one, other, other.number, stop)
        for (one, other), stop in zip(begins, stops, strict=True)
    ]


def _outcomes(parts: Sequence[Part], compare_part: Compare, tell: Tell) -> list[Outcome]:
    """What a process each finds in the parts; empty where one of them came to no end."""
    found: dict[int, Outcome] = {}
    with contextlib.ExitStack() as stack:
        waiting: dict[Connection, int] = {}
        for number, part in enumerate(parts):
            ends = stack.enter_context(other_process(partial(_work, compare_part, part)))
            waiting[ends.receiver] = number
        while waiting:
            for receiver in wait([*waiting]):
                assert isinstance(receiver, Connection)
                try:
                    told = receiver.recv()
                except EOFError:
                    return []
                if isinstance(told, Outcome):
                    found[waiting.pop(receiver)] = told
                else:
                    tell(told)
    return [found[number] for number in range(len(parts))]


def _work(compare_part: Compare, part: Part, there: Ends) -> None:
    gc.freeze()  # to look through what is there would mean to copy it
    there.sender.send(compare_part(part, there.sender.send))


def fit_together(found: Sequence[Outcome]) -> bool:
    """Whether nothing differs in any part, they leave nothing out between them, and no key of one
    that stands for a pk now is in another one."""
    is_clean = all(one.findings.is_clean() for one in found)
    is_whole = all(one.ends == other.begins for one, other in pairwise(found))
    return bool(found) and is_clean and is_whole and _are_apart(found)


def _are_apart(found: Sequence[Outcome]) -> bool:
    converted: defaultdict[str, set[bytes]] = defaultdict(set)
    natural: defaultdict[str, set[bytes]] = defaultdict(set)
    for one in found:
        for label, keys in one.converted_keys.items():
            if not (keys.isdisjoint(converted[label]) and keys.isdisjoint(natural[label])):
                return False
        for label, keys in one.natural_keys.items():
            if not keys.isdisjoint(converted[label]):
                return False
            natural[label] |= keys
        for label, keys in one.converted_keys.items():
            converted[label] |= keys
    return True
