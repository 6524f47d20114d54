"""What is this backup: database ids, natural keys, or both?

`detect` looks at the head of a backup, or with `full` at all of it, and says which of the three
it is and why.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from fastnk.errors import SourceError, UsageError
from fastnk.profile import Format, InferredProfile, ModelReport, SchemaProfile, number_of
from fastnk.records import RecordReader, Shape
from fastnk.schema import Schema
from fastnk.source import Backup, name_of

HEAD_BYTES = 1 << 20
"""How much of a backup is looked at unless all of it is asked for: some thousand records, read
in a blink."""

CHUNK_BYTES = 1 << 16


class DetectionReport(msgspec.Struct, eq=False):
    """What a backup is. Compares equal to the word in `format`, which `str()` gives too."""

    format: Format
    shape: Shape
    """A JSON list of records, or JSON Lines."""
    records: int
    """Whole records looked at; 0 when even the first was cut off and its beginning was judged."""
    read_all: bool
    """Whether the report speaks of the whole backup, not only of its head."""
    cut_off_at: int | None
    """Where the backup ends too early, in bytes; `None` when it does not, as far as was read."""
    models: dict[str, ModelReport]
    evidence: list[str]
    """Why, in sentences."""

    @property
    def complete(self) -> bool:
        """Whether all of the backup was read and it ends as it should."""
        return self.read_all and self.cut_off_at is None

    def __str__(self) -> str:
        return self.format

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return self.format == other
        if isinstance(other, DetectionReport):
            return msgspec.structs.astuple(self) == msgspec.structs.astuple(other)
        return NotImplemented


class BackupFormatDetector:
    """Tells the three formats of a backup apart.

    With a schema the relations and natural keys are known. Without one they are inferred from
    the values, and `evidence` says what was taken for what.
    """

    def __init__(self, schema: Schema | None = None, *, full: bool = False) -> None:
        self._schema = schema
        self._full = full

    def detect_format(self, backup: Backup) -> DetectionReport:
        """Look at the first `HEAD_BYTES` of a backup, or with `full` at all of it.

        `backup` is a path, bytes, or a binary file object. A seekable file object is read from
        where it stands and put back there; of one that is not seekable only `peek` is used, so
        that nothing is taken from it.

        Raises `BackupSyntaxError` (with an offset) for what is not a backup, `SourceError` for
        what cannot be read. A backup that is cut off is no error as long as its format can be
        told: see `cut_off_at`.
        """
        profile = InferredProfile() if self._schema is None else SchemaProfile(self._schema)
        most = None if self._full else HEAD_BYTES
        with _opened(backup, self._full) as source:
            reader = RecordReader(source.name)
            for record in reader.records(_chunks(source.stream, most)):
                profile.add(*record)
            read_all = source.ends_with_stream and not source.stream.read(1)
        cut_off_at = reader.finish(read_all)
        evidence = []
        if not reader.count:
            profile.add(*reader.beginning())
            evidence.append("not one whole record was read; the beginning of the first was judged")
        verdict = profile.judge()
        evidence = [*verdict.evidence, *evidence, *_limits(reader, read_all, cut_off_at)]
        return DetectionReport(
            verdict.format,
            reader.shape,
            reader.count,
            read_all,
            cut_off_at,
            verdict.models,
            evidence,
        )


def detect(
    backup: Backup, schema: Schema | str | os.PathLike[str] | None = None, full: bool = False
) -> DetectionReport:
    """What `backup` is; see `BackupFormatDetector.detect_format`. `schema` may be a path."""
    if schema is not None and not isinstance(schema, Schema):
        schema = Schema.load(schema)
    return BackupFormatDetector(schema, full=full).detect_format(backup)


def _limits(reader: RecordReader, read_all: bool, cut_off_at: int | None) -> Iterator[str]:
    if cut_off_at is not None:
        yield (
            f"the backup is cut off at byte {cut_off_at:,}, after "
            f"{number_of(reader.count, 'whole record')}"
        )
    elif not read_all:
        yield (
            f"only the first {reader.offset:,} bytes were read; "
            "what comes after them may be different"
        )


class _Source(NamedTuple):
    """An opened backup, as far as it may be read."""

    stream: BinaryIO
    name: str | None
    ends_with_stream: bool
    """Whether the end of the stream is the end of the backup."""


@contextmanager
def _opened(backup: Backup, full: bool) -> Iterator[_Source]:
    if isinstance(backup, bytes | bytearray | memoryview):
        yield _Source(io.BytesIO(backup), None, True)
    elif isinstance(backup, str | os.PathLike):
        name = os.fspath(backup)
        with _reading(name), Path(name).open("rb") as stream:
            yield _Source(stream, name, True)
    elif isinstance(backup, io.TextIOBase):
        raise UsageError("the backup was opened as text", remedy='open it in binary mode: "rb"')
    elif backup.seekable():
        position = backup.tell()
        try:
            with _reading(name_of(backup)):
                yield _Source(backup, name_of(backup), True)
        finally:
            backup.seek(position)
    else:
        head = _peek(backup, full)
        yield _Source(io.BytesIO(head), name_of(backup), not head)


@contextmanager
def _reading(name: str | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(f"cannot read {name or 'the backup'}: {error.strerror}") from error


def _peek(stream: BinaryIO, full: bool) -> bytes:
    peek = getattr(stream, "peek", None)
    if full or peek is None:
        what = "be read to its end" if full else "show its head"
        raise SourceError(
            f"a stream that is not seekable cannot {what} and be read again",
            place=name_of(stream),
            remedy="save it to a file",
        )
    head: bytes = peek(HEAD_BYTES)
    return head[:HEAD_BYTES]


def _chunks(stream: BinaryIO, most: int | None) -> Iterator[bytes]:
    """The bytes of `stream`, or the first `most` of them."""
    left = sys.maxsize if most is None else most
    while chunk := stream.read(min(CHUNK_BYTES, left)):
        left -= len(chunk)
        yield chunk
