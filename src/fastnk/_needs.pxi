# ---- which records are left out together --------------------------------------------------

cdef struct Need:
    uint64_t row                 # the number of the record without whose row
    uint64_t record              # this one is left out


cdef int compare_needs(const void *a, const void *b) noexcept nogil:
    return compare_numbers(&(<const Need *> a).row, &(<const Need *> b).row)


cdef const Need *first_need(const Need *need, size_t count, uint64_t row) noexcept nogil:
    """The first of `count` needs, in the order of their rows, that is not before `row`."""
    cdef size_t half
    while count:
        half = count // 2
        if need[half].row < row:
            need += half + 1
            count -= half + 1
        else:
            count = half
    return need


cdef bint add_needing(Buffer *dropped, Buffer *needs, uint8_t *is_dropped) noexcept nogil:
    """Put behind the numbers in `dropped` those of the records that need one of them, of those that
    need these, and so on. `is_dropped` is zero for each record."""
    cdef size_t count = needs.length // sizeof(Need)
    cdef const Need *end = <const Need *> needs.data + count
    cdef const Need *need
    cdef uint64_t number
    cdef size_t done = 0
    qsort(needs.data, count, sizeof(Need), compare_needs)
    while done < dropped.length:
        number = (<const uint64_t *> (dropped.data + done))[0]
        done += sizeof(uint64_t)
        is_dropped[number] = True
        need = first_need(<const Need *> needs.data, count, number)
        while need < end and need.row == number:
            if not is_dropped[need.record]:
                is_dropped[need.record] = True
                if not append(dropped, &need.record, sizeof(uint64_t)):
                    return False
            need += 1
    return True
