/*
 * Frames on the serial line; the host side is tvm_mpq/micro/protocol.py.
 *
 *   magic "MPQ1" | type u8 | version u8 | sequence u16 | length u32 | payload | crc u32
 *
 * Little endian; the CRC-32 (IEEE 802.3, as zlib) covers type to payload. The host asks, the device
 * answers with the same sequence number. A frame that does not check out is answered with an ERROR
 * and forgotten; the host sends it again.
 */
#ifndef PROTOCOL_H_
#define PROTOCOL_H_

#include <stdint.h>

#define PROTOCOL_VERSION 1u

enum frame_type {
  FRAME_HELLO = 0x01, /* - -> INFO; forgets any input */
  FRAME_INPUT = 0x02, /* sample u32, offset u32, bytes -> ACK */
  FRAME_RUN = 0x03,   /* sample u32, crc-32 of the whole input -> ACK at once, then OUTPUT */
  FRAME_END = 0x04,   /* - -> ENDED; the program ends */

  FRAME_INFO = 0x81,   /* 6 u32: protocol, abi, input, output, workspace bytes, Hz; then the name */
  FRAME_ACK = 0x82,    /* u32: bytes of the sample received so far */
  FRAME_OUTPUT = 0x83, /* sample u32, return code i32, count high and low u32, output; the count is
                        * DWT_CYCCNT's: cycles, but instructions on an emulator without a clock */
  FRAME_ERROR = 0x84,  /* code u32, detail u32; FAULT: also ERROR_FAULT_WORDS u32 */
  FRAME_ENDED = 0x85,  /* - */
};

enum error_code {
  ERROR_DAMAGED = 1,     /* CRC, silence inside a frame, or a lost byte; detail: frame_status */
  ERROR_LENGTH = 2,      /* impossible length for this type; detail: the length */
  ERROR_TYPE = 3,        /* unknown type or version; detail: the type */
  ERROR_OFFSET = 4,      /* chunk is not the next one; detail: the offset expected */
  ERROR_INCOMPLETE = 5,  /* RUN before the whole input is there; detail: bytes received */
  ERROR_INPUT_CRC = 6,   /* the input in memory is not what the host sent; detail: its CRC */
  ERROR_FAULT = 7,       /* the core faulted; words: pc, lr, CFSR, HFSR, fault address, sp */
  ERROR_NO_BUFFER = 8,   /* the library has no input buffer, against its metadata */
  ERROR_BOARD = 9,       /* the board did not start; detail: board_error */
  ERROR_INTERRUPT = 10,  /* an interrupt without a handler; detail: its number */
};
#define ERROR_FAULT_WORDS 6

enum frame_status { FRAME_OK = 0, FRAME_BAD_CRC = 1, FRAME_SILENCE = 2, FRAME_LOST_BYTE = 3 };

struct frame_header {
  uint8_t type;
  uint8_t version;
  uint16_t sequence;
  uint32_t length;
};

uint32_t crc32_update(uint32_t crc, const void *data, uint32_t length);

/* Receiving: header, payload in any number of pieces, then the check. A piece with a null
 * destination is read and dropped. A status other than FRAME_OK ends the frame. */
enum frame_status receive_header(struct frame_header *header);
enum frame_status receive_payload(void *destination, uint32_t length);
enum frame_status receive_check(void);

/* Sending: header with the whole payload's length, payload in pieces, then the check. */
void send_header(enum frame_type type, uint16_t sequence, uint32_t length);
void send_payload(const void *data, uint32_t length);
void send_check(void);

void send_error(uint16_t sequence, enum error_code code, uint32_t detail);
void send_fault(const uint32_t words[ERROR_FAULT_WORDS]);

#endif
