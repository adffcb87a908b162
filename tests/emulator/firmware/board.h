/* Registers the test firmware uses; the vector table and reset code are in start.c. */
#include <stdint.h>
#define REG(address) (*(volatile uint32_t *)(address))
#define USART3 0x40004800u
#define CYCCNT REG(0xE0001004u)

static inline void send(int byte) {
  while (!(REG(USART3 + 0x1C) & 0x80)) {
  }
  REG(USART3 + 0x28) = (uint8_t)byte;
}
static inline void print(const char *text) {
  while (*text) send(*text++);
}
static inline int receive(void) {
  while (!(REG(USART3 + 0x1C) & 0x20)) {
  }
  return (int)(REG(USART3 + 0x24) & 0xFF);
}
static inline void end(void) { __asm volatile("bkpt 0"); }
