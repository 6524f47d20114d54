/* What the scan and the checksum need of a processor. Functions for one that not all machines have
 * say so by `target`, so that the rest of the module runs everywhere. */
#ifndef FASTNK_SIMD_H
#define FASTNK_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define FNK_AVX2 __attribute__((target("avx2,pclmul,bmi,popcnt")))
#define FNK_AVX512 __attribute__((target("avx512f,avx512bw,avx512vbmi2,avx2,pclmul,bmi,popcnt")))
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#endif
