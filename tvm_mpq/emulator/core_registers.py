"""System control space of the core: identity, cache control, debug state, cycle counter."""

from __future__ import annotations

from collections.abc import Callable

from tvm_mpq.emulator.bus import Bus
from tvm_mpq.emulator.chips import Cache, Chip

# ARMv7-M ARM B3.2.2, C1.6.1 and C1.8.7.
CYCCNT, CPUID, VTOR, AIRCR, CCR = 0xE0001004, 0xE000ED00, 0xE000ED08, 0xE000ED0C, 0xE000ED14
CLIDR, CTR, CCSIDR, CSSELR, DHCSR = 0xE000ED78, 0xE000ED7C, 0xE000ED80, 0xE000ED84, 0xE000EDF0
_CORTEX_M7_R1P1 = 0x411FC271
_DATA_CACHE_ON, _CODE_CACHE_ON = 1 << 16, 1 << 17
_RESET_REQUEST = 0x05FA0004


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
