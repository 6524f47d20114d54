# ---- looking ahead, in pass 2 -------------------------------------------------------------
#
# What a reference needs of a large table, first the slot and then the row, is not in the
# processor's cache, and waiting for both takes longer than all else that is done for a reference.
# So, before pass 2 follows some entries of the log, all that these need is fetched at once: the
# slots, then the rows, then the slots that the paths of a key go on to from there, and so on.
# Nothing but the time depends on it: it knows no findings, and may be wrong about a row.

cdef extern from * nogil:
    void fetch "__builtin_prefetch"(const void *)

cdef enum:
    ENTRIES_AHEAD = 48         # of the log
    ELEMENTS_AHEAD = 64        # of a list
    LARGE_TABLE = 1 << 21      # bytes: more than stays in a core's own cache
    CACHE_LINE = 64            # bytes; most rows are in one or two

cdef size_t _large_table = LARGE_TABLE


def look_ahead_from(bytes_=LARGE_TABLE):
    """Look ahead for tables of as many bytes in memory, from now on. For tests."""
    global _large_table
    _large_table = bytes_


cdef bint is_large(ModelState *m) noexcept nogil:
    return index_count(m) and m.table.rows.file == 0 and table_bytes(m) >= _large_table


cdef struct Sought:
    const Index *index
    const uint8_t *rows
    uint64_t word            # of the slot
    const PartPlan *part     # of the key that is made of the row, the first that goes on from it
    const PartPlan *end
    int hop                  # the number of the hop with which it does
    const uint8_t *row       # with its length in front


@cython.final
@cython.no_gc
cdef class LookAhead(RowFinder):
    """Reads the log of a piece before the `Splicer` does."""

    cdef bint *large             # per model: whether its table is
    cdef Buffer sought[2]        # Sought: of this round, and of the next one

    def __cinit__(self, Indexer index not None):
        cdef int i
        self.large = <bint *> _array(index.plan.model_count, sizeof(bint))
        for i in range(index.plan.model_count):
            self.large[i] = is_large(&index.models[i])

    def __dealloc__(self):
        free(self.large)
        free(self.sought[0].data)
        free(self.sought[1].data)

    cdef const uint8_t *look(self, const uint8_t *log, const uint8_t *stop) noexcept nogil:
        """Fetch what the next entries need; go on where the last call has stopped."""
        cdef int left = ENTRIES_AHEAD
        cdef int turn = 0
        self.sought[0].length = 0
        while left and log < stop:
            self.read_entry(&log)
            left -= 1
        while self.sought[turn].length:
            self.sought[1 - turn].length = 0
            self.fetch_rows(&self.sought[turn], &self.sought[1 - turn])
            turn = 1 - turn
        return log

    # -- what the log needs --

    cdef void read_entry(self, const uint8_t **at) noexcept nogil:
        cdef Entry entry = <Entry> at[0][0]
        cdef uint64_t start
        at[0] += 1
        if entry == RECORD:
            self.read_record(at)
            return
        start = self.log_end + read_number(at)
        self.log_end = start + read_number(at)
        if entry == RELATION or entry == TEXT:
            self.read_reference(at, entry, start)
        elif entry == MANY:
            self.read_many(at, start)
        elif entry == PARENT:
            self.read_parent(at)
        elif entry == REFERENCES:
            self.read_references(at)
        elif entry != CUT:
            self.read_key(at)

    cdef void read_record(self, const uint8_t **at) noexcept nogil:
        self.record_model = <int> read_number(at)
        read_number(at)
        self.record_start = self.log_end + read_number(at)
        self.log_end = self.record_start
        read_number(at)
        read_number(at)
        self.read_place(at)

    cdef void read_key(self, const uint8_t **at) noexcept nogil:
        cdef ModelPlan *plan = self.index.models[self.record_model].plan
        if self.read_columns(at, plan.row_columns):
            self.seek_paths(self.first_part(&plan.key), self.last_part(&plan.key), 0,
                            self.columns.data, &self.sought[0])

    cdef void read_reference(self, const uint8_t **at, Entry entry, uint64_t start) noexcept nogil:
        cdef RelationPlan *relation = &self.index.plan.relations[read_number(at)]
        cdef Text id
        if entry == TEXT:
            id = read_text(at)
        else:
            id.data = self.data + (start - self.data_start)
            id.length = self.log_end - start
            id = canonical(id, &self.id_scratch)
        self.seek_target(relation, id)

    cdef void read_many(self, const uint8_t **at, uint64_t start) noexcept nogil:
        cdef RelationPlan *relation = &self.index.plan.relations[read_number(at)]
        cdef const uint8_t *p = behind_spaces(self.data + (start - self.data_start) + 1)
        cdef int left = ELEMENTS_AHEAD
        cdef Text element
        while left and p[0] != c']':
            element.data = p
            p = value_end(p)
            element.length = p - element.data
            if is_id(element.data[0]):
                self.seek_target(relation, canonical(element, &self.id_scratch))
            p = next_element(p)
            left -= 1

    cdef void read_parent(self, const uint8_t **at) noexcept nogil:
        cdef RelationPlan *relation = &self.index.plan.relations[read_number(at)]
        at[0] += 1
        self.seek_target(relation, read_text(at))
        read_text(at)

    cdef void read_references(self, const uint8_t **at) noexcept nogil:
        cdef uint64_t left, number
        cdef Text id, type_
        cdef int model
        at[0] += 1
        left = read_number(at)
        while left:
            left -= 1
            number = read_number(at)
            id = read_text(at)
            type_ = read_text(at)
            if not number & 1:
                self.seek_target(&self.index.plan.relations[number >> 1], id)
                continue
            model = self.generic_target(&self.index.plan.generics[number >> 1], type_)
            if model != NOWHERE:
                self.seek_row(model, 0, id, &self.index.models[model].plan.key)

    # -- what is needed for that --

    cdef const PartPlan *first_part(self, const KeyPlan *key) noexcept nogil:
        return self.index.plan.parts + key.first_part

    cdef const PartPlan *last_part(self, const KeyPlan *key) noexcept nogil:
        """The place behind it."""
        return self.first_part(key) + key.parts

    cdef void seek_target(self, const RelationPlan *relation, Text id) noexcept nogil:
        if relation.index != NOWHERE:
            self.seek_row(relation.model, relation.index, id, &relation.key)

    cdef void seek_row(self, int model, int number, Text id, const KeyPlan *key) noexcept nogil:
        self.seek(model, number, id, self.first_part(key), self.last_part(key), 0, &self.sought[0])

    cdef void seek(self, int model, int number, Text id, const PartPlan *part, const PartPlan *end,
                   int hop, Buffer *sought) noexcept nogil:
        """The slot of that id is needed, its row, and what parts of a key lead to from there."""
        cdef ModelState *m = &self.index.models[model]
        cdef const Index *index = &m.table.indexes[number]
        cdef Sought it
        if not self.large[model] or index.size == 0 or index.file:
            return
        it.index = index
        it.rows = m.table.rows.heap.data
        it.word = hash_id(id, self.index.seed)
        while part < end and part.hops <= hop:
            part += 1
        it.part = part
        it.end = end
        it.hop = hop
        append(sought, &it, sizeof(Sought))

    cdef void seek_paths(self, const PartPlan *part, const PartPlan *end, int number,
                         const uint8_t *columns, Buffer *sought) noexcept nogil:
        """What the hops with that number need, of the paths that have so many."""
        cdef const Hop *hop
        cdef Text id
        while part < end:
            if number < part.hops:
                hop = self.index.plan.hops + part.first_hop + number
                id = column_of(columns, hop.column)
                if not is_null(id) and not is_list(id):
                    self.seek(hop.model, hop.index, canonical(id, &self.id_scratch), part, part + 1,
                              number + 1, sought)
            part += 1

    cdef void fetch_rows(self, const Buffer *sought, Buffer *next_) noexcept nogil:
        """All slots, then all rows, then see what these need."""
        cdef Sought *first = <Sought *> sought.data
        cdef Sought *end = <Sought *> (sought.data + sought.length)
        cdef Sought *it = first
        while it < end:
            fetch(it.index.slots + home_of(it.index, it.word))
            it += 1
        it = first
        while it < end:
            it.row = probable_row(it)
            if it.row != NULL:
                fetch(it.row)
                fetch(it.row + CACHE_LINE - 1)
            it += 1
        it = first
        while it < end:
            if it.row != NULL and it.part < it.end:
                read_number(&it.row)
                self.seek_paths(it.part, it.end, it.hop, row_columns(it.row), next_)
            it += 1


cdef inline const uint8_t *probable_row(const Sought *it) noexcept nogil:
    """The first row with the same bits of the hash; NULL where there is none."""
    cdef const Index *index = it.index
    cdef size_t at = home_of(index, it.word)
    while index.slots[at] and not same_hash(index.slots[at], it.word):
        at = next_slot(index, at)
    return it.rows + (index.slots[at] & PLACE_MASK) - 1 if index.slots[at] else NULL
