"""Single records decoded in Python, those too that Python writes and msgspec does not read."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator

import msgspec

from fastnk.errors import MAX_DEPTH
from fastnk.schema import plain_label


class _Label(msgspec.Struct):
    """All that most records are asked for."""

    model: str


_LABEL = msgspec.json.Decoder(_Label)


def label_of(record: bytes) -> str:
    """The label of a record's model, as Django reads it."""
    try:
        label = _LABEL.decode(record).model
    except (msgspec.DecodeError, RecursionError):
        # NaN, half a pair of surrogates, and nesting deeper than the usual limit.
        with deep_nesting():
            label = str(json.loads(record)["model"])
    return plain_label(label)


@contextlib.contextmanager
def deep_nesting() -> Iterator[None]:
    """Python's own limit does not stand in the way of what the core lets through."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 2 * MAX_DEPTH)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
