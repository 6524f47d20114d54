"""Work on pieces of a backup, several at once, with the results in order."""

from __future__ import annotations

import io
import itertools
import tempfile
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Generic, NamedTuple, Protocol, TypeVar

from fastnk._core import Indexer, Splicer, last_record
from fastnk.source import Source

PIECE_SIZE = 1 << 19
"""Bytes of the backup that a thread works on at once. Long enough that handing them over costs
nothing, short enough that those of all threads stay in the cache."""

LONGEST_PIECE = 16 * PIECE_SIZE
"""Where no cut is found for so long, there is no use in looking on."""

LOG_IN_MEMORY = 4 << 20
"""Bytes of the slot log that stay in memory; a longer log goes to a temporary file."""

Task_contra = TypeVar("Task_contra", contravariant=True)
Task = TypeVar("Task")
Result_co = TypeVar("Result_co", covariant=True)
Result = TypeVar("Result")


class Lane(Protocol[Task_contra, Result_co]):
    """What one thread needs to do a task after the other."""

    def work(self, task: Task_contra, /) -> Result_co: ...


class Done(NamedTuple, Generic[Task, Result]):
    """A task, who has done it, and what came of it."""

    number: int
    """Of the lane."""
    task: Task
    result: Result


def in_order(
    lanes: Sequence[Lane[Task, Result]], tasks: Iterable[Task]
) -> Iterator[Done[Task, Result]]:
    """The tasks as they are done, in order, as many at once as there are lanes. What a lane holds
    stays as it is until the next one is asked for."""
    if len(lanes) == 1:
        for task in tasks:
            yield Done(0, task, lanes[0].work(task))
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    under_way: deque[tuple[int, Task, Future[Result]]] = deque()
    numbers = itertools.cycle(range(len(lanes)))
    with ThreadPoolExecutor(len(lanes)) as pool:
        for task in tasks:
            if len(under_way) == len(lanes):
                number, done, future = under_way.popleft()
                yield Done(number, done, future.result())
            number = next(numbers)
            under_way.append((number, task, pool.submit(lanes[number].work, task)))
        for number, done, future in under_way:
            yield Done(number, done, future.result())


# ---- pass 1 ------------------------------------------------------------------------------------


class Piece(NamedTuple):
    start: int
    end: int
    data: bytearray


class Cutter:
    """Cuts a backup into pieces where records seem to start; the last one is left in `rest`."""

    def __init__(self, blocks: Iterable[memoryview]) -> None:
        self._blocks = blocks
        self.start = 0
        """Where the rest starts."""
        self.rest = bytearray()
        self.gave_up = False

    def __iter__(self) -> Iterator[Piece]:
        worth_a_look = PIECE_SIZE
        for block in self._blocks:
            self.rest += block
            if len(self.rest) < worth_a_look:
                continue
            cut = last_record(self.rest)
            if cut is None:
                self.gave_up = len(self.rest) > LONGEST_PIECE
                if self.gave_up:
                    return
                # Twice as long each time: looking again stays linear in the end.
                worth_a_look = 2 * len(self.rest)
                continue
            worth_a_look = PIECE_SIZE
            data, self.rest = self.rest, self.rest[cut:]
            del data[cut:]
            piece = Piece(self.start, self.start + cut, data)
            self.start += cut
            yield piece


class IndexLane:
    """Indexes piece after piece; says of each whether it held what was guessed."""

    def __init__(self, indexer: Indexer, is_array: bool) -> None:
        self.indexer = indexer
        self._is_array = is_array

    def work(self, piece: Piece, /) -> bool:
        return self.indexer.index_piece(piece.data, piece.start, self._is_array)


# ---- between the passes ------------------------------------------------------------------------


class Segment(NamedTuple):
    """A piece of the backup that ends where a record ends, and what pass 1 has logged of it."""

    start: int
    end: int
    log_end: int
    """Where the entry before the first one ended, and in which record."""
    record: int
    log: bytes


class SlotLog:
    """The log between the passes, by segments of the backup."""

    def __init__(self) -> None:
        self._log = bytearray()
        self._segment_log = bytearray()
        self._last = (0, 0, 0)
        self._numbers = array("Q")
        self._file: IO[bytes] | None = None

    def is_full(self, end: int) -> bool:
        """Whether a segment up to `end` is long enough."""
        return end - self._last[0] >= PIECE_SIZE

    def append(self, log: bytes) -> None:
        self._segment_log += log

    def close_segment(self, end: int, log_end: int, record: int) -> None:
        """The segment goes up to `end`, where the log stands at `log_end` and `record`."""
        if end > self._last[0]:
            self._numbers.extend((*self._last, end, len(self._segment_log)))
            self._log += self._segment_log
            self._segment_log.clear()
        self._last = end, log_end, record
        if len(self._log) > LOG_IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()
        self._file.write(self._log)
        self._log.clear()

    def __iter__(self) -> Iterator[Segment]:
        stream: IO[bytes] = io.BytesIO(self._log)
        if self._file is not None:
            self._spill()
            stream = self._file
            stream.seek(0)
        for at in range(0, len(self._numbers), 5):
            start, log_end, record, end, length = self._numbers[at : at + 5]
            yield Segment(start, end, log_end, record, stream.read(length))

    def __len__(self) -> int:
        return len(self._numbers) // 5

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


# ---- pass 2 ------------------------------------------------------------------------------------


class SpliceLane:
    """Splices segment after segment; the output is valid until the next one."""

    def __init__(self, source: Source, indexer: Indexer) -> None:
        self.splicer = Splicer(indexer)
        self._source = source
        self._buffer = bytearray()

    def work(self, segment: Segment, /) -> memoryview:
        data = self._source.read(segment.start, segment.end, self._buffer)
        return self.splicer.splice(
            data, segment.start, segment.log, segment.log_end, segment.record
        )
