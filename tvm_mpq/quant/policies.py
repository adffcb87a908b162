"""Who chooses the widths: a policy maps byte budgets to a BitPlan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tvm_mpq.errors import DoesNotFitError
from tvm_mpq.quant.bit_plan import UNLIMITED, BitPlan
from tvm_mpq.quant.bit_program import (
    Limit,
    flash_limit,
    leanest_weights,
    paper_plan_text,
    sensitivity_bit_plan,
    streamed_limit,
    two_tensor_limits,
)
from tvm_mpq.quant.bit_search import (
    RamModel,
    multiplier_saving,
    paper_bit_plan,
    ro_bytes,
    rw_bytes,
    tensor_bytes,
    uniform_bit_plan,
    with_narrow_multipliers,
)
from tvm_mpq.quant.network import FloatNetwork
from tvm_mpq.specs import MULTIPLIER_WIDTHS, WEIGHT_WIDTHS, WIDTHS, LayerSpec

if TYPE_CHECKING:
    from tvm_mpq.quant.sensitivity import DamageTable

POLICIES = ("paper", "sensitivity")
_IMAGES = 256
_RAM_ROUNDS = 40


class PaperPolicy:
    """Cuts by bytes alone (Algorithms 1 and 2 of arXiv 1905.13082).

    ``multipliers``: bits that M0 may have; 16 are taken where 32 would cut more of the weights.
    """

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        widths: Sequence[int] = WIDTHS,
        multipliers: Sequence[int] = (32,),
    ) -> None:
        self._layers, self._widths, self._multipliers = layers, widths, multipliers

    def plan(self, flash: int, ram: int, ram_model: RamModel | None = None) -> BitPlan:
        """Widths for budgets in bytes, two tensors or what ``ram_model`` says limiting the RAM.

        Raises DoesNotFitError.
        """
        plans = _feasible(
            lambda bits: self._plan_with(bits, flash, ram, ram_model), self._multipliers
        )
        return max(plans, key=lambda one: sum(_weight_bytes(self._layers, one)))

    def _plan_with(self, bits: int, flash: int, ram: int, ram_model: RamModel | None) -> BitPlan:
        room = flash + multiplier_saving(self._layers, bits)
        plan = paper_bit_plan(self._layers, room, ram, ram_model=ram_model, widths=self._widths)
        plan = replace(plan, flash_budget=flash)
        return plan if bits == 32 else with_narrow_multipliers(plan, self._layers)

    def leanest(self, flash: int, ram: int, ram_model: RamModel | None = None) -> BitPlan | None:
        """The plan of fewest bytes: where even that does not fit, its link tells what would."""
        return _leanest(self._layers, self._widths, self._multipliers, (), flash, ram, ram_model)

    def compared(self, _plan: BitPlan, _flash: int, _ram: int) -> list[Any]:
        """A table of policies; empty, as there is only this one."""
        return []


class SensitivityPolicy:
    """The widths of least measured damage under the same budgets, and under ``limits`` of weights.

    ``multipliers``: bits that M0 may have, the preferred one first; 16 are taken in all layers
    where what the weights gain by it outweighs the measured loss.

    Damages are measured once, on the first use, and only of what the budgets ask to be cut.
    """

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        network: FloatNetwork,
        images: npt.NDArray[np.uint8],
        cache: Path | None = None,
        widths: Sequence[int] = WEIGHT_WIDTHS,
        limits: Sequence[Limit] = (),
        multipliers: Sequence[int] = MULTIPLIER_WIDTHS,
    ) -> None:
        self._layers, self._network, self._cache = layers, network, cache
        self._widths, self._limits = tuple(widths), tuple(limits)
        self._multipliers = tuple(multipliers)
        self._images = images[:_IMAGES]
        self._damage: dict[bool, DamageTable] = {}

    def plan(self, flash: int, ram: int, ram_model: RamModel | None = None) -> BitPlan:
        """Widths for budgets in bytes. Raises DoesNotFitError.

        ``ram_model``: the bytes that the RAM limits, row-streamed; without it, two tensors.
        """
        eight = uniform_bit_plan(self._layers, 8, 8)
        if self._multipliers[0] == 16:
            eight = with_narrow_multipliers(eight, self._layers)
        need = ram_model(eight.activations)[0] if ram_model else eight.rw_bytes
        if need <= ram and eight.ro_bytes <= flash and self._within_limits(eight):
            memory_model = "streamed" if ram_model else "two-tensor"
            eight = replace(eight, policy="sensitivity", memory_model=memory_model)
            return replace(eight, flash_budget=flash, ram_budget=ram)
        damage = self._measured(need > ram)
        plans = _feasible(
            lambda bits: self._optimum(bits, damage, flash, ram, ram_model), self._multipliers
        )
        return min(plans, key=damage.of_plan)

    def leanest(self, flash: int, ram: int, ram_model: RamModel | None = None) -> BitPlan | None:
        """The plan of fewest bytes within ``limits``; None where no plan is within them."""
        options = (self._widths, self._multipliers, self._limits)
        return _leanest(self._layers, *options, flash, ram, ram_model)

    def _optimum(
        self, bits: int, damage: DamageTable, flash: int, ram: int, ram_model: RamModel | None
    ) -> BitPlan:
        """The best widths with multipliers of ``bits``."""
        fixed = flash_limit(self._layers, flash, self._widths, multiplier_bits=bits)
        limits = [fixed, *self._limits]
        if ram_model is None:
            limits += two_tensor_limits(self._layers, ram)
        memory_model = "streamed" if ram_model else "two-tensor"
        for _ in range(_RAM_ROUNDS):
            plan = sensitivity_bit_plan(
                self._layers, damage, limits, flash, ram, self._widths, memory_model
            )
            need, alive = ram_model(plan.activations) if ram_model else (plan.rw_bytes, {})
            if need <= ram:
                return plan if bits == 32 else with_narrow_multipliers(plan, self._layers)
            # The streamed bytes are not linear in the widths: whatever fills the memory now must
            # shrink, and the optimum is sought again.
            limits.append(streamed_limit(self._layers, plan.activations, need, alive, ram))
        raise DoesNotFitError(
            f"bit search: row by row, {need} bytes of RAM are needed, {need - ram} too many, after"
            f" {_RAM_ROUNDS} attempts; give more RAM, or take a lower resolution"
        )

    def _within_limits(self, plan: BitPlan) -> bool:
        widths = {("weights", name): bits for name, bits in plan.weights.items()}
        return all(limit.used(widths) <= limit.budget for limit in self._limits)

    def compared(self, plan: BitPlan, flash: int, ram: int) -> list[Any]:
        """``plan`` beside the paper's: policy, activations, weights, bytes, predicted damage.

        Empty where nothing had to be cut.
        """
        damage = self._damage.get(True) or self._damage.get(False)
        if damage is None:
            return []
        return [list(row) for row in paper_plan_text(self._layers, damage, plan, flash, ram)]

    def _measured(self, activations: bool) -> DamageTable:
        from tvm_mpq.quant.sensitivity import measure_damage

        narrow = 16 in self._multipliers
        if activations not in self._damage:
            eight = uniform_bit_plan(self._layers, 8, 8)
            self._damage[activations] = measure_damage(
                self._network, eight, self._images, self._cache, self._widths, activations, narrow
            )
        return self._damage[activations]


def _leanest(
    layers: Sequence[LayerSpec],
    widths: Sequence[int],
    multipliers: Sequence[int],
    limits: Sequence[Limit],
    flash: int,
    ram: int,
    ram_model: RamModel | None,
) -> BitPlan | None:
    weights = leanest_weights(layers, limits, widths)
    if weights is None:
        return None
    try:
        activations = paper_bit_plan(layers, UNLIMITED, ram, ram_model=ram_model).activations
    except DoesNotFitError:
        activations = uniform_bit_plan(layers, min(WIDTHS), 8).activations
    plan = BitPlan(
        activations,
        weights,
        (),
        ro_bytes(layers, activations, weights),
        rw_bytes(layers, activations),
        flash,
        ram,
        "leanest",
        "streamed" if ram_model else "two-tensor",
    )
    return with_narrow_multipliers(plan, layers) if 16 in multipliers else plan


def _feasible(plan_with: Callable[[int], BitPlan], multipliers: Sequence[int]) -> list[BitPlan]:
    """The plans of all widths of multipliers that have one. Raises DoesNotFitError for none."""
    plans = []
    for bits in multipliers:
        try:
            plans.append(plan_with(bits))
        except DoesNotFitError:
            if not plans and bits == multipliers[-1]:
                raise
    return plans


def _weight_bytes(layers: Sequence[LayerSpec], plan: BitPlan) -> list[int]:
    owners = [layer for layer in layers if layer.weight_elements]
    return [tensor_bytes(o.weight_elements, plan.weights[o.name]) for o in owners]
