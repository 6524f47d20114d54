"""Compresses outputs, in threads of its own."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from fastnk.errors import UsageError
from fastnk.source.compression import fast_zlib, zstandard
from fastnk.threads import started

SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
ARCHIVES = (".zip", ".tar", ".tgz", ".7z")
"""What a name may promise, and nobody here makes."""
COMPRESSIONS = (*SUFFIXES.values(), "none")
PART_BYTES = 1 << 20
"""What is compressed at once by one thread. Parts are compressed with the end of the one before
as a dictionary, as pigz does it, so that the loss is below a percent."""
WINDOW_BYTES = 1 << 15


def compression_for(name: str | None, wanted: str | None) -> str | None:
    """How an output with this name is compressed. Raises `UsageError`."""
    if wanted is None:
        ending = "." + name.rpartition(".")[2].lower() if name and "." in name else ""
        if ending in ARCHIVES:
            raise UsageError(
                f"an output is no {ending[1:]}, whatever its name says",
                remedy="OUT.gz, or --compress, which says how it is packed",
            )
        return SUFFIXES.get(ending)
    if wanted not in COMPRESSIONS:
        raise UsageError(f'no compression "{wanted}"', remedy=", ".join(COMPRESSIONS))
    return None if wanted == "none" else wanted


class Compressor:
    """Compresses what it is given in threads of its own; `write` gets the result in order."""

    def __init__(self, kind: str, write: Callable[[bytes], object], jobs: int = 2) -> None:
        self._write = write
        self._encoder = _ENCODERS[kind]()
        self._jobs = jobs
        self._part = bytearray()
        self._pending: list[_Part] = []

    def write(self, data: bytes | memoryview) -> None:
        self._part += data
        while len(self._part) >= PART_BYTES:
            part = bytes(memoryview(self._part)[:PART_BYTES])
            del self._part[:PART_BYTES]
            self._start(part, False)

    def finish(self) -> None:
        self._start(bytes(self._part), True)
        self._part.clear()
        self.stop()

    def stop(self) -> None:
        """Wait for the threads."""
        pending, self._pending = self._pending, []
        for part in pending:
            self._write(part.result())

    def _start(self, data: bytes, is_last: bool) -> None:
        jobs = self._jobs if self._encoder.is_parallel else 1
        while len(self._pending) >= jobs:
            self._write(self._pending.pop(0).result())
        self._pending.append(_Part(self._encoder.task(data, is_last)))


class _Part:
    """A part as it is compressed, if there can be a thread beside this one."""

    def __init__(self, task: Callable[[], bytes]) -> None:
        self._task = task
        self._outcome: bytes | BaseException = b""
        self._thread = started(self._run)
        if self._thread is None:
            self._run()

    def _run(self) -> None:
        try:
            self._outcome = self._task()
        except BaseException as error:
            self._outcome = error

    def result(self) -> bytes:
        if self._thread is not None:
            self._thread.join()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome


class _Gzip:
    """One gzip member, made of parts."""

    is_parallel = True

    def __init__(self) -> None:
        self._library: Any = fast_zlib() or zlib
        self._before = b""
        self._crc = 0
        self._length = 0
        self._head = (
            b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no name and no time: equal input, equal output
        )

    def task(self, data: bytes, is_last: bool) -> Callable[[], bytes]:
        self._crc = self._library.crc32(data, self._crc)
        self._length += len(data)
        head, self._head = self._head, b""
        dictionary, self._before = self._before, data[-WINDOW_BYTES:]
        tail = b""
        if is_last:
            tail = self._crc.to_bytes(4, "little") + (self._length & 0xFFFFFFFF).to_bytes(
                4, "little"
            )
        return lambda: head + self._deflated(data, dictionary, is_last) + tail

    def _deflated(self, data: bytes, dictionary: bytes, is_last: bool) -> bytes:
        library = self._library
        options = {"zdict": dictionary} if dictionary else {}
        level = 6 if library is zlib else library.Z_BEST_COMPRESSION
        deflate = library.compressobj(level, zlib.DEFLATED, -15, **options)
        flush = zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH
        return bytes(deflate.compress(data) + deflate.flush(flush))


class _InOneThread:
    """A compression that goes on from part to part."""

    is_parallel = False

    def __init__(self, compressor: Any) -> None:
        self._compressor = compressor

    def task(self, data: bytes, is_last: bool) -> Callable[[], bytes]:
        def compressed() -> bytes:
            made = self._compressor.compress(data)
            return bytes(made + self._compressor.flush() if is_last else made)

        return compressed


def _bzip2_encoder() -> _InOneThread:
    import bz2

    return _InOneThread(bz2.BZ2Compressor())


def _xz_encoder() -> _InOneThread:
    import lzma

    return _InOneThread(lzma.LZMACompressor())


def _zstd_encoder() -> _InOneThread:
    return _InOneThread(zstandard().ZstdCompressor(write_checksum=True).compressobj())


_ENCODERS: dict[str, Callable[[], _Gzip | _InOneThread]] = {
    "gzip": _Gzip,
    "bzip2": _bzip2_encoder,
    "xz": _xz_encoder,
    "zstd": _zstd_encoder,
}
