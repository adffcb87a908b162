@ void mpq_core_u14w4_a2(const void *x, mpq_lanes_t *plan)
@ 512 MACs: 134 cycles.
.syntax unified
.cpu cortex-m7
.thumb
.section .text.mpq_core_u14w4_a2, "ax", %progbits
.balign 8
.global mpq_core_u14w4_a2
.type mpq_core_u14w4_a2, %function
.thumb_func
mpq_core_u14w4_a2:
  push {r4-r11, lr}
  sub sp, sp, #12
  str r1, [sp, #4]
  mov r12, r1
.Lgroup:
  ldr r2, [r12, #8]
  ldr r3, [r12, #44]
  ldr r1, [r12, #20]
  str r2, [r12, #12]
  str r3, [r12, #16]
.Lsegment:
  ldr r2, [r12, #28]
  ldr r3, [r12, #24]
  add r2, r2, r1
  cmp r2, r3
  it hi
  movhi r2, r3
  sub r3, r2, r1
  sub r2, r2, #256
  lsls r3, r3, #25
  str r2, [sp, #0]
  ldr r2, [r12, #48]
  cbz r2, .Lstart
  ldr r2, [r12, #4]
  ldr r3, [r12, #40]
  add r3, r3, r2
  ldm r2, {r4-r7}
  ldm r3, {r8-r11}
  ldr r2, [r0]
  ldr r3, [r1]
  ldr lr, [r0, #4]
  ldr r12, [r1, #4]
  b .Lready
.Lstart:
  ldr r2, [r12, #12]
  ldr r4, [r12, #64]
  ldr r5, [r12, #68]
  ldr r3, [r12, #56]
  ldr lr, [r2, #0]
  ldr r2, [r2, #4]
  ldr r6, [r12, #64]
  ldr r7, [r12, #68]
  umlal r4, r5, lr, r3
  ldr r8, [r12, #72]
  ldr r9, [r12, #76]
  umlal r6, r7, r2, r3
  ldr r3, [r12, #60]
  ldr r10, [r12, #72]
  ldr r11, [r12, #76]
  sub r5, r5, lr
  umlal r8, r9, lr, r3
  sub r7, r7, r2
  umlal r10, r11, r2, r3
  ldr r3, [r1, #0]
  sub r9, r9, lr
  ldr r12, [r1, #4]
  sub r11, r11, r2
  ldr r2, [r0, #0]
  ldr lr, [r0, #4]
.Lready:
  bcs .Lsixteen
  bpl .Ltaps
  sub r0, r0, #192
  sub r1, r1, #192
  b .Lpart3
.Lsixteen:
  bmi .Ltwenty_four
  sub r0, r0, #128
  sub r1, r1, #128
  b .Lpart2
.Ltwenty_four:
  sub r0, r0, #64
  sub r1, r1, #64
  b .Lpart1
.Ltaps:
  umlal r4, r5, r2, r3
  umlal r8, r9, r2, r12
  ldr r2, [r0, #8]
  umlal r10, r11, lr, r12
  ldr r12, [r1, #12]
  umlal r6, r7, lr, r3
  ldr lr, [r1, #8]
  ldr r3, [r0, #12]
  umlal r8, r9, r2, r12
  umlal r4, r5, r2, lr
  ldr r2, [r0, #16]
  umlal r6, r7, r3, lr
  ldr lr, [r1, #16]
  umlal r10, r11, r3, r12
  ldr r3, [r1, #20]
  ldr r12, [r0, #20]
  umlal r4, r5, r2, lr
  umlal r8, r9, r2, r3
  ldr r2, [r0, #24]
  umlal r10, r11, r12, r3
  ldr r3, [r1, #28]
  umlal r6, r7, r12, lr
  ldr r12, [r1, #24]
  ldr lr, [r0, #28]
  umlal r8, r9, r2, r3
  umlal r4, r5, r2, r12
  ldr r2, [r0, #32]
  umlal r6, r7, lr, r12
  ldr r12, [r1, #32]
  umlal r10, r11, lr, r3
  ldr lr, [r1, #36]
  ldr r3, [r0, #36]
  umlal r4, r5, r2, r12
  umlal r8, r9, r2, lr
  ldr r2, [r0, #40]
  umlal r10, r11, r3, lr
  ldr lr, [r1, #44]
  umlal r6, r7, r3, r12
  ldr r3, [r1, #40]
  ldr r12, [r0, #44]
  umlal r8, r9, r2, lr
  umlal r4, r5, r2, r3
  ldr r2, [r0, #48]
  umlal r6, r7, r12, r3
  ldr r3, [r1, #48]
  umlal r10, r11, r12, lr
  ldr r12, [r1, #52]
  ldr lr, [r0, #52]
  umlal r4, r5, r2, r3
  umlal r8, r9, r2, r12
  ldr r2, [r0, #56]
  umlal r10, r11, lr, r12
  ldr r12, [r1, #60]
  umlal r6, r7, lr, r3
  ldr lr, [r1, #56]
  ldr r3, [r0, #60]
  umlal r8, r9, r2, r12
  umlal r4, r5, r2, lr
  ldr r2, [r0, #64]
  umlal r6, r7, r3, lr
  ldr lr, [r0, #68]
  umlal r10, r11, r3, r12
  ldr r3, [r1, #64]
  ldr r12, [r1, #68]
.Lpart1:
  umlal r4, r5, r2, r3
  umlal r8, r9, r2, r12
  ldr r2, [r0, #72]
  umlal r10, r11, lr, r12
  ldr r12, [r1, #76]
  umlal r6, r7, lr, r3
  ldr lr, [r1, #72]
  ldr r3, [r0, #76]
  umlal r8, r9, r2, r12
  umlal r4, r5, r2, lr
  ldr r2, [r0, #80]
  umlal r6, r7, r3, lr
  ldr lr, [r1, #80]
  umlal r10, r11, r3, r12
  ldr r3, [r1, #84]
  ldr r12, [r0, #84]
  umlal r4, r5, r2, lr
  umlal r8, r9, r2, r3
  ldr r2, [r0, #88]
  umlal r10, r11, r12, r3
  ldr r3, [r1, #92]
  umlal r6, r7, r12, lr
  ldr r12, [r1, #88]
  ldr lr, [r0, #92]
  umlal r8, r9, r2, r3
  umlal r4, r5, r2, r12
  ldr r2, [r0, #96]
  umlal r6, r7, lr, r12
  ldr r12, [r1, #96]
  umlal r10, r11, lr, r3
  ldr lr, [r1, #100]
  ldr r3, [r0, #100]
  umlal r4, r5, r2, r12
  umlal r8, r9, r2, lr
  ldr r2, [r0, #104]
  umlal r10, r11, r3, lr
  ldr lr, [r1, #108]
  umlal r6, r7, r3, r12
  ldr r3, [r1, #104]
  ldr r12, [r0, #108]
  umlal r8, r9, r2, lr
  umlal r4, r5, r2, r3
  ldr r2, [r0, #112]
  umlal r6, r7, r12, r3
  ldr r3, [r1, #112]
  umlal r10, r11, r12, lr
  ldr r12, [r1, #116]
  ldr lr, [r0, #116]
  umlal r4, r5, r2, r3
  umlal r8, r9, r2, r12
  ldr r2, [r0, #120]
  umlal r10, r11, lr, r12
  ldr r12, [r1, #124]
  umlal r6, r7, lr, r3
  ldr lr, [r1, #120]
  ldr r3, [r0, #124]
  umlal r8, r9, r2, r12
  umlal r4, r5, r2, lr
  ldr r2, [r0, #128]
  umlal r6, r7, r3, lr
  ldr lr, [r0, #132]
  umlal r10, r11, r3, r12
  ldr r3, [r1, #128]
  ldr r12, [r1, #132]
.Lpart2:
  umlal r4, r5, r2, r3
  umlal r8, r9, r2, r12
  ldr r2, [r0, #136]
  umlal r10, r11, lr, r12
  ldr r12, [r1, #140]
  umlal r6, r7, lr, r3
  ldr lr, [r1, #136]
  ldr r3, [r0, #140]
  umlal r8, r9, r2, r12
  umlal r4, r5, r2, lr
  ldr r2, [r0, #144]
  umlal r6, r7, r3, lr
  ldr lr, [r1, #144]
  umlal r10, r11, r3, r12
  ldr r3, [r1, #148]
  ldr r12, [r0, #148]
  umlal r4, r5, r2, lr
  umlal r8, r9, r2, r3
  ldr r2, [r0, #152]
  umlal r10, r11, r12, r3
  ldr r3, [r1, #156]
  umlal r6, r7, r12, lr
  ldr r12, [r1, #152]
  ldr lr, [r0, #156]
  umlal r8, r9, r2, r3
  umlal r4, r5, r2, r12
  ldr r2, [r0, #160]
  umlal r6, r7, lr, r12
  ldr r12, [r1, #160]
  umlal r10, r11, lr, r3
  ldr lr, [r1, #164]
  ldr r3, [r0, #164]
  umlal r4, r5, r2, r12
  umlal r8, r9, r2, lr
  ldr r2, [r0, #168]
  umlal r10, r11, r3, lr
  ldr lr, [r1, #172]
  umlal r6, r7, r3, r12
  ldr r3, [r1, #168]
  ldr r12, [r0, #172]
  umlal r8, r9, r2, lr
  umlal r4, r5, r2, r3
  ldr r2, [r0, #176]
  umlal r6, r7, r12, r3
  ldr r3, [r1, #176]
  umlal r10, r11, r12, lr
  ldr r12, [r1, #180]
  ldr lr, [r0, #180]
  umlal r4, r5, r2, r3
  umlal r8, r9, r2, r12
  ldr r2, [r0, #184]
  umlal r10, r11, lr, r12
  ldr r12, [r1, #188]
  umlal r6, r7, lr, r3
  ldr lr, [r1, #184]
  ldr r3, [r0, #188]
  umlal r8, r9, r2, r12
  umlal r4, r5, r2, lr
  ldr r2, [r0, #192]
  umlal r6, r7, r3, lr
  ldr lr, [r0, #196]
  umlal r10, r11, r3, r12
  ldr r3, [r1, #192]
  ldr r12, [r1, #196]
.Lpart3:
  umlal r4, r5, r2, r3
  umlal r8, r9, r2, r12
  ldr r2, [r0, #200]
  umlal r10, r11, lr, r12
  ldr r12, [r1, #204]
  umlal r6, r7, lr, r3
  ldr lr, [r1, #200]
  ldr r3, [r0, #204]
  umlal r8, r9, r2, r12
  umlal r4, r5, r2, lr
  ldr r2, [r0, #208]
  umlal r6, r7, r3, lr
  ldr lr, [r1, #208]
  umlal r10, r11, r3, r12
  ldr r3, [r1, #212]
  ldr r12, [r0, #212]
  umlal r4, r5, r2, lr
  umlal r8, r9, r2, r3
  ldr r2, [r0, #216]
  umlal r10, r11, r12, r3
  ldr r3, [r1, #220]
  umlal r6, r7, r12, lr
  ldr r12, [r1, #216]
  ldr lr, [r0, #220]
  umlal r8, r9, r2, r3
  umlal r4, r5, r2, r12
  ldr r2, [r0, #224]
  umlal r6, r7, lr, r12
  ldr r12, [r1, #224]
  umlal r10, r11, lr, r3
  ldr lr, [r1, #228]
  ldr r3, [r0, #228]
  umlal r4, r5, r2, r12
  umlal r8, r9, r2, lr
  ldr r2, [r0, #232]
  umlal r10, r11, r3, lr
  ldr lr, [r1, #236]
  umlal r6, r7, r3, r12
  ldr r3, [r1, #232]
  ldr r12, [r0, #236]
  umlal r8, r9, r2, lr
  umlal r4, r5, r2, r3
  ldr r2, [r0, #240]
  umlal r6, r7, r12, r3
  ldr r3, [r1, #240]
  umlal r10, r11, r12, lr
  ldr r12, [r1, #244]
  ldr lr, [r0, #244]
  umlal r4, r5, r2, r3
  umlal r8, r9, r2, r12
  ldr r2, [r0, #248]
  umlal r10, r11, lr, r12
  ldr r12, [r1, #252]
  umlal r6, r7, lr, r3
  ldr lr, [r1, #248]
  ldr r3, [r0, #252]
  umlal r8, r9, r2, r12
  umlal r4, r5, r2, lr
  ldr r2, [sp, #0]
  umlal r6, r7, r3, lr
  ldr lr, [r0, #260]
  umlal r10, r11, r3, r12
  ldr r3, [r1, #256]
  ldr r12, [r1, #260]
  cmp r1, r2
  ldr r2, [r0, #256]
  add r0, r0, #256
  add r1, r1, #256
  bne .Ltaps
  ldr r12, [sp, #4]
  str r0, [sp, #8]
  ldr r2, [r12, #52]
  cbz r2, .Lspill
  ldr r2, [r12, #4]
  ldr r3, [r12, #40]
  add r3, r3, r2
  stm r2, {r4-r7}
  stm r3, {r8-r11}
  b .Lspilled
.Lspill:
  ldr r2, [r12, #4]
  ldr r3, [r12, #40]
  ldr lr, [r12, #16]
  cmp lr, #0
  beq .Ladd
  ubfx r0, r4, #0, #14
  str r0, [r2, #0]
  ubfx r1, r4, #14, #14
  str r1, [r2, #4]
  ubfx r12, r6, #0, #14
  ubfx lr, r6, #14, #14
  str r12, [r2, #8]
  str lr, [r2, #12]
  lsr r0, r4, #28
  add r2, r2, r3
  orr r0, r0, r5, lsl #4
  lsr r1, r6, #28
  orr r1, r1, r7, lsl #4
  ubfx r0, r0, #0, #14
  str r0, [r2, #0]
  lsr r12, r5, #10
  lsr lr, r7, #10
  ubfx r1, r1, #0, #14
  str r12, [r2, #4]
  str r1, [r2, #8]
  lsr r0, r8, #28
  str lr, [r2, #12]
  add r2, r2, r3
  ubfx r12, r8, #0, #14
  lsr r1, r9, #10
  ubfx lr, r8, #14, #14
  str r12, [r2, #0]
  ubfx r12, r10, #0, #14
  str lr, [r2, #4]
  ubfx lr, r10, #14, #14
  str r12, [r2, #8]
  str lr, [r2, #12]
  orr r0, r0, r9, lsl #4
  add r2, r2, r3
  lsr r12, r10, #28
  ubfx r0, r0, #0, #14
  str r0, [r2, #0]
  str r1, [r2, #4]
  orr r12, r12, r11, lsl #4
  lsr lr, r11, #10
  str lr, [r2, #12]
  ubfx r12, r12, #0, #14
  str r12, [r2, #8]
  b .Lspilled
.Ladd:
  ldr r0, [r2, #0]
  ubfx r1, r4, #0, #14
  add r0, r0, r1
  ldr r12, [r2, #4]
  str r0, [r2, #0]
  ubfx lr, r4, #14, #14
  add r12, r12, lr
  ldr r1, [r2, #8]
  ldr r0, [r2, #12]
  str r12, [r2, #4]
  ubfx lr, r6, #0, #14
  ubfx r12, r6, #14, #14
  add r1, r1, lr
  add r0, r0, r12
  str r1, [r2, #8]
  str r0, [r2, #12]
  add r2, r2, r3
  lsr lr, r4, #28
  orr lr, lr, r5, lsl #4
  ldr r12, [r2, #0]
  ldr r1, [r2, #4]
  ubfx lr, lr, #0, #14
  lsr r0, r6, #28
  add r12, r12, lr
  str r12, [r2, #0]
  lsr lr, r5, #10
  ldr r12, [r2, #8]
  orr r0, r0, r7, lsl #4
  add r1, r1, lr
  ldr lr, [r2, #12]
  str r1, [r2, #4]
  ubfx r0, r0, #0, #14
  lsr r1, r7, #10
  add r12, r12, r0
  add lr, lr, r1
  str r12, [r2, #8]
  str lr, [r2, #12]
  add r2, r2, r3
  ubfx r0, r8, #0, #14
  ldr r1, [r2, #0]
  ldr r12, [r2, #4]
  ldr lr, [r2, #8]
  add r1, r1, r0
  ldr r0, [r2, #12]
  str r1, [r2, #0]
  ubfx r1, r8, #14, #14
  add r12, r12, r1
  str r12, [r2, #4]
  ubfx r1, r10, #0, #14
  lsr r12, r8, #28
  add lr, lr, r1
  str lr, [r2, #8]
  ubfx r1, r10, #14, #14
  add r0, r0, r1
  str r0, [r2, #12]
  add r2, r2, r3
  orr r12, r12, r9, lsl #4
  ldr lr, [r2, #0]
  ldr r1, [r2, #4]
  ubfx r12, r12, #0, #14
  lsr r0, r9, #10
  add lr, lr, r12
  str lr, [r2, #0]
  add r1, r1, r0
  lsr r12, r10, #28
  str r1, [r2, #4]
  ldr lr, [r2, #8]
  orr r12, r12, r11, lsl #4
  ldr r0, [r2, #12]
  lsr r1, r11, #10
  add r0, r0, r1
  ubfx r12, r12, #0, #14
  str r0, [r2, #12]
  add lr, lr, r12
  str lr, [r2, #8]
.Lspilled:
  ldr r12, [sp, #4]
  ldr r1, [sp, #0]
  mov r2, #0
  ldr r3, [r12, #24]
  add r1, r1, #256
  str r2, [r12, #16]
  ldr r2, [r12, #12]
  ldr lr, [r12, #36]
  ldr r0, [sp, #8]
  add r2, r2, lr
  cmp r1, r3
  str r2, [r12, #12]
  bne .Lsegment
  ldr r2, [r12, #4]
  ldr r3, [r12, #8]
  ldr r1, [r12, #32]
  ldr lr, [r12, #0]
  add r2, r2, #16
  add r3, r3, #8
  add r0, r0, r1
  subs lr, lr, #1
  str r2, [r12, #4]
  str r3, [r12, #8]
  str lr, [r12, #0]
  bne .Lgroup
  add sp, sp, #12
  pop {r4-r11, pc}
.size mpq_core_u14w4_a2, . - mpq_core_u14w4_a2
