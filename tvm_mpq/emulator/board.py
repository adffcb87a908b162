"""The emulated board: runs the very file that is flashed and answers like the chip."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import unicorn
from unicorn import arm_const

from tvm_mpq.emulator.bus import Bus
from tvm_mpq.emulator.chips import chip_named
from tvm_mpq.emulator.core_registers import CoreRegisters
from tvm_mpq.emulator.counter import NO_LIMIT, TIME_UNIT, new_counter
from tvm_mpq.emulator.faults import CpuFaultError
from tvm_mpq.emulator.guards import find_guards
from tvm_mpq.emulator.image import load_image
from tvm_mpq.emulator.pricing import EdgePricer
from tvm_mpq.emulator.profile import Profile, build_profile, difference
from tvm_mpq.emulator.registers import attach_registers
from tvm_mpq.emulator.usart import Console
from tvm_mpq.errors import InvalidValueError

END_OF_PROGRAM = "end of program"
UNTIL = "until"
WAITING_FOR_INPUT = "waiting for input"
WAITING_FOR_INTERRUPT = "waiting for interrupt"
INSTRUCTION_LIMIT = "instruction limit"
TIME_LIMIT = "time limit"
RESET_REQUESTED = "reset requested"

# RM0433 section 2.3: peripherals, and the system space of every Cortex-M7.
_PERIPHERALS, _PERIPHERALS_SIZE = 0x40000000, 0x20000000
_SYSTEM, _SYSTEM_SIZE = 0xE0000000, 0x00100000
_STACK_LIMIT = "__stack_limit"
# QEMU's exception numbers, as unicorn passes them to the interrupt hook.
_UNDEFINED, _BREAKPOINT, _NO_COPROCESSOR, _INVALID_STATE = 1, 7, 17, 18
_FAULTS = {
    _UNDEFINED: "undefined instruction",
    _NO_COPROCESSOR: "undefined instruction",
    _INVALID_STATE: "jump to an even address",
}
_INVALID_ACCESS = {
    unicorn.UC_MEM_READ_UNMAPPED: "unmapped read",
    unicorn.UC_MEM_WRITE_UNMAPPED: "unmapped write",
    unicorn.UC_MEM_FETCH_UNMAPPED: "unmapped fetch",
    unicorn.UC_MEM_WRITE_PROT: "write to flash",
    unicorn.UC_MEM_READ_PROT: "protected read",
    unicorn.UC_MEM_FETCH_PROT: "protected fetch",
}


@dataclass(frozen=True)
class RunResult:
    """What one call of ``Board.run`` did.

    Attributes
    ----------
    stopped_by: "end of program", "until", "waiting for input", "waiting for interrupt",
        "instruction limit", "time limit" or "reset requested".
    uart: bytes the firmware sent during this call.
    instructions: executed in this call; None unless counted.
    cycles: modelled cycles of this call (an error of +-3 % on int8 networks); None unless modelled.
    stalls: modelled cycles lost, by cause; None unless modelled.
    profile: cycles and stalls per function; None unless modelled.
    seconds: wall-clock time on the host.
    """

    stopped_by: str
    uart: bytes
    instructions: int | None
    cycles: int | None
    stalls: dict[str, int] | None
    profile: Profile | None
    seconds: float


class Board:
    """An STM32 with the program ``firmware`` in its flash, held at reset.

    Parameters
    ----------
    firmware: an ELF file, or a raw image that starts with its vector table.
    target: "stm32h743", "stm32h7a3" or "stm32f746".
    base: address a raw image is flashed to.
    clock_mhz: selects the memory stalls of the cycle model; None is the chip's default.
    """

    def __init__(
        self,
        firmware: Path | str,
        target: str = "stm32h743",
        *,
        base: int = 0x08000000,
        clock_mhz: int | None = None,
    ) -> None:
        self.chip = chip_named(target)
        self.image = load_image(Path(firmware), base)
        self.bus = Bus()
        self.console = Console(self._byte_sent, lambda: self.request_stop(WAITING_FOR_INPUT))
        self._stopped_by: str | None = None
        self._fault: tuple[str, int | None] | None = None
        self._until: bytes | None = None
        self._engine = unicorn.Uc(
            unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB, cpu=arm_const.UC_CPU_ARM_CORTEX_M7
        )
        self._map_memories()
        self._counter = new_counter(self._engine, self.chip, self.chip.line_stalls(clock_mhz))
        self._state = self._counter.state
        self._pricer = EdgePricer(self._counter, self.read_memory)
        self._attach_devices()
        self._watch_faults()
        self._load()

    @property
    def symbols(self) -> dict[str, int]:
        """Address of every symbol (functions without the Thumb bit)."""
        return {name: symbol.address for name, symbol in self.image.symbols.items()}

    @property
    def instructions(self) -> int:
        """Instructions counted since reset, over all calls of ``run`` that counted."""
        return int(self._state.instructions)

    def run(
        self,
        uart_in: bytes = b"",
        until: bytes | None = None,
        max_instructions: int | None = None,
        timeout_seconds: float = 60,
        cycles: bool = False,
        count_instructions: bool = False,
    ) -> RunResult:
        """Runs from where the program stands until something stops it; may be called again.

        Parameters
        ----------
        uart_in: bytes queued for the console before starting.
        until: stop as soon as the console output of this call ends with these bytes.
        max_instructions: stop at the first block boundary after so many instructions.
        timeout_seconds: wall-clock limit on the host.
        cycles: model cycles (slower); instructions are then counted too.

        Raises
        ------
        CpuFaultError: the program faulted.
        InvalidValueError: the program has already ended.
        """
        if self._stopped_by == END_OF_PROGRAM:
            raise InvalidValueError("the program has ended; create a new Board to run it again")
        started, sent = time.monotonic(), len(self.console.sent)
        self._until, self._stopped_by = until or None, None
        counted = cycles or count_instructions
        self._counter.attach(cycles=cycles)
        self._state.counting = int(self._state.counting or counted or max_instructions is not None)
        instructions, time_before = self._state.instructions, self._state.time
        edges = self._counter.edges() if cycles else []
        limit = NO_LIMIT if max_instructions is None else instructions + max_instructions
        self._state.instruction_limit = limit
        self.uart_send(uart_in)
        while self._stopped_by is None:
            self._emulate(started + timeout_seconds)
        profile = None
        if cycles:
            ran = difference(self._counter.edges(), edges)
            profile = build_profile(ran, self._state, self.image)
        return RunResult(
            stopped_by=self._stopped_by,
            uart=bytes(self.console.sent[sent:]),
            instructions=self._state.instructions - instructions if counted else None,
            cycles=(self._state.time - time_before) // TIME_UNIT if cycles else None,
            stalls=None if profile is None else profile.total.stalls,
            profile=profile,
            seconds=time.monotonic() - started,
        )

    def uart_send(self, data: bytes) -> None:
        """Queues bytes for the firmware's receiver."""
        if data:
            self.console.feed(data)

    def request_stop(self, reason: str) -> None:
        """Stops before the next block; ``run`` then returns ``stopped_by=reason``."""
        if self._stopped_by is None:
            self._stopped_by = reason
            self._state.stop_requested = 1

    def read_memory(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``."""
        try:
            return bytes(self._engine.mem_read(address, size))
        except unicorn.UcError as error:
            raise self._no_memory(address, size) from error

    def write_memory(self, address: int, data: bytes) -> None:
        """Writes bytes at ``address``; flash may be written too."""
        try:
            self._engine.mem_write(address, data)
        except unicorn.UcError as error:
            raise self._no_memory(address, len(data)) from error

    def read_symbol(self, name: str, size: int | None = None) -> bytes:
        """The bytes of the object ``name``; ``size`` replaces the size the ELF gives."""
        address, known = self._symbol(name)
        return self.read_memory(address, known if size is None else size)

    def write_symbol(self, name: str, data: bytes) -> None:
        """Writes ``data`` at the start of the object ``name``; it must not be longer than it."""
        address, known = self._symbol(name)
        if known and len(data) > known:
            raise InvalidValueError(
                f"symbol {name!r}: {len(data)} bytes given, the object has {known}; give fewer"
            )
        self.write_memory(address, data)

    def _symbol(self, name: str) -> tuple[int, int]:
        symbol = self.image.symbols.get(name)
        if symbol is None:
            raise InvalidValueError(
                f"symbol {name!r}: not in {self.image.path.name}; it has"
                f" {len(self.image.symbols)} symbols; keep it with __attribute__((used))"
            )
        return symbol.address, symbol.size

    def _no_memory(self, address: int, size: int) -> InvalidValueError:
        known = ", ".join(f"{r.name} 0x{r.base:08x}+{r.size}" for r in self.chip.regions)
        return InvalidValueError(
            f"address 0x{address:08x}, {size} bytes: no such memory; {self.chip.name} has {known}"
        )

    def _map_memories(self) -> None:
        for region in self.chip.regions:
            writable = unicorn.UC_PROT_NONE if region.name == "FLASH" else unicorn.UC_PROT_WRITE
            rights = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC | writable
            self._engine.mem_map(region.base, region.size, rights)
        for alias in self.chip.flash_aliases:
            rights = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
            self._engine.mem_map(alias, self.chip.flash.size, rights)

    def _load(self) -> None:
        flash = self.chip.flash
        for address, data in self.image.segments:
            self.write_memory(address, data)
            for alias in self.chip.flash_aliases:
                if flash.base <= address < flash.base + flash.size:
                    self.write_memory(address - flash.base + alias, data)
        stack, entry = self.image.reset_vector()
        self._engine.reg_write(arm_const.UC_ARM_REG_SP, stack)
        self._engine.reg_write(arm_const.UC_ARM_REG_PC, entry | 1)

    def _attach_devices(self) -> None:
        attach_registers(self.bus, self.chip)
        self.core = CoreRegisters(
            self.bus,
            self.chip,
            now=self._now,
            on_caches=self._caches_switched,
            on_reset=lambda: self.request_stop(RESET_REQUESTED),
        )
        for base in self.chip.usarts:
            self.console.attach(self.bus, base)
        for start, size in ((_PERIPHERALS, _PERIPHERALS_SIZE), (_SYSTEM, _SYSTEM_SIZE)):
            self._engine.mmio_map(start, size, self._bus_read, start, self._bus_write, start)

    def _watch_faults(self) -> None:
        limit = self.image.symbols.get(_STACK_LIMIT)
        self._state.stack_limit = 0 if limit is None else limit.address
        self._counter.add_guards(find_guards(self.image, stack=limit is not None))
        self._engine.hook_add(unicorn.UC_HOOK_INTR, self._exception)
        self._engine.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._invalid_access)

    def _bus_read(self, _: unicorn.Uc, offset: int, size: int, base: int) -> int:
        return self.bus.read(base + offset, size)

    def _bus_write(self, _: unicorn.Uc, offset: int, size: int, value: int, base: int) -> None:
        self.bus.write(base + offset, size, value)

    def _now(self) -> int:
        # A program that reads a clock needs one that runs, even when nobody counts.
        self._state.counting = 1
        return int(self._state.time) // TIME_UNIT

    def _caches_switched(self, data: bool, code: bool) -> None:
        self._state.data.enabled, self._state.code.enabled = int(data), int(code)

    def _byte_sent(self, byte: int) -> None:
        until = self._until
        if until is not None and byte == until[-1] and self.console.sent.endswith(until):
            self.request_stop(UNTIL)

    def _exception(self, engine: unicorn.Uc, number: int, _: Any) -> None:
        if number == _BREAKPOINT:
            self._stopped_by = END_OF_PROGRAM
        else:
            self._fault = (_FAULTS.get(number, f"exception {number}"), None)
        engine.emu_stop()

    def _invalid_access(
        self, _: unicorn.Uc, access: int, address: int, size: int, value: int, __: Any
    ) -> bool:
        self._fault = (_INVALID_ACCESS.get(access, f"access {access}"), address & 0xFFFFFFFF)
        return False

    def _emulate(self, deadline: float) -> None:
        """One stretch of execution, up to the next event that Python has to handle."""
        state, left = self._state, deadline - time.monotonic()
        if left <= 0:
            self._stopped_by = TIME_LIMIT
            return
        state.stop_requested = state.stopped = 0
        pc = self._engine.reg_read(arm_const.UC_ARM_REG_PC)
        try:
            self._engine.emu_start(pc | 1, 0xFFFFFFFE, timeout=max(1, int(left * 1e6)))
        except unicorn.UcError as error:
            if self._fault is None:
                undefined = error.errno == unicorn.UC_ERR_INSN_INVALID
                self._fault = (_FAULTS[_UNDEFINED] if undefined else str(error), None)
        if self._pricer.failure is not None:
            raise self._pricer.failure
        self._raise_fault()
        if self._stopped_by is None:
            self._stopped_by = self._why_returned(deadline)

    def _why_returned(self, deadline: float) -> str | None:
        state = self._state
        if state.stopped:
            return INSTRUCTION_LIMIT if state.instructions >= state.instruction_limit else None
        return TIME_LIMIT if time.monotonic() >= deadline else WAITING_FOR_INTERRUPT

    def _raise_fault(self) -> None:
        pc = self._engine.reg_read(arm_const.UC_ARM_REG_PC) & ~1
        if self._state.faulty_guard:
            pc, address = int(self._state.faulty_guard), int(self._state.fault_address)
            kind = "unaligned access" if address & 3 else "stack overflow"
            self._fault = (kind, address)
        if self._fault is None:
            return
        kind, fault_address = self._fault
        caller = self._engine.reg_read(arm_const.UC_ARM_REG_LR)
        raise CpuFaultError(kind, pc, self.image, fault_address, caller)
