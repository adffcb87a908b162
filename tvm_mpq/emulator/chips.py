"""The chips the emulator knows: memories, caches, line-miss stalls, peripherals, interrupts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tvm_mpq.errors import InvalidValueError
from tvm_mpq.target import MemoryRegion, Target

KIB = 1024


@dataclass(frozen=True)
class Cache:
    """A level-1 cache with 32-byte lines and round-robin replacement; ``size`` in bytes."""

    size: int
    ways: int

    @property
    def sets(self) -> int:
        """Number of sets of ``ways`` lines."""
        return self.size // 32 // self.ways


@dataclass(frozen=True)
class LineStalls:
    """Core cycles lost per 32-byte line miss at one clock (design/cortex_m7.md, rule 13)."""

    flash_data: float
    flash_code: float
    sram: float


@dataclass(frozen=True)
class Chip:
    """One microcontroller as the emulator sees it.

    Attributes
    ----------
    regions: memories; the one called FLASH is not writable. Addresses and sizes in bytes.
    flash_aliases: other base addresses at which the flash contents appear.
    stalls: clock in MHz -> cost of a line miss; the first is the default clock.
    usarts: base address -> interrupt number; every one is wired to the console.
    timer_divider: core cycles per clock of TIM2..TIM5.
    family: selects the ready-bit tables ("h7" or "f7").
    """

    name: str
    family: str
    regions: tuple[MemoryRegion, ...]
    flash_aliases: tuple[int, ...]
    data_cache: Cache
    code_cache: Cache
    stalls: Mapping[int, LineStalls]
    usarts: Mapping[int, int]
    timer_divider: int

    @property
    def flash(self) -> MemoryRegion:
        """The program memory."""
        return next(region for region in self.regions if region.name == "FLASH")

    @property
    def default_clock(self) -> int:
        """Core clock in MHz at which the stalls were measured."""
        return next(iter(self.stalls))

    def line_stalls(self, clock_mhz: int | None) -> LineStalls:
        """The miss costs at ``clock_mhz`` (None: the default clock)."""
        clock = self.default_clock if clock_mhz is None else clock_mhz
        if clock not in self.stalls:
            known = ", ".join(str(mhz) for mhz in self.stalls)
            raise InvalidValueError(
                f"clock {clock} MHz: miss costs of {self.name} are known at {known} MHz; use one"
            )
        return self.stalls[clock]


# RM0433 / RM0455 table "Register boundary addresses" and the vector tables.
_H7_USARTS = {
    0x40004800: 39,
    0x40011000: 37,
    0x40004400: 38,
    0x40004C00: 52,
    0x40005000: 53,
    0x40011400: 71,
    0x40007800: 82,
    0x40007C00: 83,
    0x58000C00: 142,
}
# RM0385: the same layout without LPUART1.
_F7_USARTS = {base: irq for base, irq in _H7_USARTS.items() if base < 0x58000000}

_H743 = Chip(
    name="stm32h743",
    family="h7",
    regions=Target("stm32h7").regions,
    flash_aliases=(),
    data_cache=Cache(16 * KIB, 4),
    code_cache=Cache(16 * KIB, 2),
    # 480 MHz is extrapolated from the wait states (4 instead of 2).
    stalls={400: LineStalls(10, 10, 6), 480: LineStalls(14, 14, 6)},
    usarts=_H7_USARTS,
    timer_divider=2,
)
_H7A3 = Chip(
    name="stm32h7a3",
    family="h7",
    regions=(
        MemoryRegion("FLASH", 0x08000000, 2048 * KIB),
        MemoryRegion("ITCM", 0x00000000, 64 * KIB),
        MemoryRegion("DTCM", 0x20000000, 128 * KIB),
        MemoryRegion("AXI_SRAM", 0x24000000, 1024 * KIB),
        MemoryRegion("SRAM_AHB", 0x30000000, 128 * KIB),
        MemoryRegion("SRAM_SRD", 0x38000000, 32 * KIB),
    ),
    flash_aliases=(),
    data_cache=Cache(16 * KIB, 4),
    code_cache=Cache(16 * KIB, 2),
    # Data stall fitted to measured firmware, code stall assumed (6 wait states, 128-bit flash).
    stalls={280: LineStalls(12.9, 20, 3.8)},
    usarts=_H7_USARTS,
    timer_divider=2,
)
_F746 = Chip(
    name="stm32f746",
    family="f7",
    regions=(
        MemoryRegion("FLASH", 0x08000000, 1024 * KIB),
        MemoryRegion("ITCM", 0x00000000, 16 * KIB),
        MemoryRegion("DTCM", 0x20000000, 64 * KIB),
        MemoryRegion("SRAM1", 0x20010000, 240 * KIB),
        MemoryRegion("SRAM2", 0x2004C000, 16 * KIB),
    ),
    flash_aliases=(0x00200000,),
    data_cache=Cache(4 * KIB, 4),
    code_cache=Cache(4 * KIB, 2),
    stalls={216: LineStalls(10.8, 10.8, 4.8)},
    usarts=_F7_USARTS,
    timer_divider=2,
)
CHIPS = {chip.name: chip for chip in (_H743, _H7A3, _F746)}


def chip_named(name: str) -> Chip:
    """The chip called ``name`` ("stm32h7" is the STM32H743)."""
    chip = CHIPS.get("stm32h743" if name == "stm32h7" else name)
    if chip is None:
        raise InvalidValueError(f"target {name!r}: the emulator knows {', '.join(CHIPS)}; use one")
    return chip
