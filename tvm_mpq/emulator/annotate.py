"""Annotated disassembly: where the static cycles of one function go, and which rule cost them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tvm_mpq.emulator.counter import TIME_UNIT, EdgeCounts
from tvm_mpq.emulator.pricing import EdgePricer


@dataclass(frozen=True)
class AnnotatedInstruction:
    """One instruction: ``cycles`` over all ``executions``, without misses and mispredicts.

    ``reason`` says why it did not share the cycle of the instruction before, on the path that ran
    most often; empty when it did, or when nothing kept it waiting.
    """

    address: int
    text: str
    executions: int
    cycles: float
    reason: str

    @property
    def cycles_each(self) -> float:
        """Average cycles of one execution."""
        return self.cycles / self.executions


def annotate(
    edges: Sequence[EdgeCounts], pricer: EdgePricer, address: int, size: int
) -> list[AnnotatedInstruction]:
    """The executed instructions in [address, address + size), by address."""
    executions: dict[int, int] = {}
    cycles: dict[int, int] = {}
    busiest: dict[int, tuple[int, str, str]] = {}
    for index, edge in enumerate(edges):
        if not address <= edge.to < address + size:
            continue
        for issue, cost in pricer.trace(index):
            at = issue.instruction.address
            executions[at] = executions.get(at, 0) + edge.count
            cycles[at] = cycles.get(at, 0) + edge.count * cost
            said = (edge.count, issue.instruction.text, issue.reason or "")
            busiest[at] = max(busiest.get(at, (0, "", "")), said)
    return [
        AnnotatedInstruction(
            at, busiest[at][1], executions[at], cycles[at] / TIME_UNIT, busiest[at][2]
        )
        for at in sorted(executions)
    ]


def format_annotation(lines: Iterable[AnnotatedInstruction]) -> str:
    """A text table: address, executions, cycles of one execution, instruction, reason."""
    rows = [f"{'address':>10} {'times':>10} {'cycles':>7}  instruction"]
    for line in lines:
        reason = f"; {line.reason}" if line.reason else ""
        rows.append(
            f"0x{line.address:08x} {line.executions:>10} {line.cycles_each:>7.2f}"
            f"  {line.text:<32}{reason}".rstrip()
        )
    return "\n".join(rows)
