"""Compressed streams as chunks of bytes: told by their first bytes, in bounded memory."""

from __future__ import annotations

import contextlib
import io
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from queue import Full, Queue
from typing import Any, BinaryIO, NamedTuple, cast

from fastnk.errors import BackupSyntaxError, MissingExtraError, Place
from fastnk.source.opening import CHUNK_BYTES
from fastnk.threads import started

FIRST_STEP = 1 << 10
"""Bytes that are looked at first where what is wanted may be short: the rest would be copied."""
LEAST_HANDED_OVER = 1 << 16
CAREFUL_FEED = 1 << 12
"""Compressed bytes that are gone through byte by byte where one of them is wrong."""
CHUNKS_AHEAD = 8
"""Chunks that are unpacked before anybody asks for them."""
MAX_LAYERS = 4
"""Compressions and archives in one another; more is no accident."""
MAX_RATIO = 1000
"""How many times its size a backup may unpack to, all layers together, …"""
FREE_BYTES = 1 << 30
"""… once it is larger than this. Real dumps stay below 100; zeros in gzip reach 1,030."""

Chunks = Iterator[bytes]
_NULS = re.compile(rb"\0*")


class Guard:
    """Stops a file that unpacks to far more than it is, whatever is packed in what."""

    def __init__(self, name: str | None, packed: int = 0) -> None:
        self.name = name
        self._packed = packed
        self._unpacked = 0

    def packed(self, chunks: Chunks) -> Chunks:
        """The chunks of the file, as they are read."""
        for chunk in chunks:
            self._packed += len(chunk)
            yield chunk

    def unpacked(self, chunks: Chunks) -> Chunks:
        """What was made of them, as far as the limit allows; any number of times. Raises
        `BackupSyntaxError`."""
        for chunk in chunks:
            self._unpacked += len(chunk)
            if self._unpacked > FREE_BYTES and self._unpacked > MAX_RATIO * self._packed:
                raise BackupSyntaxError(
                    f"the backup unpacks to more than {MAX_RATIO:,} times its size",
                    code="FNK210",
                    place=Place(self.name, self._unpacked),
                    remedy="no dump does that; if it is one, unpack it yourself and give the file",
                )
            yield chunk

    def add_layer(self, layers: list[str], layer: str) -> None:
        """Raises `BackupSyntaxError` for one too many."""
        if len(layers) == MAX_LAYERS:
            raise BackupSyntaxError(
                f"the backup is packed more than {MAX_LAYERS} times",
                code="FNK210",
                place=Place(self.name, 0),
                remedy="is this file what it seems?",
            )
        layers.append(layer)


def unpack(
    chunks: Chunks,
    guard: Guard,
    layers: list[str],
    cut: Callable[[int], None],
    *,
    careful: bool,
) -> Chunks:
    """What is inside all compressions, whose names are appended to `layers`.

    `cut` is called with the bytes unpacked where a stream ends too early or goes wrong, and may
    raise; what was good before stands, if `careful` all of it.
    """
    while True:
        head, chunks = peek(chunks, 16)
        kind = compression_of(head)
        if kind is None:
            return chunks
        guard.add_layer(layers, kind)
        made = _decompressed(chunks, _KINDS[kind], cut, careful=careful)
        chunks = guard.unpacked(read_ahead(_joined(made)))


def peek(chunks: Chunks, length: int) -> tuple[bytes, Chunks]:
    """Up to `length` first bytes, and the same chunks again from the start."""
    taken: list[bytes] = []
    known = 0
    for chunk in chunks:
        taken.append(chunk)
        known += len(chunk)
        if known >= length:
            break
    head = b"".join(taken)
    return head[:length], _again(head, chunks)


def _again(head: bytes, chunks: Chunks) -> Chunks:
    if head:
        yield head
    del head
    yield from chunks


def compression_of(head: bytes) -> str | None:
    """The compression that a file with these first bytes has."""
    for name, kind in _KINDS.items():
        if head.startswith(kind.magic):
            return name
    # lzma alone has no magic: properties, a dictionary of a usual size, a length or none.
    is_lzma = head[:3] == b"\x5d\0\0" and len(head) >= 13
    return "lzma" if is_lzma and head[5:13] in (b"\xff" * 8, head[5:10] + b"\0" * 3) else None


class Lookahead:
    """Chunks, of which the next bytes can be looked at."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._held = b""
        self._at = 0
        """How far that is taken: to cut it off each time would copy what is left."""
        self.done = 0
        """Bytes taken."""

    def peek(self, length: int) -> bytes:
        """The next bytes, as far as there are any."""
        while len(self._held) - self._at < length:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._held, self._at = self._held[self._at :] + chunk, 0
        return self._held[self._at : self._at + length]

    def take(self, length: int) -> bytes:
        taken = self.peek(length)
        self._at += len(taken)
        self.done += len(taken)
        return taken

    def take_some(self, most: int) -> bytes:
        """What is at hand, and at least something, if there is anything."""
        if self._at == len(self._held):
            self._held, self._at = next(self._chunks, b""), 0
        return self.take(min(most, len(self._held) - self._at))

    def give_back(self, taken: bytes) -> None:
        """What was taken last, or the end of it."""
        if len(taken) <= self._at:
            self._at -= len(taken)
        else:
            self._held, self._at = taken + self._held[self._at :], 0
        self.done -= len(taken)

    def chunks(self) -> Chunks:
        """The rest, chunk by chunk; the first are small, for they may be all that is wanted."""
        most = FIRST_STEP
        while taken := self.take_some(most):
            yield taken
            most = min(2 * most, CHUNK_BYTES)

    def skip_all(self) -> None:
        """So that damage behind is met."""
        self._held, self._at = b"", 0
        for _ in self._chunks:
            pass


def stream_of(chunks: Chunks) -> BinaryIO:
    """Chunks as a file to be read in order."""
    return cast(BinaryIO, _Stream(chunks))


class _Stream(io.RawIOBase):
    """Chunks as a file to be read in order."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts: list[bytes | memoryview] = []
        left = size
        while left:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
            part = self._rest if left < 0 else self._rest[:left]
            self._rest = self._rest[len(part) :]
            parts.append(part)
            left -= len(part) if left > 0 else 0
        return b"".join(parts)


# ---- reading -----------------------------------------------------------------------------------


class _Kind(NamedTuple):
    magic: bytes
    decompressor: Callable[[], Any]
    """Makes an object as `bz2` and `lzma` have it."""
    feed: int = CHUNK_BYTES
    """Compressed bytes that it gets at once."""

    def decompressing(self, careful: bool) -> tuple[Any, int]:
        """A decompressor, and how much it gets at once."""
        if careful:
            return _Careful(self.decompressor), min(self.feed, CAREFUL_FEED)
        return self.decompressor(), self.feed


class _Wrapper:
    """Gives a decompressor, `_one`, the interface of those of `bz2` and `lzma`."""

    _one: Any

    @property
    def eof(self) -> bool:
        return bool(self._one.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._one.unused_data)


class _Careful(_Wrapper):
    """A decompressor that gives all there is in front of damage: libraries keep to themselves what
    they made in the call that fails. Another one follows it, a call behind, and goes on from there
    byte by byte."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._one, self._behind = make(), make()
        self._last: tuple[bytes, int] | None = None
        self._broken: Exception | None = None

    @property
    def needs_input(self) -> bool:
        return self._broken is None and bool(self._one.needs_input)

    def decompress(self, data: bytes, most: int) -> bytes:
        if self._broken is not None:
            raise self._broken
        if self._last is not None:
            self._behind.decompress(*self._last)
        self._last = data, most
        try:
            return bytes(self._one.decompress(data, most))
        except Exception as error:
            if not is_damage(error):
                raise
            self._broken = error
            return b"".join(self._byte_by_byte(data, error))

    def _byte_by_byte(self, data: bytes, error: Exception) -> Chunks:
        """Up to the one that breaks the stream."""
        one = self._behind
        with contextlib.suppress(type(error)):
            while not one.needs_input:
                yield one.decompress(b"", 1)
            for at in range(len(data)):
                yield one.decompress(data[at : at + 1], 1)
                while not one.needs_input:
                    yield one.decompress(b"", 1)


class _Inflater(_Wrapper):
    """gzip, or deflate alone."""

    def __init__(self, window: int = 31) -> None:
        library = fast_zlib() or zlib
        self._one = library.decompressobj(window)

    @property
    def needs_input(self) -> bool:
        return not self._one.unconsumed_tail

    def decompress(self, data: bytes, most: int) -> bytes:
        rest = self._one.unconsumed_tail
        return bytes(self._one.decompress(rest + data if rest else data, most))


class _Zstd(_Wrapper):
    """zstd. It knows no limit for a call, so it is given little at a time: a block of 4 bytes
    unpacks to 128 KiB at most."""

    needs_input = True

    def __init__(self) -> None:
        self._one = zstandard().ZstdDecompressor(max_window_size=1 << 31).decompressobj()

    def decompress(self, data: bytes, most: int) -> bytes:
        return bytes(self._one.decompress(data)) if data else b""


def _bz2() -> Any:
    import bz2

    return bz2.BZ2Decompressor()


def _lzma() -> Any:
    import lzma

    return lzma.LZMADecompressor()


class _ZipLzma(_Wrapper):
    """LZMA as it stands in a zip, behind its properties."""

    _SIZES, _PROPERTIES = 4, 5

    def __init__(self) -> None:
        self._one = _lzma()
        self._head: bytes | None = b""

    @property
    def needs_input(self) -> bool:
        return self._head is not None or bool(self._one.needs_input)

    def decompress(self, data: bytes, most: int) -> bytes:
        if self._head is not None:
            self._head += data
            start = self._SIZES + self._PROPERTIES
            if len(self._head) < start:
                return b""
            # As `lzma` has it in files of its own: without the length, up to a mark.
            data = self._head[self._SIZES : start] + b"\xff" * 8 + self._head[start:]
            self._head = None
        return bytes(self._one.decompress(data, most))


_KINDS = {
    "gzip": _Kind(b"\x1f\x8b", _Inflater),
    "bzip2": _Kind(b"BZh", _bz2),
    "xz": _Kind(b"\xfd7zXZ\0", _lzma),
    "zstd": _Kind(b"\x28\xb5\x2f\xfd", _Zstd, 1 << 10),
    "lzma": _Kind(b"\x5d\0\0\0\0\0\0\0", _lzma),
}


IN_A_ZIP = {
    8: _Kind(b"", partial(_Inflater, -15)),
    12: _Kind(b"", _bz2),
    14: _Kind(b"", _ZipLzma),
    93: _Kind(b"", _Zstd, 1 << 10),
}
"""By the numbers that methods have in a zip."""


def _decompressed(
    chunks: Chunks, kind: _Kind, cut: Callable[[int], None], *, careful: bool
) -> Chunks:
    """All streams that stand one after the other, with NUL bytes behind them or not."""
    one, feed = kind.decompressing(careful)
    is_new = True
    done = 0
    for chunk in _of_size(chunks, feed):
        at, step = 0, len(chunk)
        while at < len(chunk) or not one.needs_input:
            if is_new:
                at = _NULS.match(chunk, at).end()  # type: ignore[union-attr]
                if at == len(chunk):
                    break
            piece = chunk[at : at + step] if one.needs_input else b""
            at += len(piece)
            try:
                made = one.decompress(piece, CHUNK_BYTES)
            except Exception as error:
                if not is_damage(error):
                    raise
                return cut(done)
            is_new = False
            step *= 2
            if made:
                done += len(made)
                yield made
            if one.eof:
                # What is behind a stream is copied, so that of short ones little may be.
                at, step = at - len(one.unused_data), FIRST_STEP
                (one, _), is_new = kind.decompressing(careful), True
    if not is_new:
        cut(done)
    return None


def _joined(chunks: Chunks) -> Chunks:
    """The same in chunks that are worth to be handed over: streams may be of a few bytes each."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= LEAST_HANDED_OVER:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def is_damage(error: Exception) -> bool:
    """Whether a library says so that what it was given is wrong. Each has an error of its own."""
    return isinstance(error, (EOFError, OSError, ValueError)) or type(error).__name__ in (
        "error",
        "IsalError",
        "LZMAError",
        "ZstdError",
    )


def _of_size(chunks: Chunks, size: int) -> Chunks:
    for chunk in chunks:
        if len(chunk) <= size:
            yield chunk
            continue
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]


def read_ahead(chunks: Chunks) -> Chunks:
    """The chunks, made in a thread of their own if there can be one: the libraries release the
    GIL."""
    made: Queue[tuple[bytes | None, BaseException | None]] = Queue(CHUNKS_AHEAD)
    is_over = threading.Event()

    def put(item: tuple[bytes | None, BaseException | None]) -> None:
        while not is_over.is_set():
            with contextlib.suppress(Full):
                made.put(item, timeout=0.1)
                return

    def make() -> None:
        try:
            for chunk in chunks:
                put((chunk, None))
                if is_over.is_set():
                    break
            put((None, None))
        except BaseException as error:
            put((None, error))

    thread = started(make)
    if thread is None:
        yield from chunks
        return
    try:
        while True:
            chunk, error = made.get()
            if error is not None:
                raise error
            if chunk is None:
                return
            yield chunk
    finally:
        is_over.set()
        # What nobody reads to its end is closed by the collector, in whatever thread that runs.
        if thread is not threading.current_thread():
            thread.join()


def fast_zlib() -> Any:
    """ISA-L's zlib, where it is installed, or `None`."""
    try:
        from isal import isal_zlib
    except ImportError:
        return None
    return isal_zlib


def zstandard() -> Any:
    """Raises `MissingExtraError` without it."""
    try:
        import zstandard as library
    except ImportError:
        raise MissingExtraError("zstandard", "fast", "zstd") from None
    return library
