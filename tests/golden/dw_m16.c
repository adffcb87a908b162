void mpq_dw3x3s1_x8w8y8_r8_planar_m16_hcw8x8x4_hcw8x8x4_p1_1_1_1(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint32_t *restrict lines_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 0);
  uint32_t *restrict taps_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 5152);
  for (int32_t strip = 0; strip < ((rows + 7) >> 3); ++strip) {
    int32_t cse_v3 = (strip * 8);
    int32_t cse_v4 = (cse_v3 + y0);
    int32_t v_ = rows - cse_v3;
    int32_t cse_v5 = ((8) < (v_) ? (8) : (v_));
    MPQ_DW_PLANAR_OF_M16(1, 8, 8, 8, 8, 1, 2, 1, 4, 8, 8, 2, 8, 2, 0, 0, (&(lines_ptr[0])), (&(taps_ptr[0])), (&(X_ptr[0])), x_ring, (cse_v4 - 1), (cse_v5 + 2), (&(Y_ptr[0])), y_ring, cse_v4, cse_v5, (&(W_ptr[0])), (&(ICN_ptr[0])));
  }
}
