void mpq_pws2_x8w4y8_p4c2_smlad_hcw8x8x8_hcw4x4x4(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint8_t *restrict operands_ptr = (uint8_t *)(void *)((uint8_t *)scratch + 0);
  int32_t *restrict sums_ptr = (int32_t *)(void *)((uint8_t *)scratch + 32);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 48);
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t p = 0; p < 4; ++p) {
      sums_ptr[p] = 0;
    }
    for (int32_t c = 0; c < 8; ++c) {
      for (int32_t p_1 = 0; p_1 < 4; ++p_1) {
        int32_t cse_v4 = ((p_1 * 8) + c);
        operands_ptr[cse_v4] = ((uint8_t)((int32_t)((X_ptr[((((((y0 * 2) + (row * 2)) % x_ring) * 16) + (c * 2)) + (p_1 >> 1))] >> ((uint32_t)((p_1 & 1) * 16))) & (uint32_t)255)));
        sums_ptr[p_1] = (sums_ptr[p_1] + ((int32_t)operands_ptr[cse_v4]));
      }
    }
    for (int32_t block = 0; block < 2; ++block) {
      for (int32_t p_1_init = 0; p_1_init < 4; ++p_1_init) {
        for (int32_t o_init = 0; o_init < 2; ++o_init) {
          acc_ptr[((p_1_init * 2) + o_init)] = 0;
        }
      }
      int32_t cse_v1 = (block * 2);
      mpq_gemm_x8w4_p4c2((&(operands_ptr[0])), (&(W_ptr[cse_v1])), (&(acc_ptr[0])), 8);
      for (int32_t o = 0; o < 2; ++o) {
        uint32_t word_ptr[1];
        word_ptr[0] = (uint32_t)0;
        for (int32_t j = 0; j < 4; ++j) {
          int32_t phi_ptr[1];
          int32_t cse_v2 = (block + 8);
          int32_t cse_v3 = (o * 16);
          int32_t cse_v5 = (cse_v1 + o);
          phi_ptr[0] = ((acc_ptr[((j * 2) + o)] + ICN_ptr[cse_v5]) - (sums_ptr[j] * ((ICN_ptr[cse_v2] >> (cse_v3 + 8)) & 255)));
          int64_t v_ = (((int64_t)ICN_ptr[(cse_v5 + 4)]) * ((int64_t)phi_ptr[0])) >> ((int64_t)((ICN_ptr[cse_v2] >> cse_v3) & 255));
          int64_t v__1 = (int64_t)255;
          int64_t v__2 = (v_) < (v__1) ? (v_) : (v__1);
          int64_t v__3 = (int64_t)0;
          word_ptr[0] = (word_ptr[0] | (((uint32_t)((v__2) > (v__3) ? (v__2) : (v__3))) << ((uint32_t)(j * 8))));
        }
        Y_ptr[(((((y0 + row) % y_ring) * 4) + cse_v1) + o)] = word_ptr[0];
      }
    }
  }
}
