"""Outputs that appear only when they are complete."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol, cast

from fastnk._core import reserve_blocks, start_writeback
from fastnk.errors import OutputError, UsageError

if TYPE_CHECKING:
    from fastnk.compressor import Compressor

WRITEBACK_BYTES = 8 << 20
"""Bytes after which the disk begins to write, while the next ones are made."""

RESERVED_BYTES = 8 << 20
"""Bytes for which blocks are asked for at once, once a file is that long."""

DESCRIPTORS = Path("/proc/self/fd")
"""Where Linux gives a file without a name one."""

Output = str | os.PathLike[str] | BinaryIO


class Sink(Protocol):
    """Takes the bytes of an output; nothing shows before `commit`."""

    def write(self, data: bytes | memoryview) -> None: ...

    def restart(self) -> None:
        """Forget what was written."""

    def commit(self) -> None: ...

    def discard(self) -> None: ...


def open_sink(
    output: Output | TemporarySink,
    *,
    force: bool,
    sources: Sequence[os.stat_result],
    compress: str | None = None,
    sync: bool = True,
) -> Sink:
    """The sink for `output`, `-` for standard output. It is compressed as its name or `compress`
    says. It may be read by whom what it replaces may be, or else by nobody who may not read the
    `sources`, which are the files that it is made of: they hold passwords. Raises `UsageError`
    where it must not be written: it exists and `force` is not set, or it is one of the sources;
    `OutputError` where it cannot."""
    sink = _open_plain(output, force, sources, sync)
    name = output_name(output)
    if compress is None and "." not in (name or ""):
        return sink
    from fastnk.compressor import compression_for

    kind = compression_for(name, compress)
    return sink if kind is None else CompressedSink(sink, kind)


def output_name(output: Output | TemporarySink) -> str | None:
    """What reports call this output: its path, as given."""
    return os.fspath(output) if isinstance(output, (str, os.PathLike)) else None


def _open_plain(
    output: Output | TemporarySink, force: bool, sources: Sequence[os.stat_result], sync: bool
) -> Sink:
    if output == "-":
        return StreamSink(sys.stdout.buffer)
    if isinstance(output, (str, os.PathLike)):
        path = Path(output)
        permissions = _permissions(path, force, sources)
        return PathSink(path.resolve() if path.is_symlink() else path, sync, permissions)
    if isinstance(output, TemporarySink):
        return output
    if isinstance(output, io.TextIOBase):
        raise UsageError("an output is written as bytes", remedy='open it with "wb"')
    return StreamSink(output)


def _permissions(path: Path, force: bool, sources: Sequence[os.stat_result]) -> _Permissions:
    """Those of the output. Raises `UsageError` where it must not be written."""
    try:
        status = path.stat()
    except OSError:
        shared = 0o666
        for source in sources:
            shared &= source.st_mode
        return _Permissions(shared | 0o600, is_final=False)
    if any(os.path.samestat(status, source) for source in sources):
        raise UsageError(
            f"the output {path} is the backup itself",
            code="FNK132",
            remedy="write to another file",
        )
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"the output {path} is a folder", remedy="name a file in it")
    if not stat.S_ISREG(status.st_mode):  # replacing a device would take it from the whole system
        raise UsageError(f"the output {path} is no plain file", remedy="- is standard output")
    if not force:
        raise UsageError(f"the output {path} exists", code="FNK131", remedy="--force replaces it")
    return _Permissions(stat.S_IMODE(status.st_mode), is_final=True)


class _Permissions(NamedTuple):
    mode: int
    is_final: bool
    """Whether the `umask` of new files takes nothing from it."""


class PathSink:
    """A file without a name in the folder of the output; it gets its name when it is complete.

    Where the system has no such files, a temporary name is used and removed after an error.
    """

    def __init__(self, path: Path, sync: bool, permissions: _Permissions) -> None:
        self._path = path
        self._sync = sync
        self._permissions = permissions
        self._written = 0
        self._reserved = RESERVED_BYTES
        self._on_its_way = 0
        self._temporary: Path | None = None
        try:
            self._fd = self._create()
        except OSError as error:
            raise self._failed(error) from error

    def _create(self) -> int:
        folder = self._path.parent
        if hasattr(os, "O_TMPFILE") and DESCRIPTORS.is_dir():
            # Kernels and file systems that have no such files say so in ways of their own.
            with contextlib.suppress(OSError):
                flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
                return os.open(folder, flags, self._permissions.mode)
        import tempfile

        fd, name = tempfile.mkstemp(prefix=f".{self._path.name}.", suffix=".part", dir=folder)
        self._temporary = Path(name)
        return fd

    def write(self, data: bytes | memoryview) -> None:
        end = self._written + len(data)
        if end > self._reserved:
            reserve_blocks(self._fd, self._reserved, end - self._reserved + RESERVED_BYTES)
            self._reserved = end + RESERVED_BYTES
        try:
            rest = memoryview(data)
            while rest:
                length = os.write(self._fd, rest)
                self._written += length
                rest = rest[length:]
        except OSError as error:
            raise self._failed(error) from error

        # What is on its way to the disk cannot be changed until it is there, so keep away from
        # the end, where the next bytes go.
        ready = self._written - WRITEBACK_BYTES
        if self._sync and ready - self._on_its_way >= WRITEBACK_BYTES:
            start_writeback(self._fd, self._on_its_way, ready - self._on_its_way)
            self._on_its_way = ready

    def restart(self) -> None:
        if self._written == 0:
            return  # Some file systems write a file out when it is closed, once it was truncated.
        self._written = self._on_its_way = 0
        self._reserved = RESERVED_BYTES
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.ftruncate(self._fd, 0)

    def commit(self) -> None:
        """Give the complete file its name, on disk: after a power cut it is there or it is not."""
        try:
            if self._written > RESERVED_BYTES:
                os.ftruncate(self._fd, self._written)  # what is reserved behind goes back
            if self._sync:
                os.fsync(self._fd)
            if self._temporary is None:
                self._temporary = self._link()
            if self._permissions.is_final:
                os.fchmod(self._fd, self._permissions.mode)
            elif os.fstat(self._fd).st_mode & 0o777 == 0o600:  # as mkstemp makes it
                umask = os.umask(0)
                os.umask(umask)
                os.fchmod(self._fd, self._permissions.mode & ~umask)
            self._temporary.replace(self._path)
            self._temporary = None
            if self._sync:
                _sync_folder(self._path)
        except OSError as error:
            self.discard()
            raise self._failed(error) from error
        os.close(self._fd)

    def _link(self) -> Path:
        """Under a name that nobody uses, because linking does not replace what is there."""
        for number in itertools.count():
            name = self._path.with_name(f".{self._path.name}.{os.getpid()}-{number}.part")
            with _folder(self._path) as folder, contextlib.suppress(FileExistsError):
                # With a folder given, Python uses the call that follows the link in /proc.
                os.link(DESCRIPTORS / str(self._fd), name.name, dst_dir_fd=folder)
                return name
        raise AssertionError("itertools.count() does not end")

    def discard(self) -> None:
        os.close(self._fd)
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write {self._path}: {error.strerror or error}",
            remedy="check that its folder exists, may be written to and has room",
        )


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    """The folder that `path` is in, open."""
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def _sync_folder(path: Path) -> None:
    """Let the name of `path` be on the disk, too, where the file system knows how."""
    try:
        with _folder(path) as folder:
            os.fsync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


class TemporarySink:
    """Keeps the output to itself: `file` is at its start once the output is complete."""

    def __init__(self) -> None:
        import tempfile

        self.file = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=8 << 20))

    def write(self, data: bytes | memoryview) -> None:
        self.file.write(data)

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()

    def commit(self) -> None:
        self.file.seek(0)

    def discard(self) -> None:
        self.file.close()


class StreamSink(TemporarySink):
    """A file object; it gets the bytes when they are complete."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream

    def commit(self) -> None:
        import shutil

        super().commit()
        try:
            shutil.copyfileobj(self.file, self._stream)
            self._stream.flush()
        except OSError as error:
            raise OutputError(f"cannot write the output: {error.strerror or error}") from error
        finally:
            self.discard()


class NoSink:
    """Takes an output that nobody wants."""

    def write(self, data: bytes | memoryview) -> None:
        pass

    def restart(self) -> None:
        pass

    def commit(self) -> None:
        pass

    def discard(self) -> None:
        pass


class MemorySink:
    """Collects the output in memory."""

    def __init__(self) -> None:
        self._file = io.BytesIO()

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)

    def restart(self) -> None:
        self._file = io.BytesIO()

    def commit(self) -> None:
        pass

    def discard(self) -> None:
        self.restart()

    def value(self) -> bytes:
        return self._file.getvalue()


class CompressedSink:
    """Compresses on the way to another sink. It starts when the first byte comes."""

    def __init__(self, sink: Sink, kind: str) -> None:
        self._sink = sink
        self._kind = kind
        self._compressor = self._new()

    def _new(self) -> Compressor:
        from fastnk.compressor import Compressor

        return Compressor(self._kind, self._sink.write)

    def write(self, data: bytes | memoryview) -> None:
        self._compressor.write(data)

    def restart(self) -> None:
        self._compressor.stop()
        self._compressor = self._new()
        self._sink.restart()

    def commit(self) -> None:
        try:
            self._compressor.finish()
        except BaseException:
            self._sink.discard()
            raise
        self._sink.commit()

    def discard(self) -> None:
        with contextlib.suppress(Exception):
            self._compressor.stop()
        self._sink.discard()
