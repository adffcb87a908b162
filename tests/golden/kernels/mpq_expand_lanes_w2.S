@ void mpq_expand_lanes_w2(const void *w, void *q, int32_t taps)
@ 32 weights: 19 cycles.
.syntax unified
.cpu cortex-m7
.thumb
.section .text.mpq_expand_lanes_w2, "ax", %progbits
.balign 8
.global mpq_expand_lanes_w2
.type mpq_expand_lanes_w2, %function
.thumb_func
mpq_expand_lanes_w2:
  push {r4-r7, lr}
  add r2, r1, r2, lsl #3
  movw r3, #3
  movt r3, #49152
.Lexpand:
  ldr r4, [r0, #0]
  ldr r5, [r0, #4]
  and r6, r3, r4
  str r6, [r1, #0]
  and r7, r3, r5
  str r7, [r1, #4]
  and r12, r3, r4, ror #4
  str r12, [r1, #8]
  and lr, r3, r5, ror #4
  str lr, [r1, #12]
  and r6, r3, r4, ror #8
  str r6, [r1, #16]
  and r7, r3, r5, ror #8
  str r7, [r1, #20]
  and r12, r3, r4, ror #12
  str r12, [r1, #24]
  and lr, r3, r5, ror #12
  str lr, [r1, #28]
  and r6, r3, r4, ror #16
  and r7, r3, r5, ror #16
  str r6, [r1, #32]
  and r12, r3, r4, ror #20
  str r7, [r1, #36]
  and lr, r3, r5, ror #20
  str r12, [r1, #40]
  and r6, r3, r4, ror #24
  str lr, [r1, #44]
  and r7, r3, r5, ror #24
  str r6, [r1, #48]
  and r4, r3, r4, ror #28
  str r7, [r1, #52]
  and r5, r3, r5, ror #28
  str r4, [r1, #56]
  str r5, [r1, #60]
  add r0, r0, #8
  add r1, r1, #64
  cmp r1, r2
  bne .Lexpand
  pop {r4-r7, pc}
.size mpq_expand_lanes_w2, . - mpq_expand_lanes_w2
