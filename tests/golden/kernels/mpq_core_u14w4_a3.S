@ void mpq_core_u14w4_a3(const void *x, const void *w, int32_t *acc, int32_t groups,
@     int32_t channel_bytes, int32_t weight_bytes, int32_t segment_bytes)
@ 96 MACs: 32 cycles.
.syntax unified
.cpu cortex-m7
.thumb
.section .text.mpq_core_u14w4_a3, "ax", %progbits
.balign 8
.global mpq_core_u14w4_a3
.type mpq_core_u14w4_a3, %function
.thumb_func
mpq_core_u14w4_a3:
  push {r4-r11, lr}
  sub sp, sp, #20
  str r1, [sp, #4]
  str r2, [sp, #8]
  str r3, [sp, #12]
  ldr r4, [sp, #60]
  add r4, r4, r1
  str r4, [sp, #16]
  movw r2, #15
  movt r2, #61440
.Lgroup:
  ldr r1, [sp, #4]
.Lsegment:
  ldr r12, [sp, #64]
  ldr lr, [sp, #16]
  add r12, r12, r1
  cmp r12, lr
  it hi
  movhi r12, lr
  str r12, [sp, #0]
  mov r4, #0
  mov r5, #0
  mov r6, #0
  mov r7, #0
  mov r8, #0
  mov r9, #0
  ldr r10, [r0]
  ldr r11, [r0, #4]
.Ltaps:
  ldr r3, [r1, #0]
  ldr r12, [r0, #8]
  and lr, r2, r3
  umlal r4, r5, r10, lr
  ldr r10, [r0, #12]
  umlal r6, r7, r11, lr
  ldr r11, [r0, #16]
  umlal r8, r9, r12, lr
  and r12, r2, r3, ror #8
  ldr lr, [r0, #20]
  umlal r4, r5, r10, r12
  umlal r6, r7, r11, r12
  ldr r10, [r0, #24]
  umlal r8, r9, lr, r12
  ldr r11, [r0, #28]
  and lr, r2, r3, ror #16
  ldr r12, [r0, #32]
  umlal r4, r5, r10, lr
  ldr r10, [r0, #36]
  umlal r6, r7, r11, lr
  ldr r11, [r0, #40]
  umlal r8, r9, r12, lr
  and r3, r2, r3, ror #24
  ldr r12, [r0, #44]
  umlal r4, r5, r10, r3
  ldr lr, [r1, #4]
  umlal r6, r7, r11, r3
  ldr r10, [r0, #48]
  umlal r8, r9, r12, r3
  ldr r11, [r0, #52]
  and r12, r2, lr
  ldr r3, [r0, #56]
  umlal r4, r5, r10, r12
  umlal r6, r7, r11, r12
  ldr r10, [r0, #60]
  umlal r8, r9, r3, r12
  ldr r11, [r0, #64]
  and r3, r2, lr, ror #8
  ldr r12, [r0, #68]
  umlal r4, r5, r10, r3
  ldr r10, [r0, #72]
  umlal r6, r7, r11, r3
  ldr r11, [r0, #76]
  umlal r8, r9, r12, r3
  and r12, r2, lr, ror #16
  ldr r3, [r0, #80]
  umlal r4, r5, r10, r12
  umlal r6, r7, r11, r12
  ldr r10, [r0, #84]
  umlal r8, r9, r3, r12
  ldr r11, [r0, #88]
  and lr, r2, lr, ror #24
  ldr r3, [r0, #92]
  umlal r4, r5, r10, lr
  umlal r6, r7, r11, lr
  ldr r12, [sp, #0]
  umlal r8, r9, r3, lr
  ldr r10, [r0, #96]
  ldr r11, [r0, #100]
  add r1, r1, #8
  cmp r1, r12
  add r0, r0, #96
  bne .Ltaps
  ldr r3, [sp, #8]
  ldr r12, [sp, #56]
  add r12, r12, r3
  ldr r10, [r3, #0]
  ldr r11, [r3, #4]
  ubfx lr, r4, #0, #14
  add r10, r10, lr
  str r10, [r3, #0]
  ubfx lr, r4, #14, #14
  lsr r10, r4, #28
  add r11, r11, lr
  str r11, [r3, #4]
  ldr lr, [r12, #0]
  orr r10, r10, r5, lsl #4
  ldr r11, [r12, #4]
  ubfx r10, r10, #0, #14
  add lr, lr, r10
  str lr, [r12, #0]
  ubfx r10, r5, #10, #14
  ldr lr, [r3, #8]
  add r11, r11, r10
  str r11, [r12, #4]
  ubfx r10, r6, #0, #14
  ldr r11, [r3, #12]
  add lr, lr, r10
  str lr, [r3, #8]
  ubfx r10, r6, #14, #14
  lsr lr, r6, #28
  add r11, r11, r10
  str r11, [r3, #12]
  ldr r10, [r12, #8]
  orr lr, lr, r7, lsl #4
  ldr r11, [r12, #12]
  ubfx lr, lr, #0, #14
  add r10, r10, lr
  str r10, [r12, #8]
  ubfx lr, r7, #10, #14
  ldr r10, [r3, #16]
  add r11, r11, lr
  str r11, [r12, #12]
  ubfx lr, r8, #0, #14
  ldr r11, [r3, #20]
  add r10, r10, lr
  str r10, [r3, #16]
  ubfx lr, r8, #14, #14
  lsr r10, r8, #28
  add r11, r11, lr
  str r11, [r3, #20]
  ldr lr, [r12, #16]
  orr r10, r10, r9, lsl #4
  ldr r11, [r12, #20]
  ubfx r10, r10, #0, #14
  add lr, lr, r10
  str lr, [r12, #16]
  ubfx r10, r9, #10, #14
  add r11, r11, r10
  str r11, [r12, #20]
  ldr lr, [sp, #16]
  cmp r1, lr
  bne .Lsegment
  add r3, r3, #24
  str r3, [sp, #8]
  ldr r12, [sp, #12]
  subs r12, r12, #1
  str r12, [sp, #12]
  bne .Lgroup
  add sp, sp, #20
  pop {r4-r11, pc}
.size mpq_core_u14w4_a3, . - mpq_core_u14w4_a3
