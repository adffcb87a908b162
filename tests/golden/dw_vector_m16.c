void mpq_dw3x3s1_x8w8y4_r1_m16_hcw3x3x9_vec1x1x9(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  (void)y_ring;
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  uint8_t *restrict lines_ptr = (uint8_t *)(void *)((uint8_t *)scratch + 0);
  int16_t *restrict taps_ptr = (int16_t *)(void *)((uint8_t *)scratch + 12);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 32);
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t channel = 0; channel < 9; ++channel) {
      int32_t cse_v2 = (channel + 9);
      for (int32_t ky = 0; ky < 3; ++ky) {
        for (int32_t kx = 0; kx < 3; ++kx) {
          int32_t cse_v1 = (ky * 3);
          int32_t cse_v5 = (((channel * 9) + cse_v1) + kx);
          taps_ptr[(cse_v1 + kx)] = ((int16_t)(((int32_t)((W_ptr[(cse_v5 >> 2)] >> ((uint32_t)((cse_v5 & 3) * 8))) & (uint32_t)255)) - ((ICN_ptr[cse_v2] >> 8) & 255)));
        }
      }
      for (int32_t ky_1 = 0; ky_1 < 3; ++ky_1) {
        for (int32_t column = 0; column < 3; ++column) {
          lines_ptr[((ky_1 * 3) + column)] = ((uint8_t)((int32_t)((X_ptr[(((((y0 + row) + ky_1) % x_ring) * 9) + channel)] >> ((uint32_t)(column * 8))) & (uint32_t)255)));
        }
      }
      acc_ptr[0] = 0;
      acc_ptr[0] = (acc_ptr[0] + (((int32_t)lines_ptr[0]) * ((int32_t)taps_ptr[0])));
      acc_ptr[0] = (acc_ptr[0] + (((int32_t)lines_ptr[1]) * ((int32_t)taps_ptr[1])));
      acc_ptr[0] = (acc_ptr[0] + (((int32_t)lines_ptr[2]) * ((int32_t)taps_ptr[2])));
      acc_ptr[0] = (acc_ptr[0] + (((int32_t)lines_ptr[3]) * ((int32_t)taps_ptr[3])));
      acc_ptr[0] = (acc_ptr[0] + (((int32_t)lines_ptr[4]) * ((int32_t)taps_ptr[4])));
      acc_ptr[0] = (acc_ptr[0] + (((int32_t)lines_ptr[5]) * ((int32_t)taps_ptr[5])));
      acc_ptr[0] = (acc_ptr[0] + (((int32_t)lines_ptr[6]) * ((int32_t)taps_ptr[6])));
      acc_ptr[0] = (acc_ptr[0] + (((int32_t)lines_ptr[7]) * ((int32_t)taps_ptr[7])));
      acc_ptr[0] = (acc_ptr[0] + (((int32_t)lines_ptr[8]) * ((int32_t)taps_ptr[8])));
      uint32_t word_ptr[1];
      word_ptr[0] = (uint32_t)0;
      int32_t phi_ptr[1];
      phi_ptr[0] = (acc_ptr[0] + ICN_ptr[channel]);
      int64_t v_ = (((int64_t)(ICN_ptr[cse_v2] & -65536)) * ((int64_t)phi_ptr[0])) >> ((int64_t)(ICN_ptr[cse_v2] & 255));
      int64_t v__1 = (int64_t)15;
      int64_t v__2 = (v_) < (v__1) ? (v_) : (v__1);
      int64_t v__3 = (int64_t)0;
      word_ptr[0] = (word_ptr[0] | (((uint32_t)((v__2) > (v__3) ? (v__2) : (v__3))) << (uint32_t)0));
      int32_t cse_v3 = (channel & 7);
      int32_t cse_v4 = (channel >> 3);
      uint32_t condval;
      if (cse_v3 == 0) {
        condval = (uint32_t)0;
      } else {
        condval = Y_ptr[cse_v4];
      }
      Y_ptr[cse_v4] = (condval | (word_ptr[0] << ((uint32_t)(cse_v3 * 4))));
    }
  }
}
