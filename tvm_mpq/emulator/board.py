"""The emulated board: runs the very file that is flashed and answers like the chip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tvm_mpq.emulator.accuracy import float_share, stated_error
from tvm_mpq.emulator.annotate import AnnotatedInstruction, annotate
from tvm_mpq.emulator.bus import Bus
from tvm_mpq.emulator.callees import CallTargets
from tvm_mpq.emulator.chips import chip_named
from tvm_mpq.emulator.clocks import Clocks
from tvm_mpq.emulator.core import Core, Event
from tvm_mpq.emulator.core_registers import VTOR, CoreRegisters
from tvm_mpq.emulator.counter import NO_LIMIT, TIME_UNIT, EdgeCounts
from tvm_mpq.emulator.exceptions import ExceptionUnit
from tvm_mpq.emulator.fitness import check_image
from tvm_mpq.emulator.idle import IdleWatch
from tvm_mpq.emulator.image import Image, load_image
from tvm_mpq.emulator.interrupts import SVCALL, Interrupts
from tvm_mpq.emulator.memory_stalls import set_stalls
from tvm_mpq.emulator.pricing import EdgePricer
from tvm_mpq.emulator.profile import Profile, Usage, build_profile, difference, usage_so_far
from tvm_mpq.emulator.registers import attach_registers
from tvm_mpq.emulator.signals import DeferredSignals
from tvm_mpq.emulator.systick import SysTick
from tvm_mpq.emulator.timers import TIMERS, Timer
from tvm_mpq.emulator.usart import Console
from tvm_mpq.errors import BoardFaultError, InvalidValueError

END_OF_PROGRAM = "end of program"
UNTIL = "until"
WAITING_FOR_INPUT = "waiting for input"
WAITING_FOR_INTERRUPT = "waiting for interrupt"
INSTRUCTION_LIMIT = "instruction limit"
TIME_LIMIT = "time limit"
RESET_REQUESTED = "reset requested"

# A masked interrupt is looked at again after so many cycles.
_RETRY_CYCLES = 200
# Signals are delivered between two stretches, so none may last longer (seconds on the host).
_LONGEST_STRETCH = 0.1


@dataclass(frozen=True)
class RunResult:
    """What one call of ``Board.run`` did.

    Attributes
    ----------
    stopped_by: "end of program", "until", "waiting for input", "waiting for interrupt",
        "instruction limit", "time limit" or "reset requested".
    error: how far the figures may be from silicon, for what was run; None unless modelled.
    uart: bytes the firmware sent during this call.
    instructions: executed in this call; None unless counted.
    cycles: modelled cycles of this call; None unless modelled.
        Time asleep in WFI is part of it, but of no function in the profile.
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
    error: str | None
    seconds: float


class Board:
    """An STM32 with the program ``firmware`` in its flash, held at reset.

    Parameters
    ----------
    firmware: an ELF, Intel HEX or UF2 file, or a raw image that starts with its vector table.
    target: "stm32h743", "stm32h7a3" or "stm32f746".
    base: address a raw image is flashed to.
    clock_mhz: core clock; None is the chip's default. Another one than the default means at least
        that clock's flash wait states, whatever the program asks for.
    uart: number of the one USART that is the console; all of them when None.

    Attributes
    ----------
    clocks: what the program has set its clocks to.
    on_uart_byte: called with every byte the firmware sends, while it runs; it may call
        ``uart_send`` to answer and ``request_stop`` to return to the caller.
    on_input_wanted: called when the firmware reads and nothing is queued; what it returns is
        queued.

    Raises
    ------
    InvalidValueError: unknown target, clock or USART, or a file that cannot start on this chip.
    """

    on_uart_byte: Callable[[int], None] | None = None
    on_input_wanted: Callable[[], bytes] | None = None

    def __init__(
        self,
        firmware: Path | str,
        target: str = "stm32h743",
        *,
        base: int = 0x08000000,
        clock_mhz: int | None = None,
        uart: int | None = None,
    ) -> None:
        self.chip = chip_named(target)
        self.clock_mhz = self.chip.clock(clock_mhz)
        self.image = load_image(Path(firmware), base)
        check_image(self.image, self.chip)
        self.bus = Bus()
        self._stopped_by: str | None = None
        self._until: bytes | None = None
        self._is_spoilt = False
        self._core = Core(self.chip, self.image, self.bus)
        self._counter = self._core.counter
        self._state = self._counter.state
        self._pricer = EdgePricer(self._counter, self.read_memory, self.chip.narrow_stores)
        self._attach_devices(None if uart is None else self.chip.usart(uart))

    def close(self) -> None:
        """Gives the emulator's memory back. Counts and profiles stay; it cannot run any more."""
        self._core.close()

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def symbols(self) -> dict[str, int]:
        """Address of every symbol (functions without the Thumb bit)."""
        return {name: symbol.address for name, symbol in self.image.symbols.items()}

    @property
    def location(self) -> str:
        """Where the program stands: ``symbol+0x12 (file.c:34)``, or the address."""
        pc = self._core.pc
        known = self.image.location(pc)
        return f"0x{pc:08x}" if known == "?" else f"0x{pc:08x} in {known}"

    @property
    def bauds(self) -> dict[str, int | None]:
        """Baud rate of every USART that has sent, as its registers say; None where unknown."""
        names = self.chip.usart_names
        return {names[base]: self.clocks.baud(base) for base in self.console.sent_by}

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
        Whatever ``on_uart_byte``, a watcher or a signal handler raises. A signal waits until the
        program stands between two blocks, so that the run may be continued; after any other error
        it may not.
        """
        if self._stopped_by == END_OF_PROGRAM:
            raise InvalidValueError("the program has ended; create a new Board to run it again")
        if self._is_spoilt:
            raise InvalidValueError("an error ended the last run; create a new Board to run again")
        started, sent = time.monotonic(), len(self.console.sent)
        self._until, self._stopped_by = until or None, None
        counted = cycles or count_instructions
        self._prepare_counter(cycles, counted, max_instructions)
        instructions, time_before = self._state.instructions, self._state.time
        edges = self._counter.edges() if cycles else []
        self.uart_send(uart_in)
        with DeferredSignals(self._stop_soon) as signals:
            while self._stopped_by is None:
                self._guarded_stretch(started + timeout_seconds)
                signals.deliver()
        edges = difference(self._counter.edges(), edges) if cycles else []
        profile = self._profile(edges) if cycles else None
        return RunResult(
            stopped_by=self._stopped_by,
            uart=bytes(self.console.sent[sent:]),
            instructions=self._state.instructions - instructions if counted else None,
            cycles=(self._state.time - time_before) // TIME_UNIT if cycles else None,
            stalls=None if profile is None else profile.total.stalls,
            profile=profile,
            error=self._stated_error(edges) if cycles else None,
            seconds=time.monotonic() - started,
        )

    def annotate(self, function: str) -> list[AnnotatedInstruction]:
        """Every executed instruction of ``function`` with its cycles and the rule they are due to.

        ``function``: a name, or an address in it (0x08001234), as profiles of stripped firmware
        have them.

        Covers all runs with ``cycles=True`` so far. Cache misses and mispredicts are not in it;
        ``RunResult.profile`` has them per function.
        """
        address, size = self._function(function)
        return annotate(self._counter.edges(), self._pricer, address, size)

    def uart_send(self, data: bytes) -> None:
        """Queues bytes for the firmware's receiver; it reads them in the next ``run``."""
        if data:
            self.console.feed(data)

    def watch(self, functions: Iterable[str], on_entry: Callable[[str], None]) -> None:
        """Calls ``on_entry(name)`` whenever one of ``functions`` is entered.

        Functions of one name are all watched; of several names for one address the first counts.
        Registers and memory are as at the call; the cycles of the function's first block are
        already in ``usage``.
        """
        names: dict[int, str] = {}
        for name in functions:
            found = [f.address for f in self.image.functions if f.name == name]
            for address in found or [self._symbol(name)[0]]:
                names.setdefault(address, name)
        for address, name in names.items():
            self._core.on_block(address, partial(on_entry, name))

    @property
    def error(self) -> str:
        """How far the cycles of all runs so far may be from silicon."""
        return self._stated_error(self._counter.edges())

    @property
    def usage(self) -> Usage:
        """Instructions, cycles and stalls since reset; every run must have had ``cycles=True``."""
        return usage_so_far(self._state)

    def read_registers(self) -> tuple[int, ...]:
        """r0 to r12, sp, lr and pc."""
        return self._core.snapshot()

    def request_stop(self, reason: str) -> None:
        """Stops before the next block; ``run`` then returns ``stopped_by=reason``."""
        if self._stopped_by is None:
            self._stopped_by = reason
            self._state.stop_requested = 1

    def read_memory(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``."""
        return self._core.read_memory(address, size)

    def write_memory(self, address: int, data: bytes) -> None:
        """Writes bytes at ``address``; flash may be written too."""
        self._core.write_memory(address, data)

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

    def _function(self, name: str) -> tuple[int, int]:
        """Address and size in bytes."""
        if name in self.image.symbols or not name.startswith("0x"):
            return self._symbol(name)
        try:
            function = self._functions().function_at(int(name, 16))
        except ValueError as error:
            raise InvalidValueError(
                f"function {name!r}: not an address; give a name or 0x08001234"
            ) from error
        if function is None:
            raise InvalidValueError(f"function {name!r}: nothing that ran lies there")
        return function.address, function.size

    def _symbol(self, name: str) -> tuple[int, int]:
        symbol = self.image.symbols.get(name)
        if symbol is None:
            raise InvalidValueError(
                f"symbol {name!r}: not in {self.image.path.name}; it has"
                f" {len(self.image.symbols)} symbols; keep it with __attribute__((used))"
            )
        return symbol.address, symbol.size

    def _attach_devices(self, uart: int | None) -> None:
        bus, usarts = self.bus, dict(self.chip.usarts)
        attach_registers(bus, self.chip)
        bus.registers[VTOR] = self.image.vectors
        self._core_registers = CoreRegisters(
            bus,
            self.chip,
            now=self._now,
            on_caches=self._caches_switched,
            on_reset=lambda: self.request_stop(RESET_REQUESTED),
        )
        self.clocks = Clocks(
            bus,
            self.chip,
            self.clock_mhz,
            lambda ratio, waits: set_stalls(self._state, self.chip, ratio, waits, TIME_UNIT),
        )
        for base in TIMERS:
            Timer(bus, base, self.clocks, self._now)
        self.console = Console(
            self._byte_sent,
            self._feed_wanted,
            lambda: self.request_stop(WAITING_FOR_INPUT),
            uart,
        )
        self.console.on_change = self._look_soon
        for base in usarts:
            self.console.attach(bus, base)
        self._systick = SysTick(bus, self._now, self._look_soon)
        self._interrupts = Interrupts(bus, self.console, usarts, self._systick, self._look_soon)
        self._exceptions = ExceptionUnit(
            self._core.engine,
            self._interrupts,
            vector=lambda number: self._core.vector(number, bus.registers[VTOR]),
            on_switch=self._forget_block,
        )
        self._idle = IdleWatch()

    def _now(self) -> int:
        # A program that reads a clock needs one that runs, even when nobody counts.
        self._state.counting = 1
        return int(self._state.time) // TIME_UNIT

    def _look_soon(self) -> None:
        """Ends the current stretch at the next block, so that interrupts are looked at."""
        self._state.deadline = self._state.time

    def _stop_soon(self) -> None:
        self._state.stop_requested = 1

    def _forget_block(self) -> None:
        self._state.previous = 0

    def _caches_switched(self, data: bool, code: bool) -> None:
        self._state.data.enabled, self._state.code.enabled = int(data), int(code)

    def _byte_sent(self, byte: int) -> None:
        if self.on_uart_byte is not None:
            self.on_uart_byte(byte)
        until = self._until
        if until is not None and byte == until[-1] and self.console.sent.endswith(until):
            self.request_stop(UNTIL)

    def _feed_wanted(self) -> None:
        """The firmware is ready to receive: ask for what the host has to say."""
        if self.on_input_wanted is not None:
            self.uart_send(self.on_input_wanted())

    def _prepare_counter(self, cycles: bool, counted: bool, limit: int | None) -> None:
        state = self._state
        self._counter.attach(cycles=cycles)
        state.counting = int(bool(state.counting or counted or limit is not None))
        state.instruction_limit = NO_LIMIT if limit is None else state.instructions + limit

    def _profile(self, edges: list[EdgeCounts]) -> Profile:
        return build_profile(edges, self._state, self._functions().function_at)

    def _functions(self) -> Image | CallTargets:
        if self.image.functions:
            return self.image
        return CallTargets(self._counter.edges(), self._pricer.block)

    def _stated_error(self, edges: list[EdgeCounts]) -> str:
        share = float_share(edges, self._pricer.block)
        return stated_error(self.chip, self.clock_mhz, self.clocks.memory, share)

    def _guarded_stretch(self, deadline: float) -> None:
        try:
            self._stretch(deadline)
            if self._pricer.failure is not None:
                raise self._pricer.failure
            if self._state.failed:
                raise BoardFaultError(
                    "the cycle model was interrupted while it priced a block: no figure is"
                    " possible; run again"
                )
        except BaseException:
            self._is_spoilt = True
            raise

    def _stretch(self, deadline: float) -> None:
        """Runs up to the next event that needs Python, and handles it."""
        state, left = self._state, deadline - time.monotonic()
        if left <= 0:
            self._stopped_by = TIME_LIMIT
            return
        if self._interrupts.receives_by_interrupt and not self.console.waiting:
            self._feed_wanted()
        self._exceptions.take_due()
        state.deadline = self._next_look()
        if self._stopped_by is not None:
            return
        event = self._core.run_stretch(min(left, _LONGEST_STRETCH))
        if event is Event.BREAKPOINT:
            self._stopped_by = END_OF_PROGRAM
        elif event is Event.SUPERVISOR_CALL:
            self._exceptions.enter(SVCALL)
        elif event is Event.EXCEPTION_RETURN:
            self._exceptions.leave(self._core.pc)
        elif event is Event.WAITING:
            self._wait()
        elif self._stopped_by is None and state.instructions >= state.instruction_limit:
            self._stopped_by = INSTRUCTION_LIMIT

    def _next_look(self) -> int:
        """Modelled time, in counter units, at which Python must look at the interrupts again."""
        looks = [NO_LIMIT]
        wrap = self._systick.next_wrap()
        if wrap is not None:
            looks.append(wrap * TIME_UNIT)
        if self._interrupts.blocked():
            looks.append((self._now() + _RETRY_CYCLES) * TIME_UNIT)
        if self._interrupts.receives_by_interrupt and not self.console.waiting:
            now = self._now()
            if self._idle.is_idle(now, self.console.traffic, self._core.snapshot()):
                self._stopped_by = WAITING_FOR_INPUT
            looks.append(max(now + 1, self._idle.next_look) * TIME_UNIT)
        return min(looks)

    def _wait(self) -> None:
        """WFI: time passes until the next interrupt; without one the host must act."""
        if self._stopped_by is not None or self._interrupts.blocked():
            return
        wrap = self._systick.next_wrap()
        if wrap is not None:
            self._state.time = max(self._state.time, wrap * TIME_UNIT)
        elif self._interrupts.receives_by_interrupt:
            self._stopped_by = WAITING_FOR_INPUT
        else:
            self._stopped_by = WAITING_FOR_INTERRUPT
