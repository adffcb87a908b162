/* Requantization of sums to codes, whole words at a time; see asm/epilogue.py. */
#include "mpq_micro_kernels.h"

#define BLOCK 32 /* sums that become codes before the codes become words */

/* At most BLOCK sums to codes, in whole words. */
static inline void encode(const int32_t *phi, uint32_t *y, int32_t m0, int32_t shift, int32_t zy,
                          int32_t count, int32_t bits) {
  const int32_t per_word = 32 / bits, top = (1 << bits) - 1;
  int32_t codes[BLOCK];
  for (int32_t j = 0; j < count; j++) {
    const int64_t code = ((int64_t)m0 * phi[j] >> shift) + zy;
    codes[j] = (int32_t)(code < 0 ? 0 : code > top ? top : code);
  }
  for (int32_t p = 0; p < count; p += per_word) {
    uint32_t word = 0;
    for (int32_t j = 0; j < per_word && p + j < count; j++) {
      word |= (uint32_t)codes[p + j] << (j * bits);
    }
    y[p / per_word] = word;
  }
}

/* The exact way for every shift; the twin of the assembly as well. */
#define DEFINE_PLAIN(BITS)                                                                  \
  static void plain##BITS(const int32_t *acc, uint32_t *y, int32_t m0, int32_t shift,       \
                          int32_t zy, int32_t width, int32_t rows, int32_t stride) {        \
    for (int32_t r = 0; r < rows; r++, acc += width, y += stride / 4) {                     \
      for (int32_t first = 0; first < width; first += BLOCK) {                              \
        const int32_t count = width - first < BLOCK ? width - first : BLOCK;                \
        encode(acc + first, y + first * BITS / 32, m0, shift, zy, count, BITS);             \
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

#define DEFINE_STORE(NAME, BITS, NARROW)                                                        \
  void NAME(const int32_t *acc, void *y, int32_t ring, int32_t row, int32_t rows, int32_t width, \
            int32_t zy, const int32_t *icn, int32_t channels, int32_t channel,                  \
            int32_t line_words) {                                                               \
    const int32_t m0 = mpq_m0(icn, channels, channel, NARROW);                                  \
    const int32_t shift = mpq_shift_zw(icn, channels, channel, NARROW) & 0xFF;                  \
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

#define DEFINE_STORES(BITS)             \
  DEFINE_PLAIN(BITS)                    \
  DEFINE_STORE(mpq_store##BITS, BITS, 0) \
  DEFINE_STORE(mpq_store##BITS##_m16, BITS, 1)
DEFINE_STORES(8)
DEFINE_STORES(4)
DEFINE_STORES(2)

/* The same for the sums of lanes: parameters are M0, shift, Zy, c - Zw, Bq. */
#define DEFINE_PLAIN_SUMS(BITS)                                                             \
  static void plain_sums##BITS(const int32_t *acc, uint32_t *y, const int32_t *parameters,  \
                               const int32_t *side, int32_t width, int32_t rows,            \
                               int32_t stride) {                                            \
    for (int32_t r = 0; r < rows; r++, acc += width, side += width, y += stride / 4) {      \
      for (int32_t first = 0; first < width; first += BLOCK) {                              \
        const int32_t count = width - first < BLOCK ? width - first : BLOCK;                \
        int32_t phi[BLOCK];                                                                 \
        for (int32_t j = 0; j < count; j++) {                                               \
          phi[j] = acc[first + j] + parameters[3] * side[first + j] + parameters[4];        \
        }                                                                                   \
        encode(phi, y + first * BITS / 32, parameters[0], parameters[1], parameters[2], count, \
               BITS);                                                                       \
      }                                                                                     \
    }                                                                                       \
  }

/* One channel: the exact way for every shift; low shifts have their assembly. */
#ifdef MPQ_ASSEMBLY
#define STORE_LOW(BITS, acc, y, plain, side, width, rows, stride)                         \
  if (plain[1] >= 17 && plain[1] < 32 && is_normal(plain[0])) {                           \
    const int32_t low[5] = {plain[0], 32 - plain[1], plain[2], plain[3], plain[4]};       \
    mpq_store_sums_y##BITS##_low(acc, y, low, side, width, rows, stride);                 \
  } else
#else
#define STORE_LOW(BITS, acc, y, plain, side, width, rows, stride)
#endif

static inline int32_t is_normal(int32_t m0) {
  return m0 >= 0x40000000 || m0 < -0x3FFFFFFF || m0 == 0;
}

static inline int32_t shift_zw(const mpq_store_t *s, int32_t c, int32_t narrow) {
  return narrow ? mpq_shift_zw(s->m0, 0, c, narrow) : s->zeros[c];
}

#define DEFINE_CHANNEL(BITS)                                                                  \
  DEFINE_PLAIN_SUMS(BITS)                                                                     \
  static void channel##BITS(const mpq_store_t *s, int32_t c, int32_t width, int32_t stride,   \
                            int32_t narrow) {                                                 \
    const int32_t *acc = s->acc + c * s->pitch_bytes / 4;                                     \
    const int32_t bq = s->bq[c] - (s->centres[c] >> 8) * s->unit;                             \
    const int32_t half = shift_zw(s, c, narrow), m0 = mpq_m0(s->m0, 0, c, narrow);            \
    const int32_t d = (s->centres[c] & 0xFF) - (half >> 8);                                   \
    const int32_t plain[5] = {m0, half & 0xFF, s->zy, d, bq};                                 \
    uint32_t *y = s->y + c * s->line_bytes / 4;                                               \
    STORE_LOW(BITS, acc, y, plain, s->side, width, s->rows, stride)                           \
    plain_sums##BITS(acc, y, plain, s->side, width, s->rows, stride);                         \
  }

#ifdef MPQ_ASSEMBLY
static inline int32_t every_shift_is_high(const mpq_store_t *s, int32_t narrow) {
  for (int32_t c = 0; c < s->channels; c++) {
    const uint32_t shift = (uint32_t)shift_zw(s, c, narrow) & 0xFFu;
    if (shift - 32u > 20u) {
      return 0;
    }
  }
  return 1;
}
#define STORE_HIGH(BLOCK, s, narrow)     \
  if (every_shift_is_high(&s, narrow)) { \
    BLOCK(&s);                           \
    s.channels = 0;                      \
  }
#else
#define STORE_HIGH(BLOCK, s, narrow)
#endif

/* Rows that do not wrap around the ring, as one block. */
#define DEFINE_STORE_LANES(NAME, BLOCK, BITS, NARROW)                                           \
  void NAME(const int32_t *acc, const int32_t *side, void *y, int32_t ring, int32_t row,        \
            int32_t rows, int32_t width, int32_t zy, const int32_t *icn, int32_t channels,      \
            int32_t channel, int32_t line_words, int32_t pitch, int32_t unit) {                 \
    const int32_t *zeros = icn + 2 * channels;                                                  \
    const int32_t *centres = mpq_centres(icn, channels, NARROW);                                \
    const int32_t stride = channels * line_words * 4, words = (width * BITS + 31) / 32;         \
    mpq_store_t s;                                                                              \
    s.side = side, s.zy = zy, s.words = words, s.unit = unit * centres[(channels + 3) / 4 * 2 + 1]; \
    s.skip_bytes = 4 * (width - words * (32 / BITS)), s.y_skip_bytes = stride - 4 * words;      \
    s.line_bytes = 4 * line_words, s.pitch_bytes = 4 * pitch;                                   \
    for (row = row < ring ? row : row % ring; rows > 0; rows -= s.rows, row = 0) {              \
      s.rows = rows < ring - row ? rows : ring - row;                                           \
      s.channels = channels - channel < 4 ? channels - channel : 4;                             \
      s.acc = acc, s.y = (uint32_t *)y + (row * channels + channel) * line_words;               \
      s.bq = icn + channel, s.m0 = s.bq + channels;                                             \
      s.zeros = (const uint16_t *)zeros + channel;                                              \
      s.centres = (const uint16_t *)centres + channel;                                          \
      STORE_HIGH(BLOCK, s, NARROW)                                                              \
      for (int32_t c = 0; c < s.channels; c++) {                                                \
        channel##BITS(&s, c, width, stride, NARROW);                                            \
      }                                                                                         \
      acc += s.rows * width, s.side += s.rows * width;                                          \
    }                                                                                           \
  }

#define DEFINE_BOTH(BITS)                                                      \
  DEFINE_CHANNEL(BITS)                                                         \
  DEFINE_STORE_LANES(mpq_store_lanes##BITS, mpq_store_block_y##BITS, BITS, 0)  \
  DEFINE_STORE_LANES(mpq_store_lanes##BITS##_m16, mpq_store_block_y##BITS##_m16, BITS, 1)
DEFINE_BOTH(8)
DEFINE_BOTH(4)
DEFINE_BOTH(2)
