"""Timers TIM1 to TIM17 as clocks: they count up and wrap (RM0433 sections 38 to 42).

Interrupts, capture, compare and counting down are not modelled.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm_mpq.emulator.bus import Bus
from tvm_mpq.emulator.clocks import Clocks

# Base address -> bits of the counter. The same addresses on F7, where TIM9 to TIM11 take the place
# of TIM15 to TIM17.
TIMERS = {
    **dict.fromkeys((0x40000000, 0x40000C00), 32),  # TIM2, TIM5
    **dict.fromkeys((0x40000400, 0x40000800, 0x40001000, 0x40001400), 16),  # TIM3, 4, 6, 7
    **dict.fromkeys((0x40001800, 0x40001C00, 0x40002000), 16),  # TIM12, 13, 14
    **dict.fromkeys((0x40010000, 0x40010400), 16),  # TIM1, TIM8
    **dict.fromkeys((0x40014000, 0x40014400, 0x40014800), 16),  # TIM15, 16, 17 or 9, 10, 11
}
_CR1, _SR, _EGR, _CNT, _PSC, _ARR = 0x00, 0x10, 0x14, 0x24, 0x28, 0x2C
_ENABLE, _UPDATE, _UPDATE_DISABLED, _UPDATE_BY_WRAP_ONLY = 1, 1, 2, 4


class Timer:
    """One timer; ``now()`` is the time in core cycles."""

    def __init__(self, bus: Bus, base: int, clocks: Clocks, now: Callable[[], int]) -> None:
        self._bus, self._base, self._clocks, self._now = bus, base, clocks, now
        self._mask = (1 << TIMERS[base]) - 1
        self._is_running = False
        self._count = self._prescaler = self._status = self._since = 0
        bus.registers[base + _ARR] = self._mask
        bus.on_read(base + _CNT, self._read_count)
        bus.on_read(base + _SR, self._read_status)
        bus.on_write(base + _CR1, self._set_control)
        bus.on_write(base + _CNT, self._set_count)
        bus.on_write(base + _SR, self._clear_status)
        # An update event restarts the counter and raises the flag that start-up code waits for.
        bus.on_write(base + _EGR, self._generate)

    def _register(self, offset: int) -> int:
        return self._bus.registers.get(self._base + offset, 0)

    def _advance(self) -> None:
        now = self._now()
        if not self._is_running:
            self._since = now
            return
        step = self._clocks.timer_divider(self._base) * (self._prescaler + 1)
        ticks = (now - self._since) // step
        self._since += ticks * step
        period = (self._register(_ARR) & self._mask) + 1
        if self._count + ticks >= period:
            self._status |= _UPDATE
            # The prescaler is buffered until an update.
            self._prescaler = self._register(_PSC) & 0xFFFF
        self._count = (self._count + ticks) % period

    def _read_count(self) -> int:
        self._advance()
        return self._count

    def _read_status(self) -> int:
        self._advance()
        return self._status

    def _set_control(self, value: int) -> None:
        self._advance()
        self._is_running = bool(value & _ENABLE)

    def _set_count(self, value: int) -> None:
        self._advance()
        self._count = value & self._mask

    def _clear_status(self, value: int) -> None:
        self._advance()
        self._status &= value

    def _generate(self, value: int) -> None:
        self._advance()
        control = self._register(_CR1)
        if not value & _UPDATE:
            return
        self._count, self._since = 0, self._now()
        self._prescaler = self._register(_PSC) & 0xFFFF
        if not control & (_UPDATE_DISABLED | _UPDATE_BY_WRAP_ONLY):
            self._status |= _UPDATE
