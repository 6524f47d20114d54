"""New rows made ready by a process of its own, while this one gives them to the database.

It is for databases that do their work inside this process, as SQLite does: that work and Python's
would take turns. The other process is a fork, so that it knows all that is known by then. It must
not use the connections it inherits, runs no code of the project's fields, and nobody depends on it:
whatever happens to it, this process makes the rest of the rows, and tells what is wrong.
"""

from __future__ import annotations

import fcntl
import io
import marshal
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NoReturn

from fastnk.django.offline import without_databases
from fastnk.django.restore.columns import is_written_directly
from fastnk.django.restore.plan import Plan
from fastnk.django.restore.streams import Columns, Rows
from fastnk.django.restore.values import is_of_django
from fastnk.progress import Teller

FEWEST_ROWS = 10_000
"""Fewer new rows are made in less time than another process saves."""

PIPE_BYTES = 1 << 20
"""What the other process may be ahead by, if the system allows; a batch or two."""

THREADS = Path("/proc/self/task")
"""Where Linux lists them, if /proc is there."""

_PR_SET_PDEATHSIG = 1
"""What Linux calls it."""

_MARSHALLED, _PICKLED = b"m", b"p"


def can_fork() -> bool:
    """Whether this process can be forked without harm: a thread would leave its locks behind, and
    outside of Linux libraries of the system have threads of their own."""
    return sys.platform == "linux" and len([*THREADS.glob("*")]) == 1


def is_made_by_django(plan: Plan) -> bool:
    """Whether Django's own fields make all that is written into the tables of a model."""
    models = [plan.model, *(many.through for many in plan.many.values())]
    fields = [field for model in models for field in model._meta.concrete_fields]
    return all(map(is_written_directly, models)) and all(map(_is_made_by_django, fields))


def _is_made_by_django(field: Any) -> bool:
    while field.remote_field:
        field = field.target_field
    return is_of_django(field)


def make_ahead(make: Callable[[Rows], None], rows: Rows, teller: Teller) -> None:
    """Have another process do `make`, and give to `rows` what it writes.

    It has to write the same each time. `teller` is told what it would have been told here.
    """
    done = 0

    def write(*arguments: Any) -> None:
        nonlocal done
        rows.write(*arguments)
        done += 1

    with _other_process(make, teller) as messages:
        is_whole = _obey(messages, {"write": write, **teller.orders})
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


@contextmanager
def _other_process(make: Callable[[Rows], None], teller: Teller) -> Iterator[Connection]:
    """A process that does `make`; what it has to say can be received."""
    receiver, sender = Pipe(duplex=False)
    parent = os.getpid()
    process = _forked()
    if process == 0:
        receiver.close()
        _work(make, sender, teller, parent)
    sender.close()
    try:
        with receiver:
            yield receiver
    finally:
        if process is not None:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)


def _forked() -> int | None:
    """0 in the other process, its number in this one; `None` if the system has no room for it."""
    try:
        return os.fork()
    except OSError:
        return None


def _work(
    make: Callable[[Rows], None], sender: Connection, teller: Teller, parent: int
) -> NoReturn:
    """The other process, from its beginning to its end."""
    try:
        _end_with(parent)
        _widen(sender)

        def order(*words: Any) -> None:
            sender.send_bytes(_packed(words))

        teller.pass_on(order)
        with without_databases():
            make(_Sent(order))
        order("end")
    finally:
        os._exit(0)  # nothing is cleared up that belongs to the other one, and nothing said


def _end_with(parent: int) -> None:
    """End when the process that this one works for does, and by nothing else."""
    import ctypes  # not in every build of Python

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError("it ended before that was said")


def _widen(sender: Connection) -> None:
    with suppress(OSError):
        fcntl.fcntl(sender.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _obey(receiver: Connection, orders: dict[str, Callable[..., None]]) -> bool:
    """Do what the other process says; whether it came to its end."""
    while True:
        try:
            name, *arguments = _unpacked(receiver.recv_bytes())
        except (EOFError, OSError):
            return False
        if name == "end":
            return True
        orders[name](*arguments)


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
