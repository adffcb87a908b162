@ void mpq_dwlanes3x3s1_y4_8(const void *lines, void *y, const void *taps, int32_t units,
@              int32_t rows, int32_t row_bytes)
@ taps: 6 words, bias of a lane in both halves, 2**up, start, M0, Zy << 16.
@ 8 outputs, 72 MACs: 56 cycles.
.syntax unified
.cpu cortex-m7
.thumb
.section .text.mpq_dwlanes3x3s1_y4_8, "ax", %progbits
.balign 8
.global mpq_dwlanes3x3s1_y4_8
.type mpq_dwlanes3x3s1_y4_8, %function
.thumb_func
mpq_dwlanes3x3s1_y4_8:
  push {r4-r11, lr}
  sub sp, sp, #20
  ldrd r4, r5, [sp, #56]
  mov r6, #16
  mul r7, r3, r6
  sub r6, r7, r6
  add r6, r6, r0
  rsb r7, r7, #512
  mov r8, #4
  mls r5, r3, r8, r5
  sub r4, r4, #1
  mov r8, #512
  mla r8, r4, r8, r6
  strd r6, r8, [sp, #0]
  strd r7, r5, [sp, #8]
.Lunit:
  ldr r3, [r2, #24]
  ldr r4, [r2, #4]
  ldr r5, [r0, #0]
  ldr r6, [r0, #4]
  ldr r7, [r2, #0]
  mov r8, r3
  mla r9, r5, r4, r3
  ldr r10, [r0, #8]
  smlal r8, r9, r5, r7
  ldr r11, [r0, #12]
  mla r12, r6, r4, r3
  ldr lr, [r2, #12]
  smlal r9, r12, r6, r7
  ldr r5, [r0, #512]
  mla r6, r10, r4, r3
  smlal r12, r6, r10, r7
  ldr r10, [r0, #16]
  mla r4, r11, r4, r3
  ldr r3, [r2, #8]
  smlal r6, r4, r11, r7
  ldr r11, [r0, #516]
  mla r9, r5, lr, r9
  mla r4, r10, r7, r4
  ldr r10, [r0, #520]
  smlal r8, r9, r5, r3
  ldr r7, [r0, #524]
  mla r12, r11, lr, r12
  ldr r5, [r2, #20]
  smlal r9, r12, r11, r3
  ldr r11, [r0, #1024]
  mla r6, r10, lr, r6
  smlal r12, r6, r10, r3
  ldr r10, [r0, #528]
  mla r4, r7, lr, r4
  ldr lr, [r2, #16]
  smlal r6, r4, r7, r3
  ldr r7, [r0, #1028]
  mla r9, r11, r5, r9
  mla r4, r10, r3, r4
  ldr r10, [r0, #1032]
  smlal r8, r9, r11, lr
  ldr r3, [r0, #1036]
  mla r12, r7, r5, r12
  ldr r11, [r0, #1040]
  smlal r9, r12, r7, lr
  ldr r8, [r2, #28]
  mla r6, r10, r5, r6
  ldr r7, [r2, #32]
  smlal r12, r6, r10, lr
  ldr r10, [r2, #36]
  mla r4, r3, r5, r4
  ldr r5, [r2, #40]
  smlal r6, r4, r3, lr
  lsr r3, r9, #16
  uxth r9, r9
  mla r4, r11, lr, r4
  mla r9, r9, r8, r7
  lsr r11, r6, #16
  uxth r6, r6
  mla r3, r3, r8, r7
  smmla r9, r9, r10, r5
  lsr lr, r12, #16
  mla r6, r6, r8, r7
  smmla r3, r3, r10, r5
  smmla r6, r6, r10, r5
  mla r11, r11, r8, r7
  uxth r12, r12
  mla lr, lr, r8, r7
  smmla r11, r11, r10, r5
  mla r12, r12, r8, r7
  pkhtb r6, r6, r9, asr #16
  lsr r9, r4, #16
  uxth r4, r4
  smmla r12, r12, r10, r5
  mla r4, r4, r8, r7
  usat16 r6, #4, r6
  mla r9, r9, r8, r7
  smmla r4, r4, r10, r5
  ldr r8, [sp, #0]
  pkhtb r11, r11, r3, asr #16
  smmla lr, lr, r10, r5
  smmla r9, r9, r10, r5
  cmp r0, r8
  usat16 r11, #4, r11
  add r0, r0, #16
  pkhtb r4, r4, r12, asr #16
  pkhtb r9, r9, lr, asr #16
  usat16 r4, #4, r4
  orr r6, r6, r11, lsl #4
  usat16 r9, #4, r9
  orr r6, r6, r4, lsl #8
  orr r6, r6, r9, lsl #12
  str r6, [r1], #4
  bne .Lunit
  ldr r6, [sp, #0]
  ldr r8, [sp, #4]
  ldrd r3, r4, [sp, #8]
  cmp r6, r8
  add r6, r6, #512
  add r0, r0, r3
  add r1, r1, r4
  str r6, [sp, #0]
  bne .Lunit
  add sp, sp, #20
  pop {r4-r11, pc}
.size mpq_dwlanes3x3s1_y4_8, . - mpq_dwlanes3x3s1_y4_8
