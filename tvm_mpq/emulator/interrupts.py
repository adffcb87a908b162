"""Which exception is due: the NVIC and the system handlers (ARMv7-M ARM B1.5 and B3.4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tvm_mpq.emulator.bus import Bus
from tvm_mpq.emulator.core_registers import PRIORITY_MASK
from tvm_mpq.emulator.systick import SysTick
from tvm_mpq.emulator.usart import Console

SVCALL, PENDSV, SYSTICK, FIRST_INTERRUPT = 11, 14, 15, 16
_ISER, _ICER, _ISPR, _ICPR, _IPR = 0xE000E100, 0xE000E180, 0xE000E200, 0xE000E280, 0xE000E400
_ICSR, _AIRCR, _SHPR = 0xE000ED04, 0xE000ED0C, 0xE000ED18
_PENDSV_SET, _PENDSV_CLEAR, _SYSTICK_SET, _SYSTICK_CLEAR = 1 << 28, 1 << 27, 1 << 26, 1 << 25
_WORDS = 8
# Above every configurable priority: the level of thread mode.
_THREAD_PRIORITY = 256


class Interrupts:
    """Pending, enabled and active exceptions, by exception number (interrupt n is 16 + n)."""

    def __init__(
        self,
        bus: Bus,
        console: Console,
        usarts: dict[int, int],
        systick: SysTick,
        on_change: Callable[[], None],
    ) -> None:
        self._bus, self._console, self._usarts = bus, console, usarts
        self._systick, self._on_change = systick, on_change
        self._enabled: set[int] = set()
        self._pending: set[int] = set()
        self.active: list[int] = []
        for word in range(_WORDS):
            base = FIRST_INTERRUPT + 32 * word
            for address, numbers, add in (
                (_ISER, self._enabled, True),
                (_ICER, self._enabled, False),
                (_ISPR, self._pending, True),
                (_ICPR, self._pending, False),
            ):
                bus.on_write(address + 4 * word, partial(self._change, numbers, base, add))
                bus.on_read(address + 4 * word, partial(_bits, numbers, base))
        bus.on_write(_ICSR, self._write_control)
        bus.on_read(_ICSR, self._read_control)

    def pend(self, number: int) -> None:
        """Makes an exception pending."""
        self._pending.add(number)

    @property
    def receives_by_interrupt(self) -> bool:
        """True when a USART is set up to interrupt on received bytes."""
        lines = self._console.receive_interrupts
        return any(FIRST_INTERRUPT + self._usarts[base] in self._enabled for base in lines)

    def due(self, primask: int, basepri: int) -> int | None:
        """The exception to take now, given the masking registers; it stops being pending."""
        best = self._best()
        if best is None or self._priority(best) >= self._execution_priority(primask, basepri):
            return None
        self._pending.discard(best)
        return best

    def blocked(self) -> bool:
        """True when something is pending but may not be taken yet."""
        return self._best() is not None

    def _best(self) -> int | None:
        if self._systick.wrapped():
            self._pending.add(SYSTICK)
        lines = {
            FIRST_INTERRUPT + number
            for base, number in self._usarts.items()
            if self._console.wants_interrupt(base)
        }
        ready = {n for n in self._pending | lines if n < FIRST_INTERRUPT or n in self._enabled}
        return min(ready - set(self.active), key=lambda n: (self._priority(n), n), default=None)

    def _execution_priority(self, primask: int, basepri: int) -> int:
        level = min((self._priority(n) for n in self.active), default=_THREAD_PRIORITY)
        if basepri & PRIORITY_MASK:
            level = min(level, self._group(basepri & PRIORITY_MASK))
        return min(level, 0) if primask else level

    def _priority(self, number: int) -> int:
        if number < 4:
            return number - 4
        if number < FIRST_INTERRUPT:
            return self._group(self._bus.read(_SHPR + number - 4, 1))
        return self._group(self._bus.read(_IPR + number - FIRST_INTERRUPT, 1))

    def _group(self, value: int) -> int:
        grouping = self._bus.registers.get(_AIRCR, 0) >> 8 & 7
        return value >> (grouping + 1)

    def _change(self, numbers: set[int], base: int, add: bool, value: int) -> None:
        given = {base + bit for bit in range(32) if value >> bit & 1}
        if add:
            numbers |= given
        else:
            numbers -= given
        self._on_change()

    def _write_control(self, value: int) -> None:
        for bit, number in ((_PENDSV_SET, PENDSV), (_SYSTICK_SET, SYSTICK)):
            if value & bit:
                self._pending.add(number)
        for bit, number in ((_PENDSV_CLEAR, PENDSV), (_SYSTICK_CLEAR, SYSTICK)):
            if value & bit:
                self._pending.discard(number)
        self._on_change()

    def _read_control(self) -> int:
        value = self.active[-1] if self.active else 0
        value |= _PENDSV_SET if PENDSV in self._pending else 0
        return value | (_SYSTICK_SET if SYSTICK in self._pending else 0)


def _bits(numbers: set[int], base: int) -> int:
    return sum(1 << (number - base) for number in numbers if base <= number < base + 32)
