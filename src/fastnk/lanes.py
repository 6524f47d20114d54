"""Work on pieces of a backup, several at once, with the results in order."""

from __future__ import annotations

import contextlib
import threading
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import IO, Any, Generic, NamedTuple, Protocol, TypeVar, cast

from fastnk._core import Indexer, Splicer, first_member, first_record
from fastnk.source import Source
from fastnk.source.opening import PageBuffer
from fastnk.threads import started

PIECE_SIZE = 1 << 20
"""Bytes of the backup that a thread works on at once. Long enough that handing them over costs
nothing, short enough that those of all threads stay in the cache."""

LONGEST_PIECE = 16 << 20
"""Where no cut is found for so long, there is no use in looking on."""

SHORTEST_LOOK = 1 << 12
"""Bytes in which a cut is looked for at first: a record or two."""

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
    lanes: Sequence[Lane[Task, Result]], tasks: Iterable[Task], jobs: int
) -> Iterator[Done[Task, Result]]:
    """The tasks as they are done, in order, up to `jobs` at once. What a lane holds stays as it is
    until the next one is asked for; with more lanes than jobs, nobody waits for that.

    Whoever asks does tasks, too, until the one whose turn it is has been done.
    """
    free = list(range(len(lanes)))
    under_way: deque[_Order[Task, Result]] = deque()
    with _threads(jobs - 1) as orders:

        def finish(order: _Order[Task, Result]) -> Done[Task, Result]:
            with contextlib.suppress(Empty):
                while not order.is_done():
                    orders.get_nowait().work()
            return order.done()

        for task in tasks:
            if not free:
                order = under_way.popleft()
                yield finish(order)
                free.append(order.number)
            number = free.pop()
            under_way.append(_Order(number, task, lanes[number]))
            orders.put(under_way[-1])
        for order in under_way:
            yield finish(order)


class _Order(Generic[Task, Result]):
    """A task that a lane is to do, in whatever thread."""

    def __init__(self, number: int, task: Task, lane: Lane[Task, Result]) -> None:
        self.number = number
        self._task = task
        self._lane = lane
        self._outcome: SimpleQueue[tuple[Result, None] | tuple[None, BaseException]] = SimpleQueue()

    def work(self) -> None:
        try:
            self._outcome.put((self._lane.work(self._task), None))
        except BaseException as error:
            self._outcome.put((None, error))

    def is_done(self) -> bool:
        return not self._outcome.empty()

    def done(self) -> Done[Task, Result]:
        """Waits for the result. Raises what was raised in the thread."""
        result, error = self._outcome.get()
        if error is not None:
            raise error
        return Done(self.number, self._task, cast(Result, result))


@contextlib.contextmanager
def _threads(count: int) -> Iterator[SimpleQueue[Any]]:
    """A queue of orders that so many threads do, or as many as the system gives.
    `concurrent.futures` would do, but takes longer to import than a few megabytes take to convert.
    """
    orders: SimpleQueue[_Order[Any, Any] | None] = SimpleQueue()

    def keep_working() -> None:
        while (order := orders.get()) is not None:
            order.work()

    threads: list[threading.Thread] = []
    try:
        while len(threads) < count and (thread := started(keep_working, daemon=False)):
            threads.append(thread)
        yield orders
    finally:
        with contextlib.suppress(Empty):
            while True:
                orders.get_nowait()
        for _ in threads:
            orders.put(None)
        for thread in threads:
            thread.join()


def lanes_for(jobs: int) -> range:
    """The numbers of the lanes that keep so many threads busy."""
    return range(1 if jobs == 1 else jobs + 2)


# ---- pass 1 ------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """Bytes of the backup from where one record starts, as is guessed, to where another does."""

    start: int
    end: int


class Cutter:
    """Guesses where records start, in a backup of `size` bytes that can be read at any place."""

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._size = size
        self.is_array = False
        self.gave_up = False
        """Whether the pieces ended before the backup, because no cut was found for too long."""

    def pieces(self) -> Iterator[Piece] | None:
        """The pieces in order; `None` where it is no use to guess, or there would be only one."""
        if self._size <= PIECE_SIZE:
            return None
        head = self._source.peek(0, SHORTEST_LOOK)
        self.is_array = head.lstrip().startswith(b"[")
        member = first_member(head)
        return None if member is None else self._pieces(member)

    def _pieces(self, member: bytes) -> Iterator[Piece]:
        start = 0
        while start < self._size and (end := self._cut(start + PIECE_SIZE, member)):
            yield Piece(start, end)
            start = end
        self.gave_up = start < self._size

    def _cut(self, at: int, member: bytes) -> int | None:
        """The first record at that place or behind it, or the end of the backup; `None` where
        both are too far."""
        length = SHORTEST_LOOK
        while at < self._size:
            found = first_record(self._source.peek(at, length), member)
            if found is not None:
                return at + found
            if at + length >= self._size:
                break
            if length >= LONGEST_PIECE:
                return None
            # Twice as long each time: looking again stays linear in the end.
            length *= 2
        return self._size


class IndexLane:
    """Indexes piece after piece; says of each whether it held what was guessed."""

    def __init__(self, source: Source, size: int, indexer: Indexer, is_array: bool) -> None:
        self.indexer = indexer
        self._source = source
        self._size = size
        self._is_array = is_array
        self._buffer = PageBuffer()

    def work(self, piece: Piece, /) -> bool:
        start, end = piece
        data = self._source.read(start, end, self._buffer)
        return self.indexer.index_piece(
            data, end - start, start, self._is_array, end == self._size, self._source.block_size
        )


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
        self._segment: list[bytes] = []
        """What has been logged of the segment at hand."""
        self._last = (0, 0, 0)
        self._numbers = array("Q")
        self._logs: list[bytes] = []
        """Those of the last segments; the others are in the file."""
        self._bytes_in_memory = 0
        self._file: IO[bytes] | None = None

    def is_full(self, end: int) -> bool:
        """Whether a segment up to `end` of a backup that is read in order is long enough. Half a
        piece is, because what threads work on is a copy then."""
        return 2 * (end - self._last[0]) >= PIECE_SIZE

    def append(self, log: bytes) -> None:
        self._segment.append(log)

    def close_segment(self, end: int, log_end: int, record: int) -> None:
        """The segment goes up to `end`, where the log stands at `log_end` and `record`."""
        if end > self._last[0]:
            log = b"".join(self._segment)
            self._segment.clear()
            self._numbers.extend((*self._last, end, len(log)))
            self._logs.append(log)
            self._bytes_in_memory += len(log)
        self._last = end, log_end, record
        if self._bytes_in_memory > LOG_IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            import tempfile

            self._file = tempfile.TemporaryFile()
        self._file.writelines(self._logs)
        self._logs.clear()
        self._bytes_in_memory = 0

    def __iter__(self) -> Iterator[Segment]:
        logs = iter(self._logs) if self._file is None else self._read(self._file)
        for at in range(0, len(self._numbers), 5):
            start, log_end, record, end, _ = self._numbers[at : at + 5]
            yield Segment(start, end, log_end, record, next(logs))

    def _read(self, file: IO[bytes]) -> Iterator[bytes]:
        self._spill()
        file.seek(0)
        for length in self._numbers[4::5]:
            yield file.read(length)

    def __len__(self) -> int:
        return len(self._numbers) // 5

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


# ---- pass 2 ------------------------------------------------------------------------------------


class Loaded(NamedTuple):
    """A segment with its bytes."""

    segment: Segment
    data: bytes | memoryview
    end: int
    """Of the segment, for the progress."""


def loaded(source: Source, log: SlotLog) -> Iterator[Segment | Loaded]:
    """The segments; with their bytes where the source can only be read in order."""
    if source.size is not None:
        yield from log
        return
    blocks = source.blocks()
    window = bytearray()
    for segment in log:
        length = segment.end - segment.start
        while len(window) < length:
            block = next(blocks, None)
            if block is None:
                break
            window += block
        yield Loaded(segment, bytes(memoryview(window)[:length]), segment.end)
        del window[:length]
    for _ in blocks:
        pass  # its end is part of what has to be the same


class SpliceLane:
    """Splices segment after segment; the output is valid until the next one."""

    def __init__(self, source: Source, indexer: Indexer, joint: bytes) -> None:
        self.splicer = Splicer(indexer, joint)
        self._source = source
        self._buffer = PageBuffer()

    def work(self, task: Segment | Loaded, /) -> memoryview:
        if isinstance(task, Loaded):
            segment, data = task.segment, memoryview(task.data)
        else:
            segment, data = task, self._source.read(task.start, task.end, self._buffer)
        return self.splicer.splice(
            data[: segment.end - segment.start],
            segment.start,
            segment.log,
            segment.log_end,
            segment.record,
        )
