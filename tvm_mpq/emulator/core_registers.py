"""System control space of the core: identity, cache control, debug state, cycle counter."""

from __future__ import annotations

from collections.abc import Callable

from tvm_mpq.emulator.bus import Bus
from tvm_mpq.emulator.chips import Cache, Chip

# ARMv7-M ARM B3.2.2, B3.2.6 to B3.2.8, C1.6.1 and C1.8.7.
CYCCNT, CPUID, VTOR, AIRCR, CCR = 0xE0001004, 0xE000ED00, 0xE000ED08, 0xE000ED0C, 0xE000ED14
CLIDR, CTR, CCSIDR, CSSELR, DHCSR = 0xE000ED78, 0xE000ED7C, 0xE000ED80, 0xE000ED84, 0xE000EDF0
_CORTEX_M7_R1P1 = 0x411FC271
_DATA_CACHE_ON, _CODE_CACHE_ON = 1 << 16, 1 << 17
_KEY, _KEY_READ = 0x05FA, 0xFA05
_RESET_REQUEST, _GROUPING = 1 << 2, 7 << 8
_CCR_WRITABLE = 0x0003011B
_CCR_FIXED = 1 << 18 | 1 << 9  # branch prediction, 8-byte stack alignment: always on
_VTOR_MASK = 0xFFFFFF80
_DWT_CTRL, _FOUR_COMPARATORS = 0xE0001000, 4 << 28
_ICTR, _MPU_TYPE, _FPCCR = 0xE000E004, 0xE000ED90, 0xE000EF34
_FAULT_STATUS = (0xE000ED28, 0xE000ED2C, 0xE000ED30)
# Four of eight priority bits exist on the STM32 (RM0433 section 19.1): the others read as zero.
_PRIORITIES = (*range(0xE000E400, 0xE000E4F0, 4), *range(0xE000ED18, 0xE000ED24, 4))
PRIORITY_MASK = 0xF0
# (words of interrupts - 1, MPU regions) of each family.
_SIZES = {"h7": (4, 16), "f7": (3, 8)}


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
        self._cycle_origin = self._grouping = 0
        interrupts, regions = _SIZES[chip.family]
        bus.registers.update(
            {CPUID: _CORTEX_M7_R1P1, CLIDR: 0x09000003, CTR: 0x8303C003, DHCSR: 1, CCR: _CCR_FIXED}
        )
        bus.registers.update({AIRCR: _KEY_READ << 16, _DWT_CTRL: _FOUR_COMPARATORS})
        bus.registers.update({_ICTR: interrupts, _MPU_TYPE: regions << 8, _FPCCR: 3 << 30})
        self._keep_bits(VTOR, _VTOR_MASK)
        self._keep_bits(_DWT_CTRL, 0x0FFFFFFF, _FOUR_COMPARATORS)
        for priority in _PRIORITIES:
            self._keep_bits(priority, PRIORITY_MASK * 0x01010101)
        for status in _FAULT_STATUS:  # written to be cleared
            self._keep_bits(status, 0)
        bus.on_read(CYCCNT, lambda: self._now() - self._cycle_origin)
        bus.on_write(CYCCNT, self._set_cycles)
        bus.on_read(CCSIDR, self._cache_size)
        bus.on_write(CCR, self._set_caches)
        bus.on_write(AIRCR, self._set_control)
        # The probe, not the program, decides whether the core is being debugged.
        bus.on_read(DHCSR, lambda: 1)

    def _set_cycles(self, value: int) -> None:
        self._cycle_origin = self._now() - value

    def _cache_size(self) -> int:
        wants_code = self._bus.registers.get(CSSELR, 0) & 1
        cache: Cache = self._chip.code_cache if wants_code else self._chip.data_cache
        return (cache.sets - 1) << 13 | (cache.ways - 1) << 3 | 1

    def _keep_bits(self, address: int, writable: int, fixed: int = 0) -> None:
        """Writes to a register change its ``writable`` bits only; ``fixed`` ones read as set."""

        def keep(value: int) -> None:
            self._bus.registers[address] = value & writable | fixed

        self._bus.on_write(address, keep)

    def _set_caches(self, value: int) -> None:
        self._bus.registers[CCR] = value & _CCR_WRITABLE | _CCR_FIXED
        self._on_caches(bool(value & _DATA_CACHE_ON), bool(value & _CODE_CACHE_ON))

    def _set_control(self, value: int) -> None:
        """ARMv7-M ARM B3.2.6: a write without the key is ignored, and the key reads otherwise."""
        if value >> 16 == _KEY:
            self._grouping = value & _GROUPING
            if value & _RESET_REQUEST:
                self._on_reset()
        self._bus.registers[AIRCR] = _KEY_READ << 16 | self._grouping
