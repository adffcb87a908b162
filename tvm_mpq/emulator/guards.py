"""Finds the instructions whose faults unicorn does not raise, so that only they are watched.

Unaligned LDRD, STRD, LDM, STM, VLDR and VSTR raise a UsageFault on the Cortex-M7 (ARMv7-M ARM,
A3.2.1) but pass silently in unicorn; a stack that grows below its limit is legal to the hardware
but always a bug. Watching those instructions by address costs nothing anywhere else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tvm_mpq.emulator.image import Image

STACK_POINTER = 13
PROGRAM_COUNTER = 15


@dataclass(frozen=True)
class Guard:
    """One watched instruction: it will use address ``register + offset - subtracted``.

    ``register`` and ``subtracted`` are numbers 0..15 (``subtracted`` -1: none), ``offset`` bytes.
    ``is_stack`` asks that the address is not below the stack limit, otherwise that it is a
    multiple of four.
    """

    address: int
    register: int
    offset: int
    is_stack: bool
    subtracted: int = -1


def find_guards(image: Image, *, stack: bool) -> list[Guard]:
    """All instructions of ``image`` to watch; those that move the stack only when ``stack``."""
    guards = []
    for start, end in image.code:
        for address, first, second in _instructions(image.read(start, end - start), start):
            guard = _narrow(address, first) if second is None else _wide(address, first, second)
            if guard is not None and (stack or not guard.is_stack):
                guards.append(guard)
    return guards


def find_stack_writes(image: Image) -> list[tuple[int, bool]]:
    """(address after it, whether it is the process stack) of what loads a stack pointer anew.

    SP[1:0] are RES0 (ARMv7-M ARM B1.4.1), which unicorn leaves to the program. Where the file does
    not tell code from data, both are searched: what is never executed does no harm.
    """
    found = []
    segments = [(start, start + len(data)) for start, data in image.segments]
    for start, end in image.code or segments:
        for address, first, second in _instructions(image.read(start, end - start), start):
            if second is None:
                if first & 0xFF87 == 0x4685:  # MOV SP, Rm
                    found.append((address + 2, False))
            elif first & 0xFFF0 == 0xF380 and second in (0x8808, 0x8809):  # MSR MSP or PSP
                found.append((address + 4, second == 0x8809))
            elif first & 0xFF70 == 0xF850 and second >> 12 == STACK_POINTER:  # LDR SP
                found.append((address + 4, False))
    return found


def _instructions(code: bytes, start: int) -> Iterator[tuple[int, int, int | None]]:
    halves = struct.unpack(f"<{len(code) // 2}H", code[: len(code) & ~1])
    index = 0
    while index < len(halves):
        first = halves[index]
        # ARMv7-M ARM A5.1: 0b11101, 0b11110 and 0b11111 start a 32-bit instruction.
        is_wide = first >> 11 in (0b11101, 0b11110, 0b11111) and index + 1 < len(halves)
        yield start + 2 * index, first, halves[index + 1] if is_wide else None
        index += 2 if is_wide else 1


def _narrow(address: int, word: int) -> Guard | None:
    if word & 0xFE00 == 0xB400:  # PUSH
        return Guard(address, STACK_POINTER, -4 * (word & 0x1FF).bit_count(), True)
    if word & 0xFF80 == 0xB080:  # SUB SP, #imm
        return Guard(address, STACK_POINTER, -4 * (word & 0x7F), True)
    if word & 0xF000 == 0xC000:  # LDM, STM
        return Guard(address, word >> 8 & 7, 0, False)
    return None


def _wide(address: int, first: int, second: int) -> Guard | None:
    register = first & 15
    if first & 0xFE40 == 0xE800 and first & 0x0180 in (0x0080, 0x0100):  # LDM, STM
        decrement = first & 0x0100
        offset = -4 * second.bit_count() if decrement else 0
        return _multiple(address, register, offset, first & 0x0010 == 0)
    if first & 0xFE40 == 0xE840 and first & 0x0120:  # LDRD, STRD
        return _multiple(address, register, _scaled(first, second), first & 0x0010 == 0)
    is_float = first & 0xFE00 == 0xEC00 and second & 0x0E00 == 0x0A00 and first & 0xFFE0 != 0xEC40
    if is_float:  # VLDR, VSTR, VLDM, VSTM, VPUSH
        return _multiple(address, register, _scaled(first, second), first & 0x0010 == 0)
    if first == 0xF84D and second & 0x0F00 == 0x0D00:  # STR Rt, [SP, #-imm]!
        return Guard(address, STACK_POINTER, -(second & 0xFF), True)
    return _stack_subtraction(address, first, second)


def _scaled(first: int, second: int) -> int:
    """Offset of a pre-indexed access with an 8-bit word count; post-indexed ones use none."""
    if not first & 0x0100:
        return 0
    return 4 * (second & 0xFF) if first & 0x0080 else -4 * (second & 0xFF)


def _multiple(address: int, register: int, offset: int, is_store: bool) -> Guard | None:
    if register == PROGRAM_COUNTER:
        return None
    if register != STACK_POINTER:
        return Guard(address, register, offset, False)
    # SP is always a multiple of four, so only its growth is of interest.
    return Guard(address, register, offset, True) if is_store and offset < 0 else None


def _stack_subtraction(address: int, first: int, second: int) -> Guard | None:
    if first & 0xFBFF == 0xF1AD and second & 0x8F00 == 0x0D00:  # SUB.W SP, SP, #constant
        constant = expand_constant((first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 255)
        return Guard(address, STACK_POINTER, -constant, True)
    if first & 0xFBFF == 0xF2AD and second & 0x8F00 == 0x0D00:  # SUBW SP, SP, #imm12
        constant = (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 255
        return Guard(address, STACK_POINTER, -constant, True)
    if first == 0xEBAD and second & 0xFFF0 == 0x0D00:  # SUB SP, SP, Rm
        return Guard(address, STACK_POINTER, 0, True, second & 15)
    return None


def expand_constant(code: int) -> int:
    """Value of a 12-bit Thumb constant (ARMv7-M ARM A5.3.2, ThumbExpandImm)."""
    byte = code & 0xFF
    if code >> 10 == 0:
        return (byte, byte | byte << 16, byte << 8 | byte << 24, byte * 0x01010101)[code >> 8 & 3]
    value, rotate = 0x80 | code & 0x7F, code >> 7
    return (value >> rotate | value << (32 - rotate)) & 0xFFFFFFFF
