void mpq_conv3x3s1_x4w2y2_p4c2r6_pairs_hcw6x7x5_hcw6x7x4_p1_1_1_1_z3_0(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint32_t *restrict operands_ptr = (uint32_t *)(void *)((uint8_t *)scratch + 0);
  int32_t *restrict side_ptr = (int32_t *)(void *)((uint8_t *)scratch + 4704);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 4944);
  for (int32_t strip = 0; strip < (((rows + 5) / 6) + (((rows + 5) % 6) >> 31)); ++strip) {
    int32_t cse_v3 = (strip * 6);
    int32_t cse_v6 = (cse_v3 + y0);
    int32_t v_ = rows - cse_v3;
    int32_t cse_v7 = ((6) < (v_) ? (6) : (v_));
    mpq_pack_pairs_window((&(operands_ptr[0])), (&(X_ptr[0])), x_ring, cse_v6, cse_v7, 0, 7, 5, 1, 56, 4, 6, 7, 3, 3, 1, 1, 1, 1, 3);
    for (int32_t block = 0; block < 2; ++block) {
      int32_t cse_v4 = (block * 7);
      int32_t cse_v5 = (block * 2);
      int32_t cse_v8 = (cse_v7 * 7);
      mpq_channels_w2((&(operands_ptr[0])), (&(W_ptr[cse_v4])), (&(side_ptr[0])), (&(acc_ptr[0])), (&(ICN_ptr[0])), 4, cse_v5, cse_v8, 56);
      for (int32_t o = 0; o < 2; ++o) {
        int32_t cse_v9 = ((o * ((cse_v8 + 1) >> 1)) * 2);
        mpq_store2((&(acc_ptr[cse_v9])), (&(Y_ptr[0])), y_ring, cse_v6, cse_v7, 7, 0, (&(ICN_ptr[0])), 4, (cse_v5 + o), 1);
      }
    }
  }
}
