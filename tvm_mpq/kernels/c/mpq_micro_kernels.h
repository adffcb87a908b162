/* Micro-kernels of the packed convolutions: unsigned codes, exact int32 sums. */
#ifndef MPQ_MICRO_KERNELS_H_
#define MPQ_MICRO_KERNELS_H_

#include <stdint.h>
#include <string.h>

/* On a Cortex-M with DSP instructions the .S files stand in for their portable twins. */
#if defined(__thumb2__) && defined(__ARM_FEATURE_DSP)
#define MPQ_ASSEMBLY 1
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Requantization parameters `icn` of kernels/pack.py come in two forms; functions that read them have
 * a twin with _m16 for the one that keeps 16 bits of M0 (narrow: 1), in a word with Zw and the shift. */
static inline int32_t mpq_m0(const int32_t *icn, int32_t channels, int32_t channel,
                             int32_t narrow) {
  const int32_t word = icn[channels + channel];
  return narrow ? word & -0x10000 : word;
}

/* The shift in the low byte, Zw in the next one. */
static inline int32_t mpq_shift_zw(const int32_t *icn, int32_t channels, int32_t channel,
                                   int32_t narrow) {
  if (narrow) {
    return icn[channels + channel] & 0xFFFF;
  }
  uint16_t half;
  memcpy(&half, (const uint8_t *)(icn + 2 * channels) + 2 * channel, sizeof half);
  return half;
}

/* What lies behind them, for lanes. */
static inline const int32_t *mpq_centres(const int32_t *icn, int32_t channels, int32_t narrow) {
  return icn + 2 * channels + (narrow ? 0 : (channels + 1) / 2);
}

/* acc[p][o] += sum over k of x[p][k] * w[o][k]   for 4 pixels p, 2 channels o.
 * x: uint8 [4][k], w: packed words [2][k * bits / 32], acc: int32 [4][2]; k fills whole words.
 * The order of codes in a word is that of tvm_mpq/kernels/layout.py (pack_gemm_weights). */
void mpq_gemm_x8w8_p4c2(const void *x, const void *w, void *acc, int32_t k);
void mpq_gemm_x8w4_p4c2(const void *x, const void *w, void *acc, int32_t k);
void mpq_gemm_x8w2_p4c2(const void *x, const void *w, void *acc, int32_t k);

/* acc[o] += sum over k of x[k] * w[k][o] for 4 channels o (asm/dense.py); k a multiple of 16.
 * x: uint8 [k], w: packed words [k * bits / 32][4], codes in the same order. */
void mpq_dense_w8(const void *x, const void *w, void *acc, int32_t k);
void mpq_dense_w4(const void *x, const void *w, void *acc, int32_t k);
void mpq_dense_w2(const void *x, const void *w, void *acc, int32_t k);

/* Cores on expanded halfwords (tvm_mpq/kernels/asm/smlad.py has layouts and reasons).
 * acc[2][pixels] = (start ? start[o] : acc) + sum over k of x * w; pixels even, k a multiple of 8 or 16.
 * k_total: taps of the operands, of which this call takes k after `done` others; x: past those. */
#define DECLARE_CORE(UNROLL)                                                                    \
  void mpq_core_smlad_k##UNROLL(const void *x, const void *w, int32_t *acc,                     \
                                const int32_t *start, int32_t pixels, int32_t k,                \
                                int32_t k_total, int32_t done)
DECLARE_CORE(8);
DECLARE_CORE(16);
/* acc[2][pixels, made even] of channels `channel` and the next one; weights: scratch. */
#define MPQ_K_CHUNK 256
typedef void mpq_channels_t(const void *operands, const void *w, void *weights, int32_t *acc,
                            const int32_t *icn, int32_t channels, int32_t channel, int32_t pixels,
                            int32_t k);
mpq_channels_t mpq_channels_w8, mpq_channels_w4, mpq_channels_w3, mpq_channels_w2;
mpq_channels_t mpq_channels_w8_m16, mpq_channels_w4_m16, mpq_channels_w3_m16, mpq_channels_w2_m16;
/* Packed words of two channels -> [k / 2][2] pairs of halfwords; zero: -Zw in both halves. */
void mpq_expand_w8(const void *w, void *out, int32_t k, uint32_t zero0, uint32_t zero1);
void mpq_expand_w4(const void *w, void *out, int32_t k, uint32_t zero0, uint32_t zero1);
void mpq_expand_w3(const void *w, void *out, int32_t k, uint32_t zero0, uint32_t zero1);
void mpq_expand_w2(const void *w, void *out, int32_t k, uint32_t zero0, uint32_t zero1);

/* Operands of mpq_core_smlad_k* for `rows` output rows from `row` on, columns [column, column+width).
 * The window form counts taps in pairs of channels; the image form reads interleaved bytes. */
#define DECLARE_PACK(BITS)                                                                \
  void mpq_pack_pairs_pw##BITS(void *operands, const void *x, int32_t ring, int32_t row,  \
                               int32_t rows, int32_t column, int32_t width,               \
                               int32_t channels, int32_t line_words, int32_t k)
DECLARE_PACK(8);
DECLARE_PACK(4);
DECLARE_PACK(2);
void mpq_pack_pairs_window(void *operands, const void *x, int32_t ring, int32_t row, int32_t rows,
                           int32_t column, int32_t width, int32_t channels, int32_t line_words,
                           int32_t k, int32_t bits, int32_t in_height, int32_t in_width,
                           int32_t taps_y, int32_t taps_x, int32_t stride_y, int32_t stride_x,
                           int32_t top, int32_t left, int32_t zx);
#define MPQ_MAX_SPAN 64 /* bytes of a window row of an image */
void mpq_pack_pairs_image(void *operands, const void *x, int32_t ring, int32_t row, int32_t rows,
                          int32_t column, int32_t width, int32_t channels, int32_t k,
                          int32_t in_height, int32_t in_width, int32_t taps_y, int32_t taps_x,
                          int32_t stride_y, int32_t stride_x, int32_t top, int32_t left,
                          int32_t zx);

/* acc[rows][width] of one channel -> codes; y: its line in ring slot 0, at the first column. */
typedef void mpq_channel_store_t(const int32_t *acc, void *y, int32_t ring, int32_t row,
                                 int32_t rows, int32_t width, int32_t zy, const int32_t *icn,
                                 int32_t channels, int32_t channel, int32_t line_words);
#define DECLARE_STORE(BITS)                                                                     \
  mpq_channel_store_t mpq_store##BITS, mpq_store##BITS##_m16;                                   \
  void mpq_store_y##BITS(const int32_t *acc, void *y, const int32_t *icn, int32_t width,        \
                         int32_t rows, int32_t stride);                                         \
  void mpq_store_y##BITS##_low(const int32_t *acc, void *y, const int32_t *icn, int32_t width,  \
                               int32_t rows, int32_t stride)
DECLARE_STORE(8);
DECLARE_STORE(4);
DECLARE_STORE(2);

/* Depthwise 3x3 (tvm_mpq/kernels/asm: lines.py, depthwise.py, depthwise_lanes.py).
 * Lines: rows of packed codes to halfwords; geometry: bytes of a line and of a row, where the two
 * codes right of the map are, Zx. Names: x bits, left column, words of a pass (of*: a line). */
typedef void mpq_lines_t(void *to, const void *line, int32_t rows, const int32_t *geometry);
#define MPQ_FOR_LINES_OF(DO, BITS, PASS) DO(BITS, 0, PASS) DO(BITS, 1, PASS)
#define MPQ_FOR_LINES(DO)                                                                      \
  MPQ_FOR_LINES_OF(DO, 8, 1) MPQ_FOR_LINES_OF(DO, 8, 2) MPQ_FOR_LINES_OF(DO, 8, 4)             \
  MPQ_FOR_LINES_OF(DO, 4, 1) MPQ_FOR_LINES_OF(DO, 4, 2) MPQ_FOR_LINES_OF(DO, 4, 4)             \
  MPQ_FOR_LINES_OF(DO, 2, 1) MPQ_FOR_LINES_OF(DO, 2, of1)                                      \
  MPQ_FOR_LINES_OF(DO, 8, of1) MPQ_FOR_LINES_OF(DO, 8, of2) MPQ_FOR_LINES_OF(DO, 8, of4)       \
  MPQ_FOR_LINES_OF(DO, 4, of1) MPQ_FOR_LINES_OF(DO, 4, of2) MPQ_FOR_LINES_OF(DO, 4, of4)
#define MPQ_DECLARE_LINES(BITS, LEFT, PASS)                                                    \
  mpq_lines_t mpq_lines_x##BITS##_l##LEFT##_##PASS, mpq_lines_x##BITS##_l##LEFT##_apart_##PASS;
MPQ_FOR_LINES(MPQ_DECLARE_LINES)
/* Cores: rows x units of one channel; taps: what mpq_*_taps_w* made. Names: stride, y bits,
 * outputs of a unit. */
typedef void mpq_depthwise_core_t(const void *lines, void *y, const void *taps, int32_t units,
                                  int32_t rows, int32_t row_bytes);
#define MPQ_FOR_CORES_OF(DO, S)                                                                \
  DO(S, 8, 4) DO(S, 8, 8) DO(S, 8, 16) DO(S, 4, 8) DO(S, 4, 16) DO(S, 2, 8) DO(S, 2, 16)
#define MPQ_FOR_ROWS_OF(DO, S)                                                                 \
  DO(S, 8, 7) DO(S, 8, 14) DO(S, 4, 7) DO(S, 4, 14) DO(S, 2, 7) DO(S, 2, 14)
#define MPQ_FOR_CORES(DO) MPQ_FOR_CORES_OF(DO, 1) MPQ_FOR_CORES_OF(DO, 2)
#define MPQ_FOR_LANES(DO) MPQ_FOR_CORES(DO) MPQ_FOR_ROWS_OF(DO, 1) MPQ_FOR_ROWS_OF(DO, 2)
#define MPQ_DECLARE_CORE(STRIDE, BITS, OUTPUTS)                                                \
  mpq_depthwise_core_t mpq_dw3x3s##STRIDE##_y##BITS##_##OUTPUTS;
#define MPQ_DECLARE_LANES(STRIDE, BITS, OUTPUTS)                                               \
  mpq_depthwise_core_t mpq_dwlanes3x3s##STRIDE##_y##BITS##_##OUTPUTS;
MPQ_FOR_CORES(MPQ_DECLARE_CORE)
MPQ_FOR_LANES(MPQ_DECLARE_LANES)
/* Rows of packed codes (asm/depthwise_halves.py), copied with their right border: words of a line.
 * Cores by x bits, left column, y bits, outputs of a row. */
mpq_lines_t mpq_lines_packed_1, mpq_lines_packed_2, mpq_lines_packed_4;
#define MPQ_FOR_HALVES_OF(DO, X, L) \
  DO(X, L, 8, 7) DO(X, L, 8, 14) DO(X, L, 4, 7) DO(X, L, 4, 14) DO(X, L, 2, 7) DO(X, L, 2, 14)
#define MPQ_FOR_HALVES(DO)                                                                     \
  MPQ_FOR_HALVES_OF(DO, 4, 0) MPQ_FOR_HALVES_OF(DO, 4, 1)                                      \
  MPQ_FOR_HALVES_OF(DO, 2, 0) MPQ_FOR_HALVES_OF(DO, 2, 1)
#define MPQ_DECLARE_HALVES(X, L, Y, OUTPUTS)                                                   \
  mpq_depthwise_core_t mpq_dwhalves3x3s2_x##X##_l##L##_y##Y##_##OUTPUTS;
MPQ_FOR_HALVES(MPQ_DECLARE_HALVES)
/* What a core needs of a channel; 0 if the core cannot do this channel's requantization, and M0, the
 * shift and Zw in `to`. */
typedef int32_t mpq_depthwise_taps_t(uint32_t *to, const void *w, int32_t stride, int32_t x_top,
                                     const int32_t *icn, int32_t channels, int32_t channel,
                                     int32_t zy, int32_t top);
mpq_depthwise_taps_t mpq_planar_taps_w8, mpq_planar_taps_w4, mpq_planar_taps_w2;
mpq_depthwise_taps_t mpq_lane_taps_w8, mpq_lane_taps_w4, mpq_lane_taps_w2;
mpq_depthwise_taps_t mpq_planar_taps_w8_m16, mpq_planar_taps_w4_m16, mpq_planar_taps_w2_m16;
mpq_depthwise_taps_t mpq_lane_taps_w8_m16, mpq_lane_taps_w4_m16, mpq_lane_taps_w2_m16;
mpq_depthwise_taps_t mpq_halves_taps_w8_m16, mpq_halves_taps_w4_m16, mpq_halves_taps_w2_m16;
mpq_depthwise_taps_t mpq_halves_taps_w8, mpq_halves_taps_w4, mpq_halves_taps_w2;
/* How a line of scratch has its pixels: side by side, even and odd ones apart, as packed codes. */
enum { MPQ_PAIRED, MPQ_APART, MPQ_PACKED };
typedef struct {
  mpq_lines_t *unpack;
  mpq_depthwise_taps_t *prepare;
  mpq_depthwise_core_t *core;
  int32_t stride, x_bits, w_bits, y_bits, left, form;
  int32_t units, channels, height, width, x_words, y_width, y_words, zx, zy;
} mpq_depthwise_t;
/* All channels of output rows [y_row, y_row + rows) from the input rows [row, row + count). */
void mpq_depthwise(const mpq_depthwise_t *d, void *lines, void *taps, const void *x,
                   int32_t x_ring, int32_t row, int32_t count, void *y, int32_t y_ring,
                   int32_t y_row, int32_t rows, const void *w, const int32_t *icn);
/* The kernels are named by literal arguments, so that the linker drops all others: stride S, bits
 * X W Y, outputs of a unit U, left column L, words of a pass N; then the layer from `units` on. */
#define MPQ_DW(UNPACK, TAPS, CORE, S, X, W, Y, L, FORM, UNITS, C, H, WIDTH, XW, YWIDTH, YW, ZX, \
               ZY, ...)                                                                        \
  do {                                                                                         \
    static const mpq_depthwise_t mpq_layer = {UNPACK, TAPS, CORE, S, X, W, Y, L, FORM, UNITS, C,  \
                                          H, WIDTH, XW, YWIDTH, YW, ZX, ZY};                   \
    mpq_depthwise(&mpq_layer, __VA_ARGS__);                                                        \
  } while (0)
#define MPQ_DW_OF(PASS, FORM, TAPS, CORE, M, S, X, W, Y, U, L, N, ...)                         \
  MPQ_DW(mpq_lines_x##X##_l##L##_##PASS##N, TAPS##W##M, CORE##S##_y##Y##_##U, S, X, W, Y, L,   \
         FORM, __VA_ARGS__)
#define MPQ_DW_PLANAR_(PASS, ...)                                                              \
  MPQ_DW_OF(PASS, MPQ_PAIRED, mpq_planar_taps_w, mpq_dw3x3s, __VA_ARGS__)
#define MPQ_DW_LANES_(PASS, FORM, ...)                                                         \
  MPQ_DW_OF(PASS, FORM, mpq_lane_taps_w, mpq_dwlanes3x3s, __VA_ARGS__)
#define MPQ_DW_PLANAR(...) MPQ_DW_PLANAR_(, , __VA_ARGS__)
#define MPQ_DW_PLANAR_M16(...) MPQ_DW_PLANAR_(, _m16, __VA_ARGS__)
#define MPQ_DW_PLANAR_OF(...) MPQ_DW_PLANAR_(of, , __VA_ARGS__)
#define MPQ_DW_PLANAR_OF_M16(...) MPQ_DW_PLANAR_(of, _m16, __VA_ARGS__)
#define MPQ_DW_LANES(...) MPQ_DW_LANES_(, MPQ_PAIRED, , __VA_ARGS__)
#define MPQ_DW_LANES_M16(...) MPQ_DW_LANES_(, MPQ_PAIRED, _m16, __VA_ARGS__)
#define MPQ_DW_LANES_OF(...) MPQ_DW_LANES_(of, MPQ_PAIRED, , __VA_ARGS__)
#define MPQ_DW_LANES_OF_M16(...) MPQ_DW_LANES_(of, MPQ_PAIRED, _m16, __VA_ARGS__)
#define MPQ_DW_LANES_APART(...) MPQ_DW_LANES_(apart_, MPQ_APART, , __VA_ARGS__)
#define MPQ_DW_LANES_APART_M16(...) MPQ_DW_LANES_(apart_, MPQ_APART, _m16, __VA_ARGS__)
#define MPQ_DW_LANES_APART_OF(...) MPQ_DW_LANES_(apart_of, MPQ_APART, , __VA_ARGS__)
#define MPQ_DW_LANES_APART_OF_M16(...) MPQ_DW_LANES_(apart_of, MPQ_APART, _m16, __VA_ARGS__)
#define MPQ_DW_HALVES_(M, S, X, W, Y, U, L, N, ...)                                            \
  MPQ_DW(mpq_lines_packed_##N, mpq_halves_taps_w##W##M,                                        \
         mpq_dwhalves3x3s##S##_x##X##_l##L##_y##Y##_##U, S, X, W, Y, L, MPQ_PACKED, __VA_ARGS__)
#define MPQ_DW_HALVES(...) MPQ_DW_HALVES_(, __VA_ARGS__)
#define MPQ_DW_HALVES_M16(...) MPQ_DW_HALVES_(_m16, __VA_ARGS__)

/* Global average pool: of a whole map, or of rows [row, row + rows) into sums in y, which the last
 * row turns into codes in place. base: Zx * height * width. */
typedef struct {
  int32_t channels, width, x_words;
} mpq_pool_t;
#define MPQ_DECLARE_POOL(BITS)                                                                  \
  void mpq_pool_x##BITS(const void *x, int32_t ring, void *y, const int32_t *icn,               \
                        int32_t channels, int32_t height, int32_t width, int32_t x_words,       \
                        int32_t y_bits, int32_t base, int32_t zy);                              \
  void mpq_pool_rows_x##BITS(const void *x, int32_t ring, int32_t row, int32_t rows, void *y,   \
                             const int32_t *icn, int32_t channels, int32_t height,              \
                             int32_t width, int32_t x_words, int32_t y_bits, int32_t base,      \
                             int32_t zy)
MPQ_DECLARE_POOL(8);
MPQ_DECLARE_POOL(4);
MPQ_DECLARE_POOL(2);

/* Requantized add of a row: `lines` lines of `codes` codes. Names: bits of the inputs and of y. */
#define MPQ_FOR_ADDS_OF(DO, A) \
  DO(A, 8, 8) DO(A, 8, 4) DO(A, 8, 2) DO(A, 4, 8) DO(A, 4, 4) DO(A, 4, 2) DO(A, 2, 8) DO(A, 2, 4) \
  DO(A, 2, 2)
#define MPQ_FOR_ADDS(DO) MPQ_FOR_ADDS_OF(DO, 8) MPQ_FOR_ADDS_OF(DO, 4) MPQ_FOR_ADDS_OF(DO, 2)
#define MPQ_DECLARE_ADD(A, B, Y)                                                                \
  void mpq_add_x##A##x##B##y##Y(const void *a, const void *b, void *y, const int32_t *icn,      \
                                int32_t za, int32_t zb, int32_t zy, int32_t lines,              \
                                int32_t codes);
MPQ_FOR_ADDS(MPQ_DECLARE_ADD)

/* Lanes of UMLAL (asm/umlal.py): operands of a strip, the sum of x of each pixel, and the sums of
 * words P of each segment, whose length lies with the requantization parameters. */
#define DECLARE_LANES_PACK(BITS, NAME)                                                          \
  void mpq_pack_##NAME##_x##BITS(void *operands, int32_t *side, uint32_t *totals,               \
                                 const int32_t *segment, const void *map, int32_t ring,         \
                                 int32_t row, int32_t rows, int32_t column, int32_t width,      \
                                 int32_t channels, int32_t line_words, int32_t k)
DECLARE_LANES_PACK(4, u14w4);
DECLARE_LANES_PACK(2, u14w4);
DECLARE_LANES_PACK(8, u15w2);
DECLARE_LANES_PACK(4, u15w2);
DECLARE_LANES_PACK(4, u10w2);
DECLARE_LANES_PACK(2, u10w2);
DECLARE_LANES_PACK(2, u14w8);
/* What a core reads; it changes the first five. A pair is two channels that share a word Q. */
typedef struct {
  int32_t groups;           /* of one or two words P */
  int32_t *acc;             /* [4][pixels] */
  const uint32_t *sums;     /* of words P, [segment][words] */
  const uint32_t *sums_now; /* the core's own */
  int32_t first_now;
  const uint32_t *weights, *end; /* words Q of the chunk, [taps][2] */
  int32_t segment_bytes;         /* of words Q */
  int32_t skip_bytes;            /* operands of a group that belong to other chunks */
  int32_t pitch_bytes;           /* of sums, from segment to segment */
  int32_t channel_bytes;         /* of acc, from channel to channel */
  int32_t first;                 /* nothing in acc yet */
  int32_t resume, suspend;       /* lanes as they are come from acc, go to acc */
  uint32_t minus[2];             /* -centre */
  uint32_t start[2][2];          /* b in every lane: low word, high word */
  uint32_t centre[2];            /* c of two channels as a word Q */
} mpq_lanes_t;
typedef void mpq_lane_channels_t(const void *operands, const void *w, const uint32_t *totals,
                                 void *weights, int32_t *acc, const int32_t *icn,
                                 int32_t channels, int32_t channel, int32_t pixels, int32_t k,
                                 int32_t room);
#define DECLARE_LANES(NAME)                                                                     \
  void mpq_core_##NAME##_a2(const void *operands, mpq_lanes_t *plan);                           \
  void mpq_core_##NAME##_a1(const void *operands, mpq_lanes_t *plan);                           \
  mpq_lane_channels_t mpq_channels_##NAME, mpq_channels_##NAME##_m16
DECLARE_LANES(u14w4);
DECLARE_LANES(u15w2);
DECLARE_LANES(u10w2);
DECLARE_LANES(u14w8);
/* Packed words of four channels -> words Q of `taps` (a multiple of 8). */
void mpq_expand_lanes_w8(const void *w, void *q, int32_t taps);
void mpq_expand_lanes_w4(const void *w, void *q, int32_t taps);
void mpq_expand_lanes_w2(const void *w, void *q, int32_t taps);
/* Up to four channels of acc, of which b of every segment is left to subtract and
 * (c - Zw) * side to add. The first seven words move from channel to channel. */
typedef struct {
  const int32_t *acc;
  uint32_t *y;
  const int32_t *bq, *m0;
  const uint16_t *zeros, *centres; /* (shift, Zw) unless they are beside M0, (c, b / unit) */
  int32_t channels;
  const int32_t *side;
  int32_t unit, zy, words, rows; /* unit: of b, times segments; words of a row */
  int32_t skip_bytes;            /* from the end of the codes of a row of acc to the next row */
  int32_t y_skip_bytes, line_bytes, pitch_bytes; /* line and pitch: from channel to channel */
} mpq_store_t;
typedef void mpq_lane_store_t(const int32_t *acc, const int32_t *side, void *y, int32_t ring,
                              int32_t row, int32_t rows, int32_t width, int32_t zy,
                              const int32_t *icn, int32_t channels, int32_t channel,
                              int32_t line_words, int32_t pitch, int32_t unit);
#define DECLARE_LANES_STORE(BITS)                                                               \
  mpq_lane_store_t mpq_store_lanes##BITS, mpq_store_lanes##BITS##_m16;                          \
  void mpq_store_block_y##BITS(mpq_store_t *block);                                             \
  void mpq_store_block_y##BITS##_m16(mpq_store_t *block);                                       \
  void mpq_store_sums_y##BITS##_low(const int32_t *acc, void *y, const int32_t *icn,            \
                                    const int32_t *side, int32_t width, int32_t rows,           \
                                    int32_t stride)
DECLARE_LANES_STORE(8);
DECLARE_LANES_STORE(4);
DECLARE_LANES_STORE(2);

#ifdef __cplusplus
}
#endif
#endif
