"""Any backup as blocks of bytes that can be read again: a path, bytes, or a binary file object."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import re
import stat
import sys
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from fastnk._core import PADDING, Splitter, checksum
from fastnk.errors import BackupSyntaxError, MissingExtraError, Place, SourceError, UsageError

if TYPE_CHECKING:
    from fastnk.layout import Layout
    from fastnk.packages import Raw

Memory = bytes | bytearray | memoryview
File = str | os.PathLike[str] | BinaryIO
Backup = Memory | File | Sequence[str | os.PathLike[str]]
"""A path (of a file or a folder), `-` for standard input, a URL, bytes, a binary file; or several
paths that make up one backup."""

Progress = Callable[[str, int, int | None], None]
"""Called with a phase, the bytes done and, where it is known, the bytes in all."""

BLOCK_SIZE = 1 << 17
"""Bytes: what is read at once. It stays in the second-level cache of today's processors."""

HEAD_BYTES = 1 << 12
"""What is looked at to tell whether a backup is a plain file of records."""
_RECORD = re.compile(rb'\{\s*"(?:model|pk|fields|natural_key)"|\{\s*\Z')
_SALVAGEABLE = frozenset(("FNK200", "FNK203", "FNK204", "FNK205", "FNK206"))


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
    ) -> None:
        if block_size < 1:
            raise UsageError(f"a block of {block_size} bytes holds nothing")
        self.name = name_of(backup)
        self._memory = _memory_of(backup)
        """The bytes, where they are in memory and cannot change."""
        if self._memory is not None:
            # A small backup needs no large buffer; jobs that convert many of them feel it.
            block_size = min(block_size, len(self._memory) or 1)
        self.block_size = block_size
        self._checksums = array("Q")
        """Of each block, or 0 where it has not been read."""
        self._complete = False
        self._recovered = False
        self._encoding = encoding
        self._salvage = salvage
        self._lock = threading.Lock()
        self._layout: Layout | None = None
        """Of a backup that is more than a plain file of records."""
        self._folder = _files_of(backup)
        self._descriptor: int | None = None
        if self._folder is None and self._memory is None:
            self._file, self._start, self._owned = _open(cast(File, backup))
            self._descriptor = _descriptor(self._file)
        else:
            self._file, self._start, self._owned = io.BytesIO(), 0, True
        try:
            if salvage or encoding is not None or self._folder is not None or not self._is_plain():
                layout = self._make_layout()
                if salvage and not layout.is_clean and not layout.records:
                    raise self._hopeless(layout)
                self._layout = None if layout.is_trivial else layout
        except BackupSyntaxError as error:
            explained = self.explained(error)
            self.close()
            raise explained from None
        except BaseException:
            self.close()
            raise

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

    def _is_plain(self) -> bool:
        """Whether it begins as a plain file of records does, or might."""
        head = self.peek(0, HEAD_BYTES)
        start = head[:64].lstrip()
        if head[257:262] == b"ustar":
            return False
        if start[:1] == b"{":
            return _RECORD.match(start) is not None
        return start[:1] in (b"", b"[") and b"\0" not in head[:4]

    def _make_layout(self, *, scanned: bool = False, guess: bool = False) -> Layout:
        from fastnk.encodings import named
        from fastnk.layout import Layout, Reading

        reading = Reading(encoding=named(self._encoding), salvage=self._salvage)
        return Layout(self.name, self._raws, reading, scanned=scanned, guess=guess)

    def _hopeless(self, layout: Layout) -> BackupSyntaxError:
        seen = next((f': "{one.seen}"' for one in layout.losses() if one.seen), "")
        return BackupSyntaxError(
            f"no whole record is in it, so nothing can be salvaged{seen}",
            code="FNK202",
            place=Place(self.name, 0),
            remedy="take the backup again, into a file of its own: manage.py dumpdata -o FILE",
        )

    def _raws(self) -> Iterator[Raw]:
        from fastnk.packages import RawFile, RawView

        if self._folder is None:
            yield RawView(self.name, self._read_at)
        else:
            yield from map(RawFile, self._folder)

    # -- what it turned out to be --

    @property
    def notes(self) -> list[str]:
        """What it is packed in and how it is encoded, in sentences."""
        return [] if self._layout is None else self._layout.notes

    @property
    def envelope(self) -> tuple[bytes, bytes]:
        """What stands in front of the records and behind them, and belongs into the output."""
        layout = self._layout
        return (b"", b"") if layout is None else (layout.prologue, layout.epilogue)

    @property
    def damage(self) -> Layout | None:
        """With `salvage`: what is lost; `None` where nothing is wrong."""
        is_damaged = self._salvage and self._layout is not None and not self._layout.is_clean
        return self._layout if is_damaged else None

    def place(self, offset: int) -> tuple[str | None, int | None]:
        """The file, and the offset in it (unpacked), of a byte that `blocks` gave; none where
        the file is neither JSON nor text that only was encoded."""
        return (self.name, offset) if self._layout is None else self._layout.place(offset)

    def recover(self, error: BackupSyntaxError) -> bool:
        """Whether the backup can be read in another way than it seemed, without any loss: several
        arrays, an encoding that its head did not show. It then starts anew."""
        if self._salvage or error.code not in ("FNK200", "FNK206") or self._recovered:
            return False
        self._recovered = True
        guess = error.code == "FNK206"
        layout = self._make_layout(scanned=True, guess=guess)
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

    def explained(self, error: BackupSyntaxError) -> BackupSyntaxError:
        """The error with its place in the file as it lies there, what was seen, and what
        `salvage` would keep and lose."""
        if error.place.path not in (None, self.name) or error.place.offset is None:
            return error
        name, offset = self.place(error.place.offset)
        error.place = error.place._replace(path=name or self.name, offset=offset)
        if self._salvage or error.code not in _SALVAGEABLE:
            return error
        from fastnk.encodings import named
        from fastnk.layout import Layout, Reading

        reading = Reading(encoding=named(self._encoding), salvage=True)
        try:
            layout = Layout(self.name, self._raws, reading)
        except (SourceError, BackupSyntaxError):  # beyond help
            return error
        losses = layout.losses()
        at = -1 if offset is None else offset
        seen = next((one.seen for one in losses if one.start <= at <= one.end), "")
        if seen:
            error.what += f' (there stands "{seen}")'
        if layout.records:
            error.remedy = f"fetch it again; or --salvage: {layout.summary()}"
        else:
            nothing = "no whole record is in it, so nothing can be salvaged"
            error.remedy = f"{error.remedy}; {nothing}"
        return error

    @property
    def size(self) -> int | None:
        """Bytes in the backup, where that is known without reading it; and then it can be read at
        any place."""
        if self._layout is not None:
            return None
        if self._memory is not None:
            return len(self._memory)
        try:
            position = self._file.tell()
            end = self._file.seek(0, os.SEEK_END)
            self._file.seek(position)
        except OSError:
            return None
        return end - self._start

    def identities(self) -> set[tuple[int, int]]:
        """Device and inode of each file behind it."""
        try:
            found = [path.stat() for path in self._folder or ()]
            if self._folder is None:
                found.append(os.fstat(self._file.fileno()))
        except (OSError, AttributeError):
            return set()
        return {(status.st_dev, status.st_ino) for status in found}

    def blocks(self) -> Iterator[memoryview]:
        """The bytes from the start; each block is valid until the next one is asked for.

        Raises `SourceError` when reading fails, or when the bytes are not those of the first pass.
        """
        number = 0
        try:
            for block in self._plain_blocks() if self._layout is None else self._laid_out():
                self._check(number, block)
                number += 1
                yield block
        except OSError as error:
            raise self._unreadable(error) from error
        if self._complete and self._memory is None and number != len(self._checksums):
            raise self._changed()
        self._complete = True

    def _plain_blocks(self) -> Iterator[memoryview]:
        if self._memory is not None:
            for start in range(0, len(self._memory), self.block_size):
                yield self._memory[start : start + self.block_size]
            return
        buffer = memoryview(bytearray(self.block_size))
        self._file.seek(self._start)
        while length := _fill(self._file, buffer):
            yield buffer[:length]

    def _laid_out(self) -> Iterator[memoryview]:
        assert self._layout is not None
        buffer = memoryview(bytearray(self.block_size))
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

    def read(self, start: int, end: int, buffer: bytearray) -> memoryview:
        """The bytes from `start` to `end` and `PADDING` others, in `buffer`, which grows as it
        must; for a backup that has a `size`. Any number of threads may read at once, each with a
        buffer of its own.

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
        if self._memory is not None:
            return bytes(self._memory[start : start + length])
        buffer = bytearray(length)
        return bytes(buffer[: self._read_at(start, memoryview(buffer))])

    def _read_at(self, place: int, buffer: memoryview) -> int:
        if self._memory is not None:
            found = self._memory[place : place + len(buffer)]
            buffer[: len(found)] = found
            return len(found)
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
        if self._memory is not None:
            return
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


def name_of(backup: Backup) -> str | None:
    """What messages call this backup: its path, as given."""
    if isinstance(backup, (str, os.PathLike)):
        return "standard input" if backup == "-" else os.fspath(backup)
    if isinstance(backup, (list, tuple)):
        return ", ".join(map(os.fspath, backup[:3])) + (" …" if len(backup) > 3 else "")
    name = getattr(backup, "name", None)
    return os.fspath(name) if isinstance(name, (str, os.PathLike)) else None


@contextlib.contextmanager
def rereadable(backup: Backup) -> Iterator[Backup]:
    """`backup` as something that any number of `Source`s can read one after the other: itself, or
    a copy of what can be read only once."""
    is_path = isinstance(backup, (str, os.PathLike)) and backup != "-" and not is_url(backup)
    if isinstance(backup, (list, tuple, bytes, bytearray, memoryview)) or (
        is_path and not _is_pipe(cast(str, backup))
    ):
        yield backup
        return
    file, start, owned = _open(cast(File, backup))
    try:
        yield file
    finally:
        _give_back(file, start, owned)


def _is_pipe(path: str | os.PathLike[str]) -> bool:
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is an address that fsspec opens."""
    return isinstance(path, str) and re.match(r"[a-z][a-z0-9+.-]+://|[a-z0-9]+::", path) is not None


def _files_of(backup: Backup) -> list[Path] | None:
    """The files of a folder or of a list; `None` for one file."""
    if isinstance(backup, (str, os.PathLike)):
        if is_url(backup) or not Path(backup).is_dir():
            return None
        backup = [backup]
    if not isinstance(backup, (list, tuple)):
        return None
    from fastnk.packages import files_below

    files: list[Path] = []
    for path in map(Path, backup):
        files.extend(files_below(path) if path.is_dir() else [path])
    return files


def _give_back(file: BinaryIO, start: int, owned: bool) -> None:
    if owned:
        file.close()
    else:
        file.seek(start)


def _memory_of(backup: Backup) -> memoryview | None:
    """The bytes of a backup in memory; a copy of those that can change."""
    if isinstance(backup, bytes):
        return memoryview(backup)
    return memoryview(bytes(backup)) if isinstance(backup, (bytearray, memoryview)) else None


def _open(backup: File) -> tuple[BinaryIO, int, bool]:
    """A seekable file, where the backup starts in it, and whether it is ours to close."""
    if isinstance(backup, (str, os.PathLike)):
        if backup == "-":
            backup = sys.stdin.buffer
        elif is_url(backup):
            backup = _open_url(str(backup))
            if backup.seekable():
                return backup, 0, True
        else:
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


def _open_url(url: str) -> BinaryIO:
    try:
        import fsspec
    except ImportError:
        raise MissingExtraError("fsspec", "url", "a URL") from None
    try:
        return cast(BinaryIO, fsspec.open(url, "rb").open())
    except ImportError as error:  # of the library for this kind of address, which fsspec names
        raise UsageError(f"cannot open {url}: {error}") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {url}: {error}", remedy="check the address") from error


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
