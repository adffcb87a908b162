/*
 * ARM MPS2 with AN500 (Cortex-M7), as qemu-system-arm models it: no clocks to set, no cycles to
 * count. The UART is the CMSDK one (DDI 0479, section 4.3); one byte each way, no errors.
 */
#include "board.h"

#include "cortex_m7.h"

#define UART0_DATA CORE_REGISTER(0x40004000u)
#define UART0_STATE CORE_REGISTER(0x40004004u)
#define UART_STATE_TX_FULL (1u << 0)
#define UART_STATE_RX_FULL (1u << 1)
#define UART0_CTRL CORE_REGISTER(0x40004008u)
#define UART_CTRL_TX_ENABLE (1u << 0)
#define UART_CTRL_RX_ENABLE (1u << 1)
#define UART0_BAUDDIV CORE_REGISTER(0x40004010u)
#define UART_BAUDDIV_MIN 16u

#define CLOCK_HZ 25000000u /* AN500 section 3.5 */
#define SYST_CSR_COUNTFLAG (1u << 16)
#define SCB_AIRCR CORE_REGISTER(0xE000ED0Cu) /* PM0253 4.3.5 */
#define SCB_AIRCR_RESET 0x05FA0004u          /* key and SYSRESETREQ */

enum board_error board_init(void) {
  UART0_BAUDDIV = UART_BAUDDIV_MIN;
  UART0_CTRL = UART_CTRL_TX_ENABLE | UART_CTRL_RX_ENABLE;
  SYST_RVR = CLOCK_HZ / 1000u - 1u;
  SYST_CVR = 0u;
  SYST_CSR = SYST_CSR_CLKSOURCE_CORE | SYST_CSR_ENABLE;
  return BOARD_OK;
}

void board_feed_watchdog(void) {}

uint32_t board_clock_hz(void) { return 0u; }

int board_read_byte(uint32_t timeout_ms) {
  uint32_t passed_ms = 0u;
  while ((UART0_STATE & UART_STATE_RX_FULL) == 0u) {
    /* COUNTFLAG clears when read: PM0253 4.4.1. */
    if ((SYST_CSR & SYST_CSR_COUNTFLAG) != 0u && ++passed_ms > timeout_ms && timeout_ms != 0u) {
      return BOARD_READ_TIMEOUT;
    }
  }
  return (int)(UART0_DATA & 0xFFu);
}

void board_write_byte(uint8_t byte) {
  while ((UART0_STATE & UART_STATE_TX_FULL) != 0u) {
  }
  UART0_DATA = byte;
}

void board_flush(void) {
  while ((UART0_STATE & UART_STATE_TX_FULL) != 0u) {
  }
}

void board_cycles_start(void) {}

uint64_t board_cycles_stop(void) { return 0u; }

_Noreturn void board_end(void) {
  board_flush();
  SCB_AIRCR = SCB_AIRCR_RESET; /* qemu -no-reboot ends here */
  for (;;) {
    __asm volatile("wfi");
  }
}
