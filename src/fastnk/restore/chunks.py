"""The records of a converted backup as the loader reads them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from fastnk._core import Splitter
from fastnk.source.losses import PUNCTUATION, SPACE

EDGE = 64
"""Bytes in which the punctuation around the records of a block ends, but for pages of blanks."""


def read_chunks(blocks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The records of a converted backup, in JSON arrays; no record reaches from one of the blocks
    into the next.

    Raises `BackupSyntaxError`.
    """
    rest = iter(blocks)
    first = next(filter(None, (bytes(block).strip(SPACE) for block in rest)), b"")
    blocks = itertools.chain([first], rest)
    if first.startswith(b"["):
        yield from filter(None, map(_array_of, blocks))
        return
    splitter = Splitter()
    for text in filter(None, (bytes(block).strip(SPACE) for block in blocks)):
        splitter.feed(text)
        yield splitter.take_array()
    splitter.finish()
    if splitter.waiting:
        yield splitter.take_array()


def _array_of(block: bytes | memoryview) -> bytes:
    """The records of a block of an array, in one of their own; nothing where there are none.

    They are copied but once, since that is a good part of what reading them takes.
    """
    head, tail = bytes(block[:EDGE]), bytes(block[-EDGE:])
    start, end = len(head) - len(head.lstrip(PUNCTUATION)), len(tail.rstrip(PUNCTUATION))
    if start < len(head) and end:
        return b"".join((b"[", block[start : len(block) - len(tail) + end], b"]"))
    records = bytes(block).strip(PUNCTUATION)
    return b"[%b]" % records if records else b""
