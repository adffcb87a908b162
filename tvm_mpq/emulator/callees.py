"""Functions of a program without symbols: every address that something called."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from tvm_mpq.emulator.counter import EdgeCounts
from tvm_mpq.emulator.image import Symbol
from tvm_mpq.emulator.isa import Instruction, Kind

DecodeBlock = Callable[[tuple[int, int]], list[Instruction]]


class CallTargets:
    """Function starts seen while running: targets of BL and BLX, and entries by exception."""

    def __init__(self, edges: Sequence[EdgeCounts], decode: DecodeBlock) -> None:
        blocks = {edge.to: (edge.to, edge.size) for edge in edges}
        starts = set()
        for edge in edges:
            caller = blocks.get(edge.from_)
            if caller is None or _ends_with_call(decode(caller)):
                starts.add(edge.to)
        self._starts = sorted(starts)
        self._end = max((edge.to + edge.size for edge in edges), default=0)

    def function_at(self, pc: int) -> Symbol | None:
        """The function that holds ``pc``, named by its address."""
        index = bisect_right(self._starts, pc) - 1
        if index < 0:
            return None
        start = self._starts[index]
        after = self._starts[index + 1] if index + 1 < len(self._starts) else self._end
        return Symbol(f"0x{start:08x}", start, after - start, True)


def _ends_with_call(block: list[Instruction]) -> bool:
    return bool(block) and block[-1].kind is Kind.BRANCH and "lr" in block[-1].writes
