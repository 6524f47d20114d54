# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=True, autotestdict=False, auto_pickle=False
"""The hot loop: bytes in, bytes out, no Python object per record, no GIL.

A `Walker` is fed chunks of any size and keeps what is not yet a whole record in its window:

      consumed            the window (one buffer, drawn once)
    ...........|rec, rec, rec, rec, re|            room to grow            |padding|
               ^base                  ^length                              ^capacity

The scan (`_scan.h`) lists the bytes of the window that matter; the walk goes from one listed byte
to the next, checks the grammar and meets each record once, whole. What is left of an incomplete
record moves to the front and is scanned again with the next chunk. So a token, an escape or a
UTF-8 sequence may straddle chunks and nothing but the window has to remember it.

Pass 1, `Indexer`: rows of models that something refers to go into tables; every place that will
change goes into a log, with the id that stands there.
Pass 2, `Splicer`: copies the same bytes and follows the log. It does not parse. Of a large key map
a `LookAhead` fetches what the next entries of the log will need.

Two invariants make the pointer steps safe. The list of positions ends in a sentinel that stands
where the good bytes end and on a byte that no rule accepts, so the walk cannot step past it. And
whatever looks ahead of a listed byte stops at the padding, which is white space.
"""

cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset, strlen

import os
from array import array

from fastnk.errors import (
    A_RECORD,
    MAX_MODELS,
    NAME_THE_ENCODING,
    WRONG_MEMBERS,
    BackupSyntaxError,
    Place,
    too_deep,
)

from fastnk._keymap cimport *
from fastnk._text cimport *
from fastnk._values cimport *
from fastnk._walk cimport *

cdef extern from "_scan.h" nogil:
    enum: FNK_BLOCK
    ctypedef struct fnk_scanned:
        size_t count
        size_t end
        int broken
    ctypedef fnk_scanned (*fnk_scan_function)(const uint8_t *, size_t, uint32_t *)

cdef extern from "_checksum.h" nogil:
    ctypedef uint64_t (*fnk_checksum_function)(const uint8_t *, size_t)

cdef extern from "_variants.h" nogil:
    enum: FNK_VARIANTS
    ctypedef struct fnk_variant:
        const char *name
        fnk_scan_function scan
        fnk_checksum_function checksum
    int fnk_variants(fnk_variant *)


# ---- what depends on the processor --------------------------------------------------------

cdef fnk_variant _variants[FNK_VARIANTS]
cdef int _variant_count = fnk_variants(_variants)
cdef fnk_variant _variant = _variants[0]


def variants():
    """The variants of the scan and the checksum that this processor runs, the fastest first,
    `scalar` last."""
    return tuple([_variants[i].name.decode() for i in range(_variant_count)])


def force(name):
    """Use the named variant from now on; `None` for the fastest. For tests."""
    global _variant
    names = variants()
    if name is not None and name not in names:
        raise ValueError(f"no variant {name!r} here; there are {', '.join(names)}")
    _variant = _variants[0 if name is None else names.index(name)]


def scan(const uint8_t[::1] data):
    """What the scan finds in a window: (the places it lists, where the good bytes end, whether
    the byte there is wrong and not only cut off). For tests and benchmarks."""
    cdef size_t length = data.shape[0]
    cdef uint8_t *window = <uint8_t *> calloc(length + FNK_BLOCK, 1)
    cdef uint32_t *places = <uint32_t *> calloc(length + FNK_BLOCK, sizeof(uint32_t))
    cdef fnk_scanned scanned
    cdef size_t i
    try:
        if window == NULL or places == NULL:
            raise MemoryError
        if length:
            memcpy(window, &data[0], length)
        memset(window + length, c' ', FNK_BLOCK)
        scanned = _variant.scan(window, length, places)
        return [places[i] for i in range(scanned.count)], scanned.end, bool(scanned.broken)
    finally:
        free(window)
        free(places)


def copy_bytes(const uint8_t[::1] source, uint8_t[::1] target):
    """Fill the beginning of `target`, while other threads of Python go on."""
    if source.shape[0]:
        with nogil:
            memcpy(&target[0], &source[0], source.shape[0])


def checksums(const uint8_t[::1] data, size_t size):
    """64-bit checksums that tell whether two reads gave the same bytes, one of each block of `size`
    bytes; the last block may be shorter. None is 0."""
    cdef size_t length = data.shape[0], at
    cdef object made = array("Q", bytes(8 * (length // size + (length % size > 0))))
    cdef uint64_t[::1] found = made
    if length:
        with nogil:
            for at in range(found.shape[0]):
                found[at] = _variant.checksum(&data[at * size], min(size, length - at * size)) or 1
    return made


cdef extern from * nogil:
    """
    #include <fcntl.h>
    #if defined(__linux__)
    #include <sys/vfs.h>
    static int fnk_reserve_blocks(int fd, long long offset, long long length) {
        const long ext4 = 0xEF53;
        struct statfs status;
        if (fstatfs(fd, &status) || status.f_type != ext4)
            return -1;
        return fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, length);
    }
    static int fnk_start_writeback(int fd, long long offset, long long length) {
        return sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE);
    }
    #else
    static int fnk_reserve_blocks(int fd, long long offset, long long length) {
        (void)fd, (void)offset, (void)length;
        return -1;
    }
    static int fnk_start_writeback(int fd, long long offset, long long length) {
        (void)fd, (void)offset, (void)length;
        return 0;
    }
    #endif
    """
    int fnk_reserve_blocks(int fd, long long offset, long long length)
    int fnk_start_writeback(int fd, long long offset, long long length)


def reserve_blocks(int fd, long long offset, long long length):
    """Ask the system for the blocks of a range of a file that is about to be written; its size stays.
    Returns whether they are there.

    Only on ext4, where writing takes half as long then. Btrfs would no longer compress the file.
    """
    cdef int failed
    with nogil:
        failed = fnk_reserve_blocks(fd, offset, length)
    return failed == 0


def start_writeback(int fd, long long offset, long long length):
    """Ask the system to begin writing a range of a file to disk, so that a sync in the end finds
    little left to do. A hint: where the system has no such call, nothing happens."""
    with nogil:
        fnk_start_writeback(fd, offset, length)


# ---- the parts, each a file of its own ----------------------------------------------------

include "_window.pxi"    # bytes become whole records
include "_plan.pxi"      # a schema as the passes need it
include "_record.pxi"    # what is in a record
include "_rows.pxi"      # the key map, and what is wrong
include "_index.pxi"     # pass 1
include "_find.pxi"      # the rows that pass 2 needs,
include "_ahead.pxi"     # soon enough
include "_needs.pxi"     # which records are left out together
include "_splice.pxi"    # pass 2
include "_prints.pxi"    # which keys occur twice
