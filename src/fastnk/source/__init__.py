"""Any backup as blocks of bytes that can be read again: a path, bytes, or a binary file object."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Self, cast

from fastnk._core import PADDING, Splitter, checksums
from fastnk.errors import BackupSyntaxError, Place, SourceError, UsageError
from fastnk.source.opening import (
    Backup,
    BackupFile,
    MemoryFile,
    OneBackup,
    PageBuffer,
    files_of,
    name_of,
    opened,
    rereadable,
    several,
)

if TYPE_CHECKING:
    from fastnk.source.envelope import Envelope
    from fastnk.source.layout import Layout

__all__ = [
    "Backup",
    "Progress",
    "Source",
    "is_plain",
    "name_of",
    "rereadable",
    "several",
    "split_records",
]

Progress = Callable[[str, int, int | None], None]
"""Called with a phase, the bytes done and, where it is known, the bytes in all."""

BLOCK_SIZE = 1 << 17
"""Bytes: what is read at once. It stays in the second-level cache of today's processors."""

HEAD_BYTES = 1 << 12
"""What is looked at to tell whether a backup is a plain file of records."""
_RECORD = re.compile(rb'\{\s*"(?:model|pk|fields|natural_key)"|\{\s*\Z')
_NO_BACKUPS = (
    (
        re.compile(
            r"SQLite format 3|(PRAGMA foreign_keys=OFF; )?BEGIN TRANSACTION;|PGDMP"
            r"|(/\*.*?\*/ )?[- ]*(PostgreSQL|MySQL|MariaDB) (database )?(cluster )?dump"
        ),
        "a database, or a dump of one, and no backup by dumpdata",
        "load it into a database of its own, and let the project as it was then take a backup of"
        " that: manage.py dumpdata --all -o backup.json",
    ),
    (
        re.compile(r"version https://git-lfs\.github\.com/"),
        "only what Git keeps in place of the backup, which lies elsewhere",
        "fetch the backup itself: git lfs pull",
    ),
)
"""What else people take for a backup: what it begins with, as it is shown, what it is, and the way
from there to a backup."""
_SALVAGEABLE = frozenset(("FNK200", "FNK203", "FNK204", "FNK205", "FNK206", "FNK212"))


def is_plain(head: bytes) -> bool:
    """Whether a backup begins as a plain file of records does, or might."""
    start = head[:64].lstrip()
    if head[257:262] == b"ustar":
        return False
    if start[:1] == b"{":
        return _RECORD.match(start) is not None
    return start[:1] in (b"", b"[") and b"\0" not in head[:4]


class Source:
    """A backup, open for reading any number of times. Close it, or use it in a `with` statement.

    Every pass must see the same bytes: the first one takes a checksum of each block, the later
    ones compare.
    """

    def __init__(
        self,
        backup: Backup,
        block_size: int = BLOCK_SIZE,
        *,
        encoding: str | None = None,
        salvage: bool = False,
        progress: Progress | None = None,
    ) -> None:
        if block_size < 1:
            raise UsageError(f"a block of {block_size} bytes holds nothing")
        self.name = name_of(backup)
        files = files_of(backup)
        self._is_one = files is None
        self._file = opened(cast(OneBackup, backup) if files is None else b"")
        self._files: list[BackupFile] = [self._file] if files is None else files
        self._is_sure = self._is_one and isinstance(self._file, MemoryFile)
        """Whether it cannot change between two passes."""
        if self._is_sure:
            # A small backup needs no large buffer; jobs that convert many of them feel it.
            block_size = min(block_size, self._file.size or 1)
        self.block_size = block_size
        self._checksums = array("Q")
        """Of each block, or 0 where it has not been read."""
        self._complete = False
        self._recovered = False
        self._encoding = encoding
        self._salvage = salvage
        self._lock = threading.Lock()
        self._progress = progress
        self._layout: Layout | None = None
        """Of a backup that is more than a plain file of records."""
        try:
            self._layout = self._needed_layout()
        except BackupSyntaxError as error:
            # Of what Django reads, other than the core, the head is read already.
            if error.code != "FNK206" or not self.recover(error):
                with contextlib.closing(self):
                    raise self.explained(error) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened here; a file object of the caller is put back where it stood."""
        for file in self._files:
            file.close()

    def _needed_layout(self) -> Layout | None:
        is_asked = self._salvage or self._encoding is not None or not self._is_one
        if not is_asked and is_plain(self.peek(0, HEAD_BYTES)):
            return None
        layout = self._make_layout()
        if self._salvage and not layout.is_clean and not layout.records:
            raise self._hopeless(layout)
        if not (self._salvage or layout.is_clean):
            raise layout.refusal()
        return None if layout.is_trivial and self._is_one else layout

    def _make_layout(self, *, scanned: bool = False, guess: bool = False) -> Layout:
        from fastnk.source.encodings import named
        from fastnk.source.layout import Layout, Reading

        reading = Reading(encoding=named(self._encoding), salvage=self._salvage)
        look = self._look if self._progress else None
        return Layout(self.name, self._files, reading, look, scanned=scanned, guess=guess)

    def _look(self, done: int) -> None:
        """Tell how far all files were read to find out where the records are."""
        assert self._progress is not None
        self._progress("look", done, self.packed_size)

    def _hopeless(self, layout: Layout) -> BackupSyntaxError:
        seen = next((f': "{one.seen}"' for one in layout.losses() if one.seen), "")
        return BackupSyntaxError(
            f"no whole record is in it, so nothing can be salvaged{seen}",
            code="FNK202",
            place=Place(self.name, 0),
            remedy="take the backup again, into a file of its own: manage.py dumpdata -o FILE",
        )

    # -- what it turned out to be --

    @property
    def notes(self) -> list[str]:
        """What it is packed in and how it is encoded, in sentences."""
        return [] if self._layout is None else self._layout.notes

    @property
    def envelope(self) -> Envelope | None:
        """What stands around the records and belongs into the output."""
        return None if self._layout is None else self._layout.envelope

    @property
    def joint(self) -> bytes:
        """What `blocks` has in place of what stands between two arrays of the envelope."""
        return b"" if self._layout is None else self._layout.joint

    @property
    def damage(self) -> Layout | None:
        """With `salvage`: what is lost; `None` where nothing is wrong."""
        is_damaged = self._salvage and self._layout is not None and not self._layout.is_clean
        return self._layout if is_damaged else None

    def places(self, offsets: Sequence[int]) -> list[tuple[str | None, int | None]]:
        """The file, and the offset in it (unpacked), of each byte that `blocks` gave; none where
        the file is neither JSON nor text that only was encoded. Ask for many at once: where there
        is no arithmetic for it, the backup is read again."""
        if self._layout is None:
            return [(self.name, offset) for offset in offsets]
        return self._layout.places(offsets)

    def recover(self, error: BackupSyntaxError) -> bool:
        """Whether the backup can be read in another way than it seemed, without any loss: several
        arrays, an encoding that its head did not show. It then starts anew."""
        if self._salvage or error.code not in ("FNK200", "FNK206") or self._recovered:
            return False
        self._recovered = True
        guess = error.code == "FNK206"
        try:
            layout = self._make_layout(scanned=True, guess=guess)
        except BackupSyntaxError:
            return False
        if not layout.is_clean or not layout.records:
            return False
        if guess:
            layout.notes.append("its head is ASCII; further on nothing but this encoding fits")
        else:
            layout.notes.append("several arrays, read as one")
        self._layout = layout
        self._checksums = array("Q")
        self._complete = False
        return True

    def placed(self, error: BackupSyntaxError) -> BackupSyntaxError:
        """The error with its place in the file as it lies there."""
        if error.place.path in (None, self.name) and error.place.offset is not None:
            ((name, offset),) = self.places([error.place.offset])
            error.place = error.place._replace(path=name or self.name, offset=offset)
        return error

    def explained(self, error: BackupSyntaxError) -> BackupSyntaxError:
        """The error with its place in the file as it lies there, what was seen, and what
        `salvage` would keep and lose, for which all of the backup is read."""
        from fastnk.source.losses import TEXT_BEFORE

        error = self.placed(error)
        if self._salvage or error.salvage or error.code not in _SALVAGEABLE:
            return error
        layout = self.salvageable()
        if layout is None:
            return error
        losses = layout.losses()
        if error.place.offset is None and losses:  # of a parser that does not tell
            error.place = error.place._replace(offset=losses[0].start)
        at = -1 if error.place.offset is None else error.place.offset
        loss = next((one for one in losses if one.start <= at <= one.end), None)
        seen = "" if loss is None else loss.seen
        for beginning, what, remedy in _NO_BACKUPS:
            if beginning.match(seen):
                error.what, error.remedy = f'{what}: "{seen}"', remedy
                return error
        if loss is not None and loss.what == TEXT_BEFORE and layout.records:
            error.what = TEXT_BEFORE
        if seen and seen not in error.what:
            error.what += f' (there stands "{seen}")'
        if layout.records:
            error.salvage = layout.salvage()
        else:
            nothing = "no whole record is in it, so nothing can be salvaged"
            error.remedy = nothing if error.remedy is None else f"{error.remedy}; {nothing}"
        return error

    def salvageable(self) -> Layout | None:
        """What `salvage` would make of the backup; `None` where it is beyond help. Raises
        `UsageError` where that would have to be told how to read it."""
        from fastnk.source.encodings import named
        from fastnk.source.layout import Layout, Reading

        reading = Reading(encoding=named(self._encoding), salvage=True)
        try:
            return Layout(self.name, self._files, reading, self._look if self._progress else None)
        except (SourceError, BackupSyntaxError):
            return None

    @property
    def size(self) -> int | None:
        """Bytes in the backup, where that is known without reading it; and then it can be read at
        any place."""
        return None if self._layout is not None else self._file.size

    @cached_property
    def packed_size(self) -> int | None:
        """Bytes in all files as they lie there, where that is known."""
        sizes = [file.size for file in self._files]
        return None if None in sizes else sum(cast(list[int], sizes))

    def statuses(self) -> list[os.stat_result]:
        """What the system says of each file behind it."""
        return [one for file in self._files if (one := file.status) is not None]

    def blocks(self) -> Iterator[memoryview]:
        """The bytes from the start; each block is valid until the next one is asked for.

        Raises `SourceError` when reading fails, or when the bytes are not those of the first pass.
        """
        number = 0
        layout = self._layout
        for block in self._file.blocks(self.block_size) if layout is None else self._laid_out():
            self._check(number, block)
            number += 1
            yield block
        if self._complete and not self._is_sure and number != len(self._checksums):
            raise self._changed()
        self._complete = True

    def _laid_out(self) -> Iterator[memoryview]:
        assert self._layout is not None
        buffer = PageBuffer().room(self.block_size)
        filled = 0
        for chunk in self._layout.chunks():
            rest = memoryview(chunk)
            while rest:
                part = rest[: self.block_size - filled]
                buffer[filled : filled + len(part)] = part
                filled += len(part)
                rest = rest[len(part) :]
                if filled == self.block_size:
                    yield buffer
                    filled = 0
        if filled:
            yield buffer[:filled]

    def read(self, start: int, end: int, buffer: PageBuffer) -> memoryview:
        """The bytes from `start` to `end` and `PADDING` others, in `buffer`; for a backup that has
        a `size`. Any number of threads may read at once, each with a buffer of its own.

        Raises `SourceError` when reading fails, when the backup ends before `end`, or when the
        bytes are not those of the first pass.
        """
        size = self.block_size
        first, last = start // size, -(-end // size)
        view = buffer.room((last - first) * size + PADDING)
        blocks = view[: (last - first) * size]
        length = self._file.read_at(first * size, blocks)
        if first * size + length < end:
            raise self._changed()
        self._check(first, blocks[:length])
        return view[start - first * size : end - first * size + PADDING]

    def peek(self, start: int, length: int) -> bytes:
        """Up to `length` bytes from `start`, which the first pass will read again."""
        buffer = bytearray(length)
        return bytes(buffer[: self._file.read_at(start, memoryview(buffer))])

    def watched(self, phase: str, progress: Progress | None) -> Iterator[memoryview]:
        """The blocks, with progress told after each."""
        total = None if progress is None else self.size
        done = 0
        for block in self.blocks():
            yield block
            done += len(block)
            if progress is not None:
                progress(phase, done, total)

    def _check(self, first: int, blocks: memoryview) -> None:
        """Whether the blocks from number `first` on are what they were."""
        if self._is_sure:
            return
        found = checksums(blocks, self.block_size)
        with self._lock:
            missing = first + len(found) - len(self._checksums)
            if missing > 0:
                self._checksums.extend([0] * missing)
            known = self._checksums[first : first + len(found)]
            self._checksums[first : first + len(found)] = found
        if known != found and any(map(self._differs, known, found)):
            raise self._changed()

    def _differs(self, known: int, found: int) -> bool:
        return known != found if known else self._complete

    def _changed(self) -> SourceError:
        return SourceError(
            f"{self.name or 'the backup'} changed while it was read",
            code="FNK121",
            remedy="wait until nothing writes to it, or work on a copy",
        )


def split_records(
    source: Source, phase: str = "read", progress: Progress | None = None
) -> Iterator[bytes]:
    """Each record of a backup as it stands there, in bounded memory.

    Raises `BackupSyntaxError` at the first fault, and `SourceError`.
    """
    done = 0
    try:
        for record in _split(source, phase, progress):
            yield record
            done += 1
    except BackupSyntaxError as error:
        if not source.recover(error):
            raise source.explained(error) from None
        yield from itertools.islice(_split(source, phase, progress), done, None)


def _split(source: Source, phase: str, progress: Progress | None) -> Iterator[bytes]:
    splitter = Splitter(source.name)
    for block in source.watched(phase, progress):
        splitter.feed(block)
        yield from splitter.take()
    splitter.finish()
    yield from splitter.take()
