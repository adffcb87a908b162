void mpq_pws2_x8w4y8_p4c2r4_pairs_hcw8x8x8_hcw4x4x4(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint32_t *restrict operands_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 0);
  int32_t *restrict side_ptr = (int32_t *)(void *)((uint8_t *)scratch + 256);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 304);
  for (int32_t strip = 0; strip < ((rows + 3) >> 2); ++strip) {
    int32_t cse_v3 = (strip * 4);
    int32_t cse_v5 = (cse_v3 + y0);
    int32_t v_ = rows - cse_v3;
    int32_t cse_v6 = ((4) < (v_) ? (4) : (v_));
    mpq_pack_pairs_window((&(operands_ptr[0])), (&(X_ptr[0])), x_ring, cse_v5, cse_v6, 0, 4, 8, 2, 8, 8, 8, 8, 1, 1, 2, 2, 0, 0, 0);
    for (int32_t block = 0; block < 2; ++block) {
      int32_t cse_v4 = (block * 2);
      mpq_channels_w4((&(operands_ptr[0])), (&(W_ptr[cse_v4])), (&(side_ptr[0])), (&(acc_ptr[0])), (&(ICN_ptr[0])), 4, cse_v4, (cse_v6 * 4), 8);
      for (int32_t o = 0; o < 2; ++o) {
        int32_t cse_v7 = ((o * cse_v6) * 4);
        mpq_store8((&(acc_ptr[cse_v7])), (&(Y_ptr[0])), y_ring, cse_v5, cse_v6, 4, 0, (&(ICN_ptr[0])), 4, (cse_v4 + o), 1);
      }
    }
  }
}
