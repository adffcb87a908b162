@ void mpq_dwhalves3x3s2_x4_l0_y4_7(const void *lines, void *y, const void *taps, int32_t units,
@              int32_t rows, int32_t row_bytes)
@ taps: 9 words, bias of a lane in both halves, 2**up, start, M0, Zy << 16, Zx.
@ A row of 7, 63 MACs: 73 cycles. units is 1.
.syntax unified
.cpu cortex-m7
.thumb
.section .text.mpq_dwhalves3x3s2_x4_l0_y4_7, "ax", %progbits
.balign 8
.global mpq_dwhalves3x3s2_x4_l0_y4_7
.type mpq_dwhalves3x3s2_x4_l0_y4_7, %function
.thumb_func
mpq_dwhalves3x3s2_x4_l0_y4_7:
  push {r4-r11, lr}
  sub sp, sp, #12
  ldrd r4, r5, [sp, #48]
  sub r4, r4, #1
  mov r6, #1024
  mla r6, r4, r6, r0
  sub r5, r5, #4
  strd r6, r5, [sp, #0]
  mov lr, #0xf000f
.Lrow:
  ldr r3, [r0, #0]
  ldr r4, [r0, #4]
  ldr r5, [r2, #36]
  ldr r6, [r2, #0]
  ldr r7, [r2, #4]
  and r8, lr, r3, lsr #4
  and r9, lr, r3, lsr #12
  and r10, lr, r3
  mla r8, r8, r7, r5
  and r11, lr, r4, lsr #4
  mla r9, r9, r7, r5
  and r12, lr, r4, lsr #12
  mla r11, r11, r7, r5
  and r3, lr, r3, lsr #8
  mla r12, r12, r7, r5
  ldr r7, [r2, #8]
  mla r8, r10, r6, r8
  lsr r10, r10, #16
  mla r8, r3, r7, r8
  and r5, lr, r4
  mla r9, r3, r6, r9
  and r4, lr, r4, lsr #8
  pkhbt r10, r10, r5, lsl #16
  mla r11, r5, r6, r11
  mla r9, r10, r7, r9
  ldr r3, [r0, #512]
  mla r11, r4, r7, r11
  lsr r5, r5, #16
  mla r12, r4, r6, r12
  ldr r10, [r2, #16]
  mla r12, r5, r7, r12
  and r4, lr, r3, lsr #4
  ldr r6, [r0, #516]
  mla r8, r4, r10, r8
  and r5, lr, r3, lsr #12
  ldr r7, [r2, #12]
  mla r9, r5, r10, r9
  and r4, lr, r6, lsr #4
  mla r11, r4, r10, r11
  and r5, lr, r6, lsr #12
  and r4, lr, r3
  mla r12, r5, r10, r12
  ldr r5, [r2, #20]
  mla r8, r4, r7, r8
  and r3, lr, r3, lsr #8
  lsr r4, r4, #16
  mla r8, r3, r5, r8
  and r10, lr, r6
  mla r9, r3, r7, r9
  and r6, lr, r6, lsr #8
  pkhbt r4, r4, r10, lsl #16
  mla r11, r10, r7, r11
  mla r9, r4, r5, r9
  ldr r3, [r0, #1024]
  mla r11, r6, r5, r11
  lsr r10, r10, #16
  mla r12, r6, r7, r12
  ldr r4, [r2, #28]
  mla r12, r10, r5, r12
  and r6, lr, r3, lsr #4
  ldr r7, [r0, #1028]
  mla r8, r6, r4, r8
  and r10, lr, r3, lsr #12
  ldr r5, [r2, #24]
  mla r9, r10, r4, r9
  and r6, lr, r7, lsr #4
  mla r11, r6, r4, r11
  and r10, lr, r7, lsr #12
  and r6, lr, r3
  mla r12, r10, r4, r12
  ldr r10, [r2, #32]
  mla r8, r6, r5, r8
  and r3, lr, r3, lsr #8
  lsr r6, r6, #16
  mla r8, r3, r10, r8
  and r4, lr, r7
  mla r9, r3, r5, r9
  and r7, lr, r7, lsr #8
  pkhbt r6, r6, r4, lsl #16
  mla r11, r4, r5, r11
  mla r9, r6, r10, r9
  ldr r3, [r2, #40]
  mla r11, r7, r10, r11
  ldr r6, [r2, #44]
  mla r12, r7, r5, r12
  lsr r4, r4, #16
  uxth r7, r8
  mla r12, r4, r10, r12
  ldr r5, [r2, #48]
  ldr r4, [r2, #52]
  mla r7, r7, r3, r6
  lsr r8, r8, #16
  uxth r10, r11
  mla r8, r8, r3, r6
  smmla r7, r7, r5, r4
  lsr r11, r11, #16
  mla r10, r10, r3, r6
  uxth r12, r12
  smmla r8, r8, r5, r4
  smmla r10, r10, r5, r4
  mla r12, r12, r3, r6
  mla r11, r11, r3, r6
  smmla r12, r12, r5, r4
  smmla r11, r11, r5, r4
  pkhtb r10, r10, r7, asr #16
  lsr r7, r9, #16
  uxth r9, r9
  mla r7, r7, r3, r6
  mla r9, r9, r3, r6
  ldr r3, [sp, #0]
  smmla r7, r7, r5, r4
  ldr r6, [sp, #4]
  smmla r9, r9, r5, r4
  cmp r0, r3
  usat16 r10, #4, r10
  addw r0, r0, #1024
  pkhtb r11, r11, r8, asr #16
  pkhtb r12, r12, r9, asr #16
  usat16 r11, #4, r11
  usat16 r12, #4, r12
  pkhtb r7, r7, r7, asr #16
  orr r10, r10, r12, lsl #4
  usat16 r7, #4, r7
  orr r10, r10, r11, lsl #8
  orr r10, r10, r7, lsl #12
  str r10, [r1], #4
  add r1, r1, r6
  bne .Lrow
  add sp, sp, #12
  pop {r4-r11, pc}
.size mpq_dwhalves3x3s2_x4_l0_y4_7, . - mpq_dwhalves3x3s2_x4_l0_y4_7
