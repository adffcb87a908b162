void mpq_dw3x3s1_x8w8y8_r1_hcw8x8x4_hcw8x8x4_p1_1_1_1(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint8_t *restrict lines_ptr = (uint8_t *)(void *)((uint8_t *)scratch + 0);
  int16_t *restrict taps_ptr = (int16_t *)(void *)((uint8_t *)scratch + 32);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 52);
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t channel = 0; channel < 4; ++channel) {
      int32_t cse_v4 = ((channel >> 1) + 8);
      int32_t cse_v5 = ((channel & 1) * 16);
      for (int32_t ky = 0; ky < 3; ++ky) {
        for (int32_t kx = 0; kx < 3; ++kx) {
          int32_t cse_v1 = (ky * 3);
          int32_t cse_v7 = (((channel * 9) + cse_v1) + kx);
          taps_ptr[(cse_v1 + kx)] = ((int16_t)(((int32_t)((W_ptr[(cse_v7 >> 2)] >> ((uint32_t)((cse_v7 & 3) * 8))) & (uint32_t)255)) - ((ICN_ptr[cse_v4] >> (cse_v5 + 8)) & 255)));
        }
      }
      int32_t cse_v2 = (y0 + row);
      int32_t cse_v3 = (channel * 2);
      for (int32_t ky_1 = 0; ky_1 < 3; ++ky_1) {
        for (int32_t column = 0; column < 10; ++column) {
          int32_t cse_v6 = (cse_v2 + ky_1);
          int32_t condval;
          if ((((1 <= cse_v6) && (cse_v6 < 9)) && (1 <= column)) && (column < 9)) {
            condval = ((int32_t)((X_ptr[(((((cse_v6 - 1) % x_ring) * 8) + cse_v3) + ((column - 1) >> 2))] >> ((uint32_t)(((column + 3) & 3) * 8))) & (uint32_t)255));
          } else {
            condval = 0;
          }
          lines_ptr[((ky_1 * 10) + column)] = ((uint8_t)condval);
        }
      }
      for (int32_t p = 0; p < 8; ++p) {
        acc_ptr[p] = 0;
        acc_ptr[p] = (acc_ptr[p] + (((int32_t)lines_ptr[p]) * ((int32_t)taps_ptr[0])));
        acc_ptr[p] = (acc_ptr[p] + (((int32_t)lines_ptr[(p + 1)]) * ((int32_t)taps_ptr[1])));
        acc_ptr[p] = (acc_ptr[p] + (((int32_t)lines_ptr[(p + 2)]) * ((int32_t)taps_ptr[2])));
        acc_ptr[p] = (acc_ptr[p] + (((int32_t)lines_ptr[(p + 10)]) * ((int32_t)taps_ptr[3])));
        acc_ptr[p] = (acc_ptr[p] + (((int32_t)lines_ptr[(p + 11)]) * ((int32_t)taps_ptr[4])));
        acc_ptr[p] = (acc_ptr[p] + (((int32_t)lines_ptr[(p + 12)]) * ((int32_t)taps_ptr[5])));
        acc_ptr[p] = (acc_ptr[p] + (((int32_t)lines_ptr[(p + 20)]) * ((int32_t)taps_ptr[6])));
        acc_ptr[p] = (acc_ptr[p] + (((int32_t)lines_ptr[(p + 21)]) * ((int32_t)taps_ptr[7])));
        acc_ptr[p] = (acc_ptr[p] + (((int32_t)lines_ptr[(p + 22)]) * ((int32_t)taps_ptr[8])));
      }
      for (int32_t g = 0; g < 2; ++g) {
        uint32_t word_ptr[1];
        word_ptr[0] = (uint32_t)0;
        for (int32_t j = 0; j < 4; ++j) {
          int32_t phi_ptr[1];
          phi_ptr[0] = (acc_ptr[((g * 4) + j)] + ICN_ptr[channel]);
          int64_t v_ = (((int64_t)ICN_ptr[(channel + 4)]) * ((int64_t)phi_ptr[0])) >> ((int64_t)((ICN_ptr[cse_v4] >> cse_v5) & 255));
          int64_t v__1 = (int64_t)255;
          int64_t v__2 = (v_) < (v__1) ? (v_) : (v__1);
          int64_t v__3 = (int64_t)0;
          word_ptr[0] = (word_ptr[0] | (((uint32_t)((v__2) > (v__3) ? (v__2) : (v__3))) << ((uint32_t)(j * 8))));
        }
        Y_ptr[((((cse_v2 % y_ring) * 8) + cse_v3) + g)] = word_ptr[0];
      }
    }
  }
}
