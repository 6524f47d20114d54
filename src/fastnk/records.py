"""The records of a backup of unknown quality, one after the other, through ijson.

Made for heads of files: it takes what Django writes and names the place of whatever is wrong, but
it makes Python objects of every record.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from decimal import Context, localcontext
from typing import Any, Literal, NamedTuple

import ijson

from fastnk._core import DEFAULT_MAX_RECORD
from fastnk.errors import (
    NAME_THE_ENCODING,
    RECORD_DEPTH,
    BackupSyntaxError,
    Place,
    shorten,
    too_deep,
)
from fastnk.schema import plain_label

Shape = Literal["array", "jsonl"]


class Record(NamedTuple):
    """What detection wants to know of a record."""

    model: str
    pk: Any
    """`None` for no pk."""
    has_natural_key: bool
    fields: Mapping[str, Any]


PARSE_ERRORS = (ijson.JSONError, ValueError)
"""What ijson raises for what is not JSON."""
_ANY_EXPONENT = Context(traps=[])
"""In which a number with an exponent beyond all bounds is some number, and no error."""

SPACE = b" \t\r\n"
MEMBERS = ("model", "pk", "natural_key", "fields")
KEPT_BYTES = 1 << 20
"""How much of one record is kept to find the exact place of a fault in it; in a larger record
the place is that of the piece that holds the fault."""

WHAT_IT_SHOULD_BE = "give it a JSON list of records as dumpdata writes it, or one record per line"
TAKE_IT_AGAIN = "take the backup again, into a file of its own: manage.py dumpdata -o backup.json"


class RecordReader:
    """Finds the records of a backup that arrives in chunks, and the place of whatever is wrong.

    Only the plain events of ijson are used: its ready-made objects take quadratic memory for
    deeply nested values.
    """

    def __init__(self, name: str | None, max_record: int = DEFAULT_MAX_RECORD) -> None:
        self.shape: Shape = "array"
        self.count = 0
        self.offset = 0
        """How many bytes were parsed."""
        self._name = name
        self._max_record = max_record
        self._parser: Any = None
        self._events: list[tuple[str, Any]] = ijson.sendable_list()
        self._builder = _RecordBuilder()
        self._start = b""
        """The first chunk, from its first character on."""
        self._start_offset = 0
        self._since = bytearray()
        """What followed the last whole record, or the beginning of that."""
        self._since_is_whole = True
        self._since_offset = 0

    def records(self, chunks: Iterable[bytes]) -> Iterator[Record]:
        """The whole records in `chunks`. Raises `BackupSyntaxError`."""
        for piece in _pieces(self._opened(chunks)):
            if self._is_space_between(piece):
                continue
            self._parse(piece)
            self._build()
            record = self._builder.take()
            if record is not None:
                yield self._checked(record)
                self.count += 1
                self._since.clear()
                self._since_is_whole = True
                self._since_offset = self.offset

    def finish(self, read_all: bool) -> int | None:
        """Where the backup is cut off, if it is; to be called after all records.

        Raises `BackupSyntaxError` when there is nothing to judge by.
        """
        cut_off_at = self.offset if read_all and self._is_cut_off() else None
        if self.count or self._builder.tells_something():
            return cut_off_at
        if not read_all:
            raise self._error(
                "FNK202",
                f"no record ends in the first {self.offset:,} bytes",
                self._since_offset,
                "read all of it: --full, or full=True",
            )
        if self._parser is None:
            raise self._error("FNK201", "the backup is empty", 0, TAKE_IT_AGAIN)
        if cut_off_at is not None:
            what = "the backup is cut off before anything can be told of its first record"
            raise self._error("FNK205", what, cut_off_at, TAKE_IT_AGAIN)
        raise self._error(
            "FNK202", "the backup holds no records", self._start_offset, TAKE_IT_AGAIN
        )

    def beginning(self) -> Record:
        """The record that was not read to its end, with what is known of it."""
        return self._builder.unfinished()

    def place(self) -> Place:
        """Of the record that `records` gave last, as long as no further one is taken."""
        return Place(self._name, self._record_offset(), self.count + 1)

    def _opened(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        given = 0
        for chunk in chunks:
            given += len(chunk)
            if self._parser is not None:
                self._check_size(given)
                yield chunk
                continue
            start = chunk.lstrip(SPACE)
            self.offset += len(chunk) - len(start)
            if start:
                yield self._begin(start)

    def _check_size(self, given: int) -> None:
        if given - self._since_offset > self._max_record:
            what = f"a record is larger than {self._max_record:,} bytes, which is the limit"
            remedy = "is a bracket or a quote missing there? no row of a database is that large"
            raise self._error("FNK208", what, self._since_offset, remedy)

    def _begin(self, start: bytes) -> bytes:
        """Set the parser up by the first character; what is left to be parsed."""
        self._start, self._start_offset, self._since_offset = start, self.offset, self.offset
        if start[:1] == b"{":
            self.shape = "jsonl"
            self._parser = self._new_parser(self._events)
            return start
        if start[:1] != b"[":
            raise self._no_list()
        self._parser = self._new_parser(self._events)
        self._events.clear()
        self.offset += 1
        self._since_offset += 1
        return start[1:]

    def _new_parser(self, events: list[tuple[str, Any]]) -> Any:
        """A parser that stands where a record may begin, or the comma before it."""
        parser = ijson.basic_parse_coro(events, multiple_values=self.shape == "jsonl")
        if self.shape == "array":
            parser.send(b"[{}" if self.count else b"[")
        return parser

    def _is_space_between(self, piece: bytes) -> bool:
        """Whether nothing but white space was added to what stands between two records, which then
        is passed: it may be gigabytes."""
        if self._builder.is_open or piece.strip(SPACE):
            return False
        self.offset += len(piece)
        self._since[:] = self._since.strip(SPACE)
        self._since_offset = self.offset - len(self._since)
        return True

    def _parse(self, piece: bytes) -> None:
        readable = _readable(piece)
        self._keep(readable)
        try:
            _send(self._parser, readable)
        except PARSE_ERRORS as error:
            raise self._syntax_error(piece, error) from None
        self.offset += len(piece)

    def _build(self) -> None:
        is_record = self._builder.feed(self._events)
        self._events.clear()
        if self._builder.deepest > RECORD_DEPTH:
            raise too_deep(Place(self._name, self._too_deep_at()))
        if not is_record:
            what = "a list of something else than records" if self.count == 0 else "not a record"
            raise self._error("FNK203", what, self._record_offset(), WHAT_IT_SHOULD_BE)

    def _keep(self, piece: bytes) -> None:
        self._since_is_whole &= len(self._since) + len(piece) <= KEPT_BYTES
        if self._since_is_whole:
            self._since += piece

    def _checked(self, members: dict[str, Any]) -> Record:
        model, fields = members.get("model"), members.get("fields")
        if isinstance(model, str) and isinstance(fields, dict):
            return _record(members, fields)
        offset = self._record_offset()
        if self.shape == "jsonl" and not self.count and not members:
            what = "an object at the top, not a list of records"
            raise self._error("FNK203", what, offset, WHAT_IT_SHOULD_BE)
        name = "fields" if isinstance(model, str) else "model"
        kind = "an object" if name == "fields" else "a string"
        what = f'"{name}" is not {kind}' if name in members else f'a record without "{name}"'
        label = model if isinstance(model, str) else None
        place = Place(self._name, offset, self.count + 1, label)
        raise BackupSyntaxError(what, code="FNK204", place=place, remedy=WHAT_IT_SHOULD_BE)

    def _is_cut_off(self) -> bool:
        if self._parser is None:
            return False
        try:
            with localcontext(_ANY_EXPONENT):
                self._parser.close()
        except PARSE_ERRORS:
            return True
        self._build()
        return False

    def _record_offset(self) -> int:
        """Where what follows the last record begins, without the comma before it."""
        return self._since_offset + len(self._since) - len(self._since.lstrip(SPACE + b","))

    def _error(
        self, code: str, what: str, offset: int, remedy: str | None = None
    ) -> BackupSyntaxError:
        return BackupSyntaxError(what, code=code, place=Place(self._name, offset), remedy=remedy)

    def _syntax_error(self, piece: bytes, error: Exception) -> BackupSyntaxError:
        reason = _reason(error)
        if "UTF8" in reason:
            offset = self._fault(piece)
            return self._error("FNK206", "not UTF-8", offset, NAME_THE_ENCODING)
        if not self.count and (before := self._text_before()) is not None:
            return before
        offset = self._fault(piece)
        seen = piece[offset - self.offset :][:80].decode(errors="replace")
        what = f'not JSON from here on: "{shorten(seen)}" ({reason})'
        return self._error("FNK200", what, offset, TAKE_IT_AGAIN)

    def _fault(self, piece: bytes) -> int:
        """The offset of the character in `piece` that the parser does not take.

        ijson does not tell, so other parsers are given more and less of the same record.
        """
        if not self._since_is_whole:
            return self.offset
        before = len(self._since) - len(piece)
        lengths = range(len(piece))
        taken = bisect_left(lengths, True, key=lambda n: self._is_refused(before + n + 1))
        return self.offset + taken

    def _too_deep_at(self) -> int:
        """The offset of the bracket that is one too many, or of what is known to be before it."""
        depth = 0
        for token in _BRACKET.finditer(self._since):
            depth += (token[0] in b"[{") - (token[0] in b"]}")
            if depth > RECORD_DEPTH:
                return self._since_offset + token.start()
        return self._record_offset()

    def _is_refused(self, length: int) -> bool:
        try:
            _send(self._new_parser(ijson.sendable_list()), bytes(self._since[:length]))
        except PARSE_ERRORS:
            return True
        return False

    def _no_list(self) -> BackupSyntaxError:
        if _SCALAR.fullmatch(self._start):
            what = "a single value, not a list of records"
            return self._error("FNK203", what, self._start_offset, WHAT_IT_SHOULD_BE)
        before = self._text_before()
        if before is not None:
            return before
        what = f'not JSON: it begins with "{self._first_line()}"'
        return self._error("FNK200", what, self._start_offset, WHAT_IT_SHOULD_BE)

    def _text_before(self) -> BackupSyntaxError | None:
        """The error for lines of text, often a log, that stand before the records."""
        begin = _BACKUP_START.search(self._start, 1)
        if begin is None or _BACKUP_START.match(self._start):
            return None
        offset = self._start_offset + begin.start()
        if begin["nothing"] is not None:
            what, remedy = "no records, only text and a bracket", TAKE_IT_AGAIN
        else:
            what, remedy = "text stands before the records", "--salvage"
            if begin[0].lstrip().startswith(b"[") or b"[" not in self._start[: begin.start()]:
                cut = f"tail -c +{offset + 1} BACKUP > CLEAN"
                remedy += f"; or, as they begin at byte {offset} of the plain file: {cut}"
        what = f'{what}: "{self._first_line()}"'
        return self._error("FNK200", what, self._start_offset, remedy)

    def _first_line(self) -> str:
        return shorten(self._start[:400].partition(b"\n")[0].decode(errors="replace"))


_SCALAR = re.compile(
    rb'(?:"(?:[^"\\]++|\\.)*+"|-?\d[\d.eE+-]*|true|false|null|NaN|-?Infinity)\s*', re.DOTALL
)
_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
_BACKUP_START = re.compile(
    rb'^[ \t]*(?:\[\s*(?:\{|(?P<nothing>\Z))|\{\s*"(?:model|pk|fields|natural_key)")', re.MULTILINE
)


def _send(parser: Any, piece: bytes) -> None:
    with localcontext(_ANY_EXPONENT):
        parser.send(piece)


def _reason(error: Exception) -> str:
    message = error.args[0] if error.args else ""
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    return text.partition("\n")[0].rstrip(".") or type(error).__name__


def _record(members: Mapping[str, Any], fields: Mapping[str, Any]) -> Record:
    has_natural_key = members.get("natural_key") is not None
    return Record(plain_label(members["model"]), members.get("pk"), has_natural_key, fields)


class _RecordBuilder:
    """Puts one record together from events. Members that detection does not read are left out."""

    def __init__(self) -> None:
        self._stack: list[dict[str, Any] | list[Any]] = []
        self._key = ""
        self._skipped = 0
        """How many containers are open in a member that is left out."""
        self._whole: dict[str, Any] | None = None
        self.deepest = 0
        """So many containers at most were open at once."""

    @property
    def is_open(self) -> bool:
        """Whether a record was begun."""
        return bool(self._stack)

    def feed(self, events: Iterable[tuple[str, Any]]) -> bool:
        """Take in events; false when they begin something that is not an object."""
        for event, value in events:
            if self._skipped:
                self._skipped += _NESTING.get(event, 0)
                self.deepest = max(self.deepest, 1 + self._skipped)
            elif event == "map_key":
                self._key = value
            elif event == "end_map" or event == "end_array":
                self._close()
            elif event == "start_map":
                self._open({})
            elif not self._stack:
                return False
            elif event == "start_array":
                self._open([])
            else:
                self._put(value)
        return True

    def take(self) -> dict[str, Any] | None:
        """The record that the last event ended, if it did."""
        whole, self._whole = self._whole, None
        return whole

    def tells_something(self) -> bool:
        """Whether a record was begun of which model and format can be told.

        Django writes a pk before `fields`: with fields but no pk so far, there is none.
        """
        members = self._members()
        identified = any(members.get(name) is not None for name in ("pk", "natural_key"))
        told = identified or isinstance(members.get("fields"), dict)
        return isinstance(members.get("model"), str) and told

    def unfinished(self) -> Record:
        """The record begun, without the field that was being read."""
        members = self._members()
        fields = members.get("fields")
        if not isinstance(fields, dict):
            fields = {}
        being_read = self._stack[2] if len(self._stack) > 2 else members
        whole = {name: value for name, value in fields.items() if value is not being_read}
        return _record(members, whole)

    def _members(self) -> dict[str, Any]:
        members = self._stack[0] if self._stack else {}
        return members if isinstance(members, dict) else {}

    def _open(self, container: dict[str, Any] | list[Any]) -> None:
        if self._is_left_out():
            self._skipped = 1
            return
        if self._stack:
            self._put(container)
        self._stack.append(container)
        self.deepest = max(self.deepest, len(self._stack))

    def _close(self) -> None:
        if not self._stack:
            return  # the end of the list of records
        closed = self._stack.pop()
        if not self._stack and isinstance(closed, dict):
            self._whole = closed

    def _put(self, value: Any) -> None:
        parent = self._stack[-1]
        if isinstance(parent, list):
            parent.append(value)
        elif not self._is_left_out():
            parent[self._key] = value

    def _is_left_out(self) -> bool:
        return len(self._stack) == 1 and self._key not in MEMBERS


_NESTING = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}

WORD_BYTES = b"+-.0123456789EINaefinty"
"""What numbers consist of, and what Python writes for those that are none."""


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, cut so that records end only where pieces end, and no token is torn.

    ijson begins anew with a torn token at every piece, which takes quadratic time.
    """
    held: list[bytes] = []
    in_string = after_backslash = False
    for chunk in chunks:
        bare = _ESCAPE.sub(b"__", b"\\" + chunk)[1:] if after_backslash else chunk
        bare = _ESCAPE.sub(b"__", bare) if b"\\" in bare else bare
        after_backslash = bare.endswith(b"\\")
        start = end = counted = 0
        while end := bare.find(b"}", end) + 1:
            in_string ^= _is_odd(bare.count(b'"', counted, end))
            counted = end
            if not in_string:
                yield b"".join((*held, chunk[start:end]))
                held.clear()
                start = end
        in_string ^= _is_odd(bare.count(b'"', counted))
        whole = start if in_string else max(start, len(chunk.rstrip(WORD_BYTES)))
        if whole > start:
            yield b"".join((*held, chunk[start:whole]))
            held.clear()
        if whole < len(chunk):
            held.append(chunk[whole:])
    if held:
        yield b"".join(held)


def _is_odd(count: int) -> bool:
    return count % 2 == 1


def _readable(piece: bytes) -> bytes:
    """`piece` with what ijson does not read replaced, byte for byte, by what it does.

    Python, and so Django, writes halves of surrogate pairs, NaN and infinities; integers of more
    than 4,300 digits crash the C backend. No number matters here but as a pk, and there only that
    it is one. Two control characters, which are blanks to ijson, become one that is an error.
    """
    if b"\v" in piece or b"\f" in piece:
        piece = piece.translate(_NO_BLANKS)
    if b"\\ud" in piece or b"\\uD" in piece:
        piece = _SURROGATES.sub(_without_halves, piece)
    if len(piece) < LARGE_NUMBER and b"NaN" not in piece and b"Infinity" not in piece:
        return piece
    readable = bytearray(piece)
    for match in _UNREADABLE.finditer(piece):
        if match["unreadable"]:
            readable[match.start() : match.end()] = b"0.".ljust(len(match[0]), b"0")
    return bytes(readable)


def _without_halves(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape["half"] else escape[0]


LARGE_NUMBER = 1000
_NO_BLANKS = bytes.maketrans(b"\v\f", b"\0\0")
_SURROGATES = re.compile(
    rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>u[dD][89a-fA-F][\da-fA-F]{2})|.)", re.DOTALL
)
"""Each escape; a pair as one."""
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_UNREADABLE = re.compile(
    rb'"(?:[^"\\]++|\\.)*+"?|[^"\dNI-]++|(?P<unreadable>'
    rb"(?<![\w.+-])(?:NaN|-?Infinity)(?![\w.+-])"
    rb"|(?<![.\deE])(?<![eE][+-])\d{%d,}+(?![.eE]))" % LARGE_NUMBER,
    re.DOTALL,
)
"""What else stands there passes in long strides."""
