/* Micro-kernels of the packed convolutions: unsigned codes, exact int32 sums. */
#ifndef MPQ_MICRO_KERNELS_H_
#define MPQ_MICRO_KERNELS_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* acc[p][o] += sum over k of x[p][k] * w[o][k]   for 4 pixels p, 2 channels o.
 * x: uint8 [4][k], w: packed words [2][k * bits / 32], acc: int32 [4][2]; k fills whole words.
 * The order of codes in a word is that of tvm_mpq/kernels/layout.py (pack_gemm_weights). */
void mpq_gemm_x8w8_p4c2(const void *x, const void *w, void *acc, int32_t k);
void mpq_gemm_x8w4_p4c2(const void *x, const void *w, void *acc, int32_t k);
void mpq_gemm_x8w2_p4c2(const void *x, const void *w, void *acc, int32_t k);

/* The same for one pixel: x uint8 [k], w [2][k * bits / 32], acc int32 [2]. */
void mpq_dot_x8w8_c2(const void *x, const void *w, void *acc, int32_t k);
void mpq_dot_x8w4_c2(const void *x, const void *w, void *acc, int32_t k);
void mpq_dot_x8w2_c2(const void *x, const void *w, void *acc, int32_t k);

#ifdef __cplusplus
}
#endif
#endif
