/*
 * The 150 device interrupts of the STM32H743 (RM0433 20.1.2, table 149), under the names that ST's
 * headers have. A project handles one by defining a function of that name; every other one reports
 * itself and ends the program, see on_unexpected_interrupt.
 */
#include <stdint.h>

#include "board.h"

#define INTERRUPTS(DO, RESERVED)                                                                \
  DO(WWDG) DO(PVD_AVD) DO(TAMP_STAMP) DO(RTC_WKUP) DO(FLASH) DO(RCC) DO(EXTI0) DO(EXTI1)       \
  DO(EXTI2) DO(EXTI3) DO(EXTI4) DO(DMA1_Stream0) DO(DMA1_Stream1) DO(DMA1_Stream2)             \
  DO(DMA1_Stream3) DO(DMA1_Stream4) DO(DMA1_Stream5) DO(DMA1_Stream6) DO(ADC) DO(FDCAN1_IT0)   \
  DO(FDCAN2_IT0) DO(FDCAN1_IT1) DO(FDCAN2_IT1) DO(EXTI9_5) DO(TIM1_BRK) DO(TIM1_UP)            \
  DO(TIM1_TRG_COM) DO(TIM1_CC) DO(TIM2) DO(TIM3) DO(TIM4) DO(I2C1_EV) DO(I2C1_ER) DO(I2C2_EV)  \
  DO(I2C2_ER) DO(SPI1) DO(SPI2) DO(USART1) DO(USART2) DO(USART3) DO(EXTI15_10) DO(RTC_Alarm)   \
  RESERVED(42) DO(TIM8_BRK_TIM12) DO(TIM8_UP_TIM13) DO(TIM8_TRG_COM_TIM14) DO(TIM8_CC)         \
  DO(DMA1_Stream7) DO(FMC) DO(SDMMC1) DO(TIM5) DO(SPI3) DO(UART4) DO(UART5) DO(TIM6_DAC)       \
  DO(TIM7) DO(DMA2_Stream0) DO(DMA2_Stream1) DO(DMA2_Stream2) DO(DMA2_Stream3)                 \
  DO(DMA2_Stream4) DO(ETH) DO(ETH_WKUP) DO(FDCAN_CAL) RESERVED(64) RESERVED(65) RESERVED(66)   \
  RESERVED(67) DO(DMA2_Stream5) DO(DMA2_Stream6) DO(DMA2_Stream7) DO(USART6) DO(I2C3_EV)       \
  DO(I2C3_ER) DO(OTG_HS_EP1_OUT) DO(OTG_HS_EP1_IN) DO(OTG_HS_WKUP) DO(OTG_HS) DO(DCMI)         \
  RESERVED(79) DO(RNG) DO(FPU) DO(UART7) DO(UART8) DO(SPI4) DO(SPI5) DO(SPI6) DO(SAI1)         \
  DO(LTDC) DO(LTDC_ER) DO(DMA2D) DO(SAI2) DO(QUADSPI) DO(LPTIM1) DO(CEC) DO(I2C4_EV)           \
  DO(I2C4_ER) DO(SPDIF_RX) DO(OTG_FS_EP1_OUT) DO(OTG_FS_EP1_IN) DO(OTG_FS_WKUP) DO(OTG_FS)     \
  DO(DMAMUX1_OVR) DO(HRTIM1_Master) DO(HRTIM1_TIMA) DO(HRTIM1_TIMB) DO(HRTIM1_TIMC)            \
  DO(HRTIM1_TIMD) DO(HRTIM1_TIME) DO(HRTIM1_FLT) DO(DFSDM1_FLT0) DO(DFSDM1_FLT1)               \
  DO(DFSDM1_FLT2) DO(DFSDM1_FLT3) DO(SAI3) DO(SWPMI1) DO(TIM15) DO(TIM16) DO(TIM17)            \
  DO(MDIOS_WKUP) DO(MDIOS) DO(JPEG) DO(MDMA) RESERVED(123) DO(SDMMC2) DO(HSEM1) RESERVED(126)  \
  DO(ADC3) DO(DMAMUX2_OVR) DO(BDMA_Channel0) DO(BDMA_Channel1) DO(BDMA_Channel2)               \
  DO(BDMA_Channel3) DO(BDMA_Channel4) DO(BDMA_Channel5) DO(BDMA_Channel6) DO(BDMA_Channel7)    \
  DO(COMP1) DO(LPTIM2) DO(LPTIM3) DO(LPTIM4) DO(LPTIM5) DO(LPUART1) RESERVED(143) DO(CRS)      \
  DO(ECC) DO(SAI4) RESERVED(147) RESERVED(148) DO(WAKEUP_PIN)

static void report_interrupt(void) {
  uint32_t exception;
  __asm volatile("mrs %0, ipsr" : "=r"(exception));
  on_unexpected_interrupt(exception - 16u);
}

#define DECLARE(name) \
  void name##_IRQHandler(void) __attribute__((weak, alias("report_interrupt")));
#define NOTHING(number)
INTERRUPTS(DECLARE, NOTHING)

#define ADDRESS(name) name##_IRQHandler,
#define NO_NAME(number) report_interrupt,

/* Behind the entries of the core: see the linker script. */
__attribute__((section(".isr_vector.device"), used)) static void (*const device_vectors[])(void) = {
    INTERRUPTS(ADDRESS, NO_NAME)
};
_Static_assert(sizeof device_vectors == 150 * sizeof(void *), "one entry for each interrupt");
