/* Operands of mpq_core_smlad: pairs of taps as halfwords of a word.
 *
 *   [pixels / 4][k / 2][4]  then, when two pixels are left,  [k / 2][2]
 *
 * Pixels run on across the rows of a band, so that the core meets whole groups only. The words of
 * four pixels of two channels come from two words of bytes by six byte and halfword moves. */
#include "mpq_lanes.h"
#include "mpq_micro_kernels.h"

typedef struct {
  uint32_t *operands;
  int32_t pixels; /* even */
  int32_t stride; /* words of a group of four */
} target_t;

static inline uint32_t *slot(const target_t *t, int32_t pixel, int32_t pair) {
  uint32_t *group = t->operands + (pixel >> 2) * t->stride;
  if ((pixel & ~3) + 4 > t->pixels) {
    return group + pair * 2 + (pixel & 1);
  }
  return group + pair * 4 + (pixel & 3);
}

/* Bytes a (first tap) and b (second tap) of four pixels. */
static inline void put_four(uint32_t *to, uint32_t a, uint32_t b) {
  const uint32_t a02 = a & 0x00FF00FFu, a13 = a >> 8 & 0x00FF00FFu;
  const uint32_t b02 = b & 0x00FF00FFu, b13 = b >> 8 & 0x00FF00FFu;
  to[0] = (a02 & 0xFFFFu) | b02 << 16, to[1] = (a13 & 0xFFFFu) | b13 << 16;
  to[2] = a02 >> 16 | (b02 & 0xFFFF0000u), to[3] = a13 >> 16 | (b13 & 0xFFFF0000u);
}

/* Codes a (first tap) and b (second tap) of pixels `pixel` to `pixel` + 3; those from `end` on
 * belong to nobody. */
static inline void put_quad(const target_t *t, int32_t pixel, int32_t end, int32_t pair,
                            uint32_t a, uint32_t b) {
  if ((pixel & 3) == 0 && pixel + 4 <= end) {
    put_four(slot(t, pixel, pair), a, b);
    return;
  }
  uint32_t words[4];
  put_four(words, a, b);
  for (int32_t j = 0; j < 4 && pixel + j < end; j++) {
    *slot(t, pixel + j, pair) = words[j];
  }
}

static void clear_pairs(const target_t *t, int32_t first, int32_t k) {
  for (int32_t pair = first; pair < k / 2; pair++) {
    for (int32_t pixel = 0; pixel < t->pixels; pixel++) {
      *slot(t, pixel, pair) = 0;
    }
  }
}

static inline target_t target_of(void *operands, int32_t pixels, int32_t k) {
  const target_t t = {operands, (pixels + 1) & ~1, 2 * k};
  return t;
}

/* A window of one pixel, stride 1: whole words of codes, two channels at a time. */
#define DEFINE_PACK(BITS)                                                                       \
  void mpq_pack_pairs_pw##BITS(void *operands, const void *x, int32_t ring, int32_t row,        \
                               int32_t rows, int32_t column, int32_t width, int32_t channels,   \
                               int32_t line_words, int32_t k) {                                 \
    const target_t t = target_of(operands, rows * width, k);                                    \
    for (int32_t r = 0; r < rows; r++) {                                                        \
      const uint32_t *line =                                                                    \
          (const uint32_t *)x + (row + r) % ring * channels * line_words + column * BITS / 32;  \
      const int32_t first = r * width, end = first + width;                                     \
      const int32_t whole = first % 4 == 0 ? width / 4 : 0;                                     \
      for (int32_t c = 0; c < channels; c += 2, line += 2 * line_words) {                       \
        const uint32_t *next = c + 1 < channels ? line + line_words : line;                     \
        const uint32_t mask = c + 1 < channels ? 0xFFFFFFFFu : 0u;                              \
        uint32_t *to = slot(&t, first, c / 2);                                                  \
        int32_t quad = 0;                                                                       \
        for (; quad < whole; quad++, to += t.stride) {                                          \
          const uint32_t a = mpq_quad##BITS(line, quad), b = mpq_quad##BITS(next, quad) & mask; \
          put_four(to, a, b);                                                                   \
        }                                                                                       \
        for (; 4 * quad < width; quad++) {                                                      \
          put_quad(&t, first + 4 * quad, end, c / 2, mpq_quad##BITS(line, quad),                \
                   mpq_quad##BITS(next, quad) & mask);                                          \
        }                                                                                       \
      }                                                                                         \
    }                                                                                           \
    clear_pairs(&t, (channels + 1) / 2, k);                                                     \
  }

DEFINE_PACK(8)
DEFINE_PACK(4)
DEFINE_PACK(2)

/* One pixel of all channels, two a word: its place in a line is the same in all of them. */
static inline void put_channels(uint32_t *to, int32_t step, const uint32_t *from,
                                int32_t line_words, int32_t channels, int32_t shift,
                                uint32_t mask) {
  for (; channels >= 2; channels -= 2, from += 2 * line_words, to += step) {
    *to = (from[0] >> shift & mask) | (from[line_words] >> shift & mask) << 16;
  }
  if (channels) {
    *to = from[0] >> shift & mask;
  }
}

static inline void put_zeros(uint32_t *to, int32_t step, int32_t channels, uint32_t zx) {
  for (; channels >= 2; channels -= 2, to += step) {
    *to = zx | zx << 16;
  }
  if (channels) {
    *to = zx;
  }
}

#define INLINE static inline __attribute__((always_inline))

/* Codes 4i to 4i + 3 of a line as bytes. */
INLINE uint32_t quad_of(const uint32_t *line, int32_t i, int32_t bits) {
  return bits == 8 ? mpq_quad8(line, i) : bits == 4 ? mpq_quad4(line, i) : mpq_quad2(line, i);
}

/* The same; zx4 (four codes zx) beyond the ends of the line. */
INLINE uint32_t padded_quad(const uint32_t *line, int32_t i, int32_t in_width, uint32_t zx4,
                            int32_t bits) {
  const int32_t there = in_width - 4 * i;
  if (i < 0 || there <= 0) {
    return zx4;
  }
  const uint32_t mask = there < 4 ? (1u << 8 * there) - 1u : 0xFFFFFFFFu;
  return (quad_of(line, i, bits) & mask) | (zx4 & ~mask);
}

/* One tap of all channels (an even number) at stride 1: whole groups of pixels, the first of which
 * is code `start` of a line. Four pixels are bytes of two neighbouring words, or one word. */
INLINE void put_tap(uint32_t *to, int32_t stride, int32_t quads, const uint32_t *line,
                    int32_t line_words, int32_t channels, int32_t start, int32_t in_width,
                    uint32_t zx4, int32_t bits, int32_t turn) {
  const int32_t at = (start >> 2) + (turn > 0), inside = in_width / 4 - at;
  const int32_t whole = inside < quads ? inside : quads;
  for (int32_t c = 0; c < channels; c += 2, line += 2 * line_words, to += 4) {
    const uint32_t *next = line + line_words;
    uint32_t *group = to;
    uint32_t a0 = turn ? padded_quad(line, at - 1, in_width, zx4, bits) : 0;
    uint32_t b0 = turn ? padded_quad(next, at - 1, in_width, zx4, bits) : 0;
    for (int32_t i = at; i < at + whole; i++, group += stride) {
      const uint32_t a = quad_of(line, i, bits), b = quad_of(next, i, bits);
      put_four(group, turn ? a0 >> turn | a << (32 - turn) : a,
               turn ? b0 >> turn | b << (32 - turn) : b);
      a0 = a, b0 = b;
    }
    for (int32_t i = at + whole; i < at + quads; i++, group += stride) {
      const uint32_t a = padded_quad(line, i, in_width, zx4, bits);
      const uint32_t b = padded_quad(next, i, in_width, zx4, bits);
      put_four(group, turn ? a0 >> turn | a << (32 - turn) : a,
               turn ? b0 >> turn | b << (32 - turn) : b);
      a0 = a, b0 = b;
    }
  }
}

typedef void put_tap_t(uint32_t *to, int32_t stride, int32_t quads, const uint32_t *line,
                       int32_t line_words, int32_t channels, int32_t start, int32_t in_width,
                       uint32_t zx4);
/* The taps left of, in and right of the middle of a window of three. */
#define DEFINE_PUT_TAP(BITS, TURN)                                                              \
  static void put_tap##BITS##_##TURN(uint32_t *to, int32_t stride, int32_t quads,               \
                                     const uint32_t *line, int32_t line_words,                  \
                                     int32_t channels, int32_t start, int32_t in_width,         \
                                     uint32_t zx4) {                                            \
    put_tap(to, stride, quads, line, line_words, channels, start, in_width, zx4, BITS, TURN);   \
  }
#define DEFINE_PUT_TAPS(BITS) \
  DEFINE_PUT_TAP(BITS, 24) DEFINE_PUT_TAP(BITS, 0) DEFINE_PUT_TAP(BITS, 8)
DEFINE_PUT_TAPS(8)
DEFINE_PUT_TAPS(4)
DEFINE_PUT_TAPS(2)

/* By x bits and tap, for three taps that begin left of column 0 or 4 or ... */
static put_tap_t *put_tap_of(int32_t bits, int32_t kx) {
  static put_tap_t *const taps[3][3] = {{put_tap8_24, put_tap8_0, put_tap8_8},
                                        {put_tap4_24, put_tap4_0, put_tap4_8},
                                        {put_tap2_24, put_tap2_0, put_tap2_8}};
  return taps[bits == 8 ? 0 : bits == 4 ? 1 : 2][kx];
}

/* Any window and stride; taps beyond the map are code zx. Each tap starts at a pair of its own. */
void mpq_pack_pairs_window(void *operands, const void *x, int32_t ring, int32_t row, int32_t rows,
                           int32_t column, int32_t width, int32_t channels, int32_t line_words,
                           int32_t k, int32_t bits, int32_t in_height, int32_t in_width,
                           int32_t taps_y, int32_t taps_x, int32_t stride_y, int32_t stride_x,
                           int32_t top, int32_t left, int32_t zx) {
  const target_t t = target_of(operands, rows * width, k);
  const int32_t pairs = (channels + 1) / 2;
  const uint32_t mask = (1u << bits) - 1u;
  /* A tap of a short row is not worth its call. */
  const int32_t quads = taps_x == 3 && stride_x == 1 && left == 1 && width >= 16 && width % 4 == 0 &&
                        column % 4 == 0 && channels % 2 == 0;
  for (int32_t line = 0; line < rows * taps_y; line++) {
    const int32_t r = line / taps_y, ky = line % taps_y, in_y = (row + r) * stride_y - top + ky;
    const int32_t there = in_y >= 0 && in_y < in_height;
    const uint32_t *from = (const uint32_t *)x + (there ? in_y % ring : 0) * channels * line_words;
    for (int32_t kx = 0; kx < taps_x; kx++) {
      const int32_t pair = (ky * taps_x + kx) * pairs;
      int32_t in_x = column * stride_x - left + kx;
      if (there && quads) {
        put_tap_of(bits, kx)(slot(&t, r * width, pair), t.stride, width / 4, from, line_words,
                             channels, in_x, in_width, (uint32_t)zx * 0x01010101u);
        continue;
      }
      for (int32_t pixel = r * width; pixel < (r + 1) * width; pixel++, in_x += stride_x) {
        const int32_t step = (pixel & ~3) + 4 > t.pixels ? 2 : 4;
        uint32_t *to = slot(&t, pixel, pair);
        if (there && in_x >= 0 && in_x < in_width) {
          put_channels(to, step, from + in_x * bits / 32, line_words, channels, in_x * bits % 32,
                       mask);
        } else {
          put_zeros(to, step, channels, (uint32_t)zx);
        }
      }
    }
  }
  clear_pairs(&t, taps_y * taps_x * pairs, k);
}

static inline uint32_t bytes4(const uint8_t *bytes) {
  return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* One window row of an interleaved image: `span` bytes become pairs (0, 2), (1, 3), (4, 6), ...;
 * one byte left over is a pair with 0, two are two such pairs. */
static inline uint32_t *put_span(uint32_t *to, int32_t step, const uint8_t *bytes, int32_t span) {
  for (; span >= 4; span -= 4, bytes += 4, to += 2 * step) {
    const uint32_t word = bytes4(bytes);
    to[0] = word & 0x00FF00FFu;
    to[step] = word >> 8 & 0x00FF00FFu;
  }
  for (int32_t j = 0; j < span && j < 2; j++, to += step) {
    *to = bytes[j] | (j + 2 < span ? (uint32_t)bytes[j + 2] << 16 : 0u);
  }
  return to;
}

void mpq_pack_pairs_image(void *operands, const void *x, int32_t ring, int32_t row, int32_t rows,
                          int32_t column, int32_t width, int32_t channels, int32_t k,
                          int32_t in_height, int32_t in_width, int32_t taps_y, int32_t taps_x,
                          int32_t stride_y, int32_t stride_x, int32_t top, int32_t left,
                          int32_t zx) {
  const target_t t = target_of(operands, rows * width, k);
  const int32_t span = taps_x * channels;
  uint8_t edge[MPQ_MAX_SPAN];
  for (int32_t pixel = 0; pixel < rows * width; pixel++) {
    const int32_t y0 = (row + pixel / width) * stride_y - top;
    const int32_t x0 = (column + pixel % width) * stride_x - left;
    const int32_t step = (pixel & ~3) + 4 > t.pixels ? 2 : 4;
    uint32_t *to = slot(&t, pixel, 0);
    for (int32_t ky = 0; ky < taps_y; ky++) {
      const int32_t in_y = y0 + ky;
      const uint8_t *bytes = edge;
      if (in_y >= 0 && in_y < in_height && x0 >= 0 && x0 + taps_x <= in_width) {
        bytes = (const uint8_t *)x + (in_y % ring * in_width + x0) * channels;
      } else {
        for (int32_t i = 0; i < span; i++) {
          const int32_t in_x = x0 + i / channels;
          edge[i] = (uint8_t)zx;
          if (in_y >= 0 && in_y < in_height && in_x >= 0 && in_x < in_width) {
            edge[i] = ((const uint8_t *)x)[(in_y % ring * in_width + x0) * channels + i];
          }
        }
      }
      to = put_span(to, step, bytes, span);
    }
    for (uint32_t *end = slot(&t, pixel, k / 2); to < end; to += step) {
      *to = 0;
    }
  }
}
