void mpq_pw_x2w8y4_p4c2_smlad_hcw3x7x13_hcw3x7x5_z1_2(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint8_t *restrict operands_ptr = (uint8_t *)(void *)((uint8_t *)scratch + 0);
  int32_t *restrict sums_ptr = (int32_t *)(void *)((uint8_t *)scratch + 128);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 160);
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t p = 0; p < 8; ++p) {
      sums_ptr[p] = 0;
    }
    for (int32_t p_1 = 0; p_1 < 8; ++p_1) {
      for (int32_t k = 0; k < 3; ++k) {
        operands_ptr[(((p_1 * 16) + k) + 13)] = (uint8_t)0;
      }
    }
    int32_t cse_v1 = (y0 + row);
    for (int32_t c = 0; c < 13; ++c) {
      for (int32_t p_2 = 0; p_2 < 7; ++p_2) {
        int32_t cse_v5 = ((p_2 * 16) + c);
        operands_ptr[cse_v5] = ((uint8_t)((int32_t)((X_ptr[(((cse_v1 % x_ring) * 13) + c)] >> ((uint32_t)(p_2 * 2))) & (uint32_t)3)));
        sums_ptr[p_2] = (sums_ptr[p_2] + ((int32_t)operands_ptr[cse_v5]));
      }
    }
    for (int32_t block = 0; block < 3; ++block) {
      for (int32_t p_0_init = 0; p_0_init < 2; ++p_0_init) {
        for (int32_t p_1_init = 0; p_1_init < 4; ++p_1_init) {
          for (int32_t o_init = 0; o_init < 2; ++o_init) {
            acc_ptr[(((p_0_init * 8) + (p_1_init * 2)) + o_init)] = 0;
          }
        }
      }
      for (int32_t p_0 = 0; p_0 < 2; ++p_0) {
        mpq_gemm_x8w8_p4c2((&(operands_ptr[(p_0 * 64)])), (&(W_ptr[(block * 8)])), (&(acc_ptr[(p_0 * 8)])), 16);
      }
      for (int32_t o = 0; o < 2; ++o) {
        int32_t cse_v2 = (block * 2);
        int32_t cse_v6 = (cse_v2 + o);
        if (cse_v6 < 5) {
          uint32_t word_ptr[1];
          word_ptr[0] = (uint32_t)0;
          for (int32_t j = 0; j < 7; ++j) {
            int32_t phi_ptr[1];
            int32_t cse_v3 = (block + 10);
            int32_t cse_v4 = (o * 16);
            phi_ptr[0] = ((acc_ptr[((j * 2) + o)] + ICN_ptr[cse_v6]) - (sums_ptr[j] * ((ICN_ptr[cse_v3] >> (cse_v4 + 8)) & 255)));
            int64_t v_ = ((((int64_t)ICN_ptr[(cse_v6 + 5)]) * ((int64_t)phi_ptr[0])) >> ((int64_t)((ICN_ptr[cse_v3] >> cse_v4) & 255))) + (int64_t)2;
            int64_t v__1 = (int64_t)15;
            int64_t v__2 = (v_) < (v__1) ? (v_) : (v__1);
            int64_t v__3 = (int64_t)0;
            word_ptr[0] = (word_ptr[0] | (((uint32_t)((v__2) > (v__3) ? (v__2) : (v__3))) << ((uint32_t)(j * 4))));
          }
          Y_ptr[((((cse_v1 % y_ring) * 5) + cse_v2) + o)] = word_ptr[0];
        }
      }
    }
  }
}
