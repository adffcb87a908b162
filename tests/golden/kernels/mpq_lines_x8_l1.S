@ void mpq_lines_x8_l1(void *to, const void *line, int32_t rows, const int32_t *geometry)
@ geometry: bytes of a line, of a row, of an output line; offset, mask and fill of the
@ word in which the border begins; Zx in both halves.
@ 4 codes: 7 cycles.
.syntax unified
.cpu cortex-m7
.thumb
.section .text.mpq_lines_x8_l1, "ax", %progbits
.balign 8
.global mpq_lines_x8_l1
.type mpq_lines_x8_l1, %function
.thumb_func
mpq_lines_x8_l1:
  push {r0-r11, lr}
.Lrow:
  ldr r3, [sp, #12]
  ldrd r4, r5, [sp, #0]
  ldr r6, [r3, #0]
  ldrh r7, [r3, #24]
  add r6, r6, r5
.Lword:
  ldr r2, [r5, #0]
  add r5, r5, #4
  uxtb16 r3, r2
  cmp r5, r6
  uxtb16 r2, r2, ror #8
  pkhbt r8, r7, r3, lsl #16
  lsr r7, r2, #16
  pkhbt r2, r2, r3
  strd r8, r2, [r4, #0]
  add r4, r4, #8
  bne .Lword
  str r7, [r4]
  ldr r3, [sp, #12]
  ldrd r0, r1, [sp, #0]
  ldrd r8, r9, [r3, #4]
  ldrd r10, r11, [r3, #12]
  ldrd r12, r2, [r3, #20]
  ldr r4, [r0, r10]
  add r10, r10, r0
  add r0, r0, r9
  add r1, r1, r8
  and r4, r4, r11
  strd r0, r1, [sp, #0]
  orr r4, r4, r12
  ldr r3, [sp, #8]
  strd r4, r2, [r10]
  subs r3, r3, #1
  str r3, [sp, #8]
  bne .Lrow
  add sp, sp, #16
  pop {r4-r11, pc}
.size mpq_lines_x8_l1, . - mpq_lines_x8_l1
