/*
 * Registers of the STM32H743 that the bring-up touches, and nothing else.
 *
 * Sections are those of RM0433 (STM32H743 reference manual, Rev 7), PM0253 (STM32F7/H7 Cortex-M7
 * programming manual) and, for the debug unit, the Armv7-M Architecture Reference Manual (DDI 0403).
 * Base addresses: RM0433 2.3.2, table 8.
 */
#ifndef STM32H743_REGISTERS_H_
#define STM32H743_REGISTERS_H_

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Power control: RM0433 6.8. */
#define PWR_CSR1 REGISTER(0x58024804u)
#define PWR_CSR1_ACTVOSRDY (1u << 13)
#define PWR_CR3 REGISTER(0x5802480Cu)
#define PWR_CR3_BYPASS (1u << 0)
#define PWR_CR3_LDOEN (1u << 1)
#define PWR_CR3_SCUEN (1u << 2)
#define PWR_D3CR REGISTER(0x58024818u)
#define PWR_D3CR_VOSRDY (1u << 13)
#define PWR_D3CR_VOS_MASK (3u << 14)
#define PWR_D3CR_VOS_SCALE1 (3u << 14)

/* System configuration: RM0433 12.3. */
#define SYSCFG_PWRCR REGISTER(0x5800042Cu)
#define SYSCFG_PWRCR_ODEN (1u << 0)

/* Flash interface: RM0433 4.9.1; wait states against clock and voltage: 4.3.8, table 17. */
#define FLASH_ACR REGISTER(0x52002000u)
#define FLASH_ACR_LATENCY_MASK 0xFu
#define FLASH_ACR_LATENCY(wait_states) ((uint32_t)(wait_states))
#define FLASH_ACR_WRHIGHFREQ(field) ((uint32_t)(field) << 4)

/* Reset and clock control: RM0433 8.7. */
#define RCC_CR REGISTER(0x58024400u)
#define RCC_CR_HSION (1u << 0)
#define RCC_CR_HSIRDY (1u << 2)
#define RCC_CR_PLL1ON (1u << 24)
#define RCC_CR_PLL1RDY (1u << 25)
#define RCC_CFGR REGISTER(0x58024410u)
#define RCC_CFGR_SW_MASK 7u
#define RCC_CFGR_SW_PLL1 3u
#define RCC_CFGR_SWS(clock) ((uint32_t)(clock) << 3)
#define RCC_CFGR_SWS_MASK RCC_CFGR_SWS(7u)
#define RCC_D1CFGR REGISTER(0x58024418u)
#define RCC_D1CFGR_HPRE_DIV2 (8u << 0)
#define RCC_D1CFGR_D1PPRE_DIV2 (4u << 4)
#define RCC_D1CFGR_D1CPRE_DIV1 (0u << 8)
#define RCC_D2CFGR REGISTER(0x5802441Cu)
#define RCC_D2CFGR_D2PPRE1_DIV2 (4u << 4)
#define RCC_D2CFGR_D2PPRE2_DIV2 (4u << 8)
#define RCC_D3CFGR REGISTER(0x58024420u)
#define RCC_D3CFGR_D3PPRE_DIV2 (4u << 4)
#define RCC_PLLCKSELR REGISTER(0x58024428u)
#define RCC_PLLCKSELR_PLLSRC_HSI (0u << 0)
#define RCC_PLLCKSELR_DIVM1(divider) ((uint32_t)(divider) << 4)
#define RCC_PLLCFGR REGISTER(0x5802442Cu)
#define RCC_PLLCFGR_PLL1VCOSEL_WIDE (0u << 1)
#define RCC_PLLCFGR_PLL1RGE_8_TO_16_MHZ (3u << 2)
#define RCC_PLLCFGR_DIVP1EN (1u << 16)
#define RCC_PLL1DIVR REGISTER(0x58024430u)
#define RCC_PLL1DIVR_N(multiplier) ((uint32_t)(multiplier) - 1u)
#define RCC_PLL1DIVR_P(divider) (((uint32_t)(divider) - 1u) << 9)
#define RCC_PLL1DIVR_Q(divider) (((uint32_t)(divider) - 1u) << 16)
#define RCC_PLL1DIVR_R(divider) (((uint32_t)(divider) - 1u) << 24)
#define RCC_D2CCIP2R REGISTER(0x58024454u)
#define RCC_D2CCIP2R_USART234578SEL_MASK 7u
#define RCC_D2CCIP2R_USART234578SEL_HSI 3u
#define RCC_AHB4ENR REGISTER(0x580244E0u)
#define RCC_AHB4ENR_GPIODEN (1u << 3)
#define RCC_APB1LENR REGISTER(0x580244E8u)
#define RCC_APB1LENR_USART3EN (1u << 18)
#define RCC_APB4ENR REGISTER(0x580244F4u)
#define RCC_APB4ENR_SYSCFGEN (1u << 1)

/* GPIO port D: RM0433 11.4. */
#define GPIOD_MODER REGISTER(0x58020C00u)
#define GPIO_MODE_MASK(pin) (3u << (2u * (pin)))
#define GPIO_MODE_ALTERNATE(pin) (2u << (2u * (pin)))
#define GPIOD_PUPDR REGISTER(0x58020C0Cu)
#define GPIO_PULL_MASK(pin) (3u << (2u * (pin)))
#define GPIO_PULL_UP(pin) (1u << (2u * (pin)))
#define GPIOD_AFRH REGISTER(0x58020C24u)
#define GPIO_AFRH_MASK(pin) (0xFu << (4u * ((pin) - 8u)))
#define GPIO_AFRH(pin, function) ((uint32_t)(function) << (4u * ((pin) - 8u)))

/* Independent watchdog IWDG1: RM0433 45.4. */
#define IWDG_KR REGISTER(0x58004800u)
#define IWDG_KR_FEED 0xAAAAu
#define IWDG_KR_UNLOCK 0x5555u
#define IWDG_KR_START 0xCCCCu
#define IWDG_PR REGISTER(0x58004804u)
#define IWDG_PR_DIV256 6u
#define IWDG_RLR REGISTER(0x58004808u)
#define IWDG_SR REGISTER(0x5800480Cu)
#define IWDG_SR_UPDATING 7u

/* USART3: RM0433 48.7. */
#define USART3_CR1 REGISTER(0x40004800u)
#define USART_CR1_UE (1u << 0)
#define USART_CR1_RE (1u << 2)
#define USART_CR1_TE (1u << 3)
#define USART_CR1_FIFOEN (1u << 29)
#define USART3_BRR REGISTER(0x4000480Cu)
#define USART3_ISR REGISTER(0x4000481Cu)
#define USART_ISR_FE (1u << 1)
#define USART_ISR_NE (1u << 2)
#define USART_ISR_ORE (1u << 3)
#define USART_ISR_RXFNE (1u << 5)
#define USART_ISR_TC (1u << 6)
#define USART_ISR_TXFNF (1u << 7)
#define USART3_ICR REGISTER(0x40004820u)
#define USART3_RDR REGISTER(0x40004824u)
#define USART3_TDR REGISTER(0x40004828u)

#endif
