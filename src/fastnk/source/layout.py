"""A backup that is more than a plain file of records, as one text of records in UTF-8.

Whatever it is packed in, however it is encoded, cut up or damaged: what reads it sees one array,
or lines. Nothing is kept of it but where the records stand; each pass unpacks it again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from fastnk.errors import BackupSyntaxError, MissingExtraError, Place, Salvage, SourceError
from fastnk.source.compression import Chunks, peek, stream_of
from fastnk.source.encodings import (
    Encoding,
    declared_in_xml,
    encoding_of,
    head_in_utf8,
    in_utf8,
    legacy_encoding,
    original_offsets,
)
from fastnk.source.envelope import (
    MAX_ENVELOPE,
    Envelope,
    envelope_of,
    object_start,
    only_one_envelope,
    records_array,
)
from fastnk.source.fixtures import Kind, Piece, fixture_kind
from fastnk.source.joining import Pieces, between
from fastnk.source.losses import MAX_LOSSES, Loss, Scan, shown
from fastnk.source.opening import BackupFile
from fastnk.source.packages import HEAD_BYTES, Member, Package, choose, cut_off
from fastnk.source.scan import scan

MOST_HELD = 16 << 20
"""Bytes of one of many files that are kept while it is looked at again and again: in an archive
each reading of it begins with all files before it."""
DAMAGED_HEAD = 1 << 20
"""Bytes of a damaged backup in which its first record is looked for, to tell what it is."""
LOSSES_SHOWN = 5
"""How many lost ranges the error for a damaged backup names."""

Original = tuple[str | None, int | None]
"""A file, and an offset in it."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How a backup is to be read."""

    encoding: str | None = None
    """`None` to find out."""
    salvage: bool = False
    """Whether to take the whole records of a damaged one."""


class _Part(NamedTuple):
    """A member of the package that holds records."""

    number: int
    name: str | None
    encoding: Encoding
    start: int
    """Where in its text the records begin; what is before belongs to the envelope."""
    kind: Kind | Literal["JSON"]
    scan: Scan | None
    """Of what follows; `None` where it has not been needed."""


def _overlook(piece: Piece, seen: bytes) -> None:
    """What was told before."""


class Layout:
    """Where the records of a backup are. Raises what reading it raises.

    `look` is called with the bytes of the files that were read to find that out.
    """

    def __init__(
        self,
        name: str | None,
        files: Sequence[BackupFile],
        reading: Reading,
        look: Callable[[int], None] | None = None,
        *,
        scanned: bool = False,
        guess: bool = False,
    ) -> None:
        self.name = name
        self.notes: list[str] = []
        """What was found, in sentences for the report."""
        self.envelope: Envelope | None = None
        """What stands around the records and belongs into the output."""
        self._reading = reading
        self._guess = guess
        self._cuts: set[str] = set()
        self._package = Package(files, self._on_cut, look, careful=reading.salvage)
        self._held: tuple[int, bytes] | None = None
        """The number and the content of the member that is looked at, if it is short."""
        numbers = self._choose()
        self._scanned = scanned or reading.salvage or len(numbers) > 1
        self._parts = [
            self._part(number, self._hold(number, member) if len(numbers) > 1 else member)
            for number, member in self._members(numbers)
        ]
        self._held = None
        self._pieces = (
            None
            if self._is_one_stretch
            else Pieces([part.scan or Scan() for part in self._parts], self.joint)
        )
        self._package.look = None

    # -- what it is --

    def _choose(self) -> list[int]:
        members = self._package.members()
        first = next(members, None)
        if first is None:
            raise SourceError(
                f"{self.name or 'the package'} is empty",
                code="FNK124",
                remedy="name the file that dumpdata wrote",
            )
        peek(first.chunks, 1)
        is_one = not {"tar", "zip"} & set(first.layers) and first.name == self.name
        members.close()  # type: ignore[attr-defined]
        if is_one:
            return [0]
        choice = choose(self._package, self.name)
        self.notes += choice.notes
        return choice.numbers

    def _members(self, numbers: list[int]) -> Iterator[tuple[int, Member]]:
        """The members with these ascending numbers."""
        wanted = iter(numbers)
        number = next(wanted)
        for at, member in enumerate(self._package.members()):
            if at == number:
                yield at, member
                number = next(wanted, -1)
                if number == -1:
                    return

    def _hold(self, number: int, member: Member) -> Member:
        content, chunks = peek(member.chunks, MOST_HELD)
        self._held = (number, content) if len(content) < MOST_HELD else None
        return member._replace(chunks=chunks)

    def _part(self, number: int, member: Member) -> _Part:
        is_damaged, wanted = self._reading.salvage, self._reading.encoding
        head, _ = peek(member.chunks, DAMAGED_HEAD if is_damaged else HEAD_BYTES)
        encoding = encoding_of(head, wanted)
        text = head_in_utf8(head, encoding)
        kind = fixture_kind(text, is_damaged=is_damaged) or "JSON"
        if kind == "XML" and encoding.is_plain and wanted is None:
            encoding = declared_in_xml(text) or encoding
        if self._guess and encoding.is_plain and wanted is None:
            legacy = legacy_encoding(self._raw(number))
            encoding = Encoding(legacy) if legacy else encoding
        if member.layers:
            self.notes.append(f"{member.name or 'the backup'} unpacked: {', '.join(member.layers)}")
        if not encoding.is_plain:
            self.notes.append(f"{member.name or 'the backup'} read as {encoding}")
        if kind != "JSON":
            what = f"read by Django, as {kind}: much slower"
            self.notes.append(f"{member.name or 'the backup'} {what}")
        part = self._with_records(_Part(number, member.name, encoding, 0, kind, None))
        return self._in_legacy_encoding(part) or part

    def _with_records(self, part: _Part) -> _Part:
        """The part with the place of its records, as far as that has to be known."""
        start = self._envelope(part)
        if start is not None and (found := self._enveloped(part, start)) is not None:
            return found
        return part._replace(scan=self._scan(part)) if self._scanned else part

    def _scan(self, part: _Part) -> Scan:
        lost: list[Loss] = []

        def lose(piece: Piece, seen: bytes) -> None:
            fault = piece.fault or ""
            lost.append(Loss(piece.start, piece.end, piece.records, fault, shown(seen)))

        found = scan(self._text(part, lose))
        for loss in lost:
            found.lose(loss)
        return found

    def _in_legacy_encoding(self, part: _Part) -> _Part | None:
        """The part in the encoding that all of it fits, where something is lost of it because it
        is no UTF-8 after all."""
        is_whole = part.scan is None or part.scan.is_clean
        if is_whole or not part.encoding.is_plain or self._reading.encoding is not None:
            return None
        legacy = legacy_encoding(self._raw(part.number))
        if legacy is None:
            return None
        self.notes.append(f"{part.name or 'the backup'} read as {legacy}")
        return self._with_records(part._replace(encoding=Encoding(legacy), start=0, scan=None))

    def _envelope(self, part: _Part) -> int | None:
        """Where the records begin that stand in an object."""
        head, chunks = peek(self._text(part), HEAD_BYTES)
        opening = object_start(head, self._reading.salvage)
        if opening is None:
            return None
        head, _ = peek(chunks, MAX_ENVELOPE)
        array = records_array(head[opening:])
        return None if array is None else opening + array

    def _enveloped(self, part: _Part, start: int) -> _Part | None:
        """The part with the records in its envelope; `None` where that is damaged."""
        if self.envelope is not None:
            raise only_one_envelope(part.name)
        found = envelope_of(self._text(part), start)
        if found is None:
            return None
        self.envelope = found
        places = f", and in {len(found.counts) - 1:,} more places" if len(found.counts) > 1 else ""
        self.notes.append(
            f"{part.name or 'the backup'} has its records in an envelope, at byte {start:,}{places}"
        )
        return part._replace(start=start, scan=found.scan)

    # -- the text --

    def chunks(self) -> Chunks:
        """The text, from its start."""
        if self._pieces is None:
            part = self._parts[0]
            end = sys.maxsize if part.scan is None else part.scan.closed or sys.maxsize
            yield from between(self._text(part), part.start, part.start + end)
            return
        members = self._members([part.number for part in self._parts])
        for index, (part, (_, member)) in enumerate(zip(self._parts, members, strict=False)):
            text = between(self._in_json(part, member.chunks), part.start)
            yield from self._pieces.of(index, text)
        yield self._pieces.tail

    def places(self, offsets: Sequence[int]) -> list[Original]:
        """The file and the offset in it of each of these bytes of the text; none in XML and
        YAML."""
        inside: list[list[tuple[int, int]]] = [[] for _ in self._parts]
        for number, offset in enumerate(offsets):
            index, at = (0, offset) if self._pieces is None else self._pieces.place(offset)
            inside[index].append((at, number))
        found: list[Original] = [(None, None)] * len(offsets)
        for part, wanted in zip(self._parts, inside, strict=True):
            wanted.sort()
            originals: list[Original] = [(part.name, None)] * len(wanted)
            if part.kind == "JSON":
                originals = self._originals(part, [at for at, _ in wanted])
            for (_, number), original in zip(wanted, originals, strict=True):
                found[number] = original
        return found

    def _originals(self, part: _Part, ascending: Sequence[int]) -> list[Original]:
        """The same for bytes of the text of one part, all in one pass."""
        if not ascending:
            return []
        wanted = [part.start + at for at in ascending]
        found = original_offsets(self._raw(part.number), part.encoding, wanted)
        return [(part.name, at) for at in found]

    def _raw(self, number: int) -> Chunks:
        if self._held is not None and self._held[0] == number:
            yield self._held[1]
            return
        for _, member in self._members([number]):
            yield from member.chunks

    def _text(self, part: _Part, lose: Callable[[Piece, bytes], None] = _overlook) -> Chunks:
        return self._in_json(part, self._raw(part.number), lose)

    def _in_json(
        self, part: _Part, chunks: Chunks, lose: Callable[[Piece, bytes], None] = _overlook
    ) -> Chunks:
        text = in_utf8(chunks, part.encoding)
        if part.kind == "JSON":
            return text
        try:
            from fastnk.django.fixtures import as_json, salvaged_json
        except ImportError:
            raise MissingExtraError("Django", "django", f"a fixture in {part.kind}") from None
        if self._reading.salvage:
            return salvaged_json(part.kind, stream_of(text), part.name, lose)
        return as_json(part.kind, stream_of(text), part.name)

    @property
    def joint(self) -> bytes:
        """What the text has where another array of the envelope begins; empty where there is but
        one."""
        if self.envelope is None or len(self.envelope.counts) == 1:
            return b""
        if len(self._parts) > 1:
            raise only_one_envelope(self.name)
        return self.envelope.joint

    # -- damage --

    @property
    def _is_one_stretch(self) -> bool:
        """Whether the text is a stretch of one file."""
        one = self._parts[0].scan
        is_one = one is None or (len(one.runs) == 2 and not one.has_empty_arrays)
        return len(self._parts) == 1 and is_one and self.is_clean

    @property
    def is_trivial(self) -> bool:
        """Whether the text is the file as it lies there."""
        return self._is_one_stretch and not self.notes and self._parts[0].encoding.is_plain

    @property
    def is_clean(self) -> bool:
        """Whether the records are all there is."""
        scans = [part.scan for part in self._parts if part.scan]
        return not self._cuts and all(one.is_clean for one in scans)

    @property
    def records(self) -> int:
        return sum(part.scan.records for part in self._parts if part.scan)

    @property
    def lost_records(self) -> int:
        return sum(part.scan.lost_records for part in self._parts if part.scan)

    @property
    def lost_bytes(self) -> int:
        return sum(part.scan.lost_bytes for part in self._parts if part.scan)

    @property
    def loss_count(self) -> int:
        return sum(part.scan.loss_count for part in self._parts if part.scan)

    def losses(self) -> list[Loss]:
        """What is lost, with its places in the files; the first 10,000 of them."""
        found: list[Loss] = []
        for part in self._parts:
            losses = part.scan.losses if part.scan else []
            edges = iter(
                self._originals(part, [at for loss in losses for at in (loss.start, loss.end)])
            )
            for loss, (name, start), (_, end) in zip(losses, edges, edges, strict=True):
                found.append(msgspec.structs.replace(loss, start=start, end=end, file=name))
        return found[:MAX_LOSSES]

    def refusal(self) -> BackupSyntaxError:
        """The error for the first of the places where something is lost."""
        losses = self.losses()
        what, place = "; ".join(sorted(self._cuts)), Place(self.name)
        if losses:
            what, place = losses[0].what, Place(losses[0].file or self.name, losses[0].start)
        is_cut_off = bool(self._cuts) or "cut off" in what or "no closing" in what
        error = BackupSyntaxError(
            what,
            code="FNK205" if is_cut_off else "FNK200",
            place=place,
            remedy="fetch that file again, or leave it out",
        )
        error.salvage = self.salvage() if self.records else None
        return error

    @property
    def cut_off_at(self) -> int | None:
        """Where the backup ends too early, if it does."""
        part = self._parts[-1]
        is_cut_off = part.scan is not None and (part.scan.ends_badly or self._cuts)
        if part.scan is None or not is_cut_off or part.kind != "JSON":
            return None
        return self._originals(part, [part.scan.length])[0][1]

    def summary(self, keeps: str = "kept", loses: str = "lost") -> str:
        """What salvage keeps and loses, in a sentence."""
        kept = f"{keeps} {_count(self.records, 'whole record')}"
        lost = f"{loses} {_count(self.lost_bytes, 'byte')} in {_count(self.loss_count, 'place')}"
        if self.lost_records:
            seem = "seems" if self.lost_records == 1 else "seem"
            lost += f", where {_count(self.lost_records, 'record')} {seem} to begin"
        causes = "".join(f"; {cut}" for cut in sorted(self._cuts))
        return f"{kept}, {lost}{causes}"

    def described(self, keeps: str = "kept", loses: str = "lost") -> str:
        """The same with the first of the places."""
        first = f" (the first: {self.losses()[0]})" if self.loss_count else ""
        return self.summary(keeps, loses) + first

    def salvage(self) -> Salvage:
        """What salvage would do, for the error that refuses the backup."""
        losses = self.losses()
        shown = [str(loss) for loss in losses[:LOSSES_SHOWN]]
        if self.loss_count > len(shown):
            shown.append(f"and {self.loss_count - len(shown):,} more")
        return Salvage(
            self.records,
            self.lost_records,
            self.lost_bytes,
            self.loss_count,
            [msgspec.structs.asdict(loss) for loss in losses],
            self.summary("keeps", "loses"),
            shown,
        )

    def _on_cut(self, what: str, name: str | None, done: int) -> None:
        if not self._reading.salvage:
            raise cut_off(what, name, done)
        where = f", at byte {done:,}" if done else ""
        self._cuts.add(f"{name}: {what}{where}" if name else what + where)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
