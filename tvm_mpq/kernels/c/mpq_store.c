/* Requantization of sums to codes, whole words at a time; see asm/epilogue.py. */
#include "mpq_micro_kernels.h"

#define BLOCK 32 /* sums that become codes before the codes become words */

/* The exact way for every shift; the twin of the assembly as well. */
#define DEFINE_PLAIN(BITS)                                                                  \
  static void plain##BITS(const int32_t *acc, uint32_t *y, int32_t m0, int32_t shift,       \
                          int32_t zy, int32_t width, int32_t rows, int32_t stride) {        \
    const int32_t per_word = 32 / BITS, top = (1 << BITS) - 1;                              \
    int32_t codes[BLOCK];                                                                   \
    for (int32_t r = 0; r < rows; r++, acc += width, y += stride / 4) {                     \
      for (int32_t first = 0; first < width; first += BLOCK) {                              \
        const int32_t count = width - first < BLOCK ? width - first : BLOCK;                \
        for (int32_t j = 0; j < count; j++) {                                               \
          const int64_t code = ((int64_t)m0 * acc[first + j] >> shift) + zy;                \
          codes[j] = (int32_t)(code < 0 ? 0 : code > top ? top : code);                     \
        }                                                                                   \
        for (int32_t p = 0; p < count; p += per_word) {                                     \
          uint32_t word = 0;                                                                \
          for (int32_t j = 0; j < per_word && p + j < count; j++) {                         \
            word |= (uint32_t)codes[p + j] << (j * BITS);                                   \
          }                                                                                 \
          y[(first + p) / per_word] = word;                                                 \
        }                                                                                   \
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
