void mpq_gap_x4y4_hcw3x5x9_vec1x1x9_z1_1(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  (void)w;
  (void)scratch;
  const uint32_t *restrict X_ptr = x;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t channel = 0; channel < 9; ++channel) {
      int32_t total_ptr[1];
      total_ptr[0] = (ICN_ptr[0] - 15);
      for (int32_t i = 0; i < 3; ++i) {
        for (int32_t j = 0; j < 5; ++j) {
          total_ptr[0] = (total_ptr[0] + ((int32_t)((X_ptr[(((i % x_ring) * 9) + channel)] >> ((uint32_t)(j * 4))) & (uint32_t)15)));
        }
      }
      int32_t cse_v1 = (channel & 7);
      int32_t cse_v2 = ((((y0 + row) % y_ring) * 2) + (channel >> 3));
      uint32_t condval;
      if (cse_v1 == 0) {
        condval = (uint32_t)0;
      } else {
        condval = Y_ptr[cse_v2];
      }
      int64_t v_ = ((((int64_t)ICN_ptr[1]) * ((int64_t)total_ptr[0])) >> ((int64_t)ICN_ptr[2])) + (int64_t)1;
      int64_t v__1 = (int64_t)15;
      int64_t v__2 = (v_) < (v__1) ? (v_) : (v__1);
      int64_t v__3 = (int64_t)0;
      Y_ptr[cse_v2] = (condval | (((uint32_t)((v__2) > (v__3) ? (v__2) : (v__3))) << ((uint32_t)(cse_v1 * 4))));
    }
  }
}
