/*
 * What main.c and startup.c need from a board. One board_<platform>.c implements all of it.
 */
#ifndef BOARD_H_
#define BOARD_H_

#include <stdint.h>

/* Results of board_read_byte below zero. */
#define BOARD_READ_TIMEOUT (-1)
#define BOARD_READ_DAMAGED (-2) /* overrun, framing error or noise: at least one byte is lost */

/* Clocks, caches, serial port, cycle counter. Runs after .data and .bss are ready. */
void board_init(void);

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
