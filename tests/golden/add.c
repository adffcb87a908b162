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
    int32_t cse_v4 = (y0 + row);
    int32_t cse_v5 = ((cse_v4 % a_ring) * 9);
    int32_t cse_v6 = ((cse_v4 % b_ring) * 6);
    int32_t cse_v7 = ((cse_v4 % y_ring) * 6);
    mpq_add_x8x4y4((&(A_ptr[cse_v5])), (&(B_ptr[cse_v6])), (&(Y_ptr[cse_v7])), (&(ICN_ptr[0])), 7, 0, 1, 3, 9);
  }
}
