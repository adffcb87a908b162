"""The counters of shim.c in Python, for machines without a C compiler: slower, same figures."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import unicorn
from unicorn import arm_const

from tvm_mpq.emulator.chips import Chip
from tvm_mpq.emulator.counter import (
    NO_LINE,
    REGION_FLASH,
    REGION_SHIFT,
    REGION_TCM,
    TIME_UNIT,
    EdgeCounts,
    Price,
    configure,
    register_id,
    stack_id,
)
from tvm_mpq.emulator.guards import Guard

_IT_BITS = 0x0600FC00  # PSR.IT
_LINE = 32
_PROCESS_STACK = 2  # CONTROL.SPSEL
# Blocks between two looks at the host's clock.
_CLOCK_INTERVAL = 0x3FF


@dataclass
class _Edge:
    """The fields of ``edge_t``."""

    from_: int
    to: int
    size: int
    instructions: int
    count: int = 0
    spent: int = 0
    mispredicts: int = 0
    flash_data: int = 0
    flash_code: int = 0
    sram_data: int = 0
    sram_code: int = 0
    unaligned: int = 0
    narrow_tcm: int = 0
    narrow_cached: int = 0
    flash_stall: int = 0
    sram_stall: int = 0
    cost: int = 0
    next_review: int = 0
    words: int = 0
    irregular: int = 0
    timed: int = 0
    same: list[int] = field(default_factory=list)


@dataclass
class _Cache:
    """The fields of ``cache_t``; a set is a list of line numbers in order of arrival."""

    sets: int = 0
    ways: int = 0
    enabled: int = 0
    lines: dict[int, list[int]] = field(default_factory=dict)

    def lookup(self, address: int) -> bool:
        """True when the line is present; a miss allocates it."""
        if not self.enabled:
            return False
        line = address // _LINE
        held = self.lines.setdefault(line % self.sets, [])
        if line in held:
            return True
        # Round robin evicts lines in the order in which they came.
        if len(held) == self.ways:
            held.pop(0)
        held.append(line)
        return False


class _State:
    """The fields of ``board_t`` that the board reads and writes."""

    def __init__(self) -> None:
        self.counting = self.cycles = self.stop_requested = self.stopped = self.timed_out = 0
        self.failed = 0
        self.blocks, self.host_deadline = 0, 0.0
        self.instructions = self.instruction_limit = self.time = self.deadline = 0
        self.mispredict_cost = self.unaligned_cost = 0
        self.flash_data_cost = self.flash_code_cost = self.flash_busy_cost = self.sram_cost = 0
        self.flash_free = 0
        self.lost_mispredict = self.lost_unaligned = self.lost_flash = self.lost_sram = 0
        self.stack_limit = self.faulty_guard = self.fault_address = 0
        self.previous = self.current_edge = self.edge_count = 0
        self.last_line = NO_LINE
        self.word = self.last_address = 0
        self.regions: dict[int, int] = {}
        self.code, self.data = _Cache(), _Cache()

    def spend(self, lost: str, cost: int) -> None:
        """Add ``cost`` to the time, and to what was lost by one cause."""
        setattr(self, lost, getattr(self, lost) + cost)
        self.time += cost


class PythonCounter:
    """See Counter; every method does what its namesake in NativeCounter and shim.c does."""

    def __init__(self, engine: unicorn.Uc, chip: Chip) -> None:
        self._engine = engine
        self.state = _State()
        configure(self.state, chip)
        self._price: Price = lambda edge: 1
        self._edges: list[_Edge] = []
        self._index: dict[tuple[int, int, int], int] = {}
        self._predictor = bytearray(b"\x01") * 65536
        self._memory_hook: int | None = None
        engine.hook_add(unicorn.UC_HOOK_BLOCK, self._on_block)

    def attach(self, *, cycles: bool) -> None:
        """See Counter."""
        self.state.cycles = int(cycles)
        if cycles and self._memory_hook is None:
            kinds = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
            self._memory_hook = self._engine.hook_add(kinds, self._on_memory)
        elif not cycles and self._memory_hook is not None:
            self._engine.hook_del(self._memory_hook)
            self._memory_hook = None
        else:
            return
        self._engine.ctl_flush_tb()

    def start(self, seconds: float) -> None:
        """See Counter."""
        self.state.stop_requested = self.state.stopped = self.state.timed_out = 0
        self.state.host_deadline = time.monotonic() + seconds

    def add_guards(self, guards: Iterable[Guard]) -> None:
        """See Counter."""
        for guard in guards:
            where = guard.address
            self._engine.hook_add(unicorn.UC_HOOK_CODE, self._on_guard, guard, where, where)

    def align_stacks(self, places: Iterable[tuple[int, bool]]) -> None:
        """See Counter."""
        for where, is_process in places:
            stack, hook = stack_id(is_process), unicorn.UC_HOOK_CODE
            self._engine.hook_add(hook, self._on_stack_written, stack, where, where)

    def set_price(self, price: Price) -> None:
        """See Counter."""
        self._price = price

    def edge(self, index: int) -> Any:
        """See Counter."""
        return self._edges[index]

    def edges(self) -> list[EdgeCounts]:
        """See Counter."""
        names = [entry.name for entry in fields(EdgeCounts)]
        return [EdgeCounts(*(getattr(edge, name) for name in names)) for edge in self._edges]

    def _on_block(self, engine: unicorn.Uc, address: int, size: int, _: Any) -> None:
        state = self.state
        state.blocks += 1
        if not state.blocks & _CLOCK_INTERVAL and time.monotonic() >= state.host_deadline:
            state.timed_out = 1
        limit_reached = state.instructions >= state.instruction_limit
        if state.stop_requested or state.timed_out or limit_reached or state.time >= state.deadline:
            state.stopped = 1
            engine.emu_stop()
            return
        if not state.counting:
            return
        previous = state.previous
        if state.cycles and self._edges:
            self._finish_block()
        index = self._find_edge(previous, address, size)
        edge = self._edges[index]
        last = self._edges[state.current_edge]
        state.current_edge, state.previous = index, address
        edge.count += 1
        state.instructions += edge.instructions
        if not state.cycles:
            state.time += TIME_UNIT * edge.instructions
            return
        if edge.count >= edge.next_review:
            self._set_price(index)
        state.time += edge.cost
        edge.spent += edge.cost
        if previous:
            self._predict(edge, last.to + last.size)
        self._fetch(edge)

    def _finish_block(self) -> None:
        state = self.state
        edge = self._edges[state.current_edge]
        edge.timed += 1
        edge.irregular |= int(state.word != edge.words)
        state.word = 0

    def _set_price(self, index: int) -> None:
        answer, edge, state = self._price(index), self._edges[index], self.state
        edge.cost = max(0, answer - 1)
        if answer <= 0:
            state.failed = state.stop_requested = 1
        if time.monotonic() >= state.host_deadline:
            state.timed_out = 1
        if not edge.same:
            edge.same = [0] * edge.words

    def _find_edge(self, from_: int, to: int, size: int) -> int:
        key = (from_, to, size)
        index = self._index.get(key)
        if index is None:
            index = self._index[key] = len(self._edges)
            self._edges.append(_Edge(from_, to, size, self._instructions(to, size)))
            self.state.edge_count = len(self._edges)
        return index

    def _instructions(self, address: int, size: int) -> int:
        code = self._engine.mem_read(address, size)
        offset = total = 0
        while offset < size:
            offset += 4 if code[offset + 1] >> 3 >= 0x1D else 2
            total += 1
        return total

    def _predict(self, edge: _Edge, end: int) -> None:
        slot, taken = end >> 1 & 0xFFFF, edge.to != end
        counter = self._predictor[slot]
        if (counter >= 2) != taken:
            edge.mispredicts += 1
            self.state.spend("lost_mispredict", self.state.mispredict_cost)
        self._predictor[slot] = min(counter + 1, 3) if taken else max(counter - 1, 0)

    def _fetch(self, edge: _Edge) -> None:
        state = self.state
        region = state.regions.get(edge.to >> REGION_SHIFT, 0)
        if region <= REGION_TCM:
            return
        for line in range(edge.to & -_LINE, edge.to + edge.size, _LINE):
            if line == state.last_line:
                continue
            state.last_line = line
            if state.code.lookup(line):
                continue
            if region == REGION_FLASH:
                edge.flash_code += 1
                self._flash_miss(edge, state.time - edge.cost, state.flash_code_cost)
            else:
                edge.sram_code += 1
                self._sram_miss(edge)

    def _flash_miss(self, edge: _Edge, now: int, cost: int) -> None:
        state = self.state
        wait = max(0, state.flash_free - now)
        state.flash_free = now + wait + state.flash_busy_cost
        edge.flash_stall += wait + cost
        state.spend("lost_flash", wait + cost)

    def _sram_miss(self, edge: _Edge) -> None:
        edge.sram_stall += self.state.sram_cost
        self.state.spend("lost_sram", self.state.sram_cost)

    def _on_memory(
        self, engine: unicorn.Uc, access: int, address: int, size: int, value: int, __: Any
    ) -> None:
        clear_it_state(engine)
        state = self.state
        region = state.regions.get(address >> REGION_SHIFT, 0)
        edge, word = self._edges[state.current_edge], state.word
        if word < edge.words:
            edge.same[word] += not (address ^ state.last_address) & 4
        state.word = word + (2 if size > 4 else 1)
        state.last_address = address
        if region == 0:
            return
        if access == unicorn.UC_MEM_READ:
            if size == 4 and address & 3:
                edge.unaligned += 1
                state.spend("lost_unaligned", state.unaligned_cost)
        elif size < 4:
            if region == REGION_TCM:
                edge.narrow_tcm += 1
            else:
                edge.narrow_cached += 1
        if region == REGION_TCM:
            return
        last = address + size - 1
        self._touch(edge, region, address, word)
        if address // _LINE != last // _LINE:
            self._touch(edge, region, last, word)

    def _touch(self, edge: _Edge, region: int, address: int, word: int) -> None:
        state = self.state
        if state.data.lookup(address):
            return
        if region == REGION_FLASH:
            edge.flash_data += 1
            passed = edge.cost * word // edge.words if word < edge.words else edge.cost
            self._flash_miss(edge, state.time - edge.cost + passed, state.flash_data_cost)
        else:
            edge.sram_data += 1
            self._sram_miss(edge)

    def _on_guard(self, engine: unicorn.Uc, address: int, _: int, guard: Guard) -> None:
        clear_it_state(engine)
        value = engine.reg_read(register_id(guard.register)) + guard.offset
        if guard.subtracted >= 0:
            value -= engine.reg_read(register_id(guard.subtracted))
        value &= 0xFFFFFFFF
        if value >= self.state.stack_limit if guard.is_stack else not value & 3:
            return
        # The limit is that of the main stack; a task on its process stack has another one.
        if guard.is_stack and engine.reg_read(arm_const.UC_ARM_REG_CONTROL) & _PROCESS_STACK:
            return
        self.state.faulty_guard, self.state.fault_address = guard.address, value
        engine.emu_stop()

    def _on_stack_written(self, engine: unicorn.Uc, address: int, _: int, stack: int) -> None:
        clear_it_state(engine)
        value = engine.reg_read(stack)
        if value & 3:
            engine.reg_write(stack, value & ~3)


def clear_it_state(engine: unicorn.Uc) -> None:
    """Undo what unicorn 2.1.4 leaves behind at a hook inside an IT block (see shim.c)."""
    status = engine.reg_read(arm_const.UC_ARM_REG_CPSR)
    if status & _IT_BITS:
        engine.reg_write(arm_const.UC_ARM_REG_CPSR, status & ~_IT_BITS)
