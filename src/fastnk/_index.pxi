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
#     REFERENCES gap, 0, room, count, then of each: generic or relation, id, content type or pk
#     RELATION gap, length, relation            one id, which stands there
#     TEXT     gap, length, relation, id        one id, inside a string
#     MANY     gap, length, relation            a list with ids, some of it may stay
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
    MANY
    CUT
    NATURAL

cdef enum Room:          # for references:
    OWN_MEMBER           # there are none yet
    EMPTY_OBJECT         # behind the brace of those that stand there
    AMONG_OTHERS
    NO_ROOM              # what stands there is no object

cdef int compare_slots(const void *a, const void *b) noexcept nogil:
    cdef size_t x = (<const Slot *> a).at
    cdef size_t y = (<const Slot *> b).at
    return (x > y) - (x < y)


cdef void sort_slots(Slot *slots, size_t count) noexcept nogil:
    """By place. They mostly are but for the last one or two, which the record was read for."""
    cdef size_t moves = 8 * count
    cdef size_t i, at
    cdef Slot slot
    for i in range(1, count):
        slot = slots[i]
        at = i
        while at and slots[at - 1].at > slot.at:
            slots[at] = slots[at - 1]
            at -= 1
        slots[at] = slot
        if i - at > moves:
            qsort(slots, count, sizeof(Slot), compare_slots)
            return
        moves -= i - at


cdef enum:
    MAX_KINDS = 1 << 12      # bytes of what names models; backups have a few dozen content types


@cython.final
@cython.no_gc
cdef class Indexer(RowKeeper):
    """Pass 1: fills the key map and logs the places that change."""

    cdef bint django_style
    cdef bint log_all            # every record gets a log entry, so that any can be left out
    cdef public bint drops_wait
    """Whether no record is left out yet, because it is not known which models keep their pks: what
    refers to those lacks nothing."""
    cdef public bint traces_needs
    """Whether pass 2 notes without which rows a record is left out, to find at once all that go
    together. Otherwise it finds one step of that in a pass, where references lead forward."""
    cdef Buffer log
    cdef readonly unsigned long long log_end
    """Where the last entry of the log ended."""
    cdef readonly unsigned long long logged_record
    """The number of the last record in the log."""
    cdef Room room               # for references of the record
    cdef Buffer stated           # uint8_t: which of the plan's generic relations, and in the end
                                 # whether the pk, are among the references that stand there
    cdef Buffer kinds            # of generic relations whose targets may not be kept: the number of
                                 # the relation, and what names the model

    def __cinit__(self, Plan plan not None, *, name=None, policies=None, bint django_style=False,
                  size_t max_record=DEFAULT_MAX_RECORD, after=None, is_piece=False,
                  memory_limit=0, spill_folder=b"."):
        self.name = name
        self.max_record = max_record
        self.django_style = django_style
        for i in range(CODES):
            self.log_all |= self.policies[i] == DROP
        self.drops_wait = (self.policies[DUPLICATE_KEY - FIRST_CODE] == KEEP
                           or self.policies[NULL_KEY - FIRST_CODE] == KEEP)

    def __dealloc__(self):
        free(self.log.data)
        free(self.stated.data)
        free(self.kinds.data)

    def start_keys(self, name):
        """What is fed from now on is another backup, whose records only supply keys."""
        self.name = name
        self.keys_only = True
        self.top = START
        self.consumed = self.records = self.records_end = 0
        self.window.length = self.retry_length = 0
        self.walk.final = False

    cdef bint take_record(self, ModelState *m) noexcept nogil:
        cdef Text pk = self.pk_value()
        if not self.keys_only:
            m.records += 1
            m.with_pk += pk.length > 0
            m.with_natural_key += self.record.has_natural_key
            if self.is_superseded():
                return (self.leave_out()
                        and self.note(DUPLICATE_PK, self.record.start, literal(b""), pk)
                        and self.log_record(m, self.walk.value_end))
            if not self.note_flaws():
                return False
            if m.plan == NULL and not self.meet_unknown(m):
                return False
            if pk.length and not self.meet_pk(m, pk):
                return False
        if index_count(m) and not self.store_row(m):
            return False
        if (self.record.has_natural_key and m.plan and m.plan.natural and not self.keys_only
                and not self.note_standing_key()):
            return False
        return self.keys_only or self.log_record(m, self.walk.value_end)

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
            self.models[i].pks.count = self.models[i].below.length = 0
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
                good = self.adopt_pks(m, other) and self.adopt_rows(m, &other.table.rows)
                self.adopting = False
            if not good:
                return False
        for i in range(CODES):
            self.counts[i] += piece.counts[i]
            piece.counts[i] = 0
        if not self.adopt_kinds(&piece.kinds):
            return False
        self.records += piece.records
        self.records_end = piece.records_end
        self.consumed = piece.consumed
        self.top = piece.top
        return True

    cdef bint adopt_kinds(self, Buffer *kinds) noexcept nogil:
        cdef const uint8_t *at = kinds.data
        cdef const uint8_t *end = at + kinds.length
        cdef int generic
        kinds.length = 0
        while at < end:
            generic = <int> read_number(&at)
            if not self.note_kind(generic, read_text(&at)):
                return False
        return True

    def cut_log(self):
        """What is logged from now on counts from here."""
        self.log_end = self.consumed
        self.logged_record = self.records

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

    # -- the log --

    cdef bint log_record(self, ModelState *m, size_t end) noexcept nogil:
        """Log the record's slots in the order of their places."""
        cdef size_t count
        cdef const Slot *slots
        if m.plan != NULL and not self.add_made_slots(m.plan):
            return False
        count = self.slots.length // sizeof(Slot)
        if count == 0 and not self.log_all:
            return True
        slots = <const Slot *> self.slots.data
        sort_slots(<Slot *> self.slots.data, count)
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
                self.add_key_slot(plan)
                and self.push(&self.slots, self.cuts.data, self.cuts.length)):
            return False
        if by_pk and plan.parent_link and not self.record.has_parent_link and not self.add_slot(
                PARENT, plan.pk_relation, self.record.first_field, self.record.first_field):
            return False
        return self.django_style or self.add_references_slot(plan)

    cdef bint add_references_slot(self, ModelPlan *plan) noexcept nogil:
        cdef size_t at = self.record.fields_start
        self.room = OWN_MEMBER
        if self.record.has_references:
            if not self.read_stated(plan):
                return False
            at = self.walk.positions[self.record.references_at] + 1
        if self.room == NO_ROOM or self.count_references(plan) == 0:
            return True
        return self.add_slot(REFERENCES, NOWHERE, at, at)

    cdef bint read_stated(self, ModelPlan *plan) noexcept nogil:
        """Look at the references that stand in the record."""
        cdef Walk *w = &self.walk
        cdef size_t at = w.at
        cdef size_t value_end = w.value_end
        cdef bint good = True
        self.stated.length = 0
        if not reserve(&self.stated, plan.generics + 1):
            w.fault = MEMORY
            return False
        memset(self.stated.data, 0, plan.generics + 1)
        w.at = self.record.references_at
        if peek(w) != c'{':
            self.room = NO_ROOM
        else:
            w.at += 1
            self.room = EMPTY_OBJECT if peek(w) == c'}' else AMONG_OTHERS
            while good and peek(w) != c'}':
                good = (self.read_stated_name(plan) and walk_colon(w) and walk_value(w)
                        and walk_comma(w, c'}'))
        w.at = at
        w.value_end = value_end
        return good

    cdef bint read_stated_name(self, ModelPlan *plan) noexcept nogil:
        cdef size_t start = self.walk.positions[self.walk.at] + 1
        cdef Text name
        cdef int i
        if not walk_name(&self.walk):
            return False
        name = unescaped(self.span(start, self.walk.value_end - 1), &self.scratch, False)
        if name.data == NULL:
            self.walk.fault = MEMORY
            return False
        for i in range(plan.generics):
            self.stated.data[i] |= same(self.plan.generics[plan.first_generic + i].name, name)
        if plan.pk_relation != NOWHERE:
            self.stated.data[plan.generics] |= same(
                self.plan.relations[plan.pk_relation].name, name)
        return True

    cdef bint is_stated(self, int number) noexcept nogil:
        return self.record.has_references and self.stated.data[number]

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
                and not self.is_stated(plan.generics)
                and self.plan.relations[plan.pk_relation].index != NOWHERE
                and not self.record.has_natural_key and self.pk_value().length > 0)

    cdef bint refers(self, ModelPlan *plan, int number) noexcept nogil:
        """Whether the record uses a generic relation of its model, and neither its id nor what
        stands among the references is a key already."""
        cdef const GenericPlan *generic = &self.plan.generics[plan.first_generic + number]
        cdef Text id = self.columns[generic.id_column]
        return not (is_null(id) or id.data[0] == c'['
                    or is_null(self.columns[generic.type_column]) or self.is_stated(number))

    cdef int count_references(self, ModelPlan *plan) noexcept nogil:
        cdef int count = self.refers_by_pk(plan)
        cdef int i
        for i in range(plan.generics):
            count += self.refers(plan, i)
        return count

    cdef bint append_references(self, ModelPlan *plan) noexcept nogil:
        """Even numbers are relations, odd ones generic relations."""
        cdef Buffer *log = &self.log
        cdef GenericPlan *generic
        cdef Text id, type_
        cdef int i
        if not (append_byte(log, self.room)
                and append_number(log, self.count_references(plan))):
            return False
        if self.refers_by_pk(plan):
            type_ = self.pk_value()
            id = canonical(type_, &self.scratch)
            if id.data == NULL or not (append_number(log, 2 * plan.pk_relation)
                                       and append_text(log, id.data, id.length)
                                       and append_text(log, type_.data, type_.length)):
                return False
        for i in range(plan.generics):
            generic = &self.plan.generics[plan.first_generic + i]
            if self.refers(plan, i):
                id = canonical(self.columns[generic.id_column], &self.scratch)
                type_ = self.columns[generic.type_column]
                if generic.lacks_rows and not self.note_kind(plan.first_generic + i, type_):
                    return False
                if id.data == NULL or not (append_number(log, 2 * (plan.first_generic + i) + 1)
                                           and append_text(log, id.data, id.length)
                                           and append_text(log, type_.data, type_.length)):
                    return False
        return True

    cdef bint note_kind(self, int generic, Text kind) noexcept nogil:
        """Note what names a model, once; not all where there are more than backups have."""
        cdef const uint8_t *at = self.kinds.data
        cdef const uint8_t *end = at + self.kinds.length
        cdef int number
        if self.kinds.length > MAX_KINDS:
            return True
        while at < end:
            number = <int> read_number(&at)
            if same(read_text(&at), kind) and number == generic:
                return True
        return (append_number(&self.kinds, generic)
                and append_text(&self.kinds, kind.data, kind.length))

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
        if not reserve(log, 8 * MAX_NUMBER):
            return False
        put_number(log, RECORD)
        put_number(log, self.record.model)
        put_number(log, self.records + 1 - self.logged_record)
        put_number(log, start - self.log_end)
        put_number(log, start - previous)
        put_number(log, end - self.record.start)
        self.put_place(self.pk_value())
        self.logged_record = self.records + 1
        self.log_end = start
        for i in range(count):
            if not reserve(log, 4 * MAX_NUMBER):
                return False
            put_number(log, slots[i].entry)
            put_number(log, self.consumed + slots[i].at - self.log_end)
            put_number(log, slots[i].length)
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
            elif RELATION <= slots[i].entry <= MANY:
                put_number(log, slots[i].relation)
            if slots[i].entry == TEXT:
                id = self.id_in_text(&slots[i])
                if id.data == NULL or not append_text(log, id.data, id.length):
                    return False
        return True

    cdef void put_place(self, Text value) noexcept nogil:
        """Where a value of the record stands, counted from its start. There must be room."""
        put_number(&self.log, value.length)
        if value.length:
            put_number(&self.log, value.data - (self.walk.text + self.record.start))

    cdef bint append_places(self, ModelPlan *plan) noexcept nogil:
        cdef int i
        self.complete_columns(plan)
        if not reserve(&self.log, 2 * MAX_NUMBER * plan.row_columns):
            return False
        for i in range(plan.row_columns):
            self.put_place(self.columns[i])
        return True

    cdef Text id_in_text(self, const Slot *slot) noexcept nogil:
        cdef Text value = unescaped(self.span(slot.at, slot.at + slot.length), &self.id_scratch,
                                    False)
        return value if slot.whole else canonical(value, &self.scratch)

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
            if not grow_keys(&self.expected, 1):
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

    def take_superseded(self):
        """Of the records with one of the expected pks, the numbers of all but the last, ascending,
        in 64 bits each."""
        cdef Double *found = <Double *> self.doubles.data
        cdef size_t count = self.doubles.length // sizeof(Double)
        cdef size_t i
        cdef uint64_t *number
        numbers = bytearray(count * sizeof(uint64_t))
        number = <uint64_t *> <uint8_t *> numbers
        qsort(found, count, sizeof(Double), compare_doubles)
        for i in range(1, count):
            if (found[i - 1].pk.high == found[i].pk.high
                    and found[i - 1].pk.low == found[i].pk.low):
                number[0] = found[i - 1].number
                number += 1
        self.doubles.length = 0
        del numbers[<uint8_t *> number - <uint8_t *> numbers:]
        qsort(<uint8_t *> numbers, len(numbers) // sizeof(uint64_t), sizeof(uint64_t),
              compare_numbers)
        return numbers

    def supersede(self, const uint8_t[::1] numbers):
        """Leave out the records with these numbers, ascending, in 64 bits each."""
        if not append(&self.superseded, &numbers[0], numbers.shape[0]):
            raise MemoryError

    @property
    def dropped_records(self):
        """The numbers of the records that are left out, ascending, in 64 bits each."""
        return self.dropped.data[:self.dropped.length]

    def models_with_pks(self):
        """The labels of the models that keep their pks because their keys identify nothing."""
        return [self.label(i) for i in range(self.plan.model_count)
                if self.models[i].table.keeps_pks]

    @property
    def key_map_bytes(self):
        """Memory that the key map takes."""
        cdef size_t total = 0
        cdef int i
        for i in range(self.model_count):
            total += table_bytes(&self.models[i]) + self.models[i].pks.room * sizeof(Run)
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
