@ void mpq_core_smlad_k8(const void *x, const void *w, int32_t *acc, const int32_t *start,
@                     int32_t pixels, int32_t k, int32_t k_total, int32_t done)
@ 4 pixels x 2 channels x 8 taps: 35 cycles;
@ 2 pixels: 19.
.syntax unified
.cpu cortex-m7
.thumb
.section .text.mpq_core_smlad_k8, "ax", %progbits
.balign 8
.global mpq_core_smlad_k8
.type mpq_core_smlad_k8, %function
.thumb_func
mpq_core_smlad_k8:
  push {r4-r11, lr}
  sub sp, sp, #40
  str r1, [sp, #4]
  str r2, [sp, #8]
  str r3, [sp, #20]
  ldr r12, [sp, #76]
  ldr r2, [sp, #80]
  ldr r3, [sp, #84]
  str r12, [sp, #12]
  lsl r1, r12, #2
  str r1, [sp, #16]
  sub r3, r3, r2
  lsl r1, r2, #3
  sub r1, r1, #64
  str r1, [sp, #24]
  lsl r1, r2, #2
  sub r1, r1, #32
  str r1, [sp, #28]
  lsl r1, r3, #3
  str r1, [sp, #32]
  lsl r1, r3, #2
  str r1, [sp, #36]
  cmp r12, #4
  blt .Ltail
.Lgroup4:
  ldr r12, [sp, #24]
  ldr r3, [sp, #20]
  add r12, r0, r12
  str r12, [sp, #0]
  ldr r2, [sp, #8]
  cbnz r3, .Lstart4
  ldr r3, [sp, #16]
  add r3, r3, r2
  ldm r2, {r4-r7}
  ldm r3, {r8-r11}
  b .Lready4
.Lstart4:
  ldr r4, [r3]
  ldr r8, [r3, #4]
  mov r5, r4
  mov r6, r4
  mov r7, r4
  mov r9, r8
  mov r10, r8
  mov r11, r8
.Lready4:
  ldr r1, [sp, #4]
  ldr r12, [r0]
  ldr lr, [r0, #4]
  ldr r2, [r1]
  ldr r3, [r1, #4]
.Ltaps4:
  smlad r4, r12, r2, r4
  smlad r8, r12, r3, r8
  ldr r12, [r0, #8]
  smlad r5, lr, r2, r5
  smlad r9, lr, r3, r9
  ldr lr, [r0, #12]
  smlad r6, r12, r2, r6
  smlad r10, r12, r3, r10
  ldr r12, [r1, #8]
  smlad r7, lr, r2, r7
  ldr r2, [r0, #16]
  smlad r11, lr, r3, r11
  ldr lr, [r1, #12]
  ldr r3, [r0, #20]
  smlad r4, r2, r12, r4
  smlad r8, r2, lr, r8
  ldr r2, [r0, #24]
  smlad r5, r3, r12, r5
  smlad r9, r3, lr, r9
  ldr r3, [r0, #28]
  smlad r6, r2, r12, r6
  smlad r10, r2, lr, r10
  ldr r2, [r1, #16]
  smlad r7, r3, r12, r7
  ldr r12, [r0, #32]
  smlad r11, r3, lr, r11
  ldr r3, [r1, #20]
  ldr lr, [r0, #36]
  smlad r4, r12, r2, r4
  smlad r8, r12, r3, r8
  ldr r12, [r0, #40]
  smlad r5, lr, r2, r5
  smlad r9, lr, r3, r9
  ldr lr, [r0, #44]
  smlad r6, r12, r2, r6
  smlad r10, r12, r3, r10
  ldr r12, [r1, #24]
  smlad r7, lr, r2, r7
  ldr r2, [r0, #48]
  smlad r11, lr, r3, r11
  ldr lr, [r1, #28]
  ldr r3, [r0, #52]
  smlad r4, r2, r12, r4
  smlad r8, r2, lr, r8
  ldr r2, [r0, #56]
  smlad r5, r3, r12, r5
  smlad r9, r3, lr, r9
  ldr r3, [r0, #60]
  smlad r6, r2, r12, r6
  smlad r10, r2, lr, r10
  ldr r2, [sp, #0]
  smlad r7, r3, r12, r7
  ldr r12, [r0, #64]
  cmp r0, r2
  ldr r2, [r1, #32]
  smlad r11, r3, lr, r11
  ldr r3, [r1, #36]
  ldr lr, [r0, #68]
  add r0, r0, #64
  add r1, r1, #32
  bne .Ltaps4
  ldr r2, [sp, #8]
  ldr r3, [sp, #16]
  ldr r12, [sp, #32]
  add r3, r3, r2
  stm r2!, {r4-r7}
  add r0, r0, r12
  stm r3, {r8-r11}
  ldr r12, [sp, #12]
  str r2, [sp, #8]
  subs r12, r12, #4
  str r12, [sp, #12]
  cmp r12, #4
  bge .Lgroup4
.Ltail:
  ldr r12, [sp, #12]
  cmp r12, #0
  ble .Ldone
  ldr r1, [sp, #88]
  sub r0, r0, r1, lsl #2
.Lgroup2:
  ldr r12, [sp, #28]
  ldr r3, [sp, #20]
  add r12, r0, r12
  str r12, [sp, #0]
  ldr r2, [sp, #8]
  cbnz r3, .Lstart2
  ldr r3, [sp, #16]
  add r3, r3, r2
  ldm r2, {r4-r5}
  ldm r3, {r8-r9}
  b .Lready2
.Lstart2:
  ldr r4, [r3]
  ldr r8, [r3, #4]
  mov r5, r4
  mov r9, r8
.Lready2:
  ldr r1, [sp, #4]
  ldr r12, [r0]
  ldr lr, [r0, #4]
  ldr r2, [r1]
  ldr r3, [r1, #4]
.Ltaps2:
  smlad r4, r12, r2, r4
  ldr r6, [r1, #8]
  smlad r8, r12, r3, r8
  ldr r7, [r0, #8]
  smlad r5, lr, r2, r5
  ldr r10, [r1, #12]
  smlad r9, lr, r3, r9
  ldr r11, [r0, #12]
  smlad r4, r7, r6, r4
  ldr r12, [r1, #16]
  smlad r8, r7, r10, r8
  ldr r2, [r0, #16]
  smlad r5, r11, r6, r5
  ldr lr, [r1, #20]
  smlad r9, r11, r10, r9
  ldr r3, [r0, #20]
  smlad r4, r2, r12, r4
  ldr r7, [r1, #24]
  smlad r8, r2, lr, r8
  ldr r6, [r0, #24]
  smlad r5, r3, r12, r5
  ldr r11, [r1, #28]
  smlad r9, r3, lr, r9
  ldr r10, [r0, #28]
  smlad r4, r6, r7, r4
  ldr r2, [sp, #0]
  smlad r8, r6, r11, r8
  ldr r12, [r0, #32]
  smlad r5, r10, r7, r5
  ldr lr, [r0, #36]
  smlad r9, r10, r11, r9
  ldr r3, [r1, #36]
  cmp r0, r2
  ldr r2, [r1, #32]
  add r0, r0, #32
  add r1, r1, #32
  bne .Ltaps2
  ldr r2, [sp, #8]
  ldr r3, [sp, #16]
  ldr r12, [sp, #36]
  add r3, r3, r2
  stm r2!, {r4-r5}
  add r0, r0, r12
  stm r3, {r8-r9}
  ldr r12, [sp, #12]
  str r2, [sp, #8]
  subs r12, r12, #2
  str r12, [sp, #12]
.Ldone:
  add sp, sp, #40
  pop {r4-r11, pc}
.size mpq_core_smlad_k8, . - mpq_core_smlad_k8
