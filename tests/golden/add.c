void mpq_add_x8x4y4_hcw4x9x3_3_hcw4x9x3_z7_0_1(const void *x0, int32_t x0_ring, const void *x1, int32_t x1_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  (void)w;
  (void)scratch;
  const uint32_t *A_ptr = x0;
  const uint32_t *B_ptr = x1;
  const int32_t *ICN_ptr = icn;
  const int32_t a_ring = x0_ring;
  const int32_t b_ring = x1_ring;
  uint32_t *Y_ptr = y;
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t line = 0; line < 3; ++line) {
      for (int32_t group = 0; group < 2; ++group) {
        uint32_t word_ptr[1];
        word_ptr[0] = (uint32_t)0;
        int32_t cse_v1 = (y0 + row);
        int32_t cse_v2 = (line * 2);
        int32_t v_ = 9 - (group * 8);
        for (int32_t j = 0; j < ((8) < (v_) ? (8) : (v_)); ++j) {
          uint32_t cse_v3 = ((uint32_t)(j * 4));
          int64_t v__1 = ((int64_t)ICN_ptr[2]) - (int64_t)1;
          int64_t v__2 = (int64_t)0;
          int64_t v__3 = ((((((int64_t)ICN_ptr[0]) * (((int64_t)((int32_t)((A_ptr[(((((cse_v1 % a_ring) * 9) + (line * 3)) + (group * 2)) + (j >> 2))] >> ((uint32_t)((j & 3) * 8))) & (uint32_t)255))) - (int64_t)7)) + (((int64_t)ICN_ptr[1]) * ((int64_t)((int32_t)((B_ptr[((((cse_v1 % b_ring) * 6) + cse_v2) + group)] >> cse_v3) & (uint32_t)15))))) + (((int64_t)ICN_ptr[3]) << ((v__1) > (v__2) ? (v__1) : (v__2)))) >> ((int64_t)ICN_ptr[2])) + (int64_t)1;
          int64_t v__4 = (int64_t)15;
          int64_t v__5 = (v__3) < (v__4) ? (v__3) : (v__4);
          word_ptr[0] = (word_ptr[0] | (((uint32_t)((v__5) > (v__2) ? (v__5) : (v__2))) << cse_v3));
        }
        Y_ptr[((((cse_v1 % y_ring) * 6) + cse_v2) + group)] = word_ptr[0];
      }
    }
  }
}
