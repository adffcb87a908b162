"""The SysTick timer (ARMv7-M ARM B3.3): a count-down on the modelled time."""

from __future__ import annotations

from collections.abc import Callable

from tvm_mpq.emulator.bus import Bus

CSR, RVR, CVR = 0xE000E010, 0xE000E014, 0xE000E018
_ENABLE, _INTERRUPT, _CORE_CLOCK, _WRAPPED = 1, 2, 4, 1 << 16
_RELOAD_MASK = 0xFFFFFF
# The other clock source: the core clock / 8 (RM0433 figure 56, RM0385 section 5.2).
_SLOW_DIVIDER = 8


class SysTick:
    """``now()`` is in core cycles; ``on_change()`` is called when the firmware reprograms it."""

    def __init__(self, bus: Bus, now: Callable[[], int], on_change: Callable[[], None]) -> None:
        self._bus, self._now, self._on_change = bus, now, on_change
        self._control = self._reload = self._value = 0
        self._since = 0  # core cycle at which `_value` was reached
        self._has_wrapped = self._is_due = False
        bus.on_read(CSR, self._read_control)
        bus.on_read(RVR, lambda: self._reload)
        bus.on_read(CVR, self._read_value)
        bus.on_write(CSR, self._set_control)
        bus.on_write(RVR, self._set_reload)
        bus.on_write(CVR, self._clear_value)

    def wrapped(self) -> bool:
        """True once after the counter has reached zero with its interrupt enabled."""
        self._advance()
        was_due, self._is_due = self._is_due, False
        return was_due

    def next_wrap(self) -> int | None:
        """Core cycle of the next interrupt; None when it is off."""
        self._advance()
        if self._control & (_ENABLE | _INTERRUPT) != _ENABLE | _INTERRUPT:
            return None
        ticks = self._ticks_to_zero()
        return self._since + ticks * self._divider() if ticks else None

    def _divider(self) -> int:
        return 1 if self._control & _CORE_CLOCK else _SLOW_DIVIDER

    def _ticks_to_zero(self) -> int:
        """0: never. From zero, the first tick loads the reload value."""
        if self._value:
            return self._value
        return self._reload + 1 if self._reload else 0

    def _advance(self) -> None:
        now = self._now()
        if not self._control & _ENABLE:
            self._since = now
            return
        ticks = (now - self._since) // self._divider()
        self._since += ticks * self._divider()
        first = self._ticks_to_zero()
        if not first or not ticks:
            return
        if ticks < first:
            self._value = first - ticks
            return
        self._has_wrapped = True
        self._is_due = self._is_due or bool(self._control & _INTERRUPT)
        period = self._reload + 1
        left = (ticks - first) % period
        self._value = period - left if left else 0

    def _set_control(self, value: int) -> None:
        self._advance()
        self._control = value & (_ENABLE | _INTERRUPT | _CORE_CLOCK)
        self._on_change()

    def _set_reload(self, value: int) -> None:
        self._advance()
        self._reload = value & _RELOAD_MASK
        self._on_change()

    def _clear_value(self, _: int) -> None:
        """Any value clears the counter and the flag, and is not an event."""
        self._advance()
        self._value, self._since, self._has_wrapped = 0, self._now(), False
        self._on_change()

    def _read_control(self) -> int:
        self._advance()
        flag, self._has_wrapped = self._has_wrapped, False
        return self._control | (_WRAPPED if flag else 0)

    def _read_value(self) -> int:
        self._advance()
        return self._value
