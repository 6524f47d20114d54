# ---- what both parts of pass 2 share: the log's places, and the rows of the key map -------

@cython.no_gc
cdef class RowFinder:
    """Reads what the log says of a piece of the input, and finds the rows that this refers to."""

    cdef Indexer index
    cdef uint64_t log_end        # where the last entry read ends
    cdef const uint8_t *data     # of the piece at hand,
    cdef uint64_t data_start     # which stands there in the input
    cdef uint64_t record_start
    cdef int record_model
    cdef Buffer columns          # of the record
    cdef Buffer scratch
    cdef Buffer row_scratch
    cdef Buffer id_scratch
    cdef Buffer label            # of the model that a generic relation leads to
    cdef Buffer target           # a spilled row that a reference leads to
    cdef Window looking          # at a part of a spilled index
    cdef Spill spill             # for its error
    cdef Buffer newly_dropped    # numbers of the records that the next pass leaves out, ascending
    cdef readonly unsigned long long spilled_nanoseconds
    """What it took to find rows in parts of the key map that lie in temporary files."""

    def __cinit__(self, Indexer index not None, *args):
        self.index = index
        self.looking.room = SLOTS_TO_FIND

    def __dealloc__(self):
        free(self.columns.data)
        free(self.scratch.data)
        free(self.row_scratch.data)
        free(self.id_scratch.data)
        free(self.label.data)
        free(self.target.data)
        free(self.looking.slots)
        free(self.newly_dropped.data)

    @cython.final
    cdef void start_piece(self, const uint8_t *data, uint64_t start,
                          uint64_t log_end) noexcept nogil:
        self.data = data
        self.data_start = start
        self.log_end = log_end

    @cython.final
    cdef Text read_place(self, const uint8_t **at) noexcept nogil:
        cdef Text value
        value.data = NULL
        value.length = read_number(at)
        if value.length:
            value.data = self.data + (self.record_start + read_number(at) - self.data_start)
        return value

    @cython.final
    cdef bint read_columns(self, const uint8_t **at, int count) noexcept nogil:
        """The columns of the record itself, in the form that those of rows have."""
        cdef Text value
        self.columns.length = 0
        while count:
            value = self.read_place(at)
            if not append_text(&self.columns, value.data, value.length):
                return False
            count -= 1
        return True

    @cython.final
    cdef const uint8_t *find_row(self, int model, int number, Text id,
                                 Buffer *buffer) noexcept nogil:
        """The row with that id, in `buffer` where it is spilled; NULL where there is none."""
        cdef ModelState *m = &self.index.models[model]
        cdef int column = self.index.plan.indexes[m.plan.first_index + number]
        cdef const uint8_t *row = NULL
        cdef uint64_t started = 0
        cdef uint64_t *slot
        if m.table.indexes[number].size == 0:
            return NULL
        if m.table.indexes[number].file:
            started = nanoseconds()
        slot = find_slot(&m.table, number, column, id, hash_id(id, self.index.seed), &row,
                         &self.looking, buffer, &self.row_scratch, &self.spill)
        if started:
            self.spilled_nanoseconds += nanoseconds() - started
        if slot == NULL or slot[0] == 0 or self.is_left_out(row):
            return NULL
        return row

    @cython.final
    cdef bint is_left_out(self, const uint8_t *row) noexcept nogil:
        """Whether the record that the row comes from is: then nothing leads to it."""
        cdef uint64_t number
        if not row[0] & ROW_NUMBERED:
            return False
        number = row_number(row)
        return is_among(&self.index.dropped, number) or is_among(&self.newly_dropped, number)

    @cython.final
    cdef int generic_target(self, GenericPlan *generic, Text type_) noexcept nogil:
        """The number of the model that a content type (an id, or its natural key) or a text
        stands for."""
        cdef const uint8_t *row
        cdef Text app, name
        cdef Buffer *label = &self.label
        if generic.model == NOWHERE:
            return self.labelled(generic, canonical(type_, &self.scratch))
        if type_.data[0] == c'[':
            app = list_element(type_, 0)
            name = list_element(type_, 1)
        else:
            type_ = canonical(type_, &self.scratch)
            row = NULL
            if type_.data:
                row = self.find_row(generic.model, generic.index, type_, &self.target)
            if row == NULL:
                return NOWHERE
            app = column_of(row_columns(row), generic.app_column)
            name = column_of(row_columns(row), generic.name_column)
        label.length = 0
        app = canonical(app, &self.scratch)
        if not (append(label, app.data, app.length) and append_byte(label, c'.')):
            return NOWHERE
        name = canonical(name, &self.scratch)
        if not append(label, name.data, name.length):
            return NOWHERE
        app.data = label.data
        app.length = label.length
        return self.known_model(app)

    @cython.final
    cdef int labelled(self, GenericPlan *generic, Text text) noexcept nogil:
        """The number of the model that a text stands for."""
        cdef LabelPlan *word = self.index.plan.labels + generic.first_label
        cdef size_t i = 0
        while i < <size_t> generic.labels:
            if same(word[i].text, text):
                return word[i].model
            i += 1
        self.label.length = 0
        if not append(&self.label, text.data, text.length):
            return NOWHERE
        text.data = self.label.data
        lower_name(self.label.data, text.length)
        return self.known_model(text)

    @cython.final
    cdef int known_model(self, Text label) noexcept nogil:
        """The number of the model of the schema with that label."""
        cdef int number = self.index.met_model(label)
        return number if number >= 0 and self.index.models[number].plan else NOWHERE
