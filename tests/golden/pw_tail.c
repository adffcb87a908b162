void mpq_pw_x2w8y4_p4c2r3_pairs_hcw3x7x13_hcw3x7x5_z1_2(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint32_t *restrict operands_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 0);
  int32_t *restrict side_ptr = (int32_t *)(void *)((uint8_t *)scratch + 704);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 784);
  for (int32_t strip = 0; strip < (((rows + 2) / 3) + (((rows + 2) % 3) >> 31)); ++strip) {
    int32_t cse_v3 = (strip * 3);
    int32_t cse_v6 = (cse_v3 + y0);
    int32_t v_ = rows - cse_v3;
    int32_t cse_v8 = ((3) < (v_) ? (3) : (v_));
    mpq_pack_pairs_pw2((&(operands_ptr[0])), (&(X_ptr[0])), x_ring, cse_v6, cse_v8, 0, 7, 13, 1, 16);
    for (int32_t block = 0; block < 3; ++block) {
      int32_t cse_v4 = (block * 8);
      int32_t cse_v5 = (block * 2);
      int32_t cse_v9 = (cse_v8 * 7);
      mpq_channels_w8((&(operands_ptr[0])), (&(W_ptr[cse_v4])), (&(side_ptr[0])), (&(acc_ptr[0])), (&(ICN_ptr[0])), 5, cse_v5, cse_v9, 16);
      for (int32_t o = 0; o < 2; ++o) {
        int32_t cse_v7 = (cse_v5 + o);
        if (cse_v7 < 5) {
          int32_t cse_v10 = ((o * ((cse_v9 + 1) >> 1)) * 2);
          mpq_store4((&(acc_ptr[cse_v10])), (&(Y_ptr[0])), y_ring, cse_v6, cse_v8, 7, 2, (&(ICN_ptr[0])), 5, cse_v7, 1);
        }
      }
    }
  }
}
