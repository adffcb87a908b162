/* Depthwise 3x3 over planar maps, all channels of a band of rows; see asm/depthwise.py and
 * asm/depthwise_lanes.py for the cores, asm/lines.py for the lines. */
#include "mpq_lanes.h"
#include "mpq_micro_kernels.h"

#include <string.h>

enum { PITCH = 512, ODD_LINE = 256 };                 /* bytes; kernels/planar.py */
enum { LINE_BYTES, ROW_BYTES, RIGHT, RIGHT_NEXT, ZX }; /* geometry of mpq_lines_* */
enum { KEEP = RIGHT, FILL };                          /* of mpq_lines_packed_* */
enum { TAP_ZX = 14 };                                 /* of mpq_dwhalves3x3* */
typedef struct {
  int32_t to, from, rows;
} run_t;

/* The rows [row, row + count) in at most two runs of slots of their ring. */
static int32_t runs_of(run_t *runs, int32_t row, int32_t count, int32_t ring) {
  int32_t found = 0;
  for (int32_t done = 0; done < count; found++) {
    const int32_t at = (row + done) % ring, room = ring - at, left = count - done;
    runs[found].to = done, runs[found].from = at;
    runs[found].rows = left < room ? left : room;
    done += runs[found].rows;
  }
  return found;
}

#define INLINE static inline __attribute__((always_inline))
/* Without a loop, so that taps are registers. */
#define NINE(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8)

/* The weights of a channel less their zero point. */
INLINE void taps_of(int32_t *taps, const void *w, uint32_t bits, uint32_t channel, int32_t zero) {
  const uint8_t *bytes = (const uint8_t *)w + channel * 9u * bits / 8u;
  const uint32_t bit = channel * 9u * bits & 7u, mask = (1u << bits) - 1u;
  if (bits == 8) {
#define TAP(I) taps[I] = bytes[I] - zero;
    NINE(TAP)
#undef TAP
    return;
  }
  uint32_t word, last;
  if (bits == 4) {
    /* 36 bits from bit 0 or 4 on; shifting twice keeps each below 32. */
    memcpy(&word, bytes, sizeof word);
    last = bytes[4] >> bit;
    word = word >> bit | (uint32_t)bytes[4] << 16 << (16u - bit);
  } else {
    word = (bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16) >> bit;
    last = word >> 16;
  }
#define TAP(I) taps[I] = (int32_t)((I < 8 ? word >> (I % 8u * bits) : last) & mask) - zero;
  NINE(TAP)
#undef TAP
}

static int32_t code_of(int32_t m0, int64_t sum, int32_t shift, int32_t zy, int32_t top) {
  const int64_t code = (m0 * sum >> shift) + zy;
  return code < 0 ? 0 : code > top ? top : (int32_t)code;
}

/* The code that all sums in [sum, sum + span] give (a dead channel), or -1. */
static __attribute__((noinline)) int32_t only_code(int32_t m0, int32_t sum, int32_t span, int32_t shift, int32_t zy,
                         int32_t top) {
  const int32_t code = code_of(m0, sum, shift, zy, top);
  return code == code_of(m0, (int64_t)sum + span, shift, zy, top) ? code : -1;
}

/* The parameters of a channel. */
typedef struct {
  int32_t bq, m0, shift, zero;
} channel_t;

INLINE channel_t channel_of(const int32_t *icn, int32_t channels, int32_t channel, int32_t narrow) {
  const int32_t half = mpq_shift_zw(icn, channels, channel, narrow);
  const channel_t found = {icn[channel], mpq_m0(icn, channels, channel, narrow), half & 0xFF,
                           half >> 8};
  return found;
}

/* For plain(), in the place of what the core would need. */
static int32_t not_for_the_core(uint32_t *to, const channel_t *c) {
  to[0] = (uint32_t)c->m0, to[1] = (uint32_t)c->shift, to[2] = (uint32_t)c->zero;
  return 0;
}

/* Ten words for mpq_dw3x3*: taps as W01, W12 of each window row, start, M0, shift - 32,
 * Zy << (shift - 32). False if the core cannot do this channel. */
INLINE int32_t planar_taps(uint32_t *to, const int32_t *taps, const channel_t *c, int32_t zy,
                           int32_t top) {
  const int32_t bq = c->bq, m0 = c->m0;
  int32_t shift = c->shift;
  /* A low shift becomes 32 by scaling the sum: 7 more bits fit halfwords and sums. */
  const int32_t up = shift < 32 && shift >= 25 && bq < 1 << 23 && bq > -(1 << 23) ? 32 - shift : 0;
#define ROW(KY)                                                                       \
  {                                                                                   \
    const uint32_t a = (uint32_t)taps[3 * KY] << up, b = (uint32_t)taps[3 * KY + 1] << up; \
    to[2 * KY] = (a & 0xFFFFu) | b << 16;                                             \
    to[2 * KY + 1] = (b & 0xFFFFu) | (uint32_t)taps[3 * KY + 2] << up << 16;          \
  }
  ROW(0) ROW(1) ROW(2)
#undef ROW
  to[6] = (uint32_t)bq << up;
  to[7] = (uint32_t)m0;
  shift += up;
  if (shift >= 32 && shift <= 52) {
    to[8] = (uint32_t)shift - 32u;
    to[9] = (uint32_t)zy << (shift - 32);
    return 1;
  }
  const int32_t span = 9 * 255 * 255;
  const int32_t code = only_code(m0, bq - span, 2 * span, shift - up, zy, top);
  if (code < 0) {
    return not_for_the_core(to, c);
  }
  memset(to, 0, 10 * sizeof *to);
  to[6] = (uint32_t)code << 2, to[7] = 1u << 30;
  return 1;
}

/* Five words after the taps of a core of lanes: the bias of a lane, which is the most that taps of at
 * least -zero subtract, and the requantization; span: the largest (2**x_bits - 1) * sum |w - Zw|. */
INLINE int32_t lane_constants(uint32_t *to, int32_t span, const channel_t *c, int32_t x_top,
                              int32_t zy, int32_t top) {
  const int32_t bias = 9 * c->zero * x_top;
  const int32_t up = 48 - c->shift, start = c->bq - bias;
  to[0] = (uint32_t)bias * 0x10001u;
  to[3] = (uint32_t)c->m0;
  to[4] = (uint32_t)zy << 16;
  if (up >= 0 && up <= 30) {
    const int32_t most = INT32_MAX >> up;
    if (start > -most && start < most - span) {
      to[1] = 1u << up, to[2] = (uint32_t)start << up;
      return 1;
    }
  }
  const int32_t code = only_code(c->m0, start, span, c->shift, zy, top);
  to[1] = 0, to[2] = (uint32_t)code << 18, to[3] = 1u << 30, to[4] = 0;
  return code >= 0;
}

/* Six words of taps for mpq_dwlanes3x3*. */
INLINE void lane_taps(uint32_t *to, const int32_t *taps, int32_t stride) {
#define ROW(KY)                                                                  \
  to[2 * KY] = (uint32_t)taps[3 * KY + 2] + ((uint32_t)taps[3 * KY + second] << 16); \
  to[2 * KY + 1] = (uint32_t)taps[3 * KY + 1 - second] << place;
  if (stride == 1) {
    enum { second = 1, place = 0 };
    ROW(0) ROW(1) ROW(2)
  } else {
    enum { second = 0, place = 16 };
    ROW(0) ROW(1) ROW(2)
  }
#undef ROW
}

#define DEFINE_TAPS(BITS, FORM, NARROW)                                                          \
  int32_t mpq_planar_taps_w##BITS##FORM(uint32_t *to, const void *w, int32_t stride,             \
                                        int32_t x_top, const int32_t *icn, int32_t channels,     \
                                        int32_t channel, int32_t zy, int32_t top) {              \
    const channel_t c = channel_of(icn, channels, channel, NARROW);                              \
    int32_t taps[9];                                                                             \
    (void)stride, (void)x_top;                                                                   \
    taps_of(taps, w, BITS, (uint32_t)channel, c.zero);                                           \
    return planar_taps(to, taps, &c, zy, top);                                                   \
  }                                                                                              \
  int32_t mpq_lane_taps_w##BITS##FORM(uint32_t *to, const void *w, int32_t stride,               \
                                      int32_t x_top, const int32_t *icn, int32_t channels,       \
                                      int32_t channel, int32_t zy, int32_t top) {                \
    const channel_t c = channel_of(icn, channels, channel, NARROW);                              \
    int32_t taps[9];                                                                             \
    taps_of(taps, w, BITS, (uint32_t)channel, c.zero);                                           \
    lane_taps(to, taps, stride);                                                                 \
    return lane_constants(to + 6, x_top * 9 * ((1 << BITS) - 1), &c, x_top, zy, top) ||          \
           not_for_the_core(to, &c);                                                             \
  }                                                                                              \
  int32_t mpq_halves_taps_w##BITS##FORM(uint32_t *to, const void *w, int32_t stride,             \
                                        int32_t x_top, const int32_t *icn, int32_t channels,     \
                                        int32_t channel, int32_t zy, int32_t top) {              \
    const channel_t c = channel_of(icn, channels, channel, NARROW);                              \
    (void)stride;                                                                                \
    taps_of((int32_t *)to, w, BITS, (uint32_t)channel, c.zero);                                  \
    return lane_constants(to + 9, x_top * 9 * ((1 << BITS) - 1), &c, x_top, zy, top) ||          \
           not_for_the_core(to, &c);                                                             \
  }
DEFINE_TAPS(8, , 0)
DEFINE_TAPS(4, , 0)
DEFINE_TAPS(2, , 0)
DEFINE_TAPS(8, _m16, 1)
DEFINE_TAPS(4, _m16, 1)
DEFINE_TAPS(2, _m16, 1)

/* One or two lines of packed codes; what lies right of the map in their last word is Zx. Loads
 * first: a store right after its load would wait. */
INLINE void copy_lines(uint32_t *to, const uint32_t *from, int32_t row_words, int32_t words,
                       int32_t rows, uint32_t keep, uint32_t fill) {
  const int32_t second = rows > 1 ? row_words : 0;
  uint32_t a[4], b[4];
  for (int32_t i = 0; i < words; i++) {
    a[i] = from[i], b[i] = from[second + i];
  }
  a[words - 1] = (a[words - 1] & keep) | fill, b[words - 1] = (b[words - 1] & keep) | fill;
  for (int32_t i = 0; i < words; i++) {
    to[i] = a[i];
    if (rows > 1) {
      to[PITCH / 4 + i] = b[i];
    }
  }
}

#define DEFINE_LINES_PACKED(WORDS)                                                               \
  void mpq_lines_packed_##WORDS(void *to, const void *line, int32_t rows,                        \
                                const int32_t *geometry) {                                       \
    const uint32_t keep = (uint32_t)geometry[KEEP], fill = (uint32_t)geometry[FILL];             \
    const int32_t row_words = geometry[ROW_BYTES] >> 2;                                          \
    const uint32_t *from = (const uint32_t *)line;                                               \
    uint32_t *word = (uint32_t *)to;                                                             \
    for (; rows > 1; rows -= 2, word += PITCH / 2, from += 2 * row_words) {                      \
      copy_lines(word, from, row_words, WORDS, 2, keep, fill);                                   \
    }                                                                                            \
    if (rows > 0) {                                                                              \
      copy_lines(word, from, row_words, WORDS, 1, keep, fill);                                   \
    }                                                                                            \
  }
DEFINE_LINES_PACKED(1)
DEFINE_LINES_PACKED(2)
DEFINE_LINES_PACKED(4)

/* Pixel j of a line, column -left being 0. */
static int32_t pixel(const uint8_t *line, int32_t j, const mpq_depthwise_t *d) {
  if (d->form == MPQ_PACKED) {
    const uint32_t *words = (const uint32_t *)(const void *)line;
    return j < d->left ? d->zx : (int32_t)mpq_code(words, j - d->left, d->x_bits);
  }
  uint16_t x;
  memcpy(&x, line + (d->form == MPQ_APART ? j / 2 * 2 + j % 2 * ODD_LINE : 2 * j), sizeof x);
  return x;
}

/* Every shift, from the lines: the way of the few channels that the cores cannot do. */
static void plain(const uint8_t *lines, uint32_t *y, const uint32_t *parameters,
                  const mpq_depthwise_t *d, const void *w, const int32_t *icn, int32_t channel,
                  int32_t rows) {
  const int32_t m0 = (int32_t)parameters[0], shift = (int32_t)parameters[1];
  const int32_t zero = (int32_t)parameters[2];
  int32_t taps[9];
  const int32_t codes = 32 / d->y_bits, top = (1 << d->y_bits) - 1;
  taps_of(taps, w, (uint32_t)d->w_bits, (uint32_t)channel, zero);
  for (int32_t r = 0; r < rows; r++, lines += d->stride * PITCH) {
    for (int32_t p = 0; p < d->y_width; p++) {
      int32_t sum = icn[channel];
      for (int32_t i = 0; i < 9; i++) {
        sum += taps[i] * pixel(lines + i / 3 * PITCH, p * d->stride + i % 3, d);
      }
      const int32_t code = code_of(m0, sum, shift, d->zy, top);
      uint32_t *word = y + r * d->channels * d->y_words + p / codes;
      *word = (p % codes ? *word : 0u) | (uint32_t)code << (p % codes * d->y_bits);
    }
  }
}

static void fill(uint8_t *lines, int32_t from, int32_t to, uint32_t word_of_zx) {
  for (uint32_t *word = (uint32_t *)(void *)(lines + from * PITCH),
                *end = (uint32_t *)(void *)(lines + to * PITCH);
       word < end; word++) {
    *word = word_of_zx;
  }
}

/* What mpq_lines_* need; returns a word of codes Zx as lines have them. */
static uint32_t geometry_of(int32_t *geometry, const mpq_depthwise_t *d) {
  const int32_t right = d->left + d->width, next = right + 1, apart = d->form == MPQ_APART;
  geometry[LINE_BYTES] = d->x_words * 4;
  geometry[ROW_BYTES] = d->channels * d->x_words * 4;
  geometry[ZX] = d->zx;
  if (d->form == MPQ_PACKED) {
    const int32_t used = (d->width * d->x_bits - 1) % 32 + 1; /* bits of the last word */
    const uint32_t word = (uint32_t)d->zx * (d->x_bits == 4 ? 0x11111111u : 0x55555555u);
    const uint32_t keep = 0xFFFFFFFFu >> (32 - used);
    geometry[KEEP] = (int32_t)keep, geometry[FILL] = (int32_t)(word & ~keep);
    return word;
  }
  geometry[RIGHT] = apart ? right / 2 * 2 + right % 2 * ODD_LINE : 2 * right;
  geometry[RIGHT_NEXT] = apart ? next / 2 * 2 + next % 2 * ODD_LINE : 2 * next;
  return (uint32_t)d->zx * 0x10001u;
}

void mpq_depthwise(const mpq_depthwise_t *d, void *lines, void *taps, const void *x,
                   int32_t x_ring, int32_t row, int32_t count, void *y, int32_t y_ring,
                   int32_t y_row, int32_t rows, const void *w, const int32_t *icn) {
  const int32_t above = row < 0 ? -row : 0, first = above < count ? above : count;
  const int32_t inside = row + count > d->height ? d->height - row : count;
  const int32_t end = inside > first ? inside : first;
  const int32_t x_row = d->channels * d->x_words, y_row_words = d->channels * d->y_words;
  int32_t geometry[5];
  const uint32_t border = geometry_of(geometry, d);
  run_t in[2], out[2];
  const int32_t ins = runs_of(in, row + first, end - first, x_ring);
  const int32_t outs = runs_of(out, y_row, rows, y_ring);
  const int32_t x_top = (1 << d->x_bits) - 1, top = (1 << d->y_bits) - 1;
  fill(lines, 0, first, border);
  fill(lines, end, count, border);
  ((uint32_t *)taps)[TAP_ZX] = (uint32_t)d->zx;
  for (int32_t channel = 0; channel < d->channels; channel++) {
    for (int32_t i = 0; i < ins; i++) {
      d->unpack((uint8_t *)lines + (first + in[i].to) * PITCH,
                (const uint32_t *)x + in[i].from * x_row + channel * d->x_words, in[i].rows,
                geometry);
    }
    const int32_t fast = d->prepare(taps, w, d->stride, x_top, icn, d->channels, channel, d->zy,
                                    top);
    for (int32_t i = 0; i < outs; i++) {
      const uint8_t *from = (const uint8_t *)lines + out[i].to * d->stride * PITCH;
      uint32_t *to = (uint32_t *)y + out[i].from * y_row_words + channel * d->y_words;
      if (fast) {
        d->core(from, to, taps, d->units, out[i].rows, y_row_words * 4);
      } else {
        plain(from, to, taps, d, w, icn, channel, out[i].rows);
      }
    }
  }
}
