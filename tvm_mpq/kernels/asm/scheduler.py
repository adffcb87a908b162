"""List scheduling and register allocation of a straight block, in one walk over its cycles.

The core issues in order, two instructions a cycle, so the order in the file is the schedule. The
walk keeps the pipeline model's state, and always issues the instruction that goes soonest; among
those, the one that a multiply waits for first. A value gets a register when its instruction issues
and gives it back when its last reader does: a register written in the cycle in which it was last
read is correct on an in-order core, which is what lets 14 registers carry 8 sums, 2 pointers and
a stream of operands at one multiply a cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product

from tvm_mpq.emulator.isa import Kind
from tvm_mpq.emulator.pipeline import MILLI, Pipeline
from tvm_mpq.kernels.asm.ops import Op

# How many cycles ahead of its need an instruction may go; small values save registers.
HORIZONS = (4, 5, 6, 7, 9, 12, 3)
# (How many multiplies late an instruction may be that no multiply waits for, how many instructions
# are looked at): smaller values give registers back sooner. None: program order decides.
FREEDOMS: tuple[tuple[float | None, int], ...] = (
    (6.0, 20),
    (3.0, 20),
    (3.0, 8),
    (1.0, 5),
    (None, 12),
    (None, 6),
    (None, 2),
)


class NoScheduleError(Exception):
    """The block needs more registers than there are."""


@dataclass(frozen=True)
class Scheduled:
    """Instructions in their final order, with registers; ``cycles``: of a steady-state pass."""

    lines: tuple[str, ...]
    cycles: float
    ops: tuple[Op, ...]
    registers: tuple[dict[str, str], ...]


def schedule_block(
    ops: Sequence[Op],
    free: Sequence[str],
    *,
    live_in: dict[str, str] | None = None,
    live_out: Sequence[str] = (),
    is_loop: bool = False,
) -> Scheduled:
    """The best order found for ``ops``, given in program order.

    Parameters
    ----------
    free: registers for values. live_in: values that are in registers already (some of ``free``).
    live_out: values that are read after the block. is_loop: price it as the body of a loop.
    """
    for slack, window in FREEDOMS:
        found = []
        for horizon, by_progress in product(HORIZONS, (False, True)):
            walk = _Walk(ops, free, live_in or {}, live_out, (horizon, slack, window), by_progress)
            with suppress(NoScheduleError):
                found.append(walk.run(is_loop))
        if found:
            return min(found, key=lambda one: one.cycles)
    raise NoScheduleError(f"{len(ops)} instructions do not fit {len(free)} registers")


class _Walk:
    def __init__(
        self,
        ops: Sequence[Op],
        free: Sequence[str],
        live_in: dict[str, str],
        live_out: Sequence[str],
        lookahead: tuple[float, float | None, int],
        by_progress: bool,
    ) -> None:
        self._ops, (self._horizon, slack, self._window) = list(ops), lookahead
        # Whether a block that stalls may take registers earlier for it.
        self._by_progress = by_progress
        self._registers = dict(live_in)
        self._free = [r for r in free if r not in live_in.values()]
        self._before = _dependences(self._ops)
        self._deadline = _deadlines(self._ops, self._before, slack)
        self._readers = _reader_counts(self._ops, live_out)
        self._pipeline = Pipeline()

    def run(self, is_loop: bool) -> Scheduled:
        """Issues everything; NoScheduleError when no instruction can get a register."""
        left = list(range(len(self._ops)))
        left.sort(key=lambda i: (self._deadline[i], i))
        done: set[int] = set()
        order: list[int] = []
        named: list[dict[str, str]] = []
        while left:
            index = self._next(left, done)
            named.append(self._issue(index))
            left.remove(index)
            done.add(index)
            order.append(index)
        ops = tuple(self._ops[i] for i in order)
        lines = tuple(op.render(names) for op, names in zip(ops, named, strict=True))
        return Scheduled(lines, _price(ops, named, is_loop), ops, tuple(named))

    def _next(self, left: list[int], done: set[int]) -> int:
        now = self._pipeline.total / MILLI
        if self._by_progress:
            now = min(now, self._deadline[left[0]])
        best, best_key = -1, (1 << 30, 0.0, 0)
        for index in left[: self._window]:
            if self._deadline[index] > now + self._horizon and best >= 0:
                break
            if not self._before[index] <= done or self._names(index) is None:
                continue
            key = (self._trial(index), self._deadline[index], index)
            if key < best_key:
                best, best_key = index, key
            if best_key[0] == 0:
                break  # what follows has a later deadline
        if best < 0:
            raise NoScheduleError("out of registers")
        return best

    def _trial(self, index: int) -> int:
        """Milli-cycles until the instruction has issued: 0 when it pairs with the last one."""
        return self._pipeline.cost_of(self._ops[index].instruction(self._names(index) or {}))

    def _names(self, index: int) -> dict[str, str] | None:
        """Registers of the operands as they would be; None when a result finds none."""
        op = self._ops[index]
        names = {name: self._registers[name] for name, _, _ in op.reads if name in self._registers}
        ending = [self._registers[r] for r in self._ending(op)]
        for name, _ in op.writes:
            if not name.startswith("%") or name in names:
                continue
            available = [
                r for r in (*ending, *self._free) if r not in names.values() or r in ending
            ]
            if op.pin is not None:
                available = [r for r in available if r == op.pin]
            if not available:
                return None
            names[name] = available[0]
            if available[0] in ending:
                ending.remove(available[0])
        return names

    def _ending(self, op: Op) -> list[str]:
        """Values whose last reader is ``op``."""
        reads = [name for name, _, _ in op.reads if name.startswith("%")]
        return [name for name in dict.fromkeys(reads) if self._readers[name] == reads.count(name)]

    def _issue(self, index: int) -> dict[str, str]:
        op = self._ops[index]
        names = self._names(index)
        assert names is not None
        self._pipeline.issue(op.instruction(names))
        for name in self._ending(op):
            if name not in {written for written, _ in op.writes}:
                self._free.append(self._registers.pop(name))
        for name, _, _ in op.reads:
            if name.startswith("%"):
                self._readers[name] -= 1
        for name, _ in op.writes:
            if name.startswith("%") and name not in self._registers:
                self._registers[name] = names[name]
                self._free.remove(names[name])
            if name.startswith("%") and not self._readers[name]:
                self._free.append(self._registers.pop(name))  # a sum that nobody reads
        return names


def _dependences(ops: Sequence[Op]) -> list[set[int]]:
    """For each instruction those that must issue before it: data, then registers' reuse."""
    number = {id(op): i for i, op in enumerate(ops)}
    before: list[set[int]] = []
    writer: dict[str, int] = {}
    readers: dict[str, list[int]] = {}
    for i, op in enumerate(ops):
        needs = {number[id(other)] for other in op.after}
        for name, _, _ in op.reads:
            if name in writer:
                needs.add(writer[name])
        for name, _ in op.writes:
            needs.update(readers.get(name, ()))
            if name in writer:
                needs.add(writer[name])
        needs.discard(i)
        for name, _, _ in op.reads:
            readers.setdefault(name, []).append(i)
        for name, _ in op.writes:
            writer[name], readers[name] = i, []
        before.append(needs)
    return before


def _deadlines(ops: Sequence[Op], before: list[set[int]], slack: float | None) -> list[float]:
    """When each must issue so that multiplies go one a cycle in program order."""
    if slack is None:
        return [i / 2 for i in range(len(ops))]
    deadline = [1e9] * len(ops)
    multiplies = 0
    for i, op in enumerate(ops):
        if op.kind is Kind.MULTIPLY:
            deadline[i] = float(multiplies)
            multiplies += 1
    # What no multiply waits for keeps its place in the program: late enough for its operands, and
    # soon enough to give their registers back.
    place = 0.0
    for i, op in enumerate(ops):
        if op.kind is Kind.MULTIPLY:
            place = deadline[i]
        elif not any(i in needs for needs in before):
            deadline[i] = max(place, i / 2)
        else:
            deadline[i] = max(place, i / 2) + slack
    for i in range(len(ops) - 1, -1, -1):
        for producer in before[i]:
            latency = 2.0 if ops[producer].kind in (Kind.LOAD, Kind.MULTIPLY) else 1.0
            deadline[producer] = min(deadline[producer], deadline[i] - latency)
    return deadline


def _reader_counts(ops: Sequence[Op], live_out: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for op in ops:
        for name, _, _ in op.reads:
            if name.startswith("%"):
                counts[name] = counts.get(name, 0) + 1
        for name, _ in op.writes:
            counts.setdefault(name, 0)
    for name in live_out:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _price(ops: Sequence[Op], names: Sequence[dict[str, str]], is_loop: bool) -> float:
    instructions = [op.instruction(n) for op, n in zip(ops, names, strict=True)]
    pipeline = Pipeline()
    for _ in range(4 if is_loop else 1):
        before = pipeline.total
        pipeline.run(instructions, taken=is_loop)
    return (pipeline.total - before) / MILLI
