/*
 * What main.c and startup.c need from a board. One board_<platform>.c implements all of it.
 */
#ifndef BOARD_H_
#define BOARD_H_

#include <stdint.h>

/* Results of board_read_byte below zero. */
#define BOARD_READ_TIMEOUT (-1)
#define BOARD_READ_DAMAGED (-2) /* overrun, framing error or noise: at least one byte is lost */

/* What did not get ready in time; the detail of ERROR_BOARD. */
enum board_error {
  BOARD_OK = 0,
  BOARD_ERROR_SUPPLY = 1,
  BOARD_ERROR_VOLTAGE = 2,
  BOARD_ERROR_FLASH = 3,
  BOARD_ERROR_OSCILLATOR = 4,
  BOARD_ERROR_PLL = 5,
  BOARD_ERROR_CLOCK_SWITCH = 6,
  BOARD_ERROR_WATCHDOG = 7,
};

/* Clocks, caches, serial port, cycle counter, watchdog. Runs after .data and .bss are ready. The
 * serial port works even after an error, from the clock that the chip starts with. */
enum board_error board_init(void);

/* Called while the program waits for a byte and, by the library, after every call of a kernel, so
 * that a watchdog set to more than the longest one only bites a program that hangs. */
void board_feed_watchdog(void);

/* An interrupt that nobody handles; `number` as in the reference manual. Weak: a project may define
 * its own. This one reports ERROR_INTERRUPT and ends the program. */
void on_unexpected_interrupt(uint32_t number);

/* Core clock in Hz, 0 where cycles mean nothing. */
uint32_t board_clock_hz(void);

/* Next received byte, or a negative result. timeout_ms = 0 waits for ever. */
int board_read_byte(uint32_t timeout_ms);
void board_write_byte(uint8_t byte);
/* Returns once the last written byte has left the chip. */
void board_flush(void);

/* Core cycles between the two calls, past the 2^32 wrap of the counter; 0 where there is none. */
void board_cycles_start(void);
uint64_t board_cycles_stop(void);

/* Ends the program: stops in a debugger when one is attached, sleeps for ever otherwise. */
_Noreturn void board_end(void);

#endif
