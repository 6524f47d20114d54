"""The records of a backup, one after the other, as detection wants them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal, NamedTuple

from fastnk._core import DEFAULT_MAX_RECORD, Splitter
from fastnk.decoding import MAX_DIGITS, members_of
from fastnk.errors import BackupSyntaxError, Place
from fastnk.schema import plain_label

Shape = Literal["array", "jsonl"]

BEGINNING = 1 << 20
"""Bytes of a record without an end that are looked at."""


class Record(NamedTuple):
    """What detection wants to know of a record."""

    model: str
    pk: Any
    """`None` for no pk."""
    has_natural_key: bool
    fields: Mapping[str, Any]


class RecordReader:
    """Finds the records of a backup, or of the head of one, that arrives in chunks."""

    def __init__(self, name: str | None, max_record: int = DEFAULT_MAX_RECORD) -> None:
        self.count = 0
        self.offset = 0
        """How many bytes were read."""
        self._name = name
        self._splitter = Splitter(name, max_record)
        self._held = bytearray()
        """What was read behind the last whole record, or since the last look for one."""
        self._at = 0
        """Where in that the record begins that was given last."""
        self._ending: BackupSyntaxError | None = None
        """Why a backup may not end as this one does."""

    @property
    def shape(self) -> Shape:
        return "array" if self._splitter.is_array else "jsonl"

    def records(self, chunks: Iterable[bytes]) -> Iterator[Record]:
        """The whole records in `chunks`. Raises `BackupSyntaxError`."""
        for chunk in chunks:
            self._held += chunk
            self.offset += len(chunk)
            try:
                self._splitter.feed(chunk)
            finally:  # what is wrong with a record comes before what is wrong behind it
                yield from self._found()
        try:
            self._splitter.finish()
        except BackupSyntaxError as error:
            if error.code not in ("FNK201", "FNK202", "FNK205"):
                raise
            self._ending = error
        finally:
            yield from self._found()

    def _found(self) -> Iterator[Record]:
        end = 0
        for text in self._splitter.take():
            self._at = self._held.index(b"{", end)  # white space and a comma are in front of it
            end = self._at + len(text)
            record = members_of(text, self.place())
            has_natural_key = record.natural_key is not None
            yield Record(plain_label(record.model), record.pk, has_natural_key, record.fields)
            self.count += 1
        del self._held[: self._splitter.consumed - self._held_from]

    @property
    def _held_from(self) -> int:
        return self.offset - len(self._held)

    def place(self) -> Place:
        """Of the record that `records` gave last, as long as no further one is taken."""
        return Place(self._name, self._held_from + self._at, self.count + 1)

    def finish(self, read_all: bool) -> int | None:
        """Where the backup is cut off, if it is; to be called after all records.

        Raises `BackupSyntaxError` when there is nothing to judge by.
        """
        if not (self.count or self.beginning):
            if read_all and self._ending is not None:
                raise self._ending
            raise BackupSyntaxError(
                f"no record ends in the first {self.offset:,} bytes",
                code="FNK202",
                place=Place(self._name, self._held_from),
                remedy="read all of it: --full, or full=True",
            )
        is_cut_off = read_all and self._ending is not None
        return self.offset if is_cut_off else None

    @cached_property
    def beginning(self) -> Record | None:
        """What is known of the record that was not read to its end, if that tells something; to be
        asked after all records."""
        return _beginning(bytes(self._held[:BEGINNING]))


_NESTING = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}
_LONG_NUMBER = re.compile(rb"\d{%d}" % MAX_DIGITS)
"""What ijson gives of integers that Python does not read is damaged."""


def _beginning(text: bytes) -> Record | None:
    """The record that a text begins with, if that much of it tells which format it is of.

    Django writes a pk before `fields`: with fields but no pk so far, there is none.
    """
    members, depth = _members(text)
    model, pk, fields = members.get("model"), members.get("pk"), members.get("fields")
    has_natural_key = members.get("natural_key") is not None
    if not isinstance(fields, dict):
        if not has_natural_key and pk is None:
            return None
        fields = {}
    elif depth > 2 and next(reversed(members)) == "fields":
        fields.popitem()  # of which only a part was read
    return Record(plain_label(model), pk, has_natural_key, fields) if type(model) is str else None


def _members(text: bytes) -> tuple[dict[str, Any], int]:
    """The members of the record that a text begins with, as far as it goes or ijson reads it, and
    how many of its containers are open in the end."""
    # Late, because most backups show a whole record.
    import ijson

    long = _LONG_NUMBER.search(text)
    events: list[tuple[str, Any]] = ijson.sendable_list()
    parser = ijson.basic_parse_coro(events)
    # What it does not read: NaN, halves of surrogate pairs, numbers beyond all bounds.
    with contextlib.suppress(ijson.JSONError, ValueError, ArithmeticError):
        parser.send(text[: long.start()] if long else text)
    builder = ijson.ObjectBuilder()
    depth = 0
    for event, value in events:
        builder.event(event, value)
        depth += _NESTING.get(event, 0)
    # Its backend in Python does this when it is collected, and complains aloud.
    with contextlib.suppress(ijson.JSONError):
        parser.close()
    return builder.value if events else {}, depth
