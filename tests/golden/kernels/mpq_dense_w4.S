@ void mpq_dense_w4(const void *x, const void *w, void *acc, int32_t k)
@ 64 MACs: 45 cycles.
.syntax unified
.cpu cortex-m7
.thumb
.section .text.mpq_dense_w4, "ax", %progbits
.balign 8
.global mpq_dense_w4
.type mpq_dense_w4, %function
.thumb_func
mpq_dense_w4:
  push {r2, r4-r11, lr}
  sub sp, sp, #8
  add r3, r3, r0
  str r3, [sp, #0]
  ldm r2, {r4, r5, r6, r7}
  mov r3, #0xf000f
.Ltaps:
  ldr r2, [r0, #0]
  ldr r8, [r0, #4]
  ldr r9, [r1, #0]
  and r10, r2, #0xff00ff
  and r11, r3, r9
  ldr r12, [r1, #4]
  smlad r4, r10, r11, r4
  and lr, r3, r9, lsr #4
  uxtb16 r2, r2, ror #8
  and r11, r8, #0xff00ff
  smlad r4, r2, lr, r4
  and lr, r3, r9, lsr #8
  smlad r4, r11, lr, r4
  and lr, r3, r12
  smlad r5, r10, lr, r5
  and r9, r3, r9, lsr #12
  uxtb16 r8, r8, ror #8
  and lr, r3, r12, lsr #4
  smlad r4, r8, r9, r4
  ldr r9, [r1, #8]
  smlad r5, r2, lr, r5
  and lr, r3, r12, lsr #8
  smlad r5, r11, lr, r5
  and lr, r3, r9
  smlad r6, r10, lr, r6
  and r12, r3, r12, lsr #12
  and lr, r3, r9, lsr #4
  smlad r5, r8, r12, r5
  ldr r12, [r1, #12]
  smlad r6, r2, lr, r6
  and lr, r3, r9, lsr #8
  smlad r6, r11, lr, r6
  and lr, r3, r12
  smlad r7, r10, lr, r7
  and r9, r3, r9, lsr #12
  and r10, r3, r12, lsr #4
  ldr lr, [r0, #8]
  smlad r6, r8, r9, r6
  ldr r9, [r1, #16]
  smlad r7, r2, r10, r7
  and r2, r3, r12, lsr #8
  and r10, lr, #0xff00ff
  smlad r7, r11, r2, r7
  and r11, r3, r9
  and r12, r3, r12, lsr #12
  smlad r4, r10, r11, r4
  ldr r2, [r0, #12]
  uxtb16 lr, lr, ror #8
  and r11, r3, r9, lsr #4
  smlad r7, r8, r12, r7
  ldr r8, [r1, #20]
  smlad r4, lr, r11, r4
  and r12, r2, #0xff00ff
  and r11, r3, r9, lsr #8
  smlad r4, r12, r11, r4
  and r11, r3, r8
  smlad r5, r10, r11, r5
  and r9, r3, r9, lsr #12
  uxtb16 r2, r2, ror #8
  and r11, r3, r8, lsr #4
  smlad r4, r2, r9, r4
  ldr r9, [r1, #24]
  smlad r5, lr, r11, r5
  and r11, r3, r8, lsr #8
  smlad r5, r12, r11, r5
  and r11, r3, r9
  smlad r6, r10, r11, r6
  and r8, r3, r8, lsr #12
  and r11, r3, r9, lsr #4
  smlad r5, r2, r8, r5
  ldr r8, [r1, #28]
  smlad r6, lr, r11, r6
  and r11, r3, r9, lsr #8
  add r0, r0, #16
  smlad r6, r12, r11, r6
  and r11, r3, r8
  smlad r7, r10, r11, r7
  and r9, r3, r9, lsr #12
  and r10, r3, r8, lsr #4
  smlad r6, r2, r9, r6
  smlad r7, lr, r10, r7
  and r11, r3, r8, lsr #8
  smlad r7, r12, r11, r7
  and r8, r3, r8, lsr #12
  smlad r7, r2, r8, r7
  ldr r9, [sp, #0]
  cmp r0, r9
  add r1, r1, #32
  bne .Ltaps
  add sp, sp, #8
  pop {r2}
  stm r2, {r4, r5, r6, r7}
  pop {r4-r11, pc}
.size mpq_dense_w4, . - mpq_dense_w4
