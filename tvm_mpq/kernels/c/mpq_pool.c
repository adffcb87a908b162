/* Global average pool: sums of packed codes, whole words at a time. USADA8 adds four bytes. */
#include "mpq_micro_kernels.h"

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#include <arm_acle.h>
#define ADD_BYTES(word, sum) __usada8((word), 0, (sum))
#else
#define ADD_BYTES(word, sum) \
  ((sum) + ((word) & 0xFFu) + ((word) >> 8 & 0xFFu) + ((word) >> 16 & 0xFFu) + ((word) >> 24))
#endif

#define INLINE static inline __attribute__((always_inline))
enum { BLOCK = 4 }; /* channels that share the loop over rows */

/* sum + the codes of a word. */
INLINE uint32_t add_codes(uint32_t word, uint32_t sum, int32_t bits) {
  if (bits == 8) {
    return ADD_BYTES(word, sum);
  }
  if (bits == 4) {
    return ADD_BYTES((word & 0x0F0F0F0Fu) + (word >> 4 & 0x0F0F0F0Fu), sum);
  }
  const uint32_t pairs = (word & 0x33333333u) + (word >> 2 & 0x33333333u);
  return ADD_BYTES((pairs & 0x0F0F0F0Fu) + (pairs >> 4 & 0x0F0F0F0Fu), sum);
}

/* sums[j] += the codes of `rows` lines of BLOCK channels, each of one or two words. Loads first:
 * an addition right after its load would wait. */
INLINE void add_block(uint32_t *sums, const uint32_t *x, int32_t rows, int32_t row_words,
                      int32_t words, uint32_t last, int32_t bits) {
  uint32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
  const uint32_t *const end = x + rows * row_words;
  for (; x != end; x += row_words) {
    if (words == 2) {
      const uint32_t a = x[0], b = x[2], c = x[4], d = x[6];
      const uint32_t e = x[1], f = x[3], g = x[5], h = x[7];
      s0 = add_codes(a, s0, bits), s1 = add_codes(b, s1, bits);
      s2 = add_codes(c, s2, bits), s3 = add_codes(d, s3, bits);
      s0 = add_codes(e & last, s0, bits), s1 = add_codes(f & last, s1, bits);
      s2 = add_codes(g & last, s2, bits), s3 = add_codes(h & last, s3, bits);
    } else {
      const uint32_t a = x[0], b = x[1], c = x[2], d = x[3];
      s0 = add_codes(a & last, s0, bits), s1 = add_codes(b & last, s1, bits);
      s2 = add_codes(c & last, s2, bits), s3 = add_codes(d & last, s3, bits);
    }
  }
  sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

/* The same for one channel with lines of any length. */
INLINE uint32_t add_lines(uint32_t sum, const uint32_t *x, int32_t rows, int32_t row_words,
                          int32_t words, uint32_t last, int32_t bits) {
  for (int32_t r = 0; r < rows; r++, x += row_words) {
    for (int32_t i = 0; i < words - 1; i++) {
      sum = add_codes(x[i], sum, bits);
    }
    sum = add_codes(x[words - 1] & last, sum, bits);
  }
  return sum;
}

/* The same from a ring, for up to BLOCK channels; lines of one and two words without a loop. */
INLINE void add_map(uint32_t *sums, const uint32_t *x, const mpq_pool_t *d, int32_t row,
                    int32_t rows, int32_t ring, int32_t count, int32_t bits) {
  const int32_t row_words = d->channels * d->x_words;
  const int32_t used = d->width * bits - (d->x_words - 1) * 32;
  const uint32_t last = used == 32 ? 0xFFFFFFFFu : (1u << used) - 1u;
  while (rows > 0) {
    const int32_t at = row < ring ? row : row % ring;
    const int32_t room = ring - at, run = rows < room ? rows : room;
    const uint32_t *from = x + at * row_words;
    if (count == BLOCK && d->x_words == 1) {
      add_block(sums, from, run, row_words, 1, last, bits);
    } else if (count == BLOCK && d->x_words == 2) {
      add_block(sums, from, run, row_words, 2, last, bits);
    } else {
      for (int32_t j = 0; j < count; j++, from += d->x_words) {
        sums[j] = add_lines(sums[j], from, run, row_words, d->x_words, last, bits);
      }
    }
    row += run, rows -= run;
  }
}

INLINE uint32_t clamped(int64_t code, int32_t top) {
  return (uint32_t)(code < 0 ? 0 : code > top ? top : code);
}

/* Codes of a word from sums of channels; `count` of them, the rest is 0. */
static uint32_t word_of(const uint32_t *sums, int32_t count, const int32_t *icn, int32_t y_bits,
                        int32_t zy) {
  const int32_t top = (1 << y_bits) - 1, m0 = icn[1], shift = icn[2], high = shift - 32;
  uint32_t word = 0;
  if (high < 0 || high > 29) {
    for (int32_t j = 0; j < count; j++) {
      word |= clamped(((int64_t)m0 * (int32_t)sums[j] >> shift) + zy, top) << (j * y_bits);
    }
    return word;
  }
  for (int32_t j = count - 1; j >= 0; j--) {
    int32_t code = (int32_t)((int64_t)m0 * (int32_t)sums[j] >> 32);
    code = (code >> high) + zy;
    word = word << y_bits | (uint32_t)(code < 0 ? 0 : code > top ? top : code);
  }
  return word;
}

#define DEFINE_POOL(BITS)                                                                       \
  void mpq_pool_x##BITS(const void *x, int32_t ring, void *y, const int32_t *icn,               \
                        int32_t channels, int32_t height, int32_t width, int32_t x_words,       \
                        int32_t y_bits, int32_t base, int32_t zy) {                             \
    const mpq_pool_t d = {channels, width, x_words};                                            \
    const int32_t codes = 32 / y_bits;                                                          \
    uint32_t *to = y;                                                                           \
    for (int32_t first = 0; first < channels; first += codes) {                                 \
      const int32_t count = channels - first < codes ? channels - first : codes;                \
      uint32_t sums[16];                                                                        \
      for (int32_t j = 0; j < codes; j++) {                                                        \
        sums[j] = (uint32_t)(icn[0] - base);                                                    \
      }                                                                                         \
      for (int32_t j = 0; j < count; j += BLOCK) {                                              \
        add_map(sums + j, (const uint32_t *)x + (first + j) * x_words, &d, 0, height, ring,     \
                count - j < BLOCK ? count - j : BLOCK, BITS);                                   \
      }                                                                                         \
      *to++ = word_of(sums, count, icn, y_bits, zy);                                            \
    }                                                                                           \
  }                                                                                             \
  void mpq_pool_rows_x##BITS(const void *x, int32_t ring, int32_t row, int32_t rows, void *y,   \
                             const int32_t *icn, int32_t channels, int32_t height,              \
                             int32_t width, int32_t x_words, int32_t y_bits, int32_t base,      \
                             int32_t zy) {                                                      \
    const mpq_pool_t d = {channels, width, x_words};                                            \
    const int32_t codes = 32 / y_bits;                                                          \
    uint32_t *sums = y, *to = y;                                                                \
    for (int32_t first = 0; first < channels; first += BLOCK) {                                 \
      const int32_t count = channels - first < BLOCK ? channels - first : BLOCK;                \
      uint32_t block[BLOCK];                                                                    \
      for (int32_t j = 0; j < count; j++) {                                                     \
        block[j] = row > 0 ? sums[first + j] : (uint32_t)(icn[0] - base);                       \
      }                                                                                         \
      add_map(block, (const uint32_t *)x + first * x_words, &d, row, rows, ring, count, BITS);  \
      for (int32_t j = 0; j < count; j++) {                                                     \
        sums[first + j] = block[j];                                                             \
      }                                                                                         \
    }                                                                                           \
    /* In place: a word of codes is stored after the sums that it is made of. */                \
    for (int32_t first = 0; row + rows == height && first < channels; first += codes) {         \
      const int32_t count = channels - first < codes ? channels - first : codes;                \
      const uint32_t word = word_of(sums + first, count, icn, y_bits, zy);                      \
      *to++ = word;                                                                             \
    }                                                                                           \
  }
DEFINE_POOL(8)
DEFINE_POOL(4)
DEFINE_POOL(2)
