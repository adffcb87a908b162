/*
 * Registers of the Cortex-M7 core: PM0253 chapter 4 (SCB 4.3, SysTick 4.4, caches 4.5 and 4.8,
 * FPU 4.7) and the Armv7-M Architecture Reference Manual, DDI 0403 (DHCSR, DEMCR C1.6; DWT C1.8).
 */
#ifndef CORTEX_M7_H_
#define CORTEX_M7_H_

#include <stdint.h>

#define CORE_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

#define SYST_CSR CORE_REGISTER(0xE000E010u) /* PM0253 4.4.1 */
#define SYST_CSR_ENABLE (1u << 0)
#define SYST_CSR_TICKINT (1u << 1)
#define SYST_CSR_CLKSOURCE_CORE (1u << 2)
#define SYST_RVR CORE_REGISTER(0xE000E014u) /* PM0253 4.4.2 */
#define SYST_RVR_MAX 0x00FFFFFFu
#define SYST_CVR CORE_REGISTER(0xE000E018u) /* PM0253 4.4.3 */

#define SCB_VTOR CORE_REGISTER(0xE000ED08u)  /* PM0253 4.3.4 */
#define SCB_CCR CORE_REGISTER(0xE000ED14u)   /* PM0253 4.3.7 */
#define SCB_CCR_DC (1u << 16)
#define SCB_CCR_IC (1u << 17)
#define SCB_SHCSR CORE_REGISTER(0xE000ED24u) /* PM0253 4.3.9 */
#define SCB_SHCSR_MEMFAULTENA (1u << 16)
#define SCB_SHCSR_BUSFAULTENA (1u << 17)
#define SCB_SHCSR_USGFAULTENA (1u << 18)
#define SCB_CFSR CORE_REGISTER(0xE000ED28u)  /* PM0253 4.3.10 */
#define SCB_CFSR_MMARVALID (1u << 7)
#define SCB_HFSR CORE_REGISTER(0xE000ED2Cu)  /* PM0253 4.3.11 */
#define SCB_MMFAR CORE_REGISTER(0xE000ED34u) /* PM0253 4.3.12 */
#define SCB_BFAR CORE_REGISTER(0xE000ED38u)  /* PM0253 4.3.13 */
#define SCB_CSSELR CORE_REGISTER(0xE000ED84u) /* PM0253 4.5 */
#define SCB_CPACR CORE_REGISTER(0xE000ED88u) /* PM0253 4.7.1 */
#define SCB_CPACR_CP10_CP11_FULL (0xFu << 20)
#define SCB_ICIALLU CORE_REGISTER(0xE000EF50u) /* PM0253 4.8 */
#define SCB_DCISW CORE_REGISTER(0xE000EF60u) /* PM0253 4.8 */

#define DHCSR CORE_REGISTER(0xE000EDF0u) /* DDI 0403 C1.6.2 */
#define DHCSR_C_DEBUGEN (1u << 0)
#define DEMCR CORE_REGISTER(0xE000EDFCu) /* DDI 0403 C1.6.5 */
#define DEMCR_TRCENA (1u << 24)
#define DWT_CTRL CORE_REGISTER(0xE0001000u) /* DDI 0403 C1.8.7 */
#define DWT_CTRL_CYCCNTENA (1u << 0)
#define DWT_CYCCNT CORE_REGISTER(0xE0001004u) /* DDI 0403 C1.8.8 */
#define DWT_LAR CORE_REGISTER(0xE0001FB0u)    /* CoreSight lock access, DDI 0403 appendix A */
#define CORESIGHT_UNLOCK 0xC5ACCE55u

static inline void data_sync_barrier(void) { __asm volatile("dsb" ::: "memory"); }
static inline void instruction_sync_barrier(void) { __asm volatile("isb" ::: "memory"); }

#endif
