void mpq_concat_x8x4y8_hcw4x9x2_3_hcw4x9x5(const void *x0, int32_t x0_ring, const void *x1, int32_t x1_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  (void)w;
  (void)scratch;
  const uint32_t *restrict A_ptr = x0;
  const uint32_t *restrict B_ptr = x1;
  const int32_t *restrict ICN_ptr = icn;
  const int32_t a_ring = x0_ring;
  const int32_t b_ring = x1_ring;
  uint32_t *restrict Y_ptr = y;
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t line = 0; line < 5; ++line) {
      for (int32_t group = 0; group < 3; ++group) {
        uint32_t word_ptr[1];
        word_ptr[0] = (uint32_t)0;
        int32_t cse_v1 = (y0 + row);
        int32_t cse_v2 = (line * 3);
        int32_t v_ = 9 - (group * 4);
        for (int32_t j = 0; j < ((4) < (v_) ? (4) : (v_)); ++j) {
          uint32_t cse_v3 = ((uint32_t)(j * 8));
          int64_t condval;
          if (line < 2) {
            int64_t v__1 = ((int64_t)ICN_ptr[1]) - (int64_t)1;
            int64_t v__2 = (int64_t)0;
            condval = (((((int64_t)ICN_ptr[0]) * ((int64_t)((int32_t)((A_ptr[((((cse_v1 % a_ring) * 6) + cse_v2) + group)] >> cse_v3) & (uint32_t)255)))) + (((int64_t)ICN_ptr[2]) << ((v__1) > (v__2) ? (v__1) : (v__2)))) >> ((int64_t)ICN_ptr[1]));
          } else {
            int32_t v__3 = line - 2;
            int64_t v__4 = ((int64_t)ICN_ptr[4]) - (int64_t)1;
            int64_t v__5 = (int64_t)0;
            condval = (((((int64_t)ICN_ptr[3]) * ((int64_t)((int32_t)((B_ptr[((((cse_v1 % b_ring) * 6) + (((v__3) > (0) ? (v__3) : (0)) * 2)) + (group >> 1))] >> ((uint32_t)(((group & 1) * 16) + (j * 4)))) & (uint32_t)15)))) + (((int64_t)ICN_ptr[5]) << ((v__4) > (v__5) ? (v__4) : (v__5)))) >> ((int64_t)ICN_ptr[4]));
          }
          int64_t v__6 = (int64_t)255;
          int64_t v__7 = (condval) < (v__6) ? (condval) : (v__6);
          int64_t v__8 = (int64_t)0;
          word_ptr[0] = (word_ptr[0] | (((uint32_t)((v__7) > (v__8) ? (v__7) : (v__8))) << cse_v3));
        }
        Y_ptr[((((cse_v1 % y_ring) * 15) + cse_v2) + group)] = word_ptr[0];
      }
    }
  }
}
