"""The files in a tar or a zip, read where they are and never extracted.

Nothing that an archive says is trusted: not its names, not its lengths.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple, cast

from fastnk.errors import SourceError
from fastnk.source.compression import FIRST_STEP, IN_A_ZIP, Chunks, Lookahead, is_damage
from fastnk.source.opening import CHUNK_BYTES, printable

MAX_TAR_HEADERS = 1 << 20
"""Bytes that stand in front of one file in a tar: its long name and other attributes."""
MAX_DIGITS = 4096
"""Of a number in the attributes of a file in a tar."""
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

    def check(self, name: str, what: str | None = None, *, is_folder: bool = False) -> None:
        """`what` says what it is, if that is neither a file nor a folder."""
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
            what = "a path that leads out of the package"
        plain = str(path)
        if what is None and plain in self._seen and not is_folder:
            what = "a name that would overwrite another member"
        if not is_folder:
            self._seen.add(plain)
        if what is not None:
            raise self.distrusted(f"its member {name!r} is {what}")

    def distrusted(self, why: str) -> SourceError:
        return SourceError(
            f"{self._archive} is not to be trusted: {why}",
            code="FNK123",
            remedy="no backup needs that; unpack it where nothing can happen and look at it",
        )


# ---- tar ---------------------------------------------------------------------------------------


class _TarHeader(tarfile.TarInfo):
    """Does not take damage for the end, and trusts no attributes."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _TarHeader:
        try:
            header = super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except _HEADER_FAULTS as error:
            raise tarfile.ReadError(str(error)) from None
        if header.size < 0:
            raise tarfile.ReadError(f"a file of {header.size:,} bytes")
        return header

    def _proc_pax(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        cast(_TarStream, tar.fileobj).attributes_follow = True
        return super()._proc_pax(tar)  # type: ignore[misc,no-any-return]


_HEADER_FAULTS = (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError)
"""What `tarfile` raises for headers, of which it takes much for granted."""


class _TarStream:
    """A tar as it comes, in which `tarfile` finds its way by skipping."""

    def __init__(self, chunks: Chunks) -> None:
        self._stream = Lookahead(chunks)
        self.headers = 0
        """Bytes that `tarfile` has read since it met the last file."""
        self.attributes_follow = False

    def tell(self) -> int:
        return self._stream.done

    def seek(self, position: int) -> None:
        """Forward; `tarfile` never goes back."""
        while (left := position - self.tell()) > 0 and self.take_some(left):
            pass

    def take_some(self, most: int) -> bytes:
        return self._stream.take_some(min(CHUNK_BYTES, most))

    def read(self, size: int) -> bytes:
        """For `tarfile`, which keeps a long name in memory. Raises `tarfile.ReadError` for one that
        would fill it."""
        self.headers += size
        if self.headers > MAX_TAR_HEADERS:
            raise tarfile.ReadError(f"more than {MAX_TAR_HEADERS:,} bytes of headers for a file")
        data = self._stream.take(size)
        if self.attributes_follow and not _are_attributes(data):
            raise tarfile.ReadError("bad attributes of a file")
        self.attributes_follow = False
        return data

    def goes_on(self) -> bool:
        """Whether there is more than blanks; they are skipped."""
        while (block := self._stream.peek(tarfile.BLOCKSIZE)).count(0) == tarfile.BLOCKSIZE:
            self._stream.take(tarfile.BLOCKSIZE)
        return any(block)

    def find_header(self) -> bool:
        """Go on to the next header, if there is one."""
        while len(block := self._stream.peek(tarfile.BLOCKSIZE)) == tarfile.BLOCKSIZE:
            with contextlib.suppress(*_HEADER_FAULTS):
                tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
                return True
            self._stream.take(tarfile.BLOCKSIZE)
        return False


def _are_attributes(data: bytes) -> bool:
    """Whether these are `LENGTH NAME=VALUE` and no more: what is not can take `tarfile` hours, or
    all memory, and so can numbers of any length."""
    at = 0
    while data[at : at + 1].strip(b"\0"):
        length = _ATTRIBUTE_LENGTH.match(data, at)
        end = at + int(length[1]) if length else 0
        if end <= at or data[end - 1 : end] != b"\n" or b"=" not in data[at:end]:
            return False
        at = end
    return max(map(len, _DIGITS.findall(data)), default=0) <= MAX_DIGITS


_ATTRIBUTE_LENGTH = re.compile(rb"(\d{1,7}) ")
_DIGITS = re.compile(rb"\d+")


def tar_files(archive: str | None, chunks: Chunks, cut: Cut) -> Iterator[ArchiveFile]:
    """The files in a tar, in order. Raises `SourceError` for what is not to be trusted.

    Where `cut` does not raise, it is gone on with at the next header.
    """
    names = _Names(archive)
    stream = _TarStream(chunks)
    goes_on = True
    while goes_on:
        try:
            yield from _tar_files(stream, names, cut)
            if goes_on := stream.goes_on():
                cut("the tar goes on behind its end: damaged, or two in one", stream.tell())
        except tarfile.TarError as error:
            cut(f"the tar is cut off or damaged ({error})", stream.tell())
        goes_on = goes_on and stream.find_header()


def _tar_files(stream: _TarStream, names: _Names, cut: Cut) -> Iterator[ArchiveFile]:
    """Those up to what seems to be the end. Raises `tarfile.TarError`."""
    stream.headers = 0
    with tarfile.TarFile(fileobj=cast(BinaryIO, stream), tarinfo=_TarHeader) as tar:
        while (header := tar.next()) is not None:
            stream.headers = sum(map(len, tar.pax_headers.values()))  # those for all files
            tar.members.clear()  # type: ignore[attr-defined]  # which would grow with the archive
            what = "a link" if header.issym() or header.islnk() else None
            what = "a device" if header.isdev() else what
            names.check(header.name, what, is_folder=header.isdir())
            if header.issparse():
                yield ArchiveFile(f"{printable(header.name)} (sparse)", iter(()))
            elif not header.isdir():
                yield ArchiveFile(printable(header.name), _tar_file(stream, header, cut))


def _tar_file(stream: _TarStream, header: tarfile.TarInfo, cut: Cut) -> Chunks:
    """Without `extractfile`, which loses what stands before damage."""
    stream.seek(header.offset_data)
    left = header.size
    while left:
        chunk = stream.take_some(left)
        if not chunk:
            return cut("the tar is cut off", header.offset_data + header.size - left)
        left -= len(chunk)
        yield chunk
    return None


# ---- zip ---------------------------------------------------------------------------------------


def zip_files(
    archive: str | None, file: BinaryIO, cut: Cut, *, careful: bool
) -> Iterator[ArchiveFile]:
    """The files in a zip that can be read at any place, as its directory has them; where that is
    missing, `cut` is called and they are read as `zip_stream` does.

    Raises `SourceError` for what is not to be trusted, and for what cannot be read.
    """
    names = _Names(archive)
    try:
        directory = _directory_of(file, names)
    except (*_DIRECTORY_FAULTS, *_HEADER_FAULTS) as error:
        cut(f"the zip is damaged or cut off ({error})", 0)
        chunks = _stretch(file, 0, sys.maxsize)
        yield from zip_stream(archive, chunks, lambda *_: None, careful=careful)
        return
    shared = _in_the_same_bytes(directory)
    for info in directory:
        what = "packed in bytes of another one" if info in shared else _what(info)
        is_folder = info.filename.endswith("/")
        names.check(info.filename, what, is_folder=is_folder)
        if not is_folder:
            chunks = _listed_file(file, info, cut, careful)
            yield ArchiveFile(printable(info.filename), chunks)


_DIRECTORY_FAULTS = (zipfile.BadZipFile, OSError, struct.error, NotImplementedError)


def _directory_of(file: BinaryIO, names: _Names) -> list[zipfile.ZipInfo]:
    """What a zip says is in it. Raises `SourceError` where that is not all."""
    with zipfile.ZipFile(file) as opened:
        infos = opened.infolist()
    file.seek(0)
    begins = 0 if file.read(4) == _LOCAL_MAGIC else sys.maxsize
    first = min((info.header_offset for info in infos), default=sys.maxsize)
    if first < 0:
        raise zipfile.BadZipFile("its directory points before its start")
    if begins < first:
        raise names.distrusted("it begins with files that its directory does not have")
    return infos


def _what(info: zipfile.ZipInfo) -> str | None:
    """What it is, if that is neither a file nor a folder."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "a link"
    return "a device" if kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO) else None


def _in_the_same_bytes(infos: list[zipfile.ZipInfo]) -> set[zipfile.ZipInfo]:
    """Files of a zip of which one begins before the other ends: few bytes that make many files."""
    shared: set[zipfile.ZipInfo] = set()
    in_order = sorted(infos, key=lambda info: info.header_offset)
    for info, later in itertools.pairwise(in_order):
        if later.header_offset < info.header_offset + _LOCAL_HEADER.size + info.compress_size:
            shared |= {info, later}
    return shared


def _listed_file(file: BinaryIO, info: zipfile.ZipInfo, cut: Cut, careful: bool) -> Chunks:
    """As the directory says; without `zipfile`, which loses what stands before damage, and makes
    as much at once of a few bytes as they hold."""
    name, start = printable(info.filename), info.header_offset
    size = file.seek(0, os.SEEK_END)
    stream = Lookahead(_stretch(file, start, size, FIRST_STEP))
    header = _local_header(stream)
    if header is None or header.name != info.orig_filename:
        return cut(f"the zip is damaged at {name}: its header is not there", start)
    start += stream.done
    stream = Lookahead(_stretch(file, start, min(size, start + info.compress_size)))
    flags = info.flag_bits & ~_LENGTH_COMES_LATER
    stated = _LocalHeader(name, flags, info.compress_type, info.CRC, info.compress_size)
    unpacked = _Unpacked(stream, stated, lambda what, done: cut(what, start + done), careful)
    yield from unpacked.chunks()
    unpacked.skip()
    return None


def _stretch(file: BinaryIO, start: int, end: int, step: int = CHUNK_BYTES) -> Chunks:
    while start < end:
        file.seek(start)
        chunk = file.read(min(step, end - start))
        if not chunk:
            return
        start += len(chunk)
        yield chunk


def _unreadable_zip(why: str) -> SourceError:
    return SourceError(f"cannot read the zip: {why}", code="FNK122", remedy="unpack it")


_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_LOCAL_MAGIC = b"PK\x03\x04"
_STORED = 0
_IS_ENCRYPTED, _LENGTH_COMES_LATER, _IS_PATCH, _NAME_IS_UTF8 = 1, 8, 0x20, 0x800


class _LocalHeader(NamedTuple):
    """What stands in front of a file in a zip."""

    name: str
    flags: int
    method: int
    crc: int
    length: int
    """Of the file as it is packed."""


def zip_stream(
    archive: str | None, chunks: Chunks, cut: Cut, *, careful: bool
) -> Iterator[ArchiveFile]:
    """The files in a zip that comes as a stream or has lost its directory: by the headers in
    front of them. Raises `SourceError` as `zip_files` does."""
    names = _Names(archive)
    stream = Lookahead(chunks)
    while header := _local_header(stream):
        is_folder = header.name.endswith("/")
        names.check(header.name, is_folder=is_folder)
        name = printable(header.name)
        rest = _Unpacked(stream, header._replace(name=name), cut, careful)
        if not is_folder:
            yield ArchiveFile(name, rest.chunks())
        if not rest.skip():
            return
    if stream.peek(4) not in (b"PK\x01\x02", b"PK\x05\x06"):
        cut("the zip is cut off or damaged", stream.done)
    _skip_directory(stream)
    if stream.peek(4) == _LOCAL_MAGIC:
        raise names.distrusted("another one stands behind it")
    stream.skip_all()


def _skip_directory(stream: Lookahead) -> None:
    while known := _DIRECTORY_PARTS.get(stream.peek(4)):
        fixed, lengths = known
        head = stream.take(fixed)
        stream.take(sum(int.from_bytes(head[at:end], "little") for at, end in lengths))


_DIRECTORY_PARTS = {
    b"PK\x01\x02": (46, ((28, 30), (30, 32), (32, 34))),
    b"PK\x06\x06": (12, ((4, 8),)),
    b"PK\x06\x07": (20, ()),
    b"PK\x05\x06": (22, ((20, 22),)),
}
"""What stands behind the files of a zip, by how it begins: the bytes it has at least, and where in
them the lengths of what follows stand."""


def _local_header(stream: Lookahead) -> _LocalHeader | None:
    """`None` where there is none, or not all of it."""
    if stream.peek(4) != _LOCAL_MAGIC:
        return None
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
    """One file of a zip, at the first byte of which the stream is."""

    def __init__(self, stream: Lookahead, header: _LocalHeader, cut: Cut, careful: bool) -> None:
        if header.flags & _IS_ENCRYPTED:
            raise _unreadable_zip(f"{header.name} needs a password")
        comes_later = bool(header.flags & _LENGTH_COMES_LATER)
        is_known = header.method == _STORED or header.method in IN_A_ZIP
        if not is_known or header.flags & _IS_PATCH:
            raise _unreadable_zip(f"{header.name} is packed in a way that is not known here")
        if header.method == _STORED and comes_later:
            raise _unreadable_zip(f"how {header.name} is packed cannot be read as a stream")
        self._stream = stream
        self._header = header
        self._comes_later = comes_later
        self._cut = cut
        self._careful = careful
        self._chunks = self._stored() if header.method == _STORED else self._decompressed()
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

    def _decompressed(self) -> Chunks:
        kind = IN_A_ZIP[self._header.method]
        one, feed = kind.decompressing(self._careful)
        while not one.eof:
            packed = self._stream.take_some(feed) if one.needs_input else b""
            if one.needs_input and not packed:
                # LZMA need not have a mark at its end.
                self._is_whole = not self._comes_later and self._crc == self._header.crc
                return None if self._is_whole else self._end_early()
            try:
                made = one.decompress(packed, CHUNK_BYTES)
            except Exception as error:
                if not is_damage(error):
                    raise
                return self._cut(f"the zip is damaged at {self._header.name}", self._stream.done)
            if made:
                yield made
        self._stream.give_back(one.unused_data)
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
