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


def _run(monkeypatch, elf, kind, **options):
    monkeypatch.setattr(core, "new_counter", kind)
    machine = Board(elf)
    result = machine.run(**options)
    return dataclasses.replace(result, seconds=0), machine


@needs_shim
@pytest.mark.parametrize("options", [{"count_instructions": True}, {"cycles": True}])
@pytest.mark.parametrize("flags", [(), ("-DCACHES",)])
def test_python_and_c_agree_to_the_last_count(build, monkeypatch, options, flags):
    elf = build(PROGRAM, *flags)
    native, native_board = _run(monkeypatch, elf, NativeCounter, **options)
    python, python_board = _run(monkeypatch, elf, PythonCounter, **options)
    assert native.stopped_by == "end of program"
    assert native == python
    assert native_board._counter.edges() == python_board._counter.edges()


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


def test_guards_work_without_a_compiler(build, monkeypatch):
    monkeypatch.setattr(core, "new_counter", PythonCounter)
    program = "int f(int n) { volatile int x = n; return n ? f(n - 1) + x : 0; }"
    with pytest.raises(ValueError, match="stack overflow"):
        Board(build(program + "int main(void) { return f(9999); }")).run()
    assert Board(build(program + "int main(void) { return f(9); }")).run().stopped_by


# A load under a condition, then a block that must run whatever the condition was.
PREDICATED = """
int main(void) {
  static const uint32_t table[2] = {40, 2};
  uint32_t result = 0;
  for (uint32_t i = 0; i < 2; i++) {
    uint32_t value = 0, after = 0;
    __asm volatile("cmp %2, #7\\n ite ne\\n ldrne %0, [%3]\\n moveq %0, #90\\n cmp %2, %2\\n"
                   "b 1f\\n nop\\n 1: mov %1, #1\\n b 2f\\n nop\\n 2: nop\\n"
                   : "=&r"(value), "=&r"(after) : "r"(i), "r"(table + i) : "cc", "memory");
    result += value + 100 * after;
  }
  send((int)(result == 242)); return 0; }
"""


@pytest.mark.parametrize("kind", [pytest.param(NativeCounter, marks=needs_shim), PythonCounter])
@pytest.mark.parametrize("cycles", [False, True])
def test_counting_changes_nothing_after_a_predicated_load(build, monkeypatch, kind, cycles):
    """Unicorn's memory hook leaves the IT state of the access behind."""
    result, _ = _run(monkeypatch, build(PREDICATED), kind, cycles=cycles)
    assert result.stopped_by == "end of program"
    assert result.uart == b"\x01"
