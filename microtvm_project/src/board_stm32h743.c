/*
 * STM32H743ZI on the Nucleo-144 board: register writes only, no vendor library.
 *
 * Not yet run on hardware. Every write names its register; the sections are in
 * stm32h743_registers.h and cortex_m7.h. The steps follow the order RM0433 asks for:
 * supply and voltage (6.6.2), flash wait states (4.3.8), PLL (8.5.5), dividers, switch (8.5.6).
 *
 * Memory attributes stay at the architecture's defaults (PM0253 2.2.1): flash write-through, AXI
 * SRAM write-back and write-allocate. There is no DMA, so no cache maintenance and no MPU set-up.
 */
#include "board.h"

#include <stdbool.h>

#include "cortex_m7.h"
#include "stm32h743_registers.h"

#ifndef CLOCK_MHZ
#define CLOCK_MHZ 400
#endif
#if CLOCK_MHZ != 400 && CLOCK_MHZ != 480
#error "CLOCK_MHZ must be 400 (any silicon) or 480 (revision V silicon, voltage scale 0)"
#endif

#ifndef WATCHDOG_MS
#define WATCHDOG_MS 0
#endif
#if WATCHDOG_MS != 0 && (WATCHDOG_MS < 16 || WATCHDOG_MS > 32760)
#error "WATCHDOG_MS must be 0 (none) or 16 to 32760"
#endif

#define HSI_HZ 64000000u
#define BAUD 115200u
#define UART_TX_PIN 8u /* PD8, PD9: ST-LINK virtual COM port, UM1974 6.9 */
#define UART_RX_PIN 9u
#define UART_ALTERNATE_FUNCTION 7u /* STM32H743 data sheet, table 12 (port D) */

#define DCACHE_SETS 128u /* 16 KiB, 4 ways, 32-byte lines: PM0253 4.5 (CCSIDR) */
#define DCACHE_WAYS 4u

/* Looks at a register up to LIMIT times: at least 4 ms at any clock, far more than what is waited for
 * ever takes. */
#define LIMIT 200000u
static bool becomes(const volatile uint32_t *place, uint32_t mask, uint32_t value) {
  for (uint32_t tries = 0; tries < LIMIT; ++tries) {
    if ((*place & mask) == value) {
      return true;
    }
  }
  return false;
}

static enum board_error set_voltage(void) {
  /* The supply can be configured once after power-on; SCUEN reads 0 when that has happened. */
  if ((PWR_CR3 & PWR_CR3_SCUEN) != 0u) {
    PWR_CR3 = (PWR_CR3 & ~(PWR_CR3_SCUEN | PWR_CR3_BYPASS)) | PWR_CR3_LDOEN;
  }
  if (!becomes(&PWR_CSR1, PWR_CSR1_ACTVOSRDY, PWR_CSR1_ACTVOSRDY)) {
    return BOARD_ERROR_SUPPLY;
  }
  PWR_D3CR = (PWR_D3CR & ~PWR_D3CR_VOS_MASK) | PWR_D3CR_VOS_SCALE1;
  if (!becomes(&PWR_D3CR, PWR_D3CR_VOSRDY, PWR_D3CR_VOSRDY)) {
    return BOARD_ERROR_VOLTAGE;
  }
#if CLOCK_MHZ > 400
  /* Scale 0 is scale 1 plus overdrive: RM0433 6.6.2. */
  RCC_APB4ENR |= RCC_APB4ENR_SYSCFGEN;
  (void)RCC_APB4ENR; /* RM0433 8.5.10: a peripheral answers two cycles after its clock starts */
  SYSCFG_PWRCR |= SYSCFG_PWRCR_ODEN;
  if (!becomes(&PWR_D3CR, PWR_D3CR_VOSRDY, PWR_D3CR_VOSRDY)) {
    return BOARD_ERROR_VOLTAGE;
  }
#endif
  return BOARD_OK;
}

static enum board_error set_flash_wait_states(void) {
  /* AXI runs at half the core clock: 200 MHz at scale 1 takes 2 wait states, 240 at scale 0, 4. */
  const uint32_t wait_states = CLOCK_MHZ > 400 ? 4u : 2u;
  FLASH_ACR = FLASH_ACR_WRHIGHFREQ(2) | FLASH_ACR_LATENCY(wait_states);
  const bool is_set = becomes(&FLASH_ACR, FLASH_ACR_LATENCY_MASK, wait_states);
  return is_set ? BOARD_OK : BOARD_ERROR_FLASH;
}

static enum board_error start_pll(void) {
  RCC_CR |= RCC_CR_HSION;
  if (!becomes(&RCC_CR, RCC_CR_HSIRDY, RCC_CR_HSIRDY)) {
    return BOARD_ERROR_OSCILLATOR;
  }
  /* 64 MHz / 4 = 16 MHz reference; x N / 2 = core clock, so the VCO runs at 800 or 960 MHz. */
  RCC_PLLCKSELR = RCC_PLLCKSELR_PLLSRC_HSI | RCC_PLLCKSELR_DIVM1(4);
  RCC_PLLCFGR =
      RCC_PLLCFGR_PLL1VCOSEL_WIDE | RCC_PLLCFGR_PLL1RGE_8_TO_16_MHZ | RCC_PLLCFGR_DIVP1EN;
  RCC_PLL1DIVR = RCC_PLL1DIVR_N(CLOCK_MHZ / 8) | RCC_PLL1DIVR_P(2) | RCC_PLL1DIVR_Q(4) |
                 RCC_PLL1DIVR_R(2);
  RCC_CR |= RCC_CR_PLL1ON;
  return becomes(&RCC_CR, RCC_CR_PLL1RDY, RCC_CR_PLL1RDY) ? BOARD_OK : BOARD_ERROR_PLL;
}

static enum board_error switch_to_pll(void) {
  /* Dividers first: buses must never see the full core clock. */
  RCC_D1CFGR = RCC_D1CFGR_D1CPRE_DIV1 | RCC_D1CFGR_D1PPRE_DIV2 | RCC_D1CFGR_HPRE_DIV2;
  RCC_D2CFGR = RCC_D2CFGR_D2PPRE1_DIV2 | RCC_D2CFGR_D2PPRE2_DIV2;
  RCC_D3CFGR = RCC_D3CFGR_D3PPRE_DIV2;
  RCC_CFGR = (RCC_CFGR & ~RCC_CFGR_SW_MASK) | RCC_CFGR_SW_PLL1;
  const bool is_on = becomes(&RCC_CFGR, RCC_CFGR_SWS_MASK, RCC_CFGR_SWS(RCC_CFGR_SW_PLL1));
  return is_on ? BOARD_OK : BOARD_ERROR_CLOCK_SWITCH;
}

/* The first step that fails ends it: the core then runs on as it was. */
static enum board_error start_clocks(void) {
  enum board_error (*const steps[])(void) = {set_voltage, set_flash_wait_states, start_pll,
                                             switch_to_pll};
  for (uint32_t i = 0; i < sizeof steps / sizeof *steps; ++i) {
    const enum board_error error = steps[i]();
    if (error != BOARD_OK) {
      return error;
    }
  }
  return BOARD_OK;
}

/* Its clock is 32 kHz / 256: 8 ms a step. Once started, only a reset stops it. */
static enum board_error start_watchdog(void) {
#if WATCHDOG_MS > 0
  IWDG_KR = IWDG_KR_START;
  IWDG_KR = IWDG_KR_UNLOCK;
  IWDG_PR = IWDG_PR_DIV256;
  IWDG_RLR = WATCHDOG_MS / 8u;
  if (!becomes(&IWDG_SR, IWDG_SR_UPDATING, 0u)) {
    return BOARD_ERROR_WATCHDOG;
  }
#endif
  board_feed_watchdog();
  return BOARD_OK;
}

void board_feed_watchdog(void) {
#if WATCHDOG_MS > 0
  IWDG_KR = IWDG_KR_FEED;
#endif
}

static void start_uart(void) {
  RCC_AHB4ENR |= RCC_AHB4ENR_GPIODEN;
  RCC_APB1LENR |= RCC_APB1LENR_USART3EN;
  /* From HSI, so that the baud rate does not depend on the core clock. */
  RCC_D2CCIP2R = (RCC_D2CCIP2R & ~RCC_D2CCIP2R_USART234578SEL_MASK) |
                 RCC_D2CCIP2R_USART234578SEL_HSI;
  (void)RCC_APB1LENR;
  GPIOD_MODER = (GPIOD_MODER & ~(GPIO_MODE_MASK(UART_TX_PIN) | GPIO_MODE_MASK(UART_RX_PIN))) |
                GPIO_MODE_ALTERNATE(UART_TX_PIN) | GPIO_MODE_ALTERNATE(UART_RX_PIN);
  /* Pull-up: an unconnected receive line must not look like an endless start bit. */
  GPIOD_PUPDR = (GPIOD_PUPDR & ~GPIO_PULL_MASK(UART_RX_PIN)) | GPIO_PULL_UP(UART_RX_PIN);
  GPIOD_AFRH = (GPIOD_AFRH & ~(GPIO_AFRH_MASK(UART_TX_PIN) | GPIO_AFRH_MASK(UART_RX_PIN))) |
               GPIO_AFRH(UART_TX_PIN, UART_ALTERNATE_FUNCTION) |
               GPIO_AFRH(UART_RX_PIN, UART_ALTERNATE_FUNCTION);
  USART3_BRR = (HSI_HZ + BAUD / 2u) / BAUD;
  USART3_CR1 = USART_CR1_FIFOEN;
  USART3_CR1 = USART_CR1_FIFOEN | USART_CR1_UE | USART_CR1_RE | USART_CR1_TE;
}

static void enable_caches(void) {
  data_sync_barrier();
  SCB_ICIALLU = 0u;
  data_sync_barrier();
  instruction_sync_barrier();
  SCB_CCR |= SCB_CCR_IC;
  data_sync_barrier();
  instruction_sync_barrier();
  /* Cache contents are random after power-on: PM0253 4.8. Doing it twice after a warm reset is
   * harmless as long as the cache is off. */
  if ((SCB_CCR & SCB_CCR_DC) != 0u) {
    return;
  }
  SCB_CSSELR = 0u;
  data_sync_barrier();
  for (uint32_t set = 0; set < DCACHE_SETS; ++set) {
    for (uint32_t way = 0; way < DCACHE_WAYS; ++way) {
      SCB_DCISW = (way << 30) | (set << 5);
    }
  }
  data_sync_barrier();
  SCB_CCR |= SCB_CCR_DC;
  data_sync_barrier();
  instruction_sync_barrier();
}

static void enable_cycle_counter(void) {
  DEMCR |= DEMCR_TRCENA;
  DWT_LAR = CORESIGHT_UNLOCK; /* on the Cortex-M7 the DWT is write-protected until unlocked */
  DWT_CYCCNT = 0u;
  DWT_CTRL |= DWT_CTRL_CYCCNTENA;
}

enum board_error board_init(void) {
  const enum board_error error = start_clocks();
  start_uart();
  enable_caches();
  enable_cycle_counter();
  return error != BOARD_OK ? error : start_watchdog();
}

uint32_t board_clock_hz(void) { return CLOCK_MHZ * 1000000u; }

int board_read_byte(uint32_t timeout_ms) {
  const uint32_t start = DWT_CYCCNT;
  /* At most 2^32 cycles, 8.9 s at 480 MHz: far above any timeout of the protocol. */
  const uint32_t limit = timeout_ms * (CLOCK_MHZ * 1000u);
  for (;;) {
    board_feed_watchdog();
    const uint32_t status = USART3_ISR;
    if ((status & (USART_ISR_FE | USART_ISR_NE | USART_ISR_ORE)) != 0u) {
      USART3_ICR = USART_ISR_FE | USART_ISR_NE | USART_ISR_ORE; /* same bit positions: 48.7.11 */
      (void)USART3_RDR;
      return BOARD_READ_DAMAGED;
    }
    if ((status & USART_ISR_RXFNE) != 0u) {
      return (int)(USART3_RDR & 0xFFu);
    }
    if (timeout_ms != 0u && DWT_CYCCNT - start > limit) {
      return BOARD_READ_TIMEOUT;
    }
  }
}

void board_write_byte(uint8_t byte) {
  if (becomes(&USART3_ISR, USART_ISR_TXFNF, USART_ISR_TXFNF)) {
    USART3_TDR = byte;
  }
}

void board_flush(void) { (void)becomes(&USART3_ISR, USART_ISR_TC, USART_ISR_TC); }

/* CYCCNT wraps after 10.7 s at 400 MHz. SysTick looks at it every 2^24 cycles, counts the wraps,
 * and costs a few dozen cycles in 16.8 million. */
static volatile uint32_t cycle_wraps;
static volatile uint32_t cycle_last;
static uint32_t cycle_start;

static void note_wrap(void) {
  const uint32_t now = DWT_CYCCNT;
  if (now < cycle_last) {
    cycle_wraps = cycle_wraps + 1u;
  }
  cycle_last = now;
}

void SysTick_Handler(void) { note_wrap(); }

void board_cycles_start(void) {
  cycle_wraps = 0u;
  SYST_RVR = SYST_RVR_MAX;
  SYST_CVR = 0u;
  cycle_start = DWT_CYCCNT;
  cycle_last = cycle_start;
  SYST_CSR = SYST_CSR_CLKSOURCE_CORE | SYST_CSR_TICKINT | SYST_CSR_ENABLE;
  data_sync_barrier();
}

uint64_t board_cycles_stop(void) {
  data_sync_barrier();
  SYST_CSR = 0u;
  note_wrap();
  return (((uint64_t)cycle_wraps << 32) | cycle_last) - cycle_start;
}

_Noreturn void board_end(void) {
  board_flush();
  for (;;) {
    /* Without a debugger BKPT is a HardFault: DDI 0403 C1.4. */
    if ((DHCSR & DHCSR_C_DEBUGEN) != 0u) {
      __asm volatile("bkpt 0");
    } else {
      __asm volatile("wfi");
    }
  }
}
