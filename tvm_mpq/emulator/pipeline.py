"""The in-order dual-issue pipeline of the Cortex-M7 as a cycle-stepping model.

Time is in milli-cycles where fractions occur (expected bank conflicts, the store buffer) and in
whole cycles otherwise. Rule numbers: docs/cycle_model.md.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tvm_mpq.emulator.isa import FLAGS, Instruction, Kind, Latency, Operand, Use
from tvm_mpq.emulator.rules import (
    UNKNOWN_BANKS,
    bank_cost,
    usually_one_bank,
    why_not_paired,
)

MILLI = 1000
# Rule 10 on the STM32H7: the price of a byte or halfword store (chips.NarrowStores).
NARROW_STORE_TCM = 3700
NARROW_STORE_CACHED = 2400
# Published measurements: stores are free until about the fifth in a row.
STORE_BUFFER_ENTRIES = 4
# A chained floating-point MAC reads its accumulator two cycles before another consumer could.
_FLOAT_CHAIN = 2
_NEVER = -(1 << 30)


class Issue(NamedTuple):
    """Where one instruction went, and what kept it from going earlier."""

    instruction: Instruction
    cycle: int
    is_younger: bool
    reason: str | None


class Pipeline:
    """Feeds instructions in program order; ``total`` is the time so far in milli-cycles."""

    def __init__(self, narrow_store: int = NARROW_STORE_TCM) -> None:
        self._narrow_store = narrow_store
        self._cycle = 0
        self._older: Instruction | None = None
        self._slot_open = False
        self._ready: dict[str, tuple[int, Latency]] = {}
        self._extra = 0
        self._store_buffer: tuple[int, ...] = ()  # when each entry leaves, oldest first
        self.trace: list[Issue] | None = None

    @property
    def total(self) -> int:
        """Milli-cycles until everything issued so far has left the issue stage."""
        open_cycle = 0 if self._older is None else self._older.occupancy
        return (self._cycle + open_cycle) * MILLI + self._extra

    def run(
        self, block: Iterable[Instruction], *, taken: bool, banks: Mapping[int, int] | None = None
    ) -> None:
        """Issues a block; after a taken branch the next one starts a new cycle (rule 11).

        ``banks``: index of an instruction -> ``same_bank`` of ``issue``.
        """
        shares = banks or {}
        for index, instruction in enumerate(block):
            self.issue(instruction, shares.get(index, UNKNOWN_BANKS))
        if taken:
            self.close()

    def close(self) -> None:
        """Ends the current cycle: nothing more may pair with it."""
        if self._older is not None:
            self._cycle += self._older.occupancy
        self._older, self._slot_open = None, False

    def issue(self, instruction: Instruction, same_bank: int = UNKNOWN_BANKS) -> None:
        """Places one instruction in the younger slot of this cycle or the older of a later one.

        ``same_bank``: in how many of 1000 executions this load meets the bank of the one before it.
        """
        earliest, producer = self._operands_ready(instruction)
        older = self._older
        reason = None if earliest <= self._cycle else producer
        pairs = older is not None and self._slot_open and reason is None
        if pairs and older is not None:
            reason = why_not_paired(older, instruction)
            reason = reason or usually_one_bank(older, instruction, same_bank)
            pairs = reason is None
        if pairs and older is not None:
            self._slot_open = False
            self._extra += bank_cost(older, instruction, same_bank)
        else:
            self.close()
            self._cycle = max(self._cycle, earliest)
            self._older, self._slot_open = instruction, True
        if instruction.stores:
            self._fill_store_buffer(instruction)
        self._write_results(instruction, is_younger=pairs)
        if self.trace is not None:
            self.trace.append(Issue(instruction, self._cycle, pairs, reason))

    def cost_of(self, instruction: Instruction) -> int:
        """Milli-cycles by which ``total`` would grow if ``instruction`` were issued now."""
        earliest, _ = self._operands_ready(instruction)
        older = self._older
        if instruction.stores:
            return self._cost_of_store(instruction)
        if (
            older is not None
            and self._slot_open
            and earliest <= self._cycle
            and why_not_paired(older, instruction) is None
        ):
            return bank_cost(older, instruction, UNKNOWN_BANKS)
        closed = self._cycle + (0 if older is None else older.occupancy)
        return (max(closed, earliest) + instruction.occupancy - closed) * MILLI

    def _cost_of_store(self, instruction: Instruction) -> int:
        trial = copy.copy(self)
        trial._ready, trial.trace = dict(self._ready), None
        trial.issue(instruction)
        return trial.total - self.total

    def _operands_ready(self, instruction: Instruction) -> tuple[int, str | None]:
        """Rules 1 to 4: the first cycle in which every operand is there, and the last to come."""
        earliest, reason = _NEVER, None
        for operand in instruction.sources:
            known = self._ready.get(operand.register)
            if known is None:
                continue
            cycle = _available(known, operand)
            if cycle > earliest:
                earliest = cycle
                reason = known[1].waiting_for(operand.register)
        return earliest, reason

    def _runs_early(self, instruction: Instruction, is_younger: bool) -> bool:
        """Rule 2: add, sub, mov in the older slot and shifts in either, with operands ready."""
        if not instruction.early:
            return False
        if instruction.kind is Kind.SHIFT:
            shifter_taken = is_younger and self._older is not None and self._older.shifts
            return not shifter_taken and all(
                self._is_early_input(o, 0) for o in instruction.sources
            )
        return not is_younger and all(self._is_early_input(o, 1) for o in instruction.sources)

    def _is_early_input(self, operand: Operand, address_delay: int) -> bool:
        known = self._ready.get(operand.register)
        if known is None or operand.register == FLAGS:
            return True
        ready, latency = known
        # A written-back address misses the early adder, but not the shifter, by one cycle.
        return ready + (address_delay if latency is Latency.ADDRESS else 0) <= self._cycle

    def _write_results(self, instruction: Instruction, *, is_younger: bool) -> None:
        early = self._runs_early(instruction, is_younger)
        for register, latency, delay in instruction.results:
            # The flags of an early instruction are still set in the late ALU.
            written = latency
            if early and latency is Latency.LATE and register != FLAGS:
                written = Latency.EARLY
            self._ready[register] = (self._cycle + written.cycles + delay, written)

    def _fill_store_buffer(self, instruction: Instruction) -> None:
        """Rule 10: four entries drain in order, a word a cycle, byte stores more slowly.

        A store that finds the buffer full waits until the oldest entry has gone.
        """
        now = self._cycle * MILLI + self._extra
        waiting = [leaves for leaves in self._store_buffer if leaves > now]
        if len(waiting) == STORE_BUFFER_ENTRIES:
            self._extra += waiting[0] - now
            now = waiting.pop(0)
        drain = self._narrow_store if instruction.narrow else instruction.stores * MILLI
        self._store_buffer = (*waiting, (waiting[-1] if waiting else now) + drain)


def _available(known: tuple[int, Latency], operand: Operand) -> int:
    """First issue cycle for a consumer that reads ``operand``, given (ready for EX1, by whom)."""
    ready, latency = known
    if operand.use is Use.UNFORWARDED and latency is Latency.FAST_LOAD:
        ready += 1
    elif operand.use is Use.FLOAT_ACCUMULATOR and latency is Latency.FLOAT_MAC:
        ready -= _FLOAT_CHAIN
    return ready - operand.stage


def loop_cost(
    block: list[Instruction],
    narrow_store: int = NARROW_STORE_TCM,
    banks: Mapping[int, int] | None = None,
) -> float:
    """Cycles per iteration of a loop body in its steady state, without memory misses."""
    pipeline, iterations = Pipeline(narrow_store), 200
    totals = []
    for _ in range(iterations):
        pipeline.run(block, taken=True, banks=banks)
        totals.append(pipeline.total)
    half = iterations // 2
    return (totals[-1] - totals[half - 1]) / (iterations - half) / MILLI
