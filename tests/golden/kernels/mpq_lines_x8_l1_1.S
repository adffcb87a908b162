@ void mpq_lines_x8_l1_1(void *to, const void *line, int32_t rows, const int32_t *geometry)
@ geometry: bytes of a line, of a row; where the two codes right of the map are; Zx.
@ 4 codes: 6 cycles.
.syntax unified
.cpu cortex-m7
.thumb
.section .text.mpq_lines_x8_l1_1, "ax", %progbits
.balign 8
.global mpq_lines_x8_l1_1
.type mpq_lines_x8_l1_1, %function
.thumb_func
mpq_lines_x8_l1_1:
  push {r4-r11, lr}
  sub sp, sp, #28
  ldm r3, {r4, r5, r6, r7, r8}
  strd r5, r6, [sp, #4]
  strd r7, r8, [sp, #12]
  sub r5, r5, r4
  str r5, [sp, #0]
  str r4, [sp, #20]
  mov lr, #0xff00ff
  mov r5, r1
.Lrow:
  ldr r6, [sp, #20]
  ldr r7, [sp, #16]
  str r2, [sp, #24]
  mov r4, r0
  add r6, r6, r5
.Lword:
  ldr r8, [r5, #0]
  add r5, r5, #4
  and r9, lr, r8
  cmp r5, r6
  and r8, lr, r8, lsr #8
  pkhbt r10, r7, r9, lsl #16
  str r10, [r4, #0]
  pkhbt r9, r8, r9
  str r9, [r4, #4]
  lsr r7, r8, #16
  add r4, r4, #8
  bne .Lword
  str r7, [r4]
  ldr r6, [sp, #0]
  ldrd r8, r9, [sp, #8]
  ldr r3, [sp, #16]
  ldr r2, [sp, #24]
  strh r3, [r0, r8]
  strh r3, [r0, r9]
  add r5, r5, r6
  add r0, r0, #512
  subs r2, r2, #1
  bne .Lrow
  add sp, sp, #28
  pop {r4-r11, pc}
.size mpq_lines_x8_l1_1, . - mpq_lines_x8_l1_1
