"""The chips the emulator knows: memories, caches, line-miss stalls, peripherals, interrupts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
class NarrowStores:
    """Rule 10: milli-cycles for which a byte or halfword store occupies the store buffer."""

    tcm: int
    cached: int


@dataclass(frozen=True)
class Chip:
    """One microcontroller as the emulator sees it.

    Attributes
    ----------
    regions: memories; the one called FLASH is not writable. Addresses and sizes in bytes.
    flash_aliases: other base addresses at which the flash contents appear.
    flash_reads: reads of the flash that fill one 32-byte cache line.
    clocks: clock in MHz -> (core clock / AXI clock, flash wait states) of firmware that sets
        neither; the first is the default clock, the one that was compared with silicon.
    sram_stall: core cycles of an SRAM line miss, by core clock / AXI clock (rule 13).
    usarts: base address -> interrupt number; every one is wired to the console.
    family: selects the register layout ("h7" or "f7").
    """

    name: str
    family: str
    regions: tuple[MemoryRegion, ...]
    flash_aliases: tuple[int, ...]
    data_cache: Cache
    code_cache: Cache
    flash_reads: int
    clocks: Mapping[int, tuple[int, int]]
    sram_stall: Callable[[int], float]
    narrow_stores: NarrowStores
    usarts: Mapping[int, int]

    @property
    def flash(self) -> MemoryRegion:
        """The program memory."""
        return next(region for region in self.regions if region.name == "FLASH")

    @property
    def usart_names(self) -> dict[int, str]:
        """Base address -> name of every USART."""
        return {base: _USART_NAMES[base] for base in self.usarts}

    def usart(self, number: int) -> int:
        """Base address of USART ``number`` (UART4, 5, 7 and 8 count on)."""
        for base, name in self.usart_names.items():
            if name in (f"USART{number}", f"UART{number}"):
                return base
        raise InvalidValueError(f"UART {number}: {self.name} has 1 to 8; name one of them")

    @property
    def default_clock(self) -> int:
        """Core clock in MHz at which the model was compared with silicon."""
        return next(iter(self.clocks))

    def clock(self, clock_mhz: int | None) -> int:
        """``clock_mhz``, or the default clock for None."""
        clock = self.default_clock if clock_mhz is None else clock_mhz
        if clock not in self.clocks:
            known = ", ".join(str(mhz) for mhz in self.clocks)
            raise InvalidValueError(
                f"clock {clock} MHz: wait states of {self.name} are known at {known} MHz; use one"
            )
        return clock


_USART_NAMES = {
    0x40011000: "USART1",
    0x40004400: "USART2",
    0x40004800: "USART3",
    0x40004C00: "UART4",
    0x40005000: "UART5",
    0x40011400: "USART6",
    0x40007800: "UART7",
    0x40007C00: "UART8",
    0x58000C00: "LPUART1",
}
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

# RM0433 section 3.3: RAM with ECC reads, modifies and writes the word of a narrow store. Fitted.
_WITH_ECC = NarrowStores(3700, 2400)
# The F7 has no ECC: a narrow store is a store.
_WITHOUT_ECC = NarrowStores(1000, 1000)


def _h743_sram_stall(ratio: int) -> float:
    """4 AXI cycles as on the H7A3, but 6 core cycles at a ratio of 2, where it was measured."""
    return 6.0 if ratio == 2 else 4.0 * ratio


_H743 = Chip(
    name="stm32h743",
    family="h7",
    regions=Target("stm32h7").regions,
    flash_aliases=(),
    data_cache=Cache(16 * KIB, 4),
    code_cache=Cache(16 * KIB, 2),
    flash_reads=1,
    clocks={400: (2, 2), 480: (2, 4)},
    sram_stall=_h743_sram_stall,
    narrow_stores=_WITH_ECC,
    usarts=_H7_USARTS,
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
    flash_reads=2,
    clocks={280: (1, 6)},
    sram_stall=lambda ratio: 4.0 * ratio,
    narrow_stores=_WITH_ECC,
    usarts=_H7_USARTS,
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
    flash_reads=1,
    clocks={216: (1, 7)},
    sram_stall=lambda ratio: 5.5 * ratio,
    narrow_stores=_WITHOUT_ECC,
    usarts=_F7_USARTS,
)
CHIPS = {chip.name: chip for chip in (_H743, _H7A3, _F746)}


def chip_named(name: str) -> Chip:
    """The chip called ``name`` ("stm32h7" is the STM32H743)."""
    chip = CHIPS.get("stm32h743" if name == "stm32h7" else name)
    if chip is None:
        raise InvalidValueError(f"target {name!r}: the emulator knows {', '.join(CHIPS)}; use one")
    return chip
