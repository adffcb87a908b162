/* Framing and CRC; see protocol.h for the layout and the rules. */
#include "protocol.h"

#include "board.h"

#define MAGIC 0x3151504Du /* "MPQ1" */

/* Silence inside a frame means that its rest is lost. Longer than any USB latency, shorter than the
 * host's patience, so that a repeated request finds the device listening. */
#define SILENCE_MS 200u

static uint32_t receive_crc;
static uint32_t send_crc;

/* By nibbles: 64 bytes of table, and fast enough for any serial line. */
uint32_t crc32_update(uint32_t crc, const void *data, uint32_t length) {
  static const uint32_t table[16] = {
      0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u,
      0x4DB26158u, 0x5005713Cu, 0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu,
      0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
  };
  const uint8_t *byte = data;
  crc = ~crc;
  while (length-- != 0u) {
    crc ^= *byte++;
    crc = (crc >> 4) ^ table[crc & 15u];
    crc = (crc >> 4) ^ table[crc & 15u];
  }
  return ~crc;
}

static enum frame_status receive_raw(uint8_t *destination, uint32_t length) {
  for (uint32_t i = 0; i < length; ++i) {
    const int byte = board_read_byte(SILENCE_MS);
    if (byte < 0) {
      return byte == BOARD_READ_TIMEOUT ? FRAME_SILENCE : FRAME_LOST_BYTE;
    }
    destination[i] = (uint8_t)byte;
  }
  return FRAME_OK;
}

enum frame_status receive_header(struct frame_header *header) {
  uint32_t window = 0u;
  while (window != MAGIC) {
    const int byte = board_read_byte(0u);
    window = byte < 0 ? 0u : (window >> 8) | ((uint32_t)byte << 24);
  }
  receive_crc = 0u;
  return receive_payload(header, sizeof *header);
}

enum frame_status receive_payload(void *destination, uint32_t length) {
  uint8_t dropped[32];
  uint8_t *to = destination;
  while (length != 0u) {
    const uint32_t piece = to != 0 || length < sizeof dropped ? length : sizeof dropped;
    uint8_t *bytes = to != 0 ? to : dropped;
    const enum frame_status status = receive_raw(bytes, piece);
    if (status != FRAME_OK) {
      return status;
    }
    receive_crc = crc32_update(receive_crc, bytes, piece);
    length -= piece;
  }
  return FRAME_OK;
}

enum frame_status receive_check(void) {
  uint32_t sent;
  const enum frame_status status = receive_raw((uint8_t *)&sent, sizeof sent);
  if (status != FRAME_OK) {
    return status;
  }
  return sent == receive_crc ? FRAME_OK : FRAME_BAD_CRC;
}

static void send_raw(const uint8_t *bytes, uint32_t length) {
  while (length-- != 0u) {
    board_write_byte(*bytes++);
  }
}

void send_header(enum frame_type type, uint16_t sequence, uint32_t length) {
  const uint32_t magic = MAGIC;
  const struct frame_header header = {(uint8_t)type, PROTOCOL_VERSION, sequence, length};
  send_raw((const uint8_t *)&magic, sizeof magic);
  send_crc = 0u;
  send_payload(&header, sizeof header);
}

void send_payload(const void *data, uint32_t length) {
  send_crc = crc32_update(send_crc, data, length);
  send_raw(data, length);
}

void send_check(void) { send_raw((const uint8_t *)&send_crc, sizeof send_crc); }

void send_error(uint16_t sequence, enum error_code code, uint32_t detail) {
  const uint32_t payload[2] = {code, detail};
  send_header(FRAME_ERROR, sequence, sizeof payload);
  send_payload(payload, sizeof payload);
  send_check();
}

void send_fault(const uint32_t words[ERROR_FAULT_WORDS]) {
  const uint32_t payload[2] = {ERROR_FAULT, 0u};
  const uint32_t words_size = ERROR_FAULT_WORDS * sizeof(uint32_t);
  send_header(FRAME_ERROR, 0u, sizeof payload + words_size);
  send_payload(payload, sizeof payload);
  send_payload(words, words_size);
  send_check();
}
