"""Single records decoded in Python, those too that Python writes and msgspec does not read."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from fastnk.errors import A_RECORD, MAX_DEPTH, WRONG_MEMBERS, BackupSyntaxError, Place
from fastnk.schema import plain_label

MAX_DIGITS = 4_300
"""Longer integers are not read by Python, which would take quadratic time."""


class Label(msgspec.Struct):
    """All that most records are asked for."""

    model: str


class Members(Label):
    """The members of a record."""

    fields: dict[str, Any]
    pk: Any = None
    natural_key: Any = None


_LABEL = msgspec.json.Decoder(Label)
_MEMBERS = msgspec.json.Decoder(Members)

T = TypeVar("T")


def label_of(record: bytes) -> str:
    """The label of a record's model, as Django reads it."""
    return plain_label(read(_LABEL, record).model)


def members_of(record: bytes, place: Place) -> Members:
    """A record, at a place to be named should it be none. Raises `BackupSyntaxError`."""
    try:
        return read(_MEMBERS, record)
    except (msgspec.ValidationError, UnicodeEncodeError):  # half a surrogate pair in its place
        members = _as_python(record)
    label = members.get("model")
    name = "fields" if isinstance(label, str) else "model"
    what = WRONG_MEMBERS[name][name in members]
    place = place._replace(model=label if isinstance(label, str) else None)
    raise BackupSyntaxError(what, code="FNK204", place=place, remedy=A_RECORD)


def read(decoder: msgspec.json.Decoder[T], record: bytes) -> T:
    """A record of that kind. Of integers beyond `MAX_DIGITS` only the first digits are read. Raises
    `msgspec.ValidationError`."""
    try:
        return decoder.decode(record)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.convert(_as_python(record), decoder.type)


def _as_python(record: bytes) -> dict[str, Any]:
    """A record with what msgspec does not read: NaN, half a pair of surrogates, numbers of any
    length, nesting deeper than the usual limit."""
    with deep_nesting():
        members: dict[str, Any] = _DECODER.decode(record.decode())
        return members


def _integer(digits: str) -> int:
    return int(digits[:MAX_DIGITS])


_DECODER = json.JSONDecoder(parse_int=_integer)


@contextlib.contextmanager
def deep_nesting() -> Iterator[None]:
    """Python's own limit does not stand in the way of what the core lets through."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 2 * MAX_DEPTH)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
