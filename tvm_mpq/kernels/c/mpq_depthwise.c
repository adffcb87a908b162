/* Depthwise 3x3 over planar maps, one channel at a time; see asm/depthwise.py. */
#include "mpq_lanes.h"
#include "mpq_micro_kernels.h"

/* Lines of halfwords h[j] = x[j - left], code zx beyond the map; left is 0 or 1. The border on the
 * right begins in the word `edge`: its first halfword stays when `left + width` is odd. */
enum { LINE_BYTES, ROW_BYTES, PITCH, EDGE, KEEP, FILL, ZX };

static void fill_lines(uint32_t *to, int32_t count, int32_t pitch, int32_t span, uint32_t zx) {
  for (int32_t r = 0; r < count; r++, to += pitch / 4) {
    for (int32_t pair = 0; 2 * pair < span; pair++) {
      to[pair] = zx * 0x10001u;
    }
  }
}

#ifndef MPQ_ASSEMBLY
#define DEFINE_LINES(BITS, LEFT)                                                                 \
  void mpq_lines_x##BITS##_l##LEFT(void *to, const void *line, int32_t rows,                     \
                                   const int32_t *geometry) {                                    \
    const uint32_t zx = (uint32_t)geometry[ZX];                                                  \
    const uint8_t *from = line;                                                                  \
    uint8_t *start = to;                                                                         \
    for (int32_t r = 0; r < rows; r++, start += geometry[PITCH], from += geometry[ROW_BYTES]) {  \
      uint32_t *words = (uint32_t *)(void *)start, last = zx & 0xFFFFu;                          \
      for (int32_t i = 0; i < geometry[LINE_BYTES] * 8 / BITS; i++) {                            \
        const uint32_t code = mpq_code((const uint32_t *)(const void *)from, i, BITS);           \
        if ((i + LEFT) % 2 != 0) {                                                               \
          words[(i + LEFT) / 2] = last | code << 16;                                             \
        }                                                                                        \
        last = code;                                                                             \
      }                                                                                          \
      if (LEFT) {                                                                                \
        words[geometry[LINE_BYTES] * 4 / BITS] = last;                                           \
      }                                                                                          \
      uint32_t *edge = words + geometry[EDGE] / 4;                                               \
      edge[0] = (edge[0] & (uint32_t)geometry[KEEP]) | (uint32_t)geometry[FILL];                 \
      edge[1] = zx;                                                                              \
    }                                                                                            \
  }
DEFINE_LINES(8, 0)
DEFINE_LINES(8, 1)
DEFINE_LINES(4, 0)
DEFINE_LINES(4, 1)
DEFINE_LINES(2, 0)
DEFINE_LINES(2, 1)
#endif

#define DEFINE_BAND(BITS, LEFT)                                                                  \
  void mpq_dw_lines##BITS##_l##LEFT(void *lines, const void *x, int32_t ring, int32_t row,       \
                                    int32_t count, int32_t channels, int32_t channel,            \
                                    int32_t line_words, int32_t height, int32_t width,           \
                                    int32_t span, int32_t zx, int32_t pitch) {                   \
    const int32_t both = zx * 0x10001, odd = (LEFT + width) % 2;                                 \
    const int32_t row_words = channels * line_words;                                             \
    const int32_t geometry[7] = {line_words * 4, row_words * 4, pitch,                           \
                                 (LEFT + width) / 2 * 4, odd ? 0xFFFF : 0,                       \
                                 odd ? zx * 0x10000 : both, both};                               \
    uint32_t *to = lines;                                                                        \
    while (count > 0) {                                                                          \
      const int32_t inside = row >= 0 && row < height;                                           \
      int32_t run = inside ? height - row : row < 0 ? -row : count;                              \
      if (inside && run > ring - row % ring) {                                                   \
        run = ring - row % ring;                                                                 \
      }                                                                                          \
      run = run < count ? run : count;                                                           \
      if (inside) {                                                                              \
        mpq_lines_x##BITS##_l##LEFT(                                                             \
            to, (const uint32_t *)x + row % ring * row_words + channel * line_words, run,        \
            geometry);                                                                           \
      } else {                                                                                   \
        fill_lines(to, run, pitch, span, (uint32_t)zx);                                          \
      }                                                                                          \
      to += run * (pitch / 4), row += run, count -= run;                                         \
    }                                                                                            \
  }
DEFINE_BAND(8, 0)
DEFINE_BAND(8, 1)
DEFINE_BAND(4, 0)
DEFINE_BAND(4, 1)
DEFINE_BAND(2, 0)
DEFINE_BAND(2, 1)

/* Taps w - Zw as W01, W12 of each window row, and the constants of the requantization. */
void mpq_dw_taps(void *taps, const void *w, int32_t bits, const int32_t *icn, int32_t channels,
                 int32_t channel, int32_t zy) {
  uint32_t *to = taps;
  const int32_t half = icn[2 * channels + channel / 2] >> (channel % 2 * 16);
  const int32_t bq = icn[channel];
  int32_t shift = half & 0xFF;
  /* A low shift becomes 32 by scaling the sum: 7 more bits fit halfwords and sums. */
  const int32_t up = shift < 32 && shift >= 25 && bq < 1 << 23 && bq > -(1 << 23) ? 32 - shift : 0;
  shift += up;
  const uint32_t zero = (uint32_t)half >> 8 & 0xFFu, mask = (1u << bits) - 1u;
  const uint32_t bit = (uint32_t)(channel * 9 * bits);
  const uint32_t *word = (const uint32_t *)w + (bit >> 5);
  /* 32 bits or more ahead in `stream`, as long as taps are left. */
  uint64_t stream = (uint64_t)*word++ >> (bit & 31u);
  int32_t ready = 32 - (int32_t)(bit & 31u);
  for (int32_t ky = 0; ky < 3; ky++) {
    uint32_t row[3];
    for (int32_t kx = 0; kx < 3; kx++) {
      if (ready < bits) {
        stream |= (uint64_t)*word++ << ready;
        ready += 32;
      }
      row[kx] = (((uint32_t)stream & mask) - zero) << up;
      stream >>= bits;
      ready -= bits;
    }
    to[2 * ky] = (row[0] & 0xFFFFu) | row[1] << 16;
    to[2 * ky + 1] = (row[1] & 0xFFFFu) | row[2] << 16;
  }
  const int32_t fast = shift >= 32 && shift <= 52;
  to[6] = (uint32_t)bq << up;
  to[7] = (uint32_t)icn[channels + channel];
  to[8] = (uint32_t)(shift - 32);
  to[9] = fast ? (uint32_t)zy << (shift - 32) : 0u;
}

static int32_t low(uint32_t pair) { return (int16_t)(pair & 0xFFFFu); }
static int32_t high(uint32_t pair) { return (int16_t)(pair >> 16); }

#define BLOCK 32 /* pixels: whole output words of every width, an even number of halfwords */

/* Sums of `count` pixels: the halfwords first, then every tap for all of them (as vectors). */
static inline void window_sums(const uint32_t *lines, const uint32_t *taps, int32_t *sums,
                               int32_t count, int32_t stride, int32_t pitch) {
  int16_t x[2 * BLOCK + 2];
  for (int32_t p = 0; p < count; p++) {
    sums[p] = (int32_t)taps[6];
  }
  for (int32_t ky = 0; ky < 3; ky++, lines += pitch / 4) {
    const int32_t t0 = low(taps[2 * ky]), t1 = high(taps[2 * ky]), t2 = high(taps[2 * ky + 1]);
    for (int32_t pair = 0; 2 * pair < (count - 1) * stride + 3; pair++) {
      x[2 * pair] = (int16_t)low(lines[pair]);
      x[2 * pair + 1] = (int16_t)high(lines[pair]);
    }
    for (int32_t p = 0; p < count; p++) {
      sums[p] += x[p * stride] * t0 + x[p * stride + 1] * t1 + x[p * stride + 2] * t2;
    }
  }
}

/* Every shift; the twin of the assembly as well. */
static inline void plain(const uint32_t *lines, uint32_t *y, const uint32_t *taps, int32_t width,
                         int32_t rows, int32_t row_words, int32_t stride, int32_t bits, int32_t zy,
                         int32_t pitch) {
  const int32_t per_word = 32 / bits, top = (1 << bits) - 1;
  const int32_t m0 = (int32_t)taps[7], shift = (int32_t)taps[8] + 32;
  int32_t sums[BLOCK];
  for (int32_t r = 0; r < rows; r++, lines += stride * pitch / 4, y += row_words) {
    for (int32_t first = 0; first < width; first += BLOCK) {
      const int32_t count = width - first < BLOCK ? width - first : BLOCK;
      window_sums(lines + first * stride / 2, taps, sums, count, stride, pitch);
      for (int32_t p = 0; p < count; p++) {
        const int64_t code = ((int64_t)m0 * sums[p] >> shift) + zy;
        sums[p] = (int32_t)(code < 0 ? 0 : code > top ? top : code);
      }
      for (int32_t p = 0; p < count; p += per_word) {
        uint32_t word = 0;
        for (int32_t j = 0; j < per_word && p + j < count; j++) {
          word |= (uint32_t)sums[p + j] << (j * bits);
        }
        y[(first + p) / per_word] = word;
      }
    }
  }
}

#ifdef MPQ_ASSEMBLY
#define RUN(STRIDE, BITS, PITCH)                                                       \
  mpq_dw3x3s##STRIDE##_y##BITS##_##PITCH(lines, to, taps, (width * BITS + 31) / 32, count, \
                                         channels *line_words * 4)
#else
#define RUN(STRIDE, BITS, PITCH) \
  plain(lines, to, taps, width, count, channels *line_words, STRIDE, BITS, zy, PITCH)
#endif

#define DEFINE_ROWS(STRIDE, BITS, PITCH)                                                         \
  void mpq_dw3x3s##STRIDE##_rows##BITS##_##PITCH(                                                \
      const void *lines, const void *taps, void *y, int32_t ring, int32_t row, int32_t rows,     \
      int32_t width, int32_t zy, int32_t channels, int32_t channel, int32_t line_words) {        \
    const int32_t shift = ((const int32_t *)taps)[8] + 32;                                       \
    while (rows > 0) {                                                                           \
      const int32_t at = row < ring ? row : row % ring, room = ring - at, count = rows < room ? rows : room;        \
      uint32_t *to = (uint32_t *)y + (at * channels + channel) * line_words;                     \
      if (shift >= 32 && shift <= 52) {                                                          \
        RUN(STRIDE, BITS, PITCH);                                                                \
      } else {                                                                                   \
        plain(lines, to, taps, width, count, channels *line_words, STRIDE, BITS, zy, PITCH);     \
      }                                                                                          \
      lines = (const uint8_t *)lines + count * STRIDE * PITCH;                                   \
      row += count, rows -= count;                                                               \
    }                                                                                            \
  }

DEFINE_ROWS(1, 8, 256)
DEFINE_ROWS(1, 4, 256)
DEFINE_ROWS(1, 2, 256)
DEFINE_ROWS(2, 8, 256)
DEFINE_ROWS(2, 4, 256)
DEFINE_ROWS(2, 2, 256)
DEFINE_ROWS(1, 8, 1024)
DEFINE_ROWS(1, 4, 1024)
DEFINE_ROWS(1, 2, 1024)
DEFINE_ROWS(2, 8, 1024)
DEFINE_ROWS(2, 4, 1024)
DEFINE_ROWS(2, 2, 1024)
