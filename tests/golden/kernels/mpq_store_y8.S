@ void mpq_store_y8(const int32_t *acc, void *y, const int32_t *icn, int32_t width,
@              int32_t rows, int32_t stride)
@ icn: M0, shift - 32, Zy << (shift - 32). A word: 13 cycles.
.syntax unified
.cpu cortex-m7
.thumb
.section .text.mpq_store_y8, "ax", %progbits
.balign 8
.global mpq_store_y8
.type mpq_store_y8, %function
.thumb_func
mpq_store_y8:
  push {r4-r11, lr}
  sub sp, sp, #28
  ldm r2, {r4, r5, r6}
  ldr r8, [sp, #64]
  ldr r9, [sp, #68]
  add r10, r3, #3
  lsr r10, r10, #2
  str r3, [sp, #0]
  str r8, [sp, #4]
  str r9, [sp, #8]
  str r10, [sp, #12]
.Lrow:
  ldr r7, [sp, #12]
  strd r0, r1, [sp, #16]
.Lword:
  ldr r3, [r0, #0]
  ldr r10, [r0, #4]
  ldr r11, [r0, #8]
  ldr r12, [r0, #12]
  smmla r3, r3, r4, r6
  smmla r10, r10, r4, r6
  smmla r11, r11, r4, r6
  asr r3, r3, r5
  smmla r12, r12, r4, r6
  asr r10, r10, r5
  usat r3, #8, r3
  asr r11, r11, r5
  usat r10, #8, r10
  asr r12, r12, r5
  usat r11, #8, r11
  add r0, r0, #16
  usat r12, #8, r12
  sub r7, r7, #1
  orr r3, r3, r10, lsl #8
  orr r3, r3, r11, lsl #16
  orr r3, r3, r12, lsl #24
  str r3, [r1], #4
  cmp r7, #0
  bne .Lword
.Lend:
  ldrd r0, r1, [sp, #16]
  ldrd r2, r8, [sp, #0]
  ldr r9, [sp, #8]
  add r0, r0, r2, lsl #2
  add r1, r1, r9
  subs r8, r8, #1
  str r8, [sp, #4]
  bne .Lrow
  add sp, sp, #28
  pop {r4-r11, pc}
.size mpq_store_y8, . - mpq_store_y8
