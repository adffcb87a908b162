"""How far a modelled figure may be from silicon: said beside every one. docs/cycle_model.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tvm_mpq.emulator import MODEL_ERROR
from tvm_mpq.emulator.chips import Chip
from tvm_mpq.emulator.counter import EdgeCounts
from tvm_mpq.emulator.isa import FloatUse, Instruction, Kind

FLOAT_ERROR = "floating-point code, optimistic by 8 to 27 %"
# Above this share of the instructions, floating point decides.
_FLOAT_SHARE = 0.01
# (core clock / AXI clock, wait states) of the programs that were compared with silicon.
_COMPARED = {
    "stm32h743": {(2, 2)},
    "stm32h7a3": {(1, 6), (1, 7)},
    "stm32f746": {(1, 7)},
}


def stated_error(chip: Chip, clock_mhz: int, memory: tuple[int, int], float_share: float) -> str:
    """The error of cycles on ``chip``; ``memory`` is (core clock / AXI clock, wait states).

    ``float_share``: of the executed instructions, those that compute in floating point.
    """
    text = MODEL_ERROR
    if float_share > _FLOAT_SHARE:
        text = f"modelled, {float_share:.0%} {FLOAT_ERROR}"
    if clock_mhz != chip.default_clock:
        text += f", extrapolated to {clock_mhz} MHz"
    elif memory not in _COMPARED[chip.name]:
        text += f", extrapolated to {memory[1]} wait states at core/AXI clock {memory[0]}"
    return text


def float_share(
    edges: Iterable[EdgeCounts], block: Callable[[tuple[int, int]], list[Instruction]]
) -> float:
    """Share of the executed instructions that compute in floating point (moves do not)."""
    executed = floating = 0
    for edge in edges:
        executed += edge.count * edge.instructions
        floating += edge.count * sum(_computes(i) for i in block((edge.to, edge.size)))
    return floating / executed if executed else 0.0


def _computes(instruction: Instruction) -> bool:
    is_arithmetic = instruction.float_use is FloatUse.ARITHMETIC
    return is_arithmetic or instruction.kind is Kind.FLOAT_MAC
