/* SMLAD multiplies two pairs of halfwords and adds both products: 2 MACs a cycle.
 * Operands become pairs of halfwords with one instruction each: UXTB16 (ROR 8) for bytes,
 * one mask (and shift) for weights, because their codes lie in the word in that order. */
#include "mpq_micro_kernels.h"

#include <string.h>

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#include <arm_acle.h>
#define EVEN_BYTES(word) ((uint32_t)__uxtb16(word))
#define ODD_BYTES(word) ((uint32_t)__uxtb16(((word) >> 8) | ((word) << 24)))
#define DUAL_MAC(a, b, sum) __smlad((int16x2_t)(a), (int16x2_t)(b), (sum))
#else
#define EVEN_BYTES(word) ((word) & 0x00FF00FFu)
#define ODD_BYTES(word) (((word) >> 8) & 0x00FF00FFu)
#define DUAL_MAC(a, b, sum) \
  ((sum) + (int32_t)((a) & 0xFFFFu) * (int32_t)((b) & 0xFFFFu) +                            \
   (int32_t)((a) >> 16) * (int32_t)((b) >> 16))
#endif

static inline uint32_t load_word(const uint8_t *bytes) {
  uint32_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

/* Four pixels share each pair of weights; eight accumulators live in registers. */
#define DEFINE_GEMM(BITS, PAIR_MASK)                                                        \
  void mpq_gemm_x8w##BITS##_p4c2(const void *x, const void *w, void *acc, int32_t k) {      \
    const uint8_t *x0 = x;                                                                  \
    const uint32_t *w0 = w;                                                                 \
    const uint32_t *w1 = w0 + k * BITS / 32;                                                \
    int32_t *sums = acc;                                                                    \
    int32_t s00 = sums[0], s01 = sums[1], s10 = sums[2], s11 = sums[3];                     \
    int32_t s20 = sums[4], s21 = sums[5], s30 = sums[6], s31 = sums[7];                     \
    for (const uint32_t *end = w1; w0 != end;) {                                            \
      const uint32_t a = *w0++, b = *w1++;                                                  \
      for (int pair = 0; pair < 16 / BITS; pair += 2) {                                     \
        const uint32_t a0 = (a >> (pair * BITS)) & PAIR_MASK;                               \
        const uint32_t a1 = (a >> (pair * BITS + BITS)) & PAIR_MASK;                        \
        const uint32_t b0 = (b >> (pair * BITS)) & PAIR_MASK;                               \
        const uint32_t b1 = (b >> (pair * BITS + BITS)) & PAIR_MASK;                        \
        uint32_t word = load_word(x0);                                                      \
        uint32_t even = EVEN_BYTES(word), odd = ODD_BYTES(word);                            \
        s00 = DUAL_MAC(odd, a1, DUAL_MAC(even, a0, s00));                                   \
        s01 = DUAL_MAC(odd, b1, DUAL_MAC(even, b0, s01));                                   \
        word = load_word(x0 + k)    ;                                                       \
        even = EVEN_BYTES(word), odd = ODD_BYTES(word);                                     \
        s10 = DUAL_MAC(odd, a1, DUAL_MAC(even, a0, s10));                                   \
        s11 = DUAL_MAC(odd, b1, DUAL_MAC(even, b0, s11));                                   \
        word = load_word(x0 + 2 * k);                                                       \
        even = EVEN_BYTES(word), odd = ODD_BYTES(word);                                     \
        s20 = DUAL_MAC(odd, a1, DUAL_MAC(even, a0, s20));                                   \
        s21 = DUAL_MAC(odd, b1, DUAL_MAC(even, b0, s21));                                   \
        word = load_word(x0 + 3 * k);                                                       \
        even = EVEN_BYTES(word), odd = ODD_BYTES(word);                                     \
        s30 = DUAL_MAC(odd, a1, DUAL_MAC(even, a0, s30));                                   \
        s31 = DUAL_MAC(odd, b1, DUAL_MAC(even, b0, s31));                                   \
        x0 += 4;                                                                            \
      }                                                                                     \
    }                                                                                       \
    sums[0] = s00, sums[1] = s01, sums[2] = s10, sums[3] = s11;                             \
    sums[4] = s20, sums[5] = s21, sums[6] = s30, sums[7] = s31;                             \
  }

#ifndef MPQ_ASSEMBLY
/* The portable twin of mpq_dense_w*.S. */
#define DEFINE_DENSE(BITS, PAIR_MASK)                                                       \
  void mpq_dense_w##BITS(const void *x, const void *w, void *acc, int32_t k) {              \
    const uint8_t *x0 = x, *end = x0 + k;                                                   \
    const uint32_t *words = w;                                                              \
    int32_t *sums = acc;                                                                    \
    for (; x0 != end; words += 4) {                                                         \
      for (int pair = 0; pair < 16 / BITS; pair += 2, x0 += 4) {                            \
        const uint32_t word = load_word(x0);                                                \
        for (int o = 0; o < 4; o++) {                                                       \
          const uint32_t w0 = (words[o] >> (pair * BITS)) & PAIR_MASK;                      \
          const uint32_t w1 = (words[o] >> (pair * BITS + BITS)) & PAIR_MASK;               \
          sums[o] = DUAL_MAC(ODD_BYTES(word), w1, DUAL_MAC(EVEN_BYTES(word), w0, sums[o])); \
        }                                                                                   \
      }                                                                                     \
    }                                                                                       \
  }
DEFINE_DENSE(8, 0x00FF00FFu)
DEFINE_DENSE(4, 0x000F000Fu)
DEFINE_DENSE(2, 0x00030003u)
#endif

DEFINE_GEMM(8, 0x00FF00FFu)
DEFINE_GEMM(4, 0x000F000Fu)
DEFINE_GEMM(2, 0x00030003u)
