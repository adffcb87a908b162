"""Modelled cycles of whole programs: counter, predictor, caches, profile, determinism."""

from __future__ import annotations

import subprocess
import time

import pytest

pytest.importorskip("unicorn", reason="pip install tvm_mpq[emulator]")

from tvm_mpq.emulator import Board
from tvm_mpq.emulator.annotate import format_annotation

pytestmark = pytest.mark.emu

# Times `repeat` rounds of a loop body inside the firmware, as it would on the chip.
TIMED = """
volatile uint32_t spent; uint32_t words[64]; uint8_t *bytes = (uint8_t *)words;
__attribute__((section(".axi"), aligned(32))) uint32_t big[16384];
const uint32_t table[16384] = {1};
__attribute__((naked, noinline, aligned(32))) void work(int n, const void *p, const void *q) {
  __asm volatile("push {r4-r11,lr}\\n mov r12,r0\\n mov r10,r1\\n mov r11,r2\\n .balign 32\\n"
    "1:\\n BODY\\n subs r12,#1\\n bne 1b\\n pop {r4-r11,pc}"); }
int main(void) {
  work(WARM, P, P + 4);
  uint32_t start = CYCCNT; work(ROUNDS, P, P + 4); spent = CYCCNT - start; return 0; }
"""


def _program(body: str, rounds: int, pointer: str = "bytes", warm: int = 4) -> str:
    text = TIMED.replace("BODY", body.replace(";", "\\n")).replace("P,", f"{pointer},")
    text = text.replace("P + 4", f"{pointer} + 4").replace("WARM", str(warm))
    return text.replace("ROUNDS", str(rounds))


def _spent(build, body, rounds=1000, pointer="bytes", warm=4, target="stm32h743", clock=None,
           flags=()):  # fmt: skip
    elf = build(_program(body, rounds, pointer, warm), "-DCACHES", *flags)
    board = Board(elf, target, clock_mhz=clock)
    board.run(cycles=True)
    return int.from_bytes(board.read_symbol("spent"), "little")


def _per_round(build, body, **options):
    """Cycles of one more round, without the entry and exit of the loop."""
    return (_spent(build, body, 2000, **options) - _spent(build, body, 1000, **options)) / 1000


LOOPS = {
    # The loop's own subs and bne pair with each other, one cycle, unless the body leaves a slot.
    "umlal chain": ("umlal r0,r1,r2,r3;" * 8, 9),
    "smlad and ldr": ("ldr r4,[r10,#4]; smlad r0,r2,r3,r0;" * 8, 9),
    "two banks": ("ldr r0,[r10]; ldr r1,[r10,#4];" * 8, 9),
    "one bank": ("ldr r0,[r10]; ldr r1,[r10,#8];" * 8, 17),
    "unaligned words": ("ldr r0,[r10,#1]; ldr r1,[r10,#5];" * 4, 4 + 1 + 8 * 3),
    "aligned words": ("ldr r0,[r10,#0]; ldr r1,[r10,#4];" * 4, 4 + 1),
}


@pytest.mark.parametrize("name", LOOPS)
def test_firmware_measures_the_loop(build, name):
    body, expected = LOOPS[name]
    assert _per_round(build, body) == expected


def test_byte_stores_are_cheaper_in_the_cache(build):
    body = "strb r0,[r10];" * 16
    assert _per_round(build, body) == pytest.approx(16 * 3.7, rel=0.02)
    axi = _per_round(build, body, pointer="(uint8_t *)big")
    assert axi == pytest.approx(16 * 2.4, rel=0.02)


def test_streaming_pays_one_stall_per_line(build):
    # 8 words are one line; the second reading of a range larger than the cache misses again.
    body = "ldr r0,[r10],#4; ldr r1,[r10],#4; ldr r2,[r10],#4; ldr r3,[r10],#4;" * 2
    inside = _per_round(build, body, pointer="bytes")
    # Each write-back delays the next address by one cycle, so a load a cycle and the branch.
    assert inside == 9
    flash = _per_round(build, body, pointer="(uint8_t *)table", warm=1)
    axi = _per_round(build, body, pointer="(uint8_t *)big", warm=1)
    assert flash - inside == pytest.approx(10, abs=0.05)
    assert axi - inside == pytest.approx(6, abs=0.05)


def test_clock_selects_the_flash_stall(build):
    body = "ldr r0,[r10],#32;"
    options = {"pointer": "(uint8_t *)table", "warm": 1}
    slow = _per_round(build, body, clock=400, **options)
    assert _per_round(build, body, clock=480, **options) - slow == pytest.approx(4, abs=0.05)


SWEEP = """
__attribute__((section(".axi"), aligned(32))) uint8_t data[65536];
volatile uint32_t first, again, sink;
__attribute__((noinline)) uint32_t sweep(uint32_t size) {
  uint32_t sum = 0; __asm volatile("" ::: "memory");
  for (uint32_t i = 0; i < size; i += 32) sum += data[i];
  return sum; }
int main(void) {
  for (int round = 0; round < 2; round++) {
    uint32_t start = CYCCNT; sink = sweep(SIZE); uint32_t spent = CYCCNT - start;
    if (round) again = spent; else first = spent; }
  return 0; }
"""


@pytest.mark.parametrize(("kib", "misses_again"), [(15, 0), (20, 640), (32, 1024)])
def test_sixteen_kib_stay_in_the_data_cache(build, kib, misses_again):
    board = Board(build(SWEEP.replace("SIZE", str(kib * 1024)), "-DCACHES"))
    result = board.run(cycles=True)
    first, again = (int.from_bytes(board.read_symbol(n), "little") for n in ("first", "again"))
    lines = kib * 32
    assert result.stalls["axi"] == pytest.approx((lines + misses_again) * 6, abs=40)
    if misses_again == 0:
        assert first - again == pytest.approx(lines * 6, rel=0.1)


def test_caches_start_switched_off(build):
    program = SWEEP.replace("SIZE", "1024")
    cold = Board(build(program)).run(cycles=True)
    warm = Board(build(program, "-DCACHES")).run(cycles=True)
    assert cold.stalls["axi"] > warm.stalls["axi"] + 30 * 6
    assert cold.stalls["flash"] > warm.stalls["flash"]


def test_fractional_stalls_of_another_chip(build):
    # The STM32F746's 5.5 cycles a line must not be rounded to whole cycles.
    options = {"pointer": "(uint8_t *)0x20010000", "warm": 1, "target": "stm32f746"}
    options["flags"] = ("-Wl,--defsym=_estack=0x20010000",)
    streamed = _per_round(build, "ldr r0,[r10],#32;", **options)
    assert streamed - _per_round(build, "ldr r0,[r10];", **options) == pytest.approx(5.5, abs=0.02)


def test_the_firmware_may_set_its_cycle_counter(build):
    program = """volatile uint32_t after; int main(void) {
      CYCCNT = 5; CYCCNT = 1000000; after = CYCCNT; return 0; }"""
    board = Board(build(program))
    board.run(cycles=True)
    assert 0 <= int.from_bytes(board.read_symbol("after"), "little") - 1_000_000 < 50


BRANCHES = """
volatile uint32_t spent; volatile int sink;
__attribute__((noinline)) void work(uint32_t mask) {
  for (uint32_t i = 0; i < 4096; i++) { if (i & mask) sink = 1; else sink = 2; } }
int main(void) { work(MASK); return 0; }
"""


@pytest.mark.parametrize(
    ("mask", "rate"),
    [(0, 0), (1, 0.5), (0x800, 0)],
    ids=["always the same", "alternating", "changes once"],
)
def test_bimodal_predictor(build, mask, rate):
    result = Board(build(BRANCHES.replace("MASK", str(mask)), "-DCACHES", "-fno-if-conversion",
                         "-fno-if-conversion2")).run(cycles=True)  # fmt: skip
    mispredicts = result.profile.function("work").stalls["mispredict"] / 8
    assert mispredicts == pytest.approx(rate * 4096, abs=8)


SHORT = """
__attribute__((noinline)) int inner(int n) {
  int sum = 0; for (int i = 0; i < n; i++) { __asm volatile("" : "+r"(sum)); sum += i; }
  return sum; }
int main(void) { for (int i = 0; i < 1000; i++) inner(4); return 0; }
"""


def test_a_short_loop_pays_one_exit(build):
    profile = Board(build(SHORT, "-DCACHES")).run(cycles=True).profile
    assert profile.function("inner").stalls["mispredict"] >= 0
    total = (
        profile.function("inner").stalls["mispredict"]
        + profile.function("main").stalls["mispredict"]
    )
    assert total == pytest.approx(8000, rel=0.05)


TWO = """
volatile uint32_t sink;
__attribute__((noinline)) void cheap(void) { for (int i = 0; i < 100; i++) sink = i; }
__attribute__((noinline)) void dear(void) { for (int i = 0; i < 5000; i++) sink = i / (i | 1); }
int main(void) { cheap(); uint32_t start = CYCCNT; dear(); sink = CYCCNT - start; return 0; }
"""


def test_profile_adds_up(build):
    board = Board(build(TWO, "-DCACHES"))
    result = board.run(cycles=True)
    profile = result.profile
    assert profile.total.cycles == result.cycles
    assert profile.total.instructions == result.instructions
    assert profile.total.stalls == result.stalls
    by_function = [entry.usage for entry in profile.functions]
    assert sum(usage.instructions for usage in by_function) == result.instructions
    assert sum(usage.cycles for usage in by_function) == pytest.approx(result.cycles, abs=10)
    for cause, cycles in result.stalls.items():
        assert sum(u.stalls[cause] for u in by_function) == pytest.approx(cycles, abs=10)
    assert profile.functions[0].name == "dear"
    measured = int.from_bytes(board.read_symbol("sink"), "little")
    assert measured == pytest.approx(profile.function("dear").cycles, abs=40)


def test_functions_of_a_raw_image_are_found_by_their_calls(build, tmp_path):
    elf, raw = build(TWO, "-DCACHES"), tmp_path / "two.bin"
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", str(elf), str(raw)], check=True)
    named, bare = Board(elf), Board(raw)
    by_name, by_address = named.run(cycles=True).profile, bare.run(cycles=True).profile
    for name in ("cheap", "dear"):
        found = by_address.function(f"0x{named.symbols[name]:08x}")
        assert found == by_name.function(name)


def test_annotation_adds_up_and_names_rules(build):
    board = Board(build(_program("smlad r0,r2,r3,r0; smlad r1,r2,r3,r1; ldr r4,[r10];", 1000),
                        "-DCACHES"))  # fmt: skip
    usage = board.run(cycles=True).profile.function("work")
    lines = board.annotate("work")
    static = usage.cycles - sum(usage.stalls[c] for c in ("mispredict", "flash", "axi"))
    assert sum(line.cycles for line in lines) == pytest.approx(static, rel=0.01)
    hot = [line for line in lines if line.executions == 1004]
    assert [line.text.split()[0].removesuffix(".w") for line in hot] == [
        *("smlad", "smlad", "ldr", "subs", "bne")
    ]
    assert [line.cycles_each for line in hot] == pytest.approx([1, 1, 0, 1, 0], abs=0.01)
    assert hot[1].reason == "rule 5: second multiply"
    assert "1004" in format_annotation(lines)


def test_every_run_gives_the_same_cycles(build):
    elf = build(TWO, "-DCACHES")
    runs = [Board(elf).run(cycles=True) for _ in range(3)]
    assert len({(run.cycles, run.instructions, str(run.profile)) for run in runs}) == 1


def test_a_run_in_pieces_gives_the_same_cycles(build):
    elf = build(TWO, "-DCACHES")
    whole = Board(elf).run(cycles=True)
    board, cycles, instructions = Board(elf), 0, 0
    while True:
        part = board.run(cycles=True, max_instructions=1000)
        cycles, instructions = cycles + part.cycles, instructions + part.instructions
        if part.stopped_by == "end of program":
            break
    assert instructions == whole.instructions
    # Each part drops a fraction of a cycle.
    assert whole.cycles - instructions // 1000 - 1 <= cycles <= whole.cycles


def test_counting_first_and_modelling_later(build):
    board = Board(build(TWO, "-DCACHES"))
    assert board.run(max_instructions=500, count_instructions=True).cycles is None
    result = board.run(cycles=True)
    assert result.stopped_by == "end of program"
    assert result.cycles > 5000 * 8


FAST = """
uint32_t w[1024]; uint8_t x[4096]; int8_t k[4096]; volatile int32_t y;
int main(void) {
  int32_t acc = 0;
  for (int r = 0; r < 6000; r++) {
    for (int i = 0; i < 1024; i += 4) acc ^= __builtin_arm_smlad(w[i], w[i + 1], acc);
    for (int i = 0; i < 512; i++) acc += x[i] * k[i]; }
  y = acc; return 0; }
"""


@pytest.mark.parametrize(
    ("options", "floor"),
    [({"cycles": True}, 8e6), ({"count_instructions": True}, 100e6)],
    ids=["cycles", "counting"],
)
def test_speed(build, options, floor):
    from tvm_mpq.emulator.native import load_shim

    if load_shim() is None:
        pytest.skip("no C compiler: the Python counters are slower")
    elf, best = build(FAST, "-DCACHES"), 0.0
    # The best of three, because other work on this machine only ever slows a run down.
    for _ in range(3):
        board, started = Board(elf), time.process_time()
        result = board.run(max_instructions=10_000_000 if "cycles" in options else None, **options)
        best = max(best, result.instructions / (time.process_time() - started))
    assert best > floor, f"{best / 1e6:.0f} million instructions a second"
