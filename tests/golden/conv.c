void mpq_conv3x3s1_x4w2y2_p4c2_smlad_hcw6x7x5_hcw6x7x4_p1_1_1_1_z3_0(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint8_t *restrict operands_ptr = (uint8_t *)(void *)((uint8_t *)scratch + 0);
  int32_t *restrict sums_ptr = (int32_t *)(void *)((uint8_t *)scratch + 384);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 416);
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t p = 0; p < 8; ++p) {
      sums_ptr[p] = 0;
    }
    for (int32_t p_1 = 0; p_1 < 8; ++p_1) {
      for (int32_t k = 0; k < 3; ++k) {
        operands_ptr[(((p_1 * 48) + k) + 45)] = (uint8_t)0;
      }
    }
    int32_t cse_v1 = (y0 + row);
    for (int32_t ky = 0; ky < 3; ++ky) {
      for (int32_t kx = 0; kx < 3; ++kx) {
        for (int32_t c = 0; c < 5; ++c) {
          for (int32_t p_2 = 0; p_2 < 7; ++p_2) {
            int32_t cse_v2 = (p_2 + kx);
            int32_t cse_v7 = (cse_v1 + ky);
            int32_t cse_v9 = ((((p_2 * 48) + (ky * 15)) + (kx * 5)) + c);
            int32_t condval;
            if ((((1 <= cse_v7) && (cse_v7 < 7)) && (1 <= cse_v2)) && (cse_v2 < 8)) {
              condval = ((int32_t)((X_ptr[((((cse_v7 - 1) % x_ring) * 5) + c)] >> ((uint32_t)(((p_2 * 4) + (kx * 4)) - 4))) & (uint32_t)15));
            } else {
              condval = 3;
            }
            operands_ptr[cse_v9] = ((uint8_t)condval);
            sums_ptr[p_2] = (sums_ptr[p_2] + ((int32_t)operands_ptr[cse_v9]));
          }
        }
      }
    }
    for (int32_t block = 0; block < 2; ++block) {
      for (int32_t p_0_init = 0; p_0_init < 2; ++p_0_init) {
        for (int32_t p_1_init = 0; p_1_init < 4; ++p_1_init) {
          for (int32_t o_init = 0; o_init < 2; ++o_init) {
            acc_ptr[(((p_0_init * 8) + (p_1_init * 2)) + o_init)] = 0;
          }
        }
      }
      for (int32_t p_0 = 0; p_0 < 2; ++p_0) {
        mpq_gemm_x8w2_p4c2((&(operands_ptr[(p_0 * 192)])), (&(W_ptr[(block * 6)])), (&(acc_ptr[(p_0 * 8)])), 48);
      }
      for (int32_t o = 0; o < 2; ++o) {
        uint32_t word_ptr[1];
        word_ptr[0] = (uint32_t)0;
        int32_t cse_v4 = (block * 2);
        for (int32_t j = 0; j < 7; ++j) {
          int32_t phi_ptr[1];
          int32_t cse_v3 = (j * 2);
          int32_t cse_v5 = (block + 8);
          int32_t cse_v6 = (o * 16);
          int32_t cse_v8 = (cse_v4 + o);
          phi_ptr[0] = ((acc_ptr[(cse_v3 + o)] + ICN_ptr[cse_v8]) - (sums_ptr[j] * ((ICN_ptr[cse_v5] >> (cse_v6 + 8)) & 255)));
          int64_t v_ = (((int64_t)ICN_ptr[(cse_v8 + 4)]) * ((int64_t)phi_ptr[0])) >> ((int64_t)((ICN_ptr[cse_v5] >> cse_v6) & 255));
          int64_t v__1 = (int64_t)3;
          int64_t v__2 = (v_) < (v__1) ? (v_) : (v__1);
          int64_t v__3 = (int64_t)0;
          word_ptr[0] = (word_ptr[0] | (((uint32_t)((v__2) > (v__3) ? (v__2) : (v__3))) << ((uint32_t)cse_v3)));
        }
        Y_ptr[((((cse_v1 % y_ring) * 4) + cse_v4) + o)] = word_ptr[0];
      }
    }
  }
}
