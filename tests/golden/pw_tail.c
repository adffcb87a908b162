void mpq_pw_x2w8y4_p2c4r3k16_umlal14_hcw3x7x13_hcw3x7x5_z1_2(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint32_t *restrict operands_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 0);
  uint32_t *restrict weights_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 712);
  int32_t *restrict side_ptr = (int32_t *)(void *)((uint8_t *)scratch + 848);
  uint32_t *restrict totals_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 968);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 1012);
  for (int32_t strip = 0; strip < (((rows + 2) / 3) + (((rows + 2) % 3) >> 31)); ++strip) {
    int32_t cse_v3 = (strip * 3);
    int32_t cse_v6 = (cse_v3 + y0);
    int32_t v_ = rows - cse_v3;
    int32_t cse_v7 = ((3) < (v_) ? (3) : (v_));
    mpq_pack_u14w8_x2((&(operands_ptr[0])), (&(side_ptr[0])), (&(totals_ptr[0])), (&(ICN_ptr[17])), (&(X_ptr[0])), x_ring, cse_v6, cse_v7, 0, 7, 13, 1, 16);
    for (int32_t block = 0; block < 2; ++block) {
      int32_t cse_v4 = (block * 16);
      int32_t cse_v5 = (block * 4);
      int32_t cse_v8 = (cse_v7 * 7);
      mpq_channels_u14w8((&(operands_ptr[0])), (&(W_ptr[cse_v4])), (&(totals_ptr[0])), (&(weights_ptr[0])), (&(acc_ptr[0])), (&(ICN_ptr[0])), 5, cse_v5, cse_v8, 16, 16);
      mpq_store_lanes4((&(acc_ptr[0])), (&(side_ptr[0])), (&(Y_ptr[0])), y_ring, cse_v6, cse_v7, 7, 2, (&(ICN_ptr[0])), 5, cse_v5, 1, (((cse_v8 + 1) >> 1) * 2), 64);
    }
  }
}
