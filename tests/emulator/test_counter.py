"""The C counters and the Python counters give the same figures."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("unicorn", reason="pip install tvm_mpq[emulator]")

from tvm_mpq.emulator import Board, core
from tvm_mpq.emulator.counter import NativeCounter
from tvm_mpq.emulator.native import load_shim
from tvm_mpq.emulator.python_counter import PythonCounter

pytestmark = pytest.mark.emu

needs_shim = pytest.mark.skipif(load_shim() is None, reason="no C compiler: no shim to compare")
PROGRAM = """
__attribute__((section(".axi"))) uint8_t big[20000]; uint8_t small[64];
const uint8_t table[3000] = {1, 2, 3};
int main(void) {
  uint32_t sum = 0, seed = 1;
  for (int i = 0; i < 3000; i++) {
    seed = seed * 1664525u + 1013904223u;
    if (seed >> 31) sum += table[i]; else sum ^= big[seed % 20000u];
    big[i * 5] = (uint8_t)sum; small[i & 63] = (uint8_t)seed;
    uint32_t word; __asm volatile("ldr %0,[%1]" : "=r"(word) : "r"(small + (i & 7))); sum += word;
  }
  send((int)(sum & 127)); return 0; }
"""


def _run(monkeypatch, elf, kind, target="stm32h743", **options):
    monkeypatch.setattr(core, "new_counter", kind)
    machine = Board(elf, target)
    result = machine.run(**options)
    return dataclasses.replace(result, seconds=0), machine


@needs_shim
@pytest.mark.parametrize("options", [{"count_instructions": True}, {"cycles": True}])
@pytest.mark.parametrize("flags", [(), ("-DCACHES",)])
@pytest.mark.parametrize("target", ["stm32h743", "stm32h7a3"])
def test_python_and_c_agree_to_the_last_count(build, monkeypatch, options, flags, target):
    elf = build(PROGRAM, *flags)
    native, native_board = _run(monkeypatch, elf, NativeCounter, target, **options)
    python, python_board = _run(monkeypatch, elf, PythonCounter, target, **options)
    assert native.stopped_by == "end of program"
    assert native == python
    assert native_board._counter.edges() == python_board._counter.edges()
    assert _banks(native_board) == _banks(python_board)


def _banks(machine):
    """What rule 8 knows of every edge."""
    edges = [machine._counter.edge(i) for i in range(machine._counter.state.edge_count)]
    return [
        (edge.words, edge.irregular, edge.timed, edge.same[: edge.words] if edge.timed else [])
        for edge in edges
    ]


@needs_shim
def test_every_event_of_the_program_is_counted(build, monkeypatch):
    _, machine = _run(monkeypatch, build(PROGRAM, "-DCACHES"), NativeCounter, cycles=True)
    edges = machine._counter.edges()
    total = {name: sum(getattr(edge, name) for edge in edges) for name in edges[0].__dict__}
    # 3000 iterations, of which six of eight load a word at an unaligned address.
    assert total["unaligned"] == 3000 * 6 // 8
    assert total["narrow_tcm"] == 3000
    assert total["narrow_cached"] == 3000
    # A coin-flip branch is mispredicted about every second time.
    assert 1200 < total["mispredicts"] < 1800
    assert total["flash_data"] > 20
    assert total["sram_data"] > 500


CONDITIONAL = """ldrne r2,[%1]
strne r2,[%1]
ldrdne r2,r3,[%1]
vldrne s0,[%1]
ldmne %1,{r2,r3}
ldrne r2,[%2]""".splitlines()
# A conditional access, then a block that starts while the condition is false.
LEAK = """moved = 0; __asm volatile("movs r0,#1\\n cmp r0,#0\\n it ne\\n TEXT\\n"
  "cmp r0,r0\\n b 1f\\n 1: movs %0,#1" : "+l"(moved)
  : "l"(words), "r"(0x40004804) : "r0", "r2", "r3", "s0", "cc");
  sum += moved;"""
# unicorn ends a block at its pages of 1 KiB, here in the middle of an IT block.
STRADDLE = """uint32_t words[4]; volatile int result;
  __attribute__((naked, noinline, aligned(1024))) int straddle(void *p) { __asm volatile(
    "movs r3,#1\\n cmp r3,#0\\n .rept COUNT\\n nop\\n .endr\\n COVERED\\n"
    "cmp r3,r3\\n b 1f\\n 1: movs r0,#1\\n bx lr"); }
  int main(void) { int moved, sum = 0; BLOCKS result = sum + straddle(words); return 0; }"""

COVERED = {
    "narrow": "it ne\\n ldrne r2,[r0]",
    "wide": "it ne\\n ldrne.w r2,[r0]",
    "after a wide one": "itt ne\\n addne.w r1,r1,#1\\n ldrne r2,[r0]",
    "last of four": "itttt ne\\n movne r1,r2\\n addne.w r1,#1\\n movne r1,r2\\n ldrne r2,[r0]",
}


@pytest.mark.parametrize("kind", [NativeCounter, PythonCounter], ids=["c", "python"])
@pytest.mark.parametrize("covered", COVERED)
@pytest.mark.parametrize("nops", range(504, 511))
def test_watching_memory_does_not_disturb_conditional_code(build, monkeypatch, kind, covered, nops):
    if kind is NativeCounter and load_shim() is None:
        pytest.skip("no C compiler: nothing to compare")
    blocks = "".join(LEAK.replace("TEXT", text) for text in CONDITIONAL)
    program = (
        STRADDLE.replace("COUNT", str(nops))
        .replace("COVERED", COVERED[covered])
        .replace("BLOCKS", blocks)
    )
    monkeypatch.setattr(core, "new_counter", kind)
    for cycles in (False, True):
        machine = Board(build(program))
        assert machine.run(cycles=cycles).stopped_by == "end of program"
        assert machine.read_symbol("result")[0] == len(CONDITIONAL) + 1


def test_a_word_across_two_lines_misses_both(build):
    program = """
    __attribute__((section(".axi"), aligned(32))) uint8_t lines[64 * 50];
    int main(void) { for (int i = 0; i < 50; i++)
      __asm volatile("ldr r0,[%0,#30]" :: "r"(lines + 64 * i) : "r0"); return 0; }"""
    machine = Board(build(program, "-DCACHES"))
    machine.run(cycles=True)
    edges = machine._counter.edges()
    assert sum(edge.sram_data for edge in edges) == 100
    assert sum(edge.unaligned for edge in edges) == 50


def test_guards_work_without_a_compiler(build, monkeypatch):
    monkeypatch.setattr(core, "new_counter", PythonCounter)
    program = "int f(int n) { volatile int x = n; return n ? f(n - 1) + x : 0; }"
    with pytest.raises(ValueError, match="stack overflow"):
        Board(build(program + "int main(void) { return f(9999); }")).run()
    assert Board(build(program + "int main(void) { return f(9); }")).run().stopped_by
