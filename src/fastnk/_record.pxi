# ---- records ------------------------------------------------------------------------------

cdef int _max_unknown_models = MAX_MODELS

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
    uint64_t tag         # what fingerprints of its pks are made with: the same in every thread
    PkSet pks            # where the table has no index to find a second record with one pk,
    Buffer below         # int64_t: of a piece, those that are in no run, though integers
    Buffer shape         # the fields of its records, as Name: in `shape_text`,
    Buffer shape_text    # where each has its quotes and the colon around it
    uint64_t records
    uint64_t with_pk
    uint64_t with_natural_key

cdef enum MemberName:
    IS_PK
    IS_MODEL
    IS_FIELDS
    IS_NATURAL_KEY
    IS_REFERENCES
    IS_OTHER
    IS_FAULTY

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
    size_t references_at # their value, as an index into the positions
    bint has_parent_link
    bint has_fields
    size_t fields_start  # of the member's name
    size_t first_field   # or, where there is none, the closing brace
    bint any_field
    Member pk            # start is 0 where there is none
    size_t fields_at     # as an index into the positions
    int fields_model     # that the fields were walked for


cdef inline bint is_word(Text text, const char *word) noexcept nogil:
    cdef size_t length = strlen(word)
    return text.length == length and memcmp(text.data, word, length) == 0


cdef inline Text literal(const char *word) noexcept nogil:
    cdef Text text
    text.data = <const uint8_t *> word
    text.length = strlen(word)
    return text


cdef enum:
    AROUND_NAME = 3      # quotes and a colon


cdef inline size_t skip_fields(Walk *w, const Name *shape, size_t count,
                               const uint8_t *names) noexcept nogil:
    """Walk over fields that follow the shape, mean nothing to us, hold strings or the simplest
    scalars and have a comma behind. Returns how many; nothing else is skipped, or looked at.

    What is listed behind a string is either outside it or a fault: a comma is outside.
    """
    cdef const uint32_t *at = w.positions + w.at
    cdef const uint8_t *text = w.text
    cdef size_t skipped = 0
    while skipped < count and shape.field == NOWHERE:
        if not same_bytes(text + at[0], names + shape.at - 1, shape.length + AROUND_NAME):
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
    return is_natural(value)


cdef inline bint is_natural(const uint8_t *value) noexcept nogil:
    """Whether a whole natural number stands here."""
    if not c'1' <= value[0] <= c'9':
        return value[0] == c'0' and fnk_class[value[1]] & ENDS_SCALAR
    while c'0' <= value[0] <= c'9':
        value += 1
    return fnk_class[value[0]] & ENDS_SCALAR


cdef inline bint skip_ids(Walk *w) noexcept nogil:
    """Walk over elements of a list that are natural numbers, and not the last one. Returns whether
    there were any; nothing else is looked at."""
    cdef const uint32_t *at = w.positions + w.at
    while w.text[at[1]] == c',' and w.text[at[2]] != c']' and is_natural(w.text + at[0]):
        at += 2
    if at == w.positions + w.at:
        return False
    w.at = at - w.positions
    return True


cdef inline void lower_name(uint8_t *label, size_t length) noexcept nogil:
    """Django reads "auth.User" as "auth.user", and the name of an app as it stands."""
    cdef size_t i = 0
    while i < length and label[i] != c'.':
        i += 1
    for i in range(i, length):
        if c'A' <= label[i] <= c'Z':
            label[i] |= 0x20


cdef inline bint may_be_id(Text value) noexcept nogil:
    """A number, or a text that is not empty."""
    cdef uint8_t c = value.data[0]
    if c == c'-':
        c = value.data[1]
    return value.length > 2 if c == c'"' else c'0' <= c <= c'9'


@cython.no_gc
cdef class RecordReader(Walker):
    """Reads records: the model, the pk, the fields that the plan names. Lists the slots."""

    cdef Plan plan
    cdef ModelState *models
    cdef int model_count
    cdef int model_room
    cdef int *labels             # open addressing: number of the model plus one; of a proxy: minus
    cdef size_t labels_size
    cdef int last_model          # of the record before: mostly that of the next, too
    cdef bint keys_only          # the records only supply keys
    cdef Record record
    cdef Text *columns           # of the record at hand
    cdef size_t *occurrences     # per field: the last one in the record at hand
    cdef int field               # that is walked over
    cdef size_t fields           # of the record, before that one
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
    cdef uint64_t seed[2 * SEED_WORDS]

    def __cinit__(self, Plan plan not None, *, RecordReader after=None, **options):
        self.plan = plan
        self.last_model = NOWHERE
        if after is None:
            seed = os.urandom(sizeof(self.seed))
            memcpy(self.seed, <const uint8_t *> seed, sizeof(self.seed))
        else:
            # Fingerprints of two runs are compared.
            memcpy(self.seed, after.seed, sizeof(self.seed))
        self.occurrences = <size_t *> _array(plan.field_count, sizeof(size_t))
        self.columns = <Text *> _array(
            max([plan.models[i].columns for i in range(plan.model_count)], default=0), sizeof(Text))
        self.labels_size = 16
        while self.labels_size < 4 * <size_t> (plan.model_count + plan.proxy_count):
            self.labels_size *= 2
        self.labels = <int *> _array(self.labels_size, sizeof(int))
        for i in range(plan.model_count):
            if self.add_model(plan.models[i].label, &plan.models[i]) == NOWHERE:
                raise MemoryError
        self.enter_proxies()

    def __dealloc__(self):
        cdef int i
        for i in range(self.model_count):
            if self.models[i].plan == NULL:
                free(<void *> self.models[i].label.data)
            free(self.models[i].shape.data)
            free(self.models[i].shape_text.data)
        free(self.models)
        free(self.labels)
        free(self.columns)
        free(self.occurrences)
        free(self.slots.data)
        free(self.cuts.data)
        free(self.names.data)
        free(self.repeated.data)
        free(self.repeated_fields.data)
        free(self.extras.data)
        free(self.not_json.data)
        free(self.inner.data)
        free(self.inner_places.data)
        free(self.inner_positions.data)
        free(self.decoded.data)
        free(self.scratch.data)
        free(self.row_scratch.data)

    cdef bint take_record(self, ModelState *m) noexcept nogil:
        """Called when a record was read."""
        return True

    # -- models --

    cdef int *label_slot(self, Text label) noexcept nogil:
        cdef size_t at = hash_text(label, self.seed) & (self.labels_size - 1)
        while self.labels[at] and not same(self.label_at(self.labels[at]), label):
            at = (at + 1) & (self.labels_size - 1)
        return &self.labels[at]

    cdef Text label_at(self, int number) noexcept nogil:
        return self.models[number - 1].label if number > 0 else self.plan.proxies[-number - 1].text

    cdef int met_model(self, Text label) noexcept nogil:
        """The number of the model with that label or proxy, NOWHERE of a label not met before."""
        cdef int number = self.label_slot(label)[0]
        return self.plan.proxies[-number - 1].model if number < 0 else number - 1

    cdef void enter_proxies(self) noexcept nogil:
        cdef int i
        for i in range(self.plan.proxy_count):
            self.label_slot(self.plan.proxies[i].text)[0] = -i - 1

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
        # Models that are not in the schema have other numbers in other threads.
        model.tag = self.model_count if plan else ~hash_text(label, self.seed)
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
        if 2 * <size_t> (self.model_count + self.plan.proxy_count + 1) > self.labels_size:
            labels = <int *> calloc(2 * self.labels_size, sizeof(int))
            if labels == NULL:
                return NOWHERE
            free(self.labels)
            self.labels = labels
            self.labels_size *= 2
            for i in range(self.model_count):
                self.label_slot(self.models[i].label)[0] = i + 1
            self.enter_proxies()
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
        cdef Text plain
        if number != NOWHERE and same(self.models[number].label, label):
            return number
        number = self.met_model(label)
        if number != NOWHERE:
            return number
        self.scratch.length = 0
        if not self.push(&self.scratch, label.data, label.length):
            return NOWHERE
        lower_name(self.scratch.data, label.length)
        plain.data = self.scratch.data
        plain.length = label.length
        number = self.met_model(plain)
        return number if number != NOWHERE else self.add_unknown_model(plain)

    # -- one record --

    @cython.final
    cdef Text span(self, size_t start, size_t end) noexcept nogil:
        cdef Text text
        text.data = self.walk.text + start
        text.length = end - start
        return text

    @cython.final
    cdef bint push(self, Buffer *buffer, const void *item, size_t size) noexcept nogil:
        if append(buffer, item, size):
            return True
        self.walk.fault = MEMORY
        return False

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

    @cython.final
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

    @cython.final
    cdef bint walk_member(self, Member *member) noexcept nogil:
        cdef Walk *w = &self.walk
        cdef MemberName name = self.walk_member_name()
        cdef size_t at = w.at
        cdef bint good = False
        member.value = w.positions[at]
        member.following = 0
        if name == IS_MODEL:
            good = self.walk_model()
        elif name == IS_FIELDS:
            good = self.meet_fields(member)
        elif name != IS_FAULTY:
            good = walk_value_within(w, FIELDS_DEPTH)
        member.end = w.value_end
        if good and name == IS_PK:
            return self.meet_member_pk(member)
        if good and name == IS_NATURAL_KEY:
            if self.record.has_natural_key:
                self.note_repeated(b"natural_key")
            self.record.has_natural_key = True
            self.record.key_start = member.value
            self.record.key_end = member.end
        elif good and name == IS_REFERENCES:
            if self.record.has_references:
                self.note_repeated(b"references")
            self.record.has_references = True
            self.record.references_at = at
        return good

    @cython.final
    cdef MemberName walk_member_name(self) noexcept nogil:
        """From a member's name to its value."""
        cdef Walk *w = &self.walk
        cdef size_t start = w.positions[w.at]
        cdef const uint8_t *spelled = w.text + start
        cdef Text name
        # Spelled as Django does, and then the colon is what is listed next.
        if memcmp(spelled, b'"pk":', 5) == 0:
            w.at += 2
            return IS_PK
        if memcmp(spelled, b'"model":', 8) == 0:
            w.at += 2
            return IS_MODEL
        if memcmp(spelled, b'"fields":', 9) == 0:
            w.at += 2
            return IS_FIELDS
        if not walk_name(w):
            return IS_FAULTY
        name = unescaped(self.span(start + 1, w.value_end - 1), &self.scratch, False)
        if not walk_colon(w):
            return IS_FAULTY
        if is_word(name, b"pk"):
            return IS_PK
        if is_word(name, b"model"):
            return IS_MODEL
        if is_word(name, b"fields"):
            return IS_FIELDS
        if is_word(name, b"natural_key"):
            return IS_NATURAL_KEY
        if is_word(name, b"references"):
            return IS_REFERENCES
        return IS_OTHER if self.remember(&self.extras, name, NOWHERE) else IS_FAULTY

    @cython.final
    cdef bint meet_fields(self, Member *member) noexcept nogil:
        cdef Walk *w = &self.walk
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
        return walk_container(w, FIELDS_DEPTH)

    cdef bint meet_member_pk(self, Member *member) noexcept nogil:
        if self.record.pk.end and not self.cut_overruled_pk():
            return False
        self.record.pk = member[0]
        return True

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
        """The pk before is overruled by one behind; who takes the first must not see it."""
        cdef Slot slot
        cdef Member *pk = &self.record.pk
        self.note_repeated(b"pk")
        slot.entry = CUT
        slot.relation = NOWHERE
        slot.at = pk.previous_end or pk.start
        slot.length = (pk.end if pk.previous_end else pk.following) - slot.at
        return self.push(&self.cuts, &slot, sizeof(Slot))

    cdef Text pk_value(self) noexcept nogil:
        """As it stands there; empty where there is none or it is null."""
        cdef Text value = self.span(self.record.pk.value, self.record.pk.end)
        if is_null(value):
            value.length = 0
        return value

    cdef bint end_record(self) noexcept nogil:
        cdef Walk *w = &self.walk
        cdef size_t at = w.at
        cdef ModelState *m
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
        return self.take_record(m)

    # -- its fields --
    #
    # The records of a model mostly have the same fields in the same order: the model's shape. As
    # long as the names follow it, each is found by one comparison, none can occur twice, and none
    # has to be remembered.

    @cython.final
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

    cdef bint learn_shape(self, ModelState *m) noexcept nogil:
        cdef const Name *name = <const Name *> self.names.data
        cdef size_t i
        cdef Name learned
        m.shape.length = m.shape_text.length = 0
        for i in range(self.names.length // sizeof(Name)):
            learned = name[i]
            learned.at = m.shape_text.length + 1
            if memchr(self.name_text(&name[i]).data, c'\\', learned.length):
                # Names are compared as they are spelled, where this one needs an escape.
                m.shape.length = 0
                return True
            if not (self.push(&m.shape_text, b'"', 1)
                    and self.push(&m.shape_text, self.name_text(&name[i]).data, learned.length)
                    and self.push(&m.shape_text, b'":', 2)
                    and self.push(&m.shape, &learned, sizeof(Name))):
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

    @cython.final
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

    @cython.final
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
        cdef size_t start = w.positions[w.at]
        cdef bint any_id = False
        w.at += 1
        while peek(w) != c']':
            any_id |= skip_ids(w) or is_id(peek(w))
            if not (walk_value_within(w, MAX_DEPTH - 1) and walk_comma(w, c']')):
                return False
        walk_closing(w)
        return not any_id or self.add_slot(MANY, number, start, w.value_end)

    @cython.final
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

    @cython.final
    cdef bint add_slot(self, Entry entry, int relation, size_t start, size_t end) noexcept nogil:
        cdef Slot slot = self.slot(entry, relation, start, end)
        return self.push(&self.slots, &slot, sizeof(Slot))

    # -- names of members --

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
        text.data = self.walk.text
        if name.decoded:
            text.data = self.decoded.data
        text.data += name.at
        text.length = name.length
        return text

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
        """The content of a string is an id, unless it holds a list: then it is a key already."""
        cdef Slot slot = self.slot(TEXT, relation, start, end)
        slot.whole = True
        if self.holds_list(start, end):
            return True
        return self.walk.fault != MEMORY and self.push(&self.slots, &slot, sizeof(Slot))

    cdef bint holds_list(self, size_t start, size_t end) noexcept nogil:
        """Whether the content of a string is a list as JSON. False, too, without memory."""
        cdef Walk outer = self.walk
        cdef uint8_t first = outer.text[start]
        cdef bint found
        if first != c'[' and first != c' ' and first != c'\\':
            return False
        found = (self.scan_text(self.span(start, end)) and peek(&self.walk) == c'['
                 and walk_value(&self.walk) and self.is_all_walked())
        self.leave_text(outer)
        return found

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
            if not (walk_colon(w)
                    and (walk_value(w) if member == NOWHERE else self.walk_step(member))
                    and walk_comma(w, c'}')):
                return False
        walk_closing(w)
        return True

    cdef bint walk_elements(self, int step) noexcept nogil:
        cdef Walk *w = &self.walk
        w.at += 1
        while peek(w) != c']':
            if not (self.walk_step(step) and walk_comma(w, c']')):
                return False
        walk_closing(w)
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
        found = self.scan_text(self.span(start, end)) and self.walk_step(step) and (
            self.is_all_walked())
        self.leave_text(outer)
        if self.walk.fault == MEMORY:
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
        self.inner_positions.length = 0
        if not (decode_text(text, &self.inner, &self.inner_places)
                and reserve(&self.inner, FNK_BLOCK)
                and reserve(&self.inner_positions,
                            (self.inner.length + FNK_BLOCK + 1) * sizeof(uint32_t))):
            self.walk.fault = MEMORY
            return False
        memset(self.inner.data + self.inner.length, c' ', FNK_BLOCK)
        positions = <uint32_t *> self.inner_positions.data
        scanned = _variant.scan(self.inner.data, self.inner.length, positions)
        positions[scanned.count] = <uint32_t> scanned.end
        self.walk.text = self.inner.data
        self.walk.positions = positions
        self.walk.at = 0
        self.walk.end = scanned.end
        self.walk.final = True
        self.walk.fault = NONE
        return True

    cdef void leave_text(self, Walk outer) noexcept nogil:
        """Go on where the text stands. Of the faults in it only that of memory is one of the walk."""
        outer.fault = MEMORY if self.walk.fault == MEMORY else NONE
        self.walk = outer

    cdef bint is_all_walked(self) noexcept nogil:
        """Whether nothing stands behind the value in that text."""
        return self.walk.positions[self.walk.at] == self.inner.length

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
