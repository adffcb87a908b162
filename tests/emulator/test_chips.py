"""The chips' figures, and programs that depend on the chip."""

from __future__ import annotations

import pytest

pytest.importorskip("unicorn", reason="pip install tvm_mpq[emulator]")

from tvm_mpq.emulator import Board, CpuFaultError, memory_stalls
from tvm_mpq.emulator.chips import CHIPS, chip_named
from tvm_mpq.errors import InvalidValueError

KIB = 1024


@pytest.mark.null
@pytest.mark.parametrize(
    ("name", "data_cache", "flash", "ram"),
    [
        ("stm32h743", (16, 4, 128), 2048, ("AXI_SRAM", 512)),
        ("stm32h7a3", (16, 4, 128), 2048, ("AXI_SRAM", 1024)),
        ("stm32f746", (4, 4, 32), 1024, ("SRAM1", 240)),
    ],
)
def test_figures(name, data_cache, flash, ram):
    chip = CHIPS[name]
    cache = chip.data_cache
    assert (cache.size // KIB, cache.ways, cache.sets) == data_cache
    assert (chip.flash.base, chip.flash.size) == (0x08000000, flash * KIB)
    assert ram in [(region.name, region.size // KIB) for region in chip.regions]
    ends = sorted((region.base, region.base + region.size) for region in chip.regions)
    assert all(a[1] <= b[0] for a, b in zip(ends, ends[1:], strict=False))


# Core cycles by hand: data r (w + 1) + 4, code n r (w + 1) + 4.
@pytest.mark.null
@pytest.mark.parametrize(
    ("name", "ratio", "waits", "data", "code", "sram"),
    [
        ("stm32h743", 2, 2, 10, 10, 6),
        ("stm32h743", 2, 4, 14, 14, 6),
        ("stm32h743", 1, 7, 12, 12, 4),
        ("stm32h7a3", 1, 7, 12, 20, 4),
        ("stm32h7a3", 1, 6, 11, 18, 4),
        ("stm32h7a3", 2, 6, 18, 32, 8),
        ("stm32f746", 1, 7, 12, 12, 5.5),
    ],
)
def test_a_line_miss_costs_what_clock_and_wait_states_say(name, ratio, waits, data, code, sram):
    chip = CHIPS[name]
    assert memory_stalls.flash_data_stall(ratio, waits) == data
    assert memory_stalls.flash_code_stall(ratio, waits, chip.flash_reads) == code
    assert chip.sram_stall(ratio) == sram


@pytest.mark.null
def test_names():
    assert chip_named("stm32h7") is chip_named("stm32h743")
    with pytest.raises(InvalidValueError, match="stm32h743, stm32h7a3, stm32f746"):
        chip_named("host")


@pytest.mark.emu
def test_f746_console_memory_and_flash_alias(build):
    program = """
    const uint32_t constant = 0x12345678;
    volatile uint32_t seen;
    int main(void) {
      while (!(REG(0x4001101C) & 0x80)) {} REG(0x40011028) = 'k';
      REG(0x40023800) |= 1u << 24; while (!(REG(0x40023800) & (1u << 25))) {}
      seen = *(volatile uint32_t *)((uint32_t)&constant - 0x08000000 + 0x00200000);
      *(volatile uint32_t *)0x20010000 = seen; return 0; }"""
    elf = build(program, "-Wl,--defsym=_estack=0x20010000")
    board = Board(elf, "stm32f746")
    assert board.run(timeout_seconds=10).uart == b"k"
    assert board.read_symbol("seen") == bytes.fromhex("78563412")
    outside = build("int main(void) { *(volatile int *)0x24000000 = 1; return 0; }",
                    "-Wl,--defsym=_estack=0x20010000")  # fmt: skip
    with pytest.raises(CpuFaultError, match="unmapped write at address 0x24000000"):
        Board(outside, "stm32f746").run()
