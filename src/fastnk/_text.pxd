"""Bytes and JSON text for the core: growing buffers, numbers, escapes, ids, the hash.

Inline functions only, so this needs no module of its own at run time.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memchr, memcpy

cdef extern from * nogil:
    """
    /* Folds a 128-bit product: the one step of the hash. */
    static inline uint64_t fnk_fold(uint64_t a, uint64_t b) {
        const unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    """
    uint64_t fnk_fold(uint64_t, uint64_t)
    const uint64_t ODD "0xD6E8FEB86659FD93ULL"


# ---- growing buffers ----------------------------------------------------------------------

cdef struct Buffer:
    uint8_t *data
    size_t length
    size_t capacity


cdef inline bint reserve(Buffer *buffer, size_t extra) noexcept nogil:
    """Room for `extra` more bytes; False without memory."""
    cdef size_t capacity = buffer.capacity
    cdef uint8_t *data
    if buffer.length + extra <= capacity:
        return True
    while capacity < buffer.length + extra:
        capacity = 2 * capacity if capacity else 256
    data = <uint8_t *> realloc(buffer.data, capacity)
    if data == NULL:
        return False
    buffer.data = data
    buffer.capacity = capacity
    return True


cdef inline void copy(uint8_t *out, const uint8_t *text, size_t length) noexcept nogil:
    """Mostly a few bytes, where a call of memcpy costs more than the copy. Both halves are of one
    length, and overlap."""
    if length < 4:
        while length:
            length -= 1
            out[length] = text[length]
    elif length < 8:
        memcpy(out, text, 4)
        memcpy(out + length - 4, text + length - 4, 4)
    elif length < 16:
        memcpy(out, text, 8)
        memcpy(out + length - 8, text + length - 8, 8)
    elif length <= 32:
        memcpy(out, text, 16)
        memcpy(out + length - 16, text + length - 16, 16)
    else:
        memcpy(out, text, length)


cdef inline bint append(Buffer *buffer, const void *data, size_t length) noexcept nogil:
    if not reserve(buffer, length):
        return False
    copy(buffer.data + buffer.length, <const uint8_t *> data, length)
    buffer.length += length
    return True


cdef inline bint append_byte(Buffer *buffer, uint8_t byte) noexcept nogil:
    if not reserve(buffer, 1):
        return False
    buffer.data[buffer.length] = byte
    buffer.length += 1
    return True


cdef enum:
    MAX_NUMBER = 10      # bytes of a varint


cdef inline void put_number(Buffer *buffer, uint64_t number) noexcept nogil:
    """As a varint: seven bits a byte, the lowest first, the high bit on all but the last. There
    must be room."""
    cdef uint8_t *out = buffer.data + buffer.length
    while number >= 0x80:
        out[0] = <uint8_t> (number | 0x80)
        out += 1
        number >>= 7
    out[0] = <uint8_t> number
    buffer.length = out + 1 - buffer.data


cdef inline bint append_number(Buffer *buffer, uint64_t number) noexcept nogil:
    if not reserve(buffer, MAX_NUMBER):
        return False
    put_number(buffer, number)
    return True


cdef inline bint append_text(Buffer *buffer, const uint8_t *text, size_t length) noexcept nogil:
    """With its length in front."""
    return append_number(buffer, length) and append(buffer, text, length)


cdef inline uint64_t read_number(const uint8_t **at) noexcept nogil:
    cdef uint64_t number = 0
    cdef int shift = 0
    while at[0][0] & 0x80:
        number |= <uint64_t> (at[0][0] & 0x7F) << shift
        shift += 7
        at[0] += 1
    number |= <uint64_t> at[0][0] << shift
    at[0] += 1
    return number


cdef struct Text:
    const uint8_t *data
    size_t length


cdef inline Text read_text(const uint8_t **at) noexcept nogil:
    cdef Text text
    text.length = <size_t> read_number(at)
    text.data = at[0]
    at[0] += text.length
    return text


cdef inline uint64_t eight(const uint8_t *p) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, p, 8)
    return word


cdef inline uint32_t four(const uint8_t *p) noexcept nogil:
    cdef uint32_t word
    memcpy(&word, p, 4)
    return word


cdef inline bint same_bytes(const uint8_t *a, const uint8_t *b, size_t length) noexcept nogil:
    """For short texts, where a call of memcmp costs more than the comparison. What is left over
    in the end is compared together with some of what came before."""
    cdef size_t i = 0
    if length > 16:
        while i + 16 < length:
            if not same_sixteen(a + i, b + i):
                return False
            i += 16
        return same_sixteen(a + length - 16, b + length - 16)
    if length >= 8:
        return eight(a) == eight(b) and eight(a + length - 8) == eight(b + length - 8)
    if length >= 4:
        return four(a) == four(b) and four(a + length - 4) == four(b + length - 4)
    while i < length:
        if a[i] != b[i]:
            return False
        i += 1
    return True


cdef inline bint same_sixteen(const uint8_t *a, const uint8_t *b) noexcept nogil:
    return not ((eight(a) ^ eight(b)) | (eight(a + 8) ^ eight(b + 8)))


cdef inline bint same(Text a, Text b) noexcept nogil:
    return a.length == b.length and same_bytes(a.data, b.data, a.length)


cdef inline bint is_list(Text value) noexcept nogil:
    return value.length > 0 and value.data[0] == c'['


cdef inline bint is_null(Text value) noexcept nogil:
    """Absent, or JSON's null."""
    return value.length == 0 or value.data[0] == c'n'


# ---- text ---------------------------------------------------------------------------------

cdef inline int hex_digit(uint8_t c) noexcept nogil:
    if c'0' <= c <= c'9':
        return c - c'0'
    c |= 0x20
    return c - c'a' + 10 if c'a' <= c <= c'f' else -1


cdef inline uint8_t hex_of(uint32_t digit) noexcept nogil:
    return <uint8_t> (digit + (c'0' if digit < 10 else c'a' - 10))


cdef inline uint32_t hex_four(const uint8_t *p) noexcept nogil:
    return (hex_digit(p[0]) << 12 | hex_digit(p[1]) << 8 | hex_digit(p[2]) << 4 | hex_digit(p[3]))


cdef inline uint8_t *put_code_point(uint8_t *out, uint32_t code) noexcept nogil:
    """As UTF-8. A lone surrogate, which Python's json accepts, gets the same form."""
    if code < 0x80:
        out[0] = <uint8_t> code
        return out + 1
    if code < 0x800:
        out[0] = <uint8_t> (0xC0 | code >> 6)
        out[1] = <uint8_t> (0x80 | code & 0x3F)
        return out + 2
    if code < 0x10000:
        out[0] = <uint8_t> (0xE0 | code >> 12)
        out[1] = <uint8_t> (0x80 | code >> 6 & 0x3F)
        out[2] = <uint8_t> (0x80 | code & 0x3F)
        return out + 3
    out[0] = <uint8_t> (0xF0 | code >> 18)
    out[1] = <uint8_t> (0x80 | code >> 12 & 0x3F)
    out[2] = <uint8_t> (0x80 | code >> 6 & 0x3F)
    out[3] = <uint8_t> (0x80 | code & 0x3F)
    return out + 4


cdef inline const uint8_t *read_escape(const uint8_t *p, const uint8_t *end,
                                       uint32_t *code) noexcept nogil:
    """The code point of the (valid) escape whose backslash is at `p`. Returns where it ends."""
    cdef uint32_t low
    cdef uint8_t c = p[1]
    p += 2
    if c == c'u':
        code[0] = hex_four(p)
        p += 4
        if 0xD800 <= code[0] < 0xDC00 and end - p >= 6 and p[0] == c'\\' and p[1] == c'u':
            low = hex_four(p + 2)
            if 0xDC00 <= low < 0xE000:
                code[0] = 0x10000 + ((code[0] - 0xD800) << 10) + (low - 0xDC00)
                p += 6
    elif c == c'b':
        code[0] = 8
    elif c == c'f':
        code[0] = 12
    elif c == c'n':
        code[0] = 10
    elif c == c'r':
        code[0] = 13
    elif c == c't':
        code[0] = 9
    else:
        code[0] = c
    return p


cdef inline Text unescaped(Text text, Buffer *scratch, bint reversible) noexcept nogil:
    """Text with JSON's escapes decoded, in `scratch` where there are any.

    With `reversible`, quotes, backslashes and control characters stay escaped, each in one
    spelling, so that whole JSON values can be compared. `data` is NULL without memory.
    """
    cdef const uint8_t *p = text.data
    cdef const uint8_t *end = text.data + text.length
    cdef uint8_t *out
    cdef uint32_t code
    cdef Text result
    if text.length == 0 or memchr(text.data, c'\\', text.length) == NULL:
        return text
    scratch.length = 0
    if not reserve(scratch, 6 * text.length):
        result.data = NULL
        result.length = 0
        return result
    out = scratch.data
    while p < end:
        if p[0] != c'\\':
            out[0] = p[0]
            out += 1
            p += 1
            continue
        p = read_escape(p, end, &code)
        if reversible and (code < 0x20 or code == c'"' or code == c'\\'):
            out[0] = c'\\'
            out[1] = c'u'
            out[2] = out[3] = c'0'
            out[4] = hex_of(code >> 4)
            out[5] = hex_of(code & 15)
            out += 6
        else:
            out = put_code_point(out, code)
    result.data = scratch.data
    result.length = out - scratch.data
    return result


cdef inline Text plain_json(Text value, Buffer *scratch, Buffer *plain) noexcept nogil:
    """A JSON value in one spelling: without white space between its parts, and escaped as
    `unescaped` does reversibly. `data` is NULL without memory."""
    cdef Text text = unescaped(value, scratch, True)
    cdef const uint8_t *p = text.data
    cdef const uint8_t *end
    cdef const uint8_t *start
    plain.length = 0
    if text.data == NULL or not reserve(plain, text.length):
        text.data = NULL
        return text
    end = p + text.length
    while p < end:
        start = p
        p += 1
        if start[0] == c'"':
            p = <const uint8_t *> memchr(p, c'"', end - p) + 1
        elif start[0] <= c' ':
            continue
        memcpy(plain.data + plain.length, start, p - start)
        plain.length += p - start
    text.data = plain.data
    text.length = plain.length
    return text


cdef inline bint decode_text(Text text, Buffer *out, Buffer *places) noexcept nogil:
    """The content of a JSON string in `out`, and in `places` where in `text` each of its bytes
    comes from (`uint32_t`), with the length of `text` behind the last. False without memory."""
    cdef const uint8_t *p = text.data
    cdef const uint8_t *end = text.data + text.length
    cdef const uint8_t *before
    cdef uint32_t *place
    cdef uint8_t *start
    cdef uint8_t *at
    cdef uint32_t code
    out.length = places.length = 0
    if not (reserve(out, text.length) and reserve(places, (text.length + 1) * sizeof(uint32_t))):
        return False
    at = out.data
    place = <uint32_t *> places.data
    while p < end:
        before = p
        start = at
        if p[0] == c'\\':
            p = read_escape(p, end, &code)
            at = put_code_point(at, code)
        else:
            at[0] = p[0]
            at += 1
            p += 1
        while start < at:
            place[0] = <uint32_t> (before - text.data)
            place += 1
            start += 1
    place[0] = <uint32_t> text.length
    out.length = at - out.data
    places.length = (out.length + 1) * sizeof(uint32_t)
    return True


cdef inline Text canonical(Text value, Buffer *scratch) noexcept nogil:
    """What identifies an id: a string's decoded content, or a number as it is written.

    So 5 and "5" are the same id, as they are to Django's `to_python`.
    """
    if value.length >= 2 and value.data[0] == c'"':
        value.data += 1
        value.length -= 2
        return unescaped(value, scratch, False)
    return value


cdef inline uint64_t up_to_eight(const uint8_t *p, size_t length) noexcept nogil:
    """A number that tells texts of this length apart, which is at most 8."""
    if length >= 4:
        return <uint64_t> four(p) << 32 | four(p + length - 4)
    if length == 0:
        return 0
    return <uint64_t> p[0] << 16 | <uint64_t> p[length >> 1] << 8 | p[length - 1]


cdef inline uint64_t hash_text(Text text, const uint64_t *seed) noexcept nogil:
    """A multiply-and-fold hash; the secret seed makes collisions impossible to prepare.

    The length comes in last: next to the words a difference in it could be made good by one in
    them, and two texts would have one hash whatever the seed is.
    """
    cdef const uint8_t *p = text.data
    cdef size_t left = text.length
    cdef uint64_t state = seed[0]
    cdef uint64_t first, last
    while left > 16:
        state = fnk_fold(eight(p) ^ seed[1], eight(p + 8) ^ state)
        p += 16
        left -= 16
    if left > 8:
        first = eight(p)
        last = eight(p + left - 8)  # which overlaps the first one: both are whole
    else:
        first = up_to_eight(p, left)
        last = 0
    return fnk_fold(fnk_fold(first ^ seed[1], last ^ state), seed[2] ^ text.length)
