"""The files in a tar or a zip, read where they are and never extracted.

Nothing that an archive says is trusted: not its names, not its lengths.
"""

from __future__ import annotations

import itertools
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple, cast

from fastnk.errors import SourceError
from fastnk.source.compression import Chunks, Lookahead, fast_zlib, is_damage, stream_of
from fastnk.source.opening import CHUNK_BYTES, printable

MAX_TAR_HEADERS = 1 << 20
"""Bytes that stand in front of one file in a tar: its long name and other attributes."""
MAX_DESCRIPTOR = 24
"""Bytes behind a file in a zip that was written in one go."""

Cut = Callable[[str, int], None]
"""Called where an archive ends too early or goes wrong, with a sentence and the bytes before; may
raise."""


class ArchiveFile(NamedTuple):
    """One file; it must be read before the next one is asked for."""

    name: str
    chunks: Chunks


class _Names:
    """What the files of one archive are called. Raises `SourceError` for what is not to be
    trusted."""

    def __init__(self, archive: str | None) -> None:
        self._archive = archive or "the package"
        self._seen: set[str] = set()

    def check(self, name: str, what: str | None = None) -> None:
        """`what` says what it is, if that is not a file."""
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
            what = "a path that leads out of the package"
        plain = str(path)
        if what is None and plain in self._seen and plain != ".":
            what = "a name that would overwrite another member"
        self._seen.add(plain)
        if what is not None:
            raise SourceError(
                f"{self._archive} is not to be trusted: its member {name!r} is {what}",
                code="FNK123",
                remedy="no backup needs that; unpack it where nothing can happen and look at it",
            )


# ---- tar ---------------------------------------------------------------------------------------


class _TarHeader(tarfile.TarInfo):
    """Does not take damage for the end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _TarHeader:
        try:
            header = super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None
        if header.size < 0:
            raise tarfile.ReadError(f"a file of {header.size:,} bytes")
        return header


class _TarStream:
    """A tar as it comes, in which `tarfile` finds its way by skipping."""

    def __init__(self, chunks: Chunks) -> None:
        self._stream = stream_of(chunks)
        self._at = 0
        self.headers = 0
        """Bytes that `tarfile` has read since it met the last file."""

    def tell(self) -> int:
        return self._at

    def seek(self, position: int) -> None:
        """Forward; `tarfile` never goes back."""
        while self._at < position and self.take(min(CHUNK_BYTES, position - self._at)):
            pass

    def take(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._at += len(data)
        return data

    def read(self, size: int) -> bytes:
        """For `tarfile`, which keeps a long name in memory. Raises `tarfile.ReadError` for one that
        would fill it."""
        self.headers += size
        if self.headers > MAX_TAR_HEADERS:
            raise tarfile.ReadError(f"more than {MAX_TAR_HEADERS:,} bytes of headers for a file")
        return self.take(size)


def tar_files(archive: str | None, chunks: Chunks, cut: Cut) -> Iterator[ArchiveFile]:
    """The files in a tar, in order. Raises `SourceError` for what is not to be trusted."""
    names = _Names(archive)
    stream = _TarStream(chunks)
    try:
        with tarfile.TarFile(fileobj=cast(BinaryIO, stream), tarinfo=_TarHeader) as tar:
            while (header := tar.next()) is not None:
                stream.headers = 0
                tar.members.clear()  # type: ignore[attr-defined]  # which would grow with the archive
                what = "a link" if header.issym() or header.islnk() else None
                names.check(header.name, "a device" if header.isdev() else what)
                if header.isfile() and not header.issparse():
                    yield ArchiveFile(printable(header.name), _tar_file(stream, header, cut))
    except tarfile.TarError as error:
        cut(f"the tar is cut off or damaged ({error})", 0)


def _tar_file(stream: _TarStream, header: tarfile.TarInfo, cut: Cut) -> Chunks:
    """Without `extractfile`, which loses what stands before damage."""
    stream.seek(header.offset_data)
    left = header.size
    while left:
        chunk = stream.take(min(CHUNK_BYTES, left))
        if not chunk:
            return cut("the tar is cut off", header.offset_data + header.size - left)
        left -= len(chunk)
        yield chunk
    return None


# ---- zip ---------------------------------------------------------------------------------------


def zip_files(archive: str | None, file: BinaryIO, cut: Cut) -> Iterator[ArchiveFile]:
    """The files in a zip that can be read at any place, as its directory has them; where that is
    missing, `cut` is called and they are read as `zip_stream` does.

    Raises `SourceError` for what is not to be trusted, and for what cannot be read.
    """
    names = _Names(archive)
    try:
        directory = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        cut(f"the zip is cut off or damaged ({error})", 0)
        file.seek(0)
        yield from zip_stream(archive, iter(lambda: file.read(CHUNK_BYTES), b""), lambda *_: None)
        return
    with directory:
        shared = _in_the_same_bytes(directory.infolist())
        for info in directory.infolist():
            what = "a link" if stat.S_ISLNK(info.external_attr >> 16) else None
            names.check(info.filename, "packed in bytes of another one" if info in shared else what)
            if not info.is_dir():
                yield ArchiveFile(printable(info.filename), _zip_file(directory, info, cut))


def _in_the_same_bytes(infos: list[zipfile.ZipInfo]) -> set[zipfile.ZipInfo]:
    """Files of a zip of which one begins before the other ends: few bytes that make many files."""
    shared: set[zipfile.ZipInfo] = set()
    in_order = sorted(infos, key=lambda info: info.header_offset)
    for info, later in itertools.pairwise(in_order):
        if later.header_offset < info.header_offset + _LOCAL_HEADER.size + info.compress_size:
            shared |= {info, later}
    return shared


def _zip_file(directory: zipfile.ZipFile, info: zipfile.ZipInfo, cut: Cut) -> Chunks:
    done = 0
    try:
        with directory.open(info) as file:
            # `read` would lose what stands before damage.
            while chunk := file.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
                done += len(chunk)
                yield chunk
    except (RuntimeError, NotImplementedError) as error:  # a password, a rare compression
        raise _unreadable_zip(str(error)) from error
    except Exception as error:
        if not (is_damage(error) or isinstance(error, (zipfile.BadZipFile, struct.error))):
            raise
        cut(f"the zip is damaged at {printable(info.filename)} ({error})", done)


def _unreadable_zip(why: str) -> SourceError:
    return SourceError(f"cannot read the zip: {why}", code="FNK122", remedy="unpack it")


_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_STORED, _DEFLATED = 0, 8
_IS_ENCRYPTED, _LENGTH_COMES_LATER, _NAME_IS_UTF8 = 1, 8, 0x800


class _LocalHeader(NamedTuple):
    """What stands in front of a file in a zip."""

    name: str
    flags: int
    method: int
    crc: int
    length: int
    """Of the file as it is packed."""


def zip_stream(archive: str | None, chunks: Chunks, cut: Cut) -> Iterator[ArchiveFile]:
    """The files in a zip that comes as a stream or has lost its directory: by the headers in
    front of them. Raises `SourceError` as `zip_files` does."""
    names = _Names(archive)
    stream = Lookahead(chunks)
    while stream.peek(4) == b"PK\x03\x04":
        header = _local_header(stream)
        if header is None:
            break
        names.check(header.name)
        rest = _Unpacked(stream, header, cut)
        if not header.name.endswith("/"):
            yield ArchiveFile(printable(header.name), rest.chunks())
        if not rest.skip():
            return
    if stream.peek(4) not in (b"PK\x01\x02", b"PK\x05\x06"):
        cut("the zip is cut off or damaged", stream.done)
    stream.skip_all()


def _local_header(stream: Lookahead) -> _LocalHeader | None:
    """`None` where the stream ends."""
    head = stream.take(_LOCAL_HEADER.size)
    if len(head) < _LOCAL_HEADER.size:
        return None
    _, _, flags, method, _, _, crc, length, _, name_length, extra_length = _LOCAL_HEADER.unpack(
        head
    )
    name, extra = stream.take(name_length), stream.take(extra_length)
    if len(extra) < extra_length:
        return None
    if length == 0xFFFFFFFF:
        length = _long_length(extra)
    spelled = name.decode("utf-8" if flags & _NAME_IS_UTF8 else "cp437", "replace")
    return _LocalHeader(spelled, flags, method, crc, length)


def _long_length(extra: bytes) -> int:
    """From the extra field with the lengths that need 64 bits: unpacked, then packed."""
    while len(extra) >= 4:
        kind, length = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        if kind == 1:
            return int.from_bytes(extra[12:20], "little")
        extra = extra[4 + length :]
    return 0


class _Unpacked:
    """One file of a zip that is read as a stream."""

    def __init__(self, stream: Lookahead, header: _LocalHeader, cut: Cut) -> None:
        if header.flags & _IS_ENCRYPTED:
            raise _unreadable_zip(f"{header.name} needs a password")
        comes_later = bool(header.flags & _LENGTH_COMES_LATER)
        if header.method not in (_STORED, _DEFLATED) or (header.method == _STORED and comes_later):
            raise _unreadable_zip(f"how {header.name} is packed cannot be read as a stream")
        self._stream = stream
        self._header = header
        self._comes_later = comes_later
        self._cut = cut
        self._chunks = self._inflated() if header.method == _DEFLATED else self._stored()
        self._crc = 0
        self._is_whole = False

    def chunks(self) -> Chunks:
        for chunk in self._chunks:
            self._crc = zlib.crc32(chunk, self._crc)
            yield chunk

    def skip(self) -> bool:
        """Go on to what is behind it; whether there is something."""
        for _ in self.chunks():
            pass
        if self._is_whole and self._crc != self._final_crc():
            self._cut(f"the zip is damaged at {self._header.name} (CRC)", self._stream.done)
        return self._is_whole

    def _stored(self) -> Chunks:
        left = self._header.length
        while left:
            chunk = self._stream.take_some(min(left, CHUNK_BYTES))
            if not chunk:
                return self._end_early()
            left -= len(chunk)
            yield chunk
        self._is_whole = True
        return None

    def _inflated(self) -> Chunks:
        library = fast_zlib() or zlib
        inflate = library.decompressobj(-15)
        while not inflate.eof:
            packed = inflate.unconsumed_tail or self._stream.take_some(CHUNK_BYTES)
            try:
                made = inflate.decompress(packed, CHUNK_BYTES) if packed else b""
            except (zlib.error, library.error):
                made, packed = b"", b""
            if made:
                yield bytes(made)
            elif not packed:
                return self._end_early()
        self._stream.give_back(bytes(inflate.unused_data))
        self._is_whole = True
        return None

    def _end_early(self) -> None:
        self._cut(f"the zip is cut off or damaged at {self._header.name}", self._stream.done)

    def _final_crc(self) -> int:
        """As the header says, or what stands behind the file."""
        if not self._comes_later:
            return self._header.crc
        behind = self._stream.peek(MAX_DESCRIPTOR + 4)
        start = 4 if behind.startswith(b"PK\x07\x08") else 0
        crc = int.from_bytes(behind[start : start + 4], "little")
        for length in (start + 12, start + 20):  # lengths of 32 or 64 bits
            if behind[length : length + 2] == b"PK":
                self._stream.take(length)
                break
        return crc
