"""How much goes into a statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def fitting(
    items: Iterable[T], size: int, limit: int | None, length: Callable[[T], int]
) -> Iterator[list[T]]:
    """`items` in lists of at most `size` whose lengths together are at most `limit`, or of one."""
    for chunk in chunks(items, size):
        if limit is None:
            yield chunk
            continue
        start = together = 0
        for at, longer in enumerate(map(length, chunk)):
            if at > start and together + longer > limit:
                yield chunk[start:at]
                start, together = at, 0
            together += longer
        yield chunk[start:]


def length_of(value: Any) -> int:
    """How many bytes a value has at most in a statement, but for escapes."""
    if isinstance(value, bytes | memoryview):
        return len(bytes(value))
    return len(str(value).encode(errors="replace"))
