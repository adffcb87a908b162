void mpq_dw3x3s2_x4w4y2_r4_lanes_hcw8x8x4_hcw4x4x4_p0_0_1_1_z3_0(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint32_t *restrict lines_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 0);
  uint32_t *restrict taps_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 4640);
  for (int32_t strip = 0; strip < ((rows + 3) >> 2); ++strip) {
    int32_t cse_v3 = (strip * 4);
    int32_t v_ = rows - cse_v3;
    int32_t cse_v4 = ((4) < (v_) ? (4) : (v_));
    MPQ_DW_LANES_APART_OF(2, 4, 4, 2, 8, 0, 1, 1, 4, 8, 8, 1, 4, 1, 3, 0, (&(lines_ptr[0])), (&(taps_ptr[0])), (&(X_ptr[0])), x_ring, ((strip * 8) + (y0 * 2)), ((cse_v4 * 2) + 1), (&(Y_ptr[0])), y_ring, (cse_v3 + y0), cse_v4, (&(W_ptr[0])), (&(ICN_ptr[0])));
  }
}
