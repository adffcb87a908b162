/* Operands P of mpq_core_*_a*, see asm/umlal.py: [words / 2][k][2], then [k][1] for an odd word.
 *
 * On the way the sums of words P of each segment, which start the lanes, and the sum of x of each
 * pixel. The pixels of a group of two words lie in at most two memory words of a channel, unless
 * rows are narrow: then every pixel is fetched by itself. */
#include "mpq_micro_kernels.h"

/* The shape of a word is constant in each packing function; its loops must see it. */
#define INLINE static inline __attribute__((always_inline))

typedef struct {
  int32_t channels, line_words, k, words, segment;
} channels_t;

/* Codes side by side: those of `first` from bit `shift` on, and those of `second` above them. */
typedef struct {
  const uint32_t *first, *second;
  uint32_t shift, first_mask, place;
  const uint32_t *words[6]; /* and each pixel, */
  uint32_t shifts[6];       /* where two words are not enough */
  int32_t apart;
} source_t;

/* The next `count` pixels of a strip; those after the last are copies of it and belong to nobody. */
typedef struct {
  const uint32_t *x;
  int32_t ring, row, rows, column, width, line, at, r; /* line: words of a row of the map */
} cursor_t;

static source_t next_source(cursor_t *c, int32_t count, int32_t bits) {
  source_t s = {0};
  int32_t pieces = 0, start = 0;
  for (int32_t j = 0; j < count; j++) {
    const int32_t bit = (c->column + c->at) * bits;
    s.words[j] = c->x + (c->row + c->r) % c->ring * c->line + bit / 32;
    s.shifts[j] = (uint32_t)bit % 32u;
    if (j == 0 || s.words[j] != s.words[j - 1] || s.shifts[j] != s.shifts[j - 1] + (uint32_t)bits) {
      pieces++;
      start = pieces == 2 ? j : start;
    }
    if (c->at + 1 < c->width) {
      c->at++;
    } else if (c->r + 1 < c->rows) {
      c->at = 0, c->r++;
    }
  }
  const int32_t size = start > 0 ? start * bits : count * bits;
  s.first = s.words[0], s.shift = s.shifts[0];
  s.first_mask = size < 32 ? (1u << size) - 1u : 0xFFFFFFFFu;
  s.second = s.words[start];
  if (start > 0) {
    s.place = (uint32_t)size;
  }
  /* The second piece must begin a word, so that its codes only move up. */
  s.apart = pieces > 2 || (pieces == 2 && s.shifts[start] != 0);
  return s;
}

/* Bits of a code, pixels of a word P, their places in it and in the words that are summed. */
typedef struct {
  uint32_t bits, pixels, places[3], sum_places[3];
} shape_t;

/* The lowest codes at `places`. */
INLINE uint32_t spread(uint32_t codes, const shape_t *shape, const uint32_t *places) {
  const uint32_t bits = shape->bits, mask = (1u << bits) - 1u;
  uint32_t word = (codes & mask) | (codes & mask << bits) << (places[1] - bits);
  if (shape->pixels == 3) {
    word |= (codes & mask << (2 * bits)) << (places[2] - 2 * bits);
  }
  return word;
}

/* Lanes of a sum of words, to the sums of their pixels and to the sum of words P; of pixels far
 * apart, which would take two words, to a halfword each. */
INLINE void add_lanes(int32_t *sums, uint32_t *total, uint32_t sum, const shape_t *shape) {
  for (uint32_t j = 0; j < shape->pixels; j++) {
    const uint32_t above = j + 1 < shape->pixels ? 32u - shape->sum_places[j + 1] : 0u;
    const uint32_t lane = sum << above >> (above + shape->sum_places[j]);
    sums[j] += (int32_t)lane;
    *total += lane << (shape->places[1] > 20 ? 16 * j : shape->places[j]);
  }
}

typedef uint64_t fill_t(uint32_t *, const source_t *, int32_t, int32_t, int32_t);

/* `taps` taps of `count` words, and the sums of these words (at sum_places), the second above the
 * first. */
INLINE uint64_t fill(uint32_t *to, const source_t *from, int32_t offset, int32_t step,
                     int32_t taps, uint32_t count, const shape_t *shape, int32_t way) {
  const uint32_t *first = from->first + offset, *second = from->second + offset;
  const uint32_t shift = from->shift, first_mask = from->first_mask, place = from->place;
  const uint32_t apart = shape->sum_places[1] != shape->places[1], bits = shape->bits;
  uint32_t sum0 = 0, sum1 = 0;
  for (uint32_t *const end = to + taps * (int32_t)count; to != end; to += count) {
    uint32_t codes = 0;
    if (way == 2) {
      for (uint32_t j = 0; j < count * shape->pixels; j++) {
        codes |= (from->words[j][offset] >> from->shifts[j] & ((1u << bits) - 1u)) << (j * bits);
      }
      offset += step;
    } else {
      codes = *first >> shift;
      first += step;
    }
    if (way == 1) {
      codes = (codes & first_mask) | *second << place;
      second += step;
    }
    to[0] = spread(codes, shape, shape->places);
    sum0 += apart ? spread(codes, shape, shape->sum_places) : to[0];
    if (count == 2) {
      const uint32_t upper = codes >> (shape->pixels * bits);
      to[1] = spread(upper, shape, shape->places);
      sum1 += apart ? spread(upper, shape, shape->sum_places) : to[1];
    }
  }
  return sum0 | (uint64_t)sum1 << 32;
}

/* All taps of `count` words; side: sums of x of their pixels; totals: [segment][words]. */
INLINE void group(uint32_t *to, uint32_t count, int32_t *side, uint32_t *totals,
                  const source_t *from, const channels_t *x, const shape_t *shape, fill_t *fill_) {
  const int32_t run = ((1 << shape->sum_places[1]) - 1) / ((1 << shape->bits) - 1);
  int32_t sums[6] = {0, 0, 0, 0, 0, 0};
  for (int32_t tap = 0; tap < x->k; totals += x->words) {
    const int32_t end = x->k - tap < x->segment ? x->k : tap + x->segment;
    uint32_t total[2] = {0, 0};
    while (tap < end) {
      const int32_t stop = end - tap < run ? end : tap + run;
      const int32_t filled = stop < x->channels ? stop : x->channels;
      if (tap < filled) {
        const uint64_t sum = fill_(to, from, tap * x->line_words, x->line_words, filled - tap);
        add_lanes(sums, total, (uint32_t)sum, shape);
        add_lanes(sums + shape->pixels, total + 1, (uint32_t)(sum >> 32), shape);
        to += (filled - tap) * (int32_t)count, tap = filled;
      }
      for (; tap < stop; tap++, to += count) {
        to[0] = 0;
        to[count - 1] = 0;
      }
    }
    for (uint32_t word = 0; word < count; word++) {
      totals[word] = total[word];
    }
  }
  for (uint32_t j = 0; j < count * shape->pixels; j++) {
    side[j] = sums[j];
  }
}

/* A loop of its own for one piece, for two, and for pixels apart. */
#define DEFINE_FILL(NAME, BITS, COUNT, ...)                                                     \
  static __attribute__((noinline)) uint64_t NAME##_x##BITS##_##COUNT(                           \
      uint32_t *to, const source_t *from, int32_t offset, int32_t step, int32_t taps) {         \
    const shape_t shape = __VA_ARGS__;                                                          \
    if (from->apart) {                                                                          \
      return fill(to, from, offset, step, taps, COUNT, &shape, 2);                              \
    }                                                                                           \
    if (from->first != from->second) {                                                          \
      return fill(to, from, offset, step, taps, COUNT, &shape, 1);                              \
    }                                                                                           \
    return fill(to, from, offset, step, taps, COUNT, &shape, 0);                                \
  }

#define SHAPE(BITS, PIXELS, PLACE1, PLACE2, SUM_PLACE1)                                         \
  {BITS, PIXELS, {0, PLACE1, PLACE2}, {0, SUM_PLACE1, PLACE2}}

#define DEFINE_PACK(NAME, BITS, PIXELS, PLACE1, PLACE2, SUM_PLACE1)                             \
  DEFINE_FILL(NAME, BITS, 1, SHAPE(BITS, PIXELS, PLACE1, PLACE2, SUM_PLACE1))                   \
  DEFINE_FILL(NAME, BITS, 2, SHAPE(BITS, PIXELS, PLACE1, PLACE2, SUM_PLACE1))                   \
  void mpq_pack_##NAME##_x##BITS(void *operands, int32_t *side, uint32_t *totals,               \
                                 const int32_t *segment, const void *map, int32_t ring,         \
                                 int32_t row, int32_t rows, int32_t column, int32_t width,      \
                                 int32_t channels, int32_t line_words, int32_t k) {             \
    const shape_t shape = SHAPE(BITS, PIXELS, PLACE1, PLACE2, SUM_PLACE1);                      \
    const int32_t words = (rows * width + (PIXELS) - 1) / (PIXELS);                             \
    const channels_t x = {channels, line_words, k, words, *segment};                         \
    cursor_t cursor = {map, ring, row, rows, column, width, channels * line_words, 0, 0};       \
    uint32_t *to = operands;                                                                    \
    for (int32_t word = 0; word < words; word += 2) {                                           \
      const int32_t count = words - word > 1 ? 2 : 1;                                           \
      const source_t from = next_source(&cursor, count * (PIXELS), BITS);                       \
      if (count == 2) {                                                                         \
        group(to, 2, side, totals, &from, &x, &shape, NAME##_x##BITS##_2);                      \
      } else {                                                                                  \
        group(to, 1, side, totals, &from, &x, &shape, NAME##_x##BITS##_1);                      \
      }                                                                                         \
      to += count * k, side += count * (PIXELS), totals += count;                               \
    }                                                                                           \
  }

DEFINE_PACK(u14w4, 4, 2, 14, 0, 14)
DEFINE_PACK(u14w4, 2, 2, 14, 0, 14)
DEFINE_PACK(u15w2, 8, 2, 15, 0, 15)
DEFINE_PACK(u15w2, 4, 2, 15, 0, 15)
DEFINE_PACK(u10w2, 4, 3, 10, 20, 10)
DEFINE_PACK(u10w2, 2, 3, 10, 20, 10)
DEFINE_PACK(u14w8, 2, 2, 30, 0, 15)
