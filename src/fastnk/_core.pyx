# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=True, autotestdict=False, auto_pickle=False
"""The hot loop: bytes in, bytes out, no Python object per record, no GIL.

A `Walker` is fed chunks of any size and keeps what is not yet a whole record in its window:

      consumed            the window (one buffer, drawn once)
    ...........|rec, rec, rec, rec, re|            room to grow            |padding|
               ^base                  ^length                              ^capacity

The scan (`_scan.h`) lists the bytes of the window that matter; the walk goes from one listed byte
to the next, checks the grammar and meets each record once, whole. What is left of an incomplete
record moves to the front and is scanned again with the next chunk. So a token, an escape or a
UTF-8 sequence may straddle chunks and nothing but the window has to remember it.

Pass 1, `Indexer`: rows of models that something refers to go into tables; every place that will
change goes into a log, with the id that stands there.
Pass 2, `Splicer`: copies the same bytes and follows the log. It does not parse.

Two invariants make the pointer steps safe. The list of positions ends in a sentinel that stands
where the good bytes end and on a byte that no rule accepts, so the walk cannot step past it. And
whatever looks ahead of a listed byte stops at the padding, which is white space.
"""

cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

import os

from fastnk.errors import BackupSyntaxError, Place

from fastnk._keymap cimport *
from fastnk._text cimport *
from fastnk._values cimport *
from fastnk._walk cimport *

cdef extern from "_scan.h" nogil:
    enum: FNK_BLOCK
    ctypedef struct fnk_scanned:
        size_t count
        size_t end
        int broken
    ctypedef fnk_scanned (*fnk_scan_function)(const uint8_t *, size_t, uint32_t *)
    ctypedef struct fnk_variant:
        const char *name
        fnk_scan_function scan
    int fnk_variants(fnk_variant *)

cdef extern from "_checksum.h" nogil:
    uint64_t fnk_checksum(const uint8_t *, size_t)


# ---- the scan's variants ------------------------------------------------------------------

cdef fnk_variant _variants[3]
cdef int _variant_count = fnk_variants(_variants)
cdef fnk_scan_function _scan = _variants[0].scan


def variants():
    """The scan's variants that this processor runs, the fastest first, `scalar` last."""
    return tuple([_variants[i].name.decode() for i in range(_variant_count)])


def force(name):
    """Use the named variant from now on; `None` for the fastest. For tests."""
    global _scan
    names = variants()
    if name is not None and name not in names:
        raise ValueError(f"no scan variant {name!r} here; there are {', '.join(names)}")
    _scan = _variants[0 if name is None else names.index(name)].scan


def scan(const uint8_t[::1] data):
    """What the scan finds in a window: (the places it lists, where the good bytes end, whether
    the byte there is wrong and not only cut off). For tests and benchmarks."""
    cdef size_t length = data.shape[0]
    cdef uint8_t *window = <uint8_t *> calloc(length + FNK_BLOCK, 1)
    cdef uint32_t *places = <uint32_t *> calloc(length + FNK_BLOCK, sizeof(uint32_t))
    cdef fnk_scanned scanned
    cdef size_t i
    try:
        if window == NULL or places == NULL:
            raise MemoryError
        if length:
            memcpy(window, &data[0], length)
        memset(window + length, c' ', FNK_BLOCK)
        scanned = _scan(window, length, places)
        return [places[i] for i in range(scanned.count)], scanned.end, bool(scanned.broken)
    finally:
        free(window)
        free(places)


def checksum(const uint8_t[::1] data):
    """A 64-bit checksum that tells whether two reads of a block gave the same bytes; never 0."""
    cdef uint64_t result = 0
    cdef const uint8_t *p
    cdef size_t length = data.shape[0]
    if length:
        p = &data[0]
        with nogil:
            result = fnk_checksum(p, length)
    return result or 1


cdef extern from * nogil:
    """
    #define _GNU_SOURCE
    #include <fcntl.h>
    #if defined(__linux__)
    static int fnk_start_writeback(int fd, long long offset, long long length) {
        return sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE);
    }
    #else
    static int fnk_start_writeback(int fd, long long offset, long long length) {
        (void)fd, (void)offset, (void)length;
        return 0;
    }
    #endif
    """
    int fnk_start_writeback(int fd, long long offset, long long length)


def start_writeback(int fd, long long offset, long long length):
    """Ask the system to begin writing a range of a file to disk, so that a sync in the end finds
    little left to do. A hint: where the system has no such call, nothing happens."""
    with nogil:
        fnk_start_writeback(fd, offset, length)


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
    NO_MODEL: ("FNK204", 'a record has no "model"'),
    NO_FIELDS: ("FNK204", 'a record has no "fields"'),
    MODEL_TYPE: ("FNK204", 'the "model" of a record is not a string'),
    FIELDS_TYPE: ("FNK204", 'the "fields" of a record are not an object'),
    INCOMPLETE: ("FNK205", "the backup is cut off in the middle of a record"),
    UNCLOSED: ("FNK205", "the backup is cut off before its closing bracket"),
    UTF8: ("FNK206", "not UTF-8"),
    DEPTH: ("FNK207", f"nested deeper than {MAX_DEPTH:,} levels"),
    SIZE: ("FNK208", "a record is larger than the limit"),
    MODELS: ("FNK209", "too many different models for a backup"),
}
_REMEDIES = {
    "FNK200": "look at that place; was the file edited, or mixed with other output?",
    "FNK201": "check that the backup was written, and that it is the right file",
    "FNK202": "check that dumpdata was given the right apps",
    "FNK203": "give the output of dumpdata: a JSON array of records, or one record a line",
    "FNK204": 'a record is {"model": "app.model", "pk": …, "fields": {…}}',
    "FNK205": "fetch the whole file again, or keep the complete records with --salvage",
    "FNK206": "convert the file to UTF-8 first (iconv -t UTF-8)",
    "FNK207": "no Django field nests that deep; is this file what it seems?",
    "FNK208": "raise max_record if that record is real",
    "FNK209": "is this file what it seems?",
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
        scanned = _scan(data, length, self.positions)
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
        code, what = _FAULTS[fault]
        record = None if fault == EMPTY or fault == NO_RECORDS else self.records + 1
        place = Place(self.name, offset, record)
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
        if not walk_container(&self.walk):
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


# ---- the plan -----------------------------------------------------------------------------

cdef enum:
    # Operations that make a natural key; from 0 on: the path with that number.
    OPEN = -1
    CLOSE = -2

_TRANSFORMS = {None: PLAIN, "str": STR, "isoformat": ISOFORMAT, "key": WHOLE_KEY}

cdef struct Hop:
    int column           # of the row: holds the id
    int model            # that it leads to
    int index            # of that model: finds the row
    int first_position   # where the rest of the path stands in that model's natural key: the
    int positions        # number of the part, of the part in that part, …; none: nowhere;
                         # NOWHERE: the id is no relation, and so never a key
    Transform transform  # to apply to that part

cdef struct PathPlan:
    int first_hop
    int hops
    int column
    Transform transform

cdef struct FieldPlan:
    Text name
    int column
    int relation
    int step             # NOWHERE, or the first of the paths to ids inside the field

cdef struct KeyPlan:
    int first_operation
    int operations

cdef struct RelationPlan:
    Text name
    int model
    int index            # NOWHERE: the target has no natural key, so ids stay
    bint many
    bint embedded        # the name is a path into a field
    KeyPlan key          # that is written: the target's, or in Django's dump that of a proxy

cdef struct StepPlan:    # of the paths into a field
    Text name            # of a member
    int relation         # of an id that stands here, or NOWHERE
    int elements         # the step to the elements of a list, or NOWHERE
    int first_member     # the steps to members of an object
    int members

cdef struct GenericPlan:
    Text name            # of the field with the id
    int type_column      # of the record: holds the content type, or a label as text
    int id_column        # of the record: holds the id
    int model            # of content types; NOWHERE where there is a label
    int index            # of that model: finds the content type's row
    int app_column       # of that row
    int name_column      # of that row
    int first_label      # texts that stand for labels
    int labels

cdef struct LabelPlan:
    Text text
    int model

cdef struct ModelPlan:
    Text label
    bint natural
    bint keep_pk         # the pk is data that the natural key does not hold
    bint parent_link     # the pk is the link to the parent in multi-table inheritance
    int pk_relation      # NOWHERE where the pk refers to nothing
    int columns          # noted of a record
    int row_columns      # the first of them, which its row keeps
    int pk_column
    int first_generic
    int generics
    int first_field
    int fields
    KeyPlan key
    int first_index
    int indexes


cdef void *_array(size_t count, size_t size) except NULL:
    cdef void *array = calloc(count or 1, size)
    if array == NULL:
        raise MemoryError
    return array


@cython.final
@cython.no_gc
cdef class Plan:
    """A schema in the form that the passes need. Immutable; any number of calls may share it.

    Not seen by the garbage collector, like all that refers to it: it cannot be part of a cycle,
    and must not be cleared while an `Indexer` still frees what it describes.

    `models`: per model a dict with `label` (bytes), `natural` (operations, or None), `keep_pk`,
    `parent_link`, `pk_relation`, `columns`, `row_columns`, `pk_column`, `fields` [(name, column,
    relation, step)], `indexes` [column, -1 for the pk] and `generics` [(name, type column,
    id column, model, index, app column, name column, [(text, model)])].
    `paths`: [(hops, column, transform)] with hops [(column, model, index, positions, transform)].
    `relations`: [(field name, model, index, many, embedded, operations)].
    `steps`: [(name, relation, elements, members)], members being a range of steps.
    """

    cdef ModelPlan *models
    cdef FieldPlan *fields
    cdef RelationPlan *relations
    cdef PathPlan *paths
    cdef Hop *hops
    cdef int *operations
    cdef int *indexes
    cdef int *positions
    cdef GenericPlan *generics
    cdef LabelPlan *labels
    cdef StepPlan *steps
    cdef int model_count
    cdef int field_count
    cdef int operation_count
    cdef list alive

    def __cinit__(self, list models, list paths, list relations, list steps):
        self.alive = []
        self.operations = <int *> _array(
            sum([len(model["natural"] or ()) for model in models])
            + sum([len(operations) for *_, operations in relations]), sizeof(int))
        self.set_models(models)
        self.set_paths(paths)
        self.set_relations(relations)
        self.steps = <StepPlan *> _array(len(steps), sizeof(StepPlan))
        for i, (name, relation, elements, members) in enumerate(steps):
            self.steps[i] = StepPlan(self.keep(name), relation, elements, members.start,
                                     len(members))

    cdef KeyPlan key_plan(self, operations):
        cdef KeyPlan plan
        plan.first_operation = self.operation_count
        plan.operations = len(operations)
        for code in operations:
            self.operations[self.operation_count] = code
            self.operation_count += 1
        return plan

    cdef set_relations(self, list relations):
        self.relations = <RelationPlan *> _array(len(relations), sizeof(RelationPlan))
        for i, (name, model, index, many, embedded, operations) in enumerate(relations):
            self.relations[i] = RelationPlan(self.keep(name), model, index, many, embedded,
                                             self.key_plan(operations))

    cdef Text keep(self, bytes text):
        """A view of `text`, which lives as long as the plan."""
        cdef Text view
        self.alive.append(text)
        view.data = <const uint8_t *> text
        view.length = len(text)
        return view

    cdef set_models(self, list models):
        cdef ModelPlan *m
        cdef int field = 0, index = 0, generic = 0, word = 0
        self.model_count = len(models)
        self.models = <ModelPlan *> _array(len(models), sizeof(ModelPlan))
        self.fields = <FieldPlan *> _array(
            sum([len(model["fields"]) for model in models]), sizeof(FieldPlan))
        self.indexes = <int *> _array(
            sum([len(model["indexes"]) for model in models]), sizeof(int))
        self.generics = <GenericPlan *> _array(
            sum([len(model["generics"]) for model in models]), sizeof(GenericPlan))
        self.labels = <LabelPlan *> _array(
            sum([len(words) for model in models for *_, words in model["generics"]]),
            sizeof(LabelPlan))
        for i, model in enumerate(models):
            m = &self.models[i]
            m.label = self.keep(model["label"])
            m.natural = model["natural"] is not None
            m.keep_pk = model["keep_pk"]
            m.parent_link = model["parent_link"]
            m.pk_relation = model["pk_relation"]
            m.columns = model["columns"]
            m.row_columns = model["row_columns"]
            m.pk_column = model["pk_column"]
            m.first_field = field
            for name, column, relation, step in model["fields"]:
                self.fields[field] = FieldPlan(self.keep(name), column, relation, step)
                field += 1
            m.fields = field - m.first_field
            self.field_count = field
            m.key = self.key_plan(model["natural"] or ())
            m.first_index = index
            for column in model["indexes"]:
                self.indexes[index] = column
                index += 1
            m.indexes = index - m.first_index
            m.first_generic = generic
            for name, *numbers in model["generics"]:
                type_column, id_column, target, number, app_column, name_column, labels = numbers
                self.generics[generic] = GenericPlan(
                    self.keep(name), type_column, id_column, target, number, app_column,
                    name_column, word, len(labels))
                generic += 1
                for text, labelled in labels:
                    self.labels[word] = LabelPlan(self.keep(text), labelled)
                    word += 1
            m.generics = generic - m.first_generic

    cdef set_paths(self, list paths):
        cdef int number = 0
        cdef int position = 0
        self.positions = <int *> _array(
            sum([len(hop[3] or ()) for hops, _, _ in paths for hop in hops]), sizeof(int))
        self.paths = <PathPlan *> _array(len(paths), sizeof(PathPlan))
        self.hops = <Hop *> _array(sum([len(hops) for hops, _, _ in paths]), sizeof(Hop))
        for i, (hops, column, transform) in enumerate(paths):
            self.paths[i].first_hop = number
            self.paths[i].hops = len(hops)
            self.paths[i].column = column
            self.paths[i].transform = _TRANSFORMS[transform]
            for hop_column, model, index, positions, part_transform in hops:
                self.hops[number] = Hop(hop_column, model, index, position,
                                        NOWHERE if positions is None else len(positions),
                                        _TRANSFORMS[part_transform])
                number += 1
                for place in positions or ():
                    self.positions[position] = place
                    position += 1

    def __dealloc__(self):
        free(self.models)
        free(self.fields)
        free(self.relations)
        free(self.paths)
        free(self.hops)
        free(self.operations)
        free(self.positions)
        free(self.generics)
        free(self.labels)
        free(self.steps)
        free(self.indexes)


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
    MAX_UNKNOWN_MODELS = 10_000

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
        return slot != NULL and put_slot(index, word, &self.filling, &self.spill)

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
        if self.model_count - self.plan.model_count >= MAX_UNKNOWN_MODELS:
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
        else:
            index.used += 1
        slot[0] = word
        self.filling.changed |= index.file != 0
        stored[0] = True
        return True

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


# ---- pass 2 -------------------------------------------------------------------------------

cdef enum Reference:
    WRITTEN
    STAYS        # the row keeps its pk, so the id does
    LOST         # there is no row with that id
    FAILED       # without memory


@cython.final
@cython.no_gc
cdef class Splicer:
    """Pass 2: copies the bytes that pass 1 has seen and follows its log.

    Each step of the log is at most: copy up to a place, write something, skip up to a place.
    Several may work on one index at once, each in a thread; what they find out changes it only
    when the pass is over.
    """

    cdef Indexer index
    cdef Buffer log
    cdef size_t log_at
    cdef uint64_t log_end        # where the last entry read ends
    cdef const uint8_t *data     # of the piece at hand,
    cdef uint64_t data_start     # which stands there in the input
    cdef uint64_t position       # bytes of the input that are done with
    cdef uint64_t copy_to
    cdef uint64_t skip_to
    cdef Buffer pending          # to write between copying and skipping
    cdef Buffer out
    cdef Buffer notes
    cdef Buffer prints           # fingerprints of keys, not yet taken
    cdef KeySet expected         # the keys that occur more than once
    cdef Buffer plain            # a key in its one spelling
    cdef Buffer scratch
    cdef Buffer row_scratch
    cdef Window looking          # at a part of a spilled index
    cdef Buffer target           # a spilled row that a reference leads to,
    cdef Buffer passed[2]        # and those that a path passes through, by turns
    cdef Spill spill             # for its error
    cdef readonly unsigned long long spilled_nanoseconds
    """What it took to find rows in parts of the key map that lie in temporary files."""
    cdef uint64_t next_counts[CODES]     # what the index is told when the pass is over
    cdef bint *keeping           # per model: whether it turned out to need its pks
    cdef uint64_t counts[CODES]
    cdef uint64_t record         # its number
    cdef uint64_t record_start
    cdef int record_model
    cdef Text record_pk          # as it stands there; empty where there is none
    cdef Buffer columns          # of the record
    cdef Buffer pk_scratch
    cdef Buffer id_scratch
    cdef Buffer label            # of the model that a generic relation leads to
    cdef bint in_dropped         # this record is left out
    cdef bint any_kept           # a record before this one was not left out
    cdef bint in_list            # something of this list has been written
    cdef size_t next_dropped     # as an index into index.dropped
    cdef Buffer newly_dropped
    cdef uint64_t covered        # up to here the log is known
    cdef readonly unsigned long long keys_written
    cdef readonly unsigned long long references_written
    cdef readonly bint again
    """Whether this pass found something that changes what should have been written before."""

    def __cinit__(self, Indexer index not None):
        self.index = index
        self.expected = index.expected
        self.expected.slots = <Fingerprint *> _array(index.expected.size, sizeof(Fingerprint))
        if index.expected.size:
            memcpy(self.expected.slots, index.expected.slots,
                   index.expected.size * sizeof(Fingerprint))
        self.any_kept = not index.log_all
        if not index.settle():
            index.raise_memory_error()
        self.looking.room = SLOTS_TO_FIND
        self.keeping = <bint *> _array(index.plan.model_count, sizeof(bint))

    def __dealloc__(self):
        free(self.keeping)
        free(self.scratch.data)
        free(self.row_scratch.data)
        free(self.prints.data)
        free(self.expected.slots)
        free(self.plain.data)
        free(self.log.data)
        free(self.pending.data)
        free(self.out.data)
        free(self.notes.data)
        free(self.columns.data)
        free(self.looking.slots)
        free(self.target.data)
        free(self.passed[0].data)
        free(self.passed[1].data)
        free(self.pk_scratch.data)
        free(self.id_scratch.data)
        free(self.label.data)
        free(self.newly_dropped.data)

    def splice(self, const uint8_t[::1] data, unsigned long long start, const uint8_t[::1] log,
               unsigned long long log_end, unsigned long long record):
        """What becomes of a piece of the input: a view that is valid until the next call.

        `data` stands at `start` in the input and ends where a record ends, or with the input.
        `log` is what pass 1 has logged of it; the entry before ended at `log_end`, in the record
        with the number `record`.
        """
        cdef bint good = True
        cdef size_t length = data.shape[0]
        self.log.length = self.log_at = self.out.length = 0
        self.log_end = log_end
        self.record = record
        self.position = self.copy_to = self.skip_to = start
        self.covered = start + length
        if log.shape[0] and not append(&self.log, &log[0], log.shape[0]):
            raise MemoryError
        if length:
            with nogil:
                self.data = &data[0]
                self.data_start = start
                good = self.run(&data[0], length)
        if self.spill.error:
            raise OSError(self.spill.error, os.strerror(self.spill.error))
        if not good:
            raise MemoryError
        if self.out.length == 0:
            return memoryview(b"")
        return PyMemoryView_FromMemory(<char *> self.out.data, self.out.length, PyBUF_READ)

    cdef bint run(self, const uint8_t *data, size_t length) noexcept nogil:
        cdef uint64_t start = self.position
        cdef uint64_t end = start + length
        cdef uint64_t stop
        if not reserve(&self.out, length):
            return False
        while True:
            if self.position < self.copy_to:
                stop = min(self.copy_to, end)
                if not append(&self.out, data + (self.position - start), stop - self.position):
                    return False
                self.position = stop
                if stop < self.copy_to:
                    return True
            if self.pending.length:
                if not append(&self.out, self.pending.data, self.pending.length):
                    return False
                self.pending.length = 0
            if self.position < self.skip_to:
                self.position = min(self.skip_to, end)
                if self.position < self.skip_to:
                    return True
            if self.log_at < self.log.length:
                if not self.read_entry():
                    return False
            elif self.position < self.covered:
                self.copy_to = self.covered
                if self.position == end:
                    return True
            else:
                # Behind the last whole record of a damaged backup: left out.
                self.position = end
                return True

    cdef void replace(self, uint64_t start, uint64_t end) noexcept nogil:
        self.copy_to = start
        self.skip_to = end

    cdef bint read_entry(self) noexcept nogil:
        cdef const uint8_t *at = self.log.data + self.log_at
        cdef Entry entry = <Entry> at[0]
        cdef uint64_t before = self.log_end
        cdef uint64_t start
        cdef bint good = True
        at += 1
        if entry == RECORD:
            good = self.read_record(&at)
        else:
            start = before + read_number(&at)
            self.log_end = start + read_number(&at)
            if entry == KEY or entry == BESIDE:
                good = self.read_key(&at, entry, start)
            elif entry == NATURAL:
                good = self.read_natural(&at)
            elif entry == PARENT:
                good = self.read_parent(&at, start)
            elif entry == REFERENCES:
                good = self.read_references(&at, start)
            elif entry == CUT:
                if not self.in_dropped and not self.keeps_pks():
                    self.replace(start, self.log_end)
            elif entry == KEPT or entry == FIRST_KEPT:
                if entry == KEPT and not self.in_list:
                    self.replace(before, start)
                self.in_list = True
            else:
                good = self.read_reference(&at, entry, before, start)
        self.log_at = at - self.log.data
        return good

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
        if self.in_dropped:
            # With the separator in front of it.
            self.replace(self.record_start - separator, self.record_start + length)
        else:
            if not self.any_kept:
                # All before were left out: there is nothing to be separated from.
                self.replace(self.record_start - separator, self.record_start)
            self.any_kept = True
        return True

    cdef Text read_place(self, const uint8_t **at) noexcept nogil:
        cdef Text value
        value.data = NULL
        value.length = read_number(at)
        if value.length:
            value.data = self.data + (self.record_start + read_number(at) - self.data_start)
        return value

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

    cdef bint is_dropped(self) noexcept nogil:
        cdef const uint64_t *dropped = <const uint64_t *> self.index.dropped.data
        cdef size_t count = self.index.dropped.length // sizeof(uint64_t)
        while self.next_dropped < count and dropped[self.next_dropped] < self.record:
            self.next_dropped += 1
        return self.next_dropped < count and dropped[self.next_dropped] == self.record

    cdef bint drop_record(self) noexcept nogil:
        """Leave the record out of the next pass, and make what refers to it unresolved."""
        cdef ModelState *m = &self.index.models[self.record_model]
        cdef uint64_t last
        if self.newly_dropped.length:
            last = (<const uint64_t *> (self.newly_dropped.data + self.newly_dropped.length) - 1)[0]
            if last == self.record:
                return True
        if index_count(m) and self.record_pk.length:
            self.mark_dropped(m, self.pk())
        return append(&self.newly_dropped, &self.record, sizeof(uint64_t))

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
        # The next pass will not meet this again: these counts add up.
        self.next_counts[code - FIRST_CODE] += 1
        self.again = True
        if policy == DROP:
            return self.drop_record()
        self.keeping[self.record_model] = True
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
        made = self.make_key(plan.key, self.columns.data, &self.pending)
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
        made = self.make_key(plan.key, self.columns.data, &self.pending)
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

    cdef Made make_key(self, KeyPlan plan, const uint8_t *columns, Buffer *out) noexcept nogil:
        """Append the key as JSON, each part as it stands in the record that it comes from."""
        cdef const int *operation = self.index.plan.operations + plan.first_operation
        cdef const int *end = operation + plan.operations
        cdef bint comma = False
        cdef bint null_part = False
        cdef Made made
        while operation < end:
            if operation[0] == CLOSE:
                if not append_byte(out, c']'):
                    return NO_MEMORY
                comma = True
            else:
                if comma and not append(out, b", ", 2):
                    return NO_MEMORY
                comma = operation[0] != OPEN
                if not comma:
                    if not append_byte(out, c'['):
                        return NO_MEMORY
                else:
                    made = self.make_part(&self.index.plan.paths[operation[0]], columns, out)
                    if made == UNMADE or made == NO_MEMORY:
                        return made
                    null_part |= made == NULL_PART
            operation += 1
        return NULL_PART if null_part else WHOLE

    cdef Made make_part(self, PathPlan *path, const uint8_t *columns, Buffer *out) noexcept nogil:
        """Follow the path from row to row."""
        cdef const Hop *hop = self.index.plan.hops + path.first_hop
        cdef const Hop *end = hop + path.hops
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
            columns = row_columns(row)
            turn ^= 1
            hop += 1
        return put_value(out, column_of(columns, path.column), path.transform, scratch)

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

    cdef const uint8_t *find_row(self, int model, int number, Text id,
                                 Buffer *buffer) noexcept nogil:
        """The row with that id, in `buffer` where it is spilled; NULL where there is none."""
        cdef ModelState *m = &self.index.models[model]
        cdef const uint8_t *row = NULL
        cdef uint64_t started = 0
        cdef uint64_t *slot
        if m.table.indexes[number].size == 0:
            return NULL
        if m.table.indexes[number].file:
            started = nanoseconds()
        slot = self.find_slot(m, number, id, &row, buffer)
        if started:
            self.spilled_nanoseconds += nanoseconds() - started
        if slot == NULL or slot[0] == 0 or row[0] & ROW_DROPPED:
            return NULL
        return row

    cdef uint64_t *find_slot(self, ModelState *m, int number, Text id, const uint8_t **row,
                             Buffer *buffer) noexcept nogil:
        cdef int column = self.index.plan.indexes[m.plan.first_index + number]
        return find_slot(&m.table, number, column, id, hash_text(id, self.index.seed), row,
                         &self.looking, buffer, &self.row_scratch, &self.spill)

    cdef void mark_dropped(self, ModelState *m, Text pk) noexcept nogil:
        """What refers to the row will be unresolved."""
        cdef Rows *rows = &m.table.rows
        cdef const uint8_t *row = NULL
        cdef uint64_t *slot
        cdef size_t place
        cdef uint8_t flags
        if m.table.indexes[0].size == 0:
            return
        slot = self.find_slot(m, 0, pk, &row, &self.target)
        if slot == NULL or slot[0] == 0:
            return
        flags = row[0] | ROW_DROPPED
        place = (slot[0] & PLACE_MASK) - 1
        if rows.file == 0:
            rows.heap.data[row - rows.heap.data] = flags
        elif not fnk_write_file(rows.file, &flags, 1, place + (row - self.target.data)):
            failed(&self.spill)

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
        if not (append_byte(&self.pending, c'"')
                and append(&self.pending, relation.name.data, relation.name.length)
                and append(&self.pending, b'": ', 3)):
            return False
        if relation.index != NOWHERE:
            outcome = self.put_reference(relation.model, relation.index, relation.key, id)
        if outcome == FAILED:
            return False
        if outcome == LOST and not self.note(UNRESOLVED, start, relation.name, id):
            return False
        if outcome != WRITTEN and not append(&self.pending, pk.data, pk.length):
            return False
        self.replace(start, start)
        return not more or append(&self.pending, b", ", 2)

    cdef bint read_references(self, const uint8_t **at, uint64_t start) noexcept nogil:
        """What neither the natural key nor the fields hold goes into a member of its own."""
        cdef int left = <int> read_number(at)
        cdef bint any_made = False
        cdef size_t before
        cdef int number
        cdef Text id, type_
        cdef Reference outcome
        self.pending.length = 0
        if not append(&self.pending, b'"references": {', 15):
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
        return append(&self.pending, b"}, ", 3)

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
        if comma and not append(&self.pending, b", ", 2):
            return FAILED
        if not (append_byte(&self.pending, c'"') and append(&self.pending, name.data, name.length)
                and append(&self.pending, b'": ', 3)):
            return FAILED
        if model == NOWHERE:
            code = NO_CONTENT_TYPE
            id = type_
        elif not self.index.models[model].plan.natural:
            code = NO_GENERIC_KEY
        elif is_generic:
            outcome = self.put_reference(model, 0, self.index.models[model].plan.key, id)
        else:
            outcome = self.put_reference(model, relation.index, relation.key, id)
        if outcome == LOST and not self.note(code, start, name, id):
            return FAILED
        if (is_generic or outcome == WRITTEN or outcome == FAILED or self.keeps_pks()
                or not self.index.models[self.record_model].plan.natural):
            return outcome
        # The key takes the place of the pk, so nothing else would say what it refers to.
        return WRITTEN if append(&self.pending, type_.data, type_.length) else FAILED

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
        if app.length < 2 or name.length < 2 or not (
                append(label, app.data + 1, app.length - 2) and append_byte(label, c'.')
                and append(label, name.data + 1, name.length - 2)):
            return NOWHERE
        app.data = label.data
        app.length = label.length
        return self.known_model(app)

    cdef int labelled(self, GenericPlan *generic, Text text) noexcept nogil:
        """The number of the model that a text stands for."""
        cdef LabelPlan *word = self.index.plan.labels + generic.first_label
        cdef uint8_t *letters
        cdef Text label
        cdef size_t i = 0
        cdef int model
        while i < <size_t> generic.labels:
            if same(word[i].text, text):
                return word[i].model
            i += 1
        self.label.length = 0
        if not append(&self.label, text.data, text.length):
            return NOWHERE
        # From behind, so that "App.Model" is "App.model", if there is one, before it is "app.model".
        label.data = letters = self.label.data
        label.length = i = text.length
        model = self.known_model(label)
        while i and model == NOWHERE:
            i -= 1
            if c'A' <= letters[i] <= c'Z':
                letters[i] |= 0x20
            if i == 0 or letters[i - 1] == c'.':
                model = self.known_model(label)
        return model

    cdef int known_model(self, Text label) noexcept nogil:
        """The number of the model of the schema with that label."""
        cdef int number = self.index.label_slot(label)[0] - 1
        return number if number >= 0 and self.index.models[number].plan else NOWHERE

    # -- references --

    cdef Reference put_reference(self, int model, int index, KeyPlan key, Text id) noexcept nogil:
        """Append the key of the row with that id."""
        cdef size_t before = self.pending.length
        cdef const uint8_t *row
        cdef Made made
        if self.index.models[model].table.keeps_pks:
            return STAYS
        row = self.find_row(model, index, id, &self.target)
        if row == NULL:
            return LOST
        made = self.make_key(key, row_columns(row), &self.pending)
        if made == NO_MEMORY:
            return FAILED
        if made == WHOLE or (made == NULL_PART
                             and self.index.policies[NULL_KEY - FIRST_CODE] == NULL_):
            self.references_written += 1
            return WRITTEN
        self.pending.length = before
        # A row of this backup keeps its pk, which is reported there; another one is no help.
        return LOST if row[0] & ROW_OF_KEYS else STAYS

    cdef bint read_reference(self, const uint8_t **at, Entry entry, uint64_t before,
                             uint64_t start) noexcept nogil:
        """An id becomes the key of its row, unless that row keeps its pk."""
        cdef int number = <int> read_number(at)
        cdef RelationPlan *relation = &self.index.plan.relations[number]
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
        if entry == FIRST:
            self.in_list = False
        self.pending.length = 0
        outcome = self.put_reference(relation.model, relation.index, relation.key, id)
        if outcome == LOST:
            return self.meet_unresolved(entry, before, start, number, id)
        if outcome == WRITTEN:
            self.replace(before if entry == LATER and not self.in_list else start, self.log_end)
            self.in_list = True
            return entry != TEXT or escape(&self.pending)
        return outcome == STAYS and self.keep(entry, before, start)

    cdef bint keep(self, Entry entry, uint64_t before, uint64_t start) noexcept nogil:
        if entry == LATER and not self.in_list:
            self.replace(before, start)
        self.in_list = True
        return True

    cdef bint meet_unresolved(self, Entry entry, uint64_t before, uint64_t start, int number,
                              Text id) noexcept nogil:
        cdef RelationPlan *relation = &self.index.plan.relations[number]
        cdef Code code = UNRESOLVED_INSIDE if relation.embedded else UNRESOLVED
        if not self.note(code, start, relation.name, id):
            return False
        if self.index.policies[code - FIRST_CODE] != NULL_:
            return self.keep(entry, before, start)
        if entry == RELATION:
            self.replace(start, self.log_end)
            return append(&self.pending, b"null", 4)
        self.replace(before if entry == LATER else start, self.log_end)
        return True

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
            if not append(&self.index.dropped, self.newly_dropped.data, self.newly_dropped.length):
                raise MemoryError
            qsort(self.index.dropped.data, self.index.dropped.length // sizeof(uint64_t),
                  sizeof(uint64_t), compare_numbers)

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


cdef int compare_numbers(const void *a, const void *b) noexcept nogil:
    cdef uint64_t x = (<const uint64_t *> a)[0]
    cdef uint64_t y = (<const uint64_t *> b)[0]
    return (x > y) - (x < y)


# ---- the audit ----------------------------------------------------------------------------

cdef enum:
    PARTITIONS = 256


def partition(const uint8_t[::1] prints):
    """Fingerprints by their first byte: (bytes, the length of each part)."""
    cdef size_t places[PARTITIONS]
    cdef size_t count = prints.shape[0] // sizeof(Fingerprint)
    cdef const Fingerprint *key = <const Fingerprint *> &prints[0] if count else NULL
    cdef size_t place = 0
    cdef size_t i
    cdef Fingerprint *out
    parted = bytearray(count * sizeof(Fingerprint))
    out = <Fingerprint *> <uint8_t *> parted
    memset(places, 0, sizeof(places))
    for i in range(count):
        places[key[i].high >> 56] += 1
    sizes = [places[i] * sizeof(Fingerprint) for i in range(PARTITIONS)]
    for i in range(PARTITIONS):
        place += places[i]
        places[i] = place - places[i]
    for i in range(count):
        out[places[key[i].high >> 56]] = key[i]
        places[key[i].high >> 56] += 1
    return parted, sizes


def repeated(const uint8_t[::1] prints):
    """The fingerprints among these that occur more than once."""
    cdef KeySet seen
    cdef Buffer found
    cdef size_t length = prints.shape[0]
    cdef const Fingerprint *key = <const Fingerprint *> &prints[0] if length else NULL
    cdef bint good
    memset(&seen, 0, sizeof(seen))
    memset(&found, 0, sizeof(found))
    with nogil:
        good = append_repeated(&seen, key, key + length // sizeof(Fingerprint), &found)
        free(seen.slots)
    result = found.data[:found.length]
    free(found.data)
    if not good:
        raise MemoryError
    return result
