"""Arranges a converted backup: every record behind those it refers to, wherever that can be.

Most models do not refer to each other in circles: their records move in whole runs. Only the
records of models that do, trees among them, are arranged one by one. What grows with the backup
is kept in compact numbers and in temporary files.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from fastnk._core import Splitter
from fastnk.decoding import deep_nesting, label_of
from fastnk.errors import BackupSyntaxError, OutputError
from fastnk.order.keys import decoded
from fastnk.order.models import ranks_of
from fastnk.order.references import References
from fastnk.order.room import Numbers, Spool, zeros
from fastnk.order.sorting import Sorter
from fastnk.output import Sink
from fastnk.schema import Schema
from fastnk.source import BLOCK_SIZE, Source

MAX_SPACE = 1 << 10
"""Bytes around records; from more the white space is taken, which would stand behind each."""
_BETWEEN = re.compile(rb"[\s\[\],]*+")


class Arrangement(msgspec.Struct, frozen=True):
    """How the records of a backup stand."""

    records: int
    forward_references: int
    """References to a record that does not stand before, in the same array; each is part of a
    cycle."""
    forward_fields: dict[str, int] = {}
    """How many of them there are, by `app.model.field`."""


def arrange(converted: Source, sink: Sink, schema: Schema) -> Arrangement:
    """Write a converted backup to `sink`, each record behind those it refers to.

    An envelope stays around; of several arrays in it each is arranged by itself, because its place
    may say something of its records. An array stays an array, lines stay lines, and each record
    keeps its bytes; between records stands what stood between the first two, without white space
    where that is more than `MAX_SPACE`. Where references leave a choice, the order of the backup
    stays. In a cycle the weakest references point forward: many-to-many first, then fields that are
    null elsewhere, and last of all those that a record is identified by.

    Raises `UsageError` where the order depends on natural keys that the backup does not tell,
    `BackupSyntaxError`, `SourceError`, and `OutputError`.
    """
    from fastnk.source.envelope import Arrays

    blocks, joint = converted.blocks(), converted.joint
    arrays: Iterable[Iterator[bytes | memoryview]] = Arrays(blocks, joint) if joint else [blocks]
    before, *behind = converted.envelope.around if converted.envelope else (b"", b"")
    sink.write(before)
    arrangements = []
    for array, text in zip(arrays, behind, strict=True):
        arrangements.append(_arrange_array(array, converted.name, sink, schema))
        sink.write(text)
    return _together(arrangements)


def _arrange_array(
    array: Iterator[bytes | memoryview], name: str | None, sink: Sink, schema: Schema
) -> Arrangement:
    with contextlib.ExitStack() as stack, _no_room_is_an_error():
        backup = _Backup(schema, stack)
        backup.read(array, name)
        return backup.write(sink)


def _together(arrangements: list[Arrangement]) -> Arrangement:
    fields: Counter[str] = Counter()
    for one in arrangements:
        fields.update(one.forward_fields)
    return Arrangement(sum(one.records for one in arrangements), fields.total(), dict(fields))


@contextlib.contextmanager
def _no_room_is_an_error() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise OutputError(
            f"cannot arrange the records: {error}",
            remedy=f"make room in {tempfile.gettempdir()}, or set TMPDIR to another folder",
        ) from error


class _Backup:
    """The records of one backup, and where they go.

    A segment is a run of records of one model that stay together, or a single record of a model
    in a cycle. It is three numbers: the model, and where it starts and ends in the spool.
    """

    def __init__(self, schema: Schema, stack: contextlib.ExitStack) -> None:
        self._schema = schema
        self._proxies = schema.proxies
        self._references = stack.enter_context(References(schema))
        self._spool = stack.enter_context(Spool())
        self._segments = stack.enter_context(Numbers())
        self._segment_count = 0
        self._segment: tuple[int, int] | None = None
        """The model and the start of the segment that goes on."""
        self._models: dict[str, int] = {}
        """The label of each model met, and its number."""
        self._head = self._separator = self._tail = b""
        self._records = 0

    def read(self, blocks: Iterator[bytes | memoryview], name: str | None) -> None:
        """Raises `BackupSyntaxError`, `SourceError`, and `UsageError`."""
        records = _records(blocks, name)
        _, self._head = next(records)
        with deep_nesting():
            for record, behind in records:
                if self._records == 0:
                    same_line = b"," not in behind and b"\n" not in behind
                    self._separator = b"\n" if same_line else behind
                self._put(record)
                self._records += 1
                self._tail = behind
        self._close_segment()
        self._references.check_keys()

    def _put(self, record: bytes) -> None:
        label = label_of(record)
        label = self._proxies.get(label, label)
        model = self._models.setdefault(label, len(self._models))
        stands_alone = label in self._references.models
        if self._segment is None or self._segment[0] != model or stands_alone:
            self._close_segment()
            self._segment = model, self._spool.size
        if stands_alone:
            self._references.add(self._segment_count, label, decoded(record))
        self._spool.write(record + self._separator)

    def _close_segment(self) -> None:
        if self._segment is not None:
            for number in (*self._segment, self._spool.size):
                self._segments.append(number)
            self._segment_count += 1
            self._segment = None

    def write(self, sink: Sink) -> Arrangement:
        """Raises `OutputError`."""
        segments = self._segments.view()
        graph = self._references.graph(self._segment_count)
        order = Sorter(graph).sort() if graph.targets else range(self._segment_count)
        placed = self._placed(segments, order)
        self._copy(segments, placed, sink)
        forward = self._references.forward(graph, placed)
        return Arrangement(self._records, sum(forward.values()), forward)

    def _placed(self, segments: Sequence[int], order: Iterable[int]) -> Sequence[int]:
        """The segments by the ranks of their models, within each rank in the given order."""
        ranks = ranks_of(self._schema, self._models)
        sizes = Counter(ranks[model] for model in segments[::3])
        starts = itertools.accumulate((sizes[rank] for rank in sorted(sizes)), initial=0)
        free = dict(zip(sorted(sizes), starts, strict=False))
        placed = zeros(self._segment_count)
        for segment in order:
            rank = ranks[segments[3 * segment]]
            placed[free[rank]] = segment
            free[rank] += 1
        return placed

    def _copy(self, segments: Sequence[int], order: Iterable[int], sink: Sink) -> None:
        spool = self._spool.view()
        out = bytearray(self._head)
        for start, end in self._pieces(segments, order):
            for at in range(start, end, BLOCK_SIZE):
                out += spool[at : min(at + BLOCK_SIZE, end)]
                if len(out) >= BLOCK_SIZE:
                    sink.write(bytes(out))
                    out.clear()
        sink.write(bytes(out + self._tail))

    def _pieces(self, segments: Sequence[int], order: Iterable[int]) -> Iterator[tuple[int, int]]:
        """The segments; those that were neighbours and still are as one. The last separator,
        which has nothing behind it, is left out."""
        start = end = 0
        for segment in order:
            _, next_start, next_end = segments[3 * segment : 3 * segment + 3]
            if next_start != end:
                yield start, end
                start = next_start
            end = next_end
        yield start, end - len(self._separator)


def _records(
    blocks: Iterator[bytes | memoryview], name: str | None
) -> Iterator[tuple[bytes, bytes]]:
    """First no record and what stands before the records, then each record and what stands behind.

    Raises `BackupSyntaxError` and `SourceError`. A backup without records is no error here.
    """
    splitter = Splitter(name)
    window = bytearray()
    record = b""
    for block in itertools.chain(blocks, [None]):
        if block is None:
            _finish(splitter)
        else:
            splitter.feed(block)
            window += block
        at = 0
        for following in splitter.take():
            start = window.index(b"{", at)  # only white space and punctuation stand between
            yield record, _shortened(bytes(window[at:start]))
            record = following
            at = start + len(record)
        del window[:at]
        if len(window) > MAX_SPACE and _BETWEEN.fullmatch(window):
            window[:] = _shortened(bytes(window)).ljust(MAX_SPACE + 1)
    yield record, _shortened(bytes(window))


def _shortened(between: bytes) -> bytes:
    return between if len(between) <= MAX_SPACE else b"".join(between.split())


def _finish(splitter: Splitter) -> None:
    try:
        splitter.finish()
    except BackupSyntaxError as error:
        if error.code not in (_EMPTY, _NO_RECORDS):
            raise


_EMPTY, _NO_RECORDS = "FNK201", "FNK202"
