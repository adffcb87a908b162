void mpq_conv3x3s2_x8w8y4_p4c2r4_pairs_hwc89x11x3_hcw4x5x8_p0_0_1_1_z128_0(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint8_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint32_t *restrict operands_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 0);
  int32_t *restrict side_ptr = (int32_t *)(void *)((uint8_t *)scratch + 1280);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 1424);
  for (int32_t strip = 0; strip < ((rows + 3) >> 2); ++strip) {
    int32_t cse_v3 = (strip * 4);
    int32_t cse_v6 = (cse_v3 + y0);
    int32_t v_ = rows - cse_v3;
    int32_t cse_v7 = ((4) < (v_) ? (4) : (v_));
    mpq_pack_pairs_image((&(operands_ptr[0])), (&(X_ptr[0])), x_ring, cse_v6, cse_v7, 0, 5, 3, 32, 9, 11, 3, 3, 2, 2, 0, 0, 128);
    for (int32_t block = 0; block < 4; ++block) {
      int32_t cse_v4 = (block * 16);
      int32_t cse_v5 = (block * 2);
      int32_t cse_v8 = (cse_v7 * 5);
      mpq_channels_w8((&(operands_ptr[0])), (&(W_ptr[cse_v4])), (&(side_ptr[0])), (&(acc_ptr[0])), (&(ICN_ptr[0])), 8, cse_v5, cse_v8, 32);
      for (int32_t o = 0; o < 2; ++o) {
        int32_t cse_v9 = ((o * ((cse_v8 + 1) >> 1)) * 2);
        mpq_store4((&(acc_ptr[cse_v9])), (&(Y_ptr[0])), y_ring, cse_v6, cse_v7, 5, 0, (&(ICN_ptr[0])), 8, (cse_v5 + o), 1);
      }
    }
  }
}
