/* Sums of a strip of pixels to 4-bit codes, a channel after the other: by the kernels' own epilogue
 * (ICN), or by binary search among 15 ascending thresholds (THRESHOLDS). */
#include "mpq_micro_kernels.h"

#define WORDS ((PIXELS + 7) / 8)
void layer(void);
__attribute__((section(".axi"), aligned(32))) int32_t phi[CHANNELS * PIXELS + 16];
__attribute__((section(".axi"), aligned(32))) uint32_t y[CHANNELS * WORDS];
extern const int32_t table[];

#ifdef ICN
void layer(void) {
  for (int32_t c = 0; c < CHANNELS; c++) {
    mpq_store4(phi + c * PIXELS, y, 1, 0, 1, PIXELS, 0, table, CHANNELS, c, WORDS);
  }
}
#endif

#ifdef THRESHOLDS
static uint32_t code_of(int32_t sum, const int32_t *t) {
  uint32_t code = sum >= t[7] ? 8u : 0u;
  code += sum >= t[code + 3] ? 4u : 0u;
  code += sum >= t[code + 1] ? 2u : 0u;
  return code + (sum >= t[code]);
}

void layer(void) {
  for (int32_t c = 0; c < CHANNELS; c++) {
    const int32_t *sums = phi + c * PIXELS;
    for (int32_t word = 0; word < WORDS; word++) {
      const int32_t left = PIXELS - word * 8, count = left < 8 ? left : 8;
      uint32_t codes = 0;
      for (int32_t j = 0; j < count; j++) {
        codes |= code_of(sums[word * 8 + j], table + 15 * c) << 4 * j;
      }
      y[c * WORDS + word] = codes;
    }
  }
}
#endif
