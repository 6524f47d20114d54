"""The walk: from one listed byte of the window to the next, checking JSON's grammar (RFC 8259).

`NaN`, `Infinity` and `-Infinity` are allowed, because Python's json and so Django writes them.
Every function starts at the byte that `Walk.at` names and leaves it at the first byte behind what
it has walked over, or returns False with the fault set.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from fastnk._text cimport hex_digit

cdef extern from "_scan.h" nogil:
    const uint8_t fnk_class[256]
    int IS_SPACE
    int ENDS_SCALAR


cdef inline bint is_space(uint8_t c) noexcept nogil:
    return fnk_class[c] & IS_SPACE != 0


cdef enum:
    MAX_DEPTH = 1024                # of a value of a record, as in errors.py
    FIELDS_DEPTH = MAX_DEPTH + 1    # with the object that it is in
    RECORD_DEPTH = MAX_DEPTH + 2

cdef enum Fault:
    NONE
    # The good bytes end here: more are needed, or, at the end of the input, it is cut off.
    INCOMPLETE
    UNCLOSED
    MEMORY
    VALUE
    NUMBER
    LITERAL
    ESCAPE
    CONTROL
    MEMBER
    COLON
    DELIMITER_OBJECT
    DELIMITER_ARRAY
    AFTER
    EMPTY
    NO_RECORDS
    TOP
    NOT_RECORD
    NO_MODEL
    NO_FIELDS
    MODEL_TYPE
    FIELDS_TYPE
    UTF8
    DEPTH
    SIZE
    MODELS

cdef struct Walk:
    const uint8_t *text
    const uint32_t *positions
    size_t at            # the next listed byte, as an index into positions
    size_t end           # where the good bytes end
    bint final           # whether the input ends there too
    size_t value_end     # where the last value ended
    Fault fault
    size_t fault_at


cdef inline uint8_t peek(Walk *w) noexcept nogil:
    return w.text[w.positions[w.at]]


cdef inline bint fail(Walk *w, Fault fault, size_t at, size_t looked_at) noexcept nogil:
    """A fault reported `at` a place, seen at another; behind the good bytes it is no fault yet."""
    w.fault = INCOMPLETE if looked_at >= w.end else fault
    w.fault_at = at
    return False


cdef inline bint fail_here(Walk *w, Fault fault) noexcept nogil:
    return fail(w, fault, w.positions[w.at], w.positions[w.at])


cdef inline bint walk_escape(Walk *w, size_t at) noexcept nogil:
    cdef uint8_t c = w.text[at + 1]
    cdef int i
    if c == c'u':
        for i in range(2, 6):
            if hex_digit(w.text[at + i]) < 0:
                return fail(w, ESCAPE, at, at + i)
    elif not (c == c'"' or c == c'\\' or c == c'/' or c == c'b' or c == c'f' or c == c'n'
              or c == c'r' or c == c't'):
        return fail(w, ESCAPE, at, at + 1)
    return True


cdef inline bint walk_string(Walk *w) noexcept nogil:
    """From the opening quote. `value_end` is then just behind the closing one.

    Between that and the next listed byte is only white space, unless what is listed is a fault
    inside the string, or the end of the good bytes.
    """
    cdef size_t start = w.positions[w.at]
    cdef size_t end = w.positions[w.at + 1]
    w.at += 1
    if end >= w.end or w.text[end] < 0x20 or w.text[end] == c'\\':
        return walk_string_slowly(w, start)
    while w.text[end - 1] != c'"':
        end -= 1
    w.value_end = end
    return True


cdef inline bint walk_string_slowly(Walk *w, size_t start) noexcept nogil:
    """Byte by byte."""
    cdef size_t at = start + 1
    cdef uint8_t c
    while at < w.end:
        c = w.text[at]
        if c == c'"':
            w.value_end = at + 1
            return True
        if c < 0x20:
            return fail(w, CONTROL, at, at)
        if c == c'\\':
            if not walk_escape(w, at):
                return False
            at += 1
        at += 1
    return fail(w, INCOMPLETE, w.end, w.end)


cdef inline size_t digits(Walk *w, size_t at) noexcept nogil:
    while c'0' <= w.text[at] <= c'9':
        at += 1
    return at


cdef inline size_t number_end(Walk *w, size_t at) noexcept nogil:
    """Where the number that starts at `at` ends; where it goes wrong, the place of that, negated
    bitwise."""
    cdef size_t start
    if w.text[at] == c'-':
        at += 1
    start = at
    at = digits(w, at)
    if at == start or (w.text[start] == c'0' and at > start + 1):
        return ~at
    if w.text[at] == c'.':
        start = at + 1
        at = digits(w, start)
        if at == start:
            return ~at
    if w.text[at] | 0x20 == c'e':
        at += 1
        if w.text[at] == c'+' or w.text[at] == c'-':
            at += 1
        start = at
        at = digits(w, start)
        if at == start:
            return ~at
    return at


cdef inline size_t literal_end(Walk *w, size_t at, const char *word,
                               size_t length) noexcept nogil:
    cdef size_t end = at + length
    if memcmp(w.text + at, word, length) == 0:
        return end
    while w.text[at] == <uint8_t> word[0]:
        at += 1
        word += 1
    return ~at


cdef inline bint walk_scalar(Walk *w) noexcept nogil:
    """A number or a literal. `value_end` is then behind its last byte."""
    cdef size_t start = w.positions[w.at]
    cdef uint8_t c = w.text[start]
    cdef size_t end
    cdef Fault fault = NUMBER if c == c'-' else LITERAL
    if c'1' <= c <= c'9':
        # As nearly all of them are.
        end = digits(w, start + 1)
        if end < w.end and fnk_class[w.text[end]] & ENDS_SCALAR:
            w.value_end = end
            w.at += 1
            return True
    if c == c'-' and w.text[start + 1] == c'I':
        end = literal_end(w, start + 1, b"Infinity", 8)
    elif c == c'-' or c'0' <= c <= c'9':
        fault = NUMBER
        end = number_end(w, start)
    elif c == c't':
        end = literal_end(w, start, b"true", 4)
    elif c == c'f':
        end = literal_end(w, start, b"false", 5)
    elif c == c'n':
        end = literal_end(w, start, b"null", 4)
    elif c == c'N':
        end = literal_end(w, start, b"NaN", 3)
    elif c == c'I':
        end = literal_end(w, start, b"Infinity", 8)
    else:
        return fail(w, VALUE, start, start)
    if <ssize_t> end < 0:
        return fail(w, fault, start, ~end)
    # Without its end in sight a scalar may go on in the next chunk.
    if (end >= w.end and not w.final) or not fnk_class[w.text[end]] & ENDS_SCALAR:
        return fail(w, fault, start, end)
    w.value_end = end
    w.at += 1
    return True


cdef inline bint walk_name(Walk *w) noexcept nogil:
    """A member's name. `value_end` is then just behind its closing quote; the colon is next."""
    if peek(w) != c'"':
        return fail_here(w, MEMBER)
    return walk_string(w)


cdef inline bint walk_colon(Walk *w) noexcept nogil:
    if peek(w) != c':':
        return fail_here(w, COLON)
    w.at += 1
    return True


cdef inline bint walk_comma(Walk *w, uint8_t closing) noexcept nogil:
    """From behind an element or a member to the next one, or to the closing bracket."""
    if peek(w) == closing:
        return True
    if peek(w) != c',':
        return fail_here(w, DELIMITER_OBJECT if closing == c'}' else DELIMITER_ARRAY)
    w.at += 1
    return peek(w) != closing or fail_here(w, MEMBER if closing == c'}' else VALUE)


cdef inline void walk_closing(Walk *w) noexcept nogil:
    w.value_end = w.positions[w.at] + 1
    w.at += 1


cdef inline bint walk_container(Walk *w, size_t most) noexcept nogil:
    """Any array or object of no more than so many levels, without recursion."""
    cdef uint8_t closing[RECORD_DEPTH]
    cdef size_t depth = 0
    cdef uint8_t c
    while True:
        c = peek(w)
        if c == c'"':
            if not walk_string(w):
                return False
        elif c == c'{' or c == c'[':
            if depth == most:
                return fail_here(w, DEPTH)
            closing[depth] = c + 2
            depth += 1
            w.at += 1
            if peek(w) != c + 2:
                if c == c'{' and not (walk_name(w) and walk_colon(w)):
                    return False
                continue
        elif not walk_scalar(w):
            return False
        # A value, or an empty container, has ended: close what ends with it.
        while peek(w) == closing[depth - 1]:
            walk_closing(w)
            depth -= 1
            if depth == 0:
                return True
        if peek(w) != c',':
            return fail_here(w, DELIMITER_OBJECT if closing[depth - 1] == c'}' else DELIMITER_ARRAY)
        w.at += 1
        if closing[depth - 1] == c'}' and not (walk_name(w) and walk_colon(w)):
            return False


cdef inline bint walk_value_within(Walk *w, size_t most) noexcept nogil:
    """Any value of no more than so many levels."""
    cdef uint8_t c = peek(w)
    if c == c'"':
        return walk_string(w)
    if c == c'{' or c == c'[':
        return walk_container(w, most)
    return walk_scalar(w)


cdef inline bint walk_value(Walk *w) noexcept nogil:
    return walk_value_within(w, MAX_DEPTH)
