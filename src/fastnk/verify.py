"""Shows that a conversion is faithful, with none of the code that converts.

It reads with Python's own `json` (ijson takes no `NaN`, which Python writes) and composes natural
keys from plain dicts. Slow beside the core, and meant to be: what two programs agree on that share
no code is unlikely to be the mistake of one.

The backup is read twice (rows that something refers to, then every record), the converted backup
once. In memory are the key parts of those rows, the natural keys that methods of the project make,
a digest of every natural key, and a window on both files where they have to be brought into step
again.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import itertools
import json
import os
import platform
import re
import sqlite3
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal, NamedTuple

import msgspec

from fastnk.errors import (
    MAX_MODELS,
    MAX_SHOWN,
    BackupSyntaxError,
    FastnkError,
    Place,
    SourceError,
    shorten,
    too_many_models,
)
from fastnk.schema import (
    ELEMENTS,
    GenericRelation,
    KeyPart,
    Model,
    Relation,
    Schema,
    embedded_steps,
    flat_parts,
    parse_path,
)

if TYPE_CHECKING:
    from fastnk.source import Backup, Source

Progress = Callable[[str, int, int | None], None]
"""Called with a phase, the bytes done and, where it is known, the bytes in all."""

Style = Literal["fastnk", "django"]

MAX_KEPT = 10_000
"""How many differences a report holds; all of them are counted."""
MAX_VALUE = 1000
"""How many characters of a value a report holds."""
WINDOW_RECORDS = 4096
MAX_OF_OTHER_STYLE = 100
WINDOW_BYTES = 8 << 20
"""How far apart the two backups may be and still be brought into step, when records are missing
or invented."""

CODES = {
    "FNK501": "the record is missing",
    "FNK502": "the record is not in the backup",
    "FNK503": "the value changed",
    "FNK504": "the reference leads elsewhere",
    "FNK505": "several records share this natural key",
    "FNK506": "the natural key is not that of the record",
    "FNK507": "a member was lost or added",
    "FNK508": "an id was left as it is",
    "FNK509": "the reference was lost",
    "FNK510": "several records of the backup have this id",
}


# ---- what comes out ----------------------------------------------------------------------------


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing in which the conversion is not faithful, with its place in both backups.

    Records are numbered from 1; offsets are bytes before the record. What is not there, or not
    known, is `None`.
    """

    code: str
    what: str
    model: str
    pk: str | None = None
    field: str | None = None
    record: int | None = None
    offset: int | None = None
    converted_record: int | None = None
    converted_offset: int | None = None
    value: str | None = None
    """What the backup holds, as JSON."""
    converted_value: str | None = None
    expected: str | None = None
    """What should stand there, where that is neither of the two."""

    @property
    def place(self) -> Place:
        """Where in the backup."""
        return Place(None, self.offset, self.record, self.model, self.pk, self.field)

    @property
    def converted_place(self) -> Place:
        """Where in the converted backup."""
        offset, record = self.converted_offset, self.converted_record
        return Place("the converted backup", offset, record, self.model, None, self.field)

    def __str__(self) -> str:
        values = {"was": self.value, "is": self.converted_value, "should be": self.expected}
        told = [f"{name} {shorten(value)}" for name, value in values.items() if value is not None]
        lines = [f"{self.code} {self.what}" + (f" ({', '.join(told)})" if told else "")]
        if self.record is not None:
            lines.append(f"    at {self.place}")
        if self.converted_record is not None:
            lines.append(f"    at {self.converted_place}")
        return "\n".join(lines)


class FileFacts(msgspec.Struct, frozen=True):
    """One of the files, so that it can be told later that it is the same."""

    name: str | None
    bytes: int
    sha256: str
    records: int


class ModelSummary(msgspec.Struct):
    """What was compared of one model."""

    records: int = 0
    """In the backup."""
    converted_records: int = 0
    keys: int = 0
    """Records whose pk became their own natural key."""
    references: int = 0
    """Ids that became the natural key of the very record they stood for."""
    differences: int = 0


class VerificationReport(msgspec.Struct, kw_only=True):
    """What a verification found; with all that a file on compliance has to say."""

    faithful: bool = True
    """Whether nothing differs."""
    backup: FileFacts
    converted: FileFacts
    keys: list[FileFacts]
    schema_sha256: str
    """Of the schema as `Schema.dumps` writes it."""
    style: Style | None
    """In which style most records were converted; `None` where none was."""
    embedded: bool
    """Whether the ids inside fields were to be converted too."""
    cut_off_at: int | None
    """With `salvage`: the byte at which the backup ends too early."""
    damage: str | None
    """With `salvage`: what of the backup is lost, and so not compared."""
    read_as: list[str]
    """What the files are packed in and how they are encoded, where they are not plain."""
    envelope_kept: bool
    """Whether what stands around the records is the same, byte for byte."""
    models: dict[str, ModelSummary]
    total: int
    """How many differences there are."""
    counts: dict[str, int]
    """How many, by code."""
    findings: list[Difference]
    """The differences in the order of the records, the first 10,000 of them."""
    started: str
    """UTC, ISO 8601."""
    seconds: dict[str, float]
    """Wall time by phase."""
    versions: dict[str, str]

    def check(self) -> None:
        """Raise `VerificationError` unless the conversion is faithful."""
        if not self.faithful:
            raise VerificationError(self)


class VerificationError(FastnkError):
    """A conversion that is not faithful."""

    code = "FNK500"
    exit_code: ClassVar[int] = 5

    def __init__(self, report: VerificationReport) -> None:
        self.report = report
        noun = "difference" if report.total == 1 else "differences"
        super().__init__(f"not a faithful conversion: {report.total:,} {noun}")

    def __str__(self) -> str:
        shown = [str(one) for one in self.report.findings[:MAX_SHOWN]]
        if self.report.total > len(shown):
            shown.append(f"and {self.report.total - len(shown):,} more; in all")
            counts = sorted(self.report.counts.items())
            shown += [f"{count:>9,}  {code} {CODES[code]}" for code, count in counts]
        return "\n".join([super().__str__(), *(f"  {line}" for line in shown)])

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "report": msgspec.to_builtins(self.report)}


def verify(
    backup: Backup,
    converted: Backup,
    schema: Schema | str | os.PathLike[str],
    *,
    keys: Iterable[Backup] = (),
    embedded: bool = False,
    any_order: bool = False,
    salvage: bool = False,
    encoding: str | None = None,
    progress: Progress | None = None,
) -> VerificationReport:
    """Compare `converted` with what `schema` makes of `backup`, record by record.

    `keys` are the further backups that supplied keys. With `embedded` the ids inside fields were
    to be converted, without it such fields have to be as they were. With `any_order` the records
    may stand in another order, as `--order dependencies` leaves them. With `salvage` only the
    whole records of a damaged backup count. `encoding` is that of the backup. Differences are
    reported, not raised. Raises `BackupSyntaxError` for a file that cannot be read as a backup,
    `SchemaError`, `SourceError`, and `UsageError` where methods of the project make natural keys
    and Django is not set up.
    """
    loaded = schema if isinstance(schema, Schema) else Schema.load(schema)
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(_Input(backup, progress, salvage=salvage, encoding=encoding))
        new = stack.enter_context(_Input(converted, progress))
        more = [stack.enter_context(_Input(one, progress, salvage=salvage)) for one in keys]
        try:
            run = _Verification(loaded, old, new, more, embedded=embedded, any_order=any_order)
            return run.run()
        except RecursionError:
            what = "a record is nested too deep for the verification"
            raise BackupSyntaxError(what, code="FNK207", place=Place(old.name)) from None


# ---- values ------------------------------------------------------------------------------------


class Number:
    """A JSON number by its text: no digit is lost, and none has to fit anywhere.

    Two are equal that have one value: 1.10 and 1.1, not 0 and -0. `NaN` equals `NaN`.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Number):
            return NotImplemented
        return self.text == other.text or self.normal() == other.normal()

    def normal(self) -> str:
        """The shortest text of the same value."""
        parts = _NUMBER.fullmatch(self.text)
        if parts is None or len(parts["power"] or "") > MAX_POWER_DIGITS:
            return self.text
        fraction = parts["fraction"] or ""
        digits = (parts["whole"] + fraction).lstrip("0")
        significant = digits.rstrip("0")
        if not significant:
            return f"{parts['sign']}0"
        power = int(parts["power"] or 0) - len(fraction) + len(digits) - len(significant)
        return f"{parts['sign']}{significant}e{power}"


_NUMBER = re.compile(
    r"(?P<sign>-?)(?P<whole>\d+)(?:\.(?P<fraction>\d+))?(?:[eE](?P<power>[+-]?\d+))?"
)
MAX_POWER_DIGITS = 1000


class Repeated(dict[str, Any]):
    """The members of an object that has some name twice. As a dict it holds the last ones."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self.groups: dict[str, list[Any]] = {}
        for name, value in pairs:
            self.groups.setdefault(name, []).append(value)
        super().__init__((name, values[-1]) for name, values in self.groups.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Repeated) and self.groups == other.groups

    def __ne__(self, other: object) -> bool:
        return not self == other

    def earlier(self) -> dict[str, list[Any]]:
        """What stands there but does not count, because the name comes again."""
        return {name: values[:-1] for name, values in self.groups.items() if len(values) > 1}


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else Repeated(pairs)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=Number, parse_float=Number, parse_constant=Number
)


def _spelled(value: Any, canonical: bool = False) -> str:
    """`value` as JSON; with `canonical` one text for all that is equal."""
    if isinstance(value, Number):
        return value.normal() if canonical else value.text
    if isinstance(value, list):
        return "[" + ", ".join(_spelled(one, canonical) for one in value) + "]"
    if isinstance(value, dict):
        members = value.groups if isinstance(value, Repeated) and canonical else value
        names = sorted(members) if canonical else list(members)
        texts = [f"{json.dumps(name)}: {_spelled(members[name], canonical)}" for name in names]
        return "{" + ", ".join(texts) + ("," if members is not value else "") + "}"
    return json.dumps(value, ensure_ascii=canonical)


def _digest(value: Any) -> bytes:
    """The same for equal values, and in practice for no others."""
    return hashlib.blake2b(_spelled(value, canonical=True).encode(), digest_size=16).digest()


def _shown(value: Any) -> str | None:
    """A value as a report shows it."""
    if value is MISSING:
        return None
    text = _encodable(_spelled(value))
    return text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "…"


def _encodable(text: str) -> str:
    """JSON may hold halves of surrogate pairs, which no file takes: they get escapes again."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _id(value: Any) -> str | None:
    """The text by which ids are compared; `None` for what is no id."""
    if isinstance(value, Number):
        return value.text
    return value if isinstance(value, str) else None


def _has_null(key: Any) -> bool:
    return any(map(_has_null, key)) if isinstance(key, list) else key is None


class _Missing:
    """The type of `MISSING`."""


MISSING = _Missing()
"""What a member holds that is not there."""


# ---- reading -----------------------------------------------------------------------------------

BLOCK_SIZE = 1 << 20
MAX_RECORD = 1 << 30
TORN_TOKEN = 16
"""Characters: a fault this near to the end may be a token of which the rest is still to come."""
_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN_MEMBERS = frozenset(["model", "pk", "natural_key", "fields", "references"])


class Entry:
    """A record, its number from 1, and the bytes before it and up to its end."""

    __slots__ = ("_signature", "end", "fields", "label", "members", "number", "offset")

    def __init__(self, members: dict[str, Any], number: int, offset: int, end: int) -> None:
        self.members = members
        self.number = number
        self.offset = offset
        self.end = end
        self.label: str = members["model"]
        self.fields: dict[str, Any] = members["fields"]
        self._signature: bytes | None = None

    def get(self, name: str) -> Any:
        return self.members.get(name, MISSING)

    def rest(self) -> dict[str, Any]:
        """The members that no schema speaks of."""
        return {name: one for name, one in self.members.items() if name not in _PLAIN_MEMBERS}

    def signature(self, make: Callable[[Entry], bytes]) -> bytes:
        if self._signature is None:
            self._signature = make(self)
        return self._signature


class _Input:
    """A backup that can be read several times; every time it has to be the same."""

    def __init__(
        self,
        backup: Backup,
        progress: Progress | None,
        *,
        salvage: bool = False,
        encoding: str | None = None,
    ) -> None:
        from fastnk.source import Source

        self._source = Source(
            backup, BLOCK_SIZE, encoding=encoding, salvage=salvage, progress=progress
        )
        self.name = self._source.name
        self._progress = progress
        self._facts: FileFacts | None = None
        self._copy: BinaryIO | None = None

    def __enter__(self) -> _Input:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()
        if self._copy is not None:
            self._copy.close()

    @property
    def facts(self) -> FileFacts:
        """Known after `records` has come to its end."""
        assert self._facts is not None
        return self._facts

    @property
    def notes(self) -> list[str]:
        """What it is packed in and how it is encoded."""
        return self._source.notes

    @property
    def envelope(self) -> tuple[list[bytes], list[int]] | None:
        """What is around its arrays of records, and how many are in each."""
        envelope = self._source.envelope
        if envelope is None:
            return None
        return envelope.around, envelope.counts if self._source.joint else []

    @property
    def damage(self) -> str | None:
        """With `salvage`: what is lost of it."""
        damage = self._source.damage
        return None if damage is None else damage.described()

    @property
    def cut_off_at(self) -> int | None:
        """With `salvage`: where it ends too early."""
        damage = self._source.damage
        return None if damage is None else damage.cut_off_at

    def records(self, phase: str) -> Iterator[Entry]:
        """All records. Raises `BackupSyntaxError` and `SourceError`."""
        done = 0
        try:
            for entry in self._records(phase):
                yield entry
                done += 1
        except BackupSyntaxError as error:
            if not self._source.recover(error):
                raise self._source.explained(error) from None
            yield from itertools.islice(self._records(phase), done, None)

    def _records(self, phase: str) -> Iterator[Entry]:
        hash_ = hashlib.sha256()
        reader = _Reader(self.name, self._blocks(phase, hash_.update))
        count = 0
        for entry in reader.records():
            count = entry.number
            yield entry
        facts = FileFacts(self.name, reader.size, hash_.hexdigest(), count)
        if self._facts not in (None, facts):
            what = f"{self.name or 'the backup'} changed while it was read"
            raise SourceError(what, code="FNK121", remedy="wait until nothing writes to it")
        self._facts = facts

    def read(self, start: int, end: int) -> bytes:
        """Some of the bytes. Raises `SourceError`."""
        if self._source.size is not None:
            return self._source.peek(start, end - start)
        if self._copy is None:
            self._copy = tempfile.TemporaryFile()
            for block in self._source.blocks():
                self._copy.write(block)
        self._copy.seek(start)
        return self._copy.read(end - start)

    def source(self) -> Source:
        """The same for what reads backups in another way. It may not be read while `records` is."""
        return self._source

    def _blocks(self, phase: str, also: Callable[[bytes], object]) -> Iterator[bytes]:
        for block in self._source.watched(phase, self._progress):
            data = bytes(block)
            also(data)
            yield data


class _Reader:
    """Takes a backup apart into records; has no more in memory than the largest of them."""

    def __init__(self, name: str | None, blocks: Iterator[bytes]) -> None:
        self.size = 0
        self._name = name
        self._blocks = blocks
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        """How far `_text` has been taken."""
        self._offset = 0
        """Bytes before that."""
        self._count = 0

    def records(self) -> Iterator[Entry]:
        match self._peek():
            case "[":
                self._advance(self._at + 1)
                yield from self._array()
            case "{":
                yield from self._lines()
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
        return Entry(members, self._count, start, self._offset)

    def _object(self) -> dict[str, Any] | None:
        members: dict[str, Any]
        while True:
            try:
                members, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                torn = error.pos + TORN_TOKEN >= len(self._text)
                if not torn and not error.msg.startswith("Unterminated string"):
                    raise self._syntax_error(error) from None
                if not self._more():
                    return None
                continue
            self._advance(end)
            return members

    def _cut_off(self) -> BackupSyntaxError:
        return self._error("FNK205", f"the backup is cut off behind {self._count:,} records")

    def _peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            end = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
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


# ---- ids inside fields -------------------------------------------------------------------------


class _Target(NamedTuple):
    """What an id refers to."""

    label: str
    field: str | None = None
    """`None` for the pk."""
    proxy: tuple[str, str] | None = None
    """The relation, by model and field, that leads through a proxy with a key of its own."""


class _Paths:
    """The paths into a field (or what is left of them), by the next step."""

    __slots__ = ("name", "steps", "target")

    def __init__(self) -> None:
        self.steps: dict[str, _Paths] = {}
        self.target: _Target | None = None
        """Where a path ends here: what the id refers to, and"""
        self.name = ""
        """the path."""

    def of_member(self, name: str) -> _Paths | None:
        return self.steps.get(name) if name != ELEMENTS else None

    def of_elements(self) -> _Paths | None:
        return self.steps.get(ELEMENTS)


def _paths_into_fields(schema: Schema, model: Model) -> dict[str, _Paths]:
    """The paths to ids that become natural keys, by field."""
    root = _Paths()
    for path, embedded in model.embedded.items():
        if schema.models[embedded.to].has_natural_key:
            paths = root
            for step in embedded_steps(path):
                paths = paths.steps.setdefault(step, _Paths())
            paths.target, paths.name = _Target(embedded.to, embedded.to_field), path
    return root.steps


class _Inside(NamedTuple):
    """An id in a text, and the characters before it and up to its end."""

    start: int
    end: int
    paths: _Paths
    id: Any


def _ids_in_text(text: str, paths: _Paths) -> list[_Inside] | None:
    """The ids in a text that holds JSON; `None` where it does not."""
    try:
        _DECODER.decode(text)
    except json.JSONDecodeError:
        return None
    found: list[_Inside] = []
    _walk(text, _after_space(text, 0), paths, found)
    return found


def _walk(text: str, at: int, paths: _Paths, found: list[_Inside]) -> int:
    """Note the ids in the JSON value that begins `at`, which is known to be sound; its end."""
    opening = text[at]
    if opening not in "{[" or not paths.steps:
        value, end = _DECODER.raw_decode(text, at)
        if paths.target is not None and _may_be_id(value):
            found.append(_Inside(at, end, paths, value))
        return end
    below = paths.of_elements()
    at = _after_space(text, at + 1)
    while text[at] not in "}]":
        if opening == "{":
            name, at = _DECODER.raw_decode(text, at)
            below = paths.of_member(name)
            at = _after_space(text, _after_space(text, at) + 1)
        at = _walk(text, at, below or _NO_PATHS, found)
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return at + 1


_NO_PATHS = _Paths()


def _after_space(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]


def _may_be_id(value: Any) -> bool:
    """A number, or a text that is not empty."""
    return (
        value.text[-1].isdigit()
        if isinstance(value, Number)
        else isinstance(value, str) and value != ""
    )


def _list_in_text(text: str) -> list[Any] | None:
    """The list that a text holds as JSON; `None` where it holds none."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, list) else None


def _groups(members: dict[str, Any]) -> dict[str, list[Any]]:
    """All that stands under each name."""
    if isinstance(members, Repeated):
        return members.groups
    return {name: [value] for name, value in members.items()}


# ---- natural keys ------------------------------------------------------------------------------


class UnmadeError(Exception):
    """A natural key that cannot be made: something on its way is not there."""


class _Hop(NamedTuple):
    """A step of a path: from a column of a row to the row that it refers to."""

    column: int
    table: tuple[str, str]
    place: tuple[int, ...]
    """Where the rest of the path stands in the natural key of the target; empty for nowhere."""
    transform: str | None
    """What is still to be done with what stands there."""


class _Path(NamedTuple):
    hops: tuple[_Hop, ...]
    column: int
    transform: str | None


class Doubt(NamedTuple):
    """Why a reference cannot be faithful whatever was written."""

    code: str
    what: str


NO_RECORD = Doubt("FNK508", "no record has this id")
NO_KEY = Doubt("FNK508", "the record with this id has no natural key that can be made")
SHARED = Doubt("FNK505", CODES["FNK505"])
AMBIGUOUS = Doubt("FNK510", CODES["FNK510"])

_Row = tuple[Any, ...]
"""The natural key that the record states, if it does, then its columns."""


_Proxy = tuple[str, str] | None
"""The relation that leads through a proxy whose key is meant; `None` for the model's own key."""


class _Rows:
    """The rows that something refers to, by id, and the natural keys made of them."""

    def __init__(self, schema: Schema, *, embedded: bool) -> None:
        self._schema = schema
        self._embedded = embedded
        self._labels = {label.lower(): label for label in schema.models}
        self._columns: dict[str, dict[str, int]] = {label: {} for label in schema.models}
        self._tables: dict[str, dict[str, dict[str, _Row]]] = {}
        """By label and field: the rows by the text of the id."""
        self._unnumbered: dict[str, list[_Row]] = {}
        """Rows that no id leads to, but whose natural keys count."""
        self._ambiguous: set[tuple[str, str, str | None]] = set()
        self._shared: dict[tuple[str, _Proxy], set[bytes]] = {}
        self._called: dict[tuple[str, str], dict[str, str]] = {}
        """What methods made, as JSON: by label and method, then by the text of the pk."""
        self._keys = {
            (label, proxy): self._maker(label, holder)
            for label, proxy, holder in self._holders()
            if holder.natural_key is not None or holder.natural_key_method is not None
        }
        self._add_tables()

    # -- what the schema asks for --

    def _holders(self) -> Iterator[tuple[str, _Proxy, Model | Relation]]:
        """What may say how a natural key of a model is made."""
        for label, model in self._schema.models.items():
            yield label, None, model
            for name, relation in model.relations.items():
                yield relation.to, (label, name), relation

    def _maker(self, label: str, holder: Model | Relation) -> list[Any] | str:
        """The paths to the parts of a key, or the method that makes it."""
        if holder.natural_key_method is None:
            return self._compiled(label, holder.natural_key or [])
        self._column(label, "pk")
        return holder.natural_key_method

    def _add_tables(self) -> None:
        models = self._schema.models
        for owner, model in models.items():
            for name, relation in model.relations.items():
                if not self._keys.keys().isdisjoint(
                    [(relation.to, None), (relation.to, (owner, name))]
                ):
                    self._table(relation.to, relation.to_field)
            for generic in model.generic_relations.values():
                if generic.content_type is not None:
                    types = model.relations[generic.content_type]
                    self._table(types.to, types.to_field)
                    self._column(types.to, "app_label")
                    self._column(types.to, "model")
                for label, proxy in self._keys:
                    if proxy is None:
                        self._table(label, None)
            for embedded in model.embedded.values() if self._embedded else ():
                if (embedded.to, None) in self._keys:
                    self._table(embedded.to, embedded.to_field)

    def methods(self) -> set[tuple[str, str]]:
        """The methods that make keys, each with the label of the model of those."""
        return {(label, how) for (label, _), how in self._keys.items() if isinstance(how, str)}

    def add_called(self, label: str, method: str, pk: str, key: str) -> None:
        """Take in a key that a method made; both are JSON."""
        id_ = _id(_DECODER.decode(pk))
        if id_ is not None:
            self._called.setdefault((label, method), {})[id_] = key

    def _table(self, label: str, field: str | None) -> tuple[str, str]:
        """Make sure of a table; the pk's is always there, and the first."""
        pk = self._schema.models[label].pk
        tables = self._tables.setdefault(label, {pk: {}})
        name = pk if field is None else self._schema.field_name(label, field)
        tables.setdefault(name, {})
        return label, name

    def _column(self, label: str, field: str) -> int:
        columns = self._columns[label]
        return columns.setdefault(self._schema.field_name(label, field), len(columns) + 1)

    def _compiled(self, label: str, parts: Sequence[KeyPart]) -> list[Any]:
        return [
            self._path(label, part) if isinstance(part, str) else self._compiled(label, part)
            for part in parts
        ]

    def _path(self, label: str, part: str) -> _Path:
        names, field, transform = parse_path(part)
        hops = []
        for number, name in enumerate(names):
            column = self._column(label, name)
            relation = self._schema.models[label].relations[self._schema.field_name(label, name)]
            table = self._table(relation.to, relation.to_field)
            label = relation.to
            rest = "__".join([*names[number + 1 :], field])
            standing = self._schema.models[label].natural_key or []
            place = self._place(label, f"{rest}|{transform}", standing) if transform else ()
            left = None if place else transform
            place = place or self._place(label, rest, standing)
            hops.append(_Hop(column, table, place, left))
        return _Path(tuple(hops), self._column(label, field), transform)

    def _place(self, label: str, part: str, parts: Sequence[KeyPart]) -> tuple[int, ...]:
        """Where a part stands in a natural key: its number, or that of the list it is in and so
        on."""
        for number, one in enumerate(parts):
            if isinstance(one, list):
                if place := self._place(label, part, one):
                    return (number, *place)
            elif self._spelled_out(label, one) == self._spelled_out(label, part):
                return (number,)
        return ()

    def _spelled_out(self, label: str, part: str) -> tuple[str, str]:
        path, _, transform = part.partition("|")
        return self._schema.spelled_out(label, path), transform

    # -- rows --

    def add(self, entry: Entry, *, only_keys: bool) -> None:
        """Take a record of the backup in, or one of a backup that only supplies keys."""
        tables = self._tables.get(entry.label)
        if tables is None:
            return
        row = self.row(entry)
        pk = self._schema.models[entry.label].pk
        beside = [] if only_keys else [row]
        for field, table in tables.items():
            id_ = _id(self._value(entry, field))
            found = None if id_ is None else table.get(id_)
            if id_ is None or (found is not None and only_keys):
                continue
            table[id_] = row
            if found is not None:
                self._ambiguous.add((entry.label, field, id_))
            if field == pk:
                beside = [] if found is None else [found]
        if beside:
            self._unnumbered.setdefault(entry.label, []).extend(beside)

    def row(self, entry: Entry) -> _Row:
        columns = self._columns[entry.label]
        return (
            entry.members.get("natural_key"),
            *(self._value(entry, name) for name in columns),
        )

    def _value(self, entry: Entry, name: str) -> Any:
        if name == self._schema.models[entry.label].pk and "pk" in entry.members:
            return entry.members["pk"]
        return entry.fields.get(name, MISSING)

    def find_shared_keys(self) -> None:
        """To be called when all rows are in: which natural keys stand for several of them."""
        for label, proxy in self._keys:
            if label not in self._tables:
                continue
            seen: set[bytes] = set()
            for row, is_numbered in self._all_rows(label):
                with contextlib.suppress(UnmadeError):
                    key = self.key(label, row, proxy)
                    if is_numbered or not _has_null(key):
                        digest = _digest(key)
                        if digest in seen:
                            self._shared.setdefault((label, proxy), set()).add(digest)
                        seen.add(digest)
        self._unnumbered.clear()

    def _all_rows(self, label: str) -> Iterator[tuple[_Row, bool]]:
        for row in self._tables[label][self._schema.models[label].pk].values():
            yield row, True
        for row in self._unnumbered.get(label, ()):
            yield row, False

    # -- keys --

    def key(self, label: str, row: _Row, proxy: _Proxy = None) -> list[Any]:
        """The natural key of a row. Raises `UnmadeError`."""
        stated = row[0]
        if proxy is None and isinstance(stated, list):
            return stated
        how = self._keys[label, proxy]
        return self._called_key(label, how, row) if isinstance(how, str) else self._made(how, row)

    def _called_key(self, label: str, method: str, row: _Row) -> list[Any]:
        id_ = _id(row[self._column(label, "pk")])
        text = self._called.get((label, method), {}).get(id_) if id_ is not None else None
        if text is None:
            raise UnmadeError
        key = _DECODER.decode(text)
        assert isinstance(key, list)
        return key

    def find(self, target: _Target, value: Any) -> tuple[Any, Doubt | None]:
        """The natural key of the record that an id leads to, and what speaks against it."""
        label, field, proxy = target
        name = self._schema.field_name(label, field or "pk")
        row = self._found(label, name, value)
        if row is None:
            return None, NO_RECORD
        if (label, proxy) not in self._keys:
            return None, NO_KEY
        try:
            key = self.key(label, row, proxy)
        except UnmadeError:
            return None, NO_KEY
        if (label, name, _id(value)) in self._ambiguous:
            return key, AMBIGUOUS
        shared = self._shared.get((label, proxy))
        return key, SHARED if shared and _digest(key) in shared else None

    def _found(self, label: str, field: str, value: Any) -> _Row | None:
        id_ = _id(value)
        return None if id_ is None else self._tables[label][field].get(id_)

    def generic_target(self, label: str, generic: GenericRelation, value: Any) -> str | None:
        """The model that a content type (an id or a natural key) or a text stands for."""
        if generic.content_type is None:
            text = _id(value) or ""
            return generic.labels.get(text) or self._labels.get(text.lower())
        if not isinstance(value, list):
            relation = self._schema.models[label].relations[generic.content_type]
            row = self._found(*self._table(relation.to, relation.to_field), value)
            columns = self._columns[relation.to]
            value = [row[columns["app_label"]], row[columns["model"]]] if row else []
        if len(value) != 2 or not all(isinstance(part, str) for part in value):
            return None
        found = ".".join(value)
        return found if found in self._schema.models else None

    def _made(self, parts: list[Any], row: _Row) -> list[Any]:
        return [
            self._part(part, row) if isinstance(part, _Path) else self._made(part, row)
            for part in parts
        ]

    def _part(self, path: _Path, row: _Row) -> Any:
        for hop in path.hops:
            value = row[hop.column]
            if value is None or value is MISSING:
                return None
            if isinstance(value, list):
                return _transformed(_standing_at(hop.place, value), hop.transform)
            found = self._found(*hop.table, value)
            if found is None:
                raise UnmadeError
            row = found
        value = row[path.column]
        return None if value is MISSING else _transformed(value, path.transform)


def _standing_at(place: tuple[int, ...], key: Any) -> Any:
    if not place:
        raise UnmadeError
    for number in place:
        if not isinstance(key, list) or number >= len(key):
            raise UnmadeError
        key = key[number]
    return key


def _transformed(value: Any, transform: str | None) -> Any:
    if transform == "str":
        return _as_str(value)
    if transform == "isoformat" and isinstance(value, str):
        return _as_isoformat(value)
    return value


def _as_str(value: Any) -> str:
    """What `str()` gives in Python for a value that Django wrote."""
    if isinstance(value, Number):
        return value.text
    if isinstance(value, (list, dict)):
        raise UnmadeError
    return value if isinstance(value, str) else str(value)


_TIME = re.compile(r"(?P<start>[^.]*?)(?:\.(?P<fraction>\d+))?(?P<zone>Z|[+-]\d\d:?\d\d)?")


def _as_isoformat(text: str) -> str:
    """What `isoformat()` gives for a time that Django wrote."""
    parts = _TIME.fullmatch(text)
    if parts is None:
        return text
    fraction = (parts["fraction"] or "").ljust(6, "0")[:6]
    zone = parts["zone"] or ""
    return (
        parts["start"]
        + (f".{fraction}" if fraction.strip("0") else "")
        + ("+00:00" if zone == "Z" else zone)
    )


# ---- pairs -------------------------------------------------------------------------------------

Pair = tuple[Entry | None, Entry | None]


class _Window:
    """The next records of a backup, as many as were asked for."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self._entries = entries
        self.ahead: deque[Entry] = deque()

    def first(self) -> Entry | None:
        self.fill(1)
        return self.ahead[0] if self.ahead else None

    def fill(self, count: int) -> None:
        """Look ahead, as far as memory should go."""
        while len(self.ahead) < count and (
            not self.ahead or self.ahead[-1].end - self.ahead[0].offset < WINDOW_BYTES
        ):
            entry = next(self._entries, None)
            if entry is None:
                return
            self.ahead.append(entry)

    def take(self, count: int) -> list[Entry]:
        return [self.ahead.popleft() for _ in range(count)]


class _Pairing:
    """Brings two backups into step: one pair after the other, missing and invented ones alone.

    `are_alike` says of two records that the second was made of the first; the signatures of two
    records are equal where one is the faithful conversion of the other, but for pk and key.
    `may_be_dropped` tells records that a policy of the converter leaves out.
    """

    def __init__(
        self,
        old: Iterator[Entry],
        new: Iterator[Entry],
        are_alike: Callable[[Entry, Entry], bool],
        old_signature: Callable[[Entry], bytes],
        new_signature: Callable[[Entry], bytes],
        may_be_dropped: Callable[[Entry], bool],
    ) -> None:
        self._old = _Window(old)
        self._new = _Window(new)
        self._are_alike = are_alike
        self._old_signature = old_signature
        self._new_signature = new_signature
        self._may_be_dropped = may_be_dropped
        self._steps_without_search = 0

    def pairs(self) -> Iterator[Pair]:
        while True:
            old, new = self._old.first(), self._new.first()
            if old is None and new is None:
                return
            if old is None or new is None or self._are_alike(old, new):
                counts = int(old is not None), int(new is not None)
            else:
                counts = self._next_match() or self._step(old)
            yield from self._gap(self._old.take(counts[0]), self._new.take(counts[1]))

    def _step(self, old: Entry) -> tuple[int, int]:
        """What to take where nothing ahead belongs together."""
        return (1, 0) if self._may_be_dropped(old) else (1, 1)

    def _next_match(self) -> tuple[int, int] | None:
        """How many records of both stand before the next two that belong together."""
        if self._steps_without_search:
            self._steps_without_search -= 1
            return None
        width = 8
        while width <= WINDOW_RECORDS:
            self._old.fill(width)
            self._new.fill(width)
            if found := self._match():
                return found
            width *= 8
        # All these are known not to belong together: only what comes into the windows may. To
        # search again at every step would take quadratic time.
        self._steps_without_search = max(len(self._old.ahead), len(self._new.ahead)) // 2
        return None

    def _match(self) -> tuple[int, int] | None:
        places: dict[bytes, int] = {}
        for number, new in enumerate(self._new.ahead):
            places.setdefault(new.signature(self._new_signature), number)
        best: tuple[int, int] | None = None
        for number, old in enumerate(self._old.ahead):
            if best is not None and number >= sum(best):
                break
            place = places.get(old.signature(self._old_signature))
            if place is not None and (best is None or number + place < sum(best)):
                best = number, place
        return best

    def _gap(self, olds: list[Entry], news: list[Entry]) -> Iterator[Pair]:
        """Pairs of what stands between two places where the backups are in step."""
        while olds and news:
            old, new = olds[0], news[0]
            same_model = old.label == new.label
            if self._are_alike(old, new) or (same_model and len(olds) == len(news)):
                yield olds.pop(0), news.pop(0)
            elif len(olds) >= len(news):
                yield olds.pop(0), None
            else:
                yield None, news.pop(0)
        for old in olds:
            yield old, None
        for new in news:
            yield None, new


class _Arranged:
    """The records of a converted backup in the order of those that they were made of.

    Which belong together stands in a private temporary file; the records stay where they are.
    """

    def __init__(self, converted: _Input) -> None:
        self._converted = converted
        # A database without a name is a private file, gone with the connection.
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.executescript("""
            pragma journal_mode = off;
            pragma synchronous = off;
            create table record (number integer primary key, start integer, stop integer,
                                 place integer);
            create table name (name blob, number integer, primary key (name, number))
                without rowid;
            begin;
        """)

    def __enter__(self) -> _Arranged:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, entry: Entry, names: Iterator[bytes]) -> None:
        self._file.execute(
            "insert into record values (?, ?, ?, null)", (entry.number, entry.offset, entry.end)
        )
        self._file.executemany(
            "insert or ignore into name values (?, ?)", [(name, entry.number) for name in names]
        )

    def place(self, entry: Entry, names: Iterator[bytes]) -> None:
        """Put the first record that has such a name, and no place yet, where `entry` stands."""
        for name in names:
            found = self._file.execute(
                "select number from name join record using (number)"
                " where name = ? and place is null order by number limit 1",
                (name,),
            ).fetchone()
            if found is not None:
                self._file.execute(
                    "update record set place = ? where number = ?", (entry.number, *found)
                )
                return

    def entries(self) -> Iterator[Entry]:
        """Those that belong to none come last."""
        for number, start, stop in self._file.execute(
            "select number, start, stop from record order by place is null, place, number"
        ):
            text = self._converted.read(start, stop).decode()
            yield Entry(_DECODER.decode(text), number, start, stop)


# ---- the comparison ----------------------------------------------------------------------------


class _Verification:
    """One run."""

    def __init__(
        self,
        schema: Schema,
        old: _Input,
        new: _Input,
        keys: list[_Input],
        *,
        embedded: bool,
        any_order: bool,
    ) -> None:
        self._schema = schema
        self._any_order = any_order
        self._inputs = old, new, keys
        self._embedded = embedded
        self._rows = _Rows(schema, embedded=embedded)
        self._paths = {
            label: _paths_into_fields(schema, model) if embedded else {}
            for label, model in schema.models.items()
        }
        """By label and field."""
        self._targets = {
            label: {name: self._target(label, name, one) for name, one in model.relations.items()}
            for label, model in schema.models.items()
        }
        self._unsigned = {
            label: {
                *self._paths[label],
                *(name for name, one in targets.items() if one and one.proxy),
            }
            for label, targets in self._targets.items()
        }
        """The fields that tell too little, or in each style something else."""
        self._findings = _Findings()
        self._models: dict[str, ModelSummary] = {}
        self._styles = _Styles()
        self._converted_keys: dict[str, set[bytes]] = {}
        self._natural_keys: dict[str, set[bytes]] = {}
        self._seconds: dict[str, float] = {}

    def run(self) -> VerificationReport:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        old, new, keys = self._inputs
        labels = set()
        with self._phase("rows"):
            for entry in old.records("rows"):
                labels.add(entry.label)
                self._rows.add(entry, only_keys=False)
        if not old.facts.records:
            raise BackupSyntaxError(
                "the backup holds no records", code="FNK202", place=Place(old.name, 0)
            )
        if any(keys or label in labels for label, _ in self._rows.methods()):
            with self._phase("methods"):
                self._call_methods()
        with self._phase("keys"):
            for more in keys:
                for entry in more.records("keys"):
                    self._rows.add(entry, only_keys=True)
            self._rows.find_shared_keys()
        if not self._any_order:
            with self._phase("compare"):
                self._compare_all(old, new.records("compare"))
            return self._report(started)
        with _Arranged(new) as arranged:
            with self._phase("order"):
                for entry in new.records("order"):
                    arranged.add(entry, self._new_names(entry))
                for entry in old.records("order"):
                    arranged.place(entry, self._old_names(entry))
            with self._phase("compare"):
                self._compare_all(old, arranged.entries())
        return self._report(started)

    def _new_names(self, entry: Entry) -> Iterator[bytes]:
        """What a record may have in common with the one it was made of, the surest first."""
        for name in ("pk", "natural_key"):
            if name in entry.members:
                yield _digest([name, entry.label, entry.members[name]])
        yield entry.signature(self._new_signature)

    def _old_names(self, entry: Entry) -> Iterator[bytes]:
        for name in ("pk", "natural_key"):
            if name in entry.members:
                yield _digest([name, entry.label, entry.members[name]])
        if "natural_key" not in entry.members and (key := self._own_key(entry)) is not None:
            yield _digest(["natural_key", entry.label, key])
        yield entry.signature(self._old_signature)

    def _call_methods(self) -> None:
        """Have the project's methods make the keys that no fields can tell."""
        from fastnk.django.calling import called_keys

        old, _, keys = self._inputs
        methods = self._rows.methods()
        sources = [one.source() for one in (old, *keys)]
        for made in called_keys(self._schema, sources):
            if made.key is not None and (made.label, made.method) in methods:
                self._rows.add_called(made.label, made.method, made.pk, made.key)

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds[name] = time.perf_counter() - started

    def _report(self, started: str) -> VerificationReport:
        import fastnk

        old, new, keys = self._inputs
        self._styles.judge(self._findings)
        for label, count in self._findings.by_model.items():
            self._model(label).differences = count
        return VerificationReport(
            faithful=self._findings.total == 0 and old.envelope == new.envelope,
            backup=old.facts,
            converted=new.facts,
            keys=[one.facts for one in keys],
            schema_sha256=hashlib.sha256(self._schema.dumps()).hexdigest(),
            style=self._styles.most(),
            embedded=self._embedded,
            cut_off_at=old.cut_off_at,
            damage=old.damage,
            read_as=[note for one in (old, new, *keys) for note in one.notes],
            envelope_kept=old.envelope == new.envelope,
            models=dict(sorted(self._models.items())),
            total=self._findings.total,
            counts=dict(sorted(self._findings.by_code.items())),
            findings=sorted(self._findings.kept, key=_order),
            started=started,
            seconds=self._seconds,
            versions={"fastnk": fastnk.__version__, "python": platform.python_version()},
        )

    def _model(self, label: str) -> ModelSummary:
        if len(self._models) > MAX_MODELS:
            raise too_many_models(Place())
        return self._models.setdefault(_encodable(label), ModelSummary())

    def _compare_all(self, old: _Input, converted: Iterator[Entry]) -> None:
        pairing = _Pairing(
            old.records("compare"),
            converted,
            self._are_alike,
            self._old_signature,
            self._new_signature,
            self._may_be_dropped,
        )
        for before, after in pairing.pairs():
            if before is not None:
                self._model(before.label).records += 1
            if after is not None:
                self._model(after.label).converted_records += 1
            pair = _Pair(before, after, self._findings)
            if before is None:
                pair.find("FNK502")
            elif after is None:
                pair.find("FNK501")
            else:
                self._compare(pair, before, after)

    # -- which records belong together --

    def _are_alike(self, before: Entry, after: Entry) -> bool:
        if before.label != after.label:
            return False
        if "pk" in after.members:
            alike = before.get("pk") == after.members["pk"]
        elif "natural_key" in after.members:
            alike = self._own_key(before) == after.members["natural_key"]
        else:
            alike = False
        return alike or (
            before.signature(self._old_signature) == after.signature(self._new_signature)
        )

    def _may_be_dropped(self, entry: Entry) -> bool:
        """Whether the model is unknown, or a reference leads nowhere."""
        model = self._schema.models.get(entry.label)
        if model is None:
            return True
        for name, relation in model.relations.items():
            value = entry.fields.get(name)
            for one in value if isinstance(value, list) else [value]:
                if _id(one) is not None and self._is_keyed(relation.to):
                    key, _ = self._rows.find(_Target(relation.to, relation.to_field), one)
                    if key is None:
                        return True
        return False

    def _own_key(self, entry: Entry) -> list[Any] | None:
        model = self._schema.models.get(entry.label)
        if model is None or not model.has_natural_key:
            return None
        with contextlib.suppress(UnmadeError):
            return self._rows.key(entry.label, self._rows.row(entry))
        return None

    def _old_signature(self, entry: Entry) -> bytes:
        model = self._schema.models.get(entry.label)
        fields = entry.fields
        if model is not None:
            fields = {name: self._expected(model, name, one) for name, one in fields.items()}
        return self._signature(entry, fields)

    def _new_signature(self, entry: Entry) -> bytes:
        return self._signature(entry, entry.fields)

    def _signature(self, entry: Entry, fields: Mapping[str, Any]) -> bytes:
        model = self._schema.models.get(entry.label)
        unsigned = self._unsigned.get(entry.label, set())
        fields = {name: value for name, value in fields.items() if name not in unsigned}
        if model is None or not model.has_natural_key:
            return _digest([entry.label, fields, entry.rest(), entry.members.get("pk")])
        # A parent link is among the fields of the one and the pk of the other.
        fields.pop(model.pk, None)
        return _digest([entry.label, fields, entry.rest()])

    def _expected(self, model: Model, name: str, value: Any) -> Any:
        relation = model.relations.get(name)
        if relation is None or not self._is_keyed(relation.to):
            return value
        values = value if relation.many and isinstance(value, list) else [value]
        keys = [
            one
            if _id(one) is None
            else self._rows.find(_Target(relation.to, relation.to_field), one)[0] or one
            for one in values
        ]
        return keys if values is value else keys[0]

    # -- one pair --

    def _compare(self, pair: _Pair, before: Entry, after: Entry) -> None:
        model = self._schema.models.get(before.label)
        pair.repeated(before.members, after.members)
        pair.repeated(before.fields, after.fields)
        for name in before.rest().keys() | after.rest().keys():
            pair.same(name, before.get(name), after.get(name))
        if model is None:
            self._compare_unknown(pair, before, after)
            return
        self._compare_identity(pair, model, before, after)
        self._compare_fields(pair, model, before, after)
        self._compare_references(pair, model, before, after)

    def _compare_unknown(self, pair: _Pair, before: Entry, after: Entry) -> None:
        for name in ("pk", "natural_key", "references"):
            pair.same(name, before.get(name), after.get(name))
        for name in before.fields.keys() | after.fields.keys():
            pair.same(name, before.fields.get(name, MISSING), after.fields.get(name, MISSING))
        pair.find("FNK508", what="the schema does not know this model, nor which ids it holds")

    def _compare_identity(self, pair: _Pair, model: Model, before: Entry, after: Entry) -> None:
        pk, key = after.get("pk"), after.get("natural_key")
        if (
            not model.has_natural_key
            or "pk" not in before.members
            or "natural_key" in before.members
        ):
            pair.same("pk", before.get("pk"), pk)
            pair.same("natural_key", before.get("natural_key"), key, changed="FNK506")
            self._note_natural_key(pair, before)
            return
        expected = self._own_key(before)
        if key is MISSING and pk is not MISSING:
            pair.same("pk", before.get("pk"), pk)
            pair.find("FNK508", "pk", before.get("pk"), pk, what="the pk was left as it is")
            return
        self._note_style(pair, key is not MISSING)
        if expected is None or (key is not MISSING and key != expected):
            pair.find("FNK506", "natural_key", before.get("pk"), key, expected=expected or MISSING)
        elif self._is_unique(before.label, expected):
            self._model(before.label).keys += 1
        else:
            pair.find("FNK505", "natural_key", before.get("pk"), expected)
        self._compare_kept_pk(pair, model, before, after)

    def _note_style(self, pair: _Pair, has_key: bool) -> None:
        what = "a natural key beside others without" if has_key else "the natural key was lost"
        style: Style = "fastnk" if has_key else "django"
        self._styles.note(style, pair, "FNK507", "natural_key", MISSING, MISSING, what)

    def _compare_kept_pk(self, pair: _Pair, model: Model, before: Entry, after: Entry) -> None:
        """Of a record that has a natural key now: whether its pk may go, or has to stay."""
        pk = after.get("pk")
        if model.keep_pk or pk is not MISSING:
            pair.same("pk", before.get("pk") if model.keep_pk else MISSING, pk)
        elif before.get("pk") is not None and self._says_something(
            model, "natural_key" in after.members
        ):
            pair.find(
                "FNK507", "pk", before.get("pk"), what="the pk was lost, and it says something"
            )

    def _says_something(self, model: Model, has_key: bool) -> bool:
        """Whether a record without its pk does not say any more what the pk said."""
        relation = model.relations.get(model.pk)
        if relation is None:
            return _is_pk_in_key(model) and not has_key
        if relation.parent_link or self._is_keyed(relation.to):
            return False  # it is a reference, and compared as one
        return not (_is_pk_in_key(model) and has_key)

    def _is_unique(self, label: str, key: list[Any]) -> bool:
        converted = self._converted_keys.setdefault(label, set())
        digest = _digest(key)
        unique = digest not in converted and digest not in self._natural_keys.get(label, ())
        converted.add(digest)
        return unique

    def _note_natural_key(self, pair: _Pair, before: Entry) -> None:
        """A record that was natural already: no converted one may have its key."""
        key = self._own_key(before)
        if key is None or _has_null(key):
            return
        digest = _digest(key)
        self._natural_keys.setdefault(before.label, set()).add(digest)
        if digest in self._converted_keys.get(before.label, ()):
            pair.find("FNK505", "natural_key", key)

    # -- fields --

    def _compare_fields(self, pair: _Pair, model: Model, before: Entry, after: Entry) -> None:
        for name, value in before.fields.items():
            now = after.fields.get(name, MISSING)
            target = self._targets[before.label].get(name)
            paths = self._paths[before.label].get(name)
            if now is MISSING or (target is None and paths is None):
                pair.same(name, value, now)
            elif paths is not None:
                self._compare_inside(pair, name, paths, value, now)
            elif target is not None and model.relations[name].many and isinstance(value, list):
                self._compare_many(pair, name, target, value, now)
            elif target is not None:
                self._compare_one(pair, name, target, value, now)
        link = self._compare_parent_link(pair, model, before, after)
        for name in after.fields.keys() - before.fields.keys() - {link}:
            pair.same(name, MISSING, after.fields[name])

    def _is_keyed(self, label: str) -> bool:
        model = self._schema.models.get(label)
        return model is not None and model.has_natural_key

    def _target(self, label: str, name: str, relation: Relation) -> _Target | None:
        """What the ids in a relation refer to; `None` where they stay ids."""
        if relation.natural_key is not None or relation.natural_key_method is not None:
            return _Target(relation.to, relation.to_field, (label, name))
        return _Target(relation.to, relation.to_field) if self._is_keyed(relation.to) else None

    def _compare_parent_link(
        self, pair: _Pair, model: Model, before: Entry, after: Entry
    ) -> str | None:
        """The link to the parent, which the backup holds only as the pk; its name."""
        relation = model.relations.get(model.pk)
        pk, name = before.members.get("pk"), model.pk
        stated = "natural_key" in before.members or name in before.fields
        if relation is None or not relation.parent_link or pk is None or stated:
            return None
        now = after.fields.get(name, MISSING)
        target = self._targets[before.label].get(name)
        if now is MISSING:
            if target is not None and "pk" in after.members:
                pair.find("FNK508", name, pk, what="the link to the parent is only an id")
            elif "pk" not in after.members:
                pair.find("FNK509", name, pk, what="the link to the parent was lost")
        elif target is not None:
            self._compare_one(pair, name, target, pk, now)
        else:
            pair.same(name, pk, now)
        return name

    def _compare_many(
        self, pair: _Pair, name: str, target: _Target, values: list[Any], now: Any
    ) -> None:
        if not isinstance(now, list):
            pair.find("FNK509" if now is None else "FNK504", name, values, now)
            return
        if len(now) == len(values):
            for value, one in zip(values, now, strict=True):
                self._compare_one(pair, name, target, value, one)
            return
        rest = deque(now)
        for value in values:
            if rest and rest[0] in [value, *self._possible_keys(target, value)]:
                self._compare_one(pair, name, target, value, rest.popleft())
            else:
                pair.find("FNK509", name, value)
        for one in rest:
            pair.find("FNK504", name, MISSING, one, what="a reference was added")

    def _possible_keys(self, target: _Target, value: Any) -> list[Any]:
        """What may stand for an id, in one style or the other."""
        if _id(value) is None:
            return []
        targets = {target, target._replace(proxy=None)}
        return [key for one in targets if (key := self._rows.find(one, value)[0]) is not None]

    def _compare_one(self, pair: _Pair, name: str, target: _Target, value: Any, now: Any) -> None:
        """One reference, before and now."""
        if _id(value) is None:  # null, or natural already
            if now != value:
                pair.find("FNK509" if now is None else "FNK504", name, value, now)
            return
        if target.proxy is not None:
            self._compare_by_proxy(pair, name, target, value, now)
            return
        key, doubt = self._rows.find(target, value)
        what = None if doubt is None else doubt.what
        if now is None:
            pair.find("FNK509", name, value, now, what=what)
        elif now == value:
            pair.find("FNK508", name, value, now, what=what)
        elif key is None or now != key:
            pair.find(
                "FNK504", name, value, now, what=what, expected=MISSING if key is None else key
            )
        elif doubt is not None:
            pair.find(doubt.code, name, value, now)
        else:
            self._model(pair.label).references += 1

    def _compare_by_proxy(
        self, pair: _Pair, name: str, target: _Target, value: Any, now: Any
    ) -> None:
        """One reference through a proxy: in style django it holds the key of the proxy, in style
        fastnk that of the record itself, or its id where it has none."""
        own = target._replace(proxy=None)
        keyed = self._is_keyed(own.label)
        key, doubt = self._rows.find(target, value)
        of_record = self._rows.find(own, value)[0] if keyed else value
        if key is not None and now == key != of_record:
            what = "a proxy's key beside keys of the records themselves"
            self._styles.note("django", pair, "FNK504", name, value, now, what)
            if doubt is not None:
                pair.find(doubt.code, name, value, now)
            else:
                self._model(pair.label).references += 1
            return
        if of_record is not None and now == of_record != key:
            code, what = "FNK504", "a record's own key beside keys of proxies"
            if not keyed:
                code, what = "FNK508", CODES["FNK508"] if doubt is None else doubt.what
            self._styles.note("fastnk", pair, code, name, value, now, what)
        if keyed:
            self._compare_one(pair, name, own, value, now)
        elif now != value:
            expected = MISSING if key is None else key
            pair.find("FNK509" if now is None else "FNK504", name, value, now, expected=expected)

    # -- ids inside fields --

    def _compare_inside(self, pair: _Pair, name: str, paths: _Paths, value: Any, now: Any) -> None:
        """A field with ids inside. What is none of them has to be as it was."""
        if not isinstance(value, str):
            references = _references_inside(paths, value, now)
        elif not isinstance(now, str):
            references = None
        elif paths.steps:
            references = self._references_in_text(pair, name, paths, value, now)
        elif value == "" or _list_in_text(value) is not None:
            references = [] if now == value else None
        else:
            key = None if now == value else _list_in_text(now)
            references = [(paths, value, now if key is None else key)]
        if references is None:
            pair.same(name, value, now)
            return
        for end, id_, key in references:
            assert end.target is not None
            self._compare_one(pair, end.name, end.target, id_, key)

    def _references_in_text(
        self, pair: _Pair, name: str, paths: _Paths, value: str, now: str
    ) -> list[_Reached] | None:
        """The ids in a text with JSON, and what stands for them; `None` where another character
        changed."""
        ids = [] if value == "" else _ids_in_text(value, paths)
        if ids is None:
            if now != value:
                return None
            pair.find("FNK508", name, value, now, what="the text is not JSON: no id can be told")
            return []
        references: list[_Reached] = []
        at = done = 0
        for one in ids:
            between = value[done : one.start]
            if not now.startswith(between, at):
                return None
            try:
                key, at = _DECODER.raw_decode(now, at + len(between))
            except json.JSONDecodeError:
                return None
            references.append((one.paths, one.id, key))
            done = one.end
        return references if now[at:] == value[done:] else None

    # -- references beside the fields --

    def _compare_references(self, pair: _Pair, model: Model, before: Entry, after: Entry) -> None:
        now = after.get("references")
        if "references" in before.members:
            pair.same("references", before.get("references"), now)
            return
        held = now if isinstance(now, dict) else {}
        if now is not MISSING and not isinstance(now, dict):
            pair.same("references", MISSING, now)
        expected = {
            **self._pk_reference(model, before, after),
            **self._generic_references(model, before),
        }
        for name, reference in expected.items():
            if name in held and reference.to is not None:
                self._compare_one(pair, name, _Target(reference.to), reference.id, held[name])
            elif name in held:
                pair.find("FNK504", name, reference.id, held[name], what=reference.absent.what)
            else:
                pair.find(reference.absent.code, name, reference.id, what=reference.absent.what)
        for name in held.keys() - expected.keys():
            pair.find("FNK507", f"references.{name}", MISSING, held[name])

    def _pk_reference(self, model: Model, before: Entry, after: Entry) -> dict[str, _Reference]:
        """A pk that is a foreign key."""
        relation = model.relations.get(model.pk)
        pk = before.members.get("pk")
        if relation is None or relation.parent_link or not self._is_keyed(relation.to):
            return {}
        if pk is None or "natural_key" in before.members:
            return {}
        absent = Doubt("FNK509", "the pk is a reference, and was lost")
        if "pk" in after.members:
            absent = Doubt("FNK508", "the pk is a reference, and only an id")
        return {model.pk: _Reference(relation.to, pk, absent)}

    def _generic_references(self, model: Model, before: Entry) -> dict[str, _Reference]:
        found = {}
        for generic in model.generic_relations.values():
            type_ = before.fields.get(generic.content_type or generic.label or "")
            id_ = before.fields.get(generic.object_id)
            if type_ is None or id_ is None or isinstance(id_, list):
                continue
            label = self._rows.generic_target(before.label, generic, type_)
            if label is None:
                absent = Doubt("FNK508", "no record has this content type, or the schema lacks it")
                found[generic.object_id] = _Reference(None, id_, absent)
            elif self._is_keyed(label):
                doubt = self._rows.find(_Target(label), id_)[1]
                absent = Doubt("FNK508", CODES["FNK508"] if doubt is None else doubt.what)
                found[generic.object_id] = _Reference(label, id_, absent)
        return found


_Reached = tuple[_Paths, Any, Any]
"""Where paths have ended inside a field: at which id, and what stands there now."""


def _references_inside(paths: _Paths, value: Any, now: Any) -> list[_Reached] | None:
    """The ids in a JSON value, and what stands for them; `None` where anything else changed."""
    found: list[_Reached] = []
    return found if _match(paths, value, now, found) else None


def _match(paths: _Paths, value: Any, now: Any, found: list[_Reached]) -> bool:
    if isinstance(value, dict) and paths.steps:
        if not isinstance(now, dict):
            return False
        old, new = _groups(value), _groups(now)
        return old.keys() == new.keys() and all(
            _match_all(paths.of_member(name), old[name], new[name], found) for name in old
        )
    if isinstance(value, list) and paths.steps:
        return isinstance(now, list) and _match_all(paths.of_elements(), value, now, found)
    if paths.target is not None and _may_be_id(value):
        found.append((paths, value, now))
        return True
    return bool(value == now)


def _match_all(
    paths: _Paths | None, values: list[Any], news: list[Any], found: list[_Reached]
) -> bool:
    return len(values) == len(news) and all(
        _match(paths or _NO_PATHS, value, now, found)
        for value, now in zip(values, news, strict=True)
    )


class _Reference(NamedTuple):
    """What should stand beside `fields`."""

    to: str | None
    """The model, where it can be told."""
    id: Any
    absent: Doubt
    """What it means when it does not stand there."""


def _is_pk_in_key(model: Model) -> bool:
    paths = [parse_path(part) for part in flat_parts(model.natural_key or [])]
    return any(not path.hops and path.field in ("pk", model.pk) for path in paths)


def _order(one: Difference) -> tuple[float, float]:
    first = one.converted_record if one.record is None else one.record
    return first or 0, one.converted_record or 0


_Kind = tuple[str, str]
"""Differences of one model with one code."""


class _Findings:
    """All differences are counted, the first ones kept."""

    def __init__(self) -> None:
        self.kept: list[Difference] = []
        self.total = 0
        self.by_code: Counter[str] = Counter()
        self.by_model: Counter[str] = Counter()

    def add_all(self, first: list[Difference], counts: Counter[_Kind]) -> None:
        """Several, of which only the first are at hand."""
        for one in first:
            self.add(one)
        more = counts - Counter((one.model, one.code) for one in first)
        for (model, code), count in more.items():
            self.total += count
            self.by_model[model] += count
            self.by_code[code] += count

    def add(self, difference: Difference) -> None:
        self.total += 1
        self.by_code[difference.code] += 1
        self.by_model[difference.model] += 1
        if len(self.kept) < MAX_KEPT:
            self.kept.append(difference)


class _Pair:
    """A record before and after; finds differences between them."""

    def __init__(self, before: Entry | None, after: Entry | None, findings: _Findings) -> None:
        self._before = before
        self._after = after
        self._findings = findings
        one = before or after
        assert one is not None
        self.label = one.label

    def find(
        self,
        code: str,
        field: str | None = None,
        value: Any = MISSING,
        now: Any = MISSING,
        *,
        what: str | None = None,
        expected: Any = MISSING,
    ) -> None:
        self._findings.add(self.difference(code, field, value, now, what, expected))

    def difference(
        self, code: str, field: str | None, value: Any, now: Any, what: str | None, expected: Any
    ) -> Difference:
        before, after = self._before, self._after
        pk = None if before is None else before.members.get("pk")
        return Difference(
            code=code,
            what=what or CODES[code],
            model=_encodable(self.label),
            pk=None if pk is None else _encodable(_id(pk) or _spelled(pk)),
            field=None if field is None else _encodable(field),
            record=None if before is None else before.number,
            offset=None if before is None else before.offset,
            converted_record=None if after is None else after.number,
            converted_offset=None if after is None else after.offset,
            value=_shown(value),
            converted_value=_shown(now),
            expected=_shown(expected),
        )

    def same(self, name: str, value: Any, now: Any, *, changed: str = "FNK503") -> None:
        """A member that has to be as it was, or not to be at all."""
        if value is MISSING or now is MISSING:
            if value is not now:
                what = "a member was lost" if now is MISSING else "a member was added"
                self.find("FNK507", name, value, now, what=what)
        elif value != now:
            self.find(changed, name, value, now)

    def repeated(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Members that stand twice: what does not count has to stay too, but for a pk."""
        old = before.earlier() if isinstance(before, Repeated) else {}
        new = after.earlier() if isinstance(after, Repeated) else {}
        for name in (old.keys() | new.keys()) - {"pk"}:
            self.same(name, old.get(name, MISSING), new.get(name, MISSING))


class _Styles:
    """A conversion has one style: a record in the other one has lost or gained its key."""

    def __init__(self) -> None:
        self._counts: dict[Style, Counter[_Kind]] = {"fastnk": Counter(), "django": Counter()}
        self._first: dict[Style, list[Difference]] = {"fastnk": [], "django": []}

    def note(
        self, style: Style, pair: _Pair, code: str, field: str, value: Any, now: Any, what: str
    ) -> None:
        """Something in this style; the rest says what is wrong with it beside the other one."""
        self._counts[style][pair.label, code] += 1
        if len(self._first[style]) < MAX_OF_OTHER_STYLE:
            self._first[style].append(pair.difference(code, field, value, now, what, MISSING))

    def most(self) -> Style | None:
        fastnk, django = (counts.total() for counts in self._counts.values())
        if not fastnk and not django:
            return None
        return "fastnk" if fastnk >= django else "django"

    def judge(self, findings: _Findings) -> None:
        """Report what is in the style of the fewer."""
        other: Style = "django" if self.most() == "fastnk" else "fastnk"
        findings.add_all(self._first[other], self._counts[other])
