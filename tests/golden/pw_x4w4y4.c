void mpq_pw_x4w4y4_p2c4r8k16_umlal14_hcw8x8x16_hcw8x8x8(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint32_t *restrict operands_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 0);
  uint32_t *restrict weights_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 2056);
  int32_t *restrict side_ptr = (int32_t *)(void *)((uint8_t *)scratch + 2192);
  uint32_t *restrict totals_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 2480);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 2608);
  for (int32_t strip = 0; strip < ((rows + 7) >> 3); ++strip) {
    int32_t cse_v3 = (strip * 8);
    int32_t cse_v6 = (cse_v3 + y0);
    int32_t v_ = rows - cse_v3;
    int32_t cse_v7 = ((8) < (v_) ? (8) : (v_));
    mpq_pack_u14w4_x4((&(operands_ptr[0])), (&(side_ptr[0])), (&(totals_ptr[0])), (&(ICN_ptr[24])), (&(X_ptr[0])), x_ring, cse_v6, cse_v7, 0, 8, 16, 1, 16);
    for (int32_t block = 0; block < 2; ++block) {
      int32_t cse_v4 = (block * 8);
      int32_t cse_v5 = (block * 4);
      int32_t cse_v8 = (cse_v7 * 8);
      mpq_channels_u14w4((&(operands_ptr[0])), (&(W_ptr[cse_v4])), (&(totals_ptr[0])), (&(weights_ptr[0])), (&(acc_ptr[0])), (&(ICN_ptr[0])), 8, cse_v5, cse_v8, 16, 16);
      mpq_store_lanes4((&(acc_ptr[0])), (&(side_ptr[0])), (&(Y_ptr[0])), y_ring, cse_v6, cse_v7, 8, 0, (&(ICN_ptr[0])), 8, cse_v5, 1, cse_v8, 64);
    }
  }
}
