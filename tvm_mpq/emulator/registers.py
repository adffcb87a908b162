"""Clock, power, GPIO and identification registers: ready bits follow enable bits at once."""

from __future__ import annotations

from functools import partial

from tvm_mpq.emulator.bus import Bus
from tvm_mpq.emulator.chips import Chip

# Register -> (mask of the enable bits, distance to the status bits that follow them).
# RM0433 section 8.7 (RCC) and 6.8 (PWR).
_H7_FOLLOW = {
    0x58024400: ((1 << 0, 2), (1 << 7, 1), (1 << 12, 1), (0x15 << 24, 1), (1 << 16, 1)),
    0x58024410: ((0x7, 3),),
    0x58024470: ((1, 1),),
    0x58024474: ((1, 1),),
}
# RM0385 section 5.3 (RCC) and 4.4 (PWR).
_F7_FOLLOW = {
    0x40023800: ((1 << 0, 1), (1 << 16, 1), (0x15 << 24, 1)),
    0x40023808: ((0x3, 2),),
    0x40023870: ((1, 1),),
    0x40023874: ((1, 1),),
}
# Bits that always read as set: regulator, voltage scaling, clock domains, I/O compensation.
_H7_SET = {
    0x58024400: 1 << 14 | 1 << 15,
    0x58024804: 1 << 13,
    0x58024818: 1 << 13,
    0x58000420: 1 << 8,
}
_F7_SET = {0x40007004: 1 << 14 | 1 << 16 | 1 << 17}
# DBGMCU identity: STM32H743 revision V, STM32H7A3 revision Z, STM32F746 revision Z.
_IDENTITY = {
    "stm32h743": (0x5C001000, 0x20036450),
    "stm32h7a3": (0x5C001000, 0x10006480),
    "stm32f746": (0xE0042000, 0x10016449),
}
# Reset values that start-up code depends on (the internal oscillator runs after reset).
# The flash of the H7 starts with 7 wait states.
_RESET = {
    "h7": {
        **{0x58024400: 0x1, 0x58024818: 0x4000, 0x52002000: 0x37},
        **{0x58024428: 0x02020200, 0x5802442C: 0x01FF0000},
        **dict.fromkeys((0x58024430, 0x58024438, 0x58024440), 0x01010280),
    },
    "f7": {0x40023800: 0x83, 0x40023804: 0x24003010},
}
_GPIO = {"h7": 0x58020000, "f7": 0x40020000}
_GPIO_PORTS, _GPIO_STEP, _IDR, _ODR, _BSRR = 11, 0x400, 0x10, 0x14, 0x18


def attach_registers(bus: Bus, chip: Chip) -> None:
    """Installs ready bits, GPIO outputs and the device identity of ``chip``."""
    follow, fixed = (_H7_FOLLOW, _H7_SET) if chip.family == "h7" else (_F7_FOLLOW, _F7_SET)
    bus.registers.update(_RESET[chip.family])
    for address in follow.keys() | fixed.keys():
        pairs, always = follow.get(address, ()), fixed.get(address, 0)
        bus.on_read(address, partial(_ready, bus, address, pairs, always))
    identity_address, identity = _IDENTITY[chip.name]
    bus.registers[identity_address] = identity
    for port in range(_GPIO_PORTS):
        base = _GPIO[chip.family] + port * _GPIO_STEP
        bus.on_write(base + _BSRR, partial(_set_or_reset, bus, base))


def _ready(bus: Bus, address: int, pairs: tuple[tuple[int, int], ...], always: int) -> int:
    value = bus.registers.get(address, 0)
    for mask, distance in pairs:
        value &= ~(mask << distance)
        value |= (value & mask) << distance
    return value | always


def _set_or_reset(bus: Bus, base: int, value: int) -> None:
    output = bus.registers.get(base + _ODR, 0)
    bus.registers[base + _ODR] = output & ~(value >> 16) | value & 0xFFFF
    bus.registers[base + _BSRR] = 0
