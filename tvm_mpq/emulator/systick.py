"""The SysTick timer (ARMv7-M ARM B3.3): a count-down on the modelled time."""

from __future__ import annotations

from collections.abc import Callable

from tvm_mpq.emulator.bus import Bus

CSR, RVR, CVR = 0xE000E010, 0xE000E014, 0xE000E018
_ENABLE, _INTERRUPT, _CORE_CLOCK, _WRAPPED = 1, 2, 4, 1 << 16
_SLOW_DIVIDER = 8


class SysTick:
    """``now()`` is in core cycles; ``on_change()`` is called when the firmware reprograms it."""

    def __init__(self, bus: Bus, now: Callable[[], int], on_change: Callable[[], None]) -> None:
        self._bus, self._now, self._on_change = bus, now, on_change
        self._origin = 0
        self._wraps_seen = self._wraps_read = 0
        bus.on_read(CSR, self._read_control)
        bus.on_read(CVR, self._read_value)
        for register in (CSR, RVR, CVR):
            bus.on_write(register, lambda _: self._restart())

    def wrapped(self) -> bool:
        """True once after the counter has reached zero with its interrupt enabled."""
        control = self._bus.registers.get(CSR, 0)
        if not control & _ENABLE:
            return False
        wraps = self._elapsed() // self._period()
        fresh = wraps > self._wraps_seen
        self._wraps_seen = wraps
        return fresh and bool(control & _INTERRUPT)

    def next_wrap(self) -> int | None:
        """Core cycle of the next interrupt; None when it is off."""
        control = self._bus.registers.get(CSR, 0)
        if control & (_ENABLE | _INTERRUPT) != _ENABLE | _INTERRUPT:
            return None
        wraps = self._elapsed() // self._period()
        return self._origin + (wraps + 1) * self._period() * self._divider()

    def _divider(self) -> int:
        return 1 if self._bus.registers.get(CSR, 0) & _CORE_CLOCK else _SLOW_DIVIDER

    def _period(self) -> int:
        return (self._bus.registers.get(RVR, 0) & 0xFFFFFF) + 1

    def _elapsed(self) -> int:
        return (self._now() - self._origin) // self._divider()

    def _restart(self) -> None:
        self._origin, self._wraps_seen, self._wraps_read = self._now(), 0, 0
        self._on_change()

    def _read_control(self) -> int:
        control = self._bus.registers.get(CSR, 0) & ~_WRAPPED
        if not control & _ENABLE:
            return control
        wraps = self._elapsed() // self._period()
        fresh = wraps > self._wraps_read
        self._wraps_read = wraps
        return control | (_WRAPPED if fresh else 0)

    def _read_value(self) -> int:
        if not self._bus.registers.get(CSR, 0) & _ENABLE:
            return 0
        return self._period() - 1 - self._elapsed() % self._period()
