"""Where the modelled cycles went: per function and cause."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from tvm_mpq.emulator.counter import TIME_UNIT, EdgeCounts
from tvm_mpq.emulator.image import Symbol

CAUSES = ("pipeline", "mispredict", "flash", "axi", "unaligned")
# A perfect dual-issue pipeline takes half a cycle per instruction.
_IDEAL_COST = TIME_UNIT // 2


@dataclass(frozen=True)
class Usage:
    """Instructions, modelled cycles, and the part of the cycles lost, by cause.

    ``stalls["pipeline"]`` counts the cycles above two instructions per cycle; "axi" is every
    cacheable SRAM.
    """

    instructions: int
    cycles: int
    stalls: dict[str, int]


@dataclass(frozen=True)
class FunctionUsage:
    """``usage`` of the code of one function, callees not included."""

    name: str
    address: int
    usage: Usage


@dataclass(frozen=True)
class Profile:
    """A flat profile, most expensive function first; ``total`` sums to the run's cycles."""

    total: Usage
    functions: tuple[FunctionUsage, ...]

    def function(self, name: str) -> Usage:
        """Usage of one function; zero when it never ran."""
        for entry in self.functions:
            if entry.name == name:
                return entry.usage
        return Usage(0, 0, dict.fromkeys(CAUSES, 0))

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists."""
        functions = [
            {"name": entry.name, "address": entry.address, **asdict(entry.usage)}
            for entry in self.functions
        ]
        return {"total": asdict(self.total), "functions": functions}


_COUNTERS = [f.name for f in fields(EdgeCounts) if f.name not in ("from_", "to", "size")]


def difference(after: Iterable[EdgeCounts], before: Iterable[EdgeCounts]) -> list[EdgeCounts]:
    """What happened between two snapshots of one counter."""
    old = {(edge.from_, edge.to, edge.size): edge for edge in before}
    result = []
    for edge in after:
        earlier = old.get((edge.from_, edge.to, edge.size))
        values = {name: getattr(edge, name) for name in _COUNTERS if name != "instructions"}
        if earlier is not None:
            values = {name: value - getattr(earlier, name) for name, value in values.items()}
        if values["count"]:
            result.append(EdgeCounts(edge.from_, edge.to, edge.size, edge.instructions, **values))
    return result


def build_profile(
    edges: Iterable[EdgeCounts], costs: Any, function_at: Callable[[int], Symbol | None]
) -> Profile:
    """Sums edges by function; ``costs`` has the fields of the counter's state."""
    sums: dict[tuple[int, str], dict[str, int]] = {}
    total = _empty()
    for edge in edges:
        function = function_at(edge.to)
        key = (0, "?") if function is None else (function.address, function.name)
        added = _edge_costs(edge, costs)
        for sum_ in (total, sums.setdefault(key, _empty())):
            for name, value in added.items():
                sum_[name] += value
    entries = [FunctionUsage(name, at, _usage(sum_)) for (at, name), sum_ in sums.items()]
    entries.sort(key=lambda entry: (-entry.usage.cycles, entry.address))
    return Profile(_usage(total), tuple(entries))


def _empty() -> dict[str, int]:
    return dict.fromkeys(("instructions", "spent", *CAUSES), 0)


def _edge_costs(edge: EdgeCounts, costs: Any) -> dict[str, int]:
    instructions = edge.count * edge.instructions
    return {
        "instructions": instructions,
        "spent": edge.spent,
        "pipeline": edge.spent - instructions * _IDEAL_COST,
        "mispredict": edge.mispredicts * costs.mispredict_cost,
        "flash": edge.flash_stall,
        "axi": edge.sram_stall,
        "unaligned": edge.unaligned * costs.unaligned_cost,
    }


def _usage(sums: dict[str, int]) -> Usage:
    cycles = sums["spent"] + sum(sums[cause] for cause in CAUSES if cause != "pipeline")
    stalls = {cause: round(sums[cause] / TIME_UNIT) for cause in CAUSES}
    return Usage(sums["instructions"], cycles // TIME_UNIT, stalls)


def usage_so_far(state: Any) -> Usage:
    """Everything since reset, from the counter's running totals; only if all of it was modelled."""
    lost = {
        "mispredict": state.lost_mispredict,
        "flash": state.lost_flash,
        "axi": state.lost_sram,
        "unaligned": state.lost_unaligned,
    }
    spent = state.time - sum(lost.values())
    pipeline = spent - state.instructions * _IDEAL_COST
    return _usage({"instructions": state.instructions, "spent": spent, "pipeline": pipeline} | lost)
