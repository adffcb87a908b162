@ void mpq_expand_w4(const void *w, void *out, int32_t k, uint32_t zero0, uint32_t zero1)
@ 16 weights: 18 cycles. zero: -Zw in both halves.
.syntax unified
.cpu cortex-m7
.thumb
.section .text.mpq_expand_w4, "ax", %progbits
.balign 8
.global mpq_expand_w4
.type mpq_expand_w4, %function
.thumb_func
mpq_expand_w4:
  push {r4-r9, lr}
  ldr r4, [sp, #28]
  add r2, r0, r2
.Lexpand:
  ldr r5, [r0, #0]
  ldr r6, [r0, #4]
  add r0, r0, #8
  cmp r0, r2
  lsr r7, r5, #4
  lsr r8, r6, #4
  and r5, r5, #0xf0f0f0f
  and r7, r7, #0xf0f0f0f
  and r6, r6, #0xf0f0f0f
  and r8, r8, #0xf0f0f0f
  uxtab16 r9, r3, r5
  uxtab16 r12, r4, r7
  uxtab16 r5, r3, r5, ror #8
  uxtab16 r7, r4, r7, ror #8
  uxtab16 lr, r3, r6
  uxtab16 r6, r3, r6, ror #8
  strd r9, r12, [r1, #0]
  uxtab16 r9, r4, r8
  uxtab16 r8, r4, r8, ror #8
  strd r5, r7, [r1, #8]
  strd lr, r9, [r1, #16]
  strd r6, r8, [r1, #24]
  add r1, r1, #32
  bne .Lexpand
  pop {r4-r9, pc}
.size mpq_expand_w4, . - mpq_expand_w4
