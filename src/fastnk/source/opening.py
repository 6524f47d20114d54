"""What a backup is given as, opened so that it can be read at any place."""

from __future__ import annotations

import contextlib
import errno
import io
import mmap
import os
import re
import stat
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from fastnk._core import copy_bytes
from fastnk.errors import (
    MAX_NAME_SHOWN,
    MissingExtraError,
    SourceError,
    UsageError,
    escaped,
    shorten,
)

CHUNK_BYTES = 1 << 18
"""What is read at once of a file that is not read in blocks."""


class PageBuffer:
    """Memory to read into, which starts where a page does. It is this process's own: what is
    shared with others takes a system twice as long to find.

    A large `bytearray` starts 16 bytes behind such a place, and there processors of AMD take what a
    system copies from its cache at a third of their speed: https://sourceware.org/PR30994
    """

    def __init__(self) -> None:
        self._view = memoryview(b"")

    def room(self, length: int) -> memoryview:
        """So many bytes of it, until more are asked for."""
        if len(self._view) < length:
            self._view = memoryview(mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE))
        return self._view[:length]


class BackupFile(Protocol):
    """A file as it lies there."""

    name: str | None
    is_named: bool
    """Whether it was given by itself, and not found in a folder."""

    @property
    def size(self) -> int | None:
        """In bytes, where that can be told."""

    @property
    def status(self) -> os.stat_result | None:
        """What the system says of it, if it is a file there."""

    def chunks(self) -> Iterator[bytes]: ...

    def file(self) -> BinaryIO:
        """The same, to be read at any place."""

    def close(self) -> None: ...


class OpenFile:
    """One file that can be read at any place, by any number of threads.

    What can be read only once is copied first. A file object of the caller is read from where it
    stands. Raises `SourceError` and `UsageError`.
    """

    is_named = True

    def __init__(self, backup: File) -> None:
        self.name = name_of(backup)
        self.stream, self.start, self._owned = _open(backup)
        self._descriptor = _descriptor(self.stream)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close what was opened here; a file object of the caller is put back where it stood."""
        if self._owned:
            self.stream.close()
        else:
            self.stream.seek(self.start)

    def read_at(self, place: int, buffer: memoryview) -> int:
        """Fill the buffer from `place` on, as far as there is something; how much that was."""
        try:
            if self._descriptor is not None:
                return _fill_at(self._descriptor, self.start + place, buffer)
            with self._lock:
                self.stream.seek(self.start + place)
                return _fill(self.stream, buffer)
        except OSError as error:
            raise unreadable(self.name, error) from error

    def blocks(self, size: int) -> Iterator[memoryview]:
        """All of it, in blocks of this size; each is valid until the next one is asked for."""
        buffer = PageBuffer().room(size)
        try:
            self.stream.seek(self.start)
            while length := _fill(self.stream, buffer):
                yield buffer[:length]
        except OSError as error:
            raise unreadable(self.name, error) from error

    def chunks(self) -> Iterator[bytes]:
        done = 0
        buffer = PageBuffer().room(CHUNK_BYTES)
        while length := self.read_at(done, buffer):
            yield bytes(buffer[:length])
            done += length

    def file(self) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_View(self)))

    @property
    def size(self) -> int | None:
        try:
            position = self.stream.tell()
            end = self.stream.seek(0, os.SEEK_END)
            self.stream.seek(position)
        except OSError:
            return None
        return end - self.start

    @property
    def status(self) -> os.stat_result | None:
        try:
            status = os.fstat(self.stream.fileno())
        except (OSError, AttributeError):
            return None
        return status if status.st_nlink else None  # of a copy, which has no name


class MemoryFile:
    """Bytes that are in memory, read where they are."""

    name: str | None = None
    is_named = True
    status: os.stat_result | None = None

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        # A copy of what can change.
        self._data = memoryview(data if isinstance(data, bytes) else bytes(data))

    def read_at(self, place: int, buffer: memoryview) -> int:
        found = self._data[place : place + len(buffer)]
        copy_bytes(found, buffer)
        return len(found)

    def blocks(self, size: int) -> Iterator[memoryview]:
        for start in range(0, len(self._data), size):
            yield self._data[start : start + size]

    def chunks(self) -> Iterator[bytes]:
        yield from map(bytes, self.blocks(CHUNK_BYTES))

    def file(self) -> BinaryIO:
        return io.BytesIO(self._data)

    @property
    def size(self) -> int | None:
        return len(self._data)

    def close(self) -> None:
        pass


class _View(io.RawIOBase):
    """What can be read at any place as a file with a position."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        end = self._file.size or 0 if whence == os.SEEK_END else 0
        place = (0, self._position, end)[whence] + offset
        if place < 0:
            raise OSError(errno.EINVAL, f"there is no place {place}")
        self._position = place
        return place

    def readinto(self, buffer: Any) -> int:
        length = self._file.read_at(self._position, memoryview(buffer))
        self._position += length
        return length


class ClosedFile:
    """A file that is opened when it is read: of a folder there may be too many to be open."""

    def __init__(self, path: Path, *, is_named: bool) -> None:
        self.name: str | None = printable(path)
        self.is_named = is_named
        self._path = path

    def chunks(self) -> Iterator[bytes]:
        try:
            with open(self._path, "rb", buffering=0, opener=_open_without_waiting) as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise unreadable(self.name, error) from error

    def file(self) -> BinaryIO:
        try:
            return open(self._path, "rb", opener=_open_without_waiting)
        except OSError as error:
            raise unreadable(self.name, error) from error

    @property
    def size(self) -> int | None:
        status = self.status
        return None if status is None else status.st_size

    @property
    def status(self) -> os.stat_result | None:
        try:
            return self._path.stat()
        except OSError:
            return None

    def close(self) -> None:
        pass


class PassedOver:
    """What is no file and stands in a folder, so that it can be told that it was left alone."""

    is_named = False
    size: int | None = 0
    status: os.stat_result | None = None

    def __init__(self, path: str, what: str) -> None:
        self.name: str | None = f"{printable(path)} ({what})"

    def chunks(self) -> Iterator[bytes]:
        return iter(())

    def file(self) -> BinaryIO:
        return io.BytesIO()

    def close(self) -> None:
        pass


def _open_without_waiting(path: str, flags: int) -> int:
    """For a file in whose place a pipe may stand in the meantime, which would wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


File = str | os.PathLike[str] | BinaryIO | OpenFile
OneBackup = File | bytes | bytearray | memoryview
Backup = OneBackup | Sequence[OneBackup]
"""A path (of a file or a folder), `-` for standard input, a URL, bytes, a binary file; or several
of them that make up one backup."""


def several(backups: Iterable[Backup]) -> tuple[Backup, ...]:
    """A list of backups. Raises `UsageError` for one, since a path is a list of letters, too."""
    if isinstance(backups, (str, bytes, bytearray, memoryview)):
        raise UsageError("one backup where a list of them is taken", remedy="[backup]")
    return tuple(backups)


def files_of(backup: Backup) -> list[BackupFile] | None:
    """The files of a folder or of a list; `None` for one file. Raises `UsageError`."""
    is_list = isinstance(backup, (list, tuple))
    backups = list(cast(Sequence[OneBackup], backup)) if is_list else [cast(OneBackup, backup)]
    if "" in backups:  # as of a variable that is not set; for a path it would be the folder of now
        raise UsageError("an empty name is no backup", remedy="name a file or a folder")
    if not is_list and not _is_folder(backup):
        return None
    files: list[BackupFile] = []
    for one in backups:
        if not is_file_or_folder(one):
            files.append(opened(one))
        elif _is_folder(one):
            files += _files_below(Path(cast(str, one)))
        else:
            files.append(ClosedFile(Path(cast(str, one)), is_named=True))
    return files


def _is_folder(backup: object) -> bool:
    is_path = isinstance(backup, (str, os.PathLike)) and not is_url(backup)
    try:
        return is_path and Path(cast(str, backup)).is_dir()
    except OSError:
        return False  # which is told when it is opened


def _files_below(folder: Path) -> Iterator[BackupFile]:
    """What is in a folder and the folders in it, in the order of their names. Links are not
    followed."""
    waiting = _entries_from_last(folder)
    while waiting:
        entry = waiting.pop()
        if entry.is_dir(follow_symlinks=False):
            waiting += _entries_from_last(entry.path)
        elif entry.is_file(follow_symlinks=False):
            yield ClosedFile(Path(entry.path), is_named=False)
        else:
            yield PassedOver(entry.path, "a link" if entry.is_symlink() else "no file")


def _entries_from_last(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)
    except OSError as error:
        raise unreadable(printable(folder), error) from error


def name_of(backup: Backup) -> str | None:
    """What messages call this backup: its path, as given."""
    if isinstance(backup, (str, os.PathLike)):
        return "standard input" if backup == "-" else printable(backup)
    if isinstance(backup, (list, tuple)):
        names = [name_of(one) or "bytes" for one in backup[:3]]
        return ", ".join(names) + (" …" if len(backup) > 3 else "")
    name = getattr(backup, "name", None)
    return printable(name) if isinstance(name, (str, os.PathLike)) else None


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text, also where its bytes are none or would change what a terminal shows."""
    return escaped(os.fsencode(path).decode(errors="backslashreplace"))


def unreadable(name: str | None, error: OSError) -> SourceError:
    return SourceError(f"cannot read {name}: {error.strerror or error}")


@contextlib.contextmanager
def rereadable(backup: Backup) -> Iterator[Backup]:
    """`backup` as something that any number of readers can read one after the other: itself, or
    with a copy of what can be read only once."""
    with contextlib.ExitStack() as stack:
        if isinstance(backup, (list, tuple)):
            yield [_rereadable(one, stack) for one in backup]
        else:
            yield _rereadable(cast(OneBackup, backup), stack)


def _rereadable(backup: OneBackup, stack: contextlib.ExitStack) -> OneBackup:
    if isinstance(backup, (bytes, bytearray, memoryview)) or is_file_or_folder(backup):
        return backup
    file = OpenFile(backup)
    stack.callback(file.close)
    return file


def is_file_or_folder(backup: object) -> bool:
    """Whether this is the path of what can be opened again and again, or of nothing."""
    if not isinstance(backup, (str, os.PathLike)) or backup == "-" or is_url(backup):
        return False
    try:
        mode = Path(backup).stat().st_mode
    except (OSError, ValueError):
        return True  # which is told when it is opened
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def is_url(path: object) -> bool:
    """Whether a path is an address that fsspec opens."""
    return isinstance(path, str) and re.match(r"[a-z][a-z0-9+.-]+://|[a-z0-9]+::", path) is not None


def opened(backup: OneBackup) -> OpenFile | MemoryFile:
    """A backup that is one file. Raises `SourceError` and `UsageError`."""
    if isinstance(backup, (bytes, bytearray, memoryview)):
        return MemoryFile(backup)
    return OpenFile(backup)


def _open(backup: File) -> tuple[BinaryIO, int, bool]:
    """A seekable file, where the backup starts in it, and whether it is ours to close."""
    if isinstance(backup, OpenFile):
        return backup.stream, backup.start, False
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
        raise UsageError(
            "the backup is read as bytes, and was opened as text", remedy='open it with "rb"'
        )
    if not hasattr(backup, "seekable"):
        raise UsageError(
            f"{type(backup).__name__} is no backup",
            remedy="a path, bytes, a binary file, or a list",
        )
    if backup.seekable():
        return backup, backup.tell(), False
    return _spooled(backup), 0, True


def _open_path(path: Path) -> BinaryIO:
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        remedy = "check the path" if error.errno in (errno.ENOENT, errno.ENAMETOOLONG) else None
        what = f"cannot read {shorten(printable(path), MAX_NAME_SHOWN)}: {error.strerror}"
        raise SourceError(what, remedy=remedy) from error
    except ValueError as error:  # no path has a NUL
        raise SourceError(f"cannot read {printable(path)}: {error}") from error
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
    plain = (io.FileIO, io.BufferedReader, io.BufferedRandom)
    if not isinstance(getattr(file, "file", file), plain):
        return None  # gzip's has the descriptor of what is packed
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
