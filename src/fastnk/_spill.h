/* Memory for the key map, on the heap or in a mapped temporary file.
 *
 * Writing to a mapping of a full disk ends the process, so the room is reserved first. Pages of
 * the mapping that have been touched count as memory of the process until they are forgotten;
 * what is in them stays in the file.
 */
#ifndef FASTNK_SPILL_H
#define FASTNK_SPILL_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* `file` is the descriptor plus one, 0 on the heap: zeroed memory is a store without anything. */
typedef struct {
    uint8_t *data;
    size_t length, capacity;
    int file;
} fnk_store;

static int fnk_temporary_file(const char *folder) {
    char name[4096];
    int file;
    if ((size_t)snprintf(name, sizeof name, "%s/fastnk-XXXXXX", folder) >= sizeof name) {
        errno = ENAMETOOLONG;
        return -1;
    }
    file = mkstemp(name);
    if (file >= 0) {
        fcntl(file, F_SETFD, FD_CLOEXEC);
        unlink(name);
    }
    return file;
}

/* A mapping of the first `capacity` bytes of a file, for which there is room; or NULL. */
static uint8_t *fnk_map(int file, size_t capacity) {
    void *data;
    errno = posix_fallocate(file, 0, (off_t)capacity);
    if (errno)
        return NULL;
    data = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return data == MAP_FAILED ? NULL : (uint8_t *)data;
}

static void fnk_free_store(fnk_store *store) {
    if (store->file) {
        munmap(store->data, store->capacity);
        close(store->file - 1);
    } else
        free(store->data);
    memset(store, 0, sizeof *store);
}

/* Makes a store larger, on the heap; 0 without memory. What is new is not zeroed. */
static int fnk_grow_on_heap(fnk_store *store, size_t capacity) {
    uint8_t *const data = realloc(store->data, capacity);
    if (!data)
        return 0;
    store->data = data;
    store->capacity = capacity;
    return 1;
}

/* What was touched of a mapping no longer counts as memory of the process. */
static void fnk_forget(const fnk_store *store) {
    if (store->file)
        madvise(store->data, store->capacity, MADV_DONTNEED);
}

/* Makes a store larger, in a file; 0 without room, with errno set. What is new is zeroed. */
static int fnk_grow_in_file(fnk_store *store, size_t capacity, const char *folder) {
    const int file = store->file ? store->file - 1 : fnk_temporary_file(folder);
    uint8_t *const data = file < 0 ? NULL : fnk_map(file, capacity);
    if (!data) {
        if (file >= 0 && !store->file)
            close(file);
        return 0;
    }
    if (store->file)
        munmap(store->data, store->capacity);
    else {
        if (store->length)
            memcpy(data, store->data, store->length);
        free(store->data);
    }
    store->data = data;
    store->capacity = capacity;
    store->file = file + 1;
    fnk_forget(store);
    return 1;
}

static uint64_t fnk_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
