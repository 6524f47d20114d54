/* The scan: finds, 64 bytes at a time, every byte of a window that the walk has to look at.
 *
 *   {"model": "a.b", "pk": 12, "fields": {"name": "caf\u00e9"}}
 *   ^^      ^ ^    ^ ^   ^ ^ ^ ^       ^ ^^     ^ ^          ^^
 *
 * Those are the punctuation outside strings, the opening quote of every string, and the first byte
 * of every number and literal. What follows a string is on the list and only white space can be
 * between, so its end need not be. Inside strings only what is wrong is listed, so that the walk
 * meets it in its place: control characters, and the backslash of a malformed escape. UTF-8 is
 * validated on the way.
 *
 * A block is first classified into six bit masks, one bit per byte; nearly all the rest is
 * arithmetic on those masks. Only the classification, the quick look at UTF-8 and the way from a
 * mask to a list differ between processors. Each variant is a whole copy of the loop so that the
 * compiler can inline them.
 */
#ifndef FASTNK_SCAN_H
#define FASTNK_SCAN_H

#include "_simd.h"

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

enum {
    IS_QUOTE = 1,
    IS_BACKSLASH = 2,
    IS_PUNCTUATION = 4,
    IS_SPACE = 8,
    IS_ESCAPE = 16, /* may stand behind a backslash, alone */
    IS_HEX = 32,
    /* What the scan takes for the end of a number or literal: it is listed, or white space. */
    ENDS_SCALAR = IS_QUOTE | IS_PUNCTUATION | IS_SPACE,
};

/* Two control characters count as the punctuation that they become when bit 5 is set, as SIMD sets
 * it to compare less. The walk, which looks at the byte itself, refuses them. */
static const uint8_t fnk_class[256] = {
    [',' & ~0x20] = IS_PUNCTUATION, [':' & ~0x20] = IS_PUNCTUATION,
    ['"'] = IS_QUOTE | IS_ESCAPE, ['\\'] = IS_BACKSLASH | IS_ESCAPE,
    ['{'] = IS_PUNCTUATION, ['}'] = IS_PUNCTUATION, ['['] = IS_PUNCTUATION,
    [']'] = IS_PUNCTUATION, [':'] = IS_PUNCTUATION, [','] = IS_PUNCTUATION,
    [' '] = IS_SPACE, ['\t'] = IS_SPACE, ['\n'] = IS_SPACE, ['\r'] = IS_SPACE,
    ['/'] = IS_ESCAPE, ['n'] = IS_ESCAPE, ['r'] = IS_ESCAPE, ['t'] = IS_ESCAPE,
    ['b'] = IS_ESCAPE | IS_HEX, ['f'] = IS_ESCAPE | IS_HEX,
    ['0'] = IS_HEX, ['1'] = IS_HEX, ['2'] = IS_HEX, ['3'] = IS_HEX, ['4'] = IS_HEX,
    ['5'] = IS_HEX, ['6'] = IS_HEX, ['7'] = IS_HEX, ['8'] = IS_HEX, ['9'] = IS_HEX,
    ['a'] = IS_HEX, ['c'] = IS_HEX, ['d'] = IS_HEX, ['e'] = IS_HEX,
    ['A'] = IS_HEX, ['B'] = IS_HEX, ['C'] = IS_HEX, ['D'] = IS_HEX, ['E'] = IS_HEX,
    ['F'] = IS_HEX,
};

/* ---- without SIMD ------------------------------------------------------------------------ */

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

/* Appends the set bits of a block as positions. Writes eight at a time, mostly more than there
 * are: the array has room for them, and the next block overwrites what was too much. */
static inline uint32_t *fnk_append_scalar(uint32_t *out, uint32_t base, uint64_t bits) {
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

/* Whether the UTF-8 of a block, whose three bytes before can be read too, may be wrong. */
static inline int fnk_utf8_suspect_scalar(const uint8_t *p) {
    (void)p;
    return 1;
}

/* Validation of UTF-8 by three look-ups in tables of 16, of which each bit stands for one way to
 * be wrong: a pair of bytes is wrong where all three agree on a bit. The tables are those of
 * J. Keiser and D. Lemire, Validating UTF-8 In Less Than One Instruction Per Byte (2021). */
enum {
    TOO_SHORT = 1,      /* 11______ 0_______ or 11______ 11______ */
    TOO_LONG = 2,       /* 0_______ 10______ */
    OVERLONG_3 = 4,     /* 11100000 100_____ */
    TOO_LARGE = 8,      /* 11110100 1001____ and more */
    SURROGATE = 16,     /* 11101101 101_____ */
    OVERLONG_2 = 32,    /* 1100000_ 10______ */
    OVERLONG_4 = 64,    /* 11110000 1000____ */
    TOO_LARGE_4 = 64,   /* 11110101 1000____ and more */
    CONTINUATIONS = 128 /* 10______ 10______, which is right behind a longer lead */
};
#define FNK_ANY (TOO_SHORT | TOO_LONG | CONTINUATIONS)
#define FNK_5_UP (FNK_ANY | TOO_LARGE | TOO_LARGE_4)
#define FNK_8_UP (TOO_LONG | OVERLONG_2 | CONTINUATIONS)
#define FNK_FIRST_HIGH                                                                            \
    TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG,               \
        CONTINUATIONS, CONTINUATIONS, CONTINUATIONS, CONTINUATIONS, TOO_SHORT | OVERLONG_2,       \
        TOO_SHORT, TOO_SHORT | OVERLONG_3 | SURROGATE,                                            \
        TOO_SHORT | TOO_LARGE | TOO_LARGE_4 | OVERLONG_4
#define FNK_FIRST_LOW                                                                             \
    FNK_ANY | OVERLONG_3 | OVERLONG_2 | OVERLONG_4, FNK_ANY | OVERLONG_2, FNK_ANY, FNK_ANY,       \
        FNK_ANY | TOO_LARGE, FNK_5_UP, FNK_5_UP, FNK_5_UP, FNK_5_UP, FNK_5_UP, FNK_5_UP,          \
        FNK_5_UP, FNK_5_UP, FNK_5_UP | SURROGATE, FNK_5_UP, FNK_5_UP
#define FNK_SECOND_HIGH                                                                           \
    TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,       \
        FNK_8_UP | OVERLONG_3 | OVERLONG_4, FNK_8_UP | OVERLONG_3 | TOO_LARGE,                    \
        FNK_8_UP | SURROGATE | TOO_LARGE, FNK_8_UP | SURROGATE | TOO_LARGE, TOO_SHORT, TOO_SHORT, \
        TOO_SHORT, TOO_SHORT

/* ---- x86-64 ------------------------------------------------------------------------------ */

#if defined(__x86_64__)
static inline void fnk_classify_sse2(const uint8_t *p, fnk_masks *m) {
    memset(m, 0, sizeof *m);
    for (int i = 0; i < FNK_BLOCK; i += 16) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
        /* '[' | 0x20 is '{' and ']' | 0x20 is '}': two comparisons serve four characters. */
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

FNK_AVX2 static inline void fnk_classify_avx2(const uint8_t *p, fnk_masks *m) {
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

FNK_AVX2 static inline uint64_t fnk_prefix_xor_clmul(uint64_t bits) {
    const __m128i product =
        _mm_clmulepi64_si128(_mm_set_epi64x(0, (long long)bits), _mm_set1_epi8(-1), 0);
    return (uint64_t)_mm_cvtsi128_si64(product);
}

FNK_AVX2 static inline int fnk_utf8_suspect_avx2(const uint8_t *p) {
#define FNK_TABLE(...) _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))
#define FNK_NIBBLE(x) _mm256_and_si256(x, _mm256_set1_epi8(15))
#define FNK_HIGH(x) FNK_NIBBLE(_mm256_srli_epi16(x, 4))
    const __m256i first_high = FNK_TABLE(FNK_FIRST_HIGH);
    const __m256i first_low = FNK_TABLE(FNK_FIRST_LOW);
    const __m256i second_high = FNK_TABLE(FNK_SECOND_HIGH);
    __m256i wrong = _mm256_setzero_si256();
    for (int i = 0; i < FNK_BLOCK; i += 32) {
        const __m256i v = _mm256_loadu_si256((const __m256i *)(p + i));
        const __m256i before = _mm256_loadu_si256((const __m256i *)(p + i - 1));
        const __m256i two_before = _mm256_loadu_si256((const __m256i *)(p + i - 2));
        const __m256i three_before = _mm256_loadu_si256((const __m256i *)(p + i - 3));
        const __m256i pair =
            _mm256_and_si256(_mm256_and_si256(_mm256_shuffle_epi8(first_high, FNK_HIGH(before)),
                                              _mm256_shuffle_epi8(first_low, FNK_NIBBLE(before))),
                             _mm256_shuffle_epi8(second_high, FNK_HIGH(v)));
        /* The top bit stays where a lead of three or four bytes calls for a continuation. */
        const __m256i called =
            _mm256_or_si256(_mm256_subs_epu8(two_before, _mm256_set1_epi8(0xE0 - 0x80)),
                            _mm256_subs_epu8(three_before, _mm256_set1_epi8(0xF0 - 0x80)));
        const __m256i continuation = _mm256_and_si256(called, _mm256_set1_epi8((char)0x80));
        wrong = _mm256_or_si256(wrong, _mm256_xor_si256(continuation, pair));
    }
#undef FNK_TABLE
#undef FNK_NIBBLE
#undef FNK_HIGH
    return !_mm256_testz_si256(wrong, wrong);
}

FNK_AVX512 static inline void fnk_classify_avx512(const uint8_t *p, fnk_masks *m) {
    /* As for AVX2; here a comparison is a mask. */
    const __m512i punctuation = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ':', '{', ',', '}', 0, 0));
    const __m512i space = _mm512_broadcast_i32x4(
        _mm_setr_epi8(' ', -1, -1, -1, -1, -1, -1, -1, -1, '\t', '\n', -1, -1, '\r', -1, -1));
    const __m512i v = _mm512_loadu_si512(p);
    const __m512i folded = _mm512_or_si512(v, _mm512_set1_epi8(0x20));
    m->quote = _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('"'));
    m->backslash = _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('\\'));
    m->punctuation = _mm512_cmpeq_epi8_mask(_mm512_shuffle_epi8(punctuation, v), folded);
    m->space = _mm512_cmpeq_epi8_mask(_mm512_shuffle_epi8(space, v), v);
    m->control = _mm512_cmplt_epu8_mask(v, _mm512_set1_epi8(0x20));
    m->high = _mm512_movepi8_mask(v);
}

/* As `fnk_append_scalar`, sixteen at a time: the places of a block, less those whose bit is not
 * set. */
FNK_AVX512 static inline uint32_t *fnk_append_avx512(uint32_t *out, uint32_t base, uint64_t bits) {
    static const uint8_t block[FNK_BLOCK] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    uint32_t *const next = out + __builtin_popcountll(bits);
    const __m512i start = _mm512_set1_epi32((int)base);
    __m512i places = _mm512_maskz_compress_epi8(bits, _mm512_loadu_si512(block));
    for (;;) {
        const __m512i wide = _mm512_cvtepu8_epi32(_mm512_castsi512_si128(places));
        _mm512_storeu_si512(out, _mm512_add_epi32(start, wide));
        out += 16;
        if (out >= next)
            return next;
        places = _mm512_shuffle_i32x4(places, places, _MM_SHUFFLE(0, 3, 2, 1));
    }
}

#endif

/* ---- 64-bit ARM -------------------------------------------------------------------------- */

#if defined(__aarch64__)

/* One bit for each byte of four vectors whose bytes are all 0 or 0xFF. */
static inline uint64_t fnk_bits_neon(uint8x16x4_t v) {
    const uint8x16_t weights = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t low = vpaddq_u8(vandq_u8(v.val[0], weights), vandq_u8(v.val[1], weights));
    uint8x16_t high = vpaddq_u8(vandq_u8(v.val[2], weights), vandq_u8(v.val[3], weights));
    low = vpaddq_u8(low, high);
    low = vpaddq_u8(low, low);
    return vgetq_lane_u64(vreinterpretq_u64_u8(low), 0);
}

static inline void fnk_classify_neon(const uint8_t *p, fnk_masks *m) {
    /* As for AVX2; a nibble beyond the table gives 0. */
    const uint8x16_t punctuation = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ':', '{', ',', '}', 0, 0};
    const uint8x16_t space = {' ', 255, 255, 255, 255, 255, 255, 255,
                              255, '\t', '\n', 255, 255, '\r', 255, 255};
    uint8x16x4_t quotes, backslashes, punctuations, spaces, controls, highs;
    for (int i = 0; i < 4; i++) {
        const uint8x16_t v = vld1q_u8(p + 16 * i);
        const uint8x16_t low = vandq_u8(v, vdupq_n_u8(15));
        quotes.val[i] = vceqq_u8(v, vdupq_n_u8('"'));
        backslashes.val[i] = vceqq_u8(v, vdupq_n_u8('\\'));
        punctuations.val[i] =
            vceqq_u8(vqtbl1q_u8(punctuation, low), vorrq_u8(v, vdupq_n_u8(0x20)));
        spaces.val[i] = vceqq_u8(vqtbl1q_u8(space, low), v);
        controls.val[i] = vcltq_u8(v, vdupq_n_u8(0x20));
        highs.val[i] = vcgeq_u8(v, vdupq_n_u8(0x80));
    }
    m->quote = fnk_bits_neon(quotes);
    m->backslash = fnk_bits_neon(backslashes);
    m->punctuation = fnk_bits_neon(punctuations);
    m->space = fnk_bits_neon(spaces);
    m->control = fnk_bits_neon(controls);
    m->high = fnk_bits_neon(highs);
}

static inline int fnk_utf8_suspect_neon(const uint8_t *p) {
    const uint8x16_t first_high = {FNK_FIRST_HIGH};
    const uint8x16_t first_low = {FNK_FIRST_LOW};
    const uint8x16_t second_high = {FNK_SECOND_HIGH};
    uint8x16_t wrong = vdupq_n_u8(0);
    for (int i = 0; i < FNK_BLOCK; i += 16) {
        const uint8x16_t before = vld1q_u8(p + i - 1);
        const uint8x16_t pair =
            vandq_u8(vandq_u8(vqtbl1q_u8(first_high, vshrq_n_u8(before, 4)),
                              vqtbl1q_u8(first_low, vandq_u8(before, vdupq_n_u8(15)))),
                     vqtbl1q_u8(second_high, vshrq_n_u8(vld1q_u8(p + i), 4)));
        const uint8x16_t called = vorrq_u8(vqsubq_u8(vld1q_u8(p + i - 2), vdupq_n_u8(0xE0 - 0x80)),
                                           vqsubq_u8(vld1q_u8(p + i - 3), vdupq_n_u8(0xF0 - 0x80)));
        wrong = vorrq_u8(wrong, veorq_u8(vandq_u8(called, vdupq_n_u8(0x80)), pair));
    }
    return vmaxvq_u8(wrong) != 0;
}

#endif

/* ---- parts that all variants share ------------------------------------------------------- */

/* The backslashes that start an escape: in each run of them the first, the third and so on.
 * `*carry` is 1 where the last block ended in one, and on return where this one does; `*escaped`
 * gets the bytes that stand behind such a backslash.
 *
 * Subtracting a run's first bit from the alternating bits flips those up to the run's end, which
 * leaves every other bit of the run wherever it starts. */
static inline uint64_t fnk_escapes(uint64_t backslash, uint64_t *carry, uint64_t *escaped) {
    const uint64_t odd = 0xAAAAAAAAAAAAAAAAULL;
    uint64_t starts, flipped;
    const uint64_t before = *carry;
    if (!backslash) {
        *escaped = before;
        *carry = 0;
        return 0;
    }
    backslash &= ~before;
    flipped = ((backslash << 1 | odd) - backslash) ^ odd;
    starts = flipped & backslash;
    *escaped = starts << 1 | before;
    *carry = starts >> 63;
    return starts;
}

/* Those of the escapes in `starts` that are malformed. All that stands behind quotes and
 * backslashes is sorted out before. */
static inline uint64_t fnk_bad_escapes(const uint8_t *p, uint64_t starts) {
    uint64_t bad = 0;
    for (; starts; starts &= starts - 1) {
        const uint8_t *const behind = p + __builtin_ctzll(starts) + 1;
        const int good = *behind == 'u' ? fnk_class[behind[1]] & fnk_class[behind[2]] &
                                              fnk_class[behind[3]] & fnk_class[behind[4]] & IS_HEX
                                        : fnk_class[*behind] & IS_ESCAPE;
        if (!good)
            bad |= starts & -starts;
    }
    return bad;
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

/* Looks at the UTF-8 from `at` to `stop`, where the bytes before are right. Returns the place of
 * what is not, or where the last sequence ended. */
static inline size_t fnk_utf8_walk(const uint8_t *p, size_t n, size_t at, size_t stop,
                                   int *length) {
    while (at < stop) {
        *length = p[at] < 0x80 ? 1 : fnk_utf8_sequence(p + at, p + n);
        if (*length <= 0)
            break;
        at += (size_t)*length;
    }
    return at;
}

/* The start of the sequence that the byte at `at` belongs to, if it belongs to one. */
static inline size_t fnk_utf8_start(const uint8_t *p, size_t at) {
    for (size_t start = at; start > 0 && at - start < 3; start--)
        if ((p[start - 1] & 0xC0) != 0x80)
            return p[start - 1] < 0x80 ? at : start - 1;
    return at;
}

/* ---- the loop ---------------------------------------------------------------------------- */

/* Scans the n bytes at p, which must be followed by FNK_BLOCK bytes of white space, and writes
 * positions to `out`, which must have room for n + FNK_BLOCK of them. A window starts outside a
 * string. */
typedef fnk_scanned (*fnk_scan_function)(const uint8_t *p, size_t n, uint32_t *out);

#define FNK_DEFINE_SCAN(NAME, TARGET, CLASSIFY, PREFIX_XOR, UTF8_SUSPECT, APPEND)                 \
    TARGET static fnk_scanned NAME(const uint8_t *p, size_t n, uint32_t *out) {                   \
        uint32_t *const first = out;                                                              \
        uint64_t carry = 0, inside = 0, scalar_before = 0, high_before = 0, escaped;              \
        int length = 1;                                                                           \
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
            uint64_t found =                                                                      \
                (m.punctuation & ~string) | (quote & string) | scalar_start | (m.control & string); \
            const uint64_t others = escapes & string & ~((m.quote | m.backslash) >> 1);           \
            if (others)                                                                           \
                found |= fnk_bad_escapes(p + base, others);                                       \
            if (m.high | high_before) {                                                           \
                if (base == 0 || UTF8_SUSPECT(p + base)) {                                        \
                    const size_t stop = n - base < FNK_BLOCK ? n : base + FNK_BLOCK;              \
                    const size_t at = fnk_utf8_walk(p, n, fnk_utf8_start(p, base), stop, &length); \
                    if (length <= 0) {                                                            \
                        if (at > base)                                                            \
                            out = APPEND(out, (uint32_t)base,                                     \
                                             found & ((1ULL << (at - base)) - 1));                \
                        /* It may have begun in the block before, and be listed already. */       \
                        while (out > first && out[-1] >= at)                                      \
                            out--;                                                                \
                        return (fnk_scanned){(size_t)(out - first), at, length == 0};             \
                    }                                                                             \
                }                                                                                 \
                high_before = m.high >> 61;                                                       \
            }                                                                                     \
            out = APPEND(out, (uint32_t)base, found);                                             \
        }                                                                                         \
        /* A sequence may be cut off at the very end of the last block. */                        \
        const size_t end = high_before ? fnk_utf8_walk(p, n, fnk_utf8_start(p, n), n, &length) : n; \
        while (out > first && out[-1] >= end)                                                     \
            out--;                                                                                \
        return (fnk_scanned){(size_t)(out - first), end, length == 0};                            \
    }

FNK_DEFINE_SCAN(fnk_scan_scalar, , fnk_classify_scalar, fnk_prefix_xor_scalar,
                fnk_utf8_suspect_scalar, fnk_append_scalar)
#if defined(__x86_64__)
FNK_DEFINE_SCAN(fnk_scan_sse2, , fnk_classify_sse2, fnk_prefix_xor_scalar,
                fnk_utf8_suspect_scalar, fnk_append_scalar)
FNK_DEFINE_SCAN(fnk_scan_avx2, FNK_AVX2, fnk_classify_avx2, fnk_prefix_xor_clmul,
                fnk_utf8_suspect_avx2, fnk_append_scalar)
FNK_DEFINE_SCAN(fnk_scan_avx512, FNK_AVX512, fnk_classify_avx512, fnk_prefix_xor_clmul,
                fnk_utf8_suspect_avx2, fnk_append_avx512)
#elif defined(__aarch64__)
FNK_DEFINE_SCAN(fnk_scan_neon, , fnk_classify_neon, fnk_prefix_xor_scalar, fnk_utf8_suspect_neon,
                fnk_append_scalar)
#endif

#endif
