"""The key map: rows, the indexes that find them, and what tells that a key comes twice."""

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memmove, memset

from fastnk._text cimport (
    ODD,
    Buffer,
    Text,
    append,
    canonical,
    copy,
    hash_text,
    is_null,
    read_text,
    same,
)

cdef enum:
    NOWHERE = -1

#
# A table holds the rows of one model, one behind the other:
#
#     flags | pk (canonical, with its length) | column 0 | column 1 | …   (JSON, with its length)
#
# An index finds rows by pk or by a column. Its slots are 28 bits of the hash and 36 bits of the
# row's place plus one: eight bytes each, and whatever else is needed stands in the row. The bits
# of the hash say where a slot belongs, so that an index grows without a look at the rows, and
# from the first slot to the last.
#
# Both lie in stores, on the heap or, past a limit, in mapped temporary files.

cdef enum:
    ROW_OF_KEYS = 1      # from a backup that only supplies keys
    ROW_DROPPED = 2
    ROW_WITHOUT_PK = 4

cdef extern from * nogil:
    """
    #define FNK_PLACE_BITS 36
    #define FNK_PLACE_MASK ((1ULL << FNK_PLACE_BITS) - 1)
    """
    enum: PLACE_BITS "FNK_PLACE_BITS"
    const uint64_t PLACE_MASK "FNK_PLACE_MASK"

cdef extern from "_spill.h" nogil:
    ctypedef struct Store "fnk_store":
        uint8_t *data
        size_t length
        size_t capacity
        int file             # 0: on the heap
    void free_store "fnk_free_store"(Store *)
    bint grow_on_heap "fnk_grow_on_heap"(Store *, size_t)
    bint grow_in_file "fnk_grow_in_file"(Store *, size_t, const char *)
    void forget "fnk_forget"(const Store *)
    uint64_t nanoseconds "fnk_nanoseconds"()

cdef struct Spill:
    size_t limit         # of all stores on the heap, in bytes; 0: none
    size_t on_heap
    const char *folder   # for the files
    int error            # errno of a file that did not grow

cdef struct Index:
    Store store
    size_t size          # slots: a power of two, or 0
    size_t used

cdef struct Table:
    Store rows
    Index *indexes
    bint keeps_pks       # its keys do not identify its rows, so its records and ids stay


cdef inline Text row_pk(const uint8_t *row) noexcept nogil:
    cdef const uint8_t *at = row + 1
    return read_text(&at)


cdef inline const uint8_t *row_columns(const uint8_t *row) noexcept nogil:
    cdef Text pk = row_pk(row)
    return pk.data + pk.length


cdef inline Text column_of(const uint8_t *columns, int number) noexcept nogil:
    cdef Text value = read_text(&columns)
    while number:
        value = read_text(&columns)
        number -= 1
    return value


cdef inline Text row_id(const uint8_t *row, int column, Buffer *scratch) noexcept nogil:
    """What an index on `column` finds the row by."""
    if column == NOWHERE:
        return row_pk(row)
    return canonical(column_of(row_columns(row), column), scratch)


cdef inline bint has_id(const uint8_t *row, int column) noexcept nogil:
    if column == NOWHERE:
        return not row[0] & ROW_WITHOUT_PK
    return not is_null(column_of(row_columns(row), column))


cdef inline bint grow_store(Store *store, size_t capacity, Spill *spill) noexcept nogil:
    """False without memory, or without room on the disk."""
    cdef size_t before = 0 if store.file else store.capacity
    if store.file == 0 and (spill.limit == 0
                            or spill.on_heap - before + capacity <= spill.limit):
        if not grow_on_heap(store, capacity):
            return False
        spill.on_heap += capacity - before
        return True
    if not grow_in_file(store, capacity, spill.folder):
        spill.error = errno
        return False
    spill.on_heap -= before
    return True


cdef inline bint room_for_row(Store *rows, size_t length, Spill *spill) noexcept nogil:
    cdef size_t capacity = rows.capacity
    if rows.length + length <= capacity:
        return True
    if rows.length + length > PLACE_MASK:
        return False
    while capacity < rows.length + length:
        # Larger ones grow by halves: what is not used yet is reserved on the disk.
        capacity += capacity // 2 if capacity > 1 << 20 else capacity or 256
    return grow_store(rows, capacity, spill)


cdef inline void put_byte(Store *rows, uint8_t byte) noexcept nogil:
    rows.data[rows.length] = byte
    rows.length += 1


cdef inline void put_text(Store *rows, Text text) noexcept nogil:
    """With its length in front; there must be room."""
    cdef size_t number = text.length
    while number >= 0x80:
        put_byte(rows, <uint8_t> (number | 0x80))
        number >>= 7
    put_byte(rows, <uint8_t> number)
    copy(rows.data + rows.length, text.data, text.length)
    rows.length += text.length


cdef inline uint64_t *slots_of(const Index *index) noexcept nogil:
    return <uint64_t *> index.store.data


cdef inline size_t home_of(const Index *index, uint64_t slot) noexcept nogil:
    """Where a slot belongs, by the bits of the hash in it."""
    return (slot >> PLACE_BITS) * index.size >> (64 - PLACE_BITS)


cdef inline uint64_t *find_slot(const Index *index, const uint8_t *rows, int column, Text id,
                                uint64_t hash, Buffer *scratch) noexcept nogil:
    """The slot of the row with that id, or the free one where it belongs."""
    cdef uint64_t *slots = slots_of(index)
    cdef size_t at = home_of(index, hash)
    cdef uint64_t slot
    while True:
        slot = slots[at]
        if slot == 0:
            return &slots[at]
        if slot >> PLACE_BITS == hash >> PLACE_BITS and same(
                row_id(rows + (slot & PLACE_MASK) - 1, column, scratch), id):
            return &slots[at]
        at = (at + 1) & (index.size - 1)


cdef enum:
    SLOTS_AT_ONCE = 1 << 18


cdef inline bint grow_index(Index *index, Spill *spill) noexcept nogil:
    """Double the slots when three quarters are used."""
    cdef const uint64_t *old = slots_of(index)
    cdef uint64_t *slots
    cdef Index grown
    cdef size_t i, at
    if 4 * (index.used + 1) <= 3 * index.size:
        return True
    memset(&grown, 0, sizeof(Index))
    grown.size = 2 * index.size if index.size else 16
    grown.used = index.used
    if not grow_store(&grown.store, grown.size * sizeof(uint64_t), spill):
        return False
    slots = slots_of(&grown)
    if grown.store.file == 0:
        memset(slots, 0, grown.store.capacity)
    for i in range(index.size):
        if i % SLOTS_AT_ONCE == 0:
            forget(&index.store)
            forget(&grown.store)
        if old[i]:
            at = home_of(&grown, old[i])
            while slots[at]:
                at = (at + 1) & (grown.size - 1)
            slots[at] = old[i]
    if index.store.file == 0:
        spill.on_heap -= index.store.capacity
    free_store(&index.store)
    index[0] = grown
    return True

# Keys and pks of which only the fact counts that one occurs twice, as 128 bits of hash each. One bit
# tells the keys that pass 2 makes from those that stand in the backup already: when two of the
# latter are equal, that is none of our business.

cdef enum:
    SEED_WORDS = 3

cdef extern from * nogil:
    """
    #define FNK_MADE 2ULL
    """
    const uint64_t MADE "FNK_MADE"

cdef struct Fingerprint:
    uint64_t high
    uint64_t low         # odd, so never 0 in a slot that is used

cdef struct KeySet:
    Fingerprint *slots
    size_t size          # a power of two, or 0
    size_t used


cdef inline Fingerprint fingerprint_of(Text text, uint64_t model, uint64_t made,
                                       const uint64_t *seed) noexcept nogil:
    cdef Fingerprint fingerprint
    fingerprint.high = hash_text(text, seed) + model * ODD
    fingerprint.low = (hash_text(text, seed + SEED_WORDS) | 1) & ~MADE | made
    return fingerprint


cdef inline Fingerprint *find_fingerprint(const KeySet *keys, Fingerprint key) noexcept nogil:
    """The slot of the key, or the free one where it belongs; there must be one."""
    cdef size_t at = key.high & (keys.size - 1)
    while keys.slots[at].low and (keys.slots[at].high != key.high
                                  or (keys.slots[at].low ^ key.low) & ~MADE):
        at = (at + 1) & (keys.size - 1)
    return &keys.slots[at]


cdef inline bint grow_keys(KeySet *keys) noexcept nogil:
    """Room for one more."""
    cdef KeySet grown
    cdef size_t i
    if 4 * (keys.used + 1) <= 3 * keys.size:
        return True
    grown.used = keys.used
    grown.size = 2 * keys.size if keys.size else 16
    grown.slots = <Fingerprint *> calloc(grown.size, sizeof(Fingerprint))
    if grown.slots == NULL:
        return False
    for i in range(keys.size):
        if keys.slots[i].low:
            find_fingerprint(&grown, keys.slots[i])[0] = keys.slots[i]
    free(keys.slots)
    keys[0] = grown
    return True


cdef inline bint append_repeated(KeySet *seen, const Fingerprint *key, const Fingerprint *end,
                                 Buffer *repeated) noexcept nogil:
    """Append every key that has occurred before, without the bit where one of the two stands
    there already. False without memory."""
    cdef Fingerprint *slot
    cdef Fingerprint found
    while key < end:
        if not grow_keys(seen):
            return False
        slot = find_fingerprint(seen, key[0])
        if slot.low == 0:
            slot[0] = key[0]
            seen.used += 1
        elif (slot.low | key.low) & MADE:
            found = key[0]
            found.low &= slot.low | ~MADE
            if not append(repeated, &found, sizeof(Fingerprint)):
                return False
        key += 1
    return True


cdef inline bint occurs_again(KeySet *repeated, Fingerprint key) noexcept nogil:
    """Whether a key that this pass makes is known to occur more than once, and this is not the
    first time."""
    cdef Fingerprint *slot
    cdef bint again
    if repeated.size == 0:
        return False
    slot = find_fingerprint(repeated, key)
    if slot.low == 0:
        return False
    again = not slot.low & MADE
    slot.low &= ~MADE
    return again


# The pks of a model, where only the fact counts that one occurs twice. Dumps are in the order of
# the pks, so they are kept as ascending runs of consecutive integers.

cdef struct Run:
    int64_t first
    int64_t last

cdef struct PkSet:
    Run *runs
    size_t count
    size_t room

cdef enum Entered:
    NEW
    PRESENT
    ELSEWHERE            # not an integer, or below the end of the runs: not kept here
    NOT_ENTERED          # without memory


cdef inline bint read_integer(Text text, int64_t *value) noexcept nogil:
    """Whether `text` is an integer in its one plain spelling, of at most 18 digits."""
    cdef const uint8_t *p = text.data
    cdef const uint8_t *end = text.data + text.length
    cdef bint negative = p < end and p[0] == c'-'
    p += negative
    if p == end or end - p > 18 or (p[0] == c'0' and (negative or end - p > 1)):
        return False
    value[0] = 0
    while p < end:
        if not c'0' <= p[0] <= c'9':
            return False
        value[0] = 10 * value[0] + (p[0] - c'0')
        p += 1
    if negative:
        value[0] = -value[0]
    return True


cdef inline bint in_runs(const PkSet *pks, int64_t value) noexcept nogil:
    cdef size_t low = 0
    cdef size_t high = pks.count
    cdef size_t middle
    while low < high:
        middle = (low + high) // 2
        if value < pks.runs[middle].first:
            high = middle
        elif value > pks.runs[middle].last:
            low = middle + 1
        else:
            return True
    return False


cdef inline bint add_runs(PkSet *pks, const PkSet *more) noexcept nogil:
    """Take over the runs of another set. False where a pk is in both, or without memory."""
    cdef size_t i
    for i in range(more.count):
        if not add_run(pks, more.runs[i]):
            return False
    return True


cdef inline bint add_run(PkSet *pks, Run run) noexcept nogil:
    cdef size_t at = pks.count
    while at and pks.runs[at - 1].first > run.first:
        at -= 1
    if (at and pks.runs[at - 1].last >= run.first) or (
            at < pks.count and pks.runs[at].first <= run.last):
        return False
    if at == pks.count and at and pks.runs[at - 1].last + 1 == run.first:
        pks.runs[at - 1].last = run.last
        return True
    if not room_for_run(pks):
        return False
    memmove(&pks.runs[at + 1], &pks.runs[at], (pks.count - at) * sizeof(Run))
    pks.runs[at] = run
    pks.count += 1
    return True


cdef inline bint room_for_run(PkSet *pks) noexcept nogil:
    cdef Run *runs
    if pks.count == pks.room:
        pks.room = 2 * pks.room if pks.room else 8
        runs = <Run *> realloc(pks.runs, pks.room * sizeof(Run))
        if runs == NULL:
            return False
        pks.runs = runs
    return True


cdef inline Entered append_to_runs(PkSet *pks, int64_t value) noexcept nogil:
    if pks.count and pks.runs[pks.count - 1].last + 1 == value:
        pks.runs[pks.count - 1].last = value
        return NEW
    if not room_for_run(pks):
        return NOT_ENTERED
    pks.runs[pks.count].first = pks.runs[pks.count].last = value
    pks.count += 1
    return NEW


cdef inline Entered enter_pk(PkSet *pks, Text pk) noexcept nogil:
    cdef int64_t value
    if not read_integer(pk, &value):
        return ELSEWHERE
    if pks.count == 0 or value > pks.runs[pks.count - 1].last:
        return append_to_runs(pks, value)
    return PRESENT if in_runs(pks, value) else ELSEWHERE
