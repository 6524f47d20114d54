/* Temporary files for what of the key map does not fit into memory.
 *
 * They are read and written, not mapped: pages of a mapping count as memory of the process, as
 * many at a time as the system likes, and writing to a mapping of a full disk ends the process.
 */
#ifndef FASTNK_SPILL_H
#define FASTNK_SPILL_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The descriptor of a new file without a name, never one of the standard ones; 0 on failure, with
 * errno set. */
static int fnk_temporary_file(const char *folder) {
    char name[4096];
    int file, high;
    if ((size_t)snprintf(name, sizeof name, "%s/fastnk-XXXXXX", folder) >= sizeof name) {
        errno = ENAMETOOLONG;
        return 0;
    }
    file = mkstemp(name);
    if (file < 0)
        return 0;
    unlink(name);
    high = fcntl(file, F_DUPFD_CLOEXEC, 3);
    close(file);
    return high < 0 ? 0 : high;
}

/* Reads what is there; behind the end of the file there are zeros. Returns whether that worked. */
static int fnk_read_file(int file, void *data, size_t length, uint64_t place) {
    char *at = data;
    while (length) {
        const ssize_t done = pread(file, at, length, (off_t)place);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return 0;
        if (done == 0) {
            memset(at, 0, length);
            return 1;
        }
        at += done, place += (uint64_t)done, length -= (size_t)done;
    }
    return 1;
}

static int fnk_write_file(int file, const void *data, size_t length, uint64_t place) {
    const char *at = data;
    while (length) {
        const ssize_t done = pwrite(file, at, length, (off_t)place);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return 0;
        at += done, place += (uint64_t)done, length -= (size_t)done;
    }
    return 1;
}

static int fnk_compare_words(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static void fnk_sort_words(uint64_t *words, size_t count) {
    qsort(words, count, sizeof *words, fnk_compare_words);
}

static uint64_t fnk_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
