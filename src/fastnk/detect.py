"""What is this backup: database ids, natural keys, or both?

`detect` looks at the head of a backup, or with `full` at all of it, and says which of the three
it is and why.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec

from fastnk.errors import (
    MAX_MODELS,
    BackupSyntaxError,
    SourceError,
    too_many_fields,
    too_many_models,
)
from fastnk.inferred import InferredProfile
from fastnk.profile import Format, ModelReport, SchemaProfile, number_of
from fastnk.records import RecordReader, Shape
from fastnk.schema import Schema
from fastnk.source import Backup, Progress, Source, name_of

HEAD_BYTES = 1 << 20
"""How much of a backup is looked at unless all of it is asked for: some thousand records, read
in a blink."""

CHUNK_BYTES = 1 << 16

EXPLAINED_BYTES = 1 << 30
"""Size of a file up to which all of it is read to say what could be salvaged."""


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
    read_as: list[str] = []
    """What it is packed in and how it is encoded, where that is not a plain file."""
    damage: str | None = None
    """With `salvage`: what is wrong and what is lost."""

    @property
    def complete(self) -> bool:
        """Whether all of the backup was read and it ends as it should."""
        return self.read_all and self.cut_off_at is None and self.damage is None

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
    the values, and `evidence` says what was taken for what. With `salvage` the whole records of a
    damaged backup are looked at; that reads all of it.
    """

    def __init__(
        self,
        schema: Schema | None = None,
        *,
        full: bool = False,
        encoding: str | None = None,
        salvage: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._schema = schema
        self._full = full
        self._encoding = encoding
        self._salvage = salvage
        self._progress = progress

    def detect_format(self, backup: Backup) -> DetectionReport:
        """Look at the first `HEAD_BYTES` of a backup, or with `full` at all of it.

        `backup` is a path, bytes, or a binary file object. A seekable file object is read from
        where it stands and put back there; of one that is not seekable only `peek` is used, so
        that nothing is taken from it.

        Raises `BackupSyntaxError` (with an offset) for what is not a backup, `SourceError` for
        what cannot be read. A backup that is cut off is no error as long as its format can be
        told: see `cut_off_at`.
        """
        with self._opened(backup) as opened:
            try:
                return self._look(opened)
            except BackupSyntaxError as error:
                if not (opened.is_whole and opened.source.recover(error)):
                    raise self._explained(opened, error) from None
                return self._look(opened)

    @contextmanager
    def _opened(self, backup: Backup) -> Iterator[_Opened]:
        is_whole = True
        name = name_of(backup)
        if isinstance(backup, io.RawIOBase | io.BufferedIOBase) and not backup.seekable():
            head = _peek(cast(BinaryIO, backup), self._full)
            backup, is_whole = head, not head
        with Source(
            backup,
            CHUNK_BYTES,
            encoding=self._encoding,
            salvage=self._salvage,
            progress=self._progress,
        ) as source:
            source.name = name
            yield _Opened(source, is_whole, self._progress)

    def _explained(self, opened: _Opened, error: BackupSyntaxError) -> BackupSyntaxError:
        if self._may_read_all(opened):
            return opened.source.explained(error)
        error = opened.source.placed(error)
        error.remedy = f"{error.remedy}; --full tells what --salvage would keep and lose"
        return error

    def _may_read_all(self, opened: _Opened) -> bool:
        """A quick look must not take minutes, not even to say what is wrong."""
        size = opened.source.packed_size
        return opened.is_whole and (self._full or size is None or size <= EXPLAINED_BYTES)

    def _look(self, opened: _Opened) -> DetectionReport:
        source = opened.source
        profile = InferredProfile() if self._schema is None else SchemaProfile(self._schema)
        reader = RecordReader(source.name)
        head = _Head(None if self._full else HEAD_BYTES)
        for record in reader.records(head.of(opened.blocks())):
            if profile.has_too_many(record.fields):
                raise too_many_fields(reader.place())
            profile.add(*record)
            if len(profile.models) > MAX_MODELS:
                raise too_many_models(reader.place())
        read_all = opened.is_whole and head.is_all
        cut_off_at = reader.finish(read_all)
        evidence = list(source.notes)
        if source.damage is not None:
            evidence.append(f"damaged; salvaged: {source.damage.described()}")
        if not reader.count and reader.beginning:
            profile.add(*reader.beginning)
            evidence.append("not one whole record was read; the beginning of the first was judged")
        verdict = profile.judge()
        evidence = [*verdict.evidence, *evidence, *_limits(reader, read_all, cut_off_at)]
        if cut_off_at is not None and (layout := source.salvageable()):
            evidence.append(f"--salvage {layout.described('keeps', 'loses')}")
        return DetectionReport(
            verdict.format,
            reader.shape,
            reader.count,
            read_all,
            cut_off_at,
            verdict.models,
            evidence,
            source.notes,
            None if source.damage is None else source.damage.described(),
        )


def detect(
    backup: Backup,
    schema: Schema | str | os.PathLike[str] | None = None,
    full: bool = False,
    **options: Any,
) -> DetectionReport:
    """What `backup` is; see `BackupFormatDetector`. `schema` may be a path."""
    if schema is not None and not isinstance(schema, Schema):
        schema = Schema.load(schema)
    return BackupFormatDetector(schema, full=full, **options).detect_format(backup)


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


class _Opened(NamedTuple):
    """An opened backup, as far as it may be read."""

    source: Source
    is_whole: bool
    """Whether the end of the source is the end of the backup."""
    progress: Progress | None

    def blocks(self) -> Iterator[memoryview]:
        try:
            yield from self.source.watched("read", self.progress)
        except BackupSyntaxError as error:
            if self.is_whole or error.code != "FNK205":
                raise  # what was peeked at may end anywhere in a compressed stream


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


class _Head:
    """The bytes of a backup, or the first `most` of them."""

    def __init__(self, most: int | None) -> None:
        self._left = sys.maxsize if most is None else most
        self.is_all = False
        """Whether there was nothing more."""

    def of(self, blocks: Iterable[memoryview]) -> Iterator[bytes]:
        for block in blocks:
            chunk = bytes(block[: self._left])
            if not self._left:
                return
            self._left -= len(chunk)
            yield chunk
            if len(chunk) < len(block):
                return
        self.is_all = True
