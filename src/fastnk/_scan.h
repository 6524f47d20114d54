/* The scan: finds, 64 bytes at a time, every byte of a window that the walk has to look at.
 *
 *   {"model": "a.b", "pk": 12, "fields": {"name": "caf\u00e9"}}
 *   ^^     ^^ ^   ^^ ^  ^^ ^ ^ ^      ^^ ^^    ^^ ^   ^     ^^^
 *
 * Those are the punctuation outside strings, both quotes of every string, the first byte of every
 * number and literal, the backslash of every escape, and control characters inside strings (so
 * that the walk meets them in their place and can report them). UTF-8 is validated on the way.
 *
 * A block is first classified into six bit masks, one bit per byte; all the rest is arithmetic on
 * those masks. Only the classification differs between processors. Each variant is a whole copy
 * of the loop so that the compiler can inline its classifier.
 */
#ifndef FASTNK_SCAN_H
#define FASTNK_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* The scan reads whole blocks, so a window must own this many bytes behind its end. */
#define FNK_BLOCK 64

typedef struct {
    uint64_t quote, backslash, punctuation, space, control, high;
} fnk_masks;

/* The result of a scan. `end` is the length of the window, or less where its UTF-8 ends badly:
 * there `broken` says whether the byte at `end` is wrong or only a sequence that is cut off. */
typedef struct {
    size_t count, end;
    int broken;
} fnk_scanned;

/* ---- classifiers ------------------------------------------------------------------------- */

enum { IS_QUOTE = 1, IS_BACKSLASH = 2, IS_PUNCTUATION = 4, IS_SPACE = 8 };

static const uint8_t fnk_class[256] = {
    ['"'] = IS_QUOTE, ['\\'] = IS_BACKSLASH,
    ['{'] = IS_PUNCTUATION, ['}'] = IS_PUNCTUATION, ['['] = IS_PUNCTUATION,
    [']'] = IS_PUNCTUATION, [':'] = IS_PUNCTUATION, [','] = IS_PUNCTUATION,
    [' '] = IS_SPACE, ['\t'] = IS_SPACE, ['\n'] = IS_SPACE, ['\r'] = IS_SPACE,
};

static inline void fnk_classify_scalar(const uint8_t *p, fnk_masks *m) {
    memset(m, 0, sizeof *m);
    for (int i = 0; i < FNK_BLOCK; i++) {
        const uint64_t c = fnk_class[p[i]];
        m->quote |= (c & 1) << i;
        m->backslash |= (c >> 1 & 1) << i;
        m->punctuation |= (c >> 2 & 1) << i;
        m->space |= (c >> 3 & 1) << i;
        m->control |= (uint64_t)(p[i] < 0x20) << i;
        m->high |= (uint64_t)(p[i] >> 7) << i;
    }
}

static inline uint64_t fnk_prefix_xor_scalar(uint64_t bits) {
    for (int shift = 1; shift < 64; shift *= 2)
        bits ^= bits << shift;
    return bits;
}

#if defined(__x86_64__)

static inline void fnk_classify_sse2(const uint8_t *p, fnk_masks *m) {
    memset(m, 0, sizeof *m);
    for (int i = 0; i < FNK_BLOCK; i += 16) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
        /* '[' | 0x20 is '{' and ']' | 0x20 is '}': two comparisons serve four characters. Bit 5
         * also turns the control characters 0x0C and 0x1A into ',' and ':'; the walk, which looks
         * at the byte itself, refuses them. */
        const __m128i folded = _mm_or_si128(v, _mm_set1_epi8(0x20));
#define FNK_EQ(x, c) _mm_cmpeq_epi8(x, _mm_set1_epi8(c))
#define FNK_OR(a, b) _mm_or_si128(a, b)
#define FNK_BITS(x) ((uint64_t)(uint32_t)_mm_movemask_epi8(x) << i)
        m->quote |= FNK_BITS(FNK_EQ(v, '"'));
        m->backslash |= FNK_BITS(FNK_EQ(v, '\\'));
        m->punctuation |= FNK_BITS(FNK_OR(FNK_OR(FNK_EQ(folded, '{'), FNK_EQ(folded, '}')),
                                          FNK_OR(FNK_EQ(folded, ','), FNK_EQ(folded, ':'))));
        m->space |= FNK_BITS(FNK_OR(FNK_OR(FNK_EQ(v, ' '), FNK_EQ(v, '\t')),
                                    FNK_OR(FNK_EQ(v, '\n'), FNK_EQ(v, '\r'))));
        m->control |= ~FNK_BITS(_mm_cmpeq_epi8(_mm_max_epu8(v, _mm_set1_epi8(0x20)), v)) &
                      0xFFFFULL << i;
        m->high |= FNK_BITS(v);
#undef FNK_EQ
#undef FNK_OR
#undef FNK_BITS
    }
}

__attribute__((target("avx2"))) static inline void fnk_classify_avx2(const uint8_t *p,
                                                                     fnk_masks *m) {
    /* Each table maps the low nibble of a byte to the one byte of its class with that nibble. */
    const __m256i punctuation = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ':', '{', ',', '}', 0, 0));
    const __m256i space = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(' ', -1, -1, -1, -1, -1, -1, -1, -1, '\t', '\n', -1, -1, '\r', -1, -1));
    memset(m, 0, sizeof *m);
    for (int i = 0; i < FNK_BLOCK; i += 32) {
        const __m256i v = _mm256_loadu_si256((const __m256i *)(p + i));
        const __m256i folded = _mm256_or_si256(v, _mm256_set1_epi8(0x20));
        const __m256i printable = _mm256_cmpeq_epi8(_mm256_max_epu8(v, _mm256_set1_epi8(0x20)), v);
#define FNK_EQ(x, y) _mm256_cmpeq_epi8(x, y)
#define FNK_BITS(x) ((uint64_t)(uint32_t)_mm256_movemask_epi8(x) << i)
        m->quote |= FNK_BITS(FNK_EQ(v, _mm256_set1_epi8('"')));
        m->backslash |= FNK_BITS(FNK_EQ(v, _mm256_set1_epi8('\\')));
        m->punctuation |= FNK_BITS(FNK_EQ(_mm256_shuffle_epi8(punctuation, v), folded));
        m->space |= FNK_BITS(FNK_EQ(_mm256_shuffle_epi8(space, v), v));
        m->control |= (uint64_t)(uint32_t)~_mm256_movemask_epi8(printable) << i;
        m->high |= FNK_BITS(v);
#undef FNK_EQ
#undef FNK_BITS
    }
}

__attribute__((target("pclmul"))) static inline uint64_t fnk_prefix_xor_clmul(uint64_t bits) {
    const __m128i product =
        _mm_clmulepi64_si128(_mm_set_epi64x(0, (long long)bits), _mm_set1_epi8(-1), 0);
    return (uint64_t)_mm_cvtsi128_si64(product);
}

#endif

/* ---- parts that all variants share ------------------------------------------------------- */

/* The backslashes that start an escape. `*carry` is 1 where the last block ended in one, and on
 * return where this one does; `*escaped` gets the bytes that stand behind such a backslash. */
static inline uint64_t fnk_escapes(uint64_t backslash, uint64_t *carry, uint64_t *escaped) {
    uint64_t starts = 0;
    *escaped = *carry;
    *carry = 0;
    backslash &= ~*escaped;
    while (backslash) {
        const uint64_t start = backslash & -backslash;
        starts |= start;
        *escaped |= start << 1;
        *carry = start >> 63;
        backslash &= ~(start | start << 1);
    }
    return starts;
}

/* The length of the UTF-8 sequence at p, 0 where it is wrong, -1 where it is right so far but the
 * window ends inside it. Ranges: Unicode 15, table 3-7. */
static inline int fnk_utf8_sequence(const uint8_t *p, const uint8_t *end) {
    const uint8_t lead = p[0];
    uint8_t low = 0x80, high = 0xBF;
    int length;
    if (lead < 0xC2)
        return 0;
    if (lead < 0xE0)
        length = 2;
    else if (lead < 0xF0) {
        length = 3;
        if (lead == 0xE0) low = 0xA0;
        if (lead == 0xED) high = 0x9F;
    } else if (lead < 0xF5) {
        length = 4;
        if (lead == 0xF0) low = 0x90;
        if (lead == 0xF4) high = 0x8F;
    } else
        return 0;
    for (int i = 1; i < length; i++) {
        if (p + i >= end)
            return -1;
        if (p[i] < low || p[i] > high)
            return 0;
        low = 0x80, high = 0xBF;
    }
    return length;
}

/* Appends the set bits of a block as positions. Writes eight at a time, mostly more than there
 * are: the array has room for them, and the next block overwrites what was too much. */
static inline uint32_t *fnk_append(uint32_t *out, uint32_t base, uint64_t bits) {
    uint32_t *const next = out + __builtin_popcountll(bits);
    while (bits) {
        for (int i = 0; i < 8; i++) {
            out[i] = base + (uint32_t)__builtin_ctzll(bits | 1ULL << 63);
            bits &= bits - 1;
        }
        out += 8;
    }
    return next;
}

/* ---- the loop ---------------------------------------------------------------------------- */

/* Scans the n bytes at p, which must be followed by FNK_BLOCK bytes of white space, and writes
 * positions to `out`, which must have room for n + FNK_BLOCK of them. A window starts outside a
 * string. */
typedef fnk_scanned (*fnk_scan_function)(const uint8_t *p, size_t n, uint32_t *out);

#define FNK_DEFINE_SCAN(NAME, TARGET, CLASSIFY, PREFIX_XOR)                                       \
    TARGET static fnk_scanned NAME(const uint8_t *p, size_t n, uint32_t *out) {                   \
        uint32_t *const first = out;                                                              \
        uint64_t carry = 0, inside = 0, scalar_before = 0, escaped;                               \
        size_t utf8_done = 0;                                                                     \
        for (size_t base = 0; base < n; base += FNK_BLOCK) {                                      \
            fnk_masks m;                                                                          \
            CLASSIFY(p + base, &m);                                                               \
            const uint64_t escapes = fnk_escapes(m.backslash, &carry, &escaped);                  \
            const uint64_t quote = m.quote & ~escaped;                                            \
            const uint64_t string = PREFIX_XOR(quote) ^ inside;                                   \
            inside = (uint64_t)((int64_t)string >> 63);                                           \
            const uint64_t scalar = ~(m.punctuation | m.space | m.quote) & ~string;               \
            const uint64_t scalar_start = scalar & ~(scalar << 1 | scalar_before);                \
            scalar_before = scalar >> 63;                                                         \
            const uint64_t found = (m.punctuation & ~string) | quote | scalar_start | escapes |   \
                                   (m.control & string);                                          \
            uint64_t high = m.high;                                                               \
            while (high) {                                                                        \
                const size_t at = base + (size_t)__builtin_ctzll(high);                           \
                if (at >= utf8_done) {                                                            \
                    const int length = fnk_utf8_sequence(p + at, p + n);                          \
                    if (length <= 0) {                                                            \
                        const uint64_t before = (1ULL << (at - base)) - 1;                        \
                        out = fnk_append(out, (uint32_t)base, found & before);                    \
                        return (fnk_scanned){(size_t)(out - first), at, length == 0};             \
                    }                                                                             \
                    utf8_done = at + (size_t)length;                                              \
                }                                                                                 \
                high &= high - 1;                                                                 \
            }                                                                                     \
            out = fnk_append(out, (uint32_t)base, found);                                         \
        }                                                                                         \
        return (fnk_scanned){(size_t)(out - first), n, 0};                                        \
    }

FNK_DEFINE_SCAN(fnk_scan_scalar, , fnk_classify_scalar, fnk_prefix_xor_scalar)
#if defined(__x86_64__)
FNK_DEFINE_SCAN(fnk_scan_sse2, , fnk_classify_sse2, fnk_prefix_xor_scalar)
FNK_DEFINE_SCAN(fnk_scan_avx2, __attribute__((target("avx2,pclmul,bmi,popcnt"))),
                fnk_classify_avx2, fnk_prefix_xor_clmul)
#endif

/* ---- choice at run time ------------------------------------------------------------------ */

typedef struct {
    const char *name;
    fnk_scan_function scan;
} fnk_variant;

/* Fills `found`, which has room for three, with what this processor can run, the fastest first;
 * returns how many. */
static int fnk_variants(fnk_variant *found) {
    int count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("pclmul") &&
        __builtin_cpu_supports("bmi"))
        found[count++] = (fnk_variant){"avx2", fnk_scan_avx2};
    found[count++] = (fnk_variant){"sse2", fnk_scan_sse2};
#endif
    found[count++] = (fnk_variant){"scalar", fnk_scan_scalar};
    return count;
}

#endif
