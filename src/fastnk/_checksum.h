/* A checksum that tells whether two reads of a block gave the same bytes.
 *
 * Eight words at a time, each in a lane of its own. The plain sum of a lane changes with every
 * single word; the sum of products, whose key moves on with each step, changes with their order.
 * No multiplication is wider than 32 bits, because every processor has SIMD for that.
 */
#ifndef FASTNK_CHECKSUM_H
#define FASTNK_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
typedef __m128i fnk_pair;
#define FNK_SPREAD(a, b) _mm_set_epi64x((long long)(b), (long long)(a))
#define FNK_ADD(x, y) _mm_add_epi64(x, y)
#define FNK_XOR(x, y) _mm_xor_si128(x, y)
#define FNK_HALVES_PRODUCT(x) _mm_mul_epu32(x, _mm_srli_epi64(x, 32))
#else
typedef struct {
    uint64_t a, b;
} fnk_pair;
#define FNK_SPREAD(a, b) ((fnk_pair){a, b})
#define FNK_ADD(x, y) ((fnk_pair){(x).a + (y).a, (x).b + (y).b})
#define FNK_XOR(x, y) ((fnk_pair){(x).a ^ (y).a, (x).b ^ (y).b})
#define FNK_HALVES_PRODUCT(x) \
    ((fnk_pair){((x).a & 0xFFFFFFFF) * ((x).a >> 32), ((x).b & 0xFFFFFFFF) * ((x).b >> 32)})
#endif

#define FNK_ODD 0xD6E8FEB86659FD93ULL

static inline uint64_t fnk_fold_in(uint64_t result, uint64_t word) {
    result = (result ^ word) * FNK_ODD;
    return result ^ result >> 32;
}

static uint64_t fnk_checksum(const uint8_t *p, size_t n) {
    const fnk_pair step = FNK_SPREAD(FNK_ODD, FNK_ODD);
    fnk_pair sums[4], products[4], keys[4];
    uint64_t result = n, words[8];
    for (int i = 0; i < 4; i++) {
        sums[i] = products[i] = FNK_SPREAD(0, 0);
        keys[i] = FNK_SPREAD(FNK_ODD * (uint64_t)(2 * i + 1), FNK_ODD * (uint64_t)(2 * i + 2));
    }
    for (; n >= 64; p += 64, n -= 64)
        for (int i = 0; i < 4; i++) {
            fnk_pair pair, mixed;
            memcpy(&pair, p + 16 * i, 16);
            mixed = FNK_XOR(pair, keys[i]);
            sums[i] = FNK_ADD(sums[i], pair);
            products[i] = FNK_ADD(products[i], FNK_HALVES_PRODUCT(mixed));
            keys[i] = FNK_ADD(keys[i], step);
        }
    memcpy(words, sums, sizeof words);
    for (int i = 0; i < 8; i++)
        result = fnk_fold_in(result, words[i]);
    memcpy(words, products, sizeof words);
    for (int i = 0; i < 8; i++)
        result = fnk_fold_in(result, words[i]);
    for (; n; p++, n--)
        result = fnk_fold_in(result, *p);
    return result;
}

#endif
