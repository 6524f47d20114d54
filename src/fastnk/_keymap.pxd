"""The key map: rows, the indexes that find them, and what tells that a key comes twice."""

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset
from posix.unistd cimport close

from fastnk._text cimport (
    ODD,
    Buffer,
    Text,
    append,
    canonical,
    fnk_fold,
    hash_text,
    is_null,
    read_number,
    read_text,
    reserve,
    same,
)

cdef enum:
    NOWHERE = -1

#
# A table holds the rows of one model, one behind the other:
#
#     flags | pk (canonical, with its length) | column 0 | column 1 | …   (JSON, with its length)
#
# with the length of all that in front. Where records may be left out, the number of the record
# stands behind the flags: two may have one pk, and a record need not have any.
#
# An index finds rows by pk or by a column. Its slots are 28 bits of the hash and 36 bits of the
# row's place plus one: eight bytes each, and whatever else is needed stands in the row. The bits
# of the hash say where a slot belongs, so that an index grows without a look at the rows, and
# from its first slots to its last. Eight numbers in a row have their slots in one line of the
# processor's cache: rows come in the order of their pks, and mostly refer to neighbours.
#
# Past a limit rows and indexes move to temporary files. A spilled index is looked at through a
# window. What piece after piece adds to it is kept pending, and taken up in the order of the
# slots when it has become much, so that each part of the file is visited once for all of that.

cdef enum:
    ROW_OF_KEYS = 1      # from a backup that only supplies keys
    ROW_NUMBERED = 2
    ROW_WITHOUT_PK = 4   # of a record that has none,
    ROW_TELLS_PK = 8     # but a natural key with it

cdef extern from * nogil:
    """
    #define FNK_PLACE_BITS 36
    #define FNK_PLACE_MASK ((1ULL << FNK_PLACE_BITS) - 1)
    """
    enum: PLACE_BITS "FNK_PLACE_BITS"
    const uint64_t PLACE_MASK "FNK_PLACE_MASK"

cdef extern from "_spill.h" nogil:
    int fnk_temporary_file(const char *)
    bint fnk_read_file(int, void *, size_t, uint64_t)
    bint fnk_write_file(int, const void *, size_t, uint64_t)
    void fnk_sort_words(uint64_t *, size_t)
    uint64_t nanoseconds "fnk_nanoseconds"()

cdef enum:
    FIRST_LOOK = 256         # bytes read of a row whose length is not known yet
    SLOTS_TO_FILL = 1 << 15  # in a window through which a spilled index is filled
    SLOTS_TO_FIND = 32       # in one through which something is looked up
    MOST_PENDING = 1 << 20   # slots of a spilled index

cdef struct Spill:
    size_t limit         # of what lies on the heap, in bytes; 0: none
    size_t on_heap
    const char *folder   # for the files
    int error            # errno of a file that could not be made, read or written

cdef struct Rows:
    Buffer heap          # empty once they are spilled
    size_t length        # of all of them
    int file             # 0: none

cdef struct Index:
    uint64_t *slots      # NULL once it is spilled
    size_t size          # a power of two, or 0
    size_t used
    int file             # 0: none
    Buffer pending       # uint64_t

cdef struct Window:      # the part of a spilled index at hand
    uint64_t *slots      # NULL until there is one
    size_t first
    size_t room          # slots: a power of two
    int file             # of the index; 0: none yet
    bint changed

cdef struct Table:
    Rows rows
    Index *indexes
    bint keeps_pks       # its keys do not identify its rows, so its records and ids stay


cdef inline uint64_t row_number(const uint8_t *row) noexcept nogil:
    """The number of its record, where it says that."""
    cdef const uint8_t *at = row + 1
    return read_number(&at)


cdef inline Text row_pk(const uint8_t *row) noexcept nogil:
    cdef const uint8_t *at = row + 1
    if row[0] & ROW_NUMBERED:
        read_number(&at)
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
        return row[0] & (ROW_WITHOUT_PK | ROW_TELLS_PK) != ROW_WITHOUT_PK
    return not is_null(column_of(row_columns(row), column))


cdef inline bint fits(const Spill *spill, size_t more) noexcept nogil:
    return spill.limit == 0 or spill.on_heap + more <= spill.limit


cdef inline bint failed(Spill *spill) noexcept nogil:
    spill.error = errno
    return False


# -- rows --

cdef inline bint append_row(Rows *rows, const void *row, size_t length, Spill *spill) noexcept nogil:
    """One row, or several. False without memory, or without room on the disk."""
    cdef size_t before = rows.heap.capacity
    if rows.length + length >= PLACE_MASK:
        return False
    if rows.file == 0 and rows.length + length > before and not fits(spill, before + length):
        if not spill_rows(rows, spill):
            return False
    if rows.file:
        if not fnk_write_file(rows.file, row, length, rows.length):
            return failed(spill)
    else:
        if not append(&rows.heap, row, length):
            return False
        spill.on_heap += rows.heap.capacity - before
    rows.length += length
    return True


cdef inline bint spill_rows(Rows *rows, Spill *spill) noexcept nogil:
    cdef int file = fnk_temporary_file(spill.folder)
    if not file or not fnk_write_file(file, rows.heap.data, rows.length, 0):
        return failed(spill)
    spill.on_heap -= rows.heap.capacity
    free(rows.heap.data)
    memset(&rows.heap, 0, sizeof(Buffer))
    rows.file = file
    return True


cdef inline const uint8_t *row_at(const Rows *rows, size_t place, Buffer *buffer,
                                  Spill *spill) noexcept nogil:
    """A row, in `buffer` where it has to be read; NULL when that fails."""
    cdef const uint8_t *at = rows.heap.data + place
    cdef size_t length
    if rows.file == 0:
        read_number(&at)
        return at
    if not read_row(rows, place, FIRST_LOOK, buffer, spill):
        return NULL
    at = buffer.data
    length = read_number(&at)
    length += at - buffer.data
    if length > FIRST_LOOK and not read_row(rows, place, length, buffer, spill):
        return NULL
    at = buffer.data
    read_number(&at)
    return at


cdef inline bint read_row(const Rows *rows, size_t place, size_t length, Buffer *buffer,
                          Spill *spill) noexcept nogil:
    buffer.length = 0
    return reserve(buffer, length) and (
        fnk_read_file(rows.file, buffer.data, length, place) or failed(spill))


# -- indexes --

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


cdef inline uint64_t hash_id(Text id, const uint64_t *seed) noexcept nogil:
    """The same bits but for three of them where eight numbers follow one another."""
    cdef int64_t value
    if not read_integer(id, &value):
        return hash_text(id, seed)
    return fnk_fold(fnk_fold(<uint64_t> (value >> 3) ^ seed[1], seed[0]), seed[2]) ^ (
        <uint64_t> (value & 7) << PLACE_BITS)


cdef inline size_t home_of(const Index *index, uint64_t slot) noexcept nogil:
    """Where a slot belongs, by the bits of the hash in it: the lowest three say where in a line of
    eight slots."""
    cdef uint64_t line = (slot >> (PLACE_BITS + 3)) * (index.size >> 3) >> (61 - PLACE_BITS)
    return line << 3 | (slot >> PLACE_BITS & 7)


cdef inline size_t next_slot(const Index *index, size_t at) noexcept nogil:
    """Where to go on if a slot is taken: to the same place in the next line, so that a line full
    of numbers that meets another one moves on as a whole. Behind the last line it is the next
    place in the first one, so that all slots but one are met."""
    at += 8
    return at if at < index.size else at - index.size + 1


cdef inline uint64_t *slot_at(const Index *index, size_t at, Window *window,
                              Spill *spill) noexcept nogil:
    """NULL when it cannot be read."""
    if index.file == 0:
        return index.slots + at
    if window.file != index.file or not window.first <= at < window.first + window.room:
        if window.slots == NULL:
            window.slots = <uint64_t *> calloc(window.room, sizeof(uint64_t))
        if window.slots == NULL or not write_back(window, spill):
            return NULL
        window.file = index.file
        window.first = at & ~(window.room - 1)
        if not fnk_read_file(index.file, window.slots, window.room * sizeof(uint64_t),
                             window.first * sizeof(uint64_t)):
            window.file = 0
            failed(spill)
            return NULL
    return window.slots + (at - window.first)


cdef inline bint write_back(Window *window, Spill *spill) noexcept nogil:
    if window.changed and not fnk_write_file(window.file, window.slots,
                                             window.room * sizeof(uint64_t),
                                             window.first * sizeof(uint64_t)):
        return failed(spill)
    window.changed = False
    return True


cdef inline bint same_hash(uint64_t a, uint64_t b) noexcept nogil:
    return (a ^ b) >> PLACE_BITS == 0


cdef inline bint grow_index(Index *index, size_t more, Window *window, Spill *spill) noexcept nogil:
    """Double the slots as long as three quarters would be used. False without memory or room."""
    cdef Index grown
    cdef Window source
    cdef bint good
    if 4 * (index.used + more) <= 3 * index.size:
        return True
    memset(&grown, 0, sizeof(Index))
    memset(&source, 0, sizeof(Window))
    grown.size = index.size if index.size else 16
    while 4 * (index.used + more) > 3 * grown.size:
        grown.size *= 2
    grown.pending = index.pending
    if index.file == 0 and fits(spill, grown.size * sizeof(uint64_t)):
        grown.slots = <uint64_t *> calloc(grown.size, sizeof(uint64_t))
        if grown.slots == NULL:
            return False
        spill.on_heap += grown.size * sizeof(uint64_t)
    else:
        grown.file = fnk_temporary_file(spill.folder)
        if not grown.file:
            return failed(spill)
    source.room = SLOTS_TO_FILL
    good = write_back(window, spill) and move_slots(index, &source, &grown, window, spill)
    free(source.slots)
    if not good:
        free_slots(&grown, spill)
        return False
    free_slots(index, spill)
    index[0] = grown
    return True


cdef inline bint move_slots(const Index *index, Window *source, Index *grown, Window *window,
                            Spill *spill) noexcept nogil:
    cdef uint64_t *slot
    cdef size_t i
    for i in range(index.size):
        slot = slot_at(index, i, source, spill)
        if slot == NULL or (slot[0] and not put_slot(grown, slot[0], window, spill)):
            return False
    return True


cdef inline bint put_slot(Index *index, uint64_t word, Window *window, Spill *spill) noexcept nogil:
    """Where a free slot comes first; nothing with that id must be there."""
    cdef size_t at = home_of(index, word)
    cdef uint64_t *slot = slot_at(index, at, window, spill)
    while slot != NULL and slot[0]:
        at = next_slot(index, at)
        slot = slot_at(index, at, window, spill)
    return slot != NULL and fill_slot(index, slot, word, window)


cdef inline bint fill_slot(Index *index, uint64_t *slot, uint64_t word,
                           Window *window) noexcept nogil:
    index.used += slot[0] == 0
    slot[0] = word
    window.changed |= index.file != 0
    return True


cdef inline void free_slots(Index *index, Spill *spill) noexcept nogil:
    if index.file:
        close(index.file)
    elif index.slots != NULL:
        free(index.slots)
        spill.on_heap -= index.size * sizeof(uint64_t)


cdef inline void free_table(Table *table, int indexes, Spill *spill) noexcept nogil:
    cdef int i
    for i in range(indexes):
        free_slots(&table.indexes[i], spill)
        free(table.indexes[i].pending.data)
    free(table.indexes)
    free(table.rows.heap.data)
    if table.rows.file:
        close(table.rows.file)

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


cdef inline bint grow_keys(KeySet *keys, size_t more) noexcept nogil:
    """Room for so many more."""
    cdef KeySet grown
    cdef size_t i
    if 4 * (keys.used + more) <= 3 * keys.size:
        return True
    grown.used = keys.used
    grown.size = 2 * keys.size if keys.size else 16
    while 4 * (grown.used + more) > 3 * grown.size:
        grown.size *= 2
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
    if not grow_keys(seen, end - key):
        return False
    while key < end:
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
# the pks, so they are kept as ascending runs of consecutive integers. Pks with gaps everywhere would
# make a run each, of as many bytes as a fingerprint, which need not stay in memory.

cdef enum:
    MOST_RUNS = 1 << 16  # of a model: 1 MB

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
    ELSEWHERE            # no integer, below the end of the runs, or there are too many: not kept here
    NOT_ENTERED          # without memory


cdef inline bint is_below(const PkSet *pks, int64_t value) noexcept nogil:
    """Whether a value is not behind the end of the runs."""
    return pks.count and value <= pks.runs[pks.count - 1].last


cdef inline bint takes_run(const PkSet *pks, int64_t value) noexcept nogil:
    """Whether a run that starts with a value can be appended."""
    return pks.count < MOST_RUNS and not is_below(pks, value)


cdef inline bint in_runs(const PkSet *pks, int64_t value) noexcept nogil:
    cdef size_t low = 0
    cdef size_t high = pks.count if is_below(pks, value) else 0
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


cdef inline bint room_for_run(PkSet *pks) noexcept nogil:
    cdef Run *runs
    if pks.count == pks.room:
        pks.room = 2 * pks.room if pks.room else 8
        runs = <Run *> realloc(pks.runs, pks.room * sizeof(Run))
        if runs == NULL:
            return False
        pks.runs = runs
    return True


cdef inline bint append_run(PkSet *pks, Run run) noexcept nogil:
    """Take over a run that can be appended. False without memory."""
    if pks.count and pks.runs[pks.count - 1].last + 1 == run.first:
        pks.runs[pks.count - 1].last = run.last
        return True
    if not room_for_run(pks):
        return False
    pks.runs[pks.count] = run
    pks.count += 1
    return True


cdef inline Entered enter_pk(PkSet *pks, int64_t value) noexcept nogil:
    cdef Run run
    if not takes_run(pks, value):
        return PRESENT if in_runs(pks, value) else ELSEWHERE
    run.first = run.last = value
    return NEW if append_run(pks, run) else NOT_ENTERED
