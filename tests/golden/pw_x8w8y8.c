void mpq_pw_x8w8y8_p4c2r8_pairs_hcw8x8x16_hcw8x8x8(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint32_t *restrict operands_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 0);
  int32_t *restrict side_ptr = (int32_t *)(void *)((uint8_t *)scratch + 2048);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 2128);
  for (int32_t strip = 0; strip < ((rows + 7) >> 3); ++strip) {
    int32_t cse_v3 = (strip * 8);
    int32_t cse_v6 = (cse_v3 + y0);
    int32_t v_ = rows - cse_v3;
    int32_t cse_v7 = ((8) < (v_) ? (8) : (v_));
    mpq_pack_pairs_pw8((&(operands_ptr[0])), (&(X_ptr[0])), x_ring, cse_v6, cse_v7, 0, 8, 16, 2, 16);
    for (int32_t block = 0; block < 4; ++block) {
      int32_t cse_v4 = (block * 8);
      int32_t cse_v5 = (block * 2);
      mpq_channels_w8((&(operands_ptr[0])), (&(W_ptr[cse_v4])), (&(side_ptr[0])), (&(acc_ptr[0])), (&(ICN_ptr[0])), 8, cse_v5, (cse_v7 * 8), 16);
      for (int32_t o = 0; o < 2; ++o) {
        int32_t cse_v8 = ((o * cse_v7) * 8);
        mpq_store8((&(acc_ptr[cse_v8])), (&(Y_ptr[0])), y_ring, cse_v6, cse_v7, 8, 0, (&(ICN_ptr[0])), 8, (cse_v5 + o), 2);
      }
    }
  }
}
