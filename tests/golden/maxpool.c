void mpq_maxpool3x3s2_x4y4_hcw8x11x3_hcw4x6x3_p1_1_1_1(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  (void)w;
  (void)icn;
  (void)scratch;
  const uint32_t *restrict X_ptr = x;
  uint32_t *restrict Y_ptr = y;
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t line = 0; line < 3; ++line) {
      uint32_t word_ptr[1];
      word_ptr[0] = (uint32_t)0;
      for (int32_t j = 0; j < 6; ++j) {
        int32_t best_ptr[1];
        best_ptr[0] = 0;
        for (int32_t ky = 0; ky < 3; ++ky) {
          for (int32_t kx = 0; kx < 3; ++kx) {
            int32_t cse_v1 = ((j * 2) + kx);
            int32_t cse_v2 = (((y0 * 2) + (row * 2)) + ky);
            int32_t v_ = best_ptr[0];
            int32_t condval;
            if ((((1 <= cse_v2) && (cse_v2 < 9)) && (1 <= cse_v1)) && (((kx >> 1) + j) < 6)) {
              condval = ((int32_t)((X_ptr[(((((cse_v2 - 1) % x_ring) * 6) + (line * 2)) + ((cse_v1 - 1) >> 3))] >> ((uint32_t)(((cse_v1 + 7) & 7) * 4))) & (uint32_t)15));
            } else {
              condval = 0;
            }
            best_ptr[0] = ((v_) > (condval) ? (v_) : (condval));
          }
        }
        int32_t v__1 = best_ptr[0];
        word_ptr[0] = (word_ptr[0] | (((uint32_t)((v__1) < (15) ? (v__1) : (15))) << ((uint32_t)(j * 4))));
      }
      Y_ptr[((((y0 + row) % y_ring) * 3) + line)] = word_ptr[0];
    }
  }
}
