void mpq_concat_x8x4y4_vec1x1x5_3_vec1x1x8(const void *x0, int32_t x0_ring, const void *x1, int32_t x1_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  (void)w;
  (void)scratch;
  const uint32_t *restrict A_ptr = x0;
  const uint32_t *restrict B_ptr = x1;
  const int32_t *restrict ICN_ptr = icn;
  const int32_t a_ring = x0_ring;
  const int32_t b_ring = x1_ring;
  uint32_t *restrict Y_ptr = y;
  for (int32_t row = 0; row < rows; ++row) {
    uint32_t word_ptr[1];
    word_ptr[0] = (uint32_t)0;
    int32_t cse_v1 = (y0 + row);
    for (int32_t j = 0; j < 8; ++j) {
      int64_t condval;
      if (j < 5) {
        int64_t v_ = ((int64_t)ICN_ptr[1]) - (int64_t)1;
        int64_t v__1 = (int64_t)0;
        condval = (((((int64_t)ICN_ptr[0]) * ((int64_t)((int32_t)((A_ptr[(((cse_v1 % a_ring) * 2) + (j >> 2))] >> ((uint32_t)((j & 3) * 8))) & (uint32_t)255)))) + (((int64_t)ICN_ptr[2]) << ((v_) > (v__1) ? (v_) : (v__1)))) >> ((int64_t)ICN_ptr[1]));
      } else {
        int32_t v__2 = j - 5;
        int64_t v__3 = ((int64_t)ICN_ptr[4]) - (int64_t)1;
        int64_t v__4 = (int64_t)0;
        condval = (((((int64_t)ICN_ptr[3]) * ((int64_t)((int32_t)((B_ptr[(cse_v1 % b_ring)] >> ((uint32_t)(((v__2) > (0) ? (v__2) : (0)) * 4))) & (uint32_t)15)))) + (((int64_t)ICN_ptr[5]) << ((v__3) > (v__4) ? (v__3) : (v__4)))) >> ((int64_t)ICN_ptr[4]));
      }
      int64_t v__5 = (int64_t)15;
      int64_t v__6 = (condval) < (v__5) ? (condval) : (v__5);
      int64_t v__7 = (int64_t)0;
      word_ptr[0] = (word_ptr[0] | (((uint32_t)((v__6) > (v__7) ? (v__6) : (v__7))) << ((uint32_t)(j * 4))));
    }
    Y_ptr[(cse_v1 % y_ring)] = word_ptr[0];
  }
}
