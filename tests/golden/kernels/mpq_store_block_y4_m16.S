@ void mpq_store_block_y4_m16(mpq_store_t *block)
@ A word: 29 cycles where c is Zw, else 46.
.syntax unified
.cpu cortex-m7
.thumb
.section .text.mpq_store_block_y4_m16, "ax", %progbits
.balign 8
.global mpq_store_block_y4_m16
.type mpq_store_block_y4_m16, %function
.thumb_func
mpq_store_block_y4_m16:
  push {r4-r11, lr}
  sub sp, sp, #8
  str r0, [sp, #0]
  mov r12, r0
.Lchannel:
  ldr r11, [r12, #12]
  ldr r10, [r12, #8]
  ldr r4, [r11], #4
  ldr r9, [r10], #4
  str r11, [r12, #12]
  ldr r11, [r12, #20]
  str r10, [r12, #8]
  uxth r5, r4
  ldrh r8, [r11], #2
  bfc r4, #0, #16
  str r11, [r12, #20]
  ldr r7, [r12, #32]
  lsr r3, r8, #8
  ldr r6, [r12, #36]
  lsr r2, r5, #8
  mls r9, r3, r7, r9
  uxtb r5, r5
  uxtb r8, r8
  ldr r0, [r12, #0]
  sub r5, r5, #32
  ldr r1, [r12, #4]
  sub r8, r8, r2
  ldr r10, [r12, #60]
  lsl r6, r6, r5
  ldr r11, [r12, #56]
  add r10, r0, r10
  ldr r2, [r12, #28]
  add r11, r1, r11
  ldr r3, [r12, #44]
  str r10, [r12, #0]
  str r11, [r12, #4]
  str r3, [sp, #4]
  cmp r8, #0
  bne .Lrow_side
.Lrow_bq:
  ldr r7, [r12, #40]
  tst r7, #1
  beq .Lpairs_bq
  ldr r3, [r0, #0]
  ldr r10, [r0, #4]
  add r3, r3, r9
  ldr r11, [r0, #8]
  smmla r3, r3, r4, r6
  add r10, r10, r9
  ldr r12, [r0, #12]
  smmla r10, r10, r4, r6
  add r11, r11, r9
  ldr lr, [r0, #16]
  smmla r11, r11, r4, r6
  add r12, r12, r9
  ldr r2, [r0, #20]
  smmla r12, r12, r4, r6
  add lr, lr, r9
  smmla lr, lr, r4, r6
  add r2, r2, r9
  smmla r2, r2, r4, r6
  asr r3, r3, r5
  asr r10, r10, r5
  usat r3, #4, r3
  asr r11, r11, r5
  usat r10, #4, r10
  asr r12, r12, r5
  usat r11, #4, r11
  usat r12, #4, r12
  asr lr, lr, r5
  orr r3, r3, r10, lsl #4
  ldr r10, [r0, #24]
  add r10, r10, r9
  orr r3, r3, r11, lsl #8
  ldr r11, [r0, #28]
  smmla r10, r10, r4, r6
  add r11, r11, r9
  orr r3, r3, r12, lsl #12
  smmla r11, r11, r4, r6
  asr r2, r2, r5
  usat lr, #4, lr
  asr r10, r10, r5
  usat r2, #4, r2
  asr r11, r11, r5
  usat r10, #4, r10
  add r0, r0, #32
  orr r3, r3, lr, lsl #16
  sub r7, r7, #1
  orr r3, r3, r2, lsl #20
  orr r3, r3, r10, lsl #24
  usat r11, #4, r11
  orr r3, r3, r11, lsl #28
  str r3, [r1], #4
  cmp r7, #0
  beq .Lend_bq
.Lpairs_bq:
  ldr r3, [r0, #0]
  ldr r10, [r0, #4]
  add r3, r3, r9
  add r10, r10, r9
  smmla r3, r3, r4, r6
  ldr r11, [r0, #8]
  smmla r10, r10, r4, r6
  add r11, r11, r9
  asr r3, r3, r5
  smmla r11, r11, r4, r6
  asr r10, r10, r5
  ldr r12, [r0, #12]
  usat r3, #4, r3
  asr r11, r11, r5
  usat r10, #4, r10
  add r12, r12, r9
  usat r11, #4, r11
  smmla r12, r12, r4, r6
  ldr lr, [r0, #16]
  ldr r2, [r0, #20]
  orr r3, r3, r10, lsl #4
  asr r12, r12, r5
  orr r3, r3, r11, lsl #8
  add lr, lr, r9
  usat r12, #4, r12
  smmla lr, lr, r4, r6
  add r2, r2, r9
  smmla r2, r2, r4, r6
  asr lr, lr, r5
  ldr r10, [r0, #24]
  orr r3, r3, r12, lsl #12
  asr r2, r2, r5
  usat lr, #4, lr
  add r10, r10, r9
  usat r2, #4, r2
  smmla r10, r10, r4, r6
  ldr r11, [r0, #28]
  ldr r12, [r0, #32]
  orr r3, r3, lr, lsl #16
  asr r10, r10, r5
  orr r3, r3, r2, lsl #20
  add r11, r11, r9
  usat r10, #4, r10
  smmla r11, r11, r4, r6
  add r12, r12, r9
  smmla r12, r12, r4, r6
  asr r11, r11, r5
  ldr lr, [r0, #36]
  orr r3, r3, r10, lsl #24
  asr r12, r12, r5
  usat r11, #4, r11
  add lr, lr, r9
  usat r12, #4, r12
  smmla lr, lr, r4, r6
  ldr r2, [r0, #40]
  ldr r10, [r0, #44]
  orr r3, r3, r11, lsl #28
  str r3, [r1], #4
  asr lr, lr, r5
  add r2, r2, r9
  usat lr, #4, lr
  smmla r2, r2, r4, r6
  add r10, r10, r9
  smmla r10, r10, r4, r6
  asr r2, r2, r5
  ldr r11, [r0, #48]
  orr r12, r12, lr, lsl #4
  asr r10, r10, r5
  usat r2, #4, r2
  add r11, r11, r9
  usat r10, #4, r10
  smmla r11, r11, r4, r6
  ldr r3, [r0, #52]
  ldr lr, [r0, #56]
  orr r12, r12, r2, lsl #8
  asr r11, r11, r5
  orr r12, r12, r10, lsl #12
  add r3, r3, r9
  usat r11, #4, r11
  smmla r3, r3, r4, r6
  add lr, lr, r9
  smmla lr, lr, r4, r6
  asr r3, r3, r5
  ldr r2, [r0, #60]
  orr r12, r12, r11, lsl #16
  asr lr, lr, r5
  usat r3, #4, r3
  add r2, r2, r9
  usat lr, #4, lr
  smmla r2, r2, r4, r6
  add r0, r0, #64
  sub r7, r7, #2
  orr r12, r12, r3, lsl #20
  asr r2, r2, r5
  orr r12, r12, lr, lsl #24
  usat r2, #4, r2
  orr r12, r12, r2, lsl #28
  str r12, [r1], #4
  cmp r7, #0
  bne .Lpairs_bq
.Lend_bq:
  ldr r12, [sp, #0]
  ldr r11, [sp, #4]
  ldr r3, [r12, #48]
  ldr r10, [r12, #52]
  subs r11, r11, #1
  add r0, r0, r3
  add r1, r1, r10
  str r11, [sp, #4]
  bne .Lrow_bq
  b .Lnext
.Lrow_side:
  ldr r7, [r12, #40]
  tst r7, #1
  beq .Lpairs_side
  ldr r3, [r0, #0]
  ldr r10, [r0, #4]
  ldr r11, [r2, #0]
  ldr r12, [r2, #4]
  ldr lr, [r0, #8]
  mla r11, r11, r8, r3
  ldr r3, [r2, #8]
  mla r12, r12, r8, r10
  ldr r10, [r0, #12]
  add r11, r11, r9
  mla r3, r3, r8, lr
  smmla r11, r11, r4, r6
  add r12, r12, r9
  ldr lr, [r2, #12]
  smmla r12, r12, r4, r6
  add r3, r3, r9
  smmla r3, r3, r4, r6
  mla lr, lr, r8, r10
  ldr r10, [r0, #16]
  asr r11, r11, r5
  asr r12, r12, r5
  add lr, lr, r9
  smmla lr, lr, r4, r6
  usat r11, #4, r11
  usat r12, #4, r12
  asr r3, r3, r5
  orr r11, r11, r12, lsl #4
  ldr r12, [r2, #16]
  usat r3, #4, r3
  asr lr, lr, r5
  mla r12, r12, r8, r10
  ldr r10, [r0, #20]
  usat lr, #4, lr
  add r12, r12, r9
  orr r11, r11, r3, lsl #8
  ldr r3, [r2, #20]
  smmla r12, r12, r4, r6
  orr r11, r11, lr, lsl #12
  ldr lr, [r0, #24]
  mla r3, r3, r8, r10
  ldr r10, [r2, #24]
  asr r12, r12, r5
  add r3, r3, r9
  mla r10, r10, r8, lr
  ldr lr, [r0, #28]
  smmla r3, r3, r4, r6
  add r10, r10, r9
  add r0, r0, #32
  smmla r10, r10, r4, r6
  asr r3, r3, r5
  usat r12, #4, r12
  sub r7, r7, #1
  usat r3, #4, r3
  asr r10, r10, r5
  orr r11, r11, r12, lsl #16
  ldr r12, [r2, #28]
  orr r11, r11, r3, lsl #20
  add r2, r2, #32
  mla r12, r12, r8, lr
  usat r10, #4, r10
  add r12, r12, r9
  smmla r12, r12, r4, r6
  orr r11, r11, r10, lsl #24
  asr r12, r12, r5
  usat r12, #4, r12
  orr r11, r11, r12, lsl #28
  str r11, [r1], #4
  cmp r7, #0
  beq .Lend_side
.Lpairs_side:
  ldr r3, [r0, #0]
  ldr r10, [r0, #4]
  ldr r11, [r2, #0]
  ldr r12, [r2, #4]
  ldr lr, [r0, #8]
  mla r11, r11, r8, r3
  ldr r3, [r2, #8]
  mla r12, r12, r8, r10
  add r11, r11, r9
  mla r3, r3, r8, lr
  smmla r11, r11, r4, r6
  add r12, r12, r9
  smmla r12, r12, r4, r6
  add r3, r3, r9
  asr r11, r11, r5
  smmla r3, r3, r4, r6
  asr r12, r12, r5
  ldr r10, [r0, #12]
  usat r11, #4, r11
  asr r3, r3, r5
  usat r12, #4, r12
  ldr lr, [r2, #12]
  usat r3, #4, r3
  mla lr, lr, r8, r10
  ldr r10, [r0, #16]
  orr r11, r11, r12, lsl #4
  ldr r12, [r2, #16]
  orr r11, r11, r3, lsl #8
  add lr, lr, r9
  smmla lr, lr, r4, r6
  ldr r3, [r0, #20]
  mla r12, r12, r8, r10
  ldr r10, [r2, #20]
  asr lr, lr, r5
  add r12, r12, r9
  mla r10, r10, r8, r3
  usat lr, #4, lr
  smmla r12, r12, r4, r6
  add r10, r10, r9
  ldr r3, [r0, #24]
  asr r12, r12, r5
  smmla r10, r10, r4, r6
  orr r11, r11, lr, lsl #12
  ldr lr, [r2, #24]
  usat r12, #4, r12
  asr r10, r10, r5
  mla lr, lr, r8, r3
  ldr r3, [r0, #28]
  usat r10, #4, r10
  orr r11, r11, r12, lsl #16
  add lr, lr, r9
  smmla lr, lr, r4, r6
  ldr r12, [r2, #28]
  orr r11, r11, r10, lsl #20
  ldr r10, [r0, #32]
  asr lr, lr, r5
  mla r12, r12, r8, r3
  ldr r3, [r2, #32]
  usat lr, #4, lr
  add r12, r12, r9
  smmla r12, r12, r4, r6
  mla r3, r3, r8, r10
  ldr r10, [r0, #36]
  orr r11, r11, lr, lsl #24
  asr r12, r12, r5
  add r3, r3, r9
  ldr lr, [r2, #36]
  usat r12, #4, r12
  smmla r3, r3, r4, r6
  mla lr, lr, r8, r10
  ldr r10, [r0, #40]
  asr r3, r3, r5
  orr r11, r11, r12, lsl #28
  str r11, [r1], #4
  usat r3, #4, r3
  add lr, lr, r9
  smmla lr, lr, r4, r6
  ldr r12, [r2, #40]
  ldr r11, [r0, #44]
  asr lr, lr, r5
  mla r12, r12, r8, r10
  ldr r10, [r2, #44]
  usat lr, #4, lr
  add r12, r12, r9
  smmla r12, r12, r4, r6
  mla r10, r10, r8, r11
  ldr r11, [r0, #48]
  orr r3, r3, lr, lsl #4
  asr r12, r12, r5
  add r10, r10, r9
  ldr lr, [r2, #48]
  usat r12, #4, r12
  smmla r10, r10, r4, r6
  mla lr, lr, r8, r11
  ldr r11, [r0, #52]
  asr r10, r10, r5
  orr r3, r3, r12, lsl #8
  add lr, lr, r9
  usat r10, #4, r10
  smmla lr, lr, r4, r6
  ldr r12, [r2, #52]
  asr lr, lr, r5
  orr r3, r3, r10, lsl #12
  mla r12, r12, r8, r11
  usat lr, #4, lr
  ldr r10, [r0, #56]
  add r12, r12, r9
  ldr r11, [r2, #56]
  smmla r12, r12, r4, r6
  orr r3, r3, lr, lsl #16
  mla r11, r11, r8, r10
  asr r12, r12, r5
  ldr lr, [r0, #60]
  add r11, r11, r9
  ldr r10, [r2, #60]
  usat r12, #4, r12
  smmla r11, r11, r4, r6
  mla r10, r10, r8, lr
  add r0, r0, #64
  asr r11, r11, r5
  add r2, r2, #64
  orr r3, r3, r12, lsl #20
  add r10, r10, r9
  usat r11, #4, r11
  smmla r10, r10, r4, r6
  sub r7, r7, #2
  asr r10, r10, r5
  orr r3, r3, r11, lsl #24
  usat r10, #4, r10
  orr r3, r3, r10, lsl #28
  str r3, [r1], #4
  cmp r7, #0
  bne .Lpairs_side
.Lend_side:
  ldr r12, [sp, #0]
  ldr r11, [sp, #4]
  ldr r3, [r12, #48]
  ldr r10, [r12, #52]
  subs r11, r11, #1
  add r0, r0, r3
  add r2, r2, r3
  add r1, r1, r10
  str r11, [sp, #4]
  bne .Lrow_side
.Lnext:
  ldr r3, [r12, #24]
  subs r3, r3, #1
  str r3, [r12, #24]
  bne .Lchannel
  add sp, sp, #8
  pop {r4-r11, pc}
.size mpq_store_block_y4_m16, . - mpq_store_block_y4_m16
