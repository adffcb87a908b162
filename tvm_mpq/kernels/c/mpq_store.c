/* Requantization of sums to codes, whole words at a time; see asm/epilogue.py. */
#include "mpq_micro_kernels.h"

static uint32_t requantized(int32_t phi, int32_t m0, int32_t shift, int32_t zy, int32_t top) {
  const int64_t value = ((int64_t)m0 * phi >> shift) + zy;
  return (uint32_t)(value < 0 ? 0 : value > top ? top : value);
}

/* The exact way for every shift; the twin of the assembly as well. */
#define DEFINE_PLAIN(BITS)                                                                  \
  static void plain##BITS(const int32_t *acc, uint32_t *y, int32_t m0, int32_t shift,       \
                          int32_t zy, int32_t width, int32_t rows, int32_t stride) {        \
    for (int32_t r = 0; r < rows; r++, acc += width, y += stride / 4) {                     \
      for (int32_t first = 0; first < width; first += 32 / BITS) {                          \
        const int32_t left = width - first, codes = left < 32 / BITS ? left : 32 / BITS;    \
        uint32_t word = 0;                                                                  \
        for (int32_t j = 0; j < codes; j++) {                                               \
          word |= requantized(acc[first + j], m0, shift, zy, (1 << BITS) - 1) << (j * BITS); \
        }                                                                                   \
        y[first * BITS / 32] = word;                                                        \
      }                                                                                     \
    }                                                                                       \
  }

#ifdef MPQ_ASSEMBLY
#define FAST(BITS, acc, y, icn, width, rows, stride)        \
  if (low) {                                                \
    mpq_store_y##BITS##_low(acc, y, icn, width, rows, stride); \
  } else {                                                  \
    mpq_store_y##BITS(acc, y, icn, width, rows, stride);    \
  }
#else
#define FAST(BITS, acc, y, icn, width, rows, stride) \
  plain##BITS(acc, y, (icn)[0], shift, zy, width, rows, stride)
#endif

#define DEFINE_STORE(BITS)                                                                      \
  DEFINE_PLAIN(BITS)                                                                            \
  void mpq_store##BITS(const int32_t *acc, void *y, int32_t ring, int32_t row, int32_t rows,    \
                       int32_t width, int32_t zy, const int32_t *icn, int32_t channels,         \
                       int32_t channel, int32_t line_words) {                                   \
    const int32_t m0 = icn[channels + channel];                                                 \
    const int32_t shift = (icn[2 * channels + channel / 2] >> (channel % 2 * 16)) & 0xFF;       \
    const int32_t normal = m0 >= 0x40000000 || m0 < -0x3FFFFFFF || m0 == 0;                     \
    const int32_t low = shift < 32, fast = low ? shift >= 17 && normal : shift <= 52;           \
    const int32_t parameters[3] = {m0, low ? 32 - shift : shift - 32,                           \
                                   low ? zy : zy << (fast ? shift - 32 : 0)};                   \
    uint32_t *lines = (uint32_t *)y + channel * line_words;                                     \
    while (rows > 0) {                                                                          \
      const int32_t at = row < ring ? row : row % ring, room = ring - at, count = rows < room ? rows : room;       \
      uint32_t *to = lines + at * channels * line_words;                                        \
      if (fast) {                                                                               \
        FAST(BITS, acc, to, parameters, width, count, channels *line_words * 4);                \
      } else {                                                                                  \
        plain##BITS(acc, to, m0, shift, zy, width, count, channels *line_words * 4);            \
      }                                                                                         \
      acc += count * width, row += count, rows -= count;                                        \
    }                                                                                           \
  }

DEFINE_STORE(8)
DEFINE_STORE(4)
DEFINE_STORE(2)
