/* Vector table and reset code of the test firmware. */
#include <stdint.h>
extern uint32_t _estack, _sidata, _sdata, _edata, _sbss, _ebss;
int main(void);

void Reset_Handler(void) {
  uint32_t *from = &_sidata, *to = &_sdata;
  while (to < &_edata) *to++ = *from++;
  for (to = &_sbss; to < &_ebss;) *to++ = 0;
#ifdef CACHES
  *(volatile uint32_t *)0xE000ED14 |= 3u << 16;
#endif
  main();
  __asm volatile("bkpt 0");
  for (;;) {
  }
}
__attribute__((weak)) void HardFault_Handler(void) {
  for (;;) {
  }
}
__attribute__((weak)) void SysTick_Handler(void) {}
__attribute__((weak)) void SVC_Handler(void) {}
__attribute__((weak)) void PendSV_Handler(void) {}
__attribute__((weak)) void USART3_Handler(void) {}

__attribute__((section(".isr_vector"), used)) void *const vectors[16 + 40] = {
    [0] = &_estack,           [1] = Reset_Handler,   [3] = HardFault_Handler, [11] = SVC_Handler,
    [14] = PendSV_Handler,    [15] = SysTick_Handler, [16 + 39] = USART3_Handler,
};
