"""New rows made ready by a process of its own, while this one gives them to the database.

It is for databases that do their work inside this process, as SQLite does: that work and Python's
would take turns.
"""

from __future__ import annotations

import io
import marshal
import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from mmap import mmap
from typing import Any

from fastnk.django.restore.processes import other_process
from fastnk.django.restore.streams import Columns, Rows
from fastnk.processes import Ends
from fastnk.progress import Teller

FEWEST_ROWS = 10_000
"""Fewer new rows are made in less time than another process saves."""

SHELVES, SHELF = 24, 1 << 20
"""Places for batches in memory that both see, and bytes of each. So many the other process may be
ahead: rows of some models take longer to make than to write, and those of others not so long. What
is larger, or small, goes through the pipe."""

SMALL = 1 << 12

_MARSHALLED, _PICKLED, _ON_A_SHELF = b"m", b"p", b"s"


def make_ahead(make: Callable[[Rows], None], rows: Rows, teller: Teller) -> None:
    """Have another process do `make`, and give to `rows` what it writes.

    It has to write the same each time. `teller` is told what it would have been told here.
    """
    done = 0

    def write(*arguments: Any) -> None:
        nonlocal done
        rows.write(*arguments)
        done += 1

    with (
        mmap(-1, SHELVES * SHELF) as shelves,
        other_process(partial(_work, make, teller, shelves)) as here,
    ):
        is_whole = _obey(here, shelves, {"write": write, **teller.orders})
    if not is_whole:
        make(_Rest(rows, done))


class _Rest:
    """Passes on rows, but not those that are written already."""

    def __init__(self, rows: Rows, done: int) -> None:
        self._rows = rows
        self._done = done

    def write(self, path: str, table: str, names: Sequence[str], columns: Columns) -> None:
        if self._done:
            self._done -= 1
        else:
            self._rows.write(path, table, names, columns)

    def end(self) -> None:
        self._rows.end()


class _Sent:
    """Sends rows to the process that writes them."""

    def __init__(self, order: Callable[..., None]) -> None:
        self._order = order

    def write(self, path: str, table: str, names: Sequence[str], columns: Columns) -> None:
        self._order("write", path, table, names, [*map(list, columns)])

    def end(self) -> None:
        pass


def _work(make: Callable[[Rows], None], teller: Teller, shelves: mmap, there: Ends) -> None:
    def order(*words: Any) -> None:
        message = _packed(words)
        if SMALL < len(message) <= SHELF:
            start = there.receiver.recv()  # of a free one
            end = start + len(message)
            shelves[start:end] = message
            message = _ON_A_SHELF + marshal.dumps((start, end))
        there.sender.send_bytes(message)

    teller.pass_on(order)
    make(_Sent(order))
    order("end")


def _obey(here: Ends, shelves: mmap, orders: dict[str, Callable[..., None]]) -> bool:
    """Do what the other process says; whether it came to its end."""
    for start in range(0, len(shelves), SHELF):
        _give(here, start)
    while True:
        try:
            name, *arguments = _received(here, shelves)
        except (EOFError, OSError):
            return False
        if name == "end":
            return True
        orders[name](*arguments)


def _received(here: Ends, shelves: mmap) -> Any:
    message = here.receiver.recv_bytes()
    if message[:1] != _ON_A_SHELF:
        return _unpacked(message)
    start, end = marshal.loads(message[1:])
    words = _unpacked(shelves[start:end])
    _give(here, start)
    return words


def _give(here: Ends, shelf: int) -> None:
    """Tell the other process of a free shelf, if it still needs one."""
    with suppress(OSError):
        here.sender.send(shelf)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        """Bytes, as Django wraps them for drivers, which take them either way."""
        return (bytes, (bytes(value),)) if isinstance(value, memoryview) else NotImplemented


def _packed(words: tuple[Any, ...]) -> bytes:
    try:
        return _MARSHALLED + marshal.dumps(words)  # in half the time, plain values only
    except ValueError:
        pickled = io.BytesIO()
        _Pickler(pickled).dump(words)
        return _PICKLED + pickled.getvalue()


def _unpacked(message: bytes) -> Any:
    load = marshal.loads if message[:1] == _MARSHALLED else pickle.loads
    return load(memoryview(message)[1:])
