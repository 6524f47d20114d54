"""The files that make up a backup: one, those of a folder or of a list, members of a tar or zip.

Members are read where they are, never extracted, and nothing that they say is trusted.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from fastnk.errors import BackupSyntaxError, Place, SourceError
from fastnk.source.compression import Chunks, Guard, peek, unpack
from fastnk.source.encodings import encoding_of, in_utf8
from fastnk.source.fixtures import looks_like_records
from fastnk.source.opening import BackupFile

HEAD_BYTES = 1 << 16
"""What is looked at to tell what a file is."""

PACKAGE_BACKUP = "database/database_backup.json"
"""Where a package that an EDMS makes has its backup, beside media files and settings."""
CHECKSUM_NAMES = ("checksum.txt", "checksums.txt", "checksum.sha256", "sha256sums")
_DIGEST = re.compile(r"\b(?:[0-9a-f]{128}|[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})\b")
_HASHES = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}
_NAMED = re.compile(r"""[^\s"'()*:=,]*database_backup\.json(?![\w.-])""")
"""The backup of a package in a line of checksums."""
_ANY_NAME = re.compile(r"\w[./\\]\w")
MAX_LINE = 1 << 14
"""Characters of a line of checksums."""
MAX_CHECKSUMS = 1000
"""Lines that may be of one backup."""

Cut = Callable[[str, str | None, int], None]
"""Called where a packed file ends too early or goes wrong, with a sentence, the name of the file
and the bytes unpacked; may raise."""


class Member(NamedTuple):
    """One file of a backup, unpacked."""

    name: str | None
    chunks: Chunks
    layers: list[str]
    """What it is packed in; complete once the first chunk was read."""
    is_named: bool = False
    """Whether it was given by itself, and not found in a folder or an archive."""


class Package:
    """The files of a backup; they can be gone through any number of times."""

    def __init__(
        self,
        files: Sequence[BackupFile],
        cut: Cut,
        look: Callable[[int], None] | None = None,
        *,
        careful: bool,
    ) -> None:
        self._files = files
        self._cut = cut
        self._careful = careful
        """Whether all is wanted that stands in front of damage in what is compressed."""
        self.look = look
        """Called with the bytes read, as long as anybody wants to know."""

    def members(self) -> Iterator[Member]:
        """All files in order; each must be read before the next one is asked for.

        Raises `SourceError` for a package that cannot be read, or must not be.
        """
        before = 0
        for file in self._files:
            head, chunks = peek(self._looked_at(file.chunks(), before), HEAD_BYTES)
            if archive_of(head) == "zip":
                yield from self._zip_members(file)
            else:
                guard = Guard(file.name)
                packed = guard.packed(chunks)
                yield from self._members(file.name, packed, [], guard, is_named=file.is_named)
            before += file.size or 0

    def _looked_at(self, chunks: Chunks, before: int) -> Chunks:
        for chunk in chunks:
            yield chunk
            before += len(chunk)
            if self.look is not None:
                self.look(before)

    def _zip_members(self, file: BackupFile) -> Iterator[Member]:
        from fastnk.source.archives import zip_files

        guard = Guard(file.name, file.size or 0)
        with file.file() as opened:
            cut = self._cutting(file.name)
            for one in zip_files(file.name, opened, cut, careful=self._careful):
                name = _inner_name(file.name, one.name)
                yield from self._members(name, guard.unpacked(one.chunks), ["zip"], guard)

    def _members(
        self,
        name: str | None,
        chunks: Chunks,
        layers: list[str],
        guard: Guard,
        *,
        is_named: bool = False,
    ) -> Iterator[Member]:
        """What is in a stream: one file, or those of an archive."""
        layers = [*layers]

        def cut(done: int) -> None:
            self._cut(f"the {layers[-1]} stream is cut off or damaged", name, done)

        unpacked = unpack(chunks, guard, layers, cut, careful=self._careful)
        head, chunks = peek(unpacked, 512)
        kind = archive_of(head)
        if kind is None:
            yield Member(name, chunks, layers, is_named)
            return
        from fastnk.source.archives import tar_files, zip_stream

        guard.add_layer(layers, kind)
        cutting = self._cutting(name)
        if kind == "tar":
            files = tar_files(name, chunks, cutting)
        else:
            files = zip_stream(name, chunks, cutting, careful=self._careful)
        for one in files:
            inner = guard.unpacked(one.chunks) if kind == "zip" else one.chunks
            yield from self._members(_inner_name(name, one.name), inner, layers, guard)

    def _cutting(self, name: str | None) -> Callable[[str, int], None]:
        return lambda what, done: self._cut(what, name, done)


def _inner_name(archive: str | None, name: str) -> str:
    return f"{archive}:{name}" if archive else name


def archive_of(head: bytes) -> str | None:
    """The kind of archive that begins so: `tar`, `zip` or none."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    return "tar" if _is_tar(head) else None


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


# ---- which of them are the backup ----------------------------------------------------------------


class Choice(NamedTuple):
    """Which members of a package are the backup."""

    numbers: list[int]
    notes: list[str]


def choose(package: Package, name: str | None) -> Choice:
    """The members that hold records; of a package as an EDMS makes it the backup alone, with its
    checksum verified. Raises `SourceError` where there are none, where a file was named that holds
    none, or where the checksum is another."""
    names: list[str] = []
    fixtures: list[int] = []
    backups: list[int] = []
    checksums: list[_Checksums] = []
    in_vain: list[str] = []
    for number, member in enumerate(package.members()):
        names.append(member.name or "the backup")
        head, chunks = peek(member.chunks, HEAD_BYTES)
        base = _path_in(names[-1]).rpartition("/")[2]
        if looks_like_records(head):
            fixtures.append(number)
        elif member.is_named and base not in CHECKSUM_NAMES:
            in_vain.append(names[-1])
        if base in CHECKSUM_NAMES:
            checksums.append(_Checksums(names[-1], chunks))
        elif base == PurePosixPath(PACKAGE_BACKUP).name:
            backups.append(number)
    chosen = backups if len(backups) == 1 else fixtures
    if not chosen:
        raise _nothing_found(name, names)
    if in_vain:
        raise _named_in_vain(in_vain)
    stated = {
        number: [one.of(names[number], is_only=len(backups) == 1) for one in checksums]
        for number in backups
    }
    return Choice(chosen, [*_notes(names, chosen), *_verified(package, stated)])


def _verified(package: Package, stated: Mapping[int, Sequence[_Stated]]) -> Iterator[str]:
    """What is said of backups, by their numbers, beside what they are: a sentence on each. Raises
    `SourceError` where that is not the same.

    Only now is it known which digests are wanted; to make all of them while it is looked for the
    backup would take longer than to convert it.
    """
    kinds = {number: {kind for one in of for kind in one.kinds} for number, of in stated.items()}
    last = max((number for number, wanted in kinds.items() if wanted), default=-1)
    found = {
        number: _digests(member.chunks, kinds[number])
        for number, member in enumerate(itertools.islice(package.members(), last + 1))
        if kinds.get(number)
    }
    for number, of in stated.items():
        for one in of:
            yield one.verified(found.get(number, {}))


def _path_in(name: str) -> str:
    """Where a member is in its package, as it is compared."""
    return name.replace("\\", "/").lower().rpartition(":")[2]


def _notes(names: list[str], chosen: list[int]) -> list[str]:
    if len(names) == 1:
        return []
    taken = set(chosen)
    left = [name for number, name in enumerate(names) if number not in taken]
    read = ", ".join(names[number] for number in chosen[:10])
    more = f" and {len(chosen) - 10:,} more" if len(chosen) > 10 else ""
    note = f"read {read}{more}"
    return [f"{note}; left alone {_some(left)}" if left else note]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _nothing_found(name: str | None, names: list[str]) -> SourceError:
    seen = _some(names)
    return SourceError(
        f"no file in {name or 'the package'} holds records; there are: {seen or 'none'}",
        code="FNK124",
        remedy="name the file that dumpdata wrote",
    )


def _named_in_vain(names: list[str]) -> SourceError:
    return SourceError(
        f"no records are found in {_some(names)}",
        code="FNK124",
        remedy="name only what dumpdata wrote; in a folder or a package other files are left alone",
    )


def _digests(chunks: Chunks, kinds: Iterable[str]) -> dict[str, str]:
    hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    for chunk in chunks:
        for one in hashes.values():
            one.update(chunk)
    return {kind: one.hexdigest() for kind, one in hashes.items()}


class _Stated(NamedTuple):
    """What a file of checksums says of a backup."""

    checksums: str
    """The name of that file."""
    backup: str
    digests: list[str]

    @property
    def kinds(self) -> list[str]:
        return sorted({_HASHES[len(digest)] for digest in self.digests})

    def verified(self, found: Mapping[str, str]) -> str:
        """A sentence. Raises `SourceError` where the digests found are not those stated."""
        for digest in self.digests:
            kind = _HASHES[len(digest)]
            made = found.get(kind, "unknown, it is there no more")
            if digest != made:
                raise SourceError(
                    f"{self.backup} is not what {self.checksums} says: {kind} {made}",
                    code="FNK125",
                    remedy="fetch the package again; or unpack it and give the backup in it",
                )
        if self.digests:
            return f"the {', '.join(self.kinds)} in {self.checksums} is that of {self.backup}"
        return f"{self.checksums} has no {', '.join(_HASHES.values())} of {self.backup}"


class _Checksums:
    """What a file of checksums says of backups, whatever it says of others."""

    def __init__(self, name: str, chunks: Chunks) -> None:
        self._name = name
        self._named: list[tuple[str, str]] = []
        """A path and a digest."""
        self._nameless: list[str] = []
        """Digests in lines without a name: of the backup, where there is but one."""
        for line in _lines(chunks):
            digest = _DIGEST.search(line)
            if digest is None or len(self._named) == MAX_CHECKSUMS:
                continue
            named = _NAMED.search(line)
            if named:
                self._named.append((named[0].lstrip("./"), digest[0]))
            elif not _ANY_NAME.search(line) and len(self._nameless) < 2:
                self._nameless.append(digest[0])

    def of(self, name: str, *, is_only: bool) -> _Stated:
        return _Stated(self._name, name, self._digests(f"/{_path_in(name)}", is_only))

    def _digests(self, path: str, is_only: bool) -> list[str]:
        """The digests of a backup: by its path from here on; or, of the only one, by a part of its
        path or by a longer one, or without any."""
        if not self._named and len(self._nameless) == 1:
            return self._nameless
        here = f"/{_path_in(self._name)}".rpartition("/")[0]
        exact = [digest for named, digest in self._named if path == f"{here}/{named}"]
        if exact or not is_only:
            return exact
        return [
            digest
            for named, digest in self._named
            if path.endswith(f"/{named}") or f"/{named}".endswith(path)
        ]


def _lines(chunks: Chunks) -> Iterator[str]:
    """The lines of a text in lower case, whatever it is encoded in and how long it is."""
    head, chunks = peek(chunks, HEAD_BYTES)
    rest = ""
    for chunk in in_utf8(chunks, encoding_of(head, None)):
        *whole, rest = (rest + chunk.decode(errors="replace")).lower().split("\n")
        yield from whole
        rest = rest[-MAX_LINE:]
    yield rest


def cut_off(what: str, name: str | None, offset: int) -> BackupSyntaxError:
    return BackupSyntaxError(
        what,
        code="FNK205",
        place=Place(name, offset),
        remedy="fetch the whole file again",
    )
