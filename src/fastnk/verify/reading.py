"""Backups as records, in no more memory than the largest of them takes."""

from __future__ import annotations

import codecs
import hashlib
import itertools
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

from fastnk.errors import RECORD_DEPTH, BackupSyntaxError, Place, SourceError, too_deep
from fastnk.schema import plain_label
from fastnk.verify.report import FileFacts
from fastnk.verify.values import DECODER, MISSING, levels

if TYPE_CHECKING:
    from fastnk.source import Backup, Progress

BLOCK_SIZE = 1 << 20
CUT_EVERY = 1 << 20
"""Bytes from one place to the next at which several readers may begin."""
MAX_RECORD = 1 << 30
TORN_TOKEN = 16
"""Characters: a fault this near to the end may be a token of which the rest is still to come."""
MAX_HOLLOW = 32 << 20
"""Bytes of an envelope around no record."""
SPACE = re.compile(r"[ \t\n\r]*")
_EMPTY_ARRAY = rb"\[[ \t\n\r]*\]"
_KNOWN_MEMBERS = frozenset(["pk", "natural_key", "fields", "references"])


class Entry:
    """A record, its number from 1, and the bytes before it and up to its end."""

    __slots__ = ("end", "fields", "key", "label", "members", "number", "offset", "signature")

    def __init__(
        self,
        members: dict[str, Any],
        number: int,
        offset: int,
        end: int,
        proxies: Mapping[str, str],
    ) -> None:
        self.members = members
        self.number = number
        self.offset = offset
        self.end = end
        label = plain_label(members["model"])
        self.label: str = proxies.get(label, label)
        self.fields: dict[str, Any] = members["fields"]
        self.signature: bytes | None = None
        """Made when it is asked for, by `Likeness`."""
        self.key: Any = MISSING
        """The natural key that it should have, likewise made by `Rows`."""

    def get(self, name: str) -> Any:
        return self.members.get(name, MISSING)

    def is_legacy(self) -> bool:
        """Whether it has a pk, and no natural key yet."""
        return "pk" in self.members and "natural_key" not in self.members

    def unknown_names(self) -> set[str]:
        """The members that no schema speaks of."""
        return self.members.keys() - _KNOWN_MEMBERS

    def rest(self) -> dict[str, Any]:
        """What those hold."""
        return {name: self.members[name] for name in self.unknown_names()}


class Cut(NamedTuple):
    """Where a record ends, and how many there are up to there."""

    offset: int
    number: int


START = Cut(0, 0)


class Envelope(NamedTuple):
    """What is around the arrays of records, and how many are in each."""

    around: list[bytes]
    counts: list[int]

    def becomes(self, other: Envelope, counts: Sequence[int]) -> bool:
        """Whether `other` is the same with so many in each: an array with none is like anything
        else around those with records. How many are in a single one tells nothing."""
        first, *others = map(re.escape, self.around)
        patterns, left = [first], []
        for count, behind in zip(counts, others, strict=True):
            if count:
                left.append(count)
                patterns.append(behind)
            else:
                patterns[-1] += _EMPTY_ARRAY + behind
        if len(patterns) != len(other.around) or (len(left) > 1 and left != other.counts):
            return False
        return all(map(re.fullmatch, patterns, other.around))

    def hollow(self) -> re.Pattern[bytes]:
        """What is left of it without any record."""
        return re.compile(_EMPTY_ARRAY.join(map(re.escape, self.around)))


class Input:
    """A backup that can be read several times; every time it has to be the same."""

    def __init__(
        self,
        backup: Backup,
        progress: Progress | None,
        proxies: Mapping[str, str],
        *,
        salvage: bool = False,
        encoding: str | None = None,
    ) -> None:
        from fastnk.source import Source

        self.source = Source(
            backup, BLOCK_SIZE, encoding=encoding, salvage=salvage, progress=progress
        )
        """For what reads backups in another way; not while `records` goes on."""
        self.name = self.source.name
        self.proxies = proxies
        """Which model each proxy stands for."""
        self.has_lines = False
        """Whether its records are lines, once they have been read."""
        self.may_be_empty = False
        """Whether a text without any record is one, and not refused."""
        self.may_be_hollow: Envelope | None = None
        """An envelope of which there may be nothing but itself."""
        self.is_hollow = False
        self.cuts = [START]
        """Places at which one may begin to read, once all of it has been read."""
        self._progress = progress
        self._facts: FileFacts | None = None
        self._copy: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        if self._copy is not None:
            self._copy.close()

    @property
    def facts(self) -> FileFacts:
        """Known after `records` has come to its end."""
        assert self._facts is not None
        return self._facts

    def tell(self, phase: str, done: int) -> None:
        """Tell the caller's progress."""
        if self._progress is not None:
            self._progress(phase, done, self.source.size)

    @property
    def envelope(self) -> Envelope | None:
        """What is around its arrays of records, and how many are in each."""
        found = self.source.envelope
        return None if found is None else Envelope(found.around, found.counts)

    def records(self, phase: str) -> Iterator[Entry]:
        """All records. Raises `BackupSyntaxError` and `SourceError`."""
        done = 0
        try:
            for entry in self._records(phase):
                yield entry
                done += 1
        except BackupSyntaxError as error:
            if not self.source.recover(error):
                raise self.source.explained(error) from None
            yield from itertools.islice(self._records(phase), done, None)

    def _records(self, phase: str) -> Iterator[Entry]:
        if self._finds_itself_hollow():
            return
        hash_ = hashlib.sha256()
        reader = _Reader(
            self.name, self._blocks(phase, hash_.update), self.may_be_empty, self.proxies
        )
        count = 0
        for entry in reader.records():
            count = entry.number
            if entry.end - self.cuts[-1].offset >= CUT_EVERY:
                self.cuts.append(Cut(entry.end, count))
            yield entry
        self.has_lines = reader.has_lines
        self.note(FileFacts(self.name, reader.size, hash_.hexdigest(), count))

    def records_behind(self, cut: Cut) -> Iterator[Entry]:
        """The records from one of the `cuts` on, for a backup that can be read at any place. What
        they are read from is not compared with what was there before."""
        reader = _Reader(self.name, self._blocks_behind(cut.offset), False, self.proxies, cut)
        reader.has_lines = self.has_lines
        return reader.records()

    def _blocks_behind(self, offset: int) -> Iterator[bytes]:
        while block := self.source.peek(offset, BLOCK_SIZE):
            offset += len(block)
            yield block

    def _finds_itself_hollow(self) -> bool:
        if self.may_be_hollow is None:
            return False
        text = self.read(0, MAX_HOLLOW + 1)
        self.is_hollow = self.may_be_hollow.hollow().fullmatch(text) is not None
        if self.is_hollow:
            self.note(FileFacts(self.name, len(text), hashlib.sha256(text).hexdigest(), 0))
        return self.is_hollow

    def note(self, facts: FileFacts) -> None:
        """What it was like, whenever it was read."""
        if self._facts not in (None, facts):
            what = f"{self.name or 'the backup'} changed while it was read"
            raise SourceError(what, code="FNK121", remedy="wait until nothing writes to it")
        self._facts = facts

    def read(self, start: int, end: int) -> bytes:
        """Some of the bytes. Raises `SourceError`."""
        if self.source.size is not None:
            return self.source.peek(start, end - start)
        if self._copy is None:
            self._copy = tempfile.TemporaryFile()
            for block in self.source.blocks():
                self._copy.write(block)
        self._copy.seek(start)
        return self._copy.read(end - start)

    def _blocks(self, phase: str, also: Callable[[bytes], object]) -> Iterator[bytes]:
        for block in self.source.watched(phase, self._progress):
            data = bytes(block)
            also(data)
            yield data


class _Reader:
    """Takes a backup apart into records; has no more in memory than the largest of them."""

    def __init__(
        self,
        name: str | None,
        blocks: Iterator[bytes],
        may_be_empty: bool,
        proxies: Mapping[str, str],
        cut: Cut = START,
    ) -> None:
        self.size = cut.offset
        self.has_lines = False
        self._may_be_empty = may_be_empty
        self._name = name
        self._proxies = proxies
        self._blocks = blocks
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        """How far `_text` has been taken."""
        self._offset = cut.offset
        """Bytes before that."""
        self._count = cut.number

    def records(self) -> Iterator[Entry]:
        if self._count:
            return self._lines() if self.has_lines else self._array()
        return self._all()

    def _all(self) -> Iterator[Entry]:
        match self._peek():
            case "[":
                self._advance(self._at + 1)
                yield from self._array()
            case "{":
                self.has_lines = True
                yield from self._lines()
            case "" if self._may_be_empty:
                return
            case "":
                raise self._error("FNK201", "the backup is empty")
            case _:
                raise self._error("FNK200", "not JSON, or not a list of records")

    def _lines(self) -> Iterator[Entry]:
        while self._peek():
            entry = self._entry()
            if entry is None:
                raise self._cut_off()
            yield entry

    def _array(self) -> Iterator[Entry]:
        while (next_ := self._peek()) != "]":
            if self._count and next_ == ",":
                self._advance(self._at + 1)
            elif self._count and next_:
                raise self._error("FNK200", "not JSON: a comma or a bracket should stand here")
            entry = self._entry() if self._peek() else None
            if entry is None:
                raise self._cut_off()
            yield entry
        self._advance(self._at + 1)
        if self._peek():
            raise self._error("FNK200", "not JSON: there is more behind the closing bracket")

    def _entry(self) -> Entry | None:
        """The record that begins here; `None` where the backup ends before it does."""
        if self._peek() != "{":
            raise self._error("FNK203", "not a record")
        start = self._offset
        members = self._object()
        if members is None:
            return None
        if not isinstance(members.get("model"), str) or not isinstance(members.get("fields"), dict):
            self._offset = start
            raise self._error("FNK204", 'a record without a "model" or without "fields"')
        self._count += 1
        return Entry(members, self._count, start, self._offset, self._proxies)

    def _object(self) -> dict[str, Any] | None:
        members: dict[str, Any]
        while True:
            try:
                members, end = DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise self._too_deep() from None
            except json.JSONDecodeError as error:
                torn = error.pos + TORN_TOKEN >= len(self._text)
                if not torn and not error.msg.startswith("Unterminated string"):
                    raise self._syntax_error(error) from None
                if not self._more():
                    return None
                continue
            brackets = self._text.count("[", self._at, end) + self._text.count("{", self._at, end)
            if brackets > RECORD_DEPTH and levels(members) > RECORD_DEPTH:
                raise self._too_deep()
            self._advance(end)
            return members

    def _too_deep(self) -> BackupSyntaxError:
        return too_deep(Place(self._name, self._offset, self._count + 1))

    def _cut_off(self) -> BackupSyntaxError:
        return self._error("FNK205", f"the backup is cut off behind {self._count:,} records")

    def _peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            end = SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            self._advance(end)
            if end < len(self._text):
                return self._text[end]
            if not self._more():
                return ""

    def _advance(self, end: int) -> None:
        taken = self._text[self._at : end]
        self._offset += len(taken) if taken.isascii() else len(taken.encode())
        self._at = end

    def _more(self) -> bool:
        """Read on: as much again as there is, so that a large record costs linear time."""
        rest = self._text[self._at :]
        if len(rest) > MAX_RECORD:
            raise self._error("FNK208", "a record is larger than the limit")
        pieces, length = [rest], 0
        for block in self._blocks:
            pieces.append(self._decoded(block))
            length += len(block)
            if length >= len(rest):
                break
        if not length and self._decode.getstate()[0]:
            raise self._error("FNK206", "not UTF-8: the backup ends within a character")
        self._text, self._at = "".join(pieces), 0
        return length > 0

    def _decoded(self, block: bytes) -> str:
        pending = len(self._decode.getstate()[0])
        try:
            text = self._decode.decode(block)
        except UnicodeDecodeError as error:
            place = Place(self._name, self.size - pending + error.start)
            raise BackupSyntaxError("not UTF-8", code="FNK206", place=place) from None
        self.size += len(block)
        return text

    def _syntax_error(self, error: json.JSONDecodeError) -> BackupSyntaxError:
        self._advance(error.pos)
        return self._error("FNK200", f"not JSON: {error.msg}")

    def _error(self, code: str, what: str) -> BackupSyntaxError:
        place = Place(self._name, self._offset, self._count + 1)
        return BackupSyntaxError(what, code=code, place=place)
