"""Parts of natural keys: taken out of a JSON list, and written with a transform."""

from libc.stdint cimport uint8_t
from libc.string cimport memchr
from fastnk._text cimport Buffer, Text, append, append_byte, is_null, unescaped
from fastnk._walk cimport ENDS_SCALAR, fnk_class, is_space

cdef enum Transform:
    PLAIN
    STR
    ISOFORMAT
    WHOLE_KEY    # the value is a natural key

cdef enum Made:
    WHOLE
    NULL_PART    # made, with a null in it
    UNMADE       # a row on the way is missing
    NO_MEMORY

cdef inline const uint8_t *closing_quote(const uint8_t *p) noexcept nogil:
    """Of the (valid) string whose opening quote is at `p`."""
    p += 1
    while p[0] != c'"':
        p += 2 if p[0] == c'\\' else 1
    return p


cdef inline const uint8_t *behind_spaces(const uint8_t *p) noexcept nogil:
    while is_space(p[0]):
        p += 1
    return p


cdef inline const uint8_t *value_end(const uint8_t *p) noexcept nogil:
    """Where the (valid) JSON value ends that starts at `p`, and has something behind it."""
    cdef int depth = 0
    if p[0] != c'"' and p[0] != c'[' and p[0] != c'{':
        while not fnk_class[p[0]] & ENDS_SCALAR:
            p += 1
        return p
    while True:
        if p[0] == c'"':
            p = closing_quote(p)
        elif p[0] == c'[' or p[0] == c'{':
            depth += 1
        elif p[0] == c']' or p[0] == c'}':
            depth -= 1
        p += 1
        if depth == 0:
            return p


cdef inline const uint8_t *next_element(const uint8_t *p) noexcept nogil:
    """From behind an element of a (valid) JSON list to the next one, or to the closing bracket."""
    p = behind_spaces(p)
    return behind_spaces(p + 1) if p[0] == c',' else p


cdef inline Text list_element(Text list_, int position) noexcept nogil:
    """An element of a (valid) JSON list; empty where it has fewer."""
    cdef Text element
    cdef const uint8_t *p = behind_spaces(list_.data + 1)
    element.data = p
    element.length = 0
    while p[0] != c']':
        element.data = p
        p = value_end(p)
        if position == 0:
            element.length = p - element.data
            return element
        position -= 1
        p = next_element(p)
    return element


cdef inline bint is_id(uint8_t first) noexcept nogil:
    """Whether an element of a list of many is an id, by its first byte: not null, and not a list,
    which is a key already."""
    return first != c'[' and first != c'n'


cdef inline Made put_str(Buffer *out, Text value) noexcept nogil:
    """Python's str() of a JSON value that is no container."""
    cdef uint8_t c = value.data[0]
    cdef bint good
    if c == c'"':
        good = append(out, value.data, value.length)
    elif c == c't':
        good = append(out, b'"True"', 6)
    elif c == c'f':
        good = append(out, b'"False"', 7)
    elif c == c'n':
        good = append(out, b'"None"', 6)
    elif c == c'[' or c == c'{':
        return UNMADE
    else:
        good = (append_byte(out, c'"') and append(out, value.data, value.length)
                and append_byte(out, c'"'))
    return WHOLE if good else NO_MEMORY


cdef inline Made put_isoformat(Buffer *out, Text value) noexcept nogil:
    """What isoformat() gives for a time as DjangoJSONEncoder writes it: no Z, six digits or none.
    Anything else stays."""
    cdef const uint8_t *end = value.data + value.length - 1      # the closing quote
    cdef const uint8_t *dot = <const uint8_t *> memchr(value.data, c'.', value.length)
    cdef const uint8_t *zone = end
    cdef bint zeros = True
    cdef int digit
    if dot != NULL:
        zone = dot + 1
        while c'0' <= zone[0] <= c'9':
            zeros &= zone[0] == c'0'
            zone += 1
    elif (end - 1)[0] == c'Z':
        zone -= 1
    if value.data[0] != c'"' or zone - 1 == dot or not is_zone(zone, end):
        return WHOLE if append(out, value.data, value.length) else NO_MEMORY
    if dot == NULL:
        dot = zone
    if not append(out, value.data, dot - value.data):
        return NO_MEMORY
    if not zeros:
        for digit in range(7):
            if not append_byte(out, dot[digit] if dot + digit < zone else c'0'):
                return NO_MEMORY
    if zone[0] == c'Z':
        return WHOLE if append(out, b'+00:00"', 7) else NO_MEMORY
    return WHOLE if append(out, zone, end + 1 - zone) else NO_MEMORY


cdef inline bint is_zone(const uint8_t *zone, const uint8_t *end) noexcept nogil:
    """Whether nothing but a time zone stands there, or nothing at all."""
    if zone[0] == c'+' or zone[0] == c'-':
        return end - zone == 6 or end - zone == 5
    return zone == end or (zone[0] == c'Z' and zone + 1 == end)


cdef inline bint has_null_part(Text key) noexcept nogil:
    """Whether a part of a whole natural key, or of a list among its parts, is null."""
    cdef const uint8_t *p = key.data
    cdef const uint8_t *end = key.data + key.length
    cdef int objects = 0
    while p < end:
        if p[0] == c'"':
            p = closing_quote(p)
        elif p[0] == c'{' or p[0] == c'}':
            objects += 1 if p[0] == c'{' else -1
        elif p[0] == c'n' and p[1] == c'u' and objects == 0:
            return True
        p += 1
    return False


cdef inline Made put_key(Buffer *out, Text key) noexcept nogil:
    """A whole natural key, made elsewhere."""
    if not append(out, key.data, key.length):
        return NO_MEMORY
    return NULL_PART if has_null_part(key) else WHOLE


cdef inline Made put_value(Buffer *out, Text value, Transform transform, Buffer *scratch) noexcept nogil:
    if value.length == 0 or (is_null(value) and transform != STR):
        return NULL_PART if append(out, b"null", 4) else NO_MEMORY
    if transform == STR:
        return put_str(out, value)
    if transform == WHOLE_KEY:
        return put_key(out, value)
    if transform == ISOFORMAT:
        value = unescaped(value, scratch, True)
        return NO_MEMORY if value.data == NULL else put_isoformat(out, value)
    return WHOLE if append(out, value.data, value.length) else NO_MEMORY
