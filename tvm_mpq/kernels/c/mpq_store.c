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

/* The same for the sums of lanes: parameters are M0, shift, Zy, c - Zw, Bq. */
#define DEFINE_PLAIN_SUMS(BITS)                                                             \
  static void plain_sums##BITS(const int32_t *acc, uint32_t *y, const int32_t *parameters,  \
                               const int32_t *side, int32_t width, int32_t rows,            \
                               int32_t stride) {                                            \
    for (int32_t r = 0; r < rows; r++, acc += width, side += width, y += stride / 4) {      \
      for (int32_t first = 0; first < width; first += 32 / BITS) {                          \
        const int32_t left = width - first, codes = left < 32 / BITS ? left : 32 / BITS;    \
        uint32_t word = 0;                                                                  \
        for (int32_t j = 0; j < codes; j++) {                                               \
          const int32_t at = first + j;                                                     \
          const int32_t phi = acc[at] + parameters[3] * side[at] + parameters[4];           \
          word |= requantized(phi, parameters[0], parameters[1], parameters[2], (1 << BITS) - 1) \
                  << (j * BITS);                                                            \
        }                                                                                   \
        y[first * BITS / 32] = word;                                                        \
      }                                                                                     \
    }                                                                                       \
  }

#ifdef MPQ_ASSEMBLY
#define FAST_SUMS(BITS, ...)                  \
  if (shift < 32) {                           \
    mpq_store_sums_y##BITS##_low(__VA_ARGS__); \
  } else {                                    \
    mpq_store_sums_y##BITS(__VA_ARGS__);      \
  }
#else
#define FAST_SUMS(BITS, acc, y, icn, side, width, rows, stride) \
  plain_sums##BITS(acc, y, plain, side, width, rows, stride);
#endif

#define DEFINE_STORE_LANES(BITS)                                                                \
  DEFINE_PLAIN_SUMS(BITS)                                                                       \
  void mpq_store_lanes##BITS(const int32_t *acc, const int32_t *side, void *y, int32_t ring,    \
                             int32_t row, int32_t rows, int32_t width, int32_t zy,              \
                             const int32_t *icn, int32_t channels, int32_t channel,             \
                             int32_t line_words, int32_t pitch, int32_t unit) {                 \
    const int32_t *zeros = icn + 2 * channels, *centres = zeros + (channels + 1) / 2;           \
    const int32_t end = channel + 4 < channels ? channel + 4 : channels;                        \
    const int32_t start = row < ring ? row : row % ring, row_bytes = channels * line_words * 4; \
    unit *= centres[(channels + 1) / 2 + 1];                                                    \
    for (; channel < end; channel++, acc += pitch) {                                            \
      const int32_t zero = zeros[channel / 2] >> (channel % 2 * 16);                            \
      const int32_t centre = centres[channel / 2] >> (channel % 2 * 16);                        \
      const int32_t m0 = icn[channels + channel], shift = zero & 0xFF;                          \
      const int32_t bq = icn[channel] - (centre >> 8 & 0xFF) * unit;                            \
      const int32_t plain[5] = {m0, shift, zy, (centre & 0xFF) - (zero >> 8 & 0xFF), bq};       \
      const int32_t normal = m0 >= 0x40000000 || m0 < -0x3FFFFFFF || m0 == 0;                   \
      const int32_t fast = shift < 32 ? shift >= 17 && normal : shift <= 52;                    \
      const int32_t parameters[5] = {m0, shift < 32 ? 32 - shift : shift - 32,                  \
                                     shift < 32 ? zy : zy << (fast ? shift - 32 : 0), plain[3], bq}; \
      (void)parameters;                                                                         \
      int32_t at = start, left = rows;                                                          \
      for (const int32_t *from = acc, *sums = side; left > 0; at = 0) {                         \
        const int32_t count = left < ring - at ? left : ring - at;                              \
        uint32_t *to = (uint32_t *)y + (at * channels + channel) * line_words;                  \
        if (fast) {                                                                             \
          FAST_SUMS(BITS, from, to, parameters, sums, width, count, row_bytes)                \
        } else {                                                                                \
          plain_sums##BITS(from, to, plain, sums, width, count, row_bytes);                   \
        }                                                                                       \
        from += count * width, sums += count * width, left -= count;                            \
      }                                                                                         \
    }                                                                                           \
  }

DEFINE_STORE_LANES(8)
DEFINE_STORE_LANES(4)
DEFINE_STORE_LANES(2)
