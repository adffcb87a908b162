/* Pointwise convolutions in the lanes of UMLAL; see asm/umlal.py. */
#include "mpq_lanes.h"
#include "mpq_micro_kernels.h"

/* Words P of a strip: first groups of three, then of two, then one; [k][words] inside a group. */
typedef struct {
  int32_t threes, twos, ones;
} groups_t;

static inline groups_t groups_of(int32_t words) {
  groups_t g = {words / 3, 0, 0};
  const int32_t left = words % 3;
  if (left == 2) {
    g.twos = 1;
  } else if (left == 1 && g.threes > 0) {
    g.threes--, g.twos = 2;
  } else {
    g.ones = left;
  }
  return g;
}

static inline uint32_t *place(uint32_t *operands, groups_t g, int32_t k, int32_t word,
                              int32_t *step) {
  if (word < 3 * g.threes) {
    *step = 3;
    return operands + word / 3 * 3 * k + word % 3;
  }
  const int32_t rest = word - 3 * g.threes;
  operands += 3 * g.threes * k;
  *step = rest < 2 * g.twos ? 2 : 1;
  return operands + rest / *step * *step * k + rest % *step;
}

/* Where one word of operands comes from: its pixels lie side by side in one word of a line, or each
 * has a word and a shift of its own. */
typedef struct {
  const uint32_t *words[3];
  int32_t shifts[3];
  int32_t together;
} source_t;

/* All taps of one word; the sums of its lanes on the way, `run` taps before a lane is full. */
static inline void fill(uint32_t *to, int32_t step, int32_t *sums, const source_t *from,
                        int32_t channels, int32_t line_words, int32_t k, int32_t bits, int32_t i,
                        int32_t s, int32_t run) {
  const uint32_t mask = (1u << bits) - 1u, lane = (1u << s) - 1u;
  int32_t total[3] = {0, 0, 0}, c = 0;
  while (c < channels) {
    const int32_t end = channels - c < run ? channels : c + run;
    uint32_t sum = 0;
    if (from->together) {
      const uint32_t *x = from->words[0] + c * line_words;
      const int32_t shift = from->shifts[0];
      for (; c < end; c++, x += line_words, to += step) {
        const uint32_t codes = *x >> shift;
        uint32_t word = (codes & mask) | (codes & mask << bits) << (s - bits);
        word |= i == 3 ? (codes & mask << (2 * bits)) << (2 * (s - bits)) : 0u;
        *to = word;
        sum += word;
      }
    } else {
      for (; c < end; c++, to += step) {
        uint32_t word = 0;
        for (int32_t j = 0; j < i; j++) {
          word |= (from->words[j][c * line_words] >> from->shifts[j] & mask) << (j * s);
        }
        *to = word;
        sum += word;
      }
    }
    for (int32_t j = 0; j < i; j++) {
      total[j] += (int32_t)(j == i - 1 ? sum >> (j * s) : sum >> (j * s) & lane);
    }
  }
  for (; c < k; c++, to += step) {
    *to = 0;
  }
  for (int32_t j = 0; j < i; j++) {
    sums[j] = total[j];
  }
}

#define DEFINE_PACK(BITS, NAME, I, S)                                                           \
  void mpq_pack_##NAME##_x##BITS(void *operands, int32_t *sums, const void *x, int32_t ring,    \
                                 int32_t row, int32_t rows, int32_t column, int32_t width,      \
                                 int32_t channels, int32_t line_words, int32_t k) {             \
    const int32_t pixels = rows * width, words = (pixels + (I) - 1) / (I);                      \
    const groups_t g = groups_of(words);                                                        \
    const uint32_t *line = x;                                                                   \
    int32_t at = 0, r = 0; /* the next pixel: its column and row in the strip */                \
    for (int32_t word = 0; word < words; word++) {                                              \
      source_t from;                                                                            \
      int32_t step;                                                                             \
      for (int32_t j = 0; j < (I); j++) {                                                       \
        if (at == 0 || j + word == 0) {                                                         \
          line = (const uint32_t *)x + (row + r) % ring * channels * line_words;                \
        }                                                                                       \
        const int32_t bit = (column + at) * (BITS);                                             \
        from.words[j] = line + bit / 32;                                                        \
        from.shifts[j] = bit % 32;                                                              \
        /* Pixels after the last are copies of it: they belong to nobody. */                    \
        if ((I) * word + j + 1 < pixels && ++at == width) {                                     \
          at = 0, r++;                                                                          \
        }                                                                                       \
      }                                                                                         \
      from.together = from.words[0] == from.words[(I) - 1] &&                                   \
                      from.shifts[(I) - 1] == from.shifts[0] + ((I) - 1) * (BITS);              \
      uint32_t *to = place(operands, g, k, word, &step);                                        \
      fill(to, step, sums + (I) * word, &from, channels, line_words, k, BITS, I, S,             \
           ((1 << (S)) - 1) / ((1 << (BITS)) - 1));                                             \
    }                                                                                           \
  }

DEFINE_PACK(4, u14w4, 2, 14)
DEFINE_PACK(2, u14w4, 2, 14)
DEFINE_PACK(8, u15w2, 2, 15)
DEFINE_PACK(4, u10w2, 3, 10)
DEFINE_PACK(2, u10w2, 3, 10)

/* Bq - Zw * sum x, for two channels at once. */
static void start(int32_t *acc, const int32_t *sums, const int32_t *icn, int32_t channels,
                  int32_t channel, int32_t pixels) {
  const int32_t c = channel, d = channel + 1 < channels ? channel + 1 : channel;
  const int32_t zero0 = icn[2 * channels + c / 2] >> (c % 2 * 16 + 8) & 0xFF, bq0 = icn[c];
  const int32_t zero1 = icn[2 * channels + d / 2] >> (d % 2 * 16 + 8) & 0xFF, bq1 = icn[d];
  int32_t *restrict first = acc, *restrict second = acc + pixels;
  int32_t p = 0;
  for (; p + 2 <= pixels; p += 2) {
    const int32_t even = sums[p], odd = sums[p + 1];
    first[p] = bq0 - zero0 * even;
    first[p + 1] = bq0 - zero0 * odd;
    second[p] = bq1 - zero1 * even;
    second[p + 1] = bq1 - zero1 * odd;
  }
  if (p < pixels) {
    first[p] = bq0 - zero0 * sums[p];
    second[p] = bq1 - zero1 * sums[p];
  }
}

#ifndef MPQ_ASSEMBLY
#define CHUNK 256 /* taps whose words Q are cut out at a time */

/* Words Q of taps [first, first + count). */
static inline void cut_weights(uint32_t *q, const uint32_t *w, int32_t first, int32_t count,
                               int32_t bits) {
  const uint32_t low = (1u << bits) - 1u, mask = low | low << (32 - bits);
  for (int32_t i = 0; i < count; i++) {
    const int32_t turn = (first + i) % (16 / bits) * 2 * bits;
    const uint32_t codes = w[(first + i) * bits / 16];
    q[i] = (codes >> turn | codes << ((32 - turn) & 31)) & mask;
  }
}

/* Taps in any order give the same lanes, so a compiler may add several at once. */
static inline void core(const uint32_t *x, const uint32_t *w, int32_t *acc, int32_t groups,
                        int32_t channel_bytes, int32_t weight_bytes, int32_t segment_bytes,
                        int32_t size, int32_t pixels, int32_t s, int32_t bits) {
  const int32_t k = weight_bytes * 4 / bits, segment = segment_bytes * 4 / bits;
  uint32_t q[CHUNK];
  for (int32_t first = 0, count; first < k; first += count) {
    const int32_t room = segment - first % segment < CHUNK ? segment - first % segment : CHUNK;
    count = k - first < room ? k - first : room;
    cut_weights(q, w, first, count, bits);
    for (int32_t word = 0; word < groups * size; word++) {
      const uint32_t *from = x + (word / size * k + first) * size + word % size;
      uint64_t sum = 0;
      for (int32_t i = 0; i < count; i++) {
        sum += (uint64_t)from[i * size] * q[i];
      }
      for (int32_t lane = 0; lane < 2 * pixels; lane++) {
        acc[word * pixels + lane / pixels * (channel_bytes / 4) + lane % pixels] +=
            (int32_t)(sum >> (lane * s) & ((1u << s) - 1u));
      }
    }
  }
}
#define DEFINE_CORE(NAME, I, S, BITS, SIZE)                                                     \
  void mpq_core_##NAME##_a##SIZE(const void *x, const void *w, int32_t *acc, int32_t groups,    \
                                 int32_t channel_bytes, int32_t weight_bytes,                   \
                                 int32_t segment_bytes) {                                       \
    core(x, w, acc, groups, channel_bytes, weight_bytes, segment_bytes, SIZE, I, S, BITS);      \
  }
#else
#define DEFINE_CORE(NAME, I, S, BITS, SIZE)
#endif

#define DEFINE_CHANNELS(NAME, I, S, BITS)                                                       \
  DEFINE_CORE(NAME, I, S, BITS, 3)                                                              \
  DEFINE_CORE(NAME, I, S, BITS, 2)                                                              \
  DEFINE_CORE(NAME, I, S, BITS, 1)                                                              \
  void mpq_channels_##NAME(const void *operands, const void *w, const int32_t *sums,            \
                           int32_t *acc, const int32_t *icn, int32_t channels, int32_t channel, \
                           int32_t pixels, int32_t k) {                                         \
    const int32_t words = (pixels + (I) - 1) / (I), segment = icn[2 * channels + (channels + 1) / 2]; \
    const groups_t g = groups_of(words);                                                        \
    const int32_t stride = words * (I) * 4, bytes = k * (BITS) / 4, run = segment * (BITS) / 4; \
    const uint32_t *x = operands;                                                               \
    start(acc, sums, icn, channels, channel, words * (I));                                      \
    if (g.threes) {                                                                             \
      mpq_core_##NAME##_a3(x, w, acc, g.threes, stride, bytes, run);                            \
      x += 3 * g.threes * k, acc += 3 * (I) * g.threes;                                         \
    }                                                                                           \
    if (g.twos) {                                                                               \
      mpq_core_##NAME##_a2(x, w, acc, g.twos, stride, bytes, run);                              \
    }                                                                                           \
    if (g.ones) {                                                                               \
      mpq_core_##NAME##_a1(x, w, acc, 1, stride, bytes, run);                                   \
    }                                                                                           \
  }

DEFINE_CHANNELS(u14w4, 2, 14, 4)
DEFINE_CHANNELS(u15w2, 2, 15, 2)
DEFINE_CHANNELS(u10w2, 3, 10, 2)
