"""System control space of the core: identity, cache control, debug state, cycle counter, timers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tvm_mpq.emulator.bus import Bus
from tvm_mpq.emulator.chips import Cache, Chip

# ARMv7-M ARM B3.2.2, C1.6.1 and C1.8.7.
CYCCNT, CPUID, VTOR, AIRCR, CCR = 0xE0001004, 0xE000ED00, 0xE000ED08, 0xE000ED0C, 0xE000ED14
CLIDR, CTR, CCSIDR, CSSELR, DHCSR = 0xE000ED78, 0xE000ED7C, 0xE000ED80, 0xE000ED84, 0xE000EDF0
_CORTEX_M7_R1P1 = 0x411FC271
_DATA_CACHE_ON, _CODE_CACHE_ON = 1 << 16, 1 << 17
_RESET_REQUEST = 0x05FA0004
_TIMERS = (0x40000000, 0x40000400, 0x40000800, 0x40000C00)  # TIM2..TIM5, RM0433 section 43.4
_TIM_SR, _TIM_EGR, _TIM_CNT, _TIM_PSC, _TIM_ARR = 0x10, 0x14, 0x24, 0x28, 0x2C


class CoreRegisters:
    """Answers for the core itself.

    ``now()`` is the time in core cycles; ``on_caches(data, code)`` is told when the firmware
    switches the caches, ``on_reset()`` when it asks for a system reset.
    """

    def __init__(
        self,
        bus: Bus,
        chip: Chip,
        now: Callable[[], int],
        on_caches: Callable[[bool, bool], None],
        on_reset: Callable[[], None],
    ) -> None:
        self._bus, self._chip, self._now = bus, chip, now
        self._on_caches, self._on_reset = on_caches, on_reset
        self._cycle_origin = 0
        bus.registers.update(
            {CPUID: _CORTEX_M7_R1P1, CLIDR: 0x09000003, CTR: 0x8303C003, DHCSR: 1, CCR: 1 << 9}
        )
        bus.on_read(CYCCNT, lambda: self._now() - self._cycle_origin)
        bus.on_write(CYCCNT, self._set_cycles)
        bus.on_read(CCSIDR, self._cache_size)
        bus.on_write(CCR, self._set_caches)
        bus.on_write(AIRCR, self._set_reset)
        # The probe, not the program, decides whether the core is being debugged.
        bus.on_read(DHCSR, lambda: 1)
        for base in _TIMERS:
            self._attach_timer(base)

    def _set_cycles(self, value: int) -> None:
        self._cycle_origin = self._now() - value

    def _cache_size(self) -> int:
        wants_code = self._bus.registers.get(CSSELR, 0) & 1
        cache: Cache = self._chip.code_cache if wants_code else self._chip.data_cache
        return (cache.sets - 1) << 13 | (cache.ways - 1) << 3 | 1

    def _set_caches(self, value: int) -> None:
        self._on_caches(bool(value & _DATA_CACHE_ON), bool(value & _CODE_CACHE_ON))

    def _set_reset(self, value: int) -> None:
        if value & 0xFFFF0007 == _RESET_REQUEST:
            self._on_reset()

    def _attach_timer(self, base: int) -> None:
        origin = [0]
        self._bus.registers[base + _TIM_ARR] = 0xFFFFFFFF
        self._bus.on_read(base + _TIM_CNT, partial(self._timer, base, origin))
        self._bus.on_write(base + _TIM_CNT, partial(self._set_timer, base, origin))
        # An update event restarts the counter and raises the flag that start-up code waits for.
        self._bus.on_write(base + _TIM_EGR, partial(self._update_timer, base, origin))

    def _ticks(self, base: int) -> int:
        prescaler = self._bus.registers.get(base + _TIM_PSC, 0) & 0xFFFF
        return self._now() // (self._chip.timer_divider * (prescaler + 1))

    def _timer(self, base: int, origin: list[int]) -> int:
        if not self._bus.registers.get(base, 0) & 1:
            return self._bus.registers.get(base + _TIM_CNT, 0)
        period = self._bus.registers.get(base + _TIM_ARR, 0xFFFFFFFF) + 1
        return (self._ticks(base) - origin[0]) % period

    def _set_timer(self, base: int, origin: list[int], value: int) -> None:
        origin[0] = self._ticks(base) - value

    def _update_timer(self, base: int, origin: list[int], value: int) -> None:
        if value & 1:
            self._set_timer(base, origin, 0)
            self._bus.registers[base + _TIM_SR] = 1
