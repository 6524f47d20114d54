"""The files that make up a backup: one, those of a folder or of a list, members of a tar or zip.

Members are read where they are, never extracted, and nothing that they say is trusted.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, cast

from fastnk.compression import CHUNK_BYTES, Chunks, Guard, peek, unpack
from fastnk.encodings import looks_like_records
from fastnk.errors import BackupSyntaxError, Place, SourceError

if TYPE_CHECKING:
    from tarfile import TarInfo

HEAD_BYTES = 1 << 16
"""What is looked at to tell what a file is."""

PACKAGE_BACKUP = "database/database_backup.json"
"""Where a package that an EDMS makes has its backup, beside media files and settings."""
CHECKSUM_NAMES = ("checksum.txt", "checksums.txt", "checksum.sha256", "sha256sums")
MAX_CHECKSUM_FILE = 1 << 20
_DIGEST = re.compile(r"\b(?:[0-9a-f]{128}|[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})\b", re.IGNORECASE)
_HASHES = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}

Cut = Callable[[str, str | None, int], None]
"""Called where a packed file ends too early or goes wrong, with a sentence, the name of the file
and the bytes unpacked; may raise."""


class Raw(Protocol):
    """A file as it lies there."""

    name: str | None

    def chunks(self) -> Chunks: ...

    def file(self) -> BinaryIO:
        """The same, to be read at any place."""


class Member(NamedTuple):
    """One file of a backup, unpacked."""

    name: str | None
    chunks: Chunks
    layers: list[str]
    """What it is packed in; complete once the first chunk was read."""


class Package:
    """The files of a backup; they can be gone through any number of times."""

    def __init__(self, files: Callable[[], Iterator[Raw]], cut: Cut) -> None:
        self._files = files
        self._cut = cut

    def members(self) -> Iterator[Member]:
        """All files in order; each must be read before the next one is asked for.

        Raises `SourceError` for a package that cannot be read, or must not be.
        """
        for raw in self._files():
            layers: list[str] = []
            name = raw.name

            def cut(done: int, name: str | None = name, layers: list[str] = layers) -> None:
                self._cut(f"the {layers[-1]} stream is cut off or damaged", name, done)

            head, chunks = peek(raw.chunks(), 512)
            if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
                yield from self._zip_members(raw)
                continue
            chunks = unpack(chunks, Guard(name), layers, cut)
            head, chunks = peek(chunks, 512)
            if _is_tar(head):
                yield from self._tar_members(raw, chunks, [*layers, "tar"])
            else:
                yield Member(name, chunks, layers)

    def _tar_members(self, raw: Raw, chunks: Chunks, layers: list[str]) -> Iterator[Member]:
        import tarfile

        seen: set[str] = set()
        try:
            with tarfile.open(fileobj=_Stream(chunks), mode="r|", bufsize=CHUNK_BYTES) as archive:
                for info in archive:
                    what = "a link" if info.issym() or info.islnk() else None
                    what = "a device" if info.isdev() else what
                    _refuse_member(raw.name, info.name, what, seen)
                    if info.isfile() and not info.issparse():
                        chunks = self._tar_member(archive.fileobj, info, raw)
                        yield self._member(raw, info.name, chunks, layers)
        except tarfile.TarError as error:
            self._cut(f"the tar is cut off or damaged ({error})", raw.name, 0)

    def _zip_members(self, raw: Raw) -> Iterator[Member]:
        import zipfile

        seen: set[str] = set()
        try:
            with zipfile.ZipFile(raw.file()) as archive:
                for info in archive.infolist():
                    is_link = stat.S_ISLNK(info.external_attr >> 16)
                    _refuse_member(raw.name, info.filename, "a link" if is_link else None, seen)
                    if info.is_dir():
                        continue
                    with archive.open(info) as member:
                        chunks = self._zip_member(member, raw, zipfile.BadZipFile)
                        chunks = Guard(raw.name, info.compress_size).unpacked(chunks)
                        yield self._member(raw, info.filename, chunks, ["zip"])
        except (zipfile.BadZipFile, EOFError) as error:
            what = f"the zip {raw.name or ''} is cut off or damaged: {error}"
            raise SourceError(what, code="FNK122", remedy="fetch the whole file again") from error
        except RuntimeError as error:  # what zipfile raises for a password
            raise SourceError(f"cannot read {raw.name}: {error}", remedy="unpack it") from error

    def _tar_member(self, stream: Any, info: TarInfo, raw: Raw) -> Chunks:
        """Without `extractfile`, which loses what stands before damage."""
        stream.seek(info.offset_data)
        left = info.size
        while left:
            chunk = stream.read(min(CHUNK_BYTES, left))
            if not chunk:
                return self._cut(
                    "the tar is cut off", raw.name, info.offset_data + info.size - left
                )
            left -= len(chunk)
            yield chunk
        return None

    def _zip_member(self, member: Any, raw: Raw, damage: type[Exception]) -> Chunks:
        done = 0
        try:
            for chunk in _read(member):
                done += len(chunk)
                yield chunk
        except (damage, EOFError, zlib.error) as error:
            self._cut(f"the zip is damaged ({error})", raw.name, done)

    def _member(self, raw: Raw, name: str, chunks: Chunks, layers: list[str]) -> Member:
        inside = [*layers]
        full_name = f"{raw.name}:{name}" if raw.name else name

        def cut(done: int) -> None:
            self._cut(f"the {inside[-1]} stream is cut off or damaged", full_name, done)

        return Member(full_name, unpack(chunks, Guard(full_name), inside, cut), inside)


def _is_tar(head: bytes) -> bool:
    """By its magic, or, before there was one, by the checksum of its first header."""
    if len(head) < 512:
        return False
    if head[257:262] == b"ustar":
        return True
    field = head[148:156].strip(b" \0")
    return (
        head[0] not in b"\0[{"
        and bool(re.fullmatch(rb"[0-7]+", field))
        and int(field, 8) == sum(head[:148]) + sum(head[156:]) + 8 * 32
    )


def _refuse_member(archive: str | None, name: str, what: str | None, seen: set[str]) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
        what = "a path that leads out of the package"
    plain = str(path)
    if what is None and plain in seen and plain != ".":
        what = "a name that would overwrite another member"
    seen.add(plain)
    if what is not None:
        raise SourceError(
            f"{archive or 'the package'} is not to be trusted: its member {name!r} is {what}",
            code="FNK123",
            remedy="no backup needs that; unpack it where nothing can happen and look at it",
        )


def _read(file: Any) -> Chunks:
    """With `read1` where there is one, because `read` loses what stands before damage."""
    read = getattr(file, "read1", file.read)
    while chunk := read(CHUNK_BYTES):
        yield chunk


def stream_of(chunks: Chunks) -> BinaryIO:
    """Chunks as a file to be read in order."""
    return cast(BinaryIO, _Stream(chunks))


class _Stream(io.RawIOBase):
    """Chunks as a file to be read in order."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts: list[bytes | memoryview] = []
        left = size
        while left:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
            part = self._rest if left < 0 else self._rest[:left]
            self._rest = self._rest[len(part) :]
            parts.append(part)
            left -= len(part) if left > 0 else 0
        return b"".join(parts)


# ---- files -------------------------------------------------------------------------------------


class RawFile:
    """A file that is opened when it is read."""

    def __init__(self, path: Path) -> None:
        self.name: str | None = str(path)
        self._path = path

    def chunks(self) -> Chunks:
        try:
            with self._path.open("rb", buffering=0) as file:
                yield from _read(file)
        except OSError as error:
            raise SourceError(f"cannot read {self.name}: {error.strerror}") from error

    def file(self) -> BinaryIO:
        return self._path.open("rb")


class RawView:
    """A file that is open already and can be read at any place."""

    def __init__(self, name: str | None, read_at: Callable[[int, memoryview], int]) -> None:
        self.name = name
        self._read_at = read_at

    def chunks(self) -> Chunks:
        done = 0
        buffer = bytearray(CHUNK_BYTES)
        while length := self._read_at(done, memoryview(buffer)):
            yield bytes(memoryview(buffer)[:length])
            done += length

    def file(self) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_View(self._read_at)))


class _View(io.RawIOBase):
    """What can be read at any place as a file with a position."""

    def __init__(self, read_at: Callable[[int, memoryview], int]) -> None:
        self._read_at = read_at
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        starts = (0, self._position, self._size() if whence == os.SEEK_END else 0)
        self._position = starts[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = self._read_at(self._position, memoryview(buffer))
        self._position += length
        return length

    def _size(self) -> int:
        """By halving: what is read at any place need not know its length."""
        byte = memoryview(bytearray(1))
        low, high = 0, 1
        while self._read_at(high - 1, byte):
            low, high = high, 2 * high
        while low < high - 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._read_at(middle - 1, byte) else (low, middle)
        return low


def files_below(folder: Path) -> Iterator[Path]:
    """The regular files in a folder and the folders in it, in the order of their names. Links are
    not followed."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from files_below(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


# ---- which of them are the backup ----------------------------------------------------------------


class Choice(NamedTuple):
    """Which members of a package are the backup."""

    numbers: list[int]
    notes: list[str]


def choose(package: Package, name: str | None) -> Choice:
    """The members that hold records; of a package as an EDMS makes it the backup alone, with its
    checksum verified. Raises `SourceError` where there are none, or the checksum is another."""
    names: list[str] = []
    fixtures: list[int] = []
    digests: dict[int, dict[str, str]] = {}
    checksums: list[tuple[str, str]] = []
    for number, member in enumerate(package.members()):
        names.append(member.name or "the backup")
        head, chunks = peek(member.chunks, HEAD_BYTES)
        plain = names[-1].replace("\\", "/").lower()
        base = plain.rpartition(":")[2].rpartition("/")[2]
        if looks_like_records(head):
            fixtures.append(number)
        if base in CHECKSUM_NAMES:
            checksums.append((names[-1], head.decode(errors="replace")))
        elif base == PurePosixPath(PACKAGE_BACKUP).name:
            digests[number] = _digests(chunks)
    packed = [number for number in fixtures if number in digests]
    chosen = packed if len(packed) == 1 else fixtures
    if not chosen:
        raise _nothing_found(name, names)
    notes = _notes(names, chosen)
    for number in packed:
        notes += [_verified(names[number], digests[number], one) for one in checksums]
    return Choice(chosen, notes)


def _notes(names: list[str], chosen: list[int]) -> list[str]:
    if len(names) == 1:
        return []
    left = len(names) - len(chosen)
    read = ", ".join(names[number] for number in chosen[:10])
    more = f" and {len(chosen) - 10:,} more" if len(chosen) > 10 else ""
    return [f"read {read}{more}" + (f"; {left:,} other files left alone" if left else "")]


def _nothing_found(name: str | None, names: list[str]) -> SourceError:
    seen = ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
    return SourceError(
        f"no file in {name or 'the package'} holds records; there are: {seen or 'none'}",
        code="FNK124",
        remedy="name the file that dumpdata wrote",
    )


def _digests(chunks: Chunks) -> dict[str, str]:
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in _HASHES.values()}
    for chunk in chunks:
        for one in hashes.values():
            one.update(chunk)
    return {name: one.hexdigest() for name, one in hashes.items()}


def _verified(name: str, found: dict[str, str], checksum: tuple[str, str]) -> str:
    """A sentence on the checksum. Raises `SourceError` where it is not that of the backup."""
    checksum_name, text = checksum
    base = PurePosixPath(PACKAGE_BACKUP).name
    lines = [line for line in text.splitlines() if _DIGEST.search(line)]
    stated = [line for line in lines if base in line] or (lines if len(lines) == 1 else [])
    for line in stated:
        digest = _DIGEST.search(line)
        assert digest is not None
        kind = _HASHES[len(digest[0])]
        if digest[0].lower() != found[kind]:
            raise SourceError(
                f"{name} is not what {checksum_name} says: {kind} {found[kind]}",
                code="FNK125",
                remedy="fetch the package again; or unpack it and give the backup in it",
            )
        return f"the {kind} in {checksum_name} is that of {name}"
    return f"{checksum_name} says nothing of {name}"


def cut_off(what: str, name: str | None, offset: int) -> BackupSyntaxError:
    return BackupSyntaxError(
        what,
        code="FNK205",
        place=Place(name, offset),
        remedy="fetch the whole file again, or keep the complete records with --salvage",
    )
