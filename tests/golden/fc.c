void mpq_fc_x4w4y8_c4_smlad_vec1x1x29_vec1x1x11(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint8_t *restrict operands_ptr = (uint8_t *)(void *)((uint8_t *)scratch + 0);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 32);
  for (int32_t row = 0; row < rows; ++row) {
    int32_t total_ptr[1];
    total_ptr[0] = 0;
    for (int32_t k = 0; k < 32; ++k) {
      operands_ptr[k] = (uint8_t)0;
    }
    int32_t cse_v1 = (y0 + row);
    for (int32_t c = 0; c < 29; ++c) {
      operands_ptr[c] = ((uint8_t)((int32_t)((X_ptr[(((cse_v1 % x_ring) * 4) + (c >> 3))] >> ((uint32_t)((c & 7) * 4))) & (uint32_t)15)));
      total_ptr[0] = (total_ptr[0] + ((int32_t)operands_ptr[c]));
    }
    for (int32_t block = 0; block < 3; ++block) {
      for (int32_t o_init = 0; o_init < 4; ++o_init) {
        acc_ptr[o_init] = 0;
      }
      mpq_dense_w4((&(operands_ptr[0])), (&(W_ptr[(block * 16)])), (&(acc_ptr[0])), 32);
      for (int32_t o = 0; o < 4; ++o) {
        int32_t phi_ptr[1];
        int32_t cse_v2 = ((block * 4) + o);
        if (cse_v2 < 11) {
          int32_t cse_v3 = ((o & 1) * 16);
          int32_t cse_v4 = (((block * 2) + (o >> 1)) + 22);
          phi_ptr[0] = ((acc_ptr[o] + ICN_ptr[cse_v2]) - (total_ptr[0] * ((ICN_ptr[cse_v4] >> (cse_v3 + 8)) & 255)));
          int32_t cse_v5 = (((cse_v1 % y_ring) * 3) + block);
          uint32_t condval;
          if (o == 0) {
            condval = (uint32_t)0;
          } else {
            condval = Y_ptr[cse_v5];
          }
          int64_t v_ = (((int64_t)ICN_ptr[(cse_v2 + 11)]) * ((int64_t)phi_ptr[0])) >> ((int64_t)((ICN_ptr[cse_v4] >> cse_v3) & 255));
          int64_t v__1 = (int64_t)255;
          int64_t v__2 = (v_) < (v__1) ? (v_) : (v__1);
          int64_t v__3 = (int64_t)0;
          Y_ptr[cse_v5] = (condval | (((uint32_t)((v__2) > (v__3) ? (v__2) : (v__3))) << ((uint32_t)(o * 8))));
        }
      }
    }
  }
}
