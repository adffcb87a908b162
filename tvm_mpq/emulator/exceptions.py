"""Exception entry and return by hand, since unicorn has none (ARMv7-M ARM B1.5.6 to B1.5.8).

The latency of entry and return (about 12 cycles each) is not modelled.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import unicorn
from unicorn import arm_const as arm

from tvm_mpq.emulator.interrupts import Interrupts

_RETURN_TO_HANDLER, _RETURN_MAIN_STACK, _RETURN_PROCESS_STACK = 0xFFFFFFF1, 0xFFFFFFF9, 0xFFFFFFFD
_FRAME = struct.Struct("<8I")
_FRAME_REGISTERS = (
    *(arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3),
    *(arm.UC_ARM_REG_R12, arm.UC_ARM_REG_LR),
)
_DOUBLES = tuple(arm.UC_ARM_REG_D0 + number for number in range(16))
_STACK_WAS_PADDED = 1 << 9
_IF_THEN = 0x0600FC00  # what is left of an IT block
_PROCESS_STACK, _FLOAT_ACTIVE = 2, 4


class ExceptionUnit:
    """Moves the core into and out of handlers.

    ``vector(number)`` is the address of a handler; ``on_switch()`` is told that the next block
    does not follow from the last one.
    """

    def __init__(
        self,
        engine: unicorn.Uc,
        interrupts: Interrupts,
        vector: Callable[[int], int],
        on_switch: Callable[[], None],
    ) -> None:
        self._engine, self._interrupts = engine, interrupts
        self._vector, self._on_switch = vector, on_switch
        # Floating-point registers of each interrupted context, by the address of its frame. The
        # chip stacks them; keeping them here spares the lazy-stacking state machine.
        self._floats: dict[int, tuple[list[int], int]] = {}

    def take_due(self) -> bool:
        """Enters the most urgent exception, if one may be taken now."""
        read = self._engine.reg_read
        number = self._interrupts.due(read(arm.UC_ARM_REG_PRIMASK), read(arm.UC_ARM_REG_BASEPRI))
        if number is not None:
            self.enter(number)
        return number is not None

    def enter(self, number: int) -> None:
        """Stacks the caller's context and jumps to the handler of exception ``number``."""
        read, write = self._engine.reg_read, self._engine.reg_write
        stack, status = read(arm.UC_ARM_REG_SP), read(arm.UC_ARM_REG_XPSR)
        control = read(arm.UC_ARM_REG_CONTROL)
        frame = (stack - _FRAME.size) & ~4
        status = status & ~_STACK_WAS_PADDED | (_STACK_WAS_PADDED if stack & 4 else 0)
        saved = [read(register) for register in _FRAME_REGISTERS]
        pc = read(arm.UC_ARM_REG_PC) & ~1
        self._engine.mem_write(frame, _FRAME.pack(*saved, pc, status))
        if control & _FLOAT_ACTIVE:
            doubles = [read(register) for register in _DOUBLES]
            self._floats[frame] = (doubles, read(arm.UC_ARM_REG_FPSCR))
            write(arm.UC_ARM_REG_CONTROL, control & ~_FLOAT_ACTIVE)
        write(arm.UC_ARM_REG_SP, frame)
        # Else the handler would begin with what an interrupted IT block has left to skip.
        write(arm.UC_ARM_REG_XPSR, status & ~(_IF_THEN | _STACK_WAS_PADDED))
        write(arm.UC_ARM_REG_LR, self._return_code(control))
        write(arm.UC_ARM_REG_IPSR, number)
        self._interrupts.active.append(number)
        write(arm.UC_ARM_REG_PC, self._vector(number) | 1)
        self._on_switch()

    def leave(self, code: int) -> None:
        """Returns from a handler; ``code`` is the EXC_RETURN value that was loaded into pc."""
        read, write = self._engine.reg_read, self._engine.reg_write
        code |= 1
        self._interrupts.active.pop()
        back_to = self._interrupts.active[-1] if self._interrupts.active else 0
        write(arm.UC_ARM_REG_IPSR, back_to)
        on_process_stack = code & 0xF == _RETURN_PROCESS_STACK & 0xF
        if not back_to:
            selected = _PROCESS_STACK if on_process_stack else 0
            control = read(arm.UC_ARM_REG_CONTROL) & ~(_PROCESS_STACK | _FLOAT_ACTIVE)
            write(arm.UC_ARM_REG_CONTROL, control | selected)
        frame = read(arm.UC_ARM_REG_SP)
        *saved, pc, status = _FRAME.unpack(self._engine.mem_read(frame, _FRAME.size))
        for register, value in zip(_FRAME_REGISTERS, saved, strict=True):
            write(register, value)
        self._restore_floats(frame)
        padding = 4 if status & _STACK_WAS_PADDED else 0
        write(arm.UC_ARM_REG_SP, frame + _FRAME.size + padding)
        write(arm.UC_ARM_REG_XPSR, status & ~(0x1FF | _STACK_WAS_PADDED) | back_to)
        write(arm.UC_ARM_REG_PC, pc | 1)
        self._on_switch()

    def _return_code(self, control: int) -> int:
        if self._interrupts.active:
            return _RETURN_TO_HANDLER
        return _RETURN_PROCESS_STACK if control & _PROCESS_STACK else _RETURN_MAIN_STACK

    def _restore_floats(self, frame: int) -> None:
        held = self._floats.pop(frame, None)
        if held is None:
            return
        write = self._engine.reg_write
        for register, value in zip(_DOUBLES, held[0], strict=True):
            write(register, value)
        write(arm.UC_ARM_REG_FPSCR, held[1])
        control = self._engine.reg_read(arm.UC_ARM_REG_CONTROL)
        write(arm.UC_ARM_REG_CONTROL, control | _FLOAT_ACTIVE)
