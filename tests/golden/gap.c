void mpq_gap_x4y4_hcw3x5x9_vec1x1x9_z1_1(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  (void)w;
  (void)scratch;
  const uint32_t *restrict X_ptr = x;
  const int32_t *restrict ICN_ptr = icn;
  uint32_t *restrict Y_ptr = y;
  for (int32_t row = 0; row < rows; ++row) {
    int32_t cse_v3 = (((y0 + row) % y_ring) * 2);
    mpq_pool_x4((&(X_ptr[0])), x_ring, (&(Y_ptr[cse_v3])), (&(ICN_ptr[0])), 9, 3, 5, 1, 4, 15, 1);
  }
}
