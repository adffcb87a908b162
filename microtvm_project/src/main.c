/*
 * The application: receives an input, runs the network on it, sends the output and the cycles.
 * The same on the emulated and on the real board.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "board.h"
#include "network.h"
#include "protocol.h"

#define NO_SAMPLE 0xFFFFFFFFu

static uint8_t output[NETWORK_OUTPUT_SIZE] __attribute__((aligned(8)));

#if NETWORK_INPUT_BY_ROWS
/* The image never exists as a whole: each row waits here until its check has come. */
static uint8_t line[NETWORK_ROW_SIZE] __attribute__((aligned(8)));
static uint8_t *input_place(uint32_t received) { return line + received % NETWORK_ROW_SIZE; }
static uint32_t input_room(uint32_t received) {
  return NETWORK_ROW_SIZE - received % NETWORK_ROW_SIZE;
}
static bool input_exists(void) { return true; }
#else
#if NETWORK_INPUT_IN_ARENA
static uint8_t *input_place(uint32_t received) {
  return (uint8_t *)network_arena_input() + received;
}
static bool input_exists(void) { return network_arena_input() != NULL; }
#else
/* Beside the arena: an image is larger than what .bss may take of the DTCM. */
static uint8_t own_input[NETWORK_INPUT_SIZE] __attribute__((section(".bss.tvm_arena.input"), aligned(32)));
static uint8_t *input_place(uint32_t received) { return own_input + received; }
static bool input_exists(void) { return true; }
#endif
static uint32_t input_room(uint32_t received) { return NETWORK_INPUT_SIZE - received; }
#endif

static struct {
  uint32_t sample;   /* the one being received */
  uint32_t received; /* its bytes that have come and are checked */
  uint32_t crc;      /* of these bytes, by rows only */
  uint32_t finished; /* the one whose result is kept, so that a lost OUTPUT can be sent again */
  int32_t return_code;
  uint64_t cycles;
} state = {NO_SAMPLE, 0u, 0u, NO_SAMPLE, 0, 0u};

struct input_prefix {
  uint32_t sample;
  uint32_t offset;
};

struct run_request {
  uint32_t sample;
  uint32_t input_crc;
};

static void send_ack(uint16_t sequence) {
  send_header(FRAME_ACK, sequence, sizeof state.received);
  send_payload(&state.received, sizeof state.received);
  send_check();
}

static void send_info(uint16_t sequence) {
  static const char name[] = NETWORK_NAME;
  const uint32_t name_length = sizeof name - 1u;
  const uint32_t words[6] = {PROTOCOL_VERSION,    NETWORK_ABI_VERSION,    NETWORK_INPUT_SIZE,
                             NETWORK_OUTPUT_SIZE, NETWORK_WORKSPACE_SIZE, board_clock_hz()};
  send_header(FRAME_INFO, sequence, sizeof words + name_length);
  send_payload(words, sizeof words);
  send_payload(name, name_length);
  send_check();
}

static void send_output(uint16_t sequence) {
  const uint32_t words[4] = {state.finished, (uint32_t)state.return_code,
                             (uint32_t)(state.cycles >> 32), (uint32_t)state.cycles};
  send_header(FRAME_OUTPUT, sequence, sizeof words + NETWORK_OUTPUT_SIZE);
  send_payload(words, sizeof words);
  send_payload(output, NETWORK_OUTPUT_SIZE);
  send_check();
}

#if NETWORK_INPUT_BY_ROWS
static void start_input(void) {
  network_cancel();
  state.return_code = network_begin(output) == NETWORK_ROWS ? 0 : -1;
  state.crc = 0u;
  state.cycles = 0u;
}

static void push_line(void) {
  board_cycles_start();
  if (network_push_row(line) < 0) {
    state.return_code = -1;
  }
  state.cycles += board_cycles_stop();
}

/* The last row waits for RUN: only then the host knows that the answer takes its time. */
static void take_input(uint32_t from, uint32_t length) {
  state.crc = crc32_update(state.crc, input_place(from), length);
  if (state.received % NETWORK_ROW_SIZE == 0u && state.received != NETWORK_INPUT_SIZE) {
    push_line();
  }
}

static uint32_t input_crc(void) { return state.crc; }
#else
static void start_input(void) {}
static void take_input(uint32_t from, uint32_t length) {
  (void)from;
  (void)length;
}
static uint32_t input_crc(void) {
  return crc32_update(0u, input_place(0u), NETWORK_INPUT_SIZE);
}
#endif

static void run_network(uint32_t sample) {
#if NETWORK_INPUT_BY_ROWS
  push_line();
#else
  board_cycles_start();
  state.return_code = network_run(input_place(0u), output);
  state.cycles = board_cycles_stop();
#endif
  state.finished = sample;
  state.sample = NO_SAMPLE; /* the run destroyed the input */
  state.received = 0u;
}

/* Bytes go straight to their place. Only a chunk that continues the checked part is stored: a
 * damaged offset can then hurt nothing that was already acknowledged. What goes beyond the room
 * (the end of a row) is dropped; the host goes on from where the ACK says. */
static enum frame_status handle_input(const struct frame_header *header) {
  struct input_prefix prefix;
  enum frame_status status = receive_payload(&prefix, sizeof prefix);
  if (status != FRAME_OK) {
    return status;
  }
  const uint32_t length = header->length - (uint32_t)sizeof prefix;
  const bool is_new = prefix.sample != state.sample;
  const uint32_t expected = is_new ? 0u : state.received;
  const bool fits = prefix.offset == expected && length <= NETWORK_INPUT_SIZE - expected;
  if (fits && is_new) {
    state.sample = NO_SAMPLE; /* the bytes below overwrite the sample before this one */
    state.received = 0u;
  }
  const uint32_t room = fits ? input_room(expected) : 0u;
  const uint32_t taken = length < room ? length : room;
  status = receive_payload(input_place(expected), taken);
  if (status == FRAME_OK) {
    status = receive_payload(NULL, length - taken);
  }
  if (status == FRAME_OK) {
    status = receive_check();
  }
  if (status != FRAME_OK) {
    return status;
  }
  if (fits) {
    if (is_new) {
      start_input();
    }
    state.sample = prefix.sample;
    state.received = expected + taken;
    take_input(expected, taken);
  }
  const bool is_repeat = !is_new && prefix.offset < state.received;
  if (fits || is_repeat) {
    send_ack(header->sequence);
  } else {
    send_error(header->sequence, ERROR_OFFSET, expected);
  }
  return FRAME_OK;
}

static enum frame_status handle_run(const struct frame_header *header) {
  struct run_request request;
  enum frame_status status = receive_payload(&request, sizeof request);
  if (status == FRAME_OK) {
    status = receive_check();
  }
  if (status != FRAME_OK) {
    return status;
  }
  if (request.sample == state.finished) {
    send_output(header->sequence);
    return FRAME_OK;
  }
  if (request.sample != state.sample || state.received != NETWORK_INPUT_SIZE) {
    const uint32_t received = request.sample == state.sample ? state.received : 0u;
    send_error(header->sequence, ERROR_INCOMPLETE, received);
    return FRAME_OK;
  }
  const uint32_t crc = input_crc();
  if (crc != request.input_crc) {
    state.sample = NO_SAMPLE;
    state.received = 0u;
    send_error(header->sequence, ERROR_INPUT_CRC, crc);
    return FRAME_OK;
  }
  send_ack(header->sequence);
  run_network(request.sample);
  send_output(header->sequence);
  return FRAME_OK;
}

static bool has_possible_length(const struct frame_header *header) {
  switch (header->type) {
    case FRAME_INPUT:
      return header->length > sizeof(struct input_prefix) &&
             header->length <= sizeof(struct input_prefix) + NETWORK_INPUT_SIZE;
    case FRAME_RUN:
      return header->length == sizeof(struct run_request);
    default:
      return header->length == 0u;
  }
}

/* Requests without a payload. Returns true when the program shall end. */
static bool handle_empty(const struct frame_header *header) {
  if (header->type == FRAME_HELLO) {
    state.sample = NO_SAMPLE;
    state.finished = NO_SAMPLE;
    state.received = 0u;
    send_info(header->sequence);
    return false;
  }
  send_header(FRAME_ENDED, header->sequence, 0u);
  send_check();
  return true;
}

static bool is_known(const struct frame_header *header) {
  return header->version == PROTOCOL_VERSION && header->type >= FRAME_HELLO &&
         header->type <= FRAME_END;
}

int main(void) {
  for (;;) {
    struct frame_header header = {0};
    enum frame_status status = receive_header(&header);
    if (status == FRAME_OK && !is_known(&header)) {
      send_error(header.sequence, ERROR_TYPE, header.type);
      continue;
    }
    if (status == FRAME_OK && !input_exists()) {
      send_error(header.sequence, ERROR_NO_BUFFER, 0u);
      continue;
    }
    if (status == FRAME_OK && !has_possible_length(&header)) {
      send_error(header.sequence, ERROR_LENGTH, header.length);
      continue;
    }
    if (status == FRAME_OK && header.type == FRAME_INPUT) {
      status = handle_input(&header);
    } else if (status == FRAME_OK && header.type == FRAME_RUN) {
      status = handle_run(&header);
    } else if (status == FRAME_OK) {
      status = receive_check();
      if (status == FRAME_OK && handle_empty(&header)) {
        return 0;
      }
    }
    if (status != FRAME_OK) {
      send_error(header.sequence, ERROR_DAMAGED, status);
    }
  }
}
