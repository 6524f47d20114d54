"""Any backup as blocks of bytes that can be read again: a path, bytes, or a binary file object."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from fastnk._core import PADDING, Splitter, checksum
from fastnk.errors import SourceError, UsageError

Backup = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

Progress = Callable[[str, int, int | None], None]
"""Called with a phase, the bytes done and, where it is known, the bytes in all."""

BLOCK_SIZE = 1 << 17
"""Bytes: what is read at once. It stays in the second-level cache of today's processors."""


class Source:
    """A backup, open for reading any number of times. Close it, or use it in a `with` statement.

    Every pass must see the same bytes: the first one takes a checksum of each block, the later
    ones compare.
    """

    def __init__(self, backup: Backup, block_size: int = BLOCK_SIZE) -> None:
        if block_size < 1:
            raise UsageError(f"a block of {block_size} bytes holds nothing")
        self.name = name_of(backup)
        if isinstance(backup, (bytes, bytearray, memoryview)):
            # A small backup needs no large buffer; jobs that convert many of them feel it.
            block_size = min(block_size, len(backup) or 1)
        self.block_size = block_size
        self._checksums = array("Q")
        """Of each block, or 0 where it has not been read."""
        self._complete = False
        self._file, self._start, self._owned = _open(backup)
        self._descriptor = _descriptor(self._file)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened here; a file object of the caller is put back where it stood."""
        _give_back(self._file, self._start, self._owned)

    @property
    def size(self) -> int | None:
        """Bytes in the backup, where that is known without reading it."""
        try:
            position = self._file.tell()
            end = self._file.seek(0, os.SEEK_END)
            self._file.seek(position)
        except OSError:
            return None
        return end - self._start

    def identity(self) -> tuple[int, int] | None:
        """Device and inode of the file behind it; `None` where there is none."""
        try:
            status = os.fstat(self._file.fileno())
        except (OSError, AttributeError):
            return None
        return status.st_dev, status.st_ino

    def blocks(self) -> Iterator[memoryview]:
        """The bytes from the start; each block is valid until the next one is asked for.

        Raises `SourceError` when reading fails, or when the bytes are not those of the first pass.
        """
        buffer = memoryview(bytearray(self.block_size))
        number = 0
        try:
            self._file.seek(self._start)
            while length := _fill(self._file, buffer):
                self._check(number, buffer[:length])
                number += 1
                yield buffer[:length]
        except OSError as error:
            raise self._unreadable(error) from error
        if self._complete and number != len(self._checksums):
            raise self._changed()
        self._complete = True

    def read(self, start: int, end: int, buffer: bytearray) -> memoryview:
        """The bytes from `start` to `end` and `PADDING` others, in `buffer`, which grows as it
        must. Any number of threads may read at once, each with a buffer of its own.

        Raises `SourceError` when reading fails, when the backup ends before `end`, or when the
        bytes are not those of the first pass.
        """
        size = self.block_size
        first, last = start // size, -(-end // size)
        if len(buffer) < (last - first) * size + PADDING:
            buffer += bytes((last - first) * size + PADDING - len(buffer))
        view = memoryview(buffer)
        for number in range(first, last):
            block = view[(number - first) * size : (number - first + 1) * size]
            length = self._read_at(number * size, block)
            if number * size + length < min(end, (number + 1) * size):
                raise self._changed()
            self._check(number, block[:length])
        return view[start - first * size : end - first * size + PADDING]

    def peek(self, start: int, length: int) -> bytes:
        """Up to `length` bytes from `start`, which the first pass will read again."""
        buffer = bytearray(length)
        return bytes(buffer[: self._read_at(start, memoryview(buffer))])

    def _read_at(self, place: int, buffer: memoryview) -> int:
        try:
            if self._descriptor is not None:
                return _fill_at(self._descriptor, self._start + place, buffer)
            with self._lock:
                self._file.seek(self._start + place)
                return _fill(self._file, buffer)
        except OSError as error:
            raise self._unreadable(error) from error

    def watched(self, phase: str, progress: Progress | None) -> Iterator[memoryview]:
        """The blocks, with progress told after each."""
        total = None if progress is None else self.size
        done = 0
        for block in self.blocks():
            yield block
            done += len(block)
            if progress is not None:
                progress(phase, done, total)

    def _check(self, number: int, block: memoryview) -> None:
        found = checksum(block)
        with self._lock:
            missing = number + 1 - len(self._checksums)
            if missing > 0:
                self._checksums.extend([0] * missing)
            known = self._checksums[number]
            self._checksums[number] = found
        if known not in (found, 0) or (self._complete and not known):
            raise self._changed()

    def _unreadable(self, error: OSError) -> SourceError:
        return SourceError(f"cannot read {self.name}: {error.strerror or error}")

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
    splitter = Splitter(source.name)
    for block in source.watched(phase, progress):
        splitter.feed(block)
        yield from splitter.take()
    splitter.finish()
    yield from splitter.take()


def name_of(backup: Backup) -> str | None:
    """What messages call this backup: its path, as given."""
    if isinstance(backup, (str, os.PathLike)):
        return os.fspath(backup)
    name = getattr(backup, "name", None)
    return os.fspath(name) if isinstance(name, (str, os.PathLike)) else None


@contextlib.contextmanager
def rereadable(backup: Backup) -> Iterator[BinaryIO]:
    """`backup` as a file that any number of `Source`s can read one after the other."""
    file, start, owned = _open(backup)
    try:
        yield file
    finally:
        _give_back(file, start, owned)


def _give_back(file: BinaryIO, start: int, owned: bool) -> None:
    if owned:
        file.close()
    else:
        file.seek(start)


def _open(backup: Backup) -> tuple[BinaryIO, int, bool]:
    """A seekable file, where the backup starts in it, and whether it is ours to close."""
    if isinstance(backup, (bytes, bytearray, memoryview)):
        return io.BytesIO(backup), 0, True
    if isinstance(backup, (str, os.PathLike)):
        return _open_path(Path(backup)), 0, True
    if isinstance(backup, io.TextIOBase):
        raise UsageError("a backup is read as bytes", remedy='open it with "rb"')
    if backup.seekable():
        return backup, backup.tell(), False
    return _spooled(backup), 0, True


def _open_path(path: Path) -> BinaryIO:
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        remedy = "check the path" if error.errno == errno.ENOENT else None
        raise SourceError(f"cannot read {path}: {error.strerror}", remedy=remedy) from error
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    with file:
        return _spooled(file)


def _spooled(stream: BinaryIO) -> BinaryIO:
    """A copy of what can be read only once; in the folder for temporary files."""
    import shutil
    import tempfile

    copy = tempfile.TemporaryFile()
    try:
        shutil.copyfileobj(stream, copy)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy


def _descriptor(file: BinaryIO) -> int | None:
    """Of a file that can be read at any place, whatever its position."""
    try:
        descriptor = file.fileno()
        return descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except (OSError, AttributeError):
        return None


def _fill_at(descriptor: int, place: int, buffer: memoryview) -> int:
    done = 0
    while done < len(buffer):
        length = os.preadv(descriptor, [buffer[done:]], place + done)
        if not length:
            break
        done += length
    return done


def _fill(file: BinaryIO, buffer: memoryview) -> int:
    """Read until the buffer is full or the file ends. Blocks then do not depend on short reads."""
    readinto = getattr(file, "readinto", None)
    done = 0
    while done < len(buffer):
        if readinto is not None:
            length = readinto(buffer[done:])
        else:
            data = file.read(len(buffer) - done)
            length = len(data)
            buffer[done : done + length] = data
        if not length:
            break
        done += length
    return done
