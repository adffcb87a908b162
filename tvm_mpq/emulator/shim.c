/* Called by unicorn at every block, watched instruction and (with caches) memory access: counts
 * block edges, predicts branches, looks up caches. Python owns the structure and reads it back.
 * native.py mirrors `board_t`, `edge_t` and `guard_t`: keep the fields in step. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINE 32u
#define REGION_SHIFT 14
#define CLOCK_INTERVAL 0xffffu /* blocks between two looks at the host's clock */
#define PROCESS_STACK 2u /* CONTROL.SPSEL */
#define IT_BITS 0x0600fc00u /* PSR.IT */
#define PAGE 1024u /* unicorn splits blocks at its pages, inside an IT block too */
#define MEMORY_READ 16 /* UC_MEM_READ */

enum { REGION_NONE, REGION_TCM, REGION_SRAM, REGION_FLASH };

typedef struct {
  uint32_t from, to, size, instructions;
  uint32_t conditional; /* may hold a memory access inside an IT block */
  uint32_t words;       /* transferred by one execution, as decoded; set with the first price */
  uint32_t irregular;   /* an execution transferred another number of words */
  uint32_t spare;
  uint64_t count, next_review;
  int64_t cost, spent; /* static cost of one execution and of all, in 1/1000 cycle */
  uint64_t mispredicts, flash_data, flash_code, sram_data, sram_code, unaligned;
  uint64_t narrow_tcm, narrow_cached; /* byte and halfword stores */
  int64_t flash_stall, sram_stall;    /* lost in line misses, in 1/1000 cycle */
  uint64_t timed;     /* executions while memory was watched */
  uint64_t *same;     /* by word of the block: how often bit 2 of its address is that of the word
                         before */
} edge_t;

typedef struct {
  uint32_t sets, ways, enabled, spare;
  uint32_t tag[1024]; /* line number * 2 + valid */
  uint32_t next[512]; /* round robin */
} cache_t;

typedef struct board board_t;

typedef struct {
  board_t *board;
  int32_t register_id, subtracted_id, offset, is_stack;
  uint64_t address;
} guard_t;

struct board {
  void *engine;
  int (*stop)(void *);
  int (*read_memory)(void *, uint64_t, void *, uint64_t);
  int (*read_register)(void *, int, void *);
  int (*write_register)(void *, int, const void *);
  int64_t (*price)(uint32_t edge); /* static cost of one execution of an edge, plus 1; 0: failed */
  uint64_t counting, cycles, stop_requested, stopped, timed_out, failed;
  uint64_t blocks;
  int64_t host_deadline; /* ns, see host_time */
  uint64_t instructions, instruction_limit;
  int64_t time, deadline; /* 1/1000 cycle; one cycle per instruction when not modelled */
  int64_t mispredict_cost, unaligned_cost, flash_data_cost, flash_code_cost, flash_busy_cost, sram_cost;
  int64_t flash_free; /* when the flash has read its last line */
  int64_t lost_mispredict, lost_unaligned, lost_flash, lost_sram; /* of `time`, so far */
  uint64_t stack_limit, faulty_guard, fault_address, control_register, status_register;
  uint32_t previous, current_edge, last_line;
  uint32_t word, last_address; /* words transferred by the running block; address of the last */
  edge_t *edges;
  uint64_t edge_count, edge_capacity;
  uint32_t *slots;
  uint64_t slot_mask;
  uint8_t *regions;   /* region by address >> REGION_SHIFT */
  uint8_t *predictor; /* 2-bit counters by branch address */
  cache_t code, data;
};

int64_t host_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static uint32_t hash(uint32_t from, uint32_t to) {
  uint32_t h = (from * 2654435761u) ^ (to * 2246822519u);
  return h ^ (h >> 15);
}

static void rebuild_slots(board_t *b) {
  b->slot_mask = b->edge_capacity * 2 - 1;
  free(b->slots);
  b->slots = malloc((b->slot_mask + 1) * sizeof *b->slots);
  memset(b->slots, 0xff, (b->slot_mask + 1) * sizeof *b->slots);
  for (uint32_t i = 0; i < b->edge_count; i++) {
    uint32_t h = hash(b->edges[i].from, b->edges[i].to) & b->slot_mask;
    while (b->slots[h] != UINT32_MAX) h = (h + 1) & b->slot_mask;
    b->slots[h] = i;
  }
}

board_t *board_new(void) {
  board_t *b = calloc(1, sizeof *b);
  b->edge_capacity = 1u << 14;
  b->edges = calloc(b->edge_capacity, sizeof *b->edges);
  b->regions = calloc(1u << (32 - REGION_SHIFT), 1);
  b->predictor = malloc(1u << 16);
  memset(b->predictor, 1, 1u << 16); /* weakly not taken */
  rebuild_slots(b);
  return b;
}

void board_free(board_t *b) {
  for (uint64_t i = 0; i < b->edge_count; i++) free(b->edges[i].same);
  free(b->edges);
  free(b->slots);
  free(b->regions);
  free(b->predictor);
  free(b);
}

static void scan_block(board_t *b, edge_t *e) {
  uint8_t code[8192];
  /* An instruction across two pages moves the split by a halfword, to either side. */
  e->conditional = (e->to + 2) % PAGE <= 4;
  if (e->size > sizeof code || b->read_memory(b->engine, e->to, code, e->size)) {
    e->instructions = e->conditional = 1;
    return;
  }
  for (uint32_t i = 0; i < e->size; e->instructions++) {
    e->conditional |= code[i + 1] == 0xbf && (code[i] & 15); /* IT */
    i += code[i + 1] >> 3 >= 0x1d ? 4 : 2;
  }
}

static uint32_t new_edge(board_t *b, uint32_t from, uint32_t to, uint32_t size) {
  if (b->edge_count == b->edge_capacity) {
    b->edge_capacity *= 2;
    b->edges = realloc(b->edges, b->edge_capacity * sizeof *b->edges);
    rebuild_slots(b);
  }
  uint32_t index = (uint32_t)b->edge_count++;
  edge_t *e = memset(b->edges + index, 0, sizeof *e);
  e->from = from;
  e->to = to;
  e->size = size;
  scan_block(b, e);
  uint32_t h = hash(from, to) & b->slot_mask;
  while (b->slots[h] != UINT32_MAX) h = (h + 1) & b->slot_mask;
  b->slots[h] = index;
  return index;
}

static uint32_t find_edge(board_t *b, uint32_t from, uint32_t to, uint32_t size) {
  uint32_t h = hash(from, to) & b->slot_mask;
  for (; b->slots[h] != UINT32_MAX; h = (h + 1) & b->slot_mask) {
    edge_t *e = b->edges + b->slots[h];
    if (e->from == from && e->to == to && e->size == size) return b->slots[h];
  }
  return new_edge(b, from, to, size);
}

/* 1 when the line is present; a miss allocates it (write-allocate, round robin). */
static int lookup(cache_t *c, uint32_t address) {
  uint32_t tag = (address / LINE) << 1 | 1, set = address / LINE % c->sets;
  uint32_t *line = c->tag + set * c->ways;
  if (!c->enabled) return 0;
  for (uint32_t way = 0; way < c->ways; way++)
    if (line[way] == tag) return 1;
  for (uint32_t way = 0; way < c->ways; way++)
    if (!line[way]) return line[way] = tag, 0;
  line[c->next[set]] = tag;
  c->next[set] = (c->next[set] + 1) % c->ways;
  return 0;
}

static void spend(board_t *b, int64_t *lost, int64_t cost) {
  *lost += cost;
  b->time += cost;
}

static void predict(board_t *b, edge_t *e, uint32_t end) {
  uint8_t *counter = b->predictor + (end >> 1 & 0xffff);
  int taken = e->to != end;
  if ((*counter >= 2) != taken) {
    e->mispredicts++;
    spend(b, &b->lost_mispredict, b->mispredict_cost);
  }
  if (taken) *counter += *counter < 3;
  else *counter -= *counter > 0;
}

/* Rule 13: a line is read when the flash has finished the one before. */
static void flash_miss(board_t *b, edge_t *e, int64_t now, int64_t cost) {
  int64_t wait = b->flash_free > now ? b->flash_free - now : 0;
  b->flash_free = now + wait + b->flash_busy_cost;
  e->flash_stall += wait + cost;
  spend(b, &b->lost_flash, wait + cost);
}

static void sram_miss(board_t *b, edge_t *e) {
  e->sram_stall += b->sram_cost;
  spend(b, &b->lost_sram, b->sram_cost);
}

static void fetch(board_t *b, edge_t *e) {
  int region = b->regions[e->to >> REGION_SHIFT];
  if (region != REGION_FLASH && region != REGION_SRAM) return;
  for (uint32_t line = e->to & ~(LINE - 1); line < e->to + e->size; line += LINE) {
    if (line == b->last_line) continue;
    b->last_line = line;
    if (lookup(&b->code, line)) continue;
    if (region == REGION_FLASH) e->flash_code++, flash_miss(b, e, b->time - e->cost, b->flash_code_cost);
    else e->sram_code++, sram_miss(b, e);
  }
}

/* The block before has run to its end: were all its words seen? */
static void finish_block(board_t *b) {
  edge_t *e = b->edges + b->current_edge;
  e->timed++;
  e->irregular |= b->word != e->words;
  b->word = 0;
}

/* Pricing is slow, so the clock is looked at each time. */
static void set_price(board_t *b, uint32_t index) {
  int64_t answer = b->price(index);
  edge_t *e = b->edges + index;
  e->cost = answer > 0 ? answer - 1 : 0;
  if (answer <= 0) b->failed = b->stop_requested = 1;
  if (host_time() >= b->host_deadline) b->timed_out = 1;
  if (!e->same && e->words) e->same = calloc(e->words, sizeof *e->same);
}

void on_block(void *engine, uint64_t address, uint32_t size, board_t *b) {
  (void)engine;
  if (!(++b->blocks & CLOCK_INTERVAL) && host_time() >= b->host_deadline) b->timed_out = 1;
  if (b->stop_requested || b->timed_out || b->instructions >= b->instruction_limit || b->time >= b->deadline) {
    b->stopped = 1;
    b->stop(b->engine);
    return;
  }
  if (!b->counting) return;
  uint32_t to = (uint32_t)address, end = 0;
  edge_t *last = b->edges + b->current_edge;
  uint32_t index = b->current_edge;
  if (b->previous) end = last->to + last->size;
  if (b->cycles && b->edge_count) finish_block(b);
  if (!(b->edge_count && last->from == b->previous && last->to == to && last->size == size))
    index = find_edge(b, b->previous, to, size);
  edge_t *e = b->edges + index;
  b->current_edge = index;
  e->count++;
  b->instructions += e->instructions;
  if (!b->cycles) {
    b->previous = to;
    b->time += 1000 * (int64_t)e->instructions;
    return;
  }
  if (e->count >= e->next_review) set_price(b, index);
  b->time += e->cost;
  e->spent += e->cost;
  if (b->previous) predict(b, e, end);
  b->previous = to;
  fetch(b, e);
}

/* unicorn 2.1.4 stores the IT state for a memory hook and never clears it again, so that the block
 * after one with a conditional load or store would be executed under a stale condition. The running
 * block was translated with its conditions and needs no IT state. */
static void clear_it_state(board_t *b) {
  uint32_t status = 0;
  b->read_register(b->engine, (int)b->status_register, &status);
  if (!(status & IT_BITS)) return;
  status &= ~IT_BITS;
  b->write_register(b->engine, (int)b->status_register, &status);
}

/* `word` of the block misses: its share of the block's cost has passed. */
static void miss(board_t *b, edge_t *e, int region, uint32_t word) {
  if (region == REGION_FLASH) {
    int64_t passed = word < e->words ? e->cost * word / e->words : e->cost;
    e->flash_data++;
    flash_miss(b, e, b->time - e->cost + passed, b->flash_data_cost);
  } else {
    e->sram_data++, sram_miss(b, e);
  }
}

void on_memory(void *engine, int type, uint64_t address, int size, int64_t value, board_t *b) {
  (void)engine, (void)value;
  uint32_t a = (uint32_t)address, last = a + (uint32_t)size - 1, word = b->word;
  int region = b->regions[a >> REGION_SHIFT];
  edge_t *e = b->edges + b->current_edge;
  if (e->conditional) clear_it_state(b);
  if (word < e->words) e->same[word] += !((a ^ b->last_address) & 4);
  b->word = word + (size > 4 ? 2 : 1);
  b->last_address = a;
  if (region == REGION_NONE) return;
  if (type != MEMORY_READ) {
    if (size < 4) *(region == REGION_TCM ? &e->narrow_tcm : &e->narrow_cached) += 1;
  } else if (size == 4 && a & 3) {
    e->unaligned++;
    spend(b, &b->lost_unaligned, b->unaligned_cost);
  }
  if (region == REGION_TCM) return;
  if (!lookup(&b->data, a)) miss(b, e, region, word);
  if (a / LINE != last / LINE && !lookup(&b->data, last)) miss(b, e, region, word);
}

void on_guard(void *engine, uint64_t address, uint32_t size, guard_t *g) {
  (void)engine, (void)address, (void)size;
  uint32_t value = 0, subtracted = 0, control = 0;
  board_t *b = g->board;
  clear_it_state(b);
  b->read_register(b->engine, g->register_id, &value);
  if (g->subtracted_id) b->read_register(b->engine, g->subtracted_id, &subtracted);
  value += (uint32_t)g->offset - subtracted;
  if (g->is_stack ? value >= b->stack_limit : !(value & 3)) return;
  /* The limit is that of the main stack; a task on its process stack has another one. */
  if (g->is_stack) b->read_register(b->engine, (int)b->control_register, &control);
  if (control & PROCESS_STACK) return;
  b->faulty_guard = g->address;
  b->fault_address = value;
  b->stop(b->engine);
}

/* The instruction before has loaded a stack pointer, whose bits 1:0 are always zero. */
void on_stack_written(void *engine, uint64_t address, uint32_t size, guard_t *g) {
  (void)engine, (void)address, (void)size;
  uint32_t value = 0;
  clear_it_state(g->board);
  g->board->read_register(g->board->engine, g->register_id, &value);
  if (!(value & 3)) return;
  value &= ~3u;
  g->board->write_register(g->board->engine, g->register_id, &value);
}
