"""Work that another process does beside this one.

The other process is a fork, so that it knows all that is known by then. Nobody depends on it:
whatever happens to it, this process does the work itself, and tells what is wrong.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import NamedTuple, NoReturn

THREADS = Path("/proc/self/task")
"""Where Linux lists them, if /proc is there."""

PIPE_BYTES = 1 << 20
"""What waits there until it is read, if the system allows: what was told of a chunk, and batches
that are too large for the memory that both see."""

_PR_SET_PDEATHSIG = 1
"""What Linux calls it."""


def can_fork() -> bool:
    """Whether this process can be forked without harm: a thread would leave its locks behind, and
    outside of Linux libraries of the system have threads of their own."""
    return sys.platform == "linux" and len([*THREADS.glob("*")]) == 1


class Ends(NamedTuple):
    """One process's ends of the pipes to another one and back."""

    receiver: Connection
    sender: Connection

    def close(self) -> None:
        self.receiver.close()
        self.sender.close()


@contextmanager
def other_process(work: Callable[[Ends], None]) -> Iterator[Ends]:
    """A process that does `work`; at the end of the `with` statement it is no more."""
    here, there = _pipes()
    parent = os.getpid()
    process = _forked()
    if process == 0:
        here.close()
        _do(work, there, parent)
    there.close()
    try:
        yield here
    finally:
        here.close()
        if process is not None:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)


def _pipes() -> tuple[Ends, Ends]:
    import fcntl  # not on Windows

    (receiver, their_sender), (their_receiver, sender) = Pipe(duplex=False), Pipe(duplex=False)
    for end in (sender, their_sender):
        with suppress(OSError):
            fcntl.fcntl(end.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return Ends(receiver, sender), Ends(their_receiver, their_sender)


def _forked() -> int | None:
    """0 in the other process, its number in this one; `None` if the system has no room for it."""
    try:
        return os.fork()
    except OSError:
        return None


def _do(work: Callable[[Ends], None], there: Ends, parent: int) -> NoReturn:
    """The other process, from its beginning to its end."""
    try:
        _end_with(parent)
        work(there)
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
