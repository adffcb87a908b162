/* Two channels of a strip of pixels, and the portable twins of mpq_core_smlad_k*.S and
 * mpq_expand_w*.S: same arguments, layouts, arithmetic. */
#include "mpq_micro_kernels.h"

static inline uint32_t minus_zero(const int32_t *icn, int32_t channels, int32_t channel,
                                  int32_t narrow) {
  const int32_t c = channel < channels ? channel : channels - 1;
  const uint32_t zero = (uint32_t)mpq_shift_zw(icn, channels, c, narrow) >> 8;
  return (0x10000u - zero) % 0x10000u * 0x10001u;
}

typedef void core_t(const void *, const void *, int32_t *, const int32_t *, int32_t, int32_t,
                    int32_t, int32_t);

static core_t *core_of(int32_t taps) {
  return taps % 16 == 0 ? mpq_core_smlad_k16 : mpq_core_smlad_k8;
}

#define DEFINE_CHANNELS(NAME, BITS, NARROW)                                                    \
  void NAME(const void *operands, const void *w, void *weights, int32_t *acc, const int32_t *icn, \
            int32_t channels, int32_t channel, int32_t pixels, int32_t k) {                    \
    const uint32_t zero0 = minus_zero(icn, channels, channel, NARROW);                         \
    const uint32_t zero1 = minus_zero(icn, channels, channel + 1, NARROW);                     \
    const int32_t even = (pixels + 1) & ~1;                                                    \
    for (int32_t done = 0; done < k; done += MPQ_K_CHUNK) {                                    \
      const int32_t taps = k - done < MPQ_K_CHUNK ? k - done : MPQ_K_CHUNK;                    \
      mpq_expand_w##BITS((const uint8_t *)w + done * BITS / 4, weights, taps, zero0, zero1);   \
      core_of(taps)((const uint32_t *)operands + 2 * done, weights, acc,                      \
                     done == 0 ? icn + channel : 0, even, taps, k, done);                      \
    }                                                                                          \
  }

#define DEFINE_BOTH(BITS)                        \
  DEFINE_CHANNELS(mpq_channels_w##BITS, BITS, 0) \
  DEFINE_CHANNELS(mpq_channels_w##BITS##_m16, BITS, 1)
DEFINE_BOTH(8)
DEFINE_BOTH(4)
DEFINE_BOTH(3)
DEFINE_BOTH(2)

#ifndef MPQ_ASSEMBLY

static inline int32_t low(uint32_t pair) { return (int16_t)(pair & 0xFFFFu); }
static inline int32_t high(uint32_t pair) { return (int16_t)(pair >> 16); }

/* `count` pixels side by side, which a compiler turns into vectors. Sums wrap as the instruction's:
 * the operands of pixels that fill a group are anything. */
static inline void group_sums(const uint32_t *x, const uint32_t *w, int32_t *acc,
                              const int32_t *start, int32_t pixels, int32_t k, int32_t count) {
  uint32_t first[4], second[4];
  for (int32_t j = 0; j < count; j++) {
    first[j] = (uint32_t)(start != 0 ? start[0] : acc[j]);
    second[j] = (uint32_t)(start != 0 ? start[1] : acc[pixels + j]);
  }
  for (int32_t pair = 0; pair < k / 2; pair++, x += count, w += 2) {
    for (int32_t j = 0; j < count; j++) {
      first[j] += (uint32_t)(low(x[j]) * low(w[0])) + (uint32_t)(high(x[j]) * high(w[0]));
      second[j] += (uint32_t)(low(x[j]) * low(w[1])) + (uint32_t)(high(x[j]) * high(w[1]));
    }
  }
  for (int32_t j = 0; j < count; j++) {
    acc[j] = (int32_t)first[j];
    acc[pixels + j] = (int32_t)second[j];
  }
}

static void core(const void *x, const void *w, int32_t *acc, const int32_t *start,
                 int32_t pixels, int32_t k, int32_t k_total, int32_t done) {
  const uint32_t *group = x;
  int32_t first = 0;
  for (; first + 4 <= pixels; first += 4, group += 2 * k_total) {
    group_sums(group, w, acc + first, start, pixels, k, 4);
  }
  if (first < pixels) {
    group_sums(group - done, w, acc + first, start, pixels, k, 2);
  }
}

#define DEFINE_CORE(UNROLL)                                                                     \
  void mpq_core_smlad_k##UNROLL(const void *x, const void *w, int32_t *acc,                     \
                                const int32_t *start, int32_t pixels, int32_t k,                \
                                int32_t k_total, int32_t done) {                                \
    core(x, w, acc, start, pixels, k, k_total, done);                                           \
  }

DEFINE_CORE(8)
DEFINE_CORE(16)

static uint32_t spread_add(uint32_t zero, uint32_t bytes) {
  const uint32_t low = zero + (bytes & 0xFFu), high = (zero >> 16) + (bytes >> 16 & 0xFFu);
  return (low & 0xFFFFu) | high << 16;
}

#define DEFINE_EXPAND(BITS)                                                                    \
  void mpq_expand_w##BITS(const void *w, void *out, int32_t k, uint32_t zero0, uint32_t zero1) { \
    const uint32_t *words = w, mask = 0x01010101u * ((1u << BITS) - 1u);                       \
    uint32_t *to = out;                                                                        \
    for (int32_t quad = 0; quad < k / 4; quad++, to += 4) {                                    \
      for (int32_t o = 0; o < 2; o++) {                                                        \
        const int32_t place = quad * 2 + o, per_word = 8 / BITS;                               \
        const uint32_t bytes = words[place / per_word] >> place % per_word * BITS & mask;      \
        const uint32_t zero = o ? zero1 : zero0;                                               \
        to[o] = spread_add(zero, bytes);                                                       \
        to[2 + o] = spread_add(zero, bytes >> 8);                                              \
      }                                                                                        \
    }                                                                                          \
  }

DEFINE_EXPAND(8)
DEFINE_EXPAND(4)
DEFINE_EXPAND(2)

/* Three words hold 16 taps of two channels: their low two bits, then their high bits. */
void mpq_expand_w3(const void *w, void *out, int32_t k, uint32_t zero0, uint32_t zero1) {
  const uint32_t *unit = w;
  uint32_t *to = out;
  for (int32_t quad = 0; quad < k / 4; quad++, to += 4) {
    for (int32_t o = 0; o < 2; o++) {
      const uint32_t low = unit[quad % 4 / 2] >> (quad % 2 * 4 + 2 * o) & 0x03030303u;
      const uint32_t high = unit[2] >> (quad % 4 * 2 + o) & 0x01010101u;
      const uint32_t bytes = low | high << 2, zero = o ? zero1 : zero0;
      to[o] = spread_add(zero, bytes);
      to[2 + o] = spread_add(zero, bytes >> 8);
    }
    unit += quad % 4 == 3 ? 3 : 0;
  }
}

#endif
