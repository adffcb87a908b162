/* Requantized add: Y = clamp(Zy + floor((M0 * (X0 - Z0) + M1 * (X1 - Z1) + half) / 2**shift)).
 *
 * The 64-bit sum is 2**16 * high + low, by the halves of each M: with two codes as the halfwords of
 * a word, SMLAD makes each of them. floor((2**16 * high + low) / 2**shift) is then exactly
 * (high + (low >> 16)) >> (shift - 16). Zero points, half and Zy << shift are in the start values.
 * Both inputs of a word of Y are read before it is stored: Y may lie on one of them. */
#include "mpq_micro_kernels.h"

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#include <arm_acle.h>
#define DUAL_MULTIPLY_ADD(x, m, sum) __smlad((int16x2_t)(x), (int16x2_t)(m), (sum))
#define SATURATE(value, bits) ((uint32_t)__usat((value), (bits)))
#else
#define DUAL_MULTIPLY_ADD(x, m, sum)                                             \
  ((sum) + (int32_t)((x) & 0xFFFFu) * (int16_t)(uint16_t)((m) & 0xFFFFu) + \
   (int32_t)((x) >> 16) * (int16_t)(uint16_t)((m) >> 16))
#define SATURATE(value, bits) \
  ((value) < 0 ? 0u : (value) >> (bits) ? (1u << (bits)) - 1u : (uint32_t)(value))
#endif

#define INLINE static inline __attribute__((always_inline))

typedef struct {
  const int32_t *icn; /* M0, M1, shift, 1 when half a code is added */
  int32_t zeros[2], zy, y_bits, lines, codes;
  int32_t words[2]; /* of a line of each input */
} layer_t;

typedef struct {
  uint32_t high, low; /* of M0 and M1 as halfwords */
  int32_t high_start, low_start, shift;
} plan_t;

/* What the loop holds; 0 if the sums of these parameters do not fit its words. */
static int32_t plan_of(plan_t *plan, const layer_t *d) {
  const int32_t *icn = d->icn, shift = icn[2];
  const int32_t low0 = (int16_t)(uint16_t)icn[0], low1 = (int16_t)(uint16_t)icn[1];
  const int64_t high0 = ((int64_t)icn[0] - low0) >> 16, high1 = ((int64_t)icn[1] - low1) >> 16;
  /* The low half is signed, so that the high one may be 32768. */
  if (shift < 16 || shift > 38 || high0 > INT16_MAX || high1 > INT16_MAX) {
    return 0;
  }
  const int64_t half = (int64_t)icn[3] << (shift - 1);
  const int64_t start = half + ((int64_t)d->zy << shift) - (int64_t)icn[0] * d->zeros[0] -
                        (int64_t)icn[1] * d->zeros[1];
  plan->high = ((uint32_t)high0 & 0xFFFFu) | (uint32_t)high1 << 16;
  plan->low = ((uint32_t)low0 & 0xFFFFu) | (uint32_t)low1 << 16;
  plan->high_start = (int32_t)(start >> 16), plan->low_start = (int32_t)(start & 0xFFFF);
  plan->shift = shift - 16;
  return 1;
}

INLINE uint32_t code_at(const uint32_t *line, int32_t j, int32_t bits) {
  return line[j * bits / 32] >> (j * bits % 32) & ((1u << bits) - 1u);
}

INLINE uint32_t sum_of(const plan_t *plan, uint32_t x0, uint32_t x1, int32_t bits) {
  const uint32_t both = x0 | x1 << 16;
  const int32_t high = DUAL_MULTIPLY_ADD(both, plan->high, plan->high_start);
  const int32_t low = DUAL_MULTIPLY_ADD(both, plan->low, plan->low_start);
  return SATURATE((high + (low >> 16)) >> plan->shift, bits);
}

/* Any shift up to 63. */
static uint32_t plain_sum(const layer_t *d, uint32_t x0, uint32_t x1) {
  const int32_t *icn = d->icn, shift = icn[2], top = (1 << d->y_bits) - 1;
  const int64_t half = (int64_t)icn[3] << (shift > 0 ? shift - 1 : 0);
  const int64_t first = (int64_t)icn[0] * ((int32_t)x0 - d->zeros[0]);
  const int64_t second = (int64_t)icn[1] * ((int32_t)x1 - d->zeros[1]);
  const int64_t code = ((first + second + half) >> shift) + d->zy;
  return (uint32_t)(code < 0 ? 0 : code > top ? top : code);
}

/* Codes j to j + 3 of y; without a loop, so that its constants stay in registers. */
INLINE uint32_t four_of(const plan_t *plan, const uint32_t *a, const uint32_t *b, int32_t j,
                        const int32_t bits[3]) {
#define CODE(I) \
  sum_of(plan, code_at(a, j + I, bits[0]), code_at(b, j + I, bits[1]), bits[2]) << (I * bits[2])
  return CODE(0) | CODE(1) | CODE(2) | CODE(3);
#undef CODE
}

/* `count` codes from code j on: the last word of a line, or all where the sums do not fit. */
static uint32_t few_of(const layer_t *d, const uint32_t *a, const uint32_t *b, int32_t j,
                       int32_t count, const int32_t bits[3]) {
  uint32_t word = 0;
  for (int32_t i = 0; i < count; i++) {
    const uint32_t x0 = code_at(a, j + i, bits[0]), x1 = code_at(b, j + i, bits[1]);
    word |= plain_sum(d, x0, x1) << (i * bits[2]);
  }
  return word;
}

INLINE void add_lines(const layer_t *d, const uint32_t *a, const uint32_t *b, uint32_t *y,
                      const int32_t bits[3]) {
  plan_t plan = {0};
  const int32_t fast = plan_of(&plan, d), codes = 32 / bits[2];
  for (int32_t line = 0; line < d->lines; line++) {
    int32_t j = 0;
    for (; fast && j + codes <= d->codes; j += codes) {
      uint32_t word = 0;
      for (int32_t i = 0; i < codes; i += 4) {
        word |= four_of(&plan, a, b, j + i, bits) << (i * bits[2]);
      }
      *y++ = word;
    }
    for (; j < d->codes; j += codes) {
      *y++ = few_of(d, a, b, j, d->codes - j < codes ? d->codes - j : codes, bits);
    }
    a += d->words[0], b += d->words[1];
  }
}

#define DEFINE_ADD(A, B, Y)                                                                     \
  void mpq_add_x##A##x##B##y##Y(const void *a, const void *b, void *y, const int32_t *icn,      \
                                int32_t za, int32_t zb, int32_t zy, int32_t lines,              \
                                int32_t codes) {                                                \
    static const int32_t bits[3] = {A, B, Y};                                                   \
    const layer_t d = {icn, {za, zb}, zy, Y, lines, codes, {(codes * A + 31) / 32,              \
                                                            (codes * B + 31) / 32}};            \
    add_lines(&d, (const uint32_t *)a, (const uint32_t *)b, (uint32_t *)y, bits);               \
  }
MPQ_FOR_ADDS(DEFINE_ADD)
