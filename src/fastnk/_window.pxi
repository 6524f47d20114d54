# ---- faults ------------------------------------------------------------------------------

_FAULTS = {
    VALUE: ("FNK200", "not JSON: a value should stand here"),
    NUMBER: ("FNK200", "not JSON: a number is malformed"),
    LITERAL: ("FNK200", "not JSON: a value should stand here, and this is none that JSON knows"),
    ESCAPE: ("FNK200", "not JSON: a string holds a malformed escape"),
    CONTROL: ("FNK200", "not JSON: a string holds a raw control character"),
    MEMBER: ("FNK200", "not JSON: a member name in double quotes should stand here"),
    COLON: ("FNK200", "not JSON: a colon should stand here"),
    DELIMITER_OBJECT: ("FNK200", "not JSON: a comma or a closing brace should stand here"),
    DELIMITER_ARRAY: ("FNK200", "not JSON: a comma or a closing bracket should stand here"),
    AFTER: ("FNK200", "not JSON: there is more behind the closing bracket"),
    EMPTY: ("FNK201", "the backup is empty"),
    NO_RECORDS: ("FNK202", "the backup holds no records"),
    TOP: ("FNK203", "not a list of records"),
    NOT_RECORD: ("FNK203", "an element of the list is not a record"),
    NO_MODEL: ("FNK204", WRONG_MEMBERS["model"][0]),
    NO_FIELDS: ("FNK204", WRONG_MEMBERS["fields"][0]),
    MODEL_TYPE: ("FNK204", WRONG_MEMBERS["model"][1]),
    FIELDS_TYPE: ("FNK204", WRONG_MEMBERS["fields"][1]),
    INCOMPLETE: ("FNK205", "the backup is cut off in the middle of a record"),
    UNCLOSED: ("FNK205", "the backup is cut off before its closing bracket"),
    UTF8: ("FNK206", "not UTF-8"),
    SIZE: ("FNK208", "a record is larger than {max_record:,} bytes, which is the limit"),
    MODELS: ("FNK209", f"more than {MAX_MODELS:,} different models that the schema does not know"),
}
_REMEDIES = {
    "FNK200": "look at that place; was the file edited, or mixed with other output?",
    "FNK201": "check that the backup was written, and that it is the right file",
    "FNK202": "check that dumpdata was given the right apps",
    "FNK203": "give the output of dumpdata: a JSON array of records, or one record a line",
    "FNK204": A_RECORD,
    "FNK205": "fetch the whole file again",
    "FNK206": NAME_THE_ENCODING,
    "FNK208": "is a bracket or a quote missing there? no row of a database is that large",
    "FNK209": "is the schema that of this system? is this file what it seems?",
}


# ---- the window ---------------------------------------------------------------------------

cdef enum Top:
    START
    OPENED     # behind the opening bracket
    BEHIND     # behind a record of an array
    NEXT       # behind a comma
    LINES      # between records that follow each other without an array
    CLOSED

cdef enum:
    LOOK_AHEAD = 4     # positions that a step may look at, from the one where it stands

DEFAULT_MAX_RECORD = 1 << 30
PADDING = FNK_BLOCK


cdef class Walker:
    """Walks over a backup that is fed in chunks and meets each record once, whole."""

    cdef Walk walk
    cdef Buffer window
    cdef uint32_t *positions
    cdef size_t positions_room
    cdef size_t retry_length     # not worth a new scan before the window is this long
    cdef size_t max_record
    cdef Top top
    cdef uint64_t opened         # where the opening bracket stands
    cdef str name
    cdef readonly unsigned long long closed
    """Where the closing bracket stands, if it does."""
    cdef readonly unsigned long long consumed
    """Bytes that are done with; the window starts here."""
    cdef readonly unsigned long long records
    """Whole records met."""
    cdef readonly unsigned long long records_end
    """Where the last whole record ended."""

    def __cinit__(self, *args, **kwargs):
        memset(&self.walk, 0, sizeof(self.walk))
        memset(&self.window, 0, sizeof(self.window))
        self.positions = NULL
        self.max_record = DEFAULT_MAX_RECORD

    def __dealloc__(self):
        free(self.window.data)
        free(self.positions)

    cdef bint meet_record(self) noexcept nogil:
        """Called at each record's opening brace; must walk over it."""
        return walk_value(&self.walk)

    def feed(self, const uint8_t[::1] data):
        """Take the next bytes. Raises `BackupSyntaxError` at the first fault, `MemoryError`."""
        cdef size_t length = data.shape[0]
        cdef bint good = True
        if length == 0:
            return
        with nogil:
            good = reserve(&self.window, length + FNK_BLOCK)
            if good:
                append(&self.window, &data[0], length)
                if self.window.length >= self.retry_length:
                    good = self.walk_window()
            else:
                self.walk.fault = MEMORY
        if not good:
            self.give_up()

    def finish(self):
        """The input ends here. Raises `BackupSyntaxError` if it must not."""
        cdef bint good
        self.walk.final = True
        with nogil:
            good = reserve(&self.window, FNK_BLOCK) and self.walk_window()
        if not good:
            self.give_up()
        end = self.consumed + self.window.length
        if self.window.length:
            self.refuse(INCOMPLETE, end)
        elif self.top == START:
            self.refuse(EMPTY, 0)
        elif self.top == OPENED or self.top == BEHIND or self.top == NEXT:
            self.refuse(UNCLOSED, end)
        elif self.records == 0:
            self.refuse(NO_RECORDS, self.opened)

    @property
    def reached(self):
        """How far it had walked when it gave up."""
        cdef bint failed = self.walk.fault != NONE
        return self.consumed + (self.walk.positions[self.walk.at] if failed else self.window.length)

    @property
    def is_array(self):
        """Whether the records stand in an array (not in lines)."""
        return self.top != LINES

    cdef bint walk_window(self) noexcept nogil:
        """Meet every whole record in the window; the rest moves to the front."""
        cdef size_t done
        memset(self.window.data + self.window.length, c' ', FNK_BLOCK)
        return self.walk_bytes(self.window.data, self.window.length, &done) and self.slide(done)

    cdef bint walk_bytes(self, const uint8_t *data, size_t length, size_t *done) noexcept nogil:
        """Scan bytes that start where a record does, or between two, and meet every whole record
        in them; `done` gets how much that was. White space must follow, a block of it unless the
        length is a multiple of a block."""
        cdef fnk_scanned scanned
        cdef int i
        if not self.make_positions(length):
            self.walk.fault = MEMORY
            return False
        scanned = _variant.scan(data, length, self.positions)
        # The sentinel: white space, or the byte that is not UTF-8; no rule accepts either. It
        # stands there as often as anything looks ahead, `skip_fields` the furthest.
        for i in range(LOOK_AHEAD):
            self.positions[scanned.count + i] = <uint32_t> scanned.end
        self.walk.text = data
        self.walk.positions = self.positions
        self.walk.at = 0
        self.walk.end = scanned.end
        self.walk.fault = NONE
        done[0] = self.walk_top()
        if self.walk.fault == INCOMPLETE or self.walk.fault == NONE:
            self.walk.fault = UTF8 if scanned.broken else NONE
            self.walk.fault_at = scanned.end
        return self.walk.fault == NONE

    cdef bint make_positions(self, size_t length) noexcept nogil:
        cdef size_t room = length + FNK_BLOCK + LOOK_AHEAD
        cdef uint32_t *positions
        if room <= self.positions_room:
            return True
        room += room // 2
        positions = <uint32_t *> realloc(self.positions, room * sizeof(uint32_t))
        if positions == NULL:
            return False
        self.positions = positions
        self.positions_room = room
        return True

    cdef bint slide(self, size_t done) noexcept nogil:
        cdef size_t rest = self.window.length - done
        cdef size_t start = done
        while start < self.window.length and is_space(self.window.data[start]):
            start += 1
        if self.window.length - start > self.max_record:
            self.walk.fault = SIZE
            self.walk.fault_at = start
            return False
        memmove(self.window.data, self.window.data + done, rest)
        self.window.length = rest
        self.consumed += done
        # Twice as long each time: walking an unfinished record again stays linear in the end.
        self.retry_length = 2 * rest
        return True

    cdef size_t walk_top(self) noexcept nogil:
        """Go from record to record. Returns how much of the window is done with."""
        cdef Walk *w = &self.walk
        cdef size_t done = 0
        cdef size_t start
        cdef uint8_t c
        while w.positions[w.at] < w.end:
            c = peek(w)
            if c == c'{' and self.top != BEHIND and self.top != CLOSED:
                if self.top == START:
                    self.top = LINES
                start = w.positions[w.at]
                if not self.meet_record():
                    return done
                if w.value_end - start > self.max_record:
                    fail(w, SIZE, start, start)
                    return done
                self.records += 1
                self.records_end = self.consumed + w.value_end
                done = w.value_end
                if self.top != LINES:
                    self.top = BEHIND
                continue
            if c == c'[' and self.top == START:
                self.top = OPENED
                self.opened = self.consumed + w.positions[w.at]
            elif c == c',' and self.top == BEHIND:
                self.top = NEXT
            elif c == c']' and (self.top == BEHIND or self.top == OPENED):
                self.top = CLOSED
                self.closed = self.consumed + w.positions[w.at]
            else:
                self.fail_top(c)
                return done
            w.at += 1
            done = w.positions[w.at - 1] + 1
        # Nothing but white space is left; it need not be kept, unless a sequence is cut off.
        return w.end

    cdef void fail_top(self, uint8_t c) noexcept nogil:
        cdef Walk *w = &self.walk
        cdef size_t at = w.positions[w.at]
        if self.top == BEHIND:
            fail_here(w, DELIMITER_ARRAY)
        elif self.top == CLOSED:
            fail_here(w, AFTER)
        elif walk_value(w):
            # A whole value, and no record.
            fail(w, TOP if self.top == START else NOT_RECORD, at, at)

    cdef give_up(self):
        if self.walk.fault == MEMORY:
            self.raise_memory_error()
        self.refuse(self.walk.fault, self.consumed + self.walk.fault_at)

    cdef raise_memory_error(self):
        raise MemoryError

    cdef refuse(self, Fault fault, unsigned long long offset):
        record = None if fault == EMPTY or fault == NO_RECORDS else self.records + 1
        place = Place(self.name, offset, record)
        if fault == DEPTH:
            raise too_deep(place)
        code, what = _FAULTS[fault]
        what = what.format(max_record=self.max_record) if fault == SIZE else what
        raise BackupSyntaxError(what, code=code, place=place, remedy=_REMEDIES[code])


@cython.final
cdef class Splitter(Walker):
    """Cuts a backup into its records."""

    cdef Buffer cut     # each record with its length in front

    def __cinit__(self, name=None, size_t max_record=DEFAULT_MAX_RECORD):
        self.name = name
        self.max_record = max_record
        memset(&self.cut, 0, sizeof(self.cut))

    def __dealloc__(self):
        free(self.cut.data)

    cdef bint meet_record(self) noexcept nogil:
        cdef size_t start = self.walk.positions[self.walk.at]
        if not walk_container(&self.walk, RECORD_DEPTH):
            return False
        if not append_text(&self.cut, self.walk.text + start, self.walk.value_end - start):
            self.walk.fault = MEMORY
            return False
        return True

    def take(self):
        """The records met since the last call, a list of `bytes`."""
        cdef const uint8_t *at = self.cut.data
        cdef const uint8_t *end = self.cut.data + self.cut.length
        cdef Text record
        records = []
        while at < end:
            record = read_text(&at)
            records.append(record.data[:record.length])
        self.cut.length = 0
        return records

    @property
    def waiting(self):
        """How many bytes the records have that were met since the last call."""
        return self.cut.length

    def take_array(self):
        """The records met since the last call, as one JSON array."""
        cdef const uint8_t *at = self.cut.data
        cdef const uint8_t *end = self.cut.data + self.cut.length
        cdef size_t length = 1 if at == end else 0
        cdef Text record
        while at < end:
            length += 1 + read_text(&at).length  # with the bracket or comma in front
        array = PyBytes_FromStringAndSize(NULL, length + 1)
        cdef uint8_t *to = <uint8_t *> PyBytes_AS_STRING(array)
        to[0] = c'['
        to[length] = c']'
        at = self.cut.data
        while at < end:
            record = read_text(&at)
            memcpy(to + 1, record.data, record.length)
            to += 1 + record.length
            if at < end:
                to[0] = c','
        self.cut.length = 0
        return array


def first_member(const uint8_t[::1] data):
    """The name of the first member of the first record, as it is spelled, when a backup starts
    with `data`; `None` where that cannot be told."""
    cdef Text rest
    cdef const uint8_t *quote
    if data.shape[0] == 0:
        return None
    rest.data = &data[0]
    rest.length = data.shape[0]
    rest = behind_space(rest)
    if rest.length and rest.data[0] == c'[':
        rest.data += 1
        rest.length -= 1
        rest = behind_space(rest)
    rest = behind_brace(rest)
    quote = <const uint8_t *> memchr(rest.data, c'"', rest.length) if rest.length else NULL
    return None if quote == NULL else rest.data[:quote - rest.data]


def first_record(const uint8_t[::1] data, bytes member not None):
    """Where in the middle of a backup a record seems to start: at a brace with `member` behind it
    and another record's closing brace in front. `None` where there is none such."""
    cdef const uint8_t *start = &data[0] if data.shape[0] else NULL
    cdef const uint8_t *brace = start
    cdef const uint8_t *before
    cdef const uint8_t *name = member
    cdef size_t length = len(member)
    cdef Text rest
    while brace != NULL:
        rest.data = brace
        rest.length = data.shape[0] - (brace - start)
        brace = <const uint8_t *> memchr(rest.data, c'{', rest.length)
        if brace == NULL:
            return None
        rest.length -= brace - rest.data
        rest.data = brace
        rest = behind_brace(rest)
        before = before_space(start, brace)
        if before > start and (before - 1)[0] == c',':
            before = before_space(start, before - 1)
        if (rest.length > length and before > start and (before - 1)[0] == c'}'
                and memcmp(rest.data, name, length) == 0 and rest.data[length] == c'"'):
            return brace - start
        brace += 1
    return None


cdef inline Text behind_space(Text text) noexcept nogil:
    while text.length and is_space(text.data[0]):
        text.data += 1
        text.length -= 1
    return text


cdef inline const uint8_t *before_space(const uint8_t *start, const uint8_t *end) noexcept nogil:
    while end > start and is_space((end - 1)[0]):
        end -= 1
    return end


cdef inline Text behind_brace(Text text) noexcept nogil:
    """What stands behind an opening brace and the quote of a member's name; empty without them."""
    if text.length and text.data[0] == c'{':
        text.data += 1
        text.length -= 1
        text = behind_space(text)
        if text.length and text.data[0] == c'"':
            text.data += 1
            text.length -= 1
            return text
    text.length = 0
    return text
