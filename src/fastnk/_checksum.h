/* A checksum that tells whether two reads of a block gave the same bytes.
 *
 * Eight words at a time, each in a lane of its own. The plain sum of a lane changes with every
 * single word; the sum of products, whose key moves on with each step, changes with their order.
 * No multiplication is wider than 32 bits, because every processor has SIMD for that.
 */
#ifndef FASTNK_CHECKSUM_H
#define FASTNK_CHECKSUM_H

#include "_simd.h"

#define FNK_LANES 8
#define FNK_ODD 0xD6E8FEB86659FD93ULL

static inline uint64_t fnk_fold_in(uint64_t result, uint64_t word) {
    result = (result ^ word) * FNK_ODD;
    return result ^ result >> 32;
}

/* What the lanes have come to, and the bytes behind the last eight words. */
static inline uint64_t fnk_folded(uint64_t result, const void *sums, const void *products,
                                  const uint8_t *rest, size_t n) {
    uint64_t words[2 * FNK_LANES];
    memcpy(words, sums, sizeof words / 2);
    memcpy(words + FNK_LANES, products, sizeof words / 2);
    for (int i = 0; i < 2 * FNK_LANES; i++)
        result = fnk_fold_in(result, words[i]);
    for (; n; rest++, n--)
        result = fnk_fold_in(result, *rest);
    return result;
}

typedef uint64_t (*fnk_checksum_function)(const uint8_t *p, size_t n);

/* PRODUCT multiplies the low halves of the words of two vectors. */
#define FNK_DEFINE_CHECKSUM(NAME, TARGET, BYTES, PRODUCT)                                         \
    TARGET static uint64_t NAME(const uint8_t *p, size_t n) {                                     \
        typedef uint64_t vector __attribute__((vector_size(BYTES)));                              \
        enum { STEP = 8 * FNK_LANES, VECTORS = STEP / BYTES };                                    \
        vector sums[VECTORS] = {{0}}, products[VECTORS] = {{0}}, keys[VECTORS];                   \
        const size_t length = n;                                                                  \
        for (int i = 0; i < VECTORS; i++)                                                         \
            for (int k = 0; k < BYTES / 8; k++)                                                   \
                keys[i][k] = FNK_ODD * (uint64_t)(BYTES / 8 * i + k + 1);                         \
        for (; n >= STEP; p += STEP, n -= STEP)                                                   \
            for (int i = 0; i < VECTORS; i++) {                                                   \
                vector words, mixed;                                                              \
                memcpy(&words, p + BYTES * i, BYTES);                                             \
                mixed = words ^ keys[i];                                                          \
                sums[i] += words;                                                                 \
                products[i] += (vector)PRODUCT(mixed, mixed >> 32);                               \
                keys[i] += FNK_ODD;                                                               \
            }                                                                                     \
        return fnk_folded(length, sums, products, p, n);                                          \
    }

#define FNK_PRODUCT_SCALAR(a, b) (((a) & 0xFFFFFFFF) * ((b) & 0xFFFFFFFF))
FNK_DEFINE_CHECKSUM(fnk_checksum_scalar, , 8, FNK_PRODUCT_SCALAR)
#if defined(__x86_64__)
#define FNK_PRODUCT_SSE2(a, b) _mm_mul_epu32((__m128i)(a), (__m128i)(b))
FNK_DEFINE_CHECKSUM(fnk_checksum_sse2, , 16, FNK_PRODUCT_SSE2)
#define FNK_PRODUCT_AVX2(a, b) _mm256_mul_epu32((__m256i)(a), (__m256i)(b))
FNK_DEFINE_CHECKSUM(fnk_checksum_avx2, FNK_AVX2, 32, FNK_PRODUCT_AVX2)
#define FNK_PRODUCT_AVX512(a, b) _mm512_mul_epu32((__m512i)(a), (__m512i)(b))
FNK_DEFINE_CHECKSUM(fnk_checksum_avx512, FNK_AVX512, 64, FNK_PRODUCT_AVX512)
#elif defined(__aarch64__)
#define FNK_PRODUCT_NEON(a, b) vmull_u32(vmovn_u64((uint64x2_t)(a)), vmovn_u64((uint64x2_t)(b)))
FNK_DEFINE_CHECKSUM(fnk_checksum_neon, , 16, FNK_PRODUCT_NEON)
#endif

#endif
