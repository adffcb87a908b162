void mpq_fc_x8w8y32_c4_smlad_vec1x1x19_logits1x1x7(const void *x, int32_t x_ring, void *y, int32_t y_ring, int32_t y0, int32_t rows, const void *w, const void *icn, void *scratch) {
  const uint32_t *restrict X_ptr = x;
  const uint32_t *restrict W_ptr = w;
  const int32_t *restrict ICN_ptr = icn;
  int32_t *restrict Y_ptr = y;
  uint8_t *restrict operands_ptr = (uint8_t *)(void *)((uint8_t *)scratch + 0);
  int32_t *restrict acc_ptr = (int32_t *)(void *)((uint8_t *)scratch + 32);
  for (int32_t row = 0; row < rows; ++row) {
    int32_t total_ptr[1];
    total_ptr[0] = 0;
    for (int32_t k = 0; k < 32; ++k) {
      operands_ptr[k] = (uint8_t)0;
    }
    int32_t cse_v1 = (y0 + row);
    for (int32_t c = 0; c < 19; ++c) {
      operands_ptr[c] = ((uint8_t)((int32_t)((X_ptr[(((cse_v1 % x_ring) * 5) + (c >> 2))] >> ((uint32_t)((c & 3) * 8))) & (uint32_t)255)));
      total_ptr[0] = (total_ptr[0] + ((int32_t)operands_ptr[c]));
    }
    for (int32_t block = 0; block < 2; ++block) {
      for (int32_t o_init = 0; o_init < 4; ++o_init) {
        acc_ptr[o_init] = 0;
      }
      mpq_dense_w8((&(operands_ptr[0])), (&(W_ptr[(block * 32)])), (&(acc_ptr[0])), 32);
      for (int32_t o = 0; o < 4; ++o) {
        int32_t phi_ptr[1];
        int32_t cse_v2 = (block * 4);
        int32_t cse_v3 = (cse_v2 + o);
        if (cse_v3 < 7) {
          int32_t cse_v4 = ((o & 1) * 16);
          int32_t cse_v5 = (((block * 2) + (o >> 1)) + 14);
          phi_ptr[0] = ((acc_ptr[o] + ICN_ptr[cse_v3]) - (total_ptr[0] * ((ICN_ptr[cse_v5] >> (cse_v4 + 8)) & 255)));
          Y_ptr[((((cse_v1 % y_ring) * 7) + cse_v2) + o)] = ((int32_t)((((int64_t)ICN_ptr[(cse_v3 + 7)]) * ((int64_t)phi_ptr[0])) >> ((int64_t)((ICN_ptr[cse_v5] >> cse_v4) & 255))));
        }
      }
    }
  }
}
