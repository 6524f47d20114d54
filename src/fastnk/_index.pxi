# ---- pass 1 -------------------------------------------------------------------------------
#
# The log tells pass 2 what to do, in the order of the bytes. All numbers are varints; a gap is the
# distance from where the entry before ended, a place the length of a value and, unless that is 0,
# how far from the record's start it stands:
#
#     RECORD   model, records since the last one, gap, separator, length, place of the pk
#     KEY      gap, length, places of columns   the pk member, in whose place the key comes
#     BESIDE   gap, 0, places of columns        the key comes in front of the pk member
#     PARENT   gap, 0, relation, more, id, pk   in front of the fields: the link to the parent
#     REFERENCES gap, 0, count, then of each: generic or relation, id, content type or pk
#     RELATION gap, length, relation            one id, which stands there
#     TEXT     gap, length, relation, id        one id, inside a string
#     FIRST    gap, length, relation            as RELATION, in a list of many
#     LATER    gap, length, relation
#     FIRST_KEPT gap, length                    something in such a list that stays
#     KEPT     gap, length
#     CUT      gap, length                      a pk member that a later one overrules
#     NATURAL  gap, 0, places of columns        no pk and no key: the fields are to make a key of

cdef enum Entry:
    RECORD
    KEY
    BESIDE
    PARENT
    REFERENCES
    RELATION
    TEXT
    FIRST
    LATER
    FIRST_KEPT
    KEPT
    CUT
    NATURAL

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

cdef int _max_unknown_models = MAX_MODELS

_POLICY_NAMES = ("on_unresolved", "on_unknown_model", "on_duplicate_pk", "on_duplicate_key",
                 "on_null_key", "on_duplicate_member", "on_unresolved", "on_generic",
                 "on_generic", "on_generic", "on_embedded", "on_embedded")

cdef struct Slot:
    size_t at
    size_t length
    Entry entry
    bint whole           # a text that is an id as it stands
    int relation
    int field
    size_t occurrence    # of the field: it may stand in the record again

cdef struct Name:
    size_t at            # in the window, or in the decoded names
    size_t length
    bint decoded
    int field

cdef struct ModelState:
    ModelPlan *plan      # NULL: not in the schema
    Text label
    Table table
    PkSet pks            # where the table has no index to find a second record with one pk
    Buffer shape         # the fields of its records, as Name: in `shape_text`
    Buffer shape_text
    uint64_t records
    uint64_t with_pk
    uint64_t with_natural_key

cdef struct Member:
    size_t previous_end  # of the member before, 0 where there is none
    size_t start
    size_t value
    size_t end
    size_t following     # where the member behind starts, 0 where there is none

cdef struct Record:
    size_t start
    int model
    bint has_natural_key
    size_t key_start     # of its value
    size_t key_end
    bint has_references
    bint has_parent_link
    bint has_fields
    size_t fields_start  # of the member's name
    size_t first_field   # or, where there is none, the closing brace
    bint any_field
    Member pk            # start is 0 where there is none
    size_t fields_at     # as an index into the positions
    int fields_model     # that the fields were walked for


cdef inline bint is_word(Text text, const char *word) noexcept nogil:
    cdef size_t i
    for i in range(text.length):
        if text.data[i] != <uint8_t> word[i]:  # a word ends in 0, which also differs
            return False
    return word[text.length] == 0


cdef inline Text literal(const char *word) noexcept nogil:
    cdef Text text
    text.data = <const uint8_t *> word
    text.length = 0
    while word[text.length]:
        text.length += 1
    return text


cdef inline size_t skip_fields(Walk *w, const Name *shape, size_t count,
                               const uint8_t *names) noexcept nogil:
    """Walk over fields that follow the shape, mean nothing to us, hold strings or the simplest
    scalars and have a comma behind. Returns how many; nothing else is skipped, or looked at.

    What is listed behind a string is either outside it or a fault: a comma is outside.
    """
    cdef const uint32_t *at = w.positions + w.at
    cdef const uint8_t *text = w.text
    cdef const uint8_t *name
    cdef size_t skipped = 0
    while skipped < count and shape.field == NOWHERE:
        name = text + at[0] + 1
        if (text[at[1]] != c':' or name + shape.length >= text + at[1] or text[at[0]] != c'"'
                or name[shape.length] != c'"'
                or not same_bytes(name, names + shape.at, shape.length)):
            break
        if text[at[2]] != c'"' and not is_simple(text + at[2]):
            break
        if text[at[3]] != c',':
            break
        at += 4
        shape += 1
        skipped += 1
    w.at = at - w.positions
    return skipped


cdef inline bint is_simple(const uint8_t *value) noexcept nogil:
    """Whether a whole scalar stands here, and it is null, true, false or a natural number."""
    cdef uint8_t c = value[0]
    if c == c'n' or c == c't':
        return memcmp(value, b"null" if c == c'n' else b"true", 4) == 0 and (
            fnk_class[value[4]] & ENDS_SCALAR)
    if c == c'f':
        return memcmp(value + 1, b"alse", 4) == 0 and fnk_class[value[5]] & ENDS_SCALAR
    if not c'1' <= c <= c'9':
        return c == c'0' and fnk_class[value[1]] & ENDS_SCALAR
    while c'0' <= value[0] <= c'9':
        value += 1
    return fnk_class[value[0]] & ENDS_SCALAR


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
        at = (at + 1) & (index.size - 1)
        slot = slot_at(index, at, window, spill)
    return slot


cdef inline int index_count(ModelState *m) noexcept nogil:
    return m.plan.indexes if m.plan else 0


cdef inline bint may_be_id(Text value) noexcept nogil:
    """A number, or a text that is not empty."""
    cdef uint8_t c = value.data[0]
    if c == c'-':
        c = value.data[1]
    return value.length > 2 if c == c'"' else c'0' <= c <= c'9'


cdef int compare_slots(const void *a, const void *b) noexcept nogil:
    cdef size_t x = (<const Slot *> a).at
    cdef size_t y = (<const Slot *> b).at
    return (x > y) - (x < y)


@cython.final
@cython.no_gc
cdef class Indexer(Walker):
    """Pass 1: fills the key map and logs the places that change."""

    cdef Plan plan
    cdef ModelState *models
    cdef int model_count
    cdef int model_room
    cdef int *labels             # open addressing: number of the model plus one
    cdef size_t labels_size
    cdef Text *columns           # of the record at hand
    cdef size_t *occurrences     # per field: the last one in the record at hand
    cdef int field               # that is walked over
    cdef size_t fields           # of the record, before that one
    cdef uint64_t seed[2 * SEED_WORDS]
    cdef int policies[CODES]
    cdef uint64_t counts[CODES]  # how often a policy other than error was applied
    cdef bint django_style
    cdef bint is_piece           # its rows are to be taken over, so it enters them nowhere
    cdef bint log_all            # every record gets a log entry, so that any can be left out
    cdef bint keys_only
    cdef int last_model          # of the record before: mostly that of the next, too
    cdef Record record
    cdef Buffer slots
    cdef Buffer cuts
    cdef Buffer names            # of the fields of the record at hand
    cdef Buffer repeated         # members of the record that stand in it more than once
    cdef Buffer repeated_fields  # the same of its fields
    cdef Buffer extras           # member names of the record itself that mean nothing to us
    cdef Buffer not_json         # fields of the record whose text should be JSON: their slots
    cdef Buffer inner            # the text of a field that holds JSON,
    cdef Buffer inner_places     # where its bytes stand in the window,
    cdef Buffer inner_positions  # and which of them the scan has listed
    cdef Buffer decoded
    cdef Buffer scratch
    cdef Buffer row_scratch
    cdef Buffer id_scratch
    cdef Buffer log
    cdef Buffer notes            # findings, not yet taken
    cdef Buffer pk_prints        # fingerprints, not yet taken
    cdef Buffer key_prints
    cdef KeySet expected         # the pks, or the keys, that occur more than once
    cdef Buffer dropped          # numbers of the records to leave out, ascending
    cdef Spill spill
    cdef bytes spill_folder
    cdef Window filling          # the part of a spilled index that is filled
    cdef bint adopting           # rows of a piece
    cdef Buffer row              # at hand
    cdef Buffer composed         # the same with its length in front
    cdef Buffer other_row        # that it is compared with
    cdef readonly unsigned long long log_end
    """Where the last entry of the log ended."""
    cdef readonly unsigned long long logged_record
    """The number of the last record in the log."""

    def __cinit__(self, Plan plan not None, *, name=None, dict policies=None,
                  bint django_style=False, size_t max_record=DEFAULT_MAX_RECORD,
                  Indexer after=None, bint is_piece=False, size_t memory_limit=0,
                  bytes spill_folder=b"."):
        self.plan = plan
        self.name = name
        self.max_record = max_record
        self.django_style = django_style
        self.is_piece = is_piece
        self.last_model = NOWHERE
        self.spill.limit = memory_limit
        self.filling.room = SLOTS_TO_FILL
        self.spill_folder = spill_folder
        self.spill.folder = self.spill_folder
        seed = os.urandom(sizeof(self.seed))
        memcpy(self.seed, <const uint8_t *> seed, sizeof(self.seed))
        if after is not None:
            # Fingerprints of two runs are compared.
            memcpy(self.seed, after.seed, sizeof(self.seed))
        for i, policy in enumerate(_POLICY_NAMES):
            self.policies[i] = _POLICIES[(policies or {}).get(policy, "error")]
            self.log_all |= self.policies[i] == DROP
        self.occurrences = <size_t *> _array(plan.field_count, sizeof(size_t))
        self.columns = <Text *> _array(
            max([plan.models[i].columns for i in range(plan.model_count)], default=0), sizeof(Text))
        self.labels_size = 16
        while self.labels_size < 4 * <size_t> plan.model_count:
            self.labels_size *= 2
        self.labels = <int *> _array(self.labels_size, sizeof(int))
        for i in range(plan.model_count):
            if self.add_model(plan.models[i].label, &plan.models[i]) == NOWHERE:
                raise MemoryError

    def __dealloc__(self):
        cdef int i
        for i in range(self.model_count):
            free_table(&self.models[i].table, index_count(&self.models[i]), &self.spill)
            if self.models[i].plan == NULL:
                free(<void *> self.models[i].label.data)
            free(self.models[i].pks.runs)
            free(self.models[i].shape.data)
            free(self.models[i].shape_text.data)
        free(self.models)
        free(self.labels)
        free(self.columns)
        free(self.occurrences)
        free(self.slots.data)
        free(self.cuts.data)
        free(self.names.data)
        free(self.extras.data)
        free(self.repeated.data)
        free(self.repeated_fields.data)
        free(self.not_json.data)
        free(self.inner.data)
        free(self.inner_places.data)
        free(self.inner_positions.data)
        free(self.decoded.data)
        free(self.scratch.data)
        free(self.row_scratch.data)
        free(self.id_scratch.data)
        free(self.log.data)
        free(self.notes.data)
        free(self.pk_prints.data)
        free(self.key_prints.data)
        free(self.expected.slots)
        free(self.dropped.data)
        free(self.filling.slots)
        free(self.row.data)
        free(self.composed.data)
        free(self.other_row.data)

    def start_keys(self, name):
        """What is fed from now on is another backup, whose records only supply keys."""
        self.name = name
        self.keys_only = True
        self.top = START
        self.consumed = self.records = self.records_end = 0
        self.window.length = self.retry_length = 0
        self.walk.final = False

    # -- pieces --
    #
    # A backup may be indexed in pieces, each by an `Indexer` of its own, in threads of their own.
    # Where they are cut is a guess, and so is that nothing is wrong with them: each piece says
    # whether it held, and the backup is indexed as a whole where one did not.

    def index_piece(self, uint8_t[::1] data, size_t length, unsigned long long start,
                    bint is_array, bint is_last, size_t stretch):
        """Index a piece that stands at `start` in the backup and should begin with a record, or
        with the backup, and end before a record, or with the backup. Returns whether that held,
        with nothing found wrong.

        `data` holds `length` bytes and FNK_BLOCK more that may be overwritten. About `stretch`
        bytes are scanned and then walked over, so that they are still in the cache.
        """
        cdef Top expected = LINES if not is_array else CLOSED if is_last else NEXT
        cdef bint held
        cdef int i
        if <size_t> data.shape[0] < length + FNK_BLOCK:
            raise ValueError(f"no room behind {length} bytes")
        for i in range(self.model_count):
            self.models[i].table.rows.length = self.models[i].table.rows.heap.length = 0
            self.models[i].pks.count = 0
            self.models[i].records = self.models[i].with_pk = 0
            self.models[i].with_natural_key = 0
        self.consumed = self.records_end = self.log_end = start
        self.records = self.logged_record = 0
        self.top = START if start == 0 else NEXT if is_array else LINES
        with nogil:
            held = self.walk_piece(&data[0], length, max(stretch // FNK_BLOCK, 1) * FNK_BLOCK)
        return held and self.notes.length == 0 and self.top == expected

    cdef bint walk_piece(self, uint8_t *data, size_t length, size_t stretch) noexcept nogil:
        """Meet the records of a piece where they stand. Returns whether nothing is left over."""
        cdef size_t longer = stretch
        cdef size_t at = 0
        cdef size_t next_, done
        cdef uint8_t covered
        cdef bint good = True
        memset(data + length, c' ', FNK_BLOCK)
        while good and at < length:
            next_ = min(longer, length - at)
            # The sentinel needs a byte of white space to stand on.
            covered = data[at + next_]
            data[at + next_] = c' '
            good = self.walk_bytes(data + at, next_, &done)
            data[at + next_] = covered
            # Twice as long each time: walking an unfinished record again stays linear in the end.
            longer = stretch if done else 2 * longer
            good = good and (done or at + next_ < length)
            at += done
            self.consumed += done
        return good

    def adopt(self, Indexer piece not None):
        """Take over the rows and counts of the next piece. Returns whether nothing is wrong."""
        cdef ModelState *m
        cdef ModelState *other
        cdef int i, number
        cdef bint good
        for i in range(piece.model_count):
            other = &piece.models[i]
            if other.records == 0:
                continue
            number = self.find_model(other.label)
            if number == NOWHERE:
                return False
            m = &self.models[number]
            m.records += other.records
            m.with_pk += other.with_pk
            m.with_natural_key += other.with_natural_key
            with nogil:
                self.adopting = True
                good = add_runs(&m.pks, &other.pks) and self.adopt_rows(m, &other.table.rows)
                self.adopting = False
            if not good:
                return False
        for i in range(CODES):
            self.counts[i] += piece.counts[i]
            piece.counts[i] = 0
        self.records += piece.records
        self.records_end = piece.records_end
        self.consumed = piece.consumed
        self.top = piece.top
        return True

    def cut_log(self):
        """What is logged from now on counts from here."""
        self.log_end = self.consumed
        self.logged_record = self.records

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

    def settle(self):
        """Take up what is pending after the last piece. Returns whether nothing is wrong."""
        cdef bint good = True
        cdef int i, k
        with nogil:
            for i in range(self.model_count):
                for k in range(index_count(&self.models[i])):
                    good = good and self.take_up(&self.models[i], k)
            good = good and write_back(&self.filling, &self.spill)
        return good

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
            at = (at + 1) & (index.size - 1)
            slot = slot_at(index, at, &self.filling, &self.spill)
        return slot != NULL and fill_slot(index, slot, word, &self.filling)

    cdef bint is_same_id(self, ModelState *m, int column, uint64_t a, uint64_t b) noexcept nogil:
        cdef const Rows *rows = &m.table.rows
        cdef const uint8_t *row = row_at(rows, (a & PLACE_MASK) - 1, &self.row, &self.spill)
        cdef const uint8_t *other = row_at(rows, (b & PLACE_MASK) - 1, &self.other_row, &self.spill)
        return row == NULL or other == NULL or same(row_id(row, column, &self.id_scratch),
                                                    row_id(other, column, &self.row_scratch))

    # -- models --

    cdef int *label_slot(self, Text label) noexcept nogil:
        cdef size_t at = hash_text(label, self.seed) & (self.labels_size - 1)
        while self.labels[at] and not same(self.models[self.labels[at] - 1].label, label):
            at = (at + 1) & (self.labels_size - 1)
        return &self.labels[at]

    cdef int add_model(self, Text label, ModelPlan *plan) noexcept nogil:
        """The number of the new model; NOWHERE without memory."""
        cdef ModelState *models
        cdef ModelState *model
        if self.model_count == self.model_room:
            self.model_room = 2 * self.model_room if self.model_room else 32
            models = <ModelState *> realloc(self.models, self.model_room * sizeof(ModelState))
            if models == NULL:
                return NOWHERE
            self.models = models
        model = &self.models[self.model_count]
        memset(model, 0, sizeof(ModelState))
        model.label = label
        model.plan = plan
        if plan and plan.indexes:
            model.table.indexes = <Index *> calloc(plan.indexes, sizeof(Index))
            if model.table.indexes == NULL:
                return NOWHERE
        self.label_slot(label)[0] = self.model_count + 1
        self.model_count += 1
        return self.model_count - 1

    cdef int add_unknown_model(self, Text label) noexcept nogil:
        cdef int *labels
        cdef int i
        cdef Text copy
        if self.model_count - self.plan.model_count >= _max_unknown_models:
            fail(&self.walk, MODELS, self.record.start, self.record.start)
            return NOWHERE
        self.walk.fault = MEMORY
        if 2 * <size_t> (self.model_count + 1) > self.labels_size:
            labels = <int *> calloc(2 * self.labels_size, sizeof(int))
            if labels == NULL:
                return NOWHERE
            free(self.labels)
            self.labels = labels
            self.labels_size *= 2
            for i in range(self.model_count):
                self.label_slot(self.models[i].label)[0] = i + 1
        copy.data = <const uint8_t *> malloc(label.length + 1)
        copy.length = label.length
        if copy.data == NULL:
            return NOWHERE
        memcpy(<void *> copy.data, label.data, label.length)
        i = self.add_model(copy, NULL)
        if i != NOWHERE:
            self.walk.fault = NONE
        return i

    cdef int find_model(self, Text label) noexcept nogil:
        """The model's number; an unknown one is added. NOWHERE after a fault."""
        cdef int number = self.last_model
        cdef size_t i
        cdef Text lower
        if number != NOWHERE and same(self.models[number].label, label):
            return number
        number = self.label_slot(label)[0]
        if number:
            return number - 1
        # Django reads "auth.User" as "auth.user".
        self.scratch.length = 0
        if not self.push(&self.scratch, label.data, label.length):
            return NOWHERE
        for i in range(label.length):
            if c'A' <= self.scratch.data[i] <= c'Z':
                self.scratch.data[i] |= 0x20
        lower.data = self.scratch.data
        lower.length = label.length
        number = self.label_slot(lower)[0]
        return number - 1 if number else self.add_unknown_model(label)

    # -- one record --

    cdef Text span(self, size_t start, size_t end) noexcept nogil:
        cdef Text text
        text.data = self.walk.text + start
        text.length = end - start
        return text

    cdef bint meet_record(self) noexcept nogil:
        cdef Walk *w = &self.walk
        cdef Member member
        cdef bint more
        self.start_record()
        member.end = 0
        w.at += 1
        more = peek(w) != c'}'
        while more:
            member.previous_end = member.end
            member.start = w.positions[w.at]
            if not self.walk_member(&member):
                return False
            more = peek(w) == c','
            if more:
                w.at += 1
                if self.record.pk.end == member.end:
                    self.record.pk.following = w.positions[w.at]
            elif peek(w) != c'}':
                return fail_here(w, DELIMITER_OBJECT)
        w.at += 1
        return self.end_record()

    cdef void start_record(self) noexcept nogil:
        memset(&self.record, 0, sizeof(Record))
        self.record.start = self.walk.positions[self.walk.at]
        self.record.model = NOWHERE
        self.record.fields_model = NOWHERE
        self.extras.length = 0
        self.repeated.length = 0
        self.decoded.length = 0
        self.slots.length = 0
        self.cuts.length = 0

    cdef bint walk_member(self, Member *member) noexcept nogil:
        cdef Walk *w = &self.walk
        cdef Text name
        if not walk_name(w):
            return False
        name = unescaped(self.span(member.start + 1, w.value_end - 1), &self.scratch, False)
        if not walk_colon(w):
            return False
        member.value = w.positions[w.at]
        member.following = 0
        if not self.walk_member_value(member, name):
            return False
        member.end = w.value_end
        return True

    cdef bint walk_member_value(self, Member *member, Text name) noexcept nogil:
        cdef Walk *w = &self.walk
        if is_word(name, b"model"):
            return self.walk_model()
        if is_word(name, b"fields"):
            if peek(w) != c'{':
                return fail_here(w, FIELDS_TYPE)
            if self.record.has_fields:
                self.note_repeated(b"fields")
            self.record.has_fields = True
            self.record.fields_start = member.start
            self.record.fields_at = w.at
            self.record.fields_model = self.record.model
            if self.record.model != NOWHERE:
                return self.walk_fields(&self.models[self.record.model])
            return walk_container(w)
        if not walk_value(w):
            return False
        if is_word(name, b"pk"):
            if self.record.pk.end and not self.cut_overruled_pk():
                return False
            self.record.pk = member[0]
            self.record.pk.end = w.value_end
            return True
        if is_word(name, b"natural_key"):
            if self.record.has_natural_key:
                self.note_repeated(b"natural_key")
            self.record.has_natural_key = True
            self.record.key_start = member.value
            self.record.key_end = w.value_end
            return True
        if is_word(name, b"references"):
            if self.record.has_references:
                self.note_repeated(b"references")
            self.record.has_references = True
            return True
        return self.remember(&self.extras, name, NOWHERE)

    cdef bint walk_model(self) noexcept nogil:
        cdef Walk *w = &self.walk
        cdef size_t start = w.positions[w.at]
        cdef Text label
        if peek(w) != c'"':
            return fail_here(w, MODEL_TYPE)
        if not walk_string(w):
            return False
        label = unescaped(self.span(start + 1, w.value_end - 1), &self.row_scratch, False)
        if self.record.model != NOWHERE:
            self.note_repeated(b"model")
        self.record.model = self.last_model = self.find_model(label)
        return self.record.model != NOWHERE

    cdef bint cut_overruled_pk(self) noexcept nogil:
        """The pk before is overruled by one behind: a reader that takes the first must not see it."""
        cdef Slot slot
        cdef Member *pk = &self.record.pk
        self.note_repeated(b"pk")
        slot.entry = CUT
        slot.relation = NOWHERE
        slot.at = pk.previous_end or pk.start
        slot.length = (pk.end if pk.previous_end else pk.following) - slot.at
        return self.push(&self.cuts, &slot, sizeof(Slot))

    cdef bint push(self, Buffer *buffer, const void *item, size_t size) noexcept nogil:
        if append(buffer, item, size):
            return True
        self.walk.fault = MEMORY
        return False

    cdef bint remember(self, Buffer *names, Text text, int field) noexcept nogil:
        """Append to `names`; a text outside the window is kept in `decoded`."""
        cdef Name name
        name.length = text.length
        name.field = field
        name.decoded = not self.walk.text <= text.data < self.walk.text + self.walk.end
        if name.decoded:
            name.at = self.decoded.length
            if not self.push(&self.decoded, text.data, text.length):
                return False
        else:
            name.at = text.data - self.walk.text
        return self.push(names, &name, sizeof(Name))

    cdef Text name_text(self, const Name *name) noexcept nogil:
        cdef Text text
        text.data = (self.decoded.data if name.decoded else self.walk.text) + name.at
        text.length = name.length
        return text

    # -- its fields --
    #
    # The records of a model mostly have the same fields in the same order: the model's shape. As
    # long as the names follow it, each is found by one comparison, none can occur twice, and none
    # has to be remembered.

    cdef bint walk_fields(self, ModelState *m) noexcept nogil:
        cdef Walk *w = &self.walk
        cdef const Name *shape = <const Name *> m.shape.data
        cdef size_t in_shape = m.shape.length // sizeof(Name)
        cdef size_t skipped
        cdef bint more
        cdef int field
        cdef Text name
        self.fields = 0
        self.names.length = self.slots.length = 0
        self.repeated_fields.length = self.not_json.length = 0
        self.record.has_parent_link = False
        if m.plan:
            memset(self.columns, 0, m.plan.columns * sizeof(Text))
        w.at += 1
        more = peek(w) != c'}'
        self.record.first_field = w.positions[w.at]
        self.record.any_field = more
        while more:
            if self.fields < in_shape:
                skipped = skip_fields(w, shape, in_shape - self.fields, m.shape_text.data)
                self.fields += skipped
                shape += skipped
            name.data = w.text + w.positions[w.at] + 1
            if not walk_name(w):
                return False
            name.length = w.text + w.value_end - 1 - name.data
            if self.fields < in_shape and name.length == shape.length and same_bytes(
                    name.data, m.shape_text.data + shape.at, name.length):
                field = shape.field
                shape += 1
            else:
                if in_shape and not self.remember_shape(m):
                    return False
                in_shape = 0
                name = unescaped(name, &self.scratch, False)
                field = self.field_number(m.plan, name)
                if not self.remember(&self.names, name, field):
                    return False
            if not walk_colon(w) or not (
                    walk_value(w) if field == NOWHERE else self.walk_field(field)):
                return False
            self.fields += 1
            more = peek(w) == c','
            if not more and peek(w) != c'}':
                return fail_here(w, DELIMITER_OBJECT)
            w.at += 1
        if w.text[w.positions[w.at - 1]] == c'{':
            w.at += 1
        w.value_end = w.positions[w.at - 1] + 1
        return self.names.length == 0 or self.end_unshaped(m)

    cdef bint end_unshaped(self, ModelState *m) noexcept nogil:
        """The fields did not follow the shape: some may stand twice, else they are the new one."""
        if not self.find_repeated(&self.names, &self.repeated_fields):
            return False
        if self.repeated_fields.length == 0:
            return self.learn_shape(m)
        # Of a field that stands twice, only the last one's ids are rewritten.
        self.forget_slots(&self.slots)
        self.forget_slots(&self.not_json)
        return True

    cdef bint remember_shape(self, ModelState *m) noexcept nogil:
        """The fields up to here have followed the shape; the next one does not."""
        cdef const Name *shape = <const Name *> m.shape.data
        cdef Text name
        cdef size_t i
        for i in range(self.fields):
            name.data = m.shape_text.data + shape[i].at
            name.length = shape[i].length
            if not self.remember(&self.names, name, shape[i].field):
                return False
        return True

    cdef void forget_slots(self, Buffer *buffer) noexcept nogil:
        cdef Slot *slots = <Slot *> buffer.data
        cdef size_t kept = 0
        cdef size_t i
        for i in range(buffer.length // sizeof(Slot)):
            if slots[i].occurrence == self.occurrences[slots[i].field]:
                slots[kept] = slots[i]
                kept += 1
        buffer.length = kept * sizeof(Slot)

    cdef int field_number(self, ModelPlan *plan, Text name) noexcept nogil:
        cdef int i
        if plan:
            for i in range(plan.first_field, plan.first_field + plan.fields):
                if same(self.plan.fields[i].name, name):
                    return i
        return NOWHERE

    cdef bint walk_field(self, int field) noexcept nogil:
        cdef Walk *w = &self.walk
        cdef size_t start = w.positions[w.at]
        cdef FieldPlan *plan = &self.plan.fields[field]
        self.field = field
        self.occurrences[field] = self.fields
        if plan.relation != NOWHERE:
            if plan.relation == self.models[self.record.fields_model].plan.pk_relation:
                self.record.has_parent_link = True
            if not self.walk_relation(plan.relation):
                return False
        elif plan.step != NOWHERE and not self.keys_only:
            if not self.walk_paths(plan):
                return False
        elif not walk_value(w):
            return False
        if plan.column != NOWHERE:
            self.columns[plan.column] = self.span(start, w.value_end)
        return True

    cdef bint walk_relation(self, int number) noexcept nogil:
        cdef Walk *w = &self.walk
        cdef RelationPlan *relation = &self.plan.relations[number]
        cdef size_t start = w.positions[w.at]
        cdef uint8_t c = peek(w)
        if relation.index == NOWHERE:
            return walk_value(w)
        if c == c'[' and relation.many:
            return self.walk_many(number)
        # A null stays, and so does a list: it is a key already.
        return walk_value(w) and (c == c'n' or c == c'['
                                  or self.add_slot(RELATION, number, start, w.value_end))

    cdef bint walk_many(self, int number) noexcept nogil:
        """A list of ids, of keys, or of both."""
        cdef Walk *w = &self.walk
        cdef bint first = True
        cdef bint any_id = False
        cdef bint good
        cdef size_t slots = self.slots.length
        cdef size_t start
        cdef uint8_t c
        w.at += 1
        while peek(w) != c']':
            start = w.positions[w.at]
            c = peek(w)
            if not walk_value(w):
                return False
            if c == c'[' or c == c'n':
                good = self.add_slot(FIRST_KEPT if first else KEPT, number, start, w.value_end)
            else:
                any_id = True
                good = self.add_slot(FIRST if first else LATER, number, start, w.value_end)
            if not good:
                return False
            first = False
            if peek(w) == c']':
                break
            if peek(w) != c',':
                return fail_here(w, DELIMITER_ARRAY)
            w.at += 1
            if peek(w) == c']':
                return fail_here(w, VALUE)
        w.value_end = w.positions[w.at] + 1
        w.at += 1
        if not any_id:
            self.slots.length = slots
        return True

    cdef Slot slot(self, Entry entry, int relation, size_t start, size_t end) noexcept nogil:
        cdef Slot slot
        slot.at = start
        slot.length = end - start
        slot.entry = entry
        slot.whole = False
        slot.relation = relation
        slot.field = self.field
        slot.occurrence = self.fields
        return slot

    cdef bint add_slot(self, Entry entry, int relation, size_t start, size_t end) noexcept nogil:
        cdef Slot slot = self.slot(entry, relation, start, end)
        return self.push(&self.slots, &slot, sizeof(Slot))

    # -- ids inside a field --
    #
    # Paths lead to them. A text that holds JSON is decoded and walked in place of the window; what
    # is found in it has its place in the window all the same.

    cdef bint walk_paths(self, FieldPlan *plan) noexcept nogil:
        cdef Walk *w = &self.walk
        cdef StepPlan *step = &self.plan.steps[plan.step]
        cdef size_t start = w.positions[w.at]
        if peek(w) != c'"':
            return self.walk_step(plan.step)
        if not walk_string(w):
            return False
        if w.value_end - start == 2:
            return True
        if step.members == 0 and step.elements == NOWHERE:
            return self.add_whole_text(step.relation, start + 1, w.value_end - 1)
        return self.walk_text(plan.step, start + 1, w.value_end - 1)

    cdef bint add_whole_text(self, int relation, size_t start, size_t end) noexcept nogil:
        """The content of a string is an id, or a key already."""
        cdef Slot slot = self.slot(TEXT, relation, start, end)
        slot.whole = True
        return self.walk.text[start] == c'[' or self.push(&self.slots, &slot, sizeof(Slot))

    cdef bint walk_step(self, int number) noexcept nogil:
        """A value at which paths have arrived. Their lengths bound the recursion."""
        cdef Walk *w = &self.walk
        cdef StepPlan *step = &self.plan.steps[number]
        cdef size_t start = w.positions[w.at]
        cdef uint8_t c = peek(w)
        if c == c'{' and step.members:
            return self.walk_members(step)
        if c == c'[' and step.elements != NOWHERE:
            return self.walk_elements(step.elements)
        if not walk_value(w):
            return False
        if step.relation == NOWHERE or not may_be_id(self.span(start, w.value_end)):
            return True
        return self.add_slot(RELATION, step.relation, start, w.value_end)

    cdef bint walk_members(self, StepPlan *step) noexcept nogil:
        cdef Walk *w = &self.walk
        cdef size_t start
        cdef int member
        w.at += 1
        while peek(w) != c'}':
            start = w.positions[w.at] + 1
            if not walk_name(w):
                return False
            member = self.find_member(step, self.span(start, w.value_end - 1))
            if not (walk_colon(w) and (walk_value(w) if member == NOWHERE
                                       else self.walk_step(member))):
                return False
            if peek(w) == c'}':
                break
            if peek(w) != c',':
                return fail_here(w, DELIMITER_OBJECT)
            w.at += 1
            if peek(w) == c'}':
                return fail_here(w, MEMBER)
        w.value_end = w.positions[w.at] + 1
        w.at += 1
        return True

    cdef bint walk_elements(self, int step) noexcept nogil:
        cdef Walk *w = &self.walk
        w.at += 1
        while peek(w) != c']':
            if not self.walk_step(step):
                return False
            if peek(w) == c']':
                break
            if peek(w) != c',':
                return fail_here(w, DELIMITER_ARRAY)
            w.at += 1
            if peek(w) == c']':
                return fail_here(w, VALUE)
        w.value_end = w.positions[w.at] + 1
        w.at += 1
        return True

    cdef int find_member(self, StepPlan *step, Text name) noexcept nogil:
        cdef int number
        name = unescaped(name, &self.scratch, False)
        for number in range(step.first_member, step.first_member + step.members):
            if same(self.plan.steps[number].name, name):
                return number
        return NOWHERE

    cdef bint walk_text(self, int step, size_t start, size_t end) noexcept nogil:
        """The content of a string, from `start` to `end`, as JSON."""
        cdef Walk outer = self.walk
        cdef size_t before = self.slots.length
        cdef Slot slot = self.slot(TEXT, NOWHERE, start, end)
        cdef bint found
        if not self.scan_text(self.span(start, end)):
            self.walk = outer
            self.walk.fault = MEMORY
            return False
        found = (self.walk_step(step)
                 and self.walk.positions[self.walk.at] == self.inner.length)
        outer.fault = MEMORY if self.walk.fault == MEMORY else NONE
        self.walk = outer
        if outer.fault == MEMORY:
            return False
        if found:
            self.move_slots(before, start)
            return True
        self.slots.length = before
        return self.push(&self.not_json, &slot, sizeof(Slot))

    cdef bint scan_text(self, Text text) noexcept nogil:
        """Make the content of a string what is walked over. False only without memory."""
        cdef fnk_scanned scanned
        cdef uint32_t *positions
        if not (decode_text(text, &self.inner, &self.inner_places)
                and reserve(&self.inner, FNK_BLOCK)):
            return False
        self.inner_positions.length = 0
        if not reserve(&self.inner_positions,
                       (self.inner.length + FNK_BLOCK + 1) * sizeof(uint32_t)):
            return False
        memset(self.inner.data + self.inner.length, c' ', FNK_BLOCK)
        positions = <uint32_t *> self.inner_positions.data
        scanned = _scan(self.inner.data, self.inner.length, positions)
        positions[scanned.count] = <uint32_t> scanned.end
        self.walk.text = self.inner.data
        self.walk.positions = positions
        self.walk.at = 0
        self.walk.end = scanned.end
        self.walk.final = True
        self.walk.fault = NONE
        return True

    cdef void move_slots(self, size_t first, size_t start) noexcept nogil:
        """What was found in the decoded text stands in the window, from `start` on."""
        cdef const uint32_t *places = <const uint32_t *> self.inner_places.data
        cdef Slot *slot = <Slot *> (self.slots.data + first)
        cdef Slot *end = <Slot *> (self.slots.data + self.slots.length)
        while slot < end:
            slot.entry = TEXT
            slot.length = places[slot.at + slot.length] - places[slot.at]
            slot.at = start + places[slot.at]
            slot += 1

    cdef bint note_not_json(self) noexcept nogil:
        cdef const Slot *slot = <const Slot *> self.not_json.data
        cdef size_t i
        for i in range(self.not_json.length // sizeof(Slot)):
            if not self.note(NOT_JSON, self.record.start, self.plan.fields[slot[i].field].name,
                             literal(b"")):
                return False
        return True

    cdef bint learn_shape(self, ModelState *m) noexcept nogil:
        cdef const Name *name = <const Name *> self.names.data
        cdef size_t i
        cdef Name learned
        m.shape.length = m.shape_text.length = 0
        for i in range(self.names.length // sizeof(Name)):
            learned = name[i]
            learned.at = m.shape_text.length
            if memchr(self.name_text(&name[i]).data, c'\\', learned.length):
                # Names are compared as they are spelled, where this one needs an escape.
                m.shape.length = 0
                return True
            if not (self.push(&m.shape_text, self.name_text(&name[i]).data, learned.length)
                    and self.push(&m.shape, &learned, sizeof(Name))):
                return False
        return True

    cdef bint find_repeated(self, Buffer *names, Buffer *repeated) noexcept nogil:
        """Append every name that occurs more than once. False only without memory."""
        cdef const Name *name = <const Name *> names.data
        cdef size_t count = names.length // sizeof(Name)
        cdef size_t size = 4
        cdef size_t i, at
        cdef bint good = True
        cdef uint32_t *seen          # number of the name plus one
        cdef uint8_t *told
        while size < 2 * count:
            size *= 2
        seen = <uint32_t *> calloc(size, sizeof(uint32_t) + 1)
        if seen == NULL:
            self.walk.fault = MEMORY
            return False
        told = <uint8_t *> (seen + size)
        for i in range(count):
            at = hash_text(self.name_text(&name[i]), self.seed) & (size - 1)
            while seen[at] and not same(self.name_text(&name[seen[at] - 1]),
                                        self.name_text(&name[i])):
                at = (at + 1) & (size - 1)
            if seen[at] and not told[at]:
                told[at] = True
                good = good and self.push(repeated, &name[i], sizeof(Name))
            seen[at] = <uint32_t> (i + 1)
        free(seen)
        return good

    cdef void note_repeated(self, const char *word) noexcept nogil:
        """A member that means something to us stands in the record again."""
        cdef const Name *name = <const Name *> self.repeated.data
        cdef size_t i
        for i in range(self.repeated.length // sizeof(Name)):
            if is_word(self.name_text(&name[i]), word):
                return
        self.remember(&self.repeated, literal(word), NOWHERE)

    cdef bint note_all(self, Buffer *repeated) noexcept nogil:
        cdef const Name *name = <const Name *> repeated.data
        cdef size_t i
        for i in range(repeated.length // sizeof(Name)):
            if not self.note(DUPLICATE_MEMBER, self.record.start, self.name_text(&name[i]),
                             literal(b"")):
                return False
        return True

    # -- the end of a record --

    cdef bint end_record(self) noexcept nogil:
        cdef Walk *w = &self.walk
        cdef size_t at = w.at
        cdef ModelState *m
        cdef Text pk
        if self.record.model == NOWHERE:
            return fail(w, TOP if self.top == LINES and self.records == 0 else NO_MODEL,
                        self.record.start, self.record.start)
        if not self.record.has_fields:
            return fail(w, NO_FIELDS, self.record.start, self.record.start)
        m = &self.models[self.record.model]
        if self.record.fields_model != self.record.model:
            w.at = self.record.fields_at
            self.record.fields_model = self.record.model
            if not self.walk_fields(m):
                return False
            w.at = at
        if self.extras.length > sizeof(Name) and not self.find_repeated(
                &self.extras, &self.repeated):
            return False
        w.value_end = w.positions[at - 1] + 1
        pk = self.pk_value()
        if not self.keys_only:
            m.records += 1
            m.with_pk += pk.length > 0
            m.with_natural_key += self.record.has_natural_key
            if not (self.note_all(&self.repeated) and self.note_all(&self.repeated_fields)
                    and self.note_not_json()):
                return False
            if m.plan == NULL and not self.meet_unknown(m):
                return False
        if index_count(m):
            if not self.store_row(m):
                return False
        elif pk.length and not self.keys_only and not self.note_pk(m, pk):
            return False
        if (self.record.has_natural_key and m.plan and m.plan.natural and not self.keys_only
                and not self.note_standing_key()):
            return False
        return self.keys_only or self.log_record(m, w.value_end)

    cdef Text pk_value(self) noexcept nogil:
        """As it stands there; empty where there is none or it is null."""
        cdef Text value = self.span(self.record.pk.value, self.record.pk.end)
        if is_null(value):
            value.length = 0
        return value

    cdef bint note(self, Code code, size_t at, Text field, Text value) noexcept nogil:
        """Apply the policy of `code`: count it, or note a finding."""
        if self.policies[code - FIRST_CODE] != ERROR:
            self.counts[code - FIRST_CODE] += 1
            return True
        if put_finding(&self.notes, code, self.consumed + at, self.records + 1, self.record.model,
                       field, canonical(self.pk_value(), &self.scratch), value):
            return True
        self.walk.fault = MEMORY
        return False

    cdef bint meet_unknown(self, ModelState *m) noexcept nogil:
        cdef uint64_t number = self.records + 1
        if self.policies[UNKNOWN_MODEL - FIRST_CODE] == DROP:
            if not self.push(&self.dropped, &number, sizeof(uint64_t)):
                return False
        return self.note(UNKNOWN_MODEL, self.record.start, literal(b""), m.label)

    cdef bint note_pk(self, ModelState *m, Text pk) noexcept nogil:
        cdef Entered entered
        cdef Fingerprint fingerprint
        pk = canonical(pk, &self.scratch)
        if pk.data == NULL:
            self.walk.fault = MEMORY
            return False
        entered = enter_pk(&m.pks, pk)
        if entered == ELSEWHERE:
            fingerprint = fingerprint_of(pk, self.record.model, MADE, self.seed)
            if not self.push(&self.pk_prints, &fingerprint, sizeof(Fingerprint)):
                return False
            if occurs_again(&self.expected, fingerprint):
                entered = PRESENT
        if entered == PRESENT:
            return self.note(DUPLICATE_PK, self.record.start, literal(b""), pk)
        if entered == NOT_ENTERED:
            self.walk.fault = MEMORY
            return False
        return True

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
        cdef Text pk = self.pk_value()
        cdef uint8_t flags = ROW_OF_KEYS if self.keys_only else 0
        cdef int i
        if pk.length == 0:
            flags |= ROW_WITHOUT_PK
        pk = canonical(pk, &self.scratch)
        row.length = self.composed.length = 0
        if pk.data == NULL or not (append_byte(row, flags)
                                   and append_text(row, pk.data, pk.length)):
            return False
        self.complete_columns(plan)
        for i in range(plan.row_columns):
            if not append_text(row, self.columns[i].data, self.columns[i].length):
                return False
        return append_text(&self.composed, row.data, row.length)

    cdef void complete_columns(self, ModelPlan *plan) noexcept nogil:
        if plan.pk_column != NOWHERE and self.record.pk.end:
            self.columns[plan.pk_column] = self.pk_value()

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
        word = (hash_text(id, self.seed) & ~PLACE_MASK) | (place + 1)
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
        if slot[0]:
            if self.keys_only and same_row(other, row, m.plan.row_columns, m.plan.pk_column,
                                           &self.scratch, &self.row_scratch):
                return True
            if not self.note_duplicate_pk(m, column, id):
                return False
            if self.keys_only and not other[0] & ROW_OF_KEYS:
                return True
        stored[0] = True
        return fill_slot(index, slot, word, &self.filling)

    cdef bint note_duplicate_pk(self, ModelState *m, int column, Text id) noexcept nogil:
        cdef int i
        cdef Text field = literal(b"")
        if column != NOWHERE:
            for i in range(m.plan.first_field, m.plan.first_field + m.plan.fields):
                if self.plan.fields[i].column == column:
                    field = self.plan.fields[i].name
        return self.note(DUPLICATE_PK, self.record.start, field, id)

    # -- the log --

    cdef bint log_record(self, ModelState *m, size_t end) noexcept nogil:
        """Log the record's slots in the order of their places."""
        cdef size_t i, count
        cdef const Slot *slots
        if m.plan != NULL and not self.add_made_slots(m.plan):
            return False
        count = self.slots.length // sizeof(Slot)
        if count == 0 and not self.log_all:
            return True
        slots = <const Slot *> self.slots.data
        for i in range(1, count):
            if slots[i - 1].at > slots[i].at:
                qsort(self.slots.data, count, sizeof(Slot), compare_slots)
                break
        if self.append_entries(m, slots, count, end):
            return True
        self.walk.fault = MEMORY
        return False

    cdef bint add_made_slots(self, ModelPlan *plan) noexcept nogil:
        """Slots of what the record does not hold yet: its key, a parent link, references."""
        cdef bint by_pk = self.record.pk.end and not self.record.has_natural_key
        if plan.natural and not self.record.pk.end and not self.record.has_natural_key:
            if not self.add_slot(NATURAL, NOWHERE, self.record.start, self.record.start):
                return False
        if by_pk and plan.natural and not (
                self.add_key_slot(plan) and self.push(&self.slots, self.cuts.data, self.cuts.length)):
            return False
        if by_pk and plan.parent_link and not self.record.has_parent_link and not self.add_slot(
                PARENT, plan.pk_relation, self.record.first_field, self.record.first_field):
            return False
        return (self.django_style or self.record.has_references or self.count_references(plan) == 0
                or self.add_slot(REFERENCES, NOWHERE, self.record.fields_start,
                                 self.record.fields_start))

    cdef bint add_key_slot(self, ModelPlan *plan) noexcept nogil:
        """What the key replaces: the pk member, and with it a comma where it just goes away."""
        cdef Member *pk = &self.record.pk
        if not self.django_style:
            if plan.keep_pk:
                return self.add_slot(BESIDE, NOWHERE, pk.start, pk.start)
            return self.add_slot(KEY, NOWHERE, pk.start, pk.end)
        if pk.following:
            return self.add_slot(KEY, NOWHERE, pk.start, pk.following)
        return self.add_slot(KEY, NOWHERE, pk.previous_end, pk.end)

    cdef bint refers_by_pk(self, ModelPlan *plan) noexcept nogil:
        """Whether the pk is a foreign key that neither `fields` nor Django's natural dump hold."""
        return (plan.pk_relation != NOWHERE and not plan.parent_link
                and self.plan.relations[plan.pk_relation].index != NOWHERE
                and not self.record.has_natural_key and self.pk_value().length > 0)

    cdef bint refers(self, const GenericPlan *generic) noexcept nogil:
        """Whether the record uses that generic relation (and its id is no key already)."""
        cdef Text id = self.columns[generic.id_column]
        return not (is_null(id) or id.data[0] == c'['
                    or is_null(self.columns[generic.type_column]))

    cdef int count_references(self, ModelPlan *plan) noexcept nogil:
        cdef int count = self.refers_by_pk(plan)
        cdef int i
        for i in range(plan.first_generic, plan.first_generic + plan.generics):
            count += self.refers(&self.plan.generics[i])
        return count

    cdef bint append_references(self, ModelPlan *plan) noexcept nogil:
        """Even numbers are relations, odd ones generic relations."""
        cdef Buffer *log = &self.log
        cdef GenericPlan *generic
        cdef Text id, type_
        cdef int i
        if not append_number(log, self.count_references(plan)):
            return False
        if self.refers_by_pk(plan):
            type_ = self.pk_value()
            id = canonical(type_, &self.scratch)
            if id.data == NULL or not (append_number(log, 2 * plan.pk_relation)
                                       and append_text(log, id.data, id.length)
                                       and append_text(log, type_.data, type_.length)):
                return False
        for i in range(plan.first_generic, plan.first_generic + plan.generics):
            generic = &self.plan.generics[i]
            if self.refers(generic):
                id = canonical(self.columns[generic.id_column], &self.scratch)
                type_ = self.columns[generic.type_column]
                if id.data == NULL or not (append_number(log, 2 * i + 1)
                                           and append_text(log, id.data, id.length)
                                           and append_text(log, type_.data, type_.length)):
                    return False
        return True

    cdef bint append_parent(self, int relation) noexcept nogil:
        cdef Buffer *log = &self.log
        cdef Text pk = self.pk_value()
        cdef Text id = canonical(pk, &self.scratch)
        return (id.data != NULL and append_number(log, relation)
                and append_byte(log, self.record.any_field)
                and append_text(log, id.data, id.length) and append_text(log, pk.data, pk.length))

    cdef bint append_entries(self, ModelState *m, const Slot *slots, size_t count,
                             size_t end) noexcept nogil:
        cdef Buffer *log = &self.log
        cdef uint64_t start = self.consumed + self.record.start
        cdef uint64_t previous = self.records_end if self.records else start
        cdef Text id
        cdef size_t i
        if not (append_byte(log, RECORD) and append_number(log, self.record.model)
                and append_number(log, self.records + 1 - self.logged_record)
                and append_number(log, start - self.log_end)
                and append_number(log, start - previous)
                and append_number(log, end - self.record.start)
                and self.append_place(self.pk_value())):
            return False
        self.logged_record = self.records + 1
        self.log_end = start
        for i in range(count):
            if not (append_byte(log, slots[i].entry)
                    and append_number(log, self.consumed + slots[i].at - self.log_end)
                    and append_number(log, slots[i].length)):
                return False
            self.log_end = self.consumed + slots[i].at + slots[i].length
            if slots[i].entry == KEY or slots[i].entry == BESIDE or slots[i].entry == NATURAL:
                if not self.append_places(m.plan):
                    return False
            elif slots[i].entry == PARENT:
                if not self.append_parent(slots[i].relation):
                    return False
            elif slots[i].entry == REFERENCES:
                if not self.append_references(m.plan):
                    return False
            elif RELATION <= slots[i].entry <= LATER:
                if not append_number(log, slots[i].relation):
                    return False
            if slots[i].entry == TEXT:
                id = self.id_in_text(&slots[i])
                if id.data == NULL or not append_text(log, id.data, id.length):
                    return False
        return True

    cdef bint append_place(self, Text value) noexcept nogil:
        """Where a value of the record stands, counted from the record's start."""
        return append_number(&self.log, value.length) and (value.length == 0 or append_number(
            &self.log, value.data - (self.walk.text + self.record.start)))

    cdef bint append_places(self, ModelPlan *plan) noexcept nogil:
        cdef int i
        self.complete_columns(plan)
        for i in range(plan.row_columns):
            if not self.append_place(self.columns[i]):
                return False
        return True

    cdef Text id_in_text(self, const Slot *slot) noexcept nogil:
        cdef Text value = unescaped(self.span(slot.at, slot.at + slot.length), &self.id_scratch,
                                    False)
        return value if slot.whole else canonical(value, &self.scratch)

    cdef raise_memory_error(self):
        if self.spill.error:
            raise OSError(self.spill.error, os.strerror(self.spill.error),
                          os.fsdecode(self.spill_folder))
        raise MemoryError

    # -- for Python --

    def take_log(self):
        """The log since the last call; it is complete up to `records_end`."""
        log = self.log.data[:self.log.length]
        self.log.length = 0
        return log

    def take_findings(self):
        """The findings since the last call: (code, offset, record, model, field, pk, value)."""
        return take_findings(self, &self.notes)

    def take_prints(self):
        """The fingerprints since the last call, of pks and of keys that stand in records, for an
        `Audit` each."""
        prints = (self.pk_prints.data[:self.pk_prints.length],
                  self.key_prints.data[:self.key_prints.length])
        self.pk_prints.length = self.key_prints.length = 0
        return prints

    def expect(self, const uint8_t[::1] repeated):
        """The fingerprints that occur more than once: of pks, before the first bytes are fed, or
        of keys, before pass 2 is made."""
        cdef const Fingerprint *key
        cdef Fingerprint *slot
        cdef size_t i
        free(self.expected.slots)
        memset(&self.expected, 0, sizeof(KeySet))
        for i in range(<size_t> repeated.shape[0] // sizeof(Fingerprint)):
            key = <const Fingerprint *> &repeated[0] + i
            if not grow_keys(&self.expected):
                raise MemoryError
            slot = find_fingerprint(&self.expected, key[0])
            if slot.low == 0:
                slot[0] = key[0]
                self.expected.used += 1
            else:
                slot.low &= key.low

    def label(self, int model):
        cdef Text label = self.models[model].label
        return label.data[:label.length].decode("utf-8", "replace")

    def model_counts(self):
        """Per model met: (label, in the schema, records, with a pk, with a natural key)."""
        return [(self.label(i), self.models[i].plan != NULL, self.models[i].records,
                 self.models[i].with_pk, self.models[i].with_natural_key)
                for i in range(self.model_count) if self.models[i].records]

    def policy_counts(self):
        """How often each policy was applied, by code."""
        return {FIRST_CODE + i: self.counts[i] for i in range(CODES) if self.counts[i]}

    @property
    def dropped_records(self):
        """How many records are left out."""
        return self.dropped.length // sizeof(uint64_t)

    def models_with_pks(self):
        """The labels of the models that keep their pks because their keys identify nothing."""
        return [self.label(i) for i in range(self.plan.model_count)
                if self.models[i].table.keeps_pks]

    @property
    def key_map_bytes(self):
        """Memory that the key map takes."""
        cdef size_t total = 0
        cdef int i, k
        for i in range(self.model_count):
            total += self.models[i].table.rows.length
            total += self.models[i].pks.room * sizeof(Run)
            for k in range(index_count(&self.models[i])):
                total += self.models[i].table.indexes[k].size * sizeof(uint64_t)
        return total

    @property
    def spilled_bytes(self):
        """How much of that lies in temporary files."""
        cdef size_t total = 0
        cdef int i, k
        for i in range(self.model_count):
            if self.models[i].table.rows.file:
                total += self.models[i].table.rows.length
            for k in range(index_count(&self.models[i])):
                if self.models[i].table.indexes[k].file:
                    total += self.models[i].table.indexes[k].size * sizeof(uint64_t)
        return total


cdef bint put_finding(Buffer *notes, Code code, uint64_t offset, uint64_t record, int model,
                      Text field, Text pk, Text value) noexcept nogil:
    return (append_number(notes, code) and append_number(notes, offset)
            and append_number(notes, record) and append_number(notes, model)
            and append_text(notes, field.data, field.length)
            and append_text(notes, pk.data, pk.length)
            and append_text(notes, value.data, value.length))


cdef take_findings(Indexer indexer, Buffer *notes):
    cdef const uint8_t *at = notes.data
    cdef const uint8_t *end = notes.data + notes.length
    cdef Text text
    findings = []
    while at < end:
        numbers = (read_number(&at), read_number(&at), read_number(&at), read_number(&at))
        texts = []
        for _ in range(3):
            text = read_text(&at)
            texts.append(text.data[:text.length].decode("utf-8", "surrogatepass") or None)
        code, offset, record, model = numbers
        findings.append((code, offset, record, indexer.label(model), *texts))
    notes.length = 0
    return findings
