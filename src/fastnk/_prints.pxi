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
