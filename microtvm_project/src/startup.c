/*
 * Reset and faults. Everything before main(), and the last words when something goes wrong.
 */
#include <stddef.h>
#include <stdint.h>

#include "board.h"
#include "cortex_m7.h"
#include "protocol.h"

/* Made by the linker script. */
extern uint32_t __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[];
extern uint32_t __stack_limit[], __stack_top[], __fault_stack_top[];

int main(void);
void Reset_Handler(void);
void Fault_Handler(void);
void SysTick_Handler(void);

/* A board without a SysTick user keeps this one. */
__attribute__((weak)) void SysTick_Handler(void) {}

__attribute__((weak)) void on_unexpected_interrupt(uint32_t number) {
  send_error(0u, ERROR_INTERRUPT, number);
  board_end();
}

/* PM0253 2.3.4. Device interrupts follow in vectors_<platform>.c. */
typedef void (*handler)(void);
__attribute__((section(".isr_vector"), used)) static const struct {
  const uint32_t *initial_stack;
  handler reset, nmi, hard_fault, memory_fault, bus_fault, usage_fault;
  handler reserved[4];
  handler svcall, debug_monitor, reserved_13, pendsv, systick;
} vector_table = {
    __stack_top,   Reset_Handler, Fault_Handler,   Fault_Handler, Fault_Handler,   Fault_Handler,
    Fault_Handler, {NULL},        Fault_Handler,   Fault_Handler, NULL,            Fault_Handler,
    SysTick_Handler,
};

static void enable_fpu(void) {
  SCB_CPACR |= SCB_CPACR_CP10_CP11_FULL;
  data_sync_barrier();
  instruction_sync_barrier();
}

void Reset_Handler(void) {
  enable_fpu(); /* first: the compiler may use its registers anywhere below */
  for (uint32_t *to = __data_start, *from = __data_load; to < __data_end;) {
    *to++ = *from++;
  }
  for (uint32_t *to = __bss_start; to < __bss_end;) {
    *to++ = 0u;
  }
  SCB_VTOR = (uint32_t)(uintptr_t)&vector_table;
  SCB_SHCSR |= SCB_SHCSR_MEMFAULTENA | SCB_SHCSR_BUSFAULTENA | SCB_SHCSR_USGFAULTENA;
  const enum board_error error = board_init();
  if (error != BOARD_OK) {
    send_error(0u, ERROR_BOARD, error);
    board_end();
  }
  (void)main();
  board_end();
}

/* frame: the eight words the core pushed (PM0253 2.3.7), r0 r1 r2 r3 r12 lr pc xpsr. */
__attribute__((used)) static void report_fault(const uint32_t *frame) {
  uint32_t words[ERROR_FAULT_WORDS] = {0};
  const uint32_t status = SCB_CFSR;
  /* After a stack overflow the frame lies outside the stack and cannot be read. */
  if (frame >= __stack_limit && frame + 8 <= __stack_top) {
    words[0] = frame[6];
    words[1] = frame[5];
  }
  words[2] = status;
  words[3] = SCB_HFSR;
  words[4] = (status & SCB_CFSR_MMARVALID) != 0u ? SCB_MMFAR : SCB_BFAR;
  words[5] = (uint32_t)(uintptr_t)frame;
  send_fault(words);
  board_end();
}

/* The handler has its own stack: the usual reason for being here may be that there is no other. */
__attribute__((naked)) void Fault_Handler(void) {
  __asm volatile(
      "mov r0, sp\n"
      "ldr r1, =__fault_stack_top\n"
      "mov sp, r1\n"
      "b report_fault\n");
}
