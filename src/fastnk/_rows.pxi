# ---- rows and findings --------------------------------------------------------------------

cdef enum Policy:
    ERROR
    KEEP
    NULL_
    DROP

_POLICIES = {"error": ERROR, "keep": KEEP, "null": NULL_, "drop": DROP}

cdef enum Code:
    UNRESOLVED = 301
    UNKNOWN_MODEL
    DUPLICATE_PK
    DUPLICATE_KEY
    NULL_KEY
    DUPLICATE_MEMBER
    NO_KEY
    NO_CONTENT_TYPE
    NO_GENERIC_TARGET
    NO_GENERIC_KEY
    UNRESOLVED_INSIDE
    NOT_JSON

cdef enum:
    FIRST_CODE = 301
    CODES = 12

_POLICY_NAMES = ("on_unresolved", "on_unknown_model", "on_duplicate_pk", "on_duplicate_key",
                 "on_null_key", "on_duplicate_member", "on_unresolved", "on_generic",
                 "on_generic", "on_generic", "on_embedded", "on_embedded")


cdef struct Double:
    # A record whose pk others have, too.
    Fingerprint pk
    uint64_t number


cdef int compare_doubles(const void *a, const void *b) noexcept nogil:
    cdef const Double *x = <const Double *> a
    cdef const Double *y = <const Double *> b
    if x.pk.high != y.pk.high:
        return 1 if x.pk.high > y.pk.high else -1
    if x.pk.low != y.pk.low:
        return 1 if x.pk.low > y.pk.low else -1
    return (x.number > y.number) - (x.number < y.number)


cdef inline int index_count(ModelState *m) noexcept nogil:
    return m.plan.indexes if m.plan else 0


cdef size_t table_bytes(ModelState *m) noexcept nogil:
    """Of its rows and indexes, wherever they lie."""
    cdef size_t total = m.table.rows.length
    cdef int i
    for i in range(index_count(m)):
        total += m.table.indexes[i].size * sizeof(uint64_t)
    return total


cdef bint same_row(const uint8_t *a, const uint8_t *b, int columns, int pk_column,
                   Buffer *scratch, Buffer *other_scratch) noexcept nogil:
    """Whether two rows say the same, wherever they come from and however it is spelled.

    A row that is converted already does not contradict one that is not: it may have no pk any
    more, and keys in place of ids.
    """
    cdef bint without_pk = (a[0] | b[0]) & ROW_WITHOUT_PK
    cdef Text x, y
    cdef int i
    if not (without_pk or same(row_pk(a), row_pk(b))):
        return False
    a = row_columns(a)
    b = row_columns(b)
    for i in range(columns):
        x = canonical(read_text(&a), scratch)
        y = canonical(read_text(&b), other_scratch)
        if without_pk and i == pk_column:
            continue
        if is_list(x) == is_list(y) and not same(x, y):
            return False
    return True


cdef inline uint64_t *find_slot(const Table *table, int number, int column, Text id, uint64_t word,
                                const uint8_t **row, Window *window, Buffer *buffer,
                                Buffer *scratch, Spill *spill) noexcept nogil:
    """The slot of the row with that id, and the row; or the free slot where it belongs. NULL when
    one cannot be read."""
    cdef const Index *index = &table.indexes[number]
    cdef size_t at = home_of(index, word)
    cdef uint64_t *slot = slot_at(index, at, window, spill)
    while slot != NULL and slot[0]:
        if same_hash(slot[0], word):
            row[0] = row_at(&table.rows, (slot[0] & PLACE_MASK) - 1, buffer, spill)
            if row[0] == NULL:
                return NULL
            if same(row_id(row[0], column, scratch), id):
                return slot
        at = next_slot(index, at)
        slot = slot_at(index, at, window, spill)
    return slot


cdef bint put_finding(Buffer *notes, Code code, uint64_t offset, uint64_t record, int model,
                      Text field, Text pk, Text value) noexcept nogil:
    return (append_number(notes, code) and append_number(notes, offset)
            and append_number(notes, record) and append_number(notes, model)
            and append_text(notes, field.data, field.length)
            and append_text(notes, pk.data, pk.length)
            and append_text(notes, value.data, value.length))


@cython.no_gc
cdef class RowKeeper(RecordReader):
    """Keeps the key map: rows of the models that something refers to. Notes what is wrong."""

    cdef int policies[CODES]
    cdef uint64_t counts[CODES]  # how often a policy other than error was applied
    cdef bint is_piece           # its rows are to be taken over, so it enters them nowhere
    cdef bint adopting           # rows of a piece
    cdef Buffer id_scratch
    cdef Buffer row              # at hand
    cdef Buffer composed         # the same with its length in front
    cdef Buffer other_row        # that it is compared with
    cdef Buffer notes            # findings, not yet taken
    cdef Buffer pk_prints        # fingerprints, not yet taken
    cdef Buffer key_prints
    cdef KeySet expected         # the pks, or the keys, that occur more than once
    cdef Buffer doubles          # the records whose pks are expected
    cdef Buffer superseded       # numbers of records with the pk of a later one, ascending
    cdef size_t next_superseded  # as an index into it
    cdef Buffer dropped          # numbers of the records to leave out, ascending
    cdef Spill spill
    cdef bytes spill_folder
    cdef Window filling          # the part of a spilled index that is filled

    def __cinit__(self, Plan plan not None, *, dict policies=None, bint is_piece=False,
                  size_t memory_limit=0, bytes spill_folder=b".", **options):
        self.is_piece = is_piece
        self.spill.limit = memory_limit
        self.filling.room = SLOTS_TO_FILL
        self.spill_folder = spill_folder
        self.spill.folder = self.spill_folder
        for i, policy in enumerate(_POLICY_NAMES):
            self.policies[i] = _POLICIES[(policies or {}).get(policy, "error")]

    def __dealloc__(self):
        cdef int i
        for i in range(self.model_count):
            free_table(&self.models[i].table, index_count(&self.models[i]), &self.spill)
            free(self.models[i].pks.runs)
            free(self.models[i].below.data)
        free(self.id_scratch.data)
        free(self.row.data)
        free(self.composed.data)
        free(self.other_row.data)
        free(self.notes.data)
        free(self.pk_prints.data)
        free(self.key_prints.data)
        free(self.expected.slots)
        free(self.doubles.data)
        free(self.superseded.data)
        free(self.dropped.data)
        free(self.filling.slots)

    # -- findings --

    cdef bint note(self, Code code, size_t at, Text field, Text value) noexcept nogil:
        """Apply the policy of `code`: count it, or note a finding."""
        if self.policies[code - FIRST_CODE] != ERROR:
            self.counts[code - FIRST_CODE] += 1
            return True
        return self.note_finding(code, at, field, value)

    cdef bint note_finding(self, Code code, size_t at, Text field, Text value) noexcept nogil:
        if put_finding(&self.notes, code, self.consumed + at, self.records + 1, self.record.model,
                       field, canonical(self.pk_value(), &self.scratch), value):
            return True
        self.walk.fault = MEMORY
        return False

    cdef bint note_duplicate_members(self, Buffer *repeated) noexcept nogil:
        cdef const Name *name = <const Name *> repeated.data
        cdef size_t i
        for i in range(repeated.length // sizeof(Name)):
            if not self.note(DUPLICATE_MEMBER, self.record.start, self.name_text(&name[i]),
                             literal(b"")):
                return False
        return True

    cdef bint note_not_json(self) noexcept nogil:
        cdef const Slot *slot = <const Slot *> self.not_json.data
        cdef size_t i
        for i in range(self.not_json.length // sizeof(Slot)):
            if not self.note(NOT_JSON, self.record.start, self.plan.fields[slot[i].field].name,
                             literal(b"")):
                return False
        return True

    # -- the end of a record --

    cdef inline bint note_flaws(self) noexcept nogil:
        """What was found while it was read; hardly any record has any of it."""
        if not (self.repeated.length or self.repeated_fields.length or self.not_json.length):
            return True
        return (self.note_duplicate_members(&self.repeated)
                and self.note_duplicate_members(&self.repeated_fields) and self.note_not_json())

    cdef bint leave_out(self) noexcept nogil:
        cdef uint64_t number = self.records + 1
        return self.push(&self.dropped, &number, sizeof(uint64_t))

    cdef bint meet_unknown(self, ModelState *m) noexcept nogil:
        if self.policies[UNKNOWN_MODEL - FIRST_CODE] == DROP and not self.leave_out():
            return False
        return self.note(UNKNOWN_MODEL, self.record.start, literal(b""), m.label)

    cdef bint is_superseded(self) noexcept nogil:
        """Whether a later record has the pk, and the policy is to leave this one out for that."""
        cdef const uint64_t *numbers = <const uint64_t *> self.superseded.data
        cdef bint found = (self.next_superseded < self.superseded.length // sizeof(uint64_t)
                           and numbers[self.next_superseded] == self.records + 1)
        self.next_superseded += found
        return found

    cdef bint meet_pk(self, ModelState *m, Text pk) noexcept nogil:
        if self.policies[DUPLICATE_PK - FIRST_CODE] == DROP:
            return self.note_any_pk(m, pk)
        return index_count(m) or self.note_pk(m, pk)  # an index tells by itself

    cdef bint note_any_pk(self, ModelState *m, Text pk) noexcept nogil:
        """What tells in a first pass which pks occur more than once, and in a second one in which
        records; in the one behind these are left out."""
        cdef Double found
        if self.superseded.length:
            return True
        pk = canonical(pk, &self.scratch)
        if pk.data == NULL:
            self.walk.fault = MEMORY
            return False
        found.pk = fingerprint_of(pk, m.tag, MADE, self.seed)
        found.number = self.records + 1
        if self.expected.size == 0:
            return self.push(&self.pk_prints, &found.pk, sizeof(Fingerprint))
        return (find_fingerprint(&self.expected, found.pk).low == 0
                or self.push(&self.doubles, &found, sizeof(Double)))

    cdef bint note_pk(self, ModelState *m, Text pk) noexcept nogil:
        cdef Entered entered = ELSEWHERE
        cdef Fingerprint fingerprint
        cdef int64_t value
        pk = canonical(pk, &self.scratch)
        if pk.data == NULL:
            self.walk.fault = MEMORY
            return False
        if read_integer(pk, &value):
            entered = enter_pk(&m.pks, value)
            if entered == ELSEWHERE and self.is_piece and not self.push(
                    &m.below, &value, sizeof(int64_t)):
                return False
        if entered == ELSEWHERE:
            fingerprint = fingerprint_of(pk, m.tag, MADE, self.seed)
            if not self.push(&self.pk_prints, &fingerprint, sizeof(Fingerprint)):
                return False
            if occurs_again(&self.expected, fingerprint):
                entered = PRESENT
        if entered == PRESENT and self.is_piece:
            # Whatever the policy: only in order can be told which of all records come again.
            return self.note_finding(DUPLICATE_PK, self.record.start, literal(b""), pk)
        if entered == PRESENT:
            return self.note(DUPLICATE_PK, self.record.start, literal(b""), pk)
        if entered == NOT_ENTERED:
            self.walk.fault = MEMORY
            return False
        return True

    cdef bint note_duplicate_pk(self, ModelState *m, int column, Text id,
                                bint without_pk) noexcept nogil:
        cdef int i
        cdef Text field = literal(b"")
        if column != NOWHERE:
            for i in range(m.plan.first_field, m.plan.first_field + m.plan.fields):
                if self.plan.fields[i].column == column:
                    field = self.plan.fields[i].name
        if (column != NOWHERE and not without_pk
                and self.policies[DUPLICATE_PK - FIRST_CODE] == DROP):
            # Each of the two is the last one with its pk.
            return self.note_finding(DUPLICATE_PK, self.record.start, field, id)
        return self.note(DUPLICATE_PK, self.record.start, field, id)

    # -- the log --

    cdef bint note_standing_key(self) noexcept nogil:
        """A key that stands in the record may be that of a record whose key is yet to be made."""
        cdef Fingerprint fingerprint
        cdef Text key = plain_json(self.span(self.record.key_start, self.record.key_end),
                                   &self.scratch, &self.row_scratch)
        if key.data == NULL:
            self.walk.fault = MEMORY
            return False
        fingerprint = fingerprint_of(key, self.record.model, 0, self.seed)
        return self.push(&self.key_prints, &fingerprint, sizeof(Fingerprint))

    # -- rows --

    cdef bint store_row(self, ModelState *m) noexcept nogil:
        """Append the row and enter it into the model's indexes."""
        cdef size_t place = m.table.rows.length
        cdef const uint8_t *row
        cdef bint stored = self.is_piece
        cdef int i
        if not self.compose_row(m.plan):
            self.walk.fault = MEMORY
            return False
        row = self.composed.data
        read_number(&row)
        if not self.is_piece:
            for i in range(m.plan.indexes):
                if not self.enter(m, i, place, row, &stored):
                    return False
        if stored and not append_row(&m.table.rows, self.composed.data, self.composed.length,
                                     &self.spill):
            self.walk.fault = MEMORY
            return False
        return True

    cdef bint compose_row(self, ModelPlan *plan) noexcept nogil:
        cdef Buffer *row = &self.row
        cdef Text pk = self.told_pk(plan)
        cdef uint8_t flags = ROW_OF_KEYS if self.keys_only else 0
        cdef int i
        if self.pk_value().length == 0:
            flags |= ROW_WITHOUT_PK | (ROW_TELLS_PK if pk.length else 0)
        if self.policies[UNRESOLVED - FIRST_CODE] == DROP and not self.keys_only:
            flags |= ROW_NUMBERED
        pk = canonical(pk, &self.scratch)
        row.length = self.composed.length = 0
        if pk.data == NULL or not append_byte(row, flags):
            return False
        if flags & ROW_NUMBERED and not append_number(row, self.records + 1):
            return False
        if not append_text(row, pk.data, pk.length):
            return False
        self.complete_columns(plan)
        for i in range(plan.row_columns):
            if not append_text(row, self.columns[i].data, self.columns[i].length):
                return False
        return append_text(&self.composed, row.data, row.length)

    cdef void complete_columns(self, ModelPlan *plan) noexcept nogil:
        if plan.pk_column != NOWHERE and (self.record.pk.end or plan.pk_part != NOWHERE):
            self.columns[plan.pk_column] = self.told_pk(plan)

    cdef Text told_pk(self, ModelPlan *plan) noexcept nogil:
        """The pk, which the natural key that stands in the record may tell; empty where nothing
        does."""
        cdef Text pk = self.pk_value()
        cdef Text key = self.span(self.record.key_start, self.record.key_end)
        if pk.length == 0 and plan.pk_part != NOWHERE and is_list(key):
            pk = list_element(key, plan.pk_part)
            pk.length = 0 if is_null(pk) else pk.length
        return pk

    cdef bint enter(self, ModelState *m, int number, size_t place, const uint8_t *row,
                    bint *stored) noexcept nogil:
        """Enter a row into one index. Of two rows with one id the last one wins, but a backup
        that only supplies keys does not overrule the one to convert."""
        cdef Index *index = &m.table.indexes[number]
        cdef int column = self.plan.indexes[m.plan.first_index + number]
        cdef uint64_t word
        cdef Text id
        if not has_id(row, column):
            return True
        id = row_id(row, column, &self.id_scratch)
        self.walk.fault = MEMORY
        if id.data == NULL:
            return False
        word = (hash_id(id, self.seed) & ~PLACE_MASK) | (place + 1)
        if index.file and self.adopting:
            if not append(&index.pending, &word, sizeof(word)) or (
                    index.pending.length >= MOST_PENDING * sizeof(word)
                    and not self.take_up(m, number)):
                return False
        elif not (grow_index(index, 1, &self.filling, &self.spill)
                  and self.enter_now(m, number, row, id, word, stored)):
            return False
        self.walk.fault = NONE
        return True

    cdef bint enter_now(self, ModelState *m, int number, const uint8_t *row, Text id,
                        uint64_t word, bint *stored) noexcept nogil:
        cdef Index *index = &m.table.indexes[number]
        cdef int column = self.plan.indexes[m.plan.first_index + number]
        cdef const uint8_t *other = NULL
        cdef uint64_t *slot = find_slot(&m.table, number, column, id, word, &other, &self.filling,
                                        &self.other_row, &self.row_scratch, &self.spill)
        if slot == NULL:
            return False
        if slot[0] and column == NOWHERE and row[0] & ROW_WITHOUT_PK:
            # A pk that a natural key tells counts where no record has it.
            return True
        if slot[0] and self.keys_only and same_row(other, row, m.plan.row_columns, m.plan.pk_column,
                                                   &self.scratch, &self.row_scratch):
            # But one that has its pk takes the place of one that has lost it.
            if not (other[0] & ROW_WITHOUT_PK and not row[0] & ROW_WITHOUT_PK):
                return True
        elif slot[0] and (self.keys_only or column != NOWHERE or not other[0] & ROW_WITHOUT_PK):
            if not self.note_duplicate_pk(m, column, id, (other[0] | row[0]) & ROW_WITHOUT_PK):
                return False
            if self.keys_only and not other[0] & ROW_OF_KEYS:
                return True
        stored[0] = True
        return fill_slot(index, slot, word, &self.filling)

    # -- pieces --

    cdef bint adopt_pks(self, ModelState *m, const ModelState *piece) noexcept nogil:
        """Enter the integer pks of the next piece. False where one of them occurred before, or
        without memory."""
        cdef const int64_t *below = <const int64_t *> piece.below.data
        cdef size_t i
        for i in range(piece.pks.count):
            if not self.adopt_run(m, piece.pks.runs[i]):
                return False
        # None can be in a run of pieces to come, unless this one had more runs than are kept.
        for i in range(piece.below.length // sizeof(int64_t)):
            if takes_run(&m.pks, below[i]) or in_runs(&m.pks, below[i]):
                return False
        return True

    cdef bint adopt_run(self, ModelState *m, Run run) noexcept nogil:
        cdef Fingerprint fingerprint
        cdef char digits[24]
        cdef Text pk
        while run.first <= run.last and not takes_run(&m.pks, run.first):
            pk.data = <const uint8_t *> digits
            pk.length = snprintf(digits, sizeof(digits), b"%lld", <long long> run.first)
            fingerprint = fingerprint_of(pk, m.tag, MADE, self.seed)
            if in_runs(&m.pks, run.first) or not self.push(
                    &self.pk_prints, &fingerprint, sizeof(Fingerprint)):
                return False
            run.first += 1
        return run.first > run.last or append_run(&m.pks, run)

    cdef bint adopt_rows(self, ModelState *m, const Rows *rows) noexcept nogil:
        cdef size_t place = m.table.rows.length
        cdef const uint8_t *at = rows.heap.data
        cdef const uint8_t *end = at + rows.length
        cdef const uint8_t *row
        cdef size_t length
        cdef bint stored
        cdef int i
        if rows.length and not append_row(&m.table.rows, at, rows.length, &self.spill):
            return False
        while at < end:
            row = at
            length = read_number(&row)
            for i in range(m.plan.indexes):
                if not self.enter(m, i, place, row, &stored) or self.notes.length:
                    return False
            place += row + length - at
            at = row + length
        return True

    cdef bint take_up(self, ModelState *m, int number) noexcept nogil:
        """The pending slots of a spilled index, from the first to the last."""
        cdef Index *index = &m.table.indexes[number]
        cdef uint64_t *words = <uint64_t *> index.pending.data
        cdef size_t count = index.pending.length // sizeof(uint64_t)
        cdef size_t i
        if count == 0:
            return True
        fnk_sort_words(words, count)
        if not grow_index(index, count, &self.filling, &self.spill):
            return False
        for i in range(count):
            if not self.put_new(m, number, words[i]):
                return False
        index.pending.length = 0
        return True

    cdef bint put_new(self, ModelState *m, int number, uint64_t word) noexcept nogil:
        """Put a slot where it belongs. False if another row has the same id."""
        cdef Index *index = &m.table.indexes[number]
        cdef int column = self.plan.indexes[m.plan.first_index + number]
        cdef size_t at = home_of(index, word)
        cdef uint64_t *slot = slot_at(index, at, &self.filling, &self.spill)
        while slot != NULL and slot[0]:
            if same_hash(slot[0], word) and self.is_same_id(m, column, slot[0], word):
                return False
            at = next_slot(index, at)
            slot = slot_at(index, at, &self.filling, &self.spill)
        return slot != NULL and fill_slot(index, slot, word, &self.filling)

    cdef bint is_same_id(self, ModelState *m, int column, uint64_t a, uint64_t b) noexcept nogil:
        cdef const Rows *rows = &m.table.rows
        cdef const uint8_t *row = row_at(rows, (a & PLACE_MASK) - 1, &self.row, &self.spill)
        cdef const uint8_t *other = row_at(rows, (b & PLACE_MASK) - 1, &self.other_row, &self.spill)
        return row == NULL or other == NULL or same(row_id(row, column, &self.id_scratch),
                                                    row_id(other, column, &self.row_scratch))

    # -- models --

    cdef raise_memory_error(self):
        if self.spill.error:
            raise OSError(self.spill.error, os.strerror(self.spill.error),
                          os.fsdecode(self.spill_folder))
        raise MemoryError

    # -- for Python --
