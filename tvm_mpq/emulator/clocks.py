"""Clocks as the program set them up: bus prescalers, wait states, kernel clocks of peripherals.

Everything is relative to the core clock, so that no oscillator has to be known. RM0433 section 8.5
and 8.7 (H743), RM0455 section 8.7 (H7A3, the same addresses and fields), RM0385 section 5.2, 5.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm_mpq.emulator.bus import Bus
from tvm_mpq.emulator.chips import Chip

_LATENCY = 0xF
_HSI_MHZ = {"h7": 64, "f7": 16}
_CSI_HZ, _LSE_HZ = 4_000_000, 32_768
_APB2 = 0x40010000
_LPUART1 = 0x58000C00
_USARTS_16 = (0x40011000, 0x40011400)
_BRR, _PRESC, _OVERSAMPLE_8 = 0x0C, 0x2C, 1 << 15
# USARTx_PRESC, RM0433 section 52.8.
_USART_PRESCALERS = (1, 2, 4, 6, 8, 10, 12, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class _Field:
    """``bits`` bits of a register, from bit ``shift`` up."""

    register: int
    shift: int
    bits: int

    def of(self, bus: Bus) -> int:
        return bus.registers.get(self.register, 0) >> self.shift & ((1 << self.bits) - 1)


@dataclass(frozen=True)
class _Layout:
    """Where one family keeps its clock settings; apb1 and apb2 hold the timers and USARTs."""

    latency: int
    ahb: _Field
    apb1: _Field
    apb2: _Field
    apb4: _Field | None
    timer_prescaler: _Field


_H7 = _Layout(
    latency=0x52002000,
    ahb=_Field(0x58024418, 0, 4),
    apb1=_Field(0x5802441C, 4, 3),
    apb2=_Field(0x5802441C, 8, 3),
    apb4=_Field(0x58024420, 4, 3),
    timer_prescaler=_Field(0x58024410, 15, 1),
)
_F7 = _Layout(
    latency=0x40023C00,
    ahb=_Field(0x40023808, 4, 4),
    apb1=_Field(0x40023808, 10, 3),
    apb2=_Field(0x40023808, 13, 3),
    apb4=None,
    timer_prescaler=_Field(0x4002388C, 24, 1),
)


class Clocks:
    """The clock tree of ``chip``; ``clock_mhz`` is its core clock.

    ``on_memory(ratio, wait_states)`` is told the settings that a line miss depends on, at once and
    with each change. Firmware that never writes a register has the usual setting of its clock.
    """

    def __init__(
        self, bus: Bus, chip: Chip, clock_mhz: int, on_memory: Callable[[int, int], None]
    ) -> None:
        self._bus, self._chip, self.clock_mhz = bus, chip, clock_mhz
        self._layout = _H7 if chip.family == "h7" else _F7
        self._on_memory = on_memory
        self._ratio, self._wait_states = chip.clocks[clock_mhz]
        bus.on_write(self._layout.latency, self._set_latency)
        if chip.family == "h7":
            bus.on_write(self._layout.ahb.register, self._set_ratio)
        on_memory(self._ratio, self._wait_states)

    @property
    def memory(self) -> tuple[int, int]:
        """(core clock / AXI clock, flash wait states)."""
        return self._ratio, self._wait_states

    def timer_divider(self, base: int) -> int:
        """Core cycles per clock of the timer at ``base``, before its own prescaler."""
        layout = self._layout
        apb = _apb_divider((layout.apb2 if base >= _APB2 else layout.apb1).of(self._bus))
        # RM0433 table 56: up to twice (TIMPRE: four times) the APB clock, not above AHB.
        multiple = 4 if layout.timer_prescaler.of(self._bus) else 2
        return self._ahb() * max(1, apb // multiple)

    def baud(self, base: int) -> int | None:
        """Baud rate of the USART at ``base``; None when not set, or clocked by a PLL of its own."""
        divisor = self._bus.registers.get(base + _BRR, 0)
        clock = self._usart_clock(base)
        if not divisor or clock is None:
            return None
        if base == _LPUART1:
            clock *= 256
        elif self._bus.registers.get(base, 0) & _OVERSAMPLE_8:
            clock, divisor = 2 * clock, divisor & ~0xF | (divisor & 7) << 1
        prescaler = self._bus.registers.get(base + _PRESC, 0) & 0xF
        if self._chip.family == "h7":
            clock //= _USART_PRESCALERS[min(prescaler, len(_USART_PRESCALERS) - 1)]
        return round(clock / divisor) if divisor else None

    def _usart_clock(self, base: int) -> int | None:
        core = self.clock_mhz * 1_000_000
        layout = self._layout
        hsi = _HSI_MHZ[self._chip.family] * 1_000_000
        selected = _usart_source(self._chip.family, base).of(self._bus)
        apb = layout.apb2 if _APB2 <= base < _LPUART1 else layout.apb1
        if base == _LPUART1 and layout.apb4 is not None:
            apb = layout.apb4
        bus_clock = core // (self._ahb() * _apb_divider(apb.of(self._bus)))
        if self._chip.family == "h7":
            return {0: bus_clock, 3: hsi, 4: _CSI_HZ, 5: _LSE_HZ}.get(selected)
        return {0: bus_clock, 1: core, 2: hsi, 3: _LSE_HZ}[selected]

    def _ahb(self) -> int:
        # The F7's core runs on the AHB clock itself.
        return self._ratio if self._chip.family == "h7" else 1

    def _set_ratio(self, _: int) -> None:
        self._ratio = _ahb_divider(self._layout.ahb.of(self._bus))
        self._on_memory(self._ratio, self._wait_states)

    def _set_latency(self, value: int) -> None:
        self._wait_states = value & _LATENCY
        chip = self._chip
        if self.clock_mhz != chip.default_clock:
            # Asked for another clock than the program's: fewer wait states would not work there.
            self._wait_states = max(self._wait_states, chip.clocks[self.clock_mhz][1])
        self._on_memory(self._ratio, self._wait_states)


def _ahb_divider(field: int) -> int:
    """HPRE: 0xxx 1, 1000 2, ... 1011 16, 1100 64 (there is no 32), ... 1111 512."""
    if field < 8:
        return 1
    power = field - 7
    return 1 << (power if power <= 4 else power + 1)


def _apb_divider(field: int) -> int:
    """PPRE: 0xx 1, 100 2, 101 4, 110 8, 111 16."""
    return 1 << max(0, field - 3)


def _usart_source(family: str, base: int) -> _Field:
    """The field that selects the kernel clock of a USART."""
    if family == "h7":
        if base == _LPUART1:
            return _Field(0x58024458, 0, 3)
        return _Field(0x58024454, 3 if base in _USARTS_16 else 0, 3)
    # RCC_DCKCFGR2: two bits each for USART1 to UART8.
    order = (
        *(0x40011000, 0x40004400, 0x40004800, 0x40004C00),
        *(0x40005000, 0x40011400, 0x40007800, 0x40007C00),
    )
    return _Field(0x40023890, 2 * order.index(base), 2)
