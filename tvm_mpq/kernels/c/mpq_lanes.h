/* Loads of packed codes, shared by the packing functions. */
#ifndef MPQ_LANES_H_
#define MPQ_LANES_H_

#include <stdint.h>

/* Four consecutive codes (number quad of a line of BITS-bit codes) as the bytes of a word. */
static inline uint32_t mpq_quad8(const uint32_t *line, int32_t quad) { return line[quad]; }

static inline uint32_t mpq_quad4(const uint32_t *line, int32_t quad) {
  uint32_t v = line[quad >> 1] >> ((quad & 1) * 16) & 0xFFFFu;
  v = (v | v << 8) & 0x00FF00FFu;
  return (v | v << 4) & 0x0F0F0F0Fu;
}

static inline uint32_t mpq_quad2(const uint32_t *line, int32_t quad) {
  uint32_t v = line[quad >> 2] >> ((quad & 3) * 8) & 0xFFu;
  v = (v | v << 12) & 0x000F000Fu;
  return (v | v << 6) & 0x03030303u;
}

/* Code `column` of a line of `bits`-bit codes. */
static inline uint32_t mpq_code(const uint32_t *line, int32_t column, int32_t bits) {
  const uint32_t bit = (uint32_t)column * (uint32_t)bits;
  return line[bit >> 5] >> (bit & 31u) & ((1u << bits) - 1u);
}

#endif
