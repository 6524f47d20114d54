# ---- pass 2 -------------------------------------------------------------------------------

cdef enum Reference:
    WRITTEN
    STAYS        # the row keeps its pk, so the id does
    LOST         # there is no row with that id
    FAILED       # without memory


@cython.final
@cython.no_gc
cdef class Splicer(RowFinder):
    """Pass 2: copies the bytes that pass 1 has seen and follows its log.

    Each step of the log is at most: copy up to a place, write something, skip up to a place.
    Several may work on one index at once, each in a thread; what they find out changes it only
    when the pass is over.
    """

    cdef LookAhead ahead         # None where no table is large
    cdef uint64_t position       # bytes of the input that are done with
    cdef uint64_t copy_to
    cdef uint64_t skip_to
    cdef Buffer pending          # to write between copying and skipping
    cdef Buffer out
    cdef Buffer notes
    cdef Buffer prints           # fingerprints of keys, not yet taken
    cdef KeySet expected         # the keys that occur more than once
    cdef Buffer plain            # a key in its one spelling
    cdef Buffer passed[2]        # spilled rows that a path passes through, by turns
    cdef uint64_t next_counts[CODES]     # what the index is told when the pass is over
    cdef bint *keeping           # per model: whether it turned out to need its pks
    cdef uint64_t counts[CODES]
    cdef uint64_t record         # its number
    cdef Text record_pk          # as it stands there; empty where there is none
    cdef Buffer pk_scratch
    cdef bint in_dropped         # this record is left out
    cdef bint traces_needs       # without which rows a record would be left out
    cdef bint needs_hops         # those on the way of the key at hand are such rows
    cdef Buffer needs            # Need
    cdef bint needs_memory
    cdef bint any_kept           # a record before this one, in its array, was not left out
    cdef bytes joint_bytes
    cdef Text joint              # separates two arrays, where records may be left out; or empty
    cdef size_t next_dropped     # as an index into index.dropped
    cdef readonly unsigned long long keys_written
    cdef readonly unsigned long long references_written
    cdef readonly unsigned long long generic_kept
    cdef readonly bint again
    """Whether this pass found something that changes what should have been written before."""
    cdef readonly bint keeps_more
    """Whether it found models that keep their pks."""

    def __cinit__(self, Indexer index not None, bytes joint=b""):
        self.joint_bytes = joint if index.log_all else b""
        self.joint.data = <const uint8_t *> PyBytes_AS_STRING(self.joint_bytes)
        self.joint.length = len(self.joint_bytes)
        self.expected = index.expected
        self.expected.slots = <Fingerprint *> _array(index.expected.size, sizeof(Fingerprint))
        if index.expected.size:
            memcpy(self.expected.slots, index.expected.slots,
                   index.expected.size * sizeof(Fingerprint))
        self.any_kept = not index.log_all
        self.traces_needs = index.traces_needs and index.policies[UNRESOLVED - FIRST_CODE] == DROP
        if not index.settle():
            index.raise_memory_error()
        self.keeping = <bint *> _array(index.plan.model_count, sizeof(bint))
        for i in range(index.plan.model_count):
            if is_large(&index.models[i]):
                self.ahead = LookAhead(index)
                break

    def __dealloc__(self):
        free(self.keeping)
        free(self.needs.data)
        free(self.prints.data)
        free(self.expected.slots)
        free(self.plain.data)
        free(self.pending.data)
        free(self.out.data)
        free(self.notes.data)
        free(self.passed[0].data)
        free(self.passed[1].data)
        free(self.pk_scratch.data)

    def splice(self, const uint8_t[::1] data, unsigned long long start, const uint8_t[::1] log,
               unsigned long long log_end, unsigned long long record):
        """What becomes of a piece of the input: a view that is valid until the next call.

        `data` stands at `start` in the input and ends where a record ends, or with the input.
        `log` is what pass 1 has logged of it; the entry before ended at `log_end`, in the record
        with the number `record`.
        """
        cdef bint good = True
        self.out.length = 0
        self.record = record
        self.position = self.copy_to = self.skip_to = start
        if data.shape[0]:
            with nogil:
                self.start_piece(&data[0], start, log_end)
                if self.ahead is not None:
                    self.ahead.start_piece(&data[0], start, log_end)
                good = self.follow(&log[0] if log.shape[0] else NULL, log.shape[0],
                                   start + data.shape[0])
        if self.spill.error:
            raise OSError(self.spill.error, os.strerror(self.spill.error))
        if not good:
            raise MemoryError
        if self.out.length == 0:
            return memoryview(b"")
        return PyMemoryView_FromMemory(<char *> self.out.data, self.out.length, PyBUF_READ)

    cdef bint follow(self, const uint8_t *log, size_t length, uint64_t end) noexcept nogil:
        """Go through the log, and copy what is behind its last entry, up to `end`."""
        cdef const uint8_t *log_stop = log + length
        cdef const uint8_t *looked_at = log
        if not reserve(&self.out, end - self.position):
            return False
        while log < log_stop:
            if self.ahead is not None and log >= looked_at:
                looked_at = self.ahead.look(log, log_stop)
            if not (self.read_entry(&log) and self.take_step()):
                return False
        self.copy_to = end
        return self.take_step()

    cdef bint take_step(self) noexcept nogil:
        cdef const uint8_t *start = self.data + (self.position - self.data_start)
        if self.position < self.copy_to:
            if not append(&self.out, start, self.copy_to - self.position):
                return False
            self.position = self.copy_to
        if self.pending.length:
            if not append(&self.out, self.pending.data, self.pending.length):
                return False
            self.pending.length = 0
        self.position = max(self.position, self.skip_to)
        return True

    cdef void replace(self, uint64_t start, uint64_t end) noexcept nogil:
        self.copy_to = start
        self.skip_to = end

    cdef bint read_entry(self, const uint8_t **at) noexcept nogil:
        """Find out what the next step is: none, if the entry changes nothing."""
        cdef Entry entry = <Entry> at[0][0]
        cdef uint64_t start
        at[0] += 1
        if entry == RECORD:
            return self.read_record(at)
        start = self.log_end + read_number(at)
        self.log_end = start + read_number(at)
        if entry == KEY or entry == BESIDE:
            return self.read_key(at, entry, start)
        if entry == NATURAL:
            return self.read_natural(at)
        if entry == PARENT:
            return self.read_parent(at, start)
        if entry == REFERENCES:
            return self.read_references(at, start)
        if entry == MANY:
            return self.read_many(at, start)
        if entry != CUT:
            return self.read_reference(at, entry, start)
        if not self.in_dropped and not self.keeps_pks():
            self.replace(start, self.log_end)
        return True

    cdef bint keeps_pks(self) noexcept nogil:
        return self.index.models[self.record_model].table.keeps_pks

    cdef bint read_record(self, const uint8_t **at) noexcept nogil:
        cdef uint64_t separator, length
        self.record_model = <int> read_number(at)
        self.record += read_number(at)
        self.record_start = self.log_end + read_number(at)
        self.log_end = self.record_start
        separator = read_number(at)
        length = read_number(at)
        self.record_pk = self.read_place(at)
        self.in_dropped = self.is_dropped()
        if self.joint.length and self.has_joint(separator):
            # It stays, whatever becomes of the records on both sides.
            separator = 0
            self.any_kept = False
        if self.in_dropped:
            # With the separator in front of it.
            self.replace(self.record_start - separator, self.record_start + length)
        else:
            if not self.any_kept:
                # All before were left out: there is nothing to be separated from.
                self.replace(self.record_start - separator, self.record_start)
            self.any_kept = True
        return True

    cdef bint has_joint(self, size_t length) noexcept nogil:
        """Whether the separator in front of the record, of that length, is where an array begins."""
        cdef const uint8_t *end = self.data + (self.record_start - self.data_start)
        cdef const uint8_t *comma
        if length < self.joint.length:
            return False
        comma = <const uint8_t *> memchr(end - length, c',', length)
        return comma != NULL and <size_t> (end - comma) >= self.joint.length and same_bytes(
            comma, self.joint.data, self.joint.length)

    cdef bint is_dropped(self) noexcept nogil:
        cdef const uint64_t *dropped = <const uint64_t *> self.index.dropped.data
        cdef size_t count = self.index.dropped.length // sizeof(uint64_t)
        while self.next_dropped < count and dropped[self.next_dropped] < self.record:
            self.next_dropped += 1
        return self.next_dropped < count and dropped[self.next_dropped] == self.record

    cdef bint drop_record(self) noexcept nogil:
        """Leave the record out of the next pass, and make what refers to it unresolved."""
        return is_among(&self.newly_dropped, self.record) or append(
            &self.newly_dropped, &self.record, sizeof(uint64_t))

    cdef void need(self, const uint8_t *row) noexcept nogil:
        """Without that row the record would be left out."""
        cdef Need need
        if row[0] & ROW_NUMBERED:
            need.row = row_number(row)
            need.record = self.record
            self.needs_memory |= not append(&self.needs, &need, sizeof(Need))

    cdef Text pk(self) noexcept nogil:
        return canonical(self.record_pk, &self.pk_scratch)

    cdef bint note(self, Code code, uint64_t at, Text field, Text value) noexcept nogil:
        """Apply the policy of `code`: count it, or note a finding."""
        cdef Policy policy = <Policy> self.index.policies[code - FIRST_CODE]
        cdef bint keeps_pks = policy == KEEP and (code == DUPLICATE_KEY or code == NULL_KEY)
        if policy == ERROR:
            return put_finding(&self.notes, code, at, self.record, self.record_model, field,
                               self.pk(), value)
        if policy != DROP and not keeps_pks:
            self.counts[code - FIRST_CODE] += 1
            return True
        self.again = True
        if policy == DROP and self.index.drops_wait:
            return True
        # The next pass will not meet this again: these counts add up.
        self.next_counts[code - FIRST_CODE] += 1
        if policy == DROP:
            return self.drop_record()
        self.keeping[self.record_model] = self.keeps_more = True
        return True

    # -- the record's own key --

    cdef bint read_key(self, const uint8_t **at, Entry entry, uint64_t start) noexcept nogil:
        """The pk member becomes the key, unless the record has to keep its pk."""
        cdef ModelPlan *plan = self.index.models[self.record_model].plan
        cdef Text key
        cdef Text nothing = literal(b"")
        cdef Made made
        if not self.read_columns(at, plan.row_columns):
            return False
        if self.in_dropped or self.keeps_pks():
            return True
        self.pending.length = 0
        self.needs_hops = self.traces_needs
        made = self.make_key(&plan.key, self.columns.data, &self.pending)
        self.needs_hops = False
        key.data = self.pending.data
        key.length = self.pending.length
        if made == NO_MEMORY:
            return False
        if made == UNMADE:
            self.pending.length = 0
            return self.note(NO_KEY, start, nothing, nothing)
        if made == NULL_PART and not self.note(NULL_KEY, start, nothing, key):
            return False
        if not self.audit(key, start):
            return False
        if self.index.django_style:
            self.pending.length = 0
        elif not insert(&self.pending, b'"natural_key": ', 15):
            return False
        elif entry == BESIDE and not append(&self.pending, b", ", 2):
            return False
        self.keys_written += 1
        self.replace(start, self.log_end)
        return True

    cdef bint audit(self, Text key, uint64_t start) noexcept nogil:
        """Another record with this key is a finding, as soon as it is known that there is one."""
        cdef Fingerprint fingerprint
        cdef Text plain = plain_json(key, &self.scratch, &self.plain)
        if plain.data == NULL:
            return False
        fingerprint = fingerprint_of(plain, self.record_model, MADE, self.index.seed)
        if occurs_again(&self.expected, fingerprint):
            return self.note(DUPLICATE_KEY, start, literal(b""), key)
        return append(&self.prints, &fingerprint, sizeof(Fingerprint))

    cdef bint read_natural(self, const uint8_t **at) noexcept nogil:
        """A record with neither pk nor key, which has its key in its fields."""
        cdef ModelPlan *plan = self.index.models[self.record_model].plan
        cdef Fingerprint fingerprint
        cdef Text key
        cdef Made made
        if not self.read_columns(at, plan.row_columns):
            return False
        self.pending.length = 0
        made = self.make_key(&plan.key, self.columns.data, &self.pending)
        key.data = self.pending.data
        key.length = self.pending.length
        self.pending.length = 0
        if made == NO_MEMORY or made == UNMADE or self.in_dropped:
            return made != NO_MEMORY
        key = plain_json(key, &self.scratch, &self.plain)
        if key.data == NULL:
            return False
        fingerprint = fingerprint_of(key, self.record_model, 0, self.index.seed)
        return append(&self.prints, &fingerprint, sizeof(Fingerprint))

    cdef Made make_key(self, const KeyPlan *key, const uint8_t *columns,
                       Buffer *out) noexcept nogil:
        """Append the key as JSON, each part as it stands in the record that it comes from."""
        cdef const PartPlan *part = self.index.plan.parts + key.first_part
        cdef const PartPlan *end = part + key.parts
        cdef bint null_part = False
        cdef Made made
        while part < end:
            if not append(out, part.before.data, part.before.length):
                return NO_MEMORY
            made = self.make_part(part, columns, out) if part.hops else put_value(
                out, column_of(columns, part.column), part.transform, &self.scratch)
            if made == UNMADE or made == NO_MEMORY:
                return made
            null_part |= made == NULL_PART
            part += 1
        if not append(out, key.tail.data, key.tail.length):
            return NO_MEMORY
        return NULL_PART if null_part else WHOLE

    cdef Made make_part(self, const PartPlan *part, const uint8_t *columns,
                        Buffer *out) noexcept nogil:
        """Follow the path to its value from row to row."""
        cdef const Hop *hop = self.index.plan.hops + part.first_hop
        cdef const Hop *end = hop + part.hops
        cdef Buffer *scratch = &self.scratch
        cdef const uint8_t *row
        cdef Text value
        cdef int turn = 0
        while hop < end:
            value = column_of(columns, hop.column)
            if is_null(value):
                return put_value(out, literal(b""), PLAIN, scratch)
            if value.data[0] == c'[' and hop.positions != NOWHERE:
                # Already a natural key: the part stands in it, or cannot be had.
                value = self.part_of(value, hop)
                if value.length == 0:
                    return UNMADE
                return put_value(out, value, hop.transform, scratch)
            value = canonical(value, scratch)
            if value.data == NULL:
                return NO_MEMORY
            row = self.find_row(hop.model, hop.index, value, &self.passed[turn])
            if row == NULL:
                return UNMADE
            if self.needs_hops:
                self.need(row)
            columns = row_columns(row)
            turn ^= 1
            hop += 1
        return put_value(out, column_of(columns, part.column), part.transform, scratch)

    cdef Text part_of(self, Text key, const Hop *hop) noexcept nogil:
        """The part of a natural key that a hop asks for; empty where it has none such."""
        cdef const int *position = self.index.plan.positions + hop.first_position
        cdef const int *end = position + hop.positions
        if position == end:
            return literal(b"")
        while position < end and key.length and key.data[0] == c'[':
            key = list_element(key, position[0])
            position += 1
        return key if position == end else literal(b"")

    # -- what Django's natural dump adds or loses --

    cdef bint read_parent(self, const uint8_t **at, uint64_t start) noexcept nogil:
        """The link to the parent becomes the first field, as Django writes it."""
        cdef int number = <int> read_number(at)
        cdef RelationPlan *relation = &self.index.plan.relations[number]
        cdef bint more = at[0][0]
        cdef Text id, pk
        cdef Reference outcome = STAYS
        at[0] += 1
        id = read_text(at)
        pk = read_text(at)
        if self.in_dropped:
            return True
        self.pending.length = 0
        if not append_name(&self.pending, relation.name):
            return False
        if relation.index != NOWHERE:
            outcome = self.put_reference(relation.model, relation.index, &relation.key, id, True)
        if outcome == FAILED:
            return False
        if outcome == LOST and not self.note(UNRESOLVED, start, relation.name, id):
            return False
        if outcome != WRITTEN and not append(&self.pending, pk.data, pk.length):
            return False
        self.replace(start, start)
        return not more or append(&self.pending, b", ", 2)

    cdef bint read_references(self, const uint8_t **at, uint64_t start) noexcept nogil:
        """What neither the natural key nor the fields hold goes into a member of its own, or in
        front of what is in that already."""
        cdef Room room = <Room> at[0][0]
        cdef int left
        cdef bint any_made = False
        cdef size_t before
        cdef int number
        cdef Text id, type_
        cdef Reference outcome
        at[0] += 1
        left = <int> read_number(at)
        self.pending.length = 0
        if room == OWN_MEMBER and not append(&self.pending, b'"references": {', 15):
            return False
        while left:
            left -= 1
            number = <int> read_number(at)
            id = read_text(at)
            type_ = read_text(at)
            if self.in_dropped:
                continue
            before = self.pending.length
            outcome = self.put_named(number, id, type_, any_made, start)
            if outcome == FAILED:
                return False
            if outcome == WRITTEN:
                any_made = True
            else:
                self.pending.length = before
        if not any_made:
            self.pending.length = 0
            return True
        self.replace(start, start)
        if room == OWN_MEMBER:
            return append(&self.pending, b"}, ", 3)
        return room == EMPTY_OBJECT or append(&self.pending, b", ", 2)

    cdef Reference put_named(self, int number, Text id, Text type_, bint comma,
                             uint64_t start) noexcept nogil:
        """Append `"name": key` for an entry of the references."""
        cdef GenericPlan *generic = &self.index.plan.generics[number >> 1]
        cdef RelationPlan *relation = &self.index.plan.relations[number >> 1]
        cdef bint is_generic = number & 1
        cdef Text name = generic.name if is_generic else relation.name
        cdef Code code = NO_GENERIC_TARGET if is_generic else UNRESOLVED
        cdef int model = self.generic_target(generic, type_) if is_generic else relation.model
        cdef Reference outcome = LOST
        if (comma and not append(&self.pending, b", ", 2)) or not append_name(&self.pending, name):
            return FAILED
        if model == NOWHERE:
            code = NO_CONTENT_TYPE
            id = type_
        elif not self.index.models[model].plan.natural:
            code = NO_GENERIC_KEY
        elif is_generic:
            outcome = self.put_reference(model, 0, &self.index.models[model].plan.key, id, False)
        else:
            outcome = self.put_reference(model, relation.index, &relation.key, id, True)
        if outcome == LOST and is_generic and generic.may_dangle:
            self.generic_kept += 1
        elif outcome == LOST and not self.note(code, start, name, id):
            return FAILED
        if (is_generic or outcome == WRITTEN or outcome == FAILED or self.keeps_pks()
                or not self.index.models[self.record_model].plan.natural):
            return outcome
        # The key takes the place of the pk, so nothing else would say what it refers to.
        return WRITTEN if append(&self.pending, type_.data, type_.length) else FAILED

    def lacks_rows(self):
        """Whether a generic relation leads to a model whose rows are not kept, as the plan was made
        without counting on that."""
        cdef const uint8_t *at = self.index.kinds.data
        cdef const uint8_t *end = at + self.index.kinds.length
        cdef int generic, model
        if self.index.kinds.length > MAX_KINDS:
            return True
        while at < end:
            generic = <int> read_number(&at)
            model = self.generic_target(&self.index.plan.generics[generic], read_text(&at))
            if (model != NOWHERE and self.index.models[model].plan.natural
                    and index_count(&self.index.models[model]) == 0):
                return True
        return False

    # -- references --

    cdef Reference put_reference(self, int model, int index, const KeyPlan *key, Text id,
                                 bint is_needed) noexcept nogil:
        """Append the key of the row with that id."""
        cdef size_t before = self.pending.length
        cdef const uint8_t *row
        cdef Made made
        if self.index.models[model].table.keeps_pks:
            return STAYS
        row = self.find_row(model, index, id, &self.target)
        if row == NULL:
            return LOST
        if is_needed and self.traces_needs:
            self.need(row)
        made = self.make_key(key, row_columns(row), &self.pending)
        if made == NO_MEMORY:
            return FAILED
        if made == WHOLE or (made == NULL_PART
                             and self.index.policies[NULL_KEY - FIRST_CODE] == NULL_):
            self.references_written += 1
            return WRITTEN
        self.pending.length = before
        if row[0] & (ROW_OF_KEYS | ROW_WITHOUT_PK) or self.has_own_key(model, key, row):
            return LOST
        return STAYS  # as the pk of that row does, which is reported there

    cdef bint has_own_key(self, int model, const KeyPlan *key, const uint8_t *row) noexcept nogil:
        """Whether another key than that of a proxy can be made of a row, so that its pk goes."""
        cdef ModelPlan *plan = self.index.models[model].plan
        cdef size_t before = self.pending.length
        cdef bint is_whole = (key.first_part != plan.key.first_part and plan.natural
                              and self.make_key(&plan.key, row_columns(row), &self.pending) == WHOLE)
        self.pending.length = before
        return is_whole

    cdef bint read_reference(self, const uint8_t **at, Entry entry, uint64_t start) noexcept nogil:
        """An id becomes the key of its row, unless that row keeps its pk."""
        cdef RelationPlan *relation = &self.index.plan.relations[read_number(at)]
        cdef Text id
        cdef Reference outcome
        if entry == TEXT:
            id = read_text(at)
        else:
            id.data = self.data + (start - self.data_start)
            id.length = self.log_end - start
            id = canonical(id, &self.id_scratch)
            if id.data == NULL:
                return False
        if self.in_dropped:
            return True
        self.pending.length = 0
        outcome = self.resolve(relation, id, start)
        if outcome == FAILED or outcome == STAYS:
            return outcome == STAYS
        self.replace(start, self.log_end)
        if entry == TEXT:
            return escape(&self.pending)
        return outcome == WRITTEN or append(&self.pending, b"null", 4)

    cdef bint read_many(self, const uint8_t **at, uint64_t start) noexcept nogil:
        """A list, in which ids become keys. With an id that goes, so does what separates it from
        the elements in front."""
        cdef RelationPlan *relation = &self.index.plan.relations[read_number(at)]
        cdef Buffer *list_ = &self.pending
        cdef const uint8_t *first = self.data + (start - self.data_start)
        cdef const uint8_t *p = behind_spaces(first + 1)
        cdef const uint8_t *behind = p       # the last element
        cdef bint any_written = False
        cdef size_t before
        cdef Text element
        cdef Reference outcome
        if self.in_dropped:
            return True
        list_.length = 0
        if not append(list_, first, p - first):
            return False
        while p[0] != c']':
            before = list_.length
            if any_written and not append(list_, behind, p - behind):
                return False
            element.data = p
            behind = p = value_end(p)
            element.length = p - element.data
            outcome = self.put_element(relation, element)
            if outcome == FAILED:
                return False
            if outcome == LOST:
                list_.length = before
            any_written |= outcome != LOST
            p = next_element(p)
        self.replace(start, self.log_end)
        return append(list_, behind, p + 1 - behind)

    cdef Reference put_element(self, RelationPlan *relation, Text element) noexcept nogil:
        cdef Reference outcome = STAYS
        cdef Text id
        if is_id(element.data[0]):
            id = canonical(element, &self.id_scratch)
            if id.data == NULL:
                return FAILED
            outcome = self.resolve(relation, id, self.data_start + (element.data - self.data))
        if outcome == STAYS and not append(&self.pending, element.data, element.length):
            return FAILED
        return outcome

    cdef Reference resolve(self, RelationPlan *relation, Text id, uint64_t start) noexcept nogil:
        """Append the key of the row with that id. Where there is none, the policy says whether the
        id is LOST or STAYS."""
        cdef Code code = UNRESOLVED_INSIDE if relation.embedded else UNRESOLVED
        cdef Reference outcome = self.put_reference(relation.model, relation.index, &relation.key, id,
                                                    not relation.embedded)
        if outcome != LOST:
            return outcome
        if not self.note(code, start, relation.name, id):
            return FAILED
        return LOST if self.index.policies[code - FIRST_CODE] == NULL_ else STAYS

    # -- for Python --

    def finish(self):
        """The pass is over; the next one will leave out what this one has dropped, and keep the
        pks of the models that turned out to need them."""
        cdef int i
        for i in range(CODES):
            self.index.counts[i] += self.next_counts[i]
        for i in range(self.index.plan.model_count):
            self.index.models[i].table.keeps_pks |= self.keeping[i]
        if self.newly_dropped.length:
            self.drop_needing()
            if not append(&self.index.dropped, self.newly_dropped.data, self.newly_dropped.length):
                raise MemoryError
            qsort(self.index.dropped.data, self.index.dropped.length // sizeof(uint64_t),
                  sizeof(uint64_t), compare_numbers)

    cdef drop_needing(self):
        """What needs those that are dropped goes with them, however far away."""
        cdef size_t before = self.newly_dropped.length
        cdef uint8_t[::1] is_dropped
        if self.needs_memory:
            raise MemoryError
        if self.needs.length == 0:
            return
        is_dropped = bytearray(self.index.records + 1)
        if not add_needing(&self.newly_dropped, &self.needs, &is_dropped[0]):
            raise MemoryError
        self.index.counts[UNRESOLVED - FIRST_CODE] += (
            (self.newly_dropped.length - before) // sizeof(uint64_t))

    def take_prints(self):
        """The fingerprints of keys since the last call, for an `Audit`."""
        prints = self.prints.data[:self.prints.length]
        self.prints.length = 0
        return prints

    def take_findings(self):
        """The findings since the last call, as `Indexer.take_findings` gives them."""
        return take_findings(self.index, &self.notes)

    def policy_counts(self):
        """How often each policy was applied in this pass, by code."""
        return {FIRST_CODE + i: self.counts[i] for i in range(CODES) if self.counts[i]}


cdef bint append_name(Buffer *buffer, Text name) noexcept nogil:
    """Of a member of a record."""
    return (append_byte(buffer, c'"') and append(buffer, name.data, name.length)
            and append(buffer, b'": ', 3))


cdef bint insert(Buffer *buffer, const char *text, size_t length) noexcept nogil:
    """In front of what is there."""
    if not reserve(buffer, length):
        return False
    memmove(buffer.data + length, buffer.data, buffer.length)
    memcpy(buffer.data, text, length)
    buffer.length += length
    return True


cdef bint escape(Buffer *buffer) noexcept nogil:
    """JSON becomes part of a string."""
    cdef size_t length = buffer.length
    cdef size_t i
    cdef const uint8_t *text
    for i in range(length):
        buffer.length += buffer.data[i] == c'"' or buffer.data[i] == c'\\'
    i = buffer.length
    buffer.length = length
    if not reserve(buffer, i - length):
        return False
    buffer.length = i
    text = buffer.data + length
    while text > buffer.data:
        text -= 1
        i -= 1
        buffer.data[i] = text[0]
        if text[0] == c'"' or text[0] == c'\\':
            i -= 1
            buffer.data[i] = c'\\'
    return True


cdef bint is_among(const Buffer *numbers, uint64_t number) noexcept nogil:
    """Whether it is one of `numbers`, which ascend."""
    cdef const uint64_t *first = <const uint64_t *> numbers.data
    cdef size_t count = numbers.length // sizeof(uint64_t)
    cdef size_t half
    while count > 1:
        half = count // 2
        if first[half] <= number:
            first += half
        count -= half
    return count and first[0] == number


cdef int compare_numbers(const void *a, const void *b) noexcept nogil:
    cdef uint64_t x = (<const uint64_t *> a)[0]
    cdef uint64_t y = (<const uint64_t *> b)[0]
    return (x > y) - (x < y)
