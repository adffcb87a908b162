"""Counts what runs: block edges, instructions, mispredicts and cache misses.

Two implementations with the same figures: ``NativeCounter`` calls into shim.c from unicorn
directly, ``PythonCounter`` needs no compiler and is about twenty times slower.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import unicorn
from unicorn import arm_const
from unicorn.unicorn_py3.unicorn import uclib

from tvm_mpq.emulator.chips import Chip
from tvm_mpq.emulator.guards import Guard
from tvm_mpq.emulator.native import BoardStruct, GuardStruct, PriceCallback, load_shim

# Fixed point, so that a total does not depend on the order of its sums.
TIME_UNIT = 1000
NO_LIMIT = 1 << 62
NO_LINE = 0xFFFFFFFF
REGION_SHIFT = 14
REGION_TCM, REGION_SRAM, REGION_FLASH = 1, 2, 3
MISPREDICT_CYCLES = 8
UNALIGNED_CYCLES = 3

# price(edge index) -> static cost of one execution in 1/1000 cycle, plus 1. Never 0 when it has
# answered: ctypes makes 0 of a callback that an exception ended.
Price = Callable[[int], int]


@dataclass(frozen=True)
class EdgeCounts:
    """What happened on one block edge: ``count`` executions of the block at ``to``.

    ``spent`` is the static cost of all of them in 1/1000 cycle, without the events below it;
    ``flash_stall`` and ``sram_stall`` are what line misses cost.
    """

    from_: int
    to: int
    size: int
    instructions: int
    count: int
    spent: int
    mispredicts: int
    flash_data: int
    flash_code: int
    sram_data: int
    sram_code: int
    unaligned: int
    narrow_tcm: int
    narrow_cached: int
    flash_stall: int
    sram_stall: int


class Counter(Protocol):
    """What the board needs of a counter. ``state`` has the fields of ``BoardStruct``."""

    state: Any

    def attach(self, *, cycles: bool) -> None:
        """Installs the hooks; with ``cycles`` also the one on memory accesses."""

    def start(self, seconds: float) -> None:
        """Clears the stop flags; the next stretch stops after ``seconds`` on the host's clock."""

    def add_guards(self, guards: Iterable[Guard]) -> None:
        """Watches the instructions whose faults unicorn does not raise."""

    def align_stacks(self, places: Iterable[tuple[int, bool]]) -> None:
        """Clears bits 1:0 of the stack pointer (True: of the process) at those addresses."""

    def set_price(self, price: Price) -> None:
        """Installs the pipeline model's answer to "what does this edge cost?"."""

    def edge(self, index: int) -> Any:
        """The live record of an edge; ``next_review`` and ``words`` may be assigned."""

    def edges(self) -> list[EdgeCounts]:
        """A copy of all edges."""


def new_counter(engine: unicorn.Uc, chip: Chip) -> Counter:
    """The fastest counter this machine can run."""
    if load_shim() is not None:
        return NativeCounter(engine, chip)
    from tvm_mpq.emulator.python_counter import PythonCounter

    return PythonCounter(engine, chip)


def configure(state: Any, chip: Chip) -> None:
    """Sets limits, costs and cache geometry on a fresh counter state."""
    state.instruction_limit = state.deadline = NO_LIMIT
    state.mispredict_cost = MISPREDICT_CYCLES * TIME_UNIT
    state.unaligned_cost = UNALIGNED_CYCLES * TIME_UNIT
    state.last_line = NO_LINE
    state.code.sets, state.code.ways = chip.code_cache.sets, chip.code_cache.ways
    state.data.sets, state.data.ways = chip.data_cache.sets, chip.data_cache.ways
    for region in chip.regions:
        bases = (region.base, *chip.flash_aliases) if region.name == "FLASH" else (region.base,)
        kind = REGION_SRAM
        if region.name in ("ITCM", "DTCM"):
            kind = REGION_TCM
        elif region.name == "FLASH":
            kind = REGION_FLASH
        for base in bases:
            for address in range(base, base + region.size, 1 << REGION_SHIFT):
                state.regions[address >> REGION_SHIFT] = kind


class NativeCounter:
    """Counting inside shim.c: hooks go from unicorn to C without entering Python."""

    def __init__(self, engine: unicorn.Uc, chip: Chip) -> None:
        shim = load_shim()
        if shim is None:
            raise RuntimeError("NativeCounter needs the compiled shim")
        self._shim, self._engine = shim, engine
        self._pointer = shim.board_new()
        self.state: BoardStruct = self._pointer.contents
        self.state.engine = engine._uch
        for field, function in (
            ("stop", uclib.uc_emu_stop),
            ("read_memory", uclib.uc_mem_read),
            ("read_register", uclib.uc_reg_read),
            ("write_register", uclib.uc_reg_write),
        ):
            setattr(self.state, field, ctypes.cast(function, ctypes.c_void_p).value)
        self.state.control_register = arm_const.UC_ARM_REG_CONTROL
        self.state.status_register = arm_const.UC_ARM_REG_CPSR
        configure(self.state, chip)
        self.set_price(lambda edge: 1)
        self._guards: list[ctypes.Array[GuardStruct]] = []
        self._memory_hook: int | None = None
        self._hook(unicorn.UC_HOOK_BLOCK, shim.on_block, self._pointer)

    def __del__(self) -> None:
        if hasattr(self, "_pointer"):
            self._shim.board_free(self._pointer)

    def attach(self, *, cycles: bool) -> None:
        """See Counter."""
        self.state.cycles = cycles
        if cycles and self._memory_hook is None:
            kinds = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
            self._memory_hook = self._hook(kinds, self._shim.on_memory, self._pointer)
        elif not cycles and self._memory_hook is not None:
            uclib.uc_hook_del(self._engine._uch, self._memory_hook)
            self._memory_hook = None
        else:
            return
        self._engine.ctl_flush_tb()

    def start(self, seconds: float) -> None:
        """See Counter."""
        self.state.stop_requested = self.state.stopped = self.state.timed_out = 0
        self.state.host_deadline = self._shim.host_time() + int(seconds * 1e9)

    def add_guards(self, guards: Iterable[Guard]) -> None:
        """See Counter."""
        listed = list(guards)
        for guard, slot in zip(listed, self._new_guards(len(listed)), strict=True):
            slot.board = ctypes.cast(self._pointer, ctypes.c_void_p).value
            slot.register_id = register_id(guard.register)
            slot.subtracted_id = 0 if guard.subtracted < 0 else register_id(guard.subtracted)
            slot.offset, slot.is_stack = guard.offset, guard.is_stack
            slot.address = guard.address
            where = guard.address
            self._hook(unicorn.UC_HOOK_CODE, self._shim.on_guard, ctypes.byref(slot), where, where)

    def align_stacks(self, places: Iterable[tuple[int, bool]]) -> None:
        """See Counter."""
        listed = list(places)
        for (where, is_process), slot in zip(listed, self._new_guards(len(listed)), strict=True):
            slot.board = ctypes.cast(self._pointer, ctypes.c_void_p).value
            slot.register_id = stack_id(is_process)
            align = self._shim.on_stack_written
            self._hook(unicorn.UC_HOOK_CODE, align, ctypes.byref(slot), where, where)

    def _new_guards(self, count: int) -> ctypes.Array[GuardStruct]:
        self._guards.append((GuardStruct * count)())
        return self._guards[-1]

    def set_price(self, price: Price) -> None:
        """See Counter."""
        self.state.price = PriceCallback(price)

    def edge(self, index: int) -> Any:
        """See Counter."""
        return self.state.edges[index]

    def edges(self) -> list[EdgeCounts]:
        """See Counter."""
        names = list(EdgeCounts.__dataclass_fields__)
        records = self.state.edges[: self.state.edge_count]
        return [EdgeCounts(*(getattr(record, name) for name in names)) for record in records]

    def _hook(self, kind: int, function: Any, data: Any, begin: int = 1, end: int = 0) -> int:
        handle = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            self._engine._uch,
            ctypes.byref(handle),
            kind,
            ctypes.cast(function, ctypes.c_void_p),
            ctypes.cast(data, ctypes.c_void_p),
            ctypes.c_uint64(begin),
            ctypes.c_uint64(end),
        )
        if status != unicorn.UC_ERR_OK:
            raise unicorn.UcError(status)
        return int(handle.value or 0)


def stack_id(is_process: bool) -> int:
    """unicorn's identifier of a stack pointer."""
    return int(arm_const.UC_ARM_REG_PSP if is_process else arm_const.UC_ARM_REG_SP)


def register_id(number: int) -> int:
    """unicorn's identifier of core register 0..15."""
    if number < 13:
        return int(arm_const.UC_ARM_REG_R0) + number
    return int(
        (arm_const.UC_ARM_REG_SP, arm_const.UC_ARM_REG_LR, arm_const.UC_ARM_REG_PC)[number - 13]
    )
