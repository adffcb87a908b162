"""policy="sensitivity": the widths of least measured damage under byte limits, by integer program.

One binary variable for each tensor and width; exactly one width a tensor; every limit is linear in
them. HiGHS (through scipy.optimize.milp) finds the optimum and proves it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import DoesNotFitError, InvalidValueError
from tvm_mpq.quant.bit_plan import BitPlan, Cut
from tvm_mpq.quant.bit_search import (
    Variant,
    multiplier_saving,
    paper_bit_plan,
    ro_bytes,
    rw_bytes,
    side_bytes,
    tensor_bytes,
    uniform_bit_plan,
)
from tvm_mpq.quant.sensitivity import DamageTable
from tvm_mpq.specs import WIDTHS, LayerSpec, weight_widths

Key = tuple[str, str]  # ("weights", layer) or ("activations", tensor)
WeightBytes = Callable[[LayerSpec, int], int]
# What the largest damage of a table counts as for the solver, whose tolerances are absolute, 1e-6;
# and by how much totals may differ that are taken as equal: for rounding in the solver.
_WORST, _EQUAL = 1e6, 1e-5


@dataclass(frozen=True)
class Limit:
    """``fixed`` + the sum of ``costs[key][width]`` over the tensors must not exceed ``budget``.

    Attributes
    ----------
    what: for messages, such as "flash" or "RAM of layer conv2d_2". unit: "bytes" or "cycles".
    """

    what: str
    budget: int
    fixed: int
    costs: dict[Key, dict[int, int]]
    unit: str = "bytes"

    @property
    def smallest(self) -> int:
        """What is needed with every tensor at its cheapest width."""
        return self.fixed + sum(min(costs.values()) for costs in self.costs.values())

    def with_free(self, keys: Sequence[Key]) -> Limit:
        """The same limit with every tensor but ``keys`` at 8 bits."""
        free = {key: costs for key, costs in self.costs.items() if key in keys}
        kept = sum(costs[8] for key, costs in self.costs.items() if key not in keys)
        return replace(self, fixed=self.fixed + kept, costs=free)

    def used(self, widths: Mapping[Key, int]) -> int:
        """What a choice of widths needs."""
        return self.fixed + sum(costs[widths[key]] for key, costs in self.costs.items())


def packed_weight_bytes(layer: LayerSpec, bits: int) -> int:
    """Bytes of a layer's weights, packed without padding."""
    return tensor_bytes(layer.weight_elements, bits)


def flash_limit(
    layers: Sequence[LayerSpec],
    budget: int,
    widths: Sequence[int] = WIDTHS,
    weight_bytes: WeightBytes = packed_weight_bytes,
    fixed: int | None = None,
    multiplier_bits: int = 32,
) -> Limit:
    """Weights and constants within ``budget`` bytes.

    ``fixed``: bytes beside the weights; by default the paper's accounting of the constants, less
    what ``multiplier_bits`` (32 or 16) save.
    """
    owners = [layer for layer in layers if layer.weight_elements]
    if fixed is None:
        fixed = sum(
            side_bytes(Variant.PC_ICN, layer.out_channels, layer is layers[-1]) for layer in owners
        )
        fixed -= multiplier_saving(layers, multiplier_bits)
    costs: dict[Key, dict[int, int]] = {
        ("weights", o.name): {bits: weight_bytes(o, bits) for bits in weight_widths(o.op, widths)}
        for o in owners
    }
    return Limit("flash", budget, fixed, costs)


def two_tensor_limits(layers: Sequence[LayerSpec], budget: int) -> list[Limit]:
    """The paper's RAM model: the inputs and the output of every layer within ``budget``."""
    fixed_tensors = _fixed_tensors(layers)
    limits = []
    for layer in layers:
        if layer.op == "global_avg_pool":
            continue
        costs: dict[Key, dict[int, int]] = {}
        fixed = 0
        sizes = dict(zip(layer.x, layer.x_elements, strict=True)) | {layer.y: layer.y_elements}
        for name, elements in sizes.items():
            if name in fixed_tensors:
                fixed += tensor_bytes(elements, 8)
            else:
                costs["activations", name] = {b: tensor_bytes(elements, b) for b in WIDTHS}
        limits.append(Limit(f"RAM of layer {layer.name}", budget, fixed, costs))
    return limits


def latency_limit(budget: int, cycles: Mapping[str, Mapping[int, float]]) -> Limit:
    """Cycles of all layers with weights within ``budget``.

    ``cycles``: layer name -> width of its weights -> cycles, with 8-bit activations: narrower ones
    are never slower.
    """
    costs: dict[Key, dict[int, int]] = {
        ("weights", name): {bits: round(cost) for bits, cost in table.items()}
        for name, table in cycles.items()
    }
    return Limit("latency", budget, 0, costs, "cycles")


def streamed_limit(
    layers: Sequence[LayerSpec],
    activations: Mapping[str, int],
    need: int,
    alive: Mapping[str, int],
    budget: int,
) -> Limit:
    """The tensors that fill the memory at widths ``activations`` must shrink to ``budget``.

    ``need`` bytes are used, ``alive`` of them by tensor (whole or rings); all else stays.
    """
    fixed_tensors = _fixed_tensors(layers)
    costs: dict[Key, dict[int, int]] = {
        ("activations", name): {bits: -(-size * bits // activations[name]) for bits in WIDTHS}
        for name, size in alive.items()
        if name not in fixed_tensors
    }
    fixed = need - sum(size for name, size in alive.items() if name not in fixed_tensors)
    tensors = ", ".join(alive)
    return Limit(f"RAM row by row, filled by {tensors}", budget, fixed, costs)


def sensitivity_bit_plan(
    layers: Sequence[LayerSpec],
    damage: DamageTable,
    limits: Sequence[Limit],
    flash_budget: int,
    ram_budget: int,
    widths: Sequence[int] = WIDTHS,
    memory_model: str = "two-tensor",
) -> BitPlan:
    """The widths of least total damage within all ``limits``; among equals those of most bits.

    ``widths``: of the weights; 3 is for pointwise and dense layers only.

    Raises DoesNotFitError, naming what is over and the smallest budgets that would do.
    """
    choices = _choices(layers, damage, widths)
    keys = list(choices)
    _check_damage(damage, choices)
    limits = [limit.with_free(keys) for limit in limits]
    _check_feasible(limits)
    chosen = _solve(choices, damage, limits)
    base = uniform_bit_plan(layers, 8, 8)
    activations, weights = dict(base.activations), dict(base.weights)
    for (kind, name), bits in chosen.items():
        (weights if kind == "weights" else activations)[name] = bits
    return BitPlan(
        activations=activations,
        weights=weights,
        cuts=_cuts(layers, chosen),
        ro_bytes=ro_bytes(layers, activations, weights),
        rw_bytes=rw_bytes(layers, activations),
        flash_budget=flash_budget,
        ram_budget=ram_budget,
        policy="sensitivity",
        memory_model=memory_model,
    )


def leanest_weights(
    layers: Sequence[LayerSpec], limits: Sequence[Limit], widths: Sequence[int] = WIDTHS
) -> dict[str, int] | None:
    """The weights' widths of fewest bytes within ``limits`` of weights; None where there are none.

    Among equals those of most bits.
    """
    flash = flash_limit(layers, 0, widths)
    pairs = [(key, bits) for key, costs in flash.costs.items() for bits in costs]
    program = _Program(pairs, [limit.with_free(list(flash.costs)) for limit in limits])
    # Whole bytes first, then bits: fewer than 8 a layer.
    scale = 8.0 * (len(flash.costs) + 1)
    cost = [scale * flash.costs[key][bits] - bits for key, bits in pairs]
    found = program.minimize(np.array(cost))
    if found is None:
        return None
    return {name: bits for ((_, name), bits), taken in zip(pairs, found, strict=True) if taken}


def paper_plan_text(
    layers: Sequence[LayerSpec], damage: DamageTable, plan: BitPlan, flash: int, ram: int
) -> list[tuple[str, str, str, str, str]]:
    """A table of ``plan`` beside the paper's: policy, activations, weights, bytes, damage."""
    rows = [("policy", "activations", "weights", "ro + rw bytes", "predicted damage")]
    plans = [plan]
    try:
        plans.append(paper_bit_plan(layers, flash, ram))
    except DoesNotFitError:
        rows.append(("paper", "infeasible", "", "", ""))
    for one in plans:
        size = f"{one.ro_bytes} + {one.rw_bytes}"
        strings = one.activation_string(layers), one.weight_string(layers)
        rows.append((one.policy, *strings, size, f"{damage.of_plan(one):.4f}"))
    return rows


def _fixed_tensors(layers: Sequence[LayerSpec]) -> set[str]:
    """The network's inputs and the logits, which keep 8 bits."""
    written = {layer.y for layer in layers}
    return {name for layer in layers for name in layer.x if name not in written} | {layers[-1].y}


def _choices(
    layers: Sequence[LayerSpec], damage: DamageTable, widths: Sequence[int]
) -> dict[Key, tuple[int, ...]]:
    """What may be narrowed, and to what: activations only where their damage was measured."""
    fixed = _fixed_tensors(layers)
    tensors = dict.fromkeys(layer.y for layer in layers if layer.y not in fixed)
    measured = [("activations", name) for name in tensors if name in damage.activations]
    owners = [layer for layer in layers if layer.weight_elements]
    return dict.fromkeys(measured, WIDTHS) | {
        ("weights", layer.name): weight_widths(layer.op, widths) for layer in owners
    }


def _costs(damage: DamageTable, key: Key) -> dict[int, float]:
    table = damage.weights if key[0] == "weights" else damage.activations
    return {8: 0.0} | table.get(key[1], {})


def _check_damage(damage: DamageTable, choices: Mapping[Key, Sequence[int]]) -> None:
    for key, widths in choices.items():
        missing = sorted(set(widths) - set(_costs(damage, key)))
        if missing:
            raise InvalidValueError(
                f"damage table: no damage for {key[0]} {key[1]!r} at {missing[0]} bits; it was"
                " measured for another network or for fewer widths"
            )


def _check_feasible(limits: Sequence[Limit]) -> None:
    over = [limit for limit in limits if limit.smallest > limit.budget]
    if not over:
        return
    # Limits of one budget share it: the worst one tells the smallest budget that would work.
    told = {}
    for limit in sorted(over, key=lambda one: one.smallest):
        told[limit.what.split(" ")[0]] = (
            f"{limit.what}: {limit.smallest} {limit.unit} with every tensor at its cheapest, the"
            f" budget is {limit.budget}, {limit.smallest - limit.budget} too few; the smallest"
            f" budget that would work is {limit.smallest} {limit.unit}"
        )
    raise DoesNotFitError(
        "no widths fit: " + "; ".join(told.values()) + "; or take a network with fewer channels or"
        " a lower resolution"
    )


def _solve(
    choices: Mapping[Key, Sequence[int]], damage: DamageTable, limits: Sequence[Limit]
) -> dict[Key, int]:
    """Of the widths of least damage, those with the most bits: none is narrow for nothing."""
    pairs = [(key, bits) for key, widths in choices.items() for bits in widths]
    harm = np.array([_costs(damage, key)[bits] for key, bits in pairs])
    harm *= _WORST / (harm.max() or 1.0)
    program = _Program(pairs, limits)
    least = program.minimize(harm)
    if least is None:
        raise DoesNotFitError(f"bit search: no widths satisfy all limits together{program.reason}")
    cut = np.array([8.0 - bits for _, bits in pairs])
    widest = program.minimize(cut, np.append(harm, harm @ least + _EQUAL))
    found = least if widest is None else widest
    chosen = {key: bits for (key, bits), taken in zip(pairs, found, strict=True) if taken}
    for limit in limits:
        assert limit.used(chosen) <= limit.budget, limit.what
    return chosen


class _Program:
    """One of each tensor's widths, within limits; ``reason`` is why nothing was found."""

    def __init__(self, pairs: Sequence[tuple[Key, int]], limits: Sequence[Limit]) -> None:
        keys = {key: row for row, key in enumerate(dict.fromkeys(key for key, _ in pairs))}
        self._choose_one = np.zeros((len(keys), len(pairs)))
        self._used = np.zeros((len(limits), len(pairs)))
        for column, (key, bits) in enumerate(pairs):
            self._choose_one[keys[key], column] = 1
            self._used[:, column] = [limit.costs.get(key, {}).get(bits, 0) for limit in limits]
        self._room = np.array([limit.budget - limit.fixed for limit in limits], float)
        self.reason = ""

    def minimize(
        self, cost: npt.NDArray[np.float64], bound: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float64] | None:
        """0 or 1 for each pair, or None; ``bound``: another row, and what it must not exceed."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        constraints = [LinearConstraint(self._choose_one, 1, 1)]
        if len(self._used):
            # Rows in whole bytes: the solver's feasibility tolerance, 1e-6, is far below one.
            constraints.append(LinearConstraint(self._used, -np.inf, self._room))
        if bound is not None:
            constraints.append(LinearConstraint(bound[:-1], -np.inf, bound[-1]))
        with _quiet_stdout():
            found = milp(
                cost,
                constraints=constraints,
                integrality=np.ones(len(cost)),
                bounds=Bounds(0, 1),
                options={"mip_rel_gap": 0.0},
            )
        self.reason = f" ({found.message})"
        return None if found.x is None else np.rint(found.x)


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    """HiGHS leaves lines of its own on the process's output, between those of ``--json``."""
    sys.stdout.flush()
    kept = os.dup(1)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _cuts(layers: Sequence[LayerSpec], chosen: Mapping[Key, int]) -> tuple[Cut, ...]:
    writer = {layer.y: layer.name for layer in reversed(layers)}
    cuts = []
    for (kind, name), bits in chosen.items():
        if bits < 8:
            ram = kind == "activations"
            layer = writer[name] if ram else name
            cuts.append(Cut(name, 8, bits, "rw" if ram else "ro", layer))
    return tuple(cuts)
