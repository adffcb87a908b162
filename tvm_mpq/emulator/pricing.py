"""Static cost of a block after the blocks that usually precede it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from tvm_mpq.emulator.chips import NarrowStores
from tvm_mpq.emulator.counter import NO_LIMIT, Counter
from tvm_mpq.emulator.decode import decode_block
from tvm_mpq.emulator.isa import Instruction
from tvm_mpq.emulator.pipeline import Issue, Pipeline
from tvm_mpq.emulator.rules import UNKNOWN_BANKS, banks_undecided

# An edge is priced again when it has run so often, since its usual predecessors and the banks of
# its loads are known then.
_REVIEWS = (8, 64, 512, 4096, 32768, 262144)
# How much of the past is replayed before a block: latencies and the store buffer reach no further.
_CONTEXT_BLOCKS, _CONTEXT_INSTRUCTIONS = 4, 24
_LOOP_INSTRUCTIONS, _LOOP_MIN, _LOOP_MAX = 200, 3, 12

Block = tuple[int, int]  # address, size in bytes
Banks = tuple[tuple[int, int], ...]  # instruction of the block -> see Pipeline.issue
Step = tuple[Block, bool, Banks]  # a block, whether it is left by a taken branch, its loads


class EdgePricer:
    """Answers the counter's question what one execution of an edge costs, in milli-cycles.

    The answer depends only on what has run so far, so that a running total read by the firmware,
    the final total and a second run all agree to the last cycle.
    """

    def __init__(
        self,
        counter: Counter,
        read_code: Callable[[int, int], bytes],
        narrow_stores: NarrowStores,
    ) -> None:
        self._counter, self._read_code = counter, read_code
        self._narrow_stores = narrow_stores
        self._pairs: dict[Block, tuple[tuple[int, int], ...]] = {}
        self._decoded: dict[Block, list[Instruction]] = {}
        self._incoming: dict[int, list[int]] = {}
        self._prices: dict[tuple[tuple[Step, ...], int], int] = {}
        self._seen: set[int] = set()
        self.failure: BaseException | None = None
        counter.set_price(self._guarded_price)

    def block(self, block: Block) -> list[Instruction]:
        """The decoded instructions of a block."""
        if block not in self._decoded:
            address, size = block
            self._decoded[block] = decode_block(self._read_code(address, size), address)
        return self._decoded[block]

    def _guarded_price(self, index: int) -> int:
        # An exception cannot cross the C hook that asks; the board raises it after the run.
        try:
            return self._price(index) + 1
        except BaseException as error:
            self.failure = error
            return 0

    def _price(self, index: int) -> int:
        edge = self._counter.edge(index)
        if index not in self._seen:
            self._seen.add(index)
            self._incoming.setdefault(edge.to, []).append(index)
            edge.words = sum(i.words for i in self.block((edge.to, edge.size)))
        edge.next_review = next((n for n in _REVIEWS if n > edge.count), NO_LIMIT)
        return self._run(self._steps(edge), self._narrow_cost(edge))

    def trace(self, index: int) -> list[tuple[Issue, int]]:
        """The instructions of an edge's block with the milli-cycles each one adds."""
        edge = self._counter.edge(index)
        *before, (block, _, last_banks) = self._steps(edge)
        pipeline, costs = Pipeline(self._narrow_cost(edge)), []
        for earlier, taken, banks in before:
            pipeline.run(self.block(earlier), taken=taken, banks=dict(banks))
        pipeline.trace = []
        shares = dict(last_banks)
        for place, instruction in enumerate(self.block(block)):
            total = pipeline.total
            pipeline.issue(instruction, shares.get(place, UNKNOWN_BANKS))
            costs.append(pipeline.total - total)
        return list(zip(pipeline.trace, costs, strict=True))

    def _steps(self, edge: Any) -> tuple[Step, ...]:
        """What to replay for an edge; its own block comes last."""
        block: Block = (edge.to, edge.size)
        banks = self._banks(edge)
        if edge.from_ != edge.to:
            return (*self._context(edge.from_, edge.to), (block, True, banks))
        rounds = _LOOP_INSTRUCTIONS // max(1, edge.instructions)
        return ((block, True, banks),) * min(_LOOP_MAX, max(_LOOP_MIN, rounds))

    def _context(self, last: int, to: int) -> list[Step]:
        """The blocks that usually led from ``last`` to ``to``, oldest first."""
        steps: list[Step] = []
        instructions = 0
        while last and len(steps) < _CONTEXT_BLOCKS and instructions < _CONTEXT_INSTRUCTIONS:
            incoming = self._usual(last)
            if incoming is None:
                break
            edge = self._counter.edge(incoming)
            steps.append(((edge.to, edge.size), to != edge.to + edge.size, self._banks(edge)))
            instructions += edge.instructions
            last, to = edge.from_, edge.to
        return steps[::-1]

    def _usual(self, to: int) -> int | None:
        indices = self._incoming.get(to)
        if not indices:
            return None
        return max(indices, key=lambda index: (self._counter.edge(index).count, -index))

    def _run(self, steps: tuple[Step, ...], narrow: int) -> int:
        key = (steps, narrow)
        if key not in self._prices:
            pipeline, before = Pipeline(narrow), 0
            for block, taken, banks in steps:
                before = pipeline.total
                pipeline.run(self.block(block), taken=taken, banks=dict(banks))
            self._prices[key] = pipeline.total - before
        return self._prices[key]

    def _narrow_cost(self, edge: Any) -> int:
        """Rule 10: the price of a byte store depends on where the block's have gone so far."""
        prices = self._narrow_stores
        return prices.cached if edge.narrow_cached > edge.narrow_tcm else prices.tcm

    def _banks(self, edge: Any) -> Banks:
        """Rule 8: how often neighbouring loads of the block have met in one bank so far."""
        if edge.irregular or not edge.timed:
            return ()
        pairs = self._undecided_pairs((edge.to, edge.size))
        return tuple((place, edge.same[word] * 1000 // edge.timed) for place, word in pairs)

    def _undecided_pairs(self, block: Block) -> tuple[tuple[int, int], ...]:
        """(index of the younger load, number of its word) of the pairs that rule 8 asks about.

        None from the first access of an IT block on: the number of words before them varies.
        """
        if block not in self._pairs:
            found, word = [], 0
            code = self.block(block)
            for place, (older, younger) in enumerate(pairwise(code), 1):
                word += older.words
                if (older.words and older.conditional) or (younger.words and younger.conditional):
                    break
                if banks_undecided(older, younger):
                    found.append((place, word))
            self._pairs[block] = tuple(found)
        return self._pairs[block]
