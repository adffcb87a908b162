"""The processor itself: memories, execution in stretches, and the faults it raises."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import unicorn
from unicorn import arm_const as arm

from tvm_mpq.emulator.bus import Bus
from tvm_mpq.emulator.chips import Chip
from tvm_mpq.emulator.counter import new_counter
from tvm_mpq.emulator.faults import CpuFaultError
from tvm_mpq.emulator.guards import find_guards, find_stack_writes
from tvm_mpq.emulator.image import Image
from tvm_mpq.errors import InvalidValueError

# RM0433 section 2.3: peripherals, and the system space of every Cortex-M7.
_PERIPHERALS, _PERIPHERALS_SIZE = 0x40000000, 0x20000000
_SYSTEM, _SYSTEM_SIZE = 0xE0000000, 0x00100000
_STACK_LIMIT = "__stack_limit"
_HARD_FAULT = 3
# QEMU's exception numbers, as unicorn passes them to the interrupt hook.
_UNDEFINED, _SUPERVISOR_CALL, _PREFETCH_ABORT = 1, 2, 3
_BREAKPOINT, _EXCEPTION_EXIT, _NO_COPROCESSOR = 7, 8, 17
_FAULTS = {
    _UNDEFINED: "undefined instruction",
    _NO_COPROCESSOR: "undefined instruction",
    _PREFETCH_ABORT: "unmapped fetch",
}
_INVALID_ACCESS = {
    unicorn.UC_MEM_READ_UNMAPPED: "unmapped read",
    unicorn.UC_MEM_WRITE_UNMAPPED: "unmapped write",
    unicorn.UC_MEM_FETCH_UNMAPPED: "unmapped fetch",
    unicorn.UC_MEM_WRITE_PROT: "write to flash",
    unicorn.UC_MEM_READ_PROT: "protected read",
    unicorn.UC_MEM_FETCH_PROT: "protected fetch",
}
_NEVER_REACHED = 0xFFFFFFFE
_EXCEPTION_RETURNS = 0xFFFFFFE0
_THUMB_STATE = 1 << 5
# Room for translated code. unicorn reserves 1 GiB by itself, and firmware needs a small part.
_TRANSLATION_BYTES = 128 << 20
_ERASED = b"\xff"


class Event(Enum):
    """Why a stretch of execution ended."""

    STOPPED = "the counter stopped it"
    BREAKPOINT = "bkpt"
    SUPERVISOR_CALL = "svc"
    EXCEPTION_RETURN = "return from a handler"
    WAITING = "wfi"
    TIMEOUT = "host time is up"


class _ClosedEngine:
    """What is left of the processor when its memory has been given back."""

    def __getattr__(self, name: str) -> Any:
        raise InvalidValueError("the board is closed; create a new Board")


class Core:
    """A Cortex-M7 with the memories of ``chip`` and the program ``image`` in them."""

    def __init__(self, chip: Chip, image: Image, bus: Bus) -> None:
        self._chip, self._image, self._bus = chip, image, bus
        self._fault: tuple[str, int | None] | None = None
        self._event: Event | None = None
        self._failure: BaseException | None = None
        # Not UC_MODE_MCLASS: it silently selects a Cortex-M33 without double precision.
        self.engine = unicorn.Uc(
            unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB, cpu=arm.UC_CPU_ARM_CORTEX_M7
        )
        self.engine.ctl_set_tcg_buffer_size(_TRANSLATION_BYTES)
        self._map_memories()
        self.counter = new_counter(self.engine, chip)
        self._load()
        self._watch_faults()

    def close(self) -> None:
        """Gives the emulator's memory back; what was counted stays."""
        if not isinstance(self.engine, _ClosedEngine):
            # unicorn only offers this when the object is collected, and hooks keep it in a cycle.
            self.engine._Uc__finalizer()
            self.engine = _ClosedEngine()

    @property
    def pc(self) -> int:
        """Address of the next instruction."""
        return int(self.engine.reg_read(arm.UC_ARM_REG_PC)) & ~1

    def snapshot(self) -> tuple[int, ...]:
        """r0 to r12, sp, lr and pc."""
        names = [arm.UC_ARM_REG_R0 + number for number in range(13)]
        names += [arm.UC_ARM_REG_SP, arm.UC_ARM_REG_LR, arm.UC_ARM_REG_PC]
        return tuple(self.engine.reg_read(name) for name in names)

    def read_memory(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``."""
        try:
            return bytes(self.engine.mem_read(address, size))
        except unicorn.UcError as error:
            raise self._no_memory(address, size) from error

    def write_memory(self, address: int, data: bytes) -> None:
        """Writes bytes at ``address``, in flash too."""
        try:
            self.engine.mem_write(address, data)
        except unicorn.UcError as error:
            raise self._no_memory(address, len(data)) from error

    def run_stretch(self, seconds: float) -> Event:
        """Executes until the next event; raises CpuFaultError."""
        state = self.counter.state
        self.counter.start(seconds)
        self._event = None
        try:
            # unicorn's own timeout would stop inside an instruction, and repeat it later.
            self.engine.emu_start(self.pc | 1, _NEVER_REACHED)
        except unicorn.UcError as error:
            if self.engine._hook_exception is not None:
                raise self.engine._hook_exception from error
            if self._fault is None:
                undefined = error.errno == unicorn.UC_ERR_INSN_INVALID
                self._fault = (_FAULTS[_UNDEFINED] if undefined else str(error), None)
        if self._failure is not None:
            raise self._failure
        self._raise_fault()
        if self._event is not None:
            return self._event
        if state.timed_out:
            return Event.TIMEOUT
        return Event.STOPPED if state.stopped else Event.WAITING

    def on_block(self, address: int, action: Callable[[], None]) -> None:
        """Calls ``action()`` whenever the block that starts at ``address`` begins."""
        hook = unicorn.UC_HOOK_BLOCK
        self.engine.hook_add(hook, lambda *_: action(), None, address, address)
        # What was translated before would run without the new hook.
        self.engine.ctl_flush_tb()

    def vector(self, number: int, table: int) -> int:
        """Handler of exception ``number`` in the vector table at ``table``."""
        return int.from_bytes(self.read_memory(table + 4 * number, 4), "little") & ~1

    def fail(self, kind: str, address: int | None = None) -> CpuFaultError:
        """The error for a fault at the current instruction."""
        caller = self.engine.reg_read(arm.UC_ARM_REG_LR)
        return CpuFaultError(kind, self.pc, self._image, address, caller)

    def _no_memory(self, address: int, size: int) -> InvalidValueError:
        known = ", ".join(f"{r.name} 0x{r.base:08x}+{r.size}" for r in self._chip.regions)
        return InvalidValueError(
            f"address 0x{address:08x}, {size} bytes: no such memory; {self._chip.name} has {known}"
        )

    def _map_memories(self) -> None:
        read_only = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
        for region in self._chip.regions:
            rights = read_only if region.name == "FLASH" else unicorn.UC_PROT_ALL
            self.engine.mem_map(region.base, region.size, rights)
        for alias in self._chip.flash_aliases:
            self.engine.mem_map(alias, self._chip.flash.size, read_only)
        for start, size in ((_PERIPHERALS, _PERIPHERALS_SIZE), (_SYSTEM, _SYSTEM_SIZE)):
            self.engine.mmio_map(start, size, self._bus_read, start, self._bus_write, start)

    def _load(self) -> None:
        flash = self._chip.flash
        for base in (flash.base, *self._chip.flash_aliases):
            self.write_memory(base, _ERASED * flash.size)
        for address, data in self._image.segments:
            self.write_memory(address, data)
            if not flash.base <= address < flash.base + flash.size:
                continue
            for alias in self._chip.flash_aliases:
                self.write_memory(address - flash.base + alias, data)
        stack, entry = self._image.reset_vector()
        # SP[1:0] are RES0 (ARMv7-M ARM B1.4.1): old linker scripts end the stack at 0x2004FFFF.
        self.engine.reg_write(arm.UC_ARM_REG_SP, stack & ~3)
        self.engine.reg_write(arm.UC_ARM_REG_PC, entry | 1)

    def _watch_faults(self) -> None:
        limit = self._image.symbols.get(_STACK_LIMIT)
        self.counter.state.stack_limit = 0 if limit is None else limit.address
        self.counter.add_guards(find_guards(self._image, stack=limit is not None))
        self.counter.align_stacks(find_stack_writes(self._image))
        self.engine.hook_add(unicorn.UC_HOOK_INTR, self._exception)
        self.engine.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._invalid_access)
        handler = self.vector(_HARD_FAULT, self._image.vectors)
        if handler not in (0, self._image.reset_vector()[1]):
            self._forbid(handler, "HardFault handler reached")
        used = self._image.runs_from
        if used and not any(start == 0 for start, _ in used):
            # The ITCM lies there: the chip would run through its contents first.
            self._forbid(0, "call of a null pointer")

    def _forbid(self, address: int, kind: str) -> None:
        """Executing the instruction at ``address`` is a fault."""

        def reached(engine: unicorn.Uc, at: int, size: int, _: Any) -> None:
            self._fault = (kind, None)
            engine.emu_stop()

        self.engine.hook_add(unicorn.UC_HOOK_CODE, reached, None, address, address)

    def _bus_read(self, _: unicorn.Uc, offset: int, size: int, base: int) -> int:
        try:
            return self._bus.read(base + offset, size)
        except BaseException as error:
            # unicorn would stop too, and complain on stderr that it got no number.
            self._failure = error
            self.engine.emu_stop()
            return 0

    def _bus_write(self, _: unicorn.Uc, offset: int, size: int, value: int, base: int) -> None:
        self._bus.write(base + offset, size, value)

    def _exception(self, engine: unicorn.Uc, number: int, _: Any) -> None:
        if number == _BREAKPOINT:
            self._event = Event.BREAKPOINT
        elif number == _SUPERVISOR_CALL:
            self._event = Event.SUPERVISOR_CALL
        elif number == _EXCEPTION_EXIT or self._is_exception_return(number):
            self._event = Event.EXCEPTION_RETURN
        else:
            address = self.pc if number == _PREFETCH_ABORT else None
            self._fault = (_FAULTS.get(number, f"exception {number}"), address)
        engine.emu_stop()

    def _is_exception_return(self, number: int) -> bool:
        # Code translated in thread mode sees EXC_RETURN as an address without memory.
        in_handler = self.engine.reg_read(arm.UC_ARM_REG_IPSR) != 0
        return number == _PREFETCH_ABORT and in_handler and self.pc >= _EXCEPTION_RETURNS

    def _invalid_access(
        self, _: unicorn.Uc, access: int, address: int, size: int, value: int, __: Any
    ) -> bool:
        self._fault = (_INVALID_ACCESS.get(access, f"access {access}"), address & 0xFFFFFFFF)
        return False

    def _raise_fault(self) -> None:
        state = self.counter.state
        if state.faulty_guard:
            address = int(state.fault_address)
            # The stack pointer is always aligned, so the address tells the two guards apart.
            self._fault = ("unaligned access" if address & 3 else "stack overflow", address)
        if self._fault is None:
            return
        # The Cortex-M has no Arm state: entering it is the fault, not what ran in it.
        if not self.engine.reg_read(arm.UC_ARM_REG_CPSR) & _THUMB_STATE:
            self._fault = ("jump to an even address", self.pc)
        raise self.fail(*self._fault)
