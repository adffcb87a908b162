/* Pointwise convolutions in the lanes of UMLAL; see asm/umlal.py and lanes.py. */
#include "mpq_micro_kernels.h"

/* Centres: halfwords (c, b / unit) of whole blocks, then the taps of a segment and the number of
 * segments. Start values of the lanes of two channels: places of pixels in P as bits of `ones`. */
static inline void prepare(mpq_lanes_t *plan, int32_t pair, uint32_t centres, uint32_t ones,
                           int32_t place, uint32_t unit) {
  const uint64_t even = (uint64_t)ones * ((centres >> 8 & 0xFFu) * unit);
  const uint64_t odd = (uint64_t)ones * ((centres >> 24) * unit);
  const uint64_t start = even + (odd << place);
  plan->centre[pair] = (centres & 0xFFu) | (centres >> 16 & 0xFFu) << place;
  plan->minus[pair] = 0u - plan->centre[pair];
  plan->start[pair][0] = (uint32_t)start;
  plan->start[pair][1] = (uint32_t)(start >> 32);
}

#ifndef MPQ_ASSEMBLY

/* Places of two or three pixels in P, then of the second channel in Q, as four bytes. */
typedef struct {
  int32_t pixels, places[3], channel, bits;
} shape_t;

#define PART 128 /* taps that are taken apart at a time, so that a compiler multiplies vectors */

/* Every second value, or all of them. */
static inline void gather(uint32_t *to, const uint32_t *from, int32_t step, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    to[i] = from[i * step];
  }
}

/* Adds the products of each word of P and each pair's Q to found[pair * words + word]. */
static void multiply(const uint32_t *x, const uint32_t *q, int32_t words, int32_t taps,
                     uint64_t *found) {
  uint32_t p[2][PART], w[2][PART];
  for (int32_t first = 0; first < taps; first += PART) {
    const int32_t count = taps - first < PART ? taps - first : PART;
    for (int32_t word = 0; word < words; word++) {
      gather(p[word], x + first * words + word, words, count);
    }
    for (int32_t pair = 0; pair < 2; pair++) {
      gather(w[pair], q + 2 * first + pair, 2, count);
      for (int32_t word = 0; word < words; word++) {
        uint64_t sum = 0;
        for (int32_t i = 0; i < count; i++) {
          sum += (uint64_t)p[word][i] * w[pair][i];
        }
        found[pair * words + word] += sum;
      }
    }
  }
}

/* The value of the lane that begins at `bit`: no lane above reaches into it. */
static int32_t lane(uint64_t sum, int32_t bit, const shape_t *shape) {
  int32_t end = 64;
  for (int32_t i = 0; i < shape->pixels; i++) {
    for (int32_t j = 0; j < 2; j++) {
      const int32_t other = shape->places[i] + j * shape->channel;
      end = other > bit && other < end ? other : end;
    }
  }
  return (int32_t)(sum << (64 - end) >> (64 - end + bit));
}

/* Lanes as they are, in the places of the first two channels of the pixels of a group. */
static int32_t *kept(const mpq_lanes_t *plan, int32_t number, int32_t words) {
  return plan->acc + number / words * (plan->channel_bytes / 4) + number % words * 2;
}

static void put_lanes(const mpq_lanes_t *plan, uint64_t sum, int32_t pair, int32_t word,
                      const shape_t *shape, int32_t first) {
  for (int32_t i = 0; i < 2 * shape->pixels; i++) {
    const int32_t channel = i / shape->pixels, pixel = i % shape->pixels;
    int32_t *acc = plan->acc + (2 * pair + channel) * (plan->channel_bytes / 4) +
                   word * shape->pixels + pixel;
    *acc = (first ? 0 : *acc) + lane(sum, shape->places[pixel] + channel * shape->channel, shape);
  }
}

static void segment(const uint32_t *x, const uint32_t *q, int32_t taps, int32_t words,
                    const uint32_t *sums, const mpq_lanes_t *plan, const shape_t *shape,
                    int32_t first) {
  const int32_t wide = shape->places[1] > 20;
  uint64_t found[4];
  for (int32_t i = 0; i < 2 * words; i++) {
    const int32_t pair = i / words, word = i % words;
    const uint64_t second = wide ? (uint64_t)(sums[word] >> 16) << shape->places[1] : 0;
    const uint64_t total = (wide ? sums[word] & 0xFFFFu : sums[word]) + second;
    const uint64_t start = plan->start[pair][0] | (uint64_t)plan->start[pair][1] << 32;
    const int32_t *old = kept(plan, i, words);
    found[i] = plan->resume ? (uint32_t)old[0] | (uint64_t)(uint32_t)old[1] << 32
                            : start - plan->centre[pair] * total;
  }
  multiply(x, q, words, taps, found);
  for (int32_t i = 0; i < 2 * words; i++) {
    if (plan->suspend) {
      kept(plan, i, words)[0] = (int32_t)(uint32_t)found[i];
      kept(plan, i, words)[1] = (int32_t)(uint32_t)(found[i] >> 32);
    } else {
      put_lanes(plan, found[i], i / words, i % words, shape, first);
    }
  }
}

static void core(const void *operands, mpq_lanes_t *plan, int32_t words, const shape_t *shape) {
  const uint32_t *x = operands;
  for (; plan->groups > 0; plan->groups--) {
    const uint32_t *sums = plan->sums;
    for (const uint32_t *q = plan->weights; q < plan->end; q += plan->segment_bytes / 4) {
      const int32_t left = (int32_t)(plan->end - q) / 2, most = plan->segment_bytes / 8;
      const int32_t taps = left < most ? left : most;
      segment(x, q, taps, words, sums, plan, shape, plan->first && q == plan->weights);
      x += words * taps, sums += plan->pitch_bytes / 4;
    }
    x += plan->skip_bytes / 4;
    plan->acc += words * shape->pixels, plan->sums += words;
  }
}

#define DEFINE_CORE(NAME, ...)                                          \
  void mpq_core_##NAME##_a2(const void *operands, mpq_lanes_t *plan) { \
    const shape_t shape = {__VA_ARGS__};                                \
    core(operands, plan, 2, &shape);                                    \
  }                                                                     \
  void mpq_core_##NAME##_a1(const void *operands, mpq_lanes_t *plan) { \
    const shape_t shape = {__VA_ARGS__};                                \
    core(operands, plan, 1, &shape);                                    \
  }

DEFINE_CORE(u14w4, 2, {0, 14, 0}, 28, 4)
DEFINE_CORE(u15w2, 2, {0, 15, 0}, 30, 2)
DEFINE_CORE(u10w2, 3, {0, 10, 20}, 30, 2)
DEFINE_CORE(u14w8, 2, {0, 30, 0}, 16, 8)

static void expand(const uint32_t *w, uint32_t *q, int32_t taps, int32_t bits) {
  const uint32_t low = (1u << bits) - 1u, mask = low | low << (32 - bits);
  const int32_t per_word = 16 / bits;
  for (int32_t i = 0; i < 2 * taps; i++) {
    const int32_t k = i / 2, turn = k % per_word * (bits == 8 ? 8 : 2 * bits);
    const uint32_t word = w[k / per_word * 2 + i % 2];
    const uint32_t turned = turn ? word >> turn | word << (32 - turn) : word;
    q[i] = turned & (bits == 8 ? 0x00FF00FFu : mask);
  }
}

#define DEFINE_EXPAND(BITS)                                                  \
  void mpq_expand_lanes_w##BITS(const void *w, void *q, int32_t taps) {      \
    expand(w, q, taps, BITS);                                                \
  }
DEFINE_EXPAND(8)
DEFINE_EXPAND(4)
DEFINE_EXPAND(2)

#endif

#define DEFINE_CHANNELS(NAME, FORM, NARROW, PIXELS, ONES, PLACE, UNIT, BITS)                    \
  void mpq_channels_##NAME##FORM(const void *operands, const void *w, const uint32_t *totals,   \
                                 void *weights, int32_t *acc, const int32_t *icn,               \
                                 int32_t channels, int32_t channel, int32_t pixels, int32_t k,  \
                                 int32_t room) {                                                \
    const int32_t words = (pixels + (PIXELS) - 1) / (PIXELS);                                   \
    const int32_t *centres = mpq_centres(icn, channels, NARROW);                                \
    const int32_t *block = centres + channel / 2;                                               \
    const int32_t segment = centres[(channels + 3) / 4 * 2];                                    \
    const int32_t whole = segment >= k, chunk = whole ? room : room / segment * segment;        \
    mpq_lanes_t plan;                                                                           \
    prepare(&plan, 0, (uint32_t)block[0], ONES, PLACE, UNIT);                                   \
    prepare(&plan, 1, (uint32_t)block[1], ONES, PLACE, UNIT);                                   \
    plan.weights = weights;                                                                     \
    plan.segment_bytes = 8 * segment, plan.channel_bytes = 4 * words * (PIXELS);                \
    plan.pitch_bytes = 4 * words;                                                               \
    for (int32_t done = 0; done < k; done += chunk, totals += chunk / segment * words) {         \
      const int32_t taps = k - done < chunk ? k - done : chunk;                                 \
      plan.resume = whole && done > 0, plan.suspend = whole && done + taps < k;                 \
      const uint32_t *x = (const uint32_t *)operands + 2 * done;                                \
      mpq_expand_lanes_w##BITS((const uint8_t *)w + done * (BITS) / 2, weights, taps);          \
      plan.end = (uint32_t *)weights + 2 * taps, plan.first = whole || done == 0;               \
      plan.groups = words / 2, plan.acc = acc, plan.sums = totals;                              \
      plan.skip_bytes = 8 * (k - taps);                                                         \
      if (words > 1) {                                                                          \
        mpq_core_##NAME##_a2(x, &plan);                                                         \
      }                                                                                         \
      if (words % 2) {                                                                          \
        plan.groups = 1;                                                                        \
        mpq_core_##NAME##_a1(x + (words / 2) * 2 * k - done, &plan);                            \
      }                                                                                         \
    }                                                                                           \
  }

#define DEFINE_BOTH(NAME, ...)          \
  DEFINE_CHANNELS(NAME, , 0, __VA_ARGS__) \
  DEFINE_CHANNELS(NAME, _m16, 1, __VA_ARGS__)
DEFINE_BOTH(u14w4, 2, 1u | 1u << 14, 28, 64, 4)
DEFINE_BOTH(u15w2, 2, 1u | 1u << 15, 30, 128, 2)
DEFINE_BOTH(u10w2, 3, 1u | 1u << 10 | 1u << 20, 30, 4, 2)
DEFINE_BOTH(u14w8, 2, 1u | 1u << 30, 16, 64, 8)
