void mpq_conv3x3s2_x8w8y4_p4c2_smlad_hwc89x11x3_hcw4x5x8_p0_0_1_1_z128_0(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint8_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint8_t *restrict operands_ptr = (uint8_t *)(void *)((uint8_t *)scratch + 0);
  int32_t *restrict sums_ptr = (int32_t *)(void *)((uint8_t *)scratch + 224);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 256);
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t p = 0; p < 8; ++p) {
      sums_ptr[p] = 0;
    }
    for (int32_t p_1 = 0; p_1 < 8; ++p_1) {
      operands_ptr[((p_1 * 28) + 27)] = (uint8_t)0;
    }
    for (int32_t ky = 0; ky < 3; ++ky) {
      for (int32_t kx = 0; kx < 3; ++kx) {
        for (int32_t c = 0; c < 3; ++c) {
          for (int32_t p_2 = 0; p_2 < 5; ++p_2) {
            int32_t cse_v1 = (kx * 3);
            int32_t cse_v6 = (((y0 * 2) + (row * 2)) + ky);
            int32_t cse_v7 = ((((p_2 * 28) + (ky * 9)) + cse_v1) + c);
            int32_t condval;
            if ((0 <= cse_v6) && (cse_v6 < 9)) {
              condval = ((int32_t)X_ptr[(((((cse_v6 % x_ring) * 33) + (p_2 * 6)) + cse_v1) + c)]);
            } else {
              condval = 128;
            }
            operands_ptr[cse_v7] = ((uint8_t)condval);
            sums_ptr[p_2] = (sums_ptr[p_2] + ((int32_t)operands_ptr[cse_v7]));
          }
        }
      }
    }
    for (int32_t block = 0; block < 4; ++block) {
      for (int32_t p_0_init = 0; p_0_init < 2; ++p_0_init) {
        for (int32_t p_1_init = 0; p_1_init < 4; ++p_1_init) {
          for (int32_t o_init = 0; o_init < 2; ++o_init) {
            acc_ptr[(((p_0_init * 8) + (p_1_init * 2)) + o_init)] = 0;
          }
        }
      }
      for (int32_t p_0 = 0; p_0 < 2; ++p_0) {
        mpq_gemm_x8w8_p4c2((&(operands_ptr[(p_0 * 112)])), (&(W_ptr[(block * 14)])), (&(acc_ptr[(p_0 * 8)])), 28);
      }
      for (int32_t o = 0; o < 2; ++o) {
        uint32_t word_ptr[1];
        word_ptr[0] = (uint32_t)0;
        int32_t cse_v2 = (block * 2);
        for (int32_t j = 0; j < 5; ++j) {
          int32_t phi_ptr[1];
          int32_t cse_v3 = (block + 16);
          int32_t cse_v4 = (o * 16);
          int32_t cse_v5 = (cse_v2 + o);
          phi_ptr[0] = ((acc_ptr[((j * 2) + o)] + ICN_ptr[cse_v5]) - (sums_ptr[j] * ((ICN_ptr[cse_v3] >> (cse_v4 + 8)) & 255)));
          int64_t v_ = (((int64_t)ICN_ptr[(cse_v5 + 8)]) * ((int64_t)phi_ptr[0])) >> ((int64_t)((ICN_ptr[cse_v3] >> cse_v4) & 255));
          int64_t v__1 = (int64_t)15;
          int64_t v__2 = (v_) < (v__1) ? (v_) : (v__1);
          int64_t v__3 = (int64_t)0;
          word_ptr[0] = (word_ptr[0] | (((uint32_t)((v__2) > (v__3) ? (v__2) : (v__3))) << ((uint32_t)(j * 4))));
        }
        Y_ptr[(((((y0 + row) % y_ring) * 8) + cse_v2) + o)] = word_ptr[0];
      }
    }
  }
}
