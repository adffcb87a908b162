/* Portable twins of mpq_lines_*.S, mpq_dw3x3*.S, mpq_dwlanes3x3*.S and mpq_dwhalves3x3*.S: same
 * arguments, layouts, arithmetic. */
#include "mpq_lanes.h"
#include "mpq_micro_kernels.h"

#ifndef MPQ_ASSEMBLY

#include <string.h>

enum { PITCH = 512, ODD_LINE = 256 };
enum { LINE_BYTES, ROW_BYTES, RIGHT, RIGHT_NEXT, ZX };

static void unpack(uint8_t *to, const uint8_t *line, int32_t rows, const int32_t *geometry,
                   int32_t bits, int32_t left, int32_t apart) {
  const uint16_t zx = (uint16_t)geometry[ZX];
  for (int32_t r = 0; r < rows; r++, to += PITCH, line += geometry[ROW_BYTES]) {
    memcpy(to, &zx, sizeof zx); /* the column on the left, if there is one */
    for (int32_t i = 0; i < geometry[LINE_BYTES] * 8 / bits; i++) {
      const uint16_t code =
          (uint16_t)mpq_code((const uint32_t *)(const void *)line, i, bits);
      const int32_t j = i + left;
      memcpy(to + (apart ? j / 2 * 2 + j % 2 * ODD_LINE : 2 * j), &code, sizeof code);
    }
    memcpy(to + geometry[RIGHT], &zx, sizeof zx);
    memcpy(to + geometry[RIGHT_NEXT], &zx, sizeof zx);
  }
}

#define DEFINE_LINES(BITS, LEFT, PASS)                                                           \
  void mpq_lines_x##BITS##_l##LEFT##_##PASS(void *to, const void *line, int32_t rows,            \
                                            const int32_t *geometry) {                           \
    unpack(to, line, rows, geometry, BITS, LEFT, 0);                                             \
  }                                                                                              \
  void mpq_lines_x##BITS##_l##LEFT##_apart_##PASS(void *to, const void *line, int32_t rows,      \
                                                  const int32_t *geometry) {                     \
    unpack(to, line, rows, geometry, BITS, LEFT, 1);                                             \
  }
MPQ_FOR_LINES(DEFINE_LINES)

/* Wraps as the instructions do: outputs past the width are anything. */
static uint32_t word_at(const uint8_t *from) {
  uint32_t word;
  memcpy(&word, from, sizeof word);
  return word;
}

static int32_t low(uint32_t pair) { return (int16_t)(pair & 0xFFFFu); }
static int32_t high(uint32_t pair) { return (int16_t)(pair >> 16); }

static uint32_t clamped(int32_t code, int32_t bits) {
  const int32_t top = (1 << bits) - 1;
  return (uint32_t)(code < 0 ? 0 : code > top ? top : code);
}

static int32_t high_word(int32_t m0, uint32_t sum, uint32_t zero) {
  const uint64_t product = (uint64_t)((int64_t)m0 * (int32_t)sum);
  return (int32_t)(uint32_t)((product + ((uint64_t)zero << 32)) >> 32);
}

/* Stores the codes of a unit: whole words, of which the last may be partly filled. */
static void store(uint32_t *y, const uint32_t *codes, int32_t outputs, int32_t bits) {
  for (int32_t j = 0; j < outputs; j++) {
    const int32_t place = j * bits % 32;
    y[j * bits / 32] = (place ? y[j * bits / 32] : 0u) | codes[j] << place;
  }
}

static void smlad_unit(const uint8_t *lines, uint32_t *y, const uint32_t *taps, int32_t stride,
                       int32_t bits, int32_t outputs) {
  uint32_t codes[16];
  for (int32_t j = 0; j < outputs; j++) {
    uint32_t sum = taps[6];
    for (int32_t i = 0; i < 9; i++) {
      const int32_t at = j * stride + i % 3;
      const uint32_t pair = word_at(lines + i / 3 * PITCH + at / 2 * 4);
      const uint32_t two = taps[i / 3 * 2 + (i % 3 == 2)];
      sum += (uint32_t)((at % 2 ? high(pair) : low(pair)) * (i % 3 ? high(two) : low(two)));
    }
    codes[j] = clamped(high_word((int32_t)taps[7], sum, taps[9]) >> taps[8], bits);
  }
  store(y, codes, outputs, bits);
}

/* (a[g], a[g + 1]) += p * q, signed, 64 bits. */
static void multiply_add_long(uint32_t *a, uint32_t p, uint32_t q) {
  uint64_t sum = a[0] | (uint64_t)a[1] << 32;
  sum += (uint64_t)((int64_t)(int32_t)p * (int32_t)q);
  a[0] = (uint32_t)sum, a[1] = (uint32_t)(sum >> 32);
}

static void lanes_unit(const uint8_t *lines, uint32_t *y, const uint32_t *taps, int32_t stride,
                       int32_t bits, int32_t outputs) {
  uint32_t a[10], codes[16];
  const int32_t groups = (outputs + 1) / 2;
  for (int32_t g = 0; g <= groups; g++) {
    a[g] = taps[6];
  }
  for (int32_t ky = 0; ky < 3; ky++, lines += PITCH) {
    for (int32_t g = 0; g < groups; g++) {
      multiply_add_long(a + g, word_at(lines + 4 * g), taps[2 * ky]);
      if (stride == 1) {
        a[g + 1] += word_at(lines + 4 * g) * taps[2 * ky + 1];
      } else {
        multiply_add_long(a + g, word_at(lines + ODD_LINE + 4 * g), taps[2 * ky + 1]);
      }
    }
    a[groups] += word_at(lines + 4 * groups) * taps[2 * ky];
  }
  for (int32_t j = 0; j < outputs; j++) {
    const int32_t lane = stride == 1 ? j + 2 : j + 1;
    const uint32_t sum = (a[lane / 2] >> lane % 2 * 16 & 0xFFFFu) * taps[7] + taps[8];
    codes[j] = clamped(high_word((int32_t)taps[9], sum, taps[10]) >> 16, bits);
  }
  store(y, codes, outputs, bits);
}

static void halves_unit(const uint8_t *lines, uint32_t *y, const uint32_t *taps, int32_t x_bits,
                        int32_t left, int32_t bits, int32_t outputs) {
  uint32_t codes[14];
  for (int32_t j = 0; j < outputs; j++) {
    uint32_t lane = taps[9];
    for (int32_t i = 0; i < 9; i++) {
      const uint32_t *line = (const uint32_t *)(const void *)(lines + i / 3 * PITCH);
      const int32_t column = 2 * j + i % 3 - left;
      lane += (column < 0 ? taps[14] : mpq_code(line, column, x_bits)) * taps[i];
    }
    const uint32_t sum = (lane & 0xFFFFu) * taps[10] + taps[11];
    codes[j] = clamped(high_word((int32_t)taps[12], sum, taps[13]) >> 16, bits);
  }
  store(y, codes, outputs, bits);
}

#define DEFINE_CORE(STRIDE, BITS, OUTPUTS)                                                       \
  void mpq_dw3x3s##STRIDE##_y##BITS##_##OUTPUTS(const void *lines, void *y, const void *taps,    \
                                                int32_t units, int32_t rows,                     \
                                                int32_t row_bytes) {                             \
    for (int32_t i = 0; i < rows * units; i++) {                                                 \
      smlad_unit((const uint8_t *)lines + i / units * STRIDE * PITCH +                           \
                     i % units * (OUTPUTS * 2 * STRIDE),                                         \
                 (uint32_t *)y + i / units * (row_bytes / 4) +                                   \
                     i % units * ((OUTPUTS * BITS + 31) / 32),                                   \
                 taps, STRIDE, BITS, OUTPUTS);                                                   \
    }                                                                                            \
  }
#define DEFINE_LANES(STRIDE, BITS, OUTPUTS)                                                      \
  void mpq_dwlanes3x3s##STRIDE##_y##BITS##_##OUTPUTS(const void *lines, void *y,                 \
                                                     const void *taps, int32_t units,            \
                                                     int32_t rows, int32_t row_bytes) {          \
    for (int32_t i = 0; i < rows * units; i++) {                                                 \
      lanes_unit((const uint8_t *)lines + i / units * STRIDE * PITCH + i % units * OUTPUTS * 2,  \
                 (uint32_t *)y + i / units * (row_bytes / 4) +                                   \
                     i % units * ((OUTPUTS * BITS + 31) / 32),                                   \
                 taps, STRIDE, BITS, OUTPUTS);                                                   \
    }                                                                                            \
  }
#define DEFINE_HALVES(X, LEFT, BITS, OUTPUTS)                                                    \
  void mpq_dwhalves3x3s2_x##X##_l##LEFT##_y##BITS##_##OUTPUTS(const void *lines, void *y,        \
                                                              const void *taps, int32_t units,   \
                                                              int32_t rows, int32_t row_bytes) { \
    (void)units;                                                                                 \
    for (int32_t r = 0; r < rows; r++) {                                                         \
      halves_unit((const uint8_t *)lines + r * 2 * PITCH, (uint32_t *)y + r * (row_bytes / 4),   \
                  (const uint32_t *)taps, X, LEFT, BITS, OUTPUTS);                               \
    }                                                                                            \
  }
MPQ_FOR_CORES(DEFINE_CORE)
MPQ_FOR_LANES(DEFINE_LANES)
MPQ_FOR_HALVES(DEFINE_HALVES)

#endif
