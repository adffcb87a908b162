"""Exceptions: entry and return, SysTick, UART receive interrupts, priorities, waiting."""

from __future__ import annotations

import pytest

pytest.importorskip("unicorn", reason="pip install tvm_mpq[emulator]")

from tvm_mpq.emulator import Board, CpuFaultError

pytestmark = pytest.mark.emu

SYSTICK_ON = "REG(0xE000E014) = PERIOD - 1; REG(0xE000E018) = 0; REG(0xE000E010) = 7;"
TICKS = """
volatile uint32_t ticks, level, seen;
void SysTick_Handler(void) { uint32_t number; __asm volatile("mrs %0, ipsr" : "=r"(number));
  level = number; seen = REG(0xE000ED04) & 0x1FF; ticks++; }
"""


def _word(board, name):
    return int.from_bytes(board.read_symbol(name), "little")


def _ticks(source, period=10_000):
    return TICKS + source.replace("SYSTICK_ON", SYSTICK_ON.replace("PERIOD", str(period)))


@pytest.mark.parametrize("options", [{}, {"count_instructions": True}, {"cycles": True}])
def test_systick_interrupts_a_loop(build, options):
    program = _ticks("int main(void) { SYSTICK_ON while (ticks < 20) {} return 0; }")
    board = Board(build(program, "-DCACHES"))
    assert board.run(timeout_seconds=20, **options).stopped_by == "end of program"
    assert [_word(board, name) for name in ("ticks", "level", "seen")] == [20, 15, 15]


def test_systick_period_is_modelled_time(build):
    program = _ticks(
        """volatile uint32_t spent; int main(void) { SYSTICK_ON
        while (ticks < 1) {} uint32_t start = CYCCNT; while (ticks < 11) {}
        spent = CYCCNT - start; return 0; }"""
    )
    board = Board(build(program, "-DCACHES"))
    board.run(cycles=True)
    assert _word(board, "spent") == pytest.approx(10 * 10_000, abs=100)


def test_handlers_preserve_every_register(build):
    program = (
        _ticks(
            """volatile uint32_t wrong; volatile float factor = 1.0f;
        int main(void) { SYSTICK_ON
          float f = 0; uint32_t a = 1, b = 2, c = 3, d = 4;
          for (uint32_t i = 0; i < 200000; i++) {
            a += b ^ i; b += c; c = c * 5 + d; d ^= a >> 3; f = f * 0.5f + (float)(i & 7); }
          uint32_t i2 = ticks; (void)i2;
          float g = 0; uint32_t e = 1, h = 2, k = 3, m = 4; REG(0xE000E010) = 0;
          for (uint32_t i = 0; i < 200000; i++) {
            e += h ^ i; h += k; k = k * 5 + m; m ^= e >> 3; g = g * 0.5f + (float)(i & 7); }
          wrong = (a != e) + (b != h) + (c != k) + (d != m) + (f != g);
          return 0; }""",
            period=997,
        )
        .replace("ticks++;", "ticks++; factor *= 1.0001f;")
        .replace("volatile uint32_t ticks", "extern volatile float factor; volatile uint32_t ticks")
    )
    board = Board(build(program, "-DCACHES"))
    assert board.run(count_instructions=True).stopped_by == "end of program"
    assert _word(board, "ticks") > 500
    assert _word(board, "wrong") == 0


IF_THEN = """
volatile uint32_t ticks, entered, skipped;
__attribute__((naked)) void SysTick_Handler(void) {
  __asm volatile(
      "ldr r0, =entered\\n ldr r1, [r0]\\n adds r1, #1\\n str r1, [r0]\\n"
      "ldr r0, =ticks\\n ldr r1, [r0]\\n adds r1, #1\\n str r1, [r0]\\n bx lr"); }
/* Across a page, where the emulator may stop within the block. */
__asm(".section .text.count,\\"ax\\",%progbits\\n .balign 4096\\n .space 4086\\n .thumb_func\\n"
      "count: tst.w r2, #1\\n ittee ne\\n addne r0, #1\\n addne r0, #1\\n"
      "addeq r1, #1\\n addeq r1, #1\\n bx lr\\n .text");
int main(void) {
  SYSTICK_ON
  while (ticks < 300) {
    uint32_t odd = 0, even = 0;
    for (uint32_t i = 0; i < 100; i++) {
      register uint32_t a __asm("r0") = odd, b __asm("r1") = even, c __asm("r2") = i;
      __asm volatile("bl count" : "+r"(a), "+r"(b) : "r"(c) : "lr", "cc");
      odd = a, even = b;
    }
    skipped += odd != 100 || even != 100;
  }
  REG(0xE000E010) = 0;
  return 0; }
"""


@pytest.mark.parametrize("options", [{"count_instructions": True}, {"cycles": True}])
def test_a_handler_does_not_inherit_an_if_then_block(build, options):
    """Nor does the block lose what was left of it."""
    program = IF_THEN.replace("SYSTICK_ON", SYSTICK_ON.replace("PERIOD", "997"))
    board = Board(build(program, "-DCACHES"))
    assert board.run(timeout_seconds=60, **options).stopped_by == "end of program"
    assert _word(board, "skipped") == 0
    assert _word(board, "entered") == _word(board, "ticks") >= 300


RECEIVE = """
volatile uint32_t got; volatile char last; uint8_t buffer[64];
void USART3_Handler(void) {
  while (REG(USART3 + 0x1C) & 0x20) {
    last = (char)REG(USART3 + 0x24); buffer[got++ & 63] = last; } }
int main(void) {
  REG(0xE000E104) = 1u << 7; REG(USART3) = 0x2D;
  print("go>");
  while (last != '.') { IDLE }
  for (uint32_t i = 0; i < got; i++) send(buffer[i]);
  return 0; }
"""


@pytest.mark.parametrize("idle", ["", '__asm volatile("wfi");'], ids=["spinning", "wfi"])
@pytest.mark.parametrize("options", [{}, {"cycles": True}])
def test_uart_bytes_arrive_by_interrupt(build, idle, options):
    board = Board(build(RECEIVE.replace("IDLE", idle), "-DCACHES"))
    first = board.run(**options, timeout_seconds=20)
    assert (first.stopped_by, first.uart) == ("waiting for input", b"go>")
    assert board.run(b"abc", **options, timeout_seconds=20).stopped_by == "waiting for input"
    assert _word(board, "got") == 3
    last = board.run(b"d.", **options, timeout_seconds=20)
    assert (last.stopped_by, last.uart) == ("end of program", b"abcd.")


def test_a_long_computation_is_not_taken_for_waiting(build):
    program = RECEIVE.replace("IDLE", "for (volatile uint32_t i = 0; i < 3000000; i++) {}"
                              " print(\"done\"); return 0;")  # fmt: skip
    result = Board(build(program)).run(count_instructions=True)
    assert (result.stopped_by, result.uart) == ("end of program", b"go>done")


def test_svc_and_pendsv(build):
    program = """
    volatile uint32_t order, calls, argument;
    void PendSV_Handler(void) { order = order * 10 + 2; }
    void SVC_Handler(void) { order = order * 10 + 1; REG(0xE000ED04) = 1u << 28;
      __asm volatile("dsb\\n isb"); order = order * 10 + 3; calls++; }
    int main(void) {
      REG(0xE000ED20) = 0x00FF0000u; REG(0xE000ED1C) = 0x80000000u;
      __asm volatile("mov r0, #5\\n svc 1" ::: "r0", "memory"); order = order * 10 + 4;
      return 0; }"""
    board = Board(build(program))
    assert board.run().stopped_by == "end of program"
    # PendSV has the lower priority, so it follows the handler that requested it.
    assert _word(board, "order") == 1324


def test_a_masked_interrupt_waits(build):
    program = _ticks(
        """volatile uint32_t during, after; int main(void) { __asm volatile("cpsid i"); SYSTICK_ON
        for (volatile int i = 0; i < 20000; i++) {} during = ticks;
        __asm volatile("cpsie i"); for (volatile int i = 0; i < 1000; i++) {} after = ticks;
        return 0; }""",
        period=50_000,
    )
    board = Board(build(program))
    board.run(count_instructions=True)
    assert _word(board, "during") == 0
    assert _word(board, "after") >= 1


def test_process_stack_and_wait_for_interrupt(build):
    program = _ticks(
        """uint64_t stack[64]; volatile uint32_t process;
        __attribute__((noinline)) int deep(int n) {
          volatile int x = n; return n ? deep(n - 1) + x : x; }
        int main(void) {
        __asm volatile("msr psp, %0\\n mrs r1, control\\n orr r1, #2\\n msr control, r1\\n isb"
          :: "r"(stack + 64) : "r1", "memory");
        SYSTICK_ON while (ticks < 5) __asm volatile("wfi"); deep(3);
        __asm volatile("mrs %0, control" : "=r"(process)); process &= 2; end();
        return 0; }"""
    )
    board = Board(build(program))
    result = board.run(cycles=True)
    assert result.stopped_by == "end of program"
    assert _word(board, "process") == 2
    # Sleeping costs time but no instructions.
    assert result.cycles > 5 * 10_000 > 10 * result.instructions


def test_nothing_to_wait_for(build):
    result = Board(build('int main(void) { __asm volatile("wfi"); return 0; }')).run()
    assert result.stopped_by == "waiting for interrupt"


def test_hard_fault_handler_is_a_fault(build):
    program = "void HardFault_Handler(void); int main(void) { HardFault_Handler(); return 0; }"
    with pytest.raises(CpuFaultError, match="^HardFault handler reached.*HardFault_Handler"):
        Board(build(program)).run()


def test_general_purpose_timer_counts_half_the_core_clock(build):
    program = """volatile uint32_t ticks, spent; int main(void) {
      REG(0x40000028) = 9; REG(0x40000014) = 1; REG(0x40000000) = 1;
      uint32_t start = CYCCNT, first = REG(0x40000024);
      for (volatile int i = 0; i < 5000; i++) {}
      ticks = REG(0x40000024) - first; spent = CYCCNT - start; return 0; }"""
    board = Board(build(program, "-DCACHES"))
    board.run(cycles=True)
    assert _word(board, "ticks") == pytest.approx(_word(board, "spent") / 20, abs=2)


def test_reset_request_stops(build):
    program = "int main(void) { REG(0xE000ED0C) = 0x05FA0004; for (;;) {} }"
    assert Board(build(program)).run().stopped_by == "reset requested"
