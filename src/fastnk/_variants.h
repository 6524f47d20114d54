/* The choice at run time: the scan and the checksum, as this processor does them fastest. */
#ifndef FASTNK_VARIANTS_H
#define FASTNK_VARIANTS_H

#include "_checksum.h"
#include "_scan.h"

typedef struct {
    const char *name;
    fnk_scan_function scan;
    fnk_checksum_function checksum;
} fnk_variant;

#define FNK_VARIANTS 4

/* Fills `found`, which has room for FNK_VARIANTS, with what this processor can run, the fastest
 * first; returns how many. */
static int fnk_variants(fnk_variant *found) {
    int count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi2") &&
        __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("bmi"))
        found[count++] = (fnk_variant){"avx512", fnk_scan_avx512, fnk_checksum_avx512};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("pclmul") &&
        __builtin_cpu_supports("bmi"))
        found[count++] = (fnk_variant){"avx2", fnk_scan_avx2, fnk_checksum_avx2};
    found[count++] = (fnk_variant){"sse2", fnk_scan_sse2, fnk_checksum_sse2};
#elif defined(__aarch64__)
    found[count++] = (fnk_variant){"neon", fnk_scan_neon, fnk_checksum_neon};
#endif
    found[count++] = (fnk_variant){"scalar", fnk_scan_scalar, fnk_checksum_scalar};
    return count;
}

#endif
